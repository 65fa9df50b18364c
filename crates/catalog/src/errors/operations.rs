//! What each operation can fail with, as an enum of outcomes.

use super::*;
use floeberg_iceberg::{RequirementFailed, UpdateError};
use floeberg_types::NameError;
use floeberg_types::limits::Exceeded;

/// Declares the enum of an operation: each variant holds one outcome.
macro_rules! operation_errors {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident($outcome:ty),)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, thiserror::Error)]
        pub enum $name {
            $(
                $(#[$variant_doc])*
                #[error(transparent)]
                $variant(#[from] $outcome),
            )*
            /// The replicated state could not serve the request.
            #[error(transparent)]
            Outage(#[from] Outage),
        }

        impl From<StoreError> for $name {
            fn from(source: StoreError) -> Self {
                Self::Outage(source.into())
            }
        }

        impl From<DamagedRow> for $name {
            fn from(source: DamagedRow) -> Self {
                Self::Outage(source.into())
            }
        }
    )*};
}

operation_errors! {
    /// Why a bucket was not created.
    CreateBucketError {
        /// The name breaks a rule.
        InvalidName(NameError),
        /// The name is taken.
        Exists(BucketExists),
    }
    /// Why a table bucket was not described.
    GetTableBucketError {
        /// No table bucket has this name.
        NoSuchBucket(NoSuchBucket),
    }
    /// Why buckets were not listed.
    ListBucketsError {
        /// There is no such page, or too much for one answer.
        Listing(ListingRefused),
    }
    /// Why a bucket was not deleted.
    DeleteBucketError {
        /// No bucket of this kind has this name.
        NoSuchBucket(NoSuchBucket),
        /// It still holds namespaces.
        NotEmpty(BucketNotEmpty),
    }
    /// Why a namespace was not created.
    CreateNamespaceError {
        /// The bucket does not exist.
        NoSuchBucket(NoSuchBucket),
        /// The namespace around it does not exist.
        NoSuchNamespace(NoSuchNamespace),
        /// It exists already.
        Exists(NamespaceExists),
        /// It has too many properties, or too large ones.
        Limit(Exceeded),
    }
    /// Why a namespace was not loaded.
    LoadNamespaceError {
        /// The bucket does not exist.
        NoSuchBucket(NoSuchBucket),
        /// The namespace does not exist.
        NoSuchNamespace(NoSuchNamespace),
    }
    /// Why namespaces were not listed.
    ListNamespacesError {
        /// The bucket does not exist.
        NoSuchBucket(NoSuchBucket),
        /// The parent does not exist.
        NoSuchNamespace(NoSuchNamespace),
        /// There is no such page, or too much for one answer.
        Listing(ListingRefused),
    }
    /// Why a namespace was not dropped.
    DropNamespaceError {
        /// The bucket does not exist.
        NoSuchBucket(NoSuchBucket),
        /// The namespace does not exist.
        NoSuchNamespace(NoSuchNamespace),
        /// It still holds something.
        NotEmpty(NamespaceNotEmpty),
    }
    /// Why the properties of a namespace were not changed.
    UpdateNamespaceError {
        /// The bucket does not exist.
        NoSuchBucket(NoSuchBucket),
        /// The namespace does not exist.
        NoSuchNamespace(NoSuchNamespace),
        /// One key is both set and removed.
        Conflict(PropertyConflict),
        /// It would have too many properties, or too large ones.
        Limit(Exceeded),
    }
    /// Why a table was not created or staged.
    CreateTableError {
        /// The bucket does not exist.
        NoSuchBucket(NoSuchBucket),
        /// The namespace does not exist.
        NoSuchNamespace(NoSuchNamespace),
        /// The name is taken.
        Exists(TableExists),
        /// The table may not have this location.
        InvalidLocation(InvalidLocation),
        /// A property would lead outside the table.
        InvalidProperty(InvalidProperty),
        /// The schema, partition spec, sort order or a property breaks a rule of Iceberg.
        Invalid(UpdateError),
    }
    /// Why a table was not loaded.
    LoadTableError {
        /// The bucket does not exist.
        NoSuchBucket(NoSuchBucket),
        /// The table or its namespace does not exist.
        NoSuchTable(NoSuchTable),
        /// The table has no metadata yet.
        NoMetadata(NoMetadata),
    }
    /// Why a table was not described.
    GetTableError {
        /// The bucket does not exist.
        NoSuchBucket(NoSuchBucket),
        /// The table or its namespace does not exist.
        NoSuchTable(NoSuchTable),
    }
    /// Why tables were not listed.
    ListTablesError {
        /// The bucket does not exist.
        NoSuchBucket(NoSuchBucket),
        /// The namespace does not exist.
        NoSuchNamespace(NoSuchNamespace),
        /// There is no such page, or too much for one answer.
        Listing(ListingRefused),
    }
    /// Why a commit, or any change of a transaction, was not applied. Except for an indefinite
    /// outage, none of it is applied and none of it ever will be.
    CommitError {
        /// The bucket does not exist.
        NoSuchBucket(NoSuchBucket),
        /// The namespace of a table to be created does not exist.
        NoSuchNamespace(NoSuchNamespace),
        /// A table does not exist.
        NoSuchTable(NoSuchTable),
        /// The table to be created exists.
        Exists(TableExists),
        /// The table has no metadata yet.
        NoMetadata(NoMetadata),
        /// A requirement does not hold: the client's view of the table is out of date.
        RequirementFailed(RequirementFailed),
        /// An update was not applied: [`UpdateError::Stale`] is a conflict that a client may retry
        /// on fresh metadata, [`UpdateError::Invalid`] can never succeed.
        Update(UpdateError),
        /// The table may not have this location.
        InvalidLocation(InvalidLocation),
        /// A property would lead outside the table.
        InvalidProperty(InvalidProperty),
        /// One table appears twice.
        DuplicateTable(DuplicateTable),
        /// `assert-create` stands beside other requirements.
        InvalidCreate(InvalidCreate),
    }
    /// Why a table was not dropped.
    DropTableError {
        /// The bucket does not exist.
        NoSuchBucket(NoSuchBucket),
        /// The table or its namespace does not exist.
        NoSuchTable(NoSuchTable),
        /// The table has changed since the token was given out.
        StaleVersionToken(StaleVersionToken),
    }
    /// Why a table was not renamed.
    RenameTableError {
        /// The bucket does not exist.
        NoSuchBucket(NoSuchBucket),
        /// The table or its namespace does not exist.
        NoSuchTable(NoSuchTable),
        /// The namespace it should move to does not exist.
        NoSuchNamespace(NoSuchNamespace),
        /// The new name is taken.
        Exists(RenameTargetExists),
        /// The table has changed since the token was given out.
        StaleVersionToken(StaleVersionToken),
    }
    /// Why a metadata file was not registered as a table.
    RegisterTableError {
        /// The bucket does not exist.
        NoSuchBucket(NoSuchBucket),
        /// The namespace does not exist.
        NoSuchNamespace(NoSuchNamespace),
        /// The name is taken and overwriting was not asked for.
        Exists(TableExists),
        /// The metadata file, or the table in it, lies where it must not.
        InvalidLocation(InvalidLocation),
        /// A property would lead outside the table.
        InvalidProperty(InvalidProperty),
        /// The metadata file does not exist.
        NoSuchMetadataFile(NoSuchMetadataFile),
        /// The metadata file cannot be a table's metadata.
        InvalidMetadata(InvalidMetadata),
    }
    /// Why a table was not pointed at another metadata file.
    UpdateMetadataLocationError {
        /// The bucket does not exist.
        NoSuchBucket(NoSuchBucket),
        /// The table or its namespace does not exist.
        NoSuchTable(NoSuchTable),
        /// The table has changed since the token was given out.
        StaleVersionToken(StaleVersionToken),
        /// The metadata file, or the table in it, lies where it must not.
        InvalidLocation(InvalidLocation),
        /// A property would lead outside the table.
        InvalidProperty(InvalidProperty),
        /// The metadata file does not exist.
        NoSuchMetadataFile(NoSuchMetadataFile),
        /// The metadata file cannot be this table's metadata.
        InvalidMetadata(InvalidMetadata),
    }
}
