//! A request's body, which is never left lying: where nobody reads it to its end, it is read on and thrown away for a
//! while. A client that is still sending hears the answer only then: a connection that is closed with unread bytes in it
//! is reset, and takes the answer with it (RFC 9112 section 9.6).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// How much of it is thrown away, in bytes, and for how long, before the client is cut off.
const LINGER_BYTES: usize = 16 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct ClientBody(Source);

#[derive(Debug)]
enum Source {
    Incoming(Incoming),
    /// What came in an earlier request and was kept.
    Kept(Bytes),
    Over,
}

impl ClientBody {
    pub fn new(incoming: Incoming) -> Self {
        Self(Source::Incoming(incoming))
    }

    pub fn kept(content: Bytes) -> Self {
        Self(Source::Kept(content))
    }

    /// Reads no more of it: the client has failed, or keeps us waiting.
    pub fn give_up(&mut self) {
        self.0 = Source::Over;
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Source::Incoming(incoming) => Pin::new(incoming).poll_frame(cx),
            Source::Kept(content) => {
                let whole = std::mem::take(content);
                Poll::Ready((!whole.is_empty()).then(|| Ok(Frame::data(whole))))
            }
            Source::Over => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Incoming(incoming) => incoming.is_end_stream(),
            Source::Kept(content) => content.is_empty(),
            Source::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Incoming(incoming) => incoming.size_hint(),
            Source::Kept(content) => SizeHint::with_exact(content.len() as u64),
            Source::Over => SizeHint::with_exact(0),
        }
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if let Source::Incoming(rest) = std::mem::replace(&mut self.0, Source::Over)
            && !rest.is_end_stream()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(linger(rest));
        }
    }
}

async fn linger(mut rest: Incoming) {
    let mut left = LINGER_BYTES;
    let reading = async {
        while let Some(Ok(frame)) = rest.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(fewer) => left = fewer,
                None => return,
            }
        }
    };
    if tokio::time::timeout(LINGER_TIME, reading).await.is_err() {
        tracing::debug!("a client is cut off that went on sending after its answer");
    }
}
