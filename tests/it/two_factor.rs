//! The second step of local users' logins: codes of an authenticator app, made here as the app makes them, and recovery
//! codes. Whether there is a session, and what the app was told, is what counts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use doorward::login::UserFile;
use serde_json::json;
use totp_rs::{Builder, Secret, Totp};

use crate::chromium::{look, unreadable};
use crate::oidc::Bench;
use crate::support::{
    Answer, Browser, Chromium, PASSWORD, Proxy, ProxyBuilder, Recorded, Reply, Upstream, doorward,
    eventually, proxy, upstream,
};

const PAGE: &str = "/.doorward/two-factor";
const STEP: Duration = Duration::from_secs(30);

async fn app() -> Upstream {
    upstream(|_: &Recorded| Reply::ok("hello")).await
}

async fn logged_in(proxy: &Proxy, user: &str) -> Browser {
    let mut browser = proxy.browser();
    browser.log_in(user).await;
    browser
}

/// What a person scans, as the text beside it has it.
fn scanned(page: &Answer) -> Totp {
    let text = page.text();
    let (_, secret) = text.split_once("into the app: <code>").unwrap();
    let (secret, _) = secret.split_once('<').unwrap();
    let secret = Secret::try_from_base32(secret.replace(' ', "")).unwrap();
    Builder::new().with_secret(secret).build().unwrap()
}

fn code(totp: &Totp, proxy: &Proxy) -> String {
    totp.generate(proxy.clock.now().as_secs()).to_string()
}

/// A code that is none of those that are good now.
fn wrong_code(totp: &Totp, proxy: &Proxy) -> String {
    let now = proxy.clock.now().as_secs();
    let good = [now - 30, now, now + 30].map(|at| totp.generate(at).to_string());
    let wrong = (0..4).map(|digit| digit.to_string().repeat(6));
    wrong.into_iter().find(|code| !good.contains(code)).unwrap()
}

fn recovery_codes(page: &Answer) -> Vec<String> {
    let text = page.text();
    let codes = text.split("<li><code>").skip(1);
    codes
        .map(|code| code.split_once('<').unwrap().0.to_owned())
        .collect()
}

/// Turns the second step on, and returns the app and the recovery codes.
async fn enrol(browser: &mut Browser, proxy: &Proxy) -> (Totp, Vec<String>) {
    let page = browser.open(PAGE).await;
    let totp = scanned(&page);
    let form = [
        ("token", &*page.field("token")),
        ("state", &*page.field("state")),
        ("do", "enable"),
        ("code", &*code(&totp, proxy)),
    ];
    let answer = browser.submit(PAGE, &form).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let codes = recovery_codes(&answer);
    assert_eq!(codes.len(), 10, "{}", answer.text());
    // The code of this step is used.
    proxy.clock.advance(STEP);
    (totp, codes)
}

async fn second(browser: &mut Browser, state: &str, code: &str) -> Answer {
    let form = [("second", state), ("code", code)];
    browser.submit("/.doorward/login", &form).await
}

/// Up to the second step, whose form it returns.
async fn half_way(browser: &mut Browser, page: &str) -> String {
    let answer = browser.log_in_at(page, "alice", PASSWORD).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(browser.token(), "", "nobody is in yet");
    assert!(answer.text().contains("Second step"), "{}", answer.text());
    answer.field("second")
}

async fn amr(browser: &mut Browser) -> serde_json::Value {
    browser.fetch("/.doorward/session").await.json()["amr"].clone()
}

