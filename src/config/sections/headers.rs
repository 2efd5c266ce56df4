//! Which header fields a configuration may name: what frames a message and what doorward answers for it may not.

use http::{HeaderName, HeaderValue};

use super::identity::Identity;
use crate::config::reader::{Section, Value, quoted};
use crate::identity::fold_eq;
use crate::routing::Edits;

/// What a name is wanted for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Identity,
    Request,
    Response,
}

/// They belong to one connection or say where a message ends (RFC 9110 section 7.6.1, RFC 9112 section 6).
const FRAMING: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// What doorward itself tells apps.
const FORWARDING: [&str; 5] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "via",
];

/// Apps fold names, so two that fold alike are one.
pub(super) fn same(a: &HeaderName, b: &HeaderName) -> bool {
    fold_eq(a.as_str(), b.as_str())
}

fn fold(name: &HeaderName) -> String {
    name.as_str().replace('_', "-")
}

/// Why a name cannot be used, as the rest of a sentence.
pub(super) fn reserved(name: &HeaderName, side: Side) -> Option<&'static str> {
    let folded = fold(name);
    let name = folded.as_str();
    if FRAMING.contains(&name) {
        return Some("belongs to the connection, not to the message");
    }
    if name.starts_with("doorward-") || name.starts_with("x-doorward-") {
        return Some("is doorward's own");
    }
    match side {
        Side::Response => match name {
            "set-cookie" => Some("belongs to the app and the session"),
            "strict-transport-security" => Some("comes from `hsts_max_age` in [tls]"),
            _ => None,
        },
        Side::Request | Side::Identity if FORWARDING.contains(&name) => {
            Some("tells apps where a request came from")
        }
        Side::Request => match name {
            "cookie" => Some("is the browser's"),
            "host" => Some("comes from `send_host`"),
            _ => None,
        },
        Side::Identity => match name {
            "accept"
            | "authorization"
            | "content-encoding"
            | "content-type"
            | "cookie"
            | "host"
            | "origin"
            | "range"
            | "proxy-authorization"
            | "referer"
            | "user-agent"
            | "x-real-ip" => Some("has a meaning already"),
            _ => None,
        },
    }
}

/// Reads a header name, which is the value itself or its key.
pub(super) fn name(value: &Value<'_>, text: &str, at_key: bool) -> Option<HeaderName> {
    let name = HeaderName::try_from(text).ok();
    if name.is_none() {
        let complaint = value.wrong(format!(
            "{} is not the name of a header field",
            quoted(text)
        ));
        let complaint = if at_key {
            complaint.at_key()
        } else {
            complaint
        };
        complaint
            .help("letters, digits and hyphens, like \"X-App-Name\"")
            .push();
    }
    name
}

/// What a route changes about requests, and about responses.
pub(super) fn both(section: &Section<'_>, identity: &Identity) -> (Edits, Edits) {
    let side = |key, side| edits(section.section(key), side, identity);
    (
        side("request_headers", Side::Request),
        side("response_headers", Side::Response),
    )
}

/// `{ set = { Name = "value" }, remove = ["Name"] }`.
fn edits(section: Section<'_>, side: Side, identity: &Identity) -> Edits {
    let usable = |value: &Value<'_>, text: &str, at_key: bool| {
        let name = name(value, text, at_key)?;
        // It may come from nowhere but a session (R13).
        let identifies = side == Side::Request && identity.names.matches(name.as_str());
        let reason = reserved(&name, side);
        let reason = reason.or(identifies.then_some("tells apps who the user is"));
        if let Some(reason) = reason {
            let complaint = value.wrong(format!("{} {reason}", quoted(text)));
            let complaint = if at_key {
                complaint.at_key()
            } else {
                complaint
            };
            complaint.help("a route cannot change this one").push();
        }
        Some(name)
    };
    let remove = section.strings("remove");
    let set = section.section("set");
    let edits = Edits {
        remove: remove
            .iter()
            .filter_map(|(text, value)| usable(value, text, false))
            .collect(),
        set: set
            .entries()
            .iter()
            .filter_map(|(text, value)| Some((usable(value, text, true)?, content(value)?)))
            .collect(),
    };
    section.finish();
    edits
}

fn content(value: &Value<'_>) -> Option<HeaderValue> {
    let content = HeaderValue::try_from(value.text()?).ok();
    if content.is_none() {
        value
            .wrong("holds what no header field can")
            .help("one line without control characters")
            .push();
    }
    content
}
