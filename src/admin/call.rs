//! What a request to the admin API asks for: its path, its method and its query, read strictly. It knows no session.

use std::time::Duration;

use http::{Method, Request};
use percent_encoding::percent_decode_str;

use crate::identity::Subject;
use crate::session::{Sid, State, Wanted};

/// Sessions on one page: the most that may be asked for, and what is given unasked.
const MAX_LIMIT: usize = 1000;
const LIMIT: usize = 100;

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Call {
    List(Query),
    Show(Sid),
    Status,
    End(Sid),
    EndAllOf(Subject),
}

/// The query of a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Query {
    pub(super) wanted: Wanted,
    pub(super) after: Option<Sid>,
    pub(super) limit: usize,
}

/// Why a request asks for nothing that is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Unclear {
    Method { allow: &'static str },
    NotFound,
    Query(String),
}

impl Call {
    /// `place` is what follows the prefix of the API.
    pub(super) fn of<B>(place: &str, request: &Request<B>) -> Result<Self, Unclear> {
        let method = request.method();
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        let segments: Vec<&str> = place.split('/').collect();
        match segments.as_slice() {
            ["status"] if is_read => Ok(Self::Status),
            ["sessions"] if is_read => {
                let query = request.uri().query().unwrap_or_default();
                Query::parse(query).map(Self::List).map_err(Unclear::Query)
            }
            ["sessions" | "status"] => Err(Unclear::Method { allow: "GET, HEAD" }),
            ["sessions", sid] => {
                let sid = decoded(sid).and_then(|sid| Sid::parse(&sid));
                let sid = sid.ok_or(Unclear::NotFound)?;
                match *method {
                    Method::GET | Method::HEAD => Ok(Self::Show(sid)),
                    Method::DELETE => Ok(Self::End(sid)),
                    _ => Err(Unclear::Method {
                        allow: "GET, HEAD, DELETE",
                    }),
                }
            }
            ["users", provider, id, "sessions"] => {
                let (Some(provider), Some(id)) = (decoded(provider), decoded(id)) else {
                    return Err(Unclear::NotFound);
                };
                if *method != Method::DELETE {
                    return Err(Unclear::Method { allow: "DELETE" });
                }
                Ok(Self::EndAllOf(Subject { provider, id }))
            }
            _ => Err(Unclear::NotFound),
        }
    }
}

fn decoded(segment: &str) -> Option<String> {
    let text = percent_decode_str(segment).decode_utf8().ok()?;
    (!text.is_empty()).then(|| text.into_owned())
}

