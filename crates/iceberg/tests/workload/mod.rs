//! Random commits: abstract operations, and their translation into JSON updates that fit a table.
//!
//! Shared with `tests/differential`, so it knows only JSON and no type of the crate under test.
#![allow(dead_code)]

use proptest::prelude::*;
use serde_json::{Value, json};

/// 2023-11-14, in milliseconds since the Unix epoch.
pub const START_MS: i64 = 1_700_000_000_000;

/// One step of a commit; numbers pick among what the table has at that point.
#[derive(Debug, Clone)]
pub enum Op {
    AddColumn {
        optional_doc: bool,
    },
    RepeatSchema {
        pick: u8,
    },
    SetCurrentSchema {
        pick: u8,
    },
    RemoveSchema {
        pick: u8,
    },
    AddSpec {
        pick: u8,
    },
    SetDefaultSpec {
        pick: u8,
    },
    RemoveSpec {
        pick: u8,
    },
    AddSortOrder {
        pick: u8,
    },
    SetDefaultSortOrder {
        pick: u8,
    },
    Append {
        branch: Branch,
        rows: u16,
    },
    /// From v2 on with a sequence number that no snapshot of the commit may have.
    AppendAhead {
        by: u8,
    },
    SetRef {
        name: u8,
        pick: u8,
        kind: u8,
    },
    RollBack {
        pick: u8,
    },
    RemoveRef {
        name: u8,
    },
    RemoveSnapshots {
        picks: Vec<u8>,
    },
    SetLocation {
        pick: u8,
    },
    SetProperty {
        name: u8,
        value: u8,
    },
    RemoveProperty {
        name: u8,
    },
    SetPreviousVersionsMax {
        value: u8,
    },
    SetStatistics {
        pick: u8,
        size: u8,
    },
    RemoveStatistics {
        pick: u8,
    },
    SetPartitionStatistics {
        pick: u8,
        size: u8,
    },
    RemovePartitionStatistics {
        pick: u8,
    },
    AddKey {
        pick: u8,
    },
    RemoveKey {
        pick: u8,
    },
    Upgrade,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Branch {
    Main,
    Audit,
    /// Added, but no ref points at it.
    Staged,
}

/// What the translation may use of a table: other implementations handle less.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Remove snapshots that a ref points at.
    pub remove_referenced_snapshots: bool,
    /// Name things that are not there.
    pub unknown_targets: bool,
    /// Write members that no specification knows.
    pub unknown_fields: bool,
    /// Send the ids a careful client computes, and never a layout that the table has already.
    pub explicit_ids: bool,
    /// Add encryption keys.
    pub encryption_keys: bool,
}

pub const EVERYTHING: Limits = Limits {
    remove_referenced_snapshots: true,
    unknown_targets: true,
    unknown_fields: true,
    explicit_ids: false,
    encryption_keys: true,
};

pub fn op() -> impl Strategy<Value = Op> {
    let branch =
        prop_oneof![4 => Just(Branch::Main), 1 => Just(Branch::Audit), 1 => Just(Branch::Staged)];
    let pick = any::<u8>;
    prop_oneof![
        2 => any::<bool>().prop_map(|optional_doc| Op::AddColumn { optional_doc }),
        1 => pick().prop_map(|pick| Op::RepeatSchema { pick }),
        2 => pick().prop_map(|pick| Op::SetCurrentSchema { pick }),
        1 => pick().prop_map(|pick| Op::RemoveSchema { pick }),
        2 => pick().prop_map(|pick| Op::AddSpec { pick }),
        1 => pick().prop_map(|pick| Op::SetDefaultSpec { pick }),
        1 => pick().prop_map(|pick| Op::RemoveSpec { pick }),
        2 => pick().prop_map(|pick| Op::AddSortOrder { pick }),
        1 => pick().prop_map(|pick| Op::SetDefaultSortOrder { pick }),
        8 => (branch, 1u16..1000).prop_map(|(branch, rows)| Op::Append { branch, rows }),
        2 => (0u8..4, pick(), 0u8..4).prop_map(|(name, pick, kind)| Op::SetRef { name, pick, kind }),
        1 => pick().prop_map(|pick| Op::RollBack { pick }),
        1 => (0u8..5).prop_map(|name| Op::RemoveRef { name }),
        2 => prop::collection::vec(pick(), 1..4).prop_map(|picks| Op::RemoveSnapshots { picks }),
        1 => (0u8..3).prop_map(|pick| Op::SetLocation { pick }),
        2 => (0u8..4, 0u8..3).prop_map(|(name, value)| Op::SetProperty { name, value }),
        1 => (0u8..4).prop_map(|name| Op::RemoveProperty { name }),
        1 => (0u8..4).prop_map(|value| Op::SetPreviousVersionsMax { value }),
        1 => (pick(), 1u8..9).prop_map(|(pick, size)| Op::SetStatistics { pick, size }),
        1 => pick().prop_map(|pick| Op::RemoveStatistics { pick }),
        1 => (pick(), 1u8..9).prop_map(|(pick, size)| Op::SetPartitionStatistics { pick, size }),
        1 => pick().prop_map(|pick| Op::RemovePartitionStatistics { pick }),
        1 => (0u8..3).prop_map(|pick| Op::AddKey { pick }),
        1 => (0u8..3).prop_map(|pick| Op::RemoveKey { pick }),
        1 => Just(Op::Upgrade),
    ]
}

