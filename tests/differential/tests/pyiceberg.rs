//! Every commit of random histories, against PyIceberg's `update_table_metadata`.
//!
//! Needs the Python environment that `make test` builds, named by `FLOEBERG_PYTHON`.
#![allow(
    clippy::too_many_lines,
    reason = "one match over all actions reads best whole"
)]

mod compare;
#[path = "../../../crates/iceberg/tests/workload/mod.rs"]
mod workload;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use compare::{Commit, Known, Met, Unexplained, mask, mask_roll_back_times, normal};
use serde_json::{Value, json};
use workload::Limits;

/// PyIceberg trusts the client's ids, knows no encryption keys and refuses unknown targets.
const LIMITS: Limits = Limits {
    remove_referenced_snapshots: true,
    unknown_targets: false,
    unknown_fields: false,
    explicit_ids: true,
    encryption_keys: false,
};

/// Also listed in docs/formats/table-metadata.md.
const KNOWN: &[Known] = &[
    Known {
        name: "clock",
        why: "PyIceberg takes last-updated-ms from its own clock",
    },
    Known {
        name: "roll-back time",
        why: "PyIceberg takes the log time of a moved main branch from its own clock",
    },
    Known {
        name: "v3",
        why: "PyIceberg does not write v3 tables",
    },
    Known {
        name: "sequence number ahead",
        why: "PyIceberg takes any higher number; here it must be one of the next ones, so that none \
              uses up those of later commits",
    },
    Known {
        name: "unchanged commit",
        why: "PyIceberg logs the previous metadata file when a property is set to what it was",
    },
    Known {
        name: "v1 last-partition-id",
        why: "PyIceberg computes it again from the specs that are left; it never sinks here",
    },
    Known {
        name: "ids after a removal",
        why: "PyIceberg keeps the id the client computed before its own removal; here, as in the \
              reference implementation, an added layout gets the next id that is free",
    },
    Known {
        name: "partition statistics of removed snapshots",
        why: "PyIceberg keeps them; the reference implementation drops them",
    },
    Known {
        name: "snapshot log",
        why: "PyIceberg logs snapshots that were replaced in the same commit, and leaves gaps \
              where it removes some; the reference implementation does neither",
    },
    Known {
        name: "parents of removed snapshots",
        why: "PyIceberg rewrites children of removed snapshots; snapshots never change here",
    },
];

struct Oracle {
    child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl Oracle {
    fn start() -> Self {
        let python = std::env::var("FLOEBERG_PYTHON")
            .expect("FLOEBERG_PYTHON is not set: run `make test`, which builds that environment");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/pyiceberg_oracle.py");
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the Python environment of `make test` starts");
        let requests = child.stdin.take().expect("piped");
        let replies = BufReader::new(child.stdout.take().expect("piped"));
        Self {
            child,
            requests,
            replies,
        }
    }

    fn apply(&mut self, commit: &Commit) -> Result<Value, String> {
        let request = json!({"base": commit.base, "updates": commit.updates,
            "metadata_location": commit.metadata_location});
        writeln!(self.requests, "{request}").expect("the oracle reads");
        let mut reply = String::new();
        self.replies
            .read_line(&mut reply)
            .expect("the oracle answers");
        let reply: Value = serde_json::from_str(&reply).expect("the oracle answers JSON");
        match reply["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(reply["metadata"].clone()),
        }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It ends by itself when its input does; a failed wait leaves nothing to clean up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn compare(commit: &Commit, ours: &Value, theirs: &Value, met: &mut Met, rest: &mut Unexplained) {
    let (mut ours, mut theirs) = (normal(ours), normal(theirs));
    let removed = commit.removed();
    if mask(&mut ours, &mut theirs, "last-updated-ms") {
        met.note("clock");
    }
    if !commit.changed && mask(&mut ours, &mut theirs, "metadata-log") {
        met.note("unchanged commit");
    }
    let moves = commit
        .updates
        .iter()
        .filter(|update| update["ref-name"] == "main")
        .count();
    let several_moves = moves > 1;
    if (several_moves || !removed.is_empty()) && mask(&mut ours, &mut theirs, "snapshot-log") {
        met.note("snapshot log");
    }
    if mask_roll_back_times(commit, &mut ours, &mut theirs) {
        met.note("roll-back time");
    }
    if commit.base["format-version"] == 1
        && ours["last-partition-id"].as_i64() > theirs["last-partition-id"].as_i64()
    {
        mask(&mut ours, &mut theirs, "last-partition-id");
        met.note("v1 last-partition-id");
    }
    for (list, adds, removes) in [
        ("schemas", "add-schema", "remove-schemas"),
        ("partition-specs", "add-spec", "remove-partition-specs"),
    ] {
        if commit.has(adds) && commit.has(removes) && mask(&mut ours, &mut theirs, list) {
            met.note("ids after a removal");
        }
    }
    if let Some(Value::Array(files)) = theirs.get_mut("partition-statistics") {
        let before = files.len();
        files.retain(|file| {
            !file["snapshot-id"]
                .as_i64()
                .is_some_and(|id| removed.contains(&id))
        });
        if files.len() < before {
            met.note("partition statistics of removed snapshots");
        }
        if files.is_empty() {
            theirs
                .as_object_mut()
                .expect("an object")
                .remove("partition-statistics");
        }
    }
    for snapshot in ours
        .get_mut("snapshots")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if snapshot["parent-snapshot-id"]
            .as_i64()
            .is_some_and(|id| removed.contains(&id))
        {
            snapshot
                .as_object_mut()
                .expect("an object")
                .remove("parent-snapshot-id");
            met.note("parents of removed snapshots");
        }
    }
    rest.compare(commit, &ours, &theirs);
}

fn is_about_v3(error: &str) -> bool {
    error.contains("Writing V3 is not yet supported")
        || error.contains("Unsupported table format version: 3")
}

#[test]
fn commits_give_the_same_metadata() {
    let (mut met, mut rest) = (Met::default(), Unexplained::default());
    let mut oracle = Oracle::start();
    let (mut both, mut refused) = (0, 0);
    for commit in compare::commits(LIMITS, 150) {
        let example = || {
            format!(
                "base: {}\nupdates: {:#}",
                commit.base,
                json!(commit.updates)
            )
        };
        match (&commit.ours, oracle.apply(&commit)) {
            (Ok(ours), Ok(theirs)) => {
                both += 1;
                compare(&commit, ours, &theirs, &mut met, &mut rest);
            }
            (_, Err(error)) if is_about_v3(&error) => met.note("v3"),
            (Err(_), Err(_)) => refused += 1,
            (Ok(_), Err(error)) => rest.add(format!("only PyIceberg refuses: {error}"), example),
            (Err(error), Ok(_)) if compare::is_ahead(error) => met.note("sequence number ahead"),
            (Err(error), Ok(_)) => rest.add(format!("only we refuse: {error}"), example),
        }
    }
    rest.check();
    assert!(
        both > 200,
        "{both} commits were applied by both, {refused} refused by both"
    );
    met.check(KNOWN);
}
