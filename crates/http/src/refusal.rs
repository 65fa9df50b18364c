//! What the shell itself refuses, before an operation runs or when one breaks.

use crate::{Exhausted, NoRoom, PathError, QueryError, Stalled};
use floeberg_auth::BearerError;
use floeberg_auth::sigv4::SignatureError;
use http::StatusCode;

/// Why the shell answered instead of the operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The path is ambiguous.
    #[error(transparent)]
    Path(PathError),
    /// The query cannot be decoded.
    #[error(transparent)]
    Query(QueryError),
    /// Nothing is served at this path.
    #[error("no operation at {method} {path}")]
    NoSuchRoute {
        /// The method.
        method: String,
        /// The path as sent.
        path: String,
    },
    /// The path is served, but not with this method.
    #[error("method {method} is not allowed here; allowed: {allowed}")]
    WrongMethod {
        /// The method.
        method: String,
        /// The value of the `Allow` header.
        allowed: &'static str,
    },
    /// The body exceeds the limit.
    #[error(
        "the request body is larger than the {limit} bytes that this operation takes; send less at a time"
    )]
    BodyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body has more values than anything needs.
    #[error(
        "the request body has more than {limit} values, counted by its commas; send less at a time"
    )]
    TooManyValues {
        /// The limit.
        limit: usize,
    },
    /// The body ended early.
    #[error("the request body could not be read completely")]
    BodyIncomplete,
    /// The body stopped coming.
    #[error("{0}; send the request again")]
    BodyStalled(Stalled),
    /// Others' bodies fill the memory for bodies.
    #[error(transparent)]
    Busy(Exhausted),
    /// The body is compressed.
    #[error("content encoding `{encoding}` is not supported; send the body as it is")]
    ContentEncoding {
        /// What the client declared.
        encoding: String,
    },
    /// Neither a signature nor a token.
    #[error("the request is not authenticated: sign it (SigV4) or send a bearer token")]
    NoCredentials,
    /// The signature was refused.
    #[error(transparent)]
    Signature(SignatureError),
    /// The token was refused.
    #[error(transparent)]
    Bearer(BearerError),
    /// The disk is too full for a change.
    #[error(transparent)]
    NoRoom(NoRoom),
    /// The operation panicked; the log line with the request id says where.
    #[error("internal error; the server's log has details under this request id")]
    Panic,
}

impl Refusal {
    /// The status code, the same in every protocol.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Path(_) | Self::Query(_) | Self::BodyIncomplete => StatusCode::BAD_REQUEST,
            Self::NoSuchRoute { .. } => StatusCode::NOT_FOUND,
            Self::WrongMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge { .. } | Self::TooManyValues { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyStalled(_) => StatusCode::REQUEST_TIMEOUT,
            Self::ContentEncoding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NoCredentials | Self::Bearer(_) => StatusCode::UNAUTHORIZED,
            Self::Signature(_) => StatusCode::FORBIDDEN,
            Self::NoRoom(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Panic => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The name of this refusal among those of a protocol.
    #[must_use]
    pub const fn name(&self, names: &RefusalNames) -> &'static str {
        match self {
            Self::NoSuchRoute { .. } => names.no_such_route,
            Self::WrongMethod { .. } => names.wrong_method,
            Self::NoCredentials | Self::Bearer(_) | Self::Signature(_) => names.not_authenticated,
            Self::NoRoom(_) => names.no_room,
            Self::Busy(_) => names.busy,
            Self::Panic => names.internal,
            Self::Path(_)
            | Self::Query(_)
            | Self::BodyTooLarge { .. }
            | Self::TooManyValues { .. }
            | Self::BodyIncomplete
            | Self::BodyStalled(_)
            | Self::ContentEncoding { .. } => names.bad_request,
        }
    }
}

/// What a protocol calls the shell's refusals in the bodies of its answers.
#[derive(Clone, Copy, Debug)]
pub struct RefusalNames {
    /// Nothing is served at the path.
    pub no_such_route: &'static str,
    /// Other methods are served there.
    pub wrong_method: &'static str,
    /// No credentials, or such as do not verify.
    pub not_authenticated: &'static str,
    /// The request itself is at fault.
    pub bad_request: &'static str,
    /// The disk is too full for a change.
    pub no_room: &'static str,
    /// The server has too much to do.
    pub busy: &'static str,
    /// The server is at fault.
    pub internal: &'static str,
}
