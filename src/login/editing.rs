//! Changing the users file piece by piece, so that everything else in it stays as the operator wrote it. A change is
//! believed only when the new text, read back, says exactly what was meant. It knows no password, only hashes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::rules::NewPassword;
use super::users::{self, Entry, User, UserFile, UserFileError};
use crate::secret::random;

const HEADING: &str = "# Users of Doorward. `doorward user` adds, changes and removes entries here; comments and order stay as they are.\n";

/// Other commands are waited for this long: 200 times 50 ms.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// A user to be added.
#[derive(Clone, Debug)]
pub struct NewUser {
    pub name: String,
    pub display_name: Option<String>,
    pub email: Option<String>,
    pub groups: Vec<String>,
    pub password: NewPassword,
}

/// Each change takes a lock, reads the file anew, and replaces it whole: two commands at once lose nothing, and a
/// crash leaves either the old file or the new one.
impl UserFile {
    pub fn add(path: &Path, user: NewUser) -> Result<(), UserFileError> {
        let user = checked(user)?;
        edit(path, |text, _, users| {
            if users.iter().any(|known| known.name == user.name) {
                return Err(UserFileError::Exists(user.name.clone()));
            }
            users.push(user.clone());
            Ok(with_user(text, &user))
        })
    }

    pub fn set_password(
        path: &Path,
        name: &str,
        password: &NewPassword,
    ) -> Result<(), UserFileError> {
        edit(path, |text, entries, users| {
            let (entry, user) = located(entries, users, name)?;
            password.phc().clone_into(&mut user.password);
            let value = quoted(password.phc());
            Ok(replaced(text, entry.password.clone(), &value))
        })
    }

    /// Comments directly above the user's entry go with it.
    pub fn remove(path: &Path, name: &str) -> Result<(), UserFileError> {
        edit(path, |text, entries, users| {
            let (entry, _) = located(entries, users, name)?;
            let start = entry.header.start;
            let mut headers = entries.iter().map(|entry| entry.header.start);
            let next = headers.find(|other| *other > start);
            users.retain(|user| user.name != name);
            Ok(replaced(text, block(text, start, next), ""))
        })
    }
}

/// A changed users file, written beside the one that it is to replace, with the lock held. Dropped, it leaves no trace.
#[derive(Debug)]
pub struct Prepared {
    path: PathBuf,
    target: PathBuf,
    fresh: PathBuf,
    _lock: File,
}

impl Prepared {
    /// Puts the new file in the place of the old one, all at once. Nothing that fails here is for want of room.
    pub fn commit(self) -> Result<(), UserFileError> {
        fs::rename(&self.fresh, &self.target)
            .and_then(|()| sync_folder(&self.target))
            .map_err(|source| UserFileError::Io {
                path: self.path.clone(),
                source,
            })
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // Where it has taken its place it is no longer there.
        drop(fs::remove_file(&self.fresh));
    }
}

/// Runs one change.
pub(super) fn edit<F>(path: &Path, change: F) -> Result<(), UserFileError>
where
    F: FnOnce(&str, &[Entry], &mut Vec<User>) -> Result<String, UserFileError>,
{
    prepare(path, change)?.commit()
}

