//! The tokens file as it is now: every request looks here, and once a second somebody looks at the file. It blocks on
//! the disk only then.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::grant::Grant;
use super::roster::Stamp;
use super::tokens::{ApiToken, Fingerprint, TokenFile};
use crate::clock::Timestamp;
use crate::identity::{Identity, Subject};

/// What subjects of tokens begin with, in place of a provider's id.
pub const TOKENS: &str = "api-token";

/// Every token that is good.
#[derive(Debug)]
pub struct TokenBook {
    path: PathBuf,
    entries: ArcSwap<HashMap<Fingerprint, Entry>>,
    /// The file that was read last.
    stamp: Mutex<Option<Stamp>>,
}

#[derive(Clone, Debug)]
struct Entry {
    token: ApiToken,
    grant: Arc<Grant>,
}

impl TokenBook {
    /// Reads the file. One that is missing or broken holds no tokens, which is logged.
    pub fn open(path: PathBuf) -> Self {
        let book = Self {
            path,
            entries: ArcSwap::default(),
            stamp: Mutex::default(),
        };
        book.follow();
        book
    }

    /// What a token is worth, if it is one and good now.
    pub fn find(&self, presented: &[u8], now: Timestamp) -> Option<Arc<Grant>> {
        let fingerprint = Fingerprint::of(presented)?;
        let grant = self.entries.load().get(&fingerprint)?.grant.clone();
        grant.is_good(now).then_some(grant)
    }

    /// Reads the file again if it has changed, and takes back what is no longer in it or not as it was. A broken file changes
    /// nothing.
    pub fn follow(&self) {
        let mut known = self.stamp.lock();
        // Before reading, so that a change while reading is seen the next time.
        let stamp = Stamp::of(&self.path);
        if *known == Some(stamp) {
            return;
        }
        *known = Some(stamp);
        match TokenFile::load(&self.path) {
            Ok(file) => self.replace(&file),
            Err(error) => {
                let kept = self.entries.load().len();
                tracing::error!(%error, kept, "the tokens file cannot be used; the last good tokens stay");
            }
        }
    }

    fn replace(&self, file: &TokenFile) {
        let before = self.entries.load_full();
        let entry = |token: &ApiToken| {
            let fingerprint = token.fingerprint()?;
            let same = before
                .get(&fingerprint)
                .filter(|entry| entry.token == *token);
            let entry = same.cloned().unwrap_or_else(|| Entry {
                token: token.clone(),
                grant: Arc::new(grant(token)),
            });
            Some((fingerprint, entry))
        };
        let now: HashMap<_, _> = file.tokens().iter().filter_map(entry).collect();
        let now = Arc::new(now);
        self.entries.store(now.clone());
        for (fingerprint, old) in &*before {
            let is_kept = now
                .get(fingerprint)
                .is_some_and(|entry| Arc::ptr_eq(&entry.grant, &old.grant));
            if !is_kept {
                old.grant.end();
            }
        }
    }
}

fn grant(token: &ApiToken) -> Grant {
    let identity = Identity {
        subject: Subject {
            provider: TOKENS.to_owned(),
            id: token.name.clone(),
        },
        user: token.name.clone(),
        name: None,
        email: None,
        groups: token.groups.clone(),
    };
    Grant::new(
        identity,
        token.scopes.iter().cloned().collect(),
        token.until(),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tokens::NewToken;
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn new(name: &str) -> NewToken {
        NewToken {
            name: name.to_owned(),
            groups: Vec::new(),
            scopes: Vec::new(),
            lifetime: Some(Duration::from_mins(1)),
        }
    }

    #[test]
    fn a_token_is_good_from_its_making_to_its_revocation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let book = TokenBook::open(path.clone());
        let token = TokenFile::create(&path, new("ci"), NOW).unwrap();
        let other = TokenFile::create(&path, new("other"), NOW).unwrap();
        book.follow();
        let grant = book.find(token.as_bytes(), NOW).unwrap();
        let stays = book.find(other.as_bytes(), NOW).unwrap();
        assert_eq!(grant.identity.subject.to_string(), "api-token:ci");
        TokenFile::revoke(&path, "ci").unwrap();
        book.follow();
        assert!(book.find(token.as_bytes(), NOW).is_none());
        assert!(grant.is_over() && !stays.is_over());
    }

    #[test]
    fn a_token_is_good_until_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let token = TokenFile::create(&path, new("ci"), NOW).unwrap();
        let book = TokenBook::open(path);
        let last = NOW.after(Duration::from_millis(59_999));
        assert!(book.find(token.as_bytes(), last).is_some());
        assert!(
            book.find(token.as_bytes(), NOW.after(Duration::from_mins(1)))
                .is_none()
        );
    }

    #[test]
    fn a_broken_file_takes_nothing_back_and_a_missing_one_everything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let token = TokenFile::create(&path, new("ci"), NOW).unwrap();
        let book = TokenBook::open(path.clone());
        std::fs::write(&path, "nonsense").unwrap();
        book.follow();
        assert!(book.find(token.as_bytes(), NOW).is_some());
        std::fs::remove_file(&path).unwrap();
        book.follow();
        assert!(book.find(token.as_bytes(), NOW).is_none());
    }

    #[test]
    fn a_token_with_fewer_rights_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        let fewer = NewToken {
            groups: vec!["staff".to_owned()],
            ..new("ci")
        };
        let token = TokenFile::create(&path, fewer, NOW).unwrap();
        let book = TokenBook::open(path.clone());
        let before = book.find(token.as_bytes(), NOW).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("groups = [\"staff\"]\n", "")).unwrap();
        book.follow();
        assert!(before.is_over());
        let after = book.find(token.as_bytes(), NOW).unwrap();
        assert!(after.identity.groups.is_empty());
    }
}
