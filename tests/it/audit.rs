//! `doorward audit`, as it is run: against files alone, and against a Doorward that runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Process, doorward, proxy};

const AUDIT: &[&str] = &["audit", "--config", "doorward.toml"];

fn audit(folder: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let output = doorward(folder, &[AUDIT, more].concat(), "");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn json(folder: &Path) -> Value {
    let (_, stdout, stderr) = audit(folder, &["--json"]);
    serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"))
}

fn rules(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|one| one["rule"].as_str().unwrap())
        .collect()
}

#[test]
fn the_repositorys_own_file_has_no_high_finding() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    fs::write(&file, include_str!("../../config.toml")).unwrap();
    assert!(doorward(folder.path(), &["cert"], "").status.success());
    let output = doorward(folder.path(), &["audit"], "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains("\nHIGH"), "{text}");
    assert!(
        text.contains("Only files were looked at: no Doorward runs here"),
        "{text}"
    );
    assert!(text.contains("ASVS 5.0 V7: 19 items"), "{text}");
    assert!(
        !folder.path().join("data").exists(),
        "an audit makes nothing"
    );
    // Of a lower severity there is some, and the exit code says so.
    let output = doorward(folder.path(), &["audit", "--min-severity", "low"], "");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_finding_says_where_it_is_set_and_fails_the_command() {
    let folder = proxy()
        .route("/", "http://127.0.0.1:1", "access = \"user\"")
        .prepare();
    let file = folder.path().join("doorward.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("[session]\n", "[session]\nidle_timeout = \"10h\"\n");
    fs::write(&file, &text).unwrap();
    let line = 1 + text
        .lines()
        .position(|line| line.starts_with("idle_timeout"))
        .unwrap();
    let (code, stdout, _) = audit(folder.path(), &[]);
    assert_eq!(code, Some(1), "{stdout}");
    let place = format!("doorward.toml:{line} session.idle_timeout\n    set      10h\n");
    assert!(stdout.contains(&place), "{stdout}");
    let high = stdout.split_once("HIGH (").unwrap().1;
    assert!(high.contains("ASVS 7.3.1"), "{stdout}");

    let report = json(folder.path());
    assert_eq!(report["passed"], false);
    let finding = &report["findings"][0];
    assert_eq!(finding["line"], line);
    assert_eq!(finding["is_set"], true);
}

#[test]
fn a_file_that_others_can_write_is_found_by_its_mode() {
    let folder = proxy()
        .route("/", "http://127.0.0.1:1", "access = \"user\"")
        .prepare();
    assert!(!rules(&json(folder.path())).contains(&"file-writable"));
    let users = folder.path().join("users.toml");
    fs::set_permissions(&users, fs::Permissions::from_mode(0o666)).unwrap();
    let report = json(folder.path());
    let found = rules(&report);
    assert!(
        found.contains(&"file-writable") && found.contains(&"file-readable"),
        "{found:?}"
    );
}

#[tokio::test]
async fn what_runs_is_asked_and_held_against_the_file() {
    let folder = proxy()
        .route("/", "http://127.0.0.1:1", "access = \"user\"")
        .embedded()
        .prepare();
    let mut process = Process::start(folder.path(), &["run", "--config", "doorward.toml"]);
    process.said("admin API for commands").await;
    let mut browser = process.browser().await;
    browser.log_in("alice").await;

    let report = json(folder.path());
    assert_eq!(report["running"]["ready"], true, "{report}");
    assert_eq!(report["running"]["sessions"], 1);
    assert_eq!(report["running"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        report["running"]["fingerprint"],
        report["config"]["fingerprint"]
    );
    assert!(!rules(&report).contains(&"other-configuration-runs"));
    let (_, text, _) = audit(folder.path(), &[]);
    assert!(text.contains("Running: version "), "{text}");

    // The file is changed, and what runs is not: its session has more time than the file gives.
    let file = folder.path().join("doorward.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace(
        "[session]\n",
        "[session]\nidle_timeout = \"5m\"\nabsolute_timeout = \"1h\"\n",
    );
    fs::write(&file, text).unwrap();
    let report = json(folder.path());
    let found = rules(&report);
    assert!(found.contains(&"other-configuration-runs"), "{found:?}");
    assert!(found.contains(&"sessions-outlive-limits"), "{found:?}");
}

#[test]
fn certificates_are_read_and_held_against_the_routes() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |host: &str| {
        let text = include_str!("../../config.toml");
        let text = text.replace("host = \"localhost\"", &format!("host = \"{host}\""));
        fs::write(folder.path().join("doorward.toml"), text).unwrap();
    };
    serve("wiki.example.com");
    let cert = doorward(folder.path(), &["cert", "--config", "doorward.toml"], "");
    assert!(cert.status.success());
    let report = json(folder.path());
    let found = rules(&report);
    assert!(found.contains(&"certificate-local"), "{found:?}");
    assert!(!found.contains(&"host-without-certificate"), "{found:?}");
    serve("other.example.com");
    let report = json(folder.path());
    let of_hosts = |rule: &&str| *rule == "host-without-certificate";
    assert_eq!(
        rules(&report).into_iter().filter(of_hosts).count(),
        1,
        "once for each host"
    );
}

#[tokio::test]
async fn its_state_is_told_over_tcp_to_who_has_the_token_alone() {
    let proxy = proxy()
        .route("/", "http://127.0.0.1:1", "access = \"user\"")
        .with("server", "admin_token = { file = \"session.key\" }")
        .start();
    let token = fs::read_to_string(proxy.path("session.key")).unwrap();
    let ask = async |fields: &str| {
        let mut stream = TcpStream::connect(proxy.admin).await.unwrap();
        let request = format!(
            "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(ask("").await.starts_with("HTTP/1.1 401 "));
    let answer = ask(&format!("Authorization: Bearer {}\r\n", token.trim_end())).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let told: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(told["started"], "2027-01-15T08:00:00.000Z");
    assert_eq!(told["ready"], true);
}

#[test]
fn mistakes_are_told_as_check_tells_them() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("doorward.toml"),
        "[server]\nlisten = 1\n",
    )
    .unwrap();
    let (code, stdout, stderr) = audit(folder.path(), &[]);
    let check = doorward(folder.path(), &["check", "--config", "doorward.toml"], "");
    assert_eq!(code, check.status.code());
    assert_eq!(code, Some(1));
    assert_eq!(stderr, String::from_utf8(check.stderr).unwrap());
    assert_eq!(stdout, "");
    let (code, ..) = audit(folder.path(), &["--min-severity", "terrible"]);
    assert_eq!(code, Some(2));
}

/// The names in JSON are an interface.
#[test]
fn the_form_for_programs_stays() {
    let folder = proxy()
        .route("/", "http://127.0.0.1:1", "access = \"user\"")
        .prepare();
    let report = json(folder.path());
    let names = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
            .join(" ")
    };
    insta::assert_snapshot!(names(&report), @"config counts doorward findings form passed requirements running threshold time");
    insta::assert_snapshot!(names(&report["config"]), @"file fingerprint");
    insta::assert_snapshot!(names(&report["counts"]), @"high low medium");
    insta::assert_snapshot!(names(&report["findings"][0]), @"advised is_set key line requirements rule set severity why");
    insta::assert_snapshot!(names(&report["requirements"][0]), @"asks id level reason rules standing");
    assert_eq!(report["form"], 1);
    assert_eq!(report["running"], Value::Null);
    let standings = report["requirements"].as_array().unwrap();
    for account in standings {
        let standing = account["standing"].as_str().unwrap();
        assert!(["finding", "fulfilled", "not_applicable"].contains(&standing));
        assert_eq!(standing == "finding", account["reason"].is_null());
        assert_eq!(
            standing == "finding",
            !account["rules"].as_array().unwrap().is_empty()
        );
    }
}
