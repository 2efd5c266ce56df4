//! The second listener, for those who run the proxy: is it alive, is it ready, what does it count, who is logged in. It
//! serves no app, and it answers no web page that was talked into asking it (DNS rebinding).

mod api;
mod call;
mod data;
mod listener;
mod socket;

pub use api::{Api, Node};
pub use listener::{Accept, Caller, serve};
pub use socket::{LocalSocket, SocketFile, bind_local};

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, HOST, HeaderValue};
use http::uri::Authority;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body::Body;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::session::store::SessionStore;
use crate::telemetry::Metrics;
use crate::wire::{Page, json_page, page};

/// How long an answer of the store is waited for, and how long it is believed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
const PROBE_CACHED: Duration = Duration::from_secs(1);

/// What the admin listener tells of.
#[derive(Debug)]
pub struct AdminState {
    metrics: Arc<Metrics>,
    store: Arc<dyn SessionStore>,
    /// Host names in lower case under which it may be asked, besides `localhost` and addresses.
    names: Vec<String>,
    api: Option<Api>,
    draining: AtomicBool,
    probed: Mutex<Option<Probed>>,
}

/// The store's last answer.
#[derive(Debug)]
struct Probed {
    at: Instant,
    failure: Option<String>,
}

impl AdminState {
    pub fn new(metrics: Arc<Metrics>, store: Arc<dyn SessionStore>) -> Self {
        Self {
            metrics,
            store,
            names: Vec::new(),
            api: None,
            draining: AtomicBool::new(false),
            probed: Mutex::default(),
        }
    }

    /// Also answers requests for these host names (without port).
    #[must_use]
    pub fn with_names(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.names
            .extend(names.into_iter().map(|name| name.to_ascii_lowercase()));
        self
    }

    /// Also answers for sessions.
    #[must_use]
    pub fn with_api(mut self, api: Api) -> Self {
        self.api = Some(api);
        self
    }

    /// The process is about to stop: from now on it is not ready.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Why no requests should be sent here; empty where nothing is in the way.
    async fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        if self.draining.load(Ordering::Relaxed) {
            obstacles.push("draining".to_owned());
        }
        obstacles.extend(self.store_failure().await);
        obstacles
    }

    async fn store_failure(&self) -> Option<String> {
        // Whoever comes while the store is being asked waits for that answer, at most as long as it is waited for.
        let mut probed = self.probed.lock().await;
        if let Some(last) = &*probed
            && last.at.elapsed() < PROBE_CACHED
        {
            return last.failure.clone();
        }
        let failure = match timeout(PROBE_TIMEOUT, self.store.probe()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the session store did not answer in time".to_owned()),
        };
        *probed = Some(Probed {
            at: Instant::now(),
            failure: failure.clone(),
        });
        failure
    }
}

async fn answer<B>(state: &AdminState, caller: Caller, request: Request<B>) -> Page
where
    B: Body<Data = Bytes>,
{
    if !is_for_us(request.uri(), request.headers(), &state.names) {
        return problem(StatusCode::MISDIRECTED_REQUEST, None);
    }
    if let Some(api) = &state.api
        && request.uri().path().starts_with(api::PREFIX)
    {
        return api.answer(state, caller, request).await;
    }
    let place = match request.uri().path() {
        "/health/live" => Place::Live,
        "/health/ready" => Place::Ready,
        "/metrics" => Place::Metrics,
        _ => return problem(StatusCode::NOT_FOUND, None),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return wrong_method("GET, HEAD");
    }
    match place {
        Place::Live => page(StatusCode::OK, "text/plain; charset=utf-8", "ok"),
        Place::Ready => readiness(&state.obstacles().await),
        Place::Metrics => page(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            state.metrics.encode(),
        ),
    }
}

enum Place {
    Live,
    Ready,
    Metrics,
}

/// Whether the request names us by an address, as `localhost` or by a configured name, once, wherever it says so. A
/// page on `evil.example` whose name was pointed at this listener still sends its own name.
fn is_for_us(uri: &Uri, headers: &HeaderMap, names: &[String]) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(host) = Authority::try_from(host.as_bytes()) else {
        return false;
    };
    is_our_name(&host, names) && uri.authority().is_none_or(|host| is_our_name(host, names))
}

