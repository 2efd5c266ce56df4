//! Forward-auth: another proxy holds a request, asks whether it may go on and as whom, and is told by status and fields.
//! The same steps as for a request that we would send on, with the same route and session; it refuses to know bodies.

mod question;

pub(super) use question::Convention;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use question::Question;

use super::Refusal;
use super::body::Body;
use super::cors;
use super::find::find_route;
use super::forward::tell_who;
use super::gate::{Decision, Passed};
use super::here::is_reserved;
use super::memo::HostMemo;
use super::path::normalise;
use super::visit::{Notes, Visit};
use crate::identity::{ASSERTION, fold_eq};
use crate::portal::{Asker, Challenge, Keeping};
use crate::routing::Route;

const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const NOTHING: HeaderValue = HeaderValue::from_static("");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

impl Visit {
    /// Answers what a proxy asks that is trusted: 200 with every field of identity, or what its client is to be told.
    pub(super) async fn judge_for(
        &self,
        convention: Convention,
        (asking, host): (&mut Parts, &HostMemo),
        notes: &mut Notes,
    ) -> Result<Response<Body>, Refusal> {
        let shared = &*self.pipeline.shared;
        notes.asked_by = Some(convention);
        if !self.is_trusted {
            return Err(Refusal::UntrustedPeer);
        }
        let question = Question::read(convention, asking, host.authority())?;
        let client = self.client(&asking.headers);
        notes.client = Some(client.ip);
        let has_alias = self.has_alias(&asking.headers);
        self.strip(&mut asking.headers, client.ip)?;
        if has_alias {
            return Err(Refusal::Question("an identity header in another spelling"));
        }
        let written = question.target.path();
        let path = normalise(written)?;
        // The app gets the path as it was written, so one that leads to another place when it is read has two readings.
        let depth = |path: &str| path.bytes().filter(|byte| *byte == b'/').count();
        if is_reserved(path.as_str()) || depth(path.as_str()) != depth(written) {
            return Err(Refusal::Question("a path that leads elsewhere"));
        }
        let routes = shared.routes.host(&question.host);
        let routes = routes.ok_or(Refusal::NotFound)?;
        let route = find_route(routes, &question.method, &path)?;
        notes.route = Some(route.clone());
        notes.reader = cors::reader(route, &asking.headers);
        match self.decided(&mut asking.headers, route, notes).await? {
            Decision::Pass(passed) => {
                let opens_socket = asking.headers.contains_key(SEC_WEBSOCKET_KEY);
                let from = (&asking.headers, question.authority.as_str());
                self.demand_own_socket(from, opens_socket, (route, client.ip))?;
                Ok(self.let_pass((route, &passed), &mut asking.headers))
            }
            Decision::NeedsLogin { anew } => {
                notes.anew |= anew;
                Ok(self.send_to_log_in(&question, &asking.headers, notes))
            }
            Decision::Denied => Err(self.deny(route, notes, client.ip)),
        }
    }

    /// Whether a field is written unlike those that a yes carries, and is one of them to an app that makes variables of
    /// names (RFC 3875 section 4.1.18): the asking proxy would replace ours, and leave that one beside it.
    fn has_alias(&self, asked: &HeaderMap) -> bool {
        let shared = &*self.pipeline.shared;
        let identity = &shared.stripped.identity;
        let assertion = ASSERTION;
        let told = || shared.layout.names().chain([&assertion]);
        let is_alias = |name: &str| {
            let cgi = name.strip_prefix("http").unwrap_or(name);
            let reads_as =
                |ours: &HeaderName| fold_eq(name, ours.as_str()) || fold_eq(cgi, ours.as_str());
            told().all(|ours| ours != name) && told().any(reads_as)
        };
        let mut names = asked.keys().map(HeaderName::as_str);
        names.any(|name| identity.matches(name) && is_alias(name))
    }

    /// Every field of identity is there, also where nobody is logged in: what the client sent under its name is then
    /// replaced too. So are the cookies, without ours.
    fn let_pass(
        &self,
        (route, passed): (&Route, &Passed),
        asked: &mut HeaderMap,
    ) -> Response<Body> {
        let shared = &*self.pipeline.shared;
        let mut response = Response::new(Body::own(Bytes::new()));
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, NO_STORE);
        let cookies = asked.remove(header::COOKIE).unwrap_or(NOTHING);
        headers.insert(header::COOKIE, cookies);
        for name in shared.layout.names() {
            headers.insert(name, NOTHING);
        }
        if shared.signer.is_some() {
            headers.insert(ASSERTION, NOTHING);
        }
        if let Some(bearer) = passed.bearer() {
            tell_who(headers, shared, (route, bearer));
        }
        response
    }

    fn send_to_log_in(
        &self,
        question: &Question,
        headers: &HeaderMap,
        notes: &Notes,
    ) -> Response<Body> {
        let shared = &*self.pipeline.shared;
        let page = Challenge {
            asker: Asker::of(&question.method, headers),
            target: question.target.as_str(),
            authority: &question.authority,
            headers,
            serves: &|host: &str, port| shared.routes.serves(host) && port == question.port,
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
            // Some proxies take a path for one of our own host.
            is_asked_elsewhere: true,
            keeping: Keeping::No,
            id: notes.id.unwrap_or_else(|| shared.ids.next()),
        };
        let mut response = page.respond().map(Body::own);
        // gRPC says no with 200, which every proxy takes for yes; of 401 its clients make the same as of that.
        if response.status().is_success() {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        response
    }
}

impl Convention {
    /// nginx knows three kinds of answers, and makes a 500 of every other.
    pub(super) fn fit(self, status: &mut StatusCode) {
        if self != Self::Nginx {
            return;
        }
        if status.is_redirection() {
            *status = StatusCode::UNAUTHORIZED;
        } else if status.is_client_error() && *status != StatusCode::UNAUTHORIZED {
            *status = StatusCode::FORBIDDEN;
        }
    }
}
