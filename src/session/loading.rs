//! How the session of a token gets here: from the cache, or from the store, once for all who ask at the same time.

use std::sync::Arc;

use super::EndReason;
use super::live::{Entry, Private};
use super::record::Stored;
use super::sessions::{AuthError, Sessions};
use super::token::Token;
use crate::secret::open_with_key;
use crate::telemetry::{CacheLookup, SessionEvent, StoreOp};

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
        self.cache.token_or(hash, self.load(token)).await
    }

    pub(super) async fn reload(self: &Arc<Self>, token: &Token) -> Result<Arc<Entry>, AuthError> {
        let hash = token.hash();
        self.cache.drop_token(&hash).await;
        self.cache.token_or(hash, self.load(token)).await
    }

    async fn load(self: &Arc<Self>, token: &Token) -> Result<Arc<Entry>, AuthError> {
        let hash = token.hash();
        let stored = self.within(StoreOp::Load, self.store.load(hash)).await?;
        let Some(stored) = stored else {
            self.cache.note_unknown(hash).await;
            self.metrics.session(SessionEvent::Unknown);
            return Err(AuthError::Unknown);
        };
        let sid = stored.session.sid;
        let Some(private) = self.unseal(token, &stored) else {
            tracing::warn!(%sid, "a session is sealed under a secret that is not configured");
            return Err(AuthError::Unknown);
        };
        let live = self.registry.adopt(&stored.session, &private);
        // Looked at after the session was adopted: an end before that left this mark, a later one finds the session.
        if self.cache.is_ended(&sid) {
            live.end(EndReason::Logout);
            return Err(AuthError::Ended);
        }
        let entry = Arc::new(Entry::new(
            hash,
            (live, private),
            stored.token.issued,
            self.clock.now(),
        ));
        self.learn_chain(&entry, token, &stored.token);
        Ok(entry)
    }

    fn unseal(&self, token: &Token, stored: &Stored) -> Option<Private> {
        let sid = stored.session.sid;
        let key = self.unwrap_key(token, sid, &stored.token.session_key)?;
        let private = open_with_key(&key, sid.as_bytes(), &stored.session.private)?;
        postcard::from_bytes(&private).ok()
    }
}
