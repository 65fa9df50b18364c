//! A running cluster, as a backup sees it.

use async_trait::async_trait;
use bytes::Bytes;
use floeberg_client::ClientError;
use floeberg_types::{ChunkId, GroupId};
use serde::{Deserialize, Serialize};

/// Where a group was when its rows were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Point {
    /// The group.
    pub group: u32,
    /// The last log entry that the rows include.
    pub index: u64,
    /// What rows of the group may rely on.
    pub feature_level: u32,
}

/// What a backup is of, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Origin {
    /// Names the backup, and what is kept of it on the node that began it.
    pub backup: String,
    /// The cluster.
    pub cluster: String,
    /// Its region, which is in every ARN.
    pub region: String,
    /// Its account, which is in every ARN.
    pub account: String,
    /// The version of the node.
    pub version: String,
    /// When its rows were fixed, in milliseconds since 1970.
    pub at_ms: i64,
}

/// What a source says of itself when a backup begins. Its rows are fixed from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Begun {
    /// What the backup will be of.
    #[serde(flatten)]
    pub origin: Origin,
    /// Each group in the order in which it was read.
    pub points: Vec<Point>,
}

/// Why a source did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The backup is not known on this node: it was begun on another, or nobody asked for too long.
    #[error("this node does not know the backup, or has given it up: begin again, with one node")]
    Unknown,
    /// Pages are given out in order, the last one again if need be.
    #[error("page {asked} is not the next one, {next}")]
    OutOfOrder {
        /// Asked for.
        asked: u64,
        /// What can be had.
        next: u64,
    },
    /// No copy of the chunk is to be had.
    #[error("chunk {chunk} cannot be read: {reason}")]
    Chunk {
        /// The chunk.
        chunk: ChunkId,
        /// Why.
        reason: String,
    },
    /// Not enough nodes answer.
    #[error("the cluster cannot be read at the moment: {0}")]
    Unavailable(String),
    /// It is far away, and the way there or its answer is not as it should be.
    #[error(transparent)]
    Remote(#[from] ClientError),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// A running cluster.
#[async_trait]
pub trait Source: Send + Sync {
    /// Fixes the rows of every group, the catalog's first.
    ///
    /// # Errors
    /// The cluster cannot be read.
    async fn begin(&self) -> Result<Begun, SourceError>;

    /// Page `number` of a group's rows, an encoded [`Page`](crate::Page); from 0 on, in order.
    ///
    /// # Errors
    /// See [`SourceError`].
    async fn page(&self, backup: &str, group: GroupId, number: u64) -> Result<Bytes, SourceError>;

    /// The whole chunk.
    ///
    /// # Errors
    /// See [`SourceError`].
    async fn chunk(&self, chunk: ChunkId, len: u64) -> Result<Bytes, SourceError>;
}
