//! The life of a session as a browser and an app see it: its cookie, its time, its changing token, what is kept of it.

use std::collections::BTreeSet;
use std::time::Duration;

use doorward::secret::random;
use doorward::session::Token;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::support::{Answer, Browser, Kept, PASSWORD, Proxy, Reply, Upstream, proxy, upstream};

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

// What is kept (R1)

#[tokio::test]
async fn the_store_and_the_logs_tell_neither_a_token_nor_who_is_logged_in() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .embedded()
        .with("server", "trusted_proxies = [\"127.0.0.1\"]")
        .with("session", "idle_timeout = \"3h\"")
        .with(
            "log",
            "access = \"access.log\"\naccess_format = \"json\"\nlevel = \"trace\"",
        )
        .start();
    let mut browser = proxy.browser();
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.77"),
        ("user-agent", "Peculiar/7.3"),
    ] {
        browser.fields.push((name.to_owned(), value.to_owned()));
    }
    browser.log_in("alice").await;
    let first = browser.token().to_owned();
    proxy.clock.advance(HOUR);
    offered(&mut browser.clone(), &first).await;
    browser.open("/").await;
    let second = browser.token().to_owned();
    assert_ne!(first, second);
    assert_eq!(browser.fetch("/").await.status, 200);
    let (folder, _) = proxy.stop().await;

    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let store = read("data/sessions.db");
    for token in [&first, &second] {
        let token = Token::parse(token.as_bytes()).unwrap();
        let hash = token.hash();
        assert!(holds(&store, hash.as_bytes()), "it is known by its hash");
    }
    for secret in secrets(&[&first, &second]) {
        for file in ["data/sessions.db", "audit.log", "access.log"] {
            assert!(!holds(&read(file), &secret), "{file} holds {secret:?}");
        }
    }
    for said in [
        b"alice".as_slice(),
        b"alice@example.org",
        b"staff",
        b"\xc3\x9cnder",
        b"203.0.113.77",
        b"\xcb\x00\x71\x4d",
        b"Peculiar/7.3",
        b"local",
    ] {
        assert!(!holds(&store, said), "it holds {said:?}");
    }
    assert!(holds(&read("access.log"), b"alice"));
    assert!(holds(&read("audit.log"), b"203.0.113.77"));
}

// The cookie (R2)

#[tokio::test]
async fn every_cookie_that_is_ever_set_has_exactly_the_safe_attributes() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .with("session", "idle_timeout = \"3h\"")
        .start();
    let mut browser = proxy.browser();
    let mut seen = BTreeSet::new();
    let mut note = |answer: &Answer, about: &str| {
        let cookies = answer.set_cookies();
        assert!(!cookies.is_empty(), "{about} sets none");
        for cookie in cookies {
            seen.insert((about.to_owned(), host_cookie(cookie)));
        }
    };
    note(&browser.follow("/").await, "form");
    note(&browser.log_in_at("/", "alice", PASSWORD).await, "login");
    let token = browser.token().to_owned();
    proxy.clock.advance(HOUR);
    note(&offered(&mut browser.clone(), &token).await, "renewal");
    note(&browser.log_out().await, "logout");
    let mut kept = Kept::http1(proxy.addr, "localhost").await;
    let unknown = format!("__Host-sid={token}");
    note(&kept.get("/", &[&unknown]).await, "ended");
    note(&kept.get("/", &["__Host-sid=junk"]).await, "malformed");
    let twice = format!("{unknown}; __Host-sid=x");
    note(&kept.get("/", &[&twice]).await, "tossed");
    let mut kept = Kept::http2(proxy.addr, "localhost").await;
    note(&kept.get("/", &[&unknown]).await, "ended over h2");

    let said = |about: &str, name: &str, lifetime| {
        let entry = (about.to_owned(), (name.to_owned(), lifetime));
        assert!(seen.contains(&entry), "{entry:?} is not in {seen:#?}");
    };
    said("form", "__Host-sid-browser", Lifetime::Seconds(24 * 3600));
    said("login", "__Host-sid", Lifetime::Session);
    said(
        "login",
        "__Host-sid-browser",
        Lifetime::Seconds(180 * 24 * 3600),
    );
    said("renewal", "__Host-sid", Lifetime::Session);
    for about in ["logout", "ended", "malformed", "tossed", "ended over h2"] {
        said(about, "__Host-sid", Lifetime::Over);
    }
}

