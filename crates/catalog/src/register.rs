//! Metadata that clients wrote: registering a file as a table, and pointing a table at a file.
//!
//! The file stays the metadata file of its version; its content becomes fragments like any other,
//! so that the next commit builds on it.

use crate::buckets::{BucketInfo, table_bucket};
use crate::create::claim;
use crate::drop::{self, Purge, check_token};
use crate::errors::{
    InvalidLocation, LocationRule, Occupant, RegisterTableError, TableExists,
    UpdateMetadataLocationError,
};
use crate::heads::{Heads, TableHead, TableInfo};
use crate::load::{self, Named, StoredTable, named};
use crate::location::{self, Path};
use crate::namespaces::{self, NamespaceInfo};
use crate::publish::{self, Birth};
use crate::rows::{LocationRow, LocationState, TableHeadRow, id_bytes};
use crate::{Catalog, Step, keys};
use floeberg_auth::{Authorized, action};
use floeberg_metastore::{Cx, Rows, Txn};
use floeberg_types::{BucketName, TableId, TableIdent};
use std::sync::Arc;

mod file;
mod prepare;
mod weigh;

use file::{File, file_path};
pub use file::{FoundFile, MetadataReader, ReadMetadataError};
use prepare::{Filed, Prepared};
pub(crate) use weigh::budget as files_budget;

/// What to do when the name is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// Refuse.
    #[default]
    Refuse,
    /// Replace the table's metadata.
    Replace,
}

/// A metadata file that is to become a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterTable {
    /// The table bucket; file and table must be in it.
    pub bucket: BucketName,
    /// The name of the table.
    pub ident: TableIdent,
    /// URI of the metadata file.
    pub metadata_location: String,
    /// What to do when the name is taken.
    pub overwrite: Overwrite,
}

/// A metadata file that a table is to be pointed at (S3 Tables `UpdateTableMetadataLocation`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateMetadataLocation {
    /// The table bucket.
    pub bucket: BucketName,
    /// The table.
    pub ident: TableIdent,
    /// The table must still be in this state.
    pub version_token: String,
    /// URI of the metadata file, below the table's location.
    pub metadata_location: String,
}

impl Catalog {
    /// Registers a metadata file as a table. A table that was dropped at the location which the file
    /// names comes back, under the new name and with its files.
    ///
    /// # Errors
    /// See [`RegisterTableError`].
    pub async fn register_table(
        &self,
        _: &Authorized<action::RegisterTable>,
        cx: &Cx,
        request: &RegisterTable,
    ) -> Result<Arc<TableHead>, RegisterTableError> {
        if let Some(before) = self.recall::<_, RegisterTableError>(cx).await? {
            return Ok(before);
        }
        let (bucket, namespace) = (&request.bucket, &request.ident.namespace);
        let in_bucket: BucketInfo = self
            .read(|rows| {
                let found = table_bucket::<RegisterTableError>(rows, bucket)?;
                namespaces::existing::<RegisterTableError>(rows, found.id, namespace)?;
                Ok::<_, RegisterTableError>(found)
            })
            .await?;
        let uri = &request.metadata_location;
        let file = Arc::new(self.read_file(cx, &in_bucket, uri).await?);
        self.file(cx, &in_bucket.name, &file, |txn, heads, prepared| {
            register(txn, cx, heads, request, &file, prepared)
        })
        .await
    }

    /// Points a table at a metadata file that the client wrote.
    ///
    /// # Errors
    /// See [`UpdateMetadataLocationError`].
    pub async fn update_metadata_location(
        &self,
        _: &Authorized<action::UpdateTableMetadataLocation>,
        cx: &Cx,
        request: &UpdateMetadataLocation,
    ) -> Result<TableInfo, UpdateMetadataLocationError> {
        let (bucket, ident) = (&request.bucket, &request.ident);
        let bucket: BucketInfo = self
            .read(|rows| {
                let found = load::existing::<UpdateMetadataLocationError>(rows, bucket, ident)?;
                check_pointer(request, &found.2)?;
                Ok::<_, UpdateMetadataLocationError>(found.0)
            })
            .await?;
        let uri = &request.metadata_location;
        let file = Arc::new(self.read_file(cx, &bucket, uri).await?);
        self.file(cx, &bucket.name, &file, |txn, heads, prepared| {
            point(txn, cx, heads, request, &file, prepared)
        })
        .await
    }
}

