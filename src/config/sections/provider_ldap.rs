//! `[[provider]]` of type `ldap`: which servers are asked and how, who looks for users, and what their entries mean.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::provider_oidc::timeout;
use super::store_authorities;
use super::store_password::{self, Words};
use crate::config::reader::{Section, Value, nearest, quoted};
use crate::login::{
    GroupSearch, LdapAttributes, LdapSecurity, LdapServer, LdapSettings, LdapUsers, ServiceAccount,
    is_loopback, placeholders,
};

const PASSWORD: Words = Words {
    noun: "password",
    example: "`bind_password = { file = \"secrets/ldap.password\" }` or `bind_password = { env = \"DOORWARD_LDAP_PASSWORD\" }`",
    variable: "DOORWARD_LDAP_PASSWORD",
};

const SERVERS: &str = "like \"ldaps://ldap.example.com\", or \"ldap://ldap.example.com\" for StartTLS, or a list of them";
const FILTER: &str = "user_filter = \"(&(objectClass=person)(uid={user}))\"";

/// `None` where a part is missing that nothing can stand in for; that has been reported then.
pub(super) fn read(section: &Section<'_>) -> Option<LdapSettings> {
    let servers = servers(section);
    let authorities = section.value("ca_file");
    let authorities = authorities.as_ref().and_then(store_authorities::read);
    let connect_timeout = section
        .value("connect_timeout")
        .and_then(|value| value.duration_in(Duration::from_millis(100)..=Duration::from_mins(1)));
    let answer_timeout = timeout(section);
    let connections = section.integer_in("connections", 1..=256);
    let service = service(section);
    let (base, users) = users(section);
    let attributes = attributes(section);
    let (group_base, group_search) = groups(section, base);
    let max_attempts = section.integer_in("max_attempts", 1..=10_000);
    let attempt_window = section.duration("attempt_window", Duration::from_mins(15));
    if group_base.is_none() && (attributes.groups.is_some() || group_search.is_some()) {
        let complaint = section.missing("group_base_dn", "is missing: below what do groups count?");
        let help = "like `group_base_dn = \"ou=groups,dc=example,dc=com\"`, or `attributes = { groups = \"\" }` where none do";
        complaint.help(help).push();
        return None;
    }
    Some(LdapSettings {
        servers: servers?,
        authorities,
        connect_timeout: connect_timeout.unwrap_or(Duration::from_secs(3)),
        answer_timeout,
        connections: connections.unwrap_or(8),
        service: service.ok()?,
        users: users?,
        group_base: group_base.unwrap_or_default(),
        group_search,
        attributes,
        max_attempts: max_attempts.unwrap_or(10),
        attempt_window,
    })
}

fn servers(section: &Section<'_>) -> Option<Vec<LdapServer>> {
    let start_tls = section.value("start_tls");
    let is_bare = start_tls.as_ref().and_then(Value::boolean) == Some(false);
    let value = section.required("url", "url = \"ldaps://ldap.example.com\"")?;
    let urls = value.one_or_list();
    if urls.is_empty() {
        value.wrong("names no server").help(SERVERS).push();
    }
    let servers: Vec<_> = urls.iter().map(|url| server(url, is_bare)).collect();
    let servers: Vec<LdapServer> = servers.into_iter().collect::<Option<_>>()?;
    let is_said = |server: &LdapServer| matches!(server, LdapServer::Tcp { security, .. } if *security != LdapSecurity::Tls);
    if let (Some(start_tls), false) = (start_tls, servers.iter().any(is_said)) {
        let complaint = start_tls.wrong("is for addresses with `ldap://`, and there is none");
        complaint.at_key().help("remove it").push();
    }
    (!servers.is_empty()).then_some(servers)
}

