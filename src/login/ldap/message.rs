//! The messages of LDAP (RFC 4511) that a login needs. An answer is of the expected shape or it is none.

use bytes::BytesMut;
use ldap3::asn1::{ASNTag, write};
use zeroize::Zeroizing;

use super::ber::{
    BOOLEAN, ENUMERATED, INTEGER, OCTETS, Reader, SEQUENCE, SET, number, put, put_number,
};
use super::fault::{Fault, Told};
use crate::secret::Secret;

/// Operations of answers.
pub(super) const BOUND: u8 = 0x61;
pub(super) const ENTRY: u8 = 0x64;
pub(super) const DONE: u8 = 0x65;
pub(super) const REFERENCE: u8 = 0x73;
pub(super) const EXTENDED: u8 = 0x78;

const START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
/// draft-behera-ldap-password-policy: what is the matter with an account, beside wrong passwords.
const PASSWORD_POLICY: &[u8] = b"1.3.6.1.4.1.42.2.27.8.5.1";

/// The most attributes of one entry, and values of one attribute.
const MAX_ATTRIBUTES: usize = 64;
const MAX_VALUES: usize = 5000;

/// Who somebody says that they are. With an empty name or an empty password a server would say yes to anybody (RFC 4513
/// section 5.1.2), so there is none with either.
pub(super) struct Binding<'a> {
    dn: &'a str,
    password: &'a Secret,
}

impl<'a> Binding<'a> {
    pub(super) fn new(dn: &'a str, password: &'a Secret) -> Option<Self> {
        let is_empty = dn.trim().is_empty() || password.expose().is_empty();
        (!is_empty).then_some(Self { dn, password })
    }

    pub(super) fn request(&self, id: u32) -> Zeroizing<Vec<u8>> {
        let mut bind = Zeroizing::new(Vec::with_capacity(2048));
        put_number(&mut bind, INTEGER, 3);
        put(&mut bind, OCTETS, self.dn.as_bytes());
        put(&mut bind, 0x80, self.password.expose());
        let mut control = Vec::new();
        put(&mut control, OCTETS, PASSWORD_POLICY);
        let mut controls = Vec::new();
        put(&mut controls, SEQUENCE, &control);
        message(id, (0x60, &bind), &controls)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Scope {
    Base = 0,
    Subtree = 2,
}

#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) base: &'a str,
    pub(super) scope: Scope,
    pub(super) filter: &'a str,
    pub(super) attributes: &'a [&'a str],
    /// The server is asked for no more, and no more are taken.
    pub(super) most: u32,
    /// In seconds, for the server.
    pub(super) patience: u32,
}

impl Search<'_> {
    pub(super) fn request(&self, id: u32) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let filter = ldap3::parse_filter(self.filter).map_err(|()| Fault::Filter)?;
        let mut filter_bytes = BytesMut::new();
        let written = write::encode_into(&mut filter_bytes, filter.into_structure());
        written.map_err(|_| Fault::Filter)?;
        let mut search = Vec::new();
        put(&mut search, OCTETS, self.base.as_bytes());
        put(&mut search, ENUMERATED, &[self.scope as u8]);
        // Aliases are not followed.
        put(&mut search, ENUMERATED, &[0]);
        put_number(&mut search, INTEGER, self.most);
        put_number(&mut search, INTEGER, self.patience);
        put(&mut search, BOOLEAN, &[0]);
        search.extend_from_slice(&filter_bytes);
        let mut attributes = Vec::new();
        for attribute in self.attributes {
            put(&mut attributes, OCTETS, attribute.as_bytes());
        }
        put(&mut search, SEQUENCE, &attributes);
        Ok(message(id, (0x63, &search), &[]))
    }
}

pub(super) fn start_tls(id: u32) -> Zeroizing<Vec<u8>> {
    let mut content = Vec::new();
    put(&mut content, 0x80, START_TLS);
    message(id, (0x77, &content), &[])
}

pub(super) fn unbind(id: u32) -> Zeroizing<Vec<u8>> {
    message(id, (0x42, &[]), &[])
}

fn message(id: u32, (op, content): (u8, &[u8]), controls: &[u8]) -> Zeroizing<Vec<u8>> {
    // Room for all of it at once: what grows leaves copies behind.
    let mut inner = Zeroizing::new(Vec::with_capacity(content.len() + controls.len() + 64));
    put_number(&mut inner, INTEGER, id);
    put(&mut inner, op, content);
    if !controls.is_empty() {
        put(&mut inner, 0xa0, controls);
    }
    let mut whole = Zeroizing::new(Vec::with_capacity(inner.len() + 16));
    put(&mut whole, SEQUENCE, &inner);
    whole
}

