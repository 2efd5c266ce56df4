//! How sessions end: on this node before anything else, then in the store; and where the store does not take it, again
//! and again until it does (R5).

use std::collections::BTreeMap;
use std::time::Duration;

use super::EndReason;
use super::live::Entry;
use super::record::{Epoch, SubjectTag};
use super::sessions::{AuthError, Sessions};
use super::store::StoreError;
use super::token::Sid;
use crate::identity::Subject;
use crate::telemetry::{AuditEvent, SessionEvent, StoreOp};

/// Longer than a login may be under way.
const LONGEST_LOGIN: Duration = Duration::from_hours(24);

/// Ended sessions that the store may not know of yet.
const MAX_OWED: usize = 100_000;

/// Sessions that have ended here and whose end the store did not take.
#[derive(Debug, Default)]
pub(super) struct Owed(BTreeMap<Sid, EndReason>);

impl Owed {
    /// The first reason counts.
    pub(super) fn add(&mut self, sid: Sid, reason: EndReason) {
        if self.0.len() < MAX_OWED {
            self.0.entry(sid).or_insert(reason);
        } else if !self.0.contains_key(&sid) {
            tracing::error!(%sid, "too many ended sessions wait for the store: this one returns with a restart");
        }
    }

    fn first(&self) -> Option<(Sid, EndReason)> {
        self.0
            .first_key_value()
            .map(|(sid, reason)| (*sid, *reason))
    }
}

impl Sessions {
    /// Ends a session: on this node before anything else, then in the store (R5). Where the store does not take it, the
    /// session stays ended on this node, and `upkeep` tells the store until it knows.
    pub async fn end(&self, sid: Sid, reason: EndReason) -> Result<(), StoreError> {
        self.cache.note_ended(sid).await;
        self.registry.end(sid, reason);
        let removed = self.remove(sid, reason).await;
        if removed.is_err() {
            self.owed.lock().add(sid, reason);
        }
        removed
    }

    /// Takes an ended session out of the store, and says so once that is done.
    async fn remove(&self, sid: Sid, reason: EndReason) -> Result<(), StoreError> {
        self.within(StoreOp::Remove, self.store.remove(sid)).await?;
        self.metrics.session(SessionEvent::Ended);
        self.metrics.session_over(reason.name());
        let sid = sid.to_string();
        self.audit.record(&AuditEvent::SessionEnded {
            sid,
            reason: reason.name(),
        });
        Ok(())
    }

    /// Ends every session of a subject at once, and every login of it that is under way. Tells how many there were.
    ///
    /// A new epoch ends them, on every node and whatever else happens at the same time. They are taken out of the store
    /// after that; where it does not let us, they are ended all the same, and the sweep finds them.
    pub async fn end_all_of(
        &self,
        subject: &Subject,
        reason: EndReason,
    ) -> Result<usize, StoreError> {
        // What is in use here ends at once, whatever the store does next.
        for sid in self.registry.sids_of(subject) {
            self.cache.note_ended(sid).await;
            self.registry.end(sid, reason);
        }
        let mut over = Vec::new();
        for tag in self.subject_tags(subject) {
            over.push((tag, self.begin_epoch(tag, reason).await?));
        }
        let mut ended = 0;
        for (tag, epoch) in over {
            let taken_out = self.take_out_before(tag, epoch, reason, &mut ended).await;
            if let Err(error) = taken_out {
                tracing::warn!(%error, "sessions that have ended are left in the store");
            }
        }
        Ok(ended)
    }

    pub(super) async fn begin_epoch(
        &self,
        tag: SubjectTag,
        reason: EndReason,
    ) -> Result<Epoch, StoreError> {
        let now = self.clock.now();
        // A login that began before may be stored now, and lives for its full time in the eyes of who forgets the epoch.
        let until = now.after(self.settings.longest()).after(LONGEST_LOGIN);
        let begun = self.store.begin_epoch(tag, now, until);
        let epoch = self.within(StoreOp::Epoch, begun).await?;
        self.cache.note_epoch(tag, epoch).await;
        self.registry.end_before(tag, epoch, reason);
        Ok(epoch)
    }

    pub(super) async fn take_out_before(
        &self,
        tag: SubjectTag,
        epoch: Epoch,
        reason: EndReason,
        ended: &mut usize,
    ) -> Result<(), StoreError> {
        const PAGE: usize = 100;
        let mut after = None;
        loop {
            let page = self.store.list_by_subject(tag, after, PAGE);
            let page = self.within(StoreOp::List, page).await?;
            let mut failure = None;
            for row in page.iter().filter(|row| row.epoch < epoch) {
                *ended += 1;
                if failure.is_some() {
                    // Nobody is to wait for each of them in turn.
                    self.cache.note_ended(row.sid).await;
                    self.owed.lock().add(row.sid, reason);
                } else {
                    failure = self.end(row.sid, reason).await.err();
                }
            }
            if let Some(error) = failure {
                return Err(error);
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.sid),
                _ => return Ok(()),
            }
        }
    }

    /// Tells the store which sessions have ended. One failure says that it still takes nothing.
    pub(super) async fn remove_owed(&self) {
        loop {
            let Some((sid, reason)) = self.owed.lock().first() else {
                return;
            };
            if let Err(error) = self.remove(sid, reason).await {
                let waiting = self.owed.lock().0.len();
                return tracing::warn!(%error, waiting, "ended sessions could not be removed yet");
            }
            self.owed.lock().0.remove(&sid);
        }
    }

    pub(super) async fn end_timed(&self, entry: &Entry, reason: EndReason) -> AuthError {
        self.end_by_time(entry.live.sid, reason).await;
        AuthError::Ended
    }

    /// Ends what is over by itself, and counts that.
    pub(super) async fn end_by_time(&self, sid: Sid, reason: EndReason) {
        self.metrics.session(SessionEvent::Expired);
        self.end_here(sid, reason).await;
    }

    /// Ends what is over. Whether the store hears of it now or later changes nothing for whoever asks.
    pub(super) async fn end_here(&self, sid: Sid, reason: EndReason) {
        if let Err(error) = self.end(sid, reason).await {
            tracing::warn!(%sid, %error, "an ended session is not out of the store yet");
        }
    }
}
