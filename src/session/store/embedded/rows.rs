//! Keys and values as bytes. It knows no table and no transaction.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::session::record::{Epoch, SessionRow, SubjectTag};
pub(super) use crate::session::store::checked::{open, seal};
use crate::session::token::{Sid, TokenHash};

/// A session and the moment its entry in the expiry table stands under, which may lag behind its true end.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Filed {
    pub(super) due: Timestamp,
    pub(super) session: SessionRow,
}

/// A subject's epoch, and until when it is remembered.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(super) struct Begun {
    pub(super) epoch: Epoch,
    pub(super) until: Timestamp,
}

/// Key in the table of epochs by the end of their time.
pub(super) fn epoch_until(until: Timestamp, subject: SubjectTag) -> [u8; 40] {
    joined(&until.as_millis().to_be_bytes(), &subject.0)
}

/// The subject that such a key names.
pub(super) fn subject_of_epoch(key: &[u8]) -> Option<SubjectTag> {
    let (_, subject) = key.split_at_checked(8)?;
    subject_in(subject)
}

/// Key in the table of a session's tokens.
pub(super) fn token_of(sid: Sid, hash: TokenHash) -> [u8; 48] {
    joined(sid.as_bytes(), hash.as_bytes())
}

/// The token that such a key names.
pub(super) fn token_in(key: &[u8]) -> Option<TokenHash> {
    let (_, hash) = key.split_at_checked(16)?;
    Some(TokenHash::from_bytes(hash.try_into().ok()?))
}

/// Key in the table of a subject's sessions.
pub(super) fn of_subject(subject: SubjectTag, sid: Sid) -> [u8; 48] {
    joined(&subject.0, sid.as_bytes())
}

/// Key in the expiry table: in the order of time.
pub(super) fn due_at(due: Timestamp, sid: Sid) -> [u8; 24] {
    joined(&due.as_millis().to_be_bytes(), sid.as_bytes())
}

/// The moment and the session that such a key names.
pub(super) fn due_in(key: &[u8]) -> Option<(Timestamp, Sid)> {
    let (due, sid) = key.split_first_chunk()?;
    let due = Timestamp::from_millis(u64::from_be_bytes(*due));
    Some((due, session_in(sid)?))
}

/// The session that such a key names.
pub(super) fn session_of_subject(key: &[u8]) -> Option<Sid> {
    let (_, sid) = key.split_at_checked(32)?;
    session_in(sid)
}

/// The session that a key in the table of sessions names.
pub(super) fn session_in(key: &[u8]) -> Option<Sid> {
    key.try_into().ok().map(Sid::from_bytes)
}

/// Value in the expiry table: whose session it is, so that its index entry is found when its row cannot be read.
pub(super) fn subject_bytes(subject: Option<&SubjectTag>) -> &[u8] {
    subject.map_or(&[], |tag| &tag.0)
}

pub(super) fn subject_in(value: &[u8]) -> Option<SubjectTag> {
    value.try_into().ok().map(SubjectTag)
}

fn joined<const N: usize>(first: &[u8], second: &[u8]) -> [u8; N] {
    let mut key = [0; N];
    for (to, from) in key.iter_mut().zip(first.iter().chain(second)) {
        *to = *from;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::store::StoreError;

    fn filed() -> Filed {
        Filed {
            due: Timestamp::from_millis(9),
            session: SessionRow {
                sid: Sid::from_bytes([1; 16]),
                subject: Some(SubjectTag([2; 32])),
                epoch: Epoch::from_number(1),
                created: Timestamp::from_millis(3),
                last_seen: Timestamp::from_millis(4),
                idle_millis: 5,
                expires: Timestamp::from_millis(6),
                version: 7,
                listing: vec![8; 10],
                private: vec![9; 10],
            },
        }
    }

    #[test]
    fn a_row_with_any_bit_changed_or_any_byte_missing_does_not_read() {
        let value = seal(b"key", &filed());
        assert!(open::<Filed>(b"key", &value).is_ok());
        for len in 0..value.len() {
            assert!(open::<Filed>(b"key", &value[..len]).is_err(), "{len} bytes");
        }
        for bit in 0..value.len() * 8 {
            let mut changed = value.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open::<Filed>(b"key", &changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_row_under_another_key_does_not_read() {
        let value = seal(b"key", &filed());
        let error = open::<Filed>(b"kex", &value).unwrap_err();
        assert_eq!(
            error,
            StoreError::Damaged("the record fails its check".to_owned())
        );
    }

    #[test]
    fn keys_sort_by_time_and_name_what_they_were_made_of() {
        let sid = Sid::from_bytes([0xff; 16]);
        let (early, late) = (Timestamp::from_millis(255), Timestamp::from_millis(256));
        assert!(due_at(early, sid) < due_at(late, Sid::from_bytes([0; 16])));
        assert_eq!(due_in(&due_at(late, sid)), Some((late, sid)));
        let hash = TokenHash::from_bytes([7; 32]);
        assert_eq!(token_in(&token_of(sid, hash)), Some(hash));
        assert_eq!(
            session_of_subject(&of_subject(SubjectTag([1; 32]), sid)),
            Some(sid)
        );
        assert_eq!(session_in(sid.as_bytes()), Some(sid));
        let subject = SubjectTag([3; 32]);
        assert!(epoch_until(early, subject) < epoch_until(late, SubjectTag([0; 32])));
        assert_eq!(subject_of_epoch(&epoch_until(late, subject)), Some(subject));
        assert_eq!(due_in(b"short"), None);
        assert_eq!(token_in(b"short"), None);
        assert_eq!(session_of_subject(&[1; 50]), None);
    }
}
