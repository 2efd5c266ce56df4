//! A typed reading of a TOML tree that goes on after an error: whatever is wrong is noted with its place, and reading
//! continues with the default. It knows types and units, not what any key means.

mod nearest;
mod report;
mod syntax;
mod units;
mod value;

pub(super) use nearest::{nearest, one_of};
pub(super) use report::{Complaint, Report};
pub use units::{parse_duration, show_duration};
pub(super) use value::{Value, quoted};

use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use report::Unknown;

/// One table, present or not. Every key that is asked for becomes known; [`Section::finish`] reports the others.
#[derive(Debug)]
pub(super) struct Section<'a> {
    report: &'a Report<'a>,
    /// As errors name it: `session`, `route.upstream`. Empty for the file itself.
    name: String,
    place: Range<usize>,
    table: Option<&'a DeTable<'a>>,
    asked: RefCell<Vec<&'static str>>,
}

/// What no wait may exceed, and what none may be below.
const ANY_WAIT: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_hours(366 * 24);

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(report: &'a Report<'a>, table: &'a DeTable<'a>) -> Self {
        Self::new(report, String::new(), (0..0, Some(table)))
    }

    fn new(
        report: &'a Report<'a>,
        name: String,
        (place, table): (Range<usize>, Option<&'a DeTable<'a>>),
    ) -> Self {
        Self {
            report,
            name,
            place,
            table,
            asked: RefCell::default(),
        }
    }

    pub(super) fn report(&self) -> &'a Report<'a> {
        self.report
    }

    /// Whether it holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_none_or(DeTable::is_empty)
    }

    /// A section by the same name and at the same place, to report something about it later.
    pub(super) fn for_later(&self) -> Self {
        Self::new(self.report, self.name.clone(), (self.place(), self.table))
    }

    /// What is wrong with it as a whole.
    pub(super) fn wrong(&self, message: impl Into<String>) -> Complaint<'a> {
        Complaint::new(self.report, (self.place(), self.name.clone()), message)
    }

    /// Where its header stands.
    pub(super) fn place(&self) -> Range<usize> {
        self.place.clone()
    }

    /// What a key holds, if it is there.
    pub(super) fn value(&self, key: &'static str) -> Option<Value<'a>> {
        self.asked.borrow_mut().push(key);
        self.report.know(self.path(key));
        let (name, node) = self.table?.get_key_value(key)?;
        Some(Value::new(self.report, self.path(key), name.span(), node))
    }

    /// What a key holds that must be there; `example` is a whole line that would do.
    pub(super) fn required(&self, key: &'static str, example: &str) -> Option<Value<'a>> {
        let value = self.value(key);
        if value.is_none() {
            self.missing(key, "is missing")
                .help(format!("for example `{example}`"))
                .push();
        }
        value
    }

    /// A complaint that `key` is not there. It is dropped where a slip of the pen explains it.
    pub(super) fn missing(&self, key: &str, message: &str) -> Complaint<'a> {
        let section = match self.name.as_str() {
            name if self.table.is_none() && !name.contains('.') => {
                format!(", there is no section [{name}]")
            }
            _ => String::new(),
        };
        self.about(key, format!("{message}{section}"))
    }

    /// A complaint about what stands in for `key`, which is not there. It is dropped where a slip of the pen explains it.
    pub(super) fn about(&self, key: &str, message: String) -> Complaint<'a> {
        Complaint::new(self.report, (self.place(), self.path(key)), message).for_want_of_it()
    }

    /// A table within this one; an empty one where it is absent.
    pub(super) fn section(&self, key: &'static str) -> Self {
        let table = self
            .value(key)
            .and_then(|value| Some((value.place(), Some(value.table()?))));
        Self::new(self.report, self.path(key), table.unwrap_or_default())
    }

    /// Every `[[key]]`.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        if let Some(table) = value.as_table() {
            let header = format!("write `[[{key}]]`: there can be several");
            value
                .wrong("is a list of sections")
                .at_key()
                .help(header)
                .push();
            return vec![Self::new(
                self.report,
                self.path(key),
                (value.place(), Some(table)),
            )];
        }
        value.list().iter().filter_map(Value::section).collect()
    }

    /// Every entry, whatever its name; none of them is unknown.
    pub(super) fn entries(&self) -> Vec<(&'a str, Value<'a>)> {
        self.report.know(self.path("*"));
        let entries = self.table.into_iter().flatten();
        let entry = |(name, node): (&'a toml::Spanned<_>, &'a toml::Spanned<DeValue<'a>>)| {
            let text: &'a std::borrow::Cow<'a, str> = name.get_ref();
            (
                text.as_ref(),
                Value::new(self.report, self.path(text), name.span(), node),
            )
        };
        entries.map(entry).collect()
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.into_inner();
        let present = |key: &&str| self.table.is_some_and(|table| table.contains_key(*key));
        let absent: Vec<_> = asked.iter().copied().filter(|key| !present(key)).collect();
        for (key, value) in self.table.into_iter().flatten() {
            if !asked.contains(&key.get_ref().as_ref()) {
                self.report.unknown(Unknown {
                    name: key.get_ref().to_string(),
                    section: self.name.clone(),
                    section_place: self.place.clone(),
                    span: key.span(),
                    holds_table: holds_table(value.get_ref()),
                    known: asked.clone(),
                    absent: absent.clone(),
                });
            }
        }
    }

    fn path(&self, key: &str) -> String {
        match self.name.as_str() {
            "" => key.to_owned(),
            name => format!("{name}.{key}"),
        }
    }
}

