//! Sessions as this node holds them: one [`Live`] per session, one [`Entry`] per token, and [`LiveSession`], the proof
//! that a request belongs to a session that is good.

mod proof;

pub use proof::LiveSession;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::EndReason;
use super::binding::Origin;
use super::data::Known;
use super::lifecycle::Clocking;
use super::loading::Refresh;
use super::record::{Epoch, SessionRow, SubjectTag};
use super::registry::Registry;
use super::token::{Sid, TokenHash};
use crate::clock::Timestamp;
use crate::identity::{Federated, Identity, IdentityHeaders, Kept, Subject};

/// What is sealed under the session's own key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Private {
    /// `None` for a visitor who has not logged in.
    pub identity: Option<Identity>,
    pub auth_time: Timestamp,
    /// How the user proved who they are (RFC 8176): `pwd`.
    pub amr: Vec<String>,
    /// Where that was.
    pub origin: Origin,
    /// The user asked to be remembered: the cookie outlives the browser.
    pub remembered: bool,
    /// Of who logged in at a provider.
    pub federated: Option<Federated>,
}

/// One session, shared by all its tokens and by everything that must end with it.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) sid: Sid,
    pub(super) subject: Option<Subject>,
    began: Option<(SubjectTag, Epoch)>,
    expires: AtomicU64,
    idle_timeout: Duration,
    last_seen: AtomicU64,
    last_saved: AtomicU64,
    /// How many of its tokens were seen to be replaced.
    replaced: AtomicU32,
    pub(super) data: Known,
    /// 0 while it lives, else the [`EndReason`] plus one.
    over: AtomicU8,
    ended: Notify,
    /// When it is looked at next, since its end is waited for; 0: nobody does.
    place: AtomicU64,
    /// Something is open that ends with it.
    has_open: AtomicBool,
    registry: Weak<Registry>,
}

impl Live {
    pub(super) fn new(row: &SessionRow, private: &Private, registry: &Arc<Registry>) -> Self {
        Self {
            sid: row.sid,
            subject: private
                .identity
                .as_ref()
                .map(|identity| identity.subject.clone()),
            began: row.subject.map(|subject| (subject, row.epoch)),
            expires: AtomicU64::new(row.expires.as_millis()),
            idle_timeout: Duration::from_millis(row.idle_millis),
            last_seen: AtomicU64::new(row.last_seen.as_millis()),
            last_saved: AtomicU64::new(row.last_seen.as_millis()),
            replaced: AtomicU32::new(0),
            data: Known::default(),
            over: AtomicU8::new(0),
            ended: Notify::new(),
            place: AtomicU64::new(0),
            has_open: AtomicBool::new(false),
            registry: Arc::downgrade(registry),
        }
    }

    /// What the store knows of its activity and its end, which may be news from another node. Neither ever moves back.
    pub(super) fn learn(&self, row: &SessionRow) {
        let seen = row.last_seen.as_millis();
        self.last_seen.fetch_max(seen, Ordering::Relaxed);
        self.last_saved.fetch_max(seen, Ordering::Relaxed);
        self.expires
            .fetch_max(row.expires.as_millis(), Ordering::Relaxed);
        self.data.jars.see(row.version);
    }

    /// One of its tokens has been replaced: whoever remembers a session looks it up anew.
    pub(super) fn note_replaced(&self) {
        self.replaced.fetch_add(1, Ordering::Release);
    }

    pub(super) fn replaced(&self) -> u32 {
        self.replaced.load(Ordering::Acquire)
    }

