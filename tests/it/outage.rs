//! A session store that fails, freezes or dawdles: nobody is logged out by it, nobody gets in by it, and what was ended
//! stays ended (R5, R7).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use doorward::clock::{Clock, TICK, Timestamp};
use doorward::identity::{Federated, Identity, Subject};
use doorward::secret::{Keyring, Secret};
use doorward::session::store::{
    Creation, Invalidation, Memory, Rotation, SessionStore, StoreError, Update,
};
use doorward::session::{
    AuthError, EndReason, Epoch, Issued, LiveSession, Login, LoginError, OnLimit, Parts, PerUser,
    Presence, SessionRow, Sessions, Settings, Sid, Stored, SubjectTag, Successor, Token, TokenHash,
    TokenRow, Touches,
};
use doorward::telemetry::{Audit, LineWriter, Metrics, Sink};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, broadcast};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A session of a shared store is believed for so long and no longer. Clocks tick: what is a tick before `cache_ttl` may be at it.
const BELIEVED: Duration = Duration::from_millis(5_000 - 1).saturating_sub(TICK);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

#[tokio::test(start_paused = true)]
async fn sessions_in_use_go_on_as_if_nothing_were_wrong() {
    for trouble in [Trouble::Fails, Trouble::Freezes] {
        let node = Node::new();
        let token = node.log_in("alice").await;
        node.open(&token).await.unwrap();
        let (loads, begun) = (node.store.count("load"), Instant::now());
        node.store.all(trouble);
        for _ in 0..30 {
            // Longer than activity may go unsaved.
            node.clock.advance(90 * SECOND);
            let session = node.open(&token).await.unwrap();
            assert_eq!(session.identity().unwrap().user, "alice");
            assert!(node.sessions.still_good(&session, ACTIVE));
        }
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waited");
        assert_eq!(node.store.count("load"), loads, "nobody asked");
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_that_are_not_in_memory_are_neither_opened_nor_forgotten() {
    for (trouble, error, wait) in [
        (Trouble::Fails, unavailable(), Duration::ZERO),
        (Trouble::Freezes, StoreError::Timeout, 2 * SECOND),
    ] {
        let node = Node::new();
        let token = node.log_in("alice").await;
        node.store.all(trouble);
        let begun = Instant::now();
        let refused = node.open(&token).await.unwrap_err();
        assert_eq!(refused, AuthError::Store(error.clone()));
        assert_eq!(begun.elapsed(), wait);
        let made_up = Token::generate().encode().to_string();
        let refused = node.open(&made_up).await.unwrap_err();
        assert_eq!(refused, AuthError::Store(error));
        node.store.all(Trouble::None);
        node.open(&token).await.unwrap();
        assert_eq!(node.open(&made_up).await.unwrap_err(), AuthError::Unknown);
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_that_cannot_be_stored_is_no_login() {
    for (trouble, error) in [
        (Trouble::Fails, unavailable()),
        (Trouble::Freezes, StoreError::Timeout),
    ] {
        let node = Node::new();
        node.store.all(trouble);
        let refused = node.sessions.issue(login("alice")).await.unwrap_err();
        assert_eq!(refused, error.into());
        node.store.all(Trouble::None);
        assert_eq!(node.sessions.stored().await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_that_was_stored_too_late_takes_up_no_room() {
    let mut node = Node::with(Settings {
        per_user: PerUser {
            max: 1,
            on_limit: OnLimit::Deny,
        },
        ..Settings::default()
    });
    node.store.set("create", Trouble::Waits);
    let refused = node.sessions.issue(login("alice")).await.unwrap_err();
    assert_eq!(refused, StoreError::Timeout.into());
    assert_eq!(node.store.rows().await, 1, "nobody holds its token");
    node.store.all(Trouble::None);
    node.log_in("alice").await;
    node.run_upkeep();
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(node.store.rows().await, 1);
    assert_eq!(node.audit(), ["withdrawn"]);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_cannot_be_stored_counts_here_at_once_and_is_stored_when_it_can_be() {
    for trouble in [Trouble::Fails, Trouble::Freezes] {
        let mut node = Node::new();
        let token = node.log_in("alice").await;
        let session = node.open(&token).await.unwrap();
        let ended = tokio::spawn(session.ended());
        node.store.all(trouble);
        let end = node.sessions.end(session.sid(), EndReason::Logout);
        assert!(end.await.is_err(), "whoever asked is told");
        ended.await.unwrap();
        assert_eq!(node.open(&token).await.unwrap_err(), AuthError::Ended);
        assert!(!node.sessions.still_good(&session, ACTIVE));
        assert_eq!(node.store.rows().await, 1, "the store does not know yet");

        node.run_upkeep();
        tokio::time::sleep(20 * SECOND).await;
        assert_eq!(node.store.rows().await, 1);
        assert!(node.audit().is_empty(), "it has not been done");
        node.store.all(Trouble::None);
        tokio::time::sleep(4 * SECOND).await;
        assert_eq!(node.store.rows().await, 0);
        let removed = node.store.count("remove");
        tokio::time::sleep(60 * SECOND).await;
        assert_eq!(node.store.count("remove"), removed, "once is enough");
        assert_eq!(node.audit(), ["logout"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_ended_in_an_outage_does_not_come_back_with_the_store() {
    let node = Node::new();
    let token = node.log_in("alice").await;
    let sid = node.open(&token).await.unwrap().sid();
    // A process that has the same store, and has never seen the session.
    let other = Node::over(node.store.clone());
    other.store.all(Trouble::Fails);
    let end = other.sessions.end(sid, EndReason::Logout).await;
    assert_eq!(end, Err(unavailable()));
    other.store.all(Trouble::None);
    assert_eq!(other.store.rows().await, 1, "nobody has told it yet");
    assert_eq!(other.open(&token).await.unwrap_err(), AuthError::Ended);
}

#[tokio::test(start_paused = true)]
async fn however_many_ends_are_owed_a_store_in_trouble_is_asked_once_a_second() {
    let mut node = Node::new();
    let mut sids = Vec::new();
    for _ in 0..300 {
        sids.push(node.sessions.issue(login("alice")).await.unwrap().sid);
    }
    node.store.all(Trouble::Fails);
    for sid in &sids {
        assert!(node.sessions.end(*sid, EndReason::Logout).await.is_err());
    }
    let before = node.store.count("remove");
    node.run_upkeep();
    tokio::time::sleep(10 * SECOND).await;
    let asked = node.store.count("remove") - before;
    assert!((5..=11).contains(&asked), "{asked}");
    node.store.all(Trouble::None);
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(node.store.rows().await, 0);
    assert_eq!(node.audit().len(), 300);
}

#[tokio::test(start_paused = true)]
async fn what_is_owed_is_settled_once_more_when_the_process_stops() {
    let mut node = Node::new();
    let token = node.log_in("alice").await;
    let busy = node.log_in("bob").await;
    let sid = node.open(&token).await.unwrap().sid();
    node.clock.advance(90 * SECOND);
    node.open(&busy).await.unwrap();
    node.store.set("remove", Trouble::Fails);
    assert!(node.sessions.end(sid, EndReason::Logout).await.is_err());
    node.store.all(Trouble::None);
    let mut touches = node.touches.take().unwrap();
    node.sessions.settle(&mut touches).await;
    let rows = node.store.inner.list(None, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].last_seen, node.clock.now(), "activity is saved too");
}

#[tokio::test(start_paused = true)]
async fn a_removed_users_sessions_end_here_though_the_store_cannot_list_them() {
    let node = Node::new();
    let (alice, bob) = (node.log_in("alice").await, node.log_in("bob").await);
    for token in [&alice, &bob] {
        node.open(token).await.unwrap();
    }
    node.store.all(Trouble::Fails);
    let subject = login("alice").identity.subject;
    let reason = EndReason::UserChanged;
    let end = node.sessions.end_all_of(&subject, reason).await;
    assert_eq!(end, Err(unavailable()));
    assert_eq!(node.open(&alice).await.unwrap_err(), AuthError::Ended);
    node.open(&bob).await.unwrap();
    node.store.all(Trouble::None);
    assert_eq!(node.sessions.end_all_of(&subject, reason).await, Ok(1));
    assert_eq!(node.store.rows().await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_claimed_is_not_claimed() {
    let node = Node::new();
    let question = [7; 16];
    for (trouble, error) in [
        (Trouble::Fails, unavailable()),
        (Trouble::Freezes, StoreError::Timeout),
    ] {
        for operation in ["epoch", "begin_epoch"] {
            node.store.set(operation, trouble);
            let claimed = node.sessions.claim_answer(&question).await;
            assert_eq!(claimed, Err(error.clone()), "{operation}");
            node.store.all(Trouble::None);
        }
        node.store.set("epoch", trouble);
        assert_eq!(node.sessions.is_answered(&question).await, Err(error));
        node.store.all(Trouble::None);
    }
    let node = Node::new();
    assert_eq!(node.sessions.is_answered(&question).await, Ok(false));
    assert_eq!(node.sessions.claim_answer(&question).await, Ok(true));
    let other = Node::over(node.store.clone());
    assert_eq!(other.sessions.is_answered(&question).await, Ok(true));
    assert_eq!(other.sessions.claim_answer(&question).await, Ok(false));
    assert_eq!(other.sessions.claim_answer(&[8; 16]).await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn one_session_that_cannot_be_removed_keeps_no_other_from_ending() {
    for trouble in [Trouble::Fails, Trouble::Freezes] {
        let mut node = Node::new();
        let mut tokens = Vec::new();
        for _ in 0..20 {
            tokens.push(node.log_in("alice").await);
        }
        node.store.set("remove", trouble);
        let (subject, begun) = (login("alice").identity.subject, Instant::now());
        let end = node.sessions.end_all_of(&subject, EndReason::UserChanged);
        assert_eq!(end.await, Ok(20), "they have ended, and stay so");
        assert!(begun.elapsed() <= 2 * SECOND, "{:?}", begun.elapsed());
        let other = Node::over(node.store.clone());
        for token in &tokens {
            assert!(node.open(token).await.is_err());
            assert_eq!(other.open(token).await.unwrap_err(), AuthError::Unknown);
        }
        assert_eq!(node.store.rows().await, 20);
        node.store.all(Trouble::None);
        node.run_upkeep();
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(node.store.rows().await, 0);
        assert_eq!(node.audit().len(), 20);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_not_cached_by_a_load_that_was_under_way_when_all_of_its_user_ended() {
    let node = Node::new();
    let token = node.log_in("alice").await;
    node.store.set("load", Trouble::Waits);
    // Nothing but the epoch tells: the session stays in the store, and is not known by name.
    node.store.set("list", Trouble::Fails);
    let mut opening = node.open_many(&token, 1);
    node.store.waiting(1).await;
    let subject = login("alice").identity.subject;
    let end = node.sessions.end_all_of(&subject, EndReason::Revoked);
    end.await.unwrap();
    node.store.gate.add_permits(1);
    let opened = opening.join_next().await.unwrap().unwrap();
    assert_eq!(opened.unwrap_err(), AuthError::Ended);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_was_under_way_when_all_sessions_of_its_user_ended_is_none() {
    let node = Node::new();
    let other = Node::over(node.store.clone());
    let subject = login("alice").identity.subject;
    let epoch = node.sessions.epoch_of(&subject).await.unwrap();
    let end = other.sessions.end_all_of(&subject, EndReason::UserChanged);
    assert_eq!(end.await, Ok(0));
    let late = Login {
        epoch,
        ..login("alice")
    };
    let refused = node.sessions.issue(late).await.unwrap_err();
    assert_eq!(refused, LoginError::Overtaken);
    assert_eq!(node.store.rows().await, 0);
    let epoch = node.sessions.epoch_of(&subject).await.unwrap();
    let again = Login {
        epoch,
        ..login("alice")
    };
    let issued = node.sessions.issue(again).await.unwrap();
    node.open(&token_of(&issued.cookie)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_new_login_outlives_the_end_of_those_before_it() {
    let node = Node::new();
    let before = node.log_in("alice").await;
    node.store.set("remove", Trouble::Waits);
    let (sessions, subject) = (node.sessions.clone(), login("alice").identity.subject);
    let end = {
        let subject = subject.clone();
        tokio::spawn(async move { sessions.end_all_of(&subject, EndReason::Revoked).await })
    };
    node.store.waiting(1).await;
    let epoch = node.sessions.epoch_of(&subject).await.unwrap();
    let next = Login {
        epoch,
        ..login("alice")
    };
    let after = token_of(&node.sessions.issue(next).await.unwrap().cookie);
    node.store.gate.add_permits(1);
    assert_eq!(end.await.unwrap(), Ok(1));
    assert!(node.open(&before).await.is_err());
    node.open(&after).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_store_is_as_old_as_the_question() {
    let node = Node::new();
    node.store.is_shared.store(true, Ordering::SeqCst);
    let other = Node::over(node.store.clone());
    let token = node.log_in("alice").await;
    node.store.set("load", Trouble::Waits);
    let mut opening = node.open_many(&token, 1);
    node.store.waiting(1).await;
    let sid = other.store.inner.list(None, 1).await.unwrap()[0].sid;
    other.sessions.end(sid, EndReason::Logout).await.unwrap();
    // The answer, from before the end, is on its way for two seconds.
    node.clock.advance(2 * SECOND);
    node.store.gate.add_permits(1);
    opening.join_next().await.unwrap().unwrap().unwrap();
    node.store.all(Trouble::None);
    node.clock.advance(3 * SECOND);
    assert_eq!(node.open(&token).await.unwrap_err(), AuthError::Unknown);
}

#[tokio::test(start_paused = true)]
async fn what_the_store_no_longer_knows_ends_for_all_who_hold_it() {
    let node = Node::new();
    node.store.is_shared.store(true, Ordering::SeqCst);
    let other = Node::over(node.store.clone());
    let token = node.log_in("alice").await;
    let session = node.open(&token).await.unwrap();
    let ended = tokio::spawn(session.ended());
    let end = other.sessions.end(session.sid(), EndReason::Logout);
    end.await.unwrap();
    node.clock.advance(5 * SECOND);
    assert_eq!(node.open(&token).await.unwrap_err(), AuthError::Unknown);
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hundred_requests_with_one_token_load_it_once() {
    let node = Node::new();
    let token = node.log_in("alice").await;
    let made_up = Token::generate().encode().to_string();
    for (cookie, expected) in [(token, None), (made_up, Some(AuthError::Unknown))] {
        let before = node.store.count("load");
        node.store.set("load", Trouble::Waits);
        let mut requests = node.open_many(&cookie, 100);
        node.store.waiting(1).await;
        node.store.gate.add_permits(1);
        while let Some(opened) = requests.join_next().await {
            assert_eq!(opened.unwrap().err(), expected);
        }
        assert_eq!(node.store.count("load"), before + 1);
        node.store.set("load", Trouble::None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_fails_for_all_who_wait_and_is_tried_again() {
    let node = Node::new();
    let token = node.log_in("alice").await;
    node.store.set("load", Trouble::Freezes);
    let begun = Instant::now();
    let requests = node.open_many(&token, 100);
    for opened in requests.join_all().await {
        assert_eq!(opened.unwrap_err(), AuthError::Store(StoreError::Timeout));
    }
    assert_eq!(begun.elapsed(), 2 * SECOND, "nobody waits for two");
    assert_eq!(node.store.count("load"), 1);
    node.store.set("load", Trouble::None);
    node.open(&token).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_store_that_was_under_way_does_not_revive_a_session() {
    for trouble in [Trouble::None, Trouble::Fails] {
        let node = Node::new();
        let Issued { sid, cookie } = node.sessions.issue(login("alice")).await.unwrap();
        let token = token_of(&cookie);
        node.store.set("load", Trouble::Waits);
        let mut requests = node.open_many(&token, 10);
        node.store.waiting(1).await;
        // The store has said that the session is good; the answer is not here yet.
        node.store.set("remove", trouble);
        let end = node.sessions.end(sid, EndReason::Logout).await;
        assert_eq!(end.is_ok(), trouble == Trouble::None);
        node.store.gate.add_permits(100);
        while let Some(opened) = requests.join_next().await {
            assert_eq!(opened.unwrap().unwrap_err(), AuthError::Ended);
        }
        for _ in 0..3 {
            let refused = node.open(&token).await.unwrap_err();
            assert!(matches!(refused, AuthError::Ended | AuthError::Unknown));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn activity_that_could_not_be_saved_is_saved_with_the_next() {
    let mut node = Node::new();
    let token = node.log_in("alice").await;
    node.open(&token).await.unwrap();
    node.run_upkeep();
    node.store.all(Trouble::Fails);
    node.clock.advance(90 * SECOND);
    node.open(&token).await.unwrap();
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(node.store.count("touch"), 1);
    node.store.all(Trouble::None);
    node.clock.advance(90 * SECOND);
    node.open(&token).await.unwrap();
    tokio::time::sleep(3 * SECOND).await;
    let rows = node.store.inner.list(None, 10).await.unwrap();
    assert_eq!(rows[0].last_seen, node.clock.now());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_cannot_be_replaced_now_stays_good_and_is_replaced_later() {
    let node = Node::new();
    let token = node.log_in("alice").await;
    node.open(&token).await.unwrap();
    node.clock.advance(HOUR);
    node.store.all(Trouble::Fails);
    for _ in 0..50 {
        let session = node.open(&token).await.unwrap();
        assert!(session.renewal().is_none());
        tokio::task::yield_now().await;
    }
    assert_eq!(
        node.store.count("load"),
        2,
        "it is not tried with every request"
    );
    node.store.all(Trouble::None);
    tokio::time::sleep(6 * SECOND).await;
    node.open(&token).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let session = node.open(&token).await.unwrap();
    let next = token_of(session.renewal().expect("an offer"));
    assert_eq!(node.open(&next).await.unwrap().sid(), session.sid());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_in_use_elsewhere_is_not_idle_here() {
    let node = Node::new();
    let other = Node::over(node.store.clone());
    let token = node.log_in("alice").await;
    let sid = node.open(&token).await.unwrap().sid();
    node.clock.advance(9 * HOUR);
    let seen = vec![(sid, node.clock.now())];
    other.store.touch(seen).await.unwrap();
    node.clock.advance(2 * HOUR);
    node.open(&token).await.unwrap();
    // Nobody has heard of it since.
    node.clock.advance(10 * HOUR);
    assert_eq!(node.open(&token).await.unwrap_err(), AuthError::Ended);
}

#[tokio::test(start_paused = true)]
async fn an_end_on_another_node_is_known_here_within_five_seconds_though_nobody_says_so() {
    let node = Node::new();
    node.store.is_shared.store(true, Ordering::SeqCst);
    let other = Node::over(node.store.clone());
    let token = node.log_in("alice").await;
    let session = node.open(&token).await.unwrap();
    let end = other.sessions.end(session.sid(), EndReason::Logout);
    end.await.unwrap();
    // Clocks tick: what is one before the limit may be at it.
    node.clock.advance(BELIEVED);
    node.open(&token).await.unwrap();
    node.clock.advance(Duration::from_millis(1));
    assert!(!node.sessions.still_good(&session, ACTIVE));
    assert_eq!(node.open(&token).await.unwrap_err(), AuthError::Unknown);
}

#[tokio::test(start_paused = true)]
async fn sessions_of_a_shared_store_go_on_until_the_grace_is_over() {
    for trouble in [Trouble::Fails, Trouble::Freezes] {
        let node = Node::shared();
        let token = node.log_in("alice").await;
        let session = node.open(&token).await.unwrap();
        node.store.all(trouble);
        node.clock.advance(6 * SECOND);
        node.open(&token).await.unwrap();
        let (loads, begun) = (node.store.count("load"), Instant::now());
        for _ in 0..28 {
            node.clock.advance(10 * SECOND);
            assert_eq!(node.open(&token).await.unwrap().sid(), session.sid());
        }
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waited");
        assert_eq!(node.store.count("load"), loads, "nobody asked");
        node.clock.advance(Duration::from_millis(19_999));
        node.open(&token).await.unwrap();
        node.clock.advance(Duration::from_millis(1));
        let refused = node.open(&token).await.unwrap_err();
        assert!(matches!(refused, AuthError::Store(_)), "{refused}");
        node.store.all(Trouble::None);
        assert_eq!(node.open(&token).await.unwrap().sid(), session.sid());
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_grace_nobody_goes_on_unconfirmed() {
    let store = Arc::<Troubled>::default();
    store.is_shared.store(true, Ordering::SeqCst);
    let settings = Settings {
        outage_grace: Duration::ZERO,
        ..Settings::default()
    };
    let node = Node::of(store, settings, &[[7; 32]]);
    let token = node.log_in("alice").await;
    node.open(&token).await.unwrap();
    node.store.all(Trouble::Fails);
    node.clock.advance(BELIEVED);
    node.open(&token).await.unwrap();
    node.clock.advance(Duration::from_millis(1));
    let refused = node.open(&token).await.unwrap_err();
    assert_eq!(refused, AuthError::Store(unavailable()));
}

#[tokio::test(start_paused = true)]
async fn a_session_in_use_never_waits_for_a_store_that_freezes() {
    let node = Node::shared();
    let token = node.log_in("alice").await;
    node.open(&token).await.unwrap();
    node.store.all(Trouble::Freezes);
    for _ in 0..8 {
        node.clock.advance(SECOND);
        let begun = Instant::now();
        node.open(&token).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waited");
        tokio::time::sleep(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_confirmed_once_before_it_has_to_be() {
    let node = Node::shared();
    let token = node.log_in("alice").await;
    let session = node.open(&token).await.unwrap();
    let loads = node.store.count("load");
    node.clock.advance(3 * SECOND);
    assert!(!node.sessions.still_good(&session, ACTIVE));
    for opened in node.open_many(&token, 50).join_all().await {
        opened.unwrap();
    }
    assert_eq!(node.store.count("load"), loads + 1);
    node.clock.advance(2 * SECOND);
    node.open(&token).await.unwrap();
    assert_eq!(
        node.store.count("load"),
        loads + 1,
        "that is two seconds old"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hundred_requests_of_a_stale_session_ask_once_and_fail_together() {
    let node = Node::shared();
    let token = node.log_in("alice").await;
    node.open(&token).await.unwrap();
    let loads = node.store.count("load");
    node.clock.advance(6 * SECOND);
    node.store.all(Trouble::Freezes);
    let begun = Instant::now();
    for opened in node.open_many(&token, 100).join_all().await {
        opened.unwrap();
    }
    assert_eq!(begun.elapsed(), 2 * SECOND, "nobody waited for two");
    assert_eq!(node.store.count("load"), loads + 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_seems_idle_is_not_ended_while_nobody_can_be_asked() {
    let node = Node::shared();
    let token = node.log_in("alice").await;
    let sid = node.open(&token).await.unwrap().sid();
    node.store.all(Trouble::Fails);
    node.clock.advance(10 * HOUR);
    let refused = node.open(&token).await.unwrap_err();
    assert_eq!(refused, AuthError::Store(unavailable()));
    node.store.all(Trouble::None);
    // Another node has seen it.
    let seen = vec![(sid, node.clock.now())];
    node.store.touch(seen).await.unwrap();
    node.open(&token).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_over_in_an_outage_too() {
    let mut node = Node::shared();
    let token = node.log_in("alice").await;
    let session = node.open(&token).await.unwrap();
    for _ in 0..3 {
        node.clock.advance(Duration::from_secs(4 * 3600 - 1));
        node.open(&token).await.unwrap();
    }
    node.store.all(Trouble::Fails);
    node.clock.advance(10 * SECOND);
    assert_eq!(node.open(&token).await.unwrap_err(), AuthError::Ended);
    assert!(session.is_over());
    node.run_upkeep();
    node.store.all(Trouble::None);
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(node.audit(), ["absolute_timeout"]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_back_is_noticed_though_nobody_asks() {
    let mut node = Node::shared();
    let token = node.log_in("alice").await;
    node.open(&token).await.unwrap();
    node.store.all(Trouble::Freezes);
    node.clock.advance(6 * SECOND);
    node.open(&token).await.unwrap();
    node.run_upkeep();
    let other = Node::over(node.store.clone());
    node.store.all(Trouble::None);
    tokio::time::sleep(4 * SECOND).await;
    let end = other
        .sessions
        .end(node.open(&token).await.unwrap().sid(), EndReason::Logout);
    end.await.unwrap();
    node.clock.advance(6 * SECOND);
    assert_eq!(node.open(&token).await.unwrap_err(), AuthError::Unknown);
}

#[tokio::test(start_paused = true)]
async fn an_end_elsewhere_that_is_found_out_late_ends_what_is_open_here() {
    let node = Node::shared();
    let other = Node::over(node.store.clone());
    let token = node.log_in("alice").await;
    let session = node.open(&token).await.unwrap();
    let ended = tokio::spawn(session.ended());
    let end = other.sessions.end(session.sid(), EndReason::Logout);
    end.await.unwrap();
    node.clock.advance(6 * SECOND);
    assert_eq!(node.open(&token).await.unwrap_err(), AuthError::Unknown);
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_session_under_a_secret_that_is_missing_is_neither_opened_nor_forgotten() {
    let node = Node::new();
    let token = node.log_in("alice").await;
    let lacking = Node::with_secrets(node.store.clone(), &[[8; 32]]);
    for _ in 0..2 {
        let refused = lacking.open(&token).await.unwrap_err();
        assert_eq!(refused, AuthError::Unreadable);
    }
    // It is good where the secret is, and here too once that is back.
    node.open(&token).await.unwrap();
    let again = Node::with_secrets(node.store.clone(), &[[8; 32], [7; 32]]);
    assert_eq!(
        again.open(&token).await.unwrap().identity().unwrap().user,
        "alice"
    );
    assert_eq!(node.store.rows().await, 1);
    assert!(lacking.audit().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_session_of_a_newer_program_means_to_log_in_again() {
    let node = Node::new();
    let token = node.log_in("alice").await;
    node.store.all(Trouble::IsNewer);
    let refused = node.open(&token).await.unwrap_err();
    assert_eq!(refused, AuthError::Unreadable);
    node.store.all(Trouble::None);
    node.open(&token).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_a_token_that_was_replaced_ends_the_session_after_a_restart_too() {
    let node = Node::new();
    let old = node.log_in("alice").await;
    node.clock.advance(HOUR);
    let sid = node.open(&old).await.unwrap().sid();
    tokio::time::sleep(SECOND).await;
    let offer = node.open(&old).await.unwrap();
    let new = token_of(offer.renewal().expect("an offer"));
    node.open(&new).await.unwrap();
    tokio::time::sleep(SECOND).await;

    let later = Node::over(node.store.clone());
    later.clock.advance(HOUR + 10 * SECOND);
    assert_eq!(later.open(&old).await.unwrap_err(), AuthError::Reused(sid));
    assert!(later.open(&new).await.is_err());
    assert_eq!(later.audit(), ["token_reused"]);
}

#[tokio::test(start_paused = true)]
async fn an_old_token_that_was_shown_in_time_is_no_copy_however_slow_the_store_is() {
    let node = Node::new();
    let old = node.log_in("alice").await;
    node.clock.advance(HOUR);
    node.open(&old).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let offer = node.open(&old).await.unwrap();
    let new = token_of(offer.renewal().expect("an offer"));
    node.open(&new).await.unwrap();
    tokio::time::sleep(SECOND).await;

    let later = Node::over(node.store.clone());
    later.clock.advance(HOUR + 9 * SECOND);
    later.store.set("load", Trouble::Waits);
    let mut opening = later.open_many(&old, 1);
    later.store.waiting(1).await;
    later.clock.advance(SECOND);
    later.store.gate.add_permits(1);
    opening.join_next().await.unwrap().unwrap().unwrap();
    later.store.all(Trouble::None);
    node.open(&new).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_written_into_the_store_opens_no_session() {
    let node = Node::new();
    let token = Token::parse(node.log_in("alice").await.as_bytes()).unwrap();
    let known = node.store.load(token.hash()).await.unwrap().unwrap();
    let planted = Token::generate();
    let row = TokenRow {
        hash: planted.hash(),
        predecessor: Some(token.hash()),
        ..known.token
    };
    let successor = Successor {
        hash: planted.hash(),
        sealed: Vec::new(),
        seen: None,
    };
    let written = node.store.rotate(token.hash(), row, successor).await;
    assert_eq!(written.unwrap(), Rotation::Done);
    let refused = node.open(&planted.encode()).await.unwrap_err();
    assert_eq!(refused, AuthError::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_users_sessions_are_found_whichever_secret_they_began_under() {
    let old = Node::new();
    let token = old.log_in("alice").await;
    let node = Node::with_secrets(old.store.clone(), &[[8; 32], [7; 32]]);
    let newer = node.log_in("alice").await;
    let subject = login("alice").identity.subject;
    let ended = node.sessions.end_all_of(&subject, EndReason::UserChanged);
    assert_eq!(ended.await.unwrap(), 2);
    for token in [token, newer] {
        assert!(node.open(&token).await.is_err());
    }
    assert_eq!(node.store.rows().await, 0);
}

const ACTIVE: Presence = Presence {
    idle_timeout: None,
    activity: true,
};

/// One process's sessions over a store that can be given trouble.
struct Node {
    sessions: Arc<Sessions>,
    store: Arc<Troubled>,
    clock: Clock,
    folder: TempDir,
    log: LineWriter,
    touches: Option<Touches>,
}

impl Node {
    fn new() -> Self {
        Self::over(Arc::default())
    }

    /// Over a store that other nodes write to, and whose news never come.
    fn shared() -> Self {
        let node = Self::new();
        node.store.is_shared.store(true, Ordering::SeqCst);
        node
    }

    fn with(settings: Settings) -> Self {
        Self::of(Arc::default(), settings, &[[7; 32]])
    }

    fn over(store: Arc<Troubled>) -> Self {
        Self::with_secrets(store, &[[7; 32]])
    }

    fn with_secrets(store: Arc<Troubled>, secrets: &[[u8; 32]]) -> Self {
        let settings = Settings {
            idle_timeout: 10 * HOUR,
            ..Settings::default()
        };
        Self::of(store, settings, secrets)
    }

    fn of(store: Arc<Troubled>, settings: Settings, secrets: &[[u8; 32]]) -> Self {
        let secrets = secrets.iter().map(|&secret| Secret::new(secret)).collect();
        let folder = tempfile::tempdir().unwrap();
        let log = LineWriter::open(&Sink::File(folder.path().join("audit.log"))).unwrap();
        let clock = Clock::fixed(Timestamp::from_millis(1_800_000_000_000));
        let (sessions, touches) = Sessions::new(Parts {
            store: store.clone(),
            keyring: Arc::new(Keyring::new(secrets).unwrap()),
            settings,
            tickets: None,
            clock: clock.clone(),
            audit: Audit::new(log.clone(), clock.clone()),
            metrics: Arc::new(Metrics::new()),
            background: Handle::current(),
        });
        Self {
            sessions,
            store,
            clock,
            folder,
            log,
            touches: Some(touches),
        }
    }

    async fn log_in(&self, user: &str) -> String {
        token_of(&self.sessions.issue(login(user)).await.unwrap().cookie)
    }

    async fn open(&self, token: &str) -> Result<LiveSession, AuthError> {
        self.sessions.authenticate(token.as_bytes(), ACTIVE).await
    }

    fn open_many(&self, token: &str, count: usize) -> JoinSet<Result<LiveSession, AuthError>> {
        let mut requests = JoinSet::new();
        for _ in 0..count {
            let (sessions, token) = (self.sessions.clone(), token.to_owned());
            requests.spawn(async move { sessions.authenticate(token.as_bytes(), ACTIVE).await });
        }
        requests
    }

    fn run_upkeep(&mut self) {
        let (sessions, touches) = (self.sessions.clone(), self.touches.take());
        tokio::spawn(async move { sessions.run_upkeep(&mut touches.unwrap()).await });
    }

    /// Why sessions have ended, as the audit log says.
    fn audit(&self) -> Vec<String> {
        self.log.flush();
        let text = std::fs::read_to_string(self.folder.path().join("audit.log")).unwrap();
        let events = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|line| line["event"] == "session_ended");
        events
            .map(|line| line["reason"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Tells of this many sessions of the provider, named by numbers from `first`.
fn tell(node: &Node, first: usize, count: usize) -> JoinSet<(usize, Result<usize, StoreError>)> {
    let mut told = JoinSet::new();
    for number in first..first + count {
        let sessions = node.sessions.clone();
        told.spawn(async move {
            let name = format!("s{number}");
            (
                number,
                sessions.end_departed("local".to_owned(), name).await,
            )
        });
    }
    told
}

#[tokio::test]
async fn however_many_tell_of_an_end_the_store_is_looked_through_once_for_all() {
    let node = Node::new();
    let federated = |name: &str| Login {
        federated: Some(Federated {
            session: Some(name.to_owned()),
            hint: None,
            refresh: None,
            acr: None,
        }),
        ..login("alice")
    };
    let ends = node.sessions.issue(federated("s7")).await.unwrap();
    let stays = node.sessions.issue(federated("other")).await.unwrap();
    node.store.set("list", Trouble::Waits);
    let before = node.store.count("list");
    // One looks, and a thousand wait for the next look.
    let mut first = tell(&node, 0, 1);
    node.store.waiting(1).await;
    let mut told = tell(&node, 1, 1000);
    tokio::task::yield_now().await;
    let (_, refused) = tell(&node, 2000, 1).join_next().await.unwrap().unwrap();
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_))),
        "{refused:?}"
    );
    node.store.gate.add_permits(2);
    assert_eq!(first.join_next().await.unwrap().unwrap().1, Ok(0));
    while let Some(one) = told.join_next().await {
        let (number, ended) = one.unwrap();
        assert_eq!(ended, Ok(usize::from(number == 7)), "{number}");
    }
    assert_eq!(node.store.count("list") - before, 2);
    assert!(node.open(&token_of(&ends.cookie)).await.is_err());
    assert!(node.open(&token_of(&stays.cookie)).await.is_ok());

    // What cannot be looked for has not ended, and who told of it hears that.
    node.store.set("list", Trouble::Fails);
    let mut told = tell(&node, 0, 3);
    while let Some(one) = told.join_next().await {
        assert!(one.unwrap().1.is_err());
    }
}

fn login(user: &str) -> Login {
    Login {
        identity: Identity {
            subject: Subject {
                provider: "local".to_owned(),
                id: user.to_owned(),
            },
            user: user.to_owned(),
            name: None,
            email: None,
            groups: Vec::new(),
        },
        amr: vec!["pwd".to_owned()],
        proved: None,
        federated: None,
        address: [192, 0, 2, 1].into(),
        user_agent: None,
        remember: false,
        replaces: None,
        epoch: Epoch::default(),
        carries: None,
    }
}

fn token_of(cookie: &http::HeaderValue) -> String {
    let text = cookie.to_str().unwrap();
    let pair = text.split(';').next().unwrap();
    pair.strip_prefix("__Host-sid=").unwrap().to_owned()
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("as the test wants it".to_owned())
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Trouble {
    #[default]
    None,
    Fails,
    /// It never answers.
    Freezes,
    /// It holds what this program cannot read.
    IsNewer,
    /// What it answers comes when the gate lets it through.
    Waits,
}

/// A store in memory that does what the test wants.
#[derive(Debug)]
struct Troubled {
    inner: Memory,
    everywhere: Mutex<Trouble>,
    special: Mutex<HashMap<&'static str, Trouble>>,
    counts: Mutex<HashMap<&'static str, usize>>,
    gate: Semaphore,
    waiting: AtomicUsize,
    /// Other nodes write to it, and it brings no news of that.
    is_shared: AtomicBool,
}

impl Default for Troubled {
    fn default() -> Self {
        Self {
            inner: Memory::new(),
            everywhere: Mutex::default(),
            special: Mutex::default(),
            counts: Mutex::default(),
            gate: Semaphore::new(0),
            waiting: AtomicUsize::new(0),
            is_shared: AtomicBool::new(false),
        }
    }
}

impl Troubled {
    /// From now on, for every operation.
    fn all(&self, trouble: Trouble) {
        *self.everywhere.lock() = trouble;
        self.special.lock().clear();
    }

    /// From now on, for this operation.
    fn set(&self, operation: &'static str, trouble: Trouble) {
        self.special.lock().insert(operation, trouble);
    }

    fn count(&self, operation: &str) -> usize {
        self.counts.lock().get(operation).copied().unwrap_or(0)
    }

    async fn rows(&self) -> usize {
        self.inner.list(None, 1000).await.unwrap().len()
    }

    /// Returns once so many operations wait at the gate.
    async fn waiting(&self, count: usize) {
        while self.waiting.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
        self.waiting.store(0, Ordering::SeqCst);
    }

    async fn meet<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        *self.counts.lock().entry(operation).or_default() += 1;
        let special = self.special.lock().get(operation).copied();
        let trouble = special.unwrap_or(*self.everywhere.lock());
        match trouble {
            Trouble::None => work.await,
            Trouble::Fails => Err(unavailable()),
            Trouble::Freezes => std::future::pending().await,
            Trouble::IsNewer => Err(StoreError::Version(2)),
            Trouble::Waits => {
                let answer = work.await;
                self.waiting.fetch_add(1, Ordering::SeqCst);
                self.gate.acquire().await.unwrap().forget();
                answer
            }
        }
    }
}

#[async_trait]
impl SessionStore for Troubled {
    async fn create(&self, session: SessionRow, token: TokenRow) -> Result<Creation, StoreError> {
        self.meet("create", self.inner.create(session, token)).await
    }

    async fn load(&self, hash: TokenHash) -> Result<Option<Stored>, StoreError> {
        self.meet("load", self.inner.load(hash)).await
    }

    async fn update(&self, session: SessionRow) -> Result<Update, StoreError> {
        self.meet("update", self.inner.update(session)).await
    }

    async fn touch(&self, seen: Vec<(Sid, Timestamp)>) -> Result<(), StoreError> {
        self.meet("touch", self.inner.touch(seen)).await
    }

    async fn rotate(
        &self,
        old: TokenHash,
        next: TokenRow,
        successor: Successor,
    ) -> Result<Rotation, StoreError> {
        self.meet("rotate", self.inner.rotate(old, next, successor))
            .await
    }

    async fn confirm(&self, hash: TokenHash, at: Timestamp) -> Result<(), StoreError> {
        self.meet("confirm", self.inner.confirm(hash, at)).await
    }

    async fn remove(&self, sid: Sid) -> Result<bool, StoreError> {
        self.meet("remove", self.inner.remove(sid)).await
    }

    async fn epoch(&self, subject: SubjectTag) -> Result<Epoch, StoreError> {
        self.meet("epoch", self.inner.epoch(subject)).await
    }

    async fn begin_epoch(
        &self,
        subject: SubjectTag,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Epoch, StoreError> {
        let begun = self.inner.begin_epoch(subject, now, until);
        self.meet("begin_epoch", begun).await
    }

    async fn list(&self, after: Option<Sid>, limit: usize) -> Result<Vec<SessionRow>, StoreError> {
        self.meet("list", self.inner.list(after, limit)).await
    }

    async fn list_by_subject(
        &self,
        subject: SubjectTag,
        after: Option<Sid>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, StoreError> {
        self.meet("list", self.inner.list_by_subject(subject, after, limit))
            .await
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.meet("sweep", self.inner.sweep(now, limit)).await
    }

    fn has_other_writers(&self) -> bool {
        self.is_shared.load(Ordering::SeqCst)
    }

    fn invalidations(&self) -> Option<broadcast::Receiver<Invalidation>> {
        None
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.meet("probe", self.inner.probe()).await
    }
}
