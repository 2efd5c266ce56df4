//! The contract of `SessionStore`, sentence by sentence, for every backend. A further backend joins with one line of
//! `contract!`; what is special to a backend is tested beside it.

use std::sync::Arc;
use std::time::Duration;

use doorward::clock::Timestamp;
use doorward::secret::random;
#[cfg(feature = "postgres")]
use doorward::session::store::Postgres;
#[cfg(feature = "redis")]
use doorward::session::store::Redis;
use doorward::session::store::{Creation, Embedded, Memory, Rotation, SessionStore, Update};
use doorward::session::{Epoch, SessionRow, Sid, SubjectTag, Successor, TokenHash, TokenRow};
use tempfile::TempDir;
use tokio::task::JoinSet;

type Store = Arc<dyn SessionStore>;

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const IDLE: Duration = Duration::from_mins(30);
const ABSOLUTE: Duration = Duration::from_hours(12);

fn at(secs: u64) -> Timestamp {
    START.after(Duration::from_secs(secs))
}

fn session(subject: Option<u8>) -> SessionRow {
    SessionRow {
        sid: Sid::generate(START),
        subject: subject.map(|byte| SubjectTag([byte; 32])),
        epoch: Epoch::default(),
        created: START,
        last_seen: START,
        idle_millis: 30 * 60 * 1000,
        expires: START.after(ABSOLUTE),
        version: 1,
        listing: b"listing".to_vec(),
        private: b"private".to_vec(),
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

async fn created(store: &Store, subject: Option<u8>) -> (SessionRow, TokenRow) {
    let session = session(subject);
    let token = token(session.sid, None);
    let created = store.create(session.clone(), token.clone()).await;
    assert_eq!(created, Ok(Creation::Done));
    (session, token)
}

/// Many sessions at once, in the order of their sids.
async fn crowd(store: &Store, count: usize, subject: Option<u8>) -> Vec<(Sid, TokenHash)> {
    let mut creating = JoinSet::new();
    for _ in 0..count {
        let store = Arc::clone(store);
        creating.spawn(async move {
            let (session, token) = created(&store, subject).await;
            (session.sid, token.hash)
        });
    }
    let mut names = creating.join_all().await;
    names.sort_unstable();
    names
}

/// Rotates `old` and returns the token after it.
async fn rotated(store: &Store, old: &TokenRow) -> TokenRow {
    let next = token(old.sid, Some(old.hash));
    let outcome = store.rotate(old.hash, next.clone(), successor(&next)).await;
    assert_eq!(outcome, Ok(Rotation::Done));
    next
}

async fn stored_session(store: &Store, hash: TokenHash) -> SessionRow {
    store
        .load(hash)
        .await
        .unwrap()
        .expect("the session is there")
        .session
}

async fn stored_token(store: &Store, hash: TokenHash) -> TokenRow {
    store
        .load(hash)
        .await
        .unwrap()
        .expect("the token is there")
        .token
}

async fn listed(store: &Store) -> Vec<Sid> {
    let rows = store.list(None, 10_000).await.unwrap();
    rows.into_iter().map(|row| row.sid).collect()
}

async fn listed_of(store: &Store, subject: u8) -> Vec<Sid> {
    let rows = store
        .list_by_subject(SubjectTag([subject; 32]), None, 10_000)
        .await
        .unwrap();
    rows.into_iter().map(|row| row.sid).collect()
}

async fn assert_no_trace(store: &Store, sid: Sid, subject: u8, hashes: &[TokenHash]) {
    for hash in hashes {
        assert_eq!(store.load(*hash).await, Ok(None), "a token of {sid}");
    }
    assert!(!listed(store).await.contains(&sid), "{sid} is listed");
    assert!(
        !listed_of(store, subject).await.contains(&sid),
        "{sid} is listed by subject"
    );
}

macro_rules! contract {
    ($($backend:ident: $open:expr;)+) => {
        $(mod $backend {
            use super::*;
            cases! { $open;
                a_new_session_is_loaded_by_its_token
                an_unknown_token_loads_nothing
                a_session_and_its_first_token_are_kept_both_or_neither
                a_name_that_is_taken_is_refused_and_the_owner_untouched
                an_ended_session_is_loaded_until_it_is_swept
                an_update_replaces_what_it_may_and_nothing_else
                an_update_of_another_version_changes_nothing
                an_update_does_not_create
                an_update_does_not_lose_a_touch
                an_update_moves_activity_forward
                of_many_updates_of_one_version_one_wins
                a_touch_moves_activity_forward_only
                a_touch_passes_over_unknown_sessions_and_creates_none
                a_rotation_makes_the_next_token_good_at_once
                a_chain_of_rotations_keeps_every_token
                a_rotation_of_an_unknown_token_creates_nothing
                a_rotation_does_not_cross_sessions
                of_fifty_rotations_one_wins_and_the_others_learn_who
                a_confirmation_tells_the_predecessor_once
                a_confirmation_reaches_one_link_of_the_chain
                a_confirmation_without_predecessor_changes_nothing
                a_removal_takes_every_trace
                a_removal_leaves_others_alone
                a_removed_session_is_not_revived
                a_removal_wins_every_race
                an_epoch_ends_all_sessions_of_its_subject_and_of_nobody_else
                an_epoch_is_newer_than_the_one_before
                an_epoch_ends_a_login_that_began_before_it
                an_epoch_ends_every_login_that_races_with_it
                what_an_epoch_has_ended_is_not_revived
                an_epoch_is_remembered_for_its_time
                an_end_is_taken_care_of_by_one
                a_list_is_in_order_and_within_its_limit
                paging_through_a_thousand_sessions_misses_none_and_repeats_none
                paging_through_a_subject_misses_none_and_repeats_none
                paging_goes_on_after_a_session_that_is_gone
                a_subject_lists_its_own_sessions_only
                a_sweep_takes_idle_sessions_at_their_end_and_not_before
                a_sweep_takes_active_sessions_at_their_absolute_end
                a_sweep_spares_what_was_touched_and_finds_it_later
                a_sweep_sees_an_end_that_was_moved
                a_sweep_keeps_to_its_limit
                a_sweep_finds_the_ended_among_many_that_live_on
                a_sweep_takes_every_trace
                a_probe_is_answered
            }
        })+
    };
}

macro_rules! cases {
    ($open:expr; $($case:ident)+) => {
        $(#[tokio::test]
        async fn $case() {
            let (store, _folder): (Store, Option<TempDir>) = $open;
            super::$case(store).await;
        })+
    };
}

contract! {
    memory: (Arc::new(Memory::new()), None);
    embedded: {
        let folder = TempDir::new().unwrap();
        let store = Embedded::open(&folder.path().join("sessions.db")).unwrap();
        (Arc::new(store), Some(folder))
    };
}

#[cfg(feature = "postgres")]
contract! {
    postgres: {
        let database = crate::support::database().await;
        (Arc::new(Postgres::open(&database.settings())), None)
    };
}

#[cfg(feature = "redis")]
contract! {
    redis: (Arc::new(Redis::open(&crate::support::redis().await)), None);
    redis_cluster: (Arc::new(Redis::open(&crate::support::redis_cluster().await)), None);
}

async fn a_new_session_is_loaded_by_its_token(store: Store) {
    let (session, token) = created(&store, Some(1)).await;
    let stored = store.load(token.hash).await.unwrap().unwrap();
    assert_eq!((stored.session, stored.token), (session, token));
}

async fn an_unknown_token_loads_nothing(store: Store) {
    created(&store, None).await;
    assert_eq!(store.load(TokenHash::from_bytes([0; 32])).await, Ok(None));
}

async fn a_session_and_its_first_token_are_kept_both_or_neither(store: Store) {
    let (other, _) = created(&store, Some(1)).await;
    let session = session(Some(2));
    let foreign = token(other.sid, None);
    assert!(
        store
            .create(session.clone(), foreign.clone())
            .await
            .is_err()
    );
    assert_no_trace(&store, session.sid, 2, &[foreign.hash]).await;
}

async fn a_name_that_is_taken_is_refused_and_the_owner_untouched(store: Store) {
    let (owner, first) = created(&store, Some(1)).await;
    let intruder = session(Some(2));
    let mut same_hash = token(intruder.sid, None);
    same_hash.hash = first.hash;
    assert!(store.create(intruder.clone(), same_hash).await.is_err());
    let mut same_sid = session(Some(2));
    same_sid.sid = owner.sid;
    let other = token(owner.sid, None);
    assert!(store.create(same_sid, other.clone()).await.is_err());
    assert_no_trace(&store, intruder.sid, 2, &[other.hash]).await;
    let stored = store.load(first.hash).await.unwrap().unwrap();
    assert_eq!((stored.session, stored.token), (owner, first));
    assert!(listed_of(&store, 2).await.is_empty());
}

async fn an_ended_session_is_loaded_until_it_is_swept(store: Store) {
    let mut session = session(None);
    session.expires = Timestamp::from_millis(1);
    let token = token(session.sid, None);
    store.create(session.clone(), token.clone()).await.unwrap();
    assert_eq!(stored_session(&store, token.hash).await, session);
    assert_eq!(store.sweep(Timestamp::from_millis(1), 10).await, Ok(1));
    assert_eq!(store.load(token.hash).await, Ok(None));
}

async fn an_update_replaces_what_it_may_and_nothing_else(store: Store) {
    let (session, token) = created(&store, Some(1)).await;
    let wanted = SessionRow {
        subject: Some(SubjectTag([2; 32])),
        created: at(5),
        idle_millis: 1,
        expires: at(3600),
        listing: b"another listing".to_vec(),
        private: b"other data".to_vec(),
        ..session.clone()
    };
    assert_eq!(store.update(wanted.clone()).await, Ok(Update::Done(2)));
    let expected = SessionRow {
        version: 2,
        expires: wanted.expires,
        listing: wanted.listing,
        private: wanted.private,
        ..session.clone()
    };
    assert_eq!(stored_session(&store, token.hash).await, expected);
    assert_eq!(stored_token(&store, token.hash).await, token);
    assert_eq!(listed_of(&store, 1).await, [session.sid]);
    assert!(listed_of(&store, 2).await.is_empty());
}

async fn an_update_of_another_version_changes_nothing(store: Store) {
    let (session, token) = created(&store, None).await;
    for version in [0, 2, u64::MAX] {
        let mut wanted = session.clone();
        wanted.version = version;
        wanted.private = b"late".to_vec();
        assert_eq!(
            store.update(wanted).await,
            Ok(Update::Conflict),
            "version {version}"
        );
    }
    assert_eq!(stored_session(&store, token.hash).await, session);
}

async fn an_update_does_not_create(store: Store) {
    let session = session(Some(1));
    assert_eq!(store.update(session.clone()).await, Ok(Update::Gone));
    assert_no_trace(&store, session.sid, 1, &[]).await;
}

async fn an_update_does_not_lose_a_touch(store: Store) {
    let (session, token) = created(&store, None).await;
    store.touch(vec![(session.sid, at(60))]).await.unwrap();
    assert_eq!(store.update(session).await, Ok(Update::Done(2)));
    assert_eq!(stored_session(&store, token.hash).await.last_seen, at(60));
}

async fn an_update_moves_activity_forward(store: Store) {
    let (mut session, token) = created(&store, None).await;
    session.last_seen = at(90);
    assert_eq!(store.update(session).await, Ok(Update::Done(2)));
    assert_eq!(stored_session(&store, token.hash).await.last_seen, at(90));
}

async fn of_many_updates_of_one_version_one_wins(store: Store) {
    let (session, token) = created(&store, None).await;
    let mut updating = JoinSet::new();
    for number in 0..30_u8 {
        let (store, mut wanted) = (Arc::clone(&store), session.clone());
        wanted.private = vec![number];
        updating.spawn(async move { (number, store.update(wanted).await.unwrap()) });
    }
    let outcomes = updating.join_all().await;
    let won: Vec<u8> = outcomes
        .iter()
        .filter(|o| o.1 == Update::Done(2))
        .map(|o| o.0)
        .collect();
    assert_eq!(won.len(), 1);
    assert_eq!(
        outcomes.iter().filter(|o| o.1 == Update::Conflict).count(),
        29
    );
    assert_eq!(stored_session(&store, token.hash).await.private, won);
}

async fn a_touch_moves_activity_forward_only(store: Store) {
    let (session, token) = created(&store, None).await;
    store
        .touch(vec![(session.sid, at(60)), (session.sid, at(30))])
        .await
        .unwrap();
    store.touch(vec![(session.sid, at(10))]).await.unwrap();
    let expected = SessionRow {
        last_seen: at(60),
        ..session
    };
    assert_eq!(stored_session(&store, token.hash).await, expected);
}

async fn a_touch_passes_over_unknown_sessions_and_creates_none(store: Store) {
    let (session, token) = created(&store, None).await;
    let unknown = Sid::generate(START);
    store
        .touch(vec![
            (unknown, at(60)),
            (session.sid, at(61)),
            (unknown, at(62)),
        ])
        .await
        .unwrap();
    assert_eq!(stored_session(&store, token.hash).await.last_seen, at(61));
    assert_eq!(listed(&store).await, [session.sid]);
    store.touch(Vec::new()).await.unwrap();
}

async fn a_rotation_makes_the_next_token_good_at_once(store: Store) {
    let (session, old) = created(&store, None).await;
    let next = token(session.sid, Some(old.hash));
    let named = successor(&next);
    let outcome = store.rotate(old.hash, next.clone(), named.clone()).await;
    assert_eq!(outcome, Ok(Rotation::Done));
    let stored = store.load(next.hash).await.unwrap().unwrap();
    assert_eq!((stored.token, stored.session), (next, session));
    assert_eq!(
        stored_token(&store, old.hash).await,
        TokenRow {
            successor: Some(named),
            ..old
        }
    );
}

async fn a_chain_of_rotations_keeps_every_token(store: Store) {
    let (session, old) = created(&store, Some(1)).await;
    let new = rotated(&store, &old).await;
    let newer = rotated(&store, &new).await;
    for hash in [old.hash, new.hash, newer.hash] {
        assert_eq!(stored_session(&store, hash).await.sid, session.sid);
    }
    let late = token(session.sid, Some(old.hash));
    let outcome = store
        .rotate(old.hash, late.clone(), successor(&late))
        .await
        .unwrap();
    assert!(matches!(outcome, Rotation::Superseded(winner) if winner.hash == new.hash));
    assert_eq!(store.load(late.hash).await, Ok(None));
    assert_eq!(store.remove(session.sid).await, Ok(true));
    assert_no_trace(&store, session.sid, 1, &[old.hash, new.hash, newer.hash]).await;
}

async fn a_rotation_of_an_unknown_token_creates_nothing(store: Store) {
    let unknown = token(Sid::generate(START), None);
    let next = token(unknown.sid, Some(unknown.hash));
    let outcome = store
        .rotate(unknown.hash, next.clone(), successor(&next))
        .await;
    assert_eq!(outcome, Ok(Rotation::Gone));
    assert_eq!(store.load(next.hash).await, Ok(None));
    assert!(listed(&store).await.is_empty());
}

async fn a_rotation_does_not_cross_sessions(store: Store) {
    let (_, old) = created(&store, Some(1)).await;
    let (other, _) = created(&store, Some(2)).await;
    let next = token(other.sid, Some(old.hash));
    let outcome = store.rotate(old.hash, next.clone(), successor(&next)).await;
    assert_eq!(outcome, Ok(Rotation::Gone));
    assert_eq!(store.load(next.hash).await, Ok(None));
    assert_eq!(stored_token(&store, old.hash).await, old);
}

async fn of_fifty_rotations_one_wins_and_the_others_learn_who(store: Store) {
    let (session, old) = created(&store, None).await;
    let mut rotating = JoinSet::new();
    for _ in 0..50 {
        let (store, old) = (Arc::clone(&store), old.hash);
        let next = token(session.sid, Some(old));
        rotating.spawn(async move {
            let named = successor(&next);
            let outcome = store.rotate(old, next, named.clone()).await.unwrap();
            (named, outcome)
        });
    }
    let outcomes = rotating.join_all().await;
    let won: Vec<_> = outcomes
        .iter()
        .filter(|o| o.1 == Rotation::Done)
        .map(|o| &o.0)
        .collect();
    let [winner] = won[..] else {
        panic!("{} callers won", won.len())
    };
    for (named, outcome) in &outcomes {
        if named == winner {
            assert_eq!(stored_token(&store, named.hash).await.hash, named.hash);
        } else {
            assert_eq!(*outcome, Rotation::Superseded(winner.clone()));
            assert_eq!(store.load(named.hash).await, Ok(None));
        }
    }
    assert_eq!(
        stored_token(&store, old.hash).await.successor.as_ref(),
        Some(winner)
    );
}

async fn a_confirmation_tells_the_predecessor_once(store: Store) {
    let (_, old) = created(&store, None).await;
    let new = rotated(&store, &old).await;
    store.confirm(new.hash, at(5)).await.unwrap();
    store.confirm(new.hash, at(9)).await.unwrap();
    let told = stored_token(&store, old.hash).await.successor.unwrap();
    assert_eq!((told.hash, told.seen), (new.hash, Some(at(5))));
    assert_eq!(
        stored_token(&store, new.hash).await,
        TokenRow {
            predecessor: None,
            ..new
        }
    );
}

async fn a_confirmation_reaches_one_link_of_the_chain(store: Store) {
    let (_, old) = created(&store, None).await;
    let new = rotated(&store, &old).await;
    let newer = rotated(&store, &new).await;
    store.confirm(newer.hash, at(5)).await.unwrap();
    assert_eq!(
        stored_token(&store, new.hash).await.successor.unwrap().seen,
        Some(at(5))
    );
    assert_eq!(
        stored_token(&store, new.hash).await.predecessor,
        Some(old.hash)
    );
    assert_eq!(
        stored_token(&store, old.hash).await.successor.unwrap().seen,
        None
    );
    store.confirm(new.hash, at(6)).await.unwrap();
    assert_eq!(
        stored_token(&store, old.hash).await.successor.unwrap().seen,
        Some(at(6))
    );
    assert_eq!(
        stored_token(&store, new.hash).await.successor.unwrap().hash,
        newer.hash
    );
}

async fn a_confirmation_without_predecessor_changes_nothing(store: Store) {
    let (session, token) = created(&store, None).await;
    store.confirm(token.hash, at(5)).await.unwrap();
    store
        .confirm(TokenHash::from_bytes([0; 32]), at(5))
        .await
        .unwrap();
    assert_eq!(stored_token(&store, token.hash).await, token);
    assert_eq!(store.load(TokenHash::from_bytes([0; 32])).await, Ok(None));
    assert_eq!(listed(&store).await, [session.sid]);
}

async fn a_removal_takes_every_trace(store: Store) {
    let (session, old) = created(&store, Some(1)).await;
    let new = rotated(&store, &old).await;
    store.touch(vec![(session.sid, at(60))]).await.unwrap();
    assert_eq!(store.remove(session.sid).await, Ok(true));
    assert_no_trace(&store, session.sid, 1, &[old.hash, new.hash]).await;
    assert_eq!(store.remove(session.sid).await, Ok(false));
    assert_eq!(store.sweep(Timestamp::MAX, 10).await, Ok(0));
}

async fn a_removal_leaves_others_alone(store: Store) {
    let (gone, _) = created(&store, Some(1)).await;
    let (session, token) = created(&store, Some(1)).await;
    assert_eq!(store.remove(gone.sid).await, Ok(true));
    assert_eq!(store.remove(Sid::generate(START)).await, Ok(false));
    let stored = store.load(token.hash).await.unwrap().unwrap();
    assert_eq!((stored.session, stored.token), (session.clone(), token));
    assert_eq!(listed(&store).await, [session.sid]);
    assert_eq!(listed_of(&store, 1).await, [session.sid]);
    assert_eq!(store.sweep(Timestamp::MAX, 10).await, Ok(1));
}

async fn a_removed_session_is_not_revived(store: Store) {
    let (session, old) = created(&store, Some(1)).await;
    let new = rotated(&store, &old).await;
    assert_eq!(store.remove(session.sid).await, Ok(true));
    let next = token(session.sid, Some(new.hash));
    store.touch(vec![(session.sid, at(60))]).await.unwrap();
    assert_eq!(store.update(session.clone()).await, Ok(Update::Gone));
    let outcome = store.rotate(new.hash, next.clone(), successor(&next)).await;
    assert_eq!(outcome, Ok(Rotation::Gone));
    store.confirm(new.hash, at(60)).await.unwrap();
    assert_no_trace(&store, session.sid, 1, &[old.hash, new.hash, next.hash]).await;
    assert_eq!(store.sweep(Timestamp::MAX, 10).await, Ok(0));
}

async fn a_removal_wins_every_race(store: Store) {
    let mut races = JoinSet::new();
    for round in 0..40_usize {
        let store = Arc::clone(&store);
        races.spawn(async move {
            let (session, old) = created(&store, Some(1)).await;
            let next = token(session.sid, Some(old.hash));
            let named = successor(&next);
            // A different order of arrival in each round.
            let removal = async {
                for _ in 0..round % 4 {
                    tokio::task::yield_now().await;
                }
                assert_eq!(store.remove(session.sid).await, Ok(true));
            };
            let (update, touched, rotation, ()) = tokio::join!(
                store.update(session.clone()),
                store.touch(vec![(session.sid, at(60))]),
                store.rotate(old.hash, next.clone(), named),
                removal,
            );
            assert!(
                matches!(update, Ok(Update::Done(2) | Update::Gone)),
                "{update:?}"
            );
            assert!(
                matches!(rotation, Ok(Rotation::Done | Rotation::Gone)),
                "{rotation:?}"
            );
            assert_eq!(touched, Ok(()));
            (session.sid, [old.hash, next.hash])
        });
    }
    for (sid, hashes) in races.join_all().await {
        assert_no_trace(&store, sid, 1, &hashes).await;
    }
    assert_eq!(store.sweep(Timestamp::MAX, 100).await, Ok(0));
}

async fn an_end_is_taken_care_of_by_one(store: Store) {
    let (session, _) = created(&store, Some(1)).await;
    let (other, _) = created(&store, Some(1)).await;
    store.remove(session.sid).await.unwrap();
    let mut asking = JoinSet::new();
    for _ in 0..8 {
        let (store, sid) = (store.clone(), session.sid);
        asking.spawn(async move { store.claim_end(sid, ABSOLUTE).await.unwrap() });
    }
    let answers = asking.join_all().await;
    let first = answers.iter().filter(|is_first| **is_first).count();
    let expected = if store.has_other_writers() { 1 } else { 8 };
    assert_eq!(first, expected);
    assert_eq!(store.claim_end(other.sid, ABSOLUTE).await, Ok(true));
    assert_eq!(store.sweep(at(1), 100).await, Ok(0));
}

async fn epoch_of(store: &Store, subject: u8) -> Epoch {
    store.epoch(SubjectTag([subject; 32])).await.unwrap()
}

async fn begun_epoch(store: &Store, subject: u8, now: Timestamp) -> Epoch {
    let (subject, until) = (SubjectTag([subject; 32]), now.after(ABSOLUTE));
    store.begin_epoch(subject, now, until).await.unwrap()
}

async fn an_epoch_ends_all_sessions_of_its_subject_and_of_nobody_else(store: Store) {
    assert_eq!(epoch_of(&store, 1).await, Epoch::default());
    let (_, first) = created(&store, Some(1)).await;
    let next = rotated(&store, &first).await;
    let (_, second) = created(&store, Some(1)).await;
    let (_, other) = created(&store, Some(2)).await;
    let (_, stranger) = created(&store, None).await;
    let epoch = begun_epoch(&store, 1, at(5)).await;
    assert_eq!(epoch_of(&store, 1).await, epoch);
    assert_eq!(epoch_of(&store, 2).await, Epoch::default());
    for ended in [first.hash, next.hash, second.hash] {
        assert_eq!(store.load(ended).await, Ok(None));
    }
    for lives in [other.hash, stranger.hash] {
        assert!(store.load(lives).await.unwrap().is_some());
    }
}

async fn an_epoch_is_newer_than_the_one_before(store: Store) {
    let mut before = Epoch::default();
    // The same moment twice, and a clock that went back.
    for secs in [5, 5, 6, 1] {
        let epoch = begun_epoch(&store, 1, at(secs)).await;
        assert_eq!(epoch, before.next(at(secs)));
        before = epoch;
    }
}

async fn an_epoch_ends_a_login_that_began_before_it(store: Store) {
    let late = session(Some(1));
    let epoch = begun_epoch(&store, 1, at(5)).await;
    let first = token(late.sid, None);
    let created = store.create(late.clone(), first.clone()).await;
    assert_eq!(created, Ok(Creation::Overtaken));
    assert_no_trace(&store, late.sid, 1, &[first.hash]).await;
    let again = SessionRow {
        epoch,
        ..session(Some(1))
    };
    let first = token(again.sid, None);
    let created = store.create(again.clone(), first.clone()).await;
    assert_eq!(created, Ok(Creation::Done));
    assert_eq!(stored_session(&store, first.hash).await, again);
}

async fn an_epoch_ends_every_login_that_races_with_it(store: Store) {
    let mut logins = JoinSet::new();
    for number in 0..40 {
        let store = Arc::clone(&store);
        logins.spawn(async move {
            if number == 20 {
                begun_epoch(&store, 1, at(5)).await;
                return None;
            }
            let session = session(Some(1));
            let token = token(session.sid, None);
            store.create(session, token.clone()).await.unwrap();
            Some(token.hash)
        });
    }
    for hash in logins.join_all().await.into_iter().flatten() {
        assert_eq!(store.load(hash).await, Ok(None));
    }
}

async fn what_an_epoch_has_ended_is_not_revived(store: Store) {
    let (session, token) = created(&store, Some(1)).await;
    let epoch = begun_epoch(&store, 1, at(5)).await;
    let next = self::token(session.sid, Some(token.hash));
    store.touch(vec![(session.sid, at(60))]).await.unwrap();
    let wanted = SessionRow {
        epoch,
        ..session.clone()
    };
    store.update(wanted).await.unwrap();
    let rotation = store.rotate(token.hash, next.clone(), successor(&next));
    rotation.await.unwrap();
    store.confirm(next.hash, at(61)).await.unwrap();
    for hash in [token.hash, next.hash] {
        assert_eq!(store.load(hash).await, Ok(None));
    }
    // Until it is taken out, it is in lists, so that somebody can.
    assert_eq!(listed_of(&store, 1).await, [session.sid]);
    assert_eq!(store.remove(session.sid).await, Ok(true));
    assert_no_trace(&store, session.sid, 1, &[token.hash, next.hash]).await;
}

async fn an_epoch_is_remembered_for_its_time(store: Store) {
    let late = session(Some(1));
    let epoch = begun_epoch(&store, 1, START).await;
    let earlier = store.begin_epoch(SubjectTag([2; 32]), START, at(10));
    earlier.await.unwrap();
    let last = Timestamp::from_millis(START.after(ABSOLUTE).as_millis() - 1);
    assert_eq!(store.sweep(last, 10).await, Ok(0));
    assert_eq!(epoch_of(&store, 1).await, epoch);
    let first = token(late.sid, None);
    let created = store.create(late, first).await;
    assert_eq!(created, Ok(Creation::Overtaken));
}

async fn a_list_is_in_order_and_within_its_limit(store: Store) {
    let names = crowd(&store, 10, Some(1)).await;
    let sids: Vec<Sid> = names.iter().map(|name| name.0).collect();
    assert_eq!(listed(&store).await, sids);
    for limit in [0, 1, 9, 10] {
        let rows = store.list(None, limit).await.unwrap();
        assert!(
            rows.iter()
                .map(|row| row.sid)
                .eq(sids[..limit].iter().copied()),
            "{limit}"
        );
    }
    let rows = store.list(Some(sids[3]), 2).await.unwrap();
    assert!(
        rows.iter()
            .map(|row| row.sid)
            .eq(sids[4..6].iter().copied())
    );
    assert_eq!(store.list(Some(sids[9]), 5).await, Ok(Vec::new()));
    assert_eq!(
        store.list(Some(Sid::from_bytes([0xff; 16])), 5).await,
        Ok(Vec::new())
    );
    let subject = SubjectTag([1; 32]);
    let last = Some(Sid::from_bytes([0xff; 16]));
    assert_eq!(
        store.list_by_subject(subject, last, 5).await,
        Ok(Vec::new())
    );
    assert_eq!(
        store.list_by_subject(subject, None, 0).await,
        Ok(Vec::new())
    );
}

async fn paging_through_a_thousand_sessions_misses_none_and_repeats_none(store: Store) {
    let names = crowd(&store, 1000, None).await;
    for limit in [7, 256, 999, 1000, 5000] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let rows = store.list(after, limit).await.unwrap();
            let Some(last) = rows.last() else { break };
            after = Some(last.sid);
            seen.extend(rows.iter().map(|row| row.sid));
        }
        assert!(
            seen.iter().eq(names.iter().map(|name| &name.0)),
            "pages of {limit}"
        );
    }
}

