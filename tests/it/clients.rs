//! Programs that come with an API token: who the app is told they are, what they may not do, and that a token ends when it
//! is revoked. What the app received is what counts.

use std::sync::Arc;
use std::time::Duration;

use doorward::login::{NewToken, TokenFile};
use http::Method;
use tempfile::TempDir;

use crate::support::{
    Answer, Browser, PASSWORD, Proxy, ProxyBuilder, Recorded, Reply, Upstream, doorward,
    eventually, proxy, upstream,
};

/// Users and tokens at `/`, tokens alone at `/only`, tokens with a scope at `/reports`, the group `staff` at `/staff`,
/// what sessions alone may use at `/app`.
async fn serving() -> (Proxy, Upstream) {
    let app = upstream(|_| Reply::ok("")).await;
    (routes(&app).start(), app)
}

fn routes(app: &Upstream) -> ProxyBuilder {
    const BOTH: &str = "access_by = [\"session\", \"token\"]";
    let user = |keys: &str| format!("access = \"user\"\n{keys}");
    proxy()
        .route("/", &app.url(), &user(BOTH))
        .route("/only", &app.url(), &user("access_by = [\"token\"]"))
        .route(
            "/reports",
            &app.url(),
            &user(&format!("{BOTH}\nscopes = [\"reports:read\"]")),
        )
        .route(
            "/staff",
            &app.url(),
            &format!("access = {{ groups = [\"staff\"] }}\n{BOTH}"),
        )
        .route(
            "/raw",
            &app.url(),
            &user(&format!("{BOTH}\npass_authorization = true")),
        )
        .route(
            "/signed",
            &app.url(),
            &user(&format!("{BOTH}\nassertion = true")),
        )
        .route("/app", &app.url(), &user(""))
}

pub fn new(name: &str) -> NewToken {
    NewToken {
        name: name.to_owned(),
        groups: Vec::new(),
        scopes: Vec::new(),
        lifetime: None,
    }
}

/// A token that the proxy knows already; it has a route at `/only`.
pub async fn token(proxy: &Proxy, new: NewToken) -> String {
    let path = proxy.path("tokens.toml");
    let token = TokenFile::create(&path, new, proxy.clock.now()).unwrap();
    let token = token.to_string();
    eventually("the token is known", async || {
        with(proxy, &token, "/only").await.status != 401
    })
    .await;
    token
}

async fn with(proxy: &Proxy, token: &str, path: &str) -> Answer {
    let field = format!("Bearer {token}");
    let mut client = proxy.browser();
    client
        .request(Method::GET, path, &[("authorization", &field)], "")
        .await
}

fn last(app: &Upstream) -> Recorded {
    app.requests().pop().unwrap()
}

async fn last_seen(browser: &mut Browser) -> u64 {
    let told = browser.fetch("/.doorward/session").await.json();
    told["idle_seconds_left"].as_u64().unwrap()
}

#[tokio::test]
async fn an_app_is_told_who_a_token_is_and_never_the_token() {
    let (proxy, app) = serving().await;
    let groups = vec!["staff".to_owned(), "ci".to_owned()];
    let token = token(
        &proxy,
        NewToken {
            groups,
            ..new("deploy-bot")
        },
    )
    .await;
    for path in ["/", "/only", "/staff"] {
        let answer = with(&proxy, &token, path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.set_cookies().is_empty(), "{path}");
        let request = last(&app);
        assert_eq!(request.one("remote-user"), "deploy-bot");
        assert_eq!(request.one("remote-groups"), "staff,ci");
        assert_eq!(
            (request.one("remote-email"), request.one("remote-name")),
            ("", "")
        );
        assert!(!request.head.contains(&token), "{}", request.head);
        assert!(request.all("authorization").is_empty());
    }
    assert_eq!(with(&proxy, &token, "/raw").await.status, 200);
    assert_eq!(last(&app).one("authorization"), format!("Bearer {token}"));
    assert_eq!(
        proxy.sessions().stored().await.unwrap(),
        0,
        "no session begins"
    );
}

