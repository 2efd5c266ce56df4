//! The signed assertion: what the app gets, what verifies it, and that nobody else can make one. Keys are taken from where
//! an app would take them.

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Value, json};

use crate::support::{Browser, PASSWORD, Proxy, Recorded, Reply, Upstream, proxy, upstream};

const KEYS: &str = "/.well-known/doorward/jwks.json";
const FIELD: &str = "x-doorward-jwt-assertion";

/// Users at `/`, anybody at `/public`; assertions everywhere but at `/plain`.
async fn asserting(identity: &str) -> (Proxy, Upstream) {
    let app = upstream(|_| Reply::ok("")).await;
    let assertion = format!("[identity.assertion]\nall_routes = true\n{identity}");
    let proxy = proxy()
        .with("identity", &assertion)
        .app(&app.url())
        .route(
            "/named",
            &app.url(),
            "access = \"user\"\nassertion = \"wiki\"",
        )
        .route("/plain", &app.url(), "access = \"user\"\nassertion = false")
        .route("/public", &app.url(), "access = \"public\"")
        .start();
    (proxy, app)
}

async fn user(proxy: &Proxy) -> Browser {
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    browser
}

/// The assertion that an app gets with a request.
async fn asserted(browser: &mut Browser, app: &Upstream, path: &str) -> String {
    assert_eq!(browser.fetch(path).await.status, 200);
    last(app).one(FIELD).to_owned()
}

fn last(app: &Upstream) -> Recorded {
    app.requests().pop().unwrap()
}

async fn published(proxy: &Proxy) -> Value {
    let answer = proxy.browser().fetch(KEYS).await;
    assert_eq!(answer.status, 200);
    answer.json()
}

fn part(text: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

/// The claims, if one of the keys signed them.
fn verified(assertion: &str, keys: &Value) -> Option<Value> {
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let header = part(header);
    let mut keys = keys["keys"].as_array().unwrap().iter();
    let key = keys.find(|key| key["kid"] == header["kid"])?;
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let checked = if header["alg"] == "ES256" {
        let point = [vec![4], bytes("x"), bytes("y")].concat();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        key.verify(signed.as_bytes(), &signature)
    } else {
        UnparsedPublicKey::new(&ED25519, bytes("x")).verify(signed.as_bytes(), &signature)
    };
    checked.ok().map(|()| part(claims))
}

#[tokio::test]
async fn an_app_gets_one_assertion_that_the_published_keys_verify() {
    for algorithm in ["ES256", "EdDSA"] {
        let (proxy, app) = asserting(&format!("algorithm = \"{algorithm}\"")).await;
        let mut browser = user(&proxy).await;
        let assertion = asserted(&mut browser, &app, "/page").await;
        let claims = verified(&assertion, &published(&proxy).await).unwrap();
        let told = browser.fetch("/.doorward/session").await.json();
        let now = proxy.clock.now().as_secs();
        assert_eq!(
            claims,
            json!({
                "iss": "doorward",
                "aud": "localhost/",
                "sub": "local:alice",
                "sid": told["sid"],
                "preferred_username": "alice",
                "name": "alice Ünder",
                "email": "alice@example.org",
                "groups": ["staff"],
                "auth_time": told["auth_time"],
                "amr": ["pwd"],
                "iat": now,
                "exp": now + 300,
            })
        );
        assert!(
            assertion.starts_with(&URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"{algorithm}\"")))
        );
    }
}

#[tokio::test]
async fn an_assertion_is_for_its_route_and_only_where_it_is_wanted() {
    let (proxy, app) = asserting("issuer = \"https://login.example.com\"\nlifetime = \"1m\"").await;
    let mut browser = user(&proxy).await;
    let keys = published(&proxy).await;
    for (path, audience) in [
        ("/", "localhost/"),
        ("/named/x", "wiki"),
        ("/public", "localhost/public"),
    ] {
        let claims = verified(&asserted(&mut browser, &app, path).await, &keys).unwrap();
        assert_eq!(claims["aud"], audience);
        assert_eq!(claims["iss"], "https://login.example.com");
        let (issued, ends) = (&claims["iat"], &claims["exp"]);
        assert_eq!(ends.as_u64().unwrap() - issued.as_u64().unwrap(), 60);
    }
    assert_eq!(browser.fetch("/plain").await.status, 200);
    assert!(last(&app).folded(FIELD).is_empty());
    assert_eq!(proxy.browser().fetch("/public").await.status, 200);
    assert!(last(&app).folded(FIELD).is_empty(), "nobody is logged in");
}

