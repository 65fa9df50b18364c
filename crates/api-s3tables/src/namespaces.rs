//! Namespace operations.

use crate::api::{Handled, S3TablesState, page};
use crate::failure::Failure;
use crate::route::PathNames;
use crate::target::{self, bucket_arn, check_new};
use crate::wire::{
    CreateNamespaceRequest, CreateNamespaceResponse, NamespaceDescription, NamespaceList, iso8601,
    read,
};
use floeberg_auth::{Action, Authorized, Principal, Resource, action};
use floeberg_catalog::{CreateNamespace, ListNamespaces, NamespaceInfo};
use floeberg_http::{Call, empty, json};
use floeberg_types::{BucketName, Namespace};
use http::StatusCode;
use std::collections::BTreeMap;

fn allow<A: Action>(
    state: &S3TablesState,
    who: &Principal,
    bucket: &BucketName,
    namespace: &Namespace,
) -> Result<Authorized<A>, Failure> {
    let name = namespace.to_string();
    let resource = Resource::Namespace {
        bucket,
        namespace: &name,
    };
    Ok(state.authorizer.authorize(who, resource)?)
}

fn shown(state: &S3TablesState, info: &NamespaceInfo) -> NamespaceDescription {
    let account = state.settings.account.to_string();
    NamespaceDescription {
        namespace: info.namespace.levels().to_vec(),
        created_at: iso8601(info.created_at),
        // The model wants the account, whichever principal of it acted.
        created_by: account.clone(),
        owner_account_id: account,
        namespace_id: info.id.to_uuid_string(),
        table_bucket_id: None,
    }
}

pub(crate) async fn create(
    state: &S3TablesState,
    names: &PathNames,
    call: &Call,
    who: &Principal,
) -> Handled {
    let bucket = target::bucket(&names.arn, &state.settings)?;
    let body: CreateNamespaceRequest = read(&call.body)?;
    let [name] = body.namespace.as_slice() else {
        return Err(Failure::bad_request(
            "namespace must be a list of exactly one name",
        ));
    };
    check_new("namespace", name)?;
    let namespace = Namespace::new(vec![name.clone()]).map_err(Failure::bad_request)?;
    let allowed = allow::<action::CreateNamespace>(state, who, &bucket, &namespace)?;
    let table_bucket_arn = bucket_arn(&bucket, &state.settings).to_string();
    let request = CreateNamespace {
        bucket,
        namespace,
        properties: BTreeMap::new(),
    };
    let cx = state.cx(call, who);
    let info = state
        .catalog
        .create_namespace(&allowed, &cx, &request)
        .await?;
    let namespace = info.namespace.levels();
    Ok(json(
        StatusCode::OK,
        &CreateNamespaceResponse {
            table_bucket_arn,
            namespace,
        },
    ))
}

pub(crate) async fn get(
    state: &S3TablesState,
    names: &PathNames,
    call: &Call,
    who: &Principal,
) -> Handled {
    let bucket = target::bucket(&names.arn, &state.settings)?;
    let namespace = target::namespace(&names.namespace)?;
    let allowed = allow::<action::GetNamespace>(state, who, &bucket, &namespace)?;
    let cx = state.cx(call, who);
    let info = state
        .catalog
        .load_namespace(&allowed, &cx, &bucket, &namespace)
        .await?;
    Ok(json(StatusCode::OK, &shown(state, &info)))
}

pub(crate) async fn list(
    state: &S3TablesState,
    names: &PathNames,
    call: &Call,
    who: &Principal,
) -> Handled {
    let bucket = target::bucket(&names.arn, &state.settings)?;
    let allowed = state
        .authorizer
        .authorize::<action::ListNamespaces>(who, Resource::Bucket(&bucket))?;
    let request = ListNamespaces {
        bucket,
        parent: None,
        prefix: call.query.get("prefix").unwrap_or("").to_owned(),
        page: page(call, "maxNamespaces")?,
    };
    let cx = state.cx(call, who);
    let page = state
        .catalog
        .list_namespaces(&allowed, &cx, &request)
        .await?;
    let body = NamespaceList {
        namespaces: page.items.iter().map(|info| shown(state, info)).collect(),
        continuation_token: page.next,
    };
    Ok(json(StatusCode::OK, &body))
}

pub(crate) async fn delete(
    state: &S3TablesState,
    names: &PathNames,
    call: &Call,
    who: &Principal,
) -> Handled {
    let bucket = target::bucket(&names.arn, &state.settings)?;
    let namespace = target::namespace(&names.namespace)?;
    let allowed = allow::<action::DeleteNamespace>(state, who, &bucket, &namespace)?;
    let cx = state.cx(call, who);
    state
        .catalog
        .drop_namespace(&allowed, &cx, &bucket, &namespace)
        .await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
