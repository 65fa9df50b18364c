//! Every planted fault is found, and a history without one passes.

use super::*;
use crate::table::Snapshot;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A table with a chain of these snapshots.
fn table(ids: &[i64]) -> Observed {
    let parents = std::iter::once(None).chain(ids.iter().copied().map(Some));
    let snapshots = ids.iter().zip(parents).zip(1..);
    Observed {
        metadata_location: String::new(),
        location: String::new(),
        uuid: String::new(),
        snapshots: snapshots
            .map(|((id, parent), sequence)| Snapshot {
                id: *id,
                parent,
                sequence,
            })
            .collect(),
        head: ids.last().copied(),
        last_sequence: i64::try_from(ids.len()).expect("few"),
        named_files: Vec::new(),
        text: String::new(),
    }
}

fn commit(fate: Fate, span: (u64, u64), changes: &[(usize, i64, Option<i64>)]) -> Commit {
    let change = |(table, snapshot, parent): &(usize, i64, Option<i64>)| Change {
        table: *table,
        snapshot: *snapshot,
        parent: *parent,
    };
    Commit {
        changes: changes.iter().map(change).collect(),
        fate,
        started: at(span.0),
        ended: (fate == Fate::Present).then_some(at(span.1)),
    }
}

fn run() -> Vec<Commit> {
    vec![
        commit(Fate::Present, (0, 10), &[(0, 1, None)]),
        commit(Fate::Present, (20, 30), &[(0, 2, Some(1)), (1, 7, None)]),
        commit(Fate::Absent, (25, 35), &[(0, 3, Some(1))]),
        commit(Fate::Unknown, (40, 50), &[(0, 4, Some(2)), (1, 8, Some(7))]),
    ]
}

#[test]
fn an_honest_history_passes_with_and_without_the_unknown_commit() {
    assert_eq!(check(&[table(&[1, 2]), table(&[7])], &run(), &[]), Ok(()));
    let both = [table(&[1, 2, 4]), table(&[7, 8])];
    assert_eq!(check(&both, &run(), &[]), Ok(()));
    assert_eq!(unknown_but_there(&both, &run()), BTreeSet::from([3]));
}

#[test]
fn a_lost_commit_is_found() {
    let lost = check(&[table(&[]), table(&[])], &run()[..1], &[]);
    assert_eq!(
        lost,
        Err(Violation::Lost {
            table: 0,
            snapshot: 1
        })
    );
}

#[test]
fn a_refused_commit_that_is_there_is_found() {
    let mut commits = run();
    commits[2].changes[0].parent = Some(2);
    let found = check(&[table(&[1, 2, 3]), table(&[7])], &commits, &[]);
    assert_eq!(
        found,
        Err(Violation::Resurrected {
            table: 0,
            snapshot: 3
        })
    );
}

#[test]
fn half_a_transaction_is_found_whatever_its_fate() {
    for fate in [Fate::Present, Fate::Absent, Fate::Unknown] {
        let mut commits = run();
        commits[3].fate = fate;
        let found = check(&[table(&[1, 2, 4]), table(&[7])], &commits, &[]);
        assert_eq!(
            found,
            Err(Violation::Torn {
                present: (0, 4),
                absent: (1, 8)
            })
        );
    }
}

#[test]
fn damage_to_the_chain_is_found() {
    let damaged = |damage: fn(&mut Observed)| {
        let mut first = table(&[1, 2]);
        damage(&mut first);
        check(&[first, table(&[7])], &run(), &[]).unwrap_err()
    };
    let twice = damaged(|t| t.snapshots.push(t.snapshots[1].clone()));
    assert_eq!(
        twice,
        Violation::Twice {
            table: 0,
            snapshot: 2
        }
    );
    let side = damaged(|t| t.head = Some(1));
    assert_eq!(
        side,
        Violation::Broken {
            table: 0,
            covered: 1,
            snapshots: 2
        }
    );
    let gap = damaged(|t| t.snapshots.truncate(1));
    assert_eq!(
        gap,
        Violation::Broken {
            table: 0,
            covered: 0,
            snapshots: 1
        }
    );
    let number = damaged(|t| t.snapshots[1].sequence = 3);
    assert!(matches!(number, Violation::Altered { snapshot: 2, .. }));
    let last = damaged(|t| t.last_sequence = 1);
    assert!(matches!(last, Violation::Altered { snapshot: 2, .. }));
    let foreign = check(&[table(&[1, 2, 9]), table(&[7])], &run(), &[]);
    assert_eq!(
        foreign,
        Err(Violation::Foreign {
            table: 0,
            snapshot: 9
        })
    );
    let swapped = check(&[table(&[2, 1]), table(&[7])], &run(), &[]);
    assert!(matches!(
        swapped,
        Err(Violation::Altered {
            what: "the parent",
            ..
        })
    ));
}

/// A client that was told the wrong parent would agree with a chain in the wrong order; time does
/// not.
#[test]
fn an_order_against_real_time_is_found() {
    let mut commits = run();
    commits[0].changes[0].parent = Some(2);
    commits[1].changes[0].parent = None;
    let found = check(&[table(&[2, 1]), table(&[7])], &commits, &[]);
    assert_eq!(
        found,
        Err(Violation::Reordered {
            table: 0,
            earlier: 1,
            later: 2
        })
    );
}

#[test]
fn reads_see_what_was_acknowledged_and_nothing_that_never_was() {
    let tables = [table(&[1, 2]), table(&[7])];
    let read = |head, started| Read {
        table: 0,
        head,
        started: at(started),
        ended: at(started + 1),
    };
    let look = |head, started| check(&tables, &run(), &[read(head, started)]);
    assert_eq!(look(None, 5), Ok(()));
    assert_eq!(look(Some(1), 25), Ok(()));
    assert_eq!(look(Some(2), 25), Ok(()));
    let stale = Violation::StaleRead {
        table: 0,
        saw: Some(1),
        missed: 2,
    };
    assert_eq!(look(Some(1), 31), Err(stale));
    assert_eq!(
        look(Some(4), 31),
        Err(Violation::PhantomRead { table: 0, saw: 4 })
    );
}
