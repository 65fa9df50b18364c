//! What a node needs to know before it starts. Values are checked here, so the rest of the node
//! never meets an invalid one.

use floeberg_auth::RootKey;
use floeberg_types::{AccountId, Region};
use std::net::SocketAddr;
use std::path::PathBuf;
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
    /// The longest time in which no byte of a request body arrives.
    pub body_stall: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            head_time: Duration::from_secs(90),
            body_stall: Duration::from_secs(60),
        }
    }
}

/// The addresses a node listens on; port 0 asks for a free port.
#[derive(Clone, Copy, Debug)]
pub struct ListenConfig {
    /// Iceberg REST, S3 Tables, health, metrics and console.
    pub lakehouse: SocketAddr,
    /// S3.
    pub s3: SocketAddr,
}
