//! The S3 Tables control API on its AWS paths: bytes to typed requests, outcomes to status codes.
//!
//! Shapes are those of the service model: ARNs are one path segment, timestamps are ISO 8601, and
//! errors carry their name in `x-amzn-errortype`. A setting whose absence would weaken security is
//! refused, never merely stored; an operation that does not exist yet says so.

mod api;
mod buckets;
mod failure;
mod metadata;
mod namespaces;
mod route;
mod tables;
mod target;
mod wire;

pub use api::{MOUNTS, S3TablesState, Settings, router};
pub use route::routes;
