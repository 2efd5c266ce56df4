//! The secret in the session cookie, and the names that are safe to keep and to show.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::secret::{TokenKey, random};

/// The secret that the browser holds: 32 random bytes, base64url without padding in the cookie (R1).
/// It is never stored and never logged.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(Zeroizing<[u8; 32]>);

impl Token {
    pub const TEXT_LEN: usize = 43;

    pub fn generate() -> Self {
        Self(Zeroizing::new(random()))
    }

    /// Reads a cookie's value. Exactly the text that [`Token::encode`] writes is accepted, nothing near it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != Self::TEXT_LEN {
            return None;
        }
        let mut bytes = Zeroizing::new([0; 32]);
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut *bytes).ok()?;
        (len == 32).then_some(Self(bytes))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    pub fn encode(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(*self.0))
    }

    pub fn hash(&self) -> TokenHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &*self.0).as_ref());
        TokenHash(hash)
    }

    /// This token's part in deriving a key.
    pub fn key(&self) -> TokenKey<'_> {
        TokenKey(&self.0)
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// SHA-256 of a token: the name that the cache and the store know it by.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Of a ticket, which is longer than any token.
    pub(super) fn of_ticket(text: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, text).as_ref());
        Self(hash)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The public name of a session (UUID version 7, RFC 9562): in logs and lists, useless as a credential.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Sid([u8; 16]);

impl Sid {
    pub fn generate(now: Timestamp) -> Self {
        let random: [u8; 10] = random();
        let uuid = uuid::Builder::from_unix_timestamp_millis(now.as_millis(), &random);
        Self(uuid.into_uuid().into_bytes())
    }

    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text)
            .ok()
            .map(|uuid| Self(uuid.into_bytes()))
    }

    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_that_was_written_is_read_back() {
        let token = Token::generate();
        let text = token.encode();
        assert_eq!(text.len(), Token::TEXT_LEN);
        assert_eq!(Token::parse(text.as_bytes()).unwrap(), token);
        assert!(Token::parse(&text.as_bytes()[..42]).is_none());
        for last in [b'=', b' '] {
            let mut near = text.as_bytes().to_vec();
            near[42] = last;
            assert!(Token::parse(&near).is_none());
        }
        assert!(Token::parse(&[b'+'; 43]).is_none());
    }

    #[test]
    fn trailing_bits_that_say_nothing_are_refused() {
        // 43 characters carry 258 bits: the last two must be zero, or one token would have four spellings.
        let token = Token::parse(&[b'A'; 43]).unwrap();
        assert_eq!(&**token.encode(), "A".repeat(43));
        assert!(Token::parse(format!("{}B", "A".repeat(42)).as_bytes()).is_none());
    }

    #[test]
    fn a_token_does_not_show_itself() {
        let token = Token::generate();
        assert_eq!(format!("{token:?}"), "Token(..)");
        assert_ne!(token, Token::generate());
    }

    #[test]
    fn a_sid_reads_back_and_sorts_by_time() {
        let (early, late) = (Timestamp::from_millis(1_000), Timestamp::from_millis(2_000));
        let sid = Sid::generate(early);
        assert_eq!(Sid::parse(&sid.to_string()), Some(sid));
        assert!(sid < Sid::generate(late));
        assert_eq!(Sid::parse("../../etc/passwd"), None);
    }
}
