//! Whose scripts may read what a route answers.

use http::HeaderValue;
use url::Url;

use crate::config::reader::{Section, Value, quoted};

const HELP: &str =
    "scheme and host, and the port where it is not the scheme's own: \"https://app.example.com\"";

pub(super) fn origins(section: &Section<'_>) -> Vec<HeaderValue> {
    let values = section
        .value("cors_origins")
        .map(|value| value.one_or_list());
    values.iter().flatten().filter_map(origin).collect()
}

/// An origin as browsers write it (RFC 6454 section 6.2), since it is compared byte by byte.
fn origin(value: &Value<'_>) -> Option<HeaderValue> {
    let text = value.text()?;
    if matches!(text, "*" | "null") {
        let what = if text == "*" { "every" } else { "no" };
        value
            .wrong(format!(
                "{} is {what} origin, and with cookies browsers want each by its name",
                quoted(text)
            ))
            .help(HELP)
            .push();
        return None;
    }
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(url) = url else {
        let complaint = value.wrong(format!("{} is not an origin", quoted(text)));
        complaint.help(HELP).push();
        return None;
    };
    let canonical = url.origin().ascii_serialization();
    if canonical != text {
        let complaint = value.wrong(format!(
            "{} is not as browsers write an origin",
            quoted(text)
        ));
        complaint
            .help(format!("write {}", quoted(&canonical)))
            .push();
        return None;
    }
    HeaderValue::try_from(canonical).ok()
}
