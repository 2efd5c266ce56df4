//! Numbers that are good once, whichever node they come to: the code of an authenticator app is. The store's epochs do it,
//! under tags that no session has: a new one is never the same as one that was there, whoever races, and outlives a restart
//! where the store does.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use super::record::SubjectTag;
use super::sessions::Sessions;
use super::store::StoreError;
use crate::clock::Timestamp;
use crate::identity::Subject;
use crate::secret::Purpose;
use crate::telemetry::StoreOp;

/// How long a number is remembered: longer than any can be good, whatever the clocks of the store and of the nodes say.
const KEPT: Duration = Duration::from_hours(1);

impl Sessions {
    /// Whether `number` is the first of its size that comes for a user. `true` once, for it and for all below it.
    pub async fn claim(&self, subject: &Subject, number: u64) -> Result<bool, StoreError> {
        let provider = digest(&SHA256, subject.provider.as_bytes());
        let data = [provider.as_ref(), subject.id.as_bytes()].concat();
        let tags: Vec<_> = self.keyring.tags(Purpose::OneTimeCode, &data).collect();
        let until = self.clock.now().after(KEPT);
        for tag in tags.into_iter().map(SubjectTag) {
            let known = self.within(StoreOp::Epoch, self.store.epoch(tag)).await?;
            if known.number() >= number {
                return Ok(false);
            }
            let begun = self
                .store
                .begin_epoch(tag, Timestamp::from_millis(number), until);
            let begun = self.within(StoreOp::Epoch, begun).await?;
            if begun.number() != number {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
