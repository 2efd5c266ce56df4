//! Server secrets: from a file, from the environment, or made once and kept. What is read is never shown.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::environment::variable;
use super::session::KeyPlace;
use crate::config::reader::Value;
use crate::config::{Settings, StoreSettings};
use crate::secret::{Keyring, Secret, random};

/// Why a secret cannot be used, and what to do.
struct Trouble {
    message: String,
    help: String,
}

/// Far beyond any key; a file that is larger is something else.
const LARGEST: u64 = 64 * 1024;

pub(super) fn secret_from_file(value: &Value<'_>) -> Option<Secret> {
    let path = value.path()?;
    if value.report().tolerates_missing() && !path.exists() {
        return None;
    }
    match read(&path) {
        Ok(secret) => Some(secret),
        Err(Trouble { message, help }) => {
            value.wrong(message).help(help).push();
            None
        }
    }
}

pub(super) fn secret_from_environment(value: &Value<'_>) -> Option<Secret> {
    let (name, bytes) = variable(value, "DOORWARD_SESSION_SECRET")?;
    match long_enough(&bytes, &format!("the value of {name}")) {
        Ok(secret) => Some(secret),
        Err(Trouble { message, help }) => {
            value.wrong(message).help(help).push();
            None
        }
    }
}

/// The key beside the sessions. Where there is none it is made for who is to serve with it, and for nobody else: the
/// account that only checks is often another one. None at all is an empty list, which nothing can be served with.
pub(super) fn default_secret(place: &KeyPlace<'_>, settings: &Settings) -> Option<Vec<Secret>> {
    let path = match &settings.store {
        StoreSettings::Embedded { path } => path,
        StoreSettings::Memory => &settings.file,
        StoreSettings::Postgres(_) | StoreSettings::Redis(_) => {
            let help = "`openssl rand -hex 32` makes one: `secrets = [{ file = \"secrets/session.key\" }]`";
            place.report(
                "is missing: nodes that share a store need the same secret",
                help,
            );
            return None;
        }
    };
    let path = path.with_file_name("session.key");
    let ready = if place.serves() {
        make_if_absent(&path)
    } else if path.exists() {
        Ok(())
    } else {
        return Some(Vec::new());
    };
    match ready.and_then(|()| read(&path)) {
        Ok(secret) => Some(vec![secret]),
        Err(Trouble { message, help }) => {
            place.report(&message, &help);
            None
        }
    }
}

fn read(path: &Path) -> Result<Secret, Trouble> {
    let shown = path.display();
    let unreadable = |error: io::Error| Trouble {
        message: format!("{shown} cannot be read: {error}"),
        help: format!("make one: `(umask 077; openssl rand -hex 32 > {shown})`"),
    };
    let data = fs::metadata(path).map_err(unreadable)?;
    if data.mode() & 0o007 != 0 {
        return Err(Trouble {
            message: format!(
                "everybody on this machine can get at {shown} (mode {:03o})",
                data.mode() & 0o777
            ),
            help: format!("`chmod 600 {shown}`"),
        });
    }
    if data.len() > LARGEST || data.is_dir() {
        return Err(Trouble {
            message: format!("{shown} does not hold a secret"),
            help: "a file with 32 random bytes or more, and nothing else".to_owned(),
        });
    }
    let bytes = Zeroizing::new(fs::read(path).map_err(unreadable)?);
    long_enough(&bytes, &shown.to_string())
}

/// Takes off the newline that editors and `echo` leave at the end.
fn long_enough(bytes: &[u8], what: &str) -> Result<Secret, Trouble> {
    let trimmed = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let trimmed = trimmed.strip_suffix(b"\r").unwrap_or(trimmed);
    if trimmed.len() < Keyring::MIN_SECRET_LEN {
        return Err(Trouble {
            message: format!("{what} is too short for a secret: {} bytes", trimmed.len()),
            help: format!(
                "at least {} random bytes, for example from `openssl rand -hex 32`",
                Keyring::MIN_SECRET_LEN
            ),
        });
    }
    Ok(Secret::new(trimmed))
}

fn make_if_absent(path: &Path) -> Result<(), Trouble> {
    if path.exists() {
        return Ok(());
    }
    make(path).map_err(|error| Trouble {
        message: format!("a key cannot be made at {}: {error}", path.display()),
        help: "let doorward write there, or name a secret: `secrets = [{ file = \"secrets/session.key\" }]`".to_owned(),
    })
}

/// Whole or not at all, and never over another one: a second process that starts at the same time gets the same key.
fn make(path: &Path) -> io::Result<()> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let key = Zeroizing::new(hex(Zeroizing::new(random::<32>()).as_slice()));
    let draft = path.with_file_name(format!(".session.key.{}", hex(&random::<8>())));
    let written = write_private(&draft, key.as_bytes()).and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => removed,
        Err(error) => Err(error),
        Ok(()) => removed,
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or('0');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_is_private_and_the_same_ever_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/session.key");
        make_if_absent(&path).ok().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let first = read(&path).ok().unwrap();
        assert_eq!(first.expose().len(), 64);
        make(&path).unwrap();
        assert!(
            read(&path).ok().unwrap() == first,
            "a key that is there stays"
        );
        let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "no draft is left");
    }

    #[test]
    fn the_newline_at_the_end_does_not_count() {
        let bytes = [b'k'; 32];
        for end in ["", "\n", "\r\n"] {
            let text = [&bytes[..], end.as_bytes()].concat();
            assert_eq!(long_enough(&text, "x").ok().unwrap().expose(), bytes);
        }
        assert!(
            long_enough(&[b"\n", &bytes[1..], b"\n"].concat(), "x").is_ok(),
            "only at the end"
        );
        assert!(long_enough(&[&bytes[1..], b"\n"].concat(), "x").is_err());
    }
}
