//! Refresh tokens: what a provider says of a user later, that it is asked once for all who are waiting, and what ends a
//! session and what does not. What the app received is what counts.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use doorward::clock::{Clock, Timestamp};
use doorward::identity::{Federated, Identity, Refresh, Subject};
use doorward::secret::{Keyring, Secret};
use doorward::session::store::Memory;
use doorward::session::{Epoch, Login, Parts, Presence, Refreshed, Sessions, Settings};
use doorward::telemetry::{Audit, LineWriter, Metrics};
use serde_json::json;
use tokio::runtime::Handle;

use crate::oidc::{Bench, CLAIMS};
use crate::support::{
    ACCESS, Asked, Browser, CLIENT_SECRET, Process, Provider, ProxyBuilder, Reply, START,
    eventually, proxy, upstream,
};

/// A token of the provider's is good for as long.
const LIFETIME: Duration = Duration::from_mins(1);

async fn start(more: &str) -> (Bench, Browser) {
    let bench = Bench::with(&format!("{CLAIMS}\n{more}"), ProxyBuilder::embedded).await;
    bench.provider.script().refreshes = true;
    let mut browser = bench.proxy.browser();
    let answer = bench.log_in(&mut browser).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    (bench, browser)
}

fn groups(bench: &Bench) -> String {
    let last = bench.app.requests().pop().unwrap();
    last.one("remote-groups").to_owned()
}

/// How often the provider was asked with a refresh token.
fn asked(bench: &Bench) -> usize {
    let all = bench.provider.requests_at("/token").into_iter();
    all.filter(|request| {
        String::from_utf8_lossy(&request.body).contains("grant_type=refresh_token")
    })
    .count()
}

#[tokio::test]
async fn groups_follow_the_provider_without_a_new_login() {
    let (bench, mut browser) = Box::pin(start("refresh = true")).await;
    let token = browser.token().to_owned();
    assert_eq!(browser.open("/").await.status, 200);
    assert_eq!(groups(&bench), "staff");
    bench
        .proxy
        .clock
        .advance(LIFETIME.saturating_sub(Duration::from_secs(1)));
    assert_eq!(browser.open("/").await.status, 200);
    assert_eq!((asked(&bench), groups(&bench).as_str()), (0, "staff"));
    for round in 1..=3 {
        // Others each time: what the provider has answered need not count here yet.
        let now = format!("guests-{round}");
        let roles = json!({"realm_access": {"roles": [now]}, "preferred_username": "jane2"});
        bench.provider.script().claims = roles;
        bench.proxy.clock.advance(LIFETIME);
        assert_eq!(browser.open("/").await.status, 200);
        eventually("the provider's answer counts", async || {
            assert_eq!(browser.open("/").await.status, 200);
            groups(&bench) == now && bench.provider.script().refreshed == round + 1
        })
        .await;
        assert_eq!(asked(&bench), round, "each time with the newest token");
    }
    assert_eq!(
        bench.app.requests().pop().unwrap().one("remote-user"),
        "jane2"
    );
    let listed = browser.fetch("/.doorward/session").await.json();
    assert_eq!(listed["auth_time"], START.as_secs(), "that was no login");
    assert_eq!(browser.token(), token, "nor a new session");
    let stored = std::fs::read(bench.proxy.path("data/sessions.db")).unwrap();
    let is_told = |word: &[u8]| stored.windows(word.len()).any(|window| window == word);
    assert!(!is_told(b"refresh-") && !is_told(b"guests"), "it is sealed");
}

