//! The users file as it is now: read again whenever it has changed, the last good users kept while it is broken.
//! It blocks on the disk and knows no login.

use std::fs::{self, File};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::second_factor::NewFactor;
use super::users::{User, UserFile, UserFileError};
use crate::secret::Keyring;

/// States of the file that are remembered between two looks at what has changed.
const MAX_SERVED: usize = 64;

#[derive(Debug)]
pub(super) struct Roster {
    path: PathBuf,
    state: Mutex<State>,
    /// Of the users now, told without a look at the file.
    has_passkeys: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// The last good users; none where the file was never good.
    users: Option<Arc<UserFile>>,
    /// The file that was read last, if it need not be read again.
    stamp: Option<Stamp>,
    /// What the log was told is wrong.
    fault: Option<String>,
    /// What [`Roster::changes`] compares with.
    reported: Option<(Arc<UserFile>, Stamp)>,
    /// What logins were judged by since then: who was added and logged in has a session too.
    served: Vec<Arc<UserFile>>,
    /// That same file, kept open: its inode number cannot go to the file that takes its place.
    held: Option<File>,
    /// A file changed in place, seen once.
    unsettled: Option<Stamp>,
    /// Removed users to be told a second time.
    again: Vec<String>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stamp {
    Missing,
    File {
        inode: u64,
        len: u64,
        modified: (i64, i64),
        changed: (i64, i64),
    },
}

impl Roster {
    pub(super) fn new(path: PathBuf) -> Self {
        let roster = Self {
            path,
            state: Mutex::default(),
            has_passkeys: AtomicBool::new(false),
        };
        let mut state = roster.state.lock();
        let stamp = roster.refresh(&mut state);
        state.reported = state.users.clone().map(|users| (users, stamp));
        state.held = File::open(&roster.path).ok();
        drop(state);
        roster
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn has_passkeys(&self) -> bool {
        self.has_passkeys.load(Ordering::Relaxed)
    }

    /// The users now; `None` where the file has never been good.
    pub(super) fn users(&self) -> Option<Arc<UserFile>> {
        let mut state = self.state.lock();
        self.refresh(&mut state);
        state.users.clone()
    }

    /// Names that have vanished or whose password or second factor has changed since the last call.
    ///
    /// A file that was replaced is believed at once. One that is missing or was changed in place may be half
    /// written: it is believed when it looks the same at the next call. A removed user is told twice, so that a
    /// login that was under way at the first time is found at the second. Who came and went between two calls is told.
    ///
    /// A second factor that was sealed anew under another of our secrets is the same one.
    pub(super) fn changes(&self, keyring: Option<&Keyring>) -> Vec<String> {
        let mut state = self.state.lock();
        let stamp = self.refresh(&mut state);
        let Some(users) = state.users.clone() else {
            return Vec::new();
        };
        let mut names = mem::take(&mut state.again);
        names.retain(|name| users.find(name).is_none());
        let before = match &state.reported {
            Some((reported, _)) if Arc::ptr_eq(reported, &users) => return names,
            Some((_, before)) => *before,
            None => Stamp::Missing,
        };
        let mut changed = Vec::new();
        let known = state.reported.iter().map(|(users, _)| users);
        let known = known.chain(&state.served);
        for name in known.flat_map(|known| others(known, &users, keyring)) {
            if !changed.contains(&name) {
                changed.push(name);
            }
        }
        let sure = changed.is_empty() || stamp.replaced(before);
        if !sure && state.unsettled != Some(stamp) {
            state.unsettled = Some(stamp);
            return names;
        }
        state.unsettled = None;
        state.served.clear();
        let removed = changed.iter().filter(|name| users.find(name).is_none());
        state.again.extend(removed.cloned());
        state.reported = Some((users, stamp));
        state.held = File::open(&self.path).ok();
        names.extend(changed);
        names
    }

    /// Reads the file if it is not the one read last.
    fn refresh(&self, state: &mut State) -> Stamp {
        // Before reading, so that a change while reading is seen the next time.
        let stamp = Stamp::of(&self.path);
        if state.stamp == Some(stamp) {
            return stamp;
        }
        state.stamp = Some(stamp);
        match UserFile::load(&self.path) {
            Ok(users) => {
                state.fault = None;
                self.has_passkeys
                    .store(users.has_passkeys(), Ordering::Relaxed);
                if !users.found() {
                    let path = self.path.display();
                    tracing::warn!(%path, "there is no users file: nobody can log in with it");
                }
                if let Some(before) = state.users.replace(Arc::new(users)) {
                    let excess = (state.served.len() + 1).saturating_sub(MAX_SERVED);
                    state.served.drain(..excess);
                    state.served.push(before);
                }
            }
            Err(error) => {
                if matches!(error, UserFileError::Io { .. }) {
                    // The file may be good, and become readable without a change that could be seen.
                    state.stamp = None;
                }
                let fault = error.to_string();
                if state.fault.as_ref() != Some(&fault) {
                    let kept = state.users.as_ref().map_or(0, |users| users.users().len());
                    tracing::error!(%error, kept, "the users file cannot be used; the last good users stay");
                    state.fault = Some(fault);
                }
            }
        }
        stamp
    }
}

/// Those of `before` whom `now` has no longer, or with another password or second factor.
fn others(before: &UserFile, now: &UserFile, keyring: Option<&Keyring>) -> Vec<String> {
    let same = |user: &User| {
        now.find(&user.name)
            .is_some_and(|now| now.password == user.password && same_factor(user, now, keyring))
    };
    let others = before.users().iter().filter(|user| !same(user));
    others.map(|user| user.name.clone()).collect()
}

/// What does not open is another one.
fn same_factor(before: &User, now: &User, keyring: Option<&Keyring>) -> bool {
    let opened = |user: &User| NewFactor::open(user.totp.as_deref()?, keyring?, &user.name);
    before.totp == now.totp || opened(before).is_some_and(|factor| Some(factor) == opened(now))
}

impl Stamp {
    pub(super) fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(found) => Self::File {
                inode: found.ino(),
                len: found.size(),
                modified: (found.mtime(), found.mtime_nsec()),
                changed: (found.ctime(), found.ctime_nsec()),
            },
            // Whatever keeps the file from being looked at, reading it will say.
            Err(_) => Self::Missing,
        }
    }