/// A history in which some commits are refused because of a sequence number.
pub fn ahead(by: u8) -> Vec<Vec<Op>> {
    let append = || Op::Append {
        branch: Branch::Main,
        rows: 7,
    };
    vec![
        vec![Op::AppendAhead { by }],
        vec![append()],
        vec![Op::AppendAhead { by }],
        vec![append(), Op::AppendAhead { by }],
        vec![append(), append()],
    ]
}

/// A history: commits of a few steps each.
pub fn history() -> impl Strategy<Value = Vec<Vec<Op>>> {
    prop::collection::vec(prop::collection::vec(op(), 1..5), 1..12)
}

/// A table as an engine creates it.
pub fn first_version(format_version: u8) -> Value {
    let mut table = json!({
        "format-version": format_version,
        "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1",
        "location": "s3://bucket/ns/table",
        "last-updated-ms": START_MS,
        "last-column-id": 6,
        "current-schema-id": 0,
        "schemas": [{"type": "struct", "schema-id": 0, "identifier-field-ids": [1], "fields": [
            {"id": 1, "name": "id", "required": true, "type": "long"},
            {"id": 2, "name": "ts", "required": false, "type": "timestamptz"},
            {"id": 3, "name": "name", "required": false, "type": "string"},
            {"id": 4, "name": "nested", "required": false, "type": {"type": "struct", "fields": [
                {"id": 5, "name": "x", "required": false, "type": "int"},
                {"id": 6, "name": "y", "required": false, "type": "double"}]}}]}],
        "default-spec-id": 0,
        "partition-specs": [{"spec-id": 0, "fields": []}],
        "last-partition-id": 999,
        "default-sort-order-id": 0,
        "sort-orders": [{"order-id": 0, "fields": []}],
        "properties": {"owner": "team-a"},
        "snapshots": [], "refs": {}, "snapshot-log": [], "metadata-log": [],
        "statistics": [], "partition-statistics": []
    });
    if format_version == 1 {
        table["schema"] = table["schemas"][0].clone();
        table["partition-spec"] = json!([]);
    } else {
        table["last-sequence-number"] = json!(0);
    }
    if format_version == 3 {
        table["next-row-id"] = json!(0);
    }
    table
}

/// Translates commits against a running table.
pub struct Translator {
    limits: Limits,
    commits: i64,
    next_snapshot_id: i64,
}

/// What the steps of one commit see of the table as they change it.
struct View {
    format_version: i64,
    last_sequence_number: i64,
    next_row_id: i64,
    last_column_id: i64,
    snapshots: Vec<i64>,
    added: Vec<i64>,
    current: Option<i64>,
    audit: Option<i64>,
    schemas: Vec<Value>,
    specs: Vec<Value>,
    orders: Vec<Value>,
    last_partition_id: i64,
}

