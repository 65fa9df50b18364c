//! What a node says of itself.

use serde::Serialize;
use std::pin::Pin;
use std::sync::Arc;

/// Whether a node takes work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready {
        /// What is wrong all the same, in words.
        warnings: Vec<String>,
    },
    /// Reads, deletes and commits to tables, but no new data.
    ReadsOnly {
        /// Why, and what to do about it, in words.
        why: String,
    },
    /// Not yet, or not any more.
    NotReady {
        /// What has to happen first, in words.
        waiting_for: String,
    },
}

/// A node's part in a Raft group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupRole {
    /// Decides.
    Leader,
    /// Follows a leader or looks for one.
    Follower,
}

/// One Raft group as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct GroupStatus {
    /// The group's number.
    pub group: u32,
    /// This node's part in it.
    pub role: GroupRole,
    /// The current term.
    pub term: u64,
    /// Whether a leader is known; on the leader, whether it has applied the first entry of its term.
    pub ready: bool,
    /// The term of the last entry in the log here, if it is known.
    pub last_term: Option<u64>,
    /// The last entry in the log here.
    pub last_index: Option<u64>,
    /// The last entry applied here.
    pub applied: Option<u64>,
    /// Nodes whose rows are known to differ from those here; must be empty.
    pub diverged: Vec<u64>,
}

/// The body of `GET /admin/v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodeStatus {
    /// The product's version.
    pub version: String,
    /// The cluster's id.
    pub cluster: String,
    /// The node's number.
    pub node: u64,
    /// The cluster's region.
    pub region: String,
    /// The account that owns the cluster.
    pub account: String,
    /// When the node started, in milliseconds since 1970.
    pub started_at_ms: i64,
    /// Raft groups on this node.
    pub groups: Vec<GroupStatus>,
}

/// Questions the routes ask the running node.
#[derive(Clone)]
pub struct Probes {
    /// Whether it takes work.
    pub readiness: Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Readiness> + Send>> + Send + Sync>,
    /// What it says of itself.
    pub status: Arc<dyn Fn() -> NodeStatus + Send + Sync>,
}

/// Addresses that the landing page shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Base address of the Iceberg REST catalog, as clients reach it.
    pub iceberg: String,
    /// Address of the S3 Tables API.
    pub s3tables: String,
    /// Address of the S3 listener.
    pub s3: String,
    /// The cluster's region.
    pub region: String,
    /// The product's version.
    pub version: String,
    /// Where the documentation is.
    pub docs: String,
}
