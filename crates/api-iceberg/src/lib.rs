//! The Iceberg REST catalog under `/iceberg/v1/`: bytes to typed requests, outcomes to status codes.
//!
//! Status codes are a safety matter here: clients delete files on 409 and repeat on 503, so 409 is
//! sent only for what was not applied and never will be, and 503 only before anything was proposed.
//! [`failure`] holds one exhaustive mapping per operation. Table metadata is never parsed on its way
//! out: an answer joins the stored document with a few fields around it.

mod access;
mod api;
mod config;
mod failure;
mod idempotency;
mod namespaces;
mod oauth;
mod route;
mod tables;
mod target;
mod wire;

pub use api::{IcebergState, MOUNTS, Settings, router};
pub use route::routes;
