//! Whether a request was made by a page of the same origin: what browsers say of it themselves, in `Origin` and in
//! fetch metadata. A client that says neither is no browser and carries no cookie against its user's will.

use http::header::{HeaderValue, ORIGIN, REFERER};
use http::{HeaderMap, Method};

use super::ReturnTo;

/// `authority` is the request's own host and port. Every statement that is made must be the right one.
pub fn is_same_origin(headers: &HeaderMap, authority: &str) -> bool {
    let mut origins = headers.get_all(ORIGIN).into_iter();
    let is_ours =
        |origin: &HeaderValue| origin.to_str().is_ok_and(|origin| names(origin, authority));
    let site = headers.get("sec-fetch-site");
    let is_right_site = site.is_none_or(|site| site == "same-origin" || site == "none");
    is_right_site && origins.all(is_ours)
}

/// Whether a request says that a page of the same origin made it, and nothing that speaks against it.
pub(super) fn says_same_origin(headers: &HeaderMap, authority: &str) -> bool {
    let is_said = headers.contains_key(ORIGIN)
        || headers
            .get("sec-fetch-site")
            .is_some_and(|site| site == "same-origin");
    is_said && is_same_origin(headers, authority)
}

/// As [`is_same_origin`], for what a link can do: any site causes a GET, and older browsers do not tell which one. So it has
/// to be said.
pub fn is_from_here(method: &Method, headers: &HeaderMap, authority: &str) -> bool {
    let is_link = matches!(*method, Method::GET | Method::HEAD);
    is_same_origin(headers, authority) && (!is_link || headers.contains_key("sec-fetch-site"))
}

/// Whether a script of another origin asks.
pub(super) fn is_from_elsewhere(headers: &HeaderMap, authority: &str) -> bool {
    let origin = headers.get(ORIGIN);
    origin.is_some_and(|origin| !origin.to_str().is_ok_and(|origin| names(origin, authority)))
}

/// The page that a request was made from, as far as a login may lead back there; this host's first page where nothing
/// says so.
pub(super) fn page_of(
    headers: &HeaderMap,
    authority: &str,
    serves: &dyn Fn(&str, Option<u16>) -> bool,
) -> ReturnTo {
    let referer = headers
        .get(REFERER)
        .and_then(|referer| referer.to_str().ok())
        .unwrap_or_default();
    let path = referer.strip_prefix("https://").and_then(|rest| {
        let (named, _) = rest.split_once('/')?;
        let is_ours = names(referer.get(.."https://".len() + named.len())?, authority);
        is_ours.then(|| rest.get(named.len()..)).flatten()
    });
    ReturnTo::parse(path.unwrap_or(referer), serves).unwrap_or_default()
}

/// Whether an origin is `https` at this authority; the default port may be there or not.
fn names(origin: &str, authority: &str) -> bool {
    let bare = |text: &str| {
        text.strip_suffix(":443")
            .unwrap_or(text)
            .to_ascii_lowercase()
    };
    let host = origin.strip_prefix("https://");
    host.is_some_and(|host| bare(host) == bare(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(fields: &[(&'static str, &'static str)], authority: &str) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        is_same_origin(&headers, authority)
    }

    #[test]
    fn only_our_own_pages_count() {
        for (fields, expected) in [
            (&[][..], true),
            (&[("origin", "https://a.example:8443")], true),
            (&[("origin", "https://A.example:8443")], true),
            (
                &[
                    ("origin", "https://a.example:8443"),
                    ("sec-fetch-site", "same-origin"),
                ],
                true,
            ),
            (&[("sec-fetch-site", "none")], true),
            (&[("origin", "null")], false),
            (&[("origin", "http://a.example:8443")], false),
            (&[("origin", "https://a.example")], false),
            (&[("origin", "https://a.example:8443.evil.example")], false),
            (&[("origin", "https://evil.example")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (
                &[
                    ("origin", "https://a.example:8443"),
                    ("origin", "https://evil.example"),
                ],
                false,
            ),
            (
                &[
                    ("origin", "https://a.example:8443"),
                    ("sec-fetch-site", "cross-site"),
                ],
                false,
            ),
        ] {
            assert_eq!(same(fields, "a.example:8443"), expected, "{fields:?}");
        }
        assert!(same(&[("origin", "https://a.example")], "a.example:443"));
    }
}
