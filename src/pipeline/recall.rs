//! Which session a request belongs to: from what the connection remembers, or from the session area; and what the
//! browser is told about its cookie in the end.

use std::net::IpAddr;
use std::sync::Arc;

use http::Response;
use http::header::{self, HeaderMap, HeaderValue};

use super::Refusal;
use super::body::Body;
use super::memo::SessionMemo;
use super::visit::{Notes, Visit};
use crate::routing::{Access, Caching, Route};
use crate::session::store::StoreError;
use crate::session::{AuthError, Found, LiveSession, Presence, Standing, remove_cookies};
use crate::telemetry::AuditEvent;

/// On what terms a session is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) presence: Presence,
    /// Nothing depends on the answer but what the app is told.
    pub(super) is_public: bool,
    /// A session that is used from elsewhere counts all the same.
    pub(super) takes_suspects: bool,
    /// What is asked for is in the store's record alone, so that no ticket counts.
    pub(super) needs_record: bool,
}

impl From<&Arc<Route>> for Terms {
    fn from(route: &Arc<Route>) -> Self {
        let presence = Presence {
            idle_timeout: route.idle_timeout,
            activity: route.activity,
        };
        Self {
            presence,
            is_public: route.access == Access::Public && !route.needs_record(),
            takes_suspects: false,
            needs_record: route.needs_record(),
        }
    }
}

impl Visit {
    /// Finds the session that a request's cookie belongs to, and leaves in the request only the cookies of the app.
    pub(super) async fn session(
        &self,
        headers: &mut HeaderMap,
        terms: Terms,
        notes: &mut Notes,
    ) -> Result<Option<LiveSession>, Refusal> {
        let shared = &*self.pipeline.shared;
        if !headers.contains_key(header::COOKIE) {
            return Ok(None);
        }
        let address = notes.client.unwrap_or(self.peer.addr.ip());
        if let Some((session, rest)) = self.remembered(headers, terms, address) {
            match rest {
                Some(rest) => headers.insert(header::COOKIE, rest),
                None => headers.remove(header::COOKIE),
            };
            return Ok(Some(session));
        }
        let before = headers.clone();
        remove_cookies(headers, &shared.cookie_names);
        if let Some(edge) = &shared.portal.edge {
            notes.rounds = edge.rounds(&before);
        }
        notes.clear_ticket = self.has_several_tickets(&before, address);
        match Box::pin(self.recognise(&before, terms, address)).await {
            Ok(Some((session, Standing::Suspect))) if terms.takes_suspects => {
                notes.anew = true;
                Ok(Some(session))
            }
            Ok(Some((session, Standing::Good))) => {
                let rest = headers
                    .get(header::COOKIE)
                    .map(|rest| HeaderValue::from_bytes(rest.as_bytes()));
                let rest = rest.and_then(Result::ok);
                let mut memo = SessionMemo::new(&before, session.clone(), rest);
                if shared.sessions.settings().bind.is_on() {
                    memo = memo.from(address, &before);
                }
                self.memo.lock().session = Some(memo);
                Ok(Some(session))
            }
            // The cookie stays: the session is good where it can be read.
            Ok(None) | Err(AuthError::Unreadable) => Ok(None),
            Ok(Some((_, Standing::Suspect))) | Err(AuthError::Idle) => {
                notes.anew = true;
                Ok(None)
            }
            Err(AuthError::Ended | AuthError::Unknown) => {
                notes.clear_cookie = true;
                Ok(None)
            }
            Err(AuthError::Reused(sid)) => {
                let sid = sid.to_string();
                shared
                    .audit
                    .record(&AuditEvent::TokenReused { sid, address });
                notes.clear_cookie = true;
                Ok(None)
            }
            // Nobody in particular may see what is public; nothing else opens while the store is silent (R7).
            Err(AuthError::Store(_)) if terms.is_public => Ok(None),
            Err(AuthError::Store(error)) => Err(Refusal::Store(error.to_string())),
        }
    }

    fn remembered(
        &self,
        headers: &HeaderMap,
        terms: Terms,
        address: IpAddr,
    ) -> Option<(LiveSession, Option<HeaderValue>)> {
        let sessions = &self.pipeline.shared.sessions;
        let memo = self.memo.lock();
        let memo = memo.session.as_ref().filter(|memo| memo.is_of(headers))?;
        if sessions.settings().bind.is_on() && !memo.is_from(address, headers) {
            return None;
        }
        if terms.needs_record && !memo.session().has_record() {
            return None;
        }
        let is_good = sessions.still_good(memo.session(), terms.presence);
        is_good.then(|| (memo.session().clone(), memo.rest()))
    }

