//! A form that came when its session had ended. It is kept, sealed, until the same person has logged in again in the same
//! browser and says that it is to be sent; nothing is sent by itself, and nothing twice.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use http::header::HeaderMap;
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::{Deserialize, Serialize};

use super::challenge::redirect;
use super::origin::says_same_origin;
use super::pages::Sheet;
use super::sign_out::{form_token, is_form_token};
use super::{Portal, PortalError, PortalRequest, form, login_url, place};
use crate::clock::Timestamp;
use crate::login::Browser;
use crate::secret::random;
use crate::session::{DataError, Found, LiveSession, POST_WAITS};
use crate::wire::{ClientBody, Page};

/// The page that asks what is to become of a form.
pub(super) const PLACE: &str = "kept";

/// Its path.
pub const KEPT: &str = "/.doorward/kept";

/// The parameter with which a form comes back to where it was sent.
const PARAMETER: &str = "doorward-kept=";

/// A form as it came.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct KeptPost {
    id: [u8; 16],
    /// The mark of its sender in their browser.
    sender: [u8; 8],
    came: Timestamp,
    /// Host and port, path and query, as the client wrote them.
    pub authority: String,
    pub target: String,
    pub content_type: Vec<u8>,
    pub content: Vec<u8>,
}

impl KeptPost {
    fn read(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    pub fn write(&self) -> Option<Vec<u8>> {
        postcard::to_stdvec(self).ok()
    }

    /// Where it is to be sent, with what says that it is this one.
    fn action(&self) -> String {
        let gap = if self.target.contains('?') { '&' } else { '?' };
        format!("{}{gap}{PARAMETER}{}", self.target, self.name())
    }

    fn name(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.id)
    }

    fn is_for(&self, request: &PortalRequest<'_>, target: &str) -> bool {
        self.target == target && self.authority == request.authority
    }

    fn is_old(&self, now: Timestamp) -> bool {
        now.since(self.came) >= POST_WAITS
    }

    fn shown(&self, now: Timestamp) -> Shown<'_> {
        let (path, _) = self.target.split_once('?').unwrap_or((&self.target, ""));
        Shown {
            host: &self.authority,
            path,
            minutes: now.since(self.came).as_secs() / 60,
            bytes: self.content.len(),
            action: self.action(),
            name: self.name(),
        }
    }
}

/// What is shown of a form.
#[derive(Serialize)]
struct Shown<'a> {
    host: &'a str,
    path: &'a str,
    minutes: u64,
    bytes: usize,
    action: String,
    name: String,
}

/// Who sends a form, if it is one that may be kept: a browser in which somebody has logged in before, and a page of the same
/// origin. Whoever was never here leaves nothing (R8), and no other site has its forms sent after a login.
#[derive(Debug)]
pub struct Sender {
    browser: Browser,
}

/// Why a form is not sent. It is gone then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotSent {
    /// It was sent already, or thrown away, or never kept.
    Nothing,
    /// Its sender was somebody else.
    Foreign,
    Old,
}

/// Whether a request says that a form that was kept is to be sent in its place; and what it asked for at first.
pub fn wanted(path_and_query: &str) -> Option<(&str, [u8; 16])> {
    let (before, id) = path_and_query.rsplit_once(PARAMETER)?;
    let before = before.strip_suffix(['?', '&'])?;
    let id = URL_SAFE_NO_PAD.decode(id).ok()?;
    Some((before, id.try_into().ok()?))
}

impl Portal {
    /// `None`: nothing of this request is kept.
    pub fn sender(&self, headers: &HeaderMap, authority: &str) -> Option<Sender> {
        let Found::One(cookie) = self.browser_cookie.find(headers) else {
            return None;
        };
        let browser = Browser::parse(&self.keyring, cookie)?;
        browser.last()?;
        says_same_origin(headers, authority).then_some(Sender { browser })
    }

