//! Why a node does not start, in words for the person who started it.

use crate::BindError;
use floeberg_kv::KvError;
use floeberg_members::{ChangeError, Diverged, HomeError, RecoveryError};
use floeberg_metastore::OpenError;
use floeberg_pki::PkiError;
use floeberg_raftlog::LogError;
use floeberg_rpc::ServeError;
use floeberg_types::NodeId;
use floeberg_volume::VolumeError;
use std::io;
use std::path::PathBuf;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has the directory.
    #[error(
        "the data directory `{path}` is in use by another floeberg process: stop it or choose \
         another directory (`--data-dir`, or `data_dir` in the configuration)"
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
    /// A directory of the node is empty, or another one than when it last ran.
    #[error(
        "`{path}` is not the directory that this node had when it last ran. If a disk is not mounted, \
         mount it. If it is lost, the node cannot come back, because it would not keep what it has \
         promised to the others: empty all of its directories, and let the machine join as a new node \
         (`floeberg cluster join`, then `floeberg cluster replace`)"
    )]
    Lost {
        /// Which one.
        path: PathBuf,
    },
    /// The names that it has given out would change.
    #[error(
        "the data directory was made for account and region `{before}` and this start is for `{now}`: \
         every ARN would change; start with the ones from before, or use another data directory"
    )]
    Renamed {
        /// Account and region.
        before: String,
        /// Of this start.
        now: String,
    },
    /// The directory belongs to something else or is damaged.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// An order to go on alone cannot be followed.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// An order to go on alone, although others are there.
    #[error(
        "this node was ordered to go on alone, but node {others} answers. If a majority can run, \
         nothing is lost: remove `recover.json` from the data directory and start this node as usual. Only \
         if the majority is gone for good, stop every other node, wipe it, and start this one again"
    )]
    NotAlone {
        /// Who answers.
        others: String,
    },
    /// A backup was not put in to its end.
    #[error(
        "backup {backup} is only partly restored in this data directory: give `floeberg backup \
         restore` again, or empty the directory"
    )]
    Restoring {
        /// Its id.
        backup: String,
    },
    /// Its rows were found to be wrong.
    #[error(
        "this node has diverged: at entry {} of group {} its rows differed from those that a \
         majority agrees on, so it does not start on them again. Keep the data directory for \
         analysis, then wipe it and rejoin: `floeberg cluster join` in an empty directory, and \
         `floeberg cluster replace {node} --with` the new node. `diverged.json` has the digests; who \
         knows better removes that file",
        found.index, found.group
    )]
    Diverged {
        /// What was found.
        found: Diverged,
        /// This node.
        node: NodeId,
    },
    /// The members' rows.
    #[error("the members of the cluster cannot be read or changed")]
    Members(#[from] ChangeError),
    /// The data directory, while what was lost with other nodes is looked for.
    #[error("the objects that were lost cannot be listed")]
    Survey(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Certificates between nodes.
    #[error("the certificates of the node-to-node port cannot be used")]
    Certificates(#[from] PkiError),
    /// The certificate of the client ports.
    #[error("the certificate of the client ports cannot be used")]
    PortCertificate(#[source] PkiError),
    /// A port.
    #[error(transparent)]
    Port(#[from] BindError),
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
