//! A store on a server, in every kind of trouble, seen from outside (R7): whoever is known goes on, whoever is not keeps
//! the cookie, nobody gets in, readiness says so, and nothing needs a restart. A further backend joins with one line of
//! `outages!`.

use std::time::Duration;

use http::Method;
#[cfg(feature = "postgres")]
use tempfile::TempDir;

#[cfg(feature = "redis")]
use crate::support::RedisProcess;
use crate::support::{
    Answer, Browser, Fault, Faults, Frozen, PASSWORD, Proxy, Reply, Upstream, Wire, eventually,
    proxy, upstream,
};
#[cfg(feature = "postgres")]
use crate::support::{Database, PostgresProcess};

/// How long Doorward waits for the store here.
const PATIENCE: &str = "800ms";
/// Beyond `cache_ttl`, so that the store would have to be asked.
const LATER: Duration = Duration::from_secs(6);
/// Beyond `outage_grace`.
const TOO_LATE: Duration = Duration::from_mins(5);

macro_rules! outages {
    ($($(#[$attribute:meta])* $backend:ident: $server:expr;)+) => {
        $($(#[$attribute])*
        mod $backend {
            use super::*;

            #[tokio::test]
            async fn killed() {
                let mut site = Site::over($server.await).await;
                site.server.kill();
                site.endures().await;
                site.server.run();
                site.recovers().await;
            }

            #[tokio::test]
            async fn frozen() {
                let mut site = Site::over($server.await).await;
                let frozen = site.server.freeze().await;
                site.endures().await;
                drop(frozen);
                site.recovers().await;
            }

            #[tokio::test]
            async fn back_before_anybody_needed_it() {
                let mut site = Site::over($server.await).await;
                let frozen = site.server.freeze().await;
                site.knows().await;
                drop(frozen);
                site.recovers().await;
            }

            #[tokio::test]
            async fn slow() {
                endures(Site::over($server.await).await, Fault::Delay(Duration::from_secs(5))).await;
            }

            #[tokio::test]
            async fn stalled() {
                endures(Site::over($server.await).await, Fault::Stall).await;
            }

            #[tokio::test]
            async fn reset() {
                endures(Site::over($server.await).await, Fault::Reset).await;
            }

            #[tokio::test]
            async fn half_open() {
                endures(Site::over($server.await).await, Fault::HalfOpen).await;
            }

            #[tokio::test]
            async fn garbled() {
                endures(Site::over($server.await).await, Fault::Garbage).await;
            }

            #[tokio::test]
            async fn cut_off() {
                endures(Site::over($server.await).await, Fault::Cut).await;
            }

            #[tokio::test]
            async fn taking_no_changes() {
                let mut site = Site::over($server.await).await;
                site.server.take_no_changes().await;
                site.endures_refusals().await;
                site.server.take_changes().await;
                site.recovers().await;
            }

            #[tokio::test]
            async fn away_for_longer_than_the_grace() {
                let mut site = Site::over($server.await).await;
                let frozen = site.server.freeze().await;
                site.gives_up().await;
                drop(frozen);
                site.recovers().await;
            }
        })+
    };
}

outages! {
    #[cfg(feature = "postgres")]
    postgres: Server::postgres();
    #[cfg(feature = "redis")]
    redis: Server::redis();
}

async fn endures(mut site: Site, fault: Fault) {
    site.faults.set(fault);
    site.endures().await;
    site.faults.set(Fault::None);
    site.recovers().await;
}

/// A server that can be treated badly.
enum Server {
    #[cfg(feature = "postgres")]
    Postgres {
        server: PostgresProcess,
        database: Database,
        /// For the password.
        folder: TempDir,
    },
    #[cfg(feature = "redis")]
    Redis(RedisProcess),
}

impl Server {
    #[cfg(feature = "postgres")]
    async fn postgres() -> Self {
        let server = PostgresProcess::own(&[]);
        Self::Postgres {
            database: server.database().await,
            server,
            folder: TempDir::new().unwrap(),
        }
    }

    /// One that refuses changes once it could not save.
    #[cfg(feature = "redis")]
    async fn redis() -> Self {
        Self::Redis(RedisProcess::own(&["--save", "3600 1"]).await)
    }

    fn port(&self) -> u16 {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres { server, .. } => server.port,
            #[cfg(feature = "redis")]
            Self::Redis(server) => server.port,
        }
    }

    /// The keys of `[store]` for it, at this port.
    fn keys(&self, port: u16) -> String {
        let keys = match self {
            #[cfg(feature = "postgres")]
            Self::Postgres {
                server,
                database,
                folder,
            } => {
                let (own, other) = (format!(":{}/", server.port), format!(":{port}/"));
                database.keys(folder.path()).replace(&own, &other)
            }
            #[cfg(feature = "redis")]
            Self::Redis(_) => format!("backend = \"redis\"\nurl = \"redis://127.0.0.1:{port}\""),
        };
        format!("{keys}\ntimeout = \"{PATIENCE}\"")
    }

    fn kill(&mut self) {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres { server, .. } => server.stop(),
            // It is to come back with what it had.
            #[cfg(feature = "redis")]
            Self::Redis(server) => {
                std::process::Command::new("redis-cli")
                    .args(["-p", &server.port.to_string(), "SAVE"])
                    .output()
                    .unwrap();
                server.stop();
            }
        }
    }

    fn run(&mut self) {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres { server, .. } => server.run(),
            #[cfg(feature = "redis")]
            Self::Redis(server) => server.run(),
        }
    }

    #[cfg_attr(
        not(feature = "redis"),
        expect(clippy::unused_async, reason = "the other is asked who it is")
    )]
    async fn freeze(&self) -> Frozen {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres { server, .. } => server.freeze(),
            #[cfg(feature = "redis")]
            Self::Redis(server) => server.freeze().await,
        }
    }

    /// From now on it reads, and takes no changes.
    async fn take_no_changes(&self) {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres { database, .. } => read_only(database, "on").await,
            #[cfg(feature = "redis")]
            Self::Redis(server) => {
                // Where a folder is, no file can be put; and what cannot be saved is not changed.
                let _gone = std::fs::remove_file(server.folder.join("dump.rdb")).is_ok();
                std::fs::create_dir(server.folder.join("dump.rdb")).unwrap();
                saved(server, "err").await;
            }
        }
    }

    async fn take_changes(&self) {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres { database, .. } => read_only(database, "off").await,
            #[cfg(feature = "redis")]
            Self::Redis(server) => {
                std::fs::remove_dir(server.folder.join("dump.rdb")).unwrap();
                saved(server, "ok").await;
            }
        }
    }
}

