//! Every way in which a request is turned down, and the only place where that becomes HTTP: a status, a page or JSON,
//! with a request id and nothing that helps an attacker.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use serde_json::json;

use super::admit::AdmitError;
use super::client::{ASK, ASK_FOR_ANOTHER, ASK_FOR_MORE};
use super::path::PathError;
use super::wording::Text;
use crate::portal::{Audience, ErrorView, KEPT, Pages, PortalError};
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
    #[error("the issuer of the credential cannot be asked: {0}")]
    CredentialUnchecked(String),
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
    #[error("the route does not name the origin of the script")]
    Origin,
    #[error("the path cannot be read in one way: {0}")]
    Path(#[from] PathError),
    #[error(transparent)]
    Portal(#[from] PortalError),
    /// Another proxy asks for its client, in a way that is not to be understood in just one.
    #[error("a question of another proxy with {0}")]
    Question(&'static str),
    #[error("the credential is not for this")]
    Scope,
    #[error("the session store gives no answer: {0}")]
    Store(String),
    #[error("somebody asks as a proxy would, whom trusted_proxies does not name")]
    UntrustedPeer,
    #[error("more header fields than are taken")]
    TooManyFields,
    /// A form that was kept could not be sent, and waits on.
    #[error("a form that was kept was not sent: {0}")]
    Unreached(UpstreamError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
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
            Audience::Person | Audience::Form => pages.error(&ErrorView {
                status: text.status,
                title: text.title,
                message: text.message,
                hint: text.hint,
                request_id: &id,
                action: self.way_on(),
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
            Self::CredentialUnchecked(_)
            | Self::Store(_)
            | Self::Portal(PortalError::Store(_))
            | Self::Unreached(_)
            | Self::Upstream(UpstreamError::Exhausted(_)) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            Self::Portal(PortalError::Stranded(_))
                if text.status == StatusCode::SERVICE_UNAVAILABLE =>
            {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        page
    }

    /// Whether it says that a credential is wanted.
    pub fn asks_for_credential(&self) -> bool {
        matches!(self, Self::BadCredential | Self::NoCredential)
    }

    /// A login that a provider is to blame for: of interest to whoever runs this, though the status is the client's.
    pub fn is_stranded(&self) -> bool {
        let Self::Portal(PortalError::Stranded(stranded)) = self else {
            return false;
        };
        stranded.cause.is_of_the_provider()
    }

    /// Label and address of a button.
    fn way_on(&self) -> Option<(&str, &str)> {
        match self {
            Self::Unreached(_) => Some(("Try again", KEPT)),
            Self::Portal(PortalError::NotSent(_)) => Some(("Continue", "/")),
            Self::Portal(PortalError::Stranded(stranded)) => Some(("Log in", &stranded.again)),
            _ => None,
        }
    }
}

fn ask(headers: &mut HeaderMap, how: HeaderValue) {
    headers.insert(header::WWW_AUTHENTICATE, how);
}

fn program(text: &Text, id: &str) -> Page {
    let body = json!({ "error": text.code, "message": text.message, "request_id": id });
    json_page(text.status, &body)
}
