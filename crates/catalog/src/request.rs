//! A commit as it came: measured, checked for what no table can make right, and prepared for as many
//! evaluations as it takes.

use crate::admit;
use crate::commit::TableChange;
use crate::errors::{CommitError, DuplicateTable, InvalidCreate};
use crate::seen::{self, Fingerprint};
use floeberg_iceberg::{AddedSnapshot, TableRequirement};
use floeberg_types::BucketName;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is known of a request before it is decided.
#[derive(Clone)]
pub(crate) struct Request {
    pub bucket: BucketName,
    pub changes: Arc<[TableChange]>,
    /// The snapshots that each change adds.
    pub snapshots: Arc<[Vec<AddedSnapshot>]>,
    /// Absent if no change adds a snapshot: then nothing can be recognised.
    pub fingerprint: Option<Fingerprint>,
}

/// Whether a change creates its table.
pub(crate) fn creates(change: &TableChange) -> bool {
    change
        .requirements
        .contains(&TableRequirement::AssertCreate)
}

impl Request {
    pub(crate) fn new(
        bucket: BucketName,
        changes: Arc<[TableChange]>,
    ) -> Result<Self, CommitError> {
        admit::commit(&changes)?;
        let mut names = BTreeSet::new();
        for change in &*changes {
            let ident = &change.ident;
            if !names.insert(ident) {
                return Err(DuplicateTable {
                    ident: ident.clone(),
                }
                .into());
            }
            let alone = |r: &TableRequirement| *r == TableRequirement::AssertCreate;
            if creates(change) && !change.requirements.iter().all(alone) {
                return Err(InvalidCreate {
                    ident: ident.clone(),
                }
                .into());
            }
        }
        let snapshots: Arc<[_]> = changes.iter().map(seen::snapshots).collect();
        let adds = snapshots.iter().any(|snapshots| !snapshots.is_empty());
        let fingerprint = adds.then(|| seen::fingerprint(&changes));
        Ok(Self {
            bucket,
            changes,
            snapshots,
            fingerprint,
        })
    }
}
