//! What a protocol brings to the shell.

use crate::{Peer, Query, Refusal, Room};
use axum::body::Body;
use bytes::Bytes;
use floeberg_auth::{Effect, Principal};
use floeberg_env::Attendance;
use floeberg_types::limits::{MEDIUM_BODY_BYTES, SMALL_BODY_BYTES};
use floeberg_types::{RequestId, TimestampMs};
use http::{HeaderMap, Method, Response};
use std::future::Future;
use std::time::Duration;

/// A finished answer.
pub type Answer = Response<Body>;

/// How large the body of an operation may be. Chosen for each one, because a body is held in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodySize {
    /// No byte is read, whatever the client sends.
    Nothing,
    /// A form, or next to nothing beside path and query.
    Small,
    /// Properties or a report.
    Medium,
    /// Table metadata: as much as the node takes at all.
    Large,
}

impl BodySize {
    /// The largest body in bytes, where the node takes `most`.
    #[must_use]
    pub fn bytes(self, most: usize) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Small => SMALL_BODY_BYTES.min(most),
            Self::Medium => MEDIUM_BODY_BYTES.min(most),
            Self::Large => most,
        }
    }
}

/// An operation that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route<Operation> {
    /// What is to be done.
    pub operation: Operation,
    /// Its name in metrics and logs.
    pub name: &'static str,
    /// How much body it takes.
    pub body: BodySize,
    /// What it does to the room on the disk.
    pub effect: Effect,
}

/// Who may ask for an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routed<Public, Protected> {
    /// Answered without credentials.
    Public(Route<Public>),
    /// Answered to a verified principal only.
    Protected(Route<Protected>),
}

/// Why a method and path name no operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRouted {
    /// Nothing is served at the path.
    Unknown,
    /// Other methods are served; the text is the `Allow` header.
    Method(&'static str),
}

/// One request, its body complete.
#[derive(Clone, Debug)]
pub struct Call {
    /// Id of the request, also in the answer's headers.
    pub request_id: RequestId,
    /// When it arrived.
    pub arrived: TimestampMs,
    /// When its client will have given up.
    pub deadline: tokio::time::Instant,
    /// Whether it still waits.
    pub attendance: Attendance,
    /// The connection it came on.
    pub peer: Peer,
    /// The decoded query.
    pub query: Query,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Whether the disk takes changes.
    pub room: Room,
}

impl Call {
    /// How long its client still waits.
    #[must_use]
    pub fn left(&self) -> Duration {
        let now = tokio::time::Instant::now();
        self.deadline.saturating_duration_since(now)
    }

    /// The value of a header, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A protocol on the catalog port.
pub trait Api: Send + Sync + 'static {
    /// Operations that need no credentials.
    type Public: Send;
    /// Operations that need a principal.
    type Protected: Send;

    /// The protocol's name in metrics.
    const NAME: &'static str;
    /// The headers that carry the request id, in lower case.
    const REQUEST_ID_HEADERS: &'static [&'static str];

    /// Finds the operation that a method and decoded path segments name.
    ///
    /// # Errors
    /// When there is none, or only under other methods.
    fn route(
        &self,
        method: &Method,
        segments: &[&str],
    ) -> Result<Routed<Self::Public, Self::Protected>, NotRouted>;

    /// Answers an operation that needs no credentials.
    fn answer_public(
        &self,
        operation: Self::Public,
        call: Call,
    ) -> impl Future<Output = Answer> + Send;

    /// Answers an operation for a verified principal.
    fn answer(
        &self,
        operation: Self::Protected,
        call: Call,
        principal: Principal,
    ) -> impl Future<Output = Answer> + Send;

    /// Words a refusal of the shell in the protocol's form.
    fn refuse(&self, refusal: &Refusal, request_id: RequestId) -> Answer;
}
