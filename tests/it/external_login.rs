//! An app's own login page as the login: who is believed, who is not, and what the app and the browser get to see.

use std::fmt::Write as _;
use std::time::Duration;

use http::{Method, Request};
use http_body_util::Full;

use crate::chromium::look;
use crate::support::{
    Answer, Browser, Chromium, PASSWORD, Process, Proxy, ProxyBuilder, Recorded, Reply, Upstream,
    eventually, manual, proxy, upstream,
};

const PROVIDER: &str = "[[provider]]\nid = \"wiki\"\ntype = \"external\"\nlogin_url = \"/login\"\n";
const LOGIN: &str = "access = \"public\"\nmay_log_in = \"wiki\"";
const LOGOUT: &str = "\nlogout = { paths = [\"/logout\"] }\non_end = { path = \"/logout\" }";
const WIKI: &str = "access = \"user\"\nprovider = \"wiki\"";

/// A legacy app: whoever sends its form is logged in as the user that the form names. Request fields say what else goes along
/// with the answer: `x-line` whole lines, `x-status` and `x-type`.
async fn app() -> Upstream {
    upstream(|request: &Recorded| {
        let mut fields = String::new();
        for line in request.all("x-line") {
            write!(fields, "{line}\r\n").unwrap();
        }
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let user = body.strip_prefix("user=");
        if let Some(user) = user {
            write!(
                fields,
                "Doorward-Login: user=\"{user}\", groups=(staff)\r\n"
            )
            .unwrap();
            fields.push_str(
                "Set-Cookie: app=its-own; Secure; HttpOnly; Path=/\r\nLocation: /home\r\n",
            );
        }
        let default = if user.is_some() { "302" } else { "200" };
        let status = request.all("x-status").first().copied().unwrap_or(default);
        Reply::with(status.parse().unwrap(), &fields, "the app's page")
    })
    .await
}

fn with_login(app: &Upstream) -> ProxyBuilder {
    login_of(&app.url())
}

fn login_of(url: &str) -> ProxyBuilder {
    proxy()
        .provider(PROVIDER)
        .route("/login", url, LOGIN)
        .route("/", url, WIKI)
}

/// Sends the app's form from a page of the same origin, with further fields.
async fn send(browser: &mut Browser, fields: &[(&str, &str)], body: &str) -> Answer {
    let origin = format!("https://{}", browser.authority());
    let mut all = vec![
        ("origin", origin.as_str()),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    all.retain(|(name, _)| !fields.iter().any(|(own, _)| own == name));
    all.extend(
        fields
            .iter()
            .copied()
            .filter(|(_, value)| !value.is_empty()),
    );
    browser.request(Method::POST, "/login", &all, body).await
}

async fn logged_in(proxy: &Proxy, user: &str) -> Browser {
    let mut browser = proxy.browser();
    let answer = send(&mut browser, &[], &format!("user={user}")).await;
    assert_eq!(answer.status, 302, "{}", answer.text());
    assert_eq!(browser.token().len(), 43);
    browser
}

/// Whom the app is told of; nobody where the browser is sent to log in.
async fn known_as(browser: &mut Browser, app: &Upstream) -> Option<String> {
    let before = app.requests().len();
    let answer = browser.fetch("/").await;
    if answer.status == 401 {
        assert_eq!(app.requests().len(), before);
        return None;
    }
    assert_eq!(answer.status, 200);
    Some(app.last().one("remote-user").to_owned())
}

fn no_word_of_it(answer: &Answer) {
    let named = answer
        .headers
        .keys()
        .find(|name| name.as_str().starts_with("doorward-"));
    assert_eq!(named, None);
}

#[tokio::test]
async fn a_person_is_led_to_the_apps_page_and_back_to_the_page_that_was_asked_for() {
    let app = app().await;
    for http2 in [false, true] {
        let proxy = with_login(&app).start();
        let mut browser = proxy.browser();
        browser.http2 = http2;
        let form = browser.follow("/wiki?x=1&y=%2F").await;
        assert_eq!(
            (form.status.as_u16(), form.text().as_str()),
            (200, "the app's page")
        );
        assert_eq!(app.last().line(), "GET /login HTTP/1.1");
        assert_eq!(app.last().all("cookie"), [""; 0], "what is ours");
        assert_eq!(browser.jar.len(), 2, "{:?}", browser.jar.keys());

        let answer = browser.submit("/login", &[("user", "alice")]).await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        assert_eq!(answer.header("location"), "/wiki?x=1&y=%2F");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.text(), "");
        no_word_of_it(&answer);
        assert_eq!(browser.token().len(), 43);
        assert_eq!(browser.jar["app"], "its-own");
        let names: Vec<&str> = browser.jar.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["__Host-sid", "__Host-sid-browser", "app"],
            "nothing is pending"
        );

        assert_eq!(browser.open("/wiki?x=1&y=%2F").await.status, 200);
        let told = app.last();
        assert_eq!(told.one("remote-user"), "alice");
        assert_eq!(told.one("remote-groups"), "staff");
        assert_eq!(told.one("cookie"), "app=its-own");
        let event = proxy.audited("login_succeeded").await;
        assert_eq!(
            (&event["provider"], &event["user"]),
            (&"wiki".into(), &"alice".into())
        );
        assert_eq!(event["address"], "127.0.0.1");
        let who = browser.fetch("/.doorward/session").await.json();
        assert_eq!(
            (&who["user"], &who["provider"]),
            (&"alice".into(), &"wiki".into())
        );
    }
}

