//! The public keys that tickets are verified with. A key decides its algorithm, and a token never does.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::identity;

/// Keys that are looked at; a server has one for each of its secrets.
const MOST: usize = 64;

#[derive(Clone, Debug, Default)]
pub struct TicketKeys(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    id: String,
    algorithm: identity::Algorithm,
    verifier: DecodingKey,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("it is no JWK set with a key for ES256 or EdDSA")]
pub struct NoKeys;

#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

impl TicketKeys {
    /// Reads a JWK set (RFC 7517 section 5). What is no key for a signature that we make is passed over.
    pub fn parse(json: &[u8]) -> Result<Self, NoKeys> {
        let published: Published = serde_json::from_slice(json).map_err(|_| NoKeys)?;
        let keys = published.keys.into_iter().take(MOST).filter_map(key);
        let keys: Vec<Key> = keys.collect();
        if keys.is_empty() {
            return Err(NoKeys);
        }
        Ok(Self(keys))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id == id)
    }

    /// Whether the key of this id made a signature, by this algorithm.
    pub(super) fn verify(&self, (id, algorithm): (&str, &str), signed: &str, by: &str) -> bool {
        let mut keys = self.0.iter();
        let Some(key) = keys.find(|key| key.id == id && key.algorithm.name() == algorithm) else {
            return false;
        };
        let algorithm = match key.algorithm {
            identity::Algorithm::Es256 => Algorithm::ES256,
            identity::Algorithm::EdDsa => Algorithm::EdDSA,
        };
        let checked = jsonwebtoken::crypto::verify(by, signed.as_bytes(), &key.verifier, algorithm);
        checked.is_ok_and(|is_right| is_right)
    }
}

fn key(value: Value) -> Option<Key> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    if text("use")? != "sig" {
        return None;
    }
    let (id, named) = (text("kid")?.to_owned(), text("alg")?);
    let mut algorithms = identity::Algorithm::ALL.into_iter();
    let algorithm = algorithms.find(|algorithm| algorithm.name() == named)?;
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    Some(Key {
        id,
        algorithm,
        verifier: DecodingKey::from_jwk(&jwk).ok()?,
    })
}
