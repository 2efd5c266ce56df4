//! When a session lives, when its activity is due to be saved, when its token is due to change (R3, R4). Pure: time is
//! an argument, and nothing is stored or sent here.

use std::time::Duration;

use crate::clock::Timestamp;

/// The numbers of one session and its current token that decisions about time need.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Clocking {
    pub last_seen: Timestamp,
    /// The `last_seen` that the store knows.
    pub last_saved: Timestamp,
    /// When the current token was issued.
    pub issued: Timestamp,
    pub idle_timeout: Duration,
    /// The absolute end.
    pub expires: Timestamp,
}

/// What the settings and the route say about time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    pub touch_interval: Duration,
    pub rotate_interval: Duration,
    /// The route's own idle timeout. Only a narrower one than the session's counts.
    pub idle_timeout: Option<Duration>,
    /// `false`: requests here do not keep a session alive.
    pub activity: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Over: the absolute end has come.
    Expired,
    /// Over here: no activity for too long. The store may know of some on another node.
    Idle,
    /// Good, and nothing is due.
    Live,
    /// Good, and a new token is due. Whether activity is due to be saved too says [`Clocking::touch_due`].
    Rotate,
    /// Good, and its activity is due to be saved.
    Touch,
}

/// What a replaced token is worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OldToken {
    Good,
    /// Presented after its successor was seen and the grace has passed: somebody else holds a copy.
    Reused,
}

/// Limits are ends: at the very millisecond of a limit the session is over.
pub fn judge(clocking: &Clocking, policy: &Policy, now: Timestamp) -> Verdict {
    if now >= clocking.expires {
        Verdict::Expired
    } else if now.since(clocking.last_seen) >= clocking.idle_limit(policy) {
        Verdict::Idle
    } else if now.since(clocking.issued) >= policy.rotate_interval {
        Verdict::Rotate
    } else if clocking.touch_due(policy, now) {
        Verdict::Touch
    } else {
        Verdict::Live
    }
}

/// Judges a token whose successor was first presented at `successor_seen`. Until that happens it stays good, so that
/// a lost response logs nobody out.
pub fn judge_old_token(
    successor_seen: Option<Timestamp>,
    now: Timestamp,
    grace: Duration,
) -> OldToken {
    match successor_seen {
        Some(seen) if now.since(seen) >= grace => OldToken::Reused,
        _ => OldToken::Good,
    }
}

/// Whether a login is too old for a route that wants one of at most `max_age`. As every limit, it is an end.
pub fn is_proof_too_old(auth_time: Timestamp, max_age: Option<Duration>, now: Timestamp) -> bool {
    max_age.is_some_and(|max_age| now.since(auth_time) >= max_age)
}

impl Clocking {
    /// Whether this request's activity is due to be saved. A short idle timeout is saved at least twice within its
    /// length, or nodes that share a store would end sessions that are in use elsewhere.
    pub fn touch_due(&self, policy: &Policy, now: Timestamp) -> bool {
        let interval = policy.touch_interval.min(self.idle_limit(policy) / 2);
        policy.activity && now.since(self.last_saved) >= interval
    }

    fn idle_limit(&self, policy: &Policy) -> Duration {
        let narrower = policy.idle_timeout.unwrap_or(self.idle_timeout);
        narrower.min(self.idle_timeout)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: u64 = 60_000;
    const START: u64 = 1_000_000_000;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(START + millis)
    }

    /// Idle after 30 minutes, over after 12 hours; begun, seen, saved and issued at the start.
    fn clocking() -> Clocking {
        Clocking {
            last_seen: at(0),
            last_saved: at(0),
            issued: at(0),
            idle_timeout: Duration::from_mins(30),
            expires: at(12 * 60 * MINUTE),
        }
    }

    /// Save every minute, a new token every hour.
    fn policy() -> Policy {
        Policy {
            touch_interval: Duration::from_mins(1),
            rotate_interval: Duration::from_hours(1),
            idle_timeout: None,
            activity: true,
        }
    }

