//! Nodes on one Redis, each as a user of its own, so that each can be cut off by itself.

use async_trait::async_trait;

use super::nodes::{COUNT, Shared};
use crate::support::RedisProcess;

pub struct OnRedis {
    server: RedisProcess,
}

impl OnRedis {
    pub async fn start() -> Self {
        let server = RedisProcess::own(&[]).await;
        for node in 0..COUNT {
            let name = name(node);
            let word = format!(">{}", "5e".repeat(32));
            let rights = ["on", &word, "~*", "&*", "+@all"];
            let words = ["ACL", "SETUSER", &name].into_iter().chain(rights);
            let words: Vec<&[u8]> = words.map(str::as_bytes).collect();
            server.tell(&words).await;
        }
        Self { server }
    }

    async fn allow(&self, node: usize, right: &[u8]) {
        let name = name(node);
        let words: [&[u8]; 4] = [b"ACL", b"SETUSER", name.as_bytes(), right];
        self.server.tell(&words).await;
    }
}

fn name(node: usize) -> String {
    format!("node{node}")
}

#[async_trait]
impl Shared for OnRedis {
    fn keys(&self, node: usize) -> String {
        // What every folder has in a file is as good a password as any.
        format!(
            "backend = \"redis\"\nurl = \"redis://{}@127.0.0.1:{}\"\npassword = {{ file = \"session.key\" }}",
            name(node),
            self.server.port
        )
    }

    async fn cut(&self, node: usize) {
        self.allow(node, b"-subscribe").await;
        let name = name(node);
        let words: [&[u8]; 6] = [
            b"CLIENT",
            b"KILL",
            b"TYPE",
            b"pubsub",
            b"USER",
            name.as_bytes(),
        ];
        self.server.tell(&words).await;
    }

    async fn mend(&self, node: usize) {
        self.allow(node, b"+subscribe").await;
    }

    async fn interrupt(&self) {
        self.server.cut("pubsub").await;
    }

    async fn is_told(&self, node: usize) -> bool {
        let words: [&[u8]; 4] = [b"CLIENT", b"LIST", b"TYPE", b"pubsub"];
        let clients: String = self.server.command(&words).await;
        let user = format!(" user={} ", name(node));
        let mut theirs = clients.lines().filter(|line| line.contains(&user));
        theirs.any(|line| line.contains(" sub=3 "))
    }
}
