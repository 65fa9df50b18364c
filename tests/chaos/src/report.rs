//! What a run found, as a table for people and as JSON.

use crate::check::{Findings, Violation};
use crate::history::{Call, History, Outcome};
use crate::nemesis::{Fault, Strike};
use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Tally {
    /// Acknowledged commits.
    pub commits: u64,
    /// Those of them that span several tables.
    pub transactions: u64,
    /// Acknowledged loads.
    pub loads: u64,
    /// Acknowledged object writes and reads.
    pub objects: u64,
    /// Acknowledged requests about names.
    pub names: u64,
    /// Refusals that say something about the state.
    pub refused: u64,
    /// Refusals to be tried again later.
    pub busy: u64,
    /// Requests of unknown outcome.
    pub unknown: u64,
}

impl Tally {
    /// Counts.
    #[must_use]
    pub fn of(history: &History) -> Self {
        let mut tally = Self::default();
        for op in &history.ops {
            let count = match (&op.outcome, &op.call) {
                (Outcome::Refused { status: 429 | 503 }, _) => &mut tally.busy,
                (Outcome::Refused { .. }, _) => &mut tally.refused,
                (Outcome::Unknown, _) => &mut tally.unknown,
                (Outcome::Ok(_), Call::Commit { changes }) => {
                    tally.transactions += u64::from(changes.len() > 1);
                    &mut tally.commits
                }
                (Outcome::Ok(_), Call::Load { .. }) => &mut tally.loads,
                (Outcome::Ok(_), Call::Put { .. } | Call::Get { .. }) => &mut tally.objects,
                (Outcome::Ok(_), Call::Name { .. }) => &mut tally.names,
            };
            *count += 1;
        }
        tally
    }

    fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.transactions += other.transactions;
        self.loads += other.loads;
        self.objects += other.objects;
        self.names += other.names;
        self.refused += other.refused;
        self.busy += other.busy;
        self.unknown += other.unknown;
    }
}

/// One round.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// Its number.
    pub number: u32,
    /// The fault.
    pub fault: Fault,
    /// The nodes it hit.
    pub nodes: Vec<u8>,
    /// The longest time without an acknowledged commit from the strike to the end of the load.
    pub write_gap_ms: f64,
    /// From the healing until every node was ready.
    pub recovery_ms: f64,
    /// Operations that were checked.
    pub ops: usize,
    /// By kind and end.
    pub tally: Tally,
    /// Searches that were given up.
    pub undecided: Vec<String>,
    /// Broken promises.
    pub violations: Vec<Violation>,
}

impl Round {
    /// Puts together what is known of a round.
    #[must_use]
    pub fn new(
        number: u32,
        fault: Fault,
        strike: &Strike,
        recovery: Duration,
        write_gap_ms: f64,
        tally: Tally,
        found: Findings,
    ) -> Self {
        Self {
            number,
            fault,
            nodes: strike.nodes.clone(),
            write_gap_ms,
            recovery_ms: recovery.as_secs_f64() * 1_000.0,
            ops: found.ops,
            tally,
            undecided: found.undecided,
            violations: found.violations,
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "round {}: {} of nodes {:?}: {} operations, {} commits, {} unknown, write gap {:.0} ms, \
             ready after {:.0} ms, {} broken promises",
            self.number,
            self.fault.name(),
            self.nodes,
            self.ops,
            self.tally.commits,
            self.tally.unknown,
            self.write_gap_ms,
            self.recovery_ms,
            self.violations.len()
        )
    }
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// How many nodes.
    pub nodes: u8,
    /// How long it took.
    pub seconds: f64,
    /// All rounds.
    pub rounds: Vec<Round>,
    /// Broken promises that only showed when everything was looked at once more in the end.
    pub late: Vec<Violation>,
    /// Panics and errors in the logs of the nodes.
    pub alarms: Vec<String>,
    /// Where data, logs and history are, if something was found.
    pub kept: Option<String>,
}

