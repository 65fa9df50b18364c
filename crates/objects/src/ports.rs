//! What object use cases need from the catalog: which buckets exist and which keys belong to tables.
//!
//! The crates are siblings that never see each other; `node` implements these traits over the
//! catalog. Both sides agree on one thing only: a bucket id is never reused.

use crate::errors::{BucketExists, NoSuchBucket, Outage};
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_env::Peer;
use floeberg_metastore::Cx;
use floeberg_types::{BucketId, BucketName, TimestampMs};
use futures::future::BoxFuture;
use std::fmt;

/// Whose rules a bucket follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketKind {
    /// Keys belong to tables, are written once, and only garbage collection removes them.
    Table,
    /// An ordinary S3 bucket.
    General,
}

/// A bucket as the catalog knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketInfo {
    /// Never reused, also not after deletion and creation under the same name.
    pub id: BucketId,
    /// The name clients use.
    pub name: BucketName,
    /// Whose rules it follows.
    pub kind: BucketKind,
    /// When it was created.
    pub created_at: TimestampMs,
    /// The deletion that runs, if one does. The deletions of a bucket are numbered upwards.
    pub deletion: Option<u64>,
}

/// How a deletion of a bucket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletionEnd {
    /// The bucket is gone.
    Removed,
    /// The bucket stays, and this deletion will never remove it.
    Aborted,
}

/// Why a general purpose bucket was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateBucketError {
    /// The name is taken; table buckets and general purpose buckets share one name space.
    #[error(transparent)]
    Exists(#[from] BucketExists),
    /// Storage or leadership failed.
    #[error(transparent)]
    Outage(#[from] Outage),
}

/// Why the deletion of a general purpose bucket was not begun.
#[derive(Debug, thiserror::Error)]
pub enum BeginDeleteError {
    /// It is already gone.
    #[error(transparent)]
    NoSuchBucket(#[from] NoSuchBucket),
    /// Storage or leadership failed.
    #[error(transparent)]
    Outage(#[from] Outage),
}

/// The buckets of the cluster.
#[async_trait]
pub trait Buckets: Send + Sync + 'static {
    /// The bucket of this name, of either kind.
    async fn find(&self, name: &BucketName) -> Result<Option<BucketInfo>, Outage>;
    /// The same as it was a short while ago, or since; it is answered while the catalog has no leader.
    async fn find_lately(&self, name: &BucketName) -> Result<Option<BucketInfo>, Outage>;
    /// Creates a general purpose bucket.
    async fn create(&self, cx: &Cx, name: BucketName) -> Result<BucketInfo, CreateBucketError>;
    /// Begins to delete a general purpose bucket, or joins the deletion that runs. Returns its number.
    async fn begin_delete(&self, cx: &Cx, bucket: &BucketInfo) -> Result<u64, BeginDeleteError>;
    /// Gives a deletion up, because the bucket holds objects. [`DeletionEnd::Removed`] if another
    /// worker has finished it before.
    async fn abort_delete(
        &self,
        cx: &Cx,
        bucket: &BucketInfo,
        deletion: u64,
    ) -> Result<DeletionEnd, Outage>;
    /// Removes a bucket that is fenced and empty. [`DeletionEnd::Aborted`] if another worker has
    /// given this deletion up before.
    async fn finish_delete(
        &self,
        cx: &Cx,
        bucket: &BucketInfo,
        deletion: u64,
    ) -> Result<DeletionEnd, Outage>;
    /// Every bucket of either kind, by name.
    async fn list(&self) -> Result<Vec<BucketInfo>, Outage>;
}

/// Where a key of a table bucket lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// Below the location of a live table.
    Live,
    /// Below the location of a table whose creation is not committed yet.
    Staged,
    /// Below the location of a dropped table.
    Dropped,
    /// Below no table's location.
    Outside,
}

/// Renders the bytes of a metadata file when they are needed, for whoever they count as held by.
pub type RenderMetadata = Box<dyn FnOnce(Peer) -> BoxFuture<'static, Result<Bytes, Outage>> + Send>;

/// What LIST and HEAD return of a metadata file that the catalog serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataEntry {
    /// The object key, relative to the bucket.
    pub key: String,
    /// Opaque entity tag without quotes; equal for ever for equal key.
    pub etag: String,
    /// Length in bytes.
    pub len: u64,
    /// When the version was committed.
    pub modified: TimestampMs,
}

/// A `metadata/*.metadata.json` that the catalog renders from its state.
pub struct MetadataFile {
    /// Its listing entry.
    pub entry: MetadataEntry,
    /// Renders exactly `entry.len` bytes.
    pub render: RenderMetadata,
}

impl fmt::Debug for MetadataFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.fmt(f)
    }
}

/// The tables of a table bucket, as far as object keys are concerned.
#[async_trait]
pub trait TableFiles: Send + Sync + 'static {
    /// Which table's location a key lies below.
    async fn locate(&self, bucket: BucketId, key: &str) -> Result<Location, Outage>;
    /// The metadata file the catalog serves under this key.
    async fn metadata_file(
        &self,
        bucket: BucketId,
        key: &str,
    ) -> Result<Option<MetadataFile>, Outage>;
    /// Metadata files whose key begins with `prefix` and is greater than `after`, in key order, at
    /// most `limit` of them; fewer than `limit` means there are no more.
    async fn metadata_files(
        &self,
        bucket: BucketId,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<MetadataEntry>, Outage>;
}
