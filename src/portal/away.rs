//! Logging in at another site: sends the browser there, and judges what it brings back. The login on its way travels
//! sealed in `state`, bound to the browser's cookie (R12); the provider has a place of its own to answer to, so that no
//! provider can pass for another.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderValue, SET_COOKIE};

use super::admission::Admission;
use super::challenge::redirect;
use super::stranded::{Cause, Stranded};
use super::{
    ACR_VALUES, LOGIN_PROMPT, Means, Portal, PortalError, PortalRequest, Provider, ReturnTo,
    acr_hint, login_url, place, provider_hint,
};
use crate::identity::Identity;
use crate::login::{Answer, Beginning, MAX_ACR_VALUES, Opening, PendingLogin, Proof, Site};
use crate::routing::split_authority;
use crate::session::{EndReason, LiveSession, LoginError};
use crate::telemetry::{AuditEvent, LoginOutcome};
use crate::wire::Page;

/// What the places of all providers begin with.
pub(super) const PLACE: &str = "callback/";

/// How long people may take at the provider.
pub(super) const MAX_AGE: Duration = Duration::from_hours(1);

/// How long a browser is recognised that has begun a login.
pub(super) const BROWSER_MAX_AGE: Duration = Duration::from_hours(24);

/// What a login is for.
#[derive(Clone, Copy)]
pub(super) struct Errand<'a> {
    pub(super) return_to: &'a str,
    /// The user has to show anew who they are.
    pub(super) anew: bool,
    /// In one of which ways; empty: in any.
    pub(super) acr_values: &'a [String],
}

impl<'a> Errand<'a> {
    pub(super) const fn to(return_to: &'a str, anew: bool) -> Self {
        Self {
            return_to,
            anew,
            acr_values: &[],
        }
    }

    fn of(pending: &'a PendingLogin) -> Self {
        Self {
            acr_values: &pending.acr_values,
            ..Self::to(&pending.return_to, pending.anew)
        }
    }
}

/// What a provider said through the browser.
struct Brought<'a> {
    state: Cow<'a, str>,
    issuer: Option<Cow<'a, str>>,
    /// A code, or an error.
    outcome: Result<Cow<'a, str>, Cow<'a, str>>,
}

impl Portal {
    /// The way there.
    pub(super) fn send_away(
        &self,
        request: &PortalRequest<'_>,
        (provider, site): (&Provider, &Site),
        (return_to, anew): (&str, bool),
    ) -> Result<Page, PortalError> {
        let stranded = |cause, errand| self.stranded(request, &provider.id, (cause, errand));
        let errand = Errand::to(return_to, anew);
        if !is_visit(request.headers) {
            let cause = Cause::Malformed("it was not opened as a page");
            return Err(stranded(cause, errand));
        }
        let redirect_uri = redirect_uri(request, &provider.id).ok_or(PortalError::NotFound)?;
        let known = self.browser(request);
        let is_new = known.is_none();
        let browser = known.unwrap_or_default();
        let now = self.sessions.clock().now();
        let mut pending =
            PendingLogin::begin(provider.id.clone(), return_to.to_owned(), (anew, now));
        pending.acr_values = acr_values(request).map_err(|cause| stranded(cause, errand))?;
        let there = site.begin(&Beginning {
            pending: &pending,
            state: &pending.seal(&self.keyring, &browser),
            redirect_uri: &redirect_uri,
        });
        let there = there.map_err(|error| stranded(error.into(), Errand::of(&pending)))?;
        let mut page = redirect(there.as_str());
        if is_new {
            let cookie = self.browser_cookie(&browser, BROWSER_MAX_AGE);
            page.headers_mut().append(SET_COOKIE, cookie);
        }
        Ok(page)
    }

    /// The way back.
    pub(super) async fn come_back(&self, request: &PortalRequest<'_>) -> Result<Page, PortalError> {
        let id = request.place.get(PLACE.len()..).unwrap_or_default();
        let provider = self.providers.iter().find(|provider| provider.id == id);
        let Some((id, Means::Elsewhere(site))) = provider.map(|found| (&found.id, &found.means))
        else {
            return Err(PortalError::NotFound);
        };
        let stranded = |cause, errand| self.stranded(request, id, (cause, errand));
        let unknown = Errand::to("/", false);
        let brought = brought(request).map_err(|cause| stranded(cause, unknown))?;
        let pending = self.pending(request, (id, &brought.state));
        let pending = match pending {
            Ok(pending) => pending,
            Err(Cause::Foreign) => {
                return self.go_on_without(request, id, &brought.state);
            }
            Err(cause) => return Err(stranded(cause, unknown)),
        };
        if site.is_over(&pending) && request.session.is_some_and(|session| is_of(session, id)) {
            // The page was opened again, be it by going back to it: the login has worked already.
            let target = ReturnTo::parse(&pending.return_to, request.serves).unwrap_or_default();
            return Ok(redirect(target.as_str()));
        }
        let redirect_uri = redirect_uri(request, id).ok_or(PortalError::NotFound)?;
        let answer = Answer {
            issuer: brought.issuer.as_deref(),
            outcome: match &brought.outcome {
                Ok(code) => Ok(code),
                Err(error) => Err(error),
            },
            redirect_uri: &redirect_uri,
        };
        let proof = site.finish(&answer, &pending).await;
        let proof = proof.map_err(|error| stranded(error.into(), Errand::of(&pending)))?;
        self.settle(request, site, (proof, &pending)).await
    }

