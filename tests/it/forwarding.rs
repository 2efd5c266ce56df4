//! What goes through, and how: bodies are streamed both ways as fast as the slower side goes, messages keep their
//! framing and meaning, connections to apps are kept where they may be and closed where they must be.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::task::JoinSet;

use crate::support::{
    Manual, Proxy, Recorded, Reply, collect, eventually, manual, on_its_way, proxy, soon, upload,
    upstream,
};

const MIB: usize = 1024 * 1024;

const PUBLIC: &str = "access = \"public\"";

fn before(app: &Manual) -> Proxy {
    proxy().route("/", &app.url(), PUBLIC).start()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

fn post(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n")
}

#[tokio::test]
async fn a_download_waits_for_its_client() {
    let size = 2 * on_its_way();
    let app = manual();
    let proxy = before(&app);
    let mut client = proxy.wire().await;
    client.send(get("/")).await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n"))
        .await;
    let piece = vec![b'x'; 256 * 1024];
    let ahead = conn.stuff(&piece, size).await;
    assert!(
        ahead < on_its_way(),
        "{ahead} bytes were taken though nobody read"
    );
    let rest = tokio::spawn(async move {
        conn.pour(&piece, size - ahead).await;
        conn
    });
    client.head().await;
    client.swallow(size, b'x').await;
    let mut conn = rest.await.unwrap();
    client.send(get("/again")).await;
    assert!(conn.head().await.starts_with("GET /again "));
}

#[tokio::test]
async fn a_chunked_download_waits_for_its_client() {
    let size = (2 * on_its_way()).next_multiple_of(64 * 1024);
    let app = manual();
    let proxy = before(&app);
    let mut client = proxy
        .h2(h2::client::Builder::new().initial_window_size(65_535))
        .await;
    let (response, _) = client.send_request(proxy.get("/"), true).unwrap();
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let mut piece = b"10000\r\n".to_vec();
    piece.extend_from_slice(&vec![b'x'; 64 * 1024]);
    piece.extend_from_slice(b"\r\n");
    let whole = piece.len() * (size / (64 * 1024));
    let ahead = conn.stuff(&piece, whole).await;
    assert!(
        ahead < on_its_way(),
        "{ahead} bytes were taken though nobody read"
    );
    let rest = tokio::spawn(async move {
        piece.rotate_left(ahead % (64 * 1024 + 9));
        conn.pour(&piece, whole - ahead).await;
        conn.send("0\r\n\r\n").await;
    });
    let mut body = soon("a response", response).await.unwrap().into_body();
    assert_eq!(collect(&mut body).await.unwrap().len(), size);
    rest.await.unwrap();
}

#[tokio::test]
async fn an_upload_waits_for_its_app() {
    let size = 2 * on_its_way();
    let app = manual();
    let proxy = before(&app);
    let mut client = proxy.wire().await;
    client
        .send(post(&format!("content-length: {size}\r\n")))
        .await;
    let piece = vec![b'x'; 256 * 1024];
    let ahead = client.stuff(&piece, size).await;
    assert!(
        ahead < on_its_way(),
        "{ahead} bytes were taken though nobody read"
    );
    let mut conn = app.accept().await;
    let head = conn.head().await;
    assert!(
        head.contains(&format!("content-length: {size}\r\n")),
        "{head}"
    );
    let rest = tokio::spawn(async move {
        client.pour(&piece, size - ahead).await;
        client
    });
    conn.swallow(size, b'x').await;
    let mut client = rest.await.unwrap();
    conn.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 204 "));
    client.send(get("/again")).await;
    assert!(conn.head().await.starts_with("GET /again "));
}

#[tokio::test]
async fn a_chunked_upload_waits_for_its_app_too() {
    let size = (2 * on_its_way()).next_multiple_of(64 * 1024);
    let app = manual();
    let proxy = before(&app);
    let mut client = proxy.wire().await;
    client.send(post("transfer-encoding: chunked\r\n")).await;
    let mut piece = b"10000\r\n".to_vec();
    piece.extend_from_slice(&vec![b'x'; 64 * 1024]);
    piece.extend_from_slice(b"\r\n");
    let whole = piece.len() * (size / (64 * 1024));
    let ahead = client.stuff(&piece, whole).await;
    assert!(
        ahead < on_its_way(),
        "{ahead} bytes were taken though nobody read"
    );
    let mut conn = app.accept().await;
    assert!(
        conn.head()
            .await
            .contains("\r\ntransfer-encoding: chunked\r\n")
    );
    let rest = tokio::spawn(async move {
        piece.rotate_left(ahead % (64 * 1024 + 9));
        client.pour(&piece, whole - ahead).await;
        client.send("0\r\n\r\n").await;
        client
    });
    let mut got = 0;
    loop {
        let size = String::from_utf8(conn.until(b"\r\n").await).unwrap();
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        conn.swallow(size, b'x').await;
        conn.until(b"\r\n").await;
        got += size;
        if size == 0 {
            break;
        }
    }
    assert_eq!(got, size);
    conn.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await;
    let mut client = rest.await.unwrap();
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_head_request_gets_the_fields_of_a_get_and_no_content() {
    let app = upstream(|request| match request.line() {
        "HEAD /chunked HTTP/1.1" => {
            Reply::Bytes(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".into())
        }
        _ => Reply::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\netag: \"a\"\r\n\r\n".into()),
    })
    .await;
    let proxy = proxy()
        .route("/", &app.url(), PUBLIC)
        .route("/closed", &app.url(), "access = \"user\"")
        .start();
    let mut client = proxy.raw().await;
    let mut h2 = proxy.h2(&h2::client::Builder::new()).await;
    for (path, status, length) in [
        ("/", 200, Some("1234")),
        ("/chunked", 200, None),
        ("/closed", 401, Some("")),
        ("/.doorward/login", 200, Some("")),
        ("/.doorward/nowhere", 404, Some("")),
    ] {
        client
            .send(format!("HEAD {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"))
            .await;
        let head = client.head().await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {head}"
        );
        let stated = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut request = proxy.get(path);
        *request.method_mut() = Method::HEAD;
        let response = h2.send_request(request, true).unwrap().0;
        let response = soon("an answer over h2", response).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert!(
            response.body().is_end_stream(),
            "{path}: END_STREAM comes with the head"
        );
        let over_h2 = response.headers().get("content-length");
        let over_h2 = over_h2.map(|value| value.to_str().unwrap());
        match length {
            None => assert_eq!((stated, over_h2), (None, None), "{path}"),
            Some("") => {
                assert!(stated.unwrap().parse::<u32>().unwrap() > 50, "{path}");
                assert_eq!(stated, over_h2, "{path}");
            }
            Some(_) => assert_eq!((stated, over_h2), (length, length), "{path}"),
        }
    }
    assert_eq!(app.connections(), 1, "and the app's connection is kept");
}

#[tokio::test]
async fn answers_without_content_end_with_their_head() {
    let app = upstream(|request| match request.line() {
        "GET /304 HTTP/1.1" => Reply::Bytes(
            b"HTTP/1.1 304 Not Modified\r\ncontent-length: 77\r\netag: \"a\"\r\n\r\n".into(),
        ),
        "GET /303 HTTP/1.1" => Reply::with(303, "location: /x\r\n", ""),
        _ => Reply::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".into()),
    })
    .await;
    let proxy = proxy()
        .route("/", &app.url(), PUBLIC)
        .route("/closed", &app.url(), "access = \"user\"")
        .start();
    let mut client = proxy.raw().await;
    let mut h2 = proxy.h2(&h2::client::Builder::new()).await;
    for (path, status, length) in [
        ("/204", 204, None),
        ("/304", 304, None),
        ("/303", 303, Some("0")),
        ("/closed", 303, Some("0")),
    ] {
        client
            .send(format!(
                "GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: text/html\r\n\r\n"
            ))
            .await;
        let head = client.head().await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {head}"
        );
        let stated = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(stated, length, "{path}");
        let mut request = proxy.get(path);
        request
            .headers_mut()
            .insert("accept", "text/html".parse().unwrap());
        let response = h2.send_request(request, true).unwrap().0;
        let response = soon("an answer over h2", response).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert!(response.body().is_end_stream(), "{path}");
    }
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn a_client_is_told_to_continue_when_the_app_is_there() {
    let app = manual();
    let proxy = before(&app);
    let mut client = proxy.wire().await;
    client
        .send(post("content-length: 5\r\nexpect: 100-continue\r\n"))
        .await;
    assert!(client.head().await.starts_with("HTTP/1.1 100 "));
    let mut conn = app.accept().await;
    let head = conn.head().await;
    assert!(
        !head.contains("expect"),
        "the promise is ours alone: {head}"
    );
    client.send("hello").await;
    assert_eq!(conn.exact(5).await, b"hello");
    conn.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    assert_eq!(client.exact(2).await, b"ok");
}

#[tokio::test]
async fn a_request_that_is_refused_is_not_asked_for_its_body() {
    let nobody = manual();
    let gone = nobody.url();
    drop(nobody);
    let app = manual();
    let proxy = proxy()
        .route("/", &app.url(), "access = \"user\"")
        .route("/gone", &gone, PUBLIC)
        .route(
            "/small",
            &app.url(),
            "access = \"public\"\nmax_body = \"1KiB\"",
        )
        .start();
    for (path, status) in [
        ("/", 401),
        ("/gone", 502),
        ("/small", 413),
        ("/a//b%00", 400),
    ] {
        let mut client = proxy.wire().await;
        let head = "host: localhost\r\ncontent-length: 5000\r\nexpect: 100-continue\r\n\r\n";
        client.send(format!("POST {path} HTTP/1.1\r\n{head}")).await;
        let head = client.head().await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {head}"
        );
    }
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_cut_off_where_the_limit_is() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy()
        .route("/", &app.url(), "access = \"public\"\nmax_body = \"1KiB\"")
        .start();
    let mut client = proxy.raw().await;
    client.send(post("transfer-encoding: chunked\r\n")).await;
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    client.send(chunk.repeat(3)).await;
    assert_eq!(client.status().await, Some(413));
    eventually("the app sees an end", async || !app.requests().is_empty()).await;
    assert!(app.only().body.ends_with(b"[cut off]"), "and no whole body");
}

