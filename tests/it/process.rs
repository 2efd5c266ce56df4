//! The program as it is installed: started, stopped, killed, asked for the wrong thing.

use std::collections::BTreeSet;
use std::io::{Write, stderr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use http::Method;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::support::{
    Answer, Browser, Kept, PASSWORD, Process, Reply, Upstream, doorward, proxy, upstream,
    with_names,
};

const RUN: &[&str] = &["run", "--config", "doorward.toml"];

#[tokio::test]
async fn a_stop_finishes_what_is_under_way_and_begins_nothing_new() {
    let (app, arrived, answer) = slow_app().await;
    let folder = proxy().app(&app).embedded().prepare();
    let mut process = Process::start(folder.path(), RUN);
    let addr = process.addr().await;
    let mut browser = process.browser().await;
    browser.log_in("alice").await;
    let mut slow = browser.clone();
    let under_way = tokio::spawn(async move { slow.fetch("/slow").await });
    let mut idle = Kept::http1(addr, "localhost").await;
    assert_eq!(idle.get("/", &[]).await.status, 401);
    arrived.await.unwrap();
    process.signal("TERM");
    process
        .wait_for_async(async || TcpStream::connect(addr).await.is_err())
        .await;
    assert!(process.is_running(), "it waits for the slow request");
    answer.send(()).unwrap();
    let answer = under_way.await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (200, "slow")
    );
    let status = process.end().await;
    assert_eq!(status.code(), Some(0), "{}", process.words());

    let mut process = Process::start(folder.path(), RUN);
    browser.addr = process.addr().await;
    let told = browser.fetch("/.doorward/session").await.json();
    assert_eq!(told["user"], "alice", "a restart loses no session");
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    let (app, arrived, answer) = slow_app().await;
    let folder = proxy().app(&app).prepare();
    let mut process = Process::start(folder.path(), RUN);
    let addr = process.addr().await;
    let mut browser = process.browser().await;
    browser.log_in("alice").await;
    let token = browser.token().to_owned();
    let under_way = tokio::spawn(async move {
        let mut kept = Kept::http1(addr, "localhost").await;
        let cookie = format!("__Host-sid={token}");
        kept.try_request((Method::GET, "/slow"), &[&cookie], &[], "")
            .await
            .is_some()
    });
    arrived.await.unwrap();
    process.signal("INT");
    process.said("stopping").await;
    process.signal("INT");
    let status = process.end().await;
    assert_eq!(status.code(), Some(0), "{}", process.words());
    assert!(!under_way.await.unwrap(), "what was under way is cut off");
    drop(answer);
}

#[tokio::test]
async fn a_hangup_does_not_end_a_service() {
    let app = app().await;
    let folder = proxy().app(&app.url()).prepare();
    let mut process = Process::start(folder.path(), RUN);
    let mut browser = process.browser().await;
    process.signal("HUP");
    process.said("SIGHUP reloads nothing").await;
    browser.log_in("alice").await;
    process.signal("TERM");
    let status = process.end().await;
    assert_eq!(status.code(), Some(0), "{}", process.words());
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let folder = proxy().app("http://127.0.0.1:9").prepare();
    let run = |arguments: &[&str]| {
        let output = doorward(folder.path(), arguments, "");
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let check = &["check", "--config", "doorward.toml"];
    let (code, out, err) = run(check);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(out, "doorward.toml: good, 1 route to 1 app\n");
    let (code, out, _) = run(&["--version"]);
    let version = concat!("doorward ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!((code, out.as_str()), (Some(0), version));
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(out.contains("doorward demo"), "{out}");

    let (code, _, err) = run(&["check", "--config", "none.toml"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("none.toml"), "{err}");
    let file = folder.path().join("doorward.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, good.replace("[store]", "[store]\nbakend = 1")).unwrap();
    for command in ["check", "run"] {
        let (code, out, err) = run(&[command, "--config", "doorward.toml"]);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(err.contains("bakend") && err.contains("backend"), "{err}");
        assert!(err.contains("doorward.toml:"), "{err}");
    }
    for misuse in [&["frobnicate"][..], &[], &["run", "--port", "1"]] {
        let (code, out, err) = run(misuse);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{misuse:?}");
        assert!(err.contains("Usage"), "{err}");
    }
}

#[tokio::test]
async fn what_another_process_holds_is_told() {
    let folder = proxy().app("http://127.0.0.1:9").embedded().prepare();
    let mut process = Process::start(folder.path(), RUN);
    let addr = process.addr().await;
    let output = doorward(folder.path(), RUN, "");
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("another process has the file open"), "{err}");
    let file = folder.path().join("doorward.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let listen = format!("listen = \"{addr}\"");
    std::fs::write(&file, text.replacen("listen = \"127.0.0.1:0\"", &listen, 1)).unwrap();
    let output = doorward(folder.path(), RUN, "");
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains(&format!("cannot listen on {addr}")), "{err}");
    assert!(process.is_running());
}

#[test]
fn the_check_finds_a_key_that_belongs_to_another_certificate() {
    let folder = proxy().app("http://127.0.0.1:9").prepare();
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(folder.path().join("site.key"), other).unwrap();
    let output = doorward(folder.path(), &["check", "--config", "doorward.toml"], "");
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("site.key"), "{err}");
}

#[test]
fn a_damaged_session_file_stops_the_start_and_it_is_said_what_to_do() {
    let folder = proxy().app("http://127.0.0.1:9").embedded().prepare();
    let store = folder.path().join("data").join("sessions.db");
    std::fs::create_dir_all(store.parent().unwrap()).unwrap();
    std::fs::write(&store, "something else\n").unwrap();
    let output = doorward(folder.path(), RUN, "");
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains("sessions.db") && err.contains("move it away"),
        "{err}"
    );
    let kept = std::fs::read_to_string(&store).unwrap();
    assert_eq!(kept, "something else\n", "it is left as it was");
}

