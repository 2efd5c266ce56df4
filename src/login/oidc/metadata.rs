//! What a provider says about itself (`OpenID` Connect Discovery 1.0), and which of that is believed: its own name exactly,
//! and only addresses that are as well guarded as the issuer's.

use serde::Deserialize;
use url::Url;

use super::fault::Flaw;

/// Where a provider is, and what it does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Metadata {
    pub(super) authorization_endpoint: Url,
    pub(super) token_endpoint: Url,
    pub(super) userinfo_endpoint: Option<Url>,
    pub(super) jwks_uri: Url,
    pub(super) end_session_endpoint: Option<Url>,
    /// It always names itself in its answers (RFC 9207).
    pub(super) names_itself: bool,
}

/// What is read of a configuration document.
pub(super) trait Document: Clone + PartialEq {
    fn parse(json: &[u8], issuer: &str) -> Result<Self, Flaw>;

    fn jwks_uri(&self) -> &Url;
}

/// Where the keys of an issuer are: all that is asked of one whose tokens others bring.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct KeyPlace(pub(super) Url);

#[derive(Deserialize)]
struct WholeDocument {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    userinfo_endpoint: Option<String>,
    end_session_endpoint: Option<String>,
    jwks_uri: String,
    response_types_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

#[derive(Deserialize)]
struct KeyDocument {
    issuer: String,
    jwks_uri: String,
}

impl Document for Metadata {
    fn parse(json: &[u8], issuer: &str) -> Result<Self, Flaw> {
        let document: WholeDocument = read(json)?;
        if document.issuer != issuer {
            return Err(Flaw::Issuer);
        }
        let lacks = |list: &Option<Vec<String>>, what: &str| {
            let list = list.as_ref();
            list.is_some_and(|list| !list.iter().any(|one| one == what))
        };
        if lacks(&document.response_types_supported, "code") {
            return Err(Flaw::Shape("it gives no codes"));
        }
        if lacks(&document.code_challenge_methods_supported, "S256") {
            return Err(Flaw::Shape("it has no PKCE with S256"));
        }
        let endpoint = |text: &str| endpoint(text, issuer);
        let optional = |text: &Option<String>| text.as_deref().map(endpoint).transpose();
        Ok(Self {
            authorization_endpoint: endpoint(&document.authorization_endpoint)?,
            token_endpoint: endpoint(&document.token_endpoint)?,
            userinfo_endpoint: optional(&document.userinfo_endpoint)?,
            end_session_endpoint: optional(&document.end_session_endpoint)?,
            jwks_uri: endpoint(&document.jwks_uri)?,
            names_itself: document.authorization_response_iss_parameter_supported,
        })
    }

    fn jwks_uri(&self) -> &Url {
        &self.jwks_uri
    }
}

impl Document for KeyPlace {
    fn parse(json: &[u8], issuer: &str) -> Result<Self, Flaw> {
        let document: KeyDocument = read(json)?;
        if document.issuer != issuer {
            return Err(Flaw::Issuer);
        }
        endpoint(&document.jwks_uri, issuer).map(Self)
    }

