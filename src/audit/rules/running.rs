//! What runs, against what the configuration says now.

use std::time::Duration;

use super::{Judge, Rule};
use crate::audit::Severity::{Low, Medium};
use crate::audit::facts::{Holds, Running, Seen};
use crate::audit::{Evidence, Fault};
use crate::config::show_duration;

const DAY: Duration = Duration::from_hours(24);

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "not-ready",
        requirements: &["Doorward R7"],
        why: "Who is not known yet cannot log in, and ends of sessions may not reach the store.",
        judge: Judge::Running(not_ready),
    },
    Rule {
        name: "other-configuration-runs",
        requirements: &["ASVS 7.1.1"],
        why: "What stands in the file, and in this report, is not what people meet.",
        judge: Judge::Running(other_configuration_runs),
    },
    Rule {
        name: "other-certificate-served",
        requirements: &["ASVS 12.2.2"],
        why: "The one that was replaced is served until it expires.",
        judge: Judge::Running(other_certificate_served),
    },
    Rule {
        name: "other-version-runs",
        requirements: &["Doorward R6"],
        why: "A program that was replaced on disk and not restarted has the faults that the new one mends.",
        judge: Judge::Running(other_version_runs),
    },
    Rule {
        name: "clock-differs",
        requirements: &["ASVS 16.2.2", "ASVS 7.3.2"],
        why: "Sessions end by its clock, and its logs are in its time.",
        judge: Judge::Running(clock_differs),
    },
    Rule {
        name: "sessions-outlive-limits",
        requirements: &["ASVS 7.3.2", "NIST 5.2"],
        why: "They began under a configuration that gave more time, and keep it.",
        judge: Judge::Running(sessions_outlive_limits),
    },
    Rule {
        name: "sessions-not-swept",
        requirements: &["ASVS 7.4.1"],
        why: "They open nothing, and what is kept of them should be gone.",
        judge: Judge::Running(sessions_not_swept),
    },
    Rule {
        name: "sessions-sealed",
        requirements: &["ASVS 13.3.4"],
        why: "The secret that sealed them is not configured: nobody can use them, nor see whose they are.",
        judge: Judge::Running(sessions_sealed),
    },
];

fn not_ready(_: &Evidence<'_>, running: &Running) -> Option<Fault> {
    let set = format!("not ready: {}", running.reasons.join(", "));
    (!running.ready)
        .then(|| Fault::elsewhere(Medium, set).advise("see its messages on standard error"))
}

fn other_configuration_runs(evidence: &Evidence<'_>, running: &Running) -> Option<Fault> {
    let ours = &evidence.settings.fingerprint;
    if running.config == *ours {
        return None;
    }
    let set = format!(
        "a file of fingerprint {}, where this one has {ours}",
        running.config
    );
    Some(Fault::elsewhere(Medium, set).advise("restart it; no session is lost by that"))
}

fn other_certificate_served(evidence: &Evidence<'_>, running: &Running) -> Option<Fault> {
    let mut files = evidence.facts.files.iter();
    let newer =
        files.find(|file| file.holds == Holds::Certificate && file.changed > running.started)?;
    let set = format!(
        "{}, changed on {}, after the start",
        newer.path.display(),
        newer.changed
    );
    Some(
        Fault::new(Medium, newer.key.clone(), set)
            .advise("restart it: certificates are read at the start"),
    )
}

fn other_version_runs(_: &Evidence<'_>, running: &Running) -> Option<Fault> {
    const OURS: &str = env!("CARGO_PKG_VERSION");
    if running.version == OURS {
        return None;
    }
    let set = format!("version {}, where this program is {OURS}", running.version);
    Some(Fault::elsewhere(Medium, set).advise("restart it"))
}

fn clock_differs(evidence: &Evidence<'_>, running: &Running) -> Option<Fault> {
    let (ours, theirs) = (evidence.facts.now, running.now);
    let apart = ours.since(theirs).max(theirs.since(ours));
    if apart <= Duration::from_secs(5) {
        return None;
    }
    let set = format!("its clock says {theirs}, this program's {ours}");
    Some(
        Fault::elsewhere(Medium, set)
            .advise("a time service on the machine (chrony, systemd-timesyncd)"),
    )
}

fn sessions_outlive_limits(evidence: &Evidence<'_>, running: &Running) -> Option<Fault> {
    let session = &evidence.settings.session;
    let remembered = session.remember_me.map(|limits| limits.absolute);
    let longest = session.absolute_timeout.max(remembered.unwrap_or_default());
    let now = evidence.facts.now;
    let outlives = |seen: &&Seen| seen.expires > now && seen.expires.since(seen.created) > longest;
    let count = running.sessions.iter().filter(outlives).count();
    if count == 0 {
        return None;
    }
    let set = format!("{count} sessions with more than {}", show_duration(longest));
    let fault = Fault::elsewhere(Medium, set);
    Some(fault.advise("`doorward session list --older-than AGE`, then `revoke`"))
}

fn sessions_not_swept(evidence: &Evidence<'_>, running: &Running) -> Option<Fault> {
    let now = evidence.facts.now;
    let left = running
        .sessions
        .iter()
        .filter(|seen| seen.ends.after(DAY) < now);
    let count = left.count();
    let set = format!("{count} sessions that ended more than a day ago are still in the store");
    (count > 0)
        .then(|| Fault::elsewhere(Low, set).advise("look for errors of the store in its messages"))
}

fn sessions_sealed(_: &Evidence<'_>, running: &Running) -> Option<Fault> {
    let count = running
        .sessions
        .iter()
        .filter(|seen| !seen.readable)
        .count();
    let set = format!("{count} sessions that cannot be opened");
    (count > 0).then(|| {
        Fault::elsewhere(Low, set).advise(
            "put the old secret back behind the new one in `session.secrets`, or revoke them",
        )
    })
}
