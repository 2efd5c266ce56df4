//! Every wait has a limit and every buffer a bound (R17): slow, greedy and silent clients, and apps that misbehave. And
//! the two listeners beside the main one.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{
    Ended, Frames, Proxy, Raw, Reply, Upstream, eventually, frame, literal, proxy, pseudo, soon,
    upstream,
};

const PUBLIC: &str = "access = \"public\"";
const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// More than all buffers on the way hold together.
const LARGE: usize = 64 * 1024 * 1024;

async fn limited(limits: &str, rest: &str) -> (Proxy, Upstream) {
    let app = upstream(|request| Reply::ok(request.line())).await;
    let rest = format!("{PUBLIC}\n{rest}");
    let proxy = proxy()
        .with("limits", limits)
        .route("/", &app.url(), &rest)
        .start();
    (proxy, app)
}

/// In front of an app that answers all requests alike.
async fn before(rest: &str, reply: fn() -> Reply) -> (Proxy, Upstream) {
    let app = upstream(move |_| reply()).await;
    let rest = format!("{PUBLIC}\n{rest}");
    let proxy = proxy()
        .with("limits", "body_idle_timeout = \"1s\"")
        .route("/", &app.url(), &rest)
        .start();
    (proxy, app)
}

async fn assert_alive(proxy: &Proxy) {
    assert_eq!(proxy.browser().fetch("/alive").await.status, 200);
}

