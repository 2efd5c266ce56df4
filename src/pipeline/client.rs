//! Requests that come with a credential of their own in place of a session. They find no session, begin none, and keep
//! none alive.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::Refusal;
use super::gate::{Decision, decide, decide_grant};
use super::visit::{Notes, Visit};
use crate::login::{Grant, OidcError};
use crate::portal::Asker;
use crate::routing::{Clients, Route};
use crate::session::remove_cookies;
use crate::telemetry::AuditEvent;

/// What a program is told that has no credential, or none that is good (RFC 6750 section 3).
pub(super) const ASK: HeaderValue = HeaderValue::from_static("Bearer realm=\"doorward\"");
pub(super) const ASK_FOR_ANOTHER: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"doorward\", error=\"invalid_token\"");
pub(super) const ASK_FOR_MORE: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"doorward\", error=\"insufficient_scope\"");
/// And of HTTP Basic, where that is taken (RFC 7617). Never said to browsers, which would ask a person for a password.
const ASK_BASIC: HeaderValue =
    HeaderValue::from_static("Basic realm=\"doorward\", charset=\"UTF-8\"");

/// What browsers send, and programs do not.
const BY_BROWSERS: [HeaderName; 4] = [
    header::ORIGIN,
    HeaderName::from_static("sec-fetch-dest"),
    HeaderName::from_static("sec-fetch-mode"),
    HeaderName::from_static("sec-fetch-site"),
];

/// The longest `Basic` that is looked into.
const LONGEST_BASIC: usize = 512;

impl Visit {
    /// Whether who comes may pass: by a credential where the route takes one and there is one, or else by a session.
    pub(super) async fn decided(
        &self,
        headers: &mut HeaderMap,
        route: &Arc<Route>,
        notes: &mut Notes,
    ) -> Result<Decision, Refusal> {
        let clock = &self.pipeline.shared.clock;
        let address = notes.client.unwrap_or(self.peer.addr.ip());
        if let Some(clients) = &route.clients
            && (headers.contains_key(header::AUTHORIZATION) || !clients.with_sessions)
        {
            // Boxed: most requests have nothing of it.
            notes.grant = Box::pin(self.granted(headers, (route, clients), address)).await?;
        }
        if let Some(grant) = notes.grant.clone() {
            return Ok(decide_grant(route, grant, clock.now()));
        }
        notes.session = self.session(headers, route.into(), notes).await?;
        if let Some(session) = &notes.session {
            self.pipeline.shared.portal.keep_up(session);
        }
        Ok(decide(route, notes.session.clone(), clock.now()))
    }

    /// What the credential of a request is worth. `None` where the route takes sessions too and the request has no
    /// credential: a bad one is refused, and never made up for by a session.
    async fn granted(
        &self,
        headers: &mut HeaderMap,
        (route, clients): (&Route, &Clients),
        address: IpAddr,
    ) -> Result<Option<Arc<Grant>>, Refusal> {
        let shared = &*self.pipeline.shared;
        let found = match credential(headers, clients) {
            Credential::None if clients.with_sessions => {
                clean(headers, clients);
                return Ok(None);
            }
            Credential::None => return Err(Refusal::NoCredential),
            Credential::Bearer(token) => self.bearer(token, clients).await,
            Credential::Basic(pair) => self.basic(pair, headers),
            Credential::Several => Err(Bad::Refused("there is more than one".to_owned())),
        };
        match found {
            Ok(grant) => {
                clean(headers, clients);
                remove_cookies(headers, &shared.cookie_names);
                Ok(Some(grant))
            }
            Err(Bad::Unchecked(cause)) => Err(Refusal::CredentialUnchecked(cause)),
            Err(Bad::Refused(cause)) => {
                let event = AuditEvent::CredentialRefused {
                    route: route.id.clone(),
                    cause,
                    address,
                };
                shared.audit.record(&event);
                Err(Refusal::BadCredential)
            }
        }
    }

