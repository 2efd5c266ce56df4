//! How soon an end at one node is refused at another: `cargo bench --bench revocation [-- --rounds 200 --backend redis]`.
//!
//! Three nodes, each a process of its own, on one real store on loopback. Somebody logs in at one node and asks another
//! without a pause; then the first is told to end the session. What counts is the time from its answer to the first
//! refusal. The embedded store has one node, which is both told and asked.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench that fails is to say so at once, and prints what it found"
)]

#[path = "../tests/it/cluster/history.rs"]
#[expect(dead_code, unreachable_pub, reason = "it is written for the tests")]
mod history;
#[path = "../tests/it/cluster/nodes.rs"]
#[expect(dead_code, unreachable_pub, reason = "it is written for the tests")]
mod nodes;
mod options;
#[cfg(feature = "postgres")]
#[path = "../tests/it/cluster/postgres.rs"]
#[expect(unreachable_pub, reason = "it is written for the tests")]
mod postgres;
#[cfg(feature = "redis")]
#[path = "../tests/it/cluster/redis.rs"]
#[expect(unreachable_pub, reason = "it is written for the tests")]
mod redis;
#[path = "../tests/it/support/mod.rs"]
#[expect(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "it is written for the tests, which use the rest"
)]
mod support;

use std::time::Duration;

use async_trait::async_trait;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use nodes::{Nodes, Shared, USERS};
use options::{Defaults, Options};
use support::{Kept, PASSWORD, Reply, Upstream, upstream};

const BACKENDS: [&str; 3] = ["embedded", "redis", "postgres"];

const BENCH: Defaults<'_> = Defaults {
    backends: &BACKENDS,
    count: 200,
};
const TEST: Defaults<'_> = Defaults {
    backends: &["embedded"],
    count: 3,
};

/// The default of `session.cache_ttl`.
const CACHE_TTL: Duration = Duration::from_secs(5);
/// Between two requests of each of many sessions.
const PAUSE: Duration = Duration::from_millis(5);

/// One node alone has nobody to tell.
struct Alone;

#[async_trait]
impl Shared for Alone {
    fn keys(&self, _: usize) -> String {
        "backend = \"embedded\"\npath = \"sessions.db\"".to_owned()
    }

    async fn cut(&self, _: usize) {}

    async fn mend(&self, _: usize) {}

    async fn interrupt(&self) {}

    async fn is_told(&self, _: usize) -> bool {
        true
    }
}

/// The nodes, and the app behind all of them, which ends when it is dropped.
struct Cluster<S> {
    nodes: Nodes<S>,
    app: Upstream,
}

/// Somebody who is logged in at node 0 and has asked another.
struct Guest {
    sid: String,
    cookie: String,
    asks: Kept,
}

#[tokio::main]
async fn main() {
    let options = Options::of("--rounds", &BENCH, &TEST);
    println!(
        "from the answer to a revocation to the first refusal at another node, in milliseconds"
    );
    println!(
        "{:<9} {:<34} {:>5} {:>9} {:>9} {:>9}",
        "", "", "ends", "p50", "p99", "max"
    );
    for backend in &options.backends {
        match backend.as_str() {
            "embedded" => {
                let cluster = started(Alone).await;
                one_by_one(backend, &cluster.nodes, 0, options.count).await;
            }
            #[cfg(feature = "redis")]
            "redis" => {
                let shared = redis::OnRedis::start().await;
                with_and_without_news(backend, shared, &options).await;
            }
            #[cfg(feature = "postgres")]
            "postgres" => {
                let shared = postgres::OnPostgres::start().await;
                with_and_without_news(backend, shared, &options).await;
            }
            other => panic!("no backend {other:?} in this build: one of {BACKENDS:?}"),
        }
    }
}

#[cfg(any(feature = "postgres", feature = "redis"))]
async fn with_and_without_news(backend: &str, shared: impl Shared, options: &Options) {
    let Cluster { nodes, app: _app } = started(shared).await;
    one_by_one(backend, &nodes, 1, options.count).await;
    nodes
        .deafen(1, many_at_once(backend, &nodes, options.count / 4 + 1))
        .await;
}