#[tokio::test]
async fn two_session_cookies_are_none() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let (alice, bob) = (
        logged_in(&proxy, "alice").await,
        logged_in(&proxy, "bob").await,
    );
    let tossed = b64(&random());
    let shapes = |one: &str, other: &str| {
        vec![
            vec![format!("__Host-sid={one}; __Host-sid={other}")],
            vec![format!("__Host-sid={one};__Host-sid={other}; a=1")],
            vec![format!("__Host-sid={one}"), format!("__Host-sid={other}")],
            vec![
                "a=1".to_owned(),
                format!("__Host-sid={one}"),
                "b=2".to_owned(),
                format!("c=3; __Host-sid={other}"),
            ],
        ]
    };
    let mut count = 0;
    for http2 in [false, true] {
        for (one, other) in [
            (alice.token(), tossed.as_str()),
            (tossed.as_str(), alice.token()),
            (alice.token(), bob.token()),
            (alice.token(), alice.token()),
            ("", alice.token()),
        ] {
            for shape in shapes(one, other) {
                let mut kept = Kept::open(proxy.addr, http2).await;
                let fields: Vec<&str> = shape.iter().map(String::as_str).collect();
                let answer = kept.get("/", &fields).await;
                if !http2 && fields.len() > 1 {
                    // RFC 6265 section 5.4: a browser sends one field.
                    assert_eq!(answer.status, 400, "{shape:?}");
                    continue;
                }
                assert_eq!(answer.status, 401, "{shape:?}");
                assert_eq!(
                    answer.set_cookies(),
                    ["__Host-sid=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0"]
                );
                count += 1;
            }
        }
    }
    let events = proxy.audited_times("cookie_tossing", count).await;
    assert!(events.iter().all(|event| event["address"] == "127.0.0.1"));
    assert!(app.requests().is_empty(), "nobody got through");
    for mut browser in [alice, bob] {
        assert_eq!(browser.fetch("/").await.status, 200, "its session lives");
    }
}

#[tokio::test]
async fn a_cookie_that_is_not_spelt_as_ours_does_not_count() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let browser = logged_in(&proxy, "alice").await;
    let token = browser.token();
    let spellings = [
        "__Host-sid=\"TOKEN\"",
        "__Host-sid=\"TOKEN",
        "__host-sid=TOKEN",
        "__HOST-SID=TOKEN",
        "__Host-SID=TOKEN",
        "__Host-sid =TOKEN",
        "__Host-sid= TOKEN",
        "__Host-sid=\tTOKEN",
        "__Host-sid=TOKEN ; a=1",
        "__Host-sid=TOKEN\t; a=1",
        "a=1;  __Host-sid=TOKEN",
        "a=1;\t__Host-sid=TOKEN",
        "=__Host-sid=TOKEN",
        "a=1; =__Host-sid=TOKEN",
        "__Host-sid==TOKEN",
        "__Host-sid=TOKEN=",
        "__Host-sid=TOKENA",
        "__Host-sid=%TOKEN",
        "__Host-sid:TOKEN",
        "__Host-sid",
        "TOKEN",
        "sid=TOKEN",
        "Host-sid=TOKEN",
        "__Secure-sid=TOKEN",
        "__Host-sid-browser=TOKEN",
        "$Version=1; $__Host-sid=TOKEN",
        "a=1, __Host-sid=TOKEN",
        "a=\"1; __Host-sid=TOKEN\"; b=2\"",
    ];
    for http2 in [false, true] {
        let mut kept = Kept::open(proxy.addr, http2).await;
        for spelling in spellings {
            let cookie = spelling.replace("TOKEN", token);
            let answer = kept.get("/", &[&cookie]).await;
            assert_eq!(answer.status, 401, "{spelling}");
        }
        let right = format!("a=1; __Host-sid={token}; b=2");
        assert_eq!(kept.get("/", &[&right]).await.status, 200);
    }
    for request in app.requests() {
        assert_eq!(request.one("cookie"), "a=1; b=2");
    }
}

