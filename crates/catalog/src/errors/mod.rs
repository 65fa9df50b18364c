//! What can go wrong: one struct per outcome, one enum per operation.
//!
//! Where Iceberg's compatibility kit asserts a text, the text is Iceberg's. No status code appears
//! here: the protocol adapters own the mapping.

mod operations;

pub use operations::*;

use crate::idempotency::KeyUsed;
use crate::page::LISTING_BYTES_MAX;
use floeberg_env::Exhausted;
use floeberg_metastore::{CommandTooLarge, Crowded, StoreError, VIEW_LASTS};
use floeberg_types::{BucketName, Namespace, TableIdent};

/// The replicated state did not decide a request.
#[derive(Debug, thiserror::Error)]
pub enum Outage {
    /// Nothing was proposed; the client may simply try again.
    #[error("no leader accepts work at the moment")]
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
    /// Too much of its kind is under way. Nothing of the request is or will be applied.
    #[error(transparent)]
    TooManyDocuments(#[from] TooManyDocuments),
    /// Other requests hold the memory that this one needs. Nothing of it is or will be applied.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// Stored rows could not be read or written.
    #[error("storage failed: {0}")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The request's idempotency key has an answer already, and it is not a success.
    #[error(transparent)]
    KeyUsed(Box<KeyUsed>),
}

impl Outage {
    /// Wraps a failure of the storage below.
    pub fn storage(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Storage(source.into())
    }
}

impl From<StoreError> for Outage {
    fn from(source: StoreError) -> Self {
        match source {
            // Nothing is wrong with the rows; the request took too long.
            StoreError::Expired => Self::Unavailable,
            source => Self::storage(source),
        }
    }
}

/// Large metadata documents have their turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{limit} large metadata documents are being written already, which is the limit; nothing was \
     changed: try again in a moment"
)]
pub struct TooManyDocuments {
    /// How many may be written at once.
    pub limit: usize,
}

/// A stored row does not say what its kind promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a stored {row} is damaged: {detail}")]
pub struct DamagedRow {
    /// The kind of row.
    pub row: &'static str,
    /// What is wrong with it.
    pub detail: String,
}

impl From<DamagedRow> for Outage {
    fn from(source: DamagedRow) -> Self {
        Self::storage(source)
    }
}

/// No bucket of the wanted kind has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bucket `{bucket}` does not exist")]
pub struct NoSuchBucket {
    /// The name asked for.
    pub bucket: BucketName,
}

/// A bucket of either kind already has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bucket `{bucket}` already exists")]
pub struct BucketExists {
    /// The name asked for.
    pub bucket: BucketName,
    /// Whether the caller's account owns it.
    pub owner: BucketOwner,
}

/// Who owns a bucket, seen from a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketOwner {
    /// The caller's account.
    Caller,
    /// Another account.
    Another,
}

/// Something stands in the way of deleting a bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bucket `{bucket}` is not empty")]
pub struct BucketNotEmpty {
    /// The bucket.
    pub bucket: BucketName,
}

/// The namespace does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Namespace does not exist: {namespace}")]
pub struct NoSuchNamespace {
    /// The namespace asked for.
    pub namespace: Namespace,
}

/// The namespace already exists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Namespace already exists: {namespace}")]
pub struct NamespaceExists {
    /// The namespace.
    pub namespace: Namespace,
}

/// Tables, views or nested namespaces stand in the way of dropping a namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Namespace {namespace} is not empty. It contains {contents}")]
pub struct NamespaceNotEmpty {
    /// The namespace.
    pub namespace: Namespace,
    /// What is left in it.
    pub contents: NamespaceContents,
}

/// What is left in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceContents {
    /// At least one table or view.
    Tables,
    /// At least one nested namespace.
    Namespaces,
}

impl std::fmt::Display for NamespaceContents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tables => "tables or views",
            Self::Namespaces => "namespaces",
        })
    }
}

/// One key is both to be set and to be removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("property `{key}` is listed in both updates and removals")]
pub struct PropertyConflict {
    /// The property.
    pub key: String,
}

/// The table does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Table does not exist: {table}")]
pub struct NoSuchTable {
    /// The name or id asked for.
    pub table: String,
}

impl NoSuchTable {
    pub(crate) fn named(ident: &TableIdent) -> Self {
        Self {
            table: ident.to_string(),
        }
    }
}

/// What already has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupant {
    /// A table.
    Table,
    /// A view.
    View,
}

impl std::fmt::Display for Occupant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Table => "Table",
            Self::View => "View",
        })
    }
}

