//! An `OpenID` Connect provider that does as it is told: it can lie, stall, rotate its keys to garbage and answer with
//! megabytes. A test approves a login in a browser's place; a real browser that comes is sent back at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use doorward::clock::Clock;
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use url::Url;

use super::{Recorded, Reply, Upstream, upstream};

pub const CLIENT_ID: &str = "doorward";
pub const CLIENT_SECRET: &str = "s3cret & more";

/// The access token that it gives.
pub const ACCESS: &str = "opaque-5b1e90";

/// Who logs in.
pub const SUB: &str = "248289761001";

pub struct Provider {
    app: Upstream,
    script: Arc<Mutex<Script>>,
}

/// What it does. A test may change any of it at any time.
pub struct Script {
    pub issuer: String,
    pub clock: Clock,
    /// Over what it would say of the user; `null` takes a claim away.
    pub claims: Value,
    /// Over the header of its tokens.
    pub header: Value,
    /// Over its configuration document.
    pub document: Value,
    pub user_info: Value,
    pub sign: Sign,
    /// Its keys: names, and which of the two they are.
    pub keys: Vec<(String, Key)>,
    /// Pages of its own, by their paths.
    pub pages: HashMap<String, String>,
    /// How its client has to show who it is.
    pub client: Shown,
    /// In place of its answer at a path.
    pub answers: HashMap<&'static str, fn() -> Reply>,
    /// Gives refresh tokens, each good once.
    pub refreshes: bool,
    /// How many it gave; the last one is good.
    pub refreshed: usize,
    codes: BTreeMap<String, Asked>,
    /// Logout tokens so far.
    tokens: usize,
}

/// How a client shows who it is.
#[derive(Clone, Copy, Debug)]
pub enum Shown {
    Basic,
    Post,
    /// It says its name.
    Not,
}

/// How a token is signed.
#[derive(Clone, Copy, Debug)]
pub enum Sign {
    With(Key),
    /// By a secret that everybody has: the public key.
    Hmac,
    Not,
}

#[derive(Clone, Copy, Debug)]
pub enum Key {
    First,
    Second,
}

/// An authorization request.
#[derive(Clone, Debug)]
pub struct Asked(pub HashMap<String, String>);

impl Asked {
    pub fn of(location: &str) -> Self {
        let url = Url::parse(location).unwrap_or_else(|_| panic!("{location}"));
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let asked: HashMap<String, String> = pairs.iter().cloned().collect();
        assert_eq!(asked.len(), pairs.len(), "{location}");
        Self(asked)
    }

    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The path of the place to come back to.
    pub fn place(&self) -> String {
        Url::parse(self.get("redirect_uri"))
            .unwrap()
            .path()
            .to_owned()
    }
}

impl Provider {
    pub async fn start(clock: &Clock) -> Self {
        let script = Arc::new(Mutex::new(Script {
            issuer: String::new(),
            clock: clock.clone(),
            claims: json!({}),
            header: json!({}),
            document: json!({}),
            user_info: json!({"sub": SUB}),
            sign: Sign::With(Key::First),
            keys: vec![("one".to_owned(), Key::First)],
            pages: HashMap::new(),
            client: Shown::Basic,
            answers: HashMap::new(),
            refreshes: false,
            refreshed: 0,
            codes: BTreeMap::new(),
            tokens: 0,
        }));
        let answering = script.clone();
        let app = upstream(move |request| answering.lock().answer(request)).await;
        script.lock().issuer = app.url();
        Self { app, script }
    }

