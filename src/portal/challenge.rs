//! What a request without a session is told (R10): a person who opens a page is sent to log in, one who sends a form is
//! shown a page, a program gets a 401 that it can read.

use std::fmt;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use serde_json::json;

use super::origin::{is_from_elsewhere, page_of};
use super::{
    Edge, ErrorView, LOGIN_PROMPT, Pages, acr_hint, kept, login_url, place, provider_hint,
};
use crate::wire::{Page, RequestId, json_page, page};

/// Who reads the answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Audience {
    /// A browser that sends a form: a person reads the answer, but what was sent cannot be sent round by way of a login.
    Form,
    Grpc,
    /// A browser that opens a page.
    Person,
    Program,
}

/// What a request's own fields say about who made it: one look, kept for when the fields have been sent on.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the request"
)]
pub struct Asker {
    /// It sends fetch metadata, as browsers do of everything.
    is_browser: bool,
    is_grpc: bool,
    /// It says so by fetch metadata or, where there is none, by accepting HTML.
    opens_a_page: bool,
    /// GET or HEAD.
    only_reads: bool,
}

const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const SERVICE_WORKER: HeaderName = HeaderName::from_static("service-worker");
const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

impl Asker {
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let only_reads = matches!(*method, Method::GET | Method::HEAD);
        let opens_a_page = match headers.get(SEC_FETCH_MODE) {
            Some(mode) => mode == "navigate" && is_for_a_window(headers),
            None => accepts_html(headers) && !is_scripted(headers, only_reads),
        };
        Self {
            is_browser: headers.contains_key(SEC_FETCH_MODE),
            is_grpc: content_type.is_some_and(is_grpc),
            opens_a_page: opens_a_page && !asks_for_another_protocol(headers),
            only_reads,
        }
    }

    /// Whether a browser would ask a person for what a program is asked for.
    pub fn may_be_a_person(self) -> bool {
        self.is_browser || self.opens_a_page
    }

    /// Who is told that a login is needed: only a navigation is sent away to log in.
    pub fn audience(self) -> Audience {
        match (self.is_grpc, self.opens_a_page) {
            (true, _) => Audience::Grpc,
            (false, true) if self.only_reads => Audience::Person,
            (false, true) => Audience::Form,
            (false, false) => Audience::Program,
        }
    }

    /// Who is told of an error: a person either way.
    pub fn audience_of_errors(self) -> Audience {
        match self.audience() {
            Audience::Form => Audience::Person,
            other => other,
        }
    }
}

fn is_grpc(content_type: &[u8]) -> bool {
    content_type.starts_with(b"application/grpc")
}

fn asks_for_another_protocol(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE) || headers.contains_key(SEC_WEBSOCKET_KEY)
}

/// What is embedded (`object`, `embed`) is a navigation by name alone.
fn is_for_a_window(headers: &HeaderMap) -> bool {
    let dest = headers.get(SEC_FETCH_DEST).map(HeaderValue::as_bytes);
    matches!(dest, None | Some(b"document" | b"frame" | b"iframe"))
}

/// Scripts of browsers without fetch metadata may accept HTML too, and give themselves away: a navigation that reads
/// has no `Origin`.
fn is_scripted(headers: &HeaderMap, only_reads: bool) -> bool {
    headers.contains_key(X_REQUESTED_WITH)
        || headers.contains_key(SERVICE_WORKER)
        || (only_reads && headers.contains_key(header::ORIGIN))
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

/// What became of a form that came without a session.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Keeping {
    /// It waits for its sender to log in.
    Kept,
    #[default]
    No,
    TooLarge,
}

/// The answer to a request that needs a login.
pub struct Challenge<'a> {
    pub asker: Asker,
    /// Path and query of what was asked for.
    pub target: &'a str,
    /// Host and port of the request, as the client wrote them.
    pub authority: &'a str,
    /// What is left of it: once the request has been sent on, nothing.
    pub headers: &'a HeaderMap,
    /// Whether a route serves this host, at this port.
    pub serves: &'a dyn Fn(&str, Option<u16>) -> bool,
    pub pages: &'a Pages,
    /// There is a session, but not one that is good enough here: logging in is to be offered all the same.
    pub anew: bool,
    /// The one way to log in that counts here.
    pub provider: Option<&'a str>,
    /// The kinds of login there that count; empty: any.
    pub acr_values: &'a [String],
    /// Where this node has no login of its own, and how often the browser has been sent away from here.
    pub edge: Option<(&'a Edge, u8)>,
    /// Another proxy passes the answer on.
    pub is_asked_elsewhere: bool,
    /// Of a form that came with it.
    pub keeping: Keeping,
    pub id: RequestId,
}

impl fmt::Debug for Challenge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge")
            .field("asker", &self.asker)
            .field("anew", &self.anew)
            .finish_non_exhaustive()
    }
}

