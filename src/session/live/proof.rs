//! What a request has that belongs to a session, and what it says to whoever is told.

use std::sync::Arc;

use http::HeaderValue;

use super::{Entry, Private};
use crate::clock::Timestamp;
use crate::identity::{HeaderLayout, Identity, IdentityHeaders, Signer, Statement};
use crate::session::token::Sid;

/// Proof that a request presented the token of a session that is good. Only
/// [`Sessions`](crate::session::Sessions) makes one.
#[derive(Clone, Debug)]
pub struct LiveSession {
    pub(in crate::session) entry: Arc<Entry>,
    /// What [`Live::replaced`](super::Live::replaced) was before it was looked up.
    pub(in crate::session) replaced: u32,
}

impl LiveSession {
    pub fn sid(&self) -> Sid {
        self.entry.live.sid
    }

    /// `None` for a visitor who has not logged in.
    pub fn identity(&self) -> Option<&Identity> {
        self.entry.private.identity.as_ref()
    }

    pub fn private(&self) -> &Private {
        &self.entry.private
    }

    /// The header fields that tell an app who this is, made once per token. `None` where nobody has logged in.
    pub fn headers(&self, layout: &HeaderLayout) -> Option<&IdentityHeaders> {
        let identity = self.identity()?;
        let make = || IdentityHeaders::new(layout, identity);
        Some(self.entry.headers.get_or_init(make))
    }

    /// The signed statement of who this is for one audience. `None` where nobody has logged in.
    pub fn assertion(
        &self,
        signer: &Signer,
        audience: &str,
        now: Timestamp,
    ) -> Option<HeaderValue> {
        let Entry { live, private, .. } = &*self.entry;
        let identity = private.identity.as_ref()?;
        self.entry
            .assertions
            .get(signer, (audience, now), || Statement {
                identity,
                sid: Some(live.sid.to_string()),
                auth_time: Some(private.auth_time),
                amr: &private.amr,
                until: self.entry.clocking().expires,
            })
    }

    /// A cookie that the response must carry: the token is being replaced and the browser is not known to have the
    /// new one.
    pub fn renewal(&self) -> Option<&HeaderValue> {
        let cookie = self.entry.successor.get()?;
        self.entry.successor_seen().is_none().then_some(cookie)
    }

    /// Seconds until the session ends if nothing more is heard of it, and until it ends in any case.
    pub fn seconds_left(&self, now: Timestamp) -> (u64, u64) {
        let clocking = self.entry.clocking();
        let absolute = clocking.expires.since(now);
        let idle = clocking.last_seen.after(clocking.idle_timeout).since(now);
        (idle.min(absolute).as_secs(), absolute.as_secs())
    }

    /// Whether the store was asked for it, so that all of it is known. Of a ticket's it is not.
    pub fn has_record(&self) -> bool {
        self.entry.key.is_some()
    }

    pub fn is_over(&self) -> bool {
        self.entry.live.is_over()
    }

    /// Waits until the session is over, be it by time alone.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let live = self.entry.live.clone();
        live.be_awaited();
        async move {
            let ended = live.ended.notified();
            tokio::pin!(ended);
            // Registered before the look, so an end between the two is not missed.
            ended.as_mut().enable();
            if !live.is_over() {
                ended.await;
            }
        }
    }
}
