//! What a person reads whose login at another site led to no session.

use http::StatusCode;

use super::wording::Text;
use crate::portal::Cause;

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn text(cause: &Cause) -> Text {
    let (status, code, title, message, hint) = match cause {
        Cause::Unavailable(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "provider_unavailable",
            "Logging in does not work right now",
            "The service that checks who you are does not answer.",
            "Try again in a little while.",
        ),
        Cause::Refused(_) => (
            StatusCode::FORBIDDEN,
            "login_refused",
            "You were not logged in",
            "The service that checks who you are ended the login.",
            "Try again. If that does not help, ask whoever runs this site.",
        ),
        Cause::NotAdmitted(_) => (
            StatusCode::FORBIDDEN,
            "account_not_admitted",
            "This account cannot log in here",
            "It is not one of those that are let in.",
            "Log in with another account, or ask whoever runs this site.",
        ),
        Cause::NotFresh => (
            StatusCode::FORBIDDEN,
            "login_not_fresh",
            "Log in another way",
            "What you opened asks for a login made just now, and the service that you chose does not say when you logged in there.",
            "If there is no other way, ask whoever runs this site.",
        ),
        Cause::TooOld(_) => (
            StatusCode::FORBIDDEN,
            "login_too_old",
            "Log in there once more",
            "The service that checks who you are let you in by a login of long ago, and this site asks for a new one.",
            "Try again. If you are not asked to log in there, log out at that service first, or choose another way.",
        ),
        Cause::TooWeak(_) => (
            StatusCode::FORBIDDEN,
            "login_too_weak",
            "Log in there in a stronger way",
            "This site asks for a stronger proof of who you are than the one that you gave, for example a second step.",
            "Try again. If you are not asked for it, ask whoever runs this site.",
        ),
        Cause::Unbelievable(_) => (
            StatusCode::BAD_GATEWAY,
            "login_answer_invalid",
            "The login did not work",
            "The service that checks who you are gave an answer that cannot be trusted.",
            "Try again. If that does not help, tell whoever runs this site.",
        ),
        Cause::Expired => (
            StatusCode::BAD_REQUEST,
            "login_expired",
            "The login took too long",
            "It was begun more than an hour ago.",
            "Log in once more.",
        ),
        Cause::Foreign | Cause::Malformed(_) => (
            StatusCode::BAD_REQUEST,
            "login_unknown",
            "This login did not begin here",
            "It began in another browser, or this browser keeps no cookies of this site.",
            "Log in once more.",
        ),
        Cause::Overtaken => (
            StatusCode::CONFLICT,
            "sessions_ended",
            "Your sessions were ended",
            "That happened while you were logging in.",
            "Log in once more.",
        ),
        Cause::Full { .. } => (
            StatusCode::FORBIDDEN,
            "too_many_sessions",
            "You are logged in elsewhere",
            "You have as many sessions as are allowed.",
            "Log out at one of the other places first.",
        ),
    };
    Text {
        status,
        code,
        title,
        message,
        hint: Some(hint),
    }
}
