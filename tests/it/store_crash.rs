//! The embedded store and the world's end: `kill -9` in the middle of work, and a file that can grow no more.
//! What was acknowledged is there, what was removed stays away.
//!
//! A child process (this test binary again) works on a file and prints each change before it asks for it and once it is
//! acknowledged. The parent kills it after a random number of acknowledgements and compares the file with what it read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use doorward::clock::Timestamp;
use doorward::secret::random;
use doorward::session::store::{Creation, Embedded, Rotation, SessionStore, StoreError, Update};
use doorward::session::{Epoch, SessionRow, Sid, SubjectTag, Successor, TokenHash, TokenRow};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Names the file to the child. Without it the child's test has nothing to do.
const FILE: &str = "DOORWARD_TEST_CRASH_FILE";
const ROUNDS: usize = 10;
/// Sessions that are worked on at the same time.
const WORKERS: usize = 12;
const SUBJECT: SubjectTag = SubjectTag([1; 32]);
const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9_and_what_was_removed_stays_away() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.db");
    let mut known = Known::default();
    for round in 0..ROUNDS {
        let [low, high] = random::<2>();
        let enough = 20 + usize::from(u16::from_le_bytes([low, high])) % 300;
        let acknowledged = work_and_kill(&path, enough, &mut known);
        assert!(
            acknowledged >= enough,
            "round {round}: the child ended by itself"
        );
        let store = Embedded::open(&path).unwrap();
        known.compare(&store, round).await;
    }
    assert!(!known.removed.is_empty() && !known.sessions.is_empty());
}

/// The child's part of the test above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_child() {
    let Ok(path) = std::env::var(FILE) else {
        return;
    };
    let store = Arc::new(Embedded::open(Path::new(&path)).unwrap());
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let store = Arc::clone(&store);
        workers.spawn(async move {
            loop {
                live(&store).await;
            }
        });
    }
    // None of them ends, unless by a failed assertion: then the parent learns that there is nothing more to read.
    let Some(Err(failed)) = workers.join_next().await else {
        return;
    };
    std::panic::resume_unwind(failed.into_panic());
}

/// A limit on the size of files is a disk that is full, without one. A shell sets it and ignores the signal, so that
/// the store meets an error; the child lifts it again half way.
#[test]
fn a_file_that_cannot_grow_is_an_error_and_the_store_recovers_when_it_can() {
    let folder = TempDir::new().unwrap();
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -S -f 8000; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["store_crash::full_disk_child", "--exact", "--nocapture"])
        .env(FILE, folder.path().join("sessions.db"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    assert!(said.contains("recovered"), "{said}");
}

/// The child's part of the test above.
#[tokio::test]
async fn full_disk_child() {
    let Ok(path) = std::env::var(FILE) else {
        return;
    };
    let store = Embedded::open(Path::new(&path)).unwrap();
    let mut kept = Vec::new();
    let error = loop {
        let (mut session, token) = fresh();
        session.private = vec![0; 50_000];
        match store.create(session, token.clone()).await {
            Ok(_) => kept.push(token.hash),
            Err(error) => break error,
        }
        assert!(kept.len() < 1000, "the file grew without end");
    };
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("sessions.db"), "{error}");
    // Whoever is logged in stays so.
    for hash in &kept {
        assert!(store.load(*hash).await.unwrap().is_some());
    }
    let lifted = Command::new("prlimit")
        .args([
            "--pid",
            &std::process::id().to_string(),
            "--fsize=unlimited:unlimited",
        ])
        .status()
        .unwrap();
    assert!(lifted.success());
    assert_eq!(store.probe().await, Ok(()));
    let (session, token) = fresh();
    let created = store.create(session, token.clone()).await;
    assert_eq!(created, Ok(Creation::Done));
    kept.push(token.hash);
    drop(store);
    let store = Embedded::open(Path::new(&path)).unwrap();
    for hash in &kept {
        assert!(store.load(*hash).await.unwrap().is_some());
    }
    say("recovered");
}

