//! `[[route]]`: what it matches. Its paths are in `route_path`, who may pass in `route_access`, how requests are sent on in
//! `route_traffic`.

use std::ops::Range;

use http::Method;

use super::assertion;
use super::clients::{self, Credentials};
use super::headers;
use super::identity::Identity;
use super::provider::Providers;
use super::provider_passkeys;
use super::route_access::{
    access, acr_values, caching, check_cookie_domain, keep_posts, max_auth_age, provider,
    refuse_kindless, session_data,
};
use super::route_cors;
use super::route_jar;
use super::route_login;
use super::route_logout;
use super::route_path::{add_prefix, oddities, route_path};
use super::route_traffic as traffic;
use super::session::Session;
use super::upstream::Upstreams;
use crate::config::reader::{Report, Section, Value, nearest, quoted, show_duration};
use crate::routing::{Access, HostPattern, Route};
use crate::upstream::Target;

#[derive(Debug, Default)]
pub(super) struct Routing {
    pub(super) routes: Vec<Placed>,
    pub(super) upstreams: Vec<Target>,
    /// Whether there are any, readable or not.
    any: bool,
}

impl Placed {
    pub(super) fn header(&self) -> Range<usize> {
        self.header.clone()
    }
}

#[derive(Debug)]
pub(super) struct Placed {
    pub(super) route: Route,
    pub(super) may_log_in: Option<Range<usize>>,
    header: Range<usize>,
    access: Range<usize>,
    provider: Option<Range<usize>>,
    pub(super) acr_values: Option<Range<usize>>,
}

/// In place of an app: another proxy sends requests on, and asks here (forward-auth).
const ASKED_ABOUT: &str = "none";

/// What a route is measured against.
pub(super) struct Around<'s, 'a> {
    pub(super) session: &'s Session<'a>,
    pub(super) identity: &'s Identity,
    pub(super) clients: &'s Credentials,
}

pub(super) fn read(sections: Vec<Section<'_>>, around: &Around<'_, '_>) -> Routing {
    let any = !sections.is_empty();
    let mut upstreams = Upstreams::default();
    let routes = sections
        .into_iter()
        .filter_map(|section| route(section, around, &mut upstreams))
        .collect();
    Routing {
        routes,
        upstreams: upstreams.into_targets(),
        any,
    }
}

/// What no route shows alone: two that nothing tells apart, users without a way to log in, nothing served at all.
pub(super) fn judge_together(
    root: &Section<'_>,
    routing: &Routing,
    (providers, trusts_nobody, is_edge): (&Providers, bool, bool),
) {
    if !routing.any {
        let help = "add one: `[[route]]` with `host`, `access` and `upstream`";
        root.missing("route", "no route is given, so nothing would be served")
            .help(help)
            .push();
    }
    let report = root.report();
    for (index, later) in routing.routes.iter().enumerate() {
        let mut earlier = routing.routes.iter().take(index);
        if let Some(first) = earlier.find(|first| overlap(&first.route, &later.route)) {
            refuse_twin(report, first, later);
        }
    }
    for placed in &routing.routes {
        refuse_stranger(report, placed, providers);
        refuse_timeless(report, placed, providers);
        refuse_kindless(report, placed, providers);
    }
    route_login::judge(report, &routing.routes, providers);
    provider_passkeys::judge(report, &routing.routes, providers.rp_id());
    let is_asked_about = |placed: &&Placed| placed.route.upstream.is_none();
    if let (Some(placed), true) = (routing.routes.iter().find(is_asked_about), trusts_nobody) {
        let line = report.line(&placed.header);
        let message = format!(
            "the route on line {line} is for other proxies to ask about, and none of them is trusted"
        );
        root.missing("server.trusted_proxies", &message)
            .help("name their addresses: `trusted_proxies = [\"127.0.0.1\"]`")
            .push();
    }
    let guarded = routing
        .routes
        .iter()
        .find(|placed| needs_a_login(&placed.route));
    if let (Some(guarded), false) = (guarded, providers.any || is_edge) {
        let line = report.line(&guarded.access);
        let message =
            format!("the route on line {line} needs a user, and there is no way to log in");
        let complaint = root
            .missing("provider", &message)
            .other(guarded.access.clone(), "nobody could pass");
        complaint.help("add `[[provider]]` with `id = \"local\"`, `type = \"local\"` and `users = \"users.toml\"`").push();
    }
}

