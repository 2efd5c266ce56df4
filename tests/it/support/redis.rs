//! Real Redis servers on free ports of loopback, each in a folder of its own: one, a Cluster of three, or with a sentinel.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use doorward::session::store::{RedisServers, RedisSettings};
use redis::{Client, FromRedisValue};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::Frozen;

/// Longer than a server takes for anything here.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stops the server when nobody holds its input any more, be it that the tests have ended or were killed.
const GUARD: &str = r#"
    trap '' INT TERM HUP
    keep=$1 folder=$2; shift 2
    "$@" >>"$folder/log" 2>&1 </dev/null &
    server=$!
    cat >/dev/null
    kill -CONT $server 2>/dev/null
    kill -KILL $server 2>/dev/null
    wait $server
    [ "$keep" = keep ] || rm -rf "$folder"
"#;

/// One server. It goes when it is dropped.
pub struct RedisProcess {
    pub folder: PathBuf,
    pub port: u16,
    arguments: Vec<String>,
    /// One that outlives all tests has its folder removed by its guard.
    shared: bool,
    guard: Option<Child>,
}

impl RedisProcess {
    /// One with further arguments, as in `--requirepass secret`. It answers.
    pub async fn own(arguments: &[&str]) -> Self {
        let server = Self::start(false, arguments);
        server.answers().await;
        server
    }

