//! Sessions seen and ended: by administrators over the admin API and the command line, by people on their own page.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::support::{
    Answer, Browser, Kept, Process, Proxy, Recorded, Reply, Upstream, Wire, doorward, eventually,
    proxy, upstream,
};

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0";
const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                      Version/17.6 Mobile/15E148 Safari/604.1";
const TOKEN: &str = "an-admin-token-of-more-than-32-bytes";
const RUN: &[&str] = &["run", "--config", "doorward.toml"];
const PAGE: &str = "/.doorward/sessions";

#[tokio::test]
async fn an_administrator_sees_who_is_logged_in_and_no_credential() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut alice = logged_in(&proxy, "alice", FIREFOX).await;
    proxy.clock.advance(Duration::from_mins(10));
    let bob = logged_in(&proxy, "bob", "curl/8.9").await;
    proxy.clock.advance(Duration::from_mins(5));
    assert_eq!(alice.fetch("/").await.status, 200);

    let list = ask(&proxy, "GET", "/sessions").await;
    assert_eq!(list.status, 200);
    assert_eq!(list.header("cache-control"), "no-store");
    let list = list.json();
    assert_eq!(list["next"], Value::Null);
    let sessions = list["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    let expected = json!({
        "sid": sid(&mut alice).await,
        "user": "alice",
        "provider": "local",
        "subject": "alice",
        "created": "2027-01-15T08:00:00.000Z",
        // Seen by this node, and not yet by the store.
        "last_seen": "2027-01-15T08:15:00.000Z",
        "ends": "2027-01-15T08:45:00.000Z",
        "expires": "2027-01-15T20:00:00.000Z",
        "state": "active",
        "address": "127.0.0.1",
        "user_agent": FIREFOX,
        "device": "Firefox on Linux",
        "readable": true,
    });
    assert_eq!(sessions[0], expected);
    assert_eq!(
        (&sessions[1]["user"], &sessions[1]["device"]),
        (&json!("bob"), &json!("curl"))
    );
    let one = ask(
        &proxy,
        "GET",
        &format!("/sessions/{}", expected["sid"].as_str().unwrap()),
    )
    .await;
    assert_eq!(one.json(), expected);
    for browser in [&alice, &bob] {
        let told = list.to_string();
        assert!(!told.contains(browser.token()));
    }
    // Looking is not using.
    proxy.clock.advance(Duration::from_mins(29));
    ask(&proxy, "GET", "/sessions").await;
    proxy.clock.advance(Duration::from_secs(61));
    assert_eq!(alice.fetch("/").await.status, 401);
}

