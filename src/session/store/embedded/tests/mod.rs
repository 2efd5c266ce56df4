//! What the embedded store promises beyond the contract: it keeps, it refuses foreign files, it takes changes as
//! they come.

mod damage;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use redb::{ReadableDatabase, ReadableTable};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::tables::{
    Definition, EPOCHS, EPOCHS_UNTIL, EXPIRY, META, SESSIONS, SUBJECTS, TOKENS, TOKENS_OF,
};
use super::*;
use crate::secret::random;

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const SUBJECT: SubjectTag = SubjectTag([1; 32]);

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("data").join("sessions.db")
    }

    fn open(&self) -> Embedded {
        Embedded::open(&self.path()).unwrap()
    }

    /// Puts `value` under `key` past the store.
    fn overwrite(&self, definition: Definition, key: &[u8], value: &[u8]) {
        let database = redb::Database::open(self.path()).unwrap();
        let writing = database.begin_write().unwrap();
        writing
            .open_table(definition)
            .unwrap()
            .insert(key, value)
            .unwrap();
        writing.commit().unwrap();
    }

    /// How many entries all tables but `meta` have.
    fn entries(&self) -> usize {
        let database = redb::Database::open(self.path()).unwrap();
        let reading = database.begin_read().unwrap();
        let tables = [
            SESSIONS,
            TOKENS,
            TOKENS_OF,
            SUBJECTS,
            EXPIRY,
            EPOCHS,
            EPOCHS_UNTIL,
        ];
        let count = |table| reading.open_table(table).unwrap().iter().unwrap().count();
        tables.into_iter().map(count).sum()
    }

    /// Makes a file that redb reads and that is none of ours.
    fn make_foreign(&self) {
        let database = redb::Database::create(self.path()).unwrap();
        let writing = database.begin_write().unwrap();
        let table: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("others");
        writing.open_table(table).unwrap().insert(1, 1).unwrap();
        writing.commit().unwrap();
    }
}

fn session() -> SessionRow {
    SessionRow {
        sid: Sid::generate(START),
        subject: Some(SUBJECT),
        epoch: Epoch::default(),
        created: START,
        last_seen: START,
        idle_millis: 60_000,
        expires: START.after(Duration::from_hours(1)),
        version: 1,
        listing: b"listing".to_vec(),
        private: random::<200>().to_vec(),
    }
}

fn token(sid: Sid, predecessor: Option<TokenHash>) -> TokenRow {
    TokenRow {
        hash: TokenHash::from_bytes(random()),
        sid,
        issued: START,
        session_key: random::<44>().to_vec(),
        predecessor,
        successor: None,
    }
}

fn successor(next: &TokenRow) -> Successor {
    Successor {
        hash: next.hash,
        sealed: random::<60>().to_vec(),
        seen: None,
    }
}

async fn created(store: &Embedded) -> Stored {
    let session = session();
    let token = token(session.sid, None);
    store.create(session.clone(), token.clone()).await.unwrap();
    Stored { token, session }
}

fn later(secs: u64) -> Timestamp {
    START.after(Duration::from_secs(secs))
}

#[tokio::test]
async fn opening_again_finds_everything_as_it_was() {
    let place = Place::new();
    let store = place.open();
    let (kept, gone) = (created(&store).await, created(&store).await);
    let next = token(kept.session.sid, Some(kept.token.hash));
    store
        .rotate(kept.token.hash, next.clone(), successor(&next))
        .await
        .unwrap();
    store.confirm(next.hash, later(5)).await.unwrap();
    store.update(kept.session.clone()).await.unwrap();
    store.remove(gone.session.sid).await.unwrap();
    let before = [
        store.load(kept.token.hash).await,
        store.load(next.hash).await,
    ];
    let listed = store.list(None, 10).await.unwrap();
    drop(store);

    let store = place.open();
    let after = [
        store.load(kept.token.hash).await,
        store.load(next.hash).await,
    ];
    assert_eq!(before, after);
    assert_eq!(
        after[0].as_ref().unwrap().as_ref().unwrap().session.version,
        2
    );
    assert_eq!(store.load(gone.token.hash).await, Ok(None));
    assert_eq!(store.list(None, 10).await, Ok(listed.clone()));
    assert_eq!(store.list_by_subject(SUBJECT, None, 10).await, Ok(listed));
    assert_eq!(store.sweep(Timestamp::MAX, 10).await, Ok(1));
}

