//! Logging in at a site that speaks OAuth 2.0 and signs nothing, as GitHub: the way there and back, and what is believed of
//! what it says. What the app got, and whether there is a session, is what counts.

use doorward::clock::Clock;
use http::Method;
use serde_json::json;

use crate::chromium::look;
use crate::support::{
    ACCESS_TOKEN, Answer, Asked, Browser, CLIENT_ID, CLIENT_SECRET, Chromium, GitHub, PASSWORD,
    Process, Proxy, ProxyBuilder, Reply, START, Upstream, come_back, eventually, proxy,
    self_signed, upstream,
};

/// A proxy with local users, such a site as `hub`, and an app for whoever is logged in.
struct Bench {
    proxy: Proxy,
    hub: GitHub,
    app: Upstream,
}

impl Bench {
    async fn start(keys: &str) -> Self {
        Self::with(keys, |proxy, _| proxy).await
    }

    async fn with(keys: &str, change: impl FnOnce(ProxyBuilder, &GitHub) -> ProxyBuilder) -> Self {
        let hub = GitHub::start().await;
        let app = upstream(|_| Reply::ok("hello")).await;
        let proxy = proxy()
            .clock(&Clock::fixed(START))
            .provider(&hub.section("hub", keys))
            .app(&app.url());
        let proxy = change(proxy, &hub).start();
        Self { proxy, hub, app }
    }

    async fn way_out(&self, browser: &mut Browser, provider: &str) -> String {
        let query = [("return_to", "/wiki?a=1"), ("provider", provider)];
        let sent = browser.open(&come_back("/.doorward/login", &query)).await;
        assert_eq!(sent.status, 303, "{}", sent.text());
        sent.header("location").to_owned()
    }

    async fn log_in(&self, browser: &mut Browser) -> Answer {
        let there = self.way_out(browser, "hub").await;
        let back = self.hub.approve(&there);
        browser.open(&back).await
    }

    async fn alice_gets_in(&self) {
        let mut browser = self.proxy.browser();
        let place = "/.doorward/login?provider=local";
        let answer = browser.log_in_at(place, "alice", PASSWORD).await;
        assert_eq!(answer.status, 303, "{}", answer.text());
    }

    async fn nobody_got_in(&self, browser: &mut Browser, why: &str) {
        assert_eq!(browser.token(), "", "{why}");
        assert_eq!(browser.fetch("/").await.status, 401, "{why}");
        assert!(self.app.requests().is_empty(), "{why}");
    }

    async fn stranded(&self, cause: &str) {
        eventually("an audit event", async || {
            self.proxy.audit().iter().any(|event| {
                event["event"] == "login_stranded"
                    && event["cause"] == cause
                    && event["provider"] == "hub"
            })
        })
        .await;
    }
}

#[tokio::test]
async fn a_person_logs_in_there_and_returns_to_their_page() {
    let bench = Bench::with("", |proxy, _| proxy.embedded()).await;
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "hub").await;
    assert!(there.starts_with(&format!(
        "{}/login/oauth/authorize?tenant=1&",
        bench.hub.url()
    )));
    let asked = Asked::of(&there);
    let callback = format!("https://{}/.doorward/callback/hub", browser.authority());
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", CLIENT_ID),
        ("scope", "user:email read:org"),
        ("redirect_uri", &callback),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(asked.get(name), value, "{name}");
    }
    assert_eq!(asked.get("code_challenge").len(), 43);
    assert!(!there.contains(CLIENT_SECRET));

    let answer = browser.open(&bench.hub.approve(&there)).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(answer.header("location"), "/wiki?a=1");
    assert_eq!(browser.open("/wiki?a=1").await.text(), "hello");
    let request = bench.app.only();
    // The number, not the name: another may have that next year.
    assert_eq!(request.one("remote-user"), "583231");
    assert_eq!(request.one("remote-name"), "Mona %C3%9Cnder");
    assert_eq!(request.one("remote-email"), "mona@example.org");
    assert_eq!(request.one("remote-groups"), "acme,staff");
    assert!(!request.head.contains(ACCESS_TOKEN));
    let who = browser.fetch("/.doorward/session").await.json();
    assert_eq!(
        (&who["user"], &who["provider"]),
        (&json!("583231"), &json!("hub"))
    );
    assert_eq!(who["auth_time"], 0, "nobody says when that was");
    assert_eq!(bench.hub.requests_at("/login/oauth/access_token").len(), 1);
    bench.proxy.audited("login_succeeded").await;

    // The token was needed for that moment alone.
    let (folder, _clock) = bench.proxy.stop().await;
    let mut looked_at = 0;
    for place in walk(folder.path()) {
        let held = std::fs::read(&place).unwrap();
        let has = |secret: &str| {
            held.windows(secret.len())
                .any(|part| part == secret.as_bytes())
        };
        assert!(!has(ACCESS_TOKEN), "{}", place.display());
        looked_at += 1;
    }
    assert!(looked_at > 3, "{looked_at} files");
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let (folders, mut files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| walk(folder)));
    files.retain(|path| path.is_file());
    files
}

