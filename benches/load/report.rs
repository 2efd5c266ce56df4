//! The table.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::lane::Result;
use crate::storm::{self, Findings, Storm};

/// The first result is what the others are compared with; doorward has no part in it.
pub fn table(results: &[Result]) -> String {
    let mut text = format!(
        "{:<28} {:>10} {:>8} {:>8} {:>8} {:>8} {:>12} {:>7}\n",
        "", "requests/s", "p50", "p90", "p99", "p99.9", "CPU/request", "ratio"
    );
    let first = results.first().map_or(1.0, rate);
    for (place, result) in results.iter().enumerate() {
        let [p50, p90, p99, most] = quantiles(&result.latency);
        let requests = u32::try_from(result.latency.len()).unwrap().max(1);
        let processor = match place {
            0 => "-".to_owned(),
            _ => micros(result.processor / requests),
        };
        let (name, rate) = (result.name, rate(result));
        writeln!(
            text,
            "{name:<28} {rate:>10.0} {p50:>8} {p90:>8} {p99:>8} {most:>8} {processor:>12} {:>7.2}",
            rate / first,
        )
        .unwrap();
    }
    text + "Times in microseconds; CPU/request is doorward's own, ratio is requests/s against the first line.\n"
}

/// How long people who are logged in wait, without and with a storm of logins.
pub fn beside_logins(storm: Storm, findings: &Findings) -> String {
    let mut text = format!(
        "{:<28} {:>10} {:>8} {:>8} {:>8} {:>8}\n",
        "", "requests/s", "p50", "p90", "p99", "p99.9"
    );
    for result in [&findings.calm, &findings.storm] {
        let (name, rate) = (result.name, rate(result));
        let [p50, p90, p99, most] = quantiles(&result.latency);
        writeln!(
            text,
            "{name:<28} {rate:>10.0} {p50:>8} {p90:>8} {p99:>8} {most:>8}"
        )
        .unwrap();
    }
    let logins = &findings.logins;
    let none = Histogram::new(3).unwrap();
    let [p50, p90, p99, most] = quantiles(logins.latency.as_ref().unwrap_or(&none));
    let seconds = (storm.slice * storm::ROUNDS).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a count of logins")]
    let rate = logins.succeeded as f64 / seconds;
    writeln!(
        text,
        "{:<28} {rate:>10.0} {p50:>8} {p90:>8} {p99:>8} {most:>8}",
        "logins that succeeded"
    )
    .unwrap();
    writeln!(
        text,
        "Times in microseconds. {} logins a second were begun: {} succeeded, {} were asked to try again.",
        storm.logins_per_second, logins.succeeded, logins.turned_away,
    )
    .unwrap();
    text
}

fn quantiles(latency: &Histogram<u64>) -> [String; 4] {
    [0.5, 0.9, 0.99, 0.999]
        .map(|quantile| micros(Duration::from_nanos(latency.value_at_quantile(quantile))))
}

#[expect(clippy::cast_precision_loss, reason = "a count of requests")]
fn rate(result: &Result) -> f64 {
    result.latency.len() as f64 / result.took.as_secs_f64()
}

fn micros(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1e6)
}
