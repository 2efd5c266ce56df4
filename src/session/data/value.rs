//! The values of structured fields (RFC 9651), and their one canonical spelling.

use std::fmt::{self, Write};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The largest integer, and the largest decimal in thousandths.
pub(super) const MAX_INTEGER: i64 = 999_999_999_999_999;

/// Readers of byte sequences take them with or without padding, and whatever the bits are that say nothing.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Bare {
    Boolean(bool),
    Bytes(Vec<u8>),
    Date(i64),
    /// In thousandths.
    Decimal(i64),
    Display(String),
    Integer(i64),
    Text(String),
    Token(String),
}

pub(super) type Parameters = Vec<(String, Bare)>;

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Item {
    pub(super) bare: Bare,
    pub(super) parameters: Parameters,
}

/// What a key of a dictionary stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Member {
    Item(Item),
    List(Vec<Item>, Parameters),
}

impl From<Bare> for Item {
    fn from(bare: Bare) -> Self {
        Self {
            bare,
            parameters: Vec::new(),
        }
    }
}

/// Whether it can be a string; other text is a display string.
pub(super) fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

impl Bare {
    /// A number that JSON has and a structured field can hold.
    pub(super) fn of_number(number: &serde_json::Number) -> Option<Self> {
        if let Some(integer) = number.as_i64() {
            return (integer.abs() <= MAX_INTEGER).then_some(Self::Integer(integer));
        }
        let number = number.as_f64()?;
        let thousandths = (number * 1000.0).round();
        let is_same = (thousandths / 1000.0).to_bits() == number.to_bits();
        #[expect(clippy::cast_precision_loss, reason = "15 digits are exact")]
        let is_held = is_same && thousandths.abs() <= MAX_INTEGER as f64;
        #[expect(clippy::cast_possible_truncation, reason = "it has just been judged")]
        is_held.then_some(Self::Decimal(thousandths as i64))
    }
}

impl fmt::Display for Bare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "?{}", u8::from(*value)),
            Self::Bytes(bytes) => write!(f, ":{}:", BASE64.encode(bytes)),
            Self::Date(seconds) => write!(f, "@{seconds}"),
            Self::Decimal(thousandths) => {
                let sign = if *thousandths < 0 { "-" } else { "" };
                let (whole, rest) = (thousandths.abs() / 1000, thousandths.abs() % 1000);
                let digits = format!("{rest:03}");
                let digits = digits.trim_end_matches('0');
                let digits = if digits.is_empty() { "0" } else { digits };
                write!(f, "{sign}{whole}.{digits}")
            }
            Self::Display(text) => {
                f.write_str("%\"")?;
                for byte in text.bytes() {
                    match byte {
                        b'%' | b'"' | ..0x20 | 0x7f.. => write!(f, "%{byte:02x}")?,
                        _ => f.write_char(char::from(byte))?,
                    }
                }
                f.write_char('"')
            }
            Self::Integer(value) => write!(f, "{value}"),
            Self::Text(text) => {
                let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
                write!(f, "\"{escaped}\"")
            }
            Self::Token(token) => f.write_str(token),
        }
    }
}

fn write_parameters(f: &mut fmt::Formatter<'_>, parameters: &Parameters) -> fmt::Result {
    for (key, value) in parameters {
        match value {
            Bare::Boolean(true) => write!(f, ";{key}")?,
            value => write!(f, ";{key}={value}")?,
        }
    }
    Ok(())
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bare)?;
        write_parameters(f, &self.parameters)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Item(item) => write!(f, "{item}"),
            Self::List(items, parameters) => {
                f.write_char('(')?;
                for (index, item) in items.iter().enumerate() {
                    let gap = if index == 0 { "" } else { " " };
                    write!(f, "{gap}{item}")?;
                }
                f.write_char(')')?;
                write_parameters(f, parameters)
            }
        }
    }
}