/// Runs one change under the lock, up to the last step. It is told the text and what it says, and sets the list to what
/// it shall say.
pub(super) fn prepare<F>(path: &Path, change: F) -> Result<Prepared, UserFileError>
where
    F: FnOnce(&str, &[Entry], &mut Vec<User>) -> Result<String, UserFileError>,
{
    // A symbolic link keeps pointing where it points: the file behind it is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let lock = lock(&target)?;
    let text = users::read_text(&target)?.unwrap_or_else(|| HEADING.to_owned());
    let entries = users::parse(&text).map_err(|fault| fault.at(path, &text))?;
    let mut wanted: Vec<_> = entries.iter().map(|entry| entry.user.clone()).collect();
    let changed = change(&text, &entries, &mut wanted)?;
    let says = users::parse(&changed).map_err(|_| UserFileError::Layout(path.to_owned()))?;
    if !says.iter().map(|entry| &entry.user).eq(wanted.iter()) {
        return Err(UserFileError::Layout(path.to_owned()));
    }
    let fresh = write_beside(&target, changed.as_bytes()).map_err(|source| UserFileError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(Prepared {
        path: path.to_owned(),
        target,
        fresh,
        _lock: lock,
    })
}

fn checked(new: NewUser) -> Result<User, UserFileError> {
    let NewUser {
        name,
        display_name,
        email,
        groups,
        password,
    } = new;
    let mut verdict = users::check_name(&name);
    if let Some(display_name) = &display_name {
        verdict = verdict.and_then(|()| users::check_display_name(display_name));
    }
    if let Some(email) = &email {
        verdict = verdict.and_then(|()| users::check_email(email));
    }
    let mut groups_verdicts = groups.iter().map(|group| users::check_group(group));
    verdict
        .and_then(|()| groups_verdicts.try_for_each(|verdict| verdict))
        .map_err(UserFileError::Refused)?;
    Ok(User {
        name,
        display_name,
        email,
        groups,
        password: password.phc().to_owned(),
        totp: None,
        recovery_codes: Vec::new(),
        own_change: None,
        passkeys: Vec::new(),
    })
}

pub(super) fn located<'a>(
    entries: &'a [Entry],
    users: &'a mut [User],
    name: &str,
) -> Result<(&'a Entry, &'a mut User), UserFileError> {
    let entry = entries.iter().find(|entry| entry.user.name == name);
    let user = users.iter_mut().find(|user| user.name == name);
    entry
        .zip(user)
        .ok_or_else(|| UserFileError::Unknown(name.to_owned()))
}

/// A new entry goes to the end, with an empty line above it.
fn with_user(text: &str, user: &User) -> String {
    let mut changed = text.to_owned();
    if !changed.is_empty() && !changed.ends_with('\n') {
        changed.push('\n');
    }
    if !changed.is_empty() {
        changed.push('\n');
    }
    changed.push_str("[[user]]\n");
    let mut line = |key: &str, value: &str| {
        changed.extend([key, " = ", value, "\n"]);
    };
    line("name", &quoted(&user.name));
    if let Some(display_name) = &user.display_name {
        line("display_name", &quoted(display_name));
    }
    if let Some(email) = &user.email {
        line("email", &quoted(email));
    }
    if !user.groups.is_empty() {
        let groups: Vec<_> = user.groups.iter().map(|group| quoted(group)).collect();
        line("groups", &format!("[{}]", groups.join(", ")));
    }
    line("password", &quoted(&user.password));
    changed
}

/// A TOML string on one line: nothing that is written here holds a control character.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

pub(super) fn replaced(text: &str, range: Range<usize>, by: &str) -> String {
    let mut changed = text.to_owned();
    // Spans come from the parser of this same text; were one wrong, the text read back would not say what was meant.
    if text.is_char_boundary(range.start) && text.is_char_boundary(range.end) {
        changed.replace_range(range, by);
    }
    changed
}

/// The lines of the entry whose header begins at `start`: its own comments above it, down to the comments of the next
/// entry (whose header begins at `next`) or the end of the text.
pub(super) fn block(text: &str, start: usize, next: Option<usize>) -> Range<usize> {
    let end = next.unwrap_or(text.len());
    comments_above(text, start)..next.map_or(end, |next| comments_above(text, next))
}

/// Where the comment lines directly above `header` begin. A comment that opens the file belongs to the file.
fn comments_above(text: &str, header: usize) -> usize {
    let above = text.get(..header).unwrap_or("");
    let comments = above
        .split_inclusive('\n')
        .rev()
        .take_while(|line| line.trim_start().starts_with('#'));
    match header - comments.map(str::len).sum::<usize>() {
        0 => header,
        start => start,
    }
}

/// Holds the file beside the users file that commands lock. It stays: removing it would let two in at once.
pub(super) fn lock(target: &Path) -> Result<File, UserFileError> {
    let path = beside(target, ".lock");
    let failed = |source| UserFileError::Io {
        path: path.clone(),
        source,
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
    Err(UserFileError::Locked(target.to_owned()))
}

/// `.NAME` + `suffix` in the same folder.
fn beside(target: &Path, suffix: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}{suffix}"))
}

pub(super) fn replace_file(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = write_beside(target, bytes)?;
    if let Err(error) = fs::rename(&fresh, target) {
        drop(fs::remove_file(&fresh));
        return Err(error);
    }
    sync_folder(target)
}

