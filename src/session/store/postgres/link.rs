//! The way to the database, kept up by one task: it connects, has the tables made, listens for ends, and begins again
//! when that breaks. It knows no row.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use sqlx::postgres::{
    PgConnectOptions, PgConnection, PgListener, PgNotification, PgPool, PgPoolOptions,
};
use sqlx::{Connection, query};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use uuid::Uuid;

use super::fault::{Fault, is_absence};
use super::schema;
use crate::secret::random;
use crate::session::record::{Epoch, SubjectTag};
use crate::session::store::{Invalidation, StoreError};
use crate::session::token::Sid;

/// Named in the tables' trigger too.
const CHANNEL: &str = "doorward_ended";
/// The name of every session, for which no list is sent.
const ALL: &str = "all";

/// What news of an epoch begin with.
const EPOCH: &str = "epoch ";

/// How long after a failure the next attempt follows: twice as long each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often this node sends word to itself, and how long none may come back before nothing is believed to come.
const PULSE_EVERY: Duration = Duration::from_secs(2);
const LONGEST_SILENCE: Duration = Duration::from_secs(7);

/// How it stands with the database.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// The first attempt is under way.
    Starting,
    Ready,
    /// Nobody needs to wait for a server that is not there.
    Failing(StoreError),
}

pub(super) struct Link {
    pub(super) pool: PgPool,
    pub(super) state: watch::Sender<State>,
    pub(super) news: broadcast::Sender<Invalidation>,
    pub(super) broken: Broken,
    pub(super) limit: Duration,
}

/// When the way to the server last broke: what was opened before may be dead.
#[derive(Clone)]
pub(super) struct Broken(Arc<Mutex<Instant>>);

impl Broken {
    pub(super) fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn again(&self) {
        *self.0.lock() = Instant::now();
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.lock().elapsed()
    }
}

/// What the task that keeps the link remembers between attempts.
struct Keeper {
    link: Arc<Link>,
    options: PgConnectOptions,
    prepared: bool,
    /// The last trouble that was told, so that one that lasts fills no log.
    trouble: Option<StoreError>,
}

