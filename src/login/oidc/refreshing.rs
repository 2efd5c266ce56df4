//! What a provider says anew of a user who logged in earlier, for the refresh token that came with the login (`OpenID`
//! Connect Core 1.0 section 12).

use std::time::Duration;

use super::exchange::Tokens;
use super::fault::{Flaw, OidcError};
use super::{ID_TOKEN, Oidc};
use crate::identity::{Identity, Refresh, Subject};

/// The longest token that is kept in a session.
const LONGEST: usize = 4096;

/// How soon, and how late, the provider is asked again; it says within these limits.
const SOONEST: Duration = Duration::from_mins(1);
const LATEST: Duration = Duration::from_hours(1);
/// Where it says nothing.
const USUALLY: Duration = Duration::from_mins(5);

impl Oidc {
    /// Asks the provider who a user is by now, as far as it says so, and what to ask with next.
    pub async fn refresh(
        &self,
        subject: &Subject,
        token: &str,
    ) -> Result<(Option<Identity>, Refresh), OidcError> {
        let provided = self.known.provided()?;
        let _turn = self.turn().await?;
        let now = self.clock.now();
        let renew = self
            .exchange
            .renew(&provided.metadata.token_endpoint, (token, now));
        let tokens = renew.await?;
        let (opened, asked);
        let mut told = Vec::new();
        if let Some(id_token) = &tokens.id_token {
            opened = self.open((id_token, &ID_TOKEN), &provided).await?;
            opened.check(&self.terms())?;
            told.push(&opened.claims);
        }
        if self.settings.user_info {
            let endpoint = provided.metadata.userinfo_endpoint.as_ref();
            asked = self
                .exchange
                .user_info(endpoint, &tokens.access_token)
                .await?;
            told.push(&asked);
        }
        for claims in &told {
            if claims.text("sub")? != subject.id {
                return Err(Flaw::Subject.into());
            }
        }
        let mapping = &self.settings.mapping;
        let identity = match told.as_slice() {
            [] => None,
            told => Some(mapping.identity(&self.id, told)?),
        };
        let next = self.kept(&tokens).unwrap_or_else(|| Refresh {
            token: token.to_owned(),
            due: now.after(lifetime(&tokens)),
        });
        Ok((identity, next))
    }

    /// What the provider can be asked with later, where that is wanted.
    pub(super) fn kept(&self, tokens: &Tokens) -> Option<Refresh> {
        let token = tokens.refresh_token.as_ref();
        let token = token.filter(|token| self.settings.refreshes && token.len() <= LONGEST)?;
        Some(Refresh {
            token: token.as_str().to_owned(),
            due: self.clock.now().after(lifetime(tokens)),
        })
    }
}

/// As long as the access token is good, about.
fn lifetime(tokens: &Tokens) -> Duration {
    let told = tokens.expires_in.map(Duration::from_secs);
    told.map_or(USUALLY, |told| told.clamp(SOONEST, LATEST))
}
