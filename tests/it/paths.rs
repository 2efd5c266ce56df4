//! What a rule matches is what the app gets: one reading of host, path and method, and the route that it leads to.

use http::Method;

use crate::support::{
    Browser, Frames, PASSWORD, Proxy, Recorded, Reply, Upstream, proxy, upstream,
};

/// Everything behind a login, except what is below `/public`.
async fn guarded() -> (Proxy, Upstream) {
    let app = upstream(|request| Reply::ok(request.line())).await;
    let proxy = proxy()
        .app(&app.url())
        .route("/public", &app.url(), "access = \"public\"")
        .start();
    (proxy, app)
}

async fn get(proxy: &Proxy, path: &str) -> Option<u16> {
    let mut raw = proxy.raw().await;
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .await;
    raw.status().await
}

/// The path of a request line, without its query.
fn path_of(request: &Recorded) -> &str {
    let target = request.line().split(' ').nth(1).unwrap();
    target.split('?').next().unwrap()
}

/// What the most careless app could take a path for: decoded until nothing changes, `\` as `/`, parameters cut off,
/// dots resolved, case ignored.
fn careless(path: &str) -> String {
    let mut path = path.to_lowercase();
    loop {
        let decoded = percent_encoding::percent_decode_str(&path)
            .decode_utf8_lossy()
            .into_owned();
        if decoded == path {
            break;
        }
        path = decoded;
    }
    let mut segments = Vec::new();
    for segment in path.replace('\\', "/").split('/') {
        match segment.split([';', '\0', '#', '?']).next().unwrap() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name.to_owned()),
        }
    }
    format!("/{}", segments.join("/"))
}

/// What some app takes for `/admin`, or for another place outside `/public`.
const PLACES: &[&str] = &[
    "/",
    "/admin",
    "/admin/",
    "/ADMIN",
    "/%61dmin",
    "/%61%64%6D%69%6e",
    "/./admin",
    "/.//admin",
    "//admin",
    "///admin",
    "/admin//",
    "/\\admin",
    "/admin\\",
    "/admin;x",
    "/;x/admin",
    "/admin%3bx",
    "/admin%00",
    "/admin%20",
    "/admin%09",
    "/admin.",
    "/admin%2f",
    "/%2fadmin",
    "/%5cadmin",
    "/%2561dmin",
    "/%25%36%31dmin",
    "/%u0061dmin",
    "/%c1%a1dmin",
    "/%e0%81%a1dmin",
    "/publi",
    "/publicx",
    "/publica/../admin",
    "/public.",
    "/PUBLIC",
    "/public%20",
    "/%70ublic%2f..%2fadmin",
    "/public;/admin",
    "/public%3b/admin",
    "/public%2fx",
    "/public%5cx",
    "/public\\x",
    "/public%00/x",
    "/public%23/x",
    "/public%3f/../admin",
    "/x/public",
    "/x/..",
    "/x/../admin",
    "/x/../public/../admin",
    "/.doorward/../admin",
    "/.doorward/%2e%2e/admin",
    "/.doorward%2f..%2fadmin",
];

/// What some app takes for `..`.
const DOTS: &[&str] = &[
    "..",
    ".%2e",
    "%2e.",
    "%2e%2e",
    "%2E%2E",
    "..;",
    "..;x",
    "%2e%2e;",
    "..%3b",
    "..%00",
    "..%20",
    "%252e%252e",
    "%25%32%65%252e",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "%u002e%u002e",
    ".%00.",
    "..%0a",
    "..%c0%af",
    "..\\",
    "\\..",
    "...",
    "%2e%2e%2e",
    "..%2e",
];

/// What some app takes for a `/`.
const SLASHES: &[&str] = &[
    "/",
    "//",
    "/./",
    "%2f",
    "%2F",
    "%252f",
    "%5c",
    "\\",
    "%c0%af",
    "%e0%80%af",
    ";/",
    "/;/",
];

