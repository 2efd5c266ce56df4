//! Sessions in one file, without a server: redb behind one writing and one reading thread.
//!
//! Changes are on the disk before they are answered (R6). It knows no other node: one process at a time has the file.

mod file;
mod reader;
mod rows;
mod snapshot;
mod tables;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use tokio::sync::broadcast;

use self::file::DataFile;
use self::reader::Reader;
use self::snapshot::{Page, Snapshot};
use self::writer::{Keep, Writer};
use super::{Creation, Invalidation, Rotation, SessionStore, StoreError, Update};
use crate::clock::Timestamp;
use crate::session::record::{Epoch, SessionRow, Stored, SubjectTag, Successor, TokenRow};
use crate::session::token::{Sid, TokenHash};

/// How many sessions one read of a list looks at, so that others get their turn.
const PAGE: usize = 256;

/// The store in a file.
///
/// Dropping it waits until everything is on the disk and the file is free again.
pub struct Embedded {
    path: PathBuf,
    /// `None` only while the store is dropped.
    threads: Option<Threads>,
}

struct Threads {
    reader: Reader,
    writer: Writer,
    handles: [JoinHandle<()>; 2],
}

impl Embedded {
    /// Opens or makes the file, mode 0600, and the folders above it.
    ///
    /// Fails where another process has the file, where it is no session file or damaged, and where a newer
    /// program wrote it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = Arc::new(DataFile::open(path)?);
        let (reader, reading) = Reader::start(Arc::clone(&file))?;
        let (writer, writing) = Writer::start(file)?;
        Ok(Self {
            path: path.to_owned(),
            threads: Some(Threads {
                reader,
                writer,
                handles: [reading, writing],
            }),
        })
    }

    fn threads(&self) -> Result<&Threads, StoreError> {
        self.threads.as_ref().ok_or_else(stopped)
    }

    /// Collects a list of `limit` rows from pages; `read` takes the sid to start after and how many to look at.
    async fn paged<F>(
        &self,
        after: Option<Sid>,
        limit: usize,
        read: F,
    ) -> Result<Vec<SessionRow>, StoreError>
    where
        F: Fn(&Snapshot, Option<Sid>, usize) -> Result<Page, file::Fault> + Copy + Send + 'static,
    {
        let reader = &self.threads()?.reader;
        let (mut rows, mut start) = (Vec::new(), after);
        while rows.len() < limit {
            let size = PAGE.min(limit - rows.len());
            let page = reader
                .run(move |snapshot| read(snapshot, start, size))
                .await?;
            rows.extend(page.rows);
            start = page.last;
            if start.is_none() {
                break;
            }
        }
        Ok(rows)
    }
}

#[async_trait]
impl SessionStore for Embedded {
    async fn create(&self, session: SessionRow, token: TokenRow) -> Result<Creation, StoreError> {
        let writer = &self.threads()?.writer;
        writer
            .run(Keep::Durably, move |tables| tables.create(session, &token))
            .await
    }

    async fn load(&self, hash: TokenHash) -> Result<Option<Stored>, StoreError> {
        self.threads()?
            .reader
            .run(move |snapshot| snapshot.load(hash))
            .await
    }

    async fn update(&self, session: SessionRow) -> Result<Update, StoreError> {
        let writer = &self.threads()?.writer;
        writer
            .run(Keep::Durably, move |tables| tables.update(session))
            .await
    }

    async fn touch(&self, seen: Vec<(Sid, Timestamp)>) -> Result<(), StoreError> {
        let writer = &self.threads()?.writer;
        writer
            .run(Keep::Loosely, move |tables| tables.touch(&seen))
            .await
    }

    async fn rotate(
        &self,
        old: TokenHash,
        next: TokenRow,
        successor: Successor,
    ) -> Result<Rotation, StoreError> {
        let writer = &self.threads()?.writer;
        writer
            .run(Keep::Durably, move |tables| {
                tables.rotate(old, &next, successor)
            })
            .await
    }

    async fn confirm(&self, hash: TokenHash, at: Timestamp) -> Result<(), StoreError> {
        let writer = &self.threads()?.writer;
        writer
            .run(Keep::Durably, move |tables| tables.confirm(hash, at))
            .await
    }

    async fn remove(&self, sid: Sid) -> Result<bool, StoreError> {
        let writer = &self.threads()?.writer;
        writer
            .run(Keep::Durably, move |tables| tables.remove(sid))
            .await
    }

    async fn epoch(&self, subject: SubjectTag) -> Result<Epoch, StoreError> {
        let reader = &self.threads()?.reader;
        reader
            .run(move |snapshot| snapshot.epoch(Some(subject)))
            .await
    }

    async fn begin_epoch(
        &self,
        subject: SubjectTag,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Epoch, StoreError> {
        let writer = &self.threads()?.writer;
        writer
            .run(Keep::Durably, move |tables| {
                tables.begin_epoch(subject, now, until)
            })
            .await
    }

    async fn list(&self, after: Option<Sid>, limit: usize) -> Result<Vec<SessionRow>, StoreError> {
        self.paged(after, limit, Snapshot::list).await
    }

    async fn list_by_subject(
        &self,
        subject: SubjectTag,
        after: Option<Sid>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let read =
            move |snapshot: &Snapshot, start, size| snapshot.list_by_subject(subject, start, size);
        self.paged(after, limit, read).await
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let writer = &self.threads()?.writer;
        let mut removed = 0;
        while removed < limit {
            let left = limit - removed;
            let swept = writer
                .run(Keep::Durably, move |tables| tables.sweep(now, left))
                .await?;
            removed += swept.removed;
            if !swept.more {
                break;
            }
        }
        Ok(removed)
    }

    fn invalidations(&self) -> Option<broadcast::Receiver<Invalidation>> {
        None
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let threads = self.threads()?;
        threads.reader.run(Snapshot::probe).await?;
        if threads.writer.failed() {
            // The last commit failed. Only a commit that succeeds tells that the disk has recovered.
            threads.writer.run(Keep::Durably, |_| Ok(())).await?;
        }
        Ok(())
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        let Some(Threads {
            reader,
            writer,
            handles,
        }) = self.threads.take()
        else {
            return;
        };
        drop((reader, writer));
        for handle in handles {
            if handle.join().is_err() {
                tracing::error!("a thread of the session store ended in a panic");
            }
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(|error| StoreError::Unavailable(format!("no thread for the store: {error}")))
}

fn stopped() -> StoreError {
    StoreError::Unavailable("it has stopped".to_owned())
}

#[cfg(test)]
mod tests;
