//! The store as the others see it: each operation takes a connection, for a bounded time, and gives it back.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions, PgSslMode};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::fault::Fault;
use super::link::{Broken, Link, State, keep};
use super::settings::{Server, Settings, Tls};
use super::statements::{self, Part};
use crate::clock::Timestamp;
use crate::session::record::{Epoch, SessionRow, Stored, SubjectTag, Successor, TokenRow};
use crate::session::store::{Creation, Invalidation, Rotation, SessionStore, StoreError, Update};
use crate::session::token::{Sid, TokenHash};

/// Operations that may be under way or wait for a connection.
const PLACES: usize = 4096;
/// News that a node may be behind before it is told to trust nothing.
const NEWS: usize = 4096;
/// Rows of one statement, so that none is long.
const PAGE: usize = 500;
/// A connection that nobody has used for so long is tried before it is used, which costs a round trip.
const QUIET: Duration = Duration::from_secs(30);
/// How much later than the server this side gives up: its answer says more.
const HEAD_START: Duration = Duration::from_millis(500);

/// The store in a database.
pub struct Postgres {
    link: Arc<Link>,
    places: Arc<Semaphore>,
    /// Where connections live: requests come from many runtimes.
    runtime: Handle,
    keeper: AbortHandle,
    address: String,
}

type Working<'db, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'db>>;

impl Postgres {
    /// Begins to connect, and goes on until it succeeds; operations wait for the first attempt and fail after a
    /// failed one.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn open(settings: &Settings) -> Self {
        let options = options(settings);
        let broken = Broken::now();
        let seen = broken.clone();
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(settings.timeout)
            .test_before_acquire(false)
            .before_acquire(move |db, meta| {
                let is_doubtful = is_doubtful(meta.idle_for, seen.elapsed());
                Box::pin(async move {
                    if is_doubtful {
                        sqlx::Connection::ping(db).await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options.clone());
        let link = Arc::new(Link {
            pool,
            state: watch::Sender::new(State::Starting),
            news: broadcast::Sender::new(NEWS),
            broken,
            limit: settings.timeout,
        });
        let keeper = tokio::spawn(keep(link.clone(), options));
        Self {
            link,
            places: Arc::new(Semaphore::new(PLACES)),
            runtime: Handle::current(),
            keeper: keeper.abort_handle(),
            address: address(settings),
        }
    }

    /// An operation that has begun goes on where nobody waits for it any more: an end is an end.
    async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'db> FnOnce(&'db mut PgConnection) -> Working<'db, T> + Send + 'static,
    {
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| StoreError::Busy)?;
        let link = self.link.clone();
        let working = self.runtime.spawn(async move {
            let done = link.perform(work).await;
            drop(place);
            done
        });
        let stopped = |_| StoreError::Unavailable("it has stopped".to_owned());
        working.await.map_err(stopped)?
    }

    /// Collects a list from pages.
    async fn paged(&self, whole: Part) -> Result<Vec<SessionRow>, StoreError> {
        let (mut rows, mut after) = (Vec::new(), whole.after);
        while rows.len() < whole.limit {
            let limit = PAGE.min(whole.limit - rows.len());
            let part = Part {
                after,
                limit,
                ..whole
            };
            let page = self
                .run(move |db| Box::pin(statements::list(db, part)))
                .await?;
            rows.extend(page.rows);
            after = page.last;
            if after.is_none() {
                break;
            }
        }
        Ok(rows)
    }
}

impl Link {
    async fn perform<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: for<'db> FnOnce(&'db mut PgConnection) -> Working<'db, T>,
    {
        self.ready().await?;
        let mut db = self.pool.acquire().await.map_err(Fault::from)?;
        let done = match timeout(self.limit + HEAD_START, work(&mut db)).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(fault)) => fault,
            // Whatever comes on this connection would be taken for the answer to another question.
            Err(_) => Fault::Driver(sqlx::Error::PoolTimedOut),
        };
        if done.spoils_connection() {
            db.close_on_drop();
        }
        Err(done.into())
    }

    async fn ready(&self) -> Result<(), StoreError> {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Starting));
        match timeout(self.limit, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Failing(error) => Err(error.clone()),
                State::Starting | State::Ready => Ok(()),
            },
            Ok(Err(_)) | Err(_) => Err(StoreError::Timeout),
        }
    }
}

#[async_trait]
impl SessionStore for Postgres {
    async fn create(&self, session: SessionRow, token: TokenRow) -> Result<Creation, StoreError> {
        self.run(move |db| Box::pin(statements::create(db, session, token)))
            .await
    }

    async fn load(&self, hash: TokenHash) -> Result<Option<Stored>, StoreError> {
        let look = || self.run(move |db| Box::pin(statements::load(db, hash)));
        match look().await {
            // The connection may have died unnoticed, and looking twice changes nothing.
            Err(StoreError::Unavailable(_)) => look().await,
            seen => seen,
        }
    }

