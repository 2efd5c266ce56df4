//! The real doorward, configured as a newcomer would: files in a folder, a user, a local authority.

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::app::Process;
use crate::client::Connectors;

pub const USER: &str = "alice";
pub const PASSWORD: &str = "correct horse battery";

pub struct Proxy {
    pub addr: SocketAddr,
    pub connectors: Connectors,
    process: Process,
    _folder: TempDir,
}

impl Proxy {
    pub async fn start(app: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(&file, configuration(app)).unwrap();
        add_user(&file);
        let mut command = doorward(&["run"], &file);
        let mut process = Process(command.stderr(Stdio::piped()).spawn().unwrap());
        let lines = BufReader::new(process.0.stderr.take().unwrap()).lines();
        let (told, addr) = oneshot::channel();
        std::thread::spawn(|| read_address(lines, told));
        let addr = tokio::time::timeout(Duration::from_secs(30), addr).await;
        Self {
            addr: addr.expect("doorward did not start in time").unwrap(),
            connectors: Connectors::trusting(&folder.path().join("certs/ca.pem")),
            process,
            _folder: folder,
        }
    }

    /// Processor time of all its threads since it began (proc(5), `schedstat`: the first number, in nanoseconds).
    pub fn processor_time(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.0.id())).unwrap();
        let of = |thread: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse::<u64>().ok()
        };
        let nanos: u64 = threads.filter_map(Result::ok).filter_map(of).sum();
        Duration::from_nanos(nanos)
    }
}

fn doorward(arguments: &[&str], file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command.args(arguments).arg("--config").arg(file);
    command
}

fn add_user(file: &Path) {
    let mut command = doorward(
        &["user", "add", USER, "--groups", "staff", "--password-stdin"],
        file,
    );
    let mut adding = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(adding.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    assert!(
        adding.wait().unwrap().success(),
        "the user could not be added"
    );
}

/// Of its first message; the rest is read away, so that it never waits for us.
fn read_address(lines: Lines<BufReader<ChildStderr>>, told: oneshot::Sender<SocketAddr>) {
    let mut lines = lines.map_while(Result::ok);
    let serving = lines.find_map(|line| {
        let (_, addr) = line.split_once("serving https")?.1.split_once("addr=")?;
        addr.split_whitespace().next()?.parse().ok()
    });
    told.send(serving.expect("doorward ended before it served"))
        .unwrap();
    lines.for_each(drop);
}

/// All logins of a storm are one user's from one address: the throttle would stop them before they cost anything.
fn configuration(app: SocketAddr) -> String {
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
[tls]
self_signed = true
[store]
path = "sessions.db"
[[provider]]
id = "local"
type = "local"
users = "users.toml"
max_attempts = 10000
[[route]]
host = "localhost"
access = "user"
upstream = "http://{app}"
[log]
audit = "off"
"#
    )
}