    /// A form that is to be kept. `session` is there, but not good enough for what was asked.
    pub fn to_keep(
        &self,
        sender: &Sender,
        session: Option<&LiveSession>,
        (authority, target): (&str, &str),
        (content_type, content): (&[u8], &[u8]),
    ) -> Option<KeptPost> {
        let identity = session.and_then(LiveSession::identity);
        let mark = match identity {
            Some(identity) => sender.browser.mark_of(&self.keyring, &identity.subject),
            None => sender.browser.last(),
        };
        Some(KeptPost {
            id: random(),
            sender: mark?,
            came: self.sessions.clock().now(),
            authority: authority.to_owned(),
            target: target.to_owned(),
            content_type: content_type.to_owned(),
            content: content.to_owned(),
        })
    }

    /// Keeps a form in a session that there is. Of those that wait there, what is too old makes room.
    pub async fn keep(&self, session: &LiveSession, post: &[u8]) -> Result<(), DataError> {
        let now = self.sessions.clock().now();
        let over = move |bytes: &[u8]| KeptPost::read(bytes).is_none_or(|post| post.is_old(now));
        self.sessions.keep_post(session, post, over).await
    }

    /// Asks what is to become of the forms.
    pub(super) async fn show_kept(&self, request: &PortalRequest<'_>) -> Result<Page, PortalError> {
        let Some(session) = logged_in(request) else {
            return Ok(redirect(&login_url(&place(PLACE))));
        };
        let all = self.sessions.kept_posts(session);
        let posts = all.iter().filter_map(|post| KeptPost::read(post));
        // Those of other hosts are judged there, where their sender's browser is known, and sent to no other app.
        let mut posts: Vec<_> = posts
            .filter(|post| post.authority == request.authority)
            .collect();
        let mut misfit = NotSent::Nothing;
        let mut thrown = Vec::new();
        posts.retain(|post| match self.judge_kept(request, session, post) {
            Ok(()) => true,
            Err(why) => {
                misfit = why;
                thrown.push(post.id);
                false
            }
        });
        if !thrown.is_empty() {
            self.drop_kept(session, thrown).await?;
        }
        if posts.is_empty() {
            return Err(PortalError::NotSent(misfit));
        }
        posts.sort_by_key(|post| post.came);
        let now = self.sessions.clock().now();
        let shown: Vec<_> = posts.iter().map(|post| post.shown(now)).collect();
        Ok(self.pages.page(
            &Sheet {
                template: "kept.html",
                status: StatusCode::OK,
                has_form: true,
            },
            &context! {
                host => request.host,
                posts => Value::from(Serde(&shown)),
                are_several => shown.len() > 1,
                discard => place(PLACE),
                form_token => form_token(&self.keyring, session),
            },
        ))
    }

    /// Throws a form away.
    pub(super) async fn discard_kept(
        &self,
        request: &PortalRequest<'_>,
        body: ClientBody,
    ) -> Result<Page, PortalError> {
        self.demand_same_origin(request)?;
        let Some(session) = logged_in(request) else {
            return Ok(redirect(&login_url(&place(PLACE))));
        };
        let form = form::read(body).await?;
        let field = |name: &str| form.get(name).map_or("", |value| value.as_str());
        if !is_form_token(&self.keyring, session, field("token")) {
            return Err(PortalError::CrossSite);
        }
        let id = URL_SAFE_NO_PAD.decode(field("form")).unwrap_or_default();
        let id = id.try_into();
        let id = id.map_err(|_| PortalError::NotSent(NotSent::Nothing))?;
        self.drop_kept(session, vec![id]).await?;
        Ok(if self.sessions.kept_posts(session).is_empty() {
            redirect("/")
        } else {
            redirect(&place(PLACE))
        })
    }

    /// What says that a form is to be sent comes from our own page.
    pub async fn demand_own_form(
        &self,
        request: &PortalRequest<'_>,
        session: &LiveSession,
        body: ClientBody,
    ) -> Result<(), PortalError> {
        self.demand_same_origin(request)?;
        let form = form::read(body).await?;
        let token = form.get("token").map_or("", |value| value.as_str());
        if is_form_token(&self.keyring, session, token) {
            Ok(())
        } else {
            Err(PortalError::CrossSite)
        }
    }

