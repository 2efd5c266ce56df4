//! The apps of one worker, and the connections to them that wait for the next request: last in, first out, so that
//! the ones not needed grow old and are closed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use parking_lot::Mutex;

use super::body::{RequestBody, ResponseBody};
use super::connect::connect;
use super::link::{Failed, Link};
use super::{Patience, Target, Until, UpstreamError};
use crate::deadline::{Tick, Watch, Watched};
use crate::resolver::Resolver;

/// An idle connection is closed after this long: less than what common app servers keep theirs for.
const MAX_IDLE: Duration = Duration::from_secs(30);

/// A connection that has been idle for longer than this may have been closed by the app just now, so a request that
/// may be sent twice is kept until it is answered.
const FRESH: Duration = Duration::from_secs(1);

/// Every app, as one worker reaches them.
#[derive(Debug)]
pub struct Upstreams {
    apps: Vec<Arc<App>>,
    watch: Watch,
}

/// One app and the connections to it.
pub(super) struct App {
    target: Target,
    resolver: Resolver,
    idle: Mutex<Vec<Link>>,
    open: Arc<AtomicUsize>,
}

impl Upstreams {
    pub fn new(targets: &[Target], watch: &Watch) -> Self {
        let app = |target: &Target| {
            let app = Arc::new(App {
                target: target.clone(),
                resolver: Resolver::default(),
                idle: Mutex::default(),
                open: Arc::default(),
            });
            watch.add(&app);
            app
        };
        Self {
            apps: targets.iter().map(app).collect(),
            watch: watch.clone(),
        }
    }

    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// The app that a route names by its place in the configuration.
    pub fn target(&self, upstream: usize) -> Option<&Target> {
        self.apps.get(upstream).map(|app| &app.target)
    }

    /// Sends a request that is ready to go, in origin form, and returns what the app answers. It is sent a second
    /// time only where the app cannot have acted on the first: nothing was written, or the connection was an idle one
    /// that the app had closed and the method is idempotent (RFC 9110 section 9.2.2).
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn would hold the request twice"
    )]
    pub fn send(
        &self,
        upstream: usize,
        mut request: Request<RequestBody>,
        (patience, until): (Patience, &dyn Until),
    ) -> impl Future<Output = Result<Response<ResponseBody>, UpstreamError>> + Send {
        async move {
            let app = self.app(upstream)?;
            while let Some(mut link) = app.take() {
                let copy = copy_of(&request, link.idle_since.after(FRESH) < self.watch.now());
                request
                    .body_mut()
                    .paces(&link.deadline, patience.first_byte);
                match link.exchange(request, patience.first_byte, until).await {
                    Ok(response) => return finish(response, link, app, (patience, until)),
                    Err(failed) => request = resend(failed, copy)?,
                }
            }
            let mut link = Box::pin(self.open(app, patience)).await?;
            request
                .body_mut()
                .paces(&link.deadline, patience.first_byte);
            match link.exchange(request, patience.first_byte, until).await {
                Ok(response) => finish(response, link, app, (patience, until)),
                Err(failed) => Err(failed.error),
            }
        }
    }

    /// A new connection to an app, for a request that is to be sent once at most: nothing has been said over it.
    pub async fn reach(
        &self,
        upstream: usize,
        patience: Patience,
    ) -> Result<Reached, UpstreamError> {
        let link = self.open(self.app(upstream)?, patience).await?;
        Ok(Reached(link))
    }

    /// As [`Upstreams::send`], over that connection alone.
    pub async fn send_over(
        &self,
        (upstream, reached): (usize, Reached),
        mut request: Request<RequestBody>,
        (patience, until): (Patience, &dyn Until),
    ) -> Result<Response<ResponseBody>, Unsent> {
        let app = self.app(upstream)?;
        let mut link = reached.0;
        request
            .body_mut()
            .paces(&link.deadline, patience.first_byte);
        match link.exchange(request, patience.first_byte, until).await {
            Ok(response) => Ok(finish(response, link, app, (patience, until))?),
            Err(failed) => Err(Unsent {
                is_untouched: failed.unsent.is_some(),
                error: failed.error,
            }),
        }
    }

    /// As [`Upstreams::send`], over a connection of its own that can change protocol: the response may be a 101 with
    /// `hyper::upgrade` attached.
    pub async fn send_upgrade(
        &self,
        upstream: usize,
        request: Request<RequestBody>,
        (patience, until): (Patience, &dyn Until),
    ) -> Result<Response<ResponseBody>, UpstreamError> {
        let app = self.app(upstream)?;
        let mut link = Box::pin(self.open(app, patience)).await?;
        link.detach(until.over());
        match link.exchange(request, patience.first_byte, until).await {
            Ok(response) => {
                Ok(response.map(|body| ResponseBody::new(body, link, app.clone(), patience.idle)))
            }
            Err(failed) => Err(failed.error),
        }
    }

    fn app(&self, upstream: usize) -> Result<&Arc<App>, UpstreamError> {
        let app = self.apps.get(upstream);
        app.ok_or_else(|| UpstreamError::Connect("no such upstream".to_owned()))
    }

    async fn open(&self, app: &App, patience: Patience) -> Result<Link, UpstreamError> {
        let place = Place::take(&app.open, app.target.max_connections)?;
        let stream = connect((&app.target, &app.resolver), place, patience.connect).await?;
        Link::new(stream, &self.watch).await
    }
}

