//! The ways to log in that are configured, as the portal takes them.

use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::config::Settings;
#[cfg(feature = "ldap")]
use crate::login::Ldap;
use crate::login::{self, Hasher, Kind, LocalUsers, OAuth2, Oidc, Passkeys, Site};
use crate::portal::{Means, Provider};
use crate::secret::Keyring;

#[derive(Debug)]
pub(super) struct Ways {
    pub(super) providers: Vec<Provider>,
    pub(super) users: Option<Arc<LocalUsers>>,
    pub(super) passkeys: Option<Passkeys>,
    pub(super) oidc: Vec<Arc<Oidc>>,
}

pub(super) fn build(
    settings: &Settings,
    (clock, keyring): (&Clock, &Arc<Keyring>),
) -> anyhow::Result<Ways> {
    let mut ways = Ways {
        providers: Vec::new(),
        users: None,
        passkeys: None,
        oidc: Vec::new(),
    };
    for login::Settings { id, name, kind } in &settings.providers {
        let means = match kind {
            Kind::External(settings) => Means::AtApp(Arc::new(settings.clone())),
            #[cfg(feature = "ldap")]
            Kind::Ldap(settings) => {
                let own = (**settings).clone();
                let ldap = Ldap::new(id.clone(), own, clock.clone())
                    .with_context(|| format!("the provider {id} cannot be asked"))?;
                Means::Form(Arc::new(ldap))
            }
            #[cfg(not(feature = "ldap"))]
            Kind::Ldap(_) => anyhow::bail!("this build has no ldap"),
            Kind::Local(local) => {
                let hasher = Hasher::new(Hasher::default_threads(), Hasher::QUEUE_LEN)
                    .context("cannot start the hashing threads")?;
                let hasher = Arc::new(hasher);
                let users = LocalUsers::new(id.clone(), local.clone(), hasher, clock.clone())?;
                let users = Arc::new(users.with_keyring(keyring.clone()));
                let rp_id = local.rp_id.clone();
                ways.passkeys = Some(Passkeys::new(users.clone(), keyring.clone(), rp_id));
                ways.users = Some(users.clone());
                Means::Form(users)
            }
            Kind::Oidc(settings) => {
                let own = (**settings).clone();
                let oidc = Oidc::new(id.clone(), own, (clock.clone(), Handle::current()))
                    .with_context(|| format!("the provider {id} cannot be asked"))?;
                let oidc = Arc::new(oidc);
                ways.oidc.push(oidc.clone());
                Means::Elsewhere(Site::Oidc(oidc))
            }
            Kind::OAuth2(settings) => {
                let own = (**settings).clone();
                let site = OAuth2::new(id.clone(), own, (clock.clone(), Handle::current()))
                    .with_context(|| format!("the provider {id} cannot be asked"))?;
                Means::Elsewhere(Site::OAuth2(Arc::new(site)))
            }
        };
        ways.providers.push(Provider {
            id: id.clone(),
            name: name.clone(),
            means,
        });
    }
    Ok(ways)
}
