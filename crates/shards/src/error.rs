//! What can go wrong, one enum per operation.

use floeberg_placement::NotWritable;
use floeberg_types::{ChunkId, NodeId};
use std::fmt::Write as _;
use std::ops::Range;

/// Why one copy of a chunk was not stored or not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// No answer, or one that makes no sense.
    #[error("{reason}")]
    Unreachable {
        /// What happened.
        reason: String,
    },
    /// It failed a moment ago and was not waited for.
    #[error("it failed a moment ago and was not waited for")]
    Suspect,
    /// It could not keep up with the others.
    #[error("it fell too far behind")]
    FellBehind,
    /// The writer went away.
    #[error("the write was given up")]
    GivenUp,
    /// Its disk has no room.
    #[error("its disk is full: {message}")]
    DiskFull {
        /// What the disk says.
        message: String,
    },
    /// Under its newer placement map the chunk belongs elsewhere.
    #[error("the placement map has changed: {message}")]
    StaleMap {
        /// What the node says.
        message: String,
    },
    /// It has no copy.
    #[error("it has no copy")]
    Absent,
    /// Its copy is damaged.
    #[error("its copy is damaged: {message}")]
    Damaged {
        /// What is damaged.
        message: String,
    },
    /// The range ends beyond the chunk.
    #[error("the range lies outside the chunk of {len} bytes")]
    OutOfRange {
        /// Length of the chunk.
        len: u64,
    },
    /// Its disk or index failed, or it refused.
    #[error("{message}")]
    Failed {
        /// What happened.
        message: String,
    },
}

impl CopyError {
    pub(crate) fn failed(cause: impl ToString) -> Self {
        Self::Failed {
            message: cause.to_string(),
        }
    }
}

fn list(failures: &[(NodeId, CopyError)]) -> String {
    let mut out = String::new();
    for (node, error) in failures {
        // Writing into a string cannot fail.
        let _ = write!(out, "; node {node}: {error}");
    }
    out
}

/// Why a chunk was not stored. Some of its copies may exist until they are deleted.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The local volume refused, and nothing else was asked.
    #[error(transparent)]
    Volume(#[from] floeberg_volume::WriteError),
    /// The profile of the cluster cannot be written.
    #[error(transparent)]
    Profile(#[from] NotWritable),
    /// More bytes than announced or than a chunk may hold.
    #[error("the chunk grew beyond {limit} bytes")]
    TooLong {
        /// The limit.
        limit: u64,
    },
    /// Fewer bytes than announced.
    #[error("the chunk has {received} bytes instead of the announced {announced}")]
    TooShort {
        /// Announced length.
        announced: u64,
        /// Received length.
        received: u64,
    },
    /// Too few copies became durable.
    #[error(
        "{acked} of the {needed} copies a chunk needs were stored{}; write again once enough nodes \
         are up", list(.failures)
    )]
    NotEnough {
        /// Copies that are durable.
        acked: usize,
        /// Copies that have to be.
        needed: usize,
        /// What happened to the others.
        failures: Vec<(NodeId, CopyError)>,
    },
}

impl WriteError {
    /// Whether room on disks is what is missing. Where another try may find enough nodes that failed
    /// otherwise, it is not.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Volume(floeberg_volume::WriteError::DiskFull(_)) => true,
            Self::NotEnough {
                acked,
                needed,
                failures,
            } => {
                let is_full =
                    |(_, error): &&(NodeId, CopyError)| matches!(error, CopyError::DiskFull { .. });
                let full = failures.iter().filter(is_full).count();
                full > 0 && acked + failures.len() - full < *needed
            }
            _ => false,
        }
    }
}

/// Why bytes were not read. No byte of a damaged block is ever returned.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The local volume refused, and there is no other copy.
    #[error(transparent)]
    Volume(#[from] floeberg_volume::ReadError),
    /// Every node that could have it says that it does not.
    #[error("chunk {chunk} does not exist")]
    NotFound {
        /// The chunk.
        chunk: ChunkId,
    },
    /// The range ends beyond the chunk.
    #[error("range {range:?} lies outside the chunk of {len} bytes")]
    OutOfRange {
        /// Requested range.
        range: Range<u64>,
        /// Length of the chunk.
        len: u64,
    },
    /// No node gave the bytes, and not all of them say that they have none.
    #[error("chunk {chunk} cannot be read at the moment{}", list(.failures))]
    Unavailable {
        /// The chunk.
        chunk: ChunkId,
        /// What each node said.
        failures: Vec<(NodeId, CopyError)>,
    },
}

/// Why the local copies were not deleted durably.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DeleteError(#[from] pub floeberg_volume::DeleteError);

/// Why a node did not say what it stores.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {node}: {error}")]
pub struct StatError {
    /// The node.
    pub node: NodeId,
    /// What happened.
    pub error: CopyError,
}

/// Why a chunk was not repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Every node says that it has no copy: the chunk was deleted, or never stored.
    #[error("chunk {chunk} does not exist")]
    NotFound {
        /// The chunk.
        chunk: ChunkId,
    },
    /// No healthy copy can be reached at the moment.
    #[error("no healthy copy of chunk {chunk} can be reached{}", list(.failures))]
    NoSource {
        /// The chunk.
        chunk: ChunkId,
        /// What each node said.
        failures: Vec<(NodeId, CopyError)>,
    },
    /// Copies that are healthy in themselves differ; nothing was changed.
    #[error("the copies of chunk {chunk} on the nodes {nodes:?} differ: compare them by hand")]
    Differ {
        /// The chunk.
        chunk: ChunkId,
        /// Nodes with a copy.
        nodes: Vec<NodeId>,
    },
    /// The healthy copy could not be read to its end.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The profile cannot be written.
    #[error(transparent)]
    Profile(#[from] NotWritable),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_to_blame_only_if_no_other_node_could_take_the_copy() {
        let full = || CopyError::DiskFull {
            message: "full".into(),
        };
        let missing = |acked, failures: Vec<CopyError>| {
            let failures = (2..).map(NodeId).zip(failures).collect();
            let needed = 2;
            let error = WriteError::NotEnough {
                acked,
                needed,
                failures,
            };
            error.is_disk_full()
        };
        assert!(missing(1, vec![full(), full()]));
        assert!(missing(0, vec![full(), full(), CopyError::GivenUp]));
        assert!(!missing(1, vec![full(), CopyError::GivenUp]));
        assert!(!missing(0, vec![]));
    }
}
