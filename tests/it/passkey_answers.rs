//! What an authenticator answers, made here byte by byte (`WebAuthn` level 2, section 6.1): which answers count, how often,
//! and at which node.

use std::fs;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::{
    Answer, Browser, PASSWORD, Proxy, ProxyBuilder, Recorded, Reply, Upstream, doorward, proxy,
    upstream,
};

const HANDLE: [u8; 16] = [7; 16];
const ID: &[u8] = b"the key of alice";
/// User present, user verified.
const BOTH: u8 = 0x05;
const PRESENT: u8 = 0x01;
const RENEWAL: &str = "/.doorward/passkey-options";

pub struct Authenticator {
    key: EcdsaKeyPair,
    counter: u32,
}

/// A form with an answer, and the browser that may send it.
#[derive(Clone)]
struct Sheet {
    browser: Browser,
    fields: Vec<(&'static str, String)>,
}

impl Authenticator {
    pub fn new() -> Self {
        Self {
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(),
            counter: 0,
        }
    }

    /// Gives alice this passkey in a users file, as if she had added it.
    pub fn write_to(&self, folder: &Path) {
        self.write_as(folder, (ID, "blue key"));
    }

    fn write_as(&self, folder: &Path, (id, name): (&[u8], &str)) {
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        let credential = json!({ "cred": {
            "cred_id": text(id),
            "cred": { "type_": "ES256", "key": { "EC_EC2": { "curve": "SECP256R1", "x": text(x), "y": text(y) } } },
            "counter": self.counter, "transports": null, "user_verified": true, "backup_eligible": false,
            "backup_state": false, "registration_policy": "required", "extensions": {},
            "attestation": { "data": "None", "metadata": "None" }, "attestation_format": "none",
        }});
        let entry = format!(
            "[[user.passkey]]\nname = \"{name}\"\ncreated = \"2026-01-31T12:00:00Z\"\nhandle = \"{}\"\ncredential = '{credential}'\n\n",
            text(&HANDLE)
        );
        let path = folder.join("users.toml");
        let users = fs::read_to_string(&path).unwrap();
        let at = users.rfind("[[user]]").unwrap();
        assert!(users[..at].contains("alice") && users[at..].contains("bob"));
        let changed = format!("{}{entry}{}", &users[..at], &users[at..]);
        // At once: the proxy may read it at any moment.
        let new = folder.join("users.new");
        fs::write(&new, changed).unwrap();
        let as_before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&new, as_before).unwrap();
        fs::rename(&new, &path).unwrap();
    }

    /// Answers what a login form asks, as from `origin`.
    fn answer(&mut self, page: &Answer, from: (&str, u8)) -> String {
        self.answer_to(&options(page), from)
    }

    fn answer_to(&mut self, options: &Value, (origin, flags): (&str, u8)) -> String {
        let client = json!({
            "type": "webauthn.get", "challenge": options["challenge"], "origin": origin, "crossOrigin": false,
        });
        let client = client.to_string();
        self.counter += 1;
        let host = digest(&SHA256, b"localhost");
        let data = [host.as_ref(), &[flags], &self.counter.to_be_bytes()].concat();
        let signed = [&data, digest(&SHA256, client.as_bytes()).as_ref()].concat();
        let signature = self.key.sign(&SystemRandom::new(), &signed).unwrap();
        json!({
            "id": text(ID), "rawId": text(ID), "type": "public-key", "extensions": {},
            "response": {
                "clientDataJSON": text(client.as_bytes()), "authenticatorData": text(&data),
                "signature": text(signature.as_ref()), "userHandle": text(&HANDLE),
            },
        })
        .to_string()
    }

    /// Whatever the browser is at, with the answer to what it asks there.
    async fn fill(&mut self, browser: Browser) -> Sheet {
        let origin = format!("https://{}", browser.authority());
        self.fill_from(browser, (&origin, BOTH)).await
    }

    async fn fill_from(&mut self, mut browser: Browser, from: (&str, u8)) -> Sheet {
        let page = browser.follow("/.doorward/login").await;
        let fields = vec![
            ("state", page.field("state")),
            ("passkey_state", page.field("passkey_state")),
            ("passkey", self.answer(&page, from)),
        ];
        Sheet { browser, fields }
    }
}

