//! What this node knows of a session's data. Never locked, and nothing at all for a session without any.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;

use super::jars::KnownJars;
use super::space::{Shown, Space};
use super::vault::{Spaces, Vaulted};

#[derive(Debug, Default)]
pub(in crate::session) struct Known {
    spaces: ArcSwapOption<All>,
    pub(in crate::session) jars: KnownJars,
}

#[derive(Clone, Debug, Default)]
struct All {
    spaces: BTreeMap<String, Arc<Dated>>,
    /// What they take in memory, about.
    bytes: usize,
}

/// A space as it was in this version of the session's row.
#[derive(Debug)]
pub(in crate::session) struct Dated {
    space: Space,
    version: u64,
    shown: OnceLock<Shown>,
}

impl Dated {
    pub(super) fn space(&self) -> &Space {
        &self.space
    }

    pub(in crate::session) fn shown(&self, max: usize) -> &Shown {
        self.shown.get_or_init(|| self.space.shown(max))
    }
}

impl Known {
    pub(in crate::session) fn get(&self, name: &str) -> Option<Arc<Dated>> {
        self.spaces.load().as_ref()?.spaces.get(name).cloned()
    }

    /// All that a row holds; what is newer stays.
    pub(in crate::session) fn learn_all(&self, open: &Vaulted, version: u64) {
        self.learn(&open.spaces, version);
        self.jars.learn(&open.jars, version);
    }

    fn learn(&self, spaces: &Spaces, version: u64) {
        if spaces.is_empty() && self.spaces.load().is_none() {
            return;
        }
        self.change(|known| {
            let gone = known.keys().filter(|name| !spaces.contains_key(*name));
            let gone: Vec<String> = gone.cloned().collect();
            for name in gone {
                note(known, &name, &Space::default(), version);
            }
            for (name, space) in spaces {
                note(known, name, space, version);
            }
        });
    }

    pub(in crate::session) fn learn_one(&self, name: &str, space: &Space, version: u64) {
        self.change(|known| note(known, name, space, version));
    }

    /// What it takes in memory, about.
    pub(in crate::session) fn bytes(&self) -> usize {
        let spaces = self.spaces.load().as_ref().map_or(0, |known| known.bytes);
        spaces + self.jars.bytes()
    }

    fn change(&self, change: impl Fn(&mut BTreeMap<String, Arc<Dated>>)) {
        const EACH: usize = 256;
        self.spaces.rcu(|known| {
            let mut next = known.as_deref().cloned().unwrap_or_default();
            change(&mut next.spaces);
            // Once as it is, once as a header.
            let spaces = next.spaces.iter();
            let bytes = spaces.map(|(name, dated)| EACH + name.len() + 2 * dated.space.bytes());
            next.bytes = bytes.sum();
            Some(Arc::new(next))
        });
    }
}

fn note(known: &mut BTreeMap<String, Arc<Dated>>, name: &str, space: &Space, version: u64) {
    match known.get(name) {
        Some(dated) if dated.version >= version => {}
        _ => {
            let dated = Dated {
                space: space.clone(),
                version,
                shown: OnceLock::new(),
            };
            known.insert(name.to_owned(), Arc::new(dated));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::data::Change;

    fn space(text: &str) -> Space {
        let mut space = Space::default();
        Change::parse(text.as_bytes(), b"")
            .unwrap()
            .apply(&mut space);
        space
    }

    fn shown(known: &Known, name: &str) -> Option<String> {
        let dated = known.get(name)?;
        Some(dated.shown(4096).data.to_str().unwrap().to_owned())
    }

    #[test]
    fn what_is_older_never_takes_the_place_of_what_is_newer() {
        let known = Known::default();
        known.learn(&Spaces::new(), 1);
        assert_eq!(known.bytes(), 0, "nothing costs nothing");
        known.learn(&Spaces::from([("shop".to_owned(), space("a=1"))]), 3);
        known.learn_one("shop", &space("a=2"), 5);
        known.learn_one("wiki", &space("b=1"), 4);
        // A load that began before both.
        known.learn(&Spaces::from([("shop".to_owned(), space("a=1"))]), 3);
        assert_eq!(shown(&known, "shop").unwrap(), "a=2");
        assert_eq!(shown(&known, "wiki").unwrap(), "b=1");
        known.learn(&Spaces::from([("wiki".to_owned(), space("b=1"))]), 6);
        assert_eq!(shown(&known, "shop").unwrap(), "");
    }
}