#[cfg(feature = "postgres")]
async fn read_only(database: &Database, how: &str) {
    let set = format!("ALTER SYSTEM SET default_transaction_read_only = {how}");
    database.execute(&set).await;
    database.execute("SELECT pg_reload_conf()").await;
}

#[cfg(feature = "redis")]
async fn saved(server: &RedisProcess, how: &str) {
    let wanted = format!("rdb_last_bgsave_status:{how}");
    eventually("the server saved", async || {
        let info: String = server.command(&[b"INFO", b"persistence"]).await;
        let done = info.contains(&wanted);
        if !done && info.contains("rdb_bgsave_in_progress:0") {
            server.tell(&[b"BGSAVE"]).await;
        }
        done
    })
    .await;
}

/// A Doorward whose store is behind [`Faults`], with one session that it knows and one that it does not.
struct Site {
    server: Server,
    faults: Faults,
    proxy: Proxy,
    app: Upstream,
    known: Browser,
    unknown: Browser,
}

impl Site {
    async fn over(server: Server) -> Self {
        let faults = Faults::before(server.port()).await;
        let app = upstream(|_| Reply::ok("hello")).await;
        let start = |port| {
            let keys = server.keys(port);
            let route = "access = \"public\"";
            let site = proxy().app(&app.url()).route("/public", &app.url(), route);
            // Another proxy asks about it.
            let site = site.with("server", "trusted_proxies = [\"127.0.0.1\"]");
            let site = site.route("/asked", "none", "access = \"user\"");
            site.store(keys).start()
        };
        let (proxy, other) = (start(faults.addr.port()), start(server.port()));
        for proxy in [&proxy, &other] {
            eventually("the store is ready", async || {
                let ready = admin(proxy, "/health/ready").await;
                ready.starts_with("HTTP/1.1 200")
            })
            .await;
        }
        let (mut known, mut unknown) = (proxy.browser(), other.browser());
        known.log_in("alice").await;
        assert_eq!(known.fetch("/").await.status, 200);
        unknown.log_in("bob").await;
        unknown.addr = proxy.addr;
        Self {
            server,
            faults,
            proxy,
            app,
            known,
            unknown,
        }
    }

