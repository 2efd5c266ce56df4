//! People at their browsers: they log in anywhere, ask anywhere, log out and are thrown out, and write down what they saw.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::history::{End, History, Request, Session, Whose};
use super::nodes::{COUNT, Nodes, Shared, USERS};
use crate::support::{Answer, Kept, PASSWORD};

const SID: &str = "__Host-sid";

/// Small random numbers, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1))
    }

    /// Below `sides` (`SplitMix64`).
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    pub fn node(&mut self) -> usize {
        usize::try_from(self.roll(COUNT as u64)).unwrap()
    }

    pub fn user(&mut self) -> &'static str {
        USERS[usize::try_from(self.roll(USERS.len() as u64)).unwrap()]
    }

    pub async fn pause(&mut self, most: u64) {
        tokio::time::sleep(Duration::from_millis(self.roll(most))).await;
    }
}

/// When requests arrived at the app, by the number in their path.
pub type Arrivals = Arc<Mutex<HashMap<u64, Instant>>>;

pub struct Person<S> {
    pub nodes: Arc<Nodes<S>>,
    pub arrivals: Arrivals,
    pub dice: Dice,
    /// Goes on after an end for so long, and is to be refused.
    pub persistence: Duration,
    pub name: u64,
    jar: BTreeMap<String, String>,
    connections: [Option<(SocketAddr, Kept)>; COUNT],
    asked: u64,
}

/// What somebody who is logged in knows of it.
struct Stay {
    session: usize,
    sid: String,
}

impl<S: Shared> Person<S> {
    pub fn new(nodes: Arc<Nodes<S>>, arrivals: Arrivals, name: u64, dice: Dice) -> Self {
        Self {
            nodes,
            arrivals,
            dice,
            persistence: Duration::ZERO,
            name,
            jar: BTreeMap::new(),
            connections: [const { None }; COUNT],
            asked: 0,
        }
    }

    /// Lives through one session after the other. Whose session lives at the end must be let in everywhere.
    pub async fn live(mut self, until: Instant) {
        while Instant::now() < until {
            let Some(stay) = self.log_in().await else {
                self.dice.pause(200).await;
                continue;
            };
            let mut ended = None;
            while Instant::now() < until && ended.is_none() {
                ended = self.act(&stay).await;
                self.dice.pause(40).await;
            }
            let last = ended.map_or_else(Instant::now, |ended| ended + self.persistence);
            while Instant::now() < last {
                let node = self.dice.node();
                self.ask(&stay, node).await;
                self.dice.pause(40).await;
            }
            for node in 0..COUNT {
                self.ask(&stay, node).await;
            }
        }
    }

    /// One thing that people do. Returns when the session ended, as far as they can tell.
    async fn act(&mut self, stay: &Stay) -> Option<Instant> {
        let node = self.dice.node();
        match self.dice.roll(1000) {
            0..6 => self.log_out(stay, node).await,
            6..12 => {
                let target = format!("/sessions/{}", stay.sid);
                let whose = Whose::Session(stay.session);
                revoke(&self.nodes, whose, node, &target).await
            }
            12..150 => {
                let other = self.dice.node();
                self.ask_twice(stay, node, other).await
            }
            _ => self.ask(stay, node).await,
        }
    }

