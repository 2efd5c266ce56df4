//! HTTP/2 on the client's side: streams that do not hold each other up, windows, resets, and how a connection ends.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::support::{
    END_HEADERS, END_STREAM, Ended, Frames, Manual, Proxy, Raw, Recorded, Reply, Wire, collect,
    eventually, frame as frame_of, literal, manual, on_its_way, proxy, pseudo, soon, upload,
    upstream,
};

const MIB: usize = 1024 * 1024;
const PUBLIC: &str = "access = \"public\"";

/// RFC 9113 section 3.4, with empty settings and their acknowledgement.
const PREFACE: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x04\x01\x00\x00\x00\x00";

fn before(app: &Manual, limits: &str) -> Proxy {
    proxy()
        .route("/", &app.url(), PUBLIC)
        .with("limits", limits)
        .start()
}

/// The next frame that is of this type: its flags, stream and payload (RFC 9113 section 4.1).
async fn frame<S>(wire: &mut Wire<S>, kind: u8) -> (u8, u32, Vec<u8>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        let head = wire.exact(9).await;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let payload = wire.exact(len as usize).await;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if head[3] == kind {
            return (head[4], stream, payload);
        }
    }
}

#[tokio::test]
async fn as_many_streams_as_are_allowed_are_served_at_once() {
    let app = manual();
    let proxy = before(&app, "");
    let mut h2 = proxy.h2(&h2::client::Builder::new()).await;
    let mut answers = Vec::new();
    let mut conns = Vec::new();
    for n in 0..128 {
        let request = proxy.get(&format!("/{n}"));
        answers.push(h2.send_request(request, true).unwrap().0);
        let mut conn = app.accept().await;
        let head = conn.head().await;
        assert!(
            head.starts_with(&format!("GET /{n} HTTP/1.1\r\n")),
            "{head}"
        );
        conns.push(conn);
    }
    // One more waits in the client for a stream to end; the last to come is answered first.
    let waiting = tokio::spawn({
        let (h2, request) = (h2.clone(), proxy.get("/128"));
        async move {
            let mut h2 = h2.ready().await.unwrap();
            h2.send_request(request, true).unwrap().0.await.unwrap()
        }
    });
    for (n, mut conn) in conns.into_iter().enumerate().rev() {
        let text = format!("{n}");
        let len = text.len();
        conn.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n{text}"
        ))
        .await;
        let mut body = soon("its answer", answers.pop().unwrap())
            .await
            .unwrap()
            .into_body();
        assert_eq!(collect(&mut body).await.unwrap(), text.as_bytes());
    }
    let mut conn = app.accept().await;
    assert!(conn.head().await.starts_with("GET /128 "));
    conn.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(soon("the last", waiting).await.unwrap().status(), 204);
}

#[tokio::test]
async fn a_stream_that_is_not_read_holds_up_no_other() {
    let app = upstream(|request: &Recorded| match request.line() {
        "GET /big HTTP/1.1" => Reply::ok(vec![b'x'; 4 * MIB]),
        _ => Reply::ok("small"),
    })
    .await;
    let proxy = proxy().route("/", &app.url(), PUBLIC).start();
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(20_000)
        .initial_connection_window_size(4 * 1024 * 1024);
    let mut h2 = proxy.h2(&builder).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let response = h2.send_request(proxy.get("/big"), true).unwrap().0;
        slow.push(soon("a head", response).await.unwrap().into_body());
    }
    for _ in 0..20 {
        let response = h2.send_request(proxy.get("/small"), true).unwrap().0;
        let mut body = soon("an answer", response).await.unwrap().into_body();
        assert_eq!(collect(&mut body).await.unwrap(), b"small");
    }
    for body in &mut slow[..2] {
        assert_eq!(collect(body).await.unwrap().len(), 4 * MIB);
    }
}

