//! The second step of one's own logins: it is turned on with a first code of an authenticator app, and off with password
//! and code. Both end all other sessions; so that nobody does it who finds a session open, turning it on needs a login of
//! the last ten minutes.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::challenge::redirect;
use super::form::{self, Form};
use super::login_problem::LoginProblem;
use super::own_change::Outcome;
use super::own_sessions::{self, logged_in};
use super::second_step::problem;
use super::sign_out::{form_token, is_form_token};
use super::two_factor_page::{RecoveryCodesView, TwoFactorView};
use super::{LOGIN_PROMPT, Portal, PortalError, PortalRequest, login_url, place, provider_hint};
use crate::clock::Timestamp;
use crate::identity::Identity;
use crate::login::{Checked, CodeAttempt, HalfWay, LocalUsers, NewFactor, OwnWish, Refusal};
use crate::session::{LiveSession, is_proof_too_old};
use crate::telemetry::AuditEvent;
use crate::wire::{ClientBody, Page};

/// The place below the reserved prefix.
pub(super) const PLACE: &str = "two-factor";

/// In the query of the page that follows its end.
const OFF: &str = "off";

/// How old a login may be by which a second step is set up, and how long that may take.
const RECENT: Duration = Duration::from_mins(10);

/// A second step that is being set up.
#[derive(Deserialize, Serialize)]
struct Beginning {
    half: HalfWay,
    factor: NewFactor,
    began: Timestamp,
}

type Who<'a> = (&'a LiveSession, &'a Identity);

/// An answer in place of what was asked for.
type Instead = Result<Page, PortalError>;

impl Portal {
    /// Where somebody's second step is set up, if that is here.
    pub(super) fn two_factor_url(&self, identity: &Identity) -> Option<String> {
        self.password_url(identity).map(|_| place(PLACE))
    }

    pub(super) async fn show_two_factor(
        &self,
        request: &PortalRequest<'_>,
    ) -> Result<Page, PortalError> {
        if self.accounts.is_none() {
            return Err(PortalError::NotFound);
        }
        let Some(who) = logged_in(request) else {
            return Ok(self.ask_to_log_in(request, PLACE));
        };
        self.two_factor_page(request, who, (None, None)).await
    }

    pub(super) async fn change_two_factor(
        &self,
        request: &PortalRequest<'_>,
        body: ClientBody,
    ) -> Result<Page, PortalError> {
        self.demand_same_origin(request)?;
        let accounts = self.accounts.as_ref().ok_or(PortalError::NotFound)?;
        let Some(who) = logged_in(request) else {
            return Ok(self.ask_to_log_in(request, PLACE));
        };
        let form = form::read(body).await?;
        let field = |name: &str| form.get(name).map_or("", |value| value.as_str());
        if !is_form_token(&self.keyring, who.0, field("token")) {
            return Err(PortalError::CrossSite);
        }
        if self.two_factor_url(who.1).is_none() {
            return self.two_factor_page(request, who, (None, None)).await;
        }
        let done = match field("do") {
            "enable" => self.enable(request, who, (accounts, &form)).await,
            "codes" => self.new_codes(request, who, (accounts, &form)).await,
            "disable" => self.disable(request, who, (accounts, &form)).await,
            _ => return Err(PortalError::NotFound),
        };
        match done {
            Ok(page) => Ok(page),
            Err(NotDone::Error(error)) => Err(error),
            Err(NotDone::Problem(problem)) => {
                // Whoever has scanned it types another code of the same.
                let kept = self.beginning(who, field("state"));
                self.two_factor_page(request, who, (Some(problem), kept))
                    .await
            }
            Err(NotDone::Stale) => Ok(log_in_again(who.1)),
        }
    }

    async fn enable(
        &self,
        request: &PortalRequest<'_>,
        who: Who<'_>,
        (accounts, form): (&Arc<LocalUsers>, &Form),
    ) -> Result<Page, NotDone> {
        self.demand_recent(who.0)?;
        let state = form.get("state").map_or("", |value| value.as_str());
        let Beginning { half, factor, .. } =
            self.beginning(who, state).ok_or(LoginProblem::Expired)?;
        let still = accounts.still(&half).await;
        let still = still.map_err(|refusal| self.wrong(request, who, refusal))?;
        let (proven, _) = still.ok_or(LoginProblem::Overtaken)?;
        let attempt = self.code_attempt(request, who, form);
        let step = accounts.check_new(&factor, attempt);
        let step = step.map_err(|refusal| self.wrong(request, who, refusal))?;
        self.claim_code(who, Some(step)).await?;
        let codes = OwnWish::new_codes();
        let wish = OwnWish::SecondFactor(factor, codes.clone());
        let outcome = self.change(request, who, (accounts, proven, wish)).await?;
        let page = self.codes_page(request, who.1, (&codes, true));
        self.changed_factor(request, who, (outcome, "enabled", page))
    }