fn server(value: &Value<'_>, is_bare: bool) -> Option<LdapServer> {
    let text = value.text()?;
    let complain = |message: String, help: &str| {
        value.wrong(message).help(help).push();
        None
    };
    let url = Url::parse(text).ok();
    let Some(url) = url.filter(|url| matches!(url.scheme(), "ldap" | "ldaps" | "ldapi")) else {
        return complain(
            format!("{} is not the address of a directory", quoted(text)),
            SERVERS,
        );
    };
    if url.password().is_some() {
        store_password::refuse_written(value);
        return None;
    }
    let is_plain =
        matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !is_plain || !url.username().is_empty() {
        let help = "the rest has keys of its own: `bind_dn`, `base_dn` and `user_filter`";
        return complain(format!("{} holds more than a server", quoted(text)), help);
    }
    if url.scheme() == "ldapi" {
        let path = percent_decode_str(url.host_str().unwrap_or_default()).decode_utf8();
        let path = path
            .ok()
            .filter(|path| path.starts_with('/') && !path.contains('\0'));
        let help = "its slashes are written %2F: \"ldapi://%2Frun%2Fslapd%2Fldapi\"";
        return match path {
            Some(path) => Some(LdapServer::Socket(PathBuf::from(&*path))),
            None => complain(format!("{} names no socket", quoted(text)), help),
        };
    }
    // Only schemes of the web have their hosts looked at.
    let host = url.host_str().and_then(|host| Host::parse(host).ok());
    let host = match host {
        Some(Host::Domain(name)) => name,
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => return complain(format!("{} names no server", quoted(text)), SERVERS),
    };
    let security = match url.scheme() {
        "ldaps" => LdapSecurity::Tls,
        _ if !is_bare => LdapSecurity::StartTls,
        _ if is_here(&url) => LdapSecurity::None,
        _ => {
            let help = "without TLS whoever is on the way reads every password, and lets in whom they like; on this machine alone `start_tls = false` will do";
            return complain(format!("{} is not on this machine", quoted(text)), help);
        }
    };
    let port = if security == LdapSecurity::Tls {
        636
    } else {
        389
    };
    Some(LdapServer::Tcp {
        host,
        port: url.port().unwrap_or(port),
        security,
    })
}

fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let as_web = Url::parse(&format!("http://{host}/")).ok();
    as_web.is_some_and(|url| is_loopback(&url))
}

/// `None`: nobody in particular looks for users. An error has been reported.
fn service(section: &Section<'_>) -> Result<Option<ServiceAccount>, ()> {
    let dn = section.value("bind_dn");
    let password = section.value("bind_password");
    store_password::know(password.as_ref());
    match (&dn, &password) {
        (None, None) => Ok(None),
        (Some(dn), Some(password)) => {
            let password = store_password::read_as(password, &PASSWORD);
            // Active Directory takes a name like an address, too.
            let dn = dn.text().ok_or(())?;
            Ok(Some(ServiceAccount {
                dn: dn.to_owned(),
                password: password.ok_or(())?,
            }))
        }
        (Some(_), None) => {
            let complaint = section.missing("bind_password", "is missing");
            complaint.help(PASSWORD.example).push();
            Err(())
        }
        (None, Some(password)) => {
            let complaint = password.wrong("is nobody's without `bind_dn`").at_key();
            complaint.help("keep both, or none").push();
            Err(())
        }
    }
}

/// The base of all, and how users are found.
fn users(section: &Section<'_>) -> (Option<String>, Option<LdapUsers>) {
    let base = section.value("base_dn").and_then(|value| dn(&value));
    let (filter, direct) = (section.value("user_filter"), section.value("user_dn"));
    let users = match (filter, direct) {
        (Some(filter), None) => {
            let filter = checked_filter(&filter, &["user"], &["user"]);
            if section.value("base_dn").is_none() {
                let complaint = section.missing("base_dn", "is missing: where are the users?");
                complaint
                    .help("like `base_dn = \"dc=example,dc=com\"`")
                    .push();
            }
            filter
                .zip(base.clone())
                .map(|(filter, base)| LdapUsers::Search { base, filter })
        }
        (None, Some(direct)) => {
            let template = with_places(&direct, &["user"], &["user"]);
            let template = template.and_then(|_| dn(&direct));
            template.map(LdapUsers::Dn)
        }
        (Some(_), Some(direct)) => {
            let complaint = direct
                .wrong("says who is meant, and so does `user_filter`")
                .at_key();
            complaint.help("keep one of the two").push();
            None
        }
        (None, None) => {
            let complaint = section.missing("user_filter", "is missing: who is meant by a name?");
            let help = format!(
                "`{FILTER}` with `base_dn`, or `user_dn = \"uid={{user}},ou=people,dc=example,dc=com\"`"
            );
            complaint.help(help).push();
            None
        }
    };
    (base, users)
}

