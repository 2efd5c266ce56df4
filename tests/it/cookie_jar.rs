//! The cookies of an app, kept in the session: what the app gets back in literal bytes, and that the browser never sees them.

use std::fmt::Write as _;
use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;

use crate::support::{
    Answer, Browser, Proxy, ProxyBuilder, Recorded, Reply, Upstream, eventually, proxy, upstream,
};

const JAR: &str = "access = \"user\"\ncookie_jar = true";

/// Sets the cookies that a request tells it to set: `x-cookie`, line by line.
async fn app() -> Upstream {
    upstream(|request: &Recorded| {
        let mut fields = String::new();
        for value in request.all("x-cookie") {
            write!(fields, "Set-Cookie: {value}\r\n").unwrap();
        }
        Reply::with(200, &fields, "done")
    })
    .await
}

fn with_jar(app: &Upstream) -> ProxyBuilder {
    proxy().route("/", &app.url(), JAR)
}

async fn alice(proxy: &Proxy) -> Browser {
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    alice
}

async fn set(browser: &mut Browser, path: &str, cookies: &[&str]) -> Answer {
    let fields: Vec<_> = cookies.iter().map(|cookie| ("x-cookie", *cookie)).collect();
    let answer = browser.request(Method::GET, path, &fields, "").await;
    assert_eq!(answer.status, 200);
    answer
}

