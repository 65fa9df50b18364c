//! Bodies of the REST specification.

use crate::failure::Failure;
use floeberg_iceberg::{RawJson, TableRequirement, TableUpdate};
use floeberg_types::{Namespace, TableIdent};
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Reads a request body.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|err| Failure::bad_request(format!("malformed request body: {err}")))
}

/// String properties in the client's order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties(pub Vec<(Arc<str>, Arc<str>)>);

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Properties;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object whose values are strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Properties, A::Error> {
                let mut pairs = Vec::new();
                let mut seen = BTreeSet::new();
                while let Some((key, value)) = map.next_entry::<Arc<str>, Arc<str>>()? {
                    if !seen.insert(key.clone()) {
                        let text = format!("property `{key}` is given twice");
                        return Err(serde::de::Error::custom(text));
                    }
                    pairs.push((key, value));
                }
                Ok(Properties(pairs))
            }
            fn visit_unit<E>(self) -> Result<Properties, E> {
                Ok(Properties::default())
            }
        }
        deserializer.deserialize_any(InOrder)
    }
}

impl Properties {
    pub(crate) fn into_map(self) -> BTreeMap<String, String> {
        let pairs = self.0.into_iter();
        pairs.map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct CreateNamespaceRequest {
    pub namespace: Vec<String>,
    #[serde(default)]
    pub properties: Properties,
}

#[derive(Debug, Deserialize)]
pub(crate) struct UpdatePropertiesRequest {
    #[serde(default)]
    pub removals: Option<Vec<String>>,
    #[serde(default)]
    pub updates: Properties,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct CreateTableRequest {
    pub name: String,
    pub location: Option<String>,
    pub schema: RawJson,
    pub partition_spec: Option<RawJson>,
    pub write_order: Option<RawJson>,
    pub stage_create: Option<bool>,
    #[serde(default)]
    pub properties: Properties,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RegisterTableRequest {
    pub name: String,
    pub metadata_location: String,
    pub overwrite: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Identifier {
    pub namespace: Vec<String>,
    pub name: String,
}

impl Identifier {
    pub(crate) fn parse(self) -> Result<TableIdent, Failure> {
        Ok(TableIdent {
            namespace: Namespace::new(self.namespace)?,
            name: self.name.parse()?,
        })
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct RenameTableRequest {
    pub source: Identifier,
    pub destination: Identifier,
}

/// One table's part of a commit. Requirements and updates are read one by one, so that an unknown
/// one is named.
#[derive(Debug, Deserialize)]
pub(crate) struct CommitTableRequest {
    pub identifier: Option<Identifier>,
    pub requirements: Vec<RawJson>,
    pub updates: Vec<RawJson>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct CommitTransactionRequest {
    pub table_changes: Vec<CommitTableRequest>,
}

pub(crate) fn requirements(raw: &[RawJson]) -> Result<Vec<TableRequirement>, Failure> {
    raw.iter()
        .map(|one| TableRequirement::parse(one).map_err(Failure::bad_request))
        .collect()
}

pub(crate) fn updates(raw: &[RawJson]) -> Result<Vec<TableUpdate>, Failure> {
    raw.iter()
        .map(|one| TableUpdate::parse(one).map_err(Failure::bad_request))
        .collect()
}

#[derive(Serialize)]
pub(crate) struct NamespaceResponse<'a> {
    pub namespace: &'a [String],
    pub properties: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ListNamespacesResponse<'a> {
    pub namespaces: Vec<&'a [String]>,
    pub next_page_token: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct TableName<'a> {
    pub namespace: &'a [String],
    pub name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ListTablesResponse<'a> {
    pub identifiers: Vec<TableName<'a>>,
    pub next_page_token: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct UpdatePropertiesResponse {
    pub updated: Vec<String>,
    pub removed: Vec<String>,
    pub missing: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct ConfigResponse {
    pub defaults: BTreeMap<&'static str, String>,
    pub overrides: BTreeMap<&'static str, String>,
    pub endpoints: Vec<String>,
    #[serde(rename = "idempotency-key-lifetime")]
    pub idempotency_key_lifetime: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_the_wrong_shape_are_named() {
        let cases = [
            ("{", "EOF"),
            ("[]", "expected struct CreateTableRequest"),
            (r#"{"name":1,"schema":{}}"#, "invalid type: integer"),
            (r#"{"name":"t"}"#, "missing field `schema`"),
            (
                r#"{"name":"t","schema":{},"properties":{"a":1}}"#,
                "invalid type: integer",
            ),
            (
                r#"{"name":"t","schema":{},"properties":{"a":"1","a":"2"}}"#,
                "`a` is given twice",
            ),
            (
                r#"{"name":"t","schema":{},"properties":[]}"#,
                "an object whose values are strings",
            ),
            (r#"{"name":"t","name":"t","schema":{}}"#, "duplicate field"),
        ];
        for (body, wanted) in cases {
            let failure = read::<CreateTableRequest>(body.as_bytes()).unwrap_err();
            let text = failure.message();
            assert!(text.contains(wanted), "{body}: {text}");
        }
    }

    #[test]
    fn absent_and_null_fields_are_alike() {
        let full = r#"{"name":"t","location":null,"schema":{"a":1},"partition-spec":null,
            "write-order":null,"stage-create":null,"properties":null,"new-field":[1]}"#;
        let read: CreateTableRequest = read(full.as_bytes()).unwrap();
        assert!(read.location.is_none() && read.partition_spec.is_none());
        assert_eq!(read.schema.as_str(), r#"{"a":1}"#);
        assert_eq!(read.properties, Properties::default());
    }

    #[test]
    fn unknown_updates_and_requirements_are_named() {
        let raw = [RawJson::parse(r#"{"action":"make-coffee"}"#).unwrap()];
        assert!(updates(&raw).unwrap_err().message().contains("make-coffee"));
        let raw = [RawJson::parse(r#"{"type":"assert-coffee"}"#).unwrap()];
        assert!(
            requirements(&raw)
                .unwrap_err()
                .message()
                .contains("assert-coffee")
        );
    }
}
