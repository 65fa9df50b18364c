//! What both comparisons share: the commits, the normal form of a document, known differences.
#![allow(dead_code)]

use std::collections::BTreeMap;

use floeberg_iceberg::{
    ApplyContext, InvalidUpdate, MetadataLogEntry, TableMetadata, TableUpdate, UpdateError,
};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::workload::{self, Limits, Op, Translator};

/// A behaviour in which another implementation differs from this one on purpose.
pub struct Known {
    pub name: &'static str,
    pub why: &'static str,
}

/// How often each known difference was met.
#[derive(Default)]
pub struct Met(BTreeMap<&'static str, usize>);

impl Met {
    pub fn note(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    /// Every listed difference must still exist, and no other one may have been used.
    pub fn check(&self, known: &[Known]) {
        let listed: Vec<&str> = known.iter().map(|known| known.name).collect();
        let met: Vec<&str> = self.0.keys().copied().collect();
        for name in &met {
            assert!(listed.contains(name), "{name} is not listed");
        }
        for known in known {
            assert!(
                met.contains(&known.name),
                "never met: {} ({})",
                known.name,
                known.why
            );
        }
    }
}

/// One commit with this model's answer.
pub struct Commit {
    pub base: Value,
    pub updates: Vec<Value>,
    pub metadata_location: String,
    pub ours: Result<Value, UpdateError>,
    /// False when this model made no new version.
    pub changed: bool,
}

/// Whether this model refused a sequence number that is too high.
pub fn is_ahead(error: &UpdateError) -> bool {
    matches!(
        error,
        UpdateError::Invalid(InvalidUpdate::SequenceNumberAhead { .. })
    )
}

fn document(table: &TableMetadata) -> Value {
    serde_json::from_slice(&table.render()).expect("a rendered document is JSON")
}

/// Runs the same random histories every time, and gives every commit of them.
pub fn commits(limits: Limits, histories: usize) -> Vec<Commit> {
    let mut runner = TestRunner::deterministic();
    let mut commits = Vec::new();
    for at in 0..histories {
        let history = workload::history()
            .new_tree(&mut runner)
            .expect("a history")
            .current();
        run(1 + (at % 3) as u8, &history, limits, &mut commits);
    }
    for format_version in [2, 3] {
        run(format_version, &workload::ahead(1), limits, &mut commits);
    }
    commits
}

fn run(format_version: u8, history: &[Vec<Op>], limits: Limits, commits: &mut Vec<Commit>) {
    let first = workload::first_version(format_version).to_string();
    let mut table = TableMetadata::parse(first.as_bytes()).expect("the first version is valid");
    let mut translator = Translator::new(limits);
    for (version, ops) in history.iter().enumerate() {
        let base = document(&table);
        let updates = translator.commit(ops, &base);
        let metadata_location = format!("s3://bucket/ns/table/metadata/{version}.metadata.json");
        let previous = MetadataLogEntry::new(table.last_updated_ms(), &metadata_location);
        let context = ApplyContext {
            now_ms: translator.now_ms(),
            clock_ms: translator.now_ms(),
            previous: Some(previous),
        };
        let typed: Vec<TableUpdate> =
            serde_json::from_str(&json!(updates).to_string()).expect("generated updates are valid");
        let result = table.apply(&typed, &context);
        let changed = result.as_ref().is_ok_and(|applied| applied.changed);
        let ours = result.map(|applied| {
            table = applied.metadata;
            document(&table)
        });
        commits.push(Commit {
            base,
            updates,
            metadata_location,
            ours,
            changed,
        });
    }
}

impl Commit {
    pub fn has(&self, action: &str) -> bool {
        self.updates.iter().any(|update| update["action"] == action)
    }

    /// Ids of the snapshots that the commit adds.
    pub fn added(&self) -> Vec<i64> {
        let snapshots = self
            .updates
            .iter()
            .filter_map(|u| u["snapshot"]["snapshot-id"].as_i64());
        snapshots.collect()
    }

    /// Ids of the snapshots that the commit removes.
    pub fn removed(&self) -> Vec<i64> {
        let lists = self
            .updates
            .iter()
            .filter_map(|u| u["snapshot-ids"].as_array());
        lists.flatten().filter_map(Value::as_i64).collect()
    }
}

/// A document in a form in which layout does not count: no nulls, no empty collections, lists of
/// things with ids in id order, type names without spaces.
pub fn normal(document: &Value) -> Value {
    let mut value = document.clone();
    clean(&mut value);
    let object = value.as_object_mut().expect("an object");
    object.remove("schema");
    object.remove("partition-spec");
    if object.get("current-snapshot-id") == Some(&json!(-1)) {
        object.remove("current-snapshot-id");
    }
    for name in [
        "schemas",
        "partition-specs",
        "sort-orders",
        "snapshots",
        "statistics",
        "partition-statistics",
        "encryption-keys",
    ] {
        if let Some(Value::Array(items)) = object.get_mut(name) {
            items.sort_by_key(|item| {
                let ids = ["schema-id", "spec-id", "order-id", "snapshot-id"];
                let id = match name {
                    "snapshots" => item["snapshot-id"].as_i64(),
                    _ => ids.iter().find_map(|id| item[*id].as_i64()),
                };
                (id, item["key-id"].to_string())
            });
        }
    }
    value
}

fn clean(value: &mut Value) {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(clean);
            members.retain(|_, member| !is_empty(member));
            if let Some(Value::String(kind)) = members.get_mut("type") {
                kind.retain(|c| c != ' ');
            }
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        _ => {}
    }
}

/// Replaces a member in both documents, because the two sides take it from different clocks.
pub fn mask(ours: &mut Value, theirs: &mut Value, name: &str) -> bool {
    let differs = ours.get(name) != theirs.get(name);
    for side in [ours, theirs] {
        side.as_object_mut().expect("an object").remove(name);
    }
    differs
}

/// Removes the times of log entries for snapshots that were there before the commit.
pub fn mask_roll_back_times(commit: &Commit, ours: &mut Value, theirs: &mut Value) -> bool {
    let before = commit.base["snapshot-log"].as_array().map_or(0, Vec::len);
    let added = commit.added();
    let differs = ours.get("snapshot-log") != theirs.get("snapshot-log");
    for side in [ours, theirs] {
        let Some(Value::Array(log)) = side.get_mut("snapshot-log") else {
            continue;
        };
        let kept = before.min(log.len());
        for entry in log.iter_mut().skip(kept.saturating_sub(1)) {
            if entry["snapshot-id"]
                .as_i64()
                .is_some_and(|id| !added.contains(&id))
            {
                entry["timestamp-ms"] = json!("masked");
            }
        }
    }
    differs
}

/// Differences that no rule explains, grouped, with one example of each group.
#[derive(Default)]
pub struct Unexplained(BTreeMap<String, (usize, String)>);

impl Unexplained {
    pub fn add(&mut self, group: String, example: impl FnOnce() -> String) {
        self.0.entry(group).or_insert_with(|| (0, example())).0 += 1;
    }

    /// Compares two documents member by member.
    pub fn compare(&mut self, commit: &Commit, ours: &Value, theirs: &Value) {
        let members = |value: &Value| value.as_object().expect("an object").clone();
        let (ours, theirs) = (members(ours), members(theirs));
        let names: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        for name in names {
            let (left, right) = (ours.get(name), theirs.get(name));
            if left != right {
                self.add(name.clone(), || {
                    let updates = json!(commit.updates);
                    format!("ours: {left:?}\ntheirs: {right:?}\nupdates: {updates:#}")
                });
            }
        }
    }

    pub fn check(&self) {
        let mut report = String::new();
        for (group, (count, example)) in &self.0 {
            report.push_str(&format!(
                "\n== {group}: {count} times, for example\n{example}\n"
            ));
        }
        assert!(self.0.is_empty(), "unexplained differences:{report}");
    }
}