    #[test]
    fn activity_is_saved_once_per_interval() {
        for (millis, expected) in [
            (0, Verdict::Live),
            (MINUTE - 1, Verdict::Live),
            (MINUTE, Verdict::Touch),
            (MINUTE + 1, Verdict::Touch),
        ] {
            assert_eq!(
                judge(&clocking(), &policy(), at(millis)),
                expected,
                "{millis} ms"
            );
        }
    }

    #[test]
    fn a_session_is_idle_from_the_millisecond_of_its_limit() {
        let saved = Clocking {
            last_saved: at(30 * MINUTE),
            ..clocking()
        };
        for (millis, expected) in [
            (30 * MINUTE - 1, Verdict::Live),
            (30 * MINUTE, Verdict::Idle),
            (30 * MINUTE + 1, Verdict::Idle),
        ] {
            assert_eq!(
                judge(&saved, &policy(), at(millis)),
                expected,
                "{millis} ms"
            );
        }
    }

    #[test]
    fn activity_does_not_move_the_absolute_end() {
        let end = 12 * 60 * MINUTE;
        let busy = Clocking {
            last_seen: at(end),
            last_saved: at(end),
            issued: at(end),
            ..clocking()
        };
        for (millis, expected) in [
            (end - 1, Verdict::Live),
            (end, Verdict::Expired),
            (end + 1, Verdict::Expired),
        ] {
            assert_eq!(judge(&busy, &policy(), at(millis)), expected, "{millis} ms");
        }
    }

    #[test]
    fn a_token_is_due_for_change_after_its_interval() {
        let hour = 60 * MINUTE;
        let busy = Clocking {
            last_seen: at(hour),
            last_saved: at(hour),
            ..clocking()
        };
        for (millis, expected) in [
            (hour - 1, Verdict::Live),
            (hour, Verdict::Rotate),
            (hour + 1, Verdict::Rotate),
        ] {
            assert_eq!(judge(&busy, &policy(), at(millis)), expected, "{millis} ms");
        }
        let unsaved = Clocking {
            last_seen: at(hour),
            ..clocking()
        };
        assert_eq!(judge(&unsaved, &policy(), at(hour)), Verdict::Rotate);
        assert!(
            unsaved.touch_due(&policy(), at(hour)),
            "a change of token does not hide that a touch is due"
        );
    }

    #[test]
    fn a_route_narrows_the_idle_timeout_and_never_widens_it() {
        let with = |secs| Policy {
            idle_timeout: Some(Duration::from_secs(secs)),
            ..policy()
        };
        let saved = Clocking {
            last_saved: at(30 * MINUTE),
            ..clocking()
        };
        assert_eq!(judge(&saved, &with(300), at(5 * MINUTE - 1)), Verdict::Live);
        assert_eq!(judge(&saved, &with(300), at(5 * MINUTE)), Verdict::Idle);
        assert_eq!(judge(&saved, &with(86_400), at(30 * MINUTE)), Verdict::Idle);
        assert_eq!(judge(&saved, &with(0), at(0)), Verdict::Idle);
    }

    #[test]
    fn polling_keeps_nothing_alive() {
        let quiet = Policy {
            activity: false,
            ..policy()
        };
        assert_eq!(judge(&clocking(), &quiet, at(10 * MINUTE)), Verdict::Live);
        assert_eq!(judge(&clocking(), &quiet, at(30 * MINUTE)), Verdict::Idle);
    }

    #[test]
    fn a_short_idle_timeout_is_saved_more_often() {
        let short = Clocking {
            idle_timeout: Duration::from_secs(40),
            ..clocking()
        };
        assert_eq!(judge(&short, &policy(), at(19_999)), Verdict::Live);
        assert_eq!(judge(&short, &policy(), at(20_000)), Verdict::Touch);
    }

