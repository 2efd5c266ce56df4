//! Tells whoever wants to know that a session has ended whose jars hold cookies of apps. The jars can be read while this node
//! holds the session, and by nobody afterwards: so it holds each that it has served until it ends, whatever the cache does.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::EndReason;
use super::data::Estate;
use super::jar::Spot;
use super::live::{Live, LiveSession};
use super::sessions::Sessions;
use super::token::Sid;
use crate::clock::Timestamp;
use crate::telemetry::{AppLogout, Metrics, StoreOp};

/// Ends that wait to be told. What does not fit is left out, and counted.
const QUEUE: usize = 4096;

/// How long other nodes leave an end to the one that it began at.
const COURTESY: Duration = Duration::from_secs(1);

/// How long it is remembered which node takes care of an end.
const CLAIM: Duration = Duration::from_hours(1);

/// Sessions that are held until they end, and what they take in memory. The others are told while they are in the cache.
const MAX_HELD: usize = 65_536;
const MAX_HELD_BYTES: usize = 64 * 1024 * 1024;

/// What one of them takes beside its data, about.
const EACH: usize = 512;

/// A session that has ended, with what it kept of its apps.
pub struct Over {
    pub sid: Sid,
    pub reason: EndReason,
    estate: Estate,
}

impl fmt::Debug for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Over")
            .field("sid", &self.sid)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl Over {
    /// `Cookie` for a request to the app of a jar. `None`: the app knows nothing of the session, or of its end already.
    pub fn cookies(&self, jar: &str, spot: &Spot, now: Timestamp) -> Option<HeaderValue> {
        if self.estate.spared.as_deref() == Some(jar) {
            return None;
        }
        let cookies = self.estate.jars.get(jar)?.cookies(spot, now)?;
        let mut value = HeaderValue::try_from(cookies).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Sessions that apps are to be told of, and that nobody else may hold any more.
#[derive(Debug)]
struct Held<T> {
    sessions: HashMap<Sid, (T, usize)>,
    bytes: usize,
    said_full: bool,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self {
            sessions: HashMap::new(),
            bytes: 0,
            said_full: false,
        }
    }
}

impl<T> Held<T> {
    /// Gives it back where there is no room.
    fn put(&mut self, sid: Sid, session: T, bytes: usize) -> Result<(), T> {
        self.take(sid);
        if self.sessions.len() >= MAX_HELD || self.bytes + bytes > MAX_HELD_BYTES {
            return Err(session);
        }
        self.bytes += bytes;
        self.sessions.insert(sid, (session, bytes));
        Ok(())
    }

    fn take(&mut self, sid: Sid) -> Option<T> {
        let (session, bytes) = self.sessions.remove(&sid)?;
        self.bytes -= bytes;
        Some(session)
    }
}

/// Where ends are told, once somebody listens.
#[derive(Debug, Default)]
pub(super) struct Listener {
    told: OnceLock<(Sender<Over>, Arc<Metrics>)>,
    held: Mutex<Held<Arc<Live>>>,
}

impl Listener {
    /// Holds a session until it ends, if an app has cookies in it. `false`: nobody is to be told of it, or it is over.
    pub(super) fn hold(&self, live: &Arc<Live>) -> bool {
        if self.told.get().is_none() {
            return false;
        }
        if live.data.jars.last().is_none() {
            self.release(live.sid);
            return false;
        }
        let mut held = self.held.lock();
        let bytes = EACH + live.data.bytes();
        if held.put(live.sid, live.clone(), bytes).is_err() {
            let said = std::mem::replace(&mut held.said_full, true);
            drop(held);
            if !said {
                tracing::warn!(
                    "too many sessions have cookies of apps: apps are told of the end of some only while those are in use"
                );
            }
            return false;
        }
        drop(held);
        if live.is_over() {
            // It ended meanwhile, and nobody else lets go of it.
            self.release(live.sid);
            return false;
        }
        true
    }

    /// Lets go of a session, outside the lock: it may be the last that holds it.
    fn release(&self, sid: Sid) {
        let held = self.held.lock().take(sid);
        drop(held);
    }

    pub(super) fn tell(
        &self,
        (sid, reason): (Sid, EndReason),
        estate: impl FnOnce() -> Option<Estate>,
    ) {
        if self.told.get().is_some() {
            self.release(sid);
        }
        // Nobody was told of such a login, the app neither.
        if reason == EndReason::Withdrawn {
            return;
        }
        let Some((sender, metrics)) = self.told.get() else {
            return;
        };
        let Some(estate) = estate() else {
            return;
        };
        let over = Over {
            sid,
            reason,
            estate,
        };
        if sender.try_send(over).is_err() {
            metrics.app_logout(AppLogout::LeftOut);
            tracing::warn!(%sid, "too many sessions end at once: their apps are not told of this one");
        }
    }
}

impl Sessions {
    /// Every session with cookies of apps that ends on this node from now on. `None` where somebody listens already.
    pub fn overs(&self) -> Option<Receiver<Over>> {
        let (sender, overs) = mpsc::channel(QUEUE);
        let set = self
            .registry
            .listener
            .told
            .set((sender, self.metrics.clone()));
        set.is_ok().then_some(overs)
    }

    /// From now on the session's end is noticed and told, whether or not it is still in use then.
    pub(super) fn hold_for_apps(&self, live: &Arc<Live>) {
        if self.registry.listener.hold(live) {
            self.registry.await_end(live);
        }
    }

    /// The app of this jar is not told when the session ends: it knows, or goes on with its cookies elsewhere. `None` takes
    /// that back.
    pub fn spare_jar(&self, session: &LiveSession, jar: Option<&str>) {
        session.entry.live.data.jars.spare(jar);
    }

    /// Whether this node is the one that takes care of an end, where others may have held the session as well.
    pub async fn claims_end(&self, over: &Over) -> bool {
        let is_ours = over.reason != EndReason::Elsewhere;
        if !self.store.has_other_writers() {
            return is_ours;
        }
        if !is_ours || over.estate.is_outdated {
            // Whoever ended it, or changed it last, knows better what its apps have set.
            tokio::time::sleep(COURTESY).await;
        }
        let claim = self.store.claim_end(over.sid, CLAIM);
        let claimed = self.within(StoreOp::Claim, claim).await;
        match claimed {
            Ok(is_first) => is_first,
            // Twice is better than not at all.
            Err(_) => is_ours,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_held_within_limits_and_each_once() {
        let sid = |number| Sid::generate(Timestamp::from_millis(number));
        let mut held = Held::default();
        let (one, other) = (sid(0), sid(1));
        assert_eq!(held.put(one, "one", MAX_HELD_BYTES), Ok(()));
        assert_eq!(held.put(other, "other", 1), Err("other"));
        assert_eq!(held.put(one, "one, smaller", MAX_HELD_BYTES - 1), Ok(()));
        assert_eq!(held.put(other, "other", 1), Ok(()));
        assert_eq!(held.take(one), Some("one, smaller"));
        assert_eq!((held.take(one), held.bytes), (None, 1));
        for number in 2..=MAX_HELD as u64 {
            assert_eq!(held.put(sid(number), "more", 1), Ok(()));
        }
        assert_eq!(held.put(sid(0), "too many", 1), Err("too many"));
    }

    #[test]
    fn what_is_too_much_is_left_out_and_counted() {
        let metrics = Arc::new(Metrics::new());
        let (sender, mut overs) = mpsc::channel(1);
        let listener = Listener {
            told: OnceLock::from((sender, metrics.clone())),
            held: Mutex::default(),
        };
        let sid = Sid::generate(Timestamp::default());
        let estate = || Some(Estate::default());
        listener.tell((sid, EndReason::Logout), || None);
        listener.tell((sid, EndReason::Withdrawn), estate);
        assert!(overs.try_recv().is_err(), "there is nobody to be told");
        for _ in 0..3 {
            listener.tell((sid, EndReason::Logout), estate);
        }
        assert!(overs.try_recv().is_ok() && overs.try_recv().is_err());
        let text = metrics.encode();
        let line = "doorward_app_logouts_total{result=\"left_out\"} 2";
        assert!(text.contains(line), "{text}");
    }
}
