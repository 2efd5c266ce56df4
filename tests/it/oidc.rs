//! Logging in at an `OpenID` Connect provider: the way there and back, and every lie that a provider, a browser or somebody
//! in between can tell. What the app got, and whether there is a session, is what counts.

use std::time::Duration;

use doorward::clock::Clock;
use doorward::identity::Subject;
use doorward::session::EndReason;
use http::Method;
use serde_json::json;

use crate::support::{
    Answer, Asked, Browser, CLIENT_ID, Key, PASSWORD, Process, Provider, Proxy, ProxyBuilder,
    Reply, START, SUB, Shown, Sign, Upstream, certificate, come_back, eventually, proxy, upstream,
};

pub const CLAIMS: &str =
    "claims = { user = \"preferred_username\", groups = \"realm_access.roles\" }";

/// A proxy with local users, a provider `corp`, and an app for whoever is logged in.
pub struct Bench {
    pub proxy: Proxy,
    pub provider: Provider,
    pub app: Upstream,
}

impl Bench {
    pub async fn start() -> Self {
        Self::with(CLAIMS, |proxy| proxy).await
    }

    /// With more keys of the provider, and a proxy that is changed before it starts.
    pub async fn with(keys: &str, change: impl FnOnce(ProxyBuilder) -> ProxyBuilder) -> Self {
        let provider = Provider::start(&Clock::fixed(START)).await;
        Self::of(provider, keys, change).await
    }

    /// With a provider that was made for it.
    pub async fn of(
        provider: Provider,
        keys: &str,
        change: impl FnOnce(ProxyBuilder) -> ProxyBuilder,
    ) -> Self {
        let clock = provider.script().clock.clone();
        let app = upstream(|_| Reply::ok("hello")).await;
        let proxy = proxy()
            .clock(&clock)
            .provider(&provider.section("corp", keys))
            .app(&app.url());
        let proxy = change(proxy).start();
        let bench = Self {
            proxy,
            provider,
            app,
        };
        bench.found("corp").await;
        bench
    }

    /// Waits until the proxy has found the provider.
    pub async fn found(&self, id: &str) {
        let place = format!("/.doorward/login?provider={id}");
        eventually("a provider that is found", async || {
            self.proxy.browser().open(&place).await.status == 303
        })
        .await;
    }

    /// Where a browser is sent that wants a page.
    pub async fn way_out(&self, browser: &mut Browser, page: &str) -> String {
        let query = [("return_to", page), ("provider", "corp")];
        let sent = browser.open(&come_back("/.doorward/login", &query)).await;
        assert_eq!(sent.status, 303, "{}", sent.text());
        sent.header("location").to_owned()
    }

    /// A whole login that goes as it should up to its last step.
    pub async fn log_in(&self, browser: &mut Browser) -> Answer {
        let there = self.way_out(browser, "/wiki?a=1").await;
        let back = self.provider.approve(&there);
        browser.open(&back).await
    }

    /// Waits until the audit log tells of a login that failed for this cause.
    pub async fn stranded(&self, cause: &str) {
        eventually("an audit event", async || {
            self.proxy.audit().iter().any(|event| {
                event["event"] == "login_stranded"
                    && event["cause"] == cause
                    && event["provider"] == "corp"
            })
        })
        .await;
    }

    /// There is no session, and no app has heard of anybody.
    pub async fn nobody_got_in(&self, browser: &mut Browser, why: &str) {
        assert_eq!(browser.token(), "", "{why}");
        assert_eq!(browser.fetch("/").await.status, 401, "{why}");
        assert!(self.app.requests().is_empty(), "{why}");
    }
}

#[tokio::test]
async fn a_person_logs_in_at_the_provider_and_returns_to_their_page() {
    let bench = Bench::start().await;
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "/wiki?a=1&b=%2F").await;
    let asked = Asked::of(&there);
    assert!(there.starts_with(&format!("{}/auth?tenant=1&", bench.provider.issuer())));
    let authority = browser.authority();
    let callback = format!("https://{authority}/.doorward/callback/corp");
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", CLIENT_ID),
        ("scope", "openid profile email"),
        ("redirect_uri", &callback),
        ("code_challenge_method", "S256"),
        ("prompt", ""),
        ("max_age", ""),
    ] {
        assert_eq!(asked.get(name), value, "{name}");
    }
    assert_eq!(asked.get("code_challenge").len(), 43);
    assert!(asked.get("nonce").len() >= 22);

    let back = bench.provider.approve(&there);
    let answer = browser.open(&back).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(answer.header("location"), "/wiki?a=1&b=%2F");
    assert_eq!(browser.token().len(), 43);
    assert_eq!(browser.open("/wiki?a=1&b=%2F").await.text(), "hello");
    let request = bench.app.only();
    assert_eq!(request.one("remote-user"), "jane");
    assert_eq!(request.one("remote-name"), "Jane %C3%9Cnder");
    assert_eq!(request.one("remote-email"), "jane@example.org");
    assert_eq!(request.one("remote-groups"), "staff");
    assert!(request.all("cookie").is_empty());

    let who = browser.fetch("/.doorward/session").await.json();
    assert_eq!(
        (&who["user"], &who["provider"]),
        (&json!("jane"), &json!("corp"))
    );
    assert_eq!(who["auth_time"], START.as_secs());
    let event = bench.proxy.audited("login_succeeded").await;
    assert_eq!(
        (&event["provider"], &event["user"]),
        (&json!("corp"), &json!("jane"))
    );
}