/// Everything that a plain listener says to these bytes, until it closes.
async fn plain(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stays open");
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_client_that_never_greets_is_let_go() {
    let (proxy, app) = limited("handshake_timeout = \"1s\"", "").await;
    let begun = Instant::now();
    assert_eq!(plain(proxy.addr, b"").await, "");
    assert_eq!(plain(proxy.addr, b"\x16\x03\x01\x02").await, "");
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn a_client_that_asks_nothing_is_let_go() {
    let (proxy, app) = limited("header_timeout = \"1s\"", "").await;
    let begun = Instant::now();
    for begin in ["", "G", "GET / HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut raw = proxy.raw().await;
        raw.send(begin).await;
        let said = raw.rest().await;
        assert!(
            said.is_empty() || said.starts_with(b"HTTP/1.1 408 "),
            "{begin:?}"
        );
    }
    let mut frames = Frames::connect(&proxy).await;
    assert!(frames.ended(1).await.is_refusal());
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn a_header_that_drips_is_not_waited_for() {
    let (proxy, app) = limited("header_timeout = \"1s\"", "").await;
    let raw = proxy.raw().await;
    let (mut from, mut to) = tokio::io::split(raw.into_stream());
    let drip = tokio::spawn(async move {
        let begun = to
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ")
            .await;
        let mut open = begun.is_ok();
        while open {
            tokio::time::sleep(Duration::from_millis(50)).await;
            open = to.write_all(b"a").await.is_ok() && to.flush().await.is_ok();
        }
    });
    let mut said = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), from.read_to_end(&mut said)).await;
    assert!(ended.is_ok(), "it is waited for");
    drip.abort();
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn a_second_request_that_does_not_come_whole_is_not_waited_for() {
    let limits = "header_timeout = \"1s\"\nkeep_alive_timeout = \"1s\"";
    let (proxy, app) = limited(limits, "").await;
    for begin in ["", "GET /x HTTP/1.1\r\nHost: "] {
        let mut raw = proxy.raw().await;
        raw.send(GET).await;
        raw.response().await;
        raw.send(begin).await;
        let said = raw.rest().await;
        assert!(
            said.is_empty(),
            "{begin:?}: {}",
            String::from_utf8_lossy(&said)
        );
    }
    let mut frames = Frames::connect(&proxy).await;
    frames.get(1, "/", &[]).await;
    assert_eq!(frames.ended(1).await, Ended::Status(200));
    assert!(matches!(
        frames.ended(3).await,
        Ended::Goaway(0) | Ended::Closed
    ));
    assert_eq!(app.requests().len(), 3);
}

#[tokio::test]
async fn a_body_that_stalls_is_refused_and_never_finished_for_the_app() {
    let (proxy, app) = limited("body_idle_timeout = \"1s\"", "").await;
    for (index, begun) in [
        "Content-Length: 10\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let mut raw = proxy.raw().await;
        raw.send(format!("POST / HTTP/1.1\r\nHost: localhost\r\n{begun}"))
            .await;
        let status = raw.status().await;
        assert!(status.is_none_or(|status| status == 408), "{status:?}");
        let request = app.asked(index + 1).await.pop().unwrap();
        assert!(!request.is_whole(), "{request:?}");
    }
    let mut frames = Frames::connect(&proxy).await;
    frames.headers(1, &pseudo("POST", "/"), false).await;
    frames.data(1, b"abc", false).await;
    assert!(frames.ended(1).await.is_refusal());
    assert!(!app.asked(3).await[2].is_whole());
}

#[tokio::test]
async fn a_body_that_moves_may_take_longer_than_the_limit() {
    let (proxy, app) = limited(
        "body_idle_timeout = \"2s\"",
        "timeouts = { first_byte = \"2s\" }",
    )
    .await;
    let mut raw = proxy.raw().await;
    raw.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        .await;
    for byte in b"slow body" {
        tokio::time::sleep(Duration::from_millis(300)).await;
        raw.send([*byte]).await;
    }
    assert_eq!(raw.status().await, Some(200));
    assert_eq!(app.only().body, b"slow body");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_nothing_for_long() {
    let (proxy, app) = before("", || Reply::ok(vec![b'x'; LARGE])).await;
    let mut raw = proxy.raw().await;
    raw.send(GET).await;
    raw.head().await;
    app.left_alone().await;
}

#[tokio::test]
async fn a_client_that_opens_no_window_holds_nothing_for_long() {
    let (proxy, app) = before("", || Reply::ok(vec![b'x'; LARGE])).await;
    // SETTINGS_INITIAL_WINDOW_SIZE.
    let mut frames = Frames::connect_with(&proxy, &[(4, 0)]).await;
    frames.get(1, "/", &[]).await;
    let ended = frames.ended(1).await;
    assert!(!matches!(ended, Ended::Status(_)), "{ended:?}");
    app.left_alone().await;
    assert!(frames.body.is_empty());
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_everything() {
    let (proxy, app) = before("", || Reply::ok(vec![b'x'; 300_000])).await;
    let mut frames = Frames::connect_with(&proxy, &[(4, 0)]).await;
    frames.get(1, "/", &[]).await;
    // A window of 100000 each time: the connection has 65535 to begin with.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        for stream in [0, 1] {
            frames.frame(8, 0, stream, &100_000_u32.to_be_bytes()).await;
        }
    }
    assert_eq!(frames.ended(1).await, Ended::Status(200));
    assert_eq!(frames.body.len(), 300_000);
    assert_eq!(app.requests().len(), 1);
}

#[tokio::test]
async fn header_sections_have_a_bound() {
    let (proxy, app) = limited("", "").await;
    let many: String = (0..101).map(|n| format!("X-{n}: 1\r\n")).collect();
    let large = format!("X-A: {}\r\n", "a".repeat(40 * 1024));
    let both: String = (0..50)
        .map(|n| format!("X-{n}: {}\r\n", "a".repeat(1000)))
        .collect();
    for fields in [&many, &large, &both] {
        let mut raw = proxy.raw().await;
        raw.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"))
            .await;
        assert_eq!(raw.status().await, Some(431));
    }
    let long = format!(
        "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "a".repeat(70_000)
    );
    let mut raw = proxy.raw().await;
    raw.send(long).await;
    let status = raw.status().await;
    assert!([None, Some(414), Some(431)].contains(&status), "{status:?}");
    assert_eq!(app.connections(), 0);
    let endless = "X-A: a\r\n".repeat(100_000);
    let mut raw = proxy.raw().await;
    raw.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{endless}"))
        .await;
    assert!([None, Some(431)].contains(&raw.status().await));
    assert_eq!(app.connections(), 0);
    let fits: String = (0..90)
        .map(|n| format!("X-{n}: {}\r\n", "a".repeat(300)))
        .collect();
    let mut raw = proxy.raw().await;
    raw.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fits}\r\n"))
        .await;
    assert_eq!(raw.status().await, Some(200));
    assert_eq!(app.only().one("x-89").len(), 300);
}

#[tokio::test]
async fn the_number_of_fields_is_the_operators_to_say() {
    let (proxy, _app) = limited("max_headers = 10\nmax_header_bytes = \"8KiB\"", "").await;
    for (fields, size, status) in [(9, 1, 200), (10, 1, 431), (5, 1500, 200), (5, 2000, 431)] {
        let fields: String = (0..fields)
            .map(|n| format!("X-{n}: {}\r\n", "a".repeat(size)))
            .collect();
        let mut raw = proxy.raw().await;
        raw.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"))
            .await;
        assert_eq!(raw.status().await, Some(status), "{fields}");
    }
    let many: Vec<(String, String)> = (0..200)
        .map(|n| (format!("x-{n}"), "a".to_owned()))
        .collect();
    let fields: Vec<_> = many
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut frames = Frames::connect(&proxy).await;
    frames.get(1, "/", &fields).await;
    let ended = frames.ended(1).await;
    assert!(
        ended.is_refusal(),
        "the count holds in HTTP/2 too: {ended:?}"
    );
}

#[tokio::test]
async fn http2_header_sections_have_a_bound() {
    let (proxy, app) = limited("", "").await;
    let large = "a".repeat(20_000);
    let fields = [
        pseudo("GET", "/").as_slice(),
        &[("x-a", &large), ("x-b", &large)],
    ]
    .concat();
    let block = literal(&fields);
    let mut frames = Frames::connect(&proxy).await;
    let mut pieces = block.chunks(16_000).peekable();
    let mut kind = 1;
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() { 4 } else { 0 };
        let end_stream = u8::from(kind == 1);
        frames.frame(kind, last | end_stream, 1, piece).await;
        kind = 9;
    }
    let ended = frames.ended(1).await;
    assert!(ended.is_refusal(), "{ended:?}");
    assert_eq!(app.connections(), 0);
    assert_alive(&proxy).await;
}

