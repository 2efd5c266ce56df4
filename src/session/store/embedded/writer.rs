//! One thread that changes the file, many changes to a commit. It knows no table's layout.
//!
//! While one commit is on its way to the disk the next changes gather; all of them share the following commit. None is
//! answered before its commit is durable (R6). Where nothing but touches waits, the commit need not reach the disk:
//! the next durable one takes it along.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use redb::{Database, Durability};
use tokio::sync::oneshot;

use super::StoreError;
use super::file::{DataFile, Fault};
use super::tables::Tables;

/// How many changes may wait.
const QUEUE: usize = 4096;
/// How many changes share a commit.
const BATCH: usize = 256;
/// How many commits in a row may stay in memory: a bound on the touches that a crash forgets.
const UNSYNCED: u32 = 64;

/// What a change must survive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Keep {
    /// It may be forgotten when the process dies.
    Loosely,
    /// It is on the disk before it is answered.
    Durably,
}

/// The way to the writing thread.
pub(super) struct Writer {
    queue: SyncSender<Box<dyn Job>>,
    failed: Arc<AtomicBool>,
}

impl Writer {
    /// The thread ends, with everything on the disk, once the writer is dropped.
    pub(super) fn start(file: Arc<DataFile>) -> Result<(Self, JoinHandle<()>), StoreError> {
        let (queue, jobs) = sync_channel(QUEUE);
        let failed = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&failed);
        let thread = super::spawn("store-writer", move || write_batches(&file, &jobs, &seen))?;
        Ok((Self { queue, failed }, thread))
    }

    /// Whether the latest commit failed.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Has `change` made in some transaction; what it returns is handed on once that is committed.
    pub(super) async fn run<T, F>(&self, keep: Keep, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tables<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Change {
            keep,
            work: Some(change),
            outcome: None,
            reply,
        };
        self.queue
            .try_send(Box::new(job))
            .map_err(|error| match error {
                TrySendError::Full(_) => StoreError::Busy,
                TrySendError::Disconnected(_) => super::stopped(),
            })?;
        answer.await.map_err(|_| super::stopped())?
    }
}

/// One change on its way through the queue, whatever its type.
trait Job: Send {
    fn keep(&self) -> Keep;

    /// Makes the change. An error is the file's and ends the transaction; the change's own is kept for its answer.
    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault>;

    /// Answers, after the commit or its failure.
    fn answer(self: Box<Self>, failure: Option<StoreError>);
}

struct Change<T, F> {
    keep: Keep,
    work: Option<F>,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Job for Change<T, F>
where
    T: Send,
    F: FnOnce(&mut Tables<'_>) -> Result<T, Fault> + Send,
{
    fn keep(&self) -> Keep {
        self.keep
    }

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        self.outcome = Some(match work(tables) {
            Ok(value) => Ok(value),
            Err(Fault::Refused(error)) => Err(error),
            Err(fault) => return Err(fault),
        });
        Ok(())
    }

    fn answer(self: Box<Self>, failure: Option<StoreError>) {
        let outcome = match failure {
            Some(error) => Err(error),
            None => self.outcome.unwrap_or_else(|| Err(super::stopped())),
        };
        // Whoever asked may have stopped waiting; the change is made all the same.
        drop(self.reply.send(outcome));
    }
}

fn write_batches(file: &DataFile, jobs: &Receiver<Box<dyn Job>>, failed: &AtomicBool) {
    let mut unsynced = 0;
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        batch.extend(jobs.try_iter().take(BATCH - 1));
        let loose = batch.iter().all(|job| job.keep() == Keep::Loosely) && unsynced < UNSYNCED;
        let durability = if loose {
            Durability::None
        } else {
            Durability::Immediate
        };
        let failure = file
            .run(|database| commit(database, durability, &mut batch))
            .err();
        unsynced = if loose && failure.is_none() {
            unsynced + 1
        } else {
            0
        };
        failed.store(failure.is_some(), Ordering::Relaxed);
        for job in batch {
            job.answer(failure.clone());
        }
    }
    if unsynced > 0
        && let Err(error) = file.run(|database| commit(database, Durability::Immediate, &mut []))
    {
        tracing::warn!(%error, "the latest activity of sessions was not stored");
    }
}

fn commit(
    database: &Database,
    durability: Durability,
    batch: &mut [Box<dyn Job>],
) -> Result<(), Fault> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(durability)?;
    // Without it, opening after a crash walks the whole file.
    transaction.set_quick_repair(true);
    {
        let mut tables = Tables::open(&transaction)?;
        for job in batch {
            job.apply(&mut tables)?;
        }
    }
    transaction.commit()?;
    Ok(())
}
