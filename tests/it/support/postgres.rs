//! A real PostgreSQL on a free port of loopback, in a folder of its own, as an account that is not root.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use doorward::secret::Secret;
use doorward::session::store::{PostgresServer, PostgresSettings};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tempfile::TempDir;
use tokio::time::Instant;

use super::Frozen;

/// Of every role here. It must appear in no message.
const PASSWORD: &str = "open sesame 4711";

/// Longer than a server takes to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stops the server when nobody holds its input any more, be it that the tests have ended or were killed.
const GUARD: &str = r#"
    trap '' INT TERM HUP
    keep=$1 folder=$2; shift 2
    "$@" >>"$folder/log" 2>&1 </dev/null &
    server=$!
    cat >/dev/null
    kill -CONT $server 2>/dev/null
    kill -QUIT $server 2>/dev/null
    wait $server
    [ "$keep" = keep ] || rm -rf "$folder"
"#;

/// One server. It goes when it is dropped.
pub struct PostgresProcess {
    folder: PathBuf,
    pub port: u16,
    /// One that outlives all tests has its folder removed by its guard.
    shared: bool,
    /// Beyond those of every server here, as in `fsync=on`.
    settings: Vec<String>,
    guard: Option<Child>,
}

/// An empty database of its own, owned by `doorward`.
pub struct Database {
    pub port: u16,
    pub name: String,
    pub folder: PathBuf,
}

/// On the one server that all tests share.
pub async fn database() -> Database {
    static SHARED: OnceLock<PostgresProcess> = OnceLock::new();
    let server = SHARED.get_or_init(|| PostgresProcess::start(true, &[]));
    server.database().await
}

impl PostgresProcess {
    /// One with further settings, as in `fsync=on`.
    pub fn own(settings: &[&str]) -> Self {
        Self::start(false, settings)
    }

    fn start(shared: bool, settings: &[&str]) -> Self {
        let folder = TempDir::new().unwrap().keep();
        let account = account();
        let password = folder.join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        certificates(&folder);
        give(&folder, account);
        let made = as_account(Command::new(program("initdb")), account)
            .args(["--no-sync", "--username=postgres", "--auth=scram-sha-256"])
            .args(["--encoding=UTF8", "--locale=C"])
            .arg(format!("--pwfile={}", password.display()))
            .arg(folder.join("data"))
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
        let mut server = Self {
            folder,
            port: port.unwrap().port(),
            shared,
            settings: settings.iter().map(|text| (*text).to_owned()).collect(),
            guard: None,
        };
        server.run();
        server
    }

