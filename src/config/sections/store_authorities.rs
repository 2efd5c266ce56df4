//! The authorities that a server's certificate is judged by: a PEM file.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::reader::Value;

/// The file's content, with a certificate or more.
pub(super) fn read(value: &Value<'_>) -> Option<Vec<u8>> {
    let path = value.path()?;
    if value.report().tolerates_missing() && !path.exists() {
        return None;
    }
    let trouble = match std::fs::read(&path) {
        Err(error) => error.to_string(),
        Ok(pem) => {
            let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            match found {
                Ok(found) if !found.is_empty() => return Some(pem),
                Ok(_) => "it holds no certificate".to_owned(),
                Err(error) => error.to_string(),
            }
        }
    };
    let complaint = value.wrong(format!("{} cannot be used: {trouble}", path.display()));
    complaint
        .help("a PEM file with the certificates of the authorities that signed the server's")
        .push();
    None
}
