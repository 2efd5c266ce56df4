//! Logging in with a form: shows it, takes it, and on success begins a session under a new token. Nothing is stored for
//! a login that has not finished (R12): it travels sealed in the form, bound to one small cookie of the browser.

use std::time::Duration;

use http::HeaderValue;
use http::header::{SET_COOKIE, USER_AGENT};

use super::challenge::redirect;
use super::login_problem::LoginProblem;
use super::pages::{LoginView, SignedInView};
use super::sign_out::form_token;
use super::{
    Portal, PortalError, PortalRequest, Provider, ReturnTo, form, is_same_origin, own_sessions,
    place,
};
use crate::identity::Identity;
use crate::login::{Browser, Credentials, Opening, PendingLogin, Refusal, Step};
use crate::secret::Secret;
use crate::session::{EndReason, Epoch, Found, Issued, LiveSession, Login, LoginError};
use crate::telemetry::{AuditEvent, LoginOutcome};
use crate::wire::{ClientBody, Page};

/// How long a login form may lie open.
const FORM_MAX_AGE: Duration = Duration::from_hours(1);

/// How long a browser is recognised that has not logged in, and one that has.
const STRANGER_MAX_AGE: Duration = Duration::from_hours(24);
const KNOWN_MAX_AGE: Duration = Duration::from_hours(4320);

/// The longest user name and password that are looked at, in bytes.
const MAX_USER: usize = 256;
const MAX_PASSWORD: usize = 1024;

/// What somebody put into the form besides the password.
#[derive(Clone, Copy, Default)]
struct Typed<'a> {
    user: Option<&'a str>,
    remember: bool,
}

/// A user who has proved who they are, and where that began.
struct Admission<'a> {
    identity: Identity,
    /// Of their sessions, before the proof was looked at.
    epoch: Epoch,
    browser: Browser,
    typed: Typed<'a>,
    pending: &'a PendingLogin,
}

impl Portal {
    pub(super) fn show_login(&self, request: &PortalRequest<'_>) -> Page {
        let return_to = Self::return_to(request);
        let is_prompted = request.parameter("prompt").as_deref() == Some("login");
        let is_asked = request.session.is_none() || is_prompted;
        if is_asked && let Some(page) = self.stop_going_round(request, &return_to) {
            return page;
        }
        if let Some(session) = request.session.filter(|_| !is_prompted)
            && let Some(identity) = session.identity()
        {
            return self.pages.signed_in(&SignedInView {
                user: &identity.user,
                host: request.host,
                continue_to: return_to.as_str(),
                logout_action: &place("logout"),
                sessions_url: &place(own_sessions::PLACE),
                form_token: &form_token(&self.keyring, session),
            });
        }
        self.form(request, return_to.as_str(), &Typed::default(), None)
    }

    pub(super) async fn log_in(
        &self,
        request: &PortalRequest<'_>,
        body: ClientBody,
    ) -> Result<Page, PortalError> {
        self.demand_same_origin(request)?;
        let Some(provider) = &self.provider else {
            return Err(PortalError::NotFound);
        };
        let form = form::read(body).await?;
        let field = |name: &str| form.get(name).map_or("", |value| value.as_str());
        let user = field("user");
        let typed = Typed {
            user: Some(user),
            remember: field("remember") == "yes",
        };
        let browser = self.browser(request);
        let pending = browser.as_ref().map(|browser| {
            let opening = Opening {
                browser,
                now: self.sessions.clock().now(),
                max_age: FORM_MAX_AGE,
            };
            PendingLogin::open(field("state"), &self.keyring, &opening)
        });
        let (Some(browser), Some(Ok(pending))) = (browser, pending) else {
            // Too old, another browser's, or the browser keeps no cookies: a fresh form serves all three.
            let return_to = Self::return_to(request);
            let problem = match self.browser_cookie.find(request.headers) {
                Found::None => LoginProblem::NoCookie,
                Found::One(_) | Found::Several(_) => LoginProblem::Expired,
            };
            return Ok(self.form(request, return_to.as_str(), &typed, Some(problem)));
        };
        let password = field("password");
        if user.len() > MAX_USER || password.len() > MAX_PASSWORD {
            let (typed, refusal) = ((&typed, &pending), Refusal::Credentials);
            return Ok(self.refuse(request, provider, typed, refusal));
        }
        let epoch = self.sessions.epoch_of(&provider.method.subject(user)).await;
        let epoch = epoch.map_err(|error| PortalError::Store(error.to_string()))?;
        let credentials = Credentials {
            user: user.to_owned(),
            password: Secret::new(password.as_bytes()),
            address: request.client,
            known_browser: browser.knows(&self.keyring, &provider.id, user),
        };
        match provider.method.log_in(credentials).await {
            Step::Admit(identity) => {
                let admission = Admission {
                    identity,
                    epoch,
                    browser,
                    typed,
                    pending: &pending,
                };
                self.admit(request, admission).await
            }
            Step::Refuse(refusal) => {
                Ok(self.refuse(request, provider, (&typed, &pending), refusal))
            }
        }
    }

