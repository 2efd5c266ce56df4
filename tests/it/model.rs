//! The protocol between nodes, reduced to what matters for two promises and searched through to the end: an ended session
//! lets nobody in once the bound is over, and a session that lives is never lost. One user, one session, two nodes,
//! a store, and news that come late, in any order or not at all. And no rule is there for nothing: without it, the search
//! finds how a promise is broken.

use stateright::{Checker, HasDiscoveries, Model, Property};

/// Moments. News that are not lost arrive within `PUSH`; the store answers within `LOAD` or nobody listens any more.
type Time = u8;
const PUSH: Time = 1;
const LOAD: Time = 2;
const CACHE_TTL: Time = 2;
const GRACE: Time = 1;
/// Longer than every wait that there is.
const LAST: Time = 3;

const LATE: &str = "an ended session lets nobody in once the bound is over";
const LOST: &str = "nobody is turned away without cause";

/// What may happen. All at once is more than a search comes to the end of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scope {
    /// Ends of all kinds, and news that are lost. Tokens stay.
    Ends,
    /// Tokens are replaced, and answers to the browser are lost. The session lives.
    Tokens,
}

/// What nodes and store do. The protocol is all of it.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is broken by itself")]
struct Rules {
    scope: Scope,
    /// A node remembers what has ended, and looks there before it caches a late answer.
    remembers_ends: bool,
    /// An entry of the cache is believed for `CACHE_TTL`, and not for ever.
    believes_for_a_time: bool,
    /// That time begins with the question, not with the answer.
    is_as_old_as_the_question: bool,
    /// A load compares epochs.
    compares_at_load: bool,
    /// The login asks for the epoch before it looks at the proof, not after.
    asks_before_the_proof: bool,
    /// A touch leaves alone what is not there.
    touch_never_creates: bool,
    /// The grace of a token begins when the next one is first shown, not when it is made.
    grace_begins_when_shown: bool,
    /// It is enough to have been shown within the grace, however long the store takes.
    judges_when_asked: bool,
}

