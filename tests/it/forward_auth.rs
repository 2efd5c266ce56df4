//! Other proxies that ask: what they are told, in literal fields, and what an app behind a real nginx, Caddy, `HAProxy`, Traefik
//! and Envoy receives, which is what counts.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::json;

use crate::clients;
use crate::support::{
    Answer, Browser, Front, Kind, PASSWORD, Proxy, ProxyBuilder, Recorded, Reply, Upstream, proxy,
    upstream,
};

const ROUTES: [(&str, &str); 4] = [
    ("/", "access = \"user\""),
    ("/public", "access = \"public\""),
    ("/staff", "access = { groups = [\"staff\"] }"),
    ("/read", "access = \"user\"\nmethods = [\"GET\"]"),
];

/// Doorward that has no app of its own.
fn asked() -> Proxy {
    builder().start()
}

fn asked_with(server: &str, session: &str) -> Proxy {
    with_routes(proxy().with("server", server).with("session", session)).start()
}

fn builder() -> ProxyBuilder {
    with_routes(proxy().with("server", "trusted_proxies = [\"127.0.0.1\"]"))
}

fn with_routes(begun: ProxyBuilder) -> ProxyBuilder {
    let routes = ROUTES.iter();
    routes.fold(begun, |begun, (path, rest)| begun.route(path, "none", rest))
}