    /// Of tabs that began at once in a browser that was not recognised yet, it knows one. That one logs in; the others go on
    /// with the session then, or begin again for their own pages.
    fn go_on_without(
        &self,
        request: &PortalRequest<'_>,
        id: &str,
        state: &str,
    ) -> Result<Page, PortalError> {
        let aim = PendingLogin::aim(state, &self.keyring);
        let is_in = request.session.is_some_and(|session| is_of(session, id));
        let (place, anew) = aim.clone().unwrap_or_default();
        let place = ReturnTo::parse(&place, request.serves).unwrap_or_default();
        if is_in && aim.is_some() && !anew {
            return Ok(redirect(place.as_str()));
        }
        let errand = Errand::to(place.as_str(), anew);
        Err(self.stranded(request, id, (Cause::Foreign, errand)))
    }

    async fn settle(
        &self,
        request: &PortalRequest<'_>,
        site: &Site,
        (proof, pending): (Proof, &PendingLogin),
    ) -> Result<Page, PortalError> {
        let errand = Errand::of(pending);
        let stranded = |cause| self.stranded(request, &pending.provider, (cause, errand));
        if pending.anew && proof.proved.is_none() && is_theirs(request, &proof) {
            return Err(stranded(Cause::NotFresh));
        }
        let epoch = self
            .sessions
            .epoch_since(&proof.identity.subject, pending.started)
            .await;
        let epoch = epoch.map_err(|error| PortalError::Store(error.to_string()))?;
        let subject = proof.identity.subject.clone();
        let admission = Admission {
            epoch: epoch.ok_or_else(|| stranded(Cause::Overtaken))?,
            identity: proof.identity,
            amr: proof.amr,
            federated: Some(proof.federated.clone()),
            // Where the provider does not say, nobody knows: it may be long ago.
            proved: Some(proof.proved.unwrap_or_default()),
            remember: false,
        };
        match self.admit(request, admission).await {
            Ok(issued) if site.has_ended(&proof.federated) => {
                let ended = self
                    .sessions
                    .end(issued.sid, EndReason::ProviderLogout)
                    .await;
                ended.map_err(|error| PortalError::Store(error.to_string()))?;
                Err(stranded(Cause::Overtaken))
            }
            Ok(issued) => {
                let mut page = self.welcome(request, &pending.return_to, issued);
                if let Some(mut browser) = self.browser(request) {
                    browser.came_in(&self.keyring, &subject, self.sessions.clock().now());
                    let cookie = self.known_browser_cookie(&browser);
                    page.headers_mut().append(SET_COOKIE, cookie);
                }
                Ok(page)
            }
            Err(LoginError::Full { max }) => Err(stranded(Cause::Full { max })),
            Err(LoginError::Overtaken) => Err(stranded(Cause::Overtaken)),
            Err(LoginError::Store(error)) => Err(PortalError::Store(error.to_string())),
        }
    }

    /// The login that a `state` is of: it began in this browser, and with this provider.
    fn pending(
        &self,
        request: &PortalRequest<'_>,
        (id, state): (&str, &str),
    ) -> Result<PendingLogin, Cause> {
        let browser = self.browser(request).ok_or(Cause::Foreign)?;
        let opening = Opening {
            browser: &browser,
            now: self.sessions.clock().now(),
            max_age: MAX_AGE,
        };
        let pending = PendingLogin::open(state, &self.keyring, &opening)?;
        if pending.provider != id {
            return Err(Cause::Malformed(
                "the answer came to the place of another provider",
            ));
        }
        Ok(pending)
    }

