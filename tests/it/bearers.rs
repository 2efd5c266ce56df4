//! Programs that come with a token of an issuer elsewhere, or with an API token as a password: what the app is told, and
//! every token that must not be taken. What the app received is what counts.

use std::time::Duration;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use doorward::clock::Clock;
use doorward::login::{NewToken, TokenFile};
use http::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, Key, PASSWORD, Provider, Proxy, Recorded, Reply, START, Sign, Upstream, eventually,
    proxy, upstream,
};

const AUDIENCE: &str = "https://reports.example";
const CLAIMS: &str = "claims = { user = \"preferred_username\", groups = \"realm_access.roles\" }";

/// People and programs at `/`, programs of the issuer `ci` alone at `/only`, with a scope at `/reports`, the group `staff`
/// at `/staff`, those of the issuer `other` at `/other`, API tokens alone at `/token`, and as passwords at `/basic`.
struct Bench {
    proxy: Proxy,
    issuer: Provider,
    app: Upstream,
}

impl Bench {
    async fn start() -> Self {
        let bench = Self::before(CLAIMS).await;
        bench.found().await;
        bench
    }

    /// The issuer may not have been found yet.
    async fn before(keys: &str) -> Self {
        let clock = Clock::fixed(START);
        let issuer = Provider::start(&clock).await;
        let app = upstream(|_| Reply::ok("")).await;
        let name = issuer.issuer();
        let issuers = format!(
            "[[clients.issuer]]\nid = \"ci\"\nissuer = \"{name}\"\naudience = \"{AUDIENCE}\"\n{keys}\n\
             [[clients.issuer]]\nid = \"other\"\nissuer = \"http://127.0.0.1:1\"\naudience = \"{AUDIENCE}\"\n"
        );
        let route = |access: &str, by: &str, more: &str| {
            format!("access = {access}\naccess_by = [{by}]\n{more}")
        };
        let (user, jwt) = ("\"user\"", "\"jwt\"");
        let ci = "issuers = [\"ci\"]";
        let proxy = proxy()
            .clock(&clock)
            .provider(&issuers)
            .route(
                "/",
                &app.url(),
                &route(user, "\"session\", \"jwt\", \"token\"", ""),
            )
            .route("/only", &app.url(), &route(user, jwt, ci))
            .route(
                "/raw",
                &app.url(),
                &route(user, jwt, "pass_authorization = true"),
            )
            .route(
                "/reports",
                &app.url(),
                &route(user, jwt, "scopes = [\"reports:read\"]"),
            )
            .route(
                "/staff",
                &app.url(),
                &route("{ groups = [\"staff\"] }", jwt, ""),
            )
            .route(
                "/other",
                &app.url(),
                &route(user, jwt, "issuers = [\"other\"]"),
            )
            .route("/token", &app.url(), &route(user, "\"token\"", ""))
            .route(
                "/basic",
                &app.url(),
                &route(user, "\"session\", \"basic\"", ""),
            )
            .route("/scripts", &app.url(), &route(user, "\"basic\"", ""))
            .start();
        Self { proxy, issuer, app }
    }

    async fn found(&self) {
        let token = self.token("{}");
        eventually("an issuer that is found", async || {
            self.with(&token, "/only").await.status == 200
        })
        .await;
    }

    fn token(&self, claims: &str) -> String {
        self.issuer.access_token(AUDIENCE, claims)
    }

    async fn with(&self, token: &str, path: &str) -> Answer {
        let field = format!("Bearer {token}");
        self.sent(path, &[("authorization", &field)]).await
    }

    async fn sent(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut client = self.proxy.browser();
        client.request(Method::GET, path, fields, "").await
    }

    fn last(&self) -> Recorded {
        self.app.requests().pop().unwrap()
    }

