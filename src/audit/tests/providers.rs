//! Cases of ways to log in.

use super::*;

pub(super) const CASES: &[Case] = &[
    (
        "access-by-any-provider",
        Medium,
        |w| {
            w.provider("");
            w.set("access", "{ groups = [\"staff\"] }");
        },
        |w| {
            w.provider("");
            w.set("access", "{ groups = [\"staff\"] }\nprovider = \"corp\"");
        },
    ),
    (
        "unverified-email-as-user",
        High,
        |w| w.provider("claims = { user = \"email\", verified_email = false }"),
        |w| w.provider("claims = { user = \"email\" }"),
    ),
    (
        "app-logs-in",
        Low,
        |w| {
            let section = "[[provider]]\nid = \"wiki\"\ntype = \"external\"\nlogin_url = \"/in\"";
            w.put("[[route]]", &format!("{section}\n\n[[route]]"));
            w.route("path = \"/in\"\naccess = \"public\"\nmay_log_in = \"wiki\"");
        },
        |w| w.route("path = \"/in\"\naccess = \"public\""),
    ),
    (
        "provider-without-tls",
        Low,
        |w| {
            w.provider("");
            w.set("issuer", "\"http://127.0.0.1:8080\"");
        },
        |w| w.provider(""),
    ),
    (
        "unverified-email-as-user",
        High,
        |w| w.site("claims = { subject = \"id\", user = \"email\", verified_email = false }"),
        |w| w.site("claims = { subject = \"id\", user = \"login\", verified_email = false }"),
    ),
    (
        "provider-without-tls",
        Low,
        |w| w.site("claims = { subject = \"id\" }\ngroups_url = \"http://127.0.0.1:8080/groups\""),
        |w| w.site("claims = { subject = \"id\" }\ngroups_url = \"https://hub.example/groups\""),
    ),
    #[cfg(feature = "ldap")]
    (
        "provider-without-tls",
        Low,
        |w| w.directory("url = \"ldap://localhost\"\nstart_tls = false"),
        |w| w.directory("url = \"ldap://localhost\""),
    ),
];
