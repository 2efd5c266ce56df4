//! From a parsed file to [`Settings`]: one function per section, in the order of the file. Each reads all of its
//! section before any verdict, so that one run shows every error.

mod admin;
mod assertion;
mod client_issuer;
mod clients;
mod environment;
mod headers;
mod identity;
mod limits;
mod log;
mod provider;
mod provider_external;
mod provider_ldap;
mod provider_oauth2;
mod provider_oidc;
mod provider_passkeys;
mod provider_preset;
mod route;
mod route_access;
mod route_cors;
mod route_jar;
mod route_login;
mod route_logout;
mod route_path;
mod route_traffic;
mod server;
mod session;
mod session_data;
mod session_edge;
mod session_key;
mod session_rules;
mod session_tickets;
mod store;
mod store_authorities;
mod store_password;
mod store_postgres;
mod store_redis;
mod tls;
mod upstream;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use super::places::fingerprint;
use super::{Missing, Settings};
use toml::de::DeTable;

use self::route::Around;
use super::diagnostics::ConfigErrors;
use super::reader::{Report, Section, Value};
use crate::session as sessions;
use session_tickets::Mode;

pub(super) fn resolve(file: &Path, text: &str, missing: Missing) -> Result<Settings, ConfigErrors> {
    let report = Report::new(file, text, missing);
    let settings = read(&report, file);
    report.conclude(settings)
}

/// Every key that a file may hold, as `section.key`; `section.table.*` where names are free.
pub(super) fn known_keys() -> BTreeSet<String> {
    // One of each kind that is read only where it is there.
    const SHAPE: &str = "
        [server]
        admin_token = {}
        [tls]
        certificates = [{}]
        [session]
        secrets = [{}]
        remember_me = {}
        bind = {}
        data = {}
        jwt = {}
        edge = {}
        anonymous = {}
        namespace = [{ keys = [{}] }]
        group = [{}]
        [store]
        password = {}
        sentinel_password = {}
        [identity]
        headers = {}
        assertion = {}
        [clients]
        issuer = [{ claims = {} }]
        [[provider]]
        type = 'local'
        [[provider]]
        type = 'external'
        [[provider]]
        type = 'ldap'
        bind_password = {}
        attributes = {}
        [[provider]]
        type = 'oauth2'
        claims = {}
        [[provider]]
        type = 'oidc'
        client_secret = {}
        claims = {}
        [[route]]
        access = {}
        cookie_jar = {}
        logout = {}
        on_end = {}
        upstream = {}";
    let report = Report::new(Path::new(""), SHAPE, Missing::Refused);
    read(&report, Path::new(""));
    report.into_known()
}

/// `None` where a part is missing that nothing can stand in for; that has been reported then.
fn read(report: &Report<'_>, file: &Path) -> Option<Settings> {
    let text = report.legible();
    let (tree, _noted) = DeTable::parse_recoverable(&text);
    let root = Section::root(report, tree.get_ref());
    let server = server::read(root.section("server"));
    let limits = limits::read(root.section("limits"));
    let tls = tls::read(root.section("tls"));
    let session = session::read(root.section("session"));
    let store = store::read(root.section("store"));
    let identity = identity::read(root.section("identity"));
    let mut providers = provider::read(root.sections("provider"));
    let clients = clients::read(root.section("clients"), &mut providers);
    let around = Around {
        session: &session,
        identity: &identity,
        clients: &clients,
    };
    let routing = route::read(root.sections("route"), &around);
    let is_edge = session.mode == Mode::Edge;
    route::judge_together(
        &root,
        &routing,
        (&providers, server.trusted_proxies.is_empty(), is_edge),
    );
    session_edge::judge(&root, &routing, (&providers, is_edge));
    let log = log::read(root.section("log"));
    root.finish();

    let settings = Settings {
        file: file.to_owned(),
        fingerprint: fingerprint(report.source()),
        listen: server.listen,
        http_listen: server.http_listen,
        admin_listen: server.admin_listen,
        admin_token: server.admin_token,
        admin_socket: server.admin_socket.place(&store.settings, file),
        trusted_proxies: server.trusted_proxies,
        workers: server.workers,
        limits,
        tls: tls?,
        session: sessions::Settings {
            store_timeout: store.timeout,
            ..session.settings
        },
        tickets: session.tickets.settings,
        edge_hosts: session.tickets.edge_hosts,
        edge: session.edge,
        clear_site_data: session.clear_site_data,
        secrets: Vec::new(),
        store: session.mode.store(store.settings),
        identity: identity.layout,
        assertion: identity.assertion,
        forwarding: server.forwarding,
        issuers: clients.issuers,
        tokens: clients
            .tokens
            .unwrap_or_else(|| file.with_file_name("tokens.toml")),
        providers: providers
            .into_iter()
            .map(|provider| provider.settings)
            .collect(),
        upstreams: routing.upstreams,
        routes: routing
            .routes
            .into_iter()
            .map(|placed| placed.route)
            .collect(),
        log,
    };
    // Last, because the default key is made where there is none: nothing is written for a file with errors.
    let secrets = match session.secrets {
        Some(secrets) => secrets,
        None if report.is_clean() => session_key::default_secret(&session.section, &settings)?,
        None => return None,
    };
    Some(Settings {
        secrets,
        ..settings
    })
}

/// Reports a file that cannot be opened; `help` says how to come by one.
fn check_readable(value: &Value<'_>, path: &Path, help: &str) {
    let opened = File::open(path).and_then(|file| file.metadata());
    let trouble = match opened {
        Ok(data) if data.is_dir() => "it is a folder".to_owned(),
        Ok(_) => return,
        Err(error) if error.kind() == ErrorKind::NotFound && value.report().tolerates_missing() => {
            return;
        }
        Err(error) => error.to_string(),
    };
    value
        .wrong(format!("{} cannot be read: {trouble}", path.display()))
        .help(help)
        .push();
}
