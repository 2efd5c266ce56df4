//! Changing one's own password: whoever has a session here and knows the password gives a new one. All other sessions end,
//! on every node, and the one that it was done from goes on under a new name and a new token (R4, R5).

use std::sync::Arc;

use http::Method;
use http::header::{SET_COOKIE, USER_AGENT};
use zeroize::Zeroizing;

use super::challenge::redirect;
use super::own_sessions::{self, logged_in};
use super::password_page::{PasswordProblem, PasswordView};
use super::sign_out::{form_token, is_form_token};
use super::{Portal, PortalError, PortalRequest, form, login_url, place};
use crate::identity::Identity;
use crate::login::{ChangeError, Credentials, LocalUsers, NewPassword, Proven, Ready, Refusal};
use crate::secret::Secret;
use crate::session::store::StoreError;
use crate::session::{Epoch, Issued, LiveSession, Login, Sessions};
use crate::telemetry::AuditEvent;
use crate::wire::{CHANGE_PASSWORD, ClientBody, Page};

/// The place below the reserved prefix.
pub(super) const PLACE: &str = "password";

/// In the query of the page that follows a change.
const DONE: &str = "done";

/// The longest password that is looked at, in bytes.
const MAX_PASSWORD: usize = 1024;

/// One user's change, on its way. It goes on to the end, whether or not anybody waits for it.
struct Change {
    sessions: Arc<Sessions>,
    accounts: Arc<LocalUsers>,
    session: LiveSession,
    login: Login,
    proven: Proven,
    password: Zeroizing<String>,
}

/// How a change ended.
enum Outcome {
    Changed(Issued, usize),
    /// It is as it was, though the sessions have ended: the one that it was to be done from has gone on.
    Kept(Issued, PasswordProblem),
    /// The password is changed, and no session could be begun.
    LoggedOut,
    Refused(PasswordProblem),
}

impl Portal {
    /// Where somebody's password is changed, if it is kept here.
    pub(super) fn password_url(&self, identity: &Identity) -> Option<String> {
        let accounts = self.accounts.as_ref()?;
        (identity.subject.provider == accounts.id()).then(|| place(PLACE))
    }

    /// Whether a path outside of our prefixes is ours: the app has it where no passwords are kept here.
    pub fn has_place_at(&self, path: &str) -> bool {
        path == CHANGE_PASSWORD && self.accounts.is_some()
    }

    /// Sends a password manager to the page.
    pub fn find_password(&self, method: &Method) -> Result<Page, PortalError> {
        match *method {
            Method::GET | Method::HEAD => Ok(redirect(&place(PLACE))),
            _ => Err(PortalError::Method { allow: "GET, HEAD" }),
        }
    }

    pub(super) fn show_password(&self, request: &PortalRequest<'_>) -> Result<Page, PortalError> {
        if self.accounts.is_none() {
            return Err(PortalError::NotFound);
        }
        let Some((session, identity)) = logged_in(request) else {
            return Ok(self.ask_to_log_in(request, PLACE));
        };
        Ok(self.password_page(request, (session, identity), None))
    }

    pub(super) async fn change_password(
        &self,
        request: &PortalRequest<'_>,
        body: ClientBody,
    ) -> Result<Page, PortalError> {
        self.demand_same_origin(request)?;
        let Some(accounts) = &self.accounts else {
            return Err(PortalError::NotFound);
        };
        let Some((session, identity)) = logged_in(request) else {
            return Ok(self.ask_to_log_in(request, PLACE));
        };
        let form = form::read(body).await?;
        let field = |name: &str| form.get(name).map_or("", |value| value.as_str());
        if !is_form_token(&self.keyring, session, field("token")) {
            return Err(PortalError::CrossSite);
        }
        let who = (session, identity);
        if self.password_url(identity).is_none() {
            return Ok(self.password_page(request, who, None));
        }
        let (current, new) = (field("current"), field("new"));
        // Nothing is learned of the password now from what is wrong with the new one.
        if let Some(problem) = judge_new(&identity.user, new, field("again")) {
            return Ok(self.password_page(request, who, Some(problem)));
        }
        let proven = match self.prove(request, (accounts, identity), current).await {
            Ok(proven) => proven,
            Err(refusal) => return Ok(self.not_proven(request, who, refusal)),
        };
        if new == current {
            return Ok(self.password_page(request, who, Some(PasswordProblem::Same)));
        }
        let change = Change {
            sessions: self.sessions.clone(),
            accounts: accounts.clone(),
            session: session.clone(),
            login: again(request, session, identity),
            proven,
            password: Zeroizing::new(new.to_owned()),
        };
        let done = tokio::spawn(change.run()).await;
        let lost = |error: tokio::task::JoinError| PortalError::Store(error.to_string());
        match done.map_err(lost)? {
            Ok(outcome) => Ok(self.changed(request, who, outcome)),
            Err(error) => Err(PortalError::Store(error.to_string())),
        }
    }

    /// Whether the password is the user's, as far as anybody may ask at all.
    async fn prove(
        &self,
        request: &PortalRequest<'_>,
        (accounts, identity): (&LocalUsers, &Identity),
        password: &str,
    ) -> Result<Proven, Refusal> {
        if password.len() > MAX_PASSWORD {
            return Err(Refusal::Credentials);
        }
        let (id, user) = (accounts.id(), &identity.subject.id);
        let browser = self.browser(request);
        let credentials = Credentials {
            user: user.clone(),
            password: Secret::new(password.as_bytes()),
            address: request.client,
            known_browser: browser.is_some_and(|browser| browser.knows(&self.keyring, id, user)),
        };
        accounts.prove(credentials).await
    }

