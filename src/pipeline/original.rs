//! A request as it came, before our own cookies were taken out of it: for the few routes on which a later step goes by that.

use http::Method;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;

use super::exchange::Onward;
use super::memo::HostMemo;
use super::path::NormalPath;
use super::visit::{Kind, Visit};
use crate::clock::Timestamp;
use crate::portal::{Audience, PortalRequest, Sender};
use crate::routing::{AppLogout, Route};
use crate::session::LiveSession;

/// What browsers send forms as.
const FORMS: [&[u8]; 3] = [
    b"application/x-www-form-urlencoded",
    b"multipart/form-data",
    b"text/plain",
];

/// What came, and which steps that are rare it may lead to.
#[derive(Debug)]
pub(super) struct Original {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) came: Timestamp,
    /// A person waits for a page, and can be led elsewhere.
    pub(super) is_page: bool,
    /// The answer may log somebody in.
    pub(super) may_log_in: bool,
    /// The answer may end the session.
    pub(super) logs_out: bool,
    /// Whose form it is that is kept where its session has ended.
    pub(super) sender: Option<Sender>,
}

impl Original {
    /// The same, for the portal to act upon.
    pub(super) fn as_asked<'a>(
        &'a self,
        (onward, session): (&Onward<'a>, Option<&'a LiveSession>),
        serves: &'a (dyn Fn(&str, Option<u16>) -> bool + Sync),
    ) -> PortalRequest<'a> {
        PortalRequest {
            method: &self.method,
            place: &onward.route.id,
            query: None,
            headers: &self.headers,
            authority: onward.host.authority(),
            host: &onward.host.host,
            client: onward.client.ip,
            session,
            serves,
        }
    }
}

impl Visit {
    /// `None` for almost every request.
    pub(super) fn original(
        &self,
        route: &Route,
        parts: &Parts,
        (path, kind, host): (&NormalPath<'_>, Kind, &HostMemo),
    ) -> Option<Box<Original>> {
        if !route.looks_back() || kind.upgrade {
            return None;
        }
        let is_answered = !matches!(parts.method, Method::HEAD | Method::OPTIONS);
        let may_log_in = route.may_log_in.is_some() && is_answered;
        let is_logout = |logout: &AppLogout| logout.is_asked(&parts.method, path.as_str());
        let logs_out = route.logout.as_ref().is_some_and(is_logout);
        let sender = self.sender(route, parts, (kind, host));
        (may_log_in || logs_out || sender.is_some()).then(|| {
            Box::new(Original {
                method: parts.method.clone(),
                headers: parts.headers.clone(),
                came: self.pipeline.shared.clock.now(),
                is_page: matches!(kind.asker.audience(), Audience::Form | Audience::Person),
                may_log_in,
                logs_out,
                sender,
            })
        })
    }

    /// Who sends a form, where the route keeps those and this one can be kept.
    fn sender(
        &self,
        route: &Route,
        parts: &Parts,
        (kind, host): (Kind, &HostMemo),
    ) -> Option<Sender> {
        route.keep_posts?;
        let is_form = parts.method == Method::POST && kind.asker.audience() == Audience::Form;
        if !is_form || !is_a_form(parts.headers.get(header::CONTENT_TYPE)?) {
            return None;
        }
        let portal = &self.pipeline.shared.portal;
        portal.sender(&parts.headers, host.authority())
    }
}

fn is_a_form(content_type: &HeaderValue) -> bool {
    let mut pieces = content_type.as_bytes().split(|byte| *byte == b';');
    let essence = pieces.next().unwrap_or_default().trim_ascii();
    FORMS.iter().any(|form| form.eq_ignore_ascii_case(essence))
}
