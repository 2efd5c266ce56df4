//! How many sessions, how long, from where and how lately logged in: the rules that an operator may set.

use std::sync::Arc;
use std::time::Duration;

use doorward::clock::{Clock, Timestamp};
use doorward::config::{self, MINIMAL, Missing};
use doorward::identity::{Identity, Subject};
use doorward::secret::{Keyring, Secret};
use doorward::session::store::Memory;
use doorward::session::{
    AuthError, Epoch, Login, LoginError, OnLimit, Parts, PerUser, Presence, Sessions, Settings,
    Token,
};
use doorward::telemetry::{Audit, LineWriter, Metrics};
use http::Method;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::support::{
    Answer, Browser, Kept, PASSWORD, Proxy, Reply, Upstream, eventually, proxy, upstream,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

// At most so many sessions (R9)

#[tokio::test]
async fn a_login_too_many_ends_the_oldest_session_of_the_same_user() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .with("session", "max_per_user = 2")
        .start();
    let mut first = logged_in(&proxy, "alice").await;
    let mut second = logged_in(&proxy, "alice").await;
    let mut other = logged_in(&proxy, "bob").await;
    // Activity does not make a session younger.
    assert_eq!(first.fetch("/").await.status, 200);
    let mut third = logged_in(&proxy, "alice").await;
    assert_eq!(first.fetch("/").await.status, 401);
    for browser in [&mut second, &mut third, &mut other] {
        assert_eq!(browser.fetch("/").await.status, 200);
    }
    assert_eq!(proxy.sessions().stored().await.unwrap(), 3);
    assert_eq!(proxy.audited("session_ended").await["reason"], "evicted");
    let event = proxy.audited("session_limit_reached").await;
    assert_eq!(
        (&event["user"], &event["limit"], &event["action"]),
        (&"alice".into(), &2.into(), &"evict_oldest".into())
    );
}

#[tokio::test]
async fn where_the_limit_denies_a_person_is_told_why_and_nothing_else_happens() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .with("session", "max_per_user = 2\non_limit = \"deny\"")
        .start();
    let mut first = logged_in(&proxy, "alice").await;
    let mut second = logged_in(&proxy, "alice").await;
    let mut third = proxy.browser();
    let answer = third.log_in_at("/wiki", "alice", PASSWORD).await;
    assert_eq!(answer.status, 403);
    assert!(
        answer.text().contains("logged in at 2 places already"),
        "{}",
        answer.text()
    );
    assert!(answer.text().contains("role=\"alert\""));
    assert_eq!(answer.field("user"), "alice");
    assert_eq!(third.token(), "");
    assert_eq!(
        proxy.audited("session_limit_reached").await["action"],
        "deny"
    );
    assert_eq!(proxy.sessions().stored().await.unwrap(), 2);
    // Nobody else is kept out, and the place of one who leaves is free.
    logged_in(&proxy, "bob").await;
    second.log_out().await;
    let state = answer.field("state");
    let form = [
        ("state", state.as_str()),
        ("user", "alice"),
        ("password", PASSWORD),
    ];
    let answer = third.submit("/.doorward/login", &form).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/wiki")
    );
    for browser in [&mut first, &mut third] {
        assert_eq!(browser.fetch("/").await.status, 200);
    }
}

#[tokio::test]
async fn sessions_that_are_over_take_up_no_room() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .with("session", "max_per_user = 1\non_limit = \"deny\"")
        .start();
    let mut browser = logged_in(&proxy, "alice").await;
    proxy.clock.advance(29 * MINUTE);
    assert_eq!(browser.fetch("/").await.status, 200);
    // Thirty minutes after the login, but not after the last request, which the store may not know of.
    proxy.clock.advance(29 * MINUTE);
    let mut other = proxy.browser();
    assert_eq!(other.log_in_at("/", "alice", PASSWORD).await.status, 403);
    proxy.clock.advance(MINUTE);
    logged_in(&proxy, "alice").await;
}

