//! What this node remembers of tokens: those it has seen to be good, those it has seen to be unknown, and sessions
//! that it has ended. All bounded; none of them shared with the others, so that made-up cookies push out no session.

use std::future::Future;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::future::Cache as Moka;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;

use super::Settings;
use super::live::Entry;
use super::record::{Epoch, SessionRow, SubjectTag};
use super::sessions::AuthError;
use super::token::{Sid, TokenHash};
use crate::secret::random;

/// Unknown tokens that are remembered, and for how long.
const MAX_UNKNOWN: u64 = 100_000;
const UNKNOWN_TTL: Duration = Duration::from_secs(30);

/// Ended sessions and subjects that are remembered, so that no late answer of the store brings one back.
const MAX_ENDED: u64 = 100_000;

/// What an entry weighs beside its texts, in bytes (measured with a heap profile of a full cache, rounded up).
const ENTRY_BYTES: usize = 1024;

#[derive(Debug)]
pub(super) struct Cache {
    tokens: Moka<TokenHash, Arc<Entry>, Scatter>,
    unknown: Moka<TokenHash, (), Scatter>,
    ended: Moka<Sid, ()>,
    era: AtomicU32,
    /// The first era whose readings are believed.
    believed: AtomicU32,
    /// Whose sessions have all ended but for those of this epoch.
    epochs: Moka<SubjectTag, Epoch>,
}

impl Cache {
    pub(super) fn new(settings: &Settings) -> Self {
        let tokens = Moka::builder()
            .max_capacity(settings.cache_size)
            .weigher(|_, entry: &Arc<Entry>| weigh(entry))
            .time_to_idle(settings.idle_timeout)
            .build_with_hasher(Scatter::new());
        let unknown = Moka::builder()
            .max_capacity(MAX_UNKNOWN)
            .time_to_live(UNKNOWN_TTL)
            .build_with_hasher(Scatter::new());
        Self {
            tokens,
            unknown,
            ended: newest(settings),
            epochs: newest(settings),
            era: AtomicU32::new(0),
            believed: AtomicU32::new(0),
        }
    }

    pub(super) async fn token(&self, hash: &TokenHash) -> Option<Arc<Entry>> {
        self.tokens.get(hash).await
    }

    /// The entry of a token, loaded once however many ask for it at the same time.
    pub(super) async fn token_or(
        &self,
        hash: TokenHash,
        load: impl Future<Output = Result<Arc<Entry>, AuthError>>,
    ) -> Result<Arc<Entry>, AuthError> {
        let loaded = self.tokens.try_get_with(hash, load).await;
        loaded.map_err(|error| (*error).clone())
    }

    pub(super) async fn drop_token(&self, hash: &TokenHash) {
        self.tokens.invalidate(hash).await;
    }

    /// In place of what was read before.
    pub(super) async fn keep(&self, entry: Arc<Entry>) {
        self.tokens.insert(entry.hash, entry).await;
    }

    /// Nothing that was read before this is believed unseen. It stays: the store may be away for a while.
    pub(super) fn distrust_all(&self) {
        let before = self.era.fetch_add(1, Ordering::Relaxed);
        self.believed.fetch_max(before + 1, Ordering::Relaxed);
    }

    /// Everything that was read before this is to be confirmed, and believed meanwhile.
    pub(super) fn doubt_all(&self) {
        self.era.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn believes(&self, era: u32) -> bool {
        era >= self.believed.load(Ordering::Relaxed)
    }

    pub(super) fn era(&self) -> u32 {
        self.era.load(Ordering::Relaxed)
    }

    /// Weighs an entry again that has grown, if it is still here.
    pub(super) async fn weigh_anew(&self, entry: &Arc<Entry>) {
        let place = self.tokens.entry(entry.hash);
        let weighed = place.and_compute_with(|held| {
            let is_here = held.is_some_and(|held| Arc::ptr_eq(held.value(), entry));
            std::future::ready(if is_here {
                Op::Put(entry.clone())
            } else {
                Op::Nop
            })
        });
        drop(weighed.await);
    }

    pub(super) fn is_unknown(&self, hash: &TokenHash) -> bool {
        self.unknown.contains_key(hash)
    }

    pub(super) async fn note_unknown(&self, hash: TokenHash) {
        self.unknown.insert(hash, ()).await;
    }

    pub(super) fn is_ended(&self, sid: &Sid) -> bool {
        self.ended.contains_key(sid)
    }

    pub(super) async fn note_ended(&self, sid: Sid) {
        self.ended.insert(sid, ()).await;
    }

    /// Whether all sessions of its subject were ended after it began.
    pub(super) async fn is_overtaken(&self, row: &SessionRow) -> bool {
        let Some(subject) = &row.subject else {
            return false;
        };
        let epoch = self.epochs.get(subject).await;
        epoch.is_some_and(|epoch| row.epoch < epoch)
    }

    /// News may come in any order: the newest epoch counts.
    pub(super) async fn note_epoch(&self, subject: SubjectTag, epoch: Epoch) {
        let entry = self.epochs.entry(subject);
        entry
            .and_upsert_with(async |known| known.map_or(epoch, |known| epoch.max(*known.value())))
            .await;
    }

    /// The caches have no thread of their own.
    pub(super) async fn maintain(&self) {
        self.tokens.run_pending_tasks().await;
        self.unknown.run_pending_tasks().await;
        self.ended.run_pending_tasks().await;
        self.epochs.run_pending_tasks().await;
    }

    pub(super) fn len(&self) -> u64 {
        self.tokens.entry_count()
    }
}

/// Remembers what has ended for as long as anything can be left of it.
fn newest<K, V>(settings: &Settings) -> Moka<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Moka::builder()
        .max_capacity(MAX_ENDED)
        // The newest must stay: the policy of the others would turn it away from a full cache.
        .eviction_policy(EvictionPolicy::lru())
        .time_to_live(settings.longest())
        .build()
}