/// Whether a header, `[x]` or `[[x]]`, may have begun it.
fn holds_table(value: &DeValue<'_>) -> bool {
    let first = value.as_array().and_then(|list| list.first());
    value.is_table() || first.is_some_and(|item| item.get_ref().is_table())
}

/// Whole keys with their default. What is wrong is reported, and the default returned.
impl<'a> Section<'a> {
    pub(super) fn boolean(&self, key: &'static str, default: bool) -> bool {
        self.value(key)
            .and_then(|value| value.boolean())
            .unwrap_or(default)
    }

    /// A wait: never zero.
    pub(super) fn duration(&self, key: &'static str, default: Duration) -> Duration {
        self.value(key)
            .and_then(|value| value.duration_in(ANY_WAIT))
            .unwrap_or(default)
    }

    /// As [`Section::duration`], with the value that an error about it would point at.
    pub(super) fn placed_duration(&self, key: &'static str) -> Option<(Duration, Value<'a>)> {
        let value = self.value(key)?;
        Some((value.duration_in(ANY_WAIT)?, value))
    }

    pub(super) fn size_in(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.value(key)?.size_in(range)
    }

    pub(super) fn integer_in<T: TryFrom<i64>>(
        &self,
        key: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<T> {
        self.value(key)?.integer_in(range)
    }

    pub(super) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        self.value(key)?.choice(choices)
    }

    /// A path; relative ones begin at the folder of the file.
    pub(super) fn path_to(&self, key: &'static str) -> Option<PathBuf> {
        self.value(key)?.path()
    }

    /// One address with its port, or a list of them, each with its place.
    pub(super) fn addresses(&self, key: &'static str) -> Vec<(SocketAddr, Value<'a>)> {
        let values = self
            .value(key)
            .map(|value| value.one_or_list())
            .unwrap_or_default();
        values
            .into_iter()
            .filter_map(|value| Some((value.address()?, value)))
            .collect()
    }

    /// A list of texts.
    pub(super) fn strings(&self, key: &'static str) -> Vec<(&'a str, Value<'a>)> {
        let values = self
            .value(key)
            .map(|value| value.list())
            .unwrap_or_default();
        values
            .into_iter()
            .filter_map(|value| Some((value.text()?, value)))
            .collect()
    }
}
