//! The body of whatever answer a request gets, and the line in the access log that is written when it ends.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::Response;
use http::header::CONTENT_LENGTH;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;

use super::trail::Trail;
use crate::upstream::{ResponseBody, UpstreamError};

#[derive(Debug)]
pub struct Body {
    kind: Kind,
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
            trail: None,
        }
    }

    pub(super) fn proxied(body: ResponseBody) -> Self {
        Self {
            kind: Kind::Proxied(body),
            trail: None,
        }
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

impl HttpBody for Body {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        let polled = match &mut self.kind {
            Kind::Own(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Kind::Proxied(body) => Pin::new(body).poll_frame(cx),
        };
        if let (Some(trail), Poll::Ready(Some(frame))) = (&mut self.trail, &polled) {
            match frame {
                Ok(frame) => trail.sent(frame.data_ref().map_or(0, Bytes::remaining)),
                Err(error) => trail.failed(error),
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
