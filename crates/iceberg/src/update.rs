//! Table updates of the REST catalog: all 23 actions, with payloads kept as text.

use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::json::{JsonError, RawJson, RawObject};
use crate::snapshot::{RefError, SnapshotRef};

/// One change of a table's metadata, as a client asks for it.
///
/// Deserializing needs `serde_json` (directly, not through a buffered or flattened field).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableUpdate {
    AssignUuid {
        uuid: Arc<str>,
    },
    UpgradeFormatVersion {
        format_version: i64,
    },
    AddSchema {
        schema: RawJson,
    },
    /// -1 means the schema that this commit added last.
    SetCurrentSchema {
        schema_id: i32,
    },
    AddSpec {
        spec: RawJson,
    },
    /// -1 means the spec that this commit added last.
    SetDefaultSpec {
        spec_id: i32,
    },
    AddSortOrder {
        sort_order: RawJson,
    },
    /// -1 means the sort order that this commit added last.
    SetDefaultSortOrder {
        sort_order_id: i32,
    },
    AddSnapshot {
        snapshot: RawJson,
    },
    SetSnapshotRef {
        reference: SnapshotRef,
        object: RawObject,
    },
    RemoveSnapshots {
        snapshot_ids: Vec<i64>,
    },
    RemoveSnapshotRef {
        ref_name: Arc<str>,
    },
    SetLocation {
        location: Arc<str>,
    },
    SetProperties {
        updates: Vec<(Arc<str>, Arc<str>)>,
    },
    RemoveProperties {
        removals: Vec<Arc<str>>,
    },
    SetStatistics {
        statistics: RawJson,
    },
    RemoveStatistics {
        snapshot_id: i64,
    },
    SetPartitionStatistics {
        partition_statistics: RawJson,
    },
    RemovePartitionStatistics {
        snapshot_id: i64,
    },
    RemovePartitionSpecs {
        spec_ids: Vec<i32>,
    },
    RemoveSchemas {
        schema_ids: Vec<i32>,
    },
    AddEncryptionKey {
        encryption_key: RawJson,
    },
    RemoveEncryptionKey {
        key_id: Arc<str>,
    },
}

impl TableUpdate {
    /// Bytes of the text and numbers in it, roughly: what working with it costs.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::AddSchema { schema: json }
            | Self::AddSpec { spec: json }
            | Self::AddSortOrder { sort_order: json }
            | Self::AddSnapshot { snapshot: json }
            | Self::SetStatistics { statistics: json }
            | Self::SetPartitionStatistics {
                partition_statistics: json,
            }
            | Self::AddEncryptionKey {
                encryption_key: json,
            } => json.as_str().len(),
            Self::SetProperties { updates } => updates
                .iter()
                .map(|(name, value)| name.len() + value.len())
                .sum(),
            Self::RemoveProperties { removals } => removals.iter().map(|name| name.len()).sum(),
            Self::RemoveSnapshots { snapshot_ids } => size_of_val(&snapshot_ids[..]),
            Self::RemovePartitionSpecs { spec_ids } => size_of_val(&spec_ids[..]),
            Self::RemoveSchemas { schema_ids } => size_of_val(&schema_ids[..]),
            Self::AssignUuid { uuid: text }
            | Self::RemoveSnapshotRef { ref_name: text }
            | Self::SetLocation { location: text }
            | Self::RemoveEncryptionKey { key_id: text } => text.len(),
            Self::UpgradeFormatVersion { .. }
            | Self::SetCurrentSchema { .. }
            | Self::SetDefaultSpec { .. }
            | Self::SetDefaultSortOrder { .. }
            | Self::SetSnapshotRef { .. }
            | Self::RemoveStatistics { .. }
            | Self::RemovePartitionStatistics { .. } => size_of::<Self>(),
        }
    }
}

