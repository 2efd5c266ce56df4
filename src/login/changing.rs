//! What local users change of their own: a new password in the place of the one that they know. It is written by threads
//! that may wait for a disk, one change at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use zeroize::Zeroizing;

use super::editing::Prepared;
use super::hashing::{Hasher, HashingError};
use super::password::LocalUsers;
use super::rules::{NewPassword, PasswordRefused};
use super::users::{User, UserFile, UserFileError};
use super::{Credentials, Refusal};

/// How long a change waits for the ones before it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A user whose password was found right a moment ago. Only [`LocalUsers::prove`] makes one.
pub struct Proven(User);

impl Proven {
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl fmt::Debug for Proven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proven").field(&self.0.name).finish()
    }
}

/// A change that is as good as done: what is left is [`Ready::commit`]. Dropped, it has never been.
#[derive(Debug)]
pub struct Ready {
    writer: Arc<Hasher>,
    prepared: Prepared,
    _turn: OwnedMutexGuard<()>,
}

/// Why a change was not made. Everything is as it was then.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChangeError {
    #[error("too many changes are waiting")]
    Busy,
    #[error("the user was changed meanwhile")]
    Overtaken,
    #[error(transparent)]
    Refused(#[from] PasswordRefused),
    /// The log says why.
    #[error("the users file cannot be written")]
    Unwritable,
}

impl LocalUsers {
    /// Looks at a password as at a login: it takes as long, and counts as an attempt where it is wrong.
    pub async fn prove(&self, credentials: Credentials) -> Result<Proven, Refusal> {
        self.judge(credentials).await.map(Proven)
    }

    /// Makes a new password ready to take the place of the one that was proven, if it still is the user's. `epoch`: by
    /// which every session from before will have ended when it does.
    pub async fn prepare_password(
        &self,
        proven: Proven,
        password: Zeroizing<String>,
        epoch: u64,
    ) -> Result<Ready, ChangeError> {
        let turn = tokio::time::timeout(PATIENCE, self.changing.clone().lock_owned()).await;
        let turn = turn.map_err(|_| ChangeError::Busy)?;
        let name = proven.0.name.clone();
        let chosen = move || NewPassword::choose(&name, &password);
        let chosen = self
            .hasher()
            .run(chosen)
            .await
            .map_err(|error| match error {
                HashingError::Busy => ChangeError::Busy,
                error => ChangeError::Refused(error.into()),
            })??;
        let path = self.path().to_owned();
        let prepare = move || UserFile::prepare_password(&path, &proven.0, (&chosen, epoch));
        let prepared = self.writer.run(prepare).await;
        let prepared = prepared.map_err(|_| ChangeError::Unwritable)?;
        Ok(Ready {
            writer: self.writer.clone(),
            prepared: prepared.map_err(|error| change_error(&error))?,
            _turn: turn,
        })
    }
}

impl Ready {
    pub async fn commit(self) -> Result<(), ChangeError> {
        let Self {
            writer,
            prepared,
            _turn,
        } = self;
        let committed = writer.run(move || prepared.commit()).await;
        let committed = committed.map_err(|_| ChangeError::Unwritable)?;
        committed.map_err(|error| change_error(&error))
    }
}

fn change_error(error: &UserFileError) -> ChangeError {
    match error {
        UserFileError::Overtaken | UserFileError::Unknown(_) => ChangeError::Overtaken,
        UserFileError::Locked(_) => ChangeError::Busy,
        error => {
            tracing::error!(%error, "a user's own change cannot be written; everything stays as it was");
            ChangeError::Unwritable
        }
    }
}
