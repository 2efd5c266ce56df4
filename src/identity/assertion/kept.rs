//! Assertions of one login that are still good, so that a request does not sign. Reading locks nothing.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;

use super::{Signer, Statement};
use crate::clock::Timestamp;

/// Assertions of one login that are kept, each of some 700 bytes; of more audiences the oldest is signed anew.
const MOST: usize = 16;

#[derive(Debug, Default)]
pub struct Kept(ArcSwapOption<Vec<Signed>>);

#[derive(Clone, Debug)]
struct Signed {
    audience: String,
    at: Timestamp,
    value: HeaderValue,
}

impl Kept {
    /// The assertion for an audience, with at least half of its life before it unless its session ends sooner. `None` where
    /// none can be signed, which the log says.
    pub fn get<'s>(
        &self,
        signer: &Signer,
        (audience, now): (&str, Timestamp),
        statement: impl FnOnce() -> Statement<'s>,
    ) -> Option<HeaderValue> {
        let half = signer.settings.lifetime / 2;
        if let Some(kept) = &*self.0.load()
            && let Some(known) = kept.iter().find(|known| known.audience == audience)
            && known.is_younger(half, now)
        {
            return Some(known.value.clone());
        }
        let fresh = Signed {
            audience: audience.to_owned(),
            at: now,
            value: signer.sign(&statement(), audience, now)?,
        };
        self.keep(&fresh);
        Some(fresh.value)
    }

    fn keep(&self, fresh: &Signed) {
        self.0.rcu(|kept| {
            let kept = kept.iter().flat_map(|kept| kept.iter());
            let others = kept.filter(|other| other.audience != fresh.audience);
            let mut all = vec![fresh.clone()];
            all.extend(others.take(MOST - 1).cloned());
            Some(Arc::new(all))
        });
    }
}

impl Signed {
    /// A clock that was set back is no reason to hand out what is from the future.
    fn is_younger(&self, age: Duration, now: Timestamp) -> bool {
        now >= self.at && now.since(self.at) < age
    }
}

#[cfg(test)]
impl Kept {
    pub(super) fn len(&self) -> usize {
        self.0.load().as_ref().map_or(0, |kept| kept.len())
    }
}
