//! Whether a session is still used from where it began: the same browser, the same network. What it is held against is
//! sealed with the session; what follows from a difference the settings say.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::EndReason;
use super::live::LiveSession;
use super::sessions::{AuthError, Sessions};
use crate::telemetry::AuditEvent;

/// What follows where a request comes from elsewhere. In the order of severity.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Consequence {
    #[default]
    Off,
    /// The audit log says so, once for a token.
    Log,
    /// And the user has to log in again.
    Reauth,
    /// And the session ends.
    End,
}

impl Consequence {
    pub const ALL: [Self; 4] = [Self::Off, Self::Log, Self::Reauth, Self::End];

    /// The word for it in the configuration and in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Log => "log",
            Self::Reauth => "reauth",
            Self::End => "end",
        }
    }
}

/// What a session is bound to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bind {
    pub user_agent: Consequence,
    pub network: Consequence,
}

/// Where a request came from, as far as a session is bound to it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Origin {
    /// The family, then the network: IPv4 /24, IPv6 /56.
    network: [u8; 8],
    /// The beginning of a SHA-256, so that the size is known.
    user_agent: [u8; 16],
}

impl Origin {
    pub fn of(address: IpAddr, user_agent: &[u8]) -> Self {
        let mut network = [0; 8];
        let known: Vec<u8> = match address.to_canonical() {
            IpAddr::V4(v4) => [4].into_iter().chain(v4.octets()).take(1 + 3).collect(),
            IpAddr::V6(v6) => [6].into_iter().chain(v6.octets()).take(1 + 7).collect(),
        };
        for (to, from) in network.iter_mut().zip(known) {
            *to = from;
        }
        let mut hash = [0; 16];
        for (to, from) in hash.iter_mut().zip(digest(&SHA256, user_agent).as_ref()) {
            *to = *from;
        }
        Self {
            network,
            user_agent: hash,
        }
    }
}

impl Bind {
    pub fn is_on(&self) -> bool {
        *self != Self::default()
    }

    /// The severest that applies; `Off` where nothing that counts has changed.
    pub fn judge(&self, began: &Origin, now: &Origin) -> Consequence {
        let of = |is_same: bool, then: Consequence| if is_same { Consequence::Off } else { then };
        let user_agent = of(began.user_agent == now.user_agent, self.user_agent);
        let network = of(began.network == now.network, self.network);
        user_agent.max(network)
    }
}

/// What a session is worth where a request came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// As much as anywhere.
    Good,
    /// Enough to log in again, and to log out.
    Suspect,
}

impl Sessions {
    /// Judges a request of a session that is good. Where it ends the session, the error says so.
    pub async fn standing(
        &self,
        session: &LiveSession,
        address: IpAddr,
        user_agent: &[u8],
    ) -> Result<Standing, AuthError> {
        let bind = &self.settings.bind;
        // A visitor has no login to repeat, and nothing that would be worth one.
        if !bind.is_on() || session.identity().is_none() {
            return Ok(Standing::Good);
        }
        let (began, now) = (session.private().origin, Origin::of(address, user_agent));
        let consequence = bind.judge(&began, &now);
        if consequence == Consequence::Off {
            return Ok(Standing::Good);
        }
        if !session.entry.noted_move.swap(true, Ordering::Relaxed) {
            self.audit.record(&AuditEvent::SessionMoved {
                sid: session.sid().to_string(),
                user_agent: began.user_agent != now.user_agent,
                network: began.network != now.network,
                consequence: consequence.name(),
                address,
            });
        }
        match consequence {
            Consequence::Off | Consequence::Log => Ok(Standing::Good),
            Consequence::Reauth => Ok(Standing::Suspect),
            Consequence::End => {
                self.end(session.sid(), EndReason::Moved).await?;
                Err(AuthError::Ended)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin(address: &str, user_agent: &str) -> Origin {
        Origin::of(address.parse().unwrap(), user_agent.as_bytes())
    }

    #[test]
    fn a_network_is_wide_enough_for_addresses_that_change_by_themselves() {
        let same = |one, other| origin(one, "x") == origin(other, "x");
        assert!(same("203.0.113.7", "203.0.113.250"));
        assert!(!same("203.0.113.7", "203.0.112.7"));
        assert!(same("203.0.113.7", "::ffff:203.0.113.8"));
        assert!(same("2001:db8:1:100::1", "2001:db8:1:1ff:ffff::9"));
        assert!(!same("2001:db8:1:100::1", "2001:db8:1:200::1"));
        assert!(!same("4.1.2.3", "401:203::"), "no family is the other");
    }

    #[test]
    fn the_severest_that_applies_counts() {
        use Consequence::{End, Log, Off, Reauth};
        let bind = |user_agent, network| Bind {
            user_agent,
            network,
        };
        let began = origin("192.0.2.1", "A");
        let (moved, changed, both) = (
            origin("198.51.100.1", "A"),
            origin("192.0.2.1", "B"),
            origin("198.51.100.1", "B"),
        );
        for (bind, now, expected) in [
            (bind(End, End), began, Off),
            (bind(Off, Off), both, Off),
            (bind(End, Log), moved, Log),
            (bind(End, Log), changed, End),
            (bind(Reauth, Log), both, Reauth),
            (bind(Off, Reauth), changed, Off),
            (bind(Off, Reauth), both, Reauth),
        ] {
            assert_eq!(bind.judge(&began, &now), expected, "{bind:?}");
        }
        assert!(!bind(Off, Off).is_on() && bind(Off, Log).is_on());
    }

    fn any_consequence() -> impl Strategy<Value = Consequence> {
        prop::sample::select(&Consequence::ALL)
    }

    proptest! {
        #[test]
        fn who_has_not_moved_notices_nothing(
            user_agent in any_consequence(), network in any_consequence(), address: IpAddr, agent: Vec<u8>,
        ) {
            let bind = Bind { user_agent, network };
            let here = Origin::of(address, &agent);
            prop_assert_eq!(bind.judge(&here, &Origin::of(address, &agent)), Consequence::Off);
        }
    }
}
