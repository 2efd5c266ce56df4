//! The same data in JSON, for programs that come over the API. What a structured field cannot say (objects, lists in
//! lists, most fractions) is kept as JSON, and then no header shows it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::fields;
use super::space::{Kept, Space};
use super::value::{Bare, Item, Member, is_plain};

/// Why JSON cannot be the data of a namespace.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JsonError {
    #[error(
        "{0:?} is not a key: a lower-case letter or *, then lower-case letters, digits, and _ - . *"
    )]
    Key(String),
    #[error("{0:?} is null, which is not a value")]
    Null(String),
}

impl Space {
    /// Strings, numbers, booleans and arrays of them. Bytes are base64, dates the seconds since 1970; parameters are
    /// not shown.
    pub fn to_json(&self) -> Map<String, Value> {
        let members = self.members().iter();
        members
            .map(|(key, kept)| (key.clone(), kept.to_json()))
            .collect()
    }

    /// These members and no others. One that says the same as before is left as it is.
    pub(super) fn replaced(&self, json: Map<String, Value>) -> Result<Self, JsonError> {
        let mut next = Self::default();
        for (key, value) in json {
            let kept = match self.members().get(&key) {
                Some(before) if before.to_json() == value => before.clone(),
                _ => kept(&key, &value)?,
            };
            next.set(key, kept);
        }
        Ok(next)
    }

    /// RFC 7396: members that are null go, others are set; objects are patched in the same way.
    pub(super) fn patched(&self, patch: Map<String, Value>) -> Result<Self, JsonError> {
        let mut next = self.clone();
        for (key, value) in patch {
            if value.is_null() {
                next.unset(&key);
                continue;
            }
            let before = self.members().get(&key).map(Kept::to_json);
            let value = merged(before.clone(), value);
            if before.as_ref() != Some(&value) {
                let kept = kept(&key, &value)?;
                next.set(key, kept);
            }
        }
        Ok(next)
    }
}

impl Kept {
    fn to_json(&self) -> Value {
        let parsed = match self {
            Self::Json(text) => serde_json::from_str(text).ok(),
            Self::Field(text) => fields::member(text).ok().map(|member| match member {
                Member::Item(item) => scalar(item),
                Member::List(items, _) => items.into_iter().map(scalar).collect(),
            }),
        };
        parsed.unwrap_or_default()
    }
}

fn scalar(item: Item) -> Value {
    match item.bare {
        Bare::Boolean(value) => value.into(),
        Bare::Bytes(bytes) => STANDARD.encode(bytes).into(),
        Bare::Date(seconds) => seconds.into(),
        #[expect(clippy::cast_precision_loss, reason = "15 digits are exact")]
        Bare::Decimal(thousandths) => (thousandths as f64 / 1000.0).into(),
        Bare::Integer(value) => value.into(),
        Bare::Display(text) | Bare::Text(text) | Bare::Token(text) => text.into(),
    }
}

fn kept(key: &str, value: &Value) -> Result<Kept, JsonError> {
    if !fields::is_key(key) {
        return Err(JsonError::Key(key.to_owned()));
    }
    let as_field = match value {
        Value::Null => return Err(JsonError::Null(key.to_owned())),
        Value::Array(items) => {
            let items: Option<Vec<Item>> = items.iter().map(bare).collect();
            items.map(|items| Member::List(items, Vec::new()))
        }
        value => bare(value).map(Member::Item),
    };
    Ok(match as_field {
        Some(member) => Kept::Field(member.to_string()),
        None => Kept::Json(value.to_string()),
    })
}

fn bare(value: &Value) -> Option<Item> {
    let bare = match value {
        Value::Bool(value) => Bare::Boolean(*value),
        Value::Number(number) => Bare::of_number(number)?,
        Value::String(text) if is_plain(text) => Bare::Text(text.clone()),
        Value::String(text) => Bare::Display(text.clone()),
        Value::Array(_) | Value::Null | Value::Object(_) => return None,
    };
    Some(bare.into())
}

