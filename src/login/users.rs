//! The users file: TOML, one `[[user]]` each. Here it is read and judged as a whole; `editing` changes it.
//! It knows no login and no attempt.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::hashing::{self, HashCost};
use super::own_change::OwnChange;
use super::passkeys::{self, Passkey, PasskeyForm, PasskeyPlace};
use super::second_factor::{check_recovery, check_sealed};

/// A larger file is refused unread: it would hold far more than 10,000 users.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
const MAX_NAME_CHARS: usize = 64;
const MAX_TEXT_CHARS: usize = 256;

/// One user of the file.
#[derive(Clone, Eq, PartialEq)]
pub struct User {
    /// What the user logs in with, and the stable id of the user. Compared exactly.
    pub name: String,
    /// The name a person would read.
    pub display_name: Option<String>,
    pub email: Option<String>,
    pub groups: Vec<String>,
    pub(super) password: String,
    /// The sealed secret of an authenticator app.
    pub(super) totp: Option<String>,
    /// Hashes of those that are left.
    pub(super) recovery_codes: Vec<String>,
    pub(super) own_change: Option<OwnChange>,
    pub passkeys: Vec<Passkey>,
}

/// Every user of a file that was read without a fault.
#[derive(Clone, Debug, Default)]
pub struct UserFile {
    users: Vec<User>,
    by_name: HashMap<String, usize>,
    /// The place of the user of each credential.
    by_credential: HashMap<Vec<u8>, usize>,
    found: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum UserFileError {
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    /// `line` and `column` count from one, columns in characters.
    #[error("{}:{line}:{column}: {message}", .path.display())]
    Invalid {
        path: PathBuf,
        line: usize,
        column: usize,
        message: String,
    },
    #[error("{}: the file is larger than {} MiB", .0.display(), MAX_FILE_BYTES >> 20)]
    TooLarge(PathBuf),
    #[error("{}: another command has been changing the file for too long", .0.display())]
    Locked(PathBuf),
    #[error("there is a user {0:?} already")]
    Exists(String),
    #[error("there is no user {0:?}")]
    Unknown(String),
    /// Somebody else was faster.
    #[error("the user was changed meanwhile")]
    Overtaken,
    /// What was asked for cannot be written into a users file.
    #[error("{0}")]
    Refused(&'static str),
    /// The file is good, but written in a way that cannot be changed piece by piece.
    #[error("{}: change it by hand, or write each user as a [[user]] table of its own", .0.display())]
    Layout(PathBuf),
}

impl UserFile {
    /// Reads the whole file. A file that is missing holds no users; [`UserFile::found`] tells.
    pub fn load(path: &Path) -> Result<Self, UserFileError> {
        match read_text(path)? {
            Some(text) => Ok(Self {
                found: true,
                ..Self::of(parse(&text).map_err(|fault| fault.at(path, &text))?)
            }),
            None => Ok(Self::default()),
        }
    }

    /// Whether there was a file to read.
    pub fn found(&self) -> bool {
        self.found
    }

    /// In the order of the file.
    pub fn users(&self) -> &[User] {
        &self.users
    }

    pub fn find(&self, name: &str) -> Option<&User> {
        self.by_name
            .get(name)
            .and_then(|place| self.users.get(*place))
    }

    /// The user who has this credential.
    pub(super) fn find_credential(&self, id: &[u8]) -> Option<(&User, &Passkey)> {
        let user = self.users.get(*self.by_credential.get(id)?)?;
        let mut passkeys = user.passkeys.iter();
        Some((user, passkeys.find(|passkey| passkey.id() == id)?))
    }

    pub(super) fn has_passkeys(&self) -> bool {
        !self.by_credential.is_empty()
    }

    fn of(entries: Vec<Entry>) -> Self {
        let users: Vec<_> = entries.into_iter().map(|entry| entry.user).collect();
        let names = users.iter().map(|user| user.name.clone());
        let of = |(place, user): (usize, &User)| {
            let ids = user
                .passkeys
                .iter()
                .map(move |key| (key.id().to_vec(), place));
            ids.collect::<Vec<_>>()
        };
        let by_credential = users.iter().enumerate().flat_map(of).collect();
        Self {
            by_name: names.enumerate().map(|(i, name)| (name, i)).collect(),
            by_credential,
            users,
            found: false,
        }
    }
}

impl User {
    /// How many recovery codes are left; `None`: there is no second factor.
    pub fn second_factor(&self) -> Option<usize> {
        self.totp.as_ref().map(|_| self.recovery_codes.len())
    }

    /// What a guess at the password costs.
    pub fn hash_cost(&self) -> Option<HashCost> {
        hashing::cost(&self.password)
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("groups", &self.groups)
            .finish_non_exhaustive()
    }
}

/// A user and where the file says so, in bytes.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) user: User,
    /// The `[[user]]` line.
    pub(super) header: Range<usize>,
    /// The value of `password`, quotes included.
    pub(super) password: Range<usize>,
    pub(super) totp: Option<Range<usize>>,
    pub(super) recovery_codes: Option<Range<usize>>,
    pub(super) own_change: Option<Range<usize>>,
    /// In the order of the user's passkeys.
    pub(super) passkeys: Vec<PasskeyPlace>,
}

/// What is wrong with a text, and where, in bytes.
#[derive(Debug)]
pub(super) struct Fault {
    place: usize,
    message: String,
}

impl Fault {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            place: span.start,
            message: message.into(),
        }
    }

    pub(super) fn at(self, path: &Path, text: &str) -> UserFileError {
        let before = text.get(..self.place).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        UserFileError::Invalid {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or("").chars().count() + 1,
            message: self.message,
        }
    }
}

