//! What an app reads and changes over the API, with the key of its namespace and without the session's token.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::space::Space;
use super::vault::Vault;
use super::writing::{TRIES, lost, pause};
use super::{DataError, Namespace, Refused, posts};
use crate::session::record::SessionRow;
use crate::session::sessions::Sessions;
use crate::session::store::{StoreError, Update};
use crate::session::token::Sid;
use crate::telemetry::StoreOp;

/// What is to become of the data of a namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Edit {
    Clear,
    /// RFC 7396.
    Patch(Map<String, Value>),
    Replace(Map<String, Value>),
}

/// Which data an edit is meant for (`If-Match`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expected {
    /// Some, whichever.
    Any,
    /// One of these tags.
    Tags(Vec<String>),
    /// Whatever is there.
    Whatever,
}

impl Expected {
    fn is_met(&self, space: &Space) -> bool {
        match self {
            Self::Any => !space.is_empty(),
            Self::Tags(tags) => tags.contains(&space.tag()),
            Self::Whatever => true,
        }
    }
}

impl Sessions {
    pub async fn data_of(&self, sid: Sid, namespace: &Namespace) -> Result<Space, DataError> {
        let (_, vault) = self.vault_of(sid).await?;
        let opened = self.open_box(sid, namespace, &vault);
        opened.map_err(|()| DataError::Sealed)
    }

    /// Edits data and tells what it is then. It goes on to the end, whether or not anybody waits for it.
    pub async fn edit_data(
        self: &Arc<Self>,
        sid: Sid,
        namespace: &Namespace,
        (edit, expected): (Edit, Expected),
    ) -> Result<Space, DataError> {
        let (sessions, namespace) = (self.clone(), namespace.clone());
        let work = async move { sessions.edit(sid, &namespace, &edit, &expected).await };
        let done = self.background.spawn(work).await;
        self.counted(done.unwrap_or_else(|error| Err(lost(&error))))
    }

    async fn edit(
        &self,
        sid: Sid,
        namespace: &Namespace,
        edit: &Edit,
        expected: &Expected,
    ) -> Result<Space, DataError> {
        let _turn = self.turn(sid).await?;
        for _ in 0..TRIES {
            let (mut row, mut vault) = self.vault_of(sid).await?;
            let before = self.open_box(sid, namespace, &vault);
            let before = before.map_err(|()| DataError::Sealed)?;
            if !expected.is_met(&before) {
                return Err(DataError::Changed);
            }
            let after = match edit.clone() {
                Edit::Clear => Space::default(),
                Edit::Patch(patch) => before.patched(patch)?,
                Edit::Replace(json) => before.replaced(json)?,
            };
            if after == before {
                return Ok(before);
            }
            self.replace_box(sid, namespace, (&mut vault, &after));
            self.judge(&before, &after, &vault)?;
            row.private = vault.write();
            match self.within(StoreOp::Update, self.store.update(row)).await? {
                Update::Done(version) => {
                    self.registry
                        .learn_data(sid, &namespace.name, (&after, version));
                    return Ok(after);
                }
                Update::Gone => return Err(DataError::Gone),
                Update::Conflict => pause().await,
            }
        }
        Err(StoreError::Busy.into())
    }

    fn judge(&self, before: &Space, after: &Space, vault: &Vault) -> Result<(), Refused> {
        let limits = &self.settings.data.limits;
        after.judge(limits)?;
        // The other namespaces are sealed: what is counted of them is what that takes.
        let of_apps = vault.bytes(|sealed| !self.is_of(sealed, posts::NAME));
        if after.bytes() > before.bytes() && of_apps > limits.max_bytes {
            return Err(Refused::Total(limits.max_bytes));
        }
        Ok(())
    }

    async fn vault_of(&self, sid: Sid) -> Result<(SessionRow, Vault), DataError> {
        let row = self.row(sid).await?.ok_or(DataError::Gone)?;
        let lives = self.lives(&row, row.epoch, self.clock.now());
        if !lives || self.cache.is_overtaken(&row).await {
            return Err(DataError::Gone);
        }
        let damaged = || StoreError::Damaged("a session does not open".to_owned());
        let vault = Vault::read(&row.private).ok_or_else(damaged)?;
        Ok((row, vault))
    }
}