async fn paging_through_a_subject_misses_none_and_repeats_none(store: Store) {
    crowd(&store, 200, Some(1)).await;
    let names = crowd(&store, 600, Some(2)).await;
    crowd(&store, 200, Some(3)).await;
    for limit in [9, 256, 600, 5000] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let rows = store
                .list_by_subject(SubjectTag([2; 32]), after, limit)
                .await
                .unwrap();
            let Some(last) = rows.last() else { break };
            after = Some(last.sid);
            seen.extend(rows.iter().map(|row| row.sid));
        }
        assert!(
            seen.iter().eq(names.iter().map(|name| &name.0)),
            "pages of {limit}"
        );
    }
}

async fn paging_goes_on_after_a_session_that_is_gone(store: Store) {
    let names = crowd(&store, 6, Some(1)).await;
    let after = names[2].0;
    assert_eq!(store.remove(after).await, Ok(true));
    let rest: Vec<Sid> = names[3..].iter().map(|name| name.0).collect();
    let rows = store.list(Some(after), 10).await.unwrap();
    assert!(rows.iter().map(|row| &row.sid).eq(&rest));
    let rows = store
        .list_by_subject(SubjectTag([1; 32]), Some(after), 10)
        .await
        .unwrap();
    assert!(rows.iter().map(|row| &row.sid).eq(&rest));
}

