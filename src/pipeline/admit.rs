//! Refuses, before routing, what the HTTP library lets through and a session proxy must not (R15a): requests that
//! have two readings of where they go, where they end, or what is between here and there. It knows no route and no
//! session; `path` reads the path.

use std::borrow::Cow;

use http::header::{HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Version};

pub use super::hop::{forbidden_trailer, strip_hop_by_hop};

use super::hop::options;
use crate::identity::fold_eq;
use crate::routing::split_authority;

/// What is certain of a request once it has one reading.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admitted<'r> {
    /// Lower case, no port; borrowed where the client wrote it so.
    pub host: Cow<'r, str>,
    pub port: Option<u16>,
    pub body: Framing,
    /// The client asks to go on as a WebSocket.
    pub upgrade: bool,
    /// Of an OPTIONS request (RFC 9110 section 7.6.2): 0 is answered here, more is counted down.
    pub max_forwards: Option<u64>,
}

/// Where a request's body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// There is none.
    None,
    /// After this many bytes.
    Length(u64),
    /// Where its last chunk or frame says so.
    Streamed,
}

/// Why a request does not get as far as routing. The text is for logs, not for clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AdmitError {
    /// A transfer coding other than `chunked`: 501.
    #[error("not implemented: {0}")]
    Coding(&'static str),
    /// 417.
    #[error("expectation failed: {0}")]
    Expectation(&'static str),
    /// It has no reading or more than one: 400, and the connection closes.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// A method that no proxy for apps carries out: 405.
    #[error("method refused: {0}")]
    Method(&'static str),
    /// `OPTIONS *` asks about the server as a whole: answered here, never sent on.
    #[error("a question about the server itself")]
    OptionsStar,
}

use AdmitError::{Coding, Expectation, Malformed};

/// Looks at everything but the path's own spelling. `has_body` is what the library knows: whether a body of any length
/// may follow. Allocates only for a host in upper case.
pub fn admit(parts: &Parts, has_body: bool) -> Result<Admitted<'_>, AdmitError> {
    let version = match parts.version {
        Version::HTTP_10 => Protocol::Http10,
        Version::HTTP_11 => Protocol::Http11,
        Version::HTTP_2 => Protocol::Http2,
        _ => return Err(Malformed("a version of HTTP that is not spoken here")),
    };
    check_method(&parts.method)?;
    let fields = Fields::read(version, &parts.headers)?;
    let authority = authority(version, parts, fields.host)?;
    let (host, port) = split_authority(authority).ok_or(Malformed("a host that is none"))?;
    match parts.uri.path() {
        path if path.starts_with('/') => {}
        "*" if parts.method == Method::OPTIONS => return Err(AdmitError::OptionsStar),
        _ => return Err(Malformed("a target that is no path")),
    }
    let is_options = parts.method == Method::OPTIONS;
    let max_forwards = fields.max_forwards.filter(|_| is_options);
    let max_forwards =
        max_forwards.map(|value| decimal(value).ok_or(Malformed("Max-Forwards is no number")));
    let body = fields.framing(has_body);
    Ok(Admitted {
        host: lower_case(host),
        port,
        body,
        upgrade: fields.asks_for_websocket(version, &parts.method) && body == Framing::None,
        max_forwards: max_forwards.transpose()?,
    })
}

/// The library counts the fields of HTTP/1 alone. Cookies come in crumbs in HTTP/2, as one field of which they count.
pub(super) fn has_too_many_fields(headers: &HeaderMap, max: usize) -> bool {
    headers.len() > max && {
        let crumbs = headers.get_all(http::header::COOKIE).iter().count();
        headers.len() - crumbs.saturating_sub(1) > max
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Protocol {
    Http10,
    Http11,
    Http2,
}

pub(super) fn check_method(method: &Method) -> Result<(), AdmitError> {
    match method.as_str() {
        "GET" | "POST" | "HEAD" => Ok(()),
        "CONNECT" | "TRACE" | "TRACK" => Err(AdmitError::Method("CONNECT, TRACE and TRACK")),
        name if name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'-') =>
        {
            Ok(())
        }
        _ => Err(Malformed(
            "a method in anything but upper-case letters and `-`",
        )),
    }
}

/// The one host that a request names (RFC 9112 section 3.2, RFC 9113 section 8.3.1).
fn authority<'r>(
    version: Protocol,
    parts: &'r Parts,
    host: Option<&'r HeaderValue>,
) -> Result<&'r str, AdmitError> {
    let host = match host {
        Some(value) => Some(
            value
                .to_str()
                .map_err(|_| Malformed("a host that is none"))?,
        ),
        None => None,
    };
    if let Some(scheme) = parts.uri.scheme_str()
        && scheme != "https"
    {
        return Err(Malformed("a scheme other than https"));
    }
    let target = parts.uri.authority().map(http::uri::Authority::as_str);
    match (target, host) {
        (Some(target), Some(host)) if target.eq_ignore_ascii_case(host) => Ok(host),
        (Some(_), Some(_)) => Err(Malformed("a target and a Host that differ")),
        (Some(target), None) if version == Protocol::Http2 => Ok(target),
        (None, Some(host)) => Ok(host),
        (_, None) => Err(Malformed("no Host")),
    }
}

