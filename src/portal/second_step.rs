//! The second step of a login: after the password, a code. In between nothing is stored (R12): what the password was right
//! for travels sealed in the form, for five minutes, bound to the browser and to what the user is known by.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::SET_COOKIE;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::admission::Admission;
use super::form::Form;
use super::login_problem::LoginProblem;
use super::sign_in::{Typed, clipped};
use super::two_factor_page::{RecoveryCodesView, SecondStepView};
use super::{Portal, PortalError, PortalRequest, ReturnTo};
use crate::clock::Timestamp;
use crate::identity::Identity;
use crate::login::{
    Browser, ChangeError, CodeAttempt, HalfWay, LocalUsers, Needs, NewFactor, OwnWish,
    PendingLogin, Proven, Refusal,
};
use crate::secret::Purpose;
use crate::session::store::StoreError;
use crate::session::{EndReason, Epoch, LoginError};
use crate::telemetry::{AuditEvent, LoginOutcome};
use crate::wire::Page;

/// The field of the form that carries the login so far.
pub(super) const FIELD: &str = "second";

/// How long that is good for.
const MAX_AGE: Duration = Duration::from_mins(5);
/// With the longest page to return to it is shorter.
const MAX_TEXT: usize = 8 * 1024;

/// Proofs of a login (RFC 8176): with an authenticator app, and with a recovery code, for which there is no word.
const BY_CODE: [&str; 3] = ["pwd", "otp", "mfa"];
const BY_RECOVERY_CODE: [&str; 2] = ["pwd", "mfa"];

/// A login whose password was right.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct SoFar {
    half: HalfWay,
    return_to: String,
    remember: bool,
    /// Of the user's sessions, before the password was looked at.
    epoch: u64,
    proved: Timestamp,
    /// What is being set up.
    factor: Option<NewFactor>,
}

/// A second step that was taken.
struct Taken {
    identity: Identity,
    amr: Vec<String>,
    epoch: Epoch,
    /// Of a new second factor.
    codes: Option<Vec<Zeroizing<String>>>,
}

impl Portal {
    pub(super) fn ask_for_code(
        &self,
        request: &PortalRequest<'_>,
        half: HalfWay,
        (browser, (pending, remember, epoch)): (&Browser, (&PendingLogin, bool, Epoch)),
    ) -> Page {
        let so_far = SoFar {
            factor: (half.needs == Needs::Enrolment).then(NewFactor::generate),
            half,
            return_to: pending.return_to.clone(),
            remember,
            epoch: epoch.number(),
            proved: self.sessions.clock().now(),
        };
        self.code_page(request, (&so_far, browser), None)
    }

    pub(super) async fn second_step(
        &self,
        request: &PortalRequest<'_>,
        form: &Form,
    ) -> Result<Page, PortalError> {
        let field = |name: &str| form.get(name).map_or("", |value| value.as_str());
        let accounts = self.accounts.as_deref().ok_or(PortalError::NotFound)?;
        let browser = self.browser(request);
        let opened = browser.and_then(|browser| {
            let so_far = self.open_so_far(field(FIELD), &browser)?;
            Some((browser, so_far))
        });
        let Some((browser, so_far)) = opened else {
            return self.begin_again(request, Typed::default());
        };
        // Whose password or second factor has changed since begins again.
        let still = match accounts.still(&so_far.half).await {
            Ok(Some(still)) => still,
            Ok(None) => return self.begin_again(request, Typed::default()),
            Err(refusal) => return Ok(self.code_refused(request, (&so_far, &browser), refusal)),
        };
        let attempt = CodeAttempt {
            user: &so_far.half.user,
            code: field("code"),
            address: request.client,
            known_browser: browser.knows(&self.keyring, accounts.id(), &so_far.half.user),
        };
        let taken = match &so_far.factor {
            None => self.check(accounts, attempt, &so_far).await?,
            Some(factor) => {
                let new = (factor, still);
                self.enrol(request, (accounts, attempt), new).await?
            }
        };
        match taken {
            Ok(taken) => self.come_in(request, taken, (so_far, browser)).await,
            Err(Wrong::Refused(refusal)) => {
                Ok(self.code_refused(request, (&so_far, &browser), refusal))
            }
            Err(Wrong::Problem(problem)) => {
                Ok(self.code_page(request, (&so_far, &browser), Some(problem)))
            }
        }
    }

