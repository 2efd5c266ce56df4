//! One line for each request. Lines gather in a buffer of each worker and go to the writer in pieces, so a request
//! costs no system call. It is given no header, no query and no token, so it cannot log one.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Serialize, Serializer};

use super::writer::LineWriter;
use crate::clock::Timestamp;
use crate::wire::RequestId;

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AccessFormat {
    /// An object a line, with everything that [`AccessLine`] holds.
    Json,
    /// For eyes.
    #[default]
    Text,
}

/// One request that has been answered.
#[derive(Clone, Copy)]
pub struct AccessLine<'a> {
    /// When the answer ended.
    pub time: Timestamp,
    pub client: IpAddr,
    pub user: Option<&'a str>,
    pub sid: Option<&'a dyn Display>,
    pub method: &'a str,
    pub host: &'a str,
    /// Without the query: it may carry secrets.
    pub path: &'a str,
    pub status: u16,
    /// Bodies, in bytes.
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub duration: Duration,
    pub route: Option<&'a str>,
    pub request: RequestId,
    /// `h1` or `h2`.
    pub protocol: &'static str,
    /// Why the app gave no answer: `connect`, `timeout`, `exchange`.
    pub upstream_error: Option<&'static str>,
}

impl fmt::Debug for AccessLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLine")
            .field("request", &format_args!("{}", self.request))
            .field("method", &self.method)
            .field("host", &self.host)
            .field("path", &self.path)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// One worker's access log. Whoever owns it calls [`AccessLog::flush`] each [`crate::clock::TICK`].
#[derive(Debug)]
pub struct AccessLog {
    writer: LineWriter,
    format: AccessFormat,
    buffer: Mutex<Buffer>,
}

/// A buffer this long goes to the writer without waiting for a flush.
const FULL: usize = 32 * 1024;

/// The longest that one value may be in a line, in bytes; what is cut off is replaced by an ellipsis.
const LONGEST_NAME: usize = 256;
const LONGEST_PATH: usize = 2048;

impl AccessLog {
    pub fn new(writer: LineWriter, format: AccessFormat) -> Self {
        Self {
            writer,
            format,
            buffer: Mutex::default(),
        }
    }

    pub const fn enabled(&self) -> bool {
        self.writer.enabled()
    }

    pub fn record(&self, line: &AccessLine<'_>) {
        if !self.enabled() {
            return;
        }
        let mut buffer = self.buffer.lock();
        buffer.append(line, self.format);
        if buffer.lines.len() >= FULL {
            self.writer.write(std::mem::take(&mut buffer.lines));
        }
    }

    /// Hands over what has gathered. It waits for nothing.
    pub fn flush(&self) {
        let lines = std::mem::take(&mut self.buffer.lock().lines);
        self.writer.write(lines);
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

#[derive(Debug, Default)]
struct Buffer {
    lines: Vec<u8>,
    stamp: Stamp,
}

impl Buffer {
    fn append(&mut self, line: &AccessLine<'_>, format: AccessFormat) {
        let start = self.lines.len();
        let time = self.stamp.at(line.time);
        let written = match format {
            AccessFormat::Json => json(&mut self.lines, time, line).map_err(Into::into),
            AccessFormat::Text => text(&mut self.lines, time, line),
        };
        match written {
            Ok(()) => self.lines.push(b'\n'),
            Err(error) => {
                self.lines.truncate(start);
                tracing::error!(%error, "an access line could not be written");
            }
        }
    }
}

/// The last second that was formatted. Most lines share theirs with the line before.
#[derive(Debug, Default)]
struct Stamp {
    second: Option<u64>,
    /// `2026-11-25T19:03:26`, or something shorter for a time that no calendar holds.
    text: String,
}

impl Stamp {
    const LEN: usize = 19;

    fn at(&mut self, time: Timestamp) -> Moment<'_> {
        if self.second != Some(time.as_secs()) {
            self.second = Some(time.as_secs());
            self.text = time.to_string();
            self.text.truncate(Self::LEN);
        }
        Moment {
            seconds: &self.text,
            millis: time.as_millis() % 1000,
        }
    }
}

#[derive(Clone, Copy)]
struct Moment<'a> {
    seconds: &'a str,
    millis: u64,
}

