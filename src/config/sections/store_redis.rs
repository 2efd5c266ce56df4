//! `[store]` with `backend = "redis"`: which servers, who we are there, and how they prove who they are.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::{store_authorities, store_password};
use crate::config::reader::{Section, Value, quoted};
use crate::session::store::{RedisServers, RedisSettings, RedisTls};

const EXAMPLES: &str =
    "like \"rediss://doorward@redis.internal:6379\" or \"unix:/run/redis/redis.sock\"";
const PREFIX: &str = "doorward:";
const LONGEST_PREFIX: usize = 64;

/// The keys that say something about servers.
struct Keys<'a> {
    url: Option<Value<'a>>,
    password: Option<Value<'a>>,
    ca: Option<Value<'a>>,
    prefix: Option<Value<'a>>,
    sentinel: Option<Value<'a>>,
    sentinel_password: Option<Value<'a>>,
}

/// What a URL says.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Place {
    address: Address,
    way: Way,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Address {
    Tcp(String, u16),
    Socket(std::path::PathBuf),
}

/// What all URLs have to agree on.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Way {
    tls: bool,
    user: Option<String>,
    database: i64,
}

pub(super) fn read(section: &Section<'_>, timeout: Duration) -> Option<RedisSettings> {
    Keys::of(section).read(section, timeout)
}

impl<'a> Keys<'a> {
    fn of(section: &Section<'a>) -> Self {
        Self {
            url: section.value("url"),
            password: section.value("password"),
            ca: section.value("ca"),
            prefix: section.value("prefix"),
            sentinel: section.value("sentinel"),
            sentinel_password: section.value("sentinel_password"),
        }
    }

    fn read(&self, section: &Section<'_>, timeout: Duration) -> Option<RedisSettings> {
        let places = self.places(section);
        let given = |value: &Option<Value<'_>>| value.as_ref().map(store_password::read);
        let (password, sentinel_password) = (given(&self.password), given(&self.sentinel_password));
        let authorities = self.ca.as_ref().map(store_authorities::read);
        let prefix = self.prefix.as_ref().map(prefix);
        let cluster = section.boolean("cluster", false);
        let sentinel = self.sentinel.as_ref().and_then(Value::text);
        let (way, addresses) = places?;
        if let (false, Some(ca)) = (way.tls, &self.ca) {
            let complaint = ca.wrong("judges nobody: the connection is not encrypted");
            complaint
                .at_key()
                .help("remove it, or write `rediss://`")
                .push();
        }
        let servers = self.servers(&way, addresses, (cluster, sentinel))?;
        let servers = match servers {
            RedisServers::Sentinel {
                sentinels, name, ..
            } => RedisServers::Sentinel {
                sentinels,
                name,
                password: sentinel_password.flatten(),
            },
            other => {
                if let Some(useless) = &self.sentinel_password {
                    let complaint = useless.wrong("there is no sentinel").at_key();
                    complaint.help("remove it, or name `sentinel`").push();
                }
                other
            }
        };
        Some(RedisSettings {
            servers,
            user: way.user,
            password: password.flatten(),
            tls: way.tls.then(|| RedisTls {
                authorities: authorities.flatten(),
            }),
            database: way.database,
            prefix: prefix.flatten().unwrap_or_else(|| PREFIX.to_owned()),
            timeout,
        })
    }

    /// Where all URLs lead, and how.
    fn places(&self, section: &Section<'_>) -> Option<(Way, Vec<Address>)> {
        let Some(url) = &self.url else {
            let complaint = section.missing("url", "is missing: which server?");
            complaint.help(EXAMPLES).push();
            return None;
        };
        let urls = url.one_or_list();
        let places: Vec<Option<Place>> = urls.iter().map(place).collect();
        let places: Vec<Place> = places.into_iter().collect::<Option<_>>()?;
        let Some(first) = places.first() else {
            url.wrong("names no server").help(EXAMPLES).push();
            return None;
        };
        let other = places.iter().position(|place| place.way != first.way);
        if let Some(other) = other.and_then(|index| urls.get(index)) {
            let complaint = other.wrong("has another scheme, user or database than the first");
            complaint.help("all of them lead to the same data").push();
            return None;
        }
        let way = first.way.clone();
        Some((way, places.into_iter().map(|place| place.address).collect()))
    }

