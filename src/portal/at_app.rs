//! Logging in at an app's own page: sends the browser there, and judges what the app says of who has logged in. The login on
//! its way is sealed in a cookie, bound to the browser (R12).

use std::fmt;

use http::Method;
use http::header::{HeaderValue, SET_COOKIE};

use super::admission::Admission;
use super::away::{BROWSER_MAX_AGE, Errand, MAX_AGE, is_visit};
use super::challenge::redirect;
use super::origin::{is_from_here, says_same_origin};
use super::stranded::Cause;
use super::{
    LOGIN_PROMPT, Means, Portal, PortalError, PortalRequest, Provider, ReturnTo, login_url,
    provider_hint,
};
use crate::clock::Timestamp;
use crate::identity::{Identity, Subject};
use crate::login::{ExternalSettings, Opening, PendingLogin};
use crate::routing::split_authority;
use crate::session::{Found, Issued, LoginError, Texts, TextsError, read_texts};
use crate::telemetry::AuditEvent;
use crate::wire::Page;

/// The longest statement that is looked at, in bytes.
const MAX_STATEMENT: usize = 4096;
/// The longest name of a user or a group, in characters.
const MAX_NAME: usize = 256;
const MAX_GROUPS: usize = 256;

/// What an app says of somebody whom it has logged in.
#[derive(Clone, Copy)]
pub struct Vouched<'a> {
    /// Whose users they are: the route's.
    pub provider: &'a str,
    /// When the request came that the app answers.
    pub asked: Timestamp,
    /// The request's own.
    pub method: &'a Method,
    /// A person looks at the answer, and may be sent elsewhere.
    pub is_page: bool,
    /// The values of `Doorward-Login`, line by line.
    pub statement: &'a [HeaderValue],
}

/// A login at an app that counts.
#[derive(Debug)]
pub struct LetIn {
    pub issued: Issued,
    /// `Set-Cookie`, beside the session's own.
    pub cookies: Vec<HeaderValue>,
    /// Where the person is led to; `None`: wherever the app's answer leads.
    pub target: Option<ReturnTo>,
}

impl fmt::Debug for Vouched<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vouched")
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}