/// An update object that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedUpdate {
    #[error("Invalid table update: {0}")]
    Json(#[from] JsonError),
    #[error("Invalid table update {action}: {error}")]
    Field { action: Arc<str>, error: JsonError },
    #[error("Invalid table update set-snapshot-ref: {0}")]
    Ref(#[from] RefError),
    #[error("Cannot parse table update: unknown action {action}")]
    UnknownAction { action: Arc<str> },
}

impl TableUpdate {
    /// The `action` of the update.
    pub fn action(&self) -> &'static str {
        match self {
            TableUpdate::AssignUuid { .. } => "assign-uuid",
            TableUpdate::UpgradeFormatVersion { .. } => "upgrade-format-version",
            TableUpdate::AddSchema { .. } => "add-schema",
            TableUpdate::SetCurrentSchema { .. } => "set-current-schema",
            TableUpdate::AddSpec { .. } => "add-spec",
            TableUpdate::SetDefaultSpec { .. } => "set-default-spec",
            TableUpdate::AddSortOrder { .. } => "add-sort-order",
            TableUpdate::SetDefaultSortOrder { .. } => "set-default-sort-order",
            TableUpdate::AddSnapshot { .. } => "add-snapshot",
            TableUpdate::SetSnapshotRef { .. } => "set-snapshot-ref",
            TableUpdate::RemoveSnapshots { .. } => "remove-snapshots",
            TableUpdate::RemoveSnapshotRef { .. } => "remove-snapshot-ref",
            TableUpdate::SetLocation { .. } => "set-location",
            TableUpdate::SetProperties { .. } => "set-properties",
            TableUpdate::RemoveProperties { .. } => "remove-properties",
            TableUpdate::SetStatistics { .. } => "set-statistics",
            TableUpdate::RemoveStatistics { .. } => "remove-statistics",
            TableUpdate::SetPartitionStatistics { .. } => "set-partition-statistics",
            TableUpdate::RemovePartitionStatistics { .. } => "remove-partition-statistics",
            TableUpdate::RemovePartitionSpecs { .. } => "remove-partition-specs",
            TableUpdate::RemoveSchemas { .. } => "remove-schemas",
            TableUpdate::AddEncryptionKey { .. } => "add-encryption-key",
            TableUpdate::RemoveEncryptionKey { .. } => "remove-encryption-key",
        }
    }

    /// Reads one update object.
    pub fn parse(raw: &RawJson) -> Result<Self, MalformedUpdate> {
        let object = RawObject::parse(raw.as_str())?;
        let action: Arc<str> = object.required("action")?;
        if &*action == "set-snapshot-ref" {
            return Self::parse_ref(object);
        }
        Self::parse_action(&action, &object)
            .map_err(|error| MalformedUpdate::Field {
                action: action.clone(),
                error,
            })?
            .ok_or(MalformedUpdate::UnknownAction { action })
    }

    fn parse_action(action: &str, object: &RawObject) -> Result<Option<Self>, JsonError> {
        let update = match action {
            "assign-uuid" => TableUpdate::AssignUuid {
                uuid: object.required("uuid")?,
            },
            "upgrade-format-version" => {
                let format_version = object.required("format-version")?;
                TableUpdate::UpgradeFormatVersion { format_version }
            }
            // `last-column-id` is deprecated: the highest field id of the schema counts.
            "add-schema" => TableUpdate::AddSchema {
                schema: object.required("schema")?,
            },
            "set-current-schema" => TableUpdate::SetCurrentSchema {
                schema_id: object.required("schema-id")?,
            },
            "add-spec" => TableUpdate::AddSpec {
                spec: object.required("spec")?,
            },
            "set-default-spec" => TableUpdate::SetDefaultSpec {
                spec_id: object.required("spec-id")?,
            },
            "add-sort-order" => TableUpdate::AddSortOrder {
                sort_order: object.required("sort-order")?,
            },
            "set-default-sort-order" => {
                let sort_order_id = object.required("sort-order-id")?;
                TableUpdate::SetDefaultSortOrder { sort_order_id }
            }
            "add-snapshot" => TableUpdate::AddSnapshot {
                snapshot: object.required("snapshot")?,
            },
            "remove-snapshots" => TableUpdate::RemoveSnapshots {
                snapshot_ids: object.required("snapshot-ids")?,
            },
            "remove-snapshot-ref" => TableUpdate::RemoveSnapshotRef {
                ref_name: object.required("ref-name")?,
            },
            "set-location" => TableUpdate::SetLocation {
                location: object.required("location")?,
            },
            // `updated` and `removed` are the names older clients use.
            "set-properties" => {
                let name = if object.get("updates").is_none() {
                    "updated"
                } else {
                    "updates"
                };
                let updates: RawObject = object.required(name)?;
                TableUpdate::SetProperties {
                    updates: strings(&updates)?,
                }
            }
            "remove-properties" => {
                let name = if object.get("removals").is_none() {
                    "removed"
                } else {
                    "removals"
                };
                TableUpdate::RemoveProperties {
                    removals: object.required(name)?,
                }
            }
            // The `snapshot-id` beside the statistics is deprecated: the one inside counts.
            "set-statistics" => TableUpdate::SetStatistics {
                statistics: object.required("statistics")?,
            },
            _ => return Self::parse_rare_action(action, object),
        };
        Ok(Some(update))
    }

    fn parse_rare_action(action: &str, object: &RawObject) -> Result<Option<Self>, JsonError> {
        let update = match action {
            "remove-statistics" => TableUpdate::RemoveStatistics {
                snapshot_id: object.required("snapshot-id")?,
            },
            "set-partition-statistics" => TableUpdate::SetPartitionStatistics {
                partition_statistics: object.required("partition-statistics")?,
            },
            "remove-partition-statistics" => TableUpdate::RemovePartitionStatistics {
                snapshot_id: object.required("snapshot-id")?,
            },
            "remove-partition-specs" => TableUpdate::RemovePartitionSpecs {
                spec_ids: object.required("spec-ids")?,
            },
            "remove-schemas" => TableUpdate::RemoveSchemas {
                schema_ids: object.required("schema-ids")?,
            },
            "add-encryption-key" => TableUpdate::AddEncryptionKey {
                encryption_key: object.required("encryption-key")?,
            },
            "remove-encryption-key" => TableUpdate::RemoveEncryptionKey {
                key_id: object.required("key-id")?,
            },
            _ => return Ok(None),
        };
        Ok(Some(update))
    }

    /// The ref keeps every member beside `action` and `ref-name`, known or not.
    fn parse_ref(mut object: RawObject) -> Result<Self, MalformedUpdate> {
        object.remove("action");
        let name: Arc<str> = object.required("ref-name")?;
        object.remove("ref-name");
        object.remove_nulls();
        if object.get("type").is_none() {
            return Err(JsonError::MissingField { field: "type" }.into());
        }
        let reference = SnapshotRef::new(name, &object)?;
        reference.validate()?;
        Ok(TableUpdate::SetSnapshotRef { reference, object })
    }
}

