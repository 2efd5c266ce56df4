//! Guessing passwords through the real form: how many guesses there are, for whom, and for how long.

use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;

use crate::support::{Answer, Browser, PASSWORD, Proxy, ProxyBuilder, Reply, proxy, upstream};

const THREE: &str = "max_attempts = 3\nattempt_window = \"15m\"";
const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_user_has_so_many_guesses_and_no_more_until_the_window_has_passed() {
    let proxy = start(THREE);
    for number in 0..3 {
        let answer = guess(&proxy, number, "alice", "wrong").await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("retry-after"), "");
        proxy.clock.advance(MINUTE);
    }
    // From anywhere, with whatever password: the right one is not even looked at.
    for number in 3..6 {
        let answer = guess(&proxy, number, "alice", PASSWORD).await;
        assert_eq!(answer.status, 429);
        assert_eq!(answer.header("retry-after"), "720");
        assert!(answer.text().contains("Wait 12 minutes"));
        assert!(!answer.text().contains(PASSWORD));
        assert!(no_session(&answer));
    }
    let events = proxy.audited_times("login_throttled", 3).await;
    assert_eq!(events[2]["user"], "alice");
    assert_eq!(events[2]["address"], "192.0.2.5");
    assert_eq!(guess(&proxy, 9, "bob", PASSWORD).await.status, 303);

    proxy.clock.advance(Duration::from_millis(12 * 60_000 - 1));
    assert_eq!(guess(&proxy, 6, "alice", PASSWORD).await.status, 429);
    proxy.clock.advance(Duration::from_millis(1));
    assert_eq!(guess(&proxy, 7, "alice", "wrong").await.status, 401);
    assert_eq!(guess(&proxy, 8, "alice", PASSWORD).await.status, 429);
    proxy.clock.advance(MINUTE);
    assert_eq!(guess(&proxy, 8, "alice", PASSWORD).await.status, 303);
}

#[tokio::test]
async fn an_address_has_so_many_guesses_whomever_they_are_for() {
    let proxy = start(THREE);
    for user in ["alice", "bob", "nobody"] {
        assert_eq!(guess(&proxy, 1, user, "wrong").await.status, 401);
    }
    for user in ["alice", "bob", "nobody", "somebody-else"] {
        let answer = guess(&proxy, 1, user, PASSWORD).await;
        assert_eq!(answer.status, 429, "{user}");
        assert_eq!(answer.header("retry-after"), "900");
    }
    assert_eq!(guess(&proxy, 2, "alice", PASSWORD).await.status, 303);
    proxy.clock.advance(15 * MINUTE);
    assert_eq!(guess(&proxy, 1, "alice", PASSWORD).await.status, 303);
}

#[tokio::test]
async fn a_forwarded_address_counts_only_where_the_peer_is_trusted() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).with("provider", THREE).start();
    for number in 0..3 {
        let answer = guess(&proxy, number, "nobody", "wrong").await;
        assert_eq!(answer.status, 401);
    }
    let answer = guess(&proxy, 4, "alice", PASSWORD).await;
    assert_eq!(answer.status, 429, "they all came from one address");
    let event = proxy.audited("login_throttled").await;
    assert_eq!(event["address"], "127.0.0.1");
}

#[tokio::test]
async fn a_strangers_guesses_do_not_lock_out_a_browser_that_is_known() {
    let proxy = start(THREE);
    let mut owner = at(&proxy, 1);
    owner.log_in("alice").await;
    owner.log_out().await;
    for number in 10..16 {
        guess(&proxy, number, "alice", "wrong").await;
    }
    assert_eq!(guess(&proxy, 17, "alice", PASSWORD).await.status, 429);
    // Logged out long since, the browser is still known.
    let answer = owner.log_in_at("/", "alice", PASSWORD).await;
    assert_eq!(answer.status, 303);
    // It is known as alice's alone, and its cookie is worth nothing to anybody else.
    for number in 20..23 {
        guess(&proxy, number, "bob", "wrong").await;
    }
    owner.log_out().await;
    let answer = owner.log_in_at("/", "bob", PASSWORD).await;
    assert_eq!(answer.status, 429);
    let mut forger = at(&proxy, 30);
    forger
        .jar
        .insert("__Host-sid-browser".to_owned(), "A".repeat(80));
    let answer = forger.log_in_at("/", "alice", PASSWORD).await;
    assert_eq!(answer.status, 429);
    // And even a known browser has no more guesses than others.
    for expected in [401, 401, 401, 429] {
        let answer = owner.log_in_at("/", "alice", "wrong").await;
        assert_eq!(answer.status, expected);
    }
}

#[tokio::test]
async fn right_passwords_use_nothing_up() {
    let proxy = start(THREE);
    for expected in [401, 303, 303, 303, 303, 303, 401, 303, 401, 429] {
        let password = if expected == 303 { PASSWORD } else { "wrong" };
        let answer = guess(&proxy, 1, "alice", password).await;
        assert_eq!(answer.status, expected);
    }
}

#[tokio::test]
async fn guesses_that_are_sent_at_once_are_no_more_than_those_sent_in_turn() {
    let proxy = start(THREE);
    let mut forms = Vec::new();
    for number in 0..30 {
        let mut browser = at(&proxy, number);
        let state = browser.follow("/").await.field("state");
        forms.push((browser, state));
    }
    let mut guesses = JoinSet::new();
    for (mut browser, state) in forms {
        guesses.spawn(async move {
            let form = [
                ("state", state.as_str()),
                ("user", "alice"),
                ("password", "wrong"),
            ];
            browser.submit("/.doorward/login", &form).await.status
        });
    }
    let answers = guesses.join_all().await;
    let count = |status: StatusCode| answers.iter().filter(|seen| **seen == status).count();
    assert_eq!(count(StatusCode::UNAUTHORIZED), 3);
    assert_eq!(count(StatusCode::TOO_MANY_REQUESTS), 27);
}

/// A proxy behind another one that is trusted, so that guesses come from many addresses.
fn start(provider: &'static str) -> Proxy {
    let builder: ProxyBuilder = proxy()
        .route("/", "http://127.0.0.1:9", "access = \"user\"")
        .with("server", "trusted_proxies = [\"127.0.0.1\"]")
        .with("provider", provider);
    builder.start()
}

/// A browser of its own at 192.0.2.`number`.
fn at(proxy: &Proxy, number: u8) -> Browser {
    let mut browser = proxy.browser();
    let address = format!("192.0.2.{number}");
    browser.fields.push(("x-forwarded-for".to_owned(), address));
    browser
}

async fn guess(proxy: &Proxy, number: u8, user: &str, password: &str) -> Answer {
    at(proxy, number).log_in_at("/", user, password).await
}

fn no_session(answer: &Answer) -> bool {
    let cookies = answer.set_cookies();
    !cookies
        .iter()
        .any(|cookie| cookie.starts_with("__Host-sid="))
}
