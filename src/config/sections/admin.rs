//! Of `[server]`: how the admin API knows whom to answer, by a token over TCP and by the mode of a unix socket.

use std::path::{Path, PathBuf};

use super::session_key::{secret_from_environment, secret_from_file};
use crate::config::reader::{Section, Value};
use crate::config::{AdminSocket, StoreSettings};
use crate::secret::Secret;

/// What the file says about the unix socket.
#[derive(Debug)]
pub(super) enum Socket {
    Default,
    Off,
    At(PathBuf),
}

impl Socket {
    pub(super) fn read(section: &Section<'_>) -> Self {
        match section.value("admin_socket") {
            None => Self::Default,
            Some(value) if value.as_text() == Some("off") => Self::Off,
            // What is no path has been reported.
            Some(value) => value.path().map_or(Self::Off, Self::At),
        }
    }

    /// By default it is beside the sessions, or else beside the file.
    pub(super) fn place(self, store: &StoreSettings, file: &Path) -> Option<AdminSocket> {
        let (path, is_named) = match self {
            Self::Off => return None,
            Self::At(path) => (path, true),
            Self::Default => {
                let beside = if let StoreSettings::Embedded { path } = store {
                    path
                } else {
                    file
                };
                (beside.with_file_name("doorward.sock"), false)
            }
        };
        Some(AdminSocket { path, is_named })
    }
}

pub(super) fn token(section: &Section<'_>) -> Option<Secret> {
    let value = section.value("admin_token")?;
    if section.value("admin_listen").is_none() {
        let help = "give it one, `admin_listen = \"127.0.0.1:9090\"`, or remove the token: `doorward session` needs neither";
        value
            .wrong("is asked for at `admin_listen`, which is not there")
            .at_key()
            .help(help)
            .push();
    }
    if value.as_table().is_none() {
        return refuse_inline(&value);
    }
    let section = value.section()?;
    let (file, env) = (section.value("file"), section.value("env"));
    section.finish();
    match (file, env) {
        (Some(file), None) => secret_from_file(&file),
        (None, Some(env)) => secret_from_environment(&env),
        (file, _) => {
            let what = if file.is_some() {
                "comes from a file or from the environment, not from both"
            } else {
                "does not say where the token is"
            };
            let help =
                "`{ file = \"secrets/admin.token\" }` or `{ env = \"DOORWARD_ADMIN_TOKEN\" }`";
            value.wrong(what).help(help).push();
            None
        }
    }
}

/// The value is never quoted: it may well be a real one.
fn refuse_inline(value: &Value<'_>) -> Option<Secret> {
    value.report().blot_out(value.place());
    let help = "keep it in a file that only doorward can read, `{ file = \"secrets/admin.token\" }`, or in the \
                environment, `{ env = \"DOORWARD_ADMIN_TOKEN\" }`; take a new one, this one was written down";
    value
        .wrong("a token cannot stand in this file, which people copy, commit and show")
        .help(help)
        .push();
    None
}