/// Why a statement says nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
enum Flaw {
    #[error("the app says it on {0} lines")]
    Lines(usize),
    #[error("it is longer than {MAX_STATEMENT} bytes")]
    Long,
    #[error(transparent)]
    Malformed(#[from] TextsError),
    #[error("{0} is missing, empty, too long or holds control characters")]
    Unfit(&'static str),
    #[error("it has a key that nobody knows: {0}")]
    Unknown(String),
}

impl Portal {
    /// The way there. Where the page is on another host than the one that was asked, it leads over that host's own login
    /// page, so that what belongs to the browser is known there.
    pub(super) fn send_to_app(
        &self,
        request: &PortalRequest<'_>,
        (provider, page): (&Provider, &ExternalSettings),
        (return_to, anew): (&str, bool),
    ) -> Result<Page, PortalError> {
        if !is_visit(request.headers) {
            let cause = Cause::Malformed("it was not opened as a page");
            let errand = Errand::to(return_to, anew);
            return Err(self.stranded(request, &provider.id, (cause, errand)));
        }
        let authority = request.authority.to_ascii_lowercase();
        let (host, port) = split_authority(&authority).ok_or(PortalError::NotFound)?;
        if let Some((there, port)) = page.other_host(host, port) {
            let back = if return_to.starts_with('/') {
                format!("https://{authority}{return_to}")
            } else {
                return_to.to_owned()
            };
            let port = port.map_or(String::new(), |port| format!(":{port}"));
            let prompt = if anew { LOGIN_PROMPT } else { "" };
            let hint = provider_hint(&provider.id);
            let login = login_url(&back);
            return Ok(redirect(&format!(
                "https://{there}{port}{login}{hint}{prompt}"
            )));
        }
        let known = self.browser(request);
        let is_new = known.is_none();
        let browser = known.unwrap_or_default();
        let now = self.sessions.clock().now();
        let pending = PendingLogin::begin(provider.id.clone(), return_to.to_owned(), (anew, now));
        let sealed = pending.seal(&self.keyring, &browser);
        let mut away = redirect(&page.page_for(return_to));
        let headers = away.headers_mut();
        let cookie = self.pending_cookie.set_cookie(&sealed, Some(MAX_AGE));
        headers.append(SET_COOKIE, cookie);
        if is_new {
            headers.append(SET_COOKIE, self.browser_cookie(&browser, BROWSER_MAX_AGE));
        }
        Ok(away)
    }

    /// Believes an app on a route that may log people in. It is believed in answer to a page of the same site alone, or of
    /// a login that began in this browser: or else any site could log people in as somebody whom it knows.
    pub async fn let_in_from_app(
        &self,
        request: &PortalRequest<'_>,
        vouched: &Vouched<'_>,
    ) -> Result<LetIn, PortalError> {
        let id = vouched.provider;
        let provider = self.provider(id).ok_or(PortalError::NotFound)?;
        let Means::AtApp(page) = &provider.means else {
            return Err(PortalError::NotFound);
        };
        let pending = self.pending_at_app(request, id);
        let is_begun = pending.is_some();
        let from = (request.headers, request.authority);
        let is_own = is_from_here(vouched.method, from.0, from.1)
            && (is_begun || says_same_origin(from.0, from.1));
        if !is_own {
            let (place, address) = (request.place.to_owned(), request.client);
            self.audit
                .record(&AuditEvent::CrossSiteRefused { place, address });
            return Err(PortalError::CrossSite);
        }
        let return_to = pending.as_ref().map_or("/", |pending| &pending.return_to);
        let errand = Errand::to(return_to, false);
        let stranded = |cause| self.stranded(request, id, (cause, errand));
        let identity = identity(id, vouched.statement);
        let identity = identity.map_err(|flaw| stranded(Cause::Unbelievable(flaw.to_string())))?;
        let epoch = self.sessions.epoch_since(&identity.subject, vouched.asked);
        let epoch = epoch.await;
        let epoch = epoch.map_err(|error| PortalError::Store(error.to_string()))?;
        let subject = identity.subject.clone();
        let admission = Admission {
            epoch: epoch.ok_or_else(|| stranded(Cause::Overtaken))?,
            identity,
            // The app does not say.
            amr: Vec::new(),
            proved: None,
            federated: None,
            remember: false,
        };
        let issued = match self.admit(request, admission).await {
            Ok(issued) => issued,
            Err(LoginError::Full { max }) => return Err(stranded(Cause::Full { max })),
            Err(LoginError::Overtaken) => return Err(stranded(Cause::Overtaken)),
            Err(LoginError::Store(error)) => return Err(PortalError::Store(error.to_string())),
        };
        let is_led = vouched.is_page && page.return_parameter.is_none();
        let target = pending.filter(|_| is_led).map(|pending| {
            // Judged again: hosts may have gone since.
            ReturnTo::parse(&pending.return_to, request.serves).unwrap_or_default()
        });
        Ok(LetIn {
            issued,
            cookies: self.cookies_of_entry(request, &subject),
            target,
        })
    }

    fn cookies_of_entry(&self, request: &PortalRequest<'_>, subject: &Subject) -> Vec<HeaderValue> {
        let mut browser = self.browser(request).unwrap_or_default();
        browser.came_in(&self.keyring, subject, self.sessions.clock().now());
        let mut cookies = vec![self.known_browser_cookie(&browser)];
        cookies.extend(self.sessions.forget_ticket());
        if !matches!(self.pending_cookie.find(request.headers), Found::None) {
            cookies.push(self.pending_cookie.clear());
        }
        cookies
    }

    /// The login that began in this browser, at this provider's page, and is not too old.
    fn pending_at_app(&self, request: &PortalRequest<'_>, id: &str) -> Option<PendingLogin> {
        let Found::One(sealed) = self.pending_cookie.find(request.headers) else {
            return None;
        };
        let browser = self.browser(request)?;
        let opening = Opening {
            browser: &browser,
            now: self.sessions.clock().now(),
            max_age: MAX_AGE,
        };
        let sealed = std::str::from_utf8(sealed).ok()?;
        let pending = PendingLogin::open(sealed, &self.keyring, &opening).ok()?;
        (pending.provider == id).then_some(pending)
    }
}

/// Who the app says it is: `user="alice", name="Alice A.", email="alice@example.org", groups=("staff" "editors")`.
fn identity(provider: &str, statement: &[HeaderValue]) -> Result<Identity, Flaw> {
    let [line] = statement else {
        return Err(Flaw::Lines(statement.len()));
    };
    if line.len() > MAX_STATEMENT {
        return Err(Flaw::Long);
    }
    let (mut user, mut name, mut email, mut groups) = (None, None, None, Vec::new());
    for (key, texts) in read_texts(line.as_bytes())? {
        match (key.as_str(), texts) {
            ("user", Texts::One(text)) => user = Some(fit("user", text)?),
            ("name", Texts::One(text)) => name = Some(fit("name", text)?),
            ("email", Texts::One(text)) => email = Some(fit("email", text)?),
            ("groups", Texts::Several(all)) if all.len() <= MAX_GROUPS => {
                let all = all.into_iter().map(|group| fit("groups", group));
                groups = all.collect::<Result<_, Flaw>>()?;
            }
            ("user", _) => return Err(Flaw::Unfit("user")),
            ("name", _) => return Err(Flaw::Unfit("name")),
            ("email", _) => return Err(Flaw::Unfit("email")),
            ("groups", _) => return Err(Flaw::Unfit("groups")),
            (other, _) => return Err(Flaw::Unknown(other.to_owned())),
        }
    }
    let user = user.ok_or(Flaw::Unfit("user"))?;
    let subject = Subject {
        provider: provider.to_owned(),
        id: user.clone(),
    };
    Ok(Identity {
        subject,
        user,
        name,
        email,
        groups,
    })
}

/// Something that is no other name to a reader who trims it.
fn fit(key: &'static str, text: String) -> Result<String, Flaw> {
    let is_fit = !text.is_empty()
        && text.chars().count() <= MAX_NAME
        && text.trim() == text
        && !text.contains(char::is_control);
    if is_fit {
        Ok(text)
    } else {
        Err(Flaw::Unfit(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &[u8]) -> Result<Identity, Flaw> {
        identity("wiki", &[HeaderValue::from_bytes(line).unwrap()])
    }

    #[test]
    fn an_app_says_who_it_is() {
        let alice = said(b"user=\"alice\", name=%\"Alice %c3%9c.\", email=\"a@example.org\", groups=(\"staff\" editors)");
        let alice = alice.unwrap();
        assert_eq!(alice.subject.to_string(), "wiki:alice");
        assert_eq!(alice.user, "alice");
        assert_eq!(alice.name.as_deref(), Some("Alice \u{dc}."));
        assert_eq!(alice.email.as_deref(), Some("a@example.org"));
        assert_eq!(alice.groups, ["staff", "editors"]);
        let bob = said(b"user=bob").unwrap();
        assert_eq!(
            (bob.user.as_str(), bob.name, bob.groups.len()),
            ("bob", None, 0)
        );
        assert_eq!(said(b"user=a, groups=()").unwrap().groups, [""; 0]);
    }

    #[test]
    fn whatever_is_unclear_says_nothing() {
        let long = format!("user=\"{}\"", "x".repeat(MAX_NAME + 1));
        let huge = format!("user=a, groups=({})", "b ".repeat(MAX_STATEMENT / 2));
        let many = format!(
            "user=a, groups=({})",
            "b ".repeat(MAX_GROUPS + 1).trim_end()
        );
        for line in [
            &b""[..],
            b"alice",
            b"\"alice\"",
            b"user",
            b"user=",
            b"user=\"\"",
            b"user=\" alice\"",
            b"user=\"alice \"",
            b"user=%\"alice%0a\"",
            b"user=%\"alice%00\"",
            b"user=%\"%c2%a0alice\"",
            b"user=\"al\xc3\xbcce\"",
            b"user=alice, user=admin",
            b"user=alice, role=admin",
            b"user=(alice)",
            b"user=alice, groups=staff",
            b"user=alice, groups=(\"\")",
            b"user=alice, name=\"\"",
            b"user=alice, email=(a b)",
            b"user=alice, name=(a)",
            b"user=alice;admin",
            b"user=1",
            b"name=alice",
            b"User=alice",
            b"user=alice,",
            b"user=alice; path=/",
            long.as_bytes(),
            huge.as_bytes(),
            many.as_bytes(),
        ] {
            assert!(said(line).is_err(), "{}", line.escape_ascii());
        }
        let line = HeaderValue::from_static("user=alice");
        assert_eq!(identity("wiki", &[]), Err(Flaw::Lines(0)));
        assert_eq!(identity("wiki", &[line.clone(), line]), Err(Flaw::Lines(2)));
    }
}
