//! A site that speaks OAuth 2.0 as GitHub does: no ID token, 200 for errors, and the user behind an access token. It does as
//! it is told, and browsers see a page of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use parking_lot::{Mutex, MutexGuard};

use super::provider::{Asked, CLIENT_ID, CLIENT_SECRET, come_back};
use super::{Recorded, Reply, Upstream, upstream};

/// What it gives for a code.
pub const ACCESS_TOKEN: &str = "gho_16C7e42F292c6912E7710c838347Ae178B4a";

pub struct GitHub {
    app: Upstream,
    script: Arc<Mutex<Script>>,
}

/// What it says: JSON, as it stands.
pub struct Script {
    pub user: String,
    pub emails: String,
    pub orgs: String,
    pub token: String,
    /// In place of its answer at a path.
    pub answers: HashMap<&'static str, fn() -> Reply>,
    codes: BTreeMap<String, Asked>,
}

impl GitHub {
    pub async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script {
            user: r#"{"id": 583231, "login": "octocat", "name": "Mona Ünder", "email": "public@example.org"}"#.to_owned(),
            emails: r#"[{"email": "other@example.org", "primary": false, "verified": true, "visibility": null},
                {"email": "mona@example.org", "primary": true, "verified": true, "visibility": "private"}]"#
                .to_owned(),
            orgs: r#"[{"id": 1, "login": "acme"}, {"id": 2, "login": "staff"}]"#.to_owned(),
            token: format!(
                r#"{{"access_token": "{ACCESS_TOKEN}", "scope": "read:org,user:email", "token_type": "bearer"}}"#
            ),
            answers: HashMap::new(),
            codes: BTreeMap::new(),
        }));
        let answering = script.clone();
        let app = upstream(move |request| answering.lock().answer(request)).await;
        Self { app, script }
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock()
    }

    pub fn url(&self) -> String {
        self.app.url()
    }

    /// The keys of a `[[provider]]` of this id, with more.
    pub fn section(&self, id: &str, more: &str) -> String {
        let at = self.url();
        format!(
            "[[provider]]\nid = \"{id}\"\ntype = \"oauth2\"\npreset = \"github\"\nname = \"Log in with {id}\"\n\
             authorization_url = \"{at}/login/oauth/authorize?tenant=1\"\ntoken_url = \"{at}/login/oauth/access_token\"\n\
             userinfo_url = \"{at}/user\"\nemails_url = \"{at}/user/emails?per_page=100\"\n\
             groups_url = \"{at}/user/orgs?per_page=100\"\n\
             client_id = \"{CLIENT_ID}\"\nclient_secret = {{ file = \"oidc.secret\" }}\n{more}\n"
        )
    }

    pub fn requests_at(&self, path: &str) -> Vec<Recorded> {
        let all = self.app.requests().into_iter();
        all.filter(|request| request.line().split([' ', '?']).nth(1) == Some(path))
            .collect()
    }

    /// What a user does who logs in there: the path and query that they come back to.
    pub fn approve(&self, location: &str) -> String {
        self.script().approve(location)
    }
}

impl Script {
    fn approve(&mut self, location: &str) -> String {
        let asked = Asked::of(location);
        let code = format!("code-{}", self.codes.len());
        let (place, state) = (asked.place(), asked.get("state").to_owned());
        self.codes.insert(code.clone(), asked);
        come_back(&place, &[("code", &code), ("state", &state)])
    }

    fn answer(&mut self, request: &Recorded) -> Reply {
        let whole = request.line().split(' ').nth(1).unwrap();
        let path = whole.split('?').next().unwrap();
        if let Some(answer) = self.answers.get(path) {
            return answer();
        }
        let is_known = request.all("authorization") == [format!("Bearer {ACCESS_TOKEN}")]
            && request.all("user-agent") == ["doorward"];
        match whole {
            "/login/oauth/access_token" => json_reply(200, &self.redeem(request)),
            _ if path == "/login/oauth/authorize" => self.page(whole),
            "/user" if is_known => json_reply(200, &self.user),
            "/user/emails?per_page=100" if is_known => json_reply(200, &self.emails),
            "/user/orgs?per_page=100" if is_known => json_reply(200, &self.orgs),
            _ => json_reply(404, r#"{"message": "Not Found"}"#),
        }
    }

    /// For people, who have logged in there before.
    fn page(&mut self, whole: &str) -> Reply {
        let location = format!("http://localhost{whole}");
        let place = self.approve(&location);
        let back = url::Url::parse(Asked::of(&location).get("redirect_uri")).unwrap();
        let back = back.join(&place).unwrap().to_string().replace('&', "&amp;");
        let page = format!(
            "<!doctype html><title>Authorize</title><h1>Authorize doorward</h1><a href=\"{back}\">Authorize</a>"
        );
        Reply::with(200, "content-type: text/html\r\n", page)
    }

    /// 200, whatever it is.
    fn redeem(&mut self, request: &Recorded) -> String {
        let form: HashMap<String, String> = url::form_urlencoded::parse(&request.body)
            .into_owned()
            .collect();
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        let refuse = |error: &str| format!(r#"{{"error": "{error}", "error_description": "no"}}"#);
        if field("client_id") != CLIENT_ID || field("client_secret") != CLIENT_SECRET {
            return refuse("incorrect_client_credentials");
        }
        // A code is good once.
        let Some(asked) = self.codes.remove(field("code")) else {
            return refuse("bad_verification_code");
        };
        let challenge = digest(&SHA256, field("code_verifier").as_bytes());
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(challenge);
        if challenge != asked.get("code_challenge") {
            return refuse("bad_verification_code");
        }
        if field("redirect_uri") != asked.get("redirect_uri") {
            return refuse("redirect_uri_mismatch");
        }
        self.token.clone()
    }
}

fn json_reply(status: u16, body: &str) -> Reply {
    let kind = "content-type: application/json; charset=utf-8\r\n";
    Reply::with(status, kind, body)
}
