//! Where people log in, and whose word counts for what.

use super::{Judge, Routed, Rule};
use crate::audit::Severity::{High, Low, Medium};
use crate::audit::{Evidence, Fault};
use crate::login::{Kind, LdapSecurity, LdapServer, Mapping};
use crate::routing::Access;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "access-by-any-provider",
        requirements: &["ASVS 8.2.1"],
        why: "Each provider gives out names and groups as it likes: whoever is called so at one of them passes as if at the other.",
        judge: Judge::EachRoute(access_by_any_provider),
    },
    Rule {
        name: "unverified-email-as-user",
        requirements: &["ASVS 8.2.1"],
        why: "Where the provider lets people enter an address without showing that it is theirs, anybody is any user.",
        judge: Judge::Whole(unverified_email_as_user),
    },
    Rule {
        name: "app-logs-in",
        requirements: &["ASVS 8.2.1"],
        why: "Whoever controls this app, or answers in its place, is any user of its provider, with any groups.",
        judge: Judge::EachRoute(app_logs_in),
    },
    Rule {
        name: "provider-without-tls",
        requirements: &["ASVS 12.3.1"],
        why: "Whoever answers at that port of this machine says who people are.",
        judge: Judge::Whole(provider_without_tls),
    },
];

fn access_by_any_provider(evidence: &Evidence<'_>, routed: &Routed<'_>) -> Option<Fault> {
    let (route, providers) = (routed.route, evidence.settings.providers.len());
    let is_for_some = matches!(route.access, Access::Only { .. });
    if !is_for_some || route.provider.is_some() || providers < 2 {
        return None;
    }
    let set = format!("users or groups of any of {providers} providers");
    let fault = Fault::new(Medium, routed.key("access"), set);
    Some(fault.advise("`provider` on this route names the one whose users are meant"))
}

fn unverified_email_as_user(evidence: &Evidence<'_>) -> Option<Fault> {
    let is_guess = |mapping: &Mapping| !mapping.verified_email && mapping.user == mapping.email;
    let index = first(evidence, |kind| match kind {
        Kind::External(_) | Kind::Ldap(_) | Kind::Local(_) => false,
        Kind::OAuth2(site) => is_guess(&site.mapping),
        Kind::Oidc(oidc) => is_guess(&oidc.mapping),
    })?;
    let key = format!("provider[{index}].claims.verified_email");
    let fault = Fault::new(High, key, "users are who an unverified address says");
    Some(
        fault.advise(
            "`verified_email = true`, or another claim for `user`: \"sub\" is safe everywhere",
        ),
    )
}

fn app_logs_in(_: &Evidence<'_>, routed: &Routed<'_>) -> Option<Fault> {
    let route = routed.route;
    let provider = route.may_log_in.as_ref()?;
    let set = format!("users of {provider}, by whatever is below {}", route.id);
    let fault = Fault::new(Low, routed.key("may_log_in"), set);
    Some(fault.advise("only for the path that the login form is sent to, and `provider` on every route that is for one provider's users"))
}

/// The configuration allows it on this machine alone.
fn provider_without_tls(evidence: &Evidence<'_>) -> Option<Fault> {
    let index = first(evidence, |kind| match kind {
        Kind::External(_) | Kind::Local(_) => false,
        Kind::Ldap(ldap) => ldap.servers.iter().any(is_bare),
        Kind::OAuth2(site) => site.places.all().any(|place| place.scheme() == "http"),
        Kind::Oidc(oidc) => oidc.issuer.starts_with("http://"),
    })?;
    let key = match evidence.settings.providers.get(index).map(|it| &it.kind) {
        Some(Kind::Ldap(_)) => "start_tls",
        Some(Kind::OAuth2(_)) => "token_url",
        _ => "issuer",
    };
    let fault = Fault::new(Low, format!("provider[{index}].{key}"), "asked without TLS");
    let way = match key {
        "start_tls" => "`ldaps://`, or StartTLS",
        _ => "https",
    };
    Some(fault.advise(format!(
        "{way}, with `ca_file` where no public authority signs"
    )))
}

fn is_bare(server: &LdapServer) -> bool {
    let LdapServer::Tcp { security, .. } = server else {
        return false;
    };
    *security == LdapSecurity::None
}

/// The first provider that fits.
fn first(evidence: &Evidence<'_>, fits: impl Fn(&Kind) -> bool) -> Option<usize> {
    let mut providers = evidence.settings.providers.iter();
    providers.position(|provider| fits(&provider.kind))
}
