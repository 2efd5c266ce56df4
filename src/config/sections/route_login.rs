//! `may_log_in` of a route: whose users its app may log in. What it says and what external providers say has to fit together.

use std::ops::Range;

use super::provider::Providers;
use super::route::Placed;
use crate::config::reader::{Report, Section, nearest, quoted};
use crate::routing::{Access, HostPattern};

/// The provider, and where that is said.
pub(super) fn may_log_in(
    section: &Section<'_>,
    access: Option<&Access>,
) -> (Option<String>, Option<Range<usize>>) {
    let Some(value) = section.value("may_log_in") else {
        return (None, None);
    };
    if access.is_some_and(|access| !access.is_open()) {
        value
            .wrong("lets the app log people in, and the route's `access` lets nobody through who is not")
            .at_key()
            .help("use `access = \"public\"` for the app's login page")
            .push();
    }
    let upstream = section.value("upstream");
    if upstream.is_some_and(|upstream| upstream.as_text() == Some("none")) {
        value
            .wrong("believes what an app answers, and there is no app behind the route")
            .at_key()
            .help("remove it")
            .push();
    }
    (value.text().map(str::to_owned), Some(value.place()))
}

/// Providers without a route, and routes without a provider: neither would log anybody in.
pub(super) fn judge(report: &Report<'_>, routes: &[Placed], providers: &Providers) {
    for placed in routes {
        refuse_stranger(report, placed, providers);
    }
    for (id, page) in providers.external() {
        let may = |placed: &Placed| placed.route.may_log_in.as_deref() == Some(id);
        if !routes.iter().any(may) {
            let message = format!("no route's app may log in users of {}", quoted(id));
            let complaint = report.complaint(page.at.clone(), "provider.login_url", message);
            complaint
                .help(format!(
                    "add `may_log_in = {}` to the route of the login page",
                    quoted(id)
                ))
                .push();
            continue;
        }
        let serves = |placed: &&Placed| {
            let route = &placed.route;
            let host = page.host.as_deref();
            covers(&route.path, &page.path) && host.is_none_or(|host| fits(&route.host, host))
        };
        // Of two that cover it the longer one counts.
        let longest = routes
            .iter()
            .filter(serves)
            .max_by_key(|placed| placed.route.path.len());
        if !longest.is_some_and(|placed| placed.route.access.is_open()) {
            let message = format!(
                "{} is not open to who has not logged in",
                quoted(&page.path)
            );
            let complaint = report.complaint(page.at.clone(), "provider.login_url", message);
            complaint
                .help("a route with `access = \"public\"` has to serve it")
                .push();
        }
    }
}

fn refuse_stranger(report: &Report<'_>, placed: &Placed, providers: &Providers) {
    let (Some(id), Some(place)) = (&placed.route.may_log_in, &placed.may_log_in) else {
        return;
    };
    let mut external = providers.external();
    if external.any(|(known, _)| known == id) {
        return;
    }
    let message = format!("there is no provider {} of type \"external\"", quoted(id));
    let complaint = report.complaint(place.clone(), "route.may_log_in", message);
    let help = match nearest(id, providers.external().map(|(id, _)| id)) {
        Some(meant) => format!("did you mean {}?", quoted(meant)),
        None => "the `id` of a `[[provider]]` with `type = \"external\"`".to_owned(),
    };
    complaint.help(help).push();
}

fn covers(prefix: &str, path: &str) -> bool {
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| prefix == "/" || rest.is_empty() || rest.starts_with('/'))
}

fn fits(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(name) => name == host,
        HostPattern::Wildcard(rest) => host
            .strip_suffix(rest.as_str())
            .is_some_and(|label| label.ends_with('.')),
    }
}
