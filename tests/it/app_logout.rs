//! A logout at an app ends the session here, and an end here is told to the apps: what they are asked, in literal bytes.

use std::sync::Arc;
use std::time::Duration;

use doorward::clock::Clock;
use doorward::identity::Subject;
use doorward::session::EndReason;
use http::Method;
use tempfile::TempDir;

use crate::support::{
    Answer, Browser, PASSWORD, Proxy, ProxyBuilder, Recorded, Reply, Upstream, eventually, proxy,
    upstream,
};

const LOGOUT: &str = "access = \"user\"\nlogout = { paths = [\"/logout\", \"/a/bye\"] }";
const TOLD: &str = "access = \"user\"\ncookie_jar = true\non_end = { path = \"/out?all=1\" }";
const ASKED: &str = "POST /out?all=1 HTTP/1.1";

/// Says what a request tells it to say: `x-status`, and `x-cookie` line by line.
async fn app() -> Upstream {
    upstream(|request: &Recorded| {
        if request.line().contains(" /stream ") {
            return Reply::Stall(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n".to_vec(),
            );
        }
        let cookies = request.all("x-cookie").into_iter();
        let fields: String = cookies
            .map(|cookie| format!("Set-Cookie: {cookie}\r\n"))
            .collect();
        let status = request.all("x-status").first().copied().unwrap_or("200");
        Reply::with(status.parse().unwrap(), &fields, "the app's word")
    })
    .await
}

fn logging_out(app: &Upstream) -> ProxyBuilder {
    proxy().route("/", &app.url(), LOGOUT)
}

async fn alice(proxy: &Proxy) -> Browser {
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    alice
}

/// From a page of the same origin, but for what the fields say.
async fn ask(browser: &mut Browser, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut all = vec![
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-mode", "navigate"),
    ];
    all.retain(|(name, _)| !fields.iter().any(|(own, _)| own == name));
    all.extend(
        fields
            .iter()
            .copied()
            .filter(|(_, value)| !value.is_empty()),
    );
    browser.request(method, path, &all, "").await
}

async fn is_logged_in(browser: &mut Browser) -> bool {
    browser.fetch("/.doorward/session").await.status == 200
}

/// How often the app was asked to log somebody out, and with which cookies.
fn farewells(app: &Upstream) -> Vec<String> {
    let asked = app.requests().into_iter();
    let asked = asked.filter(|request| request.line() == ASKED);
    asked
        .map(|request| request.one("cookie").to_owned())
        .collect()
}

async fn told(app: &Upstream, times: usize) -> Vec<String> {
    eventually("the app is told", async || farewells(app).len() >= times).await;
    farewells(app)
}

async fn outcomes(proxy: &Proxy, result: &str) -> u64 {
    let name = format!("doorward_app_logouts_total{{result=\"{result}\"}}");
    proxy.metric(&name).await
}

/// Logs in and has the app keep a cookie.
async fn known_to(proxy: &Proxy, id: &str) -> Browser {
    let mut browser = alice(proxy).await;
    let cookie = format!("JSESSIONID={id}; Path=/");
    ask(&mut browser, Method::GET, "/", &[("x-cookie", &cookie)]).await;
    browser
}

