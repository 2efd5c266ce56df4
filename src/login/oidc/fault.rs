//! Why a login at a provider did not work: what a person is told depends on which of these it is, and the log tells
//! the rest. None holds a token, a code or what a claim said.

use crate::outbound::OutboundError;

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OidcError {
    /// It was not found yet, does not answer, or answers that it is in trouble.
    #[error("the provider cannot be asked: {0}")]
    Unavailable(String),
    /// It knows the user, who is none of those that are let in.
    #[error("the user is not let in: {0}")]
    NotAdmitted(&'static str),
    /// It answered that there is to be no login.
    #[error("the provider refused the login: {0}")]
    Refused(String),
    /// It answered what must not be believed.
    #[error("the provider's answer is not to be believed: {0}")]
    Unbelievable(#[from] Flaw),
}

impl OidcError {
    /// With the protocol's word for it, which somebody else wrote.
    pub(in crate::login) fn refused(word: &str) -> Self {
        let word: String = word.chars().take(64).collect();
        Self::Refused(word.escape_debug().to_string())
    }
}

impl From<OutboundError> for OidcError {
    fn from(error: OutboundError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// What is wrong with an answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Flaw {
    #[error("the access token is not the one that the ID token came with")]
    AccessToken,
    #[error("the token is signed by an algorithm that is not allowed")]
    Algorithm,
    #[error("the token is not for us alone: its audience is another, or not only ours")]
    Audience,
    #[error("the claim {0} is missing, or of another type than it has to be")]
    Claim(String),
    #[error("the claim {0} names a user by an email address that is not verified")]
    Unverified(String),
    #[error("the token has expired")]
    Expired,
    #[error("the answer or the token is of another issuer")]
    Issuer,
    #[error("the token begins in the future")]
    NotYet,
    #[error("the token belongs to another login")]
    Nonce,
    #[error("the user did not log in anew, or the provider does not say when that was")]
    OldLogin,
    #[error("the token was used before")]
    Replayed,
    #[error("the answer is not what the protocol asks for: {0}")]
    Shape(&'static str),
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the answer is about another user")]
    Subject,
    #[error(
        "the user did not log in in one of the ways that were asked for, or the provider does not say how"
    )]
    WeakLogin,
    #[error("the token is signed by a key that the provider does not publish")]
    UnknownKey,
}
