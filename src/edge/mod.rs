//! Sockets, TLS and HTTP framing. It serves any handler and knows nothing of sessions or routes.

mod activity;
mod client_addr;
mod coalesce;
mod connection;
mod listener;
mod plaintext;
mod stream;
mod tls;

pub use client_addr::ClientAddr;
pub use connection::{Connect, Handle};
pub use listener::{Listener, Permit, Permits, bind, serve_plaintext};
pub use plaintext::Plaintext;
pub use tls::{Certificate, CertificateError, Certificates, Tls};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Every wait and every bound of the client's side (R17).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// TCP accepted to TLS established.
    pub handshake_timeout: Duration,
    /// First byte of a request's header section to its last.
    pub header_timeout: Duration,
    /// Without progress in a body that is being sent, in either direction.
    pub body_idle_timeout: Duration,
    /// Between requests on one connection.
    pub keep_alive_timeout: Duration,
    /// How long a stopping process waits for requests under way.
    pub drain_timeout: Duration,
    /// The header section in bytes.
    pub max_header_bytes: usize,
    /// Header fields in one request.
    pub max_headers: usize,
    /// Connections at once, over all listeners.
    pub max_connections: usize,
    /// Connections at once from one address (an IPv6 /64 counts as one).
    pub max_connections_per_address: usize,
    /// HTTP/2 streams at once on one connection.
    pub max_streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(75),
            drain_timeout: Duration::from_secs(30),
            max_header_bytes: 32 * 1024,
            max_headers: 100,
            max_connections: 10_000,
            max_connections_per_address: 1_000,
            max_streams: 128,
        }
    }
}

/// What is known of a connection before its first request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The other end of the TCP connection.
    pub addr: SocketAddr,
    /// The certificate that was chosen for the connection; what it is valid for decides which hosts it may ask for.
    pub certificate: Arc<Certificate>,
}