#[tokio::test]
async fn a_user_is_told_by_what_the_operator_chose() {
    let keys = "claims = { user = \"login\", groups = [\"organization.login\", \"slug\"] }";
    let bench = Bench::start(keys).await;
    bench.hub.script().orgs = r#"[{"slug": "ops", "organization": {"login": "acme"}}]"#.to_owned();
    let mut browser = bench.proxy.browser();
    assert_eq!(bench.log_in(&mut browser).await.status, 303);
    browser.open("/").await;
    let request = bench.app.only();
    assert_eq!(request.one("remote-user"), "octocat");
    assert_eq!(request.one("remote-groups"), "acme/ops");
    // A new name, and another user who has the old one: by their numbers they stay who they are.
    let sid = browser.fetch("/.doorward/session").await.json()["sid"].clone();
    bench.hub.script().user = r#"{"id": 583231, "login": "hubot"}"#.to_owned();
    let again = "/.doorward/login?provider=hub&prompt=login";
    let mut other = bench.proxy.browser();
    assert_eq!(bench.log_in(&mut other).await.status, 303);
    bench.hub.script().user = r#"{"id": 7, "login": "octocat"}"#.to_owned();
    let there = browser.open(again).await.header("location").to_owned();
    let answer = browser.open(&bench.hub.approve(&there)).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    let now = browser.fetch("/.doorward/session").await.json();
    assert_ne!(now["sid"], sid, "it is another user's session");
}

#[tokio::test]
async fn an_address_counts_that_the_site_says_is_verified() {
    let bench = Bench::start("").await;
    for (emails, told) in [
        (
            r#"[{"email": "mona@example.org", "primary": true, "verified": false}]"#,
            None,
        ),
        (
            r#"[{"email": "mona@example.org", "primary": false, "verified": true}]"#,
            None,
        ),
        ("[]", None),
        (
            r#"[{"email": "m@example.org", "primary": true, "verified": true}]"#,
            Some("m@example.org"),
        ),
    ] {
        bench.hub.script().emails = emails.to_owned();
        let mut browser = bench.proxy.browser();
        assert_eq!(bench.log_in(&mut browser).await.status, 303, "{emails}");
        browser.open("/").await;
        let request = bench.app.requests().pop().unwrap();
        assert_eq!(
            request
                .all("remote-email")
                .first()
                .copied()
                .filter(|it| !it.is_empty()),
            told,
            "{emails}"
        );
    }
}

