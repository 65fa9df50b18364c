//! Which operation of the service model a method and path name.

use floeberg_auth::{Action as _, Effect, action};
use floeberg_http::{BodySize, NotRouted, Route, Routed};
use http::Method;

/// Operations that are served, and those that are known and not served yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    CreateTableBucket,
    GetTableBucket,
    ListTableBuckets,
    DeleteTableBucket,
    CreateNamespace,
    GetNamespace,
    ListNamespaces,
    DeleteNamespace,
    CreateTable,
    GetTable,
    ListTables,
    DeleteTable,
    RenameTable,
    GetTableMetadataLocation,
    UpdateTableMetadataLocation,
    Unsupported(&'static str),
}

impl Operation {
    /// How much body it takes.
    fn body(self) -> BodySize {
        match self {
            // The schema of a table is in it.
            Self::CreateTable => BodySize::Medium,
            Self::CreateTableBucket
            | Self::GetTableBucket
            | Self::ListTableBuckets
            | Self::DeleteTableBucket
            | Self::CreateNamespace
            | Self::GetNamespace
            | Self::ListNamespaces
            | Self::DeleteNamespace
            | Self::GetTable
            | Self::ListTables
            | Self::DeleteTable
            | Self::RenameTable
            | Self::GetTableMetadataLocation
            | Self::UpdateTableMetadataLocation => BodySize::Small,
            // Policies and configurations; they are not kept.
            Self::Unsupported(_) => BodySize::Medium,
        }
    }

    /// What it does to the room on the disk.
    fn effect(self) -> Effect {
        match self {
            Self::CreateTableBucket => action::CreateTableBucket::EFFECT,
            Self::GetTableBucket => action::GetTableBucket::EFFECT,
            Self::ListTableBuckets => action::ListTableBuckets::EFFECT,
            Self::DeleteTableBucket => action::DeleteTableBucket::EFFECT,
            Self::CreateNamespace => action::CreateNamespace::EFFECT,
            Self::GetNamespace => action::GetNamespace::EFFECT,
            Self::ListNamespaces => action::ListNamespaces::EFFECT,
            Self::DeleteNamespace => action::DeleteNamespace::EFFECT,
            Self::CreateTable => action::CreateTable::EFFECT,
            Self::GetTable => action::GetTable::EFFECT,
            Self::ListTables => action::ListTables::EFFECT,
            Self::DeleteTable => action::DropTable::EFFECT,
            Self::RenameTable => action::RenameTable::EFFECT,
            Self::GetTableMetadataLocation => action::GetTableMetadataLocation::EFFECT,
            Self::UpdateTableMetadataLocation => action::UpdateTableMetadataLocation::EFFECT,
            Self::Unsupported(_) => Effect::Reads,
        }
    }
}

/// What an operation acts on, as text of the path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathNames {
    pub arn: String,
    pub namespace: String,
    pub table: String,
}

/// An operation that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub operation: Operation,
    pub names: PathNames,
}

/// No operation is public; this type has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Never {}

const BUCKET: &str = "/buckets/{arn}";
const NAMESPACES: &str = "/namespaces/{arn}";
const NAMESPACE: &str = "/namespaces/{arn}/{ns}";
const TABLES_OF_BUCKET: &str = "/tables/{arn}";
const TABLES_OF_NAMESPACE: &str = "/tables/{arn}/{ns}";
const TABLE: &str = "/tables/{arn}/{ns}/{t}";
const METADATA_LOCATION: &str = "/tables/{arn}/{ns}/{t}/metadata-location";

const SERVED: &[(Operation, &str, &str, &str)] = &[
    (
        Operation::CreateTableBucket,
        "CreateTableBucket",
        "PUT",
        "/buckets",
    ),
    (
        Operation::ListTableBuckets,
        "ListTableBuckets",
        "GET",
        "/buckets",
    ),
    (Operation::GetTableBucket, "GetTableBucket", "GET", BUCKET),
    (
        Operation::DeleteTableBucket,
        "DeleteTableBucket",
        "DELETE",
        BUCKET,
    ),
    (
        Operation::CreateNamespace,
        "CreateNamespace",
        "PUT",
        NAMESPACES,
    ),
    (
        Operation::ListNamespaces,
        "ListNamespaces",
        "GET",
        NAMESPACES,
    ),
    (Operation::GetNamespace, "GetNamespace", "GET", NAMESPACE),
    (
        Operation::DeleteNamespace,
        "DeleteNamespace",
        "DELETE",
        NAMESPACE,
    ),
    (Operation::ListTables, "ListTables", "GET", TABLES_OF_BUCKET),
    (
        Operation::CreateTable,
        "CreateTable",
        "PUT",
        TABLES_OF_NAMESPACE,
    ),
    (Operation::GetTable, "GetTable", "GET", "/get-table"),
    (Operation::DeleteTable, "DeleteTable", "DELETE", TABLE),
    (
        Operation::RenameTable,
        "RenameTable",
        "PUT",
        "/tables/{arn}/{ns}/{t}/rename",
    ),
    (
        Operation::GetTableMetadataLocation,
        "GetTableMetadataLocation",
        "GET",
        METADATA_LOCATION,
    ),
    (
        Operation::UpdateTableMetadataLocation,
        "UpdateTableMetadataLocation",
        "PUT",
        METADATA_LOCATION,
    ),
];

