//! Security events, each one line of JSON in a log of its own. The enum is closed: what is not here is not an event,
//! and no variant has a field for a secret.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::flood::{Floods, Kind};
use super::writer::LineWriter;
use crate::clock::Clock;

/// Something that a person who answers for security would want to know.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AuditEvent {
    /// Somebody without the right user or group asked for a route.
    AccessDenied {
        /// Absent for who came with a credential.
        #[serde(skip_serializing_if = "Option::is_none")]
        sid: Option<String>,
        user: String,
        route: String,
        address: IpAddr,
    },
    /// The admin API was asked for without the right token.
    AdminRefused {
        address: IpAddr,
    },
    /// A request came with a credential that is not good.
    CredentialRefused {
        route: String,
        cause: String,
        address: IpAddr,
    },
    /// A request failed the check that it comes from our own page.
    CrossSiteRefused {
        place: String,
        address: IpAddr,
    },
    /// More than one session cookie came with a request.
    CookieTossing {
        address: IpAddr,
    },
    /// As many more of an event, of those that anybody may cause, as are written.
    EventsLeftOut {
        of: &'static str,
        count: u64,
    },
    /// A client sent header fields that only we may set.
    IdentityHeaderStripped {
        field: String,
        address: IpAddr,
    },
    LoginFailed {
        provider: String,
        user: String,
        address: IpAddr,
    },
    /// A login at another site led to no session.
    LoginStranded {
        provider: String,
        /// In snake case.
        cause: &'static str,
        address: IpAddr,
    },
    LoginSucceeded {
        sid: String,
        provider: String,
        user: String,
        address: IpAddr,
    },
    LoginThrottled {
        provider: String,
        user: String,
        address: IpAddr,
    },
    /// A user added a passkey to their account.
    PasskeyAdded {
        sid: String,
        provider: String,
        user: String,
        /// What the user calls it.
        name: String,
        address: IpAddr,
    },
    /// A passkey was good but for its counter, which went back: somebody has a copy of it. Nobody was let in.
    PasskeyCloned {
        provider: String,
        user: String,
        address: IpAddr,
    },
    /// A user removed a passkey, and so ended their other sessions.
    PasskeyRemoved {
        sid: String,
        provider: String,
        user: String,
        name: String,
        ended: usize,
        address: IpAddr,
    },
    /// A user gave a new password for the one that they knew: all their sessions ended, and one began anew.
    PasswordChanged {
        sid: String,
        /// The session that they did it from.
        before: String,
        provider: String,
        user: String,
        ended: usize,
        address: IpAddr,
    },
    /// Somebody who has a user's session did not know the password.
    PasswordChangeFailed {
        sid: String,
        provider: String,
        user: String,
        /// `credentials` or `throttled`.
        cause: &'static str,
        address: IpAddr,
    },
    /// A provider told of a logout there.
    ProviderLogout {
        provider: String,
        ended: usize,
        address: IpAddr,
    },
    /// Somebody told of a logout who is not to be believed.
    ProviderLogoutRefused {
        provider: String,
        cause: String,
        address: IpAddr,
    },
    /// The user of a session logged in once more, and goes on with it.
    Reauthenticated {
        sid: String,
        provider: String,
        user: String,
        address: IpAddr,
    },
    /// A recovery code took the place of the authenticator app's.
    RecoveryCodeUsed {
        provider: String,
        user: String,
        left: usize,
        address: IpAddr,
    },
    /// A user changed the second step of their logins.
    SecondFactorChanged {
        /// Absent where it was part of a login.
        #[serde(skip_serializing_if = "Option::is_none")]
        sid: Option<String>,
        provider: String,
        user: String,
        /// `enabled`, `disabled` or `recovery_codes`.
        change: &'static str,
        ended: usize,
        address: IpAddr,
    },
    /// A code was wrong whose user's password, or session, was right.
    SecondFactorFailed {
        provider: String,
        user: String,
        address: IpAddr,
    },
    SessionEnded {
        sid: String,
        reason: &'static str,
    },
    /// A user who logged in had as many sessions as are allowed.
    SessionLimitReached {
        provider: String,
        user: String,
        address: IpAddr,
        limit: usize,
        /// `deny` or `evict_oldest`.
        action: &'static str,
    },
    /// A session was used from elsewhere than where it began: another browser, or another network.
    SessionMoved {
        sid: String,
        user_agent: bool,
        network: bool,
        /// `log`, `reauth` or `end`.
        consequence: &'static str,
        address: IpAddr,
    },
    SessionRotated {
        sid: String,
    },
    /// An administrator ended sessions: one, or all of a user.
    SessionsRevoked {
        #[serde(skip_serializing_if = "Option::is_none")]
        sid: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        provider: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        ended: usize,
        /// Where the administrator asked from: an address, or the unix socket as a user of this machine.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
        #[serde(skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
    },
    /// A user ended other sessions of their own.
    SessionsRevokedByUser {
        /// The session that they did it from.
        sid: String,
        user: String,
        ended: usize,
        address: IpAddr,
    },
    /// A token that had been replaced was presented again: the session was ended.
    TokenReused {
        sid: String,
        address: IpAddr,
    },
}

impl AuditEvent {
    /// The kind of flood that it may be part of. A line that stands for something that was done, or for a guess at a
    /// password, is never left out.
    const fn flood(&self) -> Option<Kind> {
        Some(match self {
            Self::AccessDenied { .. } => Kind::AccessDenied,
            Self::AdminRefused { .. } => Kind::AdminRefused,
            Self::CookieTossing { .. } => Kind::CookieTossing,
            Self::CredentialRefused { .. } => Kind::CredentialRefused,
            Self::CrossSiteRefused { .. } => Kind::CrossSiteRefused,
            Self::IdentityHeaderStripped { .. } => Kind::IdentityHeaderStripped,
            Self::LoginStranded { .. } => Kind::LoginStranded,
            Self::LoginThrottled { .. } => Kind::LoginThrottled,
            Self::ProviderLogoutRefused { .. } => Kind::ProviderLogoutRefused,
            _ => return None,
        })
    }
}

/// The audit log. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Audit {
    writer: LineWriter,
    clock: Clock,
    floods: Arc<Floods>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a AuditEvent,
}

impl Audit {
    pub fn new(writer: LineWriter, clock: Clock) -> Self {
        Self {
            writer,
            clock,
            floods: Arc::default(),
        }
    }

    /// Writes the event down, or counts it where it is one of too many.
    pub fn record(&self, event: &AuditEvent) {
        let is_admitted = |kind| self.floods.admits(kind, self.clock.now());
        if event.flood().is_none_or(is_admitted) {
            self.write(event);
        }
    }

    /// Says how many events were left out, where it is time to say so. Every running process calls it each
    /// [`TICK`](crate::clock::TICK).
    pub fn tell_left_out(&self) {
        self.tell(false);
    }

    /// The same at the end of all.
    pub fn tell_all_left_out(&self) {
        self.tell(true);
    }

    fn tell(&self, all: bool) {
        for (of, count) in self.floods.left_out(self.clock.now(), all) {
            self.write(&AuditEvent::EventsLeftOut { of, count });
        }
    }

    fn write(&self, event: &AuditEvent) {
        let time = self.clock.now().to_string();
        match serde_json::to_vec(&Line { time, event }) {
            Ok(mut line) => {
                line.push(b'\n');
                self.writer.write(line);
            }
            Err(error) => tracing::error!(%error, "an audit event could not be written"),
        }
    }
}
