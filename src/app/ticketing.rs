//! Tickets, as the configuration has them: made here, or verified with the keys of the node that makes them, which are looked
//! at again and again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use tokio::runtime::Handle;

use crate::config::{KeySource, Settings};
use crate::outbound::{Limits, Outbound};
use crate::portal::Edge;
use crate::secret::Keyring;
use crate::session::{CookieName, Sessions, TicketKeys, Tickets};

/// How often the keys are looked at; and at most, while there are none or a ticket names one that is not known.
const KEYS_EVERY: Duration = Duration::from_mins(1);
const KEYS_SOON: Duration = Duration::from_secs(2);
const LARGEST_KEYS: usize = 64 * 1024;

/// Where sessions are also known by tickets.
pub(super) fn tickets(settings: &Settings, keyring: &Keyring) -> anyhow::Result<Option<Tickets>> {
    let Some(own) = settings.tickets.clone() else {
        return Ok(None);
    };
    let tickets = match settings.edge {
        Some(_) => Tickets::at_edge(own),
        None => Tickets::new(own, keyring)?,
    };
    Ok(Some(tickets))
}

/// Where this node knows sessions by tickets alone.
pub(super) fn edge(settings: &Settings) -> anyhow::Result<Option<Edge>> {
    let Some(edge) = &settings.edge else {
        return Ok(None);
    };
    let base = settings.session.cookie.base();
    let rounds = CookieName::new(&format!("{base}-rounds"), None);
    Ok(Some(Edge {
        renew: edge.renew.clone(),
        rounds: rounds.context("the name of the session cookie is too long")?,
    }))
}

/// Where the public keys of tickets are, for a node that makes none.
#[derive(Debug)]
pub(super) enum TicketKeySource {
    File(PathBuf),
    Url(Uri, Box<Outbound>),
}

impl TicketKeySource {
    /// `None` on any other node.
    pub(super) fn of(settings: &Settings) -> anyhow::Result<Option<Self>> {
        let limits = Limits {
            time: Duration::from_secs(10),
            answer: LARGEST_KEYS,
        };
        Ok(match settings.edge.as_ref().map(|edge| &edge.keys) {
            None => None,
            Some(KeySource::File(path)) => Some(Self::File(path.clone())),
            Some(KeySource::Url { url, authorities }) => {
                let outbound = Outbound::new(authorities.as_deref(), limits, Handle::current())?;
                Some(Self::Url(url.clone(), Box::new(outbound)))
            }
        })
    }

    async fn read(&self) -> Result<Bytes, String> {
        match self {
            Self::File(path) => std::fs::read(path)
                .map(Bytes::from)
                .map_err(|error| error.to_string()),
            Self::Url(url, outbound) => {
                let request = Request::get(url.clone()).body(Full::default());
                let request = request.map_err(|error| error.to_string())?;
                let answer = outbound.send(request).await;
                let answer = answer.map_err(|error| error.to_string())?;
                match answer.status() {
                    StatusCode::OK => Ok(answer.into_body()),
                    status => Err(format!("it answered with {status}")),
                }
            }
        }
    }
}

/// Keeps up with the keys of the node that makes tickets. While they cannot be read, those that are known stay.
pub(super) async fn follow_ticket_keys(sessions: Arc<Sessions>, source: TicketKeySource) {
    let mut known = Bytes::new();
    loop {
        let read = match source.read().await {
            Ok(json) if json == known => Ok(()),
            Ok(json) => TicketKeys::parse(&json)
                .map_err(|error| error.to_string())
                .map(|keys| {
                    sessions.trust_ticket_keys(keys);
                    known = json;
                }),
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            tracing::warn!(
                error,
                "the keys of tickets cannot be read; those that are known stay"
            );
        }
        // Whoever shows tickets of made-up keys does not have it asked more often than this.
        tokio::time::sleep(KEYS_SOON).await;
        if !known.is_empty() {
            let wanted = sessions.ticket_keys_wanted();
            let _looked_at_anyway = tokio::time::timeout(KEYS_EVERY, wanted).await;
        }
    }
}
