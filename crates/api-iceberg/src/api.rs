//! The protocol as the HTTP shell sees it.

use crate::failure::Failure;
use crate::route::{self, Asked, GetToken, Operation, PathNames};
use crate::wire::read;
use crate::{config, namespaces, oauth, tables, target};
use bytes::Bytes;
use floeberg_auth::{Authorizer, Keyring, Principal};
use floeberg_catalog::{Catalog, PageRequest};
use floeberg_http::{Answer, Api, Call, NotRouted, Refusal, Routed, Shell};
use floeberg_metastore::Cx;
use floeberg_types::{AccountId, BucketName, Region, RequestId};
use http::Method;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Where axum mounts this protocol.
pub const MOUNTS: &[&str] = &["/iceberg", "/iceberg/", "/iceberg/{*rest}"];

/// Items of a page when a client pages without saying how many it wants.
const PAGE_DEFAULT: usize = 1000;

/// A body up to here is parsed sooner than it could be handed to another thread and back.
const PARSED_IN_PLACE: usize = 64 << 10;

/// What the answers say of the cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster's region.
    pub region: Region,
    /// The account that owns the cluster.
    pub account: AccountId,
    /// The address of the S3 listener as clients reach it, for example `http://127.0.0.1:9000`.
    pub s3_endpoint: String,
}

/// What the routes need of the node.
pub struct IcebergState {
    /// The use cases.
    pub catalog: Catalog,
    /// Issues tokens and temporary credentials.
    pub keys: Arc<Keyring>,
    /// Who may do what.
    pub authorizer: Authorizer,
    /// What the answers say of the cluster.
    pub settings: Settings,
}

/// The routes, to be merged with those of the other protocols.
pub fn router(shell: Shell, state: IcebergState) -> axum::Router {
    floeberg_http::router(shell, state, MOUNTS)
}

/// An answer, or why there is none.
pub(crate) type Handled = Result<Answer, Failure>;

/// Which page a listing is asked for. Without `pageToken` a client does not know of paging and gets
/// everything; an empty one begins.
pub(crate) fn page(call: &Call) -> Result<PageRequest, Failure> {
    let size = match call.query.filled("pageSize") {
        None => PAGE_DEFAULT,
        Some(text) => match text.parse::<usize>() {
            Ok(size) if size > 0 => size,
            _ => return Err(Failure::bad_request("pageSize must be a positive number")),
        },
    };
    Ok(match call.query.get("pageToken") {
        None => PageRequest::default(),
        Some("") => PageRequest {
            token: None,
            size: Some(size),
        },
        Some(token) => PageRequest {
            token: Some(token.to_owned()),
            size: Some(size),
        },
    })
}

impl IcebergState {
    /// The context of a request that changes nothing.
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

    /// The request in a body, parsed apart if it is large.
    pub(crate) async fn parsed<T>(&self, body: &Bytes) -> Result<T, Failure>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.understood(body, |read: T| Ok(read)).await
    }

    /// What `understand` makes of the request in a body; both are done apart if it is large.
    pub(crate) async fn understood<T, U, F>(
        &self,
        body: &Bytes,
        understand: F,
    ) -> Result<U, Failure>
    where
        T: DeserializeOwned,
        U: Send + 'static,
        F: FnOnce(T) -> Result<U, Failure> + Send + 'static,
    {
        if body.len() <= PARSED_IN_PLACE {
            return understand(read(body)?);
        }
        let body = body.clone();
        let work = move || understand(read(&body)?);
        self.catalog.step(work).await?
    }

    /// The bucket that the path's prefix names.
    pub(crate) fn bucket(&self, names: &PathNames) -> Result<BucketName, Failure> {
        target::bucket(&names.prefix, &self.settings.region, &self.settings.account)
    }

    async fn handle(&self, asked: &Asked, call: &Call, who: &Principal) -> Handled {
        match self.run(asked, call, who).await {
            Err(failure) if failure.is_decided() => self.refuse(asked, call, who, failure).await,
            handled => handled,
        }
    }

    pub(crate) async fn run(&self, asked: &Asked, call: &Call, who: &Principal) -> Handled {
        let names = &asked.names;
        match asked.operation {
            Operation::GetConfig => config::get(self, call, who).await,
            Operation::ListNamespaces => namespaces::list(self, names, call, who).await,
            Operation::CreateNamespace => namespaces::create(self, names, call, who).await,
            Operation::LoadNamespaceMetadata => namespaces::load(self, names, call, who).await,
            Operation::NamespaceExists => namespaces::exists(self, names, call, who).await,
            Operation::DropNamespace => namespaces::drop(self, names, call, who).await,
            Operation::UpdateProperties => namespaces::update(self, names, call, who).await,
            Operation::ListTables => tables::list(self, names, call, who).await,
            Operation::CreateTable => tables::create(self, names, call, who).await,
            Operation::RegisterTable => tables::register(self, names, call, who).await,
            Operation::LoadTable => tables::load(self, names, call, who).await,
            Operation::TableExists => tables::exists(self, names, call, who).await,
            Operation::UpdateTable => tables::commit(self, names, call, who).await,
            Operation::DropTable => tables::drop(self, names, call, who).await,
            Operation::LoadCredentials => tables::credentials(self, names, call, who).await,
            Operation::ReportMetrics => tables::report(self, names, call, who).await,
            Operation::RenameTable => tables::rename(self, names, call, who).await,
            Operation::CommitTransaction => tables::transaction(self, names, call, who).await,
        }
    }
}

impl Api for IcebergState {
    type Public = GetToken;
    type Protected = Asked;
    const NAME: &'static str = "iceberg";
    const REQUEST_ID_HEADERS: &'static [&'static str] = &["x-request-id"];

    fn route(
        &self,
        method: &Method,
        segments: &[&str],
    ) -> Result<Routed<GetToken, Asked>, NotRouted> {
        route::route(method, segments)
    }

    async fn answer_public(&self, GetToken: GetToken, call: Call) -> Answer {
        oauth::get_token(&self.keys, &call)
    }

    async fn answer(&self, asked: Asked, call: Call, principal: Principal) -> Answer {
        tables::finish(self.handle(&asked, &call, &principal).await, &call)
    }

    fn refuse(&self, refusal: &Refusal, request_id: RequestId) -> Answer {
        Failure::from(refusal).answer(request_id)
    }
}
