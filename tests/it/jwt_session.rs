//! `mode = "jwt"`: a session that is known by a short-lived signed cookie. A node that has the secrets and an empty store
//! shows what is decided without one.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Value, json};

use crate::support::{Browser, PASSWORD, Proxy, ProxyBuilder, Reply, Upstream, proxy, upstream};

const NAME: &str = "__Host-sid-jwt";
const KEYS: &str = "/.well-known/doorward/session-jwks.json";
const LIFETIME: Duration = Duration::from_mins(2);
/// A second less.
const ALMOST: Duration = Duration::from_secs(119);

fn node(app: &Upstream, keys: &str) -> ProxyBuilder {
    proxy()
        .app(&app.url())
        .with("session", &format!("mode = \"jwt\"\n{keys}"))
}

async fn app() -> Upstream {
    upstream(|_| Reply::ok("hello")).await
}

/// A node, and alice who has a ticket there.
async fn with_ticket(app: &Upstream, keys: &str) -> (Proxy, Browser) {
    let proxy = node(app, keys).start();
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    assert!(!alice.jar.contains_key(NAME));
    assert_eq!(alice.fetch("/").await.status, 200);
    assert!(alice.jar.contains_key(NAME));
    (proxy, alice)
}

/// As if the store had lost everything, with the same secrets.
async fn forgetful(proxy: Proxy, app: &Upstream, keys: &str) -> Proxy {
    let (folder, clock) = proxy.stop().await;
    node(app, keys).after(folder, clock).start()
}

fn with(proxy: &Proxy, cookies: &[(&str, &str)]) -> Browser {
    let mut browser = proxy.browser();
    let cookies = cookies.iter();
    browser.jar = cookies
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    browser
}

fn ticket(browser: &Browser) -> String {
    browser.jar[NAME].clone()
}

/// Whether a node takes a ticket alone.
async fn takes(proxy: &Proxy, ticket: &str) -> bool {
    let answer = with(proxy, &[(NAME, ticket)]).fetch("/").await;
    assert!(matches!(answer.status.as_u16(), 200 | 401));
    answer.status == 200
}

