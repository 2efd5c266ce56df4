//! Cases of routes.

use super::*;

pub(super) const CASES: &[Case] = &[
    (
        "public-admin",
        High,
        |w| w.route("path = \"/wiki/Admin\"\naccess = \"public\""),
        |w| w.route("path = \"/administrate-me\"\naccess = \"public\""),
    ),
    (
        "public-everything",
        Medium,
        |w| w.set("access", "\"public\""),
        |w| w.set("access", "\"public\"\nmethods = [\"GET\"]"),
    ),
    (
        "admin-for-all-users",
        Medium,
        |w| w.set("host", "\"admin.internal\""),
        |w| w.route("path = \"/admin\"\naccess = { groups = [\"staff\"] }"),
    ),
    (
        "admin-without-fresh-login",
        Medium,
        |w| w.route("path = \"/admin\"\naccess = { groups = [\"staff\"] }"),
        |w| w.route("path = \"/admin\"\naccess = { groups = [\"staff\"] }\nmax_auth_age = \"10m\""),
    ),
    (
        "cors-plain-origin",
        Medium,
        |w| w.route("path = \"/a\"\naccess = \"user\"\ncors_origins = \"http://app.internal\""),
        |w| w.route("path = \"/a\"\naccess = \"user\"\ncors_origins = \"https://app.internal\""),
    ),
    (
        "odd-paths",
        Low,
        |w| w.route("path = \"/a\"\naccess = \"user\"\nallow_paths = [\"encoded-slash\"]"),
        |w| w.route("path = \"/a\"\naccess = \"public\"\nallow_paths = [\"encoded-slash\"]"),
    ),
];
