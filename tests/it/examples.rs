//! The examples of `docs/assertion.md`, as they stand there: each verifies what a Doorward that runs has signed, and is
//! offered every forgery. A language that is not at hand is left out, with a word on how to get it.

use std::fs::write;
use std::io::{Write, stderr};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use doorward::clock::{Clock, Timestamp};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::{Browser, Process, ProxyBuilder, Recorded, Reply, Upstream, proxy, upstream};

const DOCUMENT: &str = include_str!("../../docs/assertion.md");
const PLACE: &str = "/.well-known/doorward/jwks.json";
const AUDIENCE: &str = "wiki.example.com/";

struct Example {
    /// As the document's block names it.
    language: &'static str,
    algorithms: &'static [&'static str],
    /// Succeeds where the language and what the example needs are there, which the package brings.
    is_there: &'static str,
    package: &'static str,
    /// The file for the example, and what comes before and after it there.
    file: (&'static str, &'static str, &'static str),
    /// A program of its own, which tells `sub` or `refused` for each line that it reads.
    main: (&'static str, &'static str),
    run: &'static str,
}

#[tokio::test]
async fn the_example_for_python_takes_what_is_good_and_nothing_else() {
    check(&Example {
        language: "python",
        algorithms: &["ES256", "EdDSA"],
        is_there: "/usr/bin/python3 -c 'import jwt, cryptography'",
        package: "python3-jwt python3-cryptography",
        file: (
            "example.py",
            "",
            "import sys
for line in sys.stdin:
    try: print(user_of(line.strip())['sub'])
    except Exception: print('refused')
",
        ),
        main: ("empty", ""),
        run: "/usr/bin/python3 example.py",
    })
    .await;
}

#[tokio::test]
async fn the_example_for_node_takes_what_is_good_and_nothing_else() {
    check(&Example {
        language: "js",
        algorithms: &["ES256", "EdDSA"],
        is_there: "command -v node && test -e /usr/share/nodejs/jose",
        package: "nodejs node-jose",
        file: (
            "example.js",
            "",
            "import { createInterface } from 'node:readline';
for await (const line of createInterface({ input: process.stdin }))
  console.log(await userOf(line).then((user) => user.sub, () => 'refused'));
",
        ),
        main: ("package.json", "{\"type\": \"module\"}"),
        run: "node example.js",
    })
    .await;
}

#[tokio::test]
async fn the_example_for_ruby_takes_what_is_good_and_nothing_else() {
    check(&Example {
        language: "ruby",
        algorithms: &["ES256"],
        is_there: "ruby -e 'require \"jwt\"'",
        package: "ruby-jwt",
        file: (
            "example.rb",
            "",
            "STDIN.each_line do |line|
  puts(begin user_of(line.strip)['sub'] rescue (warn $!; 'refused') end)
end
",
        ),
        main: ("empty", ""),
        run: "ruby example.rb",
    })
    .await;
}

#[tokio::test]
async fn the_example_for_go_takes_what_is_good_and_nothing_else() {
    check(&Example {
        language: "go",
        algorithms: &["ES256"],
        is_there: "command -v go",
        package: "golang-go",
        file: ("example.go", "package main\n\n", ""),
        main: (
            "main.go",
            "package main

import (
	\"bufio\"
	\"fmt\"
	\"os\"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if user, err := userOf(lines.Text()); err == nil {
			fmt.Println(user.Subject)
		} else {
			fmt.Println(\"refused\")
		}
	}
}
",
        ),
        run: "go run example.go main.go",
    })
    .await;
}

