//! All that is looked at outside the configuration, in one place and at one moment: files, certificates, users, and what a
//! running Doorward tells. Rules get it as plain values.

mod certificates;
mod files;
mod running;

pub use certificates::{CertificateFact, PublicKey};
pub use files::{FileFact, Holds};
pub use running::{Running, Seen};

use std::io;
use std::path::PathBuf;

use crate::clock::Timestamp;
use crate::config::{Places, Settings};
use crate::edge::CertificateError;
use crate::login::{HashCost, Kind, UserFile, UserFileError};

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub now: Timestamp,
    pub files: Vec<FileFact>,
    pub certificates: Vec<CertificateFact>,
    /// The hosts of routes that no certificate is valid for.
    pub hosts_without_certificate: Vec<String>,
    pub users: Vec<UserFact>,
    /// `None`: nothing that runs was asked.
    pub running: Option<Running>,
}

/// A local user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserFact {
    pub name: String,
    /// `None`: not known.
    pub cost: Option<HashCost>,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("{}: {source}", .file.display())]
    File { file: PathBuf, source: io::Error },
    #[error(transparent)]
    Users(#[from] UserFileError),
}

impl Facts {
    /// Looks at everything that the settings name. What runs is for the caller to ask.
    pub fn gather(
        settings: &Settings,
        places: &Places,
        now: Timestamp,
    ) -> Result<Self, FactsError> {
        let (certificates, hosts_without_certificate) = certificates::gather(settings, now)?;
        Ok(Self {
            now,
            files: files::gather(settings, places)?,
            certificates,
            hosts_without_certificate,
            users: users(settings)?,
            running: None,
        })
    }
}

fn users(settings: &Settings) -> Result<Vec<UserFact>, UserFileError> {
    let mut users = Vec::new();
    for provider in &settings.providers {
        let Kind::Local(local) = &provider.kind else {
            continue;
        };
        let file = UserFile::load(&local.users)?;
        users.extend(file.users().iter().map(|user| UserFact {
            name: user.name.clone(),
            cost: user.hash_cost(),
        }));
    }
    Ok(users)
}