/// Names and values of string members, in request order.
type Strings = Vec<(Arc<str>, Arc<str>)>;

fn strings(object: &RawObject) -> Result<Strings, JsonError> {
    let value = |name: &Arc<str>, raw: &RawJson| {
        raw.read::<Arc<str>>().map_err(|_| JsonError::InvalidField {
            field: name.clone(),
            detail: "expected a string".into(),
        })
    };
    let names = RawObject::parse(object.render().as_str())?;
    names
        .members()
        .iter()
        .map(|(name, raw)| Ok((name.clone(), value(name, raw)?)))
        .collect()
}

fn string_object(members: &[(Arc<str>, Arc<str>)]) -> RawJson {
    let member = |(name, value): &(Arc<str>, Arc<str>)| (name.clone(), RawJson::of(value));
    RawObject::of_members(members.iter().map(member)).render()
}

impl<'de> Deserialize<'de> for TableUpdate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawJson::deserialize(deserializer)?;
        TableUpdate::parse(&raw).map_err(serde::de::Error::custom)
    }
}

impl Serialize for TableUpdate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("action", self.action())?;
        match self {
            TableUpdate::AssignUuid { uuid } => map.serialize_entry("uuid", uuid)?,
            TableUpdate::UpgradeFormatVersion { format_version } => {
                map.serialize_entry("format-version", format_version)?;
            }
            TableUpdate::AddSchema { schema } => map.serialize_entry("schema", schema)?,
            TableUpdate::SetCurrentSchema { schema_id } => {
                map.serialize_entry("schema-id", schema_id)?;
            }
            TableUpdate::AddSpec { spec } => map.serialize_entry("spec", spec)?,
            TableUpdate::SetDefaultSpec { spec_id } => map.serialize_entry("spec-id", spec_id)?,
            TableUpdate::AddSortOrder { sort_order } => {
                map.serialize_entry("sort-order", sort_order)?;
            }
            TableUpdate::SetDefaultSortOrder { sort_order_id } => {
                map.serialize_entry("sort-order-id", sort_order_id)?;
            }
            TableUpdate::AddSnapshot { snapshot } => map.serialize_entry("snapshot", snapshot)?,
            TableUpdate::SetSnapshotRef { reference, object } => {
                map.serialize_entry("ref-name", &reference.name)?;
                for (name, value) in object.members() {
                    map.serialize_entry(name, value)?;
                }
            }
            TableUpdate::RemoveSnapshots { snapshot_ids } => {
                map.serialize_entry("snapshot-ids", snapshot_ids)?;
            }
            TableUpdate::RemoveSnapshotRef { ref_name } => {
                map.serialize_entry("ref-name", ref_name)?;
            }
            TableUpdate::SetLocation { location } => map.serialize_entry("location", location)?,
            TableUpdate::SetProperties { updates } => {
                map.serialize_entry("updates", &string_object(updates))?;
            }
            TableUpdate::RemoveProperties { removals } => {
                map.serialize_entry("removals", removals)?;
            }
            TableUpdate::SetStatistics { statistics } => {
                map.serialize_entry("statistics", statistics)?;
            }
            TableUpdate::RemoveStatistics { snapshot_id }
            | TableUpdate::RemovePartitionStatistics { snapshot_id } => {
                map.serialize_entry("snapshot-id", snapshot_id)?;
            }
            TableUpdate::SetPartitionStatistics {
                partition_statistics,
            } => {
                map.serialize_entry("partition-statistics", partition_statistics)?;
            }
            TableUpdate::RemovePartitionSpecs { spec_ids } => {
                map.serialize_entry("spec-ids", spec_ids)?;
            }
            TableUpdate::RemoveSchemas { schema_ids } => {
                map.serialize_entry("schema-ids", schema_ids)?;
            }
            TableUpdate::AddEncryptionKey { encryption_key } => {
                map.serialize_entry("encryption-key", encryption_key)?;
            }
            TableUpdate::RemoveEncryptionKey { key_id } => {
                map.serialize_entry("key-id", key_id)?;
            }
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_survives_a_round_trip() {
        let schema = r#"{"type":"struct","fields":[],"x-unknown":1.50}"#;
        let texts = [
            r#"{"action":"assign-uuid","uuid":"u"}"#.to_owned(),
            r#"{"action":"upgrade-format-version","format-version":3}"#.to_owned(),
            format!(r#"{{"action":"add-schema","schema":{schema}}}"#),
            r#"{"action":"set-current-schema","schema-id":-1}"#.to_owned(),
            r#"{"action":"add-spec","spec":{"fields":[]}}"#.to_owned(),
            r#"{"action":"set-default-spec","spec-id":-1}"#.to_owned(),
            r#"{"action":"add-sort-order","sort-order":{"order-id":0,"fields":[]}}"#.to_owned(),
            r#"{"action":"set-default-sort-order","sort-order-id":-1}"#.to_owned(),
            r#"{"action":"add-snapshot","snapshot":{"snapshot-id":1}}"#.to_owned(),
            r#"{"action":"set-snapshot-ref","ref-name":"t","type":"tag","snapshot-id":1,"x":2}"#
                .to_owned(),
            r#"{"action":"remove-snapshots","snapshot-ids":[1,2]}"#.to_owned(),
            r#"{"action":"remove-snapshot-ref","ref-name":"t"}"#.to_owned(),
            r#"{"action":"set-location","location":"s3://b/t"}"#.to_owned(),
            r#"{"action":"set-properties","updates":{"b":"1","a":"2"}}"#.to_owned(),
            r#"{"action":"remove-properties","removals":["b","a"]}"#.to_owned(),
            r#"{"action":"set-statistics","statistics":{"snapshot-id":1}}"#.to_owned(),
            r#"{"action":"remove-statistics","snapshot-id":1}"#.to_owned(),
            r#"{"action":"set-partition-statistics","partition-statistics":{}}"#.to_owned(),
            r#"{"action":"remove-partition-statistics","snapshot-id":1}"#.to_owned(),
            r#"{"action":"remove-partition-specs","spec-ids":[1]}"#.to_owned(),
            r#"{"action":"remove-schemas","schema-ids":[1]}"#.to_owned(),
            r#"{"action":"add-encryption-key","encryption-key":{"key-id":"k"}}"#.to_owned(),
            r#"{"action":"remove-encryption-key","key-id":"k"}"#.to_owned(),
        ];
        assert_eq!(texts.len(), 23);
        for text in texts {
            let update: TableUpdate = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&update).unwrap(), text);
        }
    }

    #[test]
    fn deprecated_fields_are_accepted() {
        for text in [
            r#"{"action":"add-schema","schema":{"fields":[]},"last-column-id":7}"#,
            r#"{"action":"set-statistics","snapshot-id":1,"statistics":{"snapshot-id":1}}"#,
            r#"{"action":"set-properties","updated":{"a":"b"}}"#,
            r#"{"action":"remove-properties","removed":["a"]}"#,
        ] {
            serde_json::from_str::<TableUpdate>(text).unwrap();
        }
    }

    #[test]
    fn malformed_updates_have_clear_texts() {
        let text = |json: &str| {
            TableUpdate::parse(&RawJson::parse(json).unwrap())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            text(r#"{"action":"fly"}"#),
            "Cannot parse table update: unknown action fly"
        );
        assert_eq!(
            text(r#"{"action":"set-location"}"#),
            "Invalid table update set-location: missing field `location`"
        );
        assert_eq!(text("{}"), "Invalid table update: missing field `action`");
        assert!(text(r#"{"action":"set-properties","updates":{"a":1}}"#).contains("`a`"));
        assert_eq!(
            text(
                r#"{"action":"set-snapshot-ref","ref-name":"t","type":"tag","snapshot-id":1,
                    "max-snapshot-age-ms":5}"#
            ),
            "Invalid table update set-snapshot-ref: Tags do not support setting maxSnapshotAgeMs"
        );
    }
}
