//! Logging out where people log in at another site: the provider says that a session of its own is over (back-channel), or
//! has the browser say so (front-channel), and who logs out here is sent there to log out, too. What ends here has ended before
//! anybody is answered.

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;

use super::away::origin;
use super::{Means, Portal, PortalError, PortalRequest, form, place};
use crate::login::{Flaw, Logout, Oidc, OidcError};
use crate::session::{EndReason, LiveSession};
use crate::telemetry::AuditEvent;
use crate::wire::{ClientBody, Page, json_page};

/// What the places begin with where providers tell of logouts.
pub(super) const PLACE: &str = "backchannel-logout/";

/// What the places begin with that providers open in frames of their logout pages.
pub(super) const FRAME: &str = "frontchannel-logout/";

impl Portal {
    /// A provider tells of a logout. It is believed for what it signed, so no cookie is looked at, nor where it comes from.
    pub(super) async fn told_of_logout(
        &self,
        request: &PortalRequest<'_>,
        body: ClientBody,
    ) -> Result<Page, PortalError> {
        let id = request.place.get(PLACE.len()..).unwrap_or_default();
        let oidc = self.elsewhere(id).ok_or(PortalError::NotFound)?;
        let form = form::read(body).await?;
        let token = form.get("logout_token").map_or("", |value| value.as_str());
        let ended = match oidc.logout(token).await {
            Ok(logout) => {
                let token = logout.id.clone();
                let ended = self.end_all_in(id, logout).await;
                ended.inspect_err(|_| oidc.put_off(&token))?
            }
            Err(error) => return Ok(self.refuse_logout(request, id, &error)),
        };
        self.audit.record(&AuditEvent::ProviderLogout {
            provider: id.to_owned(),
            ended,
            address: request.client,
        });
        Ok(json_page(StatusCode::OK, &json!({ "ended": ended })))
    }

    /// A browser tells of a logout, in a frame of the provider's page (`OpenID` Connect Front-Channel Logout 1.0). Its cookie
    /// seldom comes along there, so the session is found by the provider's name for it. The answer is the same whether or
    /// not there was one.
    pub(super) async fn told_by_frame(
        &self,
        request: &PortalRequest<'_>,
    ) -> Result<Page, PortalError> {
        let id = request.place.get(FRAME.len()..).unwrap_or_default();
        let oidc = self.elsewhere(id).ok_or(PortalError::NotFound)?;
        let framed_by = oidc.frames().ok_or(PortalError::NotFound)?;
        let told = named(request).ok_or(OidcError::Unbelievable(NEITHER));
        let session = told.and_then(|(issuer, session)| oidc.left((&issuer, &session)));
        let (status, cause) = match session {
            Err(error) => (StatusCode::BAD_REQUEST, Some(error.to_string())),
            Ok(session) => match self.end_departed((id, session), request).await? {
                0 => (StatusCode::OK, Some("no session began in that".to_owned())),
                _ => (StatusCode::OK, None),
            },
        };
        if let Some(cause) = cause {
            self.audit.record(&AuditEvent::ProviderLogoutRefused {
                provider: id.to_owned(),
                cause,
                address: request.client,
            });
        }
        Ok(self.pages.frame(status, &framed_by))
    }

    async fn end_departed(
        &self,
        (provider, session): (&str, String),
        request: &PortalRequest<'_>,
    ) -> Result<usize, PortalError> {
        let ended = self.sessions.end_departed(provider.to_owned(), session);
        let ended = ended
            .await
            .map_err(|error| PortalError::Store(error.to_string()))?;
        if ended > 0 {
            self.audit.record(&AuditEvent::ProviderLogout {
                provider: provider.to_owned(),
                ended,
                address: request.client,
            });
        }
        Ok(ended)
    }

    /// Where a browser is sent after it has logged out here.
    pub(super) fn farewell(
        &self,
        request: &PortalRequest<'_>,
        session: &LiveSession,
    ) -> Option<String> {
        let provider = &session.identity()?.subject.provider;
        let federated = session.private().federated.as_ref()?;
        let back = format!("{}{}", origin(request)?, place("logout"));
        let there = self.elsewhere(provider)?.farewell(federated, &back)?;
        Some(there.into())
    }

    /// Browsers hold a form to the policy of its page up to the last redirect, so a page to log out at has to name where
    /// that leads, unless it is https.
    pub(super) fn let_leave(&self, page: &mut Page, session: &LiveSession) {
        let identity = session.identity();
        let oidc = identity.and_then(|identity| self.elsewhere(&identity.subject.provider));
        if let Some(origin) = oidc.and_then(Oidc::plain_farewell) {
            self.pages.lead_to(page, &origin);
        }
    }

    async fn end_all_in(&self, provider: &str, logout: Logout) -> Result<usize, PortalError> {
        let ended = match (logout.subject, logout.session) {
            (subject, Some(session)) => {
                let of = (subject, session);
                self.sessions.end_federated(provider.to_owned(), of).await
            }
            (Some(subject), None) => {
                let reason = EndReason::ProviderLogout;
                self.sessions.end_all_of(&subject, reason).await
            }
            (None, None) => Ok(0),
        };
        ended.map_err(|error| PortalError::Store(error.to_string()))
    }

    fn refuse_logout(&self, request: &PortalRequest<'_>, id: &str, error: &OidcError) -> Page {
        self.audit.record(&AuditEvent::ProviderLogoutRefused {
            provider: id.to_owned(),
            cause: error.to_string(),
            address: request.client,
        });
        if let OidcError::Unavailable(_) = error {
            let body = json!({ "error": "temporarily_unavailable" });
            return json_page(StatusCode::SERVICE_UNAVAILABLE, &body);
        }
        json_page(
            StatusCode::BAD_REQUEST,
            &json!({ "error": "invalid_request" }),
        )
    }

    fn elsewhere(&self, id: &str) -> Option<&Oidc> {
        let provider = self.providers.iter().find(|provider| provider.id == id)?;
        match &provider.means {
            Means::Elsewhere(site) => site.oidc().map(Arc::as_ref),
            Means::AtApp(_) | Means::Form(_) => None,
        }
    }
}

const NEITHER: Flaw = Flaw::Shape("it does not name one issuer and one session");

/// Issuer and session, each once: what comes twice means two things to two readers.
fn named(request: &PortalRequest<'_>) -> Option<(String, String)> {
    let (mut issuer, mut session) = (None, None);
    let query = request.query.unwrap_or_default().as_bytes();
    for (name, value) in url::form_urlencoded::parse(query) {
        let field = match name.as_ref() {
            "iss" => &mut issuer,
            "sid" => &mut session,
            _ => continue,
        };
        if field.replace(value.into_owned()).is_some() {
            return None;
        }
    }
    issuer.zip(session)
}