/// Where a registered file's table comes from.
enum Origin {
    /// The table that has the name now gets the file as its next version.
    Replaced(StoredTable),
    /// A dropped table comes back.
    Revived(StoredTable),
    /// The file describes a table that was never here.
    New,
}

impl Origin {
    /// The table that is there.
    fn table(&self) -> Option<&StoredTable> {
        match self {
            Self::Replaced(table) | Self::Revived(table) => Some(table),
            Self::New => None,
        }
    }
}

fn register(
    txn: &mut Txn<'_>,
    cx: &Cx,
    heads: &Heads<'_>,
    request: &RegisterTable,
    file: &File,
    prepared: &Prepared,
) -> Result<Step<Filed<Arc<TableHead>>>, RegisterTableError> {
    let RegisterTable {
        bucket,
        ident,
        overwrite,
        ..
    } = request;
    let bucket = table_bucket::<RegisterTableError>(txn, bucket)?;
    let namespace = namespaces::existing::<RegisterTableError>(txn, bucket.id, &ident.namespace)?;
    file.check_time(txn.now())?;
    let taken = |occupant| TableExists {
        ident: ident.clone(),
        occupant,
    };
    let occupant = match named::<RegisterTableError>(txn, &namespace, &ident.name)? {
        Named::Nothing => None,
        Named::Table(table) if *overwrite == Overwrite::Replace => Some(table),
        Named::Table(_) => return Err(taken(Occupant::Table).into()),
        Named::View => return Err(taken(Occupant::View).into()),
    };
    let origin = origin(txn, &bucket, occupant.as_ref(), &file.path)?;
    let ready = match file.ready(heads, origin.table(), prepared) {
        Ok(ready) => ready,
        Err(missing) => return Ok(missing.into()),
    };
    let content = file.content(ready.parts());
    let head = match origin {
        Origin::Replaced(table) => {
            if claim::<RegisterTableError>(txn, &bucket, table.id, &file.path)?.is_none() {
                let row = location::live_row(table.id);
                txn.put(keys::location(bucket.id, file.path.as_str()), &row);
            }
            publish::advance(txn, cx, heads.cache, &table, &file.path, &content)?
        }
        Origin::Revived(table) => {
            if let Some(occupant) = &occupant {
                drop::put_dropped(txn, cx, &bucket, occupant, Purge::Keep);
            }
            let table = revive(txn, &bucket, &namespace, ident, table);
            publish::advance(txn, cx, heads.cache, &table, &file.path, &content)?
        }
        Origin::New => {
            let id = TableId::from_bytes(txn.new_id());
            claim::<RegisterTableError>(txn, &bucket, id, &file.path)?;
            let birth = Birth {
                bucket: &bucket,
                namespace: &namespace,
                name: &ident.name,
                id,
                path: &file.path,
            };
            publish::create(txn, cx, heads.cache, &birth, &content)?
        }
    };
    txn.event(publish::event(
        "table.register",
        &bucket.name,
        head.info().id,
        ident,
    ));
    Ok(Step::Done(Filed::Done(head)))
}