#[tokio::test]
async fn with_a_second_factor_the_password_lets_nobody_in_and_a_code_does() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut alice = logged_in(&proxy, "alice").await;
    let mut other = logged_in(&proxy, "alice").await;
    let me = alice.fetch("/.doorward/session").await.json();
    let (totp, _) = enrol(&mut alice, &proxy).await;
    assert_eq!(alice.fetch("/").await.status, 200, "she goes on");
    assert_eq!(other.fetch("/").await.status, 401, "elsewhere she is out");
    let event = proxy.audited("second_factor_changed").await;
    assert_eq!(
        (&event["change"], &event["ended"]),
        (&json!("enabled"), &json!(1))
    );
    assert_ne!(event["sid"], me["sid"]);
    assert_eq!(amr(&mut alice).await, json!(["pwd"]), "it is no new login");

    let before = app.requests().len();
    let mut browser = proxy.browser();
    let state = half_way(&mut browser, "/wiki?a=1").await;
    assert_eq!(browser.fetch("/").await.status, 401);
    assert_eq!(app.requests().len(), before);
    let answer = second(&mut browser, &state, &code(&totp, &proxy)).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/wiki?a=1")
    );
    assert_eq!(browser.fetch("/").await.status, 200);
    assert_eq!(amr(&mut browser).await, json!(["pwd", "otp", "mfa"]));
    assert_eq!(
        logged_in(&proxy, "bob").await.fetch("/").await.status,
        200,
        "bob has none"
    );

    let kept = fs::read_to_string(proxy.path("users.toml")).unwrap();
    assert!(
        kept.contains("totp = ") && !kept.contains(&totp.secret().to_base32()),
        "{kept}"
    );
}

#[tokio::test]
async fn a_code_is_good_once_on_whichever_node_and_after_a_restart_too() {
    let app = app().await;
    let first = proxy().app(&app.url()).embedded().start();
    let mut alice = logged_in(&first, "alice").await;
    let (totp, _) = enrol(&mut alice, &first).await;
    let one = code(&totp, &first);
    let mut browser = first.browser();
    let state = half_way(&mut browser, "/").await;
    assert_eq!(second(&mut browser, &state, &one).await.status, 303);
    let mut thief = first.browser();
    let state = half_way(&mut thief, "/").await;
    let answer = second(&mut thief, &state, &one).await;
    assert_eq!(answer.status, 401);
    assert!(
        answer.text().contains("has been used already"),
        "{}",
        answer.text()
    );

    let (folder, clock) = first.stop().await;
    let again = proxy()
        .app(&app.url())
        .embedded()
        .after(folder, clock)
        .start();
    let mut thief = again.browser();
    let state = half_way(&mut thief, "/").await;
    assert_eq!(second(&mut thief, &state, &one).await.status, 401);
    assert_eq!(thief.token(), "");
    // Nor is the one before it; the next one is.
    let before = totp.generate(again.clock.now().as_secs() - 30).to_string();
    assert_eq!(second(&mut thief, &state, &before).await.status, 401);
    again.clock.advance(STEP);
    assert_eq!(
        second(&mut thief, &state, &code(&totp, &again))
            .await
            .status,
        303
    );
}

#[tokio::test]
async fn wrong_codes_and_wrong_passwords_have_the_same_few_attempts() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .with("provider", "max_attempts = 3")
        .start();
    let mut alice = logged_in(&proxy, "alice").await;
    let (totp, codes) = enrol(&mut alice, &proxy).await;
    let mut thief = proxy.browser();
    let mut state = half_way(&mut thief, "/").await;
    for _ in 0..2 {
        let answer = second(&mut thief, &state, &wrong_code(&totp, &proxy)).await;
        assert_eq!(answer.status, 401);
        // The password once more gives nothing back.
        thief.jar.clear();
        state = half_way(&mut thief, "/").await;
    }
    let answer = second(&mut thief, &state, "not even a code").await;
    assert_eq!(answer.status, 401);
    for right in [&code(&totp, &proxy), &codes[0]] {
        let answer = second(&mut thief, &state, right).await;
        assert_eq!(answer.status, 429, "{}", answer.text());
        assert!(!answer.header("retry-after").is_empty());
    }
    assert_eq!(thief.token(), "");
    let mut another = proxy.browser();
    assert_eq!(another.log_in_at("/", "alice", PASSWORD).await.status, 429);
    assert_eq!(
        proxy.audited_times("second_factor_failed", 3).await[0]["user"],
        "alice"
    );
    proxy.audited_times("login_throttled", 3).await;
}

