//! What each store does with many sessions: `cargo bench --bench sessions [-- --backend redis --sessions 1000000]`.
//!
//! The servers are real ones, each started for this on loopback, and keep what they have answered as a careful
//! administrator would have them do. They share the machine's cores with the bench.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench that fails is to say so at once, and prints what it found"
)]
#![cfg_attr(
    not(any(feature = "postgres", feature = "redis")),
    expect(clippy::unused_async, reason = "servers are asked how much they hold")
)]

mod fixtures;
#[cfg(any(feature = "postgres", feature = "redis"))]
#[path = "../tests/it/support/frozen.rs"]
#[expect(unreachable_pub, reason = "it is written for the tests")]
mod frozen;
mod options;
#[cfg(feature = "postgres")]
#[path = "../tests/it/support/postgres.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "it is written for the tests, which use the rest"
)]
mod postgres;
#[cfg(feature = "redis")]
#[path = "../tests/it/support/redis.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    clippy::indexing_slicing,
    reason = "it is written for the tests, which use the rest"
)]
mod redis;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use doorward::clock::Timestamp;
use doorward::secret::random;
use doorward::session::store::{Embedded, Memory, SessionStore};
use doorward::session::{
    CookieName, Epoch, Found, Presence, SessionRow, Sessions, Settings, Sid, SubjectTag, TokenHash,
    TokenRow,
};
use hdrhistogram::Histogram;
use http::HeaderMap;
use http::header::COOKIE;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::Instant;

#[cfg(any(feature = "postgres", feature = "redis"))]
use frozen::Frozen;
use options::{Defaults, Options};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Store = Arc<dyn SessionStore>;

const BACKENDS: [&str; 4] = ["memory", "embedded", "redis", "postgres"];

const BENCH: Defaults<'_> = Defaults {
    backends: &BACKENDS,
    count: 100_000,
};
const TEST: Defaults<'_> = Defaults {
    backends: &["memory", "embedded"],
    count: 1_000,
};

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// Logins that are under way at once.
const WRITERS: u64 = 64;
/// Sessions of one user.
const PER_SUBJECT: u64 = 10;
/// Sizes of what is sealed, about those of a user with a name, an address, two groups and a browser.
const LISTING: usize = 200;
const PRIVATE: usize = 200;
const SESSION_KEY: usize = 60;

const LOADS: u64 = 10_000;
const LISTS: u64 = 1_000;
const PAGE: usize = 100;
const SWEPT_AT_ONCE: usize = 10_000;

const MOST_IN_USE: u64 = 100_000;
const PRESENCE: Presence = Presence {
    idle_timeout: None,
    activity: true,
};

/// A store, and what holds its data.
struct Opened {
    store: Store,
    place: Place,
}

enum Place {
    Memory,
    Folder(TempDir),
    #[cfg(feature = "postgres")]
    Postgres {
        database: postgres::Database,
        _server: postgres::PostgresProcess,
    },
    #[cfg(feature = "redis")]
    Redis(redis::RedisProcess),
}

#[tokio::main]
async fn main() {
    let options = Options::of("--sessions", &BENCH, &TEST);
    let sessions = u64::from(options.count);
    println!(
        "{sessions} sessions in each, {PER_SUBJECT} per user; {WRITERS} creations at once, everything else one after the other"
    );
    println!(
        "{:<9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10} {:>9}",
        "", "creates/s", "bytes per", "load p50", "load p99", "page of", "sessions", "swept/s"
    );
    println!(
        "{:<9} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10} {:>9}",
        "", "", "session", "us", "us", "100, us", "of a user", ""
    );
    for backend in &options.backends {
        let opened = open(backend).await;
        measure(backend, &opened, sessions).await;
    }
    in_use(sessions.min(MOST_IN_USE)).await;
}

