//! Sockets: bound before anything is served, accepted with backoff, each connection with a permit and a task of its own.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use super::connection::{Connect, Shared, serve};
use super::plaintext::{Plaintext, serve_connection};
use super::tls::Tls;
use super::{Limits, Peer};
use crate::deadline::{Drain, Watch};
use crate::telemetry::Metrics;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 4096;

/// A socket that listens. Several may be bound to one address, one for each worker; the kernel deals connections out.
pub fn bind(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Counts connections, over all workers.
#[derive(Debug, Default)]
pub struct Permits {
    open: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's right to be.
#[derive(Debug)]
pub struct Permit {
    permits: Arc<Permits>,
    address: IpAddr,
}

impl Permits {
    /// `None` where the address, or the whole process, has as many as it may.
    pub fn take(self: &Arc<Self>, peer: IpAddr, limits: &Limits) -> Option<Permit> {
        let address = network(peer);
        let mut by_address = self.by_address.lock();
        let count = by_address.entry(address).or_default();
        let full = self.open.load(Ordering::Relaxed) >= limits.max_connections;
        if full || *count >= limits.max_connections_per_address {
            if *count == 0 {
                by_address.remove(&address);
            }
            return None;
        }
        *count += 1;
        self.open.fetch_add(1, Ordering::Relaxed);
        let permits = self.clone();
        Some(Permit { permits, address })
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.open.fetch_sub(1, Ordering::Relaxed);
        let mut by_address = self.permits.by_address.lock();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// An IPv4 address alone, an IPv6 address with its /64: what one subscriber has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Accepts TLS connections for one worker.
#[derive(Debug)]
pub struct Listener {
    pub tls: Arc<Tls>,
    pub limits: Arc<Limits>,
    pub watch: Watch,
    pub permits: Arc<Permits>,
    /// Once begun, connections end when their requests do.
    pub draining: Arc<Drain>,
    pub metrics: Arc<Metrics>,
}

impl Listener {
    /// Accepts until the future is dropped.
    pub async fn run<C: Connect>(&self, socket: TcpListener, connect: Arc<C>) {
        loop {
            match socket.accept().await {
                Ok((stream, addr)) => {
                    if let Some(permit) = self.permits.take(addr.ip(), &self.limits) {
                        self.spawn(stream, addr, permit, connect.clone());
                    } else {
                        tracing::debug!(%addr, "refused: too many connections");
                    }
                }
                Err(error) => back_off(&error).await,
            }
        }
    }

    fn spawn<C: Connect>(
        &self,
        stream: TcpStream,
        addr: SocketAddr,
        permit: Permit,
        connect: Arc<C>,
    ) {
        let (tls, shared) = (self.tls.clone(), self.shared());
        let metrics = self.metrics.clone();
        tokio::spawn(async move {
            prepare(&stream);
            let limit = shared.limits.handshake_timeout;
            let handshake = Box::pin(tls.acceptor().accept(stream));
            let Ok(Ok(stream)) = tokio::time::timeout(limit, handshake).await else {
                return metrics.handshake_failed();
            };
            let certificate = tls.chosen(stream.get_ref().1.server_name());
            let handle = connect.connect(Peer { addr, certificate });
            // A task of its own is as small as serving needs; this one still has room for a handshake.
            let open = metrics.connection();
            tokio::spawn(async move {
                serve(stream, handle, permit, shared).await;
                drop(open);
            });
        });
    }

    fn shared(&self) -> Shared {
        Shared {
            limits: self.limits.clone(),
            watch: self.watch.clone(),
            draining: self.draining.clone(),
        }
    }
}

/// Answers plain HTTP, connection by connection, until the future is dropped.
pub async fn serve_plaintext(
    socket: TcpListener,
    plaintext: Arc<Plaintext>,
    permits: Arc<Permits>,
) {
    loop {
        match socket.accept().await {
            Ok((stream, addr)) => {
                if let Some(permit) = permits.take(addr.ip(), &plaintext.limits) {
                    let plaintext = plaintext.clone();
                    tokio::spawn(async move {
                        serve_connection(stream, plaintext).await;
                        drop(permit);
                    });
                }
            }
            Err(error) => back_off(&error).await,
        }
    }
}

/// Errors of one peer pass at once; being out of file descriptors, most likely, is given time to pass.
async fn back_off(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if !matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    ) {
        tracing::warn!(%error, "cannot accept connections");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// No delay for small writes; peers that vanish without a word are found out.
fn prepare(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_mins(1))
        .with_interval(Duration::from_secs(15));
    let socket = socket2::SockRef::from(stream);
    if let Err(error) = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
    {
        tracing::debug!(%error, "a socket option was refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_place() {
        let permits = Arc::new(Permits::default());
        let limits = Limits {
            max_connections: 3,
            max_connections_per_address: 2,
            ..Limits::default()
        };
        let take = |ip: &str| permits.take(ip.parse().unwrap(), &limits);
        let first = take("2001:db8::1").unwrap();
        let _second = take("2001:db8::2").unwrap();
        assert!(take("2001:db8::3").is_none(), "one /64 is one address");
        let _other = take("10.0.0.1").unwrap();
        assert!(take("10.0.0.2").is_none(), "the whole process is full");
        drop(first);
        assert!(take("::ffff:10.0.0.1").is_some(), "a place was given back");
        assert_eq!(permits.open(), 2);
    }
}
