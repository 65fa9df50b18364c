//! What a node needs to know before it starts. Values are checked here, so the rest of the node
//! never meets an invalid one.

use floeberg_auth::RootKey;
use floeberg_types::{AccountId, Region};
use std::net::SocketAddr;
use std::path::PathBuf;

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
    /// Size of a preallocated volume segment in bytes.
    pub segment_bytes: u64,
}

/// The addresses a node listens on; port 0 asks for a free port.
#[derive(Clone, Copy, Debug)]
pub struct ListenConfig {
    /// Iceberg REST, S3 Tables, health, metrics and console.
    pub lakehouse: SocketAddr,
    /// S3.
    pub s3: SocketAddr,
}
