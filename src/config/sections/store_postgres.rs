//! `[store]` with `backend = "postgres"`: which database, who we are there, and how it proves who it is.

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::{store_authorities, store_password};
use crate::config::reader::{Section, Value, quoted};
use crate::session::store::{PostgresServer, PostgresSettings, PostgresTls};

const EXAMPLE: &str = "like \"postgres://doorward@db.internal:5432/doorward\"";
const SOCKET: &str =
    "for a unix socket: \"postgres://doorward@localhost/doorward?host=/run/postgresql\"";

/// What a URL says.
struct Place {
    server: PostgresServer,
    user: String,
    database: String,
    tls: Option<TlsMode>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum TlsMode {
    Disable,
    VerifyFull,
}

pub(super) fn read(section: &Section<'_>, timeout: Duration) -> Option<PostgresSettings> {
    let place = if let Some(url) = section.value("url") {
        place(&url)
    } else {
        let complaint = section.missing("url", "is missing: which database?");
        complaint.help(EXAMPLE).push();
        None
    };
    let password = section.value("password");
    let password = password.as_ref().and_then(store_password::read);
    let ca = section.value("ca");
    let authorities = ca.as_ref().and_then(store_authorities::read);
    let connections = section.integer_in("connections", 1..=1000);
    let cache = section.integer_in("statement_cache", 0..=10_000);
    let place = place?;
    let is_verified = place.is_verified(ca.is_some());
    if let (false, Some(ca)) = (is_verified, &ca) {
        let complaint = ca.wrong("judges nobody, with `sslmode=disable` in `url`");
        complaint.at_key().help("remove one of the two").push();
    }
    Some(PostgresSettings {
        server: place.server,
        user: place.user,
        database: place.database,
        password,
        tls: is_verified.then_some(PostgresTls { authorities }),
        max_connections: connections.unwrap_or(PostgresSettings::DEFAULT_CONNECTIONS),
        statement_cache: cache.unwrap_or(PostgresSettings::DEFAULT_STATEMENT_CACHE),
        timeout,
    })
}

impl Place {
    /// Always, unless the way there does not leave this machine, or the file says otherwise.
    fn is_verified(&self, has_authorities: bool) -> bool {
        let leaves = match &self.server {
            PostgresServer::Socket { .. } => false,
            PostgresServer::Tcp { host, .. } => match host.parse::<IpAddr>() {
                Ok(address) => !address.is_loopback(),
                Err(_) => host != "localhost",
            },
        };
        match self.tls {
            Some(TlsMode::Disable) => false,
            Some(TlsMode::VerifyFull) => true,
            None => leaves || has_authorities,
        }
    }
}

fn place(value: &Value<'_>) -> Option<Place> {
    let text = value.text()?;
    let url = Url::parse(text).ok();
    let Some(url) = url.filter(|url| matches!(url.scheme(), "postgres" | "postgresql")) else {
        // It may hold a password where none is expected.
        value.report().blot_out(value.place());
        let complaint = value.wrong("is not the address of a PostgreSQL database");
        complaint.help(EXAMPLE).push();
        return None;
    };
    let is_asked = |(name, _): (Cow<'_, str>, _)| name == "password";
    if url.password().is_some() || url.query_pairs().any(is_asked) {
        store_password::refuse_written(value);
        return None;
    }
    let parts = (
        decoded(url.username()),
        decoded(url.path().trim_start_matches('/')),
    );
    let (Some(user), Some(database)) = parts else {
        let complaint = value.wrong("names no user, or no database");
        complaint.help(EXAMPLE).push();
        return None;
    };
    let (tls, folder) = query(value, &url)?;
    let port = url.port().unwrap_or(5432);
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => String::new(),
    };
    let server = match folder {
        Some(folder) if host == "localhost" => PostgresServer::Socket { folder, port },
        None if !host.is_empty() => PostgresServer::Tcp { host, port },
        Some(_) | None => {
            let complaint = value.wrong("names no server, or two of them");
            complaint.help(SOCKET).push();
            return None;
        }
    };
    Some(Place {
        server,
        user,
        database,
        tls,
    })
}

/// `sslmode=` and `host=`, each at most once, nothing else.
fn query(value: &Value<'_>, url: &Url) -> Option<(Option<TlsMode>, Option<PathBuf>)> {
    if url.fragment().is_some() {
        // A password with a `#` in it looks like that.
        value.report().blot_out(value.place());
        let complaint = value.wrong("has no place for a `#`");
        complaint.help(EXAMPLE).push();
        return None;
    }
    let (mut tls, mut folder) = (None, None);
    for (name, text) in url.query_pairs() {
        match (name.as_ref(), text.as_ref()) {
            ("sslmode", "disable") if tls.is_none() => tls = Some(TlsMode::Disable),
            ("sslmode", "verify-full") if tls.is_none() => tls = Some(TlsMode::VerifyFull),
            ("host", path) if folder.is_none() && path.starts_with('/') => {
                folder = Some(PathBuf::from(path));
            }
            ("sslmode", mode) => {
                let complaint = value.wrong(format!(
                    "`sslmode={}` does not tell the server from an impostor",
                    mode.escape_debug()
                ));
                let help = "\"verify-full\" (the default where the server is on another machine) or \"disable\"";
                complaint.help(help).push();
                return None;
            }
            (name, _) => {
                let complaint = value.wrong(format!("{} cannot be given here", quoted(name)));
                complaint.help("`sslmode=` or `host=`, once each").push();
                return None;
            }
        }
    }
    Some((tls, folder))
}

/// `None` where it is empty.
fn decoded(text: &str) -> Option<String> {
    let text = percent_decode_str(text).decode_utf8().ok()?;
    Some(text.into_owned()).filter(|text| !text.is_empty() && !text.contains('\0'))
}