#[tokio::test]
async fn a_page_that_is_told_where_to_go_on_to_leads_there_itself() {
    let app = app().await;
    let provider = format!("{PROVIDER}name = \"The wiki\"\nreturn_parameter = \"next\"");
    let proxy = proxy()
        .provider(&provider)
        .route("/login", &app.url(), LOGIN)
        .app(&app.url())
        .start();
    let mut browser = proxy.browser();
    let chooser = browser.follow("/a?b=1").await;
    assert!(chooser.text().contains("The wiki"), "{}", chooser.text());
    // Two tabs at once, each with its own page.
    for page in ["/a?b=1", "/c"] {
        let encoded: String = url::form_urlencoded::byte_serialize(page.as_bytes()).collect();
        let there = format!("/.doorward/login?return_to={encoded}&provider=wiki");
        let away = browser.open(&there).await;
        assert_eq!(away.header("location"), format!("/login?next={encoded}"));
    }
    for page in ["Location: /a?b=1", "Location: /c"] {
        let answer = send(&mut browser, &[("x-line", page)], "user=").await;
        assert_eq!(
            answer.status, 502,
            "an app that does not know whom it has logged in"
        );
        let said = [
            ("x-line", page),
            ("x-status", "303"),
            ("x-line", "Doorward-Login: user=alice"),
        ];
        let answer = send(&mut browser, &said, "").await;
        assert_eq!(answer.status, 303);
        assert_eq!(
            answer.header("location"),
            page.trim_start_matches("Location: ")
        );
        assert_eq!(known_as(&mut browser, &app).await.unwrap(), "alice");
    }
    // A script that logs in gets the app's answer, whoever leads.
    let mut script = proxy.browser();
    let said = [
        ("x-line", "Doorward-Login: user=bob"),
        ("sec-fetch-mode", "cors"),
    ];
    let answer = send(&mut script, &said, "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (200, "the app's page")
    );
    assert_eq!(known_as(&mut script, &app).await.unwrap(), "bob");
}

#[tokio::test]
async fn a_login_page_of_one_host_serves_the_others() {
    let app = app().await;
    let provider = PROVIDER.replace("\"/login\"", "\"https://wiki.example.test/login\"");
    let proxy = proxy()
        .provider(&provider)
        .with("session", "domain = \"example.test\"")
        .route_at("wiki.example.test", "/", &app.url(), LOGIN)
        .route_at("shop.example.test", "/", &app.url(), WIKI)
        .start();
    let port = proxy.addr.port();
    let request = Request::get("/.doorward/login?provider=wiki&return_to=/cart")
        .header("host", format!("shop.example.test:{port}"))
        .body(Full::default())
        .unwrap();
    let away = proxy.browser().send(request).await;
    assert_eq!(
        away.header("location"),
        format!(
            "https://wiki.example.test:{port}/.doorward/login?return_to=https%3A%2F%2Fshop.example.test%3A{port}%2Fcart&provider=wiki"
        )
    );
    assert_eq!(away.set_cookies(), [""; 0]);
}

