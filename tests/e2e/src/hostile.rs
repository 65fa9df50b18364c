//! Sends every route its largest, deepest, most repeated and slowest request, without a key, with a
//! wrong one and with a right one, and watches that the node stays up, small and at others' service.
//!
//! The routes come from the route tables themselves: a new one is attacked without anybody adding it.

mod attack;
mod shapes;
mod victim;

use crate::process::{Endpoints, Home, Memory};
use anyhow::ensure;
use attack::Attacker;
use futures::StreamExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use shapes::{KEYS, Key, SHAPES, Shape};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use victim::Victim;

/// How much the node may hold above what it needs when idle.
pub const ABOVE_IDLE_MAX: u64 = 512 << 20;
/// How much of that it may still hold a minute later.
pub const LATER_ABOVE_IDLE_MAX: u64 = 128 << 20;

/// A route of one of the ports.
#[derive(Clone, Debug)]
pub struct Target {
    /// On the S3 port, or the other one.
    pub s3: bool,
    /// The method.
    pub method: &'static str,
    /// Path and query, with parts in braces that vary.
    pub pattern: String,
}

/// Every route of both ports.
#[must_use]
pub fn targets() -> Vec<Target> {
    let lakehouse = |(method, pattern): (&'static str, String)| Target {
        s3: false,
        method,
        pattern,
    };
    let owned = |(method, path): (&'static str, &'static str)| (method, path.to_owned());
    let iceberg = floeberg_api_iceberg::routes().map(lakehouse);
    let tables = floeberg_api_s3tables::routes().map(owned).map(lakehouse);
    let admin = floeberg_api_admin::routes().map(owned).map(lakehouse);
    let s3 = floeberg_api_s3::OPERATIONS.iter().map(|operation| Target {
        s3: true,
        method: operation.method,
        pattern: operation.target.to_owned(),
    });
    iceberg.chain(tables).chain(admin).chain(s3).collect()
}

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Each route with a few shapes, each shape with a few routes.
    Short,
    /// Each route with each shape and each kind of key, and a look at the memory a minute later.
    Long,
}

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary under test.
    pub binary: PathBuf,
    /// How much.
    pub length: Length,
    /// Decides what the short form leaves out.
    pub seed: u64,
}

/// What was tried and what it did to the node.
#[derive(Debug, Default)]
pub struct Report {
    routes: usize,
    /// Requests by shape and key, and their answers by status; 0 for none.
    tried: BTreeMap<(&'static str, &'static str), BTreeMap<u16, usize>>,
    idle: u64,
    peak: u64,
    later: Option<u64>,
    victim_requests: usize,
    victim_slowest: Duration,
    took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} routes in {:.1?}", self.routes, self.took)?;
        for ((shape, key), answers) in &self.tried {
            let sum: usize = answers.values().sum();
            write!(f, "  {shape:<24} {key:<10} {sum:>5} requests:")?;
            for (status, count) in answers {
                match status {
                    0 => write!(f, " none {count}")?,
                    status => write!(f, " {status} {count}")?,
                }
            }
            writeln!(f)?;
        }
        let above = |bytes: u64| bytes.saturating_sub(self.idle) >> 20;
        write!(
            f,
            "memory: idle {} MiB, at most {} MiB more",
            self.idle >> 20,
            above(self.peak)
        )?;
        if let Some(later) = self.later {
            write!(f, ", a minute later {} MiB more", above(later))?;
        }
        write!(
            f,
            "\nanother client: {} requests answered, the slowest after {:.0?}",
            self.victim_requests, self.victim_slowest
        )
    }
}

/// One request to try.
#[derive(Clone, Debug)]
struct Try {
    target: Target,
    shape: Shape,
    key: Key,
}

/// What is tried: all of it, or a choice in which every route and every pair of shape and key occurs.
fn tries(plan: &Plan) -> Vec<Try> {
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let targets = targets();
    let pairs: Vec<_> = SHAPES
        .iter()
        .flat_map(|shape| KEYS.iter().map(move |key| (*shape, *key)))
        .collect();
    let mut all: Vec<Try> = match plan.length {
        Length::Long => targets
            .iter()
            .flat_map(|target| pairs.iter().map(move |pair| (target, *pair)))
            .map(|(target, (shape, key))| Try {
                target: target.clone(),
                shape,
                key,
            })
            .collect(),
        Length::Short => (0..targets.len().max(pairs.len()) * 3)
            .map(|i| {
                // Steps of which none divides the other, so that routes meet other shapes each time.
                let target = targets[i % targets.len()].clone();
                let (shape, key) = pairs[(i + i / pairs.len() * 7) % pairs.len()];
                Try { target, shape, key }
            })
            .collect(),
    };
    all.shuffle(&mut rng);
    all
}

/// Attacks a node of its own.
///
/// # Errors
/// If the node ended, held too much memory or left another client without an answer.
pub async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let began = Instant::now();
    let dir = tempfile::tempdir()?;
    let mut home = Home::new(&plan.binary, dir.path())?;
    let node = home.start().await?;
    let mut victim = Victim::settle(&node.endpoints).await?;
    victim.ask().await?;
    let idle = node.memory()?;
    let mut report = Report {
        routes: targets().len(),
        idle: idle.resident,
        ..Report::default()
    };
    let attacked = attack_all(plan, &node.endpoints, &mut report);
    let (attacked, watched) = futures::future::join(attacked, async {
        // Until the attack is over; whoever is not answered meanwhile ends the run.
        victim.keep_asking().await
    })
    .await_first()
    .await;
    attacked?;
    watched?;
    let Memory { peak, .. } = node.memory()?;
    report.peak = peak;
    (report.victim_requests, report.victim_slowest) = (victim.requests, victim.slowest);
    if plan.length == Length::Long {
        tokio::time::sleep(Duration::from_secs(60)).await;
        report.later = Some(node.memory()?.resident);
    }
    victim.ask().await?;
    report.took = began.elapsed();
    ensure!(
        peak.saturating_sub(report.idle) <= ABOVE_IDLE_MAX,
        "the node held too much memory\n{report}"
    );
    ensure!(
        report.later.is_none_or(|later| later.saturating_sub(report.idle) <= LATER_ABOVE_IDLE_MAX),
        "the node kept too much memory\n{report}"
    );
    node.stop().await?;
    Ok(report)
}
