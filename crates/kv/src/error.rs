//! How a key-value store fails.

use std::path::PathBuf;

/// A failure as the storage engine words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct EngineError {
    /// The engine's own text.
    pub detail: String,
}

/// Why a call on a store failed. Only `CheckpointRefused` leaves the store usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// Stored bytes do not match their checksum; restore the replica from its peers.
    #[error("key-value store is corrupt")]
    Corrupt(#[source] EngineError),
    /// The disk has no room left.
    #[error("no space left for the key-value store")]
    NoSpace(#[source] EngineError),
    /// The disk or the engine answered an error.
    #[error("key-value store failed")]
    Engine(#[source] EngineError),
    /// An earlier write or sync failed, so what is durable is unknown; restart the process.
    #[error("key-value store stopped after an earlier failure")]
    Stopped,
    /// The copy could not be made.
    #[error("checkpoint in `{dir}` refused", dir = dir.display())]
    CheckpointRefused {
        /// Where the copy should go.
        dir: PathBuf,
        /// Why not.
        #[source]
        reason: EngineError,
    },
}

impl From<rocksdb::Error> for KvError {
    fn from(error: rocksdb::Error) -> Self {
        let kind = error.kind();
        let detail = error.into_string();
        // RocksDB's C interface gives the sub-status only inside the text.
        let no_space = detail.contains("No space left on device");
        match kind {
            rocksdb::ErrorKind::Corruption => Self::Corrupt(EngineError { detail }),
            _ if no_space => Self::NoSpace(EngineError { detail }),
            _ => Self::Engine(EngineError { detail }),
        }
    }
}
