//! The last steps before a request goes on to its app and before the answer goes back: what only we may say is taken
//! out and then said, in the same header map, without a new one.

use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};

use super::Shared;
use super::data;
use super::gate::Bearer;
use super::hop::{forbidden_trailer, strip_hop_by_hop};
use super::memo::HostMemo;
use super::path::NormalPath;
use crate::identity::{ASSERTION, Forwarding, fold_eq};
use crate::routing::{Edits, Route};
use crate::session::is_ours;
use crate::upstream::{Prefix, Target, rewrite_location};

const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HTTPS: HeaderValue = HeaderValue::from_static("https");
const VIA_HTTP1: HeaderValue = HeaderValue::from_static("1.1 doorward");
const VIA_HTTP2: HeaderValue = HeaderValue::from_static("2.0 doorward");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const TE: HeaderValue = HeaderValue::from_static("te");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// What is said about a request to its app.
pub(super) struct Statement<'a> {
    pub(super) route: &'a Route,
    pub(super) host: &'a HostMemo,
    pub(super) x_forwarded_for: &'a HeaderValue,
    pub(super) forwarded: &'a HeaderValue,
    pub(super) bearer: Option<&'a Bearer>,
    pub(super) wants_trailers: bool,
    pub(super) upgrade: bool,
}

/// Completes the fields of a request from which everything that only we may say has been stripped.
pub(super) fn state(request: &mut Parts, shared: &Shared, statement: &Statement<'_>) {
    let via = match request.version {
        Version::HTTP_2 => VIA_HTTP2,
        _ => VIA_HTTP1,
    };
    request.version = Version::HTTP_11;
    let headers = &mut request.headers;
    headers.append(header::VIA, via);
    if shared.forwarding != Forwarding::Forwarded {
        headers.insert(X_FORWARDED_FOR, statement.x_forwarded_for.clone());
        headers.insert(X_FORWARDED_PROTO, HTTPS);
        headers.insert(X_FORWARDED_HOST, statement.host.x_forwarded_host.clone());
    }
    if shared.forwarding != Forwarding::XForwarded {
        headers.insert(header::FORWARDED, statement.forwarded.clone());
    }
    let host = told_host(statement.route, statement.host);
    headers.insert(header::HOST, host.clone());
    if statement.upgrade {
        headers.insert(header::UPGRADE, WEBSOCKET);
        headers.insert(header::CONNECTION, UPGRADE);
    } else if statement.wants_trailers {
        headers.insert(header::TE, TRAILERS);
        headers.insert(header::CONNECTION, TE);
    }
    edit(headers, &statement.route.request_headers);
    // Last, so that no edit can put somebody else's name there.
    let Some(bearer) = statement.bearer else {
        return;
    };
    tell_who(headers, shared, (statement.route, bearer));
    if let (Some(namespace), Bearer::Session(session)) = (&statement.route.session_data, bearer) {
        data::tell(headers, shared, (namespace, session));
    }
}

/// Puts in who the user is, also as a signed statement where the route has one.
pub(super) fn tell_who(
    headers: &mut HeaderMap,
    shared: &Shared,
    (route, bearer): (&Route, &Bearer),
) {
    let identity = match bearer {
        Bearer::Credential(grant, _) => Some(grant.headers(&shared.layout)),
        Bearer::Session(session) => session.headers(&shared.layout),
    };
    if let Some(identity) = identity {
        identity.insert(headers);
    }
    if let Some(audience) = &route.assertion {
        assert(headers, shared, (audience, bearer));
    }
}

fn assert(headers: &mut HeaderMap, shared: &Shared, (audience, bearer): (&str, &Bearer)) {
    let Some(signer) = &shared.signer else { return };
    let now = shared.clock.now();
    let assertion = match bearer {
        Bearer::Credential(grant, _) => grant.assertion(signer, audience, now),
        Bearer::Session(session) => session.assertion(signer, audience, now),
    };
    if let Some(assertion) = assertion {
        headers.insert(ASSERTION, assertion);
    }
}

/// The target of the request to the app, in origin form: the path that the rules saw, less or plus the route's prefix.
pub(super) fn target(uri: &Uri, path: &NormalPath<'_>, route: &Route) -> Option<Uri> {
    let is_plain = route.strip_prefix.is_none() && route.add_prefix.is_none();
    if is_plain && path.is_as_written() {
        return match uri.authority() {
            None => None,
            Some(_) => uri.path_and_query().cloned().map(Uri::from),
        };
    }
    let stripped = route
        .strip_prefix
        .as_deref()
        .and_then(|prefix| path.as_str().strip_prefix(prefix));
    let rest = stripped.unwrap_or(path.as_str());
    let gap = if rest.starts_with('/') { "" } else { "/" };
    let prefix = route.add_prefix.as_deref().unwrap_or_default();
    let query = uri
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    let text = format!("{prefix}{gap}{rest}{query}");
    // The path is canonical and the query was part of a target before, so this does not fail; where it did, the
    // request must not go on with another path than the one that was judged.
    Some(PathAndQuery::try_from(text).map_or(Uri::from_static("/.doorward/invalid"), Uri::from))
}

