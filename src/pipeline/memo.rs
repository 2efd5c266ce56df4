//! What one connection remembers from its last request. A client that keeps a connection sends the same host and the
//! same cookies again and again: comparing them is cheaper than reading them.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{COOKIE, HeaderMap, USER_AGENT};

use crate::session::LiveSession;

#[derive(Debug, Default)]
pub(super) struct Memo {
    pub(super) host: Option<Arc<HostMemo>>,
    pub(super) session: Option<SessionMemo>,
}

/// A host that was asked for, read and judged.
#[derive(Debug)]
pub(super) struct HostMemo {
    /// As the client wrote it.
    pub(super) authority: Bytes,
    /// Without port, in lower case.
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// Whether the connection's certificate is for it.
    pub(super) is_certified: bool,
    /// Our statements about the request, ready to be sent on.
    pub(super) x_forwarded_host: HeaderValue,
    pub(super) forwarded: HeaderValue,
}

impl HostMemo {
    /// Of an authority that was admitted, so it is text.
    pub(super) fn authority(&self) -> &str {
        std::str::from_utf8(&self.authority).unwrap_or_default()
    }
}

/// Cookies that held a good session, and what is left of them for the app.
#[derive(Debug)]
pub(super) struct SessionMemo {
    /// All fields, joined by `; `.
    cookies: Vec<u8>,
    session: LiveSession,
    rest: Option<HeaderValue>,
    /// Address and user agent that the session was found to be good from, where it is bound to them.
    from: Option<(IpAddr, Vec<u8>)>,
}

impl SessionMemo {
    pub(super) fn new(
        headers: &HeaderMap,
        session: LiveSession,
        rest: Option<HeaderValue>,
    ) -> Self {
        // A copy: a slice of what was read would keep the connection's read buffer alive.
        let fields: Vec<&[u8]> = fields(headers).collect();
        Self {
            cookies: fields.join(&b"; "[..]),
            session,
            rest,
            from: None,
        }
    }

    /// Keeps where the request came from too.
    pub(super) fn from(mut self, address: IpAddr, headers: &HeaderMap) -> Self {
        self.from = Some((address, user_agent(headers).to_vec()));
        self
    }

    pub(super) fn is_from(&self, address: IpAddr, headers: &HeaderMap) -> bool {
        self.from
            .as_ref()
            .is_some_and(|(known, agent)| *known == address && *agent == user_agent(headers))
    }

    /// Whether a request comes with the same cookies, in however many fields.
    pub(super) fn is_of(&self, headers: &HeaderMap) -> bool {
        let mut left = self.cookies.as_slice();
        for (index, field) in fields(headers).enumerate() {
            let gap: &[u8] = if index == 0 { b"" } else { b"; " };
            let rest = left
                .strip_prefix(gap)
                .and_then(|left| left.strip_prefix(field));
            let Some(rest) = rest else { return false };
            left = rest;
        }
        left.is_empty()
    }

    pub(super) fn session(&self) -> &LiveSession {
        &self.session
    }

    pub(super) fn rest(&self) -> Option<HeaderValue> {
        self.rest.clone()
    }
}

fn user_agent(headers: &HeaderMap) -> &[u8] {
    let field = headers.get(USER_AGENT);
    field.map_or(&b""[..], HeaderValue::as_bytes)
}

fn fields(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let all = headers.get_all(COOKIE).into_iter();
    all.map(HeaderValue::as_bytes)
}
