//! One reading of a request's path, made once: what the rules match is what the upstream gets (R15). It refuses what
//! no honest client sends, and names what programs read differently. It knows no route.

use std::borrow::Cow;

use crate::routing::Oddity;

/// The longest path that is looked at, in bytes.
pub const MAX_LEN: usize = 8 * 1024;

/// A path in canonical form, and what in it other programs may read differently.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NormalPath<'a> {
    text: Cow<'a, str>,
    oddities: Oddities,
}

impl NormalPath<'_> {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The request was in canonical form already.
    pub const fn is_as_written(&self) -> bool {
        matches!(self.text, Cow::Borrowed(_))
    }

    /// What the canonical form holds; a route has to allow each.
    pub const fn oddities(&self) -> Oddities {
        self.oddities
    }
}

/// Why a path has no one reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PathError {
    #[error("a path that climbs above the root")]
    AboveRoot,
    #[error("a control character in the path")]
    Control,
    #[error("an escape in the path that is not `%` and two hex digits")]
    Escape,
    #[error("bytes in the path that no text in UTF-8 has")]
    Overlong,
    #[error("a path that does not start with a slash")]
    Relative,
    #[error("a path of more than 8 KiB")]
    TooLong,
}

/// A set of [`Oddity`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Oddities(u8);

impl Oddities {
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub const fn contains(self, oddity: Oddity) -> bool {
        self.0 & (1 << oddity as u8) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Oddity> {
        Oddity::ALL
            .into_iter()
            .filter(move |&oddity| self.contains(oddity))
    }

    const fn insert(&mut self, oddity: Oddity) {
        self.0 |= 1 << oddity as u8;
    }
}

/// Brings a path (without query) to its canonical form: unreserved characters decoded, other escapes in upper case,
/// what RFC 3986 does not allow in a path encoded, dot segments removed (section 5.2.4; climbing above the root is
/// refused, not clamped). Canonical paths are borrowed, without allocation.
pub fn normalise(raw: &str) -> Result<NormalPath<'_>, PathError> {
    if !raw.starts_with('/') {
        return Err(PathError::Relative);
    }
    if raw.len() > MAX_LEN {
        return Err(PathError::TooLong);
    }
    let seen = scan(raw.as_bytes())?;
    if seen.canonical {
        let text = Cow::Borrowed(raw);
        return Ok(NormalPath {
            text,
            oddities: seen.oddities,
        });
    }
    let text = rewrite(raw)?;
    if text.len() > MAX_LEN {
        return Err(PathError::TooLong);
    }
    // Decoding can complete what was hidden before (`%25%34%31`), and a removed segment takes its oddities along.
    // Only what is sent on counts.
    let oddities = scan(text.as_bytes())?.oddities;
    Ok(NormalPath {
        text: Cow::Owned(text),
        oddities,
    })
}

/// What the least careful server makes of a path: it decodes twice, takes `\` for `/`, cuts `;` and what follows off
/// each segment, drops empty segments and resolves dots. Where this leads to another route than the canonical form,
/// the request must not pass, whatever its route allows.
pub fn plain_view(path: &str) -> String {
    let decode = |bytes: &[u8]| percent_encoding::percent_decode(bytes).collect::<Vec<u8>>();
    let bytes = decode(&decode(path.as_bytes()));
    let mut view: Vec<&[u8]> = Vec::new();
    let mut open = true;
    for segment in bytes.split(|&byte| byte == b'/' || byte == b'\\') {
        let name = segment
            .split(|&byte| byte == b';')
            .next()
            .unwrap_or_default();
        open = matches!(name, b"" | b"." | b"..");
        match name {
            b"" | b"." => {}
            b".." => drop(view.pop()),
            name => view.push(name),
        }
    }
    let mut text = String::from("/");
    text.push_str(&String::from_utf8_lossy(&view.join(&b'/')));
    if open && text.len() > 1 {
        text.push('/');
    }
    text
}

/// What a byte means in a path.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Class {
    Backslash,
    Control,
    /// Allowed only as an escape.
    Encode,
    Percent,
    Plain,
    Semicolon,
    Slash,
}

static CLASSES: [Class; 256] = classes();