#[tokio::test]
async fn who_logs_out_at_the_app_is_logged_out_here() {
    let app = app().await;
    let proxy = logging_out(&app).with("session", "mode = \"jwt\"").start();
    for (method, path, status) in [
        (Method::GET, "/logout", "200"),
        (Method::POST, "/logout?next=/", "302"),
        (Method::GET, "/logout/", "204"),
        (Method::POST, "/a/bye", "303"),
    ] {
        let mut browser = alice(&proxy).await;
        let mut other = alice(&proxy).await;
        let mut stream = proxy.raw().await;
        let cookie = format!("__Host-sid={}", browser.token());
        stream
            .send(format!(
                "GET /stream HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n"
            ))
            .await;
        stream.read_until(b"hi").await;

        let fields = [
            ("x-status", status),
            ("x-cookie", "app=; Max-Age=0; Path=/; Secure; HttpOnly"),
        ];
        let answer = ask(&mut browser, method.clone(), path, &fields).await;
        assert_eq!(answer.status.as_str(), status, "{method} {path}");
        if status == "200" {
            assert_eq!(answer.text(), "the app's word");
        }
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("clear-site-data"), "\"cache\", \"storage\"");
        let cookies = answer.set_cookies();
        for gone in ["app=;", "__Host-sid=;", "__Host-sid-jwt=;"] {
            assert!(
                cookies.iter().any(|cookie| cookie.starts_with(gone)),
                "{gone} {cookies:?}"
            );
        }
        assert!(!browser.jar.contains_key("__Host-sid"));
        assert!(app.last().line().starts_with(&format!("{method} {path} ")));

        stream.rest().await;
        let mut kept = proxy.browser();
        kept.jar.insert(
            "__Host-sid".to_owned(),
            cookie.split_once('=').unwrap().1.to_owned(),
        );
        assert!(!is_logged_in(&mut kept).await, "{method} {path}");
        assert!(is_logged_in(&mut other).await);
        other.log_out().await;
    }
    let ends = proxy.audited_times("session_ended", 8).await;
    let by_app = ends.iter().filter(|end| end["reason"] == "app_logout");
    assert_eq!(by_app.count(), 4);
}

#[tokio::test]
async fn who_leaves_and_comes_back_again_and_again_does_not_go_round_in_circles() {
    let app = app().await;
    let proxy = logging_out(&app).start();
    let mut browser = proxy.browser();
    for _ in 0..5 {
        let answer = browser.log_in_at("/", "alice", PASSWORD).await;
        assert_eq!(answer.status, 303);
        ask(&mut browser, Method::GET, "/logout", &[]).await;
        assert_eq!(browser.token(), "");
    }
}

#[tokio::test]
async fn another_site_ends_the_apps_session_at_most() {
    let app = app().await;
    let proxy = logging_out(&app).start();
    let mut browser = alice(&proxy).await;
    let evil = ("origin", "https://evil.example");
    for (method, fields) in [
        (Method::GET, &[("sec-fetch-site", "cross-site")][..]),
        (Method::GET, &[("sec-fetch-site", "same-site")]),
        (Method::GET, &[("sec-fetch-site", "")]),
        (Method::POST, &[("sec-fetch-site", "cross-site"), evil]),
        (Method::POST, &[("sec-fetch-site", ""), evil]),
        (Method::POST, &[("sec-fetch-site", ""), ("origin", "null")]),
    ] {
        let answer = ask(&mut browser, method.clone(), "/logout", fields).await;
        assert_eq!(answer.text(), "the app's word", "{method} {fields:?}");
        assert!(is_logged_in(&mut browser).await, "{method} {fields:?}");
    }
    assert_eq!(
        proxy.audited_times("cross_site_refused", 6).await[0]["place"],
        "localhost/"
    );
    // What somebody types, and what a client without a browser sends, is their own will.
    ask(
        &mut browser,
        Method::GET,
        "/logout",
        &[("sec-fetch-site", "none")],
    )
    .await;
    assert!(!is_logged_in(&mut browser).await);
    let mut script = alice(&proxy).await;
    ask(
        &mut script,
        Method::POST,
        "/logout",
        &[("sec-fetch-site", "")],
    )
    .await;
    assert!(!is_logged_in(&mut script).await);
}

