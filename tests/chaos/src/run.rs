//! Rounds: fresh tables, load, a fault, healing, verification; in the end everything once more.

use crate::check::{Findings, check};
use crate::connect::{Clients, FILES};
use crate::history::{Call, History, Line, Op, Outcome};
use crate::launch::Fleet;
use crate::nemesis::{Fault, Strike};
use crate::record::Recorder;
use crate::report::{Report, Round, Tally};
use crate::verify;
use crate::workload::{self, Stage, TABLES, Table};
use anyhow::{Context as _, ensure};
use floeberg_client::{ColumnType, CreateTableBody};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng, SeedableRng};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Load before the fault, in milliseconds.
const WARM_MS: std::ops::Range<u64> = 700..1_500;
/// Load after the healing.
const SETTLE: Duration = Duration::from_millis(1_200);

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary under test.
    pub binary: PathBuf,
    /// Nodes: 1, or 3 and more.
    pub nodes: u8,
    /// Rounds of each kind of fault.
    pub rounds: u32,
    /// The kinds of faults.
    pub faults: Vec<Fault>,
    /// Decides every choice but the scheduling of processes.
    pub seed: u64,
}

/// Runs a plan in a scratch directory, which is removed unless something is found.
///
/// # Errors
/// If a node does not come back, or the harness itself fails; broken promises are in the report.
pub async fn rounds(plan: &Plan) -> anyhow::Result<Report> {
    let scratch = tempfile::Builder::new()
        .prefix("floeberg-chaos-")
        .tempdir()?;
    let done = match Run::begin(plan, scratch.path()).await {
        Ok(mut run) => run.all().await.map(|()| run.report),
        Err(error) => Err(error.context("the nodes did not start")),
    };
    let keep = match &done {
        Ok(report) => !report.is_clean(),
        Err(_) => true,
    };
    if !keep {
        return done;
    }
    let kept = scratch.keep();
    let (seed, dir) = (plan.seed, kept.display().to_string());
    done.map(|mut report| {
        report.kept = Some(dir.clone());
        report
    })
    .with_context(|| format!("seed {seed}; history, data and logs are in {dir}"))
}

struct Run {
    plan: Plan,
    fleet: Fleet,
    record: Arc<Recorder>,
    nodes: Vec<Clients>,
    rng: StdRng,
    past: Vec<(Arc<Stage>, Vec<Line>)>,
    report: Report,
}

impl Run {
    async fn begin(plan: &Plan, dir: &Path) -> anyhow::Result<Self> {
        let record = Recorder::create(&dir.join("history.jsonl"))?;
        let fleet = Fleet::start(&plan.binary, dir, plan.nodes).await?;
        fleet.address(1).create_buckets().await?;
        let mut nodes = Vec::new();
        for node in 1..=plan.nodes {
            nodes.push(fleet.address(node).connect().await?);
        }
        Ok(Self {
            plan: plan.clone(),
            fleet,
            record: Arc::new(record),
            nodes,
            rng: StdRng::seed_from_u64(plan.seed),
            past: Vec::new(),
            report: Report::new(plan.seed, plan.nodes),
        })
    }

    async fn all(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let mut faults: Vec<Fault> = Vec::new();
        for _ in 0..self.plan.rounds {
            faults.extend(&self.plan.faults);
        }
        faults.shuffle(&mut self.rng);
        for (number, fault) in (1..).zip(faults) {
            let name = fault.name();
            let round = self.round(number, fault).await;
            let round = round.with_context(|| format!("round {number} ({name})"))?;
            let is_clean = round.violations.is_empty();
            println!("{round}");
            self.report.rounds.push(round);
            if !is_clean {
                break;
            }
        }
        if self.report.is_clean() {
            self.once_more().await.context("everything once more")?;
        }
        self.report.alarms = self.fleet.alarms()?;
        self.report.seconds = begin.elapsed().as_secs_f64();
        Ok(())
    }

    async fn round(&mut self, number: u32, fault: Fault) -> anyhow::Result<Round> {
        let stage = Arc::new(self.set_up(number).await?);
        self.record.take_round();
        let mut rng = StdRng::seed_from_u64(self.rng.random());
        let load = workload::start(&self.record, &stage, &self.nodes, rng.random());
        tokio::time::sleep(Duration::from_millis(rng.random_range(WARM_MS))).await;
        self.fleet.still_run()?;
        let strike = Strike::begin(fault, &mut self.fleet, &self.record, &mut rng).await?;
        if !strike.is_brief() {
            tokio::time::sleep(strike.lasts).await;
        }
        let recovery = strike.heal(&mut self.fleet, &self.record).await?;
        tokio::time::sleep(SETTLE).await;
        let until = self.record.now();
        load.stop().await?;
        let mut lines = self.record.take_round();
        verify::tables(&self.record, &stage, &self.nodes).await?;
        verify::objects_and_names(&self.record, &stage, &self.nodes, &lines).await?;
        self.fleet.still_run()?;
        lines.extend(self.record.take_round());
        let history = History::of(&lines)?;
        let found = check(&history);
        let gap = longest_gap(&history, strike.at, until);
        let tally = Tally::of(&history);
        ensure!(
            tally.commits > 0 && tally.objects > 0 && tally.names > 0,
            "nothing was acknowledged, so nothing was tested: {tally:?}"
        );
        self.past.push((stage, lines));
        Ok(Round::new(
            number, fault, &strike, recovery, gap, tally, found,
        ))
    }

    /// Tables of a round; the node that makes them is chosen by the seed.
    async fn set_up(&mut self, number: u32) -> anyhow::Result<Stage> {
        let through = self.rng.random_range(0..self.nodes.len());
        let node = &self.nodes[through];
        let space = format!("g{number}");
        node.iceberg.create_namespace(&[&space]).await?;
        let mut tables = Vec::new();
        for index in 0..TABLES {
            let name = format!("t{index}");
            let columns = [("id", ColumnType::Long), ("note", ColumnType::String)];
            let body = CreateTableBody {
                name: &name,
                columns: &columns,
                format_version: 2,
            };
            let loaded = node.iceberg.create_table(&[&space], &body).await?;
            let location = loaded.metadata["location"].as_str();
            let location = location.context("a table without location")?.to_owned();
            tables.push(Table { name, location });
        }
        node.s3.head_bucket(FILES).await?;
        Ok(Stage {
            number,
            space,
            tables,
        })
    }

    /// Nothing that was refused may have appeared since, nothing acknowledged may have gone.
    async fn once_more(&mut self) -> anyhow::Result<()> {
        for (stage, lines) in std::mem::take(&mut self.past) {
            verify::tables(&self.record, &stage, &self.nodes).await?;
            verify::objects_and_names(&self.record, &stage, &self.nodes, &lines).await?;
            let mut lines = lines;
            lines.extend(self.record.take_round());
            let Findings { violations, .. } = check(&History::of(&lines)?);
            self.report.late.extend(violations);
        }
        Ok(())
    }
}

/// The longest time without an acknowledged commit between two moments, in milliseconds.
fn longest_gap(history: &History, from: u64, until: u64) -> f64 {
    let is_commit =
        |op: &&Op| matches!(op.call, Call::Commit { .. }) && matches!(op.outcome, Outcome::Ok(_));
    let commits = history.ops.iter().filter(is_commit);
    let mut times: Vec<u64> = commits.map(|op| op.end).collect();
    times.retain(|at| (from..until).contains(at));
    times.extend([from, until]);
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    let longest = Duration::from_micros(gaps.max().unwrap_or(0));
    longest.as_secs_f64() * 1_000.0
}