fn is_our_name(authority: &Authority, names: &[String]) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok()
        || v6.is_some_and(|v6| v6.parse::<Ipv6Addr>().is_ok())
        || names.iter().any(|name| host.eq_ignore_ascii_case(name))
}

fn readiness(obstacles: &[String]) -> Page {
    let (status, word) = match obstacles {
        [] => (StatusCode::OK, "ready"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
    };
    json_page(status, &json!({ "status": word, "reasons": obstacles }))
}

/// RFC 9457.
fn problem(status: StatusCode, detail: Option<&str>) -> Page {
    let title = status.canonical_reason().unwrap_or("error");
    let mut body = json!({ "type": "about:blank", "title": title, "status": status.as_u16() });
    if let (Some(detail), Some(fields)) = (detail, body.as_object_mut()) {
        fields.insert("detail".to_owned(), detail.into());
    }
    page(status, "application/problem+json", body.to_string())
}

fn wrong_method(allowed: &'static str) -> Page {
    let mut refusal = problem(StatusCode::METHOD_NOT_ALLOWED, None);
    let allowed = HeaderValue::from_static(allowed);
    refusal.headers_mut().insert(ALLOW, allowed);
    refusal
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::AtomicUsize;

    use async_trait::async_trait;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::{broadcast, oneshot};

    use super::listener::{HEADER_TIMEOUT, MAX_HEADER_BYTES, MAX_HEADERS, REQUEST_TIMEOUT};
    use super::*;
    use crate::clock::Timestamp;
    use crate::session::store::{Creation, Invalidation, Rotation, StoreError, Update};
    use crate::session::{
        Epoch, SessionRow, Sid, Stored, SubjectTag, Successor, TokenHash, TokenRow,
    };
    use crate::telemetry::SessionEvent;

    /// A store of which only the probe may be asked.
    #[derive(Debug, Default)]
    struct ProbeOnly {
        /// `None`: it never answers.
        answer: parking_lot::Mutex<Option<Result<(), StoreError>>>,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl SessionStore for ProbeOnly {
        async fn create(&self, _: SessionRow, _: TokenRow) -> Result<Creation, StoreError> {
            panic!("the admin listener does not write")
        }
        async fn load(&self, _: TokenHash) -> Result<Option<Stored>, StoreError> {
            panic!("the admin listener does not read")
        }
        async fn update(&self, _: SessionRow) -> Result<Update, StoreError> {
            panic!("the admin listener does not write")
        }
        async fn touch(&self, _: Vec<(Sid, Timestamp)>) -> Result<(), StoreError> {
            panic!("the admin listener does not write")
        }
        async fn rotate(
            &self,
            _: TokenHash,
            _: TokenRow,
            _: Successor,
        ) -> Result<Rotation, StoreError> {
            panic!("the admin listener does not write")
        }
        async fn confirm(&self, _: TokenHash, _: Timestamp) -> Result<(), StoreError> {
            panic!("the admin listener does not write")
        }
        async fn remove(&self, _: Sid) -> Result<bool, StoreError> {
            panic!("the admin listener does not write")
        }
        async fn epoch(&self, _: SubjectTag) -> Result<Epoch, StoreError> {
            panic!("the admin listener does not read")
        }
        async fn begin_epoch(
            &self,
            _: SubjectTag,
            _: Timestamp,
            _: Timestamp,
        ) -> Result<Epoch, StoreError> {
            panic!("the admin listener does not write")
        }
        async fn list(&self, _: Option<Sid>, _: usize) -> Result<Vec<SessionRow>, StoreError> {
            panic!("the admin listener does not read")
        }
        async fn list_by_subject(
            &self,
            _: SubjectTag,
            _: Option<Sid>,
            _: usize,
        ) -> Result<Vec<SessionRow>, StoreError> {
            panic!("the admin listener does not read")
        }
        async fn sweep(&self, _: Timestamp, _: usize) -> Result<usize, StoreError> {
            panic!("the admin listener does not write")
        }
        fn invalidations(&self) -> Option<broadcast::Receiver<Invalidation>> {
            None
        }
        async fn probe(&self) -> Result<(), StoreError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let answer = self.answer.lock().clone();
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }
    }

    struct Served {
        addr: SocketAddr,
        state: Arc<AdminState>,
        stop: oneshot::Sender<()>,
        task: tokio::task::JoinHandle<()>,
    }

    async fn served(answer: Option<Result<(), StoreError>>) -> Served {
        let store = Arc::new(ProbeOnly::default());
        *store.answer.lock() = answer;
        let state = AdminState::new(Arc::new(Metrics::new()), store);
        let state = Arc::new(state.with_names(["Admin.Example.com".to_owned()]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { stopped.await.unwrap_or_default() };
        let task = tokio::spawn(serve(listener, Arc::clone(&state), stopped));
        Served {
            addr,
            state,
            stop,
            task,
        }
    }

    impl Served {
        async fn send(&self, request: &[u8]) -> String {
            let mut stream = TcpStream::connect(self.addr).await.unwrap();
            stream.write_all(request).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            String::from_utf8(answer).unwrap()
        }

        async fn ready(&self) -> String {
            let answer = self
                .send(b"GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                .await;
            let (status, body) = (
                answer.get(9..12).unwrap(),
                answer.split_once("\r\n\r\n").unwrap().1,
            );
            format!("{status} {body}")
        }
    }

    #[tokio::test]
    async fn a_process_that_answers_is_alive() {
        let served = served(None).await;
        let answer = served
            .send(b"GET /health/live HTTP/1.1\r\nHost: localhost:9090\r\n\r\n")
            .await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\ncache-control: no-store"), "{head}");
        assert!(
            head.contains("\r\nx-content-type-options: nosniff"),
            "{head}"
        );
        assert!(head.contains("\r\nconnection: close"), "{head}");
        assert_eq!(body, "ok");
        let answer = served
            .send(b"HEAD /health/live HTTP/1.1\r\nHost: [::1]\r\n\r\n")
            .await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn a_process_is_ready_while_its_store_answers_and_it_is_not_draining() {
        let served = served(Some(Ok(()))).await;
        assert_eq!(
            served.ready().await,
            r#"200 {"reasons":[],"status":"ready"}"#
        );
        served.state.drain();
        assert_eq!(
            served.ready().await,
            r#"503 {"reasons":["draining"],"status":"not_ready"}"#
        );
    }

    #[tokio::test]
    async fn the_reason_for_not_being_ready_is_told() {
        let served = served(Some(Err(StoreError::Unavailable("disk \"gone\"".into())))).await;
        let expected =
            r#"503 {"reasons":["the session store failed: disk \"gone\""],"status":"not_ready"}"#;
        assert_eq!(served.ready().await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_is_not_waited_for_and_its_answer_is_believed_for_a_second()
     {
        let store = Arc::new(ProbeOnly::default());
        let state = AdminState::new(
            Arc::new(Metrics::new()),
            Arc::clone(&store) as Arc<dyn SessionStore>,
        );
        let before = Instant::now();
        assert_eq!(
            state.obstacles().await,
            ["the session store did not answer in time"]
        );
        assert_eq!(before.elapsed(), PROBE_TIMEOUT);
        *store.answer.lock() = Some(Ok(()));
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(state.obstacles().await.len(), 1);
        assert_eq!(store.asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(state.obstacles().await, [""; 0]);
        assert_eq!(store.asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_ask_at_once_are_one_question_to_the_store() {
        let store = Arc::new(ProbeOnly::default());
        let state = AdminState::new(
            Arc::new(Metrics::new()),
            Arc::clone(&store) as Arc<dyn SessionStore>,
        );
        let before = Instant::now();
        let answers = tokio::join!(state.obstacles(), state.obstacles(), state.obstacles());
        assert_eq!(
            [answers.0.len(), answers.1.len(), answers.2.len()],
            [1, 1, 1]
        );
        assert_eq!(store.asked.load(Ordering::Relaxed), 1);
        assert_eq!(before.elapsed(), PROBE_TIMEOUT);
    }

    #[tokio::test]
    async fn metrics_are_openmetrics_text() {
        let served = served(None).await;
        served.state.metrics.session(SessionEvent::Issued);
        let answer = served
            .send(b"GET /metrics?x=1 HTTP/1.1\r\nHost: 127.0.0.1:9090\r\n\r\n")
            .await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains(
            "\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
        ));
        assert!(answer.contains("\ndoorward_sessions_total{event=\"issued\"} 1\n"));
        assert!(answer.ends_with("# EOF\n"));
    }

    #[tokio::test]
    async fn other_places_and_other_methods_are_refused_as_problems() {
        let served = served(None).await;
        for request in [
            "GET /",
            "GET /metrics/",
            "GET /%6detrics",
            "POST /nothing",
            "GET /health/live/../ready",
        ] {
            let request = format!("{request} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
            let answer = served.send(request.as_bytes()).await;
            assert!(
                answer.starts_with("HTTP/1.1 404 Not Found\r\n"),
                "{request}: {answer}"
            );
            assert!(
                answer.ends_with(r#"{"status":404,"title":"Not Found","type":"about:blank"}"#),
                "{answer}"
            );
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
            let request = format!("{method} /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
            let answer = served.send(request.as_bytes()).await;
            assert!(
                answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"),
                "{method}: {answer}"
            );
            assert!(answer.contains("\r\nallow: GET, HEAD\r\n"), "{answer}");
            assert!(
                answer.contains("\r\ncontent-type: application/problem+json\r\n"),
                "{answer}"
            );
        }
    }

    #[tokio::test]
    async fn a_name_that_was_pointed_at_us_is_refused() {
        let served = served(None).await;
        for (head, status) in [
            ("GET /metrics HTTP/1.1\r\nHost: evil.example", 421),
            ("GET /metrics HTTP/1.1\r\nHost: evil.example:9090", 421),
            ("GET /metrics HTTP/1.1\r\nHost: localhost.evil.example", 421),
            ("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1.evil.example", 421),
            ("GET /metrics HTTP/1.1\r\nHost: localhost@evil.example", 421),
            ("GET /metrics HTTP/1.1\r\nHost: evil@localhost", 421),
            ("GET /metrics HTTP/1.1\r\nHost: 0x7f.1", 421),
            ("GET /metrics HTTP/1.1\r\nHost: localhost.", 421),
            (
                "GET /metrics HTTP/1.1\r\nHost: localhost, evil.example",
                421,
            ),
            ("GET /metrics HTTP/1.1\r\nHost:", 421),
            ("GET /metrics HTTP/1.1\r\nX: y", 421),
            ("GET /metrics HTTP/1.0\r\nX: y", 421),
            (
                "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example",
                421,
            ),
            (
                "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost",
                421,
            ),
            (
                "GET http://localhost/metrics HTTP/1.1\r\nHost: evil.example",
                421,
            ),
            (
                "GET http://localhost/metrics HTTP/1.1\r\nHost: localhost",
                200,
            ),
            ("GET /metrics HTTP/1.1\r\nHost: LOCALHOST:1", 200),
            ("GET /metrics HTTP/1.1\r\nHost: 192.0.2.7:9090", 200),
            ("GET /metrics HTTP/1.1\r\nHost: [2001:db8::1]:9090", 200),
            ("GET /metrics HTTP/1.1\r\nHost: admin.example.COM", 200),
        ] {
            let answer = served.send(format!("{head}\r\n\r\n").as_bytes()).await;
            assert_eq!(
                answer.get(9..12),
                Some(&*status.to_string()),
                "{head}: {answer}"
            );
        }
    }

    #[tokio::test]
    async fn a_header_section_without_end_is_cut_off() {
        let served = served(None).await;
        let mut request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: ".to_vec();
        request.resize(MAX_HEADER_BYTES + 1, b'a');
        let answer = served.send(&request).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let mut request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n".to_vec();
        request.extend(b"A: b\r\n".repeat(MAX_HEADERS));
        request.extend(b"\r\n");
        let answer = served.send(&request).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_sends_slowly_is_cut_off() {
        let served = served(None).await;
        let before = Instant::now();
        for beginning in [&b""[..], b"GET /metrics HTTP/1.1\r\nHos"] {
            served.send(beginning).await;
        }
        assert!(before.elapsed() >= 2 * HEADER_TIMEOUT);
        assert!(before.elapsed() <= 2 * REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn stopping_finishes_what_is_under_way_and_accepts_no_more() {
        let served = served(Some(Ok(()))).await;
        let mut stream = TcpStream::connect(served.addr).await.unwrap();
        stream
            .write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n")
            .await
            .unwrap();
        // An answer to a later connection proves that the earlier one has been accepted.
        served.ready().await;
        served.stop.send(()).unwrap();
        stream.write_all(b"\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        served.task.await.unwrap();
        assert!(TcpStream::connect(served.addr).await.is_err());
    }
}
