//! Outcomes of operations as status codes and exception names: one exhaustive match per operation.

use floeberg_auth::Denied;
use floeberg_catalog::{
    CommitError, CreateNamespaceError, CreateTableError, DropNamespaceError, DropTableError,
    GetTableBucketError, GetTableError, KeyUsed, ListNamespacesError, ListTablesError,
    ListingRefused, LoadNamespaceError, LoadTableError, NoSuchBucket, NoSuchNamespace, NoSuchTable,
    Outage, RegisterTableError, RenameTableError, TableExists, UpdateNamespaceError,
};
use floeberg_http::{Answer, NoRoom, Refusal, RefusalNames, json, with_code, with_retry_after};
use floeberg_iceberg::UpdateError;
use floeberg_types::{NameError, RequestId};
use http::StatusCode;
use serde::Serialize;
use std::borrow::Cow;
use std::fmt::Display;

const REFUSALS: RefusalNames = RefusalNames {
    no_such_route: "NotFoundException",
    wrong_method: "MethodNotAllowedException",
    not_authenticated: "NotAuthorizedException",
    bad_request: "BadRequestException",
    no_room: "InsufficientStorageException",
    busy: "ServiceUnavailableException",
    internal: "InternalServerError",
};

/// An answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    status: StatusCode,
    kind: Cow<'static, str>,
    message: String,
    is_decided: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    error: Model<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Model<'a> {
    message: &'a str,
    r#type: &'a str,
    code: u16,
    request_id: String,
}

impl Failure {
    fn new(status: StatusCode, kind: &'static str, message: impl Display) -> Self {
        Self {
            status,
            kind: Cow::Borrowed(kind),
            message: message.to_string(),
            is_decided: false,
        }
    }

    /// What the catalog found when it looked at its rows.
    fn decided(status: StatusCode, kind: &'static str, message: impl Display) -> Self {
        Self {
            is_decided: true,
            ..Self::new(status, kind, message)
        }
    }

    /// The change is made, and there is no memory for an answer with what it has made.
    pub(crate) fn unanswered() -> Self {
        let message = "the change was made, but the server had no room for its answer in time: load the \
                       table to see it";
        let status = StatusCode::GATEWAY_TIMEOUT;
        Self::new(status, "CommitStateUnknownException", message)
    }

    /// The request itself cannot be understood.
    pub(crate) fn bad_request(message: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequestException", message)
    }

    fn invalid(message: impl Display) -> Self {
        Self::decided(StatusCode::BAD_REQUEST, "BadRequestException", message)
    }

    pub(crate) fn no_such_warehouse(name: &str) -> Self {
        let message = format!("warehouse `{name}` does not exist");
        Self::new(StatusCode::NOT_FOUND, "NoSuchWarehouseException", message)
    }

    fn not_found(kind: &'static str, message: impl Display) -> Self {
        Self::decided(StatusCode::NOT_FOUND, kind, message)
    }

    fn conflict(kind: &'static str, message: impl Display) -> Self {
        Self::decided(StatusCode::CONFLICT, kind, message)
    }

    fn unprocessable(message: impl Display) -> Self {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self::decided(status, "UnprocessableEntityException", message)
    }

    /// The answer to a request that was refused before.
    fn again(refusal: floeberg_catalog::Refusal) -> Self {
        match StatusCode::from_u16(refusal.code) {
            Ok(status) => Self {
                status,
                kind: Cow::Owned(refusal.kind),
                message: refusal.message,
                is_decided: false,
            },
            Err(_) => Outage::storage(format!("a refusal with code {}", refusal.code)).into(),
        }
    }

    /// Whether the catalog decided so, which makes it the answer of the request's idempotency key:
    /// not for malformed requests, missing rights, outages and what a key was answered before.
    pub(crate) fn is_decided(&self) -> bool {
        self.is_decided
    }

    pub(crate) fn code(&self) -> u16 {
        self.status.as_u16()
    }

    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn answer(&self, request_id: RequestId) -> Answer {
        let error = Model {
            message: &self.message,
            r#type: &self.kind,
            code: self.status.as_u16(),
            request_id: request_id.to_uuid_string(),
        };
        let kind = match self.kind {
            Cow::Borrowed(kind) => kind,
            Cow::Owned(_) => "RefusedBefore",
        };
        let answer = with_code(json(self.status, &Body { error }), kind);
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => with_retry_after(answer),
            _ => answer,
        }
    }
}