    /// Whether a form waits that can be sent, as far as this node knows.
    pub fn knows_kept(
        &self,
        request: &PortalRequest<'_>,
        session: &LiveSession,
        (target, id): (&str, [u8; 16]),
    ) -> bool {
        let posts = self.sessions.kept_posts(session);
        let mut posts = posts.iter().filter_map(|post| KeptPost::read(post));
        posts.any(|post| {
            post.id == id
                && post.is_for(request, target)
                && self.judge_kept(request, session, &post).is_ok()
        })
    }

    /// Takes out a form that is to be sent now. Whoever comes second finds nothing.
    pub async fn take_kept(
        &self,
        request: &PortalRequest<'_>,
        session: &LiveSession,
        (target, id): (&str, [u8; 16]),
    ) -> Result<KeptPost, PortalError> {
        let is_it = move |bytes: &[u8]| KeptPost::read(bytes).is_some_and(|post| post.id == id);
        let found = self.sessions.take_posts(session, is_it).await;
        let found = found.map_err(|error| PortalError::Store(error.to_string()))?;
        let post = found.first().and_then(|post| KeptPost::read(post));
        let post = post.filter(|post| post.is_for(request, target));
        let post = post.ok_or(PortalError::NotSent(NotSent::Nothing))?;
        let judged = self.judge_kept(request, session, &post);
        judged.map_err(PortalError::NotSent)?;
        Ok(post)
    }

    async fn drop_kept(
        &self,
        session: &LiveSession,
        ids: Vec<[u8; 16]>,
    ) -> Result<(), PortalError> {
        let is_one =
            move |bytes: &[u8]| KeptPost::read(bytes).is_some_and(|post| ids.contains(&post.id));
        let dropped = self.sessions.take_posts(session, is_one).await;
        dropped.map_err(|error| PortalError::Store(error.to_string()))?;
        Ok(())
    }

    /// A form is its sender's, for a while.
    fn judge_kept(
        &self,
        request: &PortalRequest<'_>,
        session: &LiveSession,
        post: &KeptPost,
    ) -> Result<(), NotSent> {
        let browser = self.browser(request);
        let is_theirs = browser
            .zip(session.identity())
            .is_some_and(|(browser, identity)| {
                browser.is_mark_of(post.sender, &self.keyring, &identity.subject)
            });
        if !is_theirs {
            return Err(NotSent::Foreign);
        }
        if post.is_old(self.sessions.clock().now()) {
            return Err(NotSent::Old);
        }
        Ok(())
    }
}

fn logged_in<'a>(request: &'a PortalRequest<'_>) -> Option<&'a LiveSession> {
    request
        .session
        .filter(|session| session.identity().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_comes_back_to_where_it_was_sent() {
        for target in ["/", "/save", "/save?page=1&x=", "/a?doorward-kept=x"] {
            let post = KeptPost {
                id: [7; 16],
                sender: [0; 8],
                came: Timestamp::from_millis(0),
                authority: "a.example".to_owned(),
                target: target.to_owned(),
                content_type: Vec::new(),
                content: Vec::new(),
            };
            assert_eq!(wanted(&post.action()), Some((target, [7; 16])));
        }
        for other in [
            "/",
            "/save?doorward-kept=",
            "/save?doorward-kept=AAAA",
            "/savedoorward-kept=BwcHBwcHBwcHBwcHBwcHBw",
            "/save?doorward-kept=BwcHBwcHBwcHBwcHBwcHBw&x=1",
            "/save?doorward-kept=BwcHBwcHBwcHBwcHBwcHBw==",
            "/save?doorward-kept=\u{ff}",
        ] {
            assert_eq!(wanted(other), None, "{other}");
        }
    }
}
