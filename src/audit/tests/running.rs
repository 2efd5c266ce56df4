//! Cases of what runs.

use super::*;

pub(super) const CASES: &[Case] = &[
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
];
