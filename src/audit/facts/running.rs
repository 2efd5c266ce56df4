//! What a running Doorward tells of itself over its admin API, in the API's words.

use serde::{Deserialize, Deserializer};

use crate::clock::Timestamp;

/// The answer to `GET /api/v1/status`, and the sessions.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Running {
    pub version: String,
    /// The fingerprint of the configuration that it read.
    pub config: String,
    #[serde(deserialize_with = "moment")]
    pub started: Timestamp,
    /// What its clock says.
    #[serde(deserialize_with = "moment")]
    pub now: Timestamp,
    pub ready: bool,
    pub reasons: Vec<String>,
    /// In every state, the oldest first.
    #[serde(skip)]
    pub sessions: Vec<Seen>,
    /// There are more than were looked at.
    #[serde(skip)]
    pub has_more: bool,
}

/// A session, as far as it is judged.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub struct Seen {
    #[serde(deserialize_with = "moment")]
    pub created: Timestamp,
    /// When it ends, or ended, if nothing more is heard of it.
    #[serde(deserialize_with = "moment")]
    pub ends: Timestamp,
    #[serde(deserialize_with = "moment")]
    pub expires: Timestamp,
    pub readable: bool,
}

/// RFC 3339.
fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(deserializer)?;
    let moment: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
    let millis = u64::try_from(moment.as_millisecond()).unwrap_or(0);
    Ok(Timestamp::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_in_the_words_of_the_api() {
        let answer = serde_json::json!({
            "version": "0.1.0",
            "config": "00ff",
            "started": "2027-01-15T08:00:00.000Z",
            "now": "2027-01-15T08:00:01.500Z",
            "ready": false,
            "reasons": ["draining"],
        });
        let running: Running = serde_json::from_value(answer).unwrap();
        assert_eq!(running.started, Timestamp::from_millis(1_800_000_000_000));
        assert_eq!(running.now, Timestamp::from_millis(1_800_000_001_500));
        assert!(!running.ready);
        let seen = serde_json::json!({ "created": "yesterday", "ends": "", "expires": "", "readable": true });
        assert!(serde_json::from_value::<Seen>(seen).is_err());
    }
}
