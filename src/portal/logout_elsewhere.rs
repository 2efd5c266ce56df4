//! Logging out where people log in at another site: the provider says that a session of its own is over (back-channel), and
//! who logs out here is sent there to log out, too. What ends here has ended before anybody is answered.

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;

use super::away::origin;
use super::{Means, Portal, PortalError, PortalRequest, form, place};
use crate::login::{Logout, Oidc, OidcError};
use crate::session::{EndReason, LiveSession};
use crate::telemetry::AuditEvent;
use crate::wire::{ClientBody, Page, json_page};

/// What the places begin with where providers tell of logouts.
pub(super) const PLACE: &str = "backchannel-logout/";

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
            Ok(logout) => self.end_all_in(id, logout).await?,
            Err(error) => return Ok(self.refuse_logout(request, id, &error)),
        };
        self.audit.record(&AuditEvent::ProviderLogout {
            provider: id.to_owned(),
            ended,
            address: request.client,
        });
        Ok(json_page(StatusCode::OK, &json!({ "ended": ended })))
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
