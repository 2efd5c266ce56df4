//! Password hashing on threads of its own, few and with a short queue, so that a storm of logins cannot starve
//! requests; what else takes long in a login may run there, too. It knows argon2id and no users.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use argon2::{
    ARGON2ID_IDENT, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, password_hash,
};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::secret::random;

/// The most memory that one hash may ask for, in KiB.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
/// The most work that one hash may ask for: KiB times passes. About four seconds.
const MAX_WORK_KIB: u64 = 4 * 1024 * 1024;
const MAX_LANES: u32 = 16;
/// What hashing threads are behind the others (`nice(2)`). About a tenth of a core that all want goes to one of them.
const NICE: i32 = 10;

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HashingError {
    /// Nothing was computed; the caller may try again later.
    #[error("too many passwords are waiting to be hashed")]
    Busy,
    #[error("hashing failed")]
    Failed,
    #[error("the password hash is not one of argon2id")]
    Unsupported,
    #[error("the password hash asks for more memory or time than is allowed")]
    TooCostly,
}

/// Hashes passwords with argon2id on its own threads.
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

    /// Starts `threads` threads (at least one). At most `queue_len` jobs wait for them.
    pub fn new(threads: usize, queue_len: usize) -> std::io::Result<Self> {
        let queue = Arc::new(Queue {
            waiting: Mutex::new(Waiting::default()),
            wake: Condvar::new(),
            len: queue_len,
        });
        // Made first, so that its drop ends the threads already started when a later one cannot be.
        let hasher = Self {
            queue: Arc::clone(&queue),
        };
        for number in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            thread::Builder::new()
                .name(format!("hashing-{number}"))
                .spawn(move || {
                    step_back();
                    queue.work();
                })?;
        }
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
        let waiting = self.queue.waiting.lock().jobs.len();
        f.debug_struct("Hasher")
            .field("waiting", &waiting)
            .field("queue_len", &self.queue.len)
            .finish_non_exhaustive()
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.queue.waiting.lock().closed = true;
        self.queue.wake.notify_all();
    }
}

/// Whoever is logged in goes before whoever logs in: a request that comes while this thread computes has the core at once,
/// where it would wait for the end of a time slice otherwise.
fn step_back() {
    // A system that does not allow it has slower requests beside logins, and nothing worse.
    let _niceness = rustix::process::nice(NICE);
}

/// The password's hash in PHC form, with a new salt and the parameters OWASP recommends (19 MiB, 2 passes, 1 lane).
pub(super) fn hash_password(password: &[u8]) -> Result<String, HashingError> {
    let salt: [u8; password_hash::phc::Salt::RECOMMENDED_LENGTH] = random();
    let hash = Argon2::default()
        .hash_password_with_salt(password, &salt)
        .map_err(|_| HashingError::Failed)?;
    Ok(hash.to_string())
}

/// Whether `phc` is the hash of `password`.
pub(super) fn verify_password(password: &[u8], phc: &str) -> Result<bool, HashingError> {
    let hash = parse(phc)?;
    match Argon2::default().verify_password(password, &hash) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(_) => Err(HashingError::Failed),
    }
}

/// Whether [`verify_password`] would compute this hash.
pub(super) fn check_hash(phc: &str) -> Result<(), HashingError> {
    parse(phc).map(|_| ())
}

/// What a guess at a password costs whoever has its hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HashCost {
    pub memory_kib: u32,
    pub passes: u32,
}

/// `None` where [`check_hash`] refuses it.
pub(super) fn cost(phc: &str) -> Option<HashCost> {
    let params = Params::try_from(&parse(phc).ok()?).ok()?;
    Some(HashCost {
        memory_kib: params.m_cost(),
        passes: params.t_cost(),
    })
}

