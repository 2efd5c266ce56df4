use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::secret::Secret;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_500);

fn ring(secrets: &[u8]) -> Keyring {
    let secrets = secrets.iter().map(|byte| Secret::new(vec![*byte; 32]));
    Keyring::new(secrets.collect()).unwrap()
}

fn settings() -> TicketSettings {
    TicketSettings {
        cookie: CookieName::new("sid-jwt", None).unwrap(),
        lifetime: TicketSettings::LIFETIME,
        issuer: "doorward".to_owned(),
        algorithm: Algorithm::Es256,
        readable: BTreeSet::new(),
    }
}

fn tickets(secrets: &[u8]) -> Tickets {
    Tickets::new(settings(), &ring(secrets)).unwrap()
}

fn sworn() -> Sworn {
    Sworn {
        sid: Sid::from_bytes([7; 16]),
        until: NOW.after(Duration::from_mins(2)),
        inner: Inner {
            private: Private {
                identity: Some(Identity {
                    subject: Subject {
                        provider: "local".into(),
                        id: "a1".into(),
                    },
                    user: "alice".into(),
                    name: Some("Ålice".into()),
                    email: Some("alice@example.org".into()),
                    groups: vec!["staff".into()],
                }),
                auth_time: Timestamp::from_millis(1_799_999_000_000),
                amr: vec!["pwd".into()],
                origin: Origin::of("127.0.0.1".parse().unwrap(), b"agent"),
                remembered: false,
                federated: None,
            },
            token: TokenHash::from_bytes([9; 32]),
            epoch: Epoch::from_number(3),
            last_seen: NOW,
            idle_millis: 1_800_000,
            expires: NOW.after(Duration::from_hours(1)),
        },
    }
}

/// The text of a ticket, out of its cookie.
fn made(tickets: &Tickets, secrets: &[u8]) -> String {
    let cookie = tickets.make(&sworn(), &ring(secrets), NOW).unwrap();
    let pair = cookie.to_str().unwrap().split(';').next().unwrap();
    pair.strip_prefix("__Host-sid-jwt=").unwrap().to_owned()
}

fn part(text: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

fn claims(text: &str) -> Value {
    part(text.split('.').nth(1).unwrap())
}

/// A token of these claims, rightly signed with a key for tickets.
fn signed(claims: &Value) -> String {
    let signatory = Signatory::new(Kind::Ticket, Algorithm::Es256, &ring(&[1])).unwrap();
    signatory.sign(claims).unwrap()
}

#[test]
fn a_ticket_says_to_its_own_nodes_what_it_was_made_of() {
    let tickets = tickets(&[1]);
    let text = made(&tickets, &[1]);
    let claims = tickets.verify(text.as_bytes(), NOW).unwrap();
    let expected = Sworn {
        until: Timestamp::from_millis(1_800_000_120_000),
        ..sworn()
    };
    assert_eq!(claims.open(&ring(&[1])), Some(expected));
    assert_eq!(claims.open(&ring(&[2])), None, "without the secret");
}

#[test]
fn what_is_readable_is_what_was_asked_for_and_nothing_else() {
    let text = made(&tickets(&[1]), &[1]);
    let bare = claims(&text);
    let mut names: Vec<_> = bare.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["aud", "enc", "exp", "iat", "iss", "sid"]);
    assert_eq!(
        bare["exp"].as_u64().unwrap() - bare["iat"].as_u64().unwrap(),
        120
    );
    let with = |readable: &[Claim]| {
        let settings = TicketSettings {
            readable: readable.iter().copied().collect(),
            ..settings()
        };
        claims(&made(&Tickets::new(settings, &ring(&[1])).unwrap(), &[1]))
    };
    let user = with(&[Claim::User]);
    assert_eq!(user["sub"], "local:a1");
    assert_eq!(user["preferred_username"], "alice");
    assert_eq!(user["amr"], json!(["pwd"]));
    for absent in ["name", "email", "groups"] {
        assert!(user.get(absent).is_none(), "{absent}");
    }
    let all = with(&Claim::ALL);
    assert_eq!(all["name"], "Ålice");
    assert_eq!(all["email"], "alice@example.org");
    assert_eq!(all["groups"], json!(["staff"]));
    for text in ["alice", "staff", "example.org"] {
        assert!(!bare.to_string().contains(text), "{text}");
    }
}

#[test]
fn a_ticket_is_good_from_a_minute_before_it_was_made_to_its_end() {
    let tickets = tickets(&[1]);
    let text = made(&tickets, &[1]);
    let at = |millis| tickets.verify(text.as_bytes(), Timestamp::from_millis(millis));
    assert!(at(1_800_000_119_999).is_some());
    assert!(at(1_800_000_120_000).is_none(), "its end");
    assert!(at(1_799_999_940_000).is_some(), "clocks differ");
    assert!(at(1_799_999_939_999).is_none(), "from the future");
}

#[test]
fn claims_that_are_not_ours_or_promise_too_much_are_refused_however_well_signed() {
    let tickets = tickets(&[1]);
    let good = claims(&made(&tickets, &[1]));
    let judge = |claims: &Value| tickets.verify(signed(claims).as_bytes(), NOW).is_some();
    assert!(judge(&good));
    for (name, value) in [
        ("iss", json!("other")),
        ("iss", json!(7)),
        ("aud", json!("wiki")),
        ("aud", json!(["doorward:session"])),
        ("iat", json!(1_800_000_061)),
        ("iat", json!("1800000000")),
        ("iat", json!(-1)),
        ("exp", json!(1_800_000_000)),
        ("exp", json!(1_800_000_601)),
        ("exp", json!(u64::MAX)),
        ("exp", Value::Null),
        ("sid", Value::Null),
    ] {
        let mut bad = good.clone();
        bad[name] = value;
        assert!(!judge(&bad), "{name}: {}", bad[name]);
    }
    for name in ["iss", "aud", "iat", "exp", "sid"] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(name);
        assert!(!judge(&bad), "no {name}");
    }
}

