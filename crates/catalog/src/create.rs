//! Creating tables: at once, staged for a later commit, or without a schema.

use crate::buckets::{BucketInfo, table_bucket};
use crate::errors::{CreateTableError, DamagedRow, InvalidLocation, TableExists};
use crate::heads::{TableHead, TableInfo};
use crate::load::named;
use crate::location::{self, Claim, ClaimError, Path};
use crate::namespaces::{self, NamespaceInfo};
use crate::publish::{self, Birth, Content, Parts};
use crate::rows::{LocationRow, LocationState, StagedRow, id_bytes, stored, table_id};
use crate::{Catalog, admit, keys, versions};
use floeberg_auth::{Authorized, action};
use floeberg_iceberg::{NewTable, RawJson, TableMetadata, UpdateError};
use floeberg_metastore::{Cx, Rows as _, StoreError, Txn};
use floeberg_types::{BucketName, TableId, TableIdent, TableName, TimestampMs};
use std::sync::Arc;

/// How long a staged create keeps its location.
pub const STAGED_LIFETIME_MS: i64 = 3_600_000;

/// What a new table is to be (Iceberg REST `CreateTableRequest`).
#[derive(Clone, Debug)]
pub struct CreateTable {
    /// The table bucket.
    pub bucket: BucketName,
    /// Its name; the namespace must exist.
    pub ident: TableIdent,
    /// A location of the client's choice, inside the bucket; `None` for a unique one.
    pub location: Option<String>,
    /// The schema; its field ids are assigned anew.
    pub schema: RawJson,
    /// The partition spec; `None` for unpartitioned.
    pub partition_spec: Option<RawJson>,
    /// The sort order; `None` for unsorted.
    pub sort_order: Option<RawJson>,
    /// Table properties in the client's order.
    pub properties: Vec<(Arc<str>, Arc<str>)>,
}

/// A table that exists for its creator only, until a commit with `assert-create` makes it visible.
#[derive(Clone, Debug)]
pub struct StagedTable {
    /// The id it will have.
    pub id: TableId,
    /// Its metadata so far. There is no metadata file.
    pub metadata: TableMetadata,
    /// Until when its location is kept.
    pub expires_at: TimestampMs,
}

/// Where a table is to come into being.
struct Site {
    bucket: BucketInfo,
    namespace: NamespaceInfo,
    id: TableId,
    path: Path,
}

impl Site {
    fn birth<'a>(&'a self, name: &'a TableName) -> Birth<'a> {
        let Self {
            bucket,
            namespace,
            id,
            path,
        } = self;
        Birth {
            bucket,
            namespace,
            name,
            id: *id,
            path,
        }
    }
}

/// Finds a free name and a free location for a new table.
fn site(
    txn: &mut Txn<'_>,
    bucket: &BucketName,
    ident: &TableIdent,
    location: Option<&str>,
) -> Result<Site, CreateTableError> {
    let bucket = table_bucket::<CreateTableError>(txn, bucket)?;
    let namespace = namespaces::existing::<CreateTableError>(txn, bucket.id, &ident.namespace)?;
    if let Some(occupant) = named::<CreateTableError>(txn, &namespace, &ident.name)?.occupant() {
        return Err(TableExists {
            ident: ident.clone(),
            occupant,
        }
        .into());
    }
    let fresh = TableId::from_bytes(txn.new_id());
    let path = match location {
        Some(location) => location::parse(&bucket.name, location)?,
        None => location::unique(&ident.namespace, &ident.name, fresh),
    };
    let id = settle::<CreateTableError>(txn, &bucket, &namespace, &ident.name, &path, fresh)?;
    Ok(Site {
        bucket,
        namespace,
        id,
        path,
    })
}

/// The id of a table that comes into being at `path`: the one it was staged with there, or `fresh`
/// if the location is free. The staged create is over in either case.
pub(crate) fn settle<E>(
    txn: &mut Txn<'_>,
    bucket: &BucketInfo,
    namespace: &NamespaceInfo,
    name: &TableName,
    path: &Path,
    fresh: TableId,
) -> Result<TableId, E>
where
    E: From<InvalidLocation> + From<StoreError> + From<DamagedRow>,
{
    let row = txn.get::<LocationRow>(&keys::location(bucket.id, path.as_str()))?;
    let staged = row.map(|row| row.value).filter(|row| {
        row.state() == LocationState::Staged
            && row.namespace_id[..] == namespace.id.as_bytes()[..]
            && row.name == name.as_str()
    });
    let Some(staged) = staged else {
        claim::<E>(txn, bucket, fresh, path)?;
        return Ok(fresh);
    };
    let id = stored("location", table_id(&staged.table_id))?;
    txn.delete(keys::staged(TimestampMs(staged.expires_at_ms), id));
    Ok(id)
}

