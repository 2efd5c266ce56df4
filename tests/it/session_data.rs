//! What apps keep in sessions, told and taken in literal bytes, and over the API: one whole change after the other, seen by
//! its app alone, and carried through a login.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::support::{
    Answer, Browser, Proxy, ProxyBuilder, Recorded, Reply, Upstream, Wire, proxy, upstream,
};

const SHOP_KEY: &str = "the-key-of-the-shop-in-32-bytes-and-more";
const WIKI_KEY: &str = "the-key-of-the-wiki-in-32-bytes-and-more";
const ANYBODY: &str = "access = \"anonymous\"\nsession_data = \"shop\"";
const USERS: &str = "access = \"user\"\nsession_data = \"shop\"";

/// Says in its answer what a request tells it to say: `x-set` and `x-unset`, line by line.
async fn app() -> Upstream {
    upstream(|request: &Recorded| {
        let mut fields = String::new();
        for (asked, said) in [
            ("x-set", "Doorward-Session-Set"),
            ("x-unset", "Doorward-Session-Unset"),
        ] {
            for value in request.all(asked) {
                write!(fields, "{said}: {value}\r\n").unwrap();
            }
        }
        Reply::with(200, &fields, "done")
    })
    .await
}

/// A shop for everybody at `/`, its account for users, a wiki beside it.
fn shop(app: &Upstream) -> ProxyBuilder {
    proxy()
        .route("/", &app.url(), ANYBODY)
        .route("/account", &app.url(), USERS)
        .route("/plain", &app.url(), "access = \"user\"")
        .route(
            "/wiki",
            &app.url(),
            "access = \"user\"\nsession_data = \"wiki\"",
        )
}

/// The app sets, and the browser sees nothing of it.
async fn set(browser: &mut Browser, path: &str, fields: &[(&str, &str)]) -> Answer {
    let origin = format!("https://{}", browser.authority());
    let mut all = vec![("origin", origin.as_str())];
    all.extend(fields);
    let answer = browser.request(Method::POST, path, &all, "").await;
    for name in answer.headers.keys() {
        assert!(!name.as_str().starts_with("doorward"), "{name}");
    }
    answer
}

async fn told(browser: &mut Browser, app: &Upstream, path: &str) -> Option<String> {
    assert_eq!(browser.fetch(path).await.status, 200);
    let last = app.last();
    let data = last.all("doorward-session-data");
    assert!(data.len() <= 1, "{}", last.head);
    data.first().map(|&data| data.to_owned())
}

#[tokio::test]
async fn an_app_reads_back_what_it_has_set() {
    let app = app().await;
    let proxy = shop(&app).start();
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    assert_eq!(told(&mut alice, &app, "/account").await, None);
    let sid = app.last().one("doorward-session").to_owned();
    assert_eq!(sid.len(), 36);
    let fields = [
        ("x-set", "b=\"two\";q=1, a=1"),
        ("x-set", "c=:aGk=:"),
        ("x-set", "d=%\"f%c3%bc\", e=(1 2);x, f"),
    ];
    assert_eq!(set(&mut alice, "/account", &fields).await.status, 200);
    let all = "a=1, b=\"two\";q=1, c=:aGk=:, d=%\"f%c3%bc\", e=(1 2);x, f";
    assert_eq!(told(&mut alice, &app, "/account").await.unwrap(), all);
    assert_eq!(app.last().one("doorward-session"), sid);
    // One change sets and unsets.
    let fields = [
        ("x-unset", "b, \"c\", d"),
        ("x-set", "a=2"),
        ("x-unset", "nothing"),
    ];
    set(&mut alice, "/account", &fields).await;
    assert_eq!(
        told(&mut alice, &app, "/").await.unwrap(),
        "a=2, e=(1 2);x, f"
    );
    set(&mut alice, "/account", &[("x-unset", "a, e, f")]).await;
    assert_eq!(told(&mut alice, &app, "/account").await, None);
    // A route that keeps nothing is told nothing, and takes nothing.
    set(&mut alice, "/plain", &[("x-set", "a=1")]).await;
    told(&mut alice, &app, "/plain").await;
    assert!(app.last().all("doorward-session").is_empty());
    assert_eq!(told(&mut alice, &app, "/account").await, None);
    assert_eq!(
        proxy
            .metric("doorward_session_data_changes_total{result=\"stored\"}")
            .await,
        3
    );
}

