//! Cases of TLS and plain connections.

use super::*;

pub(super) const CASES: &[Case] = &[
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
];
