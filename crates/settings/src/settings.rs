//! What a configuration says, once it is known to be usable.

use floeberg_types::{AccountId, Region};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything a node of a cluster is started with, except its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The account that owns what the root principal creates.
    pub account: AccountId,
    /// The one region the cluster answers for.
    pub region: Region,
    /// Where bytes are kept.
    pub data: DataDirs,
    /// How nodes reach each other.
    pub peer: PeerPort,
    /// Iceberg REST, S3 Tables, admin, health and metrics.
    pub lakehouse: ClientPort,
    /// S3.
    pub s3: ClientPort,
    /// Domain of virtual-host style S3 requests.
    pub s3_domain: Option<String>,
    /// Whether clients speak TLS.
    pub tls: ClientTls,
    /// The file with the root key pair; without one it comes from the environment.
    pub keys_file: Option<PathBuf>,
    /// Where the node stands.
    pub labels: Labels,
    /// Bounds.
    pub limits: Limits,
    /// Timing of elections.
    pub consensus: ConsensusTiming,
    /// Log lines.
    pub log: Log,
}

/// Where bytes are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDirs {
    /// Identity, certificates and the state of every group.
    pub dir: PathBuf,
    /// The log of all groups: every commit waits for a sync of this disk.
    pub log_dir: PathBuf,
    /// Object data.
    pub volume_dir: PathBuf,
}

/// How nodes reach each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPort {
    /// Where this node listens.
    pub listen: SocketAddr,
    /// Host and port under which the others reach it.
    pub advertise: String,
    /// Host and port of members that a joining node asks.
    pub seeds: Vec<String>,
}

/// A port for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPort {
    /// Where this node listens.
    pub listen: SocketAddr,
    /// The address that is handed out to clients, without a slash at its end.
    pub endpoint: String,
}

/// Whether clients speak TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientTls {
    /// They do; both files are read again when they change.
    Files {
        /// Certificate chain, PEM.
        cert: PathBuf,
        /// Private key, PEM.
        key: PathBuf,
    },
    /// They do not, by an explicit setting.
    Plain,
}

/// Where a node stands: what fails together has equal labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// Building or power domain.
    pub zone: Option<String>,
    /// Rack.
    pub rack: Option<String>,
    /// The machine, if several nodes share one.
    pub host: Option<String>,
}

impl Labels {
    /// The labels that are set, by name.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let all = [
            ("zone", &self.zone),
            ("rack", &self.rack),
            ("host", &self.host),
        ];
        all.into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)))
            .collect()
    }
}

/// Bounds on requests, disk and network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest body of a request on the lakehouse port, in bytes.
    pub body_bytes: u64,
    /// The longest time in which no byte of a body arrives.
    pub body_stall: Duration,
    /// How long an operation may take before its caller is told that the outcome is open.
    pub operation_time: Duration,
    /// How long a node that is asked to stop still takes connections, while it says it is not ready.
    pub notice: Duration,
    /// How long open requests may finish after a stop was asked for.
    pub drain: Duration,
    /// Size of a preallocated volume segment in bytes.
    pub segment_bytes: u64,
    /// Bytes of the disk that object data may take; `None`: until the file system is full.
    pub volume_bytes: Option<u64>,
    /// Bytes per second of a snapshot on its way to another node.
    pub snapshot_bytes_per_second: u64,
}

/// Timing of heartbeats and elections; the same on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsensusTiming {
    /// How often a leader confirms itself.
    pub heartbeat: Duration,
    /// Shortest silence after which a follower campaigns.
    pub election_min: Duration,
    /// Longest silence after which a follower campaigns.
    pub election_max: Duration,
}

/// Log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Which ones, in the syntax of `RUST_LOG`.
    pub filter: String,
    /// For whom.
    pub style: LogStyle,
}

/// For whom log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStyle {
    /// People.
    Text,
    /// Collectors.
    Json,
}
