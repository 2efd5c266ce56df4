//! Requests that are answered here and by no app: our own places, and everything that is turned down.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{Method, Response, StatusCode, Uri};

use super::Refusal;
use super::Shared;
use super::body::Body;
use super::client::{ask, covers, offer_basic};
use super::memo::HostMemo;
use super::path::NormalPath;
use super::recall::Terms;
use super::trail::Trail;
use super::visit::{Kind, Notes, Visit};
use crate::portal::{Asker, Challenge, Keeping, Portal, PortalRequest};
use crate::routing::Route;
use crate::session::{LiveSession, Presence};
use crate::telemetry::{AuditEvent, UpstreamFailure};
use crate::upstream::UpstreamError;
use crate::wire::{CHANGE_PASSWORD, ClientBody, RESERVED_PREFIX, RequestId, WELL_KNOWN_PREFIX};

/// A request to one of our own places.
pub(super) struct Asked<'a> {
    pub(super) uri: &'a Uri,
    pub(super) path: &'a NormalPath<'a>,
    pub(super) host: &'a HostMemo,
    pub(super) client: IpAddr,
}

impl Visit {
    pub(super) async fn portal(
        &self,
        (parts, body): (&mut Parts, ClientBody),
        asked: &Asked<'_>,
        notes: &mut Notes,
    ) -> Result<Response<Body>, Refusal> {
        let shared = &*self.pipeline.shared;
        if let Some(odd) = asked.path.oddities().iter().next() {
            return Err(Refusal::Odd(odd));
        }
        let path = asked.path.as_str();
        if path == CHANGE_PASSWORD {
            let page = shared.portal.find_password(&parts.method)?;
            return Ok(page.map(Body::own));
        }
        if let Some(place) = path.strip_prefix(WELL_KNOWN_PREFIX) {
            // The same for everybody: no session is looked for.
            let page = shared.portal.publish(&parts.method, place)?;
            return Ok(page.map(Body::own));
        }
        let place = path.get(RESERVED_PREFIX.len()..).unwrap_or_default();
        // Our own pages do not keep a session alive.
        let presence = Presence {
            idle_timeout: None,
            activity: false,
        };
        // The form is shown while the store is silent. All else says, or acts on, whether somebody is logged in: a logout
        // that found no session would look like one that was done.
        let is_form = place == "login" && matches!(parts.method, Method::GET | Method::HEAD);
        let terms = Terms {
            presence,
            is_public: is_form,
            // Whoever has to prove anew who they are does it here, and may also leave.
            takes_suspects: matches!(place, "login" | "logout") || place.starts_with("callback/"),
            needs_record: shared.portal.edge.is_none(),
        };
        let before = parts.headers.clone();
        if !Portal::is_for_all(place) {
            notes.session = self.session(&mut parts.headers, terms, notes).await?;
        }
        let serves = |host: &str, port| shared.serves(host, port, asked.host);
        let portal_request = PortalRequest {
            method: &parts.method,
            place,
            query: asked.uri.query(),
            headers: &before,
            authority: asked.host.authority(),
            host: &asked.host.host,
            client: asked.client,
            session: notes.session.as_ref(),
            serves: &serves,
        };
        let page = shared.portal.handle(&portal_request, body).await?;
        if page.headers().contains_key(header::SET_COOKIE) {
            // What the page says about cookies is the last word.
            (notes.clear_cookie, notes.session) = (false, None);
        }
        Ok(page.map(Body::own))
    }

    pub(super) fn challenge(
        &self,
        (kind, uri, keeping): (Kind, &Uri, Keeping),
        (headers, host): (&HeaderMap, &HostMemo),
        notes: &Notes,
    ) -> Response<Body> {
        let shared = &*self.pipeline.shared;
        let target = uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        let mut answer = Challenge {
            asker: kind.asker,
            target,
            authority: host.authority(),
            headers,
            serves: &|named: &str, port| shared.serves(named, port, host),
            pages: &shared.portal.pages,
            anew: notes.anew,
            provider: notes
                .route
                .as_ref()
                .and_then(|route| route.provider.as_deref()),
            acr_values: notes
                .route
                .as_ref()
                .map_or(&[][..], |route| &route.acr_values),
            edge: shared.portal.edge.as_ref().map(|edge| (edge, notes.rounds)),
            is_asked_elsewhere: false,
            keeping,
            id: notes.id.unwrap_or_else(|| shared.ids.next()),
        }
        .respond();
        let route = notes.route.as_deref();
        if let Some(clients) = route.and_then(|route| route.clients.as_ref())
            && answer.status() == StatusCode::UNAUTHORIZED
        {
            ask(answer.headers_mut(), (clients, kind.asker));
        }
        answer.map(Body::own)
    }

