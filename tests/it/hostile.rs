//! What no honest client sends, in literal bytes: requests with two readings of where they go or where they end. What
//! the app received is what counts.

use crate::support::{
    CUT_OFF, END_HEADERS, END_STREAM, Ended, Frames, Proxy, Recorded, Reply, Upstream, frame,
    literal, proxy, pseudo, upstream,
};

/// A proxy with one public route, so that nothing but the request itself is in the way to the app.
async fn open_proxy() -> (Proxy, Upstream) {
    let app = upstream(|request| Reply::ok(request.line())).await;
    let proxy = proxy()
        .route("/", &app.url(), "access = \"public\"")
        .start();
    (proxy, app)
}

/// The status of what these bytes are answered with; `None` where the connection is closed instead.
async fn answered(proxy: &Proxy, bytes: impl AsRef<[u8]>) -> Option<u16> {
    let mut raw = proxy.raw().await;
    raw.send(bytes).await;
    raw.status().await
}

/// Sends each on a connection of its own; none may reach the app.
async fn assert_refused(cases: &[(&[u8], u16)]) {
    let (proxy, app) = open_proxy().await;
    for (bytes, expected) in cases {
        let text = String::from_utf8_lossy(bytes);
        let status = answered(&proxy, bytes).await;
        assert!(
            status.is_none_or(|status| status == *expected),
            "{text:?}: {status:?}"
        );
        assert!(app.requests().is_empty(), "{text:?}: {:?}", app.requests());
    }
    assert_eq!(app.connections(), 0, "not even a connection was made");
    let ordinary = b"GET /ordinary HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(answered(&proxy, ordinary).await, Some(200));
    assert_eq!(app.only().line(), "GET /ordinary HTTP/1.1");
}

/// The one request that the app got, after bytes that a library may read as it likes. The connection ends after it.
async fn reframed(bytes: &[u8]) -> Option<Recorded> {
    let (proxy, app) = open_proxy().await;
    let mut raw = proxy.raw().await;
    raw.send(bytes).await;
    let answers = String::from_utf8_lossy(&raw.rest().await).into_owned();
    let requests = app.requests();
    assert!(requests.len() < 2, "{requests:?}");
    let successes = answers.matches("HTTP/1.1 200").count();
    assert_eq!(successes, requests.len(), "{answers}");
    for request in &requests {
        let lengths = request.all("content-length").len();
        let codings = request.all("transfer-encoding").len();
        assert!(lengths + codings <= 1, "{}", request.head);
        assert!(!request.head.replace("\r\n", "").contains(['\r', '\n']));
    }
    requests.into_iter().next()
}

