//! Logging in with a passkey (`WebAuthn` level 2), and adding and removing one. The ceremonies themselves are the library's;
//! here is who is asked, what an answer is tied to, and that it is good once. It knows no page and no session.

mod adding;
mod editing;
mod proving;
mod sealed;
mod stored;
#[cfg(test)]
mod tests;

pub use stored::Passkey;
pub(super) use stored::{PasskeyForm, PasskeyPlace, Taken, read};

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use url::{Host, Url};
use webauthn_rs::prelude::{PublicKeyCredential, Webauthn, WebauthnBuilder};

use self::proving::{Proof, Renewal};
use self::sealed::{Kind, MAX_AGE, Question};
use self::stored::Handle;
use super::hashing::HashingError;
use super::password::LocalUsers;
use super::throttle::{Attempt, Reservation, Verdict};
use super::users::{User, UserFile, UserFileError};
use crate::identity::{Identity, Subject};
use crate::secret::Keyring;

/// The longest answer of an authenticator that is looked at, in bytes of JSON.
const MAX_ANSWER: usize = 12 * 1024;

/// The passkeys of local users.
#[derive(Debug)]
pub struct Passkeys {
    users: Arc<LocalUsers>,
    keyring: Arc<Keyring>,
    rp_id: Option<String>,
}

/// A question to an authenticator.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `PublicKeyCredentialRequestOptions` or `PublicKeyCredentialCreationOptions` in JSON.
    pub options: String,
    /// Goes out and comes back beside the answer.
    pub state: String,
}

/// What came back.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// The host and port that the browser was at, as it wrote them.
    pub authority: &'a str,
    /// The id of the browser that a login was bound to, or of the session that a passkey is for.
    pub bound_to: &'a [u8],
    pub state: &'a str,
    /// `PublicKeyCredential` in JSON.
    pub credential: &'a str,
}

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PasskeyError {
    #[error("too much is waiting already")]
    Busy,
    /// The signature counter went back: there are two of this authenticator.
    #[error("the counter of the passkey of {user} went back")]
    Cloned { user: String },
    /// The question is too old, or was asked elsewhere.
    #[error("the question is not one that was asked here within the last minutes")]
    Expired,
    /// Which of many reasons it is, only the log is told.
    #[error("{0}")]
    Refused(&'static str),
    #[error("too many attempts")]
    TooMany { retry_after: Duration },
    #[error("the users file cannot be read or written")]
    Unavailable,
}

/// What a question is known by: each is answered once, which whoever asks for it to be kept has to see to.
pub type QuestionId = [u8; 16];

/// An answer that names a user and is yet to be proved.
#[derive(Debug)]
pub struct Claim<'a> {
    pub user: String,
    question: Question,
    answer: PublicKeyCredential,
    webauthn: Webauthn,
    reservation: Reservation<'a>,
}

/// A claim that is proved, and of which nothing is written down yet.
#[derive(Debug)]
pub struct Proved<'a> {
    user: User,
    renewal: Option<Renewal>,
    reservation: Reservation<'a>,
}

impl Claim<'_> {
    pub fn question(&self) -> QuestionId {
        self.question.nonce
    }
}

impl Passkeys {
    /// Of one user.
    pub const MAX: usize = stored::MAX_PASSKEYS;

    /// `rp_id`: what passkeys are for, where that is wider than the host on which they are made.
    pub fn new(users: Arc<LocalUsers>, keyring: Arc<Keyring>, rp_id: Option<String>) -> Self {
        Self {
            users,
            keyring,
            rp_id,
        }
    }

    /// The provider whose users these are.
    pub fn provider(&self) -> &str {
        self.users.id()
    }

    pub fn subject(&self, user: &str) -> Subject {
        self.users.subject_of(user)
    }

    /// What passkeys of this host are for. `None`: none can be used here, as where the host is an address.
    pub fn rp_id(&self, authority: &str) -> Option<String> {
        self.site(authority).map(|(_, rp_id)| rp_id)
    }

