//! Nodes on one PostgreSQL, each as a role of its own, so that each can be cut off by itself.

use async_trait::async_trait;
use sqlx::query_scalar;
use tempfile::TempDir;

use super::nodes::{COUNT, Shared};
use crate::support::{Database, PostgresProcess};

/// What a connection says last that waits for news.
const LISTENERS: &str = "FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";

pub struct OnPostgres {
    _server: PostgresProcess,
    database: Database,
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
        Self {
            _server: server,
            database,
            folder: TempDir::new().unwrap(),
        }
    }

    async fn end_listeners(&self, of: &str) {
        let end = format!("SELECT pg_terminate_backend(pid) {LISTENERS} {of}");
        self.database.execute(&end).await;
    }

    async fn limit_connections(&self, node: usize, limit: &str) {
        let set = format!("ALTER ROLE {} CONNECTION LIMIT {limit}", name(node));
        self.database.execute(&set).await;
    }
}

fn name(node: usize) -> String {
    format!("node{node}")
}

#[async_trait]
impl Shared for OnPostgres {
    fn keys(&self, node: usize) -> String {
        let keys = self.database.keys(self.folder.path());
        keys.replace("//doorward@", &format!("//{}@", name(node)))
    }

    async fn cut(&self, node: usize) {
        // What is connected stays.
        self.limit_connections(node, "1").await;
        self.end_listeners(&format!("AND usename = '{}'", name(node)))
            .await;
    }

    async fn mend(&self, node: usize) {
        self.limit_connections(node, "-1").await;
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
