//! A store that does not answer is no logout (R7): since when it has been silent, who goes on meanwhile, and how its
//! return is noticed. It knows no token and no record.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use super::sessions::Sessions;
use super::store::StoreError;
use super::token::TokenHash;
use super::upkeep::paced;
use crate::clock::Timestamp;
use crate::telemetry::{StoreOp, StoreSide};

/// How often a store in trouble is asked whether it is back.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What is known of the store's health, from the operations that everybody needs anyway.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// When reading began to fail, in milliseconds; 0: it does not.
    since: AtomicU64,
    /// The latest change was not taken.
    refuses: AtomicBool,
}

impl Outage {
    fn since(&self) -> Option<Timestamp> {
        let since = self.since.load(Ordering::Relaxed);
        (since != 0).then(|| Timestamp::from_millis(since))
    }

    /// `true` where this is the first failure.
    fn begin(&self, now: Timestamp) -> bool {
        let now = now.as_millis().max(1);
        let first = self
            .since
            .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        first.is_ok()
    }

    /// When it began, where there was one.
    fn end(&self) -> Option<Timestamp> {
        // The look comes first: in good times nobody writes, and workers do not take the line from each other.
        self.since()?;
        let since = self.since.swap(0, Ordering::Relaxed);
        (since != 0).then(|| Timestamp::from_millis(since))
    }

    /// `true` where that is a change.
    fn refuses(&self, refuses: bool) -> bool {
        self.refuses.load(Ordering::Relaxed) != refuses
            && self.refuses.swap(refuses, Ordering::Relaxed) != refuses
    }
}

impl Sessions {
    /// Whether sessions that this node knows go on though the store cannot confirm them.
    pub(super) fn outlasts_outage(&self) -> bool {
        let since = self.outage.since();
        since.is_some_and(|since| self.clock.now().since(since) < self.settings.outage_grace)
    }

    /// Learns from how an operation went.
    pub(super) fn note_health(&self, op: StoreOp, failure: Option<&StoreError>) {
        let fails = match failure {
            None => false,
            Some(StoreError::Timeout | StoreError::Unavailable(_)) => true,
            // The store is there; it is this record, or this moment.
            Some(StoreError::Busy | StoreError::Damaged(_) | StoreError::Version(_)) => return,
        };
        match op {
            StoreOp::Load => self.note_reading(failure.filter(|_| fails)),
            // Reading or a change; and long work, where what fails may be its length.
            StoreOp::Claim | StoreOp::Epoch | StoreOp::List | StoreOp::Sweep => {}
            StoreOp::Confirm
            | StoreOp::Create
            | StoreOp::Remove
            | StoreOp::Rotate
            | StoreOp::Touch
            | StoreOp::Update => self.note_writing(failure.filter(|_| fails)),
        }
    }

    /// Asks a store in trouble until it is back. Never returns.
    pub(super) async fn watch_store(&self) {
        let mut asks = paced(ASK_EVERY);
        loop {
            asks.tick().await;
            if self.outage.since().is_some() {
                // A token that nobody has: what a request would ask, and no session stands or falls by it.
                let nobody = TokenHash::from_bytes([0; 32]);
                // How it went is noted on the way.
                let _answer = self.within(StoreOp::Load, self.store.load(nobody)).await;
            }
            if self.outage.refuses.load(Ordering::Relaxed) {
                let probed = timeout(self.settings.store_timeout, self.store.probe()).await;
                if matches!(probed, Ok(Ok(()))) {
                    self.note_writing(None);
                }
            }
        }
    }

    fn note_reading(&self, failure: Option<&StoreError>) {
        let now = self.clock.now();
        if let Some(error) = failure {
            if self.outage.begin(now) {
                self.metrics.store_available(StoreSide::Reading, false);
                tracing::error!(%error, "the session store does not answer; known sessions go on");
            }
        } else if let Some(since) = self.outage.end() {
            self.metrics.store_available(StoreSide::Reading, true);
            let seconds = now.since(since).as_secs();
            tracing::info!(seconds, "the session store answers again");
        }
    }

    fn note_writing(&self, failure: Option<&StoreError>) {
        if self.outage.refuses(failure.is_some()) {
            self.metrics
                .store_available(StoreSide::Writing, failure.is_none());
            if let Some(error) = failure {
                tracing::error!(%error, "the session store takes no changes");
            } else {
                tracing::info!("the session store takes changes again");
            }
        }
    }
}
