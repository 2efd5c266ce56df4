//! What people and programs are told of each refusal: a status, a word for programs, and sentences. It knows no request.

use http::StatusCode;

use super::admit::AdmitError;
use super::refusal::Refusal;
use super::stranded;
use crate::portal::{NotSent, PortalError};
use crate::upstream::UpstreamError;

/// What a person is told.
pub(super) struct Text {
    pub(super) status: StatusCode,
    /// For programs: stable, in snake case.
    pub(super) code: &'static str,
    pub(super) title: &'static str,
    pub(super) message: &'static str,
    pub(super) hint: Option<&'static str>,
}

impl Refusal {
    pub(super) fn text(&self) -> Text {
        match self {
            Self::Admit(error) => admit_text(error),
            Self::BadCredential
            | Self::CredentialUnchecked(_)
            | Self::NoCredential
            | Self::Scope => credential_text(self),
            Self::Denied => Text {
                status: StatusCode::FORBIDDEN,
                code: "forbidden",
                title: "You have no access to this",
                message: "You are logged in, but this part of the site is not open to your account.",
                hint: Some("If you need it, ask whoever runs this site."),
            },
            Self::Loop => Text {
                status: StatusCode::LOOP_DETECTED,
                code: "loop_detected",
                title: "This site points at itself",
                message: "The request went round in a circle and was stopped.",
                hint: None,
            },
            Self::Method { .. } => Text {
                status: StatusCode::METHOD_NOT_ALLOWED,
                code: "method_not_allowed",
                title: "That cannot be done here",
                message: "This address does not take requests of this kind.",
                hint: None,
            },
            Self::Misdirected => Text {
                status: StatusCode::MISDIRECTED_REQUEST,
                code: "misdirected_request",
                title: "Wrong connection",
                message: "This connection is not for the host that was asked for.",
                hint: Some("Open the address anew."),
            },
            Self::NotFound => Text {
                status: StatusCode::NOT_FOUND,
                code: "not_found",
                title: "Nothing is here",
                message: "There is no page at this address.",
                hint: Some("Check the address for a typing error."),
            },
            Self::Origin => Text {
                status: StatusCode::FORBIDDEN,
                code: "origin_not_allowed",
                title: "Scripts of that site may not do this",
                message: "Scripts of the site that asks have no access to this address.",
                hint: None,
            },
            Self::UntrustedPeer => Text {
                status: StatusCode::FORBIDDEN,
                code: "untrusted_peer",
                title: "That is not for you to ask",
                message: "This address answers other proxies of this site.",
                hint: None,
            },
            Self::Odd(_) | Self::Path(_) | Self::Question(_) => {
                bad_request("The address cannot be read in just one way.")
            }
            Self::Portal(error) => portal_text(error),
            Self::Store(_) => Text {
                status: StatusCode::SERVICE_UNAVAILABLE,
                code: "sessions_unavailable",
                title: "Sessions cannot be checked right now",
                message: "You have not been logged out. Your session will be there when this is over.",
                hint: Some("Try again in a few seconds."),
            },
            Self::TooManyFields => Text {
                status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                code: "too_many_fields",
                title: "That is too much",
                message: "The request has more header fields than are taken here.",
                hint: Some("Deleting this site's cookies may help."),
            },
            Self::Unreached(error) => unreached_text(error),
            Self::Upstream(error) => upstream_text(error),
        }
    }
}

fn credential_text(refusal: &Refusal) -> Text {
    let (status, code, title, message) = match refusal {
        Refusal::CredentialUnchecked(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "issuer_unavailable",
            "The token cannot be checked right now",
            "Whoever gave it out does not answer.",
        ),
        Refusal::NoCredential => (
            StatusCode::UNAUTHORIZED,
            "token_required",
            "This address is for programs",
            "It wants a token with each request, in the Authorization field.",
        ),
        Refusal::Scope => (
            StatusCode::FORBIDDEN,
            "insufficient_scope",
            "The token is not for this",
            "The token is good, but it was not given out for this.",
        ),
        _ => (
            StatusCode::UNAUTHORIZED,
            "invalid_token",
            "That is not a token that is good here",
            "The token was revoked, has expired, or never was one.",
        ),
    };
    Text {
        status,
        code,
        title,
        message,
        hint: None,
    }
}

fn not_sent_text(why: NotSent) -> Text {
    let (title, message) = match why {
        NotSent::Nothing => (
            "Nothing is waiting to be sent",
            "It was sent already, or thrown away, or never kept.",
        ),
        NotSent::Foreign => (
            "That was somebody else's",
            "What was kept had been sent by somebody else in this browser. It was thrown away, and was not sent.",
        ),
        NotSent::Old => (
            "That is too long ago",
            "What you sent was kept for 15 minutes. It was thrown away, and was not sent.",
        ),
    };
    Text {
        status: StatusCode::GONE,
        code: "not_sent",
        title,
        message,
        hint: None,
    }
}