    #[test]
    fn a_clock_that_went_back_ends_nothing() {
        let ahead = Clocking {
            last_seen: at(5),
            last_saved: at(5),
            issued: at(5),
            ..clocking()
        };
        assert_eq!(judge(&ahead, &policy(), at(0)), Verdict::Live);
        assert_eq!(
            judge_old_token(Some(at(5)), at(0), Duration::from_secs(10)),
            OldToken::Good
        );
    }

    #[test]
    fn a_replaced_token_dies_a_grace_after_its_successor_was_seen() {
        let grace = Duration::from_secs(10);
        for (seen, now, expected) in [
            (None, Timestamp::MAX, OldToken::Good),
            (Some(at(0)), at(9_999), OldToken::Good),
            (Some(at(0)), at(10_000), OldToken::Reused),
            (Some(at(0)), at(10_001), OldToken::Reused),
        ] {
            assert_eq!(
                judge_old_token(seen, now, grace),
                expected,
                "{seen:?} {now:?}"
            );
        }
        assert_eq!(
            judge_old_token(Some(at(0)), at(0), Duration::ZERO),
            OldToken::Reused
        );
    }

    #[test]
    fn a_login_is_too_old_from_the_millisecond_of_its_limit() {
        let limit = Some(Duration::from_mins(10));
        for (millis, expected) in [
            (0, false),
            (10 * MINUTE - 1, false),
            (10 * MINUTE, true),
            (10 * MINUTE + 1, true),
        ] {
            assert_eq!(
                is_proof_too_old(at(0), limit, at(millis)),
                expected,
                "{millis} ms"
            );
        }
        assert!(!is_proof_too_old(at(0), None, Timestamp::MAX));
        assert!(
            !is_proof_too_old(at(5), limit, at(0)),
            "a clock that went back"
        );
    }

    fn is_good(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Live | Verdict::Rotate | Verdict::Touch)
    }

    prop_compose! {
        fn any_case()(
            seen in 0..10_000_u64, saved in 0..10_000_u64, issued in 0..10_000_u64, idle in 1..10_000_u64,
            expires in 0..20_000_u64, touch in 0..5_000_u64, rotate in 0..5_000_u64,
            narrow in prop::option::of(0..20_000_u64), activity: bool, now in 0..20_000_u64,
        ) -> (Clocking, Policy, Timestamp) {
            let clocking = Clocking {
                last_seen: at(seen),
                last_saved: at(saved),
                issued: at(issued),
                idle_timeout: Duration::from_millis(idle),
                expires: at(expires),
            };
            let policy = Policy {
                touch_interval: Duration::from_millis(touch),
                rotate_interval: Duration::from_millis(rotate),
                idle_timeout: narrow.map(Duration::from_millis),
                activity,
            };
            (clocking, policy, at(now))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn nothing_is_good_past_a_limit((clocking, policy, now) in any_case()) {
            let ends = clocking.last_seen.after(clocking.idle_timeout).min(clocking.expires);
            if is_good(judge(&clocking, &policy, now)) {
                prop_assert!(now < ends);
            } else if policy.idle_timeout.is_none() {
                prop_assert!(now >= ends);
            }
        }

        #[test]
        fn what_a_route_adds_only_takes_away((clocking, policy, now) in any_case()) {
            let wide = Policy { idle_timeout: None, ..policy };
            prop_assert!(!is_good(judge(&clocking, &policy, now)) || is_good(judge(&clocking, &wide, now)));
        }

        #[test]
        fn what_is_over_stays_over((clocking, policy, now) in any_case(), later in 0..20_000_u64) {
            if !is_good(judge(&clocking, &policy, now)) {
                let later = now.after(Duration::from_millis(later));
                prop_assert!(!is_good(judge(&clocking, &policy, later)));
            }
        }

        #[test]
        fn without_activity_nothing_is_saved((clocking, policy, now) in any_case()) {
            let quiet = Policy { activity: false, ..policy };
            prop_assert!(!clocking.touch_due(&quiet, now));
            prop_assert_ne!(judge(&clocking, &quiet, now), Verdict::Touch);
        }
    }
}
