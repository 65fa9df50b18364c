//! The line that every answer leaves in the log, the same on every port.
//!
//! A refusal is `info`: somebody asks why, and the request id leads here. An answer that means the
//! server failed is `warn`. 501 and 503 are not: they say what a request can or cannot get at this
//! moment, and nothing is wrong.

use http::{Method, StatusCode};
use std::time::Duration;
use tracing::{Level, Span};

/// What the log says of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// The id in the answer's headers and, if it failed, in its body.
    pub request_id: &'a str,
    /// The protocol.
    pub api: &'static str,
    /// The operation's name in the protocol, or `unknown`.
    pub operation: &'static str,
    /// The request's method.
    pub method: &'a Method,
    /// The request's path as sent; never the query, which may hold a signature.
    pub path: &'a str,
    /// The answer's status.
    pub status: StatusCode,
    /// The protocol's name of the failure.
    pub code: Option<&'a str>,
    /// Who asked, once that was verified.
    pub principal: Option<&'a str>,
    /// From the request's arrival to its answer's head.
    pub took: Duration,
}

/// The protocol's name of a failure, carried beside an answer and never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(pub &'static str);

/// Bytes of a path in a line, for whoever is known; keys of objects fit, percent-encoded or nearly so.
const PATH_MAX: usize = 2048;
/// Bytes of a path in a line, for anybody: a flood of nonsense does not fill the disk.
const PATH_OF_NOBODY_MAX: usize = 256;

impl Access<'_> {
    fn level(&self) -> Level {
        let by_design = [StatusCode::NOT_IMPLEMENTED, StatusCode::SERVICE_UNAVAILABLE];
        if self.status.is_server_error() && !by_design.contains(&self.status) {
            Level::WARN
        } else if self.status.is_client_error() || self.status.is_server_error() {
            Level::INFO
        } else {
            Level::DEBUG
        }
    }

    fn shown_path(&self) -> &str {
        let most = match self.principal {
            Some(_) => PATH_MAX,
            None => PATH_OF_NOBODY_MAX,
        };
        &self.path[..self.path.floor_char_boundary(most)]
    }

    /// Writes the line.
    pub fn log(&self) {
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: "floeberg::access",
                    $level,
                    request_id = self.request_id,
                    api = self.api,
                    operation = self.operation,
                    method = %self.method,
                    path = self.shown_path(),
                    status = self.status.as_u16(),
                    code = self.code.unwrap_or("-"),
                    principal = self.principal.unwrap_or("-"),
                    micros = u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX),
                    "answered"
                )
            };
        }
        // The level of an event is fixed where it stands.
        match self.level() {
            Level::WARN => line!(Level::WARN),
            Level::INFO => line!(Level::INFO),
            _ => line!(Level::DEBUG),
        }
    }
}

/// What a request's own log lines stand in, so that they can be found by its id.
#[must_use]
pub fn request_span(request_id: &str) -> Span {
    tracing::error_span!(target: "floeberg::request", "request", request_id)
}
