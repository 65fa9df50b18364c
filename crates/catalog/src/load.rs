//! Finding, loading, describing and listing tables.

use crate::buckets::{BucketInfo, table_bucket};
use crate::errors::{
    DamagedRow, GetTableError, ListTablesError, LoadTableError, NoMetadata, NoSuchBucket,
    NoSuchTable, Occupant,
};
use crate::heads::{TableHead, TableInfo, TableState, VersionToken};
use crate::namespaces::{self, NamespaceInfo};
use crate::page::{self, ListStep, Listed, Page, PageError, PageRequest};
use crate::rows::{self, NameRow, NamespaceRow, TableHeadRow, stored, table_id};
use crate::{Catalog, keys};
use bytes::Bytes;
use floeberg_auth::{Authorized, action};
use floeberg_metastore::{Cx, PageLimit, ReadView, Rows, StoreError};
use floeberg_types::{BucketName, CommitId, Namespace, TableId, TableIdent, TableName};
use std::sync::Arc;

/// How a client names a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableSelector {
    /// By namespace and name.
    Name(TableIdent),
    /// By the id in its ARN, which survives renaming.
    Id(TableId),
}

/// Which tables are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListTables {
    /// The table bucket.
    pub bucket: BucketName,
    /// Only tables of this namespace; `None` for all of the bucket.
    pub namespace: Option<Namespace>,
    /// Only tables whose name begins with this.
    pub prefix: String,
    /// Which page.
    pub page: PageRequest,
}

/// Where a table's metadata is (S3 Tables `GetTableMetadataLocation`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataLocation {
    /// Stands for the table's state; needed to change the metadata location.
    pub version_token: VersionToken,
    /// The current metadata file, if there is one.
    pub metadata_location: Option<String>,
    /// The table's location.
    pub warehouse_location: String,
}

/// A table as its rows say.
pub(crate) struct StoredTable {
    pub id: TableId,
    pub commit: CommitId,
    pub row: Box<TableHeadRow>,
}

/// What a name stands for.
pub(crate) enum Named {
    Nothing,
    View,
    Table(StoredTable),
}

impl Named {
    pub(crate) fn occupant(&self) -> Option<Occupant> {
        match self {
            Self::Nothing => None,
            Self::View => Some(Occupant::View),
            Self::Table(_) => Some(Occupant::Table),
        }
    }
}

/// What a name in an existing namespace stands for.
pub(crate) fn named<E>(
    rows: &impl Rows,
    namespace: &NamespaceInfo,
    name: &TableName,
) -> Result<Named, E>
where
    E: From<StoreError> + From<DamagedRow>,
{
    let Some(row) = rows.get::<NameRow>(&keys::name(namespace.id, name))? else {
        return Ok(Named::Nothing);
    };
    match row.value.kind() {
        rows::NameKind::Table => Ok(Named::Table(by_id::<E>(rows, table_id(&row.value.id)?)?)),
        rows::NameKind::View => Ok(Named::View),
        rows::NameKind::Unspecified => Err(DamagedRow {
            row: "name",
            detail: "unknown kind".to_owned(),
        }
        .into()),
    }
}

fn by_id<E>(rows: &impl Rows, id: TableId) -> Result<StoredTable, E>
where
    E: From<StoreError> + From<DamagedRow>,
{
    match rows.get::<TableHeadRow>(&keys::head(id))? {
        Some(row) => Ok(StoredTable {
            id,
            commit: row.commit_id,
            row: Box::new(row.value),
        }),
        None => {
            let detail = format!("it names table {id}, which has no head");
            Err(DamagedRow {
                row: "name",
                detail,
            }
            .into())
        }
    }
}

/// An existing table of an existing bucket. A missing namespace is a missing table: engines probe
/// metadata tables as if tables were namespaces and rely on that answer.
pub(crate) fn existing<E>(
    rows: &impl Rows,
    bucket: &BucketName,
    ident: &TableIdent,
) -> Result<(BucketInfo, NamespaceInfo, StoredTable), E>
where
    E: From<StoreError> + From<DamagedRow> + From<NoSuchBucket> + From<NoSuchTable>,
{
    let bucket = table_bucket::<E>(rows, bucket)?;
    let missing = || NoSuchTable::named(ident);
    let namespace = namespaces::find::<E>(rows, bucket.id, &ident.namespace)?;
    let namespace = namespace.ok_or_else(missing)?;
    match named::<E>(rows, &namespace, &ident.name)? {
        Named::Table(table) => Ok((bucket, namespace, table)),
        Named::Nothing | Named::View => Err(missing().into()),
    }
}