/// What a session in use takes in the memory of this process, whichever store it comes from. This one is a file.
async fn in_use(sessions: u64) {
    let folder = TempDir::new().unwrap();
    let store = Embedded::open(&folder.path().join("sessions.db")).unwrap();
    let settings = Settings {
        cache_size: 1 << 40,
        ..Settings::default()
    };
    let name = settings.cookie.clone();
    let (all, _touches) = fixtures::sessions(Arc::new(store), settings, Handle::current());
    // So that what the file's own cache takes is there before.
    begin(&all, &name, 0..sessions / 4).await;
    let before = resident();
    begin(&all, &name, sessions / 4..sessions).await;
    let each = resident().saturating_sub(before) / (sessions - sessions / 4);
    println!("\n{sessions} sessions in use take {each} bytes of memory each");
}

/// Each logs in, and is asked for once.
async fn begin(sessions: &Arc<Sessions>, name: &CookieName, numbers: Range<u64>) {
    let next = Arc::new(AtomicU64::new(numbers.start));
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (sessions, next, name) = (sessions.clone(), next.clone(), name.clone());
        let end = numbers.end;
        writers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    break;
                }
                let issued = sessions.issue(fixtures::login(number)).await.unwrap();
                let pair = issued.cookie.to_str().unwrap().split(';').next().unwrap();
                let headers = HeaderMap::from_iter([(COOKIE, pair.parse().unwrap())]);
                let Found::One(token) = name.find(&headers) else {
                    unreachable!("there is one cookie of this name");
                };
                sessions.authenticate(token, PRESENCE).await.unwrap();
            }
        });
    }
    writers.join_all().await;
}

async fn open(backend: &str) -> Opened {
    let (store, place): (Store, _) = match backend {
        "memory" => (Arc::new(Memory::new()), Place::Memory),
        "embedded" => {
            let folder = TempDir::new().unwrap();
            let store = Embedded::open(&folder.path().join("sessions.db")).unwrap();
            (Arc::new(store), Place::Folder(folder))
        }
        #[cfg(feature = "redis")]
        "redis" => {
            let durable = ["--appendonly", "yes", "--appendfsync", "always"];
            let server = redis::RedisProcess::own(&durable).await;
            let store = doorward::session::store::Redis::open(&server.settings());
            (Arc::new(store), Place::Redis(server))
        }
        #[cfg(feature = "postgres")]
        "postgres" => {
            let settings = [
                "fsync=on",
                "full_page_writes=on",
                "autovacuum=on",
                "shared_buffers=256MB",
                "max_wal_size=4GB",
            ];
            let server = postgres::PostgresProcess::own(&settings);
            let database = server.database().await;
            let store = doorward::session::store::Postgres::open(&database.settings());
            let place = Place::Postgres {
                database,
                _server: server,
            };
            (Arc::new(store), place)
        }
        other => panic!("no backend {other:?} in this build: one of {BACKENDS:?}"),
    };
    store.probe().await.unwrap();
    Opened { store, place }
}

async fn measure(backend: &str, opened: &Opened, sessions: u64) {
    let store = &opened.store;
    let before = opened.place.bytes().await;
    let begun = Instant::now();
    fill(store, sessions).await;
    let created = rate(sessions, begun.elapsed());
    let bytes = opened.place.bytes().await.saturating_sub(before) / sessions;

    let loads = times(LOADS, async |step| {
        let number = scattered(step) % sessions;
        let stored = store.load(hash(number)).await.unwrap();
        assert_eq!(stored.unwrap().session.sid, sid(number));
    });
    let loads = loads.await;
    let pages = times(LISTS, async |step| {
        let after = sid(scattered(step) % sessions);
        let page = store.list(Some(after), PAGE).await.unwrap();
        assert!(page.iter().all(|row| row.sid > after));
    });
    let pages = pages.await;
    let subjects = times(LISTS, async |step| {
        let number = scattered(step) % sessions;
        let rows = store.list_by_subject(subject(number), None, PAGE).await;
        let rows = rows.unwrap();
        assert!(rows.iter().any(|row| row.sid == sid(number)));
    });
    let subjects = subjects.await;

    let begun = Instant::now();
    let mut swept = 0;
    loop {
        let end = START.after(Duration::from_hours(24 * 365));
        match store.sweep(end, SWEPT_AT_ONCE).await.unwrap() {
            0 => break,
            some => swept += u64::try_from(some).unwrap(),
        }
    }
    assert_eq!(swept, sessions, "all of them have ended");
    println!(
        "{backend:<9} {created:>9} {bytes:>9} {:>9} {:>9} {:>10} {:>10} {:>9}",
        loads.value_at_quantile(0.5),
        loads.value_at_quantile(0.99),
        pages.value_at_quantile(0.5),
        subjects.value_at_quantile(0.5),
        rate(sessions, begun.elapsed())
    );
}

