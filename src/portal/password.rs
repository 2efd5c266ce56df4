//! Changing one's own password: whoever has a session here and knows the password gives a new one.

use http::Method;
use zeroize::Zeroizing;

use super::challenge::redirect;
use super::own_change::Outcome;
use super::own_sessions::{self, logged_in};
use super::password_page::{PasswordProblem, PasswordView};
use super::sign_out::{form_token, is_form_token};
use super::{Portal, PortalError, PortalRequest, form, place};
use crate::identity::Identity;
use crate::login::{ChangeError, Credentials, LocalUsers, NewPassword, OwnWish, Proven, Refusal};
use crate::secret::Secret;
use crate::session::LiveSession;
use crate::telemetry::AuditEvent;
use crate::wire::{CHANGE_PASSWORD, ClientBody, Page};

/// The place below the reserved prefix.
pub(super) const PLACE: &str = "password";

/// In the query of the page that follows a change.
const DONE: &str = "done";

/// The longest password that is looked at, in bytes.
const MAX_PASSWORD: usize = 1024;

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
        let wish = OwnWish::Password(Zeroizing::new(new.to_owned()));
        let outcome = self.change(request, who, (accounts, proven, wish)).await?;
        Ok(self.changed(request, who, outcome))
    }

    /// Whether the password is the user's, as far as anybody may ask at all.
    pub(super) async fn prove(
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
        match outcome {
            Outcome::Refused(error) => {
                self.password_page(request, (session, identity), Some(problem(error)))
            }
            Outcome::LoggedOut => self.logged_out_by_change(),
            // Its form is of the session that was, and says so when it is sent.
            Outcome::Kept(issued, error) => {
                let who = (session, identity);
                let page = self.password_page(request, who, Some(problem(error)));
                self.with_session(page, issued)
            }
            Outcome::Changed(issued, ended) => {
                self.audit.record(&AuditEvent::PasswordChanged {
                    sid: issued.sid.to_string(),
                    before: session.sid().to_string(),
                    provider: identity.subject.provider.clone(),
                    user: identity.user.clone(),
                    ended,
                    address: request.client,
                });
                let done = redirect(&format!("{}?{DONE}", place(PLACE)));
                self.with_session(done, issued)
            }
        }
    }

    /// What people know the way by that somebody logged in.
    pub(super) fn name_of_provider(&self, identity: &Identity) -> &str {
        let theirs = self.provider(&identity.subject.provider);
        theirs.map_or("another site", |provider| provider.name.as_str())
    }

    fn password_page(
        &self,
        request: &PortalRequest<'_>,
        (session, identity): (&LiveSession, &Identity),
        problem: Option<PasswordProblem>,
    ) -> Page {
        let is_here = self.password_url(identity).is_some();
        let theirs = self.name_of_provider(identity);
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