impl Query {
    fn parse(text: &str) -> Result<Self, String> {
        let mut seen = Vec::new();
        let mut query = Self {
            wanted: Wanted {
                state: Some(State::Active),
                ..Wanted::default()
            },
            after: None,
            limit: LIMIT,
        };
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if seen.contains(&name) {
                return Err(format!("{name:?} is given twice"));
            }
            query.set(&name, &value)?;
            seen.push(name);
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |expected: &str| format!("{name:?} is to be {expected}");
        match name {
            "user" => self.wanted.user = Some(value.to_owned()),
            "provider" => self.wanted.provider = Some(value.to_owned()),
            "state" => {
                self.wanted.state = match value {
                    "active" => Some(State::Active),
                    "ended" => Some(State::Ended),
                    "all" => None,
                    _ => return Err(wrong("\"active\", \"ended\" or \"all\"")),
                }
            }
            "older_than" => {
                let seconds = value.parse().map_err(|_| wrong("a number of seconds"))?;
                self.wanted.older_than = Some(Duration::from_secs(seconds));
            }
            "limit" => {
                let limit = value.parse().ok();
                let limit = limit.filter(|limit| (1..=MAX_LIMIT).contains(limit));
                self.limit =
                    limit.ok_or_else(|| wrong(&format!("a number from 1 to {MAX_LIMIT}")))?;
            }
            "cursor" => {
                let after = Sid::parse(value);
                self.after = Some(after.ok_or_else(|| wrong("the \"next\" of another page"))?);
            }
            _ => {
                return Err(format!(
                    "there is no {name:?}, but user, provider, state, older_than, limit and cursor"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SID: &str = "01993d7e-0000-7000-8000-000000000001";

    fn call(method: &str, target: &str) -> Result<Call, Unclear> {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .body(())
            .unwrap();
        let place = request.uri().path().trim_start_matches('/').to_owned();
        Call::of(&place, &request)
    }

    #[test]
    fn every_call_has_one_place_and_its_methods() {
        let sid = Sid::parse(SID).unwrap();
        let one = format!("/sessions/{SID}");
        assert_eq!(call("GET", &one), Ok(Call::Show(sid)));
        assert_eq!(call("HEAD", &one), Ok(Call::Show(sid)));
        assert_eq!(call("DELETE", &one), Ok(Call::End(sid)));
        let spelt = one.replace('-', "%2D");
        assert_eq!(call("DELETE", &spelt), Ok(Call::End(sid)));
        let all = call("DELETE", "/users/my%20idp/a%2Fb%3Fc/sessions");
        let subject = Subject {
            provider: "my idp".to_owned(),
            id: "a/b?c".to_owned(),
        };
        assert_eq!(all, Ok(Call::EndAllOf(subject)));
        assert_eq!(call("GET", "/status"), Ok(Call::Status));
        for (method, target, allow) in [
            ("POST", one.as_str(), "GET, HEAD, DELETE"),
            ("DELETE", "/sessions", "GET, HEAD"),
            ("DELETE", "/status", "GET, HEAD"),
            ("GET", "/users/local/alice/sessions", "DELETE"),
        ] {
            assert_eq!(call(method, target), Err(Unclear::Method { allow }));
        }
        for target in [
            "/",
            "/sessions/",
            "/sessions/alice",
            "/sessions/../metrics",
            "/users/local/alice",
            "/users//alice/sessions",
            "/users/local/%FF/sessions",
            "/users/local/a/b/sessions",
        ] {
            assert_eq!(call("DELETE", target), Err(Unclear::NotFound), "{target}");
        }
    }

    #[test]
    fn a_list_is_of_active_sessions_and_bounded_unless_the_query_says_otherwise() {
        let Ok(Call::List(plain)) = call("GET", "/sessions") else {
            panic!("a list")
        };
        assert_eq!(plain.limit, 100);
        assert_eq!(plain.wanted.state, Some(State::Active));
        let target = format!(
            "/sessions?user=%C3%BCnder&provider=local&state=all&older_than=3600&limit=1000&cursor={SID}"
        );
        let Ok(Call::List(query)) = call("GET", &target) else {
            panic!("a list")
        };
        let expected = Query {
            wanted: Wanted {
                user: Some("ünder".to_owned()),
                provider: Some("local".to_owned()),
                state: None,
                older_than: Some(Duration::from_hours(1)),
            },
            after: Sid::parse(SID),
            limit: 1000,
        };
        assert_eq!(query, expected);
    }

    #[test]
    fn a_query_that_is_not_understood_is_refused_and_says_where() {
        for (query, told) in [
            ("limit=0", "\"limit\" is to be a number from 1 to 1000"),
            ("limit=1001", "\"limit\""),
            ("limit=all", "\"limit\""),
            ("state=live", "\"active\", \"ended\" or \"all\""),
            ("older_than=1h", "seconds"),
            ("older_than=-1", "seconds"),
            ("cursor=x", "\"cursor\""),
            ("usr=alice", "there is no \"usr\""),
            ("user=alice&user=bob", "\"user\" is given twice"),
        ] {
            match call("GET", &format!("/sessions?{query}")) {
                Err(Unclear::Query(text)) => assert!(text.contains(told), "{query}: {text}"),
                other => panic!("{query}: {other:?}"),
            }
        }
    }
}
