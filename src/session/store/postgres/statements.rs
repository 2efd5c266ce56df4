//! Every change is one statement, which PostgreSQL makes whole or not at all. It knows no pool and no limit of time.
//!
//! Locks are taken in one order, the session before its tokens: a removal takes the session's first and waits there
//! for whoever has it (`FOR KEY SHARE`), so no two of these wait for each other.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Row, query, query_scalar};
use uuid::Uuid;

use super::fault::Fault;
use super::rows;
use crate::clock::Timestamp;
use crate::session::record::{Epoch, SessionRow, Stored, SubjectTag, Successor, TokenRow};
use crate::session::store::{Creation, Rotation, StoreError, Update, transition};
use crate::session::token::{Sid, TokenHash};

/// An epoch that begins at the same time may not be seen here; it is when the session is loaded.
const CREATE: &str = "
    WITH session AS (
        INSERT INTO doorward.sessions
            (sid, subject, created, last_seen, idle_millis, expires, due, version, listing, private, epoch)
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $18
        WHERE NOT EXISTS (SELECT FROM doorward.epochs e WHERE e.subject = $2 AND e.epoch > $18)
        RETURNING sid
    )
    INSERT INTO doorward.tokens
        (hash, sid, issued, session_key, predecessor, successor, successor_sealed, successor_seen)
    SELECT $11, sid, $12, $13, $14, $15, $16, $17 FROM session";

const LOAD: &str = "
    SELECT s.sid, s.subject, s.created, s.last_seen, s.idle_millis, s.expires, s.version, s.listing, s.private,
        s.epoch, t.hash, t.issued, t.session_key, t.predecessor, t.successor, t.successor_sealed, t.successor_seen
    FROM doorward.tokens t JOIN doorward.sessions s USING (sid)
    WHERE t.hash = $1
        AND NOT EXISTS (SELECT FROM doorward.epochs e WHERE e.subject = s.subject AND e.epoch > s.epoch)";

const UPDATE: &str = "
    UPDATE doorward.sessions
    SET last_seen = greatest(last_seen, $3), expires = $4, version = version + 1, listing = $5, private = $6,
        due = least(due, $4, greatest(last_seen, $3) + idle_millis)
    WHERE sid = $1 AND version = $2
    RETURNING version";

/// In the order of sids, so that two nodes that touch the same sessions do not wait for each other.
const TOUCH: &str = "
    WITH seen AS (
        SELECT sid, max(at) AS at FROM unnest($1::uuid[], $2::bigint[]) AS seen (sid, at) GROUP BY sid
    ), found AS (
        SELECT s.sid, seen.at FROM doorward.sessions s JOIN seen USING (sid)
        WHERE seen.at > s.last_seen
        ORDER BY s.sid
        FOR NO KEY UPDATE OF s
    )
    UPDATE doorward.sessions s SET last_seen = found.at
    FROM found
    WHERE s.sid = found.sid AND found.at > s.last_seen";

const ROTATE: &str = "
    WITH owner AS MATERIALIZED (
        SELECT sid FROM doorward.sessions WHERE sid = $2 FOR KEY SHARE
    ), won AS (
        UPDATE doorward.tokens t SET successor = $3, successor_sealed = $4, successor_seen = $5
        FROM owner
        WHERE t.hash = $1 AND t.sid = owner.sid AND t.successor IS NULL
        RETURNING t.sid
    )
    INSERT INTO doorward.tokens (hash, sid, issued, session_key, predecessor)
    SELECT $6, sid, $7, $8, $9 FROM won";

const WINNER: &str = "
    SELECT successor, successor_sealed, successor_seen FROM doorward.tokens WHERE hash = $1 AND sid = $2";

