//! `[[provider]]`: ways to log in. Local users are here, directories in `provider_ldap`, providers elsewhere in
//! `provider_oidc`, login pages of apps in `provider_external`.

use std::ops::Range;
use std::time::Duration;

use url::Url;

use super::provider_external::{self, Place};
use super::provider_passkeys::{self, RpId};
use super::{provider_ldap, provider_oauth2, provider_oidc};
use crate::config::reader::{Section, Value, quoted};
use crate::login::{Kind, LocalSettings, Requirement, Settings, TOKENS};

#[derive(Debug)]
pub(super) struct Provider {
    pub(super) settings: Settings,
}

/// Those that could be read, and whether any were meant to be there.
#[derive(Debug, Default)]
pub(super) struct Providers {
    read: Vec<Provider>,
    /// Where each id was given first.
    ids: Vec<(String, Range<usize>)>,
    local: Option<Range<usize>>,
    rp_id: Option<RpId>,
    /// The login pages of apps, by id.
    external: Vec<(String, Place)>,
    pub(super) any: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Type {
    External,
    Ldap,
    Local,
    OAuth2,
    Oidc,
}

impl Providers {
    /// Whether there is one of this id.
    pub(super) fn has(&self, id: &str) -> bool {
        self.ids.iter().any(|(known, _)| known == id)
    }

    /// The login pages of apps, each with its provider's id.
    pub(super) fn external(&self) -> impl Iterator<Item = (&str, &Place)> {
        self.external.iter().map(|(id, place)| (id.as_str(), place))
    }

    /// Whether users who log in at this one, or at any, can show when they did.
    pub(super) fn tell_when(&self, id: Option<&str>) -> bool {
        let counts = |provider: &&Provider| id.is_none_or(|id| provider.settings.id == id);
        let mut all = self.read.iter().filter(counts).peekable();
        let is_silent = |provider: &Provider| matches!(provider.settings.kind, Kind::OAuth2(_));
        all.peek().is_none() || !all.all(is_silent)
    }

    /// Whether this one says of which kind a login was, as far as it could be read.
    pub(super) fn tells_kind(&self, id: &str) -> bool {
        let mut all = self.read.iter();
        let found = all.find(|provider| provider.settings.id == id);
        found.is_none_or(|found| matches!(found.settings.kind, Kind::Oidc(_)))
    }

    pub(super) fn rp_id(&self) -> Option<&RpId> {
        self.rp_id.as_ref()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().map(|(id, _)| id.as_str())
    }
}

impl IntoIterator for Providers {
    type IntoIter = std::vec::IntoIter<Provider>;
    type Item = Provider;