#[tokio::test]
async fn the_way_from_one_step_to_the_other_is_short_and_for_one_browser() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut alice = logged_in(&proxy, "alice").await;
    let (totp, _) = enrol(&mut alice, &proxy).await;
    let mut browser = proxy.browser();
    let state = half_way(&mut browser, "/").await;
    let mut other = proxy.browser();
    other.open("/.doorward/login").await;
    for forged in [
        state.clone(),
        String::new(),
        "A".repeat(200),
        "A".repeat(9000),
    ] {
        let answer = second(&mut other, &forged, &code(&totp, &proxy)).await;
        assert_eq!((answer.status.as_u16(), other.token()), (400, ""));
        assert!(
            answer.text().contains("name=\"password\""),
            "from the beginning"
        );
    }
    // A form of the first step is none of the second.
    let first = other.follow("/").await.field("state");
    assert_eq!(
        second(&mut other, &first, &code(&totp, &proxy))
            .await
            .status,
        400
    );

    proxy.clock.advance(Duration::from_secs(299));
    assert_eq!(
        second(&mut browser, &state, &wrong_code(&totp, &proxy))
            .await
            .status,
        401
    );
    proxy.clock.advance(Duration::from_secs(1));
    assert_eq!(
        second(&mut browser, &state, &code(&totp, &proxy))
            .await
            .status,
        400
    );
    assert_eq!(browser.token(), "");

    // A password that is no longer the user's is worth nothing, however far it has come.
    let state = half_way(&mut browser, "/").await;
    let next = doorward::login::NewPassword::choose("alice", "a horse of another colour").unwrap();
    UserFile::set_password(&proxy.path("users.toml"), "alice", &next).unwrap();
    let answer = second(&mut browser, &state, &code(&totp, &proxy)).await;
    assert_eq!((answer.status.as_u16(), browser.token()), (400, ""));
}

#[tokio::test]
async fn sessions_that_end_between_the_steps_end_the_login_too() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut alice = logged_in(&proxy, "alice").await;
    let (totp, _) = enrol(&mut alice, &proxy).await;
    let mut browser = proxy.browser();
    let state = half_way(&mut browser, "/").await;
    let subject = doorward::identity::Subject {
        provider: "local".to_owned(),
        id: "alice".to_owned(),
    };
    let reason = doorward::session::EndReason::Revoked;
    proxy.sessions().end_all_of(&subject, reason).await.unwrap();
    let answer = second(&mut browser, &state, &code(&totp, &proxy)).await;
    assert_eq!((answer.status.as_u16(), browser.token()), (400, ""));
}

#[tokio::test]
async fn a_recovery_code_is_good_once_and_new_ones_make_the_old_ones_worthless() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut alice = logged_in(&proxy, "alice").await;
    let (totp, codes) = enrol(&mut alice, &proxy).await;
    let mut browser = proxy.browser();
    let state = half_way(&mut browser, "/").await;
    let typed = codes[3].to_uppercase().replace('-', " ");
    assert_eq!(second(&mut browser, &state, &typed).await.status, 303);
    assert_eq!(amr(&mut browser).await, json!(["pwd", "mfa"]));
    let event = proxy.audited("recovery_code_used").await;
    assert_eq!(
        (&event["user"], &event["left"]),
        (&json!("alice"), &json!(9))
    );
    assert_eq!(
        alice.fetch("/").await.status,
        200,
        "nobody is logged out for it"
    );
    let mut thief = proxy.browser();
    let state = half_way(&mut thief, "/").await;
    assert_eq!(second(&mut thief, &state, &codes[3]).await.status, 401);
    // The list names none of them.
    let kept = fs::read_to_string(proxy.path("users.toml")).unwrap();
    assert!(codes.iter().all(|code| !kept.contains(code.as_str())));
    let folder = proxy.folder.path();
    let (said, _) = cli(folder, &["user", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(listed[0]["recovery_codes"], 9);

    let page = browser.open(PAGE).await;
    assert!(
        page.text().contains("9 recovery codes left"),
        "{}",
        page.text()
    );
    let form = [
        ("token", &*page.field("token")),
        ("do", "codes"),
        ("code", &*code(&totp, &proxy)),
    ];
    let answer = browser.submit(PAGE, &form).await;
    let new = recovery_codes(&answer);
    assert_eq!(new.len(), 10, "{}", answer.text());
    assert_eq!(second(&mut thief, &state, &codes[4]).await.status, 401);
    assert_eq!(second(&mut thief, &state, &new[4]).await.status, 303);
}

/// Whoever has seen it sends it at the same moment, not after.
#[tokio::test]
async fn of_many_who_send_one_code_at_once_one_is_let_in() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).workers(2).start();
    let mut alice = logged_in(&proxy, "alice").await;
    let (totp, codes) = enrol(&mut alice, &proxy).await;
    for code in [code(&totp, &proxy), codes[0].clone()] {
        let mut all = Vec::new();
        for _ in 0..4 {
            let mut browser = proxy.browser();
            let state = half_way(&mut browser, "/").await;
            all.push((browser, state));
        }
        let sent = all.iter_mut().map(|(browser, state)| {
            let code = &code;
            async move { second(browser, state, code).await.status.as_u16() }
        });
        let mut statuses = futures_util::future::join_all(sent).await;
        statuses.sort_unstable();
        assert_eq!(statuses, [303, 401, 401, 401]);
        let mut in_by_it = 0;
        for (browser, _) in &mut all {
            in_by_it += usize::from(browser.fetch("/").await.status == 200);
        }
        assert_eq!(in_by_it, 1);
    }
}

