//! The tables, and every change to them inside one write transaction. It knows no thread and no commit.
//!
//! Each change reads and checks everything before its first write: one that is refused has left nothing behind
//! in the transaction that it shares with others.

use redb::{ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use super::file::Fault;
use super::rows::{self, Begun, Filed};
use crate::clock::Timestamp;
use crate::session::record::{Epoch, SessionRow, SubjectTag, Successor, TokenRow};
use crate::session::store::{Creation, Rotation, Update, transition};
use crate::session::token::{Sid, TokenHash};

pub(super) type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
type Open<'txn> = Table<'txn, &'static [u8], &'static [u8]>;

pub(super) const META: Definition = TableDefinition::new("meta");
/// sid → [`Filed`].
pub(super) const SESSIONS: Definition = TableDefinition::new("sessions");
/// token hash → [`TokenRow`].
pub(super) const TOKENS: Definition = TableDefinition::new("tokens");
/// sid, token hash → nothing.
pub(super) const TOKENS_OF: Definition = TableDefinition::new("tokens_of");
/// subject, sid → nothing.
pub(super) const SUBJECTS: Definition = TableDefinition::new("subjects");
/// end, sid → subject. A touch leaves the entry where it stands; the sweep moves it when its time has come.
pub(super) const EXPIRY: Definition = TableDefinition::new("expiry");

/// subject → [`Begun`].
pub(super) const EPOCHS: Definition = TableDefinition::new("epochs");
/// end of its time, subject → nothing.
pub(super) const EPOCHS_UNTIL: Definition = TableDefinition::new("epochs_until");

/// How many due entries one sweeping change looks at, so that others get their turn.
const SWEEP_STEP: usize = 512;

pub(super) fn create_tables(transaction: &WriteTransaction) -> Result<(), Fault> {
    Tables::open(transaction)?;
    Ok(())
}

/// What one step of a sweep did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Swept {
    pub(super) removed: usize,
    /// Entries that are due may be left.
    pub(super) more: bool,
}

/// Every table, open for writing.
pub(super) struct Tables<'txn> {
    sessions: Open<'txn>,
    tokens: Open<'txn>,
    tokens_of: Open<'txn>,
    subjects: Open<'txn>,
    expiry: Open<'txn>,
    epochs: Open<'txn>,
    epochs_until: Open<'txn>,
}