impl Display for Moment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds.len() {
            Stamp::LEN => write!(f, "{}.{:03}Z", self.seconds, self.millis),
            _ => f.write_str(self.seconds),
        }
    }
}

/// `2026-11-25T19:03:26.123Z 200 GET  wiki.example.com/page 12ms 1.4KiB alice 10.0.0.7 00c0ffee00c0ffee`
fn text(out: &mut Vec<u8>, time: Moment<'_>, line: &AccessLine<'_>) -> std::io::Result<()> {
    write!(
        out,
        "{time} {} {:<4} {}{} {} {} {} {} {}",
        line.status,
        Plain(&clipped(line.method, LONGEST_NAME)),
        Plain(&clipped(or_dash(line.host), LONGEST_NAME)),
        Plain(&clipped(line.path, LONGEST_PATH)),
        Took(line.duration),
        Size(line.bytes_out),
        Plain(&clipped(
            or_dash(line.user.unwrap_or_default()),
            LONGEST_NAME
        )),
        line.client,
        line.request,
    )?;
    match line.upstream_error {
        Some(kind) => write!(out, " upstream:{kind}"),
        None => Ok(()),
    }
}

/// Text in which spaces, quotes, backslashes and whatever steers a terminal are spelled out (`\x20`, `\u{202e}`), so
/// that a value is one word of one line.
struct Plain<'a>(&'a str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let odd = |c: char| c.is_whitespace() || steers(c) || matches!(c, '"' | '\'' | '\\');
        if !self.0.contains(odd) {
            return f.pad(self.0);
        }
        for c in self.0.chars() {
            match c {
                c if !odd(c) => fmt::Write::write_char(f, c)?,
                c if c.is_ascii() => write!(f, "\\x{:02x}", u32::from(c))?,
                c => write!(f, "{}", c.escape_unicode())?,
            }
        }
        Ok(())
    }
}

/// Control characters, and what is invisible or turns the direction of what follows.
fn steers(c: char) -> bool {
    let unseen = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    c.is_control() || unseen
}

fn clipped(text: &str, longest: usize) -> Cow<'_, str> {
    match text.get(..text.floor_char_boundary(longest)) {
        Some(start) if start.len() < text.len() => Cow::Owned(format!("{start}…")),
        _ => Cow::Borrowed(text),
    }
}

/// A word in place of nothing, so that the columns hold.
const fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

struct Took(Duration);

impl Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            0 => write!(f, "{}us", self.0.as_micros()),
            millis @ 1..10_000 => write!(f, "{millis}ms"),
            _ => write!(f, "{:.1}s", self.0.as_secs_f64()),
        }
    }
}

struct Size(u64);

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        if self.0 < 1024 {
            return write!(f, "{}B", self.0);
        }
        // Tenths of the unit, counted in integers: no figure is rounded up to 1024.0.
        let mut tenths = u128::from(self.0) * 10 / 1024;
        let mut units = UNITS.iter();
        let mut unit = units.next();
        while tenths >= 10_240
            && let Some(larger) = units.next()
        {
            tenths /= 1024;
            unit = Some(larger);
        }
        write!(f, "{}.{}{}", tenths / 10, tenths % 10, unit.unwrap_or(&"B"))
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: Shown<'a>,
    status: u16,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<Shown<'a>>,
    client: IpAddr,
    protocol: &'static str,
    bytes_in: u64,
    bytes_out: u64,
    duration_us: u128,
    request_id: Shown<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_error: Option<&'static str>,
}

struct Shown<'a>(&'a dyn Display);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

fn json(out: &mut Vec<u8>, time: Moment<'_>, line: &AccessLine<'_>) -> serde_json::Result<()> {
    let user = line.user.map(|user| clipped(user, LONGEST_NAME));
    let json = JsonLine {
        time: Shown(&time),
        status: line.status,
        method: &clipped(line.method, LONGEST_NAME),
        host: &clipped(line.host, LONGEST_NAME),
        path: &clipped(line.path, LONGEST_PATH),
        route: line.route,
        user: user.as_deref(),
        sid: line.sid.map(Shown),
        client: line.client,
        protocol: line.protocol,
        bytes_in: line.bytes_in,
        bytes_out: line.bytes_out,
        duration_us: line.duration.as_micros(),
        request_id: Shown(&line.request),
        upstream_error: line.upstream_error,
    };
    json.serialize(&mut serde_json::Serializer::with_formatter(out, PlainJson))
}

