//! What the provider of a session says anew of its user: asked for once for all nodes, beside the requests, and taken over
//! into the session. Whom to ask, and how, others know.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use zeroize::Zeroizing;

use super::EndReason;
use super::live::{Entry, LiveSession, Private};
use super::record::SessionRow;
use super::sessions::Sessions;
use super::store::{StoreError, Update};
use crate::clock::Timestamp;
use crate::identity::{Identity, Refresh};
use crate::telemetry::StoreOp;

/// For so long nobody else asks. Longer than a provider may take over its answers.
const TURN: Duration = Duration::from_mins(2);

/// Until a store in trouble is asked again.
const PAUSE: Duration = Duration::from_secs(5);

/// How often somebody else may be faster, before it is left to them.
const TRIES: usize = 8;

/// What a provider said.
#[derive(Debug)]
pub enum Refreshed {
    /// Who the user is by now, as far as it said, and what to ask with next.
    Anew(Box<(Option<Identity>, Refresh)>),
    /// Nothing that is to be believed: it is asked again later.
    Later,
    /// The session is to end.
    Over,
}

impl LiveSession {
    /// Whether its provider is to be asked once more.
    pub fn is_refresh_due(&self, now: Timestamp) -> bool {
        let federated = self.entry.private.federated.as_ref();
        let refresh = federated.and_then(|federated| federated.refresh.as_ref());
        refresh.is_some_and(|refresh| refresh.due <= now)
            && !self.entry.refreshing.load(Ordering::Relaxed)
    }
}

impl Sessions {
    /// Has the provider asked with the session's refresh token, unless somebody else is at it, on whatever node. The
    /// session goes on as it is until there is an answer.
    pub fn refresh_soon<F>(
        self: &Arc<Self>,
        session: &LiveSession,
        ask: impl FnOnce(Zeroizing<String>) -> F + Send + 'static,
    ) where
        F: Future<Output = Refreshed> + Send + 'static,
    {
        let (sessions, entry) = (self.clone(), session.entry.clone());
        if entry.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        self.background.spawn(async move {
            match sessions.refresh_identity(&entry, ask).await {
                Ok(()) => {
                    // Whoever holds the session looks it up anew.
                    sessions.cache.drop_token(&entry.hash).await;
                    entry.live.note_replaced();
                }
                Err(error) => {
                    let sid = entry.live.sid;
                    tracing::warn!(%sid, %error, "what a provider says of a user could not be kept; the session goes on");
                    tokio::time::sleep(PAUSE).await;
                    entry.refreshing.store(false, Ordering::Release);
                }
            }
        });
    }

    async fn refresh_identity<F>(
        &self,
        entry: &Entry,
        ask: impl FnOnce(Zeroizing<String>) -> F,
    ) -> Result<(), StoreError>
    where
        F: Future<Output = Refreshed>,
    {
        let Some(token) = self.take_turn(entry).await? else {
            return Ok(());
        };
        match ask(token.clone()).await {
            Refreshed::Anew(news) => self.take_over(entry, &token, *news).await,
            Refreshed::Later => Ok(()),
            Refreshed::Over => {
                let reason = EndReason::ProviderLogout;
                self.end(entry.live.sid, reason).await.map(drop)
            }
        }
    }

    /// The token to ask with. `None`: somebody else asks, or did.
    async fn take_turn(&self, entry: &Entry) -> Result<Option<Zeroizing<String>>, StoreError> {
        let now = self.clock.now();
        let mut token = None;
        let take = |private: &mut Private, _: &mut SessionRow| {
            let refresh = refresh_of(private).filter(|refresh| refresh.due <= now);
            token = refresh.map(|refresh| {
                refresh.due = now.after(TURN);
                Zeroizing::new(refresh.token.clone())
            });
            token.is_some()
        };
        let is_taken = self.change_private(entry, take).await?;
        Ok(token.filter(|_| is_taken))
    }

    async fn take_over(
        &self,
        entry: &Entry,
        asked_with: &str,
        (identity, next): (Option<Identity>, Refresh),
    ) -> Result<(), StoreError> {
        let take = |private: &mut Private, row: &mut SessionRow| {
            // Somebody logged in anew meanwhile, or was faster.
            let current = refresh_of(private).filter(|refresh| refresh.token == asked_with);
            let Some(current) = current else { return false };
            *current = next.clone();
            if let Some(identity) = &identity {
                let listing = self.listed(row.clone()).listing;
                if let Some(mut listing) = listing
                    && let Some(who) = &mut listing.who
                {
                    who.user.clone_from(&identity.user);
                    row.listing = self.seal_listing(row.sid, &listing);
                }
                private.identity = Some(identity.clone());
            }
            true
        };
        self.change_private(entry, take).await.map(drop)
    }

    /// Changes what is sealed of a session, unless `change` says that there is nothing to. Tells whether it did.
    async fn change_private(
        &self,
        entry: &Entry,
        mut change: impl FnMut(&mut Private, &mut SessionRow) -> bool,
    ) -> Result<bool, StoreError> {
        // Of a ticket nothing is changed: it runs out.
        let Some(key) = &entry.key else {
            return Ok(false);
        };
        let sid = entry.live.sid;
        for _ in 0..TRIES {
            let load = self.store.load(entry.hash);
            let Some(stored) = self.within(StoreOp::Load, load).await? else {
                return Ok(false);
            };
            let mut row = stored.session;
            let Some(mut open) = self.open_vault(sid, key, &row.private) else {
                return Err(StoreError::Damaged("a session does not open".to_owned()));
            };
            if !change(&mut open.private, &mut row) {
                return Ok(false);
            }
            row.private = self.close_vault(sid, key, &open);
            let update = self.store.update(row);
            match self.within(StoreOp::Update, update).await? {
                Update::Done(_) => return Ok(true),
                Update::Gone => return Ok(false),
                Update::Conflict => {}
            }
        }
        Err(StoreError::Busy)
    }
}

fn refresh_of(private: &mut Private) -> Option<&mut Refresh> {
    private.federated.as_mut()?.refresh.as_mut()
}
