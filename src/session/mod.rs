//! The domain: what a session is, when it lives, how it ends. No HTTP server, no routes, no login, no TOML.

mod binding;
mod cache;
mod claiming;
mod cookie;
mod crowd;
mod data;
mod device;
mod ending;
mod ends;
mod farewell;
mod federation;
mod issuing;
mod jar;
mod lifecycle;
mod limits;
mod live;
mod loading;
mod outage;
mod record;
mod refreshing;
mod registry;
mod renewing;
mod rotation;
mod sessions;
mod sight;
mod starting_over;
pub mod store;
mod ticket;
mod ticketing;
mod token;
mod upkeep;
mod visitors;

pub use binding::{Bind, Consequence, Origin, Standing};
pub use cookie::{CookieName, Found, is_ours, remove_cookies};
pub use crowd::{Begun, OnLimit, PerUser, Room};
pub use data::{
    Change, DataError, DataLimits, DataSettings, Edit, Expected, Filling, JsonError, Namespace,
    POST_WAITS, Refused, Shown, Space, Texts, TextsError, read_texts,
};
pub use device::device;
pub use farewell::Over;
pub use issuing::{Carried, Issued, Login, LoginError};
pub use jar::{Jar, JarLimits, Spot};
pub use lifecycle::{
    Clocking, OldToken, Policy, Verdict, is_proof_too_old, judge, judge_old_token,
};
pub use limits::{GroupLimits, Limits, limits_of};
pub use live::{LiveSession, Private};
pub use record::{
    Epoch, RowError, SessionRow, Stored, SubjectTag, Successor, TokenRow, decode, encode,
};
pub use refreshing::Refreshed;
pub use sessions::{AuthError, Listing, Parts, Presence, Sessions, Touches, Who};
pub use sight::{ListPage, Listed, State, Wanted};
pub use starting_over::Remains;
pub use ticket::{Claim, NoKeys, TicketKeys, TicketSettings, Tickets};
pub use token::{Sid, Token, TokenHash};
pub use visitors::{Visitor, Visitors};

use std::time::Duration;

/// Why a session ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum EndReason {
    AbsoluteTimeout,
    /// Its user logged out at an app.
    AppLogout,
    /// Another node ended it.
    Elsewhere,
    /// A newer login of a user with as many sessions as are allowed.
    Evicted,
    IdleTimeout,
    Logout,
    /// It was used from elsewhere than where it began.
    Moved,
    /// The provider that its user logged in at said so.
    ProviderLogout,
    /// The same browser logged in anew.
    Replaced,
    /// By an administrator.
    Revoked,
    /// By its user, from another session.
    RevokedByUser,
    /// A token that had been replaced was presented again.
    TokenReused,
    UserChanged,
    /// Its login failed after it had begun: nobody was told of it.
    Withdrawn,
}

impl EndReason {
    /// The word for it in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AbsoluteTimeout => "absolute_timeout",
            Self::AppLogout => "app_logout",
            Self::Elsewhere => "elsewhere",
            Self::Evicted => "evicted",
            Self::IdleTimeout => "idle_timeout",
            Self::Logout => "logout",
            Self::Moved => "moved",
            Self::ProviderLogout => "provider_logout",
            Self::Replaced => "replaced",
            Self::Revoked => "revoked",
            Self::RevokedByUser => "revoked_by_user",
            Self::TokenReused => "token_reused",
            Self::UserChanged => "user_changed",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// How long sessions live, and how they are kept.
#[derive(Clone, Debug)]
pub struct Settings {
    pub cookie: CookieName,
    pub idle_timeout: Duration,
    pub absolute_timeout: Duration,
    /// Activity is stored at most this often.
    pub touch_interval: Duration,
    pub rotate_interval: Duration,
    /// How long a token lives on after its successor was seen.
    pub rotate_grace: Duration,
    /// How long a cached session is believed while news from other nodes may be missing.
    pub cache_ttl: Duration,
    /// How long such a session goes on while the store does not answer.
    pub outage_grace: Duration,
    /// Memory for cached sessions, in bytes.
    pub cache_size: u64,
    /// The longest wait for one store operation.
    pub store_timeout: Duration,
    pub per_user: PerUser,
    /// For who asks to be remembered; `None`: nobody is.
    pub remember_me: Option<Limits>,
    /// Only ever narrower than the timeouts above.
    pub groups: Vec<GroupLimits>,
    pub bind: Bind,
    pub data: DataSettings,
    pub visitors: Visitors,
}

impl Settings {
    /// The longest that any session may live.
    fn longest(&self) -> Duration {
        let remembered = self
            .remember_me
            .map_or(Duration::ZERO, |limits| limits.absolute);
        let visitors = self.visitors.limits.absolute;
        self.absolute_timeout.max(remembered).max(visitors)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cookie: CookieName::default(),
            idle_timeout: Duration::from_mins(30),
            absolute_timeout: Duration::from_hours(12),
            touch_interval: Duration::from_mins(1),
            rotate_interval: Duration::from_hours(1),
            rotate_grace: Duration::from_secs(10),
            cache_ttl: Duration::from_secs(5),
            outage_grace: Duration::from_mins(5),
            cache_size: 256 * 1024 * 1024,
            store_timeout: Duration::from_secs(2),
            per_user: PerUser::default(),
            remember_me: None,
            groups: Vec::new(),
            bind: Bind::default(),
            data: DataSettings::default(),
            visitors: Visitors::default(),
        }
    }
}
