//! The part of BER that LDAP uses (RFC 4511 section 5.1): one byte of tag, a definite length, the content. What is read
//! is never taken apart deeper than somebody asks.

/// Universal tags.
pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// Elements one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element's tag and content; `None` where there is no whole one.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        let more = length_bytes(first)?;
        let (bytes, rest) = rest.split_at_checked(more)?;
        let (content, rest) = rest.split_at_checked(length(first, bytes))?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The next element, which has to be of this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.next()?;
        (found == tag).then_some(content)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.expect(OCTETS)?).ok()
    }

    /// A number that is not negative and fits 31 bits, as all of LDAP's.
    pub(super) fn number(&mut self, tag: u8) -> Option<u32> {
        number(self.expect(tag)?)
    }
}

pub(super) fn number(content: &[u8]) -> Option<u32> {
    let is_short = !content.is_empty() && content.len() <= 4;
    let is_positive = content.first().is_some_and(|first| *first < 0x80);
    let value = || {
        content
            .iter()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
    };
    (is_short && is_positive).then(value)
}

/// How many bytes of length follow the first one; `None`: an indefinite length, or one beyond all that is taken.
pub(super) fn length_bytes(first: u8) -> Option<usize> {
    match first {
        0..=0x7f => Some(0),
        0x81..=0x84 => Some(usize::from(first & 0x7f)),
        _ => None,
    }
}

pub(super) fn length(first: u8, more: &[u8]) -> usize {
    if more.is_empty() {
        return usize::from(first);
    }
    more.iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

/// Appends one element.
pub(super) fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    let bytes = content.len().to_be_bytes();
    let used = bytes.iter().skip_while(|byte| **byte == 0);
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let count = used.clone().count();
            // At most eight.
            out.push(0x80 | u8::try_from(count).unwrap_or_default());
            out.extend(used);
        }
    }
    out.extend_from_slice(content);
}

pub(super) fn put_number(out: &mut Vec<u8>, tag: u8, value: u32) {
    let bytes = value.to_be_bytes();
    let mut content: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    // The highest bit is the sign.
    if content.first().is_none_or(|first| *first >= 0x80) {
        content.insert(0, 0);
    }
    put(out, tag, &content);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_whole_is_nothing() {
        for bytes in [
            &b""[..],
            b"\x04",
            b"\x04\x02a",
            b"\x04\x80a\x00\x00",
            b"\x04\x82\x01",
            b"\x04\x84\xff\xff\xff\xffa",
            b"\x04\x85\x00\x00\x00\x00\x01a",
            b"\x04\xff",
        ] {
            assert_eq!(Reader::new(bytes).next(), None, "{bytes:?}");
        }
        assert_eq!(Reader::new(b"\x04\x81\x01a").next(), Some((4, &b"a"[..])));
        assert_eq!(Reader::new(b"\x04\x01\xff").text(), None, "not UTF-8");
    }

    #[test]
    fn numbers_are_small_and_not_negative() {
        for bad in [&b""[..], b"\x80", b"\xff\xff", b"\x00\x00\x00\x00\x01"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
        for value in [0, 1, 127, 128, 255, 256, 65_535, (1 << 31) - 1] {
            let mut out = Vec::new();
            put_number(&mut out, INTEGER, value);
            assert_eq!(Reader::new(&out).number(INTEGER), Some(value));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(tag: u8, sizes in prop::collection::vec(0..70_000_usize, 1..4)) {
            let mut out = Vec::new();
            for size in &sizes {
                put(&mut out, tag, &vec![7; *size]);
            }
            let mut reader = Reader::new(&out);
            for size in sizes {
                prop_assert_eq!(reader.next(), Some((tag, &vec![7; size][..])));
            }
            prop_assert!(reader.is_empty());
        }
    }
}