#[tokio::test]
async fn early_hints_are_followed_by_the_answer() {
    let app = upstream(|_| {
        Reply::Bytes(
            b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
              HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
                .into(),
        )
    })
    .await;
    let proxy = proxy().route("/", &app.url(), PUBLIC).start();
    for mut browser in [proxy.browser(), proxy.browser().over_http2()] {
        let answer = browser.open("/").await;
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (200, "ok")
        );
    }
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn trailers_go_both_ways_over_http1() {
    let app = upstream(|_| {
        Reply::Bytes(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
              2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n"
                .into(),
        )
    })
    .await;
    let proxy = proxy().route("/", &app.url(), PUBLIC).start();
    let mut client = proxy.raw().await;
    client
        .send(post(
            "transfer-encoding: chunked\r\nte: trailers\r\nconnection: te\r\ntrailer: x-check, remote-user\r\n",
        ))
        .await;
    client
        .send("3\r\nabc\r\n0\r\nx-check: 9\r\nremote-user: root\r\n\r\n")
        .await;
    let head = client.head().await;
    assert!(head.contains("trailer: x-sum\r\n"), "{head}");
    client.read_until(b"2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n").await;
    let request = app.only();
    assert_eq!(request.one("te"), "trailers");
    assert!(
        request
            .body
            .ends_with(b"3\r\nabc\r\n0\r\nx-check: 9\r\n\r\n"),
        "{:?}",
        String::from_utf8_lossy(&request.body)
    );
    client.send(get("/")).await;
    client.head().await;
    assert_eq!(
        app.connections(),
        1,
        "trailers end a message, not a connection"
    );
}

