//! Logging out: by whose wish alone, and how far it reaches at once (R5).

use http::Method;

use crate::support::{Answer, Browser, Kept, Raw, Recorded, Reply, Upstream, proxy, upstream};

const CLEARED: &str = "__Host-sid=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0";

#[tokio::test]
async fn looking_at_the_logout_page_ends_nothing() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    let token = form_token(&mut browser).await;
    for path in [
        "/.doorward/logout".to_owned(),
        format!("/.doorward/logout?token={token}"),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = browser.request(method, &path, &[], "").await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("cache-control"), "no-store");
            assert!(answer.set_cookies().is_empty());
        }
        let page = browser.open(&path).await;
        assert!(page.text().contains("alice"), "it says who is logged in");
        assert!(page.text().contains("<form method=\"post\""));
        assert!(!page.field("token").is_empty());
    }
    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        let answer = browser.request(method, "/.doorward/logout", &[], "").await;
        assert_eq!(answer.status, 405);
        assert_eq!(answer.header("allow"), "GET, HEAD, POST");
    }
    assert_eq!(browser.fetch("/").await.status, 200, "the session lives");
}

#[tokio::test]
async fn nobody_is_logged_out_but_by_a_form_of_their_own_session() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    let (mut elsewhere, mut bob) = (proxy.browser(), proxy.browser());
    elsewhere.log_in("alice").await;
    bob.log_in("bob").await;
    let own = form_token(&mut alice).await;
    let flipped = |at: usize| {
        let mut bytes = own.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    for token in [
        String::new(),
        "x".to_owned(),
        "A".repeat(own.len()),
        "A".repeat(5000),
        flipped(0),
        flipped(own.len() / 2),
        form_token(&mut bob).await,
        form_token(&mut elsewhere).await,
        alice.token().to_owned(),
    ] {
        let answer = alice
            .submit("/.doorward/logout", &[("token", &token)])
            .await;
        assert_eq!(answer.status, 403, "{token}");
    }
    let query = format!("/.doorward/logout?token={own}");
    assert_eq!(alice.submit(&query, &[]).await.status, 403);
    let twice = [("token", own.as_str()), ("token", "x")];
    assert_eq!(alice.submit("/.doorward/logout", &twice).await.status, 400);

    let body = format!("token={own}");
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let port = format!("https://localhost:{}", proxy.addr.port() ^ 1);
    for sign in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "https://localhost"),
        ("origin", port.as_str()),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let answer = alice
            .request(Method::POST, "/.doorward/logout", &[kind, sign], &body)
            .await;
        assert_eq!(answer.status, 403, "{sign:?}");
        assert!(answer.set_cookies().is_empty(), "{sign:?}");
    }
    let refused = proxy.audited_times("cross_site_refused", 6).await;
    assert!(refused.iter().all(|event| event["place"] == "logout"));
    for browser in [&mut alice, &mut elsewhere, &mut bob] {
        assert_eq!(browser.fetch("/").await.status, 200, "every session lives");
    }
    assert!(!events(&proxy.audit()).contains(&"session_ended".to_owned()));
}

#[tokio::test]
async fn a_logout_takes_the_cookie_and_is_written_down() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let (mut browser, mut elsewhere) = (proxy.browser(), proxy.browser());
    browser.log_in("alice").await;
    elsewhere.log_in("alice").await;
    let sid = browser.fetch("/.doorward/session").await.json()["sid"].clone();
    let before = browser.clone();
    let token = form_token(&mut browser).await;
    let answer = browser.log_out().await;
    assert_eq!(answer.status, 200);
    // The other one says that the next login follows from this.
    let cookies = answer.set_cookies();
    assert_eq!((cookies.len(), cookies[0]), (2, CLEARED));
    assert!(cookies[1].starts_with("__Host-sid-browser="), "{cookies:?}");
    assert_eq!(answer.header("clear-site-data"), "\"cache\", \"storage\"");
    let event = proxy.audited("session_ended").await;
    assert_eq!((&event["reason"], &event["sid"]), (&"logout".into(), &sid));
    assert_eq!(proxy.sessions().stored().await.unwrap(), 1);
    assert_eq!(browser.token(), "");

    let mut old = before.clone();
    let answer = old.fetch("/").await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.set_cookies(), [CLEARED]);
    // The page was still open in another tab.
    let mut old = before;
    let answer = old.submit("/.doorward/logout", &[("token", &token)]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.set_cookies(), [CLEARED]);
    assert!(app.requests().is_empty());
    assert_eq!(
        elsewhere.fetch("/").await.status,
        200,
        "only this one ended"
    );
}

