//! Everything that is tested from outside, in one binary: one link step.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that fails is to say so at once"
)]
#![expect(
    clippy::format_collect,
    reason = "a test builds its bytes where they can be read"
)]
#![expect(unreachable_pub, reason = "nothing outside reaches into a test binary")]

mod access_log;
mod app_logout;
mod assertion;
mod audit;
mod bearers;
mod certified;
mod chromium;
mod clients;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod cluster;
mod config;
mod cookie_jar;
mod crash;
mod damage;
mod documents;
mod edge;
mod ends;
mod examples;
mod external_login;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod faults;
mod forward_auth;
mod forwarding;
mod fronts;
mod hostile;
mod http2;
mod identity;
mod jwt_session;
mod kept_posts;
mod kinds;
#[cfg(feature = "ldap")]
mod ldap;
#[cfg(feature = "ldap")]
mod ldap_config;
mod lifecycle;
mod limits;
mod model;
mod oauth2;
mod oidc;
mod oidc_logout;
mod oidc_presets;
mod oidc_refresh;
mod outage;
mod passkey_answers;
mod passkey_autofill;
mod passkeys;
mod password;
mod paths;
#[cfg(feature = "postgres")]
mod postgres;
mod process;
#[cfg(feature = "redis")]
mod redis;
mod session_data;
mod sessions;
mod sight;
mod sign_in;
mod sign_out;
mod store_contract;
mod store_crash;
mod support;
mod throttle;
mod tls;
mod two_factor;
mod users_file;
mod websocket;
