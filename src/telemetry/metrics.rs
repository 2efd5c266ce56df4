//! Counters, gauges and histograms for `/metrics`. Every label comes from a closed set (an enum, a configured route),
//! so no client can make a series. Handles are held, so counting is one atomic addition.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use super::labels::{
    AppLogout, CacheLookup, DataChange, LabelSet, LoginOutcome, SessionEvent, StoreOp, StoreSide,
    UpstreamFailure,
};
use super::requests::{RouteMetrics, Routes};
use super::writer::LineWriter;
use crate::clock::Clock;

/// All that is counted. Shared by every worker.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    routes: Routes,
    unrouted: Arc<RouteMetrics>,
    logs: Logs,
    app_logouts: PerLabel<AppLogout, Counter>,
    cache: PerLabel<CacheLookup, Counter>,
    cached_sessions: Gauge,
    connections: Gauge,
    data: PerLabel<DataChange, Counter>,
    handshake_failures: Counter,
    logins: PerLabel<LoginOutcome, Counter>,
    sessions: PerLabel<SessionEvent, Counter>,
    ends: Family<[(&'static str, &'static str); 1], Counter>,
    store: PerLabel<StoreOp, Histogram>,
    store_errors: PerLabel<StoreOp, Counter>,
    store_available: PerLabel<StoreSide, Gauge>,
    upstream_errors: PerLabel<UpstreamFailure, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let (routes, logs) = (Routes::default(), Logs::default());
        let unrouted = routes.route("");
        registry.register_collector(Box::new(routes.clone()));
        registry.register_collector(Box::new(logs.clone()));
        let r = &mut registry;
        register_process(r);
        Self {
            routes,
            unrouted,
            logs,
            app_logouts: app_logouts(r),
            cache: counters(
                r,
                (
                    "doorward_session_cache_lookups",
                    "Looks into the session cache",
                    "result",
                ),
            ),
            cached_sessions: single(
                r,
                "doorward_session_cache_sessions",
                "Sessions in the cache",
            ),
            connections: single(
                r,
                "doorward_connections_open",
                "Client connections that are open",
            ),
            data: data_changes(r),
            handshake_failures: single(
                r,
                "doorward_tls_handshake_failures",
                "TLS handshakes that failed",
            ),
            logins: counters(r, ("doorward_logins", "Attempts to log in", "outcome")),
            sessions: counters(
                r,
                (
                    "doorward_sessions",
                    "What became of sessions and tokens",
                    "event",
                ),
            ),
            ends: ends(r),
            store: PerLabel::new(
                r,
                (
                    "doorward_store_operation_seconds",
                    "Time that the session store took",
                    "operation",
                ),
                latency,
            ),
            store_errors: counters(
                r,
                (
                    "doorward_store_errors",
                    "Failures of the session store",
                    "operation",
                ),
            ),
            store_available: availability(r),
            upstream_errors: counters(
                r,
                (
                    "doorward_upstream_errors",
                    "Requests without an answer",
                    "kind",
                ),
            ),
            registry,
        }
    }

    /// The counters of one route, to be held by whoever serves it. The id comes from the configuration; the same id has
    /// the same counters, also after a reload.
    pub fn route(&self, id: &str) -> Arc<RouteMetrics> {
        self.routes.route(id)
    }

    /// The counters of requests that no route took.
    pub const fn unrouted(&self) -> &Arc<RouteMetrics> {
        &self.unrouted
    }

    /// Counts the lines that this log loses from now on, under `log="…"`. A second writer of a name takes its place.
    pub fn watch_log(&self, name: &'static str, writer: &LineWriter) {
        if let Some(lost) = writer.lost_count() {
            self.logs.0.lock().insert(name, Arc::clone(lost));
        }
    }

    pub fn app_logout(&self, outcome: AppLogout) {
        self.app_logouts.with(outcome, Counter::inc);
    }

    pub fn cache(&self, lookup: CacheLookup) {
        self.cache.with(lookup, Counter::inc);
    }

    /// How many sessions the cache holds now.
    pub fn cached_sessions(&self, count: u64) {
        self.cached_sessions
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts an open connection for as long as the value lives.
    pub fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    pub fn data(&self, change: DataChange) {
        self.data.with(change, Counter::inc);
    }

    pub fn handshake_failed(&self) {
        self.handshake_failures.inc();
    }

    pub fn login(&self, outcome: LoginOutcome) {
        self.logins.with(outcome, Counter::inc);
    }

    pub fn session(&self, event: SessionEvent) {
        self.sessions.with(event, Counter::inc);
    }

    /// Counts the end of a session. The reason is one of the words that the program has for it.
    pub fn session_over(&self, reason: &'static str) {
        self.ends.get_or_create(&[("reason", reason)]).inc();
    }

    /// A store operation that took this long, whether or not it succeeded.
    pub fn store(&self, op: StoreOp, took: Duration) {
        self.store
            .with(op, |latency| latency.observe(took.as_secs_f64()));
    }

    pub fn store_failed(&self, op: StoreOp) {
        self.store_errors.with(op, Counter::inc);
    }

    pub fn store_available(&self, side: StoreSide, available: bool) {
        self.store_available.with(side, |gauge| {
            gauge.set(i64::from(available));
        });
    }

    pub fn upstream_failed(&self, failure: UpstreamFailure) {
        self.upstream_errors.with(failure, Counter::inc);
    }

    /// Everything as `OpenMetrics` text, version 1.0.0.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        if text::encode(&mut out, &self.registry).is_err() {
            // Half an answer would look like a restart; none is an error that the scraper shows.
            tracing::error!("the metrics could not be encoded");
            out.clear();
        }
        out
    }
}

