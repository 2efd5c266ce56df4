//! What is good once, whichever node it comes to: the code of an authenticator app, and the answer of an authenticator. The
//! store's epochs do it, under tags that no session has: a new one is never the same as one that was there, whoever races,
//! and outlives a restart where the store does.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use super::record::SubjectTag;
use super::sessions::Sessions;
use super::store::StoreError;
use crate::clock::Timestamp;
use crate::identity::Subject;
use crate::secret::Purpose;
use crate::telemetry::StoreOp;

/// How long a claim is remembered: longer than any can be good, whatever the clocks of the store and of the nodes say.
const KEPT: Duration = Duration::from_hours(1);

/// An answer is claimed under a tag of its own, so any number does.
const ANSWERED: u64 = 1;

impl Sessions {
    /// Whether `number` is the first of its size that comes for a user. `true` once, for it and for all below it.
    pub async fn claim(&self, subject: &Subject, number: u64) -> Result<bool, StoreError> {
        let provider = digest(&SHA256, subject.provider.as_bytes());
        let data = [provider.as_ref(), subject.id.as_bytes()].concat();
        self.claim_under((Purpose::OneTimeCode, &data), number)
            .await
    }

    /// Whether the question of this number is answered for the first time. `true` once, for an hour, at all nodes together.
    pub async fn claim_answer(&self, question: &[u8; 16]) -> Result<bool, StoreError> {
        self.claim_under((Purpose::PasskeyAnswer, question), ANSWERED)
            .await
    }

    /// Whether it was claimed before, at any node.
    pub async fn is_answered(&self, question: &[u8; 16]) -> Result<bool, StoreError> {
        for tag in self.keyring.tags(Purpose::PasskeyAnswer, question) {
            let epoch = self.store.epoch(SubjectTag(tag));
            let known = self.within(StoreOp::Epoch, epoch).await?;
            if known.number() >= ANSWERED {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn claim_under(
        &self,
        (purpose, data): (Purpose, &[u8]),
        number: u64,
    ) -> Result<bool, StoreError> {
        let tags: Vec<_> = self.keyring.tags(purpose, data).collect();
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