const CONFIRM: &str = "
    WITH owner AS MATERIALIZED (
        SELECT s.sid, t.predecessor FROM doorward.tokens t JOIN doorward.sessions s USING (sid)
        WHERE t.hash = $1 AND t.predecessor IS NOT NULL
        FOR KEY SHARE OF s
    ), cleared AS (
        UPDATE doorward.tokens t SET predecessor = NULL FROM owner
        WHERE t.hash = $1 AND t.sid = owner.sid AND t.predecessor IS NOT NULL
    )
    UPDATE doorward.tokens t SET successor_seen = $2 FROM owner
    WHERE t.hash = owner.predecessor AND t.sid = owner.sid AND t.successor = $1 AND t.successor_seen IS NULL";

/// Tokens go by the foreign key, the news by the trigger.
const REMOVE: &str = "DELETE FROM doorward.sessions WHERE sid = $1";

const LIST: &str = "
    SELECT sid, subject, created, last_seen, idle_millis, expires, version, listing, private, epoch
    FROM doorward.sessions
    WHERE sid >= $1
    ORDER BY sid LIMIT $2";

const LIST_BY_SUBJECT: &str = "
    SELECT sid, subject, created, last_seen, idle_millis, expires, version, listing, private, epoch
    FROM doorward.sessions
    WHERE subject = $3 AND sid >= $1
    ORDER BY sid LIMIT $2";

/// As [`Epoch::next`] has it.
const BEGIN_EPOCH: &str = "
    INSERT INTO doorward.epochs AS e (subject, epoch, until) VALUES ($1, greatest(1, $2), $3)
    ON CONFLICT (subject) DO UPDATE SET epoch = greatest(e.epoch + 1, $2), until = greatest(e.until, $3)
    RETURNING epoch";

/// What another node is at is passed over: it sweeps it, or has just heard of it.
const SWEEP: &str = "
    WITH seen AS MATERIALIZED (
        SELECT sid, least(expires, last_seen + idle_millis) AS ends FROM doorward.sessions
        WHERE due <= $1
        ORDER BY due LIMIT $2
        FOR UPDATE SKIP LOCKED
    ), removed AS (
        DELETE FROM doorward.sessions s USING seen WHERE s.sid = seen.sid AND seen.ends <= $1 RETURNING s.sid
    ), kept AS (
        UPDATE doorward.sessions s SET due = seen.ends FROM seen WHERE s.sid = seen.sid AND seen.ends > $1
        RETURNING s.sid
    )
    SELECT (SELECT count(*) FROM removed), (SELECT count(*) FROM kept)";

/// Part of a list, and where to go on.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) rows: Vec<SessionRow>,
    /// The last name looked at; `None` where the list ends.
    pub(super) last: Option<Sid>,
}

/// Which part of which list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) subject: Option<SubjectTag>,
    pub(super) after: Option<Sid>,
    pub(super) limit: usize,
}

/// What one step of a sweep looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Swept {
    pub(super) removed: usize,
    pub(super) kept: usize,
}

pub(super) async fn create(
    db: &mut PgConnection,
    session: SessionRow,
    token: TokenRow,
) -> Result<Creation, Fault> {
    transition::new_session(false, &session, &token)?;
    let successor = token.successor.as_ref();
    let made = query(CREATE)
        .bind(rows::uuid(session.sid))
        .bind(session.subject.map(|tag| tag.0))
        .bind(rows::moment(session.created))
        .bind(rows::moment(session.last_seen))
        .bind(rows::millis(session.idle_millis))
        .bind(rows::moment(session.expires))
        .bind(rows::moment(session.ends()))
        .bind(rows::version(session.version))
        .bind(&session.listing)
        .bind(&session.private)
        .bind(token.hash.as_bytes())
        .bind(rows::moment(token.issued))
        .bind(&token.session_key)
        .bind(token.predecessor.map(|hash| *hash.as_bytes()))
        .bind(successor.map(|next| *next.hash.as_bytes()))
        .bind(successor.map(|next| next.sealed.as_slice()))
        .bind(successor.and_then(|next| next.seen).map(rows::moment))
        .bind(rows::millis(session.epoch.number()))
        .execute(db)
        .await;
    match made {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            transition::new_session(true, &session, &token)?;
            Ok(Creation::Done)
        }
        Err(error) => Err(error.into()),
        Ok(made) if made.rows_affected() == 0 => Ok(Creation::Overtaken),
        Ok(_) => Ok(Creation::Done),
    }
}