#[tokio::test]
async fn trailers_go_both_ways_over_http2() {
    let app = upstream(|_| {
        Reply::Bytes(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n".into(),
        )
    })
    .await;
    let proxy = proxy().route("/", &app.url(), PUBLIC).start();
    let mut h2 = proxy.h2(&h2::client::Builder::new()).await;
    for _ in 0..3 {
        let mut request = proxy.post("/pkg.Service/Call");
        request
            .headers_mut()
            .insert("te", "trailers".parse().unwrap());
        request
            .headers_mut()
            .insert("trailer", "x-check".parse().unwrap());
        let (response, mut body) = h2.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"abc"), false).unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-check", "9".parse().unwrap());
        trailers.insert("remote-user", "root".parse().unwrap());
        body.send_trailers(trailers).unwrap();
        let mut body = soon("a response", response).await.unwrap().into_body();
        assert_eq!(collect(&mut body).await.unwrap(), b"ok");
        let trailers = soon("trailers", body.trailers()).await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        let request = app.last();
        assert!(
            request
                .body
                .ends_with(b"3\r\nabc\r\n0\r\nx-check: 9\r\n\r\n"),
            "{:?}",
            String::from_utf8_lossy(&request.body)
        );
    }
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn an_app_may_answer_while_it_still_reads() {
    const SIZE: usize = 8 * MIB;
    let app = manual();
    let proxy = before(&app);
    let mut h2 = proxy.h2(&h2::client::Builder::new()).await;
    let (response, mut sending) = h2.send_request(proxy.post("/"), false).unwrap();
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    let mut body = soon("the head, before the upload ends", response)
        .await
        .unwrap()
        .into_body();
    let echoing = tokio::spawn(async move {
        loop {
            let line = conn.until(b"\r\n").await;
            let size =
                usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim_end(), 16).unwrap();
            let mut chunk = line;
            chunk.extend_from_slice(&conn.exact(size + 2).await);
            conn.send(chunk).await;
            if size == 0 {
                return conn.rest().await;
            }
        }
    });
    let uploading = tokio::spawn(async move {
        upload(&mut sending, Bytes::from(vec![b'x'; SIZE]), true).await;
    });
    let echoed = collect(&mut body).await.unwrap();
    assert!(echoed.len() == SIZE && echoed.iter().all(|byte| *byte == b'x'));
    uploading.await.unwrap();
    assert_eq!(soon("the end", echoing).await.unwrap(), b"");
}

