//! Which server is asked next, and how long a refusal takes there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;

/// How long a server that failed is asked after all others.
const SHUNNED: Duration = Duration::from_secs(30);

/// When each server failed last, in milliseconds; 0: it has not.
#[derive(Debug)]
pub(super) struct Servers(Vec<AtomicU64>);

impl Servers {
    pub(super) fn new(count: usize) -> Self {
        Self((0..count).map(|_| AtomicU64::new(0)).collect())
    }

    /// Every one of them, those that failed lately last.
    pub(super) fn order(&self, now: Timestamp) -> Vec<usize> {
        let is_shunned = |index: &usize| {
            let failed = self
                .0
                .get(*index)
                .map_or(0, |at| at.load(Ordering::Relaxed));
            failed != 0 && now.since(Timestamp::from_millis(failed)) < SHUNNED
        };
        let (last, mut first): (Vec<_>, Vec<_>) = (0..self.0.len()).partition(is_shunned);
        first.extend(last);
        first
    }

    pub(super) fn failed(&self, index: usize, now: Timestamp) {
        self.set(index, now.as_millis());
    }

    pub(super) fn answered(&self, index: usize) {
        self.set(index, 0);
    }

    fn set(&self, index: usize, millis: u64) {
        if let Some(at) = self.0.get(index) {
            at.store(millis, Ordering::Relaxed);
        }
    }
}

/// How long servers take to look at a password, so that a name that does not exist can take as long.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU64);

impl Pace {
    pub(super) fn saw(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = self.0.load(Ordering::Relaxed);
        let usual = if before == 0 {
            took
        } else {
            before - before / 8 + took / 8
        };
        self.0.store(usual, Ordering::Relaxed);
    }

    pub(super) fn usual(&self, longest: Duration) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed)).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_failed_is_asked_last_for_a_while() {
        let servers = Servers::new(3);
        let at = |secs: u64| Timestamp::from_millis(secs * 1000);
        assert_eq!(servers.order(at(10)), [0, 1, 2]);
        servers.failed(0, at(10));
        assert_eq!(servers.order(at(39)), [1, 2, 0]);
        assert_eq!(servers.order(at(40)), [0, 1, 2]);
        servers.failed(1, at(40));
        servers.answered(1);
        assert_eq!(servers.order(at(41)), [0, 1, 2]);
    }

    #[test]
    fn the_usual_time_follows_what_is_seen_and_has_an_end() {
        let (pace, most) = (Pace::default(), Duration::from_secs(5));
        assert_eq!(pace.usual(most), Duration::ZERO);
        pace.saw(Duration::from_millis(80));
        assert_eq!(pace.usual(most), Duration::from_millis(80));
        pace.saw(Duration::from_millis(160));
        assert_eq!(pace.usual(most), Duration::from_millis(90));
        pace.saw(Duration::from_hours(1));
        assert_eq!(pace.usual(most), most);
    }
}
