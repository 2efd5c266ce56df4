//! Cases of logs.

use super::*;

pub(super) const CASES: &[Case] = &[
    (
        "audit-log-off",
        High,
        |w| w.set("audit", "\"off\""),
        |w| w.set("audit", "\"stdout\""),
    ),
    (
        "audit-log-off",
        High,
        |w| w.set("audit", "\"/dev/null\""),
        |w| w.set("audit", "\"/dev/zero\""),
    ),
    (
        "log-verbose",
        Low,
        |w| w.add("[log]", "level = \"info,doorward=debug\""),
        |w| w.add("[log]", "level = \"warn\""),
    ),
    (
        "store-forgets",
        Low,
        |w| w.put("path = \"sessions.db\"", "backend = \"memory\""),
        |_| {},
    ),
];