    fn servers(
        &self,
        way: &Way,
        addresses: Vec<Address>,
        (cluster, sentinel): (bool, Option<&str>),
    ) -> Option<RedisServers> {
        if let (true, Some(sentinel)) = (cluster, &self.sentinel) {
            let complaint = sentinel.wrong("a Cluster has no sentinels").at_key();
            complaint
                .help("remove it, or remove `cluster = true`")
                .push();
            return None;
        }
        if !cluster && self.sentinel.is_none() {
            return self.one(addresses);
        }
        let url = self.url.as_ref()?;
        let mut named = Vec::new();
        for address in addresses {
            match address {
                Address::Tcp(host, port) => named.push((host, port)),
                Address::Socket(_) => {
                    let complaint = url.wrong("a socket leads to one server alone");
                    complaint.help(EXAMPLES).push();
                    return None;
                }
            }
        }
        if cluster && way.database != 0 {
            let complaint = url.wrong("a Cluster has one database, 0");
            complaint.help("take the number out of the URL").push();
            return None;
        }
        if cluster {
            return Some(RedisServers::Cluster(named));
        }
        Some(RedisServers::Sentinel {
            sentinels: named,
            name: sentinel?.to_owned(),
            password: None,
        })
    }

    fn one(&self, addresses: Vec<Address>) -> Option<RedisServers> {
        let count = addresses.len();
        let mut addresses = addresses.into_iter();
        match (addresses.next()?, count) {
            (Address::Tcp(host, port), 1) => Some(RedisServers::One { host, port }),
            (Address::Socket(path), 1) => Some(RedisServers::Socket(path)),
            _ => {
                let complaint = self.url.as_ref()?.wrong("names several servers");
                let help = "say what they are: `cluster = true`, or `sentinel = \"mymaster\"` where these are the sentinels";
                complaint.help(help).push();
                None
            }
        }
    }
}

fn place(value: &Value<'_>) -> Option<Place> {
    let text = value.text()?;
    if let Some(path) = text.strip_prefix("unix:") {
        return socket(value, path);
    }
    let url = Url::parse(text).ok();
    let Some(url) = url.filter(|url| matches!(url.scheme(), "redis" | "rediss")) else {
        // It may hold a password where none is expected.
        value.report().blot_out(value.place());
        value
            .wrong("is not the address of a Redis server")
            .help(EXAMPLES)
            .push();
        return None;
    };
    if url.password().is_some() {
        store_password::refuse_written(value);
        return None;
    }
    if url.query().is_some() || url.fragment().is_some() {
        let complaint = value.wrong("a server is addressed by user, host, port and database alone");
        complaint.help(EXAMPLES).push();
        return None;
    }
    let host = match url.host() {
        Some(Host::Domain(name)) if !name.is_empty() => Some(name.to_owned()),
        Some(Host::Ipv4(address)) => Some(address.to_string()),
        Some(Host::Ipv6(address)) => Some(address.to_string()),
        Some(Host::Domain(_)) | None => None,
    };
    let Some(host) = host else {
        value.wrong("names no server").help(EXAMPLES).push();
        return None;
    };
    let database = match url.path().trim_start_matches('/') {
        "" => Some(0),
        number => number.parse().ok().filter(|n| (0..1 << 20).contains(n)),
    };
    let Some(database) = database else {
        let complaint = value.wrong(format!("{} is not a database", quoted(url.path())));
        complaint.help("a number, like \"/1\"").push();
        return None;
    };
    let user = percent_decode_str(url.username()).decode_utf8().ok()?;
    Some(Place {
        address: Address::Tcp(host, url.port().unwrap_or(6379)),
        way: Way {
            tls: url.scheme() == "rediss",
            user: Some(user.into_owned()).filter(|user| !user.is_empty()),
            database,
        },
    })
}

fn socket(value: &Value<'_>, path: &str) -> Option<Place> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.trim_start_matches('/').is_empty() || path.contains(['\0', '?']) {
        value.wrong("names no socket").help(EXAMPLES).push();
        return None;
    }
    Some(Place {
        address: Address::Socket(value.report().folder().join(path)),
        way: Way {
            tls: false,
            user: None,
            database: 0,
        },
    })
}

/// Braces in it would keep all of a Cluster's keys on one node.
fn prefix(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"{}*?[]\\".contains(&byte));
    if !plain || text.len() > LONGEST_PREFIX {
        let complaint = value.wrong(format!("{} cannot begin every key", quoted(text)));
        let help = format!(
            "at most {LONGEST_PREFIX} letters, digits and signs like `:` and `-`, for example \"{PREFIX}\""
        );
        complaint.help(help).push();
        return None;
    }
    Some(text.to_owned())
}
