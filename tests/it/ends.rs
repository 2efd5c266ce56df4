//! The end is the end: whatever a session has open, in whatever way it ends (R3, R5).

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::{
    Browser, PASSWORD, Proxy, ProxyBuilder, Recorded, Reply, Upstream, Wire, eventually, manual,
    proxy, soon, upload, upstream,
};

const DOWNLOAD: usize = 32 * 1024 * 1024;
const ADMIN_TOKEN: &str = "an-admin-token-of-more-than-32-bytes";
const HELLO: &[u8] = b"\x81\x05hello";
const SESSION_ENDED: &[u8] = b"\x88\x0f\x03\xf0session ended";
const GOING_AWAY: &[u8] = b"\x88\x0c\x03\xe9going away";
const SWITCHED: &[u8] =
    b"HTTP/1.1 101 X\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n\x81\x05hello";

type Client = Wire<TlsStream<TcpStream>>;

/// How a session ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Absolute,
    Evicted,
    Idle,
    Logout,
    Replaced,
    Revoked,
    RevokedByUser,
    UserRemoved,
}

impl End {
    /// What the proxy has to be like for it.
    fn prepare(self, builder: ProxyBuilder) -> ProxyBuilder {
        match self {
            Self::Absolute => builder.with("session", "idle_timeout = \"12h\""),
            Self::Evicted => builder.with("session", "max_per_user = 1"),
            _ => builder,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Absolute => "absolute_timeout",
            Self::Evicted => "evicted",
            Self::Idle => "idle_timeout",
            Self::Logout => "logout",
            Self::Replaced => "replaced",
            Self::Revoked => "revoked",
            Self::RevokedByUser => "revoked_by_user",
            Self::UserRemoved => "user_changed",
        }
    }

    /// Bob's session goes on.
    fn is_of_one(self) -> bool {
        !matches!(self, Self::Absolute | Self::Idle)
    }

    async fn come(self, proxy: &Proxy, alice: &mut Browser) {
        match self {
            Self::Absolute => proxy.clock.advance(Duration::from_hours(12)),
            Self::Idle => proxy.clock.advance(Duration::from_mins(30)),
            Self::Evicted => proxy.browser().log_in("alice").await,
            Self::Logout => assert_eq!(alice.log_out().await.status, 200),
            Self::Replaced => {
                let page = "/.doorward/login?prompt=login";
                let answer = alice.log_in_at(page, "bob", PASSWORD).await;
                assert_eq!(answer.status, 303);
            }
            Self::Revoked => {
                let mut admin = Wire::new(TcpStream::connect(proxy.admin).await.unwrap());
                let request = format!(
                    "DELETE /api/v1/users/local/alice/sessions HTTP/1.1\r\nhost: localhost\r\n\
                     authorization: Bearer {ADMIN_TOKEN}\r\nconnection: close\r\n\r\n"
                );
                admin.send(request).await;
                assert!(admin.rest().await.starts_with(b"HTTP/1.1 200 "));
            }
            Self::RevokedByUser => {
                let mut elsewhere = proxy.browser();
                elsewhere.log_in("alice").await;
                let token = elsewhere.open("/.doorward/sessions").await.field("token");
                let fields = [("token", token.as_str()), ("end", "others")];
                let answer = elsewhere.submit("/.doorward/sessions", &fields).await;
                assert_eq!(answer.status, 303);
            }
            Self::UserRemoved => {
                doorward::login::UserFile::remove(&proxy.path("users.toml"), "alice").unwrap();
            }
        }
    }
}