#[expect(
    clippy::indexing_slicing,
    reason = "the table has an entry for every byte"
)]
const fn classes() -> [Class; 256] {
    let mut table = [Class::Encode; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = match byte {
            0..=0x1f | 0x7f => Class::Control,
            b'/' => Class::Slash,
            b'%' => Class::Percent,
            b';' => Class::Semicolon,
            b'\\' => Class::Backslash,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => {
                Class::Plain
            }
            byte if is_unreserved(byte) => Class::Plain,
            _ => Class::Encode,
        };
        if byte == u8::MAX {
            return table;
        }
        byte += 1;
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "the table has an entry for every byte"
)]
fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

/// RFC 3986 section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What one look at a path found.
struct Scan {
    canonical: bool,
    oddities: Oddities,
}

fn scan(path: &[u8]) -> Result<Scan, PathError> {
    let mut seen = Scan {
        canonical: true,
        oddities: Oddities::default(),
    };
    let mut rest = path.iter();
    while let Some(&byte) = rest.next() {
        match class(byte) {
            Class::Plain => {}
            Class::Slash => match rest.as_slice() {
                [b'/', ..] => seen.oddities.insert(Oddity::EmptySegment),
                [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..] => {
                    seen.canonical = false;
                }
                _ => {}
            },
            Class::Percent => {
                seen.escape(rest.as_slice())?;
                rest.nth(1);
            }
            Class::Semicolon => seen.oddities.insert(Oddity::Semicolon),
            Class::Backslash => {
                seen.oddities.insert(Oddity::Backslash);
                seen.canonical = false;
            }
            Class::Encode => seen.canonical = false,
            Class::Control => return Err(PathError::Control),
        }
    }
    Ok(seen)
}

impl Scan {
    /// Judges one escape by what follows its `%`.
    fn escape(&mut self, after: &[u8]) -> Result<(), PathError> {
        let (value, next) = hex_pair(after).ok_or(PathError::Escape)?;
        let next_escape = || hex_pair(next.strip_prefix(b"%")?).map(|(value, _)| value);
        match value {
            0..=0x1f | 0x7f => return Err(PathError::Control),
            b'/' => self.oddities.insert(Oddity::EncodedSlash),
            b'\\' => self.oddities.insert(Oddity::Backslash),
            b';' => self.oddities.insert(Oddity::Semicolon),
            b'%' if hex_pair(next).is_some() => self.oddities.insert(Oddity::DoubleEncoding),
            // Second spellings of characters (RFC 3629 section 3): a decoder that takes them sees `/` where we do not.
            0xc0 | 0xc1 | 0xf5..=0xff => return Err(PathError::Overlong),
            0xe0 if matches!(next_escape(), Some(0x80..=0x9f)) => return Err(PathError::Overlong),
            0xf0 if matches!(next_escape(), Some(0x80..=0x8f)) => return Err(PathError::Overlong),
            _ => {}
        }
        let lower = after.iter().take(2).any(u8::is_ascii_lowercase);
        self.canonical &= !lower && !is_unreserved(value);
        Ok(())
    }
}

/// The value of two hex digits, and what follows them.
fn hex_pair(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, next @ ..] = bytes else {
        return None;
    };
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    Some((digit(*high)? << 4 | digit(*low)?, next))
}

/// Writes the canonical form of a path that [`scan`] let pass.
fn rewrite(raw: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(raw.len() + 16);
    out.push('/');
    let mut segments = raw.strip_prefix('/').unwrap_or(raw).split('/').peekable();
    while let Some(segment) = segments.next() {
        let start = out.len();
        push_segment(&mut out, segment.as_bytes());
        match out.get(start..) {
            Some(".") => out.truncate(start),
            Some("..") => {
                out.truncate(start - 1);
                let parent = out.rfind('/').ok_or(PathError::AboveRoot)?;
                out.truncate(parent + 1);
            }
            _ if segments.peek().is_some() => out.push('/'),
            _ => {}
        }
    }
    Ok(out)
}

fn push_segment(out: &mut String, segment: &[u8]) {
    let mut rest = segment.iter();
    while let Some(&byte) = rest.next() {
        match class(byte) {
            Class::Plain | Class::Semicolon | Class::Slash => out.push(char::from(byte)),
            Class::Percent => {
                let value = hex_pair(rest.as_slice()).map_or(b'%', |(value, _)| value);
                rest.nth(1);
                if is_unreserved(value) {
                    out.push(char::from(value));
                } else {
                    push_escape(out, value);
                }
            }
            Class::Backslash | Class::Control | Class::Encode => push_escape(out, byte),
        }
    }
}