    /// Starts it, or starts it again.
    pub fn run(&mut self) {
        let mut guard = Command::new("sh");
        guard
            .args(["-c", GUARD, "guard"])
            .arg(if self.shared { "remove" } else { "keep" })
            .arg(&self.folder)
            .arg(program("postgres"))
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-p", &self.port.to_string()]);
        let folder = self.folder.display();
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("unix_socket_directories={folder}"),
            "max_connections=300",
            "shared_buffers=32MB",
            "fsync=off",
            "full_page_writes=off",
            "autovacuum=off",
            "ssl=on",
            &format!("ssl_cert_file={folder}/server.pem"),
            &format!("ssl_key_file={folder}/server.key"),
        ] {
            guard.args(["-c", setting]);
        }
        for setting in &self.settings {
            guard.args(["-c", setting]);
        }
        let guard = as_account(guard, account())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir(&self.folder)
            .spawn();
        self.guard = Some(guard.unwrap());
    }

    /// As `kill -QUIT` does: no farewell to anybody.
    pub fn stop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            guard.wait().unwrap();
        }
    }

    /// Stops it in the middle of whatever it does, until it is thawed: the first process and all that serve clients.
    pub fn freeze(&self) -> Frozen {
        let file = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        let first = file.lines().next().unwrap().to_owned();
        // It comes first, so that there are no more of them.
        let mut frozen = Frozen::default();
        assert!(frozen.stop(&first));
        let children = format!("/proc/{first}/task/{first}/children");
        for child in std::fs::read_to_string(children)
            .unwrap()
            .split_whitespace()
        {
            // It may have ended just now.
            let _stopped = frozen.stop(child);
        }
        frozen
    }

    pub async fn database(&self) -> Database {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let database = Database {
            port: self.port,
            name: format!("t{number}"),
            folder: self.folder.clone(),
        };
        let mut admin = self.admin().await;
        let role = format!(
            "DO $$ BEGIN CREATE ROLE doorward LOGIN PASSWORD '{PASSWORD}'; \
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        );
        admin.execute(AssertSqlSafe(role)).await.unwrap();
        let made = format!("CREATE DATABASE {} OWNER doorward", database.name);
        admin.execute(AssertSqlSafe(made)).await.unwrap();
        database
    }

    /// Waits until the server answers.
    pub async fn admin(&self) -> PgConnection {
        let options = admin_of(self.port, "postgres");
        let end = Instant::now() + PATIENCE;
        loop {
            match options.connect().await {
                Ok(admin) => return admin,
                Err(error) => {
                    let log = std::fs::read_to_string(self.folder.join("log"));
                    assert!(Instant::now() < end, "{error}: {}", log.unwrap_or_default());
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for PostgresProcess {
    fn drop(&mut self) {
        self.stop();
        let _removed = std::fs::remove_dir_all(&self.folder).is_ok();
    }
}

impl Database {
    pub fn settings(&self) -> PostgresSettings {
        PostgresSettings {
            server: PostgresServer::Tcp {
                host: "127.0.0.1".to_owned(),
                port: self.port,
            },
            user: "doorward".to_owned(),
            database: self.name.clone(),
            password: Some(Secret::new(PASSWORD)),
            tls: None,
            max_connections: 8,
            statement_cache: 100,
            timeout: Duration::from_secs(20),
        }
    }

    /// Keys of `[store]`; the password stands in a file beside the configuration.
    pub fn keys(&self, folder: &Path) -> String {
        let file = folder.join("postgres.password");
        std::fs::write(&file, PASSWORD).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        format!(
            "backend = \"postgres\"\nurl = \"postgres://doorward@127.0.0.1:{}/{}\"\n\
             password = {{ file = \"{}\" }}\nconnections = 8",
            self.port,
            self.name,
            file.display()
        )
    }

    /// A superuser in this database.
    pub async fn admin(&self) -> PgConnection {
        admin_of(self.port, &self.name).connect().await.unwrap()
    }

    /// Runs statements as a superuser.
    pub async fn execute(&self, sql: &str) {
        let mut admin = self.admin().await;
        admin.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    }

    /// The authority that signed the server's certificate.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    pub fn password() -> &'static str {
        PASSWORD
    }
}

fn admin_of(port: u16, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(port)
        .username("postgres")
        .password(PASSWORD)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
}

/// For `localhost`, signed by an authority that nobody else knows.
fn certificates(folder: &Path) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let server_key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&server_key, &issuer).unwrap();
    for (name, text) in [
        ("ca.pem", ca.pem()),
        ("server.pem", server.pem()),
        ("server.key", server_key.serialize_pem()),
    ] {
        let file = folder.join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Whom root runs the server as, which refuses to run as root.
fn account() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim().parse::<u32>().ok()
    };
    (id(&["-u"]) == Some(0)).then(|| {
        let user = id(&["-u", "postgres"]).expect("the account postgres");
        (user, id(&["-g", "postgres"]).expect("its group"))
    })
}

fn as_account(mut command: Command, account: Option<(u32, u32)>) -> Command {
    if let Some((user, group)) = account {
        command.uid(user).gid(group);
    }
    command
}

fn give(folder: &Path, account: Option<(u32, u32)>) {
    let Some((user, group)) = account else { return };
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    for path in files.chain([folder.to_owned()]) {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

/// The newest version of Debian's, or whatever is in the path.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let newest = versions.into_iter().flatten().filter_map(|entry| {
        let folder = entry.ok()?;
        let version: u32 = folder.file_name().to_str()?.parse().ok()?;
        let file = folder.path().join("bin").join(name);
        file.exists().then_some((version, file))
    });
    newest
        .max()
        .map_or_else(|| PathBuf::from(name), |(_, file)| file)
}
