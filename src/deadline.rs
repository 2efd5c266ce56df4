//! Coarse deadlines without timers: each worker ticks once per [`clock::TICK`](crate::clock::TICK) and looks over what
//! it was asked to watch. Arming one costs a store, not a timer. It counts ticks, so a clock that is set means nothing.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::TICK;

/// Something that is looked at once per tick, and wakes its own task where that is due.
pub trait Watched: Send + Sync {
    fn check(&self, now: Tick);
}

/// A count of ticks since the worker began.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Tick(u64);

impl Tick {
    /// The first tick by which at least `span` has passed.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        // One more, since the tick under way may be nearly over.
        let ticks = span.as_nanos().div_ceil(TICK.as_nanos()).saturating_add(1);
        Self(
            self.0
                .saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX)),
        )
    }

    pub const fn count(self) -> u64 {
        self.0
    }

    pub const fn from_count(count: u64) -> Self {
        Self(count)
    }
}

/// What one worker watches. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Watch {
    ticks: Arc<AtomicU64>,
    watched: Arc<Mutex<Vec<Weak<dyn Watched>>>>,
}

impl Watch {
    pub fn now(&self) -> Tick {
        Tick(self.ticks.load(Ordering::Relaxed))
    }

    /// Watches `thing` until it is dropped.
    pub fn add<T: Watched + 'static>(&self, thing: &Arc<T>) {
        let weak: Weak<T> = Arc::downgrade(thing);
        self.watched.lock().push(weak);
    }

    /// One tick has passed.
    pub fn tick(&self) {
        let now = Tick(self.ticks.fetch_add(1, Ordering::Relaxed).saturating_add(1));
        self.watched.lock().retain(|weak| {
            let thing = weak.upgrade();
            if let Some(thing) = &thing {
                thing.check(now);
            }
            thing.is_some()
        });
    }

    /// Ticks for ever.
    pub async fn run(self) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.tick();
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

/// Whether the process is about to end, so that what has no end of its own is brought to one.
#[derive(Debug, Default)]
pub struct Drain {
    has_begun: AtomicBool,
    begun: Notify,
}

impl Drain {
    pub fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
        self.begun.notify_waiters();
    }

    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        let begun = self.begun.notified();
        tokio::pin!(begun);
        // Registered before the look, so that a beginning between the two is not missed.
        begun.as_mut().enable();
        if !self.has_begun() {
            begun.await;
        }
    }
}

/// A deadline that can be armed and disarmed any number of times.
#[derive(Debug)]
pub struct Deadline {
    watch: Watch,
    at: AtomicU64,
    /// When its task is woken once, though nothing has passed.
    nudge_at: AtomicU64,
    waker: AtomicWaker,
}

const UNARMED: u64 = u64::MAX;

impl Deadline {
    pub fn new(watch: &Watch) -> Arc<Self> {
        let deadline = Arc::new(Self {
            watch: watch.clone(),
            at: AtomicU64::new(UNARMED),
            nudge_at: AtomicU64::new(UNARMED),
            waker: AtomicWaker::new(),
        });
        watch.add(&deadline);
        deadline
    }

    /// Another deadline of the same worker.
    #[must_use]
    pub fn another(&self) -> Arc<Self> {
        Self::new(&self.watch)
    }

    pub fn arm(&self, span: Duration) {
        let at = self.watch.now().after(span);
        self.at.store(at.count(), Ordering::Relaxed);
    }

    /// Arms it unless it is armed already.
    pub fn arm_once(&self, span: Duration) {
        if self.at.load(Ordering::Relaxed) == UNARMED {
            self.arm(span);
        }
    }

    /// Wakes whoever polls it once, after `span`: what takes long may then do what is too dear for what does not. Returns
    /// the tick from which that is so.
    pub fn nudge(&self, span: Duration) -> Tick {
        let at = self.watch.now().after(span);
        self.nudge_at.store(at.count(), Ordering::Relaxed);
        at
    }

    pub fn disarm(&self) {
        self.at.store(UNARMED, Ordering::Relaxed);
    }

    /// Whether the time is up; if it is not, the task of `cx` is woken when it is.
    pub fn poll_passed(&self, cx: &Context<'_>) -> bool {
        if self.passed() {
            return true;
        }
        self.waker.register(cx.waker());
        self.passed()
    }

    fn passed(&self) -> bool {
        self.watch.now().count() >= self.at.load(Ordering::Relaxed)
    }
}

impl Watched for Deadline {
    fn check(&self, now: Tick) {
        let is_nudged = now.count() >= self.nudge_at.load(Ordering::Relaxed);
        if is_nudged {
            self.nudge_at.store(UNARMED, Ordering::Relaxed);
        }
        if is_nudged || now.count() >= self.at.load(Ordering::Relaxed) {
            self.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker;

    use super::*;

    fn passed(deadline: &Deadline) -> bool {
        deadline.poll_passed(&Context::from_waker(&noop_waker()))
    }

    #[test]
    fn a_deadline_never_passes_early() {
        let watch = Watch::default();
        let deadline = Deadline::new(&watch);
        deadline.arm(TICK * 2);
        watch.tick();
        watch.tick();
        assert!(!passed(&deadline), "the first tick may have come at once");
        watch.tick();
        assert!(passed(&deadline));
        deadline.disarm();
        assert!(!passed(&deadline));
    }

    #[test]
    fn a_nudge_wakes_once_and_passes_nothing() {
        struct Count(AtomicU64);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let watch = Watch::default();
        let deadline = Deadline::new(&watch);
        let count = Arc::new(Count(AtomicU64::new(0)));
        let waker = std::task::Waker::from(count.clone());
        let from = deadline.nudge(TICK);
        for ticks in 1..=4 {
            assert!(!deadline.poll_passed(&Context::from_waker(&waker)));
            watch.tick();
            let expected = u64::from(watch.now() >= from);
            assert_eq!(count.0.load(Ordering::Relaxed), expected, "{ticks}");
        }
        assert_eq!(from.count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_is_heard_of_by_whoever_waits_before_or_after() {
        let drain = Arc::new(Drain::default());
        assert!(!drain.has_begun());
        let early = tokio::spawn({
            let drain = drain.clone();
            async move { drain.begun().await }
        });
        tokio::task::yield_now().await;
        assert!(!early.is_finished());
        drain.begin();
        early.await.unwrap();
        drain.begun().await;
    }

    #[test]
    fn what_is_dropped_is_watched_no_longer() {
        let watch = Watch::default();
        drop(Deadline::new(&watch));
        let kept = Deadline::new(&watch);
        watch.tick();
        assert_eq!(watch.watched.lock().len(), 1);
        drop(kept);
        watch.tick();
        assert!(watch.watched.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_woken() {
        let watch = Watch::default();
        let deadline = Deadline::new(&watch);
        deadline.arm(Duration::from_secs(10));
        let ticking = tokio::spawn(watch.clone().run());
        let before = tokio::time::Instant::now();
        std::future::poll_fn(|cx| {
            if deadline.poll_passed(cx) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
        assert!(before.elapsed() >= Duration::from_secs(10));
        assert!(before.elapsed() < Duration::from_secs(11));
        ticking.abort();
    }
}
