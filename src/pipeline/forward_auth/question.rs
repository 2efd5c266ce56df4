//! What another proxy asks: which request it is about to send on, told in the fields of that proxy's own convention. All of
//! it is read strictly, since whatever has two readings here has another one there. It decides nothing.

use http::header::{HeaderMap, HeaderName};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Uri};

use crate::pipeline::Refusal;
use crate::pipeline::admit::check_method;
use crate::routing::split_authority;
use crate::wire::RESERVED_PREFIX;

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
const X_ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");

/// Whose convention it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::pipeline) enum Convention {
    Caddy,
    /// `ext_authz` over HTTP: the request's own method and path, below the place.
    Envoy,
    /// `auth_request`: knows 2xx, 401 and 403.
    Nginx,
    /// `forwardAuth`, and whatever else can tell the same fields.
    Traefik,
}

impl Convention {
    /// Looks at the path as it was written: what Envoy puts below our place must not lead out of it.
    pub(in crate::pipeline) fn of(path: &str) -> Option<Self> {
        match below(path)? {
            "caddy" => Some(Self::Caddy),
            "nginx" => Some(Self::Nginx),
            "traefik" => Some(Self::Traefik),
            "envoy" => Some(Self::Envoy),
            rest if rest.starts_with("envoy/") => Some(Self::Envoy),
            _ => None,
        }
    }
}

fn below(path: &str) -> Option<&str> {
    path.strip_prefix(RESERVED_PREFIX)?.strip_prefix("auth/")
}

/// A request that waits at the other proxy.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) method: Method,
    /// Host and port, as the client wrote them.
    pub(super) authority: String,
    /// Without port, in lower case.
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) target: PathAndQuery,
}

impl Question {
    /// `authority` is what the asking request itself names.
    pub(super) fn read(
        convention: Convention,
        asking: &Parts,
        authority: &str,
    ) -> Result<Self, Refusal> {
        let headers = &asking.headers;
        let (method, authority, target) = match convention {
            Convention::Envoy => (
                asking.method.as_str(),
                authority,
                below_envoy(&asking.uri).ok_or(Refusal::Question("a target that is no path"))?,
            ),
            Convention::Nginx => {
                let (authority, target) = split_url(one(headers, &X_ORIGINAL_URL)?)?;
                (one(headers, &X_ORIGINAL_METHOD)?, authority, target)
            }
            Convention::Caddy | Convention::Traefik => (
                one(headers, &X_FORWARDED_METHOD)?,
                one(headers, &X_FORWARDED_HOST)?,
                one(headers, &X_FORWARDED_URI)?.to_owned(),
            ),
        };
        let method = Method::from_bytes(method.as_bytes())
            .ok()
            .filter(|method| check_method(method).is_ok())
            .ok_or(Refusal::Question("a method that is none"))?;
        let (host, port) =
            split_authority(authority).ok_or(Refusal::Question("a host that is none"))?;
        Ok(Self {
            method,
            authority: authority.to_owned(),
            host: host.to_ascii_lowercase(),
            port,
            target: read_target(&target)?,
        })
    }
}

/// A field that is there once. None would mean that the other proxy does not say what it is to say, and a second one
/// came from its client.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<&'h str, Refusal> {
    let mut values = headers.get_all(name).into_iter();
    let value = values.next().filter(|_| values.next().is_none());
    let text = value.and_then(|value| value.to_str().ok());
    text.ok_or(Refusal::Question(
        "a field that does not come once, as text",
    ))
}

fn split_url(url: &str) -> Result<(&str, String), Refusal> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let split = rest.and_then(|rest| rest.split_at_checked(rest.find('/')?));
    let (authority, target) = split.ok_or(Refusal::Question("an address that is none"))?;
    Ok((authority, target.to_owned()))
}

fn below_envoy(uri: &Uri) -> Option<String> {
    let path = below(uri.path())?.strip_prefix("envoy")?;
    let query = uri.query().map(|query| format!("?{query}"));
    let path = if path.is_empty() { "/" } else { path };
    Some(format!("{path}{}", query.unwrap_or_default()))
}

