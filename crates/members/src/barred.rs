//! What bars a node from taking part, kept in its data directory: it has lost what it had acknowledged, or
//! it was removed. Only a newer copy of its disk, or a person, lifts that.

use crate::home::{Home, HomeError};
use floeberg_consensus::{AckMark, Forgot};
use floeberg_proto::floeberg::raft::v1 as pb;
use floeberg_types::{GroupId, NodeId, TimestampMs};
use serde::{Deserialize, Serialize};

const FORMAT: u32 = 1;
const FORGOT: &str = "forgot.json";
const REMOVED: &str = "removed.json";

#[derive(Serialize, Deserialize)]
struct StoredMark {
    term: u64,
    node: u64,
    committed: bool,
    accepted: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct StoredForgot {
    format: u32,
    group: u32,
    witness: u64,
    known: StoredMark,
    here: StoredMark,
    found_at_ms: i64,
}

#[derive(Serialize, Deserialize)]
struct StoredRemoved {
    format: u32,
    said_by: Vec<u64>,
    found_at_ms: i64,
}

/// This node was told that it is no member any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedMark {
    /// By whom.
    pub said_by: Vec<NodeId>,
    /// When.
    pub found_at: TimestampMs,
}

/// Why a node does not take part, as its data directory says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Barring {
    /// It had lost something; it has to be looked at whether it is there again.
    Forgot(Forgot),
    /// It was removed.
    Removed(RemovedMark),
}

impl StoredMark {
    fn of(mark: &AckMark) -> Self {
        let pb::AckMark {
            term,
            node,
            committed,
            accepted,
            ..
        } = mark.to_pb();
        Self {
            term,
            node,
            committed,
            accepted,
        }
    }

    fn back(self) -> AckMark {
        AckMark {
            term: self.term,
            node: NodeId(self.node),
            committed: self.committed,
            accepted: self.accepted,
        }
    }
}

impl Barring {
    /// Keeps it, durably.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn keep(&self, home: &Home, now: TimestampMs) -> Result<(), HomeError> {
        match self {
            Self::Forgot(forgot) => {
                let stored = StoredForgot {
                    format: FORMAT,
                    group: forgot.group.0,
                    witness: forgot.witness.0,
                    known: StoredMark::of(&forgot.known),
                    here: StoredMark::of(&forgot.here),
                    found_at_ms: now.0,
                };
                write(home, FORGOT, &stored)
            }
            Self::Removed(mark) => {
                let stored = StoredRemoved {
                    format: FORMAT,
                    said_by: mark.said_by.iter().map(|node| node.0).collect(),
                    found_at_ms: mark.found_at.0,
                };
                write(home, REMOVED, &stored)
            }
        }
    }
}

fn write(home: &Home, name: &str, stored: &impl Serialize) -> Result<(), HomeError> {
    let text = serde_json::to_vec_pretty(stored).expect("plain fields always serialise");
    home.write(name, &text)
}

fn read<T: for<'a> Deserialize<'a>>(
    home: &Home,
    name: &str,
    reason: &'static str,
) -> Result<Option<T>, HomeError> {
    let path = home.path(name);
    let Some(bytes) = home.read(&path)? else {
        return Ok(None);
    };
    // A later format says at least as much.
    let stored = serde_json::from_slice(&bytes);
    stored
        .map(Some)
        .map_err(|_| HomeError::Damaged { path, reason })
}

/// Why the node of a data directory does not take part, if so.
///
/// # Errors
/// There is something that cannot be read: that is no reason to take part.
pub fn barring(home: &Home) -> Result<Option<Barring>, HomeError> {
    let reason = "it does not say who removed this node";
    if let Some(stored) = read::<StoredRemoved>(home, REMOVED, reason)? {
        return Ok(Some(Barring::Removed(RemovedMark {
            said_by: stored.said_by.into_iter().map(NodeId).collect(),
            found_at: TimestampMs(stored.found_at_ms),
        })));
    }
    let reason = "it does not say what this node has lost";
    let stored = read::<StoredForgot>(home, FORGOT, reason)?;
    Ok(stored.map(|stored| {
        Barring::Forgot(Forgot {
            group: GroupId(stored.group),
            witness: NodeId(stored.witness),
            known: stored.known.back(),
            here: stored.here.back(),
        })
    }))
}

/// Lets the node take part again: what it had lost is there, or it founds a cluster of its own.
///
/// # Errors
/// The disk refuses.
pub fn lift(home: &Home) -> Result<(), HomeError> {
    home.remove(FORGOT)?;
    home.remove(REMOVED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use floeberg_env::Env;
    use std::path::Path;

    fn home(env: &Env) -> Home {
        let home = Home::new(Path::new("/data"), env.disk.clone());
        home.prepare().unwrap();
        home
    }

    #[test]
    fn what_bars_a_node_stays_until_it_is_lifted() {
        let (env, _) = Env::simulated(1);
        let home = home(&env);
        assert_eq!(barring(&home).unwrap(), None);
        let known = AckMark {
            term: 7,
            node: NodeId(1),
            committed: true,
            accepted: Some(300),
        };
        let forgot = Barring::Forgot(Forgot {
            group: GroupId(1),
            witness: NodeId(3),
            known,
            here: AckMark::default(),
        });
        forgot.keep(&home, TimestampMs(5)).unwrap();
        assert_eq!(barring(&home).unwrap(), Some(forgot));
        let text = home.read(&home.path(FORGOT)).unwrap().unwrap();
        expect![[r#"
            {
              "format": 1,
              "group": 1,
              "witness": 3,
              "known": {
                "term": 7,
                "node": 1,
                "committed": true,
                "accepted": 300
              },
              "here": {
                "term": 0,
                "node": 0,
                "committed": false,
                "accepted": null
              },
              "found_at_ms": 5
            }"#]]
        .assert_eq(&String::from_utf8(text).unwrap());
        let removed = Barring::Removed(RemovedMark {
            said_by: vec![NodeId(1), NodeId(2)],
            found_at: TimestampMs(6),
        });
        removed.keep(&home, TimestampMs(6)).unwrap();
        assert_eq!(barring(&home).unwrap(), Some(removed));
        let text = home.read(&home.path(REMOVED)).unwrap().unwrap();
        expect![[r#"
            {
              "format": 1,
              "said_by": [
                1,
                2
              ],
              "found_at_ms": 6
            }"#]]
        .assert_eq(&String::from_utf8(text).unwrap());
        lift(&home).unwrap();
        assert_eq!(barring(&home).unwrap(), None);
        lift(&home).unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let (env, _) = Env::simulated(1);
        let home = home(&env);
        for name in [FORGOT, REMOVED] {
            home.write(name, b"{").unwrap();
            assert!(barring(&home).is_err(), "{name}");
            lift(&home).unwrap();
        }
    }
}