impl Failure {
    /// There is no room to put an answer on record.
    pub(crate) fn no_room(full: NoRoom) -> Self {
        Self::from(&Refusal::NoRoom(full))
    }
}

impl From<&Refusal> for Failure {
    fn from(refusal: &Refusal) -> Self {
        Self::new(refusal.status(), refusal.name(&REFUSALS), refusal)
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        Self::new(StatusCode::FORBIDDEN, "ForbiddenException", denied)
    }
}

impl From<NameError> for Failure {
    fn from(error: NameError) -> Self {
        Self::bad_request(error)
    }
}

impl From<Outage> for Failure {
    fn from(outage: Outage) -> Self {
        match &outage {
            // Nothing was proposed, so repeating the request is safe.
            Outage::Unavailable
            | Outage::Crowded(_)
            | Outage::TooManyDocuments(_)
            | Outage::Exhausted(_) => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Self::new(status, "ServiceUnavailableException", outage)
            }
            // Clients must neither clean up nor repeat blindly.
            Outage::Indefinite => {
                let status = StatusCode::GATEWAY_TIMEOUT;
                Self::new(status, "CommitStateUnknownException", outage)
            }
            Outage::TooLarge(_) => {
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                Self::new(status, "CommandTooLargeException", outage)
            }
            Outage::Storage(source) => {
                tracing::error!(error = %source, "a request failed on stored rows");
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                let message = "stored data could not be read or written; the server's log has \
                               details under this request id";
                Self::new(status, "InternalServerError", message)
            }
            Outage::KeyUsed(used) => match &**used {
                KeyUsed::Refused(refusal) => Self::again(refusal.clone()),
                KeyUsed::OtherRequest => Self {
                    is_decided: false,
                    ..Self::unprocessable(used)
                },
            },
        }
    }
}

impl From<NoSuchBucket> for Failure {
    fn from(error: NoSuchBucket) -> Self {
        Self {
            is_decided: true,
            ..Self::no_such_warehouse(error.bucket.as_str())
        }
    }
}

impl From<NoSuchNamespace> for Failure {
    fn from(error: NoSuchNamespace) -> Self {
        Self::not_found("NoSuchNamespaceException", error)
    }
}

impl From<NoSuchTable> for Failure {
    fn from(error: NoSuchTable) -> Self {
        Self::not_found("NoSuchTableException", error)
    }
}

impl From<TableExists> for Failure {
    fn from(error: TableExists) -> Self {
        Self::conflict("AlreadyExistsException", error)
    }
}

impl From<ListingRefused> for Failure {
    fn from(error: ListingRefused) -> Self {
        Self::invalid(error)
    }
}

impl From<UpdateError> for Failure {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Stale(stale) => Self::conflict("CommitFailedException", stale),
            UpdateError::Invalid(invalid) => Self::invalid(invalid),
        }
    }
}

impl From<GetTableBucketError> for Failure {
    fn from(error: GetTableBucketError) -> Self {
        match error {
            GetTableBucketError::NoSuchBucket(e) => e.into(),
            GetTableBucketError::Outage(e) => e.into(),
        }
    }
}

impl From<CreateNamespaceError> for Failure {
    fn from(error: CreateNamespaceError) -> Self {
        match error {
            CreateNamespaceError::NoSuchBucket(e) => e.into(),
            CreateNamespaceError::NoSuchNamespace(e) => e.into(),
            CreateNamespaceError::Exists(e) => Self::conflict("AlreadyExistsException", e),
            CreateNamespaceError::Limit(e) => Self::invalid(e),
            CreateNamespaceError::Outage(e) => e.into(),
        }
    }
}

impl From<LoadNamespaceError> for Failure {
    fn from(error: LoadNamespaceError) -> Self {
        match error {
            LoadNamespaceError::NoSuchBucket(e) => e.into(),
            LoadNamespaceError::NoSuchNamespace(e) => e.into(),
            LoadNamespaceError::Outage(e) => e.into(),
        }
    }
}