#[tokio::test]
async fn with_a_domain_the_cookie_that_verifies_counts() {
    let app = app().await;
    let route = format!(
        "[[route]]\nhost = \"app.example.test\"\nupstream = \"{}\"\naccess = \"user\"",
        app.url()
    );
    let proxy = proxy()
        .with("session", "domain = \"example.test\"")
        .with("log", &route)
        .start();
    let mut kept = Kept::http1(proxy.addr, "app.example.test").await;
    let form = kept.get("/.doorward/login", &[]).await;
    let browser = form.set_cookies()[0].split(';').next().unwrap().to_owned();
    let fields = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("state", form.field("state").as_str()),
            ("user", "alice"),
            ("password", PASSWORD),
        ])
        .finish();
    let answer = kept.post("/.doorward/login", &[&browser], &fields).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    let cookie = answer.set_cookies()[0].to_owned();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert!(pair.starts_with("__Secure-sid="), "{cookie}");
    assert_eq!(
        attributes,
        "HttpOnly; SameSite=Lax; Secure; Path=/; Domain=example.test"
    );
    let token = pair.strip_prefix("__Secure-sid=").unwrap();

    let mut kept = Kept::http2(proxy.addr, "app.example.test").await;
    let junk = b64(&random());
    for fields in [
        vec![format!("__Secure-sid={token}")],
        vec![format!("__Secure-sid={junk}; __Secure-sid={token}")],
        vec![format!("__Secure-sid={token}; __Secure-sid={junk}")],
        vec!["__Secure-sid=x".to_owned(), format!("__Secure-sid={token}")],
    ] {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let answer = kept.get("/", &fields).await;
        assert_eq!(answer.status, 200, "{fields:?}");
        assert_eq!(app.last().one("remote-user"), "alice");
        assert!(app.last().all("cookie").is_empty());
    }
    let before = app.requests().len();
    for field in [
        format!("__Secure-sid={junk}; __Secure-sid=x"),
        format!("__Host-sid={token}"),
        format!("__secure-sid={token}"),
    ] {
        assert_eq!(kept.get("/", &[&field]).await.status, 401, "{field}");
    }
    assert_eq!(app.requests().len(), before, "nobody got through");
    let event = proxy.audited("cookie_tossing").await;
    assert_eq!(event["address"], "127.0.0.1");
}

// Time (R3)

#[tokio::test]
async fn a_session_lives_to_the_last_millisecond_of_its_idle_timeout() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = logged_in(&proxy, "alice").await;
    // Twice, so that it is activity that counts and not the login.
    for _ in 0..2 {
        proxy.clock.advance(just_before(30 * MINUTE));
        assert_eq!(browser.fetch("/").await.status, 200);
    }
    proxy.clock.advance(30 * MINUTE);
    let token = browser.token().to_owned();
    assert_eq!(browser.fetch("/").await.status, 401);
    assert_eq!(
        proxy.audited("session_ended").await["reason"],
        "idle_timeout"
    );
    browser.jar.insert("__Host-sid".to_owned(), token);
    assert_eq!(browser.fetch("/").await.status, 401, "it does not return");
    assert_eq!(app.requests().len(), 2);
    assert_eq!(proxy.sessions().stored().await.unwrap(), 0);
}

