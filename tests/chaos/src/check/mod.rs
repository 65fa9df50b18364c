//! Finds every promise that a history shows to be broken.
//!
//! Iceberg gives every table one chain of versions, so most can be decided from the order that the
//! chains give ([`chain`], [`cycles`]). The general search of [`wgl`] decides what has no such order
//! (objects and names) and checks the tables a second time, refusals included.

pub mod chain;
pub mod cycles;
pub mod names;
pub mod registers;
pub mod wgl;

use crate::history::{Call, History, NameCall, Op, Outcome};
use serde::Serialize;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Violation {
    /// An acknowledged commit is gone.
    #[error("{table}: acknowledged snapshot {snapshot} is not there")]
    Lost {
        /// The table.
        table: String,
        /// The snapshot.
        snapshot: i64,
    },
    /// A refused commit is there.
    #[error("{table}: snapshot {snapshot} is there although it was refused")]
    Resurrected {
        /// The table.
        table: String,
        /// The snapshot.
        snapshot: i64,
    },
    /// A snapshot that nobody added.
    #[error("{table}: nobody added snapshot {snapshot}")]
    Foreign {
        /// The table.
        table: String,
        /// The snapshot.
        snapshot: i64,
    },
    /// A commit was applied more than once.
    #[error("{table}: snapshot {snapshot} is there twice")]
    Twice {
        /// The table.
        table: String,
        /// The snapshot.
        snapshot: i64,
    },
    /// A transaction of which only a part is there.
    #[error("of a transaction, {present:?} is there and {absent:?} is not")]
    Torn {
        /// Table and snapshot of a part that is there.
        present: (String, i64),
        /// Table and snapshot of a part that is not.
        absent: (String, i64),
    },
    /// A snapshot is not as it was committed.
    #[error("{table}: snapshot {snapshot} is not as it was committed: {what}")]
    Altered {
        /// The table.
        table: String,
        /// The snapshot.
        snapshot: i64,
        /// What differs.
        what: &'static str,
    },
    /// The parents do not lead from the head over every snapshot to the first.
    #[error("{table}: the chain from the head covers {covered} of {snapshots} snapshots")]
    Broken {
        /// The table.
        table: String,
        /// Snapshots on the chain.
        covered: usize,
        /// Snapshots of the table.
        snapshots: usize,
    },
    /// Two nodes, or one node at two times after the end, show different tables.
    #[error("{table}: nodes {one} and {other} show different histories")]
    Diverged {
        /// The table.
        table: String,
        /// A node.
        one: u8,
        /// Another.
        other: u8,
    },
    /// A commit lies before one that had been acknowledged before it was sent.
    #[error("{table}: {later} was sent after {earlier} was acknowledged, but lies before it")]
    Reordered {
        /// The table.
        table: String,
        /// The snapshot that was acknowledged first.
        earlier: i64,
        /// The snapshot that was sent afterwards.
        later: i64,
    },
    /// A load did not see what had been acknowledged before it was sent.
    #[error("{table}: load {op} saw {saw:?} although {missed} was acknowledged before")]
    StaleRead {
        /// The table.
        table: String,
        /// The operation.
        op: u64,
        /// The head it saw.
        saw: Option<i64>,
        /// What it should have seen.
        missed: i64,
    },
    /// A client, or any client after it, saw a table go back.
    #[error("{table}: load {op} saw {saw:?}, but load {before} had seen later {seen}")]
    WentBack {
        /// The table.
        table: String,
        /// The operation.
        op: u64,
        /// What it saw.
        saw: Option<i64>,
        /// An operation that had ended before.
        before: u64,
        /// What that one saw.
        seen: i64,
    },
    /// A load saw a head that was never part of the table's history.
    #[error("{table}: load {op} saw head {saw}, which is not in the history")]
    PhantomRead {
        /// The table.
        table: String,
        /// The operation.
        op: u64,
        /// The head it saw.
        saw: i64,
    },
    /// A load saw a commit before that was sent.
    #[error("{table}: load {op} saw {saw} before it was sent")]
    ReadFromTheFuture {
        /// The table.
        table: String,
        /// The operation.
        op: u64,
        /// The head it saw.
        saw: i64,
    },
    /// A load saw another history below its head than there is.
    #[error("{table}: load {op} saw another history below {saw:?} than there is")]
    OtherHistory {
        /// The table.
        table: String,
        /// The operation.
        op: u64,
        /// The head it saw.
        saw: Option<i64>,
    },
    /// A cycle of dependencies: no order of the transactions explains the history.
    #[error("{anomaly}: {cycle}")]
    Cycle {
        /// Its class.
        anomaly: String,
        /// The operations, and how each depends on the one before.
        cycle: String,
    },
    /// No order of the requests explains the answers.
    #[error("{what}: no order explains the answers; stuck at operations {stuck:?}")]
    NotLinearizable {
        /// The table, object or family of names.
        what: String,
        /// The operations that cannot be placed.
        stuck: Vec<u64>,
    },
    /// An object has bytes that nobody wrote to it.
    #[error("object {key}: operation {op} read {what}")]
    WrongBytes {
        /// The key.
        key: String,
        /// The operation.
        op: u64,
        /// What it read.
        what: String,
    },
    /// An acknowledged object is gone.
    #[error("object {key}: operation {op} found nothing although it had been written")]
    ObjectLost {
        /// The key.
        key: String,
        /// The operation.
        op: u64,
    },
    /// A refused object is there.
    #[error("object {key}: operation {op} read marker {marker}, which was refused")]
    ObjectResurrected {
        /// The key.
        key: String,
        /// The operation.
        op: u64,
        /// The marker.
        marker: u64,
    },
    /// A refusal with a status that cannot be right.
    #[error("operation {op}: refused with {status}, which cannot be right for {request}")]
    WrongRefusal {
        /// The operation.
        op: u64,
        /// The status.
        status: u16,
        /// The request.
        request: String,
    },
    /// A commit was answered with success although a part of it asserted what never was.
    #[error("operation {op}: a commit that asserted a head that never was is acknowledged")]
    FalseAssertion {
        /// The operation.
        op: u64,
    },
}

