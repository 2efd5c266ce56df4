//! A person's own passkeys: a GET shows them, a POST with the right form token adds or removes one. Who changes
//! anything has shown within the last minutes who they are.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;

use super::challenge::redirect;
use super::own_sessions::{self, logged_in};
use super::passkey_login::{ANSWERED, SCRIPT};
use super::passkeys_page::{PasskeyRow, PasskeysView};
use super::sign_out::{form_token, is_form_token};
use super::{LOGIN_PROMPT, Portal, PortalError, PortalRequest, form, login_url, place};
use crate::identity::Identity;
use crate::login::{Answered, Passkey, PasskeyError, Passkeys};
use crate::secret::Purpose;
use crate::session::LiveSession;
use crate::telemetry::AuditEvent;
use crate::wire::{ClientBody, Page};

/// The place below the reserved prefix.
pub(super) const PLACE: &str = "passkeys";

/// How long ago who adds or removes a passkey may have logged in.
const RECENT: Duration = Duration::from_mins(10);

/// In the query of the page that follows.
const ADDED: &str = "added";
const REMOVED: &str = "removed";

type Problem = (StatusCode, &'static str);

const UNAVAILABLE: Problem = (
    StatusCode::SERVICE_UNAVAILABLE,
    "Passkeys cannot be changed at the moment. Try again in a little while.",
);

impl Portal {
    /// Where somebody's passkeys are, if they may have any.
    pub(super) fn passkeys_url(&self, identity: &Identity) -> Option<String> {
        let passkeys = self.passkeys.as_ref()?;
        (identity.subject.provider == passkeys.provider()).then(|| place(PLACE))
    }

    pub(super) async fn show_passkeys(
        &self,
        request: &PortalRequest<'_>,
    ) -> Result<Page, PortalError> {
        let passkeys = self.passkeys.as_ref().ok_or(PortalError::NotFound)?;
        let Some(who) = logged_in(request) else {
            return Ok(self.ask_to_log_in(request, PLACE));
        };
        self.passkeys_page(request, (passkeys, who), None).await
    }

    pub(super) async fn change_passkeys(
        &self,
        request: &PortalRequest<'_>,
        body: ClientBody,
    ) -> Result<Page, PortalError> {
        self.demand_same_origin(request)?;
        let passkeys = self.passkeys.as_ref().ok_or(PortalError::NotFound)?;
        let Some((session, identity)) = logged_in(request) else {
            return Ok(self.ask_to_log_in(request, PLACE));
        };
        let form = form::read(body).await?;
        let field = |name: &str| form.get(name).map_or("", |value| value.as_str());
        if !is_form_token(&self.keyring, session, field("token")) {
            return Err(PortalError::CrossSite);
        }
        if self.passkeys_url(identity).is_none() {
            return Err(PortalError::NotFound);
        }
        let here = (passkeys, (session, identity));
        if !self.is_recent(session) {
            return Ok(redirect(&again_url()));
        }
        if form.contains_key("remove") {
            return self.remove_passkey(request, here, field("remove")).await;
        }
        let name = field("name").trim();
        let sid = session.sid();
        let answered = Answered {
            authority: request.authority,
            bound_to: sid.as_bytes(),
            state: field("state"),
            credential: field("passkey"),
        };
        match self
            .add_passkey((passkeys, answered), (&identity.subject.id, name))
            .await?
        {
            Ok(()) => {
                self.audit.record(&AuditEvent::PasskeyAdded {
                    sid: session.sid().to_string(),
                    provider: identity.subject.provider.clone(),
                    user: identity.user.clone(),
                    name: name.to_owned(),
                    address: request.client,
                });
                Ok(redirect(&format!("{}?{ADDED}", place(PLACE))))
            }
            Err(error) => {
                tracing::info!(address = %request.client, %error, "a passkey was not added");
                self.passkeys_page(request, here, Some(problem(&error)))
                    .await
            }
        }
    }

    /// An answer is good once, at whichever node.
    async fn add_passkey(
        &self,
        (passkeys, answered): (&Passkeys, Answered<'_>),
        named: (&str, &str),
    ) -> Result<Result<(), PasskeyError>, PortalError> {
        let new = match passkeys.judge_new(answered, named).await {
            Ok(new) => new,
            Err(error) => return Ok(Err(error)),
        };
        let claimed = self.sessions.claim_answer(&new.question()).await;
        if !claimed.map_err(|error| PortalError::Store(error.to_string()))? {
            return Ok(Err(ANSWERED));
        }
        Ok(passkeys.add(new).await)
    }

    /// Whoever has it may have logged in with it, so that the other sessions end too.
    async fn remove_passkey(
        &self,
        request: &PortalRequest<'_>,
        (passkeys, (session, identity)): (&Passkeys, (&LiveSession, &Identity)),
        id: &str,
    ) -> Result<Page, PortalError> {
        let name = match passkeys.remove(&identity.subject.id, id).await {
            Ok(Some(name)) => name,
            Ok(None) => return Err(PortalError::NotFound),
            Err(error) => {
                let here = (passkeys, (session, identity));
                return self
                    .passkeys_page(request, here, Some(problem(&error)))
                    .await;
            }
        };
        let ended = self.sessions.end_others(session).await;
        self.audit.record(&AuditEvent::PasskeyRemoved {
            sid: session.sid().to_string(),
            provider: identity.subject.provider.clone(),
            user: identity.user.clone(),
            name,
            ended: *ended.as_ref().unwrap_or(&0),
            address: request.client,
        });
        ended.map_err(|error| PortalError::Store(error.to_string()))?;
        // Sealed: no link from elsewhere makes a browser forget a passkey, of an app of the same host even.
        let sid = session.sid();
        let sealed = self
            .keyring
            .seal(Purpose::RemovedPasskey, sid.as_bytes(), id.as_bytes());
        let sealed = URL_SAFE_NO_PAD.encode(sealed);
        Ok(redirect(&format!("{}?{REMOVED}={sealed}", place(PLACE))))
    }

    async fn passkeys_page(
        &self,
        request: &PortalRequest<'_>,
        (passkeys, (session, identity)): (&Passkeys, (&LiveSession, &Identity)),
        mut problem: Option<Problem>,
    ) -> Result<Page, PortalError> {
        if self.passkeys_url(identity).is_none() {
            return Err(PortalError::NotFound);
        }
        let known = passkeys.list(&identity.subject.id).await;
        if known.is_err() {
            problem = problem.or(Some(UNAVAILABLE));
        }
        let is_recent = self.is_recent(session);
        let is_full = matches!(&known, Ok(known) if known.len() >= Passkeys::MAX);
        let may_add = known.is_ok() && !is_full;
        let known = known.unwrap_or_default();
        let sid = session.sid();
        let at = (request.authority, sid.as_bytes().as_slice());
        let asked = (may_add && is_recent)
            .then(|| passkeys.ask_to_add(at, identity, &known))
            .flatten();
        let rp_id = passkeys.rp_id(request.authority);
        let again = (may_add && !is_recent && rp_id.is_some()).then(again_url);
        let removed = self.removed(request, session);
        let done = if request.parameter(ADDED).is_some() {
            Some("The passkey is added. The next time, log in with it.")
        } else {
            let removed = removed.as_ref();
            removed.map(|_| "The passkey is removed. You are logged in nowhere else now.")
        };
        let rows: Vec<_> = known.iter().map(row).collect();
        // A users file that was put back has it again.
        let is_back = |id: &&str| rows.iter().any(|row| row.id == *id);
        let gone = removed.as_deref().filter(|id| !is_back(id));
        Ok(self.pages.passkeys(&PasskeysView {
            user: &identity.user,
            host: request.host,
            action: &place(PLACE),
            sessions_url: &place(own_sessions::PLACE),
            form_token: &form_token(&self.keyring, session),
            passkeys: &rows,
            gone: rp_id.as_deref().zip(gone),
            script: (request.authority, SCRIPT),
            new: asked.as_ref().map(|asked| asked.view(request)),
            is_full,
            again_url: again.as_deref(),
            problem,
            done: done.filter(|_| problem.is_none()),
        }))
    }

    /// The passkey that this session has just removed.
    fn removed(&self, request: &PortalRequest<'_>, session: &LiveSession) -> Option<String> {
        let sealed = URL_SAFE_NO_PAD.decode(&*request.parameter(REMOVED)?).ok()?;
        let sid = session.sid();
        let opened = self
            .keyring
            .open(Purpose::RemovedPasskey, sid.as_bytes(), &sealed)?;
        String::from_utf8(opened.to_vec()).ok()
    }

    fn is_recent(&self, session: &LiveSession) -> bool {
        let now = self.sessions.clock().now();
        now.since(session.private().auth_time) < RECENT
    }
}

fn row(passkey: &Passkey) -> PasskeyRow {
    let day = passkey.created.split('T').next();
    PasskeyRow {
        id: passkey.label(),
        name: passkey.name.clone(),
        day: day.unwrap_or_default().to_owned(),
        created: passkey.created.clone(),
    }
}

/// The login that comes back here.
fn again_url() -> String {
    format!("{}{LOGIN_PROMPT}", login_url(&place(PLACE)))
}

fn problem(error: &PasskeyError) -> Problem {
    match error {
        PasskeyError::Busy | PasskeyError::TooMany { .. } | PasskeyError::Unavailable => {
            UNAVAILABLE
        }
        PasskeyError::Expired => (
            StatusCode::BAD_REQUEST,
            "This page had been open for too long. Try once more.",
        ),
        PasskeyError::Cloned { .. } | PasskeyError::Refused(_) => (
            StatusCode::BAD_REQUEST,
            "That passkey could not be added. Try again, give it a name of at most 64 characters, or take another device.",
        ),
    }
}
