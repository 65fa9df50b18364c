//! What a call can end with, and reading the error bodies of the three protocols.

use crate::xml;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered with an error; whether it did something depends on the status.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The request did not get through or its answer got lost: its outcome is unknown.
    #[error("request to {authority} failed: {cause}")]
    Transport {
        /// Host and port.
        authority: String,
        /// What the connection reported.
        cause: String,
    },
    /// No secure connection: nothing was sent.
    #[error("no secure connection to {authority}: {cause}")]
    Tls {
        /// Host and port.
        authority: String,
        /// What is wrong with the certificate or the handshake.
        cause: String,
    },
    /// The file of authorities to trust cannot be used: nothing was sent.
    #[error("the authorities in `{file}` cannot be used: {reason}")]
    Trust {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// No answer in time: the outcome is unknown.
    #[error("no answer from {authority} within {seconds} s")]
    Timeout {
        /// Host and port.
        authority: String,
        /// The limit.
        seconds: u64,
    },
    /// The address is not one this client can use.
    #[error("`{uri}` is not an http:// or https:// address with a host")]
    Address {
        /// What was given.
        uri: String,
    },
    /// A header value that HTTP does not allow.
    #[error("header {name} has a value that HTTP does not allow")]
    Header {
        /// The header.
        name: String,
    },
    /// The answer is not what the protocol says.
    #[error("unreadable answer to {operation}: {cause}")]
    Answer {
        /// The call.
        operation: &'static str,
        /// What is wrong with it.
        cause: String,
    },
}

impl ClientError {
    /// The HTTP status, if the server answered.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Service(error) => Some(error.status),
            _ => None,
        }
    }

    /// Whether the same call may succeed later, without anybody doing something about it.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Timeout { .. } => true,
            Self::Service(error) => {
                error.status.is_server_error() || error.status == StatusCode::TOO_MANY_REQUESTS
            }
            _ => false,
        }
    }
}

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status} {code}: {message} (request {request_id})")]
pub struct ServiceError {
    /// HTTP status.
    pub status: StatusCode,
    /// The protocol's name of the error, for example `CommitFailedException`; may be empty.
    pub code: String,
    /// Text for people; may be empty.
    pub message: String,
    /// The server's id of the request; may be empty.
    pub request_id: String,
    /// Seconds after which to try again, if the server said so.
    pub retry_after: Option<u64>,
}

#[derive(Deserialize)]
struct IcebergBody {
    error: IcebergError,
}

#[derive(Deserialize)]
struct IcebergError {
    #[serde(default)]
    message: String,
    #[serde(rename = "type", default)]
    kind: String,
}

#[derive(Deserialize)]
struct AwsBody {
    #[serde(rename = "__type", default)]
    kind: String,
    #[serde(alias = "Message", default)]
    message: String,
}

impl ServiceError {
    /// Reads an error answer in any of the three protocols' forms.
    #[must_use]
    pub fn parse(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Self {
        let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let request_id = ["x-amz-request-id", "x-amzn-requestid", "x-request-id"]
            .into_iter()
            .find_map(header)
            .unwrap_or_default();
        let (code, message) = parse_body(body);
        // The AWS JSON protocol puts the name into a header, with a suffix behind a colon.
        let named = header("x-amzn-errortype").map(|t| t.split(':').next().unwrap_or(t));
        Self {
            status,
            code: named.map_or(code, str::to_owned),
            message,
            request_id: request_id.to_owned(),
            retry_after: header("retry-after").and_then(|v| v.parse().ok()),
        }
    }
}

fn parse_body(body: &Bytes) -> (String, String) {
    if let Ok(IcebergBody { error }) = serde_json::from_slice(body) {
        return (error.kind, error.message);
    }
    if let Ok(AwsBody { kind, message }) = serde_json::from_slice(body) {
        let name = kind.rsplit('#').next().unwrap_or_default();
        return (name.to_owned(), message);
    }
    let text = String::from_utf8_lossy(body);
    match (xml::text(&text, "Code"), xml::text(&text, "Message")) {
        (Some(code), message) => (code, message.unwrap_or_default()),
        // Proxies answer in plain text; the beginning says what is wrong.
        (None, _) => (String::new(), text.chars().take(300).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_bodies_of_all_protocols_are_understood() {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", "r1".parse().unwrap());
        headers.insert("retry-after", "2".parse().unwrap());
        let iceberg = r#"{"error":{"message":"m","type":"NoSuchTableException","code":404}}"#;
        let aws = r#"{"message":"m","__type":"com.amazonaws#NotFoundException"}"#;
        let s3 = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>a &amp; b</Message></Error>";
        for (body, code, message) in [
            (iceberg, "NoSuchTableException", "m"),
            (aws, "NotFoundException", "m"),
            (s3, "NoSuchKey", "a & b"),
            ("bad gateway", "", "bad gateway"),
        ] {
            let error = ServiceError::parse(StatusCode::NOT_FOUND, &headers, &body.into());
            assert_eq!(
                (error.code.as_str(), error.message.as_str()),
                (code, message)
            );
            assert_eq!(
                (error.request_id.as_str(), error.retry_after),
                ("r1", Some(2))
            );
        }
        headers.insert("x-amzn-errortype", "ConflictException:x".parse().unwrap());
        let error = ServiceError::parse(StatusCode::CONFLICT, &headers, &aws.into());
        assert_eq!(error.code, "ConflictException");
    }
}
