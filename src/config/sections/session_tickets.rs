//! `mode` of `[session]`, and `[session.jwt]`: sessions that are also known by a short-lived signed cookie.

use std::collections::BTreeSet;

use super::assertion::is_name;
use super::session::no_domain;
use crate::config::reader::{Section, Value};
use crate::identity::Algorithm;
use crate::session::{Claim, CookieName, Settings, TicketSettings};

/// `None` in the ordinary mode.
pub(super) fn read(
    section: &Section<'_>,
    session: &Settings,
    domain: Option<&(&str, Value<'_>)>,
) -> Option<TicketSettings> {
    let modes = [("opaque", false), ("jwt", true)];
    let is_on = section.choice("mode", &modes).unwrap_or(false);
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
    let settings = TicketSettings {
        cookie: cookie(&own, session, domain.map(|(domain, _)| *domain)),
        lifetime: lifetime.unwrap_or(TicketSettings::LIFETIME),
        issuer: issuer.unwrap_or(TicketSettings::ISSUER).to_owned(),
        algorithm: own.choice("algorithm", &algorithms).unwrap_or_default(),
        readable: readable(&own),
    };
    own.finish();
    is_on.then_some(settings)
}

/// Named after the session's own cookie. It may reach further than that one.
fn cookie(own: &Section<'_>, session: &Settings, domain: Option<&str>) -> CookieName {
    let base = format!("{}-jwt", session.cookie.base());
    let wider = own
        .value("domain")
        .and_then(|value| Some((value.text()?, value)));
    let cookie = CookieName::new(&base, wider.as_ref().map(|(domain, _)| *domain).or(domain));
    if let (None, Some((text, value))) = (&cookie, &wider) {
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
