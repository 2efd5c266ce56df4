//! The end of sessions that began at a provider: the provider says so, or the user logs out here and there.

use std::sync::Arc;

use doorward::clock::Clock;
use http::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::oidc::{Bench, CLAIMS};
use crate::support::{
    Answer, Asked, Browser, Chromium, Key, PASSWORD, Process, Provider, Reply, START, Sign,
    Upstream, come_back, eventually, proxy, self_signed, upstream,
};

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

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_logout_that_the_store_did_not_take_may_be_told_again() {
    let server = crate::support::RedisProcess::own(&[]).await;
    let url = format!("redis://127.0.0.1:{}", server.port);
    let store = format!("backend = \"redis\"\nurl = \"{url}\"\ntimeout = \"500ms\"");
    let bench = Bench::with(CLAIMS, |proxy| proxy.store(store)).await;
    let mut browser = logged_in(&bench, "one").await;
    let token = bench.provider.logout_token(r#"{"sid": "one"}"#);
    let frozen = server.freeze().await;
    assert_eq!(told(&bench, &token).await.status, 503);
    drop(frozen);
    eventually("the store is there again", async || {
        let answer = told(&bench, &token).await;
        assert_ne!(answer.status, 400, "it was never carried out");
        answer.status == 200
    })
    .await;
    assert!(!is_in(&mut browser).await);
    assert_eq!(told(&bench, &token).await.status, 400, "it was by now");
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

/// The places that forms of a page may lead to.
async fn forms_lead_to(browser: &mut Browser, place: &str) -> String {
    let page = browser.open(place).await;
    assert_eq!(page.status, 200, "{place}");
    let policy = page.header("content-security-policy").to_owned();
    let found = policy
        .split("; ")
        .find_map(|part| part.strip_prefix("form-action "));
    found.unwrap().to_owned()
}

#[tokio::test]
async fn pages_to_log_out_at_name_a_provider_without_tls_where_that_is_where_they_lead() {
    let there = format!("{CLAIMS}\nlogout = \"provider\"");
    for (keys, leads_there) in [(there.as_str(), true), (CLAIMS, false)] {
        let bench = Bench::with(keys, |proxy| proxy).await;
        let mut browser = logged_in(&bench, "first").await;
        let issuer = bench.provider.issuer();
        let expected = if leads_there {
            format!("'self' https: {issuer}")
        } else {
            "'self' https:".to_owned()
        };
        for place in ["/.doorward/logout", "/.doorward/login"] {
            assert_eq!(
                forms_lead_to(&mut browser, place).await,
                expected,
                "{place}"
            );
        }
        // Who has not logged in there does not leave there.
        let mut alice = bench.proxy.browser();
        let form = alice.open("/.doorward/login?provider=local").await;
        let state = form.field("state");
        let fields = [
            ("state", state.as_str()),
            ("user", "alice"),
            ("password", PASSWORD),
        ];
        alice.submit("/.doorward/login", &fields).await;
        let usual = forms_lead_to(&mut alice, "/.doorward/logout").await;
        assert_eq!(usual, "'self' https:");
    }
    // One whose logout is guarded needs no word.
    let provider = Provider::start(&Clock::fixed(START)).await;
    provider.script().document = json!({ "end_session_endpoint": "https://op.example/end" });
    let bench = Bench::of(provider, &there, |proxy| proxy).await;
    let mut browser = logged_in(&bench, "first").await;
    let usual = forms_lead_to(&mut browser, "/.doorward/logout").await;
    assert_eq!(usual, "'self' https:");
}

/// A real browser, before a Doorward that is a process of its own and a provider that is not.
struct Real {
    provider: Provider,
    origin: String,
    browser: Chromium,
    _running: (Process, Upstream, Arc<TempDir>),
}

async fn real(keys: &str) -> Real {
    let provider = Provider::start(&Clock::system()).await;
    let app = upstream(|request| {
        let user = request.one("remote-user");
        let page = format!("<!doctype html><title>App</title><h1>Hello, {user}</h1>");
        Reply::with(200, "content-type: text/html\r\n", page)
    })
    .await;
    let keys = format!("{CLAIMS}\n{keys}");
    let folder = proxy()
        .provider(&provider.section("corp", &keys))
        .app(&app.url())
        .prepare();
    self_signed(folder.path());
    let mut process = Process::start(folder.path(), &["run", "--config", "doorward.toml"]);
    let origin = format!("https://localhost:{}", process.addr().await.port());
    eventually("a provider that is found", async || {
        process.words().contains("a provider was found")
    })
    .await;
    let authority = folder.path().join("certs/ca.pem");
    let browser = Chromium::trusting(folder.path(), &authority, true).await;
    Real {
        provider,
        origin,
        browser,
        _running: (process, app, folder),
    }
}

#[tokio::test]
async fn a_real_browser_goes_on_to_log_out_at_a_provider_without_tls() {
    let real = real("logout = \"provider\"").await;
    let (origin, browser) = (&real.origin, &real.browser);
    for page in ["/.doorward/logout", "/.doorward/login"] {
        let at_login = format!("{origin}/.doorward/login?provider=corp&return_to=%2F");
        browser.open(&at_login).await;
        browser.until_heading("Hello, jane").await;
        browser.open(&format!("{origin}{page}")).await;
        browser.click("form[method=post] button").await;
        browser.until_heading("Logged out there, too").await;
        browser.open(&format!("{origin}/")).await;
        browser.until_heading("Log in").await;
    }
    real.browser.close().await;
}

const FRAME: &str = "/.doorward/frontchannel-logout/corp";

async fn with_frames() -> Bench {
    Bench::with(&format!("{CLAIMS}\nfrontchannel_logout = true"), |proxy| {
        proxy
    })
    .await
}

/// As a browser tells in a frame of another site: without its cookies.
async fn framed(bench: &Bench, place: &str) -> Answer {
    let fields = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "iframe"),
        ("referer", "https://op.example/end"),
    ];
    let mut browser = bench.proxy.browser();
    browser.request(Method::GET, place, &fields, "").await
}