pub(super) async fn load(db: &mut PgConnection, hash: TokenHash) -> Result<Option<Stored>, Fault> {
    let row = query(LOAD).bind(hash.as_bytes()).fetch_optional(db).await?;
    row.as_ref().map(rows::stored).transpose()
}

pub(super) async fn update(db: &mut PgConnection, wanted: SessionRow) -> Result<Update, Fault> {
    let sid = rows::uuid(wanted.sid);
    let version: Option<i64> = query_scalar(UPDATE)
        .bind(sid)
        .bind(rows::version(wanted.version))
        .bind(rows::moment(wanted.last_seen))
        .bind(rows::moment(wanted.expires))
        .bind(wanted.listing)
        .bind(wanted.private)
        .fetch_optional(&mut *db)
        .await?;
    if let Some(version) = version {
        return Ok(Update::Done(rows::count(version)?));
    }
    // Asked by itself: within the statement it would be as it was before whoever came first.
    let there: bool = query_scalar("SELECT EXISTS (SELECT FROM doorward.sessions WHERE sid = $1)")
        .bind(sid)
        .fetch_one(db)
        .await?;
    Ok(if there {
        Update::Conflict
    } else {
        Update::Gone
    })
}

pub(super) async fn touch(db: &mut PgConnection, seen: Vec<(Sid, Timestamp)>) -> Result<(), Fault> {
    let (sids, times): (Vec<Uuid>, Vec<i64>) = seen
        .into_iter()
        .map(|(sid, at)| (rows::uuid(sid), rows::moment(at)))
        .unzip();
    query(TOUCH).bind(sids).bind(times).execute(db).await?;
    Ok(())
}

pub(super) async fn rotate(
    db: &mut PgConnection,
    old: TokenHash,
    (next, successor): (TokenRow, Successor),
) -> Result<Rotation, Fault> {
    let made = query(ROTATE)
        .bind(old.as_bytes())
        .bind(rows::uuid(next.sid))
        .bind(successor.hash.as_bytes())
        .bind(successor.sealed)
        .bind(successor.seen.map(rows::moment))
        .bind(next.hash.as_bytes())
        .bind(rows::moment(next.issued))
        .bind(next.session_key)
        .bind(next.predecessor.map(|hash| *hash.as_bytes()))
        .execute(&mut *db)
        .await?;
    if made.rows_affected() > 0 {
        return Ok(Rotation::Done);
    }
    let winner = query(WINNER)
        .bind(old.as_bytes())
        .bind(rows::uuid(next.sid))
        .fetch_optional(db)
        .await?;
    let winner = winner.as_ref().map(|row| rows::successor(row, 0));
    Ok(match winner.transpose()?.flatten() {
        Some(winner) => Rotation::Superseded(winner),
        None => Rotation::Gone,
    })
}

pub(super) async fn confirm(
    db: &mut PgConnection,
    hash: TokenHash,
    at: Timestamp,
) -> Result<(), Fault> {
    query(CONFIRM)
        .bind(hash.as_bytes())
        .bind(rows::moment(at))
        .execute(db)
        .await?;
    Ok(())
}

pub(super) async fn remove(db: &mut PgConnection, sid: Sid) -> Result<bool, Fault> {
    let removed = query(REMOVE).bind(rows::uuid(sid)).execute(db).await?;
    Ok(removed.rows_affected() > 0)
}

pub(super) async fn epoch(db: &mut PgConnection, subject: SubjectTag) -> Result<Epoch, Fault> {
    let known = "SELECT epoch FROM doorward.epochs WHERE subject = $1";
    let known: Option<i64> = query_scalar(known)
        .bind(subject.0)
        .fetch_optional(db)
        .await?;
    known.map_or(Ok(Epoch::default()), rows::epoch)
}

