//! One new connection to an app: resolve, connect, TLS. Everything here happens under one time limit.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pool::Place;
use super::{Address, Target, UpstreamError};
use crate::resolver::Resolver;

/// A byte stream to an app. Wherever it goes, into a tunnel even, it holds on to its place among those that the app
/// may have.
#[derive(Debug)]
pub(super) struct Stream {
    kind: Kind,
    _place: Place,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// Connects within `limit`, TLS included.
pub(super) async fn connect(
    (target, resolver): (&Target, &Resolver),
    place: Place,
    limit: Duration,
) -> Result<Stream, UpstreamError> {
    match tokio::time::timeout(limit, open(target, resolver)).await {
        Ok(Ok(kind)) => Ok(Stream {
            kind,
            _place: place,
        }),
        Ok(Err(error)) => Err(UpstreamError::Connect(error.to_string())),
        Err(_) => Err(UpstreamError::Connect(format!("none within {limit:?}"))),
    }
}

async fn open(target: &Target, resolver: &Resolver) -> io::Result<Kind> {
    let tcp = match &target.address {
        Address::Unix(path) => return UnixStream::connect(path).await.map(Kind::Unix),
        Address::Socket(addr) => TcpStream::connect(addr).await?,
        Address::Name { host, port } => resolver.connect(host, *port).await?,
    };
    tcp.set_nodelay(true)?;
    match &target.tls {
        None => Ok(Kind::Tcp(tcp)),
        Some(tls) => {
            let connector = TlsConnector::from(tls.config.clone());
            let stream = connector.connect(tls.name.clone(), tcp).await?;
            Ok(Kind::Tls(Box::new(stream)))
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Kind::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Kind::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Kind::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Kind::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Kind::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Kind::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Tcp(stream) => stream.is_write_vectored(),
            Kind::Tls(stream) => stream.is_write_vectored(),
            Kind::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Kind::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Kind::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Nobody ever hears from its name server.
    #[tokio::test(start_paused = true)]
    async fn an_app_whose_name_nobody_finds_cannot_be_reached_and_takes_few_threads() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let resolver = Resolver::asking(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::pending())
        });
        let target = Target {
            url: "http://app.example".to_owned(),
            address: Address::Name {
                host: "app.example".to_owned(),
                port: 80,
            },
            authority: "app.example".to_owned(),
            tls: None,
            max_idle: 8,
            max_connections: 1,
        };
        let open = Arc::default();
        for limit in [5, 20].map(Duration::from_secs) {
            for _ in 0..50 {
                let place = Place::take(&open, target.max_connections).unwrap();
                let error = connect((&target, &resolver), place, limit).await;
                let error = error.unwrap_err();
                assert!(matches!(error, UpstreamError::Connect(_)), "{error}");
            }
        }
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    }
}
