//! Requests that come with a credential of their own in place of a session. They find no session, begin none, and keep
//! none alive.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};

use super::Refusal;
use super::gate::{Decision, decide, decide_grant};
use super::visit::{Notes, Visit};
use crate::login::Grant;
use crate::routing::{Clients, Route};
use crate::session::remove_cookies;
use crate::telemetry::AuditEvent;

/// What a program is told that has no credential, or none that is good (RFC 6750 section 3).
pub(super) const ASK: HeaderValue = HeaderValue::from_static("Bearer realm=\"doorward\"");
pub(super) const ASK_FOR_ANOTHER: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"doorward\", error=\"invalid_token\"");
pub(super) const ASK_FOR_MORE: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"doorward\", error=\"insufficient_scope\"");

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
        notes.grant = self.granted(headers, route, address)?;
        if let Some(grant) = notes.grant.clone() {
            return Ok(decide_grant(route, grant, clock.now()));
        }
        notes.session = self.session(headers, route.into(), notes).await?;
        Ok(decide(route, notes.session.clone(), clock.now()))
    }

    /// What the credential of a request is worth. `None` where the route takes sessions too and the request has no
    /// credential: a bad one is refused, and never made up for by a session.
    fn granted(
        &self,
        headers: &mut HeaderMap,
        route: &Route,
        address: IpAddr,
    ) -> Result<Option<Arc<Grant>>, Refusal> {
        let Some(clients) = &route.clients else {
            return Ok(None);
        };
        let shared = &*self.pipeline.shared;
        let found = match bearer(headers) {
            Bearer::None if clients.with_sessions => {
                clean(headers, clients);
                return Ok(None);
            }
            Bearer::None => return Err(Refusal::NoCredential),
            Bearer::One(token) => {
                let tokens = shared.tokens.as_ref();
                tokens.and_then(|tokens| tokens.find(token, shared.clock.now()))
            }
            Bearer::Several => None,
        };
        let Some(grant) = found else {
            let route = route.id.clone();
            let event = AuditEvent::CredentialRefused { route, address };
            shared.audit.record(&event);
            return Err(Refusal::BadCredential);
        };
        clean(headers, clients);
        remove_cookies(headers, &shared.cookie_names);
        Ok(Some(grant))
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

enum Bearer<'a> {
    None,
    One(&'a [u8]),
    /// Two readers could take different ones.
    Several,
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1). Another scheme is none of ours.
fn bearer(headers: &HeaderMap) -> Bearer<'_> {
    let mut fields = headers.get_all(header::AUTHORIZATION).into_iter();
    match (fields.next(), fields.next()) {
        (None, _) => Bearer::None,
        (Some(one), None) => token(one.as_bytes()).map_or(Bearer::None, Bearer::One),
        (Some(_), Some(_)) => Bearer::Several,
    }
}

fn token(field: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"Bearer ";
    let (scheme, token) = field.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(token)
}
