//! Passkeys that the browser offers in the field of the user name (`WebAuthn` level 3, conditional mediation). The list that
//! drops down is the browser's own and no driver reaches it: what is driven here is the request behind it, which a virtual
//! authenticator answers once its user agrees.

use std::time::Duration;

use serde_json::{Value, json};

use crate::passkeys::Bench;
use crate::support::PASSWORD;

/// Runs before every page: writes down what is asked of the authenticator and how it ended, holds back what the button asks
/// until somebody decides, and has the page's time stand still.
const WATCH: &str = "
    window.asked = [];
    const get = CredentialsContainer.prototype.get;
    CredentialsContainer.prototype.get = async function (options) {
        const note = { by: options.mediation || 'button', end: '' };
        window.asked.push(note);
        try {
            if (note.by === 'button' && !(await new Promise((decide) => { window.decide = decide; }))) {
                throw new DOMException('nobody wants to', 'NotAllowedError');
            }
            const answer = await get.call(this, options);
            note.end = 'answered';
            return answer;
        } catch (error) {
            note.end = error.name;
            throw error;
        }
    };
    window.later = 0;
    const opened = Date.now();
    Date.now = () => opened + window.later;
    window.setInterval = (tick) => { window.tick = tick; };
    window.renewals = 0;
    const ask = window.fetch;
    window.fetch = (...all) => { window.renewals += 1; return ask(...all); };
";

/// Alice has a passkey and is logged out.
async fn with_passkey() -> Bench {
    let bench = Bench::start().await;
    bench.by_password().await;
    bench.enrol("key").await;
    bench.log_out().await;
    bench
}

impl Bench {
    /// Opens the login form with [`WATCH`] in it, and waits until the field offers.
    async fn watch(&self) {
        let script = json!({ "source": WATCH });
        let command = "Page.addScriptToEvaluateOnNewDocument";
        self.browser.devtools(command, script).await;
        self.browser.open(&self.at("/?x=1#part")).await;
        self.browser.until_heading("Log in").await;
        self.offers(1).await;
    }

    /// Waits until this many requests were made, and the last is the field's and open.
    async fn offers(&self, requests: usize) {
        let offers = format!(
            "asked.length === {requests} && asked.at(-1).by === 'conditional' && !asked.at(-1).end"
        );
        self.browser.until_true(&offers).await;
    }

    async fn run(&self, script: &str) -> Value {
        let ran = self.browser.client.execute(script, Vec::new()).await;
        ran.unwrap()
    }

    async fn question(&self) -> Value {
        self.run("return document.querySelector('[name=passkey_state]').value")
            .await
    }

    async fn is_in(&self) {
        self.browser.until_heading("Hello, alice").await;
        assert_eq!(self.browser.url().await, self.at("/?x=1#part"));
        let requests = self.app.requests();
        assert_eq!(requests.last().unwrap().one("remote-user"), "alice");
    }
}

#[tokio::test]
async fn who_accepts_what_the_field_offers_comes_in_without_pressing_anything() {
    let bench = with_passkey().await;
    let users = std::fs::read_to_string(bench.proxy.path("users.toml")).unwrap();
    bench.consent(true).await;
    bench.browser.open(&bench.at("/?x=1#part")).await;
    bench.is_in().await;
    let counted = std::fs::read_to_string(bench.proxy.path("users.toml")).unwrap();
    assert_ne!(counted, users, "its use was written down");
    bench.browser.open(&bench.at("/.doorward/session")).await;
    let who: Value = serde_json::from_str(&bench.browser.text("body").await).unwrap();
    assert_eq!(who["amr"], json!(["pop", "user", "mfa"]));
    bench.browser.close().await;
}

#[tokio::test]
async fn the_button_works_while_the_field_offers_and_the_field_after_it() {
    let bench = with_passkey().await;
    let browser = &bench.browser;
    bench.watch().await;
    // It is the field that has the focus at once.
    let focused = bench
        .run("return [document.activeElement.id, document.activeElement.autocomplete]")
        .await;
    assert_eq!(focused, json!(["user", "username webauthn"]));

    browser.click("[data-passkey] button").await;
    browser.until_true("asked.length === 2").await;
    assert_eq!(bench.run("return asked[0].end").await, "AbortError");
    bench.run("decide(false)").await;
    browser
        .until("[data-passkey] [role=alert]:not([hidden])")
        .await;
    bench.offers(3).await;

    browser.click("[data-passkey] button").await;
    browser.until_true("asked.length === 4").await;
    assert_eq!(bench.run("return asked[2].end").await, "AbortError");
    // Nothing is open that could be answered but what the button asks.
    bench.consent(true).await;
    bench.run("decide(true)").await;
    bench.is_in().await;
    bench.browser.close().await;
}

