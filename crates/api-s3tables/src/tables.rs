//! Table operations.

use crate::api::{Handled, S3TablesState, page};
use crate::failure::Failure;
use crate::metadata;
use crate::route::PathNames;
use crate::target::{self, bucket_arn, check_new};
use crate::wire::{
    CreateTableRequest, CreateTableResponse, CreationSettings, MetadataLocationResponse,
    RenameTableRequest, TableDescription, TableList, TableSummary, UpdateMetadataLocationRequest,
    UpdateMetadataLocationResponse, iso8601, read,
};
use floeberg_auth::{Action, Authorized, Principal, Resource, action};
use floeberg_catalog::{
    CreateTable, DropTable, ListTables, Purge, RenameTable, TableInfo, TableSelector,
    UpdateMetadataLocation,
};
use floeberg_http::{Call, empty, json};
use floeberg_types::{BucketName, TableArn, TableIdent};
use http::StatusCode;

fn allow<A: Action>(
    state: &S3TablesState,
    who: &Principal,
    bucket: &BucketName,
    ident: &TableIdent,
) -> Result<Authorized<A>, Failure> {
    let namespace = ident.namespace.to_string();
    let table = ident.name.as_str();
    let resource = Resource::Table {
        bucket,
        namespace: &namespace,
        table,
    };
    Ok(state.authorizer.authorize(who, resource)?)
}

fn arn_of(state: &S3TablesState, info: &TableInfo) -> String {
    let bucket = bucket_arn(&info.bucket, &state.settings);
    TableArn {
        bucket,
        table: info.id,
    }
    .to_string()
}

fn path_table(
    state: &S3TablesState,
    names: &PathNames,
) -> Result<(BucketName, TableIdent), Failure> {
    let bucket = target::bucket(&names.arn, &state.settings)?;
    Ok((bucket, target::table(&names.namespace, &names.table)?))
}

pub(crate) async fn create(
    state: &S3TablesState,
    names: &PathNames,
    call: &Call,
    who: &Principal,
) -> Handled {
    let bucket = target::bucket(&names.arn, &state.settings)?;
    let body: CreateTableRequest = read(&call.body)?;
    check_new("table", &body.name)?;
    let ident = target::table(&names.namespace, &body.name)?;
    let allowed = allow::<action::CreateTable>(state, who, &bucket, &ident)?;
    if body.format != "ICEBERG" {
        let text = format!("format must be `ICEBERG`, not `{}`", body.format);
        return Err(Failure::bad_request(text));
    }
    let settings = CreationSettings {
        encryption_configuration: body.encryption_configuration,
        storage_class_configuration: body.storage_class_configuration,
        tags: body.tags,
    };
    settings.check()?;
    let cx = state.cx(call, who);
    let info = match metadata::first(body.metadata)? {
        None => {
            state
                .catalog
                .create_empty_table(&allowed, &cx, &bucket, &ident)
                .await?
        }
        Some(first) => {
            let request = CreateTable {
                bucket,
                ident,
                location: None,
                schema: first.schema,
                partition_spec: first.partition_spec,
                sort_order: first.sort_order,
                properties: first.properties,
            };
            let head = state.catalog.create_table(&allowed, &cx, &request).await?;
            head.info().clone()
        }
    };
    let body = CreateTableResponse {
        table_arn: arn_of(state, &info),
        version_token: info.version_token.to_string(),
    };
    Ok(json(StatusCode::OK, &body))
}

/// The table that a `GetTable` query names: by ARN, or by bucket, namespace and name.
fn selected(state: &S3TablesState, call: &Call) -> Result<(BucketName, TableSelector), Failure> {
    let query = &call.query;
    let names = ["tableBucketARN", "namespace", "name"].map(|name| query.filled(name));
    match (query.filled("tableArn"), names) {
        (Some(arn), [None, None, None]) => {
            let (bucket, id) = target::table_arn(arn, &state.settings)?;
            Ok((bucket, TableSelector::Id(id)))
        }
        (None, [Some(arn), Some(namespace), Some(name)]) => {
            let bucket = target::bucket(arn, &state.settings)?;
            Ok((bucket, TableSelector::Name(target::table(namespace, name)?)))
        }
        _ => Err(Failure::bad_request(
            "name the table either by tableArn or by tableBucketARN, namespace and name",
        )),
    }
}

