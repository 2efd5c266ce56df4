//! What the client must see differently from what the app said: redirects that name the app's own address.

use super::Target;

/// A `Location` that points at the app's own address becomes a path on the host that the client asked (and, where
/// the route took a prefix off, that prefix is put back). Anything else is left as it is: `None`.
pub fn rewrite_location(location: &str, target: &Target, prefix: Prefix<'_>) -> Option<String> {
    let own = location
        .strip_prefix("http://")
        .or_else(|| location.strip_prefix("https://"))
        .and_then(|rest| strip_ignoring_case(rest, &target.authority))
        .filter(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
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

fn strip_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Address;

    fn rewritten(location: &str, stripped: Option<&str>, added: Option<&str>) -> Option<String> {
        let target = Target {
            url: "http://app.internal:3000".into(),
            address: Address::Socket(([127, 0, 0, 1], 3000).into()),
            authority: "app.internal:3000".into(),
            tls: None,
            max_idle: 1,
            max_connections: 1,
        };
        rewrite_location(location, &target, Prefix { stripped, added })
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
