//! The page on which people keep their passkeys, and what a page with a question to an authenticator needs. It decides how
//! that looks, and knows no passkey.

use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;

use super::pages::{Pages, Sheet};
use crate::wire::Page;

/// A question to an authenticator.
#[derive(Clone, Copy, Debug)]
pub struct PasskeyView<'a> {
    /// In JSON.
    pub options: &'a str,
    /// Goes out and comes back beside the answer.
    pub state: &'a str,
    /// Where the script is that asks: a path on this host.
    pub script: &'a str,
    /// Where it gets a newer question, if anywhere: another such path.
    pub renewal: Option<&'a str>,
    /// The host and port that the page is at.
    pub authority: &'a str,
}

/// What [`Pages::passkeys`] shows.
#[derive(Clone, Copy, Debug)]
pub struct PasskeysView<'a> {
    pub user: &'a str,
    pub host: &'a str,
    /// Where the forms are sent: fields `token`, and `remove` with an id, or `state`, `name` and `passkey`.
    pub action: &'a str,
    pub sessions_url: &'a str,
    pub form_token: &'a str,
    pub passkeys: &'a [PasskeyRow],
    /// A passkey that has just been removed, for the browser to offer no more: what it was for, and its id.
    pub gone: Option<(&'a str, &'a str)>,
    /// The host and port that the page is at, and the script there, for where it is needed.
    pub script: (&'a str, &'a str),
    /// Asks for a new one, where that is possible now.
    pub new: Option<PasskeyView<'a>>,
    pub is_full: bool,
    /// Where to log in once more before one can be added.
    pub again_url: Option<&'a str>,
    pub problem: Option<(StatusCode, &'a str)>,
    pub done: Option<&'a str>,
}

/// One passkey.
#[derive(Clone, Debug, Serialize)]
pub struct PasskeyRow {
    pub id: String,
    pub name: String,
    /// In RFC 3339, and its day alone.
    pub created: String,
    pub day: String,
}

impl Pages {
    /// A person's own passkeys, each with a button that removes it.
    pub fn passkeys(&self, view: &PasskeysView<'_>) -> Page {
        let status = view.problem.map_or(StatusCode::OK, |(status, _)| status);
        let mut page = self.page(
            &Sheet {
                template: "passkeys.html",
                status,
                has_form: true,
            },
            &context! {
                user => view.user,
                host => view.host,
                action => view.action,
                sessions_url => view.sessions_url,
                form_token => view.form_token,
                passkeys => Value::from(Serde(view.passkeys)),
                options => view.new.map(|new| new.options),
                state => view.new.map(|new| new.state),
                script => view.script.1,
                gone => view.gone,
                is_full => view.is_full,
                again_url => view.again_url,
                problem => view.problem.map(|(_, text)| text),
                done => view.done,
            },
        );
        if view.new.is_some() || view.gone.is_some() {
            self.allow_script(&mut page, view.script, None);
        }
        page
    }

    /// Lets the one script run, and ask, by their full paths: the host has scripts of apps too.
    pub(super) fn allow_script(
        &self,
        page: &mut Page,
        (authority, script): (&str, &str),
        renewal: Option<&str>,
    ) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:".contains(&b);
        if !authority.bytes().all(plain) {
            return;
        }
        let Ok(policy) = self.form_policy.to_str() else {
            return;
        };
        let mut policy = format!("{policy}; script-src {authority}{script}");
        if let Some(renewal) = renewal {
            policy.extend(["; connect-src ", authority, renewal]);
        }
        if let Ok(policy) = HeaderValue::try_from(policy) {
            page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "\"><script>alert('1')</script>&{{ 7*7 }}";

    fn shown(change: impl FnOnce(&mut PasskeysView<'_>)) -> Page {
        let rows = [PasskeyRow {
            id: HOSTILE.to_owned(),
            name: HOSTILE.to_owned(),
            created: HOSTILE.to_owned(),
            day: HOSTILE.to_owned(),
        }];
        let mut view = PasskeysView {
            user: HOSTILE,
            host: HOSTILE,
            action: "/.doorward/passkeys",
            sessions_url: "/.doorward/sessions",
            form_token: HOSTILE,
            passkeys: &rows,
            gone: None,
            script: ("localhost", "/.doorward/passkey.js"),
            new: None,
            is_full: false,
            again_url: None,
            problem: None,
            done: None,
        };
        change(&mut view);
        Pages::new().passkeys(&view)
    }

    fn policy(page: &Page) -> &str {
        page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap()
    }

    #[test]
    fn one_script_may_run_and_only_where_it_is_needed() {
        let at = |authority| {
            let asks = PasskeyView {
                options: HOSTILE,
                state: HOSTILE,
                script: "/.doorward/passkey.js",
                renewal: None,
                authority,
            };
            shown(|view| (view.new, view.script.0) = (Some(asks), authority))
        };
        assert!(!policy(&shown(|_| {})).contains("script-src"));
        let page = at("wiki.example.com:8443");
        let allowed = "; script-src wiki.example.com:8443/.doorward/passkey.js";
        assert!(policy(&page).ends_with(allowed), "{}", policy(&page));
        assert!(policy(&page).starts_with("default-src 'none'"));
        let page = shown(|view| view.gone = Some((HOSTILE, HOSTILE)));
        let allowed = "; script-src localhost/.doorward/passkey.js";
        assert!(policy(&page).ends_with(allowed), "{}", policy(&page));
        for odd in ["a; script-src *", "a 'unsafe-inline'", "a,b", "[::1]"] {
            let page = at(odd);
            assert!(!policy(&page).contains("script-src"), "{odd}");
        }
    }

    #[test]
    fn hostile_names_stay_text() {
        let page = shown(|view| {
            view.problem = Some((StatusCode::BAD_REQUEST, HOSTILE));
            view.gone = Some((HOSTILE, HOSTILE));
        });
        assert_eq!(page.status(), StatusCode::BAD_REQUEST);
        let html = String::from_utf8(page.body().to_vec()).unwrap();
        assert!(!html.contains("<script>") && !html.contains("49"), "{html}");
        assert!(html.matches("&quot;&gt;&lt;script&gt;").count() >= 9);
    }
}