#[tokio::test]
async fn who_logs_in_where_they_are_logged_in_needs_no_second_place() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .with("session", "max_per_user = 1\non_limit = \"deny\"\nremember_me = { idle_timeout = \"10d\", absolute_timeout = \"10d\" }")
        .start();
    let mut browser = logged_in(&proxy, "alice").await;
    assert_eq!(again(&mut browser, "alice", false).await.status, 303);
    // A session that is remembered takes the place of one that is not.
    assert_eq!(again(&mut browser, "alice", true).await.status, 303);
    assert_eq!(browser.fetch("/").await.status, 200);
    assert_eq!(proxy.sessions().stored().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_race_of_logins_on_several_nodes_leaves_more_than_allowed() {
    for on_limit in [OnLimit::EvictOldest, OnLimit::Deny] {
        for round in 0..10 {
            let store = Arc::new(Memory::new());
            let nodes = [(); 3].map(|()| node(&store, PerUser { max: 2, on_limit }));
            let mut logins = JoinSet::new();
            for number in 0..9 {
                let sessions = nodes[number % 3].clone();
                logins.spawn(async move { sessions.issue(login("alice")).await });
            }
            let mut good = 0;
            for result in logins.join_all().await {
                match result {
                    Ok(_) => good += 1,
                    Err(error) => assert_eq!(error, LoginError::Full { max: 2 }),
                }
            }
            let left = nodes[0].stored().await.unwrap();
            match on_limit {
                OnLimit::EvictOldest => assert_eq!((good, left), (9, 2), "{round}"),
                OnLimit::Deny => assert!(left <= 2 && good == left, "{round}: {good} of {left}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_one_node_a_race_for_the_last_places_fills_them() {
    let store = Arc::new(Memory::new());
    let on_limit = OnLimit::Deny;
    let sessions = node(&store, PerUser { max: 3, on_limit });
    let mut logins = JoinSet::new();
    for _ in 0..20 {
        let sessions = sessions.clone();
        logins.spawn(async move { sessions.issue(login("alice")).await.is_ok() });
    }
    let good = logins
        .join_all()
        .await
        .into_iter()
        .filter(|good| *good)
        .count();
    assert_eq!((good, sessions.stored().await.unwrap()), (3, 3));
}

// Logging in once more

#[tokio::test]
async fn a_route_may_want_a_login_that_is_fresh() {
    let app = app().await;
    let proxy = stepped(&app).start();
    for http2 in [false, true] {
        let browser = logged_in(&proxy, "alice").await;
        let cookie = format!("__Host-sid={}", browser.token());
        // One connection, so that what it remembers is judged by the route too.
        let mut kept = Kept::open(proxy.addr, http2).await;
        proxy.clock.advance(less(10 * MINUTE, MILLISECOND));
        assert_eq!(kept.get("/bank", &[&cookie]).await.status, 200);
        proxy.clock.advance(MILLISECOND);
        let before = app.requests().len();
        let answer = kept.get("/bank/account?x=1", &[&cookie]).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.json()["error"], "reauthentication_required");
        assert_eq!(
            answer.json()["login_url"],
            "/.doorward/login?return_to=%2F&prompt=login"
        );
        assert!(answer.set_cookies().is_empty(), "the session lives on");
        assert_eq!(app.requests().len(), before, "nobody got through");
        assert_eq!(kept.get("/", &[&cookie]).await.status, 200);
    }
    // Who has no session is not told to do again what they have not done.
    let mut stranger = proxy.browser();
    let answer = stranger.fetch("/bank").await;
    assert_eq!(answer.json()["error"], "login_required");
    // Whom the route is not for is told so at once.
    let mut bob = logged_in(&proxy, "bob").await;
    proxy.clock.advance(10 * MINUTE);
    assert_eq!(bob.fetch("/bank").await.status, 403);
}

#[tokio::test]
async fn a_connection_does_not_remember_a_token_for_longer_than_the_token_lives() {
    let clock = Clock::fixed(Timestamp::from_millis(1_800_000_000_000));
    // Nothing stays in the cache, as after a long time in which the connection alone remembered.
    let settings = Settings {
        cache_size: 0,
        ..Settings::default()
    };
    let grace = settings.rotate_grace;
    let sessions = sessions(&Arc::default(), settings, clock.clone());
    let issued = sessions.issue(login("alice")).await.unwrap();
    let cookie = issued.cookie.to_str().unwrap();
    let pair = cookie.split(';').next().unwrap();
    let old = pair.strip_prefix("__Host-sid=").unwrap();
    let remembered = sessions.authenticate(old.as_bytes(), ACTIVE).await.unwrap();
    assert!(sessions.still_good(&remembered, ACTIVE));

    let token = Token::parse(old.as_bytes()).unwrap();
    sessions
        .prove_again(token, &login("alice"))
        .await
        .unwrap()
        .unwrap();
    let within_grace = sessions.authenticate(old.as_bytes(), ACTIVE).await.unwrap();
    clock.advance(grace);
    for memory in [&remembered, &within_grace] {
        assert!(!sessions.still_good(memory, ACTIVE));
    }
    let again = sessions.authenticate(old.as_bytes(), ACTIVE).await;
    assert_eq!(again.unwrap_err(), AuthError::Reused(issued.sid));
}

#[tokio::test]
async fn who_logs_in_again_goes_on_with_the_same_session_under_a_new_token() {
    let app = app().await;
    let proxy = stepped(&app).start();
    let mut browser = logged_in(&proxy, "alice").await;
    let (old, before) = (browser.clone(), told(&mut browser).await);
    proxy.clock.advance(15 * MINUTE);
    let answer = browser.open("/bank/account?x=1").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (
            303,
            "/.doorward/login?return_to=%2Fbank%2Faccount%3Fx%3D1&prompt=login"
        )
    );
    let form = browser.follow("/bank/account?x=1").await;
    assert_eq!(form.status, 200);
    assert!(
        form.text()
            .contains("You are logged in as <strong>alice</strong>"),
        "{}",
        form.text()
    );
    assert_eq!(form.field("user"), "alice");

    let wrong = submit(&mut browser, &form, "alice", "wrong").await;
    assert_eq!(wrong.status, 401);
    assert!(
        wrong
            .text()
            .contains("You are logged in as <strong>alice</strong>")
    );
    assert_eq!(browser.token(), old.token());
    assert_eq!(
        browser.fetch("/bank").await.status,
        401,
        "nothing is better than it was"
    );

    let answer = submit(&mut browser, &form, "alice", PASSWORD).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/bank/account?x=1")
    );
    assert_ne!(browser.token(), old.token());
    assert_eq!(browser.open("/bank/account?x=1").await.status, 200);
    let after = told(&mut browser).await;
    assert_eq!(after["sid"], before["sid"], "the session is the same");
    assert_eq!(
        after["auth_time"],
        before["auth_time"].as_u64().unwrap() + 900
    );
    assert_eq!(
        after["absolute_seconds_left"],
        12 * 3600,
        "its time begins anew"
    );
    assert_eq!(proxy.sessions().stored().await.unwrap(), 1);
    assert_eq!(proxy.audited("reauthenticated").await["sid"], before["sid"]);
}

#[tokio::test]
async fn the_token_from_before_a_renewed_login_is_good_for_the_grace_alone() {
    let app = app().await;
    let proxy = stepped(&app).start();
    let mut browser = logged_in(&proxy, "alice").await;
    let mut old = browser.clone();
    proxy.clock.advance(15 * MINUTE);
    assert_eq!(old.fetch("/").await.status, 200);
    assert_eq!(again(&mut browser, "alice", false).await.status, 303);
    // The new token has not been seen, and yet the old one neither learns of it nor is any better.
    let answer = old.fetch("/").await;
    assert_eq!(
        (answer.status.as_u16(), answer.set_cookies().len()),
        (200, 0)
    );
    assert_eq!(old.fetch("/bank").await.status, 401);
    proxy.clock.advance(less(10 * SECOND, MILLISECOND));
    assert_eq!(old.fetch("/").await.status, 200);
    assert_eq!(browser.fetch("/bank").await.status, 200);
    let token = old.token().to_owned();
    proxy.clock.advance(MILLISECOND);
    assert_eq!(old.fetch("/").await.status, 401);
    assert_eq!(proxy.audited("token_reused").await["address"], "127.0.0.1");
    assert_ne!(token, browser.token());
    assert_eq!(browser.fetch("/").await.status, 401, "somebody held a copy");
}

#[tokio::test]
async fn a_login_in_the_middle_of_a_change_of_token_leaves_one_token_that_is_good() {
    let app = app().await;
    let proxy = stepped(&app)
        .with("session", "idle_timeout = \"5h\"\nrotate_interval = \"1h\"")
        .start();
    let mut browser = logged_in(&proxy, "alice").await;
    let first = browser.token().to_owned();
    proxy.clock.advance(HOUR);
    let mut offered = browser.clone();
    for _ in 0..500 {
        offered.jar.insert("__Host-sid".to_owned(), first.clone());
        offered.fetch("/").await;
        if offered.token() != first {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_ne!(offered.token(), first, "a new token was offered");
    // The response with it was lost, and the old one logs in.
    assert_eq!(again(&mut browser, "alice", false).await.status, 303);
    assert!(![&first[..], offered.token()].contains(&browser.token()));
    proxy.clock.advance(10 * SECOND);
    assert_eq!(browser.fetch("/bank").await.status, 200);
    assert_eq!(offered.fetch("/").await.status, 401);
}

#[tokio::test]
async fn who_logs_in_as_somebody_else_begins_a_session_of_their_own() {
    let app = app().await;
    let proxy = stepped(&app).start();
    let mut browser = logged_in(&proxy, "alice").await;
    let (mut old, before) = (browser.clone(), told(&mut browser).await);
    proxy.clock.advance(15 * MINUTE);
    assert_eq!(again(&mut browser, "bob", false).await.status, 303);
    let after = told(&mut browser).await;
    assert_eq!(after["user"], "bob");
    assert_ne!(after["sid"], before["sid"]);
    assert_eq!(old.fetch("/").await.status, 401);
    assert_eq!(proxy.audited("session_ended").await["reason"], "replaced");
}

#[tokio::test]
async fn a_renewed_login_survives_a_restart() {
    let app = app().await;
    let earlier = stepped(&app).embedded().start();
    let mut browser = logged_in(&earlier, "alice").await;
    let sid = told(&mut browser).await["sid"].clone();
    earlier.clock.advance(15 * MINUTE);
    assert_eq!(again(&mut browser, "alice", false).await.status, 303);
    let (folder, clock) = earlier.stop().await;
    let later = stepped(&app).embedded().after(folder, clock).start();
    browser.addr = later.addr;
    later.clock.advance(9 * MINUTE);
    assert_eq!(browser.fetch("/bank").await.status, 200);
    assert_eq!(told(&mut browser).await["sid"], sid);
}

// Being remembered

#[tokio::test]
async fn who_asks_for_it_stays_logged_in_longer_and_can_still_leave() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .with(
            "session",
            "rotate_interval = \"2d\"\nremember_me = { idle_timeout = \"30d\", absolute_timeout = \"90d\" }",
        )
        .start();
    let mut plain = logged_in(&proxy, "alice").await;
    let mut browser = proxy.browser();
    let form = browser.follow("/").await;
    assert!(form.text().contains("Keep me logged in"));
    // A wrong password does not untick the box.
    let form = submit_with(
        &mut browser,
        &form,
        &[
            ("user", "alice"),
            ("password", "wrong"),
            ("remember", "yes"),
        ],
    )
    .await;
    assert!(form.text().contains(" checked"));
    let answer = submit_with(
        &mut browser,
        &form,
        &[
            ("user", "alice"),
            ("password", PASSWORD),
            ("remember", "yes"),
        ],
    )
    .await;
    assert_eq!(max_age(&answer), Some(90 * 86_400));
    proxy.clock.advance(29 * DAY);
    assert_eq!(plain.fetch("/").await.status, 401);
    let token = browser.token().to_owned();
    // The token that replaces it is kept as long as the session has left.
    let answer = until_offered(&mut browser, &token).await;
    assert_eq!(max_age(&answer), Some(61 * 86_400));
    for _ in 0..2 {
        proxy.clock.advance(29 * DAY);
        assert_eq!(browser.fetch("/").await.status, 200);
    }
    proxy.clock.advance(less(3 * DAY, MILLISECOND));
    assert_eq!(browser.fetch("/").await.status, 200);
    let mut stays = browser.clone();
    assert_eq!(browser.log_out().await.status, 200);
    assert_eq!(stays.fetch("/").await.status, 401);
}

#[tokio::test]
async fn nobody_is_remembered_where_that_is_not_offered() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser();
    let form = browser.follow("/").await;
    assert!(!form.text().contains("remember"));
    let fields = [
        ("user", "alice"),
        ("password", PASSWORD),
        ("remember", "yes"),
    ];
    let answer = submit_with(&mut browser, &form, &fields).await;
    assert_eq!((answer.status.as_u16(), max_age(&answer)), (303, None));
    proxy.clock.advance(30 * MINUTE);
    assert_eq!(browser.fetch("/").await.status, 401);
}

#[tokio::test]
async fn a_remembered_session_ends_at_its_own_limits() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .with(
            "session",
            "remember_me = { idle_timeout = \"2d\", absolute_timeout = \"3d\" }",
        )
        .start();
    let mut idle = remembered(&proxy).await;
    let mut busy = remembered(&proxy).await;
    proxy.clock.advance(less(2 * DAY, MILLISECOND));
    assert_eq!(busy.fetch("/").await.status, 200);
    proxy.clock.advance(MILLISECOND);
    assert_eq!(idle.fetch("/").await.status, 401);
    proxy.clock.advance(less(DAY, MILLISECOND));
    assert_eq!(busy.fetch("/").await.status, 200);
    proxy.clock.advance(MILLISECOND);
    assert_eq!(busy.fetch("/").await.status, 401);
}

// Levels of assurance and groups

#[tokio::test]
async fn each_level_ends_sessions_at_its_limits() {
    let app = app().await;
    for (level, idle, absolute) in [
        ("aal1", 30 * MINUTE, 30 * DAY),
        ("aal2", HOUR, DAY),
        ("aal3", 15 * MINUTE, 12 * HOUR),
    ] {
        let proxy = proxy()
            .app(&app.url())
            .with(
                "session",
                &format!("assurance = \"{level}\"\nrotate_interval = \"365d\""),
            )
            .start();
        let told = told(&mut logged_in(&proxy, "alice").await).await;
        assert_eq!(told["idle_seconds_left"], idle.as_secs(), "{level}");
        assert_eq!(told["absolute_seconds_left"], absolute.as_secs(), "{level}");
        let [at, past] = [
            logged_in(&proxy, "alice").await,
            logged_in(&proxy, "alice").await,
        ]
        .map(|browser| format!("__Host-sid={}", browser.token()));
        let mut kept = Kept::http2(proxy.addr, "localhost").await;
        proxy.clock.advance(less(idle, SECOND));
        assert_eq!(kept.get("/", &[&at]).await.status, 200, "{level}");
        proxy.clock.advance(SECOND);
        assert_eq!(kept.get("/", &[&past]).await.status, 401, "{level}");
        let (mut left, step) = (less(absolute, idle), less(idle, 2 * SECOND));
        while left > step {
            proxy.clock.advance(step);
            left = less(left, step);
            let status = kept.get("/", &[&at]).await.status;
            assert_eq!(status, 200, "{level}: {left:?} left");
        }
        proxy.clock.advance(less(left, SECOND));
        assert_eq!(kept.get("/", &[&at]).await.status, 200, "{level}");
        proxy.clock.advance(SECOND);
        assert_eq!(kept.get("/", &[&at]).await.status, 401, "{level}");
    }
}

#[tokio::test]
async fn a_group_may_have_less_time_than_everybody_else() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .with(
            "session",
            "[[session.group]]\nname = \"staff\"\nidle_timeout = \"10m\"\nabsolute_timeout = \"1h\"",
        )
        .start();
    let (mut alice, mut bob) = (
        logged_in(&proxy, "alice").await,
        logged_in(&proxy, "bob").await,
    );
    let (staff, others) = (told(&mut alice).await, told(&mut bob).await);
    assert_eq!(
        (&staff["idle_seconds_left"], &staff["absolute_seconds_left"]),
        (&600.into(), &3600.into())
    );
    assert_eq!(
        (
            &others["idle_seconds_left"],
            &others["absolute_seconds_left"]
        ),
        (&1800.into(), &43_200.into())
    );
    proxy.clock.advance(10 * MINUTE);
    assert_eq!(alice.fetch("/").await.status, 401);
    assert_eq!(bob.fetch("/").await.status, 200);
}

