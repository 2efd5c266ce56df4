//! How the embedded store lives with damage: what is damaged is an error, and hides nothing else.

use super::*;

#[tokio::test]
async fn a_damaged_session_is_an_error_to_load_and_hides_no_other() {
    let place = Place::new();
    let store = place.open();
    let (bad, good) = (created(&store).await, created(&store).await);
    drop(store);
    place.overwrite(SESSIONS, bad.session.sid.as_bytes(), b"garbage");

    let store = place.open();
    let sid = bad.session.sid;
    assert!(matches!(
        store.load(bad.token.hash).await,
        Err(StoreError::Damaged(_))
    ));
    assert!(matches!(
        store.update(bad.session.clone()).await,
        Err(StoreError::Damaged(_))
    ));
    assert_eq!(store.list(None, 10).await, Ok(vec![good.session.clone()]));
    assert_eq!(
        store.list_by_subject(SUBJECT, None, 10).await,
        Ok(vec![good.session.clone()])
    );
    store
        .touch(vec![(sid, later(5)), (good.session.sid, later(6))])
        .await
        .unwrap();
    let touched = store.load(good.token.hash).await.unwrap().unwrap();
    assert_eq!(touched.session.last_seen, later(6));
}

#[tokio::test]
async fn a_damaged_session_is_swept_with_all_that_belongs_to_it() {
    let place = Place::new();
    let store = place.open();
    let bad = created(&store).await;
    let next = token(bad.session.sid, Some(bad.token.hash));
    store
        .rotate(bad.token.hash, next.clone(), successor(&next))
        .await
        .unwrap();
    drop(store);
    place.overwrite(SESSIONS, bad.session.sid.as_bytes(), b"");

    let store = place.open();
    assert_eq!(store.sweep(later(59), 10).await, Ok(0));
    assert_eq!(store.sweep(later(60), 10).await, Ok(1));
    assert_eq!(store.load(next.hash).await, Ok(None));
    drop(store);
    assert_eq!(place.entries(), 0);
}

#[tokio::test]
async fn a_damaged_session_can_be_removed_with_all_that_belongs_to_it() {
    let place = Place::new();
    let store = place.open();
    let (bad, good) = (created(&store).await, created(&store).await);
    drop(store);
    place.overwrite(SESSIONS, bad.session.sid.as_bytes(), &[1; 40]);

    let store = place.open();
    assert_eq!(store.remove(bad.session.sid).await, Ok(true));
    assert_eq!(store.load(bad.token.hash).await, Ok(None));
    assert_eq!(store.remove(good.session.sid).await, Ok(true));
    drop(store);
    assert_eq!(place.entries(), 0);
}

#[tokio::test]
async fn under_a_damaged_epoch_nobody_gets_in_until_a_new_one_begins() {
    let place = Place::new();
    let store = place.open();
    let stored = created(&store).await;
    let begun = store.begin_epoch(SUBJECT, START, later(100)).await.unwrap();
    drop(store);
    place.overwrite(EPOCHS, &SUBJECT.0, b"garbage");

    let store = place.open();
    let loaded = store.load(stored.token.hash).await;
    assert!(matches!(loaded, Err(StoreError::Damaged(_))), "{loaded:?}");
    assert!(created_or_error(&store).await.is_err());
    let epoch = store.begin_epoch(SUBJECT, later(1), later(200)).await;
    let epoch = epoch.unwrap();
    assert!(epoch > begun);
    assert_eq!(store.load(stored.token.hash).await, Ok(None));
    // The time of the one that was lost is over.
    store.sweep(later(100), 10).await.unwrap();
    assert_eq!(store.epoch(SUBJECT).await, Ok(epoch));
}

#[tokio::test]
async fn a_damaged_token_is_an_error_to_load_and_rotate() {
    let place = Place::new();
    let store = place.open();
    let stored = created(&store).await;
    let next = token(stored.session.sid, Some(stored.token.hash));
    store
        .rotate(stored.token.hash, next.clone(), successor(&next))
        .await
        .unwrap();
    drop(store);
    place.overwrite(TOKENS, stored.token.hash.as_bytes(), &[0xff; 30]);

    let store = place.open();
    assert!(matches!(
        store.load(stored.token.hash).await,
        Err(StoreError::Damaged(_))
    ));
    let late = token(stored.session.sid, Some(stored.token.hash));
    let outcome = store
        .rotate(stored.token.hash, late.clone(), successor(&late))
        .await;
    assert!(
        matches!(outcome, Err(StoreError::Damaged(_))),
        "{outcome:?}"
    );
    assert_eq!(store.load(late.hash).await, Ok(None));
    // Its successor goes on as if the damaged one were not there.
    assert_eq!(store.confirm(next.hash, later(5)).await, Ok(()));
    assert_eq!(
        store
            .load(next.hash)
            .await
            .unwrap()
            .unwrap()
            .token
            .predecessor,
        None
    );
}

/// Damage anywhere in the file is an error, or it is not noticed because nothing was read from there: never a panic of
/// whoever asked, never a row that was not written.
#[tokio::test]
async fn a_file_with_damage_anywhere_is_never_misread() {
    let place = Place::new();
    let store = place.open();
    let mut kept = Vec::new();
    for _ in 0..40 {
        kept.push(created(&store).await);
    }
    drop(store);
    let whole = fs::read(place.path()).unwrap();
    // In each page that is used: its head and its middle.
    let mut places = Vec::new();
    for (number, page) in whole.chunks(4096).enumerate() {
        let used: Vec<usize> = (0..page.len()).filter(|at| page[*at] != 0).collect();
        if let Some(first) = used.first() {
            places.extend([first, &used[used.len() / 2]].map(|at| number * 4096 + at));
        }
    }
    let mut outcomes = [0, 0, 0];
    for at in places {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        fs::write(place.path(), &damaged).unwrap();
        let Ok(store) = Embedded::open(&place.path()) else {
            outcomes[0] += 1;
            continue;
        };
        for stored in &kept {
            match store.load(stored.token.hash).await {
                Ok(Some(loaded)) => assert_eq!(loaded, *stored, "byte {at}"),
                Ok(None) | Err(_) => outcomes[1] += 1,
            }
        }
        for row in store.list(None, 100).await.unwrap_or_default() {
            assert!(kept.iter().any(|stored| stored.session == row), "byte {at}");
        }
        drop(created_or_error(&store).await);
        drop(store.sweep(Timestamp::MAX, 100).await);
        outcomes[2] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
}

async fn created_or_error(store: &Embedded) -> Result<(), StoreError> {
    let session = session();
    let token = token(session.sid, None);
    store.create(session, token).await.map(drop)
}

#[test]
fn work_that_panics_is_an_error_and_the_file_goes_on() {
    let place = Place::new();
    let file = DataFile::open(&place.path()).unwrap();
    let outcome: Result<(), _> = file.run(|_| panic!("as over damage"));
    assert!(
        matches!(outcome, Err(StoreError::Damaged(_))),
        "{outcome:?}"
    );
    assert_eq!(file.run(|_| Ok(1)), Ok(1));
}