/// What is said of the user, their addresses, their groups or of the token, and what people get.
const LIES: &[(&str, &str, &str, u16)] = &[
    (
        "an id that is text",
        "user",
        r#"{"id": "583231", "login": "a"}"#,
        502,
    ),
    (
        "an id that is a fraction",
        "user",
        r#"{"id": 583231.0, "login": "a"}"#,
        502,
    ),
    (
        "an id below zero",
        "user",
        r#"{"id": -1, "login": "a"}"#,
        502,
    ),
    ("an id of zero", "user", r#"{"id": 0, "login": "a"}"#, 502),
    (
        "an id too large",
        "user",
        r#"{"id": 99999999999999999999, "login": "a"}"#,
        502,
    ),
    ("no id", "user", r#"{"login": "octocat"}"#, 502),
    (
        "two ids",
        "user",
        r#"{"id": 1, "id": 2, "login": "a"}"#,
        502,
    ),
    ("a list of users", "user", r#"[{"id": 1}]"#, 502),
    ("a user that is no JSON", "user", "<html>", 502),
    (
        "a name that is a number",
        "user",
        r#"{"id": 1, "name": 7}"#,
        502,
    ),
    (
        "a name of two lines",
        "user",
        r#"{"id": 1, "name": "a\nb"}"#,
        502,
    ),
    ("addresses that are an object", "emails", "{}", 502),
    (
        "an address that is perhaps verified",
        "emails",
        r#"[{"email": "a@b", "primary": true, "verified": "yes"}]"#,
        502,
    ),
    (
        "two first addresses",
        "emails",
        r#"[{"email": "a@b", "primary": true, "verified": true}, {"email": "c@d", "primary": true, "verified": true}]"#,
        502,
    ),
    (
        "groups that are an object",
        "orgs",
        r#"{"login": "staff"}"#,
        502,
    ),
    ("a group without a name", "orgs", r#"[{"id": 1}]"#, 502),
    (
        "a group of two lines",
        "orgs",
        r#"[{"login": "a\nb"}]"#,
        502,
    ),
    (
        "an error with 200",
        "token",
        r#"{"error": "bad_verification_code"}"#,
        403,
    ),
    (
        "an error beside a token",
        "token",
        r#"{"error": "x", "access_token": "gho_1", "token_type": "bearer"}"#,
        403,
    ),
    (
        "less than was asked for",
        "token",
        r#"{"access_token": "gho_1", "token_type": "bearer", "scope": "user:email"}"#,
        403,
    ),
    (
        "nothing of what was asked for",
        "token",
        r#"{"access_token": "gho_1", "token_type": "bearer", "scope": ""}"#,
        403,
    ),
    ("no token", "token", r#"{"token_type": "bearer"}"#, 502),
    (
        "a token of another type",
        "token",
        r#"{"access_token": "gho_1", "token_type": "mac"}"#,
        502,
    ),
    (
        "a token that is a list",
        "token",
        r#"{"access_token": ["gho_1"], "token_type": "bearer"}"#,
        502,
    ),
    (
        "a token with a line break",
        "token",
        r#"{"access_token": "a\r\nx-admin: 1", "token_type": "bearer"}"#,
        502,
    ),
];

#[tokio::test]
async fn no_lie_of_the_site_lets_anybody_in() {
    for (why, what, said, status) in LIES {
        let bench = Bench::start("").await;
        {
            let mut script = bench.hub.script();
            let place = match *what {
                "user" => &mut script.user,
                "emails" => &mut script.emails,
                "orgs" => &mut script.orgs,
                _ => &mut script.token,
            };
            (*said).clone_into(place);
        }
        let mut browser = bench.proxy.browser();
        let answer = bench.log_in(&mut browser).await;
        assert_eq!(answer.status, *status, "{why}: {}", answer.text());
        bench.nobody_got_in(&mut browser, why).await;
        let cause = if *status == 403 {
            "refused"
        } else {
            "provider_unbelievable"
        };
        bench.stranded(cause).await;
    }
}

const JSON: &str = "content-type: application/json\r\n";

fn stalled(fields: &str, length: usize) -> Reply {
    let head = format!("HTTP/1.1 200 OK\r\n{JSON}{fields}\r\n");
    Reply::Stall([head.into_bytes(), vec![b' '; length]].concat())
}

type Nonsense = (&'static str, fn() -> Reply, u16);

const NONSENSE: [Nonsense; 10] = [
    (
        "megabytes",
        || Reply::with(200, JSON, vec![b' '; 3_000_000]),
        503,
    ),
    ("megabytes without end", || stalled("", 3_000_000), 503),
    ("a stall", || stalled("content-length: 5\r\n", 1), 503),
    ("silence", || Reply::Stall(Vec::new()), 503),
    (
        "a redirect",
        || Reply::with(307, "location: /elsewhere\r\n", ""),
        503,
    ),
    (
        "a redirect to a page",
        || Reply::with(302, "location: /elsewhere\r\n", ""),
        503,
    ),
    ("trouble", || Reply::with(500, JSON, "{}"), 503),
    ("nothing", || Reply::with(204, "", ""), 503),
    (
        "another type",
        || Reply::with(200, "content-type: text/html\r\n", r#"{"id": 1}"#),
        502,
    ),
    (
        "two types",
        || {
            Reply::with(
                200,
                "content-type: application/json\r\ncontent-type: text/html\r\n",
                r#"{"id": 1}"#,
            )
        },
        502,
    ),
];

#[tokio::test]
async fn whatever_the_site_answers_nothing_hangs_and_other_ways_in_go_on() {
    let bench = Bench::start("answer_timeout = \"1s\"").await;
    for place in [
        "/login/oauth/access_token",
        "/user",
        "/user/emails",
        "/user/orgs",
    ] {
        for (why, answer, status) in NONSENSE {
            bench.hub.script().answers.insert(place, answer);
            let mut browser = bench.proxy.browser();
            let page = bench.log_in(&mut browser).await;
            assert_eq!(page.status, status, "{why} at {place}: {}", page.text());
            bench.nobody_got_in(&mut browser, why).await;
            bench.hub.script().answers.clear();
        }
    }
    assert!(
        bench.hub.requests_at("/elsewhere").is_empty(),
        "no redirect is followed"
    );
    bench.stranded("provider_unavailable").await;
    bench.alice_gets_in().await;
    let mut browser = bench.proxy.browser();
    assert_eq!(
        bench.log_in(&mut browser).await.status,
        303,
        "it is believed when it is honest"
    );
    assert_eq!(browser.open("/").await.text(), "hello");
}

#[tokio::test]
async fn while_the_site_is_away_only_its_login_does_not_work() {
    let bench = Bench::with("", |proxy, hub| {
        let here = hub.url();
        let section = hub.section("away", "").replace(&here, "http://127.0.0.1:9");
        proxy.provider(&section.replace(
            "http://127.0.0.1:9/login/oauth/authorize",
            &format!("{here}/login/oauth/authorize"),
        ))
    })
    .await;
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "away").await;
    let page = browser.open(&bench.hub.approve(&there)).await;
    assert_eq!(page.status, 503);
    assert!(page.text().contains("Logging in does not work right now"));
    bench.nobody_got_in(&mut browser, "away").await;
    assert_eq!(bench.log_in(&mut browser).await.status, 303);
    bench.alice_gets_in().await;
}

#[tokio::test]
async fn an_answer_is_good_once_in_the_browser_that_asked_and_at_its_own_place() {
    let bench = Bench::with("", |proxy, hub| proxy.provider(&hub.section("other", ""))).await;
    let (mut browser, mut thief) = (bench.proxy.browser(), bench.proxy.browser());
    let there = bench.way_out(&mut browser, "hub").await;
    let back = bench.hub.approve(&there);
    bench.way_out(&mut thief, "hub").await;
    assert_eq!(thief.open(&back).await.status, 400);
    bench.nobody_got_in(&mut thief, "another browser").await;
    bench.stranded("foreign").await;
    let elsewhere = back.replace("/callback/hub", "/callback/other");
    assert_eq!(browser.open(&elsewhere).await.status, 400);
    bench
        .nobody_got_in(&mut browser, "the place of another provider")
        .await;
    let bare = back.split("&state=").next().unwrap();
    assert_eq!(browser.open(bare).await.status, 400, "no state");
    let head = browser.request(Method::HEAD, &back, &[], "").await;
    assert_eq!(head.status, 405);
    assert!(
        bench
            .hub
            .requests_at("/login/oauth/access_token")
            .is_empty()
    );
    assert_eq!(browser.open(&back).await.status, 303);
    assert_eq!(
        browser.open(&back).await.header("location"),
        "/wiki?a=1",
        "to who is in already"
    );
    browser.jar.remove("__Host-sid");
    let again = browser.open(&back).await;
    assert_eq!(again.status, 502, "a second time");
    assert_eq!(bench.hub.requests_at("/login/oauth/access_token").len(), 1);

    // A code of one's own, smuggled into the login of somebody else: it has another verifier.
    let mut victim = bench.proxy.browser();
    let theirs = bench.way_out(&mut victim, "hub").await;
    let ours = bench.way_out(&mut thief, "hub").await;
    let code = bench.hub.approve(&ours);
    let code = code
        .split("code=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    let state = Asked::of(&theirs).get("state").to_owned();
    let pairs = [("code", code), ("state", state.as_str())];
    let injected = come_back("/.doorward/callback/hub", &pairs);
    assert_eq!(victim.open(&injected).await.status, 403);
    bench
        .proxy
        .clock
        .advance(std::time::Duration::from_secs(3601));
    let late = bench.hub.approve(&theirs);
    assert_eq!(victim.open(&late).await.status, 400, "too late");
}

#[tokio::test]
async fn a_site_that_names_itself_does_so_in_every_answer() {
    let bench = Bench::start("issuer = \"https://hub.example\"").await;
    let mut browser = bench.proxy.browser();
    for issuer in [
        "",
        "https://evil.example",
        "https://hub.example/",
        "https://HUB.example",
    ] {
        let there = bench.way_out(&mut browser, "hub").await;
        let mut back = bench.hub.approve(&there);
        if !issuer.is_empty() {
            back = format!("{back}&iss={issuer}");
        }
        assert_eq!(browser.open(&back).await.status, 502, "{issuer:?}");
        bench.nobody_got_in(&mut browser, issuer).await;
    }
    assert!(
        bench
            .hub
            .requests_at("/login/oauth/access_token")
            .is_empty(),
        "no code was shown"
    );
    let there = bench.way_out(&mut browser, "hub").await;
    let back = format!(
        "{}&iss=https%3A%2F%2Fhub.example",
        bench.hub.approve(&there)
    );
    assert_eq!(browser.open(&back).await.status, 303);
}

#[tokio::test]
async fn a_user_who_says_no_there_is_told_so_here() {
    let bench = Bench::start("").await;
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "hub").await;
    let asked = Asked::of(&there);
    let pairs = [("error", "access_denied"), ("state", asked.get("state"))];
    let page = browser.open(&come_back(&asked.place(), &pairs)).await;
    assert_eq!(page.status, 403);
    assert!(page.text().contains("You were not logged in"));
    bench.stranded("refused").await;
}

#[tokio::test]
async fn nobody_is_taken_to_have_logged_in_anew_where_the_site_does_not_say_so() {
    let bench = Bench::with("", |proxy, _| {
        let vault = "access = \"user\"\nmax_auth_age = \"10m\"";
        proxy.route("/vault", "http://127.0.0.1:1", vault)
    })
    .await;
    let mut browser = bench.proxy.browser();
    assert_eq!(bench.log_in(&mut browser).await.status, 303);
    assert_eq!(browser.open("/").await.status, 200);
    let login = browser.open("/vault").await.header("location").to_owned();
    assert_eq!(login, "/.doorward/login?return_to=%2Fvault&prompt=login");
    // They may have another way in.
    let choice = browser.open(&login).await;
    assert_eq!(choice.status, 200);
    assert!(choice.text().contains("User name and password"));
    let hub = format!("{login}&provider=hub");
    let there = browser.open(&hub).await.header("location").to_owned();
    let page = browser.open(&bench.hub.approve(&there)).await;
    assert_eq!(page.status, 403, "{}", page.text());
    assert!(page.text().contains("Log in another way"));
    assert_eq!(browser.open("/vault").await.status, 303, "not good enough");
    assert_eq!(browser.open("/").await.status, 200, "the session goes on");
    bench.stranded("not_fresh").await;

    // Who can show it does it with a password.
    let form = browser
        .open("/.doorward/login?provider=local&return_to=%2Fvault&prompt=login")
        .await;
    let state = form.field("state");
    let fields = [
        ("state", state.as_str()),
        ("user", "alice"),
        ("password", PASSWORD),
    ];
    assert_eq!(
        browser.submit("/.doorward/login", &fields).await.status,
        303
    );
    assert_eq!(
        browser.open("/vault").await.status,
        502,
        "through, to an app that is down"
    );
    // And who is sent from one provider to another gets in there as somebody else.
    let there = browser
        .open("/.doorward/login?provider=hub&prompt=login")
        .await;
    let back = bench.hub.approve(there.header("location"));
    assert_eq!(browser.open(&back).await.status, 303);
    let who = browser.fetch("/.doorward/session").await.json();
    assert_eq!(who["provider"], "hub");
    assert_eq!(browser.open("/vault").await.status, 303);
}

#[tokio::test]
async fn a_person_logs_in_there_with_a_real_browser() {
    let app = upstream(|request| {
        let (user, groups) = (request.one("remote-user"), request.one("remote-groups"));
        let page =
            format!("<!doctype html><title>App</title><h1>Hello, {user}</h1><p>{groups}</p>");
        Reply::with(200, "content-type: text/html\r\n", page)
    })
    .await;
    let hub = GitHub::start().await;
    let folder = proxy()
        .provider(&hub.section("hub", "claims = { user = \"login\" }"))
        .app(&app.url())
        .prepare();
    self_signed(folder.path());
    let mut process = Process::start(folder.path(), &["run", "--config", "doorward.toml"]);
    let origin = format!("https://localhost:{}", process.addr().await.port());
    let authority = folder.path().join("certs/ca.pem");
    let browser = Chromium::trusting(folder.path(), &authority, true).await;
    browser.open(&format!("{origin}/wiki?a=1")).await;
    browser.until_heading("Log in").await;
    look(&browser, "oauth2-chooser").await;
    browser.follow("Log in with hub").await;
    browser.until_heading("Authorize doorward").await;
    browser.follow("Authorize").await;
    browser.until_heading("Hello, octocat").await;
    assert_eq!(browser.url().await, format!("{origin}/wiki?a=1"));
    assert_eq!(browser.text("p").await, "acme,staff");

    // The site does not say that they logged in anew: they may choose another way, and are told where they do not.
    browser
        .open(&format!(
            "{origin}/.doorward/login?return_to=%2Fwiki&prompt=login"
        ))
        .await;
    browser.until_heading("Log in").await;
    browser.follow("Log in with hub").await;
    browser.until_heading("Authorize doorward").await;
    browser.follow("Authorize").await;
    browser.until_heading("Log in another way").await;
    look(&browser, "oauth2-not-fresh").await;
    browser.follow("Log in").await;
    browser.until(".ways").await;
    browser.close().await;
}
