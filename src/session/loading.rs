//! How the session of a token gets here: from the cache, or from the store, once for all who ask at the same time; and
//! how one that is here is looked at anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use zeroize::Zeroizing;

use super::EndReason;
use super::data::Vaulted;
use super::live::{Entry, Reading};
use super::record::Stored;
use super::sessions::{AuthError, Sessions};
use super::store::StoreError;
use super::token::Token;
use crate::clock::TICK;
use crate::telemetry::{CacheLookup, SessionEvent, StoreOp};

/// How often, at most, the log says that a secret is missing.
const SAY_EVERY: Duration = Duration::from_mins(1);

/// One look at the store, awaited by all who need its outcome.
pub(super) type Refresh = Shared<BoxFuture<'static, Result<Arc<Entry>, AuthError>>>;

/// How far an entry is to be believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Freshness {
    /// It will soon have to be confirmed, and nobody is at it yet.
    Ageing,
    Fresh,
    /// News from other nodes may be missing, and it is older than they may be late.
    Stale,
}

impl Sessions {
    /// From the cache, or from the store once for all who ask.
    pub(super) async fn find(self: &Arc<Self>, token: &Token) -> Result<Arc<Entry>, AuthError> {
        let hash = token.hash();
        if let Some(entry) = self.cache.token(&hash).await {
            self.metrics.cache(CacheLookup::Hit);
            return Ok(entry);
        }
        if self.cache.is_unknown(&hash) {
            self.metrics.cache(CacheLookup::NegativeHit);
            return Err(AuthError::Unknown);
        }
        self.metrics.cache(CacheLookup::Miss);
        self.cache.token_or(hash, self.load(token, None)).await
    }

    pub(super) fn freshness(&self, entry: &Entry) -> Freshness {
        if !self.store.has_other_writers() {
            return Freshness::Fresh;
        }
        let age = self.clock.now().since(entry.read.at);
        // The clock may be a tick behind.
        let believed = self.settings.cache_ttl.saturating_sub(TICK);
        let era = entry.read.era;
        if age >= believed || !self.cache.believes(era) {
            return Freshness::Stale;
        }
        let is_doubted = era != self.cache.era() || age >= self.settings.cache_ttl / 2;
        if is_doubted && !entry.asked.load(Ordering::Relaxed) {
            Freshness::Ageing
        } else {
            Freshness::Fresh
        }
    }

    /// Has an entry confirmed before anybody has to wait for that: a store that freezes now delays no request of a
    /// session in use.
    pub(super) fn confirm_ahead(self: &Arc<Self>, token: &Token, entry: &Arc<Entry>) {
        if !entry.asked.swap(true, Ordering::Relaxed) {
            drop(self.refresh(token, entry));
        }
    }

    /// What the store says of a stale entry; in an outage it goes on as it is (R7).
    pub(super) async fn confirmed(
        self: &Arc<Self>,
        token: &Token,
        entry: Arc<Entry>,
    ) -> Result<Arc<Entry>, AuthError> {
        if self.outlasts_outage() {
            return Ok(entry);
        }
        match self.refresh(token, &entry).await {
            Err(AuthError::Store(_)) if self.outlasts_outage() => Ok(entry),
            outcome => outcome,
        }
    }

    /// Looks at the store for an entry, once for all who ask. It goes on by itself, whoever stops waiting.
    pub(super) fn refresh(self: &Arc<Self>, token: &Token, entry: &Arc<Entry>) -> Refresh {
        let mut refresh = entry.refresh.lock();
        if let Some(under_way) = &*refresh {
            return under_way.clone();
        }
        let (sessions, token, entry) = (self.clone(), token.clone(), entry.clone());
        let task = self.background.spawn(async move {
            let outcome = sessions.reload(&token, &entry).await;
            // Not kept: each entry would hold the one after it for as long as a connection remembers it.
            entry.refresh.lock().take();
            outcome
        });
        let begun = task
            .map(|ended| ended.unwrap_or(Err(AuthError::Store(StoreError::Timeout))))
            .boxed()
            .shared();
        *refresh = Some(begun.clone());
        begun
    }

