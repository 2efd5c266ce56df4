//! Ends what a provider has ended: sessions of ours by the name of one of its own. The name is in what is listed of each
//! session; no index is kept for what happens seldom.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::EndReason;
use super::record::{SessionRow, SubjectTag};
use super::sessions::Sessions;
use super::sight::State;
use super::store::StoreError;
use super::token::Sid;
use crate::identity::Subject;
use crate::telemetry::StoreOp;

const PAGE: usize = 500;

/// Ends that anybody may tell of: how many wait for the next look through all sessions, and how long one is waited for.
const MOST_WAITING: usize = 1000;
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A provider and a session of its own, and how many of ours began in that.
type Wanted = HashMap<(String, String), usize>;

/// Ends that anybody may tell of. To look for one session costs as much as to look for many: whoever tells of one while
/// somebody looks is served by the next look, so that one goes on at a time, however many tell.
#[derive(Debug, Default)]
pub(super) struct Departures {
    waiting: Mutex<Vec<Departure>>,
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Departure {
    whose: (String, String),
    told: oneshot::Sender<Result<usize, StoreError>>,
}

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
            let mut wanted = Wanted::from([((provider, session), 0)]);
            match subject {
                None => sessions.end_in(None, &mut wanted).await?,
                Some(subject) => {
                    for tag in sessions.subject_tags(&subject) {
                        sessions.end_in(Some(tag), &mut wanted).await?;
                    }
                }
            }
            Ok(wanted.into_values().sum())
        };
        let done = self.background.spawn(work).await;
        done.unwrap_or_else(|_| Err(called_off()))
    }

    /// The same for a session that anybody may have told of, whoever's it was.
    pub async fn end_departed(
        self: &Arc<Self>,
        provider: String,
        session: String,
    ) -> Result<usize, StoreError> {
        let (told, answer) = oneshot::channel();
        {
            let mut waiting = self.departures.waiting.lock();
            if waiting.len() >= MOST_WAITING {
                let why = "too many wait for the end of a session".to_owned();
                return Err(StoreError::Unavailable(why));
            }
            waiting.push(Departure {
                whose: (provider, session),
                told,
            });
        }
        let sessions = self.clone();
        self.background.spawn(async move {
            let _looking = sessions.departures.looking.lock().await;
            let batch = std::mem::take(&mut *sessions.departures.waiting.lock());
            if !batch.is_empty() {
                sessions.look_for(batch).await;
            }
        });
        let answer = tokio::time::timeout(LONGEST_WAIT, answer).await;
        answer
            .ok()
            .and_then(Result::ok)
            .unwrap_or_else(|| Err(called_off()))
    }

    async fn look_for(&self, batch: Vec<Departure>) {
        let mut wanted: Wanted = batch.iter().map(|one| (one.whose.clone(), 0)).collect();
        let done = self.end_in(None, &mut wanted).await;
        for Departure { whose, told } in batch {
            let ended = wanted.get(&whose).copied().unwrap_or_default();
            // Who no longer waits need not know.
            let _heard = told.send(done.clone().map(|()| ended));
        }
    }

    async fn end_in(&self, of: Option<SubjectTag>, wanted: &mut Wanted) -> Result<(), StoreError> {
        let (mut after, mut failure) = (None, None);
        loop {
            let page = match of {
                Some(tag) => self.store.list_by_subject(tag, after, PAGE),
                None => self.store.list(after, PAGE),
            };
            let page = self.within(StoreOp::List, page).await?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|row| row.sid);
            for row in page {
                let Some((sid, ended)) = self.began_in(row, wanted) else {
                    continue;
                };
                // The others end all the same; the store is told of this one later.
                failure = self
                    .end(sid, EndReason::ProviderLogout)
                    .await
                    .err()
                    .or(failure);
                *ended += 1;
            }
            if is_last {
                return failure.map_or(Ok(()), Err);
            }
            tokio::task::yield_now().await;
        }
    }

    fn began_in<'w>(
        &self,
        row: SessionRow,
        wanted: &'w mut Wanted,
    ) -> Option<(Sid, &'w mut usize)> {
        let listed = self.listed(row);
        let who = listed.listing?.who?;
        let whose = (who.subject.provider, who.elsewhere?);
        let ended = wanted.get_mut(&whose)?;
        (listed.state == State::Active).then_some((listed.sid, ended))
    }
}

fn called_off() -> StoreError {
    StoreError::Unavailable("it was called off".to_owned())
}
