//! What waiters are told: by receipts, by terms, by snapshots, by the end of the group.

use super::*;
use floeberg_kv::{Batch, MemKv, MemKvStore};
use floeberg_state::{LogPos, Read, RowOp, encode_row};

fn id(n: u8) -> CommitId {
    CommitId::from_bytes([n; 16])
}

fn receipt(n: u8, outcome: Outcome) -> Receipt {
    Receipt {
        commit_id: id(n),
        outcome,
    }
}

fn applied(term: Term, index: u64) -> Applied {
    Applied {
        last: Some(LogPos {
            term,
            node: 1,
            index,
        }),
        ..Applied::default()
    }
}

fn outcomes() -> Arc<Outcomes> {
    Arc::new(Outcomes::new(&applied(3, 10)))
}

#[tokio::test]
async fn a_receipt_reaches_the_one_who_waits_for_it() {
    let outcomes = outcomes();
    let mut first = outcomes.await_command(id(1), 3, Bytes::new());
    let mut second = outcomes.await_command(id(2), 3, Bytes::new());
    let key = Bytes::from_static(b"k");
    let missed = receipt(2, Outcome::Missed { key: key.clone() });
    let run = [
        (receipt(9, Outcome::Applied), 11),
        (missed, 12),
        (receipt(1, Outcome::Applied), 13),
    ];
    outcomes.applied(run, 3);
    assert_eq!(first.settled().await, Settled::Applied { index: 13 });
    assert_eq!(second.settled().await, Settled::Missed { key });
    assert_eq!(outcomes.len(), 0);
}

#[tokio::test]
async fn a_later_term_makes_what_was_not_seen_absent_and_nothing_else() {
    let outcomes = outcomes();
    let mut seen = outcomes.await_command(id(1), 3, Bytes::new());
    let mut unseen = outcomes.await_command(id(2), 3, Bytes::new());
    let mut later = outcomes.await_command(id(3), 5, Bytes::new());
    // One run may bring the command and the entry of the later term behind it.
    outcomes.applied([(receipt(1, Outcome::Applied), 11)], 4);
    assert_eq!(seen.settled().await, Settled::Applied { index: 11 });
    assert_eq!(unseen.settled().await, Settled::Absent);
    assert!(!later.is_answered());
    assert_eq!(outcomes.len(), 1);
    let mut too_late = outcomes.await_command(id(4), 3, Bytes::new());
    assert_eq!(too_late.settled().await, Settled::Absent);
    outcomes.applied([(receipt(3, Outcome::Applied), 12)], 5);
    assert_eq!(later.settled().await, Settled::Applied { index: 12 });
}

#[tokio::test]
async fn whoever_gives_up_leaves_nothing_behind_and_a_stop_tells_everybody() {
    let outcomes = outcomes();
    drop(outcomes.await_command(id(1), 3, Bytes::new()));
    assert_eq!(outcomes.len(), 0);
    let mut waiting = outcomes.await_command(id(2), 3, Bytes::new());
    outcomes.close();
    assert_eq!(waiting.settled().await, Settled::Unknown);
    let mut after = outcomes.await_command(id(3), 3, Bytes::new());
    assert_eq!(after.settled().await, Settled::Unknown);
}

/// A command that replaces `key`, which it read as commit `read` left it.
fn replaces(key: &'static str, read: Option<u8>) -> Bytes {
    let key = Bytes::from_static(key.as_bytes());
    let commit_id = read.map(|n| Bytes::copy_from_slice(id(n).as_bytes()));
    let command = Command {
        reads: vec![Read {
            key: key.clone(),
            commit_id: commit_id.unwrap_or_default(),
        }],
        ops: vec![RowOp {
            key,
            op: Some(RowChange::Put(Bytes::new())),
        }],
        ..Command::default()
    };
    command.encode_to_vec().into()
}

#[tokio::test]
async fn a_snapshot_tells_only_what_its_rows_prove() {
    let kv = MemKv::open(&MemKvStore::new());
    let mut rows = Batch::default();
    for (key, writer) in [("written", 1), ("unwritten", 50), ("covered", 60)] {
        rows.put(key, encode_row(id(writer), b""));
    }
    kv.write(rows).unwrap();
    let outcomes = outcomes();
    let mut written = outcomes.await_command(id(1), 3, replaces("written", Some(40)));
    let mut unwritten = outcomes.await_command(id(2), 3, replaces("unwritten", Some(50)));
    let mut covered = outcomes.await_command(id(3), 3, replaces("covered", Some(40)));
    let mut created = outcomes.await_command(id(4), 3, replaces("absent", None));
    outcomes.installed(&kv, &applied(3, 90));
    assert_eq!(written.settled().await, Settled::Applied { index: 90 });
    assert_eq!(covered.settled().await, Settled::Unknown);
    // It may have been created and removed.
    assert_eq!(created.settled().await, Settled::Unknown);
    // In the same term, the command may still come behind the snapshot.
    assert_eq!(outcomes.len(), 1);
    outcomes.applied([], 4);
    assert_eq!(unwritten.settled().await, Settled::Absent);
}