    fn into_iter(self) -> Self::IntoIter {
        self.read.into_iter()
    }
}

pub(super) fn read(sections: Vec<Section<'_>>) -> Providers {
    let mut providers = Providers {
        any: !sections.is_empty(),
        ..Providers::default()
    };
    for section in sections {
        let read = provider(section, &mut providers);
        providers.read.extend(read);
    }
    providers
}

fn provider(section: Section<'_>, others: &mut Providers) -> Option<Provider> {
    let id = section
        .required("id", "id = \"local\"")
        .and_then(|value| own_id(&value, others));
    let kind = match section.required("type", "type = \"local\"") {
        Some(value) => kind(&value),
        None => Some(Type::Local),
    };
    let mut name = section.value("name").and_then(|value| label(&value));
    let kind = match kind {
        Some(Type::External) => provider_external::read(&section).map(|(settings, place)| {
            others.external.extend(id.clone().zip(Some(place)));
            Kind::External(settings)
        }),
        Some(Type::Ldap) => provider_ldap::read(&section).map(Box::new).map(Kind::Ldap),
        Some(Type::Local) => {
            refuse_second(&section, others);
            local(&section, others).map(Kind::Local)
        }
        Some(Type::OAuth2) => {
            name = name.or_else(|| provider_oauth2::label(&section).map(str::to_owned));
            provider_oauth2::read(&section)
                .map(Box::new)
                .map(Kind::OAuth2)
        }
        Some(Type::Oidc) => {
            name = name.or_else(|| provider_oidc::label(&section).map(str::to_owned));
            provider_oidc::read(&section).map(Box::new).map(Kind::Oidc)
        }
        // Nothing is known of its keys.
        None => return None,
    };
    section.finish();
    let kind = kind?;
    let name = name.unwrap_or_else(|| default_name(&kind));
    Some(Provider {
        settings: Settings {
            id: id?,
            name,
            kind,
        },
    })
}

fn kind(value: &Value<'_>) -> Option<Type> {
    if value.as_text() == Some("ldap") && cfg!(not(feature = "ldap")) {
        let complaint = value.wrong("this build has no ldap");
        complaint
            .help("build it with `--features ldap`, or take the default ones")
            .push();
    }
    value.choice(&[
        ("external", Type::External),
        ("ldap", Type::Ldap),
        ("local", Type::Local),
        ("oauth2", Type::OAuth2),
        ("oidc", Type::Oidc),
    ])
}

fn local(section: &Section<'_>, others: &mut Providers) -> Option<LocalSettings> {
    let users = section
        .required("users", "users = \"users.toml\"")
        .and_then(|value| value.path());
    let max_attempts = section.integer_in("max_attempts", 1..=10_000).unwrap_or(10);
    let second_factor = section
        .value("second_factor")
        .and_then(|value| {
            value.choice(&[
                ("optional", Requirement::Optional),
                ("required", Requirement::Required),
            ])
        })
        .unwrap_or_default();
    let attempt_window = section.duration("attempt_window", Duration::from_mins(15));
    let rp_id = provider_passkeys::read(section);
    others.rp_id.clone_from(&rp_id);
    Some(LocalSettings {
        users: users?,
        max_attempts,
        attempt_window,
        rp_id: rp_id.map(|(domain, _)| domain),
        second_factor,
    })
}

fn refuse_second(section: &Section<'_>, others: &mut Providers) {
    let Some(first) = &others.local else {
        others.local = Some(section.place());
        return;
    };
    let line = section.report().line(first);
    let complaint = section.wrong(format!(
        "a second provider of local users; the first one is on line {line}"
    ));
    complaint
        .other(first.clone(), "first here")
        .help("there can be one, beside any number of other types; remove one of them")
        .push();
}

/// It stands in paths, logs and sessions, and tells the users of one provider from those of another.
pub(super) fn own_id(value: &Value<'_>, others: &mut Providers) -> Option<String> {
    let text = value.text()?;
    let plain = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !plain || text.len() > 32 {
        let complaint = value.wrong(format!("{} is not an id", quoted(text)));
        complaint
            .help("lower-case letters, digits and hyphens, at most 32, like \"local\"")
            .push();
    }
    if text == TOKENS {
        value
            .wrong(format!(
                "{} is what users of API tokens are known by",
                quoted(text)
            ))
            .help("take another one, like \"local\"")
            .push();
    }
    match others.ids.iter().find(|(known, _)| known == text) {
        Some((_, first)) => {
            let line = value.report().line(first);
            let complaint = value.wrong(format!(
                "{} is the id of the provider on line {line}",
                quoted(text)
            ));
            complaint
                .other(first.clone(), "first here")
                .help("give each its own: users of one are not those of another")
                .push();
        }
        None => others.ids.push((text.to_owned(), value.place())),
    }
    Some(text.to_owned())
}

fn label(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.chars().count() > 60 || text.contains(char::is_control) {
        let complaint = value.wrong(format!("{} is not a name for a button", quoted(text)));
        complaint
            .help("a few words, at most 60 characters, like \"Corporate account\"")
            .push();
    }
    Some(text.to_owned())
}

fn default_name(kind: &Kind) -> String {
    match kind {
        Kind::External(external) => match &external.host {
            Some((host, _)) => host.clone(),
            None => "Account of the app".to_owned(),
        },
        Kind::Ldap(_) => "Directory account".to_owned(),
        Kind::Local(_) => "User name and password".to_owned(),
        Kind::OAuth2(site) => {
            let host = site.places.authorization.host_str();
            host.unwrap_or_default().to_owned()
        }
        Kind::Oidc(oidc) => {
            let url = Url::parse(&oidc.issuer).ok();
            let host = url.as_ref().and_then(Url::host_str);
            host.unwrap_or(&oidc.issuer).to_owned()
        }
    }
}
