//! Sessions in this process's memory: for tests, demos and whoever prefers that a restart logs everybody out.
//! It knows no disk and no other node.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::transition;
use super::{Creation, Invalidation, Rotation, SessionStore, StoreError, Update};
use crate::clock::Timestamp;
use crate::session::record::{Epoch, SessionRow, Stored, SubjectTag, Successor, TokenRow};
use crate::session::token::{Sid, TokenHash};

/// The store that keeps nothing.
#[derive(Debug, Default)]
pub struct Memory {
    maps: Mutex<Maps>,
}

impl Memory {
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl SessionStore for Memory {
    async fn create(&self, session: SessionRow, token: TokenRow) -> Result<Creation, StoreError> {
        self.maps.lock().create(session, token)
    }

    async fn load(&self, hash: TokenHash) -> Result<Option<Stored>, StoreError> {
        Ok(self.maps.lock().load(&hash))
    }

    async fn update(&self, session: SessionRow) -> Result<Update, StoreError> {
        Ok(self.maps.lock().update(session))
    }

    async fn touch(&self, seen: Vec<(Sid, Timestamp)>) -> Result<(), StoreError> {
        let mut maps = self.maps.lock();
        for (sid, at) in seen {
            maps.touch(sid, at);
        }
        Ok(())
    }

    async fn rotate(
        &self,
        old: TokenHash,
        next: TokenRow,
        successor: Successor,
    ) -> Result<Rotation, StoreError> {
        Ok(self.maps.lock().rotate(old, next, successor))
    }

    async fn confirm(&self, hash: TokenHash, at: Timestamp) -> Result<(), StoreError> {
        self.maps.lock().confirm(hash, at);
        Ok(())
    }

    async fn remove(&self, sid: Sid) -> Result<bool, StoreError> {
        Ok(self.maps.lock().remove(sid))
    }

    async fn epoch(&self, subject: SubjectTag) -> Result<Epoch, StoreError> {
        Ok(self.maps.lock().epoch(Some(subject)))
    }

    async fn begin_epoch(
        &self,
        subject: SubjectTag,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Epoch, StoreError> {
        let mut maps = self.maps.lock();
        let (epoch, kept) = maps.epochs.entry(subject).or_default();
        (*epoch, *kept) = (epoch.next(now), until.max(*kept));
        Ok(*epoch)
    }

    async fn list(&self, after: Option<Sid>, limit: usize) -> Result<Vec<SessionRow>, StoreError> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let maps = self.maps.lock();
        let rows = maps.sessions.range((start, Bound::Unbounded)).take(limit);
        Ok(rows.map(|(_, session)| session.clone()).collect())
    }

    async fn list_by_subject(
        &self,
        subject: SubjectTag,
        after: Option<Sid>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let start = match after {
            Some(sid) => Bound::Excluded((subject, sid)),
            None => Bound::Included((subject, FIRST)),
        };
        let maps = self.maps.lock();
        let names = maps
            .subjects
            .range((start, Bound::Included((subject, LAST))));
        let rows = names.filter_map(|(_, sid)| maps.sessions.get(sid));
        Ok(rows.take(limit).cloned().collect())
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let mut maps = self.maps.lock();
        maps.epochs.retain(|_, (_, until)| *until > now);
        let due = maps.expiry.range(..=(now, LAST)).take(limit);
        let ended: Vec<Sid> = due.map(|(_, sid)| *sid).collect();
        Ok(ended.into_iter().filter(|sid| maps.remove(*sid)).count())
    }

    fn invalidations(&self) -> Option<broadcast::Receiver<Invalidation>> {
        None
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

const FIRST: Sid = Sid::from_bytes([0; 16]);
const LAST: Sid = Sid::from_bytes([0xff; 16]);

/// The rows and their indexes. Every method leaves all of them in step.
#[derive(Debug, Default)]
struct Maps {
    sessions: BTreeMap<Sid, SessionRow>,
    tokens: HashMap<TokenHash, TokenRow>,
    tokens_of: HashMap<Sid, Vec<TokenHash>>,
    subjects: BTreeSet<(SubjectTag, Sid)>,
    expiry: BTreeSet<(Timestamp, Sid)>,
    /// With the moment until which each is remembered.
    epochs: HashMap<SubjectTag, (Epoch, Timestamp)>,
}

impl Maps {
    fn create(&mut self, session: SessionRow, token: TokenRow) -> Result<Creation, StoreError> {
        let known =
            self.sessions.contains_key(&session.sid) || self.tokens.contains_key(&token.hash);
        transition::new_session(known, &session, &token)?;
        if session.epoch < self.epoch(session.subject) {
            return Ok(Creation::Overtaken);
        }
        if let Some(subject) = session.subject {
            self.subjects.insert((subject, session.sid));
        }
        self.tokens_of.insert(session.sid, vec![token.hash]);
        self.tokens.insert(token.hash, token);
        self.expiry.insert((session.ends(), session.sid));
        self.sessions.insert(session.sid, session);
        Ok(Creation::Done)
    }

    fn epoch(&self, subject: Option<SubjectTag>) -> Epoch {
        let known = subject.and_then(|subject| self.epochs.get(&subject));
        known.map_or_else(Epoch::default, |(epoch, _)| *epoch)
    }

    fn load(&self, hash: &TokenHash) -> Option<Stored> {
        let token = self.tokens.get(hash)?.clone();
        let session = self.sessions.get(&token.sid)?.clone();
        (session.epoch >= self.epoch(session.subject)).then_some(Stored { token, session })
    }

    fn update(&mut self, wanted: SessionRow) -> Update {
        let Some(stored) = self.sessions.get(&wanted.sid) else {
            return Update::Gone;
        };
        let Some(next) = transition::updated(stored, wanted) else {
            return Update::Conflict;
        };
        let version = next.version;
        self.replace(next);
        Update::Done(version)
    }

    fn touch(&mut self, sid: Sid, at: Timestamp) {
        if let Some(mut session) = self.sessions.get(&sid).cloned()
            && transition::touch(&mut session, at)
        {
            self.replace(session);
        }
    }

    fn replace(&mut self, session: SessionRow) {
        let sid = session.sid;
        self.expiry.insert((session.ends(), sid));
        let ends = session.ends();
        if let Some(before) = self.sessions.insert(sid, session)
            && before.ends() != ends
        {
            self.expiry.remove(&(before.ends(), sid));
        }
    }

    fn rotate(&mut self, old: TokenHash, next: TokenRow, successor: Successor) -> Rotation {
        let Some(row) = self.tokens.get(&old) else {
            return Rotation::Gone;
        };
        if !self.sessions.contains_key(&row.sid) || row.sid != next.sid {
            return Rotation::Gone;
        }
        if let Some(winner) = &row.successor
            && self.tokens.contains_key(&winner.hash)
        {
            return Rotation::Superseded(winner.clone());
        }
        if let Some(row) = self.tokens.get_mut(&old) {
            row.successor = Some(successor);
        }
        self.tokens_of.entry(next.sid).or_default().push(next.hash);
        self.tokens.insert(next.hash, next);
        Rotation::Done
    }

    fn confirm(&mut self, hash: TokenHash, at: Timestamp) {
        let Some(token) = self.tokens.get_mut(&hash) else {
            return;
        };
        let Some(predecessor) = token.predecessor.take() else {
            return;
        };
        if let Some(row) = self.tokens.get_mut(&predecessor) {
            transition::confirm(row, hash, at);
        }
    }

    fn remove(&mut self, sid: Sid) -> bool {
        let Some(session) = self.sessions.remove(&sid) else {
            return false;
        };
        for hash in self.tokens_of.remove(&sid).into_iter().flatten() {
            self.tokens.remove(&hash);
        }
        if let Some(subject) = session.subject {
            self.subjects.remove(&(subject, sid));
        }
        self.expiry.remove(&(session.ends(), sid));
        true
    }
}
