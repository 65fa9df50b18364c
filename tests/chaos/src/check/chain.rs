//! Tables: every acknowledged commit in the chain exactly once, no refused one, transactions whole,
//! real-time order kept, and no load that saw too little, too much or something else.
//!
//! All commits append to `main` and assert the parent they were built on, so the chain of a table
//! is the total order of its commits.

use super::Violation;
use crate::history::{Answer, Call, Change, Final, History, Op, Outcome, Snapshot, digest};
use std::collections::{BTreeMap, BTreeSet};

/// What is known about a commit after all its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Acknowledged at least once.
    Present,
    /// Refused for good.
    Absent,
    /// Neither.
    Unknown,
}

/// A commit: all operations that sent the same snapshots.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Its parts.
    pub changes: Vec<Change>,
    /// What is known.
    pub fate: Fate,
    /// When it was sent first.
    pub start: u64,
    /// When it was acknowledged first; [`u64::MAX`] if never.
    pub end: u64,
    /// Number of its first operation.
    pub number: u64,
}

/// The order of versions of every table, and the commits that made them.
#[derive(Debug)]
pub struct Chains {
    /// Snapshots from the first to the head, by table.
    pub tables: BTreeMap<String, Vec<i64>>,
    /// All commits.
    pub commits: Vec<Commit>,
    /// Place of each snapshot in its table's chain, from 0.
    pub places: BTreeMap<(String, i64), usize>,
    /// The commit that adds a snapshot.
    pub authors: BTreeMap<(String, i64), usize>,
}

impl Chains {
    /// Whether a part of a commit is in its table.
    #[must_use]
    pub fn is_there(&self, change: &Change) -> bool {
        self.place(&change.table, change.snapshot).is_some()
    }

    /// Place of a snapshot in a table's chain.
    #[must_use]
    pub fn place(&self, table: &str, snapshot: i64) -> Option<usize> {
        self.places.get(&(table.to_owned(), snapshot)).copied()
    }
}

/// Joins attempts to commits and reads the chains from what the nodes showed at the end.
///
/// # Errors
/// Everything that leaves a table without one chain.
pub fn chains(history: &History) -> Result<Chains, Vec<Violation>> {
    let mut tables: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut shown: BTreeMap<&str, &Final> = BTreeMap::new();
    let mut broken = Vec::new();
    for last in &history.finals {
        if let Some(first) = shown.get(last.table.as_str()) {
            if (&first.head, &first.snapshots) != (&last.head, &last.snapshots) {
                let (table, one, other) = (last.table.clone(), first.node, last.node);
                broken.push(Violation::Diverged { table, one, other });
            }
            continue;
        }
        shown.insert(&last.table, last);
        match chain(last) {
            Ok(chain) => {
                tables.insert(last.table.clone(), chain);
            }
            Err(violation) => broken.push(violation),
        }
    }
    if !broken.is_empty() {
        return Err(broken);
    }
    let commits = commits(&history.ops);
    let mut places = BTreeMap::new();
    for (table, chain) in &tables {
        places.extend((0..).zip(chain).map(|(at, id)| ((table.clone(), *id), at)));
    }
    let mut authors = BTreeMap::new();
    for (index, commit) in commits.iter().enumerate() {
        let parts = commit.changes.iter();
        authors.extend(parts.map(|c| ((c.table.clone(), c.snapshot), index)));
    }
    Ok(Chains {
        tables,
        commits,
        places,
        authors,
    })
}

/// The snapshots from the first to the head.
fn chain(last: &Final) -> Result<Vec<i64>, Violation> {
    let table = || last.table.clone();
    let mut by_id: BTreeMap<i64, &Snapshot> = BTreeMap::new();
    for snapshot in &last.snapshots {
        if by_id.insert(snapshot.id, snapshot).is_some() {
            let (table, snapshot) = (table(), snapshot.id);
            return Err(Violation::Twice { table, snapshot });
        }
    }
    let mut chain = Vec::with_capacity(by_id.len());
    let mut next = last.head;
    while let Some(snapshot) = next.and_then(|id| by_id.remove(&id)) {
        chain.push(snapshot.id);
        next = snapshot.parent;
    }
    if next.is_some() || !by_id.is_empty() {
        return Err(Violation::Broken {
            table: table(),
            covered: chain.len(),
            snapshots: last.snapshots.len(),
        });
    }
    chain.reverse();
    Ok(chain)
}

