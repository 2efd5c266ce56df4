//! What is special to the store in PostgreSQL, against a real server: news between nodes, outages, damage, who is
//! let in, and what can be read in the database. The contract that it shares with the others is in `store_contract`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use doorward::clock::Timestamp;
use doorward::secret::{Secret, random};
use doorward::session::store::{
    Invalidation, Postgres, PostgresServer, PostgresSettings, PostgresTls, SessionStore,
    StoreError, Update,
};
use doorward::session::{Epoch, SessionRow, Sid, SubjectTag, TokenHash, TokenRow};
use http::StatusCode;
use sqlx::{Row, query, query_scalar};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::Receiver;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{
    Database, Fault, Faults, PASSWORD, PostgresProcess, Reply, database, eventually, proxy, soon,
    upstream,
};

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

async fn created(store: &Postgres) -> (SessionRow, TokenRow) {
    let session = SessionRow {
        sid: Sid::generate(START),
        subject: Some(SubjectTag([7; 32])),
        epoch: Epoch::default(),
        created: START,
        last_seen: START,
        idle_millis: 60_000,
        expires: START.after(3600 * SECOND),
        version: 0,
        listing: random::<80>().to_vec(),
        private: random::<200>().to_vec(),
    };
    let token = TokenRow {
        hash: TokenHash::from_bytes(random()),
        sid: session.sid,
        issued: START,
        session_key: random::<60>().to_vec(),
        predecessor: None,
        successor: None,
    };
    store.create(session.clone(), token.clone()).await.unwrap();
    (session, token)
}

/// A store that listens already.
async fn listening(settings: &PostgresSettings) -> (Postgres, Receiver<Invalidation>) {
    let store = Postgres::open(settings);
    let news = store.invalidations().unwrap();
    store.probe().await.unwrap();
    (store, news)
}

async fn next(news: &mut Receiver<Invalidation>) -> Invalidation {
    soon("news", news.recv()).await.unwrap()
}

fn text(error: &StoreError) -> String {
    assert!(!format!("{error:?} {error}").contains(Database::password()));
    error.to_string()
}

#[tokio::test]
async fn an_end_on_one_node_is_told_to_the_other() {
    let database = database().await;
    let (one, _news) = listening(&database.settings()).await;
    let (_other, mut news) = listening(&database.settings()).await;
    let (session, _) = created(&one).await;
    assert_eq!(one.remove(session.sid).await, Ok(true));
    assert_eq!(next(&mut news).await, Invalidation::Ended(session.sid));

    let (swept, _) = created(&one).await;
    assert_eq!(one.sweep(START.after(60 * SECOND), 10).await, Ok(1));
    assert_eq!(next(&mut news).await, Invalidation::Ended(swept.sid));

    let (all, token) = created(&one).await;
    let (tag, until) = (all.subject.unwrap(), START.after(3600 * SECOND));
    let epoch = one.begin_epoch(tag, START, until).await.unwrap();
    assert_eq!(next(&mut news).await, Invalidation::EndedBefore(tag, epoch));
    assert_eq!(one.load(token.hash).await, Ok(None));

    database.execute("TRUNCATE doorward.sessions CASCADE").await;
    assert_eq!(next(&mut news).await, Invalidation::Interrupted);
}

#[tokio::test]
async fn an_end_is_told_if_and_only_if_it_is_committed_whoever_makes_it() {
    let database = database().await;
    let (store, mut news) = listening(&database.settings()).await;
    let ((kept, _), (ended, token)) = (created(&store).await, created(&store).await);
    database
        .execute(&format!(
            "BEGIN; DELETE FROM doorward.sessions WHERE sid = '{}'; ROLLBACK",
            kept.sid
        ))
        .await;
    database
        .execute(&format!(
            "DELETE FROM doorward.sessions WHERE sid = '{}'",
            ended.sid
        ))
        .await;
    assert_eq!(next(&mut news).await, Invalidation::Ended(ended.sid));
    assert_eq!(store.load(token.hash).await, Ok(None));
    assert_eq!(store.remove(kept.sid).await, Ok(true));
}

#[tokio::test]
async fn a_push_channel_that_is_cut_is_told_of_twice_and_comes_back() {
    let database = database().await;
    let (store, mut news) = listening(&database.settings()).await;
    for _ in 0..2 {
        let mut admin = database.admin().await;
        let cut: i64 = query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND query LIKE 'LISTEN%'",
        )
        .fetch_one(&mut admin)
        .await
        .unwrap();
        assert_eq!(cut, 1);
        assert_eq!(next(&mut news).await, Invalidation::Silent);
        assert_eq!(next(&mut news).await, Invalidation::Interrupted);
        let (session, _) = created(&store).await;
        assert_eq!(store.remove(session.sid).await, Ok(true));
        assert_eq!(next(&mut news).await, Invalidation::Ended(session.sid));
    }
}