#[tokio::test]
async fn a_header_section_that_never_ends_ends_the_connection() {
    let (proxy, app) = limited("", "").await;
    for piece in [&b""[..], b"\0\x01x\x01y"] {
        let mut flood = frame(1, 1, 1, &literal(&pseudo("GET", "/")));
        for _ in 0..20_000 {
            flood.extend(frame(9, 0, 1, piece));
        }
        let mut frames = Frames::connect(&proxy).await;
        frames.send(&flood).await;
        let ended = frames.ended(1).await;
        assert!(
            matches!(ended, Ended::Goaway(_) | Ended::Closed),
            "{ended:?}"
        );
    }
    assert_eq!(app.connections(), 0);
    assert_alive(&proxy).await;
}

#[tokio::test]
async fn a_flood_of_resets_ends_the_connection_and_not_the_process() {
    let (proxy, app) = limited("", "").await;
    let mut flood = Vec::new();
    let block = literal(&pseudo("GET", "/"));
    for stream in (1..4_001).step_by(2) {
        flood.extend(frame(1, 5, stream, &block));
        flood.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    let mut frames = Frames::connect(&proxy).await;
    frames.send(&flood).await;
    let ended = frames.ended(5_001).await;
    assert!(
        matches!(ended, Ended::Goaway(11) | Ended::Closed),
        "{ended:?}"
    );
    assert_alive(&proxy).await;
    assert!(app.requests().len() < 500, "{}", app.requests().len());
}

#[tokio::test]
async fn floods_of_other_frames_end_the_connection_or_do_nothing() {
    let (proxy, _app) = limited("", "").await;
    let pings = frame(6, 0, 0, &[0; 8]).repeat(20_000);
    let settings = frame(4, 0, 0, &[0, 3, 0, 0, 0, 1]).repeat(20_000);
    let empty = [
        frame(1, 4, 1, &literal(&pseudo("POST", "/"))),
        frame(0, 0, 1, &[]).repeat(20_000),
    ]
    .concat();
    let resets_by_us = frame(8, 0, 1, &0_u32.to_be_bytes()).repeat(20_000);
    let priority = frame(2, 0, 3, &[0, 0, 0, 0, 1]).repeat(20_000);
    for flood in [pings, settings, empty, resets_by_us, priority] {
        let mut frames = Frames::connect(&proxy).await;
        // It need not be taken whole; who does not read our answers is not read for ever either.
        let sent = tokio::time::timeout(Duration::from_secs(1), frames.send(&flood)).await;
        let _taken = sent.is_ok();
        drop(frames);
    }
    assert_alive(&proxy).await;
}

#[tokio::test]
async fn streams_of_one_connection_have_a_bound() {
    let app = upstream(|_| Reply::Stall(Vec::new())).await;
    let proxy = proxy()
        .with("limits", "max_streams = 4")
        .route("/", &app.url(), PUBLIC)
        .start();
    let mut frames = Frames::connect(&proxy).await;
    let block = literal(&pseudo("GET", "/"));
    let all: Vec<u8> = (1..41)
        .step_by(2)
        .flat_map(|stream| frame(1, 5, stream, &block))
        .collect();
    frames.send(&all).await;
    // REFUSED_STREAM: it may be sent again.
    assert_eq!(frames.ended(39).await, Ended::Reset(7));
    app.asked(4).await;
    assert_eq!(app.requests().len(), 4);
}

#[tokio::test]
async fn connections_of_one_address_have_a_bound() {
    let (proxy, _app) = limited("max_connections_per_address = 2", "").await;
    let (mut first, second) = (proxy.raw().await, proxy.raw().await);
    for addr in [proxy.addr, proxy.http] {
        assert_eq!(plain(addr, b"").await, "", "one more is one too many");
    }
    first.send(GET).await;
    assert_eq!(first.status().await, Some(200), "who is in stays in");
    drop(second);
    // The place is free again once the end has been noticed.
    eventually("the place is given back", async || {
        let mut stream = TcpStream::connect(proxy.addr).await.unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut [0])).await;
        waits.is_err()
    })
    .await;
}

