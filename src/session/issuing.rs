//! How sessions begin, and within which number of them (R9). How the user of one logs in again is in `renewing`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{Mutex, MutexGuard};
use zeroize::Zeroizing;

use super::binding::Origin;
use super::crowd::{Begun, OnLimit, Room, begins};
use super::data::{Jars, Spaces, Vaulted};
use super::limits::{Limits, limits_of};
use super::live::{LiveSession, Private};
use super::record::{Epoch, SessionRow, TokenRow};
use super::sessions::{AuthError, Listing, Presence, Sessions, Who, pack};
use super::starting_over::Remains;
use super::store::{Creation, StoreError};
use super::token::{Sid, Token};
use super::{CookieName, EndReason};
use crate::clock::Timestamp;
use crate::identity::{Federated, Identity, Subject};
use crate::secret::{Purpose, random};
use crate::telemetry::{AuditEvent, SessionEvent, StoreOp};

/// The longest user agent that is listed, in characters.
const MAX_USER_AGENT: usize = 256;

/// A user who has just proved who they are.
#[derive(Debug)]
pub struct Login {
    pub identity: Identity,
    pub amr: Vec<String>,
    /// When that was; `None`: just now.
    pub proved: Option<Timestamp>,
    /// What the session is to the provider, if one was asked.
    pub federated: Option<Federated>,
    pub address: IpAddr,
    /// As it came.
    pub user_agent: Option<HeaderValue>,
    /// Counts only where the settings let people be remembered.
    pub remember: bool,
    /// The session that ends once this login has one of its own: it takes up no room.
    pub replaces: Option<Sid>,
    /// What [`Sessions::epoch_of`] said before the proof was looked at.
    pub epoch: Epoch,
    pub carries: Option<Carried>,
}

/// Whose data goes on in a new session.
#[derive(Debug)]
pub enum Carried {
    /// What is left of a session of the same user.
    Remains(Remains),
    /// The visitor that the user has been so far.
    Visitor(LiveSession),
}

/// A session that has just begun, or begun anew.
#[derive(Debug)]
pub struct Issued {
    pub sid: Sid,
    /// `Set-Cookie` with the token.
    pub cookie: HeaderValue,
}

/// Why a login got no session.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LoginError {
    #[error("the user has {max} sessions, which is all that is allowed")]
    Full { max: usize },
    /// All sessions of the user were ended meanwhile: whatever the reason, it is one to look at the proof again.
    #[error("all sessions of the user were ended since the login began")]
    Overtaken,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where the logins of one user wait for each other, so that on one node none of them sees half of another.
#[derive(Debug)]
pub(super) struct Doors([Mutex<()>; 64]);

impl Default for Doors {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Doors {
    /// Waits for whoever is before us, who waits for the store.
    pub(super) async fn enter(
        &self,
        number: u8,
        patience: Duration,
    ) -> Result<MutexGuard<'_, ()>, StoreError> {
        let door = self.0.get(usize::from(number) % self.0.len());
        let door = door.ok_or(StoreError::Busy)?.lock();
        let opened = tokio::time::timeout(patience, door).await;
        opened.map_err(|_| StoreError::Busy)
    }
}

/// A session that is about to be.
#[derive(Debug)]
pub(super) struct Newborn {
    pub(super) listing: Listing,
    pub(super) vault: Vaulted,
    pub(super) limits: Limits,
    /// Its user's when the login began.
    pub(super) epoch: Epoch,
    pub(super) now: Timestamp,
}

impl Sessions {
    /// Asked before anything is proved: what ends all of the user's sessions from then on ends the login's, too.
    pub async fn epoch_of(&self, subject: &Subject) -> Result<Epoch, StoreError> {
        match self.subject_tags(subject).first() {
            Some(tag) => {
                let epoch = self.store.epoch(*tag);
                self.within(StoreOp::Epoch, epoch).await
            }
            None => Ok(Epoch::default()),
        }
    }

    /// The same for a login whose user is known only once it has been proved. `None`: all their sessions were ended after
    /// it `began`.
    pub async fn epoch_since(
        &self,
        subject: &Subject,
        began: Timestamp,
    ) -> Result<Option<Epoch>, StoreError> {
        let epoch = self.epoch_of(subject).await?;
        Ok((epoch.number() <= began.as_millis()).then_some(epoch))
    }