/// What a session may have open, and the client's end of it.
enum Stream {
    Download(Client),
    Events(Client),
    Http2(&'static str, h2::RecvStream),
    /// Nothing has come of the answer yet.
    Http2Waiting(
        &'static str,
        h2::client::ResponseFuture,
        Option<h2::SendStream<Bytes>>,
    ),
    Poll(Client),
    Upload(Client),
    WebSocket(Client),
}

impl Stream {
    async fn all(proxy: &Proxy, browser: &Browser) -> Vec<Self> {
        let cookie = cookie(browser);
        let head = |line: &str, more: &str| {
            format!(
                "{line} HTTP/1.1\r\nhost: {}\r\n{cookie}\r\n{more}\r\n",
                proxy.authority()
            )
        };
        let mut events = proxy.wire().await;
        events.send(head("GET /events", "")).await;
        events.until(b"data: 1\n\n").await;
        let mut download = proxy.wire().await;
        download.send(head("GET /download", "")).await;
        download.head().await;
        download.exact(100_000).await;
        let mut poll = proxy.wire().await;
        poll.send(head("GET /poll", "")).await;
        let mut put = proxy.wire().await;
        put.send(head("PUT /upload", "content-length: 1000000\r\n"))
            .await;
        put.send([b'u'; 1000]).await;
        let mut all = vec![
            Self::WebSocket(websocket(proxy, browser).await),
            Self::Events(events),
            Self::Download(download),
            Self::Poll(poll),
            Self::Upload(put),
        ];

        let mut h2 = proxy.h2(&h2::client::Builder::new()).await;
        let cookie = browser.token();
        let ask = |request: Request<()>| {
            let (mut parts, ()) = request.into_parts();
            let cookie = format!("__Host-sid={cookie}");
            parts.headers.insert("cookie", cookie.parse().unwrap());
            Request::from_parts(parts, ())
        };
        for path in ["/events", "/download"] {
            let (response, _) = h2.send_request(ask(proxy.get(path)), true).unwrap();
            let response = soon("a head", response).await.unwrap();
            let mut body = response.into_body();
            assert!(soon("data", body.data()).await.unwrap().is_ok());
            all.push(Self::Http2(path, body));
        }
        let (response, _) = h2.send_request(ask(proxy.get("/poll")), true).unwrap();
        all.push(Self::Http2Waiting("/poll", response, None));
        let (response, mut body) = h2.send_request(ask(proxy.post("/upload")), false).unwrap();
        upload(&mut body, Bytes::from_static(&[b'u'; 1000]), false).await;
        all.push(Self::Http2Waiting("/upload", response, Some(body)));
        all
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Download(_) => "download",
            Self::Events(_) => "events",
            Self::Http2(path, _) | Self::Http2Waiting(path, ..) => path,
            Self::Poll(_) => "poll",
            Self::Upload(_) => "upload",
            Self::WebSocket(_) => "websocket",
        }
    }

    /// Waits until it is closed, and looks at how.
    async fn closed(self) {
        match self {
            Self::Download(mut client) => {
                let rest = client.rest().await.len();
                assert!(rest + 100_000 < DOWNLOAD, "{rest} bytes came");
            }
            Self::Events(mut client) => {
                let rest = client.rest().await;
                assert!(!rest.ends_with(b"0\r\n\r\n"), "it does not look complete");
            }
            Self::Http2(_, mut body) => {
                let ended = loop {
                    match soon("an end", body.data()).await {
                        Some(Ok(data)) => {
                            let flow = body.flow_control();
                            flow.release_capacity(data.len()).unwrap();
                        }
                        Some(Err(error)) => break error,
                        None => panic!("it looks complete"),
                    }
                };
                assert!(ended.is_reset(), "{ended}");
            }
            Self::Http2Waiting(_, response, _body) => {
                let response = soon("an answer", response).await.unwrap();
                assert_eq!(response.status(), 401);
            }
            Self::Poll(mut client) | Self::Upload(mut client) => {
                let head = client.head().await;
                assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
                assert!(head.contains("__Host-sid=; "), "{head}");
            }
            Self::WebSocket(mut client) => assert_eq!(client.rest().await, SESSION_ENDED),
        }
    }
}

