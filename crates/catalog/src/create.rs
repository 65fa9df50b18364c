//! Creating tables: at once, staged for a later commit, or without a schema.

use crate::buckets::{BucketInfo, table_bucket};
use crate::errors::{CreateTableError, DamagedRow, InvalidLocation, TableExists};
use crate::heads::{TableHead, TableInfo};
use crate::load::named;
use crate::location::{self, Claim, ClaimError, Path};
use crate::namespaces::{self, NamespaceInfo};
use crate::pieces::{self, Pieces, Place};
use crate::publish::{self, Birth, Content, Parts};
use crate::rows::{LocationRow, LocationState, StagedRow, id_bytes, stored, table_id};
use crate::{Catalog, Draftable, admit, keys, versions};
use floeberg_auth::{Authorized, action};
use floeberg_iceberg::{NewTable, RawJson, TableMetadata, UpdateError};
use floeberg_metastore::{Cx, Rows, StoreError, Txn};
use floeberg_types::{BucketName, TableId, TableIdent, TableName, TimestampMs};
use std::sync::Arc;

/// How long a staged create keeps its location.
pub const STAGED_LIFETIME_MS: i64 = 3_600_000;

/// Bytes of a new table's description that its decision makes metadata of by itself.
const IN_PLACE_BYTES: usize = 256 << 10;

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

/// A new table's metadata, found before the decision because it is large.
struct Draft {
    id: TableId,
    /// The time at which it was made: a decision at an earlier one makes it anew.
    now: TimestampMs,
    metadata: TableMetadata,
}

/// What a table is created of, beside its request: nothing, if the decision makes its metadata.
#[derive(Default)]
struct Source {
    draft: Option<Draft>,
    /// If all of the draft is written ahead.
    pieces: Option<Pieces>,
}

impl Source {
    /// Where the new table comes into being, and its metadata; `None` if what was drafted is of the future.
    fn place(
        &self,
        txn: &mut Txn<'_>,
        request: &CreateTable,
    ) -> Result<Option<(Site, TableMetadata)>, CreateTableError> {
        let (bucket, ident) = (&request.bucket, &request.ident);
        let free = vacancy(txn, bucket, ident)?;
        let id = match &self.draft {
            Some(draft) if draft.now > txn.now() => return Ok(None),
            Some(draft) => draft.id,
            None => TableId::from_bytes(txn.new_id()),
        };
        let path = path(bucket, ident, request.location.as_deref(), id)?;
        let metadata = match &self.draft {
            Some(draft) => draft.metadata.clone(),
            None => first_metadata(request, &path, txn.now(), &|| txn.new_id())?,
        };
        Ok(Some((site(txn, free, ident, path, id)?, metadata)))
    }
}

/// Bytes of a command that a draft takes: everything is new.
fn weight(draft: &Draft) -> usize {
    pieces::weight(&versions::all_parts(&draft.metadata))
}

/// Whether a table is drafted before it is decided on.
fn is_large(request: &CreateTable) -> bool {
    text_bytes(request) > IN_PLACE_BYTES
}