/// All of these places, and every way out of `/public`.
fn spellings() -> Vec<String> {
    let mut all: Vec<String> = PLACES.iter().map(|&place| place.to_owned()).collect();
    for dots in DOTS {
        for slash in SLASHES {
            all.push(format!("/public{slash}{dots}{slash}admin"));
            all.push(format!("/public/x{slash}{dots}/{dots}{slash}admin"));
        }
        all.push(format!("/public/{dots}"));
        all.push(format!("/public/{dots}/"));
        all.push(format!("/public/{dots}?x=/public/"));
    }
    all
}

/// Nothing that anybody could take for a guarded path may have come through without a session.
fn assert_public_alone(app: &Upstream) {
    for request in app.requests() {
        let path = path_of(&request);
        let read = careless(path);
        assert!(
            read == "/public" || read.starts_with("/public/"),
            "{} is {read} to some",
            request.line()
        );
        assert!(path == "/public" || path.starts_with("/public/"), "{path}");
    }
}

#[tokio::test]
async fn no_spelling_of_a_guarded_path_passes_for_a_public_one() {
    let (proxy, app) = guarded().await;
    let spellings = spellings();
    assert!(spellings.len() > 600);
    let mut raw = proxy.raw().await;
    for path in &spellings {
        let before = app.requests().len();
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        let status = raw.status().await;
        if status.is_none() {
            raw = proxy.raw().await;
            continue;
        }
        let (head, content) = raw.response().await;
        let came = app.requests().len() - before;
        match status {
            Some(200) => assert_eq!(came, 1, "{path}"),
            Some(400 | 401 | 404) => assert_eq!(came, 0, "{path}: {head}"),
            _ => panic!("{path}: {head} {content:?}"),
        }
        if head.to_lowercase().contains("connection: close") {
            raw = proxy.raw().await;
        }
    }
    assert_public_alone(&app);
    // The table is worth something only where some of it passes and most of it does not.
    assert!((1..60).contains(&app.requests().len()));
}

#[tokio::test]
async fn nor_over_http2() {
    let (proxy, app) = guarded().await;
    let mut frames = Frames::connect(&proxy).await;
    let mut stream = 1;
    for path in spellings().iter().step_by(3) {
        frames.get(stream, path, &[]).await;
        if frames.ended(stream).await == crate::support::Ended::Closed {
            frames = Frames::connect(&proxy).await;
            stream = 1;
        } else {
            stream += 2;
        }
    }
    assert_public_alone(&app);
}

#[tokio::test]
async fn the_app_gets_the_path_that_was_judged() {
    let (proxy, app) = guarded().await;
    for (asked, got) in [
        ("/public", "/public"),
        ("/public/", "/public/"),
        ("/%70ublic/x", "/public/x"),
        ("/public/%7Euser", "/public/~user"),
        ("/public/a%20b%c3%a9", "/public/a%20b%C3%A9"),
        ("/public/./x/../y", "/public/y"),
        ("/x/../public/y", "/public/y"),
        (
            "/public/x/%2e%2e/y?a=/../b&c=%2e",
            "/public/y?a=/../b&c=%2e",
        ),
        ("/public/{x}|^\"", "/public/%7Bx%7D%7C%5E%22"),
        ("/public/...", "/public/..."),
        ("/public?", "/public?"),
    ] {
        assert_eq!(get(&proxy, asked).await, Some(200), "{asked}");
        assert_eq!(app.last().line(), format!("GET {got} HTTP/1.1"), "{asked}");
    }
}

#[tokio::test]
async fn with_a_session_the_same_spellings_are_one_path_to_the_app() {
    let (proxy, app) = guarded().await;
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    for asked in [
        "/admin",
        "/%61dmin",
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/./admin",
    ] {
        assert_eq!(browser.fetch(asked).await.status, 200, "{asked}");
        assert_eq!(app.last().line(), "GET /admin HTTP/1.1");
        assert_eq!(app.last().one("remote-user"), "alice");
    }
    let before = app.requests().len();
    for asked in [
        "//admin", "/admin;x", "/a%2fb", "/%252e", "/..", "/%00", "/a\\b",
    ] {
        assert_eq!(browser.fetch(asked).await.status, 400, "{asked}");
    }
    assert_eq!(app.requests().len(), before);
}

