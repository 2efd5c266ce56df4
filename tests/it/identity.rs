//! Who the user is reaches the app by one way alone (R13), and our cookies never leave us. What the app received, byte
//! by byte, and what the browser was told are what counts.

use http::Method;

use crate::support::{
    Browser, Ended, Frames, Proxy, Recorded, Reply, Upstream, add_user, proxy, pseudo, upstream,
};

const PRESETS: [(&str, [&str; 4]); 3] = [
    (
        "remote",
        [
            "Remote-User",
            "Remote-Name",
            "Remote-Email",
            "Remote-Groups",
        ],
    ),
    (
        "x-auth-request",
        [
            "X-Auth-Request-User",
            "X-Auth-Request-Name",
            "X-Auth-Request-Email",
            "X-Auth-Request-Groups",
        ],
    ),
    (
        "x-forwarded",
        [
            "X-Forwarded-User",
            "X-Forwarded-Name",
            "X-Forwarded-Email",
            "X-Forwarded-Groups",
        ],
    ),
];

/// Fields beside the presets' that some app somewhere believes.
const KIN: [&str; 12] = [
    "X-Remote-User",
    "X-Remote-Group",
    "X-WebAuth-User",
    "X-Auth-User",
    "X-Authenticated-User",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Access-Token",
    "X-Doorward-Jwt-Assertion",
    "Doorward-Session",
    "Doorward-Session-Data",
    "Doorward-Login",
    "Doorward-Anything",
];

/// As the least careful app reads a name: letters and digits, without CGI's prefix.
fn folded(name: &str) -> String {
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let letters = letters.to_lowercase();
    letters.strip_prefix("http").unwrap_or(&letters).to_owned()
}

/// Ways to write a name that some app takes for it.
fn spellings(name: &str) -> Vec<String> {
    let under = name.replace('-', "_");
    let half = name.replacen('-', "_", 1);
    vec![
        name.to_owned(),
        name.to_lowercase(),
        name.to_uppercase(),
        under.to_uppercase(),
        under,
        half,
        name.replace('-', "."),
        name.replace('-', ""),
        name.replace('-', "--"),
        format!("-{name}"),
        format!("_{name}"),
        format!("{name}-"),
        format!("{name}_"),
        format!("HTTP_{}", name.replace('-', "_").to_uppercase()),
        format!("http-{name}"),
        format!("!{name}~"),
    ]
}

/// Values that the app sees under a name, in whatever spelling.
fn seen<'r>(request: &'r Recorded, name: &str) -> Vec<&'r str> {
    let fields = request
        .head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'));
    let same = fields.filter(|(field, _)| folded(field) == folded(name));
    same.map(|(_, value)| value.trim()).collect()
}

/// A public route at `/public` and one for users at `/`.
async fn proxy_with(identity: &str) -> (Proxy, Upstream) {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy()
        .with("identity", identity)
        .with("limits", "max_headers = 1000")
        .app(&app.url())
        .route("/public", &app.url(), "access = \"public\"")
        .start();
    (proxy, app)
}

async fn token(proxy: &Proxy, user: &str) -> String {
    let mut browser = proxy.browser();
    browser.log_in(user).await;
    browser.token().to_owned()
}

/// Sends literal fields over HTTP/1.1 and returns what the app got.
async fn sent(proxy: &Proxy, app: &Upstream, path: &str, fields: &str) -> Recorded {
    let before = app.requests().len();
    let mut raw = proxy.raw().await;
    raw.send(format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
    ))
    .await;
    assert_eq!(raw.status().await, Some(200), "{fields}");
    assert_eq!(app.requests().len(), before + 1);
    app.last()
}

/// Every name in every spelling, twice, with a forged value.
fn forged() -> Vec<(String, &'static str)> {
    let names = PRESETS.iter().flat_map(|(_, names)| names).chain(&KIN);
    let all = names.flat_map(|name| spellings(name));
    all.flat_map(|name| [(name.clone(), "root"), (name, "admin")])
        .collect()
}