impl Translator {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            commits: 0,
            next_snapshot_id: 1000,
        }
    }

    /// The clock of the next commit.
    pub fn now_ms(&self) -> i64 {
        START_MS + self.commits * 5_000
    }

    /// The updates of the next commit on a table with this document.
    pub fn commit(&mut self, ops: &[Op], table: &Value) -> Vec<Value> {
        self.commits += 1;
        let mut view = View::of(table);
        ops.iter()
            .flat_map(|op| self.translate(op, table, &mut view))
            .collect()
    }

    fn translate(&mut self, op: &Op, table: &Value, view: &mut View) -> Vec<Value> {
        match op {
            Op::AddColumn { .. }
            | Op::RepeatSchema { .. }
            | Op::SetCurrentSchema { .. }
            | Op::RemoveSchema { .. }
            | Op::AddSpec { .. }
            | Op::SetDefaultSpec { .. }
            | Op::RemoveSpec { .. }
            | Op::AddSortOrder { .. }
            | Op::SetDefaultSortOrder { .. } => self.layout(op, table, view),
            Op::Append { branch, rows } => self.append(*branch, *rows, view),
            Op::AppendAhead { by } => {
                // A commit has at most four snapshots.
                view.last_sequence_number += 4 + i64::from(*by);
                self.append(Branch::Main, 1, view)
            }
            Op::SetRef { name, pick, kind } => self.set_ref(*name, *pick, *kind, view),
            Op::RollBack { pick } => match picked(&view.snapshots, *pick) {
                Some(id) => {
                    view.current = Some(id);
                    vec![ref_update("main", id, json!({"type": "branch"}))]
                }
                None => vec![],
            },
            Op::RemoveRef { name } => {
                let name = ["tag-a", "audit", "tag-b", "main", "gone"][usize::from(*name)];
                if name == "gone" && !self.limits.unknown_targets {
                    return vec![];
                }
                vec![json!({"action": "remove-snapshot-ref", "ref-name": name})]
            }
            Op::RemoveSnapshots { picks } => self.remove_snapshots(picks, table, view),
            Op::Upgrade => {
                if view.format_version == 3 {
                    return vec![];
                }
                view.format_version += 1;
                let version = view.format_version;
                vec![json!({"action": "upgrade-format-version", "format-version": version})]
            }
            _ => self.rest(op, table, view),
        }
    }

    fn layout(&self, op: &Op, table: &Value, view: &mut View) -> Vec<Value> {
        let schemas = list(table, "schemas");
        match op {
            Op::AddColumn { optional_doc } => {
                view.last_column_id += 1;
                let id = view.last_column_id;
                let newest = if self.limits.explicit_ids {
                    &view.schemas
                } else {
                    &schemas
                };
                let mut schema = newest.last().cloned().expect("a table has a schema");
                let mut column = json!({"id": id, "name": format!("c{id}"), "required": false,
                    "type": "decimal(10,2)"});
                if *optional_doc {
                    column["doc"] = json!("added later");
                }
                if self.limits.unknown_fields {
                    column["x-origin"] = json!("wizard");
                }
                let fields = schema["fields"].as_array_mut().expect("fields");
                fields.push(column);
                if self.limits.explicit_ids {
                    schema = with_next_id(schema, "schema-id", &view.schemas);
                    view.schemas.push(schema.clone());
                }
                vec![json!({"action": "add-schema", "schema": schema})]
            }
            Op::RepeatSchema { .. } if self.limits.explicit_ids => vec![],
            Op::RepeatSchema { pick } => {
                let schema = &schemas[usize::from(*pick) % schemas.len()];
                vec![
                    json!({"action": "add-schema", "schema": schema}),
                    json!({"action": "set-current-schema", "schema-id": schema["schema-id"]}),
                ]
            }
            Op::SetCurrentSchema { pick } => {
                vec![json!({"action": "set-current-schema",
                    "schema-id": id_or_last(&schemas, "schema-id", *pick)})]
            }
            Op::RemoveSchema { pick } => {
                let id = id_or_last(&schemas, "schema-id", pick | 1);
                vec![json!({"action": "remove-schemas", "schema-ids": [id]})]
            }
            Op::AddSpec { pick } => {
                let choices = [
                    json!([]),
                    json!([{"source-id": 1, "name": "id_bucket", "transform": "bucket[16]"}]),
                    json!([{"source-id": 2, "name": "ts_day", "transform": "day"}]),
                    json!([{"source-id": 3, "name": "name", "transform": "identity"},
                        {"source-id": 2, "name": "ts_day", "transform": "day"}]),
                    json!([{"source-id": 5, "name": "x_trunc", "transform": "truncate[10]"}]),
                ];
                let fields = &choices[usize::from(*pick) % choices.len()];
                let spec = json!({"fields": fields});
                if !self.limits.explicit_ids {
                    return vec![json!({"action": "add-spec", "spec": spec})];
                }
                match view.numbered_spec(spec) {
                    Some(spec) => vec![json!({"action": "add-spec", "spec": spec})],
                    None => vec![],
                }
            }
            Op::SetDefaultSpec { pick } => {
                let id = id_or_last(&list(table, "partition-specs"), "spec-id", *pick);
                vec![json!({"action": "set-default-spec", "spec-id": id})]
            }
            Op::RemoveSpec { pick } => {
                let id = id_or_last(&list(table, "partition-specs"), "spec-id", pick | 1);
                vec![json!({"action": "remove-partition-specs", "spec-ids": [id]})]
            }
            Op::AddSortOrder { pick } => {
                let field = |id: i64, direction: &str| {
                    json!({"source-id": id, "transform": "identity", "direction": direction,
                        "null-order": "nulls-first"})
                };
                let choices = [
                    json!([]),
                    json!([field(1, "asc")]),
                    json!([field(1, "desc"), field(3, "asc")]),
                    json!([field(5, "asc")]),
                ];
                let fields = &choices[usize::from(*pick) % choices.len()];
                let id = i64::from(fields.as_array().is_some_and(|f| !f.is_empty())) * 77;
                let order = json!({"order-id": id, "fields": fields});
                let known = view.orders.iter().any(|old| old["fields"] == *fields);
                match (self.limits.explicit_ids, known) {
                    (true, true) => vec![],
                    (true, false) => {
                        let order = with_next_id(order, "order-id", &view.orders);
                        view.orders.push(order.clone());
                        vec![json!({"action": "add-sort-order", "sort-order": order})]
                    }
                    _ => vec![json!({"action": "add-sort-order", "sort-order": order})],
                }
            }
            Op::SetDefaultSortOrder { pick } => {
                let id = id_or_last(&list(table, "sort-orders"), "order-id", *pick);
                vec![json!({"action": "set-default-sort-order", "sort-order-id": id})]
            }
            _ => vec![],
        }
    }

    fn append(&mut self, branch: Branch, rows: u16, view: &mut View) -> Vec<Value> {
        let id = self.next_snapshot_id;
        self.next_snapshot_id += 1;
        let parent = match branch {
            Branch::Audit => view.audit.or(view.current),
            _ => view.current,
        };
        let mut snapshot = json!({
            "snapshot-id": id,
            "timestamp-ms": self.now_ms() - 3_000 + view.added.len() as i64,
            "manifest-list": format!("s3://bucket/ns/table/metadata/snap-{id}.avro"),
            "summary": {"operation": "append", "added-records": rows.to_string()},
            "schema-id": 0,
        });
        if let Some(parent) = parent {
            snapshot["parent-snapshot-id"] = json!(parent);
        }
        if view.format_version > 1 {
            view.last_sequence_number += 1;
            snapshot["sequence-number"] = json!(view.last_sequence_number);
        }
        if view.format_version > 2 {
            snapshot["first-row-id"] = json!(view.next_row_id);
            snapshot["added-rows"] = json!(rows);
            view.next_row_id += i64::from(rows);
        }
        if self.limits.unknown_fields {
            snapshot["x-engine"] = json!({"name": "loader", "version": 1.5});
        }
        view.snapshots.push(id);
        view.added.push(id);
        let mut updates = vec![json!({"action": "add-snapshot", "snapshot": snapshot})];
        let branch_options = json!({"type": "branch"});
        match branch {
            Branch::Main => {
                view.current = Some(id);
                updates.push(ref_update("main", id, branch_options));
            }
            Branch::Audit => {
                view.audit = Some(id);
                updates.push(ref_update("audit", id, branch_options));
            }
            Branch::Staged => {}
        }
        updates
    }

    fn set_ref(&self, name: u8, pick: u8, kind: u8, view: &View) -> Vec<Value> {
        let name = ["tag-a", "audit", "tag-b", "feature/ü"][usize::from(name)];
        let options = match kind {
            0 => json!({"type": "tag"}),
            1 => json!({"type": "tag", "max-ref-age-ms": 86_400_000}),
            2 => json!({"type": "branch", "min-snapshots-to-keep": 2}),
            _ => json!({"type": "branch", "max-snapshot-age-ms": 3_600_000,
                "max-ref-age-ms": 7_200_000}),
        };
        match picked(&view.snapshots, pick) {
            Some(id) => vec![ref_update(name, id, options)],
            None if self.limits.unknown_targets => vec![ref_update(name, 5, options)],
            None => vec![],
        }
    }

    fn remove_snapshots(&self, picks: &[u8], table: &Value, view: &mut View) -> Vec<Value> {
        let referenced: Vec<i64> = table["refs"]
            .as_object()
            .map(|refs| {
                refs.values()
                    .filter_map(|r| r["snapshot-id"].as_i64())
                    .collect()
            })
            .unwrap_or_default();
        let mut ids: Vec<i64> = picks
            .iter()
            .filter_map(|pick| picked(&view.snapshots, *pick))
            .collect();
        if !self.limits.remove_referenced_snapshots {
            ids.retain(|id| !referenced.contains(id) && !view.added.contains(id));
        }
        ids.sort_unstable();
        ids.dedup();
        view.snapshots.retain(|id| !ids.contains(id));
        view.current = view.current.filter(|id| !ids.contains(id));
        view.audit = view.audit.filter(|id| !ids.contains(id));
        if ids.is_empty() && !self.limits.unknown_targets {
            return vec![];
        }
        vec![json!({"action": "remove-snapshots", "snapshot-ids": ids})]
    }

    fn rest(&self, op: &Op, table: &Value, view: &View) -> Vec<Value> {
        let has = |name: &str, id: i64| {
            list(table, name)
                .iter()
                .any(|file| file["snapshot-id"].as_i64() == Some(id))
        };
        let update = match op {
            Op::SetLocation { pick } => {
                json!({"action": "set-location", "location": format!("s3://bucket/moved-{pick}")})
            }
            Op::SetProperty { name, value } => json!({"action": "set-properties",
                "updates": {format!("key-{name}"): format!("value {value} \"\n")}}),
            Op::RemoveProperty { name } => {
                let name = format!("key-{name}");
                if !self.limits.unknown_targets && table["properties"].get(&name).is_none() {
                    return vec![];
                }
                json!({"action": "remove-properties", "removals": [name]})
            }
            Op::SetPreviousVersionsMax { value } => json!({"action": "set-properties",
                "updates": {"write.metadata.previous-versions-max": value.to_string()}}),
            Op::SetStatistics { pick, size } => {
                let Some(id) = picked(&view.snapshots, *pick) else {
                    return vec![];
                };
                json!({"action": "set-statistics", "snapshot-id": id, "statistics": {
                    "snapshot-id": id, "statistics-path": format!("s3://bucket/{id}.puffin"),
                    "file-size-in-bytes": size, "file-footer-size-in-bytes": 1,
                    "blob-metadata": []}})
            }
            Op::SetPartitionStatistics { pick, size } => {
                let Some(id) = picked(&view.snapshots, *pick) else {
                    return vec![];
                };
                json!({"action": "set-partition-statistics", "partition-statistics": {
                    "snapshot-id": id, "statistics-path": format!("s3://bucket/{id}.parquet"),
                    "file-size-in-bytes": size}})
            }
            Op::RemoveStatistics { pick } => {
                let Some(id) = picked(&view.snapshots, *pick) else {
                    return vec![];
                };
                if !self.limits.unknown_targets && !has("statistics", id) {
                    return vec![];
                }
                json!({"action": "remove-statistics", "snapshot-id": id})
            }
            Op::RemovePartitionStatistics { pick } => {
                let Some(id) = picked(&view.snapshots, *pick) else {
                    return vec![];
                };
                if !self.limits.unknown_targets && !has("partition-statistics", id) {
                    return vec![];
                }
                json!({"action": "remove-partition-statistics", "snapshot-id": id})
            }
            Op::AddKey { pick } => {
                if view.format_version < 3 || !self.limits.encryption_keys {
                    return vec![];
                }
                json!({"action": "add-encryption-key", "encryption-key": {
                    "key-id": format!("k{pick}"), "encrypted-key-metadata": "AAAA",
                    "encrypted-by-id": "kms"}})
            }
            Op::RemoveKey { .. } if !self.limits.encryption_keys => return vec![],
            Op::RemoveKey { pick } => {
                json!({"action": "remove-encryption-key", "key-id": format!("k{pick}")})
            }
            _ => return vec![],
        };
        vec![update]
    }
}

