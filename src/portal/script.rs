//! A script that apps may include: it tells people before their session ends. It is the same for everybody, and knows
//! nothing that `/.doorward/session` does not tell.

use std::fmt::Write as _;
use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::wire::Page;

/// Below the reserved prefix.
pub(super) const PLACE: &str = "session.js";

const SCRIPT: &str = include_str!("templates/session.js");

/// The place of the script that asks for passkeys, and only on our own pages.
pub(super) const PASSKEY_PLACE: &str = "passkey.js";

const PASSKEY_SCRIPT: &str = include_str!("templates/passkey.js");

static ETAG: LazyLock<HeaderValue> = LazyLock::new(|| etag(SCRIPT));
static PASSKEY_ETAG: LazyLock<HeaderValue> = LazyLock::new(|| etag(PASSKEY_SCRIPT));

/// A strong validator: the beginning of the script's SHA-256.
fn etag(script: &str) -> HeaderValue {
    let mut text = String::from("\"");
    for byte in digest(&SHA256, script.as_bytes()).as_ref().iter().take(16) {
        // Into a string, where nothing can fail.
        let _written = write!(text, "{byte:02x}");
    }
    text.push('"');
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("\"script\""))
}

/// Kept by browsers and asked about each time, so that a new version is never mixed with an old one for long.
pub(super) fn serve(headers: &HeaderMap) -> Page {
    send(headers, (SCRIPT, &ETAG))
}

pub(super) fn serve_passkey(headers: &HeaderMap) -> Page {
    send(headers, (PASSKEY_SCRIPT, &PASSKEY_ETAG))
}

fn send(headers: &HeaderMap, (script, etag): (&'static str, &HeaderValue)) -> Page {
    let is_known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|tag| tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes());
    let mut page = Response::new(if is_known {
        Bytes::new()
    } else {
        Bytes::from_static(script.as_bytes())
    });
    if is_known {
        *page.status_mut() = StatusCode::NOT_MODIFIED;
    }
    for (name, value) in FIELDS {
        page.headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    page.headers_mut().insert(header::ETAG, etag.clone());
    page
}

const FIELDS: [(HeaderName, &str); 4] = [
    (header::CACHE_CONTROL, "no-cache"),
    (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_script_is_told_that_it_is_the_same() {
        let fresh = serve(&HeaderMap::new());
        assert_eq!(fresh.status(), StatusCode::OK);
        assert!(fresh.body().starts_with(b"// Tells people"));
        let etag = fresh.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert_eq!(etag.len(), 34, "{etag}");
        for (asked, expected) in [
            (etag.clone(), 304),
            (format!("W/{etag}"), 304),
            (format!("\"x\", {etag}"), 304),
            ("\"x\"".to_owned(), 200),
            ("*x".to_owned(), 200),
        ] {
            let field = HeaderValue::try_from(&asked).unwrap();
            let page = serve(&HeaderMap::from_iter([(header::IF_NONE_MATCH, field)]));
            assert_eq!(page.status().as_u16(), expected, "{asked}");
            assert_eq!(page.body().is_empty(), expected == 304, "{asked}");
            assert_eq!(page.headers()["x-content-type-options"], "nosniff");
            assert_eq!(page.headers()["cache-control"], "no-cache");
        }
    }
}
