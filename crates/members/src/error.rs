//! Why a change of the membership did not happen, in words that say what to do.

use crate::plan::Refused;
use crate::ports::{GroupsError, TokenRefused};
use floeberg_metastore::{CommandTooLarge, Crowded, StoreError, TransactError, Unavailable};
use floeberg_types::NodeId;

/// A member's row is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the row of member {node} is damaged: {detail}")]
pub struct DamagedMember {
    /// Whose row.
    pub node: NodeId,
    /// What is wrong with it.
    pub detail: &'static str,
}

/// Why a change of the membership did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// The rules forbid it; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The token does not let anybody in; nothing changed.
    #[error(transparent)]
    Token(#[from] TokenRefused),
    /// The certificate request cannot be signed; nothing changed.
    #[error("the certificate request cannot be signed: {0}")]
    Uncertifiable(String),
    /// No majority can be reached; nothing changed, trying again is safe.
    #[error("no majority of the cluster can be reached; nothing was changed, try again")]
    Unavailable,
    /// Other changes have taken all room; nothing changed.
    #[error(transparent)]
    Crowded(Crowded),
    /// Nobody can say whether it happened.
    #[error("the outcome is unknown: look at `floeberg cluster status` before trying again")]
    Indefinite,
    /// Consensus refused or could not be asked.
    #[error(transparent)]
    Groups(#[from] GroupsError),
    /// What is to be written does not fit into one entry of the log; nothing changed.
    #[error(transparent)]
    TooLarge(CommandTooLarge),
    /// The state could not be read.
    #[error("the state could not be read: {0}")]
    Storage(StoreError),
    /// A row is damaged.
    #[error(transparent)]
    Damaged(#[from] DamagedMember),
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        Self::Storage(error)
    }
}

impl From<Unavailable> for ChangeError {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl From<TransactError<Self>> for ChangeError {
    fn from(error: TransactError<Self>) -> Self {
        match error {
            TransactError::Refused(refused) => refused,
            TransactError::Unavailable => Self::Unavailable,
            TransactError::Crowded(crowded) => Self::Crowded(crowded),
            TransactError::Indefinite => Self::Indefinite,
            TransactError::TooLarge(large) => Self::TooLarge(large),
            TransactError::Storage(error) => Self::Storage(error),
        }
    }
}
