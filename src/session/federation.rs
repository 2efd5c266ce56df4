//! Ends what a provider has ended: sessions of ours by the name of one of its own. The name is in what is listed of each
//! session; no index is kept for what happens seldom.

use std::sync::Arc;

use super::EndReason;
use super::record::SessionRow;
use super::sessions::Sessions;
use super::sight::State;
use super::store::StoreError;
use super::token::Sid;
use crate::identity::Subject;
use crate::telemetry::StoreOp;

const PAGE: usize = 500;

impl Sessions {
    /// Ends the sessions that began in a session of a provider, and tells how many. Where it is known whose that was,
    /// theirs are looked through, or else all. It goes on to the end, whether or not anybody waits for it.
    pub async fn end_federated(
        self: &Arc<Self>,
        provider: String,
        (subject, session): (Option<Subject>, String),
    ) -> Result<usize, StoreError> {
        let sessions = self.clone();
        let work = async move {
            let wanted = (provider.as_str(), session.as_str());
            let Some(subject) = subject else {
                return sessions.end_in(None, wanted).await;
            };
            let mut ended = 0;
            for tag in sessions.subject_tags(&subject) {
                ended += sessions.end_in(Some(tag), wanted).await?;
            }
            Ok(ended)
        };
        let done = self.background.spawn(work).await;
        done.unwrap_or_else(|_| Err(StoreError::Unavailable("it was called off".to_owned())))
    }

    async fn end_in(
        &self,
        of: Option<super::SubjectTag>,
        wanted: (&str, &str),
    ) -> Result<usize, StoreError> {
        let (mut after, mut ended, mut failure) = (None, 0, None);
        loop {
            let page = match of {
                Some(tag) => self.store.list_by_subject(tag, after, PAGE),
                None => self.store.list(after, PAGE),
            };
            let page = self.within(StoreOp::List, page).await?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|row| row.sid);
            for sid in page
                .into_iter()
                .filter_map(|row| self.began_in(row, wanted))
            {
                // The others end all the same; the store is told of this one later.
                failure = self
                    .end(sid, EndReason::ProviderLogout)
                    .await
                    .err()
                    .or(failure);
                ended += 1;
            }
            if is_last {
                return failure.map_or(Ok(ended), Err);
            }
            tokio::task::yield_now().await;
        }
    }

    fn began_in(&self, row: SessionRow, (provider, session): (&str, &str)) -> Option<Sid> {
        let listed = self.listed(row);
        let who = listed.listing?.who?;
        let is_it = listed.state == State::Active
            && who.subject.provider == provider
            && who.elsewhere.as_deref() == Some(session);
        is_it.then_some(listed.sid)
    }
}
