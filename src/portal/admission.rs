//! What follows a login that was proved, in whatever way: a session under a new token, and the way back to the page that
//! was asked for.

use std::time::Duration;

use http::HeaderValue;
use http::header::{SET_COOKIE, USER_AGENT};

use super::challenge::redirect;
use super::{Portal, PortalError, PortalRequest, ReturnTo};
use crate::clock::Timestamp;
use crate::identity::{Federated, Identity, Subject};
use crate::login::Browser;
use crate::session::{Carried, EndReason, Epoch, Found, Issued, LiveSession, Login, LoginError};
use crate::telemetry::{AuditEvent, LoginOutcome};
use crate::wire::Page;

/// A user who has proved who they are.
pub(super) struct Admission {
    pub(super) identity: Identity,
    pub(super) amr: Vec<String>,
    /// When that was; `None`: just now.
    pub(super) proved: Option<Timestamp>,
    /// What the session is to the provider, if one was asked.
    pub(super) federated: Option<Federated>,
    pub(super) remember: bool,
    /// Of their sessions, before the proof was looked at.
    pub(super) epoch: Epoch,
}

impl Portal {
    /// A new token at every login (R4). Who has a session already goes on with it; anybody else's session that the browser
    /// had before ends.
    pub(super) async fn admit(
        &self,
        request: &PortalRequest<'_>,
        admission: Admission,
    ) -> Result<Issued, LoginError> {
        let visitor = request
            .session
            .filter(|session| session.identity().is_none());
        let login = Login {
            identity: admission.identity,
            amr: admission.amr,
            proved: admission.proved,
            federated: admission.federated,
            address: request.client,
            user_agent: request.headers.get(USER_AGENT).cloned(),
            remember: admission.remember,
            replaces: request.session.map(LiveSession::sid),
            epoch: admission.epoch,
            carries: visitor.cloned().map(Carried::Visitor),
        };
        let issued = match self.go_on(request, &login).await? {
            Some(issued) => Ok(issued),
            None => self.begin_session(request, login).await,
        };
        match &issued {
            Ok(_) => self.metrics.login(LoginOutcome::Succeeded),
            Err(LoginError::Full { .. } | LoginError::Overtaken) => {
                self.metrics.login(LoginOutcome::Denied);
            }
            Err(LoginError::Store(_)) => {}
        }
        issued
    }

    /// Of who is going to be asked for a password, if it is known who that would be.
    pub(super) async fn epoch_before(
        &self,
        subject: Option<&Subject>,
    ) -> Result<Option<Epoch>, PortalError> {
        let Some(subject) = subject else {
            return Ok(None);
        };
        let epoch = self.sessions.epoch_of(subject).await;
        epoch
            .map(Some)
            .map_err(|error| PortalError::Store(error.to_string()))
    }

    /// That one, or that of who is known only now. `None`: all their sessions have been ended since the login `began`.
    pub(super) async fn epoch(
        &self,
        before: Option<Epoch>,
        (subject, began): (&Subject, Timestamp),
    ) -> Result<Option<Epoch>, PortalError> {
        if before.is_some() {
            return Ok(before);
        }
        let epoch = self.sessions.epoch_since(subject, began).await;
        epoch.map_err(|error| PortalError::Store(error.to_string()))
    }

    /// The answer to a login that worked.
    pub(super) fn welcome(
        &self,
        request: &PortalRequest<'_>,
        return_to: &str,
        issued: Issued,
    ) -> Page {
        // Judged again: what comes back was sealed by us, but hosts may have gone since.
        let target = ReturnTo::parse(return_to, request.serves).unwrap_or_default();
        let mut page = redirect(target.as_str());
        let headers = page.headers_mut();
        headers.append(SET_COOKIE, issued.cookie);
        if let Some(none) = self.sessions.forget_ticket() {
            headers.append(SET_COOKIE, none);
        }
        page
    }

    pub(super) fn browser(&self, request: &PortalRequest<'_>) -> Option<Browser> {
        match self.browser_cookie.find(request.headers) {
            Found::One(value) => Browser::parse(&self.keyring, value),
            Found::None | Found::Several(_) => None,
        }
    }

    pub(super) fn browser_cookie(&self, browser: &Browser, max_age: Duration) -> HeaderValue {
        self.browser_cookie
            .set_cookie(&browser.encode(&self.keyring), Some(max_age))
    }

    /// The browser's session under a new token, if it is the same user's. `None`: there is none to go on with.
    async fn go_on(
        &self,
        request: &PortalRequest<'_>,
        login: &Login,
    ) -> Result<Option<Issued>, LoginError> {
        let theirs = request.session.filter(|session| {
            let same = session.identity().map(|identity| &identity.subject);
            // Who asks to be remembered now gets a session that is.
            let fits = !login.remember || session.private().remembered;
            same == Some(&login.identity.subject) && fits
        });
        let Some(session) = theirs else {
            return Ok(None);
        };
        let found = self.sessions.settings().cookie.find(request.headers);
        let Some(token) = self.sessions.presented(session, found) else {
            return Ok(None);
        };
        Ok(self.sessions.prove_again(token, login).await?)
    }

    async fn begin_session(
        &self,
        request: &PortalRequest<'_>,
        login: Login,
    ) -> Result<Issued, LoginError> {
        let event = (
            login.identity.subject.provider.clone(),
            login.identity.user.clone(),
        );
        let issued = self.sessions.issue(login).await?;
        if let Some(old) = request.session
            && let Err(error) = self.sessions.end(old.sid(), EndReason::Replaced).await
        {
            // Nobody is told of the new one, which must not take up the user's room.
            let _owed = self.sessions.end(issued.sid, EndReason::Withdrawn).await;
            return Err(error.into());
        }
        let (sid, (provider, user)) = (issued.sid.to_string(), event);
        self.audit.record(&AuditEvent::LoginSucceeded {
            sid,
            provider,
            user,
            address: request.client,
        });
        Ok(issued)
    }
}
