//! The Amazon S3 Tables API: table buckets, namespaces, tables.

use crate::error::ClientError;
use crate::sigv4::{Credentials, Scope, UNRESERVED};
use crate::tls::Trust;
use crate::transport::{Auth, Endpoint, Reply, Request};
use http::Method;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// A table bucket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableBucketSummary {
    /// ARN.
    pub arn: String,
    /// Name.
    pub name: String,
    /// RFC 3339 time, in UTC.
    pub created_at: String,
}

/// A table in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableSummary {
    /// Namespace levels; S3 Tables has one.
    pub namespace: Vec<String>,
    /// Name.
    pub name: String,
    /// ARN.
    #[serde(rename = "tableARN")]
    pub arn: String,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableDetails {
    /// Name.
    pub name: String,
    /// Namespace levels.
    pub namespace: Vec<String>,
    /// ARN.
    #[serde(rename = "tableARN")]
    pub arn: String,
    /// Changes with every version.
    pub version_token: String,
    /// The current metadata file.
    pub metadata_location: Option<String>,
    /// Where the table's files are.
    pub warehouse_location: String,
}

/// Where a table's metadata is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableMetadataLocation {
    /// To be given when it is changed.
    pub version_token: String,
    /// The current metadata file.
    pub metadata_location: Option<String>,
    /// Where the table's files are.
    pub warehouse_location: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BucketPage {
    table_buckets: Vec<TableBucketSummary>,
    continuation_token: Option<String>,
}

#[derive(Deserialize)]
struct NamespaceSummary {
    namespace: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NamespacePage {
    namespaces: Vec<NamespaceSummary>,
    continuation_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TablePage {
    tables: Vec<TableSummary>,
    continuation_token: Option<String>,
}

#[derive(Deserialize)]
struct CreatedBucket {
    arn: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreatedTable {
    #[serde(rename = "tableARN")]
    table_arn: String,
}

/// A server of the S3 Tables API; clones share connections.
#[derive(Clone, Debug)]
pub struct S3TablesClient {
    endpoint: Endpoint,
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

fn parse<T: DeserializeOwned>(operation: &'static str, reply: &Reply) -> Result<T, ClientError> {
    serde_json::from_slice(&reply.body).map_err(|error| ClientError::Answer {
        operation,
        cause: error.to_string(),
    })
}

impl S3TablesClient {
    /// The server at `uri`, certified as the system says.
    ///
    /// # Errors
    /// As [`Endpoint::trusting`].
    pub fn new(uri: &str, credentials: Credentials, region: &str) -> Result<Self, ClientError> {
        Self::trusting(uri, credentials, region, &Trust::System)
    }

    /// The server at `uri`, certified by `trust`.
    ///
    /// # Errors
    /// As [`Endpoint::trusting`].
    pub fn trusting(
        uri: &str,
        credentials: Credentials,
        region: &str,
        trust: &Trust,
    ) -> Result<Self, ClientError> {
        let scope = Scope {
            region: region.to_owned(),
            service: "s3tables".to_owned(),
        };
        let endpoint = Endpoint::trusting(uri, Auth::sigv4(credentials, scope), trust)?;
        Ok(Self { endpoint })
    }

    async fn send(&self, method: Method, path: String) -> Result<Reply, ClientError> {
        self.endpoint.send(&Request::new(method, path)).await
    }

    /// Reads all pages of a listing; `split` gives a page's items and the next token.
    async fn list<P: DeserializeOwned, T>(
        &self,
        operation: &'static str,
        path: &str,
        filter: &str,
        split: impl Fn(P) -> (Vec<T>, Option<String>),
    ) -> Result<Vec<T>, ClientError> {
        let mut found = Vec::new();
        let mut query = filter.to_owned();
        loop {
            let request = Request::new(Method::GET, path.to_owned()).query(query);
            let page = parse::<P>(operation, &self.endpoint.send(&request).await?)?;
            let (items, token) = split(page);
            found.extend(items);
            let Some(token) = token.filter(|t| !t.is_empty()) else {
                return Ok(found);
            };
            let and = if filter.is_empty() { "" } else { "&" };
            query = format!("continuationToken={}{and}{filter}", encode(&token));
        }
    }

    /// `CreateTableBucket`; returns the ARN.
    ///
    /// # Errors
    /// 409 if the name is taken.
    pub async fn create_table_bucket(&self, name: &str) -> Result<String, ClientError> {
        let body = json!({"name": name}).to_string();
        let request = Request::new(Method::PUT, "/buckets".into()).json(body);
        let reply = self.endpoint.send(&request).await?;
        Ok(parse::<CreatedBucket>("CreateTableBucket", &reply)?.arn)
    }

    /// `ListTableBuckets`, all pages.
    ///
    /// # Errors
    /// As any call.
    pub async fn list_table_buckets(&self) -> Result<Vec<TableBucketSummary>, ClientError> {
        let split = |p: BucketPage| (p.table_buckets, p.continuation_token);
        self.list("ListTableBuckets", "/buckets", "", split).await
    }

