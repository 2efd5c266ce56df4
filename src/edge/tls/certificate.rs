//! One certificate: its chain, its key and what it is valid for. It knows no socket and no route.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use crate::clock::Timestamp;

/// A certificate chain with its private key, checked to belong together.
pub struct Certificate {
    key: Arc<CertifiedKey>,
    names: Names,
    not_before: Timestamp,
    not_after: Timestamp,
    id: String,
}

/// Why a certificate cannot be served. It names the file.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("{}: cannot be read: {source}", .file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{}: no certificate in it (PEM is expected, the server's own certificate first)", .file.display())]
    NoCertificate { file: PathBuf },
    #[error("{}: the certificate is malformed: {reason}", .file.display())]
    Malformed { file: PathBuf, reason: String },
    #[error("{}: the certificate names no host (it has no subject alternative name)", .file.display())]
    NoNames { file: PathBuf },
    #[error("{}: no private key in it that can be used (PEM: ECDSA, Ed25519 or RSA of 2048 bits or more)", .file.display())]
    NoKey { file: PathBuf },
    #[error("{}: the private key is encrypted; store it unencrypted, readable by this user only", .file.display())]
    EncryptedKey { file: PathBuf },
    #[error("{}: the key does not belong to the first certificate in {}", .key.display(), .chain.display())]
    OtherKey { key: PathBuf, chain: PathBuf },
    #[error("there is no certificate to serve")]
    NoneGiven,
}

