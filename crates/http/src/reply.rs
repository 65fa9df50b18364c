//! Building blocks of answers.

use crate::{Answer, ErrorCode};
use axum::body::Body;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde::Serialize;

/// `application/json`.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer without a body.
#[must_use]
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}

/// An answer whose body is JSON text that already exists.
#[must_use]
pub fn json_bytes(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Body::from(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

/// An answer whose body is `value` as JSON.
#[must_use]
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Answer {
    let body =
        serde_json::to_vec(value).expect("answers have text keys and no failing serializers");
    json_bytes(status, body)
}

/// Adds a header; a value that cannot stand in a header is left out.
#[must_use]
pub fn with_header(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// Notes the protocol's name of a failure for the access log.
#[must_use]
pub fn with_code(mut answer: Answer, code: &'static str) -> Answer {
    answer.extensions_mut().insert(ErrorCode(code));
    answer
}

/// Tells the client to try again in a second. Iceberg clients repeat a POST after 503 only then.
#[must_use]
pub fn with_retry_after(mut answer: Answer) -> Answer {
    let second = HeaderValue::from_static("1");
    answer.headers_mut().insert(RETRY_AFTER, second);
    answer
}
