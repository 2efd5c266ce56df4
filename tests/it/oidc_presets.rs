//! Providers of which more is known than the protocol says: what is asked of each, and what is believed, where the
//! configuration says little more than its name.

use doorward::clock::Clock;
use serde_json::json;

use crate::oidc::Bench;
use crate::support::{Asked, Provider, START, SUB, Upstream};

const TENANT: &str = "/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0";

/// A provider whose issuer has a path.
async fn at_path(path: &str) -> Provider {
    let provider = Provider::start(&Clock::fixed(START)).await;
    provider.script().issuer.push_str(path);
    provider
}

/// What the app is told of who logs in: user, name, address and groups.
fn told(app: &Upstream) -> [String; 4] {
    let request = app.requests().pop().unwrap();
    ["user", "name", "email", "groups"].map(|name| {
        let values = request.all(&format!("remote-{name}"));
        values.first().map_or("", |value| value).to_owned()
    })
}

/// A whole login, and what the app is told; the scopes that were asked for come first.
async fn logged_in(bench: &Bench) -> (String, [String; 4]) {
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "/").await;
    let back = bench.provider.approve(&there);
    let answer = browser.open(&back).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(browser.open("/").await.text(), "hello");
    (Asked::of(&there).get("scope").to_owned(), told(&bench.app))
}

/// A provider of a kind.
struct Case {
    preset: &'static str,
    /// Further keys.
    keys: &'static str,
    path: &'static str,
    /// Claims that its ID tokens lack, or hold: JSON.
    claims: &'static str,
    scopes: &'static str,
    email: &'static str,
    groups: &'static str,
}

/// What the ID token leaves out that the user-info endpoint tells.
const THIN: &str = r#"{"name": null, "email": null, "email_verified": null}"#;
const UNVERIFIED: &str = r#"{"email_verified": null, "groups": ["a1b2"]}"#;
const FULL: &str = r#"{"groups": ["no"], "realm_access": {"roles": ["admins"]}}"#;

const CASES: [Case; 9] = [
    Case {
        preset: "google",
        keys: "",
        path: "",
        claims: FULL,
        scopes: "openid profile email",
        email: "jane@example.org",
        groups: "",
    },
    Case {
        preset: "entra",
        keys: "",
        path: TENANT,
        claims: UNVERIFIED,
        scopes: "openid profile email",
        email: "",
        groups: "a1b2",
    },
    Case {
        preset: "entra",
        keys: "refresh = true",
        path: TENANT,
        claims: UNVERIFIED,
        scopes: "openid profile email offline_access",
        email: "",
        groups: "a1b2",
    },
    Case {
        preset: "gitlab",
        keys: "refresh = true",
        path: "",
        claims: THIN,
        scopes: "openid profile email",
        email: "jane@example.com",
        groups: "dev/ops",
    },
    Case {
        preset: "keycloak",
        keys: "refresh = true",
        path: "/realms/corp",
        claims: FULL,
        scopes: "openid profile email",
        email: "jane@example.org",
        groups: "admins",
    },
    Case {
        preset: "okta",
        keys: "",
        path: "",
        claims: THIN,
        scopes: "openid profile email groups",
        email: "jane@example.com",
        groups: "dev/ops",
    },
    Case {
        preset: "okta",
        keys: "refresh = true",
        path: "/oauth2/default",
        claims: THIN,
        scopes: "openid profile email offline_access",
        email: "jane@example.com",
        groups: "dev/ops",
    },
    Case {
        preset: "auth0",
        keys: "",
        path: "/",
        claims: FULL,
        scopes: "openid profile email",
        email: "jane@example.org",
        groups: "",
    },
    // What the operator says goes before what is known.
    Case {
        preset: "gitlab",
        keys: "scopes = [\"read_user\"]\nuser_info = false\nclaims = { groups = \"realm_access.roles\" }",
        path: "",
        claims: FULL,
        scopes: "openid read_user",
        email: "jane@example.org",
        groups: "admins",
    },
];

#[tokio::test]
async fn each_preset_asks_for_what_its_provider_has_and_reads_where_it_says_it() {
    for case in CASES {
        let keys = format!("preset = \"{}\"\n{}", case.preset, case.keys);
        let bench = Bench::of(at_path(case.path).await, &keys, |proxy| proxy).await;
        {
            let mut script = bench.provider.script();
            script.claims = serde_json::from_str(case.claims).unwrap();
            script.user_info = json!({
                "sub": SUB, "name": "Jane", "email": "jane@example.com", "email_verified": true,
                "groups": ["dev/ops"],
            });
        }
        let (asked, [user, _, email, groups]) = logged_in(&bench).await;
        assert_eq!(asked, case.scopes, "{keys}");
        assert_eq!(user, SUB, "{keys}: names can change hands");
        assert_eq!(
            (email.as_str(), groups.as_str()),
            (case.email, case.groups),
            "{keys}"
        );
    }
}

#[tokio::test]
async fn of_google_only_the_organization_that_was_named_is_let_in() {
    let keys = "preset = \"google\"\nhosted_domain = \"example.com\"";
    let bench = Bench::with(keys, |proxy| proxy).await;
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "/").await;
    assert_eq!(Asked::of(&there).get("hd"), "example.com");
    for (hd, status, why) in [
        (json!(null), 403, "an account of no organization"),
        (json!("example.org"), 403, "of another"),
        (json!("sub.example.com"), 403, "of one below"),
        (
            json!("example.com.evil.example"),
            403,
            "of one that begins so",
        ),
        (json!("EXAMPLE.COM"), 403, "in another spelling"),
        (json!(["example.com"]), 502, "a list"),
        (json!(true), 502, "no text"),
    ] {
        bench.provider.script().claims = json!({ "hd": hd });
        let answer = bench.log_in(&mut browser).await;
        assert_eq!(answer.status, status, "{why}");
        if status == 403 {
            assert!(
                answer.text().contains("This account cannot log in here"),
                "{why}"
            );
        }
        bench.nobody_got_in(&mut browser, why).await;
    }
    bench.stranded("not_admitted").await;
    bench.provider.script().claims = json!({"hd": "example.com"});
    assert_eq!(bench.log_in(&mut browser).await.status, 303);
    assert_eq!(browser.open("/").await.text(), "hello");
}

#[tokio::test]
async fn of_several_organizations_at_google_each_is_let_in() {
    let keys = "preset = \"google\"\nhosted_domain = [\"example.com\", \"example.net\"]";
    let bench = Bench::with(keys, |proxy| proxy).await;
    let mut browser = bench.proxy.browser();
    let there = bench.way_out(&mut browser, "/").await;
    assert_eq!(Asked::of(&there).get("hd"), "*");
    for (hd, status) in [
        ("example.net", 303),
        ("example.com", 303),
        ("example.org", 403),
    ] {
        bench.provider.script().claims = json!({ "hd": hd });
        let answer = bench.log_in(&mut bench.proxy.browser()).await;
        assert_eq!(answer.status, status, "{hd}");
    }
}
