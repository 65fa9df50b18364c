//! One simulated run: nodes, clients and whatever disturbs them.

use crate::client::{Client, Rendered};
use crate::cluster::Cluster;
use crate::lately;
use crate::nemesis::{CALM, Nemesis};
use crate::operator::{Change, Operator};
use crate::planted::Bug;
use crate::prepare::prepare;
use crate::record::Record;
use crate::rollback::Rollback;
use crate::verify;
use floeberg_env::SeededRng;
use floeberg_test_chaos::check;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, RngSeed};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;

/// A request that was given up has no effect after this time.
const LATE: Duration = Duration::from_secs(10);

/// Clients that publish documents, beside those of the plan.
const PUBLISHERS: u64 = 2;

/// Which members of the cluster come and go during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Members {
    /// Nobody.
    Fixed,
    /// One comes, and perhaps another leaves, is replaced, or is lost with its machine; or all are
    /// upgraded one after the other.
    Changing,
}

impl Members {
    const fn changes(self) -> &'static [Change] {
        match self {
            Self::Fixed => &[],
            Self::Changing => &[
                Change::Join,
                Change::Remove,
                Change::Replace,
                Change::Dead,
                Change::Upgrade,
            ],
        }
    }
}

/// What is put back to an older image of itself during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutBack {
    /// Nothing.
    Nothing,
    /// The machine of a member.
    Machine,
    /// The volume of a member.
    Volume,
}

/// How big a run is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// Nodes at the beginning.
    pub nodes: u64,
    /// Concurrent clients.
    pub clients: u64,
    /// How long they work while things go wrong, in simulated time.
    pub disturbed: Duration,
    /// Which members come and go meanwhile.
    pub members: Members,
    /// What is put back to an older image meanwhile.
    pub put_back: PutBack,
    /// What is wrong with the nodes.
    pub bug: Option<Bug>,
}

impl Plan {
    /// The size used by the test run: of ten seeds four have one node, four have three and two have
    /// five; members come and go in a third of the clusters, and in another third a machine, in the
    /// last one the volume of a machine is put back to an older image.
    #[must_use]
    pub fn small(seed: u64) -> Self {
        let nodes = [1, 3, 1, 3, 5, 1, 3, 1, 3, 5];
        Self::of(seed, nodes[usize::try_from(seed % 10).unwrap_or(0)])
    }

    /// The same with a number of nodes.
    #[must_use]
    pub fn of(seed: u64, nodes: u64) -> Self {
        let put_back = match (nodes, (seed / 10) % 3) {
            (1, _) | (_, 0) => PutBack::Nothing,
            (_, 1) => PutBack::Machine,
            _ => PutBack::Volume,
        };
        Self {
            seed,
            nodes,
            clients: if nodes == 1 { 4 } else { 6 },
            disturbed: Duration::from_secs(match (nodes, put_back) {
                (1, _) => 3,
                (_, PutBack::Nothing) => 8,
                _ => 24,
            }),
            put_back,
            members: if nodes > 1 && (seed / 10).is_multiple_of(3) {
                Members::Changing
            } else {
                Members::Fixed
            },
            bug: None,
        }
    }

    /// The same with a planted bug.
    #[must_use]
    pub const fn with(mut self, bug: Bug) -> Self {
        self.bug = Some(bug);
        self
    }
}

/// What a run did and found.
#[derive(Debug)]
pub struct Report {
    /// Every operation with its simulated time and answer, as JSON lines.
    pub trace: String,
    /// The first broken promise, if any.
    pub violation: Option<String>,
    /// All of them: what was seen during the run, then what its history shows.
    pub violations: Vec<String>,
    /// Simulated time.
    pub simulated: Duration,
    /// Requests.
    pub requests: usize,
    /// Questions that were too large to decide.
    pub undecided: usize,
}

/// Runs `plan`.
#[must_use]
pub fn simulate(plan: Plan) -> Report {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(RngSeed::from_bytes(&plan.seed.to_be_bytes()))
        .build()
        .expect("a current-thread runtime needs nothing from the system");
    let (record, simulated) = LocalSet::new().block_on(&runtime, run(plan));
    // Whatever is left of the nodes ends here.
    drop(runtime);
    let found = check::check(&record.history());
    let mut violations = record.violations();
    violations.extend(found.violations.iter().map(ToString::to_string));
    Report {
        violation: violations.first().cloned(),
        violations,
        trace: record.text(),
        simulated,
        requests: found.ops,
        undecided: found.undecided.len(),
    }
}

