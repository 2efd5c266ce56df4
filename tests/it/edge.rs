//! A node with `mode = "edge"`: it holds public keys and nothing else, and the node with the store renews. Browsers know the
//! one as `app.example.test`, the other as `localhost`.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use doorward::config::{self, Missing};
use http::Request;
use http_body_util::Full;
use parking_lot::Mutex;

use crate::support::{
    Answer, Browser, Proxy, Reply, Upstream, add_user, certificate, eventually, proxy, upstream,
};

const NAME: &str = "__Host-sid-jwt";
const LIFETIME: Duration = Duration::from_mins(2);
/// A second less.
const ALMOST: Duration = Duration::from_secs(119);
const HOST: &str = "app.example.test";
const RENEW: &str = "https://localhost/.doorward/renew";

/// The node with the store, an edge node with its keys, and the app behind both.
async fn pair(readable: &str) -> (Proxy, Proxy, Upstream) {
    let app = upstream(|_| Reply::ok("hello")).await;
    let (main, edge) = pair_of(&app, readable).await;
    (main, edge, app)
}

async fn pair_of(app: &Upstream, readable: &str) -> (Proxy, Proxy) {
    let keys = format!(
        "mode = \"jwt\"\n[session.jwt]\nedges = [\"app.example.test\"]\nclaims = [{readable}]"
    );
    let main = proxy().app(&app.url()).with("session", &keys).start();
    let mut anybody = main.browser();
    let published = anybody.fetch("/.well-known/doorward/session-jwks.json");
    let published = published.await.text();
    let builder = at_edge(app, "keys.json");
    let folder = builder.prepare();
    std::fs::write(folder.path().join("keys.json"), published).unwrap();
    let edge = builder.within(folder).clock(&main.clock).start();
    (main, edge)
}

fn at_edge(app: &Upstream, keys: &str) -> crate::support::ProxyBuilder {
    proxy()
        .edge(&format!("keys = \"{keys}\"\nrenew = \"{RENEW}\""))
        .route_at(HOST, "/", &app.url(), "access = \"user\"")
        .route_at(
            HOST,
            "/staff",
            &app.url(),
            "access = { groups = [\"staff\"] }",
        )
        .route_at(HOST, "/public", &app.url(), "access = \"public\"")
}

/// Alice, with a ticket of the node with the store.
async fn alice(main: &Proxy) -> Browser {
    let mut alice = main.browser();
    alice.log_in("alice").await;
    assert_eq!(alice.fetch("/").await.status, 200);
    alice
}

async fn ask((node, host): (&Proxy, &str), path: &str, cookies: &str, mode: &str) -> Answer {
    let request = Request::get(path)
        .header("host", host)
        .header("accept", "text/html")
        .header("sec-fetch-mode", mode)
        .header("cookie", cookies)
        .body(Full::new(Bytes::new()));
    node.browser().send(request.unwrap()).await
}

async fn open(edge: &Proxy, path: &str, cookies: &str) -> Answer {
    ask((edge, HOST), path, cookies, "navigate").await
}

async fn open_main(main: &Proxy, path: &str, cookies: &str) -> Answer {
    ask((main, "localhost"), path, cookies, "navigate").await
}

fn cookies(browser: &Browser) -> String {
    let pairs = browser.jar.iter();
    let pairs: Vec<_> = pairs
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("; ")
}

fn ticket(browser: &Browser) -> String {
    format!("{NAME}={}", browser.jar[NAME])
}

/// What a response sets of a name, as it is sent back.
fn set(answer: &Answer, name: &str) -> String {
    let all = answer.set_cookies();
    let cookie = all.iter().find(|cookie| cookie.starts_with(name));
    cookie.unwrap().split(';').next().unwrap().to_owned()
}

fn local(location: &str) -> &str {
    location.strip_prefix("https://localhost").unwrap()
}