#[tokio::test]
async fn nobody_else_says_who_has_logged_in() {
    let app = app().await;
    let proxy = with_login(&app)
        .route("/plain", &app.url(), "access = \"public\"")
        .start();
    let mut browser = proxy.browser();
    for name in ["Doorward-Login", "doorward-login", "Doorward_Login"] {
        let answer = send(&mut browser, &[(name, "user=mallory")], "").await;
        assert_eq!(answer.status, 200);
        assert_eq!(browser.token(), "");
        assert_eq!(app.last().folded("doorward-login"), [""; 0]);
    }
    // An app whose route does not let it.
    let origin = format!("https://{}", browser.authority());
    let fields = [
        ("x-line", "Doorward-Login: user=mallory"),
        ("origin", &origin),
    ];
    for method in [Method::GET, Method::POST] {
        let answer = browser.request(method, "/plain", &fields, "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (200, "the app's page")
        );
        no_word_of_it(&answer);
        assert_eq!(answer.set_cookies(), [""; 0]);
    }
    let mut alice = logged_in(&proxy, "alice").await;
    let answer = alice.request(Method::POST, "/wiki", &fields, "").await;
    no_word_of_it(&answer);
    assert_eq!(known_as(&mut alice, &app).await.unwrap(), "alice");
    // In trailers nothing is said at all.
    let late = upstream(|_| {
        let head =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: doorward-login\r\n\r\n";
        Reply::Bytes(
            format!("{head}2\r\nok\r\n0\r\nDoorward-Login: user=mallory\r\n\r\n").into_bytes(),
        )
    })
    .await;
    let proxy = with_login(&late).start();
    let mut browser = proxy.browser();
    let answer = send(&mut browser, &[("te", "trailers")], "").await;
    assert_eq!((answer.text().as_str(), browser.token()), ("ok", ""));
}

#[tokio::test]
async fn what_an_app_says_in_any_unclear_way_logs_nobody_in() {
    const LINES: &[&[u8]] = &[
        b"",
        b"alice",
        b"\"alice\"",
        b"user",
        b"user=\"\"",
        b"user=\" alice\"",
        b"user=\"alice",
        b"user=\"al\xc3\xbcce\"",
        b"user=\"al\xfcce\"",
        b"user=%\"alice%0d%0a\"",
        b"user=%\"alice%00\"",
        b"user=%\"alice%ff\"",
        b"user=alice, user=admin",
        b"user=alice\r\nDoorward-Login: user=admin",
        b"user=alice\r\ndoorward-login: groups=(admin)",
        b"user=alice, role=admin",
        b"user=alice, groups=\"staff\"",
        b"user=alice, groups=(staff",
        b"user=alice;groups=staff",
        b"user=(alice)",
        b"user=42",
        b"user=alice,",
        b"User=alice",
        b"name=\"Alice\"",
    ];
    let huge = format!("user=\"{}\"", "x".repeat(257));
    let vast = format!("user=alice, groups=({}staff)", "staff ".repeat(700));
    let mut lines = LINES.to_vec();
    lines.extend([huge.as_bytes(), vast.as_bytes()]);
    let lines: Vec<Vec<u8>> = lines.iter().map(|line| line.to_vec()).collect();
    let count = lines.len();
    let app = upstream(move |request: &Recorded| {
        let said = match request.all("x-case").first() {
            Some(number) => &lines[number.parse::<usize>().unwrap()],
            None => &b"user=alice"[..],
        };
        let mut answer = b"HTTP/1.1 200 X\r\ncontent-length: 6\r\nSet-Cookie: app=1; Secure; HttpOnly; Path=/\r\nDoorward-Login: ".to_vec();
        answer.extend_from_slice(said);
        answer.extend_from_slice(b"\r\n\r\nsecret");
        Reply::Bytes(answer)
    })
    .await;
    let proxy = with_login(&app).start();
    let mut browser = proxy.browser();
    browser.open("/.doorward/login?provider=wiki").await;
    for case in 0..count {
        let answer = send(&mut browser, &[("x-case", &case.to_string())], "").await;
        assert_eq!(answer.status, 502, "{case}");
        assert!(!answer.text().contains("secret"), "{case}");
        no_word_of_it(&answer);
        assert_eq!(browser.token(), "", "{case}");
        assert!(!browser.jar.contains_key("app"), "{case}");
    }
    let events = proxy.audited_times("login_stranded", count).await;
    assert!(
        events
            .iter()
            .all(|event| event["cause"] == "provider_unbelievable")
    );
    assert_eq!(proxy.sessions().stored().await.unwrap(), 0);
    let answer = send(&mut browser, &[], "").await;
    assert_eq!(answer.status, 303);
    assert_eq!(browser.token().len(), 43);
}