fn groups(section: &Section<'_>, base: Option<String>) -> (Option<String>, Option<GroupSearch>) {
    let own = section.value("group_base_dn").and_then(|value| dn(&value));
    let filter = section.value("group_filter");
    let named = section.value("group_attribute");
    let attribute = named.as_ref().and_then(attribute);
    if let (Some(named), None) = (&named, &filter) {
        let complaint = named.wrong("names groups that nobody looks for").at_key();
        complaint.help("remove it, or add `group_filter`").push();
    }
    let search = filter.and_then(|filter| {
        let filter = checked_filter(&filter, &["dn", "user"], &[])?;
        Some(GroupSearch {
            filter,
            attribute: attribute.unwrap_or("cn").to_owned(),
        })
    });
    (own.or(base), search)
}

fn attributes(section: &Section<'_>) -> LdapAttributes {
    let given = section.section("attributes");
    let own = |key: &'static str, usual: &str| {
        let value = given.value(key);
        let name = value.as_ref().and_then(attribute);
        name.unwrap_or(usual).to_owned()
    };
    // Empty: the entry of a user names no groups.
    let is_none = given
        .value("groups")
        .is_some_and(|value| value.as_text() == Some(""));
    let attributes = LdapAttributes {
        subject: own("subject", "entryUUID"),
        user: own("user", "uid"),
        name: own("name", "cn"),
        email: own("email", "mail"),
        groups: (!is_none).then(|| own("groups", "memberOf")),
    };
    given.finish();
    attributes
}

/// RFC 4512 section 1.4, `descr` and options.
fn attribute<'a>(value: &Value<'a>) -> Option<&'a str> {
    let text = value.text()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-;.".contains(&b);
    if text.len() > 128 || !text.bytes().all(plain) {
        let complaint = value.wrong(format!("{} is not the name of an attribute", quoted(text)));
        complaint.help("one word, like \"mail\"").push();
        return None;
    }
    Some(text)
}

fn dn(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if !is_dn(text) {
        let complaint = value.wrong(format!("{} is not a distinguished name", quoted(text)));
        complaint
            .help("like \"ou=people,dc=example,dc=com\"")
            .push();
        return None;
    }
    Some(text.to_owned())
}

fn checked_filter(value: &Value<'_>, known: &[&'static str], needed: &[&str]) -> Option<String> {
    let text = with_places(value, known, needed)?;
    if !is_filter(text) {
        let complaint = value.wrong(format!("{} is not a filter", quoted(text)));
        complaint
            .help("in brackets, as RFC 4515 has it: \"(uid={user})\"")
            .push();
        return None;
    }
    Some(text.to_owned())
}

/// A text that has places for what is known of a user: all of `needed`, or any of `known` where none is.
fn with_places<'a>(value: &Value<'a>, known: &[&'static str], needed: &[&str]) -> Option<&'a str> {
    let text = value.text()?;
    let found: Vec<&str> = placeholders(text).collect();
    if let Some(strange) = found.iter().find(|name| !known.contains(name)) {
        let complaint = value.wrong(format!("nothing is known as {{{strange}}}"));
        let meant = nearest(strange, known.iter().copied());
        let meant = meant.or(known.first().copied()).unwrap_or_default();
        complaint.help(format!("did you mean {{{meant}}}?")).push();
        return None;
    }
    let is_whole = needed.iter().all(|name| found.contains(name)) && !found.is_empty();
    if !is_whole {
        let complaint = value.wrong(format!("{} is the same for everybody", quoted(text)));
        let places: Vec<_> = known.iter().map(|name| format!("{{{name}}}")).collect();
        complaint
            .help(format!(
                "{} stands for the one who logs in",
                places.join(" or ")
            ))
            .push();
        return None;
    }
    Some(text)
}

#[cfg(feature = "ldap")]
use crate::login::{is_ldap_dn as is_dn, is_ldap_filter as is_filter};

/// Without LDAP nothing of it is used.
#[cfg(not(feature = "ldap"))]
fn is_filter(_: &str) -> bool {
    true
}

#[cfg(not(feature = "ldap"))]
fn is_dn(_: &str) -> bool {
    true
}
