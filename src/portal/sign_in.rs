//! Logging in with a form: shows it, takes it, and on success begins a session under a new token. Nothing is stored for
//! a login that has not finished (R12): it travels sealed in the form, bound to one small cookie of the browser.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::SET_COOKIE;

use super::admission::Admission;
use super::challenge::redirect;
use super::login_problem::LoginProblem;
use super::pages::{LoginView, SignedInView};
use super::passkey_login::RENEWAL;
use super::passkeys_page::PasskeyView;
use super::sign_out::form_token;
use super::{
    Means, Portal, PortalError, PortalRequest, Provider, ReturnTo, form, is_same_origin,
    own_sessions, place, second_step,
};
use crate::login::{Browser, Credentials, LoginMethod, Opening, PendingLogin, Refusal, Step};
use crate::secret::Secret;
use crate::session::{Found, LiveSession, LoginError};
use crate::telemetry::{AuditEvent, LoginOutcome};
use crate::wire::{ClientBody, Page};

/// How long a login form may lie open.
const FORM_MAX_AGE: Duration = Duration::from_hours(1);

/// How long a browser is recognised that has not logged in, and one that has.
const STRANGER_MAX_AGE: Duration = Duration::from_hours(24);
const KNOWN_MAX_AGE: Duration = Duration::from_hours(4320);

/// Asks to be sent on at once, where there is a session.
const CONTINUE: &str = "continue";

/// The longest user name and password that are looked at, in bytes.
const MAX_USER: usize = 256;
const MAX_PASSWORD: usize = 1024;

/// What somebody put into the form besides the password.
#[derive(Clone, Copy, Default)]
pub(super) struct Typed<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) remember: bool,
}

/// What a login is to lead to, and what is known of it so far.
#[derive(Clone, Copy, Default)]
pub(super) struct Sheet<'a> {
    pub(super) return_to: &'a str,
    /// There is a session, and its user has to show anew who they are.
    pub(super) anew: bool,
    typed: Typed<'a>,
    pub(super) problem: Option<LoginProblem>,
}

/// A form that came back in the browser that it was shown in.
pub(super) struct Returned<'a> {
    pub(super) provider: &'a Provider,
    method: &'a Arc<dyn LoginMethod>,
    pub(super) browser: Browser,
    pending: PendingLogin,
}

impl Portal {
    pub(super) fn show_login(&self, request: &PortalRequest<'_>) -> Result<Page, PortalError> {
        let return_to = Self::return_to(request);
        let is_prompted = request.parameter("prompt").as_deref() == Some("login");
        let is_asked = request.session.is_none() || is_prompted;
        if is_asked && let Some(page) = self.stop_going_round(request, &return_to) {
            return Ok(page);
        }
        if let Some(session) = request.session.filter(|_| !is_prompted)
            && let Some(identity) = session.identity()
        {
            // The browser takes the fragment along on a redirect, as it does after a login.
            if request.parameter(CONTINUE).is_some() {
                return Ok(redirect(return_to.as_str()));
            }
            let mut page = self.pages.signed_in(&SignedInView {
                user: &identity.user,
                host: request.host,
                continue_to: return_to.as_str(),
                elsewhere: self.out_of_reach(request, &return_to),
                logout_action: &place("logout"),
                sessions_url: &place(own_sessions::PLACE),
                passkeys_url: self.passkeys_url(identity).as_deref(),
                password_url: self.password_url(identity).as_deref(),
                two_factor_url: self.two_factor_url(identity).as_deref(),
                form_token: &form_token(&self.keyring, session),
            });
            self.let_leave(&mut page, session);
            return Ok(page);
        }
        let sheet = Sheet {
            return_to: return_to.as_str(),
            anew: is_prompted,
            ..Sheet::default()
        };
        self.way_in(request, &sheet)
    }