#[tokio::test]
async fn what_a_client_sends_as_an_assertion_reaches_no_app() {
    let (proxy, app) = asserting("").await;
    let mut browser = user(&proxy).await;
    let stolen = asserted(&mut browser, &app, "/").await;
    let spellings = [
        "X-Doorward-Jwt-Assertion",
        "X_Doorward_Jwt_Assertion",
        "HTTP_X_DOORWARD_JWT_ASSERTION",
        "x-doorward_jwt-assertion",
        "X-Doorward-Jwt-Assertion-",
        "xdoorwardjwtassertion",
    ];
    let forged: String = spellings
        .iter()
        .map(|name| format!("{name}: {stolen}x\r\n"))
        .collect();
    for (path, cookie, expected) in [
        ("/public", String::new(), 0),
        (
            "/plain",
            format!("Cookie: __Host-sid={}\r\n", browser.token()),
            0,
        ),
        (
            "/",
            format!("Cookie: __Host-sid={}\r\n", browser.token()),
            1,
        ),
    ] {
        let mut raw = proxy.raw().await;
        raw.send(format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: X-Doorward-Jwt-Assertion\r\n{forged}{cookie}\r\n",
            browser.authority()
        ))
        .await;
        assert_eq!(raw.status().await, Some(200), "{path}");
        let request = last(&app);
        let names = request.folded(FIELD);
        assert_eq!(names.len(), expected, "{path}: {}", request.head);
        if expected == 1 {
            assert_eq!(request.one(FIELD), stolen);
        }
        assert!(!request.head.contains(&format!("{stolen}x")), "{path}");
    }
}

#[tokio::test]
async fn a_request_of_a_known_session_does_not_sign() {
    let (proxy, app) = asserting("").await;
    let mut browser = user(&proxy).await;
    let first = asserted(&mut browser, &app, "/").await;
    // Two signatures of one text by ECDSA differ, so the same text is the same signature.
    assert_eq!(asserted(&mut browser.clone(), &app, "/other").await, first);
    proxy.clock.advance(Duration::from_secs(149));
    assert_eq!(asserted(&mut browser, &app, "/").await, first);
    proxy.clock.advance(Duration::from_secs(1));
    let second = asserted(&mut browser, &app, "/").await;
    assert_ne!(second, first);
    let keys = published(&proxy).await;
    let (first, second) = (
        verified(&first, &keys).unwrap(),
        verified(&second, &keys).unwrap(),
    );
    assert_eq!(
        second["iat"].as_u64(),
        first["iat"].as_u64().map(|at| at + 150)
    );
}

#[tokio::test]
async fn a_login_that_is_repeated_is_told_at_once() {
    let (proxy, app) = asserting("").await;
    let mut browser = user(&proxy).await;
    let keys = published(&proxy).await;
    let before = verified(&asserted(&mut browser, &app, "/").await, &keys).unwrap();
    proxy.clock.advance(Duration::from_secs(20));
    let again = browser
        .log_in_at("/.doorward/login?prompt=login", "alice", PASSWORD)
        .await;
    assert_eq!(again.status, 303, "{}", again.text());
    let after = verified(&asserted(&mut browser, &app, "/").await, &keys).unwrap();
    assert_eq!(
        after["auth_time"].as_u64(),
        before["auth_time"].as_u64().map(|at| at + 20)
    );
}

#[tokio::test]
async fn no_assertion_is_good_for_longer_than_its_session() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy()
        .with(
            "session",
            "absolute_timeout = \"10m\"\nidle_timeout = \"10m\"",
        )
        .route("/", &app.url(), "access = \"user\"\nassertion = true")
        .start();
    let mut browser = user(&proxy).await;
    let began = proxy.clock.now().as_secs();
    proxy.clock.advance(Duration::from_mins(8));
    let assertion = asserted(&mut browser, &app, "/").await;
    let claims = verified(&assertion, &published(&proxy).await).unwrap();
    assert_eq!(claims["exp"].as_u64(), Some(began + 600));
}

