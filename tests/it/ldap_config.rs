//! What a configuration may say of a directory, and what it is told where it cannot.

use doorward::config::{self, MINIMAL, Missing, Settings};
use doorward::login::{Kind, LdapSecurity, LdapServer, LdapSettings, LdapUsers};

use crate::support::secret_file;

const SECTION: &str = "[[provider]]\nid = \"corp\"\ntype = \"ldap\"\n";
const GOOD: &str = "url = \"ldaps://ldap.example.com\"\nbase_dn = \"dc=example,dc=com\"\nuser_filter = \"(uid={user})\"\n";

fn load(keys: &str) -> Result<Settings, String> {
    let folder = tempfile::tempdir().unwrap();
    secret_file(
        &folder.path().join("ldap.password"),
        "secret of the service\n",
    );
    let file = folder.path().join("doorward.toml");
    let text = format!("{MINIMAL}\n{SECTION}{keys}\n");
    let loaded = config::parse(&file, &text, Missing::Tolerated);
    loaded.map_err(|errors| errors.to_string())
}

fn ldap(keys: &str) -> LdapSettings {
    let settings = load(keys).unwrap_or_else(|errors| panic!("{errors}"));
    let kind = settings
        .providers
        .into_iter()
        .find_map(|provider| match provider.kind {
            Kind::Ldap(ldap) => Some(ldap),
            _ => None,
        });
    *kind.unwrap()
}

#[test]
fn a_directory_needs_little_and_gets_safe_defaults() {
    let ldap = ldap(GOOD);
    let server = LdapServer::Tcp {
        host: "ldap.example.com".to_owned(),
        port: 636,
        security: LdapSecurity::Tls,
    };
    assert_eq!(ldap.servers, [server]);
    let users = LdapUsers::Search {
        base: "dc=example,dc=com".to_owned(),
        filter: "(uid={user})".to_owned(),
    };
    assert_eq!(ldap.users, users);
    assert_eq!(ldap.group_base, "dc=example,dc=com");
    assert!(ldap.service.is_none() && ldap.group_search.is_none());
    assert_eq!(ldap.attributes.subject, "entryUUID");
    assert_eq!((ldap.max_attempts, ldap.connections), (10, 8));
}

#[test]
fn an_address_says_how_its_server_is_talked_to() {
    let server = |url: &str, rest: &str| {
        let keys = GOOD.replace("\"ldaps://ldap.example.com\"", url);
        ldap(&format!("{keys}{rest}")).servers[0].clone()
    };
    for (url, rest, host, port, security) in [
        (
            "\"ldap://d.example.com\"",
            "",
            "d.example.com",
            389,
            LdapSecurity::StartTls,
        ),
        (
            "\"ldap://127.0.0.1:1389\"",
            "",
            "127.0.0.1",
            1389,
            LdapSecurity::StartTls,
        ),
        (
            "\"ldap://[::1]\"",
            "start_tls = false",
            "::1",
            389,
            LdapSecurity::None,
        ),
        (
            "\"ldap://localhost\"",
            "start_tls = false",
            "localhost",
            389,
            LdapSecurity::None,
        ),
        (
            "[\"ldaps://192.0.2.1:1636\"]",
            "",
            "192.0.2.1",
            1636,
            LdapSecurity::Tls,
        ),
    ] {
        let host = host.to_owned();
        assert_eq!(
            server(url, rest),
            LdapServer::Tcp {
                host,
                port,
                security
            },
            "{url}"
        );
    }
    let socket = LdapServer::Socket("/run/slapd/ldapi".into());
    assert_eq!(server("\"ldapi://%2Frun%2Fslapd%2Fldapi\"", ""), socket);
}

#[test]
fn the_service_account_has_its_password_elsewhere() {
    let keys = "bind_dn = \"cn=doorward\"\nbind_password = { file = \"ldap.password\" }";
    let service = ldap(&format!("{GOOD}{keys}")).service.unwrap();
    assert_eq!(service.password.expose(), b"secret of the service");
    assert!(!format!("{service:?}").contains("secret of"));
}

