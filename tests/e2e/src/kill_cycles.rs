//! Load, `kill -9`, restart, verify: as often as asked.

use crate::connect::{Clients, create_buckets};
use crate::history::History;
use crate::process::{Home, Node};
use crate::verify::{self, Extent, Retired};
use crate::workload;
use crate::world::{Session, Tally, World, new_generation};
use anyhow::{Context as _, bail};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng, SeedableRng};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Load lasts this many milliseconds before the kill.
const LOAD_MS: std::ops::Range<u64> = 10..400;
/// After so many cycles new tables are used, so that answers do not grow with the run.
const GENERATION: u32 = 10;

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary under test.
    pub binary: PathBuf,
    /// Kills under load.
    pub cycles: u32,
    /// Decides every choice but the scheduling of processes.
    pub seed: u64,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests by kind and outcome.
    pub tally: Tally,
    /// Kills under load.
    pub kills: u32,
    /// Kills while the node was starting.
    pub kills_at_start: u32,
    /// From starting the process to serving, once per restart after a kill; sorted.
    pub recovery: Vec<Duration>,
    /// The whole run.
    pub elapsed: Duration,
}

/// A seed nobody has chosen.
#[must_use]
pub fn random_seed() -> u64 {
    StdRng::from_os_rng().random()
}

/// Runs a plan in a scratch directory, which is removed unless the run fails.
///
/// # Errors
/// The first promise that was broken, with the seed and what was kept.
pub async fn kill_cycles(plan: &Plan) -> anyhow::Result<Report> {
    let scratch = tempfile::Builder::new()
        .prefix("floeberg-kill-cycles-")
        .tempdir()?;
    let mut run = Run::begin(plan, scratch.path())?;
    let done = run.cycles().await;
    run.world.history.flush();
    match done {
        Ok(()) => Ok(run.report()),
        Err(error) => {
            let (cycle, history) = (run.cycle, run.world.history.path().display().to_string());
            // The process dies with the run, the directory stays.
            drop(run.node.take());
            let kept = scratch.keep();
            let (seed, dir) = (plan.seed, kept.display());
            Err(error.context(format!(
                "cycle {cycle} of seed {seed} failed; data and logs are in {dir}, the history in {history}"
            )))
        }
    }
}

struct Run {
    plan: Plan,
    home: Home,
    world: Arc<World>,
    rng: StdRng,
    node: Option<Node>,
    retired: Vec<Retired>,
    generations: u32,
    cycle: u32,
    report: Report,
    begin: Instant,
}

impl Run {
    fn begin(plan: &Plan, dir: &Path) -> anyhow::Result<Self> {
        let history = History::create(&dir.join("history.jsonl"))?;
        Ok(Self {
            plan: plan.clone(),
            home: Home::new(&plan.binary, dir)?,
            world: Arc::new(World::new(history)),
            rng: StdRng::seed_from_u64(plan.seed),
            node: None,
            retired: Vec::new(),
            generations: 0,
            cycle: 0,
            report: Report::default(),
            begin: Instant::now(),
        })
    }

    async fn cycles(&mut self) -> anyhow::Result<()> {
        let node = self.home.start().await?;
        create_buckets(&node.endpoints).await?;
        self.node = Some(node);
        for cycle in 1..=self.plan.cycles {
            self.cycle = cycle;
            self.world.history.enter(cycle);
            if (cycle - 1) % GENERATION == 0 {
                self.turn_generation().await?;
            }
            self.load_and_kill().await?;
            self.kill_while_starting().await?;
            self.restart().await?;
            self.verify(Extent::Touched).await?;
        }
        self.verify(Extent::All).await?;
        // A clean stop keeps everything too.
        self.node()?.stop().await.context("stopping")?;
        self.node = Some(self.home.start().await?);
        self.verify(Extent::All).await?;
        self.node()?.stop().await.context("stopping")
    }

    /// Hands out the running node.
    fn node(&mut self) -> anyhow::Result<Node> {
        self.node.take().context("no node runs")
    }

