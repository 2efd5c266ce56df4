//! The page that lets people choose how to log in, where there are several ways. Plain links: it needs no script.

use http::StatusCode;
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;

use super::login_problem::LoginProblem;
use super::pages::{Pages, Sheet};
use crate::wire::Page;

/// What [`Pages::chooser`] shows.
#[derive(Clone, Copy, Debug)]
pub struct ChooserView<'a> {
    /// What one logs in to, as the browser knows it.
    pub host: &'a str,
    pub ways: &'a [Choice<'a>],
    pub problem: Option<LoginProblem>,
}

/// A way to log in.
#[derive(Clone, Debug, Serialize)]
pub struct Choice<'a> {
    pub name: &'a str,
    /// A path of ours.
    pub href: String,
}

impl Pages {
    /// One link for each way: 200, or what the problem says.
    pub fn chooser(&self, view: &ChooserView<'_>) -> Page {
        self.page(
            &Sheet {
                template: "chooser.html",
                status: view.problem.map_or(StatusCode::OK, LoginProblem::status),
                has_form: false,
            },
            &context! {
                host => view.host,
                ways => Value::from(Serde(view.ways)),
                problem => view.problem.map(LoginProblem::text),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_is_a_link_and_names_stay_text() {
        let ways = [
            Choice {
                name: "Corporate \"><script>login",
                href: "/.doorward/login?return_to=%2F&provider=corp".to_owned(),
            },
            Choice {
                name: "User name and password",
                href: "/.doorward/login?return_to=%2F&provider=local".to_owned(),
            },
        ];
        let page = Pages::new().chooser(&ChooserView {
            host: "wiki.example.com",
            ways: &ways,
            problem: None,
        });
        let html = std::str::from_utf8(page.body()).unwrap();
        assert_eq!(page.status(), 200);
        assert!(
            !html.contains("<script") && !html.contains("<form"),
            "{html}"
        );
        for shown in [
            "Corporate &quot;&gt;&lt;script&gt;login",
            "provider=corp\"",
            "provider=local\"",
            "to wiki.example.com",
        ] {
            assert!(html.contains(shown), "{shown} is not in {html}");
        }
        assert!(
            page.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("form-action 'none'")
        );
    }

    #[test]
    fn a_form_that_lay_open_too_long_leads_to_the_choice_again() {
        let page = Pages::new().chooser(&ChooserView {
            host: "wiki.example.com",
            ways: &[],
            problem: Some(LoginProblem::Expired),
        });
        assert_eq!(page.status(), 400);
        let html = std::str::from_utf8(page.body()).unwrap();
        assert!(html.contains("role=\"alert\""), "{html}");
    }
}