#[tokio::test]
async fn an_orderly_end_keeps_the_latest_touch() {
    let place = Place::new();
    let store = place.open();
    let stored = created(&store).await;
    store
        .touch(vec![(stored.session.sid, later(30))])
        .await
        .unwrap();
    drop(store);
    let loaded = place.open().load(stored.token.hash).await.unwrap().unwrap();
    assert_eq!(loaded.session.last_seen, later(30));
}

#[tokio::test]
async fn a_crash_forgets_no_more_than_the_latest_touches() {
    let place = Place::new();
    let store = place.open();
    let stored = created(&store).await;
    for secs in 1..=200 {
        store
            .touch(vec![(stored.session.sid, later(secs))])
            .await
            .unwrap();
    }
    // What the disk holds at this moment is what a crash would leave.
    let left = place.folder.path().join("left.db");
    fs::copy(place.path(), &left).unwrap();
    let after = Embedded::open(&left).unwrap();
    let loaded = after.load(stored.token.hash).await.unwrap().unwrap();
    assert!(
        loaded.session.last_seen >= later(200 - 65),
        "{}",
        loaded.session.last_seen
    );
}

#[tokio::test]
async fn the_file_is_for_its_owner_alone() {
    let place = Place::new();
    drop(place.open());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.path()), 0o600);
    assert_eq!(mode(place.path().parent().unwrap()), 0o700);
    fs::set_permissions(place.path(), Permissions::from_mode(0o644)).unwrap();
    drop(place.open());
    assert_eq!(mode(&place.path()), 0o600);
}

#[tokio::test]
async fn a_file_that_is_open_already_is_refused_until_it_is_free() {
    let place = Place::new();
    let first = place.open();
    let stored = created(&first).await;
    let error = Embedded::open(&place.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("another process has the file open"),
        "{error}"
    );
    assert_eq!(first.load(stored.token.hash).await, Ok(Some(stored)));
    drop(first);
    drop(place.open());
}

#[test]
fn a_file_of_a_newer_program_is_refused_and_left_alone() {
    let place = Place::new();
    drop(place.open());
    place.overwrite(META, b"format", &7_u32.to_be_bytes());
    let error = Embedded::open(&place.path()).unwrap_err();
    assert!(error.to_string().contains("format 7"), "{error}");
    assert!(matches!(error, StoreError::Unavailable(_)));
    place.overwrite(META, b"format", &1_u32.to_be_bytes());
    drop(place.open());
}

