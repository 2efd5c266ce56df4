//! What is looked at again and again while the proxy runs: files that other programs change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::identity::Subject;
use crate::login::{LocalUsers, TokenBook};
use crate::session::{EndReason, Sessions};

/// Takes back tokens that were revoked (R5).
pub(super) async fn follow_tokens(tokens: Arc<TokenBook>) {
    let mut looks = tokio::time::interval(Duration::from_millis(500));
    loop {
        looks.tick().await;
        tokens.follow();
    }
}

/// Ends the sessions of users who were removed or whose password was changed (R5).
pub(super) async fn follow_users(sessions: Arc<Sessions>, users: Arc<LocalUsers>) {
    let mut looks = tokio::time::interval(Duration::from_secs(1));
    let mut changed = BTreeSet::new();
    loop {
        looks.tick().await;
        changed.extend(users.changes());
        for id in std::mem::take(&mut changed) {
            let subject = Subject {
                provider: users.id().to_owned(),
                id,
            };
            if let Some(epoch) = users.settled(&subject.id)
                && let Ok(begun) = sessions.epoch_of(&subject).await
                && begun.number() >= epoch
            {
                // Users did it themselves, on whichever node: what was to end has ended, and they are in by what is new.
                continue;
            }
            if let Err(error) = sessions.end_all_of(&subject, EndReason::UserChanged).await {
                tracing::error!(%subject, %error, "the sessions of a changed user could not be ended yet");
                changed.insert(subject.id);
            }
        }
    }
}
