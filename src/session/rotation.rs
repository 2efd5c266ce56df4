//! How a token is replaced (R4): the new one is made in the background, offered with every response until it has been
//! seen, and offered again, the same one, to whoever still holds the old. No request waits for it and no lost
//! response logs anybody out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::HeaderValue;

use super::EndReason;
use super::live::Entry;
use super::record::{Successor, TokenRow};
use super::sessions::Sessions;
use super::store::{Rotation, StoreError};
use super::token::{Sid, Token, TokenHash};
use crate::clock::Timestamp;
use crate::secret::Purpose;
use crate::telemetry::{AuditEvent, SessionEvent, StoreOp};

/// How often the store is told that a new token was seen, before that is given up.
const CONFIRM_TRIES: u32 = 6;

impl Sessions {
    /// Makes the token that follows, unless somebody is at it already.
    pub(super) fn replace_soon(self: &Arc<Self>, entry: &Arc<Entry>, token: Token) {
        if entry.rotating.swap(true, Ordering::AcqRel) {
            return;
        }
        let (sessions, entry) = (self.clone(), entry.clone());
        self.background.spawn(async move {
            if let Err(error) = sessions.replace(&entry, &token).await {
                let sid = entry.live.sid;
                tracing::warn!(%sid, %error, "a token could not be replaced, it stays good");
                // Long enough that a store in trouble is not asked with every request.
                tokio::time::sleep(Duration::from_secs(5)).await;
                entry.rotating.store(false, Ordering::Release);
            }
        });
    }

    async fn replace(&self, entry: &Entry, token: &Token) -> Result<(), StoreError> {
        let stored = self
            .within(StoreOp::Load, self.store.load(entry.hash))
            .await?;
        let Some(stored) = stored else {
            self.registry.end(entry.live.sid, EndReason::Elsewhere);
            return Ok(());
        };
        if let Some(successor) = &stored.token.successor {
            self.offer(entry, token, successor);
            return Ok(());
        }
        let Some((next, row, successor)) = self.next_token(token, &stored.token) else {
            return Err(StoreError::Damaged(
                "a session key does not open".to_owned(),
            ));
        };
        match self
            .within(
                StoreOp::Rotate,
                self.store.rotate(entry.hash, row, successor),
            )
            .await?
        {
            Rotation::Done => {
                let sid = entry.live.sid.to_string();
                self.audit.record(&AuditEvent::SessionRotated { sid });
                self.metrics.session(SessionEvent::Rotated);
                // Set by this task alone, since `rotating` was ours.
                let _set = entry.successor.set(self.renewed_cookie(entry, &next));
            }
            Rotation::Superseded(successor) => self.offer(entry, token, &successor),
            Rotation::Gone => self.registry.end(entry.live.sid, EndReason::Elsewhere),
        }
        Ok(())
    }

    /// As long as the session may last, where the user asked to be remembered.
    fn renewed_cookie(&self, entry: &Entry, next: &Token) -> HeaderValue {
        let remembered = entry.private.remembered;
        self.cookie_until(next, remembered.then(|| entry.live.expires()))
    }

    pub(super) fn next_token(
        &self,
        token: &Token,
        row: &TokenRow,
    ) -> Option<(Token, TokenRow, Successor)> {
        let key = self.unwrap_key(token, row.sid, &row.session_key)?;
        let next = Token::generate();
        let context = row.sid.as_bytes();
        let sealed = self
            .keyring
            .seal_for(token.key(), Purpose::Successor, context, next.bytes());
        let successor = Successor {
            hash: next.hash(),
            sealed,
            seen: None,
        };
        let row = TokenRow {
            hash: next.hash(),
            sid: row.sid,
            issued: self.clock.now(),
            session_key: self.wrap_key(&next, row.sid, &key),
            predecessor: Some(row.hash),
            successor: None,
        };
        Some((next, row, successor))
    }

    /// Has responses carry the token that replaced this one, until it has been seen.
    fn offer(&self, entry: &Entry, token: &Token, successor: &Successor) {
        if let Some(at) = successor.seen {
            entry.see_successor(at);
        }
        if let Some(next) = self.open_successor(token, entry.live.sid, successor) {
            // Whoever set it first set the same.
            let _set = entry.successor.set(self.renewed_cookie(entry, &next));
        } else {
            tracing::warn!(sid = %entry.live.sid, "a successor does not open");
        }
    }

    /// The token that replaced `token`, for whoever holds that one.
    pub(super) fn open_successor(
        &self,
        token: &Token,
        sid: Sid,
        successor: &Successor,
    ) -> Option<Token> {
        let (context, sealed) = (sid.as_bytes(), &successor.sealed);
        let bytes = self
            .keyring
            .open_for(token.key(), Purpose::Successor, context, sealed)?;
        Token::from_bytes(&bytes)
    }

    /// Takes over what the store says about the tokens before and after this one.
    pub(super) fn learn_chain(self: &Arc<Self>, entry: &Arc<Entry>, token: &Token, row: &TokenRow) {
        if let Some(successor) = &row.successor {
            self.offer(entry, token, successor);
        }
        if let Some(predecessor) = row.predecessor {
            self.confirm_soon(entry.live.sid, (entry.hash, predecessor));
        }
    }

    /// The new token has been seen: from now on the one before it lives `rotate_grace` longer.
    pub(super) fn confirm_soon(self: &Arc<Self>, sid: Sid, link: (TokenHash, TokenHash)) {
        let (sessions, at) = (self.clone(), self.clock.now());
        self.background.spawn(async move {
            let mut pause = Duration::from_millis(500);
            for _ in 0..CONFIRM_TRIES {
                match sessions.confirm(sid, link, at).await {
                    Ok(()) => return,
                    Err(error) => tracing::warn!(%error, "a new token could not be confirmed yet"),
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        });
    }

    /// Tells the store and this node that a token was presented for the first time, and so that the one before it was
    /// replaced.
    pub(super) async fn confirm(
        &self,
        sid: Sid,
        (hash, predecessor): (TokenHash, TokenHash),
        at: Timestamp,
    ) -> Result<(), StoreError> {
        if let Some(old) = self.cache.token(&predecessor).await {
            old.see_successor(at);
        }
        self.within(StoreOp::Confirm, self.store.confirm(hash, at))
            .await?;
        // Somebody may have loaded the old token between the two.
        if let Some(old) = self.cache.token(&predecessor).await {
            old.see_successor(at);
        }
        // A connection may remember the old token though the cache has let go of it.
        self.registry.note_replaced(sid);
        Ok(())
    }
}
