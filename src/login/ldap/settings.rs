//! What a configuration says of a directory. It is there in builds without LDAP, too.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// One `[[provider]]` of type `ldap`.
#[derive(Clone, Debug)]
pub struct LdapSettings {
    /// Asked in this order; those that failed lately come last.
    pub servers: Vec<LdapServer>,
    /// PEM of the authorities that sign the servers' certificates; `None`: those that this machine trusts.
    pub authorities: Option<Vec<u8>>,
    /// From the first step of connecting to the end of the handshake.
    pub connect_timeout: Duration,
    /// For one answer, with all its entries.
    pub answer_timeout: Duration,
    /// Logins that are asked about at once.
    pub connections: usize,
    /// Who looks for users; `None`: nobody in particular.
    pub service: Option<ServiceAccount>,
    pub users: LdapUsers,
    /// Below this groups count.
    pub group_base: String,
    /// How groups are looked for, beside those that a user's own entry names.
    pub group_search: Option<GroupSearch>,
    pub attributes: LdapAttributes,
    /// Wrong passwords per user, and per address, within `attempt_window`.
    pub max_attempts: u32,
    pub attempt_window: Duration,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LdapServer {
    Tcp {
        host: String,
        port: u16,
        security: LdapSecurity,
    },
    /// A socket of this machine.
    Socket(PathBuf),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LdapSecurity {
    /// From the first byte on (`ldaps://`).
    Tls,
    /// Nothing is said before the handshake (RFC 4511 section 4.14).
    StartTls,
    /// On this machine alone.
    None,
}

#[derive(Clone, Debug)]
pub struct ServiceAccount {
    pub dn: String,
    pub password: Secret,
}

/// How a name becomes an entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LdapUsers {
    /// `{user}` in the filter is what was typed; exactly one entry has to fit.
    Search { base: String, filter: String },
    /// `{user}` in the DN is what was typed.
    Dn(String),
}

/// `{dn}` and `{user}` in the filter are the user's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupSearch {
    pub filter: String,
    /// What holds a group's name.
    pub attribute: String,
}

/// Which attributes hold what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LdapAttributes {
    /// Never changes and is never given to somebody else; `dn` is the entry's name.
    pub subject: String,
    pub user: String,
    pub name: String,
    pub email: String,
    /// DNs of groups; `None`: the entry names none.
    pub groups: Option<String>,
}

impl fmt::Display for LdapServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp {
                host,
                port,
                security: LdapSecurity::Tls,
            } => write!(f, "ldaps://{host}:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "ldap://{host}:{port}"),
            Self::Socket(path) => write!(f, "ldapi:{}", path.display()),
        }
    }
}