impl Sheet {
    /// The same with an answer to a question that was asked later, as by the script of the form.
    async fn anew(&self, key: &mut Authenticator) -> Self {
        let mut later = self.clone();
        let asked = later.browser.fetch(RENEWAL).await;
        assert_eq!(asked.status, 200, "{}", asked.text());
        let asked = asked.json();
        let options = serde_json::from_str(asked["options"].as_str().unwrap()).unwrap();
        let origin = format!("https://{}", later.browser.authority());
        let answer = key.answer_to(&options, (&origin, BOTH));
        let state = asked["state"].as_str().unwrap();
        (later.fields[1].1, later.fields[2].1) = (state.to_owned(), answer);
        later
    }

    /// Sends it in a browser that has what this one has, and returns both.
    async fn send(&self) -> (Answer, Browser) {
        let mut browser = self.browser.clone();
        let fields: Vec<_> = self.fields.iter().map(|(a, b)| (*a, b.as_str())).collect();
        let answer = browser.submit("/.doorward/login", &fields).await;
        (answer, browser)
    }
}

/// What a login form asks.
fn options(page: &Answer) -> Value {
    let page = page.text();
    let (_, options) = page.split_once("data-options=\"").unwrap();
    let options = options.split('"').next().unwrap();
    let options = options.replace("&quot;", "\"").replace("&#34;", "\"");
    serde_json::from_str(&options).unwrap()
}

