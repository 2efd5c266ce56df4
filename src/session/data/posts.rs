//! Forms that came when their session had ended: kept, sealed with the next session of the browser, until their user has logged
//! in and says what is to become of them. What they hold is opaque here.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::space::{Kept, Space};
use super::writing::lost;
use super::{DataError, Spaces};
use crate::session::issuing::Issued;
use crate::session::limits::Limits;
use crate::session::live::LiveSession;
use crate::session::sessions::Sessions;
use crate::session::visitors::Visitor;

/// No name that a configuration can give to a namespace, so no app reads it; nor does it count against what apps keep.
pub(super) const NAME: &str = "doorward:post";

/// Forms that wait in one session at most: of several tabs.
const MAX_POSTS: usize = 3;

/// How long a form waits, and a session that began with it while nobody comes.
pub const POST_WAITS: Duration = Duration::from_mins(15);

impl Sessions {
    /// Keeps a form in a session that there is, in the place of those that are `over`; stored before this returns.
    pub async fn keep_post(
        self: &Arc<Self>,
        session: &LiveSession,
        post: &[u8],
        over: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
    ) -> Result<(), DataError> {
        let (sessions, entry, post) = (self.clone(), session.entry.clone(), post.to_owned());
        let work = async move {
            let put = |open: &mut super::Vaulted| {
                let space = open.spaces.entry(NAME.to_owned()).or_default();
                remove(space, &over);
                if add(space, &post) {
                    Ok(true)
                } else {
                    Err(DataError::Crowded)
                }
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
        let mut space = Space::default();
        add(&mut space, post);
        let spaces = Spaces::from([(NAME.to_owned(), space)]);
        let rule = self.settings.visitors.limits;
        let limits = Limits {
            idle: rule.idle.min(POST_WAITS),
            ..rule
        };
        self.begin_visit_with(visitor, spaces, limits).await
    }

    /// The forms that a session keeps, as far as this node knows.
    pub fn kept_posts(&self, session: &LiveSession) -> Vec<Vec<u8>> {
        let dated = session.entry.live.data.get(NAME);
        dated.map_or(Vec::new(), |dated| read(dated.space()).collect())
    }

    /// Takes those forms out of a session that `fits` says; stored before this returns, so nobody else gets them.
    pub async fn take_posts(
        self: &Arc<Self>,
        session: &LiveSession,
        fits: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
    ) -> Result<Vec<Vec<u8>>, DataError> {
        let (sessions, entry) = (self.clone(), session.entry.clone());
        let work = async move {
            let mut taken = Vec::new();
            let take = |open: &mut super::Vaulted| {
                // What an attempt before took was not stored.
                taken = match open.spaces.get_mut(NAME) {
                    Some(space) => remove(space, &fits),
                    None => Vec::new(),
                };
                Ok(!taken.is_empty())
            };
            sessions.rewritten(&entry, take).await?;
            Ok(taken)
        };
        let done = self.background.spawn(work).await;
        done.unwrap_or_else(|error| Err(lost(&error)))
    }
}

/// `false`: there is no room.
fn add(space: &mut Space, post: &[u8]) -> bool {
    let mut places = (0..MAX_POSTS).map(|number| number.to_string());
    let Some(free) = places.find(|place| !space.members().contains_key(place)) else {
        return false;
    };
    space.set(free, Kept::Json(STANDARD_NO_PAD.encode(post)));
    true
}

fn remove(space: &mut Space, fits: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    let found = space.members().iter().filter_map(|(place, kept)| {
        let post = STANDARD_NO_PAD.decode(kept.text()).ok()?;
        fits(&post).then(|| (place.clone(), post))
    });
    let found: Vec<_> = found.collect();
    let taken = found.into_iter().map(|(place, post)| {
        space.unset(&place);
        post
    });
    taken.collect()
}

fn read(space: &Space) -> impl Iterator<Item = Vec<u8>> {
    let all = space.members().values();
    all.filter_map(|kept| STANDARD_NO_PAD.decode(kept.text()).ok())
}
