//! What one connection remembers from its last request. A client that keeps a connection sends the same host and the
//! same cookies again and again: comparing them is cheaper than reading them.

use bytes::Bytes;
use http::HeaderValue;
use http::header::{COOKIE, HeaderMap};

use crate::session::LiveSession;

#[derive(Debug, Default)]
pub(super) struct Memo {
    pub(super) host: Option<HostMemo>,
    pub(super) session: Option<SessionMemo>,
}

/// A host that was asked for, read and judged.
#[derive(Clone, Debug)]
pub(super) struct HostMemo {
    /// As the client wrote it.
    pub(super) authority: Bytes,
    /// Without port, in lower case.
    pub(super) host: std::sync::Arc<str>,
    pub(super) port: Option<u16>,
    /// Whether the connection's certificate is for it.
    pub(super) is_certified: bool,
    /// Our statements about the request, ready to be sent on.
    pub(super) x_forwarded_host: HeaderValue,
    pub(super) forwarded: HeaderValue,
}

/// Cookies that held a good session, and what is left of them for the app.
#[derive(Clone, Debug)]
pub(super) struct SessionMemo {
    cookies: Bytes,
    pub(super) session: LiveSession,
    pub(super) rest: Option<HeaderValue>,
}

impl SessionMemo {
    /// `None` where there is no one field of cookies to compare next time.
    pub(super) fn new(
        cookies: &HeaderMap,
        session: LiveSession,
        rest: Option<HeaderValue>,
    ) -> Option<Self> {
        // A copy: a slice of what was read would keep the connection's read buffer alive.
        let cookies = Bytes::copy_from_slice(only_cookies(cookies)?.as_bytes());
        Some(Self {
            cookies,
            session,
            rest,
        })
    }

    pub(super) fn is_of(&self, headers: &HeaderMap) -> bool {
        only_cookies(headers).is_some_and(|cookies| cookies.as_bytes() == self.cookies)
    }
}

fn only_cookies(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut fields = headers.get_all(COOKIE).into_iter();
    let only = fields.next()?;
    fields.next().is_none().then_some(only)
}
