//! Changing one's own password: who may, what becomes of the sessions, and what is left where it fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use http::Method;

use crate::oidc::Bench;
use crate::support::{
    Answer, Browser, PASSWORD, Proxy, Recorded, Reply, Upstream, eventually, proxy, upstream,
};

const PAGE: &str = "/.doorward/password";
const NEXT: &str = "a horse of another colour";

async fn app() -> Upstream {
    upstream(|_: &Recorded| Reply::ok("hello")).await
}

async fn logged_in(proxy: &Proxy, user: &str) -> Browser {
    let mut browser = proxy.browser();
    browser.log_in(user).await;
    browser
}

async fn form_token(browser: &mut Browser) -> String {
    browser.open(PAGE).await.field("token")
}

async fn send(browser: &mut Browser, token: &str, [current, new, again]: [&str; 3]) -> Answer {
    let form = [
        ("token", token),
        ("current", current),
        ("new", new),
        ("again", again),
    ];
    browser.submit(PAGE, &form).await
}

async fn change(browser: &mut Browser, current: &str, new: &str) -> Answer {
    let token = form_token(browser).await;
    send(browser, &token, [current, new, new]).await
}

#[tokio::test]
async fn a_new_password_counts_at_once_and_only_the_session_it_was_given_in_goes_on() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let (mut alice, mut bob) = (
        logged_in(&proxy, "alice").await,
        logged_in(&proxy, "bob").await,
    );
    let mut others = [
        logged_in(&proxy, "alice").await,
        logged_in(&proxy, "alice").await,
    ];
    proxy.clock.advance(Duration::from_mins(5));
    let before = alice.clone();
    let me = alice.fetch("/.doorward/session").await.json();

    let answer = change(&mut alice, PASSWORD, NEXT).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/.doorward/password?done")
    );
    assert_ne!(alice.token(), before.token());
    let done = alice.open("/.doorward/password?done").await;
    assert!(
        done.text().contains("Your password is changed"),
        "{}",
        done.text()
    );
    assert_eq!(alice.fetch("/").await.status, 200);
    for other in &mut others {
        assert_eq!(other.fetch("/").await.status, 401);
    }
    assert_eq!(before.clone().fetch("/").await.status, 401, "the old token");
    assert_eq!(bob.fetch("/").await.status, 200);

    // It is no new login: what is known of the old one stands.
    let still = alice.fetch("/.doorward/session").await.json();
    for key in ["auth_time", "amr", "user", "provider"] {
        assert_eq!(still[key], me[key], "{key}");
    }
    let event = proxy.audited("password_changed").await;
    for (key, expected) in [
        ("sid", &still["sid"]),
        ("before", &me["sid"]),
        ("user", &"alice".into()),
        ("provider", &"local".into()),
        ("ended", &2.into()),
        ("address", &"127.0.0.1".into()),
    ] {
        assert_eq!(&event[key], expected, "{key}");
    }
    let ended = proxy.audited_times("session_ended", 3).await;
    assert!(ended.iter().all(|event| event["reason"] == "user_changed"));

    let mut again = proxy.browser();
    assert_eq!(again.log_in_at("/", "alice", PASSWORD).await.status, 401);
    assert_eq!(again.log_in_at("/", "alice", NEXT).await.status, 303);
    let text = fs::read_to_string(proxy.path("audit.log")).unwrap();
    assert!(!text.contains(NEXT) && !text.contains(PASSWORD));
}

/// The proxy looks at its users file by itself, and must not take the change for one that it has to act on.
#[tokio::test]
async fn who_changed_it_stays_logged_in_when_the_file_is_looked_at_again() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let (mut alice, mut bob) = (
        logged_in(&proxy, "alice").await,
        logged_in(&proxy, "bob").await,
    );
    assert_eq!(change(&mut alice, PASSWORD, NEXT).await.status, 303);
    // It looks once more, and finds something to do.
    let path = proxy.path("users.toml");
    doorward::login::UserFile::remove(&path, "bob").unwrap();
    eventually("bob is out", async || bob.fetch("/").await.status == 401).await;
    assert_eq!(alice.fetch("/").await.status, 200);
    // A change by hand beside the mark of hers is one to act on.
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches("own_change = \"18").count(), 1, "{text}");
    let other = doorward::login::NewPassword::choose("alice", PASSWORD).unwrap();
    doorward::login::UserFile::set_password(&path, "alice", &other).unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains("own_change"));
    eventually("she is out", async || alice.fetch("/").await.status == 401).await;
}

