//! Counting outcomes and latencies, and how they are shown.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Longest recorded latency; longer ones count as this.
const MAX_MICROS: u64 = 600_000_000;

/// Latency percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    #[serde(rename = "p99.9")]
    pub p999: f64,
    /// Longest.
    pub max: f64,
}

/// What a load measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadReport {
    /// From the first start to the last answer.
    pub seconds: f64,
    /// Successful operations.
    pub operations: u64,
    /// Successful operations per second.
    pub per_second: f64,
    /// Operations refused because something else came first.
    pub conflicts: u64,
    /// Failed operations by reason.
    pub errors: BTreeMap<String, u64>,
    /// Of successful operations.
    pub latency_ms: Latency,
}

/// The running sums of one worker.
pub(crate) struct Tally {
    latency: Histogram<u64>,
    pub(crate) conflicts: u64,
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, MAX_MICROS, 3);
        Self {
            latency: latency.expect("the bounds of the histogram are valid"),
            conflicts: 0,
            errors: BTreeMap::new(),
        }
    }

    pub(crate) fn done(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(MAX_MICROS);
        self.latency.saturating_record(micros);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.latency
            .add(other.latency)
            .expect("all histograms have the same bounds");
        self.conflicts += other.conflicts;
        for (reason, count) in other.errors {
            *self.errors.entry(reason).or_default() += count;
        }
    }

    pub(crate) fn latency(&self) -> Latency {
        // Percentiles of nothing are zero.
        #[expect(clippy::cast_precision_loss, reason = "micros of minutes fit an f64")]
        let ms = |micros: u64| micros as f64 / 1000.0;
        let at = |quantile| ms(self.latency.value_at_quantile(quantile));
        Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(self.latency.max()),
        }
    }

    pub(crate) fn into_report(self, took: Duration) -> LoadReport {
        let seconds = took.as_secs_f64();
        let operations = self.latency.len();
        #[expect(clippy::cast_precision_loss, reason = "operation counts are small")]
        let per_second = operations as f64 / seconds.max(f64::MIN_POSITIVE);
        LoadReport {
            seconds,
            operations,
            per_second,
            conflicts: self.conflicts,
            latency_ms: self.latency(),
            errors: self.errors,
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2} ms",
            self.p50, self.p90, self.p99, self.p999, self.max
        )
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12} {:.1}/s ({} in {:.1} s)",
            "throughput", self.per_second, self.operations, self.seconds
        )?;
        writeln!(f, "{:<12} {}", "latency", self.latency_ms)?;
        writeln!(f, "{:<12} {}", "conflicts", self.conflicts)?;
        let errors: u64 = self.errors.values().sum();
        write!(f, "{:<12} {errors}", "errors")?;
        for (reason, count) in &self.errors {
            write!(f, "\n  {count} x {reason}")?;
        }
        Ok(())
    }
}
