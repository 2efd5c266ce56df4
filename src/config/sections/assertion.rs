//! `[identity.assertion]` and what a route says about it: the signed statement of who the user is.

use std::time::Duration;

use super::identity::Identity;
use crate::config::reader::{Section, Value, quoted};
use crate::identity::{Algorithm, AssertionSettings};

/// Of an issuer and of an audience, in bytes.
const LONGEST_NAME: usize = 256;

/// Less would have apps refuse requests that were under way for a while.
const SHORTEST: Duration = Duration::from_secs(30);

/// The settings, and whether every route's app gets assertions.
pub(super) fn settings(own: Section<'_>) -> (AssertionSettings, bool) {
    let defaults = AssertionSettings::default();
    let issuer = own.value("issuer");
    let issuer = issuer.and_then(|value| value.text().filter(|text| is_name(text, &value)));
    let algorithms = Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
    let lifetime = own.value("lifetime");
    let lifetime =
        lifetime.and_then(|value| value.duration_in(SHORTEST..=AssertionSettings::LONGEST));
    let settings = AssertionSettings {
        issuer: issuer.map_or(defaults.issuer, str::to_owned),
        algorithm: own
            .choice("algorithm", &algorithms)
            .unwrap_or(defaults.algorithm),
        lifetime: lifetime.unwrap_or(defaults.lifetime),
    };
    let everywhere = own.boolean("all_routes", false);
    own.finish();
    (settings, everywhere)
}

/// Of a route, `true`, `false` or an audience: for whom the assertions are that its app gets. `place` is host and path.
pub(super) fn of_route(
    section: &Section<'_>,
    identity: &Identity,
    place: impl FnOnce() -> Option<String>,
) -> Option<String> {
    let Some(value) = section.value("assertion") else {
        return identity.asserts_everywhere.then(place)?;
    };
    if let Some(text) = value.as_text() {
        let audience = value.text().filter(|text| is_name(text, &value));
        if matches!(text, "true" | "false") {
            value
                .wrong(format!("{} in quotes is an audience", quoted(text)))
                .help(format!("write {text} without quotes"))
                .push();
        }
        return audience.map(str::to_owned);
    }
    value.boolean()?.then(place)?
}

/// What programs compare letter by letter.
pub(super) fn is_name(text: &str, value: &Value<'_>) -> bool {
    let is_one = text.len() <= LONGEST_NAME && text.bytes().all(|b| b.is_ascii_graphic());
    if !is_one {
        value
            .wrong(format!(
                "{} is no name that apps could compare",
                quoted(text)
            ))
            .help(format!(
                "letters, digits and signs without spaces, at most {LONGEST_NAME}, like \"wiki\""
            ))
            .push();
    }
    is_one
}
