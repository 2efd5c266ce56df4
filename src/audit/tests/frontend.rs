//! Cases of what browsers are told.

use super::*;

pub(super) const CASES: &[Case] = &[
    (
        "cookie-shared",
        Medium,
        |w| {
            w.add("[session]", "domain = \"example.com\"");
            w.set("host", "\"a.example.com\"");
        },
        |w| w.set("host", "\"a.example.com\""),
    ),
    (
        "hsts-off",
        Medium,
        |w| w.set("hsts_max_age", "\"0s\""),
        |w| w.set("hsts_max_age", "\"1s\""),
    ),
    (
        "hsts-off",
        Low,
        |w| w.put("hsts_max_age = \"365d\"\n", ""),
        |w| w.set("hsts_max_age", "\"365d\""),
    ),
    (
        "hsts-short",
        Low,
        |w| w.set("hsts_max_age", "\"364d\""),
        |w| w.set("hsts_max_age", "\"365d\""),
    ),
    (
        "any-origin-reads",
        Medium,
        |w| {
            w.route("path = \"/a\"\naccess = \"user\"\nresponse_headers = { set = { Access-Control-Allow-Origin = \"*\" } }");
        },
        |w| {
            w.route("path = \"/a\"\naccess = \"public\"\nresponse_headers = { set = { Access-Control-Allow-Origin = \"*\" } }");
        },
    ),
    (
        "protection-removed",
        Medium,
        |w| {
            w.route("path = \"/a\"\naccess = \"user\"\nresponse_headers = { remove = [\"X-Frame-Options\"] }");
        },
        |w| {
            w.route("path = \"/a\"\naccess = \"user\"\n");
            w.text.push_str("response_headers = { remove = [\"X-Frame-Options\", \"Server\"], set = { X-Frame-Options = \"DENY\" } }");
        },
    ),
];
