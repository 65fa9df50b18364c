//! Object use cases: put, get, list, multipart uploads, deletion and reclaim.
//!
//! Index rows live in an object group of the replicated state, bytes inline in the row or in chunks
//! on the volumes of one or several nodes. A write streams its bytes to durable chunks first and then
//! publishes them with one command; whatever fails before that leaves nothing visible. Replaced and
//! deleted bytes become garbage rows in the same command and are given back after a grace. Copies
//! that were still owed then, and copies that turn out damaged, are repaired in the background.
//!
//! A table bucket protects its tables: keys belong to a table's location, are written once, and a
//! client's DELETE is a request that only garbage collection may carry out. The bytes of
//! `metadata/*.metadata.json` come from the catalog, through the ports that this crate declares.

mod backup;
mod body;
mod buckets;
mod chunks;
mod complete;
mod copy;
mod delete;
mod deletion;
mod digest;
pub mod errors;
mod ingest;
mod keys;
mod list;
mod list_uploads;
mod look;
mod model;
mod multipart;
mod ports;
mod publish;
mod put;
mod read;
mod reclaim;
mod refill;
mod repair;
mod rows;
mod service;
mod store;
mod survey;
mod tags;

pub use backup::BackupRows;
pub use body::{Body, BodyError, BodyStream, SentChecksum, TrailerReader};
pub use complete::{CompleteRequest, CompletedPart};
pub use copy::{CopyPartRequest, CopyRequest};
pub use delete::{DeleteRequest, Deleted, NULL_VERSION};
pub use list::{ListFrom, ListRequest, Listing, NextPage, PAGE_MAX};
pub use list_uploads::{ListUploadsRequest, PartListing, UploadListing};
pub use model::{
    BadKey, ByteRange, Headers, ListedObject, ObjectHead, ObjectKey, PartInfo, ReadConditions,
    Selection, StoredChecksum, TagMatch, Tags, UploadInfo, Verdict, WriteConditions, Written,
};
pub use multipart::{CreateUploadRequest, CreatedUpload, PART_NUMBER_MAX, UploadRef};
pub use ports::{
    BeginDeleteError, BucketInfo, BucketKind, Buckets, CreateBucketError, DeletionEnd, Location,
    MetadataEntry, MetadataFile, RenderMetadata, TableFiles,
};
pub use put::PutRequest;
pub use read::{Found, Opened, ReadRequest, ReadStream};
pub use reclaim::{OrphanSweep, Reclaimed};
pub use refill::Refilled;
pub use repair::{Repaired, Repairs};
pub use service::{Objects, ObjectsConfig, ObjectsParts};
pub use survey::{StoredObject, stored_objects};
pub use tags::{ChangesTags, TagTarget};