#[tokio::test]
async fn what_apps_keep_in_the_session_goes_on_with_it() {
    let app = upstream(|request: &Recorded| {
        let set = if request.line().starts_with("GET /set") {
            "Doorward-Session-Set: cart=(\"tea\" 2)\r\nSet-Cookie: JSESSIONID=abc; Path=/\r\n"
        } else {
            ""
        };
        Reply::with(200, set, "done")
    })
    .await;
    let rest = "access = \"user\"\nsession_data = \"shop\"\ncookie_jar = true";
    let proxy = proxy().route("/", &app.url(), rest).start();
    let mut alice = logged_in(&proxy, "alice").await;
    assert_eq!(alice.fetch("/set").await.status, 200);
    assert_eq!(change(&mut alice, PASSWORD, NEXT).await.status, 303);
    assert_eq!(alice.fetch("/").await.status, 200);
    let told = app.last();
    assert_eq!(told.one("doorward-session-data"), "cart=(\"tea\" 2)");
    assert_eq!(told.one("cookie"), "JSESSIONID=abc");
}

#[tokio::test]
async fn what_is_not_good_enough_is_refused_and_changes_nothing() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .with("provider", "max_attempts = 1")
        .start();
    let mut alice = logged_in(&proxy, "alice").await;
    let before = fs::read_to_string(proxy.path("users.toml")).unwrap();
    let token = form_token(&mut alice).await;
    let long = "a".repeat(1025);
    for ([current, new, again], status, told) in [
        // What is wrong with the new one is said first: the password now is not looked at, and no attempt is used up.
        (["not hers", "short", "short"], 400, "too short"),
        (
            ["not hers", "password1", "password1"],
            400,
            "anybody would guess",
        ),
        (["not hers", &long, &long], 400, "too long"),
        (
            ["not hers", NEXT, "a horse of another color"],
            400,
            "not the same",
        ),
        ([PASSWORD, PASSWORD, PASSWORD], 400, "the one that you have"),
        (["", "", ""], 400, "too short"),
        (["not hers", NEXT, NEXT], 403, "not your password"),
        ([PASSWORD, NEXT, NEXT], 429, "Too many attempts"),
    ] {
        let answer = send(&mut alice, &token, [current, new, again]).await;
        assert_eq!(answer.status, status, "{new}: {}", answer.text());
        assert!(answer.text().contains(told), "{told}: {}", answer.text());
        assert!(answer.set_cookies().is_empty());
        assert!(!answer.text().contains(NEXT) && !answer.text().contains(PASSWORD));
    }
    assert_eq!(
        fs::read_to_string(proxy.path("users.toml")).unwrap(),
        before
    );
    assert_eq!(alice.fetch("/").await.status, 200);
    let failed = proxy.audited_times("password_change_failed", 2).await;
    assert_eq!(failed[0]["cause"], "credentials");
    assert_eq!(failed[1]["cause"], "throttled");
    assert!(failed.iter().all(|event| event["user"] == "alice"));
    // The attempts are those of logins.
    let mut stranger = proxy.browser();
    stranger.fields.clear();
    assert_eq!(stranger.log_in_at("/", "alice", PASSWORD).await.status, 429);
}

#[tokio::test]
async fn nobody_changes_a_password_but_by_a_form_of_their_own_session() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let (mut alice, mut bob) = (
        logged_in(&proxy, "alice").await,
        logged_in(&proxy, "bob").await,
    );
    let before = fs::read_to_string(proxy.path("users.toml")).unwrap();
    let (own, bobs) = (form_token(&mut alice).await, form_token(&mut bob).await);
    for token in ["", "x", &bobs, &"A".repeat(5000)] {
        let answer = send(&mut alice, token, [PASSWORD, NEXT, NEXT]).await;
        assert_eq!(answer.status, 403);
    }
    let body = format!("token={own}&current={PASSWORD}&new={NEXT}&again={NEXT}").replace(' ', "+");
    let kind = ("content-type", "application/x-www-form-urlencoded");
    for sign in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let answer = alice
            .request(Method::POST, PAGE, &[kind, sign], &body)
            .await;
        assert_eq!(answer.status, 403, "{sign:?}");
    }
    let twice = [("token", own.as_str()), ("new", NEXT), ("new", "x")];
    assert_eq!(alice.submit(PAGE, &twice).await.status, 400);
    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        let answer = alice.request(method, PAGE, &[], "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("allow")),
            (405, "GET, HEAD, POST")
        );
    }
    assert_eq!(
        fs::read_to_string(proxy.path("users.toml")).unwrap(),
        before
    );
    let refused = proxy.audited_times("cross_site_refused", 4).await;
    assert!(refused.iter().all(|event| event["place"] == "password"));

    let mut nobody = proxy.browser();
    let answer = nobody.open(PAGE).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/.doorward/login?return_to=%2F.doorward%2Fpassword")
    );
    assert_eq!(
        send(&mut nobody, &own, [PASSWORD, NEXT, NEXT]).await.status,
        303
    );
    assert_eq!(nobody.fetch(PAGE).await.status, 401);
}

