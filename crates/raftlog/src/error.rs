//! How a Raft log fails, and what to do about it.

use floeberg_types::GroupId;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Why a call on a log failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// Acknowledged data is damaged or gone: the node halts.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// Records that do not continue the log; nothing was written.
    #[error(transparent)]
    NotContinuous(#[from] NotContinuous),
    /// An earlier failure stopped the store.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The disk or the storage engine answered an error.
    #[error(transparent)]
    Engine(#[from] EngineFailure),
}

/// What is damaged, and where if it can be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// The damaged group.
    pub group: Option<GroupId>,
    /// The damaged record, or the first that cannot be vouched for.
    pub index: Option<u64>,
    /// The finding.
    pub damage: Damage,
}

/// The ways a stored log can be found damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A record's bytes do not match its checksum.
    #[error("checksum mismatch")]
    Checksum,
    /// A record is too short, has an impossible header, or lies under another record's key.
    #[error("malformed record")]
    Malformed,
    /// A record was written by a format this program does not know.
    #[error("unknown record format {found}")]
    UnknownFormat {
        /// The format number found.
        found: u8,
    },
    /// A record is missing.
    #[error("record missing: the next one found is {found}")]
    Gap {
        /// The index found instead.
        found: u64,
    },
    /// A record does not follow the one before it: one of the two is from another history.
    #[error("record does not follow its predecessor")]
    ChainBroken,
    /// The stored vote is older than one that was acknowledged.
    #[error("vote lost: {found} votes found of at least {expected}")]
    VoteLost {
        /// Votes known to have been saved.
        expected: u64,
        /// Votes found.
        found: u64,
    },
    /// The store ends before a position that was acknowledged as durable.
    #[error("tail lost: store ends at sequence {found}, synced up to {expected}")]
    TailLost {
        /// Sequence number known to be durable.
        expected: u64,
        /// Sequence number found.
        found: u64,
    },
    /// The record of what is durable is missing or unreadable.
    #[error("sync marker `{file}` is missing or unreadable")]
    MarkerLost {
        /// The marker's path.
        file: String,
    },
    /// The database is missing although the marker says that it held data.
    #[error("log database is missing")]
    DatabaseLost,
    /// A write-ahead log or the manifest of the storage engine is damaged before its end.
    #[error("`{file}` is damaged at byte {offset}")]
    Journal {
        /// The file's path.
        file: String,
        /// Where the damaged record starts.
        offset: u64,
    },
    /// The storage engine found damage of its own.
    #[error("{detail}")]
    Engine {
        /// The engine's text.
        detail: String,
    },
}

impl Corrupt {
    pub(crate) fn record(group: GroupId, index: u64, damage: Damage) -> Self {
        Self {
            group: Some(group),
            index: Some(index),
            damage,
        }
    }

    pub(crate) fn store(damage: Damage) -> Self {
        Self {
            group: None,
            index: None,
            damage,
        }
    }

    /// What the operator should do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        "keep a copy of the log directory, then replace this node by a new one with an empty \
         data directory so that it catches up from its peers; a cluster of one node must be \
         restored from a backup"
    }
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("raft log is corrupt")?;
        if let Some(group) = self.group {
            write!(f, " in group {group}")?;
        }
        if let Some(index) = self.index {
            write!(f, " at index {index}")?;
        }
        write!(f, ": {}; {}", self.damage, self.advice())
    }
}

impl std::error::Error for Corrupt {}

/// Records that leave a gap to, or overlap, the log they were appended to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {found} of group {group} does not continue its log, which expects {expected}")]
pub struct NotContinuous {
    /// The group.
    pub group: GroupId,
    /// The index the log expects.
    pub expected: u64,
    /// The index offered.
    pub found: u64,
}

/// The store refuses work because an earlier write or sync failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("raft log stopped after an earlier failure: {cause}")]
pub struct Stopped {
    /// The first failure.
    pub cause: Arc<str>,
}

/// A failure as the disk or the storage engine words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("raft log failed: {detail}")]
pub struct EngineFailure {
    /// The text of the disk or engine.
    pub detail: Arc<str>,
}

impl LogError {
    pub(crate) fn stopped(cause: &Arc<str>) -> Self {
        Self::Stopped(Stopped {
            cause: cause.clone(),
        })
    }

    pub(crate) fn engine(error: &dyn fmt::Display) -> Self {
        Self::Engine(EngineFailure {
            detail: error.to_string().into(),
        })
    }

    pub(crate) fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::Corrupt(_) => io::ErrorKind::InvalidData,
            Self::NotContinuous(_) => io::ErrorKind::InvalidInput,
            Self::Stopped(_) | Self::Engine(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }
}

impl From<rocksdb::Error> for LogError {
    fn from(error: rocksdb::Error) -> Self {
        match error.kind() {
            rocksdb::ErrorKind::Corruption => Corrupt::store(Damage::Engine {
                detail: error.into_string(),
            })
            .into(),
            _ => Self::engine(&error),
        }
    }
}