    pub(super) fn end(&self, reason: EndReason) {
        let code = reason as u8 + 1;
        let first = self
            .over
            .compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire);
        if first.is_ok() {
            self.ended.notify_waiters();
            if let Some(registry) = self.registry.upgrade() {
                let end = (self.sid, reason);
                registry.listener.tell(end, || self.data.jars.last());
            }
        }
    }

    /// Its subject's when its login began.
    pub(super) fn epoch(&self) -> Epoch {
        self.began.map(|(_, epoch)| epoch).unwrap_or_default()
    }

    pub(super) const fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// Whether it began under an earlier epoch of this subject.
    pub(super) fn began_before(&self, subject: SubjectTag, epoch: Epoch) -> bool {
        self.began
            .is_some_and(|(whose, began)| whose == subject && began < epoch)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire) != 0
    }

    /// Notes activity. A request that changes nothing visible writes nothing, so that workers do not take the line
    /// from each other.
    pub(super) fn see(&self, now: Timestamp) {
        const RESOLUTION: u64 = 1000;
        let now = now.as_millis();
        let seen = self.last_seen.load(Ordering::Relaxed);
        if now >= seen.saturating_add(RESOLUTION) {
            self.last_seen.fetch_max(now, Ordering::Relaxed);
        }
    }

    /// `true` for the one caller that is to save the activity up to `now`.
    pub(super) fn claim_save(&self, before: Timestamp, now: Timestamp) -> bool {
        let (before, now) = (before.as_millis(), now.as_millis());
        let swapped =
            self.last_saved
                .compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed);
        swapped.is_ok()
    }

    pub(super) fn last_seen(&self) -> Timestamp {
        Timestamp::from_millis(self.last_seen.load(Ordering::Relaxed))
    }

    pub(super) fn expires(&self) -> Timestamp {
        Timestamp::from_millis(self.expires.load(Ordering::Relaxed))
    }

    /// When it ends if nothing more is heard of it.
    pub(super) fn ends(&self) -> Timestamp {
        let idle = self.last_seen().after(self.idle_timeout);
        idle.min(self.expires())
    }

    /// Its place among those that are waited on, for the one caller that is to note it there.
    pub(super) fn claim_place(&self) -> Option<Timestamp> {
        let at = self.ends();
        let first =
            self.place
                .compare_exchange(0, at.as_millis(), Ordering::AcqRel, Ordering::Acquire);
        first.is_ok().then_some(at)
    }

    pub(super) fn set_place(&self, at: Timestamp) {
        self.place.store(at.as_millis(), Ordering::Release);
    }

    pub(super) fn place(&self) -> Option<Timestamp> {
        let at = self.place.load(Ordering::Acquire);
        (at != 0).then(|| Timestamp::from_millis(at))
    }

    /// Its limits are kept from now on, whether or not a request comes.
    fn be_awaited(&self) {
        if !self.has_open() {
            self.has_open.store(true, Ordering::Relaxed);
        }
        if self.place().is_none()
            && let Some(registry) = self.registry.upgrade()
        {
            registry.await_end(self);
        }
    }

    /// Whether a stream or a tunnel waits for its end, or has.
    pub(super) fn has_open(&self) -> bool {
        self.has_open.load(Ordering::Relaxed)
    }

    fn last_saved(&self) -> Timestamp {
        Timestamp::from_millis(self.last_saved.load(Ordering::Relaxed))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.forget(self.sid);
        }
    }
}

/// When something was read from the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) at: Timestamp,
    /// The cache's era then: what an interruption of the news came after is no longer believed.
    pub(super) era: u32,
}

/// A ticket for the browser, and when it was made.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) at: Timestamp,
    pub(super) cookie: HeaderValue,
}

/// One token, as the cache holds it; or a ticket, which is as good until its own end.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) hash: TokenHash,
    pub(super) live: Arc<Live>,
    /// What was true when this token was read. A login that changes any of it comes with a token of its own.
    pub(super) private: Private,
    /// The session's own key, which no ticket holds.
    pub(super) key: Option<Zeroizing<[u8; 32]>>,
    /// The end of a ticket, whatever becomes of the session.
    until: Timestamp,
    /// The latest ticket that was made for it.
    pub(super) handed: ArcSwapOption<Handed>,
    /// What the session's data took when the cache was last told.
    weighed: AtomicUsize,
    headers: OnceLock<IdentityHeaders>,
    assertions: Arc<Kept>,
    pub(super) issued: Timestamp,
    pub(super) read: Reading,
    /// It is being confirmed, or that was tried.
    pub(super) asked: AtomicBool,
    /// The look at the store that is under way.
    pub(super) refresh: Mutex<Option<Refresh>>,
    /// Its provider is being asked about its user, or was.
    pub(super) refreshing: AtomicBool,
    /// A new token is being made.
    pub(super) rotating: AtomicBool,
    /// The audit log has been told that the token was used from elsewhere.
    pub(super) noted_move: AtomicBool,
    /// The cookie with the token that replaces this one.
    pub(super) successor: OnceLock<HeaderValue>,
    /// When that one was first presented, in milliseconds; 0: not yet.
    successor_seen: AtomicU64,
}

