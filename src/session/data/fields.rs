//! Reads structured fields (RFC 9651), as far as session data needs them: dictionaries, and lists of names. Strict: what the RFC calls an error is one, and nothing of it counts.

use std::collections::BTreeMap;

use base64::Engine;

use super::value::{BASE64, Bare, Item, Member, Parameters};

/// A field that is not what it should be; the byte at which that shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a structured field: byte {at}")]
pub struct FieldError {
    at: usize,
}

/// A dictionary, of all the lines of a field in their order, joined by commas.
pub(super) fn dictionary(text: &[u8]) -> Result<BTreeMap<String, Member>, FieldError> {
    // Of two with one key the later counts.
    Ok(entries(text)?.into_iter().collect())
}

/// The same, with every member that was written.
pub(super) fn entries(text: &[u8]) -> Result<Vec<(String, Member)>, FieldError> {
    let mut members = Vec::new();
    let mut reader = Reader::new(text);
    reader.members(|reader| {
        let key = reader.key()?;
        let member = if reader.eats(b'=') {
            reader.member()?
        } else {
            Member::Item(Item {
                bare: Bare::Boolean(true),
                parameters: reader.parameters()?,
            })
        };
        members.push((key, member));
        Ok(())
    })?;
    Ok(members)
}

/// A list of keys, each a token or a string.
pub(super) fn keys(text: &[u8]) -> Result<Vec<String>, FieldError> {
    let mut keys = Vec::new();
    let mut reader = Reader::new(text);
    reader.members(|reader| {
        let item = reader.item()?;
        let (Bare::Token(key) | Bare::Text(key)) = item.bare else {
            return reader.fail();
        };
        if !is_key(&key) {
            return reader.fail();
        }
        keys.push(key);
        Ok(())
    })?;
    Ok(keys)
}

/// One member's value, as [`Member`] writes it.
pub(super) fn member(text: &str) -> Result<Member, FieldError> {
    let mut reader = Reader::new(text.as_bytes());
    let member = reader.member()?;
    if reader.rest().is_empty() {
        Ok(member)
    } else {
        reader.fail()
    }
}

pub(super) fn is_key(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(is_key_start) && bytes.all(is_key_byte)
}

const fn is_key_start(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte == b'*'
}

const fn is_key_byte(byte: u8) -> bool {
    is_key_start(byte) || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.')
}

