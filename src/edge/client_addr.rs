//! Who is calling: the other end of the connection, or whom trusted proxies name. And what we tell upstreams of it.
//! What anybody else says about that is not looked at.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Where a request comes from. IPv4 addresses in IPv6 clothes (`::ffff:192.0.2.1`) are plain IPv4 here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientAddr {
    pub ip: IpAddr,
    /// Trusted proxies between the client and us, the client's own neighbour first; the last is the connection's other
    /// end. Empty where the client itself is that.
    pub proxies: Vec<IpAddr>,
}

impl ClientAddr {
    /// The connection's other end is all that is known.
    pub fn direct(peer: IpAddr) -> Self {
        Self {
            ip: peer.to_canonical(),
            proxies: Vec::new(),
        }
    }

    /// `X-Forwarded-For` and `Forwarded` are believed as far as trusted proxies wrote them: from the right, until an
    /// address that is not trusted, or anything that is no address. Where both are there and name different clients,
    /// one of them came from the client, and the connection's other end is all that is known.
    pub fn of(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let direct = Self::direct(peer);
        let peer = direct.ip;
        if !is_in(trusted, peer) {
            return direct;
        }
        let by_custom = fields(headers, &X_FORWARDED_FOR, custom_addresses);
        let by_standard = fields(headers, &FORWARDED, standard_addresses);
        match (by_custom, by_standard) {
            (None, None) => direct,
            (Some(named), None) | (None, Some(named)) => walk(peer, named, trusted),
            (Some(one), Some(other)) => {
                let (one, other) = (walk(peer, one, trusted), walk(peer, other, trusted));
                if one.ip == other.ip { one } else { direct }
            }
        }
    }

    /// `X-Forwarded-For` as we write it: the client, then the proxies. Nothing that was not believed goes on.
    pub fn x_forwarded_for(&self) -> HeaderValue {
        let mut text = self.ip.to_string();
        for proxy in &self.proxies {
            push(&mut text, format_args!(", {proxy}"));
        }
        value(text)
    }

    /// `Forwarded` (RFC 7239) as we write it: one element for the client and one for each proxy. The last, which
    /// stands for what we saw ourselves, says `host` and `proto` too.
    pub fn forwarded(&self, host: &str, proto: &str) -> HeaderValue {
        let (last, before) = match self.proxies.split_last() {
            Some((last, between)) => (*last, Some((self.ip, between))),
            None => (self.ip, None),
        };
        let mut text = String::new();
        if let Some((client, between)) = before {
            for ip in std::iter::once(client).chain(between.iter().copied()) {
                push(&mut text, format_args!("for={}, ", node(ip)));
            }
        }
        text.push_str(&forwarded_element(last, host, proto));
        value(text)
    }
}

/// One element of `Forwarded`: `for=192.0.2.1;host=a.example;proto=https`. What is no token is quoted (RFC 7239
/// section 4), so an IPv6 address stands in brackets and quotes and a host with its port in quotes.
fn forwarded_element(ip: IpAddr, host: &str, proto: &str) -> String {
    format!(
        "for={};host={};proto={}",
        node(ip),
        quoted(host),
        quoted(proto)
    )
}

fn push(text: &mut String, args: std::fmt::Arguments<'_>) {
    // Writing into memory does not fail.
    let written = text.write_fmt(args);
    debug_assert!(written.is_ok());
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

fn node(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("\"[{ip}]\""),
    }
}

/// A token as it is, anything else as a quoted string.
fn quoted(text: &str) -> String {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_token) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for char in text.chars() {
        if matches!(char, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(char);
    }
    quoted.push('"');
    quoted
}

fn is_in(nets: &[IpNet], ip: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&ip))
}

/// What proxies wrote about where a request came from, the first hop first. `None`: something that is no address.
type Named = Vec<Option<IpAddr>>;