#[tokio::test]
async fn passwords_are_not_changed_at_an_edge_node() {
    let (main, edge, app) = pair("\"user\"").await;
    let alice = alice(&main).await;
    let before = app.requests().len();
    let page = open(&edge, "/.doorward/password", &cookies(&alice)).await;
    assert_eq!(page.status, 404);
    assert_eq!(app.requests().len(), before);
    // What password managers look for is the app's there.
    let place = "/.well-known/change-password";
    assert_eq!(open(&edge, place, &cookies(&alice)).await.status, 200);
    assert_eq!(app.last().line(), format!("GET {place} HTTP/1.1"));
}

#[tokio::test]
async fn a_ticket_opens_an_edge_node_as_far_as_it_says_who_it_is() {
    let (main, edge, app) = pair("\"user\", \"groups\"").await;
    let alice = alice(&main).await;
    assert_eq!(open(&edge, "/staff", &cookies(&alice)).await.status, 200);
    let told = app.last();
    assert_eq!(told.one("remote-user"), "alice");
    assert_eq!(told.one("remote-groups"), "staff");
    assert_eq!(told.one("remote-email"), "");
    assert!(told.all("cookie").is_empty());
    let who = ask((&edge, HOST), "/.doorward/session", &ticket(&alice), "cors").await;
    assert_eq!(who.json()["user"], "alice");
    let mut bob = main.browser();
    bob.log_in("bob").await;
    assert_eq!(bob.fetch("/").await.status, 200);
    assert_eq!(open(&edge, "/staff", &ticket(&bob)).await.status, 403);
    assert_eq!(open(&edge, "/", &ticket(&bob)).await.status, 200);
}

#[tokio::test]
async fn what_says_nobodys_name_opens_no_edge_node() {
    let (main, edge, app) = pair("").await;
    let alice = alice(&main).await;
    let before = app.requests().len();
    assert_eq!(open(&edge, "/", &ticket(&alice)).await.status, 303);
    assert_eq!(app.requests().len(), before);
}

#[tokio::test]
async fn whoever_has_no_ticket_is_sent_to_renew_and_comes_back() {
    let (main, edge, app) = pair("\"user\"").await;
    let alice = alice(&main).await;
    let away = open(&edge, "/page?x=1&y=2", "").await;
    assert_eq!(away.status, 303);
    let there = away.header("location").to_owned();
    assert_eq!(
        there,
        format!("{RENEW}?return_to=https%3A%2F%2Fapp.example.test%2Fpage%3Fx%3D1%26y%3D2")
    );
    main.clock.advance(LIFETIME);
    let back = open_main(&main, local(&there), &cookies(&alice)).await;
    assert_eq!(back.status, 303);
    assert_eq!(
        back.header("location"),
        "https://app.example.test/page?x=1&y=2"
    );
    let renewed = set(&back, NAME);
    assert_ne!(renewed, ticket(&alice));
    assert_eq!(open(&edge, "/page?x=1&y=2", &renewed).await.status, 200);
    assert!(app.last().line().contains("/page?x=1&y=2"));
    for (path, mode) in [("/", "cors"), ("/", "no-cors")] {
        let answer = ask((&edge, HOST), path, "", mode).await;
        assert_eq!(answer.status, 401);
        let url = answer.json()["login_url"].as_str().unwrap().to_owned();
        assert!(url.starts_with(RENEW), "{url}");
    }
    let login = open(&edge, "/.doorward/login?return_to=/a", "").await;
    assert!(
        login
            .header("location")
            .ends_with("return_to=https%3A%2F%2Fapp.example.test%2Fa")
    );
    let logout = open(&edge, "/.doorward/logout", "").await;
    assert_eq!(
        logout.header("location"),
        "https://localhost/.doorward/logout"
    );
    for place in ["renew", "sessions", "callback/local"] {
        assert_eq!(
            open(&edge, &format!("/.doorward/{place}"), "").await.status,
            404,
            "{place}"
        );
    }
}

