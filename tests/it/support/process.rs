//! The program itself as a child process, on free ports, in a folder of its own.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use super::Browser;

/// Longer than the program takes for anything here.
const PATIENCE: Duration = Duration::from_secs(20);

/// A child that is killed at the end, whatever happens.
pub struct Process {
    child: Child,
    /// What it says on standard output and standard error.
    pub stdout: PathBuf,
    pub stderr: PathBuf,
}

/// Runs the program to its end.
pub fn doorward(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = command(folder, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may have ended without reading.
    let _written = stdin.write_all(input.as_bytes()).is_ok();
    drop(stdin);
    child.wait_with_output().unwrap()
}

impl Process {
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::spawn(folder, command(folder, arguments))
    }

    /// One that can be forbidden to write: a disk that is full, without one.
    pub fn start_with_limits(folder: &Path, arguments: &[&str]) -> Self {
        let program = command(folder, arguments);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(folder)
            .env("NO_COLOR", "1");
        Self::spawn(folder, shell)
    }

    /// One that sees a small disk of its own, which is allowed to fail, at `disk`.
    pub fn start_on_disk(folder: &Path, disk: &Path, arguments: &[&str]) -> Self {
        let script = "trap '' XFSZ; mount -t tmpfs -o size=4m none \"$1\"; shift; exec \"$@\"";
        let mut shell = in_namespace(script, disk, &command(folder, arguments));
        shell.current_dir(folder).env("NO_COLOR", "1");
        Self::spawn(folder, shell)
    }

    /// Where names are looked up as this says, in place of `/etc/resolv.conf`.
    pub fn start_with_names(folder: &Path, names: &str, arguments: &[&str]) -> Self {
        let mut shell = with_names(folder, names, &command(folder, arguments));
        shell.current_dir(folder).env("NO_COLOR", "1");
        Self::spawn(folder, shell)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn spawn(folder: &Path, mut command: Command) -> Self {
        let (stdout, stderr) = (folder.join("stdout.txt"), folder.join("stderr.txt"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            stdout,
            stderr,
        }
    }

    /// Where it serves https, as it says itself.
    pub async fn addr(&mut self) -> SocketAddr {
        let line = self.said("serving https addr=").await;
        line.parse().unwrap()
    }

    pub async fn browser(&mut self) -> Browser {
        Browser::new(self.addr().await)
    }

    /// What follows `marker` on its line of standard error, once it is there.
    pub async fn said(&mut self, marker: &str) -> String {
        let file = self.stderr.clone();
        self.wait_for(move || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let (_, rest) = text.split_once(marker)?;
            let (word, _) = rest.split_once('\n')?;
            Some(word.to_owned())
        })
        .await
    }

    /// Waits until `look` finds something; fails where the program ends first.
    pub async fn wait_for<T>(&mut self, look: impl Fn() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended with {status}: {}", self.words());
            }
            assert!(Instant::now() < end, "it took too long: {}", self.words());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The same for what is found out by asking.
    pub async fn wait_for_async(&mut self, look: impl AsyncFn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !look().await {
            assert!(Instant::now() < end, "it took too long: {}", self.words());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// `TERM`, `INT` or `HUP`.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// From now on no file of its grows beyond `limit`: bytes, or `unlimited`.
    pub fn limit_files(&self, limit: &str) {
        let id = self.child.id().to_string();
        let limit = format!("--fsize={limit}:unlimited");
        let set = Command::new("prlimit")
            .args(["--pid", &id, &limit])
            .status();
        assert!(set.unwrap().success());
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub async fn end(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end: {}", self.words());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// All that it has said so far.
    pub fn words(&self) -> String {
        let read = |file: &Path| std::fs::read_to_string(file).unwrap_or_default();
        read(&self.stdout) + &read(&self.stderr)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _killed = self.child.kill().is_ok();
        let _waited = self.child.wait().is_ok();
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command
        .current_dir(folder)
        .args(arguments)
        .env_remove("RUST_LOG")
        .env("NO_COLOR", "1");
    command
}

/// A program that looks names up as this says, in a namespace of its own; nothing outside sees it.
pub fn with_names(folder: &Path, names: &str, program: &Command) -> Command {
    let file = folder.join("resolv.conf");
    std::fs::write(&file, names).unwrap();
    let script = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
    in_namespace(script, &file, program)
}

/// A program that a script starts where it may mount: its first argument is a path, the others are the program.
fn in_namespace(script: &str, path: &Path, program: &Command) -> Command {
    let mut shell = Command::new("unshare");
    shell
        .args(["-rm", "sh", "-c", script, "sh"])
        .arg(path)
        .arg(program.get_program())
        .args(program.get_args());
    shell
}
