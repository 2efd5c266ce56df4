//! Logging out: what a provider says is over, by its server (`OpenID` Connect Back-Channel Logout 1.0) or by a browser
//! (Front-Channel Logout 1.0), and where a browser goes that has logged out here (RP-Initiated Logout 1.0).

use url::Url;

use super::Oidc;
use super::fault::{Flaw, OidcError};
use super::metadata::is_loopback;
use crate::identity::{Federated, Subject};

/// What the header of a logout token may say that it is.
const LOGOUT_TOKEN: [Option<&str>; 3] = [None, Some("jwt"), Some("logout+jwt")];

/// The longest ID token that is kept for the end of its session: it has to fit into an address.
const MAX_HINT: usize = 4096;

/// The longest name of a provider's session that a browser brings, in bytes.
const MAX_NAME: usize = 256;

/// Which logouts go from one side to the other, beside those that the provider signs.
#[derive(Clone, Copy, Debug)]
pub struct Logouts {
    /// Who logs out here logs out there, too.
    pub there: bool,
    /// The provider may have browsers tell of its own, in frames.
    pub by_frames: bool,
}

/// What a provider wants ended: all sessions of a user, or those that began in one of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Logout {
    /// Of the token that says so.
    pub id: String,
    pub subject: Option<Subject>,
    pub session: Option<String>,
}

impl Oidc {
    /// Judges a logout token, which is good once.
    pub async fn logout(&self, token: &str) -> Result<Logout, OidcError> {
        let provided = self.known.provided()?;
        let token = self.open((token, &LOGOUT_TOKEN), &provided).await?;
        let terms = self.terms();
        token.check(&terms)?;
        let logout = token.logout(&terms)?;
        if !self.logouts.spend_name(logout.id, terms.now) {
            return Err(Flaw::Replayed.into());
        }
        if let Some(session) = logout.session {
            self.ended.spend_name(session, terms.now);
        }
        Ok(Logout {
            id: logout.id.to_owned(),
            subject: logout.subject.map(|id| Subject {
                provider: self.id.clone(),
                id: id.to_owned(),
            }),
            session: logout.session.map(str::to_owned),
        })
    }

    /// Its token may come again: what it orders could not be done.
    pub fn put_off(&self, logout: &str) {
        self.logouts.forget_name(logout);
    }

    /// Whether the provider has ended the session of its own that a login was in. Asked once the login has a session here:
    /// whichever of the two comes first, the other sees it.
    pub fn has_ended(&self, federated: &Federated) -> bool {
        let session = federated.session.as_deref();
        session
            .is_some_and(|session| self.ended.holds_name(session) || self.left.holds_name(session))
    }

    /// Where a browser is sent that has logged out here. `None`: nowhere.
    pub fn farewell(&self, federated: &Federated, back: &str) -> Option<Url> {
        let provided = self.known.provided().ok()?;
        let place = provided.metadata.end_session_endpoint.as_ref();
        let mut place = place.filter(|_| self.settings.logouts.there)?.clone();
        let mut query = place.query_pairs_mut();
        if let Some(hint) = &federated.hint {
            query.append_pair("id_token_hint", hint);
        }
        query
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("post_logout_redirect_uri", back);
        drop(query);
        Some(place)
    }

    /// Who a browser is sent to that logs out here, where that is a provider without TLS (it is on this machine).
    pub fn plain_farewell(&self) -> Option<String> {
        let provided = self.known.provided().ok()?;
        let place = provided.metadata.end_session_endpoint.as_ref();
        let place = place.filter(|place| self.settings.logouts.there && is_loopback(place))?;
        Some(place.origin().ascii_serialization())
    }

    /// The name of the session that a browser says is over, where the provider has browsers say so. Nothing is signed:
    /// whoever knows the name can end it.
    pub fn left(&self, (issuer, session): (&str, &str)) -> Result<String, OidcError> {
        if issuer != self.settings.issuer {
            return Err(Flaw::Issuer.into());
        }
        let is_name = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        if session.is_empty() || session.len() > MAX_NAME || !session.bytes().all(is_name) {
            return Err(Flaw::Claim("sid".to_owned()).into());
        }
        self.left.spend_name(session, self.clock.now());
        Ok(session.to_owned())
    }

    /// Whose pages may frame the answer to such a browser. `None`: the provider has no browsers say so.
    pub fn frames(&self) -> Option<String> {
        let issuer = Url::parse(&self.settings.issuer).ok();
        let issuer = issuer.filter(|_| self.settings.logouts.by_frames)?;
        Some(issuer.origin().ascii_serialization())
    }

    pub(super) fn hint(&self, id_token: &str) -> Option<String> {
        let is_of_use = self.settings.logouts.there && id_token.len() <= MAX_HINT;
        is_of_use.then(|| id_token.to_owned())
    }
}
