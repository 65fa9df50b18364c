//! Every route of both ports, as the route tables have them.

use floeberg_api_s3::{BodyKind, OPERATIONS};
use floeberg_http::BodySize;
use floeberg_types::limits::REQUEST_BODY_BYTES;
use std::fmt;

/// What a route reads of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reads {
    /// JSON of at most so many bytes.
    Json(usize),
    /// XML of at most so many bytes.
    Xml(usize),
    /// Bytes, as they come.
    Stream,
}

/// A route of one of the ports.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// On the S3 port, or the other one.
    pub(super) s3: bool,
    /// The operation, where the table names it.
    pub(super) operation: &'static str,
    /// The method.
    pub(super) method: &'static str,
    /// Path and query, with parts in braces that vary.
    pub(super) pattern: String,
    /// Its body.
    pub(super) reads: Reads,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.method, self.pattern, self.operation)
    }
}

impl Target {
    /// Whether its body is held in memory and may be large.
    pub(super) fn takes_much(&self) -> bool {
        match self.reads {
            Reads::Json(most) | Reads::Xml(most) => most > 64 << 10,
            Reads::Stream => false,
        }
    }

    fn lakehouse((method, pattern, body): (&'static str, String, BodySize)) -> Self {
        Self {
            s3: false,
            operation: "",
            method,
            pattern,
            reads: Reads::Json(body.bytes(REQUEST_BODY_BYTES)),
        }
    }
}

/// Every route of both ports.
pub(super) fn targets() -> Vec<Target> {
    let owned = |(method, path, body): (&'static str, &'static str, BodySize)| {
        Target::lakehouse((method, path.to_owned(), body))
    };
    let iceberg = floeberg_api_iceberg::routes().map(Target::lakehouse);
    let tables = floeberg_api_s3tables::routes().map(owned);
    let admin = floeberg_api_admin::routes().map(owned);
    let s3 = OPERATIONS.iter().map(|operation| Target {
        s3: true,
        operation: operation.name,
        method: operation.method,
        pattern: operation.target.to_owned(),
        reads: match operation.body {
            BodyKind::Nothing => Reads::Xml(0),
            BodyKind::Document(most) => Reads::Xml(most),
            BodyKind::Stream => Reads::Stream,
        },
    });
    iceberg.chain(tables).chain(admin).chain(s3).collect()
}