    /// Says that a session of its own is over, one of Jane's; with other claims: JSON.
    pub fn logout_token(&self, claims: &str) -> String {
        let mut script = self.script();
        let now = script.clock.now().as_secs();
        script.tokens += 1;
        let whole = json!({
            "iss": script.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 120,
            "jti": format!("logout-{}", script.tokens), "sub": SUB, "sid": "first",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        script.token(&patched(whole, &serde_json::from_str(claims).unwrap()))
    }

    /// What it gives a program to come with; with other claims: JSON.
    pub fn access_token(&self, audience: &str, claims: &str) -> String {
        let script = self.script();
        let now = script.clock.now().as_secs();
        let whole = json!({
            "iss": script.issuer, "aud": audience, "sub": SUB, "iat": now, "exp": now + 300,
            "client_id": "nightly", "preferred_username": "jane",
            "email": "jane@example.org", "email_verified": true,
            "realm_access": {"roles": ["staff"]},
        });
        script.token(&patched(whole, &serde_json::from_str(claims).unwrap()))
    }

    /// Another mind.
    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock()
    }

    /// Signs from now on like this, with other claims and another header: JSON.
    pub fn tells(&self, sign: Sign, claims: &str, header: &str) {
        let mut script = self.script();
        script.sign = sign;
        script.claims = serde_json::from_str(claims).unwrap();
        script.header = serde_json::from_str(header).unwrap();
    }

    pub fn issuer(&self) -> String {
        self.script().issuer.clone()
    }

    /// The keys of a `[[provider]]` of this id, with more.
    pub fn section(&self, id: &str, more: &str) -> String {
        let issuer = self.issuer();
        format!(
            "[[provider]]\nid = \"{id}\"\ntype = \"oidc\"\nname = \"Log in with {id}\"\nissuer = \"{issuer}\"\n\
             client_id = \"{CLIENT_ID}\"\nclient_secret = {{ file = \"oidc.secret\" }}\n{more}\n"
        )
    }

    /// How often it was asked at a path.
    pub fn asked_at(&self, path: &str) -> usize {
        self.requests_at(path).len()
    }

    pub fn requests_at(&self, path: &str) -> Vec<Recorded> {
        let all = self.app.requests().into_iter();
        all.filter(|request| request.line().split(' ').nth(1) == Some(path))
            .collect()
    }

    /// What a user does who logs in there: the path and query that they come back to.
    pub fn approve(&self, location: &str) -> String {
        self.script().approve(location)
    }
}

/// The path and query of an answer.
pub fn come_back(place: &str, pairs: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    format!("{place}?{}", query.extend_pairs(pairs).finish())
}

impl Script {
    fn approve(&mut self, location: &str) -> String {
        let asked = Asked::of(location);
        let code = format!("code-{}", self.codes.len());
        let (place, state) = (asked.place(), asked.get("state").to_owned());
        let issuer = self.issuer.clone();
        self.codes.insert(code.clone(), asked);
        come_back(
            &place,
            &[("code", &code), ("state", &state), ("iss", &issuer)],
        )
    }

    fn answer(&mut self, request: &Recorded) -> Reply {
        let whole = request.line().split(' ').nth(1).unwrap();
        // As if it were at its issuer's path alone.
        let base = Url::parse(&self.issuer).unwrap();
        let base = base.path().trim_end_matches('/');
        let path = whole.strip_prefix(base).unwrap_or(whole);
        if let Some(answer) = self.answers.get(path) {
            return answer();
        }
        if let Some(page) = self.pages.get(path) {
            return Reply::with(200, "content-type: text/html\r\n", page);
        }
        if path.starts_with("/auth?") {
            let location = format!("http://localhost{whole}");
            let place = self.approve(&location);
            let back = Url::parse(Asked::of(&location).get("redirect_uri")).unwrap();
            let back = back.join(&place).unwrap();
            return Reply::with(302, &format!("location: {back}\r\n"), "");
        }
        if path.starts_with("/end?") {
            let page = "<!doctype html><title>Out</title><h1>Logged out there, too</h1>";
            return Reply::with(200, "content-type: text/html\r\n", page);
        }
        match path {
            "/.well-known/openid-configuration" => json_reply(200, &self.document()),
            "/jwks" => json_reply(200, &self.key_set()),
            "/token" => self.redeem(request),
            "/userinfo" if request.one("authorization") == format!("Bearer {ACCESS}") => {
                json_reply(200, &self.user_info)
            }
            _ => Reply::with(404, "", ""),
        }
    }

    fn document(&self) -> Value {
        let base = self.issuer.trim_end_matches('/');
        let at = |path: &str| format!("{base}{path}");
        let document = json!({
            "issuer": self.issuer,
            "authorization_endpoint": at("/auth?tenant=1"),
            "token_endpoint": at("/token"),
            "userinfo_endpoint": at("/userinfo"),
            "jwks_uri": at("/jwks"),
            "end_session_endpoint": at("/end?tenant=1"),
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
        });
        patched(document, &self.document)
    }

    fn key_set(&self) -> Value {
        let keys: Vec<Value> = self
            .keys
            .iter()
            .map(|(id, key)| key.published(id))
            .collect();
        json!({ "keys": keys })
    }

