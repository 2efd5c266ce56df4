//! `[identity]`: the header fields that tell apps who the user is.

use http::HeaderName;

use super::assertion;
use super::headers::{self, Side};
use crate::config::reader::{Section, quoted};
use crate::identity::{AssertionSettings, FoldedNames, HeaderLayout, Preset};

#[derive(Debug)]
pub(super) struct Identity {
    pub(super) layout: HeaderLayout,
    /// All names of its kind, which no route may set by itself.
    pub(super) names: FoldedNames,
    pub(super) assertion: AssertionSettings,
    /// Every route's app gets assertions, unless the route says otherwise.
    pub(super) asserts_everywhere: bool,
}

pub(super) fn read(section: Section<'_>) -> Identity {
    let preset = section.value("preset");
    let choices = [
        ("remote", Some(Preset::Remote)),
        ("x-forwarded", Some(Preset::XForwarded)),
        ("x-auth-request", Some(Preset::XAuthRequest)),
        ("none", None),
    ];
    let chosen = section
        .choice("preset", &choices)
        .unwrap_or(Some(Preset::Remote));
    let headers = section.value("headers");
    if let (Some(preset), Some(headers)) = (&preset, &headers) {
        let line = section.report().line(&preset.place());
        let complaint = headers
            .wrong(format!("cannot be together with `preset` on line {line}"))
            .at_key();
        complaint
            .other(preset.place(), "names of a preset")
            .help("keep one of the two")
            .push();
    }
    let own = headers
        .as_ref()
        .map(|_| own_names(section.section("headers")));
    let (assertion, asserts_everywhere) = assertion::settings(section.section("assertion"));
    section.finish();
    let layout = match own {
        Some([user, name, email, groups]) => HeaderLayout {
            user,
            name,
            email,
            groups,
        },
        None => chosen.map_or_else(HeaderLayout::none, HeaderLayout::preset),
    };
    let names = FoldedNames::identity(&layout);
    Identity {
        layout,
        names,
        assertion,
        asserts_everywhere,
    }
}

fn own_names(section: Section<'_>) -> [Option<HeaderName>; 4] {
    let mut seen: Vec<HeaderName> = Vec::new();
    let mut name = |key| {
        let value = section.value(key)?;
        let text = value.text()?;
        let name = headers::name(&value, text, false)?;
        if let Some(reason) = headers::reserved(&name, Side::Identity) {
            value
                .wrong(format!("{} {reason}", quoted(text)))
                .help("take a name of its own, like \"X-Auth-User\"")
                .push();
        }
        if seen.iter().any(|other| headers::same(other, &name)) {
            value
                .wrong(format!("{} is used twice", quoted(text)))
                .help("each needs a name of its own")
                .push();
        }
        seen.push(name.clone());
        Some(name)
    };
    let names = ["user", "name", "email", "groups"].map(&mut name);
    if seen.is_empty() && section.is_empty() {
        let complaint = section.missing("headers", "names no header");
        complaint
            .help("for example `headers = { user = \"X-Auth-User\", groups = \"X-Auth-Groups\" }`")
            .push();
    }
    section.finish();
    names
}
