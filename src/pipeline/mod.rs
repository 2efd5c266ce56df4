//! The life of one request. Read `Visit::answer` in `visit.rs` first: it is the request, top to bottom.

pub mod admit;
mod aftermath;
mod app_login;
mod app_logout;
mod body;
mod caching;
mod client;
mod cors;
mod data;
mod exchange;
mod farewell;
mod find;
mod forward;
mod forward_auth;
mod gate;
mod here;
pub mod hop;
mod jar;
mod kept;
mod memo;
mod original;
pub mod path;
mod recall;
mod refusal;
mod stranded;
mod trail;
mod visit;
mod wording;

pub use body::Body;
pub use farewell::Farewells;
pub use gate::{Bearer, Decision, Passed, decide, decide_grant};
pub use refusal::Refusal;
pub use visit::Visit;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::clock::Clock;
use crate::deadline::Drain;
use crate::edge::{Connect, Peer};
use crate::identity::{FoldedNames, Forwarding, HeaderLayout, Signer, strip};
use crate::login::{Issuers, TokenBook};
use crate::portal::Portal;
use crate::routing::RouteTable;
use crate::session::Sessions;
use crate::telemetry::{AccessLog, Audit, Metrics, RouteMetrics};
use crate::upstream::{TrailerFilter, Upstreams};
use crate::wire::RequestIds;

/// One worker's pipeline: what all workers share, and what is this one's alone.
#[derive(Clone, Debug)]
pub struct Pipeline {
    pub shared: Arc<Shared>,
    pub upstreams: Arc<Upstreams>,
    pub access: Arc<AccessLog>,
}

/// What all workers share. Nothing in it is locked while a request with a known session passes.
pub struct Shared {
    pub clock: Clock,
    pub routes: RouteTable,
    /// By [`Route::number`](crate::routing::Route::number).
    pub route_metrics: Vec<Arc<RouteMetrics>>,
    pub sessions: Arc<Sessions>,
    pub portal: Arc<Portal>,
    /// Whose API tokens are good. `None` where no route takes any.
    pub tokens: Option<Arc<TokenBook>>,
    /// Whose tokens are good beside our own. `None` where no route takes any.
    pub issuers: Option<Arc<Issuers>>,
    pub layout: HeaderLayout,
    /// `None` where no route's app gets assertions.
    pub signer: Option<Arc<Signer>>,
    pub stripped: Arc<Stripped>,
    /// The cookies that are ours alone.
    pub cookie_names: Vec<String>,
    pub forwarding: Forwarding,
    pub trusted_proxies: Vec<IpNet>,
    /// `Strict-Transport-Security`, where it is sent.
    pub hsts: Option<HeaderValue>,
    /// Header fields in one request.
    pub max_headers: usize,
    /// How long a client may send nothing in the middle of a body.
    pub body_patience: Duration,
    pub trailers: TrailerFilter,
    pub audit: Audit,
    pub metrics: Arc<Metrics>,
    pub draining: Arc<Drain>,
    pub ids: RequestIds,
}

/// Fields that only we may set.
#[derive(Debug)]
pub struct Stripped {
    pub identity: FoldedNames,
    pub forwarding: FoldedNames,
    /// Both: most requests hold neither, and one look tells.
    either: FoldedNames,
}

impl Stripped {
    pub fn new(layout: &HeaderLayout) -> Self {
        let (identity, forwarding) = (FoldedNames::identity(layout), FoldedNames::forwarding());
        Self {
            either: identity.union(&forwarding),
            identity,
            forwarding,
        }
    }

    /// Takes these fields out of a request, and says which one of identity came first.
    fn strip(&self, headers: &mut HeaderMap) -> Option<HeaderName> {
        if !headers
            .keys()
            .any(|name| self.either.matches(name.as_str()))
        {
            return None;
        }
        let first = strip(headers, &[&self.identity]);
        // What proxies say of each other is no attack: no word about it.
        let _stripped = strip(headers, &[&self.forwarding]);
        first
    }

    /// What is taken out of trailers, which come when everything else has been sent on already.
    pub fn trailer_filter(self: &Arc<Self>) -> TrailerFilter {
        let stripped = self.clone();
        Arc::new(move |trailers| forward::drop_forbidden_trailers(trailers, &stripped))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn is_trusted(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted_proxies.iter().any(|net| net.contains(&peer))
    }
}

impl Connect for Pipeline {
    type Handle = Visit;

    fn connect(&self, peer: Peer) -> Visit {
        Visit::new(self.clone(), peer)
    }
}
