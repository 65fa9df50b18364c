//! Table operations. An answer with metadata joins the stored document with what goes around it.

use crate::access::{Access, TableSite, delegation_asked};
use crate::api::{self, Handled, IcebergState};
use crate::failure::Failure;
use crate::route::{Operation, PathNames};
use crate::target;
use crate::wire::{
    CommitTableRequest, CommitTransactionRequest, CreateTableRequest, ListTablesResponse,
    RegisterTableRequest, RenameTableRequest, TableName, requirements, updates,
};
use bytes::Bytes;
use floeberg_auth::{Action, Authorized, Principal, Resource, action};
use floeberg_catalog::{
    CreateTable, DropTable, Overwrite, Purge, RegisterTable, RenameTable, SnapshotsMode,
    TableChange, TableHead, TableSelector,
};
use floeberg_http::{
    Answer, Call, SHARE_PATIENCE, empty, json, json_bytes, json_pieces, with_header,
};
use floeberg_iceberg::RawJson;
use floeberg_types::{BucketName, TableIdent};
use http::StatusCode;
use http::header::{ETAG, IF_NONE_MATCH};
use serde::Serialize;
use std::sync::Arc;

fn allow<A: Action>(
    state: &IcebergState,
    principal: &Principal,
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
    Ok(state.authorizer.authorize(principal, resource)?)
}

fn json_text<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("text and maps of text always serialize")
}

/// `{"metadata-location":…,"metadata":…,"config":…,"storage-credentials":…}` around a document
/// that is already JSON, which is not copied. A staged table has no metadata file.
fn around(location: Option<&str>, metadata: Bytes, access: Option<&Access>) -> [Bytes; 3] {
    let mut before = vec![b'{'];
    if let Some(location) = location {
        before.extend_from_slice(b"\"metadata-location\":");
        before.extend_from_slice(&json_text(location));
        before.push(b',');
    }
    before.extend_from_slice(b"\"metadata\":");
    let mut after = Vec::new();
    if let Some(access) = access {
        after.extend_from_slice(b",\"config\":");
        after.extend_from_slice(&json_text(&access.config));
        if !access.credentials.is_empty() {
            after.extend_from_slice(b",\"storage-credentials\":");
            after.extend_from_slice(&json_text(&access.credentials));
        }
    }
    after.push(b'}');
    [before.into(), metadata, after.into()]
}

/// The document of a table that a change has left. The change is made: without room for the answer until
/// the client gives up, it has to look for itself.
async fn changed(
    state: &IcebergState,
    call: &Call,
    head: &Arc<TableHead>,
) -> Result<Bytes, Failure> {
    let mode = SnapshotsMode::All;
    let document = state.catalog.document(call.peer, head, mode, call.left());
    document.await.map_err(|_| Failure::unanswered())
}

fn quoted(head: &TableHead, mode: SnapshotsMode) -> String {
    format!("\"{}\"", head.etag(mode))
}

/// An answer with a table's metadata and what a client needs to reach its files.
fn loaded(
    state: &IcebergState,
    call: &Call,
    principal: &Principal,
    head: &TableHead,
    (mode, metadata): (SnapshotsMode, Bytes),
) -> Handled {
    let info = head.info();
    let site = TableSite {
        bucket: &info.bucket,
        ident: &info.ident,
        location: &info.location,
    };
    let access = state.access(call, principal, &site)?;
    let body = around(Some(head.metadata_location()), metadata, Some(&access));
    Ok(with_header(
        json_pieces(StatusCode::OK, body),
        ETAG,
        &quoted(head, mode),
    ))
}

/// The answer to a change that has made or replaced a table.
async fn made(
    state: &IcebergState,
    call: &Call,
    principal: &Principal,
    head: &Arc<TableHead>,
) -> Handled {
    let metadata = changed(state, call, head).await?;
    loaded(state, call, principal, head, (SnapshotsMode::All, metadata))
}

