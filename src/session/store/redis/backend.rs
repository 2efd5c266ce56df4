//! Every change of a session, each in the order that the head of this module explains. Lists and the sweep are in `lists`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join_all, try_join};
use redis::Value;
use tokio::runtime::Handle;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

use super::changes::taken;
use super::keys::{Field, Keys, hash_in, moment, named_in, score, subject_in};
use super::link::Link;
use super::news::{Listener, Node, epoch_message, epoch_of, message};
use super::rows::{self, Bytes, damaged, shaped};
use super::scripts::{Prepared, Scripts};
use super::settings::Settings;
use crate::clock::Timestamp;
use crate::secret::random;
use crate::session::record::{Epoch, SessionRow, Stored, SubjectTag, Successor, TokenRow};
use crate::session::store::{
    Creation, Invalidation, Rotation, SessionStore, StoreError, Update, transition,
};
use crate::session::token::{Sid, TokenHash};

/// News that wait for this node; one that falls behind hears of it.
const NEWS: usize = 1024;

/// How often a change begins again because another one came between.
const TRIES: usize = 5;

/// Sessions that one call of the touching script sees. In a Cluster each has a node of its own.
const TOUCHED_AT_ONCE: usize = 128;

/// Commands that one operation has under way at once.
pub(super) const AT_ONCE: usize = 64;

/// The store in Redis. Dropping it stops listening.
pub struct Redis {
    pub(super) link: Arc<Link>,
    pub(super) keys: Keys,
    pub(super) scripts: Scripts,
    node: Node,
    news: broadcast::Sender<Invalidation>,
    listener: AbortHandle,
}

/// What a session must still be like when it is removed.
pub(super) type Expected<'a> = Option<&'a SessionRow>;

impl Redis {
    /// Waits for nothing and never fails: a server that is down now is one that is down later.
    ///
    /// # Panics
    /// Outside of a Tokio runtime. The connections live on the one that this is called on.
    pub fn open(settings: &Settings) -> Self {
        let home = Handle::current();
        let link = Link::new(settings, home.clone());
        let keys = Keys::new(&settings.prefix);
        let (node, news) = (random(), broadcast::Sender::new(NEWS));
        let listener = Listener {
            link: link.clone(),
            keys: keys.clone(),
            node,
            to: news.clone(),
        };
        Self {
            link,
            keys,
            scripts: Scripts::new(),
            node,
            news,
            listener: home.spawn(listener.run()).abort_handle(),
        }
    }

    /// The fields of a session's hash.
    pub(super) async fn fields(
        &self,
        sid: Sid,
        fields: &[impl redis::ToRedisArgs],
    ) -> Result<Vec<Bytes>, StoreError> {
        let mut get = redis::cmd("HMGET");
        get.arg(self.keys.session(sid)).arg(fields);
        self.link.ask(&get).await
    }

    pub(super) async fn session(&self, sid: Sid) -> Result<Option<SessionRow>, StoreError> {
        rows::session(sid, &self.fields(sid, &rows::SESSION).await?)
    }

    /// Runs a script on a session's hash.
    pub(super) async fn change<A: redis::ToRedisArgs>(
        &self,
        script: &Prepared,
        sid: Sid,
        args: A,
    ) -> Result<Value, StoreError> {
        script
            .run(&self.link, &[self.keys.session(sid)], args)
            .await
    }

    /// The session that a token leads to, which need not know the token, and whose it is.
    pub(super) async fn led_to(
        &self,
        hash: TokenHash,
    ) -> Result<Option<(Sid, Option<SubjectTag>)>, StoreError> {
        let mut get = redis::cmd("GET");
        get.arg(self.keys.token(hash));
        let name: Bytes = self.link.ask(&get).await?;
        name.map(|name| named_in(&name).ok_or_else(|| damaged("no session id")))
            .transpose()
    }

    /// Takes a session away, tells every node, and then clears what led to it. `false` where there was none, or not the
    /// expected one.
    pub(super) async fn erase(&self, sid: Sid, expected: Expected<'_>) -> Result<bool, StoreError> {
        let (version, seen) = match expected {
            Some(row) => (row.version.to_string(), moment(row.last_seen)),
            None => (String::new(), String::new()),
        };
        let args = (self.keys.ended(), message(sid, self.node), version, seen);
        let found = self.change(&self.scripts.remove, sid, args).await?;
        let found: Option<Vec<Vec<u8>>> = shaped(found)?;
        let Some((subject, hashes)) = found.as_ref().and_then(|found| found.split_first()) else {
            return Ok(false);
        };
        let tokens = hashes.iter().filter_map(|hash| hash_in(hash));
        let cleared = try_join(
            self.forget_tokens(tokens.collect()),
            self.unfile(sid, subject_in(subject)),
        );
        if let Err(error) = cleared.await {
            // The session is gone, and that is what counts. What is left leads nowhere, and the sweep takes it.
            tracing::debug!(%sid, %error, "entries of an ended session are left");
        }
        Ok(true)
    }
}

