//! What a client may conclude from an answer, or from none.

use floeberg_client::ClientError;
use serde::Serialize;

/// The three things that can be known about a request that changes something.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome<T> {
    /// Acknowledged: it must be there from now on.
    Done(#[serde(skip)] T),
    /// Refused: it must never be there.
    Refused {
        /// The status.
        status: u16,
        /// The protocol's name of the error.
        code: String,
    },
    /// No answer, or one that leaves the outcome open.
    Unknown {
        /// Why.
        cause: String,
    },
}

impl<T> Outcome<T> {
    /// Reads a result. 4xx is a refusal; so is 503, which the server may send only if it did
    /// nothing. Any other failure leaves the outcome open.
    pub fn of(result: Result<T, ClientError>) -> Self {
        match result {
            Ok(value) => Self::Done(value),
            Err(ClientError::Service(error))
                if error.status.is_client_error() || error.status.as_u16() == 503 =>
            {
                Self::Refused {
                    status: error.status.as_u16(),
                    code: error.code,
                }
            }
            Err(error) => Self::Unknown {
                cause: error.to_string(),
            },
        }
    }

    /// The same without the value.
    #[must_use]
    pub fn forget(&self) -> Outcome<()> {
        match self {
            Self::Done(_) => Outcome::Done(()),
            Self::Refused { status, code } => Outcome::Refused {
                status: *status,
                code: code.clone(),
            },
            Self::Unknown { cause } => Outcome::Unknown {
                cause: cause.clone(),
            },
        }
    }
}

/// Whether an error is an answer of the server that a healthy node does not give.
#[must_use]
pub fn is_server_fault(error: &ClientError) -> bool {
    error
        .status()
        .is_some_and(|status| status.is_server_error() && status.as_u16() != 503)
}
