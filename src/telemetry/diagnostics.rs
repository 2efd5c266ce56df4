//! Messages about the program itself, one line each on standard error. They are queued like every other line: a
//! reader that has stopped must not stop a worker.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::repeats::{Repeats, tell_left_out};
use super::writer::{LineWriter, Sink};
use crate::clock::Clock;

/// Why there are no diagnostics.
#[derive(Debug, thiserror::Error)]
pub enum DiagnosticsError {
    #[error("the log level is not a filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("no thread for log lines: {0}")]
    Thread(#[from] io::Error),
}

/// Held by whoever runs the program: when it is dropped, what was said is written.
#[derive(Debug)]
#[must_use = "dropped at once, it flushes before anything was said"]
pub struct Diagnostics {
    writer: LineWriter,
}

impl Diagnostics {
    /// For counting lost lines.
    pub const fn writer(&self) -> &LineWriter {
        &self.writer
    }
}

impl Drop for Diagnostics {
    fn drop(&mut self) {
        tell_left_out(true);
        self.writer.flush();
    }
}

/// Sends events that pass the filter `level` (`debug`, `info,doorward=debug`) to standard error. A level alone is for our
/// own messages: below `info`, what libraries say of what they read is asked for by their name. Of one kind there are a
/// hundred at once and then one a second. The first call of a process counts; later ones only check their filter.
pub fn init(level: &str) -> Result<Diagnostics, DiagnosticsError> {
    let filter = match level {
        "debug" | "trace" => EnvFilter::try_new(format!("info,doorward={level}"))?,
        level => EnvFilter::try_new(level)?,
    };
    let writer = LineWriter::open(&Sink::Stderr)?;
    let ansi = io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        // It would print to a standard error that may be closed, and panic.
        .log_internal_errors(false)
        .with_writer(Events {
            writer: writer.clone(),
            ansi,
        })
        .finish()
        .with(Repeats::new(Clock::system()));
    match subscriber.try_init() {
        Ok(()) => Ok(Diagnostics { writer }),
        Err(_) => Ok(Diagnostics {
            writer: LineWriter::off(),
        }),
    }
}

#[derive(Debug)]
struct Events {
    writer: LineWriter,
    ansi: bool,
}

impl<'a> MakeWriter<'a> for Events {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Event<'a> {
        Event(self)
    }
}

/// Takes one event in one call, which is how the subscriber writes it.
#[derive(Debug)]
struct Event<'a>(&'a Events);

impl Write for Event<'_> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.writer.write(one_line(event, self.0.ansi));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The event as exactly one line: control characters within it are spelled out. On a terminal the escape character
/// stays, since colours are made of it; the subscriber spells it out in values.
fn one_line(event: &[u8], ansi: bool) -> Vec<u8> {
    let event = event.strip_suffix(b"\n").unwrap_or(event);
    let mut line = Vec::with_capacity(event.len() + 1);
    for &byte in event {
        if byte.is_ascii_control() && !(ansi && byte == 0x1b) {
            line.extend(byte.escape_ascii());
        } else {
            line.push(byte);
        }
    }
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diagnostics_can_be_asked_for_twice() {
        let first = init("info").unwrap();
        let second = init("doorward=debug,info").unwrap();
        assert!(!(first.writer().enabled() && second.writer().enabled()));
    }

    #[test]
    fn what_is_no_filter_is_an_error() {
        let error = init("doorward=loud").unwrap_err();
        assert!(matches!(error, DiagnosticsError::Filter(_)), "{error}");
    }

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        assert_eq!(
            one_line(b"INFO a\r\nERROR forged\x1b[2J\0\n", false),
            b"INFO a\\r\\nERROR forged\\x1b[2J\\x00\n"
        );
        assert_eq!(
            one_line(b"\x1b[32mINFO\x1b[0m a\nb\n", true),
            b"\x1b[32mINFO\x1b[0m a\\nb\n"
        );
        assert_eq!(one_line("é\n".as_bytes(), false), "é\n".as_bytes());
    }

    #[test]
    fn events_reach_the_writer_through_the_subscriber() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("diagnostics");
        let writer = LineWriter::open(&Sink::File(path.clone())).unwrap();
        let events = Events {
            writer: writer.clone(),
            ansi: false,
        };
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_writer(events)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "doorward", route = "wiki", "said\nin two lines");
        });
        writer.flush();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text, " INFO doorward: said\\nin two lines route=\"wiki\"\n");
    }
}
