//! How many lines of one kind a log takes: what anybody may cause, with a request that is refused, must not fill
//! the disk nor hide what else was written. What is left out is counted, and the count is written.

use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Timestamp;

/// Lines of one kind that are written at once.
const BURST: u64 = 100;

/// After that one line is written per this time.
const REFILL: Duration = Duration::from_secs(1);

/// Between two counts of what was left out.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Events that a client may cause as often as it likes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    AccessDenied,
    AdminRefused,
    CookieTossing,
    CredentialRefused,
    CrossSiteRefused,
    IdentityHeaderStripped,
    LoginStranded,
    LoginThrottled,
    ProviderLogoutRefused,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::AccessDenied,
        Self::AdminRefused,
        Self::CookieTossing,
        Self::CredentialRefused,
        Self::CrossSiteRefused,
        Self::IdentityHeaderStripped,
        Self::LoginStranded,
        Self::LoginThrottled,
        Self::ProviderLogoutRefused,
    ];

    /// The event's word in the log.
    const fn name(self) -> &'static str {
        match self {
            Self::AccessDenied => "access_denied",
            Self::AdminRefused => "admin_refused",
            Self::CookieTossing => "cookie_tossing",
            Self::CredentialRefused => "credential_refused",
            Self::CrossSiteRefused => "cross_site_refused",
            Self::IdentityHeaderStripped => "identity_header_stripped",
            Self::LoginStranded => "login_stranded",
            Self::LoginThrottled => "login_throttled",
            Self::ProviderLogoutRefused => "provider_logout_refused",
        }
    }
}

/// One bucket of tokens for each [`Kind`], in the order of [`Kind::ALL`].
#[derive(Debug, Default)]
pub(super) struct Floods([Mutex<Bucket>; Kind::ALL.len()]);

#[derive(Debug)]
pub(super) struct Bucket {
    /// Lines that may be written now.
    left: u64,
    /// Up to when it was filled.
    filled: Timestamp,
    left_out: u64,
    told: Timestamp,
}

impl Default for Bucket {
    fn default() -> Self {
        Self {
            left: BURST,
            filled: Timestamp::default(),
            left_out: 0,
            told: Timestamp::default(),
        }
    }
}

impl Floods {
    /// Whether one more line is written. Where it is not, it counts as left out.
    pub(super) fn admits(&self, kind: Kind, now: Timestamp) -> bool {
        let bucket = self.0.get(kind as usize);
        bucket.is_none_or(|bucket| bucket.lock().take(now))
    }

    /// What was left out since it was told last, of each kind for which it is time to tell, or of all.
    pub(super) fn left_out(&self, now: Timestamp, all: bool) -> Vec<(&'static str, u64)> {
        let kinds = Kind::ALL.iter().zip(&self.0);
        let counts = kinds.map(|(kind, bucket)| (kind.name(), bucket.lock().tell(now, all)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

impl Bucket {
    pub(super) fn take(&mut self, now: Timestamp) -> bool {
        let refills = now.since(self.filled).as_millis() / REFILL.as_millis();
        let refills = u64::try_from(refills).unwrap_or(u64::MAX);
        if refills > 0 {
            self.left = self.left.saturating_add(refills).min(BURST);
            self.filled = now;
        }
        let is_admitted = self.left > 0;
        if is_admitted {
            self.left -= 1;
        } else {
            if self.left_out == 0 {
                // From the first that is left out on, so that the count is of some time.
                self.told = now;
            }
            self.left_out += 1;
        }
        is_admitted
    }

    pub(super) fn tell(&mut self, now: Timestamp, all: bool) -> u64 {
        if !all && now.since(self.told) < TELL_EVERY {
            return 0;
        }
        self.told = now;
        std::mem::take(&mut self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn admitted(floods: &Floods, kind: Kind, now: Timestamp, times: usize) -> usize {
        (0..times).filter(|_| floods.admits(kind, now)).count()
    }

    #[test]
    fn a_flood_is_cut_to_a_burst_and_then_a_trickle() {
        let floods = Floods::default();
        assert_eq!(admitted(&floods, Kind::CookieTossing, NOW, 1000), 100);
        assert_eq!(
            admitted(&floods, Kind::CrossSiteRefused, NOW, 1000),
            100,
            "each kind for itself"
        );
        let mut now = NOW;
        for _ in 0..5 {
            now = now.after(Duration::from_secs(1));
            assert_eq!(admitted(&floods, Kind::CookieTossing, now, 10), 1);
        }
        let later = now.after(Duration::from_hours(1));
        assert_eq!(admitted(&floods, Kind::CookieTossing, later, 1000), 100);
    }

    #[test]
    fn each_kind_has_a_bucket_of_its_own() {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at, "{kind:?}");
        }
    }

    #[test]
    fn every_line_that_was_left_out_is_counted_once() {
        let floods = Floods::default();
        admitted(&floods, Kind::AccessDenied, NOW, 130);
        let soon = NOW.after(Duration::from_millis(9_999));
        assert!(floods.left_out(soon, false).is_empty());
        let later = NOW.after(TELL_EVERY);
        assert_eq!(floods.left_out(later, false), [("access_denied", 30)]);
        assert!(floods.left_out(later, true).is_empty());
        let total = 10 + admitted(&floods, Kind::AccessDenied, later, 1000);
        assert_eq!(total, 20, "ten seconds bring ten lines");
        assert_eq!(floods.left_out(later, true), [("access_denied", 990)]);
    }

    #[test]
    fn a_clock_that_is_set_back_admits_no_more() {
        let floods = Floods::default();
        admitted(&floods, Kind::AccessDenied, NOW, 100);
        let before = Timestamp::from_millis(NOW.as_millis() - 60_000);
        assert_eq!(admitted(&floods, Kind::AccessDenied, before, 10), 0);
    }
}
