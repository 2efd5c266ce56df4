//! Cases of secrets, passwords and the files that hold them.

use super::*;

pub(super) const CASES: &[Case] = &[
    #[cfg(feature = "ldap")]
    (
        "attempts-many",
        Medium,
        |w| w.directory("url = \"ldaps://d.example\"\nmax_attempts = 26"),
        |w| w.directory("url = \"ldaps://d.example\"\nmax_attempts = 25"),
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
];
