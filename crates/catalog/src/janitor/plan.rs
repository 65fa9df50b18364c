//! What may be removed: a pure function of the rows and the time.

use crate::errors::{DamagedRow, Outage};
use crate::files::own_version;
use crate::keys::{self, FragmentKey};
use crate::load::StoredTable;
use crate::rows::{
    AnswerExpiryRow, AnswerRow, CollectedRow, FragmentRow, LocationRow, LocationState,
    SeenOrderRow, SeenRow, StagedRow, TableHeadRow, VersionRow, bucket_id, stored,
};
use crate::versions;
use bytes::Bytes;
use floeberg_iceberg::Section;
use floeberg_metastore::{RawRow, Rows};
use floeberg_state::EventRow;
use floeberg_state::keys::events;
use floeberg_types::{CommitId, GroupId, TableId, TimestampMs};
use prost::Message as _;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::ops::Bound;

const DAY_MS: i64 = 86_400_000;

/// What is kept, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Time for which a repeated request is recognised.
    pub seen_ms: i64,
    /// Snapshots of one table for which it is recognised.
    pub seen_per_table: u64,
    /// Time for which events are kept.
    pub events_ms: i64,
    /// Time for which a version is kept even if nothing names it: a client may just have learnt of
    /// it.
    pub versions_ms: i64,
    /// New versions of a table before its rows are looked through again.
    pub collect_every: u64,
    /// Tables looked at in one sweep.
    pub tables_per_sweep: usize,
    /// Rows of one kind and table removed in one sweep.
    pub rows_per_sweep: usize,
    /// Answers under idempotency keys removed in one sweep: every commit may leave one.
    pub answers_per_sweep: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            seen_ms: 7 * DAY_MS,
            seen_per_table: 10_000,
            events_ms: 30 * DAY_MS,
            versions_ms: 600_000,
            collect_every: 64,
            tables_per_sweep: 256,
            rows_per_sweep: 8192,
            answers_per_sweep: 4096,
        }
    }
}

/// A row that may go, as it was when that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Its key.
    pub key: Bytes,
    /// The command that wrote it.
    pub commit: CommitId,
}

/// A table that was looked through for versions nobody names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collected {
    /// The table.
    pub table: TableId,
    /// Its version then; it is looked through again after some more.
    pub version: u64,
    /// When it is looked through again anyway, because some versions were too young to go.
    pub again_at: Option<TimestampMs>,
}

/// The outcome of planning over a part of the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Rows to remove, in this order: what hides a row comes after the row it hides.
    pub deletions: Vec<Deletion>,
    /// Tables that were looked through completely.
    pub collected: Vec<Collected>,
    /// The last table looked at; `None` after the last table of all.
    pub cursor: Option<TableId>,
}

impl Plan {
    fn delete(&mut self, key: Bytes, commit: CommitId) {
        self.deletions.push(Deletion { key, commit });
    }
}

/// Plans retention over staged creates, answers, events and the tables behind `cursor`.
///
/// Rows may change while it reads them: nothing that is written after the head of a table was read
/// is planned to go, and what goes because of that head is needed by no later one.
///
/// # Errors
/// The rows could not be read.
pub fn plan(
    rows: &impl Rows,
    now: TimestampMs,
    retention: &Retention,
    cursor: Option<TableId>,
) -> Result<Plan, Outage> {
    let mut plan = Plan::default();
    staged(rows, now, retention, &mut plan)?;
    answers(rows, now, retention, &mut plan)?;
    old_events(rows, now, retention, &mut plan)?;
    let after = cursor.map(keys::head);
    let limit = retention.tables_per_sweep;
    let heads = rows.scan::<TableHeadRow>(&keys::heads(), after.as_deref(), limit)?;
    let full = heads.len() == limit;
    for (key, row) in heads {
        let table = StoredTable {
            id: stored("table head key", keys::head_table(&key))?,
            commit: row.commit_id,
            row: Box::new(row.value),
        };
        seen(rows, now, retention, &table, &mut plan)?;
        unnamed(rows, now, retention, &table, &mut plan)?;
        plan.cursor = full.then_some(table.id);
    }
    Ok(plan)
}

/// Staged creates past their time, with the location they kept.
fn staged(
    rows: &impl Rows,
    now: TimestampMs,
    retention: &Retention,
    plan: &mut Plan,
) -> Result<(), Outage> {
    let limit = retention.rows_per_sweep;
    for (key, row) in rows.scan::<StagedRow>(&keys::all_staged(), None, limit)? {
        let (expires, table) = stored("staged key", keys::staged_key(&key))?;
        if expires > now {
            break;
        }
        let bucket = bucket_id(&row.value.bucket_id)?;
        let location = keys::location(bucket, &row.value.path);
        if let Some(kept) = rows.get::<LocationRow>(&location)? {
            let own = kept.value.table_id[..] == table.as_bytes()[..];
            if own && kept.value.state() == LocationState::Staged {
                plan.delete(location, kept.commit_id);
            }
        }
        plan.delete(key, row.commit_id);
    }
    Ok(())
}

/// Answers under idempotency keys that clients may no longer use.
fn answers(
    rows: &impl Rows,
    now: TimestampMs,
    retention: &Retention,
    plan: &mut Plan,
) -> Result<(), Outage> {
    let limit = retention.answers_per_sweep;
    for (key, row) in rows.scan::<AnswerExpiryRow>(&keys::answer_expiries(), None, limit)? {
        let (expires, id) = stored("answer expiry key", keys::answer_expiry_key(&key))?;
        if expires > now {
            break;
        }
        let answer = keys::answer(&id);
        if let Some(kept) = rows.get::<AnswerRow>(&answer)? {
            // The key may have been used anew in the meantime.
            if kept.value.expires_at_ms == expires.0 {
                plan.delete(answer, kept.commit_id);
            }
        }
        plan.delete(key, row.commit_id);
    }
    Ok(())
}