impl View {
    fn of(table: &Value) -> Self {
        let snapshots: Vec<i64> = list(table, "snapshots")
            .iter()
            .filter_map(|s| s["snapshot-id"].as_i64())
            .collect();
        let current = table["current-snapshot-id"].as_i64().filter(|id| *id != -1);
        Self {
            format_version: table["format-version"].as_i64().expect("format version"),
            last_sequence_number: table["last-sequence-number"].as_i64().unwrap_or(0),
            next_row_id: table["next-row-id"].as_i64().unwrap_or(0),
            last_column_id: table["last-column-id"].as_i64().expect("last column id"),
            snapshots,
            added: Vec::new(),
            current,
            audit: table["refs"]["audit"]["snapshot-id"].as_i64(),
            schemas: list(table, "schemas"),
            specs: list(table, "partition-specs"),
            orders: list(table, "sort-orders"),
            last_partition_id: table["last-partition-id"]
                .as_i64()
                .expect("last partition id"),
        }
    }

    /// A spec with the ids a client computes; `None` when the table has an equal one.
    fn numbered_spec(&mut self, mut spec: Value) -> Option<Value> {
        let key = |field: &Value| (field["source-id"].clone(), field["transform"].clone());
        let fields = spec["fields"].as_array_mut().expect("fields");
        let equal = |old: &&Value| {
            let old = old["fields"].as_array().expect("fields");
            old.len() == fields.len()
                && old
                    .iter()
                    .zip(fields.iter())
                    .all(|(a, b)| key(a) == key(b) && a["name"] == b["name"])
        };
        if self.specs.iter().any(|old| equal(&old)) {
            return None;
        }
        let known: Vec<Value> = self
            .specs
            .iter()
            .flat_map(|old| list(old, "fields"))
            .collect();
        for (at, field) in fields.iter_mut().enumerate() {
            let same = known.iter().find(|old| key(old) == key(field));
            field["field-id"] = match same {
                _ if self.format_version == 1 => json!(1000 + at),
                Some(old) => old["field-id"].clone(),
                None => {
                    self.last_partition_id += 1;
                    json!(self.last_partition_id)
                }
            };
        }
        let spec = with_next_id(spec, "spec-id", &self.specs);
        self.specs.push(spec.clone());
        Some(spec)
    }
}

fn with_next_id(mut item: Value, name: &str, known: &[Value]) -> Value {
    let last = known
        .iter()
        .filter_map(|item| item[name].as_i64())
        .max()
        .unwrap_or(-1);
    item[name] = json!(last + 1);
    item
}

fn list(table: &Value, name: &str) -> Vec<Value> {
    table[name].as_array().cloned().unwrap_or_default()
}

fn picked(ids: &[i64], pick: u8) -> Option<i64> {
    (!ids.is_empty()).then(|| ids[usize::from(pick) % ids.len()])
}

/// Every fourth pick is "the last added one".
fn id_or_last(items: &[Value], name: &str, pick: u8) -> i64 {
    if pick.is_multiple_of(4) {
        return -1;
    }
    items[usize::from(pick) % items.len()][name]
        .as_i64()
        .expect("an id")
}

fn ref_update(name: &str, snapshot_id: i64, options: Value) -> Value {
    let mut update =
        json!({"action": "set-snapshot-ref", "ref-name": name, "snapshot-id": snapshot_id});
    for (option, value) in options.as_object().expect("an object") {
        update[option] = value.clone();
    }
    update
}