/// An answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<'a> {
    pub(super) id: u32,
    pub(super) op: u8,
    content: &'a [u8],
    controls: &'a [u8],
}

/// How an operation ended.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Outcome {
    pub(super) told: Told,
    /// What the password policy says of the account.
    pub(super) policy: Option<u32>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) dn: String,
    attributes: Vec<(String, Vec<Vec<u8>>)>,
}

impl<'a> Answer<'a> {
    /// `content` is what the message's own sequence holds.
    pub(super) fn parse(content: &'a [u8]) -> Result<Self, Fault> {
        let read = || {
            let mut reader = Reader::new(content);
            let id = reader.number(INTEGER)?;
            let (op, content) = reader.next()?;
            let controls = if reader.is_empty() {
                &[][..]
            } else {
                match reader.next()? {
                    (0xa0, controls) => controls,
                    // Active Directory puts the name of its farewell here.
                    (0x8a, _) => &[],
                    _ => return None,
                }
            };
            Some(Self {
                id,
                op,
                content,
                controls,
            })
        };
        read().ok_or(Fault::Malformed("no message"))
    }

    pub(super) fn outcome(&self) -> Result<Outcome, Fault> {
        let read = || {
            let mut reader = Reader::new(self.content);
            let code = reader.number(ENUMERATED)?;
            let _matched = reader.expect(OCTETS)?;
            // For people to read; not all servers keep to UTF-8.
            let text = String::from_utf8_lossy(reader.expect(OCTETS)?);
            Some(Told::new(code, &text))
        };
        Ok(Outcome {
            told: read().ok_or(Fault::Malformed("no result"))?,
            policy: self.policy()?,
        })
    }

    pub(super) fn entry(&self) -> Result<Entry, Fault> {
        entry(self.content).ok_or(Fault::Malformed("no entry"))
    }

    fn policy(&self) -> Result<Option<u32>, Fault> {
        let odd = || Fault::Malformed("no control");
        let mut controls = Reader::new(self.controls);
        while !controls.is_empty() {
            let control = controls.expect(SEQUENCE).ok_or_else(odd)?;
            let mut control = Reader::new(control);
            if control.expect(OCTETS).ok_or_else(odd)? != PASSWORD_POLICY {
                continue;
            }
            let value = match control.next() {
                Some((BOOLEAN, _)) => control.next(),
                other => other,
            };
            return match value {
                Some((OCTETS, value)) => policy_error(value),
                _ => Ok(None),
            };
        }
        Ok(None)
    }
}

/// The `error` of a `PasswordPolicyResponseValue`.
fn policy_error(value: &[u8]) -> Result<Option<u32>, Fault> {
    let odd = || Fault::Malformed("no word of the password policy");
    let parts = Reader::new(value).expect(SEQUENCE).ok_or_else(odd)?;
    let mut parts = Reader::new(parts);
    while !parts.is_empty() {
        let (tag, content) = parts.next().ok_or_else(odd)?;
        if tag == 0x81 {
            return number(content).map(Some).ok_or_else(odd);
        }
    }
    Ok(None)
}

fn entry(content: &[u8]) -> Option<Entry> {
    let mut reader = Reader::new(content);
    let dn = reader.text()?.to_owned();
    let mut list = Reader::new(reader.expect(SEQUENCE)?);
    let mut attributes = Vec::new();
    while !list.is_empty() {
        let mut attribute = Reader::new(list.expect(SEQUENCE)?);
        let name = attribute.text()?.to_owned();
        let mut set = Reader::new(attribute.expect(SET)?);
        let mut values = Vec::new();
        while !set.is_empty() {
            values.push(set.expect(OCTETS)?.to_vec());
        }
        attributes.push((name, values));
        if attributes.len() > MAX_ATTRIBUTES || attributes.iter().any(|it| it.1.len() > MAX_VALUES)
        {
            return None;
        }
    }
    Some(Entry { dn, attributes })
}

impl Entry {
    /// Names of attributes have no case (RFC 4512 section 2.5).
    pub(super) fn values(&self, name: &str) -> &[Vec<u8>] {
        let mut all = self.attributes.iter();
        let found = all.find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map_or(&[], |(_, values)| values)
    }

    /// Whether only a part of the values came, as Active Directory does with very many (`member;range=0-1499`).
    pub(super) fn is_partial(&self, name: &str) -> bool {
        self.attributes.iter().any(|(own, _)| {
            let mut parts = own.split(';');
            let is_it = parts
                .next()
                .is_some_and(|own| own.eq_ignore_ascii_case(name));
            is_it && parts.any(|option| option.to_ascii_lowercase().starts_with("range="))
        })
    }