    async fn session(&mut self) -> anyhow::Result<Session> {
        let node = self.node.as_ref().context("no node runs")?;
        Ok(Session {
            name: "verifier".to_owned(),
            cycle: self.cycle,
            world: self.world.clone(),
            clients: Clients::connect(&node.endpoints).await?,
            rng: StdRng::seed_from_u64(self.rng.random()),
            disturbed: Arc::default(),
        })
    }

    async fn turn_generation(&mut self) -> anyhow::Result<()> {
        let session = self.session().await?;
        self.retired.extend(verify::retire(&session).await?);
        self.generations += 1;
        new_generation(&self.world, &session.clients, self.generations).await
    }

    async fn load_and_kill(&mut self) -> anyhow::Result<()> {
        let node = self.node()?;
        let clients = Clients::connect(&node.endpoints).await?;
        let mut load = workload::start(&self.world, &clients, self.plan.seed, self.cycle);
        let span = Duration::from_millis(self.rng.random_range(LOAD_MS));
        tokio::select! {
            failure = load.failure() => {
                let log = node.log()?;
                failure.with_context(|| format!("under load; the node's log:\n{log}"))?;
                bail!("all clients ended under load");
            }
            () = tokio::time::sleep(span) => {}
        }
        load.disturb();
        self.world.history.record("harness", "kill", ());
        node.kill().await?;
        self.report.kills += 1;
        load.failure().await
    }

    async fn kill_while_starting(&mut self) -> anyhow::Result<()> {
        let typical = self
            .report
            .recovery
            .last()
            .map_or(200, |last| last.as_millis().max(1));
        let longest = u64::try_from(typical * 3 / 2)?;
        while self.rng.random_ratio(1, 4) {
            let process = self.home.spawn()?;
            let span = Duration::from_millis(self.rng.random_range(0..longest.max(2)));
            tokio::time::sleep(span).await;
            self.world
                .history
                .record("harness", "kill-while-starting", ());
            process.kill().await.context("while starting")?;
            self.report.kills_at_start += 1;
        }
        Ok(())
    }

    async fn restart(&mut self) -> anyhow::Result<()> {
        let node = self.home.start().await?;
        let ready = serde_json::json!({"ms": node.startup.as_millis()});
        self.world.history.record("harness", "serving", ready);
        self.report.recovery.push(node.startup);
        self.node = Some(node);
        Ok(())
    }

    async fn verify(&mut self, extent: Extent) -> anyhow::Result<()> {
        let mut session = self.session().await?;
        verify::everything(&mut session, extent).await?;
        match extent {
            Extent::Touched => verify::retired(&session, self.retired.choose(&mut self.rng)).await,
            Extent::All => verify::retired(&session, &self.retired).await,
        }
    }

    fn report(mut self) -> Report {
        self.report.tally = self.world.tally().clone();
        self.report.elapsed = self.begin.elapsed();
        self.report.recovery.sort();
        self.report
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.tally;
        write!(
            f,
            "{} kills under load, {} while starting, in {:.0} s: {} commits ({} conflicts), \
             {} transactions ({} conflicts), {} objects, {} deletions, {} uploads, {} names; \
             {} unknown outcomes, {} of them applied commits; {} commits repeated, \
             {} objects and {} metadata files read back",
            self.kills,
            self.kills_at_start,
            self.elapsed.as_secs_f64(),
            t.commits,
            t.conflicts,
            t.transactions,
            t.transaction_conflicts,
            t.objects,
            t.deletions,
            t.uploads,
            t.names,
            t.unknown,
            t.unknown_applied,
            t.repeated,
            t.objects_read,
            t.files_read,
        )?;
        let ms = |at: Option<&Duration>| at.map_or(0, Duration::as_millis);
        let (min, max) = (ms(self.recovery.first()), ms(self.recovery.last()));
        let median = ms(self.recovery.get(self.recovery.len() / 2));
        write!(f, "; recovery {min}/{median}/{max} ms (min/median/max)")
    }
}
