//! Logging in at a site that speaks OAuth 2.0 (RFC 6749) and no `OpenID` Connect, as GitHub does: a code is redeemed for an
//! access token (PKCE, RFC 7636), and the site says whose it is. Nothing is signed, so what is believed is what came over
//! TLS from the addresses in the configuration. The token is used for that and forgotten.

mod told;

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use url::Url;

pub use self::told::SubjectKind;

use super::oidc::exchange::{Exchange, Grant, json};
use super::oidc::spent::Spent;
use super::oidc::{
    Answer, Beginning, ClaimPath, ClientAuthentication, Flaw, MAX_ANSWER, MAX_AT_ONCE, Mapping,
    OidcError, Proof, turn,
};
use super::pending::PendingLogin;
use crate::clock::Clock;
use crate::identity::Federated;
use crate::outbound::{Limits, Outbound, OutboundError};

/// One `[[provider]]` of type `oauth2`.
#[derive(Clone, Debug)]
pub struct OAuth2Settings {
    pub places: Places,
    /// Its name for itself, where it tells that in its answers (RFC 9207).
    pub issuer: Option<String>,
    pub client_id: String,
    pub authentication: ClientAuthentication,
    /// All of them have to be given.
    pub scopes: Vec<String>,
    /// What users are known by for ever.
    pub subject: (ClaimPath, SubjectKind),
    /// `sub` is what users are known by.
    pub mapping: Mapping,
    /// Where an entry at `places.groups` names its group, the parts of one name in their order; empty: it is the name.
    pub group_parts: Vec<ClaimPath>,
    /// For one answer.
    pub timeout: Duration,
    /// PEM of the authorities that sign the site's certificates; `None`: those that this machine trusts.
    pub authorities: Option<Vec<u8>>,
}

/// Where a site is asked.
#[derive(Clone, Debug)]
pub struct Places {
    pub authorization: Url,
    pub token: Url,
    /// One object about the user.
    pub user_info: Url,
    /// A list of their addresses, each with `email`, `primary` and `verified`.
    pub emails: Option<Url>,
    /// A list of their groups.
    pub groups: Option<Url>,
}

impl Places {
    /// Those that are asked.
    pub fn all(&self) -> impl Iterator<Item = &Url> {
        let always = [&self.authorization, &self.token, &self.user_info];
        always.into_iter().chain(&self.emails).chain(&self.groups)
    }
}

/// Such a site.
#[derive(Debug)]
pub struct OAuth2 {
    id: String,
    settings: OAuth2Settings,
    clock: Clock,
    exchange: Exchange,
    turns: Semaphore,
    spent: Spent,
}

impl OAuth2 {
    /// Asks nobody yet. What is sent goes out on `runtime`.
    pub fn new(
        id: String,
        settings: OAuth2Settings,
        (clock, runtime): (Clock, Handle),
    ) -> Result<Self, OutboundError> {
        let limits = Limits {
            time: settings.timeout,
            answer: MAX_ANSWER,
        };
        let outbound = Outbound::new(settings.authorities.as_deref(), limits, runtime)?;
        Ok(Self {
            exchange: Exchange::new(outbound, (&settings.client_id, &settings.authentication)),
            id,
            settings,
            clock,
            turns: Semaphore::new(MAX_AT_ONCE),
            spent: Spent::default(),
        })
    }

    /// Where the browser is sent to log in. There is no word of OAuth 2.0 for a login that has to be new.
    pub(super) fn begin(&self, beginning: &Beginning<'_>) -> Url {
        let client = (self.settings.client_id.as_str(), &*self.settings.scopes);
        beginning.request(&self.settings.places.authorization, client)
    }

    pub(super) fn is_over(&self, pending: &PendingLogin) -> bool {
        self.spent.holds(&pending.nonce)
    }

    /// Judges the answer to a login that began in the browser that brings it.
    pub(super) async fn finish(
        &self,
        answer: &Answer<'_>,
        pending: &PendingLogin,
    ) -> Result<Proof, OidcError> {
        // Whoever says that it names itself does so always; of one that does not, nothing is known.
        let issuer = self.settings.issuer.as_deref();
        if issuer.is_some() && answer.issuer != issuer {
            return Err(Flaw::Issuer.into());
        }
        let code = answer.outcome.map_err(OidcError::refused)?;
        if !self.spent.spend(&pending.nonce, self.clock.now()) {
            return Err(Flaw::Nonce.into());
        }
        let _turn = turn(&self.turns, self.settings.timeout).await?;
        let grant = Grant {
            code,
            redirect_uri: answer.redirect_uri,
            now: self.clock.now(),
            verifier: &pending.verifier(),
        };
        let places = &self.settings.places;
        let tokens = self.exchange.send_code(&places.token, &grant).await?;
        let access = told::access_token(&tokens, &self.settings.scopes)?;
        let (user, emails, groups) = tokio::try_join!(
            self.ask(Some(&places.user_info), &access),
            self.ask(places.emails.as_ref(), &access),
            self.ask(places.groups.as_ref(), &access),
        )?;
        let mut claims = told::user(&user.unwrap_or_default(), &self.settings.subject)?;
        if let Some(emails) = emails {
            told::take_email(&mut claims, &emails)?;
        }
        let mut identity = self.settings.mapping.identity(&self.id, &[&claims])?;
        if let Some(groups) = groups {
            identity.groups = told::groups(&groups, &self.settings.group_parts)?;
        }
        Ok(Proof {
            identity,
            amr: Vec::new(),
            // The site may have known the user for long, and does not say.
            proved: None,
            federated: Federated {
                session: None,
                hint: None,
                refresh: None,
                acr: None,
            },
        })
    }

    /// What is at a place: JSON.
    async fn ask(&self, place: Option<&Url>, access: &str) -> Result<Option<Vec<u8>>, OidcError> {
        let Some(place) = place else {
            return Ok(None);
        };
        let answer = self.exchange.get((place, access)).await?;
        Ok(Some(json(&answer)?.to_vec()))
    }
}
