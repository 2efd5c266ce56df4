//! A form that came when its session had ended: kept, sealed with the next session of the browser, until its user has logged
//! in and says what is to become of it. What it holds is opaque here.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::space::{Kept, Space};
use super::writing::lost;
use super::{DataError, Spaces};
use crate::session::issuing::Issued;
use crate::session::live::LiveSession;
use crate::session::sessions::Sessions;
use crate::session::visitors::Visitor;

/// No name that a configuration can give to a namespace, so no app reads it.
const NAME: &str = "doorward:post";
const KEY: &str = "post";

impl Sessions {
    /// Keeps a form in a session that there is, in the place of an earlier one; stored before this returns.
    pub async fn keep_post(
        self: &Arc<Self>,
        session: &LiveSession,
        post: &[u8],
    ) -> Result<(), DataError> {
        let (sessions, entry, space) = (self.clone(), session.entry.clone(), space(post));
        let work = async move {
            let put = |open: &mut super::Vaulted| {
                open.spaces.insert(NAME.to_owned(), space.clone());
                Ok(true)
            };
            sessions.rewritten(&entry, put).await
        };
        let done = self.background.spawn(work).await;
        done.unwrap_or_else(|error| Err(lost(&error)))
    }

    /// Keeps a form of somebody who has no session any more: one of a visitor begins with it, and a login carries it over.
    pub async fn keep_post_of_visitor(
        &self,
        visitor: &Visitor,
        post: &[u8],
    ) -> Result<Option<Issued>, DataError> {
        let spaces = Spaces::from([(NAME.to_owned(), space(post))]);
        self.begin_visit_with(visitor, spaces).await
    }

    /// The form that a session keeps, as far as this node knows.
    pub fn kept_post(&self, session: &LiveSession) -> Option<Vec<u8>> {
        let dated = session.entry.live.data.get(NAME)?;
        read(dated.space())
    }

    /// Takes the form out of its session, if `fits` says that it is the one; stored before this returns, so nobody else gets it.
    pub async fn take_post(
        self: &Arc<Self>,
        session: &LiveSession,
        fits: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
    ) -> Result<Option<Vec<u8>>, DataError> {
        let (sessions, entry) = (self.clone(), session.entry.clone());
        let work = async move {
            let mut taken = None;
            let take = |open: &mut super::Vaulted| {
                taken = open
                    .spaces
                    .get(NAME)
                    .and_then(read)
                    .filter(|post| fits(post));
                if taken.is_some() {
                    open.spaces.remove(NAME);
                }
                Ok(taken.is_some())
            };
            sessions.rewritten(&entry, take).await?;
            Ok(taken)
        };
        let done = self.background.spawn(work).await;
        done.unwrap_or_else(|error| Err(lost(&error)))
    }
}

fn space(post: &[u8]) -> Space {
    let mut space = Space::default();
    let text = STANDARD_NO_PAD.encode(post);
    space.set(KEY.to_owned(), Kept::Json(text));
    space
}

fn read(space: &Space) -> Option<Vec<u8>> {
    let kept = space.members().get(KEY)?;
    STANDARD_NO_PAD.decode(kept.text()).ok()
}