pub(crate) async fn list(
    state: &IcebergState,
    names: &PathNames,
    call: &Call,
    principal: &Principal,
) -> Handled {
    let bucket = state.bucket(names)?;
    let namespace = target::namespace(&names.namespace)?;
    let text = namespace.to_string();
    let resource = Resource::Namespace {
        bucket: &bucket,
        namespace: &text,
    };
    let allowed = state
        .authorizer
        .authorize::<action::ListTables>(principal, resource)?;
    let (cx, wanted) = (state.cx(call, principal), api::page(call)?);
    let listed = state
        .catalog
        .list_table_names(&allowed, &cx, &bucket, &namespace, &wanted);
    let page = listed.await?;
    // Megabytes, if there are many.
    let answer = move || {
        let levels = namespace.levels();
        let identifiers = page.items.iter().map(|name| TableName {
            namespace: levels,
            name: name.as_str(),
        });
        let body = ListTablesResponse {
            identifiers: identifiers.collect(),
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
    let body: CreateTableRequest = state.parsed(&call.body).await?;
    let ident = target::table(&names.namespace, &body.name)?;
    let allowed = allow::<action::CreateTable>(state, principal, &bucket, &ident)?;
    let request = CreateTable {
        bucket,
        ident,
        location: body.location,
        schema: body.schema,
        partition_spec: body.partition_spec,
        sort_order: body.write_order,
        properties: body.properties.0,
    };
    let cx = state.cx_once(Operation::CreateTable, names, call, principal)?;
    if body.stage_create == Some(true) {
        let staged = state.catalog.stage_table(&allowed, &cx, &request).await?;
        let location = staged.metadata.location();
        let site = TableSite {
            bucket: &request.bucket,
            ident: &request.ident,
            location,
        };
        let access = state.access(call, principal, &site)?;
        let body = around(None, staged.metadata.render().into(), Some(&access));
        return Ok(json_bytes(StatusCode::OK, body.concat()));
    }
    let head = state.catalog.create_table(&allowed, &cx, &request).await?;
    made(state, call, principal, &head).await
}

pub(crate) async fn register(
    state: &IcebergState,
    names: &PathNames,
    call: &Call,
    principal: &Principal,
) -> Handled {
    let bucket = state.bucket(names)?;
    let body: RegisterTableRequest = state.parsed(&call.body).await?;
    let ident = target::table(&names.namespace, &body.name)?;
    let allowed = allow::<action::RegisterTable>(state, principal, &bucket, &ident)?;
    let request = RegisterTable {
        bucket,
        ident,
        metadata_location: body.metadata_location,
        overwrite: match body.overwrite {
            Some(true) => Overwrite::Replace,
            Some(false) | None => Overwrite::Refuse,
        },
    };
    let cx = state.cx_once(Operation::RegisterTable, names, call, principal)?;
    let head = state
        .catalog
        .register_table(&allowed, &cx, &request)
        .await?;
    made(state, call, principal, &head).await
}

fn snapshots_mode(call: &Call) -> Result<SnapshotsMode, Failure> {
    match call.query.filled("snapshots") {
        None => Ok(SnapshotsMode::All),
        Some(text) if text.eq_ignore_ascii_case("all") => Ok(SnapshotsMode::All),
        Some(text) if text.eq_ignore_ascii_case("refs") => Ok(SnapshotsMode::Refs),
        Some(text) => {
            let message = format!("snapshots must be `all` or `refs`, not `{text}`");
            Err(Failure::bad_request(message))
        }
    }
}

/// Whether an `If-None-Match` header names the tag (RFC 9110, section 13.1.2, weak comparison).
fn names_tag(call: &Call, tag: &str) -> bool {
    let values = call.headers.get_all(IF_NONE_MATCH).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag)
}

pub(crate) async fn load(
    state: &IcebergState,
    names: &PathNames,
    call: &Call,
    principal: &Principal,
) -> Handled {
    let bucket = state.bucket(names)?;
    let ident = target::table(&names.namespace, &names.table)?;
    let mode = snapshots_mode(call)?;
    let allowed = allow::<action::LoadTable>(state, principal, &bucket, &ident)?;
    let cx = state.cx(call, principal);
    let head = state
        .catalog
        .load_table(&allowed, &cx, &bucket, &ident)
        .await?;
    let tag = quoted(&head, mode);
    // Credentials run out, so whoever asks for them gets a whole answer.
    if names_tag(call, &tag) && !delegation_asked(call) {
        return Ok(with_header(empty(StatusCode::NOT_MODIFIED), ETAG, &tag));
    }
    let (catalog, peer) = (&state.catalog, call.peer);
    let metadata = catalog.document(peer, &head, mode, SHARE_PATIENCE).await?;
    loaded(state, call, principal, &head, (mode, metadata))
}

pub(crate) async fn exists(
    state: &IcebergState,
    names: &PathNames,
    call: &Call,
    principal: &Principal,
) -> Handled {
    let bucket = state.bucket(names)?;
    let ident = target::table(&names.namespace, &names.table)?;
    let allowed = allow::<action::GetTable>(state, principal, &bucket, &ident)?;
    let cx = state.cx(call, principal);
    let selector = TableSelector::Name(ident);
    state
        .catalog
        .get_table(&allowed, &cx, &bucket, &selector)
        .await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn credentials(
    state: &IcebergState,
    names: &PathNames,
    call: &Call,
    principal: &Principal,
) -> Handled {
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Body {
        storage_credentials: Vec<crate::access::StorageCredential>,
    }
    let bucket = state.bucket(names)?;
    let ident = target::table(&names.namespace, &names.table)?;
    let allowed = allow::<action::GetTable>(state, principal, &bucket, &ident)?;
    let cx = state.cx(call, principal);
    let selector = TableSelector::Name(ident);
    let table = state
        .catalog
        .get_table(&allowed, &cx, &bucket, &selector)
        .await?;
    let site = TableSite {
        bucket: &bucket,
        ident: &table.ident,
        location: &table.location,
    };
    let credential = state.credential(call, principal, &site)?;
    let body = Body {
        storage_credentials: vec![credential],
    };
    Ok(json(StatusCode::OK, &body))
}

fn change(ident: TableIdent, body: &CommitTableRequest) -> Result<TableChange, Failure> {
    Ok(TableChange {
        ident,
        requirements: requirements(&body.requirements)?,
        updates: updates(&body.updates)?,
    })
}

pub(crate) async fn commit(
    state: &IcebergState,
    names: &PathNames,
    call: &Call,
    principal: &Principal,
) -> Handled {
    let bucket = state.bucket(names)?;
    let ident = target::table(&names.namespace, &names.table)?;
    let allowed = allow::<action::CommitTable>(state, principal, &bucket, &ident)?;
    let understand = move |mut body: CommitTableRequest| {
        if let Some(given) = body.identifier.take() {
            let given = given.parse()?;
            if given != ident {
                let text = format!("the identifier {given} in the body is not the path's {ident}");
                return Err(Failure::bad_request(text));
            }
        }
        change(ident, &body)
    };
    let change = state.understood(&call.body, understand).await?;
    let cx = state.cx_once(Operation::UpdateTable, names, call, principal)?;
    let committed = state
        .catalog
        .commit_table(&allowed, &cx, &bucket, change)
        .await?;
    let head = &committed.head;
    let metadata = changed(state, call, head).await?;
    let body = around(Some(head.metadata_location()), metadata, None);
    let tag = quoted(head, SnapshotsMode::All);
    Ok(with_header(json_pieces(StatusCode::OK, body), ETAG, &tag))
}

pub(crate) async fn transaction(
    state: &IcebergState,
    names: &PathNames,
    call: &Call,
    principal: &Principal,
) -> Handled {
    let bucket = state.bucket(names)?;
    let allowed = state
        .authorizer
        .authorize::<action::CommitTransaction>(principal, Resource::Bucket(&bucket))?;
    let understand = |body: CommitTransactionRequest| {
        let changes = body.table_changes.into_iter().map(|mut one| {
            let identifier = one.identifier.take().ok_or_else(|| {
                Failure::bad_request("every change of a transaction needs an identifier")
            })?;
            change(identifier.parse()?, &one)
        });
        changes.collect::<Result<Vec<_>, Failure>>()
    };
    let changes = state.understood(&call.body, understand).await?;
    let cx = state.cx_once(Operation::CommitTransaction, names, call, principal)?;
    state
        .catalog
        .commit_transaction(&allowed, &cx, &bucket, changes)
        .await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

fn purge(call: &Call) -> Result<Purge, Failure> {
    match call.query.filled("purgeRequested") {
        None => Ok(Purge::Keep),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(Purge::Keep),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(Purge::Requested),
        Some(text) => {
            let message = format!("purgeRequested must be true or false, not `{text}`");
            Err(Failure::bad_request(message))
        }
    }
}

pub(crate) async fn drop(
    state: &IcebergState,
    names: &PathNames,
    call: &Call,
    principal: &Principal,
) -> Handled {
    let bucket = state.bucket(names)?;
    let ident = target::table(&names.namespace, &names.table)?;
    let allowed = allow::<action::DropTable>(state, principal, &bucket, &ident)?;
    let request = DropTable {
        bucket,
        ident,
        purge: purge(call)?,
        version_token: None,
    };
    let cx = state.cx_once(Operation::DropTable, names, call, principal)?;
    state.catalog.drop_table(&allowed, &cx, &request).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn rename(
    state: &IcebergState,
    names: &PathNames,
    call: &Call,
    principal: &Principal,
) -> Handled {
    let bucket = state.bucket(names)?;
    let body: RenameTableRequest = state.parsed(&call.body).await?;
    let (from, to) = (body.source.parse()?, body.destination.parse()?);
    let allowed = allow::<action::RenameTable>(state, principal, &bucket, &from)?;
    let request = RenameTable {
        bucket,
        from,
        to,
        version_token: None,
    };
    let cx = state.cx_once(Operation::RenameTable, names, call, principal)?;
    state.catalog.rename_table(&allowed, &cx, &request).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Reports are counted and dropped; their writers only need to know that they arrived.
pub(crate) async fn report(
    state: &IcebergState,
    names: &PathNames,
    call: &Call,
    principal: &Principal,
) -> Handled {
    let bucket = state.bucket(names)?;
    let ident = target::table(&names.namespace, &names.table)?;
    allow::<action::ReportMetrics>(state, principal, &bucket, &ident)?;
    let _: RawJson = state.parsed(&call.body).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The answer of an operation whatever its outcome.
pub(crate) fn finish(handled: Handled, call: &Call) -> Answer {
    handled.unwrap_or_else(|failure| failure.answer(call.request_id))
}