#[test]
fn what_is_no_session_file_is_refused_and_left_alone() {
    let place = Place::new();
    fs::create_dir_all(place.path().parent().unwrap()).unwrap();
    for content in [
        &b"garbage"[..],
        &[0; 5000],
        &[0xff; 9000],
        b"redb\x1a\x0a\xa9\x0d\x0a",
    ] {
        fs::write(place.path(), content).unwrap();
        let error = Embedded::open(&place.path()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
        assert_eq!(fs::read(place.path()).unwrap(), content);
    }
    fs::remove_file(place.path()).unwrap();
    place.make_foreign();
    let error = Embedded::open(&place.path()).unwrap_err();
    assert!(error.to_string().contains("not a session file"), "{error}");
}

#[test]
fn a_folder_that_cannot_be_made_is_a_clear_error() {
    let place = Place::new();
    fs::write(place.folder.path().join("data"), b"a file").unwrap();
    let error = Embedded::open(&place.path()).unwrap_err();
    assert!(error.to_string().contains("sessions.db"), "{error}");
}

#[tokio::test]
async fn removal_and_sweep_leave_no_entry_in_any_table() {
    let place = Place::new();
    let store = place.open();
    let (removed, swept) = (created(&store).await, created(&store).await);
    for stored in [&removed, &swept] {
        let next = token(stored.session.sid, Some(stored.token.hash));
        store
            .rotate(stored.token.hash, next.clone(), successor(&next))
            .await
            .unwrap();
        store
            .touch(vec![(stored.session.sid, later(30))])
            .await
            .unwrap();
    }
    assert_eq!(store.sweep(later(60), 10).await, Ok(0));
    assert_eq!(store.remove(removed.session.sid).await, Ok(true));
    assert_eq!(store.sweep(later(90), 10).await, Ok(1));
    drop(store);
    assert_eq!(place.entries(), 0);
}

#[tokio::test]
async fn an_epoch_survives_and_is_forgotten_when_its_time_is_over() {
    let place = Place::new();
    let store = place.open();
    let stored = created(&store).await;
    store.begin_epoch(SUBJECT, START, later(100)).await.unwrap();
    let epoch = store
        .begin_epoch(SUBJECT, later(1), later(200))
        .await
        .unwrap();
    store.remove(stored.session.sid).await.unwrap();
    drop(store);
    let store = place.open();
    for secs in [100, 199] {
        store.sweep(later(secs), 10).await.unwrap();
        assert_eq!(store.epoch(SUBJECT).await, Ok(epoch));
    }
    store.sweep(later(200), 10).await.unwrap();
    assert_eq!(store.epoch(SUBJECT).await, Ok(Epoch::default()));
    drop(store);
    assert_eq!(place.entries(), 0);
}

#[tokio::test]
async fn a_change_that_fails_takes_no_other_of_its_batch_with_it() {
    let place = Place::new();
    let store = place.open();
    let bad = created(&store).await;
    drop(store);
    place.overwrite(SESSIONS, bad.session.sid.as_bytes(), b"garbage");

    let store = Arc::new(place.open());
    let mut changes = JoinSet::new();
    for number in 0..60 {
        let (store, bad) = (Arc::clone(&store), bad.session.clone());
        changes.spawn(async move {
            if number % 3 == 0 {
                assert!(matches!(
                    store.update(bad).await,
                    Err(StoreError::Damaged(_))
                ));
                return None;
            }
            Some(created(&store).await)
        });
    }
    let stored: Vec<Stored> = changes.join_all().await.into_iter().flatten().collect();
    assert_eq!(stored.len(), 40);
    for stored in stored {
        assert_eq!(store.load(stored.token.hash).await, Ok(Some(stored)));
    }
}

#[tokio::test]
async fn changes_beyond_the_queue_are_told_that_the_store_is_busy() {
    let place = Place::new();
    let store = Arc::new(place.open());
    let stored = created(&store).await;
    // The writer is occupied for as long as it looks up these.
    let mut touches: Vec<_> = (0..150_000_u64)
        .map(|secs| (Sid::generate(START), later(secs)))
        .collect();
    touches.push((stored.session.sid, later(1)));
    let mut changes = JoinSet::new();
    let busy = Arc::clone(&store);
    changes.spawn(async move { busy.touch(touches).await.map(|()| false) });
    for _ in 0..5000 {
        let store = Arc::clone(&store);
        changes.spawn(async move { store.remove(Sid::from_bytes([0; 16])).await });
    }
    let outcomes = changes.join_all().await;
    let busy = outcomes
        .iter()
        .filter(|outcome| **outcome == Err(StoreError::Busy))
        .count();
    assert!(busy > 0);
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| **outcome == Ok(false))
            .count(),
        5001 - busy
    );
    assert_eq!(store.probe().await, Ok(()));
}

#[tokio::test]
async fn a_change_is_made_though_nobody_waits_for_its_answer() {
    let place = Place::new();
    let store = place.open();
    let session = session();
    let token = token(session.sid, None);
    {
        let mut creating = store.create(session.clone(), token.clone());
        assert!(futures_util::poll!(&mut creating).is_pending());
    }
    drop(store);
    let loaded = place.open().load(token.hash).await.unwrap();
    assert_eq!(loaded, Some(Stored { token, session }));
}
