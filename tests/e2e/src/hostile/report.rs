//! What was tried and what it did to the node.

use super::targets::Target;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Requests that are named because they took most memory.
const LARGEST_SHOWN: usize = 8;

/// What was tried and what it did to the node.
#[derive(Debug, Default)]
pub struct Report {
    routes: usize,
    /// Requests by shape and key, and their answers by status; 0 for none.
    tried: BTreeMap<(&'static str, &'static str), BTreeMap<u16, usize>>,
    /// What was answered with a failure of the server, and how.
    failed: BTreeSet<String>,
    /// What took most memory by itself.
    largest: Vec<(u64, String)>,
    idle: u64,
    pub(super) peak: u64,
    pub(super) later: Option<u64>,
    pub(super) victim_requests: usize,
    pub(super) victim_slowest: Duration,
    pub(super) took: Duration,
}

impl Report {
    pub(super) fn new(routes: usize, idle: u64) -> Self {
        Self {
            routes,
            idle,
            ..Self::default()
        }
    }

    pub(super) fn count(
        &mut self,
        target: &Target,
        shape: &'static str,
        key: &'static str,
        status: u16,
    ) {
        let answers = self.tried.entry((shape, key)).or_default();
        *answers.entry(status).or_default() += 1;
        // What cannot be done, or not now, is no failure.
        if status >= 500 && ![501, 503, 504, 507].contains(&status) {
            self.failed
                .insert(format!("{status} to {target}, {shape}, {key}"));
        }
    }

    /// Notes the most memory while one request was alone.
    pub(super) fn took(&mut self, peak: u64, what: String) {
        self.peak = self.peak.max(peak);
        self.largest.push((self.above_idle(peak), what));
        self.largest.sort();
        self.largest.reverse();
        self.largest.truncate(LARGEST_SHOWN);
    }

    pub(super) fn above_idle(&self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.idle)
    }

    pub(super) fn server_errors(&self) -> Vec<&str> {
        self.failed.iter().map(String::as_str).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} routes in {:.1?}; answers by status, 0 for none",
            self.routes, self.took
        )?;
        for ((shape, key), answers) in &self.tried {
            let sum: usize = answers.values().sum();
            write!(f, "  {shape:<24} {key:<10} {sum:>5} requests:")?;
            for (status, count) in answers {
                write!(f, " {status} {count}")?;
            }
            writeln!(f)?;
        }
        let above = |bytes: u64| self.above_idle(bytes) >> 20;
        write!(
            f,
            "memory: idle {} MiB, at most {} MiB more",
            self.idle >> 20,
            above(self.peak)
        )?;
        if let Some(later) = self.later {
            write!(f, ", a minute later {} MiB more", above(later))?;
        }
        for (bytes, what) in &self.largest {
            write!(f, "\n  {} MiB more with {what}", bytes >> 20)?;
        }
        write!(
            f,
            "\nanother client: {} requests answered, the slowest after {:.0?}",
            self.victim_requests, self.victim_slowest
        )
    }
}