async fn run(plan: Plan) -> (Record, Duration) {
    let started = Instant::now();
    let record = Record::new(started);
    let cluster = Cluster::new(plan.seed, record.clone(), plan.nodes == 1, plan.bug);
    cluster.network.delay(CALM);
    if prepare(&cluster, plan.nodes).await {
        work(plan, &cluster).await;
    }
    (record, started.elapsed())
}

fn client(plan: Plan, cluster: &Arc<Cluster>, rendered: &Rendered, number: u64) -> Client {
    Client {
        name: format!("c{number}"),
        cluster: cluster.clone(),
        rng: SeededRng::new((plan.seed << 8) ^ number),
        rendered: rendered.clone(),
        patience: Duration::from_secs(4),
        home: 1 + number % plan.nodes,
    }
}

/// Everybody who works while things go wrong.
fn busy(plan: Plan, cluster: &Arc<Cluster>, rendered: &Rendered) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for number in 0..plan.clients {
        let mut one = client(plan, cluster, rendered, number);
        clients.spawn(async move {
            loop {
                one.step().await;
            }
        });
    }
    for number in 0..PUBLISHERS {
        let mut one = client(plan, cluster, rendered, 50 + number);
        clients.spawn(async move {
            loop {
                one.publish_step().await;
            }
        });
    }
    clients
}

async fn work(plan: Plan, cluster: &Arc<Cluster>) {
    cluster.arm();
    let rendered = Rendered::default();
    let mut clients = busy(plan, cluster, &rendered);
    let nemesis = tokio::task::spawn_local(Nemesis::new(cluster).run());
    let watch = tokio::spawn(watch(cluster.clone()));
    let kinds = plan.members.changes();
    let operator = (!kinds.is_empty()).then(|| {
        let (operator, cluster) = (Operator::new(cluster), cluster.clone());
        tokio::task::spawn_local(async move {
            let kind = kinds[usize::try_from(cluster.draw(kinds.len() as u64)).unwrap_or(0)];
            if !operator.change(kind).await {
                cluster
                    .record
                    .broken(format!("{kind:?} did not come about"));
            }
        })
    });
    let rollback = (plan.put_back != PutBack::Nothing).then(|| {
        let keeper = client(plan, cluster, &rendered, 60);
        let rollback = Rollback::new(cluster, plan.put_back, keeper);
        tokio::task::spawn_local(rollback.run())
    });
    let ended = tokio::time::timeout(plan.disturbed, clients.join_next()).await;
    if let Ok(Some(Err(failed))) = ended {
        cluster.record.broken(format!("a client failed: {failed}"));
    }
    nemesis.abort();
    if let Some(rollback) = rollback {
        rollback.abort();
    }
    // Requests that are open now are of unknown outcome.
    clients.shutdown().await;
    Nemesis::heal(cluster).await;
    if let Some(operator) = operator {
        let _ = operator.await;
    }
    settle(cluster).await;
    // What clients gave up may still be applied, or be found lost.
    tokio::time::sleep(LATE).await;
    // Before anything is read: a copy that is found to be lost by a reader is repaired.
    if plan.put_back == PutBack::Volume {
        verify::volumes(cluster).await;
    }
    verify::read_back(cluster, |node| {
        let mut client = client(plan, cluster, &rendered, 100 + node);
        client.patience = Duration::from_secs(20);
        client
    })
    .await;
    watch.abort();
    // Who was put back is one less that can be cut off.
    if plan.nodes > 1 && plan.put_back == PutBack::Nothing {
        lately::watch(cluster).await;
    }
    verify::converge(cluster).await;
    verify::drained(cluster).await;
}

/// Nodes whose start was under way when all was healed are given the time to end it.
async fn settle(cluster: &Arc<Cluster>) {
    for _ in 0..600 {
        if cluster.members_up().len() == cluster.members().len() {
            return;
        }
        for node in cluster.down() {
            cluster.boot(node).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.record.broken("not every node comes back");
}

async fn watch(cluster: Arc<Cluster>) {
    loop {
        verify::compare(&cluster);
        verify::standing(&cluster);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
