//! A naive model of a commit: plain JSON documents, whole-list scans, no parts, no indexes.

use serde_json::{Value, json};

/// The outcome of a commit on a document; `Err` holds no text, only that it is refused.
pub type Outcome = Result<Value, Refused>;

#[derive(Debug, PartialEq, Eq)]
pub struct Refused;

#[derive(Default)]
struct Commit {
    sequence_limit: i64,
    added: Vec<i64>,
    removed: bool,
    moves: Vec<(i64, i64)>,
    last_schema: Option<i64>,
    last_spec: Option<i64>,
    last_order: Option<i64>,
    updated: Option<i64>,
}

/// Applies updates to a document; an unchanged document comes back as it was.
pub fn commit(base: &Value, updates: &[Value], now: i64, previous: &Value) -> Outcome {
    let mut table = base.clone();
    let snapshots = updates.iter().filter(|u| u["action"] == "add-snapshot");
    let mut commit = Commit {
        sequence_limit: base["last-sequence-number"].as_i64().unwrap_or(0)
            + snapshots.count() as i64,
        ..Commit::default()
    };
    for update in updates {
        step(&mut table, &mut commit, update, now)?;
    }
    sync_legacy(&mut table);
    if table == *base && commit.moves.is_empty() {
        return Ok(table);
    }
    check_default_sources(&table)?;
    let floor = base["last-updated-ms"].as_i64().unwrap();
    let updated = commit.updated.unwrap_or(now.max(floor));
    table["last-updated-ms"] = json!(updated.max(floor));
    finish_log(&mut table, &commit)?;
    let limit = match table["properties"].get("write.metadata.previous-versions-max") {
        Some(text) => text.as_str().unwrap().parse::<usize>().unwrap().max(1),
        None => 100,
    };
    let log = table["metadata-log"].as_array_mut().unwrap();
    log.push(previous.clone());
    while log.len() > limit {
        log.remove(0);
    }
    Ok(table)
}

fn items<'a>(table: &'a mut Value, name: &str) -> &'a mut Vec<Value> {
    if table.get(name).is_none() {
        table[name] = json!([]);
    }
    table[name].as_array_mut().unwrap()
}

fn find(table: &Value, list: &str, key: &str, id: i64) -> Option<usize> {
    table[list]
        .as_array()?
        .iter()
        .position(|item| item[key].as_i64() == Some(id))
}

fn without(value: &Value, name: &str) -> Value {
    let mut value = value.clone();
    value.as_object_mut().unwrap().remove(name);
    value
}

fn drop_empty(table: &mut Value, name: &str) {
    if table
        .get(name)
        .is_some_and(|list| list.as_array().unwrap().is_empty())
    {
        table.as_object_mut().unwrap().remove(name);
    }
}