    async fn log_in(&mut self) -> Option<Stay> {
        let (node, user) = (self.dice.node(), self.dice.user());
        self.jar.remove(SID);
        let form = self.get(node, "/.doorward/login").await?;
        self.keep(&form);
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("state", form.field("state").as_str()),
                ("user", user),
                ("password", PASSWORD),
            ])
            .finish();
        let asked = Instant::now();
        let answer = self.post(node, "/.doorward/login", &body).await?;
        let answered = Instant::now();
        // All of the user's sessions may have ended in this moment.
        assert!(
            matches!(answer.status.as_u16(), 303 | 409),
            "{}: {}\n{}",
            answer.status,
            answer.text(),
            self.nodes.words()
        );
        self.keep(&answer);
        given(&answer)?;
        let session = {
            let mut history = self.nodes.history.lock();
            history.sessions.push(Session {
                user: user.to_owned(),
                asked,
                answered,
            });
            history.sessions.len() - 1
        };
        let who = self.get(node, "/.doorward/session").await?;
        let sid = match who.status.as_u16() {
            200 => who.json()["sid"].as_str()?.to_owned(),
            _ => String::from("00000000-0000-7000-8000-000000000000"),
        };
        Some(Stay { session, sid })
    }

    async fn ask(&mut self, stay: &Stay, node: usize) -> Option<Instant> {
        let (number, path) = self.next_path();
        let token = self.token();
        let answer = self.get(node, &path).await;
        self.note(stay, (node, number, token), answer.as_ref())
    }

    /// Two tabs, with the same cookie at the same time.
    async fn ask_twice(&mut self, stay: &Stay, node: usize, other: usize) -> Option<Instant> {
        let (first, second) = (self.next_path(), self.next_path());
        let (token, cookie) = (self.token(), self.cookie());
        let tab = async |addr: Option<SocketAddr>, path: &str| {
            let mut kept = Kept::try_http1(addr?, "localhost").await?;
            let what = (Method::GET, path);
            kept.try_request(what, &[&cookie], &[], "").await
        };
        let (one, two) = tokio::join!(
            tab(self.nodes.addr(node), &first.1),
            tab(self.nodes.addr(other), &second.1)
        );
        let refused = self.note(stay, (node, first.0, token.clone()), one.as_ref());
        self.note(stay, (other, second.0, token), two.as_ref())
            .or(refused)
    }

    async fn log_out(&mut self, stay: &Stay, node: usize) -> Option<Instant> {
        let form = self.get(node, "/.doorward/logout").await?;
        self.keep(&form);
        if form.status != 200 || !form.text().contains("name=\"token\"") {
            return None;
        }
        let body = format!("token={}", form.field("token"));
        let place = begin_end(&self.nodes, Whose::Session(stay.session));
        let before = self.jar.clone();
        let answer = self.post(node, "/.doorward/logout", &body).await;
        let done = answer.is_some_and(|answer| answer.status.is_redirection());
        // A thief would go on with the cookie.
        self.jar = before;
        finish_end(&self.nodes, place, done)
    }

    fn note(
        &mut self,
        stay: &Stay,
        (node, number, token): (usize, u64, String),
        answer: Option<&Answer>,
    ) -> Option<Instant> {
        let now = Instant::now();
        let status = answer.map(|answer| answer.status.as_u16());
        let renewal = answer.and_then(given);
        if let Some(renewal) = &renewal {
            self.jar.insert(SID.to_owned(), renewal.clone());
        }
        self.nodes.history.lock().requests.push(Request {
            session: stay.session,
            node,
            started: self.arrivals.lock().get(&number).copied(),
            answer: status.map(|status| (now, status)),
            token,
            renewal,
        });
        (status == Some(401)).then_some(now)
    }

    fn next_path(&mut self) -> (u64, String) {
        self.asked += 1;
        let number = self.name * 1_000_000 + self.asked;
        (number, format!("/{number}"))
    }

    fn token(&self) -> String {
        self.jar.get(SID).cloned().unwrap_or_default()
    }

    fn cookie(&self) -> String {
        let pairs = self
            .jar
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    fn keep(&mut self, answer: &Answer) {
        for cookie in answer.set_cookies() {
            let cookie = cookie::Cookie::parse(cookie.to_owned()).unwrap();
            let (name, value) = (cookie.name().to_owned(), cookie.value().to_owned());
            if value.is_empty() {
                self.jar.remove(&name);
            } else {
                self.jar.insert(name, value);
            }
        }
    }

    async fn get(&mut self, node: usize, path: &str) -> Option<Answer> {
        let cookie = self.cookie();
        let (addr, mut kept) = self.connection(node).await?;
        let what = (Method::GET, path);
        let answer = kept.try_request(what, &[&cookie], &[], "").await?;
        self.connections[node] = Some((addr, kept));
        Some(answer)
    }

    async fn post(&mut self, node: usize, path: &str, form: &str) -> Option<Answer> {
        let cookie = self.cookie();
        let (addr, mut kept) = self.connection(node).await?;
        let answer = kept.try_post(path, &[&cookie], form).await?;
        self.connections[node] = Some((addr, kept));
        Some(answer)
    }

    /// One that is kept, most of the time: what a connection remembers of a session is to be forgotten in time, too.
    async fn connection(&mut self, node: usize) -> Option<(SocketAddr, Kept)> {
        let addr = self.nodes.addr(node)?;
        match self.connections[node].take() {
            Some((to, kept)) if self.dice.roll(10) > 0 && to == addr => Some((addr, kept)),
            _ => Some((addr, Kept::try_http1(addr, "localhost").await?)),
        }
    }
}

/// The token in an answer.
fn given(answer: &Answer) -> Option<String> {
    let cookies = answer.set_cookies().into_iter();
    let mut tokens = cookies.filter_map(|cookie| {
        let (token, _) = cookie
            .strip_prefix(SID)?
            .strip_prefix('=')?
            .split_once(';')?;
        (!token.is_empty()).then(|| token.to_owned())
    });
    tokens.next()
}

/// Ends sessions over the admin API of a node.
pub async fn revoke<S: Shared>(
    nodes: &Nodes<S>,
    whose: Whose,
    node: usize,
    target: &str,
) -> Option<Instant> {
    let place = begin_end(nodes, whose);
    let status = nodes.delete(node, target).await;
    finish_end(nodes, place, matches!(status, Some(200 | 204)))
}

fn begin_end<S>(nodes: &Nodes<S>, whose: Whose) -> usize {
    let History { ends, .. } = &mut *nodes.history.lock();
    ends.push(End {
        whose,
        asked: Instant::now(),
        answered: None,
    });
    ends.len() - 1
}

fn finish_end<S>(nodes: &Nodes<S>, place: usize, done: bool) -> Option<Instant> {
    let answered = done.then(Instant::now);
    nodes.history.lock().ends[place].answered = answered;
    answered
}
