//! `preset` of a provider of type `oidc`: what an operator would look up in its documentation. Whatever the file says wins;
//! what cannot work there is refused with the reason. Who a user is stays `sub`: names can change hands everywhere.

use url::Url;

use crate::config::reader::{Section, Value, quoted};
use crate::login::is_loopback;

/// What is known of a provider beforehand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Preset {
    Auth0,
    Entra,
    Gitlab,
    Google,
    Keycloak,
    Okta,
}

pub(super) const PRESETS: [(&str, Preset); 6] = [
    ("auth0", Preset::Auth0),
    ("entra", Preset::Entra),
    ("gitlab", Preset::Gitlab),
    ("google", Preset::Google),
    ("keycloak", Preset::Keycloak),
    ("okta", Preset::Okta),
];

impl Preset {
    /// Of those that are the same for everybody.
    pub(super) const fn issuer(self) -> Option<&'static str> {
        match self {
            Self::Gitlab => Some("https://gitlab.com"),
            Self::Google => Some("https://accounts.google.com"),
            Self::Auth0 | Self::Entra | Self::Keycloak | Self::Okta => None,
        }
    }

    /// What its own form of an issuer looks like.
    pub(super) const fn example(self) -> &'static str {
        match self {
            Self::Auth0 => "issuer = \"https://example.eu.auth0.com/\"",
            Self::Entra => {
                "issuer = \"https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0\""
            }
            Self::Gitlab => "issuer = \"https://gitlab.example.com\"",
            Self::Google => "issuer = \"https://accounts.google.com\"",
            Self::Keycloak => "issuer = \"https://login.example.com/realms/corp\"",
            Self::Okta => "issuer = \"https://example.okta.com\"",
        }
    }

    /// What people choose it by.
    pub(super) const fn label(self) -> Option<&'static str> {
        match self {
            Self::Entra => Some("Microsoft"),
            Self::Gitlab => Some("GitLab"),
            Self::Google => Some("Google"),
            Self::Auth0 | Self::Keycloak | Self::Okta => None,
        }
    }

    /// The claim that holds a user's groups.
    pub(super) const fn groups(self) -> Option<&'static str> {
        match self {
            Self::Entra | Self::Gitlab | Self::Okta => Some("groups"),
            Self::Keycloak => Some("realm_access.roles"),
            // Auth0 has none until an action adds one; Google never tells.
            Self::Auth0 | Self::Google => None,
        }
    }

    /// Whether its ID tokens leave out what `profile`, `email` and groups are asked for, and its user-info endpoint does not.
    pub(super) const fn asks_for_user_info(self) -> bool {
        matches!(self, Self::Gitlab | Self::Okta)
    }

    /// What is asked for beside `openid`.
    pub(super) fn scopes(self, issuer: &str, refreshes: bool) -> Vec<String> {
        let mut scopes = vec!["profile", "email"];
        // The servers that an organization makes itself know this one only where it was added to them.
        if self == Self::Okta && !issuer.contains("/oauth2/") {
            scopes.push("groups");
        }
        // Keycloak and GitLab give refresh tokens without it, and it would make Keycloak's outlive its session.
        if refreshes && matches!(self, Self::Auth0 | Self::Entra | Self::Okta) {
            scopes.push("offline_access");
        }
        scopes.into_iter().map(str::to_owned).collect()
    }

    /// Reports an issuer that such a provider never has: it would be looked for in vain, or let everybody in.
    pub(super) fn check_issuer(self, value: &Value<'_>, issuer: &str) {
        let url = Url::parse(issuer).ok();
        let mut parts = url.as_ref().and_then(Url::path_segments);
        let parts: Vec<&str> = parts.as_mut().map(Iterator::collect).unwrap_or_default();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
        let told = quoted(issuer);
        let wrong = match self {
            Self::Entra => match parts.as_slice() {
                [tenant, "v2.0"] if is_guid(tenant) => return,
                ["common" | "organizations" | "consumers", ..] => format!(
                    "{told} is no tenant: every organization's users would log in, as whoever their own tenant says that they are"
                ),
                _ => format!("{told} does not name a tenant by its ID, and version 2.0"),
            },
            Self::Auth0 if parts.as_slice() != [""] || !issuer.ends_with('/') => {
                format!("{told} does not end as Auth0's issuers do, in a `/` after the host")
            }
            Self::Keycloak if !has_realm(&parts) => format!("{told} names no realm"),
            Self::Google if !is_google(issuer, url.as_ref()) => {
                format!("{told} is not Google's issuer")
            }
            Self::Okta if host.ends_with("-admin.okta.com") => {
                format!("{told} is where Okta is administered")
            }
            Self::Gitlab if issuer.ends_with('/') => {
                format!("{told} does not end as GitLab's issuers do, without a `/`")
            }
            _ => return,
        };
        value
            .wrong(wrong)
            .help(format!("like `{}`", self.example()))
            .push();
    }

    /// Reports what does not work there.
    pub(super) fn check_rest(self, section: &Section<'_>) {
        if self != Self::Google {
            return;
        }
        let refuse = |key: &'static str, is_so: fn(&Value<'_>) -> bool, why: &str| {
            if let Some(value) = section.value(key).filter(is_so) {
                value
                    .wrong(why)
                    .at_key()
                    .help("remove it; the default works")
                    .push();
            }
        };
        refuse(
            "refresh",
            |value| value.boolean() == Some(true),
            "Google gives refresh tokens to who asks for another kind of access only, which Doorward does not",
        );
        refuse(
            "logout",
            |value| value.as_text() == Some("provider"),
            "Google has no address for logging out",
        );
    }
}

/// `hosted_domain`: whose accounts are let in. Without it everybody has one.
pub(super) fn hosted_domains(section: &Section<'_>, preset: Option<Preset>) -> Vec<String> {
    let Some(value) = section.value("hosted_domain") else {
        return Vec::new();
    };
    if preset != Some(Preset::Google) {
        let complaint = value.wrong("is what Google calls an organization").at_key();
        let help = "write `preset = \"google\"`, or remove it";
        complaint.help(help).push();
    }
    let mut domains = Vec::new();
    for value in value.one_or_list() {
        let Some(text) = value.text() else { continue };
        let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b);
        if text.bytes().all(is_name) && text.contains('.') {
            domains.push(text.to_owned());
        } else {
            value
                .wrong(format!("{} is not a domain", quoted(text)))
                .help("the organization's first domain in lower case, like \"example.com\"")
                .push();
        }
    }
    if domains.is_empty() && value.is_list() {
        value
            .wrong("names no domain, so nobody could log in")
            .help("leave it out to let in everybody with an account at Google")
            .push();
    }
    domains
}

/// Google's, or what is tried in its place on this machine.
fn is_google(issuer: &str, url: Option<&Url>) -> bool {
    issuer == "https://accounts.google.com" || url.is_some_and(is_loopback)
}

fn has_realm(parts: &[&str]) -> bool {
    let mut pairs = parts.windows(2);
    pairs.any(|pair| matches!(pair, ["realms", realm] if !realm.is_empty()))
}

fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    let is_plain = |b: u8| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(is_plain)
}