async fn a_subject_lists_its_own_sessions_only(store: Store) {
    let (first, _) = created(&store, Some(0)).await;
    let (last, _) = created(&store, Some(0xff)).await;
    created(&store, None).await;
    assert_eq!(listed_of(&store, 0).await, [first.sid]);
    assert_eq!(listed_of(&store, 0xff).await, [last.sid]);
    assert!(listed_of(&store, 1).await.is_empty());
}

async fn a_sweep_takes_idle_sessions_at_their_end_and_not_before(store: Store) {
    let (session, token) = created(&store, Some(1)).await;
    let end = START.after(IDLE);
    let before = Timestamp::from_millis(end.as_millis() - 1);
    assert_eq!(store.sweep(before, 10).await, Ok(0));
    assert_eq!(stored_session(&store, token.hash).await, session);
    assert_eq!(store.sweep(end, 10).await, Ok(1));
    assert_no_trace(&store, session.sid, 1, &[token.hash]).await;
}

async fn a_sweep_takes_active_sessions_at_their_absolute_end(store: Store) {
    let (session, token) = created(&store, None).await;
    let end = START.after(ABSOLUTE);
    let before = Timestamp::from_millis(end.as_millis() - 1);
    store.touch(vec![(session.sid, before)]).await.unwrap();
    assert_eq!(store.sweep(before, 10).await, Ok(0));
    assert_eq!(stored_session(&store, token.hash).await.last_seen, before);
    assert_eq!(store.sweep(end, 10).await, Ok(1));
    assert_eq!(store.load(token.hash).await, Ok(None));
}

