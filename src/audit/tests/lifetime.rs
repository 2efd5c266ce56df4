//! Cases of how long sessions live.

use super::*;

pub(super) const CASES: &[Case] = &[
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
];
