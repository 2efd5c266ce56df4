//! The server secrets and what is derived from them: sealing (AES-256-GCM) and keyed tags (HMAC-SHA-256),
//! each purpose under its own key (HKDF, RFC 5869). The first secret seals, all of them open.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use zeroize::Zeroizing;

use super::{Secret, random};

/// Bytes that name the secret a text was sealed under; they say nothing about it.
const KEY_ID_LEN: usize = 4;

/// What a secret is called in logs. It says nothing about the secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyId([u8; KEY_ID_LEN]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

/// What a sealed text or a tag is for. Two purposes never share a key, so one can never pass for another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// The key that signs assertions with ECDSA on P-256.
    AssertionEs256,
    /// The same with Ed25519.
    AssertionEdDsa,
    /// The cookie that recognises a browser before and after login.
    Browser,
    /// The form token of a page that changes something.
    FormToken,
    /// Who has logged in with a browser before, in the cookie that recognises it.
    KnownUser,
    /// What an administrator may list about a session.
    Listing,
    /// The index by which the data of an app is found in a session.
    Namespace,
    /// A question to an authenticator, on its way.
    Passkey,
    /// The index by which it is known which questions to authenticators were answered.
    PasskeyAnswer,
    /// The index by which it is known which codes were used.
    OneTimeCode,
    /// A login on its way: travels in `state`, nothing is stored.
    PendingLogin,
    /// A passkey that was removed, on its way to the page that has the browser forget it.
    RemovedPasskey,
    /// What an authenticator app shares with us, in the users file.
    SecondFactor,
    /// A login whose password was right, on its way to the second factor; and an enrolment.
    SecondStep,
    /// What an app keeps in a session, where the app has a key of its own.
    SessionData,
    /// A session's own data key, wrapped by its token.
    SessionKey,
    /// The index by which a subject's sessions are found.
    Subject,
    /// The token that follows, kept for whoever holds the one before.
    Successor,
    /// What a ticket says to the nodes of its own cluster alone.
    Ticket,
    /// The key that signs tickets with Ed25519.
    TicketEdDsa,
    /// The same with ECDSA on P-256.
    TicketEs256,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::AssertionEs256 => b"doorward 1 assertion ES256",
            Self::AssertionEdDsa => b"doorward 1 assertion EdDSA",
            Self::Browser => b"doorward 1 browser",
            Self::FormToken => b"doorward 1 form token",
            Self::KnownUser => b"doorward 1 known user",
            Self::Listing => b"doorward 1 listing",
            Self::Namespace => b"doorward 1 namespace",
            Self::Passkey => b"doorward 1 passkey",
            Self::PasskeyAnswer => b"doorward 1 passkey answer",
            Self::OneTimeCode => b"doorward 1 one-time code",
            Self::PendingLogin => b"doorward 1 pending login",
            Self::RemovedPasskey => b"doorward 1 removed passkey",
            Self::SecondFactor => b"doorward 1 second factor",
            Self::SecondStep => b"doorward 1 second step",
            Self::SessionData => b"doorward 1 session data",
            Self::SessionKey => b"doorward 1 session key",
            Self::Subject => b"doorward 1 subject",
            Self::Successor => b"doorward 1 successor",
            Self::Ticket => b"doorward 1 ticket",
            Self::TicketEdDsa => b"doorward 1 ticket EdDSA",
            Self::TicketEs256 => b"doorward 1 ticket ES256",
        }
    }
}

/// The bytes of a session token, which join the server secret in deriving a key: neither alone opens anything.
#[derive(Clone, Copy, Debug)]
pub struct TokenKey<'a>(pub &'a [u8; 32]);

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SecretError {
    #[error("no server secret is given")]
    Missing,
    #[error("a server secret needs at least 32 bytes, this one has {0}")]
    TooShort(usize),
}

/// Every server secret, newest first.
#[derive(Debug)]
pub struct Keyring {
    secrets: Vec<Secret>,
}

impl Keyring {
    pub const MIN_SECRET_LEN: usize = 32;

    pub fn new(secrets: Vec<Secret>) -> Result<Self, SecretError> {
        if secrets.is_empty() {
            return Err(SecretError::Missing);
        }
        let lengths = secrets.iter().map(|secret| secret.expose().len());
        match lengths.min().filter(|len| *len < Self::MIN_SECRET_LEN) {
            Some(len) => Err(SecretError::TooShort(len)),
            None => Ok(Self { secrets }),
        }
    }

    /// Seals `plain` under the newest secret. It opens only for the same purpose and context.
    pub fn seal(&self, purpose: Purpose, context: &[u8], plain: &[u8]) -> Vec<u8> {
        self.seal_under(None, purpose, context, plain)
    }

