//! What an app sets in its response, in the session that its request came with.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::task::JoinError;

use super::space::{Change, Shown, Space};
use super::{DataError, Refused, Spaces, Vaulted, posts};
use crate::secret::random;
use crate::session::live::{Entry, LiveSession};
use crate::session::sessions::Sessions;
use crate::session::store::{StoreError, Update};
use crate::session::token::Sid;
use crate::telemetry::{DataChange, StoreOp};

/// How often another node may be faster before a change is given up.
pub(super) const TRIES: usize = 32;

impl Sessions {
    /// What an app is told of its data: a header that is made once for every change of it. `None`: there is none.
    pub fn shown_data(self: &Arc<Self>, session: &LiveSession, namespace: &str) -> Option<Shown> {
        let entry = &session.entry;
        let dated = entry.live.data.get(namespace)?;
        if entry.is_outweighed() {
            // What was changed over the API, or by way of another token.
            let (sessions, entry) = (self.clone(), entry.clone());
            self.background
                .spawn(async move { sessions.cache.weigh_anew(&entry).await });
        }
        let limits = &self.settings.data.limits;
        Some(dated.shown(limits.max_header_bytes).clone())
    }

    /// Makes one change of a session's data, stored before this returns. It goes on to the end, whether or not
    /// anybody waits for it.
    pub async fn change_data(
        self: &Arc<Self>,
        session: &LiveSession,
        namespace: &str,
        change: Change,
    ) -> Result<(), DataError> {
        let (sessions, entry, namespace) =
            (self.clone(), session.entry.clone(), namespace.to_owned());
        let work = async move { sessions.apply(&entry, &namespace, &change).await };
        let done = self.background.spawn(work).await;
        self.counted(done.unwrap_or_else(|error| Err(lost(&error))))
    }

    pub(in crate::session) fn counted<T>(
        &self,
        done: Result<T, DataError>,
    ) -> Result<T, DataError> {
        self.metrics.data(match &done {
            Ok(_) => DataChange::Stored,
            Err(DataError::Gone | DataError::Crowded | DataError::Store(_)) => DataChange::Failed,
            Err(_) => DataChange::Refused,
        });
        done
    }

    async fn apply(
        &self,
        entry: &Arc<Entry>,
        namespace: &str,
        change: &Change,
    ) -> Result<(), DataError> {
        let rewrite = |open: &mut Vaulted| {
            if self.is_sealed(open, namespace) {
                return Err(damaged().into());
            }
            Ok(self.changes(&mut open.spaces, namespace, change)?)
        };
        self.rewritten(entry, rewrite).await
    }

    /// Changes what is sealed in a session, as often as somebody else is faster. `Ok(false)`: there is nothing to store.
    pub(super) async fn rewritten(
        &self,
        entry: &Arc<Entry>,
        mut rewrite: impl FnMut(&mut Vaulted) -> Result<bool, DataError> + Send,
    ) -> Result<(), DataError> {
        let sid = entry.live.sid;
        let _turn = self.turn(sid).await?;
        for _ in 0..TRIES {
            let load = self.store.load(entry.hash);
            let stored = self.within(StoreOp::Load, load).await?;
            let mut row = stored.ok_or(DataError::Gone)?.session;
            if row.expires <= self.clock.now() {
                return Err(DataError::Gone);
            }
            let key = entry.key.as_ref().ok_or(DataError::Gone)?;
            let open = self.open_vault(sid, key, &row.private);
            let mut open = open.ok_or_else(damaged)?;
            if !rewrite(&mut open)? {
                return Ok(());
            }
            row.private = self.close_vault(sid, key, &open);
            match self.within(StoreOp::Update, self.store.update(row)).await? {
                Update::Done(version) => {
                    entry.live.data.learn_all(&open, version);
                    self.hold_for_apps(&entry.live);
                    self.cache.weigh_anew(entry).await;
                    return Ok(());
                }
                Update::Gone => return Err(DataError::Gone),
                Update::Conflict => pause().await,
            }
        }
        Err(StoreError::Busy.into())
    }

    /// `false`: everything is so already.
    pub(in crate::session) fn changes(
        &self,
        spaces: &mut Spaces,
        namespace: &str,
        change: &Change,
    ) -> Result<bool, Refused> {
        let limits = &self.settings.data.limits;
        if change.bytes > limits.max_header_bytes {
            return Err(Refused::Header(limits.max_header_bytes));
        }
        let before = spaces.get(namespace).cloned().unwrap_or_default();
        let mut after = before.clone();
        change.apply(&mut after);
        if after == before {
            return Ok(false);
        }
        after.judge(limits)?;
        let omits = |space: &Space| space.shown(limits.max_header_bytes).omitted;
        // What came over the API may be more than a header holds; what comes in one is to be seen in one.
        if after.bytes() > before.bytes() && omits(&after).is_some() && omits(&before).is_none() {
            return Err(Refused::Header(limits.max_header_bytes));
        }
        let is_more = after.bytes() > before.bytes();
        spaces.insert(namespace.to_owned(), after);
        let of_apps = spaces.iter().filter(|(name, _)| *name != posts::NAME);
        let all: usize = of_apps.map(|(_, space)| space.bytes()).sum();
        if is_more && all > limits.max_bytes {
            return Err(Refused::Total(limits.max_bytes));
        }
        Ok(true)
    }

    /// Changes of one session wait for each other on a node; nodes find out in the store who was first.
    pub(in crate::session) async fn turn(
        &self,
        sid: Sid,
    ) -> Result<MutexGuard<'_, ()>, StoreError> {
        let [.., last] = *sid.as_bytes();
        self.turns
            .enter(last, 5 * self.settings.store_timeout)
            .await
    }
}

/// A moment that differs, so that those who met once do not meet again.
pub(super) async fn pause() {
    let [jitter] = random();
    tokio::time::sleep(Duration::from_micros(100 * u64::from(jitter))).await;
}

/// The work was broken off.
pub(super) fn lost(error: &JoinError) -> DataError {
    StoreError::Unavailable(error.to_string()).into()
}

fn damaged() -> StoreError {
    StoreError::Damaged("the data of a session does not open".to_owned())
}
