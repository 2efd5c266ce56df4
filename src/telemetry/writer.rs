//! Lines on their way to a file or a standard stream, written by a thread of their own, so that a slow disk or a
//! stopped reader delays no request. It does not know what the lines say.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use super::output::{Appended, Output, StandardStream};

/// Where lines go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sink {
    Off,
    /// Appended to; made with mode 0600; opened anew when it was moved away.
    File(PathBuf),
    Stderr,
    Stdout,
}

/// How long [`LineWriter::flush`] and the drop of the last clone wait for what is queued.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// Chunks are joined up to this size for one system call.
const BATCH: usize = 64 * 1024;

/// A queue of whole lines. Cloning is cheap; all clones share one queue.
#[derive(Clone, Debug)]
pub struct LineWriter(Option<Arc<Handle>>);

impl LineWriter {
    /// A writer that forgets everything.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Opens the sink and starts its thread. Fails where the file cannot be opened for appending.
    pub fn open(sink: &Sink) -> io::Result<Self> {
        let output: Box<dyn Output> = match sink {
            Sink::Off => return Ok(Self::off()),
            Sink::File(path) => Box::new(Appended::open(path.clone())?),
            Sink::Stderr => Box::new(StandardStream::Stderr),
            Sink::Stdout => Box::new(StandardStream::Stdout),
        };
        Self::start(output, Limits::default())
    }

    fn start(output: Box<dyn Output>, limits: Limits) -> io::Result<Self> {
        let queue = Arc::new(Queue {
            limits,
            ..Queue::default()
        });
        let scribe = Scribe {
            queue: Arc::clone(&queue),
            output,
            failing: false,
            torn: false,
        };
        std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || scribe.run())?;
        Ok(Self(Some(Arc::new(Handle { queue }))))
    }

    pub const fn enabled(&self) -> bool {
        self.0.is_some()
    }

    /// Queues whole lines, each with its line feed. Never waits: where the queue is full they are counted as lost.
    pub fn write(&self, lines: Vec<u8>) {
        if let Some(handle) = &self.0 {
            handle.queue.push(lines);
        }
    }

    /// Lines that were not written since the start.
    pub fn lost(&self) -> u64 {
        self.lost_count()
            .map_or(0, |lost| lost.load(Ordering::Relaxed))
    }

    pub(super) fn lost_count(&self) -> Option<&Arc<AtomicU64>> {
        self.0.as_ref().map(|handle| &handle.queue.lost)
    }

    /// Waits until what was queued before has been written or has failed, at most two seconds. It blocks its thread:
    /// for the end of a process, not for a worker at work.
    pub fn flush(&self) {
        if let Some(handle) = &self.0 {
            handle.queue.wait_written();
        }
    }
}

/// What the clones share; the thread has only the queue, so the last clone that goes ends it.
#[derive(Debug)]
struct Handle {
    queue: Arc<Queue>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[derive(Debug)]
struct Limits {
    chunks: usize,
    bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            chunks: 8 * 1024,
            bytes: 8 * 1024 * 1024,
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    limits: Limits,
    state: Mutex<State>,
    /// Something for the thread to do.
    arrived: Condvar,
    /// The thread has done some of it.
    written: Condvar,
    lost: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Chunks ever accepted, and ever finished with.
    accepted: u64,
    finished: u64,
    /// Lost lines that no written line tells of yet.
    untold: u64,
    closed: bool,
    ended: bool,
}

impl Queue {
    fn push(&self, chunk: Vec<u8>) {
        if chunk.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let bytes = state.bytes.saturating_add(chunk.len());
        if state.chunks.len() >= self.limits.chunks || bytes > self.limits.bytes {
            self.lose(&mut state, count_lines(&chunk));
            return;
        }
        state.bytes = bytes;
        state.accepted += 1;
        state.chunks.push_back(chunk);
        drop(state);
        self.arrived.notify_one();
    }

    fn lose(&self, state: &mut State, lines: u64) {
        state.untold = state.untold.saturating_add(lines);
        self.lost.fetch_add(lines, Ordering::Relaxed);
    }

    fn wait_written(&self) {
        let mut state = self.state.lock();
        let goal = state.accepted;
        let waiting = |state: &mut State| state.finished < goal && !state.ended;
        self.written
            .wait_while_for(&mut state, waiting, FLUSH_TIMEOUT);
    }

    fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.arrived.notify_one();
        self.written
            .wait_while_for(&mut state, |state| !state.ended, FLUSH_TIMEOUT);
    }