    /// It gets a 401 that says so, and no app hears of it.
    async fn refused(&self, token: &str, why: &str) {
        let seen = self.app.requests().len();
        for path in ["/only", "/"] {
            let answer = self.with(token, path).await;
            assert_eq!(answer.status, 401, "{why} at {path}");
            assert_eq!(
                answer.header("www-authenticate"),
                "Bearer realm=\"doorward\", error=\"invalid_token\"",
                "{why}"
            );
        }
        assert_eq!(self.app.requests().len(), seen, "{why}");
    }

    /// An API token that the proxy knows already.
    async fn api_token(&self, name: &str) -> String {
        let new = NewToken {
            name: name.to_owned(),
            groups: Vec::new(),
            scopes: Vec::new(),
            lifetime: None,
        };
        let path = self.proxy.path("tokens.toml");
        let token = TokenFile::create(&path, new, self.proxy.clock.now()).unwrap();
        let token = token.to_string();
        eventually("the token is known", async || {
            self.with(&token, "/token").await.status == 200
        })
        .await;
        token
    }
}

fn basic(name: &str, password: &str) -> String {
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{name}:{password}"))
    )
}

#[tokio::test]
async fn an_app_is_told_who_a_token_of_an_issuer_is_and_never_the_token() {
    let bench = Bench::start().await;
    let token = bench.token(r#"{"scope": "reports:read"}"#);
    for path in ["/", "/only", "/staff", "/reports"] {
        let answer = bench.with(&token, path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.set_cookies().is_empty(), "{path}");
        let request = bench.last();
        assert_eq!(request.one("remote-user"), "jane");
        assert_eq!(request.one("remote-groups"), "staff");
        assert_eq!(request.one("remote-email"), "jane@example.org");
        assert!(!request.head.contains(&token), "{}", request.head);
    }
    assert_eq!(bench.with(&token, "/raw").await.status, 200);
    assert_eq!(bench.last().one("authorization"), format!("Bearer {token}"));
    let stored = bench.proxy.sessions().stored().await.unwrap();
    assert_eq!(stored, 0, "no session begins");
    assert_eq!(bench.issuer.asked_at("/jwks"), 1, "the keys are kept");
}

#[tokio::test]
async fn a_token_of_an_issuer_needs_the_scopes_and_the_groups_and_the_issuer_of_the_route() {
    let bench = Bench::start().await;
    let token = bench.token(r#"{"scope": "other", "realm_access": {"roles": ["guests"]}}"#);
    let seen = bench.app.requests().len();
    let refused = bench.with(&token, "/reports").await;
    assert_eq!(refused.status, 403);
    assert_eq!(
        refused.header("www-authenticate"),
        "Bearer realm=\"doorward\", error=\"insufficient_scope\""
    );
    assert_eq!(bench.with(&token, "/staff").await.status, 403);
    // Once where it was never seen, and once where it is remembered as good elsewhere.
    for token in [&bench.token("{}"), &token] {
        assert_eq!(bench.with(token, "/other").await.status, 401);
        assert_eq!(bench.with(token, "/token").await.status, 401);
    }
    assert_eq!(bench.app.requests().len(), seen);
    let member = bench.token(r#"{"scp": ["reports:read", "more"]}"#);
    assert_eq!(bench.with(&member, "/reports").await.status, 200);
    assert_eq!(bench.with(&member, "/staff").await.status, 200);
}

#[tokio::test]
async fn each_claim_of_a_token_has_to_be_right() {
    let bench = Bench::start().await;
    let now = START.as_secs();
    for (name, value) in [
        ("iss", json!("http://127.0.0.1:1/evil")),
        ("iss", json!([bench.issuer.issuer()])),
        ("iss", Value::Null),
        ("aud", json!("doorward")),
        ("aud", json!([format!("{AUDIENCE}/")])),
        ("aud", json!([])),
        ("aud", Value::Null),
        ("exp", json!(now - 61)),
        ("exp", json!((now + 300).to_string())),
        ("exp", json!(u64::MAX)),
        ("exp", Value::Null),
        ("nbf", json!(now + 61)),
        ("nbf", json!("soon")),
        ("iat", json!(now + 61)),
        ("iat", json!(1.5)),
        ("sub", json!(7)),
        ("sub", Value::Null),
        ("preferred_username", json!(["jane"])),
        ("realm_access", json!({"roles": "staff"})),
        ("scope", json!({"reports:read": true})),
        ("nonce", json!("n")),
        (
            "events",
            json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
        ),
    ] {
        let claims = json!({ name: value }).to_string();
        let why = format!("{name}: {value}");
        bench.refused(&bench.token(&claims), &why).await;
    }
    let cause = "the answer is not what the protocol asks for: the token is of another type";
    eventually("the last is told with its cause", async || {
        let last = bench.proxy.audited("credential_refused").await;
        last["cause"] == cause
    })
    .await;
    for good in [
        json!({"aud": ["https://else.example", AUDIENCE]}),
        json!({"azp": "somebody"}),
        json!({"iat": null}),
        json!({"exp": now - 59}),
        json!({"nbf": now + 59}),
    ] {
        let token = bench.token(&good.to_string());
        assert_eq!(bench.with(&token, "/only").await.status, 200, "{good}");
    }
}

#[tokio::test]
async fn only_the_keys_and_algorithms_of_the_issuer_sign() {
    let bench = Bench::start().await;
    let attempts = [
        (Sign::Not, "{}", "alg none"),
        (Sign::Not, r#"{"alg": "None"}"#, "alg None"),
        (Sign::Not, r#"{"alg": "RS256"}"#, "no signature"),
        (Sign::Hmac, "{}", "HS256 with the public key"),
        (Sign::Hmac, r#"{"alg": "RS256"}"#, "an HMAC that says RS256"),
        (Sign::With(Key::Second), "{}", "another key"),
        (
            Sign::With(Key::First),
            r#"{"alg": "ES256"}"#,
            "RS256 that says ES256",
        ),
        (
            Sign::With(Key::First),
            r#"{"alg": "PS256"}"#,
            "RS256 that says PS256",
        ),
        (
            Sign::With(Key::First),
            r#"{"alg": "RS384"}"#,
            "an algorithm that is not configured",
        ),
        (
            Sign::With(Key::First),
            r#"{"alg": ["RS256"]}"#,
            "a list of algorithms",
        ),
        (Sign::With(Key::First), r#"{"alg": null}"#, "no algorithm"),
        (
            Sign::With(Key::First),
            r#"{"crit": ["exp"]}"#,
            "something critical",
        ),
        (
            Sign::With(Key::First),
            r#"{"typ": "logout+jwt"}"#,
            "a logout token",
        ),
        (
            Sign::With(Key::First),
            r#"{"typ": "dpop+jwt"}"#,
            "a proof of possession",
        ),
        (
            Sign::With(Key::First),
            r#"{"kid": "../../dev/null"}"#,
            "a path for a key",
        ),
        (
            Sign::With(Key::First),
            r#"{"kid": "' OR 1=1"}"#,
            "a query for a key",
        ),
        (
            Sign::With(Key::First),
            r#"{"kid": ["one"]}"#,
            "a list of keys",
        ),
    ];
    for (sign, header, why) in attempts {
        bench.issuer.tells(sign, "{}", header);
        bench.refused(&bench.token("{}"), why).await;
    }
}

/// An attacker's own key, in every place where a token can name one.
#[tokio::test]
async fn a_key_that_a_token_names_is_none() {
    let bench = Bench::start().await;
    let own = Key::Second.published("two");
    let theirs = upstream(|_| Reply::ok("{}")).await;
    for header in [
        json!({"jwk": own}),
        json!({"jku": format!("{}/jwks", theirs.url())}),
        json!({"x5u": format!("{}/cert", theirs.url())}),
        json!({"kid": "two", "jwk": own, "jku": format!("{}/jwks", theirs.url())}),
    ] {
        let sign = Sign::With(Key::Second);
        bench.issuer.tells(sign, "{}", &header.to_string());
        bench.refused(&bench.token("{}"), &header.to_string()).await;
        // Signed as it should be, what it says of keys counts for nothing.
        if header.get("kid").is_none() {
            let sign = Sign::With(Key::First);
            bench.issuer.tells(sign, "{}", &header.to_string());
            assert_eq!(bench.with(&bench.token("{}"), "/only").await.status, 200);
        }
    }
    assert!(
        theirs.requests().is_empty(),
        "nobody asks where a token says"
    );
    for typ in ["JWT", "at+jwt", "AT+JWT", "application/at+jwt"] {
        let header = json!({"typ": typ}).to_string();
        bench.issuer.tells(Sign::With(Key::First), "{}", &header);
        assert_eq!(
            bench.with(&bench.token("{}"), "/only").await.status,
            200,
            "{typ}"
        );
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused_and_two_are_none() {
    let bench = Bench::start().await;
    let good = bench.token("{}");
    let parts: Vec<&str> = good.split('.').collect();
    let payload = BASE64_URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
    let twice = String::from_utf8(payload).unwrap();
    let twice = twice.replacen('{', "{\"sub\":\"root\",", 1);
    let twice = BASE64_URL_SAFE_NO_PAD.encode(twice);
    let huge = format!("{good}{}", "A".repeat(17 * 1024));
    for (bad, why) in [
        ("..", "dots"),
        ("a.b.c", "letters"),
        (&good[..good.len() - 2], "cut off"),
        (&format!("{good}."), "a part too many"),
        (&format!("{good}="), "padding"),
        (&format!("{}.{}.", parts[0], parts[1]), "no signature"),
        (
            &format!("{}.{twice}.{}", parts[0], parts[2]),
            "a claim twice",
        ),
        (&good.replacen('.', "%2e", 1), "an encoded dot"),
    ] {
        bench.refused(bad, why).await;
    }
    assert_eq!(bench.with(&huge, "/only").await.status, 401, "huge");
    let field = format!("Authorization: Bearer {good}\r\n");
    for fields in [
        field.repeat(2),
        format!("{field}Authorization: Basic YTpi\r\n"),
        format!("Authorization: Bearer \r\n{field}"),
    ] {
        let mut raw = bench.proxy.raw().await;
        raw.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"))
            .await;
        assert_eq!(raw.status().await, Some(401), "{fields}");
    }
    let in_the_address = bench.sent(&format!("/only?access_token={good}"), &[]).await;
    assert_eq!(in_the_address.status, 401, "RFC 6750 section 2.3");
}

#[tokio::test]
async fn a_token_that_was_good_ends_when_it_expires_and_with_its_key() {
    let bench = Bench::start().await;
    let token = bench.token("{}");
    assert_eq!(bench.with(&token, "/only").await.status, 200);
    bench.proxy.clock.advance(Duration::from_secs(359));
    assert_eq!(bench.with(&token, "/only").await.status, 200);
    bench.proxy.clock.advance(Duration::from_secs(1));
    bench.refused(&token, "expired").await;
    // A key that is taken back takes back what it signed, once it is known that it was.
    let old = bench.token("{}");
    assert_eq!(bench.with(&old, "/only").await.status, 200);
    bench.issuer.script().keys = vec![("two".to_owned(), Key::Second)];
    bench.issuer.tells(Sign::With(Key::Second), "{}", "{}");
    let new = bench.token("{}");
    assert_eq!(
        bench.with(&new, "/only").await.status,
        200,
        "a key that is new"
    );
    assert_eq!(bench.with(&old, "/only").await.status, 401);
}

#[tokio::test]
async fn tokens_of_unknown_keys_ask_the_issuer_at_most_twice_a_minute() {
    let bench = Bench::start().await;
    let good = bench.token("{}");
    for number in 0..20 {
        let header = format!("{{\"kid\": \"garbage-{number}\"}}");
        bench.issuer.tells(Sign::With(Key::First), "{}", &header);
        assert_eq!(bench.with(&bench.token("{}"), "/only").await.status, 401);
    }
    assert_eq!(bench.issuer.asked_at("/jwks"), 2);
    assert_eq!(bench.with(&good, "/only").await.status, 200);
    bench.proxy.clock.advance(Duration::from_secs(30));
    bench
        .issuer
        .script()
        .answers
        .insert("/jwks", || Reply::with(500, "", ""));
    let unsure = bench.with(&bench.token("{}"), "/only").await;
    assert_eq!(unsure.status, 503, "nobody knows whether it is good");
    assert_eq!(unsure.header("retry-after"), "5");
    assert_eq!(unsure.json()["error"], "issuer_unavailable");
    assert_eq!(bench.with(&bench.token("{}"), "/only").await.status, 503);
    assert_eq!(bench.issuer.asked_at("/jwks"), 3, "within the throttle");
    bench.issuer.tells(Sign::With(Key::First), "{}", "{}");
    let answer = bench.with(&bench.token("{}"), "/only").await;
    assert_eq!(answer.status, 200, "known keys stay good");
}

#[tokio::test]
async fn while_an_issuer_is_not_found_its_tokens_cannot_be_checked_and_all_else_works() {
    let bench = Bench::before(CLAIMS).await;
    bench.found().await;
    let other = json!({"iss": "http://127.0.0.1:1"}).to_string();
    let answer = bench.with(&bench.token(&other), "/other").await;
    assert_eq!(answer.status, 503);
    assert_eq!(bench.with(&bench.token("{}"), "/").await.status, 200);
    let mut person = bench.proxy.browser();
    person.log_in("alice").await;
    assert_eq!(person.open("/").await.status, 200);
}

#[tokio::test]
async fn keys_may_be_at_an_address_that_the_configuration_names() {
    let clock = Clock::fixed(START);
    let issuer = Provider::start(&clock).await;
    issuer
        .script()
        .answers
        .insert("/.well-known/openid-configuration", || {
            Reply::with(404, "", "")
        });
    let app = upstream(|_| Reply::ok("")).await;
    let address = issuer.issuer();
    issuer.script().issuer = "https://ci.example".to_owned();
    let proxy = proxy()
        .clock(&clock)
        .provider(&format!(
            "[[clients.issuer]]\nid = \"ci\"\nissuer = \"https://ci.example\"\naudience = \"{AUDIENCE}\"\n\
             jwks = \"{address}/jwks\"\nalgorithms = [\"RS256\"]\n"
        ))
        .route("/", &app.url(), "access = \"user\"\naccess_by = [\"jwt\"]")
        .start();
    let field = format!("Bearer {}", issuer.access_token(AUDIENCE, "{}"));
    eventually("the keys are found", async || {
        let mut client = proxy.browser();
        let fields = [("authorization", field.as_str())];
        client.request(Method::GET, "/", &fields, "").await.status == 200
    })
    .await;
    assert_eq!(
        app.requests().pop().unwrap().one("remote-user"),
        crate::support::SUB
    );
    assert_eq!(issuer.asked_at("/.well-known/openid-configuration"), 0);
}

/// A token with a cookie is a token: it neither keeps the session alive nor gets a new cookie for it.
#[tokio::test]
async fn neither_a_token_of_an_issuer_nor_a_password_of_scripts_touches_sessions() {
    let bench = Bench::start().await;
    let password = basic("bot", &bench.api_token("bot").await);
    let mut browser = bench.proxy.browser();
    browser
        .log_in_at("/.doorward/login", "alice", PASSWORD)
        .await;
    let left = async |browser: &mut crate::support::Browser| {
        let told = browser.fetch("/.doorward/session").await.json();
        told["idle_seconds_left"].as_u64().unwrap()
    };
    let mut before = left(&mut browser).await;
    for (path, by_password, user) in [("/", false, "jane"), ("/basic", true, "bot")] {
        bench.proxy.clock.advance(Duration::from_mins(2));
        let field = if by_password {
            password.clone()
        } else {
            format!("Bearer {}", bench.token("{}"))
        };
        let answer = browser
            .request(Method::GET, path, &[("authorization", &field)], "")
            .await;
        assert_eq!(answer.status, 200);
        assert!(answer.set_cookies().is_empty());
        let request = bench.last();
        assert_eq!(request.one("remote-user"), user);
        assert!(!request.head.contains(browser.token()));
        before -= 120;
        assert_eq!(left(&mut browser).await, before);
    }
    bench.proxy.audited_times("login_succeeded", 1).await;
}

#[tokio::test]
async fn an_api_token_is_a_password_for_scripts_where_a_route_says_so() {
    let bench = Bench::start().await;
    let token = bench.api_token("bot").await;
    let good = basic("bot", &token);
    for path in ["/basic", "/scripts"] {
        let answer = bench.sent(path, &[("authorization", &good)]).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.set_cookies().is_empty());
        let request = bench.last();
        assert_eq!(request.one("remote-user"), "bot");
        assert!(request.all("authorization").is_empty());
    }
    let seen = bench.app.requests().len();
    for (bad, why) in [
        (basic("alice", PASSWORD), "a user's own password"),
        (basic("alice", &token), "another name"),
        (basic("", &token), "no name"),
        (basic("bot", &token[1..]), "not a token"),
        (basic("bot", ""), "no token"),
        ("Basic ".to_owned(), "nothing"),
        ("Basic !".to_owned(), "no base64"),
        (
            format!("Basic {}", BASE64_STANDARD.encode(&token)),
            "no colon",
        ),
        (basic(&"x".repeat(4096), &token), "a long name"),
        (format!("Bearer {token}"), "another scheme"),
    ] {
        for path in ["/basic", "/scripts"] {
            let answer = bench.sent(path, &[("authorization", &bad)]).await;
            assert_eq!(answer.status, 401, "{why} at {path}");
        }
    }
    assert_eq!(
        bench
            .sent("/token", &[("authorization", &good)])
            .await
            .status,
        401
    );
    assert_eq!(bench.app.requests().len(), seen);
}

/// A browser that was once told a password would send it with whatever any site makes it send.
#[tokio::test]
async fn a_browser_is_never_asked_for_a_password_and_sends_none() {
    let bench = Bench::start().await;
    let good = basic("bot", &bench.api_token("bot").await);
    let seen = bench.app.requests().len();
    for field in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-mode", "no-cors"),
        ("sec-fetch-dest", "image"),
        ("origin", "https://evil.example"),
    ] {
        let fields = [("authorization", good.as_str()), field];
        let answer = bench.sent("/basic", &fields).await;
        assert_eq!(answer.status, 401, "{field:?}");
    }
    assert_eq!(bench.app.requests().len(), seen);
    eventually("each is told with its cause", async || {
        let mut told = bench.proxy.audit();
        told.retain(|line| line["cause"] == "a browser sends it");
        told.len() == 5
    })
    .await;
    let ways = |answer: &Answer| {
        let all = answer.headers.get_all("www-authenticate").into_iter();
        all.map(|way| way.to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let asks = "Basic realm=\"doorward\", charset=\"UTF-8\"".to_owned();
    for path in ["/basic", "/scripts"] {
        let script = bench.sent(path, &[("accept", "*/*")]).await;
        assert_eq!(script.status, 401);
        assert!(ways(&script).contains(&asks), "{:?}", ways(&script));
        let fetched = bench.sent(path, &[("sec-fetch-mode", "cors")]).await;
        assert!(!ways(&fetched).contains(&asks), "{path}");
        let opened = bench.sent(path, &[("accept", "text/html")]).await;
        assert!(!ways(&opened).contains(&asks), "{path}");
    }
}
