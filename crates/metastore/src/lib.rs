//! Typed transactions over the replicated state of a group.
//!
//! A use case decides in a closure over a [`Txn`]: it reads rows and writes rows. The engine runs
//! the closure against the *speculative* state (applied rows and the rows of proposals in flight),
//! proposes what it wrote as one command that lists everything it read, and evaluates again if
//! apply finds that something had changed. So commits of one row are pipelined, a lost update is
//! impossible, and use cases never see the consensus below.

mod config;
mod cx;
mod error;
mod flight;
mod flush;
mod machine;
mod rows;
mod speculation;
mod store;
#[cfg(test)]
mod testing;
mod txn;

pub use config::{FlushPolicy, StoreConfig, StoreParts};
pub use cx::Cx;
pub use error::{OpenError, StoreError, TransactError, Unavailable};
pub use floeberg_state::{
    Applied, Digest, Event, RawRow, RowMessage, UsageDelta, UsageKey, UsageRow, keys,
};
pub use rows::{Key, ReadView, Row, Rows};
pub use store::{Committed, Store};
pub use txn::{RangeState, Txn};