/// Runs until it is dropped.
pub(super) async fn keep(link: Arc<Link>, options: PgConnectOptions) {
    let mut keeper = Keeper {
        link,
        options,
        prepared: false,
        trouble: None,
    };
    let (mut pause, mut has_listened) = (FIRST_PAUSE, false);
    loop {
        let listening = match keeper.reach().await {
            Ok(()) => keeper.listen().await,
            Err(fault) => {
                keeper.note_absence(&fault);
                Err(fault)
            }
        };
        match listening {
            Ok(mut listener) => {
                pause = FIRST_PAUSE;
                keeper.note_ready(has_listened);
                has_listened = true;
                let reason = keeper.link.listen(&mut listener).await;
                keeper.link.broken.again();
                tracing::warn!(
                    reason,
                    "news of ended sessions from other nodes is interrupted"
                );
                keeper.link.tell(Invalidation::Silent);
            }
            Err(fault) => {
                keeper.link.broken.again();
                keeper.note_trouble(&fault);
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

impl Keeper {
    /// Whether there is a server, with the tables it needs.
    async fn reach(&mut self) -> Result<(), Fault> {
        let limit = self.link.limit;
        // The pool would wait for a server that refuses, and then not say why.
        let first = timeout(limit, PgConnection::connect_with(&self.options)).await;
        let first = first.map_err(|_| StoreError::Timeout)??;
        if self.prepared {
            drop(timeout(limit, first.close()).await);
        } else {
            schema::prepare(first).await?;
            self.prepared = true;
        }
        Ok(())
    }

    async fn listen(&self) -> Result<PgListener, Fault> {
        let limit = self.link.limit;
        let listening = timeout(limit, listener(&self.options, limit)).await;
        listening.map_err(|_| StoreError::Timeout)?
    }

    fn note_ready(&mut self, again: bool) {
        if again || self.trouble.is_some() {
            tracing::info!("the session store is reached again");
        }
        self.trouble = None;
        if again {
            self.link.tell(Invalidation::Interrupted);
        }
        self.link.state.send_replace(State::Ready);
    }

    /// A server that only refuses another connection still answers on those that are there, as does one that only
    /// has no news for us.
    fn note_absence(&self, fault: &Fault) {
        let is_absent = match fault {
            Fault::Refused(error) => *error == StoreError::Timeout,
            Fault::Driver(error) => is_absence(error),
        };
        if is_absent || !self.prepared {
            let error = StoreError::from(fault);
            self.link.state.send_replace(State::Failing(error));
        }
    }

    fn note_trouble(&mut self, fault: &Fault) {
        let error = StoreError::from(fault);
        if self.trouble.as_ref() != Some(&error) {
            tracing::error!(%error, "the session store cannot be reached, trying again");
            self.trouble = Some(error);
        }
    }
}

impl Link {
    pub(super) fn tell(&self, news: Invalidation) {
        // Nobody may be listening, as before the upkeep runs.
        let _heard = self.news.send(news).is_ok();
    }

    /// Passes news on until there is reason to believe that some was lost; tells the reason.
    async fn listen(&self, listener: &mut PgListener) -> String {
        let pulse = Pulse::new();
        let mut pulses = interval(PULSE_EVERY);
        pulses.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            let next = listener.try_recv();
            tokio::pin!(next);
            let news = loop {
                tokio::select! {
                    news = &mut next => break news,
                    _ = pulses.tick() => {
                        if heard.elapsed() > LONGEST_SILENCE {
                            return "nothing is heard on its connection".to_owned();
                        }
                        pulse.send(&self.pool, self.limit);
                    }
                }
            };
            match news {
                Ok(Some(news)) => {
                    heard = Instant::now();
                    self.pass_on(&news);
                }
                Ok(None) => return "its connection was lost".to_owned(),
                Err(error) => return StoreError::from(Fault::from(error)).to_string(),
            }
        }
    }

    fn pass_on(&self, news: &PgNotification) {
        let text = news.payload();
        if text == ALL {
            self.tell(Invalidation::Interrupted);
        } else if let Some(sid) = Sid::parse(text) {
            self.tell(Invalidation::Ended(sid));
        } else if let Some(epoch) = text.strip_prefix(EPOCH) {
            let news = epoch_in(epoch).map(|(tag, epoch)| Invalidation::EndedBefore(tag, epoch));
            // What cannot be understood may have been an end.
            self.tell(news.unwrap_or(Invalidation::Interrupted));
        }
    }
}

/// A subject in base64 and the number of its epoch, as the trigger writes them.
fn epoch_in(text: &str) -> Option<(SubjectTag, Epoch)> {
    let (tag, number) = text.split_once(' ')?;
    let tag = STANDARD.decode(tag).ok()?.try_into().ok()?;
    Some((SubjectTag(tag), Epoch::from_number(number.parse().ok()?)))
}

/// Word of this node to itself, by the way that news of an end takes.
struct Pulse(String);

impl Pulse {
    fn new() -> Self {
        let name = Uuid::from_bytes(random());
        Self(format!("pulse {name}"))
    }

    /// Nobody waits for it: what counts is whether it comes back.
    fn send(&self, pool: &PgPool, limit: Duration) {
        let (pool, text) = (pool.clone(), self.0.clone());
        tokio::spawn(timeout(limit, async move {
            let sent = query("SELECT pg_notify($1, $2)")
                .bind(CHANNEL)
                .bind(text)
                .execute(&pool)
                .await;
            if let Err(error) = sent {
                tracing::debug!(%error, "no word could be sent to ourselves");
            }
        }));
    }
}

/// In a pool of its own, since it has its connection for good.
async fn listener(options: &PgConnectOptions, limit: Duration) -> Result<PgListener, Fault> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(limit)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.ignore_pool_close_event(true);
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_of_an_epoch_are_read_whole_or_not_at_all() {
        let tag = STANDARD.encode([7; 32]);
        let read = epoch_in(&format!("{tag} 1800"));
        assert_eq!(read, Some((SubjectTag([7; 32]), Epoch::from_number(1800))));
        let (long, short) = (STANDARD.encode([7; 33]), STANDARD.encode([7; 31]));
        for text in [
            "",
            &tag,
            &format!("{tag} "),
            &format!("{tag} -1"),
            &format!("{long} 1"),
            &format!("{short} 1"),
        ] {
            assert_eq!(epoch_in(text), None, "{text}");
        }
    }
}