async fn a_sweep_spares_what_was_touched_and_finds_it_later(store: Store) {
    let (session, token) = created(&store, None).await;
    for minutes in (20..200).step_by(20) {
        store
            .touch(vec![(session.sid, at(minutes * 60))])
            .await
            .unwrap();
        assert_eq!(
            store.sweep(at(minutes * 60 + 29 * 60), 10).await,
            Ok(0),
            "{minutes}"
        );
    }
    assert_eq!(
        stored_session(&store, token.hash).await.last_seen,
        at(180 * 60)
    );
    assert_eq!(store.sweep(at(180 * 60 + 30 * 60), 10).await, Ok(1));
    assert_eq!(store.load(token.hash).await, Ok(None));
}

async fn a_sweep_sees_an_end_that_was_moved(store: Store) {
    let (mut nearer, near) = created(&store, None).await;
    nearer.expires = at(60);
    assert_eq!(store.update(nearer.clone()).await, Ok(Update::Done(2)));
    assert_eq!(store.sweep(at(59), 10).await, Ok(0));
    assert_eq!(store.sweep(at(60), 10).await, Ok(1));
    assert_eq!(store.load(near.hash).await, Ok(None));

    let mut farther = session(None);
    farther.expires = at(60);
    let far = token(farther.sid, None);
    store.create(farther.clone(), far.clone()).await.unwrap();
    farther.expires = at(120);
    assert_eq!(store.update(farther).await, Ok(Update::Done(2)));
    assert_eq!(store.sweep(at(119), 10).await, Ok(0));
    assert_eq!(store.sweep(at(120), 10).await, Ok(1));
    assert_eq!(store.load(far.hash).await, Ok(None));
}

