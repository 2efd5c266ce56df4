//! The session's cookie on the wire: found in a request, taken out of what goes on, set and cleared (R2). Of HTTP it
//! knows header fields only; what a value is worth others decide.

use std::time::Duration;

use cookie::{Cookie, SameSite};
use http::header::{COOKIE, HeaderMap, HeaderValue};

/// How many cookies of one name are looked at. Browsers hold one per path and domain; more is somebody's game.
const MAX_CANDIDATES: usize = 4;

/// What a browser keeps of one cookie, name and value together.
const MAX_LEN: usize = 4096;

/// A cookie's name with its prefix, and the domain that shares it where that is not one host alone.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct CookieName {
    name: String,
    domain: Option<String>,
}

impl CookieName {
    /// `base` is a token (RFC 9110 section 5.6.2) without a prefix of its own. It becomes `__Host-base`, or
    /// `__Secure-base` for a `domain`, which is a name of two or more labels.
    pub fn new(base: &str, domain: Option<&str>) -> Option<Self> {
        let fits = (1..=64).contains(&base.len())
            && !base.starts_with("__")
            && base.bytes().all(is_token_byte);
        if !fits {
            return None;
        }
        let domain = match domain {
            Some(domain) => Some(domain_name(domain)?),
            None => None,
        };
        let prefix = if domain.is_some() {
            "__Secure-"
        } else {
            "__Host-"
        };
        let name = format!("{prefix}{base}");
        Some(Self { name, domain })
    }

    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Its name without the prefix.
    pub fn base(&self) -> &str {
        let name = self.name.as_str();
        let prefixes = ["__Host-", "__Secure-"].into_iter();
        let mut bare = prefixes.filter_map(|prefix| name.strip_prefix(prefix));
        bare.next().unwrap_or(name)
    }

    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Looks through all `Cookie` fields (HTTP/2 sends crumbs). Names are compared octet by octet; nothing is trimmed
    /// but the one space that a browser writes after `;`, and nothing is unquoted.
    pub fn find<'h>(&self, headers: &'h HeaderMap) -> Found<'h> {
        let mut values = headers
            .get_all(COOKIE)
            .into_iter()
            .flat_map(|field| pairs(field.as_bytes()))
            .filter_map(|pair| pair.strip_prefix(self.name.as_bytes())?.strip_prefix(b"="));
        let Some(first) = values.next() else {
            return Found::None;
        };
        let Some(second) = values.next() else {
            return Found::One(first);
        };
        let mut candidates = Candidates::default();
        if self.domain.is_some() {
            let all = [first, second].into_iter().chain(values);
            for (slot, value) in candidates.0.iter_mut().zip(all) {
                *slot = Some(value);
            }
        }
        Found::Several(candidates)
    }

    /// Whether a browser keeps a value of this length.
    pub fn holds(&self, value: &str) -> bool {
        self.name.len() + value.len() <= MAX_LEN
    }

    /// A `Set-Cookie` that gives the browser `value`; without `max_age` for as long as it runs. A value that is not
    /// made of cookie octets (RFC 6265 section 4.1.1), or longer than a browser keeps, is sent as none.
    pub fn set_cookie(&self, value: &str, max_age: Option<Duration>) -> HeaderValue {
        let fits = value.bytes().all(is_cookie_octet) && self.holds(value);
        let mut cookie = Cookie::new(self.name.as_str(), if fits { value } else { "" });
        cookie.set_secure(true);
        cookie.set_http_only(true);
        cookie.set_same_site(SameSite::Lax);
        cookie.set_path("/");
        if let Some(domain) = &self.domain {
            cookie.set_domain(domain.as_str());
        }
        if let Some(span) = max_age {
            let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
            cookie.set_max_age(cookie::time::Duration::seconds(seconds));
        }
        sensitive(cookie.to_string())
    }

    /// A `Set-Cookie` that makes the browser forget; its attributes are those of [`CookieName::set_cookie`], or the
    /// browser would take it for another cookie.
    pub fn clear(&self) -> HeaderValue {
        self.set_cookie("", Some(Duration::ZERO))
    }
}