#[test]
fn rules_that_cannot_hold_are_errors_that_say_why() {
    for (keys, expected) in [
        (
            "assurance = \"aal2\"\nidle_timeout = \"2h\"",
            "session.idle_timeout: 2h is longer than `assurance` = \"aal2\" on line 5 allows (1h)",
        ),
        (
            "assurance = \"aal3\"\nabsolute_timeout = \"1d\"",
            "session.absolute_timeout: 1d is longer than `assurance` = \"aal3\" on line 5 allows (12h)",
        ),
        (
            "assurance = \"aal1\"\nremember_me = { idle_timeout = \"30d\", absolute_timeout = \"90d\" }",
            "session.remember_me.absolute_timeout: 90d is longer than `assurance` = \"aal1\" on line 5 allows (30d)",
        ),
        ("assurance = \"aal4\"", "\"aal4\" is not one of"),
        (
            "remember_me = { idle_timeout = \"30d\" }",
            "session.remember_me.absolute_timeout: is missing",
        ),
        (
            "remember_me = { idle_timeout = \"30d\", absolute_timeout = \"20d\" }",
            "30d is longer than the `absolute_timeout` beside it (20d)",
        ),
        (
            "remember_me = { idle_timeout = \"30d\", absolute_timeout = \"400d\" }",
            "\"400d\" is not between 1m and 365d",
        ),
        (
            "remember_me = true",
            "session.remember_me: expected a table",
        ),
        (
            "on_limit = \"deny\"",
            "says what happens at a limit, and there is none",
        ),
        ("max_per_user = -1", "-1 is not between 0 and 10000"),
        (
            "max_per_user = 2\non_limit = \"evict\"",
            "\"evict\" is not one of",
        ),
        ("bind = { network = \"on\" }", "\"on\" is not one of"),
        ("bind = { device = \"end\" }", "session.bind.device"),
        (
            "[[session.group]]\nname = \"staff\"\nidle_timeout = \"2h\"",
            "session.group.idle_timeout: 2h is longer than the session's own `idle_timeout` (30m)",
        ),
        (
            "[[session.group]]\nname = \"staff\"",
            "session.group: limits nothing",
        ),
        (
            "[[session.group]]\nidle_timeout = \"1m\"",
            "session.group.name: is missing",
        ),
        (
            "[[session.group]]\nname = \"a\"\nidle_timeout = \"1m\"\n[[session.group]]\nname = \"a\"\nidle_timeout = \"1m\"",
            "\"a\" has its limits already",
        ),
    ] {
        let text = MINIMAL.replace("[tls]", &format!("[session]\n{keys}\n\n[tls]"));
        let told = complaints(&text);
        assert!(told.contains(expected), "{keys}\n{told}");
        assert!(told.contains("\n1 error in"), "{keys}\n{told}");
    }
    for (keys, expected) in [
        (
            "max_auth_age = \"10m\"\naccess = \"public\"",
            "says how old a login may be, where `access = \"public\"` asks for none",
        ),
        (
            "max_auth_age = \"1s\"\naccess = \"user\"",
            "\"1s\" is not between 30s and 365d",
        ),
    ] {
        let text = MINIMAL.replace("access = \"user\"", keys);
        let told = complaints(&text);
        assert!(told.contains(expected), "{keys}\n{told}");
    }
}

