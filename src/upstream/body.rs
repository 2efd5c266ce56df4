//! Bodies on their way: the client's to the app and the app's back, streamed with backpressure, each with a limit on
//! how long it may stand still.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::UpstreamError;
use super::link::Link;
use super::pool::App;
use crate::deadline::{Deadline, Watch};
use crate::wire::ClientBody;

/// Removes what trailers must not carry.
pub type TrailerFilter = Arc<dyn Fn(&mut HeaderMap) + Send + Sync>;

/// What a client sends with its request.
#[derive(Debug, Default)]
pub enum RequestBody {
    #[default]
    Empty,
    Upload(Box<Upload>),
}

/// A body that is read from the client as fast as the app takes it.
pub struct Upload {
    incoming: ClientBody,
    /// Bytes that may still come.
    allowed: u64,
    /// How long the client may send nothing.
    patience: Duration,
    client: Arc<Deadline>,
    /// The app's time, which runs only once the client has sent all.
    upstream: Option<(Arc<Deadline>, Duration)>,
    trailers: TrailerFilter,
    /// Shared with the connection that carries it.
    under_way: Arc<AtomicBool>,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload")
            .field("allowed", &self.allowed)
            .finish_non_exhaustive()
    }
}

/// The bounds of an upload.
pub struct UploadLimits {
    pub max_bytes: Option<u64>,
    pub patience: Duration,
    pub trailers: TrailerFilter,
}

impl std::fmt::Debug for UploadLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UploadLimits")
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

impl RequestBody {
    /// A body of a declared length over the limit is refused before a byte of it is read.
    pub fn upload(
        incoming: ClientBody,
        limits: UploadLimits,
        watch: &Watch,
    ) -> Result<Self, UpstreamError> {
        let allowed = limits.max_bytes.unwrap_or(u64::MAX);
        if incoming.size_hint().lower() > allowed {
            return Err(UpstreamError::BodyTooLarge);
        }
        Ok(Self::Upload(Box::new(Upload {
            incoming,
            allowed,
            patience: limits.patience,
            client: Deadline::new(watch),
            upstream: None,
            trailers: limits.trailers,
            under_way: Arc::new(AtomicBool::new(true)),
        })))
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Tells whether the body is still being sent; `None` where there is none.
    pub(super) fn under_way(&self) -> Option<Arc<AtomicBool>> {
        match self {
            Self::Empty => None,
            Self::Upload(upload) => Some(upload.under_way.clone()),
        }
    }

    /// Couples the app's deadline to the progress of this body.
    pub(super) fn paces(&mut self, deadline: &Arc<Deadline>, first_byte: Duration) {
        if let Self::Upload(upload) = self {
            upload.upstream = Some((deadline.clone(), first_byte));
        }
    }
}

impl Upload {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let frame = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending => return self.wait(cx),
            Poll::Ready(None) => {
                self.finish();
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => {
                return Poll::Ready(Some(Err(UpstreamError::ClientBody(error.to_string()))));
            }
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        self.client.disarm();
        let len = frame.data_ref().map_or(0, Bytes::remaining) as u64;
        let Some(allowed) = self.allowed.checked_sub(len) else {
            return Poll::Ready(Some(Err(UpstreamError::BodyTooLarge)));
        };
        self.allowed = allowed;
        // Nobody asks for the end behind trailers, nor behind a declared length: in HTTP/2 it may come apart.
        let is_last = frame.is_trailers() || self.incoming.size_hint().exact() == Some(0);
        if is_last || self.incoming.is_end_stream() {
            self.finish();
        } else if let Some((deadline, limit)) = &self.upstream {
            // While the app takes what it is given, its time begins anew.
            deadline.arm(*limit);
        }
        let frame = match frame.into_trailers() {
            Err(data) => data,
            Ok(mut trailers) => {
                (self.trailers)(&mut trailers);
                Frame::trailers(trailers)
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    /// The client has nothing for us now: its time runs, the app's does not.
    fn wait(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        if self.client.poll_passed(cx) {
            self.incoming.give_up();
            let stalled = format!("nothing came for {:?}", self.patience);
            return Poll::Ready(Some(Err(UpstreamError::ClientBody(stalled))));
        }
        self.client.arm_once(self.patience);
        if let Some((deadline, _)) = &self.upstream {
            deadline.disarm();
        }
        Poll::Pending
    }

    fn finish(&mut self) {
        self.client.disarm();
        if self.under_way.swap(false, Ordering::Relaxed)
            && let Some((deadline, limit)) = &self.upstream
        {
            deadline.arm(*limit);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Upload(upload) => upload.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Upload(upload) => upload.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Upload(upload) => upload.incoming.size_hint(),
        }
    }
}

/// What an app answers. Dropping it unread ends the connection to the app; reading it to its end puts the connection
/// back for the next request.
#[derive(Debug)]
pub struct ResponseBody {
    incoming: Incoming,
    link: Option<Link>,
    app: Arc<App>,
    idle: Duration,
}

impl ResponseBody {
    pub(super) fn new(incoming: Incoming, link: Link, app: Arc<App>, idle: Duration) -> Self {
        link.deadline.disarm();
        Self {
            incoming,
            link: Some(link),
            app,
            idle,
        }
    }

    fn put_back(&mut self) {
        if let Some(link) = self.link.take() {
            self.app.put(link);
        }
    }

    fn stalled(&mut self, cx: &Context<'_>) -> bool {
        let Some(link) = &self.link else { return false };
        if link.deadline.poll_passed(cx) {
            self.link = None;
            return true;
        }
        link.deadline.arm_once(self.idle);
        false
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let this = self.get_mut();
        if let Some(link) = &mut this.link {
            // Whether it is over shows in the body.
            let _over = link.drive(cx);
        }
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(link) = &this.link {
                    link.deadline.disarm();
                }
                if frame.is_trailers() {
                    // They are the last, and nobody asks for more.
                    this.put_back();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.link = None;
                Poll::Ready(Some(Err(UpstreamError::Exchange(error.to_string()))))
            }
            Poll::Ready(None) => {
                this.put_back();
                Poll::Ready(None)
            }
            Poll::Pending if this.stalled(cx) => Poll::Ready(Some(Err(UpstreamError::Timeout))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A server that knows the length does not ask for the end of a body it has sent whole.
        if self.incoming.is_end_stream() {
            self.put_back();
        }
    }
}
