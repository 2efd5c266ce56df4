//! Passkeys of local users, in a real browser with a virtual authenticator (`WebAuthn` level 2, section 11).

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use doorward::clock::{Clock, Timestamp};
use fantoccini::wd::WebDriverCompatibleCommand;
use http::Method;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use url::{ParseError, Url};

use crate::chromium::look;
use crate::support::{
    Answer, Browser, Chromium, PASSWORD, Proxy, Reply, Upstream, eventually, proxy, upstream,
};

const REFUSED: &str = "That passkey was not accepted.";

pub struct Bench {
    pub app: Upstream,
    pub proxy: Proxy,
    pub clock: Clock,
    pub browser: Chromium,
    authenticator: String,
}

/// An answer of the authenticator that was never sent.
struct Kept {
    fields: Vec<(String, String)>,
    client: Browser,
}

impl Bench {
    pub async fn start() -> Self {
        Self::with(true).await
    }

    /// A browser with an authenticator that knows its user, who is not there yet; with or without scripts.
    pub async fn with(scripts: bool) -> Self {
        let app = upstream(|request| {
            let user = request.one("remote-user");
            let page = format!("<!doctype html><title>App</title><h1>Hello, {user}</h1>");
            Reply::with(200, "content-type: text/html\r\n", page)
        })
        .await;
        // The browser judges certificates by its own time.
        let clock = Clock::fixed(Clock::system().now());
        let folder = proxy().app(&app.url()).prepare();
        certify(&folder, clock.now());
        let proxy = proxy()
            .app(&app.url())
            .clock(&clock)
            .within(Arc::clone(&folder))
            .start();
        let browser =
            Chromium::trusting(folder.path(), &folder.path().join("ca.pem"), scripts).await;
        let mut bench = Self {
            app,
            proxy,
            clock,
            browser,
            authenticator: String::new(),
        };
        let authenticator = bench.webauthn(
            Method::POST,
            "",
            json!({
                "protocol": "ctap2", "transport": "internal", "hasResidentKey": true,
                "hasUserVerification": true, "isUserVerified": true, "isUserConsenting": false,
            }),
        );
        let authenticator = authenticator.await;
        authenticator
            .as_str()
            .unwrap()
            .clone_into(&mut bench.authenticator);
        bench
    }

    pub fn at(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.proxy.addr.port())
    }

    async fn webauthn(&self, method: Method, place: &str, body: Value) -> Value {
        let command = Authenticator {
            method,
            place: place.to_owned(),
            body,
        };
        self.browser.client.issue_cmd(command).await.unwrap()
    }

    /// Whether the user is there and agrees to whatever the browser asks from now on. What it has asked before stays open.
    pub async fn consent(&self, is_given: bool) {
        let command = "WebAuthn.setAutomaticPresenceSimulation";
        let given = json!({ "authenticatorId": self.authenticator, "enabled": is_given });
        self.browser.devtools(command, given).await;
    }

    pub async fn by_password(&self) {
        self.consent(false).await;
        self.browser.open(&self.at("/")).await;
        self.browser.until_heading("Log in").await;
        self.browser.fill("#user", "alice").await;
        self.browser.fill("#password", PASSWORD).await;
        self.browser.click("button[type=submit]").await;
        self.browser.until_heading("Hello, alice").await;
    }

    pub async fn enrol(&self, name: &str) {
        self.browser.open(&self.at("/.doorward/passkeys")).await;
        self.browser.until_heading("Your passkeys").await;
        self.browser.fill("#name", name).await;
        self.consent(true).await;
        self.browser.click("[data-passkey] button").await;
        self.browser.until("[role=status]").await;
        self.consent(false).await;
    }

    pub async fn log_out(&self) {
        self.browser.open(&self.at("/.doorward/logout")).await;
        self.browser.until_heading("Log out?").await;
        self.browser.click("form button").await;
        self.browser.until_heading("You are logged out").await;
    }

    /// Agrees, and presses the button; unless what the field offers is answered at that very moment.
    pub async fn use_passkey(&self) {
        self.browser.until("[data-passkey]:not([hidden])").await;
        self.consent(true).await;
        let press = "document.querySelector('[data-passkey] button')?.click()";
        // In between two pages there is nothing to press.
        let _pressed = self.browser.client.execute(press, Vec::new()).await;
    }

    /// Lets the authenticator answer at the login form, and keeps the answer back. `change`: a script over `options`.
    async fn keep(&self, change: &str) -> Kept {
        self.consent(false).await;
        self.browser
            .open(&self.at("/.doorward/login?return_to=%2F"))
            .await;
        self.browser.until_heading("Log in").await;
        let script = format!(
            "const box = document.querySelector('[data-passkey]'); const options = JSON.parse(box.dataset.options); {change}; \
             box.dataset.options = JSON.stringify(options); const form = box.closest('form'); \
             form.submit = () => {{ window.kept = [...new FormData(form)]; }};"
        );
        let client = &self.browser.client;
        client.execute(&script, Vec::new()).await.unwrap();
        self.use_passkey().await;
        let mut kept = Value::Null;
        for _ in 0..200 {
            kept = client
                .execute("return window.kept", Vec::new())
                .await
                .unwrap();
            if !kept.is_null() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let pairs = kept.as_array().expect("the authenticator gave no answer");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let fields = pairs.iter().map(|pair| (text(&pair[0]), text(&pair[1])));
        Kept {
            fields: fields.collect(),
            client: self.client().await,
        }
    }

    /// The same browser, as far as its cookies tell.
    async fn client(&self) -> Browser {
        let mut client = self.proxy.browser();
        let ca = self.proxy.path("ca.pem");
        client.trusts = Some(CertificateDer::from_pem_file(ca).unwrap());
        for cookie in self.browser.client.get_all_cookies().await.unwrap() {
            client
                .jar
                .insert(cookie.name().to_owned(), cookie.value().to_owned());
        }
        client
    }

    fn users(&self) -> String {
        std::fs::read_to_string(self.proxy.path("users.toml")).unwrap()
    }
}