/// Method, place and fields.
type Asking = (String, String, Vec<(&'static str, String)>);

/// A question as each convention puts it.
fn questions(method: &str, target: &str) -> [Asking; 4] {
    let forwarded = || {
        vec![
            ("x-forwarded-method", method.to_owned()),
            ("x-forwarded-host", "localhost:1".to_owned()),
            ("x-forwarded-proto", "https".to_owned()),
            ("x-forwarded-uri", target.to_owned()),
        ]
    };
    let original = vec![
        ("x-original-method", method.to_owned()),
        ("x-original-url", format!("https://localhost:1{target}")),
    ];
    let get = "GET".to_owned();
    [
        (get.clone(), "/.doorward/auth/nginx".to_owned(), original),
        (
            get.clone(),
            "/.doorward/auth/traefik".to_owned(),
            forwarded(),
        ),
        (get, "/.doorward/auth/caddy".to_owned(), forwarded()),
        (
            method.to_owned(),
            format!("/.doorward/auth/envoy{target}"),
            vec![],
        ),
    ]
}

/// Asks in each convention, with what the client sent.
async fn ask(
    browser: &Browser,
    method: &str,
    target: &str,
    client: &[(&str, &str)],
) -> [Answer; 4] {
    let mut answers = Vec::new();
    for (method, place, fields) in questions(method, target) {
        let fields = fields.iter().map(|(name, value)| (*name, value.as_str()));
        let fields: Vec<_> = fields.chain(client.iter().copied()).collect();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        answers.push(browser.clone().request(method, &place, &fields, "").await);
    }
    answers.try_into().ok().unwrap()
}

fn statuses(answers: &[Answer; 4]) -> [u16; 4] {
    [0, 1, 2, 3].map(|at: usize| answers[at].status.as_u16())
}

const NAVIGATION: [(&str, &str); 2] = [("accept", "text/html"), ("sec-fetch-mode", "navigate")];
const FETCH: [(&str, &str); 2] = [("accept", "*/*"), ("sec-fetch-mode", "cors")];
const ASSERTION: &str = "x-doorward-jwt-assertion";
const IDENTITY: [&str; 4] = [
    "remote-user",
    "remote-name",
    "remote-email",
    "remote-groups",
];

#[tokio::test]
async fn who_is_logged_in_passes_with_every_field_of_identity_and_without_our_cookie() {
    let proxy = asked();
    for mut browser in [proxy.browser(), proxy.browser().over_http2()] {
        browser.log_in("alice").await;
        browser.jar.insert("theme".to_owned(), "dark".to_owned());
        for answer in ask(&browser, "GET", "/wiki?x=1", &FETCH).await {
            assert_eq!(answer.status, 200);
            let told = IDENTITY.map(|name| answer.header(name));
            let expected = ["alice", "alice %C3%9Cnder", "alice@example.org", "staff"];
            assert_eq!(told, expected);
            assert_eq!(answer.header("cookie"), "theme=dark");
            assert_eq!(answer.header("cache-control"), "no-store");
            assert!(answer.body.is_empty());
        }
    }
}

#[tokio::test]
async fn every_field_of_identity_is_there_also_for_nobody_and_never_the_clients() {
    let proxy = asked();
    let forged = [
        ("remote-user", "root"),
        ("Remote-Groups", "staff"),
        ("remote-email", "root@example.org"),
    ];
    for answer in ask(&proxy.browser(), "GET", "/public", &forged).await {
        assert_eq!(answer.status, 200);
        for name in IDENTITY.into_iter().chain(["cookie"]) {
            let values: Vec<_> = answer.headers.get_all(name).iter().collect();
            assert_eq!(values, [""], "{name}");
        }
    }
    assert!(proxy.audited("identity_header_stripped").await["field"].is_string());
}

/// The other proxy replaces the fields that it is told of, by name.
#[tokio::test]
async fn who_says_who_he_is_in_another_spelling_does_not_pass() {
    let signed = "headers = { user = \"X-Person\", groups = \"Remote-Groups\" }\n[identity.assertion]\nall_routes = true";
    let proxy = builder().with("identity", signed).start();
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    for name in [
        "X_Person",
        "x.person",
        "xperson",
        "HTTP_X_PERSON",
        "http-x-person",
        "Remote_Groups",
        "REMOTE-GROUPS_",
        "X_Doorward_Jwt_Assertion",
    ] {
        for target in ["/public", "/wiki"] {
            let answers = ask(&browser, "GET", target, &[(name, "root")]).await;
            assert_eq!(statuses(&answers), [403, 400, 400, 400], "{target} {name}");
        }
    }
    assert!(proxy.audited("identity_header_stripped").await["field"].is_string());
    for name in ["X-Person", "Remote-Groups", "X_Personal", "X-Webauth_User"] {
        let answers = ask(&browser, "GET", "/wiki", &[(name, "root")]).await;
        assert_eq!(statuses(&answers), [200; 4], "{name}");
        assert_eq!(answers[0].header("x-person"), "alice");
    }
}

#[tokio::test]
async fn the_signed_assertion_is_told_too_and_never_the_clients() {
    let signed = "[identity.assertion]\nall_routes = true";
    let proxy = builder().with("identity", signed).start();
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    let forged = [("X-Doorward-Jwt-Assertion", "forged")];
    for answer in ask(&browser, "GET", "/wiki", &forged).await {
        let told = answer.header(ASSERTION);
        let claims = told.split('.').nth(1).unwrap_or_default();
        let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(
            (&claims["sub"], &claims["aud"]),
            (&json!("local:alice"), &json!("localhost/"))
        );
    }
    for answer in ask(&proxy.browser(), "GET", "/public", &forged).await {
        let values: Vec<_> = answer.headers.get_all(ASSERTION).iter().collect();
        assert_eq!(values, [""]);
    }
}

#[tokio::test]
async fn a_program_passes_by_its_token_where_the_route_takes_one() {
    let app = upstream(|_| Reply::ok("")).await;
    let by_token = "access = \"user\"\naccess_by = [\"session\", \"token\"]";
    let proxy = builder()
        .route("/api", "none", by_token)
        .route("/only", &app.url(), by_token)
        .start();
    let bearer = format!(
        "Bearer {}",
        clients::token(&proxy, clients::new("bot")).await
    );
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    for (target, bearer, expected, user) in [
        ("/api", &*bearer, [200; 4], "bot"),
        ("/api", "Bearer doorward_none", [401; 4], ""),
        // There it is none of ours, and the session counts.
        ("/wiki", &*bearer, [200; 4], "alice"),
    ] {
        let client = [("authorization", bearer)];
        let answers = ask(&browser, "GET", target, &client).await;
        assert_eq!(statuses(&answers), expected, "{target} {bearer}");
        for answer in &answers {
            assert_eq!(answer.header("remote-user"), user);
        }
    }
}

#[tokio::test]
async fn who_is_not_is_told_by_what_the_waiting_request_is() {
    let proxy = asked();
    let mut ended = proxy.browser();
    ended.log_in("alice").await;
    let cookie = ended.clone();
    ended.log_out().await;
    for browser in [proxy.browser(), cookie] {
        let login = "https://localhost:1/.doorward/login?return_to=%2Fwiki%3Fx%3D1";
        let answers = ask(&browser, "GET", "/wiki?x=1", &NAVIGATION).await;
        assert_eq!(statuses(&answers), [401, 303, 303, 303]);
        for (at, answer) in answers.iter().enumerate() {
            let own = format!("https://{}/.doorward", browser.authority());
            let expected = login.replace(
                "https://localhost:1/.doorward",
                if at == 3 {
                    &own
                } else {
                    "https://localhost:1/.doorward"
                },
            );
            assert_eq!(answer.header("location"), expected);
        }
        let answers = ask(&browser, "GET", "/wiki?x=1", &FETCH).await;
        assert_eq!(statuses(&answers), [401; 4]);
        for answer in &answers {
            assert_eq!(answer.header("location"), "");
            assert_eq!(answer.json()["error"], "login_required");
        }
        // The waiting request is a form, though the one that asks is a GET.
        let answers = ask(&browser, "POST", "/wiki?x=1", &NAVIGATION).await;
        assert_eq!(statuses(&answers), [401; 4]);
    }
}

/// gRPC is told by 200, elsewhere.
#[tokio::test]
async fn no_refusal_of_whatever_kind_is_a_2xx() {
    let proxy = asked();
    let browser = proxy.browser();
    for (method, client) in [
        ("POST", &[("content-type", "application/grpc+proto")][..]),
        ("POST", &[("content-type", "application/grpc-web")]),
        ("OPTIONS", &[("max-forwards", "0")]),
        (
            "OPTIONS",
            &[
                ("origin", "https://a.example"),
                ("access-control-request-method", "GET"),
            ],
        ),
        ("HEAD", &FETCH),
        ("GET", &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]),
    ] {
        for target in [
            "/",
            "/wiki",
            "/staff",
            "/public/../wiki",
            "/read",
            "/public/..;/wiki",
        ] {
            for answer in ask(&browser, method, target, client).await {
                assert!(!answer.status.is_success(), "{method} {target} {client:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_path_with_two_readings_passes_for_nobody() {
    let proxy = asked();
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    for target in [
        "/wiki/../public",
        "/public/../wiki",
        "/public/%2e%2e/wiki",
        "/./public",
        "/public%2F..%2Fwiki",
        "/public/..;/wiki",
        "/public//wiki",
        "/public\\wiki",
        "/public/%5c..%5cwiki",
        "/%252e%252e/wiki",
        "/public/%zz",
        "/../../public",
        "/../login",
        "/.doorward/login",
        "/.doorward/auth/nginx",
        "/%2edoorward/session",
    ] {
        let answers = ask(&browser, "GET", target, &FETCH).await;
        for (at, answer) in answers.iter().enumerate() {
            assert!(
                answer.status.is_client_error(),
                "{target} {at}: {}",
                answer.status
            );
        }
        assert_eq!(answers[0].status, 403, "nginx knows no other: {target}");
    }
}

#[tokio::test]
async fn the_same_route_is_asked_for_as_elsewhere() {
    let proxy = asked();
    let mut bob = proxy.browser();
    bob.log_in("bob").await;
    for (method, target, expected) in [
        ("GET", "/wiki", [200; 4]),
        ("GET", "/staff", [403; 4]),
        ("GET", "/staff/x", [403; 4]),
        ("GET", "/%73taff", [403; 4]),
        ("GET", "/staffroom", [200; 4]),
        ("POST", "/read", [403, 405, 405, 405]),
        ("GET", "/read", [200; 4]),
    ] {
        let answers = ask(&bob, method, target, &FETCH).await;
        assert_eq!(statuses(&answers), expected, "{method} {target}");
    }
    assert_eq!(proxy.audited("access_denied").await["user"], "bob");
    let foreign = [
        ("x-forwarded-method", "GET"),
        ("x-forwarded-host", "other.example"),
        ("x-forwarded-uri", "/public"),
    ];
    let answer = bob
        .request(Method::GET, "/.doorward/auth/caddy", &foreign, "")
        .await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn only_proxies_that_are_trusted_are_answered() {
    let proxy = asked_with("trusted_proxies = [\"192.0.2.1\"]", "");
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    for target in ["/public", "/wiki"] {
        for answer in ask(&browser, "GET", target, &FETCH).await {
            assert_eq!(answer.status, 403);
            assert_eq!(answer.json()["error"], "untrusted_peer");
            assert_eq!(answer.header("remote-user"), "");
        }
    }
}

#[tokio::test]
async fn a_websocket_from_another_site_does_not_pass() {
    let proxy = asked();
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let evil = [key, ("origin", "https://evil.example")];
    let answers = ask(&browser, "GET", "/socket", &evil).await;
    assert_eq!(statuses(&answers), [403; 4]);
    let answers = ask(
        &browser,
        "GET",
        "/socket",
        &[key, ("origin", "https://localhost:1")],
    )
    .await;
    assert_eq!(statuses(&answers)[..3], [200; 3]);
}

#[tokio::test]
async fn a_route_that_is_asked_about_has_nothing_behind_it() {
    let proxy = asked();
    let mut browser = proxy.browser();
    assert_eq!(browser.open("/public").await.status, 404);
    browser.log_in("alice").await;
    assert_eq!(browser.open("/wiki").await.status, 404);
}

#[tokio::test]
async fn the_client_is_whom_the_asking_proxy_names() {
    let proxy = asked_with(
        "trusted_proxies = [\"127.0.0.1\"]",
        "bind = { network = \"end\" }",
    );
    let mut browser = proxy.browser();
    browser.fields = vec![("x-forwarded-for".to_owned(), "192.0.2.7".to_owned())];
    browser.log_in("alice").await;
    assert_eq!(
        statuses(&ask(&browser, "GET", "/wiki", &FETCH).await),
        [200; 4]
    );
    browser.fields = vec![("x-forwarded-for".to_owned(), "203.0.113.7".to_owned())];
    assert_eq!(
        statuses(&ask(&browser, "GET", "/wiki", &FETCH).await),
        [401; 4]
    );
}

async fn behind(kind: Kind) -> (Upstream, Proxy, Front) {
    let app = upstream(|_| Reply::ok("from the app")).await;
    let proxy = asked_with(
        "trusted_proxies = [\"127.0.0.1\"]",
        "rotate_interval = \"1m\"",
    );
    let front = Front::start(kind, &proxy, &app).await;
    (app, proxy, front)
}

#[tokio::test]
async fn nginx_asks_and_the_app_gets_what_it_is_told() {
    serve(Kind::Nginx).await;
}

#[tokio::test]
async fn caddy_asks_and_the_app_gets_what_it_is_told() {
    serve(Kind::Caddy).await;
}

#[tokio::test]
async fn haproxy_asks_and_the_app_gets_what_it_is_told() {
    serve(Kind::Haproxy).await;
}

#[tokio::test]
async fn traefik_asks_and_the_app_gets_what_it_is_told() {
    serve(Kind::Traefik).await;
}

#[tokio::test]
async fn envoy_asks_and_the_app_gets_what_it_is_told() {
    serve(Kind::Envoy).await;
}

async fn serve(kind: Kind) {
    let (app, proxy, front) = behind(kind).await;
    let mut browser = front.browser();
    let page = browser.open("/wiki?x=1").await;
    assert_eq!(page.status, 303, "{kind:?} {}", front.messages());
    let login = format!(
        "https://{}/.doorward/login?return_to=%2Fwiki%3Fx%3D1",
        browser.authority()
    );
    assert_eq!(page.header("location"), login, "{kind:?}");
    let fetched = browser.fetch("/wiki").await;
    assert_eq!(fetched.status, 401, "{kind:?}");
    assert_eq!(fetched.json()["error"], "login_required");
    is_refused_a_call(&mut browser, kind).await;
    assert!(app.requests().is_empty(), "{kind:?}: nobody got through");

    let path = login.split_once(&browser.authority()).unwrap().1.to_owned();
    let state = browser.open(&path).await.field("state");
    let form = [
        ("state", state.as_str()),
        ("user", "alice"),
        ("password", PASSWORD),
    ];
    let answer = browser.submit(&path, &form).await;
    assert_eq!(answer.header("location"), "/wiki?x=1", "{}", answer.text());
    browser.jar.insert("theme".to_owned(), "dark".to_owned());
    browser.fields = forged();
    let answer = browser.open("/wiki?x=1").await;
    assert_eq!(answer.text(), "from the app", "{kind:?}");
    let request = app.only();
    assert!(
        request.line().starts_with("GET /wiki?x=1 "),
        "{}",
        request.head
    );
    is_alices(&request);

    let answer = browser.open("/public").await;
    assert_eq!(answer.status, 200);
    is_alices(&app.last());
    let mut stranger = front.browser();
    stranger.fields = forged();
    assert_eq!(stranger.open("/public/page").await.status, 200);
    is_nobodys(&app.last());

    // A token that is replaced reaches the browser, and the next request has it.
    let before = browser.token().to_owned();
    proxy.clock.advance(Duration::from_secs(61));
    let mut renewed = false;
    for _ in 0..50 {
        let answer = browser.fetch("/wiki").await;
        assert_eq!(answer.status, 200);
        if answer
            .set_cookies()
            .iter()
            .any(|cookie| cookie.starts_with("__Host-sid="))
        {
            renewed = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(renewed, "{kind:?}: no new token came");
    assert_ne!(browser.token(), before);
    assert_eq!(browser.fetch("/wiki").await.status, 200);

    let mut bob = front.browser();
    let path = "/.doorward/login?return_to=%2Fstaff";
    let state = bob.open(path).await.field("state");
    let form = [
        ("state", state.as_str()),
        ("user", "bob"),
        ("password", PASSWORD),
    ];
    bob.submit(path, &form).await;
    let count = app.requests().len();
    assert_eq!(bob.open("/staff").await.status, 403, "{kind:?}");
    assert_eq!(app.requests().len(), count, "{kind:?}");
    is_safe_from_outside(&app, &front).await;
}

async fn is_refused_a_call(browser: &mut Browser, kind: Kind) {
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    let called = browser.request(Method::POST, "/wiki", &grpc, "").await;
    if kind == Kind::Envoy {
        // It answers a gRPC call with the status of gRPC: 16, not authenticated.
        assert_eq!(called.status, 200);
        assert_eq!(called.header("grpc-status"), "16");
    } else {
        assert_eq!(called.status, 401, "{kind:?}");
    }
}

fn forged() -> Vec<(String, String)> {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    vec![
        field("remote-user", "root"),
        field("remote-groups", "wheel"),
        field("x-original-url", "https://localhost/public"),
        field("x-original-method", "OPTIONS"),
        field("x-forwarded-uri", "/public"),
        field("x-forwarded-method", "OPTIONS"),
    ]
}

fn is_alices(request: &Recorded) {
    assert_eq!(request.all("remote-user"), ["alice"], "{}", request.head);
    assert_eq!(request.all("remote-groups"), ["staff"], "{}", request.head);
    assert_eq!(request.all("remote-email"), ["alice@example.org"]);
    assert_eq!(request.all("cookie"), ["theme=dark"], "{}", request.head);
}

/// Empty, or not there.
fn is_nobodys(request: &Recorded) {
    for name in IDENTITY.into_iter().chain(["cookie"]) {
        let values = request.all(name);
        assert!(
            values.iter().all(|value| value.is_empty()),
            "{}",
            request.head
        );
    }
}

/// Whatever a stranger says, in literal bytes: the app gets nothing but what is public.
async fn is_safe_from_outside(app: &Upstream, front: &Front) {
    let before = app.requests().len();
    let host = format!("localhost:{}", front.addr.port());
    for target in [
        "/wiki",
        "/public/../wiki",
        "/public/%2e%2e/wiki",
        "/public/..;/wiki",
        "/public%2f..%2fwiki",
        "/public/..%5cwiki",
        "/public//../wiki",
        "/publicx",
        "/wiki#/../public",
        "/.doorward/auth/nginx",
        "/.doorward/auth/caddy",
        "/.doorward/auth/traefik",
        "/.doorward/auth/envoy/public",
        "/%2edoorward/auth/envoy/public",
        "/.doorward/../wiki",
        "//wiki",
    ] {
        for more in [
            "",
            "x-original-url: https://localhost/public\r\nx-forwarded-uri: /public\r\n",
        ] {
            let mut raw = front.raw().await;
            raw.send(format!(
                "GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nremote-user: root\r\n{more}\r\n"
            ))
            .await;
            let answer = String::from_utf8_lossy(&raw.rest().await).into_owned();
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(!status.starts_with('2'), "{target}: {answer}");
            assert!(
                !answer.to_lowercase().contains("\r\nremote-user:"),
                "{target}: {answer}"
            );
        }
    }
    let got = app.requests();
    assert_eq!(got.len(), before, "{:?}", got.last());
    has_no_alias_from_outside(app, front).await;
}

/// An app that makes variables of names takes them all for one: they are dropped, or whoever sends them is refused.
async fn has_no_alias_from_outside(app: &Upstream, front: &Front) {
    for name in [
        "Remote_User",
        "remote-user_",
        "HTTP_REMOTE_USER",
        "remote.user",
    ] {
        let mut browser = front.browser();
        browser.fields = vec![(name.to_owned(), "root".to_owned())];
        let before = app.requests().len();
        let status = browser.fetch("/public").await.status;
        let reached = app.requests().len() - before;
        assert_eq!(reached == 1, status == 200, "{name}: {status}");
        if reached == 1 {
            let head = app.last().head;
            assert!(!head.contains("root"), "{name}: {head}");
        }
    }
}

#[tokio::test]
async fn what_is_asked_over_a_kept_connection_is_each_clients_own() {
    let proxy = asked();
    let (mut alice, mut bob) = (proxy.browser(), proxy.browser());
    alice.log_in("alice").await;
    bob.log_in("bob").await;
    let mut raw = proxy.raw().await;
    for (token, user) in [
        (alice.token(), "alice"),
        (bob.token(), "bob"),
        ("", ""),
        (alice.token(), "alice"),
    ] {
        raw.send(format!(
            "GET /.doorward/auth/nginx HTTP/1.1\r\nhost: localhost\r\nx-original-method: GET\r\n\
             x-original-url: https://localhost/public\r\ncookie: __Host-sid={token}\r\n\r\n"
        ))
        .await;
        let (head, _) = raw.response().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(
            head.contains(&format!("\r\nremote-user: {user}\r\n")),
            "{head}"
        );
    }
}

#[tokio::test]
async fn two_cookies_of_the_name_are_none() {
    let proxy = asked();
    let request = Request::get("/.doorward/auth/nginx")
        .header("host", "localhost")
        .header("x-original-method", "GET")
        .header("x-original-url", "https://localhost/wiki")
        .header("cookie", "__Host-sid=a; __Host-sid=b")
        .body(Full::new(Bytes::new()))
        .unwrap();
    assert_eq!(proxy.browser().send(request).await.status, 401);
}