    async fn update(&self, session: SessionRow) -> Result<Update, StoreError> {
        self.run(move |db| Box::pin(statements::update(db, session)))
            .await
    }

    async fn touch(&self, seen: Vec<(Sid, Timestamp)>) -> Result<(), StoreError> {
        for part in seen.chunks(PAGE) {
            let part = part.to_vec();
            self.run(move |db| Box::pin(statements::touch(db, part)))
                .await?;
        }
        Ok(())
    }

    async fn rotate(
        &self,
        old: TokenHash,
        next: TokenRow,
        successor: Successor,
    ) -> Result<Rotation, StoreError> {
        self.run(move |db| Box::pin(statements::rotate(db, old, (next, successor))))
            .await
    }

    async fn confirm(&self, hash: TokenHash, at: Timestamp) -> Result<(), StoreError> {
        self.run(move |db| Box::pin(statements::confirm(db, hash, at)))
            .await
    }

    async fn remove(&self, sid: Sid) -> Result<bool, StoreError> {
        self.run(move |db| Box::pin(statements::remove(db, sid)))
            .await
    }

    async fn epoch(&self, subject: SubjectTag) -> Result<Epoch, StoreError> {
        self.run(move |db| Box::pin(statements::epoch(db, subject)))
            .await
    }

    async fn begin_epoch(
        &self,
        subject: SubjectTag,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Epoch, StoreError> {
        self.run(move |db| Box::pin(statements::begin_epoch(db, subject, (now, until))))
            .await
    }

    async fn claim_end(&self, sid: Sid, span: Duration) -> Result<bool, StoreError> {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.run(move |db| Box::pin(statements::claim_end(db, sid, millis)))
            .await
    }

    async fn list(&self, after: Option<Sid>, limit: usize) -> Result<Vec<SessionRow>, StoreError> {
        let subject = None;
        self.paged(Part {
            subject,
            after,
            limit,
        })
        .await
    }

    async fn list_by_subject(
        &self,
        subject: SubjectTag,
        after: Option<Sid>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let subject = Some(subject);
        self.paged(Part {
            subject,
            after,
            limit,
        })
        .await
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.run(move |db| Box::pin(statements::sweep_marks(db, now)))
            .await?;
        let mut removed = 0;
        while removed < limit {
            let step = PAGE.min(limit - removed);
            let swept = self
                .run(move |db| Box::pin(statements::sweep(db, now, step)))
                .await?;
            removed += swept.removed;
            if swept.removed + swept.kept < step {
                break;
            }
        }
        Ok(removed)
    }

    /// Always: other nodes see and replace tokens, and only ends are told.
    fn has_other_writers(&self) -> bool {
        true
    }

    fn invalidations(&self) -> Option<broadcast::Receiver<Invalidation>> {
        Some(self.link.news.subscribe())
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.run(|db| Box::pin(statements::probe(db))).await
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Whether a connection may be dead: it was last used before the way to the server broke, or it is anybody's guess.
fn is_doubtful(idle: Duration, since_break: Duration) -> bool {
    idle >= since_break || idle > QUIET
}

fn options(settings: &Settings) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass()
        .username(&settings.user)
        .database(&settings.database)
        .application_name("doorward")
        .statement_cache_capacity(settings.statement_cache);
    options = match &settings.server {
        Server::Tcp { host, port } => options.host(host).port(*port),
        Server::Socket { folder, port } => options.socket(folder).port(*port),
    };
    if let Some(password) = &settings.password {
        options = options.password(&String::from_utf8_lossy(password.expose()));
    }
    options = match &settings.tls {
        None => options.ssl_mode(PgSslMode::Disable),
        Some(Tls { authorities }) => {
            let options = options.ssl_mode(PgSslMode::VerifyFull);
            match authorities {
                Some(pem) => options.ssl_root_cert_from_pem(pem.clone()),
                None => options,
            }
        }
    };
    if settings.statement_cache > 0 {
        // A pooler refuses these.
        let millis = settings.timeout.as_millis().to_string();
        options = options.options([("statement_timeout", &millis), ("lock_timeout", &millis)]);
    }
    options.disable_statement_logging()
}

fn address(settings: &Settings) -> String {
    match &settings.server {
        Server::Tcp { host, port } => format!("{host}:{port}/{}", settings.database),
        Server::Socket { folder, port } => {
            format!("{} {port}/{}", folder.display(), settings.database)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connection_that_may_be_dead_is_tried_first() {
        let secs = Duration::from_secs;
        for (idle, since_break, expected) in [
            (0, 3600, false),
            (30, 3600, false),
            (31, 3600, true),
            (4, 5, false),
            (5, 5, true),
            (6, 5, true),
        ] {
            let is_doubtful = is_doubtful(secs(idle), secs(since_break));
            assert_eq!(is_doubtful, expected, "{idle} s, {since_break} s");
        }
    }
}