fn needs_a_login(route: &Route) -> bool {
    let takes_sessions = route
        .clients
        .as_ref()
        .is_none_or(|clients| clients.with_sessions);
    takes_sessions && !route.access.is_open()
}

fn overlap(a: &Route, b: &Route) -> bool {
    a.host == b.host && a.path == b.path && a.shares_methods(b)
}

fn refuse_twin(report: &Report<'_>, first: &Placed, later: &Placed) {
    let line = report.line(&first.header);
    let message = format!(
        "nothing tells it apart from the route on line {line}: both are {}",
        later.route.id
    );
    let complaint = report.complaint(later.header.clone(), "route", message);
    complaint
        .other(first.header.clone(), "the same host and path")
        .help("change host or path, or give each its `methods`")
        .push();
}

/// A way to log in that is not there: nobody could pass.
fn refuse_stranger(report: &Report<'_>, placed: &Placed, providers: &Providers) {
    let (Some(id), Some(place)) = (&placed.route.provider, &placed.provider) else {
        return;
    };
    if providers.has(id) || !providers.any {
        return;
    }
    let message = format!("there is no provider {}", quoted(id));
    let complaint = report.complaint(place.clone(), "route.provider", message);
    let help = match nearest(id, providers.names()) {
        Some(meant) => format!("did you mean {}?", quoted(meant)),
        None => "the `id` of a `[[provider]]`".to_owned(),
    };
    complaint.help(help).push();
}

/// A login that is to be young, where no provider says how old one is: nobody could pass.
fn refuse_timeless(report: &Report<'_>, placed: &Placed, providers: &Providers) {
    let route = &placed.route;
    if route.max_auth_age.is_none() || providers.tell_when(route.provider.as_deref()) {
        return;
    }
    let place = placed.provider.as_ref().unwrap_or(&placed.header);
    let message = "nobody could show a login as young as `max_auth_age` says: with OAuth 2.0 no provider tells when that was";
    let complaint = report.complaint(place.clone(), "route.provider", message.to_owned());
    complaint
        .help("remove `max_auth_age`, or name a provider of another type")
        .push();
}

fn route(
    section: Section<'_>,
    around: &Around<'_, '_>,
    upstreams: &mut Upstreams,
) -> Option<Placed> {
    let host = section.required("host", "host = \"wiki.example.com\"");
    let pattern = host.as_ref().and_then(host_pattern);
    let path = section
        .value("path")
        .map_or_else(|| Some("/".to_owned()), |value| route_path(&value));
    let methods = methods(&section);
    let access_value = section.required("access", "access = \"user\"");
    let access = access_value.as_ref().and_then(access);
    if let (Some(host), Some(pattern), Some(access)) = (&host, &pattern, &access) {
        check_cookie_domain(host, (pattern, access), around.session);
    }
    let upstream = section.required("upstream", "upstream = \"http://127.0.0.1:3000\"");
    let upstream = upstream.and_then(|value| behind(&value, upstreams));
    let target = upstream.flatten().and_then(|index| upstreams.target(index));
    let strip_prefix = traffic::strip_prefix(&section, path.as_deref().unwrap_or("/"));
    let add_prefix = add_prefix(&section);
    let send_host = traffic::send_host(&section, target);
    let timeouts = traffic::timeouts(section.section("timeouts"));
    let max_body = section.size_in("max_body", 0..=u64::MAX);
    let activity = section.boolean("activity", true);
    let idle_timeout = idle_timeout(&section, around.session);
    let max_auth_age = max_auth_age(&section, access.as_ref());
    let (provider, provider_place) = provider(&section, access.as_ref());
    let (acr_values, acr_place) = acr_values(&section);
    let (may_log_in, may_log_in_place) = route_login::may_log_in(&section, access.as_ref());
    let caching = caching(&section, access.as_ref().unwrap_or(&Access::User));
    let cors_origins = route_cors::origins(&section);
    let session_data = session_data(&section, access.as_ref().zip(access_value.as_ref()));
    let cookie_jar = route_jar::jar(&section, target);
    let keep_posts = keep_posts(&section, access.as_ref());
    let where_to = (pattern.as_ref(), path.as_deref());
    let (logout, on_end) = route_logout::read(&section, where_to, cookie_jar.is_some());
    let assertion = assertion::of_route(&section, around.identity, || audience(where_to));
    let clients = clients::of_route(&section, access.as_ref(), around.clients);
    let allow = oddities(&section);
    let (request_headers, response_headers) = headers::both(&section, around.identity);
    let header = section.place();
    section.finish();
    let (host, path) = (pattern?, path?);
    let route = Route {
        number: 0,
        id: id(&host, &path, &methods),
        host,
        path,
        methods,
        access: access?,
        provider,
        acr_values,
        may_log_in,
        cors_origins,
        clients,
        caching,
        session_data,
        cookie_jar,
        keep_posts,
        logout,
        on_end,
        assertion,
        upstream: upstream?,
        allow,
        idle_timeout,
        max_auth_age,
        activity,
        strip_prefix,
        add_prefix,
        send_host,
        timeouts,
        max_body,
        request_headers,
        response_headers,
    };
    let access = access_value?.place();
    Some(Placed {
        route,
        header,
        access,
        may_log_in: may_log_in_place,
        provider: provider_place,
        acr_values: acr_place,
    })
}

