//! The page on which people change their password. It decides how that looks and what each problem is called, and knows
//! no password.

use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use minijinja::context;

use super::login_problem::TRY_AGAIN;
use super::pages::{Pages, Sheet};
use crate::login::PasswordRefused;
use crate::wire::Page;

/// What [`Pages::password`] shows: a form with the fields `token`, `current`, `new` and `again`.
#[derive(Clone, Copy, Debug)]
pub struct PasswordView<'a> {
    pub user: &'a str,
    pub host: &'a str,
    pub action: &'a str,
    pub sessions_url: &'a str,
    pub form_token: &'a str,
    /// The way to log in that keeps the password, where we do not.
    pub kept_at: Option<&'a str>,
    pub problem: Option<PasswordProblem>,
    /// The page follows a change.
    pub is_done: bool,
}

/// Why a password was not changed. It decides the text and the status.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PasswordProblem {
    /// Too much is waiting already.
    Busy,
    /// The two new ones are not the same.
    Differ,
    /// Somebody else changed it at the same time.
    Overtaken,
    /// The new one is no good.
    Refused(PasswordRefused),
    /// The new one is the old one.
    Same,
    TooMany {
        minutes: u64,
    },
    /// Passwords cannot be looked at now.
    Unavailable,
    /// Nothing can be written where passwords are kept.
    Unwritable,
    WrongPassword,
}

impl PasswordProblem {
    fn status(self) -> StatusCode {
        match self {
            Self::Busy
            | Self::Refused(PasswordRefused::Hashing(_))
            | Self::Unavailable
            | Self::Unwritable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Differ | Self::Refused(_) | Self::Same => StatusCode::BAD_REQUEST,
            Self::Overtaken => StatusCode::CONFLICT,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::WrongPassword => StatusCode::FORBIDDEN,
        }
    }

    fn text(self) -> String {
        let text = match self {
            Self::Busy => "Too much is going on right now. Try again in a few seconds.",
            Self::Differ => "The two new passwords are not the same. Type the new one twice.",
            Self::Overtaken => {
                "Your password was changed somewhere else at the same moment, and that counts. If it was not you, tell whoever runs this site."
            }
            Self::Refused(PasswordRefused::TooShort) => {
                "The new password is too short: it needs at least 8 characters, and 15 or more are better."
            }
            Self::Refused(PasswordRefused::TooLong) => "The new password is too long.",
            Self::Refused(PasswordRefused::OwnName) => {
                "The new password is your user name, which anybody would try."
            }
            Self::Refused(PasswordRefused::Common) => {
                "The new password is one of the first that anybody would guess."
            }
            Self::Same => "The new password is the one that you have.",
            Self::TooMany { minutes: 0 | 1 } => "Too many attempts. Wait a minute, then try again.",
            Self::TooMany { minutes } => {
                return format!("Too many attempts. Wait {minutes} minutes, then try again.");
            }
            Self::Refused(PasswordRefused::Hashing(_)) | Self::Unavailable | Self::Unwritable => {
                "Passwords cannot be changed at the moment, and yours is as it was. Try again in a little while, or tell whoever runs this site."
            }
            Self::WrongPassword => "That is not your password now. Nothing was changed.",
        };
        text.to_owned()
    }

    fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Busy | Self::Unavailable | Self::Unwritable => Some(TRY_AGAIN),
            Self::TooMany { minutes } => {
                Some(Duration::from_secs(minutes.max(1).saturating_mul(60)))
            }
            _ => None,
        }
    }

    fn is_of_the_new_one(self) -> bool {
        self.status() == StatusCode::BAD_REQUEST
    }
}

