//! What can go wrong with an object, one struct per outcome and one enum per operation.
//!
//! No status code appears here: the S3 adapter owns the mapping.

use crate::body::BodyError;
use crate::ports::BeginDeleteError;
use floeberg_kv::KvError;
use floeberg_metastore::{CommandTooLarge, Crowded, StoreError};
use floeberg_shards::{CopyError as ChunkCopyError, DeleteError as ChunkDeleteError};
use floeberg_shards::{ReadError, WriteError};
use floeberg_state::keys::MalformedKey;
use floeberg_types::{BucketName, ChecksumAlgorithm, TimestampMs};
use thiserror::Error;

/// The replicated index or the disks could not serve a request.
#[derive(Debug, Error)]
pub enum Outage {
    /// Nothing was proposed; the client may simply try again.
    #[error("not enough nodes accept work at the moment; try again")]
    Unavailable,
    /// Other changes have taken all room, and nothing was proposed; the client may try again.
    #[error(transparent)]
    Crowded(Crowded),
    /// The request may or may not have taken effect, and may still take effect later.
    #[error("the outcome of the request is unknown")]
    Indefinite,
    /// The change does not fit into one entry of the log. Nothing of it is applied.
    #[error(transparent)]
    TooLarge(CommandTooLarge),
    /// The disks have no room for more chunks; nothing was written.
    #[error("the disks are full")]
    DiskFull,
    /// Stored bytes could not be read or written.
    #[error("storage failed")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Outage {
    /// Wraps a failure of the storage below.
    pub fn storage(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Storage(source.into())
    }
}

macro_rules! storage_failures {
    ($($error:ty),*) => {$(
        impl From<$error> for Outage {
            fn from(error: $error) -> Self {
                Self::storage(error)
            }
        }
    )*};
}

storage_failures!(MalformedKey, KvError, ChunkDeleteError);

impl From<StoreError> for Outage {
    fn from(error: StoreError) -> Self {
        match error {
            // Nothing is wrong with the rows; the request took too long.
            StoreError::Expired => Self::Unavailable,
            error => Self::storage(error),
        }
    }
}

/// Clients learn no more than that they may try again, so the log says which nodes were missing.
fn unavailable(error: &dyn std::error::Error) -> Outage {
    tracing::info!(%error, "too few nodes took part");
    Outage::Unavailable
}

impl From<WriteError> for Outage {
    fn from(error: WriteError) -> Self {
        match error {
            full if full.is_disk_full() => Self::DiskFull,
            WriteError::NotEnough { .. } => unavailable(&error),
            other => Self::storage(other),
        }
    }
}

impl From<ReadError> for Outage {
    fn from(error: ReadError) -> Self {
        let away = |error: &ChunkCopyError| {
            matches!(
                error,
                ChunkCopyError::Unreachable { .. } | ChunkCopyError::Suspect
            )
        };
        match &error {
            // If every copy was looked at and none is good, trying again is of no use.
            ReadError::Unavailable { failures, .. } if failures.iter().any(|(_, e)| away(e)) => {
                unavailable(&error)
            }
            _ => Self::storage(error),
        }
    }
}

/// No bucket has this name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("bucket `{bucket}` does not exist")]
pub struct NoSuchBucket {
    /// The name asked for.
    pub bucket: BucketName,
}

/// A bucket of either kind already has this name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("bucket `{bucket}` already exists")]
pub struct BucketExists {
    /// The name asked for.
    pub bucket: BucketName,
}

/// Objects stand in the way of deleting a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("bucket `{bucket}` is not empty")]
pub struct BucketNotEmpty {
    /// The bucket.
    pub bucket: BucketName,
}

/// Table buckets are created and deleted through the S3 Tables API.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{bucket}` is a table bucket: delete it through the S3 Tables API")]
pub struct TableBucketProtected {
    /// The bucket.
    pub bucket: BucketName,
}

/// The bucket is being deleted and takes no new object.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("bucket `{bucket}` is being deleted")]
pub struct BucketFenced {
    /// The bucket.
    pub bucket: BucketName,
}

/// No object has this key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("key `{key}` does not exist")]
pub struct NoSuchKey {
    /// The key asked for.
    pub key: String,
}

