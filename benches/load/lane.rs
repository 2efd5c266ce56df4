//! A closed loop: as many requests under way as there are askers, each asked again as soon as it is answered.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Asker;
use crate::proxy::Proxy;

pub struct Lane {
    pub name: &'static str,
    askers: Vec<Asker>,
}

/// What all slices of a lane found together.
pub struct Result {
    pub name: &'static str,
    /// From the first byte sent to the last byte read, in nanoseconds.
    pub latency: Histogram<u64>,
    pub took: Duration,
    pub processor: Duration,
}

impl Result {
    pub fn new(name: &'static str) -> Self {
        let latency = Histogram::new(3).unwrap();
        Self {
            name,
            latency,
            took: Duration::ZERO,
            processor: Duration::ZERO,
        }
    }
}

impl Lane {
    pub fn new(name: &'static str, askers: Vec<Asker>) -> Self {
        Self { name, askers }
    }

    pub async fn run(&mut self, slice: Duration, proxy: &Proxy, result: Option<&mut Result>) {
        let (began, used) = (Instant::now(), proxy.processor_time());
        let until = began + slice;
        let mut loops = JoinSet::new();
        for asker in self.askers.drain(..) {
            loops.spawn(ask_until(asker, until));
        }
        let mut latency = Histogram::<u64>::new(3).unwrap();
        for (asker, times) in loops.join_all().await {
            self.askers.push(asker);
            latency.add(times).unwrap();
        }
        if let Some(result) = result {
            result.latency.add(latency).unwrap();
            result.took += began.elapsed();
            result.processor += proxy.processor_time().saturating_sub(used);
        }
    }
}

async fn ask_until(mut asker: Asker, until: Instant) -> (Asker, Histogram<u64>) {
    let mut times = Histogram::new(3).unwrap();
    loop {
        let began = Instant::now();
        asker.ask().await;
        let ended = Instant::now();
        times
            .record(u64::try_from((ended - began).as_nanos()).unwrap())
            .unwrap();
        if ended >= until {
            return (asker, times);
        }
    }
}
