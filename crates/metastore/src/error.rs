//! How opening a store, reading and transacting fail.

use crate::rows::VIEW_LASTS;
use bytes::Bytes;
use floeberg_consensus::{CommandTooLarge, GroupStartError, NoLeader};
use floeberg_kv::KvError;
use floeberg_state::{AppliedRowError, RowFormatError};
use floeberg_types::{GroupId, limits};

/// A row could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The key-value store failed.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// The rows of one moment were read for too long.
    #[error("these rows were read for more than {} s: read them in several goes", VIEW_LASTS.as_secs())]
    Expired,
    /// The row's header is damaged or from a newer version.
    #[error("row {key:?}: {source}")]
    Format {
        /// The row.
        key: Bytes,
        /// What is wrong.
        source: RowFormatError,
    },
    /// The row's payload is not the message its key promises.
    #[error("row {key:?} is damaged: {source}")]
    Payload {
        /// The row.
        key: Bytes,
        /// What the decoder found.
        source: prost::DecodeError,
    },
}

/// No leader can serve here at the moment and nothing was proposed: trying again is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no leader is available for this request")]
pub struct Unavailable;

/// Changes that wait for the log have taken all room there is for them, and nothing was proposed: trying
/// again in a moment is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the changes that wait for the log on this node have reached its limit of {} bytes; nothing was \
     changed: send the request again in a moment",
    limits::GROUP_COMMANDS_HELD_BYTES
)]
pub struct Crowded;

impl From<NoLeader> for Unavailable {
    fn from(_: NoLeader) -> Self {
        Self
    }
}

/// Why a transaction has no committed result. `E` is the use case's own refusal.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransactError<E> {
    /// The use case refused, definitely: everything it saw is committed, and nothing that was
    /// acknowledged before the request arrived was missed.
    #[error("{0}")]
    Refused(E),
    /// Nothing of this transaction is or will be applied; there is no leader to serve it.
    #[error("no leader is available for this request")]
    Unavailable,
    /// Nothing of this transaction is or will be applied; other changes have taken all room.
    #[error(transparent)]
    Crowded(Crowded),
    /// The transaction may or may not be applied, now or later.
    #[error("the outcome of the commit is unknown")]
    Indefinite,
    /// What the use case decided does not fit into one entry of the log. Nothing of it is or will be
    /// applied.
    #[error(transparent)]
    TooLarge(CommandTooLarge),
    /// The state could not be read.
    #[error("the state could not be read: {0}")]
    Storage(StoreError),
}

impl<E> TransactError<E> {
    /// The same failure with the refusal turned into another type.
    pub fn map_refused<F>(self, turn: impl FnOnce(E) -> F) -> TransactError<F> {
        match self {
            Self::Refused(refusal) => TransactError::Refused(turn(refusal)),
            Self::Unavailable => TransactError::Unavailable,
            Self::Crowded(error) => TransactError::Crowded(error),
            Self::Indefinite => TransactError::Indefinite,
            Self::TooLarge(error) => TransactError::TooLarge(error),
            Self::Storage(error) => TransactError::Storage(error),
        }
    }
}

impl<E> From<Unavailable> for TransactError<E> {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl<E> From<Crowded> for TransactError<E> {
    fn from(error: Crowded) -> Self {
        Self::Crowded(error)
    }
}

impl<E> From<CommandTooLarge> for TransactError<E> {
    fn from(error: CommandTooLarge) -> Self {
        Self::TooLarge(error)
    }
}

/// Why a command that was decided here was not taken over by the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotForwarded {
    /// No leader could be asked in time.
    Unavailable,
    /// The leader has had no room for it for too long.
    Crowded,
    /// The leader takes only smaller ones.
    TooLarge(CommandTooLarge),
}

impl From<Unavailable> for NotForwarded {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl<E> From<NotForwarded> for TransactError<E> {
    fn from(error: NotForwarded) -> Self {
        match error {
            NotForwarded::Unavailable => Self::Unavailable,
            NotForwarded::Crowded => Self::Crowded(Crowded),
            NotForwarded::TooLarge(error) => Self::TooLarge(error),
        }
    }
}

/// A feature level that this version does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this version does not know feature level {level}: upgrade every node first")]
pub struct FeatureLevelUnknown {
    /// The level asked for.
    pub level: u32,
}

/// Why a group's store did not open. None of these heals by trying again.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What the state has reached is unreadable or another group's.
    #[error("the state of group {group} cannot be taken over")]
    State {
        /// The group.
        group: GroupId,
        /// Why.
        #[source]
        source: AppliedRowError,
    },
    /// Consensus did not start; also where state and log do not belong together.
    #[error(transparent)]
    Consensus(#[from] GroupStartError),
}
