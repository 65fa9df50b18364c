//! What a run of the largest requests measured.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Latencies of one client's commits, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// Commits.
    pub count: usize,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest.
    pub max: f64,
}

/// How the service of a large request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was as large as may be, and done.
    Accepted,
    /// It was one byte or one table larger, and refused.
    Refused,
}

/// One large request.
#[derive(Clone, Debug, Serialize)]
pub struct Large {
    /// Which kind.
    pub kind: &'static str,
    /// `leader` or `follower`.
    pub through: &'static str,
    /// How it ended.
    pub fate: Fate,
    /// When it was sent, counted from the first.
    pub at_s: f64,
    /// Until it was answered.
    pub took_ms: f64,
}

/// What a run measured. The other clients are named by the node that they speak to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How often each large request was sent through each node.
    pub rounds: usize,
    /// Commits per second that each other client offers.
    pub per_second: f64,
    /// Commits without large requests, and without a node that joins.
    pub without: BTreeMap<&'static str, Latency>,
    /// Commits beside all of them.
    pub with: BTreeMap<&'static str, Latency>,
    /// Of those, what was due while a large request of a kind was under way.
    pub beside: BTreeMap<String, BTreeMap<&'static str, Latency>>,
    /// The large requests, in order.
    pub requests: Vec<Large>,
    /// When the joiner served, counted from the first large request.
    pub joined_after_s: f64,
    /// Most memory of each node, in MiB.
    pub peak_mib: BTreeMap<u64, u64>,
    /// Memory of each node before the first large request, in MiB.
    pub before_mib: BTreeMap<u64, u64>,
}

/// Milliseconds.
pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

impl Latency {
    /// Percentiles by the nearest rank.
    pub(super) fn of(mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        let count = took.len();
        let at = |percent: usize| {
            let rank = (count * percent).div_ceil(100).max(1) - 1;
            took.get(rank).copied().map_or(0.0, millis)
        };
        Self {
            count,
            p50: at(50),
            p99: at(99),
            max: at(100),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            count,
            p50,
            p99,
            max,
        } = self;
        write!(
            f,
            "{count} commits, p50 {p50:.1}  p99 {p99:.1}  max {max:.1} ms"
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for large in &self.requests {
            let Large {
                kind,
                through,
                fate,
                at_s,
                took_ms,
            } = large;
            writeln!(
                f,
                "{at_s:>6.1} s  {kind:<11} {through:<8} {fate:<8?} {took_ms:>7.0} ms"
            )?;
        }
        writeln!(f, "the joiner served after {:.1} s", self.joined_after_s)?;
        let rows = [("without", &self.without), ("with", &self.with)];
        for (what, by_client) in rows {
            for (client, latency) in by_client {
                writeln!(f, "{what:<12} {client:<9} {latency}")?;
            }
        }
        for (kind, by_client) in &self.beside {
            for (client, latency) in by_client {
                writeln!(f, "{kind:<12} {client:<9} {latency}")?;
            }
        }
        let (before, peak) = (&self.before_mib, &self.peak_mib);
        write!(f, "MiB before {before:?}, at most {peak:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_that_were_there() {
        let took = (1..=200).rev().map(Duration::from_millis).collect();
        let Latency {
            count,
            p50,
            p99,
            max,
        } = Latency::of(took);
        assert_eq!((count, p50, p99, max), (200, 100.0, 198.0, 200.0));
        assert_eq!(Latency::of(Vec::new()).count, 0);
    }
}
