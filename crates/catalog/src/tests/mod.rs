//! Use cases over a running group in memory.

mod buckets;
mod commits;
mod golden;
mod janitor;
mod lab;
mod namespaces;
mod recovery;
mod tables;
