//! What one app keeps in one session: keys and their values, what of it fits into a header, and a change that comes in one.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::fields::{self, FieldError};
use super::{DataLimits, Refused};

/// One value.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Kept {
    /// In the canonical spelling of a structured field.
    Field(String),
    /// What no structured field can say.
    Json(String),
}

impl Kept {
    pub(super) fn text(&self) -> &str {
        let (Self::Field(text) | Self::Json(text)) = self;
        text
    }
}

/// The data of one namespace.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Space(BTreeMap<String, Kept>);

/// A space as header fields.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shown {
    /// A dictionary; empty where there is nothing to show.
    pub data: HeaderValue,
    /// A list of the keys that no header has room for, or words; `None`: there are none.
    pub omitted: Option<HeaderValue>,
}

impl Space {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn members(&self) -> &BTreeMap<String, Kept> {
        &self.0
    }

    pub(super) fn set(&mut self, key: String, kept: Kept) {
        self.0.insert(key, kept);
    }

    pub(super) fn unset(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// What it counts for against the limits.
    pub fn bytes(&self) -> usize {
        let members = self.0.iter();
        members
            .map(|(key, kept)| key.len() + kept.text().len())
            .sum()
    }

    pub(super) fn judge(&self, limits: &DataLimits) -> Result<(), Refused> {
        if self.0.len() > limits.max_keys {
            return Err(Refused::Keys(limits.max_keys));
        }
        let longest = self.0.values().map(|kept| kept.text().len()).max();
        if longest.is_some_and(|longest| longest > limits.max_value_bytes) {
            return Err(Refused::Value(limits.max_value_bytes));
        }
        Ok(())
    }

    /// What fits into `max` bytes, in the order of the keys.
    pub fn shown(&self, max: usize) -> Shown {
        let (mut data, mut omitted) = (String::new(), Vec::new());
        for (key, kept) in &self.0 {
            let part = match kept {
                Kept::Json(_) => None,
                Kept::Field(text) => Some(match text.strip_prefix("?1") {
                    Some(parameters) => format!("{key}{parameters}"),
                    None => format!("{key}={text}"),
                }),
            };
            let gap = if data.is_empty() { "" } else { ", " };
            match part.filter(|part| data.len() + gap.len() + part.len() <= max) {
                Some(part) => data.extend([gap, &part]),
                None => omitted.push(key.as_str()),
            }
        }
        // Keys and canonical values are visible ASCII; where they were not, nothing is shown.
        let value = |text: String| HeaderValue::try_from(text).ok();
        Shown {
            data: value(data).unwrap_or_else(|| HeaderValue::from_static("")),
            omitted: (!omitted.is_empty())
                .then(|| value(omitted.join(", ")))
                .flatten(),
        }
    }

    /// Changes whenever the content does: an entity tag without its quotes.
    pub fn tag(&self) -> String {
        let mut context = Context::new(&SHA256);
        for (key, kept) in &self.0 {
            let kind: &[u8] = match kept {
                Kept::Field(_) => b"=",
                Kept::Json(_) => b":",
            };
            for part in [key.as_bytes(), kind, kept.text().as_bytes(), b"\0"] {
                context.update(part);
            }
        }
        let digest = context.finish();
        URL_SAFE_NO_PAD.encode(digest.as_ref())
    }
}

/// What an app says in its response: these keys are set, those are gone.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Change {
    set: BTreeMap<String, Kept>,
    unset: Vec<String>,
    /// How long it was.
    pub(super) bytes: usize,
}

impl Change {
    /// Of the lines of `Doorward-Session-Set` and of `Doorward-Session-Unset`, each joined by commas.
    pub fn parse(set: &[u8], unset: &[u8]) -> Result<Self, Refused> {
        let malformed = |error: FieldError| Refused::Malformed(error.to_string());
        let members = fields::dictionary(set).map_err(malformed)?;
        let members = members.into_iter();
        Ok(Self {
            set: members
                .map(|(key, member)| (key, Kept::Field(member.to_string())))
                .collect(),
            unset: fields::keys(unset).map_err(malformed)?,
            bytes: set.len() + unset.len(),
        })
    }

    /// What is set and unset at once is set.
    pub(super) fn apply(&self, space: &mut Space) {
        for key in &self.unset {
            space.unset(key);
        }
        for (key, kept) in &self.set {
            space.set(key.clone(), kept.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(text: &str) -> Space {
        let mut space = Space::default();
        Change::parse(text.as_bytes(), b"")
            .unwrap()
            .apply(&mut space);
        space
    }

    #[test]
    fn a_change_is_one_whole() {
        let mut before = space("a=1, b=2, c=3");
        let change = Change::parse(b"a=9, d", b"b, d").unwrap();
        change.apply(&mut before);
        assert_eq!(before, space("a=9, c=3, d"));
        assert!(matches!(
            Change::parse(b"a=1, b=", b""),
            Err(Refused::Malformed(_))
        ));
        assert!(matches!(
            Change::parse(b"a=1", b"B"),
            Err(Refused::Malformed(_))
        ));
    }

    #[test]
    fn a_header_shows_what_fits_and_names_the_rest() {
        let all = space("a=1, b=\"long enough\", c, d;x=1");
        let shown = all.shown(4096);
        assert_eq!(shown.data, "a=1, b=\"long enough\", c, d;x=1");
        assert_eq!(shown.omitted, None);
        let some = all.shown(14);
        assert_eq!(some.data, "a=1, c, d;x=1");
        assert_eq!(some.omitted.unwrap(), "b");
        assert_eq!(Space::default().shown(10).data, "");
    }

    #[test]
    fn a_tag_tells_contents_apart() {
        let tag = |text| space(text).tag();
        assert_eq!(tag("a=1, b=2"), tag("b=2, a=1"));
        for (one, other) in [
            ("a=1", "a=2"),
            ("a=1", "b=1"),
            ("a=1", ""),
            ("a=1", "a=\"1\""),
        ] {
            assert_ne!(tag(one), tag(other));
        }
    }

    #[test]
    fn limits_count_keys_and_the_longest_value() {
        let limits = DataLimits {
            max_keys: 2,
            max_value_bytes: 6,
            ..DataLimits::default()
        };
        assert_eq!(space("a=1, b=\"1234\"").judge(&limits), Ok(()));
        assert_eq!(space("a, b, c").judge(&limits), Err(Refused::Keys(2)));
        assert_eq!(space("b=\"12345\"").judge(&limits), Err(Refused::Value(6)));
    }
}