/// The text of a users file; `None` where there is none.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, UserFileError> {
    let failed = |source| UserFileError::Io {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(UserFileError::TooLarge(path.to_owned()));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            let fault = Fault::new(valid..valid, "expected UTF-8 text");
            Err(fault.at(path, &text))
        }
    }
}

/// Reads and judges a text as a whole: one user that is not right makes the file wrong, since nobody could say what
/// the operator meant.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Fault> {
    let file: FileForm = toml::from_str(text)
        .map_err(|error| Fault::new(error.span().unwrap_or(0..0), error.message()))?;
    let mut seen = HashSet::new();
    let mut taken = passkeys::Taken::default();
    let mut entries = Vec::with_capacity(file.user.len());
    for form in file.user {
        let header = form.span();
        let mut form = form.into_inner();
        let (name_span, password_span) = (form.name.span(), form.password.span());
        let own_change = form.own_change.as_ref().map(Spanned::span);
        let (keys, places) = passkeys::read(mem::take(&mut form.passkey), &mut taken)?;
        let totp = form.totp.as_ref().map(Spanned::span);
        let recovery_codes = form.recovery_codes.as_ref().map(Spanned::span);
        let entry = Entry {
            user: User {
                passkeys: keys,
                ..form.into_user()?
            },
            header,
            password: password_span,
            totp,
            recovery_codes,
            own_change,
            passkeys: places,
        };
        if !seen.insert(entry.user.name.clone()) {
            let message = format!("expected a name of its own, {:?} is taken", entry.user.name);
            return Err(Fault::new(name_span, message));
        }
        entries.push(entry);
    }
    Ok(entries)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    #[serde(default)]
    user: Vec<Spanned<UserForm>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserForm {
    name: Spanned<String>,
    display_name: Option<Spanned<String>>,
    email: Option<Spanned<String>>,
    #[serde(default)]
    groups: Vec<Spanned<String>>,
    password: Spanned<String>,
    totp: Option<Spanned<String>>,
    recovery_codes: Option<Spanned<Vec<Spanned<String>>>>,
    own_change: Option<Spanned<String>>,
    #[serde(default)]
    passkey: Vec<Spanned<PasskeyForm>>,
}

impl UserForm {
    fn into_user(self) -> Result<User, Fault> {
        let Self {
            name,
            display_name,
            email,
            groups,
            password,
            totp,
            recovery_codes,
            own_change,
            passkey: _,
        } = self;
        if let (None, Some(codes)) = (&totp, &recovery_codes) {
            let message = "expected `totp` beside recovery codes";
            return Err(Fault::new(codes.span(), message));
        }
        hashing::check_hash(password.get_ref()).map_err(|error| {
            let hint = "expected an argon2id hash as `doorward user passwd` writes it";
            Fault::new(password.span(), format!("{hint}: {error}"))
        })?;
        Ok(User {
            name: checked(name, check_name)?,
            display_name: display_name
                .map(|text| checked(text, check_display_name))
                .transpose()?,
            email: email.map(|text| checked(text, check_email)).transpose()?,
            groups: groups
                .into_iter()
                .map(|group| checked(group, check_group))
                .collect::<Result<_, _>>()?,
            password: password.into_inner(),
            totp: totp.map(|text| checked(text, check_sealed)).transpose()?,
            recovery_codes: recovery_codes
                .map(Spanned::into_inner)
                .unwrap_or_default()
                .into_iter()
                .map(|code| checked(code, check_recovery))
                .collect::<Result<_, _>>()?,
            own_change: own_change
                .map(|text| {
                    let read = OwnChange::parse(text.get_ref());
                    read.ok_or_else(|| Fault::new(text.span(), OwnChange::EXPECTED))
                })
                .transpose()?,
            passkeys: Vec::new(),
        })
    }
}

fn checked(
    text: Spanned<String>,
    check: fn(&str) -> Result<(), &'static str>,
) -> Result<String, Fault> {
    match check(text.get_ref()) {
        Ok(()) => Ok(text.into_inner()),
        Err(message) => Err(Fault::new(text.span(), message)),
    }
}

pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    let chars = name.chars().count();
    let fits = (1..=MAX_NAME_CHARS).contains(&chars) && name.trim() == name;
    if fits && !name.contains(char::is_control) {
        Ok(())
    } else {
        Err(
            "expected a name of 1 to 64 characters, without control characters and without spaces at its ends",
        )
    }
}

