//! Whether the tables of a catalog are what its answers said: every acknowledged commit there
//! exactly once, no refused one, transactions whole, one unbroken chain of snapshots per table, and
//! an order that agrees with real time.
//!
//! All commits are appends to `main` that assert the parent they were built on, so the chain of a
//! table is the total order of its commits, and everything can be decided from it.

use crate::table::Observed;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What the client knows about a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Answered with success, or seen since: it must be there.
    Present,
    /// Answered with a refusal, or seen to be absent since: it must not be there.
    Absent,
    /// Neither: it may be there, whole, or not.
    Unknown,
}

/// The part of a commit in one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Index of the table.
    pub table: usize,
    /// The snapshot it adds.
    pub snapshot: i64,
    /// The head of `main` it asserts.
    pub parent: Option<i64>,
}

/// A commit over one or several tables, as the client asked for it.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Its parts.
    pub changes: Vec<Change>,
    /// What is known.
    pub fate: Fate,
    /// When it was sent.
    pub started: Duration,
    /// When it was known to be applied.
    pub ended: Option<Duration>,
}

/// One load of a table during the run.
#[derive(Clone, Debug)]
pub struct Read {
    /// Index of the table.
    pub table: usize,
    /// The head it saw.
    pub head: Option<i64>,
    /// When it was sent.
    pub started: Duration,
    /// When it was answered.
    pub ended: Duration,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// An acknowledged commit is gone.
    #[error("table {table}: acknowledged snapshot {snapshot} is not there")]
    Lost {
        /// Index of the table.
        table: usize,
        /// The snapshot.
        snapshot: i64,
    },
    /// A commit that was refused, or seen to be absent, is there.
    #[error("table {table}: snapshot {snapshot} is there although it was refused or absent before")]
    Resurrected {
        /// Index of the table.
        table: usize,
        /// The snapshot.
        snapshot: i64,
    },
    /// A snapshot that nobody added.
    #[error("table {table}: nobody added snapshot {snapshot}")]
    Foreign {
        /// Index of the table.
        table: usize,
        /// The snapshot.
        snapshot: i64,
    },
    /// A snapshot is listed twice.
    #[error("table {table}: snapshot {snapshot} is there twice")]
    Twice {
        /// Index of the table.
        table: usize,
        /// The snapshot.
        snapshot: i64,
    },
    /// A transaction of which only a part is there.
    #[error("of a transaction, snapshot {present:?} is there and snapshot {absent:?} is not")]
    Torn {
        /// Table and snapshot of a part that is there.
        present: (usize, i64),
        /// Table and snapshot of a part that is not.
        absent: (usize, i64),
    },
    /// A snapshot has another parent or number than it was committed with.
    #[error("table {table}: snapshot {snapshot} is not as it was committed: {what}")]
    Altered {
        /// Index of the table.
        table: usize,
        /// The snapshot.
        snapshot: i64,
        /// What differs.
        what: &'static str,
    },
    /// The parents do not lead from the head over every snapshot to the first.
    #[error("table {table}: the chain from the head covers {covered} of {snapshots} snapshots")]
    Broken {
        /// Index of the table.
        table: usize,
        /// Snapshots on the chain.
        covered: usize,
        /// Snapshots of the table.
        snapshots: usize,
    },
    /// A commit lies before one that had been acknowledged before it was sent.
    #[error(
        "table {table}: snapshot {later} was sent after {earlier} was acknowledged, but lies before it"
    )]
    Reordered {
        /// Index of the table.
        table: usize,
        /// The snapshot that was acknowledged first.
        earlier: i64,
        /// The snapshot that was sent afterwards.
        later: i64,
    },
    /// A load did not see what had been acknowledged before it was sent, or saw what never was.
    #[error("table {table}: a load saw head {saw:?} although {missed} was acknowledged before")]
    StaleRead {
        /// Index of the table.
        table: usize,
        /// The head it saw.
        saw: Option<i64>,
        /// What it should have seen.
        missed: i64,
    },
    /// A load saw a head that is not part of the table's history.
    #[error("table {table}: a load saw head {saw}, which is not in the history")]
    PhantomRead {
        /// Index of the table.
        table: usize,
        /// The head it saw.
        saw: i64,
    },
}

/// Checks everything; `tables` by their index.
///
/// # Errors
/// The first broken promise.
pub fn check(tables: &[Observed], commits: &[Commit], reads: &[Read]) -> Result<(), Violation> {
    let mut added: BTreeMap<(usize, i64), &Commit> = BTreeMap::new();
    for commit in commits {
        added.extend(
            commit
                .changes
                .iter()
                .map(|c| ((c.table, c.snapshot), commit)),
        );
    }
    let mut places = Vec::with_capacity(tables.len());
    for (table, observed) in tables.iter().enumerate() {
        let chain = chain(table, observed)?;
        check_snapshots(table, observed, &added)?;
        check_order(table, &chain, &added)?;
        places.push(chain.iter().zip(0..).map(|(id, at)| (*id, at)).collect());
    }
    for commit in commits {
        check_commit(commit, &places)?;
    }
    reads
        .iter()
        .try_for_each(|read| check_read(read, &places[read.table], commits))
}

