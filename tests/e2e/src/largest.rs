//! Sends the largest commit, metadata file and transaction that are permitted through the leader and
//! through a follower of three nodes, while a fourth one joins and other clients commit small changes.

mod bystander;
mod documents;
mod ground;
mod report;
mod requests;

pub use report::{Fate, Large, Latency, Report};

use crate::connect::{Clients, create_buckets};
use crate::fleet::Fleet;
use crate::log_lines::tail;
use crate::standing::{Standing, caught_up};
use anyhow::{Context as _, ensure};
use bystander::{Bystander, Sample, latency};
use ground::{Crowd, NAMESPACE, Written};
use requests::{Accepted, Journal, Sender};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Nodes before one joins.
const NODES: u64 = 3;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The binary under test.
    pub binary: PathBuf,
    /// How often each large request is sent through each node.
    pub rounds: usize,
    /// Commits per second that each other client offers.
    pub per_second: f64,
    /// How long the other clients are measured alone.
    pub alone: Duration,
}

/// The clients of a run.
struct Cast {
    senders: Vec<Sender>,
    bystanders: Vec<(&'static str, Bystander)>,
    ground: Ground,
}

/// What was made for them.
struct Ground {
    crowd: Vec<Crowd>,
    written: Written,
}

/// Runs it on a cluster of its own.
///
/// # Errors
/// If a request had another answer than it must have, another client's commit failed, another node leads
/// than before, or the joiner lacks something.
pub async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Fleet::found(&plan.binary, dir.path(), NODES).await?;
    let before = Standing::of(&fleet.status(1).await?)?;
    let leader = before.leader();
    let done = with_fleet(plan, &mut fleet, &before).await;
    let log = fleet.log(leader)?;
    done.with_context(|| format!("the end of the leader's log:\n{}", tail(&log)))
}

async fn with_fleet(plan: &Plan, fleet: &mut Fleet, before: &Standing) -> anyhow::Result<Report> {
    let leader = before.leader();
    let follower = leader % NODES + 1;
    let cast = prepare(plan, fleet, &[("leader", leader), ("follower", follower)]).await?;
    let Cast {
        senders,
        bystanders,
        ground,
    } = cast;
    let (bystanders, without) = alone(plan, bystanders).await?;
    ensure!(
        Standing::of(&fleet.status(leader).await?)? == *before,
        "another node leads before anything large was sent"
    );
    let before_mib = memory(fleet, NODES, |memory| memory.resident)?;

    let (end, until) = watch::channel(None);
    let writing = start(plan, bystanders, &until);
    let mut journal = Journal::new();
    let began = journal.began;
    let sent = async {
        let joining = async {
            let node = fleet.join(leader).await?;
            anyhow::Ok((node, began.elapsed()))
        };
        let sending = send_all(plan, &senders, &ground, &mut journal);
        let ((joiner, joined_after), accepted) = tokio::try_join!(joining, sending)?;
        let all: Vec<u64> = (1..=joiner).collect();
        fleet.voters(joiner, &all).await?;
        anyhow::Ok((joiner, joined_after, accepted))
    }
    .await;
    let over = Instant::now();
    end.send_replace(Some(over));
    let (bystanders, samples) = finish(writing).await?;
    let (joiner, joined_after, accepted) = sent?;

    let status = fleet.until(joiner, "the joiner lacks nothing", |status| {
        caught_up(status, joiner)
    });
    let after = Standing::of(&status.await?)?;
    ensure!(after == *before, "{after:?} leads, not {before:?}");
    let through = Clients::connect(&fleet.endpoints(joiner)?).await?;
    for (_, bystander) in &bystanders {
        bystander.check(&through).await?;
    }
    requests::check(&through, &accepted, &ground.crowd, &ground.written).await?;
    fleet.still_run()?;
    Ok(Report {
        rounds: plan.rounds,
        per_second: plan.per_second,
        without,
        with: by_client(&samples, began, over),
        beside: beside(&samples, &journal),
        requests: journal.requests,
        joined_after_s: joined_after.as_secs_f64(),
        before_mib,
        peak_mib: memory(fleet, joiner, |memory| memory.peak)?,
    })
}

