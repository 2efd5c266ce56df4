//! What travels with a browser that has not logged in yet: the cookie that recognises it, and the login on its way.
//! Both are sealed; nothing is stored here (R12). It knows no session and no provider's protocol.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::identity::Subject;
use crate::secret::{Keyring, Purpose, random};

/// What is asked for of kinds of login (`acr`), with spaces between, is no longer, in bytes: it travels in addresses.
pub const MAX_ACR_VALUES: usize = 512;

/// Users that a browser is remembered to have logged in.
const MAX_KNOWN: usize = 5;
/// A cookie of five users has 139 characters.
const MAX_BROWSER_TEXT: usize = 256;
/// Bytes of the page to return to.
const MAX_RETURN_TO: usize = 4096;
/// A pending login with the longest page has fewer characters.
const MAX_PENDING_TEXT: usize = 6 * 1024;

/// The browser as its one small cookie tells it.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct Browser {
    id: [u8; 16],
    /// Oldest first. Keyed tags: they name nobody, and mean nothing in another browser.
    known: Vec<[u8; 8]>,
    /// The mark of who has logged in last, whichever way.
    last: [u8; 8],
    /// Logins that have succeeded in a row, each within a minute of the one before.
    rounds: u8,
    last_login: Timestamp,
}

/// How soon a login after another looks as if that had led nowhere.
const ROUND: Duration = Duration::from_mins(1);

impl Browser {
    /// Logins that follow each other so fast only where each leads to the next.
    pub const MAX_ROUNDS: u8 = 3;

    /// A browser that was never seen before.
    pub fn new() -> Self {
        Self {
            id: random(),
            known: Vec::new(),
            last: [0; 8],
            rounds: 0,
            last_login: Timestamp::from_millis(0),
        }
    }

    /// A login of `subject` has succeeded.
    pub fn came_in(&mut self, keyring: &Keyring, subject: &Subject, now: Timestamp) {
        let marks = self.marks(keyring, &subject.provider, &subject.id);
        self.last = marks.first().copied().unwrap_or_default();
        let is_soon = now.since(self.last_login) < ROUND;
        self.rounds = if is_soon {
            self.rounds.saturating_add(1)
        } else {
            1
        };
        self.last_login = now;
    }

    /// Somebody has logged out, so the next login follows from that.
    pub fn went_out(&mut self) {
        self.rounds = 0;
    }

    /// Whether logins lead to nothing but further logins.
    pub fn goes_round(&self, now: Timestamp) -> bool {
        self.rounds >= Self::MAX_ROUNDS && now.since(self.last_login) < ROUND
    }

    /// Reads the cookie's value; `None` where it is not one that we gave.
    pub fn parse(keyring: &Keyring, value: &[u8]) -> Option<Self> {
        let sealed = decode(value, MAX_BROWSER_TEXT)?;
        let plain = keyring.open(Purpose::Browser, b"", &sealed)?;
        let browser: Self = read_all(&plain)?;
        (browser.known.len() <= MAX_KNOWN).then_some(browser)
    }

    /// The cookie's value: base64url, a new text each time.
    pub fn encode(&self, keyring: &Keyring) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(keyring.seal(Purpose::Browser, b"", &written(self)))
    }

    /// What form tokens and pending logins are bound to.
    pub fn id(&self) -> &[u8; 16] {
        &self.id
    }

    /// Whether this browser has logged `user` of `provider` in before.
    pub fn knows(&self, keyring: &Keyring, provider: &str, user: &str) -> bool {
        let marks = self.marks(keyring, provider, user);
        marks.iter().any(|mark| self.known.contains(mark))
    }

    /// The mark of who has logged in last in this browser. `None`: nobody has.
    pub fn last(&self) -> Option<[u8; 8]> {
        Some(self.last).filter(|mark| *mark != [0; 8])
    }

    /// The mark of `subject` in this browser.
    pub fn mark_of(&self, keyring: &Keyring, subject: &Subject) -> Option<[u8; 8]> {
        let marks = self.marks(keyring, &subject.provider, &subject.id);
        marks.first().copied()
    }

    /// Whether a mark is that of `subject` in this browser.
    pub fn is_mark_of(&self, mark: [u8; 8], keyring: &Keyring, subject: &Subject) -> bool {
        let marks = self.marks(keyring, &subject.provider, &subject.id);
        marks.contains(&mark)
    }

    /// `user` of `provider` has logged in here. The sixth user makes the browser forget the first.
    pub fn remember(&mut self, keyring: &Keyring, provider: &str, user: &str) {
        let marks = self.marks(keyring, provider, user);
        self.known.retain(|mark| !marks.contains(mark));
        // The first mark is the newest secret's.
        self.known.extend(marks.first());
        let excess = self.known.len().saturating_sub(MAX_KNOWN);
        self.known.drain(..excess);
    }

    /// The user's mark in this browser under each secret, newest first.
    fn marks(&self, keyring: &Keyring, provider: &str, user: &str) -> Vec<[u8; 8]> {
        let data = written(&(&self.id, provider, user));
        let tags = keyring.tags(Purpose::KnownUser, &data);
        tags.filter_map(|tag| tag.first_chunk().copied()).collect()
    }
}

