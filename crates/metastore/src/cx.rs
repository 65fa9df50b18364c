//! What a use case carries from its request into a transaction.

use floeberg_types::{AccountId, RequestId};
use std::sync::Arc;
use tokio::time::Instant;

/// Who asks, and how long the answer may take.
#[derive(Debug, Clone)]
pub struct Cx {
    /// The request, for the command and its event.
    pub request_id: RequestId,
    /// The account that pays.
    pub account: AccountId,
    /// Who is authenticated.
    pub principal: Arc<str>,
    /// When the caller stops waiting; a generous default applies without one.
    pub deadline: Option<Instant>,
}