#[tokio::test]
async fn nothing_else_at_the_app_logs_out() {
    let app = app().await;
    let only = "access = \"user\"\nlogout = { paths = [\"/logout\"], methods = [\"POST\"] }";
    let dead = upstream(|_| Reply::Close(Vec::new())).await;
    let proxy = logging_out(&app)
        .route(
            "/b",
            &dead.url(),
            "access = \"user\"\nlogout = { paths = [\"/b/logout\"] }",
        )
        .route_at("127.0.0.1", "/", &app.url(), only)
        .start();
    let mut browser = alice(&proxy).await;
    for status in ["304", "400", "401", "403", "404", "500", "503"] {
        let answer = ask(
            &mut browser,
            Method::GET,
            "/logout",
            &[("x-status", status)],
        )
        .await;
        assert_eq!(answer.status.as_str(), status);
        assert!(is_logged_in(&mut browser).await, "{status}");
    }
    for (method, path) in [
        (Method::HEAD, "/logout"),
        (Method::PUT, "/logout"),
        (Method::OPTIONS, "/logout"),
        (Method::GET, "/logout/x"),
        (Method::GET, "/logoutx"),
        (Method::GET, "/x/logout"),
        (Method::GET, "/LOGOUT"),
        (Method::GET, "/?/logout"),
        (Method::GET, "/b/logout"),
    ] {
        ask(&mut browser, method.clone(), path, &[]).await;
        assert!(is_logged_in(&mut browser).await, "{method} {path}");
    }
    // A path has one spelling before it is looked at.
    ask(&mut browser, Method::GET, "/x/../%6Cogout", &[]).await;
    assert_eq!(app.last().line(), "GET /logout HTTP/1.1");
    assert!(!is_logged_in(&mut browser).await);
    // Who is not logged in is told nothing new.
    let open = logging_out(&app).route(
        "/o",
        &app.url(),
        "access = \"public\"\nlogout = { paths = [\"/o/out\"] }",
    );
    let proxy = open.start();
    let answer = ask(&mut proxy.browser(), Method::GET, "/o/out", &[]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.set_cookies().len()),
        (200, 0)
    );
}

#[tokio::test]
async fn an_app_is_told_of_every_end_once_with_its_own_cookies() {
    let app = app().await;
    let proxy = proxy()
        .route("/", &app.url(), TOLD)
        .route("/more", &app.url(), TOLD)
        .with("session", "max_per_user = 3")
        .start();
    let mut browser = known_to(&proxy, "one").await;
    browser.log_out().await;
    assert_eq!(told(&app, 1).await, ["JSESSIONID=one"]);
    let asked = app.last();
    assert_eq!(asked.one("host"), "localhost");
    assert_eq!(asked.one("content-length"), "0");
    assert_eq!(asked.one("x-forwarded-proto"), "https");
    assert_eq!(asked.one("forwarded"), "proto=https");
    assert_eq!(asked.all("remote-user"), [""; 0]);

    // By an administrator.
    let _open = known_to(&proxy, "two").await;
    let all = proxy.sessions();
    let subject = Subject {
        provider: "local".to_owned(),
        id: "alice".to_owned(),
    };
    all.end_all_of(&subject, EndReason::Revoked).await.unwrap();
    assert_eq!(told(&app, 2).await[1], "JSESSIONID=two");

    // By time, when that is found out.
    let mut browser = known_to(&proxy, "three").await;
    proxy.clock.advance(Duration::from_mins(31));
    assert_eq!(browser.fetch("/").await.status, 401);
    assert_eq!(told(&app, 3).await[2], "JSESSIONID=three");

    // By a login of somebody else in the same browser, and by a newer one of the same user elsewhere.
    let mut browser = known_to(&proxy, "four").await;
    let form = browser.open("/.doorward/login?prompt=login").await;
    let state = form.field("state");
    let fields = [
        ("state", state.as_str()),
        ("user", "bob"),
        ("password", PASSWORD),
    ];
    browser.submit("/.doorward/login", &fields).await;
    assert_eq!(told(&app, 4).await[3], "JSESSIONID=four");
    let _oldest = known_to(&proxy, "five").await;
    for _ in 0..3 {
        alice(&proxy).await;
    }
    assert_eq!(told(&app, 5).await[4], "JSESSIONID=five");

    // An app that knows nothing of the session is not asked; a new login of the same user ends nothing.
    alice(&proxy).await.log_out().await;
    let mut browser = known_to(&proxy, "six").await;
    let form = browser.open("/.doorward/login?prompt=login").await;
    let state = form.field("state");
    let fields = [
        ("state", state.as_str()),
        ("user", "alice"),
        ("password", PASSWORD),
    ];
    browser.submit("/.doorward/login", &fields).await;
    browser.log_out().await;
    assert_eq!(told(&app, 6).await[5], "JSESSIONID=six");
    eventually("all is counted", async || {
        outcomes(&proxy, "done").await == 6
    })
    .await;
    assert_eq!(farewells(&app).len(), 6);
    assert_eq!(outcomes(&proxy, "failed").await, 0);
}

