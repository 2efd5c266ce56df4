//! Three Doorwards, each a process of its own, on one store; and what can be done to them.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::history::{Deaf, History};
use crate::support::{Process, ProxyBuilder, add_user, eventually, proxy, soon};

pub const COUNT: usize = 3;
pub const USERS: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];

/// A store on a busy machine is slow, and that is not what is judged here: nothing is to be refused for it.
pub const UNHURRIED: &str = "timeout = \"15s\"";

const RUN: &[&str] = &["run", "--config", "doorward.toml"];

/// A store that nodes share, and the way in which it tells them of ends.
#[async_trait]
pub trait Shared: Send + Sync + 'static {
    /// The keys of a node's section `[store]`.
    fn keys(&self, node: usize) -> String;

    /// From now on a node is told nothing.
    async fn cut(&self, node: usize);

    /// A node may be told again, once it asks.
    async fn mend(&self, node: usize);

    /// Cuts all of them, and lets them come back at once.
    async fn interrupt(&self);

    /// Whether a node is told.
    async fn is_told(&self, node: usize) -> bool;
}

pub struct Nodes<S> {
    pub shared: S,
    all: Vec<Node>,
    pub history: Arc<Mutex<History>>,
}

struct Node {
    folder: Arc<TempDir>,
    process: Mutex<Option<Process>>,
    addr: Mutex<Option<SocketAddr>>,
}

impl<S: Shared> Nodes<S> {
    /// Starts them with keys for the section `[session]`. All hear each other.
    pub async fn start(shared: S, app: &str, session: &str) -> Self {
        let builder = |node| {
            let keys = format!("{}\n{UNHURRIED}", shared.keys(node));
            proxy().app(app).with("session", session).store(keys)
        };
        let nodes: Vec<Node> = (0..COUNT).map(|node| Node::new(&builder(node))).collect();
        let first = nodes[0].folder.path().join("users.toml");
        for user in USERS.iter().skip(2) {
            add_user(&first, user, &[]);
        }
        for node in nodes.iter().skip(1) {
            std::fs::copy(&first, node.folder.path().join("users.toml")).unwrap();
        }
        let nodes = Self {
            shared,
            all: nodes,
            history: Arc::default(),
        };
        for node in 0..COUNT {
            nodes.run(node).await;
        }
        nodes
    }

    /// `None` while it is dead.
    pub fn addr(&self, node: usize) -> Option<SocketAddr> {
        *self.all[node].addr.lock()
    }

    /// As `kill -9` does; then it starts again.
    pub async fn kill(&self, node: usize) {
        *self.all[node].addr.lock() = None;
        let process = self.all[node].process.lock().take();
        process.unwrap().kill();
        self.run(node).await;
    }

    /// Keeps news from a node for as long as `meanwhile` takes.
    pub async fn deafen(&self, node: usize, meanwhile: impl Future<Output = ()>) {
        let deaf = self.deaf_from_now(&[node]);
        self.shared.cut(node).await;
        meanwhile.await;
        self.shared.mend(node).await;
        self.hears(deaf).await;
    }

    /// Keeps news from all nodes for a moment.
    pub async fn interrupt(&self) {
        let deaf = self.deaf_from_now(&[0, 1, 2]);
        self.shared.interrupt().await;
        self.hears(deaf).await;
    }

    /// The status of a call of a node's admin API; `None` where it has no answer.
    pub async fn delete(&self, node: usize, target: &str) -> Option<u16> {
        let socket = self.all[node].folder.path().join("doorward.sock");
        let request = format!(
            "DELETE /api/v1{target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        );
        let mut stream = UnixStream::connect(socket).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        let reading = stream.read_to_string(&mut answer);
        soon("an answer of the API", reading).await.ok()?;
        answer.get(9..12)?.parse().ok()
    }

    pub fn words(&self) -> String {
        let said = |node: &Node| node.process.lock().as_ref().map(Process::words);
        self.all
            .iter()
            .filter_map(said)
            .collect::<Vec<_>>()
            .join("\n")
    }

    async fn run(&self, node: usize) {
        // Until it is told of ends, it may miss some.
        let deaf = self.deaf_from_now(&[node]);
        let mut process = Process::start(self.all[node].folder.path(), RUN);
        let addr = process.addr().await;
        *self.all[node].process.lock() = Some(process);
        *self.all[node].addr.lock() = Some(addr);
        self.hears(deaf).await;
    }

    fn deaf_from_now(&self, nodes: &[usize]) -> Vec<usize> {
        let mut history = self.history.lock();
        let first = history.deaf.len();
        history.deaf.extend(nodes.iter().map(|node| Deaf {
            node: *node,
            from: Instant::now(),
            to: None,
        }));
        (first..history.deaf.len()).collect()
    }

    async fn hears(&self, deaf: Vec<usize>) {
        for place in deaf {
            let node = self.history.lock().deaf[place].node;
            eventually("news", async || self.shared.is_told(node).await).await;
            self.history.lock().deaf[place].to = Some(Instant::now());
        }
    }
}

impl Node {
    fn new(builder: &ProxyBuilder) -> Self {
        Self {
            folder: builder.prepare(),
            process: Mutex::new(None),
            addr: Mutex::new(None),
        }
    }
}
