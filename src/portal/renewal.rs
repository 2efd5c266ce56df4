//! Tickets of nodes that make none: the node with the store renews them, and the other one sends people there and takes
//! them back. Who is sent round and round is told why.

use std::time::Duration;

use http::header::{HeaderMap, HeaderValue, SET_COOKIE};
use http::{Method, StatusCode};

use super::challenge::redirect;
use super::{
    ErrorView, LOGIN_PROMPT, Pages, Portal, PortalError, PortalRequest, login_url, script,
};
use crate::session::{CookieName, Found, Presence};
use crate::wire::Page;

pub(super) const PLACE: &str = "renew";

/// Times that a browser may be sent away in a row, each within [`ROUND`] of the one before.
const MAX_ROUNDS: u8 = 4;
const ROUND: Duration = Duration::from_secs(30);

/// What a node that knows sessions by tickets alone needs to send people away.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Where tickets are renewed.
    pub renew: String,
    /// How often a browser has been sent there in a row. No credential.
    pub rounds: CookieName,
}

impl Edge {
    /// How often the browser was sent away before.
    pub fn rounds(&self, headers: &HeaderMap) -> u8 {
        match self.rounds.find(headers) {
            Found::One(&[digit]) if digit.is_ascii_digit() => digit - b'0',
            Found::None | Found::One(_) => 0,
            Found::Several(_) => MAX_ROUNDS,
        }
    }

    /// The address that leads back to a place on this host, or on another one of ours that names its host.
    pub(super) fn url(&self, authority: &str, return_to: &str, anew: bool) -> String {
        let whole = if return_to.starts_with('/') {
            format!("https://{authority}{return_to}")
        } else {
            return_to.to_owned()
        };
        let query: String = url::form_urlencoded::byte_serialize(whole.as_bytes()).collect();
        let prompt = if anew { LOGIN_PROMPT } else { "" };
        format!("{}?return_to={query}{prompt}", self.renew)
    }

    /// Sends a browser away, or says why not.
    pub(super) fn send(&self, url: &str, rounds: u8, (pages, id): (&Pages, &str)) -> Page {
        if rounds < MAX_ROUNDS {
            let mut page = redirect(url);
            page.headers_mut()
                .append(SET_COOKIE, self.counted(rounds + 1));
            return page;
        }
        pages.error(&ErrorView {
            status: StatusCode::SERVICE_UNAVAILABLE,
            title: "Your login does not get here",
            message: "You were sent to log in several times, and this host still does not know you.",
            hint: Some(
                "Tell whoever runs this site: the cookie of the login may not be for this host, the keys of the login may not be \
                 known here, or the clocks of the machines differ.",
            ),
            request_id: id,
            action: Some(("Try again", url)),
        })
    }

    fn counted(&self, rounds: u8) -> HeaderValue {
        self.rounds.set_cookie(&rounds.to_string(), Some(ROUND))
    }

    fn logout_url(&self) -> String {
        let base = self.renew.strip_suffix(PLACE).unwrap_or(&self.renew);
        format!("{base}logout")
    }
}

impl Portal {
    /// Whether a host is served by a node that knows sessions by tickets alone.
    pub fn is_edge(&self, host: &str, port: Option<u16>) -> bool {
        let mut edges = self.edges.iter();
        edges.any(|(known, at)| known == host && *at == port)
    }

    /// A new ticket for whoever has a session, who then goes back to where they came from.
    pub(super) fn renew(&self, request: &PortalRequest<'_>) -> Result<Page, PortalError> {
        if self.sessions.ticket_cookie().is_none() {
            return Err(PortalError::NotFound);
        }
        let return_to = Self::return_to(request);
        let is_prompted = request.parameter("prompt").as_deref() == Some("login");
        let session = request
            .session
            .filter(|session| session.identity().is_some() && !is_prompted);
        let Some(session) = session else {
            let prompt = if is_prompted { LOGIN_PROMPT } else { "" };
            return Ok(redirect(&format!(
                "{}{prompt}",
                login_url(return_to.as_str())
            )));
        };
        // Whoever is sent here uses the other node.
        let used = Presence {
            idle_timeout: None,
            activity: true,
        };
        self.sessions.note(session, used);
        let ticket = self.sessions.ticket(session);
        let ticket = ticket.ok_or(PortalError::TooLargeForTicket)?;
        let mut page = redirect(return_to.as_str());
        page.headers_mut().append(SET_COOKIE, ticket);
        Ok(page)
    }

    /// The places of a node that has no login of its own.
    pub(super) fn at_edge(
        &self,
        edge: &Edge,
        request: &PortalRequest<'_>,
    ) -> Result<Page, PortalError> {
        let is_read = matches!(*request.method, Method::GET | Method::HEAD);
        match request.place {
            "login" if is_read => {
                let return_to = Self::return_to(request);
                let anew = request.parameter("prompt").as_deref() == Some("login");
                Ok(redirect(&edge.url(
                    request.authority,
                    return_to.as_str(),
                    anew,
                )))
            }
            "logout" if is_read => Ok(redirect(&edge.logout_url())),
            "session" if is_read => Ok(self.who_am_i(request)),
            script::PLACE if is_read => Ok(script::serve(request.headers)),
            "login" | "logout" | "session" | script::PLACE => {
                Err(PortalError::Method { allow: "GET, HEAD" })
            }
            _ => Err(PortalError::NotFound),
        }
    }
}
