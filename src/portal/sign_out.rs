//! Logging out: a GET shows a button, a POST with the right form token ends the session, in the store before the answer.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{HeaderValue, SET_COOKIE};

use super::challenge::redirect;
use super::{Portal, PortalError, PortalRequest, form, login_url, place};
use crate::secret::{Keyring, Purpose};
use crate::session::{EndReason, LiveSession};
use crate::wire::{ClientBody, Page};

impl Portal {
    pub(super) fn show_logout(&self, request: &PortalRequest<'_>) -> Page {
        let session = request
            .session
            .and_then(|session| Some((session, session.identity()?)));
        match session {
            Some((session, identity)) => {
                let token = form_token(&self.keyring, session);
                let mut page = self.pages.logout(&place("logout"), &token, &identity.user);
                self.let_leave(&mut page, session);
                page
            }
            None => self.pages.logged_out(&login_url("/")),
        }
    }

    pub(super) async fn log_out(
        &self,
        request: &PortalRequest<'_>,
        body: ClientBody,
    ) -> Result<Page, PortalError> {
        self.demand_same_origin(request)?;
        let farewell = request
            .session
            .and_then(|session| self.farewell(request, session));
        if let Some(session) = request.session {
            let form = form::read(body).await?;
            let token = form.get("token").map_or("", |value| value.as_str());
            if !is_form_token(&self.keyring, session, token) {
                return Err(PortalError::CrossSite);
            }
            let ended = self.sessions.end(session.sid(), EndReason::Logout).await;
            ended.map_err(|error| PortalError::Store(error.to_string()))?;
        }
        let mut page = match farewell {
            Some(there) => redirect(&there),
            None => self.pages.logged_out(&login_url("/")),
        };
        let headers = page.headers_mut();
        headers.append(SET_COOKIE, self.sessions.settings().cookie.clear());
        if let Some(none) = self.sessions.forget_ticket() {
            headers.append(SET_COOKIE, none);
        }
        if let (Some(_), Some(mut browser)) = (request.session, self.browser(request)) {
            browser.went_out();
            headers.append(SET_COOKIE, self.known_browser_cookie(&browser));
        }
        if let Some(kinds) = &self.clear_site_data {
            headers.insert("clear-site-data", kinds.clone());
        }
        Ok(page)
    }
}

/// What a browser is told whose session ends elsewhere than at our own page.
#[derive(Debug)]
pub struct Parting {
    /// `Set-Cookie`, beside those that take the session's own away.
    pub cookies: Vec<HeaderValue>,
    /// The provider's own logout, where a browser is sent there.
    pub target: Option<String>,
}

impl Portal {
    /// To be asked before the session ends.
    pub fn parting(&self, request: &PortalRequest<'_>, session: &LiveSession) -> Parting {
        let known = self.browser(request).map(|mut browser| {
            browser.went_out();
            self.known_browser_cookie(&browser)
        });
        Parting {
            cookies: known.into_iter().collect(),
            target: self.farewell(request, session),
        }
    }
}

/// Proof that a form of ours was shown within this session. It says nothing to anyone else.
pub(super) fn form_token(keyring: &Keyring, session: &LiveSession) -> String {
    let sealed = keyring.seal(Purpose::FormToken, session.sid().as_bytes(), b"");
    URL_SAFE_NO_PAD.encode(sealed)
}

pub(super) fn is_form_token(keyring: &Keyring, session: &LiveSession, text: &str) -> bool {
    const MAX_LEN: usize = 128;
    let sealed = if text.len() <= MAX_LEN {
        URL_SAFE_NO_PAD.decode(text).unwrap_or_default()
    } else {
        return false;
    };
    keyring
        .open(Purpose::FormToken, session.sid().as_bytes(), &sealed)
        .is_some()
}
