//! The names of keys, fields and channels. It knows no server.

use std::fmt::Write;

use crate::clock::Timestamp;
use crate::session::record::SubjectTag;
use crate::session::token::{Sid, TokenHash};

/// Scores are floating-point numbers there: whole up to here, 285,000 years.
const LATEST: u64 = 1 << 53;

/// Names under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Braces: whatever is ever kept beside the hash of a session can be kept on the same node.
    pub(super) fn session(&self, sid: Sid) -> String {
        format!("{}s:{{{sid}}}", self.prefix)
    }

    pub(super) fn token(&self, hash: TokenHash) -> String {
        format!("{}t:{}", self.prefix, hex(hash.as_bytes()))
    }

    pub(super) fn subject(&self, subject: SubjectTag) -> String {
        format!("{}u:{}", self.prefix, hex(&subject.0))
    }

    /// The epoch of a subject, as a number.
    pub(super) fn epoch(&self, subject: SubjectTag) -> String {
        format!("{}e:{}", self.prefix, hex(&subject.0))
    }

    /// Some node takes care of the end of a session.
    pub(super) fn claim(&self, sid: Sid) -> String {
        format!("{}c:{sid}", self.prefix)
    }

    /// Every sid, in order.
    pub(super) fn all(&self) -> String {
        format!("{}all", self.prefix)
    }

    /// [`named`] sessions, by the end that was known when they were filed. It is never later than the true one.
    pub(super) fn due(&self) -> String {
        format!("{}due", self.prefix)
    }

    /// Nothing is ever kept here.
    pub(super) fn nothing(&self) -> String {
        format!("{}nothing", self.prefix)
    }

    /// The channel on which every node hears which sessions have ended.
    pub(super) fn ended(&self) -> String {
        format!("{}ended", self.prefix)
    }

    /// The channel on which every node hears whose sessions have all ended.
    pub(super) fn epochs(&self) -> String {
        format!("{}epochs", self.prefix)
    }

    /// The channel on which a node hears itself.
    pub(super) fn echo(&self, node: [u8; 8]) -> String {
        format!("{}echo:{}", self.prefix, hex(&node))
    }
}

/// A field of a session's hash that is about one of its tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Field {
    /// The row, without what changes.
    Token,
    /// The hash of the token before it, until that is confirmed.
    Predecessor,
    /// What its holder is told about the token after it.
    Successor,
    /// When the token after it was first presented.
    Seen,
}

impl Field {
    /// The scripts make the same names.
    pub(super) fn of(self, hash: TokenHash) -> Vec<u8> {
        let kind = match self {
            Self::Token => b't',
            Self::Predecessor => b'p',
            Self::Successor => b'x',
            Self::Seen => b'c',
        };
        let mut field = vec![kind];
        field.extend_from_slice(hash.as_bytes());
        field
    }
}

/// A moment as text that sorts like the moment.
pub(super) fn moment(at: Timestamp) -> String {
    format!("{:020}", at.as_millis())
}

pub(super) fn moment_in(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok().map(Timestamp::from_millis))?
}

pub(super) fn score(at: Timestamp) -> u64 {
    at.as_millis().min(LATEST)
}

/// A session with its subject: what a token's name holds, and what stands in the order of ends. It leads to everything
/// of a session, though its row be lost.
pub(super) fn named(sid: Sid, subject: Option<SubjectTag>) -> Vec<u8> {
    let mut member = sid.as_bytes().to_vec();
    member.extend(subject.iter().flat_map(|tag| tag.0));
    member
}

pub(super) fn named_in(member: &[u8]) -> Option<(Sid, Option<SubjectTag>)> {
    let (sid, subject) = member.split_at_checked(16)?;
    let subject = match subject {
        [] => None,
        tag => Some(subject_in(tag)?),
    };
    Some((sid_in(sid)?, subject))
}

pub(super) fn sid_in(bytes: &[u8]) -> Option<Sid> {
    bytes.try_into().ok().map(Sid::from_bytes)
}

pub(super) fn hash_in(bytes: &[u8]) -> Option<TokenHash> {
    bytes.try_into().ok().map(TokenHash::from_bytes)
}

pub(super) fn subject_in(bytes: &[u8]) -> Option<SubjectTag> {
    bytes.try_into().ok().map(SubjectTag)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        #[expect(clippy::expect_used, reason = "a String takes everything")]
        write!(text, "{byte:02x}").expect("write into a String");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SID: Sid = Sid::from_bytes([1; 16]);
    const TAG: SubjectTag = SubjectTag([2; 32]);

    #[test]
    fn names_begin_with_the_prefix_and_differ() {
        let keys = Keys::new("a:");
        let names = [
            keys.session(SID),
            keys.token(TokenHash::from_bytes([3; 32])),
            keys.subject(TAG),
            keys.epoch(TAG),
            keys.claim(SID),
            keys.all(),
            keys.due(),
            keys.ended(),
            keys.epochs(),
            keys.echo([4; 8]),
        ];
        assert!(names.iter().all(|name| name.starts_with("a:")));
        assert_eq!(names[0], "a:s:{01010101-0101-0101-0101-010101010101}");
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }

    #[test]
    fn moments_sort_as_text_and_read_back() {
        let times = [0, 9, 10, 1_700_000_000_000, u64::MAX].map(Timestamp::from_millis);
        let texts = times.map(moment);
        assert!(texts.is_sorted());
        for (time, text) in times.iter().zip(&texts) {
            assert_eq!(moment_in(text.as_bytes()), Some(*time));
        }
        for bad in ["", "1", "+0000000000000000001", "99999999999999999999"] {
            assert_eq!(moment_in(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_name_tells_session_and_subject() {
        for subject in [None, Some(TAG)] {
            assert_eq!(named_in(&named(SID, subject)), Some((SID, subject)));
        }
        for len in [0, 15, 17, 47, 49] {
            assert_eq!(named_in(&vec![0; len]), None, "{len} bytes");
        }
    }
}
