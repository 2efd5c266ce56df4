//! A report for machines. Its form is an interface: names stay, and new ones may come.

use serde_json::{Value, json};

use super::{Accounted, Report, Standing};
use crate::audit::facts::Running;
use crate::audit::{Evidence, Finding, Severity};

/// Goes up when a name changes its meaning, or goes.
const FORM: u32 = 1;

impl Report {
    /// All of it; `threshold` is what decides about `passed`.
    pub fn to_json(&self, evidence: &Evidence<'_>, threshold: Severity) -> Value {
        let counts =
            Severity::ALL.map(|severity| (severity.name().to_owned(), self.count(severity).into()));
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|one| finding(evidence, one))
            .collect();
        let requirements: Vec<Value> = self.accounts().map(|one| account(&one)).collect();
        json!({
            "form": FORM,
            "doorward": env!("CARGO_PKG_VERSION"),
            "time": evidence.facts.now.to_string(),
            "config": {
                "file": evidence.settings.file,
                "fingerprint": evidence.settings.fingerprint,
            },
            "running": evidence.facts.running.as_ref().map(running),
            "threshold": threshold.name(),
            "passed": self.passes(threshold),
            "counts": Value::Object(counts.into_iter().collect()),
            "findings": findings,
            "requirements": requirements,
        })
    }
}

fn running(running: &Running) -> Value {
    json!({
        "version": running.version,
        "fingerprint": running.config,
        "started": running.started.to_string(),
        "ready": running.ready,
        "sessions": running.sessions.len(),
        "all_sessions": !running.has_more,
    })
}

fn finding(evidence: &Evidence<'_>, finding: &Finding) -> Value {
    let key = finding.fault.key.as_deref();
    json!({
        "rule": finding.rule,
        "severity": finding.fault.severity.name(),
        "requirements": finding.requirements,
        "key": key,
        "line": key.and_then(|key| evidence.places.nearest(key)),
        "is_set": key.is_some_and(|key| evidence.places.line(key).is_some()),
        "set": finding.fault.set,
        "advised": finding.fault.advised,
        "why": finding.why,
    })
}

fn account(account: &Accounted<'_>) -> Value {
    let requirement = account.requirement;
    let (reason, rules) = match &account.standing {
        Standing::Fulfilled(reason) | Standing::NotApplicable(reason) => {
            (Some(*reason), Vec::new())
        }
        Standing::Found(findings) => (None, rules(findings)),
    };
    json!({
        "id": requirement.id,
        "level": (requirement.level > 0).then_some(requirement.level),
        "asks": requirement.asks,
        "standing": account.standing.name(),
        "reason": reason,
        "rules": rules,
    })
}

/// The names of the rules that found something, each once.
pub(super) fn rules(findings: &[&Finding]) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for finding in findings {
        if !names.contains(&finding.rule) {
            names.push(finding.rule);
        }
    }
    names
}
