//! Which way to log in is the one: that which was asked for, that by which somebody did, the only one, or what they choose.

use super::chooser::{Choice, ChooserView};
use super::rounds::AGAIN;
use super::sign_in::Sheet;
use super::{Means, Portal, PortalError, PortalRequest, Provider};
use crate::session::LiveSession;
use crate::wire::Page;

impl Portal {
    /// The form of the way in that was chosen, the way to where it is, or the choice.
    pub(super) fn way_in(
        &self,
        request: &PortalRequest<'_>,
        sheet: &Sheet<'_>,
    ) -> Result<Page, PortalError> {
        let Some(provider) = self.chosen(request, sheet) else {
            return match self.providers.as_slice() {
                [] => Err(PortalError::NotFound),
                several => Ok(self.choice(request, (several, sheet))),
            };
        };
        match &provider.means {
            Means::AtApp(page) => {
                let asked = (sheet.return_to, sheet.anew);
                self.send_to_app(request, (provider, page), asked)
            }
            Means::Form(_) => Ok(self.form(request, provider, sheet)),
            Means::Elsewhere(oidc) => {
                let asked = (sheet.return_to, sheet.anew);
                self.send_away(request, (provider, oidc), asked)
            }
        }
    }

    pub(super) fn provider(&self, id: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.id == id)
    }

    /// Who has to show anew who they are does it where they did, if that can be shown there.
    fn chosen(&self, request: &PortalRequest<'_>, sheet: &Sheet<'_>) -> Option<&Provider> {
        let named = request.parameter("provider");
        let session = request.session.filter(|_| sheet.anew);
        let identity = session.and_then(LiveSession::identity);
        let theirs = identity.map(|identity| identity.subject.provider.as_str());
        let found = named.as_deref().and_then(|id| self.provider(id));
        let theirs = theirs.and_then(|id| self.provider(id));
        let theirs = theirs.filter(|provider| match &provider.means {
            Means::AtApp(_) | Means::Form(_) => true,
            Means::Elsewhere(site) => site.tells_when(),
        });
        found.or(theirs).or(match self.providers.as_slice() {
            [only] => Some(only),
            _ => None,
        })
    }

    fn choice(
        &self,
        request: &PortalRequest<'_>,
        (providers, sheet): (&[Provider], &Sheet<'_>),
    ) -> Page {
        let mut fields = vec![("return_to", sheet.return_to)];
        fields.extend(sheet.anew.then_some(("prompt", "login")));
        fields.extend(request.parameter(AGAIN).map(|_| (AGAIN, "yes")));
        let ways: Vec<_> = providers
            .iter()
            .map(|provider| Choice {
                id: &provider.id,
                name: &provider.name,
                leads_away: matches!(provider.means, Means::Elsewhere(_)),
            })
            .collect();
        self.pages.chooser(&ChooserView {
            host: request.host,
            fields: &fields,
            ways: &ways,
            problem: sheet.problem,
        })
    }
}