    #[cfg(test)]
    pub(super) fn of(dn: &str, attributes: &[(&str, &[&[u8]])]) -> Self {
        let own = |(name, values): &(&str, &[&[u8]])| {
            let values = values.iter().map(|value| value.to_vec()).collect();
            ((*name).to_owned(), values)
        };
        Self {
            dn: dn.to_owned(),
            attributes: attributes.iter().map(own).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_about_without_a_name_or_a_password() {
        let (some, none) = (Secret::new("x"), Secret::new(""));
        assert!(Binding::new("cn=a", &some).is_some());
        assert!(Binding::new("cn=a", &none).is_none());
        assert!(Binding::new("", &some).is_none());
        assert!(Binding::new(" ", &some).is_none());
    }

    #[test]
    fn a_bind_is_as_rfc_4511_writes_it() {
        let password = Secret::new("pw");
        let request = Binding::new("cn=a", &password).unwrap().request(1);
        let bind = b"\x30\x31\x02\x01\x01\x60\x0d\x02\x01\x03\x04\x04cn=a\x80\x02pw";
        let control = b"\xa0\x1d\x30\x1b\x04\x191.3.6.1.4.1.42.2.27.8.5.1";
        assert_eq!(&request[..], [&bind[..], control].concat());
        assert_eq!(
            &start_tls(1)[..],
            b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
        );
        assert_eq!(&unbind(2)[..], b"\x30\x05\x02\x01\x02\x42\x00");
    }

    #[test]
    fn what_the_policy_says_of_an_account_is_heard() {
        let outcome = |controls: &[u8]| {
            let mut content = b"\x02\x01\x01\x61\x07\x0a\x01\x31\x04\x00\x04\x00".to_vec();
            if !controls.is_empty() {
                put(&mut content, 0xa0, controls);
            }
            Answer::parse(&content).and_then(|answer| answer.outcome())
        };
        assert_eq!(outcome(&[]).unwrap().policy, None);
        let control = |value: &[u8]| {
            let mut inner = Vec::new();
            put(&mut inner, OCTETS, PASSWORD_POLICY);
            put(&mut inner, OCTETS, value);
            let mut whole = Vec::new();
            put(&mut whole, SEQUENCE, &inner);
            whole
        };
        assert_eq!(
            outcome(&control(b"\x30\x03\x81\x01\x01")).unwrap().policy,
            Some(1)
        );
        assert_eq!(outcome(&control(b"\x30\x00")).unwrap().policy, None);
        let warned = control(b"\x30\x08\xa0\x03\x80\x01\x05\x81\x01\x02");
        assert_eq!(outcome(&warned).unwrap().policy, Some(2));
        assert!(outcome(b"\x30\x7f").is_err());
        assert!(outcome(&control(b"garbage")).is_err());
    }

    #[test]
    fn an_answer_of_another_shape_is_none() {
        for content in [
            &b""[..],
            b"\x02\x01\x01",
            b"\x04\x01\x01\x61\x00",
            b"\x02\x01\x01\x61\x00\x04\x00",
        ] {
            assert!(Answer::parse(content).is_err(), "{content:?}");
        }
        // Nested a hundred thousand times: nobody looks inside.
        let deep = [
            b"\x02\x01\x01\x61\x84\x00\x03\x0d\x40".to_vec(),
            b"\x30\x80".repeat(100_000),
        ];
        let deep = deep.concat();
        assert!(Answer::parse(&deep).unwrap().outcome().is_err());
        let farewell = b"\x02\x01\x00\x78\x07\x0a\x01\x34\x04\x00\x04\x00\x8a\x011";
        assert_eq!(
            Answer::parse(farewell)
                .unwrap()
                .outcome()
                .unwrap()
                .told
                .code,
            52
        );
    }

    #[test]
    fn an_entry_is_bounded() {
        let many = |attributes: usize, values: usize| {
            let mut set = Vec::new();
            (0..values).for_each(|_| put(&mut set, OCTETS, b"v"));
            let mut attribute = Vec::new();
            put(&mut attribute, OCTETS, b"a");
            put(&mut attribute, SET, &set);
            let mut list = Vec::new();
            (0..attributes).for_each(|_| put(&mut list, SEQUENCE, &attribute));
            let mut content = Vec::new();
            put(&mut content, OCTETS, b"cn=a");
            put(&mut content, SEQUENCE, &list);
            entry(&content)
        };
        assert!(many(MAX_ATTRIBUTES, 1).is_some());
        assert!(many(MAX_ATTRIBUTES + 1, 1).is_none());
        assert!(many(1, MAX_VALUES).is_some());
        assert!(many(1, MAX_VALUES + 1).is_none());
    }
}