/// A node whose cache has no room for who has sent two large forms.
fn with_a_small_cache(app: &Upstream, folder: Option<(Arc<TempDir>, Clock)>) -> Proxy {
    let form = "access = \"user\"\nkeep_posts = \"256KiB\"\nmax_auth_age = \"5m\"";
    let proxy = proxy()
        .embedded()
        .with("session", "cache_size = \"1MiB\"")
        .route("/", &app.url(), TOLD)
        .route("/form", &app.url(), form);
    match folder {
        Some((folder, clock)) => proxy.after(folder, clock).start(),
        None => proxy.start(),
    }
}

/// Knows a session that nothing of the node seems to hold any more.
async fn crowded_out(proxy: &Proxy, id: &str) {
    let mut browser = known_to(proxy, id).await;
    proxy.clock.advance(Duration::from_mins(6));
    let origin = format!("https://{}", browser.authority());
    let fields = [
        ("content-type", "text/plain"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
        ("origin", origin.as_str()),
    ];
    for _ in 0..2 {
        let large = "x".repeat(250_000);
        let answer = browser.request(Method::POST, "/form", &fields, large).await;
        assert!(answer.text().contains("It is kept"), "{}", answer.text());
    }
    eventually("the cache is empty", async || {
        proxy.metric("doorward_session_cache_sessions").await == 0
    })
    .await;
}

#[tokio::test]
async fn an_app_is_told_when_a_session_idles_out_that_nobody_asks_for_any_more() {
    let app = app().await;
    let proxy = with_a_small_cache(&app, None);
    crowded_out(&proxy, "one").await;
    proxy.clock.advance(Duration::from_mins(29));
    crowded_out(&proxy, "two").await;
    assert_eq!(told(&app, 1).await, ["JSESSIONID=one"]);
    let end = proxy.audited("session_ended").await;
    assert_eq!(end["reason"], "idle_timeout");
    assert_eq!(proxy.sessions().stored().await.unwrap(), 1);

    // Nor does it matter who ends it.
    let subject = Subject {
        provider: "local".to_owned(),
        id: "alice".to_owned(),
    };
    let all = proxy.sessions();
    all.end_all_of(&subject, EndReason::Revoked).await.unwrap();
    assert_eq!(told(&app, 2).await[1], "JSESSIONID=two");
    eventually("all is counted", async || {
        outcomes(&proxy, "done").await == 2
    })
    .await;
    assert_eq!(farewells(&app).len(), 2, "once each");
}

#[tokio::test]
async fn an_app_is_told_of_an_end_after_a_restart_if_the_session_was_used_since() {
    let app = app().await;
    let first = with_a_small_cache(&app, None);
    let mut seen = known_to(&first, "seen").await;
    known_to(&first, "unseen").await;
    let left = first.stop().await;
    let second = with_a_small_cache(&app, Some(left));
    seen.addr = second.addr;
    assert_eq!(seen.fetch("/").await.status, 200);
    second.clock.advance(Duration::from_mins(31));
    assert_eq!(told(&app, 1).await, ["JSESSIONID=seen"]);
    eventually("the other is swept or ended, too", async || {
        outcomes(&second, "done").await == 1
    })
    .await;
    // What its jar holds nobody can read without its token (R1).
    assert_eq!(farewells(&app).len(), 1);
}

#[tokio::test]
async fn an_app_that_does_not_answer_holds_nobody_up() {
    let app = app().await;
    let deaf = upstream(|request: &Recorded| {
        if request.line() == ASKED {
            Reply::Stall(Vec::new())
        } else {
            Reply::with(200, "Set-Cookie: deaf=1; Path=/\r\n", "")
        }
    })
    .await;
    let gone = upstream(|request: &Recorded| {
        if request.line() == ASKED {
            Reply::Close(Vec::new())
        } else {
            Reply::with(200, "Set-Cookie: gone=1; Path=/\r\n", "")
        }
    })
    .await;
    let angry = upstream(|request: &Recorded| {
        if request.line() == ASKED {
            Reply::with(403, "", "no token")
        } else {
            Reply::with(200, "Set-Cookie: angry=1; Path=/\r\n", "")
        }
    })
    .await;
    let proxy = proxy()
        .route("/deaf", &deaf.url(), TOLD)
        .route("/", &app.url(), TOLD)
        .route("/gone", &gone.url(), TOLD)
        .route("/angry", &angry.url(), TOLD)
        .start();
    let mut browser = known_to(&proxy, "one").await;
    for path in ["/gone", "/angry", "/deaf"] {
        assert_eq!(browser.fetch(path).await.status, 200);
    }
    let answer = browser.log_out().await;
    assert!(answer.text().contains("You are logged out"));
    assert!(!is_logged_in(&mut browser).await);
    eventually("the deaf app is asked", async || {
        farewells(&deaf).len() == 1
    })
    .await;
    eventually("two are counted", async || {
        outcomes(&proxy, "failed").await == 2
    })
    .await;
    assert_eq!(told(&app, 1).await, ["JSESSIONID=one"]);
    assert_eq!(farewells(&angry), ["angry=1"]);
    assert_eq!(farewells(&gone), ["gone=1"], "it is not asked again");
    assert_eq!(outcomes(&proxy, "done").await, 1);
    assert_eq!(outcomes(&proxy, "failed").await, 2);
    // Another session's apps are told meanwhile.
    known_to(&proxy, "two").await.log_out().await;
    assert_eq!(told(&app, 2).await[1], "JSESSIONID=two");
}

#[tokio::test]
async fn a_logout_at_one_app_is_told_to_the_others_alone() {
    let (one, other) = (app().await, app().await);
    let both = format!("{TOLD}\nlogout = {{ paths = [\"/logout\"] }}");
    let proxy = proxy()
        .route("/", &one.url(), &both)
        .route("/other", &other.url(), TOLD)
        .start();
    let mut browser = known_to(&proxy, "one").await;
    let fields = [("x-cookie", "JSESSIONID=other; Path=/")];
    ask(&mut browser, Method::GET, "/other", &fields).await;
    assert_eq!(
        ask(&mut browser, Method::GET, "/logout", &[]).await.status,
        200
    );
    assert_eq!(one.last().one("cookie"), "JSESSIONID=one");
    assert_eq!(told(&other, 1).await, ["JSESSIONID=other"]);
    eventually("all is counted", async || {
        outcomes(&proxy, "done").await == 1
    })
    .await;
    assert_eq!(farewells(&one), [""; 0]);
    // A logout that the app did not do spares nobody later.
    let mut browser = known_to(&proxy, "two").await;
    ask(&mut browser, Method::GET, "/logout", &[("x-status", "500")]).await;
    browser.log_out().await;
    assert_eq!(told(&one, 1).await, ["JSESSIONID=two"]);
}

#[tokio::test]
async fn an_app_that_logs_somebody_else_in_is_not_asked_to_log_them_out() {
    let wiki = upstream(|request: &Recorded| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let fields = match body.strip_prefix("user=") {
            Some(user) => {
                format!("Doorward-Login: user={user}\r\nSet-Cookie: JSESSIONID=same; Path=/\r\n")
            }
            None => String::new(),
        };
        Reply::with(200, &fields, "")
    })
    .await;
    let provider = "[[provider]]\nid = \"wiki\"\ntype = \"external\"\nlogin_url = \"/login\"\n";
    let login = format!(
        "{}\nmay_log_in = \"wiki\"",
        TOLD.replace("\"user\"", "\"public\"")
    );
    let proxy = proxy()
        .provider(provider)
        .route("/login", &wiki.url(), &login)
        .route("/", &wiki.url(), TOLD)
        .start();
    let mut browser = proxy.browser();
    for user in ["alice", "bob"] {
        let fields = [("sec-fetch-site", "same-origin")];
        let body = format!("user={user}");
        browser
            .request(Method::POST, "/login", &fields, &body)
            .await;
        let who = browser.fetch("/.doorward/session").await.json();
        assert_eq!(who["user"], user);
    }
    proxy.audited("session_ended").await;
    browser.log_out().await;
    assert_eq!(told(&wiki, 1).await, ["JSESSIONID=same"]);
    eventually("all is counted", async || {
        outcomes(&proxy, "done").await == 1
    })
    .await;
    assert_eq!(farewells(&wiki).len(), 1);
}

