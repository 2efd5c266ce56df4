//! A whole Doorward in this process, on free ports of loopback, with a clock that the test moves.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Once, OnceLock};
use std::time::Duration;

use doorward::app::{self, Running};
use doorward::clock::{Clock, Timestamp};
use doorward::config::{self, Missing};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;

use super::{Browser, CLIENT_SECRET, Raw};

/// Alice's and Bob's password.
pub const PASSWORD: &str = "correct horse battery";

/// Where every test's clock begins.
pub const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

pub struct Proxy {
    pub addr: SocketAddr,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    pub clock: Clock,
    pub folder: Arc<TempDir>,
    running: Option<Running>,
}

/// What a proxy is to be like. Sections are TOML.
pub struct ProxyBuilder {
    routes: String,
    extra: Vec<(&'static str, String)>,
    folder: Option<Arc<TempDir>>,
    workers: usize,
    clock: Option<Clock>,
    store: String,
    certificates: String,
    providers: String,
    secrets: String,
    edge: Option<String>,
}

/// Begins a proxy with one worker, a memory store, and users alice (staff) and bob.
pub fn proxy() -> ProxyBuilder {
    ProxyBuilder {
        routes: String::new(),
        extra: Vec::new(),
        folder: None,
        workers: 1,
        clock: None,
        store: "backend = \"memory\"".to_owned(),
        certificates: String::new(),
        providers: String::new(),
        secrets: "{ file = \"session.key\" }".to_owned(),
        edge: None,
    }
}

impl ProxyBuilder {
    /// A route of host `localhost`; `access` and further keys are TOML.
    #[must_use]
    pub fn route(self, path: &str, upstream: &str, rest: &str) -> Self {
        self.route_at("localhost", path, upstream, rest)
    }

    /// A route of another host.
    #[must_use]
    pub fn route_at(mut self, host: &str, path: &str, upstream: &str, rest: &str) -> Self {
        write!(
            self.routes,
            "[[route]]\nhost = \"{host}\"\npath = \"{path}\"\nupstream = \"{upstream}\"\n{rest}\n"
        )
        .unwrap();
        self
    }

    /// A route of host `localhost` whose upstream is a table of TOML.
    #[must_use]
    pub fn route_to(mut self, path: &str, upstream: &str, rest: &str) -> Self {
        write!(
            self.routes,
            "[[route]]\nhost = \"localhost\"\npath = \"{path}\"\nupstream = {upstream}\n{rest}\n"
        )
        .unwrap();
        self
    }

    /// One more certificate, beside the first, which is everybody's.
    #[must_use]
    pub fn certificate(mut self, cert: &Path, key: &Path) -> Self {
        write!(
            self.certificates,
            ", {{ cert = \"{}\", key = \"{}\" }}",
            cert.display(),
            key.display()
        )
        .unwrap();
        self
    }

    /// Everybody's and nobody's route at `/`: who is logged in may use it.
    #[must_use]
    pub fn app(self, upstream: &str) -> Self {
        self.route("/", upstream, "access = \"user\"")
    }

    /// More keys for a section: `server`, `limits`, `tls`, `session`, `identity`, `provider`, `log`.
    #[must_use]
    pub fn with(mut self, section: &'static str, keys: &str) -> Self {
        self.extra.push((section, keys.to_owned()));
        self
    }

    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// The default store, which survives.
    #[must_use]
    pub fn embedded(mut self) -> Self {
        self.store = String::from("backend = \"embedded\"\npath = \"data/sessions.db\"");
        self
    }

    /// Another store: the keys of its section.
    #[cfg(any(feature = "postgres", feature = "redis"))]
    #[must_use]
    pub fn store(mut self, keys: String) -> Self {
        self.store = keys;
        self
    }

    /// One more way to log in, after the local users: a whole section of TOML.
    #[must_use]
    pub fn provider(mut self, section: &str) -> Self {
        self.providers.push_str(section);
        self
    }

    /// With this clock.
    #[must_use]
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    /// Other secrets: the items of the list.
    #[must_use]
    pub fn secrets(mut self, items: &str) -> Self {
        items.clone_into(&mut self.secrets);
        self
    }

    /// A node with public keys alone: the keys of `[session.edge]`.
    #[must_use]
    pub fn edge(mut self, keys: &str) -> Self {
        self.edge = Some(keys.to_owned());
        self
    }

    /// As an earlier proxy left things.
    #[must_use]
    pub fn after(mut self, folder: Arc<TempDir>, clock: Clock) -> Self {
        self.folder = Some(folder);
        self.clock = Some(clock);
        self
    }

    /// In a folder that was prepared.
    #[must_use]
    pub fn within(mut self, folder: Arc<TempDir>) -> Self {
        self.folder = Some(folder);
        self
    }

    pub fn start(self) -> Proxy {
        let folder = self.prepare();
        let file = folder.path().join("doorward.toml");
        let settings = match config::load(&file, Missing::Refused) {
            Ok(settings) => settings,
            Err(errors) => panic!("{errors}"),
        };
        let clock = self.clock.unwrap_or_else(|| Clock::fixed(START));
        let running = app::start(settings, clock.clone()).unwrap();
        Proxy {
            addr: running.https[0],
            http: running.http[0],
            admin: running.admin.unwrap(),
            clock,
            folder,
            running: Some(running),
        }
    }