#[tokio::test]
async fn groups_follow_where_sessions_are_known_by_a_signed_cookie_and_no_later_than_its_end() {
    const TICKET: Duration = Duration::from_mins(2);
    let bench = Bench::with(&format!("{CLAIMS}\nrefresh = true"), |proxy| {
        proxy.with("session", "mode = \"jwt\"")
    })
    .await;
    bench.provider.script().refreshes = true;
    let mut browser = bench.proxy.browser();
    assert_eq!(bench.log_in(&mut browser).await.status, 303);
    assert_eq!(browser.open("/").await.status, 200);
    assert!(browser.jar.contains_key("__Host-sid-jwt"));
    bench.provider.script().claims = json!({"realm_access": {"roles": ["guests"]}});
    bench.proxy.clock.advance(LIFETIME);
    assert_eq!(browser.open("/").await.status, 200);
    assert_eq!((asked(&bench), groups(&bench).as_str()), (0, "staff"));
    // With each ticket the provider is asked once more; the one after its answer tells what it said.
    eventually("the provider's answer counts", async || {
        bench.proxy.clock.advance(TICKET);
        assert_eq!(browser.open("/").await.status, 200);
        groups(&bench) == "guests"
    })
    .await;
    bench.provider.script().refreshed += 1;
    eventually("a token that was taken back ends the session", async || {
        bench.proxy.clock.advance(TICKET);
        browser.open("/").await.status == 303
    })
    .await;
    assert_eq!(browser.fetch("/").await.status, 401);
}

/// Everything that the program has written down, but for its own secrets.
fn written(folder: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for place in [folder.to_owned(), folder.join("data")] {
        for entry in std::fs::read_dir(place).unwrap() {
            let entry = entry.unwrap();
            let is_secret = entry.file_name() == "oidc.secret";
            if entry.file_type().unwrap().is_file() && !is_secret {
                all.extend(std::fs::read(entry.path()).unwrap());
            }
        }
    }
    all
}

#[tokio::test]
async fn what_a_provider_gives_reaches_no_browser_no_app_and_no_log() {
    let provider = Provider::start(&Clock::system()).await;
    provider.script().refreshes = true;
    let app = upstream(|_| Reply::ok("hello")).await;
    let keys = format!("{CLAIMS}\nrefresh = true\nuser_info = true\nlogout = \"provider\"");
    let log = "access = \"access.log\"\nlevel = \"info,doorward=trace\"";
    let folder = proxy()
        .provider(&provider.section("corp", &keys))
        .app(&app.url())
        .with("log", log)
        .embedded()
        .prepare();
    let mut process = Process::start(folder.path(), &["run", "--config", "doorward.toml"]);
    let mut browser = process.browser().await;
    eventually("a provider that is found", async || {
        process.words().contains("a provider was found")
    })
    .await;
    let sent = browser.open("/.doorward/login?provider=corp").await;
    let back = provider.approve(sent.header("location"));
    let code = Asked::of(&format!("https://localhost{back}"));
    let code = code.get("code").to_owned();
    // A login that fails has more to tell.
    let failed = browser.clone().open(&back.replace(&code, "code-no")).await;
    assert_eq!(failed.status, 403);
    let sent = browser.open("/.doorward/login?provider=corp").await;
    let back = provider.approve(sent.header("location"));
    let code = Asked::of(&format!("https://localhost{back}"));
    let code = code.get("code").to_owned();
    let mut answers = vec![failed, sent, browser.open(&back).await];
    let cookies: String = browser.jar.values().cloned().collect();
    answers.push(browser.open("/wiki").await);
    for place in ["/.doorward/session", "/.doorward/sessions"] {
        answers.push(browser.open(place).await);
    }
    // The provider itself gets its ID token back, and nobody else.
    let out = browser.log_out().await;
    let hint = Asked::of(out.header("location"));
    let hint = hint.get("id_token_hint").to_owned();
    let signature = hint.rsplit('.').next().unwrap();
    assert_eq!(signature.len(), 342);
    let what = [signature, ACCESS, "refresh-1", CLIENT_SECRET, code.as_str()];

    assert_eq!(app.only().one("remote-user"), "jane");
    let request = app.only();
    let seen = [request.head.as_bytes(), &request.body].concat();
    let told = answers.iter().fold(cookies, |mut told, answer| {
        use std::fmt::Write;
        write!(told, "{:?}{}", answer.headers, answer.text()).unwrap();
        told
    });
    eventually("the logs are written", async || {
        let log = std::fs::read_to_string(folder.path().join("access.log")).unwrap();
        log.contains("/wiki") && log.contains("/.doorward/logout")
    })
    .await;
    let written = written(folder.path());
    for (where_, text) in [
        ("app", seen.as_slice()),
        ("browser", told.as_bytes()),
        ("disk", written.as_slice()),
    ] {
        for word in what {
            let is_there = text.windows(word.len()).any(|one| one == word.as_bytes());
            assert!(!is_there, "{word} in what the {where_} got");
        }
    }
}