    /// The store is in trouble all the while, and nobody waits for its end.
    async fn endures(&mut self) {
        self.knows().await;
        let cookie = self.unknown.token().to_owned();
        for path in ["/", "/.doorward/session", "/.doorward/logout"] {
            refused(&self.unknown.fetch(path).await, path);
        }
        refused(&asked(&self.unknown).await, "another proxy asks");
        assert_eq!(self.unknown.token(), cookie);
        self.log_in_is_refused().await;
        // Nobody in particular may see what is public.
        let public = self.unknown.fetch("/public").await;
        assert_eq!(public.status, 200);
        assert!(self.app.last().folded("remote-user").is_empty());
        self.says("503", "reading\"} 0").await;
        self.knows().await;
    }

    /// The store reads and does not write.
    async fn endures_refusals(&mut self) {
        self.knows().await;
        self.log_in_is_refused().await;
        self.says("503", "writing\"} 0").await;
        assert_eq!(self.unknown.fetch("/").await.status, 200);
        self.knows().await;
    }

    /// Whoever is known goes on, fresh and when the store would have to be asked.
    async fn knows(&mut self) {
        for _ in 0..3 {
            let answer = self.known.fetch("/").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(self.app.last().one("remote-user"), "alice");
            let told = asked(&self.known).await;
            assert_eq!(told.status, 200, "{}", told.text());
            assert_eq!(told.header("remote-user"), "alice");
            self.proxy.clock.advance(LATER);
        }
    }

    async fn gives_up(&mut self) {
        self.knows().await;
        self.proxy.clock.advance(TOO_LATE);
        let cookie = self.known.token().to_owned();
        refused(&self.known.fetch("/").await, "after the grace");
        assert_eq!(self.known.token(), cookie);
    }

    async fn log_in_is_refused(&self) {
        let mut browser = self.proxy.browser();
        let answer = browser.log_in_at("/", "alice", PASSWORD).await;
        refused(&answer, "a login");
        assert!(browser.token().is_empty());
    }

    /// By itself, with every session that was there before.
    async fn recovers(&mut self) {
        self.says("200", "reading\"} 1").await;
        self.says("200", "writing\"} 1").await;
        for browser in [&mut self.known, &mut self.unknown] {
            let answer = browser.fetch("/").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        self.proxy.browser().log_in("alice").await;
    }

    /// Waits until readiness and the metric say so.
    async fn says(&self, readiness: &str, metric: &str) {
        let status = format!("HTTP/1.1 {readiness}");
        let metric = format!("doorward_store_available{{for=\"{metric}");
        eventually(&metric, async || {
            let ready = admin(&self.proxy, "/health/ready").await;
            let metrics = admin(&self.proxy, "/metrics").await;
            ready.starts_with(&status) && metrics.contains(&metric)
        })
        .await;
    }
}

async fn admin(proxy: &Proxy, path: &str) -> String {
    let stream = tokio::net::TcpStream::connect(proxy.admin).await;
    let mut wire = Wire::new(stream.unwrap());
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    wire.send(&head).await;
    String::from_utf8(wire.rest().await).unwrap()
}

/// What a proxy is told that asks for its client.
async fn asked(browser: &Browser) -> Answer {
    let waiting = [
        ("x-forwarded-method", "GET"),
        ("x-forwarded-host", "localhost"),
        ("x-forwarded-uri", "/asked"),
    ];
    let place = "/.doorward/auth/traefik";
    let mut browser = browser.clone();
    browser.request(Method::GET, place, &waiting, "").await
}

fn refused(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 503, "{what}: {}", answer.text());
    assert_eq!(answer.header("retry-after"), "5", "{what}");
    let set: Vec<_> = answer.set_cookies();
    let ours = set.iter().find(|cookie| cookie.starts_with("__Host-sid="));
    assert_eq!(ours, None, "{what}: it keeps its cookie");
}