    /// Begins a session under a new token. It is stored durably before this returns (R6).
    pub async fn issue(&self, login: Login) -> Result<Issued, LoginError> {
        if self.settings.per_user.max == 0 {
            return self.begin(&login, self.clock.now()).await;
        }
        let (rule, subject) = (self.settings.per_user, login.identity.subject.clone());
        let _door = self.door(&subject).await?;
        let live = self.sessions_of(&login).await?;
        if rule.before(&live) == Room::None {
            return Err(self.full(&login));
        }
        let issued = self.begin(&login, begins(&live, self.clock.now())).await?;
        let room = match self.sessions_of(&login).await {
            Ok(live) => rule.after(&live),
            Err(error) => {
                // Nobody has been told of it, and nobody knows whether it may stand.
                self.end(issued.sid, EndReason::Withdrawn).await?;
                return Err(error.into());
            }
        };
        match room {
            Room::None => {
                self.end(issued.sid, EndReason::Withdrawn).await?;
                Err(self.full(&login))
            }
            Room::Made(gone) => {
                if !gone.is_empty() {
                    self.audit_limit(&login);
                }
                for sid in gone {
                    // Where the store does not take it the session has ended here, and the store is told again.
                    if let Err(error) = self.end(sid, EndReason::Evicted).await {
                        tracing::warn!(%sid, %error, "a session that made room is not out of the store yet");
                    }
                }
                Ok(issued)
            }
        }
    }

    /// The session of a login that has just been, as a request with its cookie would find it.
    pub async fn enter(self: &Arc<Self>, issued: &Issued) -> Result<LiveSession, AuthError> {
        let cookie = issued.cookie.as_bytes();
        let value = cookie.split(|byte| matches!(byte, b'=' | b';')).nth(1);
        let presence = Presence {
            idle_timeout: None,
            activity: false,
        };
        self.authenticate(value.unwrap_or_default(), presence).await
    }

    /// A cookie that the browser keeps while it runs, or until the end that is given.
    pub(super) fn cookie_until(&self, token: &Token, end: Option<Timestamp>) -> HeaderValue {
        let name: &CookieName = &self.settings.cookie;
        // Zero would take away the cookie that is there.
        let left = end.map(|end| end.since(self.clock.now()).max(Duration::from_secs(1)));
        name.set_cookie(&token.encode(), left)
    }

    async fn begin(&self, login: &Login, now: Timestamp) -> Result<Issued, LoginError> {
        let remembered = login.remember && self.settings.remember_me.is_some();
        let newborn = |spaces, jars| Newborn {
            listing: listing(login),
            vault: Vaulted::new(private(login, now, remembered), spaces).with_jars(jars),
            limits: limits_of(&self.settings, &login.identity.groups, remembered),
            epoch: login.epoch,
            now,
        };
        let issued = match &login.carries {
            Some(Carried::Remains(Remains { spaces, jars })) => {
                let newborn = newborn(spaces.clone(), jars.clone());
                self.create(&newborn).await?
            }
            Some(Carried::Visitor(visitor)) => {
                let newborn = |spaces| newborn(spaces, Jars::new());
                self.carry_over(visitor, newborn).await?
            }
            None => self.create(&newborn(Spaces::new(), Jars::new())).await?,
        };
        issued.ok_or(LoginError::Overtaken)
    }

    /// Stores a new session. Its cookie lives as long as it does where its user asked to be remembered. `None`: all
    /// sessions of its user were ended meanwhile.
    pub(super) async fn create(&self, newborn: &Newborn) -> Result<Option<Issued>, StoreError> {
        let Newborn {
            listing,
            vault,
            limits,
            epoch,
            now,
        } = newborn;
        let (token, now) = (Token::generate(), *now);
        let (sid, key) = (Sid::generate(now), Zeroizing::new(random::<32>()));
        let tags = listing.who.as_ref();
        let tags = tags.map_or_else(Vec::new, |who| self.subject_tags(&who.subject));
        let expires = now.after(limits.absolute);
        let session = SessionRow {
            sid,
            subject: tags.first().copied(),
            epoch: *epoch,
            created: now,
            last_seen: now,
            idle_millis: millis(limits.idle),
            expires,
            version: 0,
            listing: self.seal_listing(sid, listing),
            private: self.close_vault(sid, &key, vault),
        };
        let row = TokenRow {
            hash: token.hash(),
            sid,
            issued: now,
            session_key: self.wrap_key(&token, sid, &key),
            predecessor: None,
            successor: None,
        };
        let created = self.store.create(session, row);
        match self.within(StoreOp::Create, created).await {
            Ok(Creation::Done) => {}
            Ok(Creation::Overtaken) => return Ok(None),
            Err(error) => {
                if error == StoreError::Timeout {
                    // It may be stored all the same, and would take up room without anybody who holds its token.
                    self.cache.note_ended(sid).await;
                    self.owed.lock().add(sid, EndReason::Withdrawn);
                }
                return Err(error);
            }
        }
        self.metrics.session(SessionEvent::Issued);
        let remembered = vault.private.remembered;
        let cookie = self.cookie_until(&token, remembered.then_some(expires));
        Ok(Some(Issued { sid, cookie }))
    }

