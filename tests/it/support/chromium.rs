//! `doorward demo` as a process of its own, and a real Chromium in front of it that trusts its certificate authority.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tempfile::TempDir;
use url::{ParseError, Url};

use super::Browser;

/// A process that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _killed = self.0.kill().is_ok() && self.0.wait().is_ok();
    }
}

/// The driver of a browser, with the browser that it started: that would go on where a test fails before it is closed.
struct Driver(Process);

impl Drop for Driver {
    fn drop(&mut self) {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0.0.id()));
        for thread in threads.into_iter().flatten().flatten() {
            let started = std::fs::read_to_string(thread.path().join("children"));
            for id in started.unwrap_or_default().split_ascii_whitespace() {
                let _ended = Command::new("kill").args(["-s", "KILL", id]).status();
            }
        }
    }
}

pub struct Demo {
    pub url: String,
    pub user: String,
    pub password: String,
    ca: String,
    folder: TempDir,
    _process: Process,
}

impl Demo {
    /// Starts it on a free port with everything new.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
        command
            .args(["demo", "--json", "--port", "0", "--data"])
            .arg(folder.path().join("demo"));
        let mut process = Process(command.stdout(Stdio::piped()).spawn().unwrap());
        let facts = first_line(&mut process, |_| true).expect("it ended before it was ready");
        let facts: Value = serde_json::from_str(&facts).unwrap();
        let fact = |name: &str| facts[name].as_str().unwrap().to_owned();
        Self {
            url: fact("url"),
            user: fact("user"),
            password: fact("password"),
            ca: fact("ca"),
            folder,
            _process: process,
        }
    }

    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url.trim_end_matches('/'))
    }

    /// Somebody else with the same password, who calls their browser this.
    pub async fn logged_in(&self, agent: &str) -> Browser {
        let port = Url::parse(&self.url).unwrap().port().unwrap();
        let mut browser = Browser::new(([127, 0, 0, 1], port).into());
        browser.trusts = Some(CertificateDer::from_pem_file(&self.ca).unwrap());
        browser
            .fields
            .push(("user-agent".to_owned(), agent.to_owned()));
        let answer = browser.log_in_at("/", &self.user, &self.password).await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        browser
    }
}

/// A browser with a home of its own. Scripts can be switched off, as some people do.
pub struct Chromium {
    pub client: Client,
    _driver: Driver,
}

impl Chromium {
    pub async fn start(demo: &Demo, scripts: bool) -> Self {
        Self::trusting(demo.folder.path(), Path::new(&demo.ca), scripts).await
    }

