//! Proving who you are. A method returns a [`Step`] or a [`Proof`], never a response; it knows no session.

mod changing;
mod editing;
mod external;
mod grant;
mod hasher;
mod hashing;
mod ldap;
mod oauth2;
mod oidc;
mod own_change;
mod own_edit;
mod passkeys;
mod password;
mod pending;
mod roster;
mod rules;
mod second_factor;
mod second_step;
mod site;
mod throttle;
mod token_book;
mod tokens;
mod users;

pub use changing::{ChangeError, OwnWish, Proven, Ready};
pub use editing::{NewUser, Prepared};
pub use external::ExternalSettings;
pub use grant::Grant;
pub use hasher::Hasher;
pub use hashing::{HashCost, HashingError};
pub use ldap::{
    GroupSearch, LdapAttributes, LdapSecurity, LdapServer, LdapSettings, LdapUsers, ServiceAccount,
    placeholders,
};
#[cfg(feature = "ldap")]
pub use ldap::{Ldap, is_ldap_dn, is_ldap_filter};
pub use oauth2::{OAuth2, OAuth2Settings, Places, SubjectKind};
pub use oidc::{
    ALGORITHMS, Answer, Beginning, ClaimPath, ClientAuthentication, ClientKey, Flaw, Issuer,
    IssuerSettings, Issuers, Logout, Logouts, Mapping, Oidc, OidcError, OidcSettings, Proof,
    is_loopback,
};
pub use passkeys::{Answered, Asked, Passkey, PasskeyError, Passkeys, QuestionId};
pub use password::LocalUsers;
pub use pending::{Browser, MAX_ACR_VALUES, Opening, PendingError, PendingLogin};
pub use rules::{NewPassword, PasswordRefused};
pub use second_factor::{HalfWay, Needs, NewFactor, Shown};
pub use second_step::{Checked, CodeAttempt, Requirement};
pub use site::Site;
pub use throttle::{Attempt, Reservation, Throttle, Verdict};
pub use token_book::{TOKENS, TokenBook};
pub use tokens::{ApiToken, NewToken, TokenError, TokenFile};
pub use users::{User, UserFile, UserFileError};

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use crate::identity::{Identity, Subject};
use crate::secret::Secret;

/// A way to log in, from `[[provider]]`.
#[derive(Clone, Debug)]
pub struct Settings {
    pub id: String,
    /// What people choose it by, where there are several.
    pub name: String,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    External(ExternalSettings),
    Ldap(Box<LdapSettings>),
    Local(LocalSettings),
    OAuth2(Box<OAuth2Settings>),
    Oidc(Box<OidcSettings>),
}

#[derive(Clone, Debug)]
pub struct LocalSettings {
    pub users: PathBuf,
    /// Wrong passwords per user, and per address, within `attempt_window`.
    pub max_attempts: u32,
    pub attempt_window: Duration,
    /// What passkeys are for, where that is wider than the host on which they are made.
    pub rp_id: Option<String>,
    pub second_factor: Requirement,
}

/// What a login form carried.
#[derive(Debug)]
pub struct Credentials {
    pub user: String,
    pub password: Secret,
    pub address: IpAddr,
    /// This browser has logged this user in before: a stranger's guesses do not count against it.
    pub known_browser: bool,
}

/// What a login method decided.
#[derive(Debug)]
pub enum Step {
    Admit(Identity),
    /// The password was right, and is not enough.
    GoOn(HalfWay),
    Refuse(Refusal),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// Too much is waiting already.
    Busy,
    /// Wrong user or wrong password; which one is not told.
    Credentials,
    TooManyAttempts {
        retry_after: Duration,
    },
    /// Whoever knows the passwords cannot be asked.
    Unavailable,
}

#[async_trait]
pub trait LoginMethod: fmt::Debug + Send + Sync + 'static {
    /// Whose login it would be, whether or not there is such a user. `None`: that is known only once they have logged in.
    fn subject(&self, user: &str) -> Option<Subject>;

    async fn log_in(&self, credentials: Credentials) -> Step;
}
