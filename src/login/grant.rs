//! What a credential that comes with each request is worth: who its bearer is, and until when. No session is behind it,
//! so nothing is kept of its use, and it ends in its own ways.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use http::HeaderValue;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::identity::{HeaderLayout, Identity, IdentityHeaders, Kept, Signer, Statement};

/// Shared by every request that comes with the credential.
#[derive(Debug)]
pub struct Grant {
    pub identity: Identity,
    pub scopes: BTreeSet<String>,
    until: Timestamp,
    over: watch::Sender<bool>,
    headers: OnceLock<IdentityHeaders>,
    assertions: Kept,
}

impl Grant {
    pub fn new(identity: Identity, scopes: BTreeSet<String>, until: Timestamp) -> Self {
        Self {
            identity,
            scopes,
            until,
            over: watch::Sender::new(false),
            headers: OnceLock::new(),
            assertions: Kept::default(),
        }
    }

    pub fn is_good(&self, now: Timestamp) -> bool {
        now < self.until && !self.is_over()
    }

    /// Whether it was taken back.
    pub fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// Takes it back: everything that is open by it closes.
    pub(super) fn end(&self) {
        self.over.send_replace(true);
    }

    /// Waits until it is taken back or its time is up.
    pub fn ended(&self, now: Timestamp) -> impl Future<Output = ()> + Send + 'static {
        let mut over = self.over.subscribe();
        let left = self.until.since(now);
        async move {
            tokio::select! {
                // Nobody is left who could take it back: then it is nobody's.
                ended = over.wait_for(|over| *over) => drop(ended),
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    /// The header fields that tell an app who this is.
    pub fn headers(&self, layout: &HeaderLayout) -> &IdentityHeaders {
        self.headers
            .get_or_init(|| IdentityHeaders::new(layout, &self.identity))
    }

    /// The signed statement of who this is for one audience. It names no session and no login, as there is none.
    pub fn assertion(
        &self,
        signer: &Signer,
        audience: &str,
        now: Timestamp,
    ) -> Option<HeaderValue> {
        self.assertions.get(signer, (audience, now), || Statement {
            identity: &self.identity,
            sid: None,
            auth_time: None,
            amr: &[],
            until: self.until,
        })
    }
}