    /// A new token at every login (R4). Who has a session already goes on with it; anybody else's session that the browser
    /// had before ends.
    async fn admit(
        &self,
        request: &PortalRequest<'_>,
        admission: Admission<'_>,
    ) -> Result<Page, PortalError> {
        let Admission {
            identity,
            epoch,
            mut browser,
            typed,
            pending,
        } = admission;
        let (provider, user) = (identity.subject.provider.clone(), identity.user.clone());
        let visitor = request
            .session
            .filter(|session| session.identity().is_none());
        let login = Login {
            identity,
            amr: vec!["pwd".to_owned()],
            address: request.client,
            user_agent: request.headers.get(USER_AGENT).cloned(),
            remember: typed.remember,
            replaces: request.session.map(LiveSession::sid),
            epoch,
            carries: visitor.cloned(),
        };
        let issued = match self.go_on(request, &login).await? {
            Some(issued) => issued,
            None => match self.begin_session(request, login).await {
                Ok(issued) => issued,
                Err(LoginError::Store(error)) => return Err(PortalError::Store(error.to_string())),
                Err(LoginError::Overtaken) => {
                    self.metrics.login(LoginOutcome::Denied);
                    let problem = LoginProblem::Overtaken;
                    return Ok(self.form(request, &pending.return_to, &typed, Some(problem)));
                }
                Err(LoginError::Full { max }) => {
                    self.metrics.login(LoginOutcome::Denied);
                    let problem = LoginProblem::TooManySessions { max };
                    return Ok(self.form(request, &pending.return_to, &typed, Some(problem)));
                }
            },
        };
        browser.remember(&self.keyring, &provider, &user);
        browser.came_in(self.sessions.clock().now());
        self.metrics.login(LoginOutcome::Succeeded);
        // Judged again: what a form brings back was sealed by us, but hosts may have gone since.
        let target = ReturnTo::parse(&pending.return_to, request.serves).unwrap_or_default();
        let mut page = redirect(target.as_str());
        page.headers_mut().append(SET_COOKIE, issued.cookie);
        page.headers_mut()
            .append(SET_COOKIE, self.known_browser_cookie(&browser));
        Ok(page)
    }

    /// The browser's session under a new token, if it is the same user's. `None`: there is none to go on with.
    async fn go_on(
        &self,
        request: &PortalRequest<'_>,
        login: &Login,
    ) -> Result<Option<Issued>, PortalError> {
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
        let again = self.sessions.prove_again(token, login).await;
        again.map_err(|error| PortalError::Store(error.to_string()))
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

    fn refuse(
        &self,
        request: &PortalRequest<'_>,
        provider: &Provider,
        (typed, pending): (&Typed<'_>, &PendingLogin),
        refusal: Refusal,
    ) -> Page {
        let user = typed.user.unwrap_or_default();
        let (provider, named, address) = (provider.id.clone(), clipped(user), request.client);
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
        self.form(request, &pending.return_to, typed, Some(problem))
    }

    fn form(
        &self,
        request: &PortalRequest<'_>,
        return_to: &str,
        typed: &Typed<'_>,
        problem: Option<LoginProblem>,
    ) -> Page {
        let signed_in_as = request.session.and_then(LiveSession::identity);
        let signed_in_as = signed_in_as.map(|identity| identity.user.as_str());
        let offers_memory = self.sessions.settings().remember_me.is_some();
        let known = self.browser(request);
        let is_new = known.is_none();
        let browser = known.unwrap_or_default();
        let provider = self
            .provider
            .as_ref()
            .map_or_else(String::new, |provider| provider.id.clone());
        let now = self.sessions.clock().now();
        let pending = PendingLogin::begin(provider, return_to.to_owned(), now);
        let mut page = self.pages.login(&LoginView {
            state: &pending.seal(&self.keyring, &browser),
            user: typed.user.or(signed_in_as),
            problem,
            host: request.host,
            signed_in_as,
            // A session that goes on keeps its kind.
            remember: (offers_memory && signed_in_as.is_none()).then_some(typed.remember),
        });
        if is_new {
            // One that is known keeps its cookie, so forms in other tabs stay good.
            let cookie = self.browser_cookie(&browser, STRANGER_MAX_AGE);
            page.headers_mut().append(SET_COOKIE, cookie);
        }
        page
    }

    pub(super) fn browser(&self, request: &PortalRequest<'_>) -> Option<Browser> {
        match self.browser_cookie.find(request.headers) {
            Found::One(value) => Browser::parse(&self.keyring, value),
            Found::None | Found::Several(_) => None,
        }
    }

    /// The cookie of a browser in which somebody has logged in.
    pub(super) fn known_browser_cookie(&self, browser: &Browser) -> HeaderValue {
        self.browser_cookie(browser, KNOWN_MAX_AGE)
    }

    fn browser_cookie(&self, browser: &Browser, max_age: Duration) -> HeaderValue {
        self.browser_cookie
            .set_cookie(&browser.encode(&self.keyring), Some(max_age))
    }

    fn return_to(request: &PortalRequest<'_>) -> ReturnTo {
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
        let (place, address) = (clipped(request.place), request.client);
        self.audit
            .record(&AuditEvent::CrossSiteRefused { place, address });
        Err(PortalError::CrossSite)
    }
}

/// What strangers typed, short enough to be logged.
fn clipped(text: &str) -> String {
    text.chars().take(64).collect()
}