/// The fields that decide how a request is read, from one look over all of them.
#[derive(Default)]
struct Fields<'r> {
    host: Option<&'r HeaderValue>,
    length: Option<u64>,
    chunked: bool,
    /// `Connection` has the option `upgrade`.
    upgrade_option: bool,
    upgrades: u32,
    websocket: bool,
    cookies: u32,
    max_forwards: Option<&'r [u8]>,
}

impl<'r> Fields<'r> {
    fn read(version: Protocol, headers: &'r HeaderMap) -> Result<Self, AdmitError> {
        let mut fields = Self::default();
        for (name, value) in headers {
            let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
            if is_space(value.as_bytes().first()) || is_space(value.as_bytes().last()) {
                return Err(Malformed("a field value with space around it"));
            }
            if is_disguised(name.as_str()) {
                return Err(Malformed("a field whose name passes for another"));
            }
            fields.take(version, name.as_str(), value)?;
        }
        if fields.chunked && fields.length.is_some() {
            return Err(Malformed("Transfer-Encoding beside Content-Length"));
        }
        if fields.cookies > 1 && version != Protocol::Http2 {
            return Err(Malformed("two Cookie fields"));
        }
        Ok(fields)
    }

    fn take(
        &mut self,
        version: Protocol,
        name: &str,
        value: &'r HeaderValue,
    ) -> Result<(), AdmitError> {
        let bytes = value.as_bytes();
        let is_h2 = version == Protocol::Http2;
        match name {
            "host" => set_once(&mut self.host, value, "two Host fields"),
            "cookie" => {
                self.cookies += 1;
                Ok(())
            }
            "content-length" => {
                let length =
                    decimal(bytes).ok_or(Malformed("a Content-Length that is no number"))?;
                set_once(&mut self.length, length, "two Content-Length fields")
            }
            "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade"
                if is_h2 =>
            {
                Err(Malformed("a field of the connection in HTTP/2"))
            }
            "connection" => self.take_connection(bytes),
            "transfer-encoding" => self.take_coding(version, bytes),
            "upgrade" => {
                self.upgrades += 1;
                self.websocket = bytes.eq_ignore_ascii_case(b"websocket");
                Ok(())
            }
            "te" if is_h2 && !bytes.eq_ignore_ascii_case(b"trailers") => {
                Err(Malformed("te in HTTP/2"))
            }
            "expect" if bytes.eq_ignore_ascii_case(b"100-continue") => Ok(()),
            "expect" => Err(Expectation("an expectation other than 100-continue")),
            "max-forwards" => set_once(&mut self.max_forwards, bytes, "two Max-Forwards fields"),
            _ => Ok(()),
        }
    }

