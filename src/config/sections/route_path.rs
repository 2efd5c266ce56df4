//! The paths of a route: where it begins, what is put before it, and what its app is known to read as written.

use std::collections::BTreeSet;

use crate::config::reader::{Section, Value, quoted};
use crate::routing::Oddity;

pub(super) fn route_path(value: &Value<'_>) -> Option<String> {
    let path = normal_path(value)?;
    let ours = ["/.doorward", "/.well-known/doorward"];
    if let Some(ours) = ours.into_iter().find(|ours| path.starts_with(ours)) {
        value
            .wrong(format!(
                "everything below {} is doorward's own, on every host",
                quoted(ours)
            ))
            .help("choose another path")
            .push();
        return None;
    }
    Some(path)
}

/// A path as requests have it once they are normalised (R15); anything else would never match.
pub(super) fn normal_path(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let whole = text == "/";
    let odd = |b: u8| !(b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&b));
    let trouble = if !text.starts_with('/') {
        (
            "does not begin with \"/\"",
            format!("write {}", quoted(&format!("/{text}"))),
        )
    } else if text.contains("//") {
        (
            "has an empty segment (\"//\")",
            format!("write {}", quoted(&squeezed(text))),
        )
    } else if text
        .split('/')
        .any(|segment| segment == "." || segment == "..")
    {
        (
            "has a segment of dots",
            "write the path that it leads to".to_owned(),
        )
    } else if text.contains('%') {
        (
            "has an escape (\"%\")",
            "write a path of plain characters; routes match whole segments".to_owned(),
        )
    } else if text.bytes().any(odd) {
        (
            "has a character that no path holds unescaped",
            "letters, digits and -._~!$&'()*+,;=:@".to_owned(),
        )
    } else if !whole && text.ends_with('/') {
        (
            "ends with \"/\"",
            format!(
                "write {}: it covers what is below it too",
                quoted(text.trim_end_matches('/'))
            ),
        )
    } else {
        return Some(text.to_owned());
    };
    let (what, help) = trouble;
    value
        .wrong(format!("{} {what}", quoted(text)))
        .help(help)
        .push();
    None
}

fn squeezed(path: &str) -> String {
    let segments: Vec<_> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    format!("/{}", segments.join("/"))
}

pub(super) fn add_prefix(section: &Section<'_>) -> Option<String> {
    let path = section.value("add_prefix");
    let path = path.and_then(|value| normal_path(&value));
    path.filter(|path| path != "/")
}

pub(super) fn oddities(section: &Section<'_>) -> BTreeSet<Oddity> {
    let texts = section.strings("allow_paths");
    let known = Oddity::ALL.map(|oddity| (oddity.name(), oddity));
    let oddities = texts.iter().filter_map(|(_, value)| value.choice(&known));
    oddities.collect()
}
