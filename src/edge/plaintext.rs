//! The plain listener's whole answer: pages move to https, everything else is refused. It never sees a session and
//! never passes anything on.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, LOCATION, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::Limits;
use crate::routing::split_authority;

/// A header section of a request that is only to be redirected.
const BUFFER: usize = 16 * 1024;

/// What the plain listener needs to know.
pub struct Plaintext {
    /// The port that clients reach https at; 443 is left out of what they are sent.
    pub https_port: u16,
    /// Whether any route serves a host (lower case, no port).
    pub serves: Box<dyn Fn(&str) -> bool + Send + Sync>,
    pub limits: Limits,
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plaintext")
            .field("https_port", &self.https_port)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Answers the one request of a connection and closes it. It ends within twice the header timeout, whatever the other
/// side does.
pub(super) async fn serve_connection<S>(stream: S, plaintext: Arc<Plaintext>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = &plaintext.limits;
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let response = respond(
            request.method(),
            request.uri(),
            request.headers(),
            &plaintext,
        );
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.max_headers)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(limits.header_timeout.saturating_mul(2), connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "plain connection failed"),
        Err(_) => tracing::debug!("plain connection took too long"),
    }
}

/// Where a request for a page moves to; `None` where the host is not ours or the target is odd. What stands in the
/// answer is a host that a route serves, our own port and plain visible ASCII: nothing to redirect elsewhere with.
fn redirect(host: Option<&str>, path_and_query: &str, plaintext: &Plaintext) -> Option<String> {
    let (host, _) = split_authority(host?)?;
    let host = host.to_ascii_lowercase();
    if !(plaintext.serves)(&host) || !is_plain(path_and_query) {
        return None;
    }
    Some(match plaintext.https_port {
        443 => format!("https://{host}{path_and_query}"),
        port => format!("https://{host}:{port}{path_and_query}"),
    })
}

fn is_plain(path_and_query: &str) -> bool {
    let visible = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    path_and_query.starts_with('/')
        && !path_and_query.starts_with("//")
        && path_and_query.bytes().all(visible)
}

fn respond(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    plaintext: &Plaintext,
) -> Response<Full<Bytes>> {
    // An API key or a form has already crossed the network in the clear when we see it. Moving the request on would
    // hide that from whoever configured the client (ASVS 4.1.2), so only what people type or follow is moved.
    if method != Method::GET && method != Method::HEAD {
        return page(
            StatusCode::FORBIDDEN,
            "This service answers over https only.\n",
            None,
        );
    }
    let target = uri.path_and_query().filter(|_| uri.authority().is_none());
    let location =
        target.and_then(|target| redirect(one_host(headers), target.as_str(), plaintext));
    match location.and_then(|location| HeaderValue::try_from(location).ok()) {
        Some(location) => page(
            StatusCode::PERMANENT_REDIRECT,
            "Moved to https.\n",
            Some(location),
        ),
        None => page(StatusCode::NOT_FOUND, "There is nothing here.\n", None),
    }
}

/// The only Host field; two of them are two opinions (RFC 9112 section 3.2).
fn one_host(headers: &HeaderMap) -> Option<&str> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    hosts.next().is_none().then_some(host)
}