#[tokio::test]
async fn a_route_lets_through_only_the_oddities_that_it_names() {
    let oddities = [
        ("encoded-slash", "/files/a%2fb", "/files/a%2Fb"),
        ("backslash", "/files/a%5cb", "/files/a%5Cb"),
        ("semicolon", "/files/a;v=1", "/files/a;v=1"),
        ("empty-segment", "/files/a//b", "/files/a//b"),
        ("double-encoding", "/files/a%2541", "/files/a%2541"),
    ];
    for (allowed, ..) in oddities {
        let app = upstream(|_| Reply::ok("")).await;
        let rest = format!("access = \"public\"\nallow_paths = [\"{allowed}\"]");
        let proxy = proxy()
            .app(&app.url())
            .route("/files", &app.url(), &rest)
            .start();
        for (name, asked, got) in oddities {
            let expected = if name == allowed { 200 } else { 400 };
            assert_eq!(
                get(&proxy, asked).await,
                Some(expected),
                "{allowed}: {asked}"
            );
            if name == allowed {
                assert_eq!(app.only().line(), format!("GET {got} HTTP/1.1"));
            }
        }
    }
}

#[tokio::test]
async fn an_allowed_oddity_is_no_way_to_another_route() {
    let app = upstream(|_| Reply::ok("")).await;
    let rest = "access = \"public\"\nallow_paths = [\"encoded-slash\", \"backslash\", \"semicolon\", \"empty-segment\", \"double-encoding\"]";
    let proxy = proxy()
        .app(&app.url())
        .route("/public", &app.url(), rest)
        .route("/public/private", &app.url(), "access = \"user\"")
        .start();
    for path in spellings() {
        get(&proxy, &path).await;
    }
    for path in [
        "/public/..%2fadmin",
        "/public/x%2f..%2f..%2fadmin",
        "/public/..%5cadmin",
        "/public/..;/admin",
        "/public/..;x=1/admin",
        "/public/%252e%252e/admin",
        "/public/..%252fadmin",
        "/public//private",
        "/public/;/private",
        "/public/private;x",
        "/public/private%2fx",
        "/public%2fprivate",
        "/public/x%2f..%2fprivate",
        "/public/%2570rivate",
        "/public%2f..%2f.doorward%2flogin",
    ] {
        let status = get(&proxy, path).await.unwrap();
        assert!([400, 401].contains(&status), "{path}: {status}");
    }
    assert_public_alone(&app);
    for request in app.requests() {
        assert!(
            !careless(path_of(&request)).starts_with("/public/private"),
            "{}",
            request.line()
        );
    }
    assert!(!app.requests().is_empty());
}

#[tokio::test]
async fn our_own_pages_have_one_spelling_and_never_reach_an_app() {
    let app = upstream(|_| Reply::ok("")).await;
    let rest = "access = \"public\"\nallow_paths = [\"encoded-slash\", \"backslash\", \"semicolon\", \"empty-segment\", \"double-encoding\"]";
    let proxy = proxy().route("/", &app.url(), rest).start();
    for path in [
        "/.doorward",
        "/.doorward/",
        "/.doorward/nothing",
        "/.doorward/session",
        "/%2edoorward/session",
        "/.%64oorward/session",
        "/x/../.doorward/session",
        "/.doorward/./session",
        "/.doorward//session",
        "//.doorward/session",
        "/.doorward%2fsession",
        "/.doorward\\session",
        "/.doorward;x/session",
        "/%252edoorward/session",
        "/.doorward/%2573ession",
        "/x%2f..%2f.doorward%2fsession",
    ] {
        let status = get(&proxy, path).await.unwrap();
        assert!([400, 401, 404].contains(&status), "{path}: {status}");
    }
    // No route of ours allows anything that others read differently.
    for path in [
        "/.doorward//session",
        "/.doorward/session;x",
        "/.doorward/%2573ession",
        "/.doorward/session%2f",
        "/.doorward/session%5c",
    ] {
        assert_eq!(get(&proxy, path).await, Some(400), "{path}");
    }
    assert!(app.requests().is_empty(), "{:?}", app.requests());
}

