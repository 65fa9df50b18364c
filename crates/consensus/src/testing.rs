//! What the tests of this crate share: a small state machine, and both kinds of log.

pub(crate) mod cluster;

use crate::codec;
use crate::machine::{
    Applied, ApplyError, CheckpointError, CheckpointJob, CommittedEntry, Copier, EntryId,
    InstallError, Payload, StateMachine,
};
use crate::transfer::files::read_chunk;
use crate::{
    Begin, CommandBudget, Footing, GroupConfig, GroupHooks, GroupParts, GroupStartError, NoPeers,
    RaftGroup,
};
use bytes::{Buf, BufMut, Bytes};
use floeberg_env::{Disk, Env, OpenMode, Reserve};
use floeberg_raftlog::{LogRecord, LogStore, MemLog, MemLogStore, RocksLog};
use floeberg_telemetry::{ConsensusMetrics, RaftLogMetrics};
use floeberg_types::{GroupId, NodeId};
use parking_lot::Mutex;
use std::io;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::oneshot;

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

impl Ledger {
    fn pack(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let last = self.applied.last.expect("something is applied");
        let membership = self.applied.membership.clone().unwrap_or_default();
        for number in [last.term, last.node.0, last.index] {
            out.put_u64(number);
        }
        for bytes in std::iter::once(&membership).chain(&self.commands) {
            out.put_u64(bytes.len() as u64);
            out.put_slice(bytes);
        }
        out
    }

    fn unpack(mut bytes: Bytes) -> Self {
        let [term, node, index] = [(); 3].map(|()| bytes.get_u64());
        let node = NodeId(node);
        let mut parts = Vec::new();
        while bytes.has_remaining() {
            let length = usize::try_from(bytes.get_u64()).unwrap();
            parts.push(bytes.split_to(length));
        }
        let membership = Some(parts.remove(0)).filter(|m| !m.is_empty());
        let last = Some(EntryId { term, node, index });
        Self {
            applied: Applied { last, membership },
            commands: parts,
            batches: Vec::new(),
        }
    }
}

/// What outlives a restart of [`TestMachine`].
#[derive(Clone, Default)]
pub(crate) struct Durable(pub(crate) Arc<Mutex<Ledger>>);

/// When [`TestMachine`] makes its state durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Flush {
    #[default]
    AtCheckpoints,
    /// After every call, as a flush at the worst moment would.
    Always,
}

/// Answers a command with its place in the order.
pub(crate) struct TestMachine {
    pub(crate) live: Arc<Mutex<Ledger>>,
    durable: Durable,
    disk: Arc<dyn Disk>,
    pub(crate) flush: Flush,
}

fn write_copy(disk: &dyn Disk, dir: &Path, ledger: &Ledger) -> io::Result<()> {
    assert!(!disk.exists(dir), "a copy goes to a new directory");
    disk.create_dir_all(dir)?;
    let packed = ledger.pack();
    // The order of the names is not that of the content, and one file is empty.
    let (first, second) = packed.split_at(packed.len() / 2);
    for (name, content) in [("b-first", first), ("a-second", second), ("c-empty", &[])] {
        let file = disk.open(&dir.join(name), OpenMode::CreateNew)?;
        file.write_at(content, 0)?;
        file.sync_data()?;
    }
    disk.sync_dir(dir)
}

fn read_copy(disk: &dyn Disk, dir: &Path) -> io::Result<Ledger> {
    assert_eq!(disk.list(dir)?, ["a-second", "b-first", "c-empty"]);
    let mut packed = Vec::new();
    for name in ["b-first", "a-second", "c-empty"] {
        let file = disk.open(&dir.join(name), OpenMode::Read)?;
        let start = packed.len();
        while packed.len() < start + usize::try_from(file.len()?).unwrap() {
            packed.extend(read_chunk(&*file, (packed.len() - start) as u64)?);
        }
    }
    Ok(Ledger::unpack(packed.into()))
}