#[tokio::test]
async fn a_stream_that_its_client_never_takes_is_reset_and_no_other() {
    let app = manual();
    let proxy = before(&app, "body_idle_timeout = \"1s\"");
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(4_000);
    let mut h2 = proxy.h2(&builder).await;
    let response = h2.send_request(proxy.get("/big"), true).unwrap().0;
    let (gone, app_is_gone) = tokio::sync::oneshot::channel();
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
        .await;
    let mut untaken = soon("a head", response).await.unwrap().into_body();
    // Slow, but it takes what it gets; and one whose app is slow.
    let response = h2.send_request(proxy.get("/slow"), true).unwrap().0;
    let mut slow = app.accept().await;
    slow.head().await;
    slow.send("HTTP/1.1 200 OK\r\ncontent-length: 400000\r\n\r\n")
        .await;
    tokio::spawn(async move { slow.send(vec![b'x'; 400_000]).await });
    let mut taken = soon("a head", response).await.unwrap().into_body();
    let response = h2.send_request(proxy.get("/quiet"), true).unwrap().0;
    let mut quiet = app.accept().await;
    quiet.head().await;
    quiet
        .send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        .await;
    let mut waited = soon("a head", response).await.unwrap().into_body();

    tokio::spawn(async move {
        conn.stuff(&vec![b'x'; MIB], 100_000_000).await;
        gone.send(conn.rest().await).unwrap();
    });
    let began = tokio::time::Instant::now();
    let mut got = 0;
    while let Some(data) = soon("data", taken.data()).await {
        let len = data.unwrap().len();
        got += len;
        // A quarter of a megabyte in a second.
        tokio::time::sleep_until(began + Duration::from_micros(4) * u32::try_from(got).unwrap())
            .await;
        taken.flow_control().release_capacity(len).unwrap();
    }
    assert_eq!(got, 400_000, "who takes its bytes gets them all");
    assert!(began.elapsed() > Duration::from_millis(1_200), "slowly");
    let cut = soon("a reset", async {
        loop {
            if let Err(error) = untaken.data().await.expect("no whole body") {
                return error;
            }
        }
    })
    .await;
    assert_eq!(cut.reason(), Some(h2::Reason::CANCEL), "{cut}");
    assert_eq!(soon("the app is let go", app_is_gone).await.unwrap(), b"");
    quiet.send("hello").await;
    assert_eq!(collect(&mut waited).await.unwrap(), b"hello");
}

#[tokio::test]
async fn large_bodies_go_both_ways_through_small_windows() {
    const SIZE: usize = 4 * MIB;
    let app = manual();
    let proxy = before(&app, "");
    for window in [1_000, 65_535, 1_000_000] {
        let size = if window == 1_000 { SIZE / 16 } else { SIZE };
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(window)
            .initial_connection_window_size(65_535.max(window));
        let mut h2 = proxy.h2(&builder).await;
        let (response, mut sending) = h2.send_request(proxy.post("/"), false).unwrap();
        let pattern: Bytes = (0..size).map(|at| at.to_le_bytes()[1]).collect();
        let (sent, expected) = (pattern.clone(), pattern.clone());
        let uploading = tokio::spawn(async move {
            upload(&mut sending, sent, true).await;
        });
        let mut conn = app.accept().await;
        conn.head().await;
        let mut got = Vec::new();
        loop {
            let line = String::from_utf8(conn.until(b"\r\n").await).unwrap();
            let len = usize::from_str_radix(line.trim_end(), 16).unwrap();
            let chunk = conn.exact(len + 2).await;
            got.extend_from_slice(&chunk[..len]);
            if len == 0 {
                break;
            }
        }
        assert!(got == expected, "the app got other bytes");
        uploading.await.unwrap();
        conn.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n"
        ))
        .await;
        let answering = tokio::spawn(async move {
            conn.send(&got).await;
            conn
        });
        let mut body = soon("a head", response).await.unwrap().into_body();
        assert!(
            collect(&mut body).await.unwrap() == expected,
            "the client got other bytes, window {window}"
        );
        answering.await.unwrap();
    }
}

#[tokio::test]
async fn an_upload_waits_for_its_app() {
    const SIZE: usize = 16 * MIB;
    let app = manual();
    let proxy = before(&app, "");
    let mut h2 = proxy.h2(&h2::client::Builder::new()).await;
    let (_response, mut sending) = h2.send_request(proxy.post("/"), false).unwrap();
    let mut sent = 0;
    while sent < SIZE {
        sending.reserve_capacity(64 * 1024);
        let room = std::future::poll_fn(|cx| sending.poll_capacity(cx));
        let Ok(room) = tokio::time::timeout(Duration::from_millis(300), room).await else {
            break;
        };
        let room = room.unwrap().unwrap();
        sending.send_data(vec![b'x'; room].into(), false).unwrap();
        sent += room;
    }
    assert!(
        sent < 12 * MIB,
        "{sent} bytes were taken though nobody read"
    );
    // The other streams of the connection have windows of their own.
    let response = h2
        .send_request(proxy.get("/.doorward/login"), true)
        .unwrap()
        .0;
    assert_eq!(soon("an answer", response).await.unwrap().status(), 200);
    drop(app);
}

