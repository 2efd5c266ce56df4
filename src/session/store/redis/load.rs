//! How the session of a token is looked up: in one round trip, but in a Cluster, where the parts lie on nodes of their own.

use futures_util::future::try_join;

use super::backend::Redis;
use super::keys::named_in;
use super::news::epoch_of;
use super::rows::{self, Bytes, damaged, shaped};
use crate::session::record::{Epoch, Stored, SubjectTag};
use crate::session::store::StoreError;
use crate::session::token::{Sid, TokenHash};

/// What a load looks at.
struct Seen {
    sid: Sid,
    subject: Option<SubjectTag>,
    /// Of the session's hash.
    fields: Vec<Bytes>,
    epoch: Epoch,
}

impl Redis {
    pub(super) async fn loaded(&self, hash: TokenHash) -> Result<Option<Stored>, StoreError> {
        let fields = rows::SESSION.map(|name| name.as_bytes().to_vec());
        let fields: Vec<_> = fields.into_iter().chain(rows::token_fields(hash)).collect();
        let seen = if self.link.is_cluster() {
            self.seen_apart(hash, &fields).await?
        } else {
            self.seen_at_once(hash, &fields).await?
        };
        let Some(Seen {
            sid,
            subject,
            fields,
            epoch,
        }) = seen
        else {
            return Ok(None);
        };
        let Some(stored) = rows::stored(sid, hash, &fields)? else {
            return Ok(None);
        };
        if stored.session.subject != subject {
            return Err(damaged("a token of somebody else"));
        }
        Ok((stored.session.epoch >= epoch).then_some(stored))
    }

    pub(super) async fn epoch_of(&self, subject: Option<SubjectTag>) -> Result<Epoch, StoreError> {
        let Some(subject) = subject else {
            return Ok(Epoch::default());
        };
        let mut get = redis::cmd("GET");
        get.arg(self.keys.epoch(subject));
        let number: Bytes = self.link.ask(&get).await?;
        epoch_in(number)
    }

    /// What a load looks at, in one round trip.
    async fn seen_at_once(
        &self,
        hash: TokenHash,
        fields: &[Vec<u8>],
    ) -> Result<Option<Seen>, StoreError> {
        let (key, args) = (self.keys.token(hash), (self.keys.prefix(), fields));
        let seen = self.scripts.load.ask(&self.link, &[key], args).await?;
        let seen: Option<(Vec<u8>, Bytes, Vec<Bytes>)> = shaped(seen)?;
        let Some((name, epoch, fields)) = seen else {
            return Ok(None);
        };
        let (sid, subject) = named_in(&name).ok_or_else(|| damaged("no session id"))?;
        let epoch = epoch_in(epoch)?;
        Ok(Some(Seen {
            sid,
            subject,
            fields,
            epoch,
        }))
    }

    /// The same in a Cluster, where only a token's name says which node has the rest.
    async fn seen_apart(
        &self,
        hash: TokenHash,
        fields: &[Vec<u8>],
    ) -> Result<Option<Seen>, StoreError> {
        let Some((sid, subject)) = self.led_to(hash).await? else {
            return Ok(None);
        };
        let (fields, epoch) = try_join(self.fields(sid, fields), self.epoch_of(subject)).await?;
        Ok(Some(Seen {
            sid,
            subject,
            fields,
            epoch,
        }))
    }
}

/// No number: no epoch has begun.
fn epoch_in(number: Bytes) -> Result<Epoch, StoreError> {
    let epoch = number.map(|number| epoch_of(&number).ok_or_else(|| damaged("no epoch")));
    Ok(epoch.transpose()?.unwrap_or_default())
}
