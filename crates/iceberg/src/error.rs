//! What can be wrong with a document, a commit's requirements and a commit's updates.

use std::sync::Arc;

use crate::json::JsonError;
use crate::partition::PartitionSpecError;
use crate::schema::SchemaError;
use crate::section::Section;
use crate::snapshot::RefError;
use crate::sort::SortOrderError;
use floeberg_types::limits::Exceeded;

/// A document that is not table metadata this model can keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("Invalid table metadata: not UTF-8")]
    NotUtf8,
    #[error("Invalid table metadata: {0}")]
    Json(#[from] JsonError),
    #[error("Invalid table metadata: {0}")]
    Schema(#[from] SchemaError),
    #[error("Invalid table metadata: {0}")]
    Spec(#[from] PartitionSpecError),
    #[error("Invalid table metadata: {0}")]
    SortOrder(#[from] SortOrderError),
    #[error("Invalid table metadata: {0}")]
    Ref(#[from] RefError),
    #[error("Cannot read unsupported version {version}")]
    UnsupportedVersion { version: i64 },
    #[error("Invalid table metadata: entry {position} of {list} repeats an id")]
    DuplicateId { list: &'static str, position: usize },
    #[error("Invalid table metadata: part {ordinal} of {section:?} repeats an id or a position")]
    DuplicatePart { section: Section, ordinal: u64 },
    #[error("Cannot find schema with current-schema-id={schema_id} from schemas")]
    UnknownCurrentSchema { schema_id: i32 },
    #[error("Cannot find partition spec with default-spec-id={spec_id} from partition-specs")]
    UnknownDefaultSpec { spec_id: i32 },
    #[error("Cannot find sort order with default-sort-order-id={order_id} from sort-orders")]
    UnknownDefaultSortOrder { order_id: i32 },
    #[error(
        "Invalid snapshot with sequence number {sequence_number} \
         greater than last sequence number {last_sequence_number}"
    )]
    SequenceNumberTooHigh {
        sequence_number: i64,
        last_sequence_number: i64,
    },
    #[error("Invalid table metadata: Cannot find current version (snapshot {snapshot_id})")]
    UnknownCurrentSnapshot { snapshot_id: i64 },
    #[error(
        "Snapshot for reference {name} does not exist in the existing snapshots list: {snapshot_id}"
    )]
    UnknownRefSnapshot { name: Arc<str>, snapshot_id: i64 },
    #[error("Invalid table metadata: main must be a branch")]
    MainIsTag,
    #[error("Current snapshot ID does not match main branch ({current:?} != {main})")]
    MainIsNotCurrent { main: i64, current: Option<i64> },
}

/// Why a list of updates was not applied; nothing of it took effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The commit was prepared on an older version: correct when prepared again (409).
    #[error(transparent)]
    Stale(#[from] StaleCommit),
    /// The commit can never be applied to this table (400).
    #[error(transparent)]
    Invalid(#[from] InvalidUpdate),
}

/// Why a list of updates was not applied to the end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// One of them is wrong.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// Whoever asked has gone.
    #[error("nobody waits for the commit any more")]
    Stopped,
}

/// A commit that lost a race which no requirement caught.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StaleCommit {
    #[error(
        "Cannot add snapshot with sequence number {sequence_number} \
         older than last sequence number {last_sequence_number}"
    )]
    SequenceNumber {
        sequence_number: i64,
        last_sequence_number: i64,
    },
    #[error(
        "Cannot add a snapshot, first-row-id is behind table next-row-id: \
         {first_row_id} < {next_row_id}"
    )]
    FirstRowId { first_row_id: i64, next_row_id: i64 },
}