impl Default for Browser {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Browser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Browser")
            .field("known", &self.known.len())
            .finish_non_exhaustive()
    }
}

/// A login that has begun. It opens only in the browser that began it.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct PendingLogin {
    pub provider: String,
    /// The page asked for. It was judged when the login began, and is to be judged again when it ends.
    pub return_to: String,
    pub started: Timestamp,
    /// What a provider's answer is tied to, where it has one: it is told both ways.
    pub nonce: [u8; 16],
    /// What it is only told once it has answered (PKCE).
    pub verifier: [u8; 32],
    /// The user has to show anew who they are.
    pub anew: bool,
    /// In one of which ways (`acr`), for the page that was asked for; empty: in any.
    pub acr_values: Vec<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PendingError {
    #[error("the login took too long")]
    Expired,
    #[error("the login did not begin in this browser")]
    Invalid,
}

impl PendingLogin {
    /// A page whose address is longer than 4 KiB is forgotten: such a login ends at `/`.
    pub fn begin(provider: String, return_to: String, (anew, now): (bool, Timestamp)) -> Self {
        Self {
            provider,
            return_to: if return_to.len() <= MAX_RETURN_TO {
                return_to
            } else {
                "/".to_owned()
            },
            started: now,
            nonce: random(),
            verifier: random(),
            anew,
            acr_values: Vec::new(),
        }
    }

    /// The code verifier (RFC 7636 section 4.1): 43 characters.
    pub(super) fn verifier(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.verifier)
    }

    /// What it is made known by beforehand (S256).
    pub(super) fn challenge(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, self.verifier().as_bytes()))
    }

    /// The text that travels, base64url; at most 6 KiB for what [`PendingLogin::begin`] made.
    pub fn seal(&self, keyring: &Keyring, browser: &Browser) -> String {
        let plain = written(&(browser.id, self));
        let sealed = keyring.seal(Purpose::PendingLogin, b"", &plain);
        BASE64_URL_SAFE_NO_PAD.encode(sealed)
    }

    /// Opens what [`PendingLogin::seal`] made for the same browser less than `max_age` ago.
    pub fn open(
        text: &str,
        keyring: &Keyring,
        opening: &Opening<'_>,
    ) -> Result<Self, PendingError> {
        let unsealed = Self::unsealed(text, keyring);
        let (browser, pending) = unsealed.ok_or(PendingError::Invalid)?;
        if browser != opening.browser.id {
            return Err(PendingError::Invalid);
        }
        if opening.now.since(pending.started) >= opening.max_age {
            return Err(PendingError::Expired);
        }
        Ok(pending)
    }

    /// Where a login of ours was to lead, and whether its user had to log in anew, whichever browser it began in. Nothing else
    /// of it counts.
    pub fn aim(text: &str, keyring: &Keyring) -> Option<(String, bool)> {
        let (_, pending) = Self::unsealed(text, keyring)?;
        Some((pending.return_to, pending.anew))
    }

    /// With the browser that it began in.
    fn unsealed(text: &str, keyring: &Keyring) -> Option<([u8; 16], Self)> {
        let sealed = decode(text.as_bytes(), MAX_PENDING_TEXT)?;
        let plain = keyring.open(Purpose::PendingLogin, b"", &sealed)?;
        let (browser, pending): ([u8; 16], Self) = read_all(&plain)?;
        (pending.return_to.len() <= MAX_RETURN_TO).then_some((browser, pending))
    }
}

impl fmt::Debug for PendingLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingLogin")
            .field("provider", &self.provider)
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

/// Where and when a pending login is opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    pub browser: &'a Browser,
    pub now: Timestamp,
    pub max_age: Duration,
}

/// Length first: what is too long costs nothing.
fn decode(text: &[u8], max: usize) -> Option<Vec<u8>> {
    if text.len() > max {
        return None;
    }
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

fn written<T: Serialize>(value: &T) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "strings, numbers and sequences of known length always encode"
    )]
    postcard::to_stdvec(value).expect("encode")
}

