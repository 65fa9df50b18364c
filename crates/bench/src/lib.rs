//! Load generators for any Iceberg REST catalog and any S3 server.
//!
//! [`run_commits`] measures table commits, [`run_history`] how their cost grows with a table's
//! history, [`run_listings`] what listings, walks and loads do to commits beside them, [`run_objects`] uploads and
//! downloads. Each prepares what it needs, cleans up after
//! itself and returns a report that prints as a table and serializes as JSON.

mod commits;
mod history;
mod large;
mod listings;
mod load;
mod objects;
mod report;
mod scrape;
mod tables;
mod walks;

pub use commits::{CommitMode, CommitsConfig, CommitsReport, run_commits};
pub use history::{HistoryConfig, HistoryPoint, HistoryReport, run_history};
pub use large::LoadedTables;
pub use listings::{BesideReport, ListingsConfig, ListingsReport, run_listings};
pub use load::{Bound, Pace};
pub use objects::{ObjectsConfig, ObjectsReport, run_objects};
pub use report::{Latency, LoadReport};
pub use scrape::ServerCounters;
pub use tables::Afterwards;
pub use walks::WalkedObjects;

use floeberg_client::ClientError;

/// Why a benchmark did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A call outside the measurement failed.
    #[error("{step}: {source}")]
    Call {
        /// What was to be done.
        step: &'static str,
        /// The failure.
        source: ClientError,
    },
    /// The catalog's answer lacks something the load needs.
    #[error("the table metadata of `{table}` has no {field}")]
    Metadata {
        /// The table.
        table: String,
        /// What is missing.
        field: &'static str,
    },
    /// Numbers that make no load.
    #[error("{setting} must be greater than 0")]
    Zero {
        /// Which one.
        setting: &'static str,
    },
    /// A measured commit failed where every one must succeed.
    #[error("commit {number} of the history failed: {source}")]
    History {
        /// Its number.
        number: u64,
        /// The failure.
        source: ClientError,
    },
    /// An object was not put or not deleted.
    #[error("the objects of the bucket: {detail}")]
    Objects {
        /// The first failure.
        detail: String,
    },
    /// The scraped page lacks a counter or cannot be read.
    #[error("metrics page: {source}")]
    Metrics {
        /// The failure.
        source: ClientError,
    },
    /// A worker task panicked or the runtime stopped.
    #[error("a worker stopped early: {detail}")]
    Worker {
        /// What the runtime reported.
        detail: String,
    },
}

/// What was measured, or why nothing was; only then what kept its tables from being removed.
fn unless<T>(
    measured: Result<T, BenchError>,
    cleaned: Result<(), BenchError>,
) -> Result<T, BenchError> {
    measured.and_then(|measured| cleaned.map(|()| measured))
}

/// Names the step a failed call belongs to.
fn at(step: &'static str) -> impl Fn(ClientError) -> BenchError {
    move |source| BenchError::Call { step, source }
}
