//! What lines are written to: a standard stream, or a file that follows its path when a log is rotated. It does not
//! queue and does not know what the bytes say.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

/// How often a file is compared with its path.
const MOVED_INTERVAL: Duration = Duration::from_secs(1);

/// One system call's worth of writing, the part that tests replace.
pub(super) trait Output: std::fmt::Debug + Send {
    fn write(&mut self, now: Instant, bytes: &[u8]) -> io::Result<usize>;

    /// What a message about a failure calls it; `None` where such a message would itself go there.
    fn name(&self) -> Option<String>;
}

#[derive(Debug)]
pub(super) enum StandardStream {
    Stderr,
    Stdout,
}

impl Output for StandardStream {
    fn write(&mut self, _now: Instant, bytes: &[u8]) -> io::Result<usize> {
        // In one call, so that two logs on one stream do not cut each other's lines.
        match self {
            Self::Stderr => io::stderr().write(bytes),
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                let written = stdout.write(bytes)?;
                stdout.flush()?;
                Ok(written)
            }
        }
    }

    fn name(&self) -> Option<String> {
        match self {
            Self::Stderr => None,
            Self::Stdout => Some("standard output".to_owned()),
        }
    }
}

/// A file that follows its path.
#[derive(Debug)]
pub(super) struct Appended {
    path: PathBuf,
    file: File,
    /// The (device, inode) of `file`.
    id: (u64, u64),
    checked: Option<Instant>,
}

impl Appended {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)?;
        let metadata = file.metadata()?;
        Ok(Self {
            path,
            file,
            id: (metadata.dev(), metadata.ino()),
            checked: None,
        })
    }

    /// Opens the path again where it no longer leads to our file. Where that fails the old file goes on: lines in a
    /// moved file are better than none.
    fn follow_path(&mut self, now: Instant) {
        let due = |checked: Instant| now.duration_since(checked) >= MOVED_INTERVAL;
        if !self.checked.is_none_or(due) {
            return;
        }
        self.checked = Some(now);
        let there = std::fs::metadata(&self.path).map(|there| (there.dev(), there.ino()));
        if there.is_ok_and(|id| id == self.id) {
            return;
        }
        if let Ok(mut opened) = Self::open(self.path.clone()) {
            opened.checked = self.checked;
            *self = opened;
        }
    }
}

impl Output for Appended {
    fn write(&mut self, now: Instant, bytes: &[u8]) -> io::Result<usize> {
        self.follow_path(now);
        self.file.write(bytes)
    }

    fn name(&self) -> Option<String> {
        Some(self.path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew_within_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let mut output = Appended::open(path.clone()).unwrap();
        let start = Instant::now();
        output.write(start, b"one\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        output
            .write(start + Duration::from_millis(999), b"two\n")
            .unwrap();
        output
            .write(start + Duration::from_secs(1), b"three\n")
            .unwrap();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");

        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "made by somebody else\n").unwrap();
        output
            .write(start + Duration::from_secs(2), b"four\n")
            .unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "made by somebody else\nfour\n"
        );
    }

    #[test]
    fn where_the_path_cannot_be_opened_the_moved_file_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, moved) = (folder.path().join("logs"), folder.path().join("old"));
        std::fs::create_dir(&inner).unwrap();
        let mut output = Appended::open(inner.join("log")).unwrap();
        std::fs::rename(&inner, &moved).unwrap();
        output.write(Instant::now(), b"one\n").unwrap();
        assert_eq!(std::fs::read_to_string(moved.join("log")).unwrap(), "one\n");
    }
}