#[tokio::test]
async fn no_activity_extends_a_session_beyond_its_absolute_timeout() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .with(
            "session",
            "idle_timeout = \"30m\"\nabsolute_timeout = \"2h\"\nrotate_interval = \"25m\"",
        )
        .start();
    let mut browser = logged_in(&proxy, "alice").await;
    let first = browser.token().to_owned();
    for _ in 0..5 {
        proxy.clock.advance(20 * MINUTE);
        assert_eq!(browser.fetch("/").await.status, 200);
    }
    proxy.clock.advance(just_before(20 * MINUTE));
    assert_eq!(browser.fetch("/").await.status, 200);
    assert_ne!(browser.token(), first, "the token has changed on the way");
    proxy.clock.advance(MILLISECOND);
    assert_eq!(browser.fetch("/").await.status, 401);
    let event = proxy.audited("session_ended").await;
    assert_eq!(event["reason"], "absolute_timeout");
}

#[tokio::test]
async fn a_route_may_be_stricter_about_idle_sessions_than_the_rest() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .route(
            "/bank",
            &app.url(),
            "access = \"user\"\nidle_timeout = \"5m\"",
        )
        .start();
    for http2 in [false, true] {
        let browser = logged_in(&proxy, "alice").await;
        let cookie = format!("__Host-sid={}", browser.token());
        // One connection, so that what it remembers is judged by the route too.
        let mut kept = Kept::open(proxy.addr, http2).await;
        proxy.clock.advance(just_before(5 * MINUTE));
        assert_eq!(kept.get("/bank", &[&cookie]).await.status, 200);
        proxy.clock.advance(5 * MINUTE);
        let answer = kept.get("/bank/account", &[&cookie]).await;
        assert_eq!(answer.status, 401);
        assert!(
            answer.set_cookies().is_empty(),
            "the session lives on for other routes"
        );
        assert_eq!(kept.get("/", &[&cookie]).await.status, 200);
        proxy.clock.advance(30 * MINUTE);
        assert_eq!(kept.get("/", &[&cookie]).await.status, 401);
    }
}

#[tokio::test]
async fn who_was_idle_for_too_long_for_a_route_logs_in_again_and_gets_there() {
    let app = app().await;
    let bank = "access = \"user\"\nidle_timeout = \"5m\"";
    let proxy = proxy()
        .app(&app.url())
        .route("/bank", &app.url(), bank)
        .start();
    let mut browser = logged_in(&proxy, "alice").await;
    let first = browser.token().to_owned();
    proxy.clock.advance(5 * MINUTE);
    let form = browser.follow("/bank/account").await;
    assert_eq!(form.status, 200);
    assert!(form.text().contains("name=\"password\""), "{}", form.text());
    let answer = browser.log_in_at("/bank/account", "alice", PASSWORD).await;
    assert_eq!(answer.header("location"), "/bank/account");
    assert_eq!(browser.open("/bank/account").await.status, 200);
    assert_ne!(browser.token(), first);
}

#[tokio::test]
async fn a_route_that_polls_keeps_no_session_alive() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .route("/poll", &app.url(), "access = \"user\"\nactivity = false")
        .start();
    let mut browser = logged_in(&proxy, "alice").await;
    for _ in 0..29 {
        proxy.clock.advance(MINUTE);
        assert_eq!(browser.fetch("/poll").await.status, 200);
    }
    proxy.clock.advance(MINUTE);
    assert_eq!(browser.fetch("/poll").await.status, 401);
}

#[tokio::test]
async fn asking_how_long_a_session_lasts_does_not_lengthen_it() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = logged_in(&proxy, "alice").await;
    for (idle, absolute) in [(1800, 43_200), (1740, 43_140), (1680, 43_080)] {
        let answer = browser.fetch("/.doorward/session").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("cache-control"), "no-store");
        let told = answer.json();
        assert_eq!(told["authenticated"], true);
        assert_eq!(
            (&told["user"], &told["provider"]),
            (&"alice".into(), &"local".into())
        );
        assert_eq!(told["amr"], serde_json::json!(["pwd"]));
        assert_eq!(told["auth_time"], 1_800_000_000);
        assert_eq!(told["idle_seconds_left"], idle);
        assert_eq!(told["absolute_seconds_left"], absolute);
        proxy.clock.advance(MINUTE);
    }
    // Nor does looking at any other page of ours.
    browser.open("/.doorward/logout").await;
    browser.open("/.doorward/login").await;
    let told = browser.fetch("/.doorward/session").await.json();
    assert_eq!(told["idle_seconds_left"], 1620);
    proxy.clock.advance(27 * MINUTE);
    let answer = browser.fetch("/.doorward/session").await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()["authenticated"], false);
    assert!(app.requests().is_empty(), "the app was never asked");
}

