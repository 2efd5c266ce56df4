//! What becomes of an app's answer that began or ended a session: our cookies go along, and it may lead elsewhere.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use http::{Response, StatusCode};

use super::body::Body;

const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What is added to an answer once everything else about it is settled.
#[derive(Debug, Default)]
pub(super) struct Aftermath {
    /// `Set-Cookie`, beside the app's own.
    pub(super) cookies: Vec<HeaderValue>,
    /// Where the browser is led to, whatever the app said; its cookies go along.
    pub(super) target: Option<String>,
    pub(super) clear_site_data: Option<HeaderValue>,
}

impl Aftermath {
    pub(super) fn apply(self, response: Response<Body>) -> Response<Body> {
        let mut response = match self.target.map(HeaderValue::try_from) {
            Some(Ok(target)) => led(&response, target),
            // What was judged to be a place of ours is always a value.
            Some(Err(_)) | None => response,
        };
        let headers = response.headers_mut();
        // It is for this browser alone, and for now.
        headers.insert(CACHE_CONTROL, NO_STORE);
        for cookie in self.cookies {
            headers.append(SET_COOKIE, cookie);
        }
        if let Some(kinds) = self.clear_site_data {
            headers.insert(CLEAR_SITE_DATA, kinds);
        }
        response
    }
}

fn led(response: &Response<Body>, target: HeaderValue) -> Response<Body> {
    let mut led = Response::new(Body::own(Bytes::new()));
    *led.status_mut() = StatusCode::SEE_OTHER;
    let headers = led.headers_mut();
    for cookie in response.headers().get_all(SET_COOKIE) {
        headers.append(SET_COOKIE, cookie.clone());
    }
    headers.insert(LOCATION, target);
    led
}
