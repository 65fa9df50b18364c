//! Which operation a method and path name.

use floeberg_auth::{Action as _, Effect, action};
use floeberg_http::{BodySize, NotRouted, Route, Routed};
use http::Method;

/// Operations that need a principal; names are the `operationId`s of the REST specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    GetConfig,
    ListNamespaces,
    CreateNamespace,
    LoadNamespaceMetadata,
    NamespaceExists,
    DropNamespace,
    UpdateProperties,
    ListTables,
    CreateTable,
    RegisterTable,
    LoadTable,
    TableExists,
    UpdateTable,
    DropTable,
    LoadCredentials,
    ReportMetrics,
    RenameTable,
    CommitTransaction,
}

/// What an operation acts on, as text of the path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathNames {
    pub prefix: String,
    pub namespace: String,
    pub table: String,
}

/// An operation that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub operation: Operation,
    pub names: PathNames,
}

impl Asked {
    fn routed(self) -> Routed<GetToken, Self> {
        Routed::Protected(Route {
            name: self.operation.name(),
            body: self.operation.body(),
            effect: self.operation.effect(),
            operation: self,
        })
    }
}

/// The token endpoint, which authenticates by its own means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetToken;

/// Every operation with its method and its path as `getConfig` announces it.
const TABLE: &[(Operation, &str, &str, &str)] = &[
    (
        Operation::ListNamespaces,
        "listNamespaces",
        "GET",
        "/v1/{prefix}/namespaces",
    ),
    (
        Operation::CreateNamespace,
        "createNamespace",
        "POST",
        "/v1/{prefix}/namespaces",
    ),
    (
        Operation::LoadNamespaceMetadata,
        "loadNamespaceMetadata",
        "GET",
        "/v1/{prefix}/namespaces/{namespace}",
    ),
    (
        Operation::NamespaceExists,
        "namespaceExists",
        "HEAD",
        "/v1/{prefix}/namespaces/{namespace}",
    ),
    (
        Operation::DropNamespace,
        "dropNamespace",
        "DELETE",
        "/v1/{prefix}/namespaces/{namespace}",
    ),
    (
        Operation::UpdateProperties,
        "updateProperties",
        "POST",
        "/v1/{prefix}/namespaces/{namespace}/properties",
    ),
    (
        Operation::ListTables,
        "listTables",
        "GET",
        "/v1/{prefix}/namespaces/{namespace}/tables",
    ),
    (
        Operation::CreateTable,
        "createTable",
        "POST",
        "/v1/{prefix}/namespaces/{namespace}/tables",
    ),
    (
        Operation::RegisterTable,
        "registerTable",
        "POST",
        "/v1/{prefix}/namespaces/{namespace}/register",
    ),
    (
        Operation::LoadTable,
        "loadTable",
        "GET",
        "/v1/{prefix}/namespaces/{namespace}/tables/{table}",
    ),
    (
        Operation::TableExists,
        "tableExists",
        "HEAD",
        "/v1/{prefix}/namespaces/{namespace}/tables/{table}",
    ),
    (
        Operation::UpdateTable,
        "updateTable",
        "POST",
        "/v1/{prefix}/namespaces/{namespace}/tables/{table}",
    ),
    (
        Operation::DropTable,
        "dropTable",
        "DELETE",
        "/v1/{prefix}/namespaces/{namespace}/tables/{table}",
    ),
    (
        Operation::LoadCredentials,
        "loadCredentials",
        "GET",
        "/v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials",
    ),
    (
        Operation::ReportMetrics,
        "reportMetrics",
        "POST",
        "/v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics",
    ),
    (
        Operation::RenameTable,
        "renameTable",
        "POST",
        "/v1/{prefix}/tables/rename",
    ),
    (
        Operation::CommitTransaction,
        "commitTransaction",
        "POST",
        "/v1/{prefix}/transactions/commit",
    ),
];

