//! What a store keeps. Everything that says who or what is sealed before it gets here (R1).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::token::{Sid, TokenHash};
use crate::clock::Timestamp;

/// The version that this program writes; others are not read (their sessions log in again).
const VERSION: u8 = 5;

/// A keyed tag of a subject: finds a user's sessions without naming the user.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct SubjectTag(pub [u8; 32]);

/// Which of a subject's sessions live: those that began under the newest. Zero where they were never all ended at once.
///
/// A new one is about the time at which it began, so that it is also newer than those that a store has forgotten.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct Epoch(u64);

impl Epoch {
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub const fn number(self) -> u64 {
        self.0
    }

    /// The one that begins at `now`.
    #[must_use]
    pub fn next(self, now: Timestamp) -> Self {
        Self(self.0.saturating_add(1).max(now.as_millis()))
    }
}

/// One session. `version` counts changes of `listing` and `private`, for compare-and-swap.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SessionRow {
    pub sid: Sid,
    /// `None` for a visitor who has not logged in.
    pub subject: Option<SubjectTag>,
    /// The subject's when the login began.
    pub epoch: Epoch,
    pub created: Timestamp,
    pub last_seen: Timestamp,
    /// Milliseconds without activity after which the session is over.
    pub idle_millis: u64,
    /// The absolute end, whatever the activity.
    pub expires: Timestamp,
    pub version: u64,
    /// What an administrator may list, sealed under the server secret.
    pub listing: Vec<u8>,
    /// Identity, and the data of apps, sealed under the session's own key or that of an app.
    pub private: Vec<u8>,
}

impl SessionRow {
    /// When the session ends if nothing more is heard of it.
    pub fn ends(&self) -> Timestamp {
        let idle = std::time::Duration::from_millis(self.idle_millis);
        self.last_seen.after(idle).min(self.expires)
    }
}

/// One token of a session. A session has one current token, and the ones that came before it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TokenRow {
    pub hash: TokenHash,
    pub sid: Sid,
    pub issued: Timestamp,
    /// The session's key, sealed under the server secret and this token.
    pub session_key: Vec<u8>,
    /// The token before this one. Cleared once this one has been seen.
    pub predecessor: Option<TokenHash>,
    pub successor: Option<Successor>,
}

/// The token that replaced another.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Successor {
    pub hash: TokenHash,
    /// The token itself, sealed under the one it replaces: whoever still holds that one is told again, so a
    /// lost response logs nobody out.
    pub sealed: Vec<u8>,
    /// When the successor was first presented; from then on its predecessor lives `rotate_grace` longer.
    pub seen: Option<Timestamp>,
}

/// A token and its session, as one load returns them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    pub token: TokenRow,
    pub session: SessionRow,
}

/// Why bytes from a store cannot be a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RowError {
    #[error("the record is damaged")]
    Damaged,
    #[error("the record has version {0}, this program reads {VERSION}")]
    Version(u8),
}

/// A row as bytes: one byte of version, then the fields (postcard).
///
/// # Panics
/// Never for the rows of this module: plain structs into memory cannot fail.
pub fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    let bytes = postcard::to_extend(row, vec![VERSION]);
    #[expect(clippy::expect_used, reason = "plain structs into memory cannot fail")]
    bytes.expect("serialise a row")
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RowError> {
    match bytes.split_first() {
        Some((&VERSION, fields)) => match postcard::take_from_bytes(fields) {
            Ok((row, [])) => Ok(row),
            Ok(_) | Err(_) => Err(RowError::Damaged),
        },
        Some((version, _)) => Err(RowError::Version(*version)),
        None => Err(RowError::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> TokenRow {
        TokenRow {
            hash: TokenHash::from_bytes([1; 32]),
            sid: Sid::from_bytes([2; 16]),
            issued: Timestamp::from_millis(3),
            session_key: vec![4; 60],
            predecessor: None,
            successor: None,
        }
    }

    #[test]
    fn a_row_reads_back() {
        assert_eq!(decode::<TokenRow>(&encode(&row())), Ok(row()));
    }

    #[test]
    fn an_epoch_is_newer_than_the_one_before_whatever_the_clock_says() {
        for (before, now, next) in [(0, 0, 1), (0, 50, 50), (50, 50, 51), (50, 7, 51)] {
            let (epoch, now) = (Epoch::from_number(before), Timestamp::from_millis(now));
            assert_eq!(epoch.next(now).number(), next, "{before} {now:?}");
        }
    }

    #[test]
    fn torn_extended_and_newer_rows_are_errors() {
        let bytes = encode(&row());
        for len in 0..bytes.len() {
            assert!(decode::<TokenRow>(&bytes[..len]).is_err(), "{len} bytes");
        }
        let mut long = bytes.clone();
        long.push(0);
        assert_eq!(decode::<TokenRow>(&long), Err(RowError::Damaged));
        let mut newer = bytes;
        newer[0] = 9;
        assert_eq!(decode::<TokenRow>(&newer), Err(RowError::Version(9)));
    }
}
