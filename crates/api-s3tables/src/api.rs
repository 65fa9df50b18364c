//! The protocol as the HTTP shell sees it.

use crate::failure::Failure;
use crate::route::{self, Asked, Never, Operation};
use crate::{buckets, namespaces, tables};
use floeberg_auth::{Authorizer, Principal};
use floeberg_catalog::{Catalog, PageRequest};
use floeberg_http::{Answer, Api, Call, NotRouted, Refusal, Routed, Shell};
use floeberg_metastore::Cx;
use floeberg_types::{AccountId, Region, RequestId};
use http::Method;

/// Where axum mounts this protocol: its own first segments, which S3 bucket names could collide
/// with, so S3 has a listener of its own.
pub const MOUNTS: &[&str] = &[
    "/buckets",
    "/buckets/{*rest}",
    "/namespaces/{*rest}",
    "/tables/{*rest}",
    "/get-table",
    "/tag/{*rest}",
    "/table-replication",
    "/table-bucket-replication",
    "/replication-status",
    "/table-record-expiration",
    "/table-record-expiration-job-status",
    "/get-table-migration",
    "/list-table-migrations",
    "/start-table-migration",
    "/sync-table-migration",
    "/update-table-migration",
    "/complete-table-migration",
];

/// The largest page and the size of a page when none is asked for.
const PAGE_MAX: usize = floeberg_types::limits::PAGE_ITEMS;

/// What the answers say of the cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster's region.
    pub region: Region,
    /// The account that owns the cluster.
    pub account: AccountId,
}

/// What the routes need of the node.
pub struct S3TablesState {
    /// The use cases.
    pub catalog: Catalog,
    /// Who may do what.
    pub authorizer: Authorizer,
    /// What the answers say of the cluster.
    pub settings: Settings,
}

/// The routes, to be merged with those of the other protocols.
pub fn router(shell: Shell, state: S3TablesState) -> axum::Router {
    floeberg_http::router(shell, state, MOUNTS)
}

/// An answer, or why there is none.
pub(crate) type Handled = Result<Answer, Failure>;

/// Which page a listing is asked for; `limit` is the name of its size parameter.
pub(crate) fn page(call: &Call, limit: &str) -> Result<PageRequest, Failure> {
    let size = match call.query.filled(limit) {
        None => PAGE_MAX,
        Some(text) => match text.parse::<usize>() {
            Ok(size) if (1..=PAGE_MAX).contains(&size) => size,
            _ => {
                let text = format!("{limit} must be a number from 1 to {PAGE_MAX}");
                return Err(Failure::bad_request(text));
            }
        },
    };
    let token = call
        .query
        .filled("continuationToken")
        .map(ToOwned::to_owned);
    Ok(PageRequest {
        token,
        size: Some(size),
    })
}

impl S3TablesState {
    pub(crate) fn cx(&self, call: &Call, principal: &Principal) -> Cx {
        Cx {
            request_id: call.request_id,
            account: principal.account.clone(),
            principal: principal.id.clone(),
            deadline: Some(call.deadline),
            attendance: call.attendance.clone(),
            caller: call.peer,
            idempotency: None,
        }
    }

    async fn handle(&self, asked: &Asked, call: &Call, who: &Principal) -> Handled {
        let names = &asked.names;
        match asked.operation {
            Operation::CreateTableBucket => buckets::create(self, call, who).await,
            Operation::GetTableBucket => buckets::get(self, names, call, who).await,
            Operation::ListTableBuckets => buckets::list(self, call, who).await,
            Operation::DeleteTableBucket => buckets::delete(self, names, call, who).await,
            Operation::CreateNamespace => namespaces::create(self, names, call, who).await,
            Operation::GetNamespace => namespaces::get(self, names, call, who).await,
            Operation::ListNamespaces => namespaces::list(self, names, call, who).await,
            Operation::DeleteNamespace => namespaces::delete(self, names, call, who).await,
            Operation::CreateTable => tables::create(self, names, call, who).await,
            Operation::GetTable => tables::get(self, call, who).await,
            Operation::ListTables => tables::list(self, names, call, who).await,
            Operation::DeleteTable => tables::delete(self, names, call, who).await,
            Operation::RenameTable => tables::rename(self, names, call, who).await,
            Operation::GetTableMetadataLocation => {
                tables::metadata_location(self, names, call, who).await
            }
            Operation::UpdateTableMetadataLocation => {
                tables::update_metadata_location(self, names, call, who).await
            }
            Operation::Unsupported(name) => Err(Failure::unsupported(name)),
        }
    }
}

impl Api for S3TablesState {
    type Public = Never;
    type Protected = Asked;
    const NAME: &'static str = "s3tables";
    const REQUEST_ID_HEADERS: &'static [&'static str] =
        &["x-amzn-requestid", "x-amz-request-id", "x-request-id"];

    fn route(&self, method: &Method, segments: &[&str]) -> Result<Routed<Never, Asked>, NotRouted> {
        route::route(method, segments)
    }

    async fn answer_public(&self, operation: Never, _: Call) -> Answer {
        match operation {}
    }

    async fn answer(&self, asked: Asked, call: Call, principal: Principal) -> Answer {
        let handled = self.handle(&asked, &call, &principal).await;
        handled.unwrap_or_else(|failure| failure.answer(call.request_id))
    }

    fn refuse(&self, refusal: &Refusal, request_id: RequestId) -> Answer {
        Failure::from(refusal).answer(request_id)
    }
}
