//! The signed statement of who the user is, for an app that does not take a plain header's word for it: a JWT
//! (RFC 7519). It knows no session and no route: who it is about, and for whom it is, comes from outside.

mod kept;

pub use kept::Kept;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde::Serialize;

use super::{Algorithm, Identity, KeyError, Kind, Signatory};
use crate::clock::Timestamp;
use crate::secret::Keyring;

/// The field that carries it. Nothing that a client sends under this name reaches an app.
pub const ASSERTION: HeaderName = HeaderName::from_static("x-doorward-jwt-assertion");

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AssertionSettings {
    pub issuer: String,
    pub algorithm: Algorithm,
    /// From `iat` to `exp`.
    pub lifetime: Duration,
}

impl AssertionSettings {
    /// What a copy of an assertion is worth at most, whatever becomes of the session.
    pub const LONGEST: Duration = Duration::from_mins(5);
}

impl Default for AssertionSettings {
    fn default() -> Self {
        Self {
            issuer: "doorward".to_owned(),
            algorithm: Algorithm::default(),
            lifetime: Self::LONGEST,
        }
    }
}

/// What is to be asserted.
#[derive(Clone, Debug)]
pub struct Statement<'a> {
    pub identity: &'a Identity,
    /// The session's public name.
    pub sid: Option<String>,
    /// When the user proved who they are.
    pub auth_time: Option<Timestamp>,
    /// And how (RFC 8176).
    pub amr: &'a [String],
    /// Nothing is asserted for longer than this.
    pub until: Timestamp,
}

/// Makes assertions.
#[derive(Debug)]
pub struct Signer {
    settings: AssertionSettings,
    signatory: Signatory,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
    preferred_username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    groups: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<u64>,
    amr: &'a [String],
    iat: u64,
    exp: u64,
}

impl Signer {
    pub fn new(settings: AssertionSettings, keyring: &Keyring) -> Result<Self, KeyError> {
        let signatory = Signatory::new(Kind::Assertion, settings.algorithm, keyring)?;
        Ok(Self {
            settings,
            signatory,
        })
    }

    /// The public keys as a JWK set (RFC 7517).
    pub fn published(&self) -> &Bytes {
        self.signatory.published()
    }

    pub fn sign(
        &self,
        statement: &Statement<'_>,
        audience: &str,
        now: Timestamp,
    ) -> Option<HeaderValue> {
        let signed = self.try_sign(statement, audience, now);
        if signed.is_none() {
            tracing::error!(audience, "no assertion could be signed: the app gets none");
        }
        signed
    }

    fn try_sign(
        &self,
        statement: &Statement<'_>,
        audience: &str,
        now: Timestamp,
    ) -> Option<HeaderValue> {
        let identity = statement.identity;
        let subject = identity.subject.to_string();
        let claims = Claims {
            iss: &self.settings.issuer,
            aud: audience,
            sub: &subject,
            sid: statement.sid.as_deref(),
            preferred_username: &identity.user,
            name: identity.name.as_deref(),
            email: identity.email.as_deref(),
            groups: &identity.groups,
            auth_time: statement.auth_time.map(Timestamp::as_secs),
            amr: statement.amr,
            iat: now.as_secs(),
            exp: now
                .after(self.settings.lifetime)
                .min(statement.until)
                .as_secs(),
        };
        let token = self.signatory.sign(&claims)?;
        HeaderValue::try_from(token).ok()
    }
}

#[cfg(test)]
mod tests;