/// An open client connection, see [`Metrics::connection`].
#[derive(Debug)]
pub struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Clone, Debug, Default)]
struct Logs(Arc<Mutex<BTreeMap<&'static str, Arc<AtomicU64>>>>);

impl Collector for Logs {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Lines that a log could not take.";
        let mut family = encoder.encode_descriptor(
            "doorward_log_lines_lost",
            help,
            None,
            MetricType::Counter,
        )?;
        for (log, lost) in &*self.0.lock() {
            let labels = [("log", *log)];
            let lost = lost.load(Ordering::Relaxed);
            let mut counter = family.encode_family(&labels)?;
            counter.encode_counter::<NoLabelSet, _, u64>(&lost, None)?;
        }
        Ok(())
    }
}

/// One handle for each value of a label, all made at the start: what never happened is exported as 0.
struct PerLabel<L, M> {
    handles: Vec<M>,
    label: PhantomData<fn(L)>,
}

/// Name, help and label of a family.
type Naming = (&'static str, &'static str, &'static str);

impl<L: LabelSet, M: TypedMetric + EncodeMetric + Clone + fmt::Debug + Send + Sync + 'static>
    PerLabel<L, M>
{
    fn new(registry: &mut Registry, (name, help, label): Naming, make: fn() -> M) -> Self {
        let family = Family::new_with_constructor(make);
        let handle = |value: &&'static str| family.get_or_create_owned(&[(label, *value)]);
        let handles = L::LABELS.iter().map(handle).collect();
        registry.register(name, help, family);
        Self {
            handles,
            label: PhantomData,
        }
    }

    fn with<T>(&self, value: L, act: impl FnOnce(&M) -> T) {
        self.handles.get(value.index()).map(act);
    }
}

impl<L: LabelSet, M: fmt::Debug> fmt::Debug for PerLabel<L, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(L::LABELS.iter().zip(&self.handles))
            .finish()
    }
}

fn single<M: EncodeMetric + Default + Clone + fmt::Debug + Send + Sync + 'static>(
    registry: &mut Registry,
    name: &str,
    help: &str,
) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn counters<L: LabelSet>(registry: &mut Registry, naming: Naming) -> PerLabel<L, Counter> {
    PerLabel::new(registry, naming, Counter::default)
}

fn app_logouts(registry: &mut Registry) -> PerLabel<AppLogout, Counter> {
    let help = "Apps that were to be told of the end of a session";
    counters(registry, ("doorward_app_logouts", help, "result"))
}

fn data_changes(registry: &mut Registry) -> PerLabel<DataChange, Counter> {
    let help = "Changes of data that apps keep in sessions";
    counters(registry, ("doorward_session_data_changes", help, "result"))
}

fn ends(registry: &mut Registry) -> Family<[(&'static str, &'static str); 1], Counter> {
    let ends = Family::default();
    let help = "Sessions that were ended, by the reason";
    registry.register("doorward_session_ends", help, ends.clone());
    ends
}

/// 1 until something is wrong.
fn availability(registry: &mut Registry) -> PerLabel<StoreSide, Gauge> {
    let naming = (
        "doorward_store_available",
        "Whether the session store does what it is asked: 1 or 0",
        "for",
    );
    PerLabel::new(registry, naming, || {
        let available = Gauge::default();
        available.set(1);
        available
    })
}

/// From a tenth of a millisecond to about two seconds, the longest that anything waits for a store.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 3.0, 10))
}

fn register_process(registry: &mut Registry) {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    registry.register("doorward_build", "What is running", Info::new(version));
    let started = Duration::from_millis(Clock::system().now().as_millis());
    registry.register(
        "process_start_time_seconds",
        "When the process started, in seconds since the Unix epoch",
        ConstGauge::new(started.as_secs_f64()),
    );
}

#[cfg(test)]
mod tests {
    use super::super::writer::Sink;
    use super::*;

    fn has(metrics: &Metrics, line: &str) -> bool {
        metrics.encode().lines().any(|found| found == line)
    }

