//! What a provider's claims say about a user, in our words. A claim that is there has to be of the right type: a login is
//! refused rather than guessed at.

use serde_json::{Map, Value};

use super::fault::Flaw;
use super::token::Claims;
use crate::identity::{Identity, Subject};

/// The longest user, name, address or group, in characters, and how many groups one user may be in.
const LONGEST: usize = 256;
pub(in crate::login) const MOST_GROUPS: usize = 1000;

/// Which claims hold what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mapping {
    pub user: ClaimPath,
    pub name: ClaimPath,
    pub email: ClaimPath,
    /// Who is in no group needs none.
    pub groups: Option<ClaimPath>,
    /// An email address counts only where the provider says that it is verified.
    pub verified_email: bool,
}

/// Where a claim is: its own name, after those of the objects around it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// `realm_access.roles`; a name that is a URL is not taken apart.
    pub fn parse(text: &str) -> Self {
        if text.contains('/') {
            return Self(vec![text.to_owned()]);
        }
        Self(text.split('.').map(str::to_owned).collect())
    }

    pub(in crate::login) fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        let (first, rest) = self.0.split_first()?;
        let found = rest.iter().try_fold(claims.get(first)?, |value, name| {
            value.as_object()?.get(name)
        })?;
        Some(found).filter(|value| !value.is_null())
    }

    pub(in crate::login) fn flaw(&self) -> Flaw {
        Flaw::Claim(self.0.join("."))
    }
}

impl Mapping {
    /// `told` are an ID token's claims and, after them, those of the user-info endpoint. The first that says something
    /// is believed.
    pub(in crate::login) fn identity(
        &self,
        provider: &str,
        told: &[&Claims],
    ) -> Result<Identity, Flaw> {
        let id = told.first().copied().map(|claims| claims.text("sub"));
        let id = id.ok_or(Flaw::Claim("sub".to_owned()))??;
        if id.len() > LONGEST
            || !id
                .bytes()
                .all(|byte| byte.is_ascii_graphic() || byte == b' ')
        {
            return Err(Flaw::Claim("sub".to_owned()));
        }
        let user = text(&self.user, told)?;
        let user = user.ok_or_else(|| self.user.flaw())?;
        if self.user == self.email && !self.is_believed(told) {
            return Err(Flaw::Unverified(self.user.0.join(".")));
        }
        let email = text(&self.email, told)?;
        Ok(Identity {
            subject: Subject {
                provider: provider.to_owned(),
                id: id.to_owned(),
            },
            user,
            name: text(&self.name, told)?,
            email: email.filter(|_| self.is_believed(told)),
            groups: self.groups(told)?,
        })
    }

    /// Whether the email address counts. Who vouches for it is who told it.
    fn is_believed(&self, told: &[&Claims]) -> bool {
        let teller = told
            .iter()
            .find(|claims| self.email.find(&claims.0).is_some());
        let verified = teller.and_then(|claims| claims.0.get("email_verified"));
        !self.verified_email || verified == Some(&Value::Bool(true))
    }

    fn groups(&self, told: &[&Claims]) -> Result<Vec<String>, Flaw> {
        let Some(path) = &self.groups else {
            return Ok(Vec::new());
        };
        let list = match first(path, told) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) if list.len() <= MOST_GROUPS => list,
            Some(_) => return Err(path.flaw()),
        };
        let groups = list.iter().map(|group| {
            let group = group.as_str().filter(|group| is_plain(group));
            group.map(str::to_owned).ok_or_else(|| path.flaw())
        });
        groups.collect()
    }
}

fn text(path: &ClaimPath, told: &[&Claims]) -> Result<Option<String>, Flaw> {
    match first(path, told) {
        None => Ok(None),
        Some(Value::String(text)) if is_plain(text) => Ok(Some(text.clone())),
        Some(_) => Err(path.flaw()),
    }
}

fn first<'c>(path: &ClaimPath, told: &[&'c Claims]) -> Option<&'c Value> {
    told.iter().find_map(|claims| path.find(&claims.0))
}

