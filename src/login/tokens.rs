//! The tokens file: the API tokens that were given out, each by its hash. Here it is read as a whole and written as a whole;
//! what a token is good for, others decide.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::editing;
use super::users::{self, UserFileError};
use crate::clock::Timestamp;
use crate::secret::random;

const HEADING: &str = "# API tokens of Doorward, each by its SHA-256. `doorward token` writes this file anew and keeps no comments.\n";

/// Tells a token apart from other secrets, for people and for programs that look for lost ones.
const PREFIX: &str = "dwt_";

/// The prefix, then 256 bits.
const TOKEN_LEN: usize = PREFIX.len() + 43;

/// Of a name, a group and a scope.
const MAX_NAME: usize = 64;

/// What a store of tokens knows a token by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Fingerprint([u8; 32]);

/// A token that was given out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApiToken {
    /// What apps and logs know its bearer by. No two tokens of a file have the same.
    pub name: String,
    hash: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// In seconds since 1970.
    pub created: u64,
    /// Likewise; never where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

/// A token that is to be given out.
#[derive(Clone, Debug)]
pub struct NewToken {
    pub name: String,
    pub groups: Vec<String>,
    pub scopes: Vec<String>,
    pub lifetime: Option<Duration>,
}

/// Every token of a file that was read without a fault.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFile {
    #[serde(default, rename = "token")]
    tokens: Vec<ApiToken>,
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(transparent)]
    File(#[from] UserFileError),
    #[error("{}: {message}", .path.display())]
    Invalid { path: PathBuf, message: String },
    #[error("there is a token {0:?} already; revoke it first, or take another name")]
    Exists(String),
    #[error("there is no token {0:?}")]
    Unknown(String),
    #[error("{0:?} is no name: letters, digits and `-_.:/@`, at most {MAX_NAME}")]
    Name(String),
}

impl Fingerprint {
    /// Of what somebody presents; `None` for what cannot be a token.
    pub(super) fn of(presented: &[u8]) -> Option<Self> {
        let is_token = presented.len() == TOKEN_LEN && presented.starts_with(PREFIX.as_bytes());
        is_token.then(|| Self::hash(presented))
    }

    fn hash(token: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token).as_ref());
        Self(hash)
    }

    fn read(text: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl ApiToken {
    /// A token of a file that was read has one.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        Fingerprint::read(&self.hash)
    }

    pub(super) fn until(&self) -> Timestamp {
        self.expires.map_or(Timestamp::MAX, |seconds| {
            Timestamp::from_millis(seconds.saturating_mul(1000))
        })
    }
}

impl TokenFile {
    /// Reads the whole file. A file that is missing holds no tokens.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let Some(text) = users::read_text(path)? else {
            return Ok(Self::default());
        };
        let invalid = |message: String| TokenError::Invalid {
            path: path.to_owned(),
            message,
        };
        let file: Self = toml::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        let mut names = HashSet::new();
        for token in &file.tokens {
            check(token)?;
            if !names.insert(&token.name) {
                return Err(invalid(format!("two tokens are named {:?}", token.name)));
            }
            if token.fingerprint().is_none() {
                return Err(invalid(format!("the hash of {:?} is none", token.name)));
            }
        }
        Ok(file)
    }

    /// In the order in which they were made.
    pub fn tokens(&self) -> &[ApiToken] {
        &self.tokens
    }

    /// Adds a token and returns it: this is the only time that anybody sees it.
    pub fn create(
        path: &Path,
        new: NewToken,
        now: Timestamp,
    ) -> Result<Zeroizing<String>, TokenError> {
        let mut text = Zeroizing::new(String::with_capacity(TOKEN_LEN));
        text.push_str(PREFIX);
        BASE64_URL_SAFE_NO_PAD.encode_string(Zeroizing::new(random::<32>()), &mut text);
        let expires = new.lifetime.map(|lifetime| now.after(lifetime).as_secs());
        let token = ApiToken {
            name: new.name,
            hash: BASE64_URL_SAFE_NO_PAD.encode(Fingerprint::hash(text.as_bytes()).0),
            groups: new.groups,
            scopes: new.scopes,
            created: now.as_secs(),
            expires,
        };
        check(&token)?;
        Self::change(path, |tokens| {
            if tokens.iter().any(|known| known.name == token.name) {
                return Err(TokenError::Exists(token.name.clone()));
            }
            tokens.push(token);
            Ok(())
        })?;
        Ok(text)
    }

    pub fn revoke(path: &Path, name: &str) -> Result<(), TokenError> {
        Self::change(path, |tokens| {
            let before = tokens.len();
            tokens.retain(|token| token.name != name);
            let is_gone = tokens.len() < before;
            is_gone
                .then_some(())
                .ok_or_else(|| TokenError::Unknown(name.to_owned()))
        })
    }

    /// Under the lock: two commands at once lose nothing, and a crash leaves either the old file or the new one.
    fn change(
        path: &Path,
        change: impl FnOnce(&mut Vec<ApiToken>) -> Result<(), TokenError>,
    ) -> Result<(), TokenError> {
        let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let _lock = editing::lock(&target)?;
        let mut file = Self::load(&target)?;
        change(&mut file.tokens)?;
        let mut text = HEADING.to_owned();
        let written = toml::to_string(&file).map_err(|error| TokenError::Invalid {
            path: path.to_owned(),
            message: error.to_string(),
        })?;
        // Into a string, where nothing can fail.
        let _written = write!(text, "\n{written}");
        editing::replace_file(&target, text.as_bytes()).map_err(|source| {
            UserFileError::Io {
                path: path.to_owned(),
                source,
            }
            .into()
        })
    }
}

