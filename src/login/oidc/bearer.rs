//! Tokens of issuers elsewhere that programs bring with each request (RFC 6750, RFC 9068). What was judged is remembered
//! while it is good and the issuer's keys are the same. It knows no request and begins no session.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::runtime::Handle;
use url::Url;

use super::fault::{Flaw, OidcError};
use super::known::{Known, Provided, Source};
use super::mapping::Mapping;
use super::metadata::KeyPlace;
use super::token::{Claims, Terms, Token, claimed_issuer};
use super::{ID_TOKEN, MAX_ANSWER};
use crate::clock::{Clock, Timestamp};
use crate::identity::Identity;
use crate::login::Grant;
use crate::outbound::{Limits, Outbound, OutboundError};

/// What comes with every request is shorter than what comes once.
const LONGEST: usize = 16 * 1024;

/// Tokens that are remembered, about: twice as many at most.
const REMEMBERED: usize = 4096;

/// An ID token's two, and those of access tokens (RFC 9068 section 2.1). A logout token has another, or says `events`.
const TYPES: [Option<&str>; 4] = [
    ID_TOKEN[0],
    ID_TOKEN[1],
    Some("at+jwt"),
    Some("application/at+jwt"),
];

/// One `[[clients.issuer]]`.
#[derive(Clone, Debug)]
pub struct IssuerSettings {
    /// In place of a provider's, in subjects and logs.
    pub id: String,
    /// Exactly as its tokens name it.
    pub issuer: String,
    /// Where its keys are; `None`: its configuration document says.
    pub keys: Option<Url>,
    /// What its tokens have to be meant for.
    pub audience: String,
    /// By which they may be signed.
    pub algorithms: Vec<Algorithm>,
    pub mapping: Mapping,
    pub max_clock_skew: Duration,
    /// For one answer.
    pub timeout: Duration,
    /// PEM of the authorities that sign its certificates; `None`: those that this machine trusts.
    pub authorities: Option<Vec<u8>>,
}

/// Every issuer, and what of theirs was judged.
#[derive(Debug)]
pub struct Issuers {
    all: Vec<Arc<Issuer>>,
    clock: Clock,
    judged: Mutex<Judged>,
}

/// An issuer, as far as it is known.
#[derive(Debug)]
pub struct Issuer {
    settings: IssuerSettings,
    known: Known<KeyPlace>,
}

type Fingerprint = [u8; 32];

/// The older half goes when the younger is full, but for what is asked for meanwhile.
#[derive(Debug, Default)]
struct Judged {
    young: HashMap<Fingerprint, Good>,
    old: HashMap<Fingerprint, Good>,
}

#[derive(Clone, Debug)]
struct Good {
    grant: Arc<Grant>,
    issuer: Arc<Issuer>,
    /// What it was judged by.
    by: Arc<Provided<KeyPlace>>,
}

impl Issuers {
    /// Asks nobody yet. What is sent goes out on `runtime`.
    pub fn new(
        settings: &[IssuerSettings],
        (clock, runtime): (Clock, &Handle),
    ) -> Result<Self, OutboundError> {
        let issuers = settings.iter().map(|settings| {
            let issuer = Issuer::new(settings.clone(), runtime.clone())?;
            Ok(Arc::new(issuer))
        });
        Ok(Self {
            all: issuers.collect::<Result<_, OutboundError>>()?,
            clock,
            judged: Mutex::default(),
        })
    }

    /// Each has to be kept up with.
    pub fn all(&self) -> &[Arc<Issuer>] {
        &self.all
    }

    /// What a token is worth that was judged before and still is good.
    pub fn recall(&self, token: &[u8], allowed: &BTreeSet<String>) -> Option<Arc<Grant>> {
        if token.len() > LONGEST {
            return None;
        }
        let good = self.judged.lock().find(&fingerprint(token))?;
        let is_allowed = allowed.contains(&good.issuer.settings.id);
        let keys = good.issuer.known.provided().ok()?;
        let is_good = is_allowed
            && good.grant.is_good(self.clock.now())
            // A key that was taken back takes back what it signed.
            && Arc::ptr_eq(&keys, &good.by);
        is_good.then_some(good.grant)
    }

    /// Judges a token of one of the issuers that are `allowed`, by id.
    pub async fn judge(
        &self,
        token: &[u8],
        allowed: &BTreeSet<String>,
    ) -> Result<Arc<Grant>, OidcError> {
        let text = std::str::from_utf8(token).ok();
        let text = text.filter(|text| text.len() <= LONGEST);
        let text = text.ok_or(Flaw::Shape("the token is too long, or no text"))?;
        let claimed = claimed_issuer(text).ok_or(Flaw::Shape("the token is no JWT"))?;
        let mut issuers = self.all.iter();
        let is_meant = |issuer: &&Arc<Issuer>| {
            issuer.settings.issuer == claimed && allowed.contains(&issuer.settings.id)
        };
        let issuer = issuers.find(is_meant).ok_or(Flaw::Issuer)?;
        let (grant, by) = issuer.judge(text, self.clock.now()).await?;
        let good = Good {
            grant: Arc::new(grant),
            issuer: issuer.clone(),
            by,
        };
        let grant = good.grant.clone();
        self.judged.lock().put(fingerprint(token), good);
        Ok(grant)
    }
}