/// Where nothing can be written, a code that would stay good is no good.
#[tokio::test]
async fn a_recovery_code_that_cannot_be_used_up_lets_nobody_in() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut alice = logged_in(&proxy, "alice").await;
    let (totp, codes) = enrol(&mut alice, &proxy).await;
    let (path, long) = (proxy.path("users.toml"), proxy.path(&"u".repeat(240)));
    fs::rename(&path, &long).unwrap();
    std::os::unix::fs::symlink(&long, &path).unwrap();
    let mut browser = proxy.browser();
    let state = half_way(&mut browser, "/").await;
    let answer = second(&mut browser, &state, &codes[0]).await;
    assert_eq!((answer.status.as_u16(), browser.token()), (503, ""));
    assert_eq!(
        second(&mut browser, &state, &code(&totp, &proxy))
            .await
            .status,
        303
    );
}

#[tokio::test]
async fn turning_it_off_takes_the_password_and_a_code() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut alice = logged_in(&proxy, "alice").await;
    let (totp, codes) = enrol(&mut alice, &proxy).await;
    let mut other = proxy.browser();
    let state = half_way(&mut other, "/").await;
    assert_eq!(
        second(&mut other, &state, &code(&totp, &proxy))
            .await
            .status,
        303
    );
    proxy.clock.advance(STEP);
    let token = alice.open(PAGE).await.field("token");
    let wrong = wrong_code(&totp, &proxy);
    for (password, code) in [
        ("not hers", codes[0].as_str()),
        (PASSWORD, &wrong),
        (PASSWORD, ""),
    ] {
        let form = [
            ("token", token.as_str()),
            ("do", "disable"),
            ("password", password),
            ("code", code),
        ];
        let answer = alice.submit(PAGE, &form).await;
        assert_eq!(answer.status, 401, "{}", answer.text());
    }
    let form = [
        ("token", ""),
        ("do", "disable"),
        ("password", PASSWORD),
        ("code", &codes[0]),
    ];
    assert_eq!(alice.submit(PAGE, &form).await.status, 403);
    let form = [
        ("token", token.as_str()),
        ("do", "disable"),
        ("password", PASSWORD),
        ("code", &codes[0]),
    ];
    let answer = alice.submit(PAGE, &form).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/.doorward/two-factor?off"),
        "{}",
        answer.text()
    );
    assert_eq!(alice.fetch("/").await.status, 200);
    assert_eq!(other.fetch("/").await.status, 401);
    let kept = fs::read_to_string(proxy.path("users.toml")).unwrap();
    assert!(
        !kept.contains("totp") && !kept.contains("recovery_codes"),
        "{kept}"
    );
    proxy.browser().log_in("alice").await;
    // The watch of the file has nothing to add.
    UserFile::remove(&proxy.path("users.toml"), "bob").unwrap();
    let mut bob = proxy.browser();
    eventually("bob is gone", async || {
        bob.log_in_at("/", "bob", PASSWORD).await.status != 303
    })
    .await;
    assert_eq!(alice.fetch("/").await.status, 200);
}