#[tokio::test]
async fn the_same_over_http1_line_by_line() {
    let app = manual();
    let proxy = before(&app);
    let mut client = proxy.wire().await;
    client.send(post("content-length: 12\r\n")).await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n")
        .await;
    client.head().await;
    for line in ["one\n", "two\n", "six\n"] {
        client.send(line).await;
        assert_eq!(conn.exact(4).await, line.as_bytes());
        conn.send(line).await;
        assert_eq!(client.exact(4).await, line.as_bytes());
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_upload_ends_is_delivered() {
    let app = manual();
    let proxy = before(&app);
    let mut client = proxy.wire().await;
    client.send(post("content-length: 1000000\r\n")).await;
    client.send("begin").await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")
        .await;
    drop(conn);
    assert!(client.head().await.starts_with("HTTP/1.1 413 "));
    assert_eq!(client.exact(2).await, b"no");
}

#[tokio::test]
async fn who_sends_a_whole_upload_before_listening_hears_why_it_was_refused() {
    const LEN: usize = 8 * 1024 * 1024;
    let app = upstream(|_| Reply::ok("read")).await;
    let proxy = proxy()
        .app(&app.url())
        .route("/public", &app.url(), PUBLIC)
        .route(
            "/small",
            &app.url(),
            "access = \"public\"\nmax_body = \"1KiB\"",
        )
        .start();
    for (path, status) in [("/", 401), ("/nowhere/..", 401), ("/small", 413)] {
        let mut client = proxy.wire().await;
        let head = format!("host: localhost\r\ncontent-length: {LEN}\r\n\r\n");
        client.send(format!("POST {path} HTTP/1.1\r\n{head}")).await;
        client.pour(&vec![b'x'; 65_536], LEN).await;
        let head = client.head().await;
        let answer = format!("HTTP/1.1 {status} ");
        assert!(head.starts_with(&answer), "{path}: {head}");
    }
    let mut client = proxy.wire().await;
    let head = "POST /small HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    client.send(head).await;
    let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 65_536], b"\r\n"].concat();
    client.pour(&chunk, LEN).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
}

