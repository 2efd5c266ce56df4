//! Logging in at an `OpenID` Connect provider: code flow with PKCE. The way there is an address for the browser, the way
//! back is judged here. It knows no cookie, no page and no session.

mod bearer;
mod client_key;
pub(super) mod exchange;
mod fault;
mod keys;
mod known;
mod leaving;
pub(super) mod mapping;
mod metadata;
mod refreshing;
pub(super) mod spent;
pub(super) mod token;

pub use bearer::{Issuer, IssuerSettings, Issuers};
pub use client_key::ClientKey;
pub use fault::{Flaw, OidcError};
pub use keys::ALGORITHMS;
pub use leaving::{Logout, Logouts};
pub use mapping::{ClaimPath, Mapping};
pub use metadata::is_loopback;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use url::Url;

use self::exchange::{Exchange, Grant};
use self::known::{Known, Provided, Source};
use self::metadata::Metadata;
use self::spent::Spent;
use self::token::{Awaited, Terms, Token};
use super::pending::{MAX_ACR_VALUES, PendingLogin};
use crate::clock::{Clock, Timestamp};
use crate::identity::{Federated, Identity};
use crate::outbound::{Limits, Outbound, OutboundError};
use crate::secret::Secret;

/// No answer of a provider is larger.
pub(super) const MAX_ANSWER: usize = 512 * 1024;

/// Logins whose codes are being redeemed at one provider; more wait for as long as an answer may take.
pub(super) const MAX_AT_ONCE: usize = 64;

/// What the header of a token may say that it is.
const ID_TOKEN: [Option<&str>; 2] = [None, Some("jwt")];

/// One `[[provider]]` of type `oidc`.
#[derive(Clone, Debug)]
pub struct OidcSettings {
    /// Exactly as the provider names itself.
    pub issuer: String,
    pub client_id: String,
    pub authentication: ClientAuthentication,
    /// `openid` among them.
    pub scopes: Vec<String>,
    /// By which ID tokens may be signed.
    pub algorithms: Vec<Algorithm>,
    pub mapping: Mapping,
    /// Of one of these organizations (Google's `hd`) a user has to be; empty: of any, or of none.
    pub hosted_domains: Vec<String>,
    /// Ask the user-info endpoint for claims that the ID token does not hold.
    pub user_info: bool,
    /// One of these the login there has to have been (`acr`); empty: any.
    pub acr_values: Vec<String>,
    /// How long ago the user may have logged in at the provider.
    pub max_auth_age: Option<Duration>,
    pub max_clock_skew: Duration,
    pub logouts: Logouts,
    /// Asks the provider later who a user is by then, where it gives refresh tokens.
    pub refreshes: bool,
    /// For one answer.
    pub timeout: Duration,
    /// PEM of the authorities that sign the provider's certificates; `None`: those that this machine trusts.
    pub authorities: Option<Vec<u8>>,
}

/// How the provider is shown that it is us who redeem a code.
#[derive(Clone, Debug)]
pub enum ClientAuthentication {
    /// A public client: PKCE alone.
    None,
    Basic(Secret),
    Key(ClientKey),
    Post(Secret),
}

/// A provider, as far as it is known.
#[derive(Debug)]
pub struct Oidc {
    id: String,
    settings: OidcSettings,
    clock: Clock,
    known: Known<Metadata>,
    exchange: Exchange,
    turns: Semaphore,
    spent: Spent,
    logouts: Spent,
    /// The provider's own sessions: ended by its word, and by what browsers brought, which anybody can.
    ended: Spent,
    left: Spent,
}

/// A login that is to begin.
#[derive(Clone, Copy, Debug)]
pub struct Beginning<'a> {
    pub pending: &'a PendingLogin,
    /// `pending`, sealed.
    pub state: &'a str,
    /// Where the answer is to come.
    pub redirect_uri: &'a str,
}