#[tokio::test]
async fn turning_it_on_takes_a_recent_login_and_a_first_code() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut alice = logged_in(&proxy, "alice").await;
    proxy.clock.advance(Duration::from_secs(599));
    let page = alice.open(PAGE).await;
    let totp = scanned(&page);
    let (token, state) = (page.field("token"), page.field("state"));
    let wrong = wrong_code(&totp, &proxy);
    let form = |state: &str, code: &str| {
        [
            ("token", token.clone()),
            ("state", state.to_owned()),
            ("do", "enable".to_owned()),
            ("code", code.to_owned()),
        ]
    };
    let send = async |browser: &mut Browser, state: &str, code: &str| {
        let form = form(state, code);
        let form = form.each_ref().map(|(name, value)| (*name, value.as_str()));
        browser.submit(PAGE, &form).await
    };
    let answer = send(&mut alice, &state, &wrong).await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        scanned(&answer).secret().to_base32(),
        totp.secret().to_base32(),
        "the same to scan"
    );
    assert_eq!(send(&mut alice, "", &code(&totp, &proxy)).await.status, 400);
    proxy.clock.advance(Duration::from_secs(1));
    for answer in [
        send(&mut alice, &state, &code(&totp, &proxy)).await,
        alice.open(PAGE).await,
    ] {
        assert_eq!(
            (answer.status.as_u16(), answer.header("location")),
            (
                303,
                "/.doorward/login?return_to=%2F.doorward%2Ftwo-factor&provider=local&prompt=login"
            )
        );
    }
    assert!(
        !fs::read_to_string(proxy.path("users.toml"))
            .unwrap()
            .contains("totp")
    );
    // A login of now, in the same session.
    let answer = alice.log_in_at(PAGE, "alice", PASSWORD).await;
    assert_eq!(answer.header("location"), PAGE);
    enrol(&mut alice, &proxy).await;
}

#[tokio::test]
async fn where_it_is_required_who_has_none_gets_one_before_anything_else() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .with("provider", "second_factor = \"required\"")
        .start();
    let mut alice = proxy.browser();
    let page = alice.log_in_at("/wiki", "alice", PASSWORD).await;
    assert_eq!(page.status, 200);
    assert_eq!(alice.token(), "");
    assert_eq!(alice.fetch("/").await.status, 401);
    let totp = scanned(&page);
    let wrong = second(
        &mut alice,
        &page.field("second"),
        &wrong_code(&totp, &proxy),
    )
    .await;
    assert_eq!(wrong.status, 401);
    assert_eq!(
        scanned(&wrong).secret().to_base32(),
        totp.secret().to_base32()
    );
    let done = second(&mut alice, &wrong.field("second"), &code(&totp, &proxy)).await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(recovery_codes(&done).len(), 10);
    assert!(done.text().contains("href=\"&#x2f;wiki\""));
    assert_eq!(alice.fetch("/").await.status, 200);
    assert_eq!(amr(&mut alice).await, json!(["pwd", "otp", "mfa"]));
    // What was shown to another is good for nothing now.
    let mut late = proxy.browser();
    let state = half_way(&mut late, "/").await;
    assert_eq!(
        second(&mut late, &state, &code(&totp, &proxy)).await.status,
        401,
        "used"
    );
    proxy.clock.advance(STEP);
    assert_eq!(
        second(&mut late, &state, &code(&totp, &proxy)).await.status,
        303
    );
    assert!(
        app.requests()
            .iter()
            .all(|request| request.one("remote-user") == "alice")
    );
}