    /// One of our own tokens, or one of an issuer that the route takes.
    async fn bearer(&self, token: &[u8], clients: &Clients) -> Result<Arc<Grant>, Bad> {
        let own = clients.tokens.then(|| self.api_token(token)).flatten();
        if let Some(grant) = own {
            return Ok(grant);
        }
        let issuers = self.pipeline.shared.issuers.as_ref();
        let Some(issuers) = issuers.filter(|_| !clients.issuers.is_empty()) else {
            return Err(Bad::unknown());
        };
        match issuers.recall(token, &clients.issuers) {
            Some(grant) => Ok(grant),
            None => Ok(issuers.judge(token, &clients.issuers).await?),
        }
    }

    /// One of our own tokens, with its name (RFC 7617). A browser would send it along with whatever any site makes it send.
    fn basic(&self, pair: &[u8], headers: &HeaderMap) -> Result<Arc<Grant>, Bad> {
        if BY_BROWSERS.iter().any(|name| headers.contains_key(name)) {
            return Err(Bad::Refused("a browser sends it".to_owned()));
        }
        let pair = Some(pair).filter(|pair| pair.len() <= LONGEST_BASIC);
        let decoded = pair.and_then(|pair| BASE64_STANDARD.decode(pair).ok());
        let decoded = decoded.ok_or_else(Bad::unknown)?;
        let mut parts = decoded.splitn(2, |byte| *byte == b':');
        let (name, token) = (parts.next(), parts.next());
        let grant = token.and_then(|token| self.api_token(token));
        grant
            .filter(|grant| name == Some(grant.identity.user.as_bytes()))
            .ok_or_else(Bad::unknown)
    }

    fn api_token(&self, token: &[u8]) -> Option<Arc<Grant>> {
        let shared = &*self.pipeline.shared;
        let tokens = shared.tokens.as_ref()?;
        tokens.find(token, shared.clock.now())
    }
}

/// Why a credential counts for nothing.
enum Bad {
    Refused(String),
    /// Whoever could tell does not answer.
    Unchecked(String),
}

impl Bad {
    fn unknown() -> Self {
        Self::Refused("it is unknown, was revoked or has expired".to_owned())
    }
}

impl From<OidcError> for Bad {
    fn from(error: OidcError) -> Self {
        match error {
            OidcError::Unavailable(cause) => Self::Unchecked(cause),
            OidcError::Unbelievable(flaw) => Self::Refused(flaw.to_string()),
            OidcError::NotAdmitted(_) => Self::Refused(error.to_string()),
            OidcError::Refused(cause) => Self::Refused(cause),
        }
    }
}

/// Says what a program can come with.
pub(super) fn ask(headers: &mut HeaderMap, (clients, asker): (&Clients, Asker)) {
    headers.append(header::WWW_AUTHENTICATE, ASK);
    offer_basic(headers, (clients, asker));
}

pub(super) fn offer_basic(headers: &mut HeaderMap, (clients, asker): (&Clients, Asker)) {
    if clients.basic && !asker.may_be_a_person() {
        headers.append(header::WWW_AUTHENTICATE, ASK_BASIC);
    }
}

/// The credential was for us.
fn clean(headers: &mut HeaderMap, clients: &Clients) {
    if !clients.pass_authorization {
        headers.remove(header::AUTHORIZATION);
    }
}

/// Whether a grant covers what the route asks for.
pub(super) fn covers(grant: &Grant, clients: &Clients) -> bool {
    clients.scopes.is_subset(&grant.scopes)
}

enum Credential<'a> {
    None,
    Basic(&'a [u8]),
    Bearer(&'a [u8]),
    /// Two readers could take different ones.
    Several,
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1), or what is in `Basic` where that is taken. Another scheme
/// is none of ours.
fn credential<'h>(headers: &'h HeaderMap, clients: &Clients) -> Credential<'h> {
    let mut fields = headers.get_all(header::AUTHORIZATION).into_iter();
    let field = match (fields.next(), fields.next()) {
        (None, _) => return Credential::None,
        (Some(one), None) => one.as_bytes(),
        (Some(_), Some(_)) => return Credential::Several,
    };
    if let Some(token) = after(b"Bearer ", field) {
        return Credential::Bearer(token);
    }
    let pair = after(b"Basic ", field).filter(|_| clients.basic);
    pair.map_or(Credential::None, Credential::Basic)
}

fn after<'f>(scheme: &[u8], field: &'f [u8]) -> Option<&'f [u8]> {
    let (start, rest) = field.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}
