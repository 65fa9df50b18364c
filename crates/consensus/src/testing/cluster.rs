//! Several nodes of one group in one process, over the in-memory network, with faults.

use super::{Durable, Flush, GROUP, Ledger, TestMachine};
use crate::{
    Begin, CommandBudget, Footing, GroupConfig, GroupHooks, GroupParts, GroupStartError, Leader,
    ProposeError, RaftGroup, RaftService, SizedCommand,
};
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_env::{Env, Reserve, SimControl, UnsyncedData};
use floeberg_raftlog::{MemLog, MemLogStore};
use floeberg_rpc::{Handler, Method, Refusal, RefusalCode, Request, Routes, memory::MemNetwork};
use floeberg_telemetry::{ConsensusMetrics, testing::CapturedLog};
use floeberg_types::NodeId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What outlives a crash of a node, and the node while it runs.
pub(crate) struct Seat {
    pub(crate) env: Env,
    pub(crate) control: SimControl,
    pub(crate) store: MemLogStore,
    pub(crate) durable: Durable,
    pub(crate) flush: Flush,
    /// Of its next start; what it knows of others outlives it.
    pub(crate) footing: Footing,
    /// Whether the disk has room for more of the log.
    pub(crate) room: Reserve,
    /// A method that its version does not know.
    pub(crate) unknown: Option<Method>,
    pub(crate) node: Option<Running>,
}

/// A running node.
pub(crate) struct Running {
    pub(crate) group: RaftGroup,
    pub(crate) live: Arc<Mutex<Ledger>>,
    pub(crate) fatal: Arc<Mutex<Vec<String>>>,
}

impl Running {
    pub(crate) fn commands(&self) -> Vec<Bytes> {
        self.live.lock().commands.clone()
    }
}

/// Answers as a version does that does not know the method.
struct Unknown;

#[async_trait]
impl Handler for Unknown {
    async fn handle(&self, _from: NodeId, request: Request) -> Result<Bytes, Refusal> {
        let text = format!("{:?} is not known to this version", request.method);
        Err(Refusal::new(RefusalCode::UnknownMethod, text))
    }
}

pub(crate) struct Cluster {
    pub(crate) net: MemNetwork,
    pub(crate) config: GroupConfig,
    pub(crate) seats: BTreeMap<u64, Seat>,
    seed: u64,
    log: CapturedLog,
    crashed: bool,
}

/// Waits in virtual time until `is_so`; panics if that never happens.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still not so after two minutes: {what}");
}

pub(crate) fn address(id: u64) -> String {
    format!("10.0.0.{id}:7000")
}

impl Cluster {
    /// Nodes `1..=size`, all voters; node 1 leads.
    pub(crate) async fn start(seed: u64, size: u64, config: GroupConfig) -> Self {
        Self::empty(seed, config).grow(size).await
    }

    /// Starts nodes `1..=size` on the seats there are.
    pub(crate) async fn grow(mut self, size: u64) -> Self {
        self.boot(1, Begin::Alone).await.unwrap();
        self.leader().await;
        for id in 2..=size {
            self.boot(id, Begin::Join).await.unwrap();
            let first = &self.running(1).group;
            let mut catch_up = first.add_learner(NodeId(id), &address(id)).await.unwrap();
            catch_up.done().await.unwrap();
            first.promote(NodeId(id)).await.unwrap();
        }
        self
    }

    pub(crate) fn empty(seed: u64, config: GroupConfig) -> Self {
        let (env, _) = Env::simulated(seed);
        Self {
            net: MemNetwork::new(&env, seed),
            config,
            seats: BTreeMap::new(),
            seed,
            crashed: false,
            log: CapturedLog::start("off,floeberg_consensus=warn"),
        }
    }

    /// A place for a node, unless there is one.
    pub(crate) fn seat(&mut self, id: u64) -> &mut Seat {
        let seed = self.seed;
        self.seats.entry(id).or_insert_with(|| {
            let (env, control) = Env::simulated(seed.wrapping_mul(1000) + id);
            Seat {
                env,
                control,
                store: MemLogStore::new(),
                durable: Durable::default(),
                flush: Flush::default(),
                footing: Footing::alone(),
                room: Reserve::default(),
                unknown: None,
                node: None,
            }
        })
    }

    /// Starts a node, or starts it again on what its last life left.
    pub(crate) async fn boot(&mut self, id: u64, begin: Begin) -> Result<(), GroupStartError> {
        let config = GroupConfig {
            address: address(id),
            ..self.config.clone()
        };
        let service = RaftService::new();
        let mut routes = Routes::new();
        let unknown = self.seat(id).unknown;
        for method in RaftService::METHODS {
            let handler: Arc<dyn Handler> = match unknown == Some(method) {
                true => Arc::new(Unknown),
                false => service.clone(),
            };
            routes = routes.on(method, handler);
        }
        let transport = self.net.node(NodeId(id), routes);
        let seat = self.seat(id);
        let mut machine = TestMachine::open(&seat.durable, &seat.env);
        machine.flush = seat.flush;
        let (live, footing) = (machine.live.clone(), seat.footing.clone());
        let fatal = Arc::new(Mutex::new(Vec::new()));
        let seen = fatal.clone();
        let hooks = GroupHooks {
            on_fatal: Arc::new(move |_, cause| seen.lock().push(cause.to_owned())),
            metrics: ConsensusMetrics::default(),
        };
        let parts = GroupParts {
            budget: CommandBudget::default(),
            room: seat.room.clone(),
            log: Arc::new(MemLog::open(&seat.store, &seat.env)),
            machine: Box::new(machine),
            transport,
            snapshots: Path::new("/data/snapshots").into(),
            footing,
            hooks,
        };
        let group = RaftGroup::start(GROUP, NodeId(id), begin, &config, &seat.env, parts).await?;
        service.add(&group);
        seat.node = Some(Running { group, live, fatal });
        Ok(())
    }

