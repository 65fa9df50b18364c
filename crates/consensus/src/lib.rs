//! Raft for one group: propose commands, read linearizably, follow leadership.
//!
//! This is the only crate that knows the consensus library. Upper layers see a [`RaftGroup`]
//! handle and implement [`StateMachine`]; commands, responses and memberships are opaque bytes to
//! them or to us. Every stored byte is a message of `proto/floeberg/raft/v1`, so the library's own
//! types may change between versions.
//!
//! Reads use ReadIndex and never the leader's lease: a restarted follower forgets the lease it
//! granted, so a lease could serve a stale read. Other nodes are reached through a
//! [`Transport`](floeberg_rpc::Transport), and call in through [`RaftService`].
//!
//! A failure of the log or the state machine is final for a group. It is reported once through
//! [`GroupHooks::on_fatal`]; the process is expected to abort and come back through recovery.

mod apply;
mod barrier;
mod budget;
mod catch_up;
#[cfg(test)]
mod cluster_tests;
mod codec;
mod config;
#[cfg(test)]
mod conformance;
mod going;
mod group;
mod leadership;
mod log;
mod machine;
mod mark;
mod members;
mod network;
mod raft;
mod reach;
mod recovery;
mod retention;
mod ring;
mod service;
mod skew;
mod snapshot;
mod standing;
mod start;
mod submit;
mod survivor;
mod synced;
#[cfg(test)]
mod testing;
mod transfer;
mod unsendable;
mod wire;

pub use barrier::ReadPoint;
pub use budget::{CommandBudget, Held, NoRoom, Permit};
pub use catch_up::{CatchUp, Progress};
pub use config::{ConfigInvalid, GroupConfig};
pub use group::{GroupStatus, RaftGroup};
pub use leadership::{Leader, Leadership};
pub use machine::{
    Applied, ApplyError, CheckpointError, CheckpointJob, CommittedEntry, Copier, EntryId,
    InstallError, Payload, StateMachine,
};
pub use mark::{AckMark, Witness};
pub use members::{ChangeError, Member, Members, Role};
pub use network::NoPeers;
pub use service::RaftService;
pub use skew::{SKEW_MAX_MS, certainly_ahead, median_ms};
pub use standing::{Barred, Footing, Forgot, Standing};
pub use start::{Begin, GroupHooks, GroupParts, GroupStartError, OnFatal};
pub use submit::{CommandTooLarge, Pending, ProposeError, SizedCommand};
pub use transfer::outgoing::SnapshotProgress;

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
