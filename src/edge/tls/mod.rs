//! TLS as we speak it: versions, ALPN, resumption, and which certificate a client sees. It reads no configuration.

mod certificate;

pub use certificate::{Certificate, CertificateError};

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio_rustls::TlsAcceptor;

use crate::clock::Timestamp;

/// Certificates to choose from by SNI; never empty.
#[derive(Debug)]
pub struct Certificates {
    default: Arc<Certificate>,
    exact: HashMap<String, Arc<Certificate>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<Certificate>>,
}

impl Certificates {
    /// The first one serves clients that name no host or an unknown one. Where two name the same host, the earlier
    /// one serves it.
    pub fn new(certificates: Vec<Certificate>) -> Result<Self, CertificateError> {
        let certificates: Vec<_> = certificates.into_iter().map(Arc::new).collect();
        let default = certificates
            .first()
            .cloned()
            .ok_or(CertificateError::NoneGiven)?;
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for certificate in &certificates {
            let (names, parents) = certificate.dns_names();
            for (known, hosts) in [(&mut exact, names), (&mut wildcard, parents)] {
                for host in hosts {
                    known
                        .entry(host.clone())
                        .or_insert_with(|| Arc::clone(certificate));
                }
            }
        }
        Ok(Self {
            default,
            exact,
            wildcard,
        })
    }

    /// Loads pairs of PEM files (chain, key), in the order of the configuration.
    pub fn load(files: &[(PathBuf, PathBuf)], now: Timestamp) -> Result<Self, CertificateError> {
        let load = |(chain, key): &(PathBuf, PathBuf)| Certificate::load(chain, key, now);
        Self::new(files.iter().map(load).collect::<Result<_, _>>()?)
    }

    /// The certificate for a server name (RFC 6066 section 3): the exact name, then a wildcard, then the first one.
    /// Whether it fits the host of a request is asked later, of the certificate itself.
    pub fn choose(&self, sni: Option<&str>) -> &Arc<Certificate> {
        let named = sni.and_then(|sni| {
            let host = sni.to_ascii_lowercase();
            let wildcard = || self.wildcard.get(certificate::parent_domain(&host)?);
            self.exact.get(&host).or_else(wildcard)
        });
        named.unwrap_or(&self.default)
    }
}

/// The server's side of TLS. Clones share certificates and ticket keys.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    certificates: Arc<Resolver>,
}

impl Tls {
    /// TLS 1.2 and 1.3 with the cipher suites and groups that the cryptographic provider prefers (X25519MLKEM768
    /// first). Fails where the system has no randomness for ticket keys.
    pub fn new(certificates: Certificates) -> Result<Self, rustls::Error> {
        let certificates = Arc::new(Resolver(ArcSwap::from_pointee(certificates)));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Resolver>::clone(&certificates));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Every suite on offer is a good one, so the client may choose what its processor does best.
        config.ignore_client_order = false;
        // Sessions resume by tickets, sealed under keys that rotate: nothing is kept here, so nothing can fill up, and
        // workers share no lock. The few TLS 1.2 clients without tickets do whole handshakes.
        config.ticketer = Ticketer::new()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // Browsers use a ticket once, and open two connections to a host (one without credentials, for fonts). A ticket
        // costs microseconds, a whole handshake about fifty of them more than a resumed one.
        config.send_tls13_tickets = 2;
        // Early data can be replayed (RFC 8446 section 8), and every request here may carry a session.
        config.max_early_data_size = 0;
        Ok(Self {
            config: Arc::new(config),
            certificates,
        })
    }

    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// The certificate of a finished handshake, from the server name that the client sent. After a swap in between it
    /// is the newer one: then a host that only the older one covered is asked for anew, and none is served wrongly.
    pub fn chosen(&self, sni: Option<&str>) -> Arc<Certificate> {
        Arc::clone(self.certificates.0.load().choose(sni))
    }

    /// Serves other certificates from the next handshake on. Connections and tickets outlive it.
    pub fn replace(&self, certificates: Certificates) {
        self.certificates.0.store(Arc::new(certificates));
    }
}

#[derive(Debug)]
struct Resolver(ArcSwap<Certificates>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.0.load().choose(hello.server_name()).key()))
    }
}

#[cfg(test)]
mod tests;