impl Beginning<'_> {
    /// The request for a code (RFC 6749 section 4.1.1) with PKCE (RFC 7636), at the endpoint that takes it.
    pub(super) fn request(&self, endpoint: &Url, (client_id, scopes): (&str, &[String])) -> Url {
        let mut place = endpoint.clone();
        let mut query = place.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", client_id)
            .append_pair("redirect_uri", self.redirect_uri)
            .append_pair("state", self.state)
            .append_pair("code_challenge", &self.pending.challenge())
            .append_pair("code_challenge_method", "S256");
        if !scopes.is_empty() {
            query.append_pair("scope", &scopes.join(" "));
        }
        drop(query);
        place
    }
}

/// What a provider answered through the browser.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub issuer: Option<&'a str>,
    pub outcome: Result<&'a str, &'a str>,
    /// Where it came.
    pub redirect_uri: &'a str,
}

/// A user who has shown who they are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proof {
    pub identity: Identity,
    /// How, as far as the provider says (RFC 8176).
    pub amr: Vec<String>,
    /// When, as far as the provider says.
    pub proved: Option<Timestamp>,
    pub federated: Federated,
}

impl Oidc {
    /// Asks nobody yet. What is sent goes out on `runtime`.
    pub fn new(
        id: String,
        settings: OidcSettings,
        (clock, runtime): (Clock, Handle),
    ) -> Result<Self, OutboundError> {
        let limits = Limits {
            time: settings.timeout,
            answer: MAX_ANSWER,
        };
        let outbound = Outbound::new(settings.authorities.as_deref(), limits, runtime)?;
        let source = Source::Discovery(settings.issuer.clone());
        Ok(Self {
            known: Known::new(id.clone(), source, outbound.clone()),
            exchange: Exchange::new(outbound, (&settings.client_id, &settings.authentication)),
            id,
            settings,
            clock,
            turns: Semaphore::new(MAX_AT_ONCE),
            spent: Spent::default(),
            logouts: Spent::default(),
            ended: Spent::default(),
            left: Spent::default(),
        })
    }

    /// Finds the provider, and keeps up with it for ever.
    pub async fn follow(&self) {
        self.known.follow(&self.clock).await;
    }

    /// Where the browser is sent to log in.
    pub fn begin(&self, beginning: &Beginning<'_>) -> Result<Url, OidcError> {
        let pending = beginning.pending;
        let provided = self.known.provided()?;
        let client = (self.settings.client_id.as_str(), &*self.settings.scopes);
        let mut place = beginning.request(&provided.metadata.authorization_endpoint, client);
        let mut query = place.query_pairs_mut();
        query.append_pair("nonce", &nonce(pending));
        // What the page wants is asked for before what is always wanted.
        let wanted = [&pending.acr_values, &self.settings.acr_values];
        if let Some(values) = wanted.into_iter().find(|values| !values.is_empty()) {
            query.append_pair("acr_values", &values.join(" "));
        }
        if pending.anew {
            query.append_pair("prompt", "login");
            query.append_pair("max_age", "0");
        } else if let Some(age) = self.settings.max_auth_age {
            query.append_pair("max_age", &age.as_secs().to_string());
        }
        match self.settings.hosted_domains.as_slice() {
            [] => {}
            [domain] => drop(query.append_pair("hd", domain)),
            _ => drop(query.append_pair("hd", "*")),
        }
        drop(query);
        Ok(place)
    }

    /// Whether the login has been finished here before.
    pub fn is_over(&self, pending: &PendingLogin) -> bool {
        self.spent.holds(&pending.nonce)
    }

