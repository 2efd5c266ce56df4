//! How sessions end: on this node before anything else, then in the store; and where the store does not take it, again
//! and again until it does (R5).

use std::collections::BTreeMap;

use super::EndReason;
use super::live::Entry;
use super::sessions::{AuthError, Sessions};
use super::store::StoreError;
use super::token::Sid;
use crate::identity::Subject;
use crate::telemetry::{AuditEvent, SessionEvent, StoreOp};

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

    /// Ends every session of a subject and tells how many there were.
    pub async fn end_all_of(
        &self,
        subject: &Subject,
        reason: EndReason,
    ) -> Result<usize, StoreError> {
        const PAGE: usize = 100;
        // What is in use here ends at once, whatever the store does next.
        for sid in self.registry.sids_of(subject) {
            self.cache.note_ended(sid).await;
            self.registry.end(sid, reason);
        }
        let mut ended = 0;
        for tag in self.subject_tags(subject) {
            loop {
                let page = self.store.list_by_subject(tag, None, PAGE);
                let page = self.within(StoreOp::List, page).await?;
                let mut failure = None;
                for row in &page {
                    match self.end(row.sid, reason).await {
                        Ok(()) => ended += 1,
                        Err(error) => failure = Some(error),
                    }
                }
                match failure {
                    Some(error) => return Err(error),
                    None if page.len() < PAGE => break,
                    None => {}
                }
            }
        }
        Ok(ended)
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