#[tokio::test]
async fn whoever_has_to_log_in_anew_is_not_sent_back_with_the_session_that_there_is() {
    let (main, _edge, _app) = pair("\"user\"").await;
    let alice = cookies(&alice(&main).await);
    let away = "/.doorward/renew?return_to=https%3A%2F%2Fapp.example.test%2Fpage&prompt=login";
    let sent = open_main(&main, away, &alice).await;
    let login = "/.doorward/login?return_to=https%3A%2F%2Fapp.example.test%2Fpage&prompt=login";
    assert_eq!(sent.header("location"), login);
}

#[tokio::test]
async fn who_is_logged_in_nowhere_logs_in_first_and_nobody_is_sent_to_strangers() {
    let (main, _edge, _app) = pair("\"user\"").await;
    let away = "/.doorward/renew?return_to=https%3A%2F%2Fapp.example.test%2Fpage";
    let login = open_main(&main, away, "").await;
    assert_eq!(
        login.header("location"),
        "/.doorward/login?return_to=https%3A%2F%2Fapp.example.test%2Fpage"
    );
    let mut alice = main.browser();
    let welcome = alice
        .log_in_at(login.header("location"), "alice", crate::support::PASSWORD)
        .await;
    assert_eq!(welcome.header("location"), "https://app.example.test/page");
    for elsewhere in [
        "https://evil.example/",
        "https://app.example.test.evil.example/",
        "https://app.example.test:1/",
        "https://other.example.test/",
        "http://app.example.test/",
        "//evil.example/",
        "/.doorward/logout",
    ] {
        let query: String = url::form_urlencoded::byte_serialize(elsewhere.as_bytes()).collect();
        let away = format!("/.doorward/renew?return_to={query}");
        let back = open_main(&main, &away, &cookies(&alice)).await;
        assert_eq!(
            (back.status.as_u16(), back.header("location")),
            (303, "/"),
            "{elsewhere}"
        );
    }
}

#[tokio::test]
async fn an_end_reaches_an_edge_node_with_the_end_of_the_ticket_and_no_later() {
    let (main, edge, app) = pair("\"user\"").await;
    let mut alice = alice(&main).await;
    let kept = ticket(&alice);
    alice.log_out().await;
    main.clock.advance(ALMOST);
    assert_eq!(
        open(&edge, "/", &kept).await.status,
        200,
        "nobody has told it"
    );
    main.clock.advance(Duration::from_secs(1));
    let before = app.requests().len();
    assert_eq!(open(&edge, "/", &kept).await.status, 303);
    assert_eq!(app.requests().len(), before);
    let away = "/.doorward/renew?return_to=https://app.example.test/";
    let login = open_main(&main, away, &kept).await;
    assert!(login.header("location").starts_with("/.doorward/login"));
}

#[tokio::test]
async fn a_token_is_neither_looked_at_nor_taken_away() {
    let (main, edge, app) = pair("\"user\"").await;
    let alice = alice(&main).await;
    let token = format!("__Host-sid={}", alice.token());
    let answer = open(&edge, "/", &token).await;
    assert_eq!(answer.status, 303);
    let set = answer.set_cookies();
    assert!(
        !set.iter().any(|cookie| cookie.starts_with("__Host-sid=")),
        "{set:?}"
    );
    let public = open(&edge, "/public", &format!("{token}; a=b")).await;
    assert_eq!(public.status, 200);
    assert_eq!(app.last().one("cookie"), "a=b");
    let mixed = format!("{}; __Host-sid=nonsense", ticket(&alice));
    assert_eq!(open(&edge, "/", &mixed).await.status, 200);
}

