//! What happened, and what must not have: the rules by which a run of several nodes is judged afterwards.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::Instant;

/// Between the decision to let a request through and its arrival at the app.
const FORWARDING: Duration = Duration::from_millis(100);

/// Longer than any bound: a rule that is broken by this is broken in any case.
const SETTLED: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct History {
    pub sessions: Vec<Session>,
    pub requests: Vec<Request>,
    pub ends: Vec<End>,
    pub deaf: Vec<Deaf>,
}

/// A login that was answered with a session.
#[derive(Clone, Debug)]
pub struct Session {
    pub user: String,
    pub asked: Instant,
    pub answered: Instant,
}

/// A request with a session's cookie.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its place in [`History::sessions`].
    pub session: usize,
    pub node: usize,
    /// When it arrived at the app, if it did.
    pub started: Option<Instant>,
    /// `None`: the connection ended first.
    pub answer: Option<(Instant, u16)>,
    pub token: String,
    /// The token that is to replace it.
    pub renewal: Option<String>,
}

/// A logout or a revocation.
#[derive(Clone, Debug)]
pub struct End {
    pub whose: Whose,
    pub asked: Instant,
    /// `None`: nobody knows whether it was done.
    pub answered: Option<Instant>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Whose {
    Session(usize),
    /// All that a user has.
    User(String),
}

/// A time in which a node may have missed what the others told.
#[derive(Clone, Debug)]
pub struct Deaf {
    pub node: usize,
    pub from: Instant,
    pub to: Option<Instant>,
}

/// How late a request of an ended session may start.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub heard: Duration,
    pub deaf: Duration,
    /// How late this machine was in running what was due.
    pub stalled: Duration,
}

/// How late requests of ended sessions did start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latest {
    pub heard: Duration,
    pub deaf: Duration,
}

impl History {
    /// Everything that must not have happened, in words.
    pub fn violations(&self, bounds: Bounds) -> Vec<String> {
        let mut found = Vec::new();
        for request in &self.requests {
            self.judge_start(request, bounds, &mut found);
            self.judge_answer(request, &mut found);
        }
        self.judge_renewals(&mut found);
        found
    }

    pub fn latest(&self) -> Latest {
        let mut latest = Latest::default();
        for (request, end, answered) in self.late_starts() {
            let late = request.started.unwrap_or(answered) - answered;
            let kind = if self.was_deaf(request.node, end, answered) {
                &mut latest.deaf
            } else {
                &mut latest.heard
            };
            *kind = late.max(*kind);
        }
        latest
    }

    /// No request of a session starts later than its end and the bound.
    fn judge_start(&self, request: &Request, bounds: Bounds, found: &mut Vec<String>) {
        let Some(started) = request.started else {
            return;
        };
        for end in self.ends_of(request.session) {
            let Some(answered) = end.answered else {
                continue;
            };
            let bound = if self.was_deaf(request.node, end, answered) {
                bounds.deaf
            } else {
                bounds.heard
            };
            let late = started.saturating_duration_since(answered);
            if late > bound + bounds.stalled + FORWARDING {
                found.push(format!(
                    "session {} was let in at node {} {late:?} after {end:?}",
                    request.session, request.node
                ));
            }
        }
    }

    /// Nobody is turned away without cause.
    fn judge_answer(&self, request: &Request, found: &mut Vec<String>) {
        let Some((answered, status)) = request.answer else {
            return;
        };
        let has_cause = self
            .ends
            .iter()
            .any(|end| end.asked <= answered && self.may_end(end, request.session));
        if !(status == 200 || status == 401 && has_cause) {
            let mut text = format!(
                "session {} got {status} at node {} without cause",
                request.session, request.node
            );
            if has_cause {
                text.push_str(" (it may have ended, but that is told by a 401)");
            }
            found.push(text);
        }
    }

    /// A token has one successor, whoever makes it.
    fn judge_renewals(&self, found: &mut Vec<String>) {
        let mut successors: HashMap<&str, &str> = HashMap::new();
        for request in &self.requests {
            let Some(renewal) = &request.renewal else {
                continue;
            };
            let first = *successors.entry(&request.token).or_insert(renewal);
            if first != renewal {
                let mut text = format!("a token of session {} has two ", request.session);
                write!(text, "successors, one of them from node {}", request.node).unwrap();
                found.push(text);
            }
        }
    }

    fn late_starts(&self) -> impl Iterator<Item = (&Request, &End, Instant)> {
        self.requests.iter().flat_map(move |request| {
            let ends = self.ends_of(request.session);
            ends.filter_map(move |end| {
                let answered = end.answered?;
                (request.started? > answered).then_some((request, end, answered))
            })
        })
    }

    /// Those that have certainly ended it: it had begun before they were asked for.
    fn ends_of(&self, session: usize) -> impl Iterator<Item = &End> {
        let Session { user, answered, .. } = &self.sessions[session];
        self.ends.iter().filter(move |end| match &end.whose {
            Whose::Session(one) => *one == session,
            Whose::User(whose) => whose == user && *answered <= end.asked,
        })
    }

