//! The users file while the program runs: who is added can log in at once, and a file with an error changes nothing, is told
//! of in the log, and is read again when it is mended.

use std::fs;
use std::path::Path;

use crate::support::{PASSWORD, Process, Reply, add_user, eventually, proxy, upstream};

/// Another file takes its place, as editors have it.
fn replace(path: &Path, text: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

fn start(folder: &Path) -> Process {
    Process::start(folder, &["run", "--config", "doorward.toml"])
}

async fn is_told(process: &Process, cause: &str) {
    eventually("the log says what is wrong, and where", async || {
        process.words().lines().any(|line| {
            let is_told = line.contains("the users file cannot be used");
            is_told && line.contains("users.toml") && line.contains(cause)
        })
    })
    .await;
}

#[tokio::test]
async fn a_users_file_with_an_error_changes_nothing_until_it_is_mended() {
    let app = upstream(|_| Reply::ok("hello")).await;
    let folder = proxy().app(&app.url()).prepare();
    let path = folder.path().join("users.toml");
    let mut process = start(folder.path());
    let fresh = process.browser().await;
    let (mut alice, mut bob) = (fresh.clone(), fresh.clone());
    alice.log_in("alice").await;
    bob.log_in("bob").await;

    let good = fs::read_to_string(&path).unwrap();
    let only_alice = good.split_once("name = \"bob\"").unwrap().0.to_owned();
    let secret = "[[user]]\nname = \"carol\"\npassword = \"in-plain-text-4711\"\n";
    for (broken, cause) in [
        (format!("{only_alice}nam = \"bob\"\n"), "users.toml:"),
        (format!("{good}\n{secret}"), "argon2id"),
        (format!("{good}{good}"), "alice"),
        ("[[user]".to_owned(), "users.toml:1:"),
        (format!("{good}\0"), "users.toml:"),
    ] {
        replace(&path, broken.as_bytes());
        // A login looks at the file.
        for user in ["alice", "bob"] {
            fresh.clone().log_in(user).await;
        }
        let login = "/.doorward/login";
        let stranger = fresh.clone().log_in_at(login, "carol", PASSWORD).await;
        assert_eq!(stranger.status, 401, "{cause}");
        is_told(&process, cause).await;
        assert_eq!(alice.fetch("/").await.status, 200, "{cause}");
        assert_eq!(bob.fetch("/").await.status, 200, "{cause}");
    }
    assert!(!process.words().contains("4711"), "{}", process.words());

    replace(&path, good.as_bytes());
    add_user(&path, "carol", &["staff"]);
    fresh.clone().log_in("carol").await;
    assert_eq!(alice.fetch("/").await.status, 200);
    assert_eq!(bob.fetch("/").await.status, 200);
}

#[tokio::test]
async fn with_a_users_file_that_was_never_good_nobody_logs_in_and_all_else_works() {
    let app = upstream(|_| Reply::ok("hello")).await;
    let folder = proxy()
        .route("/open", &app.url(), "access = \"public\"")
        .app(&app.url())
        .prepare();
    let path = folder.path().join("users.toml");
    let good = fs::read(&path).unwrap();
    replace(&path, b"[[user]]\nname = 3\n");
    let mut process = start(folder.path());
    let mut browser = process.browser().await;
    is_told(&process, "users.toml:2:8").await;
    assert_eq!(browser.open("/open").await.text(), "hello");
    let place = "/.doorward/login";
    let answer = browser.log_in_at(place, "alice", PASSWORD).await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("does not work at the moment"));
    assert_eq!(browser.token(), "");
    replace(&path, &good);
    browser.log_in("alice").await;
    assert_eq!(browser.open("/").await.text(), "hello");
}
