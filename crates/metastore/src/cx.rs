//! What a use case carries from its request into a transaction.

use floeberg_env::{Attendance, Env, Peer};
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
    /// Whether the caller still waits.
    pub attendance: Attendance,
    /// The connection that asks: whose share counts what is held for the request.
    pub caller: Peer,
    /// By what the request is known when it comes again. Use cases that change the state do so once
    /// for each; without one, a request that comes again is another request.
    pub idempotency: Option<Idempotency>,
}

impl Cx {
    /// Whether nobody waits for the answer any more: a long decision asks between its steps.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let is_late = |deadline| Instant::now() >= deadline;
        self.attendance.is_over() || self.deadline.is_some_and(is_late)
    }

    /// For a command that no client asked for: the cluster's own, booked on `account`.
    #[must_use]
    pub fn own(account: AccountId, env: &Env) -> Self {
        Self {
            request_id: RequestId::from_bytes(env.rng.id128()),
            account,
            principal: "floeberg".into(),
            deadline: None,
            attendance: Attendance::default(),
            caller: Peer::INSIDE,
            idempotency: None,
        }
    }
}

/// A request's idempotency key, made comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idempotency {
    /// The key within its scope: equal for requests that carry one key and may share an answer.
    pub id: [u8; 32],
    /// Everything else that makes two requests the same one.
    pub fingerprint: [u8; 32],
}
