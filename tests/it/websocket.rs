//! `WebSockets`: who may open one, and that every byte gets through until either side, the session or the clock ends it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::{Browser, Manual, Proxy, Wire, eventually, manual, proxy, soon};

const MIB: usize = 1024 * 1024;
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// RFC 6455 section 1.3: what the key must be answered with.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

type Client = Wire<TlsStream<TcpStream>>;

/// RFC 6455 section 4.1.
fn opening(fields: &str) -> String {
    format!(
        "GET /socket HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n{fields}\r\n"
    )
}

/// RFC 6455 section 4.2.2, of the key that came.
fn acceptance(head: &str) -> String {
    let key = head
        .lines()
        .find_map(|line| line.strip_prefix("sec-websocket-key: "))
        .unwrap();
    let salted = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let hash = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
        salted.as_bytes(),
    );
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {}\r\n\r\n",
        STANDARD.encode(hash.as_ref())
    )
}

/// A masked text frame, as clients send them (RFC 6455 section 5.2).
fn masked(text: &str) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let len = u8::try_from(text.len()).unwrap();
    let mut frame = vec![0x81, 0x80 | len];
    frame.extend_from_slice(&mask);
    let bytes = text.bytes().zip(mask.iter().cycle());
    frame.extend(bytes.map(|(byte, mask)| byte ^ mask));
    frame
}

/// An unmasked one, as servers do.
fn plain(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, u8::try_from(text.len()).unwrap()];
    frame.extend_from_slice(text.as_bytes());
    frame
}

fn public(app: &Manual, more: &str) -> Proxy {
    proxy()
        .route("/", &app.url(), &format!("access = \"public\"\n{more}"))
        .start()
}

/// An open tunnel: the client's end and the app's.
async fn open(proxy: &Proxy, app: &Manual, fields: &str) -> (Client, Wire<TcpStream>) {
    let mut client = proxy.wire().await;
    client.send(opening(fields)).await;
    let mut conn = app.accept().await;
    let head = conn.head().await;
    assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    assert!(head.contains("\r\nsec-websocket-version: 13\r\n"), "{head}");
    conn.send(acceptance(&head)).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    assert!(
        head.contains(&format!("\r\nsec-websocket-accept: {ACCEPT}\r\n")),
        "{head}"
    );
    (client, conn)
}

fn session(browser: &Browser) -> String {
    format!("cookie: __Host-sid={}\r\n", browser.token())
}

#[tokio::test]
async fn frames_go_both_ways_as_they_are() {
    let app = manual();
    let proxy = public(&app, "");
    let (mut client, mut conn) = open(&proxy, &app, "").await;
    for text in ["hello", "", "ünïcode"] {
        client.send(masked(text)).await;
        assert_eq!(conn.exact(6 + text.len()).await, masked(text));
        conn.send(plain(text)).await;
        assert_eq!(client.exact(2 + text.len()).await, plain(text));
    }
}

#[tokio::test]
async fn what_comes_right_behind_the_handshake_is_kept() {
    let app = manual();
    let proxy = public(&app, "");
    let mut client = proxy.wire().await;
    let mut early = opening("").into_bytes();
    early.extend(masked("early"));
    client.send(early).await;
    let mut conn = app.accept().await;
    let head = conn.head().await;
    let mut answer = acceptance(&head).into_bytes();
    answer.extend(plain("welcome"));
    conn.send(answer).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.exact(9).await, plain("welcome"));
    assert_eq!(conn.exact(11).await, masked("early"));
}

#[tokio::test]
async fn a_megabyte_goes_both_ways_at_once() {
    let app = manual();
    let proxy = public(&app, "");
    let (mut client, mut conn) = open(&proxy, &app, "").await;
    // Neither reads before it has written what it can: nobody may wait for the other for ever.
    let (up, down) = (vec![b'u'; MIB], vec![b'd'; MIB]);
    let (mut sent_up, mut sent_down) = tokio::join!(client.stuff(&up, MIB), conn.stuff(&down, MIB));
    while sent_up < MIB || sent_down < MIB {
        assert!(sent_up > 0 && sent_down > 0);
        tokio::join!(conn.swallow(sent_up, b'u'), client.swallow(sent_down, b'd'));
        let (left_up, left_down) = (MIB - sent_up, MIB - sent_down);
        if left_up + left_down == 0 {
            break;
        }
        (sent_up, sent_down) =
            tokio::join!(client.stuff(&up, left_up), conn.stuff(&down, left_down));
        tokio::join!(conn.swallow(sent_up, b'u'), client.swallow(sent_down, b'd'));
        (sent_up, sent_down) = (MIB, MIB);
    }
}

#[tokio::test]
async fn each_side_may_end_its_direction_first() {
    let app = manual();
    let proxy = public(&app, "");
    let (mut client, mut conn) = open(&proxy, &app, "").await;
    client.send("last words").await;
    client.half_close().await;
    assert_eq!(conn.rest().await, b"last words");
    conn.send("heard").await;
    drop(conn);
    assert_eq!(client.rest().await, b"heard");

    let (mut client, mut conn) = open(&proxy, &app, "").await;
    conn.send("last words").await;
    conn.half_close().await;
    assert_eq!(client.rest().await, b"last words");
    client.send("heard").await;
    client.half_close().await;
    assert_eq!(conn.rest().await, b"heard");
}