/// Decides what a registered file's location means.
fn origin(
    txn: &Txn<'_>,
    bucket: &BucketInfo,
    occupant: Option<&StoredTable>,
    path: &Path,
) -> Result<Origin, RegisterTableError> {
    let row = txn.get::<LocationRow>(&keys::location(bucket.id, path.as_str()))?;
    let copy = |table: &StoredTable| StoredTable {
        id: table.id,
        commit: table.commit,
        row: table.row.clone(),
    };
    let Some(row) = row else {
        return Ok(occupant.map_or(Origin::New, |table| Origin::Replaced(copy(table))));
    };
    let owns = |table: &&StoredTable| row.value.table_id[..] == table.id.as_bytes()[..];
    if let Some(table) = occupant.filter(owns) {
        return Ok(Origin::Replaced(copy(table)));
    }
    if row.value.state() == LocationState::Dropped {
        let table = load::of_location::<RegisterTableError>(txn, &row.value.table_id)?;
        if !table.row.purge_requested {
            return Ok(Origin::Revived(table));
        }
    }
    let uri = location::uri(&bucket.name, path.as_str());
    let rule = LocationRule::Overlaps { other: uri.clone() };
    Err(InvalidLocation {
        location: uri,
        rule,
    }
    .into())
}

/// Gives a dropped table a name again; its head row is written with its next version.
fn revive(
    txn: &mut Txn<'_>,
    bucket: &BucketInfo,
    namespace: &NamespaceInfo,
    ident: &TableIdent,
    table: StoredTable,
) -> StoredTable {
    publish::put_name(txn, namespace, &ident.name, table.id);
    drop::put_locations(txn, bucket, &table, LocationState::Live);
    publish::count_table(txn, bucket, 1);
    let row = TableHeadRow {
        namespace_id: id_bytes(namespace.id.as_bytes()),
        levels: ident.namespace.levels().to_vec(),
        name: ident.name.to_string(),
        dropped_at_ms: 0,
        ..*table.row
    };
    StoredTable {
        row: Box::new(row),
        ..table
    }
}

/// Checks a request against the table as it is: before the file is read, and again when deciding.
fn check_pointer(
    request: &UpdateMetadataLocation,
    table: &StoredTable,
) -> Result<(), UpdateMetadataLocationError> {
    check_token(&request.ident, table, Some(&request.version_token))?;
    let file = file_path(&request.bucket, &request.metadata_location)?;
    let base = location::parse(&request.bucket, &table.row.location)?;
    if !base.contains(&file) {
        let rule = LocationRule::OutsideTable {
            table: table.row.location.clone(),
        };
        let location = request.metadata_location.clone();
        return Err(InvalidLocation { location, rule }.into());
    }
    Ok(())
}

fn point(
    txn: &mut Txn<'_>,
    cx: &Cx,
    heads: &Heads<'_>,
    request: &UpdateMetadataLocation,
    file: &File,
    prepared: &Prepared,
) -> Result<Step<Filed<TableInfo>>, UpdateMetadataLocationError> {
    let UpdateMetadataLocation { bucket, ident, .. } = request;
    let (_, _, table) = load::existing::<UpdateMetadataLocationError>(txn, bucket, ident)?;
    check_pointer(request, &table)?;
    file.check_time(txn.now())?;
    let base = location::parse(bucket, &table.row.location)?;
    if base != file.path {
        let given = file.metadata.location();
        let detail = format!(
            "its location `{given}` is not the table's `{}`",
            table.row.location
        );
        return Err(file.invalid(detail).into());
    }
    let uuid = file.metadata.uuid().unwrap_or_default();
    if table.row.current.is_some() && !uuid.eq_ignore_ascii_case(&table.row.table_uuid) {
        let detail = format!(
            "its table-uuid `{uuid}` is not the table's `{}`",
            table.row.table_uuid
        );
        return Err(file.invalid(detail).into());
    }
    let ready = match file.ready(heads, Some(&table), prepared) {
        Ok(ready) => ready,
        Err(missing) => return Ok(missing.into()),
    };
    let content = file.content(ready.parts());
    let head = publish::advance(txn, cx, heads.cache, &table, &file.path, &content)?;
    txn.event(publish::event(
        "table.metadata-location",
        bucket,
        table.id,
        ident,
    ));
    Ok(Step::Done(Filed::Done(head.info().clone())))
}