fn frame(issuer: &str, session: &str) -> String {
    come_back(FRAME, &[("iss", issuer), ("sid", session)])
}

#[tokio::test]
async fn a_browser_tells_in_a_frame_which_session_of_the_provider_is_over() {
    let bench = with_frames().await;
    let issuer = bench.provider.issuer();
    let mut first = logged_in(&bench, "first").await;
    let mut also_first = logged_in(&bench, "first").await;
    let mut second = logged_in(&bench, "second").await;
    let answer = framed(&bench, &frame(&issuer, "first")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!is_in(&mut first).await && !is_in(&mut also_first).await);
    assert!(is_in(&mut second).await);
    let event = bench.proxy.audited("provider_logout").await;
    assert_eq!(
        (&event["provider"], &event["ended"]),
        (&"corp".into(), &2.into())
    );
    assert_eq!(
        bench.proxy.audited("session_ended").await["reason"],
        "provider_logout"
    );

    // The provider's page may frame it, and no other; nothing keeps it, and nothing tells whether there was a session.
    let policy = format!("frame-ancestors {issuer}");
    assert!(
        answer.header("content-security-policy").ends_with(&policy),
        "{policy}"
    );
    assert!(
        answer
            .header("content-security-policy")
            .starts_with("default-src 'none'")
    );
    assert_eq!(answer.header("x-frame-options"), "");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    assert!(
        answer.set_cookies().is_empty(),
        "{:?}",
        answer.set_cookies()
    );
    let again = framed(&bench, &frame(&issuer, "first")).await;
    let names = |answer: &Answer| {
        let mut all: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
        all.sort();
        all
    };
    assert_eq!((again.status, again.text()), (answer.status, answer.text()));
    assert_eq!(names(&again), names(&answer));
    let refused = bench.proxy.audited("provider_logout_refused").await;
    assert_eq!(refused["provider"], "corp");
}

