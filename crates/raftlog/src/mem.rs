//! The in-memory log: a change is durable only once its simulated sync has ended.

use crate::{Done, LogError, LogRecord, LogState, LogStore, NotContinuous};
use bytes::Bytes;
use floeberg_env::{Env, Rng, UnsyncedData};
use floeberg_types::GroupId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

#[derive(Clone, Debug, Default)]
struct GroupLog {
    purged: Option<(u64, Bytes)>,
    records: BTreeMap<u64, Bytes>,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
}

#[derive(Clone, Debug)]
enum Change {
    Append(Vec<LogRecord>),
    Vote(Bytes),
    Committed(Bytes),
    Truncate(Option<u64>),
    Purge(u64, Bytes),
}

type Groups = BTreeMap<GroupId, GroupLog>;

impl GroupLog {
    fn check(&self, group: GroupId, records: &[LogRecord]) -> Result<(), NotContinuous> {
        let last = self.records.keys().next_back().copied();
        let mut next = last
            .or(self.purged.as_ref().map(|(upto, _)| *upto))
            .map(|i| i + 1);
        for record in records {
            match next {
                Some(expected) if expected != record.index => {
                    return Err(NotContinuous {
                        group,
                        expected,
                        found: record.index,
                    });
                }
                Some(_) | None => next = Some(record.index + 1),
            }
        }
        Ok(())
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Append(records) => {
                self.records.extend(
                    records
                        .into_iter()
                        .map(|record| (record.index, record.bytes)),
                );
            }
            Change::Vote(bytes) => self.vote = Some(bytes),
            Change::Committed(bytes) => self.committed = Some(bytes),
            Change::Truncate(Some(index)) => self.records.retain(|at, _| *at <= index),
            Change::Truncate(None) => self.records.clear(),
            Change::Purge(upto, log_id) => {
                if self
                    .purged
                    .as_ref()
                    .is_none_or(|(purged, _)| *purged < upto)
                {
                    self.records.retain(|at, _| *at > upto);
                    self.purged = Some((upto, log_id));
                }
            }
        }
    }
}

#[derive(Default)]
struct Inner {
    current: Groups,
    durable: Groups,
    unsynced: VecDeque<(GroupId, Change)>,
    /// Callbacks in call order, each with the number of changes that must be durable before it.
    waiting: VecDeque<(u64, Done)>,
    /// Changes ever made, and how many of them are durable.
    written: u64,
    synced: u64,
    /// Crashes so far; handles opened before one are stopped.
    crashes: u64,
    failing_sync: bool,
    lying: bool,
    losing_votes: bool,
    stopped: Option<Arc<str>>,
}

impl Inner {
    fn make_durable(&mut self, upto: u64) {
        while self.synced < upto {
            let Some((group, change)) = self.unsynced.pop_front() else {
                break;
            };
            self.durable.entry(group).or_default().apply(change);
            self.synced += 1;
        }
    }
}

/// The medium below [`MemLog`]: survives a crash of the node that has it open.
#[derive(Clone)]
pub struct MemLogStore {
    inner: Arc<Mutex<Inner>>,
    sync_takes: RangeInclusive<Duration>,
}

/// What was durable in a [`MemLogStore`] at some time.
#[derive(Clone, Debug)]
pub struct LogImage(Groups);

impl Default for MemLogStore {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for MemLogStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemLogStore")
            .field("sync_takes", &self.sync_takes)
            .finish_non_exhaustive()
    }
}

impl MemLogStore {
    /// An empty store whose syncs take as long as those of a good disk.
    #[must_use]
    pub fn new() -> Self {
        Self::with_sync_time(Duration::from_micros(100)..=Duration::from_millis(2))
    }

    /// An empty store whose syncs take a time drawn from `sync_takes`.
    #[must_use]
    pub fn with_sync_time(sync_takes: RangeInclusive<Duration>) -> Self {
        Self {
            inner: Arc::default(),
            sync_takes,
        }
    }

    /// The same store on a disk whose syncs take a time drawn from `sync_takes`.
    #[must_use]
    pub fn slowed(mut self, sync_takes: RangeInclusive<Duration>) -> Self {
        self.sync_takes = sync_takes;
        self
    }

