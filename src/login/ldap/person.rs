//! From an entry to an identity. What is not as it has to be is a fault, never a guess. Pure.

use super::dn::Dn;
use super::fault::Fault;
use super::message::Entry;
use super::settings::LdapAttributes;
use crate::identity::{Identity, Subject};

/// The longest user, name, address or group, in characters, and how many groups one user may be in.
const LONGEST: usize = 256;
pub(super) const MOST_GROUPS: usize = 1000;

/// The subject that is the entry's own name.
pub(super) const BY_DN: &str = "dn";
/// Active Directory's, in 16 bytes.
const OBJECT_GUID: &str = "objectGUID";

impl LdapAttributes {
    /// What is asked for.
    pub(super) fn all(&self) -> Vec<&str> {
        let own = [&*self.subject, &self.user, &self.name, &self.email];
        let named = own.into_iter().chain(self.groups.as_deref());
        named.filter(|name| *name != BY_DN).collect()
    }
}

/// Everything but the groups.
pub(super) fn identity(
    provider: &str,
    entry: &Entry,
    attributes: &LdapAttributes,
) -> Result<Identity, Fault> {
    let user = only(entry, &attributes.user)?;
    Ok(Identity {
        subject: Subject {
            provider: provider.to_owned(),
            id: subject(entry, &attributes.subject)?,
        },
        user,
        name: first(entry, &attributes.name)?,
        email: first(entry, &attributes.email)?,
        groups: Vec::new(),
    })
}

fn subject(entry: &Entry, attribute: &str) -> Result<String, Fault> {
    let dn = || Dn::parse(&entry.dn).map(|dn| dn.folded());
    if attribute == BY_DN {
        let id = dn().filter(|dn| !dn.is_empty());
        return id.ok_or_else(|| Fault::entry(&entry.dn, "has a name that cannot be read", "dn"));
    }
    if !attribute.eq_ignore_ascii_case(OBJECT_GUID) {
        return only(entry, attribute);
    }
    let guid = match entry.values(attribute) {
        [only] => guid(only),
        _ => None,
    };
    guid.ok_or_else(|| Fault::entry(&entry.dn, "has not one GUID of 16 bytes", attribute))
}

/// As Active Directory's own tools write it: the first three parts have their bytes the other way round.
fn guid(bytes: &[u8]) -> Option<String> {
    let bytes = <[u8; 16]>::try_from(bytes).ok()?;
    Some(uuid::Uuid::from_bytes_le(bytes).to_string())
}

/// Of what names somebody there has to be exactly one.
fn only(entry: &Entry, attribute: &str) -> Result<String, Fault> {
    let fault = |trouble| Fault::entry(&entry.dn, trouble, attribute);
    match entry.values(attribute) {
        [only] => text(only).ok_or_else(|| fault("has a value that cannot be used")),
        [] => Err(fault("lacks an attribute, or does not show it")),
        _ => Err(fault("has several values where one was expected")),
    }
}

fn first(entry: &Entry, attribute: &str) -> Result<Option<String>, Fault> {
    let Some(value) = entry.values(attribute).first() else {
        return Ok(None);
    };
    let fault = || Fault::entry(&entry.dn, "has a value that cannot be used", attribute);
    text(value).map(Some).ok_or_else(fault)
}

fn text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let is_good = !text.trim().is_empty()
        && text.chars().count() <= LONGEST
        && !text.contains(char::is_control);
    is_good.then(|| text.to_owned())
}

/// The groups that the entry itself names, as far as they are below `base`: elsewhere whoever may make groups could give
/// them any name.
pub(super) fn own_groups(entry: &Entry, attribute: &str, base: &Dn) -> Result<Vec<String>, Fault> {
    if entry.is_partial(attribute) {
        return Err(Fault::entry(
            &entry.dn,
            "shows only a part of its values",
            attribute,
        ));
    }
    let named = entry.values(attribute).iter().map(|value| {
        let dn = std::str::from_utf8(value).ok().and_then(Dn::parse);
        let fault = || Fault::entry(&entry.dn, "names a group that cannot be read", attribute);
        dn.ok_or_else(fault)
    });
    let named: Vec<Dn> = named.collect::<Result<_, _>>()?;
    let counted = named.iter().filter(|dn| dn.is_within(base));
    let groups = counted.filter_map(|dn| text(dn.name()?.as_bytes()));
    Ok(groups.collect())
}

/// The names of groups that were found.
pub(super) fn found_groups(entries: &[Entry], attribute: &str) -> Result<Vec<String>, Fault> {
    let names = entries.iter().map(|entry| only(entry, attribute));
    names.collect()
}