#[tokio::test]
async fn only_a_whole_answer_that_went_well_logs_in() {
    let app = app().await;
    let proxy = with_login(&app).start();
    let mut browser = proxy.browser();
    browser.open("/.doorward/login?provider=wiki").await;
    let said = ("x-line", "Doorward-Login: user=alice");
    for fields in [
        [said, ("x-status", "401")],
        [said, ("x-status", "403")],
        [said, ("x-status", "500")],
        [said, ("x-line", "Content-Type: text/event-stream")],
        [
            said,
            ("x-line", "Content-Type: Text/Event-Stream; charset=utf-8"),
        ],
        [said, ("x-line", "Content-Type: application/grpc+proto")],
    ] {
        let answer = send(&mut browser, &fields, "").await;
        assert_eq!(answer.text(), "the app's page", "{fields:?}");
        no_word_of_it(&answer);
        assert_eq!(browser.token(), "", "{fields:?}");
    }
    let same = [said, ("sec-fetch-site", "same-origin")];
    for method in [Method::HEAD, Method::OPTIONS] {
        let answer = browser.request(method.clone(), "/login", &same, "").await;
        assert_eq!(answer.status, 200, "{method}");
        no_word_of_it(&answer);
        assert_eq!(browser.token(), "", "{method}");
    }
    assert_eq!(proxy.sessions().stored().await.unwrap(), 0);

    // Neither does a WebSocket, nor a word that comes before the answer.
    let app = manual();
    let proxy = login_of(&app.url()).start();
    let (port, origin) = (
        proxy.addr.port(),
        format!("https://localhost:{}", proxy.addr.port()),
    );
    let says = "Doorward-Login: user=alice\r\n";
    let mut client = proxy.raw().await;
    let socket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let asked = format!(
        "GET /login HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: {origin}\r\n{socket}\r\n"
    );
    client.send(asked.as_bytes()).await;
    let mut wire = app.accept().await;
    wire.head().await;
    let accept = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    wire.send(format!(
        "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{accept}\r\n{says}\r\n"
    ))
    .await;
    let head = client.head().await.to_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(
        !head.contains("set-cookie") && !head.contains("doorward-login"),
        "{head}"
    );

    let mut client = proxy.raw().await;
    let asked = format!(
        "POST /login HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: {origin}\r\nContent-Length: 0\r\n\r\n"
    );
    client.send(asked.as_bytes()).await;
    let mut wire = app.accept().await;
    wire.head().await;
    wire.send(format!(
        "HTTP/1.1 103 Early Hints\r\n{says}\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    ))
    .await;
    let (head, body) = client.response().await;
    let head = head.to_lowercase();
    assert_eq!(body, b"ok");
    assert!(
        !head.contains("set-cookie") && !head.contains("doorward-login"),
        "{head}"
    );
    assert_eq!(proxy.sessions().stored().await.unwrap(), 0);
}

#[tokio::test]
async fn no_other_site_logs_anybody_in() {
    let app = app().await;
    let proxy = with_login(&app).start();
    let evil = "https://evil.example";
    let own = format!("https://localhost:{}", proxy.addr.port());
    // Nothing is pending: the request has to say that it is ours.
    let mut stranger = proxy.browser();
    for fields in [
        &[("origin", evil), ("sec-fetch-site", "cross-site")][..],
        &[("origin", "null"), ("sec-fetch-site", "cross-site")],
        &[
            ("origin", "https://www.localhost"),
            ("sec-fetch-site", "same-site"),
        ],
        &[("origin", own.as_str()), ("sec-fetch-site", "cross-site")],
        &[("origin", evil), ("sec-fetch-site", "same-origin")],
        &[("origin", ""), ("sec-fetch-site", "cross-site")],
        &[("origin", ""), ("sec-fetch-site", "none")],
        &[("origin", ""), ("sec-fetch-site", "")],
        &[("origin", evil), ("sec-fetch-site", "")],
    ] {
        refuses(&mut stranger, Method::POST, fields).await;
    }
    // Nor does a login that the other site has made the browser begin, whatever cookies come along.
    let mut victim = proxy.browser();
    victim.open("/.doorward/login?provider=wiki").await;
    assert!(victim.jar.contains_key("__Host-sid-login"));
    for fields in [
        &[("origin", evil), ("sec-fetch-site", "cross-site")][..],
        &[
            ("origin", "https://www.localhost"),
            ("sec-fetch-site", "same-site"),
        ],
        &[("origin", "null"), ("sec-fetch-site", "")],
        &[("origin", ""), ("sec-fetch-site", "cross-site")],
    ] {
        refuses(&mut victim, Method::POST, fields).await;
        refuses(&mut victim, Method::GET, fields).await;
    }
    // A link of a browser that does not tell where it was.
    refuses(
        &mut victim,
        Method::GET,
        &[("origin", ""), ("sec-fetch-site", "")],
    )
    .await;
    // Nobody who is logged in becomes somebody else by it.
    let mut alice = logged_in(&proxy, "alice").await;
    let token = alice.token().to_owned();
    let fields = [("origin", evil), ("sec-fetch-site", "cross-site")];
    refuses(&mut alice, Method::POST, &fields).await;
    assert_eq!(alice.token(), token);
    assert_eq!(known_as(&mut alice, &app).await.unwrap(), "alice");
    assert_eq!(proxy.sessions().stored().await.unwrap(), 1);
    let event = proxy.audited("cross_site_refused").await;
    assert_eq!(event["place"], "localhost/login");

    // A login that began here does not need words of an old browser, but for a link.
    for (method, fields) in [
        (Method::POST, [("origin", ""), ("sec-fetch-site", "")]),
        (Method::GET, [("origin", ""), ("sec-fetch-site", "none")]),
        (
            Method::GET,
            [("origin", ""), ("sec-fetch-site", "same-origin")],
        ),
    ] {
        let mut browser = proxy.browser();
        browser.open("/.doorward/login?provider=wiki").await;
        let answer = attempt(&mut browser, method.clone(), &fields).await;
        assert_eq!(answer.status, 303, "{method} {fields:?} {}", answer.text());
        assert_eq!(browser.token().len(), 43);
    }
}

/// What the app answers logs mallory in, if anything does.
async fn attempt(browser: &mut Browser, method: Method, fields: &[(&str, &str)]) -> Answer {
    let mut all = vec![
        ("x-line", "Doorward-Login: user=mallory"),
        (
            "x-line",
            "Set-Cookie: app=mallorys; Secure; HttpOnly; Path=/",
        ),
        ("sec-fetch-mode", "navigate"),
    ];
    all.extend(
        fields
            .iter()
            .copied()
            .filter(|(_, value)| !value.is_empty()),
    );
    browser.request(method, "/login", &all, "").await
}

async fn refuses(browser: &mut Browser, method: Method, fields: &[(&str, &str)]) {
    let token = browser.token().to_owned();
    let answer = attempt(browser, method.clone(), fields).await;
    assert_eq!(answer.status, 403, "{method} {fields:?}");
    assert!(!answer.text().contains("the app's page"));
    no_word_of_it(&answer);
    assert_eq!(browser.token(), token, "{method} {fields:?}");
    assert_ne!(browser.jar.get("app").map(String::as_str), Some("mallorys"));
}

#[tokio::test]
async fn a_pending_login_counts_in_its_own_browser_and_for_its_own_provider_and_time() {
    let app = app().await;
    let other = PROVIDER.replace("wiki", "other");
    let proxy = proxy()
        .provider(PROVIDER)
        .provider(&other)
        .route("/login", &app.url(), LOGIN)
        .route(
            "/other",
            &app.url(),
            "access = \"public\"\nmay_log_in = \"other\"",
        )
        .start();
    let begun = async |provider: &str| {
        let mut browser = proxy.browser();
        browser
            .open(&format!("/.doorward/login?provider={provider}"))
            .await;
        browser
    };
    let silent = [("origin", ""), ("sec-fetch-site", "")];
    let mut thief = proxy.browser();
    thief.jar = begun("wiki").await.jar;
    let (_, mine) = begun("wiki")
        .await
        .jar
        .remove_entry("__Host-sid-browser")
        .unwrap();
    thief.jar.insert("__Host-sid-browser".to_owned(), mine);
    refuses(&mut thief, Method::POST, &silent).await;
    let mut of_another = begun("other").await;
    refuses(&mut of_another, Method::POST, &silent).await;
    let mut forged = begun("wiki").await;
    forged
        .jar
        .insert("__Host-sid-login".to_owned(), "forged".to_owned());
    refuses(&mut forged, Method::POST, &silent).await;
    let mut late = begun("wiki").await;
    let mut soon = late.clone();
    proxy.clock.advance(Duration::from_mins(59));
    assert_eq!(attempt(&mut soon, Method::POST, &silent).await.status, 303);
    proxy.clock.advance(Duration::from_mins(1));
    refuses(&mut late, Method::POST, &silent).await;
}

#[tokio::test]
async fn who_logs_in_as_somebody_else_leaves_the_session_behind() {
    let app = app().await;
    let proxy = proxy()
        .provider(PROVIDER)
        .route(
            "/login",
            &app.url(),
            &format!("{LOGIN}\ncache = \"private\""),
        )
        .route("/", &app.url(), WIKI)
        .with("session", "mode = \"jwt\"")
        .start();
    let mut browser = logged_in(&proxy, "alice").await;
    assert_eq!(known_as(&mut browser, &app).await.unwrap(), "alice");
    let before = browser.clone();
    // The same again: the same session, under a new token.
    let sid = browser.fetch("/.doorward/session").await.json()["sid"].clone();
    send(&mut browser, &[], "user=alice").await;
    assert_ne!(browser.token(), before.token());
    assert_eq!(browser.fetch("/.doorward/session").await.json()["sid"], sid);
    proxy.audited("reauthenticated").await;

    let mut alices = browser.clone();
    assert!(alices.jar.contains_key("__Host-sid-jwt"));
    send(&mut browser, &[], "user=bob").await;
    assert_ne!(browser.token(), alices.token());
    assert!(
        !browser.jar.contains_key("__Host-sid-jwt"),
        "it would be hers"
    );
    assert_eq!(known_as(&mut browser, &app).await.unwrap(), "bob");
    alices.jar.remove("__Host-sid-jwt");
    assert_eq!(known_as(&mut alices, &app).await, None);
    assert_eq!(proxy.audited("session_ended").await["reason"], "replaced");
    assert_eq!(proxy.sessions().stored().await.unwrap(), 1);
}

#[tokio::test]
async fn the_rules_of_sessions_hold_for_users_of_an_app() {
    let app = app().await;
    let limits = "max_per_user = 1\non_limit = \"deny\"";
    let proxy = with_login(&app).with("session", limits).start();
    let mut alice = logged_in(&proxy, "alice").await;
    let mut second = proxy.browser();
    let answer = send(&mut second, &[], "user=alice").await;
    assert_eq!(answer.status, 403);
    assert_eq!((second.token(), second.jar.get("app")), ("", None));
    // Somebody of the same name elsewhere is somebody else.
    let mut local = proxy.browser();
    let form = "/.doorward/login?provider=local";
    assert_eq!(local.log_in_at(form, "alice", PASSWORD).await.status, 303);
    assert_eq!(known_as(&mut local, &app).await, None);
    assert_eq!(known_as(&mut alice, &app).await.unwrap(), "alice");
    proxy.audited("session_limit_reached").await;
    alice.log_out().await;
    assert_eq!(known_as(&mut alice, &app).await, None);
    assert_eq!(send(&mut second, &[], "user=alice").await.status, 302);
}

#[tokio::test]
async fn the_answer_that_ends_another_session_comes_whole() {
    const LEN: usize = 4 * 1024 * 1024;
    let app = upstream(|request: &Recorded| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let said = format!("Doorward-Login: {body}\r\n");
        Reply::with(
            200,
            if body.is_empty() { "" } else { &said },
            vec![b'x'; LEN],
        )
    })
    .await;
    let open = format!("{LOGIN}\nlogout = {{ paths = [\"/login/out\"] }}");
    let provider = format!("{PROVIDER}return_parameter = \"next\"\n");
    let proxy = proxy()
        .provider(&provider)
        .route("/login", &app.url(), &open)
        .start();
    let mut browser = proxy.browser();
    for user in ["user=alice", "user=bob"] {
        assert_eq!(
            send(&mut browser, &[], user).await.body.len(),
            LEN,
            "{user}"
        );
    }
    let fields = [("sec-fetch-site", "same-origin")];
    let answer = browser
        .request(Method::GET, "/login/out", &fields, "")
        .await;
    assert_eq!(answer.body.len(), LEN);
    assert_eq!(browser.token(), "");
}

/// Remembers in its own cookie who somebody is, from before the login on, and changes it at the login where it is told to.
async fn cookied() -> Upstream {
    upstream(|request: &Recorded| {
        let set =
            |value: &str| format!("Set-Cookie: JSESSIONID={value}; Path=/; Secure; HttpOnly\r\n");
        match (request.line(), request.body.as_slice()) {
            ("GET /login HTTP/1.1", _) => Reply::with(200, &set("before"), "form"),
            (_, b"keep") => Reply::with(200, "Doorward-Login: user=alice\r\n", "in"),
            (_, b"change") => {
                let said = format!("Doorward-Login: user=alice\r\n{}", set("after"));
                Reply::with(200, &said, "in")
            }
            _ => Reply::ok("page"),
        }
    })
    .await
}

#[tokio::test]
async fn the_apps_cookies_move_into_the_session_with_the_login() {
    let app = cookied().await;
    let jar = "\ncookie_jar = true";
    let proxy = proxy()
        .provider(PROVIDER)
        .route("/login", &app.url(), &format!("{LOGIN}{jar}"))
        .route("/", &app.url(), &format!("{WIKI}{jar}"))
        .start();
    for (how, kept) in [("keep", "before"), ("change", "after")] {
        let mut browser = proxy.browser();
        browser.open("/login").await;
        assert_eq!(
            browser.jar["JSESSIONID"], "before",
            "until there is a session"
        );
        let answer = send(&mut browser, &[], how).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(app.last().one("cookie"), "JSESSIONID=before");
        assert!(!browser.jar.contains_key("JSESSIONID"), "{:?}", browser.jar);
        assert_eq!(browser.token().len(), 43);
        assert_eq!(known_as(&mut browser, &app).await.unwrap(), "alice");
        assert_eq!(app.last().one("cookie"), format!("JSESSIONID={kept}"));
        // What the browser makes up does not reach the app any more, on the login page either.
        browser
            .jar
            .insert("JSESSIONID".to_owned(), "evil".to_owned());
        let answer = browser.open("/login").await;
        assert!(
            !answer
                .set_cookies()
                .iter()
                .any(|cookie| cookie.contains("JSESSIONID"))
        );
        assert_eq!(app.last().one("cookie"), format!("JSESSIONID={kept}"));
    }
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn without_the_store_nobody_is_logged_in_and_nothing_is_believed() {
    let server = crate::support::RedisProcess::own(&[]).await;
    let app = app().await;
    let url = format!("redis://127.0.0.1:{}", server.port);
    let store = format!("backend = \"redis\"\nurl = \"{url}\"\ntimeout = \"500ms\"");
    let proxy = with_login(&app).store(store).start();
    let mut alice = logged_in(&proxy, "alice").await;
    assert_eq!(known_as(&mut alice, &app).await.unwrap(), "alice");
    let mut stranger = proxy.browser();
    stranger.open("/.doorward/login?provider=wiki").await;
    let pause: [&[u8]; 4] = [b"CLIENT", b"PAUSE", b"20000", b"WRITE"];
    server.tell(&pause).await;
    for browser in [&mut stranger, &mut alice] {
        let token = browser.token().to_owned();
        let answer = send(browser, &[], "user=bob").await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("retry-after"), "5");
        assert!(!answer.text().contains("the app's page"));
        no_word_of_it(&answer);
        assert_eq!(browser.token(), token);
    }
    assert_eq!(stranger.jar.get("app"), None);
    assert_eq!(known_as(&mut alice, &app).await.unwrap(), "alice");
    // Whoever may have a session is not taken for somebody who has none.
    server.tell(&[b"CLIENT", b"PAUSE", b"20000", b"ALL"]).await;
    let mut unknown = proxy.browser();
    let token = "A".repeat(43);
    unknown.jar.insert("__Host-sid".to_owned(), token);
    let before = app.requests().len();
    assert_eq!(send(&mut unknown, &[], "user=bob").await.status, 503);
    assert_eq!(app.requests().len(), before);
}

/// A wiki of old: a form, a cookie that knows the user, and a page for whom it knows.
async fn old_wiki() -> Upstream {
    upstream(|request: &Recorded| {
        let html = |fields: &str, body: &str| {
            let fields = format!("content-type: text/html\r\n{fields}");
            Reply::with(200, &fields, format!("<!doctype html><title>Wiki</title>{body}"))
        };
        let cookie = |value: &str| format!("Set-Cookie: JSESSIONID={value}; Path=/\r\n");
        let form = "<h1>Wiki login</h1><form method=post><input name=user><input name=password type=password><button>In</button></form>";
        let path = request.line().split(' ').nth(1).unwrap();
        let is_in = |user: &str| request.all("cookie").contains(&format!("JSESSIONID={user}").as_str());
        match (path.split('?').next().unwrap(), &request.body[..]) {
            ("/evil", _) => html("", &format!("<h1>Evil</h1><form method=post action=\"{}/login\"><input type=hidden name=user value=mallory><input type=hidden name=password value=right><button>Win</button></form>", path.split_once('?').unwrap().1)),
            ("/login", b"") => html(&cookie("stranger"), form),
            ("/login", b"user=jane&password=right") if is_in("stranger") => {
                let next = path.split_once("next=").unwrap().1;
                let next = percent_encoding::percent_decode_str(next).decode_utf8().unwrap();
                let said = format!("{}Doorward-Login: user=\"jane\"\r\nLocation: {next}\r\n", cookie("jane"));
                Reply::with(302, &said, "")
            }
            ("/login", b"user=mallory&password=right") => Reply::with(302, "Doorward-Login: user=mallory\r\nLocation: /\r\n", ""),
            ("/login", _) => html("", &format!("{form}<p>Wrong</p>")),
            ("/logout", _) => html(&cookie("nobody"), "<h1>Bye</h1>"),
            _ if is_in("jane") => html("", &format!("<h1>Hello, {}</h1><a href=/logout>Leave</a>", request.one("remote-user"))),
            _ => html("", "<h1>The wiki does not know you</h1>"),
        }
    })
    .await
}

#[tokio::test]
async fn a_person_logs_in_with_the_old_wikis_own_form() {
    let app = old_wiki().await;
    let jar = "\ncookie_jar = true";
    let folder = proxy()
        .provider(&format!("{PROVIDER}return_parameter = \"next\"\n"))
        .route("/login", &app.url(), &format!("{LOGIN}{jar}"))
        .route("/", &app.url(), &format!("{WIKI}{jar}{LOGOUT}"))
        .route("/all", &app.url(), "access = \"user\"")
        .prepare();
    let file = folder.path().join("doorward.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    // The browser believes no certificate that no authority has signed.
    let own = "certificates = [{ cert = \"site.pem\", key = \"site.key\" }]";
    std::fs::write(&file, text.replace(own, "self_signed = true")).unwrap();
    let mut process = Process::start(folder.path(), &["run", "--config", "doorward.toml"]);
    let origin = format!("https://localhost:{}", process.addr().await.port());
    let authority = folder.path().join("certs/ca.pem");
    let browser = Chromium::trusting(folder.path(), &authority, true).await;

    browser.open(&format!("{origin}/page?a=1&b=2")).await;
    browser.until_heading("Wiki login").await;
    let there = format!("{origin}/login?next=%2Fpage%3Fa%3D1%26b%3D2");
    assert_eq!(browser.url().await, there);
    for (password, heading) in [("wrong", "Wiki login"), ("right", "Hello, jane")] {
        browser.fill("input[name=user]", "jane").await;
        browser.fill("input[name=password]", password).await;
        browser.click("button").await;
        browser.until_heading(heading).await;
    }
    assert_eq!(browser.url().await, format!("{origin}/page?a=1&b=2"));
    let cookies = browser.client.get_all_cookies().await.unwrap();
    let is_there = |name: &str| cookies.iter().any(|cookie| cookie.name() == name);
    assert!(
        is_there("__Host-sid") && !is_there("JSESSIONID"),
        "{cookies:?}"
    );

    // Another site sends the form with an account of its own.
    browser.open(&format!("{}/evil?{origin}", app.url())).await;
    browser.until_heading("Evil").await;
    browser.click("button").await;
    browser.until_heading("This came from somewhere else").await;
    look(&browser, "login-from-elsewhere").await;
    browser.open(&origin).await;
    browser.until_heading("Hello, jane").await;

    // The wiki's own logout is ours, and ours is the wiki's.
    browser.follow("Leave").await;
    browser.until_heading("Bye").await;
    browser.open(&format!("{origin}/page")).await;
    browser.until_heading("Wiki login").await;
    browser.fill("input[name=user]", "jane").await;
    browser.fill("input[name=password]", "right").await;
    browser.click("button").await;
    browser.until_heading("Hello, jane").await;
    browser.open(&format!("{origin}/.doorward/logout")).await;
    browser.click("form button").await;
    browser.until_heading("You are logged out").await;
    let is_farewell = |request: &Recorded| request.line() == "POST /logout HTTP/1.1";
    eventually("the wiki is told", async || {
        app.requests().iter().any(is_farewell)
    })
    .await;
    let told = app.requests().into_iter().filter(is_farewell);
    let cookies: Vec<String> = told.map(|told| told.one("cookie").to_owned()).collect();
    assert_eq!(cookies, ["JSESSIONID=jane"]);

    // The fragment is there after the choice of a way, too.
    browser.client.delete_all_cookies().await.unwrap();
    browser
        .open(&format!(
            "{origin}/.doorward/login?return_to=%2Fall%3Fa%3D1#part/2"
        ))
        .await;
    browser.until("button[value=local]").await;
    browser.click("button[value=local]").await;
    browser.until("#password").await;
    browser.fill("#user", "alice").await;
    browser.fill("#password", PASSWORD).await;
    browser.click("button").await;
    browser.until_heading("The wiki does not know you").await;
    assert_eq!(browser.url().await, format!("{origin}/all?a=1#part/2"));
    browser.close().await;
}