    fn beginning(&self, (session, _): Who<'_>, state: &str) -> Option<Beginning> {
        let beginning: Beginning = self.open_state(session.sid().as_bytes(), state)?;
        let age = self.sessions.clock().now().since(beginning.began);
        (age < RECENT).then_some(beginning)
    }

    async fn disable(
        &self,
        request: &PortalRequest<'_>,
        who: Who<'_>,
        (accounts, form): (&Arc<LocalUsers>, &Form),
    ) -> Result<Page, NotDone> {
        let password = form.get("password").map_or("", |value| value.as_str());
        let proven = self.prove(request, (accounts, who.1), password).await;
        proven.map_err(|refusal| match refusal {
            Refusal::Credentials => {
                // A code is not looked at where the password is wrong.
                drop(self.wrong(request, who, refusal));
                NotDone::Problem(LoginProblem::WrongCredentials)
            }
            other => self.wrong(request, who, other),
        })?;
        let checked = self.checked(request, who, (accounts, form)).await?;
        let wish = OwnWish::NoSecondFactor;
        let change = (accounts, checked.proven, wish);
        let outcome = self.change(request, who, change).await?;
        let page = redirect(&format!("{}?{OFF}", place(PLACE)));
        self.changed_factor(request, who, (outcome, "disabled", page))
    }

    /// Sessions stay: nobody is in by a recovery code that is not yet used.
    async fn new_codes(
        &self,
        request: &PortalRequest<'_>,
        who: Who<'_>,
        (accounts, form): (&Arc<LocalUsers>, &Form),
    ) -> Result<Page, NotDone> {
        self.demand_recent(who.0)?;
        let checked = self.checked(request, who, (accounts, form)).await?;
        let codes = OwnWish::new_codes();
        let wish = OwnWish::RecoveryCodes(codes.clone());
        let ready = accounts.prepare(checked.proven, wish, None).await;
        let ready = ready.map_err(problem)?;
        ready.commit().await.map_err(problem)?;
        self.audit_factor(request, who, (who.0.sid().to_string(), "recovery_codes", 0));
        Ok(self.codes_page(request, who.1, (&codes, false)))
    }

    /// A code of the second factor that is there.
    async fn checked(
        &self,
        request: &PortalRequest<'_>,
        who: Who<'_>,
        (accounts, form): (&Arc<LocalUsers>, &Form),
    ) -> Result<Checked, NotDone> {
        let attempt = self.code_attempt(request, who, form);
        let checked = accounts.check_code(attempt).await;
        let checked = checked.map_err(|refusal| self.wrong(request, who, refusal))?;
        self.claim_code(who, checked.step).await?;
        Ok(checked)
    }