impl Operation {
    /// Its `operationId`.
    pub(crate) fn name(self) -> &'static str {
        let entry = TABLE.iter().find(|entry| entry.0 == self);
        entry.map_or("getConfig", |entry| entry.1)
    }

    /// How much body it takes.
    fn body(self) -> BodySize {
        match self {
            Self::GetConfig
            | Self::ListNamespaces
            | Self::LoadNamespaceMetadata
            | Self::NamespaceExists
            | Self::DropNamespace
            | Self::ListTables
            | Self::LoadTable
            | Self::TableExists
            | Self::DropTable
            | Self::LoadCredentials
            | Self::RenameTable => BodySize::Small,
            Self::CreateNamespace | Self::UpdateProperties | Self::ReportMetrics => {
                BodySize::Medium
            }
            Self::CreateTable
            | Self::RegisterTable
            | Self::UpdateTable
            | Self::CommitTransaction => BodySize::Large,
        }
    }

    /// What it does to the room on the disk.
    pub(crate) fn effect(self) -> Effect {
        match self {
            Self::GetConfig => action::GetTableBucket::EFFECT,
            Self::ListNamespaces => action::ListNamespaces::EFFECT,
            Self::CreateNamespace => action::CreateNamespace::EFFECT,
            Self::LoadNamespaceMetadata | Self::NamespaceExists => action::GetNamespace::EFFECT,
            Self::DropNamespace => action::DeleteNamespace::EFFECT,
            Self::UpdateProperties => action::UpdateNamespaceProperties::EFFECT,
            Self::ListTables => action::ListTables::EFFECT,
            Self::CreateTable => action::CreateTable::EFFECT,
            Self::RegisterTable => action::RegisterTable::EFFECT,
            Self::LoadTable => action::LoadTable::EFFECT,
            Self::TableExists => action::GetTable::EFFECT,
            Self::UpdateTable => action::CommitTable::EFFECT,
            Self::DropTable => action::DropTable::EFFECT,
            Self::LoadCredentials => action::GetTableCredentials::EFFECT,
            Self::ReportMetrics => action::ReportMetrics::EFFECT,
            Self::RenameTable => action::RenameTable::EFFECT,
            Self::CommitTransaction => action::CommitTransaction::EFFECT,
        }
    }

    /// Whether it is done once for each idempotency key.
    pub(crate) fn is_once(self) -> bool {
        match self {
            Self::CreateNamespace
            | Self::DropNamespace
            | Self::UpdateProperties
            | Self::CreateTable
            | Self::RegisterTable
            | Self::UpdateTable
            | Self::DropTable
            | Self::RenameTable
            | Self::CommitTransaction => true,
            Self::GetConfig
            | Self::ListNamespaces
            | Self::LoadNamespaceMetadata
            | Self::NamespaceExists
            | Self::ListTables
            | Self::LoadTable
            | Self::TableExists
            | Self::LoadCredentials
            | Self::ReportMetrics => false,
        }
    }
}

/// Method, path pattern and size of body of everything that is routed, for whoever tries them all.
pub fn routes() -> impl Iterator<Item = (&'static str, String, BodySize)> {
    let own = [
        ("POST", "/v1/oauth/tokens", BodySize::Small),
        ("GET", "/v1/config", Operation::GetConfig.body()),
    ];
    let table = TABLE.iter();
    let table = table.map(|(operation, _, method, path)| (*method, *path, operation.body()));
    let all = own.into_iter().chain(table);
    all.map(|(method, path, body)| (method, format!("/iceberg{path}"), body))
}

/// What `getConfig` announces: exactly the operations that are routed.
pub(crate) fn endpoints() -> Vec<String> {
    TABLE
        .iter()
        .map(|(_, _, method, path)| format!("{method} {path}"))
        .collect()
}

/// Whether decoded segments fit a path pattern, and the names in them.
fn fit(pattern: &str, segments: &[&str]) -> Option<PathNames> {
    let mut names = PathNames::default();
    let mut given = segments.iter();
    for part in pattern.split('/').skip(1) {
        let text = *given.next()?;
        match part {
            "{prefix}" => text.clone_into(&mut names.prefix),
            "{namespace}" => text.clone_into(&mut names.namespace),
            "{table}" => text.clone_into(&mut names.table),
            fixed if fixed == text => continue,
            _ => return None,
        }
        if text.is_empty() {
            return None;
        }
    }
    given.next().is_none().then_some(names)
}

