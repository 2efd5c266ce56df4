//! The mark of a change that users made themselves, on our pages: it tells every other node that the sessions from before
//! have been ended already, by which epoch, and so that those which began since are to stay.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

use super::users::User;

/// Good for exactly the credentials that it was made for: a change by hand beside it makes it worth nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct OwnChange {
    epoch: u64,
    of: [u8; 8],
}

impl OwnChange {
    pub(super) const EXPECTED: &str =
        "expected what Doorward wrote here, as in \"1800000000000.0123456789abcdef\"";

    /// `user` as the change leaves it; `epoch`: all sessions from before it have ended when the change is seen.
    pub(super) fn new(epoch: u64, user: &User) -> Self {
        Self {
            epoch,
            of: fingerprint(user),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (epoch, of) = text.split_once('.')?;
        let is_hex = of.len() == 16 && of.bytes().all(|digit| digit.is_ascii_hexdigit());
        let of = is_hex.then(|| u64::from_str_radix(of, 16).ok()).flatten()?;
        let epoch = epoch.parse().ok().filter(|_| !epoch.starts_with('+'))?;
        Some(Self {
            epoch,
            of: of.to_be_bytes(),
        })
    }

    /// The epoch that has ended what was there before the credentials that `user` has now.
    pub(super) fn settles(self, user: &User) -> Option<u64> {
        (self.of == fingerprint(user)).then_some(self.epoch)
    }
}

impl fmt::Display for OwnChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:016x}", self.epoch, u64::from_be_bytes(self.of))
    }
}

/// Of everything whose change ends sessions.
pub(super) fn fingerprint(user: &User) -> [u8; 8] {
    let mut context = Context::new(&SHA256);
    context.update(user.password.as_bytes());
    context.update(b"\0");
    context.update(user.totp.as_deref().unwrap_or_default().as_bytes());
    let mut short = [0; 8];
    for (to, from) in short.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(password: &str) -> User {
        User {
            name: "alice".to_owned(),
            display_name: None,
            email: None,
            groups: Vec::new(),
            password: password.to_owned(),
            passkeys: Vec::new(),
            totp: None,
            recovery_codes: Vec::new(),
            own_change: None,
        }
    }

    #[test]
    fn a_mark_is_good_for_the_credentials_that_it_was_made_for() {
        let mark = OwnChange::new(1_800_000_000_000, &user("new"));
        assert_eq!(mark.settles(&user("new")), Some(1_800_000_000_000));
        assert_eq!(mark.settles(&user("changed by hand")), None);
        let mut enrolled = user("new");
        enrolled.totp = Some("sealed".to_owned());
        assert_eq!(mark.settles(&enrolled), None);
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_nothing_else_is() {
        let mark = OwnChange::new(7, &user("new"));
        assert_eq!(OwnChange::parse(&mark.to_string()), Some(mark));
        for text in [
            "",
            "7",
            "7.",
            ".0123456789abcdef",
            "7.0123456789abcde",
            "7.0123456789abcdef0",
            "7.+123456789abcdef",
            "-7.0123456789abcdef",
            "+7.0123456789abcdef",
            "7.0123456789abcdeg",
            " 7.0123456789abcdef",
        ] {
            assert_eq!(OwnChange::parse(text), None, "{text:?}");
        }
    }
}