/// What a check covered and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Operations.
    pub ops: usize,
    /// Tables.
    pub tables: usize,
    /// Objects.
    pub objects: usize,
    /// Families of names.
    pub families: usize,
    /// Searches that were given up because they were too large: neither proof nor refutation.
    pub undecided: Vec<String>,
    /// Broken promises.
    pub violations: Vec<Violation>,
}

/// Checks everything.
#[must_use]
pub fn check(history: &History) -> Findings {
    let mut found = Findings {
        ops: history.ops.len(),
        ..Findings::default()
    };
    found.violations.extend(wrong_refusals(&history.ops));
    match chain::chains(history) {
        Ok(chains) => {
            found.tables = chains.tables.len();
            found.violations.extend(chain::check(history, &chains));
            found.violations.extend(cycles::check(history, &chains));
            registers::tables(history, &chains, &mut found);
        }
        Err(broken) => found.violations.extend(broken),
    }
    registers::objects(history, &mut found);
    names::check(history, &mut found);
    found
}

/// Statuses that a request may be refused with, besides "try again later".
fn may_refuse(call: &Call, status: u16) -> bool {
    let expected: &[u16] = match call {
        Call::Commit { .. } => &[409],
        // The tables of a run are not dropped, so 404 is never true.
        Call::Load { .. } | Call::Get { .. } => &[],
        Call::Put { .. } => &[409],
        Call::Name { call, .. } => match call {
            NameCall::CreateSpace { .. } => &[409],
            NameCall::DropSpace { .. } | NameCall::CreateTable { .. } | NameCall::Rename { .. } => {
                &[404, 409]
            }
            NameCall::DropTable { .. } => &[404],
            NameCall::Exists { .. } | NameCall::List { .. } => &[],
        },
    };
    is_busy(status) || expected.contains(&status)
}

/// Whether a refusal says nothing about the state.
pub(crate) fn is_busy(status: u16) -> bool {
    matches!(status, 429 | 503)
}

fn wrong_refusals(ops: &[Op]) -> Vec<Violation> {
    let wrong = ops.iter().filter_map(|op| match op.outcome {
        Outcome::Refused { status } if !may_refuse(&op.call, status) => {
            Some(Violation::WrongRefusal {
                op: op.number,
                status,
                request: format!("{:?}", op.call),
            })
        }
        _ => None,
    });
    wrong.collect()
}