/// JSON on one line that is also safe to look at: what JSON lets through and a terminal obeys is spelled out.
struct PlainJson;

impl serde_json::ser::Formatter for PlainJson {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> std::io::Result<()> {
        if !text.contains(steers) {
            return out.write_all(text.as_bytes());
        }
        for c in text.chars() {
            let mut utf16 = [0; 2];
            if steers(c) {
                for unit in c.encode_utf16(&mut utf16) {
                    write!(out, "\\u{unit:04x}")?;
                }
            } else {
                write!(out, "{c}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::writer::Sink;
    use super::*;
    use crate::wire::RequestIds;

    const TIME: Timestamp = Timestamp::from_millis(1_795_633_406_123);

    fn line(request: RequestId) -> AccessLine<'static> {
        AccessLine {
            time: TIME,
            client: IpAddr::from([10, 0, 0, 7]),
            user: Some("alice"),
            sid: Some(&"0190-sid"),
            method: "GET",
            host: "wiki.example.com",
            path: "/page",
            status: 200,
            bytes_in: 0,
            bytes_out: 1500,
            duration: Duration::from_micros(12_345),
            route: Some("wiki"),
            request,
            protocol: "h2",
            upstream_error: None,
        }
    }

    fn formatted(line: &AccessLine<'_>, format: AccessFormat) -> String {
        let mut buffer = Buffer::default();
        buffer.append(line, format);
        String::from_utf8(buffer.lines).unwrap()
    }

    #[test]
    fn a_line_of_text_reads_at_a_glance() {
        let id = RequestIds::default().next();
        let full = line(id);
        assert_eq!(
            formatted(&full, AccessFormat::Text),
            format!(
                "2026-11-25T19:03:26.123Z 200 GET  wiki.example.com/page 12ms 1.4KiB alice 10.0.0.7 {id}\n"
            )
        );
        let failed = AccessLine {
            user: None,
            method: "POST",
            status: 502,
            upstream_error: Some("connect"),
            ..full
        };
        assert_eq!(
            formatted(&failed, AccessFormat::Text),
            format!(
                "2026-11-25T19:03:26.123Z 502 POST wiki.example.com/page 12ms 1.4KiB - 10.0.0.7 {id} upstream:connect\n"
            )
        );
    }

    #[test]
    fn a_line_of_json_holds_everything() {
        let id = RequestIds::default().next();
        let expected = format!(
            concat!(
                r#"{{"time":"2026-11-25T19:03:26.123Z","status":200,"method":"GET","host":"wiki.example.com","#,
                r#""path":"/page","route":"wiki","user":"alice","sid":"0190-sid","client":"10.0.0.7","#,
                r#""protocol":"h2","bytes_in":0,"bytes_out":1500,"duration_us":12345,"request_id":"{}"}}"#,
                "\n"
            ),
            id
        );
        assert_eq!(formatted(&line(id), AccessFormat::Json), expected);
    }

    #[test]
    fn nothing_in_a_value_can_forge_a_line_or_steer_a_terminal() {
        let id = RequestIds::default().next();
        let hostile = AccessLine {
            user: Some("bob\" \u{1b}[2J\u{202e}\u{9b}\u{7f}é"),
            path: "/a\r\n2026-11-25T19:03:26.123Z 200\\'",
            ..line(id)
        };
        assert_eq!(
            formatted(&hostile, AccessFormat::Text).as_bytes(),
            format!(
                concat!(
                    "2026-11-25T19:03:26.123Z 200 GET  wiki.example.com",
                    r"/a\x0d\x0a2026-11-25T19:03:26.123Z\x20200\x5c\x27 12ms 1.4KiB ",
                    r"bob\x22\x20\x1b[2J\u{{202e}}\u{{9b}}\x7fé 10.0.0.7 {}",
                    "\n"
                ),
                id
            )
            .as_bytes()
        );
        let json = formatted(&hostile, AccessFormat::Json);
        assert!(
            json.contains(r#""user":"bob\" \u001b[2J\u202e\u009b\u007fé""#),
            "{json}"
        );
        assert!(
            json.contains(r#""path":"/a\r\n2026-11-25T19:03:26.123Z 200\\'""#),
            "{json}"
        );
        let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(parsed["user"], hostile.user.unwrap());
        assert_eq!(parsed["path"], hostile.path);
    }

    #[test]
    fn a_value_cannot_make_a_line_without_end() {
        let path = "/é".repeat(20_000);
        let user = "u".repeat(10_000);
        let long = AccessLine {
            path: &path,
            user: Some(&user),
            ..line(RequestIds::default().next())
        };
        for format in [AccessFormat::Json, AccessFormat::Text] {
            let text = formatted(&long, format);
            assert!(text.len() < 3_000, "{}", text.len());
            assert!(text.contains('…'));
        }
    }

    #[test]
    fn the_cached_second_never_shows_in_another() {
        let mut stamp = Stamp::default();
        for millis in [
            TIME.as_millis(),
            1_795_633_406_999,
            1_795_633_407_000,
            1_795_633_407_005,
            0,
            7,
            u64::MAX,
        ] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(stamp.at(time).to_string(), time.to_string());
            assert_eq!(stamp.at(time).to_string(), time.to_string());
        }
    }

    #[test]
    fn spans_and_sizes_read_well_at_every_scale() {
        for (span, expected) in [
            (Duration::ZERO, "0us"),
            (Duration::from_micros(999), "999us"),
            (Duration::from_millis(1), "1ms"),
            (Duration::from_millis(9_999), "9999ms"),
            (Duration::from_secs(10), "10.0s"),
        ] {
            assert_eq!(Took(span).to_string(), expected);
        }
        for (bytes, expected) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0KiB"),
            (1024 * 1024 - 1, "1023.9KiB"),
            (1024 * 1024, "1.0MiB"),
            (u64::MAX, "16777215.9TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), expected);
        }
    }

    #[test]
    fn lines_reach_the_file_when_the_buffer_is_full_or_flushed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let lines = || std::fs::read_to_string(&path).unwrap().lines().count();
        let writer = LineWriter::open(&Sink::File(path.clone())).unwrap();
        let log = AccessLog::new(writer.clone(), AccessFormat::Text);
        let line = line(RequestIds::default().next());
        log.record(&line);
        writer.flush();
        assert_eq!(lines(), 0, "it waits in the worker's buffer");
        log.flush();
        writer.flush();
        assert_eq!(lines(), 1);
        for _ in 0..1000 {
            log.record(&line);
        }
        writer.flush();
        assert!(lines() > 300, "full buffers went by themselves");
        drop(log);
        writer.flush();
        assert_eq!(lines(), 1001);
    }

    #[test]
    fn a_log_that_is_off_formats_nothing() {
        let log = AccessLog::new(LineWriter::off(), AccessFormat::Json);
        log.record(&line(RequestIds::default().next()));
        assert!(!log.enabled());
        assert_eq!(log.buffer.lock().lines, b"");
        assert_eq!(log.buffer.lock().stamp.second, None);
    }

    proptest! {
        #[test]
        fn every_request_is_one_line_of_nine_words_and_valid_json(
            user in ".*",
            path in "\\PC*",
            odd in any::<String>(),
        ) {
            let line = AccessLine {
                user: Some(&user),
                path: &path,
                host: &odd,
                ..line(RequestIds::default().next())
            };
            let text = formatted(&line, AccessFormat::Text);
            prop_assert_eq!(text.find('\n'), Some(text.len() - 1));
            prop_assert_eq!(text.split_whitespace().count(), 9);
            let json = formatted(&line, AccessFormat::Json);
            let one_line = json.ends_with("}\n") && json.matches('\n').count() == 1;
            prop_assert!(one_line);
            let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(parsed["user"].as_str().unwrap(), &*clipped(&user, LONGEST_NAME));
        }
    }
}
