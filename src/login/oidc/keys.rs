//! A provider's public keys: which of them may verify a token of which algorithm. What is not a key for signatures, or not
//! of a kind that is known, is passed over; a key never decides the algorithm.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::fault::Flaw;

/// Keys that are looked at; providers have two or three.
const MOST: usize = 64;

/// What may sign tokens: asymmetric, so that nobody but the provider can.
pub const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    let known = ALGORITHMS.iter().find(|(known, _)| *known == name);
    known.map(|(_, algorithm)| *algorithm)
}

#[derive(Clone, Debug, Default)]
pub(super) struct Keys(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    /// The only one, where the provider says so.
    algorithm: Option<Algorithm>,
    family: AlgorithmFamily,
    curve: Option<EllipticCurve>,
    verifier: DecodingKey,
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

impl Keys {
    /// Reads a JWK set (RFC 7517 section 5).
    pub(super) fn parse(json: &[u8]) -> Result<Self, Flaw> {
        let published: Published =
            serde_json::from_slice(json).map_err(|_| Flaw::Shape("its keys are no JWK set"))?;
        if published.keys.len() > MOST {
            return Err(Flaw::Shape("it publishes too many keys"));
        }
        let keys: Vec<Key> = published.keys.into_iter().filter_map(key).collect();
        if keys.is_empty() {
            return Err(Flaw::Shape("it publishes no key that can be used"));
        }
        Ok(Self(keys))
    }

    /// The key for a token. Without a key id there must be no choice.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let mut fitting = self.0.iter().filter(|key| key.fits(algorithm));
        match id {
            Some(id) => fitting.find(|key| key.id.as_deref() == Some(id)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
        .map(|key| &key.verifier)
    }
}

impl Key {
    fn fits(&self, algorithm: Algorithm) -> bool {
        let curve = match algorithm {
            Algorithm::ES256 => Some(EllipticCurve::P256),
            Algorithm::ES384 => Some(EllipticCurve::P384),
            Algorithm::EdDSA => Some(EllipticCurve::Ed25519),
            _ => None,
        };
        self.family == algorithm.family()
            && self.curve == curve
            && self.algorithm.is_none_or(|only| only == algorithm)
    }
}

fn key(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let for_signatures = match &jwk.common.public_key_use {
        Some(usage) => *usage == PublicKeyUse::Signature,
        None => true,
    };
    let verifies = |operations: &Vec<_>| operations.contains(&KeyOperations::Verify);
    let may_verify = jwk.common.key_operations.as_ref().is_none_or(verifies);
    if !for_signatures || !may_verify {
        return None;
    }
    let (family, curve) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (AlgorithmFamily::Rsa, None),
        AlgorithmParameters::EllipticCurve(of) => (AlgorithmFamily::Ec, Some(of.curve.clone())),
        AlgorithmParameters::OctetKeyPair(of) => (AlgorithmFamily::Ed, Some(of.curve.clone())),
        // A secret in public, or something that is not known.
        _ => return None,
    };
    let algorithm = match jwk.common.key_algorithm {
        Some(told) => Some(algorithm(&told.to_string())?),
        None => None,
    };
    Some(Key {
        verifier: DecodingKey::from_jwk(&jwk).ok()?,
        id: jwk.common.key_id,
        algorithm,
        family,
        curve,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EC: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;

    fn keys(list: &[String]) -> Result<Keys, Flaw> {
        Keys::parse(format!("{{\"keys\":[{}]}}", list.join(",")).as_bytes())
    }

    fn ec(more: &str) -> String {
        format!("{{{EC}{more}}}")
    }

    #[test]
    fn a_key_is_found_by_its_id_and_only_for_its_own_algorithm() {
        let set = keys(&[ec(r#","kid":"a""#), ec(r#","kid":"b","alg":"ES256""#)]).unwrap();
        for (id, algorithm, there) in [
            (Some("a"), Algorithm::ES256, true),
            (Some("b"), Algorithm::ES256, true),
            (Some("c"), Algorithm::ES256, false),
            (Some("a"), Algorithm::ES384, false),
            (Some("a"), Algorithm::RS256, false),
            (Some("a"), Algorithm::EdDSA, false),
            (None, Algorithm::ES256, false),
        ] {
            assert_eq!(set.find(id, algorithm).is_some(), there, "{id:?}");
        }
        let alone = keys(&[ec(r#","kid":"a""#)]).unwrap();
        assert!(alone.find(None, Algorithm::ES256).is_some());
    }

    #[test]
    fn what_is_no_key_for_signatures_is_passed_over() {
        for (key, good) in [
            (ec(""), true),
            (ec(r#","use":"sig""#), true),
            (ec(r#","use":"enc""#), false),
            (ec(r#","use":"else""#), false),
            (ec(r#","key_ops":["verify"]"#), true),
            (ec(r#","key_ops":["encrypt"]"#), false),
            (ec(r#","alg":"HS256""#), false),
            (ec(r#","alg":"RSA-OAEP""#), false),
            (ec(r#","kid":7"#), false),
            (r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned(), false),
            (r#"{"kty":"RSA","n":"!","e":"AQAB"}"#.to_owned(), false),
            (r#"{"kty":"new"}"#.to_owned(), false),
            ("7".to_owned(), false),
        ] {
            assert_eq!(keys(std::slice::from_ref(&key)).is_ok(), good, "{key}");
            assert!(keys(&[key, ec("")]).is_ok(), "beside a good one");
        }
    }

    #[test]
    fn garbage_and_floods_are_no_keys() {
        for text in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[]}", "<html>"] {
            assert!(Keys::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(keys(&vec![ec(""); MOST]).is_ok());
        assert!(keys(&vec![ec(""); MOST + 1]).is_err());
    }
}
