//! Typed transactions over the replicated state of a group.
//!
//! A use case decides in a closure over a [`Txn`]: it reads rows and writes rows. On the leader the
//! engine runs the closure against the *speculative* state (applied rows and the rows of proposals
//! in flight), proposes what it wrote as one command that lists everything it read, and evaluates
//! again if apply finds that something had changed. So commits of one row are pipelined, a lost
//! update is impossible, and use cases never see the consensus below.
//!
//! On any other node (a *front*) the closure runs against applied rows. Its command goes to the
//! leader, which compares what was read with its speculative state and orders the command like its
//! own; the front learns the outcome from its own log.

mod admission;
mod config;
mod cx;
mod error;
mod flight;
mod flush;
mod freshness;
mod front;
mod inner;
mod machine;
mod moment;
mod outcomes;
mod rows;
mod serve;
mod speculation;
mod store;
#[cfg(test)]
mod testing;
mod turns;
mod txn;
mod wire;

pub use config::{FlushPolicy, StoreConfig, StoreParts};
pub use cx::{Cx, Idempotency};
pub use error::{Crowded, FeatureLevelUnknown, OpenError, StoreError, TransactError, Unavailable};
pub use floeberg_consensus::CommandTooLarge;
pub use floeberg_state::{
    Applied, Comparison, Digest, Event, MARK_EVERY, Mark, RawRow, RowMessage, UsageDelta, UsageKey,
    UsageRow, compare_marks, keys,
};
pub use rows::{Key, PageLimit, ReadView, Row, RowPage, Rows, VIEW_LASTS};
pub use serve::ProposalService;
pub use store::{Committed, Store};
pub use txn::{RangeState, Txn};