    fn take_connection(&mut self, value: &[u8]) -> Result<(), AdmitError> {
        for option in options(value) {
            if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_option = true;
            } else if END_TO_END
                .iter()
                .any(|name| option.eq_ignore_ascii_case(name))
            {
                return Err(Malformed(
                    "a Connection that names a field which is not the connection's",
                ));
            }
        }
        Ok(())
    }

    fn take_coding(&mut self, version: Protocol, value: &[u8]) -> Result<(), AdmitError> {
        if version == Protocol::Http10 {
            return Err(Malformed("Transfer-Encoding in HTTP/1.0"));
        }
        if self.chunked {
            return Err(Malformed("two Transfer-Encoding fields"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Coding("a transfer coding other than chunked"));
        }
        self.chunked = true;
        Ok(())
    }

    fn framing(&self, has_body: bool) -> Framing {
        match self.length {
            _ if self.chunked => Framing::Streamed,
            Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
            None if has_body => Framing::Streamed,
            None => Framing::None,
        }
    }

    /// RFC 6455 section 4.1. Anything else that an Upgrade offers is an offer that nobody has to take.
    fn asks_for_websocket(&self, version: Protocol, method: &Method) -> bool {
        version == Protocol::Http11
            && method == Method::GET
            && self.upgrade_option
            && self.websocket
            && self.upgrades == 1
    }
}

/// What `Connection` must not take away on the way to the upstream.
const END_TO_END: [&[u8]; 5] = [
    b"authorization",
    b"content-length",
    b"cookie",
    b"host",
    b"transfer-encoding",
];

/// Names that apps behind CGI and its kin cannot tell from the real ones, where `_` or `.` stands for `-`.
const DISGUISED: [&str; 8] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "transfer-encoding",
    "upgrade",
];

fn is_disguised(name: &str) -> bool {
    let is_ordinary = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !name.bytes().all(is_ordinary) && DISGUISED.iter().any(|real| fold_eq(name, real))
}

fn set_once<T>(slot: &mut Option<T>, value: T, twice: &'static str) -> Result<(), AdmitError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed(twice)),
    }
}

/// A number as everybody writes it: digits only, no zero in front of others.
fn decimal(bytes: &[u8]) -> Option<u64> {
    let is_number = match bytes {
        [] => false,
        [b'0'] => true,
        [first, rest @ ..] => matches!(first, b'1'..=b'9') && rest.iter().all(u8::is_ascii_digit),
    };
    std::str::from_utf8(bytes)
        .ok()
        .filter(|_| is_number)?
        .parse()
        .ok()
}

