//! A login at another site that led to no session, and why: the audit log has a word for each cause, people a page.

use crate::login::{Flaw, OidcError, PendingError};

/// A login at another site that led to no session.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a login with {provider} failed: {cause}")]
pub struct Stranded {
    pub provider: String,
    pub cause: Cause,
    /// Where to try once more.
    pub again: String,
}

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Cause {
    #[error("it took too long")]
    Expired,
    /// It began in another browser, if anywhere.
    #[error("it did not begin in this browser")]
    Foreign,
    #[error("the user has {max} sessions, which is all that is allowed")]
    Full { max: usize },
    #[error("{0}")]
    Malformed(&'static str),
    /// The provider knows the user, who is none of those that are let in.
    #[error("{0}")]
    NotAdmitted(String),
    /// The user was to show anew who they are, and the provider does not say that they did.
    #[error("the provider does not say when the user logged in")]
    NotFresh,
    #[error("all sessions of the user were ended since it began")]
    Overtaken,
    /// By the provider.
    #[error("{0}")]
    Refused(String),
    /// The provider says that the user logged in there before it was asked to let them do so, or longer ago than is allowed.
    #[error("{0}")]
    TooOld(String),
    /// The user did not log in there in one of the ways that were asked for.
    #[error("{0}")]
    TooWeak(String),
    /// The provider does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// What the provider answered.
    #[error("{0}")]
    Unbelievable(String),
}

impl Cause {
    /// The word for it in the audit log.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Foreign => "foreign",
            Self::Full { .. } => "too_many_sessions",
            Self::Malformed(_) => "malformed",
            Self::NotAdmitted(_) => "not_admitted",
            Self::NotFresh => "not_fresh",
            Self::Overtaken => "sessions_ended",
            Self::Refused(_) => "refused",
            Self::TooOld(_) => "too_old",
            Self::TooWeak(_) => "too_weak",
            Self::Unavailable(_) => "provider_unavailable",
            Self::Unbelievable(_) => "provider_unbelievable",
        }
    }

    /// Whether the provider is to blame, or whoever set it up.
    pub const fn is_of_the_provider(&self) -> bool {
        matches!(
            self,
            Self::Refused(_)
                | Self::TooOld(_)
                | Self::TooWeak(_)
                | Self::Unavailable(_)
                | Self::Unbelievable(_)
        )
    }
}

impl From<OidcError> for Cause {
    fn from(error: OidcError) -> Self {
        let text = error.to_string();
        match error {
            OidcError::NotAdmitted(_) => Self::NotAdmitted(text),
            OidcError::Refused(_) => Self::Refused(text),
            OidcError::Unavailable(_) => Self::Unavailable(text),
            OidcError::Unbelievable(Flaw::OldLogin) => Self::TooOld(text),
            OidcError::Unbelievable(Flaw::WeakLogin) => Self::TooWeak(text),
            OidcError::Unbelievable(_) => Self::Unbelievable(text),
        }
    }
}

impl From<PendingError> for Cause {
    fn from(error: PendingError) -> Self {
        match error {
            PendingError::Expired => Self::Expired,
            PendingError::Invalid => Self::Foreign,
        }
    }
}