#[tokio::test]
async fn a_reset_cancels_the_request_to_the_app() {
    let app = manual();
    let proxy = before(&app, "");
    let mut h2 = proxy.h2(&h2::client::Builder::new()).await;
    // Before the answer.
    let (response, mut sending) = h2.send_request(proxy.post("/"), false).unwrap();
    let mut conn = app.accept().await;
    conn.head().await;
    sending.send_reset(h2::Reason::CANCEL);
    assert!(soon("an error", response).await.is_err());
    let rest = conn.rest().await;
    assert!(
        !rest.ends_with(b"0\r\n\r\n"),
        "an upload that was cut off does not look complete"
    );
    // While nothing of the body comes.
    let (response, mut sending) = h2.send_request(proxy.get("/"), true).unwrap();
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nabc")
        .await;
    let mut body = soon("a head", response).await.unwrap().into_body();
    assert_eq!(soon("data", body.data()).await.unwrap().unwrap(), "abc");
    sending.send_reset(h2::Reason::CANCEL);
    assert_eq!(conn.rest().await, b"");
    // While the client takes nothing.
    let (response, mut sending) = h2.send_request(proxy.get("/"), true).unwrap();
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n")
        .await;
    let _body = soon("a head", response).await.unwrap().into_body();
    conn.stuff(&vec![b'x'; 100_000], 9_000_000).await;
    sending.send_reset(h2::Reason::CANCEL);
    assert_eq!(conn.rest().await, b"");
    // The connection is none the worse for it.
    let response = h2.send_request(proxy.get("/"), true).unwrap().0;
    let mut conn = app.accept().await;
    conn.head().await;
    conn.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(soon("an answer", response).await.unwrap().status(), 204);
}