#[tokio::test]
async fn an_app_that_has_answered_and_stops_reading_does_not_keep_its_connection() {
    let app = manual();
    let table = format!("{{ url = \"{}\", max_connections = 1 }}", app.url());
    let keys = "access = \"public\"\ntimeouts = { first_byte = \"1500ms\" }";
    let proxy = proxy().route_to("/", &table, keys).start();
    let mut client = proxy.wire().await;
    client.send(post("content-length: 100000000\r\n")).await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await;
    client.head().await;
    client.stuff(&vec![b'x'; 65_536], 100_000_000).await;
    let mut browser = proxy.browser();
    let mut refused = 0;
    let second = async {
        while browser.open("/").await.status == 503 {
            refused += 1;
        }
    };
    tokio::select! {
        () = soon("the place is free again", second) => panic!("nobody has answered"),
        second = app.accept() => drop(second),
    }
    assert!(refused > 0, "until then it was taken");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_with_it() {
    let app = manual();
    let proxy = before(&app);
    // While it waits for an answer.
    let mut client = proxy.wire().await;
    client.send(get("/")).await;
    let mut conn = app.accept().await;
    conn.head().await;
    drop(client);
    assert_eq!(conn.rest().await, b"", "the app sees an end");
    // In the middle of a download.
    let mut client = proxy.wire().await;
    client.send(get("/")).await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nabc")
        .await;
    client.until(b"abc").await;
    drop(client);
    assert_eq!(conn.rest().await, b"");
    // In the middle of an upload.
    let mut client = proxy.wire().await;
    client.send(post("content-length: 1000\r\n") + "abc").await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.exact(3).await;
    drop(client);
    assert_eq!(conn.rest().await, b"");
    // In the middle of an upload that is answered already.
    let mut client = proxy.wire().await;
    client.send(post("content-length: 1000\r\n")).await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nabc")
        .await;
    client.until(b"abc").await;
    drop(client);
    assert_eq!(conn.rest().await, b"");
    eventually("nothing is left", async || {
        proxy.metric("doorward_connections_open").await == 0
    })
    .await;
}

#[tokio::test]
async fn an_app_that_breaks_off_is_not_taken_for_one_that_has_finished() {
    let app = manual();
    let proxy = before(&app);
    for answer in [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabcde",
    ] {
        let mut client = proxy.wire().await;
        client.send(get("/")).await;
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send(answer).await;
        client.until(b"abcde").await;
        drop(conn);
        let rest = String::from_utf8(client.rest().await).unwrap();
        assert!(!rest.contains('0'), "no last chunk: {rest:?}");
        let mut h2 = proxy.h2(&h2::client::Builder::new()).await;
        let response = h2.send_request(proxy.get("/"), true).unwrap().0;
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send(answer).await;
        let mut body = soon("a head", response).await.unwrap().into_body();
        assert_eq!(soon("data", body.data()).await.unwrap().unwrap(), "abcde");
        drop(conn);
        let cut = collect(&mut body).await.unwrap_err();
        assert!(cut.is_reset(), "{cut}");
    }
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let app = manual();
    let proxy = before(&app);
    let mut client = proxy.wire().await;
    client.send(get("/events")).await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    )
    .await;
    client.head().await;
    for n in 0..20 {
        conn.send(format!("9\r\ndata: {n:02}\n\r\n")).await;
        let got = client.until(format!("data: {n:02}\n").as_bytes()).await;
        assert!(got.len() < 30, "and nothing else with it");
    }
    let mut h2 = proxy.h2(&h2::client::Builder::new()).await;
    let response = h2.send_request(proxy.get("/events"), true).unwrap().0;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        .await;
    let mut body = soon("a head", response).await.unwrap().into_body();
    for n in 0..20 {
        let event = format!("data: {n}\n\n");
        conn.send(&event).await;
        let data = soon("an event", body.data()).await.unwrap().unwrap();
        assert_eq!(data, event.as_bytes());
        body.flow_control().release_capacity(data.len()).unwrap();
    }
}

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let app = upstream(|request| match request.line() {
        "GET /chunked HTTP/1.1" => Reply::Bytes(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".into(),
        ),
        _ => Reply::ok("ok"),
    })
    .await;
    let proxy = proxy().route("/", &app.url(), PUBLIC).start();
    for mut browser in [proxy.browser(), proxy.browser().over_http2()] {
        for _ in 0..5 {
            for path in ["/", "/chunked"] {
                assert_eq!(browser.open(path).await.text(), "ok");
            }
            let answer = browser.request(Method::POST, "/", &[], "some text").await;
            assert_eq!(answer.text(), "ok");
            assert_eq!(app.last().body, b"some text");
        }
    }
    // A body whose end comes in a frame of its own.
    let mut h2 = proxy.h2(&h2::client::Builder::new()).await;
    for _ in 0..3 {
        let mut request = proxy.post("/");
        request.headers_mut().insert("content-length", 3.into());
        let (response, mut body) = h2.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"abc"), false).unwrap();
        let requests = app.requests().len();
        eventually("it is complete", async || app.requests().len() > requests).await;
        soon("an answer", response).await.unwrap();
        body.send_data(Bytes::new(), true).unwrap_or(());
    }
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_the_app_closes_is_not_used_again() {
    // Some say that they close it, and then leave that to us.
    for (reply, closes) in [
        (
            &b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"[..],
            false,
        ),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", false),
        (b"HTTP/1.0 200 OK\r\n\r\nok", true),
        (b"HTTP/1.1 200 OK\r\n\r\nok", true),
    ] {
        let app = upstream(move |_| {
            if closes {
                Reply::Close(reply.into())
            } else {
                Reply::Stall(reply.into())
            }
        })
        .await;
        let proxy = proxy().route("/", &app.url(), PUBLIC).start();
        for n in 1..=3 {
            assert_eq!(proxy.browser().open("/").await.text(), "ok");
            assert_eq!(app.connections(), n);
        }
    }
}