    fn jwks_uri(&self) -> &Url {
        &self.0
    }
}

fn read<T: for<'de> Deserialize<'de>>(json: &[u8]) -> Result<T, Flaw> {
    let read = serde_json::from_slice(json);
    read.map_err(|_| Flaw::Shape("its configuration document cannot be read"))
}

/// An address that is as well guarded as the issuer's own.
fn endpoint(text: &str, issuer: &str) -> Result<Url, Flaw> {
    let is_local = issuer.starts_with("http://");
    let found = Url::parse(text).ok();
    found
        .filter(|url| is_guarded(url) || (is_local && is_loopback(url)))
        .filter(|url| url.fragment().is_none() && url.username().is_empty())
        .ok_or(Flaw::Shape("one of its addresses is not https"))
}

/// Where the configuration document of an issuer is.
pub(super) fn place_of(issuer: &str) -> String {
    let base = issuer.trim_end_matches('/');
    format!("{base}/.well-known/openid-configuration")
}

fn is_guarded(url: &Url) -> bool {
    url.scheme() == "https" && url.host().is_some()
}

/// On this machine a provider may be tried without TLS.
pub fn is_loopback(url: &Url) -> bool {
    let is_here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    url.scheme() == "http" && is_here
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn document() -> Value {
        json!({
            "issuer": "https://op.example",
            "authorization_endpoint": "https://op.example/auth?tenant=1",
            "token_endpoint": "https://other.example/token",
            "jwks_uri": "https://op.example/jwks",
            "response_types_supported": ["code", "code id_token"],
            "code_challenge_methods_supported": ["plain", "S256"],
            "authorization_response_iss_parameter_supported": true,
            "something_new": [1],
        })
    }

    fn parsed(document: &Value) -> Result<Metadata, Flaw> {
        Metadata::parse(document.to_string().as_bytes(), "https://op.example")
    }

    #[test]
    fn a_good_document_is_believed() {
        let metadata = parsed(&document()).unwrap();
        assert_eq!(
            metadata.token_endpoint.as_str(),
            "https://other.example/token"
        );
        assert!(metadata.names_itself);
        let mut silent = document();
        for name in [
            "response_types_supported",
            "code_challenge_methods_supported",
            "authorization_response_iss_parameter_supported",
        ] {
            silent.as_object_mut().unwrap().remove(name);
        }
        assert!(!parsed(&silent).unwrap().names_itself);
    }

    #[test]
    fn a_document_that_lies_is_refused() {
        for (name, value) in [
            ("issuer", json!("https://op.example/")),
            ("issuer", json!("https://OP.example")),
            ("issuer", json!("https://evil.example")),
            ("issuer", Value::Null),
            ("authorization_endpoint", json!("http://op.example/auth")),
            ("authorization_endpoint", json!("javascript:alert(1)")),
            ("authorization_endpoint", json!("https://op.example/auth#x")),
            ("token_endpoint", json!("http://127.0.0.1/token")),
            ("token_endpoint", json!("https://a@op.example/token")),
            ("token_endpoint", json!("/token")),
            ("userinfo_endpoint", json!("file:///etc/passwd")),
            ("end_session_endpoint", json!("http://op.example/end")),
            ("jwks_uri", json!("http://op.example/jwks")),
            ("jwks_uri", json!(["https://op.example/jwks"])),
            ("response_types_supported", json!(["id_token"])),
            ("code_challenge_methods_supported", json!(["plain"])),
            (
                "authorization_response_iss_parameter_supported",
                json!("true"),
            ),
        ] {
            let mut document = document();
            document[name] = value;
            assert!(parsed(&document).is_err(), "{document}");
        }
    }

    #[test]
    fn an_issuer_of_tokens_need_not_be_one_to_log_in_at() {
        let parse =
            |json: &Value| KeyPlace::parse(json.to_string().as_bytes(), "https://a.example");
        let good = json!({"issuer": "https://a.example", "jwks_uri": "https://a.example/keys"});
        assert_eq!(
            parse(&good).unwrap().jwks_uri().as_str(),
            "https://a.example/keys"
        );
        for (name, value) in [
            ("issuer", json!("https://b.example")),
            ("jwks_uri", json!("http://a.example/keys")),
            ("jwks_uri", Value::Null),
        ] {
            let mut bad = good.clone();
            bad[name] = value;
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for (address, good) in [
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://localhost", true),
            ("http://localhost.example.com", false),
            ("http://10.0.0.1", false),
            ("https://127.0.0.1", false),
        ] {
            assert_eq!(
                is_loopback(&Url::parse(address).unwrap()),
                good,
                "{address}"
            );
        }
        let issuer = "http://127.0.0.1:8080";
        let mut document = document();
        document["issuer"] = json!(issuer);
        document["jwks_uri"] = json!("http://127.0.0.1:8080/jwks");
        let parse = |document: &Value| Metadata::parse(document.to_string().as_bytes(), issuer);
        assert!(parse(&document).is_ok());
        document["jwks_uri"] = json!("http://op.example/jwks");
        assert!(parse(&document).is_err());
    }

    #[test]
    fn the_place_of_the_document_follows_from_the_issuer() {
        for issuer in ["https://op.example/a", "https://op.example/a/"] {
            let place = "https://op.example/a/.well-known/openid-configuration";
            assert_eq!(place_of(issuer), place);
        }
    }
}
