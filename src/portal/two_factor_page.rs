//! The pages of the second step: the code at a login, how it is set up and taken away, and recovery codes, which are shown
//! once. It decides how they look and knows no code.

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use minijinja::{Value, context};
use zeroize::Zeroizing;

use super::login_problem::LoginProblem;
use super::pages::{Pages, Sheet};
use crate::login::Shown;
use crate::wire::Page;

/// What [`Pages::second_step`] shows: a form with the fields `second` and `code`, sent to the page's own address.
#[derive(Clone, Copy, Debug)]
pub struct SecondStepView<'a> {
    pub state: &'a str,
    pub user: &'a str,
    pub host: &'a str,
    /// For who has no second factor yet and needs one.
    pub enrolment: Option<&'a Shown>,
    pub problem: Option<LoginProblem>,
}

/// What [`Pages::two_factor`] shows: forms with the fields `token`, `do` (`enable`, `codes`, `disable`), `code`, and `state`
/// or `password`.
#[derive(Clone, Copy, Debug)]
pub struct TwoFactorView<'a> {
    pub user: &'a str,
    pub host: &'a str,
    pub action: &'a str,
    pub sessions_url: &'a str,
    pub form_token: &'a str,
    /// The way to log in that has the second step, where we do not.
    pub kept_at: Option<&'a str>,
    /// For who has no second factor: what an app takes in, and the text that comes back with its code.
    pub enrolment: Option<(&'a Shown, &'a str)>,
    /// Recovery codes that are left.
    pub left: usize,
    pub problem: Option<LoginProblem>,
    /// The page follows the end of a second factor.
    pub is_done: bool,
}

/// What [`Pages::recovery_codes`] shows.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryCodesView<'a> {
    pub user: &'a str,
    pub host: &'a str,
    pub codes: &'a [Zeroizing<String>],
    /// A place of ours, already judged.
    pub continue_to: &'a str,
    /// They come with a new second factor.
    pub is_new: bool,
}

impl Pages {
    pub fn second_step(&self, view: &SecondStepView<'_>) -> Page {
        let values = context! {
            state => view.state,
            user => view.user,
            host => view.host,
            enrolment => view.enrolment.map(shown),
            problem => view.problem.map(LoginProblem::text),
        };
        self.problem_page("second_step.html", view.problem, &values)
    }

    pub fn two_factor(&self, view: &TwoFactorView<'_>) -> Page {
        let values = context! {
            user => view.user,
            host => view.host,
            action => view.action,
            sessions_url => view.sessions_url,
            form_token => view.form_token,
            kept_at => view.kept_at,
            enrolment => view.enrolment.map(|(new, _)| shown(new)),
            state => view.enrolment.map(|(_, state)| state),
            left => view.left,
            is_done => view.is_done,
            problem => view.problem.map(LoginProblem::text),
        };
        self.problem_page("two_factor.html", view.problem, &values)
    }

    pub fn recovery_codes(&self, view: &RecoveryCodesView<'_>) -> Page {
        let codes = view.codes.iter().map(|code| Value::from(code.as_str()));
        let values = context! {
            user => view.user,
            host => view.host,
            codes => codes.collect::<Vec<Value>>(),
            continue_to => view.continue_to,
            is_new => view.is_new,
        };
        self.problem_page("recovery_codes.html", None, &values)
    }

    fn problem_page(
        &self,
        template: &'static str,
        problem: Option<LoginProblem>,
        values: &Value,
    ) -> Page {
        let mut page = self.page(
            &Sheet {
                template,
                status: problem.map_or(StatusCode::OK, LoginProblem::status),
                has_form: true,
            },
            values,
        );
        if let Some(span) = problem.and_then(LoginProblem::retry_after) {
            page.headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(span.as_secs()));
        }
        page
    }
}

fn shown(new: &Shown) -> Value {
    context! { text => new.text.as_str(), size => new.size, path => new.path.as_str() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::NewFactor;

    const HOSTILE: &str = "\"><script>alert('1')</script>&{{ 7*7 }}";

    fn html(page: &Page) -> String {
        let text = String::from_utf8(page.body().to_vec()).unwrap();
        assert!(!text.contains("<script"), "{text}");
        text.split_once("</style>").unwrap().1.to_owned()
    }

    #[test]
    fn the_second_step_is_one_field_and_an_enrolment_shows_its_secret_twice() {
        let pages = Pages::new();
        let new = NewFactor::generate()
            .shown("wiki.example.com", HOSTILE)
            .unwrap();
        for enrolment in [None, Some(&new)] {
            let page = pages.second_step(&SecondStepView {
                state: HOSTILE,
                user: HOSTILE,
                host: HOSTILE,
                enrolment,
                problem: Some(LoginProblem::WrongCode),
            });
            assert_eq!(page.status(), 401);
            let html = html(&page);
            assert_eq!(html.matches("autocomplete=\"one-time-code\"").count(), 1);
            assert_eq!(html.matches("role=\"alert\"").count(), 1);
            assert!(
                html.contains("{{ 7*7 }}"),
                "a value was taken for a template"
            );
            let is_shown = enrolment.is_some();
            assert_eq!(html.contains(&new.text), is_shown);
            assert_eq!(html.contains(&new.path), is_shown);
            assert_eq!(html.contains("role=\"img\" aria-label="), is_shown);
        }
    }

    #[test]
    fn what_is_on_can_be_turned_off_and_what_is_off_on() {
        let pages = Pages::new();
        let new = NewFactor::generate()
            .shown("wiki.example.com", "alice")
            .unwrap();
        let view = TwoFactorView {
            user: HOSTILE,
            host: HOSTILE,
            action: "/.doorward/two-factor",
            sessions_url: "/.doorward/sessions",
            form_token: HOSTILE,
            kept_at: None,
            enrolment: None,
            left: 1,
            problem: None,
            is_done: false,
        };
        let on = html(&pages.two_factor(&view));
        assert!(on.contains("value=\"codes\"") && on.contains("value=\"disable\""));
        assert!(on.contains("1 recovery code left") && !on.contains("value=\"enable\""));
        let off = TwoFactorView {
            enrolment: Some((&new, "c2VhbGVk")),
            problem: Some(LoginProblem::Busy),
            ..view
        };
        let off = pages.two_factor(&off);
        assert_eq!(
            (off.status().as_u16(), &off.headers()["retry-after"]),
            (503, &"5".try_into().unwrap())
        );
        let off = html(&off);
        assert!(off.contains("value=\"enable\"") && off.contains("value=\"c2VhbGVk\""));
        assert!(off.contains(&new.text) && !off.contains("value=\"disable\""));
        let elsewhere = TwoFactorView {
            kept_at: Some(HOSTILE),
            ..view
        };
        assert!(!html(&pages.two_factor(&elsewhere)).contains("<form"));
    }

    #[test]
    fn recovery_codes_are_shown_as_they_are() {
        let codes = ["abcd-efgh", "ijkl-mnop"].map(|code| Zeroizing::new(code.to_owned()));
        let page = Pages::new().recovery_codes(&RecoveryCodesView {
            user: HOSTILE,
            host: HOSTILE,
            codes: &codes,
            continue_to: "/wiki",
            is_new: true,
        });
        assert_eq!(page.headers()["cache-control"], "no-store");
        let html = html(&page);
        assert!(html.contains("<code>abcd-efgh</code>") && html.contains("<code>ijkl-mnop</code>"));
        assert!(html.contains("href=\"&#x2f;wiki\""));
    }
}
