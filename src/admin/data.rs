//! The data that an app keeps in a session, for that app: with the key of its namespace, and with no other.

use std::pin::pin;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MATCH};
use http::{Method, Request, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use serde_json::{Map, Value};

use super::api::{Api, bearer, is_same, no_content, no_session, silent_store};
use super::{Caller, problem, wrong_method};
use crate::session::{DataError, Edit, Expected, Namespace, Sid, Space};
use crate::wire::{Page, json_page};

/// Escapes and punctuation make JSON longer than what is kept of it.
const JSON_FACTOR: usize = 4;

/// `sessions/SID/data/NAMESPACE`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct DataPlace<'a> {
    sid: &'a str,
    namespace: &'a str,
}

impl<'a> DataPlace<'a> {
    /// `place` is what follows the prefix of the API.
    pub(super) fn of(place: &'a str) -> Option<Self> {
        let (sid, namespace) = place.strip_prefix("sessions/")?.split_once("/data/")?;
        Some(Self { sid, namespace })
    }
}

impl Api {
    pub(super) async fn answer_data<B>(
        &self,
        caller: Caller,
        place: &DataPlace<'_>,
        request: Request<B>,
    ) -> Page
    where
        B: Body<Data = Bytes>,
    {
        let namespace = match self.namespace(caller, place.namespace, request.headers()) {
            Ok(namespace) => namespace,
            Err(refusal) => return *refusal,
        };
        let Some(sid) = Sid::parse(place.sid) else {
            return no_session();
        };
        let expected = match expected(request.headers()) {
            Ok(expected) => expected,
            Err(detail) => return problem(StatusCode::BAD_REQUEST, Some(detail)),
        };
        let method = request.method().clone();
        let edit = match method {
            Method::GET | Method::HEAD => {
                let space = self.sessions.data_of(sid, namespace).await;
                return space.map_or_else(|error| refusal(&error), |space| told(&space));
            }
            Method::DELETE => Edit::Clear,
            Method::PATCH | Method::PUT => match self.object(request).await {
                Ok(json) if method == Method::PUT => Edit::Replace(json),
                Ok(json) => Edit::Patch(json),
                Err(refusal) => return *refusal,
            },
            _ => return wrong_method("GET, HEAD, PUT, PATCH, DELETE"),
        };
        let is_clear = edit == Edit::Clear;
        let edited = self.sessions.edit_data(sid, namespace, (edit, expected));
        match edited.await {
            Ok(_) if is_clear => no_content(),
            Ok(space) => told(&space),
            Err(error) => refusal(&error),
        }
    }

    /// The namespace, if the caller may come for it. One that is not there looks like one of another key.
    fn namespace(
        &self,
        caller: Caller,
        name: &str,
        headers: &HeaderMap,
    ) -> Result<&Namespace, Box<Page>> {
        let known = self.sessions.settings().data.namespace(name);
        let Caller::Address(address) = caller else {
            let detail = "no `[[session.namespace]]` of this name is configured";
            return known.ok_or_else(|| problem(StatusCode::NOT_FOUND, Some(detail)).into());
        };
        let shown = bearer(headers).unwrap_or_default();
        let opens = |namespace: &&Namespace| {
            let mut keys = namespace.keys.iter();
            keys.any(|key| is_same(shown, key.expose()))
        };
        let detail = "send the key of the namespace: `Authorization: Bearer …`";
        known
            .filter(opens)
            .ok_or_else(|| self.refuse(address, detail).into())
    }