    /// Asks for any passkey of any user. `None` where nobody has one, or none can be used here.
    pub fn ask_to_log_in(&self, authority: &str, browser: &[u8]) -> Option<Asked> {
        if !self.users.have_passkeys() {
            return None;
        }
        let (asked, state) = self
            .webauthn(authority)?
            .start_discoverable_authentication()
            .ok()?;
        let asked = serde_json::to_value(&asked).ok()?;
        let state = serde_json::to_string(&state).ok()?;
        self.asked(asked, (authority, browser), (Kind::Login, state))
    }

    /// Whose login an answer would be, if it is proved.
    pub async fn claim<'a>(
        &'a self,
        answered: Answered<'_>,
        address: IpAddr,
    ) -> Result<Claim<'a>, PasskeyError> {
        let question = self.question(&answered)?;
        let webauthn = self.webauthn(answered.authority);
        let webauthn = webauthn.ok_or(PasskeyError::Expired)?;
        let reservation = self.reserve(address)?;
        if question.kind != Kind::Login {
            return Err(PasskeyError::Refused("the question was another one"));
        }
        let answer: PublicKeyCredential = parsed(answered.credential)?;
        let (handle, id) = webauthn
            .identify_discoverable_authentication(&answer)
            .map(|(handle, id)| (Handle(handle), id.to_vec()))
            .map_err(|_| PasskeyError::Refused("the answer names no user"))?;
        let found = self.users.with_users(move |users, _| {
            let users = users.ok_or(PasskeyError::Unavailable)?;
            let (user, passkey) = users
                .find_credential(&id)
                .ok_or(PasskeyError::Refused("nobody has such a passkey"))?;
            if passkey.handle == handle {
                Ok(user.name.clone())
            } else {
                Err(PasskeyError::Refused("the passkey is another user's"))
            }
        });
        match found.await.map_err(overloaded).flatten() {
            Ok(user) => Ok(Claim {
                user,
                question,
                answer,
                webauthn,
                reservation,
            }),
            Err(error) => Err(counted(reservation, error)),
        }
    }

    /// Proves a claim: signature, origin, user verification and counter. Whether the question was answered before is to be
    /// asked between this and [`Passkeys::keep`].
    pub async fn prove<'a>(&self, claim: Claim<'a>) -> Result<Proved<'a>, PasskeyError> {
        let Claim {
            user,
            question,
            answer,
            webauthn,
            reservation,
        } = claim;
        let proof = self.users.with_users(move |users, _| {
            let users = users.ok_or(PasskeyError::Unavailable)?;
            let proof = Proof {
                question: &question,
                answer: &answer,
                webauthn: &webauthn,
            };
            proof.judge(users, &user)
        });
        match proof.await.map_err(overloaded).flatten() {
            Ok((user, renewal)) => Ok(Proved {
                user,
                renewal,
                reservation,
            }),
            Err(error) => Err(counted(reservation, error)),
        }
    }

    /// Writes down how often the passkey was used, without which nobody comes in: a copy would be let in later.
    pub async fn keep(&self, proved: Proved<'_>) -> Result<Identity, PasskeyError> {
        let Proved {
            user,
            renewal,
            reservation,
        } = proved;
        if let Some(renewal) = renewal {
            let name = user.name.clone();
            let kept = self
                .users
                .with_users(move |_, path| renewal.write(path, &name));
            if let Err(error) = kept.await.map_err(overloaded).flatten() {
                return Err(counted(reservation, error));
            }
        }
        reservation.give_back();
        Ok(self.users.identity(user))
    }

    pub async fn list(&self, user: &str) -> Result<Vec<Passkey>, PasskeyError> {
        let user = user.to_owned();
        let listed = self
            .users
            .with_users(move |users, _| users.map(|users| editing::of(users, &user).to_vec()));
        let listed = listed.await.map_err(overloaded)?;
        listed.ok_or(PasskeyError::Unavailable)
    }

    /// Says what it was called; `None` where the user has no such passkey.
    pub async fn remove(&self, user: &str, label: &str) -> Result<Option<String>, PasskeyError> {
        let (user, label) = (user.to_owned(), label.to_owned());
        let removed = self.users.with_users(move |users, path| {
            let users = users.ok_or(PasskeyError::Unavailable)?;
            let mut known = editing::of(users, &user).iter();
            let Some(passkey) = known.find(|passkey| passkey.label() == label) else {
                return Ok(None);
            };
            let removed = UserFile::remove_passkeys(path, &user, Some(passkey.id()));
            match removed {
                Ok(names) => Ok(names.into_iter().next()),
                Err(UserFileError::Refused(_) | UserFileError::Unknown(_)) => Ok(None),
                Err(error) => Err(unwritten(&error)),
            }
        });
        removed.await.map_err(overloaded)?
    }

    fn question(&self, answered: &Answered<'_>) -> Result<Question, PasskeyError> {
        let now = self.users.clock().now();
        let place = (answered.bound_to, answered.authority, now);
        Question::open(answered.state, &self.keyring, place).ok_or(PasskeyError::Expired)
    }

    fn asked(
        &self,
        mut asked: Value,
        (authority, bound_to): (&str, &[u8]),
        question: (Kind, String),
    ) -> Option<Asked> {
        let question = Question::new(authority, self.users.clock().now(), question);
        Some(Asked {
            options: asked.get_mut("publicKey")?.take().to_string(),
            state: question.seal(&self.keyring, bound_to)?,
        })
    }

    /// Counts an attempt of an address alone: an answer that is refused names nobody who could be trusted to be meant.
    fn reserve(&self, address: IpAddr) -> Result<Reservation<'_>, PasskeyError> {
        let attempt = Attempt {
            user: &format!("\0{address}"),
            address,
            known_browser: false,
        };
        let now = self.users.clock().now();
        match self.users.throttle().reserve(&attempt, now) {
            Verdict::Allowed(reservation) => Ok(reservation),
            Verdict::TooMany { retry_after } => Err(PasskeyError::TooMany { retry_after }),
        }
    }

    /// What is asked at a host, with this origin alone, its port included.
    fn webauthn(&self, authority: &str) -> Option<Webauthn> {
        let (origin, rp_id) = self.site(authority)?;
        let builder = WebauthnBuilder::new(&rp_id, &origin).ok()?;
        builder.timeout(MAX_AGE).build().ok()
    }

    fn site(&self, authority: &str) -> Option<(Url, String)> {
        let origin = Url::parse(&format!("https://{authority}/")).ok()?;
        let Some(Host::Domain(host)) = origin.host() else {
            return None;
        };
        let rp_id = self.rp_id.as_deref().unwrap_or(host).to_owned();
        let is_within = host
            .strip_suffix(&rp_id)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        is_within.then_some((origin, rp_id))
    }
}

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, PasskeyError> {
    const NOT_READ: PasskeyError = PasskeyError::Refused("the answer could not be read");
    if text.len() > MAX_ANSWER {
        return Err(NOT_READ);
    }
    serde_json::from_str(text).map_err(|_| NOT_READ)
}

/// An attempt that says nothing of its client is not counted.
fn counted(reservation: Reservation<'_>, error: PasskeyError) -> PasskeyError {
    match error {
        PasskeyError::Busy | PasskeyError::Unavailable => reservation.give_back(),
        PasskeyError::Cloned { .. }
        | PasskeyError::Expired
        | PasskeyError::Refused(_)
        | PasskeyError::TooMany { .. } => {}
    }
    error
}

fn overloaded(error: HashingError) -> PasskeyError {
    match error {
        HashingError::Busy => PasskeyError::Busy,
        _ => PasskeyError::Unavailable,
    }
}

fn unwritten(error: &UserFileError) -> PasskeyError {
    if let UserFileError::Refused(message) = error {
        return PasskeyError::Refused(message);
    }
    tracing::error!(%error, "a passkey could not be written to the users file");
    PasskeyError::Unavailable
}