/// Whether an app that has changed the protocol says that it is to WebSocket, and to nothing else.
pub(super) fn is_websocket(headers: &HeaderMap) -> bool {
    let mut upgrades = headers.get_all(header::UPGRADE).into_iter();
    let named = upgrades.next().map(HeaderValue::as_bytes);
    named.is_some_and(|name| name.eq_ignore_ascii_case(b"websocket")) && upgrades.next().is_none()
}

/// Says that the connection speaks WebSocket from here on.
pub(super) fn switch(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, UPGRADE);
    headers.insert(header::UPGRADE, WEBSOCKET);
}

/// Takes out of a response what is between us and the app only, and what an app must not say to a browser.
pub(super) fn clean_response(headers: &mut HeaderMap, shared: &Shared) {
    let has_transfer_encoding = headers.contains_key(header::TRANSFER_ENCODING);
    strip_hop_by_hop(headers);
    if has_transfer_encoding {
        headers.remove(header::CONTENT_LENGTH);
    }
    if headers.contains_key(header::SET_COOKIE) {
        drop_our_cookies(headers, &shared.cookie_names);
    }
    if let Some(value) = headers.remove(CLEAR_SITE_DATA)
        && let Some(kept) = without_cookies(&value)
    {
        headers.insert(CLEAR_SITE_DATA, kept);
    }
    remove_all(headers, is_not_the_apps_to_say);
}

/// Takes out of the trailers of a response what an app must not say to a browser, in whatever place.
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    remove_all(trailers, |name| {
        forbidden_trailer(name)
            || is_not_the_apps_to_say(name)
            || matches!(name, "clear-site-data" | "strict-transport-security")
    });
}

/// Other ports for this origin, our own statements, and what would bind our sessions.
fn is_not_the_apps_to_say(name: &str) -> bool {
    matches!(name.as_bytes().first(), Some(b'a' | b'd' | b's'))
        && (name == "alt-svc"
            || name.starts_with("doorward-")
            || name.starts_with("secure-session-"))
}

fn remove_all(headers: &mut HeaderMap, is_named: impl Fn(&str) -> bool) {
    while let Some(name) = headers.keys().find(|name| is_named(name.as_str())).cloned() {
        headers.remove(&name);
    }
}

/// What of `Clear-Site-Data` does not touch our cookies.
fn without_cookies(value: &HeaderValue) -> Option<HeaderValue> {
    let text = value.to_str().ok()?;
    let kept = text.split(',').map(str::trim);
    let kept: Vec<&str> = kept
        .filter(|part| matches!(*part, "\"cache\"" | "\"storage\""))
        .collect();
    (!kept.is_empty())
        .then(|| HeaderValue::try_from(kept.join(", ")).ok())
        .flatten()
}

fn drop_our_cookies(headers: &mut HeaderMap, names: &[String]) {
    let all = headers.get_all(header::SET_COOKIE);
    if !all.iter().any(|cookie| is_ours(cookie.as_bytes(), names)) {
        return;
    }
    let kept: Vec<HeaderValue> = all
        .iter()
        .filter(|cookie| !is_ours(cookie.as_bytes(), names))
        .cloned()
        .collect();
    headers.remove(header::SET_COOKIE);
    for cookie in kept {
        headers.append(header::SET_COOKIE, cookie);
    }
}

/// The Host that the app is told.
fn told_host<'a>(route: &'a Route, host: &'a HostMemo) -> &'a HeaderValue {
    route.send_host.as_ref().unwrap_or(&host.x_forwarded_host)
}

/// Completes a cleaned response to what was asked of `host`.
pub(super) fn complete_response(
    headers: &mut HeaderMap,
    route: &Route,
    target: &Target,
    host: &HostMemo,
) {
    if let Some(location) = headers.get(header::LOCATION) {
        let prefix = Prefix {
            stripped: route.strip_prefix.as_deref(),
            added: route.add_prefix.as_deref(),
        };
        let text = location.to_str().ok();
        let sent = told_host(route, host).to_str().unwrap_or_default();
        let rewritten = text.and_then(|text| rewrite_location(text, target, sent, prefix));
        if let Some(rewritten) = rewritten.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(header::LOCATION, rewritten);
        }
    }
    edit(headers, &route.response_headers);
}

fn edit(headers: &mut HeaderMap, edits: &Edits) {
    for name in &edits.remove {
        headers.remove(name);
    }
    for (name, value) in &edits.set {
        headers.insert(name, value.clone());
    }
}

/// Takes out of the trailers of a request what frames, routes, or says who somebody is.
pub(super) fn drop_forbidden_trailers(trailers: &mut HeaderMap, shared: &super::Stripped) {
    remove_all(trailers, |name| {
        forbidden_trailer(name)
            || shared.identity.matches(name)
            || shared.forwarding.matches(name)
            || fold_eq(name, "host")
    });
}