#[tokio::test]
async fn a_body_has_the_size_that_the_route_allows() {
    let (proxy, app) = limited("", "max_body = \"10B\"").await;
    let post = |rest: &str| format!("POST / HTTP/1.1\r\nHost: localhost\r\n{rest}");
    let mut raw = proxy.raw().await;
    raw.send(post("Content-Length: 11\r\n\r\n")).await;
    assert_eq!(raw.status().await, Some(413), "before a byte of it came");
    assert_eq!(app.connections(), 0);
    let mut raw = proxy.raw().await;
    raw.send(post("Content-Length: 10\r\n\r\n0123456789")).await;
    assert_eq!(raw.status().await, Some(200));
    let mut raw = proxy.raw().await;
    raw.send(post(
        "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
    ))
    .await;
    assert_eq!(raw.status().await, Some(200));
    let mut raw = proxy.raw().await;
    raw.send(post(
        "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n6\r\n567890\r\n0\r\n\r\n",
    ))
    .await;
    assert_eq!(raw.status().await, Some(413));
    let requests = app.asked(3).await;
    assert!(!requests[2].is_whole(), "{:?}", requests[2]);
    let mut frames = Frames::connect(&proxy).await;
    frames.headers(1, &pseudo("POST", "/"), false).await;
    frames.data(1, b"01234567890", true).await;
    assert_eq!(frames.ended(1).await, Ended::Status(413));
    assert!(
        app.requests()
            .iter()
            .skip(3)
            .all(|request| !request.is_whole())
    );
}

