//! Logging in with a passkey: the question goes out with the login form, and the answer comes back in it. Whatever is wrong
//! with an answer, it is refused in the same words.

use http::StatusCode;
use serde_json::json;

use super::admission::Admission;
use super::login_problem::LoginProblem;
use super::passkeys_page::PasskeyView;
use super::script::PASSKEY_PLACE;
use super::sign_in::{Returned, Typed};
use super::{Portal, PortalError, PortalRequest, Provider};
use crate::login::{Answered, Asked, Browser, PasskeyError, Passkeys, QuestionId};
use crate::telemetry::{AuditEvent, LoginOutcome};
use crate::wire::{Page, json_page};

/// How the user showed who they are (RFC 8176): a key that proves itself, after its holder was there and verified.
const AMR: [&str; 3] = ["pop", "user", "mfa"];

pub(super) const ANSWERED: PasskeyError = PasskeyError::Refused("it was answered before");

/// The place of newer questions, for forms that lie open for longer than a question is good.
pub(super) const RENEWAL_PLACE: &str = "passkey-options";

/// Where the script is, and where it gets a newer question.
pub(super) const SCRIPT: &str = "/.doorward/passkey.js";
pub(super) const RENEWAL: &str = "/.doorward/passkey-options";

impl Asked {
    pub(super) fn view<'a>(&'a self, request: &PortalRequest<'a>) -> PasskeyView<'a> {
        debug_assert!(SCRIPT.ends_with(PASSKEY_PLACE), "one and the same");
        debug_assert!(RENEWAL.ends_with(RENEWAL_PLACE), "one and the same");
        PasskeyView {
            options: &self.options,
            state: &self.state,
            script: SCRIPT,
            renewal: None,
            authority: request.authority,
        }
    }
}

impl Portal {
    /// `None`: the provider has no passkeys, nobody has added one, or none can be used at this host.
    pub(super) fn ask_for_passkey(
        &self,
        request: &PortalRequest<'_>,
        (provider, browser): (&Provider, &Browser),
    ) -> Option<Asked> {
        self.passkeys_of(provider)?
            .ask_to_log_in(request.authority, browser.id())
    }

    /// The same question anew, of a browser that has the form already. Nothing is stored for it either.
    pub(super) fn renew_question(&self, request: &PortalRequest<'_>) -> Result<Page, PortalError> {
        let passkeys = self.passkeys.as_ref();
        let browser = self.browser(request);
        let asked = passkeys
            .zip(browser)
            .and_then(|(passkeys, browser)| passkeys.ask_to_log_in(request.authority, browser.id()))
            .ok_or(PortalError::NotFound)?;
        let body = json!({ "options": asked.options, "state": asked.state });
        Ok(json_page(StatusCode::OK, &body))
    }

    pub(super) async fn log_in_by_passkey(
        &self,
        request: &PortalRequest<'_>,
        (state, credential): (&str, &str),
        (typed, returned): (Typed<'_>, Returned<'_>),
    ) -> Result<Page, PortalError> {
        let Some(passkeys) = self.passkeys_of(returned.provider) else {
            return Err(PortalError::NotFound);
        };
        let browser = returned.browser.id();
        let answered = Answered {
            authority: request.authority,
            bound_to: browser,
            state,
            credential,
        };
        let claim = match passkeys.claim(answered, request.client).await {
            Ok(claim) => claim,
            Err(error) => return Ok(self.not_by_passkey(request, (&typed, &returned), error)),
        };
        let user = claim.user.clone();
        let epoch = self.sessions.epoch_of(&passkeys.subject(&claim.user)).await;
        let epoch = epoch.map_err(|error| PortalError::Store(error.to_string()))?;
        let question = claim.question();
        let proved = match passkeys.prove(claim).await {
            Ok(proved) => proved,
            Err(error) => {
                let error = self.seen_through(question, error).await?;
                return Ok(self.not_by_passkey(request, (&typed, &returned), error));
            }
        };
        // Only what is good is claimed, so that nobody else fills the store; and before a counter is written, so that what
        // comes again never looks like a copy.
        let claimed = self.sessions.claim_answer(&question).await;
        if !claimed.map_err(|error| PortalError::Store(error.to_string()))? {
            return Ok(self.not_by_passkey(request, (&typed, &returned), ANSWERED));
        }
        let identity = match passkeys.keep(proved).await {
            Ok(identity) => identity,
            Err(error) => return Ok(self.not_by_passkey(request, (&typed, &returned), error)),
        };
        let admission = Admission {
            identity,
            amr: AMR.map(str::to_owned).into(),
            proved: None,
            federated: None,
            remember: typed.remember,
            epoch,
        };
        // Whatever was typed: nobody makes their browser known as another's.
        let typed = Typed {
            user: Some(&user),
            ..typed
        };
        self.let_in(request, admission, (&typed, returned)).await
    }

    /// An answer that comes again has the counter of the first time, as that of a copy would have.
    async fn seen_through(
        &self,
        question: QuestionId,
        error: PasskeyError,
    ) -> Result<PasskeyError, PortalError> {
        if !matches!(error, PasskeyError::Cloned { .. }) {
            return Ok(error);
        }
        let answered = self.sessions.is_answered(&question).await;
        let answered = answered.map_err(|error| PortalError::Store(error.to_string()))?;
        Ok(if answered { ANSWERED } else { error })
    }

    fn not_by_passkey(
        &self,
        request: &PortalRequest<'_>,
        (typed, returned): (&Typed<'_>, &Returned<'_>),
        error: PasskeyError,
    ) -> Page {
        let (provider, address) = (returned.provider.id.clone(), request.client);
        let cause = error.to_string();
        // Whoever it was, nobody has shown to be anybody.
        let user = String::new();
        let (outcome, problem, event) = match error {
            PasskeyError::Busy => (LoginOutcome::Busy, LoginProblem::Busy, None),
            PasskeyError::Unavailable => (LoginOutcome::Busy, LoginProblem::Unavailable, None),
            PasskeyError::Expired => (LoginOutcome::Failed, LoginProblem::Expired, None),
            PasskeyError::TooMany { retry_after } => {
                let minutes = retry_after.as_secs().div_ceil(60).max(1);
                let event = AuditEvent::LoginThrottled {
                    provider,
                    user,
                    address,
                };
                let problem = LoginProblem::TooMany { minutes };
                (LoginOutcome::Throttled, problem, Some(event))
            }
            PasskeyError::Cloned { user } => {
                let event = AuditEvent::PasskeyCloned {
                    provider,
                    user,
                    address,
                };
                (LoginOutcome::Failed, LoginProblem::Passkey, Some(event))
            }
            PasskeyError::Refused(_) => {
                let event = AuditEvent::LoginFailed {
                    provider,
                    user,
                    address,
                };
                (LoginOutcome::Failed, LoginProblem::Passkey, Some(event))
            }
        };
        self.metrics.login(outcome);
        if problem == LoginProblem::Passkey {
            tracing::info!(%address, cause, "a passkey was refused");
        }
        if let Some(event) = event {
            self.audit.record(&event);
        }
        self.form_again(request, (typed, returned), problem)
    }

    fn passkeys_of(&self, provider: &Provider) -> Option<&Passkeys> {
        let passkeys = self.passkeys.as_ref();
        passkeys.filter(|passkeys| passkeys.provider() == provider.id)
    }
}
