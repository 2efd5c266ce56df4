//! Tickets on their way: handed to browsers whose token was good, and taken in place of one. What was ended on this node,
//! or was heard to have ended, is over for every ticket; what was not lives on until the ticket's own end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use moka::future::Cache as Moka;
use tokio::sync::Notify;

use super::cache::weigh;
use super::lifecycle::Verdict;
use super::live::{Entry, Handed, LiveSession, Private};
use super::record::SessionRow;
use super::sessions::{Presence, Sessions};
use super::ticket::{Inner, Sworn, TicketKeys, TicketSettings, Tickets};
use super::token::{Token, TokenHash};
use super::{CookieName, EndReason, Found, Settings};
use crate::clock::Timestamp;
use crate::identity::Federated;

/// For how long a ticket is handed out again that was made for the same token: requests come in bunches.
const AGAIN: Duration = Duration::from_secs(5);

/// The part of the cache's memory that tickets may take beside it.
const SHARE: u64 = 4;

/// Tickets, and those that have been verified.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) tickets: Tickets,
    known: Moka<TokenHash, Known>,
    /// A ticket came whose key is not known.
    wanted: Notify,
}

/// A ticket that was verified once. While it is good it is not verified again.
#[derive(Clone, Debug)]
struct Known {
    entry: Arc<Entry>,
    /// The token that it was made for.
    token: TokenHash,
}

impl Desk {
    pub(super) fn new(tickets: Tickets, settings: &Settings) -> Self {
        let known = Moka::builder()
            .max_capacity(settings.cache_size / SHARE)
            .weigher(|_, known: &Known| weigh(&known.entry))
            .time_to_live(TicketSettings::LONGEST)
            .build();
        Self {
            tickets,
            known,
            wanted: Notify::new(),
        }
    }
}

impl Sessions {
    /// The cookie of tickets, where there are any.
    pub fn ticket_cookie(&self) -> Option<&CookieName> {
        self.desk.as_ref().map(|desk| desk.tickets.cookie())
    }

    /// The public keys of tickets, where any are made.
    pub fn ticket_keys(&self) -> Option<&Bytes> {
        self.desk.as_ref()?.tickets.published()
    }

    /// From now on these are the keys, on a node that makes no tickets itself.
    pub fn trust_ticket_keys(&self, keys: TicketKeys) {
        if let Some(desk) = self.desk.as_ref().filter(|desk| desk.tickets.is_at_edge()) {
            desk.tickets.trust(keys);
            desk.known.invalidate_all();
        }
    }

