//! What a request without a session is told (R10): a person who opens a page is sent to log in, a program gets a 401
//! that it can read.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use serde_json::json;

use super::{LOGIN_PROMPT, login_url, provider_hint};
use crate::wire::{Page, RequestId, json_page, page};

/// Who reads the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Audience {
    Grpc,
    /// A browser that opens a page.
    Person,
    Program,
}

/// What a request's own fields say about who made it: one look, kept for when the fields have been sent on.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    is_grpc: bool,
    /// It says so by fetch metadata or, where there is none, by accepting HTML.
    opens_a_page: bool,
    /// GET or HEAD, and no other protocol asked for.
    only_reads: bool,
}

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

impl Asker {
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        Self {
            is_grpc: content_type.is_some_and(|kind| kind.starts_with(b"application/grpc")),
            opens_a_page: match headers.get(SEC_FETCH_MODE) {
                Some(mode) => mode == "navigate",
                None => accepts_html(headers),
            },
            only_reads: is_read && !headers.contains_key(header::UPGRADE),
        }
    }

    /// Who is told that a login is needed: only a navigation is sent away to log in.
    pub fn audience(self) -> Audience {
        if self.is_grpc {
            Audience::Grpc
        } else if self.only_reads && self.opens_a_page {
            Audience::Person
        } else {
            Audience::Program
        }
    }

    /// Who is told of an error. Wider than [`Asker::audience`]: the answer to a form is read by a person too.
    pub fn audience_of_errors(self) -> Audience {
        if self.opens_a_page && !self.is_grpc {
            Audience::Person
        } else {
            self.audience()
        }
    }
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).map(HeaderValue::as_bytes);
    accept.is_some_and(|accept| {
        accept.split(|byte| *byte == b',').any(|kind| {
            kind.trim_ascii()
                .get(..9)
                .is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/html"))
        })
    })
}

/// The answer to a request that needs a login.
#[derive(Debug)]
pub struct Challenge<'a> {
    pub audience: Audience,
    /// Path and query of what was asked for.
    pub target: &'a str,
    /// There is a session, but not one that is good enough here: logging in is to be offered all the same.
    pub anew: bool,
    /// The one way to log in that counts here.
    pub provider: Option<&'a str>,
    pub id: RequestId,
}

impl Challenge<'_> {
    pub fn respond(&self) -> Page {
        let mut login_url = login_url(self.target);
        if let Some(provider) = self.provider {
            login_url.push_str(&provider_hint(provider));
        }
        if self.anew {
            login_url.push_str(LOGIN_PROMPT);
        }
        match self.audience {
            Audience::Person => redirect(&login_url),
            Audience::Program => unauthorized(self.error(), &login_url, self.id),
            Audience::Grpc => grpc_unauthenticated(),
        }
    }

    /// What a program is told: stable, in snake case.
    const fn error(&self) -> &'static str {
        if self.anew {
            "reauthentication_required"
        } else {
            "login_required"
        }
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

fn unauthorized(error: &str, login_url: &str, id: RequestId) -> Page {
    let body = json!({ "error": error, "login_url": login_url, "request_id": id.to_string() });
    let mut page = json_page(StatusCode::UNAUTHORIZED, &body);
    // A scheme that no browser knows, so that none shows a password dialog of its own.
    page.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Session realm=\"doorward\""),
    );
    page
}

/// A response of trailers only: status 16, UNAUTHENTICATED.
fn grpc_unauthenticated() -> Page {
    let mut page = page(StatusCode::OK, "application/grpc", Bytes::new());
    let headers = page.headers_mut();
    headers.insert("grpc-status", HeaderValue::from_static("16"));
    headers.insert("grpc-message", HeaderValue::from_static("login required"));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audience(method: &Method, fields: &[(&'static str, &'static str)]) -> Audience {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        Asker::of(method, &headers).audience()
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
            assert_eq!(audience(&method, fields), expected, "{method} {fields:?}");
        }
    }

    #[test]
    fn a_program_is_told_where_to_log_in() {
        let ids = crate::wire::RequestIds::default();
        let challenge = |audience| {
            Challenge {
                audience,
                target: "/a?b=c&d",
                anew: false,
                provider: None,
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