    /// `GetTableBucket`.
    ///
    /// # Errors
    /// 404 without such a bucket.
    pub async fn get_table_bucket(&self, arn: &str) -> Result<TableBucketSummary, ClientError> {
        let reply = self
            .send(Method::GET, format!("/buckets/{}", encode(arn)))
            .await?;
        parse("GetTableBucket", &reply)
    }

    /// `DeleteTableBucket`; it must be empty.
    ///
    /// # Errors
    /// 404 or 409.
    pub async fn delete_table_bucket(&self, arn: &str) -> Result<(), ClientError> {
        let path = format!("/buckets/{}", encode(arn));
        self.send(Method::DELETE, path).await.map(|_| ())
    }

    /// `CreateNamespace`.
    ///
    /// # Errors
    /// 404 without the bucket, 409 if it exists.
    pub async fn create_namespace(&self, bucket: &str, name: &str) -> Result<(), ClientError> {
        let path = format!("/namespaces/{}", encode(bucket));
        let body = json!({"namespace": [name]}).to_string();
        let request = Request::new(Method::PUT, path).json(body);
        self.endpoint.send(&request).await.map(|_| ())
    }

    /// `ListNamespaces`, all pages: names.
    ///
    /// # Errors
    /// 404 without such a bucket.
    pub async fn list_namespaces(&self, bucket: &str) -> Result<Vec<String>, ClientError> {
        let path = format!("/namespaces/{}", encode(bucket));
        let split = |p: NamespacePage| {
            let names = p.namespaces.into_iter().map(|n| n.namespace.join("."));
            (names.collect(), p.continuation_token)
        };
        self.list("ListNamespaces", &path, "", split).await
    }

    /// `DeleteNamespace`; it must be empty.
    ///
    /// # Errors
    /// 404 or 409.
    pub async fn delete_namespace(&self, bucket: &str, name: &str) -> Result<(), ClientError> {
        let path = format!("/namespaces/{}/{}", encode(bucket), encode(name));
        self.send(Method::DELETE, path).await.map(|_| ())
    }

    /// `CreateTable` without a schema; returns the ARN.
    ///
    /// # Errors
    /// 404 without the namespace, 409 if it exists.
    pub async fn create_table(
        &self,
        bucket: &str,
        namespace: &str,
        name: &str,
    ) -> Result<String, ClientError> {
        let path = format!("/tables/{}/{}", encode(bucket), encode(namespace));
        let body = json!({"name": name, "format": "ICEBERG"}).to_string();
        let request = Request::new(Method::PUT, path).json(body);
        let reply = self.endpoint.send(&request).await?;
        Ok(parse::<CreatedTable>("CreateTable", &reply)?.table_arn)
    }

    /// `ListTables` of one namespace or of the whole bucket, all pages.
    ///
    /// # Errors
    /// 404 without such a bucket.
    pub async fn list_tables(
        &self,
        bucket: &str,
        namespace: Option<&str>,
    ) -> Result<Vec<TableSummary>, ClientError> {
        let path = format!("/tables/{}", encode(bucket));
        let filter = namespace.map_or_else(String::new, |n| format!("namespace={}", encode(n)));
        let split = |p: TablePage| (p.tables, p.continuation_token);
        self.list("ListTables", &path, &filter, split).await
    }

    /// `GetTable` by names.
    ///
    /// # Errors
    /// 404 without such a table.
    pub async fn get_table(
        &self,
        bucket: &str,
        namespace: &str,
        name: &str,
    ) -> Result<TableDetails, ClientError> {
        let query = format!(
            "tableBucketARN={}&namespace={}&name={}",
            encode(bucket),
            encode(namespace),
            encode(name)
        );
        let request = Request::new(Method::GET, "/get-table".into()).query(query);
        parse("GetTable", &self.endpoint.send(&request).await?)
    }

    /// `GetTableMetadataLocation`.
    ///
    /// # Errors
    /// 404 without such a table.
    pub async fn get_table_metadata_location(
        &self,
        bucket: &str,
        namespace: &str,
        name: &str,
    ) -> Result<TableMetadataLocation, ClientError> {
        let table = table_path(bucket, namespace, name);
        let reply = self
            .send(Method::GET, format!("{table}/metadata-location"))
            .await?;
        parse("GetTableMetadataLocation", &reply)
    }

    /// `DeleteTable`.
    ///
    /// # Errors
    /// 404 without such a table.
    pub async fn delete_table(
        &self,
        bucket: &str,
        namespace: &str,
        name: &str,
    ) -> Result<(), ClientError> {
        let path = table_path(bucket, namespace, name);
        self.send(Method::DELETE, path).await.map(|_| ())
    }
}

fn table_path(bucket: &str, namespace: &str, name: &str) -> String {
    format!(
        "/tables/{}/{}/{}",
        encode(bucket),
        encode(namespace),
        encode(name)
    )
}
