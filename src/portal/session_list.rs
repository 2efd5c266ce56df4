//! The page that shows a person their own sessions. It decides how that looks and knows no session.

use http::StatusCode;
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;

use super::pages::{Pages, Sheet};
use crate::wire::Page;

/// What [`Pages::sessions`] shows.
#[derive(Clone, Copy, Debug)]
pub struct SessionsView<'a> {
    pub user: &'a str,
    pub host: &'a str,
    /// Where the form is sent: fields `token`, and `end` with a `sid` or `others`.
    pub action: &'a str,
    pub logout_url: &'a str,
    /// Where the password is changed, of who has one here.
    pub passkeys_url: Option<&'a str>,
    pub password_url: Option<&'a str>,
    pub form_token: &'a str,
    pub sessions: &'a [SessionRow],
    /// There are more than are shown.
    pub is_cut: bool,
    /// The page follows an end that was asked for.
    pub is_done: bool,
}

/// One session.
#[derive(Clone, Debug, Serialize)]
pub struct SessionRow {
    pub sid: String,
    pub device: String,
    pub address: Option<String>,
    /// In RFC 3339, and in words.
    pub began: String,
    pub began_ago: String,
    pub seen: String,
    pub seen_ago: String,
    /// It is the one that asks.
    pub is_this: bool,
}

impl Pages {
    /// A person's own sessions, each with a button that ends it.
    pub fn sessions(&self, view: &SessionsView<'_>) -> Page {
        let has_others = view.is_cut || view.sessions.iter().any(|session| !session.is_this);
        self.page(
            &Sheet {
                template: "sessions.html",
                status: StatusCode::OK,
                has_form: true,
            },
            &context! {
                user => view.user,
                host => view.host,
                action => view.action,
                logout_url => view.logout_url,
                passkeys_url => view.passkeys_url,
                password_url => view.password_url,
                form_token => view.form_token,
                sessions => Value::from(Serde(view.sessions)),
                is_cut => view.is_cut,
                is_done => view.is_done,
                has_others => has_others,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "\"><script>alert('1')</script>&{{ 7*7 }}";

    fn row(sid: &str, is_this: bool) -> SessionRow {
        SessionRow {
            sid: sid.to_owned(),
            device: "Firefox on Linux".to_owned(),
            address: Some("192.0.2.7".to_owned()),
            began: "2026-01-01T00:00:00.000Z".to_owned(),
            began_ago: "2 hours ago".to_owned(),
            seen: "2026-01-01T02:00:00.000Z".to_owned(),
            seen_ago: "just now".to_owned(),
            is_this,
        }
    }

    fn shown(sessions: &[SessionRow], change: impl FnOnce(&mut SessionsView<'_>)) -> String {
        let mut view = SessionsView {
            user: "alice",
            host: "wiki.example.com",
            action: "/.doorward/sessions",
            logout_url: "/.doorward/logout",
            passkeys_url: Some("/.doorward/passkeys"),
            password_url: Some("/.doorward/password"),
            form_token: "dG9rZW4",
            sessions,
            is_cut: false,
            is_done: false,
        };
        change(&mut view);
        let page = Pages::new().sessions(&view);
        assert_eq!(page.status(), StatusCode::OK);
        String::from_utf8(page.body().to_vec()).unwrap()
    }

    #[test]
    fn every_session_but_this_one_has_a_button_of_its_own_name() {
        let html = shown(&[row("here", true), row("there", false)], |_| {});
        assert!(html.contains("<title>Where you are logged in · wiki.example.com</title>"));
        assert!(html.contains("<form method=\"post\" action=\"&#x2f;.doorward&#x2f;sessions\">"));
        assert_eq!(html.matches("name=\"token\" value=\"dG9rZW4\"").count(), 1);
        assert!(!html.contains("value=\"here\""));
        assert_eq!(html.matches("name=\"end\" value=\"there\"").count(), 1);
        assert!(html.contains("value=\"others\""));
        assert_eq!(html.matches("This device").count(), 1);
        // What a screen reader says of the button tells it from the others, and begins with what is seen.
        let (_, button) = html.split_once("value=\"there\"").unwrap();
        let (button, _) = button.split_once("</button>").unwrap();
        assert!(button.contains(">Log out<span"), "{button}");
        assert!(button.contains("Firefox on Linux, 192.0.2.7"), "{button}");
        assert!(html.contains("<time datetime=\"2026-01-01T00:00:00.000Z\""));
    }

    #[test]
    fn who_is_logged_in_once_is_offered_no_end_of_others() {
        let html = shown(&[row("here", true)], |_| {});
        assert!(!html.contains("name=\"end\""), "{html}");
        assert!(!html.contains("role=\"status\""));
        assert!(html.contains("href=\"&#x2f;.doorward&#x2f;logout\""));
        let cut = shown(&[row("here", true)], |view| view.is_cut = true);
        assert!(
            cut.contains("value=\"others\""),
            "there are more than are shown"
        );
        let done = shown(&[row("here", true)], |view| view.is_done = true);
        assert_eq!(done.matches("role=\"status\"").count(), 1);
    }

    #[test]
    fn hostile_values_stay_text() {
        let hostile = SessionRow {
            sid: HOSTILE.to_owned(),
            device: HOSTILE.to_owned(),
            address: Some(HOSTILE.to_owned()),
            began_ago: HOSTILE.to_owned(),
            ..row("", false)
        };
        let html = shown(&[hostile], |view| {
            (view.user, view.host, view.form_token) = (HOSTILE, HOSTILE, HOSTILE);
        });
        assert!(!html.contains("<script") && !html.contains("49"), "{html}");
        assert!(html.matches("&quot;&gt;&lt;script&gt;").count() >= 7);
    }
}
