//! The cookies of one app that a session keeps in the browser's place: what a `Set-Cookie` does to them, and which of them
//! go along with a request (RFC 6265bis, sections 5.6 to 5.8). Pure functions of time; where they are stored others know.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use cookie::Cookie;
use http::HeaderValue;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Of name and value together, in bytes: what browsers keep.
const MAX_COOKIE: usize = 4096;
/// Of an attribute.
const MAX_ATTRIBUTE: usize = 1024;
/// What RFC 6265bis lets a cookie live for.
const LONGEST: Duration = Duration::from_hours(400 * 24);

/// Oldest first.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Jar(Vec<Kept>);

#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
struct Kept {
    name: String,
    value: String,
    domain: String,
    /// For the very host that set it.
    host_only: bool,
    path: String,
    /// `None`: it lives as long as the session.
    expires: Option<Timestamp>,
}

/// The place at the app that is asked for: its host in lower case without a port, and its path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spot {
    pub host: String,
    pub path: String,
}

/// How much of one app a session keeps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct JarLimits {
    pub max_cookies: usize,
    /// Of all its cookies, with domains and paths.
    pub max_bytes: usize,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}{}", self.name, self.domain, self.path)
    }
}

impl Kept {
    /// `None`: it is not one that can be kept. One that is over already takes away the one of its name.
    fn parse(line: &[u8], spot: &Spot, now: Timestamp) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        let cookie = Cookie::parse(text).ok()?;
        let (name, value) = cookie.name_value();
        let is_clean = !name
            .bytes()
            .chain(value.bytes())
            .any(|b| b < 0x20 || b == 0x7f);
        if name.len() + value.len() > MAX_COOKIE || !is_clean {
            return None;
        }
        let fits = |text: &&str| text.len() <= MAX_ATTRIBUTE;
        let domain = cookie.domain().filter(fits).map(str::to_ascii_lowercase);
        let domain = domain.map(|domain| domain.trim_start_matches('.').to_owned());
        let domain = domain.filter(|domain| !domain.is_empty());
        if domain
            .as_ref()
            .is_some_and(|domain| !is_within(&spot.host, domain))
        {
            return None;
        }
        let path = cookie
            .path()
            .filter(fits)
            .filter(|path| path.starts_with('/'));
        let kept = Self {
            name: name.to_owned(),
            value: value.to_owned(),
            host_only: domain.is_none(),
            domain: domain.unwrap_or_else(|| spot.host.clone()),
            path: path.unwrap_or_else(|| default_path(&spot.path)).to_owned(),
            expires: expires(&cookie, now),
        };
        let (prefix, is_secure) = (name.to_ascii_lowercase(), cookie.secure() == Some(true));
        let may_be_host = is_secure && kept.host_only && cookie.path() == Some("/");
        let keeps_promise = (is_secure || !prefix.starts_with("__secure-"))
            && (may_be_host || !prefix.starts_with("__host-"));
        keeps_promise.then_some(kept)
    }

    fn is_same(&self, other: &Self) -> bool {
        let is_named = self.name == other.name && self.path == other.path;
        is_named && self.domain == other.domain && self.host_only == other.host_only
    }

    fn is_for(&self, spot: &Spot) -> bool {
        let is_host = if self.host_only {
            self.domain == spot.host
        } else {
            is_within(&spot.host, &self.domain)
        };
        is_host && is_below(&spot.path, &self.path)
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    fn bytes(&self) -> usize {
        self.name.len() + self.value.len() + self.domain.len() + self.path.len()
    }
}

