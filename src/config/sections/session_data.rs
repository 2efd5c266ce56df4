//! Of `[session]`: what apps may keep in sessions, who may come for it over the API, and the sessions of visitors.

use std::time::Duration;

use super::session::{LONGEST, secret_list};
use crate::config::reader::{Section, Value, quoted, show_duration};
use crate::session::{DataLimits, DataSettings, Limits, Namespace, Visitors};

/// A list of sessions holds their data in memory too.
const MOST: u64 = 1024 * 1024;
/// What apps can be expected to read.
const MOST_IN_HEADERS: u64 = 16 * 1024;

/// Of the names of namespaces, in characters.
const MAX_NAME: usize = 64;

pub(super) fn data(section: &Section<'_>) -> DataSettings {
    DataSettings {
        limits: limits(section.section("data")),
        namespaces: namespaces(section),
    }
}

fn limits(own: Section<'_>) -> DataLimits {
    let defaults = DataLimits::default();
    let size = |key, range, default| {
        let size = own.size_in(key, range);
        size.and_then(|size| usize::try_from(size).ok())
            .unwrap_or(default)
    };
    let limits = DataLimits {
        max_keys: own
            .integer_in("max_keys", 1..=1000)
            .unwrap_or(defaults.max_keys),
        max_value_bytes: size("max_value_bytes", 16..=MOST, defaults.max_value_bytes),
        max_header_bytes: size(
            "max_header_bytes",
            64..=MOST_IN_HEADERS,
            defaults.max_header_bytes,
        ),
        max_bytes: size("max_bytes", 64..=MOST, defaults.max_bytes),
    };
    own.finish();
    limits
}

/// Every `[[session.namespace]]`.
fn namespaces(section: &Section<'_>) -> Vec<Namespace> {
    let mut seen: Vec<String> = Vec::new();
    let read = |own: Section<'_>| {
        let value = own.required("name", "name = \"shop\"");
        let name = value.as_ref().and_then(name);
        if let (Some(value), Some(name)) = (&value, &name) {
            if seen.contains(name) {
                value
                    .wrong(format!("{} has its keys already", quoted(name)))
                    .help("one `[[session.namespace]]` for each name")
                    .push();
            }
            seen.push(name.clone());
        }
        let keys = own.required("keys", "keys = [{ file = \"secrets/shop.key\" }]");
        let keys = keys.map(|value| secret_list(&value)).unwrap_or_default();
        own.finish();
        let (name, false) = (name?, keys.is_empty()) else {
            return None;
        };
        Some(Namespace { name, keys })
    };
    let sections = section.sections("namespace");
    sections.into_iter().filter_map(read).collect()
}

/// The name of a namespace, which is part of an address too.
pub(super) fn name(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let is_plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
    };
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(is_plain) {
        let help =
            format!("lower-case letters, digits and `-_.`, at most {MAX_NAME}, like \"shop\"");
        let complaint = value.wrong(format!("{} is no name for a namespace", quoted(text)));
        complaint.help(help).push();
        return None;
    }
    Some(text.to_owned())
}

/// `anonymous`: sessions of who has not logged in.
pub(super) fn visitors(section: &Section<'_>) -> Visitors {
    let own = section.section("anonymous");
    let defaults = Visitors::default();
    let range = Duration::from_mins(1)..=LONGEST;
    let read = |key| {
        let value = own.value(key)?;
        Some((value.duration_in(range.clone())?, value))
    };
    let (idle, absolute) = (read("idle_timeout"), read("absolute_timeout"));
    let longest = absolute.map_or(defaults.limits.absolute, |(length, _)| length);
    if let Some((length, value)) = idle.as_ref().filter(|(length, _)| *length > longest) {
        let (long, short) = (show_duration(*length), show_duration(longest));
        let complaint = value.wrong(format!(
            "{long} is longer than the `absolute_timeout` beside it ({short})"
        ));
        complaint
            .help("a session that may idle longer than it lives never idles out; make it the shorter one")
            .push();
    }
    let most = i64::from(u32::MAX);
    let visitors = Visitors {
        limits: Limits {
            idle: idle.map_or(defaults.limits.idle.min(longest), |(length, _)| length),
            absolute: longest,
        },
        max_per_address: own
            .integer_in("max_per_address", 1..=most)
            .unwrap_or(defaults.max_per_address),
        max_per_minute: own
            .integer_in("max_per_minute", 1..=most)
            .unwrap_or(defaults.max_per_minute),
    };
    own.finish();
    visitors
}