#[tokio::test]
async fn what_browsers_forget_with_a_logout_is_for_the_operator_to_say() {
    let app = app().await;
    for (keys, expected) in [
        ("", "\"cache\", \"storage\""),
        ("clear_on_logout = [\"cookies\"]", "\"cookies\""),
        ("clear_on_logout = []", ""),
    ] {
        let proxy = proxy().app(&app.url()).with("session", keys).start();
        let mut browser = proxy.browser();
        browser.log_in("alice").await;
        let answer = browser.log_out().await;
        let told = answer.headers.get("clear-site-data");
        let told = told.map_or("", |value| value.to_str().unwrap());
        assert_eq!(told, expected, "{keys}");
    }
}

#[tokio::test]
async fn caches_keep_no_page_that_needs_a_login() {
    let app = upstream(|request: &Recorded| match request.line() {
        line if line.contains("/style.css ") => Reply::with(
            200,
            "content-type: text/css\r\ncache-control: public, max-age=600\r\n",
            "p {}",
        ),
        _ => Reply::with(
            200,
            "content-type: text/html\r\ncache-control: max-age=600\r\n",
            "<p>hello",
        ),
    })
    .await;
    let url = app.url();
    let proxy = proxy()
        .app(&url)
        .route("/public", &url, "access = \"public\"")
        .route("/strict", &url, "access = \"public\"\ncache = \"assets\"")
        .route("/private", &url, "access = \"user\"\ncache = \"private\"")
        .route("/app", &url, "access = \"user\"\ncache = \"app\"")
        .route(
            "/edited",
            &url,
            "access = \"user\"\nresponse_headers = { set = { Cache-Control = \"no-cache\" } }",
        )
        .start();
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    for (path, page, asset) in [
        ("", "no-store", "private, max-age=600"),
        ("/public", "max-age=600", "public, max-age=600"),
        ("/strict", "no-store", "private, max-age=600"),
        ("/private", "max-age=600, private", "private, max-age=600"),
        ("/app", "max-age=600", "public, max-age=600"),
        ("/edited", "no-cache", "no-cache"),
    ] {
        for (name, expected) in [("/", page), ("/style.css", asset)] {
            let answer = browser.fetch(&format!("{path}{name}")).await;
            let all = answer.headers.get_all("cache-control").iter();
            let all: Vec<_> = all.map(|value| value.to_str().unwrap()).collect();
            assert_eq!(all.join(", "), expected, "{path}{name}");
        }
    }
}

#[tokio::test]
async fn a_flood_of_refusals_does_not_fill_the_audit_log() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut kept = Kept::http2(proxy.addr, "localhost").await;
    let forged = [("remote-user", "admin")];
    for _ in 0..130 {
        let answer = kept.request((Method::GET, "/"), &[], &forged, "").await;
        assert_eq!(answer.status, 401);
    }
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    proxy.clock.advance(std::time::Duration::from_secs(10));
    let told = proxy.audited("events_left_out").await;
    assert_eq!(told["of"], "identity_header_stripped");
    assert_eq!(told["count"], 30);
    let written = events(&proxy.audit());
    let count = |name: &str| written.iter().filter(|event| *event == name).count();
    assert_eq!(count("identity_header_stripped"), 100);
    assert_eq!(count("login_succeeded"), 1, "all else is written");
}

#[tokio::test]
async fn a_session_ends_at_once_on_every_connection_that_is_open() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .route("/public", &app.url(), "access = \"public\"")
        .workers(2)
        .start();
    let (mut browser, mut other) = (proxy.browser(), proxy.browser());
    browser.log_in("alice").await;
    other.log_in("alice").await;
    let cookie = format!("__Host-sid={}", browser.token());
    let others = format!("__Host-sid={}", other.token());
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(Kept::http1(proxy.addr, "localhost").await);
        connections.push(Kept::http2(proxy.addr, "localhost").await);
    }
    for kept in &mut connections {
        for _ in 0..3 {
            assert_eq!(kept.get("/", &[&cookie]).await.status, 200);
        }
    }
    assert_eq!(browser.log_out().await.status, 200);
    let before = app.requests().len();
    for kept in &mut connections {
        let answer = kept.get("/", &[&cookie]).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.set_cookies(), [CLEARED]);
    }
    assert_eq!(app.requests().len(), before, "nobody got through");
    for kept in &mut connections {
        assert_eq!(kept.get("/public", &[&cookie]).await.status, 200);
        assert!(
            app.last().folded("remote-user").is_empty(),
            "nobody in particular"
        );
        assert_eq!(kept.get("/", &[&others]).await.status, 200);
    }
}