// Bound to browser and network

#[tokio::test]
async fn a_session_that_is_not_bound_goes_wherever_its_cookie_goes() {
    let app = app().await;
    let proxy = bound(&app, "").start();
    let mut browser = placed(&proxy, "192.0.2.1", "A").await;
    go(&mut browser, "198.51.100.1", "B");
    assert_eq!(browser.fetch("/").await.status, 200);
}

#[tokio::test]
async fn what_follows_from_a_move_is_for_the_operator_to_say() {
    let app = app().await;
    for (bind, address, agent, status) in [
        ("network = \"end\"", "192.0.2.254", "A", 200),
        ("network = \"end\"", "192.0.2.1", "B", 200),
        ("network = \"end\"", "192.0.3.1", "A", 401),
        ("user_agent = \"end\"", "192.0.3.1", "A", 200),
        ("user_agent = \"end\"", "192.0.2.1", "B", 401),
        (
            "user_agent = \"log\", network = \"log\"",
            "192.0.3.1",
            "B",
            200,
        ),
        (
            "user_agent = \"log\", network = \"end\"",
            "192.0.3.1",
            "B",
            401,
        ),
    ] {
        let proxy = bound(&app, bind).start();
        let mut browser = placed(&proxy, "192.0.2.1", "A").await;
        assert_eq!(browser.fetch("/").await.status, 200);
        let mut moved = browser.clone();
        go(&mut moved, address, agent);
        assert_eq!(
            moved.fetch("/").await.status,
            status,
            "{bind} {address} {agent}"
        );
        let at_home = browser.fetch("/").await.status;
        assert_eq!(at_home, status, "{bind}: it ends for both or for none");
        if status == 401 {
            assert_eq!(proxy.audited("session_ended").await["reason"], "moved");
        }
    }
}

