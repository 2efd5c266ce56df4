//! Who may pass a route.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use super::provider::Providers;
use super::provider_oidc::words;
use super::route::Placed;
use super::session::Session;
use super::session_data::name;
use crate::config::reader::{Report, Section, Value, nearest, quoted};
use crate::login::MAX_ACR_VALUES;
use crate::routing::{Access, Caching, HostPattern};

pub(super) fn access(value: &Value<'_>) -> Option<Access> {
    const HELP: &str = "\"public\" (anybody), \"anonymous\" (anybody, with a session where the app wants one), \"user\" (anybody who is logged in) or \
                        { users = [\"alice\"], groups = [\"staff\"] }";
    if value.as_table().is_some() {
        let section = value.section()?;
        let names = |key| {
            section
                .strings(key)
                .into_iter()
                .map(|(text, _)| text.to_owned())
                .collect::<BTreeSet<_>>()
        };
        let (users, groups) = (names("users"), names("groups"));
        let given = section.value("users").is_some() || section.value("groups").is_some();
        // Where other keys stand there instead, they are reported as unknown, and that is enough.
        if users.is_empty() && groups.is_empty() && (given || section.is_empty()) {
            value
                .wrong("names nobody, so nobody could pass")
                .help(HELP)
                .push();
        }
        section.finish();
        return Some(Access::Only { users, groups });
    }
    match value.as_text() {
        Some("anonymous") => Some(Access::Anonymous),
        Some("public") => Some(Access::Public),
        Some("user") => Some(Access::User),
        Some(text) => {
            let complaint = value.wrong(format!("{} is not a rule of access", quoted(text)));
            match nearest(text, ["anonymous", "public", "user"]) {
                Some(meant) => complaint
                    .help(format!("did you mean \"{meant}\"? Known are {HELP}"))
                    .push(),
                None => complaint.help(format!("known are {HELP}")).push(),
            }
            None
        }
        None => {
            value
                .wrong("expected \"public\", \"user\" or a table")
                .help(HELP)
                .push();
            None
        }
    }
}

/// What caches may keep.
pub(super) fn caching(section: &Section<'_>, access: &Access) -> Caching {
    let value = section.value("cache");
    let given = value.and_then(|value| value.choice(&Caching::ALL.map(|rule| (rule.name(), rule))));
    given.unwrap_or_else(|| Caching::default_for(access))
}

/// How old a login may be. Less than what it takes to come back from the login page would send people round for ever.
pub(super) fn max_auth_age(section: &Section<'_>, access: Option<&Access>) -> Option<Duration> {
    let value = section.value("max_auth_age")?;
    let range = Duration::from_secs(30)..=Duration::from_hours(365 * 24);
    let age = value.duration_in(range);
    if access.is_some_and(Access::is_open) {
        let name = if access == Some(&Access::Public) {
            "public"
        } else {
            "anonymous"
        };
        value
            .wrong(format!(
                "says how old a login may be, where `access = \"{name}\"` asks for none"
            ))
            .at_key()
            .help("remove it, or use `access = \"user\"`")
            .push();
    }
    age
}

/// The one way to log in that counts, and where that is said.
pub(super) fn provider(
    section: &Section<'_>,
    access: Option<&Access>,
) -> (Option<String>, Option<Range<usize>>) {
    let Some(value) = section.value("provider") else {
        return (None, None);
    };
    if access.is_some_and(Access::is_open) {
        value
            .wrong("says where to log in, and the route's `access` asks nobody to")
            .at_key()
            .help("remove it, or use `access = \"user\"`")
            .push();
    }
    (value.text().map(str::to_owned), Some(value.place()))
}

/// The kinds of login that count, and where that is said.
pub(super) fn acr_values(section: &Section<'_>) -> (Vec<String>, Option<Range<usize>>) {
    let values = words(section, "acr_values", "kind of login");
    if values.iter().map(|value| value.len() + 1).sum::<usize>() > MAX_ACR_VALUES
        && let Some(value) = section.value("acr_values")
    {
        let complaint = value.wrong(format!("has more than {MAX_ACR_VALUES} characters in all"));
        complaint
            .help("they travel in addresses; name fewer")
            .push();
    }
    let place = section.value("acr_values").map(|value| value.place());
    (values, place)
}

/// Logins of a kind, where nobody says of which kind a login was: nobody could pass.
pub(super) fn refuse_kindless(report: &Report<'_>, placed: &Placed, providers: &Providers) {
    let kinds = &placed.route.acr_values;
    let Some(place) = placed.acr_values.as_ref().filter(|_| !kinds.is_empty()) else {
        return;
    };
    let named = placed.route.provider.as_deref();
    if named.is_some_and(|id| providers.tells_kind(id)) {
        return;
    }
    let message = match named {
        Some(id) => format!("{} does not tell of which kind a login was", quoted(id)),
        None => "says of which kind a login has to be, and not where".to_owned(),
    };
    let complaint = report.complaint(place.clone(), "route.acr_values", message);
    complaint
        .help("name the one that tells: `provider` with the `id` of a `[[provider]]` with `type = \"oidc\"`")
        .push();
}

/// The namespace of what the app keeps in sessions.
pub(super) fn session_data(
    section: &Section<'_>,
    access: Option<(&Access, &Value<'_>)>,
) -> Option<String> {
    let value = section.value("session_data");
    if let (None, Some((Access::Anonymous, place))) = (&value, access) {
        place
            .wrong("gives visitors a session for what the app keeps, and it keeps nothing")
            .help("add `session_data = \"shop\"`, or use `access = \"public\"`")
            .push();
    }
    value.as_ref().and_then(name)
}

/// The largest form that is kept when its session has ended. It lies in the store with the session, so it is no upload.
pub(super) fn keep_posts(section: &Section<'_>, access: Option<&Access>) -> Option<usize> {
    const LARGEST: u64 = 256 * 1024;
    let value = section.value("keep_posts")?;
    if matches!(access, Some(Access::Public | Access::Anonymous)) {
        value
            .wrong("keeps forms until somebody has logged in, and nobody has to here")
            .at_key()
            .help("remove it, or use `access = \"user\"`")
            .push();
    }
    let size = value.size_in(1..=LARGEST)?;
    usize::try_from(size).ok()
}

/// Browsers drop a cookie for a domain that the host is not below: a login there would never end.
pub(super) fn check_cookie_domain(
    value: &Value<'_>,
    (host, access): (&HostPattern, &Access),
    session: &Session<'_>,
) {
    let (HostPattern::Exact(name) | HostPattern::Wildcard(name)) = host;
    let domains = session.domain.iter().chain(&session.tickets.domain);
    for (domain, place) in domains.filter(|(domain, _)| !is_below(name, domain)) {
        if *access == Access::Public {
            continue;
        }
        let line = value.report().line(&place.place());
        let complaint = value.wrong(format!(
            "is not below the cookie's `domain` on line {line}, {}",
            quoted(&domain.to_ascii_lowercase())
        ));
        let help =
            "browsers would not send the session here; use a host below it, or leave `domain` out";
        complaint
            .other(place.place(), "where the session cookie goes")
            .help(help)
            .push();
    }
}

/// Whether browsers send a cookie of this domain to a host (RFC 6265, section 5.1.3). The host is in lower case.
pub(super) fn is_below(host: &str, domain: &str) -> bool {
    let rest = host.strip_suffix(&domain.to_ascii_lowercase());
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