/// For whom an assertion is, where the route does not say.
fn audience((host, path): (Option<&HostPattern>, Option<&str>)) -> Option<String> {
    Some(format!("{}{}", host?, path?))
}

/// The app behind a route; `Some(None)`: there is none.
#[expect(
    clippy::option_option,
    reason = "the outer one is about errors, as elsewhere here"
)]
fn behind(value: &Value<'_>, upstreams: &mut Upstreams) -> Option<Option<usize>> {
    match value.as_text() {
        Some(ASKED_ABOUT) => Some(None),
        _ => upstreams.add(value).map(Some),
    }
}

fn id(host: &HostPattern, path: &str, methods: &[Method]) -> String {
    let methods: Vec<_> = methods.iter().map(Method::as_str).collect();
    let only = if methods.is_empty() {
        String::new()
    } else {
        format!(" {}", methods.join(","))
    };
    format!("{host}{path}{only}")
}

fn host_pattern(value: &Value<'_>) -> Option<HostPattern> {
    let text = value.text()?;
    let pattern = HostPattern::parse(text);
    if pattern.is_none() {
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        let bare = bare.split(['/', ':']).next().unwrap_or_default();
        let help = match HostPattern::parse(bare) {
            Some(host) if bare != text => format!("write \"{host}\", without scheme, port or path"),
            _ => "a name (\"wiki.example.com\"), an IP address, or \"*.example.com\" for all below it".to_owned(),
        };
        value
            .wrong(format!("{} is not a host", quoted(text)))
            .help(help)
            .push();
    }
    pattern
}

fn methods(section: &Section<'_>) -> Vec<Method> {
    let texts = section.strings("methods");
    let methods = texts.iter().filter_map(|(text, value)| method(text, value));
    methods.collect()
}

fn method(text: &str, value: &Value<'_>) -> Option<Method> {
    let method = Method::from_bytes(text.as_bytes()).ok();
    let upper = text.to_ascii_uppercase();
    if method.is_none() || upper != text {
        let complaint = value.wrong(format!("{} is not a method", quoted(text)));
        match Method::from_bytes(upper.as_bytes()) {
            Ok(method) => complaint.help(format!("write \"{method}\"")).push(),
            Err(_) => complaint.help("like \"GET\" or \"POST\"").push(),
        }
    }
    method
}

fn idle_timeout(section: &Section<'_>, session: &Session<'_>) -> Option<std::time::Duration> {
    let (length, value) = section.placed_duration("idle_timeout")?;
    let longest = session.settings.idle_timeout;
    if length > longest {
        let (long, short) = (show_duration(length), show_duration(longest));
        let help = "a route can end sessions earlier, never later";
        match &session.idle_timeout {
            Some(other) => {
                let line = section.report().line(&other.place());
                let complaint = value.wrong(format!(
                    "{long} is longer than the session's own on line {line} ({short})"
                ));
                complaint
                    .other(other.place(), "for every route")
                    .help(help)
                    .push();
            }
            None => value
                .wrong(format!("{long} is longer than the session's own ({short})"))
                .help(help)
                .push(),
        }
    }
    Some(length)
}
