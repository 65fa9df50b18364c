//! Black-box consistency tests: clusters of real `floeberg` processes in network namespaces, under
//! kill, pause and partition, with clients that know what they were answered.
//!
//! [`check`] is pure: it reads a [`history`] and finds every promise that was broken; its own tests
//! plant faults that must be found. [`launch`] is the only place that knows how a node is
//! configured and started. `jepsen/README.md` describes the format of histories.

pub mod check;
pub mod connect;
pub mod history;
pub mod lab;
pub mod launch;
pub mod nemesis;
pub mod record;
pub mod report;
pub mod run;
pub mod sandbox;
pub mod verify;
pub mod workload;
