//! The consensus library's type parameters, and short names for the types they lead to.

use crate::submit::Reply;
use bytes::Bytes;
use openraft::OptionalSend;
use openraft::alias::{EntryOf, LogIdOf, StoredMembershipOf, VoteOf};
use openraft::impls::{BasicNode, BoxedErrorSource, InlineBatch, TokioRuntime};
use openraft_rt::deterministic_rng::DeterministicRng;
use std::fmt;

/// Tokio, with the library's randomness drawn from a seed of the environment.
///
/// The seed lives in a task local that every task inherits from the one that spawned it, so the
/// group has to be built inside [`DeterministicRng::scope`].
pub(crate) type Runtime = DeterministicRng<TokioRuntime>;

/// A command as it was submitted.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command(pub(crate) Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} bytes)", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The library's parameters; all of them ours where stored or answered, its own otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

// Written out because the library's macro cannot set the responder.
impl openraft::RaftTypeConfig for TypeConfig {
    type D = Command;
    type R = Bytes;
    type NodeId = u64;
    type Node = BasicNode;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = openraft::Vote<LeaderId>;
    type Payload = Payload;
    type Entry = openraft::Entry<LeaderId, Payload>;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = Reply<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// What a leader of a term is known by in the log: term and node.
pub(crate) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
pub(crate) type Entry = EntryOf<TypeConfig>;
pub(crate) type Payload = openraft::EntryPayload<Command, u64, BasicNode>;
pub(crate) type LogId = LogIdOf<TypeConfig>;
pub(crate) type Vote = VoteOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, BasicNode>;
pub(crate) type StoredMembership = StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<TypeConfig, crate::transfer::SnapshotData>;
pub(crate) type Metrics = openraft::RaftMetrics<TypeConfig>;
pub(crate) type WriteResult = openraft::raft::ClientWriteResult<TypeConfig>;
pub(crate) type Raft = openraft::Raft<TypeConfig, crate::apply::Machine>;
