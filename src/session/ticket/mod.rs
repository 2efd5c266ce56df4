//! A ticket: the short-lived signed cookie (JWT, RFC 7519) that says that a session was good a moment ago, so that a node
//! need not ask the store. Pure: what it is made of and when it is shown are arguments; it ends no session and finds none.

mod keys;

pub use keys::{NoKeys, TicketKeys};

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::binding::Origin;
use super::cookie::CookieName;
use super::live::Private;
use super::record::{Epoch, decode, encode};
use super::token::{Sid, TokenHash};
use crate::clock::Timestamp;
use crate::identity::{Algorithm, Identity, KeyError, Kind, Signatory, Subject};
use crate::secret::{Keyring, Purpose};

/// For whom a ticket is: nobody but ourselves. An assertion is for an app.
const AUDIENCE: &str = "doorward:session";

/// How far the clocks of two nodes may be apart before a ticket counts as one from the future.
const SKEW: Duration = Duration::from_mins(1);

/// How tickets are made and what is believed of one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TicketSettings {
    pub cookie: CookieName,
    /// From one look at the store to the end of what was found there: a session that is ended elsewhere lives no longer.
    pub lifetime: Duration,
    pub issuer: String,
    pub algorithm: Algorithm,
    /// All else is sealed.
    pub readable: BTreeSet<Claim>,
}

impl TicketSettings {
    /// What is believed at most, whatever a ticket says.
    pub const LONGEST: Duration = Duration::from_mins(10);
    pub const SHORTEST: Duration = Duration::from_secs(30);
    pub const LIFETIME: Duration = Duration::from_mins(2);
    pub const ISSUER: &str = "doorward";
}

/// What of an identity a ticket may show to everybody who holds it, and so to nodes without the secrets.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Claim {
    Email,
    Groups,
    Name,
    /// Who it is, since when, and how that was proved: the others say nothing without it.
    User,
}

impl Claim {
    pub const ALL: [Self; 4] = [Self::Email, Self::Groups, Self::Name, Self::User];

    /// The word for it in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Groups => "groups",
            Self::Name => "name",
            Self::User => "user",
        }
    }
}

/// What a ticket is made of, and what comes out of it again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Sworn {
    pub(super) sid: Sid,
    pub(super) until: Timestamp,
    pub(super) inner: Inner,
}

/// What only nodes with the server secrets read.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Inner {
    pub(super) private: Private,
    /// The token that it was made for. Beside another one it counts for nothing.
    pub(super) token: TokenHash,
    pub(super) epoch: Epoch,
    pub(super) last_seen: Timestamp,
    pub(super) idle_millis: u64,
    pub(super) expires: Timestamp,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
    crit: Option<serde_json::Value>,
}

/// Whole seconds since 1970.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Claims {
    iss: String,
    aud: String,
    pub(super) sid: String,
    iat: u64,
    exp: u64,
    /// [`Inner`], sealed for this session.
    enc: Option<String>,
    #[serde(flatten)]
    pub(super) told: Told,
}

/// What is readable, where it is wanted.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) preferred_username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) groups: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) auth_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) amr: Option<Vec<String>>,
}

/// Makes tickets where it has the key for it, and verifies them.
#[derive(Debug)]
pub struct Tickets {
    pub(super) settings: TicketSettings,
    signatory: Option<Signatory>,
    keys: ArcSwap<TicketKeys>,
}

impl Tickets {
    /// Of a node with the server secrets.
    pub fn new(settings: TicketSettings, keyring: &Keyring) -> Result<Self, KeyError> {
        let signatory = Signatory::new(Kind::Ticket, settings.algorithm, keyring)?;
        let keys = TicketKeys::parse(signatory.published()).map_err(|NoKeys| KeyError)?;
        Ok(Self {
            settings,
            signatory: Some(signatory),
            keys: ArcSwap::from_pointee(keys),
        })
    }

    /// Of a node that has public keys alone, none of them yet.
    pub fn at_edge(settings: TicketSettings) -> Self {
        Self {
            settings,
            signatory: None,
            keys: ArcSwap::default(),
        }
    }

    /// Whether it makes none.
    pub(super) fn is_at_edge(&self) -> bool {
        self.signatory.is_none()
    }

    /// In place of the keys that were known before.
    pub(super) fn trust(&self, keys: TicketKeys) {
        self.keys.store(Arc::new(keys));
    }

    pub(super) fn knows_keys(&self) -> bool {
        !self.keys.load().is_empty()
    }

    pub fn cookie(&self) -> &CookieName {
        &self.settings.cookie
    }

    /// The public keys as a JWK set. `None` on a node that makes no tickets.
    pub fn published(&self) -> Option<&Bytes> {
        self.signatory.as_ref().map(Signatory::published)
    }