#[tokio::test]
async fn a_list_is_filtered_and_comes_in_pages_that_lose_nobody() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut sids = Vec::new();
    for user in ["alice", "bob", "alice", "bob", "alice"] {
        let mut browser = logged_in(&proxy, user, FIREFOX).await;
        sids.push(sid(&mut browser).await);
        proxy.clock.advance(Duration::from_mins(1));
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), Some(String::new()), 0);
    while let Some(from) = cursor {
        let page = ask(&proxy, "GET", &format!("/sessions?limit=2{from}"))
            .await
            .json();
        let part = page["sessions"].as_array().unwrap();
        assert!(part.len() <= 2);
        seen.extend(
            part.iter()
                .map(|one| one["sid"].as_str().unwrap().to_owned()),
        );
        cursor = page["next"].as_str().map(|next| format!("&cursor={next}"));
        pages += 1;
    }
    assert_eq!(pages, 3);
    assert_eq!(seen, sids, "all of them, each once, the oldest first");

    let count = async |query: &str| {
        let list = ask(&proxy, "GET", &format!("/sessions?{query}")).await;
        assert_eq!(list.status, 200, "{}", list.text());
        list.json()["sessions"].as_array().unwrap().len()
    };
    assert_eq!(count("user=alice").await, 3);
    assert_eq!(count("user=alice&limit=2").await, 2);
    assert_eq!(count("user=carol").await, 0);
    assert_eq!(count("user=Alice").await, 0);
    assert_eq!(count("provider=local&user=bob").await, 2);
    assert_eq!(count("provider=other").await, 0);
    assert_eq!(
        count("older_than=240").await,
        2,
        "five and four minutes old"
    );
    assert_eq!(count("state=ended").await, 0);
    // The first two are idle for too long by now.
    proxy.clock.advance(Duration::from_secs(26 * 60 + 30));
    assert_eq!(count("state=ended").await, 2);
    assert_eq!(count("").await, 3, "a list is of sessions that live");
    assert_eq!(count("state=all").await, 5);
    for (query, told) in [
        ("limit=0", "limit"),
        ("state=x", "state"),
        ("cursor=x", "cursor"),
        ("usr=alice", "usr"),
    ] {
        let refused = ask(&proxy, "GET", &format!("/sessions?{query}")).await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.header("content-type"), "application/problem+json");
        let problem = refused.json();
        assert_eq!(problem["status"], 400);
        assert!(
            problem["detail"].as_str().unwrap().contains(told),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn over_tcp_the_api_is_not_there_without_a_token_and_closed_without_the_right_one() {
    let app = app().await;
    let closed = proxy().app(&app.url()).start();
    let answer = over_tcp(&closed, "GET", "/api/v1/sessions", "").await;
    assert_eq!(answer.status, 404);
    let answer = over_tcp(&closed, "GET", "/api/v1/sessions", &bearer(TOKEN)).await;
    assert_eq!(answer.status, 404);

    let prepared = proxy()
        .app(&app.url())
        .with("server", "admin_token = { file = \"admin.token\" }");
    let folder = prepared.prepare();
    private(&folder.path().join("admin.token"), &format!("{TOKEN}\n"));
    let clock = closed.clock.clone();
    let proxy = prepared.after(folder, clock).start();
    let mut alice = logged_in(&proxy, "alice", FIREFOX).await;
    let one = format!("/api/v1/sessions/{}", sid(&mut alice).await);
    let all = "/api/v1/users/local/alice/sessions";
    let near = [&TOKEN[1..], &TOKEN[..TOKEN.len() - 1], "", "x"];
    let mut refusals = vec![String::new(), format!("authorization: Basic {TOKEN}\r\n")];
    refusals.extend(near.iter().map(|token| bearer(token)));
    refusals.push(bearer(TOKEN) + &bearer(TOKEN));
    refusals.push(format!("cookie: __Host-sid={}\r\n", alice.token()));
    for fields in &refusals {
        for (method, target) in [
            ("GET", "/api/v1/sessions"),
            ("DELETE", &one),
            ("DELETE", all),
        ] {
            let answer = over_tcp(&proxy, method, target, fields).await;
            assert_eq!(answer.status, 401, "{method} {target} {fields}");
            assert_eq!(
                answer.header("www-authenticate"),
                "Bearer realm=\"doorward\""
            );
            assert_eq!(answer.header("content-type"), "application/problem+json");
        }
    }
    let count = refusals.len() * 3;
    proxy.audited_times("admin_refused", count).await;
    assert_eq!(alice.fetch("/").await.status, 200, "nothing was ended");
    let foreign = format!("host: evil.example\r\n{}", bearer(TOKEN));
    let answer = exchange(
        TcpStream::connect(proxy.admin).await.unwrap(),
        &format!("GET /api/v1/sessions HTTP/1.1\r\n{foreign}\r\n"),
    )
    .await;
    assert_eq!(answer.status, 421, "a page that was talked into asking");

    let list = over_tcp(&proxy, "GET", "/api/v1/sessions", &bearer(TOKEN)).await;
    assert_eq!(list.status, 200);
    assert_eq!(list.json()["sessions"][0]["user"], "alice");
    for open in ["/metrics", "/health/live", "/health/ready"] {
        let answer = over_tcp(&proxy, "GET", open, "").await;
        assert_eq!(answer.status, 200, "{open}");
    }
    let revoked = over_tcp(&proxy, "DELETE", &one, &bearer(TOKEN)).await;
    assert_eq!(
        (revoked.status.as_u16(), revoked.text().as_str()),
        (204, "")
    );
    assert_eq!(alice.fetch("/").await.status, 401);
    let event = proxy.audited("sessions_revoked").await;
    assert_eq!(event["address"], "127.0.0.1");
    let log = std::fs::read_to_string(proxy.path("audit.log")).unwrap();
    assert!(!log.contains(TOKEN) && !log.contains(&TOKEN[1..]), "{log}");
}

#[tokio::test]
async fn a_session_that_is_revoked_ends_before_the_answer_with_all_that_is_open() {
    let app = upstream(|request: &Recorded| match request.all("upgrade")[..] {
        [_] => Reply::Echo(
            b"HTTP/1.1 101 X\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n".to_vec(),
        ),
        _ => Reply::ok("hello"),
    })
    .await;
    let proxy = proxy().app(&app.url()).start();
    let mut alice = logged_in(&proxy, "alice", FIREFOX).await;
    let mut elsewhere = logged_in(&proxy, "alice", IPHONE).await;
    let cookie = format!("__Host-sid={}", alice.token());
    let mut kept = Kept::http2(proxy.addr, "localhost").await;
    assert_eq!(kept.get("/", &[&cookie]).await.status, 200);
    let mut socket = proxy.raw().await;
    socket
        .send(format!(
            "GET /ws HTTP/1.1\r\nhost: localhost:{}\r\norigin: https://localhost:{}\r\nconnection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\
             cookie: {cookie}\r\n\r\n",
            proxy.addr.port(),
            proxy.addr.port(),
        ))
        .await;
    let head = socket.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");

    let one = format!("/sessions/{}", sid(&mut alice).await);
    let answer = ask(&proxy, "DELETE", &one).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (204, ""));
    assert_eq!(answer.header("content-type"), "");
    assert_eq!(kept.get("/", &[&cookie]).await.status, 401);
    assert_eq!(alice.fetch("/").await.status, 401);
    socket.rest().await;
    assert_eq!(elsewhere.fetch("/").await.status, 200, "only that one");

    for method in ["GET", "DELETE"] {
        let answer = ask(&proxy, method, &one).await;
        assert_eq!(answer.status, 404, "{method}");
        assert_eq!(answer.json()["detail"], "there is no such session");
    }
    let ended = proxy.audited_times("session_ended", 1).await;
    assert_eq!(ended[0]["reason"], "revoked");
    let told = proxy.audited_times("sessions_revoked", 1).await;
    assert_eq!(told[0]["sid"], ended[0]["sid"]);
    assert_eq!(told[0]["uid"], uid(), "who it was on this machine");
    let counted = "doorward_session_ends_total{reason=\"revoked\"}";
    assert_eq!(proxy.metric(counted).await, 1);
}

