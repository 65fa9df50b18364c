//! Transactions of the object group, with failures sorted into refusals and outages.

use crate::errors::Outage;
use crate::service::Objects;
use floeberg_metastore::{Cx, ReadView, StoreError, TransactError, Txn};
use floeberg_state::keys::MalformedKey;

/// Why a decision stopped: the request is refused, or a row could not be read.
#[derive(Debug)]
pub(crate) enum Stop<E> {
    Refused(E),
    Outage(Outage),
}

impl<E> From<StoreError> for Stop<E> {
    fn from(error: StoreError) -> Self {
        Self::Outage(error.into())
    }
}

impl<E> From<MalformedKey> for Stop<E> {
    fn from(error: MalformedKey) -> Self {
        Self::Outage(error.into())
    }
}

/// Why a transaction did not commit.
#[derive(Debug)]
pub(crate) enum CommitFailure<E> {
    /// Definite: nothing was written and nothing will be.
    Refused(E),
    Outage(Outage),
}

impl<E> CommitFailure<E> {
    /// Whether the command may still be applied later.
    pub(crate) fn may_still_apply(&self) -> bool {
        match self {
            Self::Refused(_)
            | Self::Outage(
                Outage::Unavailable | Outage::Crowded(_) | Outage::TooLarge(_) | Outage::DiskFull,
            ) => false,
            Self::Outage(Outage::Indefinite | Outage::Storage(_)) => true,
        }
    }

    /// The operation's error.
    pub(crate) fn into_error<T: From<E> + From<Outage>>(self) -> T {
        match self {
            Self::Refused(refused) => refused.into(),
            Self::Outage(outage) => outage.into(),
        }
    }
}

impl Objects {
    /// Evaluates `decide` and commits its writes.
    pub(crate) async fn commit<T: Send, E: Send>(
        &self,
        cx: &Cx,
        decide: impl FnMut(&mut Txn<'_>) -> Result<T, Stop<E>> + Send,
    ) -> Result<T, CommitFailure<E>> {
        match self.store.transact(cx, decide).await {
            Ok(committed) => Ok(committed.value),
            Err(TransactError::Refused(Stop::Refused(refused))) => {
                Err(CommitFailure::Refused(refused))
            }
            Err(TransactError::Refused(Stop::Outage(outage))) => Err(CommitFailure::Outage(outage)),
            Err(TransactError::Storage(error)) => Err(CommitFailure::Outage(error.into())),
            Err(TransactError::Unavailable) => Err(CommitFailure::Outage(Outage::Unavailable)),
            Err(TransactError::Crowded(crowded)) => {
                Err(CommitFailure::Outage(Outage::Crowded(crowded)))
            }
            Err(TransactError::TooLarge(large)) => {
                Err(CommitFailure::Outage(Outage::TooLarge(large)))
            }
            Err(TransactError::Indefinite) => Err(CommitFailure::Outage(Outage::Indefinite)),
        }
    }

    /// Rows of one moment that include every write acknowledged before the call.
    pub(crate) async fn view(&self) -> Result<ReadView, Outage> {
        let view = self.store.view().await;
        view.map_err(|_| Outage::Unavailable)
    }

    /// Does a bounded piece of work over many rows apart from what must not wait.
    pub(crate) async fn step<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Outage> + Send + 'static,
    ) -> Result<T, Outage> {
        let done = self.store.step(work).await;
        done.map_err(|_| Outage::Unavailable)?
    }

    /// The same for listings and for what looks after rows: it stands behind all else.
    pub(crate) async fn step_behind<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Outage> + Send + 'static,
    ) -> Result<T, Outage> {
        let done = self.store.step_behind(work).await;
        done.map_err(|_| Outage::Unavailable)?
    }
}