pub(super) fn check_display_name(name: &str) -> Result<(), &'static str> {
    if name.chars().count() <= MAX_TEXT_CHARS && !name.contains(char::is_control) {
        Ok(())
    } else {
        Err("expected a display name of at most 256 characters, without control characters")
    }
}

pub(super) fn check_email(email: &str) -> Result<(), &'static str> {
    let parts = email.split_once('@');
    let whole = parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
    let clean = !email.contains(|c: char| c.is_control() || c.is_whitespace());
    if whole && clean && email.chars().count() <= MAX_TEXT_CHARS {
        Ok(())
    } else {
        Err("expected an email address, as in alice@example.com")
    }
}

/// No comma: upstreams get groups as one list with commas, and one group must not read as two.
pub(super) fn check_group(group: &str) -> Result<(), &'static str> {
    if check_name(group).is_ok() && !group.contains(',') {
        Ok(())
    } else {
        Err(
            "expected a group of 1 to 64 characters, without commas, control characters and spaces at its ends",
        )
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::login) const PHC: &str =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    fn fault(text: &str) -> String {
        let fault = parse(text).unwrap_err();
        fault.at(Path::new("users.toml"), text).to_string()
    }

    #[test]
    fn a_file_is_read_whole() {
        let text = format!(
            "# staff\n[[user]]\nname = \"alice\"\ndisplay_name = \"Alice A.\"\nemail = \"a@example.com\"\n\
             groups = [\"staff\", \"wiki\"]\npassword = \"{PHC}\"\n[[user]]\nname = 'bob'\npassword = '{PHC}'\n"
        );
        let file = UserFile::of(parse(&text).unwrap());
        let alice = file.find("alice").unwrap();
        assert_eq!(alice.display_name.as_deref(), Some("Alice A."));
        assert_eq!(alice.email.as_deref(), Some("a@example.com"));
        assert_eq!(alice.groups, ["staff", "wiki"]);
        let bob = file.find("bob").unwrap();
        assert_eq!((&bob.email, bob.groups.len()), (&None, 0));
        assert!(file.find("Alice").is_none(), "names are compared exactly");
        assert!(!format!("{file:?}").contains("argon2"));
    }

    #[test]
    fn a_missing_file_holds_nobody_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = UserFile::load(&folder.path().join("users.toml")).unwrap();
        assert!(!file.found());
        assert!(file.users().is_empty());
    }

    #[test]
    fn a_fault_names_file_line_column_and_what_was_expected() {
        let user = format!("[[user]]\nname = \"alice\"\npassword = \"{PHC}\"\n");
        assert_eq!(
            fault("[[user]]\nname = 3\n"),
            "users.toml:2:8: invalid type: integer `3`, expected a string"
        );
        assert_eq!(
            fault("[[usr]]\n"),
            "users.toml:1:3: unknown field `usr`, expected `user`"
        );
        assert_eq!(
            fault("[[user]]\nname = \"alice\"\n"),
            "users.toml:1:1: missing field `password`"
        );
        assert_eq!(
            fault(&format!("{user}mail = \"x\"\n")),
            "users.toml:4:1: unknown field `mail`, expected one of `name`, `display_name`, `email`, `groups`, `password`, `totp`, `recovery_codes`, `own_change`, `passkey`"
        );
        assert_eq!(
            fault(&format!("{user}{user}")),
            "users.toml:5:8: expected a name of its own, \"alice\" is taken"
        );
        let secret = fault("[[user]]\nname = \"ä\"\npassword = \"hunter2hunter2\"\n");
        assert!(
            secret.starts_with("users.toml:3:12: expected an argon2id hash"),
            "{secret}"
        );
        assert!(!secret.contains("hunter2"), "{secret}");
    }

    #[test]
    fn a_file_that_is_no_text_or_too_large_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        std::fs::write(&path, b"# ok\n\xff\xfe").unwrap();
        let error = UserFile::load(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("users.toml:2:1: expected UTF-8 text"),
            "{error}"
        );
        let file = File::create(&path).unwrap();
        file.set_len(MAX_FILE_BYTES + 1).unwrap();
        let error = UserFile::load(&path).unwrap_err();
        assert!(matches!(error, UserFileError::TooLarge(_)), "{error}");
    }

    #[test]
    fn names_that_could_mislead_are_refused() {
        for name in [
            "",
            " alice",
            "alice ",
            "al\nice",
            "al\u{0}ice",
            "al\u{7f}ice",
            "\u{a0}alice",
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name(&"é".repeat(64)).is_ok());
        assert!(check_name(&"é".repeat(65)).is_err());
        assert!(check_name("alice b").is_ok());
        assert!(
            check_group("staff,admin").is_err(),
            "one group must not read as two"
        );
        assert!(check_email("a@b").is_ok());
        for email in ["a", "@b", "a@", "a@b\r\nX: y", "a @b"] {
            assert!(check_email(email).is_err(), "{email:?}");
        }
    }
}