#[tokio::test]
async fn all_sessions_of_a_user_end_at_once_and_nobody_elses() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut alices = Vec::new();
    for _ in 0..3 {
        alices.push(logged_in(&proxy, "alice", FIREFOX).await);
    }
    let mut bob = logged_in(&proxy, "bob", FIREFOX).await;
    for target in ["/users/local/carol/sessions", "/users/other/alice/sessions"] {
        let answer = ask(&proxy, "DELETE", target).await;
        assert_eq!(answer.json(), json!({ "ended": 0 }), "{target}");
    }
    let answer = ask(&proxy, "DELETE", "/users/local/alice/sessions").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), json!({ "ended": 3 }));
    for alice in &mut alices {
        assert_eq!(alice.fetch("/").await.status, 401);
    }
    assert_eq!(bob.fetch("/").await.status, 200);
    let told = proxy.audited_times("sessions_revoked", 3).await;
    let last = told.last().unwrap();
    assert_eq!(
        (&last["subject"], &last["ended"]),
        (&json!("alice"), &json!(3))
    );
    for (method, target, status, allow) in [
        ("POST", "/sessions", 405, "GET, HEAD"),
        ("GET", "/users/local/alice/sessions", 405, "DELETE"),
        ("DELETE", "/users/local/alice", 404, ""),
        ("GET", "/sessions/alice", 404, ""),
        ("GET", "/", 404, ""),
    ] {
        let answer = ask(&proxy, method, target).await;
        assert_eq!(answer.status, status, "{method} {target}");
        assert_eq!(answer.header("allow"), allow, "{method} {target}");
    }
}