impl<'txn> Tables<'txn> {
    pub(super) fn open(transaction: &'txn WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            sessions: transaction.open_table(SESSIONS)?,
            tokens: transaction.open_table(TOKENS)?,
            tokens_of: transaction.open_table(TOKENS_OF)?,
            subjects: transaction.open_table(SUBJECTS)?,
            expiry: transaction.open_table(EXPIRY)?,
            epochs: transaction.open_table(EPOCHS)?,
            epochs_until: transaction.open_table(EPOCHS_UNTIL)?,
        })
    }

    pub(super) fn create(
        &mut self,
        session: SessionRow,
        token: &TokenRow,
    ) -> Result<Creation, Fault> {
        let sid = session.sid;
        let known = self.sessions.get(sid.as_bytes().as_slice())?.is_some()
            || self.tokens.get(token.hash.as_bytes().as_slice())?.is_some();
        transition::new_session(known, &session, token)?;
        if let Some(subject) = session.subject
            && session.epoch < self.begun(subject)?.epoch
        {
            return Ok(Creation::Overtaken);
        }
        if let Some(subject) = session.subject {
            let key = rows::of_subject(subject, sid);
            self.subjects.insert(key.as_slice(), [].as_slice())?;
        }
        let due = session.ends();
        self.file_expiry(due, &session)?;
        self.put_token(token)?;
        self.put_session(&Filed { due, session })?;
        Ok(Creation::Done)
    }

    pub(super) fn begin_epoch(
        &mut self,
        subject: SubjectTag,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Epoch, Fault> {
        let key = subject.0.as_slice();
        let before = match self.begun(subject) {
            Ok(before) => before,
            Err(Fault::Refused(error)) => {
                // Whichever it was, a new one is newer: it is about the time of day.
                tracing::warn!(%error, "the epoch of a subject could not be read");
                Begun::default()
            }
            Err(fault) => return Err(fault),
        };
        let begun = Begun {
            epoch: before.epoch.next(now),
            until: until.max(before.until),
        };
        self.epochs_until
            .remove(rows::epoch_until(before.until, subject).as_slice())?;
        self.epochs_until.insert(
            rows::epoch_until(begun.until, subject).as_slice(),
            [].as_slice(),
        )?;
        self.epochs
            .insert(key, rows::seal(key, &begun).as_slice())?;
        Ok(begun.epoch)
    }

    pub(super) fn update(&mut self, wanted: SessionRow) -> Result<Update, Fault> {
        let Some(Filed { due, session }) = self.session(wanted.sid)? else {
            return Ok(Update::Gone);
        };
        let Some(session) = transition::updated(&session, wanted) else {
            return Ok(Update::Conflict);
        };
        let version = session.version;
        // An end that came nearer must be seen in time; one that went away is found when the entry is due.
        let ends = session.ends();
        if ends < due {
            self.expiry
                .remove(rows::due_at(due, session.sid).as_slice())?;
            self.file_expiry(ends, &session)?;
        }
        let due = due.min(ends);
        self.put_session(&Filed { due, session })?;
        Ok(Update::Done(version))
    }

    pub(super) fn touch(&mut self, seen: &[(Sid, Timestamp)]) -> Result<(), Fault> {
        for (sid, at) in seen {
            match self.session(*sid) {
                Ok(Some(mut filed)) => {
                    if transition::touch(&mut filed.session, *at) {
                        self.put_session(&filed)?;
                    }
                }
                Ok(None) => {}
                Err(Fault::Refused(error)) => {
                    tracing::warn!(%sid, %error, "a session could not be touched");
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    pub(super) fn rotate(
        &mut self,
        old: TokenHash,
        next: &TokenRow,
        successor: Successor,
    ) -> Result<Rotation, Fault> {
        let Some(mut row) = self.token(old)? else {
            return Ok(Rotation::Gone);
        };
        if row.sid != next.sid || self.session(row.sid)?.is_none() {
            return Ok(Rotation::Gone);
        }
        if let Some(winner) = row.successor
            && self
                .tokens
                .get(winner.hash.as_bytes().as_slice())?
                .is_some()
        {
            return Ok(Rotation::Superseded(winner));
        }
        row.successor = Some(successor);
        self.put_token(&row)?;
        self.put_token(next)?;
        Ok(Rotation::Done)
    }

    pub(super) fn confirm(&mut self, hash: TokenHash, at: Timestamp) -> Result<(), Fault> {
        let Some(mut token) = self.token(hash)? else {
            return Ok(());
        };
        let Some(predecessor) = token.predecessor.take() else {
            return Ok(());
        };
        match self.token(predecessor) {
            Ok(Some(mut row)) => {
                if transition::confirm(&mut row, hash, at) {
                    self.put_token(&row)?;
                }
            }
            Ok(None) => {}
            // It can no longer be presented, so nothing is lost by not telling it.
            Err(Fault::Refused(error)) => {
                tracing::warn!(sid = %token.sid, %error, "a replaced token could not be read");
            }
            Err(fault) => return Err(fault),
        }
        self.put_token(&token)
    }

    pub(super) fn remove(&mut self, sid: Sid) -> Result<bool, Fault> {
        match self.session(sid) {
            Ok(Some(Filed { due, session })) => self.erase(sid, Some(due), session.subject)?,
            Ok(None) => return Ok(false),
            Err(Fault::Refused(error)) => {
                tracing::warn!(%sid, %error, "a session that cannot be read is removed");
                let (due, subject) = self.search_expiry(sid)?;
                self.erase(sid, due, subject)?;
            }
            Err(fault) => return Err(fault),
        }
        Ok(true)
    }

    /// Looks at the entries that are due by `now`, a bounded number of them, and removes at most `limit` sessions.
    pub(super) fn sweep(&mut self, now: Timestamp, limit: usize) -> Result<Swept, Fault> {
        self.forget_epochs(now)?;
        let entries = self.due(now)?;
        let mut swept = Swept {
            removed: 0,
            more: entries.len() == SWEEP_STEP,
        };
        for (due, sid, subject) in entries {
            if swept.removed == limit {
                break;
            }
            match self.session(sid) {
                Ok(Some(Filed { session, .. })) if session.ends() > now => {
                    self.expiry.remove(rows::due_at(due, sid).as_slice())?;
                    let due = session.ends();
                    self.file_expiry(due, &session)?;
                    self.put_session(&Filed { due, session })?;
                    continue;
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.erase(sid, Some(due), subject)?;
                    continue;
                }
                Err(Fault::Refused(error)) => {
                    tracing::warn!(%sid, %error, "a session that cannot be read is removed");
                }
                Err(fault) => return Err(fault),
            }
            self.erase(sid, Some(due), subject)?;
            swept.removed += 1;
        }
        Ok(swept)
    }

    fn forget_epochs(&mut self, now: Timestamp) -> Result<(), Fault> {
        let last = rows::epoch_until(now, SubjectTag([0xff; 32]));
        let mut over = Vec::new();
        for entry in self
            .epochs_until
            .range::<&[u8]>(..=last.as_slice())?
            .take(SWEEP_STEP)
        {
            over.push(entry?.0.value().to_vec());
        }
        for key in over {
            self.epochs_until.remove(key.as_slice())?;
            // One that could not be read has left its entry here, and the one after it has an entry of its own.
            if let Some(subject) = rows::subject_of_epoch(&key)
                && self.begun(subject).is_ok_and(|begun| begun.until <= now)
            {
                self.epochs.remove(subject.0.as_slice())?;
            }
        }
        Ok(())
    }

    fn due(&self, now: Timestamp) -> Result<Vec<(Timestamp, Sid, Option<SubjectTag>)>, Fault> {
        let last = rows::due_at(now, Sid::from_bytes([0xff; 16]));
        let mut due = Vec::new();
        for entry in self
            .expiry
            .range::<&[u8]>(..=last.as_slice())?
            .take(SWEEP_STEP)
        {
            let (key, value) = entry?;
            if let Some((at, sid)) = rows::due_in(key.value()) {
                due.push((at, sid, rows::subject_in(value.value())));
            }
        }
        Ok(due)
    }

    /// The slow way to a session's index entries, for one whose row cannot be read.
    fn search_expiry(&self, sid: Sid) -> Result<(Option<Timestamp>, Option<SubjectTag>), Fault> {
        for entry in self.expiry.iter()? {
            let (key, value) = entry?;
            if let Some((due, found)) = rows::due_in(key.value())
                && found == sid
            {
                return Ok((Some(due), rows::subject_in(value.value())));
            }
        }
        Ok((None, None))
    }

    /// Takes a session, its tokens and its index entries out of every table.
    fn erase(
        &mut self,
        sid: Sid,
        due: Option<Timestamp>,
        subject: Option<SubjectTag>,
    ) -> Result<(), Fault> {
        let first = rows::token_of(sid, TokenHash::from_bytes([0; 32]));
        let last = rows::token_of(sid, TokenHash::from_bytes([0xff; 32]));
        let mut hashes = Vec::new();
        for entry in self
            .tokens_of
            .range::<&[u8]>(first.as_slice()..=last.as_slice())?
        {
            hashes.extend(rows::token_in(entry?.0.value()));
        }
        for hash in hashes {
            self.tokens.remove(hash.as_bytes().as_slice())?;
            self.tokens_of
                .remove(rows::token_of(sid, hash).as_slice())?;
        }
        if let Some(subject) = subject {
            self.subjects
                .remove(rows::of_subject(subject, sid).as_slice())?;
        }
        if let Some(due) = due {
            self.expiry.remove(rows::due_at(due, sid).as_slice())?;
        }
        self.sessions.remove(sid.as_bytes().as_slice())?;
        Ok(())
    }

    fn session(&self, sid: Sid) -> Result<Option<Filed>, Fault> {
        let key = sid.as_bytes().as_slice();
        let value = self.sessions.get(key)?;
        Ok(value
            .map(|value| rows::open(key, value.value()))
            .transpose()?)
    }

    fn token(&self, hash: TokenHash) -> Result<Option<TokenRow>, Fault> {
        let key = hash.as_bytes().as_slice();
        let value = self.tokens.get(key)?;
        Ok(value
            .map(|value| rows::open(key, value.value()))
            .transpose()?)
    }

    fn begun(&self, subject: SubjectTag) -> Result<Begun, Fault> {
        let key = subject.0.as_slice();
        let value = self.epochs.get(key)?;
        let begun = value.map(|value| rows::open(key, value.value()));
        Ok(begun.transpose()?.unwrap_or_default())
    }

    fn put_session(&mut self, filed: &Filed) -> Result<(), Fault> {
        let key = filed.session.sid.as_bytes().as_slice();
        self.sessions
            .insert(key, rows::seal(key, filed).as_slice())?;
        Ok(())
    }

    fn put_token(&mut self, token: &TokenRow) -> Result<(), Fault> {
        let key = token.hash.as_bytes().as_slice();
        self.tokens.insert(key, rows::seal(key, token).as_slice())?;
        let name = rows::token_of(token.sid, token.hash);
        self.tokens_of.insert(name.as_slice(), [].as_slice())?;
        Ok(())
    }

    fn file_expiry(&mut self, due: Timestamp, session: &SessionRow) -> Result<(), Fault> {
        let key = rows::due_at(due, session.sid);
        let subject = rows::subject_bytes(session.subject.as_ref());
        self.expiry.insert(key.as_slice(), subject)?;
        Ok(())
    }
}