impl From<ListNamespacesError> for Failure {
    fn from(error: ListNamespacesError) -> Self {
        match error {
            ListNamespacesError::NoSuchBucket(e) => e.into(),
            ListNamespacesError::NoSuchNamespace(e) => e.into(),
            ListNamespacesError::Listing(e) => e.into(),
            ListNamespacesError::Outage(e) => e.into(),
        }
    }
}

impl From<DropNamespaceError> for Failure {
    fn from(error: DropNamespaceError) -> Self {
        match error {
            DropNamespaceError::NoSuchBucket(e) => e.into(),
            DropNamespaceError::NoSuchNamespace(e) => e.into(),
            DropNamespaceError::NotEmpty(e) => Self::conflict("NamespaceNotEmptyException", e),
            DropNamespaceError::Outage(e) => e.into(),
        }
    }
}

impl From<UpdateNamespaceError> for Failure {
    fn from(error: UpdateNamespaceError) -> Self {
        match error {
            UpdateNamespaceError::NoSuchBucket(e) => e.into(),
            UpdateNamespaceError::NoSuchNamespace(e) => e.into(),
            UpdateNamespaceError::Conflict(e) => Self::unprocessable(e),
            UpdateNamespaceError::Limit(e) => Self::invalid(e),
            UpdateNamespaceError::Outage(e) => e.into(),
        }
    }
}

impl From<CreateTableError> for Failure {
    fn from(error: CreateTableError) -> Self {
        match error {
            CreateTableError::NoSuchBucket(e) => e.into(),
            CreateTableError::NoSuchNamespace(e) => e.into(),
            CreateTableError::Exists(e) => e.into(),
            CreateTableError::InvalidLocation(e) => Self::invalid(e),
            CreateTableError::InvalidProperty(e) => Self::invalid(e),
            CreateTableError::Invalid(e) => e.into(),
            CreateTableError::Outage(e) => e.into(),
        }
    }
}

impl From<LoadTableError> for Failure {
    fn from(error: LoadTableError) -> Self {
        match error {
            LoadTableError::NoSuchBucket(e) => e.into(),
            LoadTableError::NoSuchTable(e) => e.into(),
            LoadTableError::NoMetadata(e) => Self::invalid(e),
            LoadTableError::Outage(e) => e.into(),
        }
    }
}

impl From<GetTableError> for Failure {
    fn from(error: GetTableError) -> Self {
        match error {
            GetTableError::NoSuchBucket(e) => e.into(),
            GetTableError::NoSuchTable(e) => e.into(),
            GetTableError::Outage(e) => e.into(),
        }
    }
}

impl From<ListTablesError> for Failure {
    fn from(error: ListTablesError) -> Self {
        match error {
            ListTablesError::NoSuchBucket(e) => e.into(),
            ListTablesError::NoSuchNamespace(e) => e.into(),
            ListTablesError::Listing(e) => e.into(),
            ListTablesError::Outage(e) => e.into(),
        }
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::NoSuchBucket(e) => e.into(),
            CommitError::NoSuchNamespace(e) => e.into(),
            CommitError::NoSuchTable(e) => e.into(),
            CommitError::Exists(e) => e.into(),
            CommitError::NoMetadata(e) => Self::invalid(e),
            CommitError::RequirementFailed(e) => Self::conflict("CommitFailedException", e),
            CommitError::Update(e) => e.into(),
            CommitError::InvalidLocation(e) => Self::invalid(e),
            CommitError::InvalidProperty(e) => Self::invalid(e),
            CommitError::DuplicateTable(e) => Self::invalid(e),
            CommitError::InvalidCreate(e) => Self::invalid(e),
            CommitError::Outage(e) => e.into(),
        }
    }
}

impl From<DropTableError> for Failure {
    fn from(error: DropTableError) -> Self {
        match error {
            DropTableError::NoSuchBucket(e) => e.into(),
            DropTableError::NoSuchTable(e) => e.into(),
            DropTableError::StaleVersionToken(e) => Self::conflict("CommitFailedException", e),
            DropTableError::Outage(e) => e.into(),
        }
    }
}

