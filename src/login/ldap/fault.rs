//! Why a directory could not say who somebody is. None of it is the user's doing, and none of it holds a password.

use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it cannot be reached: {0}")]
    Unreachable(std::io::Error),
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("it did not answer within {0:?}")]
    Timeout(Duration),
    #[error("the TLS handshake failed: {0}")]
    Handshake(std::io::Error),
    #[error("it refuses StartTLS, and nothing is said without it: {0}")]
    StartTls(Told),
    #[error("the connection broke: {0}")]
    Broken(std::io::Error),
    #[error("it ended the connection")]
    Closed,
    #[error("its answer is not LDAP: {0}")]
    Malformed(&'static str),
    #[error("its answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("its answer holds more than {0} entries")]
    TooMany(usize),
    #[error("the service account ({dn}) is not let in: {told}")]
    Service { dn: String, told: Told },
    #[error("it refuses {what}: {told}")]
    Refused { what: &'static str, told: Told },
    #[error("the entry {dn} {trouble}: {attribute}")]
    Entry {
        dn: String,
        trouble: &'static str,
        attribute: String,
    },
    #[error("a filter cannot be read")]
    Filter,
}

/// A server's own words, short enough for a line of the log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("result {code}{}{text}", if .text.is_empty() { "" } else { ", " })]
pub(super) struct Told {
    pub(super) code: u32,
    pub(super) text: String,
}

impl Told {
    pub(super) fn new(code: u32, text: &str) -> Self {
        let text = text.chars().filter(|c| !c.is_control()).take(200).collect();
        Self { code, text }
    }
}

impl Fault {
    pub(super) fn entry(dn: &str, trouble: &'static str, attribute: &str) -> Self {
        Self::Entry {
            dn: dn.chars().take(200).collect(),
            trouble,
            attribute: attribute.to_owned(),
        }
    }
}
