//! The pages that people see: log in, log out, and what went wrong. It decides how they look and which headers guard
//! them, and refuses to know sessions, requests or why a page is shown.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use minijinja::{Environment, UndefinedBehavior, Value, context};

use super::login_problem::{LoginProblem, TRY_AGAIN};
use super::passkeys_page::PasskeyView;
use crate::wire::Page;

/// What [`Pages::login`] shows: a form with the fields `state`, `user` and `password`. It is sent to the page's own address,
/// since a browser keeps the `#fragment` of that, and takes it along when it is sent on after the login.
#[derive(Clone, Copy, Debug)]
pub struct LoginView<'a> {
    /// Goes out and comes back in the hidden field `state`.
    pub state: &'a str,
    /// The user name of an attempt before, so that nobody types it twice.
    pub user: Option<&'a str>,
    pub problem: Option<LoginProblem>,
    /// What one logs in to, as the browser knows it.
    pub host: &'a str,
    /// Who is logged in already and has to log in once more.
    pub signed_in_as: Option<&'a str>,
    /// A question to an authenticator, if there is one. The answer goes into the field `passkey`.
    pub passkey: Option<PasskeyView<'a>>,
    /// A box to tick, field `remember`, and whether it is ticked; `None`: there is none.
    pub remember: Option<bool>,
}

/// What [`Pages::signed_in`] shows.
#[derive(Clone, Copy, Debug)]
pub struct SignedInView<'a> {
    pub user: &'a str,
    pub host: &'a str,
    /// Where the button to go on leads, by way of this page's own address, so that the browser keeps the `#fragment`: the
    /// return-to, already judged.
    pub continue_to: &'a str,
    /// The host of that, where this login does not count.
    pub elsewhere: Option<&'a str>,
    /// Where the form is sent: field `token`.
    pub logout_action: &'a str,
    /// Where a person sees their own sessions.
    pub sessions_url: &'a str,
    /// Where passkeys are kept, of who may have some here.
    pub passkeys_url: Option<&'a str>,
    /// Where the password is changed, of who has one here.
    pub password_url: Option<&'a str>,
    pub two_factor_url: Option<&'a str>,
    pub form_token: &'a str,
}

/// What [`Pages::error`] shows.
#[derive(Clone, Copy, Debug)]
pub struct ErrorView<'a> {
    pub status: StatusCode,
    /// A few words, without a full stop.
    pub title: &'a str,
    pub message: &'a str,
    /// What the reader may do about it.
    pub hint: Option<&'a str>,
    pub request_id: &'a str,
    /// Label and address of a button.
    pub action: Option<(&'a str, &'a str)>,
}

/// Every page, ready to be filled in. Build it once.
pub struct Pages {
    templates: Environment<'static>,
    /// For pages with and without a form.
    pub(super) form_policy: HeaderValue,
    plain_policy: HeaderValue,
}

const STYLE: &str = include_str!("templates/style.css");

const TEMPLATES: &[(&str, &str)] = &[
    ("chooser.html", include_str!("templates/chooser.html")),
    ("error.html", include_str!("templates/error.html")),
    (
        "going_round.html",
        include_str!("templates/going_round.html"),
    ),
    ("kept.html", include_str!("templates/kept.html")),
    ("layout.html", include_str!("templates/layout.html")),
    ("logged_out.html", include_str!("templates/logged_out.html")),
    ("login.html", include_str!("templates/login.html")),
    ("logout.html", include_str!("templates/logout.html")),
    ("passkeys.html", include_str!("templates/passkeys.html")),
    ("password.html", include_str!("templates/password.html")),
    (
        "recovery_codes.html",
        include_str!("templates/recovery_codes.html"),
    ),
    (
        "second_step.html",
        include_str!("templates/second_step.html"),
    ),
    ("sessions.html", include_str!("templates/sessions.html")),
    ("signed_in.html", include_str!("templates/signed_in.html")),
    ("two_factor.html", include_str!("templates/two_factor.html")),
];

