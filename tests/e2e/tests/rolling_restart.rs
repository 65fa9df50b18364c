//! Every node of a cluster is restarted, one after the other, while clients commit: none of their
//! commits fails.

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use floeberg_client::ClientError;
use floeberg_test_e2e::connect::{Clients, FILES, create_buckets};
use floeberg_test_e2e::fleet::Fleet;
use floeberg_test_e2e::process::{Endpoints, binary};
use floeberg_test_e2e::table::Observed;
use floeberg_test_e2e::world::{append, create_table, manifest_list};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const WRITERS: usize = 4;
/// Rounds through all nodes.
const ROUNDS: usize = 2;
/// A client that has to wait longer would notice.
const BRIEF: Duration = Duration::from_secs(5);
/// So many commits of a writer lie between two restarts.
const BETWEEN: u64 = 20;

/// A client of whichever node answers.
struct Roaming {
    nodes: Vec<Endpoints>,
    at: usize,
    clients: Option<Clients>,
    /// Requests that were sent to another node because the first gave no answer.
    moved: u64,
    /// The longest time for one piece of work, with all its attempts.
    slowest: Duration,
}

/// Whether nothing was answered: the only reason to ask another node.
fn unanswered(error: &ClientError) -> bool {
    matches!(error, ClientError::Transport { .. })
}

impl Roaming {
    fn new(nodes: Vec<Endpoints>, at: usize) -> Self {
        Self {
            nodes,
            at,
            clients: None,
            moved: 0,
            slowest: Duration::ZERO,
        }
    }

    async fn clients(&mut self) -> Result<Clients, ClientError> {
        if self.clients.is_none() {
            let node = &self.nodes[self.at % self.nodes.len()];
            self.clients = Some(Clients::connect(node).await?);
        }
        Ok(self.clients.clone().expect("connected above"))
    }

    /// Does `work` on one node after the other until one answers; any other answer than success is a
    /// failure.
    async fn until_answered<T>(
        &mut self,
        what: &str,
        work: impl Fn(Clients) -> BoxFuture<'static, Result<T, ClientError>>,
    ) -> anyhow::Result<T> {
        let began = Instant::now();
        loop {
            let done = match self.clients().await {
                Ok(clients) => work(clients).await,
                Err(error) => Err(error),
            };
            self.slowest = self.slowest.max(began.elapsed());
            match done {
                Ok(done) => return Ok(done),
                Err(error) if unanswered(&error) && began.elapsed() < BRIEF => {
                    self.moved += 1;
                    self.at += 1;
                    self.clients = None;
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    let node = self.at % self.nodes.len();
                    bail!("{what} through node {node}: {error}");
                }
            }
        }
    }
}

struct Written {
    commits: i64,
    moved: u64,
    slowest: Duration,
}

/// Appends to a table of its own and writes objects until it is told to stop.
async fn write(
    nodes: Vec<Endpoints>,
    number: usize,
    progress: Arc<std::sync::atomic::AtomicU64>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Written> {
    let table = format!("t{number}");
    let mut roaming = Roaming::new(nodes, number);
    let location = roaming
        .until_answered("load", |c| {
            let table = table.clone();
            async move { c.iceberg.load_table(&["n"], &table).await }.boxed()
        })
        .await?;
    let location = Observed::of(&location)?.location;
    let mut commits = 0;
    while !stop.load(Ordering::SeqCst) {
        let next = commits + 1;
        let list = manifest_list(&location, next);
        let parent = (commits > 0).then_some(commits);
        let body = append(parent, next, next, &list).render();
        // Sent again to another node, the same commit is recognised if it has been done.
        roaming
            .until_answered("commit", |c| {
                let (table, body) = (table.clone(), body.clone());
                async move { c.iceberg.update_table(&["n"], &table, body).await }.boxed()
            })
            .await?;
        commits = next;
        let (key, object) = (format!("k{number}"), Bytes::from(vec![7; 40_000]));
        roaming
            .until_answered("upload", |c| {
                let (key, object) = (key.clone(), object.clone());
                async move { c.s3.put_object(FILES, &key, object).await }.boxed()
            })
            .await?;
        let read = roaming
            .until_answered("download", |c| {
                let key = key.clone();
                async move { c.s3.get_object(FILES, &key).await }.boxed()
            })
            .await?;
        ensure!(read == object, "another object");
        progress.fetch_add(1, Ordering::SeqCst);
    }
    Ok(Written {
        commits,
        moved: roaming.moved,
        slowest: roaming.slowest,
    })
}

/// Waits for so much more progress of all writers together, or for the failure of one.
async fn advance(
    progress: &std::sync::atomic::AtomicU64,
    writers: &mut [tokio::task::JoinHandle<anyhow::Result<Written>>],
) -> anyhow::Result<()> {
    let goal = progress.load(Ordering::SeqCst) + BETWEEN * WRITERS as u64;
    while progress.load(Ordering::SeqCst) < goal {
        if let Some(writer) = writers.iter_mut().find(|writer| writer.is_finished()) {
            writer.await??;
            bail!("a writer ended early");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Stops a node, which lets every request finish.
async fn let_go(fleet: &mut Fleet, node: u64) -> anyhow::Result<()> {
    fleet.stop(node).await?;
    let log = fleet.log(node)?;
    let cut = log.lines().find(|line| line.contains("were cut off"));
    ensure!(cut.is_none(), "{}", cut.context("found above")?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_restart_one_after_the_other_and_no_commit_fails() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Fleet::found(&binary()?, dir.path(), 3).await?;
    let nodes: Vec<Endpoints> = (1..=3)
        .map(|node| fleet.endpoints(node))
        .collect::<Result<_, _>>()?;
    create_buckets(&nodes[0]).await?;
    let clients = Clients::connect(&nodes[0]).await?;
    clients.iceberg.create_namespace(&["n"]).await?;
    for number in 0..WRITERS {
        create_table(&clients, "n", &format!("t{number}")).await?;
    }
    let (stop, progress) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let mut writers: Vec<_> = (0..WRITERS)
        .map(|n| tokio::spawn(write(nodes.clone(), n, Arc::clone(&progress), stop.clone())))
        .collect();
    for round in 0..ROUNDS {
        for node in 1..=3 {
            advance(&progress, &mut writers).await?;
            let began = Instant::now();
            let_go(&mut fleet, node).await?;
            let stopped = began.elapsed();
            advance(&progress, &mut writers).await?;
            let began = Instant::now();
            fleet.restart(node).await?;
            let started = began.elapsed();
            println!("round {round}, node {node}: stopped in {stopped:?}, ready in {started:?}");
        }
    }
    advance(&progress, &mut writers).await?;
    stop.store(true, Ordering::SeqCst);
    let clients = Clients::connect(&nodes[1]).await?;
    for (number, writer) in writers.into_iter().enumerate() {
        let written = writer.await??;
        let (moved, slowest) = (written.moved, written.slowest);
        println!(
            "writer {number}: {} commits, {moved} moves, slowest {slowest:?}",
            written.commits
        );
        let table = format!("t{number}");
        let observed = Observed::of(&clients.iceberg.load_table(&["n"], &table).await?)?;
        let ids: Vec<i64> = observed.snapshots.iter().map(|s| s.id).collect();
        let expected: Vec<i64> = (1..=written.commits).collect();
        ensure!(ids == expected, "a commit is missing or twice");
        ensure!(slowest < BRIEF, "clients noticed: {slowest:?}");
    }
    for node in 1..=3 {
        let_go(&mut fleet, node).await?;
    }
    Ok(())
}
