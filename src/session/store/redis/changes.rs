//! Changes that read first and then write only where nothing has come between: an update and a rotation.

use redis::Value;

use super::backend::Redis;
use super::keys::{Field, moment, moment_in, subject_in};
use super::rows::{self, Bytes, damaged, shaped};
use crate::session::record::{SessionRow, Successor, TokenRow};
use crate::session::store::{Rotation, StoreError, Update, transition};
use crate::session::token::TokenHash;

impl Redis {
    /// One attempt; `None` where the session changed meanwhile.
    pub(super) async fn try_update(
        &self,
        wanted: &SessionRow,
    ) -> Result<Option<Update>, StoreError> {
        let Some(stored) = self.session(wanted.sid).await? else {
            return Ok(Some(Update::Gone));
        };
        let Some(next) = transition::updated(&stored, wanted.clone()) else {
            return Ok(Some(Update::Conflict));
        };
        let [seen, expires] = rows::times(&next);
        // Before the session: nothing that leads to it may end earlier than it does, whatever happens in between.
        let tokens = if next.expires > stored.expires {
            self.prolong(&next, &expires).await?
        } else {
            String::new()
        };
        let (before, after) = (stored.version.to_string(), next.version.to_string());
        let args = (
            before,
            after,
            rows::session_bytes(&next),
            seen,
            expires,
            tokens,
        );
        let done = self.change(&self.scripts.update, next.sid, args).await?;
        match shaped(done)? {
            0 => Ok(Some(Update::Gone)),
            1 => Ok(Some(Update::Conflict)),
            3 => {
                if next.ends() < stored.ends() {
                    self.end_sooner(&next).await?;
                }
                Ok(Some(Update::Done(next.version)))
            }
            _ => Ok(None),
        }
    }

    /// One attempt; `None` where the session changed meanwhile.
    pub(super) async fn try_rotate(
        &self,
        old: TokenHash,
        next: &TokenRow,
        successor: &Successor,
    ) -> Result<Option<Rotation>, StoreError> {
        let fields = [
            b"expires".to_vec(),
            b"subject".to_vec(),
            Field::Token.of(old),
            Field::Successor.of(old),
            Field::Seen.of(old),
        ];
        let fields = self.fields(next.sid, &fields).await?;
        let [expires, subject, token, winner, seen] = fields.as_slice() else {
            return Err(damaged("fields are missing"));
        };
        let (Some(expires), Some(_)) = (expires, token) else {
            return Ok(Some(Rotation::Gone));
        };
        if let Some(winner) = winner {
            return Ok(Some(Rotation::Superseded(rows::successor(
                old, winner, seen,
            )?)));
        }
        let expires = moment_in(expires).ok_or_else(|| damaged("no time"))?;
        let expires = moment(expires);
        let name = (next.sid, subject.as_deref().and_then(subject_in));
        if !self.claim(next.hash, name, &expires).await?
            && self.led_to(next.hash).await? != Some(name)
        {
            return Err(taken());
        }
        let predecessor = next.predecessor.map(|hash| hash.as_bytes().to_vec());
        let args = (
            old.as_bytes(),
            next.hash.as_bytes(),
            rows::token_bytes(next),
            predecessor.unwrap_or_default(),
            rows::successor_bytes(old, successor),
            expires,
        );
        let done = self.change(&self.scripts.rotate, next.sid, args).await?;
        let done: Vec<Value> = shaped(done)?;
        let mut done = done.into_iter();
        let code: i64 = shaped(done.next().unwrap_or(Value::Nil))?;
        if code == 4 {
            return Ok(Some(Rotation::Done));
        }
        if code == 3 {
            return Err(taken());
        }
        self.forget_tokens(vec![next.hash]).await?;
        match code {
            0 => Ok(Some(Rotation::Gone)),
            1 => {
                let bytes: Vec<u8> = shaped(done.next().unwrap_or(Value::Nil))?;
                let seen: Bytes = shaped(done.next().unwrap_or(Value::Nil))?;
                Ok(Some(Rotation::Superseded(rows::successor(
                    old, &bytes, &seen,
                )?)))
            }
            _ => Ok(None),
        }
    }
}

pub(super) fn taken() -> StoreError {
    StoreError::Unavailable("a session or token of this name exists already".to_owned())
}
