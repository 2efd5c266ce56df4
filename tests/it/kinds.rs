//! What a request without a session is told, by what it is (R10): in literal bytes over HTTP/1.1, the same fields over
//! HTTP/2; without a cookie, and with that of a session that has ended.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::support::{Answer, Browser, Proxy, Reply, Upstream, proxy, upstream};

/// A request as a client of its kind sends it.
struct Kind {
    name: &'static str,
    method: Method,
    fields: &'static [(&'static str, &'static str)],
    answer: Told,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    /// A redirect to the login, which leads back.
    ToLogIn,
    /// A page with status 401.
    Page,
    Json,
    /// Status 16 in this form.
    Grpc(&'static str),
}

const HTML: &str =
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
const PLACE: &str = "/wiki/page?x=1&y=%2F";

#[rustfmt::skip]
const KINDS: &[Kind] = &[
    Kind { name: "a page", method: Method::GET, answer: Told::ToLogIn,
        fields: &[("accept", HTML), ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-user", "?1"), ("sec-fetch-dest", "document")] },
    Kind { name: "a page in a frame", method: Method::GET, answer: Told::ToLogIn,
        fields: &[("accept", HTML), ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")] },
    Kind { name: "a page for a browser without fetch metadata", method: Method::GET, answer: Told::ToLogIn,
        fields: &[("accept", HTML)] },
    Kind { name: "the head of a page", method: Method::HEAD, answer: Told::ToLogIn,
        fields: &[("accept", HTML), ("sec-fetch-mode", "navigate")] },
    Kind { name: "a form", method: Method::POST, answer: Told::Page,
        fields: &[("accept", HTML), ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"),
            ("content-type", "application/x-www-form-urlencoded")] },
    Kind { name: "a form of a browser without fetch metadata", method: Method::POST, answer: Told::Page,
        fields: &[("accept", HTML), ("content-type", "multipart/form-data; boundary=x")] },
    Kind { name: "a fetch", method: Method::GET, answer: Told::Json,
        fields: &[("accept", "*/*"), ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")] },
    Kind { name: "a fetch of a page's text", method: Method::GET, answer: Told::Json,
        fields: &[("accept", HTML), ("sec-fetch-mode", "same-origin"), ("sec-fetch-dest", "empty")] },
    Kind { name: "XHR for a page's text without fetch metadata", method: Method::GET, answer: Told::Json,
        fields: &[("accept", "text/html, */*; q=0.01"), ("x-requested-with", "XMLHttpRequest")] },
    Kind { name: "the head of something", method: Method::HEAD, answer: Told::Json, fields: &[("accept", "*/*")] },
    Kind { name: "curl", method: Method::GET, answer: Told::Json, fields: &[("accept", "*/*"), ("user-agent", "curl/8.9.1")] },
    Kind { name: "nothing said at all", method: Method::GET, answer: Told::Json, fields: &[] },
    Kind { name: "a POST with JSON", method: Method::POST, answer: Told::Json,
        fields: &[("accept", "application/json"), ("sec-fetch-mode", "cors"), ("content-type", "application/json")] },
    Kind { name: "PUT", method: Method::PUT, answer: Told::Json, fields: &[("accept", "*/*"), ("sec-fetch-mode", "cors")] },
    Kind { name: "PATCH", method: Method::PATCH, answer: Told::Json, fields: &[] },
    Kind { name: "DELETE", method: Method::DELETE, answer: Told::Json, fields: &[("accept", "*/*")] },
    Kind { name: "OPTIONS", method: Method::OPTIONS, answer: Told::Json, fields: &[] },
    Kind { name: "a preflight of nobody who is named", method: Method::OPTIONS, answer: Told::Json,
        fields: &[("origin", "https://evil.example"), ("access-control-request-method", "PUT"), ("sec-fetch-mode", "cors")] },
    Kind { name: "an event stream", method: Method::GET, answer: Told::Json,
        fields: &[("accept", "text/event-stream"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("cache-control", "no-cache")] },
    Kind { name: "a favicon", method: Method::GET, answer: Told::Json,
        fields: &[("accept", "image/avif,image/webp,image/apng,*/*;q=0.8"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")] },
    Kind { name: "a manifest", method: Method::GET, answer: Told::Json,
        fields: &[("accept", "*/*"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "manifest")] },
    Kind { name: "a service worker", method: Method::GET, answer: Told::Json,
        fields: &[("accept", "*/*"), ("service-worker", "script"), ("sec-fetch-mode", "same-origin"), ("sec-fetch-dest", "serviceworker")] },
    Kind { name: "a service worker of a browser without fetch metadata", method: Method::GET, answer: Told::Json,
        fields: &[("accept", HTML), ("service-worker", "script")] },
    Kind { name: "a fetch of a page's text without fetch metadata", method: Method::GET, answer: Told::Json,
        fields: &[("accept", HTML), ("origin", "https://localhost")] },
    Kind { name: "a script", method: Method::GET, answer: Told::Json,
        fields: &[("accept", "*/*"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")] },
    Kind { name: "something embedded", method: Method::GET, answer: Told::Json,
        fields: &[("accept", HTML), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "embed")] },
    Kind { name: "gRPC", method: Method::POST, answer: Told::Grpc("application/grpc+proto"),
        fields: &[("content-type", "application/grpc+proto"), ("te", "trailers")] },
    Kind { name: "gRPC-Web", method: Method::POST, answer: Told::Grpc("application/grpc-web-text"),
        fields: &[("content-type", "application/grpc-web-text"), ("accept", "application/grpc-web-text"), ("sec-fetch-mode", "cors")] },
];

/// Over HTTP/1.1 alone: the connection itself is to change.
#[rustfmt::skip]
const WEBSOCKETS: &[Kind] = &[
    Kind { name: "a WebSocket", method: Method::GET, answer: Told::Json,
        fields: &[("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-fetch-mode", "websocket"), ("accept", HTML)] },
    Kind { name: "a WebSocket of a browser without fetch metadata", method: Method::GET, answer: Told::Json,
        fields: &[("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("accept", HTML)] },
    Kind { name: "another protocol", method: Method::GET, answer: Told::Json,
        fields: &[("connection", "Upgrade"), ("upgrade", "irc"), ("accept", HTML)] },
];

#[tokio::test]
async fn every_kind_of_request_is_told_in_its_own_way() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).start();
    for kind in KINDS.iter().chain(WEBSOCKETS) {
        check(kind, &literally(&proxy, kind, "").await);
    }
    for kind in KINDS {
        check(kind, &over_http2(&proxy.browser(), kind).await);
    }
    assert!(app.requests().is_empty(), "nobody got through");
}

#[tokio::test]
async fn a_session_that_has_ended_changes_nothing_but_that_its_cookie_goes() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    let before = browser.clone();
    browser.log_out().await;
    let cookie = format!("cookie: __Host-sid={}\r\n", before.token());
    for kind in KINDS.iter().chain(WEBSOCKETS) {
        let answer = literally(&proxy, kind, &cookie).await;
        check(kind, &answer);
        is_cleared(kind, &answer);
    }
    for kind in KINDS {
        let answer = over_http2(&before, kind).await;
        check(kind, &answer);
        is_cleared(kind, &answer);
    }
    assert!(app.requests().is_empty(), "nobody got through");
}

#[tokio::test]
async fn a_session_that_has_idled_out_is_an_ended_one() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    proxy.clock.advance(std::time::Duration::from_mins(31));
    let cookie = format!("cookie: __Host-sid={}\r\n", browser.token());
    for kind in KINDS.iter().chain(WEBSOCKETS) {
        let answer = literally(&proxy, kind, &cookie).await;
        check(kind, &answer);
        is_cleared(kind, &answer);
    }
    assert!(app.requests().is_empty(), "nobody got through");
}

fn check(kind: &Kind, answer: &Answer) {
    let (name, status) = (kind.name, answer.status);
    assert_eq!(answer.header("cache-control"), "no-store", "{name}");
    if kind.method == Method::HEAD {
        assert!(answer.body.is_empty(), "{name}");
    }
    let is_head = kind.method == Method::HEAD;
    match kind.answer {
        Told::ToLogIn => {
            assert_eq!(status, 303, "{name}");
            let expected = "/.doorward/login?return_to=%2Fwiki%2Fpage%3Fx%3D1%26y%3D%252F";
            assert_eq!(answer.header("location"), expected, "{name}");
        }
        Told::Page => {
            assert_eq!(status, 401, "{name}");
            assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
            let login = "href=\"/.doorward/login?return_to=%2Fapp%3Ftab%3D2\"";
            let text = answer.text().replace("&#x2f;", "/");
            assert!(text.contains(login), "{name}: {text}");
        }
        Told::Json => {
            assert_eq!(status, 401, "{name}");
            assert_eq!(answer.header("content-type"), "application/json", "{name}");
            let scheme = answer.header("www-authenticate");
            assert_eq!(scheme, "Session realm=\"doorward\"", "{name}");
            if !is_head {
                let told = answer.json();
                assert_eq!(told["error"], "login_required", "{name}");
                let login = told["login_url"].as_str().unwrap();
                let (_, back) = login.split_once("/.doorward/login?return_to=").unwrap();
                assert_eq!(back, "%2Fapp%3Ftab%3D2", "{name}");
                assert_eq!(told["request_id"].as_str().unwrap().len(), 16, "{name}");
            }
        }
        Told::Grpc(form) => {
            assert_eq!(status, 200, "{name}");
            assert_eq!(answer.header("content-type"), form, "{name}");
            assert_eq!(answer.header("grpc-status"), "16", "{name}");
            let told = answer.header("access-control-expose-headers");
            assert_eq!(told, "grpc-status, grpc-message", "{name}");
            assert!(answer.body.is_empty(), "{name}");
        }
    }
    if kind.answer != Told::ToLogIn {
        assert_eq!(answer.header("location"), "", "{name}");
    }
}

fn is_cleared(kind: &Kind, answer: &Answer) {
    let cookies = answer.set_cookies();
    assert_eq!(cookies.len(), 1, "{}: {cookies:?}", kind.name);
    assert!(
        cookies[0].starts_with("__Host-sid=;"),
        "{}: {cookies:?}",
        kind.name
    );
    assert!(
        cookies[0].contains("Max-Age=0"),
        "{}: {cookies:?}",
        kind.name
    );
}

/// In bytes, on a connection that goes on: after a HEAD the next answer follows at once.
async fn literally(proxy: &Proxy, kind: &Kind, more: &str) -> Answer {
    let fields: String = kind
        .fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let (method, authority) = (&kind.method, proxy.authority());
    let mut raw = proxy.raw().await;
    raw.send(format!(
        "{method} {PLACE} HTTP/1.1\r\nhost: {authority}\r\n{fields}{more}referer: https://{authority}/app?tab=2\r\n\r\n"
    ))
    .await;
    let (head, body) = if kind.method == Method::HEAD {
        (raw.head().await, Vec::new())
    } else {
        raw.response().await
    };
    raw.send(format!(
        "GET /.doorward/session HTTP/1.1\r\nhost: {authority}\r\n\r\n"
    ))
    .await;
    let (next, _) = raw.response().await;
    assert!(next.starts_with("HTTP/1.1 401 "), "{}: {next}", kind.name);
    answer(&head, body)
}

fn answer(head: &str, body: Vec<u8>) -> Answer {
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap();
    let fields = lines.map(|line| line.split_once(": ").unwrap());
    let headers = fields.map(|(name, value)| {
        (
            HeaderName::try_from(name).unwrap(),
            HeaderValue::try_from(value).unwrap(),
        )
    });
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        all.append(name, value);
    }
    Answer {
        status: StatusCode::from_bytes(status.as_bytes()).unwrap(),
        headers: all,
        body: body.into(),
    }
}

async fn over_http2(browser: &Browser, kind: &Kind) -> Answer {
    let mut browser = browser.clone().over_http2();
    let from = format!("https://{}/app?tab=2", browser.authority());
    let mut fields = kind.fields.to_vec();
    fields.push(("referer", &from));
    browser
        .request(kind.method.clone(), PLACE, &fields, "")
        .await
}

const ALLOWED: &str = "https://app.example.test";
const NAMED: &str =
    "access = \"user\"\ncors_origins = [\"https://app.example.test\", \"http://localhost:5173\"]";

async fn api() -> (Upstream, Proxy) {
    let app = upstream(|_| {
        Reply::with(
            200,
            "access-control-allow-origin: *\r\naccess-control-allow-credentials: false\r\nvary: Accept\r\n",
            "data",
        )
    })
    .await;
    let proxy = proxy()
        .route("/api", &app.url(), NAMED)
        .route(
            "/api/read",
            &app.url(),
            &format!("{NAMED}\nmethods = [\"GET\"]"),
        )
        .route("/api/down", "http://127.0.0.1:1", NAMED)
        .route("/open", &app.url(), "access = \"public\"")
        .start();
    (app, proxy)
}

fn both(proxy: &Proxy) -> [Browser; 2] {
    [proxy.browser(), proxy.browser().over_http2()]
}

async fn preflight(browser: &mut Browser, path: &str, fields: &[(&str, &str)]) -> Answer {
    let asked = ("access-control-request-method", "PUT");
    let fields: Vec<_> = fields.iter().copied().chain([asked]).collect();
    browser.request(Method::OPTIONS, path, &fields, "").await
}

#[tokio::test]
async fn a_preflight_is_answered_without_a_session_for_origins_that_the_route_names() {
    let (app, proxy) = api().await;
    for mut browser in both(&proxy) {
        let asked = [
            ("origin", ALLOWED),
            (
                "access-control-request-headers",
                "content-type, x-csrf-token",
            ),
        ];
        let answer = preflight(&mut browser, "/api/items", &asked).await;
        assert_eq!(answer.status, 204);
        for (name, value) in [
            ("access-control-allow-origin", ALLOWED),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "PUT"),
            ("access-control-allow-headers", "content-type, x-csrf-token"),
            ("access-control-max-age", "600"),
        ] {
            assert_eq!(answer.header(name), value, "{name}");
        }
        assert!(answer.header("vary").starts_with("Origin"));
        // What is announced is not served here.
        let answer = preflight(&mut browser, "/api/read", &asked).await;
        assert_eq!(answer.status, 405);
    }
    assert!(app.requests().is_empty());
}

#[tokio::test]
async fn no_other_origin_is_told_that_it_may() {
    let (app, proxy) = api().await;
    for mut browser in both(&proxy) {
        browser.log_in("alice").await;
        for origin in [
            "https://evil.example",
            "https://app.example.test.evil.example",
            "https://app.example.test:443",
            "https://app.example.test/",
            "https://APP.example.test",
            "http://app.example.test",
            "https://example.test",
            "http://localhost:51730",
            "https://app.example.test, https://evil.example",
            "null",
            "*",
        ] {
            let answer = preflight(&mut browser, "/api/items", &[("origin", origin)]).await;
            assert_eq!(answer.status, 403, "{origin}");
            let fetched = browser
                .request(Method::GET, "/api/items", &[("origin", origin)], "")
                .await;
            assert_eq!(fetched.status, 200, "{origin}");
            for answer in [answer, fetched] {
                for name in [
                    "access-control-allow-origin",
                    "access-control-allow-credentials",
                ] {
                    assert_eq!(answer.header(name), "", "{origin} {name}");
                }
                let vary = answer.headers.get_all("vary").into_iter();
                assert!(vary.into_iter().any(|vary| vary == "Origin"), "{origin}");
            }
        }
        let twice = [("origin", ALLOWED), ("origin", "https://evil.example")];
        let answer = preflight(&mut browser, "/api/items", &twice).await;
        assert_eq!(answer.status, 403);
    }
    let asked = app.requests();
    assert!(
        asked
            .iter()
            .all(|request| request.line().starts_with("GET "))
    );
}

#[tokio::test]
async fn scripts_of_origins_that_are_named_read_every_answer() {
    let (_app, proxy) = api().await;
    for mut browser in both(&proxy) {
        let fields = [("origin", ALLOWED), ("sec-fetch-mode", "cors")];
        let get = Method::GET;
        let refused = browser
            .request(get.clone(), "/api/items", &fields, "")
            .await;
        assert_eq!(refused.status, 401);
        let login = refused.json()["login_url"].clone();
        let expected = format!(
            "https://{}/.doorward/login?return_to=%2F",
            browser.authority()
        );
        assert_eq!(login, expected.as_str());
        browser.log_in("alice").await;
        let read = browser
            .request(get.clone(), "/api/items", &fields, "")
            .await;
        assert_eq!((read.status.as_u16(), read.text().as_str()), (200, "data"));
        let down = browser.request(get, "/api/down", &fields, "").await;
        assert_eq!(down.status, 502);
        for answer in [refused, read, down] {
            let status = answer.status;
            assert_eq!(
                answer
                    .headers
                    .get_all("access-control-allow-origin")
                    .iter()
                    .count(),
                1,
                "{status}"
            );
            assert_eq!(
                answer.header("access-control-allow-origin"),
                ALLOWED,
                "{status}"
            );
            assert_eq!(
                answer.header("access-control-allow-credentials"),
                "true",
                "{status}"
            );
        }
    }
}

#[tokio::test]
async fn where_a_route_names_no_origins_the_app_speaks_for_itself() {
    let (app, proxy) = api().await;
    for mut browser in both(&proxy) {
        let evil = ("origin", "https://evil.example");
        let answer = preflight(&mut browser, "/open", &[evil]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert_eq!(answer.header("vary"), "Accept");
        assert!(app.last().line().starts_with("OPTIONS /open "));
    }
}

/// From other origins none of the kinds is told more, and where the route names the origin its scripts can read what they are
/// told: not sent away, with an address that is whole.
#[tokio::test]
async fn what_a_script_of_another_origin_is_told_leads_to_a_whole_address() {
    let (app, proxy) = api().await;
    for mut browser in both(&proxy) {
        let whole = format!(
            "https://{}/.doorward/login?return_to=%2F",
            browser.authority()
        );
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::HEAD,
        ] {
            for (origin, may_read) in [(ALLOWED, true), ("https://evil.example", false)] {
                let fields = [("origin", origin), ("accept", HTML)];
                let fields = [
                    fields[0],
                    fields[1],
                    ("sec-fetch-mode", "cors"),
                    ("sec-fetch-dest", "empty"),
                ];
                let answer = browser
                    .request(method.clone(), "/api/items", &fields, "")
                    .await;
                assert_eq!(answer.status, 401, "{method} {origin}");
                assert_eq!(answer.header("location"), "", "{method} {origin}");
                let allowed = answer.header("access-control-allow-origin");
                assert_eq!(allowed == ALLOWED, may_read, "{method} {origin}");
                assert_eq!(allowed.is_empty(), !may_read, "{method} {origin}");
                if method != Method::HEAD {
                    assert_eq!(
                        answer.json()["login_url"],
                        whole.as_str(),
                        "{method} {origin}"
                    );
                }
            }
        }
    }
    assert!(app.requests().is_empty());
}
