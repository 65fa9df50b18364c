//! Which fragments that were written ahead may go: those of series that nobody publishes in time.

use super::plan::{Plan, Retention};
use crate::errors::Outage;
use crate::keys;
use crate::pieces::SERIES_KEPT_MAX;
use crate::rows::{PiecesRow, stored};
use floeberg_metastore::Rows;
use floeberg_types::TimestampMs;

/// Condemns what has expired and removes what is condemned. Between the two lies a command, so that
/// no version takes a series of which anything is gone.
pub(super) fn plan(
    rows: &impl Rows,
    now: TimestampMs,
    retention: &Retention,
    plan: &mut Plan,
) -> Result<(), Outage> {
    let limit = plan.deletions.len() + retention.rows_per_sweep;
    for (key, row) in rows.scan::<PiecesRow>(&keys::all_pieces(), None, SERIES_KEPT_MAX)? {
        let (expires, series) = stored("pieces key", keys::pieces_key(&key))?;
        if !row.value.condemned {
            if expires <= now {
                plan.condemned.push(key);
            }
            continue;
        }
        let room = limit.saturating_sub(plan.deletions.len());
        let fragments = rows.scan_prefix(&keys::fragments(series), None, room)?;
        let is_all = fragments.len() < room;
        for (fragment, row) in fragments {
            plan.delete(fragment, row.commit_id);
        }
        if is_all {
            plan.delete(key, row.commit_id);
        }
    }
    Ok(())
}
