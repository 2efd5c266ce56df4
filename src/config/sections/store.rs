//! `[store]`: where sessions are kept.

use std::time::Duration;

use super::store_redis;
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
    Redis,
}

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
    let redis = store_redis::Keys::of(&section);
    let settings = match backend {
        Some(Backend::Redis) => redis.read(&section, timeout).map(StoreSettings::Redis),
        Some(Backend::Memory) => {
            redis.refuse("memory");
            Some(StoreSettings::Memory)
        }
        Some(Backend::Embedded) => {
            redis.refuse("embedded");
            Some(StoreSettings::Embedded { path: path.clone() })
        }
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
        Some("postgres") => {
            let complaint = value.wrong("is not in this version");
            complaint
                .help("\"embedded\" keeps sessions in a file, \"memory\" until the process ends, \"redis\" in a server")
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
            ("redis", Backend::Redis),
        ]),
    }
}

/// The name of a backend that has no file.
fn no_path(backend: Backend, named: &Value<'_>) -> Option<String> {
    let name = named.as_text().filter(|_| backend != Backend::Embedded);
    name.map(str::to_owned)
}
