//! What is known of a provider: where it is and which keys it signs with. It is looked for until it is found, then looked
//! at again every hour, and at once where a token names a key that is new; never more often than twice a minute.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::sync::Mutex;

use super::fault::{Flaw, OidcError};
use super::keys::Keys;
use super::metadata::{Document, place_of};
use crate::clock::{Clock, Timestamp};
use crate::outbound::Outbound;

/// Until a provider that cannot be found is looked for again: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Until one that was found is looked at again: a key that it takes back counts that long.
const FRESH: Duration = Duration::from_hours(1);

/// What a provider last said is good for this long while it says nothing new.
const STALE: Duration = Duration::from_hours(24);

/// Between two looks because of a key that is not known. Within it such a token is refused.
const THROTTLE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Known<D> {
    /// The provider's, for the log.
    id: String,
    source: Source<D>,
    outbound: Outbound,
    provided: ArcSwapOption<Provided<D>>,
    /// When keys were last asked for because of a token, and what a token is told by whose key is not among them. Whoever
    /// asks holds it.
    renewed: Mutex<Option<(Timestamp, OidcError)>>,
}

/// Where it is learnt what a provider is.
#[derive(Clone, Debug)]
pub(super) enum Source<D> {
    /// From its configuration document: by its own name.
    Discovery(String),
    /// It has been told.
    Told(D),
}

/// What a provider said about itself.
#[derive(Debug)]
pub(super) struct Provided<D> {
    pub(super) metadata: D,
    pub(super) keys: Keys,
}

impl<D: Document> Known<D> {
    pub(super) fn new(id: String, source: Source<D>, outbound: Outbound) -> Self {
        Self {
            id,
            source,
            outbound,
            provided: ArcSwapOption::empty(),
            renewed: Mutex::default(),
        }
    }

    pub(super) fn provided(&self) -> Result<Arc<Provided<D>>, OidcError> {
        let provided = self.provided.load_full();
        provided.ok_or_else(|| OidcError::Unavailable("it was not found yet".to_owned()))
    }

    pub(super) async fn follow(&self, clock: &Clock) {
        let (mut pause, mut last_good) = (FIRST_PAUSE, clock.now());
        loop {
            match self.look().await {
                Ok(provided) => {
                    let is_new = self.provided.swap(Some(Arc::new(provided))).is_none();
                    if is_new {
                        tracing::info!(provider = self.id, "a provider was found");
                    }
                    (pause, last_good) = (FIRST_PAUSE, clock.now());
                    tokio::time::sleep(FRESH).await;
                }
                Err(error) => {
                    tracing::warn!(provider = self.id, %error, "a provider was not found");
                    if clock.now().since(last_good) >= STALE {
                        self.provided.store(None);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// The keys as they are now, asked for by a token that `before` has no key for. One asks, the others wait for what
    /// it learns.
    pub(super) async fn renew(
        &self,
        before: &Arc<Provided<D>>,
        now: Timestamp,
    ) -> Result<Arc<Provided<D>>, OidcError> {
        let mut renewed = self.renewed.lock().await;
        let current = self.provided()?;
        if !Arc::ptr_eq(&current, before) {
            return Ok(current);
        }
        if let Some((last, error)) = &*renewed
            && now.since(*last) < THROTTLE
        {
            return Err(error.clone());
        }
        *renewed = Some((now, Flaw::UnknownKey.into()));
        let keys = match self.keys(&current.metadata).await {
            Ok(keys) => keys,
            Err(error) => {
                tracing::warn!(provider = self.id, %error, "the provider's new keys are of no use; the old ones stay");
                *renewed = Some((now, error.clone()));
                return Err(error);
            }
        };
        let provided = Arc::new(Provided {
            metadata: current.metadata.clone(),
            keys,
        });
        self.provided.store(Some(provided.clone()));
        Ok(provided)
    }

    async fn look(&self) -> Result<Provided<D>, OidcError> {
        let metadata = match &self.source {
            Source::Discovery(issuer) => {
                let document = self.fetch(&place_of(issuer)).await?;
                D::parse(&document, issuer)?
            }
            Source::Told(metadata) => metadata.clone(),
        };
        let keys = self.keys(&metadata).await?;
        Ok(Provided { metadata, keys })
    }

    async fn keys(&self, metadata: &D) -> Result<Keys, OidcError> {
        let set = self.fetch(metadata.jwks_uri().as_str()).await?;
        Ok(Keys::parse(&set)?)
    }

    async fn fetch(&self, place: &str) -> Result<Bytes, OidcError> {
        let request = Request::get(place).header(ACCEPT, "application/json");
        let request = request.body(Full::default());
        let request = request.map_err(|error| OidcError::Unavailable(error.to_string()))?;
        let answer = self.outbound.send(request).await?;
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            status => Err(OidcError::Unavailable(format!("{place} answers {status}"))),
        }
    }
}
