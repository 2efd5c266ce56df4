//! The table.

use std::fmt::Write;
use std::time::Duration;

use crate::lane::Result;

/// The first result is what the others are compared with; doorward has no part in it.
pub fn table(results: &[Result]) -> String {
    let mut text = format!(
        "{:<28} {:>10} {:>8} {:>8} {:>8} {:>8} {:>12} {:>7}\n",
        "", "requests/s", "p50", "p90", "p99", "p99.9", "CPU/request", "ratio"
    );
    let first = results.first().map_or(1.0, rate);
    for (place, result) in results.iter().enumerate() {
        let at = |quantile| {
            micros(Duration::from_nanos(
                result.latency.value_at_quantile(quantile),
            ))
        };
        let requests = u32::try_from(result.latency.len()).unwrap().max(1);
        let processor = match place {
            0 => "-".to_owned(),
            _ => micros(result.processor / requests),
        };
        let (name, rate) = (result.name, rate(result));
        writeln!(
            text,
            "{name:<28} {rate:>10.0} {:>8} {:>8} {:>8} {:>8} {processor:>12} {:>7.2}",
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            rate / first,
        )
        .unwrap();
    }
    text + "Times in microseconds; CPU/request is doorward's own, ratio is requests/s against the first line.\n"
}

#[expect(clippy::cast_precision_loss, reason = "a count of requests")]
fn rate(result: &Result) -> f64 {
    result.latency.len() as f64 / result.took.as_secs_f64()
}

fn micros(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1e6)
}
