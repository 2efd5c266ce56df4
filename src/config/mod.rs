//! From one TOML file to [`Settings`], or every error in it, each with its place. The only TOML of the crate besides
//! the users file; it knows every area's settings and no area knows it.

mod diagnostics;
mod places;
mod reader;
mod sections;

pub use diagnostics::{ConfigError, ConfigErrors, MINIMAL};
pub use places::Places;
pub use reader::{parse_duration, show_duration};

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http::HeaderValue;
use ipnet::IpNet;

use crate::identity::{AssertionSettings, Forwarding, HeaderLayout};
use crate::routing::Route;
use crate::secret::Secret;
use crate::{edge, login, session, telemetry, upstream};

/// In seconds.
const A_YEAR: u64 = 365 * 24 * 60 * 60;

/// A whole configuration, ready to build from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it came from; relative paths in it start at its folder.
    pub file: PathBuf,
    /// The same for the same text, so that what runs can be told from what is on disk: the beginning of a SHA-256 in hex.
    pub fingerprint: String,
    pub listen: Vec<SocketAddr>,
    pub http_listen: Vec<SocketAddr>,
    pub admin_listen: Option<SocketAddr>,
    /// What the admin API asks for over TCP.
    pub admin_token: Option<Secret>,
    pub admin_socket: Option<AdminSocket>,
    pub trusted_proxies: Vec<IpNet>,
    /// Never 0: `0` in the file is one per core here.
    pub workers: usize,
    pub limits: edge::Limits,
    pub tls: TlsSettings,
    pub session: session::Settings,
    /// Where sessions are also known by tickets.
    pub tickets: Option<session::TicketSettings>,
    /// Hosts of nodes that know sessions by tickets alone: people are sent back there.
    pub edge_hosts: Vec<(String, Option<u16>)>,
    /// This is such a node.
    pub edge: Option<EdgeSettings>,
    /// What browsers are told to forget with a logout.
    pub clear_site_data: Option<HeaderValue>,
    /// Newest first.
    pub secrets: Vec<Secret>,
    pub store: StoreSettings,
    pub identity: HeaderLayout,
    pub assertion: AssertionSettings,
    pub forwarding: Forwarding,
    /// Whose tokens programs may come with, beside our own.
    pub issuers: Vec<login::IssuerSettings>,
    /// The file of API tokens.
    pub tokens: PathBuf,
    pub providers: Vec<login::Settings>,
    pub upstreams: Vec<upstream::Target>,
    pub routes: Vec<Route>,
    pub log: telemetry::Settings,
}

#[derive(Clone, Debug)]
pub struct TlsSettings {
    pub source: CertificateSource,
    /// In seconds, where the file says so; see [`Settings::hsts_max_age`].
    pub hsts_max_age: Option<u64>,
}

#[derive(Clone, Debug)]
pub enum CertificateSource {
    /// PEM files: (certificate chain, key). Chosen by SNI; the first one serves clients that send none.
    Files(Vec<(PathBuf, PathBuf)>),
    /// A local authority in this folder signs a certificate for the routes' hosts: for development.
    LocalAuthority(PathBuf),
}

/// The unix socket that commands on this machine use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminSocket {
    pub path: PathBuf,
    /// The file says so. Where it does not, the proxy is served without one if it has to be.
    pub is_named: bool,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StoreSettings {
    Embedded { path: PathBuf },
    Memory,
    Postgres(session::store::PostgresSettings),
    Redis(session::store::RedisSettings),
}

/// What a node needs that has no store and no secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EdgeSettings {
    pub keys: KeySource,
    /// Where people are sent whose ticket has run out, on the node that makes them.
    pub renew: String,
}

/// Where the public keys of tickets are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeySource {
    File(PathBuf),
    Url {
        url: http::Uri,
        /// PEM; `None`: whom this machine trusts.
        authorities: Option<Vec<u8>>,
    },
}

/// What to do about files that the configuration names and that are not there yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Missing {
    /// For serving: errors, but for the session key at its default place, which is made.
    Refused,
    /// For checking: errors, and nothing is made.
    Reported,
    /// For commands that are about to make them: no errors, and nothing is made.
    Tolerated,
}

impl Settings {
    /// For `Strict-Transport-Security`, in seconds; 0: not sent. Unless the file says otherwise it is a year (ASVS 3.4.1),
    /// but nothing where it could do harm: a browser that heard it for localhost would refuse plain http to whatever else
    /// is developed there, on any port.
    pub fn hsts_max_age(&self) -> u64 {
        let is_local = |route: &Route| {
            let host = route.host.to_string();
            host == "localhost" || host.ends_with(".localhost")
        };
        let is_for_development = matches!(self.tls.source, CertificateSource::LocalAuthority(_))
            || self.routes.iter().all(is_local);
        let default = if is_for_development { 0 } else { A_YEAR };
        self.tls.hsts_max_age.unwrap_or(default)
    }

    /// Every host that a route names, `*.` wildcards included, each once.
    pub fn hosts(&self) -> Vec<String> {
        let hosts: BTreeSet<String> = self
            .routes
            .iter()
            .map(|route| route.host.to_string())
            .collect();
        hosts.into_iter().collect()
    }
}

/// Reads a configuration file. Nothing is started, and nothing is written but what [`Missing::Refused`] says.
pub fn load(file: &Path, missing: Missing) -> Result<Settings, ConfigErrors> {
    let text =
        std::fs::read_to_string(file).map_err(|error| ConfigErrors::unreadable(file, &error))?;
    sections::resolve(file, &text, missing)
}

/// As [`load`], and where each key stands.
pub fn load_placed(file: &Path, missing: Missing) -> Result<(Settings, Places), ConfigErrors> {
    let text =
        std::fs::read_to_string(file).map_err(|error| ConfigErrors::unreadable(file, &error))?;
    let settings = sections::resolve(file, &text, missing)?;
    Ok((settings, Places::of(&text)))
}

/// As [`load`], from text; `file` is used for messages and relative paths.
pub fn parse(file: &Path, text: &str, missing: Missing) -> Result<Settings, ConfigErrors> {
    sections::resolve(file, text, missing)
}

/// Every key that a file may hold, as `section.key`, and `section.table.*` where the names within are free. The
/// reader itself is asked, so this cannot fall behind it.
pub fn known_keys() -> BTreeSet<String> {
    sections::known_keys()
}
