//! What a loaded table says about its history, read from metadata as the Iceberg specification
//! (Table Metadata and Snapshots) defines it.

use anyhow::Context as _;
use floeberg_client::LoadedTable;
use serde_json::Value;

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: i64,
    /// Its parent's id.
    pub parent: Option<i64>,
    /// Its sequence number.
    pub sequence: i64,
}

/// A table as it was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Where its current metadata file is.
    pub metadata_location: String,
    /// Its location.
    pub location: String,
    /// Its UUID.
    pub uuid: String,
    /// All its snapshots, in the order of the document.
    pub snapshots: Vec<Snapshot>,
    /// The head of `main`.
    pub head: Option<i64>,
    /// `last-sequence-number`.
    pub last_sequence: i64,
    /// Metadata files that the table still names, the current one included.
    pub named_files: Vec<String>,
    /// The whole metadata, to compare.
    pub text: String,
}

impl Observed {
    /// Reads an answer of the catalog.
    ///
    /// # Errors
    /// If a required field is missing or of another type.
    pub fn of(loaded: &LoadedTable) -> anyhow::Result<Self> {
        let metadata = &loaded.metadata;
        let text = |name: &str| {
            let value = metadata[name]
                .as_str()
                .with_context(|| format!("no `{name}`"))?;
            Ok::<_, anyhow::Error>(value.to_owned())
        };
        let metadata_location = loaded
            .metadata_location
            .clone()
            .context("no `metadata-location`")?;
        let snapshots = array(metadata, "snapshots").iter().map(snapshot);
        let mut named_files: Vec<String> = array(metadata, "metadata-log")
            .iter()
            .filter_map(|entry| entry["metadata-file"].as_str().map(str::to_owned))
            .collect();
        named_files.push(metadata_location.clone());
        Ok(Self {
            metadata_location,
            location: text("location")?,
            uuid: text("table-uuid")?,
            snapshots: snapshots.collect::<anyhow::Result<_>>()?,
            head: metadata["refs"]["main"]["snapshot-id"].as_i64(),
            last_sequence: metadata["last-sequence-number"].as_i64().unwrap_or(0),
            named_files,
            text: metadata.to_string(),
        })
    }
}

fn array<'a>(metadata: &'a Value, name: &str) -> &'a [Value] {
    metadata[name].as_array().map_or(&[], Vec::as_slice)
}

fn snapshot(value: &Value) -> anyhow::Result<Snapshot> {
    let number = |name: &str| {
        value[name]
            .as_i64()
            .with_context(|| format!("snapshot without `{name}`"))
    };
    Ok(Snapshot {
        id: number("snapshot-id")?,
        parent: value["parent-snapshot-id"].as_i64(),
        sequence: number("sequence-number")?,
    })
}

/// Bucket and key of an `s3://` location.
///
/// # Errors
/// If it is none.
pub fn bucket_and_key(location: &str) -> anyhow::Result<(&str, &str)> {
    let path = location
        .strip_prefix("s3://")
        .and_then(|rest| rest.split_once('/'));
    path.with_context(|| format!("`{location}` is no s3:// location"))
}
