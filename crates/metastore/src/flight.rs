//! A proposal on its way: who proposed it waits here, and its speculative rows end here.

use crate::speculation::{Fate, Proposal};
use crate::store::Inner;
use bytes::Bytes;
use floeberg_consensus::{Pending, ProposeError, Term};
use floeberg_state::Outcome;
use std::sync::Arc;

/// What became of a submitted command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Landing {
    /// Applied at this log index.
    Applied {
        /// Index of the command.
        index: u64,
    },
    /// In the log without effect: a row had changed.
    Missed {
        /// The row.
        key: Bytes,
    },
    /// Never in the log.
    NotProposed,
    /// Unknown.
    Indefinite,
}

/// What ends when the outcome is known.
pub(crate) struct Wake {
    pub(crate) store: Arc<Inner>,
    pub(crate) term: Term,
    pub(crate) proposal: Arc<Proposal>,
}

impl Wake {
    /// Ends the speculation on the proposal's rows, then tells those who had read them.
    fn land(&self, result: Result<Bytes, ProposeError>) -> Landing {
        let landing = match result {
            Ok(response) => match Outcome::decode(response) {
                Ok((Outcome::Applied, Some(index))) => Landing::Applied { index },
                Ok((Outcome::Missed { key }, _)) => Landing::Missed { key },
                Ok((Outcome::Applied, None)) | Err(_) => Landing::Indefinite,
            },
            Err(ProposeError::NotProposed) => Landing::NotProposed,
            Err(ProposeError::Indefinite) => Landing::Indefinite,
        };
        let mut speculation = self.store.speculation.lock();
        match &landing {
            Landing::Applied { .. } => speculation.applied(&self.proposal),
            Landing::Missed { .. } | Landing::NotProposed => speculation.lost(&self.proposal),
            // The rows may still be applied; they count until a later term settles them.
            Landing::Indefinite => speculation.stall(self.term),
        }
        drop(speculation);
        self.proposal.settle(match &landing {
            Landing::Applied { .. } => Fate::Applied,
            _ => Fate::Lost,
        });
        landing
    }
}

/// A submitted command. Dropping it leaves the waiting to a task of its own, because others may
/// have built on its rows.
pub(crate) struct Flight(Option<(Pending, Wake)>);

impl Flight {
    pub(crate) fn new(pending: Pending, wake: Wake) -> Self {
        Self(Some((pending, wake)))
    }

    /// Waits for the outcome.
    ///
    /// # Cancel safety
    /// The speculative rows are removed in due time even if this is never polled again.
    pub(crate) async fn landing(mut self) -> Landing {
        let Some((pending, _)) = self.0.as_mut() else {
            return Landing::Indefinite;
        };
        let result = pending.await;
        match self.0.take() {
            Some((_, wake)) => wake.land(result),
            None => Landing::Indefinite,
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let Some((pending, wake)) = self.0.take() else {
            return;
        };
        // Without a runtime the process is ending, and the speculation with it.
        if tokio::runtime::Handle::try_current().is_ok() {
            let tasks = wake.store.tasks().clone();
            tasks.spawn(
                "abandoned-proposal",
                async move { wake.land(pending.await) },
            );
        }
    }
}