#[tokio::test]
async fn an_open_websocket_is_closed_when_its_session_ends() {
    let app = upstream(|request: &Recorded| match request.all("upgrade")[..] {
        [_] => Reply::Echo(
            b"HTTP/1.1 101 X\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n".to_vec(),
        ),
        _ => Reply::ok("hello"),
    })
    .await;
    let proxy = proxy().app(&app.url()).start();
    let (mut browser, mut other) = (proxy.browser(), proxy.browser());
    browser.log_in("alice").await;
    other.log_in("alice").await;
    let mut sockets = Vec::new();
    for browser in [&browser, &browser, &other] {
        let mut socket = proxy.raw().await;
        socket.send(upgrade(browser)).await;
        let head = socket.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        echo(&mut socket).await;
        sockets.push(socket);
    }
    assert_eq!(app.last().one("remote-user"), "alice");
    assert_eq!(browser.log_out().await.status, 200);
    let mut theirs = sockets.pop().unwrap();
    for mut socket in sockets {
        assert_eq!(socket.rest().await, b"", "it ends, and nothing more comes");
    }
    echo(&mut theirs).await;

    let mut socket = proxy.raw().await;
    browser.jar.clear();
    socket.send(upgrade(&browser)).await;
    assert_eq!(socket.status().await, Some(401));
}

#[tokio::test]
async fn an_event_stream_ends_with_its_session() {
    let app = upstream(|_| {
        Reply::Stall(
            b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
              9\r\ndata: 1\n\n\r\n"
                .to_vec(),
        )
    })
    .await;
    let proxy = proxy().app(&app.url()).start();
    let (mut browser, mut other) = (proxy.browser(), proxy.browser());
    browser.log_in("alice").await;
    other.log_in("alice").await;
    let mut streams = Vec::new();
    for browser in [&browser, &other] {
        let mut raw = proxy.raw().await;
        raw.send(get("/events", browser)).await;
        raw.read_until(b"data: 1\n\n").await;
        streams.push(raw);
    }
    let (mut theirs, mut ours) = (streams.pop().unwrap(), streams.pop().unwrap());
    // The same over HTTP/2, where the connection goes on without the stream.
    let mut kept = Kept::http2(proxy.addr, "localhost").await;
    let cookie = format!("__Host-sid={}", browser.token());
    let cookies = [cookie.as_str()];
    let (stream, ended) = tokio::join!(
        kept.try_request((Method::GET, "/events"), &cookies, &[], ""),
        async {
            while app.requests().len() < 3 {
                tokio::task::yield_now().await;
            }
            browser.log_out().await
        }
    );
    assert_eq!(ended.status, 200);
    assert!(stream.is_none(), "it was cut off");
    let rest = String::from_utf8(ours.rest().await).unwrap();
    assert!(
        !rest.contains("0\r\n\r\n"),
        "it does not look complete: {rest:?}"
    );
    assert_eq!(kept.get("/", &[&cookie]).await.status, 401);
    let more = tokio::time::timeout(std::time::Duration::from_millis(300), theirs.status()).await;
    assert!(more.is_err(), "another session's stream goes on");
}

#[tokio::test]
async fn a_long_transfer_is_cut_off_with_its_session() {
    const LEN: usize = 32 * 1024 * 1024;
    let app = upstream(|_| Reply::ok(vec![b'x'; LEN])).await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    let mut raw = proxy.raw().await;
    raw.send(get("/download", &browser)).await;
    let head = raw.head().await;
    assert!(
        head.contains(&format!("content-length: {LEN}\r\n")),
        "{head}"
    );
    raw.read_exact(100_000).await;
    assert_eq!(browser.log_out().await.status, 200);
    let rest = raw.rest().await.len();
    assert!(rest + 100_000 < LEN, "{rest} bytes came after that");
}

async fn app() -> Upstream {
    upstream(|_| Reply::ok("hello")).await
}

async fn form_token(browser: &mut Browser) -> String {
    let page: Answer = browser.open("/.doorward/logout").await;
    page.field("token")
}

fn get(path: &str, browser: &Browser) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {}\r\ncookie: __Host-sid={}\r\n\r\n",
        browser.authority(),
        browser.token()
    )
}

fn upgrade(browser: &Browser) -> String {
    format!(
        "GET /socket HTTP/1.1\r\nhost: {0}\r\norigin: https://{0}\r\ncookie: __Host-sid={1}\r\n\
         connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        browser.authority(),
        browser.token()
    )
}

async fn echo(socket: &mut Raw) {
    socket.send("ping").await;
    assert_eq!(socket.read_exact(4).await, b"ping");
}

fn events(audit: &[serde_json::Value]) -> Vec<String> {
    let named = audit.iter().map(|line| line["event"].as_str().unwrap());
    named.map(str::to_owned).collect()
}