#[tokio::test]
async fn a_store_that_has_no_news_for_a_node_answers_it_all_the_same() {
    let database = database().await;
    let relay = Faults::before(database.port).await;
    let mut settings = database.settings();
    settings.server = PostgresServer::Tcp {
        host: relay.addr.ip().to_string(),
        port: relay.addr.port(),
    };
    let (store, mut news) = listening(&settings).await;
    let (_, token) = created(&store).await;
    relay.set(Fault::Deaf);
    let listeners = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE query LIKE 'LISTEN%' AND datname = current_database()";
    database.execute(listeners).await;
    assert_eq!(next(&mut news).await, Invalidation::Silent);
    // It tries to hear again several times meanwhile.
    let end = Instant::now() + SECOND / 2;
    while Instant::now() < end {
        assert!(matches!(store.load(token.hash).await, Ok(Some(_))));
    }
    relay.set(Fault::None);
    assert_eq!(next(&mut news).await, Invalidation::Interrupted);
}

#[tokio::test]
async fn a_server_that_dies_costs_errors_at_once_and_nothing_once_it_is_back() {
    let mut server = PostgresProcess::own(&[]);
    let database = server.database().await;
    let (store, mut news) = listening(&database.settings()).await;
    let (session, token) = created(&store).await;
    server.stop();
    assert_eq!(next(&mut news).await, Invalidation::Silent);
    eventually("the outage is noticed", async || {
        store.load(token.hash).await.is_err() && store.probe().await.is_err()
    })
    .await;
    let begun = Instant::now();
    for _ in 0..20 {
        let error = store.load(token.hash).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }
    assert!(begun.elapsed() < 10 * SECOND, "nobody waits for nobody");

    server.run();
    eventually("the server is back", async || store.probe().await.is_ok()).await;
    assert_eq!(next(&mut news).await, Invalidation::Interrupted);
    let stored = store.load(token.hash).await.unwrap().unwrap();
    assert_eq!(stored.session, session);
    assert_eq!(store.update(session.clone()).await, Ok(Update::Done(1)));
    assert_eq!(store.remove(session.sid).await, Ok(true));
    assert_eq!(next(&mut news).await, Invalidation::Ended(session.sid));
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_made_ready_when_it_comes() {
    let mut server = PostgresProcess::own(&[]);
    let database = server.database().await;
    server.stop();
    let folder = TempDir::new().unwrap();
    let app = upstream(|_| Reply::ok("hello")).await;
    let proxy = proxy()
        .app(&app.url())
        .store(database.keys(folder.path()))
        .start();
    let mut browser = proxy.browser();
    let ready = async || is_ready(proxy.admin).await;
    eventually("it is not ready", async || !ready().await).await;
    let refused = browser.log_in_at("/", "alice", PASSWORD).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);

    server.run();
    eventually("it is ready", ready).await;
    browser.log_in("alice").await;
    assert_eq!(browser.open("/").await.status, StatusCode::OK);
}