#[tokio::test]
async fn two_who_are_led_to_set_it_up_do_not_overwrite_each_other() {
    let app = app().await;
    let proxy = proxy()
        .app(&app.url())
        .with("provider", "second_factor = \"required\"")
        .start();
    let (mut one, mut two) = (proxy.browser(), proxy.browser());
    let first = one.log_in_at("/", "alice", PASSWORD).await;
    let other = two.log_in_at("/", "alice", PASSWORD).await;
    let (totp, late) = (scanned(&first), scanned(&other));
    let done = second(&mut one, &first.field("second"), &code(&totp, &proxy)).await;
    assert_eq!(done.status, 200);
    proxy.clock.advance(STEP);
    let answer = second(&mut two, &other.field("second"), &code(&late, &proxy)).await;
    assert_eq!((answer.status.as_u16(), two.token()), (400, ""));
    assert_eq!(one.fetch("/").await.status, 200);
}

#[tokio::test]
async fn an_administrator_takes_it_away_and_the_sessions_with_it() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut alice = logged_in(&proxy, "alice").await;
    let (totp, _) = enrol(&mut alice, &proxy).await;
    let mut other = proxy.browser();
    let state = half_way(&mut other, "/").await;
    let answer = second(&mut other, &state, &code(&totp, &proxy)).await;
    assert_eq!(answer.status, 303);
    let folder = proxy.folder.path();
    let (said, _) = cli(folder, &["user", "list"]);
    assert!(said.contains("on, 10 codes"), "{said}");
    let (said, error) = cli(folder, &["user", "reset-2fa", "alice"]);
    assert!(
        said.starts_with("Took the second factor of alice away."),
        "{error}"
    );
    for browser in [&mut alice, &mut other] {
        eventually("she is out", async || {
            browser.fetch("/").await.status == 401
        })
        .await;
    }
    proxy.browser().log_in("alice").await;
}

#[tokio::test]
async fn under_a_secret_that_is_lost_nobody_gets_in() {
    let app = app().await;
    let first = proxy().app(&app.url()).start();
    let mut alice = logged_in(&first, "alice").await;
    let (totp, codes) = enrol(&mut alice, &first).await;
    let (folder, clock) = first.stop().await;
    fs::write(folder.path().join("session.key"), "6f".repeat(32)).unwrap();
    let again = proxy()
        .app(&app.url())
        .after(Arc::clone(&folder), clock)
        .start();
    for right in [&code(&totp, &again), &codes[0]] {
        let mut browser = again.browser();
        let state = half_way(&mut browser, "/").await;
        let answer = second(&mut browser, &state, right).await;
        assert_eq!((answer.status.as_u16(), browser.token()), (503, ""));
    }
}

#[tokio::test]
async fn a_code_after_a_rotation_seals_the_secret_anew_and_the_old_one_can_go() {
    let app = app().await;
    let (node, alice, totp, codes) = rotated(&app).await;
    let before = kept(&node);
    let mut browser = node.browser();
    let state = half_way(&mut browser, "/").await;
    assert_eq!(kept(&node), before, "a password alone changes nothing");
    let wrong = second(&mut browser, &state, &wrong_code(&totp, &node)).await;
    assert_eq!((wrong.status.as_u16(), kept(&node)), (401, before.clone()));

    // Where the file cannot be written it stays, and the login goes on.
    let (path, long) = (node.path("users.toml"), node.path(&"u".repeat(240)));
    fs::rename(&path, &long).unwrap();
    std::os::unix::fs::symlink(&long, &path).unwrap();
    let right = second(&mut browser, &state, &code(&totp, &node)).await;
    assert_eq!((right.status.as_u16(), kept(&node)), (303, before.clone()));
    fs::rename(&long, &path).unwrap();
    node.clock.advance(STEP);

    let mut browser = node.browser();
    let state = half_way(&mut browser, "/").await;
    let right = second(&mut browser, &state, &code(&totp, &node)).await;
    assert_eq!(right.status, 303, "{}", right.text());
    assert_ne!(kept(&node), before);
    still_in(&node, [&alice, &browser]).await;

    let after = kept(&node);
    let last = retired(node, &app).await;
    let mut browser = last.browser();
    let state = half_way(&mut browser, "/").await;
    let right = second(&mut browser, &state, &code(&totp, &last)).await;
    assert_eq!(right.status, 303, "{}", right.text());
    assert_eq!(kept(&last), after, "and sealed once");
    let mut browser = last.browser();
    let state = half_way(&mut browser, "/").await;
    assert_eq!(second(&mut browser, &state, &codes[0]).await.status, 303);
}