#[tokio::test]
async fn a_move_is_written_down_once() {
    let app = app().await;
    let proxy = bound(&app, "network = \"log\"").start();
    let mut browser = placed(&proxy, "192.0.2.1", "A").await;
    go(&mut browser, "198.51.100.1", "B");
    for _ in 0..3 {
        assert_eq!(browser.fetch("/").await.status, 200);
    }
    let event = &proxy.audited_times("session_moved", 1).await[0];
    assert_eq!(
        (
            &event["network"],
            &event["user_agent"],
            &event["consequence"],
            &event["address"]
        ),
        (
            &true.into(),
            &true.into(),
            &"log".into(),
            &"198.51.100.1".into()
        )
    );
}

#[tokio::test]
async fn who_has_moved_logs_in_again_and_goes_on_from_there() {
    let app = app().await;
    let proxy = bound(&app, "network = \"reauth\"").start();
    let mut browser = placed(&proxy, "2001:db8:1:100::1", "A").await;
    let sid = told(&mut browser).await["sid"].clone();
    let mut at_home = browser.clone();
    go(&mut browser, "2001:db8:1:1ff::1", "A");
    assert_eq!(browser.fetch("/").await.status, 200, "the same /56");
    go(&mut browser, "2001:db8:1:200::1", "A");
    let before = app.requests().len();
    let answer = browser.fetch("/wiki").await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()["error"], "reauthentication_required");
    assert_eq!(
        browser.fetch("/.doorward/session").await.status,
        401,
        "nor are they told who they are"
    );
    assert_eq!(app.requests().len(), before, "nobody got through");
    assert_eq!(at_home.fetch("/").await.status, 200);
    let answer = browser.log_in_at("/wiki", "alice", PASSWORD).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/wiki")
    );
    assert_eq!(browser.fetch("/wiki").await.status, 200);
    assert_eq!(told(&mut browser).await["sid"], sid);
}

