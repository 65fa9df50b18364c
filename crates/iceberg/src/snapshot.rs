//! Snapshots and the small parts that point at them: refs, log entries, statistics, keys.

use std::sync::Arc;

use serde::Deserialize;

use crate::json::{JsonError, RawJson, RawObject, member, split_member};
use crate::sequence::{Fragment, Keyed};

/// The branch that is the table's current state.
pub const MAIN_BRANCH: &str = "main";

/// One snapshot of a table; the full text is [`Snapshot::json`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub snapshot_id: i64,
    pub parent_snapshot_id: Option<i64>,
    /// 0 for snapshots of v1 tables.
    pub sequence_number: i64,
    /// Milliseconds since the Unix epoch, from the writer's clock.
    pub timestamp_ms: i64,
    /// Absent only for v1 snapshots that list their manifests inline.
    pub manifest_list: Option<Arc<str>>,
    /// `append`, `replace`, `overwrite` or `delete`, from the summary.
    pub operation: Option<Arc<str>>,
    pub schema_id: Option<i32>,
    /// v3: first row id of the rows this snapshot adds.
    pub first_row_id: Option<i64>,
    /// v3: upper bound of the number of rows that got ids.
    pub added_rows: Option<i64>,
    /// v3: the key that encrypts the manifest list's key metadata.
    pub key_id: Option<Arc<str>>,
    json: Arc<str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SnapshotFields {
    snapshot_id: i64,
    parent_snapshot_id: Option<i64>,
    sequence_number: Option<i64>,
    timestamp_ms: i64,
    manifest_list: Option<Arc<str>>,
    manifests: Option<Vec<Arc<str>>>,
    summary: Option<RawJson>,
    schema_id: Option<i32>,
    first_row_id: Option<i64>,
    added_rows: Option<i64>,
    key_id: Option<Arc<str>>,
}

impl Snapshot {
    /// Reads a snapshot.
    pub fn parse(raw: &RawJson) -> Result<Self, JsonError> {
        let fields: SnapshotFields = raw.read()?;
        if fields.manifest_list.is_none() && fields.manifests.is_none() {
            return Err(JsonError::MissingField {
                field: "manifest-list",
            });
        }
        let operation = match fields.summary.filter(|summary| !summary.is_null()) {
            None => None,
            Some(summary) => {
                let summary = RawObject::parse(summary.as_str())?;
                for (name, value) in summary.members() {
                    value
                        .read::<String>()
                        .map_err(|_| JsonError::InvalidField {
                            field: format!("summary.{name}").into(),
                            detail: "expected a string".into(),
                        })?;
                }
                summary.optional("operation")?
            }
        };
        Ok(Self {
            snapshot_id: fields.snapshot_id,
            parent_snapshot_id: fields.parent_snapshot_id,
            sequence_number: fields.sequence_number.unwrap_or(0),
            timestamp_ms: fields.timestamp_ms,
            manifest_list: fields.manifest_list,
            operation,
            schema_id: fields.schema_id,
            first_row_id: fields.first_row_id,
            added_rows: fields.added_rows,
            key_id: fields.key_id,
            json: raw.text().clone(),
        })
    }

    /// The snapshot with the `sequence-number` member that v2 and later demand.
    ///
    /// Snapshots from v1 times lack it; readers that follow the format strictly refuse those.
    pub(crate) fn with_sequence_number(&self) -> Result<Option<Self>, JsonError> {
        let mut object = RawObject::parse(&self.json)?;
        if object.get("sequence-number").is_some() {
            return Ok(None);
        }
        object.set("sequence-number", RawJson::of(&self.sequence_number));
        Self::parse(&object.render()).map(Some)
    }

    /// The snapshot's JSON text.
    pub fn json(&self) -> &Arc<str> {
        &self.json
    }

    /// The files that list the snapshot's content: its manifest list, or the manifests that a v1
    /// snapshot names itself.
    pub fn manifest_files(&self) -> Result<Vec<Arc<str>>, JsonError> {
        match &self.manifest_list {
            Some(list) => Ok(vec![list.clone()]),
            None => RawObject::parse(&self.json)?.required("manifests"),
        }
    }

    /// The summary's JSON text, when there is one.
    pub fn summary(&self) -> Option<RawJson> {
        RawObject::parse(&self.json).ok()?.get("summary").cloned()
    }
}

impl Fragment for Snapshot {
    fn json(&self) -> &Arc<str> {
        &self.json
    }
}

impl Keyed for Snapshot {
    type Key = i64;
    fn key(&self) -> i64 {
        self.snapshot_id
    }
}

/// Whether a ref may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefKind {
    Branch,
    Tag,
}

impl RefKind {
    /// The word used in documents and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            RefKind::Branch => "branch",
            RefKind::Tag => "tag",
        }
    }
}

