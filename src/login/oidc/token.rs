//! Judging a signed token (JWT): its signature by the provider's keys, then the claims that say for whom and when it is.
//! Pure: keys, time and what is expected are arguments. It knows nothing of where a token came from.

use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::fault::Flaw;
use super::keys::{Keys, algorithm};
use crate::clock::Timestamp;

/// Tokens of people in hundreds of groups have some 30 KiB.
const LONGEST: usize = 128 * 1024;

const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// A logout token is sent when it is made (ASVS 10.5.5).
const MAX_LOGOUT_AGE: Duration = Duration::from_mins(2);

/// What a client of a provider always expects of its tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) issuer: &'a str,
    pub(super) client_id: &'a str,
    pub(super) algorithms: &'a [Algorithm],
    pub(super) skew: Duration,
    pub(super) now: Timestamp,
}

/// What it expects of the ID token that ends one login.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awaited<'a> {
    pub(super) nonce: &'a str,
    /// When the login began: a token that is older was not made for it.
    pub(super) began: Timestamp,
    /// The user had to show anew who they are.
    pub(super) anew: bool,
    /// How long ago that may have been otherwise.
    pub(super) max_age: Option<Duration>,
    /// What kinds of login it has to be one of: of each list that is not empty.
    pub(super) acr_values: [&'a [String]; 2],
}

/// A token whose signature is right.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) claims: Claims,
    algorithm: Algorithm,
}

/// What a provider wants ended: all sessions of a subject, or those of one session of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Logout<'a> {
    /// Of the token.
    pub(super) id: &'a str,
    pub(super) subject: Option<&'a str>,
    pub(super) session: Option<&'a str>,
}

/// Names and values; no name comes twice.
#[derive(Clone, Debug, Default)]
pub(in crate::login) struct Claims(pub(in crate::login) Map<String, Value>);

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

