//! The one connection for commands: opened when it is needed, replaced when it breaks, never waited for without end.
//!
//! It lives on the runtime that opened the store, whichever thread asks: a worker that ends takes no connection along.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use redis::{Cmd, FromRedisValue, PushKind, Value};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::connect::Connection;
use super::fault::{Fault, told};
use super::rows::shaped;
use super::settings::{Servers, Settings};
use crate::session::store::StoreError;

/// Commands on their way at once. A server that keeps up has a few dozen.
const MAX_UNDER_WAY: usize = 4096;

/// Between two attempts to connect: doubled from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

#[derive(Debug)]
pub(super) struct Link {
    settings: Settings,
    /// For one answer, and for one attempt to connect.
    patience: Duration,
    home: Handle,
    under_way: Semaphore,
    state: Mutex<State>,
    made: AtomicU64,
    this: Weak<Self>,
}

#[derive(Debug, Default)]
struct State {
    live: Option<Live>,
    attempt: Option<Attempt>,
    failures: u32,
    /// Until then nobody tries, and everybody hears what went wrong.
    rest: Option<(Instant, StoreError)>,
}

/// A connection and its number, so that late complaints do not hit the one after it.
#[derive(Clone, Debug)]
struct Live {
    number: u64,
    connection: Connection,
}

/// One attempt, awaited by all who need a connection.
type Attempt = Shared<BoxFuture<'static, Result<Live, StoreError>>>;

impl Link {
    /// Nothing is opened yet.
    pub(super) fn new(settings: &Settings, home: Handle) -> Arc<Self> {
        // An operation takes a few answers, and its caller gives up at `timeout`: one silent answer must be told of earlier.
        let patience = settings.timeout.mul_f32(0.6);
        Arc::new_cyclic(|this| Self {
            settings: settings.clone(),
            patience,
            home,
            under_way: Semaphore::new(MAX_UNDER_WAY),
            state: Mutex::default(),
            made: AtomicU64::new(0),
            this: this.clone(),
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.settings.servers, Servers::Cluster(_))
    }

    /// Sends a command, once.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, Fault> {
        let Ok(_place) = self.under_way.try_acquire() else {
            return Err(Fault::Store(StoreError::Busy));
        };
        let Live {
            number,
            mut connection,
        } = self.live().await.map_err(Fault::Store)?;
        let answer = timeout(self.patience, command.query_async(&mut connection)).await;
        let answer = match answer {
            Ok(answer) => answer.map_err(Fault::Redis),
            Err(_) => Err(Fault::Store(StoreError::Timeout)),
        };
        if let Err(fault) = &answer
            && fault.condemns()
        {
            self.discard(number);
        }
        answer
    }

    /// Asks for something. Where the connection breaks meanwhile, another one is asked.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let answer = match self.send(command).await {
            Err(fault) if fault.is_broken_connection() => self.send(command).await,
            answer => answer,
        };
        shaped(answer?)
    }

    /// Does something that nobody needs an answer to.
    pub(super) async fn tell(&self, command: &Cmd) -> Result<(), StoreError> {
        self.send(command).await?;
        Ok(())
    }

    async fn live(&self) -> Result<Live, StoreError> {
        let attempt = {
            let mut state = self.state.lock();
            if let Some(live) = &state.live {
                return Ok(live.clone());
            }
            match (&state.attempt, &state.rest) {
                (Some(attempt), _) => attempt.clone(),
                (None, Some((until, error))) if Instant::now() < *until => {
                    return Err(error.clone());
                }
                (None, _) => {
                    let attempt = self.attempt()?;
                    state.attempt = Some(attempt.clone());
                    attempt
                }
            }
        };
        attempt.await
    }

    /// It goes on by itself, whoever stops waiting for it.
    fn attempt(&self) -> Result<Attempt, StoreError> {
        let link = self.this.upgrade().ok_or_else(stopped)?;
        let task = self.home.spawn(async move { link.connect().await });
        Ok(task
            .map(|ended| ended.unwrap_or_else(|_| Err(stopped())))
            .boxed()
            .shared())
    }

    async fn connect(&self) -> Result<Live, StoreError> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let link = self.this.clone();
        let on_push = Box::new(move |push: redis::PushInfo| {
            // A Cluster mends itself; any other connection is dead.
            if push.kind == PushKind::Disconnection
                && let Some(link) = link.upgrade().filter(|link| !link.is_cluster())
            {
                link.discard(number);
            }
        });
        let opening = Connection::open(&self.settings, self.patience, on_push);
        let outcome = match timeout(self.patience, opening).await {
            Ok(outcome) => outcome.map_err(|error| told(&error)),
            Err(_) => Err(StoreError::Timeout),
        };
        let mut state = self.state.lock();
        state.attempt = None;
        match outcome {
            Ok(connection) => {
                let live = Live { number, connection };
                if state.failures > 0 {
                    tracing::info!("connected to Redis again");
                }
                (state.failures, state.rest) = (0, None);
                state.live = Some(live.clone());
                Ok(live)
            }
            Err(error) => {
                if state.failures == 0 {
                    tracing::error!(%error, "no connection to Redis; trying again");
                }
                let pause = PAUSES.0.saturating_mul(1 << state.failures.min(8));
                state.rest = Some((Instant::now() + pause.min(PAUSES.1), error.clone()));
                state.failures = state.failures.saturating_add(1);
                Err(error)
            }
        }
    }

    fn discard(&self, number: u64) {
        let mut state = self.state.lock();
        let broken = state.live.take_if(|live| live.number == number);
        drop(state);
        drop(broken);
    }
}

fn stopped() -> StoreError {
    StoreError::Unavailable("it has stopped".to_owned())
}