#[tokio::test]
async fn clients_say_nothing_in_the_apps_place() {
    let app = app().await;
    let proxy = shop(&app).start();
    for name in [
        "Doorward-Session-Data",
        "doorward_session_data",
        "DOORWARD-SESSION",
        "Doorward-Session-Set",
        "doorward-session_unset",
        "Doorward_Session_Omitted",
        "HTTP_DOORWARD_SESSION_DATA",
    ] {
        let mut raw = proxy.wire().await;
        raw.send(format!(
            "GET / HTTP/1.1\r\nhost: {}\r\n{name}: admin\r\nconnection: close\r\n\r\n",
            proxy.authority()
        ))
        .await;
        raw.rest().await;
        let head = app.last().head;
        assert!(!head.contains("admin"), "{head}");
    }
}

#[tokio::test]
async fn what_is_malformed_or_too_much_changes_nothing_and_the_answer_passes() {
    let app = app().await;
    let proxy = shop(&app)
        .with(
            "session",
            "data = { max_keys = 3, max_value_bytes = \"40B\", max_header_bytes = \"70B\" }",
        )
        .start();
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    set(&mut alice, "/account", &[("x-set", "keep=1")]).await;
    let (long, wide) = (
        format!("keep=2, a=\"{}\"", "x".repeat(39)),
        format!("keep=2, a=\"{0}\", b=\"{0}\"", "x".repeat(30)),
    );
    for value in [
        "keep=2, b=",
        "keep=2,",
        "keep=2 ;b",
        "keep=2, B=1",
        "keep=2, a=\"\u{fc}\"",
        "keep=2 a=1",
        "keep=2, a=((1))",
        "keep=2, a=1, b=1, c=1",
        &long,
        &wide,
    ] {
        let answer = set(&mut alice, "/account", &[("x-set", value)]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (200, "done")
        );
        assert_eq!(
            told(&mut alice, &app, "/account").await.unwrap(),
            "keep=1",
            "{value}"
        );
    }
    let half = [("x-set", "keep=2"), ("x-unset", "keep, B")];
    set(&mut alice, "/account", &half).await;
    assert_eq!(told(&mut alice, &app, "/account").await.unwrap(), "keep=1");
    let refused = "doorward_session_data_changes_total{result=\"refused\"}";
    assert_eq!(proxy.metric(refused).await, 11);
}

#[tokio::test]
async fn an_app_sees_its_own_namespace_and_routes_can_share_one() {
    let app = app().await;
    let proxy = shop(&app).start();
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    set(&mut alice, "/account", &[("x-set", "a=\"shop\"")]).await;
    set(&mut alice, "/wiki", &[("x-set", "a=\"wiki\"")]).await;
    assert_eq!(told(&mut alice, &app, "/").await.unwrap(), "a=\"shop\"");
    assert_eq!(
        told(&mut alice, &app, "/account").await.unwrap(),
        "a=\"shop\""
    );
    assert_eq!(told(&mut alice, &app, "/wiki").await.unwrap(), "a=\"wiki\"");
    set(&mut alice, "/wiki", &[("x-unset", "a")]).await;
    assert_eq!(
        told(&mut alice, &app, "/account").await.unwrap(),
        "a=\"shop\""
    );
    let mut bob = proxy.browser();
    bob.log_in("bob").await;
    assert_eq!(told(&mut bob, &app, "/account").await, None);
}