    pub(crate) fn running(&self, id: u64) -> &Running {
        self.seats[&id].node.as_ref().expect("the node runs")
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, &Running)> {
        self.seats
            .iter()
            .filter_map(|(id, seat)| Some((*id, seat.node.as_ref()?)))
    }

    /// The process dies: what it had not synced meets `fate`.
    pub(crate) async fn crash(&mut self, id: u64, fate: UnsyncedData) {
        self.crashed = true;
        self.net.down(NodeId(id));
        let seat = self.seat(id);
        let faults = Arc::clone(seat.control.faults());
        seat.store.crash(&*faults, fate);
        seat.control.crash_disk(fate);
        if let Some(node) = seat.node.take() {
            node.group.shutdown().await;
        }
    }

    /// The machine is replaced by an empty one.
    pub(crate) async fn wipe(&mut self, id: u64) {
        self.crash(id, UnsyncedData::Lost).await;
        self.seats.remove(&id);
    }

    fn ready(&self) -> Option<u64> {
        let leads = |node: &Running| {
            let leadership = *node.group.leadership().borrow();
            leadership.ready.then_some(leadership.term)
        };
        let leaders = self.all().filter_map(|(id, node)| Some((leads(node)?, id)));
        leaders.max().map(|(_, id)| id)
    }

    /// The node that leads the newest term, once one does.
    pub(crate) async fn leader(&self) -> u64 {
        until("some node leads", || self.ready().is_some()).await;
        self.ready().expect("seen just now")
    }

    /// The leader among some of the nodes.
    pub(crate) async fn leader_among(&self, ids: &[u64]) -> u64 {
        let among = || self.ready().filter(|id| ids.contains(id));
        until("one of the nodes leads", || among().is_some()).await;
        among().expect("seen just now")
    }

    pub(crate) async fn submit(&self, id: u64, command: &str) -> Result<Bytes, ProposeError> {
        let group = &self.running(id).group;
        let term = group.leadership().borrow().term;
        let command = Bytes::copy_from_slice(command.as_bytes());
        let command = SizedCommand::new(command).unwrap();
        let permit = group.reserve(command.bytes().len()).await;
        group.submit(Arc::new(permit), term, command).await
    }

    /// Commits through whoever leads.
    pub(crate) async fn commit(&self, command: &str) {
        for _ in 0..100 {
            let leader = self.leader().await;
            match self.submit(leader, command).await {
                Ok(_) => return,
                Err(ProposeError::NotProposed) => {}
                Err(ProposeError::Indefinite) => panic!("{command} has no certain outcome"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{command} was never taken");
    }

    pub(crate) async fn commit_all(&self, range: std::ops::Range<usize>) {
        for i in range {
            self.commit(&format!("command {i}")).await;
        }
    }

    /// Waits until every running node has applied the same, and nothing is fatal.
    pub(crate) async fn converge(&self) -> Vec<Bytes> {
        let applied = |node: &Running| node.live.lock().applied.last;
        until("all nodes have applied the same", || {
            let mut all = self.all().map(|(_, node)| applied(node));
            let first = all.next().expect("a node runs");
            first.is_some() && all.all(|other| other == first)
        })
        .await;
        let mut logs = self.all().map(|(id, node)| {
            assert_eq!(*node.fatal.lock(), Vec::<String>::new(), "node {id}");
            node.commands()
        });
        let first = logs.next().expect("a node runs");
        assert!(logs.all(|other| other == first));
        first
    }

    pub(crate) fn leader_seen_by(&self, id: u64) -> Option<Leader> {
        self.running(id).group.leader()
    }

    /// Warnings and errors so far; a test that expects them takes them.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        let fresh = CapturedLog::start("off,floeberg_consensus=warn");
        let mut lines = std::mem::replace(&mut self.log, fresh).lines();
        // A node that crashes may find its log gone before it is stopped.
        lines.retain(|line| !self.crashed || !line.contains("consensus stopped"));
        lines
    }

    pub(crate) async fn stop(mut self) {
        for seat in self.seats.values_mut() {
            if let Some(node) = seat.node.take() {
                node.group.shutdown().await;
            }
        }
        assert_eq!(self.complaints(), Vec::<String>::new());
    }
}

pub(crate) fn commands(range: std::ops::Range<usize>) -> Vec<Bytes> {
    range.map(|i| Bytes::from(format!("command {i}"))).collect()
}