    fn not_proven(
        &self,
        request: &PortalRequest<'_>,
        (session, identity): (&LiveSession, &Identity),
        refusal: Refusal,
    ) -> Page {
        let (problem, cause) = match refusal {
            Refusal::Credentials => (PasswordProblem::WrongPassword, Some("credentials")),
            Refusal::TooManyAttempts { retry_after } => {
                let minutes = retry_after.as_secs().div_ceil(60).max(1);
                (PasswordProblem::TooMany { minutes }, Some("throttled"))
            }
            Refusal::Busy => (PasswordProblem::Busy, None),
            Refusal::Unavailable => (PasswordProblem::Unavailable, None),
        };
        if let Some(cause) = cause {
            self.audit.record(&AuditEvent::PasswordChangeFailed {
                sid: session.sid().to_string(),
                provider: identity.subject.provider.clone(),
                user: identity.user.clone(),
                cause,
                address: request.client,
            });
        }
        self.password_page(request, (session, identity), Some(problem))
    }

    fn changed(
        &self,
        request: &PortalRequest<'_>,
        (session, identity): (&LiveSession, &Identity),
        outcome: Outcome,
    ) -> Page {
        let (mut page, issued) = match outcome {
            Outcome::Refused(problem) => {
                return self.password_page(request, (session, identity), Some(problem));
            }
            Outcome::LoggedOut => {
                let mut page = redirect(&login_url(&place(own_sessions::PLACE)));
                let none = self.sessions.settings().cookie.clear();
                page.headers_mut().append(SET_COOKIE, none);
                return page;
            }
            // Its form is of the session that was, and says so when it is sent.
            Outcome::Kept(issued, problem) => {
                let page = self.password_page(request, (session, identity), Some(problem));
                (page, issued)
            }
            Outcome::Changed(issued, all) => {
                self.audit.record(&AuditEvent::PasswordChanged {
                    sid: issued.sid.to_string(),
                    before: session.sid().to_string(),
                    provider: identity.subject.provider.clone(),
                    user: identity.user.clone(),
                    // But for the one that goes on.
                    ended: all.saturating_sub(1),
                    address: request.client,
                });
                (redirect(&format!("{}?{DONE}", place(PLACE))), issued)
            }
        };
        let headers = page.headers_mut();
        headers.append(SET_COOKIE, issued.cookie);
        if let Some(none) = self.sessions.forget_ticket() {
            headers.append(SET_COOKIE, none);
        }
        page
    }

    fn password_page(
        &self,
        request: &PortalRequest<'_>,
        (session, identity): (&LiveSession, &Identity),
        problem: Option<PasswordProblem>,
    ) -> Page {
        let is_here = self.password_url(identity).is_some();
        let mut providers = self.providers.iter();
        let theirs = providers.find(|provider| provider.id == identity.subject.provider);
        let theirs = theirs.map_or("another site", |provider| &provider.name);
        self.pages.password(&PasswordView {
            user: &identity.user,
            host: request.host,
            action: &place(PLACE),
            sessions_url: &place(own_sessions::PLACE),
            form_token: &form_token(&self.keyring, session),
            kept_at: (!is_here).then_some(theirs),
            problem,
            is_done: problem.is_none() && request.parameter(DONE).is_some(),
        })
    }
}

impl Change {
    /// The sessions end before the password is changed: whoever sees the new one, at any node, finds that this is done.
    /// Where it cannot be written, nothing is ended.
    async fn run(self) -> Result<Outcome, StoreError> {
        let Self {
            sessions,
            accounts,
            session,
            login,
            proven,
            password,
        } = self;
        let now = sessions.clock().now();
        let before = sessions.epoch_of(&login.identity.subject).await?;
        let epoch = before.next(now).number();
        let ready: Ready = match accounts.prepare_password(proven, password, epoch).await {
            Ok(ready) => ready,
            Err(error) => return Ok(Outcome::Refused(problem(error))),
        };
        let remains = sessions.end_but_keep(&session).await?;
        let committed = ready.commit().await;
        let begun = sessions.start_over(remains, login).await;
        if let Err(error) = &begun {
            tracing::warn!(%error, "who changed a password has to log in again");
        }
        Ok(match (begun, committed) {
            (Ok((issued, ended)), Ok(())) => Outcome::Changed(issued, ended),
            (Ok((issued, _)), Err(error)) => Outcome::Kept(issued, problem(error)),
            (Err(_), Ok(())) => Outcome::LoggedOut,
            (Err(_), Err(error)) => Outcome::Refused(problem(error)),
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

fn judge_new(user: &str, new: &str, again: &str) -> Option<PasswordProblem> {
    if let Err(refused) = NewPassword::check(user, new) {
        return Some(PasswordProblem::Refused(refused));
    }
    (new != again).then_some(PasswordProblem::Differ)
}

fn problem(error: ChangeError) -> PasswordProblem {
    match error {
        ChangeError::Busy => PasswordProblem::Busy,
        ChangeError::Overtaken => PasswordProblem::Overtaken,
        ChangeError::Refused(refused) => PasswordProblem::Refused(refused),
        ChangeError::Unwritable => PasswordProblem::Unwritable,
    }
}