impl Challenge<'_> {
    pub fn respond(&self) -> Page {
        match self.asker.audience() {
            Audience::Person => self.send_away(),
            Audience::Form => self.form_refused(),
            Audience::Program => self.unauthorized(),
            Audience::Grpc => grpc_unauthenticated(self.headers),
        }
    }

    fn send_away(&self) -> Page {
        let url = self.login_url(self.target);
        match self.edge {
            Some((edge, rounds)) => edge.send(&url, rounds, (self.pages, &self.id.to_string())),
            None => redirect(&url),
        }
    }

    fn login_url(&self, return_to: &str) -> String {
        if let Some((edge, _)) = self.edge {
            return edge.url(self.authority, return_to, self.anew);
        }
        let prompt = if self.anew { LOGIN_PROMPT } else { "" };
        let hint = self.provider.map(provider_hint).unwrap_or_default();
        let acr = acr_hint(self.acr_values);
        let path = format!("{}{hint}{prompt}{acr}", login_url(return_to));
        // To others a path would be one of their own: to a script of another origin, and to a proxy that asks.
        if self.is_asked_elsewhere || is_from_elsewhere(self.headers, self.authority) {
            format!("https://{}{path}", self.authority)
        } else {
            path
        }
    }

    /// Where what was asked for is no page, a login leads back to the page that it was asked from.
    fn login_url_from_page(&self) -> String {
        let page = page_of(self.headers, self.authority, self.serves);
        self.login_url(page.as_str())
    }

    fn form_refused(&self) -> Page {
        let way = match self.keeping {
            Keeping::Kept => self.login_url(&place(kept::PLACE)),
            Keeping::No | Keeping::TooLarge => self.login_url_from_page(),
        };
        let mut page = self.pages.error(&ErrorView {
            status: StatusCode::UNAUTHORIZED,
            title: if self.anew {
                "Log in once more"
            } else {
                "You are not logged in"
            },
            message: match self.keeping {
                Keeping::Kept => {
                    "What you sent was not processed yet: you have to log in first. It is kept for 15 minutes, and you are asked then \
                     whether to send it."
                }
                Keeping::No => "What you sent was not taken: you have to log in first.",
                Keeping::TooLarge => {
                    "What you sent was not taken: you have to log in first. It was too large to be kept."
                }
            },
            hint: (self.keeping != Keeping::Kept).then_some(
                "The page that you came from may still hold it: go back there to keep a copy.",
            ),
            request_id: &self.id.to_string(),
            action: Some(("Log in", &way)),
        });
        demand_session(&mut page);
        page
    }

    fn unauthorized(&self) -> Page {
        let login_url = self.login_url_from_page();
        let body = json!({ "error": self.error(), "login_url": login_url, "request_id": self.id.to_string() });
        let mut page = json_page(StatusCode::UNAUTHORIZED, &body);
        demand_session(&mut page);
        page
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

/// A scheme that no browser knows, so that none shows a password dialog of its own.
fn demand_session(page: &mut Page) {
    page.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Session realm=\"doorward\""),
    );
}

