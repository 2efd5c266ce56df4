//! A certified `OpenID` Connect provider as a process of its own: npm's `oidc-provider`, which tests/run fetches.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::{Value, json};

use super::{CLIENT_ID, CLIENT_SECRET};

/// It ends when it is dropped, or when the tests are killed.
pub struct Certified {
    pub issuer: String,
    process: Child,
    input: ChildStdin,
}

impl Certified {
    /// It knows no client yet, and answers nothing but that it is not there. It is at a path, `/realms/corp`, or `""`.
    pub fn start(path: &str) -> Self {
        let modules = modules();
        let missing = "the provider is not there; tests/run fetches it";
        assert!(modules.join("oidc-provider").exists(), "{missing}");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/provider/server.mjs");
        let mut process = Command::new("node")
            .arg(script)
            .arg(modules)
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node cannot be started; tests/run installs it");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let issuer = lines.next().expect("a provider that starts").unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            issuer,
            input: process.stdin.take().unwrap(),
            process,
        }
    }

    /// Its client: the proxy at this origin, which it knows as `id`. With a public key (JWK) that is what it shows; without,
    /// its secret.
    pub fn know(&mut self, origin: &str, id: &str, key: Option<&Value>) {
        let mut client = json!({
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "redirect_uris": [format!("{origin}/.doorward/callback/{id}")],
        });
        if let Some(key) = key {
            client["token_endpoint_auth_method"] = "private_key_jwt".into();
            client["token_endpoint_auth_signing_alg"] = "ES256".into();
            client["jwks"] = json!({ "keys": [key] });
        }
        writeln!(self.input, "{client}").unwrap();
    }
}

impl Drop for Certified {
    fn drop(&mut self) {
        let _killed = self.process.kill().is_ok() && self.process.wait().is_ok();
    }
}

/// Where tests/run puts what it fetches: beside what is built.
fn modules() -> PathBuf {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    built.join("test-provider/node_modules")
}
