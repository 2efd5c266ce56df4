//! Why a login form is shown again, in words and as a status. It refuses to know what the form looks like.

use std::time::Duration;

use http::StatusCode;

/// When to try again after an overload or an outage of our own, unless the caller knows better and replaces it.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Why a login form is shown again. It decides the text and the status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoginProblem {
    /// Too many people are logging in at once.
    Busy,
    /// The form had been open for too long.
    Expired,
    /// The browser sends no cookie, so nothing can be bound to it.
    NoCookie,
    /// A passkey that is not good here, for whatever reason.
    Passkey,
    /// All sessions of the user were ended meanwhile.
    Overtaken,
    TooMany {
        minutes: u64,
    },
    /// The user has as many sessions as are allowed.
    TooManySessions {
        max: usize,
    },
    /// Logins cannot be checked now.
    Unavailable,
    /// The code of an authenticator app was used before.
    UsedCode,
    WrongCode,
    WrongCredentials,
}

impl LoginProblem {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Expired | Self::NoCookie => StatusCode::BAD_REQUEST,
            Self::Overtaken => StatusCode::CONFLICT,
            Self::Passkey | Self::UsedCode | Self::WrongCode | Self::WrongCredentials => {
                StatusCode::UNAUTHORIZED
            }
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::TooManySessions { .. } => StatusCode::FORBIDDEN,
            Self::Busy | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(super) fn text(self) -> String {
        let text = match self {
            Self::Busy => "Many people are logging in right now. Try again in a few seconds.",
            Self::Expired => "This page had been open for too long. Log in once more.",
            Self::NoCookie => {
                "Your browser sent no cookie back, and without one nobody can be logged in. Allow cookies for this site, open it in a window of its own, then log in once more."
            }
            Self::Overtaken => "Your sessions were ended at the same moment. Log in once more.",
            Self::Passkey => {
                "That passkey was not accepted. Try another one, or log in with your password."
            }
            Self::TooMany { minutes: 0 | 1 } => "Too many attempts. Wait a minute, then try again.",
            Self::TooMany { minutes } => {
                return format!("Too many attempts. Wait {minutes} minutes, then try again.");
            }
            Self::TooManySessions { max: 1 } => {
                "You are logged in somewhere else, and only one login at a time is allowed. Log out there first."
            }
            Self::TooManySessions { max } => {
                return format!(
                    "You are logged in at {max} places already, which is all that is allowed. Log out at one of them first."
                );
            }
            Self::Unavailable => {
                "Logging in does not work at the moment. Try again in a little while."
            }
            Self::UsedCode => {
                "That code has been used already, and each is good once. Wait for the next one."
            }
            Self::WrongCode => {
                "That code is wrong. Codes of the app change every 30 seconds; the clock of your device has to be right."
            }
            Self::WrongCredentials => "User name or password is wrong. Check both and try again.",
        };
        text.to_owned()
    }

    pub(super) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Busy | Self::Unavailable => Some(TRY_AGAIN),
            Self::TooMany { minutes } => {
                Some(Duration::from_secs(minutes.max(1).saturating_mul(60)))
            }
            Self::Expired
            | Self::NoCookie
            | Self::Overtaken
            | Self::Passkey
            | Self::TooManySessions { .. }
            | Self::UsedCode
            | Self::WrongCode
            | Self::WrongCredentials => None,
        }
    }
}