impl Jar {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.0.iter().map(Kept::bytes).sum()
    }

    /// Takes in the values of `Set-Cookie` fields, in their order. What is too much pushes out what is oldest. Tells how
    /// many cannot be kept at all: malformed, too long, for another host.
    pub fn take(
        &mut self,
        lines: &[HeaderValue],
        (spot, limits): (&Spot, &JarLimits),
        now: Timestamp,
    ) -> usize {
        let mut left_out = 0;
        for line in lines {
            let parsed = Kept::parse(line.as_bytes(), spot, now);
            let Some(kept) = parsed.filter(|kept| kept.bytes() <= limits.max_bytes) else {
                left_out += 1;
                continue;
            };
            match self.0.iter().position(|known| known.is_same(&kept)) {
                Some(at) if kept.is_over(now) => drop(self.0.remove(at)),
                // It stays as old as it was.
                Some(at) => self.0.splice(at..=at, [kept]).for_each(drop),
                None if kept.is_over(now) => {}
                None => self.0.push(kept),
            }
        }
        self.0.retain(|kept| !kept.is_over(now));
        let mut bytes = self.bytes();
        let mut count = self.0.len();
        self.0.retain(|kept| {
            let fits = count <= limits.max_cookies && bytes <= limits.max_bytes;
            if !fits {
                (count, bytes) = (count - 1, bytes - kept.bytes());
            }
            fits
        });
        left_out
    }

    /// `Cookie` for a request: longer paths first, and of those of one length the oldest (RFC 6265bis section 5.8.3).
    pub fn cookies(&self, spot: &Spot, now: Timestamp) -> Option<String> {
        let fitting = self
            .0
            .iter()
            .filter(|kept| !kept.is_over(now) && kept.is_for(spot));
        let mut fitting: Vec<&Kept> = fitting.collect();
        fitting.sort_by_key(|kept| std::cmp::Reverse(kept.path.len()));
        let pairs = fitting
            .iter()
            .map(|kept| format!("{}={}", kept.name, kept.value));
        let pairs: Vec<String> = pairs.collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

/// `Max-Age` counts more than `Expires`.
fn expires(cookie: &Cookie<'_>, now: Timestamp) -> Option<Timestamp> {
    if let Some(age) = cookie.max_age() {
        let age = u64::try_from(age.whole_seconds()).unwrap_or_default();
        return Some(now.after(Duration::from_secs(age).min(LONGEST)));
    }
    let seconds = cookie.expires_datetime()?.unix_timestamp();
    let at = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    Some(Timestamp::default().after(at).min(now.after(LONGEST)))
}

/// Domain-matching (section 5.1.3). A jar belongs to one app, so nobody else is reached by a domain that is wide.
fn is_within(host: &str, domain: &str) -> bool {
    if host == domain {
        return true;
    }
    let rest = host.strip_suffix(domain);
    let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    rest.is_some_and(|rest| rest.ends_with('.')) && !is_address
}

/// Path-matching (section 5.1.4).
fn is_below(path: &str, of: &str) -> bool {
    let rest = path.strip_prefix(of);
    rest.is_some_and(|rest| rest.is_empty() || of.ends_with('/') || rest.starts_with('/'))
}

fn default_path(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((folder, _)) if folder.starts_with('/') => folder,
        _ => "/",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const LIMITS: JarLimits = JarLimits {
        max_cookies: 50,
        max_bytes: 16 * 1024,
    };

    fn spot(host: &str, path: &str) -> Spot {
        Spot {
            host: host.to_owned(),
            path: path.to_owned(),
        }
    }

    fn take(jar: &mut Jar, lines: &[&str]) -> usize {
        let lines = lines
            .iter()
            .map(|line| HeaderValue::from_str(line).unwrap());
        let lines: Vec<HeaderValue> = lines.collect();
        jar.take(
            &lines,
            (&spot("shop.example.com", "/app/cart"), &LIMITS),
            NOW,
        )
    }

    fn sent(lines: &[&str], host: &str, path: &str) -> String {
        let mut jar = Jar::default();
        take(&mut jar, lines);
        jar.cookies(&spot(host, path), NOW).unwrap_or_default()
    }

    #[test]
    fn a_cookie_goes_to_its_path_and_to_what_is_below() {
        for (line, path, goes) in [
            ("a=1; Path=/", "/", true),
            ("a=1", "/app/other", true),
            ("a=1", "/app", true),
            ("a=1", "/application", false),
            ("a=1", "/", false),
            ("a=1; Path=/x/", "/x/y", true),
            ("a=1; Path=/x/", "/x", false),
            ("a=1; Path=x", "/app/y", true),
        ] {
            let expected = if goes { "a=1" } else { "" };
            assert_eq!(
                sent(&[line], "shop.example.com", path),
                expected,
                "{line} {path}"
            );
        }
        let all = ["a=1; Path=/", "b=2; Path=/app", "c=3; Path=/"];
        assert_eq!(sent(&all, "shop.example.com", "/app"), "b=2; a=1; c=3");
    }

    #[test]
    fn a_cookie_reaches_the_hosts_that_it_was_set_for() {
        for (line, host, goes) in [
            ("a=1; Path=/", "shop.example.com", true),
            ("a=1; Path=/", "www.shop.example.com", false),
            ("a=1; Path=/; Domain=.Example.com", "www.example.com", true),
            ("a=1; Path=/; Domain=example.com", "badexample.com", false),
            (
                "a=1; Path=/; Domain=other.example.com",
                "other.example.com",
                false,
            ),
            (
                "a=1; Path=/; Domain=www.shop.example.com",
                "shop.example.com",
                false,
            ),
            (
                "a=1; Path=/; Domain=op.example.com",
                "shop.example.com",
                false,
            ),
        ] {
            let expected = if goes { "a=1" } else { "" };
            assert_eq!(sent(&[line], host, "/"), expected, "{line} {host}");
        }
        assert!(!is_within("10.0.0.1", "0.0.1") && !is_within("[::1]", "1]"));
    }

    #[test]
    fn a_cookie_ends_when_it_was_said_to() {
        let day = Duration::from_hours(24);
        for (attribute, after, goes) in [
            ("", day * 1000, true),
            ("; Max-Age=60", Duration::from_secs(59), true),
            ("; Max-Age=60", Duration::from_mins(1), false),
            ("; Max-Age=99999999999999999999", day * 399, true),
            ("; Max-Age=99999999999999999999", day * 401, false),
            (
                "; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
                Duration::ZERO,
                true,
            ),
            (
                "; Expires=Fri, 15 Jan 2027 09:00:00 GMT",
                Duration::from_secs(3599),
                true,
            ),
            (
                "; Expires=Fri, 15 Jan 2027 09:00:00 GMT",
                Duration::from_hours(1),
                false,
            ),
            ("; Expires=nonsense", day * 1000, true),
        ] {
            let mut jar = Jar::default();
            take(&mut jar, &[&format!("a=1{attribute}; Path=/")]);
            let cookies = jar.cookies(&spot("shop.example.com", "/"), NOW.after(after));
            assert_eq!(cookies.is_some(), goes, "{attribute} {after:?}");
        }
        for end in [
            "Max-Age=0",
            "Max-Age=-1",
            "Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        ] {
            let mut jar = Jar::default();
            take(&mut jar, &["a=1; Path=/", "b=2"]);
            take(&mut jar, &[&format!("a=; Path=/; {end}")]);
            assert_eq!(jar.0.len(), 1, "{end}: {jar:?}");
        }
    }

    #[test]
    fn what_no_browser_would_keep_is_left_out() {
        let long = format!("a={}", "x".repeat(MAX_COOKIE));
        for line in [
            "",
            "a",
            "=a",
            "a=\t1\t2",
            &long,
            "__Secure-a=1",
            "__Host-a=1; Path=/",
            "__host-a=1; Secure; Path=/app",
            "__Host-a=1; Secure; Path=/; Domain=example.com",
        ] {
            let mut jar = Jar::default();
            assert_eq!(take(&mut jar, &[line]), 1, "{line}");
            assert!(jar.is_empty());
        }
        assert_eq!(
            sent(&["__Host-a=1; Secure; Path=/"], "shop.example.com", "/"),
            "__Host-a=1"
        );
    }

    proptest! {
        #[test]
        fn no_app_fills_more_than_its_limits(
            lines in prop::collection::vec("[a-z]{1,3}=[a-z]{0,60}(; Path=/[a-z]{0,20})?", 1..80),
            max_cookies in 1_usize..10,
            max_bytes in 64_usize..400,
        ) {
            let limits = JarLimits { max_cookies, max_bytes };
            let mut jar = Jar::default();
            let values = lines.iter().map(|line| HeaderValue::from_str(line).unwrap());
            for line in values {
                jar.take(&[line], (&spot("a.example", "/"), &limits), NOW);
                prop_assert!(jar.0.len() <= max_cookies && jar.bytes() <= max_bytes);
            }
        }
    }
}
