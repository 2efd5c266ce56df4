//! How long sessions live, how many there may be, and how often their tokens change (ASVS V7, NIST SP 800-63B-4 section 2).

use std::time::Duration;

use super::{Judge, Rule};
use crate::audit::Severity::{High, Low, Medium};
use crate::audit::{Evidence, Fault};
use crate::config::{StoreSettings, show_duration};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "idle-timeout-long",
        requirements: &[
            "ASVS 7.3.1",
            "NIST 2.2.3",
            "Cheat Sheet: Session Expiration",
        ],
        why: "Whoever finds a browser that was left open is that user until the session idles out.",
        judge: Judge::Whole(idle_timeout_long),
    },
    Rule {
        name: "absolute-timeout-long",
        requirements: &[
            "ASVS 7.3.2",
            "NIST 2.2.3",
            "Cheat Sheet: Session Expiration",
        ],
        why: "A stolen cookie that is kept busy works until the absolute end, and no longer.",
        judge: Judge::Whole(absolute_timeout_long),
    },
    Rule {
        name: "assurance-not-stated",
        requirements: &["ASVS 7.1.1"],
        why: "Timeouts are to be justified. `assurance` names the level that they follow, and refuses longer ones.",
        judge: Judge::Whole(assurance_not_stated),
    },
    Rule {
        name: "assurance-one-factor",
        requirements: &["NIST 2.2.3", "NIST 2.3.3", "ASVS 6.3.3"],
        why: "AAL2 and AAL3 ask for two factors, and a local user has a password alone: only the timeouts are those of the level.",
        judge: Judge::Whole(assurance_one_factor),
    },
    Rule {
        name: "remember-me",
        requirements: &["NIST 5.1", "NIST 2.1.3", "ASVS 7.3.2"],
        why: "A remembered session survives the browser, so it is on a lost or sold device too. AAL1 ends at 30 days.",
        judge: Judge::Whole(remember_me),
    },
    Rule {
        name: "sessions-unlimited",
        requirements: &["ASVS 7.1.2", "Cheat Sheet: Simultaneous Session Logons"],
        why: "Without a limit nobody notices one more session of a user, a thief's among them.",
        judge: Judge::Whole(sessions_unlimited),
    },
    Rule {
        name: "session-not-bound",
        requirements: &[
            "NIST 5.3",
            "Cheat Sheet: Binding the Session ID to Other User Properties",
        ],
        why: "A copied cookie that is used from another browser or network is not even noticed.",
        judge: Judge::Whole(session_not_bound),
    },
    Rule {
        name: "rotation-slow",
        requirements: &["Cheat Sheet: Renewal Timeout"],
        why: "A stolen token is found out when both copies are used around a replacement; until then it works.",
        judge: Judge::Whole(rotation_slow),
    },
    Rule {
        name: "rotation-grace-long",
        requirements: &["Cheat Sheet: Renewal Timeout"],
        why: "So long a replaced token is still good, for whoever holds it.",
        judge: Judge::Whole(rotation_grace_long),
    },
    Rule {
        name: "cache-long",
        requirements: &["ASVS 7.4.1"],
        why: "A node that is cut off from the store believes in a session that was ended elsewhere for so long.",
        judge: Judge::Whole(cache_long),
    },
    Rule {
        name: "ends-late",
        requirements: &["ASVS 7.4.1"],
        why: "A node that does not hear of it believes in a session that was ended for as long as its signed cookie is good.",
        judge: Judge::Whole(ends_late),
    },
];

/// The level that the file states, which the reader has enforced.
fn level<'a>(evidence: &Evidence<'a>) -> Option<&'a str> {
    evidence.places.text("session.assurance")
}

fn idle_timeout_long(evidence: &Evidence<'_>) -> Option<Fault> {
    let idle = evidence.settings.session.idle_timeout;
    let severity = match level(evidence) {
        _ if idle <= 30 * MINUTE => return None,
        Some(_) => Low,
        None if idle <= HOUR => Low,
        None if idle <= 8 * HOUR => Medium,
        None => High,
    };
    let fault = Fault::new(severity, "session.idle_timeout", show_duration(idle));
    Some(fault.advise(
        "30m at most; 1h is the limit of AAL2, 15m of AAL3; 2m to 5m where much is at stake",
    ))
}