const MISTAKES: [(&str, &str, &str); 26] = [
    ("url", "", "provider.url: is missing"),
    ("url", "url = []", "names no server"),
    (
        "url",
        "url = \"http://ldap.example.com\"",
        "is not the address of a directory",
    ),
    ("url", "url = \"ldaps://\"", "names no server"),
    (
        "url",
        "url = \"ldap:ldap.example.com\"",
        "holds more than a server",
    ),
    (
        "url",
        "url = \"ldaps://ldap.example.com/dc=example\"",
        "holds more than a server",
    ),
    (
        "url",
        "url = \"ldaps://cn@ldap.example.com\"",
        "holds more than a server",
    ),
    (
        "url",
        "url = \"ldaps://cn:hunter2@ldap.example.com\"",
        "a password cannot stand in this file",
    ),
    ("url", "url = \"ldapi://run\"", "names no socket"),
    (
        "url",
        "url = \"ldap://ldap.example.com\"\nstart_tls = false",
        "is not on this machine",
    ),
    (
        "url",
        "url = \"ldap://127.0.0.1.example.com\"\nstart_tls = false",
        "is not on this machine",
    ),
    ("", "start_tls = false", "is for addresses with `ldap://`"),
    (
        "",
        "bind_dn = \"cn=x\"",
        "provider.bind_password: is missing",
    ),
    (
        "",
        "bind_password = { env = \"X\" }",
        "is nobody's without `bind_dn`",
    ),
    (
        "",
        "bind_dn = \"cn=x\"\nbind_password = \"hunter2\"",
        "a password cannot stand in this file",
    ),
    ("base_dn", "", "provider.base_dn: is missing"),
    (
        "base_dn",
        "base_dn = \"example.com\"",
        "is not a distinguished name",
    ),
    ("user_filter", "", "provider.user_filter: is missing"),
    (
        "user_filter",
        "user_filter = \"(uid={user}\"",
        "is not a filter",
    ),
    (
        "user_filter",
        "user_filter = \"(uid=alice)\"",
        "is the same for everybody",
    ),
    (
        "user_filter",
        "user_filter = \"(uid={usr})\"",
        "did you mean {user}?",
    ),
    (
        "",
        "user_dn = \"uid={user},dc=example\"",
        "and so does `user_filter`",
    ),
    (
        "user_filter",
        "user_dn = \"{user}@example.com\"",
        "is not a distinguished name",
    ),
    (
        "",
        "group_filter = \"(member={user_dn})\"",
        "nothing is known as {user_dn}",
    ),
    (
        "",
        "group_attribute = \"cn\"",
        "names groups that nobody looks for",
    ),
    (
        "",
        "attributes = { user = \"a b\" }",
        "is not the name of an attribute",
    ),
];

#[test]
fn mistakes_are_told_with_a_way_out() {
    for (without, keys, told) in MISTAKES {
        let kept = GOOD
            .lines()
            .filter(|line| without.is_empty() || !line.starts_with(without));
        let kept: String = kept.map(|line| format!("{line}\n")).collect();
        let said = load(&format!("{kept}{keys}")).unwrap_err();
        assert!(said.contains(told), "{keys}: {said}");
        assert!(
            said.contains("help:") && !said.contains("hunter2"),
            "{keys}: {said}"
        );
    }
    let said = load(&format!("{GOOD}user_fliter = \"x\"")).unwrap_err();
    assert!(said.contains("user_filter"), "{said}");
    let said = load(&format!("{GOOD}attributes = {{ mail = \"x\" }}")).unwrap_err();
    assert!(said.contains("attributes.mail"), "{said}");
}

#[test]
fn where_nobody_says_below_what_groups_count_none_may() {
    let keys = "url = \"ldaps://d.example.com\"\nuser_dn = \"uid={user},dc=example,dc=com\"\n";
    let said = load(keys).unwrap_err();
    assert!(said.contains("below what do groups count?"), "{said}");
    let none = ldap(&format!("{keys}attributes = {{ groups = \"\" }}"));
    assert_eq!(
        (none.attributes.groups, none.group_base.as_str()),
        (None, "")
    );
}