/// Joins the lines of one field; `None` where there is none.
fn fields(headers: &HeaderMap, name: &HeaderName, read: fn(&str) -> Named) -> Option<Named> {
    let mut lines = headers.get_all(name).into_iter().peekable();
    lines.peek()?;
    // A line that is no text says nothing, and nothing before it can be believed.
    Some(
        lines
            .flat_map(|line| line.to_str().map_or_else(|_| vec![None], read))
            .collect(),
    )
}

/// From the connection's other end towards the client, as long as the one who speaks is trusted.
fn walk(peer: IpAddr, named: Named, trusted: &[IpNet]) -> ClientAddr {
    let mut client = ClientAddr {
        ip: peer,
        proxies: Vec::new(),
    };
    for next in named.into_iter().rev() {
        let Some(next) = next.filter(|_| is_in(trusted, client.ip)) else {
            break;
        };
        client.proxies.push(client.ip);
        client.ip = next;
    }
    client.proxies.reverse();
    client
}

/// `X-Forwarded-For`: addresses, some with a port.
fn custom_addresses(line: &str) -> Named {
    line.split(',').map(|text| address(text.trim())).collect()
}

/// `Forwarded`: the `for` of each element. A line whose quotes do not end says nothing.
fn standard_addresses(line: &str) -> Named {
    match split_outside_quotes(line, ',') {
        Some(elements) => elements.into_iter().map(element_for).collect(),
        None => vec![None],
    }
}

fn element_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in split_outside_quotes(element, ';')? {
        let (name, value) = pair.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("for") && found.replace(value.trim()).is_some() {
            return None;
        }
    }
    let value = found?;
    match value.strip_prefix('"') {
        // No address needs a backslash, so what has one is none.
        Some(rest) => address(rest.strip_suffix('"')?),
        None if value.contains(['[', ':']) => None,
        None => address(value),
    }
}

/// `None` where a quoted string does not end.
fn split_outside_quotes(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = text.split(|char: char| {
        if std::mem::take(&mut is_escaped) {
            return false;
        }
        match char {
            '\\' => is_escaped = is_quoted,
            '"' => is_quoted = !is_quoted,
            char => return char == separator && !is_quoted,
        }
        false
    });
    let parts = parts.collect();
    (!is_quoted).then_some(parts)
}

