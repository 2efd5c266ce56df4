//! Errors of syntax in our words, and as much of the text as can be read all the same.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::report::Report;
use super::value::quoted;
use crate::config::diagnostics::{ConfigError, place};

/// The parser's word for a line that it cannot go on after.
const NO_VALUE: &str = "key with no value, expected `=`";

/// More lines than this are not looked at one by one: it is no configuration.
const MOST_LINES: usize = 50;

impl Report<'_> {
    /// Notes every error of syntax, and returns the text without the lines that stop the parser: what is wrong
    /// further down is seen too. Places in it are those in the file.
    pub(in crate::config) fn legible(&self) -> String {
        let mut text = self.source().to_owned();
        let mut seen = BTreeSet::new();
        while let Some(stop) = self.note_syntax(&text, &mut seen) {
            let start = line_start(&text, stop);
            let line = text.get(start..).and_then(|rest| rest.lines().next());
            let end = start + line.map_or(0, str::len);
            if start == end || seen.len() > MOST_LINES {
                break;
            }
            text.replace_range(start..end, &" ".repeat(end - start));
        }
        text
    }

    /// One error a line: the parser stumbles on over a line that it lost its footing in, and its first word about it
    /// is the one that helps. Returns the place of a line that made it stop.
    fn note_syntax(&self, text: &str, seen: &mut BTreeSet<usize>) -> Option<usize> {
        let (tree, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let mut error = self.in_our_words(tree.get_ref(), error);
            if !seen.insert(error.line) {
                continue;
            }
            let start = error.span.start;
            let stops = error.message == NO_VALUE;
            let help = derailed(self.source(), &error);
            let derails = help.is_some();
            let usual = stops.then(|| "a setting is written `key = value`".to_owned());
            error.help = error.help.or(help).or(usual);
            let line = error.line;
            self.syntax(error);
            if derails {
                self.ends_at(line);
                return None;
            }
            if stops {
                return Some(start);
            }
        }
        None
    }

    fn in_our_words(&self, tree: &DeTable<'_>, error: &Error) -> ConfigError {
        let source = self.source();
        let span = error.span().unwrap_or(source.len()..source.len());
        let (line, column) = place(source, span.start);
        self.hide_secrets_of(line);
        let mut ours = ConfigError {
            line,
            column,
            key: String::new(),
            message: error.message().to_owned(),
            help: None,
            span: span.clone(),
            other: None,
        };
        let written = source.get(span.clone()).unwrap_or_default();
        if error.message().starts_with("string values must be quoted") {
            "text must be in quotes".clone_into(&mut ours.message);
            ours.help = Some(format!("write {}", quoted(written)));
        } else if error.message() == "invalid basic string, expected `\"`" {
            "the quote is not closed".clone_into(&mut ours.message);
            ours.help = Some("end the text with \"".to_owned());
        } else if error.message() == "duplicate key" {
            written.trim_matches(['"', '\'']).clone_into(&mut ours.key);
            "is given twice".clone_into(&mut ours.message);
            let before = earlier_key(tree, &ours.key, span.start)
                .or_else(|| earlier_header(source, span.start));
            ours.other = before.map(|span| (span, "first here".to_owned()));
            ours.help = Some("keep one of them".to_owned());
        }
        ours
    }

    /// A broken line may hold a secret that somebody meant to write into the file.
    fn hide_secrets_of(&self, line: usize) {
        let mut start = 0;
        for (number, text) in self.source().split_inclusive('\n').enumerate() {
            if number + 1 == line && text.trim_start().starts_with("secret") {
                let equals = text.find('=').map_or(0, |equals| equals + 1);
                self.blot_out(start + equals..start + text.trim_end().len().max(equals));
            }
            start += text.len();
        }
    }
}

/// What to say where an error makes all that follows mean something else than it was meant to.
fn derailed(source: &str, error: &ConfigError) -> Option<String> {
    let start = line_start(source, error.span.start);
    let before = source.get(start..error.span.start).unwrap_or_default();
    let line = source.get(start..).and_then(|rest| rest.lines().next());
    let message = error.message.as_str();
    let what = if message == NO_VALUE && line?.contains(['[', ']'])
        || message.contains("unclosed table")
    {
        "a section begins like `[tls]` or `[[route]]`"
    } else if message.contains("unclosed")
        || message.starts_with("missing comma") && before.trim().is_empty()
    {
        "is a bracket, a brace or a quote above it not closed?"
    } else {
        return None;
    };
    Some(format!("{what} (nothing below could be judged yet)"))
}

fn line_start(text: &str, at: usize) -> usize {
    let before = text.get(..at).and_then(|before| before.rfind('\n'));
    before.map_or(0, |newline| newline + 1)
}

/// The last key of this name before a place.
fn earlier_key(tree: &DeTable<'_>, name: &str, before: usize) -> Option<Range<usize>> {
    let own = tree
        .keys()
        .filter(|key| key.get_ref() == name)
        .map(Spanned::span);
    let within = tree.values().filter_map(|value| match value.get_ref() {
        DeValue::Table(table) => earlier_key(table, name, before),
        DeValue::Array(list) => {
            let tables = list.iter().filter_map(|item| item.get_ref().as_table());
            tables
                .filter_map(|table| earlier_key(table, name, before))
                .max_by_key(|span| span.start)
        }
        _ => None,
    });
    own.chain(within)
        .filter(|span| span.start < before)
        .max_by_key(|span| span.start)
}

/// The first line with the same header as the one around a place.
fn earlier_header(source: &str, at: usize) -> Option<Range<usize>> {
    let start = source
        .get(..at)?
        .rfind('\n')
        .map_or(0, |newline| newline + 1);
    let header = source
        .get(start..)?
        .lines()
        .next()?
        .split(']')
        .next()?
        .trim();
    let mut offset = 0;
    for line in source.get(..start)?.split_inclusive('\n') {
        if line.split(']').next().map(str::trim) == Some(header) {
            return Some(offset..offset + line.trim_end().len());
        }
        offset += line.len();
    }
    None
}