impl Kept {
    async fn send(&self) -> Answer {
        self.send_with(|_| {}).await
    }

    /// With something else in the answer of the authenticator.
    async fn send_with(&self, change: impl FnOnce(&mut Value)) -> Answer {
        let mut change = Some(change);
        let mut fields = self.fields.clone();
        for (name, value) in &mut fields {
            if name == "passkey" {
                let mut answer: Value = serde_json::from_str(value).unwrap();
                change.take().unwrap()(&mut answer);
                *value = answer.to_string();
            }
        }
        let fields: Vec<_> = fields
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        self.client
            .clone()
            .submit("/.doorward/login", &fields)
            .await
    }
}

/// The configuration's certificate, from an authority that the browser can be told of.
fn certify(folder: &tempfile::TempDir, now: Timestamp) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = authority.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(authority, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let mut leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let now = UNIX_EPOCH + Duration::from_millis(now.as_millis());
    leaf.not_before = (now - Duration::from_hours(24)).into();
    leaf.not_after = (now + Duration::from_hours(24 * 30)).into();
    let leaf = leaf.signed_by(&own, &issuer).unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("ca.pem", ca.pem());
    write("site.pem", leaf.pem());
    write("site.key", own.serialize_pem());
}

#[derive(Debug)]
struct Authenticator {
    method: Method,
    place: String,
    body: Value,
}

impl WebDriverCompatibleCommand for Authenticator {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        let session = session.unwrap_or_default();
        base.join(&format!(
            "session/{session}/webauthn/authenticator{}",
            self.place
        ))
    }

    fn method_and_body(&self, _url: &Url) -> (Method, Option<String>) {
        let body = (self.method == Method::POST).then(|| self.body.to_string());
        (self.method.clone(), body)
    }
}

