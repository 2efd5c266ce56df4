//! Everything that only reads, each call in a read transaction of its own. It knows no thread.

use std::ops::Bound;

use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase};

use super::StoreError;
use super::file::Fault;
use super::rows::{self, Begun, Filed};
use super::tables::{Definition, EPOCHS, META, SESSIONS, SUBJECTS, TOKENS};
use crate::session::record::{Epoch, SessionRow, Stored, SubjectTag, TokenRow};
use crate::session::token::{Sid, TokenHash};

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// What was committed when it was taken.
pub(super) struct Snapshot(ReadTransaction);

/// Part of a list, and where to go on.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) rows: Vec<SessionRow>,
    /// The last name looked at; `None` where the list ends.
    pub(super) last: Option<Sid>,
}

impl Snapshot {
    pub(super) fn take(database: &Database) -> Result<Self, Fault> {
        Ok(Self(database.begin_read()?))
    }

    pub(super) fn probe(&self) -> Result<(), Fault> {
        self.table(META)?.get(b"format".as_slice())?;
        Ok(())
    }

    pub(super) fn load(&self, hash: TokenHash) -> Result<Option<Stored>, Fault> {
        let key = hash.as_bytes().as_slice();
        let Some(value) = self.table(TOKENS)?.get(key)? else {
            return Ok(None);
        };
        let token: TokenRow = rows::open(key, value.value())?;
        let Some(session) = read(&self.table(SESSIONS)?, token.sid)? else {
            return Ok(None);
        };
        let lives = session.epoch >= self.epoch(session.subject)?;
        Ok(lives.then_some(Stored { token, session }))
    }

    pub(super) fn epoch(&self, subject: Option<SubjectTag>) -> Result<Epoch, Fault> {
        let Some(SubjectTag(key)) = subject else {
            return Ok(Epoch::default());
        };
        let value = self.table(EPOCHS)?.get(key.as_slice())?;
        let begun: Option<Begun> = value
            .map(|value| rows::open(&key, value.value()))
            .transpose()?;
        Ok(begun.unwrap_or_default().epoch)
    }

    /// Looks at no more than `limit` sessions after `after`.
    pub(super) fn list(&self, after: Option<Sid>, limit: usize) -> Result<Page, Fault> {
        let sessions = self.table(SESSIONS)?;
        let start = after.as_ref().map_or(Bound::Unbounded, |sid| {
            Bound::Excluded(sid.as_bytes().as_slice())
        });
        let mut page = Pages::new(limit);
        for entry in sessions
            .range::<&[u8]>((start, Bound::Unbounded))?
            .take(limit)
        {
            let (key, value) = entry?;
            let row = rows::open(key.value(), value.value()).map_err(Fault::from);
            match rows::session_in(key.value()) {
                Some(sid) => page.add(sid, row.map(|filed: Filed| Some(filed.session)))?,
                None => page.skip(),
            }
        }
        Ok(page.finish())
    }

    /// Likewise for one subject.
    pub(super) fn list_by_subject(
        &self,
        subject: SubjectTag,
        after: Option<Sid>,
        limit: usize,
    ) -> Result<Page, Fault> {
        let (names, sessions) = (self.table(SUBJECTS)?, self.table(SESSIONS)?);
        let first = rows::of_subject(subject, after.unwrap_or(Sid::from_bytes([0; 16])));
        let last = rows::of_subject(subject, Sid::from_bytes([0xff; 16]));
        let start = match after {
            Some(_) => Bound::Excluded(first.as_slice()),
            None => Bound::Included(first.as_slice()),
        };
        let mut page = Pages::new(limit);
        for entry in names
            .range::<&[u8]>((start, Bound::Included(last.as_slice())))?
            .take(limit)
        {
            match rows::session_of_subject(entry?.0.value()) {
                Some(sid) => page.add(sid, read(&sessions, sid))?,
                None => page.skip(),
            }
        }
        Ok(page.finish())
    }

    fn table(&self, definition: Definition) -> Result<Table, Fault> {
        Ok(self.0.open_table(definition)?)
    }
}

fn read(sessions: &Table, sid: Sid) -> Result<Option<SessionRow>, Fault> {
    let key = sid.as_bytes().as_slice();
    let value = sessions.get(key)?;
    let filed: Option<Filed> = value
        .map(|value| rows::open(key, value.value()))
        .transpose()?;
    Ok(filed.map(|filed| filed.session))
}

/// A page as it fills.
struct Pages {
    rows: Vec<SessionRow>,
    seen: usize,
    limit: usize,
    last: Option<Sid>,
    damaged: Vec<(Sid, StoreError)>,
}

impl Pages {
    fn new(limit: usize) -> Self {
        Self {
            rows: Vec::new(),
            seen: 0,
            limit,
            last: None,
            damaged: Vec::new(),
        }
    }

    /// Rows that cannot be read are passed over: one of them must not hide all the others from an administrator.
    fn add(&mut self, sid: Sid, row: Result<Option<SessionRow>, Fault>) -> Result<(), Fault> {
        self.seen += 1;
        self.last = Some(sid);
        match row {
            Ok(row) => self.rows.extend(row),
            Err(Fault::Refused(error)) => self.damaged.push((sid, error)),
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    /// A key that names no session: somebody else's.
    fn skip(&mut self) {
        self.seen += 1;
    }

    fn finish(self) -> Page {
        // One line a page: where every row is damaged, the log must not drown.
        if let Some((sid, error)) = self.damaged.first() {
            let count = self.damaged.len();
            tracing::warn!(%sid, %error, count, "sessions that cannot be read are left out of a list");
        }
        let last = self.last.filter(|_| self.seen == self.limit);
        Page {
            rows: self.rows,
            last,
        }
    }
}
