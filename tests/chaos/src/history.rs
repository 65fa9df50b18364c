//! What was asked and answered in a run, as typed operations and as JSON lines.
//!
//! One line is one event. An operation is an `invoke` line and at most one line that ends it: `ok`,
//! `fail` (definitely without effect) or `info` (effect unknown). Without such a line it is unknown.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;

/// The part of a commit in one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The table.
    pub table: String,
    /// The head of `main` it asserts.
    pub parent: Option<i64>,
    /// The snapshot it adds; nobody else uses this number.
    pub snapshot: i64,
}

/// A change to, or a question about, the names of one family of namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum NameCall {
    /// Create a namespace.
    CreateSpace {
        /// Its name.
        space: String,
    },
    /// Drop a namespace, which must be empty.
    DropSpace {
        /// Its name.
        space: String,
    },
    /// Create a table.
    CreateTable {
        /// Namespace and name.
        at: (String, String),
    },
    /// Drop a table.
    DropTable {
        /// Namespace and name.
        at: (String, String),
    },
    /// Rename a table.
    Rename {
        /// Its namespace and name.
        from: (String, String),
        /// The new ones.
        to: (String, String),
    },
    /// Does a table exist?
    Exists {
        /// Namespace and name.
        at: (String, String),
    },
    /// Which tables does a namespace have?
    List {
        /// Its name.
        space: String,
    },
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "kebab-case")]
pub enum Call {
    /// Append one snapshot each to one or several tables, all or none.
    Commit {
        /// Its parts.
        changes: Vec<Change>,
    },
    /// Load a table.
    Load {
        /// The table.
        table: String,
    },
    /// Write an object.
    Put {
        /// Its key.
        key: String,
        /// Says which bytes; nobody else uses this number.
        marker: u64,
    },
    /// Read an object.
    Get {
        /// Its key.
        key: String,
    },
    /// Something about names.
    Name {
        /// Names of different families never meet.
        family: String,
        /// What.
        #[serde(flatten)]
        call: NameCall,
    },
}

/// What a successful request was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "saw", rename_all = "kebab-case")]
pub enum Answer {
    /// It was done.
    Done,
    /// A loaded table.
    Table {
        /// The head of `main`.
        head: Option<i64>,
        /// How many snapshots it has.
        length: usize,
        /// [`digest`] of their ids in the order of their sequence numbers.
        digest: u64,
    },
    /// An object: the marker of its bytes, or nothing.
    Object {
        /// The marker.
        marker: Option<u64>,
    },
    /// Bytes that no client wrote.
    Garbled {
        /// What is wrong with them.
        what: String,
    },
    /// Whether something exists.
    Exists {
        /// It does.
        exists: bool,
    },
    /// Names of tables, or nothing if there is no such namespace.
    Tables {
        /// The names.
        tables: Option<BTreeSet<String>>,
    },
}

/// A snapshot of a table at the end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id.
    pub id: i64,
    /// Its parent's id.
    pub parent: Option<i64>,
    /// Its sequence number.
    pub sequence: i64,
}

/// A table as one node showed it once everything was healed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Final {
    /// The node.
    pub node: u8,
    /// The table.
    pub table: String,
    /// The head of `main`.
    pub head: Option<i64>,
    /// All snapshots.
    pub snapshots: Vec<Snapshot>,
}

/// A line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Microseconds since the beginning of the run.
    pub at: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What a line tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A client sends a request.
    Invoke {
        /// Number of the operation.
        op: u64,
        /// The client; it has at most one operation under way.
        client: String,
        /// The node it asks.
        node: u8,
        /// The request.
        call: Call,
    },
    /// Answered with success.
    Ok {
        /// Number of the operation.
        op: u64,
        /// The answer.
        answer: Answer,
    },
    /// Answered with an error that says that nothing was done.
    Fail {
        /// Number of the operation.
        op: u64,
        /// The HTTP status.
        status: u16,
        /// The protocol's name of the error.
        code: String,
    },
    /// Ended without knowledge.
    Info {
        /// Number of the operation.
        op: u64,
        /// Why.
        cause: String,
    },
    /// The harness disturbs or heals.
    Nemesis {
        /// What.
        what: String,
        /// To which nodes.
        nodes: Vec<u8>,
    },
    /// A table at the end.
    Final(Final),
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With success.
    Ok(Answer),
    /// Without effect, now and later.
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// It may or may not have had, or still have, its effect.
    Unknown,
}