impl Issuer {
    fn new(settings: IssuerSettings, runtime: Handle) -> Result<Self, OutboundError> {
        let limits = Limits {
            time: settings.timeout,
            answer: MAX_ANSWER,
        };
        let outbound = Outbound::new(settings.authorities.as_deref(), limits, runtime)?;
        let source = match &settings.keys {
            Some(keys) => Source::Told(KeyPlace(keys.clone())),
            None => Source::Discovery(settings.issuer.clone()),
        };
        Ok(Self {
            known: Known::new(settings.id.clone(), source, outbound),
            settings,
        })
    }

    /// Finds its keys, and keeps up with them for ever.
    pub async fn follow(&self, clock: &Clock) {
        self.known.follow(clock).await;
    }

    async fn judge(
        &self,
        text: &str,
        now: Timestamp,
    ) -> Result<(Grant, Arc<Provided<KeyPlace>>), OidcError> {
        let settings = &self.settings;
        let terms = Terms {
            issuer: &settings.issuer,
            client_id: &settings.audience,
            algorithms: &settings.algorithms,
            skew: settings.max_clock_skew,
            now,
        };
        let mut by = self.known.provided()?;
        let token = match Token::open(text, &by.keys, (&terms, &TYPES)) {
            Err(Flaw::UnknownKey) => {
                by = self.known.renew(&by, now).await?;
                Token::open(text, &by.keys, (&terms, &TYPES))?
            }
            opened => opened?,
        };
        let until = token.check_access(&terms)?;
        let identity = self.identity(&token.claims)?;
        Ok((Grant::new(identity, scopes(&token.claims)?, until), by))
    }

    fn identity(&self, claims: &Claims) -> Result<Identity, Flaw> {
        let settings = &self.settings;
        settings.mapping.identity(&settings.id, &[claims])
    }
}

impl Judged {
    fn find(&mut self, key: &Fingerprint) -> Option<Good> {
        if let Some(good) = self.young.get(key) {
            return Some(good.clone());
        }
        let good = self.old.remove(key)?;
        self.put(*key, good.clone());
        Some(good)
    }

    fn put(&mut self, key: Fingerprint, good: Good) {
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, good);
    }
}

fn fingerprint(token: &[u8]) -> Fingerprint {
    let digest = digest(&SHA256, token);
    let whole = digest.as_ref().first_chunk();
    whole.copied().unwrap_or_default()
}

/// One text with spaces in `scope` (RFC 9068 section 2.2.3), or what some issuers have in its place.
fn scopes(claims: &Claims) -> Result<BTreeSet<String>, Flaw> {
    for name in ["scope", "scp"] {
        match claims.0.get(name) {
            None => {}
            Some(Value::String(text)) => {
                return Ok(text.split_ascii_whitespace().map(str::to_owned).collect());
            }
            Some(_) => {
                let texts = claims.texts(name)?;
                return Ok(texts.into_iter().map(str::to_owned).collect());
            }
        }
    }
    Ok(BTreeSet::new())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::identity::Subject;
    use crate::login::ClaimPath;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    #[test]
    fn scopes_come_as_one_text_or_as_a_list() {
        for (claims, expected) in [
            (json!({"scope": "a b:c  d"}), Some(vec!["a", "b:c", "d"])),
            (json!({"scope": ""}), Some(vec![])),
            (json!({"scp": "a"}), Some(vec!["a"])),
            (json!({"scp": ["a", "b"]}), Some(vec!["a", "b"])),
            (json!({"scope": "a", "scp": "b"}), Some(vec!["a"])),
            (json!({}), Some(vec![])),
            (json!({"scope": 7}), None),
            (json!({"scope": null, "scp": "a"}), None),
            (json!({"scp": ["a", 7]}), None),
        ] {
            let found = scopes(&Claims(claims.as_object().unwrap().clone())).ok();
            let found: Option<Vec<String>> = found.map(|found| found.into_iter().collect());
            let expected = expected
                .map(|list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(found, expected, "{claims}");
        }
    }

    #[tokio::test]
    async fn what_is_remembered_has_a_bound_and_what_is_asked_for_stays() {
        let pem = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
        let _first = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let settings = IssuerSettings {
            id: "ci".to_owned(),
            issuer: "https://ci.example".to_owned(),
            keys: None,
            audience: "us".to_owned(),
            algorithms: vec![Algorithm::ES256],
            mapping: Mapping {
                user: ClaimPath::parse("sub"),
                name: ClaimPath::parse("name"),
                email: ClaimPath::parse("email"),
                groups: None,
                verified_email: true,
            },
            max_clock_skew: Duration::ZERO,
            timeout: Duration::from_secs(1),
            authorities: Some(pem.unwrap().cert.pem().into_bytes()),
        };
        let identity = Identity {
            subject: Subject {
                provider: "ci".to_owned(),
                id: "1".to_owned(),
            },
            user: "1".to_owned(),
            name: None,
            email: None,
            groups: Vec::new(),
        };
        let keys = super::super::keys::Keys::default();
        let metadata = KeyPlace(Url::parse("https://ci.example/keys").unwrap());
        let good = Good {
            grant: Arc::new(Grant::new(identity, BTreeSet::new(), NOW)),
            issuer: Arc::new(Issuer::new(settings, Handle::current()).unwrap()),
            by: Arc::new(Provided { metadata, keys }),
        };
        let mut judged = Judged::default();
        let key = |number: usize| fingerprint(&number.to_le_bytes());
        judged.put(key(0), good.clone());
        for number in 1..3 * REMEMBERED {
            judged.put(key(number), good.clone());
            assert!(judged.find(&key(0)).is_some(), "{number}");
            assert!(judged.young.len() + judged.old.len() <= 2 * REMEMBERED);
        }
        assert!(judged.find(&key(1)).is_none());
    }
}
