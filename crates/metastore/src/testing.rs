//! What the tests of this crate share: a store on both kinds of media, and counters as rows.

pub(crate) mod cluster;

use crate::moment::Moment;
use crate::{
    Cx, OpenError, ReadView, Row, Rows, Store, StoreConfig, StoreError, StoreParts, Txn, UsageRow,
};
use bytes::Bytes;
use floeberg_consensus::{CommandBudget, Footing, GroupHooks, NoPeers, Pending, SizedCommand};
use floeberg_env::{Attendance, Env, Peer, Reserve, Rng, UnsyncedData};
use floeberg_kv::{Kv, MemKv, MemKvStore, RocksKv, RocksKvConfig};
use floeberg_raftlog::{
    Done, LogError, LogRecord, LogState, LogStore, MemLog, MemLogStore, RocksLog,
};
use floeberg_state::{
    COMMAND_FORMAT, Command, FEATURE_LEVEL, Identity, RowChange, RowOp, keys::KeyWriter,
};
use floeberg_telemetry::{ConsensusMetrics, MetastoreMetrics, RaftLogMetrics};
use floeberg_types::{ClusterId, GroupId, NodeId, RequestId};
use parking_lot::Mutex;
use prost::Message as _;
use std::io;
use std::sync::{Arc, Weak};
use tempfile::TempDir;
use tokio::sync::watch;

pub(crate) const CLUSTER: ClusterId = ClusterId::from_bytes([0xc1; 16]);
pub(crate) const GROUP: GroupId = GroupId(2);

/// Where a group's bytes are; outlives the store on it.
pub(crate) enum Medium {
    Rocks(TempDir, Mutex<(Weak<RocksKv>, Weak<RocksLog>)>),
    Mem(MemKvStore, MemLogStore),
}

impl Medium {
    pub(crate) fn rocks() -> Self {
        Self::Rocks(tempfile::tempdir().unwrap(), Mutex::default())
    }

    pub(crate) fn mem() -> Self {
        Self::Mem(MemKvStore::new(), MemLogStore::new())
    }

    pub(crate) fn open(
        &self,
        env: &Env,
        metrics: &RaftLogMetrics,
    ) -> (Arc<dyn Kv>, Arc<dyn LogStore>) {
        match self {
            Self::Rocks(dir, opened) => {
                let config = RocksKvConfig::default();
                let kv = RocksKv::open(&dir.path().join("state"), &config).unwrap();
                let log = RocksLog::open(&dir.path().join("log"), env, metrics.clone()).unwrap();
                let (kv, log) = (Arc::new(kv), Arc::new(log));
                *opened.lock() = (Arc::downgrade(&kv), Arc::downgrade(&log));
                (kv, log)
            }
            Self::Mem(kv, log) => (Arc::new(MemKv::open(kv)), Arc::new(MemLog::open(log, env))),
        }
    }

