//! `[store]`: where sessions are kept.

use std::time::Duration;

use crate::config::StoreSettings;
use crate::config::reader::Section;
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
}

pub(super) fn read(section: Section<'_>) -> Store {
    let named = section.value("backend");
    let memory = match &named {
        Some(value) if matches!(value.as_text(), Some("redis" | "postgres")) => {
            let complaint = value.wrong("is not in this version");
            complaint
                .help("\"embedded\" keeps sessions in a file, \"memory\" until the process ends")
                .push();
            false
        }
        Some(value) => {
            let choices = [("embedded", Backend::Embedded), ("memory", Backend::Memory)];
            value.choice(&choices) == Some(Backend::Memory)
        }
        None => false,
    };
    let path = section.path_to("path");
    if let (true, Some(value), Some(backend)) = (memory, section.value("path"), &named) {
        let line = section.report().line(&backend.place());
        let complaint = value
            .wrong(format!("memory has no path (`backend` on line {line})"))
            .at_key();
        complaint
            .other(backend.place(), "nothing is written")
            .help("remove it, or use `backend = \"embedded\"`")
            .push();
    }
    let path = path.unwrap_or_else(|| section.report().folder().join("data/sessions.db"));
    let range = Duration::from_millis(10)..=Duration::from_mins(1);
    let timeout = section
        .value("timeout")
        .and_then(|value| value.duration_in(range));
    section.finish();
    Store {
        settings: if memory {
            StoreSettings::Memory
        } else {
            StoreSettings::Embedded { path }
        },
        timeout: timeout.unwrap_or(session::Settings::default().store_timeout),
    }
}