    async fn check(
        &self,
        accounts: &LocalUsers,
        attempt: CodeAttempt<'_>,
        so_far: &SoFar,
    ) -> Result<Result<Taken, Wrong>, PortalError> {
        let checked = match accounts.check_code(attempt).await {
            Ok(checked) => checked,
            Err(refusal) => return Ok(Err(Wrong::Refused(refusal))),
        };
        let words: &[&str] = if let Some(step) = checked.step {
            let claimed = self.sessions.claim(&checked.identity.subject, step).await;
            if !claimed.map_err(|error| store(&error))? {
                return Ok(Err(Wrong::Problem(LoginProblem::UsedCode)));
            }
            &BY_CODE
        } else {
            self.audit.record(&AuditEvent::RecoveryCodeUsed {
                provider: accounts.id().to_owned(),
                user: checked.identity.user.clone(),
                left: checked.left,
                address: attempt.address,
            });
            &BY_RECOVERY_CODE
        };
        Ok(Ok(Taken {
            identity: checked.identity,
            amr: words.iter().map(|&word| word.to_owned()).collect(),
            epoch: Epoch::from_number(so_far.epoch),
            codes: None,
        }))
    }

    /// Nothing is begun before the new factor is kept. Whatever sessions the user has from before end with it.
    async fn enrol(
        &self,
        request: &PortalRequest<'_>,
        (accounts, attempt): (&LocalUsers, CodeAttempt<'_>),
        (factor, (proven, identity)): (&NewFactor, (Proven, Identity)),
    ) -> Result<Result<Taken, Wrong>, PortalError> {
        let step = match accounts.check_new(factor, attempt) {
            Ok(step) => step,
            Err(refusal) => return Ok(Err(Wrong::Refused(refusal))),
        };
        let subject = &identity.subject;
        let claimed = self.sessions.claim(subject, step).await;
        if !claimed.map_err(|error| store(&error))? {
            return Ok(Err(Wrong::Problem(LoginProblem::UsedCode)));
        }
        let before = self.sessions.epoch_of(subject).await;
        let before = before.map_err(|error| store(&error))?;
        let epoch = before.next(self.sessions.clock().now()).number();
        let codes = OwnWish::new_codes();
        let wish = OwnWish::SecondFactor(factor.clone(), codes.clone());
        let ready = match accounts.prepare(proven, wish, Some(epoch)).await {
            Ok(ready) => ready,
            Err(error) => return Ok(Err(Wrong::Problem(problem(error)))),
        };
        let ended = self.sessions.end_all_of(subject, EndReason::UserChanged);
        let ended = ended.await.map_err(|error| store(&error))?;
        if let Err(error) = ready.commit().await {
            return Ok(Err(Wrong::Problem(problem(error))));
        }
        self.audit.record(&AuditEvent::SecondFactorChanged {
            sid: None,
            provider: accounts.id().to_owned(),
            user: identity.user.clone(),
            change: "enabled",
            ended,
            address: request.client,
        });
        let epoch = self.sessions.epoch_of(subject).await;
        Ok(Ok(Taken {
            identity,
            amr: BY_CODE.map(str::to_owned).to_vec(),
            epoch: epoch.map_err(|error| store(&error))?,
            codes: Some(codes),
        }))
    }

    async fn come_in(
        &self,
        request: &PortalRequest<'_>,
        taken: Taken,
        (so_far, mut browser): (SoFar, Browser),
    ) -> Result<Page, PortalError> {
        let Taken {
            identity,
            amr,
            epoch,
            codes,
        } = taken;
        let (subject, user) = (identity.subject.clone(), identity.user.clone());
        let admission = Admission {
            identity,
            amr,
            proved: None,
            federated: None,
            remember: so_far.remember,
            epoch,
        };
        let issued = match self.admit(request, admission).await {
            Ok(issued) => issued,
            Err(LoginError::Store(error)) => return Err(store(&error)),
            Err(LoginError::Overtaken) => return self.begin_again(request, Typed::default()),
            Err(LoginError::Full { max }) => {
                let problem = LoginProblem::TooManySessions { max };
                return Ok(self.code_page(request, (&so_far, &browser), Some(problem)));
            }
        };
        browser.remember(&self.keyring, &subject.provider, &user);
        let now = self.sessions.clock().now();
        browser.came_in(&self.keyring, &subject, now);
        let mut page = match codes {
            None => self.welcome(request, &so_far.return_to, issued),
            Some(codes) => {
                let target = ReturnTo::parse(&so_far.return_to, request.serves);
                let page = self.pages.recovery_codes(&RecoveryCodesView {
                    user: &user,
                    host: request.host,
                    codes: &codes,
                    continue_to: target.unwrap_or_default().as_str(),
                    is_new: true,
                });
                self.with_session(page, issued)
            }
        };
        let cookie = self.known_browser_cookie(&browser);
        page.headers_mut().append(SET_COOKIE, cookie);
        Ok(page)
    }

    fn code_refused(
        &self,
        request: &PortalRequest<'_>,
        (so_far, browser): (&SoFar, &Browser),
        refusal: Refusal,
    ) -> Page {
        let user = &so_far.half.user;
        let problem = self.note_wrong_code(request, user, refusal);
        self.metrics.login(match refusal {
            Refusal::Credentials => LoginOutcome::Failed,
            Refusal::TooManyAttempts { .. } => LoginOutcome::Throttled,
            Refusal::Busy | Refusal::Unavailable => LoginOutcome::Busy,
        });
        self.code_page(request, (so_far, browser), Some(problem))
    }

    /// What is said of a code that was not taken, to whom it concerns and to the audit log.
    pub(super) fn note_wrong_code(
        &self,
        request: &PortalRequest<'_>,
        user: &str,
        refusal: Refusal,
    ) -> LoginProblem {
        let provider = self.accounts.as_ref();
        let provider = provider.map_or_else(String::new, |accounts| accounts.id().to_owned());
        let (user, address) = (clipped(user), request.client);
        match refusal {
            Refusal::Credentials => {
                self.audit.record(&AuditEvent::SecondFactorFailed {
                    provider,
                    user,
                    address,
                });
                LoginProblem::WrongCode
            }
            Refusal::TooManyAttempts { retry_after } => {
                self.audit.record(&AuditEvent::LoginThrottled {
                    provider,
                    user,
                    address,
                });
                LoginProblem::TooMany {
                    minutes: retry_after.as_secs().div_ceil(60).max(1),
                }
            }
            Refusal::Busy => LoginProblem::Busy,
            Refusal::Unavailable => LoginProblem::Unavailable,
        }
    }

    fn code_page(
        &self,
        request: &PortalRequest<'_>,
        (so_far, browser): (&SoFar, &Browser),
        problem: Option<LoginProblem>,
    ) -> Page {
        let user = &so_far.half.user;
        let factor = so_far.factor.as_ref();
        let shown = factor.and_then(|factor| factor.shown(request.host, user));
        self.pages.second_step(&SecondStepView {
            state: &self.seal_state(browser.id(), so_far),
            user,
            host: request.host,
            enrolment: shown.as_ref(),
            problem,
        })
    }

    fn open_so_far(&self, text: &str, browser: &Browser) -> Option<SoFar> {
        let so_far: SoFar = self.open_state(browser.id(), text)?;
        let age = self.sessions.clock().now().since(so_far.proved);
        (age < MAX_AGE).then_some(so_far)
    }

    /// What travels in a form between two steps, bound to the browser or to the session.
    pub(super) fn seal_state<T: Serialize>(&self, bound_to: &[u8], state: &T) -> String {
        let plain = postcard::to_stdvec(state).map(Zeroizing::new);
        let sealed = plain.map(|plain| self.keyring.seal(Purpose::SecondStep, bound_to, &plain));
        // Strings, numbers and sequences always encode; nothing opens an empty text.
        URL_SAFE_NO_PAD.encode(sealed.unwrap_or_default())
    }

    pub(super) fn open_state<T: for<'a> Deserialize<'a>>(
        &self,
        bound_to: &[u8],
        text: &str,
    ) -> Option<T> {
        let fits = text.len() <= MAX_TEXT;
        let sealed = fits.then(|| URL_SAFE_NO_PAD.decode(text).ok()).flatten()?;
        let plain = self.keyring.open(Purpose::SecondStep, bound_to, &sealed)?;
        postcard::from_bytes(&plain).ok()
    }
}

/// Why a second step was not taken.
enum Wrong {
    Problem(LoginProblem),
    Refused(Refusal),
}

pub(super) fn problem(error: ChangeError) -> LoginProblem {
    match error {
        ChangeError::Busy => LoginProblem::Busy,
        ChangeError::Overtaken => LoginProblem::Overtaken,
        ChangeError::Refused(_) | ChangeError::Unwritable => LoginProblem::Unavailable,
    }
}

fn store(error: &StoreError) -> PortalError {
    PortalError::Store(error.to_string())
}
