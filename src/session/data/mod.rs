//! What apps keep in sessions: preferences, a cart. Each app has a namespace and sees no other. It is sealed with the
//! session, and every change is one whole that is stored before anybody is told of it (R6).

mod editing;
mod fields;
mod jars;
mod json;
mod known;
mod posts;
mod space;
mod texts;
mod value;
mod vault;
mod writing;

pub use editing::{Edit, Expected};
pub use jars::Filling;
pub use json::JsonError;
pub use posts::POST_WAITS;
pub use space::{Change, Shown, Space};
pub use texts::{Texts, TextsError, read_texts};

pub(super) use jars::{Estate, Jars};
pub(super) use known::Known;
pub(super) use vault::{Spaces, Vaulted};

use super::store::StoreError;
use crate::secret::Secret;

/// What apps may keep, and who may come for it over the API.
#[derive(Clone, Debug, Default)]
pub struct DataSettings {
    pub limits: DataLimits,
    /// Those that have keys. One without is reached by its app's headers alone.
    pub namespaces: Vec<Namespace>,
}

#[derive(Clone, Debug)]
pub struct Namespace {
    pub name: String,
    /// Any of them opens the API and what is kept here; the first one seals. Never empty.
    pub keys: Vec<Secret>,
}

impl DataSettings {
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.iter().find(|known| known.name == name)
    }
}

/// How much apps may keep in one session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DataLimits {
    /// Keys in a namespace.
    pub max_keys: usize,
    /// Of one value, as it is written.
    pub max_value_bytes: usize,
    /// Of a namespace in a header, whichever way it goes.
    pub max_header_bytes: usize,
    /// Of all namespaces together.
    pub max_bytes: usize,
}

impl Default for DataLimits {
    fn default() -> Self {
        Self {
            max_keys: 64,
            max_value_bytes: 16 * 1024,
            max_header_bytes: 4 * 1024,
            max_bytes: 64 * 1024,
        }
    }
}

/// Why a change is not one that can be made. Nothing of it is.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    #[error("the header would be longer than {0} bytes")]
    Header(usize),
    #[error("there would be more than {0} keys")]
    Keys(usize),
    #[error("{0}")]
    Malformed(String),
    #[error("all data of the session together would be longer than {0} bytes")]
    Total(usize),
    #[error("a value is longer than {0} bytes")]
    Value(usize),
}

/// Why data was not read or not changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DataError {
    /// It is not what the caller takes it to be any more.
    #[error("the data has changed since it was read")]
    Changed,
    /// As many sessions of visitors have begun as may.
    #[error("too many visitors want a session at once")]
    Crowded,
    #[error("there is no such session")]
    Gone,
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It was stored when the namespace had other keys, or none.
    #[error(
        "the data was sealed under another key, or before there was one; what the app sets next is sealed under this one"
    )]
    Sealed,
    #[error(transparent)]
    Store(#[from] StoreError),
}
