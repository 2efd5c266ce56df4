//! The end of sessions that began at a provider: the provider says so, or the user logs out here and there.

use http::Method;

use crate::oidc::{Bench, CLAIMS};
use crate::support::{Answer, Asked, Browser, Key, Sign};

const PLACE: &str = "/.doorward/backchannel-logout/corp";

/// Logs in within a session of the provider.
async fn logged_in(bench: &Bench, session: &str) -> Browser {
    let claims = format!(r#"{{"sid": "{session}"}}"#);
    bench.provider.tells(Sign::With(Key::First), &claims, "{}");
    let mut browser = bench.proxy.browser();
    let answer = bench.log_in(&mut browser).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    bench.provider.tells(Sign::With(Key::First), "{}", "{}");
    browser
}

/// As the provider's server tells: it has no cookie, and says nothing of where it is.
async fn told(bench: &Bench, token: &str) -> Answer {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("logout_token", token)
        .finish();
    let fields = [("content-type", "application/x-www-form-urlencoded")];
    let mut server = bench.proxy.browser();
    server.request(Method::POST, PLACE, &fields, &form).await
}

async fn is_in(browser: &mut Browser) -> bool {
    browser.fetch("/").await.status == 200
}

#[tokio::test]
async fn the_provider_ends_the_sessions_that_began_in_one_of_its_own() {
    for claims in ["{}", r#"{"sub": null}"#] {
        let bench = Bench::start().await;
        let mut first = logged_in(&bench, "first").await;
        let mut also_first = logged_in(&bench, "first").await;
        let mut second = logged_in(&bench, "second").await;
        let answer = told(&bench, &bench.provider.logout_token(claims)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.json()["ended"], 2);
        assert!(!is_in(&mut first).await && !is_in(&mut also_first).await);
        assert!(is_in(&mut second).await, "{claims}");
        let event = bench.proxy.audited("provider_logout").await;
        assert_eq!(
            (&event["provider"], &event["ended"]),
            (&"corp".into(), &2.into())
        );
        let ended = bench.proxy.audited("session_ended").await;
        assert_eq!(ended["reason"], "provider_logout");
    }
}

#[tokio::test]
async fn the_provider_ends_all_sessions_of_a_user() {
    let bench = Bench::start().await;
    let mut first = logged_in(&bench, "first").await;
    let mut second = logged_in(&bench, "second").await;
    let mut other = bench.proxy.browser();
    let other_user = r#"{"sub": "other", "sid": "first"}"#;
    bench
        .provider
        .tells(Sign::With(Key::First), other_user, "{}");
    assert_eq!(bench.log_in(&mut other).await.status, 303);
    bench.provider.tells(Sign::With(Key::First), "{}", "{}");
    let token = bench.provider.logout_token(r#"{"sid": null}"#);
    assert_eq!(told(&bench, &token).await.status, 200);
    assert!(!is_in(&mut first).await && !is_in(&mut second).await);
    assert!(is_in(&mut other).await, "another user of the same name");
    // A session of the provider is looked for among its user's only.
    let token = bench.provider.logout_token("{}");
    assert_eq!(told(&bench, &token).await.json()["ended"], 0);
    assert!(is_in(&mut other).await);
}

#[tokio::test]
async fn nobody_else_ends_a_session() {
    let bench = Bench::start().await;
    let mut browser = logged_in(&bench, "first").await;
    for (why, claims) in [
        ("another issuer", r#"{"iss": "https://evil.example"}"#),
        ("another client", r#"{"aud": "other"}"#),
        ("expired", r#"{"exp": 1799999939}"#),
        ("no end", r#"{"exp": null}"#),
        ("old", r#"{"iat": 1799999819}"#),
        ("from the future", r#"{"iat": 1800000061}"#),
        ("a nonce, so an ID token", r#"{"nonce": "n"}"#),
        ("no event", r#"{"events": {}}"#),
        (
            "another event",
            r#"{"events": {"http://schemas.openid.net/event/other": {}}}"#,
        ),
        (
            "an event that is no object",
            r#"{"events": {"http://schemas.openid.net/event/backchannel-logout": 1}}"#,
        ),
        ("no name", r#"{"jti": null}"#),
        ("nobody", r#"{"sub": null, "sid": null}"#),
        ("a session that is a number", r#"{"sid": 7}"#),
    ] {
        let answer = told(&bench, &bench.provider.logout_token(claims)).await;
        assert_eq!(answer.status, 400, "{why}");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert!(is_in(&mut browser).await, "{why}");
    }
    for (why, sign, header) in [
        ("no signature", Sign::Not, "{}"),
        ("the public key", Sign::Hmac, "{}"),
        ("another key", Sign::With(Key::Second), "{}"),
        (
            "a key that is not published",
            Sign::With(Key::Second),
            r#"{"kid": "new"}"#,
        ),
        (
            "a token of another type",
            Sign::With(Key::First),
            r#"{"typ": "at+jwt"}"#,
        ),
    ] {
        bench.provider.tells(sign, "{}", header);
        let answer = told(&bench, &bench.provider.logout_token("{}")).await;
        assert_eq!(answer.status, 400, "{why}");
        assert!(is_in(&mut browser).await, "{why}");
    }
    bench.provider.tells(Sign::With(Key::First), "{}", "{}");
    for garbage in ["", "a.b.c", "null"] {
        assert_eq!(told(&bench, garbage).await.status, 400);
    }
    let mut server = bench.proxy.browser();
    assert_eq!(server.open(PLACE).await.status, 405);
    let local = "/.doorward/backchannel-logout/local";
    let posted = server.request(Method::POST, local, &[], "").await;
    assert_eq!(posted.status, 404);
    assert!(is_in(&mut browser).await);
    let event = bench.proxy.audited("provider_logout_refused").await;
    assert_eq!(event["provider"], "corp");
}

#[tokio::test]
async fn a_logout_token_is_good_once() {
    let bench = Bench::start().await;
    let token = bench.provider.logout_token(r#"{"sid": null}"#);
    assert_eq!(told(&bench, &token).await.status, 200);
    bench.proxy.clock.advance(std::time::Duration::from_secs(1));
    let mut browser = logged_in(&bench, "second").await;
    assert_eq!(told(&bench, &token).await.status, 400);
    assert!(is_in(&mut browser).await, "a login after the logout");
}

#[tokio::test]
async fn a_login_that_was_under_way_ends_with_the_session_that_it_was_in() {
    let bench = Bench::start().await;
    bench
        .provider
        .tells(Sign::With(Key::First), r#"{"sid": "first"}"#, "{}");
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "/").await;
    let back = bench.provider.approve(&there);
    assert_eq!(
        told(&bench, &bench.provider.logout_token("{}"))
            .await
            .status,
        200
    );
    let answer = browser.open(&back).await;
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert_eq!(browser.token(), "");
    assert_eq!(bench.proxy.sessions().stored().await, Ok(0));
}

#[tokio::test]
async fn who_logs_out_here_is_sent_to_log_out_there() {
    let keys = format!("{CLAIMS}\nlogout = \"provider\"");
    let bench = Bench::with(&keys, |proxy| proxy).await;
    let mut browser = logged_in(&bench, "first").await;
    let token = browser.token().to_owned();
    let answer = browser.log_out().await;
    assert_eq!(answer.status, 303);
    assert_eq!(browser.token(), "");
    let there = Asked::of(answer.header("location"));
    assert!(
        answer
            .header("location")
            .starts_with(&format!("{}/end?", bench.provider.issuer()))
    );
    assert_eq!(there.get("client_id"), "doorward");
    let back = format!("https://{}/.doorward/logout", browser.authority());
    assert_eq!(there.get("post_logout_redirect_uri"), back);
    let hint: Vec<&str> = there.get("id_token_hint").split('.').collect();
    assert_eq!(hint.len(), 3);
    // It has ended here first, whatever becomes of the rest.
    browser.jar.insert("__Host-sid".to_owned(), token);
    assert!(!is_in(&mut browser).await);
    let page = browser.open("/.doorward/logout").await;
    assert!(page.text().contains("You are logged out"));
}

#[tokio::test]
async fn where_it_is_not_asked_for_a_logout_is_ours_alone() {
    let bench = Bench::start().await;
    let mut browser = logged_in(&bench, "first").await;
    let answer = browser.log_out().await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("You are logged out"));
}