fn part(text: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

fn claims(ticket: &str) -> Value {
    part(ticket.split('.').nth(1).unwrap())
}

#[tokio::test]
async fn a_ticket_goes_on_without_the_store_to_its_end_and_no_further() {
    let app = app().await;
    let (proxy, alice) = with_ticket(&app, "").await;
    let proxy = forgetful(proxy, &app, "").await;
    let mut same = with(&proxy, &[]);
    same.jar = alice.jar.clone();
    assert_eq!(same.fetch("/a").await.status, 200);
    let told = app.last();
    assert_eq!(told.one("remote-user"), "alice");
    assert_eq!(told.one("remote-email"), "alice@example.org");
    assert_eq!(told.one("remote-groups"), "staff");
    proxy.clock.advance(ALMOST);
    assert!(takes(&proxy, &ticket(&alice)).await);
    assert_eq!(same.fetch("/").await.status, 200);
    let before = app.requests().len();
    proxy.clock.advance(Duration::from_secs(1));
    assert!(!takes(&proxy, &ticket(&alice)).await);
    let over = same.fetch("/").await;
    assert_eq!(over.status, 401);
    assert_eq!(app.requests().len(), before);
    let cleared = over.set_cookies();
    assert_eq!(cleared.len(), 2, "{cleared:?}");
    let left: Vec<_> = same.jar.keys().collect();
    assert_eq!(left, ["__Host-sid-browser"], "both are good for nothing");
}

#[tokio::test]
async fn a_ticket_is_renewed_without_the_client_noticing() {
    let app = app().await;
    let (proxy, mut alice) = with_ticket(&app, "rotate_interval = \"10m\"").await;
    let first = ticket(&alice);
    proxy.clock.advance(ALMOST);
    let known = alice.fetch("/").await;
    assert!(known.set_cookies().is_empty(), "nothing to renew yet");
    for _ in 0..20 {
        proxy.clock.advance(LIFETIME);
        let answer = alice.request(Method::POST, "/form", &[], "a=b").await;
        assert_eq!(answer.status, 200);
        let set = answer.set_cookies();
        let ticket = set.iter().find(|cookie| cookie.starts_with(NAME)).unwrap();
        assert!(
            ticket.ends_with("; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=120"),
            "{ticket}"
        );
    }
    assert_ne!(ticket(&alice), first);
    // A token that was replaced on the way is replaced for tickets too.
    assert!(!takes(&proxy, &first).await);
    assert!(takes(&proxy, &ticket(&alice)).await);
}

#[tokio::test]
async fn idle_and_absolute_limits_hold_and_no_ticket_outlives_them() {
    let app = app().await;
    let limits = "idle_timeout = \"5m\"\nabsolute_timeout = \"11m\"";
    let (proxy, mut alice) = with_ticket(&app, limits).await;
    let start = proxy.clock.now().as_secs();
    for _ in 0..5 {
        proxy.clock.advance(LIFETIME);
        assert_eq!(alice.fetch("/").await.status, 200);
    }
    let last = claims(&ticket(&alice));
    assert_eq!(last["iat"], start + 600);
    assert_eq!(last["exp"], start + 660, "the absolute end");
    proxy.clock.advance(Duration::from_mins(1));
    assert_eq!(alice.fetch("/").await.status, 401);

    let mut bob = proxy.browser();
    bob.log_in("bob").await;
    assert_eq!(bob.fetch("/").await.status, 200);
    // What a ticket was used for counts as activity.
    proxy.clock.advance(ALMOST);
    assert!(takes(&proxy, &ticket(&bob)).await);
    proxy.clock.advance(Duration::from_secs(299));
    assert_eq!(bob.fetch("/").await.status, 200);
    proxy.clock.advance(Duration::from_mins(5));
    assert_eq!(bob.fetch("/").await.status, 401);
}

#[tokio::test]
async fn a_session_that_is_ended_here_takes_its_tickets_with_it_at_once() {
    let app = app().await;
    let (proxy, mut alice) = with_ticket(&app, "").await;
    let kept = ticket(&alice);
    assert!(takes(&proxy, &kept).await);
    let farewell = alice.log_out().await;
    let cleared = farewell.set_cookies();
    assert!(
        cleared
            .iter()
            .any(|cookie| cookie.starts_with(&format!("{NAME}=; ")))
    );
    assert!(!alice.jar.contains_key(NAME));
    assert!(!takes(&proxy, &kept).await);
    // A node that does not hear of it: until its end, which is the bound.
    let other = forgetful(proxy, &app, "").await;
    assert!(takes(&other, &kept).await);
    other.clock.advance(LIFETIME);
    assert!(!takes(&other, &kept).await);
}

#[tokio::test]
async fn forged_tickets_open_nothing() {
    let app = app().await;
    let assertion = "[identity.assertion]\nall_routes = true";
    let proxy = node(&app, "").with("identity", assertion).start();
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    assert_eq!(alice.fetch("/").await.status, 200);
    let asserted = app.last().one("x-doorward-jwt-assertion").to_owned();
    let good = ticket(&alice);
    let keys = alice.fetch(KEYS).await.text();
    let published: Value = serde_json::from_str(&keys).unwrap();
    let kid = published["keys"][0]["kid"].clone();
    let parts: Vec<&str> = good.split('.').collect();
    let unsigned = |header: &Value| {
        format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            parts[1]
        )
    };
    let by_secret = |secret: &[u8], header: &Value| {
        let text = unsigned(header);
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let tag = hmac::sign(&key, text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let none = json!({ "alg": "none", "kid": kid, "typ": "doorward-session+jwt" });
    let hmac = json!({ "alg": "HS256", "kid": kid, "typ": "doorward-session+jwt" });
    let mut other = claims(&good);
    other["exp"] = json!(4_000_000_000_u64);
    let longer = URL_SAFE_NO_PAD.encode(other.to_string());
    let before = app.requests().len();
    for forged in [
        format!("{}.", unsigned(&none)),
        unsigned(&none),
        by_secret(keys.as_bytes(), &hmac),
        by_secret(
            published["keys"][0]["x"].as_str().unwrap().as_bytes(),
            &hmac,
        ),
        format!("{}.{longer}.{}", parts[0], parts[2]),
        asserted.clone(),
        format!("{good}."),
        format!("\"{good}\""),
        good.replace('.', "%2e"),
        "a.b.c".repeat(500),
    ] {
        assert!(!takes(&proxy, &forged).await, "{forged}");
    }
    assert_eq!(app.requests().len(), before);
    assert!(takes(&proxy, &good).await);
    // Nor does a ticket pass for an assertion: no key of theirs made it.
    let theirs = alice.fetch("/.well-known/doorward/jwks.json").await.text();
    assert!(!theirs.contains(kid.as_str().unwrap()));
    assert_ne!(part(asserted.split('.').next().unwrap())["kid"], kid);
}

#[tokio::test]
async fn of_two_tickets_none_counts_and_one_beside_another_token_counts_for_nothing() {
    let app = app().await;
    let (proxy, alice) = with_ticket(&app, "").await;
    let mut bob = proxy.browser();
    bob.log_in("bob").await;
    assert_eq!(bob.fetch("/").await.status, 200);
    let (a, b) = (ticket(&alice), ticket(&bob));
    for both in [
        format!("{NAME}={a}; {NAME}={a}"),
        format!("{NAME}={a}; x=1; {NAME}={b}"),
    ] {
        let cookies = [("cookie", both.as_str())];
        let answer = proxy
            .browser()
            .request(Method::GET, "/", &cookies, "")
            .await;
        assert_eq!(answer.status, 401, "{both}");
    }
    let (mine, hers) = (bob.token(), alice.token());
    let tokens = format!("{NAME}={a}; __Host-sid={hers}; __Host-sid={mine}");
    let cookies = [("cookie", tokens.as_str())];
    let mut tossed = proxy.browser();
    let answer = tossed.request(Method::GET, "/", &cookies, "").await;
    assert_eq!(answer.status, 401, "beside two tokens");
    let mut mixed = with(&proxy, &[(NAME, &a), ("__Host-sid", bob.token())]);
    assert_eq!(mixed.fetch("/mixed").await.status, 200);
    assert_eq!(app.last().one("remote-user"), "bob");
    assert_eq!(
        claims(&ticket(&mixed))["sid"],
        claims(&b)["sid"],
        "put right"
    );
    for beside in ["", "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let mut mixed = with(&proxy, &[(NAME, &a), ("__Host-sid", beside)]);
        assert_eq!(mixed.fetch("/").await.status, 401, "{beside:?}");
    }
}

#[tokio::test]
async fn no_app_sees_a_ticket_or_sets_one() {
    let app = upstream(|_| {
        Reply::with(
            200,
            "Set-Cookie: __Host-sid-jwt=evil; Secure; Path=/\r\nSet-Cookie: a=b; Secure; HttpOnly; Path=/\r\n",
            "",
        )
    })
    .await;
    let (proxy, mut alice) = with_ticket(&app, "").await;
    alice.jar.insert("theirs".to_owned(), "1".to_owned());
    let answer = alice.fetch("/").await;
    assert_eq!(answer.set_cookies(), ["a=b; Secure; HttpOnly; Path=/"]);
    assert_eq!(app.last().all("cookie"), ["a=b; theirs=1"]);
    let kept = ticket(&alice);
    for name in [NAME, "__host-SID-jwt", " __Host-sid-jwt "] {
        let cookie = format!("{name}={kept}; theirs=2");
        let mut anybody = proxy.browser();
        anybody.jar = alice.jar.clone();
        anybody.jar.remove(NAME);
        anybody.jar.insert("x".to_owned(), format!("1; {cookie}"));
        anybody.fetch("/").await;
        let head = app.last().head;
        assert!(!head.contains(&kept), "{head}");
    }
}

#[tokio::test]
async fn nothing_of_a_person_can_be_read_unless_it_was_asked_for() {
    let app = app().await;
    let (_proxy, alice) = with_ticket(&app, "").await;
    let bare = claims(&ticket(&alice));
    let names: Vec<_> = bare.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names.len(), 6, "{names:?}");
    assert!(!bare.to_string().contains("alice") && !bare.to_string().contains("staff"));
    let keys = "[session.jwt]\nclaims = [\"user\", \"groups\"]\nissuer = \"https://login.example.com\"\nlifetime = \"5m\"\nalgorithm = \"EdDSA\"";
    let (_proxy, alice) = with_ticket(&app, keys).await;
    let readable = claims(&ticket(&alice));
    assert_eq!(readable["iss"], "https://login.example.com");
    assert_eq!(readable["aud"], "doorward:session");
    assert_eq!(readable["sub"], "local:alice");
    assert_eq!(readable["groups"], json!(["staff"]));
    assert!(readable.get("email").is_none() && readable.get("name").is_none());
    assert_eq!(
        readable["exp"].as_u64().unwrap() - readable["iat"].as_u64().unwrap(),
        300
    );
}

#[tokio::test]
async fn a_new_login_is_what_counts_from_then_on() {
    let app = app().await;
    let route = "access = \"user\"\nmax_auth_age = \"10m\"";
    let proxy = node(&app, "").route("/strict", &app.url(), route).start();
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    for _ in 0..6 {
        proxy.clock.advance(LIFETIME);
        assert_eq!(alice.fetch("/").await.status, 200);
    }
    assert_eq!(alice.open("/strict").await.status, 303);
    assert!(alice.jar.contains_key(NAME));
    let answer = alice.log_in_at("/strict", "alice", PASSWORD).await;
    assert_eq!(answer.header("location"), "/strict");
    assert!(
        !alice.jar.contains_key(NAME),
        "it was about the login before"
    );
    assert_eq!(alice.open("/strict").await.status, 200);
}

#[tokio::test]
async fn what_is_kept_in_the_record_is_read_from_there() {
    let app = upstream(|request| {
        if request.line().contains("/shop/set") {
            Reply::with(200, "Doorward-Session-Set: cart=1\r\n", "")
        } else {
            Reply::ok("")
        }
    })
    .await;
    let shop = "access = \"user\"\nsession_data = \"shop\"";
    let proxy = node(&app, "").route("/shop", &app.url(), shop).start();
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    assert_eq!(alice.fetch("/").await.status, 200);
    assert_eq!(alice.fetch("/shop/set").await.status, 200);
    assert_eq!(alice.fetch("/shop").await.status, 200);
    assert_eq!(app.last().one("doorward-session-data"), "cart=1");
    let sid = claims(&ticket(&alice))["sid"].clone();
    assert_eq!(alice.fetch("/.doorward/session").await.json()["sid"], sid);
    // Also where the connection remembers a session that the ticket was enough for.
    let mut raw = proxy.raw().await;
    for (path, expected) in [("/", None), ("/shop", Some("cart=1")), ("/", None)] {
        raw.send(format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nCookie: {NAME}={}; __Host-sid={}\r\n\r\n",
            alice.authority(),
            ticket(&alice),
            alice.token()
        ))
        .await;
        let (head, _) = raw.response().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        let told = app.last();
        let data = told.all("doorward-session-data");
        assert_eq!(data.first().copied(), expected, "{path}");
    }
    let mut only = with(&proxy, &[(NAME, &ticket(&alice))]);
    assert_eq!(only.fetch("/shop").await.status, 401);
    assert_eq!(only.fetch("/.doorward/session").await.status, 401);
}