#[tokio::test]
async fn of_many_changes_at_once_none_is_lost() {
    let app = app().await;
    let proxy = shop(&app).embedded().workers(2).start();
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    let mut work = JoinSet::new();
    for number in 0..50 {
        let mut browser = proxy.browser();
        browser.jar = alice.jar.clone();
        work.spawn(async move {
            let value = format!("k{number:02}={number}");
            set(&mut browser, "/account", &[("x-set", &value)])
                .await
                .status
        });
    }
    while let Some(status) = work.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    let expected: Vec<String> = (0..50).map(|n| format!("k{n:02}={n}")).collect();
    let data = told(&mut alice, &app, "/account").await.unwrap();
    assert_eq!(data, expected.join(", "));
    // What was answered is on the disk.
    let (folder, clock) = proxy.stop().await;
    let proxy = shop(&app).embedded().after(folder, clock).start();
    let mut again = proxy.browser();
    again.jar = alice.jar.clone();
    assert_eq!(told(&mut again, &app, "/account").await.unwrap(), data);
    let file = std::fs::read(proxy.path("data/sessions.db")).unwrap();
    for readable in [&b"k07=7"[..], b"k07", b"shop"] {
        assert!(!file.windows(readable.len()).any(|part| part == readable));
    }
}

#[tokio::test]
async fn a_visitor_has_a_session_from_the_first_write_and_keeps_the_data_at_login() {
    let app = app().await;
    let proxy = shop(&app).start();
    let mut visitor = proxy.browser();
    assert_eq!(visitor.open("/").await.set_cookies().len(), 0);
    assert_eq!(
        proxy.sessions().stored().await,
        Ok(0),
        "reading leaves no record"
    );
    let answer = set(&mut visitor, "/", &[("x-unset", "a")]).await;
    assert_eq!(answer.set_cookies().len(), 0, "nothing is nothing");

    set(&mut visitor, "/", &[("x-set", "cart=(\"bread\")")]).await;
    let before = visitor.token().to_owned();
    assert_eq!(before.len(), 43);
    assert_eq!(
        told(&mut visitor, &app, "/").await.unwrap(),
        "cart=(\"bread\")"
    );
    let sid = app.last().one("doorward-session").to_owned();
    assert!(app.last().all("remote-user").is_empty());
    set(&mut visitor, "/", &[("x-set", "size=2")]).await;
    assert_eq!(visitor.token(), before, "it goes on");

    // It opens nothing that needs a user, and is nobody in lists.
    assert_eq!(visitor.fetch("/account").await.status, 401);
    assert!(visitor.open("/account").await.status.is_redirection());
    assert_eq!(visitor.fetch("/.doorward/session").await.status, 401);
    assert!(
        visitor
            .open("/.doorward/sessions")
            .await
            .status
            .is_redirection()
    );
    let list = local(&proxy, "GET", "/sessions", "", "").await.json();
    assert_eq!(list["sessions"][0]["sid"], sid.as_str());
    assert_eq!(list["sessions"][0]["user"], Value::Null);
    assert_eq!(list["sessions"][0]["readable"], true);

    visitor.log_in("alice").await;
    assert_ne!(visitor.token(), before);
    let all = "cart=(\"bread\"), size=2";
    assert_eq!(told(&mut visitor, &app, "/account").await.unwrap(), all);
    assert_ne!(app.last().one("doorward-session"), sid);
    assert_eq!(app.last().one("remote-user"), "alice");
    // The visitor's own session is over, whoever has its token.
    assert_eq!(proxy.sessions().stored().await, Ok(1));
    let mut stale = proxy.browser();
    stale.jar.insert("__Host-sid".to_owned(), before);
    assert_eq!(told(&mut stale, &app, "/").await, None);

    // Logging in again as the same user goes on; as another one begins with nothing of theirs.
    visitor
        .log_in_at(
            "/.doorward/login?prompt=login",
            "alice",
            crate::support::PASSWORD,
        )
        .await;
    assert_eq!(told(&mut visitor, &app, "/account").await.unwrap(), all);
    visitor
        .log_in_at(
            "/.doorward/login?prompt=login",
            "bob",
            crate::support::PASSWORD,
        )
        .await;
    assert_eq!(told(&mut visitor, &app, "/account").await, None);
    assert_eq!(app.last().one("remote-user"), "bob");
}

