//! How many passwords may be tried: per user and per address, within a window. It knows no passwords and no users,
//! only names and addresses, and keeps neither: a counter is found by a keyed hash.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Timestamp;

/// Counters of each kind.
const CAPACITY: usize = 100_000;
/// Moments kept in all counters of one kind; with many attempts allowed there are fewer counters.
const MOMENTS: usize = 4_000_000;
/// The most attempts that are counted one by one.
const MAX_ATTEMPTS: u32 = 1000;

/// One password about to be tried.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    pub user: &'a str,
    pub address: IpAddr,
    /// This browser has logged this user in before.
    pub known_browser: bool,
}

/// Counts attempts. An attempt is counted *before* the password is looked at, so that a thousand guesses sent at once
/// get no further than a thousand sent one after the other; a right password gives its attempt back.
///
/// Three counters take part. The address counts for everybody (IPv6 by its /64, which is what one customer gets). A
/// user has two: one for browsers that have logged this user in before, one for all others. So a stranger can use up
/// the strangers' attempts, and the owner still logs in from a browser that is known.
///
/// Memory is bounded. When a kind of counter is full, those whose window has passed go first, then those with the
/// fewest attempts, an eighth at a time, the longest unused first. A flood of new names or addresses therefore
/// removes its own counters before it reaches one that is being guessed at, and a new name is counted like any other.
pub struct Throttle {
    max: usize,
    window: Duration,
    keys: RandomState,
    counters: Mutex<Counters>,
}

/// What [`Throttle::reserve`] decided.
#[derive(Debug)]
pub enum Verdict<'a> {
    Allowed(Reservation<'a>),
    TooMany { retry_after: Duration },
}

/// An attempt that is counted. Dropping it leaves it counted; only [`Reservation::give_back`] takes it away.
#[must_use]
pub struct Reservation<'a> {
    throttle: &'a Throttle,
    keys: Keys,
    at: Timestamp,
}

#[derive(Clone, Copy)]
struct Keys {
    user: u64,
    address: u64,
}

impl Throttle {
    /// `max_attempts` (0 allows none, more than 1000 count as 1000) in any `window` (at least a second).
    pub fn new(max_attempts: u32, window: Duration) -> Self {
        let max = max_attempts.min(MAX_ATTEMPTS) as usize;
        Self::with_capacity(max, window, CAPACITY.min(MOMENTS / max.max(1)))
    }

    fn with_capacity(max: usize, window: Duration, capacity: usize) -> Self {
        Self {
            max,
            window: window.max(Duration::from_secs(1)),
            keys: RandomState::new(),
            counters: Mutex::new(Counters {
                users: Table::new(capacity),
                addresses: Table::new(capacity),
            }),
        }
    }