/// Sent instead where a template fails, so that a mistake in one is never a blank screen.
const FALLBACK: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Error</title>\n\
    <h1>This page cannot be shown</h1>\n<p>Something is wrong with this site. Try again later.</p>\n</html>\n";

/// Where forms lead; the rest is up to who answers them.
const FORMS_LEAD_TO: &str = "'self' https:";

/// A user name longer than this is not worth repeating in the form.
const MAX_KEPT_USER: usize = 256;

impl Pages {
    /// # Panics
    /// Where a template does not parse. They are part of the program, so that shows in every test.
    pub fn new() -> Self {
        let mut templates = Environment::empty();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.set_auto_escape_callback(|_| minijinja::AutoEscape::Html);
        templates.add_global("style", Value::from_safe_string(STYLE.to_owned()));
        for &(name, source) in TEMPLATES {
            #[expect(clippy::expect_used, reason = "the templates are constants")]
            templates
                .add_template(name, source)
                .expect("a template that parses");
        }
        Self {
            templates,
            // Browsers hold redirects after a form to `form-action` too, hop by hop. With 'self' alone, whoever logs in
            // to an app that sends them on to another host would be stuck on this form without a word.
            form_policy: content_security_policy(FORMS_LEAD_TO),
            plain_policy: content_security_policy("'none'"),
        }
    }

    /// The login form: 200, or what its problem says.
    pub fn login(&self, view: &LoginView<'_>) -> Page {
        let problem = view.problem.map(LoginProblem::text);
        let user = view.user.filter(|user| user.len() <= MAX_KEPT_USER);
        let status = view.problem.map_or(StatusCode::OK, LoginProblem::status);
        let mut page = self.page(
            &Sheet {
                template: "login.html",
                status,
                has_form: true,
            },
            &context! {
                state => view.state,
                user => user,
                host => view.host,
                problem => problem,
                signed_in_as => view.signed_in_as,
                offers_memory => view.remember.is_some(),
                is_remembered => view.remember == Some(true),
                passkey_options => view.passkey.map(|passkey| passkey.options),
                passkey_state => view.passkey.map(|passkey| passkey.state),
                passkey_script => view.passkey.map(|passkey| passkey.script),
                passkey_renewal => view.passkey.and_then(|passkey| passkey.renewal),
                is_invalid => view.problem == Some(LoginProblem::WrongCredentials),
            },
        );
        if let Some(span) = view.problem.and_then(LoginProblem::retry_after) {
            retry_after(&mut page, span);
        }
        if let Some(passkey) = &view.passkey {
            let script = (passkey.authority, passkey.script);
            self.allow_script(&mut page, script, passkey.renewal);
        }
        page
    }

    /// For somebody who opens the login page while logged in.
    pub fn signed_in(&self, view: &SignedInView<'_>) -> Page {
        self.page(
            &Sheet {
                template: "signed_in.html",
                status: StatusCode::OK,
                has_form: true,
            },
            &context! {
                user => view.user,
                host => view.host,
                continue_to => address(view.continue_to),
                elsewhere => view.elsewhere,
                logout_action => view.logout_action,
                sessions_url => view.sessions_url,
                passkeys_url => view.passkeys_url,
                password_url => view.password_url,
                two_factor_url => view.two_factor_url,
                form_token => view.form_token,
            },
        )
    }

    /// Asks whether to log out: a form with the field `token`, since a link that is followed must not log anyone out.
    pub fn logout(&self, action: &str, form_token: &str, user: &str) -> Page {
        self.page(
            &Sheet {
                template: "logout.html",
                status: StatusCode::OK,
                has_form: true,
            },
            &context! { action, form_token, user },
        )
    }

