//! Transactions over a running group.