    /// Writes down what went wrong.
    pub(super) fn stranded(
        &self,
        request: &PortalRequest<'_>,
        provider: &str,
        (cause, errand): (Cause, Errand<'_>),
    ) -> PortalError {
        match &cause {
            // Counted where it was decided.
            Cause::Full { .. } | Cause::Overtaken => {}
            Cause::Unavailable(_) => self.metrics.login(LoginOutcome::Busy),
            _ => self.metrics.login(LoginOutcome::Failed),
        }
        self.audit.record(&AuditEvent::LoginStranded {
            provider: provider.to_owned(),
            cause: cause.name(),
            address: request.client,
        });
        let mut again = login_url(errand.return_to);
        let is_no_use_again = match cause {
            Cause::NotFresh | Cause::Unavailable(_) => true,
            Cause::TooOld(_) => errand.anew,
            _ => false,
        };
        if !is_no_use_again {
            again.push_str(&provider_hint(provider));
        }
        if errand.anew || matches!(cause, Cause::TooOld(_)) {
            again.push_str(LOGIN_PROMPT);
        }
        again.push_str(&acr_hint(errand.acr_values));
        PortalError::Stranded(Box::new(Stranded {
            provider: provider.to_owned(),
            cause,
            again,
        }))
    }
}

/// The kinds of login that the page to come back to wants. Whoever asks for others than that is asked again by the page.
fn acr_values(request: &PortalRequest<'_>) -> Result<Vec<String>, Cause> {
    let values = request.parameter(ACR_VALUES).unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if values.len() > MAX_ACR_VALUES || !values.bytes().all(is_plain) {
        return Err(Cause::Malformed(
            "it asks for no kind of login that there is",
        ));
    }
    Ok(values.split_ascii_whitespace().map(str::to_owned).collect())
}

/// Each parameter once: what comes twice means two things to two readers.
fn brought<'a>(request: &PortalRequest<'a>) -> Result<Brought<'a>, Cause> {
    if !is_visit(request.headers) {
        return Err(Cause::Malformed("it was not opened as a page"));
    }
    let query = request.query.unwrap_or_default().as_bytes();
    let (mut state, mut issuer, mut code, mut error) = (None, None, None, None);
    for (name, value) in url::form_urlencoded::parse(query) {
        let field = match name.as_ref() {
            "state" => &mut state,
            "iss" => &mut issuer,
            "code" => &mut code,
            "error" => &mut error,
            _ => continue,
        };
        if field.replace(value).is_some() {
            return Err(Cause::Malformed("a parameter comes twice"));
        }
    }
    let outcome = match (code, error) {
        (Some(code), None) => Ok(code),
        (None, Some(error)) => Err(error),
        _ => {
            return Err(Cause::Malformed(
                "it brings neither a code nor an error, or both",
            ));
        }
    };
    Ok(Brought {
        state: state.ok_or(Cause::Malformed("it brings no state"))?,
        issuer,
        outcome,
    })
}

/// Where this provider is to answer: at the host that the login is for. `None`: no route serves it.
fn redirect_uri(request: &PortalRequest<'_>, provider: &str) -> Option<String> {
    Some(format!("{}{}{provider}", origin(request)?, place(PLACE)))
}

/// The host that a request is for, in the one spelling that providers know. `None`: no route serves it.
pub(super) fn origin(request: &PortalRequest<'_>) -> Option<String> {
    let authority = request.authority.to_ascii_lowercase();
    let (host, port) = split_authority(&authority)?;
    if !(request.serves)(host, port) {
        return None;
    }
    let authority = authority.strip_suffix(":443").unwrap_or(&authority);
    Some(format!("https://{authority}"))
}

fn is_of(session: &LiveSession, provider: &str) -> bool {
    let identity: Option<&Identity> = session.identity();
    identity.is_some_and(|identity| identity.subject.provider == provider)
}

/// Whether it is the user's session that the browser has already.
fn is_theirs(request: &PortalRequest<'_>, proof: &Proof) -> bool {
    let identity = request.session.and_then(LiveSession::identity);
    identity.is_some_and(|identity| identity.subject == proof.identity.subject)
}

/// Whether somebody opens a page, as far as the browser says: neither a script nor a frame nor a picture begins or ends a
/// login.
pub(super) fn is_visit(headers: &HeaderMap) -> bool {
    let says = |name: &str, expected: &str| {
        let said: Option<&HeaderValue> = headers.get(name);
        said.is_none_or(|said| said == expected)
    };
    says("sec-fetch-mode", "navigate") && says("sec-fetch-dest", "document")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_that_is_opened_is_a_visit() {
        for (fields, expected) in [
            (&[][..], true),
            (&[("sec-fetch-mode", "navigate")], true),
            (
                &[
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                ],
                true,
            ),
            (
                &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
                false,
            ),
            (
                &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
                false,
            ),
            (&[("sec-fetch-mode", "cors")], false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(is_visit(&headers), expected, "{fields:?}");
        }
    }
}