#[tokio::test]
async fn the_page_is_linked_and_found_by_password_managers() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut alice = logged_in(&proxy, "alice").await;
    for path in ["/.doorward/login", "/.doorward/sessions"] {
        let text = alice.open(path).await.text();
        assert!(
            text.contains("href=\"&#x2f;.doorward&#x2f;password\""),
            "{path}: {text}"
        );
    }
    for (method, status) in [(Method::GET, 303), (Method::HEAD, 303), (Method::POST, 405)] {
        let answer = proxy
            .browser()
            .request(method, "/.well-known/change-password", &[], "")
            .await;
        assert_eq!(answer.status, status);
        if status == 303 {
            assert_eq!(answer.header("location"), PAGE);
        }
    }
    // Anything beside it is the app's.
    assert_eq!(
        alice.fetch("/.well-known/change-password/x").await.status,
        200
    );
    assert_eq!(
        app.only().line(),
        "GET /.well-known/change-password/x HTTP/1.1"
    );
}

#[tokio::test]
async fn who_logs_in_elsewhere_is_told_where_the_password_is() {
    let bench = Bench::start().await;
    let mut carol = bench.proxy.browser();
    assert_eq!(bench.log_in(&mut carol).await.status, 303);
    let page = carol.open(PAGE).await;
    assert_eq!(page.status, 200);
    assert!(
        page.text().contains("not kept here") && !page.text().contains("<form"),
        "{}",
        page.text()
    );
    let sessions = carol.open("/.doorward/sessions").await;
    assert!(!sessions.text().contains("doorward&#x2f;password"));
    let answer = send(&mut carol, &sessions.field("token"), [PASSWORD, NEXT, NEXT]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("not kept here"));
}

#[tokio::test]
async fn a_users_file_that_cannot_be_written_loses_nothing_and_nobody() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let (mut alice, mut other) = (
        logged_in(&proxy, "alice").await,
        logged_in(&proxy, "alice").await,
    );
    let path = proxy.path("users.toml");
    // Whoever runs the tests may be root, to whom no folder is closed. A file whose name leaves no room for that of the new
    // one beside it stands for a folder that is, and for a disk that is full.
    let long = proxy.path(&"u".repeat(240));
    fs::rename(&path, &long).unwrap();
    std::os::unix::fs::symlink(&long, &path).unwrap();
    let answer = change(&mut alice, PASSWORD, NEXT).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(
        answer.text().contains("yours is as it was"),
        "{}",
        answer.text()
    );
    assert!(!answer.header("retry-after").is_empty());
    assert!(answer.set_cookies().is_empty());
    for browser in [&mut alice, &mut other] {
        assert_eq!(browser.fetch("/").await.status, 200);
    }
    assert_eq!(
        proxy.browser().log_in_at("/", "alice", NEXT).await.status,
        401
    );
    fs::rename(&long, &path).unwrap();
    // Nor does one that somebody is writing wrongly.
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\n[[user]]\nname = ")).unwrap();
    assert_eq!(change(&mut alice, PASSWORD, NEXT).await.status, 503);
    assert_eq!(other.fetch("/").await.status, 200);
    fs::write(&path, text).unwrap();
    assert_eq!(change(&mut alice, PASSWORD, NEXT).await.status, 303);
    let left: Vec<_> = fs::read_dir(proxy.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".new"))
        .collect();
    assert_eq!(left, [""; 0]);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn of_two_changes_at_once_one_wins_and_the_other_is_told() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).workers(2).start();
    let (mut one, mut two) = (
        logged_in(&proxy, "alice").await,
        logged_in(&proxy, "alice").await,
    );
    let tokens = (form_token(&mut one).await, form_token(&mut two).await);
    let passwords = ["the first of two ideas", "the second of two ideas"];
    let (first, second) = tokio::join!(
        send(&mut one, &tokens.0, [PASSWORD, passwords[0], passwords[0]]),
        send(&mut two, &tokens.1, [PASSWORD, passwords[1], passwords[1]]),
    );
    let mut good = Vec::new();
    for (answer, password) in [first, second].iter().zip(passwords) {
        match answer.status.as_u16() {
            303 if answer.header("location").contains("done") => good.push(password),
            // Too late to be proven: the session had ended, or the password was no longer the one.
            303 | 403 | 409 => {}
            other => panic!("{other}: {}", answer.text()),
        }
    }
    assert_eq!(good.len(), 1, "one of them");
    let mut again = proxy.browser();
    assert_eq!(again.log_in_at("/", "alice", good[0]).await.status, 303);
}