#[tokio::test]
async fn the_demo_can_be_logged_in_to_and_remembers_that() {
    let folder = tempfile::tempdir().unwrap();
    let demo = &["demo", "--json", "--port", "0", "--data", "demo"];
    let mut process = Process::start(folder.path(), demo);
    let facts = facts(&mut process).await;
    assert_eq!(facts["user"], "demo");
    let mut browser = demo_browser(&facts);
    let password = facts["password"].as_str().unwrap().to_owned();
    let answer = browser.log_in_at("/", "demo", &password).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    let page = browser.open("/").await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("Demo Visitor"), "{}", page.text());
    assert_eq!(browser.open("/staff").await.status, 403);
    assert_eq!(browser.open("/down").await.status, 502);
    process.signal("INT");
    let status = process.end().await;
    assert_eq!(status.code(), Some(0), "{}", process.words());

    let mut process = Process::start(folder.path(), demo);
    let again = self::facts(&mut process).await;
    assert_eq!(again["password"], facts["password"]);
    assert_eq!(again["ca"], facts["ca"]);
    browser.addr = demo_browser(&again).addr;
    assert_eq!(browser.open("/").await.status, 200, "still logged in");
}

#[tokio::test]
async fn users_come_and_go_without_a_restart() {
    let app = app().await;
    let folder = proxy().app(&app.url()).embedded().prepare();
    let mut process = Process::start(folder.path(), RUN);
    let user = |arguments: &[&str], input: &str| {
        let mut all = vec!["user"];
        all.extend(arguments);
        all.extend(["--config", "doorward.toml"]);
        let output = doorward(folder.path(), &all, input);
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text, error)
    };
    let mut alice = process.browser().await;
    alice.log_in("alice").await;

    let add = [
        "add",
        "carol",
        "--email",
        "carol@example.org",
        "--groups",
        "staff,night",
        "--password-stdin",
    ];
    let (code, _, error) = user(&add, "a long first password\n");
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(user(&add, "a long first password\n").0, Some(1), "twice");
    let mut carol = process.browser().await;
    let answer = carol.log_in_at("/", "carol", "a long first password").await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert_eq!(carol.fetch("/").await.status, 200);
    assert_eq!(app.last().one("remote-groups"), "staff,night");
    let (code, text, _) = user(&["list", "--json"], "");
    let listed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(listed.as_array().unwrap().len(), 3);
    assert!(!text.contains("argon2"), "{text}");

    let passwd = ["passwd", "carol", "--password-stdin"];
    let (code, _, error) = user(&passwd, "a long second password\n");
    assert_eq!(code, Some(0), "{error}");
    until_ended(&mut process, &carol).await;
    let mut carol = process.browser().await;
    let answer = carol.log_in_at("/", "carol", "a long first password").await;
    assert_eq!(answer.status, 401);
    let answer = carol
        .log_in_at("/", "carol", "a long second password")
        .await;
    assert_eq!(answer.status, 303);

    let (code, _, error) = user(&["remove", "carol"], "");
    assert_eq!(code, Some(0), "{error}");
    until_ended(&mut process, &carol).await;
    let mut carol = process.browser().await;
    let answer = carol
        .log_in_at("/", "carol", "a long second password")
        .await;
    assert_eq!(answer.status, 401);
    assert_eq!(user(&["remove", "carol"], "").0, Some(1));
    assert_eq!(
        user(&["add", "dave", "--password-stdin"], "short\n").0,
        Some(1)
    );
    assert_eq!(alice.fetch("/").await.status, 200, "nobody else is touched");
    let audit = || std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    let changes = || audit().matches("user_changed").count();
    process.wait_for(|| (changes() >= 2).then_some(())).await;
    assert_eq!(changes(), 2);
}

