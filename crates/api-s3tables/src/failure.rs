//! Outcomes of operations as status codes and exception names: one exhaustive match per operation.

use floeberg_auth::Denied;
use floeberg_catalog::{
    CreateBucketError, CreateNamespaceError, CreateTableError, DeleteBucketError,
    DropNamespaceError, DropTableError, GetTableBucketError, GetTableError, ListBucketsError,
    ListNamespacesError, ListTablesError, LoadNamespaceError, Outage, RenameTableError,
    UpdateMetadataLocationError,
};
use floeberg_http::{
    Answer, Refusal, RefusalNames, json, with_code, with_header, with_retry_after,
};
use floeberg_types::RequestId;
use http::{HeaderName, StatusCode};
use serde::Serialize;
use std::fmt::Display;

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

const REFUSALS: RefusalNames = RefusalNames {
    no_such_route: "NotFoundException",
    wrong_method: "MethodNotAllowedException",
    not_authenticated: "AccessDeniedException",
    bad_request: "BadRequestException",
    no_room: "InsufficientStorageException",
    busy: "ServiceUnavailableException",
    internal: "InternalServerErrorException",
};

/// An answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    message: &'a str,
    request_id: String,
}

impl Failure {
    fn new(status: StatusCode, kind: &'static str, message: impl Display) -> Self {
        Self {
            status,
            kind,
            message: message.to_string(),
        }
    }

    pub(crate) fn bad_request(message: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequestException", message)
    }

    pub(crate) fn not_found(message: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFoundException", message)
    }

    pub(crate) fn unsupported(operation: &str) -> Self {
        let message = format!("{operation} is not supported yet");
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplementedException",
            message,
        )
    }

    fn conflict(message: impl Display) -> Self {
        Self::new(StatusCode::CONFLICT, "ConflictException", message)
    }

    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn answer(&self, request_id: RequestId) -> Answer {
        let request_id = request_id.to_uuid_string();
        let answer = json(
            self.status,
            &Body {
                message: &self.message,
                request_id,
            },
        );
        let answer = with_code(with_header(answer, ERROR_TYPE, self.kind), self.kind);
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => with_retry_after(answer),
            _ => answer,
        }
    }
}

impl From<&Refusal> for Failure {
    fn from(refusal: &Refusal) -> Self {
        Self::new(refusal.status(), refusal.name(&REFUSALS), refusal)
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDeniedException", denied)
    }
}

impl From<Outage> for Failure {
    fn from(outage: Outage) -> Self {
        match &outage {
            Outage::Unavailable
            | Outage::Crowded(_)
            | Outage::TooManyDocuments(_)
            | Outage::Exhausted(_) => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Self::new(status, "ServiceUnavailableException", outage)
            }
            Outage::Indefinite => {
                let status = StatusCode::GATEWAY_TIMEOUT;
                Self::new(status, "InternalServerErrorException", outage)
            }
            Outage::TooLarge(_) => Self::bad_request(outage),
            // No operation of this protocol carries an idempotency key.
            Outage::KeyUsed(_) | Outage::Storage(_) => {
                tracing::error!(error = %outage, "a request failed on stored rows");
                let message = "stored data could not be read or written; the server's log has \
                               details under this request id";
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Self::new(status, "InternalServerErrorException", message)
            }
        }
    }
}

impl From<CreateBucketError> for Failure {
    fn from(error: CreateBucketError) -> Self {
        match error {
            CreateBucketError::InvalidName(e) => Self::bad_request(e),
            CreateBucketError::Exists(e) => Self::conflict(e),
            CreateBucketError::Outage(e) => e.into(),
        }
    }
}

impl From<GetTableBucketError> for Failure {
    fn from(error: GetTableBucketError) -> Self {
        match error {
            GetTableBucketError::NoSuchBucket(e) => Self::not_found(e),
            GetTableBucketError::Outage(e) => e.into(),
        }
    }
}

impl From<ListBucketsError> for Failure {
    fn from(error: ListBucketsError) -> Self {
        match error {
            ListBucketsError::Listing(e) => Self::bad_request(e),
            ListBucketsError::Outage(e) => e.into(),
        }
    }
}

impl From<DeleteBucketError> for Failure {
    fn from(error: DeleteBucketError) -> Self {
        match error {
            DeleteBucketError::NoSuchBucket(e) => Self::not_found(e),
            DeleteBucketError::NotEmpty(e) => Self::conflict(e),
            DeleteBucketError::Outage(e) => e.into(),
        }
    }
}

impl From<CreateNamespaceError> for Failure {
    fn from(error: CreateNamespaceError) -> Self {
        match error {
            CreateNamespaceError::NoSuchBucket(e) => Self::not_found(e),
            CreateNamespaceError::NoSuchNamespace(e) => Self::not_found(e),
            CreateNamespaceError::Exists(e) => Self::conflict(e),
            CreateNamespaceError::Limit(e) => Self::bad_request(e),
            CreateNamespaceError::Outage(e) => e.into(),
        }
    }
}

