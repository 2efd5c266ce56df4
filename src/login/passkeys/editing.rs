//! Changing the passkeys in a users file, piece by piece like everything else there.

use std::path::Path;

use super::stored::{Credential, MAX_PASSKEYS, Passkey, PasskeyPlace};
use crate::login::editing::{block, edit, located, quoted, replaced};
use crate::login::users::{Entry, User, UserFile, UserFileError};

const TOO_MANY: &str = "a user has at most 16 passkeys";
const TAKEN: &str = "this passkey is in the file already";
const GONE: &str = "there is no such passkey";
const OVERTAKEN: &str = "the passkey was used at the same moment";

impl UserFile {
    pub(super) fn add_passkey(
        path: &Path,
        name: &str,
        passkey: &Passkey,
    ) -> Result<(), UserFileError> {
        edit(path, |text, entries, users| {
            let mut all = users.iter().flat_map(|user| &user.passkeys);
            if all.any(|known| known.id() == passkey.id()) {
                return Err(UserFileError::Refused(TAKEN));
            }
            let (entry, user) = located(entries, users, name)?;
            if user.passkeys.len() >= MAX_PASSKEYS {
                return Err(UserFileError::Refused(TOO_MANY));
            }
            user.passkeys.push(passkey.clone());
            Ok(with_passkey(text, (entries, entry), passkey))
        })
    }

    /// All passkeys of a user, or the one with this id. Says what they were called.
    pub fn remove_passkeys(
        path: &Path,
        name: &str,
        id: Option<&[u8]>,
    ) -> Result<Vec<String>, UserFileError> {
        let mut removed = Vec::new();
        edit(path, |text, entries, users| {
            let (entry, user) = located(entries, users, name)?;
            let goes = |passkey: &Passkey| id.is_none_or(|id| passkey.id() == id);
            let places = entry.passkeys.iter().zip(&user.passkeys);
            let places: Vec<_> = places.filter(|(_, passkey)| goes(passkey)).collect();
            if places.is_empty() && id.is_some() {
                return Err(UserFileError::Refused(GONE));
            }
            let mut changed = text.to_owned();
            // The last one first, so that the others stay where they are.
            for (place, passkey) in places.iter().rev() {
                removed.push(passkey.name.clone());
                changed = without(&changed, place);
            }
            user.passkeys.retain(|passkey| !goes(passkey));
            Ok(changed)
        })?;
        removed.reverse();
        Ok(removed)
    }

    /// Writes down what has changed of a credential since it was `before`. Whoever was faster wins.
    pub(super) fn renew_passkey(
        path: &Path,
        name: &str,
        (before, after): (&Passkey, Credential),
    ) -> Result<(), UserFileError> {
        edit(path, |text, entries, users| {
            let (entry, user) = located(entries, users, name)?;
            let mut places = entry.passkeys.iter().zip(&mut user.passkeys);
            let found = places.find(|(_, passkey)| **passkey == *before);
            let (place, passkey) = found.ok_or(UserFileError::Refused(OVERTAKEN))?;
            let changed = replaced(text, place.credential.clone(), &quoted(after.text()));
            passkey.credential = after;
            Ok(changed)
        })
    }
}

/// At the end of the user's entry.
fn with_passkey(text: &str, (entries, entry): (&[Entry], &Entry), passkey: &Passkey) -> String {
    let start = entry.header.start;
    let mut headers = entries.iter().map(|entry| entry.header.start);
    let next = headers.find(|other| *other > start);
    let at = block(text, start, next).end;
    let before = text.get(..at).unwrap_or(text);
    let mut piece = String::new();
    if !before.ends_with('\n') {
        piece.push('\n');
    }
    if !before.ends_with("\n\n") {
        piece.push('\n');
    }
    piece.push_str("[[user.passkey]]\n");
    for (key, value) in [
        ("name", passkey.name.as_str()),
        ("created", &passkey.created),
        ("handle", &passkey.handle.text()),
        ("credential", passkey.credential.text()),
    ] {
        piece.extend([key, " = ", &quoted(value), "\n"]);
    }
    if next.is_some() {
        piece.push('\n');
    }
    replaced(text, at..at, &piece)
}

/// From its header to the end of its last line, with one empty line beside it.
fn without(text: &str, place: &PasskeyPlace) -> String {
    let rest = text.get(place.end..).unwrap_or_default();
    let line = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
    let mut range = place.header.start..place.end + line;
    if text
        .get(range.end..)
        .is_some_and(|rest| rest.starts_with('\n'))
    {
        range.end += 1;
    } else if text
        .get(..range.start)
        .is_some_and(|before| before.ends_with("\n\n"))
    {
        range.start -= 1;
    }
    replaced(text, range, "")
}

/// What a user has, as it is shown.
pub(super) fn of<'u>(users: &'u UserFile, name: &str) -> &'u [Passkey] {
    users.find(name).map_or(&[], |user: &User| &user.passkeys)
}