fn push_escape(out: &mut String, byte: u8) {
    out.push_str(percent_encoding::percent_encode_byte(byte));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(raw: &str) -> String {
        normalise(raw)
            .unwrap_or_else(|error| panic!("{raw:?}: {error}"))
            .as_str()
            .to_owned()
    }

    fn oddities(raw: &str) -> Vec<Oddity> {
        normalise(raw).unwrap().oddities().iter().collect()
    }

    #[test]
    fn a_canonical_path_is_borrowed() {
        for raw in [
            "/",
            "/app/main.js",
            "/.well-known/x",
            "/..a/.b/c..",
            "/a%20b/%C3%A9",
            "/a/",
            "/~user/a-b_c.d!$&'()*+,=:@",
            "/...",
            "/%E9t%E9",
            "/100%25",
        ] {
            let path = normalise(raw).unwrap();
            assert!(matches!(path.text, Cow::Borrowed(_)), "{raw:?}");
            assert_eq!(path.as_str(), raw);
            assert!(path.oddities().is_empty(), "{raw:?}");
        }
    }

    #[test]
    fn spellings_of_one_path_become_one() {
        for (raw, expected) in [
            ("/%61dmin", "/admin"),
            ("/%7euser", "/~user"),
            ("/a%2db%2Ec%5F", "/a-b.c_"),
            ("/%c3%a9", "/%C3%A9"),
            ("/\u{e9}", "/%C3%A9"),
            (
                "/a b\"<>^`{|}[]#?",
                "/a%20b%22%3C%3E%5E%60%7B%7C%7D%5B%5D%23%3F",
            ),
            ("/public/../admin", "/admin"),
            ("/public/%2e%2e/admin", "/admin"),
            ("/public/.%2E/admin", "/admin"),
            ("/a/./b", "/a/b"),
            ("/a/%2e/b", "/a/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/a/..", "/"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a//../b", "/a/b"),
            ("/mid/content=5/../6", "/mid/6"),
        ] {
            assert_eq!(text(raw), expected, "{raw:?}");
        }
    }

    #[test]
    fn what_no_honest_client_sends_is_refused() {
        for (raw, expected) in [
            ("", PathError::Relative),
            ("admin", PathError::Relative),
            ("*", PathError::Relative),
            ("%2Fadmin", PathError::Relative),
            ("/..", PathError::AboveRoot),
            ("/../etc/passwd", PathError::AboveRoot),
            ("/a/../../b", PathError::AboveRoot),
            ("/%2e%2e/b", PathError::AboveRoot),
            ("/a\0", PathError::Control),
            ("/a\r\nb", PathError::Control),
            ("/a\tb", PathError::Control),
            ("/a\x7f", PathError::Control),
            ("/%00", PathError::Control),
            ("/a%0d%0aX: y", PathError::Control),
            ("/%1f", PathError::Control),
            ("/%7F", PathError::Control),
            ("/%", PathError::Escape),
            ("/%2", PathError::Escape),
            ("/%zz", PathError::Escape),
            ("/%u002f", PathError::Escape),
            ("/%%32%66", PathError::Escape),
            ("/%+2", PathError::Escape),
            ("/%c0%af", PathError::Overlong),
            ("/%c1%9c", PathError::Overlong),
            ("/%e0%80%af", PathError::Overlong),
            ("/%E0%9F%BF", PathError::Overlong),
            ("/%f0%80%80%af", PathError::Overlong),
            ("/%F5", PathError::Overlong),
            ("/%ff", PathError::Overlong),
        ] {
            assert_eq!(normalise(raw), Err(expected), "{raw:?}");
        }
        assert!(
            normalise("/%E0%A0%80%F0%90%80%80%ED%9F%BF").is_ok(),
            "the shortest spellings"
        );
    }

    #[test]
    fn what_programs_read_differently_is_named() {
        use Oddity::{Backslash, DoubleEncoding, EmptySegment, EncodedSlash, Semicolon};
        for (raw, expected, odd) in [
            ("//admin", "//admin", EmptySegment),
            ("/a//b", "/a//b", EmptySegment),
            ("/a//", "/a//", EmptySegment),
            ("/.//b", "//b", EmptySegment),
            ("/a%2fb", "/a%2Fb", EncodedSlash),
            ("/public/..%2fadmin", "/public/..%2Fadmin", EncodedSlash),
            ("/a\\b", "/a%5Cb", Backslash),
            ("/a%5cb", "/a%5Cb", Backslash),
            ("/public/..\\admin", "/public/..%5Cadmin", Backslash),
            ("/a;v=1/b", "/a;v=1/b", Semicolon),
            ("/public/..;/admin", "/public/..;/admin", Semicolon),
            ("/a%3bb", "/a%3Bb", Semicolon),
            ("/%252e%252e/admin", "/%252e%252e/admin", DoubleEncoding),
            ("/%25%32%65", "/%252e", DoubleEncoding),
            ("/%2541", "/%2541", DoubleEncoding),
        ] {
            assert_eq!(text(raw), expected, "{raw:?}");
            assert_eq!(oddities(raw), [odd], "{raw:?}");
        }
        assert_eq!(oddities("/a;/%2F\\//%2500").len(), Oddity::ALL.len());
    }

    #[test]
    fn only_what_is_sent_on_counts() {
        assert_eq!(text("/a;x/../b"), "/b");
        assert_eq!(oddities("/a;x/../b"), []);
    }

    #[test]
    fn length_is_bounded_before_and_after() {
        assert!(normalise(&format!("/{}", "a".repeat(MAX_LEN - 1))).is_ok());
        assert_eq!(
            normalise(&format!("/{}", "a".repeat(MAX_LEN))),
            Err(PathError::TooLong)
        );
        assert_eq!(
            normalise(&format!("/{}", "|".repeat(MAX_LEN / 2))),
            Err(PathError::TooLong)
        );
    }

    #[test]
    fn the_careless_reading_follows_every_trick() {
        for (path, view) in [
            ("/", "/"),
            ("/a/b/", "/a/b/"),
            ("/public/..%2Fadmin", "/admin"),
            ("/public/..%5Cadmin", "/admin"),
            ("/public/..;/admin", "/admin"),
            ("/public/..%3Bx/admin", "/admin"),
            ("/public/%252e%252e/admin", "/admin"),
            ("/public/..%252fadmin", "/admin"),
            ("//admin", "/admin"),
            ("/a;v=1/b;c", "/a/b"),
            ("/a/..", "/"),
            ("/../..", "/"),
            ("/a;/", "/a/"),
        ] {
            assert_eq!(plain_view(path), view, "{path:?}");
        }
    }

    /// Paths made of the pieces that attacks are made of.
    fn hostile() -> impl Strategy<Value = String> {
        let pieces = [
            "/", "/", "/", "//", ".", "..", "%2e", "%2E", "%2f", "%2F", ";", "%3b", "\\", "%5c",
            "%25", "%", "25", "2", "e", "41", "%41", "%34", "%7e", "a", "b.c", "\u{e9}", "%C3%A9",
            "%E9", "%c0", "%E0", "%80", "%00", "%zz", "\"", " ", "|", "[", "?", "#", "\0", "é",
        ];
        let pieces = prop::sample::select(pieces.to_vec());
        prop::collection::vec(pieces, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    fn decoded(path: &str) -> String {
        percent_encoding::percent_decode_str(path)
            .decode_utf8_lossy()
            .into_owned()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn a_second_look_changes_nothing(raw in hostile()) {
            if let Ok(first) = normalise(&raw) {
                let second = normalise(first.as_str()).unwrap();
                prop_assert!(matches!(second.text, Cow::Borrowed(_)));
                prop_assert_eq!(&second, &first);
            }
        }

        #[test]
        fn the_canonical_form_has_no_dot_segment_and_only_allowed_bytes(raw in hostile()) {
            if let Ok(path) = normalise(&raw) {
                let text = path.as_str();
                prop_assert!(text.starts_with('/'));
                prop_assert!(text.split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert_eq!(text.contains("//"), path.oddities().contains(Oddity::EmptySegment));
                let is_allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"<>^`{|}[]#?\\".contains(&byte);
                prop_assert!(text.bytes().all(is_allowed), "{}", text);
            }
        }

        #[test]
        fn what_is_not_odd_reads_the_same_to_the_least_careful_server(raw in hostile()) {
            if let Ok(path) = normalise(&raw) && path.oddities().is_empty() {
                prop_assert_eq!(plain_view(path.as_str()), decoded(path.as_str()));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(raw in "\\PC*") {
            prop_assert_eq!(normalise(&raw) == Err(PathError::Relative), !raw.starts_with('/'));
        }
    }
}