fn step(table: &mut Value, commit: &mut Commit, update: &Value, now: i64) -> Result<(), Refused> {
    match update["action"].as_str().unwrap() {
        "upgrade-format-version" => {
            table["format-version"] = update["format-version"].clone();
            if table.get("last-sequence-number").is_none() {
                table["last-sequence-number"] = json!(0);
                for snapshot in items(table, "snapshots") {
                    if snapshot.get("sequence-number").is_none() {
                        snapshot["sequence-number"] = json!(0);
                    }
                }
            }
            if update["format-version"] == 3 && table.get("next-row-id").is_none() {
                table["next-row-id"] = json!(0);
            }
        }
        "add-schema" | "add-spec" | "add-sort-order" => add_layout(table, commit, update),
        "set-current-schema" => {
            let id = last_or(update["schema-id"].as_i64().unwrap(), commit.last_schema)?;
            find(table, "schemas", "schema-id", id).ok_or(Refused)?;
            table["current-schema-id"] = json!(id);
        }
        "set-default-spec" => {
            let id = last_or(update["spec-id"].as_i64().unwrap(), commit.last_spec)?;
            find(table, "partition-specs", "spec-id", id).ok_or(Refused)?;
            table["default-spec-id"] = json!(id);
        }
        "set-default-sort-order" => {
            let id = last_or(update["sort-order-id"].as_i64().unwrap(), commit.last_order)?;
            find(table, "sort-orders", "order-id", id).ok_or(Refused)?;
            table["default-sort-order-id"] = json!(id);
        }
        "remove-schemas" => {
            let ids = &update["schema-ids"];
            let current = table["current-schema-id"].clone();
            remove_layout(table, "schemas", "schema-id", ids, &current)?;
        }
        "remove-partition-specs" => {
            let ids = &update["spec-ids"];
            let current = table["default-spec-id"].clone();
            remove_layout(table, "partition-specs", "spec-id", ids, &current)?;
        }
        "add-snapshot" => add_snapshot(table, commit, &update["snapshot"])?,
        "set-snapshot-ref" => set_ref(table, commit, update, now)?,
        "remove-snapshot-ref" => remove_ref(table, update["ref-name"].as_str().unwrap()),
        "remove-snapshots" => remove_snapshots(table, commit, &update["snapshot-ids"]),
        "set-location" => table["location"] = update["location"].clone(),
        "set-properties" => {
            for (name, value) in update["updates"].as_object().unwrap() {
                table["properties"][name] = value.clone();
            }
        }
        "remove-properties" => {
            for name in update["removals"].as_array().unwrap() {
                table["properties"]
                    .as_object_mut()
                    .unwrap()
                    .shift_remove(name.as_str().unwrap());
            }
        }
        "set-statistics" => put_file(table, "statistics", &update["statistics"]),
        "set-partition-statistics" => {
            put_file(
                table,
                "partition-statistics",
                &update["partition-statistics"],
            );
        }
        "remove-statistics" => drop_files(table, "statistics", &update["snapshot-id"]),
        "remove-partition-statistics" => {
            drop_files(table, "partition-statistics", &update["snapshot-id"]);
        }
        "add-encryption-key" => {
            let key = &update["encryption-key"];
            let keys = items(table, "encryption-keys");
            if keys.iter().all(|old| old["key-id"] != key["key-id"]) {
                keys.push(key.clone());
            }
        }
        "remove-encryption-key" => {
            items(table, "encryption-keys").retain(|key| key["key-id"] != update["key-id"]);
            drop_empty(table, "encryption-keys");
        }
        action => panic!("the model lacks {action}"),
    }
    Ok(())
}

fn last_or(id: i64, last: Option<i64>) -> Result<i64, Refused> {
    if id == -1 {
        last.ok_or(Refused)
    } else {
        Ok(id)
    }
}

fn add_layout(table: &mut Value, commit: &mut Commit, update: &Value) {
    let same = |a: &Value, b: &Value, ignored: &[&str]| {
        let strip = |v: &Value| ignored.iter().fold(v.clone(), |v, name| without(&v, name));
        strip(a) == strip(b)
    };
    match update["action"].as_str().unwrap() {
        "add-schema" => {
            let mut schema = update["schema"].clone();
            let list = table["schemas"].as_array().unwrap();
            if let Some(old) = list.iter().find(|old| same(old, &schema, &["schema-id"])) {
                commit.last_schema = old["schema-id"].as_i64();
                return;
            }
            let id = list
                .iter()
                .map(|s| s["schema-id"].as_i64().unwrap())
                .max()
                .unwrap()
                + 1;
            schema["schema-id"] = json!(id);
            let last = highest_id(&schema).max(table["last-column-id"].as_i64().unwrap());
            table["last-column-id"] = json!(last);
            items(table, "schemas").push(schema);
            commit.last_schema = Some(id);
        }
        "add-spec" => {
            let fields = update["spec"]["fields"].as_array().unwrap();
            let specs = table["partition-specs"].as_array().unwrap();
            let compatible = |old: &&Value| {
                let old = old["fields"].as_array().unwrap();
                old.len() == fields.len()
                    && old
                        .iter()
                        .zip(fields)
                        .all(|(a, b)| same(a, b, &["field-id"]))
            };
            if let Some(old) = specs.iter().find(compatible) {
                commit.last_spec = old["spec-id"].as_i64();
                return;
            }
            let id = specs
                .iter()
                .map(|s| s["spec-id"].as_i64().unwrap())
                .max()
                .unwrap()
                + 1;
            let highest = table["last-partition-id"].as_i64().unwrap();
            let mut last = highest;
            let mut known: Vec<Value> = specs
                .iter()
                .flat_map(|s| s["fields"].as_array().unwrap().clone())
                .collect();
            if table["format-version"] == 1 {
                last = 999;
                known.clear();
            }
            let mut numbered = Vec::new();
            for field in fields {
                let old = known.iter().find(|k| same(k, field, &["field-id", "name"]));
                let mut field = field.clone();
                field["field-id"] = match old {
                    Some(old) => old["field-id"].clone(),
                    None => {
                        last += 1;
                        json!(last)
                    }
                };
                numbered.push(field);
            }
            table["last-partition-id"] = json!(last.max(highest));
            items(table, "partition-specs").push(json!({"spec-id": id, "fields": numbered}));
            commit.last_spec = Some(id);
        }
        _ => {
            let mut order = update["sort-order"].clone();
            let orders = table["sort-orders"].as_array().unwrap();
            if let Some(old) = orders.iter().find(|old| old["fields"] == order["fields"]) {
                commit.last_order = old["order-id"].as_i64();
                return;
            }
            let id = orders
                .iter()
                .map(|o| o["order-id"].as_i64().unwrap())
                .max()
                .unwrap()
                + 1;
            order["order-id"] = json!(id);
            items(table, "sort-orders").push(order);
            commit.last_order = Some(id);
        }
    }
}