#[tokio::test]
async fn an_assertion_for_a_token_names_no_session() {
    let (proxy, app) = serving().await;
    let token = token(&proxy, new("bot")).await;
    assert_eq!(with(&proxy, &token, "/signed").await.status, 200);
    let assertion = last(&app).one("x-doorward-jwt-assertion").to_owned();
    let claims = assertion.split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, claims).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["sub"], "api-token:bot");
    assert!(claims.get("sid").is_none() && claims.get("auth_time").is_none());
    assert_eq!(claims["groups"], serde_json::json!([]));
}

#[tokio::test]
async fn what_is_no_good_token_gets_a_401_that_says_so_and_no_app_hears_of_it() {
    let (proxy, app) = serving().await;
    let good = token(&proxy, new("bot")).await;
    let seen = app.requests().len();
    let unknown = format!("dwt_{}", "A".repeat(43));
    for bad in [
        &unknown,
        "",
        "x",
        &format!(" {good}"),
        &format!("{good} "),
        &format!("{good}x"),
        &good[1..],
    ] {
        let field = format!("Authorization: bEarer {bad}\r\n");
        let mut raw = proxy.raw().await;
        raw.send(format!(
            "GET /only HTTP/1.1\r\nHost: localhost\r\n{field}\r\n"
        ))
        .await;
        let head = raw.head().await.to_lowercase();
        // The library takes space from the end of a value.
        if bad.trim_end() == good {
            assert!(head.starts_with("http/1.1 200"), "{bad:?}: {head}");
            continue;
        }
        assert!(head.starts_with("http/1.1 401"), "{bad:?}: {head}");
        assert!(
            head.contains("www-authenticate: bearer realm=\"doorward\""),
            "{head}"
        );
    }
    let twice = format!("Authorization: Bearer {good}\r\n").repeat(2);
    let mut raw = proxy.raw().await;
    raw.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{twice}\r\n"))
        .await;
    assert_eq!(raw.status().await, Some(401), "two of them");
    assert_eq!(app.requests().len(), seen + 1);
    let answer = with(&proxy, &unknown, "/").await;
    assert_eq!(answer.status, 401, "where sessions are taken too");
    assert_eq!(
        answer.header("www-authenticate"),
        "Bearer realm=\"doorward\", error=\"invalid_token\""
    );
    assert_eq!(answer.json()["error"], "invalid_token");
    eventually("the last is told with its route", async || {
        let told = proxy.audited("credential_refused").await;
        assert!(!told.to_string().contains("dwt_"));
        told["route"] == "localhost/"
    })
    .await;
}

#[tokio::test]
async fn a_token_works_only_where_a_route_takes_tokens() {
    let (proxy, app) = serving().await;
    let token = token(&proxy, new("bot")).await;
    let seen = app.requests().len();
    let answer = with(&proxy, &token, "/app").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["error"].as_str()),
        (401, Some("login_required"))
    );
    assert_eq!(with(&proxy, &token, "/.doorward/session").await.status, 401);
    assert_eq!(app.requests().len(), seen);
    let mut person = proxy.browser();
    let sent_to_log_in = person.open("/").await;
    assert_eq!(sent_to_log_in.status, 303);
    let told = proxy.browser().fetch("/").await;
    let ways: Vec<_> = told.headers.get_all("www-authenticate").iter().collect();
    assert_eq!(
        ways,
        ["Session realm=\"doorward\"", "Bearer realm=\"doorward\""]
    );
    person.log_in("alice").await;
    assert_eq!(person.open("/").await.status, 200);
    let only = person.open("/only").await;
    assert_eq!(
        (only.status.as_u16(), only.header("www-authenticate")),
        (401, "Bearer realm=\"doorward\"")
    );
}

#[tokio::test]
async fn a_token_needs_the_scopes_and_the_groups_of_the_route() {
    let (proxy, app) = serving().await;
    let plain = token(&proxy, new("plain")).await;
    let scopes = vec!["reports:read".to_owned(), "more".to_owned()];
    let reader = token(
        &proxy,
        NewToken {
            scopes,
            ..new("reader")
        },
    )
    .await;
    let seen = app.requests().len();
    let refused = with(&proxy, &plain, "/reports").await;
    assert_eq!(refused.status, 403);
    assert_eq!(
        refused.header("www-authenticate"),
        "Bearer realm=\"doorward\", error=\"insufficient_scope\""
    );
    assert_eq!(with(&proxy, &reader, "/staff").await.status, 403);
    assert_eq!(app.requests().len(), seen);
    assert_eq!(with(&proxy, &reader, "/reports").await.status, 200);
    let told = proxy.audited("access_denied").await;
    assert!(told.get("sid").is_none());
    let mut person = proxy.browser();
    person.log_in("bob").await;
    assert_eq!(
        person.fetch("/reports").await.status,
        200,
        "scopes are of tokens"
    );
}

