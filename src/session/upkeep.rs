//! What goes on beside the requests: activity is saved in batches, ended sessions are removed and swept, news from other
//! nodes is taken in, the caches are kept in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::EndReason;
use super::sessions::{Sessions, Touches};
use super::store::Invalidation;
use super::token::Sid;
use crate::clock::Timestamp;
use crate::telemetry::StoreOp;

/// How long activity waits for more to be saved with it.
const BATCH_EVERY: Duration = Duration::from_secs(1);
const BATCH_MAX: usize = 10_000;
const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// Sessions that are swept in one operation, so that no other waits long behind it.
const SWEEP_MAX: usize = 500;

impl Sessions {
    /// Runs until the future is dropped. [`Sessions::settle`] is to be called once more after that.
    pub async fn run_upkeep(self: Arc<Self>, touches: &mut Touches) {
        // Side by side: a store that takes its time over one of them holds up no other.
        tokio::join!(
            self.settle_often(touches),
            self.sweep_often(),
            self.follow_news(),
            self.watch_store(),
        );
    }

    async fn settle_often(&self, touches: &mut Touches) {
        let mut batches = paced(BATCH_EVERY);
        loop {
            batches.tick().await;
            self.settle(touches).await;
            self.cache.maintain().await;
            self.metrics.cached_sessions(self.cache.len());
        }
    }

    async fn sweep_often(&self) {
        let mut sweeps = paced(SWEEP_EVERY);
        loop {
            sweeps.tick().await;
            self.sweep().await;
        }
    }

    /// Has the store know all that it does not know yet: which sessions have ended, and which are in use.
    pub async fn settle(&self, touches: &mut Touches) {
        self.remove_owed().await;
        self.save_activity(touches).await;
    }

    /// Saves what waits to be saved. What the store does not take is let go: it comes again with the next activity.
    async fn save_activity(&self, touches: &mut Touches) {
        let mut batch: HashMap<Sid, Timestamp> = HashMap::new();
        while batch.len() < BATCH_MAX {
            let Ok((sid, seen)) = touches.0.try_recv() else {
                break;
            };
            let latest = batch.entry(sid).or_insert(seen);
            *latest = seen.max(*latest);
        }
        if batch.is_empty() {
            return;
        }
        let touch = self.store.touch(batch.into_iter().collect());
        if let Err(error) = self.within(StoreOp::Touch, touch).await {
            tracing::warn!(%error, "activity was not saved");
        }
    }

    async fn sweep(&self) {
        let now = self.clock.now();
        loop {
            match self
                .within(StoreOp::Sweep, self.store.sweep(now, SWEEP_MAX))
                .await
            {
                Ok(swept) if swept == SWEEP_MAX => tokio::task::yield_now().await,
                Ok(_) => return,
                Err(error) => return tracing::warn!(%error, "ended sessions were not swept"),
            }
        }
    }

    /// Ends here what another node ended. Never returns where there are no other nodes.
    async fn follow_news(self: &Arc<Self>) {
        let Some(mut news) = self.store.invalidations() else {
            return std::future::pending().await;
        };
        loop {
            match news.recv().await {
                Ok(Invalidation::Ended(sid)) => {
                    self.cache.note_ended(sid).await;
                    self.registry.end(sid, EndReason::Elsewhere);
                }
                Ok(Invalidation::EndedBefore(subject, epoch)) => {
                    self.cache.note_epoch(subject, epoch).await;
                    self.registry
                        .end_before(subject, epoch, EndReason::Elsewhere);
                }
                Ok(Invalidation::Interrupted) | Err(RecvError::Lagged(_)) => {
                    self.cache.distrust_all();
                    self.doubt_awaited();
                }
                Ok(Invalidation::Silent) => {
                    self.cache.doubt_all();
                    self.doubt_awaited();
                }
                Err(RecvError::Closed) => return std::future::pending().await,
            }
        }
    }
}

/// Without catching up on what was missed.
pub(super) fn paced(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