/// A connection to an app over which nothing has been said.
#[derive(Debug)]
pub struct Reached(Link);

impl Reached {
    /// Whether the app has not closed it meanwhile.
    pub fn is_open(&mut self) -> bool {
        self.0.drive_idle() && self.0.is_ready()
    }
}

/// A request that was to be sent once, and that the app did not answer.
#[derive(Debug)]
pub struct Unsent {
    pub error: UpstreamError,
    /// Not a byte of it was written.
    pub is_untouched: bool,
}

impl From<UpstreamError> for Unsent {
    /// Where it is not certain that nothing was written.
    fn from(error: UpstreamError) -> Self {
        Self {
            error,
            is_untouched: false,
        }
    }
}

impl App {
    /// The connection that was put back last and is still open.
    fn take(&self) -> Option<Link> {
        loop {
            let mut link = self.idle.lock().pop()?;
            if link.drive_idle() && link.is_ready() {
                return Some(link);
            }
        }
    }

    /// Puts a connection back, if it is fit for another request.
    pub(super) fn put(&self, mut link: Link) {
        link.deadline.disarm();
        if !link.drive_idle() || !link.is_ready() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < self.target.max_idle {
            link.rest();
            idle.push(link);
        }
    }
}

impl Watched for App {
    /// Lets go of what the app has closed, and of what nobody needed for long.
    fn check(&self, now: Tick) {
        let stale = |link: &mut Link| link.idle_since.after(MAX_IDLE) <= now || !link.drive_idle();
        let mut idle = self.idle.lock();
        idle.retain_mut(|link| !stale(link));
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let idle = self.idle.lock().len();
        f.debug_struct("App")
            .field("url", &self.target.url)
            .field("idle", &idle)
            .finish_non_exhaustive()
    }
}

/// One of the connections that an app may have at once.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    pub(super) fn take(open: &Arc<AtomicUsize>, max: usize) -> Result<Self, UpstreamError> {
        let place = Self(open.clone());
        if open.fetch_add(1, Ordering::Relaxed) < max {
            Ok(place)
        } else {
            Err(UpstreamError::Exhausted(max))
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What could be sent again, where that may be needed and is allowed.
fn copy_of(request: &Request<RequestBody>, needed: bool) -> Option<Box<Request<RequestBody>>> {
    let idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    );
    (needed && idempotent && request.body().is_empty()).then(|| {
        let mut copy = Request::new(RequestBody::Empty);
        copy.method_mut().clone_from(request.method());
        copy.uri_mut().clone_from(request.uri());
        copy.headers_mut().clone_from(request.headers());
        Box::new(copy)
    })
}

fn resend(
    failed: Failed,
    copy: Option<Box<Request<RequestBody>>>,
) -> Result<Request<RequestBody>, UpstreamError> {
    let copy = copy.filter(|_| failed.closed_early);
    failed.unsent.or(copy.map(|copy| *copy)).ok_or(failed.error)
}

fn finish(
    response: Response<Incoming>,
    mut link: Link,
    app: &Arc<App>,
    (patience, until): (Patience, &dyn Until),
) -> Result<Response<ResponseBody>, UpstreamError> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let unasked = "the app changed the protocol without being asked".to_owned();
        return Err(UpstreamError::Exchange(unasked));
    }
    if link.is_uploading() {
        link.detach(until.over());
    }
    Ok(response.map(|body| ResponseBody::new(body, link, app.clone(), patience.idle)))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::{Address, Over};
    use super::*;
    use crate::clock::TICK;

    const PATIENCE: Patience = Patience {
        connect: Duration::from_secs(5),
        first_byte: Duration::from_secs(5),
        idle: Duration::from_secs(5),
    };

    struct Never;

    impl Until for Never {
        fn over(&self) -> Over {
            Box::pin(std::future::pending())
        }
    }

    async fn answer(listener: &TcpListener) -> TcpStream {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn a_connection_that_nobody_needs_is_closed_after_half_a_minute() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Target {
            url: format!("http://{address}"),
            address: Address::Socket(address),
            authority: address.to_string(),
            tls: None,
            max_idle: 8,
            max_connections: 8,
        };
        let watch = Watch::default();
        let upstreams = Upstreams::new(&[target], &watch);
        let request = Request::new(RequestBody::Empty);
        let (answered, mut stream) = tokio::join!(
            upstreams.send(0, request, (PATIENCE, &Never)),
            answer(&listener)
        );
        answered.unwrap().into_body().collect().await.unwrap();

        let ticks = MAX_IDLE.as_millis() / TICK.as_millis();
        for _ in 1..ticks {
            watch.tick();
        }
        assert_eq!(upstreams.apps[0].idle.lock().len(), 1, "it is kept");
        for _ in 0..2 {
            watch.tick();
        }
        assert_eq!(upstreams.apps[0].idle.lock().len(), 0);
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "and closed");
    }
}
