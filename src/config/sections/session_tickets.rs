//! `mode` of `[session]`, and `[session.jwt]`: sessions that are also, or only, known by a short-lived signed cookie.

use std::collections::BTreeSet;

use super::assertion::is_name;
use super::route_access::is_below;
use super::session::no_domain;
use crate::config::StoreSettings;
use crate::config::reader::{Section, Value, quoted};
use crate::identity::Algorithm;
use crate::routing::split_authority;
use crate::session::{Claim, CookieName, Settings, TicketSettings};

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Mode {
    #[default]
    Opaque,
    Jwt,
    /// Signed cookies are all that the node knows.
    Edge,
}

impl Mode {
    /// Where a node that needs no store is to keep what it never has.
    pub(super) fn store(self, given: StoreSettings) -> StoreSettings {
        match self {
            Self::Edge => StoreSettings::Memory,
            Self::Jwt | Self::Opaque => given,
        }
    }
}

pub(super) fn mode(section: &Section<'_>) -> Mode {
    let modes = [
        ("opaque", Mode::Opaque),
        ("jwt", Mode::Jwt),
        ("edge", Mode::Edge),
    ];
    section.choice("mode", &modes).unwrap_or_default()
}

#[derive(Debug)]
pub(super) struct TicketSection<'a> {
    /// `None` in the ordinary mode.
    pub(super) settings: Option<TicketSettings>,
    /// Where the signed cookie goes, if that is further than the session's own.
    pub(super) domain: Option<(&'a str, Value<'a>)>,
    pub(super) edge_hosts: Vec<(String, Option<u16>)>,
}

pub(super) fn read<'a>(
    section: &Section<'a>,
    (mode, session): (Mode, &Settings),
    domain: Option<&(&str, Value<'_>)>,
) -> TicketSection<'a> {
    let is_on = mode != Mode::Opaque;
    let given = section.value("jwt");
    let own = section.section("jwt");
    if let (Some(given), false) = (&given, is_on) {
        given
            .wrong("is for sessions that are known by a signed cookie, and these are not")
            .at_key()
            .help("add `mode = \"jwt\"` to `[session]`, or remove the section")
            .push();
    }
    let issuer = own.value("issuer");
    let issuer = issuer.and_then(|value| value.text().filter(|text| is_name(text, &value)));
    let algorithms = Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
    let lifetime = own.value("lifetime");
    let range = TicketSettings::SHORTEST..=TicketSettings::LONGEST;
    let lifetime = lifetime.and_then(|value| value.duration_in(range));
    let wider = own.value("domain");
    let wider = wider.and_then(|value| Some((value.text()?, value)));
    let settings = TicketSettings {
        cookie: cookie(wider.as_ref(), session, domain.map(|(domain, _)| *domain)),
        lifetime: lifetime.unwrap_or(TicketSettings::LIFETIME),
        issuer: issuer.unwrap_or(TicketSettings::ISSUER).to_owned(),
        algorithm: own.choice("algorithm", &algorithms).unwrap_or_default(),
        readable: readable(&own),
    };
    let edge_hosts = own.strings("edges");
    let edge_hosts = edge_hosts
        .iter()
        .filter_map(|(text, value)| edge_host(text, value, wider.as_ref()));
    let edge_hosts = edge_hosts.collect();
    own.finish();
    TicketSection {
        settings: is_on.then_some(settings),
        domain: wider,
        edge_hosts,
    }
}

/// A host that a node without a store serves, with its port where that is not 443.
fn edge_host(
    text: &str,
    value: &Value<'_>,
    domain: Option<&(&str, Value<'_>)>,
) -> Option<(String, Option<u16>)> {
    let lower = text.to_ascii_lowercase();
    let Some((host, port)) = split_authority(&lower) else {
        value
            .wrong(format!("{} is no host", quoted(text)))
            .help("like \"app.example.com\" or \"app.example.com:8443\"")
            .push();
        return None;
    };
    if let Some((domain, _)) = domain.filter(|(domain, _)| !is_below(host, domain)) {
        value
            .wrong(format!("{} is not below {}", quoted(text), quoted(domain)))
            .help("browsers would not send the cookie there; `domain` is what the hosts of all nodes end in")
            .push();
    }
    Some((host.to_owned(), port))
}

/// Named after the session's own cookie. It may reach further than that one.
fn cookie(
    wider: Option<&(&str, Value<'_>)>,
    session: &Settings,
    domain: Option<&str>,
) -> CookieName {
    let base = format!("{}-jwt", session.cookie.base());
    let cookie = CookieName::new(&base, wider.map(|(domain, _)| *domain).or(domain));
    if let (None, Some((text, value))) = (&cookie, wider) {
        no_domain(text, value);
    }
    let plain = || CookieName::new("sid-jwt", None).unwrap_or_default();
    cookie.unwrap_or_else(plain)
}

/// What nodes without the secrets are to read.
fn readable(own: &Section<'_>) -> BTreeSet<Claim> {
    let choices = Claim::ALL.map(|claim| (claim.name(), claim));
    let given = own.strings("claims");
    let values = given.iter().map(|(_, value)| value);
    let readable: BTreeSet<Claim> = values.filter_map(|value| value.choice(&choices)).collect();
    if let (Some((_, first)), false) = (given.first(), readable.contains(&Claim::User)) {
        first
            .wrong("says something of somebody who is not named")
            .help("add \"user\" to the list")
            .push();
    }
    readable
}