impl Entry {
    pub(super) fn new(
        hash: TokenHash,
        (live, private, key): (Arc<Live>, Private, Zeroizing<[u8; 32]>),
        issued: Timestamp,
        read: Reading,
    ) -> Self {
        Self {
            hash,
            live,
            private,
            key: Some(key),
            until: Timestamp::MAX,
            handed: ArcSwapOption::empty(),
            weighed: AtomicUsize::new(0),
            headers: OnceLock::new(),
            assertions: Arc::default(),
            issued,
            read,
            asked: AtomicBool::new(false),
            refresh: Mutex::default(),
            refreshing: AtomicBool::new(false),
            rotating: AtomicBool::new(false),
            noted_move: AtomicBool::new(false),
            successor: OnceLock::new(),
            successor_seen: AtomicU64::new(0),
        }
    }

    /// Of a ticket. The store is not asked for it, not even whether it still stands, and it is not replaced: it runs out.
    pub(super) fn of_ticket(
        hash: TokenHash,
        (live, private): (Arc<Live>, Private),
        until: Timestamp,
    ) -> Self {
        let always = Reading {
            at: Timestamp::MAX,
            era: u32::MAX,
        };
        let no_key = Zeroizing::new([0; 32]);
        Self {
            key: None,
            until,
            asked: AtomicBool::new(true),
            ..Self::new(hash, (live, private, no_key), Timestamp::MAX, always)
        }
    }

    /// Takes over what was signed for an entry that this one takes the place of, if it says the same.
    #[must_use]
    pub(super) fn in_place_of(mut self, before: &Self) -> Self {
        if self.private == before.private {
            self.assertions = before.assertions.clone();
        }
        self
    }

    /// What the session's data takes in memory, which the cache then knows.
    pub(super) fn weigh_data(&self) -> usize {
        let bytes = self.live.data.bytes();
        self.weighed.store(bytes, Ordering::Relaxed);
        bytes
    }

    /// Whether it takes more or less by now.
    pub(super) fn is_outweighed(&self) -> bool {
        self.live.data.bytes() != self.weighed.load(Ordering::Relaxed)
    }

    pub(super) fn clocking(&self) -> Clocking {
        Clocking {
            last_seen: self.live.last_seen(),
            last_saved: self.live.last_saved(),
            // A token that was replaced is not due to be replaced.
            issued: if self.is_replaced() {
                Timestamp::MAX
            } else {
                self.issued
            },
            idle_timeout: self.live.idle_timeout,
            expires: self.live.expires().min(self.until),
        }
    }

    pub(super) fn successor_seen(&self) -> Option<Timestamp> {
        let seen = self.successor_seen.load(Ordering::Acquire);
        (seen != 0).then(|| Timestamp::from_millis(seen))
    }

    /// The first report counts.
    pub(super) fn see_successor(&self, at: Timestamp) {
        let at = at.as_millis().max(1);
        // A later report changes nothing, which is as it should be.
        let _first =
            self.successor_seen
                .compare_exchange(0, at, Ordering::AcqRel, Ordering::Acquire);
    }

    fn is_replaced(&self) -> bool {
        self.rotating.load(Ordering::Relaxed)
            || self.successor.get().is_some()
            || self.successor_seen.load(Ordering::Relaxed) != 0
    }
}
