//! A good configuration and what is found beside it, to be made worse.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::{self, Missing};
use crate::login::HashCost;

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
pub(super) const DAY: Duration = Duration::from_hours(24);

/// A configuration that no rule has anything against, but for what this version lacks.
const GOOD: &str = "\
[server]
listen = \"127.0.0.1:8443\"
admin_listen = \"127.0.0.1:9090\"

[tls]
self_signed = true
hsts_max_age = \"365d\"

[session]
assurance = \"aal1\"
idle_timeout = \"30m\"
absolute_timeout = \"12h\"
max_per_user = 5
bind = { user_agent = \"reauth\" }

[store]
path = \"sessions.db\"

[log]
audit = \"stderr\"

[[provider]]
id = \"local\"
type = \"local\"
users = \"users.toml\"

[[route]]
host = \"localhost\"
access = \"user\"
upstream = \"http://127.0.0.1:3000\"
";

pub(super) const REDIS: &str = "backend = \"redis\"\nurl = ";
pub(super) const POSTGRES: &str = "backend = \"postgres\"\nurl = ";

pub(super) struct World {
    pub(super) text: String,
    pub(super) facts: Facts,
    pub(super) secrets: Vec<Secret>,
    pub(super) admin_token: Option<Secret>,
}

impl World {
    pub(super) fn good() -> Self {
        Self {
            text: GOOD.to_owned(),
            facts: Facts {
                now: NOW,
                ..Facts::default()
            },
            secrets: vec![Secret::new("0123456789abcdef0123456789abcdef")],
            admin_token: None,
        }
    }

    /// In place of a part of the file.
    pub(super) fn put(&mut self, from: &str, to: &str) {
        assert!(self.text.contains(from), "{from}");
        self.text = self.text.replacen(from, to, 1);
    }

    /// The value of a key that the file has.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        let start = self.text.find(&format!("\n{key} = ")).expect(key) + 1;
        let end = start + self.text.get(start..).unwrap().find('\n').unwrap();
        self.text
            .replace_range(start..end, &format!("{key} = {value}"));
    }

    /// One more key at the beginning of a section.
    pub(super) fn add(&mut self, section: &str, line: &str) {
        self.put(&format!("{section}\n"), &format!("{section}\n{line}\n"));
    }

    /// One more way to log in.
    pub(super) fn provider(&mut self, keys: &str) {
        let section = "[[provider]]\nid = \"corp\"\ntype = \"oidc\"\nissuer = \"https://op.example\"\n\
                       client_id = \"us\"\nclient_auth = \"none\"";
        self.put("[[route]]", &format!("{section}\n{keys}\n\n[[route]]"));
    }

    /// One more way to log in, by OAuth 2.0.
    pub(super) fn site(&mut self, keys: &str) {
        let section = "[[provider]]\nid = \"hub\"\ntype = \"oauth2\"\nclient_id = \"us\"\nclient_auth = \"none\"\n\
                       authorization_url = \"https://hub.example/a\"\ntoken_url = \"https://hub.example/t\"\n\
                       userinfo_url = \"https://hub.example/u\"";
        self.put("[[route]]", &format!("{section}\n{keys}\n\n[[route]]"));
    }

    /// A directory.
    #[cfg(feature = "ldap")]
    pub(super) fn directory(&mut self, keys: &str) {
        let section = "[[provider]]\nid = \"corp\"\ntype = \"ldap\"\nbase_dn = \"dc=x\"\nuser_filter = \"(uid={user})\"";
        self.put("[[route]]", &format!("{section}\n{keys}\n\n[[route]]"));
    }

    pub(super) fn route(&mut self, keys: &str) {
        self.text
            .push_str("\n[[route]]\nhost = \"localhost\"\nupstream = \"http://127.0.0.1:3000\"\n");
        self.text.push_str(keys);
    }

    pub(super) fn file(&mut self, key: &str, holds: Holds, mode: u32) {
        self.facts.files.push(FileFact {
            key: key.to_owned(),
            path: key.into(),
            holds,
            mode,
            changed: NOW,
        });
    }

    pub(super) fn certificate(&mut self, change: impl FnOnce(&mut CertificateFact)) {
        let mut certificate = CertificateFact {
            key: "tls.self_signed".to_owned(),
            name: "localhost".to_owned(),
            not_before: Timestamp::default(),
            not_after: NOW.after(90 * DAY),
            public_key: PublicKey::Rsa(2048),
            has_old_signature: false,
            is_local: false,
        };
        change(&mut certificate);
        self.facts.certificates.push(certificate);
    }

    pub(super) fn user(&mut self, name: &str, memory_kib: u32, passes: u32) {
        self.facts.users.push(UserFact {
            name: name.to_owned(),
            cost: Some(HashCost { memory_kib, passes }),
        });
    }

    pub(super) fn running(&mut self, change: impl FnOnce(&mut Running)) {
        let mut running = Running {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config: self.settings().fingerprint,
            started: Timestamp::from_millis(NOW.as_millis() - 60_000),
            now: NOW,
            ready: true,
            reasons: Vec::new(),
            sessions: Vec::new(),
            has_more: false,
        };
        change(&mut running);
        self.facts.running = Some(running);
    }

    pub(super) fn settings(&self) -> Settings {
        let file = Path::new("/nowhere/config.toml");
        let settings = match config::parse(file, &self.text, Missing::Tolerated) {
            Ok(settings) => settings,
            Err(errors) => panic!("{errors}"),
        };
        Settings {
            secrets: self.secrets.clone(),
            admin_token: self.admin_token.clone(),
            ..settings
        }
    }

    pub(super) fn review(&self) -> Report {
        let places = Places::of(&self.text);
        review(&Evidence {
            settings: &self.settings(),
            places: &places,
            facts: &self.facts,
        })
    }
}

pub(super) fn seen(created: Timestamp, ends: Timestamp, expires: Timestamp) -> Seen {
    Seen {
        created,
        ends,
        expires,
        readable: true,
    }
}