#[cfg(feature = "redis")]
mod shared {
    use super::*;
    use crate::support::{RedisProcess, START};

    const CLAIMS: &str = "doorward_store_operation_seconds_count{operation=\"claim\"}";

    fn node(app: &Upstream, store: &str, more: &str) -> Proxy {
        let route = format!("{TOLD}{more}");
        proxy()
            .route("/", &app.url(), &route)
            .store(store.to_owned())
            .start()
    }

    async fn store() -> (RedisProcess, String) {
        let server = RedisProcess::own(&[]).await;
        let url = format!("redis://127.0.0.1:{}", server.port);
        let store = format!("backend = \"redis\"\nurl = \"{url}\"\ntimeout = \"500ms\"");
        (server, store)
    }

    #[tokio::test]
    async fn of_two_nodes_that_hold_a_session_one_tells_the_app() {
        let (_server, store) = store().await;
        let app = app().await;
        let nodes = [node(&app, &store, ""), node(&app, &store, "")];
        let mut count = 0;
        for (id, ends_at) in [("one", 0), ("two", 1)] {
            let mut browser = known_to(&nodes[0], id).await;
            for node in &nodes {
                browser.addr = node.addr;
                assert_eq!(browser.fetch("/").await.status, 200);
            }
            let mut before = Vec::new();
            for node in &nodes {
                before.push(node.metric(CLAIMS).await);
            }
            browser.addr = nodes[ends_at].addr;
            browser.log_out().await;
            count += 1;
            for (node, before) in nodes.iter().zip(before) {
                eventually("the node has asked whose it is", async || {
                    node.metric(CLAIMS).await == before + 1
                })
                .await;
            }
            assert_eq!(told(&app, count).await.len(), count);
            assert_eq!(farewells(&app)[count - 1], format!("JSESSIONID={id}"));
            eventually("the node that it ended at does it", async || {
                outcomes(&nodes[ends_at], "done").await == 1
            })
            .await;
        }
        let done = [
            outcomes(&nodes[0], "done").await,
            outcomes(&nodes[1], "done").await,
        ];
        assert_eq!(done, [1, 1]);
    }

