//! The page that lets people choose how to log in, where there are several ways. It needs no script.

use http::StatusCode;
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;

use super::login_problem::LoginProblem;
use super::pages::{Pages, Sheet};
use super::place;
use crate::wire::Page;

/// What [`Pages::chooser`] shows.
#[derive(Clone, Copy, Debug)]
pub struct ChooserView<'a> {
    /// What one logs in to, as the browser knows it.
    pub host: &'a str,
    /// What is asked of the login page beside the way: names and values.
    pub fields: &'a [(&'a str, &'a str)],
    pub ways: &'a [Choice<'a>],
    pub problem: Option<LoginProblem>,
}

/// A way to log in.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Choice<'a> {
    pub id: &'a str,
    pub name: &'a str,
    /// To another site.
    pub leads_away: bool,
}

impl Pages {
    /// One button for each way: 200, or what the problem says. It is of a form that is sent to the page's own address, so that
    /// the browser keeps the `#fragment`. Where the way leads to another site it is a link: the fragment is none of its
    /// business, and browsers hold the redirects of a form to what the page allows.
    pub fn chooser(&self, view: &ChooserView<'_>) -> Page {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let common = query.extend_pairs(view.fields).finish();
        self.page(
            &Sheet {
                template: "chooser.html",
                status: view.problem.map_or(StatusCode::OK, LoginProblem::status),
                has_form: true,
            },
            &context! {
                host => view.host,
                login => place("login"),
                common => common,
                fields => Value::from(Serde(view.fields)),
                ways => Value::from(Serde(view.ways)),
                problem => view.problem.map(LoginProblem::text),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [(&str, &str); 2] = [("return_to", "/a?b=\"><script>"), ("prompt", "login")];

    #[test]
    fn each_way_is_a_button_or_leads_away_and_names_stay_text() {
        let ways = [
            Choice {
                id: "corp",
                name: "Corporate \"><script>login",
                leads_away: true,
            },
            Choice {
                id: "local",
                name: "User name and password",
                leads_away: false,
            },
        ];
        let page = Pages::new().chooser(&ChooserView {
            host: "wiki.example.com",
            fields: &FIELDS,
            ways: &ways,
            problem: None,
        });
        let html = std::str::from_utf8(page.body()).unwrap();
        assert_eq!(page.status(), 200);
        assert!(!html.contains("<script"), "{html}");
        for shown in [
            "Corporate &quot;&gt;&lt;script&gt;login",
            "href=\"&#x2f;.doorward&#x2f;login?return_to=%2Fa%3Fb%3D%22%3E%3Cscript%3E&amp;prompt=login&amp;provider=corp\"",
            "<form method=\"get\">",
            "name=\"return_to\" value=\"&#x2f;a?b=&quot;&gt;&lt;script&gt;\"",
            "name=\"prompt\" value=\"login\"",
            "name=\"provider\" value=\"local\">User name and password</button>",
            "to wiki.example.com",
        ] {
            assert!(html.contains(shown), "{shown} is not in {html}");
        }
        assert_eq!(html.matches("<button").count(), 1);
    }

    #[test]
    fn a_form_that_lay_open_too_long_leads_to_the_choice_again() {
        let page = Pages::new().chooser(&ChooserView {
            host: "wiki.example.com",
            fields: &FIELDS,
            ways: &[],
            problem: Some(LoginProblem::Expired),
        });
        assert_eq!(page.status(), 400);
        let html = std::str::from_utf8(page.body()).unwrap();
        assert!(html.contains("role=\"alert\""), "{html}");
    }
}