const PROTOCOL: Rules = Rules {
    scope: Scope::Ends,
    remembers_ends: true,
    believes_for_a_time: true,
    is_as_old_as_the_question: true,
    compares_at_load: true,
    asks_before_the_proof: true,
    touch_never_creates: true,
    grace_begins_when_shown: true,
    judges_when_asked: true,
};

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Action {
    Tick,
    /// Shows the proof: right or wrong is decided here.
    Prove,
    /// Stores the session.
    Create,
    /// A request with the first or the second token. Its answer may get lost.
    Ask(usize, usize, Reply),
    /// The store answers a load.
    Answer(usize),
    /// The answer arrives at the node.
    Fill(usize, Reply),
    Rotate(usize),
    Confirm(usize),
    Touch,
    End(usize, Kind),
    /// The store is told, and tells the others.
    Store,
    Deliver(usize),
    Cut(usize),
    Mend(usize),
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Reply {
    Arrives,
    GetsLost,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Kind {
    /// This session.
    One,
    /// All of the user's, and the user may prove nothing with the old password any more.
    All,
}

#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
struct State {
    now: Time,
    store: Store,
    nodes: [Node; 2],
    login: Login,
    browser: Browser,
    end: Option<End>,
    /// Activity waits to be saved.
    touch: bool,
    /// A promise has been broken.
    late: bool,
    lost: bool,
}

#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
struct Store {
    /// The epoch that the session began under, while it is there.
    session: Option<u8>,
    epoch: u8,
    next: Next,
}

/// The second token.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
enum Next {
    #[default]
    None,
    /// Since when.
    Made(Time),
    Shown(Time),
}

#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
struct Node {
    /// Of the first and of the second token.
    cache: [Option<Entry>; 2],
    load: Option<Load>,
    /// It remembers that the session has ended, and the newest epoch that it was told of.
    ended: bool,
    epoch: u8,
    /// When the second token was shown here, which the store is to be told.
    shown: Option<Time>,
    news: Option<(Kind, Time)>,
    is_cut: bool,
    /// It was not told of the end.
    missed: bool,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Entry {
    since: Time,
    began: u8,
    next: Next,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Load {
    token: usize,
    asked: Time,
    #[expect(
        clippy::option_option,
        reason = "no answer is not the answer that there is none"
    )]
    answer: Option<Option<Entry>>,
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
enum Login {
    #[default]
    Ahead,
    /// With the epoch that was asked for first, if it was.
    Proved(Option<u8>),
    Done,
    /// It was overtaken.
    None,
}

#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
struct Browser {
    has_next: bool,
    showed_next: Option<Time>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct End {
    by: usize,
    kind: Kind,
    answered: Option<Time>,
    /// The session had begun, or its proof been looked at, before.
    concerns: bool,
}

impl Model for Rules {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let is_told = |node: &Node| node.news.is_none_or(|(_, since)| state.now < since + PUSH);
        let is_answered = |node: &Node| node.load.is_none_or(|load| state.now < load.asked + LOAD);
        if state.now < LAST
            && state
                .nodes
                .iter()
                .all(|node| is_told(node) && is_answered(node))
        {
            actions.push(Action::Tick);
        }
        match state.login {
            Login::Ahead if state.end.is_none() => actions.push(Action::Prove),
            Login::Proved(_) => actions.push(Action::Create),
            _ => {}
        }
        if state.end.is_some_and(|end| end.answered.is_none()) {
            actions.push(Action::Store);
        }
        if state.touch {
            actions.push(Action::Touch);
        }
        for (n, node) in state.nodes.iter().enumerate() {
            self.actions_at(state, (n, node), actions);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Tick => state.now += 1,
            Action::Prove => {
                let epoch = self.asks_before_the_proof.then_some(state.store.epoch);
                state.login = Login::Proved(epoch);
            }
            Action::Create => self.create(&mut state),
            Action::Ask(n, token, reply) => self.ask(&mut state, n, token, reply),
            Action::Answer(n) => self.answer(&mut state, n),
            Action::Fill(n, reply) => self.fill(&mut state, n, reply),
            Action::Rotate(n) => {
                // When that was does not matter, by the rule.
                let since = if self.grace_begins_when_shown {
                    0
                } else {
                    state.now
                };
                state.rotate(n, since);
            }
            Action::Confirm(n) => state.confirm(n),
            Action::Touch => {
                state.touch = false;
                if !self.touch_never_creates {
                    state.store.session.get_or_insert(state.store.epoch);
                }
            }
            Action::End(by, kind) => {
                let concerns = state.login != Login::Ahead;
                state.nodes[by].ended |= concerns && state.login == Login::Done;
                state.end = Some(End {
                    by,
                    kind,
                    answered: None,
                    concerns,
                });
            }
            Action::Store => state.store_end(),
            Action::Deliver(n) => {
                if let Some((kind, _)) = state.nodes[n].news.take() {
                    state.nodes[n].hear(kind, state.store.epoch);
                }
            }
            Action::Cut(n) => {
                let node = &mut state.nodes[n];
                node.is_cut = true;
                node.missed |= node.news.take().is_some();
            }
            Action::Mend(n) => {
                let node = &mut state.nodes[n];
                node.is_cut = false;
                node.cache = [None; 2];
            }
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(LATE, |_, state: &State| !state.late),
            Property::always(LOST, |_, state: &State| !state.lost),
            // Otherwise nothing was shown.
        ];
        properties.extend(match self.scope {
            Scope::Ends => vec![
                Property::sometimes("a late answer meets an end", |_, state: &State| {
                    let node = &state.nodes[1];
                    let found = node.load.and_then(|load| load.answer).flatten();
                    found.is_some() && node.ended && state.store.session.is_none()
                }),
                Property::sometimes("a login is overtaken", |_, state: &State| {
                    state.login == Login::None
                }),
                Property::sometimes("a node is deaf to the last", |_, state: &State| {
                    let node = &state.nodes[1];
                    state.now == LAST && node.missed && node.cache[0].is_some()
                }),
            ],
            Scope::Tokens => vec![
                Property::sometimes("both tokens are in use", |_, state: &State| {
                    let [first, second] = state.nodes[0].cache;
                    first.is_some() && second.is_some()
                }),
                Property::sometimes("a new token got lost", |_, state: &State| {
                    let [made, other] = &state.nodes;
                    let knows =
                        |node: &Node| node.cache[0].is_some_and(|entry| entry.next != Next::None);
                    state.now == LAST && knows(made) && knows(other) && !state.browser.has_next
                }),
            ],
        });
        properties
    }
}

impl Rules {
    fn actions_at(&self, state: &State, (n, node): (usize, &Node), actions: &mut Vec<Action>) {
        let replies: &[Reply] = match self.scope {
            Scope::Ends => &[Reply::Arrives],
            Scope::Tokens => &[Reply::Arrives, Reply::GetsLost],
        };
        if state.login == Login::Done {
            for token in state.tokens() {
                actions.extend(replies.iter().map(|reply| Action::Ask(n, token, *reply)));
            }
        }
        match node.load {
            Some(load) if load.answer.is_none() => actions.push(Action::Answer(n)),
            Some(_) => actions.extend(replies.iter().map(|reply| Action::Fill(n, *reply))),
            None => {}
        }
        match self.scope {
            Scope::Ends => {
                if node.news.is_some() {
                    actions.push(Action::Deliver(n));
                }
                if state.end.is_none() && state.login == Login::Done {
                    actions.push(Action::End(n, Kind::One));
                }
                if state.end.is_none() {
                    actions.push(Action::End(n, Kind::All));
                }
                actions.push(if node.is_cut {
                    Action::Mend(n)
                } else {
                    Action::Cut(n)
                });
            }
            Scope::Tokens => {
                if node.cache[0].is_some_and(|entry| entry.next == Next::None) {
                    actions.push(Action::Rotate(n));
                }
                if node.shown.is_some() {
                    actions.push(Action::Confirm(n));
                }
            }
        }
    }

    fn create(&self, state: &mut State) {
        let Login::Proved(epoch) = state.login else {
            return;
        };
        let began = epoch.unwrap_or(state.store.epoch);
        if began < state.store.epoch && self.compares_at_load {
            state.login = Login::None;
            return;
        }
        state.store.session = Some(began);
        state.login = Login::Done;
    }

    fn ask(&self, state: &mut State, n: usize, token: usize, reply: Reply) {
        if token == 1 {
            let now = state.now;
            state.browser.showed_next.get_or_insert(now);
        }
        let is_fresh =
            |entry: &Entry| !self.believes_for_a_time || state.now < entry.since + CACHE_TTL;
        match state.nodes[n].cache[token].filter(is_fresh) {
            Some(entry) => {
                let now = state.now;
                self.judge(state, (n, token, entry), (now, reply));
            }
            None if state.nodes[n].load.is_some() => {}
            None => {
                state.nodes[n].cache[token] = None;
                state.nodes[n].load = Some(Load {
                    token,
                    asked: state.now,
                    answer: None,
                });
            }
        }
    }

    fn answer(&self, state: &mut State, n: usize) {
        let (store, now) = (state.store.clone(), state.now);
        let Some(load) = &mut state.nodes[n].load else {
            return;
        };
        let lives = |began: &u8| !self.compares_at_load || *began >= store.epoch;
        let found = store.session.filter(lives).map(|began| Entry {
            since: if self.is_as_old_as_the_question {
                load.asked
            } else {
                now
            },
            began,
            next: store.next,
        });
        load.answer = Some(found);
    }

    fn fill(&self, state: &mut State, n: usize, reply: Reply) {
        let Some(Load {
            token,
            asked,
            answer: Some(found),
        }) = state.nodes[n].load.take()
        else {
            return;
        };
        let Some(mut entry) = found else {
            return state.refuse();
        };
        if !self.is_as_old_as_the_question {
            entry.since = state.now;
        }
        let node = &mut state.nodes[n];
        if self.remembers_ends && (node.ended || entry.began < node.epoch) {
            return state.refuse();
        }
        node.cache[token] = Some(entry);
        if token == 1 && matches!(state.store.next, Next::Made(_)) {
            node.shown.get_or_insert(state.now);
        }
        self.judge(state, (n, token, entry), (asked, reply));
    }

    /// The session of an entry is over, or its token is a copy, or it lets somebody in.
    fn judge(
        &self,
        state: &mut State,
        (n, token, entry): (usize, usize, Entry),
        (asked, reply): (Time, Reply),
    ) {
        let now = if self.judges_when_asked {
            asked
        } else {
            state.now
        };
        let since = match entry.next {
            Next::Shown(since) => Some(since),
            Next::Made(since) if !self.grace_begins_when_shown => Some(since),
            _ => None,
        };
        let is_copy = token == 0 && since.is_some_and(|since| now >= since + GRACE);
        if is_copy {
            return state.refuse();
        }
        state.late |= state.is_late(n);
        state.touch = self.scope == Scope::Ends;
        if token == 0 && entry.next != Next::None && reply == Reply::Arrives {
            state.browser.has_next = true;
        }
    }
}

impl State {
    /// Those that a browser may show: the newest that it has, and for a moment the one before.
    fn tokens(&self) -> Vec<usize> {
        let showed = self.browser.showed_next;
        let first = showed.is_none_or(|since| self.now < since + GRACE);
        let tokens = [(0, first), (1, self.browser.has_next)];
        let held = tokens.into_iter().filter(|(_, held)| *held);
        held.map(|(token, _)| token).collect()
    }

    fn rotate(&mut self, n: usize, since: Time) {
        let began = self.nodes[n].cache[0].map(|entry| entry.began);
        if self.store.session.is_none() || self.store.session != began {
            return;
        }
        if self.store.next == Next::None {
            self.store.next = Next::Made(since);
        }
        if let Some(entry) = &mut self.nodes[n].cache[0] {
            entry.next = self.store.next;
        }
    }

    fn confirm(&mut self, n: usize) {
        let Some(at) = self.nodes[n].shown.take() else {
            return;
        };
        if matches!(self.store.next, Next::Made(_)) {
            self.store.next = Next::Shown(at);
        }
        if let Some(entry) = &mut self.nodes[n].cache[0] {
            entry.next = Next::Shown(at);
        }
    }

    fn store_end(&mut self) {
        let (now, Some(end)) = (self.now, &mut self.end) else {
            return;
        };
        end.answered = Some(now);
        match end.kind {
            Kind::One => self.store.session = None,
            Kind::All => self.store.epoch += 1,
        }
        let End { by, kind, .. } = *end;
        self.nodes[by].hear(kind, self.store.epoch);
        let other = &mut self.nodes[1 - by];
        if other.is_cut {
            other.missed = true;
        } else {
            other.news = Some((kind, now));
        }
    }

    fn refuse(&mut self) {
        let has_cause = self.end.is_some_and(|end| end.concerns);
        self.lost |= !has_cause;
    }

    fn is_late(&self, n: usize) -> bool {
        let bound = match &self.nodes[n] {
            node if node.missed => CACHE_TTL,
            _ => PUSH,
        };
        let end = self.end.filter(|end| end.concerns);
        end.and_then(|end| end.answered)
            .is_some_and(|answered| self.now > answered + bound)
    }
}

impl Node {
    fn hear(&mut self, kind: Kind, epoch: u8) {
        match kind {
            Kind::One => {
                self.ended = true;
                self.cache = [None; 2];
            }
            Kind::All => {
                self.epoch = epoch;
                for entry in &mut self.cache {
                    *entry = entry.filter(|entry| entry.began >= epoch);
                }
            }
        }
    }
}

#[test]
fn the_protocol_keeps_its_promises_whatever_happens() {
    for scope in [Scope::Ends, Scope::Tokens] {
        let searched = Rules { scope, ..PROTOCOL }.checker().threads(2).spawn_bfs();
        let searched = searched.join();
        println!("{scope:?}: {} states", searched.unique_state_count());
        searched.assert_properties();
    }
}

#[test]
fn no_rule_is_there_for_nothing() {
    type Break = fn(&mut Rules);
    let rules: [(&str, Scope, &str, Break); 8] = [
        ("ends are remembered", Scope::Ends, LATE, |rules| {
            rules.remembers_ends = false;
        }),
        ("entries grow old", Scope::Ends, LATE, |rules| {
            rules.believes_for_a_time = false;
        }),
        ("from the question on", Scope::Ends, LATE, |rules| {
            rules.is_as_old_as_the_question = false;
        }),
        ("epochs are compared", Scope::Ends, LATE, |rules| {
            rules.compares_at_load = false;
        }),
        ("and asked for early", Scope::Ends, LATE, |rules| {
            rules.asks_before_the_proof = false;
        }),
        ("a touch does not create", Scope::Ends, LATE, |rules| {
            rules.touch_never_creates = false;
        }),
        (
            "a lost answer costs nothing",
            Scope::Tokens,
            LOST,
            |rules| {
                rules.grace_begins_when_shown = false;
            },
        ),
        ("nor does a slow store", Scope::Tokens, LOST, |rules| {
            rules.judges_when_asked = false;
        }),
    ];
    for (name, scope, promise, broken) in rules {
        let mut rules = Rules { scope, ..PROTOCOL };
        broken(&mut rules);
        let enough = HasDiscoveries::AnyOf([promise].into());
        let searched = rules.checker().threads(2).finish_when(enough).spawn_bfs();
        assert!(searched.join().discovery(promise).is_some(), "{name}");
    }
}