    pub(super) fn deny(&self, route: &Route, notes: &Notes, address: IpAddr) -> Refusal {
        let session = notes.session.as_ref();
        let granted = notes.grant.as_ref().map(|grant| &grant.identity);
        let identity = session.and_then(LiveSession::identity).or(granted);
        if let Some(identity) = identity {
            let event = AuditEvent::AccessDenied {
                sid: session.map(|session| session.sid().to_string()),
                user: identity.user.clone(),
                route: route.id.clone(),
                address,
            };
            self.pipeline.shared.audit.record(&event);
        }
        let lacks_scope = |grant| {
            route
                .clients
                .as_ref()
                .is_some_and(|clients| !covers(grant, clients))
        };
        match &notes.grant {
            Some(grant) if lacks_scope(grant) => Refusal::Scope,
            _ => Refusal::Denied,
        }
    }

    pub(super) fn refuse(
        &self,
        refusal: &Refusal,
        (asker, route): (Asker, Option<&Route>),
        trail: Option<&mut Trail>,
    ) -> Response<Body> {
        let shared = &*self.pipeline.shared;
        let id: RequestId = match &trail {
            Some(trail) => trail.id,
            None => shared.ids.next(),
        };
        if let Refusal::Upstream(error) | Refusal::Unreached(error) = refusal {
            if let Some(failure) = failure(error) {
                shared.metrics.upstream_failed(failure);
            }
            if let Some(trail) = trail {
                trail.failed(error);
            }
        }
        if refusal.is_stranded() {
            tracing::warn!(request = %id, error = %refusal, "a login failed");
        } else if refusal.status().is_server_error() {
            let upstreams = &self.pipeline.upstreams;
            let app = route.and_then(|route| upstreams.target(route.upstream?));
            let app = app.map(|target| target.url.as_str());
            let route = route.map(|route| route.id.as_str());
            tracing::warn!(request = %id, route, app, error = %refusal, "a request got no answer");
        } else {
            tracing::debug!(request = %id, error = %refusal, "a request was refused");
        }
        let mut page = refusal.respond(asker.audience_of_errors(), id, &shared.portal.pages);
        let clients = route.and_then(|route| route.clients.as_ref());
        if let Some(clients) = clients.filter(|_| refusal.asks_for_credential()) {
            offer_basic(page.headers_mut(), (clients, asker));
        }
        page.map(Body::own)
    }
}

impl Shared {
    /// Whether a route serves this host, at this port: other hosts of ours are reached at the port that one was.
    pub(super) fn serves(&self, host: &str, port: Option<u16>, reached: &HostMemo) -> bool {
        (self.routes.serves(host) && port == reached.port) || self.portal.is_edge(host, port)
    }
}

pub(super) fn is_reserved(path: &str) -> bool {
    let is_within = |prefix: &str| {
        let rest = path.strip_prefix(prefix.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    is_within(RESERVED_PREFIX) || is_within(WELL_KNOWN_PREFIX)
}

/// The answer to an OPTIONS request that was to get no further than here (RFC 9110 section 7.6.2).
pub(super) fn options() -> Response<Body> {
    let mut response = Response::new(Body::own(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// `None` where it is not the app's.
fn failure(error: &UpstreamError) -> Option<UpstreamFailure> {
    match error {
        UpstreamError::BodyTooLarge | UpstreamError::ClientBody(_) | UpstreamError::Over => None,
        UpstreamError::Connect(_) | UpstreamError::Exhausted(_) => Some(UpstreamFailure::Connect),
        UpstreamError::Exchange(_) => Some(UpstreamFailure::Exchange),
        UpstreamError::Timeout => Some(UpstreamFailure::Timeout),
    }
}
