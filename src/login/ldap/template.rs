//! Filters and names with places for what is known of a user: `(uid={user})`. Pure.

/// The names in braces.
pub fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    let parts = template.split('{').skip(1);
    parts.filter_map(|part| part.split_once('}').map(|(name, _)| name))
}

/// Puts each value into its places, once escaped. What a value holds is never taken for a place.
#[cfg(feature = "ldap")]
pub(super) fn fill(
    template: &str,
    values: &[(&str, &str)],
    escape: impl Fn(&str) -> String,
) -> String {
    let mut filled = String::with_capacity(template.len() + 64);
    let mut parts = template.split('{');
    filled.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let known = part.split_once('}').and_then(|(name, rest)| {
            let found = values.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (value, rest))
        });
        if let Some((value, rest)) = known {
            filled.push_str(&escape(value));
            filled.push_str(rest);
        } else {
            filled.push('{');
            filled.push_str(part);
        }
    }
    filled
}

/// For values in filters (RFC 4515).
#[cfg(feature = "ldap")]
pub(super) fn in_filter(value: &str) -> String {
    ldap3::ldap_escape(value).into_owned()
}

/// For values in names (RFC 4514).
#[cfg(feature = "ldap")]
pub(super) fn in_dn(value: &str) -> String {
    ldap3::dn_escape(value).into_owned()
}

/// Whether it is a filter once its places are filled (RFC 4515).
#[cfg(feature = "ldap")]
pub fn is_ldap_filter(template: &str) -> bool {
    let values = [("user", "x"), ("dn", "x")];
    ldap3::parse_filter(fill(template, &values, in_filter)).is_ok()
}

/// Whether it is a distinguished name once its places are filled (RFC 4514).
#[cfg(feature = "ldap")]
pub fn is_ldap_dn(template: &str) -> bool {
    let filled = fill(template, &[("user", "x")], in_dn);
    super::dn::Dn::parse(&filled).is_some()
}

#[cfg(all(test, feature = "ldap"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_never_part_of_the_question() {
        let filter = |user: &str| fill("(&(a=b)(uid={user}))", &[("user", user)], in_filter);
        for (typed, asked) in [
            ("alice", "(&(a=b)(uid=alice))"),
            ("*", r"(&(a=b)(uid=\2a))"),
            (")(uid=*", r"(&(a=b)(uid=\29\28uid=\2a))"),
            ("a\0b", r"(&(a=b)(uid=a\00b))"),
            (r"\2a", r"(&(a=b)(uid=\5c2a))"),
            ("{user}", "(&(a=b)(uid={user}))"),
        ] {
            assert_eq!(filter(typed), asked);
            assert!(ldap3::parse_filter(filter(typed)).is_ok());
        }
        let dn = |user: &str| fill("uid={user},dc=org", &[("user", user)], in_dn);
        assert_eq!(dn("a,dc=x"), r"uid=a\2cdc\3dx,dc=org");
        assert_eq!(dn(" #a+b\0"), r"uid=\20#a\2bb\00,dc=org");
    }

    #[test]
    fn places_are_filled_once() {
        let values = [("user", "{dn}"), ("dn", "cn=a")];
        let filled = fill("{user} {dn} {other} {", &values, str::to_owned);
        assert_eq!(filled, "{dn} cn=a {other} {");
        let names: Vec<_> = placeholders("(|(a={user})(b={dn})(c={d").collect();
        assert_eq!(names, ["user", "dn"]);
    }

    #[test]
    fn filters_and_names_are_told_from_nonsense() {
        for good in [
            "(uid={user})",
            "(&(objectClass=person)(|(uid={user})(mail={user})))",
            "(member:1.2.840.113556.1.4.1941:={dn})",
        ] {
            assert!(is_ldap_filter(good), "{good}");
        }
        for bad in ["", "uid", "(uid={user}", "(uid={user}))", "(&)(a=b)x"] {
            assert!(!is_ldap_filter(bad), "{bad}");
        }
        assert!(is_ldap_dn("uid={user},ou=people,dc=org") && is_ldap_dn("dc=org"));
        assert!(!is_ldap_dn("people") && !is_ldap_dn("{user}@example.org"));
    }
}
