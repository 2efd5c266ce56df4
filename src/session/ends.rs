//! Ends that no request finds out: a session that somebody waits on, with a stream or a tunnel, or since apps are to be told,
//! is over at the moment of its limit (R3, R5). Each has one place in the order of time, and no timer; it is looked at when its place comes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::EndReason;
use super::live::Live;
use super::sessions::Sessions;
use super::token::Sid;
use crate::clock::{TICK, Timestamp};

/// Between two looks at most. A place whose session nobody holds any more is given up then.
const LONGEST: Duration = Duration::from_hours(1);

/// Before the store is asked again that gave no answer; and where nothing is open that waits for it.
const PAUSE: Duration = Duration::from_secs(1);
const LONG_PAUSE: Duration = Duration::from_mins(1);

/// When to look at which session.
#[derive(Debug, Default)]
pub(super) struct Ends(Mutex<BTreeSet<(Timestamp, Sid)>>);

impl Ends {
    pub(super) fn add(&self, at: Timestamp, sid: Sid) {
        self.0.lock().insert((at, sid));
    }

    /// Takes out what has come.
    pub(super) fn take_due(&self, now: Timestamp) -> BTreeSet<(Timestamp, Sid)> {
        let first_later = (
            now.after(Duration::from_millis(1)),
            Sid::from_bytes([0; 16]),
        );
        let mut places = self.0.lock();
        let later = places.split_off(&first_later);
        std::mem::replace(&mut *places, later)
    }
}

impl Live {
    /// Why it is over at this moment, as far as this node knows.
    fn over_by_time(&self, now: Timestamp) -> Option<EndReason> {
        if now >= self.expires() {
            Some(EndReason::AbsoluteTimeout)
        } else {
            (now >= self.ends()).then_some(EndReason::IdleTimeout)
        }
    }
}

impl Sessions {
    /// Ends what is over by time and waited on, tick by tick, until the future is dropped.
    pub async fn run_ends(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for live in self.registry.take_due(self.clock.now()) {
                let sessions = self.clone();
                // Each for itself: one for which the store keeps us waiting holds up no other.
                self.background
                    .spawn(async move { sessions.look_at(&live).await });
            }
        }
    }

    /// News may have been missed, so the store is asked for every session that somebody waits on.
    pub(super) fn doubt_awaited(self: &Arc<Self>) {
        for live in self.registry.awaited() {
            let sessions = self.clone();
            self.background.spawn(async move {
                // Where it cannot be asked now, the next interruption or the session's own end is soon enough.
                let _known = sessions.ask_for(&live).await;
            });
        }
    }

    async fn look_at(&self, live: &Live) {
        if live.is_over() {
            return;
        }
        let now = self.clock.now();
        if live.ends() <= now && self.store.has_other_writers() {
            // Another node may know of activity, or of a new login (R3).
            match self.ask_for(live).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(Unanswered) if now < live.expires() => {
                    let pause = if live.has_open() { PAUSE } else { LONG_PAUSE };
                    return self.registry.look_again(live, now.after(pause));
                }
                // What is open here ends in any case. What becomes of the session the store has to say.
                Err(Unanswered) => {
                    return self.registry.end(live.sid, EndReason::AbsoluteTimeout);
                }
            }
        }
        let over = live.over_by_time(now);
        if over.is_some() && live.data.jars.hesitate() {
            // A node that changed the session since knows better what its apps are to be told.
            return self.registry.look_again(live, now.after(PAUSE));
        }
        match over {
            // The next ticket of the same session begins anew.
            Some(reason) if self.is_at_edge() => self.registry.lapse(live, reason),
            // Where the store does not take it, it is told again.
            Some(reason) => self.end_by_time(live.sid, reason).await,
            None => self
                .registry
                .look_again(live, live.ends().min(now.after(LONGEST))),
        }
    }

    /// Takes over what the store says of a session. `false`: it is no more, and has ended here too.
    async fn ask_for(&self, live: &Live) -> Result<bool, Unanswered> {
        match self.row(live.sid).await {
            Ok(Some(row)) => {
                live.learn(&row);
                Ok(true)
            }
            Ok(None) => {
                self.cache.note_ended(live.sid).await;
                self.registry.end(live.sid, EndReason::Elsewhere);
                Ok(false)
            }
            Err(_) if !live.has_open() => Err(Unanswered),
            Err(error) => {
                tracing::warn!(sid = %live.sid, %error, "nobody knows whether a session with open streams goes on");
                Err(Unanswered)
            }
        }
    }
}

#[derive(Debug)]
struct Unanswered;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_out_at_its_very_millisecond() {
        let ends = Ends::default();
        let at = Timestamp::from_millis;
        let sid = |byte| Sid::from_bytes([byte; 16]);
        for (millis, byte) in [(30, 1), (10, 0xff), (20, 0), (10, 0)] {
            ends.add(at(millis), sid(byte));
        }
        assert!(ends.take_due(at(9)).is_empty());
        let due = ends.take_due(at(20));
        let expected = [(at(10), sid(0)), (at(10), sid(0xff)), (at(20), sid(0))];
        assert!(due.into_iter().eq(expected));
        assert!(ends.take_due(at(29)).is_empty());
        assert_eq!(ends.take_due(at(30)).len(), 1);
        assert!(ends.take_due(Timestamp::MAX).is_empty());
    }
}