async fn a_sweep_keeps_to_its_limit(store: Store) {
    crowd(&store, 20, Some(1)).await;
    let end = START.after(IDLE);
    assert_eq!(store.sweep(end, 0).await, Ok(0));
    assert_eq!(store.sweep(end, 8).await, Ok(8));
    assert_eq!(listed(&store).await.len(), 12);
    assert_eq!(store.sweep(end, 8).await, Ok(8));
    assert_eq!(store.sweep(end, 8).await, Ok(4));
    assert_eq!(store.sweep(end, 8).await, Ok(0));
    assert!(listed_of(&store, 1).await.is_empty());
}

async fn a_sweep_finds_the_ended_among_many_that_live_on(store: Store) {
    let names = crowd(&store, 1200, None).await;
    let (ended, alive) = names.split_at(10);
    store
        .touch(alive.iter().map(|name| (name.0, at(1200))).collect())
        .await
        .unwrap();
    assert_eq!(store.sweep(START.after(IDLE), 10_000).await, Ok(10));
    for (_, hash) in ended {
        assert_eq!(store.load(*hash).await, Ok(None));
    }
    assert!(
        listed(&store)
            .await
            .iter()
            .eq(alive.iter().map(|name| &name.0))
    );
    assert_eq!(store.sweep(at(1200).after(IDLE), 10_000).await, Ok(1190));
}

async fn a_sweep_takes_every_trace(store: Store) {
    let (session, old) = created(&store, Some(1)).await;
    let new = rotated(&store, &old).await;
    store.touch(vec![(session.sid, at(60))]).await.unwrap();
    assert_eq!(store.sweep(at(60).after(IDLE), 10).await, Ok(1));
    assert_no_trace(&store, session.sid, 1, &[old.hash, new.hash]).await;
    assert_eq!(store.remove(session.sid).await, Ok(false));
}

async fn a_probe_is_answered(store: Store) {
    assert_eq!(store.probe().await, Ok(()));
}
