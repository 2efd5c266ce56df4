//! Connections that ask: plain, TLS with HTTP/1.1, TLS with HTTP/2. And one that logs in first.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::proxy::{PASSWORD, Proxy, USER};

/// HTTP/2 requests under way on one connection.
const STREAMS: usize = 8;

/// Made once, so that a connection costs the client no more than its handshake.
pub struct Connectors {
    http1: TlsConnector,
    http2: TlsConnector,
}

impl Connectors {
    pub fn trusting(ca: &Path) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(ca).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions();
        let mut config = config
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Everybody comes for the first time.
        config.resumption = Resumption::disabled();
        let speaking = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Self {
            http1: speaking(b"http/1.1"),
            http2: speaking(b"h2"),
        }
    }
}

/// What a browser says with every request.
const FIELDS: [(&str, &str); 7] = [
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    ),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ),
    ("accept-language", "en-GB,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
];

/// One connection, or one of the streams of one.
pub struct Asker {
    sender: Sender,
    uri: String,
    /// Of the browser's own, in HTTP/1.1; HTTP/2 has it in the URI.
    host: Option<String>,
    cookie: Option<String>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Asker {
    /// Asks once and reads all of the answer.
    pub async fn ask(&mut self) {
        let response = self.send(Request::get(&self.uri), "").await;
        assert_eq!(response.status(), StatusCode::OK);
        let content = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(content.len(), 1024);
    }

    async fn send(
        &mut self,
        mut request: http::request::Builder,
        body: &'static str,
    ) -> Response<Incoming> {
        for (name, value) in FIELDS {
            request = request.header(name, value);
        }
        if let Some(host) = &self.host {
            request = request.header(header::HOST, host);
        }
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let request = request.body(Full::from(body)).unwrap();
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request).await.unwrap()
            }
            Sender::Http2(sender) => {
                sender.ready().await.unwrap();
                sender.send_request(request).await.unwrap()
            }
        }
    }
}

pub async fn direct(app: SocketAddr, count: usize) -> Vec<Asker> {
    let mut askers = Vec::new();
    for _ in 0..count {
        let stream = TokioIo::new(connect(app).await);
        let (sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let (sender, host) = (Sender::Http1(sender), Some(app.to_string()));
        askers.push(Asker {
            sender,
            uri: "/".to_owned(),
            host,
            cookie: None,
        });
    }
    askers
}

pub async fn http1(proxy: &Proxy, cookie: &str, count: usize) -> Vec<Asker> {
    let mut askers = Vec::new();
    for _ in 0..count {
        askers.push(secure_http1(proxy, Some(cookie.to_owned())).await);
    }
    askers
}

pub async fn http2(proxy: &Proxy, cookie: &str, count: usize) -> Vec<Asker> {
    let mut askers = Vec::new();
    while askers.len() < count {
        let stream = TokioIo::new(secure(&proxy.connectors.http2, proxy.addr).await);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
            .await
            .unwrap();
        tokio::spawn(connection);
        for _ in 0..STREAMS.min(count - askers.len()) {
            let uri = format!("https://localhost:{}/", proxy.addr.port());
            let (sender, cookie) = (Sender::Http2(sender.clone()), Some(cookie.to_owned()));
            askers.push(Asker {
                sender,
                uri,
                host: None,
                cookie,
            });
        }
    }
    askers
}

/// Logs in as a browser does, and returns its `Cookie` field.
pub async fn log_in(proxy: &Proxy) -> String {
    let cookie = try_to_log_in(proxy).await;
    cookie.expect("the login was refused")
}

/// The same; nothing where it was refused for the moment.
pub async fn try_to_log_in(proxy: &Proxy) -> Option<String> {
    let mut asker = secure_http1(proxy, None).await;
    let form = asker
        .send(Request::get("/.doorward/login?return_to=%2F"), "")
        .await;
    let browser = cookies(form.headers());
    let page = form.into_body().collect().await.unwrap().to_bytes();
    let page = String::from_utf8(page.to_vec()).unwrap();
    let (_, state) = page
        .split_once("name=\"state\" value=\"")
        .expect("a login form");
    let (state, _) = state.split_once('"').unwrap();
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("state", state), ("user", USER), ("password", PASSWORD)])
        .finish();
    asker.cookie = Some(browser.clone());
    let post = Request::post("/.doorward/login")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(
            header::ORIGIN,
            format!("https://localhost:{}", proxy.addr.port()),
        );
    let answer = asker.send(post, body.leak()).await;
    match answer.status() {
        StatusCode::SEE_OTHER => Some(format!("{browser}; {}", cookies(answer.headers()))),
        StatusCode::SERVICE_UNAVAILABLE => None,
        other => panic!("a login was answered {other}"),
    }
}

/// Every cookie that is set, as the browser sends them back.
fn cookies(headers: &HeaderMap) -> String {
    let set = headers.get_all(header::SET_COOKIE).iter();
    let pairs = set.filter_map(|cookie| cookie.to_str().ok()?.split(';').next());
    pairs.collect::<Vec<_>>().join("; ")
}

async fn secure_http1(proxy: &Proxy, cookie: Option<String>) -> Asker {
    let stream = TokioIo::new(secure(&proxy.connectors.http1, proxy.addr).await);
    let (sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let host = Some(format!("localhost:{}", proxy.addr.port()));
    Asker {
        sender: Sender::Http1(sender),
        uri: "/".to_owned(),
        host,
        cookie,
    }
}

async fn secure(connector: &TlsConnector, addr: SocketAddr) -> TlsStream<TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = connector.connect(name, connect(addr).await);
    connecting.await.unwrap()
}

async fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}