    /// A folder with the configuration and all that it names, for a program to run in.
    pub fn prepare(&self) -> Arc<TempDir> {
        install_crypto();
        let folder = self
            .folder
            .clone()
            .unwrap_or_else(|| Arc::new(new_folder()));
        std::fs::write(folder.path().join("doorward.toml"), self.text()).unwrap();
        folder
    }

    fn text(&self) -> String {
        let kept = match &self.edge {
            Some(edge) => format!("[session]\nmode = \"edge\"\n[session.edge]\n{edge}"),
            None => self.kept(),
        };
        let keys = |section: &str| self.keys(section);
        format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n\
             workers = {}\n{}\n[limits]\n{}\n[tls]\ncertificates = [{{ cert = \"site.pem\", key = \"site.key\" }}{}]\n{}\n\
             [identity]\n{}\n{kept}\n[log]\naudit = \"audit.log\"\n{}\n{}",
            self.workers,
            keys("server"),
            keys("limits"),
            self.certificates,
            keys("tls"),
            keys("identity"),
            keys("log"),
            self.routes,
        )
    }

    /// What a node with a store has beside all others.
    fn kept(&self) -> String {
        format!(
            "[session]\nsecrets = [{}]\n{}\n[store]\n{}\n\
             [[provider]]\nid = \"local\"\ntype = \"local\"\nusers = \"users.toml\"\n{}\n{}",
            self.secrets,
            self.keys("session"),
            self.store,
            self.keys("provider"),
            self.providers,
        )
    }

    fn keys(&self, section: &str) -> String {
        let own = self.extra.iter().filter(|(name, _)| *name == section);
        own.map(|(_, keys)| keys.as_str())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Proxy {
    pub fn browser(&self) -> Browser {
        Browser::new(self.addr)
    }

    pub async fn raw(&self) -> Raw {
        Raw::connect(self.addr, &[b"http/1.1"]).await
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Every event of the audit log so far, one JSON object each. What has just been told of may still be on its way.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.path("audit.log")).unwrap_or_default();
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits until the audit log holds an event of this kind, and returns the last.
    pub async fn audited(&self, event: &str) -> serde_json::Value {
        for _ in 0..2000 {
            let found = self
                .audit()
                .into_iter()
                .rfind(|line| line["event"] == event);
            if let Some(found) = found {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no {event} in the audit log: {:?}", self.audit());
    }

    /// Waits until the audit log holds `count` events of this kind, and returns them: no more may have come.
    pub async fn audited_times(&self, event: &str, count: usize) -> Vec<serde_json::Value> {
        let mut found = Vec::new();
        for _ in 0..2000 {
            found = self.audit();
            found.retain(|line| line["event"] == event);
            if found.len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(found.len(), count, "{event}: {found:?}");
        found
    }

    /// Stops as SIGTERM would, off the async threads, and leaves the folder to whoever comes next.
    pub async fn stop(mut self) -> (Arc<TempDir>, Clock) {
        let running = self.running.take().unwrap();
        let (done, stopped) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            running.stop();
            done.send(())
        });
        stopped.await.unwrap();
        (self.folder.clone(), self.clock.clone())
    }

    pub fn sessions(&self) -> &doorward::session::Sessions {
        &self.running.as_ref().unwrap().sessions
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // A runtime cannot be dropped inside another.
            std::thread::spawn(move || drop(running)).join().unwrap();
        }
    }
}

/// One certificate for all tests: issued by nobody, trusted by name.
pub fn certificate() -> &'static (String, String) {
    static MADE: OnceLock<(String, String)> = OnceLock::new();
    MADE.get_or_init(|| {
        let names = vec![
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "*.example.test".to_owned(),
        ];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    })
}

pub fn trusted() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(certificate().0.as_bytes()).unwrap()
}

fn new_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate();
    write(folder.path(), "site.pem", cert);
    write(folder.path(), "site.key", key);
    write(folder.path(), "session.key", &"5e".repeat(32));
    write(folder.path(), "users.toml", users());
    write(folder.path(), "oidc.secret", CLIENT_SECRET);
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Hashed once: it costs as much as a login.
fn users() -> &'static str {
    static USERS: OnceLock<String> = OnceLock::new();
    USERS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.toml");
        add_user(&file, "alice", &["staff"]);
        add_user(&file, "bob", &[]);
        std::fs::read_to_string(&file).unwrap()
    })
}

pub fn add_user(file: &Path, name: &str, groups: &[&str]) {
    use doorward::login::{NewPassword, NewUser, UserFile};
    let user = NewUser {
        name: name.to_owned(),
        display_name: Some(format!("{name} Ünder")),
        email: Some(format!("{name}@example.org")),
        groups: groups.iter().map(|&group| group.to_owned()).collect(),
        password: NewPassword::choose(name, PASSWORD).unwrap(),
    };
    UserFile::add(file, user).unwrap();
}

fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        // A client may have come first, and with it the same one.
        let _installed = provider.install_default().is_ok();
    });
}