impl AsRef<str> for CookieName {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

impl Default for CookieName {
    fn default() -> Self {
        Self {
            name: "__Host-sid".to_owned(),
            domain: None,
        }
    }
}

/// What a request's cookies say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found<'h> {
    None,
    One(&'h [u8]),
    /// Two or more. For a `__Host-` name that is cookie tossing and none is a candidate; a cookie for a wider domain
    /// may have been set at several places.
    Several(Candidates<'h>),
}

/// Values of which the one that verifies counts, in the order they came.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Candidates<'h>([Option<&'h [u8]>; MAX_CANDIDATES]);

impl<'h> Candidates<'h> {
    pub fn iter(self) -> impl Iterator<Item = &'h [u8]> {
        self.0.into_iter().flatten()
    }
}

/// Takes the cookies of these names out of a request. It is liberal in what it takes, since who reads the request next
/// may be liberal too: names in any case, with space around them, or behind a stray `=`. What is left of several
/// fields becomes one (RFC 9113 section 8.2.3). Allocates only where something is left beside ours, or in crumbs.
pub fn remove_cookies(headers: &mut HeaderMap, names: &[impl AsRef<str>]) {
    let mut fields = headers.get_all(COOKIE).into_iter();
    let Some(first) = fields.next() else {
        return;
    };
    let is_alone = fields.next().is_none();
    if is_alone && !pairs(first.as_bytes()).any(|pair| is_ours(pair, names)) {
        return;
    }
    let mut left: Vec<u8> = Vec::new();
    let all = headers
        .get_all(COOKIE)
        .into_iter()
        .flat_map(|field| pairs(field.as_bytes()));
    for pair in all.filter(|pair| !pair.trim_ascii().is_empty() && !is_ours(pair, names)) {
        if left.is_empty() {
            left.reserve(first.len());
        } else {
            left.extend_from_slice(b"; ");
        }
        left.extend_from_slice(pair);
    }
    if left.is_empty() {
        headers.remove(COOKIE);
    } else {
        headers.insert(COOKIE, sensitive(left));
    }
}

/// Whether a `Set-Cookie` value, or one pair of a `Cookie` value, sets a cookie of one of these names, as the most
/// liberal reader would see it: in any case, with space around it, or as a cookie without name (`=__Host-sid=…`),
/// which comes back without its first `=`.
pub fn is_ours(cookie: &[u8], names: &[impl AsRef<str>]) -> bool {
    let is_filler = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'=';
    let pair = cookie
        .split(|&byte| byte == b';')
        .next()
        .unwrap_or_default();
    let start = pair
        .iter()
        .position(|byte| !is_filler(byte))
        .unwrap_or(pair.len());
    let cookie = pair.get(start..).unwrap_or_default();
    let name = cookie
        .split(|&byte| byte == b'=')
        .next()
        .unwrap_or_default()
        .trim_ascii_end();
    names
        .iter()
        .any(|ours| ours.as_ref().as_bytes().eq_ignore_ascii_case(name))
}

/// The pairs of one `Cookie` value, each without the one space that follows its `;`.
fn pairs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut is_first = true;
    field.split(|&byte| byte == b';').map(move |pair| {
        let follows = !std::mem::take(&mut is_first);
        let spaced = if follows {
            pair.strip_prefix(b" ")
        } else {
            None
        };
        spaced.unwrap_or(pair)
    })
}

/// A value that is neither shown in logs nor kept in HTTP/2's compression table.
fn sensitive(bytes: impl Into<bytes::Bytes>) -> HeaderValue {
    let empty = HeaderValue::from_static("");
    let mut value = HeaderValue::from_maybe_shared(bytes.into()).unwrap_or(empty);
    value.set_sensitive(true);
    value
}