pub(crate) async fn get(state: &S3TablesState, call: &Call, who: &Principal) -> Handled {
    let (bucket, selector) = selected(state, call)?;
    let allowed = match &selector {
        TableSelector::Name(ident) => allow::<action::GetTable>(state, who, &bucket, ident)?,
        TableSelector::Id(_) => state
            .authorizer
            .authorize::<action::GetTable>(who, Resource::Bucket(&bucket))?,
    };
    let cx = state.cx(call, who);
    let info = state
        .catalog
        .get_table(&allowed, &cx, &bucket, &selector)
        .await?;
    let account = state.settings.account.as_str();
    let body = TableDescription {
        name: info.ident.name.as_str(),
        r#type: "customer",
        table_arn: arn_of(state, &info),
        namespace: info.ident.namespace.levels(),
        namespace_id: info.namespace_id.to_uuid_string(),
        version_token: info.version_token.to_string(),
        metadata_location: info.metadata_location.as_deref(),
        warehouse_location: &info.location,
        created_at: iso8601(info.created_at),
        created_by: account,
        modified_at: iso8601(info.modified_at),
        modified_by: account,
        owner_account_id: account,
        format: "ICEBERG",
        table_bucket_id: info.bucket_id.to_uuid_string(),
    };
    Ok(json(StatusCode::OK, &body))
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
        .authorize::<action::ListTables>(who, Resource::Bucket(&bucket))?;
    let request = ListTables {
        bucket,
        namespace: call
            .query
            .filled("namespace")
            .map(target::namespace)
            .transpose()?,
        prefix: call.query.get("prefix").unwrap_or("").to_owned(),
        page: page(call, "maxTables")?,
    };
    let cx = state.cx(call, who);
    let page = state.catalog.list_tables(&allowed, &cx, &request).await?;
    let tables = page.items.iter().map(|info| TableSummary {
        namespace: info.ident.namespace.levels(),
        name: info.ident.name.as_str(),
        r#type: "customer",
        table_arn: arn_of(state, info),
        created_at: iso8601(info.created_at),
        modified_at: iso8601(info.modified_at),
        namespace_id: info.namespace_id.to_uuid_string(),
        table_bucket_id: info.bucket_id.to_uuid_string(),
    });
    let body = TableList {
        tables: tables.collect(),
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
    let (bucket, ident) = path_table(state, names)?;
    let allowed = allow::<action::DropTable>(state, who, &bucket, &ident)?;
    let version_token = call.query.filled("versionToken").map(ToOwned::to_owned);
    let request = DropTable {
        bucket,
        ident,
        purge: Purge::Requested,
        version_token,
    };
    let cx = state.cx(call, who);
    state.catalog.drop_table(&allowed, &cx, &request).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn rename(
    state: &S3TablesState,
    names: &PathNames,
    call: &Call,
    who: &Principal,
) -> Handled {
    let (bucket, from) = path_table(state, names)?;
    let allowed = allow::<action::RenameTable>(state, who, &bucket, &from)?;
    let body: RenameTableRequest = read(&call.body)?;
    let mut to = from.clone();
    if body.new_namespace_name.is_none() && body.new_name.is_none() {
        return Err(Failure::bad_request(
            "give newName, newNamespaceName or both",
        ));
    }
    if let Some(namespace) = &body.new_namespace_name {
        to.namespace = target::namespace(namespace)?;
    }
    if let Some(name) = &body.new_name {
        check_new("table", name)?;
        to.name = name.parse().map_err(Failure::bad_request)?;
    }
    let request = RenameTable {
        bucket,
        from,
        to,
        version_token: body.version_token,
    };
    let cx = state.cx(call, who);
    state.catalog.rename_table(&allowed, &cx, &request).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn metadata_location(
    state: &S3TablesState,
    names: &PathNames,
    call: &Call,
    who: &Principal,
) -> Handled {
    let (bucket, ident) = path_table(state, names)?;
    let allowed = allow::<action::GetTableMetadataLocation>(state, who, &bucket, &ident)?;
    let cx = state.cx(call, who);
    let found = state
        .catalog
        .metadata_location(&allowed, &cx, &bucket, &ident)
        .await?;
    let body = MetadataLocationResponse {
        version_token: found.version_token.to_string(),
        metadata_location: found.metadata_location,
        warehouse_location: found.warehouse_location,
    };
    Ok(json(StatusCode::OK, &body))
}

pub(crate) async fn update_metadata_location(
    state: &S3TablesState,
    names: &PathNames,
    call: &Call,
    who: &Principal,
) -> Handled {
    let (bucket, ident) = path_table(state, names)?;
    let allowed = allow::<action::UpdateTableMetadataLocation>(state, who, &bucket, &ident)?;
    let body: UpdateMetadataLocationRequest = read(&call.body)?;
    let request = UpdateMetadataLocation {
        bucket,
        ident,
        version_token: body.version_token,
        metadata_location: body.metadata_location,
    };
    let cx = state.cx(call, who);
    let info = state
        .catalog
        .update_metadata_location(&allowed, &cx, &request)
        .await?;
    let body = UpdateMetadataLocationResponse {
        name: info.ident.name.as_str(),
        table_arn: arn_of(state, &info),
        namespace: info.ident.namespace.levels(),
        version_token: info.version_token.to_string(),
        metadata_location: info
            .metadata_location
            .as_deref()
            .unwrap_or(&request.metadata_location),
    };
    Ok(json(StatusCode::OK, &body))
}
