//! What a storm of logins does to everybody else: people who are logged in ask at a steady rate, and every other slice
//! of the time comes with logins beside them, each on a connection of its own: handshake, form, password.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::client::{self, Asker};
use crate::lane::Result;
use crate::proxy::Proxy;

/// Of all people who are logged in together. No core is busy with it: what is measured is waiting, not capacity.
const REQUESTS_PER_SECOND: u32 = 500;
/// Slices of each kind.
pub const ROUNDS: u32 = 5;

#[derive(Clone, Copy)]
pub struct Storm {
    pub logins_per_second: u32,
    pub slice: Duration,
}

/// What became of the logins. Those that had no answer at the end of their slice are waited for.
#[derive(Default)]
pub struct Logins {
    pub succeeded: u64,
    pub turned_away: u64,
    /// From the first byte of the handshake to the last of the answer, in nanoseconds; of those that succeeded.
    pub latency: Option<Histogram<u64>>,
}

pub struct Findings {
    pub calm: Result,
    pub storm: Result,
    pub logins: Logins,
}

pub async fn measure(storm: Storm, proxy: &Arc<Proxy>, mut askers: Vec<Asker>) -> Findings {
    let mut calm = Result::new("nobody logs in");
    let mut stormy = Result::new("beside the logins");
    let mut logins = Logins::default();
    for _ in 0..ROUNDS {
        askers = ask_steadily(askers, storm.slice, (proxy, &mut calm)).await;
        let theirs = Arc::clone(proxy);
        let thread = thread::spawn(move || break_out(storm, &theirs));
        askers = ask_steadily(askers, storm.slice, (proxy, &mut stormy)).await;
        logins.add(thread.join().unwrap());
    }
    Findings {
        calm,
        storm: stormy,
        logins,
    }
}

/// Asks at equal distances, whether or not the answers come in time: one that is late makes the next ones late, and
/// their time counts from when they should have been sent.
async fn ask_steadily(
    askers: Vec<Asker>,
    slice: Duration,
    (proxy, result): (&Proxy, &mut Result),
) -> Vec<Asker> {
    let (began, used) = (Instant::now(), proxy.processor_time());
    let until = began + slice;
    let count = u32::try_from(askers.len()).unwrap();
    let every = Duration::from_secs(1) * count / REQUESTS_PER_SECOND;
    let mut loops = JoinSet::new();
    for (place, asker) in (0..).zip(askers) {
        loops.spawn(ask_every(
            every,
            asker,
            began + every * place / count,
            until,
        ));
    }
    let mut back = Vec::new();
    for (asker, times) in loops.join_all().await {
        back.push(asker);
        result.latency.add(times).unwrap();
    }
    result.took += began.elapsed();
    result.processor += proxy.processor_time().saturating_sub(used);
    back
}

async fn ask_every(
    every: Duration,
    mut asker: Asker,
    first: Instant,
    until: Instant,
) -> (Asker, Histogram<u64>) {
    let mut times = Histogram::new(3).unwrap();
    let mut due = first;
    while due < until {
        // Timers are good to a millisecond: what they are late is not the proxy's.
        let began = if Instant::now() < due {
            sleep_until(due).await;
            Instant::now()
        } else {
            due
        };
        asker.ask().await;
        times.record(nanos(began.elapsed())).unwrap();
        due += every;
    }
    (asker, times)
}

/// Logs in `logins_per_second` times a second for a slice, on a thread of its own. It is behind the others: people who log in
/// are not on the machine of those who are measured.
fn break_out(storm: Storm, proxy: &Arc<Proxy>) -> Logins {
    rustix::process::nice(19).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let began = Instant::now();
        let mut under_way = JoinSet::new();
        for due in moments(storm).map(|moment| began + moment) {
            sleep_until(due).await;
            let proxy = Arc::clone(proxy);
            under_way.spawn(async move {
                let began = Instant::now();
                let is_in = client::try_to_log_in(&proxy).await.is_some();
                (is_in, began.elapsed())
            });
        }
        let mut logins = Logins::default();
        for (is_in, took) in under_way.join_all().await {
            logins.count(is_in, took);
        }
        logins
    })
}

/// When people log in: as many in every second, at no equal distances, or all would meet the same of those that are measured.
/// Multiples of the golden ratio, less what is whole in them, are spread evenly.
fn moments(storm: Storm) -> impl Iterator<Item = Duration> {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let every = Duration::from_secs(1) / storm.logins_per_second;
    let all = (0_u32..)
        .map(move |number| every * number + every.mul_f64((f64::from(number) * GOLDEN).fract()));
    all.take_while(move |moment| *moment < storm.slice)
}

impl Logins {
    fn count(&mut self, is_in: bool, took: Duration) {
        if !is_in {
            self.turned_away += 1;
            return;
        }
        self.succeeded += 1;
        let latency = self
            .latency
            .get_or_insert_with(|| Histogram::new(3).unwrap());
        latency.record(nanos(took)).unwrap();
    }

    fn add(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.turned_away += other.turned_away;
        if let Some(theirs) = other.latency {
            let latency = self
                .latency
                .get_or_insert_with(|| Histogram::new(3).unwrap());
            latency.add(theirs).unwrap();
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}
