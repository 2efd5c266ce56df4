//! The only judge of "may we redirect there?" (R11): a path on a host that a route serves, and nothing else. Pure; it
//! is asked when a login begins and again when it ends.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use crate::routing::split_authority;
use crate::wire::RESERVED_PREFIX;

/// The pages of our own that one may come back to: they show, and do nothing by themselves.
const OWN_PAGES: [&str; 5] = [
    "/.doorward/kept",
    "/.doorward/passkeys",
    "/.doorward/password",
    "/.doorward/sessions",
    "/.doorward/two-factor",
];

/// The longest place that is kept, in bytes.
const MAX_LEN: usize = 2048;

/// A place that a browser may be sent to: a path with its query, or an `https` URL of one of our own hosts. Visible
/// ASCII throughout, so it fits into `Location` as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReturnTo(String);

impl ReturnTo {
    /// Judges a place. `serves` says whether a host (lower case) with this port is one of ours. `None` where the text
    /// is anything that two readers could read differently; the default is where to go then.
    pub fn parse(text: &str, serves: impl Fn(&str, Option<u16>) -> bool) -> Option<Self> {
        if text.len() > MAX_LEN || !text.bytes().all(is_plain) {
            return None;
        }
        let Some(rest) = text.strip_prefix("https://") else {
            return is_safe(text).then(|| Self(text.to_owned()));
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        let authority = authority.to_ascii_lowercase();
        let (host, port) = split_authority(&authority)?;
        let path = match path.strip_prefix('?') {
            Some(_) => Cow::Owned(format!("/{path}")),
            None if path.is_empty() => Cow::Borrowed("/"),
            None => Cow::Borrowed(path),
        };
        (serves(host, port) && is_safe(&path)).then(|| Self(format!("https://{authority}{path}")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host that it is named with, without port. `None`: the one that it is asked on.
    pub(super) fn host(&self) -> Option<&str> {
        let rest = self.0.strip_prefix("https://")?;
        let authority = rest.split(['/', '?']).next()?;
        split_authority(authority).map(|(host, _)| host)
    }
}

impl Default for ReturnTo {
    /// The host's own first page.
    fn default() -> Self {
        Self("/".to_owned())
    }
}

/// Visible ASCII without what browsers take for something else (`\`), or keep to themselves (`#`).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'\\' && byte != b'#'
}

/// Whether a path with its query stays on its host, outside our own pages but these, however often it is decoded on the
/// way.
fn is_safe(text: &str) -> bool {
    if OWN_PAGES.contains(&text) {
        return true;
    }
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    rounds(path).iter().all(|path| is_safe_path(path))
        && rounds(query)
            .iter()
            .all(|query| !query.iter().any(u8::is_ascii_control))
}

/// A text as it is, decoded, and decoded twice.
fn rounds(text: &str) -> [Cow<'_, [u8]>; 3] {
    let once: Cow<'_, [u8]> = percent_decode(text.as_bytes()).into();
    let twice = Cow::Owned(percent_decode(&once).collect());
    [Cow::Borrowed(text.as_bytes()), once, twice]
}

fn is_safe_path(path: &[u8]) -> bool {
    let has_odd_byte = path
        .iter()
        .any(|byte| byte.is_ascii_control() || *byte == b'\\');
    let Some(segments) = path.strip_prefix(b"/").filter(|_| !has_odd_byte) else {
        return false;
    };
    if segments.is_empty() {
        return true;
    }
    let mut names = segments.split(|&byte| byte == b'/').map(bare).peekable();
    let reserved = RESERVED_PREFIX.trim_matches('/').as_bytes();
    if names
        .peek()
        .is_some_and(|first| first.eq_ignore_ascii_case(reserved))
    {
        return false;
    }
    // The last segment may be empty (`/a/`); any other would be a `//`. Dot segments are gone from every path that we
    // ask about, so one that is here came from elsewhere.
    while let Some(name) = names.next() {
        if name == b"." || name == b".." || (name.is_empty() && names.peek().is_some()) {
            return false;
        }
    }
    true
}

/// A segment without what some readers cut off it.
fn bare(segment: &[u8]) -> &[u8] {
    segment
        .split(|&byte| matches!(byte, b';' | b'?' | b'#'))
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    fn serves(host: &str, port: Option<u16>) -> bool {
        host == "a.example" && matches!(port, None | Some(8443))
    }

    fn judged(text: &str) -> Option<String> {
        ReturnTo::parse(text, serves).map(|place| place.0)
    }

    #[test]
    fn a_path_on_this_host_is_a_place() {
        for text in [
            "/",
            "/a",
            "/a/",
            "/a/b?x=1&y=%20",
            "/?",
            "/?next=https://b.example//x",
            "/a?b=..%2F..",
            "/caf%C3%A9",
            "/100%25",
            "/.well-known/x",
            "/.doorwards/x",
            "/a/.doorward/x",
            "/@user/a:b",
            "/a;v=1/b",
            "/...",
        ] {
            assert_eq!(judged(text).as_deref(), Some(text), "{text:?}");
        }
    }

    #[test]
    fn what_could_lead_elsewhere_is_none() {
        for text in [
            "",
            " ",
            "a",
            "?a",
            "#",
            ".",
            "//b.example",
            "///b.example",
            "////b.example",
            "/\\b.example",
            "\\\\b.example",
            "\\/b.example",
            "/a\\b",
            "/%5Cb.example",
            "/%5cb.example",
            "/%255Cb.example",
            "/%2Fb.example",
            "/%2fb.example",
            "/%252Fb.example",
            "%2F%2Fb.example",
            "%2Fa",
            "/a//b",
            "/a%2F%2Fb",
            "/;/b.example",
            "/a/;x/b",
            "/\tb.example",
            "/\t/b.example",
            "/\n/b.example",
            "\t//b.example",
            " //b.example",
            "/ /b.example",
            "/%09/b.example",
            "/%0d%0aSet-Cookie:%20a=b",
            "/%250d%250aX:y",
            "/a?b=%0d%0a",
            "/a?b=%250a",
            "/a%00",
            "/a\0",
            "/a\x7f",
            "/./b",
            "/../b",
            "/.//b.example",
            "/a/..//b.example",
            "/%2e%2e/b",
            "/%2e/%2fb.example",
            "/a/%252e%252e/b",
            "/..;/b",
            "/a#b",
            "/\u{e9}",
            "/\u{ff0f}b.example",
            "/\u{2028}",
            "http://a.example/",
            "HTTPS://a.example/",
            "https:/a.example/",
            "https:a.example",
            "https:///a.example/",
            "https://b.example/",
            "https://a.example.b.example/",
            "https://a.example@b.example/",
            "https://b.example#@a.example/",
            "https://b.example\\@a.example/",
            "https://a.example:99999/",
            "https://a.example:8080/",
            "https://a.example:/",
            "https://a.example./",
            "https://a%2eexample/",
            "https://a.example//b.example",
            "https://",
            "https://?a",
            "javascript:alert(1)",
            "data:text/html,x",
            "//a.example/",
            "x://a.example/",
        ] {
            assert_eq!(judged(text), None, "{text:?}");
        }
    }

    #[test]
    fn our_own_pages_are_no_place_to_return_to_but_those_that_only_show() {
        let elsewhere = OWN_PAGES.map(|page| format!("https://a.example{page}"));
        let elsewhere = elsewhere.iter().map(String::as_str);
        for text in OWN_PAGES.into_iter().chain(elsewhere) {
            assert_eq!(judged(text).as_deref(), Some(text));
        }
        for text in [
            "/.doorward/sessions?done",
            "/.doorward/sessions/",
            "/.doorward/Sessions",
            "/.doorward/%73essions",
            "/.doorward",
            "/.doorward/",
            "/.doorward/logout",
            "/.doorward?x",
            "/.doorward;x/logout",
            "/%2Edoorward/logout",
            "/.doorwar%64/logout",
            "/%252Edoorward/logout",
            "/.doorward%2Flogout",
            "/.Doorward/logout",
            "/a/../.doorward/logout",
            "https://a.example/.doorward/logout",
        ] {
            assert_eq!(judged(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_url_of_a_served_host_stays_whole() {
        for (text, expected) in [
            ("https://a.example", "https://a.example/"),
            ("https://A.Example/b?c", "https://a.example/b?c"),
            ("https://a.example:8443/b", "https://a.example:8443/b"),
            ("https://a.example?c=d", "https://a.example/?c=d"),
        ] {
            assert_eq!(judged(text).as_deref(), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn length_is_bounded() {
        assert!(judged(&format!("/{}", "a".repeat(MAX_LEN - 1))).is_some());
        assert_eq!(judged(&format!("/{}", "a".repeat(MAX_LEN))), None);
        assert_eq!(ReturnTo::default().as_str(), "/");
    }

    fn hostile() -> impl Strategy<Value = String> {
        let pieces = [
            "/",
            "/",
            "//",
            "\\",
            "%2f",
            "%5C",
            "%252f",
            "%09",
            "\t",
            "\n",
            " ",
            "?",
            "#",
            "@",
            ":",
            ";",
            ".",
            "..",
            "%2e",
            "a.example",
            "b.example",
            "https:",
            "https://",
            "http://",
            "javascript:",
            "a",
            "b",
            "%",
            "8443",
            "\u{ff0f}",
            "\u{3002}",
            "\0",
            ".doorward",
        ];
        prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..8)
            .prop_map(|pieces| pieces.concat())
    }

    /// Where a browser that was at `https://a.example/x` goes.
    fn followed(place: &str) -> Url {
        Url::parse("https://a.example/x")
            .unwrap()
            .join(place)
            .unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8192))]

        #[test]
        fn a_browser_never_leaves(text in prop_oneof![hostile(), hostile().prop_map(|rest| format!("/{rest}")),
            hostile().prop_map(|rest| format!("https://a.example{rest}")), "\\PC{0,20}", "/[ -~]{0,20}"]) {
            if let Some(place) = ReturnTo::parse(&text, serves) {
                let url = followed(place.as_str());
                prop_assert_eq!(url.scheme(), "https");
                prop_assert_eq!(url.host_str(), Some("a.example"));
                prop_assert!(matches!(url.port(), None | Some(8443)));
                prop_assert!(url.username().is_empty() && url.password().is_none());
                prop_assert!(!url.path().starts_with("//"));
                prop_assert!(!url.path().starts_with("/.doorward/"));
                prop_assert!(http::HeaderValue::from_str(place.as_str()).is_ok());
            }
        }

        #[test]
        fn a_second_judgement_agrees(text in hostile().prop_map(|rest| format!("/{rest}"))) {
            if let Some(place) = ReturnTo::parse(&text, serves) {
                prop_assert_eq!(ReturnTo::parse(place.as_str(), serves), Some(place));
            }
        }
    }
}