fn text(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

async fn app() -> Upstream {
    upstream(|_: &Recorded| Reply::ok("hello")).await
}

/// A proxy at which alice has this passkey.
fn with_passkey(builder: ProxyBuilder, authenticator: &Authenticator) -> Proxy {
    let folder = builder.prepare();
    authenticator.write_to(folder.path());
    builder.within(folder).start()
}

async fn is_in(app: &Upstream, mut browser: Browser) -> bool {
    let before = app.requests().len();
    browser.open("/").await;
    let requests = app.requests();
    requests.len() > before && requests.last().unwrap().one("remote-user") == "alice"
}

fn assert_refused((answer, browser): &(Answer, Browser)) {
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(answer.text().contains("That passkey was not accepted."));
    assert_eq!(browser.token(), "");
}

#[tokio::test]
async fn an_answer_counts_once_and_one_that_comes_again_is_no_copy() {
    let (app, mut key) = (app().await, Authenticator::new());
    let proxy = with_passkey(proxy().app(&app.url()), &key);
    let sheet = key.fill(proxy.browser()).await;
    let (answer, browser) = sheet.send().await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert!(is_in(&app, browser).await);
    let again = sheet.send().await;
    assert_refused(&again);
    assert!(!is_in(&app, again.1).await);
    proxy.audited_times("login_failed", 1).await;
    key.counter -= 1;
    let copy = key.fill(proxy.browser()).await;
    assert_refused(&copy.send().await);
    proxy.audited_times("passkey_cloned", 1).await;
    proxy.audited_times("login_failed", 1).await;
}

#[tokio::test]
async fn an_answer_from_another_origin_or_of_somebody_unverified_is_refused() {
    let (app, mut key) = (app().await, Authenticator::new());
    let proxy = with_passkey(proxy().app(&app.url()), &key);
    let port = proxy.addr.port();
    let own = format!("https://localhost:{port}");
    for (origin, flags) in [
        ("https://localhost".to_owned(), BOTH),
        (format!("http://localhost:{port}"), BOTH),
        (format!("https://evil.localhost:{port}"), BOTH),
        (format!("https://localhost.evil:{port}"), BOTH),
        (own.clone(), PRESENT),
        (own.clone(), 0),
    ] {
        let sheet = key.fill_from(proxy.browser(), (&origin, flags)).await;
        assert_refused(&sheet.send().await);
    }
    let good = key.fill_from(proxy.browser(), (&own, BOTH)).await;
    assert_eq!(good.send().await.0.status, 303);
}

#[tokio::test]
async fn answers_that_are_refused_are_counted_and_then_no_answer_is_looked_at() {
    let (app, mut key) = (app().await, Authenticator::new());
    let builder = proxy().app(&app.url()).with("provider", "max_attempts = 3");
    let proxy = with_passkey(builder, &key);
    for _ in 0..3 {
        let bad = key
            .fill_from(proxy.browser(), ("https://localhost:1", BOTH))
            .await;
        assert_refused(&bad.send().await);
    }
    let (answer, browser) = key.fill(proxy.browser()).await.send().await;
    assert_eq!((answer.status.as_u16(), browser.token()), (429, ""));
    let wait = answer.header("retry-after").parse().unwrap();
    proxy.audited_times("login_throttled", 1).await;
    proxy.clock.advance(Duration::from_secs(wait));
    let later = key.fill(proxy.browser()).await.send().await.0;
    assert_eq!(later.status, 303, "{}", later.text());
}

#[tokio::test]
async fn a_question_that_was_asked_later_is_as_good_as_that_of_the_form_and_no_better() {
    let (app, mut key) = (app().await, Authenticator::new());
    let proxy = with_passkey(proxy().app(&app.url()), &key);
    let form = key.fill(proxy.browser()).await;
    proxy.clock.advance(Duration::from_mins(5));
    assert_eq!(form.send().await.0.status, 400, "too old");
    let later = form.anew(&mut key).await;
    let (answer, browser) = later.send().await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert!(is_in(&app, browser).await);
    assert_refused(&later.send().await);

    // Its question in another browser, the question of another browser, and one that has grown old.
    let other = key.fill(proxy.browser()).await;
    let mine = form.anew(&mut key).await;
    let mut theirs = mine.clone();
    theirs.browser = other.browser.clone();
    theirs.fields[0] = other.fields[0].clone();
    let (answer, browser) = theirs.send().await;
    assert_eq!((answer.status.as_u16(), browser.token()), (400, ""));
    let mut mixed = mine.clone();
    mixed.fields[1] = other.fields[1].clone();
    let (answer, browser) = mixed.send().await;
    assert_eq!((answer.status.as_u16(), browser.token()), (400, ""));
    // And the state of one question with the answer to another.
    let second = form.anew(&mut key).await;
    let mut crossed = mine.clone();
    crossed.fields[1] = second.fields[1].clone();
    assert_refused(&crossed.send().await);
    proxy.clock.advance(Duration::from_mins(5));
    let (answer, browser) = second.send().await;
    assert_eq!((answer.status.as_u16(), browser.token()), (400, ""));
    // The form itself lies open for an hour.
    proxy.clock.advance(Duration::from_mins(50));
    let (answer, browser) = form.anew(&mut key).await.send().await;
    assert_eq!((answer.status.as_u16(), browser.token()), (400, ""));
}

#[tokio::test]
async fn questions_are_for_browsers_that_have_the_form_and_say_nothing_of_anybody() {
    let (app, key) = (app().await, Authenticator::new());
    let proxy = with_passkey(proxy().app(&app.url()), &key);
    let mut browser = proxy.browser();
    assert_eq!(browser.fetch(RENEWAL).await.status, 404, "no form");
    let cookie = ("__Host-sid-browser".to_owned(), "A".repeat(80));
    browser.jar.insert(cookie.0, cookie.1);
    assert_eq!(browser.fetch(RENEWAL).await.status, 404, "a forged cookie");
    browser.jar.clear();
    let page = browser.follow("/.doorward/login").await;
    let policy = page.header("content-security-policy");
    let at = browser.authority();
    let ends = format!("; script-src {at}/.doorward/passkey.js; connect-src {at}{RENEWAL}");
    assert!(
        policy.starts_with("default-src 'none'") && policy.ends_with(&ends),
        "{policy}"
    );
    assert!(page.text().contains("autocomplete=\"username webauthn\""));

    let asked = browser.fetch(RENEWAL).await;
    assert_eq!(asked.header("cache-control"), "no-store");
    assert_eq!(asked.header("content-type"), "application/json");
    assert_eq!(asked.header("x-content-type-options"), "nosniff");
    assert_eq!(asked.set_cookies().len(), 0);
    let again = browser.fetch(RENEWAL).await;
    let asked: Vec<Value> = [asked, again]
        .iter()
        .map(|asked| serde_json::from_str(asked.json()["options"].as_str().unwrap()).unwrap())
        .chain([options(&page)])
        .collect();
    for asked in &asked {
        // Any passkey of anybody, and a verified user: as if there were nobody.
        assert_eq!(asked["allowCredentials"], json!([]));
        assert_eq!(asked["userVerification"], "required");
        assert!(!asked.to_string().contains(&text(&HANDLE)));
    }
    assert_ne!(asked[0]["challenge"], asked[1]["challenge"]);
    assert_ne!(asked[0]["challenge"], asked[2]["challenge"]);
    let posted = browser.submit(RENEWAL, &[]).await;
    assert_eq!(
        (posted.status.as_u16(), posted.header("allow")),
        (405, "GET, HEAD")
    );
    fs::write(
        proxy.path("users.toml"),
        fs::read_to_string(proxy.path("users.toml"))
            .unwrap()
            .split("[[user.passkey]]")
            .next()
            .unwrap(),
    )
    .unwrap();
    // A login reads the file.
    let wrong = proxy.browser().log_in_at("/", "alice", "wrong").await;
    assert_eq!(wrong.status, 401);
    assert_eq!(browser.fetch(RENEWAL).await.status, 404);
    let page = browser.follow("/.doorward/login").await;
    assert!(page.text().contains("autocomplete=\"username\"") && !page.text().contains("passkey"));
    assert!(
        !page
            .header("content-security-policy")
            .contains("connect-src")
    );
}

/// Whoever is known in a browser has guesses there of their own.
#[tokio::test]
async fn a_passkey_makes_a_browser_known_as_its_owners_and_as_nobody_elses() {
    let (app, mut key) = (app().await, Authenticator::new());
    let builder = proxy()
        .app(&app.url())
        .with("server", "trusted_proxies = [\"127.0.0.1\"]")
        .with("provider", "max_attempts = 3");
    let proxy = with_passkey(builder, &key);
    let at = |number: u8| {
        let mut browser = proxy.browser();
        let address = format!("192.0.2.{number}");
        browser.fields.push(("x-forwarded-for".to_owned(), address));
        browser
    };
    let mut sheet = key.fill(at(1)).await;
    sheet.fields.push(("user", "bob".to_owned()));
    let (answer, mut browser) = sheet.send().await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    browser.log_out().await;
    for (number, user) in (10..16).zip(["alice", "bob"].into_iter().cycle()) {
        let wrong = at(number).log_in_at("/", user, "wrong").await;
        assert_eq!(wrong.status, 401);
    }
    let as_bob = browser.log_in_at("/", "bob", PASSWORD).await;
    assert_eq!(as_bob.status, 429);
    let as_alice = browser.log_in_at("/", "alice", PASSWORD).await;
    assert_eq!(as_alice.status, 303);
}

/// Where its use cannot be written down, a copy would be let in later.
#[tokio::test]
async fn a_passkey_whose_counter_cannot_be_written_lets_nobody_in() {
    let (app, mut key) = (app().await, Authenticator::new());
    let proxy = with_passkey(proxy().app(&app.url()), &key);
    let (path, long) = (proxy.path("users.toml"), proxy.path(&"u".repeat(240)));
    fs::rename(&path, &long).unwrap();
    std::os::unix::fs::symlink(&long, &path).unwrap();
    let sheet = key.fill(proxy.browser()).await;
    let (answer, browser) = sheet.send().await;
    assert_eq!((answer.status.as_u16(), browser.token()), (503, ""));
    fs::remove_file(&path).unwrap();
    fs::rename(&long, &path).unwrap();
    // It was spent all the same; the next one is good.
    assert_refused(&sheet.send().await);
    let next = key.fill(proxy.browser()).await;
    assert_eq!(next.send().await.0.status, 303);
}

#[tokio::test]
async fn an_operator_sees_passkeys_and_takes_one_away() {
    let (app, mut key) = (app().await, Authenticator::new());
    let proxy = with_passkey(proxy().app(&app.url()), &key);
    key.write_as(proxy.folder.path(), (b"another", "red key"));
    let before = key.fill(proxy.browser()).await;
    let cli = |words: &[&str]| {
        let config = ["--config", "doorward.toml"];
        let output = doorward(proxy.folder.path(), &[words, &config].concat(), "");
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let listed = cli(&["user", "passkeys", "alice"]);
    assert!(
        listed.contains(&text(ID)) && listed.contains("blue key"),
        "{listed}"
    );
    let id = text(ID);
    let removed = cli(&["user", "remove-passkeys", "alice", "--id", &id]);
    assert!(
        removed.starts_with("Removed the passkeys of alice: blue key."),
        "{removed}"
    );
    let listed = cli(&["user", "passkeys", "alice"]);
    assert!(
        listed.contains("red key") && !listed.contains("blue key"),
        "{listed}"
    );
    assert_refused(&before.send().await);
}

#[cfg(feature = "redis")]
mod nodes {
    use std::sync::Arc;

    use super::*;
    use crate::support::{RedisProcess, eventually};

    impl Sheet {
        /// To another node, which a balancer has put at the same address.
        fn at(&self, proxy: &Proxy) -> Self {
            let mut there = self.clone();
            there.browser.named = Some(self.browser.authority());
            there.browser.addr = proxy.addr;
            there
        }
    }

    fn on(server: &RedisProcess, app: &Upstream) -> ProxyBuilder {
        let keys = format!(
            "backend = \"redis\"\nurl = \"redis://127.0.0.1:{}\"",
            server.port
        );
        proxy().app(&app.url()).store(keys)
    }

    /// Each has a users file of its own, so that only the store knows.
    #[tokio::test]
    async fn an_answer_counts_once_at_all_nodes_together() {
        let (app, mut key) = (app().await, Authenticator::new());
        let server = RedisProcess::own(&[]).await;
        let first = with_passkey(on(&server, &app), &key);
        let second = with_passkey(on(&server, &app), &key);
        let sheet = key.fill(first.browser()).await;
        let (answer, browser) = sheet.send().await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        assert!(is_in(&app, browser).await);
        let there = sheet.at(&second).send().await;
        assert_refused(&there);
        assert!(!is_in(&app, there.1).await);
        second.audited_times("login_failed", 1).await;
        // The second node itself is well, and takes the first to the same question from whoever sends it.
        let next = key.fill(first.browser()).await;
        assert_eq!(next.at(&second).send().await.0.status, 303);
        assert_refused(&next.send().await);
    }

    #[tokio::test]
    async fn of_many_who_send_one_answer_at_once_one_comes_in() {
        let (app, mut key) = (app().await, Authenticator::new());
        let server = RedisProcess::own(&[]).await;
        let nodes = [(), ()].map(|()| with_passkey(on(&server, &app), &key));
        let sheet = key.fill(nodes[0].browser()).await;
        let mut sent = tokio::task::JoinSet::new();
        for node in 0..4 {
            let there = Arc::new(sheet.at(&nodes[node % 2]));
            sent.spawn(async move { there.send().await.0.status.as_u16() });
        }
        let mut said = sent.join_all().await;
        said.sort_unstable();
        assert_eq!(said, [303, 401, 401, 401]);
    }

    #[tokio::test]
    async fn while_the_store_is_away_no_answer_counts() {
        let (app, mut key) = (app().await, Authenticator::new());
        let mut server = RedisProcess::own(&[]).await;
        let proxy = with_passkey(on(&server, &app), &key);
        let sheet = key.fill(proxy.browser()).await;
        server.stop();
        let (answer, browser) = sheet.send().await;
        assert_eq!((answer.status.as_u16(), browser.token()), (503, ""));
        server.run();
        eventually("an answer counts again", async || {
            sheet.send().await.0.status == 303
        })
        .await;
    }
}
