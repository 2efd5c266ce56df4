//! Certificates and keys on disk: who may read them, how they get there whole, and when one is kept.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PublicKeyData};

use super::reading::Leaf;
use super::{Authority, AuthorityError, RENEW_BEFORE};
use crate::clock::Timestamp;
use crate::secret::{Secret, random};

/// Where a certificate and its key are kept, both PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// What became of the files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// There was none.
    Made { not_after: Timestamp },
    /// There was one of ours that no longer served, for this reason.
    Renewed { not_after: Timestamp, why: String },
    /// The one that is there is good.
    Kept { not_after: Timestamp },
}

enum Found {
    Nothing,
    Good(Timestamp),
    /// One of ours that no longer serves.
    Stale(String),
}

/// Who may read a file.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    Private = 0o600,
    Public = 0o644,
}

pub(super) fn issue(
    authority: &Authority,
    files: &CertificateFiles,
    (hosts, now): (&[String], Timestamp),
) -> Result<Outcome, AuthorityError> {
    let found = look(authority, files, (hosts, now))?;
    if let Found::Good(not_after) = found {
        return Ok(Outcome::Kept { not_after });
    }
    let (chain, key) = authority.issue(hosts, now)?;
    let made = Leaf::from_pem(&chain).map_err(|reason| AuthorityError::Unusable {
        file: files.cert.clone(),
        reason,
    })?;
    for file in [&files.cert, &files.key] {
        if let Some(folder) = file.parent() {
            create_folder(folder)?;
        }
    }
    // The certificate first: whoever finds only that one, or one with an older key, sees that it is ours to replace.
    write_atomically(&files.cert, chain.as_bytes(), Mode::Public)?;
    write_atomically(&files.key, key.expose(), Mode::Private)?;
    let not_after = made.not_after();
    Ok(match found {
        Found::Stale(why) => Outcome::Renewed { not_after, why },
        _ => Outcome::Made { not_after },
    })
}

fn look(
    authority: &Authority,
    files: &CertificateFiles,
    (hosts, now): (&[String], Timestamp),
) -> Result<Found, AuthorityError> {
    let foreign = |file: &Path, reason: String| AuthorityError::Foreign {
        file: file.to_owned(),
        reason,
    };
    if !exists(&files.cert)? {
        if exists(&files.key)? {
            return Err(foreign(&files.key, "its certificate is missing".to_owned()));
        }
        return Ok(Found::Nothing);
    }
    let leaf =
        Leaf::from_pem(&read_text(&files.cert)?).map_err(|reason| foreign(&files.cert, reason))?;
    let ours = leaf.is_ours();
    let fault = missing_host(&leaf, hosts)
        .or_else(|| ending(&leaf, now))
        .or_else(|| {
            (ours && !leaf.is_issued_by(&authority.certificate))
                .then(|| "an earlier authority made it".to_owned())
        })
        .or_else(|| without_key(&leaf, &files.key, ours));
    match fault {
        None => Ok(Found::Good(leaf.not_after())),
        Some(why) if ours => Ok(Found::Stale(why)),
        Some(why) => Err(foreign(&files.cert, why)),
    }
}

fn missing_host(leaf: &Leaf, hosts: &[String]) -> Option<String> {
    let host = hosts.iter().find(|host| !leaf.names(host))?;
    Some(format!("it does not name {host}"))
}

fn ending(leaf: &Leaf, now: Timestamp) -> Option<String> {
    let not_after = leaf.not_after();
    (not_after <= now.after(RENEW_BEFORE)).then(|| format!("it ends on {not_after}"))
}

/// A key from elsewhere may be of a kind that we do not make, so that it is there must do.
fn without_key(leaf: &Leaf, key: &Path, ours: bool) -> Option<String> {
    let belongs = || read_key(key).is_ok_and(|key| leaf.has_key(&key.subject_public_key_info()));
    let there = if ours { belongs() } else { key.exists() };
    (!there).then(|| "the key beside it is missing or belongs to another certificate".to_owned())
}

pub(super) fn read_key(file: &Path) -> Result<KeyPair, AuthorityError> {
    let pem = Secret::new(fs::read(file).map_err(|source| at(file, source))?);
    let text = std::str::from_utf8(pem.expose()).ok();
    // The parser's own error is left out: it may quote the key.
    text.and_then(|text| KeyPair::from_pem(text).ok())
        .ok_or_else(|| AuthorityError::Unusable {
            file: file.to_owned(),
            reason: "no private key in it that can be used".to_owned(),
        })
}

pub(super) fn read_text(file: &Path) -> Result<String, AuthorityError> {
    fs::read_to_string(file).map_err(|source| at(file, source))
}

pub(super) fn exists(file: &Path) -> Result<bool, AuthorityError> {
    file.try_exists().map_err(|source| at(file, source))
}

/// Folders that we make are the user's alone; one that is there stays as it is.
pub(super) fn create_folder(folder: &Path) -> Result<(), AuthorityError> {
    // A bare file name has the empty path for its folder.
    if folder.as_os_str().is_empty() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| at(folder, source))
}

/// Whoever reads `file` sees the old text or the new one, never a part, and a private one is never open to others, not
/// even while it is written.
pub(super) fn write_atomically(
    file: &Path,
    bytes: &[u8],
    mode: Mode,
) -> Result<(), AuthorityError> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{:016x}.new", u64::from_le_bytes(random())));
    let temporary = file.with_file_name(name);
    let written = write_new(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, file));
    written.map_err(|source| {
        // It may not have come to be; either way the first error is the one to tell.
        drop(fs::remove_file(&temporary));
        at(file, source)
    })
}

fn write_new(file: &Path, bytes: &[u8], mode: Mode) -> io::Result<()> {
    let mut open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode as u32)
        .open(file)?;
    open.write_all(bytes)?;
    open.sync_all()
}

fn at(file: &Path, source: io::Error) -> AuthorityError {
    AuthorityError::File {
        file: file.to_owned(),
        source,
    }
}
