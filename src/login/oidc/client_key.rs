//! A key of ours that shows a provider that it is us, without a secret that both know: it signs an assertion for each
//! request (RFC 7523 section 2.2, `private_key_jwt`).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::secret::random;

/// How long an assertion is good: for the request that carries it.
const LIFETIME: Duration = Duration::from_mins(1);

#[derive(Clone)]
pub struct ClientKey {
    pair: Arc<Pair>,
    /// What the provider knows it by.
    id: Option<String>,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl ClientKey {
    /// Reads PEM with a key in PKCS #8: P-256 signs by ES256, RSA of 2048 bits or more by RS256. `None`: it is neither.
    pub fn from_pem(pem: &[u8], id: Option<String>) -> Option<Self> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).ok()?;
        let der = der.secret_pkcs8_der();
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
        let pair = match ec {
            Ok(pair) => Pair::Ec(pair),
            Err(_) => Pair::Rsa(RsaKeyPair::from_pkcs8(der).ok()?),
        };
        Some(Self {
            pair: Arc::new(pair),
            id,
        })
    }

    /// Says to `audience` that it is `client_id` who asks, now and once.
    pub(super) fn assertion(
        &self,
        (client_id, audience): (&str, &str),
        now: Timestamp,
    ) -> Result<String, Unspecified> {
        let mut header = json!({ "alg": self.pair.algorithm(), "typ": "JWT" });
        if let (Some(id), Some(header)) = (&self.id, header.as_object_mut()) {
            header.insert("kid".to_owned(), id.as_str().into());
        }
        let claims = json!({
            "iss": client_id, "sub": client_id, "aud": audience,
            "jti": BASE64_URL_SAFE_NO_PAD.encode(random::<16>()),
            "iat": now.as_secs(), "exp": now.after(LIFETIME).as_secs(),
        });
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self.pair.sign(signed.as_bytes())?;
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
        Ok(format!("{signed}.{signature}"))
    }
}

impl Pair {
    const fn algorithm(&self) -> &'static str {
        match self {
            Self::Ec(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let random = SystemRandom::new();
        match self {
            Self::Ec(pair) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                Ok(signature)
            }
        }
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, KeyPair, UnparsedPublicKey};

    use super::*;

    #[test]
    fn an_assertion_names_us_and_is_signed() {
        let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let id = Some("one".to_owned());
        let key = ClientKey::from_pem(made.serialize_pem().as_bytes(), id).unwrap();
        let now = Timestamp::from_millis(1_800_000_000_000);
        let whose = ("us", "https://op.example/token");
        let assertion = key.assertion(whose, now).unwrap();
        assert_ne!(
            assertion,
            key.assertion(whose, now).unwrap(),
            "each is one of its own"
        );
        let (signed, signature) = assertion.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let read = |part: &str| -> Value {
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        assert_eq!(
            read(header),
            json!({"alg": "ES256", "typ": "JWT", "kid": "one"})
        );
        let claims = read(claims);
        for (name, value) in [
            ("iss", json!("us")),
            ("sub", json!("us")),
            ("aud", json!("https://op.example/token")),
            ("iat", json!(1_800_000_000)),
            ("exp", json!(1_800_000_060)),
        ] {
            assert_eq!(claims[name], value, "{name}");
        }
        let Pair::Ec(pair) = &*key.pair else {
            panic!("a key of another kind")
        };
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert!(public.verify(signed.as_bytes(), &signature).is_ok());
    }

    #[test]
    fn what_is_no_key_is_none() {
        let public = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
        let empty = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for pem in ["", "a secret", public, empty] {
            assert!(ClientKey::from_pem(pem.as_bytes(), None).is_none(), "{pem}");
        }
    }
}