#[tokio::test]
async fn a_token_that_was_taken_back_ends_the_session() {
    let (bench, mut browser) = Box::pin(start("refresh = true")).await;
    bench.provider.script().refreshed += 1;
    bench.proxy.clock.advance(LIFETIME);
    eventually("the session is over", async || {
        browser.fetch("/").await.status == 401
    })
    .await;
    let event = bench.proxy.audited("session_ended").await;
    assert_eq!(event["reason"], "provider_logout");
    assert_eq!(bench.proxy.sessions().stored().await.unwrap(), 0);
}

#[tokio::test]
async fn an_answer_about_somebody_else_ends_the_session() {
    let (bench, mut browser) = Box::pin(start("refresh = true")).await;
    bench.provider.script().claims = json!({"sub": "another"});
    bench.proxy.clock.advance(LIFETIME);
    eventually("the session is over", async || {
        browser.fetch("/").await.status == 401
    })
    .await;
    let users: Vec<String> = bench
        .app
        .requests()
        .iter()
        .map(|request| request.one("remote-user").to_owned())
        .collect();
    assert!(users.iter().all(|user| user == "jane"), "{users:?}");
}

#[tokio::test]
async fn no_request_waits_for_what_a_provider_says_anew() {
    // Longer than anybody here waits for anything.
    let keys = "refresh = true\nanswer_timeout = \"1m\"";
    let (bench, mut browser) = Box::pin(start(keys)).await;
    let silence = || Reply::Stall(Vec::new());
    bench.provider.script().answers.insert("/token", silence);
    bench.proxy.clock.advance(LIFETIME);
    eventually("the provider is asked", async || {
        assert_eq!(browser.fetch("/").await.status, 200);
        asked(&bench) == 1
    })
    .await;
    for _ in 0..3 {
        assert_eq!(browser.fetch("/").await.status, 200);
    }
    assert_eq!(asked(&bench), 1);
}

#[tokio::test]
async fn a_provider_in_trouble_ends_no_session_and_is_asked_again_later() {
    let (bench, mut browser) = Box::pin(start("refresh = true")).await;
    let troubles: [fn() -> Reply; 4] = [
        || Reply::with(500, "", "{\"error\":\"server_error\"}"),
        || Reply::with(200, "", "<html>"),
        || Reply::with(401, "", "{\"error\":\"invalid_client\"}"),
        || Reply::with(302, "location: /elsewhere\r\n", ""),
    ];
    for (number, trouble) in troubles.into_iter().enumerate() {
        bench.provider.script().answers.insert("/token", trouble);
        bench.proxy.clock.advance(Duration::from_mins(2));
        eventually("the provider is asked", async || {
            assert_eq!(browser.fetch("/").await.status, 200);
            asked(&bench) == number + 1
        })
        .await;
        for _ in 0..3 {
            assert_eq!(browser.fetch("/").await.status, 200);
        }
        assert_eq!(asked(&bench), number + 1, "not with every request");
    }
    // Nor does a token that lies about anything else.
    bench.provider.script().answers.clear();
    bench.provider.script().claims = json!({"iss": "https://evil.example"});
    bench.proxy.clock.advance(Duration::from_mins(2));
    eventually("the provider is asked", async || {
        assert_eq!(browser.fetch("/").await.status, 200);
        asked(&bench) == 5
    })
    .await;
    assert_eq!(groups(&bench), "staff");
}

