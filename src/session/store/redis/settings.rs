//! Where the servers are, who we are there, and how they prove who they are.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// How to reach Redis. Its `Debug` hides the passwords.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    pub servers: Servers,
    /// `None`: the user `default`.
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// `None`: no TLS.
    pub tls: Option<Tls>,
    /// Always 0 in a Cluster.
    pub database: i64,
    /// What every key and channel begins with. It holds no brace: those say where a Cluster keeps a key.
    pub prefix: String,
    /// The longest that a caller waits for one operation.
    pub timeout: Duration,
}

/// What stands at the addresses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Servers {
    One {
        host: String,
        port: u16,
    },
    Socket(PathBuf),
    /// Some nodes of a Cluster; it tells of the others.
    Cluster(Vec<(String, u16)>),
    /// The sentinels, and the name that they know the server by.
    Sentinel {
        sentinels: Vec<(String, u16)>,
        name: String,
        /// The password of the sentinels themselves.
        password: Option<Secret>,
    },
}

/// How a server's certificate is judged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// PEM. `None`: the authorities of this system.
    pub authorities: Option<Vec<u8>>,
}
