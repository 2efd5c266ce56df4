//! The requests that end a login: a code for tokens, and an access token for what the provider knows of the user.

use std::fmt::Display;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::Value;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

use super::ClientAuthentication;
use super::fault::{Flaw, OidcError};
use super::token::Claims;
use crate::clock::Timestamp;
use crate::outbound::Outbound;

/// RFC 7523 section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[derive(Debug)]
pub(in crate::login) struct Exchange {
    outbound: Outbound,
    client_id: String,
    authentication: ClientAuthentication,
}

/// A code, and what shows that it was given for a login of ours.
#[derive(Clone, Copy, Debug)]
pub(in crate::login) struct Grant<'a> {
    pub(in crate::login) code: &'a str,
    pub(in crate::login) redirect_uri: &'a str,
    pub(in crate::login) now: Timestamp,
    pub(in crate::login) verifier: &'a str,
}

pub(super) struct Tokens {
    /// Always there with a login.
    pub(super) id_token: Option<Zeroizing<String>>,
    pub(super) access_token: Zeroizing<String>,
    pub(super) refresh_token: Option<Zeroizing<String>>,
    /// How long the access token is good, in seconds.
    pub(super) expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token_type: String,
    access_token: Zeroizing<String>,
    id_token: Option<Zeroizing<String>>,
    refresh_token: Option<Zeroizing<String>>,
    expires_in: Option<Value>,
}

/// RFC 6749 section 5.2.
#[derive(Deserialize)]
struct TokenError {
    error: String,
}

impl Exchange {
    pub(in crate::login) fn new(
        outbound: Outbound,
        (client_id, authentication): (&str, &ClientAuthentication),
    ) -> Self {
        Self {
            outbound,
            client_id: client_id.to_owned(),
            authentication: authentication.clone(),
        }
    }

    pub(super) async fn redeem(
        &self,
        endpoint: &Url,
        grant: &Grant<'_>,
    ) -> Result<Tokens, OidcError> {
        read_tokens(&self.send_code(endpoint, grant).await?)
    }

    /// What a token endpoint answers to a code, where it does not refuse.
    pub(in crate::login) async fn send_code(
        &self,
        endpoint: &Url,
        grant: &Grant<'_>,
    ) -> Result<Response<Bytes>, OidcError> {
        let pairs = [
            ("grant_type", "authorization_code"),
            ("code", grant.code),
            ("redirect_uri", grant.redirect_uri),
            ("code_verifier", grant.verifier),
        ];
        self.ask(endpoint, (&pairs, grant.now)).await
    }

    /// For a refresh token (RFC 6749 section 6).
    pub(super) async fn renew(
        &self,
        endpoint: &Url,
        (token, now): (&str, Timestamp),
    ) -> Result<Tokens, OidcError> {
        let pairs = [("grant_type", "refresh_token"), ("refresh_token", token)];
        read_tokens(&self.ask(endpoint, (&pairs, now)).await?)
    }

    async fn ask(
        &self,
        endpoint: &Url,
        asked: (&[(&str, &str)], Timestamp),
    ) -> Result<Response<Bytes>, OidcError> {
        let request = self.token_request(endpoint, asked)?;
        let answer = self.outbound.send(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(refusal(&answer));
        }
        Ok(answer)
    }

    pub(super) async fn user_info(
        &self,
        endpoint: Option<&Url>,
        access_token: &str,
    ) -> Result<Claims, OidcError> {
        let endpoint = endpoint.ok_or(Flaw::Shape("it has no user-info endpoint"))?;
        let answer = self.get((endpoint, access_token)).await?;
        let claims = serde_json::from_slice(json(&answer)?);
        Ok(claims.map_err(|_| Flaw::Shape("what it knows of the user cannot be read"))?)
    }

    /// What is at a place for who has an access token.
    pub(in crate::login) async fn get(
        &self,
        (place, access_token): (&Url, &str),
    ) -> Result<Response<Bytes>, OidcError> {
        let bearer = HeaderValue::try_from(format!("Bearer {access_token}"));
        let mut bearer = bearer.map_err(|_| Flaw::Shape("its access token is no text"))?;
        bearer.set_sensitive(true);
        let request = Request::get(place.as_str())
            .header(ACCEPT, "application/json")
            .header(AUTHORIZATION, bearer)
            .body(Full::default());
        let request = request.map_err(|error| OidcError::Unavailable(error.to_string()))?;
        let answer = self.outbound.send(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(refusal(&answer));
        }
        Ok(answer)
    }

