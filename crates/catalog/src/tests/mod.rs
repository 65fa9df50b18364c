//! Use cases over a running group in memory.
#![allow(
    clippy::too_many_lines,
    reason = "a rule and everything it forbids reads best whole"
)]

mod buckets;
mod cluster;
mod commits;
mod drafts;
mod golden;
mod idempotency;
mod janitor;
mod lab;
mod large;
mod limits;
mod listings;
mod locations;
mod namespaces;
mod overtaken;
mod pieces;
mod recovery;
mod room;
mod tables;
