//! Dropping tables: a change of state that frees the name and keeps everything else.

use crate::buckets::BucketInfo;
use crate::errors::{DropTableError, StaleVersionToken};
use crate::heads::VersionToken;
use crate::load::{self, StoredTable};
use crate::location;
use crate::publish;
use crate::rows::{LocationRow, LocationState, TableHeadRow, TableState, id_bytes};
use crate::{Catalog, keys};
use floeberg_auth::{Authorized, action};
use floeberg_metastore::{Cx, Txn};
use floeberg_types::{BucketName, TableIdent};

/// Whether the files of a dropped table are to go before its undrop window ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purge {
    /// Keep them as long as the table could be brought back.
    #[default]
    Keep,
    /// The client asked for their removal.
    Requested,
}

/// Which table to drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropTable {
    /// The table bucket.
    pub bucket: BucketName,
    /// The table.
    pub ident: TableIdent,
    /// What is to become of its files.
    pub purge: Purge,
    /// If given, the table must still be in this state.
    pub version_token: Option<String>,
}

/// Checks a client's token against a table.
pub(crate) fn check_token(
    ident: &TableIdent,
    table: &StoredTable,
    token: Option<&str>,
) -> Result<(), StaleVersionToken> {
    match token {
        Some(token) if !VersionToken::new(table.commit).matches(token) => Err(StaleVersionToken {
            ident: ident.clone(),
        }),
        _ => Ok(()),
    }
}

/// Writes that a table is dropped. Its name row is the caller's to delete or replace.
pub(crate) fn put_dropped(
    txn: &mut Txn<'_>,
    cx: &Cx,
    bucket: &BucketInfo,
    table: &StoredTable,
    purge: Purge,
) {
    let row = TableHeadRow {
        state: TableState::Dropped.into(),
        dropped_at_ms: txn.now().0,
        purge_requested: purge == Purge::Requested,
        modified_by: cx.principal.to_string(),
        modified_at_ms: txn.now().0,
        ..TableHeadRow::clone(&table.row)
    };
    txn.put(keys::head(table.id), &row);
    put_locations(txn, bucket, table, LocationState::Dropped);
    publish::count_table(txn, bucket, -1);
}

/// Sets the state of every location a table has or had.
pub(crate) fn put_locations(
    txn: &mut Txn<'_>,
    bucket: &BucketInfo,
    table: &StoredTable,
    state: LocationState,
) {
    let row = LocationRow {
        table_id: id_bytes(table.id.as_bytes()),
        state: state.into(),
        ..LocationRow::default()
    };
    let current = location::parse(&bucket.name, &table.row.location).ok();
    let former = table.row.former_paths.iter().map(String::as_str);
    for path in current
        .as_ref()
        .map(location::Path::as_str)
        .into_iter()
        .chain(former)
    {
        txn.put(keys::location(bucket.id, path), &row);
    }
}

impl Catalog {
    /// Drops a table. Its name is free at once; its rows and files stay.
    ///
    /// # Errors
    /// It does not exist, or is not in the state that the token stands for.
    pub async fn drop_table(
        &self,
        _: &Authorized<action::DropTable>,
        cx: &Cx,
        request: &DropTable,
    ) -> Result<(), DropTableError> {
        self.transact_once(cx, |txn| {
            let ident = &request.ident;
            let (bucket, namespace, table) =
                load::existing::<DropTableError>(txn, &request.bucket, ident)?;
            check_token(ident, &table, request.version_token.as_deref())?;
            txn.delete(keys::name(namespace.id, &ident.name));
            put_dropped(txn, cx, &bucket, &table, request.purge);
            txn.event(publish::event(
                "table.drop",
                &request.bucket,
                table.id,
                ident,
            ));
            Ok(())
        })
        .await
    }
}