    fn redeem(&mut self, request: &Recorded) -> Reply {
        let form: HashMap<String, String> = url::form_urlencoded::parse(&request.body)
            .into_owned()
            .collect();
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        let refuse = |error: &str| json_reply(400, &json!({ "error": error }));
        let expected = "doorward:s3cret+%26+more";
        let basic = format!("Basic {}", BASE64_STANDARD.encode(expected));
        let in_form = (form.get("client_id"), form.get("client_secret"));
        let in_form = (in_form.0.map(String::as_str), in_form.1.map(String::as_str));
        let is_right = match (self.client, request.all("authorization").as_slice()) {
            (Shown::Basic, [given]) => *given == basic && in_form == (None, None),
            (Shown::Post, []) => in_form == (Some(CLIENT_ID), Some(CLIENT_SECRET)),
            (Shown::Not, []) => in_form == (Some(CLIENT_ID), None),
            _ => false,
        };
        if !is_right {
            return refuse("invalid_client");
        }
        if field("grant_type") == "refresh_token" {
            let is_good = field("refresh_token") == format!("refresh-{}", self.refreshed);
            return if is_good {
                let id_token = self.id_token("");
                self.give(&id_token)
            } else {
                refuse("invalid_grant")
            };
        }
        // A code is good once.
        let Some(asked) = self.codes.remove(field("code")) else {
            return refuse("invalid_grant");
        };
        let challenge = b64(digest(&SHA256, field("code_verifier").as_bytes()).as_ref());
        if field("grant_type") != "authorization_code"
            || challenge != asked.get("code_challenge")
            || field("redirect_uri") != asked.get("redirect_uri")
        {
            return refuse("invalid_grant");
        }
        let id_token = self.id_token(asked.get("nonce"));
        self.give(&id_token)
    }

    fn give(&mut self, id_token: &str) -> Reply {
        let mut tokens = json!({
            "token_type": "Bearer", "access_token": ACCESS, "expires_in": 60,
            "id_token": id_token,
        });
        if self.refreshes {
            self.refreshed += 1;
            tokens["refresh_token"] = format!("refresh-{}", self.refreshed).into();
        }
        json_reply(200, &tokens)
    }

    fn id_token(&self, nonce: &str) -> String {
        let now = self.clock.now().as_secs();
        let claims = json!({
            "iss": self.issuer, "sub": SUB, "aud": CLIENT_ID, "nonce": nonce,
            "iat": now, "exp": now + 300, "auth_time": now,
            "preferred_username": "jane", "name": "Jane Ünder",
            "email": "jane@example.org", "email_verified": true,
            "realm_access": {"roles": ["staff"]},
        });
        self.token(&patched(claims, &self.claims))
    }

    fn token(&self, claims: &Value) -> String {
        let (algorithm, id) = match self.sign {
            Sign::With(_) => ("RS256", self.keys.first().map(|(id, _)| id.clone())),
            Sign::Hmac => ("HS256", self.keys.first().map(|(id, _)| id.clone())),
            Sign::Not => ("none", None),
        };
        let header = patched(json!({"alg": algorithm, "kid": id}), &self.header);
        let part = |value: &Value| b64(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = match self.sign {
            Sign::With(key) => key.sign(signed.as_bytes()),
            Sign::Hmac => {
                let public = Key::First.pair().public_key().as_ref();
                let key = hmac::Key::new(hmac::HMAC_SHA256, public);
                hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
            }
            Sign::Not => Vec::new(),
        };
        format!("{signed}.{}", b64(&signature))
    }
}

impl Key {
    /// Made once: it takes a while.
    fn pair(self) -> &'static RsaKeyPair {
        static PAIRS: OnceLock<[RsaKeyPair; 2]> = OnceLock::new();
        let make = || RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        &PAIRS.get_or_init(|| [make(), make()])[self as usize]
    }

    /// As a provider publishes it.
    pub fn published(self, id: &str) -> Value {
        let public = self.pair().public_key();
        let (n, e) = (public.modulus(), public.exponent());
        let n = b64(n.big_endian_without_leading_zero());
        let e = b64(e.big_endian_without_leading_zero());
        json!({"kty": "RSA", "use": "sig", "kid": id, "n": n, "e": e})
    }

    fn sign(self, message: &[u8]) -> Vec<u8> {
        let pair = self.pair();
        let mut signature = vec![0; pair.public_modulus_len()];
        let random = SystemRandom::new();
        pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
            .unwrap();
        signature
    }
}

fn patched(mut value: Value, patch: &Value) -> Value {
    let object = value.as_object_mut().unwrap();
    for (name, new) in patch.as_object().unwrap() {
        if new.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), new.clone());
        }
    }
    value
}

fn json_reply(status: u16, body: &Value) -> Reply {
    Reply::with(
        status,
        "content-type: application/json\r\n",
        body.to_string(),
    )
}

fn b64(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