async fn prepare(
    plan: &Plan,
    fleet: &Fleet,
    nodes: &[(&'static str, u64)],
) -> anyhow::Result<Cast> {
    let (mut senders, mut bystanders) = (Vec::new(), Vec::new());
    create_buckets(&fleet.endpoints(1)?).await?;
    let first = Clients::connect(&fleet.endpoints(1)?).await?;
    first.iceberg.create_namespace(&[NAMESPACE]).await?;
    for &(through, node) in nodes {
        let endpoints = fleet.endpoints(node)?;
        let clients = Clients::connect(&endpoints).await?;
        senders.push(Sender { through, clients });
        // Connections of its own: it is somebody else.
        let clients = Clients::connect(&endpoints).await?;
        let prefix = format!("small_{through}");
        let bystander = Bystander::settle(clients, NAMESPACE, &prefix).await?;
        bystanders.push((through, bystander));
    }
    let written = ground::files(&first, plan.rounds * nodes.len()).await?;
    let crowd = ground::crowd(&first).await?;
    Ok(Cast {
        senders,
        bystanders,
        ground: Ground { crowd, written },
    })
}

type Named = Vec<(&'static str, Bystander)>;
type Samples = Vec<(&'static str, Vec<Sample>)>;
type Writing = Vec<(
    &'static str,
    JoinHandle<anyhow::Result<(Bystander, Vec<Sample>)>>,
)>;

/// Every client on a task of its own, so that nobody else's work is taken for a delay of the node's.
fn start(plan: &Plan, bystanders: Named, until: &bystander::Until) -> Writing {
    let start = |(name, bystander): (_, Bystander)| {
        let commits = bystander.keep_committing(plan.per_second, until.clone());
        (name, tokio::spawn(commits))
    };
    bystanders.into_iter().map(start).collect()
}

async fn finish(writing: Writing) -> anyhow::Result<(Named, Samples)> {
    let (mut bystanders, mut all) = (Vec::new(), Vec::new());
    for (name, task) in writing {
        let (bystander, samples) = task.await??;
        bystanders.push((name, bystander));
        all.push((name, samples));
    }
    Ok((bystanders, all))
}

async fn alone(
    plan: &Plan,
    bystanders: Named,
) -> anyhow::Result<(Named, BTreeMap<&'static str, Latency>)> {
    let began = Instant::now();
    let over = began + plan.alone;
    let (_end, until) = watch::channel(Some(over));
    let (bystanders, samples) = finish(start(plan, bystanders, &until)).await?;
    Ok((bystanders, by_client(&samples, began, over)))
}

async fn send_all(
    plan: &Plan,
    senders: &[Sender],
    ground: &Ground,
    journal: &mut Journal,
) -> anyhow::Result<Accepted> {
    let Ground { crowd, written } = ground;
    let mut accepted = Accepted::default();
    for _ in 0..plan.rounds {
        for sender in senders {
            sender.commit(journal, &mut accepted).await?;
            sender.register(written, journal, &mut accepted).await?;
            sender.transaction(crowd, journal, &mut accepted).await?;
        }
    }
    Ok(accepted)
}

fn by_client(samples: &Samples, from: Instant, to: Instant) -> BTreeMap<&'static str, Latency> {
    let client = |(name, samples): &(_, Vec<Sample>)| (*name, latency(samples, from, to));
    samples.iter().map(client).collect()
}

/// The latencies of what was due while a request of a kind was under way.
fn beside(
    samples: &Samples,
    journal: &Journal,
) -> BTreeMap<String, BTreeMap<&'static str, Latency>> {
    let mut took: BTreeMap<String, BTreeMap<&'static str, Vec<Duration>>> = BTreeMap::new();
    for large in &journal.requests {
        let (from, to) = journal.span(large);
        let fate = match large.fate {
            Fate::Accepted => "",
            Fate::Refused => " refused",
        };
        let by_client = took.entry(format!("{}{fate}", large.kind)).or_default();
        for (name, samples) in samples {
            let within = samples.iter().filter(|s| s.due >= from && s.due < to);
            let took = within.map(|sample| sample.took);
            by_client.entry(name).or_default().extend(took);
        }
    }
    let clients = |(kind, by_client): (_, BTreeMap<_, _>)| {
        let latency = |(name, took)| (name, Latency::of(took));
        (kind, by_client.into_iter().map(latency).collect())
    };
    took.into_iter().map(clients).collect()
}

fn memory(
    fleet: &Fleet,
    nodes: u64,
    which: impl Fn(crate::process::Memory) -> u64,
) -> anyhow::Result<BTreeMap<u64, u64>> {
    let of = |node| Ok((node, which(fleet.memory(node)?) >> 20));
    (1..=nodes).map(of).collect()
}