pub(super) async fn begin_epoch(
    db: &mut PgConnection,
    subject: SubjectTag,
    (now, until): (Timestamp, Timestamp),
) -> Result<Epoch, Fault> {
    let begun = query_scalar(BEGIN_EPOCH)
        .bind(subject.0)
        .bind(rows::moment(now))
        .bind(rows::moment(until))
        .fetch_one(db)
        .await?;
    rows::epoch(begun)
}

/// Until when a claim is remembered is told by the server's clock: nobody else's comes into it.
const CLAIM: &str = "
    INSERT INTO doorward.claims (sid, until) VALUES ($1, extract(epoch FROM now()) * 1000 + $2)
    ON CONFLICT (sid) DO NOTHING";

pub(super) async fn claim_end(db: &mut PgConnection, sid: Sid, millis: u64) -> Result<bool, Fault> {
    let claim = query(CLAIM)
        .bind(rows::uuid(sid))
        .bind(rows::millis(millis));
    Ok(claim.execute(db).await?.rows_affected() > 0)
}

/// Forgets epochs and claims whose time is over.
pub(super) async fn sweep_marks(db: &mut PgConnection, now: Timestamp) -> Result<(), Fault> {
    query("DELETE FROM doorward.epochs WHERE until <= $1")
        .bind(rows::moment(now))
        .execute(&mut *db)
        .await?;
    query("DELETE FROM doorward.claims WHERE until <= extract(epoch FROM now()) * 1000")
        .execute(db)
        .await?;
    Ok(())
}

pub(super) async fn list(db: &mut PgConnection, part: Part) -> Result<Page, Fault> {
    let all = query(if part.subject.is_some() {
        LIST_BY_SUBJECT
    } else {
        LIST
    });
    let Some(first) = first_after(part.after) else {
        return page(&[], part.limit);
    };
    let mut all = all.bind(first).bind(bounded(part.limit));
    if let Some(subject) = part.subject {
        all = all.bind(subject.0);
    }
    page(&all.fetch_all(db).await?, part.limit)
}

/// `None`: there is no name after this one.
fn first_after(sid: Option<Sid>) -> Option<Uuid> {
    let first = match sid {
        Some(sid) => u128::from_be_bytes(*sid.as_bytes()).checked_add(1)?,
        None => 0,
    };
    Some(Uuid::from_u128(first))
}

/// Rows that cannot be read are passed over: one of them must not hide all the others from an administrator.
fn page(found: &[PgRow], limit: usize) -> Result<Page, Fault> {
    let (mut rows, mut damaged, mut last) = (Vec::with_capacity(found.len()), Vec::new(), None);
    for row in found {
        let sid = rows::sid(row)?;
        last = Some(sid);
        match rows::session(row).map_err(StoreError::from) {
            Ok(session) => rows.push(session),
            Err(error) => damaged.push((sid, error)),
        }
    }
    // One line a page: where every row is damaged, the log must not drown.
    if let Some((sid, error)) = damaged.first() {
        let count = damaged.len();
        tracing::warn!(%sid, %error, count, "sessions that cannot be read are left out of a list");
    }
    let last = last.filter(|_| found.len() == limit);
    Ok(Page { rows, last })
}

/// Looks at no more than `limit` sessions that are due.
pub(super) async fn sweep(
    db: &mut PgConnection,
    now: Timestamp,
    limit: usize,
) -> Result<Swept, Fault> {
    let row = query(SWEEP)
        .bind(rows::moment(now))
        .bind(bounded(limit))
        .fetch_one(db)
        .await?;
    let number = |value: i64| usize::try_from(value).unwrap_or_default();
    Ok(Swept {
        removed: number(row.try_get(0)?),
        kept: number(row.try_get(1)?),
    })
}

pub(super) async fn probe(db: &mut PgConnection) -> Result<(), Fault> {
    // A standby, or a server that was told so.
    let only_reads = "SELECT current_setting('transaction_read_only')::bool";
    let only_reads: bool = query_scalar(only_reads).fetch_one(db).await?;
    if only_reads {
        let reason = "the server takes no changes: it is a standby, or set to read only".to_owned();
        return Err(StoreError::Unavailable(reason).into());
    }
    Ok(())
}

fn bounded(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