    async fn object<B>(&self, request: Request<B>) -> Result<Map<String, Value>, Box<Page>>
    where
        B: Body<Data = Bytes>,
    {
        if !is_json(request.headers()) {
            let detail = "send `Content-Type: application/json` or `application/merge-patch+json`";
            return Err(problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, Some(detail)).into());
        }
        let max = JSON_FACTOR * self.sessions.settings().data.limits.max_bytes;
        let (mut json, mut is_whole) = (Vec::new(), true);
        let mut body = pin!(request.into_body());
        // To its end, and no more of it than may be: who is still sending reads no answer.
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| problem(StatusCode::BAD_REQUEST, None))?;
            let data = frame.into_data().unwrap_or_default();
            is_whole &= json.len() + data.len() <= max;
            if is_whole {
                json.extend_from_slice(&data);
            }
        }
        if !is_whole {
            let detail = format!("that is more than {max} bytes");
            return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, Some(&detail)).into());
        }
        serde_json::from_slice(&json).map_err(|error| {
            let detail = format!("the body is not a JSON object: {error}");
            problem(StatusCode::BAD_REQUEST, Some(&detail)).into()
        })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next());
    kind.is_some_and(|kind| {
        let kind = kind.trim();
        ["application/json", "application/merge-patch+json"]
            .iter()
            .any(|known| kind.eq_ignore_ascii_case(known))
    })
}

/// `If-Match`. A weak tag fits nothing (RFC 9110 section 13.1.1).
fn expected(headers: &HeaderMap) -> Result<Expected, &'static str> {
    let mut tags = Vec::new();
    let mut fields = headers.get_all(IF_MATCH).iter().peekable();
    if fields.peek().is_none() {
        return Ok(Expected::Whatever);
    }
    for field in fields {
        let text = field.to_str().map_err(|_| "If-Match cannot be read")?;
        for part in text.split(',').map(str::trim) {
            if part == "*" {
                return Ok(Expected::Any);
            }
            let quoted = part.strip_prefix("W/").unwrap_or(part);
            let tag = quoted
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'));
            let tag = tag.ok_or("If-Match is to hold the ETag of an answer, in quotes")?;
            if !part.starts_with("W/") {
                tags.push(tag.to_owned());
            }
        }
    }
    Ok(Expected::Tags(tags))
}

fn told(space: &Space) -> Page {
    let mut page = json_page(StatusCode::OK, &Value::Object(space.to_json()));
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", space.tag())) {
        page.headers_mut().insert(ETAG, tag);
    }
    page
}

fn refusal(error: &DataError) -> Page {
    let status = match error {
        DataError::Changed => StatusCode::PRECONDITION_FAILED,
        DataError::Gone => return no_session(),
        DataError::Json(_) => StatusCode::BAD_REQUEST,
        DataError::Refused(_) => StatusCode::PAYLOAD_TOO_LARGE,
        DataError::Sealed => StatusCode::CONFLICT,
        DataError::Store(error) => return silent_store(error),
        DataError::Crowded => StatusCode::SERVICE_UNAVAILABLE,
    };
    problem(status, Some(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&'static str]) -> Result<Expected, &'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IF_MATCH, HeaderValue::from_static(value));
        }
        expected(&headers)
    }

    #[test]
    fn a_condition_is_read_strictly() {
        let tags = |tags: &[&str]| {
            let tags = tags.iter().map(|&tag| tag.to_owned());
            Ok(Expected::Tags(tags.collect()))
        };
        assert_eq!(of(&[]), Ok(Expected::Whatever));
        assert_eq!(of(&["*"]), Ok(Expected::Any));
        assert_eq!(of(&["\"a\""]), tags(&["a"]));
        assert_eq!(of(&["\"a\", \"b\"", "\"c\""]), tags(&["a", "b", "c"]));
        assert_eq!(of(&["W/\"a\""]), tags(&[]), "which nothing fits");
        for bad in ["a", "\"a", "", "\"a\",", "W/a"] {
            assert!(of(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_place_names_a_session_and_a_namespace() {
        let place = DataPlace {
            sid: "x",
            namespace: "shop",
        };
        assert_eq!(DataPlace::of("sessions/x/data/shop"), Some(place));
        for other in ["sessions/x", "sessions/x/data", "users/x/data/shop", ""] {
            assert_eq!(DataPlace::of(other), None);
        }
    }
}
