//! Which fragments of a table the versions that are kept still need.

use super::plan::{Deletion, Plan};
use crate::errors::{DamagedRow, Outage};
use crate::keys::{self, FragmentKey, FragmentRole, SeriesId};
use crate::load::StoredTable;
use crate::rows::{FragmentRow, VersionRow, series_of, stored};
use crate::versions;
use bytes::Bytes;
use floeberg_metastore::{RawRow, Rows};
use floeberg_types::{CommitId, TableId};
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// The versions of a table that are kept, by whose fragments they have.
pub(super) struct Kept {
    table: TableId,
    current: u64,
    series: BTreeMap<SeriesId, BTreeSet<u64>>,
    /// The rows of the series beside the first.
    further: BTreeMap<SeriesId, (Bytes, CommitId)>,
}

impl Kept {
    /// Only the current version so far. The series are looked up before the versions are, so that
    /// one which comes meanwhile is left alone. Each came with a version, so there are no more than those.
    pub(super) fn of(rows: &impl Rows, table: &StoredTable) -> Result<Self, Outage> {
        let mut kept = Self {
            table: table.id,
            current: table.row.version,
            series: BTreeMap::from([(SeriesId::first_of(table.id), BTreeSet::new())]),
            further: BTreeMap::new(),
        };
        for (key, row) in rows.scan_prefix(&keys::all_series(table.id), None, usize::MAX)? {
            let series = stored("series key", keys::series_id(&key))?;
            kept.series.insert(series, BTreeSet::new());
            kept.further.insert(series, (key, row.commit_id));
        }
        if let Some(current) = &table.row.current {
            kept.add(table.row.version, current)?;
        }
        Ok(kept)
    }

    pub(super) fn add(&mut self, version: u64, row: &VersionRow) -> Result<(), DamagedRow> {
        let series = series_of(self.table, row)?;
        // The file of such a version is an object; only what is built on the current one needs its parts.
        let is_object = !row.external_key.is_empty() && version != self.current;
        if is_object && self.further.contains_key(&series) {
            return Ok(());
        }
        // A series that came after they were looked up is not missed: nothing of it goes.
        if let Some(versions) = self.series.get_mut(&series) {
            versions.insert(version);
        }
        Ok(())
    }

    /// Plans the fragments to go that none of the versions has, and series of which none is left.
    pub(super) fn plan(
        mut self,
        rows: &impl Rows,
        table: &StoredTable,
        plan: &mut Plan,
    ) -> Result<(), Outage> {
        for (series, versions) in &self.series {
            fragments(rows, table, *series, versions, plan)?;
            // Its row goes last: it is what tells that there is such a series.
            if versions.is_empty()
                && let Some((key, commit)) = self.further.remove(series)
            {
                plan.delete(key, commit);
            }
        }
        Ok(())
    }
}

/// The fragments of a series that none of the kept versions has.
fn fragments(
    rows: &impl Rows,
    table: &StoredTable,
    series: SeriesId,
    kept: &BTreeSet<u64>,
    plan: &mut Plan,
) -> Result<(), Outage> {
    let mut chain = Chain::new(kept);
    versions::for_each_row::<Outage>(rows, &keys::fragments(series), |key, row| {
        let (at, role) = stored("fragment key", keys::fragment_key(&key))?;
        // A part of a version that came after the head that was read, and so none of those kept.
        if at.from > table.row.version {
            return Ok(());
        }
        match role {
            FragmentRole::Begins => chain.push(at, key, row, &mut plan.deletions),
            FragmentRole::GoesOn => {
                chain.go_on(at, key, row.commit_id, &mut plan.deletions);
                Ok(())
            }
        }
    })?;
    chain.end(&mut plan.deletions);
    Ok(())
}

/// The rows of one part, oldest first: each holds until the next one begins.
struct Chain<'a> {
    kept: &'a BTreeSet<u64>,
    open: Option<Open>,
    /// Whether an older row of the part stays, which a removal must go on hiding.
    hides: bool,
}

struct Open {
    at: FragmentKey,
    key: Bytes,
    commit: CommitId,
    removed: bool,
    /// The rows that go on with it.
    more: Vec<Deletion>,
}

