//! What programs find below `/.well-known/doorward/`: the keys that assertions are verified with, and apart from
//! them those of tickets. The same for everybody, on every host.

use http::header::{self, HeaderValue};
use http::{Method, Response};

use super::{Portal, PortalError};
use crate::wire::Page;

const KEYS: &str = "jwks.json";

/// In a place of its own: no app is to take a ticket for an assertion.
const TICKET_KEYS: &str = "session-jwks.json";

/// For how long a verifier may do without a look: as long as a new key has to be published before it signs.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=300");

impl Portal {
    pub fn publish(&self, method: &Method, place: &str) -> Result<Page, PortalError> {
        let keys = match place {
            KEYS => self.keys.as_ref(),
            TICKET_KEYS => self.sessions.ticket_keys(),
            _ => None,
        };
        let keys = keys.ok_or(PortalError::NotFound)?;
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(PortalError::Method { allow: "GET, HEAD" });
        }
        let mut page = Response::new(keys.clone());
        let headers = page.headers_mut();
        let kind = HeaderValue::from_static("application/jwk-set+json");
        headers.insert(header::CONTENT_TYPE, kind);
        headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
        let nosniff = HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        // There is nothing in it that a page elsewhere could not fetch from its own server.
        let anybody = HeaderValue::from_static("*");
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, anybody);
        Ok(page)
    }
}