/// A command that cannot be applied.
pub(crate) const POISON: &[u8] = b"poison";
/// A command that panics.
pub(crate) const BOMB: &[u8] = b"bomb";

impl TestMachine {
    pub(crate) fn open(durable: &Durable, env: &Env) -> Self {
        let live = Arc::new(Mutex::new(durable.0.lock().clone()));
        Self {
            live,
            durable: durable.clone(),
            disk: Arc::clone(&env.disk),
            flush: Flush::default(),
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
        if self.flush == Flush::Always {
            *self.durable.0.lock() = live.clone();
        }
        Ok(responses)
    }

    fn checkpoint(&self) -> CheckpointJob {
        let (durable, copy) = (self.durable.clone(), self.live.lock().clone());
        Box::new(move || -> Result<_, CheckpointError> {
            let applied = copy.applied.clone();
            *durable.0.lock() = copy;
            Ok(applied)
        })
    }

    fn copier(&self) -> Copier {
        let (live, disk) = (Arc::clone(&self.live), Arc::clone(&self.disk));
        Arc::new(move |dir| {
            let ledger = live.lock().clone();
            write_copy(&*disk, dir, &ledger).map_err(|e| CheckpointError { source: e.into() })?;
            Ok(ledger.applied)
        })
    }

    fn install(&mut self, dir: &Path) -> Result<Applied, InstallError> {
        let ledger = read_copy(&*self.disk, dir);
        let ledger = ledger.map_err(|e| InstallError::Failed { source: e.into() })?;
        *self.durable.0.lock() = ledger.clone();
        *self.live.lock() = ledger.clone();
        Ok(ledger.applied)
    }
}

/// Appends a command behind the end of a log, as an earlier version without limits would have.
pub(crate) async fn append_command(log: &dyn LogStore, id: EntryId, command: Bytes) {
    let entry = openraft::Entry {
        log_id: codec::log_id(&id),
        payload: crate::raft::Payload::Normal(crate::raft::Command(command)),
    };
    let record = LogRecord {
        index: id.index,
        bytes: codec::encode_entry(&entry),
    };
    let (done, synced) = oneshot::channel();
    let written = Box::new(move |result: io::Result<()>| done.send(result).unwrap());
    log.append(GROUP, vec![record], written);
    synced.await.unwrap().unwrap();
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

/// Where a node's snapshots are; on a real disk below a directory that is removed with it.
pub(crate) struct Snapshots {
    pub(crate) dir: TempDir,
}

impl Snapshots {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
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
    _snapshots: Snapshots,
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
        let started = Self::try_start(medium, durable, config, env).await;
        started.unwrap()
    }

    pub(crate) async fn try_start(
        medium: &Medium,
        durable: &Durable,
        config: &GroupConfig,
        env: &Env,
    ) -> Result<Self, GroupStartError> {
        let log_metrics = RaftLogMetrics::default();
        let log = medium.open(env, &log_metrics);
        let machine = TestMachine::open(durable, env);
        let live = machine.live.clone();
        let fatal = Arc::new(Mutex::new(Vec::new()));
        let seen = fatal.clone();
        let metrics = ConsensusMetrics::default();
        let hooks = GroupHooks {
            on_fatal: Arc::new(move |_, cause| seen.lock().push(cause.to_owned())),
            metrics: metrics.clone(),
        };
        let snapshots = Snapshots::new();
        let parts = GroupParts {
            budget: CommandBudget::default(),
            room: Reserve::default(),
            log: log.clone(),
            machine: Box::new(machine),
            transport: Arc::new(NoPeers),
            snapshots: snapshots.dir.path().join("snapshots"),
            footing: Footing::alone(),
            hooks,
        };
        let group = RaftGroup::start(GROUP, NODE, Begin::Alone, config, env, parts).await?;
        Ok(Self {
            group,
            log,
            live,
            fatal,
            metrics,
            log_metrics,
            _snapshots: snapshots,
        })
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