    async fn reload(
        self: &Arc<Self>,
        token: &Token,
        entry: &Arc<Entry>,
    ) -> Result<Arc<Entry>, AuthError> {
        let loaded = self.load(token, Some(entry)).await;
        match &loaded {
            Ok(newer) => self.cache.keep(newer.clone()).await,
            // It says nothing about the session.
            Err(AuthError::Store(_)) => {}
            Err(error) => {
                self.cache.drop_token(&entry.hash).await;
                if *error == AuthError::Unknown {
                    entry.live.end(EndReason::Elsewhere);
                }
            }
        }
        loaded
    }

    /// From the store, in place of an entry that is here.
    async fn load(
        self: &Arc<Self>,
        token: &Token,
        before: Option<&Arc<Entry>>,
    ) -> Result<Arc<Entry>, AuthError> {
        let hash = token.hash();
        let read = Reading {
            at: self.clock.now(),
            era: self.cache.era(),
        };
        let stored = self.within(StoreOp::Load, self.store.load(hash)).await;
        let stored = match stored {
            Err(error @ StoreError::Version(_)) => {
                self.say_unreadable(&error.to_string());
                return Err(AuthError::Unreadable);
            }
            stored => stored?,
        };
        let Some(stored) = stored else {
            self.cache.note_unknown(hash).await;
            self.metrics.session(SessionEvent::Unknown);
            return Err(AuthError::Unknown);
        };
        let sid = stored.session.sid;
        let Some((key, open)) = self.unseal(token, &stored) else {
            return Err(self.judge_sealed(&stored));
        };
        let live = self.registry.adopt(&stored.session, &open.private);
        live.data.learn_all(&open, stored.session.version);
        // Looked at after the session was adopted: an end before that left this mark, a later one finds the session.
        if self.cache.is_ended(&sid) || self.cache.is_overtaken(&stored.session).await {
            live.end(EndReason::Elsewhere);
            return Err(AuthError::Ended);
        }
        self.hold_for_apps(&live);
        let mut entry = Entry::new(hash, (live, open.private, key), stored.token.issued, read);
        if let Some(before) = before {
            entry = entry.in_place_of(before);
        }
        let entry = Arc::new(entry);
        self.learn_chain(&entry, token, &stored.token);
        Ok(entry)
    }

    fn unseal(&self, token: &Token, stored: &Stored) -> Option<(Zeroizing<[u8; 32]>, Vaulted)> {
        let sid = stored.session.sid;
        let key = self.unwrap_key(token, sid, &stored.token.session_key)?;
        let open = self.open_vault(sid, &key, &stored.session.private)?;
        Some((key, open))
    }

    /// What it means that a session does not open. Where a secret is missing here it is good as soon as that is back,
    /// or on a node that has it: nobody gets in by it, and nothing is taken away.
    fn judge_sealed(&self, stored: &Stored) -> AuthError {
        let sid = stored.session.sid;
        let Some(id) = self.keyring.missing(&stored.token.session_key) else {
            tracing::warn!(%sid, "a session does not open though its secret is there: somebody changed what is stored");
            return AuthError::Unknown;
        };
        self.say_unreadable(&format!(
            "a session is sealed under the secret {id}, which `session.secrets` does not name"
        ));
        AuthError::Unreadable
    }

    fn say_unreadable(&self, why: &str) {
        self.metrics.session(SessionEvent::Unreadable);
        let now = self.clock.now();
        let mut said = self.said_unreadable.lock();
        if said.is_none_or(|said| now.since(said) >= SAY_EVERY) {
            *said = Some(now);
            tracing::error!(
                "{why}: whoever has such a session is asked to log in, and keeps the cookie"
            );
        }
    }
}
