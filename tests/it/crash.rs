//! `kill -9` of Doorward, of its store, or of both, again and again under load: what a browser was told of is so
//! afterwards (R6). A further backend joins with one line of `kills!`. `DOORWARD_TEST_KILLS=50` kills that often.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

#[cfg(feature = "redis")]
use crate::support::RedisProcess;
use crate::support::{
    Browser, Kept, PASSWORD, Process, ProxyBuilder, Recorded, Reply, proxy, upstream,
};
#[cfg(feature = "postgres")]
use crate::support::{Database, PostgresProcess};

const RUN: &[&str] = &["run", "--config", "doorward.toml"];
const BROWSERS: usize = 4;

macro_rules! kills {
    ($($(#[$attribute:meta])* $name:ident: $place:expr;)+) => {
        $($(#[$attribute])*
        #[tokio::test]
        async fn $name() {
            println!("{}", survives($place.await).await);
        })+
    };
}

kills! {
    what_was_answered_survives_in_the_embedded_store: Place::embedded();
    #[cfg(feature = "postgres")]
    what_was_answered_survives_in_postgres: Place::postgres();
    #[cfg(feature = "redis")]
    what_was_answered_survives_in_redis_with_every_write_on_the_disk: Place::redis();
}

/// Where sessions are kept, and what dies.
enum Place {
    Embedded,
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

impl Place {
    #[expect(clippy::unused_async, reason = "the others wait for a server")]
    async fn embedded() -> Self {
        Self::Embedded
    }

    #[cfg(feature = "postgres")]
    async fn postgres() -> Self {
        let server = PostgresProcess::own(&["fsync=on", "full_page_writes=on"]);
        Self::Postgres {
            database: server.database().await,
            server,
            folder: TempDir::new().unwrap(),
        }
    }

    #[cfg(feature = "redis")]
    async fn redis() -> Self {
        let durable = ["--appendonly", "yes", "--appendfsync", "always"];
        Self::Redis(RedisProcess::own(&durable).await)
    }

    fn keep(&self, site: ProxyBuilder) -> ProxyBuilder {
        match self {
            Self::Embedded => site.embedded(),
            #[cfg(feature = "postgres")]
            Self::Postgres {
                database, folder, ..
            } => site.store(database.keys(folder.path())),
            #[cfg(feature = "redis")]
            Self::Redis(server) => site.store(format!(
                "backend = \"redis\"\nurl = \"redis://127.0.0.1:{}\"",
                server.port
            )),
        }
    }

    /// Kills the store, where that is a program of its own.
    fn kill(&mut self) {
        match self {
            Self::Embedded => {}
            #[cfg(feature = "postgres")]
            Self::Postgres { server, .. } => server.stop(),
            #[cfg(feature = "redis")]
            Self::Redis(server) => server.stop(),
        }
    }

    #[cfg_attr(
        not(any(feature = "postgres", feature = "redis")),
        expect(clippy::unused_async, reason = "the others wait for a server")
    )]
    async fn rise(&mut self) {
        match self {
            Self::Embedded => {}
            #[cfg(feature = "postgres")]
            Self::Postgres { server, .. } => {
                server.run();
                drop(server.admin().await);
            }
            #[cfg(feature = "redis")]
            Self::Redis(server) => {
                server.run();
                server.answers().await;
                let done = async || server.command::<String>(&[b"INFO", b"persistence"]).await;
                while !done().await.contains("loading:0") {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// Tells what was done.
async fn survives(mut place: Place) -> String {
    let kills = std::env::var("DOORWARD_TEST_KILLS");
    let rounds = kills.map_or(3, |text| text.parse().unwrap());
    let app = upstream(counts).await;
    let keeps = "access = \"user\"\nsession_data = \"shop\"";
    let site = proxy().route("/", &app.url(), keeps);
    let site = site.with("session", "rotate_interval = \"50ms\"");
    let folder: Arc<TempDir> = place.keep(site).prepare();
    let mut known = Known::default();
    for round in 0..rounds {
        let mut process = Process::start(folder.path(), RUN);
        let addr = process.addr().await;
        known.check(&mut Kept::http2(addr, "localhost").await).await;
        assert!(known.is_whole(), "{} before round {round}", known.summary());
        let (events, mut heard) = mpsc::unbounded_channel();
        let mut browsers = JoinSet::new();
        for _ in 0..BROWSERS {
            let mut browser = process.browser().await;
            let state = browser.follow("/").await.field("state");
            browsers.spawn(come_and_go(browser, state, events.clone()));
        }
        drop(events);
        let [random] = ::doorward::secret::random::<1>();
        let mut left = 12 + usize::from(random) % 16;
        while left > 0 {
            let event = heard.recv().await.expect("it ended by itself");
            left -= usize::from(!matches!(event, Event::Wrote(..)));
            known.note(event);
        }
        // In turns the store dies first and the proxy first.
        if round % 2 == 0 {
            place.kill();
        }
        process.kill();
        place.kill();
        browsers.join_all().await;
        while let Some(event) = heard.recv().await {
            known.note(event);
        }
        place.rise().await;
    }
    let mut process = Process::start(folder.path(), RUN);
    let addr = process.addr().await;
    known.check(&mut Kept::http2(addr, "localhost").await).await;
    assert!(known.is_whole(), "{}", known.summary());
    assert!(known.logins > rounds && known.logouts > 0 && known.rotations > 0);
    assert!(known.writes > rounds);
    format!("{rounds} kills, {}", known.summary())
}

/// Keeps the number that it is told, and says which it has kept.
fn counts(request: &Recorded) -> Reply {
    let set = match request.all("x-count").first() {
        Some(number) => format!("Doorward-Session-Set: count={number}\r\n"),
        None => String::new(),
    };
    let kept = request.all("doorward-session-data");
    Reply::with(200, &set, kept.first().copied().unwrap_or("count=0"))
}

/// What a browser was told, or was about to ask for.
enum Event {
    LoggedIn(String),
    LoggingOut(String),
    LoggedOut(String),
    /// The first was replaced by the second.
    Rotated(String, String),
    /// The session of this cookie keeps this number.
    Wrote(String, u64),
}

/// Logs in, counts in the session until its token is replaced, and every other time logs out again, until nobody answers.
async fn come_and_go(browser: Browser, state: String, events: mpsc::UnboundedSender<Event>) {
    let id = format!("__Host-sid-browser={}", browser.jar["__Host-sid-browser"]);
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("state", state.as_str()),
            ("user", "alice"),
            ("password", PASSWORD),
        ])
        .finish();
    let Some(mut kept) = Kept::try_http1(browser.addr, "localhost").await else {
        return;
    };
    for turn in 0.. {
        let Some(cookie) = log_in(&mut kept, &id, &form).await else {
            return;
        };
        events.send(Event::LoggedIn(cookie.clone())).unwrap();
        let Some(cookie) = stay(&mut kept, cookie, &events).await else {
            return;
        };
        if turn % 2 == 1 && log_out(&mut kept, cookie, &events).await.is_none() {
            return;
        }
    }
}

/// `None` where nobody answers, or the store does not.
async fn log_in(kept: &mut Kept, id: &str, form: &str) -> Option<String> {
    let answer = kept.try_post("/.doorward/login", &[id], form).await?;
    if answer.status == 503 {
        return None;
    }
    assert_eq!(answer.status, 303, "{}", answer.text());
    Some(pair(answer.set_cookies()[0]))
}

/// Has the app count on until a page comes with a new token, and tells of that one.
async fn stay(
    kept: &mut Kept,
    cookie: String,
    events: &mpsc::UnboundedSender<Event>,
) -> Option<String> {
    for number in 1..=200 {
        let asked = (Method::GET, "/");
        let count = [("x-count", &*number.to_string())];
        let answer = kept.try_request(asked, &[&cookie], &count, "").await?;
        if answer.status == 503 {
            return None;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        events.send(Event::Wrote(cookie.clone(), number)).unwrap();
        if let Some(next) = answer.set_cookies().first() {
            let next = pair(next);
            events.send(Event::Rotated(cookie, next.clone())).unwrap();
            return Some(next);
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    Some(cookie)
}

async fn log_out(
    kept: &mut Kept,
    cookie: String,
    events: &mpsc::UnboundedSender<Event>,
) -> Option<()> {
    let asked = (Method::GET, "/.doorward/logout");
    let page = kept.try_request(asked, &[&cookie], &[], "").await?;
    if page.status == 503 {
        return None;
    }
    let form = format!("token={}", page.field("token"));
    events.send(Event::LoggingOut(cookie.clone())).unwrap();
    let answer = kept
        .try_post("/.doorward/logout", &[&cookie], &form)
        .await?;
    if answer.status == 503 {
        return None;
    }
    assert_eq!(answer.status, 200, "{}", answer.text());
    events.send(Event::LoggedOut(cookie)).unwrap();
    Some(())
}

fn pair(cookie: &str) -> String {
    cookie.split(';').next().unwrap().to_owned()
}

/// What browsers were told, over all lives of the program.
#[derive(Default)]
struct Known {
    /// By cookie.
    inside: BTreeMap<String, Inside>,
    outside: BTreeSet<String>,
    logins: usize,
    logouts: usize,
    rotations: usize,
    writes: usize,
    lost: usize,
    revived: usize,
    forgotten: usize,
}

#[derive(Default)]
struct Inside {
    /// Its logout was asked for and not answered.
    leaving: bool,
    count: u64,
}

impl Known {
    fn note(&mut self, event: Event) {
        match event {
            Event::LoggedIn(cookie) => {
                self.logins += 1;
                self.inside.insert(cookie, Inside::default());
            }
            Event::LoggingOut(cookie) => self.inside.get_mut(&cookie).unwrap().leaving = true,
            Event::LoggedOut(cookie) => {
                self.logouts += 1;
                self.inside.remove(&cookie);
                self.outside.insert(cookie);
            }
            Event::Rotated(old, new) => {
                self.rotations += 1;
                let inside = self.inside.remove(&old).unwrap();
                self.inside.insert(new, inside);
            }
            Event::Wrote(cookie, number) => {
                self.writes += 1;
                self.inside.get_mut(&cookie).unwrap().count = number;
            }
        }
    }

    async fn check(&mut self, kept: &mut Kept) {
        // A logout that was not answered may or may not have been done.
        self.inside.retain(|_, inside| !inside.leaving);
        for (cookie, inside) in &self.inside {
            let answer = kept.get("/", &[cookie]).await;
            match answer.status.as_u16() {
                200 => self.forgotten += usize::from(!inside.keeps(&answer.text())),
                401 => self.lost += 1,
                other => panic!("{other}"),
            }
        }
        for cookie in &self.outside {
            self.revived += usize::from(kept.get("/", &[cookie]).await.status != 401);
        }
    }

    fn is_whole(&self) -> bool {
        (self.lost, self.revived, self.forgotten) == (0, 0, 0)
    }

    fn summary(&self) -> String {
        format!(
            "{} logins, {} logouts, {} rotations and {} writes of data were answered; {} sessions lost, {} revived, {} writes lost",
            self.logins,
            self.logouts,
            self.rotations,
            self.writes,
            self.lost,
            self.revived,
            self.forgotten
        )
    }
}

impl Inside {
    /// A write that was not answered may have been made, and there is one at most.
    fn keeps(&self, data: &str) -> bool {
        let number: u64 = data.strip_prefix("count=").unwrap().parse().unwrap();
        (self.count..=self.count + 1).contains(&number)
    }
}
