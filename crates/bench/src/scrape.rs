//! Reading the counters that tell how well the server batches its commits.

use crate::BenchError;
use floeberg_client::{Auth, Endpoint, Request};
use serde::Serialize;
use std::fmt;

/// What the server counted during a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ServerCounters {
    /// Table versions made.
    pub commits: f64,
    /// Syncs of the Raft log.
    pub fsyncs: f64,
    /// Table versions per sync: how many commits share the cost of one.
    pub commits_per_fsync: f64,
}

impl fmt::Display for ServerCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} commits over {} fsyncs: {:.1} per fsync",
            self.commits, self.fsyncs, self.commits_per_fsync
        )
    }
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    commits: f64,
    fsyncs: f64,
    decided: f64,
    decided_seconds: f64,
}

impl Sample {
    /// Reads the page at `uri`.
    pub(crate) async fn read(uri: &str) -> Result<Self, BenchError> {
        let failed = |source| BenchError::Metrics { source };
        let endpoint = Endpoint::new(uri, Auth::None).map_err(failed)?;
        let request = Request::new(http::Method::GET, String::new());
        let page = endpoint.send(&request).await.map_err(failed)?;
        Ok(Self::parse(&String::from_utf8_lossy(&page.body)))
    }

    fn parse(page: &str) -> Self {
        Self {
            commits: sum(page, "floeberg_commits_total"),
            fsyncs: sum(page, "floeberg_raft_log_fsyncs_total"),
            decided: sum(page, "floeberg_commit_seconds_count"),
            decided_seconds: sum(page, "floeberg_commit_seconds_sum"),
        }
    }

    /// Mean milliseconds from a commit's arrival in the catalog to its apply, from `self` to
    /// `later`; none if nothing was committed.
    pub(crate) fn apply_ms(self, later: Self) -> Option<f64> {
        let commits = later.decided - self.decided;
        (commits > 0.0).then(|| 1e3 * (later.decided_seconds - self.decided_seconds) / commits)
    }

    /// What was counted from `self` to `later`.
    pub(crate) fn until(self, later: Self) -> ServerCounters {
        let commits = later.commits - self.commits;
        let fsyncs = later.fsyncs - self.fsyncs;
        ServerCounters {
            commits,
            fsyncs,
            commits_per_fsync: if fsyncs > 0.0 { commits / fsyncs } else { 0.0 },
        }
    }
}

/// The sum over all label sets of a metric.
fn sum(page: &str, name: &str) -> f64 {
    page.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with([' ', '{']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_sets_are_added_and_longer_names_are_not() {
        let page = "# HELP floeberg_commits x\nfloeberg_commits_total{a=\"1\"} 5\n\
                    floeberg_commits_total{a=\"2\"} 7\nfloeberg_commits_total_more 100\n\
                    floeberg_raft_log_fsyncs_total 3\nfloeberg_commit_seconds_sum 0.5\n\
                    floeberg_commit_seconds_count 100\n# EOF\n";
        let before = Sample {
            commits: 0.0,
            fsyncs: 1.0,
            decided: 50.0,
            decided_seconds: 0.25,
        };
        let later = Sample::parse(page);
        assert_eq!(before.apply_ms(later), Some(5.0));
        assert_eq!(later.apply_ms(later), None);
        let counted = before.until(later);
        assert_eq!((counted.commits, counted.fsyncs), (12.0, 2.0));
        assert!((counted.commits_per_fsync - 6.0).abs() < 1e-9);
    }
}
