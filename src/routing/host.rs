//! The host part of a route, and of a request.

use std::fmt;

/// A host as a route names it: exact, or `*.` and the rest.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum HostPattern {
    Exact(String),
    /// Holds what follows the `*.`; it matches one or more labels before it.
    Wildcard(String),
}

impl HostPattern {
    /// Reads a pattern: a host name or IP address without port, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        match text.strip_prefix("*.") {
            Some(rest) => {
                (is_name(rest) && !rest.is_empty()).then(|| Self::Wildcard(rest.to_owned()))
            }
            None => (is_name(&text) || is_ipv6(&text)).then_some(Self::Exact(text)),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(rest) => write!(f, "*.{rest}"),
        }
    }
}

/// Splits `Host` or `:authority` into host and port as written (RFC 9110 section 7.2). `None` where
/// it is anything but `host`, `host:port`, `[v6]` or `[v6]:port`: no user information, no list, no odd bytes.
pub fn split_authority(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.rfind(']') {
        Some(end) => text.split_at_checked(end + 1)?,
        None => text.split_at_checked(text.find(':').unwrap_or(text.len()))?,
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
        None | Some(_) => return None,
    };
    (is_name(host) || is_ipv6(host)).then_some((host, port))
}

/// Letters, digits, `-`, `_` and `.`, with no empty label (a name, or an IPv4 address).
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn is_ipv6(text: &str) -> bool {
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_reading_or_none() {
        for (text, expected) in [
            ("wiki.example.com", Some(("wiki.example.com", None))),
            (
                "wiki.example.com:8443",
                Some(("wiki.example.com", Some(8443))),
            ),
            ("127.0.0.1:1", Some(("127.0.0.1", Some(1)))),
            ("[::1]", Some(("[::1]", None))),
            ("[::1]:443", Some(("[::1]", Some(443)))),
            ("", None),
            ("a:", None),
            ("a:99999", None),
            ("a:+1", None),
            ("a.", None),
            (".a", None),
            ("a..b", None),
            ("user@a", None),
            ("a,b", None),
            ("a b", None),
            ("a/b", None),
            ("[::1", None),
            ("[::1]x", None),
            ("::1", None),
            ("a\u{e9}", None),
        ] {
            assert_eq!(split_authority(text), expected, "{text:?}");
        }
    }

    #[test]
    fn patterns_are_names_or_wildcards() {
        assert_eq!(
            HostPattern::parse("Wiki.Example.com"),
            Some(HostPattern::Exact("wiki.example.com".into()))
        );
        assert_eq!(
            HostPattern::parse("*.example.com"),
            Some(HostPattern::Wildcard("example.com".into()))
        );
        for bad in ["", "*", "*.", "a.*.b", "https://a", "a:80", "a/b"] {
            assert_eq!(HostPattern::parse(bad), None, "{bad:?}");
        }
    }
}
