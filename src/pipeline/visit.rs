//! One connection's requests. [`Visit::answer`] is the list of steps that every request takes.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use parking_lot::Mutex;

use super::admit::{AdmitError, Admitted, admit, has_too_many_fields};
use super::body::Body;
use super::cors;
use super::exchange::Onward;
use super::find::find_route;
use super::forward_auth::Convention;
use super::gate::Decision;
use super::here::{Asked, is_reserved, options};
use super::hop::strip_hop_by_hop;
use super::memo::{HostMemo, Memo};
use super::path::normalise;
use super::{Pipeline, Refusal};
use crate::edge::{ClientAddr, Handle, Peer};
use crate::login::Grant;
use crate::portal::{Asker, Keeping, PortalError, is_same_origin};
use crate::routing::{Access, Route};
use crate::session::LiveSession;
use crate::telemetry::AuditEvent;
use crate::upstream::UpstreamError;
use crate::wire::{ClientBody, RequestId};

/// One client connection, as the pipeline sees it.
#[derive(Debug)]
pub struct Visit {
    pub(super) pipeline: Pipeline,
    pub(super) peer: Peer,
    /// Whether the peer's own statements about the client are believed.
    pub(super) is_trusted: bool,
    /// The peer's address, ready to be sent on.
    x_forwarded_for: HeaderValue,
    pub(super) memo: Mutex<Memo>,
}

/// What the steps find out on their way, whether or not there is an answer at the end.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// What the access log calls the request; `None` where no log is kept.
    pub(super) id: Option<RequestId>,
    pub(super) client: Option<IpAddr>,
    pub(super) route: Option<Arc<Route>>,
    pub(super) session: Option<LiveSession>,
    /// Of a credential that came with it.
    pub(super) grant: Option<Arc<Grant>>,
    /// There is a session, but not one that is good enough here: idle for too long, or too old a login.
    pub(super) anew: bool,
    /// The browser holds a session cookie that is good for nothing.
    pub(super) clear_cookie: bool,
    /// It holds several signed cookies, none of which counts.
    pub(super) clear_ticket: bool,
    /// The cookie of a visitor's session that has just begun.
    pub(super) begun: Option<HeaderValue>,
    /// How often the browser was sent away from here before, where another node has the login.
    pub(super) rounds: u8,
    /// Another proxy asks for its own client.
    pub(super) asked_by: Option<Convention>,
    /// The other origin whose scripts may read the answer.
    pub(super) reader: Option<HeaderValue>,
}

/// What a request is, in few words, kept for when it has been sent on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) asker: Asker,
    pub(super) upgrade: bool,
    pub(super) wants_trailers: bool,
    max_forwards: Option<u64>,
}

impl Handle for Visit {
    type Body = Body;

    /// Not an `async fn`, which would hold the request twice: what a request carries about is moved about with it.
    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send + 'static {
        let (mut parts, body) = request.into_parts();
        let body = ClientBody::new(body);
        async move {
            let asker = Asker::of(&parts.method, &parts.headers);
            let is_head = parts.method == Method::HEAD;
            let is_http1 = parts.version != Version::HTTP_2;
            let mut trail = self.begin_trail(&parts, &body);
            let mut notes = Notes {
                id: trail.as_ref().map(|trail| trail.id),
                ..Notes::default()
            };
            let answered = self.answer((&mut parts, body), asker, &mut notes).await;
            let mut response = answered.unwrap_or_else(|refusal| {
                let of = (asker, notes.route.as_deref());
                let mut page = self.refuse(&refusal, of, trail.as_deref_mut());
                if is_http1 && refusal.ends_connection() {
                    let close = HeaderValue::from_static("close");
                    page.headers_mut().insert(header::CONNECTION, close);
                }
                page
            });
            self.complete(&mut response, &notes);
            if let Some(trail) = &mut trail {
                trail.status = response.status().as_u16();
                trail.route = notes.route;
                trail.session = notes.session;
                trail.grant = notes.grant;
            }
            if is_head {
                response = Body::without_content(response);
            }
            response.map(|body| body.followed_by(trail))
        }
    }
}

impl Visit {
    pub(super) fn new(pipeline: Pipeline, peer: Peer) -> Self {
        let ip = peer.addr.ip().to_canonical();
        let is_trusted = pipeline.shared.is_trusted(ip);
        let x_forwarded_for = ClientAddr::direct(ip).x_forwarded_for();
        Self {
            pipeline,
            peer,
            is_trusted,
            x_forwarded_for,
            memo: Mutex::default(),
        }
    }

