//! Every way in which a request is turned down, and the only place where that becomes HTTP: a status, a page or JSON,
//! with a request id and nothing that helps an attacker.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use serde_json::json;

use super::admit::AdmitError;
use super::client::{ASK, ASK_FOR_ANOTHER, ASK_FOR_MORE};
use super::path::PathError;
use crate::portal::{Audience, ErrorView, Pages, PortalError};
use crate::routing::Oddity;
use crate::upstream::UpstreamError;
use crate::wire::{Page, RequestId, json_page};

/// Why a request gets no answer from an app.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("refused: {0}")]
    Admit(#[from] AdmitError),
    /// It may have been good before.
    #[error("the credential is not good")]
    BadCredential,
    #[error("the route is not for this user")]
    Denied,
    #[error("the request has come through here too often")]
    Loop,
    #[error("the method is not served here")]
    Method { allow: String },
    /// The host is not one that the connection's certificate is for.
    #[error("the host does not fit the certificate")]
    Misdirected,
    /// Where only programs are served.
    #[error("no credential")]
    NoCredential,
    #[error("no route")]
    NotFound,
    #[error("the path holds {0}, which the route does not allow")]
    Odd(Oddity),
    #[error("the path cannot be read in one way: {0}")]
    Path(#[from] PathError),
    #[error(transparent)]
    Portal(#[from] PortalError),
    #[error("the credential is not for this")]
    Scope,
    #[error("the session store gives no answer: {0}")]
    Store(String),
    #[error("more header fields than are taken")]
    TooManyFields,
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// What a person is told.
struct Text {
    status: StatusCode,
    /// For programs: stable, in snake case.
    code: &'static str,
    title: &'static str,
    message: &'static str,
    hint: Option<&'static str>,
}

impl Refusal {
    pub fn status(&self) -> StatusCode {
        self.text().status
    }

    /// Whether what follows on the same connection cannot be trusted to be a request: this one may have had another end.
    pub const fn ends_connection(&self) -> bool {
        matches!(
            self,
            Self::Admit(AdmitError::Coding(_) | AdmitError::Malformed(_))
        )
    }

    /// The answer, for a person or for a program.
    pub fn respond(&self, audience: Audience, id: RequestId, pages: &Pages) -> Page {
        let text = self.text();
        let id = id.to_string();
        let mut page = match audience {
            Audience::Person => pages.error(&ErrorView {
                status: text.status,
                title: text.title,
                message: text.message,
                hint: text.hint,
                request_id: &id,
                action: None,
            }),
            Audience::Program | Audience::Grpc => program(&text, &id),
        };
        let headers = page.headers_mut();
        match self {
            Self::Portal(PortalError::Method { allow }) => {
                headers.insert(header::ALLOW, HeaderValue::from_static(allow));
            }
            Self::BadCredential => ask(headers, ASK_FOR_ANOTHER),
            Self::NoCredential => ask(headers, ASK),
            Self::Scope => ask(headers, ASK_FOR_MORE),
            Self::Method { allow } => {
                if let Ok(allow) = HeaderValue::try_from(allow) {
                    headers.insert(header::ALLOW, allow);
                }
            }
            Self::Store(_)
            | Self::Portal(PortalError::Store(_))
            | Self::Upstream(UpstreamError::Exhausted(_)) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        page
    }

    fn text(&self) -> Text {
        match self {
            Self::Admit(error) => admit_text(error),
            Self::BadCredential => Text {
                status: StatusCode::UNAUTHORIZED,
                code: "invalid_token",
                title: "That is not a token that is good here",
                message: "The token was revoked, has expired, or never was one.",
                hint: None,
            },
            Self::NoCredential => Text {
                status: StatusCode::UNAUTHORIZED,
                code: "token_required",
                title: "This address is for programs",
                message: "It wants a token with each request, in the Authorization field.",
                hint: None,
            },
            Self::Scope => Text {
                status: StatusCode::FORBIDDEN,
                code: "insufficient_scope",
                title: "The token is not for this",
                message: "The token is good, but it was not given out for this.",
                hint: None,
            },
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
            Self::Odd(_) | Self::Path(_) => {
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
            Self::Upstream(error) => upstream_text(error),
        }
    }
}

fn ask(headers: &mut HeaderMap, how: HeaderValue) {
    headers.insert(header::WWW_AUTHENTICATE, how);
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
        PortalError::Store(_) => Text {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "sessions_unavailable",
            title: "Sessions cannot be changed right now",
            message: "What you asked for could not be saved.",
            hint: Some("Try again in a few seconds."),
        },
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

fn program(text: &Text, id: &str) -> Page {
    let body = json!({ "error": text.code, "message": text.message, "request_id": id });
    json_page(text.status, &body)
}
