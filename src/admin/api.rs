//! The admin API: who is logged in, and an end to it. It demands a token of whoever comes over TCP; the unix socket is
//! guarded by its mode. What it says about a session is what was sealed for administrators, never a credential.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Request, StatusCode};
use http_body::Body;
use serde_json::{Value, json};

use super::call::{Call, Query, Unclear};
use super::data::DataPlace;
use super::{AdminState, Caller, problem, wrong_method};
use crate::clock::Timestamp;
use crate::identity::Subject;
use crate::secret::Secret;
use crate::session::store::StoreError;
use crate::session::{EndReason, Listed, Sessions, Sid, device};
use crate::telemetry::{Audit, AuditEvent};
use crate::wire::{Page, json_page, page};

/// Where the API begins.
pub(super) const PREFIX: &str = "/api/v1/";

/// What a process says of itself.
#[derive(Clone, Debug)]
pub struct Node {
    /// The fingerprint of its configuration.
    pub config: String,
    pub started: Timestamp,
}

/// What the API works with.
#[derive(Debug)]
pub struct Api {
    pub sessions: Arc<Sessions>,
    pub audit: Audit,
    /// `None`: over TCP there is no API.
    pub token: Option<Secret>,
    pub node: Node,
}

impl Api {
    pub(super) async fn answer<B>(
        &self,
        state: &AdminState,
        caller: Caller,
        request: Request<B>,
    ) -> Page
    where
        B: Body<Data = Bytes>,
    {
        let path = request.uri().path().to_owned();
        let place = path.strip_prefix(PREFIX).unwrap_or_default();
        if let Some(place) = DataPlace::of(place) {
            return self.answer_data(caller, &place, request).await;
        }
        if let Some(refusal) = self.turn_away(caller, request.headers()) {
            return refusal;
        }
        match Call::of(place, &request) {
            Ok(call) => self.run(call, (state, caller)).await,
            Err(Unclear::Method { allow }) => wrong_method(allow),
            Err(Unclear::NotFound) => problem(StatusCode::NOT_FOUND, None),
            Err(Unclear::Query(what)) => problem(StatusCode::BAD_REQUEST, Some(&what)),
        }
    }

    /// `None`: whoever calls may.
    fn turn_away(&self, caller: Caller, headers: &HeaderMap) -> Option<Page> {
        let Caller::Address(address) = caller else {
            return None;
        };
        let Some(token) = &self.token else {
            return Some(problem(StatusCode::NOT_FOUND, None));
        };
        if bearer(headers).is_some_and(|shown| is_same(shown, token.expose())) {
            return None;
        }
        let detail = "send the token of `server.admin_token`: `Authorization: Bearer …`";
        Some(self.refuse(address, detail))
    }

    pub(super) fn refuse(&self, address: IpAddr, detail: &str) -> Page {
        self.audit.record(&AuditEvent::AdminRefused { address });
        let mut refusal = problem(StatusCode::UNAUTHORIZED, Some(detail));
        let scheme = HeaderValue::from_static("Bearer realm=\"doorward\"");
        refusal.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        refusal
    }

    async fn run(&self, call: Call, (state, caller): (&AdminState, Caller)) -> Page {
        let done = match call {
            Call::List(query) => self.list(query).await,
            Call::Show(sid) => self.show(sid).await,
            Call::End(sid) => self.end(sid, caller).await,
            Call::EndAllOf(subject) => self.end_all_of(subject, caller).await,
            Call::Status => Ok(self.status(&state.obstacles().await)),
        };
        done.unwrap_or_else(|error| silent_store(&error))
    }

    async fn list(&self, query: Query) -> Result<Page, StoreError> {
        let Query {
            wanted,
            after,
            limit,
        } = query;
        let list = self.sessions.list(&wanted, after, limit).await?;
        let sessions: Vec<Value> = list.sessions.iter().map(told).collect();
        let next = list.next.map(|sid| sid.to_string());
        Ok(json_page(
            StatusCode::OK,
            &json!({ "sessions": sessions, "next": next }),
        ))
    }

    async fn show(&self, sid: Sid) -> Result<Page, StoreError> {
        let found = self.sessions.look(sid).await?;
        Ok(found.map_or_else(no_session, |listed| {
            json_page(StatusCode::OK, &told(&listed))
        }))
    }

