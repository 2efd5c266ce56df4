use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::identity::Subject;
use crate::secret::Secret;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_500);

fn signer(secrets: &[u8], algorithm: Algorithm) -> Signer {
    let secrets = secrets.iter().map(|b| Secret::new(vec![*b; 32]));
    let keyring = Keyring::new(secrets.collect()).unwrap();
    let settings = AssertionSettings {
        algorithm,
        ..AssertionSettings::default()
    };
    Signer::new(settings, &keyring).unwrap()
}

fn alice() -> Identity {
    Identity {
        subject: Subject {
            provider: "local".into(),
            id: "a1".into(),
        },
        user: "alice".into(),
        name: Some("Ålice".into()),
        email: Some("alice@example.org".into()),
        groups: vec!["staff".into(), "a,b".into()],
    }
}

fn statement<'a>(identity: &'a Identity, amr: &'a [String]) -> Statement<'a> {
    Statement {
        identity,
        sid: Some("0190".into()),
        auth_time: Some(Timestamp::from_millis(1_799_999_000_999)),
        amr,
        until: Timestamp::MAX,
    }
}

fn bytes(part: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(part.as_str().unwrap()).unwrap()
}

fn part(text: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

/// As an app would: the key by its id, then the signature. The claims, if both are there.
fn verified(token: &HeaderValue, published: &Bytes) -> Option<Value> {
    let token = token.to_str().unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let header = part(header);
    let keys: Value = serde_json::from_slice(published).unwrap();
    let keys = keys["keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["kid"] == header["kid"])?;
    assert_eq!((&key["alg"], &key["use"]), (&header["alg"], &"sig".into()));
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let message = signed.as_bytes();
    let checked = if header["alg"] == "ES256" {
        let point = [vec![4], bytes(&key["x"]), bytes(&key["y"])].concat();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, &signature)
    } else {
        UnparsedPublicKey::new(&ED25519, bytes(&key["x"])).verify(message, &signature)
    };
    checked.ok().map(|()| part(claims))
}

#[test]
fn an_assertion_says_who_and_for_whom_and_verifies_with_what_is_published() {
    for algorithm in Algorithm::ALL {
        let signer = signer(&[1], algorithm);
        let amr = ["pwd".to_owned()];
        let token = signer
            .sign(&statement(&alice(), &amr), "wiki.example.com/", NOW)
            .unwrap();
        assert_eq!(
            verified(&token, signer.published()).unwrap(),
            json!({
                "iss": "doorward",
                "aud": "wiki.example.com/",
                "sub": "local:a1",
                "sid": "0190",
                "preferred_username": "alice",
                "name": "Ålice",
                "email": "alice@example.org",
                "groups": ["staff", "a,b"],
                "auth_time": 1_799_999_000,
                "amr": ["pwd"],
                "iat": 1_800_000_000,
                "exp": 1_800_000_300,
            })
        );
        let header = part(token.to_str().unwrap().split('.').next().unwrap());
        assert_eq!(
            (&header["alg"], &header["typ"]),
            (&algorithm.name().into(), &"JWT".into())
        );
    }
}

#[test]
fn groups_are_a_list_and_what_is_not_known_is_not_there() {
    let nobody = Identity {
        name: None,
        email: None,
        groups: Vec::new(),
        ..alice()
    };
    let bare = Statement {
        sid: None,
        auth_time: None,
        ..statement(&nobody, &[])
    };
    let signer = signer(&[1], Algorithm::Es256);
    let token = signer.sign(&bare, "wiki", NOW).unwrap();
    let claims = verified(&token, signer.published()).unwrap();
    assert_eq!(
        (&claims["groups"], &claims["amr"]),
        (&json!([]), &json!([]))
    );
    for absent in ["name", "email", "sid", "auth_time"] {
        assert!(claims.get(absent).is_none(), "{absent}");
    }
}

#[test]
fn nothing_is_asserted_beyond_the_end_of_the_session() {
    let signer = signer(&[1], Algorithm::Es256);
    let identity = alice();
    let short = Statement {
        until: NOW.after(Duration::from_mins(1)),
        ..statement(&identity, &[])
    };
    let token = signer.sign(&short, "wiki", NOW).unwrap();
    let claims = verified(&token, signer.published()).unwrap();
    assert_eq!(claims["exp"], 1_800_000_060);
}

#[test]
fn a_key_is_published_before_it_signs_and_for_as_long_as_its_secret_is_there() {
    let identity = alice();
    let sign = |signer: &Signer| {
        signer
            .sign(&statement(&identity, &[]), "wiki", NOW)
            .unwrap()
    };
    for algorithm in Algorithm::ALL {
        let [old, announced, turned, new] =
            [&[1][..], &[1, 2], &[2, 1], &[2]].map(|secrets| signer(secrets, algorithm));
        for node in [&old, &announced, &turned] {
            assert!(verified(&sign(&old), node.published()).is_some());
            assert!(verified(&sign(&announced), node.published()).is_some());
        }
        for node in [&announced, &turned, &new] {
            assert!(verified(&sign(&turned), node.published()).is_some());
        }
        assert!(verified(&sign(&old), new.published()).is_none());
        assert!(verified(&sign(&new), old.published()).is_none());
    }
}

#[test]
fn what_is_published_is_public() {
    for algorithm in Algorithm::ALL {
        let signer = signer(&[1, 2], algorithm);
        let keys: Value = serde_json::from_slice(signer.published()).unwrap();
        let keys = keys["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 2);
        let known = ["alg", "crv", "kid", "kty", "use", "x", "y"];
        for key in keys {
            let members = key.as_object().unwrap().keys();
            assert!(
                members
                    .into_iter()
                    .all(|name| known.contains(&name.as_str()))
            );
        }
    }
}

#[test]
fn one_flipped_bit_anywhere_does_not_verify() {
    let made_by = signer(&[1], Algorithm::Es256);
    let token = made_by
        .sign(&statement(&alice(), &[]), "wiki", NOW)
        .unwrap();
    let token = token.to_str().unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for bit in 0..signature.len() * 8 {
        let mut other = signature.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        let other = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(other));
        let other = HeaderValue::try_from(other).unwrap();
        assert!(verified(&other, made_by.published()).is_none(), "bit {bit}");
    }
}

#[test]
fn an_assertion_serves_one_audience_for_half_of_its_life() {
    let signer = signer(&[1], Algorithm::Es256);
    let (identity, kept) = (alice(), Kept::default());
    let get = |audience: &str, now| {
        let get = kept.get(&signer, (audience, now), || statement(&identity, &[]));
        get.unwrap()
    };
    let later = |seconds| NOW.after(Duration::from_secs(seconds));
    let first = get("wiki", NOW);
    let other = get("mail", NOW);
    assert_ne!(first, other);
    assert_eq!(get("wiki", later(149)), first);
    assert_eq!(get("mail", later(149)), other);
    let second = get("wiki", later(150));
    assert_ne!(second, first);
    assert_eq!(get("wiki", later(299)), second);
    let before = Timestamp::from_millis(NOW.as_millis() - 60_000);
    assert_eq!(
        verified(&get("wiki", before), signer.published()).unwrap()["iat"],
        before.as_secs(),
        "a clock that was set back"
    );
}

#[test]
fn many_audiences_take_no_more_memory_than_some() {
    let signer = signer(&[1], Algorithm::EdDsa);
    let (identity, kept) = (alice(), Kept::default());
    for number in 0..50 {
        let audience = format!("app-{number}");
        let token = kept.get(&signer, (&audience, NOW), || statement(&identity, &[]));
        let claims = verified(&token.unwrap(), signer.published()).unwrap();
        assert_eq!(claims["aud"], audience);
    }
    assert_eq!(kept.len(), 16);
}