#[tokio::test]
async fn what_caches_may_share_and_who_is_not_logged_in_bring_no_ticket() {
    let app = app().await;
    let proxy = node(&app, "")
        .route("/public", &app.url(), "access = \"public\"")
        .start();
    assert!(
        proxy
            .browser()
            .fetch("/public")
            .await
            .set_cookies()
            .is_empty()
    );
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    assert!(alice.fetch("/public").await.set_cookies().is_empty());
    assert_eq!(app.last().one("remote-user"), "alice");
}

#[tokio::test]
async fn secrets_rotate_without_a_gap() {
    let app = app().await;
    let (proxy, alice) = with_ticket(&app, "").await;
    let (folder, clock) = proxy.stop().await;
    let key = folder.path().join("next.key");
    std::fs::write(&key, "6f".repeat(32)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let turned = |secrets: &str| {
        node(&app, "")
            .after(folder.clone(), clock.clone())
            .secrets(secrets)
            .start()
    };
    let (next, old) = ("{ file = \"next.key\" }", "{ file = \"session.key\" }");
    let both = turned(&format!("{next}, {old}"));
    assert!(takes(&both, &ticket(&alice)).await);
    let keys = both.browser().fetch(KEYS).await.json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    drop(both);
    assert!(!takes(&turned(next), &ticket(&alice)).await);
}

#[tokio::test]
async fn the_ordinary_mode_knows_no_tickets() {
    let app = app().await;
    let (proxy, alice) = with_ticket(&app, "").await;
    let (folder, clock) = proxy.stop().await;
    let plain = crate::support::proxy()
        .app(&app.url())
        .after(folder, clock)
        .start();
    let answer = with(&plain, &[(NAME, &ticket(&alice))]).fetch("/").await;
    assert_eq!(answer.status, 401);
    let mut bob = plain.browser();
    bob.log_in("bob").await;
    assert!(bob.fetch("/").await.set_cookies().is_empty());
    assert_eq!(bob.fetch(KEYS).await.status, 404);
}

#[cfg(feature = "redis")]
mod shared {
    use doorward::clock::Clock;

    use super::*;
    use crate::support::{RedisProcess, START, eventually};

    const LONG: &str = "cache_ttl = \"1m\"";

    async fn store() -> (RedisProcess, String) {
        let server = RedisProcess::own(&[]).await;
        let url = format!("redis://127.0.0.1:{}", server.port);
        let keys = format!("backend = \"redis\"\nurl = \"{url}\"");
        (server, keys)
    }

    #[tokio::test]
    async fn an_end_elsewhere_is_heard_and_takes_tickets_with_it_that_never_came_here() {
        let (_server, store) = store().await;
        let (app, clock) = (app().await, Clock::fixed(START));
        let start = || node(&app, LONG).clock(&clock).store(store.clone()).start();
        let (here, there) = (start(), start());
        let mut people = Vec::new();
        for user in ["alice", "bob"] {
            let mut browser = there.browser();
            browser.log_in(user).await;
            assert_eq!(browser.fetch("/").await.status, 200);
            people.push((ticket(&browser), browser));
        }
        assert!(takes(&here, &people[1].0).await, "a ticket is good at both");
        for (_, browser) in &mut people {
            browser.log_out().await;
        }
        // News come in their order, so whoever has heard of this end has heard of the one before.
        eventually("the second end is heard", async || {
            !takes(&here, &people[1].0).await
        })
        .await;
        assert!(!takes(&here, &people[0].0).await);
    }

    #[tokio::test]
    async fn a_ticket_counts_from_when_the_store_was_asked_not_from_when_it_was_made() {
        let (_server, store) = store().await;
        let (app, clock) = (app().await, Clock::fixed(START));
        let node = node(&app, LONG).clock(&clock).store(store).start();
        let mut alice = node.browser();
        alice.log_in("alice").await;
        assert_eq!(alice.fetch("/").await.status, 200);
        let until = claims(&ticket(&alice))["exp"].clone();
        assert_eq!(until, START.as_secs() + LIFETIME.as_secs());
        clock.advance(Duration::from_secs(30));
        alice.jar.remove(NAME);
        assert_eq!(alice.fetch("/").await.status, 200);
        let claims = claims(&ticket(&alice));
        assert_eq!(claims["iat"], START.as_secs() + 30, "it is a new one");
        assert_eq!(
            claims["exp"], until,
            "others may have ended the session since"
        );
    }
}
