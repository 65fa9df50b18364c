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

/// What an action does to the room on the disk; decides whether it goes on when there is hardly any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Writes nothing that stays.
    Reads,
    /// Makes room, or lets somebody make room: goes on when the disk is full.
    Frees,
    /// Writes something that stays.
    Needs,
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
    /// What the action does to the room on the disk.
    const EFFECT: Effect;
}

macro_rules! actions {
    ($($reach:ident { $($(#[$doc:meta])* $name:ident: $effect:ident,)* })*) => {$($(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}

        impl sealed::Sealed for $name {}

        impl Action for $name {
            const NAME: &'static str = stringify!($name);
            const REACH: Reach = Reach::$reach;
            const EFFECT: Effect = Effect::$effect;
        }
    )*)*};
}

actions! {
    Control {
        /// Create a table bucket.
        CreateTableBucket: Needs,
        /// Describe a table bucket; also Iceberg's `getConfig`.
        GetTableBucket: Reads,
        /// List table buckets.
        ListTableBuckets: Reads,
        /// Delete an empty table bucket.
        DeleteTableBucket: Frees,
        /// Create a namespace.
        CreateNamespace: Needs,
        /// Describe a namespace or ask whether it exists.
        GetNamespace: Reads,
        /// List namespaces.
        ListNamespaces: Reads,
        /// Drop an empty namespace.
        DeleteNamespace: Frees,
        /// Change a namespace's properties.
        UpdateNamespaceProperties: Needs,
        /// Create a table, staged or not.
        CreateTable: Needs,
        /// Describe a table or ask whether it exists.
        GetTable: Reads,
        /// Read a table's metadata.
        LoadTable: Reads,
        /// Obtain temporary credentials for a table's files.
        GetTableCredentials: Reads,
        /// List tables.
        ListTables: Reads,
        /// Commit to one table.
        CommitTable: Needs,
        /// Commit to several tables at once.
        CommitTransaction: Needs,
        /// Drop a table.
        DropTable: Frees,
        /// Rename a table.
        RenameTable: Needs,
        /// Register an existing metadata file as a table.
        RegisterTable: Needs,
        /// Read where a table's metadata file is.
        GetTableMetadataLocation: Reads,
        /// Point a table at another metadata file.
        UpdateTableMetadataLocation: Needs,
        /// Hand in a scan or commit report.
        ReportMetrics: Reads,
        /// Create a general purpose bucket.
        CreateBucket: Needs,
        /// List buckets.
        ListBuckets: Reads,
        /// Delete an empty general purpose bucket.
        DeleteBucket: Frees,
        /// Read the state of the cluster.
        GetClusterStatus: Reads,
        /// Copy everything for a backup.
        CreateBackup: Needs,
        /// Make a token that lets nodes join the cluster.
        CreateJoinToken: Needs,
        /// Remove a node from the cluster.
        RemoveMember: Frees,
        /// Put a node in the place of another.
        ReplaceMember: Frees,
        /// Let another node lead.
        TransferLeader: Frees,
        /// Change the authority that certifies the nodes.
        RotateAuthority: Needs,
    }
    BucketProbe {
        /// Ask whether a bucket exists.
        HeadBucket: Reads,
        /// Read a bucket's region.
        GetBucketLocation: Reads,
        /// Read whether a bucket keeps versions.
        GetBucketVersioning: Reads,
        /// Read a bucket's access control list.
        GetBucketAcl: Reads,
    }
    ReadObjects {
        /// Read an object.
        GetObject: Reads,
        /// Read an object's headers.
        HeadObject: Reads,
        /// Read an object's attributes.
        GetObjectAttributes: Reads,
        /// Read an object's access control list.
        GetObjectAcl: Reads,
        /// Read an object's tags.
        GetObjectTagging: Reads,
        /// List objects below a prefix.
        ListObjects: Reads,
        /// List the parts of a multipart upload.
        ListParts: Reads,
        /// List multipart uploads below a prefix.
        ListMultipartUploads: Reads,
    }
    WriteObjects {
        /// Write an object; also the target of a copy.
        PutObject: Needs,
        /// Set an object's tags.
        PutObjectTagging: Needs,
        /// Remove an object's tags.
        DeleteObjectTagging: Frees,
        /// Delete an object.
        DeleteObject: Frees,
        /// Begin a multipart upload.
        CreateMultipartUpload: Needs,
        /// Upload one part.
        UploadPart: Needs,
        /// Complete a multipart upload.
        CompleteMultipartUpload: Needs,
        /// Give up a multipart upload.
        AbortMultipartUpload: Frees,
    }
}