#[tokio::test]
async fn who_adds_a_passkey_logs_in_with_it_and_without_a_password() {
    let bench = Bench::start().await;
    let browser = &bench.browser;
    bench.by_password().await;
    browser.open(&bench.at("/.doorward/sessions")).await;
    browser.follow("Your passkeys").await;
    browser.until_heading("Your passkeys").await;
    look(browser, "passkeys-none").await;
    bench.enrol("blue key <b>").await;
    assert_eq!(browser.text(".sessions h2").await, "blue key <b>");
    look(browser, "passkeys").await;
    let added = bench.proxy.audited("passkey_added").await;
    assert_eq!(
        (&added["user"], &added["name"]),
        (&json!("alice"), &json!("blue key <b>"))
    );
    let users = bench.users();
    assert!(
        users.contains("[[user.passkey]]") && !users.contains("privateKey"),
        "{users}"
    );

    bench.log_out().await;
    let seen = bench.app.requests().len();
    browser.open(&bench.at("/?x=1#part")).await;
    browser.until_heading("Log in").await;
    look(browser, "login-passkey").await;
    bench.use_passkey().await;
    browser.until_heading("Hello, alice").await;
    assert_eq!(browser.url().await, bench.at("/?x=1#part"));
    let requests = bench.app.requests();
    assert!(requests.len() > seen);
    assert_eq!(requests.last().unwrap().one("remote-user"), "alice");
    assert_eq!(requests.last().unwrap().one("remote-groups"), "staff");
    // The counter was written down.
    assert_ne!(bench.users(), users);
    bench.browser.close().await;
}

#[tokio::test]
async fn an_answer_is_good_once_in_time_and_as_it_was_given() {
    let bench = Bench::start().await;
    bench.by_password().await;
    bench.enrol("key").await;
    bench.log_out().await;

    let kept = bench.keep("").await;
    let other = json!("AAAAAAAAAAAAAAAAAAAAAA");
    let mut pages = Vec::new();
    for (part, value) in [
        ("signature", json!("MEUCIQAB")),
        ("userHandle", other.clone()),
        ("userHandle", Value::Null),
    ] {
        pages.push(
            kept.send_with(|answer| answer["response"][part] = value)
                .await,
        );
    }
    pages.push(
        kept.send_with(|answer| (answer["id"], answer["rawId"]) = (other.clone(), other.clone()))
            .await,
    );
    pages.push(kept.send_with(|answer| *answer = json!([7])).await);
    // The signature stays, what it is of says another place.
    pages.push(
        kept.send_with(|answer| {
            let said = answer["response"]["clientDataJSON"].as_str().unwrap();
            let said = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(said).unwrap()).unwrap();
            let said = said.replace("https://localhost", "https://evil.localhost");
            answer["response"]["clientDataJSON"] = json!(BASE64_URL_SAFE_NO_PAD.encode(said));
        })
        .await,
    );
    for page in &pages {
        assert_eq!(page.status, 401, "{}", page.text());
        assert!(page.text().contains(REFUSED), "{}", page.text());
        assert!(page.set_cookies().is_empty());
    }
    assert_eq!(bench.proxy.audited_times("login_failed", 6).await.len(), 6);

    let good = kept.send().await;
    assert_eq!(good.status, 303, "{}", good.text());
    let again = kept.send().await;
    assert_eq!(again.status, 401);
    assert!(again.text().contains(REFUSED));
    bench.proxy.audited_times("login_failed", 7).await;
    assert!(
        bench
            .proxy
            .audit()
            .iter()
            .all(|line| line["event"] != "passkey_cloned")
    );

    let kept = bench.keep("").await;
    let mut stranger = Kept {
        fields: kept.fields.clone(),
        client: kept.client.clone(),
    };
    stranger.client.jar.clear();
    assert_eq!(stranger.send().await.status, 400, "another browser");
    bench.clock.advance(Duration::from_mins(5));
    let late = kept.send().await;
    assert_eq!(late.status, 400);
    assert!(late.text().contains("open for too long"));
    bench.browser.close().await;
}

