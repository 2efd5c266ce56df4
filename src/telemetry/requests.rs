//! Requests, counted by route and status. The statuses are those of HTTP and the routes those of the configuration, so
//! no client can make a series.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// One route's requests by status.
pub struct RouteMetrics {
    /// From [`RouteMetrics::FIRST`]; one more for what is no status.
    statuses: Box<[AtomicU64]>,
}

impl RouteMetrics {
    const FIRST: u16 = 100;
    const LAST: u16 = 599;

    fn new() -> Self {
        let statuses = (Self::FIRST..=Self::LAST + 1)
            .map(|_| AtomicU64::new(0))
            .collect();
        Self { statuses }
    }

    /// Counts a request. Statuses that HTTP does not have count together as `other`.
    pub fn count(&self, status: u16) {
        let index = match status {
            Self::FIRST..=Self::LAST => status - Self::FIRST,
            _ => Self::LAST + 1 - Self::FIRST,
        };
        if let Some(counter) = self.statuses.get(usize::from(index)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The statuses that occurred, as labels, and how often.
    fn counted(&self) -> impl Iterator<Item = (String, u64)> {
        let counts = self
            .statuses
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let occurred = (Self::FIRST..).zip(counts).filter(|(_, count)| *count > 0);
        occurred.map(|(status, count)| match status {
            Self::FIRST..=Self::LAST => (status.to_string(), count),
            _ => ("other".to_owned(), count),
        })
    }
}

impl fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.counted()).finish()
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Routes(Arc<Mutex<BTreeMap<String, Arc<RouteMetrics>>>>);

impl Routes {
    pub(super) fn route(&self, id: &str) -> Arc<RouteMetrics> {
        let mut routes = self.0.lock();
        let route = routes
            .entry(id.to_owned())
            .or_insert_with(|| Arc::new(RouteMetrics::new()));
        Arc::clone(route)
    }
}

impl Collector for Routes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests by route and status.";
        let mut family =
            encoder.encode_descriptor("doorward_requests", help, None, MetricType::Counter)?;
        for (id, route) in &*self.0.lock() {
            for (status, count) in route.counted() {
                let labels = [("route", id.as_str()), ("status", status.as_str())];
                let mut counter = family.encode_family(&labels)?;
                counter.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }
}
