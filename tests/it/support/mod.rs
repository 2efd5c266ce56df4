//! The vocabulary of the tests: a proxy, an app that records what it receives, a browser with a cookie jar, raw bytes.

mod browser;
mod certified;
mod chromium;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod faults;
mod frames;
mod front;
#[cfg(any(feature = "ldap", feature = "postgres", feature = "redis"))]
mod frozen;
mod github;
mod kept;
#[cfg(feature = "postgres")]
mod postgres;
mod process;
mod provider;
mod proxy;
mod raw;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "ldap")]
mod slapd;
mod upstream;
mod wire;

#[cfg(feature = "redis")]
pub use self::redis::{
    RedisProcess, redis, redis_certificates, redis_cluster, sentinel, settings as redis_settings,
};
pub use browser::{Answer, Browser};
pub use certified::Certified;
pub use chromium::{Chromium, Demo, self_signed};
#[cfg(any(feature = "postgres", feature = "redis"))]
pub use faults::{Fault, Faults};
pub use frames::{END_HEADERS, END_STREAM, Ended, Frames, frame, literal, pseudo};
pub use front::{Front, Kind};
#[cfg(any(feature = "ldap", feature = "postgres", feature = "redis"))]
pub use frozen::Frozen;
pub use github::{ACCESS_TOKEN, GitHub};
pub use kept::Kept;
#[cfg(feature = "postgres")]
pub use postgres::{Database, PostgresProcess, database};
pub use process::{Process, doorward, with_names};
pub use provider::{
    ACCESS, Asked, CLIENT_ID, CLIENT_SECRET, Key, Provider, SUB, Shown, Sign, come_back,
};
pub use proxy::{PASSWORD, Proxy, ProxyBuilder, START, add_user, certificate, proxy, trusted};
pub use raw::{Raw, client_config};
#[cfg(feature = "ldap")]
pub use slapd::{LDAP_PASSWORD, SERVICE_PASSWORD, Slapd, secret_file};
pub use upstream::{CUT_OFF, Recorded, Reply, Upstream, upstream, upstream_at};
pub use wire::{Manual, Wire, collect, eventually, manual, on_its_way, soon, upload};
