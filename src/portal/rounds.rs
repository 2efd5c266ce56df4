//! Stops logins that go round in circles: they work, and the browser comes back for another all the same. What has been
//! counted travels in the cookie that recognises the browser, so nothing is kept here; a browser that drops that one too
//! cannot log in at all, and is told so.

use http::StatusCode;
use minijinja::value::Serde;
use minijinja::{Value, context};

use super::pages::Sheet;
use super::{Pages, Portal, PortalRequest, ReturnTo};
use crate::login::Browser;
use crate::session::Found;
use crate::wire::Page;

/// Of the form that goes on nevertheless, beside `return_to`.
pub(super) const AGAIN: &str = "again";

/// What is most likely behind it, as far as the browser's next request shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cause {
    /// There is a session, and its login counts as too old at once.
    Clock,
    /// The session's cookie does not come back.
    Dropped,
    /// The cookie comes back, and nobody knows the session.
    Forgotten,
    /// The page to come back to is on a host that the cookie is not for.
    Host,
    /// Several cookies of the name come.
    Tossed,
}

/// What [`Pages::going_round`] shows.
#[derive(Clone, Copy, Debug)]
pub struct GoingRoundView<'a> {
    pub host: &'a str,
    pub rounds: u8,
    /// What is likely behind it, and what the reader may do about it: whole sentences.
    pub cause: &'a str,
    pub advice: &'a str,
    /// What is asked of the login page to try once more, by way of this page's own address: names and values.
    pub again: &'a [(&'a str, &'a str)],
}

impl Pages {
    /// In place of one more login that would lead nowhere.
    pub fn going_round(&self, view: &GoingRoundView<'_>) -> Page {
        self.page(
            &Sheet {
                template: "going_round.html",
                status: StatusCode::BAD_REQUEST,
                has_form: true,
            },
            &context! {
                host => view.host,
                rounds => view.rounds,
                cause => view.cause,
                advice => view.advice,
                again => Value::from(Serde(view.again)),
            },
        )
    }
}

impl Portal {
    /// The page that is shown in place of the login, where enough logins have led nowhere.
    pub(super) fn stop_going_round(
        &self,
        request: &PortalRequest<'_>,
        return_to: &ReturnTo,
    ) -> Option<Page> {
        let browser = self.browser(request)?;
        let goes_round = browser.goes_round(self.sessions.clock().now());
        // Whoever opens the login page itself does so on purpose.
        let was_sent = request.parameter("return_to").is_some();
        if !goes_round || !was_sent || request.parameter(AGAIN).is_some() {
            return None;
        }
        let cause = self.cause(request, return_to);
        tracing::warn!(host = request.host, ?cause, "logins go round in circles");
        let (told, advice) = cause.text();
        let provider = request.parameter("provider");
        let mut again = vec![("return_to", return_to.as_str()), (AGAIN, "yes")];
        again.extend(provider.as_deref().map(|id| ("provider", id)));
        if request.session.is_some() {
            again.push(("prompt", "login"));
        }
        Some(self.pages.going_round(&GoingRoundView {
            host: request.host,
            rounds: Browser::MAX_ROUNDS,
            cause: told,
            advice,
            again: &again,
        }))
    }

    /// Another host that a login here leads to and does not count on: the cookie of the session stays on this one.
    pub(super) fn out_of_reach<'a>(
        &self,
        request: &PortalRequest<'_>,
        return_to: &'a ReturnTo,
    ) -> Option<&'a str> {
        let there = return_to.host().filter(|there| *there != request.host)?;
        let cookie = &self.sessions.settings().cookie;
        cookie.domain().is_none().then_some(there)
    }

    fn cause(&self, request: &PortalRequest<'_>, return_to: &ReturnTo) -> Cause {
        let cookie = &self.sessions.settings().cookie;
        match cookie.find(request.headers) {
            Found::Several(_) => Cause::Tossed,
            // Without a session here, what is wrong is wrong here.
            Found::One(_) if request.session.is_none() => Cause::Forgotten,
            Found::One(_) if self.out_of_reach(request, return_to).is_some() => Cause::Host,
            Found::One(_) => Cause::Clock,
            Found::None => Cause::Dropped,
        }
    }
}

impl Cause {
    /// What is wrong, and what somebody may do about it.
    const fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::Clock => (
                "The site takes a login of a moment ago for an old one: most likely the clocks of its machines differ.",
                "Tell whoever runs this site: the clocks of its machines have to agree.",
            ),
            Self::Dropped => (
                "Your browser does not send back the cookie of your session: most likely it does not keep it, or its clock is wrong.",
                "Allow cookies for this site, set the clock of your device right, and open this site in a window of its own.",
            ),
            Self::Forgotten => (
                "Your browser shows its session, and the site does not know it: most likely the machines of this site do not share their sessions, or their clocks differ.",
                "Tell whoever runs this site: every machine needs the same store and the same secrets.",
            ),
            Self::Host => (
                "The page that you come from is on another host, and your session is for this one alone.",
                "Tell whoever runs this site: hosts that share a login need `domain` in its configuration.",
            ),
            Self::Tossed => (
                "Your browser sends more than one cookie of the session's name: another site of this domain sets it too.",
                "Delete the cookies of this site, then log in again.",
            ),
        }
    }
}
