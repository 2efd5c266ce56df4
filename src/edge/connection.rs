//! One TLS connection, from its handshake to its end: HTTP/1.1 or HTTP/2, chosen by ALPN, every limit set by hand.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::activity::{Activity, InFlight, Tracked, Verdict};
use super::coalesce::coalesce;
use super::listener::Permit;
use super::stream::{Pace, Streams};
use super::{Limits, Peer};
use crate::deadline::{Drain, Watch};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes the handler of one connection.
pub trait Connect: Send + Sync + 'static {
    type Handle: Handle;

    fn connect(&self, peer: Peer) -> Self::Handle;
}

/// Answers the requests of one connection.
pub trait Handle: Send + Sync + 'static {
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static;

    fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send + 'static;
}

/// What every connection of a worker shares.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) limits: Arc<Limits>,
    pub(super) watch: Watch,
    pub(super) draining: Arc<Drain>,
}

/// Serves until either side ends the connection. Why it ended is for the debug log only.
pub(super) async fn serve<H: Handle>(
    stream: TlsStream<TcpStream>,
    handle: H,
    permit: Permit,
    shared: Shared,
) {
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let activity = Activity::new(
        &shared.watch,
        &shared.limits,
        shared.draining.clone(),
        !http2,
    );
    let stream = Tracked::new(stream, activity.clone(), permit);
    let handle = Arc::new(handle);
    let ended = if http2 {
        serve_http2(stream, handle, activity, &shared).await
    } else {
        serve_http1(stream, handle, activity, &shared.limits).await
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection failed");
    }
}

async fn serve_http1<H: Handle>(
    stream: Tracked<TlsStream<TcpStream>, Permit>,
    handle: Arc<H>,
    activity: Arc<Activity>,
    limits: &Limits,
) -> hyper::Result<()> {
    let requests = activity.clone();
    let service = service_fn(move |request| {
        let in_flight = requests.begin();
        let answer = handle.clone().handle(request);
        async move { Ok::<_, Infallible>(answer.await.map(|body| Counted::new(body, in_flight, None))) }
    });
    let mut builder = http1::Builder::new();
    builder.max_header_size(limits.max_header_bytes);
    if limits.max_headers != Limits::default().max_headers {
        // The library's own bound is the same, and it is cheaper where it need not be told.
        builder.max_headers(limits.max_headers);
    }
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = Box::pin(connection.with_upgrades());
    let mut asked = false;
    std::future::poll_fn(move |cx| match activity.verdict(cx) {
        Verdict::Close => Poll::Ready(Ok(())),
        verdict => {
            if verdict == Verdict::Graceful && !std::mem::replace(&mut asked, true) {
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx)
        }
    })
    .await
}

async fn serve_http2<H: Handle>(
    stream: Tracked<TlsStream<TcpStream>, Permit>,
    handle: Arc<H>,
    activity: Arc<Activity>,
    shared: &Shared,
) -> hyper::Result<()> {
    let requests = activity.clone();
    let streams = Streams::new(&shared.watch, shared.limits.body_idle_timeout);
    let paces = streams.clone();
    let service = service_fn(move |request| {
        let (in_flight, pace) = (requests.begin(), paces.begin());
        // Boxed: the library moves what it is given into a task, by way of several places.
        let answer = Box::pin(handle.clone().handle(request));
        async move {
            Ok::<_, Infallible>(
                answer
                    .await
                    .map(|body| Counted::new(body, in_flight, Some(pace))),
            )
        }
    });
    let (stream, flusher) = coalesce(stream);
    let builder = http2_builder(&shared.limits, streams);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = Box::pin(connection);
    let mut asked = false;
    std::future::poll_fn(move |cx| match activity.verdict(cx) {
        Verdict::Close => Poll::Ready(Ok(())),
        verdict => {
            if verdict == Verdict::Graceful && !std::mem::replace(&mut asked, true) {
                connection.as_mut().graceful_shutdown();
            }
            let ended = connection.as_mut().poll(cx);
            flusher.flush(cx);
            if activity.is_resting() {
                flusher.release();
            }
            ended
        }
    })
    .await
}

/// Resets of ours for what a client did wrong, over the life of a connection, before it is ended (CVE-2025-8671). Honest
/// clients cause some: requests sent before our SETTINGS came are refused beyond `max_streams`, and an upload may break off
/// once its answer is there.
const MAX_RESETS: usize = 1024;

/// Every bound of HTTP/2 in one place. The library's own defences stay on: CONTINUATION frames are counted, and so are
/// resets in either direction (Rapid Reset, CVE-2023-44487).
fn http2_builder(limits: &Limits, streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(MAX_RESETS)
        .max_frame_size(16 * 1024)
        .header_table_size(4 * 1024)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(64 * 1024);
    builder
}

/// A response body that counts as a request under way until it is gone.
#[derive(Debug)]
struct Counted<B> {
    body: B,
    _in_flight: InFlight,
    /// Of HTTP/2: over HTTP/1 the socket shows whether anything is taken.
    pace: Option<Arc<Pace>>,
}

impl<B> Counted<B> {
    fn new(body: B, in_flight: InFlight, pace: Option<Arc<Pace>>) -> Self {
        if let Some(pace) = &pace {
            pace.offer();
        }
        Self {
            body,
            _in_flight: in_flight,
            pace,
        }
    }
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(pace) = &self.pace {
            if polled.is_pending() {
                pace.wait();
            } else {
                pace.offer();
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