    #[test]
    fn requests_are_counted_by_route_and_status() {
        let metrics = Metrics::new();
        let wiki = metrics.route("wiki");
        wiki.count(200);
        wiki.count(200);
        metrics.route("wiki").count(404);
        metrics.unrouted().count(404);
        assert!(has(
            &metrics,
            r#"doorward_requests_total{route="wiki",status="200"} 2"#
        ));
        assert!(has(
            &metrics,
            r#"doorward_requests_total{route="wiki",status="404"} 1"#
        ));
        assert!(has(
            &metrics,
            r#"doorward_requests_total{route="",status="404"} 1"#
        ));
        assert!(
            !metrics.encode().contains(r#"status="500""#),
            "what did not occur is left out"
        );
    }

    #[test]
    fn the_edges_of_the_statuses_count_and_others_share_one_series() {
        let metrics = Metrics::new();
        for status in [0, 99, 100, 599, 600, u16::MAX] {
            metrics.unrouted().count(status);
        }
        for (status, count) in [("100", 1), ("599", 1), ("other", 4)] {
            let line = format!(r#"doorward_requests_total{{route="",status="{status}"}} {count}"#);
            assert!(has(&metrics, &line), "{status}");
        }
    }

    #[test]
    fn a_route_id_cannot_forge_a_series() {
        let metrics = Metrics::new();
        metrics.route("a\\\"} 1\nforged{x=\"").count(200);
        let expected = r#"doorward_requests_total{route="a\\\"} 1\nforged{x=\"",status="200"} 1"#;
        assert!(has(&metrics, expected));
        assert!(
            !metrics
                .encode()
                .lines()
                .any(|line| line.starts_with("forged"))
        );
    }

    #[test]
    fn every_event_has_a_series_from_the_start_and_counts_in_its_own() {
        let metrics = Metrics::new();
        metrics.session(SessionEvent::TokenReused);
        metrics.cache(CacheLookup::NegativeHit);
        metrics.login(LoginOutcome::Throttled);
        metrics.store_failed(StoreOp::Update);
        metrics.upstream_failed(UpstreamFailure::Timeout);
        metrics.handshake_failed();
        for line in [
            r#"doorward_sessions_total{event="token_reused"} 1"#,
            r#"doorward_sessions_total{event="issued"} 0"#,
            r#"doorward_session_cache_lookups_total{result="negative_hit"} 1"#,
            r#"doorward_session_cache_lookups_total{result="hit"} 0"#,
            r#"doorward_logins_total{outcome="throttled"} 1"#,
            r#"doorward_logins_total{outcome="succeeded"} 0"#,
            r#"doorward_store_errors_total{operation="update"} 1"#,
            r#"doorward_store_errors_total{operation="create"} 0"#,
            r#"doorward_upstream_errors_total{kind="timeout"} 1"#,
            r#"doorward_upstream_errors_total{kind="connect"} 0"#,
            "doorward_tls_handshake_failures_total 1",
        ] {
            assert!(has(&metrics, line), "{line}");
        }
    }

    #[test]
    fn store_latency_falls_into_buckets_of_its_operation() {
        let metrics = Metrics::new();
        metrics.store(StoreOp::Load, Duration::from_micros(250));
        metrics.store(StoreOp::Load, Duration::from_mins(1));
        for line in [
            r#"doorward_store_operation_seconds_count{operation="load"} 2"#,
            r#"doorward_store_operation_seconds_count{operation="sweep"} 0"#,
            r#"doorward_store_operation_seconds_bucket{le="0.0001",operation="load"} 0"#,
            r#"doorward_store_operation_seconds_bucket{le="+Inf",operation="load"} 2"#,
        ] {
            assert!(has(&metrics, line), "{line}\n{}", metrics.encode());
        }
    }

    #[test]
    fn a_connection_is_open_for_as_long_as_it_lives() {
        let metrics = Metrics::new();
        let (first, second) = (metrics.connection(), metrics.connection());
        assert!(has(&metrics, "doorward_connections_open 2"));
        drop(first);
        assert!(has(&metrics, "doorward_connections_open 1"));
        drop(second);
        assert!(has(&metrics, "doorward_connections_open 0"));
        metrics.cached_sessions(7);
        assert!(has(&metrics, "doorward_session_cache_sessions 7"));
    }

    #[test]
    fn lost_lines_are_counted_for_each_log() {
        let metrics = Metrics::new();
        let writer = LineWriter::open(&Sink::File("/dev/full".into())).unwrap();
        metrics.watch_log("access", &writer);
        metrics.watch_log("audit", &LineWriter::off());
        writer.write(b"one\ntwo\n".to_vec());
        writer.flush();
        assert!(has(
            &metrics,
            r#"doorward_log_lines_lost_total{log="access"} 2"#
        ));
    }

    #[test]
    fn the_text_is_whole_and_tells_what_is_running() {
        let metrics = Metrics::new();
        let text = metrics.encode();
        assert!(text.ends_with("# EOF\n"));
        assert!(has(
            &metrics,
            concat!(
                "doorward_build_info{version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            )
        ));
        let start = text
            .lines()
            .find_map(|line| line.strip_prefix("process_start_time_seconds "));
        assert!(start.unwrap().parse::<f64>().unwrap() > 1.7e9);
    }
}