impl Pages {
    pub fn password(&self, view: &PasswordView<'_>) -> Page {
        let problem = view.problem;
        let mut page = self.page(
            &Sheet {
                template: "password.html",
                status: problem.map_or(StatusCode::OK, PasswordProblem::status),
                has_form: true,
            },
            &context! {
                user => view.user,
                host => view.host,
                action => view.action,
                sessions_url => view.sessions_url,
                form_token => view.form_token,
                kept_at => view.kept_at,
                problem => problem.map(PasswordProblem::text),
                is_new => problem.is_some_and(PasswordProblem::is_of_the_new_one),
                is_current => problem == Some(PasswordProblem::WrongPassword),
                is_done => view.is_done,
            },
        );
        if let Some(span) = problem.and_then(PasswordProblem::retry_after) {
            page.headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(span.as_secs()));
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::HashingError;

    const HOSTILE: &str = "\"><script>alert('1')</script>&{{ 7*7 }}";

    fn shown(change: impl FnOnce(&mut PasswordView<'_>)) -> (Page, String) {
        let mut view = PasswordView {
            user: "alice",
            host: "wiki.example.com",
            action: "/.doorward/password",
            sessions_url: "/.doorward/sessions",
            form_token: "dG9rZW4",
            kept_at: None,
            problem: None,
            is_done: false,
        };
        change(&mut view);
        let page = Pages::new().password(&view);
        let html = String::from_utf8(page.body().to_vec()).unwrap();
        (page, html)
    }

    #[test]
    fn a_password_manager_finds_its_way() {
        let (page, html) = shown(|_| {});
        assert_eq!(page.status(), 200);
        for (field, count) in [
            ("autocomplete=\"username\"", 1),
            ("autocomplete=\"current-password\"", 1),
            ("autocomplete=\"new-password\"", 2),
            ("type=\"password\"", 3),
            ("minlength=\"8\"", 2),
            ("value=\"alice\"", 1),
        ] {
            assert_eq!(html.matches(field).count(), count, "{field}");
        }
        // Nothing keeps anybody from pasting, and nothing bounds the length of what is typed.
        assert!(!html.contains("onpaste") && !html.contains("maxlength"));
        assert!(!html.contains("pattern="), "no composition is asked for");
    }

    #[test]
    fn every_problem_says_what_it_is_about_and_repeats_no_password() {
        let refused = PasswordProblem::Refused;
        for (problem, status, retry, invalid) in [
            (PasswordProblem::Busy, 503, Some("5"), 0),
            (PasswordProblem::Differ, 400, None, 2),
            (PasswordProblem::Overtaken, 409, None, 0),
            (refused(PasswordRefused::TooShort), 400, None, 2),
            (refused(PasswordRefused::Common), 400, None, 2),
            (
                refused(PasswordRefused::Hashing(HashingError::Failed)),
                503,
                None,
                0,
            ),
            (PasswordProblem::Same, 400, None, 2),
            (
                PasswordProblem::TooMany { minutes: 15 },
                429,
                Some("900"),
                0,
            ),
            (PasswordProblem::Unavailable, 503, Some("5"), 0),
            (PasswordProblem::Unwritable, 503, Some("5"), 0),
            (PasswordProblem::WrongPassword, 403, None, 1),
        ] {
            let (page, html) = shown(|view| view.problem = Some(problem));
            assert_eq!(page.status(), status, "{problem:?}");
            let after = page.headers().get("retry-after");
            let after = after.map(|value| value.to_str().unwrap());
            assert_eq!(after, retry, "{problem:?}");
            assert_eq!(html.matches("role=\"alert\"").count(), 1);
            let (_, html) = html.split_once("</style>").unwrap();
            assert_eq!(html.matches("aria-invalid").count(), invalid, "{problem:?}");
            assert!(
                shown(|view| view.problem = Some(problem))
                    .1
                    .contains("<title>Error: ")
            );
            let values = html.matches("value=\"").count();
            assert_eq!(values, 2, "the token and the name alone: {html}");
        }
    }

    #[test]
    fn whose_password_is_kept_elsewhere_is_shown_no_form() {
        let (page, html) = shown(|view| view.kept_at = Some("Corporate login"));
        assert_eq!(page.status(), 200);
        assert!(html.contains("Corporate login") && !html.contains("<form"));
        let (_, done) = shown(|view| view.is_done = true);
        assert!(done.contains("role=\"status\"") && !done.contains("<form"));
    }

    #[test]
    fn hostile_values_stay_text() {
        for kept_at in [None, Some(HOSTILE)] {
            let (_, html) = shown(|view| {
                (view.user, view.host, view.form_token) = (HOSTILE, HOSTILE, HOSTILE);
                view.kept_at = kept_at;
            });
            assert!(!html.contains("<script") && !html.contains("49"), "{html}");
            assert!(html.matches("&quot;&gt;&lt;script&gt;").count() >= 3);
        }
    }
}