    /// The node dies: unsynced changes meet their `fate` (with [`UnsyncedData::Torn`] some first
    /// ones of them have reached the disk), pending callbacks are never called, and every open
    /// handle stops.
    pub fn crash(&self, rng: &dyn Rng, fate: UnsyncedData) {
        let mut inner = self.inner.lock();
        if fate == UnsyncedData::Torn {
            let survivors = rng.below(inner.unsynced.len() as u64 + 1);
            let upto = inner.synced + survivors;
            inner.make_durable(upto);
        }
        let waiting = std::mem::take(&mut inner.waiting);
        if inner.losing_votes {
            inner.durable.values_mut().for_each(|log| log.vote = None);
        }
        *inner = Inner {
            current: inner.durable.clone(),
            durable: std::mem::take(&mut inner.durable),
            crashes: inner.crashes + 1,
            lying: inner.lying,
            losing_votes: inner.losing_votes,
            ..Inner::default()
        };
        drop(inner);
        // A callback may own handles that lock the store when they drop.
        drop(waiting);
    }

    /// What a crash now would leave at least; it stays as it is.
    #[must_use]
    pub fn image(&self) -> LogImage {
        LogImage(self.inner.lock().durable.clone())
    }

    /// Back to what it was; every open handle stops.
    pub fn put_back(&self, image: &LogImage) {
        let mut inner = self.inner.lock();
        let waiting = std::mem::take(&mut inner.waiting);
        *inner = Inner {
            current: image.0.clone(),
            durable: image.0.clone(),
            crashes: inner.crashes + 1,
            ..Inner::default()
        };
        drop(inner);
        // A callback may own handles that lock the store when they drop.
        drop(waiting);
    }

    /// From now on a crash takes the votes with it, as a disk does that confirms writes it never made. Tests
    /// show with it that the loss is found.
    pub fn lose_votes(&self) {
        self.inner.lock().losing_votes = true;
    }

    /// Lets the next sync fail; the store is stopped until the next crash.
    pub fn fail_next_sync(&self) {
        self.inner.lock().failing_sync = true;
    }

    /// From now on syncs are reported as done and make nothing durable: what is written reaches
    /// the medium when the disk likes, which is never. Tests show with it that the loss is found.
    pub fn lie_about_syncs(&self) {
        self.inner.lock().lying = true;
    }

    fn sync_time(&self, rng: &dyn Rng) -> Duration {
        let (least, most) = (*self.sync_takes.start(), *self.sync_takes.end());
        let spread = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
        least + Duration::from_micros(rng.below(spread.saturating_add(1)))
    }
}

/// A handle on a [`MemLogStore`]; dropping it ends its syncs.
pub struct MemLog {
    store: MemLogStore,
    life: u64,
    wake: Arc<Notify>,
    syncer: JoinHandle<()>,
}

impl std::fmt::Debug for MemLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemLog")
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

impl Drop for MemLog {
    fn drop(&mut self) {
        self.syncer.abort();
    }
}

