//! What users change of their own entry in the users file: written up to the last step, so that their sessions can end
//! before it is seen. It knows no password and no code, only what is kept of them.

use std::cmp::Reverse;
use std::ops::Range;
use std::path::Path;

use super::editing::{Prepared, located, prepare, quoted, replaced};
use super::own_change::OwnChange;
use super::users::{Entry, User, UserFile, UserFileError};

/// What becomes of an entry. What is `None` stays.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnEdit {
    pub(super) password: Option<String>,
    pub(super) totp: Factor,
    pub(super) recovery_codes: Option<Vec<String>>,
    /// By which every session from before has ended when this is seen; `None`: none needs to.
    pub(super) epoch: Option<u64>,
}

/// What becomes of the second factor.
#[derive(Clone, Debug, Default)]
pub(super) enum Factor {
    #[default]
    Keep,
    Remove,
    /// The sealed secret.
    Set(String),
    /// The secret that is there, sealed under another: nobody's session ends for it.
    SealAnew(String),
}

impl UserFile {
    /// `proven` is how the user stood when they showed who they are: who changes faster wins.
    pub(super) fn prepare_own(
        path: &Path,
        proven: &User,
        edit: OwnEdit,
    ) -> Result<Prepared, UserFileError> {
        prepare(path, |text, entries, users| {
            let (entry, user) = located(entries, users, &proven.name)?;
            let same = user.password == proven.password && user.totp == proven.totp;
            // Where the codes matter, nobody may have used one meanwhile.
            let counts = edit.recovery_codes.is_some();
            if !same || (counts && user.recovery_codes != proven.recovery_codes) {
                return Err(UserFileError::Overtaken);
            }
            let mut changes = Changes {
                text,
                entry,
                all: Vec::new(),
            };
            if let Some(password) = edit.password {
                let value = quoted(&password);
                changes.all.push((entry.password.clone(), value));
                user.password = password;
            }
            let settled = match edit.totp {
                // What has ended already for a change before stays so.
                Factor::SealAnew(_) => user.own_change.and_then(|mark| mark.settles(user)),
                _ => edit.epoch,
            };
            let totp = match edit.totp {
                Factor::Keep => user.totp.clone(),
                Factor::Remove => None,
                Factor::Set(sealed) | Factor::SealAnew(sealed) => Some(sealed),
            };
            if user.totp != totp {
                let value = totp.as_deref().map(quoted);
                changes.set("totp", entry.totp.clone(), value);
                user.totp = totp;
            }
            if let Some(codes) = edit.recovery_codes {
                let listed: Vec<_> = codes.iter().map(|code| quoted(code)).collect();
                let value = (!codes.is_empty()).then(|| format!("[{}]", listed.join(", ")));
                changes.set("recovery_codes", entry.recovery_codes.clone(), value);
                user.recovery_codes = codes;
            }
            if let Some(epoch) = settled {
                let mark = OwnChange::new(epoch, user);
                let value = Some(quoted(&mark.to_string()));
                changes.set("own_change", entry.own_change.clone(), value);
                user.own_change = Some(mark);
            }
            Ok(changes.made())
        })
    }

    /// Takes a user's second factor away.
    pub fn remove_second_factor(path: &Path, name: &str) -> Result<(), UserFileError> {
        let prepared = prepare(path, |text, entries, users| {
            let (entry, user) = located(entries, users, name)?;
            let mut changes = Changes {
                text,
                entry,
                all: Vec::new(),
            };
            changes.set("totp", entry.totp.clone(), None);
            changes.set("recovery_codes", entry.recovery_codes.clone(), None);
            (user.totp, user.recovery_codes) = (None, Vec::new());
            Ok(changes.made())
        });
        prepared?.commit()
    }
}

/// Changes of one entry, each a place and what is to stand there.
struct Changes<'a> {
    text: &'a str,
    entry: &'a Entry,
    all: Vec<(Range<usize>, String)>,
}

