//! Sessions in Redis or Valkey, for several nodes that share them: one server, Sentinel or Cluster.
//!
//! A session is one hash, `s:{sid}`: its row, its times, and its tokens in fields of their own. One script changes
//! one hash, so every change of a session is whole or not there, in a Cluster too. Around the hash lie keys that only
//! lead to it and that a Cluster keeps elsewhere:
//!
//! - `t:<token hash>` holds sid and subject. Alone it opens nothing: a load asks the hash whether it knows the token, in
//!   the same round trip but in a Cluster, where that takes a second one.
//! - `e:<subject>` holds the subject's epoch, once all of its sessions were ended at once. A load compares it, so that
//!   a session may be written late, on another node of a Cluster, and is still dead.
//! - `all`, `u:<subject>` and `due` are sorted sets of sids, in the order of names and of ends.
//!
//! They are written in an order in which no crash between two steps loses or revives anything. A creation writes the
//! hash first and `t:` last: until then nobody can present the token. A rotation writes `t:` first, then the hash: until
//! then the token leads nowhere. A removal takes the hash first: from then on the session is gone, and what still leads to
//! it is passed over and cleared away by the next list, by the sweep, or at last by its own expiry. Nothing but a creation
//! writes into a hash that is not there.
//!
//! Every key expires a day after the absolute end of what it leads to, by the server's clock. That is for a store that
//! was abandoned; sessions end by the sweep.

#[cfg(feature = "redis")]
mod backend;
#[cfg(feature = "redis")]
mod changes;
#[cfg(feature = "redis")]
mod connect;
#[cfg(feature = "redis")]
mod fault;
#[cfg(feature = "redis")]
mod keys;
#[cfg(feature = "redis")]
mod leads;
#[cfg(feature = "redis")]
mod link;
#[cfg(feature = "redis")]
mod lists;
#[cfg(feature = "redis")]
mod load;
#[cfg(feature = "redis")]
mod news;
#[cfg(feature = "redis")]
mod rows;
#[cfg(feature = "redis")]
mod scripts;
mod settings;

#[cfg(feature = "redis")]
pub use backend::Redis;
pub use settings::{Servers as RedisServers, Settings as RedisSettings, Tls as RedisTls};
