//! What is special to the store in Redis: several nodes, a server that goes away, strangers in its data, who may ask it.

use std::sync::Arc;
use std::time::Duration;

use doorward::clock::{Clock, Timestamp};
use doorward::secret::{Secret, random};
use doorward::session::store::{
    Invalidation, Redis, RedisServers, RedisSettings, RedisTls, Rotation, SessionStore, StoreError,
    Update,
};
use doorward::session::{Epoch, SessionRow, Sid, SubjectTag, Successor, TokenHash, TokenRow};
use tokio::sync::broadcast::Receiver;
use tokio::time::{Instant, timeout};

use crate::support::{
    Faults, PASSWORD, RedisProcess, Reply, Upstream, proxy, redis, redis_certificates,
    redis_cluster, redis_settings, sentinel, upstream,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
const WORD: &str = "open sesame 4711";

fn now() -> Timestamp {
    Clock::system().now()
}

fn session() -> (SessionRow, TokenRow) {
    let (sid, now) = (Sid::generate(now()), now());
    let session = SessionRow {
        sid,
        subject: Some(SubjectTag([7; 32])),
        epoch: Epoch::default(),
        created: now,
        last_seen: now,
        idle_millis: 30 * 60 * 1000,
        expires: now.after(Duration::from_hours(12)),
        version: 1,
        listing: b"listing".to_vec(),
        private: b"private".to_vec(),
    };
    (session, token(sid, None))
}

fn token(sid: Sid, predecessor: Option<TokenHash>) -> TokenRow {
    TokenRow {
        hash: TokenHash::from_bytes(random()),
        sid,
        issued: now(),
        session_key: vec![1; 44],
        predecessor,
        successor: None,
    }
}

async fn created(store: &Redis) -> (SessionRow, TokenRow) {
    let (session, token) = session();
    store.create(session.clone(), token.clone()).await.unwrap();
    (session, token)
}

fn hex(hash: TokenHash) -> String {
    hash.as_bytes().iter().map(|b| format!("{b:02x}")).collect()
}

/// Impatient, so that tests of failures are quick.
fn hasty(settings: RedisSettings) -> RedisSettings {
    RedisSettings {
        timeout: Duration::from_millis(800),
        ..settings
    }
}

async fn news(from: &mut Receiver<Invalidation>) -> Invalidation {
    timeout(PATIENCE, from.recv()).await.unwrap().unwrap()
}

/// Waits until `store` hears what `other` ends.
async fn hears(from: &mut Receiver<Invalidation>, other: &Redis) {
    let end = Instant::now() + PATIENCE;
    loop {
        let (session, _) = created(other).await;
        other.remove(session.sid).await.unwrap();
        let heard = timeout(Duration::from_millis(50), from.recv()).await;
        if let Ok(Ok(Invalidation::Ended(_))) = heard {
            break;
        }
        assert!(Instant::now() < end);
    }
    // Nothing of that is left for who asks next.
    while timeout(Duration::from_millis(100), from.recv())
        .await
        .is_ok()
    {}
}

async fn eventually<T, E: std::fmt::Debug>(mut work: impl AsyncFnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match work().await {
            Ok(done) => return done,
            Err(error) => assert!(Instant::now() < end, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn an_end_is_heard(settings: RedisSettings) {
    let (here, there) = (Redis::open(&settings), Redis::open(&settings));
    let mut own = here.invalidations().unwrap();
    let mut heard = there.invalidations().unwrap();
    hears(&mut heard, &here).await;
    let (session, token) = created(&here).await;
    assert!(there.load(token.hash).await.unwrap().is_some());
    assert_eq!(here.remove(session.sid).await, Ok(true));
    assert_eq!(news(&mut heard).await, Invalidation::Ended(session.sid));
    assert_eq!(there.load(token.hash).await, Ok(None));
    assert!(own.try_recv().is_err(), "nobody hears of his own ends");
}

#[tokio::test]
async fn an_end_on_one_node_is_heard_on_the_other_at_once() {
    an_end_is_heard(redis().await).await;
}

#[tokio::test]
async fn an_end_is_heard_in_a_cluster_too() {
    an_end_is_heard(redis_cluster().await).await;
}

async fn an_epoch_is_heard(settings: RedisSettings) {
    let (here, there) = (Redis::open(&settings), Redis::open(&settings));
    let mut own = here.invalidations().unwrap();
    let mut heard = there.invalidations().unwrap();
    hears(&mut heard, &here).await;
    let (session, token) = created(&here).await;
    let (tag, until) = (
        session.subject.unwrap(),
        now().after(Duration::from_hours(12)),
    );
    let epoch = here.begin_epoch(tag, now(), until).await.unwrap();
    let told = Invalidation::EndedBefore(tag, epoch);
    assert_eq!(news(&mut heard).await, told);
    assert_eq!(there.load(token.hash).await, Ok(None));
    assert_eq!(there.epoch(tag).await, Ok(epoch));
    assert!(own.try_recv().is_err(), "nobody hears of his own");
}

#[tokio::test]
async fn an_end_of_all_sessions_of_a_user_is_heard_on_the_other_node_at_once() {
    an_epoch_is_heard(redis().await).await;
}

#[tokio::test]
async fn an_end_of_all_sessions_of_a_user_is_heard_in_a_cluster_too() {
    an_epoch_is_heard(redis_cluster().await).await;
}

#[tokio::test]
async fn nodes_with_another_prefix_do_not_meet() {
    let (one, other) = (redis().await, redis().await);
    let (one, other) = (Redis::open(&one), Redis::open(&other));
    let (session, token) = created(&one).await;
    assert_eq!(other.load(token.hash).await, Ok(None));
    assert_eq!(other.remove(session.sid).await, Ok(false));
    assert!(other.list(None, 10).await.unwrap().is_empty());
    assert!(one.load(token.hash).await.unwrap().is_some());
}

#[tokio::test]
async fn a_subscription_that_is_cut_is_told_of_twice_and_mended() {
    let server = RedisProcess::own(&[]).await;
    let settings = server.settings();
    let (here, there) = (Redis::open(&settings), Redis::open(&settings));
    let mut heard = there.invalidations().unwrap();
    hears(&mut heard, &here).await;
    assert!(server.cut("pubsub").await >= 2);
    assert_eq!(news(&mut heard).await, Invalidation::Silent, "lost");
    assert_eq!(news(&mut heard).await, Invalidation::Interrupted, "back");
    let (session, _) = created(&here).await;
    here.remove(session.sid).await.unwrap();
    assert_eq!(news(&mut heard).await, Invalidation::Ended(session.sid));
}

#[tokio::test]
async fn a_message_that_nobody_understands_is_an_interruption() {
    let server = RedisProcess::own(&[]).await;
    let settings = server.settings();
    let (here, there) = (Redis::open(&settings), Redis::open(&settings));
    let mut heard = there.invalidations().unwrap();
    hears(&mut heard, &here).await;
    let channel = format!("{}ended", settings.prefix);
    let told: usize = server
        .command(&[b"PUBLISH", channel.as_bytes(), b"in other words"])
        .await;
    assert_eq!(told, 2);
    assert_eq!(news(&mut heard).await, Invalidation::Interrupted);
}

#[tokio::test]
async fn a_connection_that_is_cut_while_idle_fails_no_request() {
    let server = RedisProcess::own(&[]).await;
    let store = Redis::open(&server.settings());
    let (_, token) = created(&store).await;
    for _ in 0..5 {
        assert!(server.cut("normal").await >= 1);
        assert!(store.load(token.hash).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_load_is_one_round_trip() {
    let server = RedisProcess::own(&[]).await;
    let relay = Faults::before(server.port).await;
    let settings = RedisSettings {
        servers: RedisServers::One {
            host: relay.addr.ip().to_string(),
            port: relay.addr.port(),
        },
        ..server.settings()
    };
    let store = Redis::open(&settings);
    let (_, token) = created(&store).await;
    // The first one has the script sent.
    assert!(store.load(token.hash).await.unwrap().is_some());
    let before = relay.questions();
    for _ in 0..100 {
        assert!(store.load(token.hash).await.unwrap().is_some());
    }
    // Beside them the node listens for news, on a connection of its own.
    let asked = relay.questions() - before;
    assert!((100..110).contains(&asked), "{asked}");
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let server = RedisProcess::own(&[]).await;
    let store = Redis::open(&server.settings());
    let (session, token) = created(&store).await;
    server.tell(&[b"SCRIPT", b"FLUSH"]).await;
    store
        .touch(vec![(session.sid, now().after(Duration::from_mins(1)))])
        .await
        .unwrap();
    assert_eq!(store.update(session).await, Ok(Update::Done(2)));
    let stored = store.load(token.hash).await.unwrap().unwrap().session;
    assert!(stored.last_seen > now());
}

#[tokio::test]
async fn a_server_that_dies_is_an_error_and_one_that_returns_is_found() {
    let mut server = RedisProcess::own(&[]).await;
    let settings = hasty(server.settings());
    let store = Redis::open(&settings);
    let mut heard = store.invalidations().unwrap();
    hears(&mut heard, &Redis::open(&settings)).await;
    server.stop();
    assert_eq!(news(&mut heard).await, Invalidation::Silent);
    for _ in 0..20 {
        let began = Instant::now();
        let error = store.probe().await.unwrap_err();
        assert!(!matches!(error, StoreError::Damaged(_)), "{error}");
        assert!(began.elapsed() < Duration::from_secs(10));
    }
    server.run();
    eventually(async || store.probe().await).await;
    let (_, token) = created(&store).await;
    assert!(store.load(token.hash).await.unwrap().is_some());
    assert_eq!(news(&mut heard).await, Invalidation::Interrupted);
}

#[tokio::test]
async fn a_server_that_is_silent_is_a_timeout_and_no_more() {
    let server = RedisProcess::own(&[]).await;
    let store = Redis::open(&hasty(server.settings()));
    let (_, token) = created(&store).await;
    server.tell(&[b"CLIENT", b"PAUSE", b"3000", b"ALL"]).await;
    assert_eq!(store.load(token.hash).await, Err(StoreError::Timeout));
    let stored = eventually(async || store.load(token.hash).await).await;
    assert!(stored.is_some());
}

#[tokio::test]
async fn a_store_that_is_down_at_first_is_found_later() {
    let mut server = RedisProcess::own(&[]).await;
    server.stop();
    let store = Redis::open(&hasty(server.settings()));
    let (session, token) = session();
    let error = store.create(session.clone(), token.clone()).await;
    assert!(
        matches!(error, Err(StoreError::Unavailable(_))),
        "{error:?}"
    );
    server.run();
    eventually(async || store.create(session.clone(), token.clone()).await).await;
    assert!(store.load(token.hash).await.unwrap().is_some());
}

#[tokio::test]
async fn rows_of_somebody_else_are_damage_and_hide_nothing() {
    let server = RedisProcess::own(&[]).await;
    let (settings, key) = keys_of(&server);
    let store = Redis::open(&settings);
    let (torn, torn_token) = created(&store).await;
    let (typed, typed_token) = created(&store).await;
    let (whole, whole_token) = created(&store).await;
    server
        .tell(&[
            b"HSET",
            key(&format!("s:{{{}}}", torn.sid)).as_bytes(),
            b"row",
            b"\x01junk",
        ])
        .await;
    let other = key(&format!("s:{{{}}}", typed.sid));
    server.tell(&[b"SET", other.as_bytes(), b"text"]).await;
    for hash in [torn_token.hash, typed_token.hash] {
        let loaded = store.load(hash).await;
        assert!(matches!(loaded, Err(StoreError::Damaged(_))), "{loaded:?}");
    }
    let listed = store.list(None, 10).await.unwrap();
    assert_eq!(listed, [whole]);
    let late = now().after(Duration::from_hours(24));
    assert_eq!(store.sweep(late, 10).await, Ok(3));
    for hash in [torn_token.hash, typed_token.hash, whole_token.hash] {
        let loaded = store.load(hash).await;
        // The names of tokens whose session told of none expire by themselves.
        assert_eq!(loaded, Ok(None));
    }
    for set in ["all", "due"] {
        let left: usize = server.command(&[b"ZCARD", key(set).as_bytes()]).await;
        assert_eq!(left, 0, "{set}");
    }
    let garbage = key(&format!("t:{}", hex(whole_token.hash)));
    server.tell(&[b"SET", garbage.as_bytes(), b"short"]).await;
    let loaded = store.load(whole_token.hash).await;
    assert!(matches!(loaded, Err(StoreError::Damaged(_))), "{loaded:?}");
}

fn keys_of(server: &RedisProcess) -> (RedisSettings, impl Fn(&str) -> String) {
    let settings = server.settings();
    let prefix = settings.prefix.clone();
    (settings, move |name: &str| format!("{prefix}{name}"))
}

#[tokio::test]
async fn a_row_under_the_name_of_another_session_is_damage() {
    let server = RedisProcess::own(&[]).await;
    let (settings, key) = keys_of(&server);
    let store = Redis::open(&settings);
    let (one, _) = created(&store).await;
    let (other, token) = created(&store).await;
    let (from, to) = (
        key(&format!("s:{{{}}}", one.sid)),
        key(&format!("s:{{{}}}", other.sid)),
    );
    let row: Vec<u8> = server.command(&[b"HGET", from.as_bytes(), b"row"]).await;
    server.tell(&[b"HSET", to.as_bytes(), b"row", &row]).await;
    let loaded = store.load(token.hash).await;
    assert!(matches!(loaded, Err(StoreError::Damaged(_))), "{loaded:?}");
}

#[tokio::test]
async fn entries_that_lead_nowhere_are_cleared_on_the_way() {
    let server = RedisProcess::own(&[]).await;
    let (settings, key) = keys_of(&server);
    let store = Redis::open(&settings);
    // As a node that died in the middle of a removal leaves things.
    let (session, token) = created(&store).await;
    let name = key(&format!("s:{{{}}}", session.sid));
    server.tell(&[b"DEL", name.as_bytes()]).await;
    assert_eq!(store.load(token.hash).await, Ok(None));
    assert_eq!(store.update(session.clone()).await, Ok(Update::Gone));
    let next = self::token(session.sid, Some(token.hash));
    let successor = Successor {
        hash: next.hash,
        sealed: Vec::new(),
        seen: None,
    };
    let rotated = store.rotate(token.hash, next.clone(), successor).await;
    assert_eq!(rotated, Ok(Rotation::Gone));
    store.confirm(token.hash, now()).await.unwrap();
    store.touch(vec![(session.sid, now())]).await.unwrap();
    assert_eq!(store.load(next.hash).await, Ok(None));
    assert!(store.list(None, 10).await.unwrap().is_empty());
    let late = now().after(Duration::from_hours(24));
    assert_eq!(store.sweep(late, 10).await, Ok(0));
    let left = server.keys(&key("*")).await;
    assert_eq!(left, [key(&format!("t:{}", hex(token.hash)))]);
    let ttl: i64 = server.command(&[b"TTL", left[0].as_bytes()]).await;
    assert!(ttl > 0, "and that one expires");
}

#[tokio::test]
async fn every_key_expires_a_day_after_the_absolute_end() {
    let server = RedisProcess::own(&[]).await;
    let (settings, key) = keys_of(&server);
    let store = Redis::open(&settings);
    let (session, old) = created(&store).await;
    let next = token(session.sid, Some(old.hash));
    let successor = Successor {
        hash: next.hash,
        sealed: Vec::new(),
        seen: None,
    };
    store.rotate(old.hash, next, successor).await.unwrap();
    let expires_in = async |span: Duration| {
        let names = server.keys(&key("*")).await;
        assert_eq!(names.len(), 6, "{names:?}");
        for name in names {
            let left: u64 = server.command(&[b"TTL", name.as_bytes()]).await;
            let expected = span.as_secs() + 24 * 3600;
            assert!(left.abs_diff(expected) < 60, "{name}: {left} s");
        }
    };
    expires_in(Duration::from_hours(12)).await;
    // Whoever stays longer takes along all that leads to him.
    let longer = SessionRow {
        expires: now().after(Duration::from_hours(720)),
        ..session
    };
    assert_eq!(store.update(longer).await, Ok(Update::Done(2)));
    expires_in(Duration::from_hours(720)).await;
}

#[tokio::test]
async fn nodes_that_sweep_at_once_count_each_session_once() {
    let settings = redis().await;
    let stores: Vec<_> = (0..4).map(|_| Arc::new(Redis::open(&settings))).collect();
    for _ in 0..40 {
        created(&stores[0]).await;
    }
    let late = now().after(Duration::from_hours(24));
    let sweeps = stores.iter().map(|store| store.sweep(late, 1000));
    let swept = futures_util::future::try_join_all(sweeps).await.unwrap();
    assert_eq!(swept.iter().sum::<usize>(), 40);
    assert!(stores[0].list(None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_wrong_password_is_told_without_it() {
    let server = RedisProcess::own(&["--requirepass", WORD]).await;
    let with = |password: Option<&str>| RedisSettings {
        password: password.map(Secret::new),
        ..server.settings()
    };
    Redis::open(&with(Some(WORD))).probe().await.unwrap();
    for password in [None, Some("abracadabra")] {
        let settings = with(password);
        let error = Redis::open(&settings)
            .probe()
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("store.password"), "{error}");
        assert!(!error.contains(WORD) && !error.contains("abracadabra"));
        assert!(!format!("{settings:?}").contains("abracadabra"));
    }
}

/// What the README says that a user needs.
const RIGHTS: &str = "resetkeys ~doorward:* resetchannels &doorward:* -@all +@connection +del +eval +evalsha +exists +get \
    +hdel +hget +hincrby +hkeys +hmget +hset +hsetnx +pexpireat +pttl +publish +set +setnx +subscribe +time +unlink +zadd \
    +zrangebylex +zrangebyscore +zrem";

#[tokio::test]
async fn a_user_of_its_own_needs_no_more_than_the_readme_says() {
    let readme = include_str!("../../README.md");
    let server = RedisProcess::own(&[]).await;
    let allow = async |name: &str, rights: &[&str]| {
        let word = format!(">{WORD}");
        let mut words = vec!["ACL", "SETUSER", name, "on", &word];
        words.extend(rights);
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        server.tell(&words).await;
    };
    let rights: Vec<&str> = RIGHTS.split_whitespace().collect();
    for right in &rights {
        assert!(readme.contains(right), "the README does not name {right}");
    }
    allow("doorward", &rights).await;
    let settings = |user: &str| RedisSettings {
        user: Some(user.to_owned()),
        password: Some(Secret::new(WORD)),
        prefix: "doorward:".to_owned(),
        ..server.settings()
    };
    let (store, other) = (
        Redis::open(&settings("doorward")),
        Redis::open(&settings("doorward")),
    );
    let mut heard = other.invalidations().unwrap();
    hears(&mut heard, &store).await;
    let (session, old) = created(&store).await;
    let next = token(session.sid, Some(old.hash));
    let successor = Successor {
        hash: next.hash,
        sealed: Vec::new(),
        seen: None,
    };
    store
        .rotate(old.hash, next.clone(), successor)
        .await
        .unwrap();
    store.confirm(next.hash, now()).await.unwrap();
    store.touch(vec![(session.sid, now())]).await.unwrap();
    let longer = SessionRow {
        expires: session.expires.after(Duration::from_hours(1)),
        ..session.clone()
    };
    assert_eq!(store.update(longer).await, Ok(Update::Done(2)));
    assert_eq!(store.list(None, 10).await.unwrap().len(), 1);
    let tag = session.subject.unwrap();
    assert_eq!(store.list_by_subject(tag, None, 10).await.unwrap().len(), 1);
    store.probe().await.unwrap();
    let until = now().after(Duration::from_hours(12));
    let epoch = store.begin_epoch(tag, now(), until).await.unwrap();
    assert_eq!(store.epoch(tag).await, Ok(epoch));
    let late = now().after(Duration::from_hours(24));
    assert_eq!(store.sweep(late, 10).await, Ok(1));

    let fewer: Vec<&str> = rights
        .into_iter()
        .filter(|right| *right != "+unlink")
        .collect();
    allow("other", &fewer).await;
    let error = Redis::open(&settings("other")).probe().await.unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("does not allow") && error.contains("unlink"),
        "{error}"
    );
    assert!(!error.contains(WORD));
}

#[tokio::test]
async fn a_certificate_is_judged_by_the_authority_that_was_named() {
    let folder = tempfile::tempdir().unwrap();
    redis_certificates(folder.path());
    let server = RedisProcess::with_tls(folder.path()).await;
    let with = |host: &str, file: Option<&str>| RedisSettings {
        servers: RedisServers::One {
            host: host.to_owned(),
            port: server.port,
        },
        tls: Some(RedisTls {
            authorities: file.map(|name| std::fs::read(folder.path().join(name)).unwrap()),
        }),
        ..server.settings()
    };
    let store = Redis::open(&with("localhost", Some("ca.pem")));
    let (_, token) = created(&store).await;
    assert!(store.load(token.hash).await.unwrap().is_some());

    let stranger = tempfile::tempdir().unwrap();
    redis_certificates(stranger.path());
    std::fs::copy(
        stranger.path().join("ca.pem"),
        folder.path().join("other.pem"),
    )
    .unwrap();
    for (host, file) in [
        ("localhost", Some("other.pem")),
        ("localhost", None),
        ("127.0.0.2", Some("ca.pem")),
    ] {
        let store = Redis::open(&with(host, file));
        let error = store.probe().await.unwrap_err().to_string();
        assert!(error.contains("no connection"), "{host} {file:?}: {error}");
    }
    let plain = Redis::open(&hasty(server.settings())).probe().await;
    assert!(plain.is_err(), "without TLS nobody answers");
}

#[tokio::test]
async fn the_sentinels_name_the_server_and_its_successor() {
    let first = RedisProcess::own(&[]).await;
    let port = first.port.to_string();
    let second = RedisProcess::own(&["--replicaof", "127.0.0.1", &port]).await;
    eventually(async || {
        let info: String = second.command(&[b"INFO", b"replication"]).await;
        info.contains("master_link_status:up")
            .then_some(())
            .ok_or(info)
    })
    .await;
    let watch = sentinel(&first).await;
    let mut settings = redis_settings(RedisServers::Sentinel {
        // One of them does not answer.
        sentinels: vec![
            ("127.0.0.1".to_owned(), 1),
            ("127.0.0.1".to_owned(), watch.port),
        ],
        name: "doorward".to_owned(),
        password: None,
    });
    settings.timeout = Duration::from_secs(2);
    let (here, there) = (Redis::open(&settings), Redis::open(&settings));
    let (kept, token) = created(&here).await;
    let mut heard = there.invalidations().unwrap();
    hears(&mut heard, &here).await;
    let known = async || {
        let words: [&[u8]; 3] = [b"SENTINEL", b"REPLICAS", b"doorward"];
        let replicas: Vec<redis::Value> = watch.command(&words).await;
        (replicas.len() == 1).then_some(()).ok_or(replicas)
    };
    eventually(known).await;
    drop(first);
    // Writes find the new one once it has been chosen.
    let next = eventually(async || here.update(kept.clone()).await).await;
    assert_eq!(next, Update::Done(2));
    let role: Vec<redis::Value> = second.command(&[b"ROLE"]).await;
    assert_eq!(role[0], redis::Value::BulkString(b"master".to_vec()));
    assert!(there.load(token.hash).await.unwrap().is_some());
    assert_eq!(news(&mut heard).await, Invalidation::Silent);
    hears(&mut heard, &here).await;

    settings.servers = RedisServers::Sentinel {
        sentinels: vec![("127.0.0.1".to_owned(), watch.port)],
        name: "nobody".to_owned(),
        password: None,
    };
    let error = Redis::open(&settings)
        .probe()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("store.sentinel"), "{error}");
}

/// A proxy whose sessions are in `server`.
fn proxied(server: &RedisProcess, app: &Upstream) -> crate::support::Proxy {
    let keys = format!(
        "backend = \"redis\"\nurl = \"redis://127.0.0.1:{}/3\"\nprefix = \"p:\"\ntimeout = \"1s\"",
        server.port
    );
    proxy().app(&app.url()).store(keys).start()
}

#[tokio::test]
async fn a_login_survives_a_restart_and_reads_like_noise() {
    let server = RedisProcess::own(&[]).await;
    let app = upstream(|_| Reply::ok("hello")).await;
    let proxy = proxied(&server, &app);
    let mut browser = proxy.browser();
    let agent = "Mozilla/5.0 (readable)".to_owned();
    browser.fields.push(("user-agent".to_owned(), agent));
    browser.log_in("alice").await;
    let (folder, clock) = proxy.stop().await;
    server.tell(&[b"SAVE"]).await;
    let dump = std::fs::read(server.folder.join("dump.rdb")).unwrap();
    assert!(dump.len() > 500, "{} bytes", dump.len());
    for word in [
        "alice",
        "staff",
        "example.org",
        "127.0.0.1",
        "Mozilla",
        browser.token(),
        PASSWORD,
    ] {
        let found = dump.windows(word.len()).any(|part| part == word.as_bytes());
        assert!(!found, "{word} is readable");
    }
    let keys = format!(
        "backend = \"redis\"\nurl = \"redis://127.0.0.1:{}/3\"\nprefix = \"p:\"",
        server.port
    );
    let again = crate::support::proxy()
        .app(&app.url())
        .store(keys)
        .after(folder, clock)
        .start();
    let mut same = again.browser();
    same.jar = browser.jar.clone();
    assert_eq!(same.open("/").await.status, 200);
}

#[tokio::test]
async fn a_logout_at_one_node_ends_the_session_at_the_other() {
    let server = RedisProcess::own(&[]).await;
    let app = upstream(|_| Reply::ok("hello")).await;
    let (here, there) = (proxied(&server, &app), proxied(&server, &app));
    let mut browser = here.browser();
    browser.log_in("alice").await;
    let mut other = there.browser();
    other.jar = browser.jar.clone();
    assert_eq!(other.open("/").await.status, 200);
    // Both nodes' clocks stand still: nothing but news can tell the other one.
    eventually(async || {
        let listening: Vec<redis::Value> =
            server.command(&[b"PUBSUB", b"NUMSUB", b"p:ended"]).await;
        (listening[1] == redis::Value::Int(2))
            .then_some(())
            .ok_or(listening)
    })
    .await;
    browser.log_out().await;
    eventually(async || {
        let status = other.fetch("/").await.status;
        (status == 401).then_some(()).ok_or(status)
    })
    .await;
}

#[tokio::test]
async fn without_its_store_a_node_starts_says_so_and_recovers() {
    let mut server = RedisProcess::own(&[]).await;
    server.stop();
    let app = upstream(|_| Reply::ok("hello")).await;
    let proxy = proxied(&server, &app);
    let ready = async || {
        let mut admin =
            crate::support::Wire::new(tokio::net::TcpStream::connect(proxy.admin).await.unwrap());
        admin
            .send("GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await;
        String::from_utf8(admin.rest().await).unwrap()
    };
    assert!(ready().await.starts_with("HTTP/1.1 503"));
    let mut browser = proxy.browser();
    let answer = browser
        .log_in_at("/.doorward/login", "alice", PASSWORD)
        .await;
    assert_eq!(answer.status, 503);
    server.run();
    eventually(async || {
        let answer = ready().await;
        answer
            .starts_with("HTTP/1.1 200")
            .then_some(())
            .ok_or(answer)
    })
    .await;
    let mut browser = proxy.browser();
    browser.log_in("alice").await;
    assert_eq!(browser.open("/").await.status, 200);
}