#[tokio::test]
async fn activity_survives_a_restart_and_so_does_the_lack_of_it() {
    let app = app().await;
    let earlier = proxy().app(&app.url()).embedded().start();
    let mut active = logged_in(&earlier, "alice").await;
    let mut passive = logged_in(&earlier, "bob").await;
    earlier.clock.advance(20 * MINUTE);
    assert_eq!(active.fetch("/").await.status, 200);
    let (folder, clock) = earlier.stop().await;
    let later = proxy()
        .app(&app.url())
        .embedded()
        .after(folder, clock)
        .start();
    later.clock.advance(20 * MINUTE);
    (active.addr, passive.addr) = (later.addr, later.addr);
    assert_eq!(active.fetch("/").await.status, 200);
    assert_eq!(passive.fetch("/").await.status, 401);
}

// The token changes (R4)

#[tokio::test]
async fn a_token_is_replaced_and_both_are_good_until_the_new_one_was_seen_long_enough() {
    let app = app().await;
    let proxy = rotating(&app).start();
    let browser = logged_in(&proxy, "alice").await;
    let old = browser.token().to_owned();
    proxy.clock.advance(just_before(HOUR));
    let mut early = browser.clone();
    for _ in 0..3 {
        assert!(early.fetch("/").await.set_cookies().is_empty(), "not yet");
    }
    proxy.clock.advance(MILLISECOND);
    let new = token_of(&offered(&mut browser.clone(), &old).await);
    assert_ne!(new, old);
    assert_eq!(new.len(), 43);
    // Nobody has shown the new one: whoever has the old one is told again, and it is the same.
    let mut kept = Kept::http1(proxy.addr, "localhost").await;
    let (old_cookie, new_cookie) = (format!("__Host-sid={old}"), format!("__Host-sid={new}"));
    for _ in 0..4 {
        proxy.clock.advance(10 * MINUTE);
        let answer = kept.get("/", &[&old_cookie]).await;
        assert_eq!(
            (answer.status.as_u16(), token_of(&answer)),
            (200, new.clone())
        );
    }
    // Now it is seen.
    let mut other = Kept::http2(proxy.addr, "localhost").await;
    let answer = other.get("/", &[&new_cookie]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.set_cookies().is_empty());
    wait_until_seen(&mut kept, &old_cookie).await;
    proxy.clock.advance(just_before(Duration::from_secs(10)));
    // The old one last, so that the connection remembers it.
    for cookie in [&new_cookie, &old_cookie] {
        assert_eq!(kept.get("/", &[cookie]).await.status, 200);
    }
    let before = app.requests().len();
    proxy.clock.advance(MILLISECOND);
    let answer = kept.get("/", &[&old_cookie]).await;
    assert_eq!(answer.status, 401);
    let cleared = answer.set_cookies();
    assert!(cleared[0].starts_with("__Host-sid=;"), "{cleared:?}");
    assert_eq!(
        proxy.audited("session_ended").await["reason"],
        "token_reused"
    );
    assert_eq!(proxy.audited("token_reused").await["address"], "127.0.0.1");
    for kept in [&mut kept, &mut other] {
        let answer = kept.get("/", &[&new_cookie]).await;
        assert_eq!(answer.status, 401, "neither is worth anything now");
        assert_eq!(token_of(&answer), "");
    }
    assert_eq!(app.requests().len(), before, "nobody got through");
    assert_eq!(proxy.sessions().stored().await.unwrap(), 0);
}