/// Starts the child, reads until `enough` changes were acknowledged, kills it and reads what it said before it died.
fn work_and_kill(path: &Path, enough: usize, known: &mut Known) -> usize {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "store_crash::crash_child",
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = 0;
    for line in lines {
        // The last line may be torn in the middle of a character only if it were not ASCII.
        if known.read(&line.unwrap()) {
            acknowledged += 1;
            if acknowledged == 1 {
                refuses_a_second_process(path);
            }
            if acknowledged == enough {
                kill(&mut child);
            }
        }
    }
    child.wait().unwrap();
    acknowledged
}

fn kill(child: &mut Child) {
    // On Unix this is SIGKILL: nothing of the child runs after it.
    child.kill().unwrap();
}

fn refuses_a_second_process(path: &Path) {
    let error = Embedded::open(path).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)));
    assert!(error.to_string().contains("another process"), "{error}");
}

/// One session's life: born, updated, given new tokens, and in two of three cases ended.
async fn live(store: &Embedded) {
    let (mut session, mut token) = fresh();
    let sid = session.sid;
    say(&format!("want create {sid} {}", hex(token.hash)));
    store.create(session.clone(), token.clone()).await.unwrap();
    say(&format!("done create {sid} {}", hex(token.hash)));
    let [steps, end] = random::<2>();
    for _ in 0..steps % 6 {
        let next = self::token(sid, Some(token.hash));
        let successor = Successor {
            hash: next.hash,
            sealed: vec![1; 60],
            seen: None,
        };
        say(&format!("want rotate {sid} {}", hex(next.hash)));
        let outcome = store
            .rotate(token.hash, next.clone(), successor)
            .await
            .unwrap();
        assert_eq!(outcome, Rotation::Done);
        say(&format!("done rotate {sid} {}", hex(next.hash)));
        token = next;

        session.private = (session.version + 1).to_le_bytes().to_vec();
        say(&format!("want update {sid} {}", session.version + 1));
        let outcome = store.update(session.clone()).await.unwrap();
        assert_eq!(outcome, Update::Done(session.version + 1));
        say(&format!("done update {sid} {}", session.version + 1));
        session.version += 1;
        store
            .touch(vec![(sid, START.after(Duration::from_secs(9)))])
            .await
            .unwrap();
    }
    if end % 3 != 0 {
        say(&format!("want remove {sid} -"));
        assert!(store.remove(sid).await.unwrap());
        say(&format!("done remove {sid} -"));
    }
}

fn fresh() -> (SessionRow, TokenRow) {
    let session = SessionRow {
        epoch: Epoch::default(),
        sid: Sid::generate(START),
        subject: Some(SUBJECT),
        created: START,
        last_seen: START,
        idle_millis: 60_000,
        expires: START.after(Duration::from_hours(1)),
        version: 0,
        listing: Vec::new(),
        private: 0_u64.to_le_bytes().to_vec(),
    };
    let token = token(session.sid, None);
    (session, token)
}

fn token(sid: Sid, predecessor: Option<TokenHash>) -> TokenRow {
    TokenRow {
        hash: TokenHash::from_bytes(random()),
        sid,
        issued: START,
        session_key: vec![0; 60],
        predecessor,
        successor: None,
    }
}

/// One line in one write, so that lines of several threads do not mix and none waits in a buffer.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn hex(hash: TokenHash) -> String {
    let bytes = hash.as_bytes().chunks_exact(16);
    let halves = bytes.map(|half| u128::from_be_bytes(half.try_into().unwrap()));
    halves.fold(String::new(), |text, half| format!("{text}{half:032x}"))
}

fn unhex(text: &str) -> TokenHash {
    let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
    TokenHash::from_bytes(std::array::from_fn(byte))
}

