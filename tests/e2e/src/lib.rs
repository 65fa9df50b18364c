//! Tests against the real binary: starting and killing it, driving it with concurrent clients, and
//! checking what it kept against what it answered.
//!
//! The checks ([`chain`], [`blobs`], [`names`]) are pure and have tests of their own, in which
//! planted faults must be found.

pub mod blobs;
pub mod chain;
pub mod connect;
pub mod content;
pub mod fleet;
pub mod history;
pub mod hostile;
pub mod kept;
pub mod kill_cycles;
pub mod lake;
pub mod largest;
pub mod log_lines;
pub mod names;
pub mod outcome;
pub mod process;
pub mod proxy;
pub mod sandbox;
mod seat;
pub mod standing;
pub mod table;
pub mod verify;
pub mod workload;
pub mod world;
