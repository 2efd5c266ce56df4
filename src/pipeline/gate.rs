//! Who may pass: a pure decision from a route's rule and a session. Only what it returns lets a request go on.

use crate::routing::Access;
use crate::session::LiveSession;

/// What is to become of a request.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Logged in, but not as somebody whom the route is for.
    Denied,
    NeedsLogin,
    Pass(Passed),
}

/// Proof that a request may go on to its app, and as whom. Only [`decide`] makes one.
#[derive(Clone, Debug)]
pub struct Passed(Option<LiveSession>);

impl Passed {
    /// `None`: nobody in particular, on a public route.
    pub fn session(&self) -> Option<&LiveSession> {
        self.0.as_ref()
    }
}

pub fn decide(access: &Access, session: Option<LiveSession>) -> Decision {
    let identity = session.as_ref().and_then(LiveSession::identity);
    match (access, identity) {
        (Access::Public, _) | (Access::User, Some(_)) => Decision::Pass(Passed(session)),
        (Access::User | Access::Only { .. }, None) => Decision::NeedsLogin,
        (Access::Only { users, groups }, Some(identity)) => {
            let is_named = users.contains(&identity.user);
            if is_named || identity.groups.iter().any(|group| groups.contains(group)) {
                Decision::Pass(Passed(session))
            } else {
                Decision::Denied
            }
        }
    }
}
