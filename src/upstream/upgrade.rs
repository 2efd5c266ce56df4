//! `WebSockets`: once both sides have agreed to change the protocol, bytes are copied both ways until either side ends,
//! nothing moves for too long, or somebody else says so. In that last case the client is told why, in a frame of its own.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional};
use tokio::time::timeout;

use super::frames::Frames;
use crate::deadline::{Deadline, Watch};

/// How long the rest of a frame may take that is under way when the end comes. A frame that is not whole by then is
/// cut off, and no other follows it.
const REST_OF_FRAME: Duration = Duration::from_millis(300);

/// How long the client may take to hear why it is over.
const FAREWELL: Duration = Duration::from_millis(400);

/// The two ends.
#[derive(Debug)]
pub struct Tunnel {
    pub client: OnUpgrade,
    pub upstream: OnUpgrade,
    /// How long nothing may move.
    pub idle: Duration,
}

/// Why a tunnel is closed from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Farewell {
    SessionEnded,
    /// We are about to stop.
    GoingAway,
}

impl Farewell {
    /// A close frame (RFC 6455 sections 5.5.1 and 7.4.1).
    fn frame(self) -> Vec<u8> {
        let (code, reason) = match self {
            Self::SessionEnded => (1008_u16, "session ended"),
            Self::GoingAway => (1001, "going away"),
        };
        let payload = [code.to_be_bytes().as_slice(), reason.as_bytes()].concat();
        // Control frames are short: the length is one byte.
        let len = u8::try_from(payload.len()).unwrap_or_default();
        [[0x88, len].as_slice(), &payload].concat()
    }
}

/// Copies until the end. `until` ends it from outside: the app sees a connection that closes, the client a close frame
/// between two others.
pub async fn tunnel(tunnel: Tunnel, watch: &Watch, until: impl Future<Output = Farewell>) {
    let Tunnel {
        client,
        upstream,
        idle,
    } = tunnel;
    let deadline = Deadline::new(watch);
    deadline.arm(idle);
    let idled = std::future::poll_fn(|cx| {
        if deadline.poll_passed(cx) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    let brink = Arc::new(Brink::default());
    let copied = async {
        let (client, upstream) = tokio::try_join!(client, upstream).map_err(io::Error::other)?;
        let client = Client {
            io: Paced::new(client, &deadline, idle),
            frames: Frames::default(),
            brink: brink.clone(),
        };
        let upstream = Paced::new(upstream, &deadline, idle);
        copy(client, upstream, &brink).await
    };
    let mut copied = pin!(copied);
    let farewell = tokio::select! {
        done = &mut copied => return note(done),
        () = idled => return,
        farewell = until => farewell,
    };
    brink.is_leaving.store(true, Ordering::Relaxed);
    // The rest of a frame that is under way goes first.
    if let Ok(Ok(Some(client))) = timeout(REST_OF_FRAME, copied).await
        && !client.frames.has_closed()
    {
        let said = timeout(FAREWELL, say(client.io, farewell)).await;
        note(said.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())));
    }
}

/// Copies both ways until either side ends, or until the client is between two frames and the end has come: then the
/// client is returned.
async fn copy(
    mut client: Client,
    mut upstream: Paced,
    brink: &Brink,
) -> io::Result<Option<Client>> {
    let is_left = {
        let mut copying = pin!(copy_bidirectional(&mut client, &mut upstream));
        std::future::poll_fn(|cx| match copying.as_mut().poll(cx) {
            // Nothing more is written at the brink, which looks like an error in there.
            _ if brink.is_reached() => Poll::Ready(Ok(true)),
            Poll::Ready(done) => Poll::Ready(done.map(|_| false)),
            Poll::Pending => Poll::Pending,
        })
        .await?
    };
    Ok(is_left.then_some(client))
}

async fn say(mut client: Paced, farewell: Farewell) -> io::Result<()> {
    client.write_all(&farewell.frame()).await?;
    client.shutdown().await?;
    // What the client still sends is read: a connection that is closed with unread bytes in it is reset, and takes the
    // frame with it.
    let mut rest = [0; 1024];
    while client.read(&mut rest).await? > 0 {}
    Ok(())
}

fn note<T>(done: io::Result<T>) {
    if let Err(error) = done {
        tracing::debug!(%error, "a tunnel ended");
    }
}

/// Where a tunnel waits before it is closed: behind a whole frame.
#[derive(Debug, Default)]
struct Brink {
    is_leaving: AtomicBool,
    is_in_frame: AtomicBool,
}

impl Brink {
    fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    fn is_reached(&self) -> bool {
        self.is_leaving() && !self.is_in_frame.load(Ordering::Relaxed)
    }
}

/// The client's end. It knows where the frames end that are written to it. Once the tunnel is being left, nothing is
/// read from it, and nothing is written but the rest of a frame.
struct Client {
    io: Paced,
    frames: Frames,
    brink: Arc<Brink>,
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.brink.is_leaving() {
            // Nobody waits for it any more.
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let allowed = if self.brink.is_reached() {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        } else if self.brink.is_leaving() {
            let mut ahead = self.frames;
            let len = ahead.pass_one(buf);
            buf.get(..len).unwrap_or(buf)
        } else {
            buf
        };
        let poll = Pin::new(&mut self.io).poll_write(cx, allowed);
        if let Poll::Ready(Ok(len)) = poll {
            self.frames.pass(allowed.get(..len).unwrap_or(allowed));
            let is_in_frame = !self.frames.is_between();
            self.brink.is_in_frame.store(is_in_frame, Ordering::Relaxed);
        }
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_farewell_is_a_whole_close_frame() {
        for (farewell, expected) in [
            (
                Farewell::SessionEnded,
                &b"\x88\x0f\x03\xf0session ended"[..],
            ),
            (Farewell::GoingAway, b"\x88\x0c\x03\xe9going away"),
        ] {
            assert_eq!(farewell.frame(), expected);
            let mut frames = Frames::default();
            frames.pass(&farewell.frame());
            assert!(frames.is_between() && frames.has_closed());
        }
    }
}
