//! Three stores of one group in one process, over a network in memory that fails on request.

use super::{CLUSTER, GROUP, cx, value};
use crate::{ProposalService, Rows, Store, StoreConfig, StoreParts};
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_consensus::{Begin, CommandBudget, Footing, GroupHooks, RaftService};
use floeberg_env::{Env, Reserve, Rng, SimControl, UnsyncedData};
use floeberg_kv::{MemKv, MemKvStore};
use floeberg_raftlog::{MemLog, MemLogStore};
use floeberg_rpc::memory::MemNetwork;
use floeberg_rpc::{CallError, Method, Request, Routes, Transport};
use floeberg_telemetry::{ConsensusMetrics, MetastoreMetrics};
use floeberg_types::NodeId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// What goes wrong with commands on their way to a leader, out of 1000.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mischief {
    /// The leader has answered, and the answer is lost.
    pub(crate) answers_lost: u64,
    /// A copy of the call arrives once more, up to three seconds later.
    pub(crate) repeated: u64,
    /// Followers take heartbeats and entries, but the answers to the former are lost and those to the
    /// latter come so late.
    pub(crate) late: Option<Duration>,
}

/// A transport that loses and repeats calls of this crate.
struct Meddling {
    way: Arc<dyn Transport>,
    env: Env,
    rng: Arc<dyn Rng>,
    mischief: Arc<Mutex<Mischief>>,
}

impl Meddling {
    fn strikes(&self, permille: u64) -> bool {
        self.rng.next_u64() % 1000 < permille
    }
}

#[async_trait]
impl Transport for Meddling {
    async fn call(
        &self,
        to: NodeId,
        request: Request,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        let mischief = *self.mischief.lock();
        if let Some(late) = mischief.late {
            let method = request.method;
            if method == Method::Heartbeat {
                // It is taken all the same.
                drop(self.way.call(to, request, patience).await);
                return Err(CallError::lost("mischief"));
            }
            if method == Method::Append {
                let answer = self.way.call(to, request, patience).await;
                sleep(late).await;
                return answer;
            }
        }
        if !matches!(request.method, Method::Propose | Method::Withdraw) {
            return self.way.call(to, request, patience).await;
        }
        let repeated = self.strikes(mischief.repeated);
        if repeated {
            let (way, copy) = (Arc::clone(&self.way), request.clone());
            let after = Duration::from_millis(self.rng.next_u64() % 3000);
            self.env.tasks.spawn("repeat", async move {
                sleep(after).await;
                // Nobody waits for the second answer.
                drop(way.call(to, copy, patience).await);
            });
        }
        let answer = self.way.call(to, request, patience).await;
        // That a call was not done cannot be said while a copy of it is on its way.
        let lost = repeated && answer.is_err();
        if lost || self.strikes(mischief.answers_lost) {
            return Err(CallError::Lost {
                reason: "mischief".into(),
            });
        }
        answer
    }
}

/// What outlives a node.
struct Medium {
    budget: CommandBudget,
    env: Env,
    control: SimControl,
    rows: MemKvStore,
    log: MemLogStore,
}

/// A running node.
pub(crate) struct Running {
    pub(crate) store: Store,
    /// Keeps what consensus reports as final.
    pub(crate) fatal: Arc<Mutex<Vec<String>>>,
    metrics: ConsensusMetrics,
    routes: Routes,
    // The routes hold services, and services do not hold stores.
    _services: (Arc<RaftService>, Arc<ProposalService>),
}

pub(crate) struct Cluster {
    pub(crate) network: MemNetwork,
    pub(crate) mischief: Arc<Mutex<Mischief>>,
    pub(crate) config: StoreConfig,
    rng: Arc<dyn Rng>,
    media: BTreeMap<NodeId, Medium>,
    pub(crate) nodes: BTreeMap<NodeId, Running>,
}

pub(crate) const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

impl Cluster {
    /// Three voters that have found a leader.
    pub(crate) async fn start(seed: u64) -> Self {
        let config = StoreConfig::new(CLUSTER, GROUP, NodeId(1));
        Self::start_with(seed, config).await
    }

    pub(crate) async fn start_with(seed: u64, config: StoreConfig) -> Self {
        let mut media = BTreeMap::new();
        for node in NODES {
            let (env, control) = Env::simulated(seed ^ (node.0 << 32));
            let sync = Duration::ZERO..=Duration::from_millis(2);
            let medium = Medium {
                budget: CommandBudget::default(),
                rows: MemKvStore::with_copies_on(Arc::clone(&env.disk)),
                log: MemLogStore::with_sync_time(sync),
                env,
                control,
            };
            media.insert(node, medium);
        }
        let first = &media[&NODES[0]];
        let network = MemNetwork::new(&first.env, seed);
        network.delay(Duration::from_micros(100)..Duration::from_millis(3));
        let mut cluster = Self {
            network,
            mischief: Arc::default(),
            config,
            rng: Arc::clone(first.control.faults()),
            media,
            nodes: BTreeMap::new(),
        };
        for node in NODES {
            cluster.boot(node).await;
        }
        let group = cluster.store(NODES[0]).group().clone();
        group.leadership().wait_for(|l| l.ready).await.unwrap();
        for node in &NODES[1..] {
            let address = format!("node-{}:7000", node.0);
            let mut joining = group.add_learner(*node, &address).await.unwrap();
            joining.done().await.unwrap();
            group.promote(*node).await.unwrap();
        }
        cluster
    }