#[tokio::test]
async fn no_other_site_replaces_the_session_that_a_browser_has() {
    let app = app().await;
    let proxy = shop(&app).start();
    let mut browser = proxy.browser();
    for fields in [
        &[
            ("origin", "https://evil.example"),
            ("sec-fetch-site", "cross-site"),
        ][..],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "no-cors"),
            ("sec-fetch-dest", "image"),
        ],
    ] {
        let mut all = vec![("x-set", "a=1")];
        all.extend(fields);
        let method = if fields.len() == 3 {
            Method::GET
        } else {
            Method::POST
        };
        let answer = browser.request(method, "/", &all, "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.set_cookies().len()),
            (200, 0)
        );
    }
    // A link from elsewhere brings the cookie along, if there is one.
    let link = [
        ("x-set", "a=1"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    let answer = browser.request(Method::GET, "/", &link, "").await;
    assert_eq!(answer.set_cookies().len(), 1);
}

#[tokio::test]
async fn visitors_have_limits_of_their_own() {
    let app = app().await;
    let limits =
        "anonymous = { idle_timeout = \"10m\", absolute_timeout = \"15m\", max_per_address = 3 }";
    let proxy = shop(&app).with("session", limits).start();
    let mut visitor = proxy.browser();
    set(&mut visitor, "/", &[("x-set", "a=1")]).await;
    proxy.clock.advance(Duration::from_mins(9));
    assert!(told(&mut visitor, &app, "/").await.is_some());
    proxy.clock.advance(Duration::from_mins(7));
    assert_eq!(
        told(&mut visitor, &app, "/").await,
        None,
        "its time is over"
    );
    for number in 0..5 {
        let answer = set(&mut proxy.browser(), "/", &[("x-set", "a=1")]).await;
        let expected = if number < 3 { 200 } else { 503 };
        assert_eq!(answer.status, expected, "{number}");
        if expected == 503 {
            assert_eq!(answer.header("retry-after"), "5");
            assert_eq!(answer.set_cookies().len(), 0);
        }
    }
    assert_eq!(
        proxy.browser().fetch("/").await.status,
        200,
        "who only reads is served"
    );
    proxy.clock.advance(Duration::from_mins(1));
    assert_eq!(
        set(&mut proxy.browser(), "/", &[("x-set", "a=1")])
            .await
            .status,
        200
    );
}

fn with_keys(app: &Upstream) -> Proxy {
    let builder = shop(app).with(
        "session",
        "data = { max_bytes = \"8KiB\", max_keys = 64 }\n\
         [[session.namespace]]\nname = \"shop\"\nkeys = [{ file = \"shop.key\" }]\n\
         [[session.namespace]]\nname = \"wiki\"\nkeys = [{ file = \"wiki.key\" }]",
    );
    let folder = builder.prepare();
    for (name, key) in [("shop.key", SHOP_KEY), ("wiki.key", WIKI_KEY)] {
        let file = folder.path().join(name);
        std::fs::write(&file, key).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let clock = proxy_clock();
    builder.after(folder, clock).start()
}

fn proxy_clock() -> doorward::clock::Clock {
    doorward::clock::Clock::fixed(doorward::clock::Timestamp::from_millis(1_800_000_000_000))
}

#[tokio::test]
async fn an_app_reads_and_changes_its_data_over_the_api() {
    let app = app().await;
    let proxy = with_keys(&app);
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    set(&mut alice, "/account", &[("x-set", "a=1, b=tok, c=:aGk=:")]).await;
    told(&mut alice, &app, "/account").await;
    let sid = app.last().one("doorward-session").to_owned();
    let ask = async |method: &str, fields: &str, body: &str| {
        api(
            &proxy,
            method,
            &format!("/sessions/{sid}/data/shop"),
            SHOP_KEY,
            fields,
            body,
        )
        .await
    };
    let read = ask("GET", "", "").await;
    assert_eq!(read.status, 200);
    assert_eq!(read.json(), json!({ "a": 1, "b": "tok", "c": "aGk=" }));
    let tag = read.header("etag").to_owned();

    let patch = r#"{"a": null, "prefs": {"dark": true}, "name": "fü"}"#;
    let patched = ask("PATCH", &format!("if-match: {tag}\r\n"), patch).await;
    assert_eq!(patched.status, 200, "{}", patched.text());
    let expected = json!({ "b": "tok", "c": "aGk=", "prefs": { "dark": true }, "name": "fü" });
    assert_eq!(patched.json(), expected);
    assert_ne!(patched.header("etag"), tag);
    // The app is told with the next request, and what a header cannot say is named.
    let data = told(&mut alice, &app, "/account").await.unwrap();
    assert_eq!(data, "b=tok, c=:aGk=:, name=%\"f%c3%bc\"");
    assert_eq!(app.last().one("doorward-session-omitted"), "prefs");
    for stale in [tag.as_str(), "W/\"x\"", "\"\""] {
        let refused = ask("PUT", &format!("if-match: {stale}\r\n"), "{}").await;
        assert_eq!(refused.status, 412, "{stale}");
        assert_eq!(refused.header("content-type"), "application/problem+json");
    }
    assert_eq!(
        ask("PUT", "if-match: *\r\n", r#"{"z": [1, "x"]}"#)
            .await
            .status,
        200
    );
    assert_eq!(
        told(&mut alice, &app, "/account").await.unwrap(),
        "z=(1 \"x\")"
    );
    // A header changes what the API has set, and the other way round.
    set(&mut alice, "/account", &[("x-set", "y=1")]).await;
    assert_eq!(
        ask("GET", "", "").await.json(),
        json!({ "y": 1, "z": [1, "x"] })
    );
    assert_eq!(ask("DELETE", "", "").await.status, 204);
    assert_eq!(ask("GET", "", "").await.json(), json!({}));
    assert_eq!(ask("PUT", "if-match: *\r\n", "{}").await.status, 412);
    assert_eq!(told(&mut alice, &app, "/account").await, None);
}

#[tokio::test]
async fn the_api_takes_no_other_key_and_nothing_half() {
    let app = app().await;
    let proxy = with_keys(&app);
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    told(&mut alice, &app, "/account").await;
    let sid = app.last().one("doorward-session").to_owned();
    let place = format!("/sessions/{sid}/data/shop");
    let put = async |key: &str, place: &str, body: &str| {
        api(&proxy, "PUT", place, key, "", body)
            .await
            .status
            .as_u16()
    };
    assert_eq!(put(SHOP_KEY, &place, r#"{"a": 1}"#).await, 200);
    assert_eq!(put(WIKI_KEY, &place, "{}").await, 401);
    assert_eq!(put("", &place, "{}").await, 401);
    assert_eq!(
        put(SHOP_KEY, &format!("/sessions/{sid}/data/other"), "{}").await,
        401
    );
    assert_eq!(put(SHOP_KEY, "/sessions/x/data/shop", "{}").await, 404);
    let nobodys = "/sessions/01993d7e-0000-7000-8000-000000000001/data/shop";
    assert_eq!(put(SHOP_KEY, nobodys, "{}").await, 404);
    let many: serde_json::Map<String, Value> =
        (0..65).map(|n| (format!("k{n}"), n.into())).collect();
    let (many, long) = (
        Value::Object(many).to_string(),
        json!({ "a": "x".repeat(9000) }).to_string(),
    );
    for (body, status) in [
        ("", 400),
        ("[]", 400),
        ("{\"a\": 1", 400),
        ("{\"A\": 1}", 400),
        ("{\"a\": null}", 400),
        (many.as_str(), 413),
        (&long, 413),
        (&format!("{{\"a\": \"{}\"}}", "x".repeat(10_000_000)), 413),
    ] {
        let told = &body[..body.len().min(40)];
        assert_eq!(put(SHOP_KEY, &place, body).await, status, "{told}");
    }
    let form = api(
        &proxy,
        "PUT",
        &place,
        SHOP_KEY,
        "content-type: text/plain\r\n",
        "{}",
    )
    .await;
    assert_eq!(form.status, 415);
    let posted = api(&proxy, "POST", &place, SHOP_KEY, "", "{}").await;
    assert_eq!(
        (posted.status.as_u16(), posted.header("allow")),
        (405, "GET, HEAD, PUT, PATCH, DELETE")
    );
    let read = api(&proxy, "GET", &place, SHOP_KEY, "", "").await;
    assert_eq!(read.json(), json!({ "a": 1 }), "nothing of it was taken");
    assert_eq!(
        api(&proxy, "GET", &format!("/sessions/{sid}"), SHOP_KEY, "", "")
            .await
            .status,
        404
    );
    // Through the socket of this machine no key is asked for.
    assert_eq!(
        local(&proxy, "GET", &place, "", "").await.json(),
        json!({ "a": 1 })
    );
    alice.log_out().await;
    assert_eq!(put(SHOP_KEY, &place, "{}").await, 404);
}

#[tokio::test]
async fn over_the_api_too_none_of_many_changes_is_lost() {
    let app = app().await;
    let proxy = Arc::new(with_keys(&app));
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    told(&mut alice, &app, "/account").await;
    let sid = app.last().one("doorward-session").to_owned();
    let place = format!("/sessions/{sid}/data/shop");
    api(&proxy, "PUT", &place, SHOP_KEY, "", r#"{"n": 0}"#).await;
    let tries = Arc::new(AtomicUsize::new(0));
    let mut work = JoinSet::new();
    for _ in 0..10 {
        let (proxy, place, tries) = (proxy.clone(), place.clone(), tries.clone());
        work.spawn(async move {
            loop {
                tries.fetch_add(1, Ordering::Relaxed);
                let read = api(&proxy, "GET", &place, SHOP_KEY, "", "").await;
                let n = read.json()["n"].as_i64().unwrap();
                let condition = format!("if-match: {}\r\n", read.header("etag"));
                let body = json!({ "n": n + 1 }).to_string();
                let put = api(&proxy, "PUT", &place, SHOP_KEY, &condition, &body).await;
                if put.status == 200 {
                    return;
                }
                assert_eq!(put.status, 412);
            }
        });
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    let read = api(&proxy, "GET", &place, SHOP_KEY, "", "").await;
    assert_eq!(
        read.json(),
        json!({ "n": 10 }),
        "{} tries",
        tries.load(Ordering::Relaxed)
    );
}

#[tokio::test]
async fn an_app_that_got_a_key_later_is_told_why_its_old_data_waits() {
    let app = app().await;
    let proxy = shop(&app).embedded().start();
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    set(&mut alice, "/account", &[("x-set", "a=1")]).await;
    told(&mut alice, &app, "/account").await;
    let sid = app.last().one("doorward-session").to_owned();
    let (folder, clock) = proxy.stop().await;
    std::fs::write(folder.path().join("shop.key"), SHOP_KEY).unwrap();
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(folder.path().join("shop.key"), private).unwrap();
    let keys = "[[session.namespace]]\nname = \"shop\"\nkeys = [{ file = \"shop.key\" }]";
    let proxy = shop(&app)
        .embedded()
        .with("session", keys)
        .after(folder, clock)
        .start();
    let place = format!("/sessions/{sid}/data/shop");
    let refused = api(&proxy, "GET", &place, SHOP_KEY, "", "").await;
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("before there was one"));
    let mut again = proxy.browser();
    again.jar = alice.jar.clone();
    assert_eq!(told(&mut again, &app, "/account").await.unwrap(), "a=1");
    set(&mut again, "/account", &[("x-set", "b=2")]).await;
    let read = api(&proxy, "GET", &place, SHOP_KEY, "", "").await;
    assert_eq!(read.json(), json!({ "a": 1, "b": 2 }));
    // Without the key it is not lost, and nothing is put in its place.
    let (folder, clock) = proxy.stop().await;
    let proxy = shop(&app).embedded().after(folder.clone(), clock).start();
    again.addr = proxy.addr;
    assert_eq!(told(&mut again, &app, "/account").await, None);
    assert_eq!(
        set(&mut again, "/account", &[("x-set", "c=3")])
            .await
            .status,
        503
    );
    let (folder, clock) = proxy.stop().await;
    let proxy = shop(&app)
        .embedded()
        .with("session", keys)
        .after(folder, clock)
        .start();
    again.addr = proxy.addr;
    assert_eq!(
        told(&mut again, &app, "/account").await.unwrap(),
        "a=1, b=2"
    );
}

#[cfg(feature = "redis")]
mod shared {
    use super::*;
    use crate::support::RedisProcess;

    #[tokio::test]
    async fn two_nodes_lose_no_change_and_without_the_store_none_is_answered() {
        let server = RedisProcess::own(&[]).await;
        let app = app().await;
        let url = format!("redis://127.0.0.1:{}", server.port);
        let store = format!("backend = \"redis\"\nurl = \"{url}\"");
        let one = shop(&app)
            .store(store.clone())
            .with("session", "cache_ttl = \"1ms\"")
            .start();
        let other = shop(&app)
            .store(store.clone())
            .with("session", "cache_ttl = \"1ms\"")
            .start();
        let mut alice = one.browser();
        alice.log_in("alice").await;
        let mut work = JoinSet::new();
        for number in 0..50 {
            let mut browser = [&one, &other][number % 2].browser();
            browser.jar = alice.jar.clone();
            work.spawn(async move {
                let value = format!("k{number:02}={number}");
                set(&mut browser, "/account", &[("x-set", &value)])
                    .await
                    .status
            });
        }
        while let Some(status) = work.join_next().await {
            assert_eq!(status.unwrap(), 200);
        }
        let expected: Vec<String> = (0..50).map(|n| format!("k{n:02}={n}")).collect();
        for node in [&one, &other] {
            node.clock.advance(Duration::from_secs(1));
            alice.addr = node.addr;
            let data = told(&mut alice, &app, "/account").await.unwrap();
            assert_eq!(data, expected.join(", "));
        }

        // Nobody is told that something is kept which is not.
        let calm = shop(&app)
            .store(format!("{store}\ntimeout = \"500ms\""))
            .start();
        alice.addr = calm.addr;
        assert!(told(&mut alice, &app, "/account").await.is_some());
        server
            .tell(&[b"CLIENT", b"PAUSE", b"20000", b"WRITE"])
            .await;
        let answer = set(&mut alice, "/account", &[("x-set", "late=1")]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("retry-after")),
            (503, "5")
        );
        assert!(!answer.text().contains("done"));
        let mut stranger = calm.browser();
        let answer = set(&mut stranger, "/", &[("x-set", "late=1")]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.set_cookies().len()),
            (503, 0)
        );
        assert_eq!(
            told(&mut alice, &app, "/account").await.unwrap(),
            expected.join(", ")
        );
    }
}

/// Over TCP, below the API's prefix, with a key of a namespace.
async fn api(
    proxy: &Proxy,
    method: &str,
    place: &str,
    key: &str,
    fields: &str,
    body: &str,
) -> Answer {
    let stream = TcpStream::connect(proxy.admin).await.unwrap();
    let fields = format!("authorization: Bearer {key}\r\n{fields}");
    exchange(stream, method, place, &fields, body).await
}

/// Over the unix socket.
async fn local(proxy: &Proxy, method: &str, place: &str, fields: &str, body: &str) -> Answer {
    let stream = UnixStream::connect(proxy.path("doorward.sock"))
        .await
        .unwrap();
    exchange(stream, method, place, fields, body).await
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    method: &str,
    place: &str,
    fields: &str,
    body: &str,
) -> Answer {
    let mut wire = Wire::new(stream);
    let kind = if fields.contains("content-type") {
        ""
    } else {
        "content-type: application/json\r\n"
    };
    wire.send(format!(
        "{method} /api/v1{place} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n{kind}{fields}\r\n{body}",
        body.len()
    ))
    .await;
    let answer = String::from_utf8(wire.rest().await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap()[9..12].parse().unwrap();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        let name: http::HeaderName = name.parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    Answer {
        status,
        headers,
        body: body.to_owned().into(),
    }
}
