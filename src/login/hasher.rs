//! Threads for what takes long in a login, few and with a short queue, so that a storm of logins starves nobody who is
//! logged in. They know nothing of passwords.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::hashing::HashingError;

/// How long a thread may be at one job before it counts as standing still. A hash takes a fiftieth of it.
const STANDSTILL: Duration = Duration::from_secs(1);
/// How far the thread that takes over then is behind the others (`nice(2)`): about a tenth of a core that all want.
const NICE: i32 = 10;

/// Computes on its own threads, so that nothing else waits for it.
pub struct Hasher {
    queue: Arc<Queue>,
}

impl Hasher {
    /// Passwords that may wait where nothing else is said.
    pub const QUEUE_LEN: usize = 64;

    /// Half the cores: requests keep the other half, whatever the logins do.
    pub fn default_threads() -> usize {
        thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
    }

    /// Starts `threads` threads (at least one), and one more that takes over where they stand still. At most `queue_len`
    /// jobs wait for them.
    pub fn new(threads: usize, queue_len: usize) -> std::io::Result<Self> {
        Self::with_standstill(threads, queue_len, STANDSTILL)
    }

    fn with_standstill(
        threads: usize,
        queue_len: usize,
        standstill: Duration,
    ) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let queue = Arc::new(Queue {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                begun: vec![None; threads],
                closed: false,
            }),
            wake: Condvar::new(),
            wake_relief: Condvar::new(),
            len: queue_len,
        });
        // Made first, so that its drop ends the threads already started when a later one cannot be.
        let hasher = Self {
            queue: Arc::clone(&queue),
        };
        for number in 0..threads {
            let queue = Arc::clone(&queue);
            let thread = thread::Builder::new().name(format!("hashing-{number}"));
            thread.spawn(move || {
                step_back();
                queue.work(number);
            })?;
        }
        let thread = thread::Builder::new().name("hashing-relief".to_owned());
        thread.spawn(move || {
            let _niceness = rustix::process::nice(NICE);
            queue.relieve(standstill);
        })?;
        Ok(hasher)
    }

    /// Runs `work` on a hashing thread. It is skipped if the caller has gone before it begins.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, HashingError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.queue.push(Box::new(Ticket { work, answer }))?;
        answered.await.map_err(|_| HashingError::Failed)
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.queue.state.lock().jobs.len();
        f.debug_struct("Hasher")
            .field("waiting", &waiting)
            .field("queue_len", &self.queue.len)
            .finish_non_exhaustive()
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.queue.state.lock().closed = true;
        self.queue.wake.notify_all();
        self.queue.wake_relief.notify_all();
    }
}

/// Whoever is logged in goes before whoever logs in: of the idle class (sched(7), `SCHED_IDLE`), a thread gives its core away
/// as soon as a request comes. Of any other, it may keep it to the end of its time slice, which is several milliseconds.
fn step_back() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle).is_err() {
        // Where neither is allowed, requests are slower beside logins, and nothing worse.
        let _niceness = rustix::process::nice(NICE);
    }
}

struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    wake_relief: Condvar,
    len: usize,
}

struct State {
    jobs: VecDeque<Box<dyn Job>>,
    /// Of each thread but the relief: when it began the job that it is at.
    begun: Vec<Option<Instant>>,
    closed: bool,
}

impl Queue {
    fn push(&self, job: Box<dyn Job>) -> Result<(), HashingError> {
        let mut state = self.state.lock();
        if state.jobs.len() >= self.len {
            // Whoever has gone must not keep out whoever is here.
            state.jobs.retain(|job| !job.is_abandoned());
        }
        if state.jobs.len() >= self.len {
            return Err(HashingError::Busy);
        }
        state.jobs.push_back(job);
        let is_first = state.jobs.len() == 1;
        drop(state);
        self.wake.notify_one();
        if is_first {
            self.wake_relief.notify_one();
        }
        Ok(())
    }

    fn work(&self, number: usize) {
        while let Some(job) = self.next(number) {
            run(job);
        }
    }

    fn next(&self, number: usize) -> Option<Box<dyn Job>> {
        let mut state = self.state.lock();
        state.set_begun(number, None);
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                state.set_begun(number, Some(Instant::now()));
                return Some(job);
            }
            self.wake.wait(&mut state);
        }
    }

    /// On a machine whose cores all have other things to do, threads of the idle class hardly get on: who waits behind them is
    /// served all the same.
    fn relieve(&self, standstill: Duration) {
        let mut state = self.state.lock();
        while !state.closed {
            match state.relief_due(standstill) {
                None => self.wake_relief.wait(&mut state),
                Some(due) if due > Instant::now() => {
                    self.wake_relief.wait_until(&mut state, due.into_std());
                }
                Some(_) => {
                    if let Some(job) = state.jobs.pop_front() {
                        parking_lot::MutexGuard::unlocked(&mut state, || run(job));
                    }
                }
            }
        }
    }
}