#[tokio::test]
async fn every_end_closes_every_kind_of_stream() {
    for end in [
        End::Logout,
        End::Revoked,
        End::RevokedByUser,
        End::UserRemoved,
        End::Replaced,
        End::Evicted,
        End::Idle,
        End::Absolute,
    ] {
        let app = app().await;
        let proxy = served(end.prepare(proxy().app(&app.url())));
        let (mut alice, mut bob) = (proxy.browser(), proxy.browser());
        bob.log_in("bob").await;
        let mut theirs = websocket(&proxy, &bob).await;
        alice.log_in("alice").await;
        let open = Stream::all(&proxy, &alice).await;
        eventually("all of it is open", async || app.open() > open.len()).await;

        end.come(&proxy, &mut alice).await;
        for stream in open {
            let what = format!("{end:?}: {}", stream.name());
            soon(&what, stream.closed()).await;
        }
        // The idle ones are kept for the next request.
        eventually("nothing goes on at the app", async || {
            app.requests()
                .iter()
                .filter(|request| !request.is_whole())
                .count()
                == 2
        })
        .await;
        let event = proxy.audited("session_ended").await;
        assert_eq!(event["reason"], end.reason());
        if end.is_of_one() {
            theirs.send(b"\x89\x80\0\0\0\0").await;
            assert_eq!(theirs.exact(6).await, b"\x89\x80\0\0\0\0", "{end:?}");
        } else {
            assert_eq!(theirs.rest().await, SESSION_ENDED);
        }
    }
}

#[tokio::test]
async fn what_moves_on_an_open_stream_keeps_no_session_alive() {
    let app = app().await;
    let proxy = served(proxy().app(&app.url()));
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    let mut socket = websocket(&proxy, &browser).await;
    for _ in 0..29 {
        proxy.clock.advance(Duration::from_mins(1));
        socket.send(b"\x89\x80\0\0\0\0").await;
        assert_eq!(socket.exact(6).await, b"\x89\x80\0\0\0\0");
    }
    proxy.clock.advance(Duration::from_millis(59_999));
    assert!(socket.is_silent().await, "not yet");
    proxy.clock.advance(Duration::from_millis(1));
    assert_eq!(socket.rest().await, SESSION_ENDED);
}

#[tokio::test]
async fn requests_keep_a_session_and_its_streams_alive() {
    let app = app().await;
    let proxy = served(proxy().app(&app.url()));
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    let mut socket = websocket(&proxy, &browser).await;
    for _ in 0..3 {
        proxy.clock.advance(Duration::from_mins(29));
        assert_eq!(browser.fetch("/").await.status, 200);
    }
    assert!(socket.is_silent().await, "87 minutes later it is open");
    proxy.clock.advance(Duration::from_mins(30));
    assert_eq!(socket.rest().await, SESSION_ENDED);
}

#[tokio::test]
async fn an_upload_that_was_answered_early_ends_with_its_session_too() {
    let app = manual();
    let proxy = served(proxy().app(&app.url()));
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    let mut client = proxy.wire().await;
    let (host, cookie) = (proxy.authority(), cookie(&browser));
    let head =
        format!("PUT / HTTP/1.1\r\nhost: {host}\r\n{cookie}\r\ncontent-length: 1000000\r\n\r\n");
    client.send(head).await;
    client.send([b'u'; 1000]).await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.exact(1000).await;
    conn.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    client.send([b'u'; 1000]).await;
    conn.exact(1000).await;
    browser.log_out().await;
    assert_eq!(conn.rest().await, b"", "nothing more goes to the app");
}

#[tokio::test]
async fn a_close_frame_waits_for_the_end_of_the_frame_before_it() {
    let app = manual();
    let proxy = served(proxy().app(&app.url()));
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    let (mut client, mut conn) = by_hand(&proxy, &app, &browser).await;
    // 300 bytes in one frame, of which the last 10 come later.
    let mut frame = b"\x82\x7e\x01\x2c".to_vec();
    frame.resize(4 + 290, b'x');
    conn.send(&frame).await;
    assert_eq!(client.exact(frame.len()).await, frame);
    let rest = async {
        eventually("it has ended", async || {
            proxy.sessions().stored().await == Ok(0)
        })
        .await;
        conn.send([[b'x'; 10].as_slice(), HELLO].concat()).await;
    };
    let (ended, ()) = tokio::join!(browser.log_out(), rest);
    assert_eq!(ended.status, 200);
    let expected = [[b'x'; 10].as_slice(), SESSION_ENDED].concat();
    assert_eq!(client.rest().await, expected, "and not the frame behind it");
    assert_eq!(conn.rest().await, b"");
}