fn old_events(
    rows: &impl Rows,
    now: TimestampMs,
    retention: &Retention,
    plan: &mut Plan,
) -> Result<(), Outage> {
    let prefix = events(GroupId::CATALOG);
    for (key, row) in rows.scan::<EventRow>(&prefix, None, retention.rows_per_sweep)? {
        if now.since_ms(TimestampMs(row.value.log_time_ms)) < retention.events_ms {
            break;
        }
        plan.delete(key, row.commit_id);
    }
    Ok(())
}

/// Seen snapshots that are too old or too many, oldest first.
fn seen(
    rows: &impl Rows,
    now: TimestampMs,
    retention: &Retention,
    table: &StoredTable,
    plan: &mut Plan,
) -> Result<(), Outage> {
    let prefix = keys::seen_orders(table.id);
    for (key, order) in rows.scan::<SeenOrderRow>(&prefix, None, retention.rows_per_sweep)? {
        let sequence = stored("seen key", keys::seen_order_sequence(&key))?;
        let age = now.since_ms(TimestampMs(order.value.log_time_ms));
        let newer = table.row.seen_next.saturating_sub(sequence);
        if age < retention.seen_ms && newer <= retention.seen_per_table {
            break;
        }
        let snapshot = keys::seen(table.id, order.value.snapshot_id);
        if let Some(row) = rows.get::<SeenRow>(&snapshot)? {
            // A later commit may have added a snapshot of the same id.
            if row.value.log_time_ms == order.value.log_time_ms {
                plan.delete(snapshot, row.commit_id);
            }
        }
        plan.delete(key, order.commit_id);
    }
    Ok(())
}

/// Versions, and fragments of versions, that the table and its metadata log no longer name.
fn unnamed(
    rows: &impl Rows,
    now: TimestampMs,
    retention: &Retention,
    table: &StoredTable,
    plan: &mut Plan,
) -> Result<(), Outage> {
    let last = rows.get::<CollectedRow>(&keys::collected(table.id))?;
    let last = last.map(|row| row.value).unwrap_or_default();
    let is_grown = table.row.version >= last.version.saturating_add(retention.collect_every);
    if now.0 < last.again_at_ms || (last.again_at_ms == 0 && !is_grown) {
        return Ok(());
    }
    let named = named(rows, table)?;
    let mut kept = named.clone();
    let start = plan.deletions.len();
    // The row of a version goes before its fragments: without it, nobody asks for them.
    for (key, row) in rows.scan::<VersionRow>(&keys::versions(table.id), None, usize::MAX)? {
        let version = stored("version key", keys::version_number(&key))?;
        let is_young = now.since_ms(TimestampMs(row.value.timestamp_ms)) < retention.versions_ms;
        // Commits go on meanwhile: what came after the head that was read is named by later ones.
        if is_young || version > table.row.version {
            kept.insert(version);
        } else if !named.contains(&version) {
            plan.delete(key, row.commit_id);
        }
    }
    let mut chain = Chain::new(&kept);
    versions::for_each_row::<Outage>(rows, &keys::fragments(table.id), |key, row| {
        let at = stored("fragment key", keys::fragment_key(&key))?;
        // A part of a version that came after the head that was read, and so none of those kept.
        if at.from > table.row.version {
            return Ok(());
        }
        chain.push(at, key, row, &mut plan.deletions)
    })?;
    chain.end(&mut plan.deletions);
    let is_complete = plan.deletions.len() - start <= retention.rows_per_sweep;
    plan.deletions.truncate(start + retention.rows_per_sweep);
    if is_complete {
        let is_young = kept.len() > named.len();
        plan.collected.push(Collected {
            table: table.id,
            version: table.row.version,
            again_at: is_young.then(|| now.plus_ms(retention.versions_ms / 4)),
        });
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct LogEntry {
    metadata_file: String,
}

/// The versions that the table's current metadata names.
fn named(rows: &impl Rows, table: &StoredTable) -> Result<BTreeSet<u64>, Outage> {
    let version = table.row.version;
    let bucket = table.row.bucket.as_str();
    let mut out = BTreeSet::from([version]);
    let log = keys::fragment_section(table.id, Section::MetadataLog);
    for (_, _, json) in versions::parts_below::<Outage>(rows, &log, version)? {
        let entry: LogEntry = stored("metadata log entry", serde_json::from_slice(&json))?;
        out.extend(own_version(table, bucket, &entry.metadata_file));
    }
    // A table that was registered from one of its own earlier files still is that file.
    let current = table
        .row
        .current
        .as_ref()
        .map(|row| row.external_key.as_str());
    if let Some(key) = current.filter(|key| !key.is_empty()) {
        out.extend(own_version(table, bucket, &format!("s3://{bucket}/{key}")));
    }
    Ok(out)
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
        });
        Ok(())
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
            deletions.push(Deletion { key, commit });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let key = |from| keys::fragment(table, part(from));
            let mut chain = Chain::new(&kept);
            let mut deletions = Vec::new();
            for (from, removed) in &rows {
                let row = FragmentRow { json: Bytes::new(), removed: *removed };
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
