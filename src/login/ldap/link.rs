//! One connection to a directory: encrypted before anything is said, one question at a time. Every answer has an end in
//! time and in bytes.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::ber::{self, SEQUENCE};
use super::fault::Fault;
use super::message::{
    Answer, BOUND, Binding, DONE, ENTRY, EXTENDED, Entry, Outcome, REFERENCE, Search, start_tls,
    unbind,
};
use super::settings::{LdapSecurity, LdapServer};
use crate::resolver::Resolver;

/// The longest message, and all messages that answer one search.
const MAX_MESSAGE: usize = 512 * 1024;
const MAX_ANSWER: usize = 1024 * 1024;

/// What is set aside for a message before it has come.
const FIRST: usize = 8 * 1024;

/// How long a farewell may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// The codes of results (RFC 4511 appendix A).
pub(super) const SUCCESS: u32 = 0;
pub(super) const SIZE_LIMIT: u32 = 4;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How servers are reached.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) tls: Arc<ClientConfig>,
    pub(super) resolver: Resolver,
}

pub(super) struct Link {
    wire: Wire<Box<dyn Stream>>,
    patience: Duration,
}

/// What a search found, and whether there was more.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    pub(super) is_cut: bool,
}

impl Link {
    /// `connect` is for everything until something may be said, `answer` for each answer as a whole.
    pub(super) async fn open(
        server: &LdapServer,
        way: &Way,
        (connect, answer): (Duration, Duration),
    ) -> Result<Self, Fault> {
        let opened = timeout(connect, connected(server, way)).await;
        let wire = opened.unwrap_or(Err(Fault::ConnectTimeout(connect)))?;
        Ok(Self {
            wire,
            patience: answer,
        })
    }

    pub(super) async fn bind(&mut self, binding: &Binding<'_>) -> Result<Outcome, Fault> {
        let asked = async {
            let request = binding.request(self.wire.next());
            self.wire.send(&request).await?;
            self.wire.outcome(BOUND).await
        };
        let patience = self.patience;
        let done = timeout(patience, asked).await;
        done.unwrap_or(Err(Fault::Timeout(patience)))
    }

    /// `what` is what the log calls it. References to other servers are not followed.
    pub(super) async fn search(
        &mut self,
        search: &Search<'_>,
        what: &'static str,
    ) -> Result<Found, Fault> {
        let patience = self.patience;
        let done = timeout(patience, self.wire.search(search, what)).await;
        done.unwrap_or(Err(Fault::Timeout(patience)))
    }

    /// Says goodbye; what comes of it is of no matter.
    pub(super) async fn close(mut self) {
        let goodbye = async {
            let request = unbind(self.wire.next());
            self.wire.send(&request).await.ok();
            self.wire.stream.shutdown().await.ok();
        };
        timeout(GOODBYE, goodbye).await.ok();
    }
}

async fn connected(server: &LdapServer, way: &Way) -> Result<Wire<Box<dyn Stream>>, Fault> {
    let (host, port, security) = match server {
        LdapServer::Socket(path) => {
            let stream = UnixStream::connect(path)
                .await
                .map_err(Fault::Unreachable)?;
            return Ok(Wire::new(Box::new(stream)));
        }
        LdapServer::Tcp {
            host,
            port,
            security,
        } => (host, *port, *security),
    };
    let stream = way.resolver.connect(host, port).await;
    let stream = stream.map_err(Fault::Unreachable)?;
    stream.set_nodelay(true).map_err(Fault::Unreachable)?;
    let stream = match security {
        LdapSecurity::None => return Ok(Wire::new(Box::new(stream))),
        LdapSecurity::StartTls => {
            let mut bare = Wire::new(stream);
            bare.start_tls().await?;
            bare.stream
        }
        LdapSecurity::Tls => stream,
    };
    let name = ServerName::try_from(host.clone());
    let name = name.map_err(|error| Fault::Handshake(std::io::Error::other(error)))?;
    let connector = TlsConnector::from(way.tls.clone());
    let stream = connector.connect(name, stream).await;
    Ok(Wire::new(Box::new(stream.map_err(Fault::Handshake)?)))
}

