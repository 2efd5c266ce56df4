//! Durations and sizes as people write them. Pure; it knows no file.

use std::time::Duration;

use jiff::SpanRelativeTo;
use jiff::fmt::friendly::SpanParser;

const BYTE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads `30m`, `1h 30m`, `250ms`, `365d`; a day has 24 hours. Signs, `ago` and calendar units mean nothing here.
pub fn parse_duration(text: &str) -> Option<Duration> {
    static PARSER: SpanParser = SpanParser::new();
    let span = PARSER.parse_span(text).ok()?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(length).ok()
}

/// The shortest way to write a duration that [`parse_duration`] reads.
pub fn show_duration(length: Duration) -> String {
    let mut rest = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let mut parts = Vec::new();
    for (unit, millis) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ] {
        if rest >= millis {
            parts.push(format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    if parts.is_empty() {
        "0s".to_owned()
    } else {
        parts.join(" ")
    }
}

/// Reads `64KiB`, `10MB`, `512B`; units are told apart without regard to case.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.trim_start();
    let (_, factor) = BYTE_UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The shortest way to write a size that [`parse_size`] reads.
pub(super) fn show_size(bytes: u64) -> String {
    let fits = |(_, factor): &&(&str, u64)| bytes >= *factor && bytes.is_multiple_of(*factor);
    match BYTE_UNITS
        .iter()
        .filter(fits)
        .max_by_key(|(_, factor)| *factor)
    {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [
            ("30m", Some(1_800_000)),
            ("1h 30m", Some(5_400_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("365d", Some(31_536_000_000)),
            ("0s", Some(0)),
            ("", None),
            ("30", None),
            ("30 minuts", None),
            ("-1s", None),
            ("1s ago", None),
            ("1 year", None),
            ("99999999999999999999s", None),
        ] {
            let expected = millis.map(Duration::from_millis);
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_have_a_unit() {
        for (text, bytes) in [
            ("64KiB", Some(65_536)),
            ("10MB", Some(10_000_000)),
            ("10 mb", Some(10_000_000)),
            ("512B", Some(512)),
            ("512", None),
            ("64K", None),
            ("KiB", None),
            ("-1B", None),
            ("1.5MB", None),
            ("99999999999999999999B", None),
            ("18446744073709551615GiB", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(bytes: u64, millis in 0..31_536_000_000_000_u64) {
            prop_assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
            let length = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&show_duration(length)), Some(length));
        }
    }
}