impl Certificate {
    /// Reads a PEM chain (the server's own certificate first) and its PEM key. What is only unwise (it expired, others
    /// can read the key) is logged as a warning: an expired certificate still beats no answer at all.
    pub fn load(chain: &Path, key: &Path, now: Timestamp) -> Result<Self, CertificateError> {
        let certificates = read_chain(chain)?;
        let private_key = read_key(key)?;
        let certificate = Self::new(chain, certificates, |certificates| {
            CertifiedKey::from_der(certificates, private_key, &default_provider()).map_err(
                |error| match error {
                    TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                        CertificateError::OtherKey {
                            key: key.to_owned(),
                            chain: chain.to_owned(),
                        }
                    }
                    _ => CertificateError::NoKey {
                        file: key.to_owned(),
                    },
                },
            )
        })?;
        warn_of(&certificate, (chain, key), now);
        Ok(certificate)
    }

    fn new(
        file: &Path,
        chain: Vec<CertificateDer<'static>>,
        certify: impl FnOnce(Vec<CertificateDer<'static>>) -> Result<CertifiedKey, CertificateError>,
    ) -> Result<Self, CertificateError> {
        let leaf = chain
            .first()
            .ok_or_else(|| CertificateError::NoCertificate {
                file: file.to_owned(),
            })?;
        let malformed = |reason: String| CertificateError::Malformed {
            file: file.to_owned(),
            reason,
        };
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|error| malformed(error.to_string()))?;
        let names = Names::of(&parsed).map_err(malformed)?;
        if names.first.is_empty() {
            return Err(CertificateError::NoNames {
                file: file.to_owned(),
            });
        }
        let validity = parsed.validity();
        let not_before = timestamp(validity.not_before.timestamp());
        let not_after = timestamp(validity.not_after.timestamp());
        let id = fingerprint(leaf);
        let key = Arc::new(certify(chain)?);
        Ok(Self {
            key,
            names,
            not_before,
            not_after,
            id,
        })
    }

    /// Whether a client that asks for `host` (lower case, no port, IPv6 with or without brackets) accepts it: RFC 9525
    /// section 6. A wildcard stands for exactly one label, the left-most, and never for a part of an address.
    pub fn valid_for(&self, host: &str) -> bool {
        self.names.cover(host)
    }

    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The first subject alternative name, to tell certificates apart in logs.
    pub fn name(&self) -> &str {
        &self.names.first
    }

    /// SHA-256 of the certificate in lower-case hex: the same for the same certificate, in every process.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) const fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// Exact DNS names, then what follows the `*.` of wildcards.
    pub(super) fn dns_names(&self) -> (&HashSet<String>, &HashSet<String>) {
        (&self.names.exact, &self.names.wildcards)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("name", &self.name())
            .field("id", &self.id)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// What stands in the subject alternative names, in lower case. The common name means nothing (RFC 9525 section 2).
#[derive(Default)]
struct Names {
    first: String,
    exact: HashSet<String>,
    /// By what follows `*.`.
    wildcards: HashSet<String>,
    addresses: HashSet<IpAddr>,
}

impl Names {
    fn of(certificate: &X509Certificate<'_>) -> Result<Self, String> {
        let mut names = Self::default();
        let extension = certificate
            .subject_alternative_name()
            .map_err(|error| error.to_string())?;
        for name in extension
            .iter()
            .flat_map(|extension| &extension.value.general_names)
        {
            match name {
                GeneralName::DNSName(name) => names.add_dns(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => names.add_address(bytes),
                _ => {}
            }
        }
        Ok(names)
    }

    fn add_dns(&mut self, name: String) {
        if self.first.is_empty() {
            self.first.clone_from(&name);
        }
        match name.strip_prefix("*.") {
            Some(parent) => self.wildcards.insert(parent.to_owned()),
            None => self.exact.insert(name),
        };
    }

    fn add_address(&mut self, bytes: &[u8]) {
        let v4 = <[u8; 4]>::try_from(bytes).map(|octets| IpAddr::from(Ipv4Addr::from(octets)));
        let v6 = <[u8; 16]>::try_from(bytes).map(|octets| IpAddr::from(Ipv6Addr::from(octets)));
        if let Ok(address) = v4.or(v6) {
            if self.first.is_empty() {
                self.first = address.to_string();
            }
            self.addresses.insert(address);
        }
    }

    fn cover(&self, host: &str) -> bool {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(host).parse::<IpAddr>() {
            return self.addresses.contains(&address);
        }
        self.exact.contains(host)
            || parent_domain(host).is_some_and(|parent| self.wildcards.contains(parent))
    }
}

/// What follows the left-most label, which a wildcard may stand for. `*` itself is no label that anybody asks for.
pub(super) fn parent_domain(host: &str) -> Option<&str> {
    let (label, parent) = host.split_once('.')?;
    (!label.is_empty() && label != "*").then_some(parent)
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let pem = read(file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    chain.map_err(|error| CertificateError::Malformed {
        file: file.to_owned(),
        reason: error.to_string(),
    })
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let pem = read(file)?;
    if is_encrypted(&pem) {
        return Err(CertificateError::EncryptedKey {
            file: file.to_owned(),
        });
    }
    // The parser's own error is left out: it may quote the file, and the file holds a key.
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| CertificateError::NoKey {
        file: file.to_owned(),
    })
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    let bytes = std::fs::read(file).map_err(|source| CertificateError::Unreadable {
        file: file.to_owned(),
        source,
    })?;
    Ok(Zeroizing::new(bytes))
}

/// PKCS #8 says so in its label (RFC 7468 section 11), the older form in a header line (RFC 1421 section 4.6.1.1).
fn is_encrypted(pem: &[u8]) -> bool {
    pem.split(|&byte| byte == b'\n').any(|line| {
        line.starts_with(b"-----BEGIN ENCRYPTED ")
            || (line.starts_with(b"Proc-Type:") && line.trim_ascii_end().ends_with(b"ENCRYPTED"))
    })
}

fn warn_of(certificate: &Certificate, (chain, key): (&Path, &Path), now: Timestamp) {
    let (file, name) = (chain.display(), certificate.name());
    if certificate.not_after <= now {
        tracing::warn!(%file, name, since = %certificate.not_after, "the certificate has expired");
    } else if certificate.not_before > now {
        tracing::warn!(%file, name, until = %certificate.not_before, "the certificate is not valid yet");
    }
    if readable_by_others(key) {
        tracing::warn!(file = %key.display(), "every user of this machine can read the private key");
    }
}

/// A group may be let in on purpose (Debian's `ssl-cert`), the whole machine hardly.
fn readable_by_others(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

fn fingerprint(leaf: &CertificateDer<'_>) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
    digest
        .as_ref()
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            hex.extend(
                [byte >> 4, byte & 15]
                    .map(|nibble| char::from_digit(nibble.into(), 16).unwrap_or('0')),
            );
            hex
        })
}

/// Moments before 1970 count as its beginning: no certificate of that age is valid.
fn timestamp(seconds: i64) -> Timestamp {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    Timestamp::default().after(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        /// A self-signed certificate for `names`, in `site.pem` and `site.key`.
        fn of(names: &[&str]) -> Self {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            Self::with(&CertificateParams::new(names).unwrap())
        }

        fn with(params: &CertificateParams) -> Self {
            let key = KeyPair::generate().unwrap();
            let files = Self {
                folder: tempfile::tempdir().unwrap(),
            };
            files.put("site.pem", &params.self_signed(&key).unwrap().pem());
            files.put("site.key", &key.serialize_pem());
            files
        }

        fn put(&self, name: &str, text: &str) {
            std::fs::write(self.path(name), text).unwrap();
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn load(&self) -> Result<Certificate, CertificateError> {
            Certificate::load(
                &self.path("site.pem"),
                &self.path("site.key"),
                Timestamp::default(),
            )
        }
    }

    #[test]
    fn a_certificate_is_valid_for_the_hosts_that_it_names_and_no_other() {
        let names = [
            "Wiki.Example.com",
            "*.apps.example.com",
            "127.0.0.1",
            "::1",
            "xn--bcher-kva.example",
        ];
        let certificate = Files::of(&names).load().unwrap();
        for (host, expected) in [
            ("wiki.example.com", true),
            ("wiki.example.com.evil.test", false),
            ("example.com", false),
            ("a.wiki.example.com", false),
            ("a.apps.example.com", true),
            ("xn--bcher-kva.apps.example.com", true),
            ("a.b.apps.example.com", false),
            ("apps.example.com", false),
            (".apps.example.com", false),
            ("*.apps.example.com", false),
            ("xn--bcher-kva.example", true),
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("[::1]", true),
            ("::1", true),
            ("[0:0:0:0:0:0:0:1]", true),
            ("[::2]", false),
            ("[127.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(certificate.valid_for(host), expected, "{host:?}");
        }
        assert_eq!(certificate.name(), "wiki.example.com");
    }

    #[test]
    fn dns_names_never_stand_for_addresses() {
        let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            dns("10.0.0.1"),
            dns("*.0.0.1"),
            dns("w*.example.com"),
            dns("*"),
        ];
        let certificate = Files::with(&params).load().unwrap();
        for host in ["10.0.0.1", "127.0.0.1", "wiki.example.com", "localhost"] {
            assert!(!certificate.valid_for(host), "{host}");
        }
    }

    #[test]
    fn a_certificate_knows_its_dates_and_a_lasting_id() {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let files = Files::with(&params);
        let (first, again) = (files.load().unwrap(), files.load().unwrap());
        assert_eq!(first.not_before().to_string(), "2020-01-01T00:00:00.000Z");
        assert_eq!(first.not_after().to_string(), "2021-01-01T00:00:00.000Z");
        assert_eq!(first.id(), again.id());
        assert_eq!(first.id().len(), 64);
        assert_ne!(first.id(), Files::of(&["a.test"]).load().unwrap().id());
    }

    #[test]
    fn an_expired_certificate_is_served_all_the_same() {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let files = Files::with(&params);
        let later = Timestamp::from_millis(1_700_000_000_000);
        let loaded = Certificate::load(&files.path("site.pem"), &files.path("site.key"), later);
        assert!(loaded.is_ok_and(|certificate| certificate.not_after() < later));
    }

    #[test]
    fn what_cannot_be_served_names_the_file_and_the_fault() {
        let section =
            |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\r\n\r\nAAAA\n";
        for (name, text, expected) in [
            ("site.pem", None, "cannot be read"),
            ("site.key", None, "cannot be read"),
            ("site.pem", Some(String::new()), "no certificate in it"),
            (
                "site.pem",
                Some(section("PRIVATE KEY")),
                "no certificate in it",
            ),
            (
                "site.pem",
                Some(section("CERTIFICATE")),
                "the certificate is malformed",
            ),
            (
                "site.pem",
                Some("-----BEGIN CERTIFICATE-----\nAAAA\n".to_owned()),
                "the certificate is malformed",
            ),
            ("site.key", Some("nothing".to_owned()), "no private key"),
            ("site.key", Some(section("CERTIFICATE")), "no private key"),
            ("site.key", Some(section("PRIVATE KEY")), "no private key"),
            (
                "site.key",
                Some(section("ENCRYPTED PRIVATE KEY")),
                "the private key is encrypted",
            ),
            (
                "site.key",
                Some(legacy.to_owned()),
                "the private key is encrypted",
            ),
        ] {
            let files = Files::of(&["a.test"]);
            match &text {
                Some(text) => files.put(name, text),
                None => std::fs::remove_file(files.path(name)).unwrap(),
            }
            let message = files.load().unwrap_err().to_string();
            let expected = format!("{name}: {expected}");
            assert!(
                message.contains(&expected),
                "{message:?} should say {expected:?}"
            );
        }
    }

    #[test]
    fn the_key_of_another_certificate_is_refused() {
        let files = Files::of(&["a.test"]);
        files.put("site.key", &KeyPair::generate().unwrap().serialize_pem());
        let message = files.load().unwrap_err().to_string();
        assert!(
            message.contains("site.key: the key does not belong"),
            "{message}"
        );
        assert!(message.contains("site.pem"), "{message}");
    }

    #[test]
    fn a_certificate_without_names_is_refused() {
        let error = Files::of(&[]).load().unwrap_err();
        assert!(matches!(error, CertificateError::NoNames { .. }), "{error}");
    }

    #[test]
    fn debug_shows_no_key() {
        let files = Files::of(&["a.test"]);
        let shown = format!("{:?}", files.load().unwrap());
        assert!(shown.contains("a.test"));
        assert!(!shown.contains("key"), "{shown}");
    }

    #[test]
    fn a_key_file_is_open_when_the_world_can_reach_it() {
        use std::os::unix::fs::PermissionsExt;
        let files = Files::of(&["a.test"]);
        for (mode, open) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(files.path("site.key"), permissions).unwrap();
            assert_eq!(
                readable_by_others(&files.path("site.key")),
                open,
                "{mode:o}"
            );
        }
    }
}