    /// Waits until a ticket comes whose key is not known, at a node that makes none: the node that makes them may have a
    /// new one.
    pub async fn ticket_keys_wanted(&self) {
        match &self.desk {
            Some(desk) => desk.wanted.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Whether tickets are all that this node knows, and it cannot verify any yet.
    pub fn lacks_ticket_keys(&self) -> bool {
        let desk = self.desk.as_ref();
        desk.is_some_and(|desk| !desk.tickets.knows_keys())
    }

    /// Whether tickets are all that this node knows: it has no store and no secret.
    pub fn is_at_edge(&self) -> bool {
        let desk = self.desk.as_ref();
        desk.is_some_and(|desk| desk.tickets.is_at_edge())
    }

    /// What makes a browser forget its ticket, as with a login: the ticket is about the session as it was before.
    pub fn forget_ticket(&self) -> Option<HeaderValue> {
        self.ticket_cookie().map(CookieName::clear)
    }

    /// The session of a request's ticket, if that is good by itself. The store is not asked. `None` says nothing: the token
    /// then decides.
    pub async fn by_ticket(
        self: &Arc<Self>,
        headers: &HeaderMap,
        presence: Presence,
    ) -> Option<LiveSession> {
        let desk = self.desk.as_ref()?;
        let token = match self.settings.cookie.find(headers) {
            // What no node here can look up says nothing.
            _ if desk.tickets.is_at_edge() => None,
            Found::None => None,
            Found::One(value) => Some(Token::parse(value)?.hash()),
            Found::Several(_) => return None,
        };
        let found = desk.tickets.cookie().find(headers);
        let (one, several) = match found {
            Found::None => return None,
            Found::One(value) => (Some(value), None),
            Found::Several(candidates) => (None, Some(candidates)),
        };
        let texts = one
            .into_iter()
            .chain(several.iter().flat_map(|several| several.iter()));
        for text in texts {
            if let Some(session) = self.honour(desk, (text, token), presence).await {
                return Some(session);
            }
        }
        None
    }

    /// The ticket that a response is to bring to a browser whose token was good.
    pub fn ticket(&self, session: &LiveSession) -> Option<HeaderValue> {
        let desk = self.desk.as_ref()?;
        let entry = &session.entry;
        // A ticket begets no ticket, and who has not logged in has none.
        if !session.has_record() || entry.private.identity.is_none() || entry.live.is_over() {
            return None;
        }
        let now = self.clock.now();
        if let Some(handed) = &*entry.handed.load()
            && now >= handed.at
            && now.since(handed.at) < AGAIN
        {
            return Some(handed.cookie.clone());
        }
        let cookie = desk
            .tickets
            .make(&self.sworn(desk, entry, now), &self.keyring, now)?;
        entry.handed.store(Some(Arc::new(Handed {
            at: now,
            cookie: cookie.clone(),
        })));
        Some(cookie)
    }

    /// What a ticket says of a session. It ends with the session, be it idle or old; and a lifetime after the store was
    /// asked, where others may have ended the session since.
    fn sworn(&self, desk: &Desk, entry: &Entry, now: Timestamp) -> Sworn {
        let live = &entry.live;
        let known = if self.store.has_other_writers() {
            entry.read.at
        } else {
            now
        };
        let lived = known.after(desk.tickets.settings.lifetime);
        let idle_millis = live.idle_timeout().as_millis();
        Sworn {
            sid: live.sid,
            until: lived.min(live.ends()),
            inner: Inner {
                private: Private {
                    // Nobody logs out with a ticket, and what the provider gave is long.
                    federated: entry
                        .private
                        .federated
                        .as_ref()
                        .and_then(Federated::for_ticket),
                    ..entry.private.clone()
                },
                token: entry.hash,
                epoch: live.epoch(),
                last_seen: live.last_seen(),
                idle_millis: u64::try_from(idle_millis).unwrap_or(u64::MAX),
                expires: live.expires(),
            },
        }
    }

    async fn honour(
        &self,
        desk: &Desk,
        (text, token): (&[u8], Option<TokenHash>),
        presence: Presence,
    ) -> Option<LiveSession> {
        let hash = TokenHash::of_ticket(text);
        let known = if let Some(known) = desk.known.get(&hash).await {
            known
        } else {
            let known = self.open_ticket(desk, text, hash).await?;
            desk.known.insert(hash, known.clone()).await;
            known
        };
        // Cookies of two sessions are somebody's game.
        if token.is_some_and(|token| token != known.token) {
            return None;
        }
        let entry = known.entry;
        let replaced = entry.live.replaced();
        if entry.live.is_over() {
            return None;
        }
        match self.verdict(&entry, presence) {
            Verdict::Live | Verdict::Touch => {
                self.note_activity(&entry, presence);
                Some(LiveSession { entry, replaced })
            }
            Verdict::Expired | Verdict::Idle | Verdict::Rotate => None,
        }
    }

    async fn open_ticket(&self, desk: &Desk, text: &[u8], hash: TokenHash) -> Option<Known> {
        let Some(claims) = desk.tickets.verify(text, self.clock.now()) else {
            if desk.tickets.is_at_edge() && desk.tickets.lacks_key_of(text) {
                desk.wanted.notify_one();
            }
            return None;
        };
        let sworn = if desk.tickets.is_at_edge() {
            claims.told()?
        } else {
            claims.open(&self.keyring)?
        };
        let Sworn { sid, until, inner } = sworn;
        let subject = &inner.private.identity.as_ref()?.subject;
        let row = SessionRow {
            sid,
            subject: self.subject_tags(subject).first().copied(),
            epoch: inner.epoch,
            created: inner.last_seen,
            last_seen: inner.last_seen,
            idle_millis: inner.idle_millis,
            expires: inner.expires,
            version: 0,
            listing: Vec::new(),
            private: Vec::new(),
        };
        let live = self.registry.adopt(&row, &inner.private);
        // Looked at after the session was adopted: an end before that left this mark, a later one finds the session.
        if self.cache.is_ended(&sid) || self.cache.is_overtaken(&row).await {
            live.end(EndReason::Elsewhere);
            return None;
        }
        let entry = Entry::of_ticket(hash, (live, inner.private), until);
        Some(Known {
            entry: Arc::new(entry),
            token: inner.token,
        })
    }
}
