//! Commit requirements: what a client asserts about the table it prepared its updates on.

use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::json::{JsonError, RawJson, RawObject};
use crate::metadata::TableMetadata;

/// One assertion about the base of a commit.
///
/// Deserializing needs `serde_json` (directly, not through a buffered or flattened field).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableRequirement {
    AssertCreate,
    AssertTableUuid {
        uuid: Arc<str>,
    },
    /// `None` asserts that the ref does not exist.
    AssertRefSnapshotId {
        name: Arc<str>,
        snapshot_id: Option<i64>,
    },
    AssertLastAssignedFieldId {
        last_assigned_field_id: i32,
    },
    AssertCurrentSchemaId {
        current_schema_id: i32,
    },
    AssertLastAssignedPartitionId {
        last_assigned_partition_id: i32,
    },
    AssertDefaultSpecId {
        default_spec_id: i32,
    },
    AssertDefaultSortOrderId {
        default_sort_order_id: i32,
    },
}

/// A requirement object that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedRequirement {
    #[error("Invalid table requirement: {0}")]
    Json(#[from] JsonError),
    #[error("Invalid table requirement {kind}: {error}")]
    Field { kind: Arc<str>, error: JsonError },
    #[error("Cannot parse table requirement: unknown type {kind}")]
    UnknownType { kind: Arc<str> },
}

/// A requirement that does not hold; the texts are those the compatibility kit asserts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequirementFailed {
    #[error("Requirement failed: table already exists")]
    TableExists,
    #[error("Requirement failed: table does not exist")]
    TableMissing,
    #[error("Requirement failed: UUID does not match: expected {actual} != {requested}")]
    Uuid {
        actual: Arc<str>,
        requested: Arc<str>,
    },
    #[error("Requirement failed: {kind} {name} was created concurrently")]
    RefCreated { kind: &'static str, name: Arc<str> },
    #[error("Requirement failed: {kind} {name} has changed: expected id {expected} != {actual}")]
    RefChanged {
        kind: &'static str,
        name: Arc<str>,
        expected: i64,
        actual: i64,
    },
    #[error("Requirement failed: branch or tag {name} is missing, expected {expected}")]
    RefMissing { name: Arc<str>, expected: i64 },
    #[error(
        "Requirement failed: last assigned field id changed: expected id {expected} != {actual}"
    )]
    LastFieldId { expected: i32, actual: i32 },
    #[error("Requirement failed: current schema changed: expected id {expected} != {actual}")]
    CurrentSchema { expected: i32, actual: i32 },
    #[error(
        "Requirement failed: last assigned partition id changed: \
         expected id {expected} != {actual}"
    )]
    LastPartitionId { expected: i32, actual: i32 },
    #[error(
        "Requirement failed: default partition spec changed: expected id {expected} != {actual}"
    )]
    DefaultSpec { expected: i32, actual: i32 },
    #[error("Requirement failed: default sort order changed: expected id {expected} != {actual}")]
    DefaultSortOrder { expected: i32, actual: i32 },
}

/// Checks all requirements in order against the base; `None` means the table does not exist.
pub fn check(
    requirements: &[TableRequirement],
    base: Option<&TableMetadata>,
) -> Result<(), RequirementFailed> {
    requirements
        .iter()
        .try_for_each(|requirement| requirement.check(base))
}