    /// Whether it may have: it was under way when the end was.
    fn may_end(&self, end: &End, session: usize) -> bool {
        let Session { user, asked, .. } = &self.sessions[session];
        match &end.whose {
            Whose::Session(one) => *one == session,
            Whose::User(whose) => {
                whose == user && end.answered.is_none_or(|answered| *asked <= answered)
            }
        }
    }

    fn was_deaf(&self, node: usize, end: &End, answered: Instant) -> bool {
        self.deaf.iter().any(|deaf| {
            deaf.node == node
                && deaf.from <= answered + SETTLED
                && deaf.to.is_none_or(|to| to >= end.asked)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        heard: Duration::from_secs(1),
        deaf: Duration::from_secs(5),
        stalled: Duration::ZERO,
    };

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Alice logs in at 0 and is let in at node 1 after 100 ms.
    struct Story {
        begun: Instant,
        history: History,
    }

    impl Story {
        fn new() -> Self {
            let begun = Instant::now();
            let mut story = Self {
                begun,
                history: History::default(),
            };
            story.history.sessions.push(Session {
                user: "alice".to_owned(),
                asked: begun,
                answered: begun + millis(50),
            });
            story.request(100, 200);
            story
        }

        fn request(&mut self, at: u64, status: u16) -> &mut Request {
            let asked = self.begun + millis(at);
            self.history.requests.push(Request {
                session: 0,
                node: 1,
                started: (status == 200).then_some(asked),
                answer: Some((asked, status)),
                token: "first".to_owned(),
                renewal: None,
            });
            self.history.requests.last_mut().unwrap()
        }

        fn end(&mut self, whose: Whose, asked: u64, answered: Option<u64>) {
            self.history.ends.push(End {
                whose,
                asked: self.begun + millis(asked),
                answered: answered.map(|at| self.begun + millis(at)),
            });
        }

        fn told(&self) -> Vec<String> {
            self.history.violations(BOUNDS)
        }
    }

    #[test]
    fn a_start_after_the_bound_is_found() {
        for (at, found) in [(1200, false), (1300, false), (1301, true)] {
            let mut story = Story::new();
            story.end(Whose::Session(0), 190, Some(200));
            story.request(at, 200);
            assert_eq!(!story.told().is_empty(), found, "{at}");
        }
    }

    #[test]
    fn a_node_that_hears_nothing_may_be_later_and_no_other() {
        for (node, from, to, found) in [
            (1, 100, None, false),
            (1, 100, Some(150), true),
            (1, 5000, None, true),
            (2, 100, None, true),
        ] {
            let mut story = Story::new();
            story.end(Whose::Session(0), 190, Some(200));
            let (from, to) = (
                story.begun + millis(from),
                to.map(|to| story.begun + millis(to)),
            );
            story.history.deaf.push(Deaf { node, from, to });
            story.request(4000, 200);
            assert_eq!(!story.told().is_empty(), found, "{node} {from:?} {to:?}");
        }
    }

    #[test]
    fn an_end_without_an_answer_ends_perhaps() {
        let mut story = Story::new();
        story.end(Whose::Session(0), 190, None);
        story.request(9000, 200);
        story.request(9001, 401);
        assert_eq!(story.told(), [""; 0]);
    }

    #[test]
    fn a_refusal_before_any_end_is_found() {
        let mut story = Story::new();
        story.request(150, 401);
        story.end(Whose::Session(0), 190, Some(200));
        assert_eq!(story.told().len(), 1);
        for status in [500, 503, 302] {
            let mut story = Story::new();
            story.request(150, status);
            assert_eq!(story.told().len(), 1, "{status}");
        }
    }

    #[test]
    fn all_of_somebody_are_those_that_had_begun() {
        for (whose, asked, late, refused) in [
            ("alice", 60, 1, 0),
            // The login was under way: it may stand, and it may not.
            ("alice", 40, 0, 0),
            ("bob", 60, 0, 1),
        ] {
            let mut story = Story::new();
            story.end(Whose::User(whose.to_owned()), asked, Some(asked + 10));
            story.request(5000, 200);
            assert_eq!(story.told().len(), late, "{whose} {asked}");
            let mut story = Story::new();
            story.end(Whose::User(whose.to_owned()), asked, Some(asked + 10));
            story.request(5000, 401);
            assert_eq!(story.told().len(), refused, "{whose} {asked}");
        }
    }

    #[test]
    fn two_successors_of_one_token_are_found() {
        let mut story = Story::new();
        for (token, renewal, found) in [
            ("first", "second", 0),
            ("first", "second", 0),
            ("second", "third", 0),
            ("first", "other", 1),
        ] {
            let request = story.request(100, 200);
            request.token = token.to_owned();
            request.renewal = Some(renewal.to_owned());
            assert_eq!(story.told().len(), found, "{token} {renewal}");
        }
    }
}
