//! The state machine of a group: applies runs of log entries to the key-value store.

use crate::flush::Flusher;
use bytes::Bytes;
use floeberg_consensus::{
    Applied as ConsensusApplied, ApplyError, CheckpointError, CheckpointJob, CommittedEntry,
    EntryId, Payload, SnapshotHandle, StateMachine,
};
use floeberg_kv::{Batch, Kv};
use floeberg_state::{Applied, Identity, LogPos, Run, View, ViewError};
use floeberg_types::NodeId;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;

/// Rows of the store, as apply sees them.
pub(crate) struct KvView<'a>(pub(crate) &'a dyn Kv);

impl View for KvView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ViewError> {
        self.0.get(key).map_err(|error| ViewError(Box::new(error)))
    }

    fn first_key(&self, start: &[u8], end: &[u8]) -> Result<Option<Bytes>, ViewError> {
        if start >= end {
            return Ok(None);
        }
        match self.0.scan(start, Some(end)).next() {
            Some(Ok((key, _))) => Ok(Some(key)),
            Some(Err(error)) => Err(ViewError(Box::new(error))),
            None => Ok(None),
        }
    }
}

/// What apply shares with the transaction engine.
pub(crate) struct AppliedState {
    /// Held shared by readers of several rows, exclusively while a run is written.
    pub(crate) gate: RwLock<()>,
    /// What the rows have reached.
    pub(crate) applied: Mutex<Applied>,
}

/// Applies entries; each call becomes one atomic write.
pub(crate) struct GroupMachine {
    pub(crate) identity: Identity,
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) applied: Applied,
    pub(crate) shared: Arc<AppliedState>,
    pub(crate) flusher: Arc<Flusher>,
}

fn entry_id(at: LogPos) -> EntryId {
    EntryId {
        term: at.term,
        node: NodeId(at.node),
        index: at.index,
    }
}

fn consensus_applied(applied: &Applied) -> ConsensusApplied {
    ConsensusApplied {
        last: applied.last.map(entry_id),
        membership: applied.membership.clone(),
    }
}

/// Applies one entry to the run and returns its response.
fn step(run: &mut Run<'_>, entry: CommittedEntry) -> Result<Bytes, ApplyError> {
    let id = entry.id;
    let at = LogPos {
        term: id.term,
        node: id.node.0,
        index: id.index,
    };
    let applied = match entry.payload {
        Payload::Command(command) => run.command(at, &command).map(|o| o.encode(at.index)),
        Payload::Blank => run.blank(at).map(|()| Bytes::new()),
        Payload::Membership(membership) => run.membership(at, membership).map(|()| Bytes::new()),
    };
    applied.map_err(|error| ApplyError {
        at: id,
        source: Box::new(error),
    })
}

impl StateMachine for GroupMachine {
    fn applied(&self) -> ConsensusApplied {
        consensus_applied(&self.applied)
    }

    fn apply(&mut self, entries: Vec<CommittedEntry>) -> Result<Vec<Bytes>, ApplyError> {
        let Some(first) = entries.first().map(|entry| entry.id) else {
            return Ok(Vec::new());
        };
        let view = KvView(&*self.kv);
        let mut run = Run::new(&view, self.identity, self.applied.clone());
        let responses: Result<Vec<_>, _> = entries
            .into_iter()
            .map(|entry| step(&mut run, entry))
            .collect();
        let responses = responses?;
        let (changes, applied) = run.finish();
        let mut batch = Batch::default();
        let mut bytes = 0;
        for (key, change) in changes {
            bytes += key.len() + change.as_ref().map_or(0, Bytes::len);
            match change {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        {
            let _writing = self.shared.gate.write();
            self.kv.write(batch).map_err(|error| ApplyError {
                at: first,
                source: Box::new(error),
            })?;
            *self.shared.applied.lock() = applied.clone();
        }
        self.applied = applied;
        self.flusher.written(bytes as u64);
        Ok(responses)
    }

    fn checkpoint(&self) -> CheckpointJob {
        let kv = Arc::clone(&self.kv);
        // Taken before the flush, which may cover more.
        let applied = consensus_applied(&self.applied);
        Box::new(move || {
            kv.flush().map_err(|error| CheckpointError {
                source: Box::new(error),
            })?;
            Ok(SnapshotHandle { applied, dir: None })
        })
    }
}