impl MemLog {
    /// Opens the store as the last crash, or clean close, left it. Needs a tokio runtime.
    #[must_use]
    pub fn open(store: &MemLogStore, env: &Env) -> Self {
        let life = store.inner.lock().crashes;
        let wake = Arc::new(Notify::new());
        let syncs = sync_loop(store.clone(), life, wake.clone(), env.rng.clone());
        let syncer = env.consensus.spawn("raftlog-sync", syncs);
        Self {
            store: store.clone(),
            life,
            wake,
            syncer,
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> Result<T, LogError>) -> Result<T, LogError> {
        let mut inner = self.store.inner.lock();
        if inner.crashes != self.life {
            return Err(LogError::stopped(&"the node has crashed".into()));
        }
        if let Some(cause) = &inner.stopped {
            return Err(LogError::stopped(cause));
        }
        f(&mut inner)
    }

    fn group<T>(&self, group: GroupId, f: impl FnOnce(&GroupLog) -> T) -> Result<T, LogError> {
        self.with(|inner| Ok(f(inner.current.entry(group).or_default())))
    }

    fn change(&self, group: GroupId, change: Change) -> Result<(), LogError> {
        self.with(|inner| {
            write(inner, group, change);
            Ok(())
        })
    }

    fn change_then(&self, group: GroupId, change: Change, done: Done) {
        let mut done = Some(done);
        let result = self.with(|inner| {
            if let Change::Append(records) = &change {
                inner
                    .current
                    .entry(group)
                    .or_default()
                    .check(group, records)?;
            }
            write(inner, group, change);
            if let Some(done) = done.take() {
                inner.waiting.push_back((inner.written, done));
            }
            Ok(())
        });
        match (result, done) {
            (Err(error), Some(done)) => done(Err(error.into_io())),
            (Ok(()) | Err(_), _) => self.wake.notify_one(),
        }
    }
}

fn write(inner: &mut Inner, group: GroupId, change: Change) {
    inner
        .current
        .entry(group)
        .or_default()
        .apply(change.clone());
    inner.unsynced.push_back((group, change));
    inner.written += 1;
}

/// One sync for everything written before it started, like the real store's thread.
async fn sync_loop(store: MemLogStore, life: u64, wake: Arc<Notify>, rng: Arc<dyn Rng>) {
    loop {
        let target = {
            let inner = store.inner.lock();
            (!inner.waiting.is_empty()).then_some(inner.written)
        };
        let Some(target) = target else {
            wake.notified().await;
            continue;
        };
        tokio::time::sleep(store.sync_time(rng.as_ref())).await;
        let (finished, outcome) = {
            let mut inner = store.inner.lock();
            if inner.crashes != life {
                return;
            }
            (finish(&mut inner, target), inner.stopped.clone())
        };
        for done in finished {
            done(
                outcome
                    .as_ref()
                    .map_or(Ok(()), |cause| Err(LogError::stopped(cause).into_io())),
            );
        }
    }
}

/// Ends a sync of the first `target` changes; the callbacks that it answers, in order.
fn finish(inner: &mut Inner, target: u64) -> Vec<Done> {
    if std::mem::take(&mut inner.failing_sync) {
        inner.stopped = Some("injected failure of a sync".into());
    }
    if inner.stopped.is_some() {
        return inner.waiting.drain(..).map(|(_, done)| done).collect();
    }
    if !inner.lying {
        inner.make_durable(target);
    }
    let answered = inner.waiting.partition_point(|(at, _)| *at <= target);
    inner
        .waiting
        .drain(..answered)
        .map(|(_, done)| done)
        .collect()
}

impl LogStore for MemLog {
    fn append(&self, group: GroupId, records: Vec<LogRecord>, done: Done) {
        self.change_then(group, Change::Append(records), done);
    }

    fn save_vote(&self, group: GroupId, bytes: Bytes, done: Done) {
        self.change_then(group, Change::Vote(bytes), done);
    }

    fn read_vote(&self, group: GroupId) -> Result<Option<Bytes>, LogError> {
        self.group(group, |log| log.vote.clone())
    }

    fn save_committed(&self, group: GroupId, bytes: Bytes) -> Result<(), LogError> {
        self.change(group, Change::Committed(bytes))
    }

    fn read_committed(&self, group: GroupId) -> Result<Option<Bytes>, LogError> {
        self.group(group, |log| log.committed.clone())
    }

    fn truncate_after(&self, group: GroupId, index: Option<u64>) -> Result<(), LogError> {
        self.change(group, Change::Truncate(index))
    }

    fn purge(&self, group: GroupId, upto: u64, log_id: Bytes) -> Result<(), LogError> {
        self.with(|inner| {
            let log = inner.current.entry(group).or_default();
            if let (None, Some((first, _))) = (&log.purged, log.records.first_key_value())
                && upto + 1 < *first
            {
                return Err(NotContinuous {
                    group,
                    expected: upto + 1,
                    found: *first,
                }
                .into());
            }
            write(inner, group, Change::Purge(upto, log_id));
            Ok(())
        })
    }

    fn state(&self, group: GroupId) -> Result<LogState, LogError> {
        self.group(group, |log| LogState {
            purged: log.purged.clone(),
            last: log
                .records
                .last_key_value()
                .map(|(index, bytes)| LogRecord {
                    index: *index,
                    bytes: bytes.clone(),
                }),
        })
    }

    fn read(
        &self,
        group: GroupId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> Result<Vec<LogRecord>, LogError> {
        self.group(group, |log| {
            let mut budget = max_bytes;
            let mut records = Vec::new();
            for (index, bytes) in log.records.range(from..to.max(from)) {
                match budget.checked_sub(bytes.len()) {
                    Some(rest) => budget = rest,
                    None if records.is_empty() => budget = 0,
                    None => break,
                }
                records.push(LogRecord {
                    index: *index,
                    bytes: bytes.clone(),
                });
            }
            records
        })
    }
}