    /// Starts a node on what it had.
    pub(crate) async fn boot(&mut self, node: NodeId) {
        let medium = &self.media[&node];
        let services = (RaftService::new(), ProposalService::new());
        let routes = Routes::new();
        for method in RaftService::METHODS {
            routes.add(method, services.0.clone());
        }
        for method in ProposalService::METHODS {
            routes.add(method, services.1.clone());
        }
        let meddling = Meddling {
            way: self.network.node(node, routes.clone()),
            env: medium.env.clone(),
            rng: Arc::clone(&self.rng),
            mischief: Arc::clone(&self.mischief),
        };
        let fatal = Arc::new(Mutex::new(Vec::new()));
        let causes = Arc::clone(&fatal);
        let metrics = ConsensusMetrics::default();
        let hooks = GroupHooks {
            on_fatal: Arc::new(move |_, cause| causes.lock().push(cause.to_owned())),
            metrics: metrics.clone(),
        };
        let parts = StoreParts {
            kv: Arc::new(MemKv::open(&medium.rows)),
            log: Arc::new(MemLog::open(&medium.log, &medium.env)),
            transport: Arc::new(meddling),
            snapshots: PathBuf::from("/snapshots"),
            footing: Footing::alone(),
            hooks,
            budget: medium.budget.clone(),
            room: Reserve::default(),
            metrics: MetastoreMetrics::default(),
        };
        let begin = if node == NODES[0] {
            Begin::Alone
        } else {
            Begin::Join
        };
        let mut config = StoreConfig {
            node,
            begin,
            ..self.config.clone()
        };
        config.raft.address = format!("node-{}:7000", node.0);
        let store = Store::open(&config, &medium.env, parts).await.unwrap();
        services.0.add(store.group());
        services.1.add(&store);
        let running = Running {
            store,
            fatal,
            metrics,
            routes,
            _services: services,
        };
        self.nodes.insert(node, running);
    }

    /// The node's power is cut.
    pub(crate) fn kill(&mut self, node: NodeId, fate: UnsyncedData) {
        self.network.down(node);
        let medium = &self.media[&node];
        let faults = &**medium.control.faults();
        medium.rows.crash();
        medium.log.crash(faults, fate);
        medium.control.crash_disk(fate);
        if let Some(dead) = self.nodes.remove(&node) {
            dead.routes.clear();
        }
    }

    pub(crate) fn control(&self, node: NodeId) -> &SimControl {
        &self.media[&node].control
    }

    pub(crate) fn store(&self, node: NodeId) -> &Store {
        &self.nodes[&node].store
    }

    /// How often a node has begun to ask for a ReadIndex.
    pub(crate) fn read_rounds(&self, node: NodeId) -> u64 {
        self.nodes[&node].metrics.read_barriers.get()
    }

    pub(crate) fn stores(&self) -> Vec<Store> {
        self.nodes.values().map(|node| node.store.clone()).collect()
    }

    /// Waits until some running node leads and all others know it.
    pub(crate) async fn leader(&self) -> NodeId {
        loop {
            let known: Vec<_> = self
                .nodes
                .values()
                .map(|node| node.store.group().leader())
                .collect();
            if let Some(Some(first)) = known.first()
                && known.iter().all(|leader| *leader == Some(*first))
                && let Some(node) = self.nodes.get(&first.node)
                && node.store.leadership().borrow().ready
            {
                return first.node;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The leader that the others find while one node is away.
    pub(crate) async fn leader_among(&self, without: NodeId) -> NodeId {
        loop {
            let others = self.nodes.iter().filter(|(node, _)| **node != without);
            let mut leading = others.filter(|(_, node)| node.store.leadership().borrow().ready);
            if let Some((node, _)) = leading.next() {
                return *node;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn follower(&self) -> NodeId {
        let leader = self.leader().await;
        NODES.into_iter().find(|node| *node != leader).unwrap()
    }

    /// Waits until every node has applied the same, and checks that it is the same.
    pub(crate) async fn converge(&self) {
        loop {
            let applied: Vec<_> = self.nodes.values().map(|n| n.store.applied()).collect();
            if applied.iter().all(|other| other.last == applied[0].last) {
                assert!(applied.iter().all(|other| *other == applied[0]));
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        for node in self.nodes.values() {
            assert_eq!(*node.fatal.lock(), Vec::<String>::new());
        }
    }

    /// A counter as `node` sees it, linearizably; asks again while there is no leader.
    pub(crate) async fn read(&self, node: NodeId, name: &str) -> Option<i64> {
        loop {
            if let Ok(found) = self.store(node).read(|view| value(view, name)).await {
                return found.unwrap();
            }
        }
    }
}

/// A request with a deadline.
pub(crate) fn cx_within(patience: Duration) -> crate::Cx {
    crate::Cx {
        deadline: Some(tokio::time::Instant::now() + patience),
        ..cx()
    }
}

/// All counters below a name.
pub(crate) fn counters(view: &impl Rows, prefix: &str) -> BTreeMap<Bytes, i64> {
    let rows = view
        .scan_prefix(&super::key(prefix), None, usize::MAX)
        .unwrap();
    let count = |raw: floeberg_state::RawRow| {
        <crate::UsageRow as prost::Message>::decode(raw.payload).unwrap()
    };
    rows.into_iter()
        .map(|(key, raw)| (key, count(raw).bytes))
        .collect()
}
