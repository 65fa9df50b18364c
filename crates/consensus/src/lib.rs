//! Raft for one group: propose commands, read linearizably, follow leadership.
//!
//! This is the only crate that knows the consensus library. Upper layers see a [`RaftGroup`]
//! handle and implement [`StateMachine`]; commands, responses and memberships are opaque bytes to
//! them or to us. Every stored byte is a message of `proto/floeberg/raft/v1`, so the library's own
//! types may change between versions.
//!
//! Reads use ReadIndex and never the leader's lease: a restarted follower forgets the lease it
//! granted, so a lease could serve a stale read.
//!
//! A failure of the log or the state machine is final for a group. It is reported once through
//! [`GroupHooks::on_fatal`]; the process is expected to abort and come back through recovery.

mod apply;
mod barrier;
mod codec;
mod config;
#[cfg(test)]
mod conformance;
mod group;
mod leadership;
mod log;
mod machine;
mod network;
mod raft;
mod ring;
mod snapshot;
mod submit;
#[cfg(test)]
mod testing;

pub use config::{ConfigInvalid, GroupConfig};
pub use group::{GroupHooks, GroupStartError, GroupStatus, OnFatal, RaftGroup};
pub use leadership::Leadership;
pub use machine::{
    Applied, ApplyError, CheckpointError, CheckpointJob, CommittedEntry, EntryId, InstallError,
    Payload, SnapshotHandle, StateMachine,
};
pub use submit::{Pending, Permit, ProposeError};

/// A period with at most one leader per group; grows with every election.
pub type Term = u64;

/// A committed read was not possible: no leader is known, or it could not prove that it still
/// leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("group {group} has no leader that can serve a linearizable read here")]
pub struct NoLeader {
    /// The group that was asked.
    pub group: floeberg_types::GroupId,
}