impl Changes<'_> {
    /// A key gets a value in the place of the one that it has, or on a line of its own below the password; without a value
    /// its lines go.
    fn set(&mut self, key: &str, known: Option<Range<usize>>, value: Option<String>) {
        let line_end = |from: usize| {
            let rest = self.text.get(from..).unwrap_or_default();
            rest.find('\n').map(|end| from + end + 1)
        };
        let change = match (known, value) {
            (Some(known), Some(value)) => (known, value),
            (Some(known), None) => {
                let before = self.text.get(..known.start).unwrap_or_default();
                let start = before.rfind('\n').map_or(0, |newline| newline + 1);
                let end = line_end(known.end).unwrap_or(self.text.len());
                (start..end, String::new())
            }
            (None, Some(value)) => {
                let end = line_end(self.entry.password.end);
                let (at, before) = end.map_or((self.text.len(), "\n"), |at| (at, ""));
                (at..at, format!("{before}{key} = {value}\n"))
            }
            (None, None) => return,
        };
        self.all.push(change);
    }

    /// The later places first, so that the earlier ones stay where they are.
    fn made(mut self) -> String {
        self.all.sort_by_key(|(range, _)| Reverse(range.start));
        let changes = self.all.into_iter();
        changes.fold(self.text.to_owned(), |text, (range, by)| {
            replaced(&text, range, &by)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;
    use crate::login::users::tests::PHC;

    const OTHER: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    fn place() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        let text = format!(
            "# Ours\n[[user]]\npassword = '{PHC}' # by hand\nname = 'alice'\n\n[[user]]\nname = 'bob'\npassword = '{PHC}'"
        );
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn user(path: &Path, name: &str) -> User {
        UserFile::load(path).unwrap().find(name).unwrap().clone()
    }

    fn password(phc: &str, epoch: u64) -> OwnEdit {
        OwnEdit {
            password: Some(phc.to_owned()),
            epoch: Some(epoch),
            ..OwnEdit::default()
        }
    }

    #[test]
    fn an_own_change_is_marked_below_the_password_and_its_mark_is_replaced() {
        let (_folder, path) = place();
        let text = fs::read_to_string(&path).unwrap();
        let proven = user(&path, "alice");
        drop(UserFile::prepare_own(&path, &proven, password(OTHER, 1)).unwrap());
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            text,
            "it has never been"
        );
        for (name, phc, epoch) in [
            ("alice", OTHER, 1800),
            ("bob", OTHER, 7),
            ("alice", PHC, 1801),
        ] {
            let proven = user(&path, name);
            let prepared = UserFile::prepare_own(&path, &proven, password(phc, epoch)).unwrap();
            prepared.commit().unwrap();
            let now = user(&path, name);
            assert_eq!(now.own_change.unwrap().settles(&now), Some(epoch));
            // Whoever had proven the same is too late.
            let overtaken = UserFile::prepare_own(&path, &proven, password(PHC, 9000)).unwrap_err();
            assert!(matches!(overtaken, UserFileError::Overtaken), "{overtaken}");
        }
        let now = fs::read_to_string(&path).unwrap();
        let (alice, bob) = now.split_once("\n\n").unwrap();
        let lines: Vec<_> = alice.lines().collect();
        assert_eq!(lines[2], format!("password = {PHC:?} # by hand"));
        assert!(lines[3].starts_with("own_change = \"1801."), "{now}");
        assert_eq!(lines[4], "name = 'alice'");
        assert!(
            bob.ends_with('\n') && bob.contains("\nown_change = \"7."),
            "{now}"
        );
    }

    #[test]
    fn a_second_factor_comes_and_goes_and_leaves_everything_else_as_it_was() {
        let (_folder, path) = place();
        let before = fs::read_to_string(&path).unwrap();
        let sealed = "A".repeat(70);
        let codes: Vec<_> = ["B", "C"].map(|letter| letter.repeat(42) + "A").to_vec();
        let edit = OwnEdit {
            totp: Factor::Set(sealed.clone()),
            recovery_codes: Some(codes.clone()),
            epoch: Some(3),
            ..OwnEdit::default()
        };
        let proven = user(&path, "alice");
        let prepared = UserFile::prepare_own(&path, &proven, edit).unwrap();
        prepared.commit().unwrap();
        let enrolled = user(&path, "alice");
        assert_eq!(
            (&enrolled.totp, &enrolled.recovery_codes),
            (&Some(sealed), &codes)
        );
        assert_eq!(user(&path, "bob").totp, None);
        // One code is used: of two who come with it, one is in time.
        let spend = || OwnEdit {
            recovery_codes: Some(vec![codes[1].clone()]),
            ..OwnEdit::default()
        };
        let prepared = UserFile::prepare_own(&path, &enrolled, spend()).unwrap();
        prepared.commit().unwrap();
        let late = UserFile::prepare_own(&path, &enrolled, spend()).unwrap_err();
        assert!(matches!(late, UserFileError::Overtaken), "{late}");
        let now = user(&path, "alice");
        assert_eq!(
            now.own_change.unwrap().settles(&now),
            Some(3),
            "no session needs to end"
        );
        let anew = format!("B{}", "A".repeat(69));
        let edit = || OwnEdit {
            totp: Factor::SealAnew(anew.clone()),
            ..OwnEdit::default()
        };
        let prepared = UserFile::prepare_own(&path, &now, edit()).unwrap();
        prepared.commit().unwrap();
        let late = UserFile::prepare_own(&path, &now, edit()).unwrap_err();
        assert!(matches!(late, UserFileError::Overtaken), "{late}");
        let now = user(&path, "alice");
        assert_eq!(now.totp, Some(anew.clone()));
        assert_eq!(now.own_change.unwrap().settles(&now), Some(3), "nor now");
        UserFile::remove_second_factor(&path, "alice").unwrap();
        let now = user(&path, "alice");
        assert_eq!((now.totp.as_ref(), now.recovery_codes.len()), (None, 0));
        assert_eq!(
            now.own_change.unwrap().settles(&now),
            None,
            "it is another change"
        );
        let text = fs::read_to_string(&path).unwrap();
        let rest: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with("own_change"))
            .collect();
        assert_eq!(rest.join("\n"), before);
    }
}