#[tokio::test]
async fn the_example_for_java_takes_what_is_good_and_nothing_else() {
    check(&Example {
        language: "java",
        algorithms: &["ES256"],
        is_there: "command -v javac && test -e /usr/share/java/gson.jar",
        package: "openjdk-17-jdk-headless libgoogle-gson-java",
        file: ("Doorward.java", "", ""),
        main: (
            "Main.java",
            "import java.io.*;

class Main {
    public static void main(String[] none) throws IOException {
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null; ) {
            try {
                System.out.println(Doorward.userOf(line).get(\"sub\").getAsString());
            } catch (Exception refused) {
                System.out.println(\"refused\");
                System.err.println(refused);
            }
        }
    }
}
",
        ),
        run: "javac -cp /usr/share/java/gson.jar Doorward.java Main.java \
              && rm -f trust \
              && keytool -importcert -noprompt -file site.pem -keystore trust -storepass trusted 2>messages \
              && java -cp .:/usr/share/java/gson.jar -Djavax.net.ssl.trustStore=trust -Djavax.net.ssl.trustStorePassword=trusted Main",
    })
    .await;
}

#[tokio::test]
async fn the_example_for_php_takes_what_is_good_and_nothing_else() {
    check(&Example {
        language: "php",
        algorithms: &["ES256"],
        is_there: "php -r 'exit(extension_loaded(\"openssl\") && extension_loaded(\"sodium\") ? 0 : 1);'",
        package: "php-cli",
        file: (
            "example.php",
            "<?php\n",
            "while (($line = fgets(STDIN)) !== false) {
    try { echo user_of(trim($line))['sub'], \"\\n\"; }
    catch (Exception) { echo \"refused\\n\"; }
}
",
        ),
        main: ("empty", ""),
        run: "php -d openssl.cafile=site.pem example.php",
    })
    .await;
}

async fn check(example: &Example) {
    let Example {
        language, package, ..
    } = *example;
    if !is_there(example.is_there).await {
        // Past what the test runner catches.
        let word = format!("left out: the example for {language}; apt-get install {package}\n");
        stderr().write_all(word.as_bytes()).unwrap();
        return;
    }
    for algorithm in example.algorithms {
        let doorward = signing(algorithm).await;
        let bad = forgeries(algorithm, &doorward).await;
        let count = format!("{} forgeries", bad.len());
        assert!(
            DOCUMENT.contains(&count),
            "the document says another number than {count}"
        );

        let good = doorward.good.as_str();
        let said = said_of((example, algorithm), &doorward, PLACE, (good, &bad)).await;
        let refused = "refused\n".repeat(bad.len());
        let right = format!("local:alice\n{refused}local:alice\n");
        assert_eq!(said, right, "{language} {algorithm}");
        set_off_nobody((example, algorithm), &doorward).await;
    }
}

/// Whatever is sent to the example, and whether or not the keys can be had, it asks for them a few times at most.
async fn set_off_nobody((example, algorithm): (&Example, &str), doorward: &Signing) {
    // One at once, and one for each ten seconds on a machine that has much to do.
    const FEW: usize = 6;
    let language = example.language;
    let made_up = made_up(algorithm, doorward);
    let offered = (doorward.good.as_str(), made_up.as_slice());
    let refused = "refused\n".repeat(made_up.len());
    let known = doorward.keys.to_string();
    for (keys, first) in [(Some(known), "local:alice\n"), (None, "refused\n")] {
        keys.clone_into(&mut doorward.told.lock());
        let before = doorward.fetches();
        let said = said_of((example, algorithm), doorward, "/keys", offered).await;
        assert_eq!(said, format!("{first}{refused}{first}"), "{language}");
        let fetches = doorward.fetches() - before;
        assert!((1..=FEW).contains(&fetches), "{language}: {fetches}");
    }
}

/// As good as the good one, but for keys that there are not.
fn made_up(algorithm: &str, doorward: &Signing) -> Vec<String> {
    let rest = doorward.good.split_once('.').unwrap().1;
    let one = |number| {
        let header = json!({ "alg": algorithm, "typ": "JWT", "kid": format!("made-up-{number}") });
        format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
    };
    (0..20).map(one).collect()
}

/// What the example says of a good one, of bad ones, and of the good one again. Keys are at `place`.
async fn said_of(
    (example, algorithm): (&Example, &str),
    doorward: &Signing,
    place: &str,
    (good, bad): (&str, &[String]),
) -> String {
    let folder = doorward.folder.path();
    let keys = format!("https://localhost:{}{place}", doorward.port);
    let code = block(example.language)
        .replace(&format!("https://wiki.example.com{PLACE}"), &keys)
        .replace("ES256", algorithm);
    assert!(code.contains(&keys), "{}", example.language);
    let (name, before, after) = example.file;
    write(folder.join(name), format!("{before}{code}\n{after}")).unwrap();
    write(folder.join(example.main.0), example.main.1).unwrap();
    let bad = bad.iter().map(String::as_str);
    let offered = [good].into_iter().chain(bad).chain([good]);
    let lines: String = offered.map(|line| format!("{line}\n")).collect();
    run(folder, example.run, lines).await
}

/// A Doorward with a clock that runs, as the libraries' do, and what it has signed for Alice.
struct Signing {
    _process: Process,
    folder: Arc<TempDir>,
    app: Upstream,
    /// What is at `/keys`; `None`: an error.
    told: Arc<Mutex<Option<String>>>,
    port: u16,
    keys: Value,
    good: String,
    elsewhere: String,
}

async fn signing(algorithm: &str) -> Signing {
    let told = Arc::new(Mutex::new(None::<String>));
    let telling = told.clone();
    let app = upstream(move |request| match &*telling.lock() {
        _ if !request.line().starts_with("GET /keys ") => Reply::ok(""),
        Some(keys) => Reply::ok(keys),
        None => Reply::with(503, "", "away"),
    })
    .await;
    let folder = wiki(&app, &format!("algorithm = \"{algorithm}\"")).prepare();
    let mut process = Process::start(folder.path(), &["run", "--config", "doorward.toml"]);
    let port = process.addr().await.port();
    let mut browser = process.browser().await;
    browser.log_in("alice").await;
    Signing {
        good: asserted(&mut browser, &app, "/").await,
        elsewhere: asserted(&mut browser, &app, "/other").await,
        keys: browser.fetch(PLACE).await.json(),
        app,
        told,
        _process: process,
        folder,
        port,
    }
}

impl Signing {
    fn fetches(&self) -> usize {
        let requests = self.app.requests();
        let fetches = requests.iter().map(Recorded::line);
        fetches
            .filter(|line| line.starts_with("GET /keys "))
            .count()
    }
}

/// All of them have the same secrets, and so the same keys.
fn wiki(app: &Upstream, assertion: &str) -> ProxyBuilder {
    let named = |audience: &str| format!("access = \"user\"\nassertion = \"{audience}\"");
    proxy()
        .with("identity", &format!("[identity.assertion]\n{assertion}"))
        .route("/", &app.url(), &named(AUDIENCE))
        .route("/other", &app.url(), &named("other"))
        .route("/keys", &app.url(), "access = \"public\"")
}

async fn asserted(browser: &mut Browser, app: &Upstream, path: &str) -> String {
    assert_eq!(browser.fetch(path).await.status, 200);
    app.last().one("x-doorward-jwt-assertion").to_owned()
}

/// What Doorward itself signs, some time from now, when it is set up otherwise.
async fn signed_otherwise(assertion: &str, now: Timestamp) -> String {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = wiki(&app, assertion).clock(&Clock::fixed(now)).start();
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    asserted(&mut browser, &app, "/").await
}

async fn forgeries(algorithm: &str, doorward: &Signing) -> Vec<String> {
    let Signing { good, keys, .. } = doorward;
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let key = &keys["keys"][0];
    let under = |alg: &str, kid: &Value| {
        let header = json!({ "alg": alg, "typ": "JWT", "kid": kid });
        format!("{}.{claims}", URL_SAFE_NO_PAD.encode(header.to_string()))
    };
    let with =
        |signed: &str, signature: &[u8]| format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    let now = Clock::system().now();
    let ended = Timestamp::from_millis(now.as_millis() - 340_000);
    let own = format!("algorithm = \"{algorithm}\"");
    let other = if algorithm == "ES256" {
        "EdDSA"
    } else {
        "ES256"
    };

    let mut flipped = URL_SAFE_NO_PAD.decode(signature).unwrap();
    flipped[40] ^= 1;
    let mut raised = part(claims);
    raised["sub"] = json!("local:root");
    let raised = URL_SAFE_NO_PAD.encode(raised.to_string());
    let mut bad = vec![
        doorward.elsewhere.clone(),
        signed_otherwise(&own, ended).await,
        signed_otherwise(&format!("{own}\nissuer = \"other\""), now).await,
        signed_otherwise(&format!("algorithm = \"{other}\""), now).await,
        with(signed, &flipped),
        // Java took two zeros for a signature of anything: CVE-2022-21449.
        with(signed, &[0; 64]),
        with(signed, b""),
        format!("{header}.{raised}.{signature}"),
        with(&under("none", &key["kid"]), b""),
        format!("{}.{signature}", under("none", &key["kid"])),
        format!("{}.{signature}", under(algorithm, &json!("another"))),
        by_another_key(&under("ES256", &key["kid"])),
    ];
    // The key that everybody has, as a secret that nobody has.
    for secret in public_forms(key) {
        let signed = under("HS256", &key["kid"]);
        let secret = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        bad.push(with(
            &signed,
            hmac::sign(&secret, signed.as_bytes()).as_ref(),
        ));
    }
    bad.extend([
        format!("{good}.{signature}"),
        signed.to_owned(),
        "nonsense".to_owned(),
    ]);
    bad
}

fn part(text: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

fn by_another_key(signed: &str) -> String {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// As PEM, as its number or point, and as it is published.
fn public_forms(key: &Value) -> [Vec<u8>; 3] {
    const P256: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
    const ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
    let number = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let (prefix, point) = if key["crv"] == "P-256" {
        (P256, [vec![4], number("x"), number("y")].concat())
    } else {
        (ED25519, number("x"))
    };
    let der = STANDARD.encode([prefix, &point].concat());
    let lines: Vec<&str> = [der.get(..64), der.get(64..)]
        .into_iter()
        .flatten()
        .collect();
    let lines = if lines.is_empty() {
        der.clone()
    } else {
        lines.join("\n")
    };
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n");
    [pem.into_bytes(), point, key.to_string().into_bytes()]
}

/// The one example in a language.
fn block(language: &str) -> &'static str {
    let rest = DOCUMENT.split_once(&format!("```{language}\n")).unwrap().1;
    rest.split_once("```").unwrap().0
}

async fn is_there(probe: &str) -> bool {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", probe])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    shell.status().await.unwrap().success()
}

/// What a program with these lines on its standard input says.
async fn run(folder: &Path, program: &str, input: String) -> String {
    const PATIENCE: Duration = Duration::from_mins(3);
    let modules = folder.join("node_modules");
    if !modules.exists() {
        symlink("/usr/share/nodejs", modules).unwrap();
    }
    let certificate = folder.join("site.pem");
    let mut child = Command::new("sh")
        .args(["-c", program])
        .current_dir(folder)
        .env("SSL_CERT_FILE", &certificate)
        .env("NODE_EXTRA_CA_CERTS", &certificate)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    String::from_utf8(ended.expect("it ends").unwrap().stdout).unwrap()
}
