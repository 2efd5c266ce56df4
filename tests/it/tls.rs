//! TLS at both ends: which certificate and protocol a client gets, what becomes of those that speak no TLS, and which
//! apps are believed to be who they are.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::{
    Proxy, Reply, Wire, client_config, eventually, proxy, soon, trusted, upstream,
};

const PUBLIC: &str = "access = \"public\"";

/// An authority, a certificate that it signed, and where they lie.
struct Signed {
    folder: tempfile::TempDir,
    authority: CertificateDer<'static>,
}

fn signed(names: &[&str]) -> Signed {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(names).unwrap();
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("leaf.pem", leaf.pem());
    write("leaf.key", key.serialize_pem());
    write("ca.pem", authority.pem());
    let authority = authority.der().clone();
    Signed { folder, authority }
}

impl Signed {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn leaf(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path("leaf.pem")).unwrap()
    }

    /// An app that shows this certificate. Every request is answered "ok"; it sends what it was asked.
    async fn app(&self) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![self.leaf()],
                PrivateKeyDer::from_pem_file(self.path("leaf.key")).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, asks) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, asked) = (acceptor.clone(), asked.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut conn = Wire::new(stream);
                    asked.send(conn.head().await).unwrap();
                    conn.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                        .await;
                    conn.rest().await;
                });
            }
        });
        (port, asks)
    }
}

async fn connect(
    proxy: &Proxy,
    config: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(proxy.addr).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(config.clone()).connect(name, tcp).await
}

/// The status of a request over HTTP/1.1.
async fn ask(stream: TlsStream<TcpStream>, host: &str) -> (u16, TlsStream<TcpStream>) {
    let mut wire = Wire::new(stream);
    wire.send(format!("HEAD / HTTP/1.1\r\nhost: {host}\r\n\r\n"))
        .await;
    let head = wire.head().await;
    (head[9..12].parse().unwrap(), wire.into_stream())
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned()
}