fn lines(fields: &[(String, &str)]) -> String {
    fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect()
}

fn assert_no_forgery(request: &Recorded) {
    for (_, value) in request
        .head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
    {
        assert!(
            !["root", "admin"].contains(&value.trim()),
            "{}",
            request.head
        );
    }
}

#[tokio::test]
async fn nobody_can_say_who_they_are() {
    let (proxy, app) = proxy_with("preset = \"remote\"").await;
    let forged = forged();
    for some in forged.chunks(200) {
        let request = sent(&proxy, &app, "/public", &lines(some)).await;
        assert_no_forgery(&request);
        for name in PRESETS.iter().flat_map(|(_, names)| names) {
            assert!(seen(&request, name).is_empty(), "{name}: {}", request.head);
        }
    }
    let event = proxy.audited("identity_header_stripped").await;
    assert!(!event["field"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn a_user_cannot_say_that_they_are_somebody_else() {
    for (preset, names) in PRESETS {
        let (proxy, app) = proxy_with(&format!("preset = \"{preset}\"")).await;
        let token = token(&proxy, "alice").await;
        for path in ["/public", "/"] {
            for some in forged().chunks(200) {
                let fields = format!("{}Cookie: __Host-sid={token}\r\n", lines(some));
                let request = sent(&proxy, &app, path, &fields).await;
                assert_no_forgery(&request);
                let values = ["alice", "alice %C3%9Cnder", "alice@example.org", "staff"];
                for (name, value) in names.into_iter().zip(values) {
                    assert_eq!(seen(&request, name), [value], "{preset} {name}");
                    assert_eq!(request.one(name), value);
                }
                let others = PRESETS.iter().filter(|(other, _)| *other != preset);
                for name in others.flat_map(|(_, names)| names) {
                    assert!(
                        seen(&request, name).is_empty(),
                        "{preset}: {}",
                        request.head
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn connection_cannot_take_identity_away() {
    let (proxy, app) = proxy_with("preset = \"remote\"").await;
    let token = token(&proxy, "alice").await;
    for connection in [
        "Remote-User",
        "close, remote-user, remote-groups",
        "X-A, REMOTE-USER\r\nRemote-User: root",
    ] {
        let fields =
            format!("Connection: {connection}\r\nX-A: 1\r\nCookie: __Host-sid={token}\r\n");
        let request = sent(&proxy, &app, "/", &fields).await;
        assert_eq!(seen(&request, "remote-user"), ["alice"]);
        assert_eq!(seen(&request, "remote-groups"), ["staff"]);
        assert!(request.all("connection").is_empty(), "{}", request.head);
    }
    for named in [
        "x-forwarded-for",
        "forwarded",
        "via",
        "x-forwarded-host",
        "x-forwarded-proto",
    ] {
        let request = sent(&proxy, &app, "/public", &format!("Connection: {named}\r\n")).await;
        assert_eq!(request.all(named).len(), 1, "{named}");
    }
}

#[tokio::test]
async fn over_http2_nobody_can_either() {
    let (proxy, app) = proxy_with("preset = \"x-forwarded\"").await;
    let token = token(&proxy, "bob").await;
    let cookie = format!("__Host-sid={token}");
    let forged = forged();
    for some in forged.chunks(100) {
        let mut frames = Frames::connect(&proxy).await;
        let lower: Vec<_> = some
            .iter()
            .map(|(name, value)| (name.to_lowercase(), *value))
            .collect();
        let mut fields = pseudo("GET", "/").to_vec();
        fields.extend(lower.iter().map(|(name, value)| (name.as_str(), *value)));
        fields.push(("cookie", &cookie));
        frames.headers(1, &fields, true).await;
        assert_eq!(frames.ended(1).await, Ended::Status(200));
        let request = app.last();
        assert_no_forgery(&request);
        assert_eq!(seen(&request, "x-forwarded-user"), ["bob"]);
        assert_eq!(
            seen(&request, "x-forwarded-groups"),
            [""],
            "known to be in none"
        );
    }
}

#[tokio::test]
async fn own_names_are_guarded_like_the_presets() {
    let own = "headers = { user = \"X-My-User\", groups = \"Team\" }";
    let (proxy, app) = proxy_with(own).await;
    let token = token(&proxy, "alice").await;
    let names = ["X-My-User", "Team"]
        .iter()
        .flat_map(|name| spellings(name));
    let forged: Vec<_> = names.map(|name| (name, "root")).collect();
    let request = sent(&proxy, &app, "/public", &lines(&forged)).await;
    assert_no_forgery(&request);
    assert!(seen(&request, "x-my-user").is_empty() && seen(&request, "team").is_empty());
    let fields = format!("{}Cookie: __Host-sid={token}\r\n", lines(&forged));
    let request = sent(&proxy, &app, "/", &fields).await;
    assert_eq!(seen(&request, "x-my-user"), ["alice"]);
    assert_eq!(seen(&request, "team"), ["staff"]);
    assert!(seen(&request, "remote-user").is_empty());
}

#[tokio::test]
async fn an_app_that_is_told_nothing_is_told_nothing() {
    let (proxy, app) = proxy_with("preset = \"none\"").await;
    let token = token(&proxy, "alice").await;
    let request = sent(
        &proxy,
        &app,
        "/",
        &format!("Remote-User: root\r\nCookie: __Host-sid={token}\r\n"),
    )
    .await;
    assert!(
        !request.head.contains("alice") && !request.head.contains("root"),
        "{}",
        request.head
    );
}

#[tokio::test]
async fn a_session_is_made_known_on_a_public_route_too_and_a_bad_one_is_nobody() {
    let (proxy, app) = proxy_with("preset = \"remote\"").await;
    let token = token(&proxy, "alice").await;
    let request = sent(
        &proxy,
        &app,
        "/public",
        &format!("Cookie: __Host-sid={token}\r\n"),
    )
    .await;
    assert_eq!(request.one("remote-user"), "alice");
    let mut changed = token.clone();
    let last = if changed.pop() == Some('A') { 'B' } else { 'A' };
    changed.insert(0, last);
    let upper = token.to_uppercase();
    for bad in [
        format!("__Host-sid={changed}"),
        format!("__Host-sid={upper}"),
        format!("__Host-sid={token}="),
        format!("__Host-sid=\"{token}\""),
        format!("__Host-sid= {token}"),
        format!("__Host-sid ={token}"),
        format!("__host-sid={token}"),
        format!("=__Host-sid={token}"),
        format!("__Host-sid={token}; __Host-sid={token}"),
        format!("__Host-sid={token}; __Host-sid=other"),
        format!("__Secure-sid={token}"),
        format!("sid={token}"),
        "__Host-sid=".to_owned(),
        format!("__Host-sid={}", "A".repeat(43)),
        format!("__Host-sid={}", "A".repeat(4000)),
        "__Host-sid=' OR 1=1 --".to_owned(),
        "__Host-sid=*%0d%0aSET".to_owned(),
    ] {
        let request = sent(&proxy, &app, "/public", &format!("Cookie: {bad}\r\n")).await;
        assert!(
            seen(&request, "remote-user").is_empty(),
            "{bad}: {}",
            request.head
        );
        let mut raw = proxy.raw().await;
        raw.send(format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {bad}\r\n\r\n"
        ))
        .await;
        assert_eq!(raw.status().await, Some(401), "{bad}");
    }
}

#[tokio::test]
async fn one_connection_can_carry_several_people_and_nobody() {
    let (proxy, app) = proxy_with("preset = \"remote\"").await;
    let (alice, bob) = (token(&proxy, "alice").await, token(&proxy, "bob").await);
    let mut raw = proxy.raw().await;
    for cookie in [&alice, &bob, "", &alice, &alice, "x", &bob, ""] {
        raw.send(format!(
            "GET /public HTTP/1.1\r\nHost: localhost\r\nCookie: a=1; __Host-sid={cookie}\r\n\r\n"
        ))
        .await;
        raw.response().await;
        let request = app.last();
        let expected: &[&str] = match cookie {
            _ if *cookie == *alice => &["alice"],
            _ if *cookie == *bob => &["bob"],
            _ => &[],
        };
        assert_eq!(seen(&request, "remote-user"), expected);
        assert_eq!(request.one("cookie"), "a=1");
    }
}

#[tokio::test]
async fn names_and_groups_are_spelt_so_that_they_cannot_be_mistaken() {
    let app = upstream(|_| Reply::ok("")).await;
    let start = || proxy().app(&app.url());
    let (folder, clock) = start().start().stop().await;
    add_user(
        &folder.path().join("users.toml"),
        "zoë",
        &["wiki admins", "größe", "50%", "a%2Cb"],
    );
    let proxy = start().after(folder, clock).start();
    let token = token(&proxy, "zoë").await;
    let request = sent(
        &proxy,
        &app,
        "/",
        &format!("Cookie: __Host-sid={token}\r\n"),
    )
    .await;
    assert_eq!(request.one("remote-user"), "zo%C3%AB");
    assert_eq!(
        request.one("remote-groups"),
        "wiki admins,gr%C3%B6%C3%9Fe,50%25,a%252Cb"
    );
    assert!(request.head.is_ascii());
}

#[tokio::test]
async fn our_cookies_stay_here_and_the_apps_own_go_on_as_they_came() {
    let (proxy, app) = proxy_with("preset = \"remote\"").await;
    let token = token(&proxy, "alice").await;
    for (cookies, left) in [
        (format!("__Host-sid={token}"), ""),
        (
            format!("theme=dark; __Host-sid={token}; lang=de"),
            "theme=dark; lang=de",
        ),
        (
            format!("__Host-sid={token}; a=\"b; c=d\"; e"),
            "a=\"b; c=d\"; e",
        ),
        (format!("a=1;__Host-sid={token};b=2"), "a=1; b=2"),
        ("__Host-sid-browser=x; a=1".to_owned(), "a=1"),
        ("__host-sid=x; a=1".to_owned(), "a=1"),
        ("__HOST-SID=x; a=1".to_owned(), "a=1"),
        ("a=1;  __Host-sid=x".to_owned(), "a=1"),
        ("a=1;\t__Host-sid=x".to_owned(), "a=1"),
        ("__Host-sid =x; a=1".to_owned(), "a=1"),
        ("=__Host-sid=x; a=1".to_owned(), "a=1"),
        ("__Host-sid; a=1".to_owned(), "a=1"),
        (
            "__Host-sid=x; __Host-sid=y; a=1; __Host-sid=z".to_owned(),
            "a=1",
        ),
        ("a=1; b=2;".to_owned(), "a=1; b=2;"),
        (
            "__Host-side=1; x__Host-sid=2; sid=3".to_owned(),
            "__Host-side=1; x__Host-sid=2; sid=3",
        ),
        ("a=__Host-sid=x".to_owned(), "a=__Host-sid=x"),
    ] {
        let request = sent(&proxy, &app, "/public", &format!("Cookie: {cookies}\r\n")).await;
        assert_eq!(request.all("cookie").concat(), left, "{cookies}");
        assert!(!request.head.contains(&token), "{}", request.head);
    }
}

#[tokio::test]
async fn crumbs_of_cookies_become_one_field_without_ours() {
    let (proxy, app) = proxy_with("preset = \"remote\"").await;
    let token = token(&proxy, "alice").await;
    let ours = format!("__Host-sid={token}");
    let ours_first = format!("{ours}; x=y");
    let cases: [(&[&str], &str, bool); 6] = [
        (&["a=1", &ours, "b=2"], "a=1; b=2", true),
        (&[&ours], "", true),
        (&["a=1", "b=2"], "a=1; b=2", false),
        (&[&ours_first, "a=1"], "x=y; a=1", true),
        (&[&ours, "a=1", &ours], "a=1", false),
        (&["__host-sid=x", "a=1"], "a=1", false),
    ];
    for (crumbs, left, known) in cases {
        let mut frames = Frames::connect(&proxy).await;
        let fields: Vec<_> = crumbs.iter().map(|crumb| ("cookie", *crumb)).collect();
        // Twice, since a connection remembers.
        for stream in [1, 3] {
            frames.get(stream, "/public", &fields).await;
            assert_eq!(frames.ended(stream).await, Ended::Status(200));
            let request = app.last();
            assert!(request.all("cookie").len() < 2, "{}", request.head);
            assert_eq!(request.all("cookie").concat(), left, "{crumbs:?}");
            assert_eq!(
                !seen(&request, "remote-user").is_empty(),
                known,
                "{crumbs:?}"
            );
        }
    }
}

/// The head of what the browser gets where the app answers with these fields.
async fn answered_with(fields: &'static str) -> String {
    let app = upstream(move |_| Reply::with(200, fields, "")).await;
    let proxy = proxy()
        .route("/", &app.url(), "access = \"public\"")
        .start();
    let mut raw = proxy.raw().await;
    raw.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    raw.head().await
}

#[tokio::test]
async fn an_app_can_neither_set_nor_clear_our_cookies() {
    let head = answered_with(
        "Set-Cookie: app=1; Path=/\r\n\
         Set-Cookie: __Host-sid=evil; Secure; Path=/\r\n\
         set-cookie: __host-sid=evil; Secure; Path=/\r\n\
         SET-COOKIE: __HOST-SID=evil\r\n\
         Set-Cookie:__Host-sid=evil\r\n\
         Set-Cookie: \t __Host-sid \t= evil\r\n\
         Set-Cookie: =__Host-sid=evil\r\n\
         Set-Cookie: = = __Host-sid=evil\r\n\
         Set-Cookie: __Host-sid; Max-Age=0\r\n\
         Set-Cookie: __Host-sid=; Max-Age=0; Path=/; Secure\r\n\
         Set-Cookie: __Host-sid-browser=evil\r\n\
         Set-Cookie: __host-SID-browser =evil\r\n\
         Set-Cookie: sid=mine; note=__Host\r\n",
    )
    .await;
    assert!(!head.to_lowercase().contains("__host-sid"), "{head}");
    assert!(!head.contains("evil"), "{head}");
    assert!(
        head.contains("app=1; Path=/\r\n") && head.contains("sid=mine; note=__Host\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn an_app_cannot_clear_what_is_ours_along_with_its_own() {
    for (value, left) in [
        ("\"*\"", None),
        ("\"cookies\"", None),
        ("\"Cookies\"", None),
        (
            "\"cache\", \"cookies\", \"storage\"",
            Some("\"cache\", \"storage\""),
        ),
        ("\"cache\"", Some("\"cache\"")),
        (
            "\"cache\"\r\nClear-Site-Data: \"cookies\"",
            Some("\"cache\""),
        ),
        ("\"cookies\"\r\nClear-Site-Data: \"cache\"", None),
        ("cookies", None),
        ("\"executionContexts\"", None),
    ] {
        let fields: &'static str = format!("Clear-Site-Data: {value}\r\n").leak();
        let head = answered_with(fields).await.to_lowercase();
        let fields: Vec<_> = head
            .lines()
            .filter_map(|line| line.strip_prefix("clear-site-data: "))
            .collect();
        assert_eq!(fields, left.into_iter().collect::<Vec<_>>(), "{value}");
    }
}

#[tokio::test]
async fn what_an_app_must_not_say_to_a_browser_is_not_passed_on() {
    let head = answered_with(
        "Alt-Svc: h3=\":443\"\r\n\
         Doorward-Login: user=\"root\"\r\n\
         Doorward-Session-Set: a=1\r\n\
         doorward-session-unset: a\r\n\
         Secure-Session-Registration: (ES256);path=\"/x\"\r\n\
         Secure-Session-Challenge: \"x\";id=\"y\"\r\n\
         Connection: X-Hop, close\r\n\
         X-Hop: 1\r\n\
         Keep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\n\
         Proxy-Authenticate: Basic\r\n\
         Upgrade: h2c\r\n\
         X-Kept: 1\r\n\
         WWW-Authenticate: Basic realm=\"app\"\r\n",
    )
    .await
    .to_lowercase();
    for gone in [
        "alt-svc",
        "doorward-",
        "secure-session",
        "x-hop",
        "keep-alive",
        "proxy-",
        "upgrade",
        "connection",
    ] {
        assert!(!head.contains(&format!("\r\n{gone}")), "{gone}: {head}");
    }
    assert!(
        head.contains("\r\nx-kept: 1\r\n") && head.contains("\r\nwww-authenticate: basic"),
        "{head}"
    );
}

#[tokio::test]
async fn trailers_of_an_app_say_no_more_than_its_fields_may() {
    let app = upstream(|_| {
        let bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Set-Cookie, Alt-Svc, X-Sum\r\n\r\n2\r\nok\r\n0\r\n\
                     Set-Cookie: __Host-sid=evil\r\nAlt-Svc: h3\r\nDoorward-Login: x\r\nClear-Site-Data: \"*\"\r\nX-Sum: 17\r\n\r\n";
        Reply::Bytes(bytes.as_bytes().to_vec())
    })
    .await;
    let proxy = proxy()
        .route("/", &app.url(), "access = \"public\"")
        .start();
    let mut raw = proxy.raw().await;
    raw.send("GET / HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nConnection: TE\r\n\r\n")
        .await;
    let all = String::from_utf8(raw.read_until(b"\r\n0\r\n").await).unwrap();
    let trailers = String::from_utf8(raw.read_until(b"\r\n\r\n").await)
        .unwrap()
        .to_lowercase();
    assert!(all.starts_with("HTTP/1.1 200 "), "{all}");
    assert_eq!(trailers, "x-sum: 17\r\n\r\n");
    assert_eq!(app.only().one("te"), "trailers");
}

#[tokio::test]
async fn what_is_for_one_hop_goes_no_further() {
    let (proxy, app) = proxy_with("").await;
    let fields = "Connection: keep-alive, X-Hop, x-hop-two\r\nX-Hop: 1\r\nX-Hop-Two: 2\r\nKeep-Alive: timeout=5\r\n\
                  Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: gzip, trailers\r\nUpgrade: foo/1\r\n\
                  HTTP2-Settings: AAAA\r\nX-Kept: 1\r\n";
    let request = sent(&proxy, &app, "/public", fields).await;
    for gone in [
        "connection",
        "x-hop",
        "x-hop-two",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "upgrade",
        "http2-settings",
    ] {
        assert!(request.all(gone).is_empty(), "{gone}: {}", request.head);
    }
    assert_eq!(request.one("x-kept"), "1");
}

#[tokio::test]
async fn via_names_us_and_a_circle_is_broken() {
    let (proxy, app) = proxy_with("").await;
    let request = sent(&proxy, &app, "/public", "").await;
    assert_eq!(request.one("via"), "1.1 doorward");
    let request = sent(&proxy, &app, "/public", "Via: 1.1 other\r\n").await;
    assert_eq!(request.all("via"), ["1.1 other", "1.1 doorward"]);
    let mut raw = proxy.raw().await;
    let before = app.requests().len();
    raw.send(format!(
        "GET /public HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        "Via: 1.1 doorward\r\n".repeat(5)
    ))
    .await;
    assert_eq!(raw.status().await, Some(508));
    let one_field = ["1.1 doorward"; 5].join(", ");
    let mut raw = proxy.raw().await;
    raw.send(format!(
        "GET /public HTTP/1.1\r\nHost: localhost\r\nVia: {one_field}\r\n\r\n"
    ))
    .await;
    assert_eq!(
        raw.status().await,
        Some(508),
        "a proxy between may have joined them"
    );
    assert_eq!(app.requests().len(), before);
}

const STATEMENTS: &str = "X-Forwarded-For: 203.0.113.9\r\nx_forwarded_for: 203.0.113.9\r\nX-Forwarded-Host: evil.test\r\n\
    X-Forwarded-Proto: gopher\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /evil\r\nX-Forwarded-Server: evil.test\r\n\
    X-Forwarded-Uri: /evil\r\nX-Forwarded: for=203.0.113.9\r\nForwarded: for=203.0.113.9;host=evil.test;proto=gopher\r\n\
    FORWARDED_: for=203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\nx_real_ip: 203.0.113.9\r\nX-Client-IP: 203.0.113.9\r\n\
    True-Client-IP: 203.0.113.9\r\nCF-Connecting-IP: 203.0.113.9\r\nX-Original-URL: /evil\r\nX-Rewrite-URL: /evil\r\n\
    X-Original-Host: evil.test\r\nX-Host: evil.test\r\nHTTP_X_FORWARDED_FOR: 203.0.113.9\r\nClient-Cert: :evil:\r\n\
    client_cert: :evil:\r\nX-SSL-Client-Cert: evil\r\nSSL_CLIENT_VERIFY: evil\r\nX-Cluster-Client-Ip: 203.0.113.9\r\n";

#[tokio::test]
async fn what_strangers_say_about_where_they_come_from_is_dropped() {
    let (proxy, app) = proxy_with("").await;
    let request = sent(&proxy, &app, "/public", STATEMENTS).await;
    for gone in ["203.0.113.9", "evil", "gopher"] {
        assert!(!request.head.contains(gone), "{}", request.head);
    }
    assert_eq!(seen(&request, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen(&request, "x-forwarded-proto"), ["https"]);
    assert_eq!(seen(&request, "x-forwarded-host"), ["localhost"]);
    assert_eq!(
        seen(&request, "forwarded"),
        ["for=127.0.0.1;host=localhost;proto=https"]
    );
    for gone in [
        "x-real-ip",
        "x-forwarded-port",
        "x-forwarded",
        "client-cert",
        "x-original-url",
    ] {
        assert!(seen(&request, gone).is_empty(), "{gone}: {}", request.head);
    }
}

#[tokio::test]
async fn trusted_proxies_are_believed_about_the_address_and_nothing_else() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy()
        .with(
            "server",
            "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]",
        )
        .route("/public", &app.url(), "access = \"public\"")
        .start();
    for (fields, by_custom, by_standard) in [
        ("", "127.0.0.1", "for=127.0.0.1"),
        (
            "X-Forwarded-For: 203.0.113.9\r\n",
            "203.0.113.9, 127.0.0.1",
            "for=203.0.113.9, for=127.0.0.1",
        ),
        (
            "X-Forwarded-For: 1.2.3.4, 203.0.113.9, 10.0.0.1\r\n",
            "203.0.113.9, 10.0.0.1, 127.0.0.1",
            "for=203.0.113.9, for=10.0.0.1, for=127.0.0.1",
        ),
        (
            "Forwarded: for=\"[2001:db8::1]:4711\";host=evil.test;proto=gopher\r\n",
            "2001:db8::1, 127.0.0.1",
            "for=\"[2001:db8::1]\", for=127.0.0.1",
        ),
        ("X-Forwarded-For: unknown\r\n", "127.0.0.1", "for=127.0.0.1"),
        (
            "X-Forwarded-For: 203.0.113.9\r\nForwarded: for=198.51.100.1\r\n",
            "127.0.0.1",
            "for=127.0.0.1",
        ),
        (
            "x_forwarded_for: 203.0.113.9\r\n",
            "127.0.0.1",
            "for=127.0.0.1",
        ),
        // What a client named in Connection is no way to hide behind the proxy's own address.
        (
            "Connection: x-forwarded-for\r\nX-Forwarded-For: 203.0.113.9\r\n",
            "203.0.113.9, 127.0.0.1",
            "for=203.0.113.9, for=127.0.0.1",
        ),
        (
            "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Host: evil.test\r\nX-Forwarded-Proto: gopher\r\nX-Real-IP: 9.9.9.9\r\n",
            "203.0.113.9, 127.0.0.1",
            "for=203.0.113.9, for=127.0.0.1",
        ),
    ] {
        let request = sent(&proxy, &app, "/public", fields).await;
        assert_eq!(seen(&request, "x-forwarded-for"), [by_custom], "{fields}");
        assert_eq!(
            seen(&request, "forwarded"),
            [format!("{by_standard};host=localhost;proto=https")],
            "{fields}"
        );
        assert_eq!(seen(&request, "x-forwarded-host"), ["localhost"]);
        assert_eq!(seen(&request, "x-forwarded-proto"), ["https"]);
        assert!(seen(&request, "x-real-ip").is_empty());
    }
}

#[tokio::test]
async fn an_app_is_told_in_the_form_that_was_chosen() {
    for (form, standard, custom) in [("forwarded", 1, 0), ("x-forwarded", 0, 1), ("both", 1, 1)] {
        let app = upstream(|_| Reply::ok("")).await;
        let proxy = proxy()
            .with("server", &format!("forwarding = \"{form}\""))
            .route("/public", &app.url(), "access = \"public\"")
            .start();
        let request = sent(&proxy, &app, "/public", STATEMENTS).await;
        assert_eq!(seen(&request, "forwarded").len(), standard, "{form}");
        for name in ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"] {
            assert_eq!(seen(&request, name).len(), custom, "{form}");
        }
        assert!(!request.head.contains("evil") && !request.head.contains("203.0.113.9"));
    }
}

#[tokio::test]
async fn every_answer_says_https_only_and_in_our_words() {
    let app = upstream(|_| Reply::with(200, "Strict-Transport-Security: max-age=0\r\n", "")).await;
    let proxy = proxy()
        .with("tls", "hsts_max_age = \"365d\"")
        .app(&app.url())
        .route("/public", &app.url(), "access = \"public\"")
        .start();
    let mut browser = proxy.browser();
    for (path, status) in [
        ("/public", 200),
        ("/private", 401),
        ("/.doorward/login", 200),
        ("/.doorward/session", 401),
        ("/.doorward/nothing", 404),
        ("/%00", 400),
    ] {
        let answer = browser.fetch(path).await;
        assert_eq!(answer.status, status, "{path}");
        let all: Vec<_> = answer
            .headers
            .get_all("strict-transport-security")
            .into_iter()
            .collect();
        assert_eq!(all, ["max-age=31536000"], "{path}");
    }
    assert_eq!(
        browser
            .open("/private")
            .await
            .header("strict-transport-security"),
        "max-age=31536000"
    );
}

#[tokio::test]
async fn without_being_told_to_we_say_nothing_about_https_only() {
    let (proxy, app) = proxy_with("").await;
    let mut browser: Browser = proxy.browser();
    let answer = browser.request(Method::GET, "/public", &[], "").await;
    assert!(answer.headers.get("strict-transport-security").is_none());
    assert_eq!(app.requests().len(), 1);
}
