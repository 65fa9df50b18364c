//! Lossless, deterministic Iceberg table metadata model (pure).
//!
//! A table version is a set of document parts (JSON text with a section and an ordinal) and the
//! fields parsed from them. Rendering joins the parts, so a stored version is rendered without
//! parsing, and a commit yields exactly the parts it changed. Clock and ids are passed in.
//!
//! Rules follow the Iceberg table specification and the reference implementation's
//! `TableMetadata.Builder`; message texts are those its compatibility kit asserts.

mod admit;
mod apply;
mod create;
mod error;
mod follow;
mod json;
mod metadata;
mod parse;
mod partition;
mod requirement;
mod schema;
mod section;
mod sequence;
mod snapshot;
mod sort;
mod transform;
mod types;
mod update;

pub use admit::{admit_create, admit_updates};
pub use apply::{AddedSnapshot, Applied, ApplyContext, MAX_CLOCK_SKEW_MS};
pub use create::{CreateContext, NewTable, RESERVED_PROPERTIES};
pub use error::{ApplyError, InvalidUpdate, ParseError, StaleCommit, UpdateError};
pub use json::{JsonError, NESTING_MAX, RawJson, RawObject};
pub use metadata::{Core, DEFAULT_FORMAT_VERSION, MAX_FORMAT_VERSION, TableMetadata};
pub use parse::part_name;
pub use partition::{PartitionField, PartitionSpec, PartitionSpecError};
pub use requirement::{MalformedRequirement, RequirementFailed, TableRequirement, check};
pub use schema::{Schema, SchemaError};
pub use section::{Document, Part, PartChange, PartOutOfOrder, Section};
pub use snapshot::{
    EncryptionKey, MAIN_BRANCH, MetadataLogEntry, RefError, RefKind, Snapshot, SnapshotLogEntry,
    SnapshotRef, StatisticsFile,
};
pub use sort::{SortField, SortOrder, SortOrderError};
pub use transform::TransformError;
pub use types::TypeError;
pub use update::{MalformedUpdate, TableUpdate};
