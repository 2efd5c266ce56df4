//! A session file that was cut or changed, a disk that is full or takes nothing, a secret that is missing: refused or
//! read rightly, never misread (R6, R7). `DOORWARD_TEST_DAMAGES=5000` damages that many places.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use doorward::clock::Timestamp;
use doorward::secret::random;
use doorward::session::store::{Embedded, SessionStore, StoreError};
use doorward::session::{Epoch, SessionRow, Sid, SubjectTag, TokenHash, TokenRow};
use tempfile::TempDir;

use crate::support::{PASSWORD, Process, Reply, proxy, upstream};

const RUN: &[&str] = &["run", "--config", "doorward.toml"];
const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

#[tokio::test]
async fn a_file_that_was_cut_anywhere_is_refused_or_read_rightly() {
    let history = History::new().await;
    let length = history.whole.len();
    for number in 0..damages() {
        // Page by page, and a little beside.
        let at = length * number / damages() + usize::from(number % 2 == 1) * 7;
        history.judge(&history.whole[..at.min(length)], at).await;
    }
}

#[tokio::test]
async fn a_file_with_a_changed_byte_anywhere_is_refused_or_read_rightly() {
    let history = History::new().await;
    let used: Vec<usize> = (0..history.whole.len())
        .filter(|at| history.whole[*at] != 0)
        .collect();
    // All of the head, where it says which state is the latest, and a spread over the rest.
    let head = used.iter().filter(|at| **at < 320);
    let spread = used.iter().step_by(used.len().div_ceil(damages()));
    for at in head.chain(spread) {
        let mut changed = history.whole.clone();
        changed[*at] ^= 1 << (at % 8);
        history.judge(&changed, *at).await;
    }
}

fn damages() -> usize {
    let wanted = std::env::var("DOORWARD_TEST_DAMAGES");
    wanted.map_or(150, |text| text.parse().unwrap())
}

/// A file, and what it has to say.
struct History {
    folder: TempDir,
    whole: Vec<u8>,
    lives: BTreeMap<TokenHash, SessionRow>,
    ended: Vec<(Sid, TokenHash)>,
}

impl History {
    /// Sessions that began, changed and ended, over several lives of the program.
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("sessions.db");
        let (mut lives, mut ended) = (BTreeMap::new(), Vec::new());
        for _ in 0..3 {
            let store = Embedded::open(&path).unwrap();
            for number in 0..20 {
                let (mut session, token) = fresh();
                store.create(session.clone(), token.clone()).await.unwrap();
                if number % 2 == 0 {
                    assert!(store.remove(session.sid).await.unwrap());
                    ended.push((session.sid, token.hash));
                    continue;
                }
                session.private = random::<200>().to_vec();
                store.update(session.clone()).await.unwrap();
                session.version += 1;
                lives.insert(token.hash, session);
            }
        }
        let whole = fs::read(&path).unwrap();
        Self {
            folder,
            whole,
            lives,
            ended,
        }
    }

    /// Whatever can be read of `bytes` is true.
    async fn judge(&self, bytes: &[u8], at: usize) {
        let path = self.folder.path().join("damaged.db");
        fs::write(&path, bytes).unwrap();
        let store = match Embedded::open(&path) {
            Ok(store) => store,
            Err(StoreError::Damaged(why) | StoreError::Unavailable(why)) => {
                return assert!(why.contains("damaged.db"), "byte {at}: {why}");
            }
            Err(error) => panic!("byte {at}: {error}"),
        };
        for (hash, session) in &self.lives {
            if let Ok(Some(stored)) = store.load(*hash).await {
                assert_eq!(stored.session, *session, "byte {at}");
            }
        }
        for (sid, hash) in &self.ended {
            let loaded = store.load(*hash).await;
            assert!(!matches!(loaded, Ok(Some(_))), "byte {at}: {sid} is back");
        }
        for row in store.list(None, 1000).await.unwrap_or_default() {
            assert!(self.lives.values().any(|life| *life == row), "byte {at}");
        }
    }
}

fn fresh() -> (SessionRow, TokenRow) {
    let sid = Sid::generate(START);
    let session = SessionRow {
        sid,
        subject: Some(SubjectTag([1; 32])),
        epoch: Epoch::default(),
        created: START,
        last_seen: START,
        idle_millis: 60_000,
        expires: START.after(Duration::from_hours(1)),
        version: 0,
        listing: b"listing".to_vec(),
        private: random::<200>().to_vec(),
    };
    let token = TokenRow {
        hash: TokenHash::from_bytes(random()),
        sid,
        issued: START,
        session_key: random::<60>().to_vec(),
        predecessor: None,
        successor: None,
    };
    (session, token)
}

/// A small disk of its own for a program, in a namespace of its own; nothing outside sees it.
struct Disk {
    folder: PathBuf,
    process: Process,
}