    /// Counts the attempt, or says when one will be allowed again.
    pub fn reserve(&self, attempt: &Attempt<'_>, now: Timestamp) -> Verdict<'_> {
        let keys = Keys {
            user: self.keys.hash_one((attempt.user, attempt.known_browser)),
            address: self.keys.hash_one(network(attempt.address)),
        };
        let mut counters = self.counters.lock();
        let user = self.wait(&mut counters.users, keys.user, now);
        let address = self.wait(&mut counters.addresses, keys.address, now);
        if let Some(retry_after) = user.max(address) {
            return Verdict::TooMany { retry_after };
        }
        counters.users.count(keys.user, now, self.window);
        counters.addresses.count(keys.address, now, self.window);
        Verdict::Allowed(Reservation {
            throttle: self,
            keys,
            at: now,
        })
    }

    /// How long the counter of `key` still refuses; `None` where it does not.
    fn wait(&self, table: &mut Table, key: u64, now: Timestamp) -> Option<Duration> {
        let Some(moments) = table.moments(key, now, self.window) else {
            return (self.max == 0).then_some(self.window);
        };
        // The attempt that must leave the window before there is room again.
        let blocking = moments.len().checked_sub(self.max)?;
        let leaves = moments.get(blocking).map_or(now, |at| *at);
        Some(leaves.after(self.window).since(now))
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("max", &self.max)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl Reservation<'_> {
    /// The attempt was no wrong guess: the password was right, or nobody looked at it.
    pub fn give_back(self) {
        let mut counters = self.throttle.counters.lock();
        counters.users.forget(self.keys.user, self.at);
        counters.addresses.forget(self.keys.address, self.at);
    }
}

impl fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

struct Counters {
    users: Table,
    addresses: Table,
}

/// The moments of the attempts still in the window, oldest first, by key. No entry is empty.
struct Table {
    entries: HashMap<u64, VecDeque<Timestamp>>,
    capacity: usize,
}

impl Table {
    fn new(capacity: usize) -> Self {
        Self {
            entries: HashMap::new(),
            capacity: capacity.max(1),
        }
    }

    fn moments(
        &mut self,
        key: u64,
        now: Timestamp,
        window: Duration,
    ) -> Option<&VecDeque<Timestamp>> {
        let moments = self.entries.get_mut(&key)?;
        prune(moments, now, window);
        if moments.is_empty() {
            self.entries.remove(&key);
        }
        self.entries.get(&key)
    }

    fn count(&mut self, key: u64, now: Timestamp, window: Duration) {
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            self.make_room(now, window);
        }
        self.entries.entry(key).or_default().push_back(now);
    }

    fn forget(&mut self, key: u64, at: Timestamp) {
        let Some(moments) = self.entries.get_mut(&key) else {
            return;
        };
        if let Some(place) = moments.iter().rposition(|moment| *moment == at) {
            moments.remove(place);
        }
        if moments.is_empty() {
            self.entries.remove(&key);
        }
    }

    fn make_room(&mut self, now: Timestamp, window: Duration) {
        self.entries.retain(|_, moments| {
            prune(moments, now, window);
            !moments.is_empty()
        });
        let spare = (self.capacity / 8).max(1);
        let excess = (self.entries.len() + spare).saturating_sub(self.capacity);
        if excess == 0 {
            return;
        }
        let mut ranks: Vec<_> = self
            .entries
            .iter()
            .map(|(key, moments)| (moments.len(), moments.back().copied(), *key))
            .collect();
        ranks.sort_unstable();
        for (_, _, key) in ranks.into_iter().take(excess) {
            self.entries.remove(&key);
        }
    }
}

/// Drops what has left the window. A moment ahead of `now` means that the clock was set back: it counts from now, so
/// that nobody waits longer than one window.
fn prune(moments: &mut VecDeque<Timestamp>, now: Timestamp, window: Duration) {
    for moment in moments.iter_mut() {
        *moment = (*moment).min(now);
    }
    while moments.front().is_some_and(|at| at.after(window) <= now) {
        moments.pop_front();
    }
}

/// The network that answers for an address: IPv4 whole, IPv6 by its /64, IPv4 written as IPv6 as IPv4.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_mins(15);

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    fn stranger(user: &str, address: [u8; 4]) -> Attempt<'_> {
        Attempt {
            user,
            address: address.into(),
            known_browser: false,
        }
    }

    /// Tries once and keeps the attempt counted, as a wrong password does.
    fn wrong(throttle: &Throttle, attempt: &Attempt<'_>, now: Timestamp) -> bool {
        matches!(throttle.reserve(attempt, now), Verdict::Allowed(_))
    }

    fn retry_after(throttle: &Throttle, attempt: &Attempt<'_>, now: Timestamp) -> Duration {
        match throttle.reserve(attempt, now) {
            Verdict::TooMany { retry_after } => retry_after,
            Verdict::Allowed(_) => panic!("allowed"),
        }
    }

    #[test]
    fn the_attempt_after_the_last_allowed_waits_until_the_first_has_left_the_window() {
        let throttle = Throttle::new(3, WINDOW);
        for second in [10, 20, 30] {
            let address = [10, 0, 0, u8::try_from(second).unwrap()];
            assert!(wrong(&throttle, &stranger("alice", address), at(second)));
        }
        let next = stranger("alice", [10, 0, 0, 99]);
        let wait = retry_after(&throttle, &next, at(40));
        assert_eq!(wait, Duration::from_secs(870));
        assert!(!wrong(&throttle, &next, at(909)));
        assert!(wrong(&throttle, &next, at(910)));
        assert!(!wrong(&throttle, &next, at(910)));
    }

    #[test]
    fn a_right_password_gives_its_own_attempt_back_and_no_other() {
        let throttle = Throttle::new(2, WINDOW);
        let alice = stranger("alice", [10, 0, 0, 1]);
        assert!(wrong(&throttle, &alice, at(1)));
        for _ in 0..5 {
            match throttle.reserve(&alice, at(2)) {
                Verdict::Allowed(reservation) => reservation.give_back(),
                Verdict::TooMany { .. } => panic!("a success must not count"),
            }
        }
        assert!(wrong(&throttle, &alice, at(3)));
        assert!(!wrong(&throttle, &alice, at(4)), "the first still counts");
    }

    #[test]
    fn guesses_under_way_at_the_same_time_count_before_they_are_answered() {
        let throttle = Throttle::new(3, WINDOW);
        let alice = stranger("alice", [10, 0, 0, 1]);
        let under_way: Vec<_> = (0..10).map(|_| throttle.reserve(&alice, at(1))).collect();
        let allowed = under_way
            .iter()
            .filter(|verdict| matches!(verdict, Verdict::Allowed(_)));
        assert_eq!(allowed.count(), 3);
    }

    #[test]
    fn one_address_is_limited_over_all_names() {
        let throttle = Throttle::new(3, WINDOW);
        for user in ["a", "b", "c"] {
            assert!(wrong(&throttle, &stranger(user, [10, 0, 0, 1]), at(1)));
        }
        assert!(!wrong(&throttle, &stranger("d", [10, 0, 0, 1]), at(1)));
        assert!(wrong(&throttle, &stranger("d", [10, 0, 0, 2]), at(1)));
    }

    #[test]
    fn an_ipv6_customer_and_a_mapped_address_are_one_address_each() {
        assert_eq!(
            network("2001:db8:1:2:aaaa::1".parse().unwrap()),
            network("2001:db8:1:2:bbbb::2".parse().unwrap())
        );
        assert_ne!(
            network("2001:db8:1:2::1".parse().unwrap()),
            network("2001:db8:1:3::1".parse().unwrap())
        );
        assert_eq!(
            network("::ffff:192.0.2.7".parse().unwrap()),
            network("192.0.2.7".parse().unwrap())
        );
        assert_ne!(
            network("192.0.2.7".parse().unwrap()),
            network("192.0.2.8".parse().unwrap())
        );
    }

    #[test]
    fn a_refused_attempt_counts_nowhere() {
        let throttle = Throttle::new(1, WINDOW);
        assert!(wrong(&throttle, &stranger("alice", [10, 0, 0, 1]), at(1)));
        assert!(!wrong(&throttle, &stranger("alice", [10, 0, 0, 2]), at(1)));
        assert!(wrong(&throttle, &stranger("bob", [10, 0, 0, 2]), at(1)));
    }

    #[test]
    fn a_flood_of_names_does_not_clear_the_counter_of_a_user_under_attack() {
        let throttle = Throttle::with_capacity(3, WINDOW, 64);
        for host in 0..3 {
            assert!(wrong(
                &throttle,
                &stranger("alice", [10, 1, 0, host]),
                at(1)
            ));
        }
        for i in 0..5_000_u32 {
            let [_, a, b, c] = i.to_be_bytes();
            let name = format!("flood{i}");
            assert!(
                wrong(&throttle, &stranger(&name, [10, 2 + a, b, c]), at(2)),
                "new names are still served"
            );
        }
        assert!(!wrong(&throttle, &stranger("alice", [10, 9, 0, 1]), at(3)));
        let counters = throttle.counters.lock();
        assert!(counters.users.entries.len() <= 64);
        assert!(counters.addresses.entries.len() <= 64);
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out_for_longer_than_a_window() {
        let throttle = Throttle::new(1, WINDOW);
        let alice = stranger("alice", [10, 0, 0, 1]);
        assert!(wrong(&throttle, &alice, at(1_000_000)));
        assert_eq!(retry_after(&throttle, &alice, at(5)), WINDOW);
        assert!(wrong(&throttle, &alice, at(905)));
    }

    #[test]
    fn no_attempts_allowed_means_none() {
        let throttle = Throttle::new(0, WINDOW);
        assert_eq!(
            retry_after(&throttle, &stranger("a", [10, 0, 0, 1]), at(1)),
            WINDOW
        );
    }

    /// One step of a test: who, from where, how many seconds later, and whether the oldest attempt under way is
    /// answered well afterwards.
    #[derive(Clone, Debug)]
    struct Step {
        user: u8,
        host: u8,
        known: bool,
        later: u64,
        give_back: bool,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (0..3_u8, 0..4_u8, any::<bool>(), 0..400_u64, any::<bool>());
        let step = step.prop_map(|(user, host, known, later, give_back)| Step {
            user,
            host,
            known,
            later,
            give_back,
        });
        prop::collection::vec(step, 1..120)
    }

    proptest! {
        #[test]
        fn no_window_holds_more_wrong_attempts_than_allowed(steps in steps(), max in 1..5_usize) {
            let throttle = Throttle::new(u32::try_from(max).unwrap(), WINDOW);
            let names = ["alice", "bob", "carol"];
            let mut now = 0;
            let mut under_way = VecDeque::new();
            let mut tried: Vec<(u64, u8, u8, bool)> = Vec::new();
            for (number, step) in steps.iter().enumerate() {
                now += step.later;
                let attempt = Attempt {
                    user: names[usize::from(step.user)],
                    address: [10, 0, 0, step.host].into(),
                    known_browser: step.known,
                };
                if let Verdict::Allowed(reservation) = throttle.reserve(&attempt, at(now)) {
                    tried.push((now, step.user, step.host, step.known));
                    under_way.push_back((number, reservation));
                }
                // Every attempt that stands at this moment, whether answered or not, lies in a window with few others.
                for (start, user, host, known) in &tried {
                    let inside = |t: &u64| (*start..*start + WINDOW.as_secs()).contains(t);
                    let of_user = tried.iter().filter(|(t, u, _, k)| inside(t) && u == user && k == known);
                    let of_host = tried.iter().filter(|(t, _, h, _)| inside(t) && h == host);
                    prop_assert!(of_user.count() <= max);
                    prop_assert!(of_host.count() <= max);
                }
                if step.give_back && let Some((_, reservation)) = under_way.pop_front() {
                    let back = reservation.at.as_secs();
                    let user = reservation.keys.user;
                    let address = reservation.keys.address;
                    let place = tried.iter().position(|(t, u, h, k)| {
                        *t == back
                            && throttle.keys.hash_one((names[usize::from(*u)], *k)) == user
                            && throttle.keys.hash_one(IpAddr::from([10, 0, 0, *h])) == address
                    });
                    tried.remove(place.unwrap());
                    reservation.give_back();
                }
            }
        }

        #[test]
        fn a_stranger_never_blocks_a_browser_that_is_known(
            guesses in prop::collection::vec((0..50_u8, 0..60_u64), 1..200),
            max in 1..4_u32,
        ) {
            let throttle = Throttle::new(max, WINDOW);
            let owner = Attempt {
                user: "alice",
                address: [192, 0, 2, 1].into(),
                known_browser: true,
            };
            let mut now = 0;
            for (host, later) in guesses {
                now += later;
                wrong(&throttle, &stranger("alice", [10, 0, 0, host]), at(now));
                match throttle.reserve(&owner, at(now)) {
                    Verdict::Allowed(reservation) => reservation.give_back(),
                    Verdict::TooMany { .. } => prop_assert!(false, "the owner was locked out"),
                }
            }
        }
    }
}