impl Catalog {
    /// Loads a table with its metadata.
    ///
    /// # Errors
    /// It does not exist or has no metadata yet.
    pub async fn load_table(
        &self,
        _: &Authorized<action::LoadTable>,
        cx: &Cx,
        bucket: &BucketName,
        ident: &TableIdent,
    ) -> Result<Arc<TableHead>, LoadTableError> {
        let view = self.view().await?;
        let (_, _, table) = existing::<LoadTableError>(&view, bucket, ident)?;
        if table.row.current.is_none() {
            return Err(NoMetadata {
                ident: ident.clone(),
            }
            .into());
        }
        Ok(self.head(cx.caller, view, table).await?)
    }

    /// Describes a table without its metadata; also answers whether it exists.
    ///
    /// # Errors
    /// It does not exist.
    pub async fn get_table(
        &self,
        _: &Authorized<action::GetTable>,
        _cx: &Cx,
        bucket: &BucketName,
        selector: &TableSelector,
    ) -> Result<TableInfo, GetTableError> {
        self.read(|rows| describe(rows, bucket, selector)).await
    }

    /// Where a table's current metadata file is.
    ///
    /// # Errors
    /// The table does not exist.
    pub async fn metadata_location(
        &self,
        _: &Authorized<action::GetTableMetadataLocation>,
        _cx: &Cx,
        bucket: &BucketName,
        ident: &TableIdent,
    ) -> Result<MetadataLocation, GetTableError> {
        let selector = TableSelector::Name(ident.clone());
        let info = self.read(|rows| describe(rows, bucket, &selector)).await?;
        Ok(MetadataLocation {
            version_token: info.version_token,
            metadata_location: info.metadata_location,
            warehouse_location: info.location,
        })
    }

    /// Lists tables by name; across namespaces, by namespace and name.
    ///
    /// # Errors
    /// The bucket or namespace does not exist, or the page token is of another listing.
    pub async fn list_tables(
        &self,
        _: &Authorized<action::ListTables>,
        _cx: &Cx,
        request: &ListTables,
    ) -> Result<Page<TableInfo>, ListTablesError> {
        let (wanted, request) = (request.page.clone(), request.clone());
        let list = move |view: &ReadView, step: &ListStep| match &request.namespace {
            Some(namespace) => {
                let bucket = table_bucket::<ListTablesError>(view, &request.bucket)?;
                let found = namespaces::existing::<ListTablesError>(view, bucket.id, namespace)?;
                list_namespace(view, &found, &request.prefix, step)
            }
            None => list_bucket(view, &request, step),
        };
        self.gather(&wanted, list).await
    }

    /// Lists the names of the tables of a namespace.
    ///
    /// # Errors
    /// The bucket or namespace does not exist, or the page token is of another listing.
    pub async fn list_table_names(
        &self,
        _: &Authorized<action::ListTables>,
        _cx: &Cx,
        bucket: &BucketName,
        namespace: &Namespace,
        page: &PageRequest,
    ) -> Result<Page<TableName>, ListTablesError> {
        let (bucket, namespace) = (bucket.clone(), namespace.clone());
        let list = move |view: &ReadView, step: &ListStep| {
            let bucket = table_bucket::<ListTablesError>(view, &bucket)?;
            let found = namespaces::existing::<ListTablesError>(view, bucket.id, &namespace)?;
            let (scope, page) = name_rows(view, &found, "", step)?;
            page.try_map(|(key, _)| {
                let name = std::str::from_utf8(&key[scope.len()..]);
                let name = stored("name", name.map_err(|e| e.to_string()))?;
                Ok(stored("name", name.parse::<TableName>())?)
            })
        };
        self.gather(page, list).await
    }
}

impl Listed for TableName {
    fn bytes(&self) -> usize {
        64 + self.as_str().len()
    }
}

impl Listed for TableInfo {
    fn bytes(&self) -> usize {
        let file = self.metadata_location.as_ref().map_or(0, String::len);
        512 + self.location.len() + file + self.created_by.len() + self.modified_by.len()
    }
}

