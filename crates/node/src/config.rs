//! What a node needs to know before it starts. Values are checked here, so the rest of the node
//! never meets an invalid one.

use floeberg_auth::RootKey;
use floeberg_members::FeatureLevels;
use floeberg_rpc::memory::MemNetwork;
use floeberg_types::{AccountId, GroupId, Region};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything a single node is started with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where the log, the state and the volumes live.
    pub data_dir: PathBuf,
    /// Owner of everything that the root principal creates.
    pub account: AccountId,
    /// The one region this cluster answers for.
    pub region: Region,
    /// The root key pair.
    pub root_key: RootKey,
    /// Where clients reach the S3 port, for example `http://127.0.0.1:9000`; handed out to engines.
    pub s3_endpoint: String,
    /// Where clients reach the lakehouse port, for example `http://127.0.0.1:8181`.
    pub lakehouse_endpoint: String,
    /// Domain of virtual-host style S3 requests, if any.
    pub s3_domain: Option<String>,
    /// Size of a preallocated volume segment in bytes; smaller on a small disk.
    pub segment_bytes: u64,
    /// Bounds on what clients may take.
    pub limits: ClientLimits,
    /// Whether there are others.
    pub cluster: ClusterPart,
}

/// A node's part in a cluster.
#[derive(Clone, Debug)]
pub enum ClusterPart {
    /// It is the whole cluster: it founds one in an empty data directory and never has peers.
    Single,
    /// It is one of several; its data directory was prepared by `cluster init` or `cluster join`.
    Member(Box<MemberConfig>),
}

/// What a member needs to know beyond a single node.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// Host and port where the other members reach it.
    pub address: String,
    /// What fails together with it, by name: `zone`, `rack`, `host`.
    pub labels: BTreeMap<String, String>,
    /// The log of all groups.
    pub log_dir: PathBuf,
    /// Object data.
    pub volume_dir: PathBuf,
    /// Bytes of the disk that object data may take; `None`: until the file system is full.
    pub volume_bytes: Option<u64>,
    /// Bytes per second of a snapshot on its way to another member.
    pub snapshot_bytes_per_second: u64,
    /// Timing of elections, the same on every member.
    pub elections: Elections,
    /// What the binary can work at: [`FeatureLevels::OF_THIS_BINARY`], or less to stand for an older one.
    pub features: FeatureLevels,
    /// How the members reach each other.
    pub network: PeerNetwork,
}

/// Timing of heartbeats and elections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elections {
    /// How often a leader confirms itself.
    pub heartbeat: Duration,
    /// Shortest silence after which a follower campaigns.
    pub min: Duration,
    /// Longest silence after which a follower campaigns.
    pub max: Duration,
}

/// How members reach each other.
#[derive(Clone)]
pub enum PeerNetwork {
    /// Mutual TLS with the certificates in the data directory.
    Tls {
        /// Where this node listens.
        listen: SocketAddr,
    },
    /// In memory, for the simulator.
    Memory(MemNetwork),
}

impl fmt::Debug for PeerNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls { listen } => write!(f, "Tls({listen})"),
            Self::Memory(_) => f.write_str("Memory"),
        }
    }
}

impl NodeConfig {
    /// The log of all groups.
    pub(crate) fn log_dir(&self) -> PathBuf {
        match &self.cluster {
            ClusterPart::Single => self.data_dir.join("raft"),
            ClusterPart::Member(member) => member.log_dir.clone(),
        }
    }

    /// Object data.
    pub(crate) fn volume_dir(&self) -> PathBuf {
        match &self.cluster {
            ClusterPart::Single => self.data_dir.join("volume"),
            ClusterPart::Member(member) => member.volume_dir.clone(),
        }
    }

    /// What is kept where.
    pub(crate) fn kept(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("log", self.log_dir()),
            ("rows", self.state_dir()),
            ("volume", self.volume_dir()),
        ]
    }

    /// The rows of all groups.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.data_dir.join("state")
    }

    /// Snapshots of a group on their way: on the file system of its rows.
    pub(crate) fn snapshots_dir(&self, group: GroupId) -> PathBuf {
        self.data_dir.join("snapshots").join(group.0.to_string())
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }
}

/// Bounds on what clients may take of a node, the same on both ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Open connections of one port; the next ones wait in the system's queue.
    pub connections: usize,
    /// How long a client may take to send the head of a request, and how long a connection may idle
    /// between two. Generous, because a connection that a client keeps in its pool must not be cut
    /// under it; it only has to end.
    pub head_time: Duration,
    /// How long a client may take for a TLS handshake.
    pub handshake_time: Duration,
    /// The largest request body on the lakehouse port.
    pub body_bytes: usize,
    /// The longest time in which no byte of a request body arrives.
    pub body_stall: Duration,
    /// How long an operation of the lakehouse port may take before its caller is told that the outcome
    /// is open.
    pub operation_time: Duration,
    /// How long connections are still taken after a stop was asked for, while `/readyz` says 503 and
    /// every answer ends its connection: load balancers look elsewhere before anything is refused.
    pub notice: Duration,
    /// How long open requests may finish after a stop was asked for.
    pub drain: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            head_time: Duration::from_secs(90),
            handshake_time: Duration::from_secs(10),
            body_bytes: floeberg_types::limits::REQUEST_BODY_BYTES,
            body_stall: Duration::from_secs(60),
            operation_time: Duration::from_secs(30),
            notice: Duration::ZERO,
            drain: Duration::from_secs(10),
        }
    }
}

/// The certificate of both client ports, in PEM files that are read again when they change.
#[derive(Clone, Debug)]
pub struct PortCertificate {
    /// The chain, the port's own first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The addresses a node listens on; port 0 asks for a free port.
#[derive(Clone, Copy, Debug)]
pub struct ListenConfig {
    /// Iceberg REST, S3 Tables, health, metrics and console.
    pub lakehouse: SocketAddr,
    /// S3.
    pub s3: SocketAddr,
}