#[tokio::test]
async fn nothing_that_is_written_down_lets_anybody_in() {
    for format in ["json", "text"] {
        let app = app().await;
        let log =
            format!("access = \"access.log\"\naccess_format = \"{format}\"\nlevel = \"trace\"");
        let folder = proxy()
            .app(&app.url())
            .embedded()
            .with("log", &log)
            .prepare();
        let mut process = Process::start(folder.path(), RUN);
        let mut browser = process.browser().await;
        let mut secrets = BTreeSet::from([PASSWORD.to_owned(), "wrong horse battery".to_owned()]);
        secrets.insert(browser.follow("/page?return=none").await.field("state"));
        browser
            .log_in_at("/page", "alice", "wrong horse battery")
            .await;
        let secret = browser.jar["__Host-sid-browser"].clone();
        secrets.insert(secret);
        for http2 in [false, true] {
            browser.http2 = http2;
            browser
                .log_in_at("/page?q=s3cr3t-query", "alice", PASSWORD)
                .await;
            secrets.extend(browser.jar.values().cloned());
            assert_eq!(browser.open("/page?q=s3cr3t-query").await.status, 200);
            let before = browser.clone();
            secrets.insert(browser.open("/.doorward/logout").await.field("token"));
            assert_eq!(browser.log_out().await.status, 200);
            let mut old = before;
            assert_eq!(old.fetch("/page").await.status, 401);
        }
        let addr = browser.addr;
        let mut kept = Kept::http1(addr, "localhost").await;
        let tossed = "__Host-sid=fir5t-made-up-value; __Host-sid=sec0nd-made-up-value";
        assert_eq!(kept.get("/page", &[tossed]).await.status, 401);
        assert_eq!(
            kept.get("/page", &["__Host-sid=th1rd-made-up"])
                .await
                .status,
            401
        );
        let basic = [("authorization", "Basic b4sic-made-up-value")];
        kept.request((Method::GET, "/page"), &[], &basic, "").await;
        secrets
            .extend(["s3cr3t-query", "fir5t-", "sec0nd-", "th1rd-", "b4sic-"].map(str::to_owned));
        process.signal("TERM");
        assert_eq!(process.end().await.code(), Some(0));

        assert!(secrets.len() >= 15, "{}", secrets.len());
        for file in ["stdout.txt", "stderr.txt", "access.log", "audit.log"] {
            let text = std::fs::read_to_string(folder.path().join(file)).unwrap();
            for secret in &secrets {
                let spelt =
                    url::form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>();
                assert!(!text.contains(secret.as_str()), "{file} holds {secret}");
                assert!(!text.contains(&spelt), "{file} holds {secret}");
            }
            let expected = match file {
                "stderr.txt" => "serving https",
                "access.log" => "/page",
                "audit.log" => "login_succeeded",
                _ => "",
            };
            assert!(text.contains(expected), "{file}: {text}");
        }
    }
}