    /// As [`Keyring::seal`], under the server secret *and* a token.
    pub fn seal_for(
        &self,
        token: TokenKey<'_>,
        purpose: Purpose,
        context: &[u8],
        plain: &[u8],
    ) -> Vec<u8> {
        self.seal_under(Some(token), purpose, context, plain)
    }

    pub fn open(
        &self,
        purpose: Purpose,
        context: &[u8],
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        self.open_under(None, purpose, context, sealed)
    }

    pub fn open_for(
        &self,
        token: TokenKey<'_>,
        purpose: Purpose,
        context: &[u8],
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        self.open_under(Some(token), purpose, context, sealed)
    }

    /// A keyed tag of `data` under each secret, newest first: an index that tells nobody what it is of.
    pub fn tags<'a>(
        &'a self,
        purpose: Purpose,
        data: &'a [u8],
    ) -> impl Iterator<Item = [u8; 32]> + 'a {
        self.secrets.iter().map(move |secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &*derive(secret, None, purpose));
            let mut tag = [0; 32];
            tag.copy_from_slice(hmac::sign(&key, data).as_ref());
            tag
        })
    }

    /// What `make` makes of a key of each secret, newest first: for keys that are not used here as they are, like those of
    /// signatures. A secret has many keys for it, and the first one that `make` takes is the one.
    pub fn derived<T>(&self, purpose: Purpose, make: impl Fn(&[u8; 32]) -> Option<T>) -> Vec<T> {
        let first = |secret: &Secret| {
            (0..=u8::MAX).find_map(|number| make(&expand(secret, &[number], purpose.label())))
        };
        self.secrets.iter().filter_map(first).collect()
    }

    /// What the secrets are called, newest first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.secrets.iter().map(|secret| KeyId(key_id(secret)))
    }

    /// Whether a text was sealed under the newest secret.
    pub fn is_newest(&self, sealed: &[u8]) -> bool {
        let id = sealed.first_chunk().map(|id| KeyId(*id));
        id.is_some() && id == self.ids().next()
    }

    /// The secret that a text was sealed under, where it is none of these.
    pub fn missing(&self, sealed: &[u8]) -> Option<KeyId> {
        let id = KeyId(*sealed.first_chunk()?);
        self.ids().all(|known| known != id).then_some(id)
    }

    fn seal_under(
        &self,
        token: Option<TokenKey<'_>>,
        purpose: Purpose,
        context: &[u8],
        plain: &[u8],
    ) -> Vec<u8> {
        #[expect(clippy::expect_used, reason = "`new` refuses an empty list")]
        let secret = self.secrets.first().expect("at least one secret");
        let mut sealed = Vec::with_capacity(KEY_ID_LEN + NONCE_LEN + plain.len() + 16);
        sealed.extend_from_slice(&key_id(secret));
        let body = seal_with_key(&derive(secret, token, purpose), context, plain);
        sealed.extend_from_slice(&body);
        sealed
    }

    fn open_under(
        &self,
        token: Option<TokenKey<'_>>,
        purpose: Purpose,
        context: &[u8],
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let (id, body) = sealed.split_at_checked(KEY_ID_LEN)?;
        let mut candidates = self.secrets.iter().filter(|secret| key_id(secret) == id);
        candidates.find_map(|secret| open_with_key(&derive(secret, token, purpose), context, body))
    }
}

/// Seals under a key that is itself random: nonce, then ciphertext and tag.
pub(crate) fn seal_with_key(key: &[u8; 32], context: &[u8], plain: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE_LEN] = random();
    let mut body = plain.to_vec();
    #[expect(
        clippy::expect_used,
        reason = "fails only for texts of 64 GiB and more"
    )]
    aead(key)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(context),
            &mut body,
        )
        .expect("seal");
    let mut sealed = nonce.to_vec();
    sealed.append(&mut body);
    sealed
}

pub(crate) fn open_with_key(
    key: &[u8; 32],
    context: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, body) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut body = Zeroizing::new(body.to_vec());
    let len = aead(key)
        .open_in_place(nonce, Aad::from(context), &mut body)
        .ok()?
        .len();
    body.truncate(len);
    Some(body)
}

fn aead(key: &[u8; 32]) -> LessSafeKey {
    #[expect(
        clippy::expect_used,
        reason = "the key has the length of the algorithm"
    )]
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes"))
}

/// HKDF with the token as salt, the server secret as key material and the purpose as info.
fn derive(secret: &Secret, token: Option<TokenKey<'_>>, purpose: Purpose) -> Zeroizing<[u8; 32]> {
    let salt = token.map_or(&[] as &[u8], |token| token.0);
    expand(secret, salt, purpose.label())
}