/// As [`a_code_after_a_rotation_seals_the_secret_anew_and_the_old_one_can_go`], for who has lost the app.
#[tokio::test]
async fn a_recovery_code_after_a_rotation_seals_the_secret_anew_too() {
    let app = app().await;
    let (node, alice, totp, codes) = rotated(&app).await;
    let before = sealed(&node);
    let mut browser = node.browser();
    let state = half_way(&mut browser, "/").await;
    let right = second(&mut browser, &state, &codes[0]).await;
    assert_eq!(right.status, 303, "{}", right.text());
    let after = sealed(&node);
    assert_ne!(after, before);
    still_in(&node, [&alice, &browser]).await;
    let mut browser = node.browser();
    let state = half_way(&mut browser, "/").await;
    let used = second(&mut browser, &state, &codes[0]).await;
    assert_eq!(used.status, 401, "it was good once");
    assert_eq!(
        second(&mut browser, &state, &codes[1]).await.status,
        303,
        "as the others are"
    );
    assert_eq!(sealed(&node), after, "and sealed once");

    let last = retired(node, &app).await;
    let mut browser = last.browser();
    let state = half_way(&mut browser, "/").await;
    let right = second(&mut browser, &state, &code(&totp, &last)).await;
    assert_eq!(right.status, 303, "{}", right.text());
}

const NEW: &str = "{ file = \"new.key\" }";

/// A proxy whose secrets have rotated since Alice, who is logged in, set up her second step.
async fn rotated(app: &Upstream) -> (Proxy, Browser, Totp, Vec<String>) {
    let first = builder(app).embedded().start();
    let mut alice = logged_in(&first, "alice").await;
    let (totp, codes) = enrol(&mut alice, &first).await;
    let (folder, clock) = first.stop().await;
    let key = folder.path().join("new.key");
    fs::write(&key, "7a".repeat(32)).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let both = format!("{NEW}, {{ file = \"session.key\" }}");
    let node = builder(app).embedded().secrets(&both);
    (node.after(folder, clock).start(), alice, totp, codes)
}

/// The same with the new secret alone.
async fn retired(node: Proxy, app: &Upstream) -> Proxy {
    let (folder, clock) = node.stop().await;
    clock.advance(STEP);
    builder(app).secrets(NEW).after(folder, clock).start()
}

fn kept(proxy: &Proxy) -> String {
    fs::read_to_string(proxy.path("users.toml")).unwrap()
}

/// What the users file has of Alice's app.
fn sealed(proxy: &Proxy) -> String {
    let users = kept(proxy);
    let line = users.lines().find(|line| line.starts_with("totp = "));
    line.unwrap().to_owned()
}

/// Once the proxy has seen what the users file says now.
async fn still_in(node: &Proxy, browsers: [&Browser; 2]) {
    let mut bob = logged_in(node, "bob").await;
    // The look at the file that sees him gone has seen the new seal too.
    UserFile::remove(&node.path("users.toml"), "bob").unwrap();
    eventually("the end", async || bob.fetch("/").await.status == 401).await;
    for known in browsers {
        let mut alice = node.browser();
        alice.jar.clone_from(&known.jar);
        assert_eq!(alice.fetch("/").await.status, 200, "she is still in");
    }
}

#[tokio::test]
async fn who_logs_in_elsewhere_is_told_where_the_second_step_is() {
    let bench = Bench::start().await;
    let mut carol = bench.proxy.browser();
    assert_eq!(bench.log_in(&mut carol).await.status, 303);
    let page = carol.open(PAGE).await;
    assert_eq!(page.status, 200);
    assert!(!page.text().contains("<form"), "{}", page.text());
    let mut nobody = bench.proxy.browser();
    let location = nobody.open(PAGE).await.header("location").to_owned();
    assert_eq!(
        location,
        "/.doorward/login?return_to=%2F.doorward%2Ftwo-factor"
    );
}

