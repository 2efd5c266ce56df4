//! Sessions as those see and end them who may: administrators all of them, people their own. What is listed comes from the
//! store, with what this node knows better: who was active a moment ago, and which sessions have just ended.

use std::sync::Arc;
use std::time::Duration;

use super::EndReason;
use super::live::LiveSession;
use super::record::SessionRow;
use super::sessions::{Listing, Sessions, Who};
use super::store::StoreError;
use super::token::Sid;
use crate::clock::Timestamp;
use crate::identity::Subject;
use crate::secret::Purpose;
use crate::telemetry::StoreOp;

/// Sessions that one call looks at, so that a filter that fits nothing costs no more than this.
const MAX_LOOKED_AT: usize = 5_000;

/// A session as a list shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    pub sid: Sid,
    pub created: Timestamp,
    pub last_seen: Timestamp,
    /// When it ends if nothing more is heard of it.
    pub ends: Timestamp,
    /// When it ends in any case.
    pub expires: Timestamp,
    pub state: State,
    /// `None` where it cannot be opened: it is damaged, or sealed under a secret that is not configured.
    pub listing: Option<Listing>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    Active,
    /// It lets nobody in any more, and waits to be removed from the store.
    Ended,
}

impl State {
    /// The word for it in lists.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Ended => "ended",
        }
    }
}

/// Which sessions are to be listed. What is `None` does not matter.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wanted {
    /// The name that the user logged in with.
    pub user: Option<String>,
    pub provider: Option<String>,
    pub state: Option<State>,
    /// At least this long ago it began.
    pub older_than: Option<Duration>,
}

impl Wanted {
    /// Whether a session is one of them. One that cannot be opened is nobody's, nor is a visitor's.
    pub fn fits(&self, listed: &Listed, now: Timestamp) -> bool {
        let listing = listed.listing.as_ref();
        let who = listing.and_then(|listing| listing.who.as_ref());
        let is = |wanted: &Option<String>, text: fn(&Who) -> &str| {
            wanted
                .as_deref()
                .is_none_or(|wanted| who.is_some_and(|who| text(who) == wanted))
        };
        is(&self.user, |who| &who.user)
            && is(&self.provider, |who| &who.subject.provider)
            && self.state.is_none_or(|state| listed.state == state)
            && self
                .older_than
                .is_none_or(|age| now.since(listed.created) >= age)
    }
}

/// Part of a list, in the order of the sid, which is about that of beginning.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ListPage {
    /// May be fewer than asked for, even none, where there is more.
    pub sessions: Vec<Listed>,
    /// Where the list goes on, if it does.
    pub next: Option<Sid>,
}

impl Sessions {
    /// The sessions that fit, after `after`, at most `limit`.
    pub async fn list(
        &self,
        wanted: &Wanted,
        after: Option<Sid>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        let size = limit.clamp(50, 500);
        let now = self.clock.now();
        let (mut list, mut looked_at) = (ListPage::default(), 0);
        list.next = after;
        loop {
            let rows = self.store.list(list.next, size);
            let rows = self.within(StoreOp::List, rows).await?;
            let is_last = rows.len() < size;
            let mut rows = rows.into_iter().peekable();
            while let Some(row) = rows.next() {
                list.next = Some(row.sid);
                let listed = self.listed(row);
                if wanted.fits(&listed, now) {
                    list.sessions.push(listed);
                }
                if list.sessions.len() >= limit {
                    let is_end = is_last && rows.peek().is_none();
                    list.next = list.next.filter(|_| !is_end);
                    return Ok(list);
                }
            }
            looked_at += size;
            if is_last {
                list.next = None;
                return Ok(list);
            }
            if looked_at >= MAX_LOOKED_AT {
                return Ok(list);
            }
            tokio::task::yield_now().await;
        }
    }