    /// Waits for chunks and joins some of them in `batch`. `None` when there will be no more.
    fn take(&self, batch: &mut Vec<u8>) -> Option<Taken> {
        batch.clear();
        let mut state = self.state.lock();
        self.arrived
            .wait_while(&mut state, |state| state.chunks.is_empty() && !state.closed);
        let mut chunks = 0;
        while batch.len() < BATCH
            && let Some(chunk) = state.chunks.pop_front()
        {
            state.bytes -= chunk.len();
            chunks += 1;
            batch.extend_from_slice(&chunk);
        }
        // Lines are lost after what was in the full queue: the note about them comes when that has been taken.
        let untold = if state.chunks.is_empty() {
            std::mem::take(&mut state.untold)
        } else {
            0
        };
        (chunks > 0 || untold > 0).then_some(Taken { chunks, untold })
    }

    fn finish(&self, chunks: u64, failed_lines: u64, still_untold: u64) {
        let mut state = self.state.lock();
        state.finished += chunks;
        self.lose(&mut state, failed_lines);
        state.untold = state.untold.saturating_add(still_untold);
        drop(state);
        self.written.notify_all();
    }

    fn end(&self) {
        self.state.lock().ended = true;
        self.written.notify_all();
    }
}

struct Taken {
    chunks: u64,
    untold: u64,
}

/// The thread that writes.
struct Scribe {
    queue: Arc<Queue>,
    output: Box<dyn Output>,
    /// The last write failed; the next failure is no news.
    failing: bool,
    /// The last byte written was not the end of a line.
    torn: bool,
}

impl Scribe {
    fn run(mut self) {
        let mut batch = Vec::new();
        while let Some(taken) = self.queue.take(&mut batch) {
            let failed = self.write(&batch);
            let told = taken.untold == 0 || (failed == 0 && self.write(&note(taken.untold)) == 0);
            let still_untold = if told { 0 } else { taken.untold };
            self.queue.finish(taken.chunks, failed, still_untold);
            if !told && self.queue.state.lock().closed {
                break;
            }
        }
        self.queue.end();
    }