    /// The steps of a request, in the only order that is safe. Each either hands on or refuses.
    async fn answer(
        &self,
        (parts, body): (&mut Parts, ClientBody),
        asker: Asker,
        notes: &mut Notes,
    ) -> Result<Response<Body>, Refusal> {
        let shared = &*self.pipeline.shared;
        let uri = parts.uri.clone();
        let (host, kind) = match self.admit(parts, asker, !body.is_end_stream()) {
            Err(Refusal::Admit(AdmitError::OptionsStar)) => return Ok(options()),
            admitted => admitted?,
        };
        if let Some(convention) = Convention::of(uri.path()) {
            return Box::pin(self.judge_for(convention, (parts, &host), notes)).await;
        }
        let path = normalise(uri.path())?;
        let client = self.client(&parts.headers);
        notes.client = Some(client.ip);
        self.strip(&mut parts.headers, client.ip)?;
        match kind.max_forwards.map(|left| left.checked_sub(1)) {
            Some(None) => return Ok(options()),
            Some(Some(left)) => drop(parts.headers.insert(header::MAX_FORWARDS, left.into())),
            None => {}
        }
        if is_reserved(path.as_str()) || shared.portal.has_place_at(path.as_str()) {
            let (host, client) = (&*host, client.ip);
            let question = Asked {
                uri: &uri,
                path: &path,
                host,
                client,
            };
            // Boxed, as everything that is rare here.
            return Box::pin(self.portal((parts, body), &question, notes)).await;
        }
        let routes = shared.routes.host(&host.host).ok_or(Refusal::NotFound)?;
        if cors::is_preflight(parts)
            && let Some(answer) = cors::preflight(parts, (routes, &path), notes)?
        {
            return Ok(answer);
        }
        let route = find_route(routes, &parts.method, &path)?;
        notes.route = Some(route.clone());
        notes.reader = cors::reader(route, &parts.headers);
        // Before our own cookies are taken out.
        let original = self.original(route, parts, (&path, kind, &host));
        let original = original.as_deref();
        let passed = match self.decided(&mut parts.headers, route, notes).await? {
            Decision::Pass(passed) => passed,
            Decision::NeedsLogin { anew } => {
                notes.anew |= anew;
                let keeping = self.put_by(original, (&uri, &host), body, notes).await;
                let of = (&parts.headers, &*host);
                return Ok(self.challenge((kind, &uri, keeping), of, notes));
            }
            Decision::Denied => return Err(self.deny(route, notes, client.ip)),
        };
        let from = (&parts.headers, host.authority());
        self.demand_own_socket(from, kind.upgrade, (route, client.ip))?;
        let taken = self.take_up((parts, body), original, (&host, &passed), notes);
        let (body, resumed) = taken.await?;
        let onward = Onward {
            route,
            path: &path,
            host: &host,
            client: &client,
            kind,
            passed: &passed,
            original,
        };
        match self.forward((parts, body, resumed), &onward, notes).await {
            // The session ended meanwhile, so the answer is what the next request would get.
            Err(Refusal::Upstream(UpstreamError::Over)) if notes.grant.is_some() => {
                Err(Refusal::BadCredential)
            }
            Err(Refusal::Upstream(UpstreamError::Over)) => {
                (notes.session, notes.clear_cookie) = (None, true);
                let of = (&parts.headers, &*host);
                Ok(self.challenge((kind, &uri, Keeping::No), of, notes))
            }
            answered => answered,
        }
    }