fn commits(ops: &[Op]) -> Vec<Commit> {
    let mut attempts: BTreeMap<i64, Vec<(&Op, &Vec<Change>)>> = BTreeMap::new();
    for op in ops {
        if let Call::Commit { changes } = &op.call
            && let Some(first) = changes.first()
        {
            let same = attempts.entry(first.snapshot).or_default();
            same.push((op, changes));
        }
    }
    let joined = attempts.into_values().map(|attempts| {
        let ops: Vec<&Op> = attempts.iter().map(|(op, _)| *op).collect();
        let acknowledged = ops.iter().filter(|op| matches!(op.outcome, Outcome::Ok(_)));
        Commit {
            changes: attempts[0].1.clone(),
            fate: fate(&ops),
            start: ops.iter().map(|op| op.start).min().unwrap_or(0),
            end: acknowledged.map(|op| op.end).min().unwrap_or(u64::MAX),
            number: ops[0].number,
        }
    });
    joined.collect()
}

/// A client sends a commit again only after the attempt before has ended for it. So a conflict that
/// answers the last attempt speaks of all: what they assert can never be true again.
fn fate(attempts: &[&Op]) -> Fate {
    let refused = |op: &&Op| matches!(op.outcome, Outcome::Refused { .. });
    let last = attempts.last().map(|op| &op.outcome);
    if attempts
        .iter()
        .any(|op| matches!(op.outcome, Outcome::Ok(_)))
    {
        Fate::Present
    } else if attempts.iter().all(refused) || last == Some(&Outcome::Refused { status: 409 }) {
        Fate::Absent
    } else {
        Fate::Unknown
    }
}

/// Checks commits and loads against the chains.
#[must_use]
pub fn check(history: &History, chains: &Chains) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut checked = BTreeSet::new();
    for last in &history.finals {
        if checked.insert(&last.table) {
            found.extend(snapshots(last, chains));
        }
    }
    for (table, chain) in &chains.tables {
        found.extend(order(table, chain, chains));
    }
    found.extend(chains.commits.iter().filter_map(|c| presence(c, chains)));
    for table in chains.tables.keys() {
        found.extend(reads(table, &history.ops, chains));
    }
    found
}

fn snapshots(last: &Final, chains: &Chains) -> Vec<Violation> {
    let mut found = Vec::new();
    for snapshot in &last.snapshots {
        let (table, id) = (last.table.clone(), snapshot.id);
        let Some(author) = chains.authors.get(&(table.clone(), id)) else {
            found.push(Violation::Foreign {
                table,
                snapshot: id,
            });
            continue;
        };
        let changes = &chains.commits[*author].changes;
        let change = changes.iter().find(|c| c.table == table);
        let place = chains.place(&table, id).and_then(|p| i64::try_from(p).ok());
        let what = if change.is_none_or(|change| change.parent != snapshot.parent) {
            "the parent"
        } else if place.is_none_or(|place| place + 1 != snapshot.sequence) {
            "the sequence number"
        } else {
            continue;
        };
        found.push(Violation::Altered {
            table,
            snapshot: id,
            what,
        });
    }
    found
}

/// Walks the chain: nothing may lie behind a commit that was sent after its acknowledgement.
fn order(table: &str, chain: &[i64], chains: &Chains) -> Option<Violation> {
    let mut latest: Option<(u64, i64)> = None;
    for id in chain {
        let author = chains.authors.get(&(table.to_owned(), *id));
        let Some(commit) = author.map(|at| &chains.commits[*at]) else {
            continue;
        };
        if let Some((start, later)) = latest
            && commit.end < start
        {
            return Some(Violation::Reordered {
                table: table.to_owned(),
                earlier: *id,
                later,
            });
        }
        if latest.is_none_or(|(start, _)| start < commit.start) {
            latest = Some((commit.start, *id));
        }
    }
    None
}

fn presence(commit: &Commit, chains: &Chains) -> Option<Violation> {
    // A table that was not looked at in the end says nothing.
    let known = || {
        let parts = commit.changes.iter();
        parts.filter(|c| chains.tables.contains_key(&c.table))
    };
    let there = known().find(|c| chains.is_there(c));
    let gone = known().find(|c| !chains.is_there(c));
    match (commit.fate, there, gone) {
        (_, Some(there), Some(gone)) => Some(Violation::Torn {
            present: (there.table.clone(), there.snapshot),
            absent: (gone.table.clone(), gone.snapshot),
        }),
        (Fate::Present, None, Some(gone)) => Some(Violation::Lost {
            table: gone.table.clone(),
            snapshot: gone.snapshot,
        }),
        (Fate::Absent, Some(there), None) => Some(Violation::Resurrected {
            table: there.table.clone(),
            snapshot: there.snapshot,
        }),
        (Fate::Present, Some(_), None) => false_assertion(commit, chains),
        _ => None,
    }
}