    async fn door(&self, subject: &Subject) -> Result<MutexGuard<'_, ()>, StoreError> {
        let tag = self.subject_tags(subject).first().map_or(0, |tag| tag.0[0]);
        let patience = 2 * self.settings.store_timeout;
        self.doors.enter(tag, patience).await
    }

    /// The sessions of a login's user that live, but for one that is about to end.
    async fn sessions_of(&self, login: &Login) -> Result<Vec<Begun>, StoreError> {
        const PAGE: usize = 100;
        let (now, mut live) = (self.clock.now(), Vec::new());
        for tag in self.subject_tags(&login.identity.subject) {
            let mut after = None;
            loop {
                let page = self.store.list_by_subject(tag, after, PAGE);
                let page = self.within(StoreOp::List, page).await?;
                let counts = |row: &&SessionRow| {
                    Some(row.sid) != login.replaces && self.lives(row, login.epoch, now)
                };
                live.extend(page.iter().filter(counts).map(|row| Begun {
                    created: row.created,
                    sid: row.sid,
                }));
                match page.last() {
                    Some(last) if page.len() == PAGE => after = Some(last.sid),
                    _ => break,
                }
            }
        }
        Ok(live)
    }

    /// What has ended and was not swept yet does not count, nor what ended here and waits to be removed.
    pub(super) fn lives(&self, row: &SessionRow, epoch: Epoch, now: Timestamp) -> bool {
        let seen = self.registry.last_seen(row.sid).unwrap_or(row.last_seen);
        let idle = Duration::from_millis(row.idle_millis);
        let ends = row.last_seen.max(seen).after(idle).min(row.expires);
        row.epoch >= epoch && now < ends && !self.cache.is_ended(&row.sid)
    }

    fn full(&self, login: &Login) -> LoginError {
        self.audit_limit(login);
        LoginError::Full {
            max: self.settings.per_user.max,
        }
    }

    fn audit_limit(&self, login: &Login) {
        let rule = self.settings.per_user;
        self.audit.record(&AuditEvent::SessionLimitReached {
            provider: login.identity.subject.provider.clone(),
            user: login.identity.user.clone(),
            address: login.address,
            limit: rule.max,
            action: OnLimit::name(rule.on_limit),
        });
    }

    pub(super) fn seal_listing(&self, sid: Sid, listing: &Listing) -> Vec<u8> {
        self.keyring
            .seal(Purpose::Listing, sid.as_bytes(), &pack(listing))
    }
}

pub(super) fn listing(login: &Login) -> Listing {
    Listing {
        who: Some(Who {
            subject: login.identity.subject.clone(),
            user: login.identity.user.clone(),
            elsewhere: login.federated.as_ref().and_then(|of| of.session.clone()),
        }),
        address: login.address,
        user_agent: listed_agent(login.user_agent.as_ref()),
    }
}

pub(super) fn listed_agent(user_agent: Option<&HeaderValue>) -> Option<String> {
    let text = user_agent.and_then(|value| value.to_str().ok());
    text.map(|text| text.chars().take(MAX_USER_AGENT).collect())
}

fn private(login: &Login, now: Timestamp, remembered: bool) -> Private {
    Private {
        identity: Some(login.identity.clone()),
        auth_time: login.proved.unwrap_or(now),
        amr: login.amr.clone(),
        origin: origin(login),
        remembered,
        federated: login.federated.clone(),
    }
}

pub(super) fn origin(login: &Login) -> Origin {
    let user_agent = login
        .user_agent
        .as_ref()
        .map_or(&b""[..], HeaderValue::as_bytes);
    Origin::of(login.address, user_agent)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
