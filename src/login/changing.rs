//! What local users change of their own: a new password, a second factor, recovery codes. It is written by a thread that may
//! wait for a disk, one change at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use zeroize::Zeroizing;

use super::editing::Prepared;
use super::hasher::Hasher;
use super::hashing::HashingError;
use super::own_edit::{Factor, OwnEdit};
use super::password::LocalUsers;
use super::rules::{NewPassword, PasswordRefused};
use super::second_factor::{NewFactor, recovery_codes, recovery_hash};
use super::users::{User, UserFile, UserFileError};
use super::{Credentials, Refusal};

/// How long a change waits for the ones before it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A user who has shown a moment ago who they are. Only [`LocalUsers`] makes one.
#[derive(Clone)]
pub struct Proven(pub(super) User);

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

/// What a user wants changed of their own.
pub enum OwnWish {
    NoSecondFactor,
    Password(Zeroizing<String>),
    /// New ones in the place of all that are left.
    RecoveryCodes(Vec<Zeroizing<String>>),
    SecondFactor(NewFactor, Vec<Zeroizing<String>>),
}

impl OwnWish {
    /// Ten new ones, to be shown once.
    pub fn new_codes() -> Vec<Zeroizing<String>> {
        recovery_codes()
    }
}

impl fmt::Debug for OwnWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSecondFactor => "NoSecondFactor",
            Self::Password(_) => "Password(..)",
            Self::RecoveryCodes(_) => "RecoveryCodes(..)",
            Self::SecondFactor(..) => "SecondFactor(..)",
        })
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

    /// Makes a wish ready to come true, if the user still is known by what was proven. `epoch`: by which every session
    /// from before will have ended when it does; `None`: none is to end.
    pub async fn prepare(
        &self,
        proven: Proven,
        wish: OwnWish,
        epoch: Option<u64>,
    ) -> Result<Ready, ChangeError> {
        let turn = self.turn().await?;
        let edit = OwnEdit {
            epoch,
            ..self.edit(&proven, wish).await?
        };
        let path = self.path().to_owned();
        let prepare = move || UserFile::prepare_own(&path, &proven.0, edit);
        let prepared = self.writer.run(prepare).await;
        let prepared = prepared.map_err(|_| ChangeError::Unwritable)?;
        Ok(Ready {
            writer: self.writer.clone(),
            prepared: prepared.map_err(|error| change_error(&error))?,
            _turn: turn,
        })
    }

    /// Uses a recovery code up, and seals the second factor beside it under the newest secret. Where that cannot be
    /// written the code was not used, and is good for nothing.
    pub(super) async fn spend(
        &self,
        user: User,
        (factor, hash): (&NewFactor, &str),
    ) -> Result<(), ChangeError> {
        let mut left = user.recovery_codes.clone();
        left.retain(|known| known != hash);
        let totp = self.sealed_anew(&user, factor);
        let wish = OwnEdit {
            recovery_codes: Some(left),
            totp: totp.map_or(Factor::Keep, Factor::SealAnew),
            ..OwnEdit::default()
        };
        self.write(user, wish).await
    }

    async fn write(&self, user: User, edit: OwnEdit) -> Result<(), ChangeError> {
        let (_turn, path) = (self.turn().await?, self.path().to_owned());
        let work = move || UserFile::prepare_own(&path, &user, edit)?.commit();
        let done = self.writer.run(work).await;
        let done = done.map_err(|_| ChangeError::Unwritable)?;
        done.map_err(|error| change_error(&error))
    }

    /// Seals a second factor under the newest secret where it is not, so that older ones can be retired. `user` is told how
    /// it is kept now; where that cannot be written, it stays as it was.
    pub(super) async fn seal_anew(&self, user: &mut User, factor: &NewFactor) {
        let Some(sealed) = self.sealed_anew(user, factor) else {
            return;
        };
        let edit = OwnEdit {
            totp: Factor::SealAnew(sealed.clone()),
            ..OwnEdit::default()
        };
        match self.write(user.clone(), edit).await {
            Ok(()) => user.totp = Some(sealed),
            Err(error) => {
                tracing::warn!(
                    user = user.name,
                    %error,
                    "a second factor could not be sealed under the newest secret: the one before must not be retired yet"
                );
            }
        }
    }

    /// `None`: it is sealed under the newest secret.
    fn sealed_anew(&self, user: &User, factor: &NewFactor) -> Option<String> {
        let (keyring, sealed) = (self.keyring.as_ref()?, user.totp.as_deref()?);
        let is_newest = NewFactor::is_newest(sealed, keyring);
        (!is_newest).then(|| factor.seal(keyring, &user.name))
    }

    async fn turn(&self) -> Result<OwnedMutexGuard<()>, ChangeError> {
        let turn = tokio::time::timeout(PATIENCE, self.changing.clone().lock_owned()).await;
        turn.map_err(|_| ChangeError::Busy)
    }

    async fn edit(&self, proven: &Proven, wish: OwnWish) -> Result<OwnEdit, ChangeError> {
        let hashes = |codes: &[Zeroizing<String>]| {
            let kept = codes.iter().filter_map(|code| recovery_hash(code));
            Some(kept.collect())
        };
        let mut edit = OwnEdit::default();
        match wish {
            OwnWish::NoSecondFactor => {
                edit.totp = Factor::Remove;
                edit.recovery_codes = Some(Vec::new());
            }
            OwnWish::Password(password) => {
                edit.password = Some(self.hashed(proven, password).await?);
            }
            OwnWish::RecoveryCodes(codes) => edit.recovery_codes = hashes(&codes),
            OwnWish::SecondFactor(factor, codes) => {
                let keyring = self.keyring.as_ref().ok_or(ChangeError::Unwritable)?;
                edit.totp = Factor::Set(factor.seal(keyring, proven.name()));
                edit.recovery_codes = hashes(&codes);
            }
        }
        Ok(edit)
    }

    async fn hashed(
        &self,
        proven: &Proven,
        password: Zeroizing<String>,
    ) -> Result<String, ChangeError> {
        let name = proven.0.name.clone();
        let chosen = move || NewPassword::choose(&name, &password);
        let chosen = self.hasher().run(chosen).await;
        let chosen = chosen.map_err(|error| match error {
            HashingError::Busy => ChangeError::Busy,
            error => ChangeError::Refused(error.into()),
        })??;
        Ok(chosen.phc().to_owned())
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