#[tokio::test]
async fn an_unverified_user_a_copy_and_a_removed_passkey_are_refused() {
    let bench = Bench::start().await;
    let own = format!("/{}", bench.authenticator);
    bench.by_password().await;
    bench.enrol("key").await;
    bench.log_out().await;

    let uv = format!("{own}/uv");
    bench
        .webauthn(Method::POST, &uv, json!({ "isUserVerified": false }))
        .await;
    let kept = bench.keep("options.userVerification = 'discouraged'").await;
    let refused = kept.send().await;
    assert_eq!(refused.status, 401);
    assert!(refused.text().contains(REFUSED));
    bench
        .webauthn(Method::POST, &uv, json!({ "isUserVerified": true }))
        .await;

    // The same key with a counter that has stood still.
    let all = bench
        .webauthn(Method::GET, &format!("{own}/credentials"), Value::Null)
        .await;
    let mut copy = all[0].clone();
    let id = copy["credentialId"].as_str().unwrap().to_owned();
    let newest = bench.keep("").await;
    assert_eq!(newest.send().await.status, 303);
    bench
        .webauthn(
            Method::DELETE,
            &format!("{own}/credentials/{id}"),
            Value::Null,
        )
        .await;
    copy["signCount"] = json!(0);
    bench
        .webauthn(Method::POST, &format!("{own}/credential"), copy.clone())
        .await;
    let cloned = bench.keep("").await.send().await;
    assert_eq!(cloned.status, 401);
    assert!(cloned.text().contains(REFUSED));
    assert_eq!(bench.proxy.audited("passkey_cloned").await["user"], "alice");
    bench
        .webauthn(
            Method::DELETE,
            &format!("{own}/credentials/{id}"),
            Value::Null,
        )
        .await;
    copy["signCount"] = json!(1000);
    bench
        .webauthn(Method::POST, &format!("{own}/credential"), copy)
        .await;

    // Who removes it goes on; everybody else who was in as this user is out.
    let kept = bench.keep("").await;
    bench.by_password().await;
    let mut elsewhere = bench.client().await;
    elsewhere.jar.clear();
    let came = elsewhere.log_in_at("/", "alice", PASSWORD).await;
    assert_eq!(came.status, 303);
    assert_eq!(elsewhere.open("/").await.status, 200);
    bench.browser.open(&bench.at("/.doorward/passkeys")).await;
    bench.browser.until("button[name=remove]").await;
    bench.browser.click("button[name=remove]").await;
    bench.browser.until("[role=status]").await;
    assert!(!bench.users().contains("passkey"), "{}", bench.users());
    assert_eq!(elsewhere.open("/").await.status, 303, "logged out");
    let removed = bench.proxy.audited("passkey_removed").await;
    assert!(removed["ended"].as_u64().unwrap() >= 1, "{removed}");
    bench.browser.open(&bench.at("/")).await;
    bench.browser.until_heading("Hello, alice").await;
    let gone = kept.send().await;
    assert_eq!(gone.status, 401);
    assert!(gone.text().contains(REFUSED));
    bench.browser.close().await;
}

/// By the session that removed it, and by no link: apps of this host have passkeys too.
#[tokio::test]
async fn a_browser_is_told_to_offer_a_removed_passkey_no_more() {
    let bench = Bench::start().await;
    let place = format!("/{}/credentials", bench.authenticator);
    let held = async || bench.webauthn(Method::GET, &place, Value::Null).await;
    bench.by_password().await;
    bench.enrol("key").await;
    let id = held().await[0]["credentialId"].clone();
    bench.browser.open(&bench.at("/.doorward/passkeys")).await;
    bench.browser.until("button[name=remove]").await;
    bench.browser.click("button[name=remove]").await;
    bench.browser.until("[role=status]").await;
    eventually("the browser has none", async || {
        held().await.as_array().unwrap().is_empty()
    })
    .await;

    let told = bench.browser.url().await;
    let told = &told[bench.at("").len()..];
    let mut own = bench.client().await;
    assert!(own.open(told).await.text().contains("data-gone"));
    let mut another = own.clone();
    another.jar.clear();
    another.log_in_at("/", "alice", PASSWORD).await;
    let plain = format!("/.doorward/passkeys?removed={}", id.as_str().unwrap());
    for (who, place) in [(&mut own, plain.as_str()), (&mut another, told)] {
        let page = who.open(place).await;
        assert_eq!(page.status, 200);
        assert!(!page.text().contains("data-gone"), "{}", page.text());
    }
    bench.browser.close().await;
}