#[tokio::test]
async fn a_session_under_a_secret_that_is_lost_is_listed_as_such_and_can_be_ended() {
    let app = app().await;
    let first = proxy().app(&app.url()).embedded().start();
    logged_in(&first, "alice", FIREFOX).await;
    let (folder, clock) = first.stop().await;
    clock.advance(Duration::from_mins(1));
    private(&folder.path().join("session.key"), &"7c".repeat(32));
    let proxy = proxy()
        .app(&app.url())
        .embedded()
        .after(folder, clock)
        .start();
    logged_in(&proxy, "bob", FIREFOX).await;
    let list = exchange(
        UnixStream::connect(proxy.path("data/doorward.sock"))
            .await
            .unwrap(),
        "GET /api/v1/sessions HTTP/1.1\r\nhost: localhost\r\n\r\n",
    )
    .await;
    assert_eq!(list.status, 200);
    let list = list.json();
    let sealed = &list["sessions"][0];
    assert_eq!(sealed["readable"], false);
    assert_eq!(
        (&sealed["user"], &sealed["device"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(sealed["state"], "active");
    assert_eq!(list["sessions"][1]["user"], "bob");
    let sid = sealed["sid"].as_str().unwrap();
    let ended = exchange(
        UnixStream::connect(proxy.path("data/doorward.sock"))
            .await
            .unwrap(),
        &format!("DELETE /api/v1/sessions/{sid} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    )
    .await;
    assert_eq!(ended.status, 204);
    assert_eq!(proxy.sessions().stored().await.unwrap(), 1);
}

#[tokio::test]
async fn the_socket_is_for_its_owner_alone_and_goes_when_doorward_does() {
    let app = app().await;
    let first = proxy().app(&app.url()).start();
    let socket = first.path("doorward.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for open in ["/health/live", "/metrics"] {
        let request = format!("GET {open} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let answer = exchange(UnixStream::connect(&socket).await.unwrap(), &request).await;
        assert_eq!(answer.status, 200, "{open}");
    }
    let (folder, clock) = first.stop().await;
    assert!(!socket.exists());
    // What a process that was killed left behind is no obstacle.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let second = proxy().app(&app.url()).after(folder, clock).start();
    UnixStream::connect(&socket).await.unwrap();
    let (folder, clock) = second.stop().await;
    let off = proxy()
        .app(&app.url())
        .with("server", "admin_socket = \"off\"");
    let third = off.after(folder, clock).start();
    assert!(!socket.exists());
    drop(third);
}

/// A folder with a configuration, and what `doorward session` does in it.
struct Machine {
    folder: Arc<TempDir>,
    _app: Upstream,
}

impl Machine {
    async fn new() -> Self {
        let app = app().await;
        let folder = proxy().app(&app.url()).embedded().prepare();
        Self { folder, _app: app }
    }

    async fn start(&self) -> Process {
        let mut process = Process::start(self.folder.path(), RUN);
        process.said("admin API for commands").await;
        process
    }

    /// Exit code, standard output, standard error.
    fn run(&self, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
        let all = [arguments, &["--config", "doorward.toml"]].concat();
        let output = doorward(self.folder.path(), &all, input);
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text, error)
    }

    fn session(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        self.run(&[&["session"], arguments].concat(), "")
    }

    /// Alice twice, then Bob twice.
    async fn logged_in(&self, process: &mut Process) -> Vec<Browser> {
        let addr = process.addr().await;
        let mut browsers = Vec::new();
        for (user, agent) in [
            ("alice", FIREFOX),
            ("alice", IPHONE),
            ("bob", "curl/8"),
            ("bob", FIREFOX),
        ] {
            let mut browser = Browser::new(addr);
            browser
                .fields
                .push(("user-agent".to_owned(), agent.to_owned()));
            browser.log_in(user).await;
            browsers.push(browser);
        }
        browsers
    }
}

#[tokio::test]
async fn the_command_line_says_so_where_no_doorward_runs() {
    let machine = Machine::new().await;
    for command in [&["list"][..], &["revoke", "--user", "alice"]] {
        let (code, text, error) = machine.session(command);
        assert_eq!((code, text.as_str()), (Some(1), ""));
        assert!(error.contains("no Doorward runs here"), "{error}");
        assert!(error.contains("data/doorward.sock"), "{error}");
    }
    let mut process = machine.start().await;
    assert_eq!(
        machine.session(&["list"]).1,
        "There are no such sessions.\n"
    );
    let socket = machine.folder.path().join("data/doorward.sock");
    let elsewhere = doorward(
        std::path::Path::new("/"),
        &["session", "list", "--socket", socket.to_str().unwrap()],
        "",
    );
    assert!(elsewhere.status.success(), "{elsewhere:?}");
    process.kill();
    assert!(socket.exists(), "a killed process clears nothing away");
    let (code, _, error) = machine.session(&["list"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("no Doorward runs here"), "{error}");
    let again = machine.start().await;
    assert_eq!(machine.session(&["list"]).0, Some(0));
    drop(again);
}

#[tokio::test]
async fn the_command_line_lists_the_sessions_of_a_doorward_that_runs() {
    let machine = Machine::new().await;
    let mut process = machine.start().await;
    let _browsers = machine.logged_in(&mut process).await;
    let (code, text, error) = machine.session(&["list"]);
    assert_eq!(code, Some(0), "{error}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(lines[0].starts_with("SID "), "{text}");
    for told in [
        ["alice", "Safari on iPhone"],
        ["alice", "Firefox on Linux"],
        ["bob", "curl"],
    ] {
        let is_it = |line: &&&str| told.iter().all(|word| line.contains(word));
        assert_eq!(lines.iter().filter(is_it).count(), 1, "{told:?} {text}");
    }
    assert_eq!(text.matches("127.0.0.1").count(), 4, "{text}");
    let (_, text, _) = machine.session(&["list", "--user", "bob", "--json"]);
    let bobs: Value = serde_json::from_str(&text).unwrap();
    let bobs = bobs.as_array().unwrap();
    assert_eq!(bobs.len(), 2);
    let none = machine.session(&["list", "--older-than", "1h"]).1;
    assert_eq!(none, "There are no such sessions.\n");
    let (_, text, _) = machine.session(&["list", "--limit", "3"]);
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(text.contains("--limit 0"), "{text}");
    for limit in ["4", "0"] {
        let (_, text, _) = machine.session(&["list", "--limit", limit]);
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(!text.contains("There are more"), "{text}");
    }
    for wrong in [["--state", "dead"], ["--older-than", "soon"]] {
        let command = [&["list"], &wrong[..]].concat();
        assert_eq!(machine.session(&command).0, Some(2), "{wrong:?}");
    }
    let curl = bobs.iter().find(|one| one["device"] == "curl").unwrap();
    let sid = curl["sid"].as_str().unwrap();
    let (code, text, _) = machine.session(&["show", sid]);
    assert_eq!(code, Some(0));
    for told in ["bob", "curl/8", "127.0.0.1", "active", sid] {
        assert!(text.contains(told), "{told:?} is not in {text}");
    }
    let (_, text, _) = machine.session(&["show", sid, "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), *curl);
}

#[tokio::test]
async fn the_command_line_ends_sessions_of_a_doorward_that_runs() {
    let machine = Machine::new().await;
    let mut process = machine.start().await;
    let mut browsers = machine.logged_in(&mut process).await;
    let first = sid(&mut browsers[2]).await;
    assert_eq!(machine.session(&["revoke", &first]).1, "Ended 1 session.\n");
    assert_eq!(browsers[2].fetch("/").await.status, 401);
    assert_eq!(browsers[3].fetch("/").await.status, 200);
    for command in [["show", &first], ["revoke", &first], ["revoke", "alice"]] {
        let (code, _, error) = machine.session(&command);
        assert_eq!(code, Some(1), "{command:?}");
        assert!(error.contains("there is no session"), "{error}");
    }
    assert_eq!(machine.session(&["revoke"]).0, Some(2), "none by accident");
    let (code, text, error) = machine.session(&["revoke", "--user", "alice"]);
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "Ended 2 sessions.\n"),
        "{error}"
    );
    for browser in &mut browsers[..2] {
        assert_eq!(browser.fetch("/").await.status, 401);
    }
    let (_, text, _) = machine.session(&["revoke", "--user", "alice"]);
    assert_eq!(text, "No session was there to end.\n");
    let (_, text, _) = machine.session(&["revoke", "--user", "carol", "--json"]);
    assert_eq!(text, "{\"ended\":0}\n");
    assert_eq!(browsers[3].fetch("/").await.status, 200, "nobody else's");
    let audit = || std::fs::read_to_string(machine.folder.path().join("audit.log")).unwrap();
    let revoked = || audit().matches("\"revoked\"").count();
    process.wait_for(|| (revoked() >= 3).then_some(())).await;
    assert_eq!(revoked(), 3, "{}", audit());
}

#[tokio::test]
async fn a_new_password_and_a_removal_end_what_the_list_shows_of_a_user() {
    let machine = Machine::new().await;
    let mut process = machine.start().await;
    let browsers = machine.logged_in(&mut process).await;
    let listed = |user: &str| {
        let (_, text, error) = machine.session(&["list", "--user", user, "--json"]);
        let list: Value = serde_json::from_str(&text).expect(&error);
        list.as_array().unwrap().len()
    };
    assert_eq!((listed("alice"), listed("bob")), (2, 2));
    let passwd = ["user", "passwd", "alice", "--password-stdin"];
    let (code, _, error) = machine.run(&passwd, "another long password\n");
    assert_eq!(code, Some(0), "{error}");
    eventually("alice has none", async || listed("alice") == 0).await;
    assert_eq!(listed("bob"), 2);
    assert_eq!(machine.run(&["user", "remove", "bob"], "").0, Some(0));
    eventually("bob has none", async || listed("bob") == 0).await;
    for browser in browsers {
        assert_eq!(browser.clone().fetch("/").await.status, 401);
    }
}

#[tokio::test]
async fn a_person_sees_their_own_sessions_and_nobody_elses() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut here = logged_in(&proxy, "alice", FIREFOX).await;
    let mut bob = logged_in(&proxy, "bob", "curl/8").await;
    proxy.clock.advance(Duration::from_mins(3));
    let mut phone = logged_in(&proxy, "alice", IPHONE).await;
    let (own, other, bobs) = (
        sid(&mut here).await,
        sid(&mut phone).await,
        sid(&mut bob).await,
    );
    let page = here.open(PAGE).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("cache-control"), "no-store");
    let html = page.text();
    for told in [
        "Firefox on Linux",
        "Safari on iPhone",
        "127.0.0.1",
        "3 minutes ago",
        "just now",
    ] {
        assert!(html.contains(told), "{told:?} is not in {html}");
    }
    assert!(
        html.contains(&other) && !html.contains(&bobs) && !html.contains("curl"),
        "{html}"
    );
    assert!(!html.contains(&own), "no button ends the one in use");
    let this = html.find("This device").unwrap();
    assert!(
        this < html.find("Safari on iPhone").unwrap(),
        "this one is first"
    );
    assert!(
        here.open("/.doorward/login")
            .await
            .text()
            .contains("sessions\">Where you are")
    );
    for browser in [&here, &phone] {
        assert!(!html.contains(browser.token()));
    }
    // Sessions that have ended are not among them.
    phone.log_out().await;
    let html = here.open(PAGE).await.text();
    assert!(
        !html.contains("Safari on iPhone") && html.contains("nowhere else"),
        "{html}"
    );
    for method in [Method::PUT, Method::DELETE] {
        let answer = here.request(method, PAGE, &[], "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("allow")),
            (405, "GET, HEAD, POST")
        );
    }
    // Looking at it keeps nobody logged in.
    proxy.clock.advance(Duration::from_mins(26));
    assert_eq!(here.open(PAGE).await.status, 200);
    proxy.clock.advance(Duration::from_secs(61));
    assert_eq!(here.fetch("/").await.status, 401);
}

#[tokio::test]
async fn a_person_ends_one_session_or_all_others() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut here = logged_in(&proxy, "alice", FIREFOX).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(logged_in(&proxy, "alice", IPHONE).await);
    }
    let mut bob = logged_in(&proxy, "bob", FIREFOX).await;
    let token = here.open(PAGE).await.field("token");
    let one = sid(&mut others[0]).await;
    let answer = here.submit(PAGE, &[("token", &token), ("end", &one)]).await;
    assert_eq!(answer.status, 303);
    assert_eq!(answer.header("location"), "/.doorward/sessions?done");
    assert_eq!(others[0].fetch("/").await.status, 401, "at once");
    assert_eq!(others[1].fetch("/").await.status, 200);
    let done = here.open(answer.header("location")).await;
    assert!(done.text().contains("role=\"status\""), "{}", done.text());
    let event = proxy.audited("sessions_revoked_by_user").await;
    assert_eq!(
        (&event["user"], &event["ended"]),
        (&json!("alice"), &json!(1))
    );
    assert_eq!(event["sid"].as_str().unwrap(), sid(&mut here).await);
    assert_eq!(
        proxy.audited("session_ended").await["reason"],
        "revoked_by_user"
    );

    let answer = here
        .submit(PAGE, &[("token", &token), ("end", "others")])
        .await;
    assert_eq!(answer.status, 303);
    for other in &mut others {
        assert_eq!(other.fetch("/").await.status, 401);
    }
    assert_eq!(here.fetch("/").await.status, 200, "but not this one");
    assert_eq!(bob.fetch("/").await.status, 200, "and nobody else's");
    let told = proxy.audited_times("sessions_revoked_by_user", 2).await;
    assert_eq!(told[1]["ended"], 2);
    // Its own end is a logout, which takes the cookie along.
    let own = sid(&mut here).await;
    let answer = here.submit(PAGE, &[("token", &token), ("end", &own)]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, "/.doorward/logout")
    );
    assert_eq!(here.fetch("/").await.status, 200);
}

#[tokio::test]
async fn nobody_ends_what_is_not_theirs_and_no_other_site_ends_anything() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut alice = logged_in(&proxy, "alice", FIREFOX).await;
    let mut phone = logged_in(&proxy, "alice", IPHONE).await;
    let mut bob = logged_in(&proxy, "bob", FIREFOX).await;
    let token = alice.open(PAGE).await.field("token");
    let (bobs, other) = (sid(&mut bob).await, sid(&mut phone).await);
    let unknown = "01993d7e-0000-7000-8000-000000000001";
    for end in [bobs.as_str(), unknown, "", "all", "x"] {
        let answer = alice.submit(PAGE, &[("token", &token), ("end", end)]).await;
        assert_eq!(answer.status, 404, "{end:?}");
    }
    let bobs_token = bob.open(PAGE).await.field("token");
    for token in ["", "x", &bobs_token, alice.token().to_owned().as_str()] {
        for end in [other.as_str(), "others"] {
            let answer = alice.submit(PAGE, &[("token", token), ("end", end)]).await;
            assert_eq!(answer.status, 403, "{token:?}");
        }
    }
    let query = format!("{PAGE}?token={token}&end=others");
    assert_eq!(alice.submit(&query, &[]).await.status, 403);
    assert_eq!(alice.open(&query).await.status, 200, "a link ends nothing");
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let body = format!("token={token}&end=others");
    for sign in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("origin", "null"),
    ] {
        let answer = alice
            .request(Method::POST, PAGE, &[kind, sign], &body)
            .await;
        assert_eq!(answer.status, 403, "{sign:?}");
    }
    let refused = proxy.audited_times("cross_site_refused", 3).await;
    assert!(refused.iter().all(|event| event["place"] == "sessions"));
    for browser in [&mut alice, &mut phone, &mut bob] {
        assert_eq!(browser.fetch("/").await.status, 200, "every session lives");
    }
}