/// Objects have one version, named `null`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("version `{version}` does not exist: the bucket is not versioned")]
pub struct NoSuchVersion {
    /// The version asked for.
    pub version: String,
}

/// A condition of the request does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the precondition {condition} does not hold")]
pub struct PreconditionFailed {
    /// The header's name.
    pub condition: &'static str,
}

/// The client's copy is current.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the object was not modified")]
pub struct NotModified {
    /// Its entity tag.
    pub etag: String,
    /// When it was written.
    pub modified: TimestampMs,
}

/// The range lies outside the object.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the range lies outside the object of {size} bytes")]
pub struct RangeNotSatisfiable {
    /// The object's size.
    pub size: u64,
}

/// The object has fewer parts.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("part {number} does not exist: the object has {parts}")]
pub struct NoSuchPart {
    /// The part asked for.
    pub number: u32,
    /// How many there are.
    pub parts: u32,
}

/// The bytes received differ from the checksum that came with them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the {what} sent does not match the bytes received")]
pub struct BadDigest {
    /// `Content-MD5` or the checksum's name.
    pub what: &'static str,
}

/// A trailer that the request announced did not arrive or is malformed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the trailer with the {algorithm} checksum is missing or malformed")]
pub struct BadTrailer {
    /// What was announced.
    pub algorithm: ChecksumAlgorithm,
}

/// The key does not belong to a table.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{key}` lies below no table of bucket `{bucket}`: write below the location of a live or \
     staged table"
)]
pub struct OutsideTables {
    /// The table bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: String,
}

/// A table's files are written once.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{key}` already holds other bytes, and the files of a table are written once")]
pub struct WrittenOnce {
    /// The key.
    pub key: String,
}

/// The catalog serves this key itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{key}` is a metadata file of the catalog and cannot be replaced")]
pub struct CatalogFile {
    /// The key.
    pub key: String,
}

/// No upload has this id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("multipart upload `{upload}` does not exist or has ended")]
pub struct NoSuchUpload {
    /// The id asked for.
    pub upload: String,
}

/// Parts are numbered from 1 to 10,000.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("part number {number} is not between 1 and 10000")]
pub struct BadPartNumber {
    /// What was given.
    pub number: i64,
}

/// A part named in the completion was not uploaded or differs.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("part {number} was not uploaded, or its entity tag or checksum differs")]
pub struct InvalidPart {
    /// The part.
    pub number: u32,
}

/// The parts of a completion must ascend.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the parts are not in ascending order at part {number}")]
pub struct InvalidPartOrder {
    /// The first part out of order.
    pub number: u32,
}

/// A completion names at least one part.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the list of parts is empty")]
pub struct NoParts;

/// Every part but the last has a minimum size.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("part {number} has {size} bytes, and every part but the last needs {minimum}")]
pub struct EntityTooSmall {
    /// The part.
    pub number: u32,
    /// Its size.
    pub size: u64,
    /// The minimum.
    pub minimum: u64,
}

/// An object has a maximum size.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{size} bytes exceed the maximum of {maximum}: send the object in smaller parts, or as several"
)]
pub struct EntityTooLarge {
    /// What was sent or announced.
    pub size: u64,
    /// The maximum.
    pub maximum: u64,
}

/// The client expected another size of the completed object.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the parts add up to {actual} bytes and not to {expected}")]
pub struct SizeMismatch {
    /// What the client expected.
    pub expected: u64,
    /// What was uploaded.
    pub actual: u64,
}

/// A checksum algorithm cannot be of this kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{algorithm} checksums cannot be {kind}")]
pub struct ChecksumKindUnsupported {
    /// The algorithm.
    pub algorithm: ChecksumAlgorithm,
    /// `COMPOSITE` or `FULL_OBJECT`.
    pub kind: &'static str,
}

/// An object cannot be copied onto itself without a change.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "this copy request is illegal because it copies an object to itself without changing its \
     metadata"
)]
pub struct CopyToItself;

/// A copy in one request has a maximum size.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the copy source has {size} bytes, more than the {maximum} of one request: copy in parts")]
pub struct CopySourceTooLarge {
    /// Size of the source.
    pub size: u64,
    /// The maximum.
    pub maximum: u64,
}

/// A continuation token that this service did not issue.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the continuation token is not valid")]
pub struct BadToken;

