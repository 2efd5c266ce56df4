//! The signed statement of who the user is, for an app that does not take a plain header's word for it: a JWT
//! (RFC 7519). It knows no session and no route: who it is about, and for whom it is, comes from outside.

mod kept;
mod keys;

pub use kept::Kept;
pub use keys::KeyError;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::json;

use keys::SigningKey;

use super::Identity;
use crate::clock::Timestamp;
use crate::secret::Keyring;

/// The field that carries it. Nothing that a client sends under this name reaches an app.
pub const ASSERTION: HeaderName = HeaderName::from_static("x-doorward-jwt-assertion");

/// How a signature is made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256 (RFC 7518 section 3.4).
    #[default]
    Es256,
    /// Ed25519 (RFC 8037).
    EdDsa,
}

impl Algorithm {
    pub const ALL: [Self; 2] = [Self::Es256, Self::EdDsa];

    /// Its name in a token's header, and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

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

/// Signs with the first key, and publishes all.
#[derive(Debug)]
pub struct Signer {
    settings: AssertionSettings,
    key: SigningKey,
    /// The first part of every token, with its dot.
    header: String,
    published: Bytes,
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
    /// The keys come from the server secrets, one from each: nodes with the same secrets have the same keys.
    pub fn new(settings: AssertionSettings, keyring: &Keyring) -> Result<Self, KeyError> {
        let keys = SigningKey::of(keyring, settings.algorithm);
        let published = json!({ "keys": keys.iter().map(SigningKey::jwk).collect::<Vec<_>>() });
        let key = keys.into_iter().next().ok_or(KeyError)?;
        let header =
            json!({ "alg": settings.algorithm.name(), "kid": key.id(), "typ": "JWT" }).to_string();
        Ok(Self {
            header: URL_SAFE_NO_PAD.encode(header) + ".",
            settings,
            key,
            published: published.to_string().into(),
        })
    }

    /// The public keys as a JWK set (RFC 7517): every key that may have signed what is still good.
    pub fn published(&self) -> &Bytes {
        &self.published
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
        let claims = serde_json::to_vec(&claims).ok()?;
        let mut token = self.header.clone();
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.key.sign(token.as_bytes()).ok()?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        HeaderValue::try_from(token).ok()
    }
}

#[cfg(test)]
mod tests;
