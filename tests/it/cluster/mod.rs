//! Several Doorwards that share a store: what ends at one of them is refused by all in time, and nobody is logged out for
//! nothing. A further backend joins with one line of `clusters!`.

mod history;
mod nodes;
mod people;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;

use std::sync::Arc;
use std::time::Duration;

use doorward::login::{NewPassword, UserFile};
use doorward::session::Wanted;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::history::{Bounds, Whose};
use self::nodes::{Nodes, Shared, UNHURRIED};
use self::people::{Arrivals, Dice, Person, revoke};
#[cfg(feature = "postgres")]
use self::postgres::OnPostgres;
#[cfg(feature = "redis")]
use self::redis::OnRedis;
use crate::support::{Browser, PASSWORD, Proxy, Reply, Upstream, eventually, proxy, upstream};

/// How long a run takes, in seconds, and what it rolls.
const SECONDS: &str = "DOORWARD_TEST_CLUSTER_SECONDS";
const SEED: &str = "DOORWARD_TEST_CLUSTER_SEED";

const PEOPLE: u64 = 10;
const CACHE_TTL: Duration = Duration::from_secs(2);

macro_rules! clusters {
    ($($(#[$attribute:meta])* $backend:ident: $start:expr;)+) => {
        $($(#[$attribute])*
        mod $backend {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn whatever_happens_ends_are_kept_and_nobody_is_logged_out_for_nothing() {
                println!("{}", a_run($start).await);
            }

            #[tokio::test]
            async fn whoever_is_active_anywhere_is_idle_nowhere() {
                idle_time_is_judged_across_nodes($start).await;
            }

            #[tokio::test]
            async fn nodes_that_replace_a_token_at_once_agree_on_the_next() {
                a_rotation_has_one_winner($start).await;
            }

            #[tokio::test]
            async fn a_ticket_ends_with_its_session_where_that_is_heard_and_by_itself_where_it_is_not() {
                a_ticket_has_an_end($start).await;
            }

            #[tokio::test]
            async fn a_new_password_ends_the_users_sessions_at_every_node() {
                a_new_password_counts_everywhere($start).await;
            }

            #[tokio::test]
            async fn who_changes_a_password_on_the_page_stays_logged_in_at_every_node_and_nobody_else_does() {
                an_own_change_counts_everywhere($start).await;
            }
        })+
    };
}

clusters! {
    #[cfg(feature = "postgres")]
    on_postgres: OnPostgres::start().await;
    #[cfg(feature = "redis")]
    on_redis: OnRedis::start().await;
}

/// Two nodes in this process, with one clock.
fn pair(shared: &impl Shared, app: &Upstream, session: &str) -> (Proxy, Proxy) {
    let builder = |node| {
        let keys = format!("{}\n{UNHURRIED}", shared.keys(node));
        proxy().app(&app.url()).with("session", session).store(keys)
    };
    let here = builder(0).start();
    let folder = builder(1).prepare();
    let there = builder(1).after(folder, here.clock.clone()).start();
    (here, there)
}

/// The same cookies at another node.
fn moved(browser: &Browser, to: &Proxy) -> Browser {
    let mut moved = to.browser();
    moved.jar = browser.jar.clone();
    moved
}

async fn idle_time_is_judged_across_nodes(shared: impl Shared) {
    const STEP: Duration = Duration::from_mins(20);
    let app = upstream(|_| Reply::ok("hello")).await;
    let (here, there) = pair(&shared, &app, "idle_timeout = \"30m\"");
    let mut browser = here.browser();
    browser.log_in("alice").await;
    let mut other = moved(&browser, &there);
    for _ in 0..3 {
        here.clock.advance(STEP);
        assert_eq!(other.fetch("/").await.status, 200);
        let now = here.clock.now();
        eventually("the activity at the other node", async || {
            let listed = here.sessions().list(&Wanted::default(), None, 10).await;
            listed.unwrap().sessions[0].last_seen == now
        })
        .await;
    }
    // Here it was seen an hour ago.
    assert_eq!(browser.fetch("/").await.status, 200);
    here.clock.advance(STEP + STEP / 2);
    for mut browser in [browser, other] {
        assert_eq!(browser.fetch("/").await.status, 401);
    }
}

async fn a_rotation_has_one_winner(shared: impl Shared) {
    let app = upstream(|_| Reply::ok("hello")).await;
    let (here, there) = pair(&shared, &app, "rotate_interval = \"10m\"");
    let mut browser = here.browser();
    browser.log_in("alice").await;
    for _ in 0..5 {
        let mut other = moved(&browser, &there);
        assert_eq!(other.fetch("/").await.status, 200);
        here.clock.advance(Duration::from_mins(10));
        let before = browser.token().to_owned();
        // Both find that it is time, and neither knows of the other.
        let offers = [moved(&browser, &here), other].map(|mut browser| {
            let before = before.clone();
            async move {
                eventually("a new token", async || {
                    assert_eq!(browser.fetch("/").await.status, 200);
                    browser.token() != before
                })
                .await;
                browser
            }
        });
        let [one, other] = offers;
        let (one, other) = tokio::join!(one, other);
        assert_eq!(one.token(), other.token());
        for proxy in [&here, &there] {
            // Until somebody has shown the new one, and a moment longer, both are good.
            assert_eq!(moved(&browser, proxy).fetch("/").await.status, 200);
            assert_eq!(moved(&one, proxy).fetch("/").await.status, 200);
            assert_eq!(moved(&browser, proxy).fetch("/").await.status, 200);
        }
        browser = moved(&other, &here);
    }
    let rotated = || {
        let lines = here.audit().into_iter().chain(there.audit());
        lines.filter(|line| line["event"] == "session_rotated")
    };
    eventually("each rotation in a log", async || rotated().count() >= 5).await;
    assert_eq!(rotated().count(), 5);
}

async fn a_new_password_counts_everywhere(shared: impl Shared) {
    const NEXT: &str = "a horse of another colour";
    let app = upstream(|_| Reply::ok("hello")).await;
    let (here, there) = pair(&shared, &app, "");
    let mut alice = here.browser();
    alice.log_in("alice").await;
    let mut elsewhere = there.browser();
    elsewhere.log_in("alice").await;
    let mut bob = there.browser();
    bob.log_in("bob").await;
    // The file of one node alone: all of them hear of it.
    let password = NewPassword::choose("alice", NEXT).unwrap();
    UserFile::set_password(&here.path("users.toml"), "alice", &password).unwrap();
    for browser in [&mut alice, &mut elsewhere] {
        eventually("the end", async || browser.fetch("/").await.status == 401).await;
    }
    assert_eq!(bob.fetch("/").await.status, 200);
    let again = alice.log_in_at("/.doorward/login", "alice", NEXT).await;
    assert_eq!(again.status, 303);
    assert_eq!(moved(&alice, &there).fetch("/").await.status, 200);
}

async fn an_own_change_counts_everywhere(shared: impl Shared) {
    const NEXT: &str = "a horse of another colour";
    let app = upstream(|_| Reply::ok("hello")).await;
    let (here, there) = pair(&shared, &app, "");
    // Both nodes have one users file.
    let theirs = there.path("users.toml");
    std::fs::remove_file(&theirs).unwrap();
    std::os::unix::fs::symlink(here.path("users.toml"), &theirs).unwrap();
    let mut alice = here.browser();
    alice.log_in("alice").await;
    let mut elsewhere = there.browser();
    elsewhere.log_in("alice").await;
    let mut bob = there.browser();
    bob.log_in("bob").await;
    let token = alice.open("/.doorward/password").await.field("token");
    let form = [
        ("token", token.as_str()),
        ("current", PASSWORD),
        ("new", NEXT),
        ("again", NEXT),
    ];
    let answer = alice.submit("/.doorward/password", &form).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(alice.fetch("/").await.status, 200);
    eventually("the end elsewhere", async || {
        elsewhere.fetch("/").await.status == 401
    })
    .await;
    // What the other node is told next, of bob and by its own file, it is told after that.
    let copy = there.path("copy.toml");
    std::fs::copy(here.path("users.toml"), &copy).unwrap();
    UserFile::remove(&copy, "bob").unwrap();
    std::fs::rename(&copy, &theirs).unwrap();
    eventually("the end of bob", async || {
        bob.fetch("/").await.status == 401
    })
    .await;
    for node in [&here, &there] {
        assert_eq!(moved(&alice, node).fetch("/").await.status, 200);
    }
    let again = elsewhere.log_in_at("/.doorward/login", "alice", NEXT).await;
    assert_eq!(again.status, 303);
}

async fn a_ticket_has_an_end(shared: impl Shared) {
    const LIFETIME: Duration = Duration::from_mins(2);
    let app = upstream(|_| Reply::ok("hello")).await;
    let (here, there) = pair(&shared, &app, "mode = \"jwt\"");
    let ticket = async |user: &str| {
        let mut browser = here.browser();
        browser.log_in(user).await;
        assert_eq!(browser.fetch("/").await.status, 200);
        let mut only = moved(&browser, &there);
        only.jar.retain(|name, _| name == "__Host-sid-jwt");
        assert_eq!(only.fetch("/").await.status, 200, "the other node takes it");
        (browser, only)
    };
    let (mut alice, mut her_ticket) = ticket("alice").await;
    alice.log_out().await;
    eventually("the end", async || {
        her_ticket.fetch("/").await.status == 401
    })
    .await;
    let (mut bob, mut his_ticket) = ticket("bob").await;
    shared.cut(1).await;
    bob.log_out().await;
    here.clock
        .advance(LIFETIME.saturating_sub(Duration::from_secs(1)));
    assert_eq!(
        his_ticket.fetch("/").await.status,
        200,
        "nobody has told it"
    );
    here.clock.advance(Duration::from_secs(1));
    assert_eq!(his_ticket.fetch("/").await.status, 401);
    shared.mend(1).await;
}

/// Tells what was done.
async fn a_run(shared: impl Shared) -> String {
    let number = |name: &str, default: u64| {
        let given = std::env::var(name).ok().map(|text| text.parse().unwrap());
        given.unwrap_or(default)
    };
    let (seconds, seed) = (number(SECONDS, 20), number(SEED, 1));
    let arrivals = Arrivals::default();
    let arriving = arrivals.clone();
    let app = upstream(move |request| {
        let path = request.line().split(' ').nth(1).unwrap();
        let number = path.trim_start_matches('/').parse().unwrap();
        arriving.lock().insert(number, Instant::now());
        Reply::ok("hello")
    })
    .await;
    let session = "cache_ttl = \"2s\"\nrotate_interval = \"2s\"\nrotate_grace = \"1s\"\ntouch_interval = \"1s\"\n\
                   idle_timeout = \"1h\"";
    let nodes = Arc::new(Nodes::start(shared, &app.url(), session).await);
    let until = Instant::now() + Duration::from_secs(seconds);

    let stalls = tokio::spawn(stalls(until));
    let mut people = JoinSet::new();
    for name in 0..PEOPLE {
        let dice = Dice::new(seed * 1000 + name);
        let mut person = Person::new(nodes.clone(), arrivals.clone(), name, dice);
        person.persistence = CACHE_TTL + Duration::from_secs(1);
        people.spawn(person.live(until));
    }
    let trouble = make_trouble(&nodes, Dice::new(seed), until);
    let (people, ()) = tokio::join!(people.join_all(), trouble);
    assert_eq!(people.len() as u64, PEOPLE);

    let bounds = Bounds {
        heard: Duration::from_secs(1),
        deaf: CACHE_TTL,
        stalled: stalls.await.unwrap(),
    };
    let history = nodes.history.lock();
    let latest = history.latest();
    let [sessions, requests, ends] = [
        history.sessions.len(),
        history.requests.len(),
        history.ends.len(),
    ];
    let renewed = history.requests.iter().filter(|one| one.renewal.is_some());
    let told = format!(
        "seed {seed}: {sessions} sessions, {requests} requests, {ends} ends, {} renewals, {} times deaf; started late at \
         most {:?}, deaf {:?}; stalled {:?}",
        renewed.count(),
        history.deaf.len(),
        latest.heard,
        latest.deaf,
        bounds.stalled
    );
    let violations = history.violations(bounds);
    assert!(
        violations.is_empty(),
        "seed {seed}: {violations:#?}\n{}",
        nodes.words()
    );
    // Otherwise nothing was shown.
    assert!(sessions >= 10 && requests > 300 && ends >= 6);
    told
}

/// Kills nodes, cuts them off from news, and throws out all that somebody has.
async fn make_trouble(nodes: &Nodes<impl Shared>, mut dice: Dice, until: Instant) {
    while Instant::now() < until {
        dice.pause(1500).await;
        let node = dice.node();
        match dice.roll(6) {
            0 => nodes.kill(node).await,
            1 => nodes.interrupt().await,
            2 | 3 => {
                let span = Duration::from_millis(500 + dice.roll(3500));
                let meanwhile = async {
                    let end = Instant::now() + span;
                    while Instant::now() < end {
                        revoke_all(nodes, &mut dice).await;
                        dice.pause(2000).await;
                    }
                };
                nodes.deafen(node, meanwhile).await;
            }
            _ => revoke_all(nodes, &mut dice).await,
        }
    }
}

async fn revoke_all(nodes: &Nodes<impl Shared>, dice: &mut Dice) {
    let (node, user) = (dice.node(), dice.user());
    let target = format!("/users/local/{user}/sessions");
    revoke(nodes, Whose::User(user.to_owned()), node, &target).await;
}

/// The longest that this process was late for something that was due: what the machine, and not a node, adds to a bound.
async fn stalls(until: Instant) -> Duration {
    const STEP: Duration = Duration::from_millis(20);
    let mut longest = Duration::ZERO;
    while Instant::now() < until {
        let due = Instant::now() + STEP;
        tokio::time::sleep_until(due).await;
        longest = longest.max(due.elapsed());
    }
    longest
}
