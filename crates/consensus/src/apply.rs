//! Hands committed entries to the [`StateMachine`] in batches and answers their proposers.

use crate::codec;
use crate::log::GroupLog;
use crate::machine::{
    Applied, CheckpointJob, CommittedEntry, EntryId, Payload as AppliedPayload, StateMachine,
};
use crate::mark::Acks;
use crate::raft::{Entry, LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::synced::Synced;
use crate::transfer::SnapshotData;
use crate::transfer::outgoing::Outgoing;
use bytes::Bytes;
use floeberg_telemetry::ConsensusMetrics;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// One batch of the state machine: large enough to share its cost, small enough to answer soon.
const APPLY_ENTRIES_MAX: usize = 1024;
const APPLY_BYTES_MAX: usize = 4 << 20;

/// The state machine as the consensus library sees it.
pub(crate) struct Machine {
    // Never contended: one task calls, and waits while entries are applied or a snapshot is installed.
    inner: Arc<Mutex<Box<dyn StateMachine>>>,
    applied: watch::Sender<Option<EntryId>>,
    synced: Synced,
    acks: Acks,
    outgoing: Outgoing,
    metrics: ConsensusMetrics,
}

/// Up to so many bytes of commands are applied where they arrive: two changes of thread cost more than
/// such a chunk. Above, everybody else on the threads of consensus would wait for it.
const APPLY_HERE_BYTES: usize = 256 << 10;

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

/// A snapshot of what is applied.
pub(crate) fn snapshot_of(applied: &Applied, snapshot: SnapshotData) -> io::Result<Snapshot> {
    let (last_log_id, last_membership) = applied_state(applied)?;
    let meta = SnapshotMeta {
        last_log_id,
        last_membership,
    };
    Ok(Snapshot { meta, snapshot })
}

impl Machine {
    pub(crate) fn new(
        inner: Box<dyn StateMachine>,
        log: &GroupLog,
        outgoing: Outgoing,
        metrics: ConsensusMetrics,
    ) -> Self {
        let applied = watch::Sender::new(inner.applied().last);
        Self {
            inner: Arc::new(Mutex::new(inner)),
            applied,
            synced: log.synced(),
            acks: log.acks(),
            outgoing,
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

    /// Applies what is small at once, and the rest beside all other tasks.
    async fn apply_chunk(&mut self, chunk: Chunk) -> io::Result<()> {
        let Chunk {
            entries,
            responders,
            bytes,
        } = chunk;
        self.check_order(&entries)?;
        let (count, last) = (entries.len(), entries.last().map(|e| e.id));
        let machine = Arc::clone(&self.inner);
        let applying = move || machine.lock().apply(entries);
        let tasks = self.outgoing.tasks();
        // A panic would leave the library waiting for an answer that never comes.
        let responses = if bytes <= APPLY_HERE_BYTES {
            tasks.crossing().await;
            catch_unwind(AssertUnwindSafe(applying)).map_err(|_| io::Error::other("apply panicked"))
        } else {
            let applied = tasks.spawn_blocking("apply", applying);
            applied.await.map_err(io::Error::other)
        };
        let responses = responses?.map_err(io::Error::other)?;
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
        let job = self.inner.lock().checkpoint();
        Builder {
            job: Mutex::new(Some(job)),
            outgoing: self.outgoing.clone(),
        }
    }

    /// Swaps a copy in, beside all other tasks but before any further entry.
    async fn swap_in(&self, dir: PathBuf, applied: Applied) -> io::Result<()> {
        let machine = Arc::clone(&self.inner);
        let staging = self.outgoing.staging().clone();
        let swapping = move || {
            if let Some(last) = &applied.last {
                staging.note_install(last)?;
            }
            let installed = machine.lock().install(&dir).map_err(io::Error::other)?;
            if installed != applied {
                let text = format!("installed {installed:?} instead of {applied:?}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            Ok(())
        };
        let tasks = self.outgoing.tasks();
        let swapped = tasks.spawn_blocking("snapshot-install", swapping).await;
        swapped.map_err(io::Error::other)?
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
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        applied_state(&self.inner.lock().applied())
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
            if let Some(last) = chunk.entries.last() {
                self.synced.wait(last.id.index).await?;
            }
            self.apply_chunk(chunk).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.builder()
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        match snapshot {
            SnapshotData::Received { dir, applied } => self.swap_in(dir, applied).await?,
            SnapshotData::Here(outgoing) => {
                let offer = outgoing.obtain(None).await?;
                let swapped = self.swap_in(offer.dir.clone(), offer.applied.clone());
                let swapped = swapped.await;
                outgoing.release(offer).await;
                swapped?;
            }
        }
        let last = self.inner.lock().applied().last;
        // It is durable, and a restart lets the log go on behind it.
        if let Some(last) = &last {
            self.acks.appended(codec::log_id(last));
        }
        self.applied.send_replace(last);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        // A copy that exists is worth more than a newer one that would have to be made.
        let applied = self.outgoing.offered();
        let applied = applied.unwrap_or_else(|| self.inner.lock().applied());
        if applied.last.is_none() {
            return Ok(None);
        }
        let here = SnapshotData::Here(self.outgoing.clone());
        snapshot_of(&applied, here).map(Some)
    }
}

/// Runs one checkpoint beside the apply loop.
pub(crate) struct Builder {
    job: Mutex<Option<CheckpointJob>>,
    outgoing: Outgoing,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let Some(job) = self.job.get_mut().take() else {
            return Err(io::Error::other("a checkpoint job runs only once"));
        };
        let tasks = self.outgoing.tasks();
        let applied = tasks
            .spawn_blocking("checkpoint", job)
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        snapshot_of(&applied, SnapshotData::Here(self.outgoing.clone()))
    }
}