#[tokio::test]
async fn a_connection_that_says_something_unasked_is_not_used_again() {
    let app = manual();
    let proxy = before(&app);
    let mut client = proxy.wire().await;
    client.send(get("/")).await;
    let mut conn = app.accept().await;
    conn.head().await;
    // The answer to nothing comes along, to be taken for the next request's.
    conn.send(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    )
    .await;
    client.until(b"\r\n\r\nok").await;
    client.send(get("/next")).await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood")
        .await;
    client.until(b"\r\n\r\ngood").await;
}

#[tokio::test]
async fn a_request_that_an_idle_connection_swallowed_is_sent_again_where_that_is_safe() {
    for (request, again) in [
        (get("/"), true),
        (post("content-length: 0\r\n"), false),
        (post("content-length: 3\r\n") + "abc", false),
    ] {
        let app = manual();
        let proxy = before(&app);
        let mut client = proxy.wire().await;
        client.send(get("/first")).await;
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await;
        client.until(b"\r\n\r\nok").await;
        // Long enough that the app may be about to close it.
        tokio::time::sleep(Duration::from_millis(1_600)).await;
        client.send(&request).await;
        conn.head().await;
        drop(conn);
        if again {
            let mut conn = app.accept().await;
            assert!(conn.head().await.starts_with("GET / "));
            conn.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nagain")
                .await;
            client.until(b"\r\n\r\nagain").await;
        } else {
            assert!(client.head().await.starts_with("HTTP/1.1 502 "));
        }
    }
}

#[tokio::test]
async fn a_request_that_was_answered_is_not_sent_again_whatever_the_answer() {
    let app = manual();
    let proxy = before(&app);
    let mut client = proxy.wire().await;
    client.send(get("/first")).await;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        .await;
    client.until(b"\r\n\r\nok").await;
    // Long enough that the app may be about to close it.
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    client.send(get("/second")).await;
    assert!(conn.head().await.starts_with("GET /second "));
    conn.send("SSH-2.0-OpenSSH_9.6\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 502 "));
    // What comes next over a connection of its own is the next request.
    client.send(get("/third")).await;
    let mut conn = app.accept().await;
    assert!(conn.head().await.starts_with("GET /third "));
}

