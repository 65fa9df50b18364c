//! Renaming tables, also into another namespace. Files and location stay where they are.

use crate::drop::check_token;
use crate::errors::{RenameTableError, RenameTargetExists};
use crate::heads::{HeadCache, TableInfo};
use crate::load;
use crate::namespaces;
use crate::publish;
use crate::rows::{TableHeadRow, id_bytes};
use crate::{Catalog, keys};
use floeberg_auth::{Authorized, action};
use floeberg_metastore::{Cx, Txn};
use floeberg_types::{BucketName, TableIdent};
use std::sync::Arc;

/// Which table to rename, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenameTable {
    /// The table bucket.
    pub bucket: BucketName,
    /// The table.
    pub from: TableIdent,
    /// Its new name.
    pub to: TableIdent,
    /// If given, the table must still be in this state.
    pub version_token: Option<String>,
}

impl Catalog {
    /// Renames a table.
    ///
    /// # Errors
    /// The table or the new namespace does not exist, the new name is taken, or the table is not in
    /// the state that the token stands for.
    pub async fn rename_table(
        &self,
        _: &Authorized<action::RenameTable>,
        cx: &Cx,
        request: &RenameTable,
    ) -> Result<TableInfo, RenameTableError> {
        self.transact_once(cx, |txn| rename(txn, cx, &self.inner.heads, request))
            .await
    }
}

fn rename(
    txn: &mut Txn<'_>,
    cx: &Cx,
    heads: &HeadCache,
    request: &RenameTable,
) -> Result<TableInfo, RenameTableError> {
    let RenameTable {
        bucket,
        from,
        to,
        version_token,
    } = request;
    let (in_bucket, old, table) = load::existing::<RenameTableError>(txn, bucket, from)?;
    check_token(from, &table, version_token.as_deref())?;
    let new = namespaces::existing::<RenameTableError>(txn, in_bucket.id, &to.namespace)?;
    if let Some(occupant) = load::named::<RenameTableError>(txn, &new, &to.name)?.occupant() {
        return Err(RenameTargetExists {
            from: from.clone(),
            to: to.clone(),
            occupant,
        }
        .into());
    }
    txn.delete(keys::name(old.id, &from.name));
    publish::put_name(txn, &new, &to.name, table.id);
    let row = TableHeadRow {
        namespace_id: id_bytes(new.id.as_bytes()),
        levels: to.namespace.levels().to_vec(),
        name: to.name.to_string(),
        modified_by: cx.principal.to_string(),
        modified_at_ms: txn.now().0,
        ..*table.row
    };
    txn.put(keys::head(table.id), &row);
    let mut event = publish::event("table.rename", bucket, table.id, to);
    event.details.insert("from".to_owned(), from.to_string());
    txn.event(event);
    let info = TableInfo::of(table.id, txn.commit_id(), &row)?;
    if let Some(head) = heads.get(table.id, table.commit) {
        heads.insert(
            table.id,
            txn.commit_id(),
            Arc::new(head.with_info(info.clone())),
        );
    }
    Ok(info)
}
