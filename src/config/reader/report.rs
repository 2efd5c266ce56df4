//! Where errors are gathered while reading goes on, and what is said about unknown keys once every known key is known.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::nearest::{nearest, one_of};
use crate::config::Missing;
use crate::config::diagnostics::{ConfigError, ConfigErrors, place};

/// Everything that was found out about one file.
#[derive(Debug)]
pub(in crate::config) struct Report<'a> {
    file: &'a Path,
    source: &'a str,
    missing: Missing,
    found: RefCell<Vec<Found>>,
    syntax: RefCell<Vec<ConfigError>>,
    unknown: RefCell<Vec<Unknown>>,
    known: RefCell<BTreeSet<String>>,
    secret: RefCell<Vec<Range<usize>>>,
    /// The line below which nothing could be read.
    end: Cell<usize>,
}

#[derive(Clone, Debug)]
struct Found {
    error: ConfigError,
    /// It is about something that is not there, and falls away once a slip of the pen explains it.
    missing: bool,
}

/// A key that nobody asked for.
#[derive(Debug)]
pub(super) struct Unknown {
    pub(super) name: String,
    pub(super) section: String,
    pub(super) section_place: Range<usize>,
    pub(super) span: Range<usize>,
    pub(super) holds_table: bool,
    pub(super) known: Vec<&'static str>,
    /// The known ones that are not there.
    pub(super) absent: Vec<&'static str>,
}

/// An error in the making; [`Complaint::push`] ends it.
#[derive(Debug)]
#[must_use = "it is not reported until it is pushed"]
pub(in crate::config) struct Complaint<'a> {
    report: &'a Report<'a>,
    found: Found,
    key_span: Range<usize>,
}

impl<'a> Complaint<'a> {
    pub(super) fn new(
        report: &'a Report<'a>,
        (span, key): (Range<usize>, String),
        message: impl Into<String>,
    ) -> Self {
        let error = ConfigError {
            line: 0,
            column: 0,
            key: key.escape_debug().to_string(),
            message: message.into(),
            help: None,
            span: span.clone(),
            other: None,
        };
        Self {
            report,
            found: Found {
                error,
                missing: false,
            },
            key_span: span,
        }
    }

    /// The name of the key that [`Complaint::at_key`] points at.
    pub(super) fn with_key_span(mut self, span: Range<usize>) -> Self {
        self.key_span = span;
        self
    }

    /// Points at the key instead of its value.
    pub(in crate::config) fn at_key(mut self) -> Self {
        self.found.error.span = self.key_span.clone();
        self
    }

    pub(super) fn for_want_of_it(mut self) -> Self {
        self.found.missing = true;
        self
    }

    pub(in crate::config) fn help(mut self, help: impl Into<String>) -> Self {
        self.found.error.help = Some(help.into());
        self
    }

    /// The other of two places that do not fit together.
    pub(in crate::config) fn other(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.found.error.other = Some((span, label.into()));
        self
    }

    pub(in crate::config) fn push(self) {
        self.report.found.borrow_mut().push(self.found);
    }
}

impl<'a> Report<'a> {
    pub(in crate::config) fn new(file: &'a Path, source: &'a str, missing: Missing) -> Self {
        Self {
            file,
            source,
            missing,
            found: RefCell::default(),
            syntax: RefCell::default(),
            unknown: RefCell::default(),
            known: RefCell::default(),
            secret: RefCell::default(),
            end: Cell::new(usize::MAX),
        }
    }

