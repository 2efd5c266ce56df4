//! What has been here before: logins that were finished, whatever the provider thinks of codes that come again; logout
//! tokens; sessions that the provider has ended. It has a bound, and forgets the oldest at it.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;

use crate::clock::Timestamp;

/// Longer than a login may take, or a logout token is good.
const MEMORY: Duration = Duration::from_hours(2);
const MOST: usize = 100_000;

#[derive(Debug, Default)]
pub(in crate::login) struct Spent(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    seen: HashSet<[u8; 16]>,
    oldest_first: VecDeque<(Timestamp, [u8; 16])>,
}

impl Spent {
    /// The same for a name.
    pub(super) fn spend_name(&self, name: &str, now: Timestamp) -> bool {
        self.spend(&short(name), now)
    }

    pub(super) fn holds_name(&self, name: &str) -> bool {
        self.holds(&short(name))
    }

    /// As if it had not been here.
    pub(super) fn forget_name(&self, name: &str) {
        let nonce = short(name);
        let mut memory = self.0.lock();
        if memory.seen.remove(&nonce) {
            memory.oldest_first.retain(|(_, old)| *old != nonce);
        }
    }

    /// Whether this is the first time.
    pub(in crate::login) fn spend(&self, nonce: &[u8; 16], now: Timestamp) -> bool {
        let mut memory = self.0.lock();
        while let Some((since, old)) = memory.oldest_first.front().copied()
            && (now.since(since) > MEMORY || memory.oldest_first.len() >= MOST)
        {
            memory.oldest_first.pop_front();
            memory.seen.remove(&old);
        }
        let is_new = memory.seen.insert(*nonce);
        if is_new {
            memory.oldest_first.push_back((now, *nonce));
        }
        is_new
    }

    pub(in crate::login) fn holds(&self, nonce: &[u8; 16]) -> bool {
        self.0.lock().seen.contains(nonce)
    }
}

fn short(name: &str) -> [u8; 16] {
    let digest = digest(&SHA256, name.as_bytes());
    let half = digest.as_ref().first_chunk();
    half.copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(number: usize) -> [u8; 16] {
        u128::try_from(number).unwrap().to_le_bytes()
    }

    #[test]
    fn a_login_is_spent_once() {
        let (spent, now) = (Spent::default(), Timestamp::from_millis(1_000_000));
        assert!(spent.spend(&nonce(1), now));
        assert!(spent.holds(&nonce(1)) && !spent.holds(&nonce(2)));
        assert!(!spent.spend(&nonce(1), now.after(MEMORY)));
        assert!(spent.spend(&nonce(2), now));
        assert!(spent.spend_name("name", now) && !spent.spend_name("name", now));
        spent.forget_name("name");
        spent.forget_name("another");
        assert!(spent.spend_name("name", now) && !spent.spend(&nonce(2), now));
    }

    #[test]
    fn the_memory_has_a_bound_and_an_end() {
        let (spent, now) = (Spent::default(), Timestamp::from_millis(1_000_000));
        for number in 0..=MOST {
            assert!(spent.spend(&nonce(number), now));
        }
        assert_eq!(spent.0.lock().seen.len(), MOST);
        assert!(!spent.spend(&nonce(MOST), now));
        let later = now.after(MEMORY + Duration::from_millis(1));
        assert!(spent.spend(&nonce(MOST), later));
        assert_eq!(spent.0.lock().seen.len(), 1);
    }
}
