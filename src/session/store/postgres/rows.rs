//! Rows of the tables from and to the rows of the crate.

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::fault::Fault;
use crate::clock::Timestamp;
use crate::session::record::{Epoch, SessionRow, Stored, SubjectTag, Successor, TokenRow};
use crate::session::store::StoreError;
use crate::session::token::{Sid, TokenHash};

/// Times and spans are kept up to here, 73 million years, so that the database can add two of them.
const LONGEST: i64 = 1 << 61;

pub(super) fn millis(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(LONGEST).min(LONGEST)
}

pub(super) fn moment(at: Timestamp) -> i64 {
    millis(at.as_millis())
}

/// A version that no row can have becomes one that no row has.
pub(super) fn version(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(-1)
}

pub(super) fn uuid(sid: Sid) -> Uuid {
    Uuid::from_bytes(*sid.as_bytes())
}

/// The columns `sid, subject, created, last_seen, idle_millis, expires, version, listing, private, epoch`, the first of a row.
pub(super) fn session(row: &PgRow) -> Result<SessionRow, Fault> {
    Ok(SessionRow {
        sid: sid(row)?,
        subject: bytes(row, 1)?.map(SubjectTag),
        epoch: epoch(row.try_get(9)?)?,
        created: Timestamp::from_millis(count(row.try_get(2)?)?),
        last_seen: Timestamp::from_millis(count(row.try_get(3)?)?),
        idle_millis: count(row.try_get(4)?)?,
        expires: Timestamp::from_millis(count(row.try_get(5)?)?),
        version: count(row.try_get(6)?)?,
        listing: row.try_get(7)?,
        private: row.try_get(8)?,
    })
}

/// Then `hash, issued, session_key, predecessor, successor, successor_sealed, successor_seen`.
pub(super) fn stored(row: &PgRow) -> Result<Stored, Fault> {
    let session = session(row)?;
    let token = TokenRow {
        hash: bytes(row, 10)?
            .map(TokenHash::from_bytes)
            .ok_or_else(damaged)?,
        sid: session.sid,
        issued: Timestamp::from_millis(count(row.try_get(11)?)?),
        session_key: row.try_get(12)?,
        predecessor: bytes(row, 13)?.map(TokenHash::from_bytes),
        successor: successor(row, 14)?,
    };
    Ok(Stored { token, session })
}

/// The columns `successor, successor_sealed, successor_seen` from `first` on.
pub(super) fn successor(row: &PgRow, first: usize) -> Result<Option<Successor>, Fault> {
    let Some(hash) = bytes(row, first)? else {
        return Ok(None);
    };
    let seen: Option<i64> = row.try_get(first + 2)?;
    Ok(Some(Successor {
        hash: TokenHash::from_bytes(hash),
        sealed: row.try_get(first + 1)?,
        seen: seen.map(count).transpose()?.map(Timestamp::from_millis),
    }))
}

pub(super) fn sid(row: &PgRow) -> Result<Sid, Fault> {
    let sid: Uuid = row.try_get(0)?;
    Ok(Sid::from_bytes(sid.into_bytes()))
}

pub(super) fn epoch(number: i64) -> Result<Epoch, Fault> {
    count(number).map(Epoch::from_number)
}

pub(super) fn count(value: i64) -> Result<u64, Fault> {
    u64::try_from(value).map_err(|_| damaged())
}

fn bytes(row: &PgRow, column: usize) -> Result<Option<[u8; 32]>, Fault> {
    let bytes: Option<&[u8]> = row.try_get(column)?;
    bytes
        .map(|bytes| bytes.try_into().map_err(|_| damaged()))
        .transpose()
}

fn damaged() -> Fault {
    StoreError::Damaged("a column holds what Doorward never wrote".to_owned()).into()
}