    /// Lets the forms of a page lead to an origin besides.
    pub(super) fn lead_to(&self, page: &mut Page, origin: &str) {
        let policy = self.form_policy.to_str().unwrap_or_default();
        let wider = format!("{FORMS_LEAD_TO} {origin}");
        let policy = policy.replacen(FORMS_LEAD_TO, &wider, 1);
        if let Ok(policy) = HeaderValue::try_from(policy) {
            let headers = page.headers_mut();
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
    }

    pub fn logged_out(&self, login_url: &str) -> Page {
        self.page(
            &Sheet {
                template: "logged_out.html",
                status: StatusCode::OK,
                has_form: false,
            },
            &context! { login_url => address(login_url) },
        )
    }

    /// What went wrong. Headers that a status calls for (`Allow`, `WWW-Authenticate`) are the caller's to add.
    pub fn error(&self, view: &ErrorView<'_>) -> Page {
        let action = view
            .action
            .map(|(label, href)| context! { label, href => address(href) });
        let mut page = self.page(
            &Sheet {
                template: "error.html",
                status: view.status,
                has_form: false,
            },
            &context! {
                code => view.status.as_u16(),
                title => view.title,
                message => view.message,
                hint => view.hint,
                request_id => view.request_id,
                action => action,
            },
        );
        if view.status == StatusCode::SERVICE_UNAVAILABLE {
            retry_after(&mut page, TRY_AGAIN);
        }
        page
    }

    /// For a frame of another site's page, at this origin and no other: a word, whatever happened.
    pub fn frame(&self, status: StatusCode, origin: &str) -> Page {
        let text = if status.is_success() {
            "Logged out"
        } else {
            "Not understood"
        };
        let body = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{text}</title>\n<p>{text}.</p>\n</html>\n"
        );
        let mut page = Response::new(Bytes::from(body));
        *page.status_mut() = status;
        let headers = page.headers_mut();
        for (name, value) in GUARDS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let policy = format!(
            "default-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors {origin}"
        );
        let policy = HeaderValue::try_from(policy);
        // Without a policy it is nobody's to frame.
        if let Ok(policy) = policy {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
            headers.remove(header::X_FRAME_OPTIONS);
            let anyone = HeaderValue::from_static("cross-origin");
            headers.insert("cross-origin-resource-policy", anyone);
        }
        headers.insert(
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        );
        page
    }

    pub(super) fn page(&self, sheet: &Sheet, values: &Value) -> Page {
        let rendered = self
            .templates
            .get_template(sheet.template)
            .and_then(|template| template.render(values));
        let (status, body) = match rendered {
            Ok(body) => (sheet.status, Bytes::from(body)),
            Err(error) => {
                tracing::error!(template = sheet.template, %error, "a page cannot be shown");
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    Bytes::from_static(FALLBACK.as_bytes()),
                )
            }
        };
        let mut page = Response::new(body);
        *page.status_mut() = status;
        for (name, value) in GUARDS {
            page.headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        // A form sent from a page without a referrer has the origin `null`, which looks like a foreign site's.
        let (policy, referrer) = if sheet.has_form {
            (&self.form_policy, "same-origin")
        } else {
            (&self.plain_policy, "no-referrer")
        };
        let headers = page.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static(referrer));
        page
    }
}

impl Default for Pages {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

/// Which template, sent how.
pub(super) struct Sheet {
    pub(super) template: &'static str,
    pub(super) status: StatusCode,
    pub(super) has_form: bool,
}

/// What every page is sent with, besides the two that depend on whether it holds a form.
const GUARDS: [(HeaderName, &str); 7] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=()",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// Nothing may run or load; the one inline style is known by its hash.
fn content_security_policy(form_action: &str) -> HeaderValue {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, STYLE.as_bytes());
    let hash = STANDARD.encode(hash);
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action {form_action}; base-uri 'none'; frame-ancestors 'none'"
    );
    #[expect(clippy::expect_used, reason = "base64 and constants are visible ASCII")]
    HeaderValue::try_from(policy).expect("a policy in ASCII")
}

