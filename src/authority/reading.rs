//! What a certificate says of itself, as far as deciding about keeping it needs.

use std::net::IpAddr;
use std::time::Duration;

use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::{NAME, address};
use crate::clock::Timestamp;

/// The first certificate of a PEM text.
pub(super) struct Leaf(Vec<u8>);

impl Leaf {
    pub(super) fn from_pem(text: &str) -> Result<Self, String> {
        let (_, pem) =
            parse_x509_pem(text.as_bytes()).map_err(|error| format!("no PEM in it: {error}"))?;
        let leaf = Self(pem.contents);
        X509Certificate::from_der(&leaf.0)
            .map_err(|error| format!("no certificate in it: {error}"))?;
        Ok(leaf)
    }

    /// Fails never, since it was read once before; where it did, nothing would be granted.
    fn read<T: Default>(&self, what: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
        X509Certificate::from_der(&self.0)
            .map_or_else(|_| T::default(), |(_, certificate)| what(&certificate))
    }

    pub(super) fn not_after(&self) -> Timestamp {
        self.read(|certificate| {
            let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
            Timestamp::default().after(Duration::from_secs(seconds))
        })
    }

    pub(super) fn has_key(&self, public_key_info: &[u8]) -> bool {
        self.read(|certificate| certificate.public_key().raw == public_key_info)
    }

    pub(super) fn may_issue(&self) -> bool {
        self.read(|certificate| certificate.is_ca())
    }

    /// Whether an authority of ours made it, this one or one before it.
    pub(super) fn is_ours(&self) -> bool {
        self.read(|certificate| {
            let names = certificate.issuer().iter_common_name();
            names.filter_map(|name| name.as_str().ok()).eq([NAME])
        })
    }

    /// Whether it says that exactly this authority made it (RFC 5280 section 4.2.1.1): another one of ours has another
    /// key, and nobody trusts it any more.
    pub(super) fn is_issued_by(&self, authority: &Self) -> bool {
        let issuer = self.read(|certificate| {
            certificate.extensions().iter().find_map(|extension| {
                match extension.parsed_extension() {
                    ParsedExtension::AuthorityKeyIdentifier(id) => {
                        id.key_identifier.as_ref().map(|id| id.0.to_vec())
                    }
                    _ => None,
                }
            })
        });
        let own = authority.read(|certificate| {
            certificate.extensions().iter().find_map(|extension| {
                match extension.parsed_extension() {
                    ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                    _ => None,
                }
            })
        });
        issuer.is_some() && issuer == own
    }

    /// Whether a client that asks for `host` accepts it. A host that is a wildcard itself must be named as it is.
    pub(super) fn names(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let octets = address(&host).map(octets);
        self.read(|certificate| {
            let names = certificate.subject_alternative_name().ok().flatten();
            let mut names = names.iter().flat_map(|names| &names.value.general_names);
            names.any(|name| match name {
                GeneralName::DNSName(name) => {
                    octets.is_none() && covers(&name.to_ascii_lowercase(), &host)
                }
                GeneralName::IPAddress(bytes) => octets.as_deref() == Some(*bytes),
                _ => false,
            })
        })
    }
}

/// A wildcard stands for one label, the left-most (RFC 9525 section 6.3).
fn covers(name: &str, host: &str) -> bool {
    let parent = host.split_once('.').filter(|(label, _)| *label != "*");
    let covered = parent.is_some_and(|(_, parent)| name.strip_prefix("*.") == Some(parent));
    covered || name == host
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