fn page(
    status: StatusCode,
    text: &'static str,
    location: Option<HeaderValue>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A browser that remembers a permanent redirect keeps it when the port has changed long since.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(location) = location {
        headers.insert(LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    fn plaintext(https_port: u16) -> Plaintext {
        Plaintext {
            https_port,
            serves: Box::new(|host| ["wiki.example.com", "[::1]"].contains(&host)),
            limits: Limits::default(),
        }
    }

    /// Sends literal bytes and reads until the server closes.
    async fn exchange(request: &[u8]) -> String {
        let (near, mut far) = duplex(64 * 1024);
        let (answer, ()) = tokio::join!(
            async {
                far.write_all(request).await.unwrap();
                let mut answer = vec![];
                far.read_to_end(&mut answer).await.unwrap();
                String::from_utf8(answer).unwrap()
            },
            serve_connection(near, Arc::new(plaintext(8443))),
        );
        answer.to_ascii_lowercase()
    }

    #[test]
    fn a_served_host_moves_to_https_and_an_unknown_one_is_never_reflected() {
        let plain = plaintext(443);
        for (host, target, expected) in [
            (
                Some("wiki.example.com"),
                "/",
                Some("https://wiki.example.com/"),
            ),
            (
                Some("WIKI.example.com:8080"),
                "/a?b=c",
                Some("https://wiki.example.com/a?b=c"),
            ),
            (Some("[::1]:80"), "/%5C?//x", Some("https://[::1]/%5C?//x")),
            (None, "/", None),
            (Some(""), "/", None),
            (Some("evil.test"), "/", None),
            (Some("wiki.example.com.evil.test"), "/", None),
            (Some("wiki.example.com@evil.test"), "/", None),
            (Some("wiki.example.com, evil.test"), "/", None),
            (Some("wiki.example.com/.."), "/", None),
            (Some("wiki.example.com."), "/", None),
            (Some("wiki.example.com"), "", None),
            (Some("wiki.example.com"), "*", None),
            (Some("wiki.example.com"), "@evil.test/", None),
            (Some("wiki.example.com"), ".evil.test/", None),
            (Some("wiki.example.com"), "//evil.test/", None),
            (Some("wiki.example.com"), "/\\evil.test/", None),
            (Some("wiki.example.com"), "/a\r\nSet-Cookie: x=y", None),
            (Some("wiki.example.com"), "/a b", None),
            (Some("wiki.example.com"), "/\u{7f}", None),
            (Some("wiki.example.com"), "/\u{e9}", None),
        ] {
            let location = redirect(host, target, &plain);
            assert_eq!(location.as_deref(), expected, "{host:?} {target:?}");
        }
    }

    #[test]
    fn another_port_is_named() {
        let location = redirect(Some("wiki.example.com:80"), "/x", &plaintext(8443));
        assert_eq!(location.as_deref(), Some("https://wiki.example.com:8443/x"));
    }

    proptest! {
        #[test]
        fn a_location_always_leads_to_the_served_host(host in "\\PC{0,20}|wiki\\.example\\.com(:[0-9]{1,5})?", target in "/?\\PC{0,30}") {
            if let Some(location) = redirect(Some(&host), &target, &plaintext(8443)) {
                let read = url::Url::parse(&location).unwrap();
                prop_assert_eq!(read.scheme(), "https");
                prop_assert_eq!(read.host_str(), Some("wiki.example.com"));
                prop_assert_eq!(read.port(), Some(8443));
                prop_assert!(read.username().is_empty());
            }
        }
    }

    #[tokio::test]
    async fn a_page_is_redirected_once_and_the_connection_closes() {
        let answer = exchange(
            b"GET /a?b HTTP/1.1\r\nHost: Wiki.Example.com\r\n\r\nGET /second HTTP/1.1\r\n\r\n",
        )
        .await;
        assert!(answer.starts_with("http/1.1 308 "), "{answer}");
        assert!(
            answer.contains("\r\nlocation: https://wiki.example.com:8443/a?b\r\n"),
            "{answer}"
        );
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(
            answer.contains("\r\ncache-control: no-store\r\n"),
            "{answer}"
        );
        assert_eq!(answer.matches("http/1.1").count(), 1, "{answer}");
        assert!(
            !answer.contains("strict-transport-security"),
            "RFC 6797 section 7.2: not over http"
        );
    }

    #[tokio::test]
    async fn a_head_request_has_the_same_answer_without_a_body() {
        let answer = exchange(b"HEAD / HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n").await;
        assert!(answer.starts_with("http/1.1 308 "), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn what_carries_data_is_refused_and_not_moved() {
        for request in [
            &b"POST /api HTTP/1.1\r\nHost: wiki.example.com\r\nContent-Length: 3\r\n\r\nabc"[..],
            b"DELETE / HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n",
            b"CONNECT wiki.example.com:443 HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n",
            b"get / HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n",
        ] {
            let answer = exchange(request).await;
            assert!(answer.starts_with("http/1.1 403 "), "{answer}");
            assert!(!answer.contains("location"), "{answer}");
        }
    }

    #[tokio::test]
    async fn hosts_that_have_more_than_one_reading_are_not_found() {
        for request in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: wiki.example.com\r\nHost: evil.test\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: wiki.example.com\r\nHost: wiki.example.com\r\n\r\n",
            b"GET http://evil.test/ HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n",
            b"GET //evil.test/ HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n",
        ] {
            let answer = exchange(request).await;
            assert!(
                answer.starts_with("http/1.1 404 ") || answer.starts_with("http/1.0 404 "),
                "{answer}"
            );
            assert!(!answer.contains("evil"), "{answer}");
        }
    }

    #[tokio::test]
    async fn headers_beyond_the_limits_are_refused() {
        let field = |n: usize| format!("X-{n}: y\r\n");
        let many: String = (0..101).map(field).collect();
        let long = format!("X: {}\r\n", "y".repeat(BUFFER));
        for fields in [many, long] {
            let answer = exchange(
                format!("GET / HTTP/1.1\r\nHost: wiki.example.com\r\n{fields}\r\n").as_bytes(),
            )
            .await;
            assert!(answer.starts_with("http/1.1 431 "), "{answer}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_dawdles_is_let_go() {
        for (first, every) in [
            (&b""[..], 0),
            (b"GET / HTTP/1.1\r\n", 0),
            (b"GET / HTTP/1.1\r\nX: ", 1),
        ] {
            let (near, mut far) = duplex(64 * 1024);
            let drip = tokio::spawn(async move {
                far.write_all(first).await.unwrap();
                let mut beat = tokio::time::interval(Duration::from_secs(every.max(1)));
                while every == 0 || far.write_all(b"y").await.is_ok() {
                    beat.tick().await;
                }
            });
            let begin = Instant::now();
            serve_connection(near, Arc::new(plaintext(443))).await;
            assert!(
                begin.elapsed() <= Limits::default().header_timeout * 2,
                "{:?}",
                begin.elapsed()
            );
            drip.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_let_go() {
        let (near, mut far) = duplex(16);
        let request = b"GET / HTTP/1.1\r\nHost: wiki.example.com\r\n\r\n";
        let begin = Instant::now();
        let serving = tokio::spawn(serve_connection(near, Arc::new(plaintext(443))));
        far.write_all(request).await.unwrap();
        serving.await.unwrap();
        assert!(begin.elapsed() <= Limits::default().header_timeout * 2);
    }
}