#[tokio::test]
async fn an_app_that_is_not_there_is_a_bad_gateway() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let proxy = proxy().route("/", &url, PUBLIC).start();
    let mut browser = proxy.browser();
    let answer = browser.fetch("/").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]),
        (502, &"bad_gateway".into())
    );
    assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    let page = browser.open("/").await;
    assert_eq!(page.status, 502);
    assert!(page.header("content-type").starts_with("text/html"));
}

#[tokio::test]
async fn an_app_that_says_nothing_is_not_waited_for() {
    let timeouts = "timeouts = { first_byte = \"1s\" }";
    let (proxy, app) = before(timeouts, || Reply::Stall(Vec::new())).await;
    let answer = proxy.browser().fetch("/").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]),
        (504, &"gateway_timeout".into())
    );
    app.left_alone().await;
    assert_eq!(
        app.requests().len(),
        1,
        "it may have acted on it, so it is asked once"
    );
    let (proxy, _app) = before(timeouts, || Reply::Stall(b"HTTP/1.1 200 OK\r\nX-".to_vec())).await;
    assert_eq!(proxy.browser().fetch("/").await.status, 504);
}

#[tokio::test]
async fn an_app_that_does_not_greet_is_not_waited_for() {
    // The system takes connections for it, and that is all that happens.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let rest = format!("{PUBLIC}\ntimeouts = {{ connect = \"1s\" }}");
    let proxy = proxy().route("/", &url, &rest).start();
    let answer = soon("an answer", proxy.browser().fetch("/")).await;
    assert_eq!(answer.status, 502);
}

#[tokio::test]
async fn an_answer_that_stalls_is_cut_off_and_never_finished() {
    let timeouts = "timeouts = { idle = \"1s\" }";
    let (proxy, app) = before(timeouts, || {
        Reply::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec())
    })
    .await;
    let mut raw = proxy.raw().await;
    raw.send(GET).await;
    let all = String::from_utf8(raw.rest().await).unwrap();
    assert!(all.ends_with("\r\n\r\nabc"), "{all}");
    let mut frames = Frames::connect(&proxy).await;
    frames.get(1, "/", &[]).await;
    assert!(matches!(frames.ended(1).await, Ended::Reset(_)));
    app.left_alone().await;
    let (proxy, _app) = before(timeouts, || {
        Reply::Stall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".to_vec())
    })
    .await;
    let mut raw = proxy.raw().await;
    raw.send(GET).await;
    let all = String::from_utf8(raw.rest().await).unwrap();
    assert!(all.ends_with("3\r\nabc\r\n"), "{all}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_finished() {
    for (reply, end) in [
        ("Content-Length: 10\r\n\r\nabc", "\r\n\r\nabc"),
        (
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "3\r\nabc\r\n",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
            "3\r\nabc\r\n",
        ),
    ] {
        let app =
            upstream(move |_| Reply::Close(format!("HTTP/1.1 200 OK\r\n{reply}").into_bytes()))
                .await;
        let proxy = proxy().route("/", &app.url(), PUBLIC).start();
        let mut raw = proxy.raw().await;
        raw.send(GET).await;
        let all = String::from_utf8(raw.rest().await).unwrap();
        // Where it breaks off before anything was sent on, nothing is.
        assert!(all.is_empty() || all.ends_with(end), "{all:?}");
        let mut frames = Frames::connect(&proxy).await;
        frames.get(1, "/", &[]).await;
        let ended = frames.ended(1).await;
        assert!(matches!(ended, Ended::Reset(_)), "{ended:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_a_bad_gateway() {
    let large = format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "a".repeat(100_000));
    for reply in [
        "garbage\r\n\r\n",
        "",
        "HTTP/1.1 200",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A : 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-A: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "SSH-2.0-x\r\n",
        large.as_str(),
    ] {
        let bytes = reply.as_bytes().to_vec();
        let app = upstream(move |_| Reply::Close(bytes.clone())).await;
        let proxy = proxy().route("/", &app.url(), PUBLIC).start();
        let answer = proxy.browser().fetch("/").await;
        assert_eq!(answer.status, 502, "{reply:.60?}");
        assert!(!answer.text().contains("garbage"));
        assert_eq!(app.requests().len(), 1, "{reply:.60?}");
    }
}

/// An app that closes the connection on its second request without a word, as if it had closed it just before.
async fn forgetful() -> (Proxy, Upstream) {
    let count = AtomicUsize::new(0);
    let app = upstream(move |request| match count.fetch_add(1, Ordering::SeqCst) {
        1 => Reply::Close(Vec::new()),
        _ => Reply::ok(request.line()),
    })
    .await;
    let proxy = proxy().route("/", &app.url(), PUBLIC).start();
    let mut browser = proxy.browser();
    assert_eq!(browser.fetch("/first").await.status, 200);
    // Only a connection that was idle for a while may have been closed by the app meanwhile.
    tokio::time::sleep(Duration::from_millis(2200)).await;
    (proxy, app)
}

#[tokio::test]
async fn what_may_be_sent_twice_is_sent_again_where_the_app_had_just_closed() {
    let (proxy, app) = forgetful().await;
    let answer = proxy.browser().fetch("/second?x=1").await;
    assert_eq!(answer.text(), "GET /second?x=1 HTTP/1.1");
    let requests = app.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[1], requests[2], "the same, byte by byte");
    assert_eq!(app.connections(), 2);
}