impl From<RenameTableError> for Failure {
    fn from(error: RenameTableError) -> Self {
        match error {
            RenameTableError::NoSuchBucket(e) => e.into(),
            RenameTableError::NoSuchTable(e) => e.into(),
            RenameTableError::NoSuchNamespace(e) => e.into(),
            RenameTableError::Exists(e) => Self::conflict("AlreadyExistsException", e),
            RenameTableError::StaleVersionToken(e) => Self::conflict("CommitFailedException", e),
            RenameTableError::Outage(e) => e.into(),
        }
    }
}

impl From<RegisterTableError> for Failure {
    fn from(error: RegisterTableError) -> Self {
        match error {
            RegisterTableError::NoSuchBucket(e) => e.into(),
            RegisterTableError::NoSuchNamespace(e) => e.into(),
            RegisterTableError::Exists(e) => e.into(),
            RegisterTableError::InvalidLocation(e) => Self::invalid(e),
            RegisterTableError::InvalidProperty(e) => Self::invalid(e),
            // Not a 404: clients would take it for a missing namespace.
            RegisterTableError::NoSuchMetadataFile(e) => Self::invalid(e),
            RegisterTableError::InvalidMetadata(e) => Self::invalid(e),
            RegisterTableError::Outage(e) => e.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use floeberg_env::Exhausted;
    use floeberg_iceberg::RequirementFailed;
    use floeberg_metastore::Crowded;
    use floeberg_types::BucketName;

    fn outcome(failure: impl Into<Failure>) -> (u16, Cow<'static, str>) {
        let failure = failure.into();
        (failure.code(), failure.kind)
    }

    #[test]
    fn only_what_was_never_applied_is_a_conflict() {
        let unavailable = || Outage::Unavailable;
        let indefinite = || Outage::Indefinite;
        let commit = |outage| outcome(CommitError::Outage(outage));
        let named = |code: u16, kind: &'static str| (code, Cow::Borrowed(kind));
        assert_eq!(
            commit(unavailable()),
            named(503, "ServiceUnavailableException")
        );
        assert_eq!(
            commit(indefinite()),
            named(504, "CommitStateUnknownException")
        );
        assert_eq!(
            commit(Outage::storage("disk")),
            named(500, "InternalServerError")
        );
        let lost = CommitError::RequirementFailed(RequirementFailed::TableMissing);
        assert_eq!(outcome(lost), named(409, "CommitFailedException"));
    }

    #[test]
    fn what_no_entry_of_the_log_takes_says_how_much_that_is() {
        let (bytes, limit) = (9_000_000, 8_388_608);
        let large = floeberg_catalog::CommandTooLarge { bytes, limit };
        let failure = Failure::from(CommitError::Outage(Outage::TooLarge(large)));
        assert_eq!(failure.code(), 413);
        assert_eq!(failure.kind(), "CommandTooLargeException");
        assert!(
            failure.message().contains("8388608"),
            "{}",
            failure.message()
        );
        // Prepared differently, the same commit may fit.
        assert!(!failure.is_decided());
    }

    #[test]
    fn only_what_the_catalog_found_is_the_answer_of_a_key() {
        let is_decided = |failure: Failure| failure.is_decided();
        let lost = CommitError::RequirementFailed(RequirementFailed::TableMissing);
        assert!(is_decided(lost.into()));
        let bucket = BucketName::for_tables("lake").unwrap();
        assert!(is_decided(NoSuchBucket { bucket }.into()));
        assert!(!is_decided(Failure::no_such_warehouse("lake")));
        assert!(!is_decided(Failure::bad_request("malformed")));
        let outages = [
            Outage::Unavailable,
            Outage::Indefinite,
            Outage::storage("disk"),
            Outage::KeyUsed(Box::new(KeyUsed::OtherRequest)),
        ];
        for outage in outages {
            assert!(!is_decided(outage.into()));
        }
    }

    #[test]
    fn a_retry_is_asked_for_only_before_anything_was_proposed() {
        let id = RequestId::from_bytes([1; 16]);
        let retry = |outage: Outage| {
            let answer = Failure::from(outage).answer(id);
            answer.headers().contains_key("retry-after")
        };
        assert!(retry(Outage::Unavailable));
        assert!(retry(Outage::Crowded(Crowded)));
        assert!(retry(Outage::Exhausted(Exhausted { total: 1 })));
        assert!(!retry(Outage::Indefinite));
        assert!(!retry(Outage::storage("disk")));
    }
}