    /// One session, if the store holds it.
    pub async fn look(&self, sid: Sid) -> Result<Option<Listed>, StoreError> {
        let row = self.row(sid).await?;
        Ok(row.map(|row| self.listed(row)))
    }

    /// Sessions of a subject that let somebody in, at most `limit`, and whether there are more.
    pub async fn list_of(
        &self,
        subject: &Subject,
        limit: usize,
    ) -> Result<(Vec<Listed>, bool), StoreError> {
        let (mut theirs, mut more) = (Vec::new(), false);
        for tag in self.subject_tags(subject) {
            let rows = self
                .store
                .list_by_subject(tag, None, limit.saturating_add(1));
            let rows = self.within(StoreOp::List, rows).await?;
            more |= rows.len() > limit;
            let listed = rows.into_iter().map(|row| self.listed(row));
            theirs.extend(listed.filter(|listed| listed.state == State::Active));
        }
        more |= theirs.len() > limit;
        theirs.truncate(limit);
        Ok((theirs, more))
    }

    /// Ends one session of the user of another. `false`: they have no such session.
    pub async fn end_own(&self, session: &LiveSession, sid: Sid) -> Result<bool, StoreError> {
        let Some(identity) = session.identity() else {
            return Ok(false);
        };
        // One that is in use here ends also while the store is silent.
        let is_theirs = self.registry.is_of(sid, &identity.subject) || {
            let tags = self.subject_tags(&identity.subject);
            let row = self.row(sid).await?;
            row.and_then(|row| row.subject)
                .is_some_and(|tag| tags.contains(&tag))
        };
        if is_theirs {
            self.end(sid, EndReason::RevokedByUser).await?;
        }
        Ok(is_theirs)
    }

    /// Ends all sessions of a session's user but that one, and tells how many. It goes on to the end, whether or not
    /// anybody waits for it.
    pub async fn end_others(self: &Arc<Self>, session: &LiveSession) -> Result<usize, StoreError> {
        let Some(identity) = session.identity() else {
            return Ok(0);
        };
        let (sessions, subject, keep) = (self.clone(), identity.subject.clone(), session.sid());
        let work = async move {
            let ended = sessions.end_all_but(&subject, keep).await;
            if ended.is_err() {
                // The store cannot say which they are. Those that are in use here end all the same.
                let in_use = sessions.registry.sids_of(&subject);
                for sid in in_use.into_iter().filter(|sid| *sid != keep) {
                    // It has failed already, and what it owes is paid later.
                    drop(sessions.end(sid, EndReason::RevokedByUser).await);
                }
            }
            ended
        };
        let done = self.background.spawn(work).await;
        done.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
    }

    /// As [`Sessions::end_all_of`], which goes on to the end whether or not anybody waits for it.
    pub async fn revoke_all_of(self: &Arc<Self>, subject: Subject) -> Result<usize, StoreError> {
        let sessions = self.clone();
        let work = async move { sessions.end_all_of(&subject, EndReason::Revoked).await };
        let done = self.background.spawn(work).await;
        done.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
    }

    async fn end_all_but(&self, subject: &Subject, keep: Sid) -> Result<usize, StoreError> {
        const PAGE: usize = 100;
        let mut ended = 0;
        for tag in self.subject_tags(subject) {
            let mut after = None;
            loop {
                let page = self.store.list_by_subject(tag, after, PAGE);
                let page = self.within(StoreOp::List, page).await?;
                for row in page.iter().filter(|row| row.sid != keep) {
                    self.end(row.sid, EndReason::RevokedByUser).await?;
                    ended += 1;
                }
                match page.last() {
                    Some(last) if page.len() == PAGE => after = Some(last.sid),
                    _ => break,
                }
            }
        }
        Ok(ended)
    }

    pub(super) async fn row(&self, sid: Sid) -> Result<Option<SessionRow>, StoreError> {
        let rows = self.store.list(before(sid), 1);
        let rows = self.within(StoreOp::List, rows).await?;
        Ok(rows.into_iter().find(|row| row.sid == sid))
    }

