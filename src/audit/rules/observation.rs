//! What is written down, and what is kept.

use std::path::Path;

use super::{Judge, Rule};
use crate::audit::Severity::{High, Low};
use crate::audit::{Evidence, Fault};
use crate::config::StoreSettings;
use crate::telemetry::Sink;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "audit-log-off",
        requirements: &[
            "ASVS 16.3.1",
            "ASVS 16.3.3",
            "Cheat Sheet: Logging Sessions Life Cycle",
        ],
        why: "Guessed passwords, stolen tokens and ended sessions leave no trace.",
        judge: Judge::Whole(audit_log_off),
    },
    Rule {
        name: "log-verbose",
        requirements: &["ASVS 13.4.2"],
        why: "Messages for developers tell more of users than operators need; and they take time.",
        judge: Judge::Whole(log_verbose),
    },
    Rule {
        name: "store-forgets",
        requirements: &["Doorward R6"],
        why: "Each restart logs everybody out, and people get used to giving their password at any time.",
        judge: Judge::Whole(store_forgets),
    },
];

fn audit_log_off(evidence: &Evidence<'_>) -> Option<Fault> {
    let set = match &evidence.settings.log.audit {
        Sink::Off => "\"off\"",
        Sink::File(path) if path == Path::new("/dev/null") => "/dev/null",
        Sink::File(_) | Sink::Stderr | Sink::Stdout => return None,
    };
    let fault = Fault::new(High, "log.audit", set);
    Some(fault.advise("\"stderr\", where a journal keeps it, or a file"))
}

fn log_verbose(evidence: &Evidence<'_>) -> Option<Fault> {
    let level = &evidence.settings.log.level;
    let words = level.split([',', '=']);
    if !words
        .into_iter()
        .any(|word| matches!(word.trim(), "debug" | "trace"))
    {
        return None;
    }
    Some(Fault::new(Low, "log.level", level.clone()).advise("\"info\""))
}

fn store_forgets(evidence: &Evidence<'_>) -> Option<Fault> {
    if evidence.settings.store != StoreSettings::Memory {
        return None;
    }
    Some(
        Fault::new(Low, "store.backend", "\"memory\"")
            .advise("\"embedded\", or \"redis\" for several nodes"),
    )
}
