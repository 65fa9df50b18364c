//! Ids, names, ARNs and checksums of Floeberg: values that are valid once they exist.
//!
//! Parsing happens here and nowhere else, so that upper layers never see an unchecked name. This
//! crate is pure: no clock, no randomness, no I/O.

mod arn;
mod checksum;
mod id;
pub mod limits;
mod name;
mod slot;
mod time;

pub use arn::{ArnParseError, TableArn, TableBucketArn, TableBucketRef};
pub use checksum::{Checksum, ChecksumAlgorithm, ChecksumKind};
pub use id::{
    BucketId, ChunkId, ClusterId, CommitId, GroupId, IdParseError, NamespaceId, NodeId, RequestId,
    TableId, UploadId,
};
pub use name::{
    AccountId, BucketName, NAMESPACE_SEPARATOR, NameError, Namespace, Region, TableIdent, TableName,
};
pub use slot::{SLOTS, Slot, slot};
pub use time::TimestampMs;