/// An update that is wrong for this table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUpdate {
    #[error("{0}")]
    Json(#[from] JsonError),
    #[error("{0}")]
    Schema(#[from] SchemaError),
    #[error("{0}")]
    Spec(#[from] PartitionSpecError),
    #[error("{0}")]
    SortOrder(#[from] SortOrderError),
    #[error("{0}")]
    Ref(#[from] RefError),
    #[error("Cannot reassign uuid: {current} to {requested}")]
    ReassignUuid {
        current: Arc<str>,
        requested: Arc<str>,
    },
    #[error("Invalid table uuid: {uuid}")]
    BadUuid { uuid: Arc<str> },
    #[error("Unsupported format version: v{version} (supported: v3)")]
    UnsupportedVersion { version: i64 },
    #[error("Cannot parse format-version {text}: expected a number")]
    FormatVersionNotANumber { text: Arc<str> },
    #[error("Cannot upgrade table to unsupported format version: v{version} (supported: v3)")]
    UpgradeTooHigh { version: i64 },
    #[error("Cannot downgrade v{current} table to v{version}")]
    Downgrade { current: u8, version: i64 },
    #[error("Cannot set last added schema: no schema has been added")]
    NoSchemaAdded,
    #[error("Cannot set current schema to unknown schema: {schema_id}")]
    UnknownSchema { schema_id: i32 },
    #[error("Cannot set last added spec: no spec has been added")]
    NoSpecAdded,
    #[error("Cannot set default partition spec to unknown spec: {spec_id}")]
    UnknownSpec { spec_id: i32 },
    #[error("Cannot set last added sort order: no sort order has been added")]
    NoSortOrderAdded,
    #[error("Cannot set default sort order to unknown sort order: {order_id}")]
    UnknownSortOrder { order_id: i32 },
    #[error("Cannot remove the default partition spec")]
    RemoveDefaultSpec,
    #[error("Cannot remove the current schema")]
    RemoveCurrentSchema,
    #[error("Attempting to add a snapshot before a {what} is added")]
    SnapshotBefore { what: &'static str },
    #[error("Snapshot already exists for id: {snapshot_id}")]
    SnapshotExists { snapshot_id: i64 },
    #[error("Invalid snapshot id: {snapshot_id}")]
    SnapshotId { snapshot_id: i64 },
    #[error("Cannot add a snapshot: manifest-list is required in v{format_version}")]
    NoManifestList { format_version: u8 },
    #[error("Cannot add a snapshot: summary with an operation is required in v{format_version}")]
    NoSummary { format_version: u8 },
    #[error("Cannot add a snapshot: first-row-id is null")]
    NoFirstRowId,
    #[error("Invalid added-rows (cannot be null) when first-row-id is set")]
    NoAddedRows,
    #[error("Invalid {field} (cannot be negative): {value}")]
    Negative { field: &'static str, value: i64 },
    #[error("Invalid {field}: {value} is too large")]
    TooLarge { field: &'static str, value: i64 },
    #[error("Invalid snapshot timestamp {timestamp_ms}: more than {limit_ms} ms ahead of {now_ms}")]
    FarFuture {
        timestamp_ms: i64,
        now_ms: i64,
        limit_ms: i64,
    },
    #[error("Invalid update timestamp {timestamp_ms}: before last snapshot log entry at {last_ms}")]
    BeforeSnapshotLog { timestamp_ms: i64, last_ms: i64 },
    #[error(
        "Invalid update timestamp {timestamp_ms}: \
         before the latest metadata log entry timestamp {last_ms}"
    )]
    BeforeMetadataLog { timestamp_ms: i64, last_ms: i64 },
    #[error("Sequence number must be 0 in v1: {number}")]
    SequenceNumberInV1 { number: i64 },
    #[error(
        "Cannot add snapshot with sequence number {sequence_number}: \
         a snapshot takes the number after the table's last one, here at most {limit}"
    )]
    SequenceNumberAhead { sequence_number: i64, limit: i64 },
    #[error("Cannot set {name} to unknown snapshot: {snapshot_id}")]
    UnknownSnapshot { name: Arc<str>, snapshot_id: i64 },
    #[error("Cannot set main to a tag: main must be a branch")]
    MainIsTag,
    #[error("Cannot set invalid snapshot log: latest entry is not the current snapshot")]
    InvalidSnapshotLog,
    #[error("Encryption keys are not supported until v3")]
    EncryptionKeysTooEarly,
    #[error("{0}")]
    Limit(#[from] Exceeded),
    #[error(
        "Cannot grow the table's metadata to {bytes} bytes, above the limit of {limit}: {part} take \
         {part_bytes} of them; {advice}"
    )]
    MetadataTooLarge {
        bytes: u64,
        limit: u64,
        part: &'static str,
        part_bytes: u64,
        advice: &'static str,
    },
    #[error("Location is empty")]
    EmptyLocation,
    #[error("Cannot create a table without a {what}")]
    Incomplete { what: &'static str },
}
