//! What a request without a session is told (R10): a person who opens a page is sent to log in, a program gets a 401
//! that it can read.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use serde_json::json;

use super::login_url;
use crate::wire::{Page, RequestId};

/// Who reads the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Audience {
    Grpc,
    /// A browser that opens a page.
    Person,
    Program,
}

impl Audience {
    /// A navigation is a GET or HEAD that says so by fetch metadata or, where there is none, by accepting HTML.
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        let starts = |name, start: &[u8]| {
            let value = headers.get(name).map(HeaderValue::as_bytes);
            value.is_some_and(|value| value.starts_with(start))
        };
        if starts(header::CONTENT_TYPE, b"application/grpc") {
            return Self::Grpc;
        }
        if !matches!(*method, Method::GET | Method::HEAD) || headers.contains_key(header::UPGRADE) {
            return Self::Program;
        }
        let navigates = match headers.get("sec-fetch-mode") {
            Some(mode) => mode == "navigate",
            None => accepts_html(headers),
        };
        if navigates {
            Self::Person
        } else {
            Self::Program
        }
    }

    /// Whether an error is better shown as a page. Wider than [`Audience::of`]: the answer to a form is read by a
    /// person too.
    pub fn of_errors(method: &Method, headers: &HeaderMap) -> Self {
        match Self::of(method, headers) {
            Self::Program
                if headers
                    .get("sec-fetch-mode")
                    .is_some_and(|mode| mode == "navigate") =>
            {
                Self::Person
            }
            Self::Program if !headers.contains_key("sec-fetch-mode") && accepts_html(headers) => {
                Self::Person
            }
            audience => audience,
        }
    }
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).map(HeaderValue::as_bytes);
    accept.is_some_and(|accept| {
        accept
            .windows(9)
            .any(|window| window.eq_ignore_ascii_case(b"text/html"))
    })
}

/// The answer to a request that needs a login.
#[derive(Debug)]
pub struct Challenge<'a> {
    pub audience: Audience,
    /// Path and query of what was asked for.
    pub target: &'a str,
    pub id: RequestId,
}

impl Challenge<'_> {
    pub fn respond(&self) -> Page {
        let login_url = login_url(self.target);
        let mut page = match self.audience {
            Audience::Person => redirect(&login_url),
            Audience::Program => unauthorized(&login_url, self.id),
            Audience::Grpc => grpc_unauthenticated(),
        };
        page.headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        page
    }
}

/// 303: whatever the method was, the next request is a GET.
pub(super) fn redirect(location: &str) -> Page {
    let mut page = Response::new(Bytes::new());
    *page.status_mut() = StatusCode::SEE_OTHER;
    let headers = page.headers_mut();
    let location = HeaderValue::try_from(location).unwrap_or(HeaderValue::from_static("/"));
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

fn unauthorized(login_url: &str, id: RequestId) -> Page {
    let body =
        json!({ "error": "login_required", "login_url": login_url, "request_id": id.to_string() });
    let mut page = Response::new(Bytes::from(body.to_string()));
    *page.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = page.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    // A scheme that no browser knows, so that none shows a password dialog of its own.
    headers.insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Session realm=\"doorward\""),
    );
    page
}

/// A response of trailers only: status 16, UNAUTHENTICATED.
fn grpc_unauthenticated() -> Page {
    let mut page = Response::new(Bytes::new());
    let headers = page.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert("grpc-status", HeaderValue::from_static("16"));
    headers.insert("grpc-message", HeaderValue::from_static("login required"));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audience(method: Method, fields: &[(&'static str, &'static str)]) -> Audience {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        Audience::of(&method, &headers)
    }

    #[test]
    fn only_navigations_are_for_a_person() {
        let html = ("accept", "text/html,*/*;q=0.8");
        for (method, fields, expected) in [
            (Method::GET, &[html][..], Audience::Person),
            (Method::HEAD, &[html], Audience::Person),
            (
                Method::GET,
                &[html, ("sec-fetch-mode", "navigate")],
                Audience::Person,
            ),
            (
                Method::GET,
                &[("sec-fetch-mode", "navigate")],
                Audience::Person,
            ),
            (
                Method::GET,
                &[html, ("sec-fetch-mode", "cors")],
                Audience::Program,
            ),
            (
                Method::GET,
                &[html, ("sec-fetch-mode", "no-cors")],
                Audience::Program,
            ),
            (Method::GET, &[("accept", "*/*")], Audience::Program),
            (
                Method::GET,
                &[("accept", "text/event-stream")],
                Audience::Program,
            ),
            (Method::GET, &[], Audience::Program),
            (
                Method::POST,
                &[html, ("sec-fetch-mode", "navigate")],
                Audience::Program,
            ),
            (
                Method::GET,
                &[html, ("upgrade", "websocket")],
                Audience::Program,
            ),
            (
                Method::POST,
                &[("content-type", "application/grpc+proto")],
                Audience::Grpc,
            ),
        ] {
            assert_eq!(
                audience(method.clone(), fields),
                expected,
                "{method} {fields:?}"
            );
        }
    }

    #[test]
    fn a_program_is_told_where_to_log_in() {
        let ids = crate::wire::RequestIds::default();
        let challenge = |audience| {
            Challenge {
                audience,
                target: "/a?b=c&d",
                id: ids.next(),
            }
            .respond()
        };
        let page = challenge(Audience::Program);
        assert_eq!(page.status(), 401);
        let body: serde_json::Value = serde_json::from_slice(page.body()).unwrap();
        assert_eq!(
            body["login_url"],
            "/.doorward/login?return_to=%2Fa%3Fb%3Dc%26d"
        );
        let page = challenge(Audience::Person);
        assert_eq!(page.status(), 303);
        assert_eq!(
            page.headers()["location"],
            "/.doorward/login?return_to=%2Fa%3Fb%3Dc%26d"
        );
        assert_eq!(challenge(Audience::Grpc).headers()["grpc-status"], "16");
    }
}
