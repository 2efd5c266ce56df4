//! The endpoints that we serve ourselves, under one reserved prefix on every host. It may not know the apps.

mod admission;
mod at_app;
mod away;
mod challenge;
mod chooser;
mod form;
mod keeping_up;
mod kept;
mod login_problem;
mod logout_elsewhere;
mod origin;
mod own_change;
mod own_sessions;
mod pages;
mod passkey_login;
mod passkeys;
mod passkeys_page;
mod password;
mod password_page;
mod published;
mod renewal;
mod return_to;
mod rounds;
mod script;
mod second_step;
mod session_list;
mod sign_in;
mod sign_out;
mod stranded;
mod two_factor;
mod two_factor_page;
mod way_in;
mod who;

pub use at_app::{LetIn, Vouched};
pub use challenge::{Asker, Audience, Challenge, Keeping};
pub use chooser::{Choice, ChooserView};
pub use kept::{KEPT, KeptPost, NotSent, Sender, wanted};
pub use login_problem::LoginProblem;
pub use origin::{is_from_here, is_same_origin};
pub use pages::{ErrorView, LoginView, Pages, SignedInView};
pub use passkeys_page::{PasskeyRow, PasskeyView, PasskeysView};
pub use renewal::Edge;
pub use return_to::ReturnTo;
pub use rounds::GoingRoundView;
pub use session_list::{SessionRow, SessionsView};
pub use sign_out::Parting;
pub use stranded::{Cause, Stranded};

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};

use crate::login::{ExternalSettings, LocalUsers, LoginMethod, Passkeys, Site};
use crate::secret::Keyring;
use crate::session::{CookieName, LiveSession, Sessions};
use crate::telemetry::{Audit, Metrics};
use crate::wire::{ClientBody, Page, RESERVED_PREFIX};

/// Everything that the endpoints need, shared by all workers.
#[derive(Debug)]
pub struct Portal {
    pub sessions: Arc<Sessions>,
    pub keyring: Arc<Keyring>,
    pub audit: Audit,
    pub metrics: Arc<Metrics>,
    pub pages: Pages,
    /// In the order of the configuration.
    pub providers: Vec<Provider>,
    /// Those of them whose passwords are kept here.
    pub accounts: Option<Arc<LocalUsers>>,
    /// Their passkeys.
    pub passkeys: Option<Passkeys>,
    /// Recognises a browser before and after login; no session and no credential.
    pub browser_cookie: CookieName,
    /// Holds a login that has begun at an app's own page.
    pub pending_cookie: CookieName,
    /// `Clear-Site-Data` of a logout, where it is sent.
    pub clear_site_data: Option<HeaderValue>,
    /// The public keys of assertions, where any are made.
    pub keys: Option<Bytes>,
    /// Hosts, with their ports, of nodes that know sessions by tickets alone.
    pub edges: Vec<(String, Option<u16>)>,
    /// This is such a node.
    pub edge: Option<Edge>,
}

/// A way to log in.
#[derive(Debug)]
pub struct Provider {
    pub id: String,
    /// What people choose it by.
    pub name: String,
    pub means: Means,
}

/// How a way to log in works.
#[derive(Clone, Debug)]
pub enum Means {
    /// At an app's own login page.
    AtApp(Arc<ExternalSettings>),
    /// By what is typed into a form of ours.
    Form(Arc<dyn LoginMethod>),
    /// At another site, which sends the browser back.
    Elsewhere(Site),
}

/// A request to one of the endpoints.
pub struct PortalRequest<'a> {
    pub method: &'a Method,
    /// What follows the reserved prefix.
    pub place: &'a str,
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    /// As the client wrote it, with port.
    pub authority: &'a str,
    /// The same without port, in lower case.
    pub host: &'a str,
    pub client: IpAddr,
    pub session: Option<&'a LiveSession>,
    /// Whether a route serves this host, at this port.
    pub serves: &'a (dyn Fn(&str, Option<u16>) -> bool + Sync),
}

impl PortalRequest<'_> {
    /// The first of this name in the query.
    fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        let query = self.query.unwrap_or_default().as_bytes();
        let mut pairs = url::form_urlencoded::parse(query);
        pairs.find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

impl fmt::Debug for PortalRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortalRequest")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// Why an endpoint gives no page of its own.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PortalError {
    #[error("the form could not be read: {0}")]
    Body(String),
    #[error("the form is too large")]
    BodyTooLarge,
    #[error("the request does not come from one of our pages")]
    CrossSite,
    #[error("the endpoint does not take this method")]
    Method { allow: &'static str },
    #[error("there is no such endpoint")]
    NotFound,
    /// Of a form that was kept.
    #[error("a form that was kept is not sent: {0:?}")]
    NotSent(NotSent),
    #[error("the session store gives no answer: {0}")]
    Store(String),
    #[error(transparent)]
    Stranded(Box<Stranded>),
    #[error("what is to be told of the session does not fit into a cookie")]
    TooLargeForTicket,
}