#[tokio::test]
async fn each_host_has_its_certificate_and_a_connection_serves_no_other() {
    let app = upstream(|_| Reply::ok("")).await;
    let second = signed(&["second.test"]);
    let proxy = proxy()
        .route_at("localhost", "/", &app.url(), PUBLIC)
        .route_at("wiki.example.test", "/", &app.url(), PUBLIC)
        .route_at("second.test", "/", &app.url(), PUBLIC)
        .certificate(&second.path("leaf.pem"), &second.path("leaf.key"))
        .start();
    let mut config = client_config(&[b"http/1.1"]);
    let mut roots = RootCertStore::empty();
    roots.add(trusted()).unwrap();
    roots.add(second.authority.clone()).unwrap();
    config = {
        let mut both = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        both.alpn_protocols = config.alpn_protocols;
        both
    };
    let config = Arc::new(config);

    let stream = connect(&proxy, &config, "localhost").await.unwrap();
    assert_eq!(shown(&stream), trusted());
    let (status, stream) = ask(stream, "localhost").await;
    assert_eq!(status, 200);
    let (status, stream) = ask(stream, "wiki.example.test").await;
    assert_eq!(status, 200, "the certificate names it too");
    let asked = app.requests().len();
    let (status, _) = ask(stream, "second.test").await;
    assert_eq!(status, 421);
    assert_eq!(app.requests().len(), asked, "the app hears nothing of it");

    let stream = connect(&proxy, &config, "second.test").await.unwrap();
    assert_eq!(shown(&stream), second.leaf());
    let (status, stream) = ask(stream, "second.test").await;
    assert_eq!(status, 200);
    let (status, _) = ask(stream, "localhost").await;
    assert_eq!(status, 421);

    // The same over HTTP/2, where browsers share connections among hosts.
    let mut config = ClientConfig::clone(&config);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = connect(&proxy, &Arc::new(config), "second.test")
        .await
        .unwrap();
    let handshake = h2::client::Builder::new().handshake::<_, bytes::Bytes>(stream);
    let (mut h2, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    for (host, status) in [("localhost", 421), ("second.test", 200)] {
        let request = http::Request::get(format!("https://{host}/"))
            .body(())
            .unwrap();
        let response = h2.send_request(request, true).unwrap().0;
        assert_eq!(soon("an answer", response).await.unwrap().status(), status);
    }
}

#[tokio::test]
async fn both_versions_are_spoken_and_http1_where_nothing_is_said() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().route("/", &app.url(), PUBLIC).start();
    let mut roots = RootCertStore::empty();
    roots.add(trusted()).unwrap();
    for (version, expected) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        for (alpn, chosen) in [
            (&[][..], None),
            (&[b"http/1.1".to_vec()][..], Some(&b"http/1.1"[..])),
            (&[b"http/1.1".to_vec(), b"h2".to_vec()][..], Some(b"h2")),
        ] {
            let mut config = ClientConfig::builder_with_protocol_versions(&[version])
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = alpn.to_vec();
            let stream = connect(&proxy, &Arc::new(config), "localhost")
                .await
                .unwrap();
            let tls = stream.get_ref().1;
            assert_eq!(tls.protocol_version(), Some(expected));
            assert_eq!(tls.alpn_protocol(), chosen);
            if chosen != Some(b"h2") {
                assert_eq!(ask(stream, "localhost").await.0, 200);
            }
        }
    }
    let other = Arc::new(client_config(&[b"http/1.0", b"spdy/3"]));
    let refused = connect(&proxy, &other, "localhost").await.unwrap_err();
    assert!(
        refused.to_string().contains("NoApplicationProtocol"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_client_that_comes_back_resumes() {
    let app = upstream(|_| Reply::ok("")).await;
    let proxy = proxy().route("/", &app.url(), PUBLIC).workers(2).start();
    let mut roots = RootCertStore::empty();
    roots.add(trusted()).unwrap();
    for version in [&TLS12, &TLS13] {
        let mut config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(8);
        let config = Arc::new(config);
        let mut kinds = Vec::new();
        for _ in 0..4 {
            let stream = connect(&proxy, &config, "localhost").await.unwrap();
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
            assert_eq!(ask(stream, "localhost").await.0, 200);
        }
        assert_eq!(
            kinds[1..],
            [HandshakeKind::Resumed; 3],
            "on whichever worker"
        );
    }
}

#[tokio::test]
async fn who_speaks_no_tls_is_let_go_and_nobody_else_notices() {
    let app = upstream(|_| Reply::ok("ok")).await;
    let proxy = proxy()
        .route("/", &app.url(), PUBLIC)
        .with("limits", "handshake_timeout = \"4s\"")
        .start();
    let mut hello = vec![
        0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03,
    ];
    hello.extend_from_slice(&[7; 100]);
    let endless = [&[0x16, 0x03, 0x01, 0x7f, 0xff][..], &[0; 5_000]].concat();
    let mut began = Vec::new();
    for (what, bytes, at_once) in [
        (
            "plain HTTP",
            &b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"[..],
            true,
        ),
        (
            "HTTP/2 in the clear",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            true,
        ),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n", true),
        (
            "a PROXY line",
            b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
            true,
        ),
        ("noise", &[0xff; 4_096], true),
        ("zeros", &[0; 64], true),
        ("a record that is too long", &endless, true),
        ("nothing", b"", false),
        ("half a hello", &hello, false),
        ("one byte", &[0x16], false),
    ] {
        let mut client = Wire::new(TcpStream::connect(proxy.addr).await.unwrap());
        client.send(bytes).await;
        began.push(tokio::spawn(async move {
            let since = tokio::time::Instant::now();
            let answer = client.rest().await;
            let text = String::from_utf8_lossy(&answer).into_owned();
            assert!(!text.contains("HTTP/1."), "{what}: {text}");
            let took = since.elapsed();
            assert_eq!(took < Duration::from_secs(3), at_once, "{what}: {took:?}");
            assert!(took < Duration::from_secs(15), "{what}: {took:?}");
        }));
    }
    // Meanwhile everybody else is served.
    for _ in 0..5 {
        assert_eq!(proxy.browser().open("/").await.text(), "ok");
    }
    for waiting in began {
        waiting.await.unwrap();
    }
    assert_eq!(
        proxy.metric("doorward_tls_handshake_failures_total").await,
        10
    );
    assert_eq!(proxy.browser().open("/").await.text(), "ok");
}

#[tokio::test]
async fn bytes_that_drip_do_not_buy_a_handshake_more_time() {
    let app = upstream(|_| Reply::ok("ok")).await;
    let proxy = proxy()
        .route("/", &app.url(), PUBLIC)
        .with("limits", "handshake_timeout = \"4s\"")
        .start();
    let mut client = Wire::new(TcpStream::connect(proxy.addr).await.unwrap());
    client.send([0x16, 0x03, 0x01, 0x02, 0x00]).await;
    let began = tokio::time::Instant::now();
    while client.is_silent().await {
        assert!(began.elapsed() < Duration::from_secs(15));
        client.send([1]).await;
    }
}

#[tokio::test]
async fn one_address_has_no_more_connections_than_it_may() {
    let app = upstream(|_| Reply::ok("ok")).await;
    let proxy = proxy()
        .route("/", &app.url(), PUBLIC)
        .with("limits", "max_connections_per_address = 3")
        .start();
    let config = Arc::new(client_config(&[b"http/1.1"]));
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(connect(&proxy, &config, "localhost").await.unwrap());
    }
    let mut fourth = Wire::new(TcpStream::connect(proxy.addr).await.unwrap());
    assert_eq!(fourth.rest().await, b"");
    // Those that are there go on, and a place that is given up can be had again.
    assert_eq!(ask(open.pop().unwrap(), "localhost").await.0, 200);
    eventually("there is room again", async || {
        connect(&proxy, &config, "localhost").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn an_app_behind_tls_must_show_the_certificate_that_is_asked_for() {
    let good = signed(&["127.0.0.1", "app.internal"]);
    let (good_port, mut asked) = good.app().await;
    let stranger = signed(&["127.0.0.1", "app.internal"]);
    let (stranger_port, mut told) = stranger.app().await;
    let ca = good.path("ca.pem");
    let table = |port: u16, more: &str| {
        let ca = ca.display();
        format!("{{ url = \"https://127.0.0.1:{port}\", ca = \"{ca}\"{more} }}")
    };
    let plain = upstream(|_| Reply::ok("in the clear")).await;
    let proxy = proxy()
        .route_to("/address", &table(good_port, ""), PUBLIC)
        .route_to(
            "/name",
            &table(good_port, ", server_name = \"app.internal\""),
            PUBLIC,
        )
        .route_to(
            "/other",
            &table(good_port, ", server_name = \"db.internal\""),
            PUBLIC,
        )
        .route_to("/stranger", &table(stranger_port, ""), PUBLIC)
        .route_to("/plain", &table(plain.addr.port(), ""), PUBLIC)
        .route(
            "/unknown",
            &format!("https://127.0.0.1:{good_port}"),
            PUBLIC,
        )
        .start();
    for (path, status) in [
        ("/address", 200),
        ("/name", 200),
        ("/other", 502),
        ("/stranger", 502),
        ("/plain", 502),
        ("/unknown", 502),
    ] {
        assert_eq!(proxy.browser().open(path).await.status, status, "{path}");
    }
    for path in ["/address", "/name"] {
        let head = asked.recv().await.unwrap();
        assert!(head.starts_with(&format!("GET {path} HTTP/1.1\r\n")));
    }
    assert!(asked.try_recv().is_err(), "nothing else was asked");
    assert!(told.try_recv().is_err(), "a stranger is told nothing");
    assert!(plain.requests().is_empty());
    assert_eq!(
        proxy
            .metric("doorward_upstream_errors_total{kind=\"connect\"}")
            .await,
        4
    );
}
