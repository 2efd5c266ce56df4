//! What caches may keep of an answer that was made for somebody who is logged in: no page, so that nobody finds it there
//! after the logout, and all else only in that person's own browser. Knows the route's rule and the answer's header.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use crate::routing::Caching;

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const PRIVATE: HeaderValue = HeaderValue::from_static("private");

/// Makes `Cache-Control` as strict as the route asks for. What the app says more strictly stays.
pub(super) fn restrict<B>(response: &mut Response<B>, rule: Caching) {
    let status = response.status();
    let headers = response.headers_mut();
    match rule {
        Caching::App => {}
        Caching::Assets if is_page(status, headers) => no_store(headers),
        Caching::Assets | Caching::Private => at_least_private(headers),
    }
}

/// HTML, or what a browser may take for it. An answer that says nothing has changed has no type, and a page that was
/// never stored is not asked about.
fn is_page(status: StatusCode, headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else {
        return status != StatusCode::NOT_MODIFIED;
    };
    let kind = kind.as_bytes().split(|&byte| byte == b';').next();
    let kind = kind.unwrap_or_default().trim_ascii();
    [b"text/html".as_slice(), b"application/xhtml+xml"]
        .iter()
        .any(|page| kind.eq_ignore_ascii_case(page))
}

fn no_store(headers: &mut HeaderMap) {
    if !says_plainly(headers, "no-store") {
        headers.insert(CACHE_CONTROL, NO_STORE);
    }
}

fn at_least_private(headers: &mut HeaderMap) {
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, PRIVATE);
    } else if says(headers, &["public", "s-maxage"]) {
        let kept = without_shared(headers);
        headers.insert(CACHE_CONTROL, kept);
    } else if !says_plainly(headers, "no-store") && !says_plainly(headers, "private") {
        headers.append(CACHE_CONTROL, PRIVATE);
    }
}

/// The directives but for those that speak to caches that many people share.
fn without_shared(headers: &HeaderMap) -> HeaderValue {
    let kept = directives(headers.get_all(CACHE_CONTROL).into_iter())
        .filter(|directive| !is_one_of(directive, &["public", "s-maxage", "private"]));
    let mut text = b"private".to_vec();
    for directive in kept {
        text.extend_from_slice(b", ");
        text.extend_from_slice(directive);
    }
    HeaderValue::from_bytes(&text).unwrap_or(PRIVATE)
}

fn says(headers: &HeaderMap, names: &[&str]) -> bool {
    let mut all = directives(headers.get_all(CACHE_CONTROL).into_iter());
    all.any(|directive| is_one_of(directive, names))
}

/// Whether the app is as strict as that. `private="Set-Cookie"` is about one field alone, and in a field with quotes
/// nothing counts, since what stands within them is no directive.
fn says_plainly(headers: &HeaderMap, name: &str) -> bool {
    let fields = headers.get_all(CACHE_CONTROL).into_iter();
    let plain = fields.filter(|field| !field.as_bytes().contains(&b'"'));
    directives(plain).any(|directive| is_one_of(directive, &[name]))
}

/// A name alone, or one with a value where it always has one.
fn is_one_of(directive: &[u8], names: &[&str]) -> bool {
    let mut parts = directive.splitn(2, |&byte| byte == b'=');
    let name = parts.next().unwrap_or_default().trim_ascii();
    let is_bare = parts.next().is_none();
    names.iter().any(|known| {
        name.eq_ignore_ascii_case(known.as_bytes()) && (is_bare || *known == "s-maxage")
    })
}

fn directives<'h>(fields: impl Iterator<Item = &'h HeaderValue>) -> impl Iterator<Item = &'h [u8]> {
    let parts = fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b','));
    parts
        .map(<[u8]>::trim_ascii)
        .filter(|directive| !directive.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restricted(rule: Caching, kind: &str, said: &[&'static str]) -> Vec<String> {
        let mut response = Response::new(());
        let headers = response.headers_mut();
        if !kind.is_empty() {
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
        }
        for value in said {
            headers.append(CACHE_CONTROL, HeaderValue::from_static(value));
        }
        restrict(&mut response, rule);
        let fields = response.headers().get_all(CACHE_CONTROL).iter();
        fields
            .map(|field| field.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn no_page_is_kept_whatever_the_app_says() {
        for kind in [
            "text/html",
            "Text/HTML; charset=utf-8",
            "text/html;charset=utf-8",
            "application/xhtml+xml",
            "",
        ] {
            for said in [
                &[][..],
                &["public, max-age=600"],
                &["private, no-cache", "max-age=0"],
                &["private=\"x, no-store, y\""],
                &["no-store=\"x\""],
            ] {
                let kept = restricted(Caching::Assets, kind, said);
                assert_eq!(kept, ["no-store"], "{kind:?} {said:?}");
            }
            let stricter = &["private, No-Store, max-age=0"];
            assert_eq!(restricted(Caching::Assets, kind, stricter), *stricter);
        }
    }

    #[test]
    fn assets_are_kept_by_ones_own_browser_alone() {
        for (said, expected) in [
            (&[][..], &["private"][..]),
            (&["max-age=600"], &["max-age=600", "private"]),
            (&["no-cache"], &["no-cache", "private"]),
            (&["private, max-age=600"], &["private, max-age=600"]),
            (&["no-store"], &["no-store"]),
            (
                &["public, max-age=600, immutable"],
                &["private, max-age=600, immutable"],
            ),
            (&["max-age=5", "S-MaxAge=600"], &["private, max-age=5"]),
            (&["PUBLIC"], &["private"]),
            (&["public, private"], &["private"]),
            (
                &["private=\"set-cookie\""],
                &["private=\"set-cookie\"", "private"],
            ),
            (
                &["no-cache=\"a, private, b\""],
                &["no-cache=\"a, private, b\"", "private"],
            ),
            (
                &["publicity, x-public=1"],
                &["publicity, x-public=1", "private"],
            ),
        ] {
            for kind in [
                "text/css",
                "application/json",
                "text/htmlx",
                "text/event-stream",
            ] {
                let kept = restricted(Caching::Assets, kind, said);
                assert_eq!(kept, expected, "{kind} {said:?}");
            }
            assert_eq!(restricted(Caching::Private, "text/html", said), expected);
        }
    }

    #[test]
    fn an_app_may_be_left_to_itself() {
        let said = ["public, max-age=600"];
        assert_eq!(restricted(Caching::App, "text/html", &said), said);
        assert!(restricted(Caching::App, "text/html", &[]).is_empty());
    }

    #[test]
    fn what_has_not_changed_is_no_page() {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        restrict(&mut response, Caching::Assets);
        assert_eq!(response.headers()[CACHE_CONTROL], "private");
    }
}
