//! `[store]`: where sessions are kept.

use std::time::Duration;

use super::{store_password, store_postgres, store_redis};
use crate::config::StoreSettings;
use crate::config::reader::{Section, Value};
use crate::session;

#[derive(Debug)]
pub(super) struct Store {
    pub(super) settings: StoreSettings,
    pub(super) timeout: Duration,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Backend {
    Embedded,
    Memory,
    Postgres,
    Redis,
}

/// Keys that only servers have, and whose.
const OF_SERVERS: [(&str, &[Backend]); 9] = [
    ("url", &[Backend::Postgres, Backend::Redis]),
    ("password", &[Backend::Postgres, Backend::Redis]),
    ("ca", &[Backend::Postgres, Backend::Redis]),
    ("connections", &[Backend::Postgres]),
    ("statement_cache", &[Backend::Postgres]),
    ("prefix", &[Backend::Redis]),
    ("cluster", &[Backend::Redis]),
    ("sentinel", &[Backend::Redis]),
    ("sentinel_password", &[Backend::Redis]),
];

pub(super) fn read(section: Section<'_>) -> Store {
    let named = section.value("backend");
    let backend = named.as_ref().map_or(Some(Backend::Embedded), chosen);
    let path = section.path_to("path");
    if let (Some(value), Some(named)) = (section.value("path"), &named)
        && let Some(name) = backend.and_then(|backend| no_path(backend, named))
    {
        let line = section.report().line(&named.place());
        let complaint = value
            .wrong(format!("{name} has no path (`backend` on line {line})"))
            .at_key();
        complaint
            .other(named.place(), "no file is written")
            .help("remove it, or use `backend = \"embedded\"`")
            .push();
    }
    let path = path.unwrap_or_else(|| section.report().folder().join("data/sessions.db"));
    let range = Duration::from_millis(10)..=Duration::from_mins(1);
    let timeout = section
        .value("timeout")
        .and_then(|value| value.duration_in(range))
        .unwrap_or(session::Settings::default().store_timeout);
    refuse_strange(&section, backend);
    let settings = match backend {
        Some(Backend::Postgres) => {
            store_postgres::read(&section, timeout).map(StoreSettings::Postgres)
        }
        Some(Backend::Redis) => store_redis::read(&section, timeout).map(StoreSettings::Redis),
        Some(Backend::Memory) => Some(StoreSettings::Memory),
        Some(Backend::Embedded) => Some(StoreSettings::Embedded { path: path.clone() }),
        None => None,
    };
    section.finish();
    Store {
        // What cannot be read has been reported, and nothing is built from it.
        settings: settings.unwrap_or(StoreSettings::Embedded { path }),
        timeout,
    }
}

fn chosen(value: &Value<'_>) -> Option<Backend> {
    match value.as_text() {
        Some("postgres") if cfg!(not(feature = "postgres")) => {
            let complaint = value.wrong("this build has no postgres");
            complaint
                .help("build it with `--features postgres`, or take the default ones")
                .push();
            None
        }
        Some("redis") if cfg!(not(feature = "redis")) => {
            let complaint = value.wrong("this build has no redis");
            complaint
                .help("build it with `--features redis`, or take the default ones")
                .push();
            None
        }
        _ => value.choice(&[
            ("embedded", Backend::Embedded),
            ("memory", Backend::Memory),
            ("postgres", Backend::Postgres),
            ("redis", Backend::Redis),
        ]),
    }
}

/// Reports what another backend has, and makes every key known to the reader.
fn refuse_strange(section: &Section<'_>, backend: Option<Backend>) {
    let reason = match backend {
        Some(Backend::Embedded) => "embedded has no server",
        Some(Backend::Memory) => "memory has no server",
        Some(Backend::Postgres) => "postgres has no such thing",
        Some(Backend::Redis) => "redis has no such thing",
        None => "",
    };
    for (key, owners) in OF_SERVERS {
        let value = section.value(key);
        if key.ends_with("password") {
            store_password::know(value.as_ref());
        }
        if let (Some(value), Some(backend)) = (value, backend)
            && !owners.contains(&backend)
        {
            // What looks like a password is not shown, wherever it stands.
            value.report().blot_out(value.place());
            let complaint = value.wrong(reason).at_key();
            complaint
                .help("remove it, or name the backend that has one")
                .push();
        }
    }
}

/// The name of a backend that has no file.
fn no_path(backend: Backend, named: &Value<'_>) -> Option<String> {
    let name = named.as_text().filter(|_| backend != Backend::Embedded);
    name.map(str::to_owned)
}
