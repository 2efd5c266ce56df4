//! `[session.edge]`: a node that has public keys alone, and what such a node cannot do.

use std::path::PathBuf;

use http::Uri;
use url::Url;

use super::provider::Providers;
use super::route::Routing;
use super::store_authorities;
use crate::config::reader::{Section, Value, quoted};
use crate::config::{EdgeSettings, KeySource};
use crate::login::is_loopback;
use crate::routing::Access;
use crate::session::TicketKeys;

/// `None` where this is no such node, or what it needs is not there.
pub(super) fn read(section: &Section<'_>, is_edge: bool) -> Option<EdgeSettings> {
    let given = section.value("edge");
    let own = section.section("edge");
    let authorities = own.value("ca_file");
    let authorities = authorities.as_ref().and_then(store_authorities::read);
    if !is_edge {
        own.value("keys");
        own.value("renew");
        if let Some(given) = given {
            given
                .wrong("is for a node that has no store, and this one has")
                .at_key()
                .help("`mode = \"edge\"` in `[session]`, or remove the section")
                .push();
        }
        own.finish();
        return None;
    }
    if let Some(bind) = section.value("bind") {
        bind.wrong("cannot be judged at a node with `mode = \"edge\"`: it does not know where people logged in from")
            .at_key()
            .help("remove it; the main node judges it when it renews")
            .push();
    }
    let keys = own.required(
        "keys",
        "keys = \"https://login.example.com/.well-known/doorward/session-jwks.json\"",
    );
    let keys = keys.and_then(|value| source(&value, authorities));
    let renew = own.required(
        "renew",
        "renew = \"https://login.example.com/.doorward/renew\"",
    );
    let renew = renew.and_then(|value| renewal(&value));
    own.finish();
    Some(EdgeSettings {
        keys: keys?,
        renew: renew?,
    })
}

fn source(value: &Value<'_>, authorities: Option<Vec<u8>>) -> Option<KeySource> {
    let text = value.text()?;
    if !text.contains("://") {
        return file(value).map(KeySource::File);
    }
    let url = Url::parse(text).ok();
    let is_safe = url.is_some_and(|url| url.scheme() == "https" || is_loopback(&url));
    match text.parse::<Uri>() {
        Ok(url) if is_safe => Some(KeySource::Url { url, authorities }),
        _ => {
            value
                .wrong(format!(
                    "{} is no address that keys can be trusted from",
                    quoted(text)
                ))
                .help("https, or a file")
                .push();
            None
        }
    }
}

fn file(value: &Value<'_>) -> Option<PathBuf> {
    let path = value.path()?;
    if value.report().tolerates_missing() && !path.exists() {
        return Some(path);
    }
    let trouble = match std::fs::read(&path) {
        Err(error) => error.to_string(),
        Ok(json) => match TicketKeys::parse(&json) {
            Ok(_) => return Some(path),
            Err(error) => error.to_string(),
        },
    };
    value
        .wrong(format!("{} cannot be used: {trouble}", path.display()))
        .help("what the main node says at `/.well-known/doorward/session-jwks.json`")
        .push();
    None
}

fn renewal(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let url = Url::parse(text).ok().filter(|url| {
        url.scheme() == "https"
            && url.path() == "/.doorward/renew"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
    });
    if url.is_none() {
        value
            .wrong(format!(
                "{} is no address where the main node renews",
                quoted(text)
            ))
            .help("its own host, like \"https://login.example.com/.doorward/renew\"")
            .push();
    }
    url.map(|url| url.to_string())
}

/// What such a node has not, and what it cannot do for a route.
pub(super) fn judge(
    root: &Section<'_>,
    routing: &Routing,
    (providers, is_edge): (&Providers, bool),
) {
    if !is_edge {
        return;
    }
    let report = root.report();
    for key in ["provider", "store"] {
        if let Some(value) = root.value(key).filter(|_| key == "store" || providers.any) {
            value
                .wrong("is not for a node with `mode = \"edge\"`: it has no login and no store")
                .at_key()
                .help("remove it; the main node has them")
                .push();
        }
    }
    for placed in &routing.routes {
        let route = &placed.route;
        let cannot = [
            (route.access == Access::Anonymous, "access = \"anonymous\""),
            (!route.acr_values.is_empty(), "acr_values"),
            (route.assertion.is_some(), "assertion"),
            (route.clients.is_some(), "access_by"),
            (route.idle_timeout.is_some(), "idle_timeout"),
            (route.may_log_in.is_some(), "may_log_in"),
            (route.logout.is_some(), "logout"),
            (route.session_data.is_some(), "session_data"),
            (route.cookie_jar.is_some(), "cookie_jar"),
            (route.keep_posts.is_some(), "keep_posts"),
        ];
        for (_, what) in cannot.iter().filter(|(is_asked, _)| *is_asked) {
            let message = format!(
                "`{what}` needs the store or a secret, and a node with `mode = \"edge\"` has neither"
            );
            let complaint = report.complaint(placed.header(), "route", message);
            complaint.help("serve this route at the main node").push();
        }
    }
}
