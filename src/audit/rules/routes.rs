//! Who may go where.

use super::{Judge, Routed, Rule};
use crate::audit::Severity::{High, Low, Medium};
use crate::audit::{Evidence, Fault};
use crate::routing::{Access, HostPattern, Oddity, Route};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "public-admin",
        requirements: &["ASVS 8.2.1"],
        why: "By its name this is for few, and it is open to everybody.",
        judge: Judge::EachRoute(public_admin),
    },
    Rule {
        name: "public-everything",
        requirements: &["ASVS 8.2.1"],
        why: "Whatever the app has, now and later, is open to everybody unless a longer path says otherwise.",
        judge: Judge::EachRoute(public_everything),
    },
    Rule {
        name: "admin-for-all-users",
        requirements: &["ASVS 8.2.1"],
        why: "By its name this is for few, and every user who is logged in may use it.",
        judge: Judge::EachRoute(admin_for_all_users),
    },
    Rule {
        name: "admin-without-fresh-login",
        requirements: &["ASVS 7.5.3", "Cheat Sheet: Require Re-authentication"],
        why: "A session that was left open, or stolen, is enough for what can do the most harm.",
        judge: Judge::EachRoute(admin_without_fresh_login),
    },
    Rule {
        name: "cors-plain-origin",
        requirements: &["ASVS 3.4.2"],
        why: "Whoever is on the way changes what such a site sends, and its scripts may read what this route answers.",
        judge: Judge::EachRoute(cors_plain_origin),
    },
    Rule {
        name: "odd-paths",
        requirements: &["Doorward R15"],
        why: "Programs read such paths differently, so the app may serve another place than the one that was judged.",
        judge: Judge::EachRoute(odd_paths),
    },
];

/// Names that people give to what is for few.
const ADMIN_NAMES: [&str; 12] = [
    "_admin",
    "actuator",
    "admin",
    "administration",
    "administrator",
    "backoffice",
    "console",
    "debug",
    "manage",
    "management",
    "phpmyadmin",
    "wp-admin",
];

/// Whether its path, or the first label of its host, says that it is for few.
fn is_for_few(route: &Route) -> bool {
    let is_named = |word: &str| ADMIN_NAMES.contains(&word.to_ascii_lowercase().as_str());
    let (HostPattern::Exact(host) | HostPattern::Wildcard(host)) = &route.host;
    let label = host.split('.').next().unwrap_or_default();
    is_named(label) || route.path.split('/').any(is_named)
}

fn public_admin(_: &Evidence<'_>, routed: &Routed<'_>) -> Option<Fault> {
    let route = routed.route;
    if route.access != Access::Public || !is_for_few(route) {
        return None;
    }
    let fault = Fault::new(
        High,
        routed.key("access"),
        format!("\"public\" for {}", route.id),
    );
    Some(fault.advise("{ groups = [\"…\"] }, and `max_auth_age`"))
}

fn public_everything(_: &Evidence<'_>, routed: &Routed<'_>) -> Option<Fault> {
    let route = routed.route;
    if route.access != Access::Public || route.path != "/" || !route.methods.is_empty() {
        return None;
    }
    let fault = Fault::new(
        Medium,
        routed.key("access"),
        format!("\"public\" for {}, every method", route.id),
    );
    Some(fault.advise("\"user\" here and \"public\" for the paths that are meant; or `methods = [\"GET\", \"HEAD\"]`"))
}

fn admin_for_all_users(_: &Evidence<'_>, routed: &Routed<'_>) -> Option<Fault> {
    let route = routed.route;
    if route.access != Access::User || !is_for_few(route) {
        return None;
    }
    let fault = Fault::new(
        Medium,
        routed.key("access"),
        format!("\"user\" for {}", route.id),
    );
    Some(fault.advise("{ groups = [\"…\"] } of those who are meant"))
}

fn admin_without_fresh_login(_: &Evidence<'_>, routed: &Routed<'_>) -> Option<Fault> {
    let route = routed.route;
    let is_guarded = route.access != Access::Public;
    if !is_guarded || !is_for_few(route) || route.max_auth_age.is_some() {
        return None;
    }
    let fault = Fault::new(
        Medium,
        routed.key("max_auth_age"),
        format!("any login will do for {}", route.id),
    );
    Some(fault.advise("\"10m\": who logged in earlier does it again"))
}

fn cors_plain_origin(_: &Evidence<'_>, routed: &Routed<'_>) -> Option<Fault> {
    let plain: Vec<&str> = routed
        .route
        .cors_origins
        .iter()
        .filter_map(|origin| origin.to_str().ok())
        .filter(|origin| origin.starts_with("http://"))
        .collect();
    if plain.is_empty() {
        return None;
    }
    let fault = Fault::new(Medium, routed.key("cors_origins"), plain.join(", "));
    Some(fault.advise("https origins only, but for development on one's own machine"))
}

fn odd_paths(_: &Evidence<'_>, routed: &Routed<'_>) -> Option<Fault> {
    let route = routed.route;
    if route.allow.is_empty() || route.access == Access::Public {
        return None;
    }
    let allowed: Vec<&str> = route
        .allow
        .iter()
        .map(|oddity: &Oddity| oddity.name())
        .collect();
    let fault = Fault::new(Low, routed.key("allow_paths"), allowed.join(", "));
    Some(fault.advise("only what this app needs, and reads as Doorward does"))
}