macro_rules! operation_error {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident($of:ty),)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Error)]
        pub enum $name {$(
            #[doc = concat!("See [`", stringify!($of), "`].")]
            #[error(transparent)]
            $variant(#[from] $of),
        )*}
    )*};
}

operation_error! {
    /// Why a body was not taken in.
    IngestError {
        Body(BodyError),
        BadDigest(BadDigest),
        BadTrailer(BadTrailer),
        TooLarge(EntityTooLarge),
        Outage(Outage),
    }

    /// Why an object was not put.
    PutError {
        NoSuchBucket(NoSuchBucket),
        Fenced(BucketFenced),
        Outside(OutsideTables),
        WrittenOnce(WrittenOnce),
        CatalogFile(CatalogFile),
        Precondition(PreconditionFailed),
        NoSuchKey(NoSuchKey),
        Ingest(IngestError),
        Outage(Outage),
    }

    /// Why an object was not read.
    GetError {
        NoSuchBucket(NoSuchBucket),
        NoSuchKey(NoSuchKey),
        NoSuchVersion(NoSuchVersion),
        NoSuchPart(NoSuchPart),
        Precondition(PreconditionFailed),
        NotModified(NotModified),
        Range(RangeNotSatisfiable),
        Outage(Outage),
    }

    /// Why an object was not deleted.
    DeleteError {
        NoSuchBucket(NoSuchBucket),
        NoSuchKey(NoSuchKey),
        NoSuchVersion(NoSuchVersion),
        Precondition(PreconditionFailed),
        Outage(Outage),
    }

    /// Why a listing was not made.
    ListError {
        NoSuchBucket(NoSuchBucket),
        BadToken(BadToken),
        Outage(Outage),
    }

    /// Why an object was not copied.
    CopyError {
        Source(GetError),
        Target(PutError),
        ToItself(CopyToItself),
        TooLarge(CopySourceTooLarge),
    }

    /// Why a multipart upload was not begun.
    CreateUploadError {
        NoSuchBucket(NoSuchBucket),
        Fenced(BucketFenced),
        Outside(OutsideTables),
        CatalogFile(CatalogFile),
        ChecksumKind(ChecksumKindUnsupported),
        Outage(Outage),
    }

    /// Why a part was not taken in.
    UploadPartError {
        NoSuchBucket(NoSuchBucket),
        NoSuchUpload(NoSuchUpload),
        Fenced(BucketFenced),
        PartNumber(BadPartNumber),
        Ingest(IngestError),
        Outage(Outage),
    }

    /// Why a part was not copied.
    CopyPartError {
        Source(GetError),
        Target(UploadPartError),
        TooLarge(CopySourceTooLarge),
    }

    /// Why a multipart upload was not completed.
    CompleteError {
        NoSuchBucket(NoSuchBucket),
        NoSuchUpload(NoSuchUpload),
        Fenced(BucketFenced),
        Outside(OutsideTables),
        WrittenOnce(WrittenOnce),
        CatalogFile(CatalogFile),
        Precondition(PreconditionFailed),
        NoSuchKey(NoSuchKey),
        NoParts(NoParts),
        Part(InvalidPart),
        Order(InvalidPartOrder),
        TooSmall(EntityTooSmall),
        TooLarge(EntityTooLarge),
        Size(SizeMismatch),
        BadDigest(BadDigest),
        Outage(Outage),
    }

    /// Why a multipart upload was not aborted or listed.
    UploadError {
        NoSuchBucket(NoSuchBucket),
        NoSuchUpload(NoSuchUpload),
        Outage(Outage),
    }

    /// Why tags were not read or changed.
    TagError {
        NoSuchBucket(NoSuchBucket),
        NoSuchKey(NoSuchKey),
        NoSuchVersion(NoSuchVersion),
        Outage(Outage),
    }

    /// Why a bucket was not deleted.
    DeleteBucketError {
        NoSuchBucket(NoSuchBucket),
        NotEmpty(BucketNotEmpty),
        Protected(TableBucketProtected),
        Outage(Outage),
    }
}

impl From<BeginDeleteError> for DeleteBucketError {
    fn from(error: BeginDeleteError) -> Self {
        match error {
            BeginDeleteError::NoSuchBucket(e) => Self::NoSuchBucket(e),
            BeginDeleteError::Outage(e) => Self::Outage(e),
        }
    }
}