impl Token {
    /// Opens a token of one of the types, in lower case, that its header may say it has; `None`: it may say nothing.
    pub(super) fn open(
        text: &str,
        keys: &Keys,
        (terms, types): (&Terms<'_>, &[Option<&str>]),
    ) -> Result<Self, Flaw> {
        if text.len() > LONGEST {
            return Err(Flaw::Shape("the token is too long"));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(NO_JWT)?;
        let (header, payload) = signed.split_once('.').ok_or(NO_JWT)?;
        let header: Header = read(header)?;
        let typ = header.typ.map(|typ| typ.to_ascii_lowercase());
        // What has to be understood is not; and a token of another type is for something else.
        if header.crit.is_some() || !types.contains(&typ.as_deref()) {
            return Err(Flaw::Shape("the token is of another type"));
        }
        let algorithm = algorithm(&header.alg).ok_or(Flaw::Algorithm)?;
        if !terms.algorithms.contains(&algorithm) {
            return Err(Flaw::Algorithm);
        }
        let key = keys.find(header.kid.as_deref(), algorithm);
        let key = key.ok_or(Flaw::UnknownKey)?;
        let is_right = jsonwebtoken::crypto::verify(signature, signed.as_bytes(), key, algorithm);
        if !is_right.is_ok_and(|is_right| is_right) {
            return Err(Flaw::Signature);
        }
        let claims = read(payload)?;
        Ok(Self { claims, algorithm })
    }

    /// Whether it is from this issuer, for this client and good now.
    pub(super) fn check(&self, terms: &Terms<'_>) -> Result<(), Flaw> {
        let claims = &self.claims;
        let audience = claims.texts("aud")?;
        let only_us = audience.iter().all(|one| *one == terms.client_id);
        let party = claims.optional("azp", Claims::text)?;
        let is_for_us = audience.contains(&terms.client_id)
            && party.map_or(only_us, |party| party == terms.client_id);
        if !is_for_us {
            return Err(Flaw::Audience);
        }
        let _issued = claims.time("iat")?;
        self.check_issuer_and_time(terms).map(drop)
    }

    /// As [`check`](Self::check), for a token that gives access here: others may be meant by it too, and it need not say
    /// when it was made. Returns until when it is good (RFC 9068 section 4).
    pub(super) fn check_access(&self, terms: &Terms<'_>) -> Result<Timestamp, Flaw> {
        if !self.claims.texts("aud")?.contains(&terms.client_id) {
            return Err(Flaw::Audience);
        }
        // It tells a client of a login, or orders a logout: neither opens anything.
        let is_for_clients = |name| self.claims.0.contains_key(name);
        if ["nonce", "events"].into_iter().any(is_for_clients) {
            return Err(Flaw::Shape("the token is of another type"));
        }
        self.check_issuer_and_time(terms)
    }

    fn check_issuer_and_time(&self, terms: &Terms<'_>) -> Result<Timestamp, Flaw> {
        let claims = &self.claims;
        if claims.text("iss")? != terms.issuer {
            return Err(Flaw::Issuer);
        }
        let latest = terms.now.after(terms.skew);
        for name in ["iat", "nbf"] {
            let begins = claims.optional(name, Claims::time)?;
            if begins.is_some_and(|begins| begins > latest) {
                return Err(Flaw::NotYet);
            }
        }
        let expires = claims.time("exp")?.after(terms.skew);
        if terms.now >= expires {
            return Err(Flaw::Expired);
        }
        Ok(expires)
    }

    /// Whether it ends the login that is awaited. Returns when the user logged in, as far as the provider says.
    pub(super) fn ends(
        &self,
        awaited: &Awaited<'_>,
        terms: &Terms<'_>,
    ) -> Result<Option<Timestamp>, Flaw> {
        let claims = &self.claims;
        if claims.text("nonce").ok() != Some(awaited.nonce) {
            return Err(Flaw::Nonce);
        }
        if claims.time("iat")?.after(terms.skew) < awaited.began {
            return Err(Flaw::Expired);
        }
        let proved = claims.optional("auth_time", Claims::time)?;
        if proved.is_some_and(|proved| proved > terms.now.after(terms.skew)) {
            return Err(Flaw::NotYet);
        }
        let is_new = proved.is_some_and(|proved| proved.after(terms.skew) >= awaited.began);
        let is_young = |most: Duration| {
            proved.is_some_and(|proved| terms.now.since(proved) <= most + terms.skew)
        };
        let acr = claims.text("acr").ok();
        let is_among = |asked: &[String]| {
            asked.is_empty() || acr.is_some_and(|acr| asked.iter().any(|one| one == acr))
        };
        if !awaited.acr_values.into_iter().all(is_among) {
            return Err(Flaw::WeakLogin);
        }
        if (awaited.anew && !is_new) || !awaited.max_age.is_none_or(is_young) {
            return Err(Flaw::OldLogin);
        }
        Ok(proved)
    }

    /// What a logout token ends (`OpenID` Connect Back-Channel Logout 1.0 section 2.6).
    pub(super) fn logout(&self, terms: &Terms<'_>) -> Result<Logout<'_>, Flaw> {
        let claims = &self.claims;
        let events = claims.0.get("events").and_then(Value::as_object);
        let is_logout = events.and_then(|events| events.get(LOGOUT_EVENT));
        if !is_logout.is_some_and(Value::is_object) || claims.0.contains_key("nonce") {
            return Err(Flaw::Shape("the token orders no logout"));
        }
        if claims.time("iat")?.after(MAX_LOGOUT_AGE + terms.skew) < terms.now {
            return Err(Flaw::Expired);
        }
        let logout = Logout {
            id: claims.text("jti")?,
            subject: claims.optional("sub", Claims::text)?,
            session: claims.optional("sid", Claims::text)?,
        };
        if logout.subject.is_none() && logout.session.is_none() {
            return Err(Flaw::Claim("sid".to_owned()));
        }
        Ok(logout)
    }

    /// Whether an access token is the one that it came with, where it says so (`OpenID` Connect Core 3.1.3.6).
    pub(super) fn came_with(&self, access_token: &str) -> Result<(), Flaw> {
        let Some(told) = self.claims.optional("at_hash", Claims::text)? else {
            return Ok(());
        };
        let hash = match self.algorithm {
            Algorithm::RS256 | Algorithm::PS256 | Algorithm::ES256 => &SHA256,
            Algorithm::RS384 | Algorithm::PS384 | Algorithm::ES384 => &SHA384,
            _ => &SHA512,
        };
        let hash = digest::digest(hash, access_token.as_bytes());
        let half = hash.as_ref().get(..hash.as_ref().len() / 2);
        let half = BASE64_URL_SAFE_NO_PAD.encode(half.unwrap_or_default());
        if half == told {
            Ok(())
        } else {
            Err(Flaw::AccessToken)
        }
    }
}

/// Who a token says it is from, before anything of it is believed.
pub(super) fn claimed_issuer(text: &str) -> Option<String> {
    let claims: Claims = read(text.split('.').nth(1)?).ok()?;
    claims.text("iss").ok().map(str::to_owned)
}

const NO_JWT: Flaw = Flaw::Shape("the token is no JWT");

fn read<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, Flaw> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| NO_JWT)?;
    serde_json::from_slice(&json).map_err(|_| NO_JWT)
}

impl Claims {
    /// Text that is not empty.
    pub(super) fn text(&self, name: &str) -> Result<&str, Flaw> {
        let text = self.0.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
            .ok_or_else(|| Flaw::Claim(name.to_owned()))
    }

