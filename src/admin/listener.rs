//! The connections of the admin listener, over TCP or a unix socket: few, short, one request each. It knows who is at the
//! other end, and not what is asked.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{AdminState, answer};

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// The header section, in bytes and in fields.
pub(super) const MAX_HEADER_BYTES: usize = 16 * 1024;
pub(super) const MAX_HEADERS: usize = 64;
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection carries one request and lives no longer than this, so nothing on it can take longer either.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Who asks, by the door they came through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Caller {
    Address(IpAddr),
    /// Through the unix socket, as this user of the machine, where the system says so.
    Local(Option<u32>),
}

/// A socket that listens, of either kind.
pub trait Accept: Send + Sync {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Caller)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Caller)> {
        let (stream, peer) = Self::accept(self).await?;
        Ok((stream, Caller::Address(peer.ip().to_canonical())))
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Caller)> {
        let (stream, _) = Self::accept(self).await?;
        let uid = stream.peer_cred().ok().map(|peer| peer.uid());
        Ok((stream, Caller::Local(uid)))
    }
}

/// Serves until `shutdown` is ready, then finishes the requests under way.
pub async fn serve<L: Accept>(
    listener: L,
    state: Arc<AdminState>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, caller)) => {
                let state = Arc::clone(&state);
                connections.spawn(async move {
                    serve_connection(stream, caller, state).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin listener could not accept a connection");
                tokio::select! {
                    () = &mut shutdown => break,
                    () = sleep(ACCEPT_BACKOFF) => {}
                }
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    // Each of them ends by itself within the request timeout.
    while connections.join_next().await.is_some() {}
}

async fn serve_connection<S>(stream: S, caller: Caller, state: Arc<AdminState>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(&state, caller, request).await.map(Full::new)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(REQUEST_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin connection failed"),
        Err(_) => tracing::debug!("an admin connection took too long"),
    }
}