pub(in crate::login) fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= LONGEST && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mapping() -> Mapping {
        Mapping {
            user: ClaimPath::parse("preferred_username"),
            name: ClaimPath::parse("name"),
            email: ClaimPath::parse("email"),
            groups: Some(ClaimPath::parse("realm_access.roles")),
            verified_email: true,
        }
    }

    fn claims(value: &Value) -> Claims {
        Claims(value.as_object().unwrap().clone())
    }

    fn mapped(mapping: &Mapping, value: &Value) -> Result<Identity, Flaw> {
        mapping.identity("corp", &[&claims(value)])
    }

    fn whole() -> Value {
        json!({
            "sub": "248289761001", "preferred_username": "jane", "name": "Jane Ünder",
            "email": "jane@example.org", "email_verified": true,
            "realm_access": {"roles": ["staff", "wiki admins"]},
        })
    }

    #[test]
    fn claims_become_an_identity() {
        let identity = mapped(&mapping(), &whole()).unwrap();
        let expected = Identity {
            subject: Subject {
                provider: "corp".to_owned(),
                id: "248289761001".to_owned(),
            },
            user: "jane".to_owned(),
            name: Some("Jane Ünder".to_owned()),
            email: Some("jane@example.org".to_owned()),
            groups: vec!["staff".to_owned(), "wiki admins".to_owned()],
        };
        assert_eq!(identity, expected);
        let little = json!({"sub": "1", "preferred_username": "jane", "name": null});
        let identity = mapped(&mapping(), &little).unwrap();
        assert_eq!((identity.name, identity.email), (None, None));
        assert!(identity.groups.is_empty());
    }

    #[test]
    fn an_email_counts_once_it_is_verified() {
        for (verified, counts) in [
            (json!(true), true),
            (json!(false), false),
            (json!("true"), false),
            (json!(1), false),
            (Value::Null, false),
        ] {
            let mut value = whole();
            value["email_verified"] = verified;
            let identity = mapped(&mapping(), &value).unwrap();
            assert_eq!(identity.email.is_some(), counts, "{value}");
            let by_email = Mapping {
                user: ClaimPath::parse("email"),
                ..mapping()
            };
            assert_eq!(mapped(&by_email, &value).is_ok(), counts, "{value}");
            let trusting = Mapping {
                verified_email: false,
                ..by_email
            };
            let identity = mapped(&trusting, &value).unwrap();
            assert_eq!(identity.user, "jane@example.org");
        }
    }

    #[test]
    fn one_source_does_not_vouch_for_the_address_of_another() {
        let token = claims(&json!({"sub": "1", "preferred_username": "jane", "email": "a@b"}));
        let asked = claims(&json!({"sub": "1", "email": "c@d", "email_verified": true}));
        let identity = mapping().identity("corp", &[&token, &asked]).unwrap();
        assert_eq!(identity.email, None);
        let token = claims(&json!({"sub": "1", "preferred_username": "jane"}));
        let identity = mapping().identity("corp", &[&token, &asked]).unwrap();
        assert_eq!(identity.email.as_deref(), Some("c@d"));
    }

    #[test]
    fn what_is_of_the_wrong_type_is_not_guessed_at() {
        let long = "x".repeat(LONGEST + 1);
        for (name, value) in [
            ("sub", json!(248_289)),
            ("sub", json!("")),
            ("sub", json!("a\nb")),
            ("sub", json!(long)),
            ("preferred_username", json!("")),
            ("preferred_username", json!("a\u{0}b")),
            ("preferred_username", json!(["jane"])),
            ("preferred_username", Value::Null),
            ("preferred_username", json!(long)),
            ("name", json!({"first": "Jane"})),
            ("email", json!(["jane@example.org"])),
            ("realm_access", json!({"roles": "staff"})),
            ("realm_access", json!({"roles": ["staff", 7]})),
            ("realm_access", json!({"roles": ["staff\r\nx"]})),
            ("realm_access", json!({"roles": vec!["g"; MOST_GROUPS + 1]})),
        ] {
            let mut claims = whole();
            claims[name] = value.clone();
            assert!(mapped(&mapping(), &claims).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn a_name_that_is_a_url_is_one_name() {
        let mapping = Mapping {
            groups: Some(ClaimPath::parse("https://example.com/groups")),
            ..mapping()
        };
        let mut value = whole();
        value["https://example.com/groups"] = json!(["a"]);
        assert_eq!(mapped(&mapping, &value).unwrap().groups, ["a"]);
    }
}
