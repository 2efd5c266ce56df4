//! Lists in the order of names, and the sweep in the order of ends. Entries that lead nowhere are cleared on the way.

use futures_util::future::{join_all, try_join_all};

use super::backend::{AT_ONCE, Redis};
use super::keys::{named, named_in, score, sid_in};
use crate::clock::Timestamp;
use crate::session::record::{SessionRow, SubjectTag};
use crate::session::store::StoreError;
use crate::session::token::Sid;

/// Entries that are read at once.
const PAGE: usize = 256;

/// Pages of entries that only move, before a sweep leaves the rest to the next one.
const EXTRA_PAGES: usize = 64;

impl Redis {
    /// The sessions of a set of sids.
    pub(super) async fn listed(
        &self,
        set: String,
        after: Option<Sid>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let (mut rows, mut start) = (Vec::new(), after);
        while rows.len() < limit {
            let size = PAGE.min(limit - rows.len());
            let names = self.names(&set, start, size).await?;
            let sids: Vec<Sid> = names.iter().filter_map(|name| sid_in(name)).collect();
            for some in sids.chunks(AT_ONCE) {
                self.read_into(&mut rows, &set, some).await?;
            }
            match sids.last() {
                Some(last) if names.len() == size => start = Some(*last),
                _ => break,
            }
        }
        Ok(rows)
    }

    async fn names(
        &self,
        set: &str,
        after: Option<Sid>,
        size: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let start = match after {
            Some(sid) => [b"(".as_slice(), sid.as_bytes()].concat(),
            None => b"-".to_vec(),
        };
        let mut range = redis::cmd("ZRANGEBYLEX");
        range.arg(set).arg(start).arg("+");
        range.arg("LIMIT").arg(0).arg(size);
        self.link.ask(&range).await
    }

    /// Rows that cannot be read are passed over: one of them must not hide all the others from an administrator.
    async fn read_into(
        &self,
        rows: &mut Vec<SessionRow>,
        set: &str,
        sids: &[Sid],
    ) -> Result<(), StoreError> {
        let read = join_all(sids.iter().map(|sid| self.session(*sid))).await;
        let mut damaged = 0;
        for (sid, row) in sids.iter().zip(read) {
            match row {
                Ok(Some(row)) => rows.push(row),
                // It was there before its name was, and no name comes back: it has ended.
                Ok(None) => self.take_from(set.to_owned(), sid.as_bytes()).await?,
                Err(StoreError::Damaged(_) | StoreError::Version(_)) => damaged += 1,
                Err(error) => return Err(error),
            }
        }
        if damaged > 0 {
            tracing::warn!(
                damaged,
                "sessions that cannot be read are left out of a list"
            );
        }
        Ok(())
    }

    pub(super) async fn swept(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let mut removed = 0;
        // Other nodes may sweep the same entries; the next sweep takes what is left then.
        for _ in 0..=limit.div_ceil(PAGE) + EXTRA_PAGES {
            let size = PAGE.min(limit - removed);
            if size == 0 {
                break;
            }
            let due = self.due(now, size).await?;
            for some in due.chunks(AT_ONCE) {
                let looking = some.iter().map(|member| self.look_at(member, now));
                let taken = try_join_all(looking).await?;
                removed += taken.into_iter().filter(|taken| *taken).count();
            }
            if due.len() < size {
                break;
            }
        }
        Ok(removed)
    }

    async fn due(&self, now: Timestamp, size: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut range = redis::cmd("ZRANGEBYSCORE");
        range.arg(self.keys.due()).arg("-inf").arg(score(now));
        range.arg("LIMIT").arg(0).arg(size);
        self.link.ask(&range).await
    }

    /// An entry whose time has come: its session goes, or the entry moves to where it belongs. Whether a session went.
    async fn look_at(&self, member: &[u8], now: Timestamp) -> Result<bool, StoreError> {
        let Some((sid, subject)) = named_in(member) else {
            self.take_from(self.keys.due(), member).await?;
            return Ok(false);
        };
        match self.session(sid).await {
            Ok(Some(session)) if session.ends() > now => {
                self.file_again(&session).await?;
                Ok(false)
            }
            // Only as it was read: who has been seen meanwhile is looked at again.
            Ok(Some(session)) => self.erase(sid, Some(&session)).await,
            Ok(None) => {
                self.unfile(sid, subject).await?;
                Ok(false)
            }
            Err(error @ (StoreError::Damaged(_) | StoreError::Version(_))) => {
                tracing::warn!(%sid, %error, "a session that cannot be read is removed");
                self.erase_damaged(sid, subject).await
            }
            Err(error) => Err(error),
        }
    }

    /// The entry first and then another look: an end that was brought forward in between is seen by one of the two.
    async fn file_again(&self, session: &SessionRow) -> Result<(), StoreError> {
        let mut add = redis::cmd("ZADD");
        add.arg(self.keys.due()).arg("XX");
        add.arg(score(session.ends()));
        add.arg(named(session.sid, session.subject));
        self.link.tell(&add).await?;
        match self.session(session.sid).await {
            Ok(Some(now)) if now.ends() < session.ends() => self.end_sooner(&now).await,
            Ok(_) | Err(StoreError::Damaged(_) | StoreError::Version(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The entry knows the subject, where the session does not.
    async fn erase_damaged(
        &self,
        sid: Sid,
        subject: Option<SubjectTag>,
    ) -> Result<bool, StoreError> {
        let erased = self.erase(sid, None).await?;
        self.unfile(sid, subject).await?;
        Ok(erased)
    }
}