/// A branch or tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRef {
    pub name: Arc<str>,
    pub snapshot_id: i64,
    pub kind: RefKind,
    pub min_snapshots_to_keep: Option<i32>,
    pub max_snapshot_age_ms: Option<i64>,
    pub max_ref_age_ms: Option<i64>,
    json: Arc<str>,
}

/// A ref whose fields contradict each other or the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefError {
    #[error("Invalid snapshot ref: {0}")]
    Json(#[from] JsonError),
    #[error("Invalid snapshot ref type: {kind}")]
    Kind { kind: Arc<str> },
    #[error("Tags do not support setting {field}")]
    TagRetention { field: &'static str },
    #[error("Invalid snapshot ref: {field} must be greater than 0")]
    NotPositive { field: &'static str },
    #[error("Ref name is empty")]
    EmptyName,
}

impl SnapshotRef {
    /// Builds a ref from its name and the members of its object.
    pub(crate) fn new(name: Arc<str>, object: &RawObject) -> Result<Self, RefError> {
        let kind = match object.optional::<Arc<str>>("type")? {
            None => RefKind::Branch,
            Some(text) if text.eq_ignore_ascii_case("branch") => RefKind::Branch,
            Some(text) if text.eq_ignore_ascii_case("tag") => RefKind::Tag,
            Some(kind) => return Err(RefError::Kind { kind }),
        };
        Ok(Self {
            json: member(&name, object.render().as_str()),
            name,
            kind,
            snapshot_id: object.required("snapshot-id")?,
            min_snapshots_to_keep: object.optional("min-snapshots-to-keep")?,
            max_snapshot_age_ms: object.optional("max-snapshot-age-ms")?,
            max_ref_age_ms: object.optional("max-ref-age-ms")?,
        })
    }

    pub(crate) fn parse_member(text: &str) -> Result<Self, RefError> {
        let (name, value) = split_member(text)?;
        let mut parsed = Self::new(name, &RawObject::parse(value.as_str())?)?;
        parsed.json = text.into();
        Ok(parsed)
    }

    /// What a new ref has to satisfy, as the reference implementation's builder checks it.
    pub(crate) fn validate(&self) -> Result<(), RefError> {
        if self.name.is_empty() {
            return Err(RefError::EmptyName);
        }
        if self.kind == RefKind::Tag && self.min_snapshots_to_keep.is_some() {
            return Err(RefError::TagRetention {
                field: "minSnapshotsToKeep",
            });
        }
        if self.kind == RefKind::Tag && self.max_snapshot_age_ms.is_some() {
            return Err(RefError::TagRetention {
                field: "maxSnapshotAgeMs",
            });
        }
        let limits = [
            (
                "min-snapshots-to-keep",
                self.min_snapshots_to_keep.map(i64::from),
            ),
            ("max-snapshot-age-ms", self.max_snapshot_age_ms),
            ("max-ref-age-ms", self.max_ref_age_ms),
        ];
        match limits
            .into_iter()
            .find(|(_, limit)| limit.is_some_and(|limit| limit <= 0))
        {
            Some((field, _)) => Err(RefError::NotPositive { field }),
            None => Ok(()),
        }
    }

    /// Same target, kind and retention.
    pub(crate) fn same_as(&self, other: &SnapshotRef) -> bool {
        self.snapshot_id == other.snapshot_id
            && self.kind == other.kind
            && self.min_snapshots_to_keep == other.min_snapshots_to_keep
            && self.max_snapshot_age_ms == other.max_snapshot_age_ms
            && self.max_ref_age_ms == other.max_ref_age_ms
    }
}

impl Fragment for SnapshotRef {
    fn json(&self) -> &Arc<str> {
        &self.json
    }
}

impl Keyed for SnapshotRef {
    type Key = Arc<str>;
    fn key(&self) -> Arc<str> {
        self.name.clone()
    }
}

/// When a snapshot became current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotLogEntry {
    pub timestamp_ms: i64,
    pub snapshot_id: i64,
    json: Arc<str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SnapshotLogFields {
    timestamp_ms: i64,
    snapshot_id: i64,
}

impl SnapshotLogEntry {
    pub(crate) fn new(timestamp_ms: i64, snapshot_id: i64) -> Self {
        let json =
            format!("{{\"timestamp-ms\":{timestamp_ms},\"snapshot-id\":{snapshot_id}}}").into();
        Self {
            timestamp_ms,
            snapshot_id,
            json,
        }
    }

    pub(crate) fn parse(raw: &RawJson) -> Result<Self, JsonError> {
        let fields: SnapshotLogFields = raw.read()?;
        Ok(Self {
            timestamp_ms: fields.timestamp_ms,
            snapshot_id: fields.snapshot_id,
            json: raw.text().clone(),
        })
    }
}

impl Fragment for SnapshotLogEntry {
    fn json(&self) -> &Arc<str> {
        &self.json
    }
}

/// A metadata file that was current before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataLogEntry {
    pub timestamp_ms: i64,
    pub metadata_file: Arc<str>,
    json: Arc<str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MetadataLogFields {
    timestamp_ms: i64,
    metadata_file: Arc<str>,
}

impl MetadataLogEntry {
    /// An entry for a file that was written at a time.
    pub fn new(timestamp_ms: i64, metadata_file: &str) -> Self {
        let file = crate::json::quote(metadata_file);
        let json = format!("{{\"timestamp-ms\":{timestamp_ms},\"metadata-file\":{file}}}").into();
        Self {
            timestamp_ms,
            metadata_file: metadata_file.into(),
            json,
        }
    }

    pub(crate) fn parse(raw: &RawJson) -> Result<Self, JsonError> {
        let fields: MetadataLogFields = raw.read()?;
        Ok(Self {
            timestamp_ms: fields.timestamp_ms,
            metadata_file: fields.metadata_file,
            json: raw.text().clone(),
        })
    }
}

impl Fragment for MetadataLogEntry {
    fn json(&self) -> &Arc<str> {
        &self.json
    }
}

/// A statistics or partition statistics file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatisticsFile {
    pub snapshot_id: i64,
    pub statistics_path: Arc<str>,
    json: Arc<str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct StatisticsFields {
    snapshot_id: i64,
    statistics_path: Arc<str>,
    file_size_in_bytes: i64,
}

impl StatisticsFile {
    /// Reads a statistics file entry.
    pub fn parse(raw: &RawJson) -> Result<Self, JsonError> {
        let fields: StatisticsFields = raw.read()?;
        if fields.file_size_in_bytes < 0 {
            return Err(JsonError::InvalidField {
                field: "file-size-in-bytes".into(),
                detail: "must not be negative".into(),
            });
        }
        Ok(Self {
            snapshot_id: fields.snapshot_id,
            statistics_path: fields.statistics_path,
            json: raw.text().clone(),
        })
    }
}

impl Fragment for StatisticsFile {
    fn json(&self) -> &Arc<str> {
        &self.json
    }
}

impl Keyed for StatisticsFile {
    type Key = i64;
    fn key(&self) -> i64 {
        self.snapshot_id
    }
}

/// A table encryption key (v3); its material stays opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptionKey {
    pub key_id: Arc<str>,
    json: Arc<str>,
}

impl EncryptionKey {
    /// Reads an encryption key entry.
    pub fn parse(raw: &RawJson) -> Result<Self, JsonError> {
        let object = RawObject::parse(raw.as_str())?;
        object.required::<Arc<str>>("encrypted-key-metadata")?;
        Ok(Self {
            key_id: object.required("key-id")?,
            json: raw.text().clone(),
        })
    }
}

impl Fragment for EncryptionKey {
    fn json(&self) -> &Arc<str> {
        &self.json
    }
}

impl Keyed for EncryptionKey {
    type Key = Arc<str>;
    fn key(&self) -> Arc<str> {
        self.key_id.clone()
    }
}

/// A table property, or a top-level member this model does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub name: Arc<str>,
    /// The string of a property, the JSON text of an unknown member.
    pub value: Arc<str>,
    json: Arc<str>,
}