/// A table or view already has this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableExists {
    /// The name.
    pub ident: TableIdent,
    /// What has it.
    pub occupant: Occupant,
}

impl std::fmt::Display for TableExists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.occupant {
            Occupant::Table => write!(f, "Table already exists: {}", self.ident),
            Occupant::View => write!(f, "View with same name already exists: {}", self.ident),
        }
    }
}

impl std::error::Error for TableExists {}

/// The new name of a table is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Cannot rename {from} to {to}. {occupant} already exists")]
pub struct RenameTargetExists {
    /// The table.
    pub from: TableIdent,
    /// The name it should get.
    pub to: TableIdent,
    /// What has that name.
    pub occupant: Occupant,
}

/// The table was created without a schema and has no metadata yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "table {ident} has no metadata yet: it was created without a schema; set its metadata location \
     first"
)]
pub struct NoMetadata {
    /// The table.
    pub ident: TableIdent,
}

/// A location that a table may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid location `{location}`: {rule}")]
pub struct InvalidLocation {
    /// The location as given.
    pub location: String,
    /// The rule it breaks.
    pub rule: LocationRule,
}

/// The rules of table locations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocationRule {
    /// Only `s3://` and `s3a://` are served.
    #[error("it must begin with s3:// or s3a://")]
    Scheme,
    /// It names another bucket.
    #[error("it must be in the table's bucket s3://{bucket}")]
    OtherBucket {
        /// The table's bucket.
        bucket: BucketName,
    },
    /// The bucket itself would contain every table.
    #[error("it must name a path below the bucket")]
    NoPath,
    /// Clients disagree about what such a path means.
    #[error(
        "it must not hold empty, `.` or `..` segments, control characters, `?` or `#`, and at \
         most 700 bytes"
    )]
    Path,
    /// Another table's location contains it, equals it or lies within it.
    #[error("it overlaps the location of another table at `{other}`")]
    Overlaps {
        /// Path of the other location.
        other: String,
    },
    /// One segment below the bucket is where the tables of a namespace lie.
    #[error(
        "a table needs at least two segments below the bucket, as in \
         s3://bucket/namespace/table: with one it could cover the locations of a namespace's \
         tables; choose a deeper path, or give none"
    )]
    OneSegment,
    /// A snapshot's manifest list, or a manifest it names itself, lies outside its table.
    #[error(
        "a snapshot's manifest list must be below the table's location `{table}`: write it there"
    )]
    ManifestOutsideTable {
        /// The table's location.
        table: String,
    },
    /// A file or directory that must belong to the table does not.
    #[error("it must be within the table's location `{table}`")]
    OutsideTable {
        /// The table's location.
        table: String,
    },
    /// A metadata file has a name that readers would not recognise.
    #[error("a metadata file must end in .metadata.json or .metadata.json.gz")]
    MetadataSuffix,
}

/// A property whose value would lead readers or writers outside the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("property `{key}`: {source}")]
pub struct InvalidProperty {
    /// The property.
    pub key: &'static str,
    /// What is wrong with its value.
    pub source: InvalidLocation,
}

/// One table appears in several changes of one transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table {ident} is listed more than once in one transaction")]
pub struct DuplicateTable {
    /// The table.
    pub ident: TableIdent,
}

/// `assert-create` stands for the whole change; other requirements cannot hold of no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid create requirements: assert-create must be the only requirement of {ident}")]
pub struct InvalidCreate {
    /// The table.
    pub ident: TableIdent,
}

/// A metadata file that cannot become a table's metadata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("metadata file `{location}` is not usable: {detail}")]
pub struct InvalidMetadata {
    /// The file.
    pub location: String,
    /// Why.
    pub detail: String,
}

/// A metadata file that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("metadata file `{location}` does not exist")]
pub struct NoSuchMetadataFile {
    /// The file.
    pub location: String,
}

/// The table has changed since the token was given out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the version token of table {ident} is out of date")]
pub struct StaleVersionToken {
    /// The table.
    pub ident: TableIdent,
}

/// Why a listing gave no page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListingRefused {
    /// Another listing gave out the page token, or none did.
    #[error("the page token is not one of this listing")]
    UnknownToken,
    /// The client does not ask for pages, and there is more than one answer takes.
    #[error(
        "there are more than {} MiB of names to list: ask for pages, with a page size and, behind \
         the first, the page token of the page before",
        LISTING_BYTES_MAX >> 20
    )]
    TooLarge,
    /// The rows of one moment are not read for so long.
    #[error(
        "the listing took more than {} s: ask for pages, or for smaller ones",
        VIEW_LASTS.as_secs()
    )]
    TooSlow,
}