/// A token with a cookie is a token: it neither keeps the session alive nor gets a new cookie for it.
#[tokio::test]
async fn a_token_leaves_sessions_alone() {
    let (proxy, app) = serving().await;
    let token = token(&proxy, new("bot")).await;
    let mut browser = proxy.browser();
    browser
        .log_in_at("/.doorward/login", "alice", PASSWORD)
        .await;
    let before = last_seen(&mut browser).await;
    proxy.clock.advance(Duration::from_mins(5));
    let field = format!("Bearer {token}");
    let answer = browser
        .request(Method::GET, "/", &[("authorization", &field)], "")
        .await;
    assert_eq!(answer.status, 200);
    assert!(answer.set_cookies().is_empty());
    let request = last(&app);
    assert_eq!(request.one("remote-user"), "bot");
    assert!(!request.head.contains(browser.token()));
    assert_eq!(last_seen(&mut browser).await, before - 300);
}

#[tokio::test]
async fn a_revoked_token_is_refused_within_a_second_and_what_it_has_open_ends() {
    let app = upstream(|request| {
        if request.line().contains("/stream") {
            Reply::Stall(
                b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n".to_vec(),
            )
        } else {
            Reply::ok("")
        }
    })
    .await;
    let proxy = routes(&app).start();
    let gone = token(&proxy, new("gone")).await;
    let stays = token(&proxy, new("stays")).await;
    let mut open = proxy.raw().await;
    open.send(format!(
        "GET /stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {gone}\r\n\r\n"
    ))
    .await;
    open.read_until(b"hi\r\n").await;
    TokenFile::revoke(&proxy.path("tokens.toml"), "gone").unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), open.rest()).await;
    assert!(ended.is_ok(), "the stream goes on");
    assert_eq!(with(&proxy, &gone, "/only").await.status, 401);
    assert_eq!(with(&proxy, &stays, "/only").await.status, 200);
}

#[tokio::test]
async fn a_token_expires() {
    let (proxy, app) = serving().await;
    let lifetime = Some(Duration::from_hours(1));
    let token = token(
        &proxy,
        NewToken {
            lifetime,
            ..new("bot")
        },
    )
    .await;
    proxy.clock.advance(Duration::from_mins(59));
    assert_eq!(with(&proxy, &token, "/only").await.status, 200);
    let seen = app.requests().len();
    proxy.clock.advance(Duration::from_mins(1));
    assert_eq!(with(&proxy, &token, "/only").await.status, 401);
    assert_eq!(app.requests().len(), seen);
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked_from_the_command_line() {
    let app = upstream(|_| Reply::ok("")).await;
    let folder: Arc<TempDir> = routes(&app).prepare();
    let run = |arguments: &[&str]| {
        let all = [&["token"], arguments, &["--config", "doorward.toml"]].concat();
        let output = doorward(folder.path(), &all, "");
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (code, made) = run(&[
        "create",
        "ci",
        "--groups",
        "staff",
        "--scopes",
        "a,b",
        "--expires",
        "30d",
    ]);
    assert_eq!(code, Some(0));
    assert!(
        made.starts_with("dwt_") && made.trim().len() == 47,
        "{made}"
    );
    assert_eq!(run(&["create", "ci"]).0, Some(1), "a name is given once");
    assert_eq!(run(&["create", "x", "--expires", "soon"]).0, Some(2));
    let (_, listed) = run(&["list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["tokens"][0]["scopes"], serde_json::json!(["a", "b"]));
    assert_eq!(run(&["revoke", "ci"]).0, Some(0));
    assert_eq!(run(&["revoke", "ci"]).0, Some(1));
}