pub(crate) fn route(
    method: &Method,
    segments: &[&str],
) -> Result<Routed<GetToken, Asked>, NotRouted> {
    let [mount, inner @ ..] = segments else {
        return Err(NotRouted::Unknown);
    };
    if *mount != "iceberg" {
        return Err(NotRouted::Unknown);
    }
    match (method.as_str(), inner) {
        ("POST", ["v1", "oauth", "tokens"]) => {
            return Ok(Routed::Public(Route {
                operation: GetToken,
                name: "getToken",
                body: BodySize::Small,
                effect: Effect::Reads,
            }));
        }
        (_, ["v1", "oauth", "tokens"]) => return Err(NotRouted::Method("POST")),
        ("GET", ["v1", "config"]) => {
            let asked = Asked {
                operation: Operation::GetConfig,
                names: PathNames::default(),
            };
            return Ok(asked.routed());
        }
        (_, ["v1", "config"]) => return Err(NotRouted::Method("GET")),
        _ => {}
    }
    let mut fitting = TABLE
        .iter()
        .filter_map(|entry| Some((entry, fit(entry.3, inner)?)))
        .peekable();
    let path = fitting.peek().map(|(entry, _)| entry.3);
    match fitting.find(|(entry, _)| entry.2 == method.as_str()) {
        Some(((operation, ..), names)) => Ok(Asked {
            operation: *operation,
            names,
        }
        .routed()),
        None => Err(path.map_or(NotRouted::Unknown, |path| NotRouted::Method(allowed(path)))),
    }
}

/// The `Allow` header of a path that is served.
fn allowed(path: &str) -> &'static str {
    match path {
        "/v1/{prefix}/namespaces" | "/v1/{prefix}/namespaces/{namespace}/tables" => "GET, POST",
        "/v1/{prefix}/namespaces/{namespace}" => "GET, HEAD, DELETE",
        "/v1/{prefix}/namespaces/{namespace}/tables/{table}" => "GET, HEAD, POST, DELETE",
        "/v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials" => "GET",
        _ => "POST",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, path: &str) -> Result<(Operation, PathNames), NotRouted> {
        let segments: Vec<_> = path.split('/').skip(1).collect();
        match route(&method.parse().unwrap(), &segments)? {
            Routed::Protected(route) => Ok((route.operation.operation, route.operation.names)),
            Routed::Public(..) => panic!("{path} is public"),
        }
    }

    #[test]
    fn every_announced_endpoint_is_routed_to_its_operation() {
        for (operation, _, method, path) in TABLE {
            let path = path
                .replace("{prefix}", "arn:b")
                .replace("{namespace}", "ns")
                .replace("{table}", "t");
            let (found, names) = asked(method, &format!("/iceberg{path}")).unwrap();
            assert_eq!(found, *operation);
            assert_eq!(names.prefix, "arn:b");
        }
        assert_eq!(endpoints().len(), TABLE.len());
    }

    #[test]
    fn the_allow_header_lists_exactly_the_methods_of_a_path() {
        for (_, _, _, path) in TABLE {
            let methods: Vec<_> = TABLE.iter().filter(|e| e.3 == *path).map(|e| e.2).collect();
            let mut allowed: Vec<_> = allowed(path).split(", ").collect();
            allowed.sort_unstable();
            let mut methods = methods;
            methods.sort_unstable();
            assert_eq!(allowed, methods, "{path}");
        }
    }

    #[test]
    fn other_paths_and_methods_are_told_apart() {
        let unknown = Err(NotRouted::Unknown);
        assert_eq!(asked("GET", "/iceberg/v1/p/views"), unknown);
        assert_eq!(asked("GET", "/iceberg/v1/p/namespaces/"), unknown);
        assert_eq!(asked("GET", "/iceberg/v2/config"), unknown);
        assert_eq!(asked("GET", "/iceberg"), unknown);
        assert_eq!(
            asked("PUT", "/iceberg/v1/p/namespaces"),
            Err(NotRouted::Method("GET, POST"))
        );
        assert_eq!(
            asked("DELETE", "/iceberg/v1/config"),
            Err(NotRouted::Method("GET"))
        );
        // `rename` is a path of its own and no table of a namespace.
        let (operation, _) = asked("POST", "/iceberg/v1/p/tables/rename").unwrap();
        assert_eq!(operation, Operation::RenameTable);
    }
}