fn describe(
    rows: &impl Rows,
    bucket: &BucketName,
    selector: &TableSelector,
) -> Result<TableInfo, GetTableError> {
    let table = match selector {
        TableSelector::Name(ident) => existing::<GetTableError>(rows, bucket, ident)?.2,
        TableSelector::Id(id) => {
            let bucket = table_bucket::<GetTableError>(rows, bucket)?;
            let missing = || NoSuchTable {
                table: id.to_string(),
            };
            let row = rows
                .get::<TableHeadRow>(&keys::head(*id))?
                .ok_or_else(missing)?;
            if row.value.bucket_id[..] != bucket.id.as_bytes()[..] {
                return Err(missing().into());
            }
            StoredTable {
                id: *id,
                commit: row.commit_id,
                row: Box::new(row.value),
            }
        }
    };
    let info = TableInfo::of(table.id, table.commit, &table.row)?;
    if info.state == TableState::Dropped {
        return Err(NoSuchTable {
            table: info.id.to_string(),
        }
        .into());
    }
    Ok(info)
}

fn list_error(error: PageError) -> ListTablesError {
    match error {
        PageError::Token(e) => e.into(),
        PageError::Store(e) => e.into(),
    }
}

/// The rows of the tables of one namespace, by name, and what their keys begin with. Views are left
/// out.
fn name_rows(
    view: &ReadView,
    namespace: &NamespaceInfo,
    prefix: &str,
    step: &ListStep,
) -> Result<(Bytes, Page<(Bytes, NameRow)>), ListTablesError> {
    let scope = keys::names(namespace.id, "");
    let prefix = keys::names(namespace.id, prefix);
    let mut page = page::list::<NameRow>(view, &scope, &prefix, step).map_err(list_error)?;
    let is_table = |(_, name): &(Bytes, NameRow)| name.kind() == rows::NameKind::Table;
    page.items.retain(is_table);
    Ok((scope, page))
}

fn list_namespace(
    view: &ReadView,
    namespace: &NamespaceInfo,
    prefix: &str,
    step: &ListStep,
) -> Result<Page<TableInfo>, ListTablesError> {
    let (_, page) = name_rows(view, namespace, prefix, step)?;
    page.try_map(|(_, name)| {
        let table = by_id::<ListTablesError>(view, table_id(&name.id)?)?;
        Ok(TableInfo::of(table.id, table.commit, &table.row)?)
    })
}

/// Between the token of a namespace and that of a table in it. Tokens are hexadecimal.
const TOKEN_SEPARATOR: char = '.';

/// A page of the tables of all namespaces of a bucket. Its token names the last namespace that is
/// done and, behind a dot, how far the next one is.
fn list_bucket(
    view: &ReadView,
    request: &ListTables,
    step: &ListStep,
) -> Result<Page<TableInfo>, ListTablesError> {
    let bucket = table_bucket::<ListTablesError>(view, &request.bucket)?;
    let scope = keys::namespaces(bucket.id);
    let token = step.token.as_deref().unwrap_or_default();
    let (done, within) = token.split_once(TOKEN_SEPARATOR).unwrap_or((token, ""));
    let (mut done, mut within) = (done.to_owned(), within.to_owned());
    let mut out = Page {
        items: Vec::new(),
        next: None,
    };
    for _ in 0..PageLimit::STEP.rows {
        let next = ListStep {
            token: Some(done.clone()),
            size: 1,
        };
        let found = page::list::<NamespaceRow>(view, &scope, &scope, &next).map_err(list_error)?;
        let Some((key, row)) = found.items.into_iter().next() else {
            return Ok(out);
        };
        let namespace = namespaces::of_row(row)?;
        let within_it = ListStep {
            token: Some(within),
            size: step.size - out.items.len(),
        };
        let tables = list_namespace(view, &namespace, &request.prefix, &within_it)?;
        out.items.extend(tables.items);
        if let Some(next) = tables.next {
            out.next = Some(format!("{done}{TOKEN_SEPARATOR}{next}"));
            return Ok(out);
        }
        done = hex::encode(&key[scope.len()..]);
        within = String::new();
        if found.next.is_none() {
            return Ok(out);
        }
        if out.items.len() >= step.size {
            break;
        }
    }
    out.next = Some(format!("{done}{TOKEN_SEPARATOR}"));
    Ok(out)
}

/// The table that a location row belongs to.
pub(crate) fn of_location<E>(rows: &impl Rows, id: &[u8]) -> Result<StoredTable, E>
where
    E: From<StoreError> + From<DamagedRow>,
{
    by_id(rows, stored("location", table_id(id))?)
}