#[tokio::test]
async fn what_may_not_be_sent_twice_is_sent_once() {
    let (proxy, app) = forgetful().await;
    let answer = proxy
        .browser()
        .request(Method::POST, "/second", &[], "body")
        .await;
    assert_eq!(answer.status, 502);
    assert_eq!(app.requests().len(), 2);
    assert_eq!(app.last().body, b"body");
}

#[tokio::test]
async fn a_connection_that_the_app_has_closed_is_not_used_for_anything() {
    let app = upstream(|request| {
        let line = request.line();
        Reply::Close(
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}",
                line.len()
            )
            .into_bytes(),
        )
    })
    .await;
    let proxy = proxy().route("/", &app.url(), PUBLIC).start();
    let mut browser = proxy.browser();
    for count in 1..5 {
        let answer = browser.request(Method::POST, "/x", &[], "body").await;
        assert_eq!(answer.status, 200);
        app.left_alone().await;
        assert_eq!((app.requests().len(), app.connections()), (count, count));
    }
}

#[tokio::test]
async fn connections_to_the_app_are_used_again() {
    let (proxy, app) = limited("", "").await;
    let mut raw = proxy.raw().await;
    for _ in 0..20 {
        raw.send(GET).await;
        raw.response().await;
        raw.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")
            .await;
        raw.response().await;
    }
    assert_eq!(app.requests().len(), 40);
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn a_host_that_the_certificate_is_not_for_is_misdirected() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy()
        .route("/", &app.url(), PUBLIC)
        .route_at("wiki.example.test", "/", &app.url(), PUBLIC)
        .route_at("other.test", "/", &app.url(), PUBLIC)
        .start();
    let ask = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for host in [
        "other.test",
        "unknown.test",
        "a.b.example.test",
        "example.test",
        "10.0.0.1",
    ] {
        let mut raw = proxy.raw().await;
        raw.send(ask(host)).await;
        assert_eq!(raw.status().await, Some(421), "{host}");
        let mut frames = Frames::connect(&proxy).await;
        let mut fields = pseudo("GET", "/");
        fields[2].1 = host;
        frames.headers(1, &fields, true).await;
        assert_eq!(frames.ended(1).await, Ended::Status(421), "{host}");
    }
    assert_eq!(app.connections(), 0);
    for name in ["localhost", "wiki.example.test"] {
        for host in ["localhost", "wiki.example.test"] {
            let mut raw = Raw::connect_as(proxy.addr, name, &[b"http/1.1"]).await;
            raw.send(ask(host)).await;
            assert_eq!(raw.status().await, Some(200), "{name} {host}");
        }
    }
}