#[tokio::test]
async fn a_frame_that_never_ends_is_cut_off_without_a_word() {
    let app = manual();
    let proxy = served(proxy().app(&app.url()));
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    let (mut client, mut conn) = by_hand(&proxy, &app, &browser).await;
    conn.send(b"\x82\x7e\x01\x2chalf").await;
    assert_eq!(client.exact(8).await, b"\x82\x7e\x01\x2chalf");
    browser.log_out().await;
    client.send(b"\x89\x80\0\0\0\0").await;
    assert_eq!(client.rest().await, b"");
    assert_eq!(conn.rest().await, b"", "nor did the app hear more");
}

#[tokio::test]
async fn nothing_follows_the_apps_own_close_frame() {
    let app = manual();
    let proxy = served(proxy().app(&app.url()));
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    let (mut client, mut conn) = by_hand(&proxy, &app, &browser).await;
    conn.send(b"\x88\x02\x03\xe8").await;
    assert_eq!(client.exact(4).await, b"\x88\x02\x03\xe8");
    browser.log_out().await;
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_stop_says_so_to_open_websockets_and_does_not_wait_for_them() {
    let app = app().await;
    let proxy = served(
        proxy()
            .route("/", &app.url(), "access = \"public\"")
            .with("limits", "drain_timeout = \"10m\""),
    );
    let browser = proxy.browser();
    let mut socket = websocket(&proxy, &browser).await;
    let (_stopped, heard) = tokio::join!(soon("a stop", proxy.stop()), socket.rest());
    assert_eq!(heard, GOING_AWAY);
}

async fn app() -> Upstream {
    upstream(|request: &Recorded| match request.line() {
        "GET /socket HTTP/1.1" => Reply::Echo(SWITCHED.to_vec()),
        "GET /events HTTP/1.1" => Reply::Stall(
            b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
              9\r\ndata: 1\n\n\r\n"
                .to_vec(),
        ),
        "GET /download HTTP/1.1" => Reply::ok(vec![b'x'; DOWNLOAD]),
        "GET /poll HTTP/1.1" => Reply::Stall(Vec::new()),
        _ => Reply::ok("hello"),
    })
    .await
}

/// With an admin API.
fn served(builder: ProxyBuilder) -> Proxy {
    let builder = builder.with("server", "admin_token = { file = \"admin.token\" }");
    let folder = builder.prepare();
    let file = folder.path().join("admin.token");
    std::fs::write(&file, format!("{ADMIN_TOKEN}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    builder.within(folder).start()
}

fn cookie(browser: &Browser) -> String {
    format!("cookie: __Host-sid={}", browser.token())
}

fn opening(proxy: &Proxy, browser: &Browser) -> String {
    format!(
        "GET /socket HTTP/1.1\r\nhost: {0}\r\norigin: https://{0}\r\n{1}\r\nconnection: Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        proxy.authority(),
        cookie(browser)
    )
}

/// An open one, over which the app has said hello.
async fn websocket(proxy: &Proxy, browser: &Browser) -> Client {
    let mut client = proxy.wire().await;
    client.send(opening(proxy, browser)).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(client.exact(HELLO.len()).await, HELLO);
    client
}

/// Both ends of an open one.
async fn by_hand(
    proxy: &Proxy,
    app: &crate::support::Manual,
    browser: &Browser,
) -> (Client, Wire<TcpStream>) {
    let mut client = proxy.wire().await;
    client.send(opening(proxy, browser)).await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send(SWITCHED).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.exact(HELLO.len()).await, HELLO);
    (client, conn)
}