#[tokio::test]
async fn nobody_is_lost_where_many_requests_meet_a_change_of_token() {
    let app = app().await;
    let proxy = rotating(&app).workers(2).start();
    let mut browser = logged_in(&proxy, "alice").await;
    for _ in 0..3 {
        proxy.clock.advance(HOUR);
        let before = browser.token().to_owned();
        let mut requests = JoinSet::new();
        for number in 0..50 {
            let mut browser = browser.clone();
            requests.spawn(async move {
                let answer = browser.fetch(&format!("/{number}")).await;
                (answer.status.as_u16(), token_of(&answer))
            });
        }
        let answers = requests.join_all().await;
        assert!(answers.iter().all(|(status, _)| *status == 200));
        let mut offers: BTreeSet<String> = answers.into_iter().map(|(_, token)| token).collect();
        offers.insert(token_of(&offered(&mut browser, &before).await));
        offers.remove("");
        assert_eq!(offers.len(), 1, "all were offered the same");
        assert_eq!(browser.fetch("/").await.status, 200);
    }
    proxy.audited_times("session_rotated", 3).await;
    assert_eq!(proxy.sessions().stored().await.unwrap(), 1);
}

#[tokio::test]
async fn a_lost_response_logs_nobody_out_even_across_a_restart() {
    let app = app().await;
    let earlier = rotating(&app).embedded().start();
    let mut browser = logged_in(&earlier, "alice").await;
    let old = browser.token().to_owned();
    earlier.clock.advance(HOUR);
    // Every response that offers the new one is lost.
    let offer = token_of(&offered(&mut browser.clone(), &old).await);
    let (folder, clock) = earlier.stop().await;
    let later = rotating(&app).embedded().after(folder, clock).start();
    later.clock.advance(HOUR);
    browser.addr = later.addr;
    let answer = browser.fetch("/").await;
    assert_eq!(answer.status, 200);
    assert_eq!(token_of(&answer), offer, "the same is offered by the next");
    assert_eq!(browser.token(), offer);
    assert_eq!(browser.fetch("/").await.status, 200);
}

#[tokio::test]
async fn a_token_that_was_planted_before_a_login_is_worth_nothing_after_it() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let attacker = logged_in(&proxy, "bob").await;
    let made_up = b64(&random());
    for planted in [made_up.as_str(), "AAAA", attacker.token()] {
        let mut victim = proxy.browser();
        let state = victim.follow("/").await.field("state");
        victim
            .jar
            .insert("__Host-sid".to_owned(), planted.to_owned());
        let form = [
            ("state", state.as_str()),
            ("user", "alice"),
            ("password", PASSWORD),
        ];
        let answer = victim.submit("/.doorward/login", &form).await;
        assert_eq!(answer.status, 303);
        assert_eq!(victim.token().len(), 43);
        assert_ne!(victim.token(), planted);
        let mut planter = proxy.browser();
        planter
            .jar
            .insert("__Host-sid".to_owned(), planted.to_owned());
        assert_eq!(planter.fetch("/").await.status, 401, "{planted}");
        assert_eq!(victim.fetch("/").await.status, 200);
    }
    let users: BTreeSet<String> = app
        .requests()
        .iter()
        .map(|request| request.one("remote-user").to_owned())
        .collect();
    assert_eq!(users, BTreeSet::from(["alice".to_owned()]));
}

// Restarts (R6)

#[tokio::test]
async fn a_restart_keeps_logins_and_logouts() {
    let app = app().await;
    let earlier = proxy().app(&app.url()).embedded().start();
    let mut stays = logged_in(&earlier, "alice").await;
    let mut leaves = logged_in(&earlier, "alice").await;
    let left = leaves.clone();
    assert_eq!(leaves.log_out().await.status, 200);
    let (folder, clock) = earlier.stop().await;
    let later = proxy()
        .app(&app.url())
        .embedded()
        .after(folder, clock)
        .start();
    let mut left = left;
    (stays.addr, left.addr) = (later.addr, later.addr);
    assert_eq!(stays.fetch("/").await.status, 200);
    assert_eq!(app.only().one("remote-user"), "alice");
    assert_eq!(left.fetch("/").await.status, 401);
    assert_eq!(later.sessions().stored().await.unwrap(), 1);
}

// Strangers (R8)