    fn token_request(
        &self,
        endpoint: &Url,
        (pairs, now): (&[(&str, &str)], Timestamp),
    ) -> Result<Request<Full<Bytes>>, OidcError> {
        let mut form = Serializer::new(String::new());
        form.extend_pairs(pairs);
        let mut request = Request::post(endpoint.as_str())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        match &self.authentication {
            ClientAuthentication::Basic(secret) => {
                let credentials = basic(&self.client_id, secret.expose());
                let credentials = HeaderValue::try_from(credentials.as_str());
                let mut credentials = credentials.map_err(unsendable)?;
                credentials.set_sensitive(true);
                request = request.header(AUTHORIZATION, credentials);
            }
            ClientAuthentication::Key(key) => {
                let whose = (self.client_id.as_str(), endpoint.as_str());
                let assertion = key.assertion(whose, now).map_err(unsendable)?;
                form.append_pair("client_assertion_type", ASSERTION_TYPE)
                    .append_pair("client_assertion", &assertion);
            }
            ClientAuthentication::Post(secret) => {
                let secret = String::from_utf8_lossy(secret.expose());
                form.append_pair("client_id", &self.client_id)
                    .append_pair("client_secret", &secret);
            }
            ClientAuthentication::None => {
                form.append_pair("client_id", &self.client_id);
            }
        }
        let request = request.body(Full::from(form.finish()));
        request.map_err(unsendable)
    }
}

fn read_tokens(answer: &Response<Bytes>) -> Result<Tokens, OidcError> {
    let tokens: TokenAnswer = serde_json::from_slice(json(answer)?)
        .map_err(|_| Flaw::Shape("its tokens cannot be read, or one is missing"))?;
    if !tokens.token_type.eq_ignore_ascii_case("bearer") {
        return Err(Flaw::Shape("its access token is of another type than Bearer").into());
    }
    Ok(Tokens {
        id_token: tokens.id_token,
        access_token: tokens.access_token,
        refresh_token: tokens.refresh_token,
        expires_in: tokens.expires_in.as_ref().and_then(Value::as_u64),
    })
}

/// The body of an answer that says that it is JSON.
pub(in crate::login) fn json(answer: &Response<Bytes>) -> Result<&[u8], Flaw> {
    let kind = media_type(answer);
    let is_json =
        kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"));
    if is_json {
        Ok(answer.body())
    } else {
        Err(Flaw::Shape("it answers with something else than JSON"))
    }
}

pub(in crate::login) fn media_type(answer: &Response<Bytes>) -> String {
    let mut fields = answer.headers().get_all(CONTENT_TYPE).iter();
    let field = fields.next().filter(|_| fields.next().is_none());
    let text = field
        .and_then(|field| field.to_str().ok())
        .unwrap_or_default();
    let kind = text.split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

fn unsendable(error: impl Display) -> OidcError {
    OidcError::Unavailable(error.to_string())
}

/// Both parts are encoded as in a form before they are joined (RFC 6749 section 2.3.1).
fn basic(client_id: &str, secret: &[u8]) -> Zeroizing<String> {
    let encoded = |bytes| byte_serialize(bytes).collect::<String>();
    let pair = format!("{}:{}", encoded(client_id.as_bytes()), encoded(secret));
    Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair)))
}

/// An error of the protocol says that there is to be no login; anything else, that the provider is in trouble.
fn refusal(answer: &Response<Bytes>) -> OidcError {
    let status = answer.status();
    let told: Option<TokenError> = serde_json::from_slice(answer.body()).ok();
    match told {
        Some(TokenError { error }) if status.is_client_error() => OidcError::refused(&error),
        _ => OidcError::Unavailable(format!("it answers {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_encoded_before_they_are_joined() {
        let sent = basic("a:b", "p&s%ü".as_bytes());
        let decoded = BASE64_STANDARD.decode(sent.strip_prefix("Basic ").unwrap());
        assert_eq!(decoded.unwrap(), b"a%3Ab:p%26s%25%C3%BC");
    }

    #[test]
    fn tokens_are_json_by_name() {
        let body = r#"{"token_type":"Bearer","access_token":"a","id_token":"b"}"#;
        for (kind, good) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json-seq", false),
            ("text/html", false),
            ("", false),
        ] {
            let answer = Response::builder().header(CONTENT_TYPE, kind);
            let answer = answer.body(Bytes::from_static(body.as_bytes())).unwrap();
            assert_eq!(read_tokens(&answer).is_ok(), good, "{kind}");
        }
        let untold = Response::new(Bytes::from_static(body.as_bytes()));
        assert!(read_tokens(&untold).is_err());
    }

    #[test]
    fn what_went_wrong_is_told_apart() {
        let answer = |status: u16, body: &'static str| {
            let mut answer = Response::new(Bytes::from_static(body.as_bytes()));
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            refusal(&answer)
        };
        let refused = answer(400, r#"{"error":"invalid_grant","error_description":"x"}"#);
        assert_eq!(refused, OidcError::Refused("invalid_grant".to_owned()));
        let hostile = answer(401, "{\"error\":\"a\\u001b[2J\"}").to_string();
        assert!(!hostile.contains('\u{1b}'), "{hostile}");
        for (status, body) in [
            (500, r#"{"error":"server_error"}"#),
            (302, ""),
            (400, "<html>"),
            (204, ""),
        ] {
            let told = answer(status, body);
            assert!(matches!(told, OidcError::Unavailable(_)), "{status} {body}");
        }
    }
}
