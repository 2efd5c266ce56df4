//! `[[provider]]`: ways to log in. This version has one kind, and one of it.

use std::ops::Range;
use std::time::Duration;

use crate::config::reader::{Section, Value, quoted};
use crate::login::{Kind, LocalSettings, Settings, TOKENS};

#[derive(Debug)]
pub(super) struct Provider {
    pub(super) settings: Settings,
}

/// Those that could be read, and whether any were meant to be there.
#[derive(Debug)]
pub(super) struct Providers {
    read: Vec<Provider>,
    pub(super) any: bool,
}

impl IntoIterator for Providers {
    type IntoIter = std::vec::IntoIter<Provider>;
    type Item = Provider;

    fn into_iter(self) -> Self::IntoIter {
        self.read.into_iter()
    }
}

pub(super) fn read(sections: Vec<Section<'_>>) -> Providers {
    let any = !sections.is_empty();
    let mut read = Vec::new();
    let mut first: Option<Range<usize>> = None;
    for section in sections {
        let place = section.place();
        match &first {
            Some(first) => {
                let line = section.report().line(first);
                let complaint = section.wrong(format!(
                    "a second provider; the first one is on line {line}"
                ));
                complaint
                    .other(first.clone(), "first here")
                    .help("this version has one; remove one of them")
                    .push();
            }
            None => first = Some(place),
        }
        read.extend(provider(section));
    }
    Providers { read, any }
}

fn provider(section: Section<'_>) -> Option<Provider> {
    let id = section
        .required("id", "id = \"local\"")
        .and_then(|value| id(&value));
    if let Some(kind) = section.required("type", "type = \"local\"") {
        match kind.as_text() {
            Some("oidc" | "external") => kind
                .wrong("is not in this version")
                .help("write \"local\"")
                .push(),
            _ => {
                kind.choice(&[("local", ())]);
            }
        }
    }
    let users = section
        .required("users", "users = \"users.toml\"")
        .and_then(|value| value.path());
    let max_attempts = section.integer_in("max_attempts", 1..=10_000).unwrap_or(10);
    let attempt_window = section.duration("attempt_window", Duration::from_mins(15));
    section.finish();
    let kind = Kind::Local(LocalSettings {
        users: users?,
        max_attempts,
        attempt_window,
    });
    Some(Provider {
        settings: Settings { id: id?, kind },
    })
}

/// It stands in paths, logs and sessions.
fn id(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !plain || text.len() > 32 {
        let complaint = value.wrong(format!("{} is not an id", quoted(text)));
        complaint
            .help("lower-case letters, digits and hyphens, at most 32, like \"local\"")
            .push();
    }
    if text == TOKENS {
        value
            .wrong(format!(
                "{} is what users of API tokens are known by",
                quoted(text)
            ))
            .help("take another one, like \"local\"")
            .push();
    }
    Some(text.to_owned())
}