const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_'
        )
        || matches!(byte, b'`' | b'|' | b'~' | b':' | b'/')
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    const fn fail<T>(&self) -> Result<T, FieldError> {
        Err(FieldError { at: self.at })
    }

    fn next(&mut self) -> Result<u8, FieldError> {
        let byte = self.peek().ok_or(FieldError { at: self.at })?;
        self.at += 1;
        Ok(byte)
    }

    fn eats(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, byte: u8) -> Result<(), FieldError> {
        if self.eats(byte) { Ok(()) } else { self.fail() }
    }

    fn skip(&mut self, is_space: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&is_space) {
            self.at += 1;
        }
    }

    fn taken(&mut self, is_part: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let len = rest.iter().take_while(|byte| is_part(**byte)).count();
        self.at += len;
        rest.split_at_checked(len).map_or(rest, |(part, _)| part)
    }

    /// What lists and dictionaries have in common: members between commas, the last not followed by one.
    fn members(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), FieldError>,
    ) -> Result<(), FieldError> {
        let is_gap = |byte| matches!(byte, b' ' | b'\t');
        self.skip(|byte| byte == b' ');
        if self.rest().is_empty() {
            return Ok(());
        }
        loop {
            each(self)?;
            self.skip(is_gap);
            if self.rest().is_empty() {
                return Ok(());
            }
            self.expect(b',')?;
            self.skip(is_gap);
        }
    }

    fn member(&mut self) -> Result<Member, FieldError> {
        if !self.eats(b'(') {
            return Ok(Member::Item(self.item()?));
        }
        let mut items = Vec::new();
        loop {
            self.skip(|byte| byte == b' ');
            if self.eats(b')') {
                return Ok(Member::List(items, self.parameters()?));
            }
            items.push(self.item()?);
            if !matches!(self.peek(), Some(b' ' | b')')) {
                return self.fail();
            }
        }
    }

    fn item(&mut self) -> Result<Item, FieldError> {
        Ok(Item {
            bare: self.bare()?,
            parameters: self.parameters()?,
        })
    }

    fn parameters(&mut self) -> Result<Parameters, FieldError> {
        let mut parameters = Parameters::new();
        while self.eats(b';') {
            self.skip(|byte| byte == b' ');
            let key = self.key()?;
            let value = if self.eats(b'=') {
                self.bare()?
            } else {
                Bare::Boolean(true)
            };
            match parameters.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => *known = value,
                None => parameters.push((key, value)),
            }
        }
        Ok(parameters)
    }

    fn key(&mut self) -> Result<String, FieldError> {
        if !self.peek().is_some_and(is_key_start) {
            return self.fail();
        }
        let key = self.taken(is_key_byte);
        Ok(String::from_utf8_lossy(key).into_owned())
    }

    fn bare(&mut self) -> Result<Bare, FieldError> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'"') => self.text(),
            Some(b'*' | b'A'..=b'Z' | b'a'..=b'z') => {
                let token = String::from_utf8_lossy(self.taken(is_token_byte));
                Ok(Bare::Token(token.into_owned()))
            }
            Some(b':') => self.bytes(),
            Some(b'?') => {
                self.at += 1;
                match self.peek() {
                    Some(bit @ (b'0' | b'1')) => {
                        self.at += 1;
                        Ok(Bare::Boolean(bit == b'1'))
                    }
                    _ => self.fail(),
                }
            }
            Some(b'@') => {
                self.at += 1;
                match self.number()? {
                    Bare::Integer(seconds) => Ok(Bare::Date(seconds)),
                    _ => self.fail(),
                }
            }
            Some(b'%') => self.display(),
            _ => self.fail(),
        }
    }

    fn number(&mut self) -> Result<Bare, FieldError> {
        let sign = if self.eats(b'-') { -1 } else { 1 };
        let digits = |digits: &[u8]| {
            let add = |sum: i64, digit: &u8| sum * 10 + i64::from(digit - b'0');
            digits.iter().fold(0, add)
        };
        let whole = self.taken(|byte| byte.is_ascii_digit());
        let is_decimal = self.peek() == Some(b'.');
        if whole.is_empty() || whole.len() > if is_decimal { 12 } else { 15 } {
            return self.fail();
        }
        if !is_decimal {
            return Ok(Bare::Integer(sign * digits(whole)));
        }
        self.at += 1;
        let fraction = self.taken(|byte| byte.is_ascii_digit());
        let scale = match fraction.len() {
            1 => 100,
            2 => 10,
            3 => 1,
            _ => return self.fail(),
        };
        let thousandths = digits(whole) * 1000 + digits(fraction) * scale;
        Ok(Bare::Decimal(sign * thousandths))
    }

    fn text(&mut self) -> Result<Bare, FieldError> {
        self.expect(b'"')?;
        let mut text = String::new();
        loop {
            match self.next()? {
                b'"' => return Ok(Bare::Text(text)),
                b'\\' => match self.next()? {
                    byte @ (b'"' | b'\\') => text.push(char::from(byte)),
                    _ => return self.fail(),
                },
                byte @ 0x20..0x7f => text.push(char::from(byte)),
                _ => return self.fail(),
            }
        }
    }

    fn bytes(&mut self) -> Result<Bare, FieldError> {
        self.expect(b':')?;
        let encoded = self.taken(|byte| byte != b':');
        self.expect(b':')?;
        match BASE64.decode(encoded) {
            Ok(bytes) => Ok(Bare::Bytes(bytes)),
            Err(_) => self.fail(),
        }
    }

    fn display(&mut self) -> Result<Bare, FieldError> {
        self.expect(b'%')?;
        self.expect(b'"')?;
        let mut bytes = Vec::new();
        loop {
            match self.next()? {
                b'"' => break,
                b'%' => {
                    let (high, low) = (self.hex()?, self.hex()?);
                    bytes.push(high * 16 + low);
                }
                byte @ 0x20..0x7f => bytes.push(byte),
                _ => return self.fail(),
            }
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Bare::Display(text)),
            Err(_) => self.fail(),
        }
    }

    fn hex(&mut self) -> Result<u8, FieldError> {
        match self.next()? {
            digit @ b'0'..=b'9' => Ok(digit - b'0'),
            digit @ b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => self.fail(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::value::MAX_INTEGER;
    use super::*;

    /// The canonical spelling of a dictionary, member by member.
    fn read(text: &[u8]) -> Option<Vec<String>> {
        let members = dictionary(text).ok()?;
        let spelt = members
            .iter()
            .map(|(key, member)| format!("{key}={member}"));
        Some(spelt.collect())
    }

    #[test]
    fn what_the_rfc_allows_is_read_and_spelt_in_one_way() {
        for (text, spelt) in [
            (&b""[..], &[][..]),
            (b"  ", &[]),
            (b"a", &["a=?1"]),
            (b"a;x;y=2", &["a=?1;x;y=2"]),
            (b"a=1 \t,\t b=2", &["a=1", "b=2"]),
            (b"a=1,a=2", &["a=2"]),
            (b"a=1,a", &["a=?1"]),
            (b"*a_-.9=tok:en/x", &["*a_-.9=tok:en/x"]),
            (b"a=-0", &["a=0"]),
            (b"a=007", &["a=7"]),
            (b"a=-999999999999999", &["a=-999999999999999"]),
            (b"a=1.50", &["a=1.5"]),
            (b"a=-0.0", &["a=0.0"]),
            (b"a=123456789012.123", &["a=123456789012.123"]),
            (b"a=\"q\\\"b\\\\\"", &["a=\"q\\\"b\\\\\""]),
            (b"a=::", &["a=::"]),
            (b"a=:aGk:", &["a=:aGk=:"]),
            (b"a=:aGk=:", &["a=:aGk=:"]),
            (b"a=@-12", &["a=@-12"]),
            (b"a=%\"f%c3%bc \"", &["a=%\"f%c3%bc \""]),
            (b"a=()", &["a=()"]),
            (b"a=(  1   \"x\";p );q=?0", &["a=(1 \"x\";p);q=?0"]),
            (b"a=1;x=1;x=2", &["a=1;x=2"]),
        ] {
            let shown = String::from_utf8_lossy(text);
            assert_eq!(read(text).unwrap(), spelt, "{shown}");
        }
    }

    #[test]
    fn nothing_of_what_is_malformed_is_read() {
        for text in [
            &b"a=1,"[..],
            b",a=1",
            b"a=1,,b=2",
            b"a=1 b=2",
            b"\ta=1",
            b"A=1",
            b"1=1",
            b"=1",
            b"a=",
            b"a= 1",
            b"a =1",
            b"a=1;",
            b"a=1;X",
            b"a=1 ;x",
            b"a=--1",
            b"a=1000000000000000",
            b"a=1234567890123.1",
            b"a=1.",
            b"a=.1",
            b"a=1.2345",
            b"a=1e3",
            b"a=\"x",
            b"a=\"x\\y\"",
            b"a=\"\x7f\"",
            b"a=\"\xc3\xbc\"",
            b"a=\"x\0\"",
            b"a=:aGk",
            b"a=:a:",
            b"a=:aG k=:",
            b"a=?2",
            b"a=?",
            b"a=@1.5",
            b"a=@",
            b"a=%\"%C3\"",
            b"a=%\"%ff\"",
            b"a=%x",
            b"a=(1",
            b"a=(1,2)",
            b"a=(1) ;x",
            b"a=((1))",
            b"a=(1\t2)",
            b"a={}",
            b"a=1\r\nb=2",
            b"\xff",
        ] {
            let shown = String::from_utf8_lossy(text);
            assert_eq!(read(text), None, "{shown:?}");
        }
    }

    #[test]
    fn a_list_of_keys_holds_tokens_and_strings_that_are_keys() {
        let both = vec!["a".to_owned(), "b.c".to_owned()];
        assert_eq!(keys(b"a, \"b.c\""), Ok(both));
        assert_eq!(keys(b""), Ok(Vec::new()));
        for text in [&b"A"[..], b"1", b"(a)", b"a,", b"\"a b\"", b"a:b"] {
            assert!(keys(text).is_err(), "{text:?}");
        }
    }

    fn any_bare() -> impl Strategy<Value = Bare> {
        prop_oneof![
            any::<bool>().prop_map(Bare::Boolean),
            prop::collection::vec(any::<u8>(), 0..9).prop_map(Bare::Bytes),
            (-MAX_INTEGER..=MAX_INTEGER).prop_map(Bare::Integer),
            (-MAX_INTEGER..=MAX_INTEGER).prop_map(Bare::Date),
            (-MAX_INTEGER..=MAX_INTEGER).prop_map(Bare::Decimal),
            "[ -~]{0,9}".prop_map(Bare::Text),
            "\\PC{0,9}".prop_map(Bare::Display),
            "[a-zA-Z*][a-z0-9:/!]{0,5}".prop_map(Bare::Token),
        ]
    }

    fn any_item() -> impl Strategy<Value = Item> {
        let parameters = prop::collection::btree_map("[a-z*][a-z0-9_.*-]{0,3}", any_bare(), 0..3);
        (any_bare(), parameters).prop_map(|(bare, parameters)| Item {
            bare,
            parameters: parameters.into_iter().collect(),
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(items in prop::collection::vec(any_item(), 0..4), one in any_item()) {
            for value in [Member::List(items, one.parameters.clone()), Member::Item(one)] {
                prop_assert_eq!(member(&value.to_string()), Ok(value));
            }
        }

        #[test]
        fn whatever_comes_is_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(members) = read(&text) {
                let again = members.join(", ");
                prop_assert_eq!(read(again.as_bytes()), Some(members));
            }
        }
    }
}
