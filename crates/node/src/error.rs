//! Why a node does not start, in words for the person who started it.

use crate::BindError;
use floeberg_kv::KvError;
use floeberg_members::{HomeError, RecoveryError};
use floeberg_metastore::OpenError;
use floeberg_pki::PkiError;
use floeberg_raftlog::LogError;
use floeberg_rpc::ServeError;
use floeberg_volume::VolumeError;
use std::io;
use std::path::PathBuf;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has the directory.
    #[error(
        "the data directory `{path}` is in use by another floeberg process: stop it or choose \
         another directory with `--data-dir`"
    )]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// The directory cannot be used.
    #[error("cannot use the data directory `{path}`")]
    DataDir {
        /// The directory or a part of it.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory belongs to something else or is damaged.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// An order to go on alone cannot be followed.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The order is there, and consensus has no way yet to drop the other voters.
    #[error(
        "`recover.json` in the data directory orders this node to go on alone, which this version \
         cannot carry out; remove the file, and bring a majority of the members back instead"
    )]
    RecoveryUnsupported,
    /// Certificates between nodes.
    #[error("the certificates of the node-to-node port cannot be used")]
    Certificates(#[from] PkiError),
    /// The certificate of the client ports.
    #[error("the certificate of the client ports cannot be used")]
    PortCertificate(#[source] PkiError),
    /// The node-to-node port.
    #[error(transparent)]
    PeerPort(#[from] BindError),
    /// The node-to-node port.
    #[error(transparent)]
    Peers(#[from] ServeError),
    /// The Raft log cannot be opened.
    #[error("the Raft log cannot be opened")]
    Log(#[from] LogError),
    /// Rows cannot be opened.
    #[error("the state cannot be opened")]
    Rows(#[from] KvError),
    /// A group cannot recover.
    #[error(transparent)]
    Group(#[from] OpenError),
    /// The volume cannot be opened.
    #[error("the volume cannot be opened")]
    Volume(#[from] VolumeError),
    /// The runtime is shutting down.
    #[error("the process is stopping")]
    Stopping,
}
