//! Handshakes with a real client over a pipe in memory, and with hostile bytes.

use std::io;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::{HandshakeKind, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsConnector, client, server};

use super::*;

/// An authority, and what a client needs to trust it.
struct World {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn certificate(&self, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        let (chain, private) = (
            self.folder.path().join("site.pem"),
            self.folder.path().join("site.key"),
        );
        std::fs::write(&chain, leaf.pem()).unwrap();
        std::fs::write(&private, key.serialize_pem()).unwrap();
        Certificate::load(&chain, &private, Timestamp::default()).unwrap()
    }

    fn certificates(&self, each: &[&[&str]]) -> Certificates {
        Certificates::new(each.iter().map(|names| self.certificate(names)).collect()).unwrap()
    }

    fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&[u8]],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config
    }
}

type Both = (
    io::Result<server::TlsStream<DuplexStream>>,
    io::Result<client::TlsStream<DuplexStream>>,
);

async fn handshake(tls: &Tls, client: &Arc<ClientConfig>, host: &str) -> Both {
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let connector = TlsConnector::from(Arc::clone(client));
    tokio::join!(tls.acceptor().accept(near), connector.connect(name, far))
}

/// What the server makes of `bytes`: its error, and what it sent before it closed.
async fn send_raw(tls: &Tls, bytes: &[u8]) -> (io::Error, Vec<u8>) {
    let (near, mut far) = duplex(64 * 1024);
    far.write_all(bytes).await.unwrap();
    far.shutdown().await.unwrap();
    let error = tls.acceptor().accept(near).await.unwrap_err();
    let mut answer = Vec::new();
    far.read_to_end(&mut answer).await.unwrap();
    (error, answer)
}

#[tokio::test]
async fn sni_picks_the_exact_name_then_a_wildcard_then_the_first() {
    let world = World::new();
    let each: [&[&str]; 3] = [
        &["first.test", "127.0.0.1"],
        &["*.example.com"],
        &["wiki.example.com"],
    ];
    let tls = Tls::new(world.certificates(&each)).unwrap();
    let client = Arc::new(world.client(&[&TLS13, &TLS12], &[]));
    for (host, expected) in [
        ("wiki.example.com", "wiki.example.com"),
        ("WIKI.Example.COM", "wiki.example.com"),
        ("other.example.com", "*.example.com"),
        ("first.test", "first.test"),
        // A client that asks for an address sends no server name.
        ("127.0.0.1", "first.test"),
    ] {
        let (server, client) = handshake(&tls, &client, host).await;
        let (_, connection) = client.as_ref().unwrap().get_ref();
        let chosen = tls.chosen(server.unwrap().get_ref().1.server_name());
        assert_eq!(chosen.name(), expected, "{host}");
        assert_eq!(
            &connection.peer_certificates().unwrap()[0],
            &chosen.key().cert[0],
            "{host}"
        );
    }
}

#[tokio::test]
async fn an_unknown_name_gets_the_first_certificate_and_the_client_decides() {
    let world = World::new();
    let tls = Tls::new(world.certificates(&[&["first.test"], &["second.test"]])).unwrap();
    let client = Arc::new(world.client(&[&TLS13], &[]));
    let (_, client) = handshake(&tls, &client, "third.test").await;
    let message = client.unwrap_err().to_string();
    assert!(message.contains("first.test"), "{message}");
    assert_eq!(tls.chosen(Some("third.test")).name(), "first.test");
    assert!(!tls.chosen(Some("third.test")).valid_for("third.test"));
}

#[test]
fn an_earlier_certificate_keeps_its_names() {
    let world = World::new();
    let certificates = world.certificates(&[&["a.test", "own.test"], &["a.test", "b.test"]]);
    assert_eq!(certificates.choose(Some("a.test")).dns_names().0.len(), 2);
    assert!(certificates.choose(Some("a.test")).valid_for("own.test"));
    assert!(certificates.choose(Some("b.test")).valid_for("b.test"));
    assert!(matches!(
        Certificates::new(vec![]),
        Err(CertificateError::NoneGiven)
    ));
}

