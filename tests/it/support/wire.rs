//! Both ends by hand: an app whose connections the test serves itself, an HTTP/2 client with every knob, and how much
//! of a stream gets through before somebody has to read.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{Proxy, Raw};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// No byte moved for this long: the other side does not read.
const STUCK: Duration = Duration::from_millis(300);

/// What may be on its way at the most where nobody reads: nearly all of it in the kernel's buffers of four sockets, of
/// which one to send from and one to receive into grow as far as the system lets them.
pub fn on_its_way() -> usize {
    let most = |name: &str| {
        let sizes = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        let most = sizes.split_whitespace().nth(2).unwrap();
        most.parse::<usize>().unwrap()
    };
    most("tcp_rmem") + most("tcp_wmem") + 4 * 1024 * 1024
}

/// Waits for what has to come soon.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("it never came: {what}"))
}

/// Waits until something is so.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// An app that does nothing by itself.
pub struct Manual {
    pub addr: SocketAddr,
    listener: TcpListener,
}

/// With small socket buffers, so that what is read ahead shows.
pub fn manual() -> Manual {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.set_send_buffer_size(64 * 1024).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1024).unwrap();
    let addr = listener.local_addr().unwrap();
    Manual { addr, listener }
}

impl Manual {
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub async fn accept(&self) -> Wire<TcpStream> {
        let (stream, _) = soon("a connection", self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Wire::new(stream)
    }
}

/// One connection, byte by byte.
pub struct Wire<S> {
    stream: S,
    read: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub fn into_stream(self) -> S {
        self.stream
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon("room to write", self.stream.write_all(bytes.as_ref()))
            .await
            .unwrap();
        soon("a flush", self.stream.flush()).await.unwrap();
    }

    pub async fn until(&mut self, until: &[u8]) -> Vec<u8> {
        loop {
            let found = self
                .read
                .windows(until.len())
                .position(|part| part == until);
            if let Some(at) = found {
                return self.read.drain(..at + until.len()).collect();
            }
            let filled = self.fill().await;
            assert_ne!(
                filled,
                0,
                "closed after {:?}",
                String::from_utf8_lossy(&self.read)
            );
        }
    }

    pub async fn head(&mut self) -> String {
        String::from_utf8(self.until(b"\r\n\r\n").await).unwrap()
    }

    pub async fn exact(&mut self, len: usize) -> Vec<u8> {
        while self.read.len() < len {
            let filled = self.fill().await;
            assert_ne!(filled, 0, "closed after {} of {len}", self.read.len());
        }
        self.read.drain(..len).collect()
    }

    /// Reads and forgets; the bytes must all be `byte`.
    pub async fn swallow(&mut self, mut len: usize, byte: u8) {
        let taken = len.min(self.read.len());
        assert!(self.read.drain(..taken).all(|this| this == byte));
        len -= taken;
        let mut chunk = vec![0; 256 * 1024];
        while len > 0 {
            let room = len.min(chunk.len());
            let read = soon("bytes", self.stream.read(&mut chunk[..room]))
                .await
                .unwrap();
            assert_ne!(read, 0, "closed {len} bytes early");
            assert!(chunk[..read].iter().all(|this| *this == byte));
            len -= read;
        }
    }

    /// Reads until the other side ends, in whatever way.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await > 0 {}
        std::mem::take(&mut self.read)
    }

    /// Whether something more comes within a moment.
    pub async fn is_silent(&mut self) -> bool {
        if !self.read.is_empty() {
            return false;
        }
        let mut chunk = vec![0; 4096];
        let read = tokio::time::timeout(STUCK, self.stream.read(&mut chunk)).await;
        if let Ok(Ok(len)) = read {
            self.read.extend_from_slice(&chunk[..len]);
        }
        read.is_err()
    }

    /// Writes these bytes over and over until none gets through any more, at most `len`; returns how many did.
    pub async fn stuff(&mut self, piece: &[u8], len: usize) -> usize {
        let mut written = 0;
        while written < len {
            let at = written % piece.len();
            let end = piece.len().min(at + len - written);
            let wrote = tokio::time::timeout(STUCK, self.stream.write(&piece[at..end])).await;
            match wrote {
                Ok(wrote) => written += wrote.unwrap(),
                Err(_) => break,
            }
        }
        // What a TLS stream took must be on its way.
        let _flushed = tokio::time::timeout(STUCK, self.stream.flush())
            .await
            .is_ok();
        written
    }

    /// Writes these bytes over and over until all `len` have got through: somebody reads them.
    pub async fn pour(&mut self, piece: &[u8], len: usize) {
        let mut written = 0;
        while written < len {
            let at = written % piece.len();
            let end = piece.len().min(at + len - written);
            let wrote = soon("room to write", self.stream.write(&piece[at..end])).await;
            written += wrote.unwrap();
        }
        soon("a flush", self.stream.flush()).await.unwrap();
    }

    /// Ends our direction; the other goes on.
    pub async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    async fn fill(&mut self) -> usize {
        let mut chunk = vec![0; 64 * 1024];
        let read = soon("more bytes", self.stream.read(&mut chunk)).await;
        let len = read.unwrap_or(0);
        self.read.extend_from_slice(&chunk[..len]);
        len
    }
}

impl Proxy {
    /// A client over HTTP/1.1 with a small receive buffer.
    pub async fn wire(&self) -> Wire<tokio_rustls::client::TlsStream<TcpStream>> {
        Wire::new(
            Raw::connect_slow(self.addr, &[b"http/1.1"])
                .await
                .into_stream(),
        )
    }

    /// A client over HTTP/2, with its own idea of windows.
    pub async fn h2(&self, builder: &h2::client::Builder) -> SendRequest<Bytes> {
        let stream = Raw::connect(self.addr, &[b"h2"]).await.into_stream();
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        tokio::spawn(async move {
            let _ended = connection.await.is_ok();
        });
        sender
    }

    /// `localhost` and the port.
    pub fn authority(&self) -> String {
        format!("localhost:{}", self.addr.port())
    }

    /// A request over HTTP/2.
    pub fn get(&self, path: &str) -> Request<()> {
        Request::get(format!("https://{}{path}", self.authority()))
            .body(())
            .unwrap()
    }

    pub fn post(&self, path: &str) -> Request<()> {
        Request::post(format!("https://{}{path}", self.authority()))
            .body(())
            .unwrap()
    }

    /// The value of one line of `/metrics`.
    pub async fn metric(&self, name: &str) -> u64 {
        let mut admin = Wire::new(TcpStream::connect(self.admin).await.unwrap());
        admin
            .send("GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await;
        let text = String::from_utf8(admin.rest().await).unwrap();
        let line = text
            .lines()
            .find(|line| line.split(' ').next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

/// Reads a body over HTTP/2 to its end, giving the window back as it goes.
pub async fn collect(body: &mut h2::RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = soon("data", body.data()).await {
        let data = data?;
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    Ok(all)
}

/// Sends all of it, as the window allows.
pub async fn upload(body: &mut h2::SendStream<Bytes>, mut data: Bytes, end: bool) {
    while !data.is_empty() {
        body.reserve_capacity(data.len().min(64 * 1024));
        let room = soon("window", std::future::poll_fn(|cx| body.poll_capacity(cx))).await;
        let room = room.expect("the stream is open").unwrap();
        let part = data.split_to(room.min(data.len()));
        body.send_data(part, end && data.is_empty()).unwrap();
    }
}