fn highest_id(value: &Value) -> i64 {
    let own = value["id"].as_i64().unwrap_or(0);
    let fields = value["fields"]
        .as_array()
        .or_else(|| value["type"]["fields"].as_array());
    fields
        .into_iter()
        .flatten()
        .map(highest_id)
        .chain([own])
        .max()
        .unwrap()
}

fn remove_layout(
    table: &mut Value,
    list: &str,
    key: &str,
    ids: &Value,
    current: &Value,
) -> Result<(), Refused> {
    let ids = ids.as_array().unwrap();
    if ids.contains(current) {
        return Err(Refused);
    }
    items(table, list).retain(|item| !ids.contains(&item[key]));
    Ok(())
}

fn add_snapshot(table: &mut Value, commit: &mut Commit, snapshot: &Value) -> Result<(), Refused> {
    let id = snapshot["snapshot-id"].as_i64().unwrap();
    if find(table, "snapshots", "snapshot-id", id).is_some() {
        return Err(Refused);
    }
    if table["format-version"] != 1 {
        let sequence = snapshot["sequence-number"].as_i64().unwrap_or(0);
        let last = table["last-sequence-number"].as_i64().unwrap();
        if sequence <= last || sequence > commit.sequence_limit {
            return Err(Refused);
        }
        table["last-sequence-number"] = json!(sequence);
    }
    if table["format-version"] == 3 {
        let first = snapshot["first-row-id"].as_i64().ok_or(Refused)?;
        if first < table["next-row-id"].as_i64().unwrap() {
            return Err(Refused);
        }
        table["next-row-id"] = json!(first + snapshot["added-rows"].as_i64().unwrap());
    }
    commit.updated = snapshot["timestamp-ms"].as_i64();
    commit.added.push(id);
    items(table, "snapshots").push(snapshot.clone());
    Ok(())
}

fn set_ref(
    table: &mut Value,
    commit: &mut Commit,
    update: &Value,
    now: i64,
) -> Result<(), Refused> {
    let name = update["ref-name"].as_str().unwrap();
    let target = without(&without(update, "action"), "ref-name");
    if table["refs"].get(name) == Some(&target) {
        return Ok(());
    }
    let id = target["snapshot-id"].as_i64().unwrap();
    let at = find(table, "snapshots", "snapshot-id", id).ok_or(Refused)?;
    if commit.added.contains(&id) {
        commit.updated = table["snapshots"][at]["timestamp-ms"].as_i64();
    }
    if name == "main" {
        let now = now.max(table["last-updated-ms"].as_i64().unwrap());
        let time = *commit.updated.get_or_insert(now);
        commit.moves.push((time, id));
        table["current-snapshot-id"] = json!(id);
    }
    table["refs"][name] = target;
    Ok(())
}