    /// The `Set-Cookie` of a ticket. `None` where it would be over at once, or longer than a browser keeps.
    pub(super) fn make(
        &self,
        sworn: &Sworn,
        keyring: &Keyring,
        now: Timestamp,
    ) -> Option<HeaderValue> {
        let (iat, exp) = (now.as_secs(), sworn.until.as_secs());
        let identity = sworn.inner.private.identity.as_ref()?;
        let left = exp.checked_sub(iat).filter(|left| *left > 0)?;
        let inner = encode(&sworn.inner);
        let sealed = keyring.seal(Purpose::Ticket, sworn.sid.as_bytes(), &inner);
        let claims = Claims {
            iss: self.settings.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sid: sworn.sid.to_string(),
            iat,
            exp,
            enc: Some(URL_SAFE_NO_PAD.encode(sealed)),
            told: Told::of(&sworn.inner.private, identity, &self.settings.readable),
        };
        let text = self.signatory.as_ref()?.sign(&claims)?;
        let cookie = &self.settings.cookie;
        if !cookie.holds(&text) {
            let sid = sworn.sid;
            tracing::debug!(%sid, "an identity is too large for a cookie: the store is asked instead");
            return None;
        }
        Some(cookie.set_cookie(&text, Some(Duration::from_secs(left))))
    }

    /// Whether what looks like a ticket names a key that is not known: a new one, or a stranger's.
    pub(super) fn lacks_key_of(&self, text: &[u8]) -> bool {
        let header = std::str::from_utf8(text).ok().and_then(|text| {
            let (header, _) = text.split_once('.')?;
            read::<Header>(header)
        });
        header.is_some_and(|header| {
            header.typ == Kind::Ticket.typ() && !self.keys.load().has(&header.kid)
        })
    }

    /// The claims of a ticket that is good now.
    pub(super) fn verify(&self, text: &[u8], now: Timestamp) -> Option<Claims> {
        let text = std::str::from_utf8(text).ok()?;
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = read(header)?;
        if header.typ != Kind::Ticket.typ() || header.crit.is_some() {
            return None;
        }
        let by = (header.kid.as_str(), header.alg.as_str());
        if !self.keys.load().verify(by, signed, signature) {
            return None;
        }
        let claims: Claims = read(claims)?;
        let issued = Timestamp::from_millis(claims.iat.checked_mul(1000)?);
        let until = claims.until()?;
        let is_ours = claims.iss == self.settings.issuer && claims.aud == AUDIENCE;
        let is_now = issued <= now.after(SKEW) && now < until;
        let is_short = until.since(issued) <= TicketSettings::LONGEST;
        (is_ours && is_now && is_short).then_some(claims)
    }
}

impl Claims {
    pub(super) fn until(&self) -> Option<Timestamp> {
        Some(Timestamp::from_millis(self.exp.checked_mul(1000)?))
    }

    /// What was sealed in it, for a node that has the secrets.
    pub(super) fn open(&self, keyring: &Keyring) -> Option<Sworn> {
        let sid = Sid::parse(&self.sid)?;
        let sealed = URL_SAFE_NO_PAD.decode(self.enc.as_ref()?).ok()?;
        let inner = keyring.open(Purpose::Ticket, sid.as_bytes(), &sealed)?;
        Some(Sworn {
            sid,
            until: self.until()?,
            inner: decode(&inner).ok()?,
        })
    }
}

impl Claims {
    /// What can be read in it, for a node that has no secrets. Nothing but its end ends it there.
    pub(super) fn told(&self) -> Option<Sworn> {
        let told = &self.told;
        let (provider, id) = told.sub.as_ref()?.split_once(':')?;
        let until = self.until()?;
        let identity = Identity {
            subject: Subject {
                provider: provider.to_owned(),
                id: id.to_owned(),
            },
            user: told.preferred_username.clone()?,
            name: told.name.clone(),
            email: told.email.clone(),
            groups: told.groups.clone().unwrap_or_default(),
        };
        let private = Private {
            identity: Some(identity),
            auth_time: Timestamp::from_millis(told.auth_time?.checked_mul(1000)?),
            amr: told.amr.clone().unwrap_or_default(),
            origin: Origin::of(Ipv4Addr::UNSPECIFIED.into(), b""),
            remembered: false,
            federated: None,
        };
        Some(Sworn {
            sid: Sid::parse(&self.sid)?,
            until,
            inner: Inner {
                private,
                token: TokenHash::from_bytes([0; 32]),
                epoch: Epoch::default(),
                last_seen: Timestamp::from_millis(self.iat.checked_mul(1000)?),
                idle_millis: u64::MAX,
                expires: until,
            },
        })
    }
}

impl Told {
    fn of(private: &Private, identity: &Identity, readable: &BTreeSet<Claim>) -> Self {
        let shows = |claim| readable.contains(&claim);
        if !shows(Claim::User) {
            return Self::default();
        }
        Self {
            sub: Some(identity.subject.to_string()),
            preferred_username: Some(identity.user.clone()),
            name: identity.name.clone().filter(|_| shows(Claim::Name)),
            email: identity.email.clone().filter(|_| shows(Claim::Email)),
            groups: shows(Claim::Groups).then(|| identity.groups.clone()),
            auth_time: Some(private.auth_time.as_secs()),
            amr: Some(private.amr.clone()),
        }
    }
}

fn read<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests;