#[tokio::test]
async fn who_may_log_in_in_several_ways_chooses_one() {
    let bench = Bench::start().await;
    let mut browser = bench.proxy.browser();
    let page = browser.follow("/wiki?a=1").await;
    assert_eq!(page.status, 200);
    let text = page.text();
    let local = text.find("User name and password").expect("local users");
    let corp = text.find("Log in with corp").expect("the provider");
    assert!(local < corp, "in the order of the file");
    assert!(!text.contains("<script"), "{text}");
    let links: Vec<String> = text
        .split("href=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .map(|link| link.replace("&#x2f;", "/").replace("&amp;", "&"))
        .collect();
    let there = |id: &str| format!("/.doorward/login?return_to=%2Fwiki%3Fa%3D1&provider={id}");
    // A link leads away; a button keeps the fragment, beside the page to come back to.
    assert_eq!(links, [there("corp")]);
    assert_eq!(page.field("return_to").replace("&#x2f;", "/"), "/wiki?a=1");
    assert_eq!(page.field("provider"), "local");

    let form = browser.open(&there("local")).await;
    assert_eq!(form.status, 200);
    assert!(form.text().contains("name=\"password\""));
    let sent = browser.open(&links[0]).await;
    assert_eq!(sent.status, 303);
    let unknown = browser.open("/.doorward/login?provider=other").await;
    assert!(unknown.text().contains("Log in with corp"));
}

#[tokio::test]
async fn a_form_that_lay_open_too_long_comes_again_for_the_same_provider() {
    let bench = Bench::start().await;
    let mut browser = bench.proxy.browser();
    let form = browser.open("/.doorward/login?provider=local").await;
    let state = form.field("state");
    bench.proxy.clock.advance(Duration::from_secs(3601));
    let fields = [
        ("state", state.as_str()),
        ("user", "alice"),
        ("password", "x"),
    ];
    let again = browser
        .submit("/.doorward/login?provider=local", &fields)
        .await;
    assert_eq!(again.status, 400);
    assert!(again.text().contains("name=\"password\""));
    let choice = browser.submit("/.doorward/login", &fields).await;
    assert_eq!(choice.status, 400);
    assert!(choice.text().contains("Log in with corp"));
}

#[tokio::test]
async fn a_route_of_one_provider_lets_nobody_in_who_logged_in_elsewhere() {
    let bench = Bench::with(CLAIMS, |proxy| {
        let app = "http://127.0.0.1:1";
        proxy.route(
            "/corp",
            app,
            "access = { groups = [\"staff\"] }\nprovider = \"corp\"",
        )
    })
    .await;
    let mut browser = bench.proxy.browser();
    let login = "/.doorward/login?return_to=%2Fcorp&provider=corp";
    assert_eq!(browser.open("/corp").await.header("location"), login);
    // Alice is in a group of the same name, but it is another's.
    let form = browser.open("/.doorward/login?provider=local").await;
    let state = form.field("state");
    let password = PASSWORD;
    let fields = [
        ("state", state.as_str()),
        ("user", "alice"),
        ("password", password),
    ];
    let answer = browser.submit("/.doorward/login", &fields).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(browser.open("/").await.status, 200);
    let told = browser.open("/corp").await;
    assert_eq!(told.header("location"), format!("{login}&prompt=login"));
    let told = browser.fetch("/corp").await.json();
    assert_eq!(told["error"], "reauthentication_required");
    // It does not say which page it runs in.
    let login_url = login.replace("%2Fcorp", "%2F");
    assert_eq!(told["login_url"], format!("{login_url}&prompt=login"));

    let alice = browser.token().to_owned();
    let there = browser.open(&format!("{login}&prompt=login")).await;
    let back = bench.provider.approve(there.header("location"));
    assert_eq!(browser.open(&back).await.header("location"), "/corp");
    assert_eq!(
        browser.open("/corp").await.status,
        502,
        "nobody answers there"
    );
    browser.jar.insert("__Host-sid".to_owned(), alice);
    assert_eq!(
        browser.fetch("/").await.status,
        401,
        "one session replaces the other"
    );
}

#[tokio::test]
async fn the_proxy_starts_while_a_provider_is_down_and_finds_it_later() {
    let clock = Clock::fixed(START);
    let provider = Provider::start(&clock).await;
    let down = || Reply::with(503, "", "");
    let document = "/.well-known/openid-configuration";
    provider.script().answers.insert(document, down);
    let app = upstream(|_| Reply::ok("hello")).await;
    let proxy = proxy()
        .clock(&clock)
        .provider(&provider.section("corp", CLAIMS))
        .app(&app.url())
        .start();
    let bench = Bench {
        proxy,
        provider,
        app,
    };
    let mut browser = bench.proxy.browser();
    let page = browser.open("/.doorward/login?provider=corp").await;
    assert_eq!(page.status, 503);
    assert_eq!(page.header("retry-after"), "5");
    assert!(page.text().contains("Logging in does not work right now"));
    let fields = [
        ("accept", "application/json"),
        ("sec-fetch-mode", "navigate"),
    ];
    let place = "/.doorward/login?provider=corp";
    let told = browser.request(Method::GET, place, &fields, "").await;
    assert_eq!(told.status, 503);
    let fields = [("accept", "application/json")];
    let told = browser.request(Method::GET, place, &fields, "").await;
    assert_eq!(told.status, 503);
    assert_eq!(told.header("content-type"), "application/json");
    assert_eq!(told.json()["request_id"].as_str().unwrap().len(), 16);
    browser
        .open("/.doorward/login?provider=local")
        .await
        .field("password");

    bench.provider.script().answers.clear();
    bench.found("corp").await;
    assert_eq!(bench.log_in(&mut browser).await.status, 303);
    assert_eq!(browser.open("/").await.text(), "hello");
}

/// What a provider must not say of a user; [`START`] is 1800000000.
const LIES: [(&str, &str); 22] = [
    ("another issuer", r#"{"iss": "https://evil.example"}"#),
    ("no issuer", r#"{"iss": null}"#),
    ("two issuers", r#"{"iss": ["https://evil.example"]}"#),
    ("another audience", r#"{"aud": "other"}"#),
    ("a second audience", r#"{"aud": ["doorward", "other"]}"#),
    ("no audience", r#"{"aud": []}"#),
    ("another party", r#"{"azp": "other"}"#),
    ("another nonce", r#"{"nonce": "AAAAAAAAAAAAAAAAAAAAAA"}"#),
    ("no nonce", r#"{"nonce": null}"#),
    ("expired", r#"{"exp": 1799999940}"#),
    ("no end", r#"{"exp": null}"#),
    ("an end that is text", r#"{"exp": "1800000300"}"#),
    ("issued in the future", r#"{"iat": 1800000061}"#),
    ("issued before the login began", r#"{"iat": 1799999939}"#),
    ("not yet good", r#"{"nbf": 1800000061}"#),
    ("no subject", r#"{"sub": null}"#),
    ("a subject that is a number", r#"{"sub": 248289}"#),
    ("no user", r#"{"preferred_username": null}"#),
    (
        "a user with a line end",
        r#"{"preferred_username": "jane\nRemote-User: root"}"#,
    ),
    (
        "groups that are text",
        r#"{"realm_access": {"roles": "staff"}}"#,
    ),
    (
        "a hash of another access token",
        r#"{"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}"#,
    ),
    ("a login in the future", r#"{"auth_time": 1800000061}"#),
];

/// How a token must not be signed, and what its header says.
const FORGERIES: [(&str, Sign, &str); 12] = [
    ("no signature", Sign::Not, "{}"),
    (
        "no signature, by another spelling",
        Sign::Not,
        r#"{"alg": "nOnE", "kid": "one"}"#,
    ),
    (
        "no signature where one is told of",
        Sign::Not,
        r#"{"alg": "RS256", "kid": "one"}"#,
    ),
    ("signed with the public key", Sign::Hmac, "{}"),
    ("signed by another key", Sign::With(Key::Second), "{}"),
    (
        "a key that is not published",
        Sign::With(Key::Second),
        r#"{"kid": "new"}"#,
    ),
    (
        "a key that it brings along",
        Sign::With(Key::Second),
        r#"{"kid": "new", "jwk": {"kty": "RSA"}, "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/"}"#,
    ),
    (
        "a key id that is a path",
        Sign::With(Key::First),
        r#"{"kid": "../../etc/passwd"}"#,
    ),
    (
        "another algorithm of the same key",
        Sign::With(Key::First),
        r#"{"alg": "PS256"}"#,
    ),
    (
        "what has to be understood",
        Sign::With(Key::First),
        r#"{"crit": ["b64"], "b64": false}"#,
    ),
    (
        "a token of another type",
        Sign::With(Key::First),
        r#"{"typ": "at+jwt"}"#,
    ),
    (
        "a logout token",
        Sign::With(Key::First),
        r#"{"typ": "logout+jwt"}"#,
    ),
];

#[tokio::test]
async fn no_lie_in_an_id_token_lets_anybody_in() {
    let bench = Bench::start().await;
    let good = Sign::With(Key::First);
    let lies = LIES.map(|(why, claims)| (why, good, claims, "{}"));
    let forgeries = FORGERIES.map(|(why, sign, header)| (why, sign, "{}", header));
    for (why, sign, claims, header) in lies.into_iter().chain(forgeries) {
        bench.provider.tells(sign, claims, header);
        let mut browser = bench.proxy.browser();
        let answer = bench.log_in(&mut browser).await;
        assert_eq!(answer.status, 502, "{why}: {}", answer.text());
        assert!(answer.text().contains("The login did not work"), "{why}");
        bench.nobody_got_in(&mut browser, why).await;
    }
    bench.stranded("provider_unbelievable").await;
    bench.provider.tells(good, "{}", "{}");
    let answer = bench.log_in(&mut bench.proxy.browser()).await;
    assert_eq!(answer.status, 303, "it is believed when it is honest");
}

/// What a provider must not answer, where, and what people get.
type Nonsense = (&'static str, &'static str, fn() -> Reply, u16);

const NONSENSE: [Nonsense; 16] = [
    ("garbage", "/token", || told("<html>"), 502),
    ("nothing", "/token", || told(""), 502),
    (
        "no ID token",
        "/token",
        || told(r#"{"token_type":"Bearer","access_token":"a"}"#),
        502,
    ),
    (
        "an ID token that is a list",
        "/token",
        || tokens("Bearer", r#"["a"]"#),
        502,
    ),
    (
        "an ID token that is none",
        "/token",
        || tokens("Bearer", r#""a.b.c""#),
        502,
    ),
    (
        "another type of token",
        "/token",
        || tokens("mac", r#""a.b.c""#),
        502,
    ),
    ("megabytes", "/token", || told(vec![b' '; 3_000_000]), 503),
    (
        "megabytes without end",
        "/token",
        || stalled("", 3_000_000),
        503,
    ),
    (
        "a stall",
        "/token",
        || stalled("content-length: 5\r\n", 1),
        503,
    ),
    ("silence", "/token", || Reply::Stall(Vec::new()), 503),
    (
        "a redirect",
        "/token",
        || Reply::with(307, "location: http://127.0.0.1:1/\r\n", ""),
        503,
    ),
    (
        "trouble",
        "/token",
        || Reply::with(500, "", r#"{"error":"server_error"}"#),
        503,
    ),
    (
        "a user that is another",
        "/userinfo",
        || told(r#"{"sub":"someone else"}"#),
        502,
    ),
    (
        "a user that is right, as a page",
        "/userinfo",
        || Reply::with(200, "content-type: text/html\r\n", right_user()),
        502,
    ),
    (
        "a user that is right, signed",
        "/userinfo",
        || Reply::with(200, "content-type: application/jwt\r\n", right_user()),
        502,
    ),
    (
        "a user that is right, as nothing that is named",
        "/userinfo",
        || Reply::ok(right_user()),
        502,
    ),
];

fn right_user() -> String {
    json!({ "sub": SUB }).to_string()
}

fn told(body: impl AsRef<[u8]>) -> Reply {
    Reply::with(200, "content-type: application/json\r\n", body)
}

fn tokens(kind: &str, id_token: &str) -> Reply {
    told(format!(
        r#"{{"token_type":"{kind}","access_token":"a","id_token":{id_token}}}"#
    ))
}

fn stalled(fields: &str, length: usize) -> Reply {
    let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    Reply::Stall([head.into_bytes(), vec![b' '; length]].concat())
}

#[tokio::test]
async fn whatever_a_provider_answers_nobody_gets_in_and_nothing_hangs() {
    let keys = format!("{CLAIMS}\nanswer_timeout = \"1s\"\nuser_info = true");
    let bench = Bench::with(&keys, |proxy| proxy).await;
    for (why, path, answer, status) in NONSENSE {
        bench.provider.script().answers.insert(path, answer);
        let mut browser = bench.proxy.browser();
        let answer = bench.log_in(&mut browser).await;
        assert_eq!(answer.status, status, "{why}: {}", answer.text());
        bench.nobody_got_in(&mut browser, why).await;
        bench.provider.script().answers.clear();
    }
    let mut browser = bench.proxy.browser();
    assert_eq!(bench.log_in(&mut browser).await.status, 303);
}

/// What a provider must not say of itself, where, and what of that the log tells.
type Lie = (&'static str, &'static str, fn() -> Reply, &'static str);

const BEFORE_ANYBODY_COMES: [Lie; 12] = [
    (
        "page",
        DOCUMENT,
        || Reply::with(200, "content-type: text/html\r\n", "{}"),
        "as application/json",
    ),
    (
        "untyped",
        DOCUMENT,
        || Reply::ok("{}"),
        "as application/json",
    ),
    (
        "other-issuer",
        DOCUMENT,
        || {
            told(
                r#"{"issuer":"https://evil.example","authorization_endpoint":"https://evil.example/a","token_endpoint":"https://evil.example/t","jwks_uri":"https://evil.example/j"}"#,
            )
        },
        "of another issuer",
    ),
    ("no-document", DOCUMENT, || told("[]"), "cannot be read"),
    (
        "flood",
        DOCUMENT,
        || told(vec![b' '; 3_000_000]),
        "larger than",
    ),
    (
        "stall",
        DOCUMENT,
        || Reply::Stall(Vec::new()),
        "did not answer in time",
    ),
    (
        "elsewhere",
        DOCUMENT,
        || Reply::with(302, "location: http://127.0.0.1:1/\r\n", ""),
        "answers 302",
    ),
    (
        "key-page",
        "/jwks",
        || Reply::with(200, "content-type: text/plain\r\n", "{\"keys\":[]}"),
        "as application/jwk-set+json",
    ),
    ("no-keys", "/jwks", || told("{\"keys\":[]}"), "no key"),
    ("garbage-keys", "/jwks", || told("\0\u{1}"), "no JWK set"),
    (
        "key-flood",
        "/jwks",
        || told(vec![b' '; 3_000_000]),
        "larger than",
    ),
    (
        "key-stall",
        "/jwks",
        || stalled("content-type: application/json\r\ncontent-length: 5\r\n", 1),
        "did not answer in time",
    ),
];

const DOCUMENT: &str = "/.well-known/openid-configuration";

#[tokio::test]
async fn of_many_providers_that_lie_about_themselves_each_is_told_of_and_only_the_honest_one_is_used()
 {
    let clock = Clock::system();
    let honest = Provider::start(&clock).await;
    let mut liars = Vec::new();
    let mut proxy = proxy().provider(&honest.section("corp", CLAIMS));
    for (id, place, answer, _) in BEFORE_ANYBODY_COMES {
        let liar = Provider::start(&clock).await;
        liar.script().answers.insert(place, answer);
        let keys = format!("{CLAIMS}\nanswer_timeout = \"500ms\"");
        proxy = proxy.provider(&liar.section(id, &keys));
        liars.push(liar);
    }
    let app = upstream(|_| Reply::ok("hello")).await;
    let folder = proxy.app(&app.url()).prepare();
    let mut process = Process::start(folder.path(), &["run", "--config", "doorward.toml"]);
    let fresh = process.browser().await;
    for (id, _, _, why) in BEFORE_ANYBODY_COMES {
        eventually("the log says why", async || {
            process.words().lines().any(|line| {
                line.contains("a provider was not found")
                    && line.contains(&format!("provider=\"{id}\""))
                    && line.contains(why)
            })
        })
        .await;
    }
    for (id, ..) in BEFORE_ANYBODY_COMES {
        let mut browser = fresh.clone();
        let place = format!("/.doorward/login?provider={id}");
        let page = browser.open(&place).await;
        assert_eq!(page.status, 503, "{id}");
        assert_eq!(page.header("retry-after"), "5", "{id}");
        let text = page.text();
        let (_, request) = text.split_once("<code>").expect("a request id");
        let request = format!("request={}", request.split('<').next().unwrap());
        let told = async || process.words().contains(&request);
        eventually("the log knows the request", told).await;
        assert_eq!(browser.token(), "", "{id}");
    }
    let found = "a provider was found provider=\"corp\"";
    eventually("the honest one", async || process.words().contains(found)).await;
    let mut browser = fresh.clone();
    let sent = browser.open("/.doorward/login?provider=corp").await;
    let back = honest.approve(sent.header("location"));
    assert_eq!(browser.open(&back).await.status, 303);
    assert_eq!(browser.open("/").await.text(), "hello");
}

#[tokio::test]
async fn a_provider_that_stalls_holds_up_nobody_who_logs_in_at_another() {
    let slow = Provider::start(&Clock::fixed(START)).await;
    slow.script()
        .answers
        .insert("/token", || Reply::Stall(Vec::new()));
    let section = slow.section("slow", &format!("{CLAIMS}\nanswer_timeout = \"20s\""));
    let bench = Bench::with(CLAIMS, |proxy| proxy.provider(&section)).await;
    bench.found("slow").await;
    // More than may ask it at once.
    let mut waiting = Vec::new();
    for _ in 0..80 {
        let mut browser = bench.proxy.browser();
        let sent = browser.open("/.doorward/login?provider=slow").await;
        let back = slow.approve(sent.header("location"));
        waiting.push(tokio::spawn(
            async move { browser.open(&back).await.status },
        ));
    }
    eventually("many that wait", async || slow.asked_at("/token") == 64).await;
    for _ in 0..3 {
        let mut browser = bench.proxy.browser();
        assert_eq!(bench.log_in(&mut browser).await.status, 303);
        assert_eq!(browser.open("/").await.text(), "hello");
    }
    assert_eq!(slow.asked_at("/token"), 64, "the others wait their turn");
    assert!(waiting.iter().all(|one| !one.is_finished()));
    for one in waiting {
        one.abort();
    }
}

#[tokio::test]
async fn an_answer_that_can_be_read_in_two_ways_is_refused_before_the_provider_is_asked() {
    let bench = Bench::start().await;
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "/").await;
    let (asked, issuer) = (Asked::of(&there), bench.provider.issuer());
    let (place, state) = (asked.place(), ("state", asked.get("state")));
    let mut tampered = state.1.to_owned().into_bytes();
    tampered[40] = if tampered[40] == b'A' { b'B' } else { b'A' };
    let tampered = String::from_utf8(tampered).unwrap();
    let (code, iss) = (("code", "c"), ("iss", issuer.as_str()));
    let (evil, error) = (("iss", "https://evil.example"), ("error", "access_denied"));
    for (why, status, pairs) in [
        ("no issuer", 502, &[code, state][..]),
        ("another issuer", 502, &[code, state, evil]),
        ("another issuer with an error", 502, &[error, state, evil]),
        ("no issuer with an error", 502, &[error, state]),
        ("two codes", 400, &[code, ("code", "d"), state, iss]),
        ("two states", 400, &[code, state, state, iss]),
        ("two issuers", 400, &[code, state, iss, iss]),
        ("a code and an error", 400, &[code, error, state, iss]),
        ("neither", 400, &[state, iss]),
        ("no state", 400, &[code, iss]),
        (
            "a state of nobody's",
            400,
            &[code, ("state", tampered.as_str()), iss],
        ),
        ("a state that is none", 400, &[code, ("state", "AAAA"), iss]),
        ("nothing", 400, &[]),
    ] {
        let answer = browser.open(&come_back(&place, pairs)).await;
        assert_eq!(answer.status, status, "{why}: {}", answer.text());
        bench.nobody_got_in(&mut browser, why).await;
    }
    assert_eq!(bench.provider.asked_at("/token"), 0);
}

#[tokio::test]
async fn an_answer_to_another_browser_or_too_late_is_refused() {
    let bench = Bench::start().await;
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "/").await;
    let (asked, issuer) = (Asked::of(&there), bench.provider.issuer());
    let place = asked.place();
    let pairs = [
        ("code", "c"),
        ("state", asked.get("state")),
        ("iss", &issuer),
    ];
    let good = come_back(&place, &pairs);
    let mut other = bench.proxy.browser();
    bench.way_out(&mut other, "/").await;
    for browser in [&mut other, &mut bench.proxy.browser()] {
        let answer = browser.open(&good).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("This login did not begin here"));
    }
    let image = [("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
    let answer = browser.request(Method::GET, &good, &image, "").await;
    assert_eq!(answer.status, 400, "a picture");
    assert_eq!(answer.json()["error"], "login_unknown");
    assert_eq!(browser.open("/.doorward/callback/local").await.status, 404);
    assert_eq!(browser.open("/.doorward/callback/other").await.status, 404);
    let posted = browser.request(Method::POST, &place, &[], "").await;
    assert_eq!(posted.status, 405);
    let head = browser.request(Method::HEAD, &good, &[], "").await;
    assert_eq!(head.status, 405);

    bench.proxy.clock.advance(Duration::from_hours(1));
    let late = browser.open(&good).await;
    assert_eq!(late.status, 400);
    assert!(late.text().contains("The login took too long"));
    assert_eq!(bench.provider.asked_at("/token"), 0);
}

#[tokio::test]
async fn tabs_that_begin_at_once_share_one_login_and_each_returns_to_its_page() {
    let bench = Bench::start().await;
    // None of the tabs has the cookie of another yet; the last one that comes is what the browser keeps.
    let mut backs = Vec::new();
    let mut browser = bench.proxy.browser();
    for tab in 0..30 {
        let mut fresh = bench.proxy.browser();
        let there = bench.way_out(&mut fresh, &format!("/tab/{tab}")).await;
        backs.push(bench.provider.approve(&there));
        browser.jar = fresh.jar;
    }
    assert_eq!(browser.jar.len(), 1);
    assert!(browser.jar["__Host-sid-browser"].len() < 160);
    // One that comes before there is a session is led to the same page by way of another login.
    let early = browser.open(&backs[0]).await;
    assert_eq!(early.status, 400);
    let text = early.text().replace("&#x2f;", "/").replace("&amp;", "&");
    let again = "/.doorward/login?return_to=%2Ftab%2F0&provider=corp";
    assert!(text.contains(again), "{text}");
    bench.stranded("foreign").await;
    bench
        .nobody_got_in(&mut browser, "a tab of another cookie")
        .await;
    for tab in (0..30).rev() {
        let answer = browser.open(&backs[tab]).await;
        assert_eq!(answer.status, 303, "{tab}: {}", answer.text());
        assert_eq!(answer.header("location"), format!("/tab/{tab}"));
    }
    assert_eq!(
        bench.provider.asked_at("/token"),
        1,
        "one of them logged in"
    );
    assert_eq!(bench.proxy.sessions().stored().await.unwrap(), 1);
    // It leads nowhere but to a place of ours, and logs nobody in.
    let mut stranger = bench.proxy.browser();
    assert_eq!(stranger.open(&backs[3]).await.status, 400);
    assert_eq!(stranger.token(), "");
}

#[tokio::test]
async fn a_login_that_the_provider_refuses_leads_back_with_a_word() {
    let bench = Bench::start().await;
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "/wiki").await;
    let asked = Asked::of(&there);
    let issuer = bench.provider.issuer();
    let pairs = [
        ("error", "access_denied"),
        ("state", asked.get("state")),
        ("iss", &issuer),
    ];
    let answer = browser.open(&come_back(&asked.place(), &pairs)).await;
    assert_eq!(answer.status, 403);
    let text = answer.text().replace("&#x2f;", "/").replace("&amp;", "&");
    assert!(text.contains("You were not logged in"), "{text}");
    let again = "/.doorward/login?return_to=%2Fwiki&provider=corp";
    assert!(text.contains(again), "{text}");
    bench.stranded("refused").await;
    bench.nobody_got_in(&mut browser, "refused").await;
}

#[tokio::test]
async fn an_answer_is_good_once() {
    let bench = Bench::start().await;
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "/wiki").await;
    let back = bench.provider.approve(&there);
    assert_eq!(browser.open(&back).await.status, 303);
    let token = browser.token().to_owned();
    // Somebody goes back to it in their own browser.
    let again = browser.open(&back).await;
    assert_eq!(
        (again.status.as_u16(), again.header("location")),
        (303, "/wiki")
    );
    assert_eq!(browser.token(), token);
    // Whoever has only the address and the cookie from before the login gets nothing.
    browser.jar.remove("__Host-sid");
    let stolen = browser.open(&back).await;
    assert_eq!(stolen.status, 502);
    // Nor does another code for it.
    let fresh = bench.provider.approve(&there);
    assert_eq!(browser.open(&fresh).await.status, 502);
    assert_eq!(bench.provider.asked_at("/token"), 1);
    bench.nobody_got_in(&mut browser, "replayed").await;
}

#[tokio::test]
async fn of_many_who_bring_one_answer_at_once_one_logs_in() {
    let bench = Bench::start().await;
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "/wiki").await;
    let back = bench.provider.approve(&there);
    let all = (0..16).map(|_| {
        let (mut browser, back) = (browser.clone(), back.clone());
        async move {
            let answer = browser.open(&back).await;
            (answer.status.as_u16(), browser)
        }
    });
    let all = futures_util::future::join_all(all).await;
    let mut is_in = 0;
    for (status, mut browser) in all {
        assert_eq!(status == 303, !browser.token().is_empty(), "{status}");
        assert!(matches!(status, 303 | 502), "{status}");
        is_in += usize::from(browser.fetch("/").await.status == 200);
    }
    assert_eq!((is_in, bench.provider.asked_at("/token")), (1, 1));
    assert_eq!(bench.proxy.sessions().stored().await, Ok(1));
}

#[tokio::test]
async fn a_code_of_another_login_is_of_no_use() {
    let bench = Bench::start().await;
    let (mut victim, mut attacker) = (bench.proxy.browser(), bench.proxy.browser());
    let theirs = bench.way_out(&mut attacker, "/").await;
    let back = bench.provider.approve(&theirs);
    let code = Asked::of(&format!("https://localhost{back}"));
    let code = code.get("code");
    let there = bench.way_out(&mut victim, "/").await;
    let (asked, issuer) = (Asked::of(&there), bench.provider.issuer());
    let pairs = [
        ("code", code),
        ("state", asked.get("state")),
        ("iss", &issuer),
    ];
    let answer = victim.open(&come_back(&asked.place(), &pairs)).await;
    assert_eq!(
        answer.status, 403,
        "the provider refuses a verifier of another login"
    );
    bench.nobody_got_in(&mut victim, "injected").await;
}

#[tokio::test]
async fn no_provider_passes_for_another() {
    let clock = Clock::fixed(START);
    let evil = Provider::start(&clock).await;
    // One that says nothing about who it is, as many do.
    evil.script().document = json!({"authorization_response_iss_parameter_supported": null});
    let section = evil.section("evil", CLAIMS);
    let bench = Bench::with(CLAIMS, |proxy| proxy.provider(&section)).await;
    bench.found("evil").await;
    let mut browser = bench.proxy.browser();
    // The login began at one and is answered with a code of the other.
    let sent = browser.open("/.doorward/login?provider=evil").await;
    let begun = Asked::of(sent.header("location"));
    let there = bench.way_out(&mut browser, "/").await;
    let honest = Asked::of(&there);
    let issuer = bench.provider.issuer();
    for (why, place, state, issuer, status) in [
        (
            "its state at the other's place",
            honest.place(),
            begun.get("state"),
            issuer.as_str(),
            400,
        ),
        (
            "the other's state at its place",
            begun.place(),
            honest.get("state"),
            issuer.as_str(),
            400,
        ),
        (
            "the other's name at its place",
            begun.place(),
            begun.get("state"),
            issuer.as_str(),
            502,
        ),
    ] {
        let pairs = [("code", "c"), ("state", state), ("iss", issuer)];
        let answer = browser.open(&come_back(&place, &pairs)).await;
        assert_eq!(answer.status, status, "{why}");
    }
    assert_eq!(
        bench.provider.asked_at("/token") + evil.asked_at("/token"),
        0
    );
    // The same subject at both is two people.
    assert_eq!(bench.log_in(&mut browser).await.status, 303);
    let first = browser.fetch("/.doorward/session").await.json();
    let sent = browser
        .open("/.doorward/login?provider=evil&prompt=login")
        .await;
    let back = evil.approve(sent.header("location"));
    assert_eq!(browser.open(&back).await.status, 303);
    let second = browser.fetch("/.doorward/session").await.json();
    assert_eq!(first["user"], second["user"]);
    assert_eq!(second["provider"], "evil");
    assert_ne!(
        first["sid"], second["sid"],
        "no session goes on as somebody else's"
    );
}

#[tokio::test]
async fn a_new_key_is_asked_for_once_and_garbage_changes_nothing() {
    let bench = Bench::start().await;
    assert_eq!(bench.provider.asked_at("/jwks"), 1);
    {
        let mut script = bench.provider.script();
        script.keys = vec![
            ("two".to_owned(), Key::Second),
            ("one".to_owned(), Key::First),
        ];
        script.sign = Sign::With(Key::Second);
    }
    for _ in 0..2 {
        assert_eq!(bench.log_in(&mut bench.proxy.browser()).await.status, 303);
    }
    assert_eq!(
        bench.provider.asked_at("/jwks"),
        2,
        "what is known is not asked for again"
    );

    // A key that nobody publishes makes us ask again, but not for every token.
    bench.provider.script().header = json!({"kid": "three"});
    for round in 0..2 {
        for _ in 0..5 {
            assert_eq!(bench.log_in(&mut bench.proxy.browser()).await.status, 502);
        }
        assert_eq!(bench.provider.asked_at("/jwks"), 2 + round);
        bench.proxy.clock.advance(Duration::from_secs(30));
    }
    // Garbage in place of keys, then the keys that were good before.
    let garbage: [fn() -> Reply; 4] = [
        || told("<html>"),
        || told("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}"),
        || told(vec![b' '; 3_000_000]),
        || Reply::with(404, "", ""),
    ];
    for answer in garbage {
        bench.proxy.clock.advance(Duration::from_secs(31));
        bench.provider.script().answers.insert("/jwks", answer);
        let refused = bench.log_in(&mut bench.proxy.browser()).await.status;
        assert!(refused.is_server_error(), "{refused}");
    }
    bench.provider.script().header = json!({});
    assert_eq!(bench.log_in(&mut bench.proxy.browser()).await.status, 303);
}

#[tokio::test]
async fn a_route_for_fresh_logins_asks_the_provider_for_one() {
    let bench = Bench::with(CLAIMS, |proxy| {
        proxy.route(
            "/vault",
            "http://127.0.0.1:1",
            "access = \"user\"\nmax_auth_age = \"10m\"",
        )
    })
    .await;
    let old = START.as_secs() - 3600;
    bench.provider.script().claims = json!({ "auth_time": old });
    let mut browser = bench.proxy.browser();
    assert_eq!(bench.log_in(&mut browser).await.status, 303);
    let sid = browser.fetch("/.doorward/session").await.json()["sid"].clone();
    assert_eq!(browser.open("/").await.status, 200);
    // Having been there long ago is not having shown it now, whenever the session began.
    let told = browser.open("/vault").await;
    let login = "/.doorward/login?return_to=%2Fvault&prompt=login";
    assert_eq!(told.header("location"), login);
    let sent = browser.open(login).await;
    let there = sent.header("location").to_owned();
    let asked = Asked::of(&there);
    assert_eq!((asked.get("prompt"), asked.get("max_age")), ("login", "0"));

    // The provider lets the user through without asking.
    for claims in [json!({ "auth_time": old }), json!({ "auth_time": null })] {
        bench.provider.script().claims = claims;
        let sent = browser.open(login).await;
        let back = bench.provider.approve(sent.header("location"));
        let answer = browser.open(&back).await;
        assert_eq!(answer.status, 403);
        let page = answer.text();
        assert!(page.contains("Log in there once more"), "{page}");
        let again = "login?return_to=%2Fvault&amp;prompt=login\"";
        assert!(page.contains(again), "any way but no other page: {page}");
        assert_eq!(
            browser.open("/vault").await.status,
            303,
            "not good enough yet"
        );
        assert_eq!(browser.open("/").await.status, 200, "the session goes on");
    }
    bench.stranded("too_old").await;
    bench.provider.script().claims = json!({});
    let back = bench.provider.approve(&there);
    let token = browser.token().to_owned();
    assert_eq!(browser.open(&back).await.header("location"), "/vault");
    assert_ne!(browser.token(), token, "a new token");
    assert_eq!(
        browser.open("/vault").await.status,
        502,
        "through, to an app that is down"
    );
    let who = browser.fetch("/.doorward/session").await.json();
    assert_eq!(who["sid"], sid, "the same session");
    assert_eq!(who["auth_time"], START.as_secs());
}

#[tokio::test]
async fn a_provider_that_does_not_say_when_is_not_believed_to_have_asked_now() {
    let bench = Bench::with(CLAIMS, |proxy| {
        proxy.route(
            "/vault",
            "http://127.0.0.1:1",
            "access = \"user\"\nmax_auth_age = \"10m\"",
        )
    })
    .await;
    bench.provider.script().claims = json!({ "auth_time": null });
    let mut browser = bench.proxy.browser();
    assert_eq!(bench.log_in(&mut browser).await.status, 303);
    assert_eq!(browser.open("/").await.status, 200);
    assert_eq!(browser.open("/vault").await.status, 303);
}

#[tokio::test]
async fn a_login_at_the_provider_may_be_as_old_as_is_allowed() {
    let keys = format!("{CLAIMS}\nmax_auth_age = \"8h\"");
    let bench = Bench::with(&keys, |proxy| proxy).await;
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "/").await;
    assert_eq!(Asked::of(&there).get("max_age"), "28800");
    for (age, status) in [(28_800, 303), (28_861, 403)] {
        bench.provider.script().claims = json!({ "auth_time": START.as_secs() - age });
        assert_eq!(
            bench.log_in(&mut bench.proxy.browser()).await.status,
            status,
            "{age}"
        );
    }
}

#[tokio::test]
async fn who_was_locked_out_meanwhile_does_not_slip_in() {
    let bench = Bench::start().await;
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "/").await;
    bench.proxy.clock.advance(Duration::from_secs(5));
    let subject = Subject {
        provider: "corp".to_owned(),
        id: SUB.to_owned(),
    };
    let ended = bench
        .proxy
        .sessions()
        .end_all_of(&subject, EndReason::Revoked);
    ended.await.unwrap();
    let answer = browser.open(&bench.provider.approve(&there)).await;
    assert_eq!(answer.status, 409);
    bench.nobody_got_in(&mut browser, "ended meanwhile").await;
    bench.proxy.clock.advance(Duration::from_secs(1));
    assert_eq!(
        bench.log_in(&mut browser).await.status,
        303,
        "a login that begins later"
    );
}

#[tokio::test]
async fn only_a_page_that_is_opened_leads_away() {
    let bench = Bench::start().await;
    let mut browser = bench.proxy.browser();
    let place = "/.doorward/login?provider=corp";
    for (mode, dest) in [
        ("no-cors", "image"),
        ("cors", "empty"),
        ("navigate", "iframe"),
    ] {
        let fields = [("sec-fetch-mode", mode), ("sec-fetch-dest", dest)];
        let answer = browser.request(Method::GET, place, &fields, "").await;
        assert_eq!(answer.status, 400, "{dest}");
        assert!(answer.header("location").is_empty());
    }
}

#[tokio::test]
async fn what_the_id_token_lacks_the_user_info_endpoint_tells() {
    let keys = "claims = { user = \"email\", groups = \"groups\" }\nuser_info = true";
    let bench = Bench::with(keys, |proxy| proxy).await;
    {
        let mut script = bench.provider.script();
        script.claims = json!({"email": null, "email_verified": null});
        script.user_info = json!({
            "sub": SUB, "email": "jane@corp.example", "email_verified": true, "groups": ["ops"],
        });
    }
    let mut browser = bench.proxy.browser();
    assert_eq!(bench.log_in(&mut browser).await.status, 303);
    browser.open("/").await;
    let request = bench.app.only();
    assert_eq!(request.one("remote-user"), "jane@corp.example");
    assert_eq!(request.one("remote-groups"), "ops");
    bench.provider.script().user_info["email_verified"] = json!(false);
    let mut browser = bench.proxy.browser();
    assert_eq!(
        bench.log_in(&mut browser).await.status,
        502,
        "an address that nobody vouches for"
    );
}

#[tokio::test]
async fn who_we_are_is_shown_as_the_provider_was_told() {
    let secret = "client_secret = { file = \"oidc.secret\" }";
    for (way, client) in [
        (
            format!("{secret}\nclient_auth = \"client_secret_basic\""),
            Shown::Basic,
        ),
        (
            format!("{secret}\nclient_auth = \"client_secret_post\""),
            Shown::Post,
        ),
        ("client_auth = \"none\"".to_owned(), Shown::Not),
    ] {
        let provider = Provider::start(&Clock::fixed(START)).await;
        provider.script().client = client;
        let section = provider.section("shown", CLAIMS);
        let section = section.replace(secret, &way);
        let bench = Bench::of(provider, CLAIMS, |proxy| proxy.provider(&section)).await;
        bench.found("shown").await;
        let mut browser = bench.proxy.browser();
        let sent = browser.open("/.doorward/login?provider=shown").await;
        let back = bench.provider.approve(sent.header("location"));
        assert_eq!(browser.open(&back).await.status, 303, "{client:?}");
        // The other one has the secret in the header.
        let expected = if matches!(client, Shown::Basic) {
            303
        } else {
            403
        };
        let other = bench.log_in(&mut bench.proxy.browser()).await;
        assert_eq!(other.status, expected, "{client:?}");
    }
}

#[tokio::test]
async fn a_provider_is_asked_over_tls_that_the_configured_authority_vouches_for() {
    let clock = Clock::fixed(START);
    let hidden = Provider::start(&clock).await;
    let folder = proxy().prepare();
    std::fs::write(folder.path().join("ca.pem"), &certificate().0).unwrap();
    // A proxy is a server with TLS as good as any.
    let front = proxy()
        .clock(&clock)
        .route("/", &hidden.issuer(), "access = \"public\"")
        .start();
    let issuer = format!("https://localhost:{}", front.addr.port());
    hidden.script().issuer = issuer;
    let trusted = hidden.section("trusted", &format!("ca_file = \"ca.pem\"\n{CLAIMS}"));
    let untrusted = hidden.section("untrusted", CLAIMS);
    let app = upstream(|_| Reply::ok("hello")).await;
    let proxy = proxy()
        .within(folder)
        .clock(&clock)
        .provider(&trusted)
        .provider(&untrusted)
        .app(&app.url())
        .start();
    let bench = Bench {
        proxy,
        provider: hidden,
        app,
    };
    bench.found("trusted").await;
    let mut browser = bench.proxy.browser();
    let sent = browser.open("/.doorward/login?provider=trusted").await;
    let back = bench.provider.approve(sent.header("location"));
    assert_eq!(browser.open(&back).await.status, 303);
    assert_eq!(browser.open("/").await.text(), "hello");
    let page = browser
        .open("/.doorward/login?provider=untrusted&prompt=login")
        .await;
    assert_eq!(page.status, 503);
}

#[tokio::test]
async fn a_login_has_to_be_of_a_kind_that_was_asked_for() {
    let keys = format!("{CLAIMS}\nacr_values = [\"phr\", \"urn:example:mfa\"]");
    let bench = Bench::with(&keys, |proxy| proxy).await;
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "/").await;
    assert_eq!(Asked::of(&there).get("acr_values"), "phr urn:example:mfa");
    for (acr, why) in [
        (json!(null), "none"),
        (json!("0"), "a weak one"),
        (json!("PHR"), "another spelling"),
        (json!("phr urn:example:mfa"), "all of them"),
        (json!(["phr"]), "a list"),
        (json!(true), "no text"),
    ] {
        bench.provider.script().claims = json!({ "acr": acr });
        let answer = bench.log_in(&mut browser).await;
        assert_eq!(answer.status, 403, "{why}");
        assert!(answer.text().contains("in a stronger way"), "{why}");
        bench.nobody_got_in(&mut browser, why).await;
    }
    bench.stranded("too_weak").await;
    bench.provider.script().claims = json!({ "acr": "urn:example:mfa" });
    assert_eq!(bench.log_in(&mut browser).await.status, 303);
    assert_eq!(browser.open("/").await.text(), "hello");
}

/// A page of the same provider's users that wants a stronger login than the others.
const STRICT: &str =
    "access = \"user\"\nprovider = \"corp\"\nacr_values = [\"phr\", \"urn:example:mfa\"]";
const STRICT_LOGIN: &str = "/.doorward/login?return_to=%2Fvault&provider=corp&prompt=login&acr_values=phr+urn%3Aexample%3Amfa";

async fn with_strict_route(keys: &str) -> Bench {
    let jwt = format!("mode = \"jwt\"\n{keys}");
    let session = if keys.is_empty() { String::new() } else { jwt };
    Bench::with(CLAIMS, |proxy| {
        let proxy = proxy.route("/vault", "http://127.0.0.1:1", STRICT);
        proxy.with("session", &session)
    })
    .await
}

/// Through, to an app that is down.
async fn is_through(browser: &mut Browser) -> bool {
    let answer = browser.open("/vault").await;
    assert!(matches!(answer.status.as_u16(), 303 | 502));
    answer.status == 502
}

#[tokio::test]
async fn a_route_may_want_a_stronger_login_than_the_others() {
    let bench = with_strict_route("").await;
    bench.provider.script().claims = json!({ "acr": "0" });
    let mut browser = bench.proxy.browser();
    assert_eq!(bench.log_in(&mut browser).await.status, 303);
    let sid = browser.fetch("/.doorward/session").await.json()["sid"].clone();
    assert_eq!(browser.open("/").await.status, 200);
    assert_eq!(
        browser.open("/vault").await.header("location"),
        STRICT_LOGIN
    );
    let told = browser.fetch("/vault").await;
    assert_eq!(told.status, 401);
    assert_eq!(told.json()["error"], "reauthentication_required");
    let login_url = told.json()["login_url"].as_str().unwrap().to_owned();
    assert!(login_url.contains("&acr_values=phr+urn%3Aexample%3Amfa"));

    for acr in [json!(null), json!("0"), json!("PHR"), json!(["phr"])] {
        bench.provider.script().claims = json!({ "acr": acr });
        let sent = browser.open(STRICT_LOGIN).await;
        let asked = Asked::of(sent.header("location"));
        assert_eq!(asked.get("acr_values"), "phr urn:example:mfa");
        assert_eq!(asked.get("prompt"), "login");
        let back = bench.provider.approve(sent.header("location"));
        let answer = browser.open(&back).await;
        assert_eq!(answer.status, 403, "{acr}");
        let again = STRICT_LOGIN.replace('&', "&amp;");
        let again = again.trim_start_matches("/.doorward/");
        assert!(answer.text().contains(again), "{}", answer.text());
        assert!(!is_through(&mut browser).await, "{acr}");
        assert_eq!(browser.open("/").await.status, 200, "the session goes on");
    }
    bench.stranded("too_weak").await;

    bench.provider.script().claims = json!({ "acr": "urn:example:mfa" });
    let sent = browser.open(STRICT_LOGIN).await;
    let back = bench.provider.approve(sent.header("location"));
    let token = browser.token().to_owned();
    assert_eq!(browser.open(&back).await.header("location"), "/vault");
    assert_ne!(browser.token(), token, "a new token");
    assert!(is_through(&mut browser).await);
    let who = browser.fetch("/.doorward/session").await.json();
    assert_eq!(who["sid"], sid, "the same session");

    // A login after that, for another page, is what counts then.
    bench.provider.script().claims = json!({ "acr": "0" });
    let sent = browser
        .open("/.doorward/login?provider=corp&prompt=login")
        .await;
    let back = bench.provider.approve(sent.header("location"));
    assert_eq!(browser.open(&back).await.status, 303);
    assert!(!is_through(&mut browser).await);
}

#[tokio::test]
async fn whoever_asks_for_a_weaker_login_has_one() {
    let bench = with_strict_route("").await;
    bench.provider.script().claims = json!({ "acr": "0" });
    let mut browser = bench.proxy.browser();
    let weaker = STRICT_LOGIN.replace("phr+urn%3Aexample%3Amfa", "0");
    let sent = browser.open(&weaker).await;
    assert_eq!(Asked::of(sent.header("location")).get("acr_values"), "0");
    let back = bench.provider.approve(sent.header("location"));
    assert_eq!(browser.open(&back).await.header("location"), "/vault");
    assert!(!is_through(&mut browser).await);
    // Local users, of whom no provider says anything, do not count either.
    let mut alice = bench.proxy.browser();
    alice
        .log_in_at("/.doorward/login?provider=local", "alice", PASSWORD)
        .await;
    assert_eq!(alice.open("/").await.status, 200);
    assert!(!is_through(&mut alice).await);
    let long = "a".repeat(513);
    for odd in ["%0D%0Ax", "%C3%A9", "%00", long.as_str()] {
        let place = STRICT_LOGIN.replace("phr+urn%3Aexample%3Amfa", odd);
        assert_eq!(browser.open(&place).await.status, 400, "{odd}");
    }
}

#[tokio::test]
async fn a_kind_of_login_may_have_any_length_that_a_route_may_ask_for() {
    let kind = "k".repeat(511);
    let strict = STRICT.replace("\"phr\", \"urn:example:mfa\"", &format!("\"{kind}\""));
    assert!(strict.contains(&kind));
    let bench = Bench::with(CLAIMS, |proxy| {
        proxy.route("/vault", "http://127.0.0.1:1", &strict)
    })
    .await;
    bench.provider.script().claims = json!({ "acr": kind });
    let mut browser = bench.proxy.browser();
    assert_eq!(bench.log_in(&mut browser).await.status, 303);
    assert!(is_through(&mut browser).await);
}

#[tokio::test]
async fn a_signed_cookie_says_how_strong_a_login_was() {
    let bench = with_strict_route("[session.jwt]\nlifetime = \"2m\"").await;
    for (acr, expected) in [("0", false), ("phr", true)] {
        bench.provider.script().claims = json!({ "acr": acr });
        let mut browser = bench.proxy.browser();
        assert_eq!(bench.log_in(&mut browser).await.status, 303);
        assert_eq!(browser.open("/").await.status, 200);
        browser.jar.retain(|name, _| name == "__Host-sid-jwt");
        assert_eq!(browser.jar.len(), 1);
        assert_eq!(is_through(&mut browser).await, expected, "{acr}");
    }
}

#[tokio::test]
async fn another_proxy_is_told_that_a_login_is_too_weak() {
    let bench = Bench::with(CLAIMS, |proxy| {
        let proxy = proxy.with("server", "trusted_proxies = [\"127.0.0.1\"]");
        proxy.route("/vault", "none", STRICT)
    })
    .await;
    for (acr, status) in [("0", 303), ("phr", 200)] {
        bench.provider.script().claims = json!({ "acr": acr });
        let mut browser = bench.proxy.browser();
        assert_eq!(bench.log_in(&mut browser).await.status, 303);
        let host = browser.authority();
        let fields = [
            ("accept", "text/html"),
            ("x-forwarded-method", "GET"),
            ("x-forwarded-host", host.as_str()),
            ("x-forwarded-uri", "/vault"),
        ];
        let place = "/.doorward/auth/traefik";
        let told = browser.request(Method::GET, place, &fields, "").await;
        assert_eq!(told.status, status, "{acr}");
        if status == 303 {
            let login = format!("https://{host}{STRICT_LOGIN}");
            assert_eq!(told.header("location"), login);
        }
    }
}
