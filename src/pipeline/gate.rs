//! Who may pass: a pure decision from a route's rule and a session, or a credential. Only what it returns lets a request
//! go on.

use std::sync::Arc;

use super::client::covers;
use crate::clock::Timestamp;
use crate::identity::Identity;
use crate::login::Grant;
use crate::routing::{Access, Route};
use crate::session::{LiveSession, is_proof_too_old};
use crate::upstream::{Over, Until};

/// What is to become of a request.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Logged in, but not as somebody whom the route is for.
    Denied,
    /// `anew`: there is a login, but it is too old or too weak for the route, or of another provider than the route's.
    NeedsLogin {
        anew: bool,
    },
    Pass(Passed),
}

/// Proof that a request may go on to its app, and as whom. Only [`decide`] and [`decide_grant`] make one.
#[derive(Clone, Debug)]
pub struct Passed(Option<Bearer>);

/// Who a request is made by.
#[derive(Clone, Debug)]
pub enum Bearer {
    /// Of a credential that came with the request, at this time.
    Credential(Arc<Grant>, Timestamp),
    Session(LiveSession),
}

impl Passed {
    /// `None`: nobody in particular, on a public route.
    pub fn bearer(&self) -> Option<&Bearer> {
        self.0.as_ref()
    }

    /// `None` too for whoever came with a credential.
    pub fn session(&self) -> Option<&LiveSession> {
        match &self.0 {
            Some(Bearer::Session(session)) => Some(session),
            Some(Bearer::Credential(..)) | None => None,
        }
    }
}

impl Bearer {
    pub fn is_over(&self) -> bool {
        match self {
            Self::Credential(grant, _) => grant.is_over(),
            Self::Session(session) => session.is_over(),
        }
    }
}

/// What is sent on is called off when that ends which it is sent on for.
impl Until for Bearer {
    fn over(&self) -> Over {
        match self {
            Self::Credential(grant, now) => Box::pin(grant.ended(*now)),
            Self::Session(session) => Box::pin(session.ended()),
        }
    }
}

impl Until for Passed {
    fn over(&self) -> Over {
        match &self.0 {
            Some(bearer) => bearer.over(),
            None => Box::pin(std::future::pending()),
        }
    }
}

pub fn decide(route: &Route, session: Option<LiveSession>, now: Timestamp) -> Decision {
    let identity = session.as_ref().and_then(LiveSession::identity);
    let too_old = |session: &LiveSession| {
        is_proof_too_old(session.private().auth_time, route.max_auth_age, now)
    };
    // Users and groups of one provider mean nothing where only another's count.
    if identity.is_some_and(|identity| is_foreign(route, identity)) {
        return Decision::NeedsLogin { anew: true };
    }
    // Whom the route is not for is not sent round to log in first.
    match decide_who(&route.access, identity) {
        Some(false) => Decision::Denied,
        None => Decision::NeedsLogin { anew: false },
        Some(true) if session.as_ref().is_some_and(too_old) => Decision::NeedsLogin { anew: true },
        Some(true) if !is_strong_enough(route, session.as_ref()) => {
            Decision::NeedsLogin { anew: true }
        }
        Some(true) => Decision::Pass(Passed(session.map(Bearer::Session))),
    }
}

/// As [`decide`], for who comes with a credential: that is never asked to log in.
pub fn decide_grant(route: &Route, grant: Arc<Grant>, now: Timestamp) -> Decision {
    let clients = route.clients.as_ref();
    let is_covered = clients.is_some_and(|clients| covers(&grant, clients));
    match decide_who(&route.access, Some(&grant.identity)) {
        Some(true) if is_covered => Decision::Pass(Passed(Some(Bearer::Credential(grant, now)))),
        _ => Decision::Denied,
    }
}

fn is_foreign(route: &Route, identity: &Identity) -> bool {
    let wanted = route.provider.as_ref();
    wanted.is_some_and(|wanted| *wanted != identity.subject.provider)
}

/// Whether the provider said that the login was of a kind that the route wants.
fn is_strong_enough(route: &Route, session: Option<&LiveSession>) -> bool {
    if route.acr_values.is_empty() {
        return true;
    }
    let federated = session.and_then(|session| session.private().federated.as_ref());
    let acr = federated.and_then(|federated| federated.acr.as_ref());
    acr.is_some_and(|acr| route.acr_values.contains(acr))
}

/// `None`: that depends on who it is.
fn decide_who(access: &Access, identity: Option<&Identity>) -> Option<bool> {
    match (access, identity) {
        (Access::Anonymous | Access::Public, _) | (Access::User, Some(_)) => Some(true),
        (Access::User | Access::Only { .. }, None) => None,
        (Access::Only { users, groups }, Some(identity)) => {
            let is_named = users.contains(&identity.user);
            Some(is_named || identity.groups.iter().any(|group| groups.contains(group)))
        }
    }
}
