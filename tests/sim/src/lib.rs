//! Deterministic simulation: the real node on in-memory stores, under simulated time.
//!
//! One seed decides everything: the clients' operations, how long a sync takes, when the node is
//! cut off and what becomes of its unsynced writes. Everything above the stores is the product's
//! code: HTTP routers, signatures, catalog, objects, transactions, Raft, volumes.
//!
//! Verified: acknowledged commits and objects survive every crash, refused ones never appear, a
//! transaction over several tables appears whole or not at all, a table's history is one line of
//! parents without gaps, rendered metadata files never change, and state replayed from the log equals
//! the state that was lost.
//! Not verified here: RocksDB and real disks (the kill cycles do that), more than one node.

mod client;
mod clock;
mod door;
mod oracle;
mod run;
mod trace;
mod world;

pub use run::{Plan, Report, simulate};