    fn status(&self, obstacles: &[String]) -> Page {
        let told = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "config": self.node.config,
            "started": self.node.started.to_string(),
            "now": self.sessions.clock().now().to_string(),
            "ready": obstacles.is_empty(),
            "reasons": obstacles,
        });
        json_page(StatusCode::OK, &told)
    }

    async fn end(&self, sid: Sid, caller: Caller) -> Result<Page, StoreError> {
        // A store that cannot say whether there is one keeps nobody from ending it here and now.
        if let Ok(None) = self.sessions.look(sid).await {
            return Ok(no_session());
        }
        let ended = self.sessions.end(sid, EndReason::Revoked).await;
        self.record(Some(sid), None, 1, caller);
        ended?;
        Ok(no_content())
    }

    async fn end_all_of(&self, subject: Subject, caller: Caller) -> Result<Page, StoreError> {
        let ended = self.sessions.revoke_all_of(subject.clone()).await;
        let count = ended.as_ref().copied().unwrap_or_default();
        self.record(None, Some(subject), count, caller);
        Ok(json_page(StatusCode::OK, &json!({ "ended": ended? })))
    }

    fn record(&self, sid: Option<Sid>, subject: Option<Subject>, ended: usize, caller: Caller) {
        let (provider, subject) = match subject {
            Some(Subject { provider, id }) => (Some(provider), Some(id)),
            None => (None, None),
        };
        let (address, uid) = match caller {
            Caller::Address(address) => (Some(address), None),
            Caller::Local(uid) => (None, uid),
        };
        self.audit.record(&AuditEvent::SessionsRevoked {
            sid: sid.map(|sid| sid.to_string()),
            provider,
            subject,
            ended,
            address,
            uid,
        });
    }
}

pub(super) fn no_content() -> Page {
    let mut done = page(StatusCode::NO_CONTENT, "", "");
    done.headers_mut().remove(CONTENT_TYPE);
    done
}

pub(super) fn silent_store(error: &StoreError) -> Page {
    let mut refusal = problem(StatusCode::SERVICE_UNAVAILABLE, Some(&error.to_string()));
    let soon = HeaderValue::from_static("5");
    refusal.headers_mut().insert(RETRY_AFTER, soon);
    refusal
}

/// The credentials of the one `Authorization: Bearer` (RFC 6750).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return None;
    };
    let (scheme, token) = field.as_bytes().split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

/// In a time that says nothing about either, not even how long they are.
pub(super) fn is_same(shown: &[u8], expected: &[u8]) -> bool {
    let (shown, expected) = (digest(&SHA256, shown), digest(&SHA256, expected));
    verify_slices_are_equal(shown.as_ref(), expected.as_ref()).is_ok()
}

/// A session in JSON. One that cannot be opened says so, and who it belongs to is not known.
fn told(listed: &Listed) -> Value {
    let listing = listed.listing.as_ref();
    let who = listing.and_then(|listing| listing.who.as_ref());
    let user_agent = listing.and_then(|listing| listing.user_agent.as_deref());
    json!({
        "sid": listed.sid.to_string(),
        "user": who.map(|who| &who.user),
        "provider": who.map(|who| &who.subject.provider),
        "subject": who.map(|who| &who.subject.id),
        "created": listed.created.to_string(),
        "last_seen": listed.last_seen.to_string(),
        "ends": listed.ends.to_string(),
        "expires": listed.expires.to_string(),
        "state": listed.state.name(),
        "address": listing.map(|listing| listing.address),
        "user_agent": user_agent,
        "device": listing.map(|_| device(user_agent)),
        "readable": listing.is_some(),
    })
}

pub(super) fn no_session() -> Page {
    problem(StatusCode::NOT_FOUND, Some("there is no such session"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn one_bearer_token_is_read_and_nothing_near_it() {
        for (values, token) in [
            (&["Bearer abc"][..], Some("abc")),
            (&["bearer  abc "], Some("abc")),
            (&["BEARER abc"], Some("abc")),
            (&["Bearer"], None),
            (&["Basic abc"], None),
            (&["Bearerabc"], None),
            (&["Bearer abc", "Bearer abc"], None),
            (&[], None),
        ] {
            assert_eq!(
                bearer(&fields(values)),
                token.map(str::as_bytes),
                "{values:?}"
            );
        }
    }

    #[test]
    fn only_the_whole_token_is_the_same() {
        let token = [b'k'; 32];
        assert!(is_same(&token, &token));
        assert!(!is_same(&token[..31], &token));
        assert!(!is_same(b"", &token));
        assert!(!is_same(&[&token[..], b"k"].concat(), &token));
    }
}