/// Makes sure that a new table's location overlaps no other.
pub(crate) fn claim<E>(
    txn: &mut Txn<'_>,
    bucket: &BucketInfo,
    table: TableId,
    path: &Path,
) -> Result<Option<LocationRow>, E>
where
    E: From<InvalidLocation> + From<StoreError>,
{
    let claim = Claim {
        bucket: (bucket.id, &bucket.name),
        table,
        path,
    };
    location::check_free(txn, &claim).map_err(|e| match e {
        ClaimError::Refused(e) => e.into(),
        ClaimError::Store(e) => e.into(),
    })
}

/// A fresh `table-uuid`.
pub(crate) fn new_uuid(txn: &Txn<'_>) -> Arc<str> {
    uuid::Builder::from_random_bytes(txn.new_id())
        .into_uuid()
        .to_string()
        .into()
}

fn first_metadata(
    txn: &Txn<'_>,
    request: &CreateTable,
    site: &Site,
) -> Result<TableMetadata, CreateTableError> {
    let location = match &request.location {
        Some(location) => location.as_str().into(),
        None => location::uri(&site.bucket.name, site.path.as_str()).into(),
    };
    let new = NewTable {
        uuid: new_uuid(txn),
        location,
        schema: request.schema.clone(),
        partition_spec: request.partition_spec.clone(),
        sort_order: request.sort_order.clone(),
        properties: request.properties.clone(),
        now_ms: txn.now().0,
    };
    let metadata = TableMetadata::new_table(&new).map_err(UpdateError::Invalid)?;
    location::check_properties(&site.bucket.name, &metadata)?;
    Ok(metadata)
}

impl Catalog {
    /// Creates a table.
    ///
    /// # Errors
    /// See [`CreateTableError`].
    pub async fn create_table(
        &self,
        _: &Authorized<action::CreateTable>,
        cx: &Cx,
        request: &CreateTable,
    ) -> Result<Arc<TableHead>, CreateTableError> {
        admit::create(request)?;
        let heads = &self.inner.heads;
        self.transact_once(cx, |txn| {
            let site = site(
                txn,
                &request.bucket,
                &request.ident,
                request.location.as_deref(),
            )?;
            let metadata = first_metadata(txn, request, &site)?;
            let changes = versions::all_parts(&metadata);
            let birth = site.birth(&request.ident.name);
            let content = Content {
                metadata: &metadata,
                parts: Parts::Changed(&changes),
                external_key: None,
                seen: 0,
            };
            let event = publish::event("table.create", &request.bucket, site.id, &request.ident);
            txn.event(event);
            Ok(publish::create(txn, cx, heads, &birth, &content)?)
        })
        .await
    }

    /// Stages a table: nothing becomes visible, but its location is kept for an hour.
    ///
    /// # Errors
    /// See [`CreateTableError`].
    pub async fn stage_table(
        &self,
        _: &Authorized<action::CreateTable>,
        cx: &Cx,
        request: &CreateTable,
    ) -> Result<StagedTable, CreateTableError> {
        admit::create(request)?;
        self.transact_once(cx, |txn| {
            let site = site(
                txn,
                &request.bucket,
                &request.ident,
                request.location.as_deref(),
            )?;
            let metadata = first_metadata(txn, request, &site)?;
            let expires_at = txn.now().plus_ms(STAGED_LIFETIME_MS);
            let (id, path) = (site.id, site.path.as_str());
            let row = location::staged_row(id, site.namespace.id, &request.ident.name, expires_at);
            txn.put(keys::location(site.bucket.id, path), &row);
            let bucket_id = id_bytes(site.bucket.id.as_bytes());
            let staged = StagedRow {
                bucket_id,
                path: path.to_owned(),
            };
            txn.put(keys::staged(expires_at, id), &staged);
            txn.event(publish::event(
                "table.stage",
                &request.bucket,
                id,
                &request.ident,
            ));
            Ok(StagedTable {
                id,
                metadata,
                expires_at,
            })
        })
        .await
    }

    /// Creates a table without a schema (S3 Tables `CreateTable` without metadata). It has a
    /// location, and no metadata until `update_metadata_location` sets it.
    ///
    /// # Errors
    /// See [`CreateTableError`].
    pub async fn create_empty_table(
        &self,
        _: &Authorized<action::CreateTable>,
        cx: &Cx,
        bucket: &BucketName,
        ident: &TableIdent,
    ) -> Result<TableInfo, CreateTableError> {
        self.transact_once(cx, |txn| {
            let site = site(txn, bucket, ident, None)?;
            txn.event(publish::event("table.create", bucket, site.id, ident));
            let info: Result<TableInfo, DamagedRow> =
                publish::create_empty(txn, cx, &site.birth(&ident.name));
            Ok(info?)
        })
        .await
    }
}