#[tokio::test]
async fn a_form_that_lies_open_gets_a_newer_question_while_somebody_is_there() {
    let bench = with_passkey().await;
    let browser = &bench.browser;
    bench.watch().await;
    let first = bench.question().await;
    bench
        .run("tick(); document.getElementById('user').dispatchEvent(new FocusEvent('focus'))")
        .await;
    bench
        .run("later = 271000; document.hasFocus = () => false; tick()")
        .await;
    assert_eq!(
        bench.run("return [asked.length, renewals]").await,
        json!([1, 0])
    );

    // The first question is too old by now.
    bench.clock.advance(Duration::from_mins(5));
    bench.run("document.hasFocus = () => true; tick()").await;
    bench.offers(2).await;
    let second = bench.question().await;
    assert_ne!(first, second);
    bench.clock.advance(Duration::from_mins(5));
    bench.run("later += 271000; document.getElementById('user').dispatchEvent(new FocusEvent('focus'))").await;
    bench.offers(3).await;
    assert_ne!(second, bench.question().await);
    assert_eq!(
        bench
            .run("return [asked[0].end, asked[1].end, renewals]")
            .await,
        json!(["AbortError", "AbortError", 2])
    );

    // What the button asks is as new.
    bench.clock.advance(Duration::from_mins(5));
    bench.run("later += 271000").await;
    browser.click("[data-passkey] button").await;
    browser.until_true("asked.length === 4").await;
    assert_eq!(bench.run("return renewals").await, 3);
    bench.consent(true).await;
    bench.run("decide(true)").await;
    bench.is_in().await;
    bench.browser.close().await;
}

#[tokio::test]
async fn a_form_that_lies_open_does_not_ask_for_ever() {
    let bench = with_passkey().await;
    let browser = &bench.browser;
    bench.watch().await;
    // Nobody can be reached: what fails is tried again when somebody comes back to the field, and not without end.
    let tries = bench
        .run(
            "return (async () => {
                let tries = 0;
                window.fetch = async () => { tries += 1; throw new TypeError('away'); };
                window.later = 271000;
                const user = document.getElementById('user');
                const come_back = async () => {
                    user.dispatchEvent(new FocusEvent('focus'));
                    await new Promise((done) => setTimeout(done, 10));
                };
                for (let i = 0; i < 1000 && tries < 12; i += 1) await come_back();
                for (let i = 0; i < 20; i += 1) await come_back();
                return tries;
            })()",
        )
        .await;
    assert_eq!(tries, 12);
    // The button begins anew.
    bench.run("isLeft = true").await;
    browser.click("[data-passkey] button").await;
    browser.until_true("!window.isLeft").await;
    bench.offers(1).await;

    // After an hour no answer would help: the form is too old itself.
    bench.run("later = 3300001; tick()").await;
    browser.until_true("asked[0].end === 'AbortError'").await;
    bench
        .run(
            "document.getElementById('user').dispatchEvent(new FocusEvent('focus')); isLeft = true",
        )
        .await;
    assert_eq!(
        bench.run("return [asked.length, renewals]").await,
        json!([1, 0])
    );
    browser.click("[data-passkey] button").await;
    browser.until_true("!window.isLeft").await;
    bench.offers(1).await;
    bench.browser.close().await;
}

#[tokio::test]
async fn without_scripts_the_form_is_a_form_with_a_password() {
    let bench = Bench::with(false).await;
    let key = crate::passkey_answers::Authenticator::new();
    key.write_to(bench.proxy.folder.path());
    bench.by_password().await;
    bench.log_out().await;
    bench.consent(true).await;
    bench.browser.open(&bench.at("/?x=1#part")).await;
    bench.browser.until_heading("Log in").await;
    bench
        .browser
        .until("#user[autocomplete='username webauthn']")
        .await;
    bench.browser.until("[data-passkey][hidden]").await;
    bench.browser.fill("#user", "alice").await;
    bench.browser.fill("#password", PASSWORD).await;
    bench.browser.click("button[type=submit]").await;
    bench.is_in().await;
    bench.browser.close().await;
}
