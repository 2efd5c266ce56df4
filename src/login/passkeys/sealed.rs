//! What travels with a browser between the question and the answer of its authenticator: sealed, bound to the browser or
//! to the session, and good for minutes. Nothing is stored for it (R12).

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::secret::{Keyring, Purpose, random};

/// How long an answer may take.
pub(super) const MAX_AGE: Duration = Duration::from_mins(5);
/// What is sealed here has less than half of this.
const MAX_TEXT: usize = 4096;

/// A question that an authenticator is to answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Question {
    /// What an answer is spent by.
    pub(super) nonce: [u8; 16],
    pub(super) started: Timestamp,
    /// The host and port that it was asked at.
    pub(super) authority: String,
    pub(super) kind: Kind,
    /// The library's state, in JSON.
    pub(super) state: String,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Kind {
    Login,
    /// A new passkey for the user of this name, who gets this handle.
    Adding {
        user: String,
        handle: [u8; 16],
    },
}

impl Question {
    pub(super) fn new(authority: &str, now: Timestamp, (kind, state): (Kind, String)) -> Self {
        Self {
            nonce: random(),
            started: now,
            authority: authority.to_owned(),
            kind,
            state,
        }
    }

    /// It opens only for the browser or the session that `bound_to` names.
    pub(super) fn seal(&self, keyring: &Keyring, bound_to: &[u8]) -> Option<String> {
        let plain = postcard::to_stdvec(self).ok()?;
        let sealed = keyring.seal(Purpose::Passkey, bound_to, &plain);
        Some(BASE64_URL_SAFE_NO_PAD.encode(sealed))
    }

    /// `None`: it is not ours, not for here, or too old.
    pub(super) fn open(
        text: &str,
        keyring: &Keyring,
        (bound_to, authority, now): (&[u8], &str, Timestamp),
    ) -> Option<Self> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let plain = keyring.open(Purpose::Passkey, bound_to, &sealed)?;
        let (question, rest): (Self, _) = postcard::take_from_bytes(&plain).ok()?;
        let is_here = question.authority == authority;
        let is_fresh = now.since(question.started) < MAX_AGE;
        (rest.is_empty() && is_here && is_fresh).then_some(question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn ring() -> Keyring {
        Keyring::new(vec![Secret::new(vec![1; 32])]).unwrap()
    }

    fn question() -> Question {
        let kind = Kind::Adding {
            user: "alice".to_owned(),
            handle: [7; 16],
        };
        Question::new("localhost:8443", NOW, (kind, "{}".to_owned()))
    }

    #[test]
    fn a_question_opens_where_it_was_asked_for_five_minutes() {
        let (ring, question) = (ring(), question());
        let text = question.seal(&ring, b"here").unwrap();
        let open = |bound_to: &[u8], authority, seconds| {
            let now = NOW.after(Duration::from_secs(seconds));
            Question::open(&text, &ring, (bound_to, authority, now))
        };
        assert_eq!(open(b"here", "localhost:8443", 299), Some(question));
        assert_eq!(open(b"here", "localhost:8443", 300), None);
        assert_eq!(open(b"there", "localhost:8443", 0), None);
        assert_eq!(open(b"here", "localhost:8444", 0), None);
        assert_eq!(open(b"here", "localhost", 0), None);
    }

    #[test]
    fn hostile_texts_are_no_questions() {
        let ring = ring();
        let text = question().seal(&ring, b"here").unwrap();
        let place = (b"here".as_slice(), "localhost:8443", NOW);
        for at in 0..text.len() {
            let mut bad = text.clone().into_bytes();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            let bad = String::from_utf8(bad).unwrap();
            assert_eq!(Question::open(&bad, &ring, place), None, "character {at}");
        }
        let plain = postcard::to_stdvec(&question()).unwrap();
        let trailing = [&plain[..], b"\0"].concat();
        let other = ring.seal(Purpose::PendingLogin, b"here", &plain);
        let longer = ring.seal(Purpose::Passkey, b"here", &trailing);
        for sealed in [other, longer, Vec::new(), vec![0xff; 64]] {
            let text = BASE64_URL_SAFE_NO_PAD.encode(sealed);
            assert_eq!(Question::open(&text, &ring, place), None, "{text}");
        }
        for text in ["", "=", "\u{0}", &"A".repeat(MAX_TEXT + 1)] {
            assert_eq!(Question::open(text, &ring, place), None, "{text:.20}");
        }
    }
}
