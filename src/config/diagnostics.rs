//! What is wrong with a file, and where: every error with its line, column, key and a way out. It knows text and
//! spans; it does not know what a configuration means.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    /// From 1; 0 where the file could not be read at all.
    pub line: usize,
    /// From 1, in characters, as editors count.
    pub column: usize,
    /// As a reader would look for it: `session.idle_timeout`. Empty for errors of syntax.
    pub key: String,
    pub message: String,
    pub help: Option<String>,
    /// Bytes of the file.
    pub span: Range<usize>,
    /// The other place, where two do not fit together, and what it has to do with it.
    pub other: Option<(Range<usize>, String)>,
}

/// Everything that is wrong with one file, in the order of the file.
///
/// `Display` is plain text for logs and pipes; [`ConfigErrors::styled`] is for terminals.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigErrors {
    file: PathBuf,
    /// With secrets blotted out: it is quoted in messages.
    source: String,
    errors: Vec<ConfigError>,
}

/// The longest part of a line that is quoted, in characters.
const WIDEST: usize = 160;

impl ConfigErrors {
    /// Sorts `errors` by place; `source` is what they quote.
    pub(super) fn new(file: &Path, source: String, mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by(|a, b| {
            (a.span.start, a.span.end, &a.key).cmp(&(b.span.start, b.span.end, &b.key))
        });
        errors.dedup();
        Self {
            file: file.to_owned(),
            source,
            errors,
        }
    }

    /// There is no text to look for errors in.
    pub fn unreadable(file: &Path, error: &io::Error) -> Self {
        let help = match error.kind() {
            io::ErrorKind::NotFound => format!("{NO_FILE}\n\n{MINIMAL}"),
            io::ErrorKind::InvalidData => "save it as UTF-8".to_owned(),
            io::ErrorKind::PermissionDenied => "let the user that runs doorward read it".to_owned(),
            _ => "name a file with --config FILE".to_owned(),
        };
        let error = ConfigError {
            line: 0,
            column: 0,
            key: String::new(),
            message: format!("cannot be read: {error}"),
            help: Some(help),
            span: 0..0,
            other: None,
        };
        Self::new(file, String::new(), vec![error])
    }

    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// As `Display`, drawn with colours for a terminal. Print it through `anstream`, which takes the colours off
    /// again where nobody would see them.
    pub fn styled(&self) -> String {
        let mut text = String::new();
        for error in &self.errors {
            text.push_str(&self.draw(error));
            text.push_str("\n\n");
        }
        text.push_str(&self.summary());
        text
    }

    fn draw(&self, error: &ConfigError) -> String {
        let file = self.file.display().to_string();
        let title = Level::ERROR.primary_title(title(error));
        let help = error.help.as_deref().map(|help| Level::HELP.message(help));
        let group = if error.line == 0 {
            title.element(annotate_snippets::Origin::path(file))
        } else {
            let other = error.other.as_ref().map(|(span, label)| {
                let span = self.first_line(span);
                AnnotationKind::Context.span(span).label(label.as_str())
            });
            let place = AnnotationKind::Primary.span(self.first_line(&error.span));
            title.element(
                Snippet::source(self.source.as_str())
                    .path(file)
                    .annotation(place)
                    .annotations(other),
            )
        };
        Renderer::styled().render(&[group.elements(help)])
    }

    /// The part of a span that lies on its first line.
    fn first_line(&self, span: &Range<usize>) -> Range<usize> {
        let quoted = self.source.get(span.clone()).unwrap_or_default();
        let len = quoted.find('\n').unwrap_or(quoted.len());
        span.start..span.start + len
    }

    fn summary(&self) -> String {
        match self.errors.len() {
            1 => format!("1 error in {}", self.file.display()),
            n => format!("{n} errors in {}", self.file.display()),
        }
    }

    fn write_error(&self, f: &mut fmt::Formatter<'_>, error: &ConfigError) -> fmt::Result {
        let file = self.file.display();
        if error.line == 0 {
            writeln!(f, "{file}: {}", error.message)?;
        } else {
            writeln!(
                f,
                "{file}:{}:{}: {}",
                error.line,
                error.column,
                title(error)
            )?;
            self.write_excerpt(f, &error.span, '^', "")?;
            if let Some((span, label)) = &error.other {
                self.write_excerpt(f, span, '-', label)?;
            }
        }
        match &error.help {
            Some(help) => writeln!(f, "  help: {help}"),
            None => Ok(()),
        }
    }