    /// The session, and what it is worth where the request comes from.
    async fn recognise(
        &self,
        headers: &HeaderMap,
        terms: Terms,
        address: IpAddr,
    ) -> Result<Option<(LiveSession, Standing)>, AuthError> {
        // Who holds a copy of the cookie elsewhere must not keep the session alive with it.
        let unjudged = Presence {
            activity: false,
            ..terms.presence
        };
        let sessions = &self.pipeline.shared.sessions;
        let known = if terms.needs_record {
            None
        } else {
            sessions.by_ticket(headers, unjudged).await
        };
        let found = match known {
            Some(session) => Some(session),
            None if sessions.is_at_edge() => return self.unknown_at_edge(),
            None => self.authenticate(headers, unjudged, address).await?,
        };
        let Some(session) = found else {
            return Ok(None);
        };
        let user_agent = headers.get(header::USER_AGENT);
        let user_agent = user_agent.map_or(&b""[..], HeaderValue::as_bytes);
        let standing = sessions.standing(&session, address, user_agent).await?;
        if standing == Standing::Good {
            sessions.note(&session, terms.presence);
        }
        Ok(Some((session, standing)))
    }

    /// Of cookies that no other host can set, two are somebody's game: none counts (R2), and the audit log says so.
    fn has_several_tickets(&self, headers: &HeaderMap, address: IpAddr) -> bool {
        let shared = &*self.pipeline.shared;
        let Some(cookie) = shared.sessions.ticket_cookie() else {
            return false;
        };
        let is_so = match cookie.find(headers) {
            Found::None | Found::One(_) => false,
            Found::Several(candidates) => candidates.iter().next().is_none(),
        };
        if is_so {
            let event = AuditEvent::CookieTossing { address };
            shared.audit.record(&event);
        }
        is_so
    }

    /// Of who has no good ticket nothing is known here, whatever else they show.
    fn unknown_at_edge(&self) -> Result<Option<(LiveSession, Standing)>, AuthError> {
        if self.pipeline.shared.sessions.lacks_ticket_keys() {
            let why = "no keys of tickets are known yet".to_owned();
            return Err(AuthError::Store(StoreError::Unavailable(why)));
        }
        Ok(None)
    }

    async fn authenticate(
        &self,
        headers: &HeaderMap,
        presence: Presence,
        address: IpAddr,
    ) -> Result<Option<LiveSession>, AuthError> {
        let shared = &*self.pipeline.shared;
        match shared.sessions.settings().cookie.find(headers) {
            Found::None => Ok(None),
            Found::One(cookie) => shared
                .sessions
                .authenticate(cookie, presence)
                .await
                .map(Some),
            Found::Several(candidates) => {
                let mut last = AuthError::Unknown;
                for cookie in candidates.iter() {
                    match shared.sessions.authenticate(cookie, presence).await {
                        Ok(session) => return Ok(Some(session)),
                        Err(error) => last = error,
                    }
                }
                shared.audit.record(&AuditEvent::CookieTossing { address });
                Err(last)
            }
        }
    }

    /// Offers the token that replaces the request's and a ticket, or takes away those that are good for nothing.
    pub(super) fn keep_cookies(&self, response: &mut Response<Body>, notes: &Notes) {
        // Whoever has to prove anew who they are gets no newer token before that.
        let session = notes.session.as_ref().filter(|_| !notes.anew);
        let sessions = &self.pipeline.shared.sessions;
        if let Some(begun) = &notes.begun {
            response
                .headers_mut()
                .append(header::SET_COOKIE, begun.clone());
        } else if let Some(renewal) = session.and_then(LiveSession::renewal) {
            response
                .headers_mut()
                .append(header::SET_COOKIE, renewal.clone());
        } else if notes.clear_cookie {
            let cookie = sessions.settings().cookie.clear();
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        // What caches may share brings no credential.
        let is_shared = notes.route.as_ref().map(|route| route.caching) == Some(Caching::App);
        let ticket = match session {
            Some(_) if is_shared => None,
            Some(session) => sessions.ticket(session),
            None if notes.clear_cookie || notes.clear_ticket => sessions.forget_ticket(),
            None => None,
        };
        if let Some(ticket) = ticket {
            response.headers_mut().append(header::SET_COOKIE, ticket);
        }
    }
}
