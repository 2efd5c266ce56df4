//! What one connection is doing, and how long it may go on so. Looked over once per tick: a connection has no timer.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Limits;
use crate::deadline::{Drain, Tick, Watch, Watched};

/// How long a connection is idle before it gives its buffers back: longer than from click to click of a page that loads.
const REST: Duration = Duration::from_secs(1);

/// How a connection is to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    GoOn,
    /// Finish what is under way, take nothing new.
    Graceful,
    /// At once.
    Close,
}

/// Shared by a connection's stream, its requests and its serving task.
pub(super) struct Activity {
    watch: Watch,
    limits: Spans,
    /// HTTP/1: a header section that has begun counts from its first byte.
    sees_headers: bool,
    /// Each of these holds the tick when it began plus one; 0: it is not so.
    header_since: AtomicU64,
    idle_since: AtomicU64,
    /// HTTP/2: the `idle_since` after which buffers are to be given back.
    resting_since: AtomicU64,
    write_blocked_since: AtomicU64,
    in_flight: AtomicU32,
    verdict: AtomicU8,
    draining: Arc<Drain>,
    waker: AtomicWaker,
}

#[derive(Clone, Copy)]
struct Spans {
    header: Duration,
    keep_alive: Duration,
    body_idle: Duration,
}

impl Activity {
    pub(super) fn new(
        watch: &Watch,
        limits: &Limits,
        draining: Arc<Drain>,
        sees_headers: bool,
    ) -> Arc<Self> {
        let now = watch.now().count() + 1;
        let activity = Arc::new(Self {
            watch: watch.clone(),
            limits: Spans {
                header: limits.header_timeout,
                keep_alive: limits.keep_alive_timeout,
                body_idle: limits.body_idle_timeout,
            },
            sees_headers,
            // The first request is owed at once.
            header_since: AtomicU64::new(now),
            idle_since: AtomicU64::new(0),
            resting_since: AtomicU64::new(0),
            write_blocked_since: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            verdict: AtomicU8::new(0),
            draining,
            waker: AtomicWaker::new(),
        });
        watch.add(&activity);
        activity
    }

    /// What is to become of the connection; the task of `cx` is woken when that changes.
    pub(super) fn verdict(&self, cx: &Context<'_>) -> Verdict {
        self.waker.register(cx.waker());
        match self.verdict.load(Ordering::Relaxed) {
            0 => Verdict::GoOn,
            1 => Verdict::Graceful,
            _ => Verdict::Close,
        }
    }

    /// Nothing has been asked for some time: what a request needs can be given back.
    pub(super) fn is_resting(&self) -> bool {
        let since = self.resting_since.load(Ordering::Relaxed);
        since != 0 && since == self.idle_since.load(Ordering::Relaxed)
    }

    /// A request has been read.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.header_since.store(0, Ordering::Relaxed);
        self.idle_since.store(0, Ordering::Relaxed);
        InFlight(self.clone())
    }

    fn set(&self, verdict: u8) {
        if self.verdict.fetch_max(verdict, Ordering::Relaxed) < verdict {
            self.waker.wake();
        }
    }

    fn stamp(&self) -> u64 {
        self.watch.now().count() + 1
    }

    fn read(&self) {
        let waiting = self.in_flight.load(Ordering::Relaxed) == 0;
        if self.sees_headers && waiting && self.header_since.load(Ordering::Relaxed) == 0 {
            self.header_since.store(self.stamp(), Ordering::Relaxed);
            // From here on the header's time counts: a request that comes just before idleness ends is not turned away.
            self.idle_since.store(0, Ordering::Relaxed);
        }
    }

    fn wrote(&self, blocked: bool) {
        match (blocked, self.write_blocked_since.load(Ordering::Relaxed)) {
            (true, 0) => self
                .write_blocked_since
                .store(self.stamp(), Ordering::Relaxed),
            (true, _) | (false, 0) => {}
            (false, _) => self.write_blocked_since.store(0, Ordering::Relaxed),
        }
    }
}

impl Watched for Activity {
    fn check(&self, now: Tick) {
        let past = |since: &AtomicU64, span: Duration| match since.load(Ordering::Relaxed) {
            0 => false,
            since => Tick::from_count(since - 1).after(span) <= now,
        };
        if past(&self.write_blocked_since, self.limits.body_idle) {
            return self.set(2);
        }
        if self.in_flight.load(Ordering::Relaxed) == 0 {
            if past(&self.header_since, self.limits.header) {
                return self.set(2);
            }
            // A peer that does not take part in a graceful end is cut off.
            if past(
                &self.idle_since,
                self.limits.keep_alive + self.limits.header,
            ) {
                return self.set(2);
            }
            if past(&self.idle_since, self.limits.keep_alive) {
                self.set(1);
            }
            if !self.sees_headers && past(&self.idle_since, REST) && !self.is_resting() {
                let since = self.idle_since.load(Ordering::Relaxed);
                self.resting_since.store(since, Ordering::Relaxed);
                self.waker.wake();
            }
        }
        if self.draining.has_begun() {
            self.set(1);
        }
    }
}

