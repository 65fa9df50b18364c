//! Use cases over a running group in memory.
#![allow(
    clippy::too_many_lines,
    reason = "a rule and everything it forbids reads best whole"
)]

mod buckets;
mod commits;
mod golden;
mod janitor;
mod lab;
mod locations;
mod namespaces;
mod recovery;
mod tables;