#[tokio::test]
async fn a_process_that_stops_says_goodbye_and_finishes_what_is_under_way() {
    let app = manual();
    let proxy = before(&app, "drain_timeout = \"10s\"");
    let addr = proxy.addr;
    let stream = Raw::connect(addr, &[b"h2"]).await.into_stream();
    let (mut h2, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut idle = Wire::new(Raw::connect(addr, &[b"h2"]).await.into_stream());
    idle.send(PREFACE).await;
    let (response, mut sending) = h2.send_request(proxy.post("/slow"), false).unwrap();
    let mut conn = app.accept().await;
    conn.head().await;
    let request = proxy.get("/late");
    let stopping = tokio::spawn(proxy.stop());
    let (_, _, goodbye) = frame(&mut idle, 7).await;
    assert_eq!(goodbye[4..8], [0, 0, 0, 0], "NO_ERROR");
    // The request goes on, in both directions.
    sending.send_data("last words".into(), true).unwrap();
    assert_eq!(conn.exact(17).await, b"A\r\nlast words\r\n0\r");
    eventually("new requests are refused", async || {
        let late = match h2.clone().ready().await {
            Ok(mut h2) => h2.send_request(request.clone(), true).map(|(late, _)| late),
            Err(error) => Err(error),
        };
        match late {
            Ok(late) => tokio::time::timeout(Duration::from_millis(50), late)
                .await
                .is_ok_and(|late| late.is_err()),
            Err(_) => true,
        }
    })
    .await;
    conn.send("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ngoodbye")
        .await;
    let mut body = soon("an answer", response).await.unwrap().into_body();
    assert_eq!(collect(&mut body).await.unwrap(), b"goodbye");
    drop(idle);
    drop((h2, body, sending));
    // Whose end comes first is open: our farewell may find nobody there.
    let _farewell = soon("the connection ends", connection).await.unwrap();
    soon("the process ends", stopping).await.unwrap();
}

#[tokio::test]
async fn pings_are_answered_and_an_idle_connection_is_closed_all_the_same() {
    let app = manual();
    let proxy = before(&app, "keep_alive_timeout = \"1s\"\nheader_timeout = \"1s\"");
    // A request that is answered here: HEADERS of GET https localhost /.doorward/nowhere, without Huffman coding.
    let mut block = vec![0x82, 0x87, 0x04, 18];
    block.extend_from_slice(b"/.doorward/nowhere");
    block.extend_from_slice(&[0x01, 9]);
    block.extend_from_slice(b"localhost");
    let mut wire = Wire::new(Raw::connect(proxy.addr, &[b"h2"]).await.into_stream());
    wire.send(PREFACE).await;
    let len = u8::try_from(block.len()).unwrap();
    wire.send([&[0, 0, len, 1, 0x05, 0, 0, 0, 1], &block[..]].concat())
        .await;
    let (_, stream, _) = frame(&mut wire, 1).await;
    assert_eq!(stream, 1);
    let mut data = frame(&mut wire, 0).await;
    while data.0 & 1 == 0 {
        data = frame(&mut wire, 0).await;
    }
    let began = tokio::time::Instant::now();
    for n in 0..3 {
        wire.send([0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, n])
            .await;
        let (flags, _, payload) = frame(&mut wire, 6).await;
        assert_eq!((flags, payload[7]), (1, n), "the same, acknowledged");
    }
    let (_, _, goodbye) = frame(&mut wire, 7).await;
    assert_eq!(goodbye[4..8], [0, 0, 0, 0], "NO_ERROR");
    wire.rest().await;
    assert!(began.elapsed() > Duration::from_millis(900));
    // One that never asks for anything is closed too.
    let mut wire = Wire::new(Raw::connect(proxy.addr, &[b"h2"]).await.into_stream());
    wire.send(PREFACE).await;
    wire.rest().await;
}

#[tokio::test]
async fn small_answers_keep_their_order_and_their_bytes_under_pressure() {
    let app = upstream(|request: &Recorded| Reply::ok(request.line().repeat(700))).await;
    let proxy = proxy().route("/", &app.url(), PUBLIC).start();
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(3_000)
        .initial_connection_window_size(65_535)
        // Until our SETTINGS come the library would send all at once, and have refused what is beyond them.
        .initial_max_send_streams(100);
    let slow = Raw::connect_slow(proxy.addr, &[b"h2"]).await.into_stream();
    let (h2, connection) = builder.handshake::<_, Bytes>(slow).await.unwrap();
    tokio::spawn(connection);
    let mut all = JoinSet::new();
    for n in 0..300 {
        let (h2, request) = (h2.clone(), proxy.get(&format!("/{n}")));
        all.spawn(async move {
            let mut h2 = soon("a stream", h2.ready()).await.unwrap();
            let response = h2.send_request(request, true).unwrap().0;
            let mut body = soon("a head", response).await.unwrap().into_body();
            let body = collect(&mut body).await.unwrap();
            assert!(body == format!("GET /{n} HTTP/1.1").repeat(700).as_bytes());
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn requests_before_our_settings_have_come_are_refused_beyond_the_bound_and_no_others() {
    let app = manual();
    let proxy = before(&app, "");
    let block = literal(&pseudo("GET", "/"));
    let burst: Vec<u8> = (1..601)
        .step_by(2)
        .flat_map(|stream| frame_of(1, END_HEADERS | END_STREAM, stream, &block))
        .collect();
    let mut frames = Frames::connect(&proxy).await;
    frames.send(&burst).await;
    let mut conns = Vec::new();
    for _ in 0..128 {
        let mut conn = app.accept().await;
        conn.head().await;
        conns.push(conn);
    }
    // REFUSED_STREAM: none of them was looked at, and each may be sent again (RFC 9113 section 8.7).
    assert_eq!(frames.ended(599).await, Ended::Reset(7));
    for conn in &mut conns {
        conn.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    }
    assert_eq!(frames.ended(1).await, Ended::Status(204));
    frames.get(601, "/.doorward/nowhere", &[]).await;
    assert_eq!(frames.ended(601).await, Ended::Status(404));
}

#[tokio::test]
async fn uploads_that_break_off_after_their_answer_do_not_end_the_connection() {
    let app = manual();
    let proxy = proxy()
        .route("/", &app.url(), &format!("{PUBLIC}\nmax_body = \"1KiB\""))
        .start();
    let mut frames = Frames::connect(&proxy).await;
    let fields = [
        &pseudo("POST", "/")[..],
        &[("content-length", "100000")][..],
    ]
    .concat();
    for stream in (1..601).step_by(2) {
        frames.headers(stream, &fields, false).await;
        assert_eq!(frames.ended(stream).await, Ended::Status(413));
        // As curl does: the rest is not sent, and the stream is ended.
        frames.data(stream, b"", true).await;
    }
    frames.get(601, "/.doorward/nowhere", &[]).await;
    assert_eq!(frames.ended(601).await, Ended::Status(404));
}

#[tokio::test]
async fn a_client_that_makes_us_reset_its_streams_is_let_go() {
    let app = upstream(|_| Reply::Stall(Vec::new())).await;
    let proxy = proxy().route("/", &app.url(), PUBLIC).start();
    let block = literal(&pseudo("POST", "/"));
    let said = [&pseudo("POST", "/")[..], &[("content-length", "1")][..]].concat();
    let said = literal(&said);
    // WINDOW_UPDATE by nothing and by too much, and DATA beyond the length that was said (CVE-2025-8671).
    let ways: [(&[u8], u8, &[u8]); 3] = [
        (&block, 8, &[0; 4]),
        (&block, 8, &[0x7f, 0xff, 0xff, 0xff]),
        (&said, 0, b"abc"),
    ];
    for (block, kind, payload) in ways {
        let mut frames = Frames::connect(&proxy).await;
        let flood: Vec<u8> = (1..6_001)
            .step_by(2)
            .flat_map(|stream| {
                let head = frame_of(1, END_HEADERS, stream, block);
                [head, frame_of(kind, 0, stream, payload)].concat()
            })
            .collect();
        frames.send(&flood).await;
        let ended = frames.ended(6_001).await;
        assert!(
            matches!(ended, Ended::Goaway(1 | 11) | Ended::Closed),
            "PROTOCOL_ERROR or ENHANCE_YOUR_CALM: {ended:?}"
        );
    }
    assert!(app.requests().len() < 3_200, "{}", app.requests().len());
    let mut other = Frames::connect(&proxy).await;
    other.get(1, "/.doorward/nowhere", &[]).await;
    assert_eq!(other.ended(1).await, Ended::Status(404));
}

#[tokio::test]
async fn empty_frames_of_a_body_end_the_connection() {
    let app = upstream(|_| Reply::Stall(Vec::new())).await;
    let proxy = proxy().route("/", &app.url(), PUBLIC).start();
    let mut frames = Frames::connect(&proxy).await;
    frames.headers(1, &pseudo("POST", "/"), false).await;
    frames.send(&frame_of(0, 0, 1, &[]).repeat(20_000)).await;
    let ended = frames.ended(3).await;
    assert!(
        matches!(ended, Ended::Goaway(11) | Ended::Closed),
        "ENHANCE_YOUR_CALM: {ended:?}"
    );
}

#[tokio::test]
async fn compressed_fields_are_bounded_by_what_they_unfold_to() {
    let app = upstream(|request: &Recorded| Reply::ok(request.line())).await;
    let proxy = proxy().route("/", &app.url(), PUBLIC).start();
    // A table larger than we offer (RFC 7541 section 6.3): 0x20 with 1 MiB.
    let mut frames = Frames::connect(&proxy).await;
    let mut block = vec![0x3f, 0xe1, 0xff, 0x3f];
    block.extend_from_slice(&literal(&pseudo("GET", "/")));
    frames.frame(1, END_HEADERS | END_STREAM, 1, &block).await;
    let ended = frames.ended(1).await;
    assert!(
        matches!(ended, Ended::Goaway(1 | 9) | Ended::Closed),
        "PROTOCOL_ERROR or COMPRESSION_ERROR: {ended:?}"
    );
    // One field of 3,000 bytes is remembered (section 6.2.1) and then said 4,000 times, one byte each: 12 MB.
    let mut frames = Frames::connect(&proxy).await;
    let mut block = literal(&pseudo("GET", "/"));
    let field = literal(&[("x-a", &"a".repeat(3_000))]);
    block.push(0x40);
    block.extend_from_slice(&field[1..]);
    block.extend_from_slice(&[0xbe; 4_000]);
    frames.frame(1, END_HEADERS | END_STREAM, 1, &block).await;
    let ended = frames.ended(1).await;
    assert!(ended.is_refusal(), "{ended:?}");
    assert_eq!(app.connections(), 0);
    let mut other = Frames::connect(&proxy).await;
    other.get(1, "/after", &[]).await;
    assert_eq!(other.ended(1).await, Ended::Status(200));
    assert_eq!(app.requests().len(), 1);
}

#[tokio::test]
async fn who_floods_us_and_reads_no_answer_is_held_back_and_let_go() {
    let app = manual();
    let proxy = before(&app, "body_idle_timeout = \"1s\"");
    let pings = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].repeat(4_096);
    let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1].repeat(4_096);
    for flood in [pings, settings] {
        let stream = Raw::connect_slow(proxy.addr, &[b"h2"]).await.into_stream();
        let mut wire = Wire::new(stream);
        wire.send(PREFACE).await;
        let sent = wire.stuff(&flood, 2 * on_its_way()).await;
        assert!(sent < on_its_way(), "{sent} bytes were taken");
        // It is cut off while it writes, long before it would be for asking nothing.
        let began = tokio::time::Instant::now();
        let mut stream = wire.into_stream();
        let rest = vec![0; 2 * on_its_way()];
        assert!(soon("the end", stream.write_all(&rest)).await.is_err());
        assert!(began.elapsed() < Duration::from_secs(8));
    }
    let mut other = Frames::connect(&proxy).await;
    other.get(1, "/.doorward/nowhere", &[]).await;
    assert_eq!(other.ended(1).await, Ended::Status(404));
}
