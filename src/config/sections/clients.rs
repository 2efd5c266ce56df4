//! `[clients]`, and what a route says about requests that come with a credential in place of a session.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::client_issuer;
use super::provider::Providers;
use crate::config::reader::{Section, Value, nearest, quoted};
use crate::login::IssuerSettings;
use crate::routing::{Access, Clients};

/// What a route may be used by.
#[derive(Clone, Copy, Eq, PartialEq)]
enum By {
    Basic,
    Jwt,
    Session,
    Token,
}

/// What programs may come with.
#[derive(Debug)]
pub(super) struct Credentials {
    /// The file of API tokens.
    pub(super) tokens: Option<PathBuf>,
    pub(super) issuers: Vec<IssuerSettings>,
}

pub(super) fn read(section: Section<'_>, providers: &mut Providers) -> Credentials {
    let tokens = section.path_to("tokens");
    let mut issuers = Vec::new();
    for issuer in section.sections("issuer") {
        let read = client_issuer::read(issuer, &issuers, providers);
        issuers.extend(read);
    }
    section.finish();
    Credentials { tokens, issuers }
}

/// `access_by`, and what goes with it; `None`: sessions alone, as ever.
pub(super) fn of_route(
    section: &Section<'_>,
    access: Option<&Access>,
    all: &Credentials,
) -> Option<Clients> {
    let choices = [
        ("session", By::Session),
        ("token", By::Token),
        ("jwt", By::Jwt),
        ("basic", By::Basic),
    ];
    let value = section.value("access_by");
    let list = section.strings("access_by");
    let by: Vec<By> = list
        .iter()
        .filter_map(|(_, value)| value.choice(&choices))
        .collect();
    let takes_tokens = by.iter().any(|by| *by != By::Session);
    let issuers = issuers(section, by.contains(&By::Jwt), all);
    let scopes = scopes(section);
    let pass_authorization = section.boolean("pass_authorization", false);
    let said = [
        ("scopes", !scopes.is_empty()),
        ("pass_authorization", pass_authorization),
    ];
    for (key, _) in said.into_iter().filter(|(_, said)| *said && !takes_tokens) {
        if let Some(value) = section.value(key) {
            value
                .wrong("is about tokens, and the route takes none")
                .at_key()
                .help("add `access_by = [\"session\", \"token\"]`, or remove it")
                .push();
        }
    }
    if let Some(value) = value.as_ref().filter(|_| list.is_empty()) {
        value
            .wrong("names nothing, so nobody could pass")
            .help("`access_by = [\"session\", \"token\"]`")
            .push();
    }
    if takes_tokens {
        refuse_what_needs_a_session(section, access);
    }
    takes_tokens.then_some(Clients {
        with_sessions: by.contains(&By::Session),
        tokens: by.contains(&By::Token),
        basic: by.contains(&By::Basic),
        issuers,
        scopes,
        pass_authorization,
    })
}

/// Whose tokens the route takes: those of all issuers, unless it names some.
fn issuers(section: &Section<'_>, takes_any: bool, all: &Credentials) -> BTreeSet<String> {
    let named = section.strings("issuers");
    match section.value("issuers") {
        Some(value) if !takes_any && !named.is_empty() => value
            .wrong("says whose tokens count, and the route takes none of other issuers")
            .at_key()
            .help("add `access_by = [\"jwt\"]`, or remove it")
            .push(),
        Some(value) if takes_any && named.is_empty() => value
            .wrong("names nobody, so no token would count")
            .help("the `id` of a `[[clients.issuer]]`; without it all of them count")
            .push(),
        _ => {}
    }
    if !takes_any {
        return BTreeSet::new();
    }
    let known = || all.issuers.iter().map(|issuer| issuer.id.as_str());
    if let Some(value) = section
        .value("access_by")
        .filter(|_| known().next().is_none())
    {
        value
            .wrong("takes tokens of other issuers, and there is none")
            .help("add `[[clients.issuer]]` with `id`, `issuer` and `audience`")
            .push();
    }
    for (text, value) in named
        .iter()
        .filter(|(text, _)| !known().any(|id| id == *text))
    {
        let help = match nearest(text, known()) {
            Some(meant) => format!("did you mean {}?", quoted(meant)),
            None => "the `id` of a `[[clients.issuer]]`".to_owned(),
        };
        let complaint = value.wrong(format!("there is no issuer {}", quoted(text)));
        complaint.help(help).push();
    }
    if named.is_empty() {
        return known().map(str::to_owned).collect();
    }
    named.iter().map(|(text, _)| (*text).to_owned()).collect()
}

fn scopes(section: &Section<'_>) -> BTreeSet<String> {
    let texts = section.strings("scopes");
    let scopes = texts.iter().filter(|(text, value)| is_scope(text, value));
    scopes.map(|(text, _)| (*text).to_owned()).collect()
}

/// A credential is no login and has no session to keep things in.
fn refuse_what_needs_a_session(section: &Section<'_>, access: Option<&Access>) {
    let asks_nobody = access.is_some_and(Access::is_open);
    for key in ["acr_values", "session_data", "cookie_jar", "max_auth_age"] {
        if let Some(value) = section.value(key) {
            value
                .wrong("needs a session, which who comes with a token has not")
                .at_key()
                .help("make a route of its own for tokens, with a longer path")
                .push();
        }
    }
    if let Some(value) = section.value("access_by").filter(|_| asks_nobody) {
        value
            .wrong("says how people show who they are, where `access` asks nobody")
            .at_key()
            .help("remove it, or use `access = \"user\"`")
            .push();
    }
}

fn is_scope(text: &str, value: &Value<'_>) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte);
    let is_scope = text.len() <= 64 && text.bytes().all(plain);
    if !is_scope {
        value
            .wrong(format!("{} is no scope", quoted(text)))
            .help("letters, digits and `-_.:/@`, at most 64, like \"reports:read\"")
            .push();
    }
    is_scope
}
