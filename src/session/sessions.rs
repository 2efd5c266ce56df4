//! The verb: authenticate. How sessions begin is in `issuing`, how they end in `ending`, how tokens are replaced in
//! `rotation`; everything that lives longer than a request is in `upkeep`.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::cache::Cache;
use super::ending::Owed;
use super::federation::Departures;
use super::issuing::Doors;
use super::lifecycle::{OldToken, Policy, Verdict, judge, judge_old_token};
use super::live::{Entry, LiveSession};
use super::loading::Freshness;
use super::outage::Outage;
use super::record::SubjectTag;
use super::registry::Registry;
use super::store::{SessionStore, StoreError};
use super::ticket::Tickets;
use super::ticketing::Desk;
use super::token::{Sid, Token};
use super::visitors::Births;
use super::{EndReason, Settings};
use crate::clock::{Clock, Timestamp};
use crate::identity::Subject;
use crate::secret::{Keyring, Purpose};
use crate::telemetry::{Audit, Metrics, SessionEvent, StoreOp};

/// Activity that waits to be saved. What does not fit is noticed again at the next request.
const TOUCH_QUEUE: usize = 65_536;

/// Every session of this node.
#[derive(Debug)]
pub struct Sessions {
    pub(super) store: Arc<dyn SessionStore>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) cache: Cache,
    pub(super) registry: Arc<Registry>,
    /// Logins of one user wait for each other here, and seldom for anybody else's.
    pub(super) doors: Doors,
    /// As do changes of one session's data here.
    pub(super) turns: Doors,
    pub(super) births: Births,
    pub(super) departures: Departures,
    /// `None` where tokens are the only credential.
    pub(super) desk: Option<Desk>,
    pub(super) touches: mpsc::Sender<(Sid, Timestamp)>,
    pub(super) owed: Mutex<Owed>,
    pub(super) outage: Outage,
    /// When the log was last told of sessions that cannot be read here.
    pub(super) said_unreadable: Mutex<Option<Timestamp>>,
    pub(super) audit: Audit,
    pub(super) metrics: Arc<Metrics>,
    /// Where work goes that no request waits for.
    pub(super) background: Handle,
}

/// What [`Sessions`] is made of.
#[derive(Debug)]
pub struct Parts {
    pub store: Arc<dyn SessionStore>,
    pub keyring: Arc<Keyring>,
    pub settings: Settings,
    /// Where sessions are also known by tickets.
    pub tickets: Option<Tickets>,
    pub clock: Clock,
    pub audit: Audit,
    pub metrics: Arc<Metrics>,
    pub background: Handle,
}

/// Activity that waits to be saved; `upkeep` takes it from here.
#[derive(Debug)]
pub struct Touches(pub(super) mpsc::Receiver<(Sid, Timestamp)>);

/// What a request means for the life of a session.
#[derive(Clone, Copy, Debug)]
pub struct Presence {
    /// The route's own idle timeout, where it is narrower than the session's.
    pub idle_timeout: Option<Duration>,
    /// `false`: this request does not keep the session alive.
    pub activity: bool,
}

/// Why a token opens nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AuthError {
    #[error("the session has ended")]
    Ended,
    /// The session lives on, but not for a route with so short an idle timeout.
    #[error("the session was idle for too long for this route")]
    Idle,
    /// It had been replaced, and its successor was seen: somebody else holds a copy. The session has just ended.
    #[error("the token had been replaced, its session has ended")]
    Reused(Sid),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody issued it, or its session has ended long ago.
    #[error("the token is unknown")]
    Unknown,
    /// It belongs to a session that this node cannot read: sealed under a secret that is missing here, or written by a
    /// newer program. Another node may know better, or this one later.
    #[error("the session cannot be read here")]
    Unreadable,
}

/// What an administrator may see of a session.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Listing {
    /// `None` for a visitor who has not logged in.
    pub who: Option<Who>,
    pub address: IpAddr,
    pub user_agent: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Who {
    pub subject: Subject,
    pub user: String,
    /// The session of the provider that they logged in at.
    pub elsewhere: Option<String>,
}