    #[tokio::test]
    async fn of_two_nodes_where_a_session_idles_out_one_tells_the_app() {
        let (_server, store) = store().await;
        let app = app().await;
        let clock = Clock::fixed(START);
        let route = proxy().clock(&clock).store(store.clone());
        let first = route.route("/", &app.url(), TOLD).start();
        let route = proxy().clock(&clock).store(store);
        let second = route.route("/", &app.url(), TOLD).start();
        let nodes = [first, second];
        // The app has set its cookie anew at one of the two: that one knows which it is.
        for (number, last) in [1, 0, 1, 0, 1].into_iter().enumerate() {
            let mut browser = known_to(&nodes[1 - last], "old").await;
            browser.addr = nodes[last].addr;
            let cookie = format!("JSESSIONID=new{number}; Path=/");
            ask(&mut browser, Method::GET, "/", &[("x-cookie", &cookie)]).await;
        }
        // Both find out at the same moment, and neither is asked.
        clock.advance(Duration::from_mins(31));
        let mut all = told(&app, 5).await;
        all.sort();
        let expected: Vec<String> = (0..5).map(|n| format!("JSESSIONID=new{n}")).collect();
        assert_eq!(all, expected);
        for node in &nodes {
            eventually("the node has asked whose they are", async || {
                node.metric(CLAIMS).await == 5
            })
            .await;
        }
        assert_eq!(farewells(&app).len(), 5);
    }

