//! Table bucket operations.

use crate::api::{Handled, S3TablesState, page};
use crate::failure::Failure;
use crate::route::PathNames;
use crate::target::{self, bucket_arn};
use crate::wire::{CreateTableBucketRequest, TableBucket, TableBucketList, iso8601, read};
use floeberg_auth::{Principal, Resource, action};
use floeberg_catalog::{BucketInfo, CreateTableBucket, ListBuckets};
use floeberg_http::{Call, empty, json};
use http::StatusCode;
use serde::Serialize;

fn shown(state: &S3TablesState, info: &BucketInfo) -> TableBucket {
    TableBucket {
        arn: bucket_arn(&info.name, &state.settings).to_string(),
        name: info.name.to_string(),
        owner_account_id: info.account.to_string(),
        created_at: iso8601(info.created_at),
        table_bucket_id: info.id.to_uuid_string(),
        r#type: "customer",
    }
}

pub(crate) async fn create(state: &S3TablesState, call: &Call, who: &Principal) -> Handled {
    #[derive(Serialize)]
    struct Body {
        arn: String,
    }
    let body: CreateTableBucketRequest = read(&call.body)?;
    let allowed = state
        .authorizer
        .authorize::<action::CreateTableBucket>(who, Resource::Cluster)?;
    body.settings.check()?;
    let request = CreateTableBucket {
        name: body.name,
        ..CreateTableBucket::default()
    };
    let cx = state.cx(call, who);
    let info = state
        .catalog
        .create_table_bucket(&allowed, &cx, request)
        .await?;
    let arn = bucket_arn(&info.name, &state.settings).to_string();
    Ok(json(StatusCode::OK, &Body { arn }))
}

pub(crate) async fn get(
    state: &S3TablesState,
    names: &PathNames,
    call: &Call,
    who: &Principal,
) -> Handled {
    let bucket = target::bucket(&names.arn, &state.settings)?;
    let allowed = state
        .authorizer
        .authorize::<action::GetTableBucket>(who, Resource::Bucket(&bucket))?;
    let cx = state.cx(call, who);
    let info = state
        .catalog
        .get_table_bucket(&allowed, &cx, &bucket)
        .await?;
    Ok(json(StatusCode::OK, &shown(state, &info)))
}

pub(crate) async fn list(state: &S3TablesState, call: &Call, who: &Principal) -> Handled {
    let allowed = state
        .authorizer
        .authorize::<action::ListTableBuckets>(who, Resource::Cluster)?;
    let request = ListBuckets {
        prefix: call.query.get("prefix").unwrap_or("").to_owned(),
        page: page(call, "maxBuckets")?,
    };
    let none = match call.query.filled("type") {
        None | Some("customer") => false,
        // Buckets that a service of the provider owns do not exist here.
        Some("aws") => true,
        Some(other) => {
            let text = format!("type must be `customer` or `aws`, not `{other}`");
            return Err(Failure::bad_request(text));
        }
    };
    let cx = state.cx(call, who);
    let page = state
        .catalog
        .list_table_buckets(&allowed, &cx, &request)
        .await?;
    let body = if none {
        TableBucketList {
            table_buckets: Vec::new(),
            continuation_token: None,
        }
    } else {
        TableBucketList {
            table_buckets: page.items.iter().map(|info| shown(state, info)).collect(),
            continuation_token: page.next,
        }
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
    let allowed = state
        .authorizer
        .authorize::<action::DeleteTableBucket>(who, Resource::Bucket(&bucket))?;
    let cx = state.cx(call, who);
    state
        .catalog
        .delete_table_bucket(&allowed, &cx, &bucket)
        .await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