/// Escaping keeps an address inside its attribute but says nothing of where it leads: `javascript:` must not be a link,
/// nor `//host`, which looks like a path.
fn address(href: &str) -> &str {
    let is_path = href.starts_with('/') && !href.starts_with("//") && !href.starts_with("/\\");
    if is_path || href.starts_with("https://") {
        href
    } else {
        "/"
    }
}

fn retry_after(page: &mut Page, span: Duration) {
    page.headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from(span.as_secs()));
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::GoingRoundView;
    use super::*;

    const HOSTILE: &str = "\"><script>alert('1')</script>&{{ 7*7 }}";

    fn login_view() -> LoginView<'static> {
        LoginView {
            state: "c2VhbGVk",
            user: None,
            problem: None,
            host: "wiki.example.com",
            signed_in_as: None,
            passkey: None,
            remember: None,
        }
    }

    fn error_view(status: StatusCode) -> ErrorView<'static> {
        ErrorView {
            status,
            title: "The app does not answer",
            message: "wiki.example.com is there, but the app behind it is not running.",
            hint: Some("Try again in a minute."),
            request_id: "00c0ffee00c0ffee",
            action: Some(("Try again", "/")),
        }
    }

    fn going_round_view() -> GoingRoundView<'static> {
        GoingRoundView {
            host: "wiki.example.com",
            rounds: 3,
            cause: "Your browser does not send back the cookie of your session.",
            advice: "Allow cookies for this site.",
            again: &[("return_to", "/"), ("again", "yes")],
        }
    }

    fn every_page() -> Vec<(&'static str, Page)> {
        let pages = Pages::new();
        let failed = LoginView {
            user: Some("alice"),
            problem: Some(LoginProblem::WrongCredentials),
            ..login_view()
        };
        let again = LoginView {
            user: Some("alice"),
            signed_in_as: Some("alice"),
            passkey: None,
            remember: Some(false),
            ..login_view()
        };
        let signed_in = SignedInView {
            user: "alice",
            host: "wiki.example.com",
            continue_to: "/start?a=1&b=2",
            elsewhere: None,
            logout_action: "/.doorward/logout",
            sessions_url: "/.doorward/sessions",
            passkeys_url: Some("/.doorward/passkeys"),
            password_url: Some("/.doorward/password"),
            two_factor_url: Some("/.doorward/two-factor"),
            form_token: "dG9rZW4",
        };
        vec![
            ("login", pages.login(&login_view())),
            ("login_failed", pages.login(&failed)),
            ("login_again", pages.login(&again)),
            ("signed_in", pages.signed_in(&signed_in)),
            (
                "logout",
                pages.logout("/.doorward/logout", "dG9rZW4", "alice"),
            ),
            ("logged_out", pages.logged_out("/.doorward/login")),
            ("going_round", pages.going_round(&going_round_view())),
            ("error", pages.error(&error_view(StatusCode::BAD_GATEWAY))),
        ]
    }

    fn html(page: &Page) -> &str {
        std::str::from_utf8(page.body()).unwrap()
    }

    fn header<'a>(page: &'a Page, name: &str) -> &'a str {
        page.headers()[name].to_str().unwrap()
    }

    /// The start tag that holds this attribute.
    fn tag<'a>(html: &'a str, attribute: &str) -> &'a str {
        let mut tags = html.split('<').filter_map(|tag| tag.split_once('>'));
        let (tag, _) = tags.find(|(tag, _)| tag.contains(attribute)).unwrap();
        tag
    }

    #[test]
    fn hostile_values_stay_text() {
        let pages = Pages::new();
        let login = LoginView {
            state: HOSTILE,
            user: Some(HOSTILE),
            problem: None,
            host: HOSTILE,
            signed_in_as: Some(HOSTILE),
            passkey: None,
            remember: Some(true),
        };
        let signed_in = SignedInView {
            user: HOSTILE,
            host: HOSTILE,
            continue_to: "/\"><script>",
            elsewhere: Some(HOSTILE),
            logout_action: HOSTILE,
            sessions_url: HOSTILE,
            passkeys_url: Some("/.doorward/passkeys"),
            password_url: Some(HOSTILE),
            two_factor_url: Some(HOSTILE),
            form_token: HOSTILE,
        };
        let error = ErrorView {
            status: StatusCode::NOT_FOUND,
            title: HOSTILE,
            message: HOSTILE,
            hint: Some(HOSTILE),
            request_id: HOSTILE,
            action: Some((HOSTILE, "/\"><script>")),
        };
        let shown = [
            pages.login(&login),
            pages.signed_in(&signed_in),
            pages.logout(HOSTILE, HOSTILE, HOSTILE),
            pages.logged_out("/\"><script>"),
            pages.error(&error),
        ];
        for page in &shown {
            assert!(!html(page).contains("<script"), "{}", html(page));
            assert!(html(page).contains("&quot;&gt;&lt;script&gt;"));
            assert!(
                !html(page).contains("49"),
                "a value was taken for a template"
            );
        }
        let kept = "value=\"&quot;&gt;&lt;script&gt;alert(&#x27;1&#x27;)";
        assert_eq!(html(&shown[0]).matches(kept).count(), 2, "state and user");
    }

    #[test]
    fn a_link_leads_to_a_path_or_to_https_and_nowhere_else() {
        let pages = Pages::new();
        for (href, shown) in [
            ("javascript:alert(1)", "href=\"&#x2f;\""),
            ("//evil.example", "href=\"&#x2f;\""),
            ("/\\evil.example", "href=\"&#x2f;\""),
            ("http://evil.example/", "href=\"&#x2f;\""),
            ("", "href=\"&#x2f;\""),
            ("/a?b", "href=\"&#x2f;a?b\""),
            (
                "https://a.example/b",
                "href=\"https:&#x2f;&#x2f;a.example&#x2f;b\"",
            ),
        ] {
            let page = pages.logged_out(href);
            assert!(html(&page).contains(shown), "{href}: {}", html(&page));
        }
    }

    #[test]
    fn every_page_carries_the_headers_that_guard_it() {
        let lines: Vec<String> = every_page()
            .iter()
            .map(|(name, page)| {
                let mut lines: Vec<String> = page
                    .headers()
                    .iter()
                    .map(|(name, value)| format!("  {name}: {}", value.to_str().unwrap()))
                    .collect();
                lines.sort();
                let hash = base64_of_style(page);
                format!("{name}\n{}", lines.join("\n")).replace(&hash, "STYLE")
            })
            .collect();
        let common = |form_action: &str, referrer: &str| {
            format!(
                "  cache-control: no-store\n  \
                 content-security-policy: default-src 'none'; style-src 'sha256-STYLE'; form-action {form_action}; \
                 base-uri 'none'; frame-ancestors 'none'\n  \
                 content-type: text/html; charset=utf-8\n  \
                 cross-origin-opener-policy: same-origin\n  \
                 cross-origin-resource-policy: same-origin\n  \
                 permissions-policy: camera=(), geolocation=(), microphone=()\n  \
                 referrer-policy: {referrer}\n  \
                 x-content-type-options: nosniff\n  \
                 x-frame-options: DENY"
            )
        };
        let form = common("'self' https:", "same-origin");
        let plain = common("'none'", "no-referrer");
        let expected = [
            format!("login\n{form}"),
            format!("login_failed\n{form}"),
            format!("login_again\n{form}"),
            format!("signed_in\n{form}"),
            format!("logout\n{form}"),
            format!("logged_out\n{plain}"),
            format!("going_round\n{form}"),
            format!("error\n{plain}"),
        ];
        assert_eq!(lines, expected);
    }

    /// The hash of the style as a browser would take it: of what stands between the tags.
    fn base64_of_style(page: &Page) -> String {
        let (_, rest) = html(page).split_once("<style>").unwrap();
        let (style, _) = rest.split_once("</style>").unwrap();
        assert!(style.contains("--accent"));
        STANDARD.encode(aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA256,
            style.as_bytes(),
        ))
    }

    #[test]
    fn a_problem_decides_the_status_and_when_to_try_again() {
        let pages = Pages::new();
        for (problem, status, retry_after, text) in [
            (
                LoginProblem::WrongCredentials,
                401,
                None,
                "password is wrong",
            ),
            (LoginProblem::Expired, 400, None, "open for too long"),
            (LoginProblem::Overtaken, 409, None, "at the same moment"),
            (
                LoginProblem::TooMany { minutes: 15 },
                429,
                Some("900"),
                "Wait 15 minutes",
            ),
            (
                LoginProblem::TooMany { minutes: 0 },
                429,
                Some("60"),
                "Wait a minute",
            ),
            (LoginProblem::Busy, 503, Some("5"), "Many people"),
            (
                LoginProblem::TooManySessions { max: 1 },
                403,
                None,
                "only one login at a time",
            ),
            (
                LoginProblem::TooManySessions { max: 3 },
                403,
                None,
                "at 3 places already",
            ),
            (
                LoginProblem::Unavailable,
                503,
                Some("5"),
                "does not work at the moment",
            ),
        ] {
            let page = pages.login(&LoginView {
                problem: Some(problem),
                ..login_view()
            });
            assert_eq!(page.status().as_u16(), status, "{problem:?}");
            let told = page
                .headers()
                .get("retry-after")
                .map(|value| value.to_str().unwrap());
            assert_eq!(told, retry_after, "{problem:?}");
            assert!(
                page.headers().get("www-authenticate").is_none(),
                "no popup of the browser's own"
            );
            assert!(html(&page).contains(text), "{problem:?}");
            assert!(html(&page).contains("role=\"alert\""), "{problem:?}");
        }
        let page = pages.login(&login_view());
        assert_eq!(page.status(), StatusCode::OK);
        assert!(!html(&page).contains("role=\"alert\""));
    }

    #[test]
    fn the_login_form_says_what_its_fields_are() {
        let pages = Pages::new();
        let page = pages.login(&login_view());
        let html = html(&page);
        assert!(html.contains("<title>Log in · wiki.example.com</title>"));
        assert!(
            html.contains("<form method=\"post\">"),
            "the fragment would be lost"
        );
        assert!(tag(html, "name=\"state\"").contains("value=\"c2VhbGVk\""));
        assert!(html.contains("<label for=\"user\">") && html.contains("<label for=\"password\">"));
        let user = tag(html, "name=\"user\"");
        assert!(user.contains("type=\"text\"") && user.contains("autocomplete=\"username\""));
        assert!(
            user.contains(" autofocus") && !user.contains("aria-"),
            "{user}"
        );
        let password = tag(html, "name=\"password\"");
        assert!(
            password.contains("type=\"password\"")
                && password.contains("autocomplete=\"current-password\"")
        );
        assert!(
            !password.contains("autofocus") && !password.contains("value="),
            "{password}"
        );
    }

    #[test]
    fn after_a_wrong_password_only_the_password_is_asked_again() {
        let pages = Pages::new();
        let view = LoginView {
            user: Some("alice"),
            problem: Some(LoginProblem::WrongCredentials),
            ..login_view()
        };
        let page = pages.login(&view);
        let html = html(&page);
        assert!(html.contains("<title>Error: Log in · wiki.example.com</title>"));
        for name in ["name=\"user\"", "name=\"password\""] {
            let tag = tag(html, name);
            assert!(tag.contains("aria-invalid=\"true\""), "{tag}");
            assert!(tag.contains("aria-describedby=\"problem\""), "{tag}");
        }
        assert!(html.contains("id=\"problem\" role=\"alert\""));
        assert!(tag(html, "name=\"user\"").contains("value=\"alice\""));
        assert!(!tag(html, "name=\"user\"").contains("autofocus"));
        assert!(tag(html, "name=\"password\"").contains(" autofocus"));

        let busy = pages.login(&LoginView {
            problem: Some(LoginProblem::Busy),
            ..view
        });
        assert!(
            !self::html(&busy).contains(" aria-invalid"),
            "nothing that was typed is wrong"
        );
    }

    #[test]
    fn who_has_to_log_in_again_is_told_so_and_types_no_name() {
        let page = Pages::new().login(&LoginView {
            user: Some("alice"),
            signed_in_as: Some("alice"),
            ..login_view()
        });
        let html = html(&page);
        assert!(html.contains("<h1>Log in again</h1>"));
        assert!(html.contains("You are logged in as <strong>alice</strong>"));
        assert!(tag(html, "name=\"user\"").contains("value=\"alice\""));
        assert!(tag(html, "name=\"password\"").contains(" autofocus"));
    }

    #[test]
    fn being_remembered_is_a_choice_that_is_offered_and_kept() {
        let pages = Pages::new();
        let with = |remember| {
            let page = pages.login(&LoginView {
                remember,
                ..login_view()
            });
            html(&page).to_owned()
        };
        assert!(!with(None).contains("remember"));
        let offered = with(Some(false));
        let input = tag(&offered, "name=\"remember\"");
        assert!(input.contains("type=\"checkbox\"") && input.contains("value=\"yes\""));
        assert!(!input.contains(" checked"), "nobody is remembered unasked");
        assert!(offered.contains("<label for=\"remember\">"));
        let ticked = with(Some(true));
        assert!(tag(&ticked, "name=\"remember\"").contains(" checked"));
    }

    #[test]
    fn a_huge_user_name_is_not_repeated() {
        let huge = "a".repeat(MAX_KEPT_USER + 1);
        let page = Pages::new().login(&LoginView {
            user: Some(&huge),
            ..login_view()
        });
        assert!(!html(&page).contains("aaaa"));
        assert!(tag(html(&page), "name=\"user\"").contains(" autofocus"));
    }

    #[test]
    fn logging_out_takes_a_form_and_its_token() {
        for (name, page) in every_page() {
            for form in html(&page).split("<form").skip(1) {
                let (attributes, rest) = form.split_once('>').unwrap();
                let (fields, _) = rest.split_once("</form>").unwrap();
                let asks = attributes == " method=\"get\"" && !fields.contains("token");
                assert!(asks || attributes.contains(" method=\"post\""), "{name}");
            }
            if name == "logout" || name == "signed_in" {
                assert!(
                    html(&page).contains("action=\"&#x2f;.doorward&#x2f;logout\""),
                    "{name}"
                );
                assert!(
                    tag(html(&page), "name=\"token\"").contains("value=\"dG9rZW4\""),
                    "{name}"
                );
                assert!(
                    !html(&page).contains("href=\"&#x2f;.doorward&#x2f;logout\""),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn an_error_page_names_its_status_and_its_request() {
        let pages = Pages::new();
        for code in [
            400, 401, 403, 404, 405, 408, 413, 417, 421, 429, 431, 500, 502, 503, 504,
        ] {
            let status = StatusCode::from_u16(code).unwrap();
            let page = pages.error(&error_view(status));
            assert_eq!(page.status(), status);
            assert!(html(&page).contains(&format!(
                "<title>The app does not answer (error {code})</title>"
            )));
            assert!(html(&page).contains("<code>00c0ffee00c0ffee</code>"));
            assert!(html(&page).contains("Tell this to whoever runs this site."));
            assert_eq!(page.headers().contains_key("retry-after"), code == 503);
        }
        let bare = ErrorView {
            hint: None,
            action: None,
            ..error_view(StatusCode::NOT_FOUND)
        };
        let page = pages.error(&bare);
        assert!(!html(&page).contains("class=\"hint\"") && !html(&page).contains("href="));
    }

    #[test]
    fn every_page_is_small_and_whole_and_loads_nothing() {
        for (name, page) in every_page() {
            let html = html(&page);
            assert!(html.len() < 12 * 1024, "{name}: {} bytes", html.len());
            assert!(
                html.starts_with("<!doctype html>\n<html lang=\"en\">"),
                "{name}"
            );
            assert!(html.trim_end().ends_with("</html>"), "{name}");
            assert_eq!(html.matches("<h1>").count(), 1, "{name}");
            assert_eq!(html.matches("<main>").count(), 1, "{name}");
            assert_eq!(html.matches("<title>").count(), 1, "{name}");
            for foreign in [
                "://",
                "url(",
                "@import",
                "src=",
                "<link",
                "<script",
                "<img",
                "style=\"",
                "javascript:",
            ] {
                assert!(!html.contains(foreign), "{name} holds {foreign}");
            }
        }
    }

    #[test]
    fn a_template_that_fails_is_not_a_blank_page() {
        let page = Pages::new().page(
            &Sheet {
                template: "error.html",
                status: StatusCode::NOT_FOUND,
                has_form: false,
            },
            &context! {},
        );
        assert_eq!(page.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(html(&page), FALLBACK);
        assert_eq!(header(&page, "x-frame-options"), "DENY");
    }

    #[test]
    fn colours_can_be_told_apart_in_both_schemes() {
        let (light, dark) = STYLE
            .split_once("@media (prefers-color-scheme: dark)")
            .unwrap();
        let (light, dark) = (colours(light), colours(dark));
        assert_eq!(light.len(), dark.len(), "a colour is missing in one scheme");
        let text = [
            ("ink", "page"),
            ("ink", "card"),
            ("ink", "field"),
            ("muted", "card"),
            ("muted", "page"),
            ("on-accent", "accent"),
            ("on-accent", "accent-strong"),
            ("on-alarm", "alarm"),
            ("accent", "card"),
        ];
        let shapes = [
            ("focus", "card"),
            ("focus", "page"),
            ("edge", "card"),
            ("edge", "field"),
            ("edge", "page"),
            ("on-alarm", "field"),
            ("accent", "card"),
        ];
        for (scheme, colours) in [("light", light), ("dark", dark)] {
            for (pairs, least) in [(&text[..], 4.5), (&shapes[..], 3.0)] {
                for (front, back) in pairs {
                    let ratio = contrast(colours[*front], colours[*back]);
                    assert!(ratio >= least, "{scheme}: {front} on {back} is {ratio:.2}");
                }
            }
        }
    }

    #[test]
    fn the_measure_of_contrast_is_the_standard_one() {
        assert!((contrast([0; 3], [255; 3]) - 21.0).abs() < 0.01);
        assert!(
            (contrast([0x76; 3], [255; 3]) - 4.54).abs() < 0.01,
            "the known grey on white"
        );
    }

    fn colours(css: &str) -> HashMap<&str, [u8; 3]> {
        let lines = css
            .lines()
            .filter_map(|line| line.trim().strip_prefix("--")?.split_once(": #"));
        lines
            .map(|(name, value)| {
                let hex = u32::from_str_radix(value.strip_suffix(';').unwrap(), 16).unwrap();
                let [_, red, green, blue] = hex.to_be_bytes();
                (name, [red, green, blue])
            })
            .collect()
    }

    /// WCAG 2.2, "contrast ratio".
    fn contrast(one: [u8; 3], other: [u8; 3]) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    fn luminance(colour: [u8; 3]) -> f64 {
        let [red, green, blue] = colour.map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.040_45 {
                part / 12.92
            } else {
                ((part + 0.055) / 1.055).powf(2.4)
            }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }
}