    /// Something about a place that no value stands for.
    pub(in crate::config) fn complaint(
        &self,
        span: Range<usize>,
        key: &str,
        message: String,
    ) -> Complaint<'_> {
        Complaint::new(self, (span, key.to_owned()), message)
    }

    /// The line of a place, from 1.
    pub(in crate::config) fn line(&self, span: &Range<usize>) -> usize {
        place(self.source, span.start).0
    }

    /// What is made at the first start may be made.
    pub(in crate::config) fn serves(&self) -> bool {
        self.missing == Missing::Refused
    }

    /// Files that are not there yet are no errors.
    pub(in crate::config) fn tolerates_missing(&self) -> bool {
        self.missing == Missing::Tolerated
    }

    /// The folder that relative paths begin at.
    pub(in crate::config) fn folder(&self) -> PathBuf {
        self.file.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// Whether anything is wrong up to now. Unknown keys count.
    pub(in crate::config) fn is_clean(&self) -> bool {
        let noted =
            self.found.borrow().len() + self.syntax.borrow().len() + self.unknown.borrow().len();
        noted == 0
    }

    /// Blots out a part of the file wherever it would be quoted.
    pub(in crate::config) fn blot_out(&self, span: Range<usize>) {
        self.secret.borrow_mut().push(span);
    }

    pub(super) fn know(&self, path: String) {
        self.known.borrow_mut().insert(path);
    }

    pub(super) fn unknown(&self, unknown: Unknown) {
        self.unknown.borrow_mut().push(unknown);
    }

    pub(super) fn syntax(&self, error: ConfigError) {
        self.syntax.borrow_mut().push(error);
    }

    pub(super) fn ends_at(&self, line: usize) {
        self.end.set(line);
    }

    pub(in crate::config) fn source(&self) -> &'a str {
        self.source
    }

    /// Every key that was asked for, as `section.key`.
    pub(in crate::config) fn into_known(self) -> BTreeSet<String> {
        self.known.into_inner()
    }

    /// All errors, or `settings` where there are none.
    pub(in crate::config) fn conclude<T>(self, settings: Option<T>) -> Result<T, ConfigErrors> {
        for unknown in self.unknown.take() {
            self.judge_unknown(&unknown);
        }
        let mut errors = self.syntax.take();
        let broken: BTreeSet<usize> = errors.iter().map(|error| self.line(&error.span)).collect();
        for Found { error, missing } in self.found.take() {
            // What is missing may well stand where the syntax is broken; the same goes for what is odd there.
            let line = self.line(&error.span);
            let judged = !missing && !broken.contains(&line) && line < self.end.get();
            if broken.is_empty() || judged {
                errors.push(error);
            }
        }
        match settings {
            Some(settings) if errors.is_empty() => Ok(settings),
            _ => Err(self.errors(errors)),
        }
    }

    fn errors(&self, mut errors: Vec<ConfigError>) -> ConfigErrors {
        for error in &mut errors {
            (error.line, error.column) = place(self.source, error.span.start);
        }
        let mut source = self.source.to_owned();
        for span in self.secret.take() {
            if let Some(text) = self.source.get(span.clone()) {
                let blot = |c: char| {
                    if c == '\n' {
                        "\n".to_owned()
                    } else {
                        "*".repeat(c.len_utf8())
                    }
                };
                source.replace_range(span, &text.chars().map(blot).collect::<String>());
            }
        }
        ConfigErrors::new(self.file, source, errors)
    }

    fn judge_unknown(&self, unknown: &Unknown) {
        let at_top = unknown.section.is_empty();
        let path = match unknown.section.as_str() {
            "" => unknown.name.clone(),
            section => format!("{section}.{}", unknown.name),
        };
        // A key that is there already was hardly meant a second time.
        let meant = nearest(&unknown.name, unknown.absent.iter().copied())
            .or_else(|| nearest(&unknown.name, unknown.known.iter().copied()));
        let (kind, elsewhere) = match (at_top, unknown.holds_table) {
            (true, true) => ("section", None),
            _ => ("key", self.known_elsewhere(&unknown.name)),
        };
        let meant = meant.filter(|_| !at_top || unknown.holds_table);
        let help = match (meant, elsewhere) {
            (Some(meant), _) => {
                self.forgive(unknown, meant);
                format!("did you mean `{meant}`?")
            }
            (None, Some(section)) => format!("it belongs in {section}"),
            (None, None) => {
                let mut known = unknown.known.clone();
                known.sort_unstable();
                known.dedup();
                format!("known here: {}", one_of(known, '`'))
            }
        };
        let message = format!("unknown {kind}");
        Complaint::new(self, (unknown.span.clone(), path), message)
            .help(help)
            .push();
    }

    /// The sections that know a key by this name, as their headers.
    fn known_elsewhere(&self, name: &str) -> Option<String> {
        let known = self.known.borrow();
        let owners = known
            .iter()
            .filter_map(|path| path.split_once('.').filter(|(_, key)| *key == name));
        let header = |section: &str| match section {
            "route" | "provider" => format!("[[{section}]]"),
            _ => format!("[{section}]"),
        };
        let headers: Vec<_> = owners.map(|(section, _)| header(section)).collect();
        (!headers.is_empty()).then(|| headers.join(" or "))
    }

    /// What was meant is not missing after all, only spelled wrong.
    fn forgive(&self, unknown: &Unknown, meant: &str) {
        let explained = |found: &Found| {
            let key = &found.error.key;
            let here = match unknown.section.as_str() {
                "" => {
                    key == meant
                        || key
                            .split_once('.')
                            .is_some_and(|(section, _)| section == meant)
                }
                section => {
                    found.error.span == unknown.section_place
                        && *key == format!("{section}.{meant}")
                }
            };
            found.missing && here
        };
        self.found.borrow_mut().retain(|found| !explained(found));
    }
}