#[test]
fn files_load_in_pairs_and_the_first_bad_one_is_named() {
    let world = World::new();
    drop(world.certificate(&["a.test"]));
    let path = |name: &str| world.folder.path().join(name);
    let mut files = vec![(path("site.pem"), path("site.key"))];
    let now = Timestamp::default();
    assert_eq!(
        Certificates::load(&files, now).unwrap().choose(None).name(),
        "a.test"
    );
    files.push((path("other.pem"), path("other.key")));
    let message = Certificates::load(&files, now).unwrap_err().to_string();
    assert!(message.contains("other.pem"), "{message}");
}

#[tokio::test]
async fn both_versions_are_spoken_and_http_2_comes_first() {
    let world = World::new();
    let tls = Tls::new(world.certificates(&[&["a.test"]])).unwrap();
    let both: &[&[u8]] = &[b"http/1.1", b"h2"];
    let alpn = [
        (both, Some(&b"h2"[..])),
        (&both[..1], Some(b"http/1.1")),
        (&[], None),
    ];
    for (version, name) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        for (offered, expected) in alpn {
            let client = Arc::new(world.client(&[version], offered));
            let (server, _client) = handshake(&tls, &client, "a.test").await;
            let server = server.unwrap();
            assert_eq!(server.get_ref().1.alpn_protocol(), expected);
            assert_eq!(server.get_ref().1.protocol_version(), Some(name));
        }
    }
}

#[tokio::test]
async fn a_client_that_wants_another_protocol_is_refused() {
    let world = World::new();
    let tls = Tls::new(world.certificates(&[&["a.test"]])).unwrap();
    let client = Arc::new(world.client(&[&TLS13], &[b"smtp"]));
    let (server, client) = handshake(&tls, &client, "a.test").await;
    assert!(server.is_err());
    assert!(
        client
            .unwrap_err()
            .to_string()
            .contains("NoApplicationProtocol")
    );
}

#[tokio::test]
async fn sessions_resume_in_both_versions_and_survive_a_swap_of_certificates() {
    let world = World::new();
    let tls = Tls::new(world.certificates(&[&["a.test"]])).unwrap();
    for version in [&TLS12, &TLS13] {
        let client = Arc::new(world.client(&[version], &[b"h2"]));
        let mut kinds = vec![];
        for _ in 0..3 {
            let (server, stream) = handshake(&tls, &client, "a.test").await;
            let (mut server, mut stream) = (server.unwrap(), stream.unwrap());
            // Tickets come after the handshake: the client must read to have them.
            server.write_all(b"x").await.unwrap();
            server.flush().await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'x');
            kinds.push(server.get_ref().1.handshake_kind().unwrap());
            tls.replace(world.certificates(&[&["a.test"]]));
        }
        let resumed = |kind: &HandshakeKind| *kind == HandshakeKind::Resumed;
        assert!(
            !resumed(&kinds[0]) && kinds[1..].iter().all(resumed),
            "{kinds:?}"
        );
    }
}

#[tokio::test]
async fn a_ticket_for_one_host_does_not_resume_at_another() {
    let world = World::new();
    let tls = Tls::new(world.certificates(&[&["a.test", "b.test"]])).unwrap();
    let mut client = world.client(&[&TLS13], &[]);
    client.resumption = rustls::client::Resumption::store(Arc::new(Careless::default()));
    let client = Arc::new(client);
    let mut kinds = vec![];
    for host in ["a.test", "a.test", "b.test"] {
        let (server, stream) = handshake(&tls, &client, host).await;
        let (mut server, mut stream) = (server.unwrap(), stream.unwrap());
        server.write_all(b"x").await.unwrap();
        server.flush().await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        kinds.push(server.get_ref().1.handshake_kind().unwrap() == HandshakeKind::Resumed);
    }
    assert_eq!(kinds, [false, true, false]);
}

