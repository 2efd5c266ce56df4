//! Logging in at a certified `OpenID` Connect provider with a real browser: what a person sees, clicks and types.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::chromium::look;
use crate::support::{
    Certified, Chromium, Process, Reply, Upstream, eventually, proxy, self_signed, upstream,
};

const CLAIMS: &str = "claims = { user = \"preferred_username\", groups = \"groups\" }";

/// How a route wants people to have logged in.
const STRONG: &str = "access = \"user\"\nprovider = \"corp\"\nacr_values = [\"phr\"]";

struct Bench {
    folder: Arc<TempDir>,
    origin: String,
    provider: Certified,
    _app: Upstream,
    _process: Process,
}

impl Bench {
    /// The program with local users, the provider, and one that is down.
    async fn start(with_key: bool) -> Self {
        Self::at_path("", (with_key, CLAIMS)).await
    }

    /// With the provider at a path, and keys of the configuration that say what it is like.
    async fn at_path(path: &str, (with_key, keys): (bool, &str)) -> Self {
        let app = upstream(|request| {
            let user = request.one("remote-user");
            let (name, groups) = (request.one("remote-name"), request.one("remote-groups"));
            let page = format!(
                "<!doctype html><title>App</title><h1>Hello, {user}</h1><p>{name} {groups}</p>"
            );
            Reply::with(200, "content-type: text/html\r\n", page)
        })
        .await;
        let mut provider = Certified::start(path);
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let shown = if with_key {
            "client_auth = \"private_key_jwt\"\nclient_key = \"oidc.key\"\nclient_key_id = \"one\""
        } else {
            "client_secret = { file = \"oidc.secret\" }"
        };
        let section = |id: &str, name: &str, issuer: &str| {
            format!(
                "[[provider]]\nid = \"{id}\"\nname = \"{name}\"\ntype = \"oidc\"\nissuer = \"{issuer}\"\n\
                 client_id = \"doorward\"\n{shown}\n{keys}\n"
            )
        };
        let folder = proxy()
            .provider(&section("corp", "Company account", &provider.issuer))
            .provider(&section(
                "down",
                "Partner account",
                &format!("http://127.0.0.1:9{path}"),
            ))
            .app(&app.url())
            .route("/safe", &app.url(), STRONG)
            .prepare();
        let key = folder.path().join("oidc.key");
        std::fs::write(&key, pair.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        self_signed(folder.path());
        let mut process = Process::start(folder.path(), &["run", "--config", "doorward.toml"]);
        let origin = format!("https://localhost:{}", process.addr().await.port());
        let public = jwk(&pair);
        provider.know(&origin, "corp", with_key.then_some(&public));
        let bench = Self {
            folder,
            origin,
            provider,
            _app: app,
            _process: process,
        };
        let log = bench.folder.path().join("stderr.txt");
        eventually("a provider that is found", async || {
            let said = std::fs::read_to_string(&log).unwrap();
            said.contains("a provider was found")
        })
        .await;
        bench
    }

    async fn browser(&self) -> Chromium {
        let authority = self.folder.path().join("certs/ca.pem");
        Chromium::trusting(self.folder.path(), &authority, true).await
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }
}

/// Its public half, as the provider is given it.
fn jwk(pair: &rcgen::KeyPair) -> Value {
    let point = pair.public_key_raw();
    let (x, y) = point[1..].split_at(32);
    let (x, y) = (
        BASE64_URL_SAFE_NO_PAD.encode(x),
        BASE64_URL_SAFE_NO_PAD.encode(y),
    );
    json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": "one", "x": x, "y": y})
}

/// Fills in the provider's own form.
async fn show_who_it_is(browser: &Chromium) {
    show_it_as(browser, "jane").await;
}

async fn show_it_as(browser: &Chromium, name: &str) {
    browser.until("input[name=password]").await;
    browser.fill("input[name=login]", name).await;
    browser.fill("input[name=password]", "any will do").await;
    browser.click("button[type=submit]").await;
}

/// By way of the page to choose a provider from, and for the first time.
async fn log_in(bench: &Bench, browser: &Chromium) {
    browser.open(&bench.at("/wiki")).await;
    browser.until_heading("Log in").await;
    browser.follow("Company account").await;
    show_who_it_is(browser).await;
    browser.until_heading("Authorize").await;
    browser.click("button[type=submit]").await;
    browser.until_heading("Hello, jane").await;
}

#[tokio::test]
async fn a_person_chooses_the_provider_logs_in_there_and_comes_back() {
    let bench = Bench::start(false).await;
    let browser = bench.browser().await;
    browser.open(&bench.at("/wiki?a=1&b=2")).await;
    browser.until_heading("Log in").await;
    look(&browser, "chooser").await;
    browser.follow("Company account").await;
    show_who_it_is(&browser).await;
    assert!(browser.url().await.starts_with(&bench.provider.issuer));
    browser.until_heading("Authorize").await;
    browser.click("button[type=submit]").await;
    browser.until_heading("Hello, jane").await;
    assert_eq!(browser.url().await, bench.at("/wiki?a=1&b=2"));
    assert_eq!(browser.text("p").await, "Jane %C3%9Cnder staff");

    // Who has to show it anew does, though the provider knows them.
    browser
        .open(&bench.at("/.doorward/login?return_to=%2Fvault&prompt=login"))
        .await;
    show_who_it_is(&browser).await;
    browser.until_heading("Hello, jane").await;
    assert_eq!(browser.url().await, bench.at("/vault"));

    // Whom the provider knows need not: a new session by one click.
    browser.open(&bench.at("/.doorward/logout")).await;
    browser.click("form button").await;
    browser.until_heading("You are logged out").await;
    browser.open(&bench.at("/")).await;
    browser.until_heading("Log in").await;
    browser.follow("Company account").await;
    browser.until_heading("Hello, jane").await;

    // Whoever comes back to the page that they chose from sees nothing that is broken.
    let chooser = "/.doorward/login?return_to=%2F";
    browser.open(&bench.at(chooser)).await;
    browser.until_heading("You are logged in").await;
    browser.close().await;
}

#[tokio::test]
async fn a_person_whose_login_does_not_work_is_told_and_can_try_another_way() {
    let bench = Bench::start(true).await;
    let browser = bench.browser().await;
    browser.open(&bench.at("/wiki")).await;
    browser.until_heading("Log in").await;
    browser.follow("Partner account").await;
    browser
        .until_heading("Logging in does not work right now")
        .await;
    look(&browser, "provider-down").await;
    browser.follow("Log in").await;
    browser.until_heading("Log in").await;
    browser.follow("Company account").await;
    show_who_it_is(&browser).await;
    browser.until_heading("Authorize").await;
    browser.follow("[ Cancel ]").await;
    browser.until_heading("You were not logged in").await;
    look(&browser, "login-refused").await;
    browser.follow("Log in").await;
    browser.until_heading("Authorize").await;
    browser.click("button[type=submit]").await;
    browser.until_heading("Hello, jane").await;
    assert_eq!(browser.url().await, bench.at("/wiki"));
    browser.close().await;
}

#[tokio::test]
async fn a_person_whose_login_is_too_weak_for_a_page_logs_in_there_in_a_stronger_way() {
    let bench = Bench::start(false).await;
    let browser = bench.browser().await;
    log_in(&bench, &browser).await;

    browser.open(&bench.at("/safe?a=1")).await;
    show_who_it_is(&browser).await;
    browser
        .until_heading("Log in there in a stronger way")
        .await;
    look(&browser, "login-too-weak").await;
    browser.follow("Log in").await;
    show_it_as(&browser, "jane+key").await;
    browser.until_heading("Hello, jane").await;
    assert_eq!(browser.url().await, bench.at("/safe?a=1"));
    browser.open(&bench.at("/wiki")).await;
    browser.until_heading("Hello, jane").await;
    browser.close().await;
}

#[tokio::test]
async fn of_a_provider_with_a_preset_little_more_than_its_address_is_said() {
    let keys = "preset = \"keycloak\"\nclaims = { user = \"preferred_username\" }";
    let bench = Bench::at_path("/realms/corp", (false, keys)).await;
    let browser = bench.browser().await;
    log_in(&bench, &browser).await;
    assert_eq!(browser.text("p").await, "Jane %C3%9Cnder wiki");
    browser.close().await;
}