impl<'a> Chain<'a> {
    fn new(kept: &'a BTreeSet<u64>) -> Self {
        Self {
            kept,
            open: None,
            hides: false,
        }
    }

    fn push(
        &mut self,
        at: FragmentKey,
        key: Bytes,
        row: RawRow,
        deletions: &mut Vec<Deletion>,
    ) -> Result<(), DamagedRow> {
        let same = |open: &Open| (open.at.section, open.at.ordinal) == (at.section, at.ordinal);
        let continues = self.open.as_ref().is_some_and(same);
        self.close(continues.then_some(at.from), deletions);
        self.hides &= continues;
        let removed = stored("fragment", FragmentRow::decode(row.payload))?.removed;
        let commit = row.commit_id;
        self.open = Some(Open {
            at,
            key,
            commit,
            removed,
            more: Vec::new(),
        });
        Ok(())
    }

    /// A row that goes on with the open one; without one, nobody needs it.
    fn go_on(
        &mut self,
        at: FragmentKey,
        key: Bytes,
        commit: CommitId,
        deletions: &mut Vec<Deletion>,
    ) {
        let row = Deletion { key, commit };
        match self.open.as_mut().filter(|open| open.at == at) {
            Some(open) => open.more.push(row),
            None => deletions.push(row),
        }
    }

    fn end(&mut self, deletions: &mut Vec<Deletion>) {
        self.close(None, deletions);
    }

    /// Decides about the open row, which holds until `until`, or for ever.
    fn close(&mut self, until: Option<u64>, deletions: &mut Vec<Deletion>) {
        let Some(open) = self.open.take() else { return };
        let end = until.map_or(Bound::Unbounded, Bound::Excluded);
        let mut holds = self.kept.range((Bound::Included(open.at.from), end));
        let needed = holds.next().is_some() && (!open.removed || self.hides);
        if needed {
            self.hides = true;
        } else {
            let (key, commit) = (open.key, open.commit);
            deletions.extend(open.more);
            deletions.push(Deletion { key, commit });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use floeberg_iceberg::Section;
    use proptest::prelude::*;

    /// What a part looks like at a version: its newest row up to there, unless that is a removal.
    fn visible(rows: &[(u64, bool)], version: u64) -> Option<u64> {
        let newest = rows.iter().rev().find(|(from, _)| *from <= version)?;
        (!newest.1).then_some(newest.0)
    }

    proptest! {
        /// Whatever prefix of the planned deletions is carried out, every kept version still looks
        /// the same; and after all of them, no row is left that a kept version does not need.
        #[test]
        fn kept_versions_never_change(
            rows in proptest::collection::btree_map(1u64..20, any::<bool>(), 1..10),
            kept in proptest::collection::btree_set(1u64..20, 0..6),
        ) {
            let rows: Vec<(u64, bool)> = rows.into_iter().collect();
            let kept: BTreeSet<u64> = kept.into_iter().chain([20]).collect();
            let table = TableId::from_bytes([1; 16]);
            let part = |from| FragmentKey { section: Section::Snapshots, ordinal: 3, from };
            let key = |from| keys::fragment(SeriesId::first_of(table), part(from));
            let mut chain = Chain::new(&kept);
            let mut deletions = Vec::new();
            for (from, removed) in &rows {
                let row = FragmentRow { removed: *removed, ..FragmentRow::default() };
                let commit_id = CommitId::from_bytes([0; 16]);
                let raw = RawRow { commit_id, payload: row.encode_to_vec().into() };
                chain.push(part(*from), key(*from), raw, &mut deletions).unwrap();
            }
            chain.end(&mut deletions);
            let mut left = rows.clone();
            for deletion in &deletions {
                left.retain(|(from, _)| key(*from) != deletion.key);
                for version in &kept {
                    prop_assert_eq!(visible(&left, *version), visible(&rows, *version));
                }
            }
            for (from, removed) in &left {
                let needed = kept.iter().any(|v| visible(&left, *v) == Some(*from));
                prop_assert!(needed || *removed);
            }
        }
    }
}