impl From<LoadNamespaceError> for Failure {
    fn from(error: LoadNamespaceError) -> Self {
        match error {
            LoadNamespaceError::NoSuchBucket(e) => Self::not_found(e),
            LoadNamespaceError::NoSuchNamespace(e) => Self::not_found(e),
            LoadNamespaceError::Outage(e) => e.into(),
        }
    }
}

impl From<ListNamespacesError> for Failure {
    fn from(error: ListNamespacesError) -> Self {
        match error {
            ListNamespacesError::NoSuchBucket(e) => Self::not_found(e),
            ListNamespacesError::NoSuchNamespace(e) => Self::not_found(e),
            ListNamespacesError::Listing(e) => Self::bad_request(e),
            ListNamespacesError::Outage(e) => e.into(),
        }
    }
}

impl From<DropNamespaceError> for Failure {
    fn from(error: DropNamespaceError) -> Self {
        match error {
            DropNamespaceError::NoSuchBucket(e) => Self::not_found(e),
            DropNamespaceError::NoSuchNamespace(e) => Self::not_found(e),
            DropNamespaceError::NotEmpty(e) => Self::conflict(e),
            DropNamespaceError::Outage(e) => e.into(),
        }
    }
}

impl From<CreateTableError> for Failure {
    fn from(error: CreateTableError) -> Self {
        match error {
            CreateTableError::NoSuchBucket(e) => Self::not_found(e),
            CreateTableError::NoSuchNamespace(e) => Self::not_found(e),
            CreateTableError::Exists(e) => Self::conflict(e),
            CreateTableError::InvalidLocation(e) => Self::bad_request(e),
            CreateTableError::InvalidProperty(e) => Self::bad_request(e),
            CreateTableError::Invalid(e) => Self::bad_request(e),
            CreateTableError::Outage(e) => e.into(),
        }
    }
}

impl From<GetTableError> for Failure {
    fn from(error: GetTableError) -> Self {
        match error {
            GetTableError::NoSuchBucket(e) => Self::not_found(e),
            GetTableError::NoSuchTable(e) => Self::not_found(e),
            GetTableError::Outage(e) => e.into(),
        }
    }
}

impl From<ListTablesError> for Failure {
    fn from(error: ListTablesError) -> Self {
        match error {
            ListTablesError::NoSuchBucket(e) => Self::not_found(e),
            ListTablesError::NoSuchNamespace(e) => Self::not_found(e),
            ListTablesError::Listing(e) => Self::bad_request(e),
            ListTablesError::Outage(e) => e.into(),
        }
    }
}

impl From<DropTableError> for Failure {
    fn from(error: DropTableError) -> Self {
        match error {
            DropTableError::NoSuchBucket(e) => Self::not_found(e),
            DropTableError::NoSuchTable(e) => Self::not_found(e),
            DropTableError::StaleVersionToken(e) => Self::conflict(e),
            DropTableError::Outage(e) => e.into(),
        }
    }
}

impl From<RenameTableError> for Failure {
    fn from(error: RenameTableError) -> Self {
        match error {
            RenameTableError::NoSuchBucket(e) => Self::not_found(e),
            RenameTableError::NoSuchTable(e) => Self::not_found(e),
            RenameTableError::NoSuchNamespace(e) => Self::not_found(e),
            RenameTableError::Exists(e) => Self::conflict(e),
            RenameTableError::StaleVersionToken(e) => Self::conflict(e),
            RenameTableError::Outage(e) => e.into(),
        }
    }
}

impl From<UpdateMetadataLocationError> for Failure {
    fn from(error: UpdateMetadataLocationError) -> Self {
        match error {
            UpdateMetadataLocationError::NoSuchBucket(e) => Self::not_found(e),
            UpdateMetadataLocationError::NoSuchTable(e) => Self::not_found(e),
            UpdateMetadataLocationError::StaleVersionToken(e) => Self::conflict(e),
            UpdateMetadataLocationError::InvalidLocation(e) => Self::bad_request(e),
            UpdateMetadataLocationError::InvalidProperty(e) => Self::bad_request(e),
            UpdateMetadataLocationError::NoSuchMetadataFile(e) => Self::bad_request(e),
            UpdateMetadataLocationError::InvalidMetadata(e) => Self::bad_request(e),
            UpdateMetadataLocationError::Outage(e) => e.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use floeberg_env::Exhausted;
    use floeberg_metastore::Crowded;

    #[test]
    fn errors_carry_their_name_and_the_request_id() {
        let id = RequestId::from_bytes([1; 16]);
        let answer = Failure::unsupported("PutTablePolicy").answer(id);
        assert_eq!(answer.status(), StatusCode::NOT_IMPLEMENTED);
        assert_eq!(
            answer.headers()["x-amzn-errortype"],
            "NotImplementedException"
        );
        for busy in [
            Outage::Unavailable,
            Outage::Crowded(Crowded),
            Outage::Exhausted(Exhausted { total: 1 }),
        ] {
            let busy = Failure::from(busy).answer(id);
            assert_eq!(busy.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(busy.headers()["retry-after"], "1");
        }
        let open = Failure::from(Outage::Indefinite).answer(id);
        assert_eq!(open.status(), StatusCode::GATEWAY_TIMEOUT);
        assert!(!open.headers().contains_key("retry-after"));
    }
}