fn lower_case(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use http::{Request, Response};
    use http_body::Body as _;
    use http_body_util::Empty;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    type Verdict = Result<Admitted<'static>, AdmitError>;

    fn owned(parts: &Parts, has_body: bool) -> Verdict {
        admit(parts, has_body).map(|admitted| Admitted {
            host: Cow::Owned(admitted.host.into_owned()),
            ..admitted
        })
    }

    /// What becomes of literal bytes once hyper has read them; `None` where hyper itself refuses.
    async fn h1(raw: &[u8]) -> Option<Verdict> {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let seen = Arc::new(Mutex::new(None));
        let service = service_fn(|request: Request<hyper::body::Incoming>| {
            let (parts, body) = request.into_parts();
            seen.lock()
                .get_or_insert(owned(&parts, !body.is_end_stream()));
            async { Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new())) }
        });
        client.write_all(raw).await.unwrap();
        client.shutdown().await.unwrap();
        let serve = http1::Builder::new().serve_connection(TokioIo::new(server), service);
        let mut answer = Vec::new();
        let (_served, read) = tokio::join!(serve, client.read_to_end(&mut answer));
        read.unwrap();
        seen.lock().take()
    }

    async fn accepted(raw: &[u8]) -> Admitted<'static> {
        let verdict = h1(raw).await;
        verdict
            .unwrap_or_else(|| panic!("hyper refuses {raw:?}"))
            .unwrap_or_else(|error| panic!("{raw:?}: {error}"))
    }

    fn h2(target: &str, fields: &[(&'static str, &'static str)]) -> Verdict {
        let mut request = Request::builder()
            .method("GET")
            .uri(target)
            .version(Version::HTTP_2);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        owned(&request.body(()).unwrap().into_parts().0, false)
    }

    #[tokio::test]
    async fn an_ordinary_request_passes() {
        let admitted =
            accepted(b"GET /a?b HTTP/1.1\r\nHost: Wiki.Example.com:8443\r\nCookie: a=1\r\n\r\n")
                .await;
        let expected = Admitted {
            host: Cow::Borrowed("wiki.example.com"),
            port: Some(8443),
            body: Framing::None,
            upgrade: false,
            max_forwards: None,
        };
        assert_eq!(admitted, expected);
        for raw in [
            b"GET / HTTP/1.0\r\nHost: a\r\n\r\n".as_slice(),
            b"GET https://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET https://A HTTP/1.1\r\nHost: a\r\n\r\n",
            b"M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: [::1]:1\r\nConnection: keep-alive, TE\r\nTE: gzip\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n",
            b"GET //a/../b?%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            accepted(raw).await;
        }
    }

    #[tokio::test]
    async fn a_host_in_lower_case_is_borrowed() {
        let request = Request::builder()
            .uri("/")
            .header("host", "a.example")
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        assert!(matches!(
            admit(&parts, false).unwrap().host,
            Cow::Borrowed("a.example")
        ));
    }

    #[tokio::test]
    async fn a_request_that_names_no_host_or_two_is_refused() {
        for raw in [
            b"GET / HTTP/1.1\r\n\r\n".as_slice(),
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a, b;c/d@e\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a:\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a.\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\xff\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            b"GET https://a/x HTTP/1.1\r\n\r\n",
            b"GET https://a/x HTTP/1.1\r\nHost: b\r\n\r\n",
            b"GET https://a:1/x HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET https://u@a/x HTTP/1.1\r\nHost: u@a\r\n\r\n",
            b"GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET ftp://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert!(matches!(h1(raw).await, Some(Err(Malformed(_)))), "{raw:?}");
        }
    }

    #[tokio::test]
    async fn a_target_that_is_no_path_is_refused() {
        for raw in [
            b"GET evil:80 HTTP/1.1\r\nHost: evil:80\r\n\r\n".as_slice(),
            b"GET admin HTTP/1.1\r\nHost: admin\r\n\r\n",
            b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert!(matches!(h1(raw).await, Some(Err(Malformed(_)))), "{raw:?}");
        }
        let star = b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(h1(star).await, Some(Err(AdmitError::OptionsStar)));
        assert!(matches!(
            h1(b"OPTIONS * HTTP/1.1\r\n\r\n").await,
            Some(Err(Malformed(_)))
        ));
    }

    #[tokio::test]
    async fn methods_that_no_app_is_asked_are_refused() {
        for raw in [
            b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".as_slice(),
            b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"TRACK / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert!(
                matches!(h1(raw).await, Some(Err(AdmitError::Method(_)))),
                "{raw:?}"
            );
        }
        for raw in [
            b"get / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice(),
            b"Get / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GE!T / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET2 / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"trace / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert!(matches!(h1(raw).await, Some(Err(Malformed(_)))), "{raw:?}");
        }
    }

    #[tokio::test]
    async fn a_body_has_one_end_or_the_request_is_refused() {
        for (fields, body) in [
            ("Content-Length: 3\r\n\r\nabc", Framing::Length(3)),
            ("Content-Length: 0\r\n\r\n", Framing::None),
            ("\r\n", Framing::None),
            (
                "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                Framing::Streamed,
            ),
            (
                "Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
                Framing::Streamed,
            ),
        ] {
            let raw = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}");
            assert_eq!(accepted(raw.as_bytes()).await.body, body, "{fields:?}");
        }
        for (fields, expected) in [
            (
                "Content-Length: 05\r\n\r\nabcde",
                "a Content-Length that is no number",
            ),
            (
                "Content-Length: 00\r\n\r\n",
                "a Content-Length that is no number",
            ),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "two Transfer-Encoding fields",
            ),
        ] {
            let raw = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}");
            assert_eq!(
                h1(raw.as_bytes()).await,
                Some(Err(Malformed(expected))),
                "{fields:?}"
            );
        }
        for coding in [
            "identity, chunked",
            ",chunked",
            "gzip, chunked",
            "chunked, chunked",
            "\"chunked\", chunked",
        ] {
            let raw = format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"
            );
            assert!(
                matches!(h1(raw.as_bytes()).await, Some(Err(Coding(_)))),
                "{coding:?}"
            );
        }
    }

    #[test]
    fn two_ends_are_refused_whoever_framed_the_request() {
        let refused = |version: Version, fields: &[(&'static str, &'static str)]| {
            let mut request = Request::builder()
                .method("POST")
                .uri("/")
                .version(version)
                .header("host", "a");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            admit(&request.body(()).unwrap().into_parts().0, true).is_err()
        };
        let chunked = ("transfer-encoding", "chunked");
        assert!(refused(
            Version::HTTP_11,
            &[chunked, ("content-length", "3")]
        ));
        assert!(refused(
            Version::HTTP_11,
            &[("content-length", "3"), ("content-length", "3")]
        ));
        assert!(refused(Version::HTTP_10, &[chunked]));
        assert!(refused(Version::HTTP_2, &[chunked]));
        assert!(refused(Version::HTTP_09, &[]));
        assert!(refused(Version::HTTP_3, &[]));
        for length in [
            "",
            "+3",
            "-3",
            "3,3",
            "0x3",
            "03",
            "3 ",
            "18446744073709551616",
        ] {
            assert!(
                refused(Version::HTTP_11, &[("content-length", length)]),
                "{length:?}"
            );
        }
        assert!(!refused(
            Version::HTTP_11,
            &[("content-length", "18446744073709551615")]
        ));
    }

    #[tokio::test]
    async fn expectations_that_nobody_keeps_are_refused() {
        let ask = |value: &str| {
            format!("GET / HTTP/1.1\r\nHost: a\r\nExpect: {value}\r\n\r\n").into_bytes()
        };
        accepted(&ask("100-continue")).await;
        accepted(&ask("100-Continue")).await;
        for value in ["200-ok", "100-continue, x", "100-continue;a=b", ""] {
            assert!(
                matches!(h1(&ask(value)).await, Some(Err(Expectation(_)))),
                "{value:?}"
            );
        }
    }

    #[tokio::test]
    async fn only_a_websocket_upgrade_is_an_upgrade() {
        for (rest, expected) in [
            ("Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", true),
            (
                "Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n\r\n",
                true,
            ),
            (
                "Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
                true,
            ),
            ("Upgrade: websocket\r\n\r\n", false),
            ("Connection: upgrade\r\n\r\n", false),
            ("Connection: upgrade\r\nUpgrade: h2c\r\n\r\n", false),
            (
                "Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
                false,
            ),
            (
                "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
                false,
            ),
            (
                "Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n\r\n",
                false,
            ),
            (
                "Connection: upgrade\r\nUpgrade: websocket/13\r\n\r\n",
                false,
            ),
            (
                "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\na",
                false,
            ),
        ] {
            let raw = format!("GET / HTTP/1.1\r\nHost: a\r\n{rest}");
            assert_eq!(accepted(raw.as_bytes()).await.upgrade, expected, "{rest:?}");
        }
        let upgrade = "Host: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert!(
            !accepted(format!("POST / HTTP/1.1\r\n{upgrade}").as_bytes())
                .await
                .upgrade
        );
        assert!(
            !accepted(format!("GET / HTTP/1.0\r\n{upgrade}").as_bytes())
                .await
                .upgrade
        );
    }

    #[tokio::test]
    async fn connection_cannot_take_away_what_is_not_its_own() {
        for named in [
            "host",
            "Content-Length",
            "close, transfer-encoding",
            "COOKIE",
            "x,authorization",
            "\tcookie\t,",
        ] {
            let raw = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {named}\r\n\r\n");
            assert!(
                matches!(h1(raw.as_bytes()).await, Some(Err(Malformed(_)))),
                "{named:?}"
            );
        }
    }

    #[tokio::test]
    async fn two_cookie_fields_are_one_too_many_except_as_crumbs() {
        let raw = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n";
        assert_eq!(h1(raw).await, Some(Err(Malformed("two Cookie fields"))));
        assert!(h2("https://a/", &[("cookie", "a=1"), ("cookie", "b=2")]).is_ok());
    }

    #[tokio::test]
    async fn a_name_that_passes_for_one_that_matters_is_refused() {
        for name in [
            "Content_Length",
            "Transfer_Encoding",
            "transfer.encoding",
            "Host_",
            "_Cookie",
            "!host",
            "authorization~",
        ] {
            let raw = format!("POST / HTTP/1.1\r\nHost: a\r\n{name}: 1\r\n\r\n");
            assert!(
                matches!(h1(raw.as_bytes()).await, Some(Err(Malformed(_)))),
                "{name:?}"
            );
        }
        accepted(b"GET / HTTP/1.1\r\nHost: a\r\nX_Custom.Name: 1\r\n\r\n").await;
    }

    #[tokio::test]
    async fn max_forwards_counts_for_options_alone() {
        let ask = |method: &str, value: &str| {
            format!("{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {value}\r\n\r\n").into_bytes()
        };
        assert_eq!(accepted(&ask("OPTIONS", "0")).await.max_forwards, Some(0));
        assert_eq!(accepted(&ask("OPTIONS", "10")).await.max_forwards, Some(10));
        assert_eq!(accepted(&ask("GET", "x")).await.max_forwards, None);
        for value in ["x", "-1", "", "1,2", "01"] {
            assert!(
                matches!(h1(&ask("OPTIONS", value)).await, Some(Err(Malformed(_)))),
                "{value:?}"
            );
        }
    }

    #[test]
    fn http2_names_one_host_and_brings_no_fields_of_a_connection() {
        let admitted = h2("https://A.example:8443/x", &[]).unwrap();
        assert_eq!((&*admitted.host, admitted.port), ("a.example", Some(8443)));
        for (target, fields) in [
            ("https://a/", &[("host", "a")][..]),
            ("https://a/", &[("host", "A"), ("te", "trailers")]),
            ("/", &[("host", "a")]),
        ] {
            assert_eq!(h2(target, fields).unwrap().host, "a", "{target} {fields:?}");
        }
        for (target, fields) in [
            ("/", &[][..]),
            ("https://a/", &[("host", "b")]),
            ("https://a/", &[("host", "a"), ("host", "a")]),
            ("/", &[("host", "a"), ("host", "b")]),
            ("https://a./", &[]),
            ("https://u@a/", &[]),
            ("https://a:99999/", &[]),
            ("http://a/", &[]),
            ("ftp://a/", &[]),
            ("javascript://a/", &[]),
            ("https://a/", &[("te", "gzip")]),
            ("https://a/", &[("te", "trailers, gzip")]),
            ("https://a/", &[("connection", "close")]),
            ("https://a/", &[("keep-alive", "1")]),
            ("https://a/", &[("proxy-connection", "close")]),
            ("https://a/", &[("upgrade", "websocket")]),
            ("https://a/", &[("transfer-encoding", "chunked")]),
            ("https://a/", &[("x", " leading")]),
            ("https://a/", &[("x", "trailing\t")]),
        ] {
            let verdict = h2(target, fields);
            assert!(
                matches!(verdict, Err(Malformed(_))),
                "{target} {fields:?}: {verdict:?}"
            );
        }
    }

    #[test]
    fn the_length_of_a_streamed_body_is_not_guessed() {
        let ask = |fields: &[(&'static str, &'static str)], has_body| {
            let mut request = Request::builder()
                .uri("https://a/")
                .version(Version::HTTP_2);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            admit(&request.body(()).unwrap().into_parts().0, has_body)
                .unwrap()
                .body
        };
        assert_eq!(ask(&[], false), Framing::None);
        assert_eq!(ask(&[], true), Framing::Streamed);
        assert_eq!(ask(&[("content-length", "7")], true), Framing::Length(7));
    }
}
