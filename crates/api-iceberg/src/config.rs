//! `GET /v1/config`: what a client needs before its first catalog call.

use crate::api::{Handled, IcebergState};
use crate::failure::Failure;
use crate::wire::ConfigResponse;
use crate::{access, route, target};
use floeberg_auth::{Principal, Resource, action};
use floeberg_catalog::IDEMPOTENCY_LIFETIME_MS;
use floeberg_http::{Call, json};
use http::StatusCode;
use std::collections::BTreeMap;

/// For how long keys may be used again, as ISO 8601 writes it.
fn lifetime() -> String {
    format!("PT{}M", IDEMPOTENCY_LIFETIME_MS / 60_000)
}

pub(crate) async fn get(state: &IcebergState, call: &Call, principal: &Principal) -> Handled {
    let settings = &state.settings;
    let warehouse = call.query.filled("warehouse").ok_or_else(|| {
        let text = "name a warehouse: the ARN or the plain name of a table bucket";
        Failure::bad_request(text)
    })?;
    let bucket = target::bucket(warehouse, &settings.region, &settings.account)?;
    let allowed = state
        .authorizer
        .authorize::<action::GetTableBucket>(principal, Resource::Bucket(&bucket))?;
    let cx = state.cx(call, principal);
    state
        .catalog
        .get_table_bucket(&allowed, &cx, &bucket)
        .await?;
    let prefix = target::prefix_of(&settings.region, &settings.account, &bucket);
    let body = ConfigResponse {
        defaults: access::storage_config(settings),
        overrides: BTreeMap::from([("prefix", prefix)]),
        endpoints: route::endpoints(),
        idempotency_key_lifetime: lifetime(),
    };
    Ok(json(StatusCode::OK, &body))
}
