//! The state machine seam: what consensus hands over and what it asks for.

use crate::Term;
use bytes::Bytes;
use floeberg_types::NodeId;
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The place of an entry in a group's log; ordered by term, then node, then index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The term of the leader that proposed the entry.
    pub term: Term,
    /// The leader that proposed it.
    pub node: NodeId,
    /// Its position; the first entry of a group has index 0.
    pub index: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.{}", self.term, self.node, self.index)
    }
}

/// A committed entry, in log order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedEntry {
    /// Where the entry stands.
    pub id: EntryId,
    /// What it carries.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A leader's first entry in its term.
    Blank,
    /// A command as it was submitted.
    Command(Bytes),
    /// A membership, to be stored as it is and returned by [`StateMachine::applied`].
    Membership(Bytes),
}

/// How far a state machine has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last entry whose effects are in the state; `None` before the first.
    pub last: Option<EntryId>,
    /// The bytes of the last [`Payload::Membership`] applied.
    pub membership: Option<Bytes>,
}

/// The state machine could not apply a committed entry; the group stops for good.
#[derive(Debug, thiserror::Error)]
#[error("committed entry {at} cannot be applied")]
pub struct ApplyError {
    /// The entry at fault, or the first of the batch.
    pub at: EntryId,
    /// Why.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// A checkpoint failed; the group stops for good, because a failed flush leaves unknown bytes.
#[derive(Debug, thiserror::Error)]
#[error("state checkpoint failed")]
pub struct CheckpointError {
    /// Why.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// A received snapshot could not take the place of the state; the group stops for good.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The snapshot could not be read or put in place.
    #[error("snapshot install failed")]
    Failed {
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Makes everything applied so far durable while more is applied, and says what that is; runs on
/// a blocking thread.
pub type CheckpointJob = Box<dyn FnOnce() -> Result<Applied, CheckpointError> + Send>;

/// Makes a consistent, durable copy of the whole state in a directory that does not exist yet, and
/// says what the copy has applied: read from the copy itself, since entries may be applied
/// meanwhile. The copy is plain files, without directories. Runs on blocking threads, at any time,
/// several at once.
pub type Copier = Arc<dyn Fn(&Path) -> Result<Applied, CheckpointError> + Send + Sync>;

/// The replicated state of a group. Called from one task at a time.
///
/// Applied state need not be durable: after a restart [`applied`](Self::applied) reports what is
/// on disk, and the log is replayed from there. The log is never purged beyond what a
/// [`CheckpointJob`] made durable.
pub trait StateMachine: Send + 'static {
    /// How far the state has come; asked at start and after a snapshot was installed.
    fn applied(&self) -> Applied;

    /// Applies entries in order and atomically, and returns one response for each.
    ///
    /// Must be deterministic. An error is final for the group.
    fn apply(&mut self, entries: Vec<CommittedEntry>) -> Result<Vec<Bytes>, ApplyError>;

    /// Prepares a checkpoint: the returned job makes everything applied so far durable.
    fn checkpoint(&self) -> CheckpointJob;

    /// Makes copies for other nodes; asked for once, at start.
    fn copier(&self) -> Copier;

    /// Replaces the state by the copy in `dir`, which is complete, verified and durable; the
    /// directory may be moved away. The new state is durable when this returns, and a crash in
    /// the middle leaves the old state or the new one. Runs on a blocking thread.
    ///
    /// # Errors
    /// Final for the group.
    fn install(&mut self, dir: &Path) -> Result<Applied, InstallError>;
}