fn read_all<'a, T: Deserialize<'a>>(plain: &'a [u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(plain).ok()?;
    rest.is_empty().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn ring(bytes: &[u8]) -> Keyring {
        let secrets = bytes.iter().map(|b| Secret::new(vec![*b; 32])).collect();
        Keyring::new(secrets).unwrap()
    }

    fn alice() -> Subject {
        Subject {
            provider: "local".to_owned(),
            id: "alice".to_owned(),
        }
    }

    const STARTED: Timestamp = Timestamp::from_millis(1_000_000);

    fn pending(return_to: &str) -> PendingLogin {
        PendingLogin::begin("local".to_owned(), return_to.to_owned(), (false, STARTED))
    }

    fn opening(browser: &Browser, secs: u64) -> Opening<'_> {
        Opening {
            browser,
            now: STARTED.after(Duration::from_secs(secs)),
            max_age: Duration::from_mins(10),
        }
    }

    #[test]
    fn a_browser_is_recognised_by_its_cookie_and_by_no_other_key() {
        let ring = ring(&[1]);
        let mut browser = Browser::new();
        browser.remember(&ring, "local", "alice");
        let value = browser.encode(&ring);
        assert_eq!(
            Browser::parse(&ring, value.as_bytes()),
            Some(browser.clone())
        );
        assert_ne!(value, browser.encode(&ring), "the text says nothing");
        assert!(Browser::parse(&self::ring(&[2]), value.as_bytes()).is_none());
        let mut bad = value.into_bytes();
        for i in 0..bad.len() {
            let good = bad[i];
            bad[i] = if good == b'A' { b'B' } else { b'A' };
            assert!(Browser::parse(&ring, &bad).is_none(), "character {i}");
            bad[i] = good;
        }
    }

    #[test]
    fn hostile_cookies_are_refused() {
        let ring = ring(&[1]);
        let padded = format!("{}=", Browser::new().encode(&ring));
        let long = "A".repeat(MAX_BROWSER_TEXT + 1);
        let six = Browser {
            id: [0; 16],
            known: vec![[0; 8]; 6],
            ..Browser::new()
        };
        for value in [
            b"".as_slice(),
            b"\x00\xff",
            b"....",
            padded.as_bytes(),
            long.as_bytes(),
            six.encode(&ring).as_bytes(),
        ] {
            assert!(
                Browser::parse(&ring, value).is_none(),
                "{}",
                value.escape_ascii()
            );
        }
        let mut trailing = written(&Browser::new());
        trailing.push(0);
        let sealed = ring.seal(Purpose::Browser, b"", &trailing);
        let value = BASE64_URL_SAFE_NO_PAD.encode(sealed);
        assert!(Browser::parse(&ring, value.as_bytes()).is_none());
    }

    #[test]
    fn a_browser_knows_the_last_five_users_it_logged_in() {
        let ring = ring(&[1]);
        let mut browser = Browser::new();
        for user in ["a", "b", "c", "d", "e", "a", "f"] {
            browser.remember(&ring, "local", user);
        }
        for user in ["a", "c", "d", "e", "f"] {
            assert!(browser.knows(&ring, "local", user), "{user}");
        }
        assert!(!browser.knows(&ring, "local", "b"));
        assert!(
            !browser.knows(&ring, "other", "a"),
            "another provider's user"
        );
        assert!(!browser.knows(&ring, "loc", "ala"), "no other split either");
        browser.came_in(&ring, &alice(), STARTED);
        assert!(browser.encode(&ring).len() <= 140);
    }

    #[test]
    fn three_logins_within_a_minute_of_each_other_go_round() {
        let ring = ring(&[1]);
        let at = |secs| STARTED.after(Duration::from_secs(secs));
        let mut browser = Browser::new();
        for (secs, expected) in [
            (0, false),
            (59, false),
            (118, true),
            (119, true),
            (179, false),
        ] {
            browser.came_in(&ring, &alice(), at(secs));
            let browser = Browser::parse(&ring, browser.encode(&ring).as_bytes()).unwrap();
            assert_eq!(browser.goes_round(at(secs)), expected, "{secs}");
            assert!(!browser.goes_round(at(secs + 60)), "{secs}, a minute later");
        }
        let mut browser = Browser::new();
        for secs in 0..5 {
            browser.came_in(&ring, &alice(), at(secs));
            browser.went_out();
        }
        assert!(
            !browser.goes_round(at(5)),
            "who logs out comes back on purpose"
        );
    }

    #[test]
    fn a_mark_is_worth_nothing_in_another_browser() {
        let ring = ring(&[1]);
        let mut browser = Browser::new();
        browser.remember(&ring, "local", "alice");
        let thief = Browser {
            id: [9; 16],
            ..browser
        };
        assert!(!thief.knows(&ring, "local", "alice"));
    }

    #[test]
    fn a_browser_knows_who_was_in_last_and_tells_nobody_else() {
        let ring = ring(&[1]);
        let mut browser = Browser::new();
        assert_eq!(browser.last(), None);
        browser.came_in(&ring, &alice(), STARTED);
        let mark = browser.last().unwrap();
        assert_eq!(browser.mark_of(&ring, &alice()), Some(mark));
        let rotated = self::ring(&[2, 1]);
        assert!(browser.is_mark_of(mark, &rotated, &alice()));
        let elsewhere = Subject {
            provider: "corp".to_owned(),
            ..alice()
        };
        assert!(!browser.is_mark_of(mark, &ring, &elsewhere));
        assert!(!Browser::new().is_mark_of(mark, &ring, &alice()));
    }

    #[test]
    fn a_rotated_secret_still_knows_and_renews_the_mark() {
        let mut browser = Browser::new();
        browser.remember(&ring(&[1]), "local", "alice");
        let rotated = ring(&[2, 1]);
        assert!(browser.knows(&rotated, "local", "alice"));
        browser.remember(&rotated, "local", "alice");
        assert_eq!(browser.known.len(), 1);
        assert!(browser.knows(&ring(&[2]), "local", "alice"));
    }

    #[test]
    fn a_login_opens_only_in_the_browser_that_began_it() {
        let ring = ring(&[1]);
        let (browser, other) = (Browser::new(), Browser::new());
        let begun = pending("/wiki?page=1");
        let text = begun.seal(&ring, &browser);
        let opened = PendingLogin::open(&text, &ring, &opening(&browser, 599));
        assert_eq!(opened, Ok(begun));
        let foreign = PendingLogin::open(&text, &ring, &opening(&other, 0));
        assert_eq!(foreign, Err(PendingError::Invalid));
        let aim = PendingLogin::aim(&text, &ring);
        assert_eq!(aim, Some(("/wiki?page=1".to_owned(), false)));
        assert_eq!(PendingLogin::aim(&other.encode(&ring), &ring), None);
    }

    #[test]
    fn any_number_of_tabs_log_in_at_once() {
        let ring = ring(&[1]);
        let browser = Browser::new();
        let texts: Vec<_> = (0..20)
            .map(|tab| pending(&format!("/{tab}")).seal(&ring, &browser))
            .collect();
        for (tab, text) in texts.iter().enumerate() {
            let opened = PendingLogin::open(text, &ring, &opening(&browser, 5)).unwrap();
            assert_eq!(opened.return_to, format!("/{tab}"));
        }
    }

    #[test]
    fn a_login_that_took_too_long_has_expired() {
        let ring = ring(&[1]);
        let browser = Browser::new();
        let text = pending("/").seal(&ring, &browser);
        let late = PendingLogin::open(&text, &ring, &opening(&browser, 600));
        assert_eq!(late, Err(PendingError::Expired));
    }

    #[test]
    fn a_tampered_login_is_invalid() {
        let ring = ring(&[1]);
        let browser = Browser::new();
        let text = pending("/").seal(&ring, &browser);
        for i in 0..text.len() {
            let mut bad = text.clone().into_bytes();
            bad[i] = if bad[i] == b'A' { b'B' } else { b'A' };
            let bad = String::from_utf8(bad).unwrap();
            let opened = PendingLogin::open(&bad, &ring, &opening(&browser, 0));
            assert_eq!(opened, Err(PendingError::Invalid), "character {i}");
        }
        let cookie = browser.encode(&ring);
        let opened = PendingLogin::open(&cookie, &ring, &opening(&browser, 0));
        assert_eq!(opened, Err(PendingError::Invalid), "another purpose");
    }

    #[test]
    fn lengths_are_bounded_on_both_sides() {
        let ring = ring(&[1]);
        let browser = Browser::new();
        let longest = format!("/{}", "a".repeat(MAX_RETURN_TO - 1));
        let mut begun = pending(&longest);
        begun.provider = "p".repeat(64);
        let text = begun.seal(&ring, &browser);
        assert!(text.len() <= MAX_PENDING_TEXT);
        assert!(PendingLogin::open(&text, &ring, &opening(&browser, 0)).is_ok());
        assert_eq!(pending(&format!("{longest}a")).return_to, "/");

        begun.return_to.push('a');
        let text = begun.seal(&ring, &browser);
        let opened = PendingLogin::open(&text, &ring, &opening(&browser, 0));
        assert_eq!(opened, Err(PendingError::Invalid));
        let long = "A".repeat(MAX_PENDING_TEXT + 1);
        let opened = PendingLogin::open(&long, &ring, &opening(&browser, 0));
        assert_eq!(opened, Err(PendingError::Invalid));
    }
}