/// The snapshots from the first to the head.
fn chain(table: usize, observed: &Observed) -> Result<Vec<i64>, Violation> {
    let mut by_id = BTreeMap::new();
    for snapshot in &observed.snapshots {
        if by_id.insert(snapshot.id, snapshot).is_some() {
            return Err(Violation::Twice {
                table,
                snapshot: snapshot.id,
            });
        }
    }
    let mut chain = Vec::with_capacity(by_id.len());
    let mut next = observed.head;
    while let Some(snapshot) = next.and_then(|id| by_id.remove(&id)) {
        chain.push(snapshot.id);
        next = snapshot.parent;
    }
    if next.is_some() || !by_id.is_empty() {
        let (covered, snapshots) = (chain.len(), observed.snapshots.len());
        return Err(Violation::Broken {
            table,
            covered,
            snapshots,
        });
    }
    chain.reverse();
    Ok(chain)
}

fn check_snapshots(
    table: usize,
    observed: &Observed,
    added: &BTreeMap<(usize, i64), &Commit>,
) -> Result<(), Violation> {
    for (snapshot, place) in observed.snapshots.iter().zip(1..) {
        let id = snapshot.id;
        let Some(commit) = added.get(&(table, id)) else {
            return Err(Violation::Foreign {
                table,
                snapshot: id,
            });
        };
        let change = commit.changes.iter().find(|c| c.table == table);
        let altered = |what| {
            Err(Violation::Altered {
                table,
                snapshot: id,
                what,
            })
        };
        if change.is_none_or(|change| change.parent != snapshot.parent) {
            return altered("the parent");
        }
        if snapshot.sequence != place {
            return altered("the sequence number");
        }
    }
    let last = i64::try_from(observed.snapshots.len()).expect("few snapshots");
    match observed.head {
        Some(head) if observed.last_sequence != last => Err(Violation::Altered {
            table,
            snapshot: head,
            what: "the table's last number",
        }),
        _ => Ok(()),
    }
}

/// Walks the chain: nothing may lie behind a commit that was sent after its acknowledgement.
fn check_order(
    table: usize,
    chain: &[i64],
    added: &BTreeMap<(usize, i64), &Commit>,
) -> Result<(), Violation> {
    let mut latest_start: Option<(Duration, i64)> = None;
    for id in chain {
        let commit = added[&(table, *id)];
        if let (Some((start, later)), Some(ended)) = (latest_start, commit.ended)
            && ended < start
        {
            return Err(Violation::Reordered {
                table,
                earlier: *id,
                later,
            });
        }
        if latest_start.is_none_or(|(start, _)| start < commit.started) {
            latest_start = Some((commit.started, *id));
        }
    }
    Ok(())
}

type Places = BTreeMap<i64, usize>;

fn check_commit(commit: &Commit, places: &[Places]) -> Result<(), Violation> {
    let is_there = |change: &&Change| places[change.table].contains_key(&change.snapshot);
    let present = commit.changes.iter().find(is_there);
    let absent = commit.changes.iter().find(|change| !is_there(change));
    match (commit.fate, present, absent) {
        (Fate::Present, None, Some(gone)) => Err(Violation::Lost {
            table: gone.table,
            snapshot: gone.snapshot,
        }),
        (Fate::Absent, Some(there), None) => Err(Violation::Resurrected {
            table: there.table,
            snapshot: there.snapshot,
        }),
        (_, Some(there), Some(gone)) => Err(Violation::Torn {
            present: (there.table, there.snapshot),
            absent: (gone.table, gone.snapshot),
        }),
        _ => Ok(()),
    }
}

fn check_read(read: &Read, places: &Places, commits: &[Commit]) -> Result<(), Violation> {
    let table = read.table;
    let seen = match read.head {
        None => None,
        Some(saw) => match places.get(&saw) {
            Some(place) => Some(*place),
            None => return Err(Violation::PhantomRead { table, saw }),
        },
    };
    for commit in commits
        .iter()
        .filter(|c| c.ended.is_some_and(|ended| ended < read.started))
    {
        let change = commit.changes.iter().find(|change| change.table == table);
        let place = change.and_then(|change| places.get(&change.snapshot));
        if let (Some(change), Some(place)) = (change, place)
            && seen.is_none_or(|seen| seen < *place)
        {
            return Err(Violation::StaleRead {
                table,
                saw: read.head,
                missed: change.snapshot,
            });
        }
    }
    Ok(())
}

/// The commits of unknown outcome, by index, that are there now.
#[must_use]
pub fn unknown_but_there(tables: &[Observed], commits: &[Commit]) -> BTreeSet<usize> {
    let is_there = |change: &Change| {
        tables[change.table]
            .snapshots
            .iter()
            .any(|snapshot| snapshot.id == change.snapshot)
    };
    let unknown = commits
        .iter()
        .enumerate()
        .filter(|(_, c)| c.fate == Fate::Unknown);
    unknown
        .filter(|(_, c)| c.changes.iter().all(is_there))
        .map(|(index, _)| index)
        .collect()
}

#[cfg(test)]
#[path = "chain/tests.rs"]
mod tests;
