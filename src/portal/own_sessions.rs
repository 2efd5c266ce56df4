//! A person's own sessions: a GET shows them, a POST with the right form token ends one, or all others. Nobody sees or
//! ends anybody else's here.

use std::cmp::Reverse;

use http::HeaderMap;

use super::away::is_visit;
use super::challenge::redirect;
use super::session_list::{SessionRow, SessionsView};
use super::sign_out::{form_token, is_form_token};
use super::{
    Asker, Audience, Portal, PortalError, PortalRequest, form, kept, login_url, passkeys, password,
    place, two_factor,
};
use crate::clock::Timestamp;
use crate::identity::Identity;
use crate::session::store::StoreError;
use crate::session::{Listed, LiveSession, Sid, device};
use crate::telemetry::AuditEvent;
use crate::wire::{ClientBody, Page};

/// The place below the reserved prefix.
pub(super) const PLACE: &str = "sessions";

/// Sessions that are looked at, and those of them that are shown.
const MAX_LOOKED_AT: usize = 1000;
const MAX_SHOWN: usize = 50;

/// What the form says for all but the session that it is sent from.
const OTHERS: &str = "others";

/// In the query of the page that follows the form.
const DONE: &str = "done";

/// What is a person's own, and no app's.
const OWN_PAGES: [&str; 5] = [
    kept::PLACE,
    PLACE,
    password::PLACE,
    passkeys::PLACE,
    two_factor::PLACE,
];

impl Portal {
    /// Apps are of the same origin, and so are scripts that somebody smuggled into one: by what such a script read there, it
    /// would add a passkey of its own. So these pages are opened and their forms sent by people, as far as the browser says.
    pub(super) fn demand_person(&self, request: &PortalRequest<'_>) -> Result<(), PortalError> {
        let is_own = OWN_PAGES.contains(&request.place) && request.session.is_some();
        if !is_own || is_visit(request.headers) {
            return Ok(());
        }
        self.refuse_elsewhere(request)
    }

    pub(super) async fn show_sessions(
        &self,
        request: &PortalRequest<'_>,
    ) -> Result<Page, PortalError> {
        let Some((session, identity)) = logged_in(request) else {
            return Ok(self.ask_to_log_in(request, PLACE));
        };
        let listed = self
            .sessions
            .list_of(&identity.subject, MAX_LOOKED_AT)
            .await;
        let (mut listed, mut is_cut) = listed.map_err(|error| store(&error))?;
        let (this, now) = (session.sid(), self.sessions.clock().now());
        listed.sort_by_key(|other| {
            let latest = Reverse((other.last_seen, other.created, other.sid));
            (other.sid != this, latest)
        });
        is_cut |= listed.len() > MAX_SHOWN;
        listed.truncate(MAX_SHOWN);
        let rows: Vec<SessionRow> = listed.iter().map(|other| row(other, this, now)).collect();
        Ok(self.pages.sessions(&SessionsView {
            user: &identity.user,
            host: request.host,
            action: &place(PLACE),
            logout_url: &place("logout"),
            passkeys_url: self.passkeys_url(identity).as_deref(),
            password_url: self.password_url(identity).as_deref(),
            form_token: &form_token(&self.keyring, session),
            sessions: &rows,
            is_cut,
            is_done: request.parameter(DONE).is_some(),
        }))
    }

    pub(super) async fn end_sessions(
        &self,
        request: &PortalRequest<'_>,
        body: ClientBody,
    ) -> Result<Page, PortalError> {
        self.demand_same_origin(request)?;
        let Some((session, identity)) = logged_in(request) else {
            return Ok(self.ask_to_log_in(request, PLACE));
        };
        let form = form::read(body).await?;
        let field = |name: &str| form.get(name).map_or("", |value| value.as_str());
        if !is_form_token(&self.keyring, session, field("token")) {
            return Err(PortalError::CrossSite);
        }
        let ended = if field("end") == OTHERS {
            let ended = self.sessions.end_others(session).await;
            ended.map_err(|error| store(&error))?
        } else {
            let sid = Sid::parse(field("end")).ok_or(PortalError::NotFound)?;
            if sid == session.sid() {
                // That is a logout, which asks first and takes the cookie along.
                return Ok(redirect(&place("logout")));
            }
            let ended = self.sessions.end_own(session, sid).await;
            if !ended.map_err(|error| store(&error))? {
                return Err(PortalError::NotFound);
            }
            1
        };
        self.audit.record(&AuditEvent::SessionsRevokedByUser {
            sid: session.sid().to_string(),
            user: identity.user.clone(),
            ended,
            address: request.client,
        });
        Ok(redirect(&format!("{}?{DONE}", place(PLACE))))
    }

    /// For a page of ours that needs to know whose it is.
    pub(super) fn ask_to_log_in(&self, request: &PortalRequest<'_>, name: &str) -> Page {
        match audience(request.method, request.headers) {
            Audience::Person => redirect(&login_url(&place(name))),
            Audience::Form | Audience::Grpc | Audience::Program => self.who_am_i(request),
        }
    }
}

/// Whoever sends a form reads the answer too.
fn audience(method: &http::Method, headers: &HeaderMap) -> Audience {
    Asker::of(method, headers).audience_of_errors()
}

pub(super) fn logged_in<'a>(
    request: &PortalRequest<'a>,
) -> Option<(&'a LiveSession, &'a Identity)> {
    let session = request.session?;
    Some((session, session.identity()?))
}

fn store(error: &StoreError) -> PortalError {
    PortalError::Store(error.to_string())
}

fn row(listed: &Listed, this: Sid, now: Timestamp) -> SessionRow {
    let listing = listed.listing.as_ref();
    SessionRow {
        sid: listed.sid.to_string(),
        device: device(listing.and_then(|listing| listing.user_agent.as_deref())),
        address: listing.map(|listing| listing.address.to_string()),
        began: listed.created.to_string(),
        began_ago: ago(now, listed.created),
        seen: listed.last_seen.to_string(),
        seen_ago: ago(now, listed.last_seen),
        is_this: listed.sid == this,
    }
}

/// How long ago something was, in words: a page without scripts does not know its reader's time zone.
fn ago(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.since(then).as_secs();
    let (count, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural} ago")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_span_is_told_in_its_largest_unit() {
        let then = Timestamp::from_millis(1_000);
        for (seconds, words) in [
            (0, "just now"),
            (59, "just now"),
            (60, "1 minute ago"),
            (3599, "59 minutes ago"),
            (3600, "1 hour ago"),
            (86_399, "23 hours ago"),
            (86_400, "1 day ago"),
            (30 * 86_400, "30 days ago"),
        ] {
            assert_eq!(ago(then.after(Duration::from_secs(seconds)), then), words);
        }
        assert_eq!(ago(then, then.after(Duration::from_hours(1))), "just now");
    }
}