    pub(super) async fn log_in(
        &self,
        request: &PortalRequest<'_>,
        body: ClientBody,
    ) -> Result<Page, PortalError> {
        self.demand_same_origin(request)?;
        let form = form::read(body).await?;
        if form.contains_key(second_step::FIELD) {
            return self.second_step(request, &form).await;
        }
        let field = |name: &str| form.get(name).map_or("", |value| value.as_str());
        let user = field("user");
        let typed = Typed {
            user: Some(user),
            remember: field("remember") == "yes",
        };
        let Some(returned) = self.returned(request, field("state")) else {
            return self.begin_again(request, typed);
        };
        if !field("passkey").is_empty() {
            let answer = (field("passkey_state"), field("passkey"));
            return self
                .log_in_by_passkey(request, answer, (typed, returned))
                .await;
        }
        let password = field("password");
        if user.len() > MAX_USER || password.len() > MAX_PASSWORD {
            return Ok(self.refuse(request, (&typed, &returned), Refusal::Credentials));
        }
        let (provider, method) = (returned.provider, returned.method);
        let began = self.sessions.clock().now();
        let before = self.epoch_before(method.subject(user).as_ref()).await?;
        let credentials = Credentials {
            user: user.to_owned(),
            password: Secret::new(password.as_bytes()),
            address: request.client,
            known_browser: returned.browser.knows(&self.keyring, &provider.id, user),
        };
        match method.log_in(credentials).await {
            Step::Admit(identity) => {
                let epoch = self.epoch(before, (&identity.subject, began)).await?;
                let Some(epoch) = epoch else {
                    let problem = LoginProblem::Overtaken;
                    return Ok(self.form_again(request, (&typed, &returned), problem));
                };
                let admission = Admission {
                    identity,
                    amr: vec!["pwd".to_owned()],
                    proved: None,
                    federated: None,
                    remember: typed.remember,
                    epoch,
                };
                self.let_in(request, admission, (&typed, returned)).await
            }
            Step::GoOn(half) => {
                // Who has a second step is known by the name that was typed.
                let Some(epoch) = before else {
                    let problem = LoginProblem::Unavailable;
                    return Ok(self.form_again(request, (&typed, &returned), problem));
                };
                let Returned {
                    browser, pending, ..
                } = &returned;
                let so_far = (pending, typed.remember, epoch);
                Ok(self.ask_for_code(request, half, (browser, so_far)))
            }
            Step::Refuse(refusal) => Ok(self.refuse(request, (&typed, &returned), refusal)),
        }
    }

    /// Too old, another browser's, or the browser keeps no cookies: a fresh form serves all three.
    pub(super) fn begin_again(
        &self,
        request: &PortalRequest<'_>,
        typed: Typed<'_>,
    ) -> Result<Page, PortalError> {
        let return_to = Self::return_to(request);
        let problem = match self.browser_cookie.find(request.headers) {
            Found::None => LoginProblem::NoCookie,
            Found::One(_) | Found::Several(_) => LoginProblem::Expired,
        };
        let sheet = Sheet {
            return_to: return_to.as_str(),
            typed,
            problem: Some(problem),
            ..Sheet::default()
        };
        self.way_in(request, &sheet)
    }

    pub(super) async fn let_in(
        &self,
        request: &PortalRequest<'_>,
        admission: Admission,
        (typed, returned): (&Typed<'_>, Returned<'_>),
    ) -> Result<Page, PortalError> {
        // As it will be typed again; a directory may know the person by another.
        let user = typed.user.unwrap_or_default().to_owned();
        let subject = admission.identity.subject.clone();
        let problem = match self.admit(request, admission).await {
            Ok(issued) => {
                let Returned {
                    provider,
                    mut browser,
                    pending,
                    ..
                } = returned;
                browser.remember(&self.keyring, &provider.id, &user);
                let mut page = self.welcome(request, &pending.return_to, issued);
                browser.came_in(&self.keyring, &subject, self.sessions.clock().now());
                let cookie = self.known_browser_cookie(&browser);
                page.headers_mut().append(SET_COOKIE, cookie);
                return Ok(page);
            }
            Err(LoginError::Store(error)) => return Err(PortalError::Store(error.to_string())),
            Err(LoginError::Overtaken) => LoginProblem::Overtaken,
            Err(LoginError::Full { max }) => LoginProblem::TooManySessions { max },
        };
        Ok(self.form_again(request, (typed, &returned), problem))
    }

