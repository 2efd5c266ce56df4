//! Sessions in PostgreSQL, for several nodes that share them.
//!
//! Every change is one statement; every end is told to all nodes in the transaction that makes it. Nothing is
//! asked of the server at the start: a server that is down then is one that is down later.

#[cfg(feature = "postgres")]
mod backend;
#[cfg(feature = "postgres")]
mod fault;
#[cfg(feature = "postgres")]
mod link;
#[cfg(feature = "postgres")]
mod rows;
#[cfg(feature = "postgres")]
mod schema;
mod settings;
#[cfg(feature = "postgres")]
mod statements;

#[cfg(feature = "postgres")]
pub use backend::Postgres;
pub use settings::{Server as PostgresServer, Settings as PostgresSettings, Tls as PostgresTls};