#[tokio::test]
async fn prefixes_are_taken_off_and_put_before() {
    let app = upstream(|_| Reply::ok("")).await;
    let url = app.url();
    let public = |rest: &str| format!("access = \"public\"\n{rest}");
    let proxy = proxy()
        .route("/strip", &url, &public("strip_prefix = true"))
        .route("/part/of/it", &url, &public("strip_prefix = \"/part\""))
        .route("/add", &url, &public("add_prefix = \"/base\""))
        .route(
            "/both",
            &url,
            &public("strip_prefix = true\nadd_prefix = \"/base\""),
        )
        .start();
    for (asked, got) in [
        ("/strip", "/"),
        ("/strip/", "/"),
        ("/strip?x=1", "/?x=1"),
        ("/strip/a/b?x=/strip", "/a/b?x=/strip"),
        ("/strip/strip", "/strip"),
        ("/strip/../strip/a", "/a"),
        ("/part/of/it", "/of/it"),
        ("/part/of/it/x", "/of/it/x"),
        ("/add", "/base/add"),
        ("/add/x", "/base/add/x"),
        ("/both", "/base/"),
        ("/both/x?y", "/base/x?y"),
        ("/both/../both/z", "/base/z"),
    ] {
        assert_eq!(get(&proxy, asked).await, Some(200), "{asked}");
        assert_eq!(app.last().line(), format!("GET {got} HTTP/1.1"), "{asked}");
    }
    for asked in [
        "/stripped",
        "/strip/../x",
        "/both/../x",
        "/part/of",
        "/add/../x",
    ] {
        assert_eq!(get(&proxy, asked).await, Some(404), "{asked}");
    }
}

#[tokio::test]
async fn the_host_that_the_app_sees_is_the_one_that_the_route_says() {
    let app = upstream(|_| Reply::ok("")).await;
    let url = app.url();
    let public = |rest: &str| format!("access = \"public\"\n{rest}");
    let proxy = proxy()
        .route("/client", &url, &public(""))
        .route("/upstream", &url, &public("send_host = \"upstream\""))
        .route(
            "/named",
            &url,
            &public("send_host = \"wiki.internal:8080\""),
        )
        .start();
    let authority = proxy.browser().authority();
    let own = app.addr.to_string();
    for (path, host) in [
        ("/client", authority.as_str()),
        ("/upstream", own.as_str()),
        ("/named", "wiki.internal:8080"),
    ] {
        for mut browser in [proxy.browser(), proxy.browser().over_http2()] {
            browser.fetch(path).await;
            assert_eq!(app.last().one("host"), host, "{path}");
            assert_eq!(app.last().one("x-forwarded-host"), authority, "{path}");
        }
    }
}

#[tokio::test]
async fn a_method_that_no_route_takes_is_refused_and_the_others_are_named() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy()
        .route("/", &app.url(), "access = \"public\"")
        .route(
            "/api",
            &app.url(),
            "access = \"public\"\nmethods = [\"GET\", \"POST\"]",
        )
        .start();
    let mut browser = proxy.browser();
    for method in [Method::DELETE, Method::PUT, Method::PATCH, Method::OPTIONS] {
        let answer = browser.request(method.clone(), "/api/x", &[], "").await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), "GET, POST");
    }
    assert!(app.requests().is_empty(), "no shorter route steps in");
    for method in [Method::GET, Method::POST] {
        assert_eq!(browser.request(method, "/api/x", &[], "").await.status, 200);
    }
    // One that nobody has heard of goes to a route for all methods.
    let purge = Method::from_bytes(b"M-SEARCH").unwrap();
    assert_eq!(browser.request(purge, "/x", &[], "").await.status, 200);
    assert_eq!(app.last().line(), "M-SEARCH /x HTTP/1.1");
}

