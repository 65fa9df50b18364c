//! Chunks that are written but not published yet: who must give them back, and when nobody may.

use floeberg_types::ChunkId;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;

/// The unpublished chunks of this process.
///
/// Chunks of a request that failed before it proposed anything are queued here and deleted by the
/// reclaimer. Chunks of a request whose outcome is unknown are left to the orphan sweep, which asks
/// the index once the proposal can no longer be applied.
#[derive(Debug, Default)]
pub(crate) struct ChunkSessions {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    writing: HashSet<ChunkId>,
    discarded: Vec<ChunkId>,
}

impl ChunkSessions {
    /// A guard for the chunks of one request.
    pub(crate) fn guard(self: &Arc<Self>) -> ChunkGuard {
        ChunkGuard {
            sessions: self.clone(),
            chunks: Vec::new(),
            fate: Fate::Discard,
        }
    }

    /// Takes the chunks that are to be deleted.
    pub(crate) fn take_discarded(&self) -> Vec<ChunkId> {
        std::mem::take(&mut self.state.lock().discarded)
    }

    /// Puts chunks back whose deletion failed.
    pub(crate) fn discard_again(&self, chunks: Vec<ChunkId>) {
        self.state.lock().discarded.extend(chunks);
    }

    /// Whether a request of this process is still writing or proposing this chunk.
    pub(crate) fn is_writing(&self, chunk: &ChunkId) -> bool {
        self.state.lock().writing.contains(chunk)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing was proposed: delete them.
    Discard,
    /// A command may name them: only the index can tell.
    AskTheIndex,
}

/// The chunks of one request. Dropping it (also because the client went away) settles their fate.
#[derive(Debug)]
pub(crate) struct ChunkGuard {
    sessions: Arc<ChunkSessions>,
    chunks: Vec<ChunkId>,
    fate: Fate,
}

impl ChunkGuard {
    pub(crate) fn add(&mut self, chunk: ChunkId) {
        self.sessions.state.lock().writing.insert(chunk);
        self.chunks.push(chunk);
    }

    /// From here on a command may name the chunks, even if this request is cancelled.
    pub(crate) fn proposing(&mut self) {
        self.fate = Fate::AskTheIndex;
    }

    /// The command was refused or nothing was proposed: the chunks are certainly garbage.
    pub(crate) fn refused(&mut self) {
        self.fate = Fate::Discard;
    }
}

impl Drop for ChunkGuard {
    fn drop(&mut self) {
        let mut state = self.sessions.state.lock();
        for chunk in &self.chunks {
            state.writing.remove(chunk);
        }
        if self.fate == Fate::Discard {
            state.discarded.append(&mut self.chunks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chunks_that_no_command_names_are_discarded() {
        let sessions = Arc::new(ChunkSessions::default());
        let (one, two) = (ChunkId::from_bytes([1; 16]), ChunkId::from_bytes([2; 16]));
        let mut failed = sessions.guard();
        failed.add(one);
        assert!(sessions.is_writing(&one));
        drop(failed);
        let mut unknown = sessions.guard();
        unknown.add(two);
        unknown.proposing();
        drop(unknown);
        assert!(!sessions.is_writing(&one) && !sessions.is_writing(&two));
        assert_eq!(sessions.take_discarded(), vec![one]);
        assert!(sessions.take_discarded().is_empty());
    }
}