    fn code_attempt<'a>(
        &self,
        request: &PortalRequest<'_>,
        (_, identity): Who<'a>,
        form: &'a Form,
    ) -> CodeAttempt<'a> {
        let (provider, user) = (&identity.subject.provider, &identity.subject.id);
        let browser = self.browser(request);
        CodeAttempt {
            user,
            code: form.get("code").map_or("", |value| value.as_str()),
            address: request.client,
            known_browser: browser
                .is_some_and(|browser| browser.knows(&self.keyring, provider, user)),
        }
    }

    async fn claim_code(&self, (_, identity): Who<'_>, step: Option<u64>) -> Result<(), NotDone> {
        let Some(step) = step else { return Ok(()) };
        let claimed = self.sessions.claim(&identity.subject, step).await;
        let claimed = claimed.map_err(|error| PortalError::Store(error.to_string()))?;
        if claimed {
            Ok(())
        } else {
            Err(LoginProblem::UsedCode.into())
        }
    }

    fn wrong(&self, request: &PortalRequest<'_>, who: Who<'_>, refusal: Refusal) -> NotDone {
        NotDone::Problem(self.note_wrong_code(request, &who.1.user, refusal))
    }

    fn demand_recent(&self, session: &LiveSession) -> Result<(), NotDone> {
        let (proved, now) = (session.private().auth_time, self.sessions.clock().now());
        if is_proof_too_old(proved, Some(RECENT), now) {
            return Err(NotDone::Stale);
        }
        Ok(())
    }

    fn changed_factor(
        &self,
        request: &PortalRequest<'_>,
        who: Who<'_>,
        (outcome, change, page): (Outcome, &'static str, Page),
    ) -> Result<Page, NotDone> {
        match outcome {
            Outcome::Changed(issued, ended) => {
                self.audit_factor(request, who, (issued.sid.to_string(), change, ended));
                Ok(self.with_session(page, issued))
            }
            Outcome::Kept(issued, _) => Ok(self.with_session(redirect(&place(PLACE)), issued)),
            Outcome::LoggedOut => Ok(self.logged_out_by_change()),
            Outcome::Refused(error) => Err(problem(error).into()),
        }
    }

    fn audit_factor(
        &self,
        request: &PortalRequest<'_>,
        (_, identity): Who<'_>,
        (sid, change, ended): (String, &'static str, usize),
    ) {
        self.audit.record(&AuditEvent::SecondFactorChanged {
            sid: Some(sid),
            provider: identity.subject.provider.clone(),
            user: identity.user.clone(),
            change,
            ended,
            address: request.client,
        });
    }

    fn codes_page(
        &self,
        request: &PortalRequest<'_>,
        identity: &Identity,
        (codes, is_new): (&[Zeroizing<String>], bool),
    ) -> Page {
        self.pages.recovery_codes(&RecoveryCodesView {
            user: &identity.user,
            host: request.host,
            codes,
            continue_to: &place(PLACE),
            is_new,
        })
    }

    async fn two_factor_page(
        &self,
        request: &PortalRequest<'_>,
        (session, identity): Who<'_>,
        (mut problem, kept): (Option<LoginProblem>, Option<Beginning>),
    ) -> Instead {
        let accounts = self.accounts.as_ref().ok_or(PortalError::NotFound)?;
        let is_here = self.two_factor_url(identity).is_some();
        let (mut left, mut begun) = (0, None);
        if is_here {
            match accounts.standing(&identity.subject.id).await {
                Ok(Some((_, Some(codes)))) => left = codes,
                // What could not be finished would be lost on the way to a login: it is done first.
                Ok(Some((half, None))) if self.demand_recent(session).is_ok() => {
                    let kept = kept.filter(|kept| kept.half == half);
                    let beginning = kept.unwrap_or_else(|| self.begin_factor(half));
                    let shown = beginning.factor.shown(request.host, &identity.user);
                    let bound_to = session.sid();
                    let state = self.seal_state(bound_to.as_bytes(), &beginning);
                    begun = shown.map(|shown| (shown, state));
                }
                Ok(Some((_, None))) => return Ok(log_in_again(identity)),
                Ok(None) => return Ok(self.ask_to_log_in(request, PLACE)),
                Err(_) => problem = Some(LoginProblem::Unavailable),
            }
        }
        let begun = begun.as_ref();
        Ok(self.pages.two_factor(&TwoFactorView {
            user: &identity.user,
            host: request.host,
            action: &place(PLACE),
            sessions_url: &place(own_sessions::PLACE),
            form_token: &form_token(&self.keyring, session),
            kept_at: (!is_here).then_some(self.name_of_provider(identity)),
            enrolment: begun.map(|(shown, state)| (shown, state.as_str())),
            left,
            problem,
            is_done: problem.is_none() && request.parameter(OFF).is_some(),
        }))
    }

    fn begin_factor(&self, half: HalfWay) -> Beginning {
        Beginning {
            half,
            factor: NewFactor::generate(),
            began: self.sessions.clock().now(),
        }
    }
}

/// Why a change was not made.
enum NotDone {
    Error(PortalError),
    Problem(LoginProblem),
    /// The login is too old.
    Stale,
}

impl From<LoginProblem> for NotDone {
    fn from(problem: LoginProblem) -> Self {
        Self::Problem(problem)
    }
}

impl From<PortalError> for NotDone {
    fn from(error: PortalError) -> Self {
        Self::Error(error)
    }
}

/// It leads back here.
fn log_in_again(identity: &Identity) -> Page {
    let (to, hint) = (
        login_url(&place(PLACE)),
        provider_hint(&identity.subject.provider),
    );
    redirect(&format!("{to}{hint}{LOGIN_PROMPT}"))
}
