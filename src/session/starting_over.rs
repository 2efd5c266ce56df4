//! How the user of a session ends all of theirs at once and goes on with a new one, when what they are known by has
//! changed (R4, R5). Whoever was in by the old credentials is out, whichever node they are at, and so is every login that
//! is under way; what apps keep in the one session goes over into the new one.

use super::EndReason;
use super::data::{Jars, Spaces};
use super::issuing::{Carried, Issued, Login, LoginError};
use super::live::LiveSession;
use super::record::{Epoch, SessionRow, SubjectTag};
use super::sessions::Sessions;
use super::store::{StoreError, Update};
use crate::identity::Subject;
use crate::telemetry::StoreOp;

/// How often the data of a session may change while it is taken over, before that is given up.
const TRIES: usize = 8;

/// What is left of a session that has ended, for the one that follows.
#[derive(Clone, Debug, Default)]
pub struct Remains {
    pub(super) spaces: Spaces,
    pub(super) jars: Jars,
}

impl Sessions {
    /// Ends all sessions of a session's user, that one included, and keeps what apps have in it. The first of two steps:
    /// what the user is known by is changed between them.
    pub async fn end_but_keep(&self, session: &LiveSession) -> Result<Remains, StoreError> {
        let Some(identity) = session.identity() else {
            return Ok(Remains::default());
        };
        let _turn = self.turn(session.sid()).await?;
        self.begin_epochs(&identity.subject).await?;
        self.clear_out(session).await
    }

    /// Ends whatever has begun since the first step, which may have gone by the old credentials, and begins a session with
    /// what remains. Tells how many have ended, in both steps. Of the login, `epoch` and `carries` do not count.
    pub async fn start_over(
        &self,
        remains: Remains,
        login: Login,
    ) -> Result<(Issued, usize), LoginError> {
        let over = self.begin_epochs(&login.identity.subject).await?;
        let epoch = over.first().map(|(_, epoch)| *epoch).unwrap_or_default();
        let login = Login {
            epoch,
            carries: Some(Carried::Remains(remains)),
            ..login
        };
        let issued = self.issue(login).await?;
        let mut ended = 0;
        for (tag, epoch) in over {
            let reason = EndReason::UserChanged;
            let taken_out = self.take_out_before(tag, epoch, reason, &mut ended).await;
            if let Err(error) = taken_out {
                tracing::warn!(%error, "sessions that have ended are left in the store");
            }
        }
        Ok((issued, ended))
    }

    async fn begin_epochs(
        &self,
        subject: &Subject,
    ) -> Result<Vec<(SubjectTag, Epoch)>, StoreError> {
        let mut begun = Vec::new();
        for tag in self.subject_tags(subject) {
            let epoch = self.begin_epoch(tag, EndReason::UserChanged).await?;
            begun.push((tag, epoch));
        }
        Ok(begun)
    }

    /// Takes everything out of a session that nobody can load any more. What is set meanwhile is either part of it or not
    /// taken at all.
    async fn clear_out(&self, session: &LiveSession) -> Result<Remains, StoreError> {
        let Some(key) = &session.entry.key else {
            return Ok(Remains::default());
        };
        for _ in 0..TRIES {
            let Some(row) = self.row(session.sid()).await? else {
                return Ok(Remains::default());
            };
            let open = self.open_vault(row.sid, key, &row.private);
            let open =
                open.ok_or_else(|| StoreError::Damaged("a session does not open".to_owned()))?;
            let over = SessionRow {
                expires: row.expires.min(self.clock.now()),
                ..row
            };
            match self
                .within(StoreOp::Update, self.store.update(over))
                .await?
            {
                Update::Done(_) | Update::Gone => {
                    return Ok(Remains {
                        spaces: open.spaces,
                        jars: open.jars,
                    });
                }
                Update::Conflict => {}
            }
        }
        Err(StoreError::Busy)
    }
}
