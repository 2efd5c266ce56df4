//! Scripts of other origins (WHATWG Fetch section 3.2): on routes that name origins Doorward answers their preflights, which
//! never have a cookie, and says of every answer who may read it. It refuses to know sessions.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};

use super::Refusal;
use super::body::Body;
use super::find::find_route;
use super::path::NormalPath;
use super::visit::Notes;
use crate::routing::{HostRoutes, Route};

/// How long browsers remember what they were told, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const PREFLIGHT_VARIES: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
);

/// Whether a browser asks what a script of another origin may do.
pub(super) fn is_preflight(request: &Parts) -> bool {
    request.method == Method::OPTIONS
        && request.headers.contains_key(header::ORIGIN)
        && request
            .headers
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer, for the route that the announced request leads to. `None`: that route names no origins, so its app speaks
/// for itself.
pub(super) fn preflight(
    request: &Parts,
    (routes, path): (&HostRoutes, &NormalPath<'_>),
    notes: &mut Notes,
) -> Result<Option<Response<Body>>, Refusal> {
    let announced = request
        .headers
        .get(header::ACCESS_CONTROL_REQUEST_METHOD)
        .and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    let Some(announced) = announced else {
        return Ok(None);
    };
    let route = find_route(routes, &announced, path)?;
    if route.cors_origins.is_empty() {
        return Ok(None);
    }
    notes.route = Some(route.clone());
    notes.reader = reader(route, &request.headers);
    if notes.reader.is_none() {
        return Err(Refusal::Origin);
    }
    let mut response = Response::new(Body::own(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let method = HeaderValue::from_str(announced.as_str()).ok();
    let fields = request
        .headers
        .get(header::ACCESS_CONTROL_REQUEST_HEADERS)
        .filter(|fields| is_list_of_names(fields.as_bytes()));
    headers.extend(method.map(|method| (header::ACCESS_CONTROL_ALLOW_METHODS, method)));
    headers.extend(fields.map(|fields| (header::ACCESS_CONTROL_ALLOW_HEADERS, fields.clone())));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    headers.insert(header::VARY, PREFLIGHT_VARIES);
    Ok(Some(response))
}

fn is_list_of_names(value: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_, ".contains(byte);
    value.len() <= 1024 && value.iter().all(fits)
}

/// The origin of a request, where the route lets its scripts read the answer.
pub(super) fn reader(route: &Route, headers: &HeaderMap) -> Option<HeaderValue> {
    if route.cors_origins.is_empty() {
        return None;
    }
    let mut origins = headers.get_all(header::ORIGIN).into_iter();
    let origin = origins.next().filter(|_| origins.next().is_none())?;
    route.cors_origins.contains(origin).then(|| origin.clone())
}

/// Says who may read an answer. On a route that names origins nobody else says that, the app neither.
pub(super) fn allow(response: &mut HeaderMap, notes: &Notes) {
    let speaks = |route: &Route| !route.cors_origins.is_empty();
    if !notes.route.as_deref().is_some_and(speaks) {
        return;
    }
    response.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
    response.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    if let Some(reader) = &notes.reader {
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, reader.clone());
        response.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
    }
    // What caches hold for one origin is not for another.
    let varies = response.get_all(header::VARY).iter().any(|vary| {
        let mut names = vary.as_bytes().split(|&byte| byte == b',');
        names.any(|name| name.trim_ascii().eq_ignore_ascii_case(b"origin"))
    });
    if !varies {
        response.append(header::VARY, ORIGIN);
    }
}