#[tokio::test]
async fn who_logged_in_long_ago_shows_again_who_they_are_before_a_passkey_is_added() {
    let bench = Bench::start().await;
    let browser = &bench.browser;
    bench.by_password().await;
    bench.enrol("first").await;
    bench.clock.advance(Duration::from_mins(10));
    browser.open(&bench.at("/.doorward/passkeys")).await;
    browser.until_heading("Your passkeys").await;
    look(browser, "passkeys-again").await;
    browser.follow("Log in again").await;
    browser.until_heading("Log in again").await;
    bench.use_passkey().await;
    browser.until_heading("Your passkeys").await;
    browser.until("#name").await;
    assert_eq!(browser.url().await, bench.at("/.doorward/passkeys"));
    // The one that is there already is not added twice.
    bench.consent(true).await;
    browser.fill("#name", "second").await;
    browser.click("[data-passkey] button").await;
    browser.until("[role=alert]:not([hidden])").await;
    assert!(browser.text("[role=alert]").await.contains("already"));

    bench.clock.advance(Duration::from_mins(10));
    let mut client = bench.client().await;
    let page = client.open("/.doorward/passkeys").await;
    assert!(!page.text().contains("data-passkey"), "{}", page.text());
    let token = page.field("token");
    let fields = [
        ("token", token.as_str()),
        ("name", "x"),
        ("state", ""),
        ("passkey", "{}"),
    ];
    let sent = client.submit("/.doorward/passkeys", &fields).await;
    assert_eq!(sent.status, 303);
    assert!(sent.header("location").contains("prompt=login"));
    // None is taken away by whoever holds an old session, either.
    let id = page.text();
    let id = id.split_once("name=\"remove\" value=\"").unwrap().1;
    let id = id.split('"').next().unwrap();
    let fields = [("token", token.as_str()), ("remove", id)];
    let sent = client.submit("/.doorward/passkeys", &fields).await;
    assert_eq!(sent.status, 303);
    assert!(sent.header("location").contains("prompt=login"));
    assert_eq!(sent.set_cookies().len(), 0);
    let page = client.open("/.doorward/passkeys").await.text();
    assert!(page.contains(&format!("value=\"{id}\"")), "{page}");
    bench.browser.close().await;
}

#[tokio::test]
async fn strangers_pages_and_answers_out_of_the_air_change_nothing() {
    let app = upstream(|_| Reply::ok("app")).await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser();
    let asked = browser.open("/.doorward/passkeys").await;
    assert_eq!(asked.status, 303);
    let login = browser.open("/.doorward/login").await;
    assert!(!login.text().contains("passkey"), "nobody has one");
    assert!(
        !login
            .header("content-security-policy")
            .contains("script-src")
    );
    browser.log_in("alice").await;
    let before = std::fs::read_to_string(proxy.path("users.toml")).unwrap();
    let page = browser.open("/.doorward/passkeys").await;
    assert!(
        page.header("content-security-policy")
            .ends_with("/.doorward/passkey.js")
    );
    // What is added is found by itself, or no field could offer it.
    let asked = page.text().replace("&quot;", "\"").replace("&#34;", "\"");
    for part in [
        "\"residentKey\":\"required\"",
        "\"requireResidentKey\":true",
        "\"userVerification\":\"required\"",
    ] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    let (token, state) = (page.field("token"), page.field("state"));
    let huge = format!("\"{}\"", "x".repeat(12 * 1024));
    for (token, state, answer, status) in [
        ("", state.as_str(), "{}", 403),
        (&token, &state, "{}", 400),
        (&token, &state, "null", 400),
        (&token, &state, &huge, 400),
        (&token, "AAAA", "{}", 400),
        (&token, "", "{}", 400),
    ] {
        let fields = [
            ("token", token),
            ("state", state),
            ("name", "x"),
            ("passkey", answer),
        ];
        let sent = browser.submit("/.doorward/passkeys", &fields).await;
        assert_eq!(sent.status, status, "{state} {answer:.20} {}", sent.text());
    }
    let gone = browser
        .submit(
            "/.doorward/passkeys",
            &[("token", token.as_str()), ("remove", "AAAA")],
        )
        .await;
    assert_eq!(gone.status, 404);
    let after = std::fs::read_to_string(proxy.path("users.toml")).unwrap();
    assert_eq!(before, after);
    let script = browser.open("/.doorward/passkey.js").await;
    assert!(script.header("content-type").starts_with("text/javascript"));
}
