//! Apps are told that a session has ended: each is asked to log out whoever its own cookies name. That is done once, beside
//! everything else, and nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;

use crate::clock::Clock;
use crate::identity::Forwarding;
use crate::routing::{HostPattern, Route};
use crate::session::{Over as Ended, Sessions, Sid, Spot};
use crate::telemetry::{AppLogout, Metrics};
use crate::upstream::{Over, Patience, RequestBody, Until, Upstreams};

/// Apps that are asked at once.
const AT_ONCE: usize = 32;

/// For one of them, from connecting to the head of its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What there is to do when sessions end.
#[derive(Debug)]
pub struct Farewells {
    calls: Vec<Arc<Call>>,
    upstreams: Arc<Upstreams>,
    sessions: Arc<Sessions>,
    metrics: Arc<Metrics>,
    clock: Clock,
    forwarding: Forwarding,
}

/// What is asked of one app.
#[derive(Debug)]
struct Call {
    route: String,
    jar: String,
    upstream: usize,
    method: Method,
    path: String,
    /// The Host that the app is told, and of whose cookies it is.
    host: HeaderValue,
    spot: Spot,
}

/// What is asked goes on, whatever ends meanwhile.
struct Never;

impl Until for Never {
    fn over(&self) -> Over {
        Box::pin(std::future::pending())
    }
}

impl Call {
    /// `None`: the app of this route is not told.
    fn of(route: &Route) -> Option<Self> {
        let (jar, on_end) = (route.cookie_jar.as_ref()?, route.on_end.as_ref()?);
        let exact = match &route.host {
            HostPattern::Exact(host) => HeaderValue::try_from(host).ok(),
            HostPattern::Wildcard(_) => None,
        };
        let host = route.send_host.clone().or(exact)?;
        let name = host.to_str().ok()?.to_ascii_lowercase();
        let path = on_end.path.split('?').next().unwrap_or_default();
        Some(Self {
            route: route.id.clone(),
            jar: jar.name.clone(),
            upstream: route.upstream?,
            method: on_end.method.clone(),
            path: on_end.path.clone(),
            spot: Spot {
                host: super::jar::without_port(&name).to_owned(),
                path: path.to_owned(),
            },
            host,
        })
    }

    /// Several routes of one app ask for the same.
    fn is_same(&self, other: &Self) -> bool {
        self.jar == other.jar
            && self.upstream == other.upstream
            && (&self.method, &self.path) == (&other.method, &other.path)
    }

    fn request(
        &self,
        cookies: HeaderValue,
        forwarding: Forwarding,
    ) -> Option<Request<RequestBody>> {
        let mut request = Request::builder()
            .method(&self.method)
            .uri(&self.path)
            .body(RequestBody::Empty)
            .ok()?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::USER_AGENT, HeaderValue::from_static("doorward"));
        headers.insert(header::COOKIE, cookies);
        if self.method == Method::POST {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        state(headers, &self.host, forwarding);
        Some(request)
    }
}

/// Apps that know of a proxy send whoever comes otherwise to https first.
fn state(headers: &mut HeaderMap, host: &HeaderValue, forwarding: Forwarding) {
    const HTTPS: HeaderValue = HeaderValue::from_static("https");
    if forwarding != Forwarding::Forwarded {
        headers.insert(HeaderName::from_static("x-forwarded-proto"), HTTPS);
        headers.insert(HeaderName::from_static("x-forwarded-host"), host.clone());
    }
    if forwarding != Forwarding::XForwarded {
        headers.insert(header::FORWARDED, HeaderValue::from_static("proto=https"));
    }
}

impl Farewells {
    /// `None` where no app is to be told of anything.
    pub fn new(
        routes: &[Route],
        upstreams: impl FnOnce() -> Arc<Upstreams>,
        (sessions, metrics, forwarding): (Arc<Sessions>, Arc<Metrics>, Forwarding),
    ) -> Option<Self> {
        let mut calls: Vec<Arc<Call>> = Vec::new();
        for call in routes.iter().filter_map(Call::of) {
            if !calls.iter().any(|known| known.is_same(&call)) {
                calls.push(Arc::new(call));
            }
        }
        if calls.is_empty() {
            return None;
        }
        Some(Self {
            calls,
            upstreams: upstreams(),
            clock: sessions.clock().clone(),
            sessions,
            metrics,
            forwarding,
        })
    }

    /// Takes ends as they come, until the future is dropped.
    pub async fn run(self, mut ended: Receiver<Ended>) {
        let this = Arc::new(self);
        let places = Arc::new(Semaphore::new(AT_ONCE));
        while let Some(ended) = ended.recv().await {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let this = this.clone();
            tokio::spawn(async move {
                this.take_leave(&ended).await;
                drop(place);
            });
        }
    }

    async fn take_leave(&self, ended: &Ended) {
        let now = self.clock.now();
        let known = self.calls.iter().filter_map(|call| {
            let cookies = ended.cookies(&call.jar, &call.spot, now)?;
            Some((call, cookies))
        });
        let known: Vec<_> = known.collect();
        // Whoever holds nothing has nothing to take care of.
        if known.is_empty() || !self.sessions.claims_end(ended).await {
            return;
        }
        // None of them waits for another.
        let calls = known
            .into_iter()
            .map(|(call, cookies)| self.tell(call, cookies, ended.sid));
        join_all(calls).await;
    }

    async fn tell(&self, call: &Call, cookies: HeaderValue, sid: Sid) {
        let asked = tokio::time::timeout(PATIENCE, self.ask(call, cookies)).await;
        let Err(trouble) = asked.unwrap_or_else(|_| Err("no answer in time".to_owned())) else {
            return self.metrics.app_logout(AppLogout::Done);
        };
        self.metrics.app_logout(AppLogout::Failed);
        let route = &call.route;
        tracing::warn!(%sid, route, trouble, "an app could not be told that a session has ended");
    }

    async fn ask(&self, call: &Call, cookies: HeaderValue) -> Result<(), String> {
        let request = call.request(cookies, self.forwarding);
        let request = request.ok_or("the request cannot be made")?;
        let patience = Patience {
            connect: PATIENCE,
            first_byte: PATIENCE,
            idle: PATIENCE,
        };
        let answer = self
            .upstreams
            .send(call.upstream, request, (patience, &Never));
        let answer = answer.await.map_err(|error| error.to_string())?;
        let status = answer.status();
        if status.is_success() || status.is_redirection() {
            Ok(())
        } else {
            Err(format!("it answered {}", status.as_u16()))
        }
    }
}