    #[tokio::test]
    async fn where_the_node_that_knows_best_is_gone_another_tells_what_it_knows() {
        let (_server, store) = store().await;
        let app = app().await;
        let clock = Clock::fixed(START);
        let node = || {
            let node = proxy().clock(&clock).store(store.clone());
            node.route("/", &app.url(), TOLD).start()
        };
        let (first, second) = (node(), node());
        let mut browser = known_to(&first, "old").await;
        browser.addr = second.addr;
        let fields = [("x-cookie", "JSESSIONID=new; Path=/")];
        ask(&mut browser, Method::GET, "/", &fields).await;
        second.stop().await;
        clock.advance(Duration::from_mins(31));
        eventually("the app is told", async || {
            clock.advance(Duration::from_secs(1));
            farewells(&app).len() == 1
        })
        .await;
        assert_eq!(farewells(&app), ["JSESSIONID=old"]);
    }

    #[tokio::test]
    async fn a_session_that_another_node_sweeps_is_told_by_one_that_has_served_it() {
        let (_server, store) = store().await;
        let app = app().await;
        let node = node(&app, &store, "");
        known_to(&node, "swept").await;
        let later = Clock::fixed(START.after(Duration::from_mins(31)));
        let sweeper = proxy().clock(&later).store(store);
        let sweeper = sweeper.route("/", &app.url(), TOLD).start();
        eventually("it is swept", async || {
            sweeper.sessions().stored().await.unwrap() == 0
        })
        .await;
        assert_eq!(farewells(&app), [""; 0]);
        node.clock.advance(Duration::from_mins(31));
        assert_eq!(told(&app, 1).await, ["JSESSIONID=swept"]);
        assert_eq!(outcomes(&sweeper, "done").await, 0);
    }

    #[tokio::test]
    async fn a_session_that_ends_where_it_is_not_held_is_told_by_a_node_that_does() {
        let (_server, store) = store().await;
        let app = app().await;
        let nodes = [node(&app, &store, ""), node(&app, &store, "")];
        let mut browser = known_to(&nodes[0], "far").await;
        let who = browser.fetch("/.doorward/session").await.json();
        let subject = Subject {
            provider: "local".to_owned(),
            id: "alice".to_owned(),
        };
        assert_eq!(who["user"], "alice");
        let ended = nodes[1]
            .sessions()
            .end_all_of(&subject, EndReason::Revoked)
            .await;
        assert_eq!(ended.unwrap(), 1);
        assert_eq!(told(&app, 1).await, ["JSESSIONID=far"]);
        eventually("all is counted", async || {
            outcomes(&nodes[0], "done").await == 1
        })
        .await;
        assert_eq!(outcomes(&nodes[1], "done").await, 0);
    }

    #[tokio::test]
    async fn a_logout_that_the_store_does_not_take_is_not_called_one_and_ends_the_session_here() {
        let (server, store) = store().await;
        let app = app().await;
        let node = node(&app, &store, "\nlogout = { paths = [\"/logout\"] }");
        let mut browser = known_to(&node, "one").await;
        let pause: [&[u8]; 4] = [b"CLIENT", b"PAUSE", b"20000", b"WRITE"];
        server.tell(&pause).await;
        let answer = ask(&mut browser, Method::GET, "/logout", &[]).await;
        assert_eq!(answer.status, 503);
        assert!(!answer.text().contains("the app's word"));
        let before = app.requests().len();
        assert_ne!(browser.fetch("/").await.status, 200);
        assert_eq!(app.requests().len(), before);
    }
}