#[tokio::test]
async fn what_many_refused_requests_say_is_cut_and_counted_and_hides_nothing_else() {
    const ASKED: usize = 160;
    const LATER: usize = 40;
    let app = upstream(|_| Reply::Stall(Vec::new())).await;
    let public = "access = \"public\"";
    // It has a place for one, who keeps it.
    let busy = format!("{{ url = \"{}\", max_connections = 1 }}", app.url());
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", away.local_addr().unwrap());
    drop(away);
    let folder = proxy()
        .app(&app.url())
        .route_to("/busy", &busy, public)
        .route("/away", &nobody, public)
        .workers(1)
        .prepare();
    let mut process = Process::start(folder.path(), RUN);
    let addr = process.addr().await;
    let mut first = Kept::http1(addr, "localhost").await;
    let held = tokio::spawn(async move { first.get("/busy", &[]).await });
    app.asked(1).await;
    let mut kept = Kept::http1(addr, "localhost").await;
    for _ in 0..ASKED {
        assert_eq!(kept.get("/busy", &[]).await.status, 503);
    }
    assert_eq!(kept.get("/away", &[]).await.status, 502);
    process.said("more of the same was left out count=").await;
    for _ in 0..LATER {
        assert_eq!(kept.get("/busy", &[]).await.status, 503);
    }
    held.abort();
    process.signal("TERM");
    assert_eq!(process.end().await.code(), Some(0));

    let said = process.words();
    let with = |part: &str| -> Vec<&str> {
        let lines = said.lines();
        lines.filter(|line| line.contains(part)).collect()
    };
    let refused = |route: &str| {
        with("a request got no answer request=")
            .into_iter()
            .filter(|line| line.contains(&format!("route=\"localhost{route}\"")))
            .count()
    };
    assert_eq!(refused("/away"), 1, "{said}");
    let written = refused("/busy");
    let left_out: Vec<usize> = with("more of the same was left out count=")
        .into_iter()
        .map(|line| {
            assert!(
                line.contains("of=\"a request got no answer\" route=\"localhost/busy\""),
                "{line}"
            );
            let (_, count) = line.split_once("count=").unwrap();
            count.split(' ').next().unwrap().parse().unwrap()
        })
        .collect();
    assert!((100..ASKED + LATER).contains(&written), "{written}");
    assert_eq!(
        written + left_out.iter().sum::<usize>(),
        ASKED + LATER,
        "{said}"
    );
}

/// As the system asks it: by UDP, at the one address that its file names.
/// One that is asked and says nothing, and how programs are told of it. `None`: port 53 takes root, or this system does not let
/// its users mount, or asks elsewhere.
async fn silent_name_server() -> Option<(UdpSocket, &'static str)> {
    let silent = UdpSocket::bind("127.0.5.3:53").await.ok()?;
    let names = "nameserver 127.0.5.3\noptions timeout:30 attempts:1\n";
    let folder = tempfile::tempdir().unwrap();
    let mut lookup = Command::new("getent");
    lookup.args(["ahosts", "known.example"]);
    let mut lookup = with_names(folder.path(), names, &lookup).spawn().ok()?;
    let mut question = [0; 512];
    let asked = timeout(Duration::from_secs(5), silent.recv(&mut question)).await;
    let _gone = lookup.kill();
    lookup.wait().unwrap();
    while silent.try_recv(&mut question).is_ok() {}
    asked.is_ok().then_some((silent, names))
}

#[tokio::test]
async fn a_name_server_that_says_nothing_holds_nothing_else_up() {
    let Some((silent, names)) = silent_name_server().await else {
        // Past what the test runner catches.
        let word = "left out: a name server that says nothing; no program here can be given one\n";
        stderr().write_all(word.as_bytes()).unwrap();
        return;
    };
    let app = app().await;
    let public = "access = \"public\"";
    let lost = format!("{public}\ntimeouts = {{ connect = \"200ms\" }}");
    let folder = proxy()
        .app(&app.url())
        .route("/public", &app.url(), public)
        .route("/lost", "http://app.example", &lost)
        .workers(1)
        .prepare();
    let mut process = Process::start_with_names(folder.path(), names, RUN);
    let addr = process.addr().await;
    let mut kept = Kept::http1(addr, "localhost").await;
    for _ in 0..20 {
        assert_eq!(kept.get("/lost", &[]).await.status, 502);
        assert_eq!(kept.get("/public", &[]).await.status, 200);
    }
    // Both kinds of address at once, of one lookup: all others waited for it.
    let (mut asked, mut question) = (0, [0; 512]);
    while silent.try_recv(&mut question).is_ok() {
        asked += 1;
    }
    assert!((1..=2 * 4).contains(&asked), "{asked}");
    // It asks for half a minute, which is longer than anybody waits here.
    process.signal("TERM");
    assert_eq!(process.end().await.code(), Some(0));
}

