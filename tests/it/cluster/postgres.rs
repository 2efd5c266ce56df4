//! Nodes on one PostgreSQL, each by a relay of its own and as a role of its own, so that each can be cut off by itself.

use async_trait::async_trait;
use sqlx::query_scalar;
use tempfile::TempDir;

use super::nodes::{COUNT, Shared};
use crate::support::{Database, Fault, Faults, PostgresProcess};

/// What a connection says last that waits for news.
const LISTENERS: &str = "FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND state = 'idle'";

pub struct OnPostgres {
    _server: PostgresProcess,
    database: Database,
    relays: [Faults; COUNT],
    /// For the password.
    folder: TempDir,
}

impl OnPostgres {
    pub async fn start() -> Self {
        let server = PostgresProcess::own(&[]);
        let database = server.database().await;
        for node in 0..COUNT {
            let (name, password) = (name(node), Database::password());
            // What it makes belongs to all of them.
            for statement in [
                format!("CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE doorward"),
                format!("ALTER ROLE {name} SET role = doorward"),
            ] {
                database.execute(&statement).await;
            }
        }
        let relay = || Faults::before(server.port);
        Self {
            relays: [relay().await, relay().await, relay().await],
            _server: server,
            database,
            folder: TempDir::new().unwrap(),
        }
    }

    async fn end_listeners(&self, of: &str) {
        let end = format!("SELECT pg_terminate_backend(pid) {LISTENERS} {of}");
        self.database.execute(&end).await;
    }
}

fn name(node: usize) -> String {
    format!("node{node}")
}

#[async_trait]
impl Shared for OnPostgres {
    fn keys(&self, node: usize) -> String {
        let keys = self.database.keys(self.folder.path());
        let relay = self.relays[node].addr;
        keys.replace(
            &format!("//doorward@127.0.0.1:{}", self.database.port),
            &format!("//{}@{relay}", name(node)),
        )
    }

    async fn cut(&self, node: usize) {
        self.relays[node].set(Fault::Deaf);
        self.end_listeners(&format!("AND usename = '{}'", name(node)))
            .await;
    }

    async fn mend(&self, node: usize) {
        self.relays[node].set(Fault::None);
    }

    async fn interrupt(&self) {
        self.end_listeners("").await;
    }

    async fn is_told(&self, node: usize) -> bool {
        let listens = format!(
            "SELECT EXISTS (SELECT {LISTENERS} AND usename = '{}')",
            name(node)
        );
        let mut admin = self.database.admin().await;
        let listens = query_scalar(sqlx::AssertSqlSafe(listens));
        listens.fetch_one(&mut admin).await.unwrap()
    }
}
