//! What an app keeps in a session, on its way: told to it with a request, and taken out of its response, which goes on only
//! once what it says is stored (R6).

use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::request::Parts;

use super::exchange::Onward;
use super::visit::{Notes, Visit};
use super::{Refusal, Shared};
use crate::portal::is_same_origin;
use crate::routing::{Access, Route};
use crate::session::{Change, DataError, LiveSession, Visitor};
use crate::telemetry::DataChange;

const DATA: HeaderName = HeaderName::from_static("doorward-session-data");
const OMITTED: HeaderName = HeaderName::from_static("doorward-session-omitted");
const SESSION: HeaderName = HeaderName::from_static("doorward-session");
const SET: HeaderName = HeaderName::from_static("doorward-session-set");
const UNSET: HeaderName = HeaderName::from_static("doorward-session-unset");

/// Tells an app what it keeps in the session of a request.
pub(super) fn tell(
    headers: &mut HeaderMap,
    shared: &Shared,
    (namespace, session): (&str, &LiveSession),
) {
    if let Ok(sid) = HeaderValue::try_from(session.sid().to_string()) {
        headers.insert(SESSION, sid);
    }
    let Some(shown) = shared.sessions.shown_data(session, namespace) else {
        return;
    };
    // An empty dictionary is one that is not there (RFC 9651 section 3.2).
    if !shown.data.is_empty() {
        headers.insert(DATA, shown.data);
    }
    if let Some(omitted) = shown.omitted {
        headers.insert(OMITTED, omitted);
    }
}

/// Where something is kept that an app says in its response.
pub(super) struct Keeper<'a> {
    route: &'a Route,
    namespace: &'a str,
    session: Option<&'a LiveSession>,
    /// Who gets a session if there is none yet.
    visitor: Option<Visitor>,
}

impl<'a> Keeper<'a> {
    /// Of a request before it is sent on. `None`: the route's app keeps nothing.
    pub(super) fn of(parts: &Parts, onward: &Onward<'a>, notes: &Notes) -> Option<Self> {
        let Onward { route, passed, .. } = *onward;
        let namespace = route.session_data.as_deref()?;
        let session = passed.session();
        // One who has a session that is not good enough here is to keep it.
        let is_visitor = route.access == Access::Anonymous && session.is_none() && !notes.anew;
        let authority = std::str::from_utf8(&onward.host.authority).unwrap_or_default();
        let visitor = (is_visitor && comes_with_cookies(parts, authority)).then(|| Visitor {
            address: onward.client.ip,
            user_agent: parts.headers.get(USER_AGENT).cloned(),
        });
        Some(Self {
            route,
            namespace,
            session,
            visitor,
        })
    }
}

impl<'a> Keeper<'a> {
    /// What is kept goes into a session that has begun meanwhile, if any.
    pub(super) fn within(self, session: Option<&'a LiveSession>) -> Self {
        match session {
            Some(session) => Self {
                session: Some(session),
                visitor: None,
                ..self
            },
            None => self,
        }
    }
}

/// Whether a browser that has a session would have said so. A form that another site sends comes without our cookies
/// (`SameSite`): a session that began with it would take the place of the one that the browser has.
fn comes_with_cookies(parts: &Parts, authority: &str) -> bool {
    let said = |name: &str| parts.headers.get(name).map(HeaderValue::as_bytes);
    let is_read = matches!(parts.method, Method::GET | Method::HEAD);
    let is_navigation =
        said("sec-fetch-mode") == Some(b"navigate") && said("sec-fetch-dest") == Some(b"document");
    (is_read && is_navigation) || is_same_origin(&parts.headers, authority)
}

impl Visit {
    /// Stores what an app wants kept. A cookie where a session has begun with it.
    pub(super) async fn keep(
        &self,
        headers: &mut HeaderMap,
        keeper: Keeper<'_>,
    ) -> Result<Option<HeaderValue>, Refusal> {
        if !headers.contains_key(&SET) && !headers.contains_key(&UNSET) {
            return Ok(None);
        }
        let change = Change::parse(&lines(headers, &SET), &lines(headers, &UNSET));
        let Keeper {
            route,
            namespace,
            session,
            visitor,
        } = keeper;
        let shared = &*self.pipeline.shared;
        let done = match (change, session, &visitor) {
            (Err(refused), ..) => Err(self.not_taken(refused.into())),
            (Ok(change), Some(session), _) => {
                let changed = shared.sessions.change_data(session, namespace, change);
                changed.await.map(|()| None)
            }
            (Ok(change), None, Some(visitor)) => {
                let begun = shared.sessions.begin_visit(visitor, namespace, &change);
                begun.await
            }
            (Ok(_), None, None) => Err(self.not_taken(DataError::Gone)),
        };
        match done {
            Ok(issued) => Ok(issued.map(|issued| issued.cookie)),
            Err(error) => refuse(error, route, session.is_some() || visitor.is_some()),
        }
    }

    fn not_taken(&self, error: DataError) -> DataError {
        self.pipeline.shared.metrics.data(DataChange::Refused);
        error
    }
}

/// What cannot be kept is said and the response passes; what was to be stored and is not, stops it.
fn refuse(
    error: DataError,
    route: &Route,
    has_place: bool,
) -> Result<Option<HeaderValue>, Refusal> {
    match error {
        DataError::Gone | DataError::Crowded | DataError::Store(_) if has_place => {
            Err(Refusal::Store(error.to_string()))
        }
        error => {
            tracing::warn!(route = route.id, %error, "an app's session data was not taken");
            Ok(None)
        }
    }
}

/// All lines of a field, as one.
fn lines(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    let lines = headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    let lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
    lines.join(&b", "[..])
}