#[tokio::test]
async fn who_is_not_logged_in_does_that_first_and_comes_back() {
    let app = app().await;
    let proxy = proxy().app(&app.url()).start();
    let mut browser = proxy.browser();
    let answer = browser.open(PAGE).await;
    assert_eq!(answer.status, 303);
    let login = answer.header("location").to_owned();
    assert_eq!(login, "/.doorward/login?return_to=%2F.doorward%2Fsessions");
    let program = browser.fetch(PAGE).await;
    assert_eq!(program.status, 401);
    assert_eq!(program.json()["authenticated"], false);
    let posted = browser.submit(PAGE, &[("end", "others")]).await;
    assert_eq!(
        (posted.status.as_u16(), posted.header("location")),
        (303, login.as_str())
    );
    let answer = browser
        .log_in_at(PAGE, "alice", crate::support::PASSWORD)
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (303, PAGE)
    );
    assert_eq!(browser.open(PAGE).await.status, 200);
}

async fn app() -> Upstream {
    upstream(|_: &Recorded| Reply::ok("hello")).await
}

async fn logged_in(proxy: &Proxy, user: &str, agent: &str) -> Browser {
    let mut browser = proxy.browser();
    browser
        .fields
        .push(("user-agent".to_owned(), agent.to_owned()));
    browser.log_in(user).await;
    browser
}

