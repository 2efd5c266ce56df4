//! The rows of a session from and to the fields of its hash.

use redis::FromRedisValue;

use super::keys::{Field, hash_in, moment, moment_in};
use crate::clock::Timestamp;
use crate::session::record::{SessionRow, Stored, Successor, TokenRow};
use crate::session::store::StoreError;
use crate::session::store::checked::{open, seal};
use crate::session::token::{Sid, TokenHash};

/// The bytes of a field, if it is there.
pub(super) type Bytes = Option<Vec<u8>>;

/// The fields that [`session`] reads.
pub(super) const SESSION: [&str; 2] = ["row", "seen"];

/// The fields that [`token`] reads.
pub(super) fn token_fields(hash: TokenHash) -> [Vec<u8>; 4] {
    [
        Field::Token.of(hash),
        Field::Predecessor.of(hash),
        Field::Successor.of(hash),
        Field::Seen.of(hash),
    ]
}

pub(super) fn session_bytes(row: &SessionRow) -> Vec<u8> {
    seal(row.sid.as_bytes(), row)
}

/// The row, with the activity that was noted beside it.
pub(super) fn session(sid: Sid, fields: &[Bytes]) -> Result<Option<SessionRow>, StoreError> {
    let [row, seen] = fields else {
        return Err(damaged("fields are missing"));
    };
    let Some(row) = row else { return Ok(None) };
    let mut row: SessionRow = open(sid.as_bytes(), row)?;
    row.last_seen = row.last_seen.max(time(seen.as_deref())?);
    Ok(Some(row))
}

/// A token's row holds what never changes; the chain lies beside it.
pub(super) fn token_bytes(row: &TokenRow) -> Vec<u8> {
    let fixed = TokenRow {
        predecessor: None,
        successor: None,
        ..row.clone()
    };
    seal(row.hash.as_bytes(), &fixed)
}

pub(super) fn successor_bytes(of: TokenHash, successor: &Successor) -> Vec<u8> {
    let fixed = Successor {
        seen: None,
        ..successor.clone()
    };
    seal(of.as_bytes(), &fixed)
}

pub(super) fn successor(
    of: TokenHash,
    bytes: &[u8],
    seen: &Bytes,
) -> Result<Successor, StoreError> {
    let fixed: Successor = open(of.as_bytes(), bytes)?;
    let seen = seen.as_deref().map(|seen| time(Some(seen))).transpose()?;
    Ok(Successor { seen, ..fixed })
}

fn token(hash: TokenHash, fields: &[Bytes]) -> Result<Option<TokenRow>, StoreError> {
    let [row, predecessor, next, seen] = fields else {
        return Err(damaged("fields are missing"));
    };
    let Some(row) = row else { return Ok(None) };
    let mut row: TokenRow = open(hash.as_bytes(), row)?;
    row.predecessor = match predecessor {
        Some(bytes) => Some(hash_in(bytes).ok_or_else(|| damaged("no token hash"))?),
        None => None,
    };
    row.successor = match next {
        Some(bytes) => Some(successor(hash, bytes, seen)?),
        None => None,
    };
    Ok(Some(row))
}

/// What [`SESSION`] and then [`token_fields`] hold.
pub(super) fn stored(
    sid: Sid,
    hash: TokenHash,
    fields: &[Bytes],
) -> Result<Option<Stored>, StoreError> {
    let (of_session, of_token) = fields
        .split_at_checked(SESSION.len())
        .ok_or_else(|| damaged("fields are missing"))?;
    let Some(session) = session(sid, of_session)? else {
        return Ok(None);
    };
    let token = token(hash, of_token)?.filter(|token| token.sid == sid);
    Ok(token.map(|token| Stored { token, session }))
}

fn time(text: Option<&[u8]>) -> Result<Timestamp, StoreError> {
    text.and_then(moment_in).ok_or_else(|| damaged("no time"))
}

pub(super) fn damaged(what: &str) -> StoreError {
    StoreError::Damaged(what.to_owned())
}

/// An answer in the shape that was asked for; anything else is not from a script of ours.
pub(super) fn shaped<T: FromRedisValue>(value: redis::Value) -> Result<T, StoreError> {
    T::from_redis_value(value).map_err(|_| damaged("an answer of another shape"))
}

/// The times of a row, as the scripts compare them.
pub(super) fn times(row: &SessionRow) -> [String; 2] {
    [moment(row.last_seen), moment(row.expires)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SID: Sid = Sid::from_bytes([1; 16]);
    const HASH: TokenHash = TokenHash::from_bytes([2; 32]);
    const NEXT: TokenHash = TokenHash::from_bytes([3; 32]);

    fn row() -> TokenRow {
        TokenRow {
            hash: HASH,
            sid: SID,
            issued: Timestamp::from_millis(4),
            session_key: vec![5; 44],
            predecessor: Some(NEXT),
            successor: Some(Successor {
                hash: NEXT,
                sealed: vec![6; 60],
                seen: Some(Timestamp::from_millis(7)),
            }),
        }
    }

    fn fields(row: &TokenRow) -> Vec<Bytes> {
        let next = row.successor.as_ref();
        vec![
            Some(token_bytes(row)),
            row.predecessor.map(|hash| hash.as_bytes().to_vec()),
            next.map(|next| successor_bytes(row.hash, next)),
            next.and_then(|next| next.seen)
                .map(|at| moment(at).into_bytes()),
        ]
    }

    #[test]
    fn a_token_reads_back_from_its_fields() {
        assert_eq!(token(HASH, &fields(&row())), Ok(Some(row())));
        let mut first = row();
        (first.predecessor, first.successor) = (None, None);
        assert_eq!(token(HASH, &fields(&first)), Ok(Some(first)));
    }

    #[test]
    fn a_field_of_another_token_or_of_garbage_is_damage() {
        assert!(matches!(
            token(NEXT, &fields(&row())),
            Err(StoreError::Damaged(_))
        ));
        for place in 0..4 {
            let mut bad = fields(&row());
            bad[place] = Some(b"garbage".to_vec());
            let read = token(HASH, &bad);
            assert!(matches!(read, Err(StoreError::Damaged(_))), "field {place}");
        }
    }
}
