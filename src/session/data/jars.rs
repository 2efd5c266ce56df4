//! Where cookies of apps are kept that browsers are to know nothing of: beside what apps keep of their own accord, sealed under
//! the session's own key, and out of reach of the headers and the API for session data.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use parking_lot::Mutex;

use super::DataError;
use super::writing::lost;
use crate::session::jar::{Jar, JarLimits, Spot};
use crate::session::live::LiveSession;
use crate::session::sessions::Sessions;
use crate::session::store::StoreError;

/// By the name of the app's jar.
pub(in crate::session) type Jars = BTreeMap<String, Jar>;

/// What an app sets with one answer.
#[derive(Clone, Debug)]
pub struct Filling {
    pub jar: String,
    /// The values of `Set-Cookie`.
    pub lines: Vec<HeaderValue>,
    pub spot: Spot,
    pub limits: JarLimits,
}

/// What this node knows of a session's jars. Never locked, and nothing at all for a session without any.
#[derive(Debug, Default)]
pub(in crate::session) struct KnownJars {
    known: ArcSwapOption<Dated>,
    /// Of the app that is not told of the session's end.
    spared: Mutex<Option<Box<str>>>,
    /// The newest version of the session's row that was seen.
    newest: AtomicU64,
    /// The end was left to another node, once.
    has_hesitated: AtomicBool,
}

/// What a session leaves to its apps when it ends.
#[derive(Clone, Debug, Default)]
pub(in crate::session) struct Estate {
    pub(in crate::session) jars: Arc<Jars>,
    /// The jar whose app knows already.
    pub(in crate::session) spared: Option<Box<str>>,
    /// The session was changed elsewhere since: what its apps set there is not among it.
    pub(in crate::session) is_outdated: bool,
}

#[derive(Debug)]
struct Dated {
    jars: Arc<Jars>,
    version: u64,
    bytes: usize,
}

impl KnownJars {
    /// The jars of a row; what is newer stays.
    pub(super) fn learn(&self, jars: &Jars, version: u64) {
        if jars.is_empty() && self.known.load().is_none() {
            return;
        }
        let bytes = jars
            .iter()
            .map(|(name, jar)| name.len() + jar.bytes())
            .sum();
        let new = Arc::new(Dated {
            jars: Arc::new(jars.clone()),
            version,
            bytes,
        });
        self.known.rcu(|known| match known {
            Some(known) if known.version >= version => Some(known.clone()),
            _ => Some(new.clone()),
        });
    }

    /// A row was seen, and not opened.
    pub(in crate::session) fn see(&self, version: u64) {
        self.newest.fetch_max(version, Ordering::Relaxed);
    }

    /// Whether the end of the session is better left to another node for now: `true` once at most.
    pub(in crate::session) fn hesitate(&self) -> bool {
        self.last().is_some_and(|estate| estate.is_outdated)
            && !self.has_hesitated.swap(true, Ordering::Relaxed)
    }

    /// What they take in memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.known.load().as_ref().map_or(0, |known| known.bytes)
    }

    pub(in crate::session) fn spare(&self, jar: Option<&str>) {
        *self.spared.lock() = jar.map(Box::from);
    }

    /// All that is known at the end of the session. `None`: no app has anything in it.
    pub(in crate::session) fn last(&self) -> Option<Estate> {
        let known = self.known.load();
        let known = known.as_ref().filter(|known| !known.jars.is_empty())?;
        Some(Estate {
            jars: known.jars.clone(),
            spared: self.spared.lock().clone(),
            is_outdated: known.version < self.newest.load(Ordering::Relaxed),
        })
    }
}

impl Sessions {
    /// `Cookie` for a request to an app, out of its jar in the session.
    pub fn jar_cookies(&self, session: &LiveSession, jar: &str, spot: &Spot) -> Option<String> {
        let known = session.entry.live.data.jars.known.load();
        known
            .as_ref()?
            .jars
            .get(jar)?
            .cookies(spot, self.clock.now())
    }

    /// Keeps what an app sets, stored before this returns. It goes on to the end, whether or not anybody waits for it. Tells
    /// how many cookies cannot be kept at all.
    pub async fn fill_jar(
        self: &Arc<Self>,
        session: &LiveSession,
        filling: Filling,
    ) -> Result<usize, StoreError> {
        let (sessions, entry) = (self.clone(), session.entry.clone());
        let work = async move {
            let mut left_out = 0;
            let done = sessions.rewritten(&entry, |open| {
                let mut jar = open.jars.remove(&filling.jar).unwrap_or_default();
                let before = jar.clone();
                let where_to = (&filling.spot, &filling.limits);
                left_out = jar.take(&filling.lines, where_to, sessions.clock.now());
                let is_new = jar != before;
                if !jar.is_empty() {
                    open.jars.insert(filling.jar.clone(), jar);
                }
                Ok(is_new)
            });
            done.await.map(|()| left_out)
        };
        let done = self.background.spawn(work).await;
        match done.unwrap_or_else(|error| Err(lost(&error))) {
            Ok(left_out) => Ok(left_out),
            // With the session ends what it keeps.
            Err(DataError::Gone) => Ok(0),
            Err(DataError::Store(error)) => Err(error),
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }
}