impl fmt::Debug for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Activity")
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

/// A request under way, from its head to the last byte of its response.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.idle_since.store(self.0.stamp(), Ordering::Relaxed);
        }
    }
}

/// A stream that tells what moves on it, and holds on to what the connection was granted until it is gone.
#[derive(Debug)]
pub(super) struct Tracked<S, P> {
    stream: S,
    activity: Arc<Activity>,
    _permit: P,
}

impl<S, P> Tracked<S, P> {
    pub(super) fn new(stream: S, activity: Arc<Activity>, permit: P) -> Self {
        Self {
            stream,
            activity,
            _permit: permit,
        }
    }
}

impl<S: AsyncRead + Unpin, P: Unpin> AsyncRead for Tracked<S, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        if poll.is_ready() {
            self.activity.read();
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin, P: Unpin> AsyncWrite for Tracked<S, P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.activity.wrote(poll.is_pending());
        poll
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.activity.wrote(poll.is_pending());
        poll
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.activity.wrote(poll.is_pending());
        poll
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker;

    use super::*;
    use crate::clock::TICK;

    fn activity(sees_headers: bool) -> (Watch, Arc<Activity>, Arc<Drain>) {
        let watch = Watch::default();
        let draining = Arc::new(Drain::default());
        let limits = Limits {
            header_timeout: TICK * 4,
            keep_alive_timeout: TICK * 8,
            body_idle_timeout: TICK * 2,
            ..Limits::default()
        };
        let activity = Activity::new(&watch, &limits, draining.clone(), sees_headers);
        (watch, activity, draining)
    }

    fn verdict(activity: &Activity) -> Verdict {
        activity.verdict(&Context::from_waker(&noop_waker()))
    }

    fn ticks(watch: &Watch, count: usize) {
        for _ in 0..count {
            watch.tick();
        }
    }

    #[test]
    fn a_client_that_sends_nothing_is_closed_in_time() {
        for sees_headers in [true, false] {
            let (watch, activity, _) = activity(sees_headers);
            ticks(&watch, 4);
            assert_eq!(verdict(&activity), Verdict::GoOn);
            ticks(&watch, 1);
            assert_eq!(verdict(&activity), Verdict::Close);
        }
    }

    #[test]
    fn buffers_are_given_back_once_nothing_is_asked_for_a_while_and_kept_while_something_is() {
        let (watch, activity, _) = activity(false);
        ticks(&watch, 4);
        assert!(!activity.is_resting(), "there is nothing yet");
        let request = activity.begin();
        ticks(&watch, 5);
        assert!(!activity.is_resting(), "a request is under way");
        drop(request);
        ticks(&watch, 3);
        assert!(!activity.is_resting(), "the next may come at once");
        ticks(&watch, 2);
        assert!(activity.is_resting());
        drop(activity.begin());
        ticks(&watch, 1);
        assert!(!activity.is_resting());
    }

    #[test]
    fn bytes_that_drip_do_not_buy_a_header_more_time() {
        let (watch, activity, _) = activity(true);
        drop(activity.begin());
        ticks(&watch, 7);
        for _ in 0..5 {
            activity.read();
            assert_eq!(verdict(&activity), Verdict::GoOn);
            ticks(&watch, 1);
        }
        assert_eq!(verdict(&activity), Verdict::Close);
    }

    #[test]
    fn a_request_under_way_may_take_its_time_and_an_idle_connection_may_not() {
        let (watch, activity, _) = activity(true);
        let request = activity.begin();
        ticks(&watch, 100);
        assert_eq!(verdict(&activity), Verdict::GoOn);
        drop(request);
        ticks(&watch, 8);
        assert_eq!(verdict(&activity), Verdict::GoOn);
        ticks(&watch, 1);
        assert_eq!(verdict(&activity), Verdict::Graceful);
        ticks(&watch, 4);
        assert_eq!(verdict(&activity), Verdict::Close);
    }

    #[test]
    fn a_client_that_does_not_read_is_closed_though_a_request_is_under_way() {
        let (watch, activity, _) = activity(true);
        let _request = activity.begin();
        activity.wrote(true);
        ticks(&watch, 2);
        activity.wrote(false);
        activity.wrote(true);
        ticks(&watch, 2);
        assert_eq!(verdict(&activity), Verdict::GoOn, "there was progress");
        ticks(&watch, 1);
        assert_eq!(verdict(&activity), Verdict::Close);
    }

    #[test]
    fn a_process_that_drains_asks_every_connection_to_end() {
        let (watch, activity, draining) = activity(false);
        let _request = activity.begin();
        draining.begin();
        ticks(&watch, 1);
        assert_eq!(verdict(&activity), Verdict::Graceful);
    }
}
