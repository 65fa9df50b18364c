//! What one change makes of its table, found from rows and its head alone: nothing is written here, so
//! that it can be found in a decision as well as apart from it.

use super::TableChange;
use crate::buckets::BucketInfo;
use crate::create::uuid_of;
use crate::errors::{CommitError, NoMetadata, NoSuchNamespace, NoSuchTable, Occupant, TableExists};
use crate::heads::{ColdHead, Heads, TableHead, VersionToken};
use crate::load::{Named, StoredTable, named};
use crate::location::{self, Path};
use crate::namespaces::{self, NamespaceInfo};
use crate::{Outage, publish, request, versions};
use floeberg_iceberg::{
    Applied, ApplyContext, CreateContext, MetadataLogEntry, PartChange, RequirementFailed,
    TableMetadata, TableUpdate, check,
};
use floeberg_metastore::{Cx, Rows};
use floeberg_types::{BucketName, TableId, TimestampMs};
use std::sync::Arc;

/// A change and the rows of what its name stands for.
pub(super) struct Target<'c> {
    pub(super) change: &'c TableChange,
    pub(super) namespace: NamespaceInfo,
    pub(super) table: Option<(StoredTable, Arc<TableHead>)>,
}

impl Target<'_> {
    /// The version that the change builds on; `None` if it creates its table.
    pub(super) fn base(&self) -> Option<VersionToken> {
        let head = self.table.as_ref().map(|(_, head)| head);
        head.map(|head| head.info().version_token)
    }
}

/// The metadata that a change makes.
pub(crate) struct Draft {
    pub(super) base: Option<VersionToken>,
    /// The time at which it was made.
    pub(super) now: TimestampMs,
    /// The id of its table, unless that is created and was staged in its place.
    pub(super) new_id: TableId,
    /// Where the table is from now on.
    pub(super) path: Path,
    pub(super) applied: Applied,
}

impl Draft {
    /// What turns the document of this draft into that of another one.
    pub(super) fn until(&self, other: &Self) -> Vec<PartChange> {
        versions::replacement(&self.applied.metadata, &other.applied.metadata)
    }
}

/// What changes are found on.
pub(super) struct Scene<'a> {
    pub(super) cx: &'a Cx,
    pub(super) heads: &'a Heads<'a>,
    /// Log time.
    pub(super) now: TimestampMs,
    /// The present of whoever looks: log time may be ahead of it.
    pub(super) clock: TimestampMs,
    pub(super) bucket: BucketInfo,
}

impl Scene<'_> {
    /// Ends what nobody waits for.
    pub(super) fn goes_on(&self) -> Result<(), Outage> {
        if self.cx.is_over() {
            return Err(Outage::Unavailable);
        }
        Ok(())
    }

    /// Finds what a change is about: a table with its head, or a free name for a table to be created.
    pub(super) fn target<'c>(
        &self,
        rows: &impl Rows,
        change: &'c TableChange,
    ) -> Result<Result<Target<'c>, ColdHead>, CommitError> {
        let ident = &change.ident;
        let creates = request::creates(change);
        let namespace = namespaces::find::<CommitError>(rows, self.bucket.id, &ident.namespace)?;
        let Some(namespace) = namespace else {
            return Err(if creates {
                NoSuchNamespace {
                    namespace: ident.namespace.clone(),
                }
                .into()
            } else {
                NoSuchTable::named(ident).into()
            });
        };
        let table = match named::<CommitError>(rows, &namespace, &ident.name)? {
            Named::Table(table) if table.row.current.is_none() => {
                return Err(if creates {
                    RequirementFailed::TableExists.into()
                } else {
                    NoMetadata {
                        ident: ident.clone(),
                    }
                    .into()
                });
            }
            Named::Table(table) => match self.heads.get(table.id, table.commit) {
                Ok(head) => Some((table, head)),
                Err(cold) => return Ok(Err(cold)),
            },
            Named::Nothing if creates => None,
            Named::View if creates => {
                let (ident, occupant) = (ident.clone(), Occupant::View);
                return Err(TableExists { ident, occupant }.into());
            }
            Named::Nothing | Named::View => return Err(NoSuchTable::named(ident).into()),
        };
        Ok(Ok(Target {
            change,
            namespace,
            table,
        }))
    }

    /// Checks the requirements of a change and applies its updates. `ids` gives random ids.
    pub(super) fn draft(
        &self,
        target: &Target<'_>,
        ids: &dyn Fn() -> [u8; 16],
    ) -> Result<Draft, CommitError> {
        match &target.table {
            Some((table, head)) => self.next(target, table.id, head),
            None => self.first(target, ids),
        }
    }

    fn next(
        &self,
        target: &Target<'_>,
        id: TableId,
        head: &TableHead,
    ) -> Result<Draft, CommitError> {
        let change = target.change;
        let base = head.metadata();
        check(&change.requirements, Some(base))?;
        let context = ApplyContext {
            now_ms: self.now.0,
            clock_ms: self.clock.0,
            previous: Some(previous(head)),
        };
        let goes_on = || self.goes_on().is_ok();
        let applied = base.apply_while(&change.updates, &context, &goes_on)?;
        if applied.changed {
            check_paths(&self.bucket.name, change, &applied.metadata)?;
        }
        Ok(Draft {
            base: target.base(),
            now: self.now,
            new_id: id,
            path: publish::path_of(&self.bucket.name, &applied.metadata)?,
            applied,
        })
    }

    fn first(&self, target: &Target<'_>, ids: &dyn Fn() -> [u8; 16]) -> Result<Draft, CommitError> {
        let change = target.change;
        let bucket = &self.bucket.name;
        let new_id = TableId::from_bytes(ids());
        let path = birthplace(bucket, change, new_id)?;
        let context = CreateContext {
            now_ms: self.now.0,
            uuid: uuid_of(ids()),
            location: location::uri(bucket, path.as_str()).into(),
        };
        let goes_on = || self.goes_on().is_ok();
        let applied = TableMetadata::create_while(&change.updates, &context, &goes_on)?;
        location::check_properties(bucket, &applied.metadata)?;
        Ok(Draft {
            base: None,
            now: self.now,
            new_id,
            path,
            applied,
        })
    }
}

fn previous(head: &TableHead) -> MetadataLogEntry {
    MetadataLogEntry::new(head.metadata().last_updated_ms(), head.metadata_location())
}

/// Path properties can only have changed if properties or the location did.
fn check_paths(
    bucket: &BucketName,
    change: &TableChange,
    metadata: &TableMetadata,
) -> Result<(), CommitError> {
    let touches = |update: &TableUpdate| {
        matches!(
            update,
            TableUpdate::SetProperties { .. } | TableUpdate::SetLocation { .. }
        )
    };
    if change.updates.iter().any(touches) {
        location::check_properties(bucket, metadata)?;
    }
    Ok(())
}

/// The location of a table to be created: the one that its updates name, as for one that was staged,
/// or a new one.
fn birthplace(
    bucket: &BucketName,
    change: &TableChange,
    fresh: TableId,
) -> Result<Path, CommitError> {
    let TableChange { ident, updates, .. } = change;
    let chosen = updates.iter().rev().find_map(|update| match update {
        TableUpdate::SetLocation { location } => Some(location),
        _ => None,
    });
    match chosen {
        Some(location) => Ok(location::parse(bucket, location)?),
        None => Ok(location::unique(&ident.namespace, &ident.name, fresh)),
    }
}
