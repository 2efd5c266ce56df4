//! One HTTP/2 stream's response, let go of where the client takes nothing of it for too long. Flow control can hold it
//! back without a sign on the socket, where [`activity`](super::activity) does not see it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use hyper::rt::Executor;
use parking_lot::Mutex;
use pin_project_lite::pin_project;

use crate::deadline::{Tick, Watch, Watched};

/// Whose turn it is on one stream, and since when.
#[derive(Debug)]
pub(super) struct Pace {
    watch: Watch,
    limit: Duration,
    /// The tick since which the client has something to take, plus one; 0: the answer is not there yet.
    offered_since: AtomicU64,
    waker: AtomicWaker,
}

impl Pace {
    /// The client has been given something, and its time runs until more is asked for.
    pub(super) fn offer(&self) {
        let now = self.watch.now().count() + 1;
        self.offered_since.store(now, Ordering::Relaxed);
    }

    /// All is taken, and more is waited for.
    pub(super) fn wait(&self) {
        self.offered_since.store(0, Ordering::Relaxed);
    }

    fn passed(&self, now: Tick) -> bool {
        match self.offered_since.load(Ordering::Relaxed) {
            0 => false,
            since => Tick::from_count(since - 1).after(self.limit) <= now,
        }
    }

    fn is_offered(&self) -> bool {
        self.offered_since.load(Ordering::Relaxed) != 0
    }
}

impl Watched for Pace {
    fn check(&self, now: Tick) {
        if self.passed(now) {
            self.waker.wake();
        }
    }
}

/// Runs the streams of one connection, each in a task of its own.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    watch: Watch,
    limit: Duration,
    /// Of the request that the library has just handed over, whose stream it hands over next.
    latest: Arc<Mutex<Option<Arc<Pace>>>>,
}

impl Streams {
    pub(super) fn new(watch: &Watch, limit: Duration) -> Self {
        Self {
            watch: watch.clone(),
            limit,
            latest: Arc::default(),
        }
    }

    pub(super) fn begin(&self) -> Arc<Pace> {
        let pace = Arc::new(Pace {
            watch: self.watch.clone(),
            limit: self.limit,
            offered_since: AtomicU64::new(0),
            waker: AtomicWaker::new(),
        });
        *self.latest.lock() = Some(pace.clone());
        pace
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        match self.latest.lock().take() {
            Some(pace) => drop(tokio::spawn(Paced {
                stream,
                pace,
                is_watched: false,
            })),
            None => drop(tokio::spawn(stream)),
        }
    }
}

pin_project! {
    /// Drops the stream, which resets it, once its client's time is up. A future by hand: an `async fn` would hold the
    /// stream twice, and each one is moved into its task.
    struct Paced<F> {
        #[pin]
        stream: F,
        pace: Arc<Pace>,
        is_watched: bool,
    }
}

impl<F: Future<Output = ()>> Future for Paced<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let pace = this.pace;
        if this.stream.poll(cx).is_ready() || pace.passed(pace.watch.now()) {
            return Poll::Ready(());
        }
        // Most answers are taken at once and need not be watched.
        if pace.is_offered() {
            pace.waker.register(cx.waker());
            if !std::mem::replace(this.is_watched, true) {
                pace.watch.add(pace);
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::clock::TICK;

    /// A stream that never ends, and whether it is still there.
    fn endless(streams: &Streams) -> (Arc<Pace>, Arc<AtomicBool>) {
        struct Gone(Arc<AtomicBool>);
        impl Drop for Gone {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let gone = Arc::new(AtomicBool::new(false));
        let guard = Gone(gone.clone());
        let pace = streams.begin();
        let offered = pace.clone();
        streams.execute(async move {
            let _guard = guard;
            offered.offer();
            std::future::pending::<()>().await;
        });
        (pace, gone)
    }

    async fn ticks(watch: &Watch, count: usize) {
        for _ in 0..count {
            watch.tick();
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_stream_of_which_nothing_is_taken_is_let_go() {
        let watch = Watch::default();
        let streams = Streams::new(&watch, TICK * 4);
        let (_pace, gone) = endless(&streams);
        tokio::task::yield_now().await;
        ticks(&watch, 4).await;
        assert!(!gone.load(Ordering::Relaxed));
        ticks(&watch, 2).await;
        assert!(gone.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_stream_that_waits_for_the_app_or_moves_is_not() {
        let watch = Watch::default();
        let streams = Streams::new(&watch, TICK * 4);
        let ((waits, still), (moves, there)) = (endless(&streams), endless(&streams));
        tokio::task::yield_now().await;
        waits.wait();
        for _ in 0..10 {
            ticks(&watch, 3).await;
            moves.offer();
        }
        assert!(!still.load(Ordering::Relaxed) && !there.load(Ordering::Relaxed));
    }
}