    /// Whether another file took the place of the one before, which happens all at once.
    fn replaced(self, before: Self) -> bool {
        match (self, before) {
            (Self::File { inode: now, .. }, Self::File { inode: before, .. }) => now != before,
            (Self::File { .. }, Self::Missing) | (Self::Missing, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::login::users::tests::PHC;

    const OTHER: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    fn text(users: &[(&str, &str)]) -> String {
        let entry =
            |(name, phc): &(&str, &str)| format!("[[user]]\nname = '{name}'\npassword = '{phc}'\n");
        users.iter().map(entry).collect::<Vec<_>>().concat()
    }

    fn replace(path: &Path, users: &[(&str, &str)]) {
        let fresh = path.with_extension("new");
        fs::write(&fresh, text(users)).unwrap();
        fs::rename(fresh, path).unwrap();
    }

    fn roster(users: &[(&str, &str)]) -> (TempDir, PathBuf, Roster) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        replace(&path, users);
        let roster = Roster::new(path.clone());
        (folder, path, roster)
    }

    fn names(roster: &Roster) -> Vec<String> {
        let users = roster.users().unwrap();
        users.users().iter().map(|user| user.name.clone()).collect()
    }

    #[test]
    fn a_change_is_seen_at_the_next_look() {
        let (_folder, path, roster) = roster(&[("alice", PHC)]);
        assert_eq!(names(&roster), ["alice"]);
        replace(&path, &[("bob", PHC)]);
        assert_eq!(names(&roster), ["bob"]);
    }

    #[test]
    fn a_file_that_has_not_changed_is_not_read_again() {
        let (_folder, _path, roster) = roster(&[("alice", PHC)]);
        let (first, second) = (roster.users().unwrap(), roster.users().unwrap());
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn a_broken_file_keeps_the_last_good_users_and_ends_nobodys_session() {
        let (_folder, path, roster) = roster(&[("alice", PHC)]);
        fs::write(&path, "[[user]]\nname = ").unwrap();
        assert_eq!(names(&roster), ["alice"]);
        assert!(roster.changes(None).is_empty());
        assert!(roster.changes(None).is_empty());
        let fault = roster.state.lock().fault.clone().unwrap();
        assert!(fault.contains("users.toml:2:"), "{fault}");
        replace(&path, &[("bob", PHC)]);
        assert_eq!(roster.changes(None), ["alice"]);
        assert!(roster.state.lock().fault.is_none());
    }

    #[test]
    fn a_file_never_good_has_no_users_rather_than_an_empty_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        fs::write(&path, "nonsense").unwrap();
        let roster = Roster::new(path.clone());
        assert!(roster.users().is_none());
        replace(&path, &[("alice", PHC)]);
        assert_eq!(names(&roster), ["alice"]);
        assert!(roster.changes(None).is_empty(), "nobody was there before");
    }

    #[test]
    fn removed_users_and_changed_passwords_are_told() {
        let (_folder, path, roster) = roster(&[("alice", PHC), ("bob", PHC), ("carol", PHC)]);
        assert!(roster.changes(None).is_empty());
        replace(&path, &[("alice", OTHER), ("carol", PHC), ("dave", PHC)]);
        assert_eq!(roster.changes(None), ["alice", "bob"]);
        assert_eq!(roster.changes(None), ["bob"], "the removed one twice");
        assert!(roster.changes(None).is_empty());
    }

    #[test]
    fn a_file_replaced_twice_is_believed_at_once() {
        let (_folder, path, roster) = roster(&[("alice", PHC), ("bob", PHC)]);
        replace(&path, &[("alice", PHC)]);
        replace(&path, &[]);
        assert_eq!(roster.changes(None), ["alice", "bob"]);
    }

    #[test]
    fn a_login_that_looked_first_hides_no_change() {
        let (_folder, path, roster) = roster(&[("alice", PHC)]);
        replace(&path, &[]);
        assert!(names(&roster).is_empty());
        assert_eq!(roster.changes(None), ["alice"]);
    }

    #[test]
    fn who_was_added_and_changed_between_two_looks_is_told() {
        let (_folder, path, roster) = roster(&[("alice", PHC)]);
        replace(&path, &[("alice", PHC), ("bob", PHC), ("carol", PHC)]);
        assert_eq!(names(&roster), ["alice", "bob", "carol"], "they log in");
        replace(&path, &[("alice", PHC), ("bob", OTHER)]);
        assert_eq!(roster.changes(None), ["bob", "carol"]);
        assert_eq!(roster.changes(None), ["carol"]);
        assert!(roster.changes(None).is_empty());
    }

    #[test]
    fn a_removed_user_who_is_added_again_is_not_told_twice() {
        let (_folder, path, roster) = roster(&[("alice", PHC)]);
        replace(&path, &[]);
        assert_eq!(roster.changes(None), ["alice"]);
        replace(&path, &[("alice", PHC)]);
        assert!(roster.changes(None).is_empty());
    }

    #[test]
    fn a_file_half_written_for_one_look_ends_nobodys_session() {
        let (_folder, path, roster) = roster(&[("alice", PHC), ("bob", PHC)]);
        fs::write(&path, text(&[("alice", PHC)])).unwrap();
        assert!(roster.changes(None).is_empty());
        fs::write(&path, text(&[("alice", PHC), ("bob", PHC), ("carol", PHC)])).unwrap();
        assert!(roster.changes(None).is_empty());
        assert!(roster.changes(None).is_empty());
    }

    #[test]
    fn a_file_changed_in_place_or_gone_is_believed_at_the_second_look() {
        let (_folder, path, roster) = roster(&[("alice", PHC), ("bob", PHC)]);
        fs::write(&path, text(&[("alice", PHC)])).unwrap();
        assert!(roster.changes(None).is_empty());
        assert_eq!(roster.changes(None), ["bob"]);
        fs::remove_file(&path).unwrap();
        assert!(names(&roster).is_empty(), "nobody logs in meanwhile");
        assert_eq!(roster.changes(None), ["bob"], "told for the second time");
        assert_eq!(roster.changes(None), ["alice"]);
    }
}
