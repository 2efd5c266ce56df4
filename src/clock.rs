//! The only reading of wall time. Workers read a cached value; one tick refreshes it for all of them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// How often a running process refreshes its [`Clock`]; the resolution of every decision about time.
pub const TICK: Duration = Duration::from_millis(250);

/// A moment, in milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct Timestamp(u64);

impl Timestamp {
    pub const MAX: Self = Self(u64::MAX);

    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// The moment `span` later; [`Timestamp::MAX`] where that cannot be counted.
    #[must_use]
    pub const fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// The time that has passed since `earlier`; zero where `earlier` lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(millis) {
            Ok(moment) => write!(f, "{moment:.3}"),
            Err(_) => f.write_str("never"),
        }
    }
}

/// The time of day as the whole process sees it. Cloning is cheap; all clones agree.
#[derive(Clone, Debug)]
pub struct Clock {
    now: Arc<AtomicU64>,
    fixed: bool,
}

impl Clock {
    /// A clock that follows the system's whenever somebody calls [`Clock::tick`].
    pub fn system() -> Self {
        Self {
            now: Arc::new(AtomicU64::new(system_millis())),
            fixed: false,
        }
    }

    /// A clock that stands still until [`Clock::advance`] is called, for tests.
    pub fn fixed(now: Timestamp) -> Self {
        Self {
            now: Arc::new(AtomicU64::new(now.0)),
            fixed: true,
        }
    }

    pub fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }

    /// Reads the system's clock. Every running process calls it each [`TICK`].
    pub fn tick(&self) {
        if !self.fixed {
            self.now.store(system_millis(), Ordering::Relaxed);
        }
    }

    /// Moves the clock on by hand; a system clock snaps back at its next tick.
    pub fn advance(&self, span: Duration) {
        self.now.fetch_add(millis(span), Ordering::Relaxed);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads it"
)]
fn system_millis() -> u64 {
    let elapsed = std::time::SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, millis)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "584 million years fit in 64 bits of milliseconds"
)]
const fn millis(span: Duration) -> u64 {
    span.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_moves_only_by_hand() {
        let clock = Clock::fixed(Timestamp::from_millis(1_000));
        clock.tick();
        assert_eq!(clock.now(), Timestamp::from_millis(1_000));
        clock.clone().advance(Duration::from_secs(2));
        assert_eq!(clock.now(), Timestamp::from_millis(3_000));
    }

    #[test]
    fn time_that_lies_ahead_has_not_passed() {
        let later = Timestamp::from_millis(5);
        assert_eq!(Timestamp::from_millis(3).since(later), Duration::ZERO);
        assert_eq!(Timestamp::MAX.after(Duration::MAX), Timestamp::MAX);
    }

    #[test]
    fn a_moment_reads_as_rfc_3339() {
        let moment = Timestamp::from_millis(1_700_000_000_123);
        assert_eq!(moment.to_string(), "2023-11-14T22:13:20.123Z");
    }
}
