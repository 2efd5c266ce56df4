//! The apps behind us. It knows no session and no user: it is given a request that is ready to go.

mod body;
mod connect;
mod frames;
mod link;
mod pool;
mod rewrite;
mod upgrade;

pub use body::{RequestBody, ResponseBody, TrailerFilter, UploadLimits};
pub use pool::{Reached, Unsent, Upstreams};
pub use rewrite::{Prefix, rewrite_location};
pub use upgrade::{Farewell, Tunnel, tunnel};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;

/// One app, as configured.
#[derive(Clone, Debug)]
pub struct Target {
    /// As written, for logs and for telling the app's own redirects: `http://127.0.0.1:3000`.
    pub url: String,
    pub address: Address,
    /// The Host of requests whose route says nothing else, where the client's own is not wanted: `127.0.0.1:3000`.
    pub authority: String,
    pub tls: Option<TargetTls>,
    /// Idle connections that each worker keeps.
    pub max_idle: usize,
    /// Connections that each worker has at once, idle or not.
    pub max_connections: usize,
}

/// How long one exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub connect: Duration,
    pub first_byte: Duration,
    pub idle: Duration,
}

/// What an exchange belongs to and ends with, whatever it is just doing.
pub trait Until: Sync {
    fn over(&self) -> Over;
}

/// Waits for that end.
pub type Over = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// Resolved at each connect.
    Name {
        host: String,
        port: u16,
    },
    Socket(SocketAddr),
    Unix(PathBuf),
}

/// How the app's certificate is judged.
#[derive(Clone, Debug)]
pub struct TargetTls {
    pub config: Arc<rustls::ClientConfig>,
    pub name: ServerName<'static>,
}

/// Why an app gave no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UpstreamError {
    /// The client's own body failed or stalled; whose fault it is decides the status.
    #[error("the request body could not be read: {0}")]
    ClientBody(String),
    #[error("the request body is larger than the route allows")]
    BodyTooLarge,
    #[error("no connection: {0}")]
    Connect(String),
    #[error("the connection failed before an answer: {0}")]
    Exchange(String),
    /// As many connections as are allowed are in use.
    #[error("all {0} connections are in use")]
    Exhausted(usize),
    /// What it belonged to has ended ([`Until`]).
    #[error("it was called off")]
    Over,
    #[error("no answer in time")]
    Timeout,
}

impl UpstreamError {
    /// The word for it in logs and metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::BodyTooLarge | Self::ClientBody(_) => "client",
            Self::Connect(_) | Self::Exhausted(_) => "connect",
            Self::Exchange(_) => "exchange",
            Self::Over => "session",
            Self::Timeout => "timeout",
        }
    }
}