impl Member {
    pub fn property(name: &str, value: &str) -> Self {
        let json = member(name, &crate::json::quote(value));
        Self {
            name: name.into(),
            value: value.into(),
            json,
        }
    }

    pub fn extra(name: &str, value: &RawJson) -> Self {
        Self {
            name: name.into(),
            value: value.text().clone(),
            json: member(name, value.as_str()),
        }
    }

    /// A stored property; the value's own escapes stay as they are.
    pub fn parse_property(text: Arc<str>) -> Result<Self, JsonError> {
        let (name, value) = split_member(&text)?;
        let value = value
            .read::<Arc<str>>()
            .map_err(|_| JsonError::InvalidField {
                field: format!("properties.{name}").into(),
                detail: "expected a string".into(),
            })?;
        Ok(Self {
            name,
            value,
            json: text,
        })
    }

    pub fn parse_extra(text: Arc<str>) -> Result<Self, JsonError> {
        let (name, value) = split_member(&text)?;
        Ok(Self {
            name,
            value: value.text().clone(),
            json: text,
        })
    }
}

impl Fragment for Member {
    fn json(&self) -> &Arc<str> {
        &self.json
    }
}

impl Keyed for Member {
    type Key = Arc<str>;
    fn key(&self) -> Arc<str> {
        self.name.clone()
    }
}
