//! Request and response bodies of the service model.

use crate::failure::Failure;
use floeberg_iceberg::RawJson;
use floeberg_types::TimestampMs;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reads a request body; an absent one stands for an empty object.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|err| Failure::bad_request(format!("malformed request body: {err}")))
}

/// A time as ISO 8601 text.
pub(crate) fn iso8601(time: TimestampMs) -> String {
    let nanos = i128::from(time.0) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EncryptionConfiguration {
    pub sse_algorithm: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StorageClassConfiguration {
    pub storage_class: String,
}

/// Settings that buckets and tables take at creation.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreationSettings {
    pub encryption_configuration: Option<EncryptionConfiguration>,
    pub storage_class_configuration: Option<StorageClassConfiguration>,
    pub tags: Option<BTreeMap<String, String>>,
}

impl CreationSettings {
    /// Refuses what would be stored and not done.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if let Some(encryption) = &self.encryption_configuration {
            let text = format!(
                "encryption with {} is not supported yet; encrypt the disks below this cluster \
                 and leave encryptionConfiguration out",
                encryption.sse_algorithm
            );
            return Err(Failure::bad_request(text));
        }
        if let Some(class) = &self.storage_class_configuration
            && class.storage_class != "STANDARD"
        {
            let text = format!("storage class {} is not supported", class.storage_class);
            return Err(Failure::bad_request(text));
        }
        if self.tags.as_ref().is_some_and(|tags| !tags.is_empty()) {
            let text = "tags are not supported yet, and a policy may rely on them";
            return Err(Failure::bad_request(text));
        }
        Ok(())
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct CreateTableBucketRequest {
    pub name: String,
    #[serde(flatten)]
    pub settings: CreationSettings,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CreateNamespaceRequest {
    pub namespace: Vec<String>,
}

/// Not flattened: raw JSON cannot be read through a buffer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateTableRequest {
    pub name: String,
    pub format: String,
    pub metadata: Option<TableMetadataUnion>,
    pub encryption_configuration: Option<EncryptionConfiguration>,
    pub storage_class_configuration: Option<StorageClassConfiguration>,
    pub tags: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TableMetadataUnion {
    pub iceberg: Option<IcebergMetadata>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IcebergMetadata {
    pub schema: Option<IcebergSchema>,
    pub schema_v2: Option<IcebergSchemaV2>,
    pub partition_spec: Option<PartitionSpec>,
    pub write_order: Option<SortOrder>,
    pub properties: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct IcebergSchema {
    pub fields: Vec<SchemaField>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SchemaField {
    pub id: Option<i32>,
    pub name: String,
    pub r#type: String,
    pub required: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct IcebergSchemaV2 {
    pub r#type: String,
    pub fields: Vec<SchemaV2Field>,
    pub schema_id: Option<i32>,
    pub identifier_field_ids: Option<Vec<i32>>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct SchemaV2Field {
    pub id: i32,
    pub name: String,
    pub required: bool,
    pub r#type: RawJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doc: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct PartitionSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec_id: Option<i32>,
    pub fields: Vec<PartitionField>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct PartitionField {
    pub source_id: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_id: Option<i32>,
    pub name: String,
    pub transform: String,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct SortOrder {
    pub order_id: i32,
    pub fields: Vec<SortField>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct SortField {
    pub transform: String,
    pub source_id: i32,
    pub direction: String,
    pub null_order: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RenameTableRequest {
    pub new_namespace_name: Option<String>,
    pub new_name: Option<String>,
    pub version_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateMetadataLocationRequest {
    pub version_token: String,
    pub metadata_location: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableBucket {
    pub arn: String,
    pub name: String,
    pub owner_account_id: String,
    pub created_at: String,
    pub table_bucket_id: String,
    pub r#type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableBucketList {
    pub table_buckets: Vec<TableBucket>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continuation_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NamespaceDescription {
    pub namespace: Vec<String>,
    pub created_at: String,
    pub created_by: String,
    pub owner_account_id: String,
    pub namespace_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_bucket_id: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NamespaceList {
    pub namespaces: Vec<NamespaceDescription>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continuation_token: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct CreateNamespaceResponse<'a> {
    #[serde(rename = "tableBucketARN")]
    pub table_bucket_arn: String,
    pub namespace: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateTableResponse {
    #[serde(rename = "tableARN")]
    pub table_arn: String,
    pub version_token: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableDescription<'a> {
    pub name: &'a str,
    pub r#type: &'static str,
    #[serde(rename = "tableARN")]
    pub table_arn: String,
    pub namespace: &'a [String],
    pub namespace_id: String,
    pub version_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_location: Option<&'a str>,
    pub warehouse_location: &'a str,
    pub created_at: String,
    pub created_by: &'a str,
    pub modified_at: String,
    pub modified_by: &'a str,
    pub owner_account_id: &'a str,
    pub format: &'static str,
    pub table_bucket_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableSummary<'a> {
    pub namespace: &'a [String],
    pub name: &'a str,
    pub r#type: &'static str,
    #[serde(rename = "tableARN")]
    pub table_arn: String,
    pub created_at: String,
    pub modified_at: String,
    pub namespace_id: String,
    pub table_bucket_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TableList<'a> {
    pub tables: Vec<TableSummary<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continuation_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MetadataLocationResponse {
    pub version_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_location: Option<String>,
    pub warehouse_location: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateMetadataLocationResponse<'a> {
    pub name: &'a str,
    #[serde(rename = "tableARN")]
    pub table_arn: String,
    pub namespace: &'a [String],
    pub version_token: String,
    pub metadata_location: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_iso_8601() {
        assert_eq!(iso8601(TimestampMs(0)), "1970-01-01T00:00:00Z");
        assert_eq!(
            iso8601(TimestampMs(1_795_169_589_123)),
            "2026-11-20T10:13:09.123Z"
        );
    }

    #[test]
    fn settings_that_would_not_be_done_are_refused() {
        let check = |text: &str| {
            let request: CreateTableBucketRequest = read(text.as_bytes()).unwrap();
            request
                .settings
                .check()
                .map_err(|failure| failure.message().to_owned())
        };
        assert_eq!(check(r#"{"name":"b"}"#), Ok(()));
        assert_eq!(
            check(r#"{"name":"b","storageClassConfiguration":{"storageClass":"STANDARD"}}"#),
            Ok(())
        );
        let kms = r#"{"name":"b","encryptionConfiguration":{"sseAlgorithm":"aws:kms"}}"#;
        assert!(check(kms).unwrap_err().contains("aws:kms is not supported"));
        let tiering =
            r#"{"name":"b","storageClassConfiguration":{"storageClass":"INTELLIGENT_TIERING"}}"#;
        assert!(check(tiering).unwrap_err().contains("INTELLIGENT_TIERING"));
        assert!(
            check(r#"{"name":"b","tags":{"a":"b"}}"#)
                .unwrap_err()
                .contains("tags")
        );
        assert_eq!(check(r#"{"name":"b","tags":{}}"#), Ok(()));
    }
}