async fn started<S: Shared>(shared: S) -> Cluster<S> {
    let app = upstream(|_| Reply::ok("hello")).await;
    let ttl = format!("cache_ttl = \"{}s\"", CACHE_TTL.as_secs());
    let nodes = Nodes::start(shared, &app.url(), &ttl).await;
    Cluster { nodes, app }
}

async fn one_by_one(backend: &str, nodes: &Nodes<impl Shared>, away: usize, rounds: u32) {
    let mut times = Histogram::new(3).unwrap();
    for _ in 0..rounds {
        let guest = log_in(nodes, away).await;
        note(&mut times, end(nodes, guest, Duration::ZERO).await);
    }
    print("the store's news arrive", backend, &times);
}

/// While the other node hears nothing: what it believes is believed for as long as `cache_ttl`, and each session
/// ends at another moment of that time.
async fn many_at_once(backend: &str, nodes: &Nodes<impl Shared>, count: u32) {
    let mut guests = Vec::new();
    for _ in 0..count {
        guests.push(log_in(nodes, 1).await);
    }
    let ends = guests.into_iter().zip(0..).map(async |(guest, number)| {
        sleep(CACHE_TTL * number / count).await;
        end(nodes, guest, PAUSE).await
    });
    let mut times = Histogram::new(3).unwrap();
    for late in futures_util::future::join_all(ends).await {
        note(&mut times, late);
    }
    print("no news arrive, cache_ttl = \"5s\"", backend, &times);
}

/// How long after the answer the session was let in at the other node, at most.
async fn end(nodes: &Nodes<impl Shared>, guest: Guest, pause: Duration) -> Duration {
    let Guest {
        sid,
        cookie,
        mut asks,
    } = guest;
    let mut asking = JoinSet::new();
    asking.spawn(async move {
        while asks.get("/", &[&cookie]).await.status == 200 {
            sleep(pause).await;
        }
        Instant::now()
    });
    let status = nodes.delete(0, &format!("/sessions/{sid}")).await;
    let answered = Instant::now();
    assert!(matches!(status, Some(200 | 204)), "{status:?}");
    let refused = asking.join_next().await.unwrap().unwrap();
    refused.saturating_duration_since(answered)
}

async fn log_in(nodes: &Nodes<impl Shared>, away: usize) -> Guest {
    let mut here = Kept::http1(nodes.addr(0).unwrap(), "localhost").await;
    let form = here.get("/.doorward/login", &[]).await;
    let body = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("state", &form.field("state"))
        .append_pair("user", USERS[0])
        .append_pair("password", PASSWORD)
        .finish();
    let before = pairs(&form.set_cookies());
    let answer = here.post("/.doorward/login", &[&before], &body).await;
    assert_eq!(answer.status, 303);
    let cookie = pairs(&answer.set_cookies());
    let who = here.get("/.doorward/session", &[&cookie]).await.json();
    let mut asks = Kept::http1(nodes.addr(away).unwrap(), "localhost").await;
    assert_eq!(asks.get("/", &[&cookie]).await.status, 200);
    let sid = who["sid"].as_str().unwrap().to_owned();
    Guest { sid, cookie, asks }
}

/// What a browser says of the cookies that it was given.
fn pairs(given: &[&str]) -> String {
    let pairs = given.iter().filter_map(|cookie| cookie.split(';').next());
    let pairs: Vec<_> = pairs.filter(|pair| !pair.ends_with('=')).collect();
    pairs.join("; ")
}

fn note(times: &mut Histogram<u64>, late: Duration) {
    let micros = u64::try_from(late.as_micros()).unwrap();
    times.record(micros).unwrap();
}

fn print(what: &str, backend: &str, times: &Histogram<u64>) {
    let millis = |micros: u64| format!("{}.{:02}", micros / 1000, micros % 1000 / 10);
    println!(
        "{backend:<9} {what:<34} {:>5} {:>9} {:>9} {:>9}",
        times.len(),
        millis(times.value_at_quantile(0.5)),
        millis(times.value_at_quantile(0.99)),
        millis(times.max())
    );
}
