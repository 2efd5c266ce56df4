//! Who a session belongs to, and how upstreams are told. It knows no session and no login.

mod assertion;
mod headers;
mod keys;

pub use assertion::{ASSERTION, AssertionSettings, Kept, Signer, Statement};
pub use headers::{FoldedNames, HeaderLayout, IdentityHeaders, Preset, fold_eq, strip};
pub use keys::{Algorithm, KeyError, Kind, Signatory};

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Who is logged in: a provider's id and that provider's stable name for the user.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Subject {
    pub provider: String,
    pub id: String,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.provider, self.id)
    }
}

/// What a provider vouched for when the user logged in.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Identity {
    pub subject: Subject,
    /// The name the user logs in with; what upstreams know the user by.
    pub user: String,
    /// The name a person would read.
    pub name: Option<String>,
    pub email: Option<String>,
    pub groups: Vec<String>,
}

/// What a session is to the provider that its user logged in at.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct Federated {
    /// The provider's own session.
    pub session: Option<String>,
    /// What it is shown when that is to end: the ID token.
    pub hint: Option<String>,
    /// What it is asked with later, who the user is by then.
    pub refresh: Option<Refresh>,
    /// Of which kind it says that the login there was (`acr`).
    pub acr: Option<String>,
}

impl Federated {
    /// What of it a ticket tells: neither its tokens, which are long, nor its session.
    pub fn for_ticket(&self) -> Option<Self> {
        self.acr.as_ref().map(|acr| Self {
            session: None,
            hint: None,
            refresh: None,
            acr: Some(acr.clone()),
        })
    }
}

/// A refresh token, and when it is to be used.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct Refresh {
    pub token: String,
    pub due: Timestamp,
}

impl fmt::Debug for Refresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresh")
            .field("due", &self.due)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Federated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Federated").finish_non_exhaustive()
    }
}

/// How an upstream learns what the client asked for, and from where.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Forwarding {
    /// Both of the others.
    #[default]
    Both,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For`, `-Host` and `-Proto`.
    XForwarded,
}