/// The rest of the service model.
const UNSUPPORTED: &[(&str, &str, &str)] = &[
    (
        "CompleteTableMigration",
        "POST",
        "/complete-table-migration",
    ),
    (
        "DeleteTableBucketEncryption",
        "DELETE",
        "/buckets/{arn}/encryption",
    ),
    (
        "DeleteTableBucketMetricsConfiguration",
        "DELETE",
        "/buckets/{arn}/metrics",
    ),
    ("DeleteTableBucketPolicy", "DELETE", "/buckets/{arn}/policy"),
    (
        "DeleteTableBucketReplication",
        "DELETE",
        "/table-bucket-replication",
    ),
    (
        "DeleteTablePolicy",
        "DELETE",
        "/tables/{arn}/{ns}/{t}/policy",
    ),
    ("DeleteTableReplication", "DELETE", "/table-replication"),
    (
        "GetTableBucketEncryption",
        "GET",
        "/buckets/{arn}/encryption",
    ),
    ("GetTableBucketLogging", "GET", "/buckets/{arn}/logging"),
    (
        "GetTableBucketMaintenanceConfiguration",
        "GET",
        "/buckets/{arn}/maintenance",
    ),
    (
        "GetTableBucketMetricsConfiguration",
        "GET",
        "/buckets/{arn}/metrics",
    ),
    ("GetTableBucketPolicy", "GET", "/buckets/{arn}/policy"),
    (
        "GetTableBucketReplication",
        "GET",
        "/table-bucket-replication",
    ),
    (
        "GetTableBucketStorageClass",
        "GET",
        "/buckets/{arn}/storage-class",
    ),
    (
        "GetTableEncryption",
        "GET",
        "/tables/{arn}/{ns}/{t}/encryption",
    ),
    (
        "GetTableMaintenanceConfiguration",
        "GET",
        "/tables/{arn}/{ns}/{t}/maintenance",
    ),
    (
        "GetTableMaintenanceJobStatus",
        "GET",
        "/tables/{arn}/{ns}/{t}/maintenance-job-status",
    ),
    ("GetTableMigration", "GET", "/get-table-migration"),
    ("GetTablePolicy", "GET", "/tables/{arn}/{ns}/{t}/policy"),
    (
        "GetTableRecordExpirationConfiguration",
        "GET",
        "/table-record-expiration",
    ),
    (
        "GetTableRecordExpirationJobStatus",
        "GET",
        "/table-record-expiration-job-status",
    ),
    ("GetTableReplication", "GET", "/table-replication"),
    ("GetTableReplicationStatus", "GET", "/replication-status"),
    (
        "GetTableStorageClass",
        "GET",
        "/tables/{arn}/{ns}/{t}/storage-class",
    ),
    ("ListTableMigrations", "GET", "/list-table-migrations"),
    ("ListTagsForResource", "GET", "/tag/{arn}"),
    (
        "PutTableBucketEncryption",
        "PUT",
        "/buckets/{arn}/encryption",
    ),
    ("PutTableBucketLogging", "PUT", "/buckets/{arn}/logging"),
    (
        "PutTableBucketMaintenanceConfiguration",
        "PUT",
        "/buckets/{arn}/maintenance/{type}",
    ),
    (
        "PutTableBucketMetricsConfiguration",
        "PUT",
        "/buckets/{arn}/metrics",
    ),
    ("PutTableBucketPolicy", "PUT", "/buckets/{arn}/policy"),
    (
        "PutTableBucketReplication",
        "PUT",
        "/table-bucket-replication",
    ),
    (
        "PutTableBucketStorageClass",
        "PUT",
        "/buckets/{arn}/storage-class",
    ),
    (
        "PutTableMaintenanceConfiguration",
        "PUT",
        "/tables/{arn}/{ns}/{t}/maintenance/{type}",
    ),
    ("PutTablePolicy", "PUT", "/tables/{arn}/{ns}/{t}/policy"),
    (
        "PutTableRecordExpirationConfiguration",
        "PUT",
        "/table-record-expiration",
    ),
    ("PutTableReplication", "PUT", "/table-replication"),
    ("StartTableMigration", "POST", "/start-table-migration"),
    ("SyncTableMigration", "POST", "/sync-table-migration"),
    ("TagResource", "POST", "/tag/{arn}"),
    ("UntagResource", "DELETE", "/tag/{arn}"),
    ("UpdateTableMigration", "POST", "/update-table-migration"),
];

