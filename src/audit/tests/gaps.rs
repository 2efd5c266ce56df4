//! Cases of what this version lacks.

use super::*;

pub(super) const CASES: &[Case] = &[
    (
        "own-sessions-without-fresh-login",
        Low,
        |_| {},
        |w| {
            w.put(
                "[[provider]]\nid = \"local\"\ntype = \"local\"\nusers = \"users.toml\"\n",
                "",
            );
            w.set("access", "\"public\"");
        },
    ),
    (
        "hsts-without-subdomains",
        Low,
        |_| {},
        |w| w.set("hsts_max_age", "\"0s\""),
    ),
    (
        "no-client-certificate",
        Low,
        |_| {},
        |w| w.set("upstream", "\"unix:/run/app.sock\""),
    ),
];