    /// One that keeps its things below `folder` and trusts an authority.
    pub async fn trusting(folder: &Path, authority: &Path, scripts: bool) -> Self {
        let home = folder.join("home");
        trust(&home, &authority.display().to_string());
        let (driver, port) = drive(&home);
        let connecting = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities(&home, scripts))
            .connect(&format!("http://127.0.0.1:{port}"))
            .await;
        Self {
            client: connecting.expect("chromium cannot be started; tests/run installs it"),
            _driver: Driver(driver),
        }
    }

    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    pub async fn title(&self) -> String {
        self.client.title().await.unwrap()
    }

    pub async fn url(&self) -> String {
        self.client.current_url().await.unwrap().into()
    }

    /// The text that a person sees.
    pub async fn text(&self, css: &str) -> String {
        let element = self.client.find(Locator::Css(css)).await.unwrap();
        element.text().await.unwrap()
    }

    /// What stands in the only frame of the page.
    pub async fn text_in_frame(&self) -> String {
        let frame = self.client.find(Locator::Css("iframe")).await.unwrap();
        frame.enter_frame().await.unwrap();
        let text = self.text("body").await;
        self.client.enter_parent_frame().await.unwrap();
        text
    }

    /// Waits until there is such an element.
    pub async fn until(&self, css: &str) {
        let waiting = self.client.wait().at_most(Duration::from_secs(20));
        let found = waiting.for_element(Locator::Css(css)).await;
        assert!(found.is_ok(), "no {css} on the page");
    }

    /// Waits until the page says so, as loading takes what it takes.
    pub async fn until_heading(&self, expected: &str) {
        let mut seen = String::new();
        for _ in 0..800 {
            // In between two pages an element may be gone before it is read.
            if let Ok(heading) = self.client.find(Locator::Css("h1")).await
                && let Ok(text) = heading.text().await
            {
                if text == expected {
                    return;
                }
                seen = text;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{expected:?} did not appear, but {seen:?} did");
    }

    /// Waits until an expression over the page is true.
    pub async fn until_true(&self, expression: &str) {
        let script = format!("return Boolean({expression})");
        let mut seen = None;
        for _ in 0..800 {
            // In between two pages there is nothing to ask.
            let said = self.client.execute(&script, Vec::new()).await;
            if let Ok(Value::Bool(true)) = said {
                return;
            }
            seen = Some(said);
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("never true: {expression}: {seen:?}");
    }

    pub async fn click(&self, css: &str) {
        let element = self.client.find(Locator::Css(css)).await.unwrap();
        element.click().await.unwrap();
    }

    pub async fn follow(&self, link: &str) {
        let link = self.client.find(Locator::LinkText(link)).await.unwrap();
        link.click().await.unwrap();
    }

    /// Goes back in history as the button does, and waits for the page that is shown then. The driver's own command fails
    /// where a step back leads on to a redirect, or to a page that is loaded anew and takes its time. It needs scripts.
    pub async fn back(&self) {
        let run = |script: &'static str| self.client.execute(script, Vec::new());
        let gone = run("window.isLeft = true; history.back()").await;
        gone.unwrap();
        let mut seen = None;
        for _ in 0..400 {
            // In between two pages there is nothing to ask.
            if let Ok(state) = run("return [!window.isLeft, document.readyState]").await {
                if state == json!([true, "complete"]) {
                    return;
                }
                seen = Some(state);
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("going back leads nowhere: {seen:?}");
    }

    pub async fn fill(&self, css: &str, text: &str) {
        let field = self.client.find(Locator::Css(css)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Types into whatever has the focus.
    pub async fn keys(&self, text: &str) {
        let focused = self.client.active_element().await.unwrap();
        focused.send_keys(text).await.unwrap();
    }

    /// A window of this size in CSS pixels, light or dark.
    pub async fn show_as(&self, (width, height): (u32, u32), scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await;
        // Without motion: what is measured is where things end up.
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )
        .await;
    }

    pub async fn close(self) {
        self.client.close().await.unwrap();
    }

    pub async fn devtools(&self, command: &'static str, params: Value) {
        self.client
            .issue_cmd(Devtools { command, params })
            .await
            .unwrap();
    }
}

#[derive(Debug)]
struct Devtools {
    command: &'static str,
    params: Value,
}

impl WebDriverCompatibleCommand for Devtools {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!(
            "session/{}/goog/cdp/execute",
            session.unwrap_or_default()
        ))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        let body = json!({ "cmd": self.command, "params": self.params });
        (Method::POST, Some(body.to_string()))
    }
}

/// Makes the configuration in a folder take a certificate of an authority of its own: the browser believes no other.
pub fn self_signed(folder: &Path) {
    let file = folder.join("doorward.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let own = "certificates = [{ cert = \"site.pem\", key = \"site.key\" }]";
    assert!(text.contains(own), "{text}");
    std::fs::write(&file, text.replace(own, "self_signed = true")).unwrap();
}

fn capabilities(home: &Path, scripts: bool) -> Capabilities {
    let profile = format!("--user-data-dir={}", home.join("profile").display());
    let options = json!({
        "args": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
            profile,
        ],
        "prefs": { "profile.managed_default_content_settings.javascript": if scripts { 1 } else { 2 } },
    });
    Capabilities::from_iter([
        ("browserName".to_owned(), json!("chrome")),
        ("goog:chromeOptions".to_owned(), options),
    ])
}

/// A driver and its port. It takes a free port of IPv6 and then the same of IPv4, and gives up where another has that one.
fn drive(home: &Path) -> (Process, String) {
    for _ in 0..20 {
        let mut command = Command::new("chromedriver");
        command
            .arg("--port=0")
            .env("HOME", home)
            .stdout(Stdio::piped());
        let missing = "chromedriver cannot be started; tests/run installs it, and chromium";
        let mut driver = Process(command.spawn().expect(missing));
        let ready = |line: &str| line.contains("started successfully on port");
        if let Some(line) = first_line(&mut driver, ready) {
            return (driver, line.chars().filter(char::is_ascii_digit).collect());
        }
    }
    panic!("chromedriver ends before it is ready");
}

/// What somebody does who imports the authority by hand.
fn trust(home: &Path, ca: &str) {
    let database = home.join(".pki/nssdb");
    std::fs::create_dir_all(&database).unwrap();
    let database = format!("sql:{}", database.display());
    for arguments in [
        &["-N", "--empty-password"][..],
        &["-A", "-n", "demo", "-t", "C,,", "-i", ca],
    ] {
        let run = Command::new("certutil")
            .args(["-d", &database])
            .args(arguments)
            .output();
        let output = run.expect("certutil cannot be started; tests/run installs it");
        assert!(output.status.success(), "{output:?}");
    }
}

/// Reads what a process says until the line that was waited for; the rest is read away, so that it never blocks.
/// `None`: it ended before.
fn first_line(process: &mut Process, wanted: fn(&str) -> bool) -> Option<String> {
    let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
    let found = lines
        .by_ref()
        .map_while(Result::ok)
        .find(|line| wanted(line));
    std::thread::spawn(move || lines.for_each(drop));
    found
}
