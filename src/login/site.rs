//! A site elsewhere where people log in, whatever protocol it speaks.

use std::sync::Arc;

use url::Url;

use super::oauth2::OAuth2;
use super::oidc::{Answer, Beginning, Oidc, OidcError, Proof};
use super::pending::PendingLogin;
use crate::identity::Federated;

#[derive(Clone, Debug)]
pub enum Site {
    OAuth2(Arc<OAuth2>),
    Oidc(Arc<Oidc>),
}

impl Site {
    /// Where the browser is sent to log in.
    pub fn begin(&self, beginning: &Beginning<'_>) -> Result<Url, OidcError> {
        match self {
            Self::OAuth2(site) => Ok(site.begin(beginning)),
            Self::Oidc(oidc) => oidc.begin(beginning),
        }
    }

    /// Whether the login has been finished here before.
    pub fn is_over(&self, pending: &PendingLogin) -> bool {
        match self {
            Self::OAuth2(site) => site.is_over(pending),
            Self::Oidc(oidc) => oidc.is_over(pending),
        }
    }

    /// Judges the answer to a login that began in the browser that brings it.
    pub async fn finish(
        &self,
        answer: &Answer<'_>,
        pending: &PendingLogin,
    ) -> Result<Proof, OidcError> {
        match self {
            Self::OAuth2(site) => site.finish(answer, pending).await,
            Self::Oidc(oidc) => oidc.finish(answer, pending).await,
        }
    }

    /// Whether it has ended the session of its own that a login was in, as far as it tells of that.
    pub fn has_ended(&self, federated: &Federated) -> bool {
        self.oidc().is_some_and(|oidc| oidc.has_ended(federated))
    }

    /// Whether it says when users logged in there.
    pub fn tells_when(&self) -> bool {
        self.oidc().is_some()
    }

    /// One that signs what it says, and says more later.
    pub fn oidc(&self) -> Option<&Arc<Oidc>> {
        match self {
            Self::OAuth2(_) => None,
            Self::Oidc(oidc) => Some(oidc),
        }
    }
}
