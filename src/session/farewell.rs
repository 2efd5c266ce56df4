//! Tells whoever wants to know that a session has ended whose jars hold cookies of apps. The jars can be read while this node
//! holds the session, and by nobody afterwards: what is not told now is never told.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::EndReason;
use super::data::Jars;
use super::jar::Spot;
use super::live::LiveSession;
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

/// A session that has ended, with what it kept of its apps.
pub struct Over {
    pub sid: Sid,
    pub reason: EndReason,
    jars: Arc<Jars>,
    /// The jar whose app knows already.
    spared: Option<Box<str>>,
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
        if self.spared.as_deref() == Some(jar) {
            return None;
        }
        let cookies = self.jars.get(jar)?.cookies(spot, now)?;
        let mut value = HeaderValue::try_from(cookies).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Where ends are told, once somebody listens.
#[derive(Debug, Default)]
pub(super) struct Listener(OnceLock<(Sender<Over>, Arc<Metrics>)>);

impl Listener {
    pub(super) fn tell(
        &self,
        (sid, reason): (Sid, EndReason),
        jars: impl FnOnce() -> Option<(Arc<Jars>, Option<Box<str>>)>,
    ) {
        // Nobody was told of such a login, the app neither.
        if reason == EndReason::Withdrawn {
            return;
        }
        let Some((sender, metrics)) = self.0.get() else {
            return;
        };
        let Some((jars, spared)) = jars() else {
            return;
        };
        let over = Over {
            sid,
            reason,
            jars,
            spared,
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
        let set = self.registry.listener.0.set((sender, self.metrics.clone()));
        set.is_ok().then_some(overs)
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
        if !is_ours {
            // Whoever ended it knows better what its apps have set last.
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
    fn what_is_too_much_is_left_out_and_counted() {
        let metrics = Arc::new(Metrics::new());
        let (sender, mut overs) = mpsc::channel(1);
        let listener = Listener(OnceLock::from((sender, metrics.clone())));
        let sid = Sid::generate(Timestamp::default());
        let jars = || Some((Arc::default(), None));
        listener.tell((sid, EndReason::Logout), || None);
        listener.tell((sid, EndReason::Withdrawn), jars);
        assert!(overs.try_recv().is_err(), "there is nobody to be told");
        for _ in 0..3 {
            listener.tell((sid, EndReason::Logout), jars);
        }
        assert!(overs.try_recv().is_ok() && overs.try_recv().is_err());
        let text = metrics.encode();
        let line = "doorward_app_logouts_total{result=\"left_out\"} 2";
        assert!(text.contains(line), "{text}");
    }
}
