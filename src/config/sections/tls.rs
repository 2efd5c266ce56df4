//! `[tls]`: certificates from files, or a local authority. PEM is not read here; that a file can be opened is checked.

use std::path::PathBuf;
use std::time::Duration;

use super::check_readable;
use crate::config::reader::{Section, Value};
use crate::config::{CertificateSource, TlsSettings};

const EXAMPLE: &str = "certificates = [{ cert = \"certs/site.pem\", key = \"certs/site.key\" }]";
const TEN_YEARS: Duration = Duration::from_hours(3650 * 24);

pub(super) fn read(section: Section<'_>) -> Option<TlsSettings> {
    let source = source(&section);
    let hsts = section
        .value("hsts_max_age")
        .and_then(|value| value.duration_in(Duration::ZERO..=TEN_YEARS));
    section.finish();
    Some(TlsSettings {
        source: source?,
        hsts_max_age: hsts.map(|age| age.as_secs()),
    })
}

fn source(section: &Section<'_>) -> Option<CertificateSource> {
    let files = section.value("certificates");
    let self_signed = section
        .value("self_signed")
        .filter(|_| section.boolean("self_signed", false));
    let authority = section.value("authority");
    let folder = section.path_to("authority");
    if let (Some(authority), None) = (&authority, &self_signed) {
        let complaint = authority
            .wrong("is of use only with `self_signed = true`")
            .at_key();
        complaint
            .help("remove it, or let the local authority sign with `self_signed = true`")
            .push();
    }
    match (files, self_signed) {
        (Some(files), None) => {
            let pairs: Vec<_> = files.list().iter().filter_map(certificate).collect();
            if files.list().is_empty() {
                files
                    .wrong("names no certificate")
                    .help(format!("for example `{EXAMPLE}`"))
                    .push();
            }
            (!pairs.is_empty()).then_some(CertificateSource::Files(pairs))
        }
        (None, Some(_)) => {
            let folder = folder.unwrap_or_else(|| section.report().folder().join("certs"));
            Some(CertificateSource::LocalAuthority(folder))
        }
        (Some(files), Some(self_signed)) => {
            let line = section.report().line(&files.place());
            let complaint = self_signed.wrong(format!(
                "cannot be together with `certificates` on line {line}"
            ));
            complaint
                .other(files.place(), "certificates from files")
                .help("keep one of the two")
                .push();
            None
        }
        (None, None) => {
            let complaint = section.missing("certificates", "no certificate is given");
            complaint
                .help(format!(
                    "write `{EXAMPLE}`, or `self_signed = true` for development"
                ))
                .push();
            None
        }
    }
}

/// One `{ cert = …, key = … }`.
fn certificate(item: &Value<'_>) -> Option<(PathBuf, PathBuf)> {
    const HELP: &str = "`doorward cert` makes a certificate and its key for a start";
    let section = item.section()?;
    let file = |key, example| {
        let value = section.required(key, example)?;
        let path = value.path()?;
        check_readable(&value, &path, HELP);
        Some(path)
    };
    let (cert, key) = (
        file("cert", "cert = \"certs/site.pem\""),
        file("key", "key = \"certs/site.key\""),
    );
    section.finish();
    Some((cert?, key?))
}