#[tokio::test]
async fn strangers_leave_no_record() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .route("/public", &app.url(), "access = \"public\"")
        .start();
    for path in [
        "/",
        "/public",
        "/.doorward/login",
        "/.doorward/logout",
        "/.doorward/session",
        "/.doorward/none",
    ] {
        let mut browser = proxy.browser();
        browser.follow(path).await;
        browser.fetch(path).await;
        browser.submit(path, &[("a", "b")]).await;
        assert_eq!(browser.token(), "", "{path}");
    }
    assert_eq!(proxy.sessions().stored().await.unwrap(), 0);
    assert_eq!(store_loads(&proxy).await, 0);
}

#[tokio::test]
async fn made_up_cookies_cost_little_and_push_nobody_out() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut alice = logged_in(&proxy, "alice").await;
    assert_eq!(alice.fetch("/").await.status, 200);
    let before = store_loads(&proxy).await;
    let mut kept = Kept::http2(proxy.addr, "localhost").await;

    for malformed in [
        "",
        "x",
        "AAAA",
        &"A".repeat(42),
        &"A".repeat(44),
        &"B".repeat(43),
        &"*".repeat(43),
    ] {
        let answer = kept.get("/", &[&format!("__Host-sid={malformed}")]).await;
        assert_eq!(answer.status, 401, "{malformed}");
    }
    assert_eq!(store_loads(&proxy).await, before, "the store was not asked");

    let made_up: Vec<String> = (0..1000)
        .map(|_| format!("__Host-sid={}", b64(&random())))
        .collect();
    for cookie in &made_up {
        assert_eq!(kept.get("/", &[cookie]).await.status, 401);
    }
    assert_eq!(store_loads(&proxy).await, before + 1000);
    for cookie in made_up.iter().rev().take(300) {
        assert_eq!(kept.get("/", &[cookie]).await.status, 401);
    }
    assert_eq!(alice.fetch("/").await.status, 200);
    assert_eq!(
        store_loads(&proxy).await,
        before + 1000,
        "neither they nor the session were loaded again"
    );
    assert_eq!(proxy.sessions().stored().await.unwrap(), 1);
    assert_eq!(app.requests().len(), 2, "nobody got through");
}

#[tokio::test]
async fn a_token_with_one_character_changed_opens_nothing() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let alice = logged_in(&proxy, "alice").await;
    let token = alice.token().as_bytes();
    let mut kept = Kept::http2(proxy.addr, "localhost").await;
    let mut tried = 0;
    for place in 0..token.len() {
        for other in *b"AEQgw_-~+" {
            if token[place] == other {
                continue;
            }
            let mut edited = token.to_vec();
            edited[place] = other;
            let cookie = format!("__Host-sid={}", String::from_utf8(edited).unwrap());
            assert_eq!(kept.get("/", &[&cookie]).await.status, 401, "{place}");
            tried += 1;
        }
    }
    assert!(tried > 43 * 7);
    assert!(app.requests().is_empty(), "nobody got through");
    let right = format!("__Host-sid={}", alice.token());
    assert_eq!(kept.get("/", &[&right]).await.status, 200);
}

#[tokio::test]
async fn on_one_connection_everybody_is_who_their_token_says() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let (alice, bob) = (
        logged_in(&proxy, "alice").await,
        logged_in(&proxy, "bob").await,
    );
    for http2 in [false, true] {
        let mut kept = Kept::open(proxy.addr, http2).await;
        let turns = [
            ("alice", alice.token()),
            ("alice", alice.token()),
            ("bob", bob.token()),
            ("alice", alice.token()),
            ("bob", bob.token()),
            ("bob", bob.token()),
        ];
        for (name, token) in turns {
            let cookie = format!("theme={name}; __Host-sid={token}");
            assert_eq!(kept.get("/", &[&cookie]).await.status, 200);
            let request = app.last();
            assert_eq!(request.one("remote-user"), name);
            assert_eq!(request.one("cookie"), format!("theme={name}"));
            let count = app.requests().len();
            assert_eq!(kept.get("/", &[]).await.status, 401, "no cookie, nobody");
            assert_eq!(app.requests().len(), count);
        }
    }
}

