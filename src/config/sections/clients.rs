//! `[clients]`, and what a route says about requests that come with a credential in place of a session.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::config::reader::{Section, Value, quoted};
use crate::routing::{Access, Clients};

/// What a route may be used by.
#[derive(Clone, Copy, Eq, PartialEq)]
enum By {
    Session,
    Token,
}

/// The file of API tokens; `file` is the configuration.
pub(super) fn tokens(section: Section<'_>) -> Option<PathBuf> {
    let tokens = section.path_to("tokens");
    section.finish();
    tokens
}

/// `access_by`, and what goes with it; `None`: sessions alone, as ever.
pub(super) fn of_route(section: &Section<'_>, access: Option<&Access>) -> Option<Clients> {
    let choices = [("session", By::Session), ("token", By::Token)];
    let value = section.value("access_by");
    let list = section.strings("access_by");
    let by: Vec<By> = list
        .iter()
        .filter_map(|(_, value)| value.choice(&choices))
        .collect();
    let takes_tokens = by.contains(&By::Token);
    let scopes = scopes(section);
    let pass_authorization = section.boolean("pass_authorization", false);
    let said = [
        ("scopes", !scopes.is_empty()),
        ("pass_authorization", pass_authorization),
    ];
    for (key, _) in said.into_iter().filter(|(_, said)| *said && !takes_tokens) {
        if let Some(value) = section.value(key) {
            value
                .wrong("is about API tokens, and the route takes none")
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
        scopes,
        pass_authorization,
    })
}

fn scopes(section: &Section<'_>) -> BTreeSet<String> {
    let texts = section.strings("scopes");
    let scopes = texts.iter().filter(|(text, value)| is_scope(text, value));
    scopes.map(|(text, _)| (*text).to_owned()).collect()
}

/// A credential is no login and has no session to keep things in.
fn refuse_what_needs_a_session(section: &Section<'_>, access: Option<&Access>) {
    let asks_nobody = access.is_some_and(Access::is_open);
    for key in ["session_data", "max_auth_age"] {
        if let Some(value) = section.value(key) {
            value
                .wrong("needs a session, which who comes with an API token has not")
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