    /// Writes whole lines; returns how many of them were not written. A failure is never more than that: a full disk
    /// or a reader that left must not end the process.
    fn write(&mut self, lines: &[u8]) -> u64 {
        if lines.is_empty() {
            return 0;
        }
        let now = Instant::now();
        if self.torn {
            match self.output.write(now, b"\n") {
                Ok(_) => self.torn = false,
                Err(error) => return self.failed(lines, &error),
            }
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match self.output.write(now, rest) {
                Ok(0) => return self.failed(rest, &io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    let (done, left) = rest.split_at_checked(written).unwrap_or((rest, &[]));
                    self.torn = !done.ends_with(b"\n");
                    rest = left;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.failed(rest, &error),
            }
        }
        self.failing = false;
        0
    }

    fn failed(&mut self, rest: &[u8], error: &io::Error) -> u64 {
        // Once per outage; never about the stream that this very message would go to.
        if !self.failing
            && let Some(log) = self.output.name()
        {
            tracing::error!(log, %error, "log lines cannot be written");
        }
        self.failing = true;
        count_lines(rest)
    }
}

/// The line in place of lost ones. JSON in every log: readable to people and to the programs that read the others.
fn note(lines: u64) -> Vec<u8> {
    format!("{{\"event\":\"lines_lost\",\"lines\":{lines}}}\n").into_bytes()
}

/// A last line without its line feed is a line.
fn count_lines(bytes: &[u8]) -> u64 {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').count();
    u64::try_from(lines).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc;

    use super::*;

    /// Takes one answer per write from a test and shows what was written.
    #[derive(Debug)]
    struct Scripted {
        answers: mpsc::Receiver<io::Result<usize>>,
        seen: mpsc::Sender<Vec<u8>>,
    }

    type Script = (mpsc::Sender<io::Result<usize>>, mpsc::Receiver<Vec<u8>>);

    impl Output for Scripted {
        fn write(&mut self, _now: Instant, bytes: &[u8]) -> io::Result<usize> {
            self.seen.send(bytes.to_vec()).unwrap();
            let written = self.answers.recv().unwrap()?;
            Ok(written.min(bytes.len()))
        }

        fn name(&self) -> Option<String> {
            None
        }
    }

    fn scripted(limits: Limits) -> (LineWriter, Script) {
        let (answer, answers) = mpsc::channel();
        let (seen, sights) = mpsc::channel();
        let writer = LineWriter::start(Box::new(Scripted { answers, seen }), limits).unwrap();
        (writer, (answer, sights))
    }

    fn next(sights: &mpsc::Receiver<Vec<u8>>) -> String {
        let bytes = sights.recv_timeout(Duration::from_secs(10)).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    const ALL: io::Result<usize> = Ok(usize::MAX);

    #[test]
    fn what_does_not_fit_is_dropped_counted_and_told_of() {
        let (writer, (answer, sights)) = scripted(Limits {
            chunks: 2,
            bytes: 100,
        });
        writer.write(b"first\n".to_vec());
        assert_eq!(next(&sights), "first\n");
        // The thread now hangs in its write: two more fit, by count.
        writer.write(b"second\n".to_vec());
        writer.write(b"third\n".to_vec());
        writer.write(b"lost\nand lost\n".to_vec());
        writer.write(b"lost too".to_vec());
        assert_eq!(writer.lost(), 3);
        answer.send(ALL).unwrap();
        assert_eq!(next(&sights), "second\nthird\n");
        answer.send(ALL).unwrap();
        assert_eq!(next(&sights), "{\"event\":\"lines_lost\",\"lines\":3}\n");
        answer.send(ALL).unwrap();
        writer.flush();
        writer.write(b"after\n".to_vec());
        assert_eq!(next(&sights), "after\n");
        answer.send(ALL).unwrap();
    }

    #[test]
    fn the_queue_is_bounded_in_bytes_too() {
        let (writer, (answer, sights)) = scripted(Limits {
            chunks: 100,
            bytes: 10,
        });
        writer.write(b"0123456789\n".to_vec());
        assert_eq!(writer.lost(), 1, "larger than the whole queue");
        writer.write(b"01234567\n".to_vec());
        assert_eq!(next(&sights), "01234567\n");
        writer.write(b"01234\n".to_vec());
        writer.write(b"0123\n".to_vec());
        assert_eq!(writer.lost(), 2);
        for _ in 0..4 {
            answer.send(ALL).unwrap();
        }
    }

    #[test]
    fn a_failing_write_costs_its_lines_and_nothing_else() {
        let (writer, (answer, sights)) = scripted(Limits::default());
        writer.write(b"one\ntwo\n".to_vec());
        assert_eq!(next(&sights), "one\ntwo\n");
        answer.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        writer.flush();
        assert_eq!(writer.lost(), 2);
        writer.write(b"three\n".to_vec());
        assert_eq!(next(&sights), "three\n");
        answer.send(ALL).unwrap();
        assert_eq!(next(&sights), "{\"event\":\"lines_lost\",\"lines\":2}\n");
        answer.send(ALL).unwrap();
        writer.flush();
        assert_eq!(writer.lost(), 2);
    }

    #[test]
    fn a_line_that_was_cut_short_is_ended_before_the_next() {
        let (writer, (answer, sights)) = scripted(Limits::default());
        writer.write(b"whole\ncut short\n".to_vec());
        assert_eq!(next(&sights), "whole\ncut short\n");
        answer.send(Ok(9)).unwrap();
        assert_eq!(next(&sights), " short\n");
        answer.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        writer.flush();
        assert_eq!(writer.lost(), 1, "the line before it was written");
        writer.write(b"next\n".to_vec());
        assert_eq!(next(&sights), "\n");
        answer.send(ALL).unwrap();
        assert_eq!(next(&sights), "next\n");
        answer.send(ALL).unwrap();
        assert_eq!(next(&sights), "{\"event\":\"lines_lost\",\"lines\":1}\n");
        answer.send(ALL).unwrap();
    }

    #[test]
    fn an_interrupted_write_goes_on() {
        let (writer, (answer, sights)) = scripted(Limits::default());
        writer.write(b"one\n".to_vec());
        assert_eq!(next(&sights), "one\n");
        answer.send(Err(io::ErrorKind::Interrupted.into())).unwrap();
        assert_eq!(next(&sights), "one\n");
        answer.send(ALL).unwrap();
        writer.flush();
        assert_eq!(writer.lost(), 0);
    }

    #[test]
    fn the_last_clone_writes_what_is_queued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let writer = LineWriter::open(&Sink::File(path.clone())).unwrap();
        let clone = writer.clone();
        let mut expected = String::new();
        for number in 0..1000 {
            let line = format!("{number}\n");
            expected.push_str(&line);
            writer.write(line.into_bytes());
        }
        drop(writer);
        clone.write(b"last\n".to_vec());
        drop(clone);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, expected + "last\n");
    }

    #[test]
    fn a_new_file_is_for_its_owner_alone_and_an_old_one_is_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        for line in ["one\n", "two\n"] {
            let writer = LineWriter::open(&Sink::File(path.clone())).unwrap();
            writer.write(line.into());
            writer.flush();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_full_disk_ends_nothing() {
        let writer = LineWriter::open(&Sink::File("/dev/full".into())).unwrap();
        writer.write(b"one\n".to_vec());
        writer.flush();
        writer.write(b"two\n".to_vec());
        writer.flush();
        assert_eq!(writer.lost(), 2);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let error = LineWriter::open(&Sink::File(folder.path().join("no/such"))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_off_takes_nothing_and_loses_nothing() {
        let writer = LineWriter::open(&Sink::Off).unwrap();
        writer.write(b"one\n".to_vec());
        writer.flush();
        assert!(!writer.enabled());
        assert_eq!(writer.lost(), 0);
    }
}
