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

use super::exchange::media_type;
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

/// As what an answer may come.
struct Expected {
    types: &'static [&'static str],
    otherwise: &'static str,
}

/// `OpenID` Connect Discovery 1.0 section 4.2.
const DOCUMENT: Expected = Expected {
    types: &["application/json"],
    otherwise: "its configuration document does not come as application/json",
};

/// RFC 7517 section 8.5; before there was that name, and still most often, as any other JSON.
const KEYS: Expected = Expected {
    types: &["application/jwk-set+json", "application/json"],
    otherwise: "its keys come neither as application/jwk-set+json nor as application/json",
};

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
            if self.look_again(clock, last_good).await {
                (pause, last_good) = (FIRST_PAUSE, clock.now());
                tokio::time::sleep(FRESH).await;
            } else {
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
        }
    }

    /// Whether what it says now is believed, in place of what it said before.
    async fn look_again(&self, clock: &Clock, last_good: Timestamp) -> bool {
        match self.look().await {
            Ok(provided) => {
                let provided = Arc::new(provided);
                match self.provided.swap(Some(provided.clone())) {
                    None => tracing::info!(provider = self.id, "a provider was found"),
                    Some(before) if before.metadata != provided.metadata => {
                        tracing::warn!(
                            provider = self.id,
                            "a provider says of itself what it did not say before"
                        );
                    }
                    Some(_) => {}
                }
                true
            }
            Err(error) => {
                tracing::warn!(provider = self.id, %error, "a provider was not found");
                if clock.now().since(last_good) >= STALE {
                    self.provided.store(None);
                }
                false
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
                let document = self.fetch(&place_of(issuer), &DOCUMENT).await?;
                D::parse(&document, issuer)?
            }
            Source::Told(metadata) => metadata.clone(),
        };
        let keys = self.keys(&metadata).await?;
        Ok(Provided { metadata, keys })
    }

    async fn keys(&self, metadata: &D) -> Result<Keys, OidcError> {
        let set = self.fetch(metadata.jwks_uri().as_str(), &KEYS).await?;
        Ok(Keys::parse(&set)?)
    }

    async fn fetch(&self, place: &str, expected: &Expected) -> Result<Bytes, OidcError> {
        let accepted = expected.types.join(", ");
        let request = Request::get(place).header(ACCEPT, accepted);
        let request = request.body(Full::default());
        let request = request.map_err(|error| OidcError::Unavailable(error.to_string()))?;
        let answer = self.outbound.send(request).await?;
        match answer.status() {
            StatusCode::OK if expected.types.contains(&&*media_type(&answer)) => {
                Ok(answer.into_body())
            }
            StatusCode::OK => Err(Flaw::Shape(expected.otherwise).into()),
            status => Err(OidcError::Unavailable(format!("{place} answers {status}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex as Shared;

    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::runtime::Handle;

    use super::super::metadata::Metadata;
    use super::*;
    use crate::outbound::Limits;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    /// A provider whose document and keys, with their types, a test may change at any time.
    struct Provider {
        issuer: String,
        says: Arc<Shared<[(String, Value); 2]>>,
    }

    impl Provider {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let issuer = format!("http://{}", listener.local_addr().unwrap());
            let says = Arc::new(Shared::new([document(&issuer, &json!({})), keys()]));
            let told = says.clone();
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut asked = [0; 2048];
                    let length = stream.read(&mut asked).await.unwrap();
                    let is_keys = asked[..length].starts_with(b"GET /jwks ");
                    let (kind, body) = told.lock()[usize::from(is_keys)].clone();
                    let body = body.to_string();
                    let length = body.len();
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\n{kind}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
            Self { issuer, says }
        }

        fn known(&self) -> Known<Metadata> {
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            let _first = provider.install_default().is_ok();
            let pem = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
            let pem = pem.unwrap().cert.pem();
            let limits = Limits {
                time: Duration::from_secs(10),
                answer: 64 * 1024,
            };
            let outbound = Outbound::new(Some(pem.as_bytes()), limits, Handle::current()).unwrap();
            let source = Source::Discovery(self.issuer.clone());
            Known::new("corp".to_owned(), source, outbound)
        }

        fn document(&self, change: &Value) {
            self.says.lock()[0] = document(&self.issuer, change);
        }
    }

    fn document(issuer: &str, change: &Value) -> (String, Value) {
        let mut document = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/auth"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
        });
        for (name, value) in change.as_object().unwrap() {
            document[name] = value.clone();
        }
        ("content-type: application/json\r\n".to_owned(), document)
    }

    fn keys() -> (String, Value) {
        let key = json!({
            "kty": "EC", "crv": "P-256", "kid": "one",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        });
        let set = json!({ "keys": [key] });
        ("content-type: application/json\r\n".to_owned(), set)
    }

    #[tokio::test]
    async fn a_provider_that_lies_later_is_known_as_it_was_for_a_day_and_then_not_at_all() {
        let provider = Provider::start().await;
        let known = provider.known();
        let clock = Clock::fixed(NOW);
        assert!(known.look_again(&clock, NOW).await);
        let before = known.provided().unwrap();
        let evil = json!("https://evil.example");
        for change in [
            json!({ "issuer": evil }),
            json!({ "issuer": format!("{}/", provider.issuer) }),
            json!({ "token_endpoint": "http://evil.example/token" }),
            json!({ "authorization_endpoint": "javascript:alert(1)" }),
            json!({ "jwks_uri": "http://10.0.0.1/jwks" }),
            json!({ "jwks_uri": null }),
            json!({ "code_challenge_methods_supported": ["plain"] }),
        ] {
            provider.document(&change);
            assert!(!known.look_again(&clock, NOW).await, "{change}");
            let now = known.provided().unwrap();
            assert!(Arc::ptr_eq(&now, &before), "{change}");
        }
        clock.advance(STALE);
        assert!(!known.look_again(&clock, NOW).await);
        assert!(known.provided().is_err(), "nobody logs in there any more");
        provider.document(&json!({}));
        assert!(known.look_again(&clock, NOW).await);
        assert_eq!(known.provided().unwrap().metadata, before.metadata);
    }

    #[tokio::test]
    async fn what_is_guarded_as_well_may_be_elsewhere_from_one_look_to_the_next() {
        let provider = Provider::start().await;
        let known = provider.known();
        let clock = Clock::fixed(NOW);
        assert!(known.look_again(&clock, NOW).await);
        provider.document(&json!({ "token_endpoint": "https://elsewhere.example/token" }));
        assert!(known.look_again(&clock, NOW).await);
        let endpoint = known.provided().unwrap().metadata.token_endpoint.clone();
        assert_eq!(endpoint.as_str(), "https://elsewhere.example/token");
    }

    #[tokio::test]
    async fn documents_and_keys_are_what_they_are_called() {
        let provider = Provider::start().await;
        let known = provider.known();
        let clock = Clock::fixed(NOW);
        assert!(known.look_again(&clock, NOW).await);
        for (kind, documents, keys) in [
            ("content-type: application/json\r\n", true, true),
            (
                "content-type: Application/JSON; charset=utf-8\r\n",
                true,
                true,
            ),
            ("content-type: application/jwk-set+json\r\n", false, true),
            ("content-type: application/jose+json\r\n", false, false),
            ("content-type: application/json-seq\r\n", false, false),
            ("content-type: text/html\r\n", false, false),
            (
                "content-type: text/plain; x=application/json\r\n",
                false,
                false,
            ),
            (
                "content-type: application/json\r\ncontent-type: text/html\r\n",
                false,
                false,
            ),
            ("", false, false),
        ] {
            for (which, good) in [documents, keys].into_iter().enumerate() {
                let honest = std::mem::replace(&mut provider.says.lock()[which].0, kind.to_owned());
                let looked = known.look().await;
                assert_eq!(looked.is_ok(), good, "{which} {kind}");
                if let Err(error) = looked {
                    assert!(error.to_string().contains("application/json"), "{error}");
                }
                provider.says.lock()[which].0 = honest;
            }
        }
    }
}
