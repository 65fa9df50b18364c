//! Why a signature was refused.

use floeberg_types::Region;
use floeberg_types::limits::{QUERY_FIELDS, SIGNED_HEADERS};

/// Why a signed request was refused. Texts are for the person who configures the client; none
/// tells an unknown access key id from a wrong secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is no `Authorization` header.
    #[error("the request carries no Authorization header")]
    Missing,
    /// The `Authorization` header cannot be parsed.
    #[error("the Authorization header is malformed")]
    Malformed,
    /// Another signing algorithm.
    #[error("only the signing algorithm AWS4-HMAC-SHA256 is supported")]
    Algorithm,
    /// The signature stands in the query.
    #[error("presigned URLs are not supported here")]
    Presigned,
    /// A header that must be unique came more than once.
    #[error("header {header} is given more than once")]
    Repeated {
        /// The header's name.
        header: &'static str,
    },
    /// A text of the credentials is longer than any that is given out.
    #[error("{what} is longer than the {limit} bytes that are accepted")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// The signature names more headers than any client needs.
    #[error(
        "more than {SIGNED_HEADERS} headers are signed; send fewer headers or sign fewer of them"
    )]
    TooManySigned,
    /// The signature names a header more than once.
    #[error("header {header} is named more than once among the signed headers")]
    SignedTwice {
        /// The header's name.
        header: String,
    },
    /// The query has more names and values than any operation takes.
    #[error("the query string has more than {QUERY_FIELDS} parameters: send fewer")]
    TooManyParameters,
    /// A header that must be covered by the signature is not.
    #[error("header {header} must be signed")]
    Unsigned {
        /// The header's name.
        header: String,
    },
    /// A signed header did not arrive.
    #[error("signed header {header} is missing from the request")]
    Absent {
        /// The header's name.
        header: String,
    },
    /// The scope names a service this endpoint does not speak for.
    #[error("service {service} in the credential scope is not accepted here")]
    Service {
        /// What the scope names.
        service: String,
    },
    /// The scope names another region.
    #[error("region {given} in the credential scope is wrong; expecting {wanted}")]
    Region {
        /// What the scope names.
        given: String,
        /// The cluster's region.
        wanted: Region,
    },
    /// `x-amz-date` is missing or malformed.
    #[error("x-amz-date is missing or malformed")]
    Date,
    /// The scope's date is not that of `x-amz-date`.
    #[error("the date in the credential scope does not match x-amz-date")]
    ScopeDate,
    /// The clocks differ too much.
    #[error("the difference between the request time and the server's time is too large")]
    Skew,
    /// The query has percent escapes that are not UTF-8.
    #[error("the query string cannot be decoded")]
    UndecodableQuery,
    /// The client wants the body left out of the signature.
    #[error("unsigned payloads are not supported here")]
    UnsignedPayload,
    /// The client wants to sign the body in chunks.
    #[error("streaming payloads are not supported here")]
    StreamingPayload,
    /// The body is not the one that `x-amz-content-sha256` declares.
    #[error("x-amz-content-sha256 does not match the body")]
    BodyHash,
    /// The access key id is unknown or the signature is wrong.
    #[error(
        "the access key id or the signature is not valid; check the keys, the signing name and the region"
    )]
    Mismatch,
    /// The session token does not belong to the access key id.
    #[error("the session token is not valid for this access key id")]
    SessionToken,
    /// The temporary credentials are void.
    #[error("the temporary credentials have expired")]
    ExpiredSession,
}