    pub(super) fn listed(&self, mut row: SessionRow) -> Listed {
        let (sid, now) = (row.sid, self.clock.now());
        let seen = self.registry.last_seen(sid);
        row.last_seen = seen.map_or(row.last_seen, |seen| seen.max(row.last_seen));
        let is_over = row.ends() <= now || self.cache.is_ended(&sid);
        let sealed = &row.listing;
        let opened = self.keyring.open(Purpose::Listing, sid.as_bytes(), sealed);
        Listed {
            sid,
            created: row.created,
            last_seen: row.last_seen,
            ends: row.ends(),
            expires: row.expires,
            state: if is_over { State::Ended } else { State::Active },
            listing: opened.and_then(|opened| postcard::from_bytes(&opened).ok()),
        }
    }
}

/// The name that comes right before another in the order of the store. `None`: there is none.
fn before(sid: Sid) -> Option<Sid> {
    let number = u128::from_be_bytes(*sid.as_bytes()).checked_sub(1)?;
    Some(Sid::from_bytes(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(created: u64, user: Option<&str>) -> Listed {
        let listing = user.map(|user| Listing {
            who: Some(Who {
                subject: Subject {
                    provider: "local".to_owned(),
                    id: user.to_owned(),
                },
                user: user.to_owned(),
                elsewhere: None,
            }),
            address: [127, 0, 0, 1].into(),
            user_agent: None,
        });
        Listed {
            sid: Sid::from_bytes([7; 16]),
            created: Timestamp::from_millis(created),
            last_seen: Timestamp::from_millis(created),
            ends: Timestamp::MAX,
            expires: Timestamp::MAX,
            state: State::Active,
            listing,
        }
    }

    #[test]
    fn each_filter_narrows_and_what_cannot_be_opened_is_nobodys() {
        let now = Timestamp::from_millis(10_000);
        let own = |text: &str| Some(text.to_owned());
        let (alice, sealed) = (listed(4_000, Some("alice")), listed(4_000, None));
        let all = Wanted::default();
        assert!(all.fits(&alice, now) && all.fits(&sealed, now));
        for (wanted, fits) in [
            (
                Wanted {
                    user: own("alice"),
                    ..all.clone()
                },
                true,
            ),
            (
                Wanted {
                    user: own("Alice"),
                    ..all.clone()
                },
                false,
            ),
            (
                Wanted {
                    provider: own("local"),
                    ..all.clone()
                },
                true,
            ),
            (
                Wanted {
                    provider: own("other"),
                    ..all.clone()
                },
                false,
            ),
            (
                Wanted {
                    user: own("alice"),
                    provider: own("other"),
                    ..all.clone()
                },
                false,
            ),
        ] {
            assert_eq!(wanted.fits(&alice, now), fits, "{wanted:?}");
            assert!(!wanted.fits(&sealed, now), "{wanted:?}");
        }
        for (state, fits) in [(State::Active, true), (State::Ended, false)] {
            let wanted = Wanted {
                state: Some(state),
                ..all.clone()
            };
            assert_eq!(wanted.fits(&sealed, now), fits);
        }
        for (seconds, fits) in [(0, true), (6, true), (7, false)] {
            let older_than = Some(Duration::from_secs(seconds));
            let wanted = Wanted {
                older_than,
                ..all.clone()
            };
            assert_eq!(wanted.fits(&sealed, now), fits, "{seconds}");
        }
    }

    #[test]
    fn the_name_before_is_the_nearest_smaller_one() {
        let sid = Sid::parse("01993d7e-0000-7000-8000-000000000000").unwrap();
        let expected = Sid::parse("01993d7e-0000-7000-7fff-ffffffffffff").unwrap();
        assert_eq!(before(sid), Some(expected));
        assert!(expected < sid);
        assert_eq!(before(Sid::from_bytes([0; 16])), None);
    }
}