async fn is_ready(admin: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    stream
        .write_all(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.starts_with("HTTP/1.1 200")
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_costs_a_bounded_wait() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = Postgres::open(&PostgresSettings {
        server: PostgresServer::Tcp {
            host: "127.0.0.1".to_owned(),
            port: silent.local_addr().unwrap().port(),
        },
        timeout: Duration::from_millis(200),
        ..database().await.settings()
    });
    let begun = Instant::now();
    let error = store.load(TokenHash::from_bytes([1; 32])).await;
    assert_eq!(error, Err(StoreError::Timeout));
    assert!(begun.elapsed() < 10 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_table_that_somebody_has_locked_costs_a_bounded_wait() {
    let database = database().await;
    let store = Postgres::open(&PostgresSettings {
        timeout: Duration::from_millis(300),
        ..database.settings()
    });
    eventually("it is ready", async || store.probe().await.is_ok()).await;
    let (session, token) = created(&store).await;
    let mut admin = database.admin().await;
    let mut locking = sqlx::Connection::begin(&mut admin).await.unwrap();
    query("LOCK TABLE doorward.sessions")
        .execute(&mut *locking)
        .await
        .unwrap();
    let begun = Instant::now();
    assert_eq!(store.load(token.hash).await, Err(StoreError::Timeout));
    assert_eq!(store.remove(session.sid).await, Err(StoreError::Timeout));
    assert!(begun.elapsed() < 10 * SECOND, "{:?}", begun.elapsed());
    locking.rollback().await.unwrap();
    eventually("it goes on", async || {
        store.remove(session.sid).await == Ok(true)
    })
    .await;
}

#[tokio::test]
async fn nodes_that_start_at_once_make_the_tables_once() {
    let database = database().await;
    let mut starting = JoinSet::new();
    for _ in 0..6 {
        let settings = PostgresSettings {
            max_connections: 2,
            ..database.settings()
        };
        starting.spawn(async move {
            let store = Postgres::open(&settings);
            created(&store).await;
        });
    }
    starting.join_all().await;
    let mut admin = database.admin().await;
    let applied: i64 = query_scalar("SELECT count(*) FROM doorward.migrations WHERE success")
        .fetch_one(&mut admin)
        .await
        .unwrap();
    assert_eq!(applied, 2);
    let (store, _news) = listening(&database.settings()).await;
    assert_eq!(store.list(None, 100).await.unwrap().len(), 6);
}

#[tokio::test]
async fn a_database_of_a_newer_doorward_is_left_alone() {
    let database = database().await;
    drop(listening(&database.settings()).await);
    database
        .execute(
            "INSERT INTO doorward.migrations (version, description, success, checksum, execution_time) \
             VALUES (999, 'later', true, '', 0)",
        )
        .await;
    let store = Postgres::open(&database.settings());
    let error = text(&store.probe().await.unwrap_err());
    assert!(error.contains("a newer doorward"), "{error}");
}

#[tokio::test]
async fn a_damaged_row_is_an_error_hides_no_other_and_can_be_removed() {
    let database = database().await;
    let (store, _news) = listening(&database.settings()).await;
    let ((bad, bad_token), (good, good_token)) = (created(&store).await, created(&store).await);
    let (swept, swept_token) = created(&store).await;
    database
        .execute(&format!(
            "ALTER TABLE doorward.sessions DROP CONSTRAINT sessions_subject_check; \
             UPDATE doorward.sessions SET subject = 'abc' WHERE sid = '{}'; \
             UPDATE doorward.sessions SET version = -5 WHERE sid = '{}'",
            bad.sid, swept.sid
        ))
        .await;
    for hash in [bad_token.hash, swept_token.hash] {
        let error = store.load(hash).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
    }
    assert_eq!(store.list(None, 10).await, Ok(vec![good.clone()]));
    assert_eq!(
        store.load(good_token.hash).await.unwrap().unwrap().session,
        good
    );
    assert_eq!(store.remove(bad.sid).await, Ok(true));
    assert_eq!(store.load(bad_token.hash).await, Ok(None));
    assert_eq!(store.sweep(START.after(60 * SECOND), 10).await, Ok(2));
    assert_eq!(store.load(swept_token.hash).await, Ok(None));
}

/// Sealed content that was changed is somebody who has to log in again, and no error.
#[tokio::test]
async fn a_session_whose_seal_is_broken_logs_in_again() {
    let database = database().await;
    let folder = TempDir::new().unwrap();
    let app = upstream(|_| Reply::ok("hello")).await;
    let proxy = proxy()
        .app(&app.url())
        .store(unhurried(&database, folder.path()))
        .start();
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    for column in ["private = '\\x00'", "private = ''"] {
        database
            .execute(&format!("UPDATE doorward.sessions SET {column}"))
            .await;
    }
    let (folder_of, clock) = proxy.stop().await;
    let proxy = proxy_after(&database, folder.path(), &app.url(), (folder_of, clock));
    browser.addr = proxy.addr;
    let answer = browser.open("/").await;
    assert!(answer.status.is_redirection(), "{}", answer.status);
}

/// As on a machine that has a lot to do.
fn unhurried(database: &Database, folder: &Path) -> String {
    format!("{}\ntimeout = \"15s\"", database.keys(folder))
}

fn proxy_after(
    database: &Database,
    folder: &Path,
    app: &str,
    (left, clock): (Arc<TempDir>, doorward::clock::Clock),
) -> crate::support::Proxy {
    proxy()
        .app(app)
        .store(unhurried(database, folder))
        .after(left, clock)
        .start()
}

#[tokio::test]
async fn whoever_is_not_let_in_is_told_why_without_the_password() {
    let database = database().await;
    let good = database.settings();
    let wrong = Secret::new("almost that password");
    for (settings, reason) in [
        (
            PostgresSettings {
                password: Some(wrong),
                ..good.clone()
            },
            "password authentication failed for user \"doorward\"",
        ),
        (
            PostgresSettings {
                database: "nowhere".to_owned(),
                ..good.clone()
            },
            "database \"nowhere\" does not exist",
        ),
        (
            // Somebody else's database.
            PostgresSettings {
                database: "postgres".to_owned(),
                ..good.clone()
            },
            "its tables cannot be made",
        ),
    ] {
        assert!(!format!("{settings:?}").contains("password\""));
        let store = Postgres::open(&settings);
        let error = text(&store.probe().await.unwrap_err());
        assert!(error.contains(reason), "{error}");
        assert!(!error.contains("almost"), "{error}");
        assert!(!format!("{store:?}").contains("almost"));
    }
    assert!(!format!("{good:?}").contains(Database::password()));
}

#[tokio::test]
async fn a_server_proves_who_it_is_by_a_private_authority() {
    let database = database().await;
    let at = |host: &str, authorities| PostgresSettings {
        server: PostgresServer::Tcp {
            host: host.to_owned(),
            port: database.port,
        },
        tls: Some(PostgresTls { authorities }),
        timeout: 5 * SECOND,
        ..database.settings()
    };
    let private = Some(std::fs::read(database.authority()).unwrap());
    let (store, _news) = listening(&at("localhost", private.clone())).await;
    let (_, token) = created(&store).await;
    assert!(store.load(token.hash).await.unwrap().is_some());
    let mut admin = database.admin().await;
    let rows = query(
        "SELECT ssl.ssl, ssl.version FROM pg_stat_ssl ssl JOIN pg_stat_activity USING (pid) \
         WHERE datname = current_database() AND application_name = 'doorward'",
    )
    .fetch_all(&mut admin)
    .await
    .unwrap();
    assert!(rows.len() >= 2);
    for row in rows {
        assert!(row.get::<bool, _>(0));
        assert_eq!(row.get::<String, _>(1), "TLSv1.3");
    }

    for settings in [
        at("localhost", None),
        // Not the name in its certificate.
        at("127.0.0.1", private),
    ] {
        let error = text(&Postgres::open(&settings).probe().await.unwrap_err());
        assert!(error.contains("invalid peer certificate"), "{error}");
    }
}

#[tokio::test]
async fn two_nodes_share_sessions_and_a_logout_at_one_ends_them_at_the_other() {
    let database = database().await;
    let (app, folder) = (
        upstream(|_| Reply::ok("hello")).await,
        TempDir::new().unwrap(),
    );
    let nodes: Vec<_> = (0..2)
        .map(|_| {
            proxy()
                .app(&app.url())
                .store(unhurried(&database, folder.path()))
                .start()
        })
        .collect();
    let mut browser = nodes[0].browser();
    browser.log_in("alice").await;
    let mut elsewhere = browser.clone();
    elsewhere.addr = nodes[1].addr;
    // Now in the cache of the second node, whose clock stands still: only news takes it out.
    assert_eq!(elsewhere.open("/").await.status, StatusCode::OK);
    browser.log_out().await;
    eventually("the end is known elsewhere", async || {
        elsewhere.clone().open("/").await.status != StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn nothing_that_says_who_is_logged_in_can_be_read_in_the_database() {
    let server = PostgresProcess::own(&[]);
    let database = server.database().await;
    let (app, folder) = (
        upstream(|_| Reply::ok("hello")).await,
        TempDir::new().unwrap(),
    );
    let proxy = proxy()
        .app(&app.url())
        .store(database.keys(folder.path()))
        .start();
    let mut browser = proxy.browser();
    let agent = "Unusual/47.11 (the tests)";
    browser
        .fields
        .push(("user-agent".to_owned(), agent.to_owned()));
    browser.log_in("alice").await;
    assert_eq!(browser.open("/").await.status, StatusCode::OK);
    let mut admin = database.admin().await;
    let sid: sqlx::types::Uuid = query_scalar("SELECT sid FROM doorward.sessions")
        .fetch_one(&mut admin)
        .await
        .unwrap();
    database.execute("CHECKPOINT").await;
    let mut bytes = Vec::new();
    for part in ["data/base", "data/pg_wal"] {
        read_all(&database.folder.join(part), &mut bytes);
    }
    assert!(
        holds(&bytes, sid.as_bytes()),
        "this looks at the wrong files"
    );
    let token = browser.token().to_owned();
    for secret in [
        "alice",
        "Ünder",
        "alice@example.org",
        "127.0.0.1",
        agent,
        &token,
    ] {
        assert!(!holds(&bytes, secret.as_bytes()), "{secret} is there");
    }
}

fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn read_all(folder: &Path, bytes: &mut Vec<u8>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, bytes);
        } else {
            bytes.extend(std::fs::read(&path).unwrap());
        }
    }
}