/// A response of trailers only: status 16, UNAUTHENTICATED, in the form that was spoken (gRPC-Web has its own).
fn grpc_unauthenticated(asked: &HeaderMap) -> Page {
    let mut page = page(StatusCode::OK, "application/grpc", Bytes::new());
    let headers = page.headers_mut();
    let spoken = asked.get(header::CONTENT_TYPE);
    if let Some(spoken) = spoken.filter(|spoken| is_grpc(spoken.as_bytes())) {
        headers.insert(header::CONTENT_TYPE, spoken.clone());
    }
    headers.insert("grpc-status", HeaderValue::from_static("16"));
    headers.insert("grpc-message", HeaderValue::from_static("login required"));
    // Without this, scripts of other origins that may read the answer do not see these two.
    let told = HeaderValue::from_static("grpc-status, grpc-message");
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, told);
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTML: (&str, &str) = ("accept", "text/html,*/*;q=0.8");
    const NAVIGATE: (&str, &str) = ("sec-fetch-mode", "navigate");
    const CORS: (&str, &str) = ("sec-fetch-mode", "cors");

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let named = fields.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        named.collect()
    }

    fn audience(method: &Method, fields: &[(&'static str, &'static str)]) -> Audience {
        Asker::of(method, &headers(fields)).audience()
    }

    #[test]
    fn only_navigations_that_read_are_sent_to_log_in() {
        for (fields, expected) in [
            (&[HTML][..], Audience::Person),
            (&[HTML, NAVIGATE], Audience::Person),
            (&[NAVIGATE], Audience::Person),
            (
                &[NAVIGATE, ("sec-fetch-dest", "document")],
                Audience::Person,
            ),
            (&[NAVIGATE, ("sec-fetch-dest", "iframe")], Audience::Person),
            (&[NAVIGATE, ("sec-fetch-dest", "embed")], Audience::Program),
            (&[NAVIGATE, ("sec-fetch-dest", "object")], Audience::Program),
            (&[HTML, CORS], Audience::Program),
            (&[HTML, ("sec-fetch-mode", "no-cors")], Audience::Program),
            (
                &[HTML, ("x-requested-with", "XMLHttpRequest")],
                Audience::Program,
            ),
            (&[HTML, ("service-worker", "script")], Audience::Program),
            (&[HTML, ("origin", "https://a.example")], Audience::Program),
            (&[("accept", "*/*")], Audience::Program),
            (&[("accept", "text/event-stream")], Audience::Program),
            (&[], Audience::Program),
            (&[HTML, ("upgrade", "websocket")], Audience::Program),
            (
                &[HTML, ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")],
                Audience::Program,
            ),
        ] {
            for method in [Method::GET, Method::HEAD] {
                assert_eq!(audience(&method, fields), expected, "{method} {fields:?}");
            }
        }
    }

    #[test]
    fn a_form_is_a_persons_and_what_a_script_sends_is_not() {
        let origin = ("origin", "https://a.example");
        for (fields, expected) in [
            (&[HTML, NAVIGATE, origin][..], Audience::Form),
            (&[HTML, origin], Audience::Form),
            (&[HTML, CORS, origin], Audience::Program),
            (
                &[HTML, ("x-requested-with", "XMLHttpRequest")],
                Audience::Program,
            ),
            (&[("accept", "application/json")], Audience::Program),
            (
                &[("content-type", "application/grpc+proto")],
                Audience::Grpc,
            ),
            (
                &[HTML, NAVIGATE, ("content-type", "application/grpc-web")],
                Audience::Grpc,
            ),
        ] {
            assert_eq!(audience(&Method::POST, fields), expected, "{fields:?}");
        }
    }

    fn challenged(method: &Method, fields: &[(&'static str, &'static str)], anew: bool) -> Page {
        let headers = headers(fields);
        let challenge = Challenge {
            asker: Asker::of(method, &headers),
            target: "/a?b=c&d",
            authority: "a.example:8443",
            headers: &headers,
            serves: &|host, port| host == "b.example" && port == Some(8443),
            pages: &Pages::new(),
            anew,
            provider: None,
            acr_values: &[],
            edge: None,
            is_asked_elsewhere: false,
            keeping: Keeping::No,
            id: crate::wire::RequestIds::default().next(),
        };
        challenge.respond()
    }

    #[test]
    fn a_person_comes_back_to_the_page_and_a_program_to_the_page_it_runs_in() {
        let login = "/.doorward/login?return_to=";
        let page = challenged(&Method::GET, &[NAVIGATE], false);
        assert_eq!(page.status(), 303);
        assert_eq!(
            page.headers()["location"],
            format!("{login}%2Fa%3Fb%3Dc%26d")
        );
        let at = "https://a.example:8443/app?x=1";
        for (fields, expected) in [
            (&[CORS][..], format!("{login}%2F")),
            (&[CORS, ("referer", at)], format!("{login}%2Fapp%3Fx%3D1")),
            (
                &[CORS, ("referer", "https://evil.example/app")],
                format!("{login}%2F"),
            ),
            (
                &[CORS, ("referer", "https://a.example:8443//evil.example")],
                format!("{login}%2F"),
            ),
            (
                &[
                    CORS,
                    ("referer", "https://b.example:8443/"),
                    ("origin", "https://b.example:8443"),
                ],
                format!("https://a.example:8443{login}https%3A%2F%2Fb.example%3A8443%2F"),
            ),
        ] {
            let page = challenged(&Method::GET, fields, false);
            assert_eq!(page.status(), 401);
            let body: serde_json::Value = serde_json::from_slice(page.body()).unwrap();
            assert_eq!(body["login_url"], expected, "{fields:?}");
            assert_eq!(body["error"], "login_required");
        }
        let page = challenged(&Method::GET, &[CORS], true);
        let body: serde_json::Value = serde_json::from_slice(page.body()).unwrap();
        assert_eq!(body["login_url"], format!("{login}%2F&prompt=login"));
        assert_eq!(body["error"], "reauthentication_required");
    }

    #[test]
    fn a_person_who_sent_a_form_is_shown_what_became_of_it() {
        let from = ("referer", "https://a.example:8443/form");
        let page = challenged(&Method::POST, &[NAVIGATE, from], false);
        assert_eq!(page.status(), 401);
        assert_eq!(
            page.headers()["www-authenticate"],
            "Session realm=\"doorward\""
        );
        let text = std::str::from_utf8(page.body()).unwrap();
        let text = text.replace("&#x2f;", "/");
        assert!(
            text.contains("href=\"/.doorward/login?return_to=%2Fform\""),
            "{text}"
        );
    }

    #[test]
    fn grpc_is_answered_in_the_form_that_was_spoken() {
        for spoken in ["application/grpc+proto", "application/grpc-web-text"] {
            let page = challenged(&Method::POST, &[("content-type", spoken)], false);
            assert_eq!(page.status(), 200);
            assert_eq!(page.headers()["grpc-status"], "16");
            assert_eq!(page.headers()["content-type"], spoken);
            assert!(page.body().is_empty());
        }
    }
}