fn key_id(secret: &Secret) -> [u8; KEY_ID_LEN] {
    let long = expand(secret, &[], b"doorward 1 key id");
    let mut id = [0; KEY_ID_LEN];
    id.copy_from_slice(long.split_at(KEY_ID_LEN).0);
    id
}

fn expand(secret: &Secret, salt: &[u8], label: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret.expose());
    #[expect(clippy::expect_used, reason = "32 bytes is one block of the hash")]
    prk.expand(&[label], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut *key))
        .expect("expand");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(bytes: &[u8]) -> Keyring {
        let secrets = bytes.iter().map(|b| Secret::new(vec![*b; 32])).collect();
        Keyring::new(secrets).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_the_same_purpose_and_context_only() {
        let ring = ring(&[1]);
        let sealed = ring.seal(Purpose::Listing, b"sid", b"alice");
        assert_eq!(
            ring.open(Purpose::Listing, b"sid", &sealed).unwrap()[..],
            *b"alice"
        );
        assert!(ring.open(Purpose::FormToken, b"sid", &sealed).is_none());
        assert!(ring.open(Purpose::Listing, b"other", &sealed).is_none());
        assert!(!sealed.windows(5).any(|window| window == b"alice"));
    }

    #[test]
    fn a_token_is_needed_beside_the_secret() {
        let ring = ring(&[1]);
        let sealed = ring.seal_for(TokenKey(&[7; 32]), Purpose::SessionKey, b"", b"x");
        assert!(ring.open(Purpose::SessionKey, b"", &sealed).is_none());
        assert!(
            ring.open_for(TokenKey(&[8; 32]), Purpose::SessionKey, b"", &sealed)
                .is_none()
        );
        assert!(
            ring.open_for(TokenKey(&[7; 32]), Purpose::SessionKey, b"", &sealed)
                .is_some()
        );
    }

    #[test]
    fn an_older_secret_still_opens_and_a_lost_one_does_not() {
        let sealed = ring(&[1]).seal(Purpose::Listing, b"", b"x");
        assert!(ring(&[2, 1]).open(Purpose::Listing, b"", &sealed).is_some());
        assert!(ring(&[2]).open(Purpose::Listing, b"", &sealed).is_none());
        assert!(ring(&[1, 2]).is_newest(&sealed) && !ring(&[2, 1]).is_newest(&sealed));
        assert!(!ring(&[1]).is_newest(b""));
    }

    #[test]
    fn a_lost_secret_has_a_name_and_damage_has_none() {
        let mut sealed = ring(&[1]).seal(Purpose::Listing, b"", b"x");
        let name = ring(&[1]).ids().next();
        assert!(name.is_some());
        assert_eq!(ring(&[2, 3]).missing(&sealed), name);
        assert_eq!(ring(&[2, 1]).missing(&sealed), None);
        sealed.truncate(KEY_ID_LEN - 1);
        assert_eq!(ring(&[2]).missing(&sealed), None);
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused() {
        let ring = ring(&[1]);
        let sealed = ring.seal(Purpose::Listing, b"", b"hello");
        for i in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[i / 8] ^= 1 << (i % 8);
            assert!(ring.open(Purpose::Listing, b"", &bad).is_none(), "bit {i}");
        }
        assert!(ring.open(Purpose::Listing, b"", b"").is_none());
    }

    #[test]
    fn a_derived_key_is_the_same_on_every_node_and_another_for_each_secret_purpose_and_try() {
        let keys = |ring: &Keyring, purpose| ring.derived(purpose, |key| Some(*key));
        let both = keys(&ring(&[2, 1]), Purpose::AssertionEs256);
        assert_eq!(both.len(), 2);
        assert_eq!(both[1..], keys(&ring(&[1]), Purpose::AssertionEs256));
        assert_ne!(both[0], both[1]);
        assert_ne!(both, keys(&ring(&[2, 1]), Purpose::AssertionEdDsa));
        let picky = ring(&[1]).derived(Purpose::AssertionEs256, |key| {
            (*key != both[1]).then_some(*key)
        });
        assert_eq!(picky.len(), 1, "another try");
        assert_ne!(picky[0], both[1]);
    }

    #[test]
    fn a_short_secret_is_refused() {
        let short = Keyring::new(vec![Secret::new(vec![1; 31])]);
        assert_eq!(short.unwrap_err(), SecretError::TooShort(31));
        assert_eq!(Keyring::new(vec![]).unwrap_err(), SecretError::Missing);
    }
}