fn domain_name(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let is_name = text.len() <= 253 && text.contains('.') && text.split('.').all(label);
    // An address is no domain: no name ends in a label of digits.
    let is_address = text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    (is_name && !is_address).then_some(text)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_cookie_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(fields: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_bytes(field).unwrap());
        }
        headers
    }

    fn shared() -> CookieName {
        CookieName::new("sid", Some("example.com")).unwrap()
    }

    fn left(fields: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut headers = request(fields);
        remove_cookies(&mut headers, &["__Host-sid", "__Host-login"]);
        headers
            .get_all(COOKIE)
            .iter()
            .map(|value| value.as_bytes().to_vec())
            .collect()
    }

    #[test]
    fn the_prefix_says_how_far_a_cookie_reaches() {
        assert_eq!(CookieName::default(), CookieName::new("sid", None).unwrap());
        assert_eq!(CookieName::default().as_str(), "__Host-sid");
        assert_eq!(shared().as_str(), "__Secure-sid");
        assert_eq!(CookieName::new("sid", Some("Example.COM")), Some(shared()));
    }

    #[test]
    fn names_and_domains_that_browsers_would_not_keep_are_refused() {
        for base in [
            "",
            "a b",
            "a=b",
            "a;b",
            "a,b",
            "\u{e9}",
            "__Host-sid",
            "__http-x",
            &"a".repeat(65),
        ] {
            assert_eq!(CookieName::new(base, None), None, "{base:?}");
        }
        for domain in [
            "",
            "com",
            ".example.com",
            "example.com.",
            "a..b",
            "127.0.0.1",
            "[::1]",
            "a.b;c",
            "a b.c",
            "*.a.b",
            "a.b:1",
        ] {
            assert_eq!(CookieName::new("sid", Some(domain)), None, "{domain:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        for fields in [
            &[b"__Host-sid=TOKEN".as_slice()][..],
            &[b"a=1; __Host-sid=TOKEN; b=2"],
            &[b"a=1;__Host-sid=TOKEN"],
            &[b"a=1", b"__Host-sid=TOKEN", b"b=2"],
            &[b"=; ;; junk; \xff=\xfe; __Host-sid=TOKEN"],
        ] {
            let headers = request(fields);
            assert_eq!(
                CookieName::default().find(&headers),
                Found::One(b"TOKEN"),
                "{fields:?}"
            );
        }
    }

    #[test]
    fn a_value_is_taken_as_it_stands() {
        for (field, value) in [
            (b"__Host-sid=".as_slice(), b"".as_slice()),
            (b"__Host-sid=\"T\"", b"\"T\""),
            (b"__Host-sid= T ; a=b", b" T "),
            (b"__Host-sid=T==", b"T=="),
            (b"__Host-sid=%54", b"%54"),
        ] {
            let headers = request(&[field]);
            assert_eq!(
                CookieName::default().find(&headers),
                Found::One(value),
                "{field:?}"
            );
        }
    }

    #[test]
    fn near_names_are_other_cookies() {
        for field in [
            b"__host-sid=T".as_slice(),
            b" __Host-sid=T",
            b"a=1;  __Host-sid=T",
            b"a=1;\t__Host-sid=T",
            b"__Host-sid =T",
            b"=__Host-sid=T",
            b"\"__Host-sid\"=T",
            b"__Host-sid2=T",
            b"x__Host-sid=T",
            b"__Host-sid",
            b"__Host%2dsid=T",
            b"a=1, __Host-sid=T",
            b"__Secure-sid=T",
            b"a=\"; __Host-sidx=T\"",
        ] {
            let headers = request(&[field]);
            assert_eq!(
                CookieName::default().find(&headers),
                Found::None,
                "{field:?}"
            );
        }
        assert_eq!(CookieName::default().find(&HeaderMap::new()), Found::None);
    }

    #[test]
    fn of_two_host_cookies_none_counts() {
        for fields in [
            &[b"__Host-sid=A; __Host-sid=B".as_slice()][..],
            &[b"__Host-sid=A; x=1; __Host-sid=A"],
            &[b"__Host-sid=A", b"__Host-sid=B"],
            &[b"__Host-sid=A; __Host-sid="],
        ] {
            let headers = request(fields);
            let Found::Several(candidates) = CookieName::default().find(&headers) else {
                panic!("{fields:?}");
            };
            assert_eq!(candidates.iter().count(), 0, "{fields:?}");
        }
    }

    #[test]
    fn of_several_domain_cookies_the_first_four_are_candidates() {
        let headers = request(&[b"__Secure-sid=A; x=1; __Secure-sid=B", b"__Secure-sid=C"]);
        let Found::Several(candidates) = shared().find(&headers) else {
            panic!("several were sent");
        };
        assert_eq!(candidates.iter().collect::<Vec<_>>(), [b"A", b"B", b"C"]);
        let headers = request(&[&b"__Secure-sid=A; ".repeat(100)]);
        let Found::Several(candidates) = shared().find(&headers) else {
            panic!("several were sent");
        };
        assert_eq!(candidates.iter().count(), 4);
    }

    #[test]
    fn our_cookies_do_not_reach_the_upstream() {
        for (fields, expected) in [
            (&[b"__Host-sid=T".as_slice()][..], &[][..]),
            (&[b"__Host-sid=T; __Host-login=L"], &[]),
            (&[b"__Host-sid=T", b"__Host-sid=U"], &[]),
            (&[b"a=1; __Host-sid=T; b=2"], &[b"a=1; b=2".as_slice()]),
            (&[b"__Host-sid=T; a=\"1; b=\xff"], &[b"a=\"1; b=\xff"]),
            (&[b"a=1", b"__Host-sid=T", b"b=2; c=3"], &[b"a=1; b=2; c=3"]),
            (&[b"a=1", b"b=2"], &[b"a=1; b=2"]),
            (&[b"a=1;; b=2;"], &[b"a=1;; b=2;"]),
            (&[b"a=1;;__host-SID=T; b=2;"], &[b"a=1; b=2"]),
            (&[b" \t__Host-sid\t =T; a=1"], &[b"a=1"]),
            (&[b"a=1;\t__Host-sid=T"], &[b"a=1"]),
            (&[b"=__Host-sid=T; a=1"], &[b"a=1"]),
            (&[b" = =__Host-sid=T; a=1"], &[b"a=1"]),
            (&[b"__Host-sid; a=1"], &[b"a=1"]),
            (
                &[b"__Host-sidx=T; x__Host-sid=T"],
                &[b"__Host-sidx=T; x__Host-sid=T"],
            ),
            (&[], &[]),
        ] {
            assert_eq!(left(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_request_without_our_cookies_keeps_its_field_as_it_was() {
        let mut headers = request(&[b"a=1;b=2 ; c"]);
        let before = headers.get(COOKIE).unwrap().as_bytes().as_ptr();
        remove_cookies(&mut headers, &["__Host-sid"]);
        assert_eq!(headers.get(COOKIE).unwrap().as_bytes().as_ptr(), before);
    }

    #[test]
    fn an_upstream_cannot_set_our_cookies() {
        let names = [CookieName::default()];
        for ours in [
            b"__Host-sid=evil; Path=/; Secure".as_slice(),
            b"__Host-sid=",
            b"__Host-sid",
            b"__host-SID=evil",
            b"  __Host-sid\t=evil",
            b"=__Host-sid=evil; Path=/",
            b" = __Host-sid=evil",
        ] {
            assert!(is_ours(ours, &names), "{ours:?}");
        }
        for theirs in [
            b"__Host-sid2=x".as_slice(),
            b"sid=x",
            b"a=__Host-sid; Path=/",
            b"a=b; __Host-sid=x",
            b"",
            b"=",
            b"\xff=\xff",
        ] {
            assert!(!is_ours(theirs, &names), "{theirs:?}");
        }
    }

    #[test]
    fn a_session_cookie_has_every_attribute_and_no_other() {
        for (value, expected) in [
            (
                CookieName::default().set_cookie("T-_9", None),
                "__Host-sid=T-_9; HttpOnly; SameSite=Lax; Secure; Path=/",
            ),
            (
                CookieName::default().set_cookie("T", Some(Duration::from_mins(10))),
                "__Host-sid=T; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=600",
            ),
            (
                shared().set_cookie("T", None),
                "__Secure-sid=T; HttpOnly; SameSite=Lax; Secure; Path=/; Domain=example.com",
            ),
            (
                CookieName::default().clear(),
                "__Host-sid=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0",
            ),
            (
                shared().clear(),
                "__Secure-sid=; HttpOnly; SameSite=Lax; Secure; Path=/; Domain=example.com; Max-Age=0",
            ),
        ] {
            assert_eq!(value, expected);
            assert!(value.is_sensitive());
        }
    }

    #[test]
    fn a_value_cannot_bring_attributes_along() {
        let empty = CookieName::default().set_cookie("", None);
        for bad in [
            "T; Domain=evil.example",
            "T\r\nX: y",
            "T,U",
            "T U",
            "\"T\"",
            "\u{e9}",
            "T\\",
            &"a".repeat(4096),
        ] {
            assert_eq!(
                CookieName::default().set_cookie(bad, None),
                empty,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_cookie_is_not_shown_in_a_log() {
        let mut headers = request(&[b"__Host-sid=T; a=secret"]);
        remove_cookies(&mut headers, &["__Host-sid"]);
        assert!(!format!("{headers:?}").contains("secret"));
        assert!(
            !format!("{:?}", CookieName::default().set_cookie("SECRET", None)).contains("SECRET")
        );
    }

    fn any_fields() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let pieces = [
            "__Host-sid",
            "__host-sid",
            "__Host-login",
            "=",
            ";",
            "; ",
            " ",
            "\t",
            "a",
            "b=2",
            "x__Host-sid",
            "\"",
        ];
        let field = prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..10);
        prop::collection::vec(field.prop_map(|pieces| pieces.concat().into_bytes()), 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn after_removal_nothing_is_found_and_nothing_is_left_to_remove(fields in any_fields()) {
            let names = [CookieName::default()];
            let mut headers = HeaderMap::new();
            for field in &fields {
                headers.append(COOKIE, HeaderValue::from_bytes(field).unwrap());
            }
            remove_cookies(&mut headers, &names);
            prop_assert_eq!(names[0].find(&headers), Found::None);
            let once = headers.clone();
            prop_assert!(once.get_all(COOKIE).iter().count() <= 1);
            remove_cookies(&mut headers, &names);
            prop_assert_eq!(headers, once);
        }

        #[test]
        fn what_is_not_ours_is_kept_in_order(fields in any_fields()) {
            let names = ["__Host-sid"];
            let mut headers = HeaderMap::new();
            for field in &fields {
                headers.append(COOKIE, HeaderValue::from_bytes(field).unwrap());
            }
            let theirs = |headers: &HeaderMap| -> Vec<Vec<u8>> {
                let all = headers.get_all(COOKIE).into_iter().flat_map(|field| pairs(field.as_bytes()));
                let kept = all.filter(|pair| !is_ours(pair, &names) && !pair.trim_ascii().is_empty());
                kept.map(<[u8]>::to_vec).collect()
            };
            let before = theirs(&headers);
            remove_cookies(&mut headers, &names);
            prop_assert_eq!(theirs(&headers), before);
        }
    }
}
