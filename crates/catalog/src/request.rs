//! A commit as it came: measured, checked for what no table can make right, and prepared for as many
//! evaluations as it takes.

use crate::admit;
use crate::commit::TableChange;
use crate::errors::{CommitError, DuplicateTable, InvalidCreate};
use crate::seen::{self, Fingerprint};
use floeberg_iceberg::{AddedSnapshot, TableRequirement};
use floeberg_types::BucketName;
use std::collections::BTreeSet;

/// What is known of a request before it is decided.
pub(crate) struct Request<'a> {
    pub bucket: &'a BucketName,
    pub changes: Vec<Change<'a>>,
    /// Absent if no change adds a snapshot: then nothing can be recognised.
    pub fingerprint: Option<Fingerprint>,
}

pub(crate) struct Change<'a> {
    pub change: &'a TableChange,
    pub snapshots: Vec<AddedSnapshot>,
}

/// Whether a change creates its table.
pub(crate) fn creates(change: &TableChange) -> bool {
    change
        .requirements
        .contains(&TableRequirement::AssertCreate)
}

impl<'a> Request<'a> {
    pub(crate) fn new(
        bucket: &'a BucketName,
        changes: &'a [TableChange],
    ) -> Result<Self, CommitError> {
        admit::commit(changes)?;
        let mut names = BTreeSet::new();
        let mut prepared = Vec::with_capacity(changes.len());
        for change in changes {
            let ident = &change.ident;
            if !names.insert(ident) {
                return Err(DuplicateTable {
                    ident: ident.clone(),
                }
                .into());
            }
            let creates = creates(change);
            let alone = |r: &TableRequirement| *r == TableRequirement::AssertCreate;
            if creates && !change.requirements.iter().all(alone) {
                return Err(InvalidCreate {
                    ident: ident.clone(),
                }
                .into());
            }
            prepared.push(Change {
                change,
                snapshots: seen::snapshots(change),
            });
        }
        let adds = prepared.iter().any(|change| !change.snapshots.is_empty());
        let fingerprint = adds.then(|| seen::fingerprint(changes));
        Ok(Self {
            bucket,
            changes: prepared,
            fingerprint,
        })
    }
}