impl Portal {
    pub async fn handle(
        &self,
        request: &PortalRequest<'_>,
        body: ClientBody,
    ) -> Result<Page, PortalError> {
        if let Some(edge) = &self.edge {
            return self.at_edge(edge, request);
        }
        self.demand_person(request)?;
        let is_read = matches!(*request.method, Method::GET | Method::HEAD);
        match (request.place, is_read, request.method == Method::POST) {
            ("login", true, _) => self.show_login(request),
            ("login", _, true) => self.log_in(request, body).await,
            ("logout", true, _) => Ok(self.show_logout(request)),
            ("logout", _, true) => self.log_out(request, body).await,
            (renewal::PLACE, true, _) => self.renew(request),
            ("session", true, _) => Ok(self.who_am_i(request)),
            (script::PLACE, true, _) => Ok(script::serve(request.headers)),
            (kept::PLACE, true, _) => self.show_kept(request).await,
            (kept::PLACE, _, true) => self.discard_kept(request, body).await,
            (script::PASSKEY_PLACE, true, _) if self.passkeys.is_some() => {
                Ok(script::serve_passkey(request.headers))
            }
            (passkey_login::RENEWAL_PLACE, true, _) => self.renew_question(request),
            (own_sessions::PLACE, true, _) => self.show_sessions(request).await,
            (own_sessions::PLACE, _, true) => self.end_sessions(request, body).await,
            (password::PLACE, true, _) => self.show_password(request),
            (password::PLACE, _, true) => self.change_password(request, body).await,
            (passkeys::PLACE, true, _) => self.show_passkeys(request).await,
            (passkeys::PLACE, _, true) => self.change_passkeys(request, body).await,
            (two_factor::PLACE, true, _) => self.show_two_factor(request).await,
            (two_factor::PLACE, _, true) => self.change_two_factor(request, body).await,
            (
                "login"
                | "logout"
                | kept::PLACE
                | own_sessions::PLACE
                | password::PLACE
                | passkeys::PLACE
                | two_factor::PLACE,
                ..,
            ) => Err(PortalError::Method {
                allow: "GET, HEAD, POST",
            }),
            // A HEAD would redeem a code.
            (callback, ..)
                if callback.starts_with(away::PLACE) && *request.method == Method::GET =>
            {
                self.come_back(request).await
            }
            (callback, ..) if callback.starts_with(away::PLACE) => {
                Err(PortalError::Method { allow: "GET" })
            }
            (told, _, true) if told.starts_with(logout_elsewhere::PLACE) => {
                self.told_of_logout(request, body).await
            }
            (told, ..) if told.starts_with(logout_elsewhere::PLACE) => {
                Err(PortalError::Method { allow: "POST" })
            }
            // Opened in a frame: nothing else is asked for.
            (told, ..)
                if told.starts_with(logout_elsewhere::FRAME) && *request.method == Method::GET =>
            {
                self.told_by_frame(request).await
            }
            (told, ..) if told.starts_with(logout_elsewhere::FRAME) => {
                Err(PortalError::Method { allow: "GET" })
            }
            (
                "session"
                | renewal::PLACE
                | script::PLACE
                | script::PASSKEY_PLACE
                | passkey_login::RENEWAL_PLACE,
                ..,
            ) => Err(PortalError::Method { allow: "GET, HEAD" }),
            _ => Err(PortalError::NotFound),
        }
    }

    /// Whether a place is the same for all, logged in or not, so that no session is looked for: what is kept by caches, what
    /// another site's frames open, and what a script of ours asks for on its own, sets no cookie.
    pub fn is_for_all(place: &str) -> bool {
        let is_script = matches!(place, script::PLACE | script::PASSKEY_PLACE);
        is_script
            || place == passkey_login::RENEWAL_PLACE
            || place.starts_with(logout_elsewhere::FRAME)
    }

    /// The cookies that are ours alone: no app sees them and no app sets them.
    pub fn cookie_names(&self) -> Vec<String> {
        let session = &self.sessions.settings().cookie;
        let always = [session, &self.browser_cookie, &self.pending_cookie].into_iter();
        let rounds = self.edge.as_ref().map(|edge| &edge.rounds);
        let all = always.chain(self.sessions.ticket_cookie()).chain(rounds);
        all.map(|name| name.as_str().to_owned()).collect()
    }
}

/// Asks for the login form though there is a session. OIDC Core section 3.1.2.1 has the word.
const LOGIN_PROMPT: &str = "&prompt=login";

/// Of the login page: the kinds of login that the page to come back to wants, with spaces between (OIDC Core section 3.1.2.1).
const ACR_VALUES: &str = "acr_values";

/// Asks for a login of one of these kinds.
fn acr_hint(values: &[String]) -> String {
    if values.is_empty() {
        return String::new();
    }
    let values = values.join(" ");
    let values: String = url::form_urlencoded::byte_serialize(values.as_bytes()).collect();
    format!("&{ACR_VALUES}={values}")
}

/// Asks for one way to log in. Ids are letters, digits and hyphens.
fn provider_hint(id: &str) -> String {
    format!("&provider={id}")
}

/// The address of an endpoint.
fn place(name: &str) -> String {
    format!("{RESERVED_PREFIX}{name}")
}

/// The login page that comes back to `return_to`.
fn login_url(return_to: &str) -> String {
    let query = url::form_urlencoded::byte_serialize(return_to.as_bytes());
    let query: String = query.collect();
    format!("{RESERVED_PREFIX}login?return_to={query}")
}
