//! An app whose log of raw bytes is the oracle: what it received is what counts, never what the proxy said.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub struct Upstream {
    pub addr: SocketAddr,
    log: Arc<Mutex<Vec<Recorded>>>,
    connections: Arc<AtomicUsize>,
    open: Arc<()>,
    serving: JoinHandle<()>,
}

/// One request, byte by byte.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recorded {
    /// Request line and fields with the empty line that ends them.
    pub head: String,
    /// As it came: with chunk framing, where it was chunked.
    pub body: Vec<u8>,
}

/// Ends the body of a request that was cut off in the middle.
pub const CUT_OFF: &[u8] = b"[cut off]";

/// What the app says to a request, literally.
pub enum Reply {
    Bytes(Vec<u8>),
    /// These bytes, then the connection is closed.
    Close(Vec<u8>),
    /// These bytes, then nothing more, ever.
    Stall(Vec<u8>),
    /// These bytes, then every byte that comes is sent back.
    Echo(Vec<u8>),
}

impl Reply {
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::with(200, "", body)
    }

    /// `fields` are whole lines, each with its end.
    pub fn with(status: u16, fields: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut bytes = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{fields}\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        Self::Bytes(bytes)
    }
}

impl Recorded {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// Every value of a field, by its exact name in lower case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        let named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim()).collect()
    }

    /// The one value of a field.
    pub fn one(&self, name: &str) -> &str {
        match self.all(name)[..] {
            [value] => value,
            ref values => panic!("{name}: {values:?} in {}", self.head),
        }
    }

    /// It came whole.
    pub fn is_whole(&self) -> bool {
        !self.body.ends_with(CUT_OFF)
    }

    /// Names of all fields whose letters and digits are these, whatever stands between.
    pub fn folded(&self, name: &str) -> Vec<&str> {
        let fold = |name: &str| {
            name.chars()
                .filter(char::is_ascii_alphanumeric)
                .collect::<String>()
                .to_lowercase()
        };
        let fields = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        fields
            .filter(|(field, _)| fold(field) == fold(name))
            .map(|(field, _)| field)
            .collect()
    }
}

/// An app that answers every request with what `reply` says.
pub async fn upstream(reply: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Upstream {
    upstream_at("127.0.0.1:0".parse().unwrap(), reply).await
}

/// One at an address where nothing may have listened before.
pub async fn upstream_at(
    addr: SocketAddr,
    reply: impl Fn(&Recorded) -> Reply + Send + Sync + 'static,
) -> Upstream {
    let listener = TcpListener::bind(addr).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let connections = Arc::new(AtomicUsize::new(0));
    let (recording, counting, reply) = (log.clone(), connections.clone(), Arc::new(reply));
    let open = Arc::new(());
    let held = open.clone();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counting.fetch_add(1, Ordering::SeqCst);
            let (log, reply, open) = (recording.clone(), reply.clone(), held.clone());
            tokio::spawn(async move {
                serve(stream, &log, &*reply).await;
                drop(open);
            });
        }
    });
    Upstream {
        addr,
        log,
        connections,
        open,
        serving,
    }
}

impl Upstream {
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Everything that it was ever asked.
    pub fn requests(&self) -> Vec<Recorded> {
        self.log.lock().clone()
    }

    /// The one request that it was asked.
    pub fn only(&self) -> Recorded {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }

    pub fn last(&self) -> Recorded {
        self.requests().pop().expect("a request")
    }

    /// Waits until it was asked this often, and returns everything.
    pub async fn asked(&self, times: usize) -> Vec<Recorded> {
        for _ in 0..500 {
            let requests = self.requests();
            if requests.len() >= times {
                return requests;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not asked {times} times: {:?}", self.requests());
    }

    /// Waits until no connection to it is open.
    pub async fn left_alone(&self) {
        // The listener and this hold one each.
        for _ in 0..500 {
            if Arc::strong_count(&self.open) == 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("connections stay open");
    }

    /// Connections that there are.
    pub fn open(&self) -> usize {
        Arc::strong_count(&self.open) - 2
    }

    /// Connections that there ever were.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    log: &Mutex<Vec<Recorded>>,
    reply: &(dyn Fn(&Recorded) -> Reply + Send + Sync),
) {
    let mut read = Vec::new();
    loop {
        let Some(head) = take_head(&mut stream, &mut read).await else {
            return;
        };
        let mut request = Recorded {
            head,
            body: Vec::new(),
        };
        let chunked = request.all("transfer-encoding").contains(&"chunked");
        let length = request
            .all("content-length")
            .first()
            .map_or(0, |len| len.parse().unwrap());
        let complete = if chunked {
            take_chunked(&mut stream, &mut read, &mut request.body).await
        } else {
            take(&mut stream, &mut read, length, &mut request.body).await
        };
        if !complete {
            request.body.extend_from_slice(CUT_OFF);
            log.lock().push(request);
            return;
        }
        let answer = reply(&request);
        log.lock().push(request);
        let (bytes, then) = match answer {
            Reply::Bytes(bytes) => (bytes, 'k'),
            Reply::Close(bytes) => (bytes, 'c'),
            Reply::Stall(bytes) => (bytes, 's'),
            Reply::Echo(bytes) => (bytes, 'e'),
        };
        if stream.write_all(&bytes).await.is_err() || then == 'c' {
            return;
        }
        if then == 's' {
            while stream.read(&mut [0; 1024]).await.is_ok_and(|len| len > 0) {}
            return;
        }
        if then == 'e' {
            let (mut from, mut to) = stream.split();
            let _echoed = tokio::io::copy(&mut from, &mut to).await.is_ok();
            return;
        }
    }
}

async fn fill(stream: &mut TcpStream, read: &mut Vec<u8>) -> bool {
    let mut chunk = vec![0; 64 * 1024];
    let len = stream.read(&mut chunk).await.unwrap_or(0);
    read.extend_from_slice(&chunk[..len]);
    len > 0
}

async fn take_head(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            return Some(String::from_utf8_lossy(&std::mem::replace(read, rest)).into_owned());
        }
        if !fill(stream, read).await {
            return None;
        }
    }
}

async fn take(stream: &mut TcpStream, read: &mut Vec<u8>, len: usize, into: &mut Vec<u8>) -> bool {
    while read.len() < len {
        if !fill(stream, read).await {
            into.append(read);
            return false;
        }
    }
    let rest = read.split_off(len);
    into.append(read);
    *read = rest;
    true
}

/// With its framing and trailers.
async fn take_chunked(stream: &mut TcpStream, read: &mut Vec<u8>, into: &mut Vec<u8>) -> bool {
    loop {
        let Some(end) = line_end(stream, read).await else {
            into.append(read);
            return false;
        };
        let size = std::str::from_utf8(&read[..end])
            .unwrap()
            .split(';')
            .next()
            .unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        if !take(stream, read, end + 2, into).await {
            return false;
        }
        if size == 0 {
            loop {
                let Some(end) = line_end(stream, read).await else {
                    return false;
                };
                if !take(stream, read, end + 2, into).await {
                    return false;
                }
                if end == 0 {
                    return true;
                }
            }
        }
        if !take(stream, read, size + 2, into).await {
            return false;
        }
    }
}

async fn line_end(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(end) = read.windows(2).position(|window| window == b"\r\n") {
            return Some(end);
        }
        if !fill(stream, read).await {
            return None;
        }
    }
}