#[tokio::test]
async fn a_frame_that_does_not_name_issuer_and_session_ends_nothing() {
    let bench = with_frames().await;
    let issuer = bench.provider.issuer();
    let mut browser = logged_in(&bench, "first").await;
    let whole = frame(&issuer, "first");
    let long = "x".repeat(257);
    let places = [
        FRAME.to_owned(),
        come_back(FRAME, &[("iss", &issuer)]),
        come_back(FRAME, &[("sid", "first")]),
        frame("", "first"),
        frame(&issuer, ""),
        frame(&issuer, "FIRST"),
        frame(&issuer, "fir"),
        frame(&issuer, "first\n"),
        frame(&issuer, &long),
        frame(&format!("{issuer}/"), "first"),
        frame("https://evil.example", "first"),
        format!("{whole}&sid=first"),
        format!("{whole}&iss=x"),
        whole.replace("/corp", "/local"),
        whole.replace("/corp", "/nobody"),
        whole.replace("/corp", ""),
    ];
    for place in &places {
        let answer = framed(&bench, place).await;
        let expected = match place {
            place if !place.starts_with(FRAME) => 404,
            place if place.ends_with("sid=FIRST") || place.ends_with("sid=fir") => 200,
            _ => 400,
        };
        assert_eq!(answer.status, expected, "{place}");
        assert!(is_in(&mut browser).await, "{place}");
    }
    for method in [Method::POST, Method::HEAD, Method::PUT] {
        let fields = [("sec-fetch-site", "same-origin")];
        let mut other = bench.proxy.browser();
        let answer = other.request(method.clone(), &whole, &fields, "").await;
        assert_eq!(answer.status, 405, "{method}");
        assert!(is_in(&mut browser).await, "{method}");
    }
    assert_eq!(framed(&bench, &whole).await.status, 200);
    assert!(!is_in(&mut browser).await);
}

#[tokio::test]
async fn browsers_tell_only_where_the_configuration_says_that_they_may() {
    let bench = Bench::start().await;
    let mut browser = logged_in(&bench, "first").await;
    let answer = framed(&bench, &frame(&bench.provider.issuer(), "first")).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("x-frame-options"), "DENY");
    assert!(is_in(&mut browser).await);
}

#[tokio::test]
async fn a_login_that_was_under_way_ends_with_the_session_that_a_browser_said_is_over() {
    let bench = with_frames().await;
    bench
        .provider
        .tells(Sign::With(Key::First), r#"{"sid": "first"}"#, "{}");
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "/").await;
    let issuer = bench.provider.issuer();
    assert_eq!(framed(&bench, &frame(&issuer, "first")).await.status, 200);
    let back = bench.provider.approve(&there);
    assert_eq!(browser.open(&back).await.status, 409);
    assert!(!is_in(&mut browser).await);
}

#[tokio::test]
async fn however_many_tell_at_once_each_session_ends() {
    let bench = with_frames().await;
    let issuer = bench.provider.issuer();
    let mut browsers = Vec::new();
    for number in 0..8 {
        browsers.push(logged_in(&bench, &format!("s{number}")).await);
    }
    let mut stays = logged_in(&bench, "stays").await;
    let told = (0..40).map(|number| {
        let place = frame(&issuer, &format!("s{}", number % 10));
        let bench = &bench;
        async move { framed(bench, &place).await.status }
    });
    let told = futures_util::future::join_all(told).await;
    assert!(told.iter().all(|status| *status == 200), "{told:?}");
    for browser in &mut browsers {
        assert!(!is_in(browser).await);
    }
    assert!(is_in(&mut stays).await);
    let events = bench.proxy.audited_times("session_ended", 8).await;
    assert_eq!(events.len(), 8);
}

#[tokio::test]
async fn a_real_browser_tells_in_a_frame_of_the_providers_page_and_of_no_other() {
    let real = real("frontchannel_logout = true").await;
    let (provider, origin, browser) = (&real.provider, &real.origin, &real.browser);
    let at_login = format!("{origin}/.doorward/login?provider=corp&return_to=%2F");
    let place = |session: &str| {
        let frame = format!("{origin}{}", frame(&provider.issuer(), session));
        let frame = frame.replace('&', "&amp;");
        format!(
            "<!doctype html><title>Out</title><h1>Logged out there</h1><iframe src=\"{frame}\"></iframe>"
        )
    };
    for session in ["first", "second"] {
        provider.script().claims = serde_json::json!({ "sid": session });
        browser.open(&at_login).await;
        browser.until_heading("Hello, jane").await;
        // Another site, so the cookie stays behind; the session ends all the same.
        let page = place(session);
        provider
            .script()
            .pages
            .insert("/out".to_owned(), page.clone());
        if session == "first" {
            browser.open(&format!("{}/out", provider.issuer())).await;
            assert_eq!(browser.text_in_frame().await, "Logged out.");
            let word = browser.text("h1").await;
            assert_eq!(word, "Logged out there");
            browser.open(&format!("{origin}/")).await;
            browser.until_heading("Log in").await;
        } else {
            let stranger =
                upstream(move |_| Reply::with(200, "content-type: text/html\r\n", &page)).await;
            browser.open(&stranger.url()).await;
            let shown = browser.text_in_frame().await;
            assert!(!shown.contains("Logged out."), "{shown}");
        }
    }
    real.browser.close().await;
}
