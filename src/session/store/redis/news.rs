//! News of what other nodes ended, one session or all of somebody's, over a connection of its own.
//!
//! A subscription that has died looks like one that has nothing to tell. So a node also listens to itself: about once a
//! second it publishes, over the connection that commands go through, and hears that the way is open. Where it does
//! not, or the connection breaks: [`Invalidation::Silent`]; once the way is open again: [`Invalidation::Interrupted`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::connect::Connection;
use super::fault::told;
use super::keys::{Keys, sid_in, subject_in};
use super::link::Link;
use crate::session::record::{Epoch, SubjectTag};
use crate::session::store::{Invalidation, StoreError};
use crate::session::token::Sid;

/// Messages that wait to be passed on. What does not fit is an interruption.
const QUEUE: usize = 1024;

const BEAT: Duration = Duration::from_secs(1);

/// Between two attempts to listen.
const PAUSE: Duration = Duration::from_millis(250);

/// Who publishes, so that nobody takes his own news for another's.
pub(super) type Node = [u8; 8];

/// What is published when a session ends.
pub(super) fn message(sid: Sid, from: Node) -> Vec<u8> {
    [sid.as_bytes().as_slice(), &from].concat()
}

/// What is published when all sessions of a subject end. The number of the new epoch follows.
pub(super) fn epoch_message(subject: SubjectTag, from: Node) -> Vec<u8> {
    [subject.0.as_slice(), &from].concat()
}

#[derive(Debug)]
enum News {
    Ended(Sid),
    EndedBefore(SubjectTag, Epoch),
    Echo,
    /// Nothing that this version understands: it might have been an end.
    Unknown,
    Broken,
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) link: Arc<Link>,
    pub(super) keys: Keys,
    pub(super) node: Node,
    pub(super) to: broadcast::Sender<Invalidation>,
}

impl Listener {
    /// Never ends by itself.
    pub(super) async fn run(self) {
        let mut trusted = true;
        loop {
            let error = match self.listen(&mut trusted).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            if trusted {
                trusted = false;
                tracing::warn!(%error, "news of other nodes are interrupted");
                self.pass(Invalidation::Silent);
            }
            sleep(PAUSE).await;
        }
    }

    /// Listens until something is wrong. `trusted` becomes true once this node has heard itself.
    async fn listen(&self, trusted: &mut bool) -> Result<std::convert::Infallible, StoreError> {
        let (heard, mut news) = mpsc::channel(QUEUE);
        let overflown = Arc::new(AtomicBool::new(false));
        let on_push = self.sorter(heard, overflown.clone());
        let patience = self.link.patience();
        let opening = async {
            let mut connection = Connection::open(self.link.settings(), patience, on_push).await?;
            let channels = [
                self.keys.ended(),
                self.keys.epochs(),
                self.keys.echo(self.node),
            ];
            connection.subscribe(&channels).await?;
            Ok(connection)
        };
        let opened = timeout(patience, opening).await;
        let _open = opened
            .map_err(|_| StoreError::Timeout)?
            .map_err(|error: redis::RedisError| told(&error))?;

        let answered = AtomicBool::new(true);
        let beating = self.beat(&answered);
        tokio::pin!(beating);
        loop {
            let one = tokio::select! {
                one = news.recv() => one.unwrap_or(News::Broken),
                error = &mut beating => return Err(error),
            };
            if overflown.swap(false, Ordering::Relaxed) {
                self.pass(Invalidation::Interrupted);
            }
            match one {
                News::Ended(sid) => self.pass(Invalidation::Ended(sid)),
                News::EndedBefore(subject, epoch) => {
                    self.pass(Invalidation::EndedBefore(subject, epoch));
                }
                News::Unknown => self.pass(Invalidation::Interrupted),
                News::Broken => return Err(broken()),
                News::Echo => {
                    answered.store(true, Ordering::Relaxed);
                    if !std::mem::replace(trusted, true) {
                        tracing::info!("news of other nodes arrive again");
                        self.pass(Invalidation::Interrupted);
                    }
                }
            }
        }
    }

    /// Publishes for itself, until that fails or is not heard.
    async fn beat(&self, answered: &AtomicBool) -> StoreError {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(self.keys.echo(self.node)).arg("");
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut missed = 0;
        loop {
            beats.tick().await;
            missed = if answered.swap(false, Ordering::Relaxed) {
                0
            } else {
                missed + 1
            };
            if missed > 1 {
                return broken();
            }
            if let Err(error) = self.link.tell(&publish).await {
                return error;
            }
        }
    }

