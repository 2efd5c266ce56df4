//! Distinguished names (RFC 4514): which of them mean the same, and what a group's says that it is called. Pure.

/// The parts of a name, from the entry up to the root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Dn(Vec<Vec<Part>>);

/// One attribute of an RDN. `folded` is what two spellings have in common.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Part {
    attribute: String,
    folded: String,
    value: String,
}

impl Dn {
    /// `None`: it is no name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return Some(Self(Vec::new()));
        }
        let rdns = split(text, ',')?.into_iter().map(|rdn| {
            let mut parts: Vec<Part> = split(rdn, '+')?
                .into_iter()
                .map(part)
                .collect::<Option<_>>()?;
            parts.sort();
            Some(parts)
        });
        rdns.collect::<Option<_>>().map(Self)
    }

    /// Whether it is `base` or something below it.
    pub(super) fn is_within(&self, base: &Self) -> bool {
        let same = |(own, other): (&Vec<Part>, &Vec<Part>)| {
            let keys = |parts: &[Part]| {
                let pairs = parts
                    .iter()
                    .map(|it| (it.attribute.clone(), it.folded.clone()));
                pairs.collect::<Vec<_>>()
            };
            keys(own) == keys(other)
        };
        let above = self.0.len().checked_sub(base.0.len());
        let rest = above.and_then(|above| self.0.get(above..));
        rest.is_some_and(|rest| rest.iter().zip(&base.0).all(same))
    }

    /// The value of the first RDN, as it is written; `None`: there is not one.
    pub(super) fn name(&self) -> Option<&str> {
        match self.0.first()?.as_slice() {
            [only] => Some(&only.value),
            _ => None,
        }
    }

    /// One spelling for all that mean the same.
    pub(super) fn folded(&self) -> String {
        let part = |it: &Part| format!("{}={}", it.attribute, ldap3::dn_escape(&*it.folded));
        let rdn = |parts: &Vec<Part>| parts.iter().map(part).collect::<Vec<_>>().join("+");
        self.0.iter().map(rdn).collect::<Vec<_>>().join(",")
    }
}

/// Spellings that directories take for one another in names of people: case, and spaces around and between (RFC 4518).
pub(super) fn folded(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

/// At each separator that is not escaped. `None`: quotation marks, which RFC 4514 has no more.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return None,
            found if found == separator => {
                parts.push(text.get(start..at)?);
                start = at + separator.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text.get(start..)?);
    Some(parts)
}

fn part(text: &str) -> Option<Part> {
    let (attribute, value) = text.split_once('=')?;
    let attribute = attribute.trim().to_ascii_lowercase();
    let value = unescaped(value.trim_start())?;
    (!attribute.is_empty() && !value.is_empty()).then(|| Part {
        attribute,
        folded: folded(&value),
        value,
    })
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    // Spaces at the end mean something only where they are escaped.
    let mut kept = 0;
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            kept = if byte == b' ' { kept } else { bytes.len() };
            continue;
        }
        let first = rest.next()?;
        match char::from(first).to_digit(16) {
            Some(high) => {
                let low = char::from(rest.next()?).to_digit(16)?;
                bytes.push(u8::try_from(high << 4 | low).ok()?);
            }
            None => bytes.push(first),
        }
        kept = bytes.len();
    }
    bytes.truncate(kept);
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dn(text: &str) -> Dn {
        Dn::parse(text).unwrap()
    }

    #[test]
    fn spellings_of_one_name_fold_into_one() {
        let one = dn("uid=alice,ou=People,dc=example,dc=org").folded();
        for other in [
            "UID=Alice, ou=people ,DC=Example,dc=ORG",
            "uid = alice,OU=People,dc=example,dc=org",
            r"uid=\61lice,ou=People,dc=example,dc=org",
        ] {
            assert_eq!(dn(other).folded(), one, "{other}");
        }
        for other in [
            "uid=alice,ou=People+dc=example,dc=org",
            r"uid=alice\,ou=People,dc=example,dc=org",
            "uid=alice,dc=example,dc=org",
        ] {
            assert_ne!(dn(other).folded(), one, "{other}");
        }
        assert_eq!(
            dn("cn=a+uid=b,dc=c").folded(),
            dn("UID=B+cn=a,dc=C").folded()
        );
    }

    #[test]
    fn a_groups_name_is_its_first_value_and_nothing_that_is_escaped_ends_it() {
        for (text, name) in [
            ("cn=Staff,ou=groups,dc=org", Some("Staff")),
            (r"cn=Sales\, EU,ou=groups,dc=org", Some("Sales, EU")),
            (r"cn=Sales\2C EU,ou=groups,dc=org", Some("Sales, EU")),
            (r"cn=K\C3\B6ln,dc=org", Some("Köln")),
            (r"cn= padded ,dc=org", Some("padded")),
            ("cn=a+ou=b,dc=org", None),
        ] {
            assert_eq!(dn(text).name(), name, "{text}");
        }
        for text in [
            "cn",
            "cn=",
            "=a",
            r"cn=a\",
            r"cn=\c",
            r"cn=\ff",
            "cn=\"a,b\",dc=c",
            "cn=a,,dc=c",
        ] {
            assert_eq!(Dn::parse(text), None, "{text}");
        }
    }

    #[test]
    fn below_means_by_parts_and_not_by_letters() {
        let base = dn("ou=groups,dc=example,dc=org");
        assert!(dn("cn=a,OU=Groups,dc=example,DC=org").is_within(&base));
        assert!(base.is_within(&base) && base.is_within(&dn("")));
        for other in [
            "cn=a,ou=other,dc=example,dc=org",
            r"cn=a\,ou=groups,dc=example,dc=org",
            "dc=example,dc=org",
            "cn=ou=groups,dc=example,dc=org",
            "cn=a,xou=groups,dc=example,dc=org",
        ] {
            assert!(
                Dn::parse(other).is_none_or(|other| !other.is_within(&base)),
                "{other}"
            );
        }
    }

    #[test]
    fn names_of_people_fold() {
        assert_eq!(folded("  Alice  B "), "alice b");
        assert_ne!(folded("alice"), folded("alice1"));
    }
}