/// A new file in the same folder, whole and on the disk.
fn write_beside(target: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let unique = BASE64_URL_SAFE_NO_PAD.encode(random::<9>());
    let fresh = beside(target, &format!(".{unique}.new"));
    if let Err(error) = write_fresh(&fresh, target, bytes) {
        // The first error is the one to tell.
        drop(fs::remove_file(&fresh));
        return Err(error);
    }
    Ok(fresh)
}

fn sync_folder(target: &Path) -> io::Result<()> {
    let folder = target.parent().filter(|path| !path.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Owner and group stay those of the file that is replaced, and a group that could read it still can: a proxy that
/// runs as another user than the one who types the command must not lose its users.
fn write_fresh(fresh: &Path, target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(fresh)?;
    if let Ok(old) = fs::metadata(target) {
        let new = file.metadata()?;
        if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o640 | 0o600))?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::users::tests::PHC;
    use super::*;

    const OTHER: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    fn new_user(name: &str) -> NewUser {
        NewUser {
            name: name.to_owned(),
            display_name: None,
            email: None,
            groups: Vec::new(),
            password: NewPassword::from_phc(PHC),
        }
    }

    fn place() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        (folder, path)
    }

    fn names(path: &Path) -> Vec<String> {
        let file = UserFile::load(path).unwrap();
        file.users().iter().map(|user| user.name.clone()).collect()
    }

    #[test]
    fn what_the_operator_wrote_survives_every_change() {
        let (_folder, path) = place();
        let alice = format!(
            "# Accounting\n[[user]] # since 2024\nname   = 'alice'\npassword = '{PHC}' # set by hand\n"
        );
        let bob =
            format!("\n# Bob is on leave\n[[user]]\npassword = \"{PHC}\"\nname = \"bob\"\n# end");
        fs::write(&path, format!("# Ours\n\n{alice}{bob}")).unwrap();

        UserFile::set_password(&path, "alice", &NewPassword::from_phc(OTHER)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let alice = alice.replace(&format!("'{PHC}'"), &format!("{OTHER:?}"));
        assert_eq!(text, format!("# Ours\n\n{alice}{bob}"));

        UserFile::add(&path, new_user("carol")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let carol = format!("\n\n[[user]]\nname = \"carol\"\npassword = \"{PHC}\"\n");
        assert_eq!(text, format!("# Ours\n\n{alice}{bob}{carol}"));

        UserFile::remove(&path, "alice").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("# Ours\n\n{}{carol}", bob.trim_start()));
        assert_eq!(names(&path), ["bob", "carol"]);
    }

    #[test]
    fn a_comment_that_opens_the_file_is_not_taken_for_the_first_users() {
        let (_folder, path) = place();
        fs::write(
            &path,
            format!("# Ours\n[[user]]\nname='a'\npassword='{PHC}'\n"),
        )
        .unwrap();
        UserFile::remove(&path, "a").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "# Ours\n");
    }

    #[test]
    fn a_header_inside_a_string_misleads_nobody() {
        let (_folder, path) = place();
        let odd = format!(
            "[[user]]\nname = 'odd'\npassword = \"\"\"\n{PHC}\"\"\"\n# [[user]]\n[[user]]\nname='b'\npassword='{PHC}'\n"
        );
        fs::write(&path, odd).unwrap();
        UserFile::remove(&path, "b").unwrap();
        assert_eq!(names(&path), ["odd"]);
    }

    #[test]
    fn a_file_that_cannot_be_changed_piece_by_piece_is_left_alone() {
        let (_folder, path) = place();
        let inline = format!(
            "user = [{{ name = 'a', password = '{PHC}' }}, {{ name = 'b', password = '{PHC}' }}]\n"
        );
        fs::write(&path, &inline).unwrap();
        let added = UserFile::add(&path, new_user("c"));
        assert!(matches!(added, Err(UserFileError::Layout(_))), "{added:?}");
        let removed = UserFile::remove(&path, "b");
        assert!(
            matches!(removed, Err(UserFileError::Layout(_))),
            "{removed:?}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), inline);
        UserFile::set_password(&path, "a", &NewPassword::from_phc(OTHER)).unwrap();
        assert_eq!(
            UserFile::load(&path).unwrap().find("a").unwrap().password,
            OTHER
        );
    }

    #[test]
    fn a_broken_file_is_never_replaced() {
        let (_folder, path) = place();
        fs::write(&path, "[[user]]\nname = \n").unwrap();
        let error = UserFile::add(&path, new_user("alice")).unwrap_err();
        assert!(
            matches!(error, UserFileError::Invalid { line: 2, .. }),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "[[user]]\nname = \n");
    }

    #[test]
    fn a_name_that_exists_and_one_that_does_not_are_told_apart() {
        let (_folder, path) = place();
        UserFile::add(&path, new_user("alice")).unwrap();
        let twice = UserFile::add(&path, new_user("alice")).unwrap_err();
        assert_eq!(twice.to_string(), "there is a user \"alice\" already");
        let gone = UserFile::remove(&path, "bob").unwrap_err();
        assert_eq!(gone.to_string(), "there is no user \"bob\"");
        let refused = UserFile::add(&path, new_user("a\nb")).unwrap_err();
        assert!(matches!(refused, UserFileError::Refused(_)));
        assert_eq!(names(&path), ["alice"]);
    }

    #[test]
    fn a_new_file_is_the_owners_alone_and_an_old_one_keeps_its_group() {
        let (folder, path) = place();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        UserFile::add(&path, new_user("alice")).unwrap();
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        UserFile::add(&path, new_user("bob")).unwrap();
        assert_eq!(mode(&path), 0o640);
        let files: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(
            files.len(),
            2,
            "only the file and its lock are left: {files:?}"
        );
    }

    #[test]
    fn a_symbolic_link_stays_one() {
        let (folder, path) = place();
        let real = folder.path().join("real.toml");
        fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &path).unwrap();
        UserFile::add(&path, new_user("alice")).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(names(&real), ["alice"]);
    }

    #[test]
    fn commands_at_the_same_time_lose_nothing() {
        let (_folder, path) = place();
        thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                scope.spawn(move || {
                    UserFile::add(path, new_user(&format!("user{number}"))).unwrap();
                });
            }
        });
        let mut names = names(&path);
        names.sort();
        let all: Vec<_> = (0..8).map(|number| format!("user{number}")).collect();
        assert_eq!(names, all);
    }

    fn text(max: usize) -> impl Strategy<Value = String> {
        let any = prop::collection::vec(any::<char>(), 1..max);
        any.prop_map(|chars| {
            chars
                .into_iter()
                .filter(|c| !c.is_control())
                .collect::<String>()
        })
    }

    fn users() -> impl Strategy<Value = Vec<NewUser>> {
        let name = text(20).prop_filter("a name", |name| users::check_name(name).is_ok());
        let group = text(20).prop_filter("a group", |group| users::check_group(group).is_ok());
        let groups = prop::collection::vec(group, 0..3);
        let user =
            (name, prop::option::of(text(40)), groups).prop_map(|(name, display_name, groups)| {
                NewUser {
                    display_name,
                    email: Some("a@example.com".to_owned()),
                    groups,
                    ..new_user(&name)
                }
            });
        let all = prop::collection::vec(user, 1..6);
        all.prop_filter("names differ", |all| {
            let mut names: Vec<_> = all.iter().map(|user| &user.name).collect();
            names.sort();
            names.windows(2).all(|pair| pair[0] != pair[1])
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_added_is_read_back_and_what_is_removed_is_gone(all in users(), victim in any::<prop::sample::Index>()) {
            let mut text = HEADING.to_owned();
            let mut expected = Vec::new();
            for new in all {
                let user = checked(new).unwrap();
                text = with_user(&text, &user);
                expected.push(user);
            }
            let read = |text: &str| -> Vec<User> {
                users::parse(text).unwrap().into_iter().map(|entry| entry.user).collect()
            };
            prop_assert_eq!(&read(&text), &expected);

            let victim = victim.index(expected.len());
            let entries = users::parse(&text).unwrap();
            let start = entries[victim].header.start;
            let next = entries.get(victim + 1).map(|entry| entry.header.start);
            text = replaced(&text, block(&text, start, next), "");
            expected.remove(victim);
            prop_assert_eq!(&read(&text), &expected);
        }
    }
}