#[tokio::test]
async fn methods_of_one_path_can_have_rules_of_their_own() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy()
        .route(
            "/doc",
            &app.url(),
            "access = \"public\"\nmethods = [\"GET\", \"HEAD\"]",
        )
        .route(
            "/doc",
            &app.url(),
            "access = \"user\"\nmethods = [\"POST\"]",
        )
        .start();
    let mut browser = proxy.browser();
    assert_eq!(browser.fetch("/doc/1").await.status, 200);
    assert_eq!(
        browser
            .request(Method::POST, "/doc/1", &[], "")
            .await
            .status,
        401
    );
    // What overrides the method further in is the app's business; what is judged is the method that was sent.
    let fields = [("x-http-method-override", "POST")];
    browser.request(Method::GET, "/doc/1", &fields, "").await;
    assert_eq!(app.last().line(), "GET /doc/1 HTTP/1.1");
    assert!(
        app.requests()
            .iter()
            .all(|request| request.line().starts_with("GET "))
    );
}

#[tokio::test]
async fn what_no_route_serves_is_not_found_whoever_asks() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy()
        .route("/app", &app.url(), "access = \"user\"")
        .route_at("wiki.example.test", "/", &app.url(), "access = \"public\"")
        .start();
    for path in ["/", "/ap", "/apple", "/x/app"] {
        assert_eq!(get(&proxy, path).await, Some(404), "{path}");
    }
    let ask = |host: &str, path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for (host, status) in [
        ("wiki.example.test", 200),
        ("WIKI.example.TEST:8443", 200),
        ("other.example.test", 404),
        ("localhost.example.test", 404),
        ("127.0.0.1", 404),
    ] {
        let mut raw = proxy.raw().await;
        raw.send(ask(host, "/")).await;
        assert_eq!(raw.status().await, Some(status), "{host}");
    }
    assert_eq!(app.requests().len(), 2);
}

#[tokio::test]
async fn the_most_specific_route_wins_whatever_the_order() {
    let app = upstream(|_| Reply::ok("")).await;
    let routes = [
        ("*.example.test", "/"),
        ("wiki.example.test", "/"),
        ("wiki.example.test", "/a"),
        ("wiki.example.test", "/a/b"),
        ("*.deep.example.test", "/"),
    ];
    for turn in 0..routes.len() {
        let mut routes = routes;
        routes.rotate_left(turn);
        let proxy = routes.iter().fold(proxy(), |proxy, (host, path)| {
            let name = format!("{host}{path}");
            let rest = format!(
                "access = \"public\"\nrequest_headers = {{ set = {{ X-Route = \"{name}\" }} }}"
            );
            proxy.route_at(host, path, &app.url(), &rest)
        });
        let proxy = proxy.start();
        for (host, path, expected) in [
            ("wiki.example.test", "/", "wiki.example.test/"),
            ("wiki.example.test", "/ab", "wiki.example.test/"),
            ("wiki.example.test", "/a", "wiki.example.test/a"),
            ("wiki.example.test", "/a/bc", "wiki.example.test/a"),
            ("wiki.example.test", "/a/b/", "wiki.example.test/a/b"),
            ("blog.example.test", "/a/b", "*.example.test/"),
        ] {
            let mut raw = proxy.raw().await;
            raw.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
                .await;
            assert_eq!(raw.status().await, Some(200), "{host}{path}");
            assert_eq!(app.last().one("x-route"), expected, "{host}{path}");
        }
    }
}

