//! How the database is reached. It knows no driver, so that a build without one reads the same configuration.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// A database and the limits on its use. `Debug` shows no password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    pub server: Server,
    pub user: String,
    pub database: String,
    /// `None` where the server asks for none: a unix socket with `peer`.
    pub password: Option<Secret>,
    /// `None`: in the clear, on this machine or in a network that is trusted.
    pub tls: Option<Tls>,
    /// Connections at most, one more listens for news.
    pub max_connections: u32,
    /// Prepared statements that each connection keeps. 0 keeps nothing in a connection, for a pooler between.
    pub statement_cache: usize,
    /// The longest wait for a connection, and then for its answer.
    pub timeout: Duration,
}

/// Where the server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Server {
    Tcp {
        host: String,
        port: u16,
    },
    /// The folder of its socket, and the port in the socket's name.
    Socket {
        folder: PathBuf,
        port: u16,
    },
}

/// How the server's certificate is judged, and its name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// PEM, beside the public authorities that the driver knows.
    pub authorities: Option<Vec<u8>>,
}

impl Settings {
    pub const DEFAULT_CONNECTIONS: u32 = 16;
    pub const DEFAULT_STATEMENT_CACHE: usize = 100;
}