    fn returned(&self, request: &PortalRequest<'_>, state: &str) -> Option<Returned<'_>> {
        let browser = self.browser(request)?;
        let opening = Opening {
            browser: &browser,
            now: self.sessions.clock().now(),
            max_age: FORM_MAX_AGE,
        };
        let pending = PendingLogin::open(state, &self.keyring, &opening).ok()?;
        let provider = self.provider(&pending.provider)?;
        let Means::Form(method) = &provider.means else {
            return None;
        };
        Some(Returned {
            provider,
            method,
            browser,
            pending,
        })
    }

    fn refuse(
        &self,
        request: &PortalRequest<'_>,
        (typed, returned): (&Typed<'_>, &Returned<'_>),
        refusal: Refusal,
    ) -> Page {
        let user = typed.user.unwrap_or_default();
        let (provider, named, address) =
            (returned.provider.id.clone(), clipped(user), request.client);
        let (outcome, problem, event) = match refusal {
            Refusal::Credentials => (
                LoginOutcome::Failed,
                LoginProblem::WrongCredentials,
                Some(AuditEvent::LoginFailed {
                    provider,
                    user: named,
                    address,
                }),
            ),
            Refusal::TooManyAttempts { retry_after } => (
                LoginOutcome::Throttled,
                LoginProblem::TooMany {
                    minutes: retry_after.as_secs().div_ceil(60).max(1),
                },
                Some(AuditEvent::LoginThrottled {
                    provider,
                    user: named,
                    address,
                }),
            ),
            Refusal::Busy => (LoginOutcome::Busy, LoginProblem::Busy, None),
            Refusal::Unavailable => (LoginOutcome::Busy, LoginProblem::Unavailable, None),
        };
        self.metrics.login(outcome);
        if let Some(event) = event {
            self.audit.record(&event);
        }
        self.form_again(request, (typed, returned), problem)
    }

    pub(super) fn form_again(
        &self,
        request: &PortalRequest<'_>,
        (typed, returned): (&Typed<'_>, &Returned<'_>),
        problem: LoginProblem,
    ) -> Page {
        let sheet = Sheet {
            return_to: &returned.pending.return_to,
            anew: returned.pending.anew,
            typed: *typed,
            problem: Some(problem),
        };
        self.form(request, returned.provider, &sheet)
    }

    pub(super) fn form(
        &self,
        request: &PortalRequest<'_>,
        provider: &Provider,
        sheet: &Sheet<'_>,
    ) -> Page {
        let signed_in_as = request.session.and_then(LiveSession::identity);
        let signed_in_as = signed_in_as.filter(|identity| identity.subject.provider == provider.id);
        let signed_in_as = signed_in_as.map(|identity| identity.user.as_str());
        let offers_memory = self.sessions.settings().remember_me.is_some();
        let known = self.browser(request);
        let is_new = known.is_none();
        let browser = known.unwrap_or_default();
        let now = self.sessions.clock().now();
        let (id, return_to) = (provider.id.clone(), sheet.return_to.to_owned());
        let pending = PendingLogin::begin(id, return_to, (sheet.anew, now));
        let asked = self.ask_for_passkey(request, (provider, &browser));
        let mut page = self.pages.login(&LoginView {
            passkey: asked.as_ref().map(|asked| PasskeyView {
                renewal: Some(RENEWAL),
                ..asked.view(request)
            }),
            state: &pending.seal(&self.keyring, &browser),
            user: sheet
                .typed
                .user
                .filter(|user| !user.is_empty())
                .or(signed_in_as),
            problem: sheet.problem,
            host: request.host,
            signed_in_as,
            // A session that goes on keeps its kind.
            remember: (offers_memory && signed_in_as.is_none()).then_some(sheet.typed.remember),
        });
        if is_new {
            // One that is known keeps its cookie, so forms in other tabs stay good.
            let cookie = self.browser_cookie(&browser, STRANGER_MAX_AGE);
            page.headers_mut().append(SET_COOKIE, cookie);
        }
        page
    }

    /// The cookie of a browser in which somebody has logged in.
    pub(super) fn known_browser_cookie(&self, browser: &Browser) -> HeaderValue {
        self.browser_cookie(browser, KNOWN_MAX_AGE)
    }

    pub(super) fn return_to(request: &PortalRequest<'_>) -> ReturnTo {
        request
            .parameter("return_to")
            .and_then(|place| ReturnTo::parse(&place, request.serves))
            .unwrap_or_default()
    }

    pub(super) fn demand_same_origin(
        &self,
        request: &PortalRequest<'_>,
    ) -> Result<(), PortalError> {
        if is_same_origin(request.headers, request.authority) {
            return Ok(());
        }
        self.refuse_elsewhere(request)
    }

    /// What was asked by nobody who may, and is to be seen by whoever reads the audit log.
    pub(super) fn refuse_elsewhere(&self, request: &PortalRequest<'_>) -> Result<(), PortalError> {
        let (place, address) = (clipped(request.place), request.client);
        self.audit
            .record(&AuditEvent::CrossSiteRefused { place, address });
        Err(PortalError::CrossSite)
    }
}

/// What strangers typed, short enough to be logged.
pub(super) fn clipped(text: &str) -> String {
    text.chars().take(64).collect()
}
