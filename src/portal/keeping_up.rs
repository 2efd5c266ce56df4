//! Keeps a session's user as their provider knows them. No request waits for it.

use crate::login::{Flaw, OidcError};
use crate::session::{LiveSession, Refreshed};

use super::{Means, Portal};

/// The refresh token was taken back, or the user is no longer there (RFC 6749 section 5.2).
const OVER: &str = "invalid_grant";

impl Portal {
    /// Has the provider asked once more who the session's user is, where that is due.
    pub fn keep_up(&self, session: &LiveSession) {
        if session.is_refresh_due(self.sessions.clock().now()) {
            self.ask_anew(session);
        }
    }

    fn ask_anew(&self, session: &LiveSession) {
        let Some(identity) = session.identity() else {
            return;
        };
        let subject = identity.subject.clone();
        let mut providers = self.providers.iter();
        let provider = providers.find(|provider| provider.id == subject.provider);
        let Some(Means::Elsewhere(site)) = provider.map(|provider| &provider.means) else {
            return;
        };
        let Some(oidc) = site.oidc().cloned() else {
            return;
        };
        self.sessions.refresh_soon(session, async move |token| {
            match oidc.refresh(&subject, &token).await {
                Ok(news) => Refreshed::Anew(Box::new(news)),
                Err(error) => {
                    tracing::warn!(provider = subject.provider, %error, "a provider said nothing new of a user");
                    let is_over = match &error {
                        OidcError::Refused(word) => word == OVER,
                        OidcError::Unbelievable(flaw) => *flaw == Flaw::Subject,
                        OidcError::NotAdmitted(_) | OidcError::Unavailable(_) => false,
                    };
                    if is_over { Refreshed::Over } else { Refreshed::Later }
                }
            }
        });
    }
}