/// `MergePatch` of RFC 7396.
fn merged(target: Option<Value>, patch: Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch;
    };
    let mut object = match target {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    };
    for (key, value) in patch {
        if value.is_null() {
            object.remove(&key);
        } else {
            let before = object.remove(&key);
            object.insert(key, merged(before, value));
        }
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::session::data::Change;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            other => panic!("{other}"),
        }
    }

    fn space(text: &str) -> Space {
        let mut space = Space::default();
        Change::parse(text.as_bytes(), b"")
            .unwrap()
            .apply(&mut space);
        space
    }

    #[test]
    fn each_kind_of_field_has_its_json() {
        let space = space(
            "a=1, b=1.5, c=\"x\", d=tok, e=:aGk=:, f=?0, g=@9, h=%\"%c3%bc\", i=(1 \"x\");p, j",
        );
        let expected = json!({
            "a": 1, "b": 1.5, "c": "x", "d": "tok", "e": "aGk=", "f": false, "g": 9, "h": "ü", "i": [1, "x"], "j": true,
        });
        assert_eq!(Value::Object(space.to_json()), expected);
    }

    #[test]
    fn numbers_of_three_decimals_are_fields_whatever_binary_makes_of_them() {
        for number in ["1.001", "4.35", "0.1", "-2.675", "123456789012.123", "1e3"] {
            let json = serde_json::from_str(&format!("{{\"a\": {number}}}")).unwrap();
            let space = Space::default().replaced(object(json)).unwrap();
            let shown = space.shown(99);
            assert_eq!(shown.omitted, None, "{number}");
            let told = shown.data.to_str().unwrap().trim_start_matches("a=");
            let told: f64 = told.parse().unwrap();
            assert_eq!(told.to_bits(), number.parse::<f64>().unwrap().to_bits());
        }
        let json = object(json!({ "a": 1.0001, "b": 1e15, "c": 1e300 }));
        let shown = Space::default().replaced(json).unwrap().shown(99);
        assert_eq!(shown.omitted.unwrap(), "a, b, c");
    }

    #[test]
    fn what_is_read_and_put_back_stays_what_it_was() {
        let before = space("a=tok, b=:aGk=:, c=(1);p=2");
        assert_eq!(before.replaced(before.to_json()), Ok(before.clone()));
        let mut json = before.to_json();
        json.remove("a");
        json["b"] = json!("other");
        let after = before.replaced(json).unwrap();
        assert_eq!(after, space("b=\"other\", c=(1);p=2"));
    }

    #[test]
    fn what_no_field_can_say_is_kept_all_the_same() {
        let json = json!({
            "deep": { "a": [1, { "b": null }] }, "list": [[1]], "third": 0.333_333, "big": 9_007_199_254_740_993_i64,
            "plain": "x", "not": "ü\n",
        });
        let space = Space::default().replaced(object(json.clone())).unwrap();
        assert_eq!(Value::Object(space.to_json()), json);
        let shown = space.shown(4096);
        assert_eq!(shown.data, "not=%\"%c3%bc%0a\", plain=\"x\"");
        assert_eq!(shown.omitted.unwrap(), "big, deep, list, third");
    }

    #[test]
    fn a_patch_is_that_of_rfc_7396() {
        // Appendix A of the RFC, below one key.
        for (before, patch, after) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": "b"}),
                json!({"b": "c"}),
                json!({"a": "b", "b": "c"}),
            ),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (
                json!({"a": "b", "b": "c"}),
                json!({"a": null}),
                json!({"b": "c"}),
            ),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (
                json!({"a": [{"b": "c"}]}),
                json!({"a": [1]}),
                json!({"a": [1]}),
            ),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ] {
            let space = Space::default().replaced(object(before)).unwrap();
            let patched = space.patched(object(patch)).unwrap();
            assert_eq!(Value::Object(patched.to_json()), after);
        }
    }

    #[test]
    fn names_that_no_header_could_carry_are_refused() {
        for key in ["", "A", "a b", "ü", "9", "a=1, b", "a\r\nx: y"] {
            let json = object(json!({ key: 1 }));
            let refused = Space::default().replaced(json.clone());
            assert_eq!(refused, Err(JsonError::Key(key.to_owned())));
            assert!(Space::default().patched(json).is_err());
        }
        let null = Space::default().replaced(object(json!({ "a": null })));
        assert_eq!(null, Err(JsonError::Null("a".to_owned())));
    }
}
