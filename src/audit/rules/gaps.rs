//! What this version does not fulfil, whatever is configured, so that a report leaves nothing out.

use super::{Judge, Rule};
use crate::audit::Severity::Low;
use crate::audit::{Evidence, Fault};
use crate::upstream::Address;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "own-sessions-without-fresh-login",
        requirements: &["ASVS 7.5.2"],
        why: "People see and end their sessions at `/.doorward/sessions` without a password: so does whoever holds one of them.",
        judge: Judge::Whole(own_sessions),
    },
    Rule {
        name: "hsts-without-subdomains",
        requirements: &["ASVS 3.4.1"],
        why: "From level 2 the policy is to count for subdomains too; what is sent has `max-age` alone.",
        judge: Judge::Whole(hsts_without_subdomains),
    },
    Rule {
        name: "no-ocsp-stapling",
        requirements: &["ASVS 12.1.4"],
        why: "Browsers are not told whether the certificate was revoked; public authorities are giving OCSP up.",
        judge: Judge::Always(no_ocsp),
    },
    Rule {
        name: "no-encrypted-hello",
        requirements: &["ASVS 12.1.5"],
        why: "Whoever is on the way sees the names of the hosts that people visit, and nothing else.",
        judge: Judge::Always(no_ech),
    },
    Rule {
        name: "no-client-certificate",
        requirements: &["ASVS 12.3.5"],
        why: "An app cannot tell Doorward from another program that reaches it.",
        judge: Judge::Whole(no_client_certificate),
    },
];

fn gap(set: &str, advised: &str) -> Fault {
    Fault::elsewhere(Low, set).advise(advised)
}

fn guards(evidence: &Evidence<'_>) -> bool {
    !evidence.settings.providers.is_empty()
}

fn own_sessions(evidence: &Evidence<'_>) -> Option<Fault> {
    guards(evidence).then(|| {
        gap(
            "no fresh login before a session of one's own is ended",
            "nothing to set; what can be done there is to log out",
        )
    })
}

fn hsts_without_subdomains(evidence: &Evidence<'_>) -> Option<Fault> {
    (evidence.settings.hsts_max_age() > 0).then(|| {
        gap(
            "Strict-Transport-Security without includeSubDomains",
            "nothing to set; the policy is sent on every host that Doorward serves",
        )
    })
}

fn no_ocsp() -> Fault {
    gap(
        "no OCSP response is stapled",
        "nothing to set; certificates of short life, renewed by themselves, need no revocation",
    )
}

fn no_ech() -> Fault {
    gap(
        "Encrypted Client Hello is not offered",
        "nothing to set; a wildcard certificate and host names that tell nothing, where names are secret",
    )
}

/// A unix socket's mode says who may reach it.
fn no_client_certificate(evidence: &Evidence<'_>) -> Option<Fault> {
    let upstreams = &evidence.settings.upstreams;
    let is_local = |address: &Address| matches!(address, Address::Unix(_));
    if upstreams.iter().all(|target| is_local(&target.address)) {
        return None;
    }
    Some(gap(
        "Doorward shows apps no certificate of its own",
        "a unix socket, whose mode says who reaches the app; or `assertion = true`, which the app verifies",
    ))
}
