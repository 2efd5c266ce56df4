//! An app that logs people in: what its answer says of that goes to the portal, which begins the session. The route has to
//! allow it; everywhere else the field is taken out unread.

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::Refusal;
use super::aftermath::Aftermath;
use super::exchange::Onward;
use super::gate::Passed;
use super::original::Original;
use super::visit::{Notes, Visit};
use crate::portal::{LetIn, Vouched};
use crate::session::{EndReason, LiveSession};

const LOGIN: HeaderName = HeaderName::from_static("doorward-login");

/// Somebody whom an app has logged in.
#[derive(Debug)]
pub(super) struct Entered {
    /// What the app keeps goes into this session. `None` where the route keeps nothing.
    pub(super) session: Option<LiveSession>,
    pub(super) aftermath: Aftermath,
}

impl Visit {
    /// Begins the session of somebody whom an app has logged in with this answer. What the app says is to be right in every
    /// respect: or else its whole answer is withheld, and nobody is logged in.
    pub(super) async fn enter(
        &self,
        (original, onward): (&Original, &Onward<'_>),
        (status, headers): (StatusCode, &HeaderMap),
        notes: &mut Notes,
    ) -> Result<Option<Entered>, Refusal> {
        let said = headers.get_all(&LOGIN).into_iter().cloned();
        let statement: Vec<HeaderValue> = said.collect();
        if statement.is_empty() {
            return Ok(None);
        }
        let Onward { route, host, .. } = *onward;
        let Some(provider) = &route.may_log_in else {
            return Ok(None);
        };
        if !can_log_in(status, headers) {
            let status = status.as_u16();
            tracing::warn!(
                route = route.id,
                status,
                "an app says who has logged in where nobody can: in an error or a stream"
            );
            return Ok(None);
        }
        let shared = &*self.pipeline.shared;
        let serves = |named: &str, port| shared.serves(named, port, host);
        let request = original.as_asked((onward, onward.passed.session()), &serves);
        let vouched = Vouched {
            provider,
            asked: original.came,
            method: &original.method,
            is_page: original.is_page,
            statement: &statement,
        };
        // The app goes on with its cookies in the new session, whatever becomes of this one.
        let jar = route.cookie_jar.as_ref().map(|jar| jar.name.as_str());
        let before = onward.passed.session();
        if let Some(before) = before {
            shared.sessions.spare_jar(before, jar);
        }
        let entry = shared.portal.let_in_from_app(&request, &vouched).await;
        if let (Err(_), Some(before)) = (&entry, before) {
            shared.sessions.spare_jar(before, None);
        }
        let entry = entry?;
        let LetIn {
            issued,
            cookies,
            target,
        } = entry;
        let session = if route.keeps_things() {
            let entered = shared.sessions.enter(&issued).await;
            Some(entered.map_err(|error| Refusal::Store(error.to_string()))?)
        } else {
            None
        };
        // What this says about cookies is the last word.
        (notes.clear_cookie, notes.session) = (false, None);
        notes.begun = Some(issued.cookie);
        let aftermath = Aftermath {
            cookies,
            target: target.map(|target| target.as_str().to_owned()),
            clear_site_data: None,
        };
        Ok(Some(Entered { session, aftermath }))
    }
}

impl Visit {
    /// A login whose app gets nothing kept is none: nobody was told of it.
    pub(super) async fn withdraw(
        &self,
        begun: Option<&LiveSession>,
        passed: &Passed,
        notes: &mut Notes,
    ) {
        let before = passed.session().map(LiveSession::sid);
        let Some(begun) = begun
            .map(LiveSession::sid)
            .filter(|sid| Some(*sid) != before)
        else {
            return;
        };
        notes.begun = None;
        let sessions = &self.pipeline.shared.sessions;
        // Where the store does not take it now, it is told again.
        let _owed = sessions.end(begun, EndReason::Withdrawn).await;
    }
}

/// A whole answer that says that something went well.
fn can_log_in(status: StatusCode, headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE);
    let kind = kind.map_or(&b""[..], HeaderValue::as_bytes).trim_ascii();
    let is_stream = [&b"text/event-stream"[..], b"application/grpc"]
        .iter()
        .any(|stream| {
            kind.get(..stream.len())
                .is_some_and(|kind| kind.eq_ignore_ascii_case(stream))
        });
    (status.is_success() || status.is_redirection()) && !is_stream
}
