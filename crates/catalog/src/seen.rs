//! Recognising a commit that was applied already, although its reply was lost.
//!
//! Every snapshot that a commit adds leaves a row with the fingerprint of the whole request. Sending
//! the same request again is answered with success and makes no new version, also after the snapshot
//! was rolled back or expired: a 409 would make clients delete files of a live table.

use crate::commit::TableChange;
use crate::errors::DamagedRow;
use crate::keys;
use crate::load::StoredTable;
use crate::rows::{SeenOrderRow, SeenRow};
use bytes::Bytes;
use floeberg_iceberg::{AddedSnapshot, TableUpdate};
use floeberg_metastore::{Rows, StoreError, Txn};
use floeberg_types::TableId;
use std::io::Write as _;

/// What identifies a request: a hash over all its changes.
pub(crate) type Fingerprint = [u8; 32];

/// The snapshots that a change adds. A malformed one is left for the update itself to refuse.
pub(crate) fn snapshots(change: &TableChange) -> Vec<AddedSnapshot> {
    let added = change.updates.iter().filter_map(|update| match update {
        TableUpdate::AddSnapshot { snapshot } => AddedSnapshot::of(snapshot).ok(),
        _ => None,
    });
    added.collect()
}

/// The fingerprint of a request. Names are part of it: a change of one table is not the same change
/// of another.
pub(crate) fn fingerprint(changes: &[TableChange]) -> Fingerprint {
    let mut hash = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        hash.write_all(&(bytes.len() as u64).to_be_bytes())
            .expect("hashing cannot fail");
        hash.write_all(bytes).expect("hashing cannot fail");
    };
    for change in changes {
        for level in change.ident.namespace.levels() {
            field(level.as_bytes());
        }
        field(change.ident.name.as_str().as_bytes());
        let requirements = serde_json::to_vec(&change.requirements);
        field(&requirements.expect("requirements serialize"));
        field(&serde_json::to_vec(&change.updates).expect("updates serialize"));
    }
    *hash.finalize().as_bytes()
}

/// Whether a table has already got all these snapshots from exactly this request.
pub(crate) fn is_replay<E>(
    rows: &impl Rows,
    table: TableId,
    snapshots: &[AddedSnapshot],
    fingerprint: &Fingerprint,
) -> Result<bool, E>
where
    E: From<StoreError> + From<DamagedRow>,
{
    for snapshot in watched(snapshots) {
        match rows.get::<SeenRow>(&keys::seen(table, snapshot.snapshot_id))? {
            Some(seen) if seen.value.fingerprint[..] == fingerprint[..] => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Snapshots of one change by which it is recognised.
const WATCHED: usize = 100;

/// The last snapshots of a change. The fingerprint is that of the whole request, so a few are as good as
/// all: a row for each of thousands would hold up others.
pub(crate) fn watched(snapshots: &[AddedSnapshot]) -> &[AddedSnapshot] {
    &snapshots[snapshots.len().saturating_sub(WATCHED)..]
}

/// Records the snapshots that a request adds to a table which is now at `version`.
pub(crate) fn record(
    txn: &mut Txn<'_>,
    table: TableId,
    first: u64,
    version: u64,
    snapshots: &[AddedSnapshot],
    fingerprint: &Fingerprint,
) {
    for (sequence, snapshot) in (first..).zip(watched(snapshots)) {
        let row = SeenRow {
            fingerprint: Bytes::copy_from_slice(fingerprint),
            manifest_list: snapshot
                .manifest_list
                .as_deref()
                .unwrap_or_default()
                .to_owned(),
            version,
            log_time_ms: txn.now().0,
        };
        txn.put(keys::seen(table, snapshot.snapshot_id), &row);
        let order = SeenOrderRow {
            snapshot_id: snapshot.snapshot_id,
            log_time_ms: txn.now().0,
        };
        txn.put(keys::seen_order(table, sequence), &order);
    }
}

/// The next sequence number of a table's seen snapshots.
pub(crate) fn next_sequence(table: Option<&StoredTable>) -> u64 {
    table.map_or(0, |table| table.row.seen_next)
}