    /// One that speaks TLS alone, with the files of [`redis_certificates`].
    pub async fn with_tls(folder: &Path) -> Self {
        let mut server = Self::start(false, &[]);
        server.stop();
        let file = |name: &str| folder.join(name).display().to_string();
        let port = server.port.to_string();
        server.arguments = [
            ["--port", "0"],
            ["--tls-port", &port],
            ["--tls-cert-file", &file("server.pem")],
            ["--tls-key-file", &file("server.key")],
            ["--tls-ca-cert-file", &file("ca.pem")],
            ["--tls-auth-clients", "no"],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect();
        server.run();
        server.answers().await;
        server
    }

    fn start(shared: bool, arguments: &[&str]) -> Self {
        let mut server = Self {
            folder: TempDir::new().unwrap().keep(),
            port: free_port(),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            shared,
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
            .arg("redis-server");
        if self.arguments.iter().any(|text| text == "--sentinel") {
            guard.arg(self.folder.join("sentinel.conf"));
        } else {
            guard.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        }
        guard.args(&self.arguments);
        if !self.arguments.iter().any(|text| text == "--port") {
            guard.args(["--port", &self.port.to_string()]);
        }
        guard.arg("--dir").arg(&self.folder);
        let guard = guard
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir(&self.folder)
            .spawn();
        self.guard = Some(guard.unwrap());
    }

    /// As `kill -9` does.
    pub fn stop(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            guard.wait().unwrap();
        }
    }

    /// Stops it in the middle of whatever it does, until it is thawed.
    pub async fn freeze(&self) -> Frozen {
        let info: String = self.command(&[b"INFO", b"server"]).await;
        let mut lines = info.lines();
        let id = lines.find_map(|line| line.strip_prefix("process_id:"));
        let mut frozen = Frozen::default();
        assert!(frozen.stop(id.unwrap().trim()));
        frozen
    }

    pub async fn answers(&self) {
        let end = Instant::now() + PATIENCE;
        loop {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await;
            if stream.is_ok() {
                return;
            }
            let log = std::fs::read_to_string(self.folder.join("log"));
            assert!(Instant::now() < end, "{}", log.unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A store there, under a prefix that nobody else has.
    pub fn settings(&self) -> RedisSettings {
        settings(RedisServers::One {
            host: "127.0.0.1".to_owned(),
            port: self.port,
        })
    }

    /// One command, by a client that has nothing to do with the store.
    pub async fn command<T: FromRedisValue>(&self, words: &[&[u8]]) -> T {
        let client = Client::open(("127.0.0.1", self.port)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query_async(&mut connection).await.unwrap()
    }

    pub async fn tell(&self, words: &[&[u8]]) {
        self.command::<redis::Value>(words).await;
    }

    pub async fn keys(&self, pattern: &str) -> Vec<String> {
        self.command(&[b"KEYS", pattern.as_bytes()]).await
    }

    /// Cuts every connection of a kind (`normal` or `pubsub`).
    pub async fn cut(&self, kind: &str) -> usize {
        self.command(&[
            b"CLIENT",
            b"KILL",
            b"TYPE",
            kind.as_bytes(),
            b"SKIPME",
            b"yes",
        ])
        .await
    }
}

impl Drop for RedisProcess {
    fn drop(&mut self) {
        self.stop();
        let _removed = std::fs::remove_dir_all(&self.folder).is_ok();
    }
}

/// On the one server that all tests share.
pub async fn redis() -> RedisSettings {
    static SHARED: OnceCell<RedisProcess> = OnceCell::const_new();
    let server = SHARED.get_or_init(async || {
        let server = RedisProcess::start(true, &[]);
        server.answers().await;
        server
    });
    server.await.settings()
}

/// On the Cluster that all tests share. Only one of its three nodes is named.
pub async fn redis_cluster() -> RedisSettings {
    static SHARED: OnceCell<Vec<RedisProcess>> = OnceCell::const_new();
    let nodes = SHARED.get_or_init(async || cluster(true).await).await;
    settings(RedisServers::Cluster(vec![(
        "127.0.0.1".to_owned(),
        nodes[0].port,
    )]))
}

async fn cluster(shared: bool) -> Vec<RedisProcess> {
    let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
    let nodes: Vec<_> = (0..3)
        .map(|_| {
            // The port of its bus is to be free, too: not 10000 above.
            let bus = free_port().to_string();
            RedisProcess::start(
                shared,
                &[&arguments[..], &["--cluster-port", &bus]].concat(),
            )
        })
        .collect();
    for node in &nodes {
        node.answers().await;
    }
    let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
    let made = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(addresses)
        .args(["--cluster-yes"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    for node in &nodes {
        let end = Instant::now() + PATIENCE;
        loop {
            let info: String = node.command(&[b"CLUSTER", b"INFO"]).await;
            if info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3") {
                break;
            }
            assert!(Instant::now() < end, "{info}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    nodes
}

/// A sentinel that watches `server` under the name `doorward`, alone.
pub async fn sentinel(server: &RedisProcess) -> RedisProcess {
    let mut sentinel = RedisProcess {
        folder: TempDir::new().unwrap().keep(),
        port: free_port(),
        arguments: vec!["--sentinel".to_owned()],
        shared: false,
        guard: None,
    };
    let text = format!(
        "bind 127.0.0.1\nsentinel monitor doorward 127.0.0.1 {} 1\n\
         sentinel down-after-milliseconds doorward 300\nsentinel failover-timeout doorward 2000\n",
        server.port
    );
    std::fs::write(sentinel.folder.join("sentinel.conf"), text).unwrap();
    sentinel.run();
    sentinel.answers().await;
    sentinel
}

pub fn settings(servers: RedisServers) -> RedisSettings {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    RedisSettings {
        servers,
        user: None,
        password: None,
        tls: None,
        database: 0,
        prefix: format!("test{number}:"),
        timeout: Duration::from_secs(20),
    }
}

/// A certificate for `localhost`, and the authority that signed it: `ca.pem`, `server.pem`, `server.key`.
pub fn redis_certificates(folder: &Path) {
    use doorward::authority::{Authority, CertificateFiles};
    let now = doorward::clock::Clock::system().now();
    let authority = Authority::open_or_create(folder, now).unwrap();
    let files = CertificateFiles {
        cert: folder.join("server.pem"),
        key: folder.join("server.key"),
    };
    let hosts = ["localhost".to_owned()];
    authority.issue_files(&files, &hosts, now).unwrap();
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
