//! What a server's answer to somebody's name and password means. Pure.

use super::fault::Fault;
use super::link::SUCCESS;
use super::message::Outcome;

#[derive(Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Right,
    Wrong,
    /// The account is not to be used, for this reason. People are told no more than of a wrong password.
    Barred(String),
}

/// Answers of RFC 4511 that are about the one who wants in.
const INVALID_CREDENTIALS: u32 = 49;
const NO_SUCH_OBJECT: u32 = 32;
const INVALID_DN: u32 = 34;
const INAPPROPRIATE_AUTHENTICATION: u32 = 48;
const CONSTRAINT_VIOLATION: u32 = 19;
const INSUFFICIENT_ACCESS: u32 = 50;
const UNWILLING: u32 = 53;

/// Anything that says neither yes nor no to the user is a fault.
pub(super) fn judge(outcome: Outcome) -> Result<Verdict, Fault> {
    let Outcome { told, policy } = outcome;
    let barred = |reason: &str| Ok(Verdict::Barred(reason.to_owned()));
    match (told.code, policy) {
        // draft-behera-ldap-password-policy section 6.2. Who may only choose a new password has not logged in.
        (SUCCESS | INVALID_CREDENTIALS, Some(0)) => barred("its password has expired"),
        (SUCCESS | INVALID_CREDENTIALS, Some(1)) => barred("it is locked"),
        (SUCCESS, Some(2)) => barred("its password has to be changed first"),
        (SUCCESS, Some(_)) => barred("the password policy says no"),
        (SUCCESS, None) => Ok(Verdict::Right),
        (INVALID_CREDENTIALS, _) => Ok(match active_directory(&told.text) {
            Some(reason) => Verdict::Barred(reason.to_owned()),
            None => Verdict::Wrong,
        }),
        (NO_SUCH_OBJECT | INVALID_DN, _) => Ok(Verdict::Wrong),
        (
            INAPPROPRIATE_AUTHENTICATION | CONSTRAINT_VIOLATION | INSUFFICIENT_ACCESS | UNWILLING,
            _,
        ) => barred(&told.to_string()),
        _ => Err(Fault::Refused {
            what: "to check a password",
            told,
        }),
    }
}

/// What Active Directory hides in its text: `80090308: LdapErr: DSID-0C09041C, comment: AcceptSecurityContext error,
/// data 775, v4563`. The number is a Windows error in hexadecimal.
fn active_directory(text: &str) -> Option<&'static str> {
    let (_, rest) = text.split_once(", data ")?;
    Some(match rest.split(',').next()? {
        "530" => "it may not log in at this time",
        "531" => "it may not log in from here",
        "52f" => "a restriction of the account forbids it",
        "532" => "its password has expired",
        "533" => "it is disabled",
        "534" => "it may not log in in this way",
        "701" => "it has expired",
        "773" => "its password has to be changed first",
        "775" => "it is locked",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::ldap::fault::Told;

    fn judged(code: u32, text: &str, policy: Option<u32>) -> Option<Verdict> {
        let told = Told::new(code, text);
        judge(Outcome { told, policy }).ok()
    }

    fn barred(reason: &str) -> Verdict {
        Verdict::Barred(reason.to_owned())
    }

    #[test]
    fn only_success_lets_in() {
        for code in 0..130 {
            let is_right = judged(code, "", None) == Some(Verdict::Right);
            assert_eq!(is_right, code == 0, "{code}");
        }
    }

    #[test]
    fn what_is_no_word_about_the_user_is_a_fault() {
        for code in [1, 2, 3, 8, 10, 11, 13, 14, 51, 52, 80] {
            assert_eq!(judged(code, "", None), None, "{code}");
        }
        for code in [32, 34, 49] {
            assert_eq!(judged(code, "", None), Some(Verdict::Wrong), "{code}");
        }
    }

    #[test]
    fn active_directory_says_why() {
        let text = |data: &str| {
            format!(
                "80090308: LdapErr: DSID-0C09041C, comment: AcceptSecurityContext error, data {data}, v4563"
            )
        };
        assert_eq!(judged(49, &text("775"), None), Some(barred("it is locked")));
        assert_eq!(
            judged(49, &text("533"), None),
            Some(barred("it is disabled"))
        );
        for (data, why) in [
            ("52f", "a restriction of the account forbids it"),
            ("532", "its password has expired"),
            ("534", "it may not log in in this way"),
            ("773", "its password has to be changed first"),
        ] {
            assert_eq!(judged(49, &text(data), None), Some(barred(why)), "{data}");
        }
        for plain in ["52e", "525"] {
            assert_eq!(judged(49, &text(plain), None), Some(Verdict::Wrong));
        }
    }

    #[test]
    fn who_has_to_choose_a_new_password_has_not_logged_in() {
        assert!(matches!(judged(0, "", Some(2)), Some(Verdict::Barred(_))));
        assert!(matches!(judged(0, "", Some(0)), Some(Verdict::Barred(_))));
        assert_eq!(judged(49, "", Some(1)), Some(barred("it is locked")));
    }
}
