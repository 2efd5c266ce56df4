//! A TLS connection that says literally what it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::proxy::trusted;

/// Longer than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Raw {
    stream: TlsStream<TcpStream>,
    read: Vec<u8>,
}

impl Raw {
    pub async fn connect(addr: SocketAddr, alpn: &[&[u8]]) -> Self {
        Self::connect_as(addr, "localhost", alpn).await
    }

    pub async fn connect_as(addr: SocketAddr, name: &str, alpn: &[&[u8]]) -> Self {
        let tcp = TcpStream::connect(addr).await.unwrap();
        Self::over(tcp, name, alpn).await
    }

    /// With a small receive buffer, so that what is read ahead of it shows.
    pub async fn connect_slow(addr: SocketAddr, alpn: &[&[u8]]) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        socket.set_send_buffer_size(64 * 1024).unwrap();
        Self::over(socket.connect(addr).await.unwrap(), "localhost", alpn).await
    }

    async fn over(tcp: TcpStream, name: &str, alpn: &[&[u8]]) -> Self {
        tcp.set_nodelay(true).unwrap();
        let connector = TlsConnector::from(Arc::new(client_config(alpn)));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = connector.connect(name, tcp).await.unwrap();
        Self {
            stream,
            read: Vec::new(),
        }
    }

    /// `None` where nobody listens any more.
    pub async fn try_connect(addr: SocketAddr, name: &str, alpn: &[&[u8]]) -> Option<Self> {
        Self::try_connect_trusting(addr, name, client_config(alpn)).await
    }

    pub async fn try_connect_trusting(
        addr: SocketAddr,
        name: &str,
        config: rustls::ClientConfig,
    ) -> Option<Self> {
        let tcp = TcpStream::connect(addr).await.ok()?;
        tcp.set_nodelay(true).ok()?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, tcp).await.ok()?;
        Some(Self {
            stream,
            read: Vec::new(),
        })
    }

    pub fn into_stream(self) -> TlsStream<TcpStream> {
        self.stream
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The other side may have closed already: what it said before is what counts.
        if self.stream.write_all(bytes.as_ref()).await.is_ok() {
            let _flushed = self.stream.flush().await.is_ok();
        }
    }

    /// Reads until `until` has come, and returns everything up to and with it.
    pub async fn read_until(&mut self, until: &[u8]) -> Vec<u8> {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(at) = self
                    .read
                    .windows(until.len())
                    .position(|window| window == until)
                {
                    let rest = self.read.split_off(at + until.len());
                    return std::mem::replace(&mut self.read, rest);
                }
                assert!(
                    self.fill().await != 0,
                    "closed after {:?}",
                    String::from_utf8_lossy(&self.read)
                );
            }
        });
        found
            .await
            .unwrap_or_else(|_| panic!("never came: {:?}", String::from_utf8_lossy(until)))
    }

    /// Reads a response's head.
    pub async fn head(&mut self) -> String {
        String::from_utf8(self.read_until(b"\r\n\r\n").await).unwrap()
    }

    pub async fn read_exact(&mut self, len: usize) -> Vec<u8> {
        while self.read.len() < len {
            let filled = tokio::time::timeout(PATIENCE, self.fill()).await.unwrap();
            assert_ne!(
                filled,
                0,
                "closed early: {:?}",
                String::from_utf8_lossy(&self.read)
            );
        }
        let rest = self.read.split_off(len);
        std::mem::replace(&mut self.read, rest)
    }

    /// As many bytes; `None` where the other side closes before.
    pub async fn next(&mut self, len: usize) -> Option<Vec<u8>> {
        let done = tokio::time::timeout(PATIENCE, async {
            while self.read.len() < len {
                if self.fill().await == 0 {
                    return false;
                }
            }
            true
        });
        if !done.await.expect("neither bytes nor an end") {
            return None;
        }
        let rest = self.read.split_off(len);
        Some(std::mem::replace(&mut self.read, rest))
    }

    /// Reads one response with a declared length, and returns its head and its content.
    pub async fn response(&mut self) -> (String, Vec<u8>) {
        let head = self.head().await;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse().unwrap())
        });
        let content = self.read_exact(length.expect("a length")).await;
        (head, content)
    }

    /// Reads until the other side closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        let all = tokio::time::timeout(PATIENCE, async { while self.fill().await > 0 {} });
        all.await.expect("the connection stays open");
        std::mem::take(&mut self.read)
    }

    /// The status of the next response, or `None` where the connection is closed without one.
    pub async fn status(&mut self) -> Option<u16> {
        let done = tokio::time::timeout(PATIENCE, async {
            while self.read.len() < 12 {
                if self.fill().await == 0 {
                    return None;
                }
            }
            let text = std::str::from_utf8(&self.read[9..12]).unwrap();
            Some(text.parse().unwrap())
        });
        done.await.expect("neither an answer nor an end")
    }

    async fn fill(&mut self) -> usize {
        let mut chunk = vec![0; 16 * 1024];
        // An end without close_notify, or by a reset, is an end.
        let len = self.stream.read(&mut chunk).await.unwrap_or(0);
        self.read.extend_from_slice(&chunk[..len]);
        len
    }
}

pub fn client_config(alpn: &[&[u8]]) -> rustls::ClientConfig {
    trusting(trusted(), alpn)
}

pub fn trusting(authority: CertificateDer<'static>, alpn: &[&[u8]]) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority).unwrap();
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}