#[tokio::test]
async fn a_disk_that_takes_nothing_more_logs_nobody_out_and_lets_nobody_in() {
    let app = app().await;
    let folder = proxy()
        .app(&app.url())
        .route("/public", &app.url(), "access = \"public\"")
        .embedded()
        .prepare();
    let mut process = Process::start(folder.path(), RUN);
    let (mut leaves, mut stays, mut sleeps) = (
        process.browser().await,
        process.browser().await,
        process.browser().await,
    );
    for browser in [&mut leaves, &mut stays, &mut sleeps] {
        browser.log_in("alice").await;
    }
    process.signal("TERM");
    process.end().await;
    let mut process = Process::start_with_limits(folder.path(), RUN);
    let addr = process.addr().await;
    for browser in [&mut leaves, &mut stays, &mut sleeps] {
        browser.addr = addr;
    }
    for browser in [&mut leaves, &mut stays] {
        assert_eq!(browser.fetch("/").await.status, 200);
    }
    let token = leaves.open("/.doorward/logout").await.field("token");
    let unsaved = leaves.clone();
    // The file can neither be written nor, once that has failed, be opened again.
    let (file, aside) = (
        folder.path().join("data/sessions.db"),
        folder.path().join("data/aside.db"),
    );
    process.limit_files("8192");
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir(&file).unwrap();

    let answer = process
        .browser()
        .await
        .log_in_at("/", "alice", PASSWORD)
        .await;
    refused(&answer, "a login");
    let answer = leaves
        .submit("/.doorward/logout", &[("token", &token)])
        .await;
    refused(&answer, "a logout, which is not said to be done");
    let mut ended = unsaved.clone();
    assert_eq!(ended.fetch("/").await.status, 401, "and yet it counts here");
    assert_eq!(stays.fetch("/").await.status, 200, "who is known goes on");
    for path in ["/", "/.doorward/session", "/.doorward/logout"] {
        refused(&sleeps.fetch(path).await, path);
    }
    let answer = sleeps.submit("/.doorward/logout", &[("token", "x")]).await;
    refused(&answer, "a logout of a session that cannot be seen");
    let before = app.requests().len();
    assert_eq!(sleeps.fetch("/public").await.status, 200);
    assert_eq!(app.requests().len(), before + 1);
    assert!(app.last().folded("remote-user").is_empty());
    assert_eq!(sleeps.open("/.doorward/login").await.status, 200);

    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    process.limit_files("unlimited");
    assert_eq!(sleeps.fetch("/").await.status, 200);
    let audit = folder.path().join("audit.log");
    process
        .wait_for(|| {
            let text = std::fs::read_to_string(&audit).unwrap();
            text.contains("\"reason\":\"logout\"").then_some(())
        })
        .await;
    process.kill();
    let mut process = Process::start(folder.path(), RUN);
    let mut ended = unsaved;
    (ended.addr, stays.addr) = (process.addr().await, process.addr().await);
    assert_eq!(
        ended.fetch("/").await.status,
        401,
        "it was stored after all"
    );
    assert_eq!(stays.fetch("/").await.status, 200);
}

async fn app() -> Upstream {
    upstream(|_| Reply::ok("hello")).await
}

fn refused(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 503, "{what}: {}", answer.text());
    assert_eq!(answer.header("retry-after"), "5", "{what}");
    assert!(
        answer.set_cookies().is_empty(),
        "{what}: it keeps its cookie"
    );
}

/// An app that answers its one request when it is told to.
async fn slow_app() -> (String, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (arrived, arrival) = oneshot::channel();
    let (answer, told) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        arrived.send(()).unwrap();
        if told.await.is_ok() {
            let bytes = b"HTTP/1.1 200 X\r\ncontent-length: 4\r\n\r\nslow";
            stream.write_all(bytes).await.unwrap();
        }
    });
    (url, arrival, answer)
}

async fn until_ended(process: &mut Process, browser: &Browser) {
    process
        .wait_for_async(async || browser.clone().fetch("/").await.status == 401)
        .await;
}

async fn facts(process: &mut Process) -> serde_json::Value {
    let file = process.stdout.clone();
    process
        .wait_for(move || {
            let text = std::fs::read_to_string(&file).unwrap();
            serde_json::from_str(text.lines().next()?).ok()
        })
        .await
}

fn demo_browser(facts: &serde_json::Value) -> Browser {
    let url = url::Url::parse(facts["url"].as_str().unwrap()).unwrap();
    assert_eq!(url.host_str(), Some("localhost"));
    let mut browser = Browser::new(([127, 0, 0, 1], url.port().unwrap()).into());
    let ca = Path::new(facts["ca"].as_str().unwrap());
    browser.trusts = Some(CertificateDer::from_pem_file(ca).unwrap());
    browser
}
