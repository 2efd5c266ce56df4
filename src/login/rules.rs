//! What a password must be (OWASP ASVS 5.0, 6.2). It knows no file and asks nobody.

use std::fmt;

use super::hashing::{self, HashingError};

/// Well-known passwords of eight characters and more, in lower case, sorted: all such of the 20,000 most common that Django
/// ships (`common-passwords.txt`, BSD-3-Clause, compiled from leaks by Royce Williams), and some of our own. ASVS 6.2.4
/// asks for 3000.
const COMMON: &str = include_str!("common_passwords.txt");

const MIN_CHARS: usize = 8;
const ADVISED_CHARS: usize = 15;
pub(super) const MAX_BYTES: usize = 1024;

/// A password that was found good enough, as its hash. The only way to one is [`NewPassword::choose`].
#[derive(Clone, Eq, PartialEq)]
pub struct NewPassword {
    phc: String,
    short: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PasswordRefused {
    #[error("a password needs at least {MIN_CHARS} characters; {ADVISED_CHARS} or more are better")]
    TooShort,
    #[error("a password has at most {MAX_BYTES} bytes")]
    TooLong,
    #[error("a password must not be the user's own name")]
    OwnName,
    #[error("this password is one of the first that anybody would guess")]
    Common,
    #[error(transparent)]
    Hashing(#[from] HashingError),
}

impl NewPassword {
    /// Judges and hashes on the calling thread (some 20 ms).
    pub fn choose(user: &str, password: &str) -> Result<Self, PasswordRefused> {
        check(user, password)?;
        Ok(Self {
            phc: hashing::hash_password(password.as_bytes())?,
            short: password.chars().count() < ADVISED_CHARS,
        })
    }

    /// Judges alone, without a hash.
    pub fn check(user: &str, password: &str) -> Result<(), PasswordRefused> {
        check(user, password)
    }

    /// Good enough, but shorter than is advised (15 characters).
    pub fn is_short(&self) -> bool {
        self.short
    }

    pub(super) fn phc(&self) -> &str {
        &self.phc
    }

    #[cfg(test)]
    pub(super) fn from_phc(phc: &str) -> Self {
        Self {
            phc: phc.to_owned(),
            short: false,
        }
    }
}

impl fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewPassword(..)")
    }
}

/// Length and guessability alone: no rule asks for digits or signs (ASVS 6.2.5).
fn check(user: &str, password: &str) -> Result<(), PasswordRefused> {
    if password.chars().count() < MIN_CHARS {
        return Err(PasswordRefused::TooShort);
    }
    if password.len() > MAX_BYTES {
        return Err(PasswordRefused::TooLong);
    }
    let folded = password.to_lowercase();
    if folded == user.to_lowercase() {
        return Err(PasswordRefused::OwnName);
    }
    if COMMON.lines().any(|common| common == folded) {
        return Err(PasswordRefused::Common);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_characters_are_enough_and_seven_are_not() {
        assert_eq!(check("alice", "xkcd936"), Err(PasswordRefused::TooShort));
        assert_eq!(check("alice", "xkcd-936"), Ok(()));
        assert_eq!(check("alice", "ÄÖÜ"), Err(PasswordRefused::TooShort));
        assert_eq!(check("alice", "пароль42"), Ok(()), "characters, not bytes");
    }

    #[test]
    fn length_is_bounded_and_no_composition_is_asked_for() {
        assert_eq!(check("alice", &"a".repeat(1024)), Ok(()));
        assert_eq!(
            check("alice", &"a".repeat(1025)),
            Err(PasswordRefused::TooLong)
        );
        assert_eq!(check("alice", "correct horse battery staple"), Ok(()));
    }

    #[test]
    fn a_name_or_a_well_known_password_is_refused_in_any_case() {
        assert_eq!(
            check("Bartholomew", "bartholomeW"),
            Err(PasswordRefused::OwnName)
        );
        for common in [
            "password",
            "Password1",
            "QWERTYUIOP",
            "12345678",
            "Liverpool1",
        ] {
            assert_eq!(
                check("alice", common),
                Err(PasswordRefused::Common),
                "{common}"
            );
        }
    }

    #[test]
    fn the_built_in_list_holds_only_what_could_match() {
        let list: Vec<_> = COMMON.lines().collect();
        assert!(list.len() >= 3000, "ASVS 6.2.4");
        assert!(list.is_sorted());
        for word in list {
            assert!(word.chars().count() >= MIN_CHARS, "{word}");
            assert_eq!(word.to_lowercase(), word);
        }
    }

    #[test]
    fn a_chosen_password_verifies_and_shows_nothing() {
        let chosen = NewPassword::choose("alice", "xkcd-936").unwrap();
        assert!(chosen.is_short());
        assert_eq!(
            hashing::verify_password(b"xkcd-936", chosen.phc()),
            Ok(true)
        );
        assert_eq!(format!("{chosen:?}"), "NewPassword(..)");
    }
}
