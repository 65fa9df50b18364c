//! What the tests of this crate share: a small state machine, and both kinds of log.

use crate::machine::{
    Applied, ApplyError, CheckpointError, CheckpointJob, CommittedEntry, InstallError, Payload,
    SnapshotHandle, StateMachine,
};
use crate::{GroupConfig, GroupHooks, RaftGroup};
use bytes::Bytes;
use floeberg_env::Env;
use floeberg_raftlog::{LogStore, MemLog, MemLogStore, RocksLog};
use floeberg_telemetry::{ConsensusMetrics, RaftLogMetrics};
use floeberg_types::{GroupId, NodeId};
use parking_lot::Mutex;
use std::sync::Arc;
use tempfile::TempDir;

pub(crate) const GROUP: GroupId = GroupId(3);
pub(crate) const NODE: NodeId = NodeId(1);

/// Everything applied so far: the commands in order, and how far that is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) applied: Applied,
    pub(crate) commands: Vec<Bytes>,
    /// How many entries each call brought.
    pub(crate) batches: Vec<usize>,
}

/// What outlives a restart of [`TestMachine`].
#[derive(Clone, Default)]
pub(crate) struct Durable(pub(crate) Arc<Mutex<Ledger>>);

/// Answers a command with its place in the order; makes its state durable at checkpoints only.
pub(crate) struct TestMachine {
    pub(crate) live: Arc<Mutex<Ledger>>,
    durable: Durable,
}

/// A command that cannot be applied.
pub(crate) const POISON: &[u8] = b"poison";
/// A command that panics.
pub(crate) const BOMB: &[u8] = b"bomb";

impl TestMachine {
    pub(crate) fn open(durable: &Durable) -> Self {
        let live = Arc::new(Mutex::new(durable.0.lock().clone()));
        Self {
            live,
            durable: durable.clone(),
        }
    }
}

impl StateMachine for TestMachine {
    fn applied(&self) -> Applied {
        self.live.lock().applied.clone()
    }

    fn apply(&mut self, entries: Vec<CommittedEntry>) -> Result<Vec<Bytes>, ApplyError> {
        let mut live = self.live.lock();
        live.batches.push(entries.len());
        let mut responses = Vec::new();
        for CommittedEntry { id, payload } in entries {
            responses.push(match payload {
                Payload::Command(command) if command == POISON => {
                    return Err(ApplyError {
                        at: id,
                        source: "poison".into(),
                    });
                }
                Payload::Command(command) if command == BOMB => panic!("boom"),
                Payload::Command(command) => {
                    live.commands.push(command);
                    Bytes::from(live.commands.len().to_string())
                }
                Payload::Membership(membership) => {
                    live.applied.membership = Some(membership);
                    Bytes::new()
                }
                Payload::Blank => Bytes::new(),
            });
            live.applied.last = Some(id);
        }
        Ok(responses)
    }

    fn checkpoint(&self) -> CheckpointJob {
        let (durable, copy) = (self.durable.clone(), self.live.lock().clone());
        Box::new(move || -> Result<_, CheckpointError> {
            let applied = copy.applied.clone();
            *durable.0.lock() = copy;
            Ok(SnapshotHandle { applied, dir: None })
        })
    }

    fn install(&mut self, snapshot: &SnapshotHandle) -> Result<(), InstallError> {
        self.live.lock().applied = snapshot.applied.clone();
        Ok(())
    }
}

/// A log that outlives the group on it.
pub(crate) enum Medium {
    Rocks(TempDir),
    Mem(MemLogStore),
}

impl Medium {
    pub(crate) fn both() -> [Self; 2] {
        [
            Self::Rocks(tempfile::tempdir().unwrap()),
            Self::Mem(MemLogStore::new()),
        ]
    }

    pub(crate) fn open(&self, env: &Env, metrics: &RaftLogMetrics) -> Arc<dyn LogStore> {
        match self {
            Self::Rocks(dir) => Arc::new(RocksLog::open(dir.path(), env, metrics.clone()).unwrap()),
            Self::Mem(store) => Arc::new(MemLog::open(store, env)),
        }
    }
}

/// A node with one group, and what a test looks at.
pub(crate) struct Node {
    pub(crate) group: RaftGroup,
    pub(crate) log: Arc<dyn LogStore>,
    pub(crate) live: Arc<Mutex<Ledger>>,
    pub(crate) fatal: Arc<Mutex<Vec<String>>>,
    pub(crate) metrics: ConsensusMetrics,
    pub(crate) log_metrics: RaftLogMetrics,
}

impl Node {
    pub(crate) async fn start(medium: &Medium, durable: &Durable) -> Self {
        Self::start_with(medium, durable, &GroupConfig::default(), &Env::real()).await
    }

    pub(crate) async fn start_with(
        medium: &Medium,
        durable: &Durable,
        config: &GroupConfig,
        env: &Env,
    ) -> Self {
        let log_metrics = RaftLogMetrics::default();
        let log = medium.open(env, &log_metrics);
        let machine = TestMachine::open(durable);
        let live = machine.live.clone();
        let fatal = Arc::new(Mutex::new(Vec::new()));
        let seen = fatal.clone();
        let metrics = ConsensusMetrics::default();
        let hooks = GroupHooks {
            on_fatal: Arc::new(move |_, cause| seen.lock().push(cause.to_owned())),
            metrics: metrics.clone(),
        };
        let machine = Box::new(machine);
        let group = RaftGroup::start(GROUP, NODE, config, env, log.clone(), machine, hooks)
            .await
            .unwrap();
        Self {
            group,
            log,
            live,
            fatal,
            metrics,
            log_metrics,
        }
    }

    /// Waits until commands are taken; returns the term they have to be decided under.
    pub(crate) async fn ready(&self) -> u64 {
        self.group
            .leadership()
            .wait_for(|l| l.ready)
            .await
            .unwrap()
            .term
    }

    pub(crate) fn commands(&self) -> Vec<Bytes> {
        self.live.lock().commands.clone()
    }

    /// Stops the group and closes its log.
    pub(crate) async fn stop(self) {
        self.group.shutdown().await;
    }
}
