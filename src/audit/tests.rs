//! Each rule with what trips it and with what just does not; and that nothing is left out.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::Severity::{High, Low, Medium};
use super::*;
use crate::clock::Timestamp;
use crate::config::{self, Missing};
use crate::login::HashCost;
use crate::secret::Secret;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const DAY: Duration = Duration::from_hours(24);

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

const REDIS: &str = "backend = \"redis\"\nurl = ";
const POSTGRES: &str = "backend = \"postgres\"\nurl = ";

struct World {
    text: String,
    facts: Facts,
    secrets: Vec<Secret>,
    admin_token: Option<Secret>,
}

impl World {
    fn good() -> Self {
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
    fn put(&mut self, from: &str, to: &str) {
        assert!(self.text.contains(from), "{from}");
        self.text = self.text.replacen(from, to, 1);
    }

    /// The value of a key that the file has.
    fn set(&mut self, key: &str, value: &str) {
        let start = self.text.find(&format!("\n{key} = ")).expect(key) + 1;
        let end = start + self.text.get(start..).unwrap().find('\n').unwrap();
        self.text
            .replace_range(start..end, &format!("{key} = {value}"));
    }

    /// One more key at the beginning of a section.
    fn add(&mut self, section: &str, line: &str) {
        self.put(&format!("{section}\n"), &format!("{section}\n{line}\n"));
    }

    /// One more way to log in.
    fn provider(&mut self, keys: &str) {
        let section = "[[provider]]\nid = \"corp\"\ntype = \"oidc\"\nissuer = \"https://op.example\"\n\
                       client_id = \"us\"\nclient_auth = \"none\"";
        self.put("[[route]]", &format!("{section}\n{keys}\n\n[[route]]"));
    }

    /// One more way to log in, by OAuth 2.0.
    fn site(&mut self, keys: &str) {
        let section = "[[provider]]\nid = \"hub\"\ntype = \"oauth2\"\nclient_id = \"us\"\nclient_auth = \"none\"\n\
                       authorization_url = \"https://hub.example/a\"\ntoken_url = \"https://hub.example/t\"\n\
                       userinfo_url = \"https://hub.example/u\"";
        self.put("[[route]]", &format!("{section}\n{keys}\n\n[[route]]"));
    }

    /// A directory.
    #[cfg(feature = "ldap")]
    fn directory(&mut self, keys: &str) {
        let section = "[[provider]]\nid = \"corp\"\ntype = \"ldap\"\nbase_dn = \"dc=x\"\nuser_filter = \"(uid={user})\"";
        self.put("[[route]]", &format!("{section}\n{keys}\n\n[[route]]"));
    }

    fn route(&mut self, keys: &str) {
        self.text
            .push_str("\n[[route]]\nhost = \"localhost\"\nupstream = \"http://127.0.0.1:3000\"\n");
        self.text.push_str(keys);
    }

    fn file(&mut self, key: &str, holds: Holds, mode: u32) {
        self.facts.files.push(FileFact {
            key: key.to_owned(),
            path: key.into(),
            holds,
            mode,
            changed: NOW,
        });
    }

    fn certificate(&mut self, change: impl FnOnce(&mut CertificateFact)) {
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

    fn user(&mut self, name: &str, memory_kib: u32, passes: u32) {
        self.facts.users.push(UserFact {
            name: name.to_owned(),
            cost: Some(HashCost { memory_kib, passes }),
        });
    }

    fn running(&mut self, change: impl FnOnce(&mut Running)) {
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

    fn settings(&self) -> Settings {
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

    fn review(&self) -> Report {
        let places = Places::of(&self.text);
        review(&Evidence {
            settings: &self.settings(),
            places: &places,
            facts: &self.facts,
        })
    }
}

fn seen(created: Timestamp, ends: Timestamp, expires: Timestamp) -> Seen {
    Seen {
        created,
        ends,
        expires,
        readable: true,
    }
}

/// A rule, how bad its finding is, what trips it, and what comes near and does not.
type Case = (&'static str, Severity, fn(&mut World), fn(&mut World));

const CASES: &[Case] = &[
    (
        "idle-timeout-long",
        Low,
        |w| w.set("idle_timeout", "\"31m\""),
        |w| w.set("idle_timeout", "\"30m\""),
    ),
    (
        "idle-timeout-long",
        Medium,
        |w| {
            w.put("assurance = \"aal1\"\n", "");
            w.set("idle_timeout", "\"61m\"");
        },
        |w| w.put("assurance = \"aal1\"\n", ""),
    ),
    (
        "idle-timeout-long",
        High,
        |w| {
            w.put("assurance = \"aal1\"\n", "");
            w.set("idle_timeout", "\"9h\"");
        },
        |w| w.set("idle_timeout", "\"1m\""),
    ),
    (
        "absolute-timeout-long",
        Medium,
        |w| {
            w.put("assurance = \"aal1\"\n", "");
            w.set("absolute_timeout", "\"25h\"");
        },
        |w| w.set("absolute_timeout", "\"25h\""),
    ),
    (
        "assurance-not-stated",
        Low,
        |w| w.put("assurance = \"aal1\"\n", ""),
        |w| w.set("assurance", "\"aal1\""),
    ),
    (
        "assurance-one-factor",
        Low,
        |w| w.set("assurance", "\"aal2\""),
        |w| w.set("assurance", "\"aal1\""),
    ),
    (
        "remember-me",
        Medium,
        |w| {
            w.put("assurance = \"aal1\"\n", "");
            w.add(
                "[session]",
                "remember_me = { idle_timeout = \"9d\", absolute_timeout = \"31d\" }",
            );
        },
        |_| {},
    ),
    (
        "sessions-unlimited",
        Low,
        |w| w.set("max_per_user", "0"),
        |w| w.set("max_per_user", "1"),
    ),
    (
        "session-not-bound",
        Low,
        |w| w.set("bind", "{}"),
        |w| w.set("bind", "{ network = \"log\" }"),
    ),
    (
        "rotation-slow",
        Low,
        |w| w.add("[session]", "rotate_interval = \"5h\""),
        |w| w.add("[session]", "rotate_interval = \"4h\""),
    ),
    (
        "rotation-grace-long",
        Low,
        |w| w.add("[session]", "rotate_grace = \"61s\""),
        |w| w.add("[session]", "rotate_grace = \"60s\""),
    ),
    (
        "cache-long",
        Low,
        |w| {
            w.put(
                "path = \"sessions.db\"",
                &format!("{REDIS}\"redis://127.0.0.1:6379\""),
            );
            w.add(
                "[session]",
                "secrets = [{ file = \"k\" }]\ncache_ttl = \"11s\"",
            );
        },
        |w| w.add("[session]", "cache_ttl = \"11s\""),
    ),
    (
        "ends-late",
        Low,
        |w| w.add("[session]", "mode = \"jwt\""),
        |w| w.add("[session]", "mode = \"opaque\""),
    ),
    (
        "cookie-shared",
        Medium,
        |w| {
            w.add("[session]", "domain = \"example.com\"");
            w.set("host", "\"a.example.com\"");
        },
        |w| w.set("host", "\"a.example.com\""),
    ),
    (
        "hsts-off",
        Medium,
        |w| w.set("hsts_max_age", "\"0s\""),
        |w| w.set("hsts_max_age", "\"1s\""),
    ),
    (
        "hsts-off",
        Low,
        |w| w.put("hsts_max_age = \"365d\"\n", ""),
        |w| w.set("hsts_max_age", "\"365d\""),
    ),
    (
        "hsts-short",
        Low,
        |w| w.set("hsts_max_age", "\"364d\""),
        |w| w.set("hsts_max_age", "\"365d\""),
    ),
    (
        "any-origin-reads",
        Medium,
        |w| {
            w.route("path = \"/a\"\naccess = \"user\"\nresponse_headers = { set = { Access-Control-Allow-Origin = \"*\" } }");
        },
        |w| {
            w.route("path = \"/a\"\naccess = \"public\"\nresponse_headers = { set = { Access-Control-Allow-Origin = \"*\" } }");
        },
    ),
    (
        "protection-removed",
        Medium,
        |w| {
            w.route("path = \"/a\"\naccess = \"user\"\nresponse_headers = { remove = [\"X-Frame-Options\"] }");
        },
        |w| {
            w.route("path = \"/a\"\naccess = \"user\"\n");
            w.text.push_str("response_headers = { remove = [\"X-Frame-Options\", \"Server\"], set = { X-Frame-Options = \"DENY\" } }");
        },
    ),
    (
        "upstream-plain",
        High,
        |w| w.set("upstream", "\"http://app.example.com\""),
        |w| w.set("upstream", "\"https://app.example.com\""),
    ),
    (
        "upstream-plain",
        Medium,
        |w| w.set("upstream", "\"http://10.0.0.7:3000\""),
        |w| w.set("upstream", "\"http://[::1]:3000\""),
    ),
    (
        "upstream-plain",
        Medium,
        |w| w.set("upstream", "\"http://app:3000\""),
        |w| w.set("upstream", "\"http://localhost:3000\""),
    ),
    (
        "store-plain",
        High,
        |w| {
            w.put(
                "path = \"sessions.db\"",
                &format!("{REDIS}\"redis://10.0.0.1:6379\""),
            );
            w.add("[session]", "secrets = [{ file = \"k\" }]");
        },
        |w| {
            w.put(
                "path = \"sessions.db\"",
                &format!("{REDIS}\"redis://127.0.0.1:6379\""),
            );
            w.add("[session]", "secrets = [{ file = \"k\" }]");
        },
    ),
    (
        "store-plain",
        High,
        |w| {
            w.put(
                "path = \"sessions.db\"",
                &format!("{POSTGRES}\"postgres://d@db.example.com/d?sslmode=disable\""),
            );
            w.add("[session]", "secrets = [{ file = \"k\" }]");
        },
        |w| {
            w.put(
                "path = \"sessions.db\"",
                &format!("{POSTGRES}\"postgres://d@db.example.com/d\""),
            );
            w.add("[session]", "secrets = [{ file = \"k\" }]");
        },
    ),
    (
        "admin-exposed",
        High,
        |w| {
            w.set("admin_listen", "\"0.0.0.0:9090\"");
            w.admin_token = Some(Secret::new("fedcba9876543210fedcba9876543210"));
        },
        |w| w.admin_token = Some(Secret::new("fedcba9876543210fedcba9876543210")),
    ),
    (
        "admin-exposed",
        Medium,
        |w| w.set("admin_listen", "\"10.0.0.1:9090\""),
        |w| w.set("admin_listen", "\"[::1]:9090\""),
    ),
    (
        "certificate-validity",
        Medium,
        |w| w.certificate(|c| c.not_after = NOW.after(29 * DAY)),
        |w| w.certificate(|c| c.not_after = NOW.after(30 * DAY)),
    ),
    (
        "certificate-validity",
        High,
        |w| w.certificate(|c| c.not_after = NOW),
        |w| w.certificate(|c| c.not_before = NOW),
    ),
    (
        "certificate-validity",
        High,
        |w| w.certificate(|c| c.not_before = NOW.after(DAY)),
        |w| w.certificate(|_| {}),
    ),
    (
        "certificate-weak",
        High,
        |w| w.certificate(|c| c.public_key = PublicKey::Rsa(1024)),
        |w| w.certificate(|c| c.public_key = PublicKey::Curve),
    ),
    (
        "certificate-weak",
        High,
        |w| w.certificate(|c| c.has_old_signature = true),
        |w| w.certificate(|_| {}),
    ),
    (
        "certificate-local",
        Medium,
        |w| {
            w.set("host", "\"wiki.example.com\"");
            w.certificate(|c| c.is_local = true);
        },
        |w| {
            w.set("host", "\"wiki.internal\"");
            w.certificate(|c| c.is_local = true);
        },
    ),
    (
        "host-without-certificate",
        High,
        |w| {
            w.facts
                .hosts_without_certificate
                .push("localhost".to_owned());
        },
        |w| w.facts.hosts_without_certificate.push("other".to_owned()),
    ),
    (
        "proxies-broad",
        High,
        |w| {
            w.add(
                "[server]",
                "trusted_proxies = [\"10.0.0.0/8\", \"0.0.0.0/0\"]",
            );
        },
        |w| {
            w.add(
                "[server]",
                "trusted_proxies = [\"10.0.0.0/8\", \"203.0.113.0/24\"]",
            );
        },
    ),
    (
        "proxies-broad",
        Medium,
        |w| w.add("[server]", "trusted_proxies = [\"203.0.0.0/12\"]"),
        |w| w.add("[server]", "trusted_proxies = [\"2001:db8::/32\"]"),
    ),
    (
        "public-admin",
        High,
        |w| w.route("path = \"/wiki/Admin\"\naccess = \"public\""),
        |w| w.route("path = \"/administrate-me\"\naccess = \"public\""),
    ),
    (
        "access-by-any-provider",
        Medium,
        |w| {
            w.provider("");
            w.set("access", "{ groups = [\"staff\"] }");
        },
        |w| {
            w.provider("");
            w.set("access", "{ groups = [\"staff\"] }\nprovider = \"corp\"");
        },
    ),
    (
        "unverified-email-as-user",
        High,
        |w| w.provider("claims = { user = \"email\", verified_email = false }"),
        |w| w.provider("claims = { user = \"email\" }"),
    ),
    (
        "app-logs-in",
        Low,
        |w| {
            let section = "[[provider]]\nid = \"wiki\"\ntype = \"external\"\nlogin_url = \"/in\"";
            w.put("[[route]]", &format!("{section}\n\n[[route]]"));
            w.route("path = \"/in\"\naccess = \"public\"\nmay_log_in = \"wiki\"");
        },
        |w| w.route("path = \"/in\"\naccess = \"public\""),
    ),
    (
        "provider-without-tls",
        Low,
        |w| {
            w.provider("");
            w.set("issuer", "\"http://127.0.0.1:8080\"");
        },
        |w| w.provider(""),
    ),
    (
        "unverified-email-as-user",
        High,
        |w| w.site("claims = { subject = \"id\", user = \"email\", verified_email = false }"),
        |w| w.site("claims = { subject = \"id\", user = \"login\", verified_email = false }"),
    ),
    (
        "provider-without-tls",
        Low,
        |w| w.site("claims = { subject = \"id\" }\ngroups_url = \"http://127.0.0.1:8080/groups\""),
        |w| w.site("claims = { subject = \"id\" }\ngroups_url = \"https://hub.example/groups\""),
    ),
    #[cfg(feature = "ldap")]
    (
        "provider-without-tls",
        Low,
        |w| w.directory("url = \"ldap://localhost\"\nstart_tls = false"),
        |w| w.directory("url = \"ldap://localhost\""),
    ),
    #[cfg(feature = "ldap")]
    (
        "attempts-many",
        Medium,
        |w| w.directory("url = \"ldaps://d.example\"\nmax_attempts = 26"),
        |w| w.directory("url = \"ldaps://d.example\"\nmax_attempts = 25"),
    ),
    (
        "public-everything",
        Medium,
        |w| w.set("access", "\"public\""),
        |w| w.set("access", "\"public\"\nmethods = [\"GET\"]"),
    ),
    (
        "admin-for-all-users",
        Medium,
        |w| w.set("host", "\"admin.internal\""),
        |w| w.route("path = \"/admin\"\naccess = { groups = [\"staff\"] }"),
    ),
    (
        "admin-without-fresh-login",
        Medium,
        |w| w.route("path = \"/admin\"\naccess = { groups = [\"staff\"] }"),
        |w| w.route("path = \"/admin\"\naccess = { groups = [\"staff\"] }\nmax_auth_age = \"10m\""),
    ),
    (
        "cors-plain-origin",
        Medium,
        |w| w.route("path = \"/a\"\naccess = \"user\"\ncors_origins = \"http://app.internal\""),
        |w| w.route("path = \"/a\"\naccess = \"user\"\ncors_origins = \"https://app.internal\""),
    ),
    (
        "odd-paths",
        Low,
        |w| w.route("path = \"/a\"\naccess = \"user\"\nallow_paths = [\"encoded-slash\"]"),
        |w| w.route("path = \"/a\"\naccess = \"public\"\nallow_paths = [\"encoded-slash\"]"),
    ),
    (
        "file-readable",
        High,
        |w| w.file("tls.certificates[0].key", Holds::PrivateKey, 0o644),
        |w| w.file("tls.certificates[0].key", Holds::PrivateKey, 0o640),
    ),
    (
        "file-readable",
        Medium,
        |w| w.file("store.path", Holds::Sessions, 0o644),
        |w| w.file("store.path", Holds::Sessions, 0o600),
    ),
    (
        "file-readable",
        Low,
        |w| w.file("session.secrets", Holds::Secret, 0o640),
        |w| w.file("tls.certificates[0].cert", Holds::Certificate, 0o644),
    ),
    (
        "file-readable",
        Medium,
        |w| {
            w.put("[[route]]", "[clients]\ntokens = \"t.toml\"\n\n[[route]]");
            w.file("clients.tokens", Holds::Tokens, 0o644);
        },
        |w| w.file("clients.tokens", Holds::Tokens, 0o600),
    ),
    (
        "file-writable",
        High,
        |w| {
            w.put("[[route]]", "[clients]\ntokens = \"t.toml\"\n\n[[route]]");
            w.file("clients.tokens", Holds::Tokens, 0o602);
        },
        |w| w.file("clients.tokens", Holds::Tokens, 0o600),
    ),
    (
        "file-writable",
        High,
        |w| w.file("", Holds::Configuration, 0o646),
        |w| w.file("", Holds::Configuration, 0o644),
    ),
    (
        "secret-guessable",
        High,
        |w| {
            w.secrets
                .push(Secret::new("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
        },
        |w| {
            w.secrets
                .push(Secret::new("abcdefghabcdefghabcdefghabcdefgh"));
        },
    ),
    (
        "secret-shared",
        High,
        |w| w.admin_token = Some(Secret::new("0123456789abcdef0123456789abcdef")),
        |w| w.admin_token = Some(Secret::new("0123456789abcdef0123456789abcdee")),
    ),
    (
        "secret-old",
        Low,
        |w| {
            w.file("session.secrets", Holds::Secret, 0o600);
            w.facts.now = NOW.after(366 * DAY);
        },
        |w| {
            w.file("session.secrets", Holds::Secret, 0o600);
            w.facts.now = NOW.after(365 * DAY);
        },
    ),
    (
        "default-account",
        Medium,
        |w| w.user("Demo", 19_456, 2),
        |w| w.user("demosthenes", 19_456, 2),
    ),
    (
        "hash-weak",
        Medium,
        |w| w.user("alice", 19_456, 1),
        |w| w.user("alice", 47_104, 1),
    ),
    (
        "attempts-many",
        Medium,
        |w| w.add("[[provider]]", "max_attempts = 26"),
        |w| w.add("[[provider]]", "max_attempts = 25"),
    ),
    (
        "audit-log-off",
        High,
        |w| w.set("audit", "\"off\""),
        |w| w.set("audit", "\"stdout\""),
    ),
    (
        "audit-log-off",
        High,
        |w| w.set("audit", "\"/dev/null\""),
        |w| w.set("audit", "\"/dev/zero\""),
    ),
    (
        "log-verbose",
        Low,
        |w| w.add("[log]", "level = \"info,doorward=debug\""),
        |w| w.add("[log]", "level = \"warn\""),
    ),
    (
        "store-forgets",
        Low,
        |w| w.put("path = \"sessions.db\"", "backend = \"memory\""),
        |_| {},
    ),
    (
        "not-ready",
        Medium,
        |w| {
            w.running(|r| {
                r.ready = false;
                r.reasons.push("draining".to_owned());
            });
        },
        |w| w.running(|_| {}),
    ),
    (
        "other-configuration-runs",
        Medium,
        |w| {
            w.running(|_| {});
            w.text.push('#');
        },
        |w| w.running(|_| {}),
    ),
    (
        "other-certificate-served",
        Medium,
        |w| {
            w.file("tls.certificates[0].cert", Holds::Certificate, 0o644);
            w.running(|r| r.started = Timestamp::from_millis(NOW.as_millis() - 1));
        },
        |w| {
            w.file("tls.certificates[0].cert", Holds::Certificate, 0o644);
            w.running(|r| r.started = NOW);
        },
    ),
    (
        "other-version-runs",
        Medium,
        |w| w.running(|r| r.version = "0.0.1".to_owned()),
        |w| w.running(|_| {}),
    ),
    (
        "clock-differs",
        Medium,
        |w| w.running(|r| r.now = NOW.after(Duration::from_millis(5001))),
        |w| w.running(|r| r.now = NOW.after(Duration::from_secs(5))),
    ),
    (
        "sessions-outlive-limits",
        Medium,
        |w| {
            let end = NOW.after(Duration::from_hours(13));
            w.running(|r| r.sessions.push(seen(NOW, end, end)));
        },
        |w| {
            let end = NOW.after(Duration::from_hours(12));
            w.running(|r| r.sessions.push(seen(NOW, end, end)));
        },
    ),
    (
        "sessions-not-swept",
        Low,
        |w| {
            w.facts.now = NOW.after(Duration::from_hours(25));
            let now = w.facts.now;
            w.running(|r| {
                r.now = now;
                r.sessions.push(seen(NOW, NOW, NOW.after(DAY)));
            });
        },
        |w| w.running(|r| r.sessions.push(seen(NOW, NOW, NOW.after(DAY / 2)))),
    ),
    (
        "sessions-sealed",
        Low,
        |w| {
            let sealed = Seen {
                readable: false,
                ..seen(NOW, NOW.after(DAY / 2), NOW.after(DAY / 2))
            };
            w.running(|r| r.sessions.push(sealed));
        },
        |w| {
            w.running(|r| {
                r.sessions
                    .push(seen(NOW, NOW.after(DAY / 2), NOW.after(DAY / 2)));
            });
        },
    ),
    (
        "own-sessions-without-fresh-login",
        Low,
        |_| {},
        |w| {
            w.put(
                "[[provider]]\nid = \"local\"\ntype = \"local\"\nusers = \"users.toml\"\n",
                "",
            );
            w.set("access", "\"public\"");
        },
    ),
    (
        "hsts-without-subdomains",
        Low,
        |_| {},
        |w| w.set("hsts_max_age", "\"0s\""),
    ),
    (
        "no-client-certificate",
        Low,
        |_| {},
        |w| w.set("upstream", "\"unix:/run/app.sock\""),
    ),
];

/// What is found whatever is configured.
const ALWAYS: [&str; 2] = ["no-encrypted-hello", "no-ocsp-stapling"];

#[test]
fn each_rule_finds_what_it_is_about_and_not_what_comes_near() {
    for (rule, severity, trip, near) in CASES {
        let mut world = World::good();
        trip(&mut world);
        let report = world.review();
        let found: Vec<_> = report
            .findings()
            .iter()
            .filter(|finding| finding.rule == *rule)
            .collect();
        let [finding] = found.as_slice() else {
            panic!("{rule} found {} times", found.len());
        };
        assert_eq!(finding.fault.severity, *severity, "{rule}");
        assert!(
            !finding.fault.set.is_empty() && !finding.fault.advised.is_empty(),
            "{rule}"
        );
        if let Some(key) = &finding.fault.key {
            let places = Places::of(&world.text);
            assert!(
                key.is_empty() || places.nearest(key).is_some(),
                "{rule}: where is {key}?"
            );
        }
        let mut world = World::good();
        near(&mut world);
        let report = world.review();
        assert!(
            report
                .findings()
                .iter()
                .all(|finding| finding.rule != *rule),
            "{rule} cries wolf"
        );
    }
}

#[test]
fn every_rule_is_among_them() {
    let tried: BTreeSet<&str> = CASES.iter().map(|case| case.0).chain(ALWAYS).collect();
    let there: Vec<&str> = rules::all().map(|rule| rule.name).collect();
    let each_once: BTreeSet<&str> = there.iter().copied().collect();
    assert_eq!(there.len(), each_once.len(), "two rules of one name");
    assert_eq!(tried, each_once);
}

#[test]
fn a_good_configuration_has_only_what_this_version_lacks() {
    let report = World::good().review();
    let found: BTreeSet<&str> = report
        .findings()
        .iter()
        .map(|finding| finding.rule)
        .collect();
    let lacks = [
        "hsts-without-subdomains",
        "no-client-certificate",
        "own-sessions-without-fresh-login",
    ];
    assert_eq!(found, ALWAYS.into_iter().chain(lacks).collect());
    assert!(report.passes(Medium) && !report.passes(Low));
}

#[test]
fn the_worst_comes_first_and_decides() {
    let mut world = World::good();
    world.set("audit", "\"off\"");
    world.set("hsts_max_age", "\"0s\"");
    let report = world.review();
    let severities: Vec<Severity> = report
        .findings()
        .iter()
        .map(|finding| finding.fault.severity)
        .collect();
    assert!(severities.is_sorted_by(|a, b| a >= b));
    assert_eq!(severities.first(), Some(&High));
    assert!(!report.passes(High));
    let counted: usize = Severity::ALL
        .map(|severity| report.count(severity))
        .iter()
        .sum();
    assert_eq!(counted, severities.len());
}

/// The numbers of the standard (ASVS 5.0.0): so many items has each section.
#[test]
fn every_item_of_the_three_chapters_is_accounted_for() {
    let sections = [
        ("3", &[1, 3, 5, 8, 8, 1, 5][..]),
        ("7", &[3, 4, 2, 5, 3, 2][..]),
        ("12", &[5, 2, 5][..]),
    ];
    let mut expected = BTreeSet::new();
    for (chapter, sizes) in sections {
        for (section, size) in (1..).zip(sizes) {
            expected.extend((1..=*size).map(|item| format!("ASVS {chapter}.{section}.{item}")));
        }
    }
    assert_eq!(expected.len(), 31 + 19 + 12);
    let all: Vec<_> = requirements::all().collect();
    let ids: BTreeSet<String> = all
        .iter()
        .map(|requirement| requirement.id.to_owned())
        .collect();
    assert_eq!(ids.len(), all.len(), "two requirements of one id");
    let missing: Vec<_> = expected.difference(&ids).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for requirement in &all {
        let is_asvs = requirement.id.starts_with("ASVS ");
        assert_eq!(
            is_asvs,
            (1..=3).contains(&requirement.level),
            "{}",
            requirement.id
        );
    }
    let report = World::good().review();
    assert_eq!(report.accounts().count(), all.len());
}

#[test]
fn every_rule_names_requirements_that_are_told_of() {
    let ids: BTreeSet<&str> = requirements::all()
        .map(|requirement| requirement.id)
        .collect();
    for rule in rules::all() {
        assert!(!rule.requirements.is_empty(), "{}", rule.name);
        for id in rule.requirements {
            assert!(ids.contains(id), "{}: there is no {id}", rule.name);
        }
        assert!(rule.why.ends_with('.'), "{}", rule.name);
    }
}

#[test]
fn a_requirement_with_a_finding_is_not_called_fulfilled() {
    let mut world = World::good();
    world.set("idle_timeout", "\"31m\"");
    let report = world.review();
    let mut accounts = report.accounts();
    let account = accounts
        .find(|account| account.requirement.id == "ASVS 7.3.1")
        .unwrap();
    let Standing::Found(findings) = account.standing else {
        panic!("{account:?}");
    };
    assert_eq!(findings[0].rule, "idle-timeout-long");
}

#[test]
fn a_report_for_people_fits_a_terminal_and_cannot_steer_it() {
    let mut world = World::good();
    for (_, _, trip, _) in CASES
        .iter()
        .filter(|case| !["cache-long", "store-plain"].contains(&case.0))
    {
        let mut alone = World::good();
        trip(&mut alone);
        world.facts.files.extend(alone.facts.files);
        world.facts.certificates.extend(alone.facts.certificates);
    }
    world.user("demo\u{1b}[2J", 8, 1);
    world.running(|_| {});
    let (settings, places) = (world.settings(), Places::of(&world.text));
    let evidence = Evidence {
        settings: &settings,
        places: &places,
        facts: &world.facts,
    };
    let report = review(&evidence);
    let text = report.to_text(&evidence, None, true);
    let wide: Vec<&str> = text
        .lines()
        .filter(|line| line.chars().count() > 80 && line.trim().contains(' '))
        .collect();
    assert!(wide.is_empty(), "{wide:?}");
    assert!(!text.contains('\u{1b}'));
    assert!(text.contains("ASVS 5.0 V7: 19 items, "), "{text}");
    assert!(text.contains("/nowhere/config.toml:5 tls"), "{text}");
}