#[test]
fn a_header_that_is_not_ours_is_refused() {
    let tickets = tickets(&[1]);
    let text = made(&tickets, &[1]);
    let parts: Vec<&str> = text.split('.').collect();
    let header = part(parts[0]);
    let with = |name: &str, value: Value| {
        let mut header = header.clone();
        header[name] = value;
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        format!("{header}.{}.{}", parts[1], parts[2])
    };
    assert!(
        tickets
            .verify(with("alg", json!("ES256")).as_bytes(), NOW)
            .is_some()
    );
    for bad in [
        with("alg", json!("none")),
        with("alg", json!("HS256")),
        with("alg", json!("EdDSA")),
        with("kid", json!("other")),
        with("typ", json!("JWT")),
        with("crit", json!(["exp"])),
        text.to_uppercase(),
        format!("{text}="),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{text}.{}", parts[2]),
        "..".to_owned(),
        String::new(),
    ] {
        assert!(tickets.verify(bad.as_bytes(), NOW).is_none(), "{bad}");
    }
}

#[test]
fn a_header_that_is_not_ours_is_refused_however_well_it_is_signed() {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let keys = json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "1", "x": b64(x), "y": b64(y),
    }] });
    let edge = Tickets::at_edge(settings());
    edge.trust(TicketKeys::parse(keys.to_string().as_bytes()).unwrap());
    let claims = claims(&made(&tickets(&[1]), &[1]));
    let judge = |header: &Value| {
        let signed = [header, &claims].map(|part| b64(part.to_string().as_bytes()));
        let signed = signed.join(".");
        let by = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        let text = format!("{signed}.{}", b64(by.as_ref()));
        edge.verify(text.as_bytes(), NOW).is_some()
    };
    let good = json!({ "alg": "ES256", "kid": "1", "typ": Kind::Ticket.typ() });
    assert!(judge(&good));
    for (name, value) in [
        ("typ", json!("JWT")),
        ("typ", json!(Kind::Assertion.typ())),
        ("typ", Value::Null),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("alg", json!("EdDSA")),
        ("alg", json!("none")),
        ("kid", json!("2")),
        ("kid", Value::Null),
    ] {
        let mut bad = good.clone();
        bad[name] = value;
        assert!(!judge(&bad), "{bad}");
    }
}

#[test]
fn one_flipped_bit_anywhere_is_refused() {
    let tickets = tickets(&[1]);
    let text = made(&tickets, &[1]);
    for bit in 0..text.len() * 8 {
        let mut bad = text.clone().into_bytes();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(tickets.verify(&bad, NOW).is_none(), "bit {bit}");
    }
}

#[test]
fn an_assertion_is_no_ticket_even_with_the_same_claims() {
    let tickets = tickets(&[1]);
    let good = claims(&made(&tickets, &[1]));
    let apps = Signatory::new(Kind::Assertion, Algorithm::Es256, &ring(&[1])).unwrap();
    let assertion = apps.sign(&good).unwrap();
    assert!(tickets.verify(assertion.as_bytes(), NOW).is_none());
    let keys = |signatory: &Signatory| {
        let keys: Value = serde_json::from_slice(signatory.published()).unwrap();
        keys["keys"][0]["kid"].clone()
    };
    let own = Signatory::new(Kind::Ticket, Algorithm::Es256, &ring(&[1])).unwrap();
    assert_ne!(keys(&apps), keys(&own), "no key in common");
}

#[test]
fn secrets_rotate_without_a_gap() {
    let [old, announced, turned, new] = [&[1][..], &[1, 2], &[2, 1], &[2]].map(tickets);
    for (by, secrets) in [(&old, &[1][..]), (&announced, &[1, 2])] {
        let text = made(by, secrets);
        for node in [&old, &announced, &turned] {
            assert!(node.verify(text.as_bytes(), NOW).is_some());
        }
        assert!(new.verify(text.as_bytes(), NOW).is_none());
    }
    let text = made(&turned, &[2, 1]);
    for node in [&announced, &turned, &new] {
        assert!(node.verify(text.as_bytes(), NOW).is_some());
    }
}

#[test]
fn what_a_browser_would_not_keep_is_not_made() {
    let mut large = sworn();
    large.inner.private.identity.as_mut().unwrap().groups =
        (0..400).map(|number| format!("group-{number}")).collect();
    assert!(tickets(&[1]).make(&large, &ring(&[1]), NOW).is_none());
    let over = Sworn {
        until: NOW,
        ..sworn()
    };
    assert!(tickets(&[1]).make(&over, &ring(&[1]), NOW).is_none());
}

#[test]
fn keys_are_read_by_what_they_say_they_are_for() {
    let own = Signatory::new(Kind::Ticket, Algorithm::EdDsa, &ring(&[1])).unwrap();
    let good: Value = serde_json::from_slice(own.published()).unwrap();
    let reads = |keys: &Value| TicketKeys::parse(keys.to_string().as_bytes()).is_ok();
    assert!(reads(&good));
    for (name, value) in [
        ("use", json!("enc")),
        ("alg", json!("HS256")),
        ("alg", Value::Null),
        ("kid", Value::Null),
        ("kty", json!("oct")),
    ] {
        let mut bad = good.clone();
        bad["keys"][0][name] = value;
        assert!(!reads(&bad), "{name}");
    }
    for text in ["", "[]", "{}", "{\"keys\":[]}", "<html>"] {
        assert!(TicketKeys::parse(text.as_bytes()).is_err(), "{text}");
    }
}