#[tokio::test]
async fn redirects_of_the_app_lead_to_the_address_that_the_client_knows() {
    let app = upstream(|request| {
        let to = request.line().split(['=', ' ']).nth(2).unwrap_or_default();
        let own = request.one("x-own").to_owned();
        let port = own.rsplit(':').next().unwrap_or_default();
        let told = request.one("host");
        let name = told.split(':').next().unwrap_or_default();
        let to = to
            .replace("OWN", &own)
            .replace("PORT", port)
            .replace("TOLD", told)
            .replace("NAME", name);
        Reply::with(302, &format!("location: {to}\r\n"), "")
    })
    .await;
    let own = app.addr.to_string();
    let rest = |more: &str| {
        format!(
            "access = \"public\"\nrequest_headers = {{ set = {{ X-Own = \"{own}\" }} }}\n{more}"
        )
    };
    let proxy = proxy()
        .route("/plain", &app.url(), &rest(""))
        .route("/strip", &app.url(), &rest("strip_prefix = true"))
        .route(
            "/both",
            &app.url(),
            &rest("strip_prefix = true\nadd_prefix = \"/base\""),
        )
        .start();
    let mut browser = proxy.browser();
    for (path, to, seen) in [
        ("/plain", "http://OWN/x", "/x"),
        ("/plain", "https://OWN/x", "/x"),
        ("/plain", "http://OWN", "/"),
        ("/plain", "http://TOLD/x/", "/x/"),
        ("/plain", "http://NAME:PORT/x/", "/x/"),
        ("/strip", "http://NAME:PORT/x/", "/strip/x/"),
        ("/plain", "/x", "/x"),
        ("/plain", "x", "x"),
        (
            "/plain",
            "https://elsewhere.test/x",
            "https://elsewhere.test/x",
        ),
        ("/plain", "http://OWN.evil.test/", "http://OWN.evil.test/"),
        ("/plain", "http://OWN//evil.test/", "http://OWN//evil.test/"),
        ("/strip", "/x", "/strip/x"),
        ("/strip", "http://OWN/x", "/strip/x"),
        ("/strip", "http://OWN", "/strip/"),
        ("/strip", "//evil.test/x", "//evil.test/x"),
        ("/strip", "x/y", "x/y"),
        ("/both", "/base/x", "/both/x"),
        ("/both", "/base", "/both/"),
    ] {
        let answer = browser.fetch(&format!("{path}?to={to}")).await;
        assert_eq!(answer.status, 302, "{to}");
        assert_eq!(
            answer.header("location"),
            seen.replace("OWN", &own),
            "{path} {to}"
        );
    }
}