async fn sid(browser: &mut Browser) -> String {
    let who = browser.fetch("/.doorward/session").await.json();
    who["sid"].as_str().unwrap().to_owned()
}

/// Over the unix socket, below the API's prefix.
async fn ask(proxy: &Proxy, method: &str, target: &str) -> Answer {
    let socket = UnixStream::connect(proxy.path("doorward.sock"))
        .await
        .unwrap();
    let request = format!("{method} /api/v1{target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    exchange(socket, &request).await
}

async fn over_tcp(proxy: &Proxy, method: &str, target: &str, fields: &str) -> Answer {
    let socket = TcpStream::connect(proxy.admin).await.unwrap();
    let request = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n");
    exchange(socket, &request).await
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(stream: S, request: &str) -> Answer {
    let mut wire = Wire::new(stream);
    wire.send(request).await;
    let answer = String::from_utf8(wire.rest().await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap()[9..12].parse().unwrap();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        let name: http::HeaderName = name.parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    Answer {
        status,
        headers,
        body: body.to_owned().into(),
    }
}

fn private(file: &std::path::Path, text: &str) {
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Who runs this test.
fn uid() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid()
}

/// An app is of the same origin, and a script that somebody smuggled into it would read a form token, or answer for a passkey.
#[tokio::test]
async fn scripts_of_apps_do_not_read_a_persons_own_pages_nor_send_their_forms() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().app(&app.url()).start();
    let mut alice = proxy.browser();
    alice.log_in("alice").await;
    let by_scripts = [
        [("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")],
        [
            ("sec-fetch-mode", "same-origin"),
            ("sec-fetch-dest", "empty"),
        ],
        [("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")],
        [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
        [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "embed")],
    ];
    let by_person = [
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let site = ("sec-fetch-site", "same-origin");
    for place in ["sessions", "password", "passkeys", "two-factor"] {
        let path = format!("/.doorward/{place}");
        let page = alice.request(Method::GET, &path, &by_person, "").await;
        assert_eq!(page.status, 200, "{place}");
        let token = page.field("token");
        let body = format!("token={token}&end=others&do=codes&name=x");
        for [mode, dest] in by_scripts {
            for method in [Method::GET, Method::HEAD, Method::POST] {
                let body = if method == Method::POST { &body } else { "" };
                let fields = [("accept", "*/*"), kind, site, mode, dest];
                let answer = alice.request(method, &path, &fields, body).await;
                assert_eq!(answer.status, 403, "{place} {mode:?} {dest:?}");
                assert!(!answer.text().contains(&token), "{place}");
            }
        }
    }
    let refused = proxy.audited_times("cross_site_refused", 60).await;
    assert!(refused.iter().any(|event| event["place"] == "passkeys"));
    // What apps are to ask, they may.
    assert_eq!(alice.fetch("/.doorward/session").await.status, 200);
}