/// Messages over a stream. It reads no byte beyond a message, so that nothing that was said in the clear counts later.
struct Wire<S> {
    stream: S,
    last: u32,
}

impl<S: Stream> Wire<S> {
    fn new(stream: S) -> Self {
        Self { stream, last: 0 }
    }

    fn next(&mut self) -> u32 {
        self.last += 1;
        self.last
    }

    async fn start_tls(&mut self) -> Result<(), Fault> {
        let request = start_tls(self.next());
        self.send(&request).await?;
        let outcome = self.outcome(EXTENDED).await?;
        match outcome.told.code {
            SUCCESS => Ok(()),
            _ => Err(Fault::StartTls(outcome.told)),
        }
    }

    async fn search(&mut self, search: &Search<'_>, what: &'static str) -> Result<Found, Fault> {
        let request = search.request(self.next())?;
        self.send(&request).await?;
        let most = usize::try_from(search.most).unwrap_or(usize::MAX);
        let (mut found, mut size) = (Found::default(), 0);
        loop {
            let content = self.receive().await?;
            size += content.len();
            if size > MAX_ANSWER {
                return Err(Fault::TooLarge(MAX_ANSWER));
            }
            let answer = self.own(&content)?;
            match answer.op {
                ENTRY if found.entries.len() == most => return Err(Fault::TooMany(most)),
                ENTRY => found.entries.push(answer.entry()?),
                REFERENCE => {}
                DONE => {
                    let told = answer.outcome()?.told;
                    found.is_cut = told.code == SIZE_LIMIT;
                    if told.code != SUCCESS && !found.is_cut {
                        return Err(Fault::Refused { what, told });
                    }
                    return Ok(found);
                }
                _ => return Err(Fault::Malformed("another operation than was asked for")),
            }
        }
    }

    async fn outcome(&mut self, op: u8) -> Result<Outcome, Fault> {
        let content = self.receive().await?;
        let answer = self.own(&content)?;
        if answer.op != op {
            return Err(Fault::Malformed("another operation than was asked for"));
        }
        answer.outcome()
    }

    /// The message, if it is about what was asked last.
    fn own<'a>(&self, content: &'a [u8]) -> Result<Answer<'a>, Fault> {
        let answer = Answer::parse(content)?;
        match answer.id {
            // RFC 4511 section 4.4.1.
            0 => Err(Fault::Closed),
            id if id == self.last => Ok(answer),
            _ => Err(Fault::Malformed("an answer to something else")),
        }
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), Fault> {
        let sent = self.stream.write_all(message).await;
        sent.map_err(Fault::Broken)?;
        self.stream.flush().await.map_err(Fault::Broken)
    }

    /// The content of the next message's sequence.
    async fn receive(&mut self) -> Result<Vec<u8>, Fault> {
        let [tag, first] = self.exactly::<2>().await?;
        let more = ber::length_bytes(first).filter(|_| tag == SEQUENCE);
        let more = more.ok_or(Fault::Malformed("no message"))?;
        let mut bytes = [0; 4];
        let bytes = bytes.get_mut(..more).unwrap_or_default();
        let read = self.stream.read_exact(bytes).await;
        read.map_err(broken)?;
        let length = ber::length(first, bytes);
        if length > MAX_MESSAGE {
            return Err(Fault::TooLarge(MAX_MESSAGE));
        }
        let mut content = Vec::with_capacity(length.min(FIRST));
        let mut rest = (&mut self.stream).take(length as u64);
        let read = rest.read_to_end(&mut content).await.map_err(broken)?;
        if read < length {
            return Err(Fault::Closed);
        }
        Ok(content)
    }

    async fn exactly<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).await.map_err(broken)?;
        Ok(bytes)
    }
}

fn broken(error: std::io::Error) -> Fault {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Fault::Closed,
        _ => Fault::Broken(error),
    }
}