#[tokio::test]
async fn a_copied_cookie_keeps_no_session_alive_and_gets_no_newer_token() {
    let app = app().await;
    let proxy = bound(&app, "network = \"reauth\"")
        .with("session", "rotate_interval = \"5m\"")
        .start();
    let mut browser = placed(&proxy, "192.0.2.1", "A").await;
    let mut copy = browser.clone();
    go(&mut copy, "198.51.100.1", "A");
    // At home the token is replaced, and the new one gets lost on its way.
    proxy.clock.advance(5 * MINUTE);
    let mut lost = browser.clone();
    eventually("a new token is offered", async || {
        lost.fetch("/").await.set_cookies().len() == 1
    })
    .await;
    for minute in 0..29 {
        proxy.clock.advance(MINUTE);
        for path in ["/", "/.doorward/login", "/.doorward/logout"] {
            let answer = copy.fetch(path).await;
            let status = if path == "/" { 401 } else { 200 };
            assert_eq!(answer.status, status, "{path} after {minute} minutes");
            let cookies = answer.set_cookies();
            let tokens = cookies
                .iter()
                .filter(|cookie| cookie.starts_with("__Host-sid="));
            assert_eq!(tokens.count(), 0, "{path}: {cookies:?}");
        }
    }
    proxy.clock.advance(MINUTE);
    assert_eq!(
        browser.fetch("/").await.status,
        401,
        "idle for half an hour"
    );
    assert_eq!(
        proxy.audited("session_ended").await["reason"],
        "idle_timeout"
    );
}

