//! What marks promise, over crashes and changes of leaders.

use super::*;
use crate::raft::{Command, Entry, LeaderId, Payload};
use floeberg_env::{Env, SeededRng, UnsyncedData};
use floeberg_raftlog::{LogRecord, MemLog, MemLogStore};
use openraft::vote::RaftLeaderId as _;
use proptest::prelude::*;

const GROUP: GroupId = GroupId(1);

fn vote(term: u64, committed: bool) -> Vote {
    openraft::Vote {
        leader_id: LeaderId::new(term, 1),
        committed,
    }
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, 1), index)
}

fn record(term: u64, index: u64) -> LogRecord {
    let bytes = codec::encode_entry(&Entry {
        log_id: id(term, index),
        payload: Payload::Normal(Command("x".into())),
    });
    LogRecord { index, bytes }
}

/// What a legal leadership does to a follower's log: the promise, the removal of what it has not
/// written, its entries.
fn follow(log: &MemLog, acks: &Acks, term: u64, keep: u64, entries: u64) {
    for committed in [false, true] {
        let (acks, vote) = (acks.clone(), vote(term, committed));
        let bytes = codec::encode_vote(&vote);
        let done = move |synced: std::io::Result<()>| {
            if synced.is_ok() {
                acks.voted(vote);
            }
        };
        log.save_vote(GROUP, bytes, Box::new(done));
    }
    let last = log.state(GROUP).unwrap().last.map(|last| last.index);
    let end = last.map_or(0, |last| (last + 1).min(keep));
    log.truncate_after(GROUP, end.checked_sub(1)).unwrap();
    for index in end..end + entries {
        let acks = acks.clone();
        let done = move |synced: std::io::Result<()>| {
            if synced.is_ok() {
                acks.appended(id(term, index));
            }
        };
        log.append(GROUP, vec![record(term, index)], Box::new(done));
    }
}

proptest! {
    /// Whatever a crash takes, and however much a later leader removes: what was let out is still there.
    #[test]
    fn a_crash_never_leaves_less_than_was_let_out(
        terms in prop::collection::vec((0u64..20, 0u64..6), 1..6),
        wait in 0u64..12,
        seed in 0u64..1000,
        torn in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (env, _) = Env::simulated(seed);
            let store = MemLogStore::new();
            let log = MemLog::open(&store, &env);
            let acks = Acks::recovered(&log, GROUP).unwrap();
            let mut let_out = AckMark::default();
            for (term, (keep, entries)) in (1..).zip(&terms) {
                follow(&log, &acks, term, *keep, *entries);
                tokio::time::sleep(std::time::Duration::from_millis(wait / 2)).await;
                let now = acks.mark();
                prop_assert!(now >= let_out, "{now} after {let_out}");
                let_out = now;
            }
            let fate = if torn { UnsyncedData::Torn } else { UnsyncedData::Lost };
            store.crash(&SeededRng::new(seed), fate);
            let log = MemLog::open(&store, &env);
            let recovered = Acks::recovered(&log, GROUP).unwrap().mark();
            prop_assert!(recovered >= let_out, "{recovered} after {let_out}");
            Ok(())
        })?;
    }
}

#[test]
fn a_promise_comes_before_entries_and_entries_of_another_leader_do_not_count() {
    let at = |vote: Vote, last: Option<LogId>| AckMark::of(&vote, last.as_ref());
    let ascending = [
        AckMark::default(),
        at(vote(3, false), None),
        at(vote(3, true), None),
        at(vote(3, true), Some(id(3, 8))),
        at(vote(3, true), Some(id(3, 9))),
        at(vote(4, false), Some(id(3, 9))),
        at(vote(4, true), Some(id(3, 2))),
        at(vote(4, true), Some(id(4, 3))),
    ];
    assert!(ascending.is_sorted());
    assert_eq!(at(vote(4, true), Some(id(3, 9))), at(vote(4, true), None));
}

#[test]
fn a_witness_keeps_the_highest_mark_of_each() {
    let witness = Witness::default();
    let (two, three) = (NodeId(2), NodeId(3));
    let mark = |accepted| AckMark::of(&vote(3, true), Some(&id(3, accepted)));
    witness.hear(two, mark(5));
    witness.hear(two, mark(4));
    witness.hear(three, mark(1));
    assert_eq!(witness.known(two), Some(mark(5)));
    assert_eq!(witness.all().len(), 2);
    witness.dismiss(two);
    assert_eq!(witness.known(two), None);
}

/// A changed expectation here is a changed format.
#[test]
fn golden_mark() {
    use prost::Message as _;
    let mark = AckMark::of(&vote(3, true), Some(&id(3, 300)));
    let bytes = mark.to_pb().encode_to_vec();
    assert_eq!(hex(&bytes), "080110031801200128ac02");
    assert_eq!(AckMark::from_pb(&mark.to_pb()), Some(mark));
    let later = pb::AckMark {
        format: 2,
        ..mark.to_pb()
    };
    assert_eq!(AckMark::from_pb(&later), None);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
