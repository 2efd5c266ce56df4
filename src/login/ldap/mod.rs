//! Logging in with a name and a password that a directory knows (LDAP, RFC 4511 to 4519; Active Directory): it is asked to
//! let that person in. It knows no form, no cookie and no session.
//!
//! Of the crate `ldap3` this uses the filters and the escaping. Connections are its own: those of the crate gather an
//! answer of any size, follow its nesting to any depth, and panic on what has another shape.

mod settings;
mod template;

#[cfg(feature = "ldap")]
mod asking;
#[cfg(feature = "ldap")]
mod ber;
#[cfg(feature = "ldap")]
mod dn;
#[cfg(feature = "ldap")]
mod fault;
#[cfg(feature = "ldap")]
mod link;
#[cfg(feature = "ldap")]
mod message;
#[cfg(feature = "ldap")]
mod method;
#[cfg(feature = "ldap")]
mod person;
#[cfg(feature = "ldap")]
mod servers;
#[cfg(feature = "ldap")]
mod verdict;

#[cfg(feature = "ldap")]
pub use method::Ldap;
pub use settings::{
    GroupSearch, LdapAttributes, LdapSecurity, LdapServer, LdapSettings, LdapUsers, ServiceAccount,
};
pub use template::placeholders;
#[cfg(feature = "ldap")]
pub use template::{is_ldap_dn, is_ldap_filter};