#[tokio::test]
async fn a_connection_that_is_shared_remembers_nobody_from_elsewhere() {
    let app = app().await;
    let proxy = bound(&app, "network = \"reauth\"").start();
    let browser = placed(&proxy, "192.0.2.1", "A").await;
    let cookie = format!("__Host-sid={}", browser.token());
    for http2 in [false, true] {
        // As a proxy in front does: many people's requests on one connection.
        let mut kept = Kept::open(proxy.addr, http2).await;
        for (path, address, status) in [
            ("/", "192.0.2.1", 200),
            ("/", "192.0.2.1", 200),
            ("/", "198.51.100.1", 401),
            ("/.doorward/login", "198.51.100.1", 200),
            ("/", "198.51.100.1", 401),
            ("/", "192.0.2.9", 200),
        ] {
            let fields = [("x-forwarded-for", address), ("user-agent", "A")];
            let answer = kept
                .request((Method::GET, path), &[&cookie], &fields, "")
                .await;
            assert_eq!(answer.status, status, "{path} from {address}");
        }
    }
}

// The script

#[tokio::test]
async fn the_script_is_the_same_for_everybody_and_touches_nothing() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = logged_in(&proxy, "alice").await;
    proxy.clock.advance(59 * SECOND);
    browser
        .jar
        .insert("__Host-sid-other".to_owned(), "x".to_owned());
    let answer = browser.fetch("/.doorward/session.js").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        "text/javascript; charset=utf-8"
    );
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("cache-control"), "no-cache");
    assert!(answer.set_cookies().is_empty());
    let etag = answer.header("etag").to_owned();
    let fields = [("if-none-match", etag.as_str())];
    let answer = browser
        .request(Method::GET, "/.doorward/session.js", &fields, "")
        .await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (304, 0));
    let answer = browser
        .request(Method::POST, "/.doorward/session.js", &[], "")
        .await;
    assert_eq!(answer.status, 405);
    // A cookie that is good for nothing is not taken away by what caches may keep.
    let mut junk = proxy.browser();
    junk.jar.insert("__Host-sid".to_owned(), "junk".to_owned());
    assert!(
        junk.fetch("/.doorward/session.js")
            .await
            .set_cookies()
            .is_empty()
    );
    assert_eq!(told(&mut browser).await["idle_seconds_left"], 1800 - 59);
}

// What the tests above share

/// What is said about a configuration.
fn complaints(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("doorward.toml");
    config::parse(&file, text, Missing::Tolerated)
        .unwrap_err()
        .to_string()
}

fn less(span: Duration, by: Duration) -> Duration {
    span.checked_sub(by).unwrap()
}

async fn app() -> Upstream {
    upstream(|_| Reply::ok("hello")).await
}