#[tokio::test]
async fn a_users_file_with_a_second_factor_that_is_none_is_refused_with_its_place() {
    let app = app().await;
    let proxy = builder(&app).start();
    let path = proxy.path("users.toml");
    let good = fs::read_to_string(&path).unwrap();
    for (line, told) in [
        ("totp = \"JBSWY3DPEHPK3PXP\"", "expected a sealed secret"),
        ("recovery_codes = [\"abc\"]", "expected `totp` beside"),
    ] {
        fs::write(&path, format!("{good}{line}\n")).unwrap();
        let (_, error) = cli(proxy.folder.path(), &["user", "list"]);
        let lines = good.lines().count() + 1;
        assert!(
            error.contains(told) && error.contains(&format!("users.toml:{lines}:")),
            "{error}"
        );
    }
    assert_eq!(
        logged_in(&proxy, "alice").await.fetch("/").await.status,
        200,
        "the users from before stay"
    );
}

fn builder(app: &Upstream) -> ProxyBuilder {
    proxy().app(&app.url())
}

/// What a command says, on both outputs.
fn cli(folder: &std::path::Path, words: &[&str]) -> (String, String) {
    let config = ["--config", "doorward.toml"];
    let output = doorward(folder, &[words, &config].concat(), "");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

/// In a real browser, and what its pages look like.
#[tokio::test]
async fn a_person_sets_up_a_second_step_and_logs_in_with_it() {
    let app = upstream(|_: &Recorded| {
        let page = "<!doctype html><title>App</title><h1>Hello</h1>";
        Reply::with(200, "content-type: text/html\r\n", page)
    })
    .await;
    let proxy = proxy().app(&app.url()).start();
    let authority = proxy.path("site.pem");
    let browser = Chromium::trusting(proxy.folder.path(), &authority, true).await;
    let at = |path: &str| format!("https://localhost:{}{path}", proxy.addr.port());
    let password = async |browser: &Chromium| {
        browser.fill("input[name=user]", "alice").await;
        browser.fill("input[name=password]", PASSWORD).await;
        browser.click("button[type=submit]").await;
    };
    browser.open(&at("/.doorward/password")).await;
    browser.until_heading("Log in").await;
    password(&browser).await;
    browser.until("input[autocomplete=new-password]").await;
    look(&browser, "password").await;
    assert_eq!(unreadable(&browser).await, "");

    browser.open(&at(PAGE)).await;
    browser.until("svg.qr").await;
    look(&browser, "two-factor").await;
    assert_eq!(unreadable(&browser).await, "");
    let secret = browser.text("p.hint code").await.replace(' ', "");
    let secret = Secret::try_from_base32(secret).unwrap();
    let totp = Builder::new().with_secret(secret).build().unwrap();
    browser.fill("input[name=code]", &code(&totp, &proxy)).await;
    browser.click("button[value=enable]").await;
    browser.until("li code").await;
    look(&browser, "recovery-codes").await;
    assert_eq!(unreadable(&browser).await, "");

    browser.open(&at("/.doorward/logout")).await;
    browser.click("form button").await;
    browser.until_heading("You are logged out").await;
    proxy.clock.advance(STEP);
    browser.open(&at("/wiki")).await;
    browser.until_heading("Log in").await;
    password(&browser).await;
    browser.until("input[autocomplete=one-time-code]").await;
    look(&browser, "second-step").await;
    assert_eq!(unreadable(&browser).await, "");
    assert!(
        app.requests().is_empty(),
        "the password alone opens nothing"
    );
    browser.fill("input[name=code]", &code(&totp, &proxy)).await;
    browser.click("button[type=submit]").await;
    browser.until_heading("Hello").await;
    assert_eq!(browser.url().await, at("/wiki"));
    assert_eq!(app.last().one("remote-user"), "alice");
    browser.close().await;
}