impl TableRequirement {
    /// The `type` of the requirement.
    pub fn kind(&self) -> &'static str {
        match self {
            TableRequirement::AssertCreate => "assert-create",
            TableRequirement::AssertTableUuid { .. } => "assert-table-uuid",
            TableRequirement::AssertRefSnapshotId { .. } => "assert-ref-snapshot-id",
            TableRequirement::AssertLastAssignedFieldId { .. } => "assert-last-assigned-field-id",
            TableRequirement::AssertCurrentSchemaId { .. } => "assert-current-schema-id",
            TableRequirement::AssertLastAssignedPartitionId { .. } => {
                "assert-last-assigned-partition-id"
            }
            TableRequirement::AssertDefaultSpecId { .. } => "assert-default-spec-id",
            TableRequirement::AssertDefaultSortOrderId { .. } => "assert-default-sort-order-id",
        }
    }

    /// Checks one requirement against the base; `None` means the table does not exist.
    pub fn check(&self, base: Option<&TableMetadata>) -> Result<(), RequirementFailed> {
        if let TableRequirement::AssertCreate = self {
            return base.map_or(Ok(()), |_| Err(RequirementFailed::TableExists));
        }
        let Some(base) = base else {
            // The reference implementation lets these two hold for a table yet to be created.
            return match self {
                TableRequirement::AssertLastAssignedFieldId { .. }
                | TableRequirement::AssertLastAssignedPartitionId { .. } => Ok(()),
                _ => Err(RequirementFailed::TableMissing),
            };
        };
        let core = base.core();
        match self {
            TableRequirement::AssertCreate => Ok(()),
            TableRequirement::AssertTableUuid { uuid } => {
                let actual = base.uuid().unwrap_or("null");
                if actual.eq_ignore_ascii_case(uuid) {
                    return Ok(());
                }
                Err(RequirementFailed::Uuid {
                    actual: actual.into(),
                    requested: uuid.clone(),
                })
            }
            TableRequirement::AssertRefSnapshotId { name, snapshot_id } => {
                check_ref(base, name, *snapshot_id)
            }
            TableRequirement::AssertLastAssignedFieldId {
                last_assigned_field_id: expected,
            } => same(*expected, core.last_column_id, |expected, actual| {
                RequirementFailed::LastFieldId { expected, actual }
            }),
            TableRequirement::AssertCurrentSchemaId {
                current_schema_id: expected,
            } => same(*expected, core.current_schema_id, |expected, actual| {
                RequirementFailed::CurrentSchema { expected, actual }
            }),
            TableRequirement::AssertLastAssignedPartitionId {
                last_assigned_partition_id: expected,
            } => same(*expected, core.last_partition_id, |expected, actual| {
                RequirementFailed::LastPartitionId { expected, actual }
            }),
            TableRequirement::AssertDefaultSpecId {
                default_spec_id: expected,
            } => same(*expected, core.default_spec_id, |expected, actual| {
                RequirementFailed::DefaultSpec { expected, actual }
            }),
            TableRequirement::AssertDefaultSortOrderId {
                default_sort_order_id: expected,
            } => same(*expected, core.default_sort_order_id, |expected, actual| {
                RequirementFailed::DefaultSortOrder { expected, actual }
            }),
        }
    }

    /// Reads one requirement object.
    pub fn parse(raw: &RawJson) -> Result<Self, MalformedRequirement> {
        let object = RawObject::parse(raw.as_str())?;
        let kind: Arc<str> = object.required("type")?;
        Self::parse_kind(&kind, &object)
            .map_err(|error| MalformedRequirement::Field {
                kind: kind.clone(),
                error,
            })?
            .ok_or(MalformedRequirement::UnknownType { kind })
    }

    fn parse_kind(kind: &str, object: &RawObject) -> Result<Option<Self>, JsonError> {
        Ok(Some(match kind {
            "assert-create" => TableRequirement::AssertCreate,
            "assert-table-uuid" => TableRequirement::AssertTableUuid {
                uuid: object.required("uuid")?,
            },
            "assert-ref-snapshot-id" => TableRequirement::AssertRefSnapshotId {
                name: object.required("ref")?,
                snapshot_id: object.optional("snapshot-id")?,
            },
            "assert-last-assigned-field-id" => TableRequirement::AssertLastAssignedFieldId {
                last_assigned_field_id: object.required("last-assigned-field-id")?,
            },
            "assert-current-schema-id" => TableRequirement::AssertCurrentSchemaId {
                current_schema_id: object.required("current-schema-id")?,
            },
            "assert-last-assigned-partition-id" => {
                TableRequirement::AssertLastAssignedPartitionId {
                    last_assigned_partition_id: object.required("last-assigned-partition-id")?,
                }
            }
            "assert-default-spec-id" => TableRequirement::AssertDefaultSpecId {
                default_spec_id: object.required("default-spec-id")?,
            },
            "assert-default-sort-order-id" => TableRequirement::AssertDefaultSortOrderId {
                default_sort_order_id: object.required("default-sort-order-id")?,
            },
            _ => return Ok(None),
        }))
    }
}

fn same(
    expected: i32,
    actual: i32,
    failed: impl FnOnce(i32, i32) -> RequirementFailed,
) -> Result<(), RequirementFailed> {
    if expected == actual {
        Ok(())
    } else {
        Err(failed(expected, actual))
    }
}

fn check_ref(
    base: &TableMetadata,
    name: &Arc<str>,
    expected: Option<i64>,
) -> Result<(), RequirementFailed> {
    let name = name.clone();
    match (base.reference(&name), expected) {
        (None, None) => Ok(()),
        (None, Some(expected)) => Err(RequirementFailed::RefMissing { name, expected }),
        (Some(found), None) => Err(RequirementFailed::RefCreated {
            kind: found.kind.as_str(),
            name,
        }),
        (Some(found), Some(expected)) if found.snapshot_id == expected => Ok(()),
        (Some(found), Some(expected)) => Err(RequirementFailed::RefChanged {
            kind: found.kind.as_str(),
            name,
            expected,
            actual: found.snapshot_id,
        }),
    }
}

impl<'de> Deserialize<'de> for TableRequirement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawJson::deserialize(deserializer)?;
        TableRequirement::parse(&raw).map_err(serde::de::Error::custom)
    }
}

impl Serialize for TableRequirement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", self.kind())?;
        match self {
            TableRequirement::AssertCreate => {}
            TableRequirement::AssertTableUuid { uuid } => map.serialize_entry("uuid", uuid)?,
            TableRequirement::AssertRefSnapshotId { name, snapshot_id } => {
                map.serialize_entry("ref", name)?;
                map.serialize_entry("snapshot-id", snapshot_id)?;
            }
            TableRequirement::AssertLastAssignedFieldId {
                last_assigned_field_id,
            } => {
                map.serialize_entry("last-assigned-field-id", last_assigned_field_id)?;
            }
            TableRequirement::AssertCurrentSchemaId { current_schema_id } => {
                map.serialize_entry("current-schema-id", current_schema_id)?;
            }
            TableRequirement::AssertLastAssignedPartitionId {
                last_assigned_partition_id,
            } => {
                map.serialize_entry("last-assigned-partition-id", last_assigned_partition_id)?;
            }
            TableRequirement::AssertDefaultSpecId { default_spec_id } => {
                map.serialize_entry("default-spec-id", default_spec_id)?;
            }
            TableRequirement::AssertDefaultSortOrderId {
                default_sort_order_id,
            } => {
                map.serialize_entry("default-sort-order-id", default_sort_order_id)?;
            }
        }
        map.end()
    }
}
