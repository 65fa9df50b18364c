//! One marker type per action, named as Amazon's policy actions are.

/// How far an action reaches; decides who may ask for it besides root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Changes or shows catalog state, buckets or the cluster: never for vended credentials.
    Control,
    /// Asks whether a bucket exists. Clients with prefix-scoped credentials do so before a write.
    BucketProbe,
    /// Reads or lists objects.
    ReadObjects,
    /// Creates, changes or deletes objects.
    WriteObjects,
}

mod sealed {
    pub trait Sealed {}
}

/// An action that a principal may be allowed to take. Implemented by the markers of this module
/// only.
pub trait Action: sealed::Sealed + Send + Sync + 'static {
    /// The action's name in messages, policies and the audit log.
    const NAME: &'static str;
    /// How far the action reaches.
    const REACH: Reach;
}

macro_rules! actions {
    ($($reach:ident { $($(#[$doc:meta])* $name:ident,)* })*) => {$($(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}

        impl sealed::Sealed for $name {}

        impl Action for $name {
            const NAME: &'static str = stringify!($name);
            const REACH: Reach = Reach::$reach;
        }
    )*)*};
}

actions! {
    Control {
        /// Create a table bucket.
        CreateTableBucket,
        /// Describe a table bucket; also Iceberg's `getConfig`.
        GetTableBucket,
        /// List table buckets.
        ListTableBuckets,
        /// Delete an empty table bucket.
        DeleteTableBucket,
        /// Create a namespace.
        CreateNamespace,
        /// Describe a namespace or ask whether it exists.
        GetNamespace,
        /// List namespaces.
        ListNamespaces,
        /// Drop an empty namespace.
        DeleteNamespace,
        /// Change a namespace's properties.
        UpdateNamespaceProperties,
        /// Create a table, staged or not.
        CreateTable,
        /// Describe a table or ask whether it exists.
        GetTable,
        /// Read a table's metadata.
        LoadTable,
        /// Obtain temporary credentials for a table's files.
        GetTableCredentials,
        /// List tables.
        ListTables,
        /// Commit to one table.
        CommitTable,
        /// Commit to several tables at once.
        CommitTransaction,
        /// Drop a table.
        DropTable,
        /// Rename a table.
        RenameTable,
        /// Register an existing metadata file as a table.
        RegisterTable,
        /// Read where a table's metadata file is.
        GetTableMetadataLocation,
        /// Point a table at another metadata file.
        UpdateTableMetadataLocation,
        /// Hand in a scan or commit report.
        ReportMetrics,
        /// Create a general purpose bucket.
        CreateBucket,
        /// List buckets.
        ListBuckets,
        /// Delete an empty general purpose bucket.
        DeleteBucket,
        /// Read the state of the cluster.
        GetClusterStatus,
        /// Copy everything for a backup.
        CreateBackup,
        /// Make a token that lets nodes join the cluster.
        CreateJoinToken,
        /// Remove a node from the cluster.
        RemoveMember,
        /// Put a node in the place of another.
        ReplaceMember,
        /// Let another node lead.
        TransferLeader,
        /// Change the authority that certifies the nodes.
        RotateAuthority,
    }
    BucketProbe {
        /// Ask whether a bucket exists.
        HeadBucket,
        /// Read a bucket's region.
        GetBucketLocation,
        /// Read whether a bucket keeps versions.
        GetBucketVersioning,
        /// Read a bucket's access control list.
        GetBucketAcl,
    }
    ReadObjects {
        /// Read an object.
        GetObject,
        /// Read an object's headers.
        HeadObject,
        /// Read an object's attributes.
        GetObjectAttributes,
        /// Read an object's access control list.
        GetObjectAcl,
        /// Read an object's tags.
        GetObjectTagging,
        /// List objects below a prefix.
        ListObjects,
        /// List the parts of a multipart upload.
        ListParts,
        /// List multipart uploads below a prefix.
        ListMultipartUploads,
    }
    WriteObjects {
        /// Write an object; also the target of a copy.
        PutObject,
        /// Set an object's tags.
        PutObjectTagging,
        /// Remove an object's tags.
        DeleteObjectTagging,
        /// Delete an object.
        DeleteObject,
        /// Begin a multipart upload.
        CreateMultipartUpload,
        /// Upload one part.
        UploadPart,
        /// Complete a multipart upload.
        CompleteMultipartUpload,
        /// Give up a multipart upload.
        AbortMultipartUpload,
    }
}