/// Bytes of what a table is to be.
fn text_bytes(request: &CreateTable) -> usize {
    let length = |json: &RawJson| json.as_str().len();
    let optional = |json: &Option<RawJson>| json.as_ref().map_or(0, length);
    let properties = request.properties.iter();
    let properties: usize = properties.map(|(n, v)| n.len() + v.len()).sum();
    let rest = optional(&request.partition_spec) + optional(&request.sort_order);
    length(&request.schema) + rest + properties
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

/// Finds the namespace of a new table whose name is free there.
fn vacancy(
    rows: &impl Rows,
    bucket: &BucketName,
    ident: &TableIdent,
) -> Result<(BucketInfo, NamespaceInfo), CreateTableError> {
    let bucket = table_bucket::<CreateTableError>(rows, bucket)?;
    let namespace = namespaces::existing::<CreateTableError>(rows, bucket.id, &ident.namespace)?;
    if let Some(occupant) = named::<CreateTableError>(rows, &namespace, &ident.name)?.occupant() {
        return Err(TableExists {
            ident: ident.clone(),
            occupant,
        }
        .into());
    }
    Ok((bucket, namespace))
}

/// The place of a new table.
fn path(
    bucket: &BucketName,
    ident: &TableIdent,
    location: Option<&str>,
    fresh: TableId,
) -> Result<Path, InvalidLocation> {
    match location {
        Some(location) => location::parse(bucket, location),
        None => Ok(location::unique(&ident.namespace, &ident.name, fresh)),
    }
}

/// Finds a free location for a new table, whose id is `fresh` unless one was staged there.
fn site(
    txn: &mut Txn<'_>,
    (bucket, namespace): (BucketInfo, NamespaceInfo),
    ident: &TableIdent,
    path: Path,
    fresh: TableId,
) -> Result<Site, CreateTableError> {
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

/// A `table-uuid` of random bytes.
pub(crate) fn uuid_of(random: [u8; 16]) -> Arc<str> {
    uuid::Builder::from_random_bytes(random)
        .into_uuid()
        .to_string()
        .into()
}

/// The metadata of a new table. `ids` gives random ids.
fn first_metadata(
    request: &CreateTable,
    path: &Path,
    now: TimestampMs,
    ids: &dyn Fn() -> [u8; 16],
) -> Result<TableMetadata, CreateTableError> {
    let location = match &request.location {
        Some(location) => location.as_str().into(),
        None => location::uri(&request.bucket, path.as_str()).into(),
    };
    let new = NewTable {
        uuid: uuid_of(ids()),
        location,
        schema: request.schema.clone(),
        partition_spec: request.partition_spec.clone(),
        sort_order: request.sort_order.clone(),
        properties: request.properties.clone(),
        now_ms: now.0,
    };
    let metadata = TableMetadata::new_table(&new).map_err(UpdateError::Invalid)?;
    location::check_properties(&request.bucket, &metadata)?;
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
        let mut place = self.place_for(cx, text_bytes(request)).await?;
        if is_large(request)
            && let Some(before) = self.recall::<_, CreateTableError>(cx).await?
        {
            return Ok(before);
        }
        let mut not_after = TimestampMs(i64::MAX);
        loop {
            let draft = self.draft_table(request, not_after).await?;
            let source = self.written(cx, draft, &mut place).await?;
            match self.create_of(cx, request, &source).await? {
                Draftable::Done(head) => return Ok(head),
                Draftable::Lacks(now) => not_after = now,
            }
        }
    }

    async fn create_of(
        &self,
        cx: &Cx,
        request: &CreateTable,
        source: &Source,
    ) -> Result<Draftable<Arc<TableHead>>, CreateTableError> {
        let heads = &self.inner.heads;
        self.transact_once(cx, |txn| {
            let Some((site, metadata)) = source.place(txn, request)? else {
                return Ok(Draftable::Lacks(txn.now()));
            };
            let changes = match &source.pieces {
                Some(_) => Vec::new(),
                None => versions::all_parts(&metadata),
            };
            let birth = site.birth(&request.ident.name);
            let content = Content {
                metadata: &metadata,
                parts: match &source.pieces {
                    // A new table has no snapshots, which could name files elsewhere.
                    Some(pieces) => Parts::Ahead {
                        pieces,
                        strays: &[],
                    },
                    None => Parts::Changed(&changes),
                },
                external_key: None,
                seen: 0,
            };
            let event = publish::event("table.create", &request.bucket, site.id, &request.ident);
            txn.event(event);
            let head = publish::create(txn, cx, heads, &birth, &content)?;
            Ok(Draftable::Done(head))
        })
        .await
    }

    /// Makes the metadata of a large table where nobody waits for it.
    async fn draft_table(
        &self,
        request: &CreateTable,
        not_after: TimestampMs,
    ) -> Result<Option<Draft>, CreateTableError> {
        if !is_large(request) {
            return Ok(None);
        }
        let (bucket, ident) = (&request.bucket, &request.ident);
        self.read(|rows| vacancy(rows, bucket, ident)).await?;
        let rng = Arc::clone(&self.inner.env.rng);
        let id = TableId::from_bytes(rng.id128());
        let path = path(bucket, ident, request.location.as_deref(), id)?;
        let (now, request) = (self.now().min(not_after), request.clone());
        let drafted = self.step(move || first_metadata(&request, &path, now, &|| rng.id128()));
        let metadata = drafted.await??;
        Ok(Some(Draft { id, now, metadata }))
    }

    /// Writes a draft ahead if no command should hold it.
    async fn written(
        &self,
        cx: &Cx,
        draft: Option<Draft>,
        place: &mut Place,
    ) -> Result<Source, CreateTableError> {
        let pieces = match &draft {
            Some(draft) if self.takes_pieces(weight(draft), &draft.metadata) => {
                Some(self.write_ahead(cx, place, &draft.metadata).await?)
            }
            Some(_) | None => None,
        };
        Ok(Source { draft, pieces })
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
        if is_large(request)
            && let Some(before) = self.recall::<_, CreateTableError>(cx).await?
        {
            return Ok(before);
        }
        let mut not_after = TimestampMs(i64::MAX);
        loop {
            let draft = self.draft_table(request, not_after).await?;
            let source = Source {
                draft,
                ..Source::default()
            };
            match self.stage_of(cx, request, &source).await? {
                Draftable::Done(staged) => return Ok(staged),
                Draftable::Lacks(now) => not_after = now,
            }
        }
    }

    async fn stage_of(
        &self,
        cx: &Cx,
        request: &CreateTable,
        source: &Source,
    ) -> Result<Draftable<StagedTable>, CreateTableError> {
        self.transact_once(cx, |txn| {
            let Some((site, metadata)) = source.place(txn, request)? else {
                return Ok(Draftable::Lacks(txn.now()));
            };
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
            let event = publish::event("table.stage", &request.bucket, id, &request.ident);
            txn.event(event);
            Ok(Draftable::Done(StagedTable {
                id,
                metadata,
                expires_at,
            }))
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
            let fresh = TableId::from_bytes(txn.new_id());
            let free = vacancy(txn, bucket, ident)?;
            let path = path(bucket, ident, None, fresh)?;
            let site = site(txn, free, ident, path, fresh)?;
            txn.event(publish::event("table.create", bucket, site.id, ident));
            let info: Result<TableInfo, DamagedRow> =
                publish::create_empty(txn, cx, &site.birth(&ident.name));
            Ok(info?)
        })
        .await
    }
}