/// Method, path pattern and size of body of everything that is routed, for whoever tries them all.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str, BodySize)> {
    let served = SERVED.iter();
    let served = served.map(|(operation, _, method, path)| (*method, *path, operation.body()));
    let unsupported = UNSUPPORTED.iter().map(|(name, method, path)| {
        let body = Operation::Unsupported(name).body();
        (*method, *path, body)
    });
    served.chain(unsupported)
}

/// Whether decoded segments fit a path pattern, and the names in them.
fn fit(pattern: &str, segments: &[&str]) -> Option<PathNames> {
    let mut names = PathNames::default();
    let mut given = segments.iter();
    for part in pattern.split('/').skip(1) {
        let text = *given.next()?;
        match part {
            "{arn}" => text.clone_into(&mut names.arn),
            "{ns}" => text.clone_into(&mut names.namespace),
            "{t}" => text.clone_into(&mut names.table),
            "{type}" => {}
            fixed if fixed == text => {}
            _ => return None,
        }
        if text.is_empty() {
            return None;
        }
    }
    given.next().is_none().then_some(names)
}

pub(crate) fn route(method: &Method, segments: &[&str]) -> Result<Routed<Never, Asked>, NotRouted> {
    let known = SERVED.iter().copied().chain(
        UNSUPPORTED
            .iter()
            .map(|&(name, method, path)| (Operation::Unsupported(name), name, method, path)),
    );
    let mut methods = Vec::new();
    for (operation, name, wanted, path) in known {
        let Some(names) = fit(path, segments) else {
            continue;
        };
        if wanted == method.as_str() {
            return Ok(Routed::Protected(Route {
                name,
                body: operation.body(),
                effect: operation.effect(),
                operation: Asked { operation, names },
            }));
        }
        methods.push(wanted);
    }
    Err(allowed(&methods).map_or(NotRouted::Unknown, NotRouted::Method))
}

/// The `Allow` header for a path with these methods.
fn allowed(methods: &[&str]) -> Option<&'static str> {
    let has = |method| methods.contains(&method);
    Some(match (has("GET"), has("PUT"), has("POST"), has("DELETE")) {
        (false, false, false, false) => return None,
        (true, true, _, true) => "GET, PUT, DELETE",
        (true, true, _, false) => "GET, PUT",
        (true, false, true, true) => "GET, POST, DELETE",
        (true, false, _, true) => "GET, DELETE",
        (true, false, _, false) => "GET",
        (false, true, _, _) => "PUT",
        (false, false, true, _) => "POST",
        (false, false, false, true) => "DELETE",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, path: &str) -> Result<Asked, NotRouted> {
        let segments: Vec<_> = path.split('/').skip(1).collect();
        match route(&method.parse().unwrap(), &segments)? {
            Routed::Protected(route) => Ok(route.operation),
            Routed::Public(route) => match route.operation {},
        }
    }

    #[test]
    fn the_whole_service_model_is_known() {
        assert_eq!(SERVED.len() + UNSUPPORTED.len(), 57);
        for (operation, _, method, path) in SERVED {
            assert_eq!(asked(method, path).unwrap().operation, *operation);
        }
        for (name, method, path) in UNSUPPORTED {
            let found = asked(method, path).unwrap().operation;
            assert_eq!(found, Operation::Unsupported(name));
        }
    }

    #[test]
    fn names_come_from_the_path() {
        let found = asked("PUT", "/tables/arn:x/ns1/t1/rename").unwrap();
        let names = PathNames {
            arn: "arn:x".to_owned(),
            namespace: "ns1".to_owned(),
            table: "t1".to_owned(),
        };
        assert_eq!(
            found,
            Asked {
                operation: Operation::RenameTable,
                names
            }
        );
    }

    #[test]
    fn other_paths_and_methods_are_told_apart() {
        assert_eq!(asked("GET", "/buckets/"), Err(NotRouted::Unknown));
        assert_eq!(asked("GET", "/tables"), Err(NotRouted::Unknown));
        assert_eq!(
            asked("POST", "/buckets"),
            Err(NotRouted::Method("GET, PUT"))
        );
        assert_eq!(
            asked("PATCH", "/buckets/a"),
            Err(NotRouted::Method("GET, DELETE"))
        );
        assert_eq!(asked("GET", "/tables/a/b"), Err(NotRouted::Method("PUT")));
    }
}