#[tokio::test]
async fn what_no_client_may_get_is_a_bad_gateway() {
    let huge = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-huge: {}\r\n\r\n",
        "x".repeat(70_000)
    );
    let many = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{}\r\n",
        "x-a: b\r\n".repeat(200)
    );
    for (what, reply) in [
        (
            "a protocol nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        ),
        ("a head that is too long", &huge),
        ("too many fields", &many),
        ("no HTTP", "SSH-2.0-OpenSSH_9.6\r\n"),
        (
            "two lengths",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nokk",
        ),
        (
            "a length that is none",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        ),
        (
            "a folded field",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-a: b\r\n c\r\n\r\n",
        ),
        ("an end at once", ""),
        ("half a head", "HTTP/1.1 200 OK\r\ncontent-le"),
    ] {
        let reply = reply.to_owned();
        let app = upstream(move |_| Reply::Close(reply.clone().into())).await;
        let proxy = proxy().route("/", &app.url(), PUBLIC).start();
        for mut browser in [proxy.browser(), proxy.browser().over_http2()] {
            let answer = browser.open("/").await;
            assert_eq!(answer.status, 502, "{what}");
            assert_eq!(answer.header("upgrade"), "", "{what}");
        }
    }
}

#[tokio::test]
async fn a_length_beside_chunks_does_not_reach_the_client() {
    let app = upstream(|_| {
        Reply::Bytes(
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\n\r\n"
                .into(),
        )
    })
    .await;
    let proxy = proxy().route("/", &app.url(), PUBLIC).start();
    for mut browser in [proxy.browser(), proxy.browser().over_http2()] {
        let answer = browser.open("/").await;
        assert_eq!(answer.header("content-length"), "");
        assert_eq!(answer.text(), "four");
    }
}

#[tokio::test]
async fn a_status_that_nobody_knows_is_passed_on() {
    let app = upstream(|_| Reply::with(999, "", "what?")).await;
    let proxy = proxy().route("/", &app.url(), PUBLIC).start();
    for mut browser in [proxy.browser(), proxy.browser().over_http2()] {
        let answer = browser.open("/").await;
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (999, "what?")
        );
    }
}

#[tokio::test]
async fn an_app_that_says_nothing_is_given_up() {
    let app = upstream(|request| match request.line() {
        "GET /half HTTP/1.1" => {
            Reply::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".into())
        }
        _ => Reply::Stall(Vec::new()),
    })
    .await;
    let keys = "access = \"public\"\ntimeouts = { first_byte = \"1s\", idle = \"1s\" }";
    let proxy = proxy().route("/", &app.url(), keys).start();
    let mut client = proxy.raw().await;
    client.send(get("/")).await;
    assert_eq!(client.status().await, Some(504));
    let mut client = proxy.raw().await;
    client.send(post("content-length: 3\r\n") + "abc").await;
    assert_eq!(client.status().await, Some(504));
    let mut client = proxy.raw().await;
    client.send(get("/half")).await;
    let all = String::from_utf8(client.rest().await).unwrap();
    assert!(
        all.ends_with("\r\n\r\nabc"),
        "what came is delivered, then it is cut off: {all}"
    );
    assert_eq!(
        proxy
            .metric("doorward_upstream_errors_total{kind=\"timeout\"}")
            .await,
        2
    );
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_of_its_body_is_given_up() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy()
        .route("/", &app.url(), PUBLIC)
        .with("limits", "body_idle_timeout = \"500ms\"")
        .start();
    let mut client = proxy.raw().await;
    client.send(post("content-length: 10\r\n") + "abc").await;
    assert_eq!(client.status().await, Some(408));
    eventually("the app sees an end", async || !app.requests().is_empty()).await;
    assert_eq!(app.only().body, b"abc[cut off]");
}

#[tokio::test]
async fn an_app_can_be_behind_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let proxy = proxy()
        .route("/", &format!("unix:{}", path.display()), PUBLIC)
        .start();
    let asking = tokio::spawn({
        let mut browser = proxy.browser();
        async move {
            [
                browser.open("/one").await.text(),
                browser.open("/two").await.text(),
            ]
        }
    });
    let (stream, _) = soon("a connection", listener.accept()).await.unwrap();
    let mut conn = crate::support::Wire::new(stream);
    for path in ["/one", "/two"] {
        assert!(
            conn.head()
                .await
                .starts_with(&format!("GET {path} HTTP/1.1\r\n"))
        );
        conn.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await;
    }
    assert_eq!(asking.await.unwrap(), ["ok", "ok"]);
}

