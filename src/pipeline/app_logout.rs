//! Where people log out at an app, their session here ends with the app's: as soon as the app has answered, and before
//! anybody hears of that.

use http::StatusCode;

use super::Refusal;
use super::aftermath::Aftermath;
use super::exchange::Onward;
use super::original::Original;
use super::visit::{Notes, Visit};
use crate::session::EndReason;
use crate::telemetry::AuditEvent;

impl Visit {
    /// Ends the session of somebody whom the app has just logged out. What another site makes a browser do ends the app's
    /// session at most: that is between the two of them.
    pub(super) async fn leave(
        &self,
        (original, onward): (&Original, &Onward<'_>),
        status: StatusCode,
        notes: &mut Notes,
    ) -> Result<Option<Aftermath>, Refusal> {
        let Some(session) = onward.passed.session() else {
            return Ok(None);
        };
        let went_well = status.is_success() || status.is_redirection();
        if !went_well || status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let Onward { route, host, .. } = *onward;
        let shared = &*self.pipeline.shared;
        if !crate::portal::is_from_here(&original.method, &original.headers, host.authority()) {
            let (place, address) = (route.id.clone(), onward.client.ip);
            shared
                .audit
                .record(&AuditEvent::CrossSiteRefused { place, address });
            return Ok(None);
        }
        let serves = |named: &str, port| shared.serves(named, port, host);
        let request = original.as_asked((onward, Some(session)), &serves);
        let parting = shared.portal.parting(&request, session);
        if let Some(jar) = &route.cookie_jar {
            shared.sessions.spare_jar(session, Some(&jar.name));
        }
        let ended = shared.sessions.end(session.sid(), EndReason::AppLogout);
        ended
            .await
            .map_err(|error| Refusal::Store(error.to_string()))?;
        (notes.session, notes.clear_cookie, notes.begun) = (None, true, None);
        Ok(Some(Aftermath {
            cookies: parting.cookies,
            target: parting.target.filter(|_| original.is_page),
            clear_site_data: shared.portal.clear_site_data.clone(),
        }))
    }
}
