//! What clients make of what is issued, and what happens to files that are already there.

use std::fs;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error as TlsError, RootCertStore};

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_123);

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn authority(&self) -> Authority {
        Authority::open_or_create(&self.path("ca"), NOW).unwrap()
    }

    fn files(&self) -> CertificateFiles {
        CertificateFiles {
            cert: self.path("site/site.pem"),
            key: self.path("site/site.key"),
        }
    }

    fn issue(&self, names: &[&str], now: Timestamp) -> Result<Outcome, AuthorityError> {
        self.authority()
            .issue_files(&self.files(), &hosts(names), now)
    }

    fn both(&self) -> (Vec<u8>, Vec<u8>) {
        let files = self.files();
        (fs::read(files.cert).unwrap(), fs::read(files.key).unwrap())
    }
}

fn hosts(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn days(count: u32) -> Duration {
    DAY * count
}

/// What a client that trusts the authority makes of a chain.
fn verify(authority: &Authority, chain: &str, host: &str, at: Timestamp) -> Result<(), TlsError> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(authority.certificate_file()).unwrap())
        .unwrap();
    let builder =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
    let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_millis(at.as_millis()));
    let verified = builder
        .build()
        .unwrap()
        .verify_server_cert(&leaf, &[], &name, &[], at);
    verified.map(|_| ())
}

#[test]
fn a_client_that_trusts_the_authority_accepts_what_it_issued_for_these_hosts() {
    let world = World::new();
    let authority = world.authority();
    let names = [
        "Wiki.Example.test",
        "*.apps.test",
        "127.0.0.1",
        "[::1]",
        "snake_case.test",
    ];
    let (chain, _) = authority.issue(&hosts(&names), NOW).unwrap();
    for (host, good) in [
        ("wiki.example.test", true),
        ("a.apps.test", true),
        ("127.0.0.1", true),
        ("::1", true),
        ("snake_case.test", true),
        ("apps.test", false),
        ("a.b.apps.test", false),
        ("127.0.0.2", false),
    ] {
        assert_eq!(
            verify(&authority, &chain, host, NOW).is_ok(),
            good,
            "{host}"
        );
    }
}

#[test]
fn a_certificate_lasts_397_days_and_never_longer_than_its_authority() {
    let world = World::new();
    let authority = world.authority();
    let expired = |result| {
        matches!(
            result,
            Err(TlsError::InvalidCertificate(
                CertificateError::ExpiredContext { .. }
            ))
        )
    };
    let (chain, _) = authority.issue(&hosts(&["a.test"]), NOW).unwrap();
    assert!(verify(&authority, &chain, "a.test", NOW.after(days(395))).is_ok());
    assert!(expired(verify(
        &authority,
        &chain,
        "a.test",
        NOW.after(days(396) + Duration::from_secs(1))
    )));

    let late = NOW.after(days(3653 - 100));
    let (chain, _) = authority.issue(&hosts(&["a.test"]), late).unwrap();
    assert_eq!(
        Leaf::from_pem(&chain).unwrap().not_after(),
        authority.certificate.not_after()
    );
    let too_late = authority.issue(&hosts(&["a.test"]), NOW.after(days(3653 - 29)));
    assert!(matches!(too_late, Err(AuthorityError::Expired { .. })));
}

#[test]
fn an_authority_that_was_made_is_opened_again_and_not_made_anew() {
    let world = World::new();
    let (chain, _) = world.authority().issue(&hosts(&["a.test"]), NOW).unwrap();
    let before = (
        fs::read(world.path("ca/ca.pem")).unwrap(),
        fs::read(world.path("ca/ca.key")).unwrap(),
    );
    let again = world.authority();
    assert!(verify(&again, &chain, "a.test", NOW).is_ok());
    let (chain, _) = again.issue(&hosts(&["b.test"]), NOW).unwrap();
    assert!(verify(&again, &chain, "b.test", NOW).is_ok());
    let after = (
        fs::read(world.path("ca/ca.pem")).unwrap(),
        fs::read(world.path("ca/ca.key")).unwrap(),
    );
    assert!(before == after);
}

#[test]
fn a_key_without_certificate_is_used_and_a_certificate_without_key_is_refused() {
    let world = World::new();
    drop(world.authority());
    let key = fs::read(world.path("ca/ca.key")).unwrap();
    fs::remove_file(world.path("ca/ca.pem")).unwrap();
    drop(world.authority());
    assert!(fs::read(world.path("ca/ca.key")).unwrap() == key);

    fs::remove_file(world.path("ca/ca.key")).unwrap();
    let error = Authority::open_or_create(&world.path("ca"), NOW).unwrap_err();
    assert!(error.to_string().contains("ca.key"), "{error}");
    assert!(!world.path("ca/ca.key").exists());
}

