//! The keys that sign: made from the server secrets, and described to whoever verifies. What they sign they do not know.

use std::collections::BTreeMap;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, Signature,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use crate::secret::{Keyring, Purpose};

/// The cryptography library refuses a key or a signature, which it does for no key that it has taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("nothing can be signed")]
pub struct KeyError;

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

/// What is signed. Each kind has keys of its own, so that nothing of one kind ever passes for the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// For apps: who the user is.
    Assertion,
    /// For Doorward itself: that a session was good.
    Ticket,
}

impl Kind {
    /// The type in a token's header.
    pub const fn typ(self) -> &'static str {
        match self {
            Self::Assertion => "JWT",
            Self::Ticket => "doorward-session+jwt",
        }
    }

    const fn purpose(self, algorithm: Algorithm) -> Purpose {
        match (self, algorithm) {
            (Self::Assertion, Algorithm::Es256) => Purpose::AssertionEs256,
            (Self::Assertion, Algorithm::EdDsa) => Purpose::AssertionEdDsa,
            (Self::Ticket, Algorithm::Es256) => Purpose::TicketEs256,
            (Self::Ticket, Algorithm::EdDsa) => Purpose::TicketEdDsa,
        }
    }
}

/// Signs tokens of one kind with the first key, and publishes all.
#[derive(Debug)]
pub struct Signatory {
    key: SigningKey,
    /// The first part of every token, with its dot.
    header: String,
    published: Bytes,
}

impl Signatory {
    /// The keys come from the server secrets, one from each: nodes with the same secrets have the same keys.
    pub fn new(kind: Kind, algorithm: Algorithm, keyring: &Keyring) -> Result<Self, KeyError> {
        let keys = SigningKey::of(keyring, kind, algorithm);
        let published = json!({ "keys": keys.iter().map(SigningKey::jwk).collect::<Vec<_>>() });
        let key = keys.into_iter().next().ok_or(KeyError)?;
        let header = json!({ "alg": algorithm.name(), "kid": key.id, "typ": kind.typ() });
        Ok(Self {
            header: URL_SAFE_NO_PAD.encode(header.to_string()) + ".",
            key,
            published: published.to_string().into(),
        })
    }

    /// The public keys as a JWK set (RFC 7517): every key that may have signed what is still good.
    pub fn published(&self) -> &Bytes {
        &self.published
    }

    /// A token in compact form (RFC 7515).
    pub fn sign(&self, claims: &impl Serialize) -> Option<String> {
        let claims = serde_json::to_vec(claims).ok()?;
        let mut token = self.header.clone();
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.key.sign(token.as_bytes()).ok()?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }
}

/// Of a JWK, in the order of their names.
type Members = BTreeMap<&'static str, String>;

#[derive(Debug)]
enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

/// A private key. Its `Debug` shows the public one.
#[derive(Debug)]
struct SigningKey {
    pair: Pair,
    /// The thumbprint of its public key (RFC 7638).
    id: String,
}

impl SigningKey {
    /// One for each server secret, newest first.
    fn of(keyring: &Keyring, kind: Kind, algorithm: Algorithm) -> Vec<Self> {
        let purpose = kind.purpose(algorithm);
        let named = |pair: Pair| {
            let id = thumbprint(&pair);
            Self { pair, id }
        };
        match algorithm {
            Algorithm::Es256 => keyring.derived(purpose, p256).into_iter(),
            Algorithm::EdDsa => keyring.derived(purpose, ed25519).into_iter(),
        }
        .map(named)
        .collect()
    }

    fn sign(&self, message: &[u8]) -> Result<Signature, KeyError> {
        let signed = match &self.pair {
            Pair::Es256(pair) => pair.sign(&SystemRandom::new(), message),
            Pair::EdDsa(pair) => pair.try_sign(message),
        };
        signed.map_err(|_| KeyError)
    }

    /// Its public part (RFC 7517).
    fn jwk(&self) -> Members {
        let algorithm = match self.pair {
            Pair::Es256(_) => Algorithm::Es256,
            Pair::EdDsa(_) => Algorithm::EdDsa,
        };
        let mut jwk = members(&self.pair);
        jwk.insert("use", "sig".to_owned());
        jwk.insert("alg", algorithm.name().to_owned());
        jwk.insert("kid", self.id.clone());
        jwk
    }
}

/// `None` where the bytes are no scalar of the curve, which are one in four thousand million: the next ones are tried then
/// (FIPS 186-5, A.2.2).
fn p256(bytes: &[u8; 32]) -> Option<Pair> {
    let private = PrivateKey::from_private_key(&ECDH_P256, bytes).ok()?;
    let public = private.compute_public_key().ok()?;
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, bytes, public.as_ref());
    pair.ok().map(Pair::Es256)
}

fn ed25519(bytes: &[u8; 32]) -> Option<Pair> {
    let pair = Ed25519KeyPair::from_seed_unchecked(bytes);
    pair.ok().map(Pair::EdDsa)
}

/// What the thumbprint is made of: the members that RFC 7638 asks for and no other.
fn members(pair: &Pair) -> Members {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let named = |name: &str| name.to_owned();
    match pair {
        Pair::Es256(pair) => {
            // An uncompressed point: 4, then both coordinates.
            let point = pair.public_key().as_ref();
            let (x, y) = point.get(1..).unwrap_or_default().split_at(32);
            Members::from([
                ("crv", named("P-256")),
                ("kty", named("EC")),
                ("x", text(x)),
                ("y", text(y)),
            ])
        }
        Pair::EdDsa(pair) => Members::from([
            ("crv", named("Ed25519")),
            ("kty", named("OKP")),
            ("x", text(pair.public_key().as_ref())),
        ]),
    }
}

/// Members come in the order of their names, without spaces, as RFC 7638 wants them.
fn thumbprint(pair: &Pair) -> String {
    let canonical = json!(members(pair)).to_string();
    URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_scalar_of_the_curve_is_no_key() {
        // The order of P-256 itself, and nothing at all.
        const ORDER: [u8; 32] = [
            0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63,
            0x25, 0x51,
        ];
        let mut below = ORDER;
        below[31] -= 1;
        assert!(p256(&[0; 32]).is_none());
        assert!(p256(&ORDER).is_none());
        assert!(p256(&below).is_some());
    }

    /// RFC 8037, appendix A.1 to A.3.
    #[test]
    fn an_ed25519_key_is_named_as_the_rfc_names_it() {
        const SEED: [u8; 32] = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec,
            0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03,
            0x1c, 0xae, 0x7f, 0x60,
        ];
        let pair = ed25519(&SEED).unwrap();
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        assert_eq!(members(&pair)["x"], x);
        assert_eq!(
            thumbprint(&pair),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
    }
}