fn absolute_timeout_long(evidence: &Evidence<'_>) -> Option<Fault> {
    let absolute = evidence.settings.session.absolute_timeout;
    let severity = match level(evidence) {
        Some(_) => return None,
        None if absolute <= 12 * HOUR => return None,
        None if absolute <= DAY => Low,
        None => Medium,
    };
    let fault = Fault::new(
        severity,
        "session.absolute_timeout",
        show_duration(absolute),
    );
    Some(fault.advise("12h at most, a working day and the limit of AAL3; 24h is that of AAL2. `assurance = \"aal1\"` says that 30d are meant"))
}

fn assurance_not_stated(evidence: &Evidence<'_>) -> Option<Fault> {
    if level(evidence).is_some() {
        return None;
    }
    let fault = Fault::new(Low, "session.assurance", "no level");
    Some(fault.advise("\"aal1\", \"aal2\" or \"aal3\", with a comment that says why"))
}

fn assurance_one_factor(evidence: &Evidence<'_>) -> Option<Fault> {
    let level = level(evidence).filter(|level| *level != "aal1")?;
    let fault = Fault::new(
        Low,
        "session.assurance",
        format!("\"{level}\", with passwords"),
    );
    Some(fault.advise("do not claim that level for who logs in here; keep its timeouts"))
}

fn remember_me(evidence: &Evidence<'_>) -> Option<Fault> {
    let limits = evidence.settings.session.remember_me?;
    let severity = if limits.absolute > 30 * DAY {
        Medium
    } else {
        Low
    };
    let (idle, absolute) = (show_duration(limits.idle), show_duration(limits.absolute));
    let fault = Fault::new(
        severity,
        "session.remember_me",
        format!("{idle} without a request, {absolute} in all"),
    );
    Some(
        fault.advise(
            "leave it out; else 30d in all at most, and `max_auth_age` on routes that matter",
        ),
    )
}

fn sessions_unlimited(evidence: &Evidence<'_>) -> Option<Fault> {
    if evidence.settings.session.per_user.max > 0 {
        return None;
    }
    let fault = Fault::new(Low, "session.max_per_user", "0, no limit");
    Some(fault.advise("as many as a person has devices, like 5"))
}

fn session_not_bound(evidence: &Evidence<'_>) -> Option<Fault> {
    if evidence.settings.session.bind.is_on() {
        return None;
    }
    let fault = Fault::new(Low, "session.bind", "\"off\" for both");
    Some(fault.advise("user_agent = \"reauth\" and network = \"log\", which disturb few people"))
}

fn rotation_slow(evidence: &Evidence<'_>) -> Option<Fault> {
    let session = &evidence.settings.session;
    let interval = session.rotate_interval;
    if interval <= 4 * HOUR && interval < session.absolute_timeout {
        return None;
    }
    let fault = Fault::new(Low, "session.rotate_interval", show_duration(interval));
    Some(
        fault.advise(
            "1h, at most 4h, and less than `absolute_timeout`, or no token is ever replaced",
        ),
    )
}

fn rotation_grace_long(evidence: &Evidence<'_>) -> Option<Fault> {
    let grace = evidence.settings.session.rotate_grace;
    if grace <= MINUTE {
        return None;
    }
    let fault = Fault::new(Low, "session.rotate_grace", show_duration(grace));
    Some(fault.advise("10s, at most 1m: requests that are under way need no more"))
}

fn ends_late(evidence: &Evidence<'_>) -> Option<Fault> {
    const FIVE: Duration = Duration::from_mins(5);
    let tickets = evidence.settings.tickets.as_ref()?;
    let lifetime = tickets.lifetime;
    let severity = if lifetime > FIVE { Medium } else { Low };
    let set = format!("jwt, for {}", show_duration(lifetime));
    let fault = Fault::new(severity, "session.mode", set);
    Some(fault.advise("\"opaque\" where every node reaches the store; a lifetime of 5m at most"))
}

fn cache_long(evidence: &Evidence<'_>) -> Option<Fault> {
    let ttl = evidence.settings.session.cache_ttl;
    let is_shared = match evidence.settings.store {
        StoreSettings::Embedded { .. } | StoreSettings::Memory => false,
        StoreSettings::Postgres(_) | StoreSettings::Redis(_) => true,
    };
    if !is_shared || ttl <= Duration::from_secs(10) {
        return None;
    }
    let fault = Fault::new(Low, "session.cache_ttl", show_duration(ttl));
    Some(fault.advise("5s, at most 10s"))
}
