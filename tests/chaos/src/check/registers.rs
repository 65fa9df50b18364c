//! Tables as compare-and-set registers and objects as plain ones, by the general search.

use super::chain::Chains;
use super::wgl::{Model, Timed, Verdict, search};
use super::{Findings, Violation};
use crate::history::{Answer, Call, History, Op, Outcome};
use std::collections::{BTreeMap, BTreeSet};

/// An operation on the head of a table.
#[derive(Clone, Debug)]
pub enum Cas {
    /// The head was replaced.
    Set {
        /// What it had to be.
        expected: Option<i64>,
        /// What it became.
        new: i64,
    },
    /// Refused: the head was not this.
    Differs(Option<i64>),
    /// The head was this.
    Read(Option<i64>),
}

/// The head of one table.
#[derive(Debug)]
pub struct Head;

impl Model for Head {
    type State = Option<i64>;
    type Op = Cas;

    fn initial(&self) -> Option<i64> {
        None
    }

    fn step(&self, state: &Option<i64>, op: &Cas) -> Option<Option<i64>> {
        match op {
            Cas::Set { expected, new } => (state == expected).then_some(Some(*new)),
            Cas::Differs(other) => (state != other).then_some(*state),
            Cas::Read(seen) => (state == seen).then_some(*state),
        }
    }
}

/// An operation on an object.
#[derive(Clone, Debug)]
pub enum Cell {
    /// It was written.
    Write(u64),
    /// It was read.
    Read(Option<u64>),
}

/// One object.
#[derive(Debug)]
pub struct Object;

impl Model for Object {
    type State = Option<u64>;
    type Op = Cell;

    fn initial(&self) -> Option<u64> {
        None
    }

    fn step(&self, state: &Option<u64>, op: &Cell) -> Option<Option<u64>> {
        match op {
            Cell::Write(marker) => Some(Some(*marker)),
            Cell::Read(seen) => (state == seen).then_some(*state),
        }
    }
}

/// Adds the result of a search.
pub(super) fn judge(what: &str, verdict: Verdict, found: &mut Findings) {
    let what = what.to_owned();
    match verdict {
        Verdict::Linearizable => {}
        Verdict::Stuck(stuck) => found
            .violations
            .push(Violation::NotLinearizable { what, stuck }),
        Verdict::TooLarge => found.undecided.push(what),
    }
}

/// Every table by the general search; a refusal must be true at some moment of its request.
pub(super) fn tables(history: &History, chains: &Chains, found: &mut Findings) {
    let mut ops: BTreeMap<&str, Vec<Timed<Cas>>> = BTreeMap::new();
    let mut add = |table, number, start, end, op| {
        let timed = Timed {
            number,
            start,
            end,
            op,
        };
        ops.entry(table).or_default().push(timed);
    };
    for commit in &chains.commits {
        for change in commit.changes.iter().filter(|c| chains.is_there(c)) {
            let (expected, new) = (change.parent, change.snapshot);
            let set = Cas::Set { expected, new };
            add(&change.table, commit.number, commit.start, commit.end, set);
        }
    }
    for op in &history.ops {
        match (&op.call, &op.outcome) {
            // Of several tables it is not known which one refused.
            (Call::Commit { changes }, Outcome::Refused { status: 409 }) if changes.len() == 1 => {
                let differs = Cas::Differs(changes[0].parent);
                add(&changes[0].table, op.number, op.start, op.end, differs);
            }
            (Call::Load { table }, Outcome::Ok(Answer::Table { head, .. })) => {
                add(table, op.number, op.start, op.end, Cas::Read(*head));
            }
            _ => {}
        }
    }
    for (table, ops) in ops {
        if chains.tables.contains_key(table) {
            judge(table, search(&Head, &ops), found);
        }
    }
}

/// Every object: the bytes that were written, in an order that explains all reads.
pub(super) fn objects(history: &History, found: &mut Findings) {
    let mut by_key: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
    for op in &history.ops {
        if let Call::Put { key, .. } | Call::Get { key } = &op.call {
            by_key.entry(key).or_default().push(op);
        }
    }
    found.objects = by_key.len();
    for (key, ops) in by_key {
        let before = found.violations.len();
        found.violations.extend(plain_faults(key, &ops));
        // The search would only repeat in vaguer words what is wrong here.
        if found.violations.len() == before {
            judge(key, search(&Object, &cells(&ops)), found);
        }
    }
}

fn cells(ops: &[&Op]) -> Vec<Timed<Cell>> {
    let seen: BTreeSet<u64> = ops.iter().filter_map(|op| marker_read(op)).collect();
    let timed = ops.iter().filter_map(|op| {
        let cell = match (&op.call, &op.outcome) {
            (Call::Put { marker, .. }, Outcome::Ok(_)) => Cell::Write(*marker),
            // A write of unknown outcome that nobody saw may count as one without effect.
            (Call::Put { marker, .. }, Outcome::Unknown) if seen.contains(marker) => {
                Cell::Write(*marker)
            }
            (Call::Get { .. }, Outcome::Ok(Answer::Object { marker })) => Cell::Read(*marker),
            _ => return None,
        };
        Some(Timed {
            number: op.number,
            start: op.start,
            end: op.end,
            op: cell,
        })
    });
    timed.collect()
}

fn marker_read(op: &Op) -> Option<u64> {
    match &op.outcome {
        Outcome::Ok(Answer::Object { marker }) => *marker,
        _ => None,
    }
}

/// Faults that need no search.
fn plain_faults(key: &str, ops: &[&Op]) -> Vec<Violation> {
    let mut writes: BTreeMap<u64, &Op> = BTreeMap::new();
    for op in ops {
        if let Call::Put { marker, .. } = &op.call {
            writes.insert(*marker, op);
        }
    }
    let wrote =
        |op: &&&Op| matches!(op.call, Call::Put { .. }) && matches!(op.outcome, Outcome::Ok(_));
    let stored = ops.iter().filter(wrote).map(|op| op.end).min();
    let mut found = Vec::new();
    for op in ops.iter().filter(|op| matches!(op.call, Call::Get { .. })) {
        let (key, number) = (key.to_owned(), op.number);
        match &op.outcome {
            // Nothing deletes objects, so once written there is always something.
            Outcome::Ok(Answer::Object { marker: None })
                if stored.is_some_and(|end| end < op.start) =>
            {
                found.push(Violation::ObjectLost { key, op: number });
            }
            Outcome::Ok(Answer::Object {
                marker: Some(marker),
            }) => match writes.get(marker).map(|write| &write.outcome) {
                None => found.push(Violation::WrongBytes {
                    key,
                    op: number,
                    what: format!("marker {marker}, which was not written there"),
                }),
                Some(Outcome::Refused { .. }) => {
                    found.push(Violation::ObjectResurrected {
                        key,
                        op: number,
                        marker: *marker,
                    });
                }
                Some(_) => {}
            },
            Outcome::Ok(Answer::Garbled { what }) => found.push(Violation::WrongBytes {
                key,
                op: number,
                what: what.clone(),
            }),
            _ => {}
        }
    }
    found
}
