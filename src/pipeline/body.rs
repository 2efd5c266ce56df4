//! The body of whatever answer a request gets: cut off when the session it was for is over, and followed by a line in
//! the access log.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::Response;
use http::header::CONTENT_LENGTH;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;

use super::forward::clean_trailers;
use super::gate::{Bearer, Passed};
use super::trail::Trail;
use crate::upstream::{Over, ResponseBody, Until, UpstreamError};

#[derive(Debug)]
pub struct Body {
    kind: Kind,
    /// What an app sends is for these alone. `None` for what anybody may see.
    bearer: Option<Held>,
    /// Written when the body is gone. `None` where no access log is kept.
    trail: Option<Box<Trail>>,
}

#[derive(Debug)]
enum Kind {
    Own(Full<Bytes>),
    Proxied(ResponseBody),
}

impl Body {
    pub(super) fn own(bytes: Bytes) -> Self {
        Self {
            kind: Kind::Own(Full::new(bytes)),
            bearer: None,
            trail: None,
        }
    }

    pub(super) fn proxied(body: ResponseBody) -> Self {
        Self {
            kind: Kind::Proxied(body),
            bearer: None,
            trail: None,
        }
    }

    /// Ends with the session or the credential, in the middle of a transfer or of a silence (R5).
    pub(super) fn within(mut self, passed: &Passed) -> Self {
        self.bearer = passed.bearer().cloned().map(Held::new);
        self
    }

    /// What a HEAD request is answered with: the fields say how long the content would be, and none comes. HTTP/2 in
    /// the library sends whatever it is given.
    pub(super) fn without_content(response: Response<Self>) -> Response<Self> {
        let (mut parts, mut body) = response.into_parts();
        if let Kind::Own(content) = &mut body.kind {
            let len = content.size_hint().exact().unwrap_or(0);
            parts.headers.insert(CONTENT_LENGTH, len.into());
            *content = Full::default();
        }
        Response::from_parts(parts, body)
    }

    pub(super) fn followed_by(mut self, trail: Option<Box<Trail>>) -> Self {
        self.trail = trail;
        self
    }
}

/// Why a body ends before its end.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BodyError {
    #[error("the session has ended")]
    SessionEnded,
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// Whom a body belongs to.
struct Held {
    bearer: Bearer,
    /// What came with the head goes with the head: a short answer is whole or not there at all.
    has_begun: bool,
    /// Made when there is something to wait for: most bodies are there before anybody asks.
    ended: Option<Over>,
}

impl Held {
    fn new(bearer: Bearer) -> Self {
        Self {
            bearer,
            has_begun: false,
            ended: None,
        }
    }

    /// Whether that is over. A body that waits is woken when that happens.
    fn is_over(&mut self, waits: bool, cx: &mut Context<'_>) -> bool {
        if !waits {
            return std::mem::replace(&mut self.has_begun, true) && self.bearer.is_over();
        }
        let ended = self.ended.get_or_insert_with(|| self.bearer.over());
        ended.as_mut().poll(cx).is_ready()
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

fn fit_for_a_browser(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            clean_trailers(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(data) => data,
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.kind {
            Kind::Own(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Kind::Proxied(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map(fit_for_a_browser)))
                .map_err(BodyError::from),
        };
        if let Some(held) = &mut self.bearer
            && !matches!(polled, Poll::Ready(None))
            && held.is_over(polled.is_pending(), cx)
        {
            return Poll::Ready(Some(Err(BodyError::SessionEnded)));
        }
        if let (Some(trail), Poll::Ready(Some(frame))) = (&mut self.trail, &polled) {
            match frame {
                Ok(frame) => trail.sent(frame.data_ref().map_or(0, Bytes::remaining)),
                Err(BodyError::Upstream(error)) => trail.failed(error),
                Err(BodyError::SessionEnded) => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own(body) => body.is_end_stream(),
            Kind::Proxied(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(body) => body.size_hint(),
            Kind::Proxied(body) => body.size_hint(),
        }
    }
}