#[tokio::test]
async fn a_tunnel_ends_with_either_side_and_leaves_nothing() {
    let app = manual();
    let proxy = public(&app, "");
    let (client, mut conn) = open(&proxy, &app, "").await;
    drop(client);
    assert_eq!(conn.rest().await, b"");
    let (mut client, conn) = open(&proxy, &app, "").await;
    drop(conn);
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_is_closed() {
    let app = manual();
    let proxy = public(&app, "timeouts = { idle = \"2s\" }");
    let (mut client, mut conn) = open(&proxy, &app, "").await;
    // What moves, in one direction alone, keeps it open for longer than the limit.
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_millis(2_800) {
        client.send(masked("ping")).await;
        assert_eq!(conn.exact(10).await, masked("ping"));
        assert!(conn.is_silent().await);
    }
    assert_eq!(conn.rest().await, b"");
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn an_app_may_refuse() {
    let app = manual();
    let proxy = public(&app, "");
    let mut client = proxy.wire().await;
    client.send(opening("")).await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 426 Upgrade Required\r\ncontent-length: 4\r\nsec-websocket-version: 14\r\n\r\nnope")
        .await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 426 "), "{head}");
    assert!(head.contains("sec-websocket-version: 14\r\n"), "{head}");
    assert!(!head.contains("\r\nupgrade:"), "{head}");
    assert_eq!(client.exact(4).await, b"nope");
    assert_eq!(conn.rest().await, b"", "its connection was for this alone");
    client
        .send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    let mut conn = app.accept().await;
    assert!(conn.head().await.starts_with("GET / "));
}

#[tokio::test]
async fn an_app_may_only_switch_to_what_was_asked_for() {
    let app = manual();
    let proxy = public(&app, "");
    for fields in [
        "connection: upgrade\r\nupgrade: h2c\r\n",
        "connection: upgrade\r\nupgrade: websocket, h2c\r\n",
        "",
    ] {
        let mut client = proxy.wire().await;
        client.send(opening("")).await;
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send(format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n"))
            .await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{fields}: {head}");
        assert_eq!(conn.rest().await, b"");
    }
}

#[tokio::test]
async fn what_asks_for_no_websocket_is_an_ordinary_request() {
    let app = manual();
    let proxy = public(&app, "");
    for request in [
        "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 3\r\n\r\nabc",
    ] {
        let mut client = proxy.wire().await;
        client.send(request).await;
        let mut conn = app.accept().await;
        let head = conn.head().await;
        assert!(!head.contains("\r\nupgrade:"), "{request}: {head}");
        assert!(!head.contains("\r\nconnection:"), "{request}: {head}");
        conn.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        )
        .await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{request}: {head}");
    }
}

#[tokio::test]
async fn only_pages_of_the_same_origin_open_one_with_a_session() {
    let app = manual();
    let proxy = proxy()
        .route("/", &app.url(), "access = \"user\"")
        .route("/open", &app.url(), "access = \"public\"")
        .start();
    let mut client = proxy.wire().await;
    client.send(opening("")).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");

    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    let cookie = session(&browser);
    for origin in [
        "https://evil.example",
        "http://localhost",
        "https://localhost.evil.example",
        "null",
    ] {
        let mut client = proxy.wire().await;
        client
            .send(opening(&format!("{cookie}origin: {origin}\r\n")))
            .await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{origin}: {head}");
    }
    let fields = format!("{cookie}origin: https://localhost\r\n");
    let (mut client, mut conn) = open(&proxy, &app, &fields).await;
    conn.send(plain("hello")).await;
    assert_eq!(client.exact(7).await, plain("hello"));

    let mut client = proxy.wire().await;
    let anywhere = opening("origin: https://evil.example\r\n").replace("/socket", "/open/socket");
    client.send(anywhere).await;
    let mut conn = app.accept().await;
    let head = conn.head().await;
    conn.send(acceptance(&head)).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
}

#[tokio::test]
async fn a_tunnel_ends_with_its_session() {
    let app = manual();
    let proxy = proxy().route("/", &app.url(), "access = \"user\"").start();
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    let (mut client, mut conn) = open(&proxy, &app, &session(&browser)).await;
    conn.send(plain("hello")).await;
    assert_eq!(client.exact(7).await, plain("hello"));
    browser.log_out().await;
    assert_eq!(conn.rest().await, b"");
    assert_eq!(client.rest().await, b"\x88\x0f\x03\xf0session ended");
}

#[tokio::test]
async fn a_tunnel_counts_as_a_connection_to_its_app() {
    let app = manual();
    let table = format!("{{ url = \"{}\", max_connections = 1 }}", app.url());
    let proxy = proxy().route_to("/", &table, "access = \"public\"").start();
    let (client, conn) = open(&proxy, &app, "").await;
    let mut second = proxy.wire().await;
    second.send(opening("")).await;
    assert!(second.head().await.starts_with("HTTP/1.1 503 "));
    drop((client, conn));
    eventually("the place is free again", async || {
        let mut client = proxy.wire().await;
        client.send(opening("")).await;
        let conn = app.accept();
        tokio::select! {
            head = client.head() => {
                assert!(head.starts_with("HTTP/1.1 503 "));
                false
            }
            _ = conn => true,
        }
    })
    .await;
}

#[tokio::test]
async fn an_app_that_does_not_answer_a_handshake_is_given_up() {
    let app = manual();
    let proxy = public(&app, "timeouts = { first_byte = \"500ms\" }");
    let mut client = proxy.wire().await;
    client.send(opening("")).await;
    let mut conn = app.accept().await;
    conn.head().await;
    assert!(client.head().await.starts_with("HTTP/1.1 504 "));
    assert_eq!(soon("an end", conn.rest()).await, b"");
}