#[tokio::test]
async fn two_hundred_requests_at_once_all_get_their_own_answer() {
    let app = upstream(|request: &Recorded| Reply::ok(request.line())).await;
    let proxy = proxy().route("/", &app.url(), PUBLIC).workers(2).start();
    let h2 = proxy.h2(&h2::client::Builder::new()).await;
    let mut all = JoinSet::new();
    for n in 0..100 {
        let mut client = proxy.raw().await;
        all.spawn(async move {
            client.send(get(&format!("/a{n}"))).await;
            client
                .read_until(format!("\r\n\r\nGET /a{n} HTTP/1.1").as_bytes())
                .await;
        });
        let (mut h2, request) = (h2.clone(), proxy.get(&format!("/b{n}")));
        all.spawn(async move {
            let response = h2.send_request(request, true).unwrap().0;
            let mut body = soon("an answer", response).await.unwrap().into_body();
            let body = collect(&mut body).await.unwrap();
            assert_eq!(body, format!("GET /b{n} HTTP/1.1").as_bytes());
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    assert_eq!(app.requests().len(), 200);
}

#[tokio::test]
async fn an_app_gets_no_more_connections_than_it_may_have() {
    let app = manual();
    let table = format!(
        "{{ url = \"{}\", max_connections = 2, max_idle = 1 }}",
        app.url()
    );
    let proxy = proxy().route_to("/", &table, PUBLIC).start();
    let mut clients = Vec::new();
    let mut conns = Vec::new();
    for _ in 0..2 {
        let mut client = proxy.wire().await;
        client.send(get("/")).await;
        let mut conn = app.accept().await;
        conn.head().await;
        clients.push(client);
        conns.push(conn);
    }
    let mut third = proxy.wire().await;
    third.send(get("/")).await;
    let head = third.head().await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains("retry-after: 5\r\n"), "{head}");
    for (client, conn) in clients.iter_mut().zip(&mut conns) {
        conn.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await;
        client.until(b"\r\n\r\nok").await;
    }
    // One is kept, the other closed; both places can be used again.
    let mut second = conns.pop().unwrap();
    assert_eq!(second.rest().await, b"");
    let mut conn = conns.pop().unwrap();
    clients[0].send(get("/one")).await;
    assert!(conn.head().await.starts_with("GET /one "));
    clients[1].send(get("/two")).await;
    let mut conn = app.accept().await;
    assert!(conn.head().await.starts_with("GET /two "));
}

#[tokio::test]
async fn connections_that_come_and_go_leave_nothing_behind() {
    let app = upstream(|request| match request.line() {
        "GET /stall HTTP/1.1" => Reply::Stall(Vec::new()),
        _ => Reply::ok("ok"),
    })
    .await;
    let table = format!("{{ url = \"{}\", max_idle = 8 }}", app.url());
    let proxy = proxy().route_to("/", &table, PUBLIC).workers(2).start();
    let mut all = JoinSet::new();
    for n in 0..500 {
        let (addr, get_h2) = (proxy.addr, proxy.get("/"));
        all.spawn(async move {
            let alpn: &[u8] = if n % 5 == 4 { b"h2" } else { b"http/1.1" };
            let mut client = crate::support::Raw::connect(addr, &[alpn]).await;
            match n % 5 {
                0 => {
                    client.send(get("/")).await;
                    assert_eq!(client.status().await, Some(200));
                }
                1 => client.send(get("/stall")).await,
                2 => client.send("GET / HT").await,
                3 => client.send(post("content-length: 100\r\n") + "abc").await,
                _ => {
                    let (mut h2, connection) =
                        h2::client::handshake(client.into_stream()).await.unwrap();
                    let connection = tokio::spawn(connection);
                    let response = h2.send_request(get_h2, true).unwrap().0;
                    assert_eq!(soon("an answer", response).await.unwrap().status(), 200);
                    connection.abort();
                }
            }
        });
        while all.len() >= 50 {
            all.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    eventually("no connection is left", async || {
        proxy.metric("doorward_connections_open").await == 0
    })
    .await;
    let mut browser = proxy.browser();
    assert_eq!(browser.open("/").await.text(), "ok");
    // Each of two workers keeps eight at the most.
    eventually("few connections are kept to the app", async || {
        app.open() <= 16
    })
    .await;
}
