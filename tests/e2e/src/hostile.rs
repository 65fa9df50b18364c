//! Sends every route its largest, deepest, most repeated and slowest request, without a key, with a
//! wrong one and with a right one, and watches that the node stays up, small and at others' service.
//!
//! The routes come from the route tables themselves: a new one is attacked without anybody adding it.

mod attack;
mod documents;
mod ground;
mod report;
mod shapes;
mod targets;
mod victim;

use crate::log_lines::tail;
use crate::process::{Home, Memory, Node};
use anyhow::{Context as _, ensure};
use attack::Attacker;
use futures::StreamExt as _;
use ground::Ground;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use report::Report;
use shapes::{KEYS, Key, SHAPES, Shape};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use targets::{Target, targets};
use victim::Victim;

/// How much the node may hold above what it needs when idle.
const ABOVE_IDLE_MAX: u64 = 512 << 20;
/// How much of that it may still hold a while later.
const LATER_ABOVE_IDLE_MAX: u64 = 128 << 20;
/// That while.
const LATER: Duration = Duration::from_secs(60);

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
    /// Decides the order.
    pub seed: u64,
}

/// One request to try.
#[derive(Clone, Debug)]
struct Try {
    target: Target,
    shape: Shape,
    key: Key,
}

/// What is tried: all of it, or a choice in which every route and every pair of shape and key occurs,
/// and every large document that a right key sends.
fn tries(plan: &Plan) -> Vec<Try> {
    let targets = targets();
    let pairs: Vec<_> = SHAPES
        .iter()
        .flat_map(|shape| KEYS.iter().map(move |key| (*shape, *key)))
        .collect();
    let mut all: Vec<Try> = Vec::new();
    for (i, target) in targets.iter().enumerate() {
        for (j, &(shape, key)) in pairs.iter().enumerate() {
            let telling = key == Key::Right && shape.is_document() && target.takes_much();
            // Three or so of each route, shifted so that every pair has its turn.
            let turn = (i * 3 + i / pairs.len() + j) % pairs.len() < 3;
            if plan.length == Length::Long || telling || turn {
                let target = target.clone();
                all.push(Try { target, shape, key });
            }
        }
    }
    all.shuffle(&mut StdRng::seed_from_u64(plan.seed));
    all
}

/// Attacks a node of its own.
///
/// # Errors
/// If the node ended, held too much memory or left another client without an answer.
pub async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let dir = tempfile::tempdir()?;
    let mut home = Home::new(&plan.binary, dir.path())?;
    let node = home.start().await?;
    let attacked = attack(plan, &node).await;
    let log = || node.log().unwrap_or_default();
    let report =
        attacked.with_context(|| format!("the end of the node's log:\n{}", tail(&log())))?;
    node.stop().await?;
    Ok(report)
}

async fn attack(plan: &Plan, node: &Node) -> anyhow::Result<Report> {
    let began = Instant::now();
    let mut victim = Victim::settle(&node.endpoints).await?;
    let ground = Ground::prepare(&node.endpoints).await?;
    victim.ask().await?;
    let mut report = Report::new(targets().len(), node.memory()?.resident);
    // Until the attack is over; whoever is not answered meanwhile ends the run.
    tokio::select! {
        attacked = attack_all(plan, node, ground, &mut report) => attacked?,
        unanswered = victim.keep_asking() => unanswered?,
    }
    let Memory { peak, .. } = node.memory().context("the node has ended")?;
    report.peak = report.peak.max(peak);
    (report.victim_requests, report.victim_slowest) = (victim.requests, victim.slowest);
    if plan.length == Length::Long {
        tokio::time::sleep(LATER).await;
        report.later = Some(node.memory()?.resident);
    }
    victim.ask().await?;
    report.took = began.elapsed();
    ensure!(
        report.above_idle(report.peak) <= ABOVE_IDLE_MAX,
        "the node held too much memory\n{report}"
    );
    let kept = report.later.map(|later| report.above_idle(later));
    ensure!(
        kept.is_none_or(|kept| kept <= LATER_ABOVE_IDLE_MAX),
        "the node kept too much memory\n{report}"
    );
    let failed = report.server_errors();
    ensure!(
        failed.is_empty(),
        "failures of the server: {failed:?}\n{report}"
    );
    Ok(report)
}

/// One after the other first, and then all beside each other.
async fn attack_all(
    plan: &Plan,
    node: &Node,
    ground: Ground,
    report: &mut Report,
) -> anyhow::Result<()> {
    let attacker = Attacker::new(&node.endpoints, ground)?;
    let all = tries(plan);
    for one in all.iter().filter(|one| !one.shape.holds()) {
        node.forget_peak()?;
        let status = attacker.attack(&one.target, one.shape, one.key).await;
        report.count(&one.target, one.shape.name(), one.key.name(), status);
        let what = format!("{}, {}, {}", one.target, one.shape.name(), one.key.name());
        report.took(node.memory()?.peak, what);
    }
    node.forget_peak()?;
    let together = match plan.length {
        Length::Short => 32,
        Length::Long => 64,
    };
    let attacks = futures::stream::iter(all).map(|one| {
        let attacker = &attacker;
        async move {
            let status = attacker.attack(&one.target, one.shape, one.key).await;
            (one, status)
        }
    });
    let mut answers = attacks.buffer_unordered(together);
    while let Some((one, status)) = answers.next().await {
        report.count(&one.target, one.shape.name(), one.key.name(), status);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_short_form_leaves_out_no_route_and_no_kind_of_request() {
        let plan = Plan {
            binary: PathBuf::new(),
            length: Length::Short,
            seed: 1,
        };
        let chosen = tries(&plan);
        let routes: HashSet<_> = chosen.iter().map(|t| t.target.to_string()).collect();
        let every: HashSet<_> = targets().iter().map(ToString::to_string).collect();
        assert_eq!(routes, every);
        let pairs: HashSet<_> = chosen
            .iter()
            .map(|t| (t.shape.name(), t.key.name()))
            .collect();
        assert_eq!(pairs.len(), SHAPES.len() * KEYS.len());
    }
}
