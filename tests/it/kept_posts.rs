//! Forms that come when their session has ended: kept, and sent once after the login, as what the app received shows.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;

use crate::chromium::look;
use crate::support::{
    Answer, Browser, Chromium, PASSWORD, Proxy, Recorded, Reply, Upstream, proxy, upstream,
    upstream_at,
};
#[cfg(feature = "redis")]
use crate::support::{RedisProcess, START};
#[cfg(feature = "redis")]
use doorward::clock::Clock;

const FORM: [(&str, &str); 4] = [
    ("content-type", "application/x-www-form-urlencoded"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-site", "same-origin"),
];
const TEXT: &str = "title=Tr%E4ume&text=a+long+text&x=";
const IDLE: Duration = Duration::from_mins(31);

async fn app() -> Upstream {
    upstream(|_| Reply::ok("saved")).await
}

fn keeping(app: &Upstream) -> Proxy {
    proxy()
        .route("/", &app.url(), "access = \"user\"\nkeep_posts = \"4KiB\"")
        .route("/plain", &app.url(), "access = \"user\"")
        .start()
}

/// Alice, whose session has just ended.
async fn idled_out(proxy: &Proxy) -> Browser {
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    assert_eq!(alice.open("/").await.status, 200);
    proxy.clock.advance(IDLE);
    alice
}

async fn post(browser: &mut Browser, path: &str, body: impl AsRef<[u8]>) -> Answer {
    let origin = format!("https://{}", browser.authority());
    let mut fields = FORM.to_vec();
    fields.push(("origin", &origin));
    browser.request(Method::POST, path, &fields, body).await
}

fn posts(app: &Upstream) -> Vec<String> {
    let requests = app.requests().into_iter();
    let posts = requests.filter(|request| request.line().starts_with("POST "));
    posts
        .map(|request| {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            format!("{} {body}", request.line())
        })
        .collect()
}

/// Logs in again where the page says, and returns the page that asks.
async fn log_in_again(browser: &mut Browser, user: &str) -> Answer {
    let login = "/.doorward/login?return_to=%2F.doorward%2Fkept";
    let answer = browser.log_in_at(login, user, PASSWORD).await;
    assert_eq!(answer.header("location"), "/.doorward/kept");
    browser.open("/.doorward/kept").await
}

/// Where the form of the page leads that sends what was kept.
fn action(page: &Answer) -> String {
    let text = page.text().replace("&#x2f;", "/").replace("&amp;", "&");
    let (_, rest) = text.split_once("<form method=\"post\" action=\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn a_form_that_meets_an_ended_session_is_sent_once_after_the_login() {
    let app = app().await;
    let proxy = keeping(&app);
    let mut alice = idled_out(&proxy).await;
    let answer = post(&mut alice, "/save?page=1", TEXT).await;
    assert_eq!(answer.status, 401);
    assert!(answer.text().contains("It is kept for 15 minutes"));
    assert!(
        answer
            .text()
            .replace("&#x2f;", "/")
            .contains("return_to=%2F.doorward%2Fkept")
    );
    assert!(posts(&app).is_empty());

    let page = log_in_again(&mut alice, "alice").await;
    assert_eq!(page.status, 200);
    assert!(
        page.text().replace("&#x2f;", "/").contains("localhost"),
        "{}",
        page.text()
    );
    assert!(posts(&app).is_empty(), "nothing is sent by itself");
    let (action, token) = (action(&page), page.field("token"));
    assert!(
        action.starts_with("/save?page=1&doorward-kept="),
        "{action}"
    );
    let sent = post(&mut alice, &action, &format!("token={token}")).await;
    assert_eq!((sent.status.as_u16(), sent.text().as_str()), (200, "saved"));
    assert_eq!(posts(&app), [format!("POST /save?page=1 HTTP/1.1 {TEXT}")]);
    let got = app.last();
    assert_eq!(got.one("remote-user"), "alice");
    assert_eq!(got.one("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(got.one("content-length"), TEXT.len().to_string());

    let again = post(&mut alice, &action, &format!("token={token}")).await;
    assert_eq!(again.status, 410);
    assert!(again.text().contains("Nothing is waiting to be sent"));
    assert_eq!(alice.open("/.doorward/kept").await.status, 410);
    assert_eq!(posts(&app).len(), 1, "not twice");
}

/// The same through a real browser, for whoever wants to see it.
#[tokio::test]
async fn a_person_sends_a_form_that_came_too_late() {
    let app = upstream(|request| {
        let page = if request.line().starts_with("POST ") {
            "<!doctype html><title>App</title><h1>Saved</h1>"
        } else {
            "<!doctype html><title>App</title><h1>Write</h1><form method=post action=/save><textarea name=text></textarea>\
             <button>Save</button></form>"
        };
        Reply::with(200, "content-type: text/html\r\n", page)
    })
    .await;
    let proxy = keeping(&app);
    let authority = proxy.path("site.pem");
    let browser = Chromium::trusting(proxy.folder.path(), &authority, true).await;
    let base = format!("https://localhost:{}", proxy.addr.port());
    let log_in = async |browser: &Chromium| {
        browser.until("input[name=password]").await;
        browser.fill("input[name=user]", "alice").await;
        browser.fill("input[name=password]", PASSWORD).await;
        browser.click("button[type=submit]").await;
    };
    browser.open(&format!("{base}/write")).await;
    log_in(&browser).await;
    browser.until_heading("Write").await;
    browser.fill("textarea", "a long text").await;
    proxy.clock.advance(IDLE);
    browser.click("button").await;
    browser.until_heading("You are not logged in").await;
    look(&browser, "kept-form").await;
    browser.follow("Log in").await;
    log_in(&browser).await;
    browser.until_heading("Send it now?").await;
    look(&browser, "send-it-now").await;
    assert!(posts(&app).is_empty());
    browser.click("form[action*=doorward-kept] button").await;
    browser.until_heading("Saved").await;
    assert!(browser.url().await.starts_with(&format!("{base}/save?")));
    assert_eq!(posts(&app), ["POST /save HTTP/1.1 text=a+long+text"]);
    browser.close().await;
}

#[tokio::test]
async fn two_that_send_it_at_once_send_it_once() {
    let app = app().await;
    let proxy = keeping(&app);
    let mut alice = idled_out(&proxy).await;
    post(&mut alice, "/save", TEXT).await;
    let page = log_in_again(&mut alice, "alice").await;
    let (action, body) = (action(&page), format!("token={}", page.field("token")));
    let mut tabs: Vec<Browser> = (0..8)
        .map(|_| {
            let mut tab = proxy.browser();
            tab.jar.clone_from(&alice.jar);
            tab
        })
        .collect();
    let all = tabs.iter_mut().map(|tab| post(tab, &action, &body));
    let answers = futures_util::future::join_all(all).await;
    let sent = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((sent, posts(&app).len()), (1, 1));
}

#[tokio::test]
async fn bytes_of_any_kind_of_form_arrive_as_they_were() {
    let app = app().await;
    let proxy = keeping(&app);
    let body = b"--b\r\ncontent-disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n\0\xff\r\n--b--\r\n";
    for kind in [
        "multipart/form-data; boundary=b",
        "Text/Plain; charset=utf-8",
    ] {
        let mut alice = idled_out(&proxy).await;
        let origin = format!("https://{}", alice.authority());
        let fields = [
            ("content-type", kind),
            ("origin", &origin),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        let answer = alice.request(Method::POST, "/save", &fields, &body).await;
        assert_eq!(answer.status, 401);
        let page = log_in_again(&mut alice, "alice").await;
        let (action, token) = (action(&page), page.field("token"));
        let sent = post(&mut alice, &action, &format!("token={token}")).await;
        assert_eq!(sent.status, 200);
        assert_eq!(app.last().body, body, "{kind}");
        assert_eq!(app.last().one("content-type"), kind);
    }
}

#[tokio::test]
async fn who_throws_it_away_sends_nothing() {
    let app = app().await;
    let proxy = keeping(&app);
    let mut alice = idled_out(&proxy).await;
    post(&mut alice, "/save", TEXT).await;
    let page = log_in_again(&mut alice, "alice").await;
    let (action, token) = (action(&page), page.field("token"));
    let id = page.field("form");
    let body = format!("token={token}&form={id}");
    let gone = post(&mut alice, "/.doorward/kept", &body).await;
    assert_eq!((gone.status.as_u16(), gone.header("location")), (303, "/"));
    let late = post(&mut alice, &action, &format!("token={token}")).await;
    assert_eq!(late.status, 410);
    assert!(posts(&app).is_empty());
}

#[tokio::test]
async fn somebody_else_in_the_same_browser_neither_sees_nor_sends_it() {
    let app = app().await;
    let proxy = keeping(&app);
    let mut browser = proxy.browser();
    browser.log_in("bob").await;
    browser.log_out().await;
    let mut browser = {
        browser.log_in("alice").await;
        proxy.clock.advance(IDLE);
        browser
    };
    post(&mut browser, "/save?secret=1", TEXT).await;
    let page = log_in_again(&mut browser, "bob").await;
    assert_eq!(page.status, 410);
    assert!(page.text().contains("somebody else"));
    assert!(!page.text().contains("secret"));
    browser.log_out().await;
    assert_eq!(
        log_in_again(&mut browser, "alice").await.status,
        410,
        "it is gone"
    );
    assert!(posts(&app).is_empty());
}

#[tokio::test]
async fn after_a_quarter_of_an_hour_it_is_not_sent_any_more() {
    let app = app().await;
    let proxy = keeping(&app);
    for (wait, kept) in [(14, true), (15, false)] {
        let mut alice = idled_out(&proxy).await;
        post(&mut alice, "/save", TEXT).await;
        let page = log_in_again(&mut alice, "alice").await;
        let (action, token) = (action(&page), page.field("token"));
        proxy.clock.advance(Duration::from_mins(wait));
        let sent = post(&mut alice, &action, &format!("token={token}")).await;
        assert_eq!(sent.status == 200, kept, "{}", sent.text());
    }
    assert_eq!(posts(&app).len(), 1);
}

#[tokio::test]
async fn what_is_no_form_of_somebody_who_was_here_is_not_kept() {
    let app = app().await;
    let proxy = keeping(&app);
    let large = "x".repeat(4097);
    let alice = idled_out(&proxy).await;
    let own = format!("https://{}", alice.authority());
    let own = own.as_str();
    let form = "application/x-www-form-urlencoded";
    for (what, jar, path, kind, origin, mode, body) in [
        (
            "another site's",
            true,
            "/save",
            form,
            "https://evil.example",
            "navigate",
            TEXT,
        ),
        (
            "a sandboxed page's",
            true,
            "/save",
            form,
            "null",
            "navigate",
            TEXT,
        ),
        ("a script's", true, "/save", form, own, "cors", TEXT),
        (
            "json",
            true,
            "/save",
            "application/json",
            own,
            "navigate",
            TEXT,
        ),
        ("a stranger's", false, "/save", form, own, "navigate", TEXT),
        ("too large", true, "/save", form, own, "navigate", &large),
        ("elsewhere", true, "/plain", form, own, "navigate", TEXT),
    ] {
        let mut browser = proxy.browser();
        if jar {
            browser.jar.clone_from(&alice.jar);
        }
        let fields = [
            ("content-type", kind),
            ("origin", origin),
            ("sec-fetch-mode", mode),
            ("sec-fetch-dest", "document"),
        ];
        let answer = browser.request(Method::POST, path, &fields, body).await;
        assert_eq!(answer.status, 401, "{what}");
        let begun = answer.set_cookies();
        let begun = begun
            .iter()
            .any(|cookie| cookie.starts_with("__Host-sid=") && !cookie.starts_with("__Host-sid=;"));
        assert!(!begun, "{what}: a session has begun");
        assert!(!answer.text().contains("It is kept"), "{what}");
        assert_eq!(
            answer.text().contains("too large to be kept"),
            what == "too large"
        );
    }
    assert!(posts(&app).is_empty());
}

#[tokio::test]
async fn no_other_site_has_it_sent_and_no_other_place_gets_it() {
    let app = app().await;
    let proxy = keeping(&app);
    let mut alice = idled_out(&proxy).await;
    post(&mut alice, "/save", TEXT).await;
    let page = log_in_again(&mut alice, "alice").await;
    let (action, token) = (action(&page), page.field("token"));
    let body = format!("token={token}");
    let evil = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("origin", "https://evil.example"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    // Nor does it go through as any other form does, with a token of ours.
    alice.request(Method::POST, &action, &evil, &body).await;
    assert_eq!(post(&mut alice, &action, "token=x").await.status, 403);
    assert_eq!(
        post(&mut alice, "/.doorward/kept", "token=x").await.status,
        403
    );
    let got = posts(&app);
    assert!(got.iter().all(|post| !post.contains("title=")), "{got:?}");
    let elsewhere = action.replace("/save", "/delete");
    assert_eq!(post(&mut alice, &elsewhere, &body).await.status, 410);
    assert!(posts(&app).iter().all(|post| !post.contains("title=")));
}

#[tokio::test]
async fn a_login_that_is_too_old_keeps_the_form_in_the_session_that_there_is() {
    let app = app().await;
    let proxy = proxy()
        .route(
            "/",
            &app.url(),
            "access = \"user\"\nkeep_posts = \"4KiB\"\nmax_auth_age = \"5m\"",
        )
        .start();
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    proxy.clock.advance(Duration::from_mins(6));
    let answer = post(&mut alice, "/save", TEXT).await;
    assert_eq!(answer.status, 401);
    assert!(answer.text().contains("It is kept"));
    let login = "/.doorward/login?return_to=%2F.doorward%2Fkept&prompt=login";
    alice.log_in_at(login, "alice", PASSWORD).await;
    let page = alice.open("/.doorward/kept").await;
    let (action, token) = (action(&page), page.field("token"));
    let sent = post(&mut alice, &action, &format!("token={token}")).await;
    assert_eq!(sent.status, 200);
    assert_eq!(posts(&app), [format!("POST /save HTTP/1.1 {TEXT}")]);
}

#[tokio::test]
async fn what_says_to_send_it_and_does_not_say_where_from_reaches_no_app() {
    let app = app().await;
    let proxy = keeping(&app);
    let mut alice = idled_out(&proxy).await;
    post(&mut alice, "/save", TEXT).await;
    let page = log_in_again(&mut alice, "alice").await;
    let (action, body) = (action(&page), format!("token={}", page.field("token")));
    let unsigned = &FORM[..3];
    let script = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-site", "same-origin"),
    ];
    for fields in [unsigned, &script] {
        let answer = alice.request(Method::POST, &action, fields, &body).await;
        assert_eq!(answer.status, 403, "{fields:?}");
    }
    assert_eq!(posts(&app), [""; 0], "nor does our token");
    assert_eq!(post(&mut alice, &action, &body).await.status, 200);
    assert_eq!(posts(&app), [format!("POST /save HTTP/1.1 {TEXT}")]);
    // A route that keeps nothing has no such thing.
    let plain = action.replace("/save", "/plain");
    assert_eq!(post(&mut alice, &plain, "x=1").await.status, 200);
    assert_eq!(app.last().body, b"x=1");
}

/// Any link leads to the page of the other host, where the browser has another cookie to be recognised by.
#[tokio::test]
async fn a_form_of_one_host_is_neither_shown_nor_thrown_away_at_another() {
    let app = app().await;
    let rest = "access = \"user\"\nkeep_posts = \"4KiB\"";
    let proxy = proxy()
        .with("session", "domain = \"example.test\"")
        .route_at("wiki.example.test", "/", &app.url(), rest)
        .route_at("shop.example.test", "/", &app.url(), rest)
        .start();
    let port = proxy.addr.port();
    let mut wiki = proxy.browser();
    wiki.named = Some(format!("wiki.example.test:{port}"));
    let answer = wiki.log_in_at("/", "alice", PASSWORD).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    proxy.clock.advance(IDLE);
    assert_eq!(post(&mut wiki, "/save", TEXT).await.status, 401);
    let page = log_in_again(&mut wiki, "alice").await;
    assert_eq!(page.status, 200, "{}", page.text());
    let mut shop = wiki.clone();
    shop.named = Some(format!("shop.example.test:{port}"));
    for is_known in [true, false] {
        shop.jar
            .retain(|name, _| is_known || name == "__Secure-sid");
        assert_eq!(shop.open("/").await.status, 200, "she is logged in");
        let answer = shop.open("/.doorward/kept").await;
        assert_eq!(answer.status, 410, "{}", answer.text());
    }
    let body = format!("token={}", page.field("token"));
    let sent = post(&mut wiki, &action(&page), &body).await;
    assert_eq!(sent.status, 200, "{}", sent.text());
    assert_eq!(posts(&app), [format!("POST /save HTTP/1.1 {TEXT}")]);
}

#[tokio::test]
async fn a_form_takes_no_room_from_what_the_app_keeps_and_is_no_part_of_it() {
    let app = upstream(|_| Reply::with(200, "Doorward-Session-Set: theme=dark\r\n", "")).await;
    let rest = "access = \"user\"\nkeep_posts = \"256KiB\"\nsession_data = \"shop\"";
    let proxy = proxy().route("/", &app.url(), rest).start();
    let mut alice = idled_out(&proxy).await;
    let large = format!("text={}", "x".repeat(200_000));
    assert_eq!(post(&mut alice, "/save", &large).await.status, 401);
    let page = log_in_again(&mut alice, "alice").await;
    assert_eq!(alice.open("/").await.status, 200);
    assert_eq!(alice.open("/").await.status, 200);
    assert_eq!(app.last().one("doorward-session-data"), "theme=dark");
    let (action, token) = (action(&page), page.field("token"));
    let sent = post(&mut alice, &action, &format!("token={token}")).await;
    assert_eq!(sent.status, 200);
    assert_eq!(app.last().body, large.as_bytes());
}

#[tokio::test]
async fn a_session_that_only_a_form_began_is_over_when_nobody_comes() {
    let app = app().await;
    let proxy = keeping(&app);
    for (wait, is_over) in [(14, false), (15, true)] {
        let mut alice = idled_out(&proxy).await;
        post(&mut alice, "/save", TEXT).await;
        assert_eq!(alice.token().len(), 43);
        proxy.clock.advance(Duration::from_mins(wait));
        alice.open("/").await;
        assert_eq!(alice.token().is_empty(), is_over, "{wait} minutes");
    }
}

#[tokio::test]
async fn forms_of_several_tabs_wait_side_by_side_and_none_that_was_promised_is_lost() {
    let app = app().await;
    let proxy = keeping(&app);
    let mut alice = idled_out(&proxy).await;
    for (path, kept) in [("/a", true), ("/b", true), ("/c", true), ("/d", false)] {
        let answer = post(&mut alice, path, path).await;
        assert_eq!(answer.text().contains("It is kept"), kept, "{path}");
    }
    let page = log_in_again(&mut alice, "alice").await;
    let body = format!("token={}", page.field("token"));
    let actions = actions(&page);
    assert_eq!(actions.len(), 3, "{actions:?}");
    // One is thrown away, the others are sent, in any order.
    let (_, id) = actions[1].split_once("doorward-kept=").unwrap();
    let thrown = format!("{body}&form={id}");
    let gone = post(&mut alice, "/.doorward/kept", &thrown).await;
    assert_eq!(gone.header("location"), "/.doorward/kept", "two are left");
    for action in [&actions[2], &actions[0]] {
        assert_eq!(post(&mut alice, action, &body).await.status, 200);
    }
    assert_eq!(post(&mut alice, &actions[1], &body).await.status, 410);
    assert_eq!(posts(&app), ["POST /c HTTP/1.1 /c", "POST /a HTTP/1.1 /a"]);
}

/// Where each form of the page leads that sends something that was kept.
fn actions(page: &Answer) -> Vec<String> {
    let text = page.text().replace("&#x2f;", "/").replace("&amp;", "&");
    let forms = text.split("<form method=\"post\" action=\"").skip(1);
    let actions = forms.map(|form| form.split('"').next().unwrap().to_owned());
    actions
        .filter(|action| action.contains("doorward-kept="))
        .collect()
}

#[tokio::test]
async fn a_form_outlives_the_node_that_took_it_and_is_sent_once_all_the_same() {
    let app = app().await;
    let rest = "access = \"user\"\nkeep_posts = \"4KiB\"";
    let node = || proxy().embedded().route("/", &app.url(), rest);
    let first = node().start();
    let mut alice = first.browser();
    alice.named = Some("localhost:1111".to_owned());
    alice.log_in("alice").await;
    first.clock.advance(IDLE);
    post(&mut alice, "/save", TEXT).await;
    let (folder, clock) = first.stop().await;

    let second = node().after(folder, clock).start();
    alice.addr = second.addr;
    let page = log_in_again(&mut alice, "alice").await;
    let (action, body) = (action(&page), format!("token={}", page.field("token")));
    assert_eq!(post(&mut alice, &action, &body).await.status, 200);
    let (folder, clock) = second.stop().await;

    let third = node().after(folder, clock).start();
    alice.addr = third.addr;
    assert_eq!(post(&mut alice, &action, &body).await.status, 410);
    assert_eq!(posts(&app), [format!("POST /save HTTP/1.1 {TEXT}")]);
}

/// Nothing listens there, and no other test comes upon it.
fn nowhere() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.77:0").unwrap();
    listener.local_addr().unwrap()
}

fn is_sent_later(answer: &Answer) {
    assert_eq!(answer.status, 502);
    let text = answer.text().replace("&#x2f;", "/");
    assert!(text.contains("It is not sent yet"), "{text}");
    assert!(text.contains("href=\"/.doorward/kept\""), "{text}");
    assert_eq!(answer.header("retry-after"), "5");
}

#[tokio::test]
async fn a_form_waits_on_while_its_app_is_down_and_is_sent_once_when_it_is_up() {
    let addr = nowhere();
    let proxy = proxy()
        .route(
            "/",
            &format!("http://{addr}"),
            "access = \"user\"\nkeep_posts = \"4KiB\"",
        )
        .start();
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    proxy.clock.advance(IDLE);
    post(&mut alice, "/save?page=1", TEXT).await;
    let page = log_in_again(&mut alice, "alice").await;
    let (first, body) = (action(&page), format!("token={}", page.field("token")));
    for _ in 0..2 {
        is_sent_later(&post(&mut alice, &first, &body).await);
    }
    // Many at once, none of which takes it away.
    let mut tabs: Vec<Browser> = (0..4).map(|_| alice.clone()).collect();
    let all = tabs.iter_mut().map(|tab| post(tab, &first, &body));
    for answer in futures_util::future::join_all(all).await {
        is_sent_later(&answer);
    }
    let app = upstream_at(addr, |_| Reply::ok("saved")).await;
    let page = alice.open("/.doorward/kept").await;
    assert_eq!((page.status.as_u16(), action(&page)), (200, first.clone()));
    assert_eq!(posts(&app), [""; 0], "nothing is sent by itself");
    let sent = post(&mut alice, &first, &body).await;
    assert_eq!((sent.status.as_u16(), sent.text().as_str()), (200, "saved"));
    assert_eq!(posts(&app), [format!("POST /save?page=1 HTTP/1.1 {TEXT}")]);
    assert_eq!(post(&mut alice, &first, &body).await.status, 410);
    assert_eq!(posts(&app).len(), 1);
}

#[tokio::test]
async fn a_form_that_waits_for_its_app_is_kept_no_longer_for_that() {
    let proxy = proxy()
        .route(
            "/",
            &format!("http://{}", nowhere()),
            "access = \"user\"\nkeep_posts = \"4KiB\"",
        )
        .start();
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    proxy.clock.advance(IDLE);
    post(&mut alice, "/save", TEXT).await;
    let page = log_in_again(&mut alice, "alice").await;
    let (action, body) = (action(&page), format!("token={}", page.field("token")));
    proxy.clock.advance(Duration::from_mins(14));
    is_sent_later(&post(&mut alice, &action, &body).await);
    proxy.clock.advance(Duration::from_mins(1));
    let late = post(&mut alice, &action, &body).await;
    assert_eq!(late.status, 410);
    assert!(late.text().contains("too long ago"));
}

#[tokio::test]
async fn a_form_of_which_the_app_may_have_seen_anything_is_not_sent_again() {
    let deaf = upstream(|request: &Recorded| {
        if request.line().starts_with("POST ") {
            Reply::Close(Vec::new())
        } else {
            Reply::ok("")
        }
    })
    .await;
    let proxy = keeping(&deaf);
    let mut alice = idled_out(&proxy).await;
    post(&mut alice, "/save", TEXT).await;
    let page = log_in_again(&mut alice, "alice").await;
    let (action, body) = (action(&page), format!("token={}", page.field("token")));
    // There are connections of old that could be used, and that the app may be about to close.
    assert_eq!(alice.open("/").await.status, 200);
    let before = deaf.connections();
    let lost = post(&mut alice, &action, &body).await;
    assert_eq!(lost.status, 502);
    assert!(!lost.text().contains("still kept"), "{}", lost.text());
    assert_eq!(deaf.connections(), before + 1, "one of its own");
    assert_eq!(posts(&deaf), [format!("POST /save HTTP/1.1 {TEXT}")]);
    assert_eq!(post(&mut alice, &action, &body).await.status, 410);
    assert_eq!(alice.open("/.doorward/kept").await.status, 410);
    assert_eq!(posts(&deaf).len(), 1);
}

#[tokio::test]
async fn a_form_that_the_route_would_refuse_is_not_kept() {
    let app = app().await;
    let rest = "access = \"user\"\nkeep_posts = \"4KiB\"\nmax_body = \"1KiB\"";
    let proxy = proxy().route("/", &app.url(), rest).start();
    let mut alice = idled_out(&proxy).await;
    let answer = post(&mut alice, "/save", "x".repeat(1025)).await;
    assert!(answer.text().contains("too large to be kept"));
    let answer = post(&mut alice, "/save", "x".repeat(1024)).await;
    assert!(answer.text().contains("It is kept"));
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_form_that_one_node_keeps_another_sends_and_of_both_one() {
    let app = app().await;
    let server = RedisProcess::own(&[]).await;
    let store = format!(
        "backend = \"redis\"\nurl = \"redis://127.0.0.1:{}\"",
        server.port
    );
    let clock = Clock::fixed(START);
    let rest = "access = \"user\"\nkeep_posts = \"4KiB\"\nmax_auth_age = \"5m\"";
    let node = || {
        let node = proxy().clock(&clock).store(store.clone());
        node.route("/", &app.url(), rest).start()
    };
    let nodes = [node(), node()];
    let mut alice = nodes[0].browser();
    alice.named = Some("localhost:1111".to_owned());
    alice.log_in("alice").await;
    // The other node knows the session from before there is a form in it.
    alice.addr = nodes[1].addr;
    assert_eq!(alice.open("/").await.status, 200);
    clock.advance(Duration::from_mins(6));
    alice.addr = nodes[0].addr;
    assert!(
        post(&mut alice, "/save", TEXT)
            .await
            .text()
            .contains("It is kept")
    );
    alice.addr = nodes[1].addr;
    let login = "/.doorward/login?return_to=%2F.doorward%2Fkept&prompt=login";
    alice.log_in_at(login, "alice", PASSWORD).await;
    let page = alice.open("/.doorward/kept").await;
    let (action, body) = (action(&page), format!("token={}", page.field("token")));
    let mut tabs: Vec<Browser> = (0..8).map(|_| alice.clone()).collect();
    for (tab, node) in tabs.iter_mut().zip(nodes.iter().cycle()) {
        tab.addr = node.addr;
        assert_eq!(tab.open("/").await.status, 200);
    }
    let all = tabs.iter_mut().map(|tab| post(tab, &action, &body));
    let answers = futures_util::future::join_all(all).await;
    let sent = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((sent, posts(&app).len()), (1, 1));
    assert_eq!(posts(&app), [format!("POST /save HTTP/1.1 {TEXT}")]);
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_form_whose_app_goes_away_while_it_is_taken_out_is_put_back() {
    let server = RedisProcess::own(&[]).await;
    let store = format!(
        "backend = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\ntimeout = \"2s\"",
        server.port
    );
    let addr = nowhere();
    let rest = "access = \"user\"\nkeep_posts = \"4KiB\"";
    let proxy = proxy().store(store);
    let proxy = proxy.route("/", &format!("http://{addr}"), rest).start();
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    proxy.clock.advance(IDLE);
    post(&mut alice, "/save", TEXT).await;
    let page = log_in_again(&mut alice, "alice").await;
    let (action, body) = (action(&page), format!("token={}", page.field("token")));

    // It is there when it is looked for, and gone while the store takes its time.
    let listener = tokio::net::TcpListener::bind(addr).await.unwrap();
    let gone = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        drop((stream, listener));
    });
    let pause: [&[u8]; 4] = [b"CLIENT", b"PAUSE", b"500", b"WRITE"];
    server.tell(&pause).await;
    is_sent_later(&post(&mut alice, &action, &body).await);
    gone.await.unwrap();

    let app = upstream_at(addr, |_| Reply::ok("saved")).await;
    assert_eq!(alice.open("/.doorward/kept").await.status, 200);
    assert_eq!(post(&mut alice, &action, &body).await.status, 200);
    assert_eq!(posts(&app), [format!("POST /save HTTP/1.1 {TEXT}")]);
}
