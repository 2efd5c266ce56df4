//! What the client must see differently from what the app said: redirects that name the app's own address.

use super::Target;

/// A `Location` that points at the app's own address becomes a path on the host that the client asked (and, where
/// the route took a prefix off, that prefix is put back). Anything else is left as it is: `None`.
///
/// `sent` is the Host that the app was told. Apps that do not know of the proxy make an address of it, with `http`
/// in front or with the port that they listen on.
pub fn rewrite_location(
    location: &str,
    target: &Target,
    sent: &str,
    prefix: Prefix<'_>,
) -> Option<String> {
    let own = own_path(location, target, sent);
    let path = match own {
        Some("") => "/",
        Some(rest) => rest,
        None if location.starts_with('/') && !location.starts_with("//") => location,
        None => return None,
    };
    let path = match prefix.added.map(|added| path.strip_prefix(added)) {
        Some(Some("")) => "/",
        Some(Some(rest)) if rest.starts_with(['/', '?', '#']) => rest,
        _ => path,
    };
    let stripped = prefix.stripped.unwrap_or_default();
    let (gap, path) = if path.starts_with('/') {
        ("", path)
    } else {
        ("/", path)
    };
    let rewritten = format!("{stripped}{gap}{path}");
    // An app must not be able to send the browser elsewhere by a path of its own.
    (rewritten != location && !rewritten.starts_with("//")).then_some(rewritten)
}

/// What a route did to the path on the way in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prefix<'a> {
    pub stripped: Option<&'a str>,
    pub added: Option<&'a str>,
}

/// What follows the app's own address in `location`.
fn own_path<'a>(location: &'a str, target: &Target, sent: &str) -> Option<&'a str> {
    let (scheme, rest) = location.split_once("://")?;
    let is_tls = match scheme {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let is = |own: &str| authority.eq_ignore_ascii_case(own);
    let told_of = is(sent);
    let at_its_port = is_tls == target.tls.is_some() && is(&at_port_of(&target.authority, sent));
    // `https` and what was asked for is the address that the client knows: there is nothing to repair.
    (is(&target.authority) || (told_of && !is_tls) || (at_its_port && !told_of)).then_some(path)
}

/// The host of `sent` with the port of `authority`.
fn at_port_of(authority: &str, sent: &str) -> String {
    let host = split_port(sent).0;
    match split_port(authority).1 {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Address;

    fn rewritten(location: &str, stripped: Option<&str>, added: Option<&str>) -> Option<String> {
        rewritten_for("wiki.example:8443", location, Prefix { stripped, added })
    }

    fn rewritten_for(sent: &str, location: &str, prefix: Prefix<'_>) -> Option<String> {
        let target = Target {
            url: "http://app.internal:3000".into(),
            address: Address::Socket(([127, 0, 0, 1], 3000).into()),
            authority: "app.internal:3000".into(),
            tls: None,
            max_idle: 1,
            max_connections: 1,
        };
        rewrite_location(location, &target, sent, prefix)
    }

    #[test]
    fn the_apps_own_address_becomes_a_path() {
        let plain = |location| rewritten(location, None, None);
        assert_eq!(
            plain("http://app.internal:3000/x?y#z").as_deref(),
            Some("/x?y#z")
        );
        assert_eq!(plain("HTTP://x/"), None);
        assert_eq!(plain("http://APP.internal:3000").as_deref(), Some("/"));
        assert_eq!(plain("http://app.internal:3000?q").as_deref(), Some("/?q"));
        assert_eq!(plain("http://app.internal:30001/x"), None);
        assert_eq!(plain("http://app.internal:3000.evil.example/"), None);
        assert_eq!(plain("https://elsewhere.example/x"), None);
        assert_eq!(plain("/x"), None, "nothing to change");
        assert_eq!(plain("relative"), None);
    }

    #[test]
    fn what_an_app_makes_of_the_host_it_was_told_becomes_a_path() {
        let plain = |location| rewritten(location, None, None);
        let own = [
            "http://wiki.example:3000/sub/", // nginx, for a folder without its slash
            "http://WIKI.example:8443/sub/", // one that does not know of https
        ];
        for location in own {
            assert_eq!(plain(location).as_deref(), Some("/sub/"), "{location}");
        }
        let others = [
            "https://wiki.example:8443/sub/",
            "https://wiki.example:3000/sub/",
            "http://wiki.example/sub/",
            "http://wiki.example:30001/sub/",
            "http://wiki.example:3000@evil.example/",
            "http://user@wiki.example:3000/",
        ];
        for location in others {
            assert_eq!(plain(location), None, "{location}");
        }
        let v6 = |location| rewritten_for("[::1]", location, Prefix::default());
        assert_eq!(v6("http://[::1]:3000/a").as_deref(), Some("/a"));
        assert_eq!(v6("http://[::1]/a").as_deref(), Some("/a"));
        assert_eq!(
            rewritten("http://wiki.example:3000/a", Some("/wiki"), None).as_deref(),
            Some("/wiki/a")
        );
        assert_eq!(plain("http://wiki.example:3000//evil.example/x"), None);
    }

    #[test]
    fn a_stripped_prefix_is_put_back_and_an_added_one_taken_off() {
        assert_eq!(
            rewritten("/login", Some("/wiki"), None).as_deref(),
            Some("/wiki/login")
        );
        assert_eq!(
            rewritten("http://app.internal:3000/a", Some("/wiki"), None).as_deref(),
            Some("/wiki/a")
        );
        assert_eq!(
            rewritten("/base/a", None, Some("/base")).as_deref(),
            Some("/a")
        );
        assert_eq!(rewritten("/basement", None, Some("/base")), None);
        assert_eq!(rewritten("//evil.example", Some("/wiki"), None), None);
    }

    #[test]
    fn no_rewriting_yields_another_host() {
        assert_eq!(
            rewritten("http://app.internal:3000//evil.example/x", None, None),
            None
        );
    }
}
