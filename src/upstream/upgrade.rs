//! `WebSockets`: once both sides have agreed to change the protocol, bytes are copied both ways until either side ends,
//! nothing moves for too long, or somebody else says so.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use crate::deadline::{Deadline, Watch};

/// The two ends, and what ends the tunnel.
#[derive(Debug)]
pub struct Tunnel {
    pub client: OnUpgrade,
    pub upstream: OnUpgrade,
    /// How long nothing may move.
    pub idle: Duration,
}

/// Copies until the end. `until` ends it from outside: the session is over.
pub async fn tunnel(tunnel: Tunnel, watch: &Watch, until: impl Future<Output = ()>) {
    let Tunnel {
        client,
        upstream,
        idle,
    } = tunnel;
    let deadline = Deadline::new(watch);
    deadline.arm(idle);
    let work = async {
        let (client, upstream) = tokio::try_join!(client, upstream).map_err(io::Error::other)?;
        let mut client = Paced::new(client, &deadline, idle);
        let mut upstream = Paced::new(upstream, &deadline, idle);
        copy_bidirectional(&mut client, &mut upstream).await
    };
    let idled = std::future::poll_fn(|cx| {
        if deadline.poll_passed(cx) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    tokio::select! {
        done = work => if let Err(error) = done {
            tracing::debug!(%error, "a tunnel ended");
        },
        () = idled => {}
        () = until => {}
    }
}

/// Arms the deadline anew whenever bytes move.
struct Paced {
    io: TokioIo<Upgraded>,
    deadline: Arc<Deadline>,
    idle: Duration,
}

impl Paced {
    fn new(io: Upgraded, deadline: &Arc<Deadline>, idle: Duration) -> Self {
        Self {
            io: TokioIo::new(io),
            deadline: deadline.clone(),
            idle,
        }
    }

    fn moved<T>(&self, poll: Poll<T>) -> Poll<T> {
        if poll.is_ready() {
            self.deadline.arm(self.idle);
        }
        poll
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_read(cx, buf);
        self.moved(poll)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write(cx, buf);
        self.moved(poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
