//! A change that users make of what they are known by. All their other sessions end, on every node, and the one that it is
//! made from goes on under a new name and a new token (R4, R5).

use std::sync::Arc;

use http::header::{SET_COOKIE, USER_AGENT};
use tokio::task::JoinError;

use super::challenge::redirect;
use super::{Portal, PortalError, PortalRequest, login_url, own_sessions, place};
use crate::identity::Identity;
use crate::login::{ChangeError, LocalUsers, OwnWish, Proven};
use crate::session::store::StoreError;
use crate::session::{Epoch, Issued, LiveSession, Login, Sessions};
use crate::wire::Page;

/// One user's change, on its way. It goes on to the end, whether or not anybody waits for it.
struct Change {
    sessions: Arc<Sessions>,
    accounts: Arc<LocalUsers>,
    session: LiveSession,
    login: Login,
    proven: Proven,
    wish: OwnWish,
}

/// How a change ended.
pub(super) enum Outcome {
    /// And how many other sessions ended with it.
    Changed(Issued, usize),
    /// It is as it was, though the sessions have ended: the one that it was to be made from has gone on.
    Kept(Issued, ChangeError),
    /// It was made, and no session could be begun.
    LoggedOut,
    Refused(ChangeError),
}

impl Portal {
    pub(super) async fn change(
        &self,
        request: &PortalRequest<'_>,
        (session, identity): (&LiveSession, &Identity),
        (accounts, proven, wish): (&Arc<LocalUsers>, Proven, OwnWish),
    ) -> Result<Outcome, PortalError> {
        let change = Change {
            sessions: self.sessions.clone(),
            accounts: accounts.clone(),
            session: session.clone(),
            login: again(request, session, identity),
            proven,
            wish,
        };
        let lost = |error: JoinError| PortalError::Store(error.to_string());
        let done = tokio::spawn(change.run()).await.map_err(lost)?;
        done.map_err(|error| PortalError::Store(error.to_string()))
    }

    /// The answer that brings the cookie of a session that goes on.
    pub(super) fn with_session(&self, mut page: Page, issued: Issued) -> Page {
        let headers = page.headers_mut();
        headers.append(SET_COOKIE, issued.cookie);
        if let Some(none) = self.sessions.forget_ticket() {
            headers.append(SET_COOKIE, none);
        }
        page
    }

    /// The answer where a change was made and no session goes on.
    pub(super) fn logged_out_by_change(&self) -> Page {
        let mut page = redirect(&login_url(&place(own_sessions::PLACE)));
        let none = self.sessions.settings().cookie.clear();
        page.headers_mut().append(SET_COOKIE, none);
        page
    }
}

impl Change {
    /// The sessions end before the change can be seen: whoever sees it, at any node, finds that this is done. Where it
    /// cannot be written, nothing is ended.
    async fn run(self) -> Result<Outcome, StoreError> {
        let Self {
            sessions,
            accounts,
            session,
            login,
            proven,
            wish,
        } = self;
        let now = sessions.clock().now();
        let before = sessions.epoch_of(&login.identity.subject).await?;
        let epoch = before.next(now).number();
        let ready = match accounts.prepare(proven, wish, Some(epoch)).await {
            Ok(ready) => ready,
            Err(error) => return Ok(Outcome::Refused(error)),
        };
        let remains = sessions.end_but_keep(&session).await?;
        let committed = ready.commit().await;
        let begun = sessions.start_over(remains, login).await;
        if let Err(error) = &begun {
            tracing::warn!(%error, "who made a change of their own has to log in again");
        }
        Ok(match (begun, committed) {
            (Ok((issued, all)), Ok(())) => Outcome::Changed(issued, all.saturating_sub(1)),
            (Ok((issued, _)), Err(error)) => Outcome::Kept(issued, error),
            (Err(_), Ok(())) => Outcome::LoggedOut,
            (Err(_), Err(error)) => Outcome::Refused(error),
        })
    }
}

/// The session that goes on in a new one: nobody has logged in anew by it.
fn again(request: &PortalRequest<'_>, session: &LiveSession, identity: &Identity) -> Login {
    let private = session.private();
    Login {
        identity: identity.clone(),
        amr: private.amr.clone(),
        proved: Some(private.auth_time),
        federated: None,
        address: request.client,
        user_agent: request.headers.get(USER_AGENT).cloned(),
        remember: private.remembered,
        replaces: Some(session.sid()),
        epoch: Epoch::default(),
        carries: None,
    }
}