/// What the app is sent.
async fn sent(browser: &mut Browser, app: &Upstream, path: &str) -> String {
    assert_eq!(browser.fetch(path).await.status, 200);
    let last = app.last();
    let cookies = last.all("cookie");
    assert!(cookies.len() <= 1, "{}", last.head);
    cookies.first().copied().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_app_gets_its_cookies_back_and_the_browser_never_has_them() {
    let app = app().await;
    let proxy = with_jar(&app).start();
    let mut alice = alice(&proxy).await;
    let cookies = ["JSESSIONID=abc; Path=/; HttpOnly", "lang=de; Path=/shop"];
    let answer = set(&mut alice, "/", &cookies).await;
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(sent(&mut alice, &app, "/").await, "JSESSIONID=abc");
    let both = "lang=de; JSESSIONID=abc";
    assert_eq!(sent(&mut alice, &app, "/shop/cart").await, both);
    // The same over HTTP/2, and in another browser of hers nothing of it.
    let mut http2 = alice.clone().over_http2();
    assert_eq!(sent(&mut http2, &app, "/shop").await, both);
    let mut other = self::alice(&proxy).await;
    assert_eq!(sent(&mut other, &app, "/shop").await, "");
    // The app takes one back.
    set(&mut alice, "/", &["JSESSIONID=; Path=/; Max-Age=0"]).await;
    assert_eq!(sent(&mut alice, &app, "/shop").await, "lang=de");
    // It ends with the session.
    alice.log_out().await;
    alice.log_in("alice").await;
    assert_eq!(sent(&mut alice, &app, "/shop").await, "");
}

#[tokio::test]
async fn what_a_browser_makes_up_does_not_reach_the_app() {
    let app = app().await;
    let rest = "access = \"user\"\ncookie_jar = { pass = [\"XSRF-TOKEN\"] }";
    let proxy = proxy().route("/", &app.url(), rest).start();
    let mut alice = alice(&proxy).await;
    set(&mut alice, "/", &["JSESSIONID=good; Path=/"]).await;
    for (name, value) in [
        ("JSESSIONID", "evil"),
        ("other", "evil"),
        ("xsrf-token", "evil"),
    ] {
        alice.jar.insert(name.to_owned(), value.to_owned());
    }
    assert_eq!(sent(&mut alice, &app, "/").await, "JSESSIONID=good");
    // What scripts have to read goes both ways.
    let answer = set(
        &mut alice,
        "/",
        &["XSRF-TOKEN=t; Path=/; Secure; HttpOnly", "b=2; Path=/"],
    )
    .await;
    assert_eq!(
        answer.set_cookies(),
        ["XSRF-TOKEN=t; Path=/; Secure; HttpOnly"]
    );
    assert_eq!(
        sent(&mut alice, &app, "/").await,
        "JSESSIONID=good; b=2; XSRF-TOKEN=t"
    );
}

#[tokio::test]
async fn answers_at_the_same_time_do_not_lose_each_others_cookies() {
    let app = app().await;
    let proxy = with_jar(&app).start();
    let mut alice = alice(&proxy).await;
    let mut all = JoinSet::new();
    for n in 0..20 {
        let mut tab = alice.clone();
        all.spawn(async move { set(&mut tab, "/", &[&format!("c{n}={n}; Path=/")]).await });
    }
    while let Some(answer) = all.join_next().await {
        assert_eq!(answer.unwrap().set_cookies(), [""; 0]);
    }
    let cookies = sent(&mut alice, &app, "/").await;
    let mut cookies: Vec<&str> = cookies.split("; ").collect();
    cookies.sort_unstable();
    let mut expected: Vec<String> = (0..20).map(|n| format!("c{n}={n}")).collect();
    expected.sort_unstable();
    assert_eq!(cookies, expected);
}

#[tokio::test]
async fn an_app_without_measure_keeps_what_there_is_room_for() {
    let app = app().await;
    let proxy = with_jar(&app).start();
    let mut alice = alice(&proxy).await;
    let lines: Vec<String> = (0..1000).map(|n| format!("c{n}=v; Path=/")).collect();
    for some in lines.chunks(40) {
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        set(&mut alice, "/", &some).await;
    }
    let cookies = sent(&mut alice, &app, "/").await;
    let expected: Vec<String> = (950..1000).map(|n| format!("c{n}=v")).collect();
    assert_eq!(cookies, expected.join("; "), "the newest fifty");
    // One that no browser would keep is left out, and what was there stays.
    let huge = format!("huge={}; Path=/", "x".repeat(5000));
    set(&mut alice, "/", &[&huge]).await;
    assert_eq!(sent(&mut alice, &app, "/").await, cookies);
    // Three that are large push out the older ones, and never make more than 8 KiB.
    for name in ["a", "b", "c"] {
        let large = format!("{name}={}; Path=/", "x".repeat(4000));
        set(&mut alice, "/", &[&large]).await;
    }
    let cookies = sent(&mut alice, &app, "/").await;
    assert!(cookies.len() < 8 * 1024, "{}", cookies.len());
    assert!(cookies.contains("b=xx") && cookies.contains("c=xx"));
    assert!(!cookies.contains("a=xx") && !cookies.contains("c999"));
}

#[tokio::test]
async fn an_app_sets_nothing_for_others_and_none_of_our_own() {
    let app = app().await;
    let proxy = with_jar(&app).start();
    let mut alice = alice(&proxy).await;
    let answer = set(
        &mut alice,
        "/",
        &[
            "a=1; Path=/; Domain=example.com",
            "b=2; Path=/; Domain=.localhost",
            "__Host-sid=stolen; Secure; Path=/",
            "=__Host-sid=stolen; Path=/",
            " __HOST-SID =stolen; Secure; Path=/",
            "__Host-c=3; Secure; Path=/",
            "__Host-d=4; Path=/",
            "nonsense",
        ],
    )
    .await;
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(sent(&mut alice, &app, "/").await, "b=2; __Host-c=3");
}

#[tokio::test]
async fn without_a_session_there_are_no_cookies() {
    let app = app().await;
    let proxy = proxy()
        .route("/", &app.url(), JAR)
        .route(
            "/open",
            &app.url(),
            "access = \"public\"\ncookie_jar = true",
        )
        .route("/plain", &app.url(), "access = \"public\"")
        .start();
    let mut browser = proxy.browser();
    browser.jar.insert("a".to_owned(), "evil".to_owned());
    let answer = set(&mut browser, "/open", &["a=1; Path=/"]).await;
    assert_eq!(answer.set_cookies(), [""; 0]);
    assert_eq!(app.last().all("cookie"), [""; 0]);
    // Of one app all routes with a jar share it; one without leaves the browser its cookies.
    let mut alice = alice(&proxy).await;
    set(&mut alice, "/open", &["a=1; Path=/"]).await;
    assert_eq!(sent(&mut alice, &app, "/").await, "a=1");
    assert_eq!(sent(&mut alice, &app, "/plain").await, "");
    let answer = set(&mut alice, "/plain", &["a=2; Path=/; Secure; HttpOnly"]).await;
    assert_eq!(answer.set_cookies(), ["a=2; Path=/; Secure; HttpOnly"]);
}

#[tokio::test]
async fn a_jar_outlives_a_restart_and_a_new_token_and_not_its_own_times() {
    let app = app().await;
    let before = with_jar(&app).embedded().start();
    let mut alice = alice(&before).await;
    set(
        &mut alice,
        "/",
        &["a=1; Path=/", "b=2; Path=/; Max-Age=4000"],
    )
    .await;
    let (folder, clock) = before.stop().await;
    let proxy = with_jar(&app)
        .embedded()
        .after(folder, clock.clone())
        .start();
    alice.addr = proxy.addr;
    assert_eq!(sent(&mut alice, &app, "/").await, "a=1; b=2");
    let token = alice.token().to_owned();
    // Past the time at which tokens are replaced, but for one cookie too.
    for _ in 0..3 {
        clock.advance(Duration::from_mins(25));
        alice.fetch("/").await;
    }
    eventually("the token is replaced", async || {
        assert_eq!(sent(&mut alice, &app, "/").await, "a=1");
        alice.token() != token
    })
    .await;
    assert_eq!(sent(&mut alice, &app, "/").await, "a=1");
}

#[tokio::test]
async fn who_is_known_by_a_signed_cookie_has_a_jar_too() {
    let app = app().await;
    let signed = || with_jar(&app).with("session", "mode = \"jwt\"").embedded();
    let before = signed().start();
    let mut alice = alice(&before).await;
    set(&mut alice, "/", &["a=1; Path=/"]).await;
    assert!(alice.jar.contains_key("__Host-sid-jwt"));
    let (folder, clock) = before.stop().await;
    let proxy = signed().after(folder, clock).start();
    alice.addr = proxy.addr;
    assert_eq!(sent(&mut alice, &app, "/").await, "a=1");
}

#[tokio::test]
async fn a_visitors_jar_is_not_carried_into_a_login() {
    let app = app().await;
    let rest = "access = \"anonymous\"\nsession_data = \"shop\"\ncookie_jar = true";
    let shop = upstream(|request: &Recorded| {
        let fields = match request.all("x-cookie").first() {
            Some(cookie) => format!("Set-Cookie: {cookie}\r\n"),
            None => "Doorward-Session-Set: cart=1\r\n".to_owned(),
        };
        Reply::with(200, &fields, "done")
    })
    .await;
    let proxy = proxy()
        .route("/", &shop.url(), rest)
        .route("/other", &app.url(), "access = \"user\"")
        .start();
    let mut visitor = proxy.browser();
    let fields = [
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    visitor.request(Method::GET, "/", &fields, "").await;
    assert_eq!(visitor.token().len(), 43);
    set(&mut visitor, "/", &["JSESSIONID=planted; Path=/"]).await;
    assert_eq!(sent(&mut visitor, &shop, "/").await, "JSESSIONID=planted");
    visitor.log_in("alice").await;
    assert_eq!(sent(&mut visitor, &shop, "/").await, "");
    assert_eq!(shop.last().one("doorward-session-data"), "cart=1");
}

#[cfg(feature = "redis")]
mod shared {
    use super::*;
    use crate::support::RedisProcess;

    #[tokio::test]
    async fn two_nodes_lose_no_cookie_and_without_the_store_no_answer_goes_on() {
        let server = RedisProcess::own(&[]).await;
        let app = app().await;
        let url = format!("redis://127.0.0.1:{}", server.port);
        let store = format!("backend = \"redis\"\nurl = \"{url}\"");
        let node = |store: String| {
            let node = with_jar(&app).store(store);
            node.with("session", "cache_ttl = \"1ms\"").start()
        };
        let (one, other) = (node(store.clone()), node(store.clone()));
        let mut alice = alice(&one).await;
        let mut work = JoinSet::new();
        for n in 0..40 {
            let mut tab = [&one, &other][n % 2].browser();
            tab.jar = alice.jar.clone();
            work.spawn(async move { set(&mut tab, "/", &[&format!("c{n:02}={n}; Path=/")]).await });
        }
        while let Some(answer) = work.join_next().await {
            assert_eq!(answer.unwrap().set_cookies(), [""; 0]);
        }
        let expected: Vec<String> = (0..40).map(|n| format!("c{n:02}={n}")).collect();
        for node in [&one, &other] {
            node.clock.advance(Duration::from_secs(1));
            alice.addr = node.addr;
            let cookies = sent(&mut alice, &app, "/").await;
            let mut cookies: Vec<&str> = cookies.split("; ").collect();
            cookies.sort_unstable();
            assert_eq!(cookies, expected);
        }

        // An app is not told in vain that the browser takes its cookies.
        let calm = with_jar(&app).store(format!("{store}\ntimeout = \"500ms\""));
        let calm = calm.start();
        alice.addr = calm.addr;
        assert_eq!(alice.fetch("/").await.status, 200);
        let pause: [&[u8]; 4] = [b"CLIENT", b"PAUSE", b"20000", b"WRITE"];
        server.tell(&pause).await;
        let fields = [("x-cookie", "late=1; Path=/")];
        let answer = alice.request(Method::GET, "/", &fields, "").await;
        assert_eq!(answer.status, 503);
        assert!(!answer.text().contains("done"));
        assert_eq!(alice.fetch("/").await.status, 200, "it sets nothing");
        assert!(!sent(&mut alice, &app, "/").await.contains("late"));
    }
}
