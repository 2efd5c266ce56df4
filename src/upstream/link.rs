//! One HTTP/1.1 connection to an app, driven by whoever uses it: its reads and writes happen inside the task that
//! serves the request, so a response crosses no task on its way.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::body::RequestBody;
use super::connect::Stream;
use super::{Over, Until, UpstreamError};
use crate::clock::TICK;
use crate::deadline::{Deadline, Tick, Watch};

/// The longest response header section that is read, in bytes.
const MAX_RESPONSE_HEADER: usize = 64 * 1024;

type Connection = http1::Connection<TokioIo<Stream>, RequestBody>;

pub(super) struct Link {
    sender: http1::SendRequest<RequestBody>,
    /// `None` once the connection is over or drives itself.
    connection: Option<Box<Connection>>,
    waker: Waker,
    forward: Arc<Forward>,
    pub(super) deadline: Arc<Deadline>,
    /// When it was last put away, in ticks.
    pub(super) idle_since: Tick,
    watch: Watch,
    /// The request's body has not ended.
    uploading: Option<Arc<AtomicBool>>,
}

/// Hands a wake-up of the connection to the task that uses it now. The connection keeps this one waker for its life,
/// so nothing in it can hold on to a task that has moved on.
#[derive(Debug, Default)]
struct Forward(AtomicWaker);

impl Wake for Forward {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

/// An exchange that brought no response.
pub(super) struct Failed {
    pub(super) error: UpstreamError,
    /// The request, where nothing of it was written.
    pub(super) unsent: Option<Request<RequestBody>>,
    /// The connection ended before a byte of the response: the app may have closed it before it saw the request.
    pub(super) closed_early: bool,
}

impl Link {
    pub(super) async fn new(stream: Stream, watch: &Watch) -> Result<Self, UpstreamError> {
        let mut builder = http1::Builder::new();
        builder.max_header_size(MAX_RESPONSE_HEADER);
        let shaken = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) =
            shaken.map_err(|error| UpstreamError::Connect(error.to_string()))?;
        let forward = Arc::new(Forward::default());
        Ok(Self {
            sender,
            connection: Some(Box::new(connection)),
            waker: Waker::from(forward.clone()),
            forward,
            deadline: Deadline::new(watch),
            idle_since: watch.now(),
            watch: watch.clone(),
            uploading: None,
        })
    }

    /// Reads and writes what can be. `Ready` once the connection is over.
    pub(super) fn drive(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.forward.0.register(cx.waker());
        self.poll_connection()
    }

    /// As [`Link::drive`], for nobody in particular. `true`: still open.
    pub(super) fn drive_idle(&mut self) -> bool {
        self.forward.0.take();
        self.poll_connection().is_pending()
    }

    fn poll_connection(&mut self) -> Poll<()> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(());
        };
        let over = Pin::new(&mut **connection)
            .poll_without_shutdown(&mut Context::from_waker(&self.waker));
        if over.is_ready() {
            // What went wrong is told to the request or to its body.
            self.connection = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }

    pub(super) fn is_ready(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }

    /// The request's body is still on its way while the response comes.
    pub(super) fn is_uploading(&self) -> bool {
        is_under_way(self.uploading.as_deref())
    }

    /// It will wait for the next request from now on.
    pub(super) fn rest(&mut self) {
        self.idle_since = self.watch.now();
        self.uploading = None;
    }

    /// Sends a request and waits for the response's head, at most `limit` from the end of the request, and no longer than
    /// `until`.
    pub(super) fn exchange<'a>(
        &'a mut self,
        request: Request<RequestBody>,
        limit: Duration,
        until: &'a dyn Until,
    ) -> impl Future<Output = Result<Response<Incoming>, Failed>> + Send + 'a {
        self.deadline.arm(limit);
        // Most answers are there before it costs anything to wait for two things at once.
        let long = self.deadline.nudge(TICK);
        self.uploading = request.body().under_way();
        let response = self.sender.try_send_request(request);
        let (forward, waker, deadline) = (&self.forward, &self.waker, &self.deadline);
        let (connection, watch) = (&mut self.connection, &self.watch);
        let mut over: Option<Over> = None;
        async move {
            let mut response = std::pin::pin!(response);
            std::future::poll_fn(|cx| {
                forward.0.register(cx.waker());
                if let Some(open) = connection {
                    let over = Pin::new(&mut **open)
                        .poll_without_shutdown(&mut Context::from_waker(waker));
                    if over.is_ready() {
                        *connection = None;
                    }
                }
                match response.as_mut().poll(cx) {
                    Poll::Ready(answer) => Poll::Ready(answer.map_err(failed)),
                    Poll::Pending if deadline.poll_passed(cx) => {
                        Poll::Ready(Err(given_up(UpstreamError::Timeout)))
                    }
                    Poll::Pending if watch.now() < long => Poll::Pending,
                    Poll::Pending => {
                        let over = over.get_or_insert_with(|| until.over());
                        match over.as_mut().poll(cx) {
                            Poll::Ready(()) => Poll::Ready(Err(given_up(UpstreamError::Over))),
                            Poll::Pending => Poll::Pending,
                        }
                    }
                }
            })
            .await
        }
    }

    /// Lets the connection run in a task of its own, for exchanges that go both ways at once or change protocol. It ends
    /// with `over` at the latest.
    pub(super) fn detach(&mut self, mut over: Over) {
        // The upload keeps the old deadline; from here on ours is the response's alone.
        let another = self.deadline.another();
        let answer = Arc::downgrade(&another);
        let upload = std::mem::replace(&mut self.deadline, another);
        let Some(connection) = self.connection.take() else {
            return;
        };
        let uploading = self.uploading.clone();
        let mut connection = Box::pin(connection.with_upgrades());
        tokio::spawn(std::future::poll_fn(move |cx| {
            let done = connection.as_mut().poll(cx);
            if let Poll::Ready(Err(error)) = &done {
                tracing::debug!(%error, "an upstream connection failed");
            }
            // An app may answer and then take no more of what it is sent. While its answer comes that has a limit of its
            // own; afterwards nobody else would notice.
            let is_stuck = upload.poll_passed(cx) && is_under_way(uploading.as_deref());
            let is_called_off = over.as_mut().poll(cx).is_ready();
            if done.is_ready() || is_called_off || (is_stuck && answer.strong_count() == 0) {
                return Poll::Ready(());
            }
            if is_stuck {
                upload.arm(TICK);
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        }));
    }
}

fn is_under_way(uploading: Option<&AtomicBool>) -> bool {
    uploading.is_some_and(|uploading| uploading.load(Ordering::Relaxed))
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("open", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}

/// We wait no longer, and what came of the request nobody knows.
fn given_up(error: UpstreamError) -> Failed {
    Failed {
        error,
        unsent: None,
        closed_early: false,
    }
}

fn failed(mut failure: TrySendError<Request<RequestBody>>) -> Failed {
    let unsent = failure.take_message();
    let error = failure.into_error();
    let closed_early = error.is_incomplete_message() || error.is_canceled() || error.is_closed();
    Failed {
        error: blame(&error),
        unsent,
        closed_early,
    }
}

/// Whose fault it is: the client's where its body failed, else the app's.
fn blame(error: &hyper::Error) -> UpstreamError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if let Some(error) = this.downcast_ref::<UpstreamError>() {
            return error.clone();
        }
        cause = this.source();
    }
    UpstreamError::Exchange(error.to_string())
}
