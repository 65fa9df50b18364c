//! Random histories against the naive model, and the invariants of every version on the way.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(
    clippy::too_many_lines,
    reason = "one match over all actions reads best whole"
)]

#[path = "naive/mod.rs"]
mod naive;
#[path = "workload/mod.rs"]
mod workload;

use std::collections::BTreeMap;
use std::sync::Arc;

use floeberg_iceberg::{
    Applied, ApplyContext, Document, MetadataLogEntry, PartChange, Section, TableMetadata,
    TableUpdate,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Value, json};
use workload::{EVERYTHING, Op, Translator};

type Parts = BTreeMap<(Section, u64), Arc<str>>;

fn parts(table: &TableMetadata) -> Parts {
    table
        .parts()
        .map(|part| ((part.section, part.ordinal), part.json))
        .collect()
}

fn document(table: &TableMetadata) -> Value {
    serde_json::from_slice(&table.render()).unwrap()
}

fn updates(values: &[Value]) -> Vec<TableUpdate> {
    values
        .iter()
        .map(|value| serde_json::from_str(&value.to_string()).unwrap())
        .collect()
}

/// What holds for every version, however it came about.
fn check_version(table: &TableMetadata) {
    let text = table.render();
    assert_eq!(table.rendered_len(), text.len() as u64);
    assert_eq!(
        TableMetadata::parse(&text).unwrap().render(),
        text,
        "rendering is stable"
    );

    let stored = parts(table);
    let raw = stored
        .iter()
        .map(|((section, ordinal), json)| (*section, *ordinal, json.as_bytes()));
    assert_eq!(Document::render(raw).unwrap(), text);

    let shuffled = stored.iter().rev();
    let again = shuffled.map(|((section, ordinal), json)| (*section, *ordinal, json.clone()));
    let again = TableMetadata::from_parts(again).unwrap();
    assert_eq!(parts(&again), stored, "parts carry the whole state");
    assert_eq!(again.render(), text);

    let mut expected = document(table);
    let referenced: Vec<Value> = expected["refs"]
        .as_object()
        .unwrap()
        .values()
        .map(|r| r["snapshot-id"].clone())
        .collect();
    expected["snapshots"]
        .as_array_mut()
        .unwrap()
        .retain(|snapshot| referenced.contains(&snapshot["snapshot-id"]));
    let refs_only: Value = serde_json::from_slice(&table.render_refs_only()).unwrap();
    assert_eq!(refs_only, expected);
}

/// A commit's list of changes turns the base's parts into exactly the new parts.
fn check_changes(base: &TableMetadata, applied: &Applied) {
    let old = parts(base);
    let mut stored = old.clone();
    for change in &applied.changes {
        match change {
            PartChange::Put {
                section,
                ordinal,
                json,
            } => {
                assert_ne!(
                    old.get(&(*section, *ordinal)),
                    Some(json),
                    "a put changes something"
                );
                stored.insert((*section, *ordinal), json.clone());
            }
            PartChange::Remove { section, ordinal } => {
                assert!(stored.remove(&(*section, *ordinal)).is_some());
            }
        }
    }
    assert_eq!(stored, parts(&applied.metadata));
    assert_eq!(applied.changed, !applied.changes.is_empty());
}

/// What who knows only the base and the changes makes of them.
fn followed(base: &TableMetadata, applied: &Applied) -> TableMetadata {
    let followed = base.with_changes(&applied.changes).unwrap();
    assert_eq!(followed, applied.metadata);
    followed
}

fn run(format_version: u8, history: &[Vec<Op>]) {
    let first = workload::first_version(format_version).to_string();
    let mut table = TableMetadata::parse(first.as_bytes()).unwrap();
    let mut translator = Translator::new(EVERYTHING);
    for (version, ops) in history.iter().enumerate() {
        let base = document(&table);
        let requested = translator.commit(ops, &base);
        let file = format!("s3://bucket/ns/table/metadata/{version}.metadata.json");
        let previous = MetadataLogEntry::new(table.last_updated_ms(), &file);
        let entry = json!({"timestamp-ms": table.last_updated_ms(), "metadata-file": file});
        let now_ms = translator.now_ms();
        let context = ApplyContext {
            now_ms,
            clock_ms: now_ms,
            previous: Some(previous),
        };

        let expected = naive::commit(&base, &requested, now_ms, &entry);
        match table.apply(&updates(&requested), &context) {
            Ok(applied) => {
                let found = document(&applied.metadata);
                assert_eq!(Ok(&found), expected.as_ref(), "updates: {requested:#?}");
                assert_eq!(applied.changed, found != base);
                check_changes(&table, &applied);
                let followed = followed(&table, &applied);
                // Whichever goes on, the model finds no difference.
                table = match version % 2 {
                    0 => applied.metadata,
                    _ => followed,
                };
                check_version(&table);
            }
            Err(error) => assert_eq!(expected, Err(naive::Refused), "{error}: {requested:#?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn v1_histories_match_the_model(history in workload::history()) {
        run(1, &history);
    }

    #[test]
    fn v2_histories_match_the_model(history in workload::history()) {
        run(2, &history);
    }

    #[test]
    fn v3_histories_match_the_model(history in workload::history()) {
        run(3, &history);
    }

    #[test]
    fn sequence_numbers_ahead_match_the_model(by in any::<u8>(), version in 1u8..=3) {
        run(version, &workload::ahead(by));
    }
}

#[test]
fn the_workload_reaches_every_action() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    let mut applied = 0;
    for _ in 0..300 {
        let history = workload::history().new_tree(&mut runner).unwrap().current();
        let first = workload::first_version(3).to_string();
        let mut table = TableMetadata::parse(first.as_bytes()).unwrap();
        let mut translator = Translator::new(EVERYTHING);
        for ops in &history {
            let requested = updates(&translator.commit(ops, &document(&table)));
            let context = ApplyContext {
                now_ms: translator.now_ms(),
                clock_ms: translator.now_ms(),
                previous: None,
            };
            if let Ok(result) = table.apply(&requested, &context) {
                seen.extend(requested.iter().map(TableUpdate::action));
                applied += 1;
                table = result.metadata;
            }
        }
    }
    // All but assign-uuid and upgrade-format-version, which a v3 table has no use for.
    assert_eq!(seen.len(), 21, "{seen:?}");
    assert!(applied > 500, "most commits must apply: {applied}");
}
