//! Namespace operations.

use crate::api::{Handled, IcebergState};
use crate::failure::Failure;
use crate::route::{Operation, PathNames};
use crate::wire::{
    CreateNamespaceRequest, ListNamespacesResponse, NamespaceResponse, UpdatePropertiesRequest,
    UpdatePropertiesResponse,
};
use crate::{api, target};
use floeberg_auth::{Action, Authorized, Principal, Resource, action};
use floeberg_catalog::{CreateNamespace, ListNamespaces, NamespaceInfo, UpdateProperties};
use floeberg_http::{Answer, Call, empty, json};
use floeberg_types::{BucketName, Namespace};
use http::StatusCode;

fn allow<A: Action>(
    state: &IcebergState,
    principal: &Principal,
    bucket: &BucketName,
    namespace: &Namespace,
) -> Result<Authorized<A>, Failure> {
    let name = namespace.to_string();
    let resource = Resource::Namespace {
        bucket,
        namespace: &name,
    };
    Ok(state.authorizer.authorize(principal, resource)?)
}

fn shown(info: &NamespaceInfo) -> Answer {
    let body = NamespaceResponse {
        namespace: info.namespace.levels(),
        properties: &info.properties,
    };
    json(StatusCode::OK, &body)
}

pub(crate) async fn list(
    state: &IcebergState,
    names: &PathNames,
    call: &Call,
    principal: &Principal,
) -> Handled {
    let bucket = state.bucket(names)?;
    let allowed = state
        .authorizer
        .authorize::<action::ListNamespaces>(principal, Resource::Bucket(&bucket))?;
    let request = ListNamespaces {
        bucket,
        parent: call
            .query
            .filled("parent")
            .map(target::namespace)
            .transpose()?,
        prefix: String::new(),
        page: api::page(call)?,
    };
    let cx = state.cx(call, principal);
    let page = state
        .catalog
        .list_namespaces(&allowed, &cx, &request)
        .await?;
    // Megabytes, if there are many.
    let answer = move || {
        let namespaces = page.items.iter().map(|info| info.namespace.levels());
        let body = ListNamespacesResponse {
            namespaces: namespaces.collect(),
            next_page_token: page.next,
        };
        json(StatusCode::OK, &body)
    };
    Ok(state.catalog.step_behind(answer).await?)
}

pub(crate) async fn create(
    state: &IcebergState,
    names: &PathNames,
    call: &Call,
    principal: &Principal,
) -> Handled {
    let bucket = state.bucket(names)?;
    let body: CreateNamespaceRequest = state.parsed(&call.body).await?;
    let namespace = Namespace::new(body.namespace)?;
    let allowed = allow::<action::CreateNamespace>(state, principal, &bucket, &namespace)?;
    let properties = body.properties.into_map();
    let request = CreateNamespace {
        bucket,
        namespace,
        properties,
    };
    let cx = state.cx_once(Operation::CreateNamespace, names, call, principal)?;
    let info = state
        .catalog
        .create_namespace(&allowed, &cx, &request)
        .await?;
    Ok(shown(&info))
}

pub(crate) async fn load(
    state: &IcebergState,
    names: &PathNames,
    call: &Call,
    principal: &Principal,
) -> Handled {
    let bucket = state.bucket(names)?;
    let namespace = target::namespace(&names.namespace)?;
    let allowed = allow::<action::GetNamespace>(state, principal, &bucket, &namespace)?;
    let cx = state.cx(call, principal);
    let info = state
        .catalog
        .load_namespace(&allowed, &cx, &bucket, &namespace)
        .await?;
    Ok(shown(&info))
}

pub(crate) async fn exists(
    state: &IcebergState,
    names: &PathNames,
    call: &Call,
    principal: &Principal,
) -> Handled {
    load(state, names, call, principal).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn drop(
    state: &IcebergState,
    names: &PathNames,
    call: &Call,
    principal: &Principal,
) -> Handled {
    let bucket = state.bucket(names)?;
    let namespace = target::namespace(&names.namespace)?;
    let allowed = allow::<action::DeleteNamespace>(state, principal, &bucket, &namespace)?;
    let cx = state.cx_once(Operation::DropNamespace, names, call, principal)?;
    state
        .catalog
        .drop_namespace(&allowed, &cx, &bucket, &namespace)
        .await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn update(
    state: &IcebergState,
    names: &PathNames,
    call: &Call,
    principal: &Principal,
) -> Handled {
    let bucket = state.bucket(names)?;
    let namespace = target::namespace(&names.namespace)?;
    let allowed =
        allow::<action::UpdateNamespaceProperties>(state, principal, &bucket, &namespace)?;
    let body: UpdatePropertiesRequest = state.parsed(&call.body).await?;
    let request = UpdateProperties {
        bucket,
        namespace,
        removals: body.removals.unwrap_or_default().into_iter().collect(),
        updates: body.updates.into_map(),
    };
    let cx = state.cx_once(Operation::UpdateProperties, names, call, principal)?;
    let done = state
        .catalog
        .update_namespace(&allowed, &cx, &request)
        .await?;
    let body = UpdatePropertiesResponse {
        updated: done.updated,
        removed: done.removed,
        missing: done.missing,
    };
    Ok(json(StatusCode::OK, &body))
}