/// A parent that is no snapshot of the table was asserted by a commit that went through.
fn false_assertion(commit: &Commit, chains: &Chains) -> Option<Violation> {
    let never = |change: &&Change| {
        let parent = change.parent;
        parent.is_some_and(|parent| chains.place(&change.table, parent).is_none())
    };
    let op = commit.number;
    let found = commit.changes.iter().find(never);
    found.map(|_| Violation::FalseAssertion { op })
}

/// A load of a table.
struct Read<'a> {
    op: &'a Op,
    head: Option<i64>,
    /// How many snapshots the table had then.
    place: usize,
}

fn reads(table: &str, ops: &[Op], chains: &Chains) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut reads = Vec::new();
    for op in ops {
        if let (Call::Load { table: of }, Outcome::Ok(answer)) = (&op.call, &op.outcome)
            && of == table
        {
            match read(table, op, answer, chains) {
                Ok(read) => reads.push(read),
                Err(violation) => found.push(violation),
            }
        }
    }
    found.extend(stale(table, &reads, chains));
    found.extend(went_back(table, &reads));
    found
}

/// Finds the place of what a load saw.
fn read<'a>(
    table: &str,
    op: &'a Op,
    answer: &Answer,
    chains: &Chains,
) -> Result<Read<'a>, Violation> {
    let name = table.to_owned();
    let number = op.number;
    let Answer::Table {
        head,
        length,
        digest: seen,
    } = answer
    else {
        return Err(Violation::OtherHistory {
            table: name,
            op: number,
            saw: None,
        });
    };
    let place = match head {
        None => 0,
        Some(saw) => match chains.place(table, *saw) {
            Some(place) => place + 1,
            None => {
                return Err(Violation::PhantomRead {
                    table: name,
                    op: number,
                    saw: *saw,
                });
            }
        },
    };
    let chain = &chains.tables[table][..place];
    if place != *length || digest(chain.iter().copied()) != *seen {
        return Err(Violation::OtherHistory {
            table: name,
            op: number,
            saw: *head,
        });
    }
    let author = head.and_then(|head| chains.authors.get(&(name.clone(), head)));
    if let (Some(author), Some(saw)) = (author, *head)
        && op.end < chains.commits[*author].start
    {
        return Err(Violation::ReadFromTheFuture {
            table: name,
            op: number,
            saw,
        });
    }
    Ok(Read {
        op,
        head: *head,
        place,
    })
}

/// A load must see whatever was acknowledged before it was sent.
fn stale(table: &str, reads: &[Read<'_>], chains: &Chains) -> Option<Violation> {
    let chain = &chains.tables[table];
    let mut acknowledged: Vec<(u64, usize)> = Vec::new();
    for (place, id) in chain.iter().enumerate() {
        if let Some(author) = chains.authors.get(&(table.to_owned(), *id)) {
            acknowledged.push((chains.commits[*author].end, place + 1));
        }
    }
    acknowledged.sort_unstable();
    // From here on each entry also speaks for those before it.
    let mut furthest = 0;
    for (_, place) in &mut acknowledged {
        furthest = furthest.max(*place);
        *place = furthest;
    }
    reads.iter().find_map(|read| {
        let before = acknowledged.partition_point(|(end, _)| *end < read.op.start);
        let (_, due) = *acknowledged[..before].last()?;
        (read.place < due).then(|| Violation::StaleRead {
            table: table.to_owned(),
            op: read.op.number,
            saw: read.head,
            missed: chain[due - 1],
        })
    })
}

/// Whatever a load has seen, every load that was sent after its answer must see too.
fn went_back(table: &str, reads: &[Read<'_>]) -> Option<Violation> {
    let mut ended: Vec<&Read<'_>> = reads.iter().collect();
    ended.sort_unstable_by_key(|read| read.op.end);
    let mut begun: Vec<&Read<'_>> = reads.iter().collect();
    begun.sort_unstable_by_key(|read| read.op.start);
    let mut furthest: Option<&Read<'_>> = None;
    let mut next = ended.into_iter().peekable();
    for read in begun {
        while let Some(earlier) = next.next_if(|earlier| earlier.op.end < read.op.start) {
            if furthest.is_none_or(|f| f.place < earlier.place) {
                furthest = Some(earlier);
            }
        }
        if let Some(before) = furthest
            && read.place < before.place
            && let Some(seen) = before.head
        {
            return Some(Violation::WentBack {
                table: table.to_owned(),
                op: read.op.number,
                saw: read.head,
                before: before.op.number,
                seen,
            });
        }
    }
    None
}