    /// The line that holds a span, and a mark under it.
    fn write_excerpt(
        &self,
        f: &mut fmt::Formatter<'_>,
        span: &Range<usize>,
        mark: char,
        label: &str,
    ) -> fmt::Result {
        let (line, column) = place(&self.source, span.start);
        let text = self.source.lines().nth(line - 1).unwrap_or_default();
        // Of a very long line, the part around the place.
        let skipped =
            column.saturating_sub(WIDEST / 2) * usize::from(text.chars().count() > WIDEST);
        let shown = text.chars().skip(skipped).take(WIDEST);
        let shown: String = shown
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let before = column - 1 - skipped;
        let quoted = self.source.get(self.first_line(span)).unwrap_or_default();
        let width = quoted
            .chars()
            .count()
            .clamp(1, WIDEST.saturating_sub(before).max(1));
        let marks = mark.to_string().repeat(width);
        writeln!(f, "{}", format!("{line:>5} | {shown}").trim_end())?;
        let under = format!("      | {}{marks} {label}", " ".repeat(before));
        writeln!(f, "{}", under.trim_end())
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.errors {
            self.write_error(f, error)?;
            writeln!(f)?;
        }
        f.write_str(&self.summary())
    }
}

impl std::error::Error for ConfigErrors {}

fn title(error: &ConfigError) -> String {
    match error.key.as_str() {
        "" => error.message.clone(),
        key => format!("{key}: {}", error.message),
    }
}

/// Line and column of a byte, both from 1. Columns count characters.
pub(super) fn place(source: &str, at: usize) -> (usize, usize) {
    let before = source.get(..at).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}

const NO_FILE: &str = "`doorward demo` shows a running proxy without any file; \
    this is enough to begin with one of your own:";

/// The smallest configuration that serves an app; `doorward cert` makes the two files it names.
pub const MINIMAL: &str = r#"[server]
listen = "127.0.0.1:8443"

[tls]
certificates = [{ cert = "certs/site.pem", key = "certs/site.key" }]

[[provider]]
id = "local"
type = "local"
users = "users.toml"

[[route]]
host = "localhost"
access = "user"
upstream = "http://127.0.0.1:3000""#;

#[cfg(test)]
mod tests {
    use super::*;

    fn error(source: &str, span: Range<usize>) -> ConfigError {
        let (line, column) = place(source, span.start);
        ConfigError {
            line,
            column,
            key: "a.b".to_owned(),
            message: "wrong".to_owned(),
            help: Some("right".to_owned()),
            span,
            other: None,
        }
    }

    #[test]
    fn columns_count_characters_and_lines_begin_at_one() {
        let text = "a\n\u{fc}\u{fc}b\n";
        assert_eq!(place(text, 0), (1, 1));
        assert_eq!(place(text, 2), (2, 1));
        assert_eq!(place(text, 6), (2, 3));
        assert_eq!(place(text, 7), (2, 4));
        assert_eq!(place(text, 99), (3, 1));
    }

    #[test]
    fn errors_come_in_the_order_of_the_file() {
        let text = "x = 1\ny = 2\n";
        let errors = vec![error(text, 6..7), error(text, 0..1)];
        let errors = ConfigErrors::new(Path::new("f.toml"), text.to_owned(), errors);
        let lines: Vec<_> = errors.errors().iter().map(|error| error.line).collect();
        assert_eq!(lines, [1, 2]);
        assert!(errors.to_string().starts_with("f.toml:1:1: a.b: wrong\n"));
        assert!(errors.to_string().ends_with("2 errors in f.toml"));
    }

    #[test]
    fn a_very_long_line_is_quoted_in_part() {
        let text = format!("{}X{}", "a".repeat(1000), "b".repeat(1000));
        let errors = vec![error(&text, 1000..1001)];
        let shown = ConfigErrors::new(Path::new("f.toml"), text, errors).to_string();
        assert!(shown.lines().all(|line| line.len() < WIDEST + 20));
        let lines: Vec<_> = shown.lines().collect();
        let caret = lines[2].find('^').unwrap();
        assert_eq!(lines[1].chars().nth(caret), Some('X'));
    }

    #[test]
    fn a_terminal_gets_colours_and_the_same_place() {
        let text = "x = 1\n";
        let errors = vec![error(text, 0..1)];
        let shown = ConfigErrors::new(Path::new("f.toml"), text.to_owned(), errors).styled();
        assert!(shown.contains("\u{1b}["));
        assert!(shown.contains("f.toml:1:1"));
        assert!(shown.contains("a.b: wrong"));
    }

    #[test]
    fn a_file_that_is_not_there_is_named_with_a_way_out() {
        let missing =
            ConfigErrors::unreadable(Path::new("no/such.toml"), &io::ErrorKind::NotFound.into());
        let text = missing.to_string();
        assert!(text.starts_with("no/such.toml: cannot be read: "), "{text}");
        assert!(text.contains("doorward demo") && text.contains(MINIMAL));
    }
}