/// Each once, in the order of their letters, however a directory orders them.
pub(super) fn joined(mut groups: Vec<String>, dn: &str) -> Result<Vec<String>, Fault> {
    groups.sort_unstable();
    groups.dedup();
    if groups.len() > MOST_GROUPS {
        return Err(Fault::entry(
            dn,
            "is in more groups than are taken",
            "groups",
        ));
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DN: &str = "uid=alice,dc=example,dc=org";

    fn attributes() -> LdapAttributes {
        LdapAttributes {
            subject: "entryUUID".to_owned(),
            user: "uid".to_owned(),
            name: "cn".to_owned(),
            email: "mail".to_owned(),
            groups: Some("memberOf".to_owned()),
        }
    }

    fn read(attributes: &LdapAttributes, entry: &Entry) -> Option<Identity> {
        identity("corp", entry, attributes).ok()
    }

    #[test]
    fn a_person_is_who_the_entry_says() {
        let entry = Entry::of(
            DN,
            &[
                ("ENTRYUUID", &[b"u-1"]),
                ("uid", &[b"alice"]),
                ("cn", &[b"Alice", b"Ally"]),
            ],
        );
        let found = read(&attributes(), &entry).unwrap();
        assert_eq!(found.subject.to_string(), "corp:u-1");
        assert_eq!(
            (&*found.user, found.name.as_deref()),
            ("alice", Some("Alice"))
        );
        assert_eq!((found.email, found.groups.len()), (None, 0));
    }

    #[test]
    fn who_is_not_named_exactly_once_is_nobody() {
        let with = |uid: &[&[u8]], uuid: &[&[u8]]| {
            let entry = Entry::of(DN, &[("uid", uid), ("entryUUID", uuid)]);
            read(&attributes(), &entry)
        };
        assert!(with(&[b"a"], &[b"1"]).is_some());
        assert!(with(&[], &[b"1"]).is_none());
        assert!(with(&[b"a"], &[]).is_none());
        assert!(with(&[b"a", b"b"], &[b"1"]).is_none());
        assert!(with(&[b"a"], &[b"1", b"2"]).is_none());
        assert!(with(&[b"a\r\nx"], &[b"1"]).is_none());
        assert!(with(&[b"\xff"], &[b"1"]).is_none());
        assert!(with(&[b" "], &[b"1"]).is_none());
        assert!(with(&[&b"a".repeat(257)], &[b"1"]).is_none());
    }

    #[test]
    fn a_guid_is_written_as_its_own_tools_do() {
        let bytes = *b"\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
        let attributes = LdapAttributes {
            subject: "objectGUID".to_owned(),
            ..attributes()
        };
        let with = |value: &[u8]| Entry::of(DN, &[("uid", &[b"a"]), ("objectGUID", &[value])]);
        let found = read(&attributes, &with(&bytes)).unwrap();
        assert_eq!(found.subject.id, "00112233-4455-6677-8899-aabbccddeeff");
        assert!(read(&attributes, &with(b"short")).is_none());
    }

    #[test]
    fn by_dn_every_spelling_is_one_person() {
        let attributes = LdapAttributes {
            subject: "dn".to_owned(),
            ..attributes()
        };
        assert!(!attributes.all().contains(&"dn"));
        let with = |dn: &str| read(&attributes, &Entry::of(dn, &[("uid", &[b"alice"])]));
        assert_eq!(with("UID=Alice, dc=Example,dc=org"), with(DN));
        assert!(with(DN).is_some() && with("").is_none() && with("nonsense").is_none());
    }

    #[test]
    fn groups_elsewhere_do_not_count() {
        let base = Dn::parse("ou=groups,dc=example,dc=org").unwrap();
        let groups = |values: &[&[u8]]| {
            own_groups(&Entry::of(DN, &[("memberOf", values)]), "memberof", &base)
        };
        let found = groups(&[
            b"cn=staff,ou=groups,dc=example,dc=org",
            b"cn=admins,ou=people,dc=example,dc=org",
            b"cn=admins\\,ou=groups,dc=example,dc=org",
        ]);
        assert_eq!(found.unwrap(), ["staff"]);
        assert!(groups(&[b"staff"]).is_err());
        let cut = Entry::of(
            DN,
            &[
                ("memberOf;range=0-1499", &[b"cn=a,dc=b"]),
                ("memberOf", &[]),
            ],
        );
        assert!(own_groups(&cut, "memberOf", &base).is_err());
    }

    #[test]
    fn groups_come_once_and_not_without_end() {
        let names = |count: usize| (0..count).map(|n| format!("g{n}")).collect::<Vec<_>>();
        let twice = vec!["b".to_owned(), "a".to_owned(), "b".to_owned()];
        assert_eq!(joined(twice, DN).unwrap(), ["a", "b"]);
        assert!(joined(names(MOST_GROUPS), DN).is_ok());
        assert!(joined(names(MOST_GROUPS + 1), DN).is_err());
    }
}
