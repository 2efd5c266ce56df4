//! Header fields that end at one hop, and those that must not come after a body. It is the same for requests and
//! responses, and knows no route.

use http::header::{self, HeaderMap, HeaderName};

/// Removes what is meant for the next hop only, from a request or a response: the fields that `Connection` names, then
/// `Connection` and its kin. Whoever sends the message on adds its own afterwards (`TE: trailers`, an upgrade).
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let (mut has_connection, mut has_kin, mut nominates) = (false, false, false);
    for (name, value) in &*headers {
        if *name == header::CONNECTION {
            has_connection = true;
            nominates |= options(value.as_bytes()).any(|option| !is_customary(option));
        } else {
            has_kin |= is_hop_by_hop(name.as_str());
        }
    }
    if nominates {
        let fields = headers.get_all(header::CONNECTION).into_iter();
        let named = fields.flat_map(|value| options(value.as_bytes()));
        let named: Vec<_> = named
            .filter_map(|name| HeaderName::from_bytes(name).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    if has_connection {
        headers.remove(header::CONNECTION);
    }
    if has_kin {
        for name in &KIN {
            headers.remove(name);
        }
    }
}

/// Whether a field (lower case) must not come after a body (RFC 9110 section 6.5.1): it frames or routes the message,
/// says who sent it, or changes how what came before it is read. Fields of identity are for
/// [`FoldedNames`](crate::identity::FoldedNames) to tell.
pub fn forbidden_trailer(name: &str) -> bool {
    is_hop_by_hop(name)
        || name.starts_with("content-")
        || name.starts_with("if-")
        || matches!(
            name,
            "age"
                | "authorization"
                | "cache-control"
                | "cookie"
                | "date"
                | "expect"
                | "expires"
                | "forwarded"
                | "host"
                | "location"
                | "max-forwards"
                | "pragma"
                | "range"
                | "retry-after"
                | "set-cookie"
                | "trailer"
                | "vary"
                | "warning"
                | "www-authenticate"
        )
}

/// The members of a list of tokens, as in `Connection`.
pub(super) fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Fields besides `Connection` that end where it does (RFC 9110 section 7.6.1, and older custom). `Trailer` is not among them.
static KIN: [HeaderName; 9] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("http2-settings"),
];

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Options that name no field, or one that goes anyway.
fn is_customary(option: &[u8]) -> bool {
    [b"".as_slice(), b"keep-alive", b"close", b"upgrade", b"te"]
        .iter()
        .any(|known| option.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn stripped(fields: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(ToString::to_string).collect();
        left.sort_unstable();
        left
    }

    #[test]
    fn what_is_for_this_hop_stays_here() {
        assert_eq!(
            stripped(&[("host", "a"), ("trailer", "x"), ("cookie", "a=1")]),
            ["cookie", "host", "trailer"]
        );
        for name in KIN.iter().chain([&header::CONNECTION]) {
            assert!(is_hop_by_hop(name.as_str()), "{name}");
            assert_eq!(
                stripped(&[("host", "a"), (name.as_str(), "x")]),
                ["host"],
                "{name}"
            );
        }
    }

    #[test]
    fn what_connection_names_goes_with_it() {
        let named = stripped(&[
            ("connection", "close, X-Hop , ,x-remote-user"),
            ("connection", "keep-alive"),
            ("connection", "TE,X_Other,bad name,\"q\""),
            ("x-hop", "1"),
            ("x-hop", "2"),
            ("x_other", "3"),
            ("x-remote-user", "eve"),
            ("x-stays", "4"),
        ]);
        assert_eq!(named, ["x-stays"]);
    }

    #[test]
    fn trailers_do_not_frame_route_or_authenticate() {
        for name in [
            "content-length",
            "host",
            "transfer-encoding",
            "trailer",
            "te",
            "authorization",
            "cookie",
            "set-cookie",
            "content-type",
            "content-encoding",
            "if-match",
            "max-forwards",
            "connection",
            "cache-control",
            "location",
        ] {
            assert!(forbidden_trailer(name), "{name}");
        }
        for name in [
            "grpc-status",
            "grpc-message",
            "grpc-status-details-bin",
            "etag",
            "digest",
            "server-timing",
        ] {
            assert!(!forbidden_trailer(name), "{name}");
        }
    }
}
