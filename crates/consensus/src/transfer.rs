//! Snapshots on their way from a leader to a node whose log cannot be continued any more.
//!
//! The leader makes a fresh copy of its state in a directory ([`outgoing`]) and pushes its files
//! piece by piece ([`send`]); the receiver keeps them aside until all are verified and durable
//! ([`incoming`]) and then lets the state machine swap them in. Neither side holds up commits:
//! making the copy, sending and receiving run beside the apply loop, and only the swap is in it.

pub(crate) mod files;
pub(crate) mod incoming;
pub(crate) mod outgoing;
pub(crate) mod send;
pub(crate) mod staging;

use crate::machine::Applied;
use outgoing::Outgoing;
use std::path::PathBuf;

/// One piece of a file.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// What the library hands around as a snapshot.
#[derive(Clone)]
pub(crate) enum SnapshotData {
    /// This node's state; a copy is made when one is needed.
    Here(Outgoing),
    /// A verified copy of another node's state.
    Received {
        /// Where its files are.
        dir: PathBuf,
        /// What it has applied.
        applied: Applied,
    },
}
