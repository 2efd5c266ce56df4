//! Bytes that must not be seen: wiped when dropped, never printed, never serialised.

mod keyring;

pub use keyring::{KeyId, Keyring, Purpose, SecretError, TokenKey};
pub(crate) use keyring::{open_with_key, seal_with_key};

use std::fmt;

use zeroize::Zeroizing;

/// A password, key or other secret. It has no `Display`, no `Serialize` and a `Debug` that hides it.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes themselves; the name is long so that each use stands out in review.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Fills an array from the operating system's generator.
///
/// # Panics
/// Where the system has no randomness to give; nothing that needs a secret may go on then.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(
        clippy::expect_used,
        reason = "without randomness every token would be guessable"
    )]
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random generator");
    bytes
}
