//! What certificates say of themselves, and which hosts are left without one.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey as Parsed;

use crate::authority;
use crate::clock::Timestamp;
use crate::config::{CertificateSource, Settings};
use crate::edge::{Certificate, CertificateError, Certificates};

/// A certificate that is served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFact {
    /// The key that names it.
    pub key: String,
    /// The first host in it.
    pub name: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub public_key: PublicKey,
    /// Signed over SHA-1 or MD5, which can be forged.
    pub has_old_signature: bool,
    /// An authority that `doorward cert` or `self_signed` made has signed it.
    pub is_local: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PublicKey {
    /// The length of the modulus in bits.
    Rsa(usize),
    /// On a curve, of a size that TLS allows.
    Curve,
}

/// The certificates that serve, and the hosts of routes that none of them is valid for.
pub(super) fn gather(
    settings: &Settings,
    now: Timestamp,
) -> Result<(Vec<CertificateFact>, Vec<String>), CertificateError> {
    let (files, key) = match &settings.tls.source {
        CertificateSource::Files(files) => (files.clone(), "tls.certificates"),
        CertificateSource::LocalAuthority(folder) => {
            let files = (folder.join("site.pem"), folder.join("site.key"));
            // It is made, and made anew, at each start: nothing can be missing.
            if !files.0.exists() {
                return Ok((Vec::new(), Vec::new()));
            }
            (vec![files], "tls.self_signed")
        }
    };
    let of_authority = key == "tls.self_signed";
    let mut facts = Vec::new();
    for (index, (cert, private_key)) in files.iter().enumerate() {
        let key = if of_authority {
            key.to_owned()
        } else {
            format!("{key}[{index}].cert")
        };
        let loaded = Certificate::load(cert, private_key, now)?;
        facts.push(fact(key, &loaded, cert)?);
    }
    if of_authority {
        return Ok((facts, Vec::new()));
    }
    let certificates = Certificates::load(&files, now)?;
    let lacks_one = |host: &String| {
        // A name that the wildcard stands for.
        let host = host.replacen('*', "any", 1);
        !certificates.choose(Some(&host)).valid_for(&host)
    };
    Ok((
        facts,
        settings.hosts().into_iter().filter(lacks_one).collect(),
    ))
}

fn fact(
    key: String,
    certificate: &Certificate,
    file: &Path,
) -> Result<CertificateFact, CertificateError> {
    let malformed = |reason: String| CertificateError::Malformed {
        file: file.to_owned(),
        reason,
    };
    let leaf = CertificateDer::from_pem_file(file).map_err(|error| malformed(error.to_string()))?;
    let (_, parsed) =
        X509Certificate::from_der(&leaf).map_err(|error| malformed(error.to_string()))?;
    let mut issuer = parsed.issuer().iter_common_name();
    Ok(CertificateFact {
        key,
        name: certificate.name().to_owned(),
        not_before: certificate.not_before(),
        not_after: certificate.not_after(),
        public_key: match parsed.public_key().parsed() {
            Ok(Parsed::RSA(rsa)) => PublicKey::Rsa(rsa.key_size()),
            _ => PublicKey::Curve,
        },
        has_old_signature: OLD_SIGNATURES
            .contains(&parsed.signature_algorithm.algorithm.to_id_string().as_str()),
        is_local: issuer.any(|name| name.as_str().is_ok_and(|name| name == authority::NAME)),
    })
}

/// `md5WithRSAEncryption`, `sha1WithRSAEncryption`, `ecdsa-with-SHA1` (RFC 8017 appendix C, RFC 3279 section 2.2.3).
const OLD_SIGNATURES: [&str; 3] = [
    "1.2.840.113549.1.1.4",
    "1.2.840.113549.1.1.5",
    "1.2.840.10045.4.1",
];