#[test]
fn what_is_no_authority_is_not_opened() {
    type Spoil = fn(&World);
    let cases: [(Spoil, &str); 4] = [
        (
            |w| fs::write(w.path("ca/ca.pem"), "nothing").unwrap(),
            "ca.pem: no PEM",
        ),
        (
            |w| fs::write(w.path("ca/ca.key"), "nothing").unwrap(),
            "ca.key: no private key",
        ),
        (
            |w| {
                fs::write(
                    w.path("ca/ca.key"),
                    KeyPair::generate().unwrap().serialize_pem(),
                )
                .unwrap();
            },
            "another certificate",
        ),
        (
            |w| {
                let (chain, key) = w.authority().issue(&hosts(&["a.test"]), NOW).unwrap();
                fs::write(w.path("ca/ca.pem"), chain).unwrap();
                fs::write(w.path("ca/ca.key"), key.expose()).unwrap();
            },
            "no authority's certificate",
        ),
    ];
    for (spoil, expected) in cases {
        let world = World::new();
        drop(world.authority());
        spoil(&world);
        let error = Authority::open_or_create(&world.path("ca"), NOW).unwrap_err();
        assert!(
            error.to_string().contains(expected),
            "{error} should say {expected:?}"
        );
    }
}

#[test]
fn a_good_certificate_is_kept_and_one_that_no_longer_serves_is_renewed() {
    let world = World::new();
    let made = world.issue(&["a.test", "10.0.0.1"], NOW).unwrap();
    let not_after = Timestamp::from_millis(NOW.after(days(396)).as_secs() * 1000);
    assert_eq!(made, Outcome::Made { not_after });
    let first = world.both();

    assert_eq!(
        world
            .issue(&["10.0.0.1", "A.test"], NOW.after(days(365)))
            .unwrap(),
        Outcome::Kept { not_after }
    );
    assert!(world.both() == first);

    let why = |outcome| match outcome {
        Ok(Outcome::Renewed { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(world.issue(&["a.test"], NOW.after(days(366)))).contains("ends on"));
    assert!(why(world.issue(&["a.test", "b.test"], NOW)).contains("b.test"));
    fs::remove_file(world.files().key).unwrap();
    assert!(why(world.issue(&["a.test"], NOW)).contains("key"));
    fs::remove_dir_all(world.path("ca")).unwrap();
    assert!(why(world.issue(&["a.test"], NOW)).contains("earlier authority"));
    assert!(matches!(
        world.issue(&["a.test"], NOW),
        Ok(Outcome::Kept { .. })
    ));
}

#[test]
fn a_wildcard_covers_one_label_and_never_a_wider_wildcard() {
    let world = World::new();
    world.issue(&["*.a.test"], NOW).unwrap();
    for (host, kept) in [
        ("b.a.test", true),
        ("*.a.test", true),
        ("c.b.a.test", false),
    ] {
        let outcome = world.issue(&[host], NOW).unwrap();
        assert_eq!(matches!(outcome, Outcome::Kept { .. }), kept, "{host}");
    }
    assert!(matches!(
        world.issue(&["*.a.test"], NOW),
        Ok(Outcome::Renewed { .. })
    ));
}

#[test]
fn files_that_we_did_not_make_are_never_replaced() {
    let world = World::new();
    let files = world.files();
    fs::create_dir(world.path("site")).unwrap();
    let foreign = |result| matches!(result, Err(AuthorityError::Foreign { .. }));

    fs::write(&files.key, "a key whose certificate is on its way").unwrap();
    assert!(foreign(world.issue(&["a.test"], NOW)));
    fs::write(&files.cert, "not even a certificate").unwrap();
    assert!(foreign(world.issue(&["a.test"], NOW)));

    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(hosts(&["a.test"])).unwrap();
    set_validity(&mut params, NOW, NOW.after(days(90)));
    fs::write(&files.cert, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(&files.key, key.serialize_pem()).unwrap();
    let theirs = world.both();
    assert!(matches!(
        world.issue(&["a.test"], NOW),
        Ok(Outcome::Kept { .. })
    ));
    assert!(foreign(world.issue(&["a.test", "b.test"], NOW)));
    assert!(foreign(world.issue(&["a.test"], NOW.after(days(80)))));
    assert!(world.both() == theirs);
}

#[test]
fn hosts_that_a_certificate_cannot_name_are_refused() {
    let authority = World::new().authority();
    for host in [
        "",
        "*",
        "*.",
        "a..b",
        "a b",
        "a.*.test",
        "https://a",
        "a:80",
        "[::1",
        "\u{e9}.test",
        "a\0.test",
    ] {
        let refused = authority.issue(&hosts(&["good.test", host]), NOW);
        assert!(
            matches!(refused, Err(AuthorityError::Host { .. })),
            "{host:?}"
        );
    }
    assert!(matches!(
        authority.issue(&[], NOW),
        Err(AuthorityError::NoHosts)
    ));
    let long = format!("{0}.{0}.test", "x".repeat(63));
    assert!(authority.issue(&[long], NOW).is_ok());
}

#[test]
fn keys_and_folders_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    world.issue(&["a.test"], NOW).unwrap();
    for (name, expected) in [
        ("ca", 0o700),
        ("ca/ca.key", 0o600),
        ("site", 0o700),
        ("site/site.key", 0o600),
    ] {
        let mode = fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, expected, "{name}: {mode:o}");
    }
    let left: Vec<_> = fs::read_dir(world.path("site"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn debug_shows_no_key() {
    let shown = format!("{:?}", World::new().authority());
    assert!(
        shown.contains("ca.pem") && !shown.contains("key"),
        "{shown}"
    );
}