/// A summary of times, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half are at most this.
    pub p50: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
    /// All are at most this.
    pub max: f64,
}

impl Spread {
    /// Nearest-rank percentiles; `None` without values.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let rank = |percent: usize| (values.len() * percent).div_ceil(100).saturating_sub(1);
        Some(Self {
            p50: *values.get(rank(50))?,
            p99: *values.get(rank(99))?,
            max: *values.last()?,
        })
    }
}

impl Report {
    /// A run that has not begun.
    #[must_use]
    pub fn new(seed: u64, nodes: u8) -> Self {
        Self {
            seed,
            nodes,
            seconds: 0.0,
            rounds: Vec::new(),
            late: Vec::new(),
            alarms: Vec::new(),
            kept: None,
        }
    }

    /// Nothing was found, and nothing was left undecided.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let round = |r: &Round| r.violations.is_empty() && r.undecided.is_empty();
        self.rounds.iter().all(round) && self.late.is_empty() && self.alarms.is_empty()
    }

    /// The report with the summary, as one JSON document.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let gaps: BTreeMap<String, Spread> = self
            .by_fault()
            .into_iter()
            .filter_map(|(fault, rounds)| Some((fault.name(), gap(&rounds)?)))
            .collect();
        serde_json::json!({"summary": {"write_gap_ms": gaps, "clean": self.is_clean()}, "run": self})
    }

    fn by_fault(&self) -> BTreeMap<Fault, Vec<&Round>> {
        let mut out: BTreeMap<Fault, Vec<&Round>> = BTreeMap::new();
        for round in &self.rounds {
            out.entry(round.fault).or_default().push(round);
        }
        out
    }
}

fn gap(rounds: &[&Round]) -> Option<Spread> {
    Spread::of(rounds.iter().map(|round| round.write_gap_ms).collect())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header([
            "fault",
            "rounds",
            "operations",
            "commits",
            "unknown",
            "refused",
            "busy",
            "gap p50",
            "gap p99",
            "gap max",
            "ready max",
            "broken",
        ]);
        for (fault, rounds) in self.by_fault() {
            let mut tally = Tally::default();
            rounds.iter().for_each(|round| tally.add(&round.tally));
            let ready = rounds.iter().map(|round| round.recovery_ms);
            let broken: usize = rounds.iter().map(|round| round.violations.len()).sum();
            let ops: usize = rounds.iter().map(|round| round.ops).sum();
            let ms = |value: f64| format!("{value:.0} ms");
            let gap = gap(&rounds).ok_or(fmt::Error)?;
            table.add_row([
                fault.name(),
                rounds.len().to_string(),
                ops.to_string(),
                tally.commits.to_string(),
                tally.unknown.to_string(),
                tally.refused.to_string(),
                tally.busy.to_string(),
                ms(gap.p50),
                ms(gap.p99),
                ms(gap.max),
                ms(ready.fold(0.0, f64::max)),
                broken.to_string(),
            ]);
        }
        writeln!(f, "{table}")?;
        for round in &self.rounds {
            for violation in &round.violations {
                writeln!(f, "BROKEN in round {}: {violation}", round.number)?;
            }
            for what in &round.undecided {
                writeln!(f, "UNDECIDED in round {}: {what}", round.number)?;
            }
        }
        for violation in &self.late {
            writeln!(f, "BROKEN in the end: {violation}")?;
        }
        for line in &self.alarms {
            writeln!(f, "LOG: {line}")?;
        }
        if let Some(kept) = &self.kept {
            writeln!(f, "history, data and logs are in {kept}")?;
        }
        write!(
            f,
            "{} nodes, seed {}, {} rounds in {:.0} s",
            self.nodes,
            self.seed,
            self.rounds.len(),
            self.seconds
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        assert_eq!(Spread::of(Vec::new()), None);
        let spread = Spread::of((1..=200).rev().map(f64::from).collect()).unwrap();
        assert_eq!((spread.p50, spread.p99, spread.max), (100.0, 198.0, 200.0));
    }
}