/// Reads a hash, and refuses one that would cost too much *before* anything is computed.
fn parse(phc: &str) -> Result<PasswordHash, HashingError> {
    let hash = PasswordHash::new(phc).map_err(|_| HashingError::Unsupported)?;
    let whole = hash.algorithm == ARGON2ID_IDENT && hash.salt.is_some() && hash.hash.is_some();
    if !whole {
        return Err(HashingError::Unsupported);
    }
    let params = Params::try_from(&hash).map_err(|_| HashingError::Unsupported)?;
    let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
    if params.m_cost() > MAX_MEMORY_KIB || work > MAX_WORK_KIB || params.p_cost() > MAX_LANES {
        return Err(HashingError::TooCostly);
    }
    Ok(hash)
}

struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    len: usize,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Box<dyn Job>>,
    closed: bool,
}

impl Queue {
    fn push(&self, job: Box<dyn Job>) -> Result<(), HashingError> {
        let mut waiting = self.waiting.lock();
        if waiting.jobs.len() >= self.len {
            // Whoever has gone must not keep out whoever is here.
            waiting.jobs.retain(|job| !job.is_abandoned());
        }
        if waiting.jobs.len() >= self.len {
            return Err(HashingError::Busy);
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            if job.is_abandoned() {
                continue;
            }
            // A panic drops the job's answer, which tells its caller; the thread lives on.
            if catch_unwind(AssertUnwindSafe(|| job.run())).is_err() {
                tracing::error!("a hashing job panicked");
            }
        }
    }

    fn next(&self) -> Option<Box<dyn Job>> {
        let mut waiting = self.waiting.lock();
        loop {
            if waiting.closed {
                return None;
            }
            if let Some(job) = waiting.jobs.pop_front() {
                return Some(job);
            }
            self.wake.wait(&mut waiting);
        }
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

    #[test]
    fn a_password_verifies_against_its_own_hash_and_no_other() {
        let phc = hash_password(b"correct horse").unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert_eq!(verify_password(b"correct horse", &phc), Ok(true));
        assert_eq!(verify_password(b"correct horsf", &phc), Ok(false));
        let again = hash_password(b"correct horse").unwrap();
        assert_ne!(phc, again, "every hash has its own salt");
    }

    #[test]
    fn a_hash_made_elsewhere_is_understood() {
        // From the test vectors of the argon2 reference implementation (RFC 9106's authors), encoded form.
        let phc = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert_eq!(verify_password(b"password", phc), Ok(true));
        assert_eq!(verify_password(b"Password", phc), Ok(false));
    }

    #[test]
    fn a_hash_that_costs_too_much_is_refused_before_it_is_computed() {
        let tail = "$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        for params in [
            "m=1048577,t=1,p=1",
            "m=4294967295,t=4294967295,p=1",
            "m=1048576,t=5,p=1",
            "m=65536,t=2,p=17",
        ] {
            let phc = format!("$argon2id$v=19${params}{tail}");
            assert_eq!(
                verify_password(b"password", &phc),
                Err(HashingError::TooCostly),
                "{params}"
            );
        }
    }

    #[test]
    fn what_is_no_argon2id_hash_is_refused() {
        for phc in [
            "",
            "secret",
            "$2b$12$abcdefghijklmnopqrstuuJ1d3Zr3bQ3l1r5c4bT3K1Z9q0d5m6yK",
            "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ",
            "$argon2id$v=19$m=65536,t=2,p=1",
            "$argon2id$v=19$m=65536,t=0,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ] {
            assert_eq!(check_hash(phc), Err(HashingError::Unsupported), "{phc}");
        }
    }

    #[tokio::test]
    async fn a_full_queue_answers_busy_at_once() {
        let hasher = Arc::new(Hasher::new(1, 1).unwrap());
        let release = occupy(&hasher).await;
        let mut waiting = Box::pin(hasher.run(|| 7));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert_eq!(hasher.run(|| 8).await, Err(HashingError::Busy));
        drop(release);
        assert_eq!(waiting.await, Ok(7));
    }

    #[tokio::test]
    async fn a_job_whose_caller_has_gone_is_skipped_and_holds_no_place() {
        let hasher = Arc::new(Hasher::new(1, 1).unwrap());
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
}
