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
        epoch: stored.epoch,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::record::Successor;
    use crate::session::token::Sid;

    const NEXT: TokenHash = TokenHash::from_bytes([2; 32]);

    fn replaced() -> TokenRow {
        TokenRow {
            hash: TokenHash::from_bytes([1; 32]),
            sid: Sid::from_bytes([3; 16]),
            issued: Timestamp::from_millis(4),
            session_key: Vec::new(),
            predecessor: None,
            successor: Some(Successor {
                hash: NEXT,
                sealed: Vec::new(),
                seen: None,
            }),
        }
    }

    #[test]
    fn only_the_first_confirmation_counts() {
        let mut row = replaced();
        assert!(confirm(&mut row, NEXT, Timestamp::from_millis(5)));
        assert!(!confirm(&mut row, NEXT, Timestamp::from_millis(6)));
        let seen = row.successor.and_then(|successor| successor.seen);
        assert_eq!(seen, Some(Timestamp::from_millis(5)));
    }

    #[test]
    fn only_the_successor_itself_confirms() {
        let mut row = replaced();
        let other = TokenHash::from_bytes([9; 32]);
        assert!(!confirm(&mut row, other, Timestamp::from_millis(5)));
        assert_eq!(row, replaced());
        row.successor = None;
        assert!(!confirm(&mut row, NEXT, Timestamp::from_millis(5)));
        assert_eq!(row.successor, None);
    }
}