impl Disk {
    /// `None` where this system does not let its users mount.
    fn run(folder: &Path) -> Option<Self> {
        let disk = folder.join("data");
        fs::create_dir_all(&disk).unwrap();
        let mut tried = Command::new("unshare");
        tried
            .args(["-rm", "mount", "-t", "tmpfs", "none"])
            .arg(&disk);
        if !tried.status().is_ok_and(|status| status.success()) {
            return None;
        }
        Some(Self {
            process: Process::start_on_disk(folder, &disk, RUN),
            folder: disk,
        })
    }

    fn inside(&self, command: &[&str]) -> bool {
        let id = self.process.id().to_string();
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["-t", &id, "-U", "-m", "--preserve-credentials"]);
        nsenter
            .args(command)
            .current_dir("/")
            .status()
            .unwrap()
            .success()
    }
}

#[tokio::test]
async fn a_full_disk_lets_nobody_in_and_logs_nobody_out_until_there_is_room() {
    let app = upstream(|_| Reply::ok("hello")).await;
    let folder = proxy().app(&app.url()).embedded().prepare();
    let Some(mut disk) = Disk::run(folder.path()) else {
        return eprintln!("no mounting here: not tried");
    };
    let mut known = disk.process.browser().await;
    known.log_in("alice").await;
    assert_eq!(known.fetch("/").await.status, 200);
    let filler = disk.folder.join("filler").display().to_string();
    // It fails at the end of the disk, as it is to.
    let _full = disk.inside(&[
        "dd",
        "if=/dev/zero",
        &format!("of={filler}"),
        "bs=4k",
        "status=none",
    ]);
    let mut statuses = Vec::new();
    while statuses.last() != Some(&503) {
        // What is left of the file itself still takes some.
        assert!(statuses.len() < 300, "{statuses:?}");
        statuses.push(disk.log_in().await);
    }
    assert_eq!(known.fetch("/").await.status, 200);
    assert!(disk.inside(&["rm", &filler]));
    disk.recovers(&mut known).await;
}

#[tokio::test]
async fn a_disk_that_becomes_read_only_lets_nobody_in_and_logs_nobody_out() {
    let app = upstream(|_| Reply::ok("hello")).await;
    let folder = proxy().app(&app.url()).embedded().prepare();
    let Some(mut disk) = Disk::run(folder.path()) else {
        return eprintln!("no mounting here: not tried");
    };
    let mut known = disk.process.browser().await;
    known.log_in("alice").await;
    assert_eq!(known.fetch("/").await.status, 200);
    // As long as it is open for writing the disk cannot be turned: the file is replaced by one that nobody writes.
    let file = disk.folder.join("sessions.db").display().to_string();
    assert!(disk.inside(&["mount", "--bind", &file, &file]));
    assert!(disk.inside(&["mount", "-o", "remount,bind,ro", &file]));
    disk.process.limit_files("4096");
    assert_eq!(disk.log_in().await, 503);
    assert_eq!(known.fetch("/").await.status, 200);
    disk.process.limit_files("unlimited");
    assert_eq!(disk.log_in().await, 503, "it cannot be opened for writing");
    assert_eq!(known.fetch("/").await.status, 200);
    assert!(disk.inside(&["umount", &file]));
    disk.recovers(&mut known).await;
}

impl Disk {
    async fn log_in(&mut self) -> u16 {
        let mut browser = self.process.browser().await;
        let answer = browser.log_in_at("/", "bob", PASSWORD).await;
        answer.status.as_u16()
    }

    async fn recovers(&mut self, known: &mut crate::support::Browser) {
        let browser = self.process.browser().await;
        let again = async || {
            let mut browser = browser.clone();
            browser.log_in_at("/", "bob", PASSWORD).await.status == 303
        };
        self.process.wait_for_async(again).await;
        assert_eq!(known.fetch("/").await.status, 200);
    }
}

#[tokio::test]
async fn a_missing_secret_asks_for_a_login_and_takes_no_cookie_away() {
    let app = upstream(|_| Reply::ok("hello")).await;
    let site = || proxy().app(&app.url()).embedded();
    let first = site().start();
    let mut browser = first.browser();
    browser.log_in("alice").await;
    let cookie = browser.token().to_owned();
    let (folder, clock) = first.stop().await;
    let key = folder.path().join("session.key");
    let kept = fs::read(&key).unwrap();
    fs::write(&key, "4d".repeat(32)).unwrap();
    let without = site().after(folder, clock).start();
    browser.addr = without.addr;
    let page = browser.open("/").await;
    assert!(page.status.is_redirection(), "{}", page.status);
    assert!(page.header("location").starts_with("/.doorward/login"));
    assert_eq!(browser.fetch("/").await.status, 401);
    assert_eq!(browser.token(), cookie);
    assert!(app.requests().is_empty(), "nobody got in");
    let (folder, clock) = without.stop().await;
    fs::write(&key, kept).unwrap();
    let again = site().after(folder, clock).start();
    browser.addr = again.addr;
    assert_eq!(browser.fetch("/").await.status, 200);
}
