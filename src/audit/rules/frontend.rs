//! What browsers are told: cookies and header fields (ASVS V3).

use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

use super::{Judge, Routed, Rule};
use crate::audit::Severity::{Low, Medium};
use crate::audit::{Evidence, Fault};
use crate::config::show_duration;
use crate::routing::Access;

const YEAR: u64 = 365 * 24 * 60 * 60;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "cookie-shared",
        requirements: &[
            "ASVS 3.3.3",
            "ASVS 3.5.4",
            "NIST 5.1.1",
            "Cheat Sheet: Cookies",
        ],
        why: "Every host below the domain gets the cookie, can overwrite it, and shares the session with the worst of them.",
        judge: Judge::Whole(cookie_shared),
    },
    Rule {
        name: "hsts-off",
        requirements: &["ASVS 3.4.1", "Cheat Sheet: Transport Layer Security"],
        why: "A browser that is sent to http:// first can be answered by whoever sits in between.",
        judge: Judge::Whole(hsts_off),
    },
    Rule {
        name: "hsts-short",
        requirements: &["ASVS 3.4.1"],
        why: "A browser that was not here for longer begins with http:// again.",
        judge: Judge::Whole(hsts_short),
    },
    Rule {
        name: "any-origin-reads",
        requirements: &["ASVS 3.4.2"],
        why: "Scripts of every site may read what this route answers, and it is not for everybody.",
        judge: Judge::EachRoute(any_origin_reads),
    },
    Rule {
        name: "protection-removed",
        requirements: &[
            "ASVS 3.4.3",
            "ASVS 3.4.4",
            "ASVS 3.4.5",
            "ASVS 3.4.6",
            "ASVS 3.4.8",
        ],
        why: "The app protects its pages with this field, and the route takes it away.",
        judge: Judge::EachRoute(protection_removed),
    },
];

fn cookie_shared(evidence: &Evidence<'_>) -> Option<Fault> {
    let cookie = &evidence.settings.session.cookie;
    let set = format!(
        "{}, for all hosts below {}",
        cookie.as_str(),
        cookie.domain()?
    );
    let fault = Fault::new(Medium, "session.domain", set);
    Some(fault.advise("leave it out: a `__Host-` cookie, and a session for each host"))
}

/// Where the file says nothing, it is off for development alone.
fn hsts_off(evidence: &Evidence<'_>) -> Option<Fault> {
    if evidence.settings.hsts_max_age() > 0 {
        return None;
    }
    let (severity, set) = match evidence.settings.tls.hsts_max_age {
        Some(_) => (Medium, "not sent"),
        None => (Low, "not sent, the default for localhost and `self_signed`"),
    };
    let fault = Fault::new(severity, "tls.hsts_max_age", set);
    Some(fault.advise(
        "\"365d\", the default elsewhere, once https works for everybody: browsers do not go back",
    ))
}

fn hsts_short(evidence: &Evidence<'_>) -> Option<Fault> {
    let age = evidence.settings.hsts_max_age();
    if age == 0 || age >= YEAR {
        return None;
    }
    let age = show_duration(Duration::from_secs(age));
    Some(Fault::new(Low, "tls.hsts_max_age", age).advise("\"365d\" or more"))
}

fn any_origin_reads(_: &Evidence<'_>, routed: &Routed<'_>) -> Option<Fault> {
    let mut set = routed.route.response_headers.set.iter();
    let is_open = set.any(|(name, value)| *name == ACCESS_CONTROL_ALLOW_ORIGIN && value == "*");
    if !is_open || routed.route.access == Access::Public {
        return None;
    }
    let key = routed.key("response_headers");
    let fault = Fault::new(Medium, key, "Access-Control-Allow-Origin: *");
    Some(fault.advise("the one origin that may, or leave it to the app"))
}

fn protection_removed(_: &Evidence<'_>, routed: &Routed<'_>) -> Option<Fault> {
    let mut protecting = vec![
        CONTENT_SECURITY_POLICY,
        REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
        X_FRAME_OPTIONS,
    ];
    protecting.push(HeaderName::from_static("cross-origin-opener-policy"));
    protecting.push(HeaderName::from_static("cross-origin-resource-policy"));
    let edits = &routed.route.response_headers;
    let is_lost = |name: &&HeaderName| {
        protecting.contains(name) && !edits.set.iter().any(|(other, _)| other == *name)
    };
    let lost: Vec<&str> = edits
        .remove
        .iter()
        .filter(is_lost)
        .map(HeaderName::as_str)
        .collect();
    if lost.is_empty() {
        return None;
    }
    let key = routed.key("response_headers");
    let fault = Fault::new(Medium, key, format!("removes {}", lost.join(", ")));
    Some(fault.advise("keep it, or set a better one in its place"))
}
