//! The state machine of a group: applies runs of log entries to the key-value store.

use crate::flush::Flusher;
use crate::moment::{KvView, Moment, Newest};
use crate::outcomes::Outcomes;
use bytes::Bytes;
use floeberg_consensus::{
    Applied as ConsensusApplied, ApplyError, CheckpointError, CheckpointJob, CommittedEntry,
    Copier, EntryId, InstallError, Payload, StateMachine,
};
use floeberg_kv::{Batch, Kv, KvError};
use floeberg_state::{Applied, AppliedRowError, Identity, LogPos, Marks, Receipt, Run, keys};
use floeberg_types::NodeId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

/// What apply shares with the transaction engine.
pub(crate) struct AppliedState {
    /// The rows of the last run, which everybody reads.
    pub(crate) newest: Newest,
    /// Digests at the last positions that other nodes pass, too.
    pub(crate) marks: Mutex<Marks>,
}

/// Applies entries; each call becomes one atomic write.
pub(crate) struct GroupMachine {
    pub(crate) identity: Identity,
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) applied: Applied,
    pub(crate) shared: Arc<AppliedState>,
    pub(crate) flusher: Arc<Flusher>,
    pub(crate) outcomes: Arc<Outcomes>,
}

impl Drop for GroupMachine {
    fn drop(&mut self) {
        self.outcomes.close();
    }
}

/// Why a copy of the state is not taken over.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(transparent)]
    Kv(#[from] KvError),
    #[error(transparent)]
    Applied(#[from] AppliedRowError),
}

/// What the copy in `dir` has reached; an error if it is another group's.
fn applied_in_copy(kv: &dyn Kv, identity: Identity, dir: &Path) -> Result<Applied, CopyError> {
    let key = keys::applied();
    let row = kv.get_in_copy(dir, &key)?;
    let rows: BTreeMap<Bytes, Bytes> = row.map(|value| (key, value)).into_iter().collect();
    Ok(Applied::load(&rows, identity)?)
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

/// Applies one entry to the run and returns its response; a command leaves a receipt.
fn step(
    run: &mut Run<'_>,
    entry: CommittedEntry,
    receipts: &mut Vec<(Receipt, u64)>,
) -> Result<Bytes, ApplyError> {
    let id = entry.id;
    let at = LogPos {
        term: id.term,
        node: id.node.0,
        index: id.index,
    };
    let applied = match entry.payload {
        Payload::Command(command) => run.command(at, &command).map(|receipt| {
            let response = receipt.outcome.encode(at.index);
            receipts.push((receipt, at.index));
            response
        }),
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
        let mut receipts = Vec::new();
        let responses: Result<Vec<_>, _> = entries
            .into_iter()
            .map(|entry| step(&mut run, entry, &mut receipts))
            .collect();
        let responses = responses?;
        let marks = run.take_marks();
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
        let failed = |source: Box<dyn Error + Send + Sync>| ApplyError { at: first, source };
        self.kv.write(batch).map_err(|error| failed(error.into()))?;
        let moment = Moment::take(&self.kv, self.identity).map_err(|e| failed(e.into()))?;
        self.shared.newest.publish(moment);
        for mark in marks {
            self.shared.marks.lock().push(mark);
        }
        self.applied = applied;
        self.flusher.written(bytes as u64);
        let term = self.applied.last.map_or(0, |last| last.term);
        self.outcomes.applied(receipts, term);
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
            Ok(applied)
        })
    }

    fn copier(&self) -> Copier {
        let (kv, identity) = (Arc::clone(&self.kv), self.identity);
        let failed = |source: Box<dyn Error + Send + Sync>| CheckpointError { source };
        Arc::new(move |dir| {
            kv.checkpoint(dir).map_err(|error| failed(error.into()))?;
            let applied = applied_in_copy(&*kv, identity, dir);
            let applied = applied.map_err(|error| failed(error.into()))?;
            Ok(consensus_applied(&applied))
        })
    }

    fn install(&mut self, dir: &Path) -> Result<ConsensusApplied, InstallError> {
        let failed = |source: Box<dyn Error + Send + Sync>| InstallError::Failed { source };
        let applied = applied_in_copy(&*self.kv, self.identity, dir);
        let applied = applied.map_err(|error| failed(error.into()))?;
        self.kv.install(dir).map_err(|error| failed(error.into()))?;
        let moment = Moment::take(&self.kv, self.identity).map_err(|e| failed(e.into()))?;
        self.shared.newest.publish(moment);
        self.shared.marks.lock().clear();
        self.applied = applied;
        self.outcomes.installed(&*self.kv, &self.applied);
        Ok(consensus_applied(&self.applied))
    }
}

#[cfg(test)]
mod tests;
