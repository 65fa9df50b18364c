//! Typed HTTP clients for the command line, the benchmarks and tests.
//!
//! [`IcebergClient`] speaks the Iceberg REST catalog protocol, [`S3TablesClient`] the Amazon S3
//! Tables API and [`S3Client`] the part of S3 that those programs need. They share one small
//! HTTP/1.1 transport with AWS Signature Version 4 and Bearer tokens; they work against any
//! server of these protocols, with TLS if the address begins with `https`.

mod append;
mod error;
mod iceberg;
mod s3;
mod s3tables;
pub mod sigv4;
mod tls;
mod transport;
mod xml;

pub use append::{AppendCommit, ColumnType, CreateTableBody, transaction_body};
pub use error::{ClientError, ServiceError};
pub use iceberg::{IcebergAuth, IcebergClient, IcebergConfig, LoadedTable};
pub use s3::{ListedObject, ObjectHead, ObjectPage, S3Client};
pub use s3tables::{
    S3TablesClient, TableBucketSummary, TableDetails, TableMetadataLocation, TableSummary,
};
pub use sigv4::{Credentials, Scope};
pub use tls::Trust;
pub use transport::{Auth, Endpoint, Reply, Request};