#[tokio::test]
async fn a_request_that_names_no_host_or_two_is_refused() {
    assert_refused(&[
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
            400,
        ),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\n\r\n",
            400,
        ),
        (
            b"GET / HTTP/1.1\r\nhost: evil.test\r\nHOST: localhost\r\n\r\n",
            400,
        ),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost, evil.test\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost, b;c/d@e\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: user@localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost.\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost:99999\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost:\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost:80x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost/admin\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost?x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost#x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\\x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: local%68ost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: local host\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\xff\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\0\r\n\r\n", 400),
        (
            b"GET / HTTP/1.1\r\nHost_: localhost\r\nHost: localhost\r\n\r\n",
            400,
        ),
        (
            b"GET / HTTP/1.1\r\n_host: evil.test\r\nHost: localhost\r\n\r\n",
            400,
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_target_that_is_not_a_path_of_this_host_is_refused() {
    assert_refused(&[
        (b"GET evil:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (
            b"GET localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
            400,
        ),
        (b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET admin HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET localhost HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (
            b"GET localhost/admin HTTP/1.1\r\nHost: localhost\r\n\r\n",
            400,
        ),
        (
            b"GET @localhost/admin HTTP/1.1\r\nHost: localhost\r\n\r\n",
            400,
        ),
        (
            b"GET https://evil.test/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            400,
        ),
        (
            b"GET https://localhost/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
            400,
        ),
        (b"GET https://localhost/ HTTP/1.1\r\n\r\n", 400),
        (
            b"GET https://user@localhost/ HTTP/1.1\r\nHost: user@localhost\r\n\r\n",
            400,
        ),
        (
            b"GET https:///admin HTTP/1.1\r\nHost: localhost\r\n\r\n",
            400,
        ),
        (
            b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            400,
        ),
        (
            b"GET ftp://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            400,
        ),
        (
            b"GET javascript:alert(1) HTTP/1.1\r\nHost: localhost\r\n\r\n",
            400,
        ),
        (b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /a\tb HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /<x> HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /\x7f HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.2\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / http/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
    ])
    .await;
}

#[tokio::test]
async fn a_path_with_more_than_one_reading_is_refused() {
    let paths: &[&[u8]] = &[
        b"//admin",
        b"//evil.test/admin",
        b"/public//admin",
        b"/..",
        b"/../admin",
        b"/public/../../admin",
        b"/%2e%2e/admin",
        b"/.%2e/admin",
        b"/public\\..\\admin",
        b"/\\admin",
        b"/%5cadmin",
        b"/admin%00",
        b"/admin%00.css",
        b"/%0d%0aX-User:%20root",
        b"/a%0ab",
        b"/a%7f",
        b"/%zz",
        b"/%",
        b"/%2",
        b"/%u0061dmin",
        b"/public;/../admin;x",
        b"/admin;x=.css",
        b"/admin%3bx",
        b"/public/..;/admin",
        b"/public%2F..%2Fadmin",
        b"/a%2fb",
        b"/%252e%252e/admin",
        b"/%25%32%65/admin",
        b"/%c0%ae%c0%ae/admin",
        b"/%c0%af",
        b"/%e0%80%af",
        b"/%f0%80%80%af",
        b"/%ff",
    ];
    let requests: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| [b"GET ", *path, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat())
        .collect();
    let cases: Vec<(&[u8], u16)> = requests
        .iter()
        .map(|request| (request.as_slice(), 400))
        .collect();
    assert_refused(&cases).await;
}

#[tokio::test]
async fn methods_that_no_app_is_asked_are_refused() {
    assert_refused(&[
        (
            b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n",
            405,
        ),
        (
            b"CONNECT evil.test:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            405,
        ),
        (b"CONNECT / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"TRACK / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"Get / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GE!T / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"trace / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"G ET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ])
    .await;
}

#[tokio::test]
async fn a_question_about_the_server_itself_is_not_sent_on() {
    let (proxy, app) = open_proxy().await;
    for (ask, expected) in [
        ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 204),
        (
            "OPTIONS /x HTTP/1.1\r\nHost: localhost\r\nMax-Forwards: 0\r\n\r\n",
            204,
        ),
        (
            "OPTIONS /x HTTP/1.1\r\nHost: localhost\r\nMax-Forwards: x\r\n\r\n",
            400,
        ),
    ] {
        assert_eq!(answered(&proxy, ask).await, Some(expected), "{ask:?}");
    }
    assert_eq!(app.connections(), 0);
    let ask = "OPTIONS /x HTTP/1.1\r\nHost: localhost\r\nMax-Forwards: 3\r\n\r\n";
    assert_eq!(answered(&proxy, ask).await, Some(200));
    assert_eq!(app.only().one("max-forwards"), "2");
}

#[tokio::test]
async fn fields_with_more_than_one_reading_are_refused() {
    let fields: &[(&[u8], u16)] = &[
        (b"Expect: 200-ok", 417),
        (b"Expect: 100-continue, x", 417),
        (b"X-A : 1", 400),
        (b" X-A: 1", 400),
        (b"X-A: 1\r\n folded", 400),
        (b"X-A: a\0b", 400),
        (b"X-A: a\rb", 400),
        (b": 1", 400),
        (b"no colon", 400),
        (b"X-\xe9: 1", 400),
        (b"Connection: host", 400),
        (b"Connection: close, Content-Length", 400),
        (b"Connection: transfer-encoding", 400),
        (b"Connection: cookie", 400),
        (b"Connection: x,\tAUTHORIZATION", 400),
        (b"Content_Length: 5", 400),
        (b"Content.Length: 5", 400),
        (b"Transfer_Encoding: chunked", 400),
        (b"_cookie: a=1", 400),
        (b"Authorization_: x", 400),
        (b"Cookie: a=1\r\nCookie: b=2", 400),
    ];
    let requests: Vec<(Vec<u8>, u16)> = fields
        .iter()
        .map(|(field, status)| {
            let begin = b"GET / HTTP/1.1\r\nHost: localhost\r\n".as_slice();
            ([begin, *field, b"\r\n\r\n"].concat(), *status)
        })
        .collect();
    let cases: Vec<(&[u8], u16)> = requests
        .iter()
        .map(|(request, status)| (request.as_slice(), *status))
        .collect();
    assert_refused(&cases).await;
}

#[tokio::test]
async fn a_body_with_more_than_one_end_is_refused() {
    let bodies: &[(&str, u16)] = &[
        ("Content-Length: 05\r\n\r\nabcde", 400),
        ("Content-Length: 010\r\n\r\nabcdefgh", 400),
        ("Content-Length: 00\r\n\r\n", 400),
        ("Content-Length: +5\r\n\r\nabcde", 400),
        ("Content-Length: -1\r\n\r\n", 400),
        ("Content-Length: 5 5\r\n\r\nabcde", 400),
        ("Content-Length: 5,5\r\n\r\nabcde", 400),
        ("Content-Length: 0x5\r\n\r\nabcde", 400),
        ("Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 400),
        ("Content-Length: 99999999999999999999\r\n\r\n", 400),
        ("Content-Length:\r\n\r\n", 400),
        ("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", 501),
        ("Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", 501),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501),
        ("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
        (
            "Transfer-Encoding: chunked\r\nTransfer_Encoding: x\r\n\r\n0\r\n\r\n",
            400,
        ),
    ];
    let requests: Vec<(String, u16)> = bodies
        .iter()
        .map(|(rest, status)| {
            (
                format!("POST / HTTP/1.1\r\nHost: localhost\r\n{rest}"),
                *status,
            )
        })
        .collect();
    let mut cases: Vec<(&[u8], u16)> = requests
        .iter()
        .map(|(request, status)| (request.as_bytes(), *status))
        .collect();
    cases.push((
        b"POST / HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ));
    assert_refused(&cases).await;
}

/// The library drops one of the two lengths before anybody else sees the request; what counts is that the app sees one
/// request with one length, and that what follows is never read as another.
#[tokio::test]
async fn two_lengths_become_one_and_what_follows_is_never_a_request() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (fields, body, chunks) in [
        (
            "Content-Length: 6\r\nTransfer-Encoding: chunked",
            format!("0\r\n\r\n{smuggled}"),
            "0\r\n\r\n",
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 4",
            format!("1\r\nG\r\n0\r\n\r\n{smuggled}"),
            "1\r\nG\r\n0\r\n\r\n",
        ),
        (
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            format!("2b\r\n{smuggled}\r\n0\r\n\r\n"),
            "2B\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n0\r\n\r\n",
        ),
    ] {
        assert_eq!(smuggled.len(), 0x2b);
        let bytes = format!("POST /one HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n{body}");
        let Some(request) = reframed(bytes.as_bytes()).await else {
            continue;
        };
        assert_eq!(request.line(), "POST /one HTTP/1.1");
        assert_eq!(request.one("transfer-encoding"), "chunked");
        assert_eq!(
            String::from_utf8_lossy(&request.body).to_uppercase(),
            chunks.to_uppercase(),
            "{fields}"
        );
    }
}

#[tokio::test]
async fn a_length_that_is_said_twice_is_said_once_to_the_app() {
    let bytes = b"POST /one HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    if let Some(request) = reframed(bytes).await {
        assert_eq!(request.one("content-length"), "5");
        assert_eq!(request.body, b"hello");
    }
}

#[tokio::test]
async fn a_request_inside_a_body_stays_a_body() {
    let (proxy, app) = open_proxy().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let length = smuggled.len();
    let mut raw = proxy.raw().await;
    raw.send(format!(
        "POST /one HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{smuggled}\
         POST /two HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{smuggled}\r\n0\r\n\r\n\
         GET /three HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    ))
    .await;
    for line in ["POST /one", "POST /two", "GET /three"] {
        let (head, content) = raw.response().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(content, format!("{line} HTTP/1.1").into_bytes());
    }
    let requests = app.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0].body, smuggled.as_bytes());
    assert_eq!(requests[0].one("content-length"), length.to_string());
    assert!(requests[1].all("content-length").is_empty());
}

#[tokio::test]
async fn a_get_with_a_body_is_framed_as_one() {
    let (proxy, app) = open_proxy().await;
    let mut raw = proxy.raw().await;
    raw.send("GET /one HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\n")
        .await;
    raw.response().await;
    raw.send("GET /two HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nGET ")
        .await;
    raw.response().await;
    let requests = app.requests();
    assert_eq!(requests[0].one("transfer-encoding"), "chunked");
    assert_eq!(requests[0].body, b"4\r\nGET \r\n0\r\n\r\n");
    assert_eq!(requests[1].one("content-length"), "4");
    assert_eq!(requests[1].body, b"GET ");
}

#[tokio::test]
async fn line_ends_are_strict_on_the_way_to_the_app() {
    for bytes in [
        b"GET /one HTTP/1.1\nHost: localhost\nX-A: 1\nConnection: close\n\n".as_slice(),
        b"GET /one HTTP/1.1\r\nHost: localhost\nX-A: 1\r\nConnection: close\r\n\n",
        b"\r\n\r\nGET /one HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\nConnection: close\r\n\r\n",
    ] {
        let request = reframed(bytes).await;
        let Some(request) = request else { continue };
        assert_eq!(request.line(), "GET /one HTTP/1.1");
        assert_eq!(request.one("x-a"), "1");
    }
}

#[tokio::test]
async fn bare_line_feeds_inside_chunks_end_the_request() {
    let (proxy, app) = open_proxy().await;
    for body in [
        "3\nabc\n0\n\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
    ] {
        let status = answered(
            &proxy,
            format!(
                "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
            ),
        )
        .await;
        assert!(status.is_none_or(|status| status >= 400), "{body:?}");
    }
    assert!(app.requests().iter().all(|request| !request.is_whole()));
}

#[tokio::test]
async fn a_fragment_and_what_looks_like_a_path_behind_it_do_not_count() {
    let bytes = b"GET /one#/../admin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    if let Some(request) = reframed(bytes).await {
        assert_eq!(request.line(), "GET /one HTTP/1.1");
    }
    let bytes =
        b"GET /one?x=/../admin//%2e;\\ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let request = reframed(bytes).await.expect("a query may hold anything");
    assert_eq!(request.line(), "GET /one?x=/../admin//%2e;\\ HTTP/1.1");
}

#[tokio::test]
async fn an_absolute_target_reaches_the_app_as_a_path() {
    for target in [
        "https://localhost/one?x=1",
        "https://LOCALHOST/one?x=1",
        "https://localhost/a/../one?x=1",
    ] {
        let bytes =
            format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let request = reframed(bytes.as_bytes()).await.expect("a request");
        assert_eq!(request.line(), "GET /one?x=1 HTTP/1.1");
        assert_eq!(request.one("host").to_lowercase(), "localhost");
    }
    let bytes = b"GET https://localhost HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(reframed(bytes).await.unwrap().line(), "GET / HTTP/1.1");
    let bytes = b"GET https://localhost?x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(reframed(bytes).await.unwrap().line(), "GET /?x HTTP/1.1");
}

#[tokio::test]
async fn after_a_request_with_two_readings_nothing_more_is_read() {
    let (proxy, app) = open_proxy().await;
    for bad in [
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 03\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent_Length: 3\r\n\r\n",
    ] {
        let mut raw = proxy.raw().await;
        raw.send(format!(
            "{bad}GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ))
        .await;
        let answers = String::from_utf8(raw.rest().await).unwrap();
        assert_eq!(
            answers.matches("HTTP/1.1 ").count(),
            1,
            "{bad:?}: {answers}"
        );
        let head = answers.to_lowercase();
        assert!(head.contains("\r\nconnection: close\r\n"), "{answers}");
    }
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn nobody_is_talked_into_another_protocol() {
    let (proxy, app) = open_proxy().await;
    let mut raw = proxy.raw().await;
    for offer in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        "Connection: Upgrade\r\nUpgrade: h2c, websocket",
        "Connection: Upgrade\r\nUpgrade: TLS/1.0",
        "Upgrade: websocket",
    ] {
        raw.send(format!(
            "GET /one HTTP/1.1\r\nHost: localhost\r\n{offer}\r\n\r\n"
        ))
        .await;
        let (head, _) = raw.response().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let request = app.last();
        for name in ["upgrade", "http2-settings", "connection"] {
            assert!(request.all(name).is_empty(), "{}", request.head);
        }
    }
}

#[tokio::test]
async fn an_app_cannot_change_the_protocol_without_being_asked() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";
    let app = upstream(move |_| Reply::Bytes(switch.as_bytes().to_vec())).await;
    let proxy = proxy()
        .route("/", &app.url(), "access = \"public\"")
        .start();
    let mut raw = proxy.raw().await;
    for _ in 0..2 {
        raw.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let (head, content) = raw.response().await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        assert!(!String::from_utf8_lossy(&content).contains("smuggled"));
    }
    assert_eq!(app.connections(), 2, "such a connection is not used again");
}

#[tokio::test]
async fn an_expectation_is_kept_here_and_not_sent_on() {
    let (proxy, app) = open_proxy().await;
    let mut raw = proxy.raw().await;
    raw.send("POST /one HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(raw.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    raw.send("abc").await;
    assert!(raw.head().await.starts_with("HTTP/1.1 200 "));
    let request = app.only();
    assert!(request.all("expect").is_empty());
    assert_eq!(request.body, b"abc");
    // Who is refused is not asked for more.
    let ask = "POST /%00 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(answered(&proxy, ask).await, Some(400));
}

#[tokio::test]
async fn a_broken_body_is_never_finished_for_the_app() {
    let (proxy, app) = open_proxy().await;
    let good = "5\r\nhello\r\n";
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000));
    let cases = [
        "zz\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n0\r\n\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcdef\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "\r\n\r\n0\r\n\r\n",
        "3 x\r\nabc\r\n0\r\n\r\n",
        long.as_str(),
    ];
    for (index, bad) in cases.into_iter().enumerate() {
        let mut raw = proxy.raw().await;
        raw.send(format!(
            "POST /one HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{good}"
        ))
        .await;
        raw.send(bad).await;
        let status = raw.status().await;
        assert!(
            status.is_none_or(|status| status >= 400),
            "{bad:?}: {status:?}"
        );
        let request = app.asked(index + 1).await.pop().unwrap();
        assert!(!request.is_whole(), "{bad:?}: {request:?}");
        assert!(!request.body.windows(5).any(|end| end == b"0\r\n\r\n"));
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_never_finished_for_the_app() {
    let (proxy, app) = open_proxy().await;
    for (index, begun) in [
        "Content-Length: 100\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: 1\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let mut raw = proxy.raw().await;
        raw.send(format!("POST / HTTP/1.1\r\nHost: localhost\r\n{begun}"))
            .await;
        drop(raw);
        let request = app.asked(index + 1).await.pop().unwrap();
        assert!(request.body.ends_with(CUT_OFF), "{begun:?}: {request:?}");
    }
}

#[tokio::test]
async fn odd_but_valid_chunks_are_framed_anew() {
    let (proxy, app) = open_proxy().await;
    let mut raw = proxy.raw().await;
    raw.send(
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: CHUNKED\r\n\r\n\
         0005;ext=\"a;b\"\r\nhello\r\n1 \r\n!\r\n000\r\n\r\n",
    )
    .await;
    raw.response().await;
    let request = app.only();
    assert_eq!(request.one("transfer-encoding"), "chunked");
    let body = String::from_utf8(request.body).unwrap();
    assert!(!body.contains("ext"), "{body:?}");
    let mut content = String::new();
    let mut rest = body.as_str();
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a bare size");
        content.push_str(&more[..size]);
        rest = &more[size + 2..];
    }
    assert_eq!(content, "hello!");
}

#[tokio::test]
async fn trailers_cannot_say_what_fields_may_not() {
    let (proxy, app) = open_proxy().await;
    let named = "Remote-User, remote_user, X-Auth-User, X-Forwarded-For, Content-Length, Host, Transfer-Encoding, Cookie, Authorization, HTTP_REMOTE_USER, X-Sum";
    let mut raw = proxy.raw().await;
    raw.send(format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nTrailer: {named}\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\
         Remote-User: root\r\nremote_user: root\r\nX-Auth-User: root\r\nX-Forwarded-For: 1.2.3.4\r\nContent-Length: 3\r\n\
         Host: evil.test\r\nTransfer-Encoding: chunked\r\nCookie: a=1\r\nAuthorization: x\r\nHTTP_REMOTE_USER: root\r\nX-Sum: 17\r\n\r\n"
    ))
    .await;
    let status = raw.status().await;
    assert_eq!(status, Some(200));
    let request = app.only();
    let body = String::from_utf8(request.body).unwrap().to_lowercase();
    let (_, trailers) = body.split_once("0\r\n").unwrap();
    assert_eq!(trailers, "x-sum: 17\r\n\r\n");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_each_is_judged() {
    let app = upstream(|request| Reply::ok(request.line())).await;
    let proxy = proxy()
        .app(&app.url())
        .route("/public", &app.url(), "access = \"public\"")
        .start();
    let mut raw = proxy.raw().await;
    let paths = [
        "/public/1",
        "/admin",
        "/public/2",
        "/public/%2e%2e/admin",
        "/public/3",
    ];
    let all: String = paths
        .iter()
        .map(|path| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .collect();
    raw.send(all).await;
    for path in paths {
        let (head, content) = raw.response().await;
        let content = String::from_utf8(content).unwrap();
        if path.contains("admin") {
            assert!(head.starts_with("HTTP/1.1 401 "), "{path}: {head}");
        } else {
            assert_eq!(content, format!("GET {path} HTTP/1.1"), "{head}");
        }
    }
    let lines: Vec<String> = app
        .requests()
        .iter()
        .map(|request| request.line().to_owned())
        .collect();
    assert_eq!(
        lines,
        [
            "GET /public/1 HTTP/1.1",
            "GET /public/2 HTTP/1.1",
            "GET /public/3 HTTP/1.1"
        ]
    );
}

/// What an app sends after its response must not become somebody else's.
#[tokio::test]
async fn bytes_after_a_response_are_nobodys_response() {
    let extra = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned";
    for reply in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{extra}"),
        format!("HTTP/1.1 204 No Content\r\n\r\n{extra}"),
        format!("HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\n\r\n{extra}"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{extra}"),
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{extra}"
        ),
    ] {
        let bytes = reply.clone().into_bytes();
        let app = upstream(move |_| Reply::Bytes(bytes.clone())).await;
        let proxy = proxy()
            .route("/", &app.url(), "access = \"public\"")
            .start();
        for _ in 0..3 {
            let mut raw = proxy.raw().await;
            raw.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .await;
            let answer = String::from_utf8(raw.rest().await).unwrap();
            assert!(!answer.contains("poisoned"), "{reply:?}: {answer:?}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer:?}");
        }
    }
}

/// Sends each over HTTP/2 on a connection of its own; none may reach the app.
async fn assert_refused_over_http2(cases: &[Vec<(&str, &str)>]) {
    let (proxy, app) = open_proxy().await;
    for fields in cases {
        let mut frames = Frames::connect(&proxy).await;
        frames.headers(1, fields, true).await;
        let ended = frames.ended(1).await;
        assert!(ended.is_refusal(), "{fields:?}: {ended:?}");
        assert!(
            app.requests().is_empty(),
            "{fields:?}: {:?}",
            app.requests()
        );
    }
    assert_eq!(app.connections(), 0);
    let mut frames = Frames::connect(&proxy).await;
    frames.get(1, "/ordinary", &[]).await;
    assert_eq!(frames.ended(1).await, Ended::Status(200));
    assert_eq!(app.only().line(), "GET /ordinary HTTP/1.1");
}

#[tokio::test]
async fn http2_requests_with_two_readings_of_where_they_go_are_refused() {
    let with = |change: (&'static str, &'static str)| -> Vec<(&str, &str)> {
        let fields = pseudo("GET", "/").into_iter();
        fields
            .map(|field| if field.0 == change.0 { change } else { field })
            .collect()
    };
    let and = |fields: &[(&'static str, &'static str)]| -> Vec<(&str, &str)> {
        [pseudo("GET", "/").as_slice(), fields].concat()
    };
    let without = |name: &str| -> Vec<(&str, &str)> {
        let fields = pseudo("GET", "/").into_iter();
        fields.filter(|(field, _)| *field != name).collect()
    };
    let mut cases = vec![
        and(&[("host", "evil.test")]),
        and(&[("host", "localhost"), ("host", "localhost")]),
        and(&[("host", "localhost"), ("host", "evil.test")]),
        and(&[("host", "")]),
        without(":authority"),
        without(":scheme"),
        without(":path"),
        without(":method"),
        and(&[(":path", "/two")]),
        and(&[(":authority", "localhost")]),
        and(&[("x-a", "1"), (":protocol", "websocket")]),
        and(&[(":protocol", "websocket")]),
        and(&[(":status", "200")]),
    ];
    cases.push(
        [
            without(":authority"),
            vec![("host", "localhost"), ("host", "evil.test")],
        ]
        .concat(),
    );
    for authority in [
        "evil.test",
        "u@localhost",
        "localhost,evil.test",
        "localhost:99999",
        "localhost.",
        "localhost/x",
        "",
        "localhost\\x",
    ] {
        cases.push(with((":authority", authority)));
    }
    for scheme in ["http", "", "ftp", "javascript", "https://x"] {
        cases.push(with((":scheme", scheme)));
    }
    for path in [
        "*",
        "",
        "admin",
        "//admin",
        "/../admin",
        "/a/%2e%2e/%2e%2e/admin",
        "/\\admin",
        "/a%5cb",
        "/%00",
        "/%2fadmin",
        "/a;b",
        "/%252e",
        "/%c0%ae",
        "/a b",
        "/a\r\nx: y",
        "/a\0",
        "/%zz",
        "https://localhost/",
    ] {
        cases.push(with((":path", path)));
    }
    for method in ["get", "GE!T", "TRACE", "TRACK", "CONNECT", "", "GET /x"] {
        cases.push(with((":method", method)));
    }
    assert_refused_over_http2(&cases).await;
}

#[tokio::test]
async fn http2_fields_of_a_connection_and_broken_ones_are_refused() {
    let cases: Vec<Vec<(&str, &str)>> = [
        ("connection", "close"),
        ("connection", "x-a"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("expect", "x"),
        ("X-Upper", "1"),
        ("x a", "1"),
        ("", "1"),
        ("x-a", "a\r\nremote-user: root"),
        ("x-a", "a\nb"),
        ("x-a", "a\0b"),
        ("x-a", " leading"),
        ("x-a", "trailing\t"),
        ("content-length", "5"),
        ("content-length", "05"),
        ("content_length", "0"),
        ("transfer_encoding", "chunked"),
        ("host_", "localhost"),
    ]
    .into_iter()
    .map(|field| [pseudo("GET", "/").as_slice(), &[field]].concat())
    .collect();
    assert_refused_over_http2(&cases).await;
}

#[tokio::test]
async fn an_http2_body_that_is_not_as_long_as_it_says_is_never_finished_for_the_app() {
    let (proxy, app) = open_proxy().await;
    for (index, (length, body)) in [("5", "hello, and more"), ("50", "hello")]
        .into_iter()
        .enumerate()
    {
        let mut frames = Frames::connect(&proxy).await;
        let fields = [
            pseudo("POST", "/").as_slice(),
            &[("content-length", length)],
        ]
        .concat();
        frames.headers(1, &fields, false).await;
        frames.data(1, b"hel", false).await;
        frames.data(1, &body.as_bytes()[3..], true).await;
        let ended = frames.ended(1).await;
        assert!(ended.is_refusal(), "{length}: {ended:?}");
        for request in app.requests().iter().skip(index) {
            assert!(!request.is_whole(), "{request:?}");
        }
    }
}

#[tokio::test]
async fn an_http2_upload_that_is_reset_is_never_finished_for_the_app() {
    let (proxy, app) = open_proxy().await;
    let mut frames = Frames::connect(&proxy).await;
    frames.headers(1, &pseudo("POST", "/"), false).await;
    frames.data(1, b"hello", false).await;
    frames.frame(3, 0, 1, &8_u32.to_be_bytes()).await;
    // A reset may overtake the request's own way to the app: then it never came.
    frames.get(3, "/next", &[]).await;
    assert_eq!(frames.ended(3).await, Ended::Status(200));
    for request in app.requests() {
        assert!(
            !request.is_whole() || request.line() == "GET /next HTTP/1.1",
            "{request:?}"
        );
    }
}

#[tokio::test]
async fn http2_trailers_cannot_say_what_fields_may_not() {
    let (proxy, app) = open_proxy().await;
    let mut frames = Frames::connect(&proxy).await;
    let trailer = "remote-user, host, content-length, x-forwarded-for, x-sum";
    let mut fields = pseudo("POST", "/").to_vec();
    fields.extend([("te", "trailers"), ("trailer", trailer)]);
    frames.headers(1, &fields, false).await;
    frames.data(1, b"hello", false).await;
    let trailers = [
        ("remote-user", "root"),
        ("host", "evil.test"),
        ("content-length", "3"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-sum", "17"),
    ];
    frames.headers(1, &trailers, true).await;
    assert_eq!(frames.ended(1).await, Ended::Status(200));
    let request = app.only();
    let body = String::from_utf8_lossy(&request.body);
    let (_, trailers) = body.split_once("\r\n0\r\n").unwrap();
    assert_eq!(trailers, "x-sum: 17\r\n\r\n");
    assert_eq!(request.one("host"), "localhost");
}

#[tokio::test]
async fn many_http2_streams_at_once_do_not_mix() {
    let (proxy, app) = open_proxy().await;
    let mut frames = Frames::connect(&proxy).await;
    let mut all = Vec::new();
    for stream in (1..100).step_by(2) {
        let path = format!("/{stream}");
        let block = literal(&pseudo("GET", &path));
        all.extend(frame(1, END_HEADERS | END_STREAM, stream, &block));
    }
    frames.send(&all).await;
    let requests = app.asked(50).await;
    for stream in (1..100).step_by(2) {
        let line = format!("GET /{stream} HTTP/1.1");
        assert_eq!(requests.iter().filter(|r| r.line() == line).count(), 1);
    }
}