async fn fill(store: &Store, sessions: u64) {
    let next = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (store, next) = (store.clone(), next.clone());
        writers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= sessions {
                    break;
                }
                let (session, token) = rows(number);
                store.create(session, token).await.unwrap();
            }
        });
    }
    writers.join_all().await;
}

/// In microseconds, after some that are not counted.
async fn times(count: u64, work: impl AsyncFn(u64)) -> Histogram<u64> {
    let mut times = Histogram::new(3).unwrap();
    for step in 0..count / 10 {
        work(step).await;
    }
    for step in 0..count {
        let begun = Instant::now();
        work(step).await;
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap();
        times.record(micros).unwrap();
    }
    times
}

fn rows(number: u64) -> (SessionRow, TokenRow) {
    let session = SessionRow {
        sid: sid(number),
        subject: Some(subject(number)),
        epoch: Epoch::default(),
        created: START,
        last_seen: START,
        idle_millis: 1_800_000,
        expires: START.after(Duration::from_hours(12)),
        version: 1,
        listing: random::<LISTING>().to_vec(),
        private: random::<PRIVATE>().to_vec(),
    };
    let token = TokenRow {
        hash: hash(number),
        sid: session.sid,
        issued: START,
        session_key: random::<SESSION_KEY>().to_vec(),
        predecessor: None,
        successor: None,
    };
    (session, token)
}

/// In the order of their making, as those of logins are.
fn sid(number: u64) -> Sid {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[8..].copy_from_slice(&digested(b"sid", number)[..8]);
    Sid::from_bytes(bytes)
}

fn hash(number: u64) -> TokenHash {
    TokenHash::from_bytes(digested(b"token", number))
}

fn subject(number: u64) -> SubjectTag {
    SubjectTag(digested(b"subject", number / PER_SUBJECT))
}

/// Nothing has to be remembered of a million sessions to find one of them again.
fn digested(kind: &[u8], number: u64) -> [u8; 32] {
    let bytes = [kind, &number.to_be_bytes()].concat();
    digest(&SHA256, &bytes).as_ref().try_into().unwrap()
}

/// Spreads steps over all sessions.
fn scattered(step: u64) -> u64 {
    u64::from_be_bytes(digested(b"step", step)[..8].try_into().unwrap())
}

fn rate(count: u64, length: Duration) -> u128 {
    u128::from(count) * 1000 / length.as_millis().max(1)
}

impl Place {
    /// What the sessions take where they are kept: memory of this process or of the server, or files.
    async fn bytes(&self) -> u64 {
        match self {
            Self::Memory => resident(),
            Self::Folder(folder) => {
                let file = folder.path().join("sessions.db");
                std::fs::metadata(file).unwrap().len()
            }
            #[cfg(feature = "redis")]
            Self::Redis(server) => {
                let info: String = server.command(&[b"INFO", b"memory"]).await;
                field(&info.replace(':', ": "), "used_memory:")
            }
            #[cfg(feature = "postgres")]
            Self::Postgres { database, .. } => {
                let mut admin = database.admin().await;
                let size: i64 = sqlx::query_scalar("SELECT pg_database_size(current_database())")
                    .fetch_one(&mut admin)
                    .await
                    .unwrap();
                u64::try_from(size).unwrap()
            }
        }
    }
}

/// What this process has in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    field(&status, "VmRSS:") * 1024
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.unwrap().split_whitespace().next();
    number.unwrap().parse().unwrap()
}