#[tokio::test]
async fn a_route_edits_fields_both_ways() {
    let app = upstream(|_| {
        Reply::with(
            200,
            "x-powered-by: php\r\nserver: old\r\nx-frame-options: none\r\nx-keep: 1\r\n",
            "",
        )
    })
    .await;
    let rest = "access = \"public\"
request_headers = { set = { X-Frontend = \"doorward\", X-Twice = \"ours\" }, remove = [\"X-Debug\"] }
response_headers = { set = { X-Frame-Options = \"DENY\" }, remove = [\"X-Powered-By\", \"Server\"] }";
    let proxy = proxy().route("/", &app.url(), rest).start();
    let mut raw = proxy.raw().await;
    raw.send(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX-Debug: 1\r\nx-debug: 2\r\nX-Twice: a\r\nX-Twice: b\r\nX-Other: 1\r\n\r\n",
    )
    .await;
    let (head, _) = raw.response().await;
    let head = head.to_lowercase();
    assert!(
        !head.contains("x-powered-by") && !head.contains("server:"),
        "{head}"
    );
    assert!(head.contains("x-frame-options: deny\r\n"), "{head}");
    assert!(head.contains("x-keep: 1\r\n"), "{head}");
    let request = app.only();
    assert!(request.all("x-debug").is_empty());
    assert_eq!(request.one("x-frontend"), "doorward");
    assert_eq!(request.one("x-twice"), "ours");
    assert_eq!(request.one("x-other"), "1");
}

#[tokio::test]
async fn a_login_leads_back_to_a_path_of_ours_and_nowhere_else() {
    let (proxy, app) = guarded().await;
    let mut browser = proxy.browser();
    for asked in [
        "//evil.test/x",
        "/\\evil.test",
        "/%2f%2fevil.test",
        "/%5cevil.test",
        "/..//evil.test",
    ] {
        let answer = browser.open(asked).await;
        assert_eq!(answer.status, 400, "{asked}");
        assert!(answer.headers.get("location").is_none(), "{asked}");
    }
    let answer = browser.open("/.//evil.test").await;
    assert!(
        !answer.header("location").contains("evil"),
        "{:?}",
        answer.headers
    );
    assert!(app.requests().is_empty());
}

/// Places that lead elsewhere, or that two readers could read differently: as they stand in the query, byte by byte.
const ELSEWHERE: &[&[u8]] = &[
    b"//evil.test",
    b"///evil.test",
    b"/\\evil.test",
    b"\\\\evil.test",
    b"/\\/evil.test",
    b"%2f%2fevil.test",
    b"%2F%5Cevil.test",
    b"%5C%5Cevil.test",
    b"%252f%252fevil.test",
    b"/%252f%252fevil.test",
    b"/%255cevil.test",
    b"/%2e%2e//evil.test",
    b"/.//evil.test",
    b"/a/..//evil.test",
    b"%09//evil.test",
    b"/%09/evil.test",
    b"/%0a/evil.test",
    b"/%0d/evil.test",
    b"/%0d%0aLocation:%20https://evil.test",
    b"/%00/evil.test",
    b"+//evil.test",
    b"%20//evil.test",
    b"%EF%BB%BF//evil.test",
    b"http://evil.test/",
    b"https://evil.test/",
    b"https:evil.test",
    b"https:/evil.test",
    b"https:///evil.test",
    b"https:\\\\evil.test",
    b"HTTPS://evil.test/",
    b"ftp://localhost/",
    b"javascript:alert(1)",
    b"JaVaScRiPt:alert(1)",
    b"%6Aavascript:alert(1)",
    b"data:text/html,x",
    b"vbscript:x",
    b"https://localhost@evil.test/",
    b"https://localhost:1@evil.test/",
    b"https://localhost%40evil.test/",
    b"https://localhost%2eevil.test/",
    b"https://localhost.evil.test/",
    b"https://evil.test%23@localhost/",
    b"https://evil.test%5C@localhost/",
    b"https://user:secret@localhost/",
    b"https://localhost:99999/",
    b"https://[::1]/",
    b"https://localhost%EF%BC%8Eevil.test/",
    b"https://evil%E3%80%82test/",
    b"https://localhost%E2%81%84evil.test/",
    b"/%EF%BC%8F%EF%BC%8Fevil.test",
    b"/%EF%BC%8Fevil.test",
    b"/%E2%80%AE/evil.test",
    b"/%C0%AF%C0%AFevil.test",
    b"/%FFevil",
    b"/;/evil.test",
    b"/a%23//evil.test",
    b".evil.test",
    b"@evil.test",
    b"evil.test",
    b"?//evil.test",
    b"/.doorward/logout",
    b"/%2edoorward/logout",
    b"/.doorward%2flogout",
    b"/.DOORWARD/logout",
];

#[tokio::test]
async fn no_spelling_of_a_place_to_return_to_leads_elsewhere() {
    let (proxy, app) = guarded().await;
    let host = proxy.browser().authority();
    let form_of = async |browser: &Browser, place: &[u8]| {
        let mut bytes = b"GET /.doorward/login?return_to=".to_vec();
        bytes.extend_from_slice(place);
        let cookie = browser.jar.get("__Host-sid-browser");
        let cookie = cookie.map_or("x", String::as_str);
        bytes.extend_from_slice(
            format!(" HTTP/1.1\r\nHost: {host}\r\nCookie: __Host-sid-browser={cookie}\r\n\r\n")
                .as_bytes(),
        );
        let mut raw = proxy.raw().await;
        raw.send(bytes).await;
        raw.response().await
    };
    for place in ELSEWHERE {
        let name = String::from_utf8_lossy(place);
        // Each time another browser: logins that follow each other fast are stopped.
        let mut browser = proxy.browser();
        browser.open("/.doorward/login").await;
        let (head, body) = form_of(&browser, place).await;
        if head.starts_with("HTTP/1.1 400 ") {
            assert!(place.contains(&b'\\'), "{name}: {head}");
            continue;
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{name}: {head}");
        let body = String::from_utf8(body).unwrap();
        let (_, state) = body.split_once("name=\"state\" value=\"").unwrap();
        let state = state.split('"').next().unwrap().to_owned();
        let form = [
            ("state", state.as_str()),
            ("user", "alice"),
            ("password", PASSWORD),
            ("return_to", "https://evil.test/"),
        ];
        let there = format!("/.doorward/login?return_to={}", "%2F%2Fevil.test");
        let answer = browser.submit(&there, &form).await;
        let seen = (answer.status.as_u16(), answer.header("location"));
        assert_eq!(seen, (303, "/"), "{name}");
        // Who is logged in already is not sent there either.
        let on = format!(
            "/.doorward/login?return_to={}&continue=yes",
            name.replace('\\', "%5C")
        );
        let answer = browser.open(&on).await;
        let seen = (answer.status.as_u16(), answer.header("location"));
        assert_eq!(seen, (303, "/"), "{name}");
    }
    assert!(app.requests().is_empty());
}

#[tokio::test]
async fn a_page_that_says_where_it_was_asked_from_leads_nowhere_else() {
    let (proxy, _app) = guarded().await;
    let browser = proxy.browser();
    let host = browser.authority();
    let port = proxy.addr.port();
    let ask = async |referer: &str| {
        let mut raw = proxy.raw().await;
        raw.send(format!(
            "POST /wiki HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 2\r\nReferer: {referer}\r\n\r\n{{}}"
        ))
        .await;
        let (head, body) = raw.response().await;
        assert!(head.starts_with("HTTP/1.1 401 "), "{referer}: {head}");
        let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
        told["login_url"].as_str().unwrap().to_owned()
    };
    let own = ask(&format!("https://{host}/wiki?x=1")).await;
    assert_eq!(own, "/.doorward/login?return_to=%2Fwiki%3Fx%3D1");
    for referer in [
        "https://evil.test/x".to_owned(),
        format!("https://{host}.evil.test/x"),
        format!("https://{host}@evil.test/x"),
        format!("https://evil.test@{host}/x"),
        format!("https://user:secret@{host}/x"),
        format!("https://evil.test\\@{host}/x"),
        format!("https://{host}\\@evil.test/x"),
        format!("https://{host}//evil.test/x"),
        format!("https://{host}/\\evil.test"),
        format!("https://{host}/%2f%2fevil.test"),
        format!("https://{host}/%5cevil.test"),
        format!("https://{host}/.//evil.test"),
        format!("https://{host}/\t/evil.test"),
        format!("https://{host}/.doorward/logout"),
        format!("http://{host}/x"),
        format!("HTTPS://{host}/x"),
        format!("https://localhost:{}/x", port ^ 1),
        format!("https://localhost:+{port}/x"),
        "//evil.test/x".to_owned(),
        "/\\evil.test".to_owned(),
        "javascript:alert(1)".to_owned(),
        "about:blank".to_owned(),
        "null".to_owned(),
    ] {
        let login = ask(&referer).await;
        assert_eq!(login, "/.doorward/login?return_to=%2F", "{referer}");
    }
}