// What the tests above share

fn just_before(span: Duration) -> Duration {
    span.checked_sub(MILLISECOND).unwrap()
}

async fn app() -> Upstream {
    upstream(|_| Reply::ok("hello")).await
}

/// A token lives an hour, and nothing idles out on the way.
fn rotating(app: &Upstream) -> crate::support::ProxyBuilder {
    proxy().app(&app.url()).with(
        "session",
        "idle_timeout = \"12h\"\nrotate_interval = \"1h\"\nrotate_grace = \"10s\"",
    )
}

async fn logged_in(proxy: &Proxy, user: &str) -> Browser {
    let mut browser = proxy.browser();
    browser.log_in(user).await;
    browser
}

/// Asks with the token `old` until an answer offers another, and returns that answer. The browser keeps the offer.
async fn offered(browser: &mut Browser, old: &str) -> Answer {
    for _ in 0..500 {
        browser.jar.insert("__Host-sid".to_owned(), old.to_owned());
        let answer = browser.fetch("/").await;
        assert_eq!(answer.status, 200, "no request waits for it");
        if !token_of(&answer).is_empty() {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no new token was offered");
}

/// Once the new token is known to have been seen, it is not offered any more.
async fn wait_until_seen(kept: &mut Kept, old_cookie: &str) {
    for _ in 0..500 {
        let answer = kept.get("/", &[old_cookie]).await;
        assert_eq!(answer.status, 200);
        if answer.set_cookies().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is still offered");
}

/// The session token that an answer sets; none where it is cleared.
fn token_of(answer: &Answer) -> String {
    let cookies = answer.set_cookies();
    let ours = cookies
        .iter()
        .find_map(|cookie| cookie.strip_prefix("__Host-sid="));
    ours.map_or(String::new(), |rest| {
        rest.split(';').next().unwrap().to_owned()
    })
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Lifetime {
    Over,
    Seconds(u64),
    Session,
}

/// Reads a `Set-Cookie` value by a grammar that has room for nothing else, and tells its name and how long it lives.
fn host_cookie(text: &str) -> (String, Lifetime) {
    let mut parts = text.split("; ");
    let (name, value) = parts.next().unwrap().split_once('=').unwrap();
    assert!(name.starts_with("__Host-"), "{text}");
    assert!(
        value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'),
        "{text}"
    );
    let attributes: Vec<&str> = parts.collect();
    let [fixed @ .., last] = &attributes[..] else {
        panic!("{text}");
    };
    let (fixed, lifetime) = match last.strip_prefix("Max-Age=") {
        Some("0") => (fixed, Lifetime::Over),
        Some(seconds) => (fixed, Lifetime::Seconds(seconds.parse().unwrap())),
        None => (&attributes[..], Lifetime::Session),
    };
    assert_eq!(
        fixed,
        ["HttpOnly", "SameSite=Lax", "Secure", "Path=/"],
        "{text}"
    );
    assert_eq!(value.is_empty(), lifetime == Lifetime::Over, "{text}");
    (name.to_owned(), lifetime)
}

/// Everything that would let somebody in: tokens as text and as bytes, and the password.
fn secrets(tokens: &[&String]) -> Vec<Vec<u8>> {
    use base64::Engine;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let texts = tokens.iter().map(|token| token.as_bytes().to_vec());
    let bytes = tokens.iter().map(|token| engine.decode(token).unwrap());
    texts
        .chain(bytes)
        .chain([PASSWORD.as_bytes().to_vec()])
        .collect()
}

fn b64(bytes: &[u8; 32]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// How often the store was asked for a token.
async fn store_loads(proxy: &Proxy) -> u64 {
    let mut stream = tokio::net::TcpStream::connect(proxy.admin).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let marker = "doorward_store_operation_seconds_count{operation=\"load\"} ";
    let (_, rest) = text.split_once(marker).unwrap_or_else(|| panic!("{text}"));
    rest.lines().next().unwrap().parse().unwrap()
}