    /// What every answer says, and what is counted of it.
    fn complete(&self, response: &mut Response<Body>, notes: &Notes) {
        let shared = &*self.pipeline.shared;
        self.keep_cookies(response, notes);
        if let Some(convention) = notes.asked_by {
            convention.fit(response.status_mut());
        }
        cors::allow(response.headers_mut(), notes);
        if let Some(hsts) = &shared.hsts {
            let headers = response.headers_mut();
            headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        let status = response.status().as_u16();
        let route = notes.route.as_ref();
        match route.and_then(|route| shared.route_metrics.get(route.number)) {
            Some(metrics) => metrics.count(status),
            None => shared.metrics.unrouted().count(status),
        }
    }

    /// Refuses what is ambiguous, and what this connection's certificate is not for.
    fn admit(
        &self,
        parts: &Parts,
        asker: Asker,
        has_body: bool,
    ) -> Result<(Arc<HostMemo>, Kind), Refusal> {
        if has_too_many_fields(&parts.headers, self.pipeline.shared.max_headers) {
            return Err(Refusal::TooManyFields);
        }
        let admitted = admit(parts, has_body)?;
        let kind = Kind {
            asker,
            upgrade: admitted.upgrade,
            max_forwards: admitted.max_forwards,
            wants_trailers: parts
                .headers
                .get(header::TE)
                .is_some_and(|te| te == "trailers"),
        };
        let host = self.host(&admitted, authority(parts));
        if host.is_certified {
            Ok((host, kind))
        } else {
            Err(Refusal::Misdirected)
        }
    }

    fn host(&self, admitted: &Admitted<'_>, authority: &str) -> Arc<HostMemo> {
        let mut memo = self.memo.lock();
        if let Some(host) = memo
            .host
            .as_ref()
            .filter(|host| host.authority == authority.as_bytes())
        {
            return host.clone();
        }
        let own = HeaderValue::from_str(authority);
        let ip = ClientAddr::direct(self.peer.addr.ip());
        let host = Arc::new(HostMemo {
            authority: Bytes::copy_from_slice(authority.as_bytes()),
            host: admitted.host.clone().into_owned(),
            port: admitted.port,
            is_certified: self.peer.certificate.valid_for(&admitted.host),
            // An authority that was admitted holds nothing that a header value may not.
            x_forwarded_host: own.unwrap_or(HeaderValue::from_static("invalid")),
            forwarded: ip.forwarded(authority, "https"),
        });
        memo.host = Some(host.clone());
        host
    }

    pub(super) fn client(&self, headers: &HeaderMap) -> ClientAddr {
        let ip = self.peer.addr.ip();
        if self.is_trusted {
            ClientAddr::of(ip, headers, &self.pipeline.shared.trusted_proxies)
        } else {
            ClientAddr::direct(ip)
        }
    }

    /// Takes out everything that only we may say (R13), and what was for us alone.
    pub(super) fn strip(&self, headers: &mut HeaderMap, client: IpAddr) -> Result<(), Refusal> {
        const LOOP: usize = 5;
        let shared = &*self.pipeline.shared;
        strip_hop_by_hop(headers);
        let via = headers.get_all(header::VIA).into_iter();
        // Whoever is between may have made one field of them.
        let ours = via
            .flat_map(|via| via.as_bytes().split(|&byte| byte == b','))
            .filter(|via| via.trim_ascii_end().ends_with(b" doorward"))
            .count();
        if ours >= LOOP {
            return Err(Refusal::Loop);
        }
        if let Some(field) = shared.stripped.strip(headers) {
            let field = field.to_string();
            shared.audit.record(&AuditEvent::IdentityHeaderStripped {
                field,
                address: client,
            });
        }
        headers.remove(header::EXPECT);
        Ok(())
    }

    /// A WebSocket carries cookies from any page that opens it, and no later check: only our own pages may, where a
    /// session counts.
    pub(super) fn demand_own_socket(
        &self,
        (headers, authority): (&HeaderMap, &str),
        opens_socket: bool,
        (route, address): (&Route, IpAddr),
    ) -> Result<(), Refusal> {
        let is_open = !opens_socket || route.access == Access::Public;
        if is_open || is_same_origin(headers, authority) {
            return Ok(());
        }
        let place = route.id.clone();
        self.pipeline
            .shared
            .audit
            .record(&AuditEvent::CrossSiteRefused { place, address });
        Err(Refusal::Portal(PortalError::CrossSite))
    }

    pub(super) fn on_behalf(
        &self,
        client: &ClientAddr,
        host: &HostMemo,
    ) -> (HeaderValue, HeaderValue) {
        if self.is_trusted {
            (
                client.x_forwarded_for(),
                client.forwarded(host.authority(), "https"),
            )
        } else {
            (self.x_forwarded_for.clone(), host.forwarded.clone())
        }
    }
}

/// Host and port as the client wrote them, of a request that was admitted.
fn authority(parts: &Parts) -> &str {
    let host = || {
        parts
            .headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
    };
    match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => host().unwrap_or_default(),
    }
}
