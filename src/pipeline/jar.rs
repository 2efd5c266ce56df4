//! An app's cookies, where its route keeps them in the session: put into a request in place of the browser's, and taken out of
//! the response, which goes on only once they are stored (R6).

use http::header::{COOKIE, HOST, HeaderMap, HeaderValue, SET_COOKIE};
use http::request::Parts;

use super::gate::Passed;
use super::visit::Visit;
use super::{Refusal, Shared};
use crate::routing::{CookieJar, Route};
use crate::session::{Filling, JarLimits, LiveSession, Spot, is_ours};

const FORGET: &[u8] = b"=; Path=/; Max-Age=0; Secure; HttpOnly";

/// What comes and goes with one request.
pub(super) struct Basket<'a> {
    route: &'a Route,
    jar: &'a CookieJar,
    /// `None`: nothing is kept, and the browser gets nothing either.
    session: Option<&'a LiveSession>,
    /// Who is about to log in at the app has its cookies until then, since there is no session that could.
    is_open: bool,
    /// Cookies that the app has known so far by way of the browser.
    shown: Option<HeaderValue>,
    /// As the app sees it.
    spot: Spot,
}

impl<'a> Basket<'a> {
    /// Of a request as it goes to its app. `None`: the browser has the app's cookies.
    pub(super) fn of(parts: &Parts, route: &'a Route, passed: &'a Passed) -> Option<Self> {
        let jar = route.cookie_jar.as_ref()?;
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let spot = Spot {
            host: without_port(host.unwrap_or_default()).to_ascii_lowercase(),
            path: parts.uri.path().to_owned(),
        };
        Some(Self {
            route,
            jar,
            session: passed.session(),
            is_open: route.may_log_in.is_some() && passed.session().is_none(),
            shown: None,
            spot,
        })
    }

    /// What is kept goes into a session that has begun meanwhile, if any: what the app set with this answer, and what it was
    /// `shown`, which it goes on with.
    pub(super) fn within(
        self,
        session: Option<&'a LiveSession>,
        shown: Option<HeaderValue>,
    ) -> Self {
        let Some(session) = session else {
            return self;
        };
        let is_same = self
            .session
            .is_some_and(|before| before.sid() == session.sid());
        Self {
            session: Some(session),
            is_open: false,
            shown: shown.filter(|_| !is_same),
            ..self
        }
    }

    /// What the browser sends does not reach the app, but for what the route lets pass.
    pub(super) fn fill_request(&self, headers: &mut HeaderMap, shared: &Shared) {
        if self.is_open {
            return;
        }
        let fields = headers.get_all(COOKIE).into_iter();
        let pairs = fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b';'));
        let passing = pairs
            .map(<[u8]>::trim_ascii)
            .filter(|pair| self.passes(pair));
        let mut cookies: Vec<u8> = passing.collect::<Vec<_>>().join(&b"; "[..]);
        let kept = self.session.and_then(|session| {
            let sessions = &shared.sessions;
            sessions.jar_cookies(session, &self.jar.name, &self.spot)
        });
        if let Some(kept) = kept {
            let gap: &[u8] = if cookies.is_empty() { b"" } else { b"; " };
            cookies = [kept.as_bytes(), gap, &cookies].concat();
        }
        headers.remove(COOKIE);
        if let (false, Ok(mut value)) = (cookies.is_empty(), HeaderValue::try_from(cookies)) {
            value.set_sensitive(true);
            headers.insert(COOKIE, value);
        }
    }

    /// The cookies that the browser has had so far, as the app would set them now. The browser is told to forget them, as far
    /// as that can be told without their paths.
    fn taken_over(&self, headers: &mut HeaderMap, set: &[HeaderValue]) -> Vec<HeaderValue> {
        let Some(shown) = &self.shown else {
            return Vec::new();
        };
        let pairs = shown.as_bytes().split(|&byte| byte == b';');
        let pairs = pairs.map(<[u8]>::trim_ascii);
        let mut lines = Vec::new();
        for pair in pairs.filter(|pair| pair.contains(&b'=') && !self.passes(pair)) {
            let name = name_of(pair);
            let line = HeaderValue::try_from([pair, b"; Path=/"].concat());
            let gone = HeaderValue::try_from([name, FORGET].concat());
            if let (Ok(line), Ok(gone)) = (line, gone) {
                // What the app sets anew with it has its place already.
                if !set.iter().any(|set| name_of(set.as_bytes()) == name) {
                    lines.push(line);
                }
                headers.append(SET_COOKIE, gone);
            }
        }
        lines
    }

    /// Of a `Set-Cookie`, or of one pair of a `Cookie`.
    fn passes(&self, cookie: &[u8]) -> bool {
        let name = name_of(cookie);
        self.jar
            .pass
            .iter()
            .any(|passing| passing.as_bytes() == name)
    }
}

impl Visit {
    /// Keeps what an app sets. It names none of our own cookies, in whatever place.
    pub(super) async fn empty_into(
        &self,
        basket: Basket<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), Refusal> {
        if basket.is_open || (!headers.contains_key(SET_COOKIE) && basket.shown.is_none()) {
            return Ok(());
        }
        let shared = &*self.pipeline.shared;
        let all = headers.get_all(SET_COOKIE).into_iter().cloned();
        let (passing, lines): (Vec<_>, Vec<_>) =
            all.partition(|cookie| basket.passes(cookie.as_bytes()));
        headers.remove(SET_COOKIE);
        for cookie in passing {
            headers.append(SET_COOKIE, cookie);
        }
        let shown = basket.taken_over(headers, &lines);
        let lines: Vec<HeaderValue> = shown
            .into_iter()
            .chain(lines)
            .filter(|cookie| !is_ours(cookie.as_bytes(), &shared.cookie_names))
            .collect();
        let (Some(session), false) = (basket.session, lines.is_empty()) else {
            return Ok(());
        };
        let Basket {
            route, jar, spot, ..
        } = basket;
        let limits = JarLimits {
            max_cookies: jar.max_cookies,
            max_bytes: jar.max_bytes,
        };
        let filling = Filling {
            jar: jar.name.clone(),
            lines,
            spot,
            limits,
        };
        let filled = shared.sessions.fill_jar(session, filling).await;
        let left_out = filled.map_err(|error| Refusal::Store(error.to_string()))?;
        if left_out > 0 {
            tracing::warn!(
                route = route.id,
                left_out,
                "cookies of an app cannot be kept: malformed, too long, or for another host"
            );
        }
        Ok(())
    }
}

/// Of a `Set-Cookie`, or of one pair of a `Cookie`.
fn name_of(cookie: &[u8]) -> &[u8] {
    let name = cookie.split(|&byte| matches!(byte, b'=' | b';')).next();
    name.unwrap_or_default().trim_ascii()
}

pub(super) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}