#[async_trait]
impl SessionStore for Redis {
    async fn create(&self, session: SessionRow, token: TokenRow) -> Result<Creation, StoreError> {
        transition::new_session(false, &session, &token)?;
        let [seen, expires] = rows::times(&session);
        let subject = session.subject.map(|tag| tag.0.to_vec());
        let args = (
            rows::session_bytes(&session),
            session.version.to_string(),
            seen,
            &expires,
            subject.unwrap_or_default(),
            Field::Token.of(token.hash),
            rows::token_bytes(&token),
        );
        let created = self.change(&self.scripts.create, session.sid, args).await?;
        if !shaped::<bool>(created)? {
            return Err(taken());
        }
        let led_to = async {
            self.file(&session).await?;
            let name = (token.sid, session.subject);
            let claimed = self.claim(token.hash, name, &expires).await?;
            if !claimed {
                return Err(taken());
            }
            // Last: whatever ends all of the subject's sessions after this look ends one that is there.
            let lives = session.epoch >= self.epoch_of(session.subject).await?;
            Ok(if lives {
                Creation::Done
            } else {
                Creation::Overtaken
            })
        };
        let outcome = led_to.await;
        if outcome != Ok(Creation::Done)
            && let Err(error) = self.erase_unclaimed(&session).await
        {
            tracing::debug!(sid = %session.sid, %error, "a session that nobody can open is left to the sweep");
        }
        outcome
    }

    async fn load(&self, hash: TokenHash) -> Result<Option<Stored>, StoreError> {
        self.loaded(hash).await
    }

    async fn update(&self, session: SessionRow) -> Result<Update, StoreError> {
        for _ in 0..TRIES {
            if let Some(update) = self.try_update(&session).await? {
                return Ok(update);
            }
        }
        Err(StoreError::Busy)
    }

    async fn touch(&self, seen: Vec<(Sid, Timestamp)>) -> Result<(), StoreError> {
        let at_once = if self.link.is_cluster() {
            1
        } else {
            TOUCHED_AT_ONCE
        };
        let calls: Vec<_> = seen.chunks(at_once).collect();
        let mut failure = None;
        for some in calls.chunks(AT_ONCE) {
            let touching = some.iter().map(|sessions| async move {
                let names: Vec<_> = sessions
                    .iter()
                    .map(|(sid, _)| self.keys.session(*sid))
                    .collect();
                let times: Vec<_> = sessions.iter().map(|(_, at)| moment(*at)).collect();
                self.scripts.touch.run(&self.link, &names, times).await
            });
            for touched in join_all(touching).await {
                failure = touched.err().or(failure);
            }
            if let Some(error) = failure {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn rotate(
        &self,
        old: TokenHash,
        next: TokenRow,
        successor: Successor,
    ) -> Result<Rotation, StoreError> {
        for _ in 0..TRIES {
            if let Some(rotation) = self.try_rotate(old, &next, &successor).await? {
                return Ok(rotation);
            }
        }
        Err(StoreError::Busy)
    }

    async fn confirm(&self, hash: TokenHash, at: Timestamp) -> Result<(), StoreError> {
        let Some((sid, _)) = self.led_to(hash).await? else {
            return Ok(());
        };
        let args = (hash.as_bytes(), moment(at));
        self.change(&self.scripts.confirm, sid, args).await?;
        Ok(())
    }

    async fn remove(&self, sid: Sid) -> Result<bool, StoreError> {
        self.erase(sid, None).await
    }

    async fn epoch(&self, subject: SubjectTag) -> Result<Epoch, StoreError> {
        self.epoch_of(Some(subject)).await
    }

    async fn begin_epoch(
        &self,
        subject: SubjectTag,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Epoch, StoreError> {
        let args = (
            score(now),
            moment(until),
            self.keys.epochs(),
            epoch_message(subject, self.node),
        );
        let (key, script) = (self.keys.epoch(subject), &self.scripts.begin_epoch);
        let begun = script.run(&self.link, &[key], args).await?;
        let number: Vec<u8> = shaped(begun)?;
        epoch_of(&number).ok_or_else(|| damaged("no epoch"))
    }

    async fn claim_end(&self, sid: Sid, span: Duration) -> Result<bool, StoreError> {
        let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let mut claim = redis::cmd("SET");
        claim.arg(self.keys.claim(sid)).arg("");
        claim.arg("NX").arg("PX").arg(span.clamp(1, 1 << 40));
        // Sent once: a second time it would find its own.
        let claimed: Option<String> = shaped(self.link.send(&claim).await?)?;
        Ok(claimed.is_some())
    }

    async fn list(&self, after: Option<Sid>, limit: usize) -> Result<Vec<SessionRow>, StoreError> {
        self.listed(self.keys.all(), after, limit).await
    }

    async fn list_by_subject(
        &self,
        subject: SubjectTag,
        after: Option<Sid>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, StoreError> {
        self.listed(self.keys.subject(subject), after, limit).await
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.swept(now, limit).await
    }

    /// Ends are told at once, but changes are not.
    fn has_other_writers(&self) -> bool {
        true
    }

    fn invalidations(&self) -> Option<broadcast::Receiver<Invalidation>> {
        Some(self.news.subscribe())
    }

    async fn probe(&self) -> Result<(), StoreError> {
        // A change that changes nothing: a replica refuses it, and so does a server whose disk takes no more.
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(self.keys.nothing());
        self.link.tell(&unlink).await
    }
}

impl Redis {
    /// A creation that is taken back: nobody was told of the session, and nobody is told of its end. The name of its token
    /// leads nowhere, and expires.
    async fn erase_unclaimed(&self, session: &SessionRow) -> Result<(), StoreError> {
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(self.keys.session(session.sid));
        self.link.tell(&unlink).await?;
        self.unfile(session.sid, session.subject).await
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}