#[tokio::test]
async fn plain_http_leads_to_https_and_to_no_app() {
    let (proxy, app) = limited("", "").await;
    let port = proxy.addr.port();
    let answer = plain(
        proxy.http,
        b"GET /a?b=c HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
    )
    .await;
    let lower = answer.to_lowercase();
    assert!(lower.starts_with("http/1.1 308 "), "{answer}");
    assert!(
        lower.contains(&format!("\r\nlocation: https://localhost:{port}/a?b=c\r\n")),
        "{answer}"
    );
    assert!(
        !lower.contains("set-cookie") && !lower.contains("strict-transport"),
        "{answer}"
    );
    for (bytes, status) in [
        (
            &b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"[..],
            "403",
        ),
        (b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", "404"),
        (b"GET / HTTP/1.1\r\n\r\n", "404"),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\n\r\n",
            "404",
        ),
        (
            b"GET //evil.test/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "404",
        ),
        (
            b"GET /\\evil.test/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "404",
        ),
        (
            b"GET http://evil.test/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "404",
        ),
        (
            b"GET @evil.test/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "400",
        ),
        (
            b"CONNECT evil.test:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "403",
        ),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
    ] {
        let answer = plain(proxy.http, bytes).await;
        assert!(!answer.to_lowercase().contains("location:"), "{answer}");
        assert!(!answer.contains("evil"), "{answer}");
        let text = String::from_utf8_lossy(bytes);
        assert!(
            answer.is_empty() || answer.contains(&format!(" {status} ")),
            "{text:?}: {answer}"
        );
    }
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn plain_http_on_the_tls_port_and_the_other_way_round_get_nothing() {
    let (proxy, app) = limited("handshake_timeout = \"1s\"\nheader_timeout = \"1s\"", "").await;
    let answer = plain(proxy.addr, GET.as_bytes()).await;
    assert!(!answer.contains("200"), "{answer}");
    let hello = [&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3][..], b"\r\n\r\n"].concat();
    let answer = plain(proxy.http, &hello).await;
    assert!(
        !answer.contains("200") && !answer.contains("308"),
        "{answer}"
    );
    assert_eq!(app.connections(), 0);
}

#[tokio::test]
async fn those_who_run_it_see_that_it_is_ready_and_what_it_counts() {
    let (proxy, _app) = limited("", "").await;
    proxy.browser().fetch("/").await;
    proxy.browser().fetch("/%00").await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    let answer = plain(proxy.admin, &ask("/health/ready")).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("ready"),
        "{answer}"
    );
    let answer = plain(proxy.admin, &ask("/health/live")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let metrics = plain(proxy.admin, &ask("/metrics")).await;
    let counts: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with("doorward_requests_total{"))
        .collect();
    assert!(
        counts
            .iter()
            .any(|line| line.contains("localhost/") && line.ends_with(" 1")),
        "{counts:?}"
    );
    assert!(metrics.contains("doorward_build"), "{metrics}");
    for (bytes, status) in [
        (
            &b"GET /metrics HTTP/1.1\r\nHost: evil.test\r\n\r\n"[..],
            421,
        ),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 421),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    ] {
        let answer = plain(proxy.admin, bytes).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(!answer.contains("doorward_"), "{answer}");
    }
    // None of it is on the public listener.
    let answer = proxy.browser().fetch("/metrics").await;
    assert_eq!(answer.text(), "GET /metrics HTTP/1.1", "the app's own");
}
