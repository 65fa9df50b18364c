//! What log and state say of each other when a group starts.
//!
//! Entries are applied only once this node's log has synced them, and the log is purged only up to
//! what is durable in the state. So the two always overlap, with one exception: the purge that
//! follows an installed snapshot need not be durable when the node dies. The note of
//! [`Staging`](crate::transfer::staging::Staging) tells that exception from lost entries.

use crate::codec;
use crate::machine::EntryId;
use crate::start::GroupStartError;
use floeberg_raftlog::{LogError, LogStore};
use floeberg_types::GroupId;
use std::error::Error;

fn failed(group: GroupId) -> impl Fn(Box<dyn Error + Send + Sync>) -> GroupStartError {
    move |source| GroupStartError::Recovery { group, source }
}

/// Whether the log has this very entry.
fn has_entry(log: &dyn LogStore, group: GroupId, id: &EntryId) -> Result<bool, GroupStartError> {
    let failed = failed(group);
    let stored = log.read(group, id.index, id.index + 1, usize::MAX);
    let stored = stored.map_err(|e: LogError| failed(e.into()))?;
    let Some(record) = stored.into_iter().next() else {
        return Ok(false);
    };
    let entry = codec::decode_entry(record.bytes).map_err(|e| failed(e.into()))?;
    Ok(codec::entry_id(&entry.log_id) == *id)
}

/// Checks that log and state belong together, and lets the log continue behind an installed
/// snapshot that it does not know of yet.
pub(crate) fn reconcile(
    log: &dyn LogStore,
    group: GroupId,
    applied: Option<EntryId>,
    installed: Option<EntryId>,
) -> Result<(), GroupStartError> {
    let failed = failed(group);
    let state = log.state(group).map_err(|e| failed(e.into()))?;
    let purged = state.purged.map(|(index, _)| index);
    if let Some(purged) = purged.filter(|purged| applied.is_none_or(|a| a.index < *purged)) {
        let applied = applied.map(|id| id.index);
        return Err(GroupStartError::StateBehindLog {
            group,
            applied,
            purged,
        });
    }
    let Some(applied) = applied else {
        return Ok(());
    };
    if purged == Some(applied.index) || has_entry(log, group, &applied)? {
        return Ok(());
    }
    if installed != Some(applied) {
        let log_end = state.last.map(|record| record.index).max(purged);
        return Err(GroupStartError::StateAheadOfLog {
            group,
            applied: applied.index,
            log_end,
        });
    }
    // Whatever the log holds is older than the snapshot, or was never committed.
    let log_id = codec::encode_log_id(&codec::log_id(&applied));
    log.truncate_after(group, None)
        .and_then(|()| log.purge(group, applied.index, log_id))
        .map_err(|e| failed(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{Command, Entry, Payload};
    use floeberg_env::Env;
    use floeberg_raftlog::{LogRecord, MemLog, MemLogStore};
    use floeberg_types::NodeId;

    const GROUP: GroupId = GroupId(1);

    fn id(term: u64, index: u64) -> EntryId {
        let node = NodeId(1);
        EntryId { term, node, index }
    }

    /// A log of entries `0..end` of term 1.
    fn log(end: u64) -> MemLog {
        let log = MemLog::open(&MemLogStore::new(), &Env::real());
        let record = |index| {
            let log_id = codec::log_id(&id(1, index));
            let payload = Payload::Normal(Command("x".into()));
            let bytes = codec::encode_entry(&Entry { log_id, payload });
            LogRecord { index, bytes }
        };
        log.append(GROUP, (0..end).map(record).collect(), Box::new(|_| ()));
        log
    }

    fn purge(log: &MemLog, upto: EntryId) {
        let bytes = codec::encode_log_id(&codec::log_id(&upto));
        log.purge(GROUP, upto.index, bytes).unwrap();
    }

    #[tokio::test]
    async fn overlapping_log_and_state_are_left_alone() {
        for applied in [None, Some(id(1, 0)), Some(id(1, 9))] {
            let log = log(10);
            reconcile(&log, GROUP, applied, None).unwrap();
            assert_eq!(log.state(GROUP).unwrap().last.unwrap().index, 9);
        }
        let log = log(10);
        purge(&log, id(1, 5));
        reconcile(&log, GROUP, Some(id(1, 5)), None).unwrap();
        reconcile(&log, GROUP, Some(id(1, 8)), None).unwrap();
    }

    #[tokio::test]
    async fn a_state_without_its_entries_is_refused_unless_it_was_installed() {
        for applied in [id(1, 10), id(2, 20), id(2, 7)] {
            let log = log(10);
            let other = Some(id(1, 11));
            for installed in [None, other] {
                let refused = reconcile(&log, GROUP, Some(applied), installed).unwrap_err();
                let expected = GroupStartError::StateAheadOfLog {
                    group: GROUP,
                    applied: applied.index,
                    log_end: Some(9),
                };
                assert_eq!(refused.to_string(), expected.to_string());
            }
            reconcile(&log, GROUP, Some(applied), Some(applied)).unwrap();
            let state = log.state(GROUP).unwrap();
            assert_eq!(state.purged.unwrap().0, applied.index);
            assert_eq!(state.last, None, "an uncommitted tail goes too");
        }
    }

    #[tokio::test]
    async fn a_state_older_than_the_log_is_refused() {
        let log = log(10);
        purge(&log, id(1, 5));
        for applied in [None, Some(id(1, 4))] {
            let refused = reconcile(&log, GROUP, applied, applied).unwrap_err();
            assert!(matches!(
                refused,
                GroupStartError::StateBehindLog { purged: 5, .. }
            ));
        }
    }
}
