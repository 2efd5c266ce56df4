//! Who am I, and for how long: for scripts of the app. It never touches the idle timer.

use http::StatusCode;
use serde_json::json;

use super::origin::page_of;
use super::{Portal, PortalRequest, login_url};
use crate::wire::{Page, json_page};

impl Portal {
    pub(super) fn who_am_i(&self, request: &PortalRequest<'_>) -> Page {
        let session = request
            .session
            .and_then(|session| Some((session, session.identity()?)));
        let (status, body) = if let Some((session, identity)) = session {
            let (idle, absolute) = session.seconds_left(self.sessions.clock().now());
            let body = json!({
                "authenticated": true,
                "user": identity.user,
                "sid": session.sid().to_string(),
                "provider": identity.subject.provider,
                "amr": session.private().amr,
                "auth_time": session.private().auth_time.as_secs(),
                "idle_seconds_left": idle,
                "absolute_seconds_left": absolute,
            });
            (StatusCode::OK, body)
        } else {
            let page = page_of(request.headers, request.authority, request.serves);
            let login_url = login_url(page.as_str());
            let body = json!({ "authenticated": false, "login_url": login_url });
            (StatusCode::UNAUTHORIZED, body)
        };
        json_page(status, &body)
    }
}
