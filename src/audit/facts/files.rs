//! The files that a configuration names: who may read and write them, and how old they are.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::FactsError;
use crate::clock::Timestamp;
use crate::config::{CertificateSource, Places, Settings, StoreSettings};
use crate::login::Kind;
use crate::telemetry::Sink;

/// A file that is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileFact {
    /// The key that names it, or would.
    pub key: String,
    pub path: PathBuf,
    pub holds: Holds,
    /// The permission bits.
    pub mode: u32,
    pub changed: Timestamp,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holds {
    AuditLog,
    Certificate,
    Configuration,
    PrivateKey,
    Secret,
    Sessions,
    Tokens,
    Users,
}

/// Those that are there; one that is not says nothing.
pub(super) fn gather(settings: &Settings, places: &Places) -> Result<Vec<FileFact>, FactsError> {
    let mut named = vec![(String::new(), settings.file.clone(), Holds::Configuration)];
    named.extend(secrets(settings, places));
    named.extend(certificates(settings));
    for (index, provider) in settings.providers.iter().enumerate() {
        let Kind::Local(local) = &provider.kind else {
            continue;
        };
        named.push((
            format!("provider[{index}].users"),
            local.users.clone(),
            Holds::Users,
        ));
    }
    let tokens = (
        "clients.tokens".to_owned(),
        settings.tokens.clone(),
        Holds::Tokens,
    );
    named.push(tokens);
    if let StoreSettings::Embedded { path } = &settings.store {
        named.push(("store.path".to_owned(), path.clone(), Holds::Sessions));
    }
    if let Sink::File(path) = &settings.log.audit {
        named.push(("log.audit".to_owned(), path.clone(), Holds::AuditLog));
    }
    let mut there = Vec::new();
    for (key, path, holds) in named {
        let data = match fs::metadata(&path) {
            Ok(data) => data,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(FactsError::File { file: path, source }),
        };
        let seconds = u64::try_from(data.mtime()).unwrap_or(0);
        there.push(FileFact {
            key,
            path,
            holds,
            mode: data.mode() & 0o7777,
            changed: Timestamp::default().after(Duration::from_secs(seconds)),
        });
    }
    Ok(there)
}

/// The settings hold the secrets and not where they came from, so the file is asked.
fn secrets(settings: &Settings, places: &Places) -> Vec<(String, PathBuf, Holds)> {
    let keys = (0..settings.secrets.len()).map(|index| format!("session.secrets[{index}].file"));
    let others = [
        "server.admin_token.file",
        "store.password.file",
        "store.sentinel_password.file",
    ];
    let folder = settings.file.parent().unwrap_or(Path::new(""));
    let mut named: Vec<_> = keys
        .chain(others.map(str::to_owned))
        .filter_map(|key| {
            let path = folder.join(places.text(&key)?);
            Some((key, path, Holds::Secret))
        })
        .collect();
    if places.line("session.secrets").is_none() {
        let beside = match &settings.store {
            StoreSettings::Embedded { path } => path,
            StoreSettings::Memory | StoreSettings::Postgres(_) | StoreSettings::Redis(_) => {
                &settings.file
            }
        };
        let path = beside.with_file_name("session.key");
        named.push(("session.secrets".to_owned(), path, Holds::Secret));
    }
    named
}

fn certificates(settings: &Settings) -> Vec<(String, PathBuf, Holds)> {
    match &settings.tls.source {
        CertificateSource::Files(files) => {
            let each = files.iter().enumerate().flat_map(|(index, (cert, key))| {
                let named = format!("tls.certificates[{index}]");
                [
                    (format!("{named}.cert"), cert.clone(), Holds::Certificate),
                    (format!("{named}.key"), key.clone(), Holds::PrivateKey),
                ]
            });
            each.collect()
        }
        CertificateSource::LocalAuthority(folder) => ["ca.key", "site.key"]
            .map(|name| {
                (
                    "tls.authority".to_owned(),
                    folder.join(name),
                    Holds::PrivateKey,
                )
            })
            .to_vec(),
    }
}