/// One request with its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Its number.
    pub number: u64,
    /// Who asked.
    pub client: String,
    /// Which node.
    pub node: u8,
    /// What.
    pub call: Call,
    /// When it was sent, in microseconds.
    pub start: u64,
    /// When it was answered; [`u64::MAX`] if its outcome is unknown.
    pub end: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// A whole history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Operations in the order of their numbers.
    pub ops: Vec<Op>,
    /// Tables at the end.
    pub finals: Vec<Final>,
}

impl History {
    /// Joins the lines of each operation.
    ///
    /// # Errors
    /// If a line ends an operation that did not begin, or ended before.
    pub fn of(lines: &[Line]) -> anyhow::Result<Self> {
        let mut ops: BTreeMap<u64, Op> = BTreeMap::new();
        let mut finals = Vec::new();
        let mut ended = BTreeSet::new();
        for line in lines {
            let (op, outcome) = match &line.event {
                Event::Invoke {
                    op,
                    client,
                    node,
                    call,
                } => {
                    let begun = Op {
                        number: *op,
                        client: client.clone(),
                        node: *node,
                        call: call.clone(),
                        start: line.at,
                        end: u64::MAX,
                        outcome: Outcome::Unknown,
                    };
                    anyhow::ensure!(ops.insert(*op, begun).is_none(), "operation {op} twice");
                    continue;
                }
                Event::Ok { op, answer } => (op, Outcome::Ok(answer.clone())),
                Event::Fail { op, status, .. } => (op, Outcome::Refused { status: *status }),
                Event::Info { op, .. } => (op, Outcome::Unknown),
                Event::Nemesis { .. } => continue,
                Event::Final(table) => {
                    finals.push(table.clone());
                    continue;
                }
            };
            anyhow::ensure!(ended.insert(*op), "operation {op} ends twice");
            let begun = ops
                .get_mut(op)
                .with_context(|| format!("operation {op} ends without a beginning"))?;
            if outcome != Outcome::Unknown {
                begun.end = line.at;
            }
            begun.outcome = outcome;
        }
        let ops = ops.into_values().collect();
        Ok(Self { ops, finals })
    }

    /// Reads JSON lines.
    ///
    /// # Errors
    /// If a line cannot be read or is not of the format.
    pub fn read(input: impl BufRead) -> anyhow::Result<Self> {
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(input.lines()) {
            let parsed = serde_json::from_str(&line?).with_context(|| format!("line {number}"))?;
            lines.push(parsed);
        }
        Self::of(&lines)
    }
}

/// FNV-1a over snapshot ids, so that a load can say which prefix of a table's history it saw.
#[must_use]
pub fn digest(ids: impl IntoIterator<Item = i64>) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in ids.into_iter().flat_map(i64::to_le_bytes) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_documented_format_are_read() {
        let text = r#"{"at":1,"event":"invoke","op":1,"client":"a","node":2,"call":{"f":"commit","changes":[{"table":"t","parent":null,"snapshot":7}]}}
{"at":2,"event":"invoke","op":2,"client":"b","node":1,"call":{"f":"name","family":"f","do":"rename","from":["fa","t"],"to":["fb","t"]}}
{"at":3,"event":"ok","op":1,"answer":{"saw":"done"}}
{"at":4,"event":"fail","op":2,"status":404,"code":"NoSuchTableException"}
{"at":5,"event":"invoke","op":3,"client":"a","node":2,"call":{"f":"put","key":"k","marker":9}}
{"at":6,"event":"info","op":3,"cause":"connection reset"}
{"at":7,"event":"nemesis","what":"kill","nodes":[2]}
{"at":8,"event":"invoke","op":4,"client":"a","node":2,"call":{"f":"load","table":"t"}}
{"at":9,"event":"final","node":1,"table":"t","head":7,"snapshots":[{"id":7,"parent":null,"sequence":1}]}"#;
        let history = History::read(text.as_bytes()).unwrap();
        let outcomes: Vec<_> = history.ops.iter().map(|op| (op.end, &op.outcome)).collect();
        assert_eq!(
            outcomes,
            [
                (3, &Outcome::Ok(Answer::Done)),
                (4, &Outcome::Refused { status: 404 }),
                (u64::MAX, &Outcome::Unknown),
                (u64::MAX, &Outcome::Unknown),
            ]
        );
        assert_eq!(history.finals[0].snapshots[0].id, 7);
        for bad in [
            r#"{"at":3,"event":"ok","op":1,"answer":{"saw":"done"}}"#,
            "{}",
        ] {
            assert!(History::read(bad.as_bytes()).is_err());
        }
    }
}