impl State {
    fn set_begun(&mut self, number: usize, begun: Option<Instant>) {
        if let Some(place) = self.begun.get_mut(number) {
            *place = begun;
        }
    }

    /// When all threads will have stood still for so long that somebody else has to take what waits; `None` where nothing
    /// waits.
    fn relief_due(&self, standstill: Duration) -> Option<Instant> {
        if self.jobs.is_empty() {
            return None;
        }
        // A thread that is at no job is about to take one.
        let begun = self
            .begun
            .iter()
            .map(|begun| begun.unwrap_or_else(Instant::now));
        begun.max().map(|last| last + standstill)
    }
}

fn run(job: Box<dyn Job>) {
    if job.is_abandoned() {
        return;
    }
    // A panic drops the job's answer, which tells its caller; the thread lives on.
    if catch_unwind(AssertUnwindSafe(|| job.run())).is_err() {
        tracing::error!("a hashing job panicked");
    }
}

trait Job: Send {
    fn is_abandoned(&self) -> bool;
    fn run(self: Box<Self>);
}

struct Ticket<T, F> {
    work: F,
    answer: oneshot::Sender<T>,
}

impl<T: Send, F: FnOnce() -> T + Send> Job for Ticket<T, F> {
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn run(self: Box<Self>) {
        let Self { work, answer } = *self;
        // A caller that has gone meanwhile needs no answer.
        drop(answer.send(work()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// Long enough that nobody takes over within a test.
    const NEVER: Duration = Duration::from_hours(1);

    /// Occupies the only thread of `hasher` until the returned sender is used or dropped.
    async fn occupy(hasher: &Arc<Hasher>) -> mpsc::Sender<()> {
        let (release, wait) = mpsc::channel();
        let (begun, has_begun) = oneshot::channel();
        let hasher = Arc::clone(hasher);
        tokio::spawn(async move {
            hasher
                .run(move || {
                    begun.send(()).unwrap();
                    wait.recv().ok()
                })
                .await
        });
        has_begun.await.unwrap();
        release
    }

    #[tokio::test]
    async fn a_full_queue_answers_busy_at_once() {
        let hasher = Arc::new(Hasher::with_standstill(1, 1, NEVER).unwrap());
        let release = occupy(&hasher).await;
        let mut waiting = Box::pin(hasher.run(|| 7));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert_eq!(hasher.run(|| 8).await, Err(HashingError::Busy));
        drop(release);
        assert_eq!(waiting.await, Ok(7));
    }

    #[tokio::test]
    async fn a_job_whose_caller_has_gone_is_skipped_and_holds_no_place() {
        let hasher = Arc::new(Hasher::with_standstill(1, 1, NEVER).unwrap());
        let release = occupy(&hasher).await;
        let ran = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ran);
        let mut gone = Box::pin(hasher.run(move || count.fetch_add(1, Ordering::SeqCst)));
        assert!(futures_util::poll!(&mut gone).is_pending());
        drop(gone);
        let mut next = Box::pin(hasher.run(|| 7));
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(release);
        assert_eq!(next.await, Ok(7));
        assert_eq!(ran.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_job_that_panics_fails_alone() {
        let hasher = Hasher::new(1, 2).unwrap();
        let failed = hasher.run(|| panic!("on purpose")).await;
        assert_eq!(failed, Err::<(), _>(HashingError::Failed));
        assert_eq!(hasher.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn who_waits_behind_threads_that_stand_still_is_served_all_the_same() {
        let soon = Duration::from_millis(1);
        let hasher = Arc::new(Hasher::with_standstill(1, 4, soon).unwrap());
        let _stands_still = occupy(&hasher).await;
        assert_eq!(hasher.run(|| 7).await, Ok(7));
        assert_eq!(hasher.run(|| 8).await, Ok(8));
    }

    #[test]
    fn nobody_takes_over_while_one_thread_gets_on_or_nothing_waits() {
        let (began, later) = (Instant::now(), Duration::from_secs(5));
        let (answer, _answered) = oneshot::channel();
        let mut state = State {
            jobs: VecDeque::new(),
            begun: vec![Some(began), Some(began + later)],
            closed: false,
        };
        assert_eq!(state.relief_due(STANDSTILL), None);
        state
            .jobs
            .push_back(Box::new(Ticket { work: || 7, answer }));
        assert_eq!(
            state.relief_due(STANDSTILL),
            Some(began + later + STANDSTILL)
        );
        state.set_begun(1, None);
        assert!(state.relief_due(STANDSTILL) >= Some(began + STANDSTILL));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_hashing_thread_gives_way_to_everybody() {
        let hasher = Hasher::new(1, 1).unwrap();
        let policy = hasher.run(thread_priority::thread_schedule_policy).await;
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        assert_eq!(policy, Ok(Ok(idle)));
    }
}