#[tokio::test]
async fn keys_are_public_may_be_kept_and_are_the_same_on_every_host_and_node() {
    let app = upstream(|_| Reply::ok("")).await;
    let node = || {
        proxy()
            .route("/", &app.url(), "access = \"public\"")
            .route_at(
                "wiki.example.test",
                "/",
                &app.url(),
                "access = \"user\"\nassertion = true",
            )
            .start()
    };
    let (one, other) = (node(), node());
    let mut browser = one.browser();
    let answer = browser.fetch(KEYS).await;
    assert_eq!(answer.header("content-type"), "application/jwk-set+json");
    assert_eq!(answer.header("cache-control"), "public, max-age=300");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(answer.set_cookies().is_empty());
    assert_eq!(answer.json(), published(&other).await);
    let keys = answer.json()["keys"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 1);
    assert!(keys[0].get("d").is_none(), "the private part");
    let head = browser.request(Method::HEAD, KEYS, &[], "").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    let post = browser.request(Method::POST, KEYS, &[], "").await;
    assert_eq!(
        (post.status.as_u16(), post.header("allow")),
        (405, "GET, HEAD")
    );
    for path in [
        "/.well-known/doorward",
        "/.well-known/doorward/",
        "/.well-known/doorward/x",
        "/.well-known/%64oorward/x",
    ] {
        assert_eq!(browser.fetch(path).await.status, 404, "{path}");
    }
    assert!(
        app.requests().is_empty(),
        "no app has a say below that path"
    );
    assert_eq!(browser.fetch("/.well-known/doorward-not").await.status, 200);
    assert_eq!(app.requests().len(), 1);
}

#[tokio::test]
async fn where_nothing_is_signed_no_key_is_published() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy()
        .route("/", &app.url(), "access = \"public\"")
        .start();
    assert_eq!(proxy.browser().fetch(KEYS).await.status, 404);
    assert!(app.requests().is_empty());
}

/// Two nodes with one store's worth of secrets, which are rotated on one after the other.
#[tokio::test]
async fn a_rotation_of_the_secrets_leaves_no_assertion_unverifiable() {
    let app = upstream(|_| Reply::ok("")).await;
    let node = |secrets: &[u8]| {
        let lines: Vec<String> = secrets
            .iter()
            .map(|n| format!("{{ file = \"{n}.key\" }}"))
            .collect();
        let builder = proxy().route("/", &app.url(), "access = \"user\"\nassertion = true");
        let folder = builder.prepare();
        for n in secrets {
            let file = folder.path().join(format!("{n}.key"));
            std::fs::write(&file, format!("{n:064}")).unwrap();
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .unwrap();
        }
        builder.within(folder).secrets(&lines.join(", ")).start()
    };
    // In the order of the document: announced everywhere, then first everywhere, then alone.
    let steps: [(&[u8], &[u8]); 5] = [
        (&[1], &[1]),
        (&[1, 2], &[1]),
        (&[1, 2], &[1, 2]),
        (&[2, 1], &[1, 2]),
        (&[2, 1], &[2, 1]),
    ];
    for (left, right) in steps {
        let nodes = [node(left), node(right)];
        for signing in &nodes {
            let mut browser = user(signing).await;
            let assertion = asserted(&mut browser, &app, "/").await;
            for asked in &nodes {
                let keys = published(asked).await;
                assert!(verified(&assertion, &keys).is_some(), "{left:?} {right:?}");
            }
        }
    }
    // The same node before and after the last step: what the old key signed is 5 minutes old by then at least.
    let (before, after) = (node(&[2, 1]), node(&[2]));
    let assertion = asserted(&mut user(&before).await, &app, "/").await;
    assert!(verified(&assertion, &published(&after).await).is_some());
    let old = asserted(&mut user(&node(&[1])).await, &app, "/").await;
    assert!(verified(&old, &published(&after).await).is_none());
}
