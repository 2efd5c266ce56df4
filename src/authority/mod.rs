//! A local certificate authority for development and the demo: it makes certificates that a machine trusts once it
//! trusts `ca.pem`. It knows no configuration and never touches a file that it did not make.

mod files;
mod reading;

pub use files::{CertificateFiles, Outcome};

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};

use crate::clock::Timestamp;
use crate::secret::Secret;
use files::{Mode, create_folder, exists, read_key, read_text, write_atomically};
use reading::Leaf;

/// The common name of every authority that we make.
pub const NAME: &str = "Doorward local authority";

const DAY: Duration = Duration::from_hours(24);
const AUTHORITY_LIFETIME: Duration = DAY.saturating_mul(3653);
/// What Apple's systems accept of an authority that the user added is 825 days; browsers are on the way down from 398.
const LIFETIME: Duration = DAY.saturating_mul(397);
/// A certificate with no more than this left is made anew; so much an authority must have left to issue one.
const RENEW_BEFORE: Duration = DAY.saturating_mul(30);
/// Clocks of other machines may be behind.
const BACKDATE: Duration = DAY;

/// An authority that was opened, ready to issue.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Leaf,
    certificate_file: PathBuf,
}

/// Why there is no certificate. It says what to do where that is not plain.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("{}: {source}", .file.display())]
    File { file: PathBuf, source: io::Error },
    #[error("{}: {reason}", .file.display())]
    Unusable { file: PathBuf, reason: String },
    #[error("{} was not made by this authority and does not serve: {reason}. Move it away to have one made, or put a better one in its place", .file.display())]
    Foreign { file: PathBuf, reason: String },
    #[error("{}: the authority ends on {not_after}. Remove ca.pem and ca.key to have a new one made, then trust that one", .file.display())]
    Expired { file: PathBuf, not_after: Timestamp },
    #[error("{host:?} is no host name, wildcard or IP address that a certificate can name")]
    Host { host: String },
    #[error("there is no host to make a certificate for")]
    NoHosts,
    #[error("cannot make a certificate: {0}")]
    Cryptography(#[from] rcgen::Error),
}

impl Authority {
    /// Opens `ca.pem` and `ca.key` in `folder`, or makes them there where neither is. A key alone is given a
    /// certificate; a certificate alone is an error, since a new key would make the trusted certificate worthless.
    pub fn open_or_create(folder: &Path, now: Timestamp) -> Result<Self, AuthorityError> {
        let (certificate_file, key_file) = (folder.join("ca.pem"), folder.join("ca.key"));
        if !exists(&certificate_file)? {
            create_folder(folder)?;
            let key = if exists(&key_file)? {
                read_key(&key_file)?
            } else {
                new_key(&key_file)?
            };
            let pem = authority_params(now).self_signed(&key)?.pem();
            write_atomically(&certificate_file, pem.as_bytes(), Mode::Public)?;
        }
        let pem = read_text(&certificate_file)?;
        let unusable = |reason: String| AuthorityError::Unusable {
            file: certificate_file.clone(),
            reason,
        };
        let certificate = Leaf::from_pem(&pem).map_err(&unusable)?;
        let key = read_key(&key_file)?;
        if !certificate.has_key(&key.subject_public_key_info()) {
            return Err(unusable(
                "ca.key beside it belongs to another certificate".to_owned(),
            ));
        }
        if !certificate.may_issue() {
            return Err(unusable("it is no authority's certificate".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_pem(&pem, key)?;
        Ok(Self {
            issuer,
            certificate,
            certificate_file,
        })
    }

    /// A certificate and its key, both PEM, for host names, `*.` wildcards and IP addresses (IPv6 with or without
    /// brackets): P-256, for servers only, 397 days at most and never longer than the authority itself. The chain is
    /// the one certificate, since clients hold the authority's.
    pub fn issue(
        &self,
        hosts: &[String],
        now: Timestamp,
    ) -> Result<(String, Secret), AuthorityError> {
        let span = LIFETIME.saturating_sub(BACKDATE);
        let not_after = now.after(span).min(self.certificate.not_after());
        if not_after <= now.after(RENEW_BEFORE) {
            return Err(AuthorityError::Expired {
                file: self.certificate_file.clone(),
                not_after: self.certificate.not_after(),
            });
        }
        let mut params = CertificateParams::default();
        params.subject_alt_names = hosts
            .iter()
            .map(|host| subject(host))
            .collect::<Result<_, _>>()?;
        params.distinguished_name = named(hosts.first().ok_or(AuthorityError::NoHosts)?);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, not_after);
        let key = KeyPair::generate()?;
        let chain = params.signed_by(&key, &self.issuer)?.pem();
        Ok((chain, Secret::new(key.serialize_pem())))
    }

    /// Puts a certificate for `hosts` at its place, unless a good one is there: for all hosts, with its key, and with
    /// more than 30 days left. What this authority did not make is never replaced.
    pub fn issue_files(
        &self,
        files: &CertificateFiles,
        hosts: &[String],
        now: Timestamp,
    ) -> Result<Outcome, AuthorityError> {
        files::issue(self, files, (hosts, now))
    }

    /// The certificate that clients have to trust.
    pub fn certificate_file(&self) -> &Path {
        &self.certificate_file
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("certificate_file", &self.certificate_file)
            .finish_non_exhaustive()
    }
}

fn new_key(file: &Path) -> Result<KeyPair, AuthorityError> {
    let key = KeyPair::generate()?;
    let pem = Secret::new(key.serialize_pem());
    write_atomically(file, pem.expose(), Mode::Private)?;
    Ok(key)
}

fn authority_params(now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(NAME);
    // It signs servers' certificates and no further authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, now.after(AUTHORITY_LIFETIME));
    params
}

/// RFC 5280 bounds a common name at 64 characters; nobody reads it where there are alternative names.
fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(
        DnType::CommonName,
        if name.len() <= 64 { name } else { "Doorward" },
    );
    names
}

fn subject(host: &str) -> Result<SanType, AuthorityError> {
    let refuse = || AuthorityError::Host {
        host: host.to_owned(),
    };
    if let Some(address) = address(host) {
        return Ok(SanType::IpAddress(address));
    }
    let name = host.to_ascii_lowercase();
    if !is_dns_name(name.strip_prefix("*.").unwrap_or(&name)) {
        return Err(refuse());
    }
    Ok(SanType::DnsName(name.try_into().map_err(|_| refuse())?))
}

fn address(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(letters)
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, not_after: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = Duration::from_secs(now.as_secs()).saturating_sub(BACKDATE);
    params.not_before = epoch + since;
    params.not_after = epoch + Duration::from_secs(not_after.as_secs());
}

#[cfg(test)]
mod tests;
