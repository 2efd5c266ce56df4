//! Where sessions live: one trait, passed by one contract suite (`tests/it/store_contract.rs`).
//!
//! What a store may forget: a touch (the session ends a little early). What it may never forget once it has
//! answered: `create`, `update`, `rotate`, `confirm`, `remove`, `begin_epoch`. What it may never do: bring back what was
//! removed, or load what an epoch has overtaken. `update`, `touch`, `rotate` and `confirm` never create.

mod checked;
mod embedded;
mod memory;
mod postgres;
mod redis;
mod transition;

#[cfg(feature = "redis")]
pub use self::redis::Redis;
pub use self::redis::{RedisServers, RedisSettings, RedisTls};
pub use embedded::Embedded;
pub use memory::Memory;
#[cfg(feature = "postgres")]
pub use postgres::Postgres;
pub use postgres::{PostgresServer, PostgresSettings, PostgresTls};

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::record::{Epoch, SessionRow, Stored, SubjectTag, Successor, TokenRow};
use super::token::{Sid, TokenHash};
use crate::clock::Timestamp;

#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync + 'static {
    /// Keeps a new session and its first token, both or neither. Neither where its subject's epoch is a newer one by now.
    async fn create(&self, session: SessionRow, token: TokenRow) -> Result<Creation, StoreError>;

    /// The token with this hash and its session. `None` where either is unknown, and where the session began under an
    /// epoch that is over; expiry is the caller's to judge.
    async fn load(&self, hash: TokenHash) -> Result<Option<Stored>, StoreError>;

    /// Replaces `listing`, `private` and `expires` where the stored version is still `session.version`; the
    /// stored version then grows by one. `last_seen` is never moved back.
    async fn update(&self, session: SessionRow) -> Result<Update, StoreError>;

    /// Notes activity. Moves `last_seen` forward only; unknown sessions are passed over.
    async fn touch(&self, seen: Vec<(Sid, Timestamp)>) -> Result<(), StoreError>;

    /// Makes `next` the token after `old`, both rows or neither. `successor` describes `next` to the holder of `old`.
    /// Of several callers with one `old`, one wins; the others learn who did.
    async fn rotate(
        &self,
        old: TokenHash,
        next: TokenRow,
        successor: Successor,
    ) -> Result<Rotation, StoreError>;

    /// `hash` was presented for the first time: its predecessor's `successor.seen` becomes `at` (unless it is set
    /// already) and its own `predecessor` is cleared. Unknown tokens and tokens without predecessor are left alone.
    async fn confirm(&self, hash: TokenHash, at: Timestamp) -> Result<(), StoreError>;

    /// Ends a session: it, all its tokens and every index entry are gone. `false` where there was none.
    async fn remove(&self, sid: Sid) -> Result<bool, StoreError>;

    /// The epoch of a subject, for a login that is about to begin.
    async fn epoch(&self, subject: SubjectTag) -> Result<Epoch, StoreError>;

    /// Ends all sessions of a subject at once, those that are on their way included: from the answer on, none is loaded
    /// or created that began under an earlier epoch than the one returned, which is [`Epoch::next`]. They are in lists
    /// until they are removed. The epoch is remembered until `until` at least, and told to every other node.
    async fn begin_epoch(
        &self,
        subject: SubjectTag,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Epoch, StoreError>;

    /// Takes on what is to be done once about a session that has ended, whichever nodes know of it: `true` for the first that
    /// asks. It is remembered for about as long as is said. Where no other process writes, that is us.
    async fn claim_end(&self, _: Sid, _: Duration) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Sessions in the order of their sid, after `after`, at most `limit`.
    async fn list(&self, after: Option<Sid>, limit: usize) -> Result<Vec<SessionRow>, StoreError>;

    /// One subject's sessions, likewise.
    async fn list_by_subject(
        &self,
        subject: SubjectTag,
        after: Option<Sid>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, StoreError>;

    /// Removes at most `limit` sessions that have ended by `now` ([`SessionRow::ends`]) and tells how many. Epochs whose
    /// time is over may go, too.
    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError>;

    /// Whether anybody else may change what this store holds without [`SessionStore::invalidations`] being sure to say
    /// so at once. `false`: what was loaded stays true until this process changes it, or is told.
    fn has_other_writers(&self) -> bool {
        false
    }

    /// News of what other nodes ended. `None` where this process is the only one that writes.
    fn invalidations(&self) -> Option<broadcast::Receiver<Invalidation>>;

    /// A cheap round trip, for the readiness check.
    async fn probe(&self) -> Result<(), StoreError>;
}

/// How [`SessionStore::create`] went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Creation {
    Done,
    /// All sessions of the subject were ended since the login began, and this one with them.
    Overtaken,
}

/// How [`SessionStore::update`] went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Update {
    /// Stored; this is the version now.
    Done(u64),
    /// Somebody else was faster: load again.
    Conflict,
    /// The session has ended.
    Gone,
}

/// How [`SessionStore::rotate`] went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Rotation {
    Done,
    /// Somebody else was faster; this is their successor.
    Superseded(Successor),
    /// The token or its session is unknown.
    Gone,
}

/// What a store with several writers tells each of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Invalidation {
    Ended(Sid),
    /// All sessions of a subject that began under an earlier epoch.
    EndedBefore(SubjectTag, Epoch),
    /// Messages may have been lost: nothing that was cached before this can be trusted.
    Interrupted,
    /// No messages come for now, which [`Invalidation::Interrupted`] ends: what is cached is to be confirmed soon, and is
    /// good until it is too old. The store itself may be as silent, and nobody is to wait for it.
    Silent,
}

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// Too much is waiting already.
    #[error("the session store has too many operations waiting")]
    Busy,
    #[error("the session store holds a damaged record: {0}")]
    Damaged(String),
    #[error("the session store did not answer in time")]
    Timeout,
    /// By a newer program, or by one that is long gone.
    #[error("the session store holds a record of version {0}, which this program does not read")]
    Version(u8),
    #[error("the session store failed: {0}")]
    Unavailable(String),
}