#[tokio::test]
async fn without_a_word_in_the_configuration_no_token_is_kept() {
    let (bench, mut browser) = Box::pin(start("")).await;
    bench.proxy.clock.advance(Duration::from_mins(20));
    for _ in 0..5 {
        assert_eq!(browser.open("/").await.status, 200);
    }
    assert_eq!(asked(&bench), 0);
}

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// One of several processes over one store.
fn node(store: &Arc<Memory>, clock: &Clock) -> Arc<Sessions> {
    let parts = Parts {
        store: store.clone(),
        keyring: Arc::new(Keyring::new(vec![Secret::new([7; 32])]).unwrap()),
        settings: Settings::default(),
        tickets: None,
        audit: Audit::new(LineWriter::off(), clock.clone()),
        clock: clock.clone(),
        metrics: Arc::new(Metrics::new()),
        background: Handle::current(),
    };
    Sessions::new(parts).0
}

fn jane(groups: &[&str]) -> Identity {
    Identity {
        subject: Subject {
            provider: "corp".to_owned(),
            id: "1".to_owned(),
        },
        user: "jane".to_owned(),
        name: None,
        email: None,
        groups: groups.iter().map(|&group| group.to_owned()).collect(),
    }
}

fn refresh(token: &str, due: Timestamp) -> Refresh {
    Refresh {
        token: token.to_owned(),
        due,
    }
}

fn login() -> Login {
    Login {
        identity: jane(&["staff"]),
        amr: Vec::new(),
        proved: None,
        federated: Some(Federated {
            session: None,
            hint: None,
            refresh: Some(refresh("first", NOW.after(LIFETIME))),
            acr: None,
        }),
        address: [192, 0, 2, 1].into(),
        user_agent: None,
        remember: false,
        replaces: None,
        epoch: Epoch::default(),
        carries: None,
    }
}

#[tokio::test]
async fn of_all_nodes_one_asks_and_all_learn_the_answer() {
    const NODES: usize = 8;
    let (store, clock) = (Arc::new(Memory::new()), Clock::fixed(NOW));
    let nodes: Vec<_> = (0..NODES).map(|_| node(&store, &clock)).collect();
    let issued = nodes[0].issue(login()).await.unwrap();
    let cookie = issued
        .cookie
        .to_str()
        .unwrap()
        .split(['=', ';'])
        .nth(1)
        .unwrap()
        .to_owned();
    let presence = Presence {
        idle_timeout: None,
        activity: true,
    };
    clock.advance(LIFETIME);
    let asked = Arc::new(AtomicUsize::new(0));
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let mut sessions = Vec::new();
    for node in &nodes {
        let session = node
            .authenticate(cookie.as_bytes(), presence)
            .await
            .unwrap();
        assert!(session.is_refresh_due(clock.now()));
        sessions.push(session);
    }
    for (node, session) in nodes.iter().zip(&sessions) {
        let (asked, go) = (asked.clone(), go.clone());
        let next = refresh("second", clock.now().after(LIFETIME));
        node.refresh_soon(session, async move |token| {
            assert_eq!(*token, "first");
            asked.fetch_add(1, Ordering::SeqCst);
            let _turn = go.acquire().await;
            Refreshed::Anew(Box::new((Some(jane(&["guests"])), next)))
        });
        assert!(!session.is_refresh_due(clock.now()), "it is being asked");
    }
    let due = async |node: &Arc<Sessions>| {
        let session = node
            .authenticate(cookie.as_bytes(), presence)
            .await
            .unwrap();
        let federated = session.private().federated.clone().unwrap();
        (
            federated.refresh.unwrap().due,
            session.identity().unwrap().groups.clone(),
        )
    };
    Box::pin(eventually(
        "all but one have seen that somebody asks",
        async || {
            let mut seen = 0;
            for node in &nodes {
                seen += usize::from(due(node).await.0 > NOW.after(LIFETIME));
            }
            seen == NODES - 1 && asked.load(Ordering::SeqCst) == 1
        },
    ))
    .await;
    go.add_permits(NODES);
    Box::pin(eventually(
        "the answer is known to all who look",
        async || due(&node(&store, &clock)).await.1 == ["guests"],
    ))
    .await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
