//! Which sessions anything on this node still holds: the cache, a connection, a tunnel. Ending a session here reaches
//! every one of them, whichever token it came by.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::EndReason;
use super::data::Space;
use super::ends::Ends;
use super::farewell::Listener;
use super::live::{Live, Private};
use super::record::{Epoch, SessionRow, SubjectTag};
use super::token::Sid;
use crate::clock::Timestamp;
use crate::identity::Subject;

#[derive(Debug, Default)]
pub(super) struct Registry {
    sessions: Mutex<HashMap<Sid, Weak<Live>>>,
    /// When to look at sessions that somebody waits on.
    ends: Ends,
    /// Hears of sessions that end with cookies of apps.
    pub(super) listener: Listener,
}

impl Registry {
    /// The one [`Live`] of a session, made from what the store says if nobody holds it yet.
    pub(super) fn adopt(self: &Arc<Self>, row: &SessionRow, private: &Private) -> Arc<Live> {
        let mut sessions = self.sessions.lock();
        let known = sessions.get(&row.sid).and_then(Weak::upgrade);
        if let Some(live) = known {
            live.learn(row);
            return live;
        }
        let live = Arc::new(Live::new(row, private, self));
        sessions.insert(row.sid, Arc::downgrade(&live));
        live
    }

    /// Takes over what was just stored of a session, where somebody holds it.
    pub(super) fn learn(&self, row: &SessionRow) {
        if let Some(live) = self.held(row.sid) {
            live.learn(row);
        }
    }

    /// Takes over what was just stored of a namespace's data, where somebody holds the session.
    pub(super) fn learn_data(&self, sid: Sid, namespace: &str, (space, version): (&Space, u64)) {
        if let Some(live) = self.held(sid) {
            live.data.learn_one(namespace, space, version);
        }
    }

    /// Ends a session for all who hold it.
    pub(super) fn end(&self, sid: Sid, reason: EndReason) {
        if let Some(live) = self.held(sid) {
            live.end(reason);
        }
    }

    /// Ends what this node knows of a session, which may go on elsewhere.
    pub(super) fn lapse(&self, live: &Live, reason: EndReason) {
        self.sessions.lock().remove(&live.sid);
        live.end(reason);
    }

    /// From now on somebody waits for a session's end.
    pub(super) fn await_end(&self, live: &Live) {
        if let Some(at) = live.claim_place() {
            self.ends.add(at, live.sid);
        }
    }

    /// Gives a session that is waited on its next place.
    pub(super) fn look_again(&self, live: &Live, at: Timestamp) {
        live.set_place(at);
        self.ends.add(at, live.sid);
    }

    /// The sessions that may be over by now and are waited on. Each loses its place.
    pub(super) fn take_due(&self, now: Timestamp) -> Vec<Arc<Live>> {
        let due = self.ends.take_due(now).into_iter();
        // A place that its session does not know is another's, whom nobody holds any more.
        due.filter_map(|(at, sid)| self.held(sid).filter(|live| live.place() == Some(at)))
            .collect()
    }

    /// The sessions with something open.
    pub(super) fn awaited(&self) -> Vec<Arc<Live>> {
        let all: Vec<_> = self.sessions.lock().values().cloned().collect();
        let held = all.iter().filter_map(Weak::upgrade);
        held.filter(|live| live.has_open()).collect()
    }

    /// Ends every session of a subject that began under an earlier epoch, for all who hold it.
    pub(super) fn end_before(&self, subject: SubjectTag, epoch: Epoch, reason: EndReason) {
        for live in self.all_held() {
            if live.began_before(subject, epoch) {
                live.end(reason);
            }
        }
    }

    /// One of a session's tokens has been replaced.
    pub(super) fn note_replaced(&self, sid: Sid) {
        if let Some(live) = self.held(sid) {
            live.note_replaced();
        }
    }

    /// The sessions of a subject that somebody holds.
    pub(super) fn sids_of(&self, subject: &Subject) -> Vec<Sid> {
        let held = self.all_held().into_iter();
        let theirs = held.filter(|live| live.subject.as_ref() == Some(subject));
        theirs.map(|live| live.sid).collect()
    }

    /// Whether somebody holds a session, and it is this subject's.
    pub(super) fn is_of(&self, sid: Sid, subject: &Subject) -> bool {
        let live = self.sessions.lock().get(&sid).and_then(Weak::upgrade);
        live.is_some_and(|live| live.subject.as_ref() == Some(subject))
    }

    /// The latest activity of a session that somebody holds, which the store may not know of yet.
    pub(super) fn last_seen(&self, sid: Sid) -> Option<Timestamp> {
        self.held(sid).map(|live| live.last_seen())
    }

    /// The last holder is gone, unless somebody has adopted the session anew in the meantime.
    pub(super) fn forget(&self, sid: Sid) {
        let mut sessions = self.sessions.lock();
        if sessions
            .get(&sid)
            .is_some_and(|weak| weak.strong_count() == 0)
        {
            sessions.remove(&sid);
        }
    }

    /// For use outside the lock, as below.
    fn all_held(&self) -> Vec<Arc<Live>> {
        let all: Vec<_> = self.sessions.lock().values().cloned().collect();
        all.iter().filter_map(Weak::upgrade).collect()
    }

    /// For use outside the lock: dropping the last holder comes back to [`Registry::forget`].
    fn held(&self, sid: Sid) -> Option<Arc<Live>> {
        self.sessions.lock().get(&sid).and_then(Weak::upgrade)
    }
}