    /// Judges the answer to a login that began in the browser that brings it.
    pub async fn finish(
        &self,
        answer: &Answer<'_>,
        pending: &PendingLogin,
    ) -> Result<Proof, OidcError> {
        let provided = self.known.provided()?;
        match answer.issuer {
            Some(issuer) if issuer != self.settings.issuer => return Err(Flaw::Issuer.into()),
            None if provided.metadata.names_itself => return Err(Flaw::Issuer.into()),
            _ => {}
        }
        let code = answer.outcome.map_err(OidcError::refused)?;
        if !self.spent.spend(&pending.nonce, self.clock.now()) {
            return Err(Flaw::Nonce.into());
        }
        let _turn = self.turn().await?;
        let grant = Grant {
            code,
            redirect_uri: answer.redirect_uri,
            now: self.clock.now(),
            verifier: &pending.verifier(),
        };
        let endpoint = &provided.metadata.token_endpoint;
        let tokens = self.exchange.redeem(endpoint, &grant).await?;
        let id_token = tokens
            .id_token
            .as_ref()
            .ok_or(Flaw::Shape("it gives no ID token"))?;
        let token = self.open((id_token, &ID_TOKEN), &provided).await?;
        let terms = self.terms();
        token.check(&terms)?;
        let awaited = Awaited {
            nonce: &nonce(pending),
            began: pending.started,
            anew: pending.anew,
            max_age: self.settings.max_auth_age,
            acr_values: [&pending.acr_values, &self.settings.acr_values],
        };
        let proved = token.ends(&awaited, &terms)?;
        token.came_with(&tokens.access_token)?;
        self.admit(&token)?;
        let mut told = vec![&token.claims];
        let asked;
        if self.settings.user_info {
            let endpoint = provided.metadata.userinfo_endpoint.as_ref();
            asked = self
                .exchange
                .user_info(endpoint, &tokens.access_token)
                .await?;
            if asked.text("sub")? != token.claims.text("sub")? {
                return Err(Flaw::Claim("sub".to_owned()).into());
            }
            told.push(&asked);
        }
        let amr = token.claims.optional("amr", token::Claims::texts)?;
        let session = token.claims.optional("sid", token::Claims::text)?;
        let acr = token.claims.text("acr").ok();
        Ok(Proof {
            identity: self.settings.mapping.identity(&self.id, &told)?,
            amr: amr
                .unwrap_or_default()
                .into_iter()
                .map(str::to_owned)
                .collect(),
            proved,
            federated: Federated {
                session: session.map(str::to_owned),
                hint: self.hint(id_token),
                refresh: self.kept(&tokens),
                acr: acr
                    .filter(|acr| acr.len() <= MAX_ACR_VALUES)
                    .map(str::to_owned),
            },
        })
    }

    /// What was asked for with the browser's help is only a hint: the token tells.
    fn admit(&self, token: &Token) -> Result<(), OidcError> {
        let domains = &self.settings.hosted_domains;
        let domain = token.claims.optional("hd", token::Claims::text)?;
        let is_among = domain.is_some_and(|domain| domains.iter().any(|one| one == domain));
        if domains.is_empty() || is_among {
            return Ok(());
        }
        Err(OidcError::NotAdmitted("the user is of none of the domains"))
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, OidcError> {
        turn(&self.turns, self.settings.timeout).await
    }

    /// A key that is not known yet may be a new one: the provider is asked, but not again and again.
    async fn open(
        &self,
        (text, types): (&str, &[Option<&str>]),
        provided: &Arc<Provided<Metadata>>,
    ) -> Result<Token, OidcError> {
        let terms = self.terms();
        match Token::open(text, &provided.keys, (&terms, types)) {
            Err(Flaw::UnknownKey) => {
                let renewed = self.known.renew(provided, self.clock.now()).await?;
                Ok(Token::open(text, &renewed.keys, (&terms, types))?)
            }
            opened => Ok(opened?),
        }
    }

    fn terms(&self) -> Terms<'_> {
        Terms {
            issuer: &self.settings.issuer,
            client_id: &self.settings.client_id,
            algorithms: &self.settings.algorithms,
            skew: self.settings.max_clock_skew,
            now: self.clock.now(),
        }
    }
}

/// A place among those who may ask at once.
pub(super) async fn turn(
    turns: &Semaphore,
    longest: Duration,
) -> Result<SemaphorePermit<'_>, OidcError> {
    let turn = tokio::time::timeout(longest, turns.acquire()).await;
    let turn = turn.ok().and_then(Result::ok);
    turn.ok_or_else(|| OidcError::Unavailable("too many ask at once".to_owned()))
}

fn nonce(pending: &PendingLogin) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(pending.nonce)
}
