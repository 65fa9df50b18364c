//! Every commit of random histories, against the `iceberg` crate's metadata builder.
#![allow(
    clippy::too_many_lines,
    reason = "one match over all actions reads best whole"
)]

mod compare;
#[path = "../../../crates/iceberg/tests/workload/mod.rs"]
mod workload;

use compare::{Commit, Known, Met, Unexplained, mask, mask_roll_back_times, normal};
use iceberg::TableUpdate;
use iceberg::spec::{TableMetadata, TableMetadataBuilder};
use serde_json::{Value, json};
use workload::Limits;

/// The crate does not read unknown members, and removing the snapshot of a ref fails in it.
const LIMITS: Limits = Limits {
    remove_referenced_snapshots: false,
    unknown_targets: true,
    unknown_fields: false,
    explicit_ids: false,
    encryption_keys: true,
};

/// Also listed in docs/formats/table-metadata.md.
const KNOWN: &[Known] = &[
    Known {
        name: "clock",
        why: "the crate takes last-updated-ms from its own clock when no snapshot is added",
    },
    Known {
        name: "roll-back time",
        why: "the crate takes the log time of a moved main branch from its own clock",
    },
    Known {
        name: "append after roll-back",
        why: "that clock then refuses a snapshot of the same commit as too old",
    },
    Known {
        name: "sequence number ahead",
        why: "the crate takes any higher number; here it must be one of the next ones, so that none \
              uses up those of later commits",
    },
    Known {
        name: "unchanged commit",
        why: "the crate logs the previous metadata file even when nothing changed",
    },
    Known {
        name: "v1 refs",
        why: "the crate neither reads nor writes refs of v1 tables",
    },
    Known {
        name: "v1 partition field ids",
        why: "the crate numbers a spec without ids from the table's last one, then refuses it \
              because v1 needs ids from 1000",
    },
    Known {
        name: "statistics of removed snapshots",
        why: "the crate keeps them; the reference implementation drops them",
    },
];

fn apply(commit: &Commit) -> Result<Value, String> {
    let base: TableMetadata =
        serde_json::from_value(commit.base.clone()).map_err(|error| format!("base: {error}"))?;
    let location = Some(commit.metadata_location.clone());
    let mut builder = TableMetadataBuilder::new_from_metadata(base, location);
    for update in &commit.updates {
        let update: TableUpdate =
            serde_json::from_value(update.clone()).map_err(|error| format!("update: {error}"))?;
        builder = update.apply(builder).map_err(|error| error.to_string())?;
    }
    let result = builder.build().map_err(|error| error.to_string())?;
    Ok(serde_json::to_value(&result.metadata).expect("metadata serializes"))
}

fn compare(commit: &Commit, ours: &Value, theirs: &Value, met: &mut Met, rest: &mut Unexplained) {
    let (mut ours, mut theirs) = (normal(ours), normal(theirs));
    if !commit.changed && mask(&mut ours, &mut theirs, "metadata-log") {
        met.note("unchanged commit");
    }
    if mask(&mut ours, &mut theirs, "last-updated-ms") {
        met.note("clock");
    }
    if mask_roll_back_times(commit, &mut ours, &mut theirs) {
        met.note("roll-back time");
    }
    if commit.base["format-version"] == 1 && mask(&mut ours, &mut theirs, "refs") {
        met.note("v1 refs");
    }
    for name in ["statistics", "partition-statistics"] {
        let removed = commit.removed();
        let Some(Value::Array(files)) = theirs.get_mut(name) else {
            continue;
        };
        let before = files.len();
        files.retain(|file| {
            !file["snapshot-id"]
                .as_i64()
                .is_some_and(|id| removed.contains(&id))
        });
        if files.len() < before {
            met.note("statistics of removed snapshots");
        }
        if files.is_empty() {
            theirs.as_object_mut().expect("an object").remove(name);
        }
    }
    rest.compare(commit, &ours, &theirs);
}

/// The known difference behind a commit that only the crate refuses.
fn known_refusal(commit: &Commit, error: &str) -> Option<&'static str> {
    let is_v1 = commit.base["format-version"] == 1;
    if is_v1 && error.contains("non-sequential field ids") {
        return Some("v1 partition field ids");
    }
    let is_too_old = error.contains("Invalid snapshot timestamp");
    (is_too_old && commit.has("set-snapshot-ref")).then_some("append after roll-back")
}

#[test]
fn commits_give_the_same_metadata() {
    let (mut met, mut rest) = (Met::default(), Unexplained::default());
    let (mut both, mut refused) = (0, 0);
    for commit in compare::commits(LIMITS, 400) {
        let example = || {
            format!(
                "base: {}\nupdates: {:#}",
                commit.base,
                json!(commit.updates)
            )
        };
        match (&commit.ours, apply(&commit)) {
            (Ok(ours), Ok(theirs)) => {
                both += 1;
                compare(&commit, ours, &theirs, &mut met, &mut rest);
            }
            (Err(_), Err(_)) => refused += 1,
            (Ok(_), Err(error)) => match known_refusal(&commit, &error) {
                Some(name) => met.note(name),
                None => rest.add(format!("only the crate refuses: {error}"), example),
            },
            (Err(error), Ok(_)) if compare::is_ahead(error) => met.note("sequence number ahead"),
            (Err(error), Ok(_)) => rest.add(format!("only we refuse: {error}"), example),
        }
    }
    rest.check();
    assert!(
        both > 500,
        "{both} commits were applied by both, {refused} refused by both"
    );
    met.check(KNOWN);
}
