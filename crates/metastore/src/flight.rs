//! A proposal on its way: who proposed it waits here, and its speculative rows end here.

use crate::inner::Inner;
use crate::outcomes::{Settled, Ticket};
use crate::speculation::{Fate, Proposal};
use bytes::Bytes;
use floeberg_consensus::{Pending, Permit, ProposeError};
use floeberg_state::Outcome;
use floeberg_types::CommitId;
use std::sync::Arc;

/// Where a command in flight was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// On the leader itself.
    Here,
    /// On another node, which learns the outcome from its own log.
    Elsewhere(CommitId),
}

/// What ends when the outcome is known.
pub(crate) struct Wake {
    pub(crate) store: Arc<Inner>,
    pub(crate) proposal: Arc<Proposal>,
    pub(crate) origin: Origin,
    /// The speculative rows count as well.
    pub(crate) _permit: Arc<Permit>,
}

impl Wake {
    /// Ends the speculation on the proposal's rows, then tells those who had read them.
    fn land(&self, settled: Settled) -> Settled {
        let mut speculation = self.store.speculation.lock();
        match &settled {
            Settled::Applied { index } => speculation.applied(&self.proposal, *index),
            Settled::Missed { .. } | Settled::Absent | Settled::Unknown => {
                speculation.lost(&self.proposal);
            }
        }
        if let Origin::Elsewhere(id) = self.origin {
            speculation.admissions.settle(id);
        }
        drop(speculation);
        self.proposal.settle(match &settled {
            Settled::Applied { .. } => Fate::Applied,
            _ => Fate::Lost,
        });
        settled
    }
}

/// How the outcome comes to be known.
struct Awaited {
    /// The log's own answer, while it is still to come.
    pending: Option<Pending>,
    /// What is applied here, which also tells where the log cannot: after a change of leaders.
    ticket: Ticket,
}

impl Awaited {
    /// Waits for the outcome. May be dropped and called again.
    async fn settled(&mut self) -> Settled {
        if let Some(pending) = self.pending.as_mut() {
            let answer = pending.await;
            self.pending = None;
            if let Some(settled) = conclude(answer) {
                return settled;
            }
        }
        self.ticket.settled().await
    }
}

/// What the log's answer says for certain.
fn conclude(answer: Result<Bytes, ProposeError>) -> Option<Settled> {
    match answer {
        Ok(response) => match Outcome::decode(response) {
            Ok((Outcome::Applied, Some(index))) => Some(Settled::Applied { index }),
            Ok((Outcome::Missed { key }, _)) => Some(Settled::Missed { key }),
            Ok((Outcome::Applied, None)) | Err(_) => None,
        },
        Err(ProposeError::NotProposed) => Some(Settled::Absent),
        Err(ProposeError::Indefinite) => None,
    }
}

/// A submitted command. Dropping it leaves the waiting to a task of its own, because others may
/// have built on its rows.
pub(crate) struct Flight(Option<(Awaited, Wake)>);

impl Flight {
    pub(crate) fn new(pending: Pending, ticket: Ticket, wake: Wake) -> Self {
        let awaited = Awaited {
            pending: Some(pending),
            ticket,
        };
        Self(Some((awaited, wake)))
    }

    /// Waits for the outcome.
    ///
    /// # Cancel safety
    /// The speculative rows are removed in due time even if this is never polled again.
    pub(crate) async fn landing(mut self) -> Settled {
        let Some((awaited, _)) = self.0.as_mut() else {
            return Settled::Unknown;
        };
        let settled = awaited.settled().await;
        match self.0.take() {
            Some((_, wake)) => wake.land(settled),
            None => Settled::Unknown,
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let Some((mut awaited, wake)) = self.0.take() else {
            return;
        };
        // Without a runtime the process is ending, and the speculation with it.
        if tokio::runtime::Handle::try_current().is_ok() {
            let tasks = wake.store.tasks().clone();
            tasks.spawn("proposal-in-flight", async move {
                wake.land(awaited.settled().await)
            });
        }
    }
}