    /// One text, or a list of texts.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<&str>, Flaw> {
        let found = match self.0.get(name) {
            Some(Value::String(one)) => Some(vec![one.as_str()]),
            Some(Value::Array(list)) => list.iter().map(Value::as_str).collect(),
            _ => None,
        };
        found
            .filter(|texts| !texts.is_empty())
            .ok_or_else(|| Flaw::Claim(name.to_owned()))
    }

    /// Whole seconds since 1970.
    fn time(&self, name: &str) -> Result<Timestamp, Flaw> {
        let seconds = self.0.get(name).and_then(Value::as_u64);
        let millis = seconds.and_then(|seconds| seconds.checked_mul(1000));
        millis
            .map(Timestamp::from_millis)
            .ok_or_else(|| Flaw::Claim(name.to_owned()))
    }

    /// What need not be there, but has to be right where it is.
    pub(super) fn optional<'a, T>(
        &'a self,
        name: &str,
        read: impl Fn(&'a Self, &str) -> Result<T, Flaw>,
    ) -> Result<Option<T>, Flaw> {
        if self.0.contains_key(name) {
            read(self, name).map(Some)
        } else {
            Ok(None)
        }
    }
}

/// A name that comes twice means two things to two readers.
impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Claims;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Claims, A::Error> {
                let mut claims = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a name comes twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }
        deserializer.deserialize_map(Once)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const SECS: u64 = 1_800_000_000;

    struct Signer(EcdsaKeyPair);

    impl Signer {
        fn new() -> Self {
            Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
        }

        fn keys(&self) -> Keys {
            let point = self.0.public_key().as_ref();
            let (x, y) = point[1..].split_at(32);
            let (x, y) = (b64(x), b64(y));
            let set = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "x": x, "y": y}]});
            Keys::parse(set.to_string().as_bytes()).unwrap()
        }

        fn sign(&self, header: &str, payload: &str) -> String {
            let signed = format!("{}.{}", b64(header.as_bytes()), b64(payload.as_bytes()));
            let signature = self
                .0
                .sign(&SystemRandom::new(), signed.as_bytes())
                .unwrap();
            format!("{signed}.{}", b64(signature.as_ref()))
        }
    }

    fn b64(bytes: &[u8]) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    const HEADER: &str = r#"{"alg":"ES256","kid":"k"}"#;

    fn terms() -> Terms<'static> {
        Terms {
            issuer: "https://op.example",
            client_id: "us",
            algorithms: &[Algorithm::ES256],
            skew: Duration::from_mins(1),
            now: NOW,
        }
    }

    fn awaited() -> Awaited<'static> {
        Awaited {
            nonce: "n",
            began: Timestamp::from_millis((SECS - 30) * 1000),
            anew: false,
            max_age: None,
            acr_values: [&[], &[]],
        }
    }

    fn good() -> Value {
        json!({
            "iss": "https://op.example", "sub": "1", "aud": "us", "nonce": "n",
            "iat": SECS - 5, "exp": SECS + 300, "auth_time": SECS - 3600,
        })
    }

    fn judged(claims: &Value, awaited: &Awaited<'_>) -> Result<Option<Timestamp>, Flaw> {
        let signer = Signer::new();
        let text = signer.sign(HEADER, &claims.to_string());
        let types = &[None, Some("jwt")][..];
        let token = Token::open(&text, &signer.keys(), (&terms(), types))?;
        token.check(&terms())?;
        token.ends(awaited, &terms())
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims[name] = value;
        claims
    }

    #[test]
    fn a_good_token_says_when_the_user_logged_in() {
        let proved = Timestamp::from_millis((SECS - 3600) * 1000);
        assert_eq!(judged(&good(), &awaited()), Ok(Some(proved)));
        let mut silent = good();
        silent.as_object_mut().unwrap().remove("auth_time");
        assert_eq!(judged(&silent, &awaited()), Ok(None));
    }

    #[test]
    fn each_claim_has_to_be_right() {
        let claim = |name: &str| Flaw::Claim(name.to_owned());
        for (name, value, flaw) in [
            ("iss", json!("https://op.example/"), Flaw::Issuer),
            ("iss", json!(["https://op.example"]), claim("iss")),
            ("aud", json!("others"), Flaw::Audience),
            ("aud", json!(["us", "others"]), Flaw::Audience),
            ("aud", json!([]), claim("aud")),
            ("aud", json!(["us", 7]), claim("aud")),
            ("aud", json!({"us": true}), claim("aud")),
            ("azp", json!("others"), Flaw::Audience),
            ("azp", json!(true), claim("azp")),
            ("exp", json!(SECS - 60), Flaw::Expired),
            ("exp", json!(SECS.to_string()), claim("exp")),
            ("exp", json!(1.9e9), claim("exp")),
            ("exp", json!(-1), claim("exp")),
            ("exp", Value::Null, claim("exp")),
            ("exp", json!(u64::MAX), claim("exp")),
            ("iat", json!(SECS + 61), Flaw::NotYet),
            ("iat", json!(SECS - 91), Flaw::Expired),
            ("iat", json!("now"), claim("iat")),
            ("nbf", json!(SECS + 61), Flaw::NotYet),
            ("nbf", json!("now"), claim("nbf")),
            ("nonce", json!("m"), Flaw::Nonce),
            ("nonce", json!(["n"]), Flaw::Nonce),
            ("nonce", Value::Null, Flaw::Nonce),
            ("auth_time", json!(SECS + 61), Flaw::NotYet),
            ("auth_time", json!("yesterday"), claim("auth_time")),
        ] {
            let judged = judged(&with(name, value.clone()), &awaited());
            assert_eq!(judged, Err(flaw), "{name}: {value}");
        }
        for name in ["iss", "aud", "exp", "iat"] {
            let mut claims = good();
            claims.as_object_mut().unwrap().remove(name);
            assert_eq!(judged(&claims, &awaited()), Err(claim(name)));
        }
    }

    #[test]
    fn several_audiences_are_good_where_the_token_was_made_for_us() {
        let mut claims = with("aud", json!(["us", "others"]));
        claims["azp"] = json!("us");
        assert!(judged(&claims, &awaited()).is_ok());
        claims["aud"] = json!(["others"]);
        assert_eq!(judged(&claims, &awaited()), Err(Flaw::Audience));
    }

    #[test]
    fn clocks_may_differ_by_the_skew_and_no_more() {
        for (name, value) in [
            ("exp", SECS - 59),
            ("iat", SECS + 60),
            ("nbf", SECS + 60),
            ("iat", SECS - 90),
            ("auth_time", SECS + 60),
        ] {
            let judged = judged(&with(name, json!(value)), &awaited());
            assert!(judged.is_ok(), "{name}: {judged:?}");
        }
    }

    #[test]
    fn who_was_to_log_in_anew_did() {
        let anew = Awaited {
            anew: true,
            ..awaited()
        };
        let recent = Awaited {
            max_age: Some(Duration::from_mins(10)),
            ..awaited()
        };
        for (auth_time, since_we_asked, within_ten_minutes) in [
            (json!(SECS), true, true),
            (json!(SECS - 90), true, true),
            (json!(SECS - 91), false, true),
            (json!(SECS - 660), false, true),
            (json!(SECS - 661), false, false),
        ] {
            let claims = with("auth_time", auth_time);
            assert_eq!(judged(&claims, &anew).is_ok(), since_we_asked, "{claims}");
            assert_eq!(
                judged(&claims, &recent).is_ok(),
                within_ten_minutes,
                "{claims}"
            );
        }
        let mut silent = good();
        silent.as_object_mut().unwrap().remove("auth_time");
        assert_eq!(judged(&silent, &anew), Err(Flaw::OldLogin));
        assert_eq!(judged(&silent, &recent), Err(Flaw::OldLogin));
    }

    #[test]
    fn only_what_the_provider_signed_is_opened() {
        let (signer, other) = (Signer::new(), Signer::new());
        let payload = good().to_string();
        let types = &[None, Some("jwt")][..];
        let open = |text: &str| {
            let opened = Token::open(text, &signer.keys(), (&terms(), types));
            opened.map(drop).err()
        };
        let text = signer.sign(HEADER, &payload);
        assert_eq!(open(&text), None);
        assert_eq!(open(&other.sign(HEADER, &payload)), Some(Flaw::Signature));
        let shape = Flaw::Shape("the token is of another type");
        for (header, flaw) in [
            (r#"{"alg":"none"}"#, Flaw::Algorithm),
            (r#"{"alg":"None","kid":"k"}"#, Flaw::Algorithm),
            (r#"{"alg":"HS256","kid":"k"}"#, Flaw::Algorithm),
            (r#"{"alg":"RS256","kid":"k"}"#, Flaw::Algorithm),
            (r#"{"alg":"es256","kid":"k"}"#, Flaw::Algorithm),
            (r#"{"alg":"ES256","kid":"other"}"#, Flaw::UnknownKey),
            (r#"{"alg":"ES256","kid":"k","crit":["exp"]}"#, shape.clone()),
            (r#"{"alg":"ES256","kid":"k","typ":"at+jwt"}"#, shape.clone()),
            (r#"{"alg":"ES256","kid":"k","typ":"logout+jwt"}"#, shape),
            (r#"{"kid":"k"}"#, NO_JWT),
            (r#"{"alg":["ES256"],"kid":"k"}"#, NO_JWT),
        ] {
            assert_eq!(open(&signer.sign(header, &payload)), Some(flaw), "{header}");
        }
        let unsigned = text.rsplit_once('.').unwrap().0.to_owned() + ".";
        assert_eq!(open(&unsigned), Some(Flaw::Signature));
        for garbage in [
            "",
            ".",
            "..",
            "a.b",
            "a.b.c",
            "e30.e30.",
            &"a".repeat(LONGEST + 1),
        ] {
            assert!(open(garbage).is_some(), "{garbage:.10}");
        }
    }

    #[test]
    fn a_logout_token_says_what_is_to_end() {
        let claims = |name: &str, value: Value| {
            let mut claims = json!({
                "iat": SECS, "jti": "1", "sub": "jane", "sid": "s", "events": {LOGOUT_EVENT: {}},
            });
            claims[name] = value;
            claims
        };
        let judged = |claims: &Value| {
            let token = Token {
                claims: Claims(claims.as_object().unwrap().clone()),
                algorithm: Algorithm::ES256,
            };
            token.logout(&terms()).map(|logout| {
                (
                    logout.subject.map(str::to_owned),
                    logout.session.map(str::to_owned),
                )
            })
        };
        let good = judged(&claims("aud", json!("us"))).unwrap();
        assert_eq!(good, (Some("jane".to_owned()), Some("s".to_owned())));
        assert!(judged(&claims("iat", json!(SECS - 180))).is_ok());
        for (name, value) in [
            ("iat", json!(SECS - 181)),
            ("jti", json!("")),
            ("jti", json!(1)),
            ("sub", json!(7)),
            ("sid", json!([])),
            ("nonce", json!("n")),
            ("nonce", Value::Null),
            ("events", json!({})),
            ("events", json!({LOGOUT_EVENT: true})),
            ("events", json!([LOGOUT_EVENT])),
        ] {
            let claims = claims(name, value);
            assert!(judged(&claims).is_err(), "{claims}");
        }
        let mut nobody = claims("aud", json!("us"));
        nobody.as_object_mut().unwrap().remove("sub");
        assert!(judged(&nobody).is_ok());
        nobody.as_object_mut().unwrap().remove("sid");
        assert!(judged(&nobody).is_err());
    }

    #[test]
    fn one_changed_character_anywhere_is_seen() {
        let signer = Signer::new();
        let text = signer.sign(HEADER, &good().to_string());
        let keys = signer.keys();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            let types = &[None, Some("jwt")][..];
            assert!(
                Token::open(&changed, &keys, (&terms(), types)).is_err(),
                "{at}"
            );
        }
    }

    #[test]
    fn a_claim_that_comes_twice_is_refused() {
        let signer = Signer::new();
        let twice = r#"{"iss":"a","sub":"1","sub":"2"}"#;
        let types = &[None][..];
        let opened = Token::open(
            &signer.sign(HEADER, twice),
            &signer.keys(),
            (&terms(), types),
        );
        assert_eq!(opened.map(drop), Err(NO_JWT));
    }

    #[test]
    fn an_access_token_is_tied_to_the_id_token_where_that_says_so() {
        // The example of OpenID Connect Core appendix A.3.
        let access = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
        let token = |hash: Value| Token {
            claims: Claims(json!({"at_hash": hash}).as_object().unwrap().clone()),
            algorithm: Algorithm::RS256,
        };
        let right = token(json!("77QmUPtjPfzWtF2AnpK9RQ"));
        assert_eq!(right.came_with(access), Ok(()));
        assert_eq!(right.came_with("another"), Err(Flaw::AccessToken));
        assert!(token(json!(7)).came_with(access).is_err());
        let silent = Token {
            claims: Claims::default(),
            ..right
        };
        assert_eq!(silent.came_with(access), Ok(()));
    }
}