/// What the parent has read, over all rounds.
#[derive(Default)]
struct Known {
    sessions: BTreeMap<Sid, Life>,
    /// Acknowledged removals, with every token that the session ever asked for.
    removed: BTreeMap<Sid, BTreeSet<TokenHash>>,
}

#[derive(Default)]
struct Life {
    /// Acknowledged.
    tokens: BTreeSet<TokenHash>,
    version: u64,
    /// Asked for and perhaps done.
    wanted: BTreeSet<TokenHash>,
    created: bool,
    ending: bool,
}

impl Known {
    /// Takes in one line; `true` where it acknowledges something. Lines of the test harness say nothing.
    fn read(&mut self, text: &str) -> bool {
        let words: Vec<&str> = text.split(' ').collect();
        let [stage @ ("want" | "done"), action, sid, detail] = words[..] else {
            return false;
        };
        let sid = Sid::parse(sid).unwrap();
        let life = self.sessions.entry(sid).or_default();
        match (stage, action) {
            ("want", "create" | "rotate") => {
                life.wanted.insert(unhex(detail));
            }
            ("want", "remove") => life.ending = true,
            ("done", "create" | "rotate") => {
                life.created = true;
                life.tokens.insert(unhex(detail));
            }
            ("done", "update") => life.version = detail.parse().unwrap(),
            ("done", "remove") => {
                let life = self.sessions.remove(&sid).unwrap();
                self.removed.insert(sid, life.wanted);
            }
            _ => {}
        }
        stage == "done"
    }

    async fn compare(&mut self, store: &Embedded, round: usize) {
        let listed = names(store.list(None, 100_000).await.unwrap());
        let of_subject = names(store.list_by_subject(SUBJECT, None, 100_000).await.unwrap());
        assert_eq!(
            listed, of_subject,
            "round {round}: the index differs from the sessions"
        );
        for (sid, hashes) in &self.removed {
            assert!(!listed.contains(sid), "round {round}: {sid} is back");
            for hash in hashes {
                assert_eq!(
                    store.load(*hash).await,
                    Ok(None),
                    "round {round}: a token of {sid} is back"
                );
            }
        }
        let mut settled = BTreeMap::new();
        for (sid, life) in std::mem::take(&mut self.sessions) {
            if listed.contains(&sid) {
                settled.insert(sid, life.compare(sid, store, round).await);
            } else {
                assert!(life.ending || !life.created, "round {round}: {sid} is lost");
                self.removed.insert(sid, life.wanted);
            }
        }
        assert!(
            listed.iter().eq(settled.keys()),
            "round {round}: sessions that nobody asked for"
        );
        self.sessions = settled;
    }
}

impl Life {
    /// Compares and takes over what the killed child did without hearing of it.
    async fn compare(mut self, sid: Sid, store: &Embedded, round: usize) -> Self {
        for hash in &self.wanted {
            let Some(stored) = store.load(*hash).await.unwrap() else {
                assert!(
                    !self.tokens.contains(hash),
                    "round {round}: a token of {sid} is lost"
                );
                continue;
            };
            self.tokens.insert(*hash);
            let session = stored.session;
            assert_eq!(session.sid, sid);
            assert_eq!(
                session.private,
                session.version.to_le_bytes(),
                "round {round}: {sid} is torn"
            );
            let possible = self.version..=self.version + 1;
            assert!(
                possible.contains(&session.version),
                "round {round}: {sid} has {}",
                session.version
            );
        }
        assert!(!self.tokens.is_empty(), "round {round}: {sid} has no token");
        let stored = store
            .load(*self.tokens.iter().next().unwrap())
            .await
            .unwrap();
        Self {
            version: stored.unwrap().session.version,
            created: true,
            ending: false,
            ..self
        }
    }
}

fn names(rows: Vec<SessionRow>) -> BTreeSet<Sid> {
    rows.into_iter().map(|row| row.sid).collect()
}