/// `/bank` is for staff who have logged in within ten minutes.
fn stepped(app: &Upstream) -> crate::support::ProxyBuilder {
    let bank = "access = { groups = [\"staff\"] }\nmax_auth_age = \"10m\"";
    proxy().app(&app.url()).route("/bank", &app.url(), bank)
}

/// A proxy behind another one, which says where requests come from.
fn bound(app: &Upstream, bind: &str) -> crate::support::ProxyBuilder {
    proxy()
        .app(&app.url())
        .with("server", "trusted_proxies = [\"127.0.0.1\"]")
        .with("session", &format!("bind = {{ {bind} }}"))
}

async fn placed(proxy: &Proxy, address: &str, agent: &str) -> Browser {
    let mut browser = proxy.browser();
    go(&mut browser, address, agent);
    browser.log_in("alice").await;
    browser
}

fn go(browser: &mut Browser, address: &str, agent: &str) {
    let fields = [("x-forwarded-for", address), ("user-agent", agent)];
    browser.fields = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
}

async fn logged_in(proxy: &Proxy, user: &str) -> Browser {
    let mut browser = proxy.browser();
    browser.log_in(user).await;
    browser
}

async fn remembered(proxy: &Proxy) -> Browser {
    let mut browser = proxy.browser();
    let form = browser.follow("/").await;
    let fields = [
        ("user", "alice"),
        ("password", PASSWORD),
        ("remember", "yes"),
    ];
    assert_eq!(submit_with(&mut browser, &form, &fields).await.status, 303);
    browser
}

/// Logs in though somebody is logged in.
async fn again(browser: &mut Browser, user: &str, remember: bool) -> Answer {
    let form = browser.open("/.doorward/login?prompt=login").await;
    let mut fields = vec![("user", user), ("password", PASSWORD)];
    if remember {
        fields.push(("remember", "yes"));
    }
    submit_with(browser, &form, &fields).await
}

async fn submit(browser: &mut Browser, form: &Answer, user: &str, password: &str) -> Answer {
    submit_with(browser, form, &[("user", user), ("password", password)]).await
}

async fn submit_with(browser: &mut Browser, form: &Answer, fields: &[(&str, &str)]) -> Answer {
    let state = form.field("state");
    let mut all = vec![("state", state.as_str())];
    all.extend(fields);
    browser.submit("/.doorward/login", &all).await
}

/// What `/.doorward/session` says.
async fn told(browser: &mut Browser) -> serde_json::Value {
    let answer = browser.fetch("/.doorward/session").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// How long the browser is to keep the session cookie that an answer sets.
fn max_age(answer: &Answer) -> Option<u64> {
    let cookies = answer.set_cookies();
    let ours = cookies
        .iter()
        .find(|cookie| cookie.starts_with("__Host-sid="));
    let (_, seconds) = ours.expect("a session cookie").split_once("Max-Age=")?;
    Some(seconds.parse().unwrap())
}

async fn until_offered(browser: &mut Browser, old: &str) -> Answer {
    for _ in 0..500 {
        browser.jar.insert("__Host-sid".to_owned(), old.to_owned());
        let answer = browser.fetch("/").await;
        assert_eq!(answer.status, 200);
        if browser.token() != old {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no new token was offered");
}

const ACTIVE: Presence = Presence {
    idle_timeout: None,
    activity: true,
};

/// One of several processes over one store.
fn node(store: &Arc<Memory>, per_user: PerUser) -> Arc<Sessions> {
    let settings = Settings {
        per_user,
        ..Settings::default()
    };
    let clock = Clock::fixed(Timestamp::from_millis(1_800_000_000_000));
    sessions(store, settings, clock)
}

fn sessions(store: &Arc<Memory>, settings: Settings, clock: Clock) -> Arc<Sessions> {
    let parts = Parts {
        store: store.clone(),
        keyring: Arc::new(Keyring::new(vec![Secret::new([7; 32])]).unwrap()),
        settings,
        tickets: None,
        audit: Audit::new(LineWriter::off(), clock.clone()),
        clock,
        metrics: Arc::new(Metrics::new()),
        background: Handle::current(),
    };
    Sessions::new(parts).0
}

fn login(user: &str) -> Login {
    Login {
        identity: Identity {
            subject: Subject {
                provider: "local".to_owned(),
                id: user.to_owned(),
            },
            user: user.to_owned(),
            name: None,
            email: None,
            groups: Vec::new(),
        },
        amr: vec!["pwd".to_owned()],
        proved: None,
        federated: None,
        address: [192, 0, 2, 1].into(),
        user_agent: None,
        remember: false,
        replaces: None,
        epoch: Epoch::default(),
        carries: None,
    }
}
