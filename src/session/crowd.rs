//! How many sessions one user may have at once (R9). Pure: it is told which of them live, and knows no store.
//!
//! A login looks twice. Before it begins a session it sees whether there is room; once the session is stored it looks
//! again, so that of several logins that race, on however many nodes, the last to be stored sees all the others. With
//! `deny` that one is withdrawn before anybody is told of it, and so is every other that sees too many: at worst a race
//! for the last place has no winner, and there are never more sessions in use than allowed. With `evict_oldest` all
//! agree on who is oldest, so the same sessions go whoever looks; there are more than allowed, by the number of
//! logins under way, only until the last of these is answered.

use super::token::Sid;
use crate::clock::Timestamp;

/// What happens to a login of a user who has as many sessions as are allowed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnLimit {
    /// It is turned away.
    Deny,
    /// The user's oldest session ends.
    #[default]
    EvictOldest,
}

impl OnLimit {
    /// The word for it in the configuration and in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::EvictOldest => "evict_oldest",
        }
    }
}

/// The limit of sessions per user.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PerUser {
    /// 0: no limit.
    pub max: usize,
    pub on_limit: OnLimit,
}

/// One of a user's sessions that live.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Begun {
    pub created: Timestamp,
    pub sid: Sid,
}

/// What is to become of a login.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Room {
    /// It may stand, once these have ended: oldest first.
    Made(Vec<Sid>),
    None,
}

impl PerUser {
    /// Judges a login that has not begun its session; `live` are the user's sessions.
    pub fn before(&self, live: &[Begun]) -> Room {
        if self.on_limit == OnLimit::Deny && self.max > 0 && live.len() >= self.max {
            Room::None
        } else {
            Room::Made(Vec::new())
        }
    }

    /// Judges a login whose session is among `live`.
    pub fn after(&self, live: &[Begun]) -> Room {
        let excess = match self.max {
            0 => 0,
            max => live.len().saturating_sub(max),
        };
        match self.on_limit {
            OnLimit::Deny if excess > 0 => Room::None,
            OnLimit::Deny | OnLimit::EvictOldest => {
                let mut oldest = live.to_vec();
                oldest.sort_unstable();
                Room::Made(oldest.iter().take(excess).map(|begun| begun.sid).collect())
            }
        }
    }
}

/// When a new session is to say that it began: later than all that are there, also where the clock has not moved on
/// since the last of them or another node's is ahead. The newest login is never the oldest.
pub(super) fn begins(live: &[Begun], now: Timestamp) -> Timestamp {
    let newest = live.iter().map(|begun| begun.created).max();
    newest.map_or(now, |newest| {
        now.max(Timestamp::from_millis(newest.as_millis().saturating_add(1)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn begun(at: u64, name: u8) -> Begun {
        Begun {
            created: Timestamp::from_millis(at),
            sid: Sid::from_bytes([name; 16]),
        }
    }

    fn rule(max: usize, on_limit: OnLimit) -> PerUser {
        PerUser { max, on_limit }
    }

    #[test]
    fn the_oldest_make_room_and_no_more_of_them_than_needed() {
        let live = [begun(30, 1), begun(10, 2), begun(20, 3)];
        let sid = |name| Sid::from_bytes([name; 16]);
        for (max, gone) in [(1, vec![sid(2), sid(3)]), (2, vec![sid(2)]), (3, vec![])] {
            let rule = rule(max, OnLimit::EvictOldest);
            assert_eq!(rule.before(&live), Room::Made(vec![]));
            assert_eq!(rule.after(&live), Room::Made(gone), "{max}");
        }
    }

    #[test]
    fn with_deny_a_full_house_takes_nobody() {
        let live = [begun(10, 1), begun(20, 2)];
        assert_eq!(rule(2, OnLimit::Deny).before(&live), Room::None);
        assert_eq!(rule(3, OnLimit::Deny).before(&live), Room::Made(vec![]));
        assert_eq!(rule(2, OnLimit::Deny).after(&live), Room::Made(vec![]));
        assert_eq!(rule(1, OnLimit::Deny).after(&live), Room::None);
    }

    #[test]
    fn zero_is_no_limit() {
        let live: Vec<Begun> = (0..100).map(|name| begun(1, name)).collect();
        for on_limit in [OnLimit::Deny, OnLimit::EvictOldest] {
            assert_eq!(rule(0, on_limit).before(&live), Room::Made(vec![]));
            assert_eq!(rule(0, on_limit).after(&live), Room::Made(vec![]));
        }
    }

    #[test]
    fn a_new_session_is_the_newest_on_a_clock_that_stands_still() {
        let now = Timestamp::from_millis(10);
        assert_eq!(begins(&[], now), now);
        assert_eq!(begins(&[begun(3, 1)], now), now);
        for (newest, expected) in [(10, 11), (25, 26)] {
            let expected = Timestamp::from_millis(expected);
            assert_eq!(begins(&[begun(1, 1), begun(newest, 2)], now), expected);
        }
    }

    proptest! {
        /// Logins of several nodes: all look before any is stored, are stored in one order, and look again in any order.
        #[test]
        fn no_race_ends_with_more_than_allowed(
            max in 1..5_usize, there in 0..5_usize, racing in 1..6_usize, deny: bool,
            ticks in prop::collection::vec(0..3_u64, 6), looks in prop::collection::vec(0..6_usize, 12),
        ) {
            let rule = rule(max, if deny { OnLimit::Deny } else { OnLimit::EvictOldest });
            let mut stored: Vec<Begun> = (0..there.min(max)).map(|name| begun(1, u8::try_from(name).unwrap())).collect();
            if rule.before(&stored) == Room::None {
                return Ok(());
            }
            let newcomers: Vec<Begun> = (0..racing)
                .map(|name| begun(10 + ticks[name], 100 - u8::try_from(name).unwrap()))
                .collect();
            // Who is stored looks at some time after that; those who have not by the end do then.
            let (mut waiting, mut answered) = (Vec::new(), Vec::new());
            let mut look = |who: Begun, stored: &mut Vec<Begun>| match rule.after(stored) {
                Room::None => stored.retain(|other| *other != who),
                Room::Made(gone) => {
                    stored.retain(|other| !gone.contains(&other.sid));
                    answered.push(who);
                }
            };
            let mut looks = looks.into_iter();
            for who in newcomers {
                stored.push(who);
                waiting.push(who);
                while looks.next().is_some_and(|at| at < waiting.len()) {
                    look(waiting.remove(0), &mut stored);
                }
            }
            while let Some(who) = waiting.pop() {
                look(who, &mut stored);
            }
            prop_assert!(stored.len() <= max);
            if !deny {
                prop_assert_eq!(stored.len(), max.min(there.min(max) + racing), "nobody goes without need");
            }
        }
    }
}