    /// Waits until nobody has the rows open: a task of a dropped store may still be ending.
    pub(crate) async fn closed(&self) {
        if let Self::Rocks(_, opened) = self {
            let held = || {
                let (kv, log) = &*opened.lock();
                kv.strong_count() + log.strong_count() > 0
            };
            while held() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Power loss; only media in memory can have one.
    pub(crate) fn crash(&self, rng: &dyn Rng, fate: UnsyncedData) {
        match self {
            Self::Rocks(..) => {}
            Self::Mem(kv, log) => {
                kv.crash();
                log.crash(rng, fate);
            }
        }
    }
}

/// Syncs that are done, but not yet reported: `None` while reports pass.
type HeldBack = Arc<Mutex<Option<Vec<(Done, io::Result<()>)>>>>;

/// Holds back the log's reports of finished syncs, so that commands stay in flight.
#[derive(Clone, Default)]
pub(crate) struct Gate(HeldBack);

impl Gate {
    pub(crate) fn close(&self) {
        self.0.lock().get_or_insert_default();
    }

    pub(crate) fn open(&self) {
        let held_back = self.0.lock().take();
        for (done, result) in held_back.into_iter().flatten() {
            done(result);
        }
    }

    fn pass(&self, done: Done, result: io::Result<()>) {
        let mut held_back = self.0.lock();
        match held_back.as_mut() {
            Some(held_back) => held_back.push((done, result)),
            None => {
                drop(held_back);
                done(result);
            }
        }
    }

    fn guard(&self, done: Done) -> Done {
        let gate = self.clone();
        Box::new(move |result| gate.pass(done, result))
    }
}

/// A log behind a gate.
struct GatedLog {
    log: Arc<dyn LogStore>,
    gate: Gate,
}

impl LogStore for GatedLog {
    fn append(&self, group: GroupId, records: Vec<LogRecord>, done: Done) {
        self.log.append(group, records, self.gate.guard(done));
    }
    fn save_vote(&self, group: GroupId, bytes: Bytes, done: Done) {
        self.log.save_vote(group, bytes, self.gate.guard(done));
    }
    fn read_vote(&self, group: GroupId) -> Result<Option<Bytes>, LogError> {
        self.log.read_vote(group)
    }
    fn save_committed(&self, group: GroupId, bytes: Bytes) -> Result<(), LogError> {
        self.log.save_committed(group, bytes)
    }
    fn read_committed(&self, group: GroupId) -> Result<Option<Bytes>, LogError> {
        self.log.read_committed(group)
    }
    fn truncate_after(&self, group: GroupId, index: Option<u64>) -> Result<(), LogError> {
        self.log.truncate_after(group, index)
    }
    fn purge(&self, group: GroupId, upto: u64, log_id: Bytes) -> Result<(), LogError> {
        self.log.purge(group, upto, log_id)
    }
    fn state(&self, group: GroupId) -> Result<LogState, LogError> {
        self.log.state(group)
    }
    fn read(
        &self,
        group: GroupId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<LogRecord>, LogError> {
        self.log.read(group, from, to, max_bytes)
    }
}

/// A running store, and what a test looks at.
pub(crate) struct Node {
    /// Between the log and consensus; open at first.
    pub(crate) gate: Gate,
    pub(crate) store: Store,
    pub(crate) metrics: MetastoreMetrics,
    pub(crate) log_metrics: RaftLogMetrics,
    pub(crate) fatal: watch::Receiver<Vec<String>>,
    /// Where consensus would stage copies of the state.
    _copies: TempDir,
}

pub(crate) fn config() -> StoreConfig {
    StoreConfig::new(CLUSTER, GROUP, NodeId(1))
}

pub(crate) async fn try_start(
    config: &StoreConfig,
    env: &Env,
    medium: &Medium,
) -> Result<Node, OpenError> {
    let log_metrics = RaftLogMetrics::default();
    let (kv, log) = medium.open(env, &log_metrics);
    let gate = Gate::default();
    let log = Arc::new(GatedLog {
        log,
        gate: gate.clone(),
    });
    let (causes, fatal) = watch::channel(Vec::new());
    let hooks = GroupHooks {
        on_fatal: Arc::new(move |_, cause| causes.send_modify(|all| all.push(cause.to_owned()))),
        metrics: ConsensusMetrics::default(),
    };
    let metrics = MetastoreMetrics::default();
    let copies = tempfile::tempdir().unwrap();
    let parts = StoreParts {
        budget: CommandBudget::default(),
        room: Reserve::default(),
        kv,
        log,
        transport: Arc::new(NoPeers),
        snapshots: copies.path().join("snapshots"),
        footing: Footing::alone(),
        hooks,
        metrics: metrics.clone(),
    };
    let store = Store::open(config, env, parts).await?;
    Ok(Node {
        gate,
        store,
        metrics,
        log_metrics,
        fatal,
        _copies: copies,
    })
}

impl Node {
    pub(crate) async fn start(env: &Env, medium: &Medium) -> Self {
        try_start(&config(), env, medium).await.unwrap()
    }

    /// A store that leads and whose further commands stay in flight until the gate opens.
    pub(crate) async fn gated(env: &Env) -> Self {
        let node = Self::start(env, &Medium::mem()).await;
        let mut leadership = node.store.leadership();
        leadership.wait_for(|l| l.ready).await.unwrap();
        node.gate.close();
        node
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.fatal.borrow().is_empty()
    }

    /// A counter's value among the applied rows.
    pub(crate) fn applied(&self, name: &str) -> Option<i64> {
        value(&self.store.local(), name).unwrap()
    }

    /// Puts a command into the log behind the engine's back, as no part of the product may.
    pub(crate) async fn inject(&self, name: &str, value: i64) -> Pending {
        let term = self
            .store
            .leadership()
            .wait_for(|l| l.ready)
            .await
            .unwrap()
            .term;
        let row = UsageRow {
            bytes: value,
            ..UsageRow::default()
        };
        let op = Some(RowChange::Put(row.encode_to_vec().into()));
        let command = Command {
            format: COMMAND_FORMAT,
            feature_level: FEATURE_LEVEL,
            cluster_id: Bytes::copy_from_slice(CLUSTER.as_bytes()),
            group: GROUP.0,
            request_id: Bytes::from(vec![1; 16]),
            commit_id: Bytes::from(vec![0xfe; 16]),
            ops: vec![RowOp { key: key(name), op }],
            ..Command::default()
        };
        let raft = self.store.group();
        let command = SizedCommand::new(command.encode_to_vec()).unwrap();
        let permit = raft.reserve(command.bytes().len()).await;
        raft.submit(Arc::new(permit), term, command)
    }
}

/// The rows that a store of the tests' group holds now.
pub(crate) fn stored(kv: Arc<dyn Kv>) -> ReadView {
    let identity = Identity {
        cluster: CLUSTER,
        group: GROUP,
    };
    ReadView::new(Moment::take(&kv, identity).unwrap())
}

pub(crate) fn cx() -> Cx {
    Cx {
        request_id: RequestId::from_bytes([7; 16]),
        account: "000000000000".parse().unwrap(),
        principal: "root".into(),
        deadline: None,
        attendance: Attendance::default(),
        caller: Peer::INSIDE,
        idempotency: None,
    }
}

pub(crate) fn key(name: &str) -> Bytes {
    KeyWriter::new(0x20).tail(name.as_bytes()).finish()
}

pub(crate) fn counter(value: i64) -> UsageRow {
    UsageRow {
        bytes: value,
        ..UsageRow::default()
    }
}

pub(crate) fn value(rows: &impl Rows, name: &str) -> Result<Option<i64>, StoreError> {
    let row: Option<Row<UsageRow>> = rows.get(&key(name))?;
    Ok(row.map(|row| row.bytes))
}

/// Adds `by` to a counter and returns its new value.
pub(crate) fn add(txn: &mut Txn<'_>, name: &str, by: i64) -> Result<i64, StoreError> {
    let sum = value(txn, name)?.unwrap_or(0) + by;
    txn.put(key(name), &counter(sum));
    Ok(sum)
}

/// Creates a counter; refuses with the value of one that exists.
pub(crate) fn create(txn: &mut Txn<'_>, name: &str, first: i64) -> Result<(), Option<i64>> {
    match value(txn, name).map_err(|_| None)? {
        Some(found) => Err(Some(found)),
        None => {
            txn.put(key(name), &counter(first));
            Ok(())
        }
    }
}
