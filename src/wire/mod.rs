//! HTTP types that several areas share, and nothing else.

mod client_body;

pub use client_body::ClientBody;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};

use crate::secret::random;

/// Our own places on every served host begin with this.
pub const RESERVED_PREFIX: &str = "/.doorward/";

/// What programs look for on every served host, beside it (RFC 8615).
pub const WELL_KNOWN_PREFIX: &str = "/.well-known/doorward/";

/// Where password managers look for the page on which a password is changed (W3C, A Well-Known URL for Changing Passwords).
pub const CHANGE_PASSWORD: &str = "/.well-known/change-password";

/// A whole response of our own making.
pub type Page = http::Response<Bytes>;

/// A page that nobody keeps and no browser takes for anything but what it is.
pub fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Page::new(body.into());
    *page.status_mut() = status;
    let headers = page.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    page
}

/// The same for programs.
pub fn json_page(status: StatusCode, body: &serde_json::Value) -> Page {
    page(status, "application/json", body.to_string())
}

/// Names one request in logs and on error pages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RequestId(u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Gives out request ids that do not repeat, from a random beginning.
#[derive(Debug)]
pub struct RequestIds(AtomicU64);

impl Default for RequestIds {
    fn default() -> Self {
        Self(AtomicU64::new(u64::from_le_bytes(random())))
    }
}

impl RequestIds {
    pub fn next(&self) -> RequestId {
        // Odd, so the sequence visits all 64-bit values before it comes back; neighbours do not look alike.
        RequestId(self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed))
    }
}