    fn sorter(&self, to: mpsc::Sender<News>, overflown: Arc<AtomicBool>) -> super::connect::OnPush {
        let (channels, node) = ([self.keys.ended(), self.keys.epochs()], self.node);
        Box::new(move |push| {
            if let Some(news) = sort(&push, &channels, node)
                && to.try_send(news).is_err()
            {
                overflown.store(true, Ordering::Relaxed);
            }
        })
    }

    fn pass(&self, news: Invalidation) {
        // Nobody has to listen.
        let _heard = self.to.send(news);
    }
}

/// `None`: nothing that concerns this node.
fn sort(push: &PushInfo, [ended, epochs]: &[String; 2], node: Node) -> Option<News> {
    let (channel, payload) = match push.kind {
        PushKind::Disconnection => return Some(News::Broken),
        PushKind::Message => match push.data.as_slice() {
            [channel, payload] => (bytes(channel)?, bytes(payload)?),
            _ => return Some(News::Unknown),
        },
        _ => return None,
    };
    let (from, news) = if channel == ended.as_bytes() {
        end_in(payload)
    } else if channel == epochs.as_bytes() {
        epoch_in(payload)
    } else {
        return Some(News::Echo);
    }
    .unwrap_or((None, News::Unknown));
    (from != Some(node)).then_some(news)
}

fn end_in(payload: &[u8]) -> Option<(Option<Node>, News)> {
    let (sid, from) = payload.split_last_chunk()?;
    Some((Some(*from), News::Ended(sid_in(sid)?)))
}

fn epoch_in(payload: &[u8]) -> Option<(Option<Node>, News)> {
    let (subject, rest) = payload.split_at_checked(32)?;
    let (from, number) = rest.split_first_chunk()?;
    let news = News::EndedBefore(subject_in(subject)?, epoch_of(number)?);
    Some((Some(*from), news))
}

/// As the script writes it.
pub(super) fn epoch_of(number: &[u8]) -> Option<Epoch> {
    let text = std::str::from_utf8(number).ok()?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok().map(Epoch::from_number))?
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

fn broken() -> StoreError {
    StoreError::Unavailable("the subscription broke".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Node = [1; 8];
    const SID: Sid = Sid::from_bytes([2; 16]);

    fn sorted(channel: &str, payload: &[u8]) -> Option<News> {
        let data = vec![
            Value::BulkString(channel.as_bytes().to_vec()),
            Value::BulkString(payload.to_vec()),
        ];
        let kind = PushKind::Message;
        let channels = ["ended", "epochs"].map(str::to_owned);
        sort(&PushInfo { kind, data }, &channels, NODE)
    }

    #[test]
    fn an_end_is_news_unless_it_is_our_own() {
        let other = sorted("ended", &message(SID, [9; 8]));
        assert!(matches!(other, Some(News::Ended(SID))), "{other:?}");
        assert!(sorted("ended", &message(SID, NODE)).is_none());
        assert!(matches!(sorted("echo:1", b""), Some(News::Echo)));
    }

    #[test]
    fn an_epoch_is_news_unless_it_is_our_own() {
        let subject = SubjectTag([3; 32]);
        let told = |from| [epoch_message(subject, from), b"1800".to_vec()].concat();
        match sorted("epochs", &told([9; 8])) {
            Some(News::EndedBefore(of, epoch)) => {
                assert_eq!((of, epoch.number()), (subject, 1800));
            }
            other => unreachable!("{other:?}"),
        }
        assert!(sorted("epochs", &told(NODE)).is_none());
    }

    #[test]
    fn what_cannot_be_understood_may_have_been_an_end() {
        for payload in [&b""[..], b"short", &[0; 23], &[0; 25], &[0; 100]] {
            let news = sorted("ended", payload);
            assert!(matches!(news, Some(News::Unknown)), "{payload:?}: {news:?}");
        }
        for number in ["", "-1", "1e3", "99999999999999999999"] {
            let payload = [&[3; 40], number.as_bytes()].concat();
            let news = sorted("epochs", &payload);
            assert!(matches!(news, Some(News::Unknown)), "{number}: {news:?}");
        }
    }
}
