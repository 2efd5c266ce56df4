//! How rows change, whatever the store that keeps them: pure functions from a stored row to the next one.

use super::StoreError;
use crate::clock::Timestamp;
use crate::session::record::{SessionRow, TokenRow};
use crate::session::token::TokenHash;

/// Names are random: one that is `known` already, or a token of another session, is a defect of the caller, and
/// storing it would hand one session's token to another.
pub(super) fn new_session(
    known: bool,
    session: &SessionRow,
    token: &TokenRow,
) -> Result<(), StoreError> {
    let reason = match (known, session.sid == token.sid) {
        (false, true) => return Ok(()),
        (true, _) => "a session or token of this name exists already",
        (false, false) => "the first token of a session names another session",
    };
    Err(StoreError::Unavailable(reason.to_owned()))
}

/// `stored` with the changes that `wanted` carries; `None` where they were made to another version.
pub(super) fn updated(stored: &SessionRow, wanted: SessionRow) -> Option<SessionRow> {
    (stored.version == wanted.version).then(|| SessionRow {
        sid: stored.sid,
        subject: stored.subject,
        created: stored.created,
        last_seen: stored.last_seen.max(wanted.last_seen),
        idle_millis: stored.idle_millis,
        expires: wanted.expires,
        version: stored.version.wrapping_add(1),
        listing: wanted.listing,
        private: wanted.private,
    })
}

/// Moves `last_seen` on; `false` where there is nothing to store.
pub(super) fn touch(session: &mut SessionRow, at: Timestamp) -> bool {
    let later = at > session.last_seen;
    if later {
        session.last_seen = at;
    }
    later
}

/// Notes that the successor of `predecessor` was presented; `false` where there is nothing to store.
pub(super) fn confirm(predecessor: &mut TokenRow, hash: TokenHash, at: Timestamp) -> bool {
    match &mut predecessor.successor {
        Some(successor) if successor.hash == hash && successor.seen.is_none() => {
            successor.seen = Some(at);
            true
        }
        _ => false,
    }
}
