//! Backups of a cluster: the rows of both groups at one point each, and the chunks that they name.
//!
//! A [`Source`] is a running cluster; [`create`] copies what it gives to a [`Store`], a directory or
//! a bucket of any S3 service, and writes the manifest last. [`verify`] compares every file with its
//! checksum and every row with the chunks it names, without a cluster. [`Backup`] reads one back.
//! The format is described in `docs/formats/backup.md`.
//!
//! Group 0 is read before group 1, so that every file a table names has its object row in the backup:
//! a file is uploaded before it is committed, and objects that go are kept for a while.

mod create;
mod files;
mod manifest;
mod page;
mod read;
mod retry;
mod source;
mod store;
#[cfg(test)]
mod testing;
mod verify;

pub use create::{CreateError, Made, create};
pub use manifest::{GroupPart, MANIFEST, Manifest};
pub use page::{ChunkUse, Page, Row};
pub use read::{Backup, ReadError};
pub use retry::patiently;
pub use source::{Begun, Origin, Point, Source, SourceError};
pub use store::{DirStore, S3Store, Store, StoreError};
pub use verify::{Fault, Verified, verify};