pub(super) fn weigh(entry: &Entry) -> u32 {
    let texts = entry.private.identity.as_ref().map_or(0, |identity| {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let groups: usize = identity.groups.iter().map(|group| group.len() + 24).sum();
        // Once in the identity, once in its headers.
        2 * (identity.user.len() + optional(&identity.name) + optional(&identity.email) + groups)
    });
    u32::try_from(ENTRY_BYTES + texts + entry.weigh_data()).unwrap_or(u32::MAX)
}

/// Spreads keys that are SHA-256 already, by their first bytes and a factor of its own. Clients choose tokens, and with
/// them those bytes: where they fall in a table they are not to choose.
#[derive(Clone, Copy, Debug)]
struct Scatter {
    mask: u64,
    factor: u64,
}

impl Scatter {
    fn new() -> Self {
        Self {
            mask: u64::from_le_bytes(random()),
            factor: u64::from_le_bytes(random()) | 1,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "both halves are wanted, one after the other"
    )]
    fn fold(&self, bits: u64) -> u64 {
        let product = u128::from(bits ^ self.mask) * u128::from(self.factor);
        product as u64 ^ (product >> 64) as u64
    }
}

impl BuildHasher for Scatter {
    type Hasher = Scattered;

    fn build_hasher(&self) -> Scattered {
        Scattered {
            by: *self,
            place: 0,
        }
    }
}

#[derive(Debug)]
struct Scattered {
    by: Scatter,
    place: u64,
}

impl Hasher for Scattered {
    /// Twice: after one product, hashes at equal distances still fall into few places, by one factor in twenty.
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            let once = self.by.fold(u64::from_le_bytes(*first));
            self.place = self.by.fold(once);
        }
    }

    /// The length that precedes the bytes says nothing: all keys have the same.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.place
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::clock::Timestamp;

    fn sid(number: u64) -> Sid {
        Sid::generate(Timestamp::from_millis(number))
    }

    #[tokio::test]
    async fn a_session_that_ends_is_remembered_however_many_ended_before_it() {
        let cache = Cache::new(&Settings::default());
        for number in 0..MAX_ENDED {
            let sid = sid(number);
            cache.note_ended(sid).await;
            // As every login and every load asks.
            assert!(cache.is_ended(&sid));
        }
        cache.maintain().await;
        let last = sid(MAX_ENDED);
        cache.note_ended(last).await;
        cache.maintain().await;
        assert!(cache.is_ended(&last));
    }

    #[test]
    fn nobody_outside_chooses_where_a_token_falls() {
        let places = |scatter: &Scatter| -> HashSet<u64> {
            let hash = |number: u32| {
                // Alike in all the bits that a table looks at first, whichever end it begins at.
                let mut bytes = [0; 32];
                bytes[2..6].copy_from_slice(&number.to_le_bytes());
                scatter.hash_one(TokenHash::from_bytes(bytes)) % 4096
            };
            (0..1000).map(hash).collect()
        };
        let (one, other) = (Scatter::new(), Scatter::new());
        assert_ne!(places(&one), places(&other));
        // One product with these leaves 452 places.
        let poor = Scatter {
            mask: 6_788_718_307_586_141_657,
            factor: 14_598_807_410_852_926_329,
        };
        for scatter in [one, other, poor] {
            assert!(places(&scatter).len() > 500, "{scatter:?}");
        }
    }
}