/// An address as proxies write it: bare, in brackets, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.parse::<IpAddr>().ok();
    let ported = || text.parse::<SocketAddr>().ok().map(|addr| addr.ip());
    let bracketed = || {
        text.strip_prefix('[')?
            .strip_suffix(']')?
            .parse::<std::net::Ipv6Addr>()
            .ok()
            .map(IpAddr::V6)
    };
    bare()
        .or_else(ported)
        .or_else(bracketed)
        .map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn trusted() -> Vec<IpNet> {
        ["10.0.0.0/8", "fd00::/8"]
            .map(|net| net.parse().unwrap())
            .to_vec()
    }

    fn seen(peer: &str, fields: &[(&'static str, &str)]) -> String {
        ClientAddr::of(ip(peer), &headers(fields), &trusted())
            .ip
            .to_string()
    }

    #[test]
    fn strangers_are_not_believed() {
        let fields = [
            ("x-forwarded-for", "192.0.2.7"),
            ("forwarded", "for=192.0.2.7"),
        ];
        assert_eq!(seen("198.51.100.1", &fields), "198.51.100.1");
        assert_eq!(seen("::ffff:198.51.100.1", &fields), "198.51.100.1");
        let nobody = ClientAddr::of(ip("10.0.0.1"), &headers(&fields), &[]);
        assert_eq!(
            nobody,
            ClientAddr {
                ip: ip("10.0.0.1"),
                proxies: vec![]
            }
        );
    }

    #[test]
    fn the_first_address_that_is_not_trusted_is_the_client() {
        for (value, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("203.0.113.9, 192.0.2.7", "192.0.2.7"),
            ("203.0.113.9, 192.0.2.7, 10.0.0.2,10.0.0.3", "192.0.2.7"),
            ("10.9.9.9, 10.0.0.2", "10.9.9.9"),
            ("192.0.2.7:4711", "192.0.2.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("192.0.2.7, ::ffff:10.0.0.2", "192.0.2.7"),
            ("192.0.2.7, fd00::1", "192.0.2.7"),
        ] {
            assert_eq!(
                seen("10.0.0.1", &[("x-forwarded-for", value)]),
                expected,
                "{value:?}"
            );
        }
        assert_eq!(
            seen("::ffff:10.0.0.1", &[("x-forwarded-for", "192.0.2.7")]),
            "192.0.2.7"
        );
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        for (value, expected) in [
            ("", "10.0.0.1"),
            ("unknown", "10.0.0.1"),
            ("192.0.2.7, unknown", "10.0.0.1"),
            ("192.0.2.7,", "10.0.0.1"),
            ("192.0.2.7, x, 10.0.0.2", "10.0.0.2"),
            ("192.0.2.7 10.0.0.2", "10.0.0.1"),
            ("192.0.2.07", "10.0.0.1"),
            ("192.0.2", "10.0.0.1"),
            ("3221225991", "10.0.0.1"),
            ("192.0.2.7:99999", "10.0.0.1"),
            ("[192.0.2.7]", "10.0.0.1"),
            ("fe80::1%eth0", "10.0.0.1"),
            ("localhost", "10.0.0.1"),
            ("192.0.2.7\u{e9}", "10.0.0.1"),
            ("\"192.0.2.7\"", "10.0.0.1"),
        ] {
            assert_eq!(
                seen("10.0.0.1", &[("x-forwarded-for", value)]),
                expected,
                "{value:?}"
            );
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = [
            ("x-forwarded-for", "203.0.113.9, 192.0.2.7"),
            ("x-forwarded-for", "10.0.0.2"),
        ];
        assert_eq!(seen("10.0.0.1", &lines), "192.0.2.7");
        let broken = [
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-for", "\u{e9}"),
        ];
        assert_eq!(seen("10.0.0.1", &broken), "10.0.0.1");
    }

    #[test]
    fn the_standard_field_is_read_in_all_its_forms() {
        for (value, expected) in [
            ("for=192.0.2.7", "192.0.2.7"),
            ("For=192.0.2.7;proto=http;by=203.0.113.43", "192.0.2.7"),
            ("proto=http; FOR=\"192.0.2.7:4711\"", "192.0.2.7"),
            ("for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("for=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("for=203.0.113.9, for=192.0.2.7, for=10.0.0.2", "192.0.2.7"),
            ("for=192.0.2.7;host=\"a,for=203.0.113.9\"", "192.0.2.7"),
            ("for=192.0.2.7;host=\"a\\\";for=203.0.113.9\"", "192.0.2.7"),
            ("for=192.0.2.7, for=unknown", "10.0.0.1"),
            ("for=192.0.2.7, for=_hidden", "10.0.0.1"),
            ("for=192.0.2.7, proto=http", "10.0.0.1"),
            ("for=192.0.2.7;for=203.0.113.9", "10.0.0.1"),
            ("for=\"192.0.2.7", "10.0.0.1"),
            ("for=192.0.2.7\"", "10.0.0.1"),
            ("for=[2001:db8::1]", "10.0.0.1"),
            ("for=2001:db8::1", "10.0.0.1"),
            ("for=\"192.0.2.7\\\"\"", "10.0.0.1"),
            ("for", "10.0.0.1"),
            ("", "10.0.0.1"),
        ] {
            assert_eq!(
                seen("10.0.0.1", &[("forwarded", value)]),
                expected,
                "{value:?}"
            );
        }
    }

    #[test]
    fn of_two_fields_that_differ_neither_is_believed() {
        let both = |standard| [("x-forwarded-for", "192.0.2.7"), ("forwarded", standard)];
        assert_eq!(seen("10.0.0.1", &both("for=192.0.2.7")), "192.0.2.7");
        assert_eq!(seen("10.0.0.1", &both("for=203.0.113.9")), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &both("for=unknown")), "10.0.0.1");
    }

    #[test]
    fn what_goes_on_is_what_was_believed() {
        let fields = [("x-forwarded-for", "evil, 192.0.2.7, fd00::2")];
        let client = ClientAddr::of(ip("10.0.0.1"), &headers(&fields), &trusted());
        assert_eq!(client.x_forwarded_for(), "192.0.2.7, fd00::2, 10.0.0.1");
        assert_eq!(
            client.forwarded("a.example:8443", "https"),
            "for=192.0.2.7, for=\"[fd00::2]\", for=10.0.0.1;host=\"a.example:8443\";proto=https"
        );
        let direct = ClientAddr::of(ip("2001:db8::1"), &headers(&fields), &trusted());
        assert_eq!(direct.x_forwarded_for(), "2001:db8::1");
        assert_eq!(
            direct.forwarded("a", "https"),
            "for=\"[2001:db8::1]\";host=a;proto=https"
        );
    }

    #[test]
    fn an_element_cannot_be_broken_out_of() {
        let element = forwarded_element(ip("192.0.2.1"), "a\";for=x\\", "https");
        assert_eq!(
            element,
            "for=192.0.2.1;host=\"a\\\";for=x\\\\\";proto=https"
        );
        assert_eq!(
            forwarded_element(ip("192.0.2.1"), "", "https"),
            "for=192.0.2.1;host=\"\";proto=https"
        );
    }

    fn any_line() -> impl Strategy<Value = String> {
        let pieces = [
            "192.0.2.7",
            "10.0.0.2",
            "2001:db8::1",
            "[fd00::1]:1",
            "for=",
            "for=10.0.0.2",
            "\"",
            ",",
            ", ",
            ";",
            "=",
            "\\",
            "unknown",
            "x",
            ":80",
        ];
        prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..9)
            .prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn every_step_was_vouched_for(custom in prop::option::of(any_line()), standard in prop::option::of(any_line())) {
            let custom = custom.iter().map(|value| ("x-forwarded-for", value.as_str()));
            let standard = standard.iter().map(|value| ("forwarded", value.as_str()));
            let fields: Vec<_> = custom.chain(standard).collect();
            let client = ClientAddr::of(ip("10.0.0.1"), &headers(&fields), &trusted());
            prop_assert!(client.proxies.iter().all(|proxy| is_in(&trusted(), *proxy)));
            prop_assert_eq!(client.proxies.last().copied().unwrap_or(client.ip), ip("10.0.0.1"));
        }

        #[test]
        fn what_a_client_puts_in_front_changes_nothing(forged in any_line()) {
            let value = format!("{forged}, 192.0.2.7, 10.0.0.2");
            prop_assert_eq!(seen("10.0.0.1", &[("x-forwarded-for", &value)]), "192.0.2.7");
        }

        #[test]
        fn what_we_write_we_read(v6: bool, long: [u8; 16], short: [u8; 4]) {
            let client = if v6 { IpAddr::from(long) } else { IpAddr::from(short) };
            let client = client.to_canonical();
            prop_assume!(!is_in(&trusted(), client));
            let sent = ClientAddr { ip: client, proxies: vec![ip("10.0.0.9")] };
            let (custom, standard) = (sent.x_forwarded_for(), sent.forwarded("a:1", "https"));
            let fields = [("x-forwarded-for", custom.to_str().unwrap()), ("forwarded", standard.to_str().unwrap())];
            let received = ClientAddr::of(ip("10.0.0.1"), &headers(&fields), &trusted());
            prop_assert_eq!(received.ip, client);
            prop_assert_eq!(received.proxies, [ip("10.0.0.9"), ip("10.0.0.1")]);
        }
    }
}
