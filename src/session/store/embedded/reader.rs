//! One thread that reads the file, so that nobody who serves requests waits for a disk. It knows no rows.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::StoreError;
use super::file::{DataFile, Fault};
use super::snapshot::Snapshot;

/// How many reads may wait.
const QUEUE: usize = 4096;

type Job = Box<dyn FnOnce(&DataFile) + Send>;

/// The way to the reading thread.
pub(super) struct Reader {
    queue: SyncSender<Job>,
}

impl Reader {
    /// The thread ends once the reader is dropped.
    pub(super) fn start(file: Arc<DataFile>) -> Result<(Self, JoinHandle<()>), StoreError> {
        let (queue, jobs): (_, Receiver<Job>) = sync_channel(QUEUE);
        let thread = super::spawn("store-reader", move || {
            for job in jobs {
                job(&file);
            }
        })?;
        Ok((Self { queue }, thread))
    }

    /// Runs `read` over what is committed by then.
    pub(super) async fn run<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Snapshot) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |file| {
            // Nobody waits any more: in a jam that is one read less for those who do.
            if !reply.is_closed() {
                let outcome = file.run(|database| read(&Snapshot::take(database)?));
                drop(reply.send(outcome));
            }
        });
        self.queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => super::stopped(),
        })?;
        answer.await.map_err(|_| super::stopped())?
    }
}
