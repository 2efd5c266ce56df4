//! Sessions of people who have not logged in. They begin with the first thing that an app wants to remember (R8), as many
//! as there is room for; they open nothing that needs a user; and a login carries what they hold into its own session.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;

use super::EndReason;
use super::binding::Origin;
use super::data::{Change, DataError, Spaces, Vaulted};
use super::issuing::{Issued, Newborn, listed_agent};
use super::limits::Limits;
use super::live::{LiveSession, Private};
use super::record::{Epoch, SessionRow};
use super::sessions::{Listing, Sessions};
use super::store::{StoreError, Update};
use crate::clock::Timestamp;
use crate::telemetry::StoreOp;

/// How often the data of a visitor may change while they log in, before that is given up.
const TRIES: usize = 8;

/// How long such sessions live, and how many may begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Visitors {
    pub limits: Limits,
    /// In one minute, for one address (IPv6: one /64).
    pub max_per_address: u32,
    /// In one minute.
    pub max_per_minute: u32,
}

impl Default for Visitors {
    fn default() -> Self {
        Self {
            limits: Limits {
                idle: Duration::from_hours(24),
                absolute: Duration::from_hours(7 * 24),
            },
            max_per_address: 30,
            max_per_minute: 1000,
        }
    }
}

/// Somebody who has no session yet.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub address: IpAddr,
    /// As it came.
    pub user_agent: Option<HeaderValue>,
}

/// Counts the sessions of visitors that begin. Holds at most as many addresses as sessions may begin in a minute.
#[derive(Debug, Default)]
pub(super) struct Births(Mutex<Minute>);

#[derive(Debug, Default)]
struct Minute {
    began: Timestamp,
    all: u32,
    by_address: HashMap<IpAddr, u32>,
}

impl Births {
    /// Whether one more may begin, which then counts.
    fn admit(&self, rule: &Visitors, address: IpAddr, now: Timestamp) -> bool {
        let mut minute = self.0.lock();
        if now.since(minute.began) >= Duration::from_mins(1) {
            *minute = Minute {
                began: now,
                ..Minute::default()
            };
        }
        if minute.all >= rule.max_per_minute {
            return false;
        }
        let theirs = minute.by_address.entry(network(address)).or_default();
        if *theirs >= rule.max_per_address {
            return false;
        }
        *theirs += 1;
        minute.all += 1;
        true
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Sessions {
    /// Begins the session of a visitor with what an app wants to remember of them. `None`: that is nothing.
    pub async fn begin_visit(
        &self,
        visitor: &Visitor,
        namespace: &str,
        change: &Change,
    ) -> Result<Option<Issued>, DataError> {
        let begun = self.visit(visitor, namespace, change).await;
        self.counted(begun)
    }

    async fn visit(
        &self,
        visitor: &Visitor,
        namespace: &str,
        change: &Change,
    ) -> Result<Option<Issued>, DataError> {
        let mut spaces = Spaces::new();
        if !self.changes(&mut spaces, namespace, change)? {
            return Ok(None);
        }
        let limits = self.settings.visitors.limits;
        self.begin_visit_with(visitor, spaces, limits).await
    }

    /// Begins the session of a visitor that holds this.
    pub(super) async fn begin_visit_with(
        &self,
        visitor: &Visitor,
        spaces: Spaces,
        limits: Limits,
    ) -> Result<Option<Issued>, DataError> {
        let (rule, now) = (self.settings.visitors, self.clock.now());
        if !self.births.admit(&rule, visitor.address, now) {
            return Err(DataError::Crowded);
        }
        let user_agent = visitor.user_agent.as_ref();
        let told = user_agent.map_or(&b""[..], HeaderValue::as_bytes);
        let newborn = Newborn {
            listing: Listing {
                who: None,
                address: visitor.address,
                user_agent: listed_agent(user_agent),
            },
            vault: Vaulted::new(
                Private {
                    identity: None,
                    auth_time: now,
                    amr: Vec::new(),
                    origin: Origin::of(visitor.address, told),
                    remembered: false,
                    federated: None,
                },
                spaces,
            ),
            limits,
            epoch: Epoch::default(),
            now,
        };
        Ok(self.create(&newborn).await?)
    }

    /// Begins a session with the data of a visitor, whose own is over then: what is set in it meanwhile is either
    /// carried over too, or not taken at all. `None` as [`Sessions::create`].
    pub(super) async fn carry_over(
        &self,
        visitor: &LiveSession,
        newborn: impl Fn(Spaces) -> Newborn,
    ) -> Result<Option<Issued>, StoreError> {
        let _turn = self.turn(visitor.sid()).await?;
        for _ in 0..TRIES {
            let Some((row, spaces)) = self.belongings(visitor).await? else {
                return self.create(&newborn(Spaces::new())).await;
            };
            let Some(issued) = self.create(&newborn(spaces)).await? else {
                return Ok(None);
            };
            let over = SessionRow {
                expires: row.expires.min(self.clock.now()),
                ..row
            };
            match self.within(StoreOp::Update, self.store.update(over)).await {
                Ok(Update::Done(_) | Update::Gone) => return Ok(Some(issued)),
                Ok(Update::Conflict) => self.end(issued.sid, EndReason::Withdrawn).await?,
                Err(error) => {
                    // Nobody has been told of it. Where the store does not take that either, it is told again.
                    drop(self.end(issued.sid, EndReason::Withdrawn).await);
                    return Err(error);
                }
            }
        }
        Err(StoreError::Busy)
    }

    /// `None`: the visitor's session has ended meanwhile.
    async fn belongings(
        &self,
        visitor: &LiveSession,
    ) -> Result<Option<(SessionRow, Spaces)>, StoreError> {
        let (entry, now) = (&visitor.entry, self.clock.now());
        let load = self.store.load(entry.hash);
        let stored = self.within(StoreOp::Load, load).await?;
        let Some(row) = stored.map(|stored| stored.session) else {
            return Ok(None);
        };
        if row.expires <= now {
            return Ok(None);
        }
        let Some(key) = &entry.key else {
            return Ok(None);
        };
        let open = self.open_vault(row.sid, key, &row.private);
        let open = open.ok_or_else(|| StoreError::Damaged("a session does not open".to_owned()))?;
        Ok(Some((row, open.spaces)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn no_address_and_not_all_of_them_together_begin_more_than_they_may() {
        let rule = Visitors {
            max_per_address: 2,
            max_per_minute: 5,
            ..Visitors::default()
        };
        let births = Births::default();
        let start = Timestamp::from_millis(1_800_000_000_000);
        let admits = |text: &str, seconds: u64| {
            let now = start.after(Duration::from_secs(seconds));
            births.admit(&rule, address(text), now)
        };
        assert!(admits("10.0.0.1", 0) && admits("10.0.0.1", 1) && !admits("10.0.0.1", 2));
        assert!(!admits("::ffff:10.0.0.1", 3), "the same address");
        assert!(admits("2001:db8::1", 3) && admits("2001:db8::ffff:1", 3));
        assert!(!admits("2001:db8::2", 3), "one network has one count");
        assert!(admits("2001:db8:0:1::1", 4));
        assert!(!admits("10.0.0.2", 5), "five in all");
        assert!(admits("10.0.0.1", 60), "a minute later");
    }
}