fn admit_text(error: &AdmitError) -> Text {
    let status = match error {
        AdmitError::Coding(_) => StatusCode::NOT_IMPLEMENTED,
        AdmitError::Expectation(_) => StatusCode::EXPECTATION_FAILED,
        AdmitError::Malformed(_) | AdmitError::OptionsStar => StatusCode::BAD_REQUEST,
        AdmitError::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
    };
    match status {
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Text {
            status,
            code: "not_supported",
            title: "That is not supported",
            message: "This kind of request is not supported here.",
            hint: None,
        },
        StatusCode::EXPECTATION_FAILED => Text {
            status,
            code: "expectation_failed",
            title: "That cannot be promised",
            message: "The request expects something that is not offered here.",
            hint: None,
        },
        _ => Text {
            status,
            ..bad_request("The request is not one that can be understood in just one way.")
        },
    }
}

fn portal_text(error: &PortalError) -> Text {
    match error {
        PortalError::Body(_) => bad_request("The form could not be read."),
        PortalError::BodyTooLarge => too_large(),
        PortalError::CrossSite => Text {
            status: StatusCode::FORBIDDEN,
            code: "cross_site",
            title: "This came from somewhere else",
            message: "For your safety, requests that change something are taken from this site's own pages only.",
            hint: Some("Go back, reload the page and try again."),
        },
        PortalError::Method { .. } => Text {
            status: StatusCode::METHOD_NOT_ALLOWED,
            code: "method_not_allowed",
            title: "That cannot be done here",
            message: "This address does not take requests of this kind.",
            hint: None,
        },
        PortalError::NotFound => Text {
            status: StatusCode::NOT_FOUND,
            code: "not_found",
            title: "Nothing is here",
            message: "There is no page at this address.",
            hint: None,
        },
        PortalError::NotSent(why) => not_sent_text(*why),
        PortalError::Stranded(stranded) => stranded::text(&stranded.cause),
        PortalError::Store(_) => Text {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "sessions_unavailable",
            title: "Sessions cannot be changed right now",
            message: "What you asked for could not be saved.",
            hint: Some("Try again in a few seconds."),
        },
        PortalError::TooLargeForTicket => Text {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "login_too_large",
            title: "Your login does not get there",
            message: "You are logged in, but what the other host is to know of you is more than a cookie holds.",
            hint: Some(
                "Tell whoever runs this site: groups are what is long, and `claims` in `[session.jwt]` says what is told.",
            ),
        },
    }
}

fn unreached_text(error: &UpstreamError) -> Text {
    Text {
        code: "app_unreachable",
        title: "It is not sent yet",
        message: "The app cannot be reached right now. What you sent has not been processed, and is still kept.",
        hint: Some("It is kept for 15 minutes from when you sent it. Try again in a little while."),
        ..upstream_text(error)
    }
}

fn upstream_text(error: &UpstreamError) -> Text {
    let (status, code, title, message) = match error {
        UpstreamError::ClientBody(_) => {
            return Text {
                status: StatusCode::REQUEST_TIMEOUT,
                code: "request_incomplete",
                title: "Your request did not arrive whole",
                message: "The connection stopped in the middle of what was being sent.",
                hint: Some("Try again."),
            };
        }
        UpstreamError::BodyTooLarge => return too_large(),
        UpstreamError::Over => {
            return Text {
                status: StatusCode::UNAUTHORIZED,
                code: "login_required",
                title: "Your session has ended",
                message: "It ended while your request was on its way.",
                hint: Some("Log in again."),
            };
        }
        UpstreamError::Connect(_) | UpstreamError::Exchange(_) => (
            StatusCode::BAD_GATEWAY,
            "bad_gateway",
            "The app does not answer",
            "This site is up, but the app behind it is not answering.",
        ),
        UpstreamError::Exhausted(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "The app is very busy",
            "More people are using the app than it can serve at once.",
        ),
        UpstreamError::Timeout => (
            StatusCode::GATEWAY_TIMEOUT,
            "gateway_timeout",
            "The app takes too long",
            "The app behind this site did not answer in time.",
        ),
    };
    Text {
        status,
        code,
        title,
        message,
        hint: Some("Try again in a little while."),
    }
}

fn too_large() -> Text {
    Text {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        code: "too_large",
        title: "That is too large",
        message: "What was sent is larger than this address takes.",
        hint: None,
    }
}

fn bad_request(message: &'static str) -> Text {
    Text {
        status: StatusCode::BAD_REQUEST,
        code: "bad_request",
        title: "The request was refused",
        message,
        hint: None,
    }
}