/// Whether its names are such that nothing between here and an app reads them as something else.
fn check(token: &ApiToken) -> Result<(), TokenError> {
    let is_plain = |name: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte);
        !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(plain)
    };
    let names = [&token.name].into_iter().chain(&token.groups);
    let mut names = names.chain(&token.scopes);
    names
        .find(|name| !is_plain(name))
        .map_or(Ok(()), |name| Err(TokenError::Name(name.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn new(name: &str) -> NewToken {
        NewToken {
            name: name.to_owned(),
            groups: vec!["staff".to_owned()],
            scopes: vec!["reports:read".to_owned()],
            lifetime: Some(Duration::from_hours(1)),
        }
    }

    #[test]
    fn a_token_is_told_once_and_kept_by_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let one = TokenFile::create(&path, new("one"), NOW).unwrap();
        let two = TokenFile::create(&path, new("two"), NOW).unwrap();
        assert_ne!(one, two);
        let text = std::fs::read_to_string(&path).unwrap();
        let secret = one.strip_prefix(PREFIX).unwrap();
        assert!(!text.contains(secret), "{text}");
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let file = TokenFile::load(&path).unwrap();
        assert_eq!(
            file.tokens()[0].fingerprint(),
            Fingerprint::of(one.as_bytes())
        );
        assert_eq!(file.tokens()[1].until(), NOW.after(Duration::from_hours(1)));
    }

    #[test]
    fn a_name_is_given_once_and_what_is_revoked_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        TokenFile::create(&path, new("ci"), NOW).unwrap();
        let again = TokenFile::create(&path, new("ci"), NOW);
        assert!(matches!(again, Err(TokenError::Exists(_))));
        TokenFile::revoke(&path, "ci").unwrap();
        assert!(TokenFile::load(&path).unwrap().tokens().is_empty());
        let gone = TokenFile::revoke(&path, "ci");
        assert!(matches!(gone, Err(TokenError::Unknown(_))));
    }

    #[test]
    fn what_an_app_could_misread_is_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        for bad in ["", "a b", "a,b", "a\n", "ü", &"a".repeat(65)] {
            for token in [
                NewToken {
                    name: bad.to_owned(),
                    ..new("x")
                },
                NewToken {
                    groups: vec![bad.to_owned()],
                    ..new("x")
                },
                NewToken {
                    scopes: vec![bad.to_owned()],
                    ..new("x")
                },
            ] {
                let made = TokenFile::create(&path, token, NOW);
                assert!(matches!(made, Err(TokenError::Name(_))), "{bad:?}");
            }
        }
        assert!(!path.exists());
    }

    #[test]
    fn a_file_with_anything_odd_in_it_is_refused_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let good = format!(
            "[[token]]\nname = \"a\"\nhash = \"{}\"\ncreated = 1\n",
            "A".repeat(43)
        );
        std::fs::write(&path, &good).unwrap();
        assert_eq!(TokenFile::load(&path).unwrap().tokens().len(), 1);
        for bad in [
            good.replace("created = 1", ""),
            good.replace("AAAA", "AAA"),
            good.replace("created", "scope = \"x\"\ncreated"),
            format!("{good}{good}"),
            good.replace("\"a\"", "\"a b\""),
        ] {
            std::fs::write(&path, &bad).unwrap();
            assert!(TokenFile::load(&path).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_looks_like_a_token_is_looked_for() {
        let good = format!("dwt_{}", "A".repeat(43));
        assert!(Fingerprint::of(good.as_bytes()).is_some());
        for bad in [
            "",
            "dwt_",
            good.trim_start_matches('d'),
            &format!("{good}A"),
            &good.replace("dwt", "DWT"),
        ] {
            assert!(Fingerprint::of(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
