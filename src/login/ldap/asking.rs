//! One login at one server: who is meant, whether the password is theirs, which groups they are in.

use super::dn::{Dn, folded};
use super::fault::Fault;
use super::link::{Link, SUCCESS, Way};
use super::message::{Binding, Entry, Scope, Search};
use super::person::{self, MOST_GROUPS};
use super::settings::{LdapServer, LdapSettings, LdapUsers};
use super::template::{fill, in_dn, in_filter};
use super::verdict::{Verdict, judge};
use crate::identity::Identity;
use crate::secret::Secret;

/// Everything that a question needs.
pub(super) struct Asking<'a> {
    pub(super) provider: &'a str,
    pub(super) settings: &'a LdapSettings,
    pub(super) group_base: &'a Dn,
    /// What was typed.
    pub(super) user: &'a str,
    pub(super) link: Link,
}

/// Who is meant by what was typed.
pub(super) enum Meant {
    /// By a search that found one entry.
    Entry(Entry),
    /// By a name that may be nobody's.
    Dn(String),
    Nobody,
    /// More than one entry fits.
    Several,
}

impl Meant {
    pub(super) fn dn(&self) -> Option<&str> {
        match self {
            Self::Entry(entry) => Some(&entry.dn),
            Self::Dn(dn) => Some(dn),
            Self::Nobody | Self::Several => None,
        }
    }

    /// What all names of one person have in common, to count wrong passwords by.
    pub(super) fn key(&self) -> Option<String> {
        self.dn()
            .map(|dn| Dn::parse(dn).map_or_else(|| folded(dn), |dn| dn.folded()))
    }
}

impl<'a> Asking<'a> {
    pub(super) async fn begin(
        provider: &'a str,
        (settings, server): (&'a LdapSettings, &LdapServer),
        (way, group_base): (&Way, &'a Dn),
        user: &'a str,
    ) -> Result<Self, Fault> {
        let limits = (settings.connect_timeout, settings.answer_timeout);
        Ok(Self {
            provider,
            settings,
            group_base,
            user,
            link: Link::open(server, way, limits).await?,
        })
    }

    pub(super) async fn find(&mut self) -> Result<Meant, Fault> {
        let values = [("user", self.user)];
        let (base, filter) = match &self.settings.users {
            LdapUsers::Dn(template) => return Ok(Meant::Dn(fill(template, &values, in_dn))),
            LdapUsers::Search { base, filter } => (base, fill(filter, &values, in_filter)),
        };
        self.become_service().await?;
        let attributes = self.settings.attributes.all();
        let search = self.search((base, Scope::Subtree), &filter, (&attributes, 2));
        let mut found = self.link.search(&search, "to look for users").await?;
        Ok(
            match (found.entries.pop(), found.entries.is_empty(), found.is_cut) {
                (None, _, false) => Meant::Nobody,
                (Some(only), true, false) => Meant::Entry(only),
                _ => Meant::Several,
            },
        )
    }

    pub(super) async fn prove(&mut self, dn: &str, password: &Secret) -> Result<Verdict, Fault> {
        match Binding::new(dn, password) {
            Some(binding) => judge(self.link.bind(&binding).await?),
            None => Ok(Verdict::Wrong),
        }
    }

    /// The one who has just shown that they are `meant`.
    pub(super) async fn identify(&mut self, meant: Meant) -> Result<Identity, Fault> {
        let entry = match meant {
            Meant::Entry(entry) => entry,
            Meant::Dn(dn) => {
                self.become_service().await?;
                self.entry(&dn).await?
            }
            Meant::Nobody | Meant::Several => return Err(Fault::Malformed("nobody is meant")),
        };
        let attributes = &self.settings.attributes;
        let mut identity = person::identity(self.provider, &entry, attributes)?;
        let mut groups = match &attributes.groups {
            Some(attribute) => person::own_groups(&entry, attribute, self.group_base)?,
            None => Vec::new(),
        };
        groups.extend(self.groups(&entry.dn, &identity.user).await?);
        identity.groups = person::joined(groups, &entry.dn)?;
        Ok(identity)
    }

    async fn entry(&mut self, dn: &str) -> Result<Entry, Fault> {
        let attributes = self.settings.attributes.all();
        let search = self.search((dn, Scope::Base), "(objectClass=*)", (&attributes, 1));
        let found = self.link.search(&search, "to show the user").await?;
        let entry = found.entries.into_iter().next();
        entry.ok_or_else(|| Fault::entry(dn, "is not shown", "objectClass"))
    }

    async fn groups(&mut self, dn: &str, user: &str) -> Result<Vec<String>, Fault> {
        let Some(groups) = &self.settings.group_search else {
            return Ok(Vec::new());
        };
        self.become_service().await?;
        let filter = fill(&groups.filter, &[("dn", dn), ("user", user)], in_filter);
        let most = u32::try_from(MOST_GROUPS).unwrap_or(u32::MAX);
        let attributes = [&*groups.attribute];
        let base = (&*self.settings.group_base, Scope::Subtree);
        let search = self.search(base, &filter, (&attributes, most));
        let found = self.link.search(&search, "to look for groups").await?;
        if found.is_cut {
            return Err(Fault::TooMany(MOST_GROUPS));
        }
        person::found_groups(&found.entries, &groups.attribute)
    }

    /// Where there is none, everything is asked as whoever is logged in on this connection.
    async fn become_service(&mut self) -> Result<(), Fault> {
        let Some(service) = &self.settings.service else {
            return Ok(());
        };
        let fault = |told| Fault::Service {
            dn: service.dn.clone(),
            told,
        };
        let binding = Binding::new(&service.dn, &service.password);
        let binding = binding.ok_or(Fault::Malformed("the service account has no name"))?;
        let told = self.link.bind(&binding).await?.told;
        if told.code == SUCCESS {
            Ok(())
        } else {
            Err(fault(told))
        }
    }

    fn search<'s>(
        &self,
        (base, scope): (&'s str, Scope),
        filter: &'s str,
        (attributes, most): (&'s [&'s str], u32),
    ) -> Search<'s> {
        let seconds = self.settings.answer_timeout.as_secs().max(1);
        Search {
            base,
            scope,
            filter,
            attributes,
            most,
            patience: u32::try_from(seconds).unwrap_or(u32::MAX),
        }
    }
}