fn remove_ref(table: &mut Value, name: &str) {
    if name == "main" {
        table.as_object_mut().unwrap().remove("current-snapshot-id");
    }
    table["refs"].as_object_mut().unwrap().shift_remove(name);
}

fn remove_snapshots(table: &mut Value, commit: &mut Commit, ids: &Value) {
    for id in ids.as_array().unwrap() {
        let before = items(table, "snapshots").len();
        items(table, "snapshots").retain(|snapshot| snapshot["snapshot-id"] != *id);
        if items(table, "snapshots").len() != before {
            commit.removed = true;
            drop_files(table, "statistics", id);
            drop_files(table, "partition-statistics", id);
        }
    }
    let refs: Vec<(String, i64)> = table["refs"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, target)| (name.clone(), target["snapshot-id"].as_i64().unwrap()))
        .collect();
    for (name, id) in refs {
        if find(table, "snapshots", "snapshot-id", id).is_none() {
            remove_ref(table, &name);
        }
    }
}

fn put_file(table: &mut Value, list: &str, file: &Value) {
    match find(
        table,
        list,
        "snapshot-id",
        file["snapshot-id"].as_i64().unwrap(),
    ) {
        Some(at) => items(table, list)[at] = file.clone(),
        None => items(table, list).push(file.clone()),
    }
}

fn drop_files(table: &mut Value, list: &str, id: &Value) {
    items(table, list).retain(|file| file["snapshot-id"] != *id);
}

/// Rewrites the whole log, entry by entry, in the way the reference implementation does.
fn finish_log(table: &mut Value, commit: &Commit) -> Result<(), Refused> {
    let current = table["current-snapshot-id"].as_i64();
    let intermediate: Vec<i64> = commit
        .moves
        .iter()
        .map(|(_, id)| *id)
        .filter(|id| commit.added.contains(id) && Some(*id) != current)
        .collect();
    let entries = commit
        .moves
        .iter()
        .map(|(time, id)| json!({"timestamp-ms": time, "snapshot-id": id}));
    let all: Vec<Value> = table["snapshot-log"]
        .as_array()
        .unwrap()
        .iter()
        .cloned()
        .chain(entries)
        .collect();
    if intermediate.is_empty() && !commit.removed {
        table["snapshot-log"] = json!(all);
        return Ok(());
    }
    let mut log: Vec<Value> = Vec::new();
    for entry in all {
        let id = entry["snapshot-id"].as_i64().unwrap();
        if find(table, "snapshots", "snapshot-id", id).is_some() {
            if !intermediate.contains(&id) {
                log.push(entry);
            }
        } else if commit.removed {
            log.clear();
        }
    }
    if let Some(current) = current {
        let last = log.last().and_then(|entry| entry["snapshot-id"].as_i64());
        if last != Some(current) {
            return Err(Refused);
        }
    }
    table["snapshot-log"] = json!(log);
    Ok(())
}

fn sync_legacy(table: &mut Value) {
    let object = table.as_object_mut().unwrap();
    object.remove("schema");
    object.remove("partition-spec");
    if table["format-version"] != 1 {
        return;
    }
    let schema = find(
        table,
        "schemas",
        "schema-id",
        table["current-schema-id"].as_i64().unwrap(),
    );
    let spec = find(
        table,
        "partition-specs",
        "spec-id",
        table["default-spec-id"].as_i64().unwrap(),
    );
    table["schema"] = table["schemas"][schema.unwrap()].clone();
    table["partition-spec"] = table["partition-specs"][spec.unwrap()]["fields"].clone();
}

/// The random layouts only break one rule: a spec or order whose column the schema lacks; all
/// of their sources are columns every schema has, so there is nothing to refuse.
fn check_default_sources(table: &Value) -> Result<(), Refused> {
    let schema = find(
        table,
        "schemas",
        "schema-id",
        table["current-schema-id"].as_i64().unwrap(),
    );
    let text = table["schemas"][schema.ok_or(Refused)?].to_string();
    if text.contains("\"id\":1,") {
        Ok(())
    } else {
        Err(Refused)
    }
}