fn read_target(text: &str) -> Result<PathAndQuery, Refusal> {
    // The library would cut a fragment off, and the other proxy may send it on.
    let is_path = text.starts_with('/') && !text.contains('#');
    let target = is_path.then(|| PathAndQuery::try_from(text).ok()).flatten();
    target.ok_or(Refusal::Question("a target that is no path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, fields: &[(&'static str, &str)]) -> Result<String, String> {
        let mut request = http::Request::get(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let convention = Convention::of(parts.uri.path()).expect("a convention");
        Question::read(convention, &parts, "own.example:1")
            .map(|question| {
                format!(
                    "{} {} {}",
                    question.method, question.authority, question.target
                )
            })
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn each_convention_is_read_in_its_own_fields() {
        let forwarded = [
            ("x-forwarded-method", "PUT"),
            ("x-forwarded-host", "Wiki.example:8443"),
            ("x-forwarded-uri", "/a%20b?c=//d"),
        ];
        let expected = Ok("PUT Wiki.example:8443 /a%20b?c=//d".to_owned());
        assert_eq!(asked("/.doorward/auth/traefik", &forwarded), expected);
        assert_eq!(asked("/.doorward/auth/caddy", &forwarded), expected);
        let original = [
            ("x-original-method", "PUT"),
            ("x-original-url", "https://Wiki.example:8443/a%20b?c=//d"),
        ];
        assert_eq!(asked("/.doorward/auth/nginx", &original), expected);
        for (path, target) in [
            ("/.doorward/auth/envoy", "/"),
            ("/.doorward/auth/envoy/", "/"),
            ("/.doorward/auth/envoy/a%20b?c=//d", "/a%20b?c=//d"),
            ("/.doorward/auth/envoy/../../x", "/../../x"),
            ("/.doorward/auth/envoy//x", "//x"),
        ] {
            let expected = Ok(format!("GET own.example:1 {target}"));
            assert_eq!(asked(path, &[]), expected, "{path}");
        }
    }

    #[test]
    fn no_other_place_is_a_question() {
        for path in [
            "/.doorward/auth",
            "/.doorward/auth/",
            "/.doorward/auth/nginx/",
            "/.doorward/auth/nginx/x",
            "/.doorward/auth/Nginx",
            "/.doorward/auth/envoyx",
            "/x/.doorward/auth/nginx",
            "/auth/nginx",
        ] {
            assert_eq!(Convention::of(path), None, "{path}");
        }
    }

    #[test]
    fn a_question_with_two_readings_or_none_is_refused() {
        let (method, host, uri) = ("x-forwarded-method", "x-forwarded-host", "x-forwarded-uri");
        for fields in [
            &[][..],
            &[(method, "GET"), (host, "a.example")],
            &[(method, "GET"), (uri, "/")],
            &[(host, "a.example"), (uri, "/")],
            &[
                (method, "GET"),
                (host, "a.example"),
                (uri, "/"),
                (uri, "/public"),
            ],
            &[
                (method, "GET"),
                (method, "PUT"),
                (host, "a.example"),
                (uri, "/"),
            ],
            &[(method, "GET"), (host, "a.example, b.example"), (uri, "/")],
            &[(method, "GET"), (host, "user@a.example"), (uri, "/")],
            &[(method, "GET"), (host, ""), (uri, "/")],
            &[(method, "get"), (host, "a.example"), (uri, "/")],
            &[(method, "CONNECT"), (host, "a.example"), (uri, "/")],
            &[(method, ""), (host, "a.example"), (uri, "/")],
            &[(method, "GET"), (host, "a.example"), (uri, "")],
            &[(method, "GET"), (host, "a.example"), (uri, "public")],
            &[
                (method, "GET"),
                (host, "a.example"),
                (uri, "https://a.example/"),
            ],
            &[(method, "GET"), (host, "a.example"), (uri, "/a#b")],
            &[(method, "GET"), (host, "a.example"), (uri, "/a b")],
        ] {
            assert!(
                asked("/.doorward/auth/traefik", fields).is_err(),
                "{fields:?}"
            );
        }
        for url in [
            "",
            "/a",
            "a.example/a",
            "https://a.example",
            "https:///a",
            "https://a.example?/a",
            "https://a.examplehttps://b.example/",
            "ftp://a.example/",
            "https://a.example/a#b",
        ] {
            let fields = [("x-original-method", "GET"), ("x-original-url", url)];
            assert!(asked("/.doorward/auth/nginx", &fields).is_err(), "{url}");
        }
    }
}