#[tokio::test]
async fn forged_tickets_open_no_edge_node() {
    let (main, edge, app) = pair("\"user\"").await;
    let alice = alice(&main).await;
    let good = alice.jar[NAME].clone();
    let parts: Vec<&str> = good.split('.').collect();
    let header = |alg: &str| {
        let header = URL_SAFE_NO_PAD.decode(parts[0]).unwrap();
        let header = String::from_utf8(header).unwrap().replace("ES256", alg);
        URL_SAFE_NO_PAD.encode(header)
    };
    let claims = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
    let root = String::from_utf8(claims).unwrap().replace("alice", "admin");
    let before = app.requests().len();
    for forged in [
        format!("{}.{}.", header("none"), parts[1]),
        format!("{}.{}.{}", header("HS256"), parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(root), parts[2]),
        format!("{good}; {NAME}={good}"),
    ] {
        let answer = open(&edge, "/", &format!("{NAME}={forged}")).await;
        assert_eq!(answer.status, 303, "{forged}");
    }
    assert_eq!(app.requests().len(), before);
}

#[tokio::test]
async fn who_is_sent_round_in_circles_is_told_why() {
    let (_main, edge, _app) = pair("\"user\"").await;
    let mut cookie = String::new();
    for _ in 0..4 {
        let answer = open(&edge, "/", &cookie).await;
        assert_eq!(answer.status, 303);
        cookie = set(&answer, "__Host-sid-rounds");
    }
    let stopped = open(&edge, "/", &cookie).await;
    assert_eq!(stopped.status, 503);
    assert!(stopped.text().contains("Your login does not get here"));
    let text = stopped.text().replace("&#x2f;", "/");
    assert!(text.contains(RENEW), "a link that goes on: {text}");
}

