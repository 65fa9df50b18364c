//! What may be removed: a pure function of the rows and the time.

use super::kept::Kept;
use crate::errors::Outage;
use crate::files::own_version;
use crate::keys::{self, SeriesId};
use crate::load::StoredTable;
use crate::rows::{
    AnswerExpiryRow, AnswerRow, CollectedRow, LocationRow, LocationState, SeenOrderRow, SeenRow,
    StagedRow, TableHeadRow, VersionRow, bucket_id, series_of, stored,
};
use crate::versions;
use bytes::Bytes;
use floeberg_iceberg::Section;
use floeberg_metastore::Rows;
use floeberg_state::EventRow;
use floeberg_state::keys::events;
use floeberg_types::{CommitId, GroupId, TableId, TimestampMs};
use serde::Deserialize;
use std::collections::BTreeSet;

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
    /// Keys of series that were written ahead and may not be published any more.
    pub condemned: Vec<Bytes>,
    /// Tables that were looked through completely.
    pub collected: Vec<Collected>,
    /// The last table looked at; `None` after the last table of all.
    pub cursor: Option<TableId>,
}

impl Plan {
    pub(super) fn delete(&mut self, key: Bytes, commit: CommitId) {
        self.deletions.push(Deletion { key, commit });
    }
}

/// By what is found what has expired.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The log's, for what is stamped with it.
    pub now: TimestampMs,
    /// The clock's, for answers under keys.
    pub present: TimestampMs,
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
    Times { now, present }: Times,
    retention: &Retention,
    cursor: Option<TableId>,
) -> Result<Plan, Outage> {
    let mut plan = Plan::default();
    staged(rows, now, retention, &mut plan)?;
    answers(rows, present, retention, &mut plan)?;
    super::pieces::plan(rows, now, retention, &mut plan)?;
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
    present: TimestampMs,
    retention: &Retention,
    plan: &mut Plan,
) -> Result<(), Outage> {
    let limit = retention.answers_per_sweep;
    for (key, row) in rows.scan::<AnswerExpiryRow>(&keys::answer_expiries(), None, limit)? {
        let (expires, id) = stored("answer expiry key", keys::answer_expiry_key(&key))?;
        if expires > present {
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
    let mut kept = Kept::of(rows, table)?;
    let mut has_young = false;
    let start = plan.deletions.len();
    // The row of a version goes before its fragments: without it, nobody asks for them.
    for (key, row) in rows.scan::<VersionRow>(&keys::versions(table.id), None, usize::MAX)? {
        let version = stored("version key", keys::version_number(&key))?;
        let is_young = now.since_ms(TimestampMs(row.value.timestamp_ms)) < retention.versions_ms;
        // Commits go on meanwhile: what came after the head that was read is named by later ones.
        let is_named = named.contains(&version);
        if is_named || is_young || version > table.row.version {
            has_young |= !is_named;
            kept.add(version, &row.value)?;
        } else {
            plan.delete(key, row.commit_id);
        }
    }
    kept.plan(rows, table, plan)?;
    let is_complete = plan.deletions.len() - start <= retention.rows_per_sweep;
    plan.deletions.truncate(start + retention.rows_per_sweep);
    if is_complete {
        plan.collected.push(Collected {
            table: table.id,
            version: table.row.version,
            again_at: has_young.then(|| now.plus_ms(retention.versions_ms / 4)),
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
    let series = match &table.row.current {
        Some(current) => series_of(table.id, current)?,
        None => SeriesId::first_of(table.id),
    };
    let log = keys::fragment_section(series, Section::MetadataLog);
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
