//! What a site tells of a user, taken word for word: of the right type, or not at all.

use bytes::Bytes;
use http::Response;
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::login::oidc::exchange::{json, media_type};
use crate::login::oidc::mapping::{MOST_GROUPS, is_plain};
use crate::login::oidc::token::Claims;
use crate::login::{ClaimPath, Flaw, OidcError};

/// The longest access token that is sent back, in bytes.
const LONGEST_TOKEN: usize = 4096;

/// What a user is known by for ever is one or the other; what looks like it is not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SubjectKind {
    /// A whole number above zero.
    Integer,
    Text,
}

/// An answer of a token endpoint, good or bad: some say 200 to both.
#[derive(Default, Deserialize)]
struct Tokens {
    error: Option<String>,
    token_type: Option<String>,
    access_token: Option<Zeroizing<String>>,
    scope: Option<String>,
}

/// An entry of a list of addresses.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "email")]
    address: String,
    primary: bool,
    verified: bool,
}

/// The access token, where everything that was asked for is given with it.
pub(super) fn access_token(
    answer: &Response<Bytes>,
    scopes: &[String],
) -> Result<Zeroizing<String>, OidcError> {
    let tokens = tokens(answer)?;
    if let Some(word) = tokens.error {
        return Err(OidcError::refused(&word));
    }
    let is_bearer = |kind: String| kind.eq_ignore_ascii_case("bearer");
    if !tokens.token_type.is_some_and(is_bearer) {
        return Err(Flaw::Shape("its access token is of another type than Bearer").into());
    }
    // Without a word, it is all (RFC 6749 section 5.1). Some put commas between.
    if let Some(given) = tokens.scope {
        let given: Vec<&str> = given.split([' ', ',']).collect();
        if !scopes.iter().all(|scope| given.contains(&scope.as_str())) {
            return Err(OidcError::refused("less was given than was asked for"));
        }
    }
    let is_sendable = |token: &Zeroizing<String>| {
        let fits = (1..=LONGEST_TOKEN).contains(&token.len());
        fits && token.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let token = tokens.access_token.filter(is_sendable);
    Ok(token.ok_or(Flaw::Shape(
        "its access token is missing, or cannot be sent",
    ))?)
}

fn tokens(answer: &Response<Bytes>) -> Result<Tokens, Flaw> {
    if media_type(answer) == "application/x-www-form-urlencoded" {
        return form(answer.body());
    }
    let body = json(answer)?;
    serde_json::from_slice(body).map_err(|_| Flaw::Shape("its tokens cannot be read"))
}

/// Each name once.
fn form(body: &[u8]) -> Result<Tokens, Flaw> {
    let mut tokens = Tokens::default();
    for (name, value) in form_urlencoded::parse(body) {
        let value = value.into_owned();
        let before = match name.as_ref() {
            "error" => tokens.error.replace(value).is_some(),
            "token_type" => tokens.token_type.replace(value).is_some(),
            "access_token" => tokens.access_token.replace(value.into()).is_some(),
            "scope" => tokens.scope.replace(value).is_some(),
            _ => false,
        };
        if before {
            return Err(Flaw::Shape("its tokens come twice"));
        }
    }
    Ok(tokens)
}

/// What is said of a user, with `sub` for what they are known by.
pub(super) fn user(body: &[u8], (path, kind): &(ClaimPath, SubjectKind)) -> Result<Claims, Flaw> {
    let claims: Result<Claims, _> = serde_json::from_slice(body);
    let mut claims = claims.map_err(|_| Flaw::Shape("what it knows of the user cannot be read"))?;
    let found = path.find(&claims.0).ok_or_else(|| path.flaw())?;
    let id = match kind {
        SubjectKind::Integer => integer(found),
        SubjectKind::Text => found.as_str().map(str::to_owned),
    };
    let id = id.ok_or_else(|| path.flaw())?;
    claims.0.insert("sub".to_owned(), Value::String(id));
    Ok(claims)
}

/// Zero is what programs make of a number that is not there.
fn integer(value: &Value) -> Option<String> {
    let number = value.as_u64().filter(|number| *number > 0)?;
    Some(number.to_string())
}

/// Takes the address that is theirs first from a list, if it is verified; what else was said of one is forgotten.
pub(super) fn take_email(claims: &mut Claims, body: &[u8]) -> Result<(), Flaw> {
    let emails: Result<Vec<Entry>, _> = serde_json::from_slice(body);
    let emails = emails.map_err(|_| Flaw::Shape("the user's addresses cannot be read"))?;
    let mut first = emails.into_iter().filter(|email| email.primary);
    let (email, second) = (first.next(), first.next());
    if second.is_some() {
        return Err(Flaw::Shape("the user has two first addresses"));
    }
    claims.0.remove("email");
    if let Some(email) = email.filter(|email| email.verified) {
        claims
            .0
            .insert("email".to_owned(), Value::String(email.address));
        claims
            .0
            .insert("email_verified".to_owned(), Value::Bool(true));
    }
    Ok(())
}

/// The names of the groups in a list.
pub(super) fn groups(body: &[u8], parts: &[ClaimPath]) -> Result<Vec<String>, Flaw> {
    const SHAPE: Flaw = Flaw::Shape("the user's groups cannot be read");
    let list: Vec<Value> = serde_json::from_slice(body).map_err(|_| SHAPE)?;
    if list.len() > MOST_GROUPS {
        return Err(SHAPE);
    }
    list.iter().map(|entry| group(entry, parts)).collect()
}

fn group(entry: &Value, parts: &[ClaimPath]) -> Result<String, Flaw> {
    const SHAPE: Flaw = Flaw::Shape("a group of the user has no name");
    let part = |path: &ClaimPath| {
        let found = entry.as_object().and_then(|entry| path.find(entry));
        let name = found.and_then(|value| match value {
            Value::String(text) => Some(text.clone()),
            value => integer(value),
        });
        // What stands between the parts is in none of them, or one group could pass for another.
        let is_one = |name: &String| parts.len() < 2 || !name.contains('/');
        let name = name.filter(|name| !name.is_empty()).filter(is_one);
        name.ok_or_else(|| path.flaw())
    };
    let name = if parts.is_empty() {
        entry.as_str().map(str::to_owned).ok_or(SHAPE)?
    } else {
        parts
            .iter()
            .map(part)
            .collect::<Result<Vec<_>, _>>()?
            .join("/")
    };
    Some(name).filter(|name| is_plain(name)).ok_or(SHAPE)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use http::header::CONTENT_TYPE;

    use super::*;

    fn answer(kind: &str, body: &str) -> Response<Bytes> {
        let answer = Response::builder().header(CONTENT_TYPE, kind);
        answer
            .body(Bytes::copy_from_slice(body.as_bytes()))
            .unwrap()
    }

    fn token(kind: &str, body: &str) -> Result<String, OidcError> {
        let scopes = ["user:email".to_owned(), "read:org".to_owned()];
        access_token(&answer(kind, body), &scopes).map(|token| token.to_string())
    }

    const JSON: &str = "application/json";
    const FORM: &str = "application/x-www-form-urlencoded";

    #[test]
    fn tokens_come_as_json_or_as_a_form() {
        for (kind, body) in [
            (
                JSON,
                r#"{"token_type":"bearer","access_token":"gho_1","scope":"read:org,user:email"}"#,
            ),
            (
                JSON,
                r#"{"token_type":"Bearer","access_token":"gho_1","scope":"user:email read:org x"}"#,
            ),
            (
                "Application/JSON; charset=utf-8",
                r#"{"token_type":"bearer","access_token":"gho_1"}"#,
            ),
            (
                "application/vnd.github+json",
                r#"{"token_type":"bearer","access_token":"gho_1","error":null}"#,
            ),
            (
                FORM,
                "access_token=gho_1&scope=read%3Aorg%2Cuser%3Aemail&token_type=bearer&x=1&x=2",
            ),
        ] {
            assert_eq!(token(kind, body).as_deref(), Ok("gho_1"), "{body}");
        }
    }

    #[test]
    fn what_is_no_token_is_not_taken_for_one() {
        let long = format!(
            r#"{{"token_type":"bearer","access_token":"{}"}}"#,
            "a".repeat(LONGEST_TOKEN + 1)
        );
        for (kind, body) in [
            (JSON, r#"{"access_token":"gho_1"}"#),
            (JSON, r#"{"token_type":"mac","access_token":"gho_1"}"#),
            (JSON, r#"{"token_type":["bearer"],"access_token":"gho_1"}"#),
            (JSON, r#"{"token_type":"bearer","access_token":""}"#),
            (JSON, r#"{"token_type":"bearer","access_token":7}"#),
            (JSON, r#"{"token_type":"bearer","access_token":"a\r\nb"}"#),
            (JSON, r#"{"token_type":"bearer","access_token":"a b"}"#),
            (
                JSON,
                r#"{"token_type":"bearer","access_token":"a","access_token":"b"}"#,
            ),
            (
                JSON,
                r#"{"token_type":"bearer","access_token":"a","scope":["read:org"]}"#,
            ),
            (JSON, &long),
            (JSON, "[]"),
            (JSON, ""),
            (JSON, "access_token=gho_1&token_type=bearer"),
            (FORM, "access_token=a&access_token=b&token_type=bearer"),
            (FORM, "token_type=bearer"),
            (
                "text/html",
                r#"{"token_type":"bearer","access_token":"gho_1"}"#,
            ),
            (
                "text/json",
                r#"{"token_type":"bearer","access_token":"gho_1"}"#,
            ),
            ("", r#"{"token_type":"bearer","access_token":"gho_1"}"#),
        ] {
            let refused = token(kind, body);
            assert!(
                matches!(refused, Err(OidcError::Unbelievable(_))),
                "{kind} {body} {refused:?}"
            );
        }
    }

    #[test]
    fn an_error_is_one_whatever_its_status_and_its_form() {
        for (kind, body) in [
            (
                JSON,
                r#"{"error":"bad_verification_code","error_description":"x"}"#,
            ),
            (
                JSON,
                r#"{"error":"bad_verification_code","access_token":"gho_1","token_type":"bearer"}"#,
            ),
            (FORM, "error=bad_verification_code&error_description=x"),
        ] {
            let refused = OidcError::Refused("bad_verification_code".to_owned());
            assert_eq!(token(kind, body), Err(refused), "{body}");
        }
        for scope in ["", "read:org", "user:emails read:org", "user read"] {
            let body = format!(r#"{{"token_type":"bearer","access_token":"a","scope":"{scope}"}}"#);
            assert!(
                matches!(token(JSON, &body), Err(OidcError::Refused(_))),
                "{scope}"
            );
        }
    }

    #[test]
    fn a_user_is_known_by_a_value_of_one_type() {
        let known = |value: &Value, kind| {
            let body = json!({ "id": value, "sub": "another" }).to_string();
            let claims = user(body.as_bytes(), &(ClaimPath::parse("id"), kind)).ok()?;
            Some(claims.0["sub"].as_str().unwrap().to_owned())
        };
        assert_eq!(
            known(&json!(583_231), SubjectKind::Integer).as_deref(),
            Some("583231")
        );
        assert_eq!(
            known(&json!("583231"), SubjectKind::Text).as_deref(),
            Some("583231")
        );
        for value in [
            json!("583231"),
            json!(5.0),
            json!(-5),
            json!(0),
            json!(1e30),
            json!(true),
            json!([5]),
            Value::Null,
        ] {
            assert_eq!(known(&value, SubjectKind::Integer), None, "{value}");
        }
        for value in [
            json!(583_231),
            json!(["a"]),
            json!({"a": 1}),
            json!(true),
            Value::Null,
        ] {
            assert_eq!(known(&value, SubjectKind::Text), None, "{value}");
        }
        let whole = (ClaimPath::parse("id"), SubjectKind::Integer);
        for body in [
            "",
            "[]",
            "{}",
            r#"{"id":1,"id":2}"#,
            r#"{"id":18446744073709551616}"#,
        ] {
            assert!(user(body.as_bytes(), &whole).is_err(), "{body}");
        }
    }

    #[test]
    fn an_address_counts_that_is_the_first_and_verified() {
        let told = |body: Value| {
            let before = json!({"email": "public@example.org", "email_verified": true});
            let mut claims = Claims(before.as_object().unwrap().clone());
            take_email(&mut claims, body.to_string().as_bytes())?;
            Ok::<_, Flaw>(
                claims
                    .0
                    .get("email")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            )
        };
        let entry = |email: &str, primary, verified| json!({"email": email, "primary": primary, "verified": verified, "visibility": null});
        let both = json!([entry("b@x", false, true), entry("a@x", true, true)]);
        assert_eq!(told(both), Ok(Some("a@x".to_owned())));
        for nobody in [
            json!([]),
            json!([entry("a@x", true, false)]),
            json!([entry("a@x", false, true)]),
        ] {
            assert_eq!(told(nobody.clone()), Ok(None), "{nobody}");
        }
        for wrong in [
            json!({}),
            json!(["a@x"]),
            json!([entry("a@x", true, true), entry("b@x", true, true)]),
            json!([{"email": "a@x", "primary": true}]),
            json!([{"email": "a@x", "primary": "true", "verified": true}]),
            json!([{"email": 7, "primary": true, "verified": true}]),
        ] {
            assert!(told(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn groups_are_named_by_their_parts() {
        let named = |body: &Value, parts: &[&str]| {
            let parts: Vec<_> = parts.iter().map(|part| ClaimPath::parse(part)).collect();
            groups(body.to_string().as_bytes(), &parts)
        };
        let teams = json!([{"id": 7, "slug": "ops", "organization": {"login": "acme"}}]);
        assert_eq!(
            named(&teams, &["organization.login", "slug"]).unwrap(),
            ["acme/ops"]
        );
        assert_eq!(named(&teams, &["id"]).unwrap(), ["7"]);
        assert_eq!(named(&json!(["a/b", "c"]), &[]).unwrap(), ["a/b", "c"]);
        assert_eq!(
            named(&json!([{"path": "dev/ops"}]), &["path"]).unwrap(),
            ["dev/ops"]
        );
        let slash = json!([{"slug": "x/ops", "organization": {"login": "acme"}}]);
        assert!(named(&slash, &["organization.login", "slug"]).is_err());
        let many = Value::Array(vec![json!("a"); MOST_GROUPS + 1]);
        for (wrong, parts) in [
            (&json!({"a": 1}), &[][..]),
            (&json!([7]), &[]),
            (&json!([{"slug": "ops"}]), &[]),
            (&many, &[]),
            (&json!(["a\nb"]), &[]),
            (&json!([""]), &[]),
            (&teams, &["name"]),
            (&json!([{"name": ""}]), &["name"]),
            (&json!([{"name": ["a"]}]), &["name"]),
            (&json!([{"name": -1}]), &["name"]),
            (&json!(["ops"]), &["name"]),
        ] {
            assert!(named(wrong, parts).is_err(), "{wrong} {parts:?}");
        }
    }
}
