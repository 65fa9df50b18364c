//! Hands committed entries to the [`StateMachine`] in batches and answers their proposers.

use crate::codec;
use crate::machine::{
    Applied, CheckpointJob, CommittedEntry, EntryId, Payload as AppliedPayload, SnapshotHandle,
    StateMachine,
};
use crate::raft::{Entry, LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use bytes::Bytes;
use floeberg_env::Tasks;
use floeberg_telemetry::ConsensusMetrics;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::sync::watch;

/// One batch of the state machine: large enough to share its cost, small enough to answer soon.
const APPLY_ENTRIES_MAX: usize = 1024;
const APPLY_BYTES_MAX: usize = 4 << 20;

/// The snapshot most recently built or received.
type CurrentSnapshot = Arc<Mutex<Option<Snapshot>>>;

/// The state machine as the consensus library sees it.
pub(crate) struct Machine {
    // Only ever reached through `get_mut`: the lock is here because the library wants `Sync`.
    inner: Mutex<Box<dyn StateMachine>>,
    applied: watch::Sender<Option<EntryId>>,
    current: CurrentSnapshot,
    tasks: Tasks,
    metrics: ConsensusMetrics,
}

/// Entries that go to the state machine in one call.
#[derive(Default)]
struct Chunk {
    entries: Vec<CommittedEntry>,
    responders: Vec<Option<ApplyResponder<TypeConfig>>>,
    bytes: usize,
}

impl Chunk {
    fn push(&mut self, (entry, responder): EntryResponder<TypeConfig>) {
        let entry = committed(entry);
        if let AppliedPayload::Command(command) = &entry.payload {
            self.bytes += command.len();
        }
        self.entries.push(entry);
        self.responders.push(responder);
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= APPLY_ENTRIES_MAX || self.bytes >= APPLY_BYTES_MAX
    }
}

fn committed(entry: Entry) -> CommittedEntry {
    let id = codec::entry_id(&entry.log_id);
    let payload = match entry.payload {
        Payload::Blank => AppliedPayload::Blank,
        Payload::Normal(command) => AppliedPayload::Command(command.0),
        Payload::Membership(membership) => {
            AppliedPayload::Membership(codec::encode_membership(Some(&entry.log_id), &membership))
        }
    };
    CommittedEntry { id, payload }
}

/// The library's form of how far the state has come.
fn applied_state(applied: &Applied) -> io::Result<(Option<LogId>, StoredMembership)> {
    let membership = applied
        .membership
        .clone()
        .map(codec::decode_membership)
        .transpose()?;
    Ok((
        applied.last.as_ref().map(codec::log_id),
        membership.unwrap_or_default(),
    ))
}

impl Machine {
    pub(crate) fn new(
        inner: Box<dyn StateMachine>,
        tasks: Tasks,
        metrics: ConsensusMetrics,
    ) -> Self {
        let applied = watch::Sender::new(inner.applied().last);
        let current = Arc::default();
        Self {
            inner: Mutex::new(inner),
            applied,
            current,
            tasks,
            metrics,
        }
    }

    /// Follows the last applied entry; closes when the group stops.
    pub(crate) fn applied(&self) -> watch::Receiver<Option<EntryId>> {
        self.applied.subscribe()
    }

    /// Applying an entry twice would be silent corruption, so it stops the group. Gaps are caught
    /// where the entries are read.
    fn check_order(&self, entries: &[CommittedEntry]) -> io::Result<()> {
        let mut last = self.applied.borrow().map(|id| id.index);
        for entry in entries {
            let index = entry.id.index;
            if last.is_some_and(|last| index <= last) {
                let text = format!("entry {} to apply is not after {last:?}", entry.id);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            last = Some(index);
        }
        Ok(())
    }

    fn apply_chunk(&mut self, chunk: Chunk) -> io::Result<()> {
        let Chunk {
            entries,
            responders,
            ..
        } = chunk;
        self.check_order(&entries)?;
        let (count, last) = (entries.len(), entries.last().map(|e| e.id));
        let machine = self.inner.get_mut();
        // A panic would leave the library waiting for an answer that never comes.
        let responses = catch_unwind(AssertUnwindSafe(|| machine.apply(entries)))
            .map_err(|_| io::Error::other("the state machine panicked"))?
            .map_err(io::Error::other)?;
        if responses.len() != count {
            let text = format!("{} responses to {count} entries", responses.len());
            return Err(io::Error::other(text));
        }
        self.metrics.applied.inc_by(count as u64);
        self.applied.send_replace(last);
        answer(responders, responses);
        Ok(())
    }

    fn builder(&mut self) -> Builder {
        let job = self.inner.get_mut().checkpoint();
        let tasks = self.tasks.clone();
        Builder {
            job: Mutex::new(Some(job)),
            tasks,
            current: Arc::clone(&self.current),
        }
    }
}

fn answer(responders: Vec<Option<ApplyResponder<TypeConfig>>>, responses: Vec<Bytes>) {
    for (responder, response) in responders.into_iter().zip(responses) {
        if let Some(responder) = responder {
            responder.send(response);
        }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        applied_state(&self.inner.get_mut().applied())
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(first) = entries.try_next().await? {
            let mut chunk = Chunk::default();
            chunk.push(first);
            while !chunk.is_full() {
                match entries.next().now_or_never() {
                    Some(Some(item)) => chunk.push(item?),
                    Some(None) | None => break,
                }
            }
            self.apply_chunk(chunk)?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.builder()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotHandle,
    ) -> Result<(), io::Error> {
        let machine = self.inner.get_mut();
        machine.install(&snapshot).map_err(io::Error::other)?;
        self.applied.send_replace(machine.applied().last);
        *self.current.lock() = Some(Snapshot {
            meta: meta.clone(),
            snapshot,
        });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.current.lock().clone())
    }
}

/// Runs one checkpoint beside the apply loop.
pub(crate) struct Builder {
    job: Mutex<Option<CheckpointJob>>,
    tasks: Tasks,
    current: CurrentSnapshot,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotHandle;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let Some(job) = self.job.get_mut().take() else {
            return Err(io::Error::other("a checkpoint job runs only once"));
        };
        let snapshot = self
            .tasks
            .spawn_blocking("checkpoint", job)
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        let (last_log_id, last_membership) = applied_state(&snapshot.applied)?;
        let meta = SnapshotMeta {
            last_log_id,
            last_membership,
        };
        let built = Snapshot { meta, snapshot };
        *self.current.lock() = Some(built.clone());
        Ok(built)
    }
}
