//! What is written down about a request, held against what the client was told.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Proxy, Reply, proxy, upstream};

const JSON: &str = "access = \"access.log\"\naccess_format = \"json\"";

#[tokio::test]
async fn the_id_that_a_client_is_told_is_the_one_in_the_log() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy()
        .app(&app.url())
        .route("/down", "unix:nobody.sock", "access = \"public\"")
        .with("log", JSON)
        .start();
    let mut browser = proxy.browser();
    for (path, status) in [("/page?secret=1", 401), ("/down", 502)] {
        let answer = browser.fetch(path).await;
        assert_eq!(answer.status, status);
        let line = logged(&proxy, status).await;
        assert_eq!(line["request_id"], answer.json()["request_id"], "{path}");
        assert_eq!(line["path"], path.trim_end_matches("?secret=1"));
    }
}

/// The one line with this status, once it is there.
async fn logged(proxy: &Proxy, status: u16) -> Value {
    for _ in 0..2000 {
        let text = std::fs::read_to_string(proxy.path("access.log")).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let mut found: Vec<Value> = lines
            .filter(|line: &Value| line["status"] == status)
            .collect();
        if let Some(line) = found.pop() {
            assert!(found.is_empty(), "{text}");
            return line;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no line with status {status}");
}