#[tokio::test]
async fn until_keys_are_known_nobody_gets_in_and_from_then_on_they_do() {
    let keys = Arc::new(Mutex::new(None::<String>));
    let told = keys.clone();
    let app = upstream(move |request| match &*told.lock() {
        Some(keys) if request.line().contains("/keys") => Reply::ok(keys),
        None if request.line().contains("/keys") => Reply::with(500, "", ""),
        _ => Reply::ok("hello"),
    })
    .await;
    let session = "mode = \"jwt\"\n[session.jwt]\nclaims = [\"user\"]";
    let main = proxy().app(&app.url()).with("session", session).start();
    let edge = at_edge(&app, &format!("{}/keys", app.url()))
        .clock(&main.clock)
        .start();
    let mut alice = alice(&main).await;
    let answer = open(&edge, "/", &ticket(&alice)).await;
    assert_eq!(answer.status, 503);
    assert_eq!(open(&edge, "/public", &ticket(&alice)).await.status, 200);
    let published = alice.fetch("/.well-known/doorward/session-jwks.json").await;
    *keys.lock() = Some(published.text());
    eventually("the keys", async || {
        open(&edge, "/", &ticket(&alice)).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn keys_are_fetched_from_the_main_node_with_the_authority_that_is_given() {
    let app = upstream(|_| Reply::ok("hello")).await;
    let session = "mode = \"jwt\"\n[session.jwt]\nclaims = [\"user\"]";
    let main = proxy().app(&app.url()).with("session", session).start();
    let port = main.addr.port();
    let keys = format!("https://localhost:{port}/.well-known/doorward/session-jwks.json");
    let trusting = |authority: &str| {
        let edge = format!("keys = \"{keys}\"\nca_file = \"main.pem\"\nrenew = \"{RENEW}\"");
        let builder = proxy()
            .edge(&edge)
            .route_at(HOST, "/", &app.url(), "access = \"user\"");
        let folder = builder.prepare();
        std::fs::write(folder.path().join("main.pem"), authority).unwrap();
        builder.within(folder).clock(&main.clock).start()
    };
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (right, wrong) = (trusting(&certificate().0), trusting(&other.cert.pem()));
    let alice = alice(&main).await;
    eventually("the keys", async || {
        open(&right, "/", &ticket(&alice)).await.status == 200
    })
    .await;
    assert_eq!(open(&wrong, "/", &ticket(&alice)).await.status, 503);
}

#[tokio::test]
async fn a_key_that_a_ticket_names_first_is_asked_for_at_once() {
    let told = Arc::new(Mutex::new(String::new()));
    let keys = told.clone();
    let app = upstream(move |request| match request.line() {
        line if line.contains("/keys") => Reply::ok(&*keys.lock()),
        _ => Reply::ok("hello"),
    })
    .await;
    let session = "mode = \"jwt\"\n[session.jwt]\nclaims = [\"user\"]";
    let node = || proxy().app(&app.url()).with("session", session);
    let tell = async |main: &Proxy| {
        let place = "/.well-known/doorward/session-jwks.json";
        *told.lock() = main.browser().fetch(place).await.text();
    };
    let main = node().start();
    tell(&main).await;
    let edge = at_edge(&app, &format!("{}/keys", app.url()))
        .clock(&main.clock)
        .start();
    let first = ticket(&alice(&main).await);
    eventually("the first key", async || {
        open(&edge, "/", &first).await.status == 200
    })
    .await;
    let (folder, clock) = main.stop().await;
    let key = folder.path().join("next.key");
    std::fs::write(&key, "6f".repeat(32)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let secrets = "{ file = \"next.key\" }, { file = \"session.key\" }";
    let main = node().secrets(secrets).after(folder, clock).start();
    tell(&main).await;
    let second = ticket(&alice(&main).await);
    eventually("the second key", async || {
        open(&edge, "/", &second).await.status == 200
    })
    .await;
    assert_eq!(open(&edge, "/", &first).await.status, 200);
}

#[tokio::test]
async fn what_is_open_at_an_edge_node_ends_with_the_ticket() {
    let app = upstream(|request| match request.line() {
        line if line.contains("/socket") => Reply::Echo(
            b"HTTP/1.1 101 X\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n\x81\x05hello"
                .to_vec(),
        ),
        _ => Reply::ok("hello"),
    })
    .await;
    let (main, edge) = pair_of(&app, "\"user\"").await;
    let alice = alice(&main).await;
    let mut socket = edge.wire().await;
    socket
        .send(format!(
            "GET /socket HTTP/1.1\r\nhost: {HOST}\r\norigin: https://{HOST}\r\ncookie: {}\r\nconnection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            ticket(&alice)
        ))
        .await;
    let head = socket.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(socket.exact(7).await, b"\x81\x05hello");
    main.clock.advance(ALMOST);
    assert!(socket.is_silent().await);
    main.clock.advance(Duration::from_secs(1));
    assert_eq!(
        socket.rest().await,
        b"\x88\x0f\x03\xf0session ended",
        "1008"
    );
}

#[tokio::test]
async fn two_tickets_are_none_and_are_logged_and_taken_away() {
    let (main, edge, app) = pair("\"user\"").await;
    let alice = alice(&main).await;
    let two = format!("{0}; {0}", ticket(&alice));
    let before = app.requests().len();
    let answer = open(&edge, "/", &two).await;
    assert_eq!(answer.status, 303);
    assert_eq!(app.requests().len(), before);
    assert!(answer.set_cookies().iter().any(|cookie| {
        cookie.starts_with(&format!("{NAME}=;")) && cookie.contains("Max-Age=0")
    }));
    edge.audited("cookie_tossing").await;
    let token = format!("{two}; __Host-sid={}", alice.token());
    assert_eq!(open_main(&main, "/", &token).await.status, 200);
    main.audited("cookie_tossing").await;
}

#[tokio::test]
async fn who_is_more_than_a_cookie_holds_is_told_so() {
    let app = upstream(|_| Reply::ok("hello")).await;
    let keys = "mode = \"jwt\"\n[session.jwt]\nedges = [\"app.example.test\"]\nclaims = [\"user\", \"groups\"]";
    let builder = proxy().app(&app.url()).with("session", keys);
    let folder = builder.prepare();
    let groups: Vec<String> = (0..60).map(|place| format!("{place:0>60}")).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    add_user(&folder.path().join("users.toml"), "carol", &groups);
    let main = builder.within(folder).start();
    let mut carol = main.browser();
    carol.log_in("carol").await;
    assert!(!carol.jar.contains_key(NAME));
    let away = "/.doorward/renew?return_to=https://app.example.test/";
    let answer = open_main(&main, away, &cookies(&carol)).await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("Your login does not get there"));
}

#[test]
fn hosts_that_the_signed_cookie_does_not_reach_are_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("doorward.toml");
    let text = |edge: &str, host: &str| {
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[tls]\nself_signed = true\n[session]\nmode = \"jwt\"\n\
             [session.jwt]\ndomain = \"Example.com\"\nedges = [\"{edge}\"]\n[[provider]]\nid = \"local\"\n\
             type = \"local\"\nusers = \"users.toml\"\n[[route]]\nhost = \"{host}\"\n\
             upstream = \"http://127.0.0.1:1\"\naccess = \"user\"\n"
        )
    };
    let errors = |edge: &str, host: &str| {
        let read = config::parse(&file, &text(edge, host), Missing::Tolerated);
        read.err()
            .map(|errors| errors.to_string())
            .unwrap_or_default()
    };
    assert_eq!(errors("app.example.com:8443", "login.example.com"), "");
    for elsewhere in ["app.example.org", "app-example.com", "notexample.com"] {
        let edge = errors(elsewhere, "login.example.com");
        assert!(edge.contains("is not below \"Example.com\""), "{edge}");
        let route = errors("app.example.com", elsewhere);
        assert!(
            route.contains("is not below the cookie's `domain`"),
            "{route}"
        );
    }
}

#[test]
fn what_an_edge_node_cannot_do_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("doorward.toml");
    let text = |session: &str, rest: &str, route: &str| {
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n[tls]\nself_signed = true\n[session]\nmode = \"edge\"\n{session}\n\
             [session.edge]\nkeys = \"https://login.example.com/keys\"\nrenew = \"https://login.example.com/.doorward/renew\"\n\
             {rest}\n[[route]]\nhost = \"localhost\"\npath = \"/\"\nupstream = \"http://127.0.0.1:1\"\n{route}\n"
        )
    };
    let user = "access = \"user\"";
    assert!(config::parse(&file, &text("", "", user), Missing::Reported).is_ok());
    for (session, rest, route, word) in [
        ("secrets = [{ env = \"X\" }]", "", user, "secret"),
        ("", "[store]\nbackend = \"memory\"", user, "no store"),
        ("bind = { network = \"end\" }", "", user, "bind"),
        (
            "",
            "[[provider]]\nid = \"local\"\ntype = \"local\"\nusers = \"users.toml\"",
            user,
            "no login",
        ),
        ("", "", "access = \"user\"\nassertion = true", "assertion"),
        (
            "",
            "",
            "access = \"user\"\nidle_timeout = \"5m\"",
            "idle_timeout",
        ),
        (
            "",
            "",
            "access = \"user\"\nsession_data = \"shop\"",
            "session_data",
        ),
        ("", "", "access = \"user\"\ncookie_jar = true", "cookie_jar"),
        (
            "",
            "",
            "access = \"user\"\nprovider = \"corp\"\nacr_values = [\"phr\"]",
            "`acr_values` needs",
        ),
    ] {
        let errors = config::parse(&file, &text(session, rest, route), Missing::Reported);
        let errors = errors.unwrap_err().to_string();
        assert!(errors.contains(word), "{word}: {errors}");
    }
    for (good, bad) in [
        (
            "https://login.example.com/keys",
            "http://login.example.com/keys",
        ),
        ("/.doorward/renew", "/.doorward/login"),
        ("mode = \"edge\"", "mode = \"jwt\""),
    ] {
        let text = text("", "", user).replace(good, bad);
        assert!(
            config::parse(&file, &text, Missing::Reported).is_err(),
            "{bad}"
        );
    }
}