#[tokio::test]
async fn replaced_certificates_serve_new_handshakes_and_old_connections_go_on() {
    let world = World::new();
    let tls = Tls::new(world.certificates(&[&["a.test"]])).unwrap();
    let client = Arc::new(world.client(&[&TLS13], &[]));
    let (server, stream) = handshake(&tls, &client, "a.test").await;
    let (mut server, mut stream) = (server.unwrap(), stream.unwrap());
    tls.replace(world.certificates(&[&["b.test"]]));
    stream.write_all(b"ping").await.unwrap();
    let mut read = [0; 4];
    server.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"ping");
    assert!(handshake(&tls, &client, "b.test").await.1.is_ok());
    let fresh = Arc::new(world.client(&[&TLS13], &[]));
    assert!(handshake(&tls, &fresh, "a.test").await.1.is_err());
}

/// A `ClientHello` that knows TLS 1.1 at most: ECDHE suites of that time, P-256, point formats, extended master secret,
/// secure renegotiation, and signature algorithms, so that nothing but the version is wrong with it.
const TLS11_HELLO: &[u8] = b"\x16\x03\x01\x00\x50\x01\x00\x00\x4c\x03\x02\
    0123456789abcdef0123456789abcdef\x00\
    \x00\x04\xc0\x13\xc0\x09\x01\x00\
    \x00\x1f\x00\x0a\x00\x04\x00\x02\x00\x17\x00\x0b\x00\x02\x01\x00\x00\x17\x00\x00\xff\x01\x00\x01\x00\
    \x00\x0d\x00\x04\x00\x02\x04\x03";

#[tokio::test]
async fn tls_1_1_is_refused_with_an_alert() {
    let world = World::new();
    let tls = Tls::new(world.certificates(&[&["a.test"]])).unwrap();
    let length = u16::from_be_bytes([TLS11_HELLO[3], TLS11_HELLO[4]]);
    assert_eq!(
        usize::from(length) + 5,
        TLS11_HELLO.len(),
        "the hello must be well formed"
    );
    let (error, answer) = send_raw(&tls, TLS11_HELLO).await;
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    // A fatal alert: protocol_version (RFC 8446 section 6.2).
    assert_eq!(
        (answer[0], &answer[answer.len() - 2..]),
        (0x15, &b"\x02\x46"[..])
    );
}

#[tokio::test]
async fn bytes_that_are_no_hello_end_in_an_error() {
    let world = World::new();
    let tls = Tls::new(world.certificates(&[&["a.test"]])).unwrap();
    let cases: [&[u8]; 8] = [
        b"",
        b"\x16",
        b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        // SSL 2 hello.
        b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10",
        &[0; 4096],
    ];
    for bytes in cases {
        let (error, answer) = send_raw(&tls, bytes).await;
        let kinds = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
        assert!(kinds.contains(&error.kind()), "{bytes:?}: {error}");
        assert!(
            answer.is_empty() || answer[0] == 0x15,
            "{bytes:?}: nothing but an alert"
        );
    }
}

#[tokio::test]
async fn a_hello_cut_or_bent_anywhere_ends_in_an_error() {
    let world = World::new();
    let tls = Tls::new(world.certificates(&[&["a.test"]])).unwrap();
    for at in 0..TLS11_HELLO.len() {
        send_raw(&tls, &TLS11_HELLO[..at]).await;
        let mut bent = TLS11_HELLO.to_vec();
        bent[at] ^= 0x80;
        send_raw(&tls, &bent).await;
    }
}

/// A client's store that offers any host the last ticket that it was given by anyone.
#[derive(Debug, Default)]
struct Careless(parking_lot::Mutex<Option<rustls::client::Tls13ClientSessionValue>>);

impl rustls::client::ClientSessionStore for Careless {
    fn set_kx_hint(&self, _: ServerName<'static>, _: rustls::NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        None
    }

    fn set_tls12_session(
        &self,
        _: ServerName<'static>,
        _: rustls::client::Tls12ClientSessionValue,
    ) {
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<rustls::client::Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(
        &self,
        _: ServerName<'static>,
        ticket: rustls::client::Tls13ClientSessionValue,
    ) {
        *self.0.lock() = Some(ticket);
    }

    fn take_tls13_ticket(
        &self,
        _: &ServerName<'static>,
    ) -> Option<rustls::client::Tls13ClientSessionValue> {
        self.0.lock().take()
    }
}
