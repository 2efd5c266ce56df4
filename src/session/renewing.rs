//! How the user of a session proves anew who they are: in the same session, under a new token (R4).

use std::sync::Arc;

use zeroize::Zeroizing;

use super::Found;
use super::issuing::{Issued, Login, listing, origin};
use super::limits::limits_of;
use super::live::{LiveSession, Private};
use super::record::SessionRow;
use super::sessions::Sessions;
use super::store::{Rotation, StoreError, Update};
use super::token::{Token, TokenHash};
use crate::telemetry::{AuditEvent, SessionEvent, StoreOp};

/// How often somebody else may be faster, before a renewed login is given up.
const TRIES: usize = 8;

/// A session under its newest token, on its way to a new one.
struct Renewal {
    token: Token,
    key: Zeroizing<[u8; 32]>,
    session: SessionRow,
    /// Every token that was found on the way, with the one before it: none of the latter is to live on.
    links: Vec<(TokenHash, TokenHash)>,
}

impl Sessions {
    /// Goes on with a session whose user has just logged in again: the session and its data stay, its time begins anew,
    /// and the tokens before the new one live for `rotate_grace` longer. `None`: the session has ended meanwhile.
    ///
    /// The new token is stored first and the login second. Where the second fails, nothing has happened but an
    /// ordinary change of token.
    pub async fn prove_again(
        self: &Arc<Self>,
        token: Token,
        login: &Login,
    ) -> Result<Option<Issued>, StoreError> {
        let Some(mut renewal) = self.walk(token).await? else {
            return Ok(None);
        };
        let Some(remembered) = self.rewrite(&mut renewal, login).await? else {
            return Ok(None);
        };
        let now = self.clock.now();
        let sid = renewal.session.sid;
        for link in renewal.links {
            if let Err(error) = self.confirm(sid, link, now).await {
                tracing::warn!(%error, "a token that was replaced by a login could not be retired yet");
                self.confirm_soon(sid, link);
            }
        }
        let session = &renewal.session;
        self.metrics.session(SessionEvent::Rotated);
        let (subject, user) = (&login.identity.subject, login.identity.user.clone());
        self.audit.record(&AuditEvent::Reauthenticated {
            sid: sid.to_string(),
            provider: subject.provider.clone(),
            user,
            address: login.address,
        });
        let cookie = self.cookie_until(&renewal.token, remembered.then_some(session.expires));
        Ok(Some(Issued { sid, cookie }))
    }

    /// The token that a request presented for its session, out of its cookies.
    pub fn presented(&self, session: &LiveSession, found: Found<'_>) -> Option<Token> {
        let is_its =
            |value: &[u8]| Token::parse(value).filter(|token| token.hash() == session.entry.hash);
        match found {
            Found::None => None,
            Found::One(value) => is_its(value),
            Found::Several(candidates) => candidates.iter().find_map(is_its),
        }
    }

    /// Makes a token after the newest that follows `token`.
    async fn walk(&self, mut token: Token) -> Result<Option<Renewal>, StoreError> {
        let damaged = || StoreError::Damaged("a session key does not open".to_owned());
        let mut links = Vec::new();
        for _ in 0..TRIES {
            let hash = token.hash();
            let Some(stored) = self.within(StoreOp::Load, self.store.load(hash)).await? else {
                return Ok(None);
            };
            let (row, session) = (stored.token, stored.session);
            if let Some(successor) = &row.successor {
                token = self
                    .open_successor(&token, row.sid, successor)
                    .ok_or_else(damaged)?;
                links.push((token.hash(), hash));
                continue;
            }
            let key = self
                .unwrap_key(&token, row.sid, &row.session_key)
                .ok_or_else(damaged)?;
            let (next, next_row, successor) = self.next_token(&token, &row).ok_or_else(damaged)?;
            let rotate = self.store.rotate(hash, next_row, successor);
            match self.within(StoreOp::Rotate, rotate).await? {
                Rotation::Done => {
                    links.push((next.hash(), hash));
                    return Ok(Some(Renewal {
                        token: next,
                        key,
                        session,
                        links,
                    }));
                }
                Rotation::Superseded(_) => {}
                Rotation::Gone => return Ok(None),
            }
        }
        Err(StoreError::Busy)
    }

    /// Writes the new login into the session; whatever else it holds stays. Tells whether it is a remembered one.
    async fn rewrite(
        &self,
        renewal: &mut Renewal,
        login: &Login,
    ) -> Result<Option<bool>, StoreError> {
        let sid = renewal.session.sid;
        for _ in 0..TRIES {
            let (now, session) = (self.clock.now(), &mut renewal.session);
            let Some(mut open) = self.open_vault(sid, &renewal.key, &session.private) else {
                return Err(StoreError::Damaged("a session does not open".to_owned()));
            };
            let remembered = open.private.remembered;
            open.private = Private {
                identity: Some(login.identity.clone()),
                auth_time: login.proved.unwrap_or(now),
                amr: login.amr.clone(),
                origin: origin(login),
                remembered,
                federated: login.federated.clone(),
            };
            let limits = limits_of(&self.settings, &login.identity.groups, remembered);
            session.private = self.close_vault(sid, &renewal.key, &open);
            session.listing = self.seal_listing(sid, &listing(login));
            session.last_seen = session.last_seen.max(now);
            session.expires = session.expires.max(now.after(limits.absolute));
            let update = self.store.update(session.clone());
            match self.within(StoreOp::Update, update).await? {
                Update::Done(_) => {
                    self.registry.learn(session);
                    return Ok(Some(remembered));
                }
                Update::Gone => return Ok(None),
                Update::Conflict => {
                    let load = self.store.load(renewal.token.hash());
                    match self.within(StoreOp::Load, load).await? {
                        Some(stored) => renewal.session = stored.session,
                        None => return Ok(None),
                    }
                }
            }
        }
        Err(StoreError::Busy)
    }
}