impl Sessions {
    pub fn new(parts: Parts) -> (Arc<Self>, Touches) {
        let Parts {
            store,
            keyring,
            settings,
            tickets,
            clock,
            audit,
            metrics,
            background,
        } = parts;
        let (touches, waiting) = mpsc::channel(TOUCH_QUEUE);
        let sessions = Self {
            cache: Cache::new(&settings),
            registry: Arc::default(),
            doors: Doors::default(),
            turns: Doors::default(),
            births: Births::default(),
            departures: Departures::default(),
            desk: tickets.map(|tickets| Desk::new(tickets, &settings)),
            store,
            keyring,
            settings,
            clock,
            touches,
            owed: Mutex::default(),
            outage: Outage::default(),
            said_unreadable: Mutex::default(),
            audit,
            metrics,
            background,
        };
        (Arc::new(sessions), Touches(waiting))
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The session of a cookie's value, if it is good now.
    pub async fn authenticate(
        self: &Arc<Self>,
        cookie: &[u8],
        presence: Presence,
    ) -> Result<LiveSession, AuthError> {
        let token = Token::parse(cookie).ok_or(AuthError::Unknown)?;
        let shown = self.clock.now();
        let mut entry = self.find(&token).await?;
        match self.freshness(&entry) {
            Freshness::Ageing => self.confirm_ahead(&token, &entry),
            Freshness::Fresh => {}
            // Another node may know of an end that this one does not.
            Freshness::Stale => entry = self.confirmed(&token, entry).await?,
        }
        if self.verdict(&entry, presence) == Verdict::Idle {
            // Or of activity.
            entry = self.refresh(&token, &entry).await?;
        }
        let replaced = entry.live.replaced();
        if entry.live.is_over() {
            return Err(AuthError::Ended);
        }
        // However long the store took to answer, it was shown when it was.
        if self.judge_replaced(&entry, shown) == OldToken::Reused {
            self.metrics.session(SessionEvent::TokenReused);
            self.end_here(entry.live.sid, EndReason::TokenReused).await;
            return Err(AuthError::Reused(entry.live.sid));
        }
        match self.verdict(&entry, presence) {
            Verdict::Expired => Err(self.end_timed(&entry, EndReason::AbsoluteTimeout).await),
            Verdict::Idle
                if presence.idle_timeout.is_some() && self.idles_only_here(&entry, presence) =>
            {
                Err(AuthError::Idle)
            }
            Verdict::Idle => Err(self.end_timed(&entry, EndReason::IdleTimeout).await),
            verdict => {
                if verdict == Verdict::Rotate {
                    self.replace_soon(&entry, token);
                }
                self.note_activity(&entry, presence);
                Ok(LiveSession { entry, replaced })
            }
        }
    }

    /// Whether a session that this connection saw a moment ago is plainly good: a few comparisons, nothing shared is
    /// locked. `false` says nothing; [`Sessions::authenticate`] then decides.
    pub fn still_good(&self, session: &LiveSession, presence: Presence) -> bool {
        let entry = &session.entry;
        let is_newest =
            entry.successor_seen().is_none() && entry.live.replaced() == session.replaced;
        if entry.live.is_over() || !is_newest || self.freshness(entry) != Freshness::Fresh {
            return false;
        }
        match self.verdict(entry, presence) {
            Verdict::Live | Verdict::Touch => {
                self.note_activity(entry, presence);
                true
            }
            Verdict::Expired | Verdict::Idle | Verdict::Rotate => false,
        }
    }

    /// Notes what a request means for the life of its session, where that was not to be said before it was judged.
    pub fn note(&self, session: &LiveSession, presence: Presence) {
        self.note_activity(&session.entry, presence);
    }

    /// How many sessions the store holds.
    pub async fn stored(&self) -> Result<usize, StoreError> {
        const PAGE: usize = 1000;
        let (mut count, mut after) = (0, None);
        loop {
            let page = self
                .within(StoreOp::List, self.store.list(after, PAGE))
                .await?;
            count += page.len();
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.sid),
                _ => return Ok(count),
            }
        }
    }

    pub(super) fn wrap_key(&self, token: &Token, sid: Sid, key: &[u8; 32]) -> Vec<u8> {
        self.keyring
            .seal_for(token.key(), Purpose::SessionKey, sid.as_bytes(), key)
    }

    pub(super) fn unwrap_key(
        &self,
        token: &Token,
        sid: Sid,
        sealed: &[u8],
    ) -> Option<Zeroizing<[u8; 32]>> {
        let key =
            self.keyring
                .open_for(token.key(), Purpose::SessionKey, sid.as_bytes(), sealed)?;
        key.as_slice().try_into().ok().map(Zeroizing::new)
    }

    pub(super) fn verdict(&self, entry: &Entry, presence: Presence) -> Verdict {
        judge(&entry.clocking(), &self.policy(presence), self.clock.now())
    }

    fn judge_replaced(&self, entry: &Entry, shown: Timestamp) -> OldToken {
        judge_old_token(entry.successor_seen(), shown, self.settings.rotate_grace)
    }

    /// The session as a whole is not idle: only the route is stricter.
    fn idles_only_here(&self, entry: &Entry, presence: Presence) -> bool {
        let everywhere = Presence {
            idle_timeout: None,
            ..presence
        };
        self.verdict(entry, everywhere) != Verdict::Idle
    }

    fn policy(&self, presence: Presence) -> Policy {
        Policy {
            touch_interval: self.settings.touch_interval,
            rotate_interval: self.settings.rotate_interval,
            idle_timeout: presence.idle_timeout,
            activity: presence.activity,
        }
    }

    pub(super) fn note_activity(&self, entry: &Entry, presence: Presence) {
        if !presence.activity {
            return;
        }
        let now = self.clock.now();
        entry.live.see(now);
        let clocking = entry.clocking();
        let due = clocking.touch_due(&self.policy(presence), now);
        if due && entry.live.claim_save(clocking.last_saved, now) {
            // A full queue loses nothing that the next interval does not bring again.
            let _queued = self.touches.try_send((entry.live.sid, now));
        }
    }

    /// The index entries of a subject under each server secret, the newest first.
    pub(super) fn subject_tags(&self, subject: &Subject) -> Vec<SubjectTag> {
        // Hashed one by one, so that no two subjects run together into the same text.
        let provider = digest(&SHA256, subject.provider.as_bytes());
        let data = [provider.as_ref(), subject.id.as_bytes()].concat();
        self.keyring
            .tags(Purpose::Subject, &data)
            .map(SubjectTag)
            .collect()
    }

    /// One store operation, under the time limit, measured.
    pub(super) async fn within<T>(
        &self,
        op: StoreOp,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begun = tokio::time::Instant::now();
        let done = tokio::time::timeout(self.settings.store_timeout, work).await;
        let result = done.unwrap_or(Err(StoreError::Timeout));
        self.metrics.store(op, begun.elapsed());
        if result.is_err() {
            self.metrics.store_failed(op);
        }
        self.note_health(op, result.as_ref().err());
        result
    }
}

pub(super) fn pack<T: Serialize>(value: &T) -> Zeroizing<Vec<u8>> {
    let packed = postcard::to_stdvec(value);
    #[expect(clippy::expect_used, reason = "plain structs into memory cannot fail")]
    Zeroizing::new(packed.expect("serialise"))
}
